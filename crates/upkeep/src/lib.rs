//! What happens by the clock: rounds that refresh what is due and check what is due.
//!
//! Words are the business of whoever listens, or of [`Speech`].

mod check;
mod drift;
mod events;
mod keys;
mod lateness;
mod notify;
mod outbox;
mod quota;
mod reconcile;
mod sealing;
mod speech;
mod tally;
mod upkeep;

pub use check::{Access, Check, CheckError, Event, Report, StepName, StepReport, Target, Warning};
pub use notify::{
    BadAddress, BadSecret, BadServer, Heartbeat, MailAddress, MailServer, NotDelivered, Post, Way,
};
pub use reconcile::{Reconciled, Unreconciled, listed};
pub use speech::{Said, Speech};
pub use upkeep::{Settings, Upkeep, is_over_within, record};
