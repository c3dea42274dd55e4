//! What happens by the clock.

mod check;
mod speech;
mod tally;
mod upkeep;

pub use check::{Access, Check, CheckError, Event, Report, StepName, StepReport, Target, Warning};
pub use speech::{Said, Speech};
pub use tally::Tally;
pub use upkeep::{Settings, Upkeep};
