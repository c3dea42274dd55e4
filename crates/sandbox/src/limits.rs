//! The rate limit: calls of one app on one resource, told on every reply and enforced on resource calls.
//!
//! Header names and values as captured from the live API (2026-07). Whether `/oauth/*` is limited isn't published:
//! those calls carry the headers and are never refused.

use std::collections::{HashMap, VecDeque};

use crate::clock::{Millis, millis};
use crate::settings::{RateLimit, RateWindow};

const DAY: Millis = 86_400_000;

/// What one call was allowed, and what is left.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    pub(crate) granted: bool,
    limit: RateLimit,
    remaining: u64,
    daily_remaining: u64,
    daily_reset: Millis,
}

impl Allowance {
    pub(crate) fn headers(&self) -> [(&'static str, String); 6] {
        [
            ("x-ratelimit-max", self.limit.burst.to_string()),
            ("x-ratelimit-remaining", self.remaining.to_string()),
            ("x-ratelimit-interval-milliseconds", millis(self.limit.interval).to_string()),
            ("x-ratelimit-limit-daily", self.limit.daily.to_string()),
            ("x-ratelimit-daily-remaining", self.daily_remaining.to_string()),
            ("x-ratelimit-daily-reset", self.daily_reset.to_string()),
        ]
    }

    /// The headers that go with a 429.
    pub(crate) fn exhausted(mut self) -> Self {
        self.remaining = 0;
        self
    }
}

#[derive(Default)]
struct Used {
    interval_from: Millis,
    /// When the calls of the interval were made.
    in_interval: VecDeque<Millis>,
    day: u64,
    in_day: u64,
}

pub(crate) struct Limits {
    limit: RateLimit,
    window: RateWindow,
    used: HashMap<String, Used>,
}

impl Limits {
    pub(crate) fn new(limit: RateLimit, window: RateWindow) -> Self {
        Self { limit, window, used: HashMap::new() }
    }

    /// Counts one call on a location or a company.
    pub(crate) fn take(&mut self, class_id: &str, now: Millis) -> Allowance {
        let used = self.used.entry(class_id.to_owned()).or_default();
        used.forget(self.window, millis(self.limit.interval), now);
        let room = count(&used.in_interval) < self.limit.burst && used.in_day < self.limit.daily;
        if room {
            used.in_interval.push_back(now);
            used.in_day += 1;
        }
        let remaining = self.limit.burst.saturating_sub(count(&used.in_interval));
        let daily_remaining = self.limit.daily.saturating_sub(used.in_day);
        let granted = room || !self.limit.enforced;
        Allowance { granted, remaining, daily_remaining, ..self.unlimited(now) }
    }

    /// The headers of a call that isn't counted.
    pub(crate) fn unlimited(&self, now: Millis) -> Allowance {
        Allowance {
            granted: true,
            limit: self.limit,
            remaining: self.limit.burst.saturating_sub(1),
            daily_remaining: self.limit.daily.saturating_sub(1),
            daily_reset: DAY - now % DAY,
        }
    }

    pub(crate) fn set(&mut self, limit: RateLimit) {
        self.limit = limit;
    }

    pub(crate) fn set_window(&mut self, window: RateWindow) {
        self.window = window;
    }

    pub(crate) fn limit(&self) -> RateLimit {
        self.limit
    }
}

impl Used {
    /// Forgets the calls that no longer count at `now`.
    fn forget(&mut self, window: RateWindow, interval: Millis, now: Millis) {
        match window {
            RateWindow::Fixed if now >= self.interval_from + interval => {
                self.interval_from = now;
                self.in_interval.clear();
            }
            RateWindow::Fixed => {}
            RateWindow::Sliding => {
                while self.in_interval.front().is_some_and(|made_at| now >= made_at + interval) {
                    self.in_interval.pop_front();
                }
            }
        }
        if now / DAY != self.day {
            (self.day, self.in_day) = (now / DAY, 0);
        }
    }
}

fn count(calls: &VecDeque<Millis>) -> u64 {
    calls.len() as u64
}
