//! What is said to people: the sentences are the binary's, in the language of whoever runs it.

use std::time::Duration;

use tokens::{KeeperError, Timestamp};

use crate::check::{CheckError, Warning};

/// Finds the words.
pub trait Speech: Send + Sync {
    /// The sentence called `key`, or an attribute of it as `key.attribute`, with its arguments.
    fn say(&self, key: &str, arguments: &[(&str, String)]) -> String;

    /// Why a token could not be had.
    fn keeper_error(&self, error: &KeeperError) -> Said;

    /// Why a check failed.
    fn check_error(&self, error: &CheckError) -> Said;

    /// What needs attention though it works.
    fn warning(&self, warning: &Warning) -> Said;

    /// A span of time, in its two largest units.
    fn span(&self, span: Duration) -> String;

    /// An instant, for a sentence.
    fn moment(&self, at: Timestamp) -> String;
}

/// What is wrong and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The code, a promise to programs.
    pub code: &'static str,
    /// What happened.
    pub detail: String,
    /// What to do next.
    pub action: String,
    /// Whether a person must authorise, so that the link under which one does belongs to it.
    pub needs_person: bool,
}
