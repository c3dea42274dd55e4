//! How well the last 90 days went: what the checks of each day found, summed up.
//!
//! A check is good where it worked, be it that something needs attention. Days are those of UTC, so that
//! they are the same for everybody who keeps or reads them.

use crate::clock::Timestamp;
use crate::health::Health;

/// So many days there are to look back on, today with them.
pub const DAYS: usize = 90;

const DAY_MILLIS: i64 = 24 * 60 * 60 * 1000;

/// What the checks of a day found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Day {
    /// Which day, counted from 1970-01-01 on, which is 0.
    pub number: i64,
    /// How many checks there were.
    pub checks: u64,
    /// How many of them were good.
    pub good: u64,
}

/// A day at a glance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// Every check was good.
    Good,
    /// Some were, some were not.
    Mixed,
    /// None was.
    Bad,
    /// There was none.
    Unchecked,
}

/// The last 90 days, one after the other: the oldest first, today last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uptime {
    days: Vec<Day>,
}

impl Health {
    /// Whether it worked.
    pub fn is_good(self) -> bool {
        matches!(self, Self::Operational | Self::Degraded)
    }
}

impl Day {
    /// The number of the day that an instant is in.
    pub fn number_of(at: Timestamp) -> i64 {
        at.as_millis().div_euclid(DAY_MILLIS)
    }

    /// Its date: `YYYY-MM-DD`.
    pub fn date(self) -> String {
        // By the calendar that goes on from March: then the leap day is a year's last.
        let days = self.number + 719_468;
        let era = days.div_euclid(146_097);
        let of_era = days.rem_euclid(146_097);
        let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        let year = year + era * 400 + i64::from(month <= 2);
        format!("{year:04}-{month:02}-{day:02}")
    }

    /// It at a glance.
    pub fn block(self) -> Block {
        match (self.checks, self.good) {
            (0, _) => Block::Unchecked,
            (_, 0) => Block::Bad,
            (checks, good) if good < checks => Block::Mixed,
            _ => Block::Good,
        }
    }
}

impl Uptime {
    /// The number of the first of the days that end with the one that `now` is in.
    pub fn first_day(now: Timestamp) -> i64 {
        Day::number_of(now) - (DAYS as i64 - 1)
    }

    /// Each of the last 90 days, whether anything is known of it or not.
    pub fn of(known: &[Day], now: Timestamp) -> Self {
        let first = Self::first_day(now);
        let mut days: Vec<Day> =
            (first..).take(DAYS).map(|number| Day { number, ..Day::default() }).collect();
        for day in known {
            let place = usize::try_from(day.number - first).ok();
            if let Some(place) = place.and_then(|place| days.get_mut(place)) {
                place.checks += day.checks;
                place.good += day.good;
            }
        }
        Self { days }
    }

    /// All of them.
    pub fn days(&self) -> &[Day] {
        &self.days
    }

    /// The latest of them, `count` at most.
    pub fn latest(&self, count: usize) -> &[Day] {
        &self.days[self.days.len().saturating_sub(count)..]
    }

    /// How many of the checks were good, in hundredths of a per cent; none where there were none. What was
    /// not all good is never called all good.
    pub fn share(&self) -> Option<u32> {
        let (checks, good) =
            self.days.iter().fold((0_u64, 0_u64), |sum, day| (sum.0 + day.checks, sum.1 + day.good));
        let share = (u128::from(good) * 10_000).checked_div(u128::from(checks))?;
        Some(u32::try_from(share).unwrap_or(10_000))
    }

    /// Since which day all has been good without a break up to today: of the days on which there was a
    /// check. None where today, or the last day with a check, was not all good.
    pub fn good_since(&self) -> Option<Day> {
        let checked = self.days.iter().rev().filter(|day| day.checks > 0);
        checked.take_while(|day| day.block() == Block::Good).last().copied()
    }
}

/// A share as people write it: `99.98 %`, `100 %`.
pub fn percent(share: u32) -> String {
    match (share / 100, share % 100) {
        (whole, 0) => format!("{whole} %"),
        (whole, rest) => format!("{whole}.{rest:02} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(number: i64, checks: u64, good: u64) -> Day {
        Day { number, checks, good }
    }

    #[test]
    fn a_day_is_good_mixed_bad_or_without_a_check() {
        let check = |checks, good, expected| assert_eq!(day(1, checks, good).block(), expected);
        check(0, 0, Block::Unchecked);
        check(2, 2, Block::Good);
        check(2, 1, Block::Mixed);
        check(2, 0, Block::Bad);
    }

    #[test]
    fn there_are_ninety_days_whatever_is_known_of_them() {
        let now = Timestamp::from_millis(200 * DAY_MILLIS + 5);
        let known = [day(110, 9, 9), day(111, 2, 2), day(150, 4, 1), day(200, 1, 1), day(201, 7, 0)];
        let uptime = Uptime::of(&known, now);
        assert_eq!(uptime.days().len(), DAYS);
        assert_eq!(uptime.days()[0], day(111, 2, 2), "what is older is not looked at");
        assert_eq!(uptime.days()[DAYS - 1], day(200, 1, 1), "nor what a clock that was ahead wrote");
        assert_eq!(uptime.days().iter().filter(|day| day.block() != Block::Unchecked).count(), 3);
        assert_eq!(uptime.latest(2), [day(199, 0, 0), day(200, 1, 1)]);
        assert_eq!(uptime.latest(1000).len(), DAYS);
        assert_eq!(uptime.share(), Some(5714), "4 of 7");
        assert_eq!(uptime.good_since(), Some(day(200, 1, 1)));
    }

    #[test]
    fn what_was_not_all_good_is_never_a_hundred_per_cent() {
        let now = Timestamp::from_millis(0);
        let share = |checks, good| Uptime::of(&[day(0, checks, good)], now).share();
        let check = |checks, good, expected| {
            assert_eq!(share(checks, good).map(percent).as_deref(), expected, "{good} of {checks}");
        };
        check(0, 0, None);
        check(1, 1, Some("100 %"));
        check(1_000_000, 999_999, Some("99.99 %"));
        check(1000, 5, Some("0.50 %"));
        check(7, 0, Some("0 %"));
    }

    #[test]
    fn a_day_without_a_check_breaks_no_row_of_good_days_and_one_that_is_not_good_does() {
        let now = Timestamp::from_millis(99 * DAY_MILLIS);
        let since = |known: &[Day]| Uptime::of(known, now).good_since().map(|day| day.number);
        assert_eq!(since(&[]), None);
        assert_eq!(since(&[day(50, 1, 1), day(60, 1, 1), day(99, 1, 1)]), Some(50));
        assert_eq!(since(&[day(50, 1, 1), day(60, 2, 1), day(70, 1, 1)]), Some(70));
        assert_eq!(since(&[day(50, 1, 1), day(99, 2, 1)]), None);
    }

    #[test]
    fn a_day_has_the_date_of_utc() {
        let check = |number, date| assert_eq!(day(number, 0, 0).date(), date);
        check(0, "1970-01-01");
        check(-1, "1969-12-31");
        check(11_016, "2000-02-29");
        check(20_783, "2026-11-26");
        check(47_540, "2100-02-28");
        check(47_541, "2100-03-01");
        assert_eq!(Day::number_of(Timestamp::from_millis(DAY_MILLIS - 1)), 0);
        assert_eq!(Day::number_of(Timestamp::from_millis(DAY_MILLIS)), 1);
        assert_eq!(Day::number_of(Timestamp::from_millis(-1)), -1);
    }
}
