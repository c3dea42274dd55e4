//! HighLevel's rate limit for one app on one location or company, as we reckon it: pure, so that time can
//! be anything.
//!
//! HighLevel says how many calls it takes within an interval, and not when the interval begins. So a
//! call counts from the moment it is sent until an interval after it was answered: whichever way
//! HighLevel counts, it never counts more of ours at once. What it says is left, and we know nothing of,
//! others have used.

use std::collections::VecDeque;
use std::time::Duration;

use highlevel::Told;
use tokio::time::Instant;

/// How finely calls are told apart that count no more: of each interval, so many parts.
const PARTS: u32 = 100;

/// Observations of the day's calls are so far apart, and so many of them are kept.
const OBSERVED_EVERY: Duration = Duration::from_secs(60);
const OBSERVATIONS: usize = 60;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// What is taken for HighLevel's limits until it tells them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// So many calls.
    pub calls: u32,
    /// Within so long.
    pub interval: Duration,
    /// And so many within a day.
    pub daily: u64,
}

impl Limits {
    /// Of an app: 100 in ten seconds and 200,000 a day (HighLevel's rate limits page).
    pub const APP: Self = Self { calls: 100, interval: Duration::from_secs(10), daily: 200_000 };

    /// Of a Private Integration Token in a sandbox agency: 25 in ten seconds and 10,000 a day (measured by a
    /// third party, 2026-08).
    pub const SANDBOX_PIT: Self = Self { calls: 25, interval: Duration::from_secs(10), daily: 10_000 };
}

/// How much of it is used.
#[derive(Debug)]
pub(crate) struct Budget {
    calls: u32,
    interval: Duration,
    /// Sent and not answered yet.
    in_the_air: u32,
    /// Answered, or others', by when they count no more.
    counting: VecDeque<(Instant, u32)>,
    counted: u32,
    /// HighLevel said that it takes no more until then.
    closed_until: Option<Instant>,
    daily: Daily,
}

/// How the day's calls stand, as HighLevel told.
#[derive(Debug)]
struct Daily {
    limit: u64,
    /// What was left, and when that was told.
    remaining: Option<(u64, Instant)>,
    renewed_at: Option<Instant>,
    /// What was used, now and then.
    observed: VecDeque<(Instant, u64)>,
}

/// Whether a call may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// It may.
    Free,
    /// Not before then.
    From(Instant),
    /// The day's calls are used up, until then as far as is known.
    DayIsSpent(Option<Instant>),
}

/// When the day's calls will be used up, as they go now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Forecast {
    pub(crate) remaining: u64,
    pub(crate) limit: u64,
    pub(crate) spent_in: Duration,
}

impl Budget {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            calls: limits.calls,
            interval: limits.interval,
            in_the_air: 0,
            counting: VecDeque::new(),
            counted: 0,
            closed_until: None,
            daily: Daily {
                limit: limits.daily,
                remaining: None,
                renewed_at: None,
                observed: VecDeque::new(),
            },
        }
    }

    /// How many calls there are in an interval.
    pub(crate) fn calls(&self) -> u32 {
        self.calls
    }

    /// The interval.
    pub(crate) fn interval(&self) -> Duration {
        self.interval
    }

    /// How many calls may be sent at once.
    pub(crate) fn remaining(&mut self, now: Instant) -> u32 {
        self.forget(now);
        self.calls.saturating_sub(self.in_the_air + self.counted)
    }

    /// What is left of the day, as far as it was told.
    pub(crate) fn daily_remaining(&self, now: Instant) -> Option<u64> {
        let (remaining, _) = self.daily.remaining?;
        match self.daily.renewed_at.is_some_and(|at| at <= now) {
            true => None,
            false => Some(remaining),
        }
    }

    /// Whether one more may be sent, by what HighLevel said itself.
    pub(crate) fn door(&self, now: Instant) -> Room {
        if let Some((0, told_at)) = self.daily.remaining {
            // It is asked again now and then: others may know of a larger limit.
            let until = self.daily.renewed_at.unwrap_or(told_at + OBSERVED_EVERY);
            if now < until {
                return Room::DayIsSpent(self.daily.renewed_at);
            }
        }
        match self.closed_until.filter(|until| now < *until) {
            Some(until) => Room::From(until),
            None => Room::Free,
        }
    }

    /// Whether one more may be sent.
    pub(crate) fn room(&mut self, now: Instant) -> Room {
        match self.door(now) {
            Room::Free => {}
            closed => return closed,
        }
        if self.remaining(now) > 0 {
            return Room::Free;
        }
        // Where all are in the air, one of them may be answered at any moment, and counts on for an interval.
        let next = self.counting.front().map_or(now + self.interval, |(until, _)| *until);
        Room::From(next)
    }

    /// One is sent.
    pub(crate) fn send(&mut self) {
        self.in_the_air += 1;
    }

    /// One is not sent after all.
    pub(crate) fn unsend(&mut self) {
        self.in_the_air = self.in_the_air.saturating_sub(1);
    }

    /// One that was sent is answered, or never will be.
    pub(crate) fn answered(&mut self, now: Instant) {
        self.in_the_air = self.in_the_air.saturating_sub(1);
        self.count(1, now);
    }

    /// What an answer tells. It is of the moment when it was given: calls that were sent meanwhile may not be
    /// in it.
    pub(crate) fn learn(&mut self, told: &Told, now: Instant) {
        if let Some(calls) = told.limit.and_then(|limit| u32::try_from(limit).ok()).filter(|limit| *limit > 0)
        {
            self.calls = calls;
        }
        let sane = Duration::from_millis(100)..=Duration::from_secs(3600);
        let is_news = |interval: &Duration| sane.contains(interval) && *interval != self.interval;
        if let Some(interval) = told.interval.filter(is_news) {
            self.interval = interval;
            // Nothing counts for longer than what is counted from now on.
            let latest = now + interval + interval / PARTS;
            self.counting.iter_mut().for_each(|(until, _)| *until = latest.min(*until));
        }
        if let Some(remaining) = told.remaining.and_then(|remaining| u32::try_from(remaining).ok()) {
            self.forget(now);
            let used = self.calls.saturating_sub(remaining);
            let others = used.saturating_sub(self.in_the_air + self.counted);
            self.count(others, now);
        }
        self.daily.learn(told, now);
    }

    /// HighLevel took one no more: none is sent for as long as it says, or for an interval.
    pub(crate) fn close(&mut self, told: &Told, jitter: Duration, now: Instant) {
        let wait = told.retry_after.unwrap_or(self.interval).min(Duration::from_secs(3600)) + jitter;
        let until = now + wait;
        if self.closed_until.is_none_or(|before| before < until) {
            self.closed_until = Some(until);
        }
    }

    /// When the day's calls will be used up, if that is before they are renewed.
    pub(crate) fn forecast(&self, now: Instant) -> Option<Forecast> {
        let remaining = self.daily_remaining(now)?;
        let (limit, daily) = (self.daily.limit, &self.daily);
        if remaining == 0 {
            return Some(Forecast { remaining, limit, spent_in: Duration::ZERO });
        }
        let (since, used_then) = *daily.observed.front()?;
        let span = now.saturating_duration_since(since);
        let used = limit.saturating_sub(remaining).saturating_sub(used_then);
        if span < OBSERVED_EVERY || used == 0 {
            return None;
        }
        let spent_in = span.mul_f64(remaining as f64 / used as f64);
        let renewed_in = daily.renewed_at.map_or(DAY, |at| at.saturating_duration_since(now));
        (spent_in < renewed_in).then_some(Forecast { remaining, limit, spent_in })
    }

    /// Whether it is as if it were new.
    pub(crate) fn is_idle(&mut self, now: Instant) -> bool {
        self.forget(now);
        self.in_the_air == 0
            && self.counted == 0
            && self.closed_until.is_none_or(|until| until <= now)
            && self.daily.remaining.is_none_or(|(_, at)| now.saturating_duration_since(at) > DAY)
    }

    fn count(&mut self, calls: u32, now: Instant) {
        if calls == 0 {
            return;
        }
        self.counted += calls;
        let until = now + self.interval;
        let part = self.interval / PARTS;
        match self.counting.back_mut() {
            // Those of one part of the interval count together, for as long as the last of them may.
            Some((last, count)) if until <= *last => *count += calls,
            _ => self.counting.push_back((until + part, calls)),
        }
    }

    fn forget(&mut self, now: Instant) {
        while let Some((until, calls)) = self.counting.front()
            && *until <= now
        {
            self.counted = self.counted.saturating_sub(*calls);
            self.counting.pop_front();
        }
    }
}

impl Daily {
    fn learn(&mut self, told: &Told, now: Instant) {
        if let Some(limit) = told.daily_limit.filter(|limit| *limit > 0) {
            self.limit = limit;
        }
        if let Some(reset) = told.daily_reset.filter(|reset| *reset <= DAY) {
            self.renewed_at = Some(now + reset);
        }
        let Some(remaining) = told.daily_remaining else { return };
        let used = self.limit.saturating_sub(remaining);
        if self.observed.back().is_some_and(|(_, before)| used < *before) {
            // A new day has begun, or an answer was overtaken: a small step back says nothing.
            let a_little = self.limit / 100 + 100;
            if self.observed.back().is_some_and(|(_, before)| used + a_little < *before) {
                self.observed.clear();
            }
        }
        self.remaining = Some((remaining, now));
        let is_time =
            self.observed.back().is_none_or(|(at, _)| now.saturating_duration_since(*at) >= OBSERVED_EVERY);
        if is_time {
            if self.observed.len() == OBSERVATIONS {
                self.observed.pop_front();
            }
            self.observed.push_back((now, used));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { calls: 5, interval: Duration::from_secs(10), daily: 1000 };

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn of_any_interval_no_more_is_sent_than_highlevel_takes() {
        // Calls are sent whenever there is room, and answered after a while that is never the same.
        let began = Instant::now();
        let mut budget = Budget::new(LIMITS);
        let (mut sent, mut in_the_air, mut seed) = (Vec::new(), Vec::new(), 7_u64);
        for step in 0..60_000_u64 {
            let now = began + millis(step);
            in_the_air.retain(|answered_at| {
                let is_answered = *answered_at <= now;
                if is_answered {
                    budget.answered(now);
                }
                !is_answered
            });
            if budget.room(now) == Room::Free {
                budget.send();
                sent.push(step);
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                in_the_air.push(now + millis(seed >> 57));
            }
        }
        for (at, from) in sent.iter().enumerate() {
            let within = sent[at..].iter().take_while(|to| *to - from < 10_000).count();
            assert!(within <= 5, "{within} calls in the ten seconds from {from} ms");
        }
        assert!(sent.len() >= 29, "{} of 30: nothing is left unused", sent.len());
    }

    #[test]
    fn what_others_used_counts_and_what_is_ours_counts_once() {
        let now = Instant::now();
        let mut budget = Budget::new(LIMITS);
        budget.send();
        budget.send();
        budget.answered(now);
        let told = Told { limit: Some(5), remaining: Some(4), ..Told::default() };
        budget.learn(&told, now);
        assert_eq!(budget.remaining(now), 3, "HighLevel has seen one of our two");
        budget.learn(&Told { remaining: Some(1), ..told }, now);
        assert_eq!(budget.remaining(now), 1, "two are others'");
        budget.learn(&Told { remaining: Some(1), ..told }, now);
        assert_eq!(budget.remaining(now), 1, "the same two");
        assert_eq!(budget.remaining(now + millis(10_101)), 4, "one of ours is in the air yet");
    }

    #[test]
    fn limits_are_learnt_and_a_refusal_closes_the_door_for_an_interval() {
        let now = Instant::now();
        let mut budget = Budget::new(LIMITS);
        let told = Told { limit: Some(25), interval: Some(millis(2000)), ..Told::default() };
        budget.learn(&told, now);
        assert_eq!((budget.calls(), budget.interval(), budget.remaining(now)), (25, millis(2000), 25));
        budget.close(&Told::default(), millis(50), now);
        assert_eq!(budget.room(now), Room::From(now + millis(2050)));
        // What was counted under a longer interval counts no longer than under the one that was told.
        let mut budget = Budget::new(LIMITS);
        budget.send();
        budget.answered(now);
        budget.learn(&told, now);
        budget.send();
        budget.answered(now);
        assert_eq!(budget.remaining(now + millis(2021)), 25);
        budget.close(&Told::default(), millis(50), now);
        budget.close(&Told { retry_after: Some(millis(500)), ..Told::default() }, Duration::ZERO, now);
        assert_eq!(budget.room(now), Room::From(now + millis(2050)), "the longer one holds");
        assert_eq!(budget.room(now + millis(2050)), Room::Free);
        let odd = Told { limit: Some(0), interval: Some(Duration::ZERO), ..Told::default() };
        budget.learn(&odd, now);
        assert_eq!((budget.calls(), budget.interval()), (25, millis(2000)), "nothing odd is believed");
    }

    #[test]
    fn the_day_is_spent_when_highlevel_says_so_and_foreseen_before() {
        let began = Instant::now();
        let hour = Duration::from_secs(3600);
        let mut budget = Budget::new(LIMITS);
        let told = |remaining, reset| Told {
            daily_limit: Some(1000),
            daily_remaining: Some(remaining),
            daily_reset: Some(reset),
            ..Told::default()
        };
        budget.learn(&told(1000, hour * 20), began);
        assert_eq!(budget.forecast(began), None, "nothing was used yet");
        budget.learn(&told(900, hour * 19), began + hour);
        let forecast = budget.forecast(began + hour).expect("a hundred an hour for 19 hours");
        assert_eq!((forecast.remaining, forecast.spent_in.as_secs() / 3600), (900, 9));
        budget.learn(&told(895, hour * 8), began + hour * 12);
        assert_eq!(budget.forecast(began + hour * 12), None, "it went slower since");
        budget.learn(&told(0, hour), began + hour * 13);
        let renewed_at = began + hour * 14;
        assert_eq!(budget.room(began + hour * 13), Room::DayIsSpent(Some(renewed_at)));
        assert_eq!(budget.room(renewed_at), Room::Free);
        assert_eq!(budget.daily_remaining(renewed_at), None, "nobody has told yet");
        // A new day begins a new observation.
        budget.learn(&told(999, hour * 23), renewed_at + hour);
        assert_eq!(budget.forecast(renewed_at + hour), None);
    }
}
