//! Stories of the commands as users meet them: the real binary, and a HighLevel on loopback.

#![allow(clippy::print_stderr, reason = "a story that can't be told here says why")]

mod alarms;
mod check;
mod clients;
mod configuration;
mod languages;
mod login;
mod metrics;
mod paper;
mod refusals;
mod schedule;
mod service;
mod support;
mod tokens;
