//! How the whole is: decided from how each part stands.

use std::collections::BTreeSet;

use tokens::records::CheckQuery;
use tokens::{CheckRecord, Health, InstallationId, Overview, Standing, StoreError, Subject, Timestamp};
use tokio::time::{Instant, timeout};

use super::{FOUND_WITHIN, State, fresh};
use crate::front::Front;

/// Of more troubles than these it is not asked whom each is about.
const MOST_TROUBLES: usize = 200;

/// So many of the latest checks tell whether anything works where there are more troubles than that.
const LATEST: usize = 50;

/// Someone who does not stand well.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Trouble {
    subject: Subject,
    health: Health,
    since: Timestamp,
}

/// What is known of the whole.
#[derive(Debug, Default)]
struct Known {
    /// How many installations there are that are not paused.
    kept: u64,
    /// Who does not stand well, as far as they are still there.
    troubles: Vec<Trouble>,
    /// Whether there are more of them.
    goes_on: bool,
    /// What the latest checks found, the newest first.
    latest: Vec<Health>,
    /// Whether the latest check of all is too long ago.
    is_late: bool,
}

/// Unknown: nobody looks. Up: all that was checked works. Down: nothing does. Late: whatever is between the two.
fn state(known: &Known) -> State {
    let is_bad =
        |trouble: &&Trouble| matches!(trouble.subject, Subject::Installation(_)) && !trouble.health.is_good();
    let bad = u64::try_from(known.troubles.iter().filter(is_bad).count()).unwrap_or(u64::MAX);
    match known {
        Known { kept: 0, .. } => State::Unknown,
        Known { latest, .. } if latest.is_empty() => State::Unknown,
        Known { goes_on: true, latest, .. } if !latest.iter().any(|health| health.is_good()) => State::Down,
        Known { kept: 1.., goes_on: false, .. } if bad >= known.kept => State::Down,
        Known { troubles, is_late, .. } if !troubles.is_empty() || *is_late => State::Late,
        _ => State::Up,
    }
}

/// Who does not stand well: as it was noted, or as a later check found, which a command may have made.
fn troubles(standings: Vec<Standing>, latest: &[CheckRecord]) -> Vec<Trouble> {
    let noted = |Standing { subject, health, since, .. }| Trouble { subject, health, since };
    let mut troubles: Vec<Trouble> = standings.into_iter().map(noted).collect();
    let mut seen = BTreeSet::new();
    for check in latest.iter().filter(|check| seen.insert(&check.id)) {
        let subject = Subject::Installation(check.id.clone());
        let known = troubles.iter().position(|trouble| trouble.subject == subject);
        let is_well = check.health == Health::Operational;
        match known {
            Some(place) if troubles[place].since >= check.at => {}
            Some(place) if is_well => drop(troubles.remove(place)),
            Some(place) => troubles[place].health = check.health,
            None if is_well => {}
            None => troubles.push(Trouble { subject, health: check.health, since: check.at }),
        }
    }
    troubles
}

/// How one installation is.
pub(super) fn state_of(it: &Overview, is_late: impl FnOnce(Timestamp) -> bool, now: Timestamp) -> State {
    match (it.health(now), &it.last_check) {
        (None, _) => State::Unknown,
        (Some(Health::Operational), Some(check)) if is_late(check.at) => State::Late,
        (Some(Health::Operational), _) => State::Up,
        (Some(Health::Degraded), _) => State::Late,
        (Some(Health::Down | Health::Suspended | Health::NeedsPerson), _) => State::Down,
    }
}

/// The whole, and since when it has been in trouble.
pub(super) struct Whole {
    pub(super) state: State,
    pub(super) troubled_since: Option<Timestamp>,
    pub(super) checked_at: Option<Timestamp>,
}

impl Whole {
    /// Finds it out.
    pub(super) async fn find(front: &Front) -> Result<Self, StoreError> {
        let (house, now) = (&front.house, front.house.clock.now());
        let records = house.records.as_ref();
        let counts = house.keeper.store().counts().await?;
        let private = house.gateway.private.is_some();
        let standings = records.troubled(MOST_TROUBLES + 1).await?;
        let goes_on = standings.len() > MOST_TROUBLES;
        let latest = records.checks(&CheckQuery { id: None, before: None, limit: LATEST }).await?;
        let mut troubles = troubles(standings, &latest);
        // Whoever is paused is neither waited for nor complained of.
        let paused = records.paused(now).await?;
        troubles.retain(|trouble| match &trouble.subject {
            Subject::Installation(id) | Subject::Checks(Some(id)) => !paused.contains(id),
            Subject::Service | Subject::Checks(None) => true,
        });
        if !goes_on && !private {
            let mut still_there = Vec::new();
            for trouble in troubles {
                if is_there(front, &trouble.subject).await? {
                    still_there.push(trouble);
                }
            }
            troubles = still_there;
        }
        let checked_at = latest.first().map(|check| check.at);
        let troubled_since = troubles.iter().map(|trouble| trouble.since).min();
        let paused = u64::try_from(paused.len()).unwrap_or(u64::MAX);
        let kept = (counts.locations + counts.companies + u64::from(private)).saturating_sub(paused);
        let known = Known {
            kept,
            troubles,
            goes_on,
            latest: latest.iter().map(|check| check.health).collect(),
            is_late: checked_at.is_some_and(|at| house.upkeep.is_check_late(at, now)),
        };
        Ok(Self { state: state(&known), troubled_since, checked_at })
    }

    /// The word for it, where nothing more is wanted.
    pub(super) async fn word(front: &Front) -> State {
        let mut kept = front.board.whole.lock().await;
        if let Some(state) = fresh(kept.as_ref()) {
            return state;
        }
        let found = timeout(FOUND_WITHIN, Self::find(front)).await;
        // Who can't look can't say that all is well.
        let state = found.ok().and_then(Result::ok).map_or(State::Late, |whole| whole.state);
        *kept = Some((Instant::now(), state));
        state
    }
}

/// Whether someone who stood badly is still kept.
async fn is_there(front: &Front, subject: &Subject) -> Result<bool, StoreError> {
    match subject {
        Subject::Installation(id) | Subject::Checks(Some(id)) => Ok(overview(front, id).await?.is_some()),
        Subject::Service | Subject::Checks(None) => Ok(true),
    }
}

pub(super) async fn overview(front: &Front, id: &InstallationId) -> Result<Option<Overview>, StoreError> {
    let kept = front.house.keeper.store().load(id).await?;
    Ok(kept.map(|installation| installation.overview()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokens::LastCheck;
    use tokens::store::{Listing, Order};

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

    fn id(name: &str) -> InstallationId {
        InstallationId::from_parts("location", name).expect("an id")
    }

    fn standing(subject: Subject, health: Health) -> Standing {
        Standing { health, ..Standing::new(subject, NOW) }
    }

    fn check(name: &str, at: Timestamp, health: Health) -> CheckRecord {
        CheckRecord {
            id: id(name),
            at,
            took: Duration::ZERO,
            trigger: tokens::Trigger::Command,
            health,
            code: None,
            said: None,
            steps: Vec::new(),
        }
    }

    #[test]
    fn a_check_says_how_it_is_where_it_is_newer_than_what_was_noted() {
        let (before, after) = (NOW - Duration::from_secs(9), NOW + Duration::from_secs(9));
        let of = |latest: &[CheckRecord]| {
            let standings = vec![standing(Subject::Installation(id("a")), Health::Down)];
            let found = troubles(standings, latest).into_iter();
            found.map(|it| (it.subject, it.health, it.since)).collect::<Vec<_>>()
        };
        let a = |health| (Subject::Installation(id("a")), health, NOW);
        assert_eq!(of(&[]), [a(Health::Down)]);
        assert_eq!(of(&[check("a", before, Health::Operational)]), [a(Health::Down)]);
        assert_eq!(of(&[check("a", after, Health::Operational)]), []);
        assert_eq!(of(&[check("a", after, Health::Degraded)]), [a(Health::Degraded)]);
        let again = [check("a", after, Health::Operational), check("a", after, Health::Degraded)];
        assert_eq!(of(&again), [], "the newest one");
        let b = (Subject::Installation(id("b")), Health::Degraded, after);
        assert_eq!(of(&[check("b", after, Health::Degraded)]), [a(Health::Down), b]);
        assert_eq!(of(&[check("b", after, Health::Operational)]), [a(Health::Down)]);
    }

    #[test]
    fn the_whole_is_up_when_all_is_well_down_when_nothing_works_and_late_in_between() {
        let bad = |name: &str, health| standing(Subject::Installation(id(name)), health);
        let check = |kept, troubled: Vec<Standing>, latest: &[Health], expected| {
            let troubles = troubles(troubled, &[]);
            let known = Known { kept, troubles, latest: latest.to_vec(), ..Known::default() };
            assert_eq!(state(&known), expected, "{known:?}");
        };
        let good = [Health::Operational];
        check(2, vec![], &[], State::Unknown);
        check(2, vec![], &good, State::Up);
        check(2, vec![bad("a", Health::Degraded)], &good, State::Late);
        check(2, vec![bad("a", Health::Degraded), bad("b", Health::Degraded)], &good, State::Late);
        check(2, vec![bad("a", Health::Down)], &good, State::Late);
        check(2, vec![bad("a", Health::Down), bad("b", Health::Degraded)], &good, State::Late);
        check(2, vec![bad("a", Health::Down), bad("b", Health::NeedsPerson)], &good, State::Down);
        check(1, vec![bad("a", Health::Suspended)], &good, State::Down);
        check(1, vec![standing(Subject::Checks(None), Health::Degraded)], &good, State::Late);
        check(1, vec![standing(Subject::Checks(Some(id("a"))), Health::Degraded)], &good, State::Late);
        check(1, vec![standing(Subject::Service, Health::Down)], &good, State::Late);
        check(0, vec![], &good, State::Unknown);
    }

    #[test]
    fn of_very_many_troubles_the_latest_checks_say_whether_anything_works() {
        let many = |latest: &[Health]| {
            let troubled = vec![standing(Subject::Installation(id("a")), Health::Down); MOST_TROUBLES + 1];
            state(&Known {
                kept: 100_000,
                troubles: troubles(troubled, &[]),
                goes_on: true,
                latest: latest.to_vec(),
                ..Known::default()
            })
        };
        assert_eq!(many(&[Health::Down, Health::NeedsPerson]), State::Down);
        assert_eq!(many(&[Health::Down, Health::Operational]), State::Late);
    }

    #[test]
    fn checks_that_do_not_come_make_it_late() {
        let latest = vec![Health::Operational];
        let known = Known { kept: 1, latest, is_late: true, ..Known::default() };
        assert_eq!(state(&known), State::Late);
    }

    #[test]
    fn an_installation_goes_from_up_to_late_when_the_clock_moves_and_its_check_does_not_come() {
        let interval = Duration::from_secs(3600);
        let at = |health| {
            let check = LastCheck { at: NOW, health, code: None, said: None };
            let last_check = Some(check);
            Overview { last_check, ..Listing::place(Order::Id, None, id("a")) }
        };
        let of = |health, now: Timestamp| {
            state_of(&at(health), |checked_at| now.since(checked_at) > interval * 2, now)
        };
        assert_eq!(of(Health::Operational, NOW + interval), State::Up);
        assert_eq!(of(Health::Operational, NOW + interval * 3), State::Late);
        assert_eq!(of(Health::Degraded, NOW), State::Late);
        for health in [Health::Down, Health::Suspended, Health::NeedsPerson] {
            assert_eq!(of(health, NOW), State::Down);
            assert_eq!(of(health, NOW + interval * 3), State::Down);
        }
        let never = Listing::place(Order::Id, None, id("a"));
        assert_eq!(state_of(&never, |_| true, NOW), State::Unknown);
    }
}
