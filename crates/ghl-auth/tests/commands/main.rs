//! Stories of the commands as users meet them: the real binary, and a HighLevel on loopback.

#![allow(clippy::print_stderr, reason = "a story that can't be told here says why")]

mod agencies;
mod alarms;
mod always_on;
mod audit;
mod book;
mod check;
mod clients;
mod configuration;
mod crowds;
mod languages;
mod login;
mod mail;
mod metrics;
mod paper;
mod permissions;
mod refusals;
mod scale;
mod schedule;
mod scopes;
mod service;
mod serving;
mod support;
mod systemd;
mod tokens;
mod uptime;
