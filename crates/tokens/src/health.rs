//! What a check's outcome means for an installation.

use crate::clock::Timestamp;

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
