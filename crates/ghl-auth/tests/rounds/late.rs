//! Checks that did not come when they were due.

use std::time::Duration;

use tokens::records::Maintenance;
use tokens::{InstallationId, Subject};

use crate::hook::Hook;
use crate::support::{HOUR, House, Rest};
use crate::{INTERVAL, process, told};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_service_that_was_down_says_so_once_and_makes_up_for_it() {
    let (house, hook) = (House::new(Rest::Sqlite).await, Hook::start());
    let (upkeep, records) = process(&house, vec![hook.way()]);
    upkeep.watch_checks().await;
    upkeep.round().await;
    // A check that comes a little late is none.
    house.advance(INTERVAL + HOUR);
    upkeep.watch_checks().await;
    upkeep.round().await;
    assert!(told(&records).await.is_empty());
    drop((upkeep, records));
    house.advance(INTERVAL + HOUR * 2);
    let (upkeep, records) = process(&house, vec![hook.way()]);
    let (other, _) = process(&house, vec![hook.way()]);
    for upkeep in [&upkeep, &other, &upkeep] {
        upkeep.watch_checks().await;
    }
    assert_eq!(told(&records).await, ["late:degraded"]);
    let checks = async || {
        let query = tokens::records::CheckQuery { limit: 10, ..Default::default() };
        records.checks(&query).await.expect("the history").len()
    };
    let before = checks().await;
    upkeep.round().await;
    assert_eq!(checks().await, before + 1, "the missed one is made at once");
    for upkeep in [&other, &upkeep] {
        upkeep.watch_checks().await;
        upkeep.deliver_due().await;
    }
    assert_eq!(told(&records).await, ["late:degraded", "recovered:operational"]);
    let taken = hook.taken();
    let data = &taken[0].1["data"];
    assert_eq!((taken.len(), taken[0].1["type"].as_str()), (2, Some("ghl_auth.late")));
    assert_eq!((data["kind"].as_str(), data["code"].as_str()), (Some("service"), Some("late")));
    assert!(data["title"].as_str().is_some_and(|title| title.contains("subject-all")), "{data}");
    assert!(data["text"].as_str().is_some_and(|text| text.contains("late-checks last=")), "{data}");
}

#[tokio::test]
async fn rounds_that_hang_are_told_of_while_they_hang() {
    let house = House::new(Rest::Sqlite).await;
    let (upkeep, records) = process(&house, Vec::new());
    upkeep.round().await;
    house.advance(INTERVAL);
    house.sandbox.hold(sandbox::Matcher::LocationRead);
    let hanging = tokio::spawn({
        let upkeep = upkeep.clone();
        async move { upkeep.round().await }
    });
    house.sandbox.until_held(1).await;
    house.advance(HOUR * 2);
    upkeep.watch_checks().await;
    assert_eq!(told(&records).await, ["late:degraded"]);
    house.sandbox.release();
    hanging.await.expect("it ends");
    upkeep.watch_checks().await;
    assert_eq!(told(&records).await, ["late:degraded", "recovered:operational"]);
}

#[tokio::test]
async fn one_that_is_left_out_is_told_of_by_name() {
    let settings = sandbox::Settings { extra_locations: 1, ..sandbox::Settings::default() };
    let house = House::with(Rest::Sqlite, settings).await;
    let (upkeep, records) = process(&house, Vec::new());
    // Another location, whose check someone began and never ended.
    let other = house.sandbox.location_ids().into_iter().find(|id| id != house.id.as_str());
    let other = InstallationId::from_parts("location", &other.expect("another location")).expect("an id");
    let code = house.sandbox.approve_location(other.as_str(), crate::support::REDIRECT_URI);
    house.keeper().connect(&tokens::AuthorizationCode::new(code)).await.expect("a grant");
    upkeep.round().await;
    house.advance(INTERVAL + HOUR * 2);
    let now = tokens::Clock::now(house.clock.as_ref());
    assert!(records.take_turn(&format!("check {other}"), now, now + MINUTE * 5).await.expect("a turn"));
    upkeep.round().await;
    upkeep.watch_checks().await;
    upkeep.watch_checks().await;
    let notices = records.notices(10).await.expect("the notices");
    let subjects: Vec<_> = notices.iter().map(|(notice, _)| notice.subject.clone()).collect();
    assert_eq!(subjects, [Subject::Checks(Some(other))]);
    house.advance(HOUR);
    upkeep.round().await;
    upkeep.watch_checks().await;
    assert_eq!(told(&records).await, ["late:degraded", "recovered:operational"]);
}

#[tokio::test]
async fn in_a_maintenance_nobody_is_late() {
    let house = House::new(Rest::Sqlite).await;
    let (upkeep, records) = process(&house, Vec::new());
    upkeep.round().await;
    house.advance(INTERVAL + HOUR * 2);
    let now = tokens::Clock::now(house.clock.as_ref());
    for subject in [None, Some(Subject::Installation(house.id.clone()))] {
        let id = format!("m{}", subject.is_some());
        let window =
            Maintenance { id, subject, from: now, until: Some(now + MINUTE), reason: "moving".into() };
        records.plan_maintenance(&window).await.expect("a maintenance");
        upkeep.watch_checks().await;
        assert!(told(&records).await.is_empty());
        records.end_maintenance(&window.id, now).await.expect("its end");
    }
    // What is still late afterwards is told then.
    upkeep.watch_checks().await;
    assert_eq!(told(&records).await, ["late:degraded"]);
}

#[tokio::test]
async fn what_is_paused_is_not_checked_and_not_late_and_keeps_a_fresh_token() {
    let house = House::new(Rest::Sqlite).await;
    let (upkeep, records) = process(&house, Vec::new());
    upkeep.round().await;
    let subject = Some(Subject::Installation(house.id.clone()));
    let from = tokens::Clock::now(house.clock.as_ref());
    let pause = Maintenance { id: "p".into(), subject, from, until: None, reason: String::new() };
    records.plan_maintenance(&pause).await.expect("a pause");
    let checks = async || {
        let query = tokens::records::CheckQuery { limit: 10, ..Default::default() };
        records.checks(&query).await.expect("the history").len()
    };
    let generation = async || house.keeper().load(&house.id).await.expect("a grant").version.generation;
    let (checked, before) = (checks().await, generation().await);
    for _ in 0..6 {
        house.advance(INTERVAL);
        upkeep.round().await;
        upkeep.watch_checks().await;
    }
    assert_eq!(checks().await, checked, "its checks rest");
    assert!(generation().await >= before + 3, "its token does not");
    assert!(told(&records).await.is_empty());
    let now = tokens::Clock::now(house.clock.as_ref());
    assert!(records.end_maintenance("p", now).await.expect("its end"));
    upkeep.round().await;
    assert_eq!(checks().await, checked + 1);
    let history = records.history(&house.id, 10).await.expect("its history");
    let noted: Vec<u64> = history.iter().map(|episode| episode.version.generation).collect();
    assert_eq!(noted.first(), Some(&generation().await), "with each check it is noted: {noted:?}");
    upkeep.watch_checks().await;
    assert!(told(&records).await.is_empty());
}

#[tokio::test]
async fn a_store_that_can_t_be_read_is_told_of_and_so_is_its_end() {
    let house = House::new(Rest::Sqlite).await;
    let (upkeep, records) = process(&house, Vec::new());
    upkeep.round().await;
    let rename = |from: &str, to: &str| {
        let database = rusqlite::Connection::open(house.path()).expect("the database");
        database.execute_batch(&format!("ALTER TABLE {from} RENAME TO {to}")).expect("renamed");
    };
    rename("installations", "elsewhere");
    upkeep.watch_checks().await;
    assert!(told(&records).await.is_empty(), "once is no outage");
    upkeep.watch_checks().await;
    upkeep.watch_checks().await;
    assert_eq!(told(&records).await, ["trouble:down"]);
    rename("elsewhere", "installations");
    upkeep.watch_checks().await;
    upkeep.watch_checks().await;
    assert_eq!(told(&records).await, ["trouble:down", "recovered:operational"]);
}
