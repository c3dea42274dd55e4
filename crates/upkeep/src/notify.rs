//! Notices leave by another door than the one that is watched.
//!
//! What there is to tell stands in the records' outbox, once for each way, together with the standing
//! that it comes from: a crash or a way that is down for hours loses none. A delivery that was sent
//! and not yet noted when the process died is sent again under the same id.

mod email;
mod heartbeat;
mod post;
mod ways;

use std::time::Duration;

use tokens::{Health, Notice, NoticeKind, Subject};

pub use email::{BadServer, MailAddress, MailServer};
pub(crate) use heartbeat::Beat;
pub use heartbeat::Heartbeat;
pub use post::{BadAddress, Post};
pub use ways::{BadSecret, Way};

use crate::speech::Speech;

/// Why a notice did not arrive. No address in it: addresses of ways hold secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{said}")]
pub struct NotDelivered {
    /// What happened.
    pub said: String,
    /// When it may be tried again, where the other side said so.
    pub retry_after: Option<Duration>,
}

/// A notice in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Words {
    /// One line: who, what.
    pub title: String,
    /// Since when, what is wrong, what to do.
    pub body: String,
}

impl Words {
    /// The words for a notice from the service called `name`.
    pub(crate) fn of(notice: &Notice, name: &str, link: Option<&str>, speech: &dyn Speech) -> Self {
        let whose = match &notice.subject {
            Subject::Service => speech.say("subject-service", &[]),
            Subject::Checks(None) => speech.say("subject-all", &[]),
            Subject::Installation(id) | Subject::Checks(Some(id)) => {
                speech.say(&format!("whose-{}", id.kind()), &[("id", id.as_str().to_owned())])
            }
        };
        let health = speech.say(&format!("health-{}", notice.health.as_str().replace('_', "-")), &[]);
        let key = match &notice.subject {
            Subject::Checks(_) => format!("notice-checks-{}", notice.kind.as_str()),
            _ => format!("notice-{}", notice.kind.as_str()),
        };
        let title = [("name", name.to_owned()), ("whose", whose), ("health", health)];
        let mut body = speech.say("notice-since", &[("at", speech.moment(notice.since))]);
        let link = link.filter(|_| notice.health == Health::NeedsPerson && notice.kind != NoticeKind::Test);
        for part in [notice.said.as_deref(), link].into_iter().flatten() {
            body.push('\n');
            body.push_str(part);
        }
        Self { title: speech.say(&key, &title), body }
    }

    /// Both, for ways that know no title.
    pub(crate) fn whole(&self) -> String {
        format!("{}\n{}", self.title, self.body)
    }
}
