//! Whose turn it is: callers of one app and location wait here rather than meet HighLevel's 429.
//!
//! Those in whose lane someone waits for an answer go first, and a batch always gets a little; within a lane
//! the keys take turns, so that one that asks a thousand times at once keeps no other waiting; and what one
//! key asks goes in its order. Where several processes share a budget, one question to the store brings
//! the turns of all who wait here.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use highlevel::Told;
use tokens::records::{KeyId, Permits};
use tokens::{Lane, Records, StoreError};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout_at};

use super::budget::{Budget, Forecast, Limits, Room};
use crate::auth::held;

/// Of so many turns, one is a batch's even if others wait.
const ONE_IN: u32 = 10;

/// What has changed meanwhile is looked at again after so long at the latest.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Of a budget that is shared, no more are asked for at once.
const MOST_AT_ONCE: u32 = 50;

/// A turn of a shared budget counts from when it is given, and HighLevel counts from when a call comes: of an
/// interval, one part in so many is allowed for calls that take longer on their way than those after them.
const LATE_BY_ONE_IN: u32 = 50;

/// The turns of one app on one location or company.
pub(crate) struct Turns {
    state: Mutex<State>,
    /// Where the budget is shared, and by what name.
    shared: Option<Shared>,
}

pub(crate) struct Shared {
    pub(crate) records: Arc<dyn Records>,
    pub(crate) name: String,
}

struct State {
    budget: Budget,
    waiting: Waiting<oneshot::Sender<Turn>>,
    has_usher: bool,
}

/// A turn: what is sent with it counts.
pub(crate) struct Turn {
    turns: Arc<Turns>,
    is_answered: bool,
}

/// Why there is no turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoTurn {
    /// None came within the time that the caller has; one may after this long.
    TooLate(Duration),
    /// The day's calls are used up; they are renewed after so long, if that is known.
    DayIsSpent(Option<Duration>),
}

/// What is known of a budget, to be told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub(crate) remaining: u32,
    pub(crate) daily_remaining: Option<u64>,
    pub(crate) forecast: Option<Forecast>,
    pub(crate) waiting: usize,
}

impl Turns {
    pub(crate) fn new(limits: Limits, shared: Option<Shared>) -> Arc<Self> {
        let state = State { budget: Budget::new(limits), waiting: Waiting::default(), has_usher: false };
        Arc::new(Self { state: Mutex::new(state), shared })
    }

    /// A turn at once, whatever is left. Whether one would have had to wait for it.
    pub(crate) fn without_waiting(self: &Arc<Self>, now: Instant) -> (Turn, bool) {
        let mut state = held(&self.state);
        let would_wait = state.budget.room(now) != Room::Free;
        state.budget.send();
        drop(state);
        (Turn { turns: self.clone(), is_answered: false }, would_wait)
    }

    /// A turn at once, if there is one and nobody waits for it.
    pub(crate) fn at_once(self: &Arc<Self>, now: Instant) -> Option<Turn> {
        if self.shared.is_some() {
            return None;
        }
        let mut state = held(&self.state);
        if !state.waiting.is_empty() || state.budget.room(now) != Room::Free {
            return None;
        }
        state.budget.send();
        drop(state);
        Some(Turn { turns: self.clone(), is_answered: false })
    }

    /// Waits for a turn until `deadline`.
    pub(crate) async fn wait(
        self: &Arc<Self>,
        lane: Lane,
        key: &KeyId,
        deadline: Instant,
    ) -> Result<Turn, NoTurn> {
        let came = {
            let mut state = held(&self.state);
            if let Room::DayIsSpent(until) = state.budget.door(Instant::now()) {
                return Err(NoTurn::DayIsSpent(until.map(|until| until - Instant::now())));
            }
            let (turn, came) = oneshot::channel();
            state.waiting.push(lane, key, turn);
            if !state.has_usher {
                state.has_usher = true;
                tokio::spawn(Usher { turns: self.clone(), is_needed: true }.work());
            }
            came
        };
        match timeout_at(deadline, came).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) | Err(_) => {
                let now = Instant::now();
                Err(match held(&self.state).budget.room(now) {
                    Room::Free => NoTurn::TooLate(LOOK_AGAIN),
                    Room::From(at) => NoTurn::TooLate(at.saturating_duration_since(now)),
                    Room::DayIsSpent(until) => {
                        NoTurn::DayIsSpent(until.map(|at| at.saturating_duration_since(now)))
                    }
                })
            }
        }
    }

    /// HighLevel took one no more.
    pub(crate) fn close(&self, told: &Told, jitter: Duration) {
        held(&self.state).budget.close(told, jitter, Instant::now());
    }

    /// What is known.
    pub(crate) fn known(&self) -> Known {
        let (mut state, now) = (held(&self.state), Instant::now());
        Known {
            remaining: state.budget.remaining(now),
            daily_remaining: state.budget.daily_remaining(now),
            forecast: state.budget.forecast(now),
            waiting: state.waiting.len(),
        }
    }

    /// Whether nothing is lost when it is forgotten.
    pub(crate) fn is_idle(&self) -> bool {
        let mut state = held(&self.state);
        state.waiting.is_empty() && state.budget.is_idle(Instant::now())
    }
}

impl Turn {
    /// HighLevel answered. When the day's calls will be used up, if they will.
    pub(crate) fn answered(mut self, told: &Told, now: Instant) -> Option<Forecast> {
        self.is_answered = true;
        let mut state = held(&self.turns.state);
        state.budget.answered(now);
        state.budget.learn(told, now);
        state.budget.forecast(now)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.is_answered {
            held(&self.turns.state).budget.answered(Instant::now());
        }
    }
}

/// Gives turns to those who wait, and goes when nobody does.
struct Usher {
    turns: Arc<Turns>,
    is_needed: bool,
}

impl Drop for Usher {
    fn drop(&mut self) {
        // Its thread ends before its work: whoever comes next brings another.
        if self.is_needed {
            held(&self.turns.state).has_usher = false;
        }
    }
}

impl Usher {
    async fn work(mut self) {
        loop {
            let pause = match &self.turns.shared {
                None => self.give(None),
                Some(shared) => match self.ask(shared).await {
                    Ok(Some(permits)) => self.give(Some(permits)),
                    Ok(None) => self.give(None),
                    Err(error) => {
                        tracing::warn!(%error, "the shared rate budget can't be asked; this process reckons by itself");
                        self.give(None)
                    }
                },
            };
            match pause {
                Some(pause) => sleep(pause.clamp(Duration::from_millis(1), LOOK_AGAIN)).await,
                None => {
                    self.is_needed = false;
                    return;
                }
            }
        }
    }

    async fn ask(&self, shared: &Shared) -> Result<Option<Permits>, StoreError> {
        let (wanted, calls, interval) = {
            let state = held(&self.turns.state);
            let wanted = match state.budget.door(Instant::now()) {
                Room::Free => u32::try_from(state.waiting.len()).unwrap_or(MOST_AT_ONCE).min(MOST_AT_ONCE),
                Room::From(_) | Room::DayIsSpent(_) => 0,
            };
            let interval = state.budget.interval();
            (wanted, state.budget.calls(), interval + interval / LATE_BY_ONE_IN)
        };
        if wanted == 0 {
            return Ok(Some(Permits { granted: 0, taken: 0, wait: LOOK_AGAIN }));
        }
        shared.records.take_permits(&shared.name, wanted, calls, interval).await
    }

    /// Gives turns: those that were granted, or all that there is room for. How long to wait for the next;
    /// none when nobody waits any more, and the usher is gone with that.
    fn give(&self, granted: Option<Permits>) -> Option<Duration> {
        let mut state = held(&self.turns.state);
        let mut left = granted.map_or(u32::MAX, |permits| permits.granted);
        loop {
            let now = Instant::now();
            let pause = match (granted, state.budget.door(now)) {
                (_, Room::From(at)) => Some(at.saturating_duration_since(now)),
                (_, Room::DayIsSpent(_)) => Some(LOOK_AGAIN),
                (Some(permits), Room::Free) => (left == 0).then_some(permits.wait),
                (None, Room::Free) => match state.budget.room(now) {
                    Room::From(at) => Some(at.saturating_duration_since(now)),
                    _ => None,
                },
            };
            if let Some(pause) = pause.filter(|_| !state.waiting.is_empty()) {
                return Some(pause);
            }
            let Some(next) = state.waiting.pop() else {
                state.has_usher = false;
                return None;
            };
            state.budget.send();
            match next.send(Turn { turns: self.turns.clone(), is_answered: false }) {
                Ok(()) => left = left.saturating_sub(1),
                // Whoever has gone away needs none.
                Err(mut turn) => {
                    turn.is_answered = true;
                    state.budget.unsend();
                }
            }
        }
    }
}

/// Those who wait, in the order in which they get their turns.
struct Waiting<T> {
    lanes: [VecDeque<(KeyId, VecDeque<T>)>; 2],
    count: usize,
    /// How many turns others had while a batch waited.
    passed_over: u32,
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self { lanes: Default::default(), count: 0, passed_over: 0 }
    }
}

impl<T> Waiting<T> {
    fn len(&self) -> usize {
        self.count
    }

    fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn push(&mut self, lane: Lane, key: &KeyId, one: T) {
        let lane = &mut self.lanes[lane as usize];
        match lane.iter_mut().find(|(other, _)| other == key) {
            Some((_, all)) => all.push_back(one),
            None => lane.push_back((key.clone(), VecDeque::from([one]))),
        }
        self.count += 1;
    }

    fn pop(&mut self) -> Option<T> {
        let [interactive, batch] = &mut self.lanes;
        let is_for_batch = !batch.is_empty() && (interactive.is_empty() || self.passed_over + 1 >= ONE_IN);
        self.passed_over = if is_for_batch || batch.is_empty() { 0 } else { self.passed_over + 1 };
        let lane = if is_for_batch { batch } else { interactive };
        let (key, mut all) = lane.pop_front()?;
        let one = all.pop_front();
        if !all.is_empty() {
            lane.push_back((key, all));
        }
        self.count -= usize::from(one.is_some());
        one
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(waiting: &mut Waiting<&'static str>) -> String {
        std::iter::from_fn(|| waiting.pop()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn keys_take_turns_and_each_ones_requests_go_in_their_order() {
        let key = |name: &str| KeyId(name.to_owned());
        let mut waiting = Waiting::default();
        for one in ["a1", "a2", "a3"] {
            waiting.push(Lane::Interactive, &key("a"), one);
        }
        waiting.push(Lane::Interactive, &key("b"), "b1");
        waiting.push(Lane::Interactive, &key("c"), "c1");
        waiting.push(Lane::Interactive, &key("b"), "b2");
        assert_eq!(waiting.len(), 6);
        assert_eq!(order(&mut waiting), "a1 b1 c1 a2 b2 a3");
        assert!(waiting.is_empty());
    }

    #[test]
    fn a_batch_waits_for_others_and_always_gets_a_little() {
        let key = KeyId("k".to_owned());
        let mut waiting = Waiting::default();
        for _ in 0..25 {
            waiting.push(Lane::Interactive, &key, ".");
            waiting.push(Lane::Batch, &key, "b");
        }
        let order = order(&mut waiting).replace(' ', "");
        assert!(order.starts_with(".........b.........b.......b"), "{order}");
        assert!(order.ends_with("bbbb"), "{order}");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_gets_a_turn_when_there_is_one_and_no_later_than_they_said() {
        let limits = Limits { calls: 2, interval: Duration::from_secs(10), daily: 1000 };
        let (turns, key) = (Turns::new(limits, None), KeyId("k".to_owned()));
        let began = Instant::now();
        for _ in 0..2 {
            turns.at_once(Instant::now()).expect("there are two").answered(&Told::default(), Instant::now());
        }
        assert!(turns.at_once(Instant::now()).is_none());
        let soon = began + Duration::from_secs(5);
        let late = turns.wait(Lane::Interactive, &key, soon).await.err();
        assert_eq!(late, Some(NoTurn::TooLate(Duration::from_millis(5100))));
        let turn =
            turns.wait(Lane::Interactive, &key, began + Duration::from_secs(30)).await.expect("a turn");
        let waited = began.elapsed();
        assert!((10_000..10_500).contains(&waited.as_millis()), "{waited:?}");
        turn.answered(&Told { daily_remaining: Some(0), ..Told::default() }, Instant::now());
        let spent = turns.wait(Lane::Interactive, &key, began + Duration::from_secs(60)).await.err();
        assert_eq!(spent, Some(NoTurn::DayIsSpent(None)));
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_away_takes_no_turn_along() {
        let limits = Limits { calls: 1, interval: Duration::from_secs(10), daily: 1000 };
        let (turns, key) = (Turns::new(limits, None), KeyId("k".to_owned()));
        drop(turns.at_once(Instant::now()).expect("there is one"));
        let gone = tokio::spawn({
            let (turns, key) = (turns.clone(), key.clone());
            async move { turns.wait(Lane::Interactive, &key, Instant::now() + Duration::from_secs(60)).await }
        });
        tokio::task::yield_now().await;
        gone.abort();
        let began = Instant::now();
        let turn = turns.wait(Lane::Interactive, &key, began + Duration::from_secs(11)).await;
        assert!(turn.is_ok(), "the one that comes free is for who still waits");
    }
}
