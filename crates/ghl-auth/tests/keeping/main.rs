//! What keeps a grant from being lost, told as stories: a real keeper, HighLevel's OAuth over real
//! sockets, real stores, and a sandbox in HighLevel's place. Clocks are moved, so nothing sleeps long.

#![allow(clippy::print_stdout, reason = "a test says what it found, and why it was left out")]

#[path = "../support/mod.rs"]
mod support;

mod answers;
mod callers;
mod companies;
mod healing;
mod odd_answers;
#[cfg(feature = "break-rules")]
mod rules;
