//! When an installation is next due: pure, and from what rests in the store, so that the first run,
//! a restart and a second process come to the same.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::health::Health;
use crate::installation::{Connection, InstallationId, Overview};

/// Refreshes of tokens that were issued together are spread over this part of their life, after the
/// first half of it.
const SPREAD: u32 = 8;

/// A check that failed is made again after this long, so that people are told in time.
pub const AFTER_A_FAILED_CHECK: Duration = Duration::from_secs(5 * 60);

impl Overview {
    /// When a refresh is due unasked: at half of the token's life and a while after, which differs
    /// from id to id; after a failure, when it was put off to; never when only a person can help.
    pub fn refresh_due_at(&self) -> Option<Timestamp> {
        if self.intent.is_some() {
            return Some(self.issued_at);
        }
        match &self.connection {
            Connection::Connected => Some(self.half_life_at() + part_of(&self.id, self.life() / SPREAD)),
            Connection::Uncertain { retry_at, .. } | Connection::Suspended { retry_at, .. } => {
                Some(*retry_at)
            }
            Connection::Broken(_) => None,
        }
    }

    /// When the next check is due, `interval` after the last one, sooner when that one failed; at once
    /// when there was none, or when the last one lies ahead of the clock, which has been set back.
    pub fn check_due_at(&self, interval: Duration, now: Timestamp) -> Timestamp {
        match &self.last_check {
            Some(check) if check.at <= now && check.health == Health::Down => {
                check.at + interval.min(AFTER_A_FAILED_CHECK)
            }
            Some(check) if check.at <= now => check.at + interval,
            Some(_) | None => now,
        }
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
        assert_eq!(overview.refresh_due_at(), Some(at));
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
        overview.last_check = check(now + HOUR * 10_000);
        assert_eq!(overview.check_due_at(HOUR * 12, now), now);
    }
}
