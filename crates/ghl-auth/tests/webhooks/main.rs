//! HighLevel tells of installs and uninstalls: the real `serve`, a sandbox that signs, and everybody
//! who would like to be taken for HighLevel.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a test says what it found, and why")]
#![allow(dead_code, reason = "each story uses a part of what it shares with other suites")]

#[path = "../doors/house.rs"]
mod house;
#[path = "../commands/support.rs"]
mod support;
#[path = "../doors/wire.rs"]
mod wire;

mod acts;
mod doors;
mod memory;

use sandbox::{Sandbox, Signature};
use serde_json::Value;
use tokens::Timestamp;

use house::House;
use support::Home;
use wire::request;

const PATH: &str = "/webhooks/highlevel";

/// How often something is done: as often as a variable says, or a number that takes seconds.
fn times(variable: &str, otherwise: usize) -> usize {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")),
        Err(_) => otherwise,
    }
}

/// A user with ports of their own whose settings say to believe the sandbox.
fn home() -> Home {
    house::home()
}

/// A webhook as HighLevel sends it.
fn signed(sandbox: &Sandbox, body: &str) -> Vec<u8> {
    sent(&sandbox.sign_webhook(body, Signature::Present), body)
}

/// A webhook with these headers.
fn sent(headers: &[(&str, String)], body: &str) -> Vec<u8> {
    let mut all = vec![("Content-Type", "application/json")];
    all.extend(headers.iter().map(|(name, value)| (*name, value.as_str())));
    request("POST", PATH, &all, body)
}

/// The text of an event of this sandbox's app, with more members.
fn event(sandbox: &Sandbox, kind: &str, more: &str) -> String {
    format!(r#"{{"type":"{kind}","appId":"{}"{more}}}"#, sandbox.settings().app_id())
}

fn iso(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.as_millis()).expect("an instant").to_string()
}

/// How many rows the events have, and how many of those wait.
fn events(house: &House) -> (i64, i64) {
    let database = rusqlite::Connection::open(house.home.path("tokens.db.records.db")).expect("a database");
    let sql = "SELECT count(*), count(*) FILTER (WHERE done_at IS NULL) FROM events";
    database.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).expect("numbers")
}

/// What came of an event.
fn outcome(house: &House, id: &str) -> Option<String> {
    let database = rusqlite::Connection::open(house.home.path("tokens.db.records.db")).expect("a database");
    let sql = "SELECT outcome FROM events WHERE event = ?1 AND done_at IS NOT NULL";
    database.query_row(sql, [id], |row| row.get(0)).ok()
}

/// Whether an uninstall was acted on. Two processes may act on it at once, and the one that finds nothing
/// more to take out may be the first to note it.
fn was_taken_out(house: &House, id: &str) -> bool {
    matches!(outcome(house, id).as_deref(), Some("taken_out" | "nothing_to_take_out"))
}

fn status(answer: &wire::Answer) -> String {
    let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    body["status"].as_str().unwrap_or_default().to_owned()
}
