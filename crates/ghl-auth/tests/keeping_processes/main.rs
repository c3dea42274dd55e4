//! What keeps a grant from being lost when there are processes: many at once, stopped, frozen,
//! killed between any two of their system calls, on disks that are full or failing. The program
//! itself runs here, against a sandbox in HighLevel's place.

#![allow(clippy::print_stdout, reason = "a test says what it found, and why it was left out")]

#[path = "../support/mod.rs"]
mod support;

mod crowds;
mod disks;
mod kills;
mod services;
mod tracer;
