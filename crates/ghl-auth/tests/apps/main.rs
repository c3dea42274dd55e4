//! Several marketplace apps in one program: the real binary, and a HighLevel on loopback for each app,
//! in which both have been installed at the same location.

#![allow(clippy::print_stderr, reason = "a story that can't be told here says why")]

mod commands;
mod service;
#[path = "../commands/support.rs"]
mod support;
mod town;
#[allow(dead_code, reason = "a part of it is used here")]
#[path = "../doors/wire.rs"]
mod wire;
