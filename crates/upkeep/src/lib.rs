//! The rounds the house makes by itself: so far one, the check.

mod check;

pub use check::{Access, Check, CheckError, Event, Report, StepName, StepReport, Target, Warning};
