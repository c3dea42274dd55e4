//! The service's doors under attack: the real `serve` with both of its listeners, raw sockets, and a
//! sandbox in HighLevel's place. One service serves all the cases of a story, and whatever it answers,
//! wherever it is asked, is looked at: see [`wire::Answer`].

#![allow(clippy::print_stderr, reason = "a story that can't be told here says why")]

#[path = "../commands/support.rs"]
mod support;

mod bodies;
mod browsers;
mod crowds;
mod dashboard;
mod forms;
mod house;
mod isolation;
mod keys;
mod matrix;
mod status;
mod troubles;
mod wire;
