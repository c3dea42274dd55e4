//! What a check's outcome means for an installation.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::installation::InstallationId;

/// How well the path from us to HighLevel and back works for an installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Token, scopes, location and contact were proven by real calls.
    Operational,
    /// It works, and something needs attention before it stops working.
    Degraded,
    /// A call that ought to work did not.
    Down,
    /// HighLevel says the location is not active.
    Suspended,
    /// Only a person can bring it back, by authorising again.
    NeedsPerson,
}

impl Health {
    /// Every health there is.
    pub const ALL: [Health; 5] =
        [Self::Operational, Self::Degraded, Self::Down, Self::Suspended, Self::NeedsPerson];

    /// The word for it at rest and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Operational => "operational",
            Self::Degraded => "degraded",
            Self::Down => "down",
            Self::Suspended => "suspended",
            Self::NeedsPerson => "needs_person",
        }
    }

    /// The inverse of `as_str`.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|health| health.as_str() == word)
    }
}

/// What the last check of an installation found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastCheck {
    /// When it ended.
    pub at: Timestamp,
    /// What it found.
    pub health: Health,
    /// The code of what was wrong, from the list in the documentation; none when all was well.
    pub code: Option<String>,
    /// HighLevel's words or ours about it, without secrets.
    pub said: Option<String>,
}

/// One check, as it stays in the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckRecord {
    /// Whose token was checked.
    pub id: InstallationId,
    /// When it ended.
    pub at: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// Who wanted it.
    pub trigger: Trigger,
    /// What it found.
    pub health: Health,
    /// The code of what was wrong.
    pub code: Option<String>,
    /// What was wrong, in words without secrets.
    pub said: Option<String>,
    /// Its steps, in their order.
    pub steps: Vec<StepRecord>,
}

impl CheckRecord {
    /// HighLevel's `traceId` of the call that ended it: with it, their support finds the request.
    pub fn trace_id(&self) -> Option<&str> {
        self.steps.iter().rev().find_map(|step| step.trace_id.as_deref())
    }
}

/// Who wanted a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// The service's clock.
    Clock,
    /// The command `check`, by cron or by hand.
    Command,
    /// A program, by the API.
    Api,
}

impl Trigger {
    /// Every trigger there is.
    pub const ALL: [Trigger; 3] = [Self::Clock, Self::Command, Self::Api];

    /// The word for it at rest and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Clock => "clock",
            Self::Command => "command",
            Self::Api => "api",
        }
    }

    /// The inverse of `as_str`.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|trigger| trigger.as_str() == word)
    }
}

/// A step of a check, as it stays in the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepRecord {
    /// Its name: `token`, `read`, `add_tag` and so on.
    pub name: String,
    /// Whether it went well.
    pub ok: bool,
    /// How long it took, retries included.
    pub took: Duration,
    /// HighLevel's `traceId` of its last call.
    pub trace_id: Option<String>,
}

/// Whose health there is to tell of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// An installation's.
    Installation(InstallationId),
    /// The service's own: its client credentials, its store.
    Service,
    /// Whether checks come when they are due: an installation's, or all installations' when none.
    Checks(Option<InstallationId>),
}

/// How a subject stands, and what was last told of it: what there is to tell is the difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whose.
    pub subject: Subject,
    /// Counts the times it was noted.
    pub revision: u64,
    /// The health last found.
    pub health: Health,
    /// Since when.
    pub since: Timestamp,
    /// How many findings in a row were not good.
    pub failures: u32,
    /// The code of what was wrong last.
    pub code: Option<String>,
    /// What was wrong last, in words without secrets.
    pub said: Option<String>,
    /// The health last told.
    pub told: Health,
    /// When something was last told.
    pub told_at: Option<Timestamp>,
    /// When the health found changed, the latest last, as far back as matters for flapping.
    pub changes: Vec<Timestamp>,
}

/// Something there is to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Unlike any other's: whoever gets a notice twice knows it by this.
    pub id: String,
    /// When it came to be.
    pub at: Timestamp,
    /// Whom it is about.
    pub subject: Subject,
    /// What kind of thing it tells.
    pub kind: NoticeKind,
    /// The health it tells.
    pub health: Health,
    /// Since when it is so.
    pub since: Timestamp,
    /// The code of what is wrong.
    pub code: Option<String>,
    /// What is wrong, in words without secrets.
    pub said: Option<String>,
}

/// What kind of thing a notice tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeKind {
    /// Something stopped working, or will.
    Trouble,
    /// It works again.
    Recovered,
    /// It still does not work.
    Reminder,
    /// It comes and goes.
    Flapping,
    /// Someone installed the app, and the grant waits for approval.
    Parked,
    /// Its user has uninstalled the app.
    Uninstalled,
    /// Checks did not come when they were due.
    Late,
    /// A key is used as it never was before.
    Anomaly,
    /// HighLevel's calls of the day will be used up before they are renewed.
    Quota,
    /// Nothing happened: someone wants to see whether a notice arrives.
    Test,
}

impl NoticeKind {
    /// Every kind there is.
    pub const ALL: [NoticeKind; 10] = [
        Self::Trouble,
        Self::Recovered,
        Self::Reminder,
        Self::Flapping,
        Self::Parked,
        Self::Uninstalled,
        Self::Late,
        Self::Anomaly,
        Self::Quota,
        Self::Test,
    ];

    /// The word for it at rest and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trouble => "trouble",
            Self::Recovered => "recovered",
            Self::Reminder => "reminder",
            Self::Flapping => "flapping",
            Self::Parked => "parked",
            Self::Uninstalled => "uninstalled",
            Self::Late => "late",
            Self::Anomaly => "anomaly",
            Self::Quota => "quota",
            Self::Test => "test",
        }
    }

    /// The inverse of `as_str`.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}
