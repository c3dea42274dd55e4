//! When an installation is next due: pure, and from what rests in the store, so that the first run,
//! a restart and a second process come to the same.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::health::Health;
use crate::installation::{Connection, InstallationId, Overview};
use crate::lifecycle::{are_of_a_clock_ahead, is_retry_due};

/// Refreshes of tokens that were issued together are spread over this part of their life, after the
/// first half of it.
const SPREAD: u32 = 8;

/// A check that failed is made again after this long, so that people are told in time.
pub const AFTER_A_FAILED_CHECK: Duration = Duration::from_secs(5 * 60);

impl Overview {
    /// When a refresh is due unasked: at half of the token's life and a while after, which differs
    /// from id to id; after a failure, when it was put off to; at any time while one is left in the air;
    /// never when only a person can help.
    pub fn refresh_due_at(&self) -> Option<Timestamp> {
        if self.intent.is_some() {
            return Some(Timestamp::from_millis(i64::MIN));
        }
        match &self.connection {
            Connection::Connected => Some(self.half_life_at() + part_of(&self.id, self.life() / SPREAD)),
            Connection::Uncertain { retry_at, .. } | Connection::Suspended { retry_at, .. } => {
                Some(*retry_at)
            }
            Connection::Broken(_) => None,
        }
    }

    /// Whether a refresh is due unasked at `now`: also when that is not so for long yet by a clock
    /// which has been set back since.
    pub fn is_refresh_due(&self, now: Timestamp) -> bool {
        let by_a_clock_ahead = match &self.connection {
            Connection::Connected => are_of_a_clock_ahead(self.issued_at, self.life(), now),
            Connection::Uncertain { retry_at, .. } | Connection::Suspended { retry_at, .. } => {
                is_retry_due(*retry_at, now)
            }
            Connection::Broken(_) => false,
        };
        by_a_clock_ahead || self.refresh_due_at().is_some_and(|due| due <= now)
    }

    /// When the next check is due, `interval` after the last one, sooner when that one failed; at once
    /// when there was none.
    pub fn check_due_at(&self, interval: Duration, now: Timestamp) -> Timestamp {
        match &self.last_check {
            Some(check) if check.health == Health::Down => {
                next_check_at(check.at, interval.min(AFTER_A_FAILED_CHECK), now)
            }
            Some(check) => next_check_at(check.at, interval, now),
            None => now,
        }
    }
}

/// When a check is due `pause` after the last one: at once when that one lies further ahead of the
/// clock, which has been set back. A clock that goes a little wrong, and right again, causes none.
pub fn next_check_at(last: Timestamp, pause: Duration, now: Timestamp) -> Timestamp {
    if last > now + pause { now } else { last + pause }
}

/// A check that did not come when it was due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LateCheck {
    /// When the last one ended.
    pub last: Timestamp,
    /// When the next was due.
    pub due: Timestamp,
}

/// Whose checks are late.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lateness {
    /// Nobody's.
    InTime,
    /// Those of some installations, while others are checked.
    Some(Vec<(InstallationId, LateCheck)>),
    /// Nobody is checked: the service was down, or stands still. The latest check that there was.
    All(LateCheck),
}

/// How late a check may come before it is worth telling: an eighth of the interval, and never less
/// than a quarter of an hour, so that a restart or an upgrade is none.
pub fn tolerated_delay(interval: Duration) -> Duration {
    (interval / 8).max(Duration::from_secs(15 * 60))
}

/// Who is late, given when each was last checked. Once all were late, those that still wait for
/// their turn belong to the same trouble.
pub fn lateness(
    last_checks: &[(InstallationId, Timestamp)],
    interval: Duration,
    now: Timestamp,
    all_were_late: bool,
) -> Lateness {
    let late: Vec<(InstallationId, LateCheck)> = last_checks
        .iter()
        .map(|(id, last)| (id.clone(), LateCheck { last: *last, due: *last + interval }))
        .filter(|(_, check)| now.since(check.due) > tolerated_delay(interval))
        .collect();
    match late.iter().map(|(_, check)| *check).max_by_key(|check| check.due) {
        None => Lateness::InTime,
        Some(latest) if all_were_late || late.len() == last_checks.len() => Lateness::All(latest),
        Some(_) => Lateness::Some(late),
    }
}

/// A part of `span` that is the same for an id each time, and evenly spread over all ids.
fn part_of(id: &InstallationId, span: Duration) -> Duration {
    // FNV-1a, and a last stir for the upper bits: it has to be the same in every process and version.
    let hash = id.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let hash = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    span.mul_f64((hash >> 11) as f64 / (1_u64 << 53) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::LastCheck;
    use crate::installation::{Broken, Intent};
    use crate::sample;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn refreshes_are_due_in_the_second_half_of_a_life_and_spread() {
        let mut dues = Vec::new();
        for number in 0..1000 {
            let mut overview = sample::installation().overview();
            overview.id = InstallationId::Location(format!("loc{number}").parse().expect("an id"));
            let due = overview.refresh_due_at().expect("due");
            let half = overview.half_life_at();
            assert!(due >= half && due < half + overview.life() / 8);
            assert_eq!(overview.refresh_due_at(), Some(due));
            dues.push(due.since(half).as_secs() / 60);
        }
        dues.sort_unstable();
        dues.dedup();
        assert!(dues.len() > 100, "spread over {} minutes", dues.len());
    }

    #[test]
    fn after_a_failure_it_is_due_when_it_was_put_off_to() {
        let mut overview = sample::installation().overview();
        let at = overview.issued_at;
        let retry_at = at + HOUR * 13;
        overview.connection = Connection::Suspended { since: at, attempts: 1, retry_at, said: String::new() };
        assert_eq!(overview.refresh_due_at(), Some(retry_at));
        overview.connection = Connection::Broken(Broken { since: at, said: String::new() });
        assert_eq!(overview.refresh_due_at(), None);
        overview.intent = Some(Intent { since: at });
        assert!(overview.is_refresh_due(at));
    }

    #[test]
    fn a_check_is_due_an_interval_after_the_last_and_at_once_without_one() {
        let mut overview = sample::installation().overview();
        let now = overview.issued_at + HOUR;
        assert_eq!(overview.check_due_at(HOUR * 12, now), now);
        let check = |at| Some(LastCheck { at, health: Health::Operational, code: None, said: None });
        overview.last_check = check(now - HOUR);
        assert_eq!(overview.check_due_at(HOUR * 12, now), now + HOUR * 11);
        overview.last_check = check(now - HOUR * 20);
        assert!(overview.check_due_at(HOUR * 12, now) < now);
        let failed = LastCheck { at: now, health: Health::Down, code: None, said: None };
        overview.last_check = Some(failed);
        assert_eq!(overview.check_due_at(HOUR * 12, now), now + AFTER_A_FAILED_CHECK);
        // The clock was an hour ahead, and then years.
        overview.last_check = check(now + HOUR);
        assert_eq!(overview.check_due_at(HOUR * 12, now), now + HOUR * 13);
        overview.last_check = check(now + HOUR * 10_000);
        assert_eq!(overview.check_due_at(HOUR * 12, now), now);
    }

    #[test]
    fn a_check_is_late_by_more_than_an_eighth_of_its_interval() {
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        let start = Timestamp::from_millis(1_790_000_000_000);
        let ids = ["a", "b", "c"].map(|id| InstallationId::Location(id.parse().expect("an id")));
        let check = |interval: Duration, ages: &[u64], all_were_late: bool| {
            let now = start + minutes(100_000);
            let lasts: Vec<_> = ids.iter().cloned().zip(ages.iter().map(|age| now - minutes(*age))).collect();
            match lateness(&lasts, interval, now, all_were_late) {
                Lateness::InTime => "nobody".to_owned(),
                Lateness::Some(late) => late.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>().join(" "),
                Lateness::All(late) => {
                    assert_eq!(late.due, late.last + interval);
                    format!("all since {}", now.since(late.last).as_secs() / 60)
                }
            }
        };
        assert_eq!(check(HOUR * 12, &[810, 810, 0], false), "nobody");
        assert_eq!(check(HOUR * 12, &[811, 810, 0], false), "a");
        assert_eq!(check(HOUR * 12, &[811, 900, 1000], false), "all since 811");
        // Those that wait for their turn after that are not each a trouble of their own.
        assert_eq!(check(HOUR * 12, &[0, 900, 1000], true), "all since 900");
        assert_eq!(check(HOUR * 12, &[0, 1, 2], true), "nobody");
        assert_eq!(check(HOUR, &[75], false), "nobody");
        assert_eq!(check(HOUR, &[76], false), "all since 76");
        assert_eq!(check(HOUR, &[], false), "nobody");
        // The clock has been set back.
        let ahead = [(ids[0].clone(), start + minutes(1000))];
        assert_eq!(lateness(&ahead, HOUR, start, false), Lateness::InTime);
    }
}
