//! Whether somebody is told.

use super::super::finding::{Area, Finding};
use crate::exit::Exit;

/// How people are told, and whether the ways lead somewhere.
#[derive(Clone, Debug, Default)]
pub(crate) struct NoticeFacts {
    pub(crate) ways: Vec<(&'static str, Result<(), String>)>,
    /// Whether a contact gets a tag, whose workflow tells someone.
    pub(crate) tags: bool,
    /// Whether something was sent, or only a connection was tried.
    pub(crate) sent: bool,
}

pub(crate) fn notices(facts: &NoticeFacts) -> Vec<Finding> {
    let area = Area::Notices;
    let mut found = Vec::new();
    for (way, outcome) in &facts.ways {
        if let Err(why) = outcome {
            let said = vec![("way", (*way).to_owned()), ("why", why.clone())];
            found.push(Finding::failure(area, "notice_lost", Exit::Failed, said));
        }
    }
    if found.is_empty() {
        let ways = facts.ways.iter().map(|(way, _)| *way).collect::<Vec<_>>().join(", ");
        found.push(match (facts.ways.is_empty(), facts.tags, facts.sent) {
            (true, true, _) => Finding::good(area, "notices_by_tag", vec![]),
            (true, false, _) => Finding::warning(area, "notices_none", vec![]),
            (false, _, true) => Finding::good(area, "notices_sent", vec![("ways", ways)]),
            (false, _, false) => Finding::good(area, "notices_reached", vec![("ways", ways)]),
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::tests::codes;
    use super::*;

    #[test]
    fn somebody_is_told_or_nobody() {
        let check = |ways: &[(&'static str, Result<(), &str>)], tags, sent, expected: &[&str]| {
            let ways = ways.iter().map(|(way, outcome)| (*way, outcome.map_err(str::to_owned))).collect();
            assert_eq!(codes(&notices(&NoticeFacts { ways, tags, sent })), expected);
        };
        check(&[], true, false, &["notices_by_tag"]);
        check(&[], false, false, &["notices_none"]);
        check(&[("slack", Ok(()))], false, false, &["notices_reached"]);
        check(&[("slack", Ok(()))], true, true, &["notices_sent"]);
        check(&[("slack", Err("x")), ("email", Ok(()))], true, false, &["notice_lost"]);
    }
}
