//! Decides what a request for a token calls for, from an installation and a time alone.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::installation::{Broken, Connection, Installation};
use crate::rules::{Rule, holds};

/// What to do next for an installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Hand out the token that is there.
    Use,
    /// Get a new set; should that take long or fail, the present token still serves the caller.
    UseAndRefresh,
    /// Get a new set first: the present token does not last the caller.
    Refresh,
    /// Wait: the last tries failed, and the next is not due before this instant.
    Rest(Timestamp),
    /// Only a person can help.
    NeedsPerson(Broken),
}

impl Installation {
    /// Decides the next step at `now` for a caller who needs the token for `minimum_life` more.
    ///
    /// A token is refreshed from half of its life on, so that hours remain to heal whatever goes
    /// wrong; whenever it would not last the caller; and at once, however the connection stood, when
    /// someone began to exchange it and did not say how that ended, because the answer can be had
    /// again for 30 seconds only.
    pub fn next_step(&self, now: Timestamp, minimum_life: Duration) -> Step {
        let lasts = self.lasts(now, minimum_life);
        let due = match &self.connection {
            _ if self.was_left_in_the_air() => true,
            Connection::Connected => {
                let (half_life_at, issued_at) = (self.tokens.half_life_at(), self.tokens.issued_at);
                !lasts || now >= half_life_at || are_of_a_clock_ahead(issued_at, self.tokens.life(), now)
            }
            Connection::Uncertain { retry_at, .. } | Connection::Suspended { retry_at, .. } => {
                is_retry_due(*retry_at, now)
            }
            Connection::Broken(_) => false,
        };
        match (due, lasts, &self.connection) {
            (true, true, _) => Step::UseAndRefresh,
            (false, true, _) => Step::Use,
            (false, false, Connection::Broken(broken)) => Step::NeedsPerson(broken.clone()),
            (
                false,
                false,
                Connection::Uncertain { retry_at, .. } | Connection::Suspended { retry_at, .. },
            ) => Step::Rest(*retry_at),
            (true, false, _) | (false, false, Connection::Connected) => Step::Refresh,
        }
    }

    /// Until when `next_step` says `Use` to a caller who needs the token for no longer: what a copy of
    /// this installation is good for, unless the store says that it has changed.
    pub fn used_until(&self) -> Timestamp {
        let expires_at = self.tokens.expires_at;
        match &self.connection {
            _ if self.was_left_in_the_air() => Timestamp::from_millis(i64::MIN),
            Connection::Connected => self.tokens.half_life_at().min(expires_at),
            Connection::Uncertain { retry_at, .. } | Connection::Suspended { retry_at, .. } => {
                (*retry_at).min(expires_at)
            }
            Connection::Broken(_) => expires_at,
        }
    }

    fn was_left_in_the_air(&self) -> bool {
        holds(Rule::Intent) && self.intent.is_some()
    }

    /// Whether the access token lives for longer than `minimum_life` from `now`.
    pub fn lasts(&self, now: Timestamp, minimum_life: Duration) -> bool {
        now + minimum_life < self.tokens.expires_at
    }
}

/// When to try again unasked after `attempts` refreshes without a usable answer.
pub(crate) fn retry_after_silence(attempts: u32) -> Duration {
    match attempts {
        0 | 1 => Duration::from_secs(30),
        2 => Duration::from_secs(2 * 60),
        3 => Duration::from_secs(10 * 60),
        _ => Duration::from_secs(60 * 60),
    }
}

/// Whether tokens were issued by a clock that has been set back since, so far that by ours they would
/// be refreshed too late: a quarter of their life leaves an eighth of it for that.
pub(crate) fn are_of_a_clock_ahead(issued_at: Timestamp, life: Duration, now: Timestamp) -> bool {
    issued_at > now + life / 4
}

/// Whether it is time to try again. Nothing rests for longer than an hour: what does was put off by
/// a clock that has been set back since.
pub(crate) fn is_retry_due(retry_at: Timestamp, now: Timestamp) -> bool {
    now >= retry_at || retry_at > now + RETRY_AFTER_SUSPENSION * 2
}

/// When to ask again unasked after HighLevel said that the location is not active: within the hour
/// in which it comes back, however long it was away.
pub(crate) const RETRY_AFTER_SUSPENSION: Duration = Duration::from_secs(60 * 60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    const HOUR: Duration = Duration::from_secs(3600);

    fn check(connection: Connection, age: Duration, minimum_life: Duration, expected: Step) {
        let mut installation = sample::installation();
        installation.connection = connection;
        let now = installation.tokens.issued_at + age;
        assert_eq!(installation.next_step(now, minimum_life), expected, "{installation:?} after {age:?}");
    }

    fn at(hours: u32) -> Timestamp {
        sample::installation().tokens.issued_at + HOUR * hours
    }

    #[test]
    fn a_connected_token_is_used_in_the_first_half_of_its_life() {
        check(Connection::Connected, HOUR, HOUR, Step::Use);
        check(Connection::Connected, HOUR * 11, HOUR, Step::Use);
        check(Connection::Connected, HOUR * 12, HOUR, Step::UseAndRefresh);
        check(Connection::Connected, HOUR * 30, HOUR, Step::Refresh);
    }

    #[test]
    fn a_token_that_would_not_last_is_refreshed_early() {
        check(Connection::Connected, HOUR, HOUR * 22, Step::Use);
        check(Connection::Connected, HOUR, HOUR * 23, Step::Refresh);
    }

    #[test]
    fn after_a_failure_the_living_token_is_used_until_the_next_try() {
        let uncertain =
            || Connection::Uncertain { since: at(12), attempts: 1, retry_at: at(13), said: String::new() };
        check(uncertain(), HOUR * 12, HOUR, Step::Use);
        check(uncertain(), HOUR * 13, HOUR, Step::UseAndRefresh);
        let late =
            || Connection::Suspended { since: at(12), attempts: 9, retry_at: at(40), said: String::new() };
        check(late(), HOUR * 39, HOUR, Step::Rest(at(40)));
        check(late(), HOUR * 40, HOUR, Step::Refresh);
    }

    #[test]
    fn a_broken_grant_serves_the_token_that_still_lives_and_then_needs_a_person() {
        let broken = Broken { since: at(12), said: "Invalid grant: refresh token is invalid".into() };
        check(Connection::Broken(broken.clone()), HOUR * 13, HOUR, Step::Use);
        check(Connection::Broken(broken.clone()), HOUR * 24, HOUR, Step::NeedsPerson(broken));
    }

    #[test]
    fn a_copy_is_good_for_as_long_as_its_token_is_used() {
        let uncertain =
            Connection::Uncertain { since: at(12), attempts: 1, retry_at: at(13), said: String::new() };
        let broken = Connection::Broken(Broken { since: at(12), said: String::new() });
        for (connection, until) in [(Connection::Connected, at(12)), (uncertain, at(13)), (broken, at(24))] {
            let mut installation = sample::installation();
            installation.connection = connection;
            let last = until - Duration::from_millis(1);
            assert_eq!(installation.used_until(), until);
            assert_eq!(installation.next_step(last, Duration::ZERO), Step::Use);
            assert_ne!(installation.next_step(until, Duration::ZERO), Step::Use);
            installation.intent = Some(crate::installation::Intent { since: at(1) });
            assert!(installation.used_until() < at(1));
        }
    }

    #[test]
    fn an_exchange_that_nobody_ended_is_taken_up_at_once_however_the_connection_stood() {
        let rest = |attempts| (at(1), attempts, at(20), String::new());
        let (since, attempts, retry_at, said) = rest(1);
        let uncertain = Connection::Uncertain { since, attempts, retry_at, said };
        let (since, attempts, retry_at, said) = rest(2);
        let suspended = Connection::Suspended { since, attempts, retry_at, said };
        let broken = Connection::Broken(Broken { since, said: String::new() });
        for connection in [Connection::Connected, uncertain, suspended, broken] {
            let mut installation = sample::installation();
            installation.connection = connection;
            installation.intent = Some(crate::installation::Intent { since: at(1) });
            assert_eq!(installation.next_step(at(1), HOUR), Step::UseAndRefresh);
            assert_eq!(installation.next_step(at(24), HOUR), Step::Refresh);
        }
    }

    #[test]
    fn what_a_clock_that_was_ahead_has_noted_counts_no_more() {
        let mut installation = sample::installation();
        let (issued_at, life) = (installation.tokens.issued_at, installation.tokens.life());
        // A clock that goes a little wrong costs nothing.
        assert_eq!(installation.next_step(issued_at - life / 4, HOUR), Step::Use);
        assert_eq!(installation.next_step(issued_at - life / 4 - HOUR, HOUR), Step::UseAndRefresh);
        let retry_at = issued_at + HOUR * 3;
        let uncertain =
            Connection::Uncertain { since: issued_at, attempts: 1, retry_at, said: String::new() };
        installation.connection = uncertain;
        assert_eq!(installation.next_step(issued_at + HOUR, HOUR), Step::Use);
        assert_eq!(installation.next_step(issued_at, HOUR), Step::UseAndRefresh);
    }
}
