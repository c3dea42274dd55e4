//! The rate limit: calls of one app on one resource, told on every reply and enforced on resource calls.
//!
//! Header names and values as captured from the live API (2026-07). Whether `/oauth/*` is limited isn't published:
//! those calls carry the headers and are never refused.

use std::collections::HashMap;

use crate::clock::{Millis, millis};
use crate::settings::RateLimit;

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

#[derive(Clone, Copy, Default)]
struct Used {
    interval_from: Millis,
    in_interval: u64,
    day: u64,
    in_day: u64,
}

pub(crate) struct Limits {
    limit: RateLimit,
    used: HashMap<String, Used>,
}

impl Limits {
    pub(crate) fn new(limit: RateLimit) -> Self {
        Self { limit, used: HashMap::new() }
    }

    /// Counts one call on a location or a company.
    pub(crate) fn take(&mut self, class_id: &str, now: Millis) -> Allowance {
        if !self.used.contains_key(class_id) {
            self.used.insert(class_id.to_owned(), Used::default());
        }
        let mut used = self.used[class_id];
        if now >= used.interval_from + millis(self.limit.interval) {
            (used.interval_from, used.in_interval) = (now, 0);
        }
        if now / DAY != used.day {
            (used.day, used.in_day) = (now / DAY, 0);
        }
        let room = used.in_interval < self.limit.burst && used.in_day < self.limit.daily;
        if room {
            used.in_interval += 1;
            used.in_day += 1;
        }
        self.used.insert(class_id.to_owned(), used);
        let left = |limit: u64, used: u64| limit.saturating_sub(used);
        Allowance {
            granted: room || !self.limit.enforced,
            remaining: left(self.limit.burst, used.in_interval),
            daily_remaining: left(self.limit.daily, used.in_day),
            ..self.unlimited(now)
        }
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
}
