//! The rules of a flight, each of which can be switched off to see the tests notice.
//!
//! Without the feature `break-rules` nothing can be switched off, and `holds` is a constant.

/// A rule that keeps a grant from being lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// One flight at a time holds an installation.
    Lease,
    /// A newer generation in the store is adopted instead of sending.
    LookAgain,
    /// That a token is about to be sent is written down first.
    Intent,
    /// A request without an answer is sent again within HighLevel's 30 seconds.
    SendAgain,
    /// An answer is safe on disk before anything reads it.
    Land,
    /// A save compares version and refresh token first.
    CompareAndSwap,
    /// Tokens are handed out only after they are saved.
    SaveFirst,
    /// A failed refresh does not hide a token that still lives.
    ServeWhileItLives,
    /// A refusal is believed only after every other copy was tried.
    DoubtRefusals,
}

impl Rule {
    /// Every rule there is.
    pub const ALL: [Rule; 9] = [
        Rule::Lease,
        Rule::LookAgain,
        Rule::Intent,
        Rule::SendAgain,
        Rule::Land,
        Rule::CompareAndSwap,
        Rule::SaveFirst,
        Rule::ServeWhileItLives,
        Rule::DoubtRefusals,
    ];
}

/// Whether the rule is in force.
#[cfg(not(feature = "break-rules"))]
pub(crate) const fn holds(_rule: Rule) -> bool {
    true
}

#[cfg(feature = "break-rules")]
pub use switch::{break_rule, holds};

#[cfg(feature = "break-rules")]
mod switch {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::Rule;

    static BROKEN: AtomicU32 = AtomicU32::new(0);

    /// Switches a rule off, for as long as this process lives.
    pub fn break_rule(rule: Rule) {
        BROKEN.fetch_or(1 << rule as u32, Ordering::SeqCst);
    }

    /// Whether the rule is in force.
    pub fn holds(rule: Rule) -> bool {
        BROKEN.load(Ordering::SeqCst) & (1 << rule as u32) == 0
    }
}
