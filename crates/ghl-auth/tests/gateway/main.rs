//! The gateway: the real `serve`, callers on raw sockets, and a sandbox in HighLevel's place.

#![allow(dead_code, clippy::print_stderr, reason = "shared with other test programs, each uses a part")]

#[path = "../doors/house.rs"]
mod house;
#[path = "../commands/support.rs"]
mod support;
#[path = "../doors/wire.rs"]
mod wire;

mod answers;
mod attack;
mod caller;
mod clients;
mod headers;
mod http2;
mod paths;
mod pressure;
mod smuggling;
mod stories;
mod turns;
mod unfinished;
mod upstream;
