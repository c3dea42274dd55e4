//! A clock that is set wrong, and right again, while HighLevel's goes on: T-127.

use std::sync::Arc;
use std::time::Duration;

use tokens::{AuthorizationCode, Clock as _, Health, Installation, Records, Step, Timestamp};
use upkeep::Upkeep;

use crate::hook::Hook;
use crate::support::{DAY, HOUR, House, REDIRECT_URI, Rest, short_tokens, times};
use crate::{process, process_before, settings, told};

const ROUND: Duration = Duration::from_secs(5);
const MINUTE: Duration = Duration::from_secs(60);
const TEN_YEARS: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// At most so many refreshes are in the air at once.
const IN_THE_AIR: usize = 8;

struct Story {
    house: House,
    upkeep: Arc<Upkeep>,
    records: Arc<dyn Records>,
    store: Arc<dyn tokens::Store>,
    installations: usize,
}

impl Story {
    async fn with(installations: usize, hook: Option<&Hook>) -> Self {
        let mut settings = sandbox::Settings { extra_locations: installations - 1, ..short_tokens() };
        settings.scopes.push("locations.readonly".into());
        let house = House::with(Rest::Sqlite, settings).await;
        let keeper = house.keeper();
        for location in house.sandbox.location_ids().into_iter().filter(|id| id != house.id.as_str()) {
            let code = house.sandbox.approve_location(&location, REDIRECT_URI);
            keeper.connect(&AuthorizationCode::new(code)).await.expect("a grant");
        }
        let (upkeep, records) = process(&house, hook.iter().map(|hook| hook.way()).collect());
        let store = house.store();
        Self { house, upkeep, records, store, installations }
    }

    fn sends(&self) -> usize {
        usize::try_from(self.house.sandbox.counts().refreshes).expect("a count")
    }

    async fn all(&self) -> Vec<Installation> {
        self.store.list(None, 1000).await.expect("the store")
    }

    /// Time goes by here and at HighLevel, and each five seconds there is a round.
    async fn rounds_for(&self, time: Duration) {
        let end = self.house.clock.now() + time;
        while self.house.clock.now() < end {
            self.upkeep.round().await;
            self.upkeep.watch_checks().await;
            self.upkeep.deliver_due().await;
            self.house.advance(ROUND);
        }
    }

    /// Every installation is served a token that HighLevel takes.
    async fn serves_living_tokens(&self, after: &str) {
        for kept in self.all().await {
            let token = kept.tokens.access.expose();
            assert!(self.house.sandbox.is_valid_access_token(token), "{}: dead after {after}", kept.id);
        }
    }

    /// Every installation is well, has nothing due, and was checked by this clock.
    async fn is_well(&self, after: &str) {
        self.serves_living_tokens(after).await;
        let now = self.house.clock.now();
        for kept in self.all().await {
            assert_eq!(kept.next_step(now, HOUR), Step::Use, "{} after {after}", kept.id);
            let check = kept.last_check.expect("a check");
            assert!(now.apart(check.at) < HOUR * 13, "{}: not checked after {after}", kept.id);
            assert_eq!(check.health, Health::Operational, "{} after {after}", kept.id);
        }
    }
}

#[tokio::test]
async fn a_clock_that_leaps_costs_each_grant_one_refresh_and_all_is_well_within_a_minute() {
    let story = Story::with(times("GHL_AUTH_CLOCK_INSTALLATIONS", 20), None).await;
    story.rounds_for(MINUTE).await;
    story.is_well("the beginning").await;
    assert_eq!(story.sends(), 0);
    let true_time = |story: &Story| {
        Timestamp::from_millis(i64::try_from(story.house.sandbox.now_millis()).expect("a time"))
    };
    type Leap = fn(Timestamp) -> Timestamp;
    let leaps: [(&str, Leap); 6] = [
        ("ten years ahead", |now| now + TEN_YEARS),
        ("back to the truth", |now| now),
        ("ten years back", |now| now - TEN_YEARS),
        ("back to the truth from there", |now| now),
        ("1970", |_| Timestamp::from_millis(0)),
        ("back to the truth from 1970", |now| now),
    ];
    for (name, leap) in leaps {
        let before = story.sends();
        story.house.clock.set(leap(true_time(&story)));
        story.rounds_for(MINUTE).await;
        story.is_well(name).await;
        let sent = story.sends() - before;
        assert!(sent <= story.installations, "{sent} sends after {name}");
        // And it stays so for as long as this clock is kept: more than a token lives.
        for _ in 0..30 {
            story.house.advance(HOUR);
            story.upkeep.round().await;
            story.serves_living_tokens(&format!("hours of {name}")).await;
        }
        let (sent, normally) = (story.sends() - before, story.installations * 2);
        assert!(sent <= 2 * normally, "{sent} sends in a day and more of {name}, normally {normally}");
    }
    // Nobody is told of more than that checks were late, for all together, and that they come again.
    let told = told(&story.records).await;
    assert!(told.iter().all(|told| told == "late:degraded" || told == "recovered:operational"), "{told:?}");
    assert!(told.len() <= 2 * 6, "{told:?}");
}

#[tokio::test]
async fn all_are_due_at_once_and_few_are_in_the_air() {
    let story = Story::with(20, None).await;
    story.upkeep.round().await;
    story.house.clock.set(story.house.clock.now() + TEN_YEARS);
    story.house.sandbox.hold(sandbox::Matcher::Refresh);
    let upkeep = story.upkeep.clone();
    let round = tokio::spawn(async move { upkeep.round().await });
    story.house.sandbox.until_held(IN_THE_AIR).await;
    // Whoever else were on the way would arrive within this time.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(story.house.sandbox.held(), IN_THE_AIR);
    story.house.sandbox.release();
    round.await.expect("it ends");
    story.is_well("the leap").await;
}

#[tokio::test]
async fn an_hour_to_and_fro_each_minute_and_a_clock_that_stands_cost_nothing() {
    let story = Story::with(times("GHL_AUTH_CLOCK_INSTALLATIONS", 20).min(8), None).await;
    let minutes = times("GHL_AUTH_CLOCK_MINUTES", 17 * 60);
    for minute in 0..minutes {
        let now = story.house.clock.now();
        story.house.clock.set(if minute % 2 == 0 { now + HOUR } else { now - HOUR });
        story.upkeep.round().await;
        story.house.advance(MINUTE);
    }
    story.rounds_for(MINUTE).await;
    story.is_well("all of that").await;
    // In 17 hours each is due once.
    let normally = story.installations;
    assert!(story.sends() <= 2 * normally, "{} sends, normally {normally}", story.sends());
    let query = tokens::records::CheckQuery { limit: 10_000, ..Default::default() };
    let checks = story.records.checks(&query).await.expect("the history").len();
    assert!(checks <= 2 * 2 * story.installations, "{checks} checks");
    // The clock stands, and HighLevel's goes on.
    let before = story.sends();
    for _ in 0..12 {
        story.house.sandbox.advance(ROUND);
        story.upkeep.round().await;
    }
    story.is_well("a clock that stood").await;
    assert_eq!(story.sends(), before);
}

#[tokio::test]
async fn what_was_put_off_by_a_clock_ahead_is_not_put_off_for_years() {
    let hook = Hook::start();
    let story = Story::with(1, Some(&hook)).await;
    let truth = story.house.clock.now();
    story.house.clock.set(truth + TEN_YEARS);
    // HighLevel puts us off, refuses our client, and nobody takes the notice.
    hook.answers(503);
    let fault = sandbox::Fault::new(sandbox::FaultKind::NotActive);
    story.house.sandbox.fault(fault.on(sandbox::Matcher::Refresh).until_cleared());
    story.rounds_for(ROUND).await;
    story.house.sandbox.clear_faults();
    story.house.sandbox.set_client_secret("another");
    story.house.advance(HOUR);
    story.rounds_for(MINUTE).await;
    let secret = story.house.sandbox.settings().client_secret.clone();
    story.house.sandbox.set_client_secret(&secret);
    story.house.clock.set(truth + DAY);
    hook.answers(200);
    story.rounds_for(MINUTE).await;
    story.is_well("a clock that was ahead").await;
    let told = told(&story.records).await;
    assert!(told.contains(&"trouble:suspended".into()) && told.contains(&"recovered:operational".into()));
    let waiting = story.records.notices(100).await.expect("the notices");
    let waiting = waiting.iter().flat_map(|(_, ways)| ways).filter(|way| way.delivered_at.is_none());
    assert_eq!(waiting.count(), 0, "all were delivered");
}

#[tokio::test]
async fn a_reminder_is_no_storm_while_the_clock_goes_to_and_fro() {
    let story = Story::with(1, None).await;
    story.house.sandbox.suspend(story.house.id.as_str());
    story.house.sandbox.fault(
        sandbox::Fault::new(sandbox::FaultKind::NotActive).on(sandbox::Matcher::LocationRead).until_cleared(),
    );
    for minute in 0..60 {
        let now = story.house.clock.now();
        story.house.clock.set(if minute % 2 == 0 { now + HOUR } else { now - HOUR });
        story.upkeep.check(&story.house.id, tokens::Trigger::Clock).await.expect("a check");
        story.house.advance(MINUTE);
    }
    assert_eq!(told(&story.records).await, ["trouble:suspended"]);
}

#[tokio::test]
async fn what_has_begun_is_ended_at_a_stop_and_nothing_more_begins() {
    let story = Story::with(20, None).await;
    // No check is due for a while, and every refresh is.
    let settings = upkeep::Settings { interval: DAY * 2, ..settings(&story.house, Vec::new()) };
    let (upkeep, _) = process_before(&story.house, settings, &story.house.sandbox.base_url());
    upkeep.round().await;
    story.house.advance(HOUR * 16);
    let before = story.house.sandbox.counts().rotations;
    story.house.sandbox.hold(sandbox::Matcher::Refresh);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let running = tokio::spawn(upkeep.run(stopped));
    story.house.sandbox.until_held(8).await;
    stop.send_replace(true);
    story.house.sandbox.release();
    running.await.expect("it ends");
    let landed = story.house.sandbox.counts().rotations - before;
    assert_eq!(landed, 8, "what was in the air has landed");
}
