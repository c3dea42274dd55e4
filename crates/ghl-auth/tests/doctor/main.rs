//! Stories of `doctor`: a healthy set-up has nothing wrong, and each planted fault is found and its cure
//! named.

#![allow(clippy::print_stderr, reason = "a story that can't be told here says why")]

mod databases;
mod faults;
mod health;
mod patient;
#[path = "../../../../tests/postgres/mod.rs"]
mod postgres;
#[path = "../canaries/search.rs"]
mod search;
#[path = "../commands/support.rs"]
mod support;
mod users;
