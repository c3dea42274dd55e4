//! What a token is and how it is kept valid.
//!
//! The nouns: an [`Installation`] is one grant of HighLevel's, on a location or a company; it stands
//! on a [`TokenSet`]. A [`Store`] is where installations rest, an [`Issuer`] is HighLevel's OAuth,
//! and the [`Keeper`] stands between the two and whoever wants a token.
//!
//! The path of a request: `keeper.token(&id, minimum_life)` loads the installation, asks
//! [`Installation::next_step`] what the time calls for, and flies if it must: one flight at a time
//! for each installation, in a task of its own.
//!
//! What is never so: nothing in here touches a file, a socket, the environment or the system's
//! clock; no refreshed set is handed out before it is at rest; no answer of HighLevel's deletes one.

mod admission;
mod anomaly;
mod clock;
mod counters;
mod error;
mod flight;
mod gateway;
mod health;
mod history;
mod installation;
mod issuer;
mod keeper;
mod lifecycle;
mod minting;
mod recent;
pub mod records;
pub mod rules;
#[cfg(test)]
mod sample;
mod schedule;
mod scopes;
mod secret;
mod standing;
pub mod store;
mod token_set;
mod uptime;

pub use admission::{Admission, InstallPolicy};
pub use anomaly::{Anomaly, OF_LATE};
pub use clock::{Clock, TestClock, Timestamp};
pub use counters::{Counters, OUTCOMES};
pub use error::KeeperError;
pub use flight::Timing;
pub use gateway::{Allowed, InvalidAllowed, Lane};
pub use health::{
    CheckRecord, Health, LastCheck, Notice, NoticeKind, Standing, StepRecord, Subject, Trigger,
};
pub use history::{Episode, Turn};
pub use installation::{
    Broken, CompanyId, Connection, ContactId, Installation, InstallationId, Intent, InvalidId, LocationId,
    Overview, Previous, Version,
};
pub use issuer::{Issuer, RawAnswer, Reading, Refusal, Unanswered};
pub use keeper::{Keeper, Served};
pub use lifecycle::Step;
pub use records::Records;
pub use schedule::{AFTER_A_FAILED_CHECK, LateCheck, Lateness, lateness, next_check_at, tolerated_delay};
pub use scopes::Drift;
pub use secret::{AccessToken, AnswerBody, AuthorizationCode, ClientSecret, RefreshToken, ReplyMembers};
pub use standing::{AlertRules, Finding};
pub use store::{Store, StoreError};
pub use token_set::{Grant, RefreshBy, TokenSet};
pub use uptime::{Block, DAYS, Day, Uptime, percent};
