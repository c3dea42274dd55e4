//! What an examination says: how bad it is, what it means, what cures it.

use serde_json::{Value, json};

use crate::exit::Exit;
use crate::explain::Explained;
use crate::output::Mark;
use crate::text::{Arg, Text};

/// What is examined, in the order in which one thing stands on another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Area {
    Configuration,
    Files,
    Key,
    Store,
    Network,
    Clock,
    Grant,
    Reading,
    Tag,
    Workflow,
    Schedule,
    Cron,
    Ports,
    Notices,
}

impl Area {
    pub(super) const ALL: [Self; 14] = [
        Self::Configuration,
        Self::Files,
        Self::Key,
        Self::Store,
        Self::Network,
        Self::Clock,
        Self::Grant,
        Self::Reading,
        Self::Tag,
        Self::Workflow,
        Self::Schedule,
        Self::Cron,
        Self::Ports,
        Self::Notices,
    ];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Files => "files",
            Self::Key => "key",
            Self::Store => "store",
            Self::Network => "network",
            Self::Clock => "clock",
            Self::Grant => "grant",
            Self::Reading => "reading",
            Self::Tag => "tag",
            Self::Workflow => "workflow",
            Self::Schedule => "schedule",
            Self::Cron => "cron",
            Self::Ports => "ports",
            Self::Notices => "notices",
        }
    }

    pub(super) fn named(self, text: &Text) -> String {
        text.say(&format!("doctor-area-{}", self.as_str()), &[])
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Good,
    /// It works, and something needs attention.
    Warning,
    /// It does not work, or will not the next time; and how the command ends for it.
    Failure,
}

impl Level {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Warning => "warning",
            Self::Failure => "failure",
        }
    }

    pub(super) fn mark(self) -> Mark {
        match self {
            Self::Good => Mark::Good,
            Self::Warning => Mark::Warning,
            Self::Failure => Mark::Error,
        }
    }
}

/// One thing that was found.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) area: Area,
    pub(super) level: Level,
    pub(super) code: &'static str,
    pub(super) exit: Exit,
    words: Words,
    link: Option<String>,
}

#[derive(Debug)]
enum Words {
    /// Of the sentence `doctor-CODE`, and of its cure.
    Own(Vec<(&'static str, String)>),
    /// An error as every command explains it.
    Explained { detail: String, action: String },
}

impl Finding {
    pub(super) fn good(area: Area, code: &'static str, said: Vec<(&'static str, String)>) -> Self {
        Self { area, level: Level::Good, code, exit: Exit::Good, words: Words::Own(said), link: None }
    }

    pub(super) fn warning(area: Area, code: &'static str, said: Vec<(&'static str, String)>) -> Self {
        Self { level: Level::Warning, ..Self::good(area, code, said) }
    }

    pub(super) fn failure(
        area: Area,
        code: &'static str,
        exit: Exit,
        said: Vec<(&'static str, String)>,
    ) -> Self {
        Self { level: Level::Failure, exit, ..Self::good(area, code, said) }
    }

    /// What another command would have ended with.
    pub(super) fn of_error(area: Area, level: Level, error: Explained) -> Self {
        let Explained { code, detail, action, authorize_url, exit } = error;
        let exit = if level == Level::Failure { exit } else { Exit::Good };
        Self { area, level, code, exit, words: Words::Explained { detail, action }, link: authorize_url }
    }

    pub(super) fn with_link(self, link: Option<String>) -> Self {
        Self { link: link.or(self.link), ..self }
    }

    /// The sentence, the cure where there is something to cure, and the link to follow for it.
    pub(super) fn in_words(&self, text: &Text) -> (String, Option<String>, Option<&str>) {
        let (detail, action) = match &self.words {
            Words::Explained { detail, action } => (detail.clone(), Some(action.clone())),
            Words::Own(said) => {
                let said: Vec<_> =
                    said.iter().map(|(name, value)| (*name, Arg::from(value.as_str()))).collect();
                let key = format!("doctor-{}", self.code);
                let action = (self.level > Level::Good).then(|| text.say(&format!("{key}.action"), &said));
                (text.say(&key, &said), action)
            }
        };
        (detail, action, self.link.as_deref())
    }

    pub(super) fn to_json(&self, text: &Text) -> Value {
        let (detail, action, link) = self.in_words(text);
        json!({
            "examination": self.area.as_str(),
            "level": self.level.as_str(),
            "code": self.code,
            "detail": detail,
            "action": action,
            "link": link,
        })
    }
}

/// How the command ends: by what has to be cured first. Settings come before what is done with them, a
/// person's word before what it allows, the way to HighLevel before what is asked there.
pub(super) fn exit(findings: &[Finding]) -> Exit {
    let failures = || findings.iter().filter(|it| it.level == Level::Failure);
    let order = [Exit::Usage, Exit::Person, Exit::Unreachable, Exit::Failed];
    order.into_iter().find(|exit| failures().any(|it| it.exit == *exit)).unwrap_or(Exit::Good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_to_be_cured_first_says_how_the_command_ends() {
        let check = |exits: &[Exit], expected: Exit| {
            let failure = |exit: &Exit| Finding::failure(Area::Store, "disk_full", *exit, vec![]);
            let mut found: Vec<Finding> = exits.iter().map(failure).collect();
            found.push(Finding::warning(Area::Clock, "clock_off", vec![]));
            found.push(Finding::good(Area::Clock, "clock_good", vec![]));
            assert_eq!(exit(&found), expected, "{exits:?}");
        };
        check(&[], Exit::Good);
        check(&[Exit::Failed], Exit::Failed);
        check(&[Exit::Failed, Exit::Unreachable], Exit::Unreachable);
        check(&[Exit::Unreachable, Exit::Person], Exit::Person);
        check(&[Exit::Person, Exit::Usage, Exit::Failed], Exit::Usage);
    }
}
