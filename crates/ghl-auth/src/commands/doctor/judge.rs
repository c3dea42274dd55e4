//! Facts in, findings out: nothing in here looks at anything by itself. A page for each part of a set-up.

mod calls;
mod configuration;
mod files;
mod grant;
mod network;
mod notices;
mod ports;
mod schedule;
mod store;

pub(super) use calls::{Tagging, scopes_of_the_check, tag};
pub(super) use configuration::{SettingsFacts, is_placeholder, settings};
pub(super) use files::{FileFacts, FileKind, files};
pub(super) use grant::{Claims, GrantFacts, crowd, grant};
pub(super) use network::{Reached, clock, network};
pub(super) use notices::{NoticeFacts, notices};
pub(super) use ports::{Port, ports};
pub(super) use schedule::{EntryFacts, ScheduleFacts, cron, location_unnamed, others_in, schedule, words};
pub(super) use store::{KeyFacts, StoreFacts, key, store, tables};

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokens::Timestamp;

    use super::super::finding::{Area, Finding};
    use crate::text::{Lang, Text};

    pub(super) const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);
    pub(super) const HOUR: Duration = Duration::from_secs(3600);

    pub(super) fn codes(found: &[Finding]) -> Vec<&'static str> {
        found.iter().map(|it| it.code).collect()
    }

    /// Each code that stands in these pages or above them, from the sources.
    #[test]
    fn each_finding_has_its_words_in_both_languages_and_each_trouble_its_cure() {
        let sources = [
            include_str!("../doctor.rs"),
            include_str!("judge/calls.rs"),
            include_str!("judge/configuration.rs"),
            include_str!("judge/files.rs"),
            include_str!("judge/grant.rs"),
            include_str!("judge/network.rs"),
            include_str!("judge/notices.rs"),
            include_str!("judge/ports.rs"),
            include_str!("judge/schedule.rs"),
            include_str!("judge/store.rs"),
        ];
        let code = concat!(env!("CARGO_MANIFEST_DIR"), "/locales/en/ghl-auth.ftl");
        let english = std::fs::read_to_string(code).expect("the sentences");
        let names = english.lines().filter_map(|line| line.strip_prefix("doctor-")?.split_once(" ="));
        let arguments = [
            "names",
            "lines",
            "path",
            "mode",
            "owner",
            "me",
            "count",
            "place",
            "free",
            "why",
            "host",
            "status",
            "off",
            "left",
            "generation",
            "since",
            "age",
            "says",
            "class",
            "id",
            "app",
            "noted",
            "at",
            "scopes",
            "all",
            "troubled",
            "tag",
            "contact",
            "hours",
            "code",
            "said",
            "name",
            "address",
            "way",
            "ways",
            "list",
            "failures",
            "warnings",
        ]
        .map(|name| (name, crate::text::Arg::from("x")));
        let mut count = 0;
        for (code, _) in names.filter(|(name, _)| name.contains('_')) {
            let quoted = format!("\"{code}\"");
            assert!(sources.iter().any(|source| source.contains(&quoted)), "nobody says {code}");
            let is_good = sources.iter().any(|source| {
                source.split("Finding::good(").skip(1).any(|call| {
                    call.split(';')
                        .next()
                        .is_some_and(|call| call.chars().take(120).collect::<String>().contains(&quoted))
                })
            });
            for lang in [Lang::En, Lang::PtBr] {
                let text = Text::new(lang);
                assert!(text.find(&format!("doctor-{code}"), &arguments).is_some(), "{lang:?}: {code}");
                let cure = text.find(&format!("doctor-{code}.action"), &arguments);
                assert!(is_good || cure.is_some(), "{lang:?}: {code} has no cure");
            }
            count += 1;
        }
        assert!(count > 60, "the sentences were read: {count}");
        let text = Text::new(Lang::En);
        for area in Area::ALL {
            assert!(!area.named(&text).is_empty());
        }
    }
}
