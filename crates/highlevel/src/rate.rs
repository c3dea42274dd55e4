//! What HighLevel's answers say of its rate limits: 100 calls in ten seconds and 200,000 a day for each
//! app and location or company, told in the headers of every answer (fact sheet, section 6).

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use tokio::time::Instant;

use crate::field::{is_field, whole_number};

/// The least is remembered for this long, and for twice as long at most: from one scrape to the next.
const WINDOW: Duration = Duration::from_secs(60);

/// The least that any answer of the last minute or two left, whoever asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// Calls that were left in the short interval.
    pub remaining: Option<u64>,
    /// Calls that there are in it.
    pub limit: Option<u64>,
    /// Calls that were left of the day.
    pub daily_remaining: Option<u64>,
    /// Calls that there are in a day.
    pub daily_limit: Option<u64>,
}

impl RateLimits {
    fn told_by(headers: &HeaderMap) -> Self {
        let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse().ok();
        Self {
            remaining: number("x-ratelimit-remaining"),
            limit: number("x-ratelimit-max"),
            daily_remaining: number("x-ratelimit-daily-remaining"),
            daily_limit: number("x-ratelimit-limit-daily"),
        }
    }

    fn least(self, other: Self) -> Self {
        let least = |one: Option<u64>, other: Option<u64>| one.into_iter().chain(other).min();
        Self {
            remaining: least(self.remaining, other.remaining),
            limit: least(self.limit, other.limit),
            daily_remaining: least(self.daily_remaining, other.daily_remaining),
            daily_limit: least(self.daily_limit, other.daily_limit),
        }
    }
}

/// What the headers of one answer tell of a rate limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Calls that there are in the interval.
    pub limit: Option<u64>,
    /// Calls that are left in it.
    pub remaining: Option<u64>,
    /// The interval.
    pub interval: Option<Duration>,
    /// Calls that there are in a day.
    pub daily_limit: Option<u64>,
    /// Calls that are left of the day.
    pub daily_remaining: Option<u64>,
    /// Until the day's calls are renewed: not documented; the values seen fit milliseconds.
    pub daily_reset: Option<Duration>,
    /// `Retry-After`: HighLevel is not known to send one.
    pub retry_after: Option<Duration>,
}

impl Told {
    /// Takes in a header, if it is one of these.
    pub fn note(&mut self, name: &str, value: &[u8]) {
        // This looks at each header of each answer that passes: most are told apart by their length.
        let is = |known: &str| is_field(name, known);
        let number = || whole_number(value.trim_ascii());
        match name.len() {
            11 if is("retry-after") => self.retry_after = number().map(Duration::from_secs),
            15 if is("x-ratelimit-max") => self.limit = number(),
            21 if is("x-ratelimit-remaining") => self.remaining = number(),
            23 if is("x-ratelimit-limit-daily") => self.daily_limit = number(),
            23 if is("x-ratelimit-daily-reset") => self.daily_reset = number().map(Duration::from_millis),
            27 if is("x-ratelimit-daily-remaining") => self.daily_remaining = number(),
            33 if is("x-ratelimit-interval-milliseconds") => {
                self.interval = number().map(Duration::from_millis);
            }
            _ => {}
        }
    }
}

/// Remembers it.
#[derive(Debug)]
pub(crate) struct RateBook(Mutex<(Instant, [RateLimits; 2])>);

impl Default for RateBook {
    fn default() -> Self {
        Self(Mutex::new((Instant::now(), Default::default())))
    }
}

impl RateBook {
    pub(crate) fn note(&self, headers: &HeaderMap, now: Instant) {
        self.turned(now, |[current, _]| *current = current.least(RateLimits::told_by(headers)));
    }

    pub(crate) fn least(&self, now: Instant) -> RateLimits {
        self.turned(now, |[current, before]| current.least(*before))
    }

    /// Works on this minute and the one before.
    fn turned<T>(&self, now: Instant, work: impl FnOnce(&mut [RateLimits; 2]) -> T) -> T {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (began, minutes) = &mut *book;
        let age = now.saturating_duration_since(*began);
        if age >= WINDOW {
            let before = if age < WINDOW * 2 { minutes[0] } else { RateLimits::default() };
            *minutes = [RateLimits::default(), before];
            *began = now;
        }
        work(minutes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_tells_of_its_limits_in_whatever_case() {
        let mut told = Told::default();
        for (name, value) in [
            ("x-ratelimit-max", "100"),
            ("X-RateLimit-Remaining", "99"),
            ("X-RATELIMIT-INTERVAL-MILLISECONDS", " 10000 "),
            ("x-ratelimit-limit-daily", "200000"),
            ("x-ratelimit-daily-remaining", "199779"),
            ("x-ratelimit-daily-reset", "49013000"),
            ("retry-after", "7"),
            ("x-ratelimit-maximum", "1"),
            ("x-request-id", "5"),
        ] {
            told.note(name, value.as_bytes());
        }
        let expected = Told {
            limit: Some(100),
            remaining: Some(99),
            interval: Some(Duration::from_secs(10)),
            daily_limit: Some(200_000),
            daily_remaining: Some(199_779),
            daily_reset: Some(Duration::from_secs(49_013)),
            retry_after: Some(Duration::from_secs(7)),
        };
        assert_eq!(told, expected);
        for odd in ["many", "", "-1", "+1", "1.0", "18446744073709551616"] {
            told.note("x-ratelimit-max", b"100");
            told.note("x-ratelimit-max", odd.as_bytes());
            assert_eq!(told.limit, None, "{odd}");
        }
    }

    #[test]
    fn the_least_of_the_last_minute_or_two_is_known() {
        let book = RateBook::default();
        let mut now = Instant::now();
        let answer = |now: Instant, remaining: &str, daily: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-ratelimit-max", "100".parse().expect("a value"));
            headers.insert("x-ratelimit-remaining", remaining.parse().expect("a value"));
            headers.insert("x-ratelimit-daily-remaining", daily.parse().expect("a value"));
            book.note(&headers, now);
        };
        let check = |now: Instant, remaining: Option<u64>, daily_remaining: Option<u64>| {
            let least = book.least(now);
            assert_eq!((least.remaining, least.daily_remaining), (remaining, daily_remaining));
            assert_eq!((least.limit, least.daily_limit), (remaining.map(|_| 100), None));
        };
        check(now, None, None);
        answer(now, "7", "199000");
        answer(now, "99", "150000");
        answer(now, "odd", "");
        check(now, Some(7), Some(150_000));
        now += WINDOW;
        answer(now, "50", "140000");
        check(now, Some(7), Some(140_000));
        now += WINDOW;
        check(now, Some(50), Some(140_000));
        now += WINDOW * 2;
        check(now, None, None);
    }
}
