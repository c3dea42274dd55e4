//! Several replicas over one PostgreSQL: they refresh each grant once, take over from the dead, get over
//! an outage of the database, and hand out nothing that is not theirs to give.
//!
//! The program itself runs here, against a real PostgreSQL and a sandbox in HighLevel's place. Long forms
//! are set by variables, as `long-tests.sh` does it.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    unreachable_pub,
    reason = "a test says what it found, and is a program"
)]

#[path = "../../../../tests/postgres/mod.rs"]
mod postgres;
#[path = "../support/mod.rs"]
mod support;

#[allow(dead_code, reason = "of a program that uses the gateway, a part is enough here")]
#[path = "../gateway/caller.rs"]
mod caller;

mod crowds;
mod deaths;
mod events;
mod gateway;
mod house;
mod load;
mod outages;
mod poolers;
mod races;
mod upgrades;
