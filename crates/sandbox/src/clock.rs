//! The sandbox's own time: the system's, plus whatever a test has moved it ahead.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970, by the sandbox's clock.
pub(crate) type Millis = u64;

pub(crate) struct Clock {
    started: Instant,
    started_at: Millis,
    ahead: AtomicU64,
}

impl Clock {
    #[allow(
        clippy::disallowed_methods,
        reason = "the sandbox plays another computer, which has a clock of its own"
    )]
    pub(crate) fn start() -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started: Instant::now(), started_at: millis(since_1970), ahead: AtomicU64::new(0) }
    }

    pub(crate) fn now(&self) -> Millis {
        self.started_at + millis(self.started.elapsed()) + self.ahead.load(Ordering::Relaxed)
    }

    /// How far it was moved.
    pub(crate) fn ahead(&self) -> Duration {
        Duration::from_millis(self.ahead.load(Ordering::Relaxed))
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.ahead.fetch_add(millis(by), Ordering::Relaxed);
    }
}

pub(crate) fn millis(span: Duration) -> Millis {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// `2026-08-20T13:05:59.120Z`, as HighLevel writes `dateAdded` and `installedAt`.
pub(crate) fn iso(at: Millis) -> String {
    let (days, in_day) = (at / 86_400_000, at % 86_400_000);
    let (year, month, day) = civil(days);
    let (hour, minute) = (in_day / 3_600_000, in_day / 60_000 % 60);
    let (second, milli) = (in_day / 1000 % 60, in_day % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// Days since 1970 to a date of the Gregorian calendar, counting years from March so that leap days come last.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(at: Millis, expected: &str) {
        assert_eq!(iso(at), expected);
    }

    #[test]
    fn times_are_written_in_utc_with_milliseconds() {
        check(0, "1970-01-01T00:00:00.000Z");
        check(951_782_400_000, "2000-02-29T00:00:00.000Z");
        check(1_750_000_000_123, "2025-06-15T15:06:40.123Z");
        check(4_107_542_399_999, "2100-02-28T23:59:59.999Z");
    }
}
