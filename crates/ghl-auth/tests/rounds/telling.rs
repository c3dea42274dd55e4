//! People are told of each change once, whatever flaps, is down, or runs twice: T-523.

use std::collections::BTreeSet;
use std::time::Duration;

use sandbox::{Fault, FaultKind, Matcher};
use serde_json::Value;
use tokens::records::Maintenance;
use tokens::{Clock as _, Trigger};

use crate::hook::Hook;
use crate::support::{HOUR, House, Rest, times};
use crate::{other_process, process, told};

const MINUTE: Duration = Duration::from_secs(60);
const QUARTER_HOUR: Duration = Duration::from_secs(15 * 60);

fn suspend(house: &House) {
    house.sandbox.fault(Fault::new(FaultKind::NotActive).on(Matcher::LocationRead).until_cleared());
}

fn member<'a>(notice: &'a Value, name: &str) -> &'a str {
    notice[name].as_str().expect("words")
}

#[tokio::test]
async fn what_flaps_is_told_as_that_and_each_notice_arrives_once_though_two_deliver_and_none_could() {
    let (house, hook) = (House::new(Rest::Sqlite).await, Hook::start());
    let processes = [process(&house, vec![hook.way()]), other_process(&house, vec![hook.way()])];
    let records = &processes[0].1;
    let both_deliver = async || {
        tokio::join!(processes[0].0.deliver_due(), processes[1].0.deliver_due());
    };
    let flaps = times("GHL_AUTH_FLAPS", 1000);
    for flap in 0..flaps {
        match flap % 2 {
            0 => suspend(&house),
            _ => house.sandbox.clear_faults(),
        }
        // Nobody takes a notice for the second hour.
        let hour = flap * 10 / 3600;
        hook.answers(if hour == 1 { 503 } else { 200 });
        let (one, other) = (&processes[flap % 2].0, &processes[(flap + 1) % 2].0);
        one.check(&house.id, Trigger::Clock).await.expect("a check");
        if flap % 10 == 0 {
            tokio::join!(one.tell_what_is_due(), other.tell_what_is_due());
        }
        both_deliver().await;
        house.advance(Duration::from_secs(10));
    }
    hook.answers(200);
    // It has settled.
    for _ in 0..130 {
        tokio::join!(processes[0].0.tell_what_is_due(), processes[1].0.tell_what_is_due());
        both_deliver().await;
        house.advance(MINUTE);
    }
    let notices = records.notices(10_000).await.expect("the notices");
    let taken = hook.taken();
    let ids: BTreeSet<_> = taken.iter().map(|(id, _)| id.clone()).collect();
    assert_eq!(ids, notices.iter().map(|(notice, _)| notice.id.clone()).collect(), "none is lost");
    assert_eq!(taken.len(), notices.len(), "none came twice");
    let kinds: Vec<&str> = taken.iter().map(|(_, notice)| member(notice, "type")).collect();
    assert_eq!(kinds[..2], ["ghl_auth.trouble", "ghl_auth.recovered"], "in their order");
    assert_eq!(kinds.last(), Some(&"ghl_auth.recovered"), "{kinds:?}");
    assert!(kinds[2..kinds.len() - 1].iter().all(|kind| *kind == "ghl_auth.flapping"), "{kinds:?}");
    let mut troubles: Vec<_> = notices.iter().map(|(notice, _)| notice).collect();
    troubles.retain(|notice| notice.kind != tokens::NoticeKind::Recovered);
    let apart = troubles.windows(2).map(|two| two[0].at.apart(two[1].at));
    assert!(apart.min().is_none_or(|least| least >= QUARTER_HOUR));
    println!("{flaps} flaps: {}", kinds.len());
}

#[tokio::test]
async fn each_real_change_is_told_once_though_two_look_at_once() {
    let (house, hook) = (House::new(Rest::Sqlite).await, Hook::start());
    let processes = [process(&house, vec![hook.way()]), other_process(&house, vec![hook.way()])];
    let changes = times("GHL_AUTH_CHANGES", 20);
    for change in 0..changes {
        match change % 2 {
            0 => suspend(&house),
            _ => house.sandbox.clear_faults(),
        }
        let checks = processes.each_ref().map(|(upkeep, _)| upkeep.check(&house.id, Trigger::Clock));
        let [one, other] = checks;
        let (one, other) = tokio::join!(one, other);
        assert!(one.is_ok() && other.is_ok());
        tokio::join!(processes[0].0.deliver_due(), processes[1].0.deliver_due());
        assert_eq!(hook.taken().len(), change + 1, "{:?}", hook.taken());
        house.advance(HOUR);
    }
    let ids: BTreeSet<_> = hook.taken().into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids.len(), changes);
}

#[tokio::test]
async fn an_end_is_not_told_before_its_beginning_has_arrived() {
    let (house, hook) = (House::new(Rest::Sqlite).await, Hook::start());
    let (upkeep, _) = process(&house, vec![hook.way()]);
    hook.answers(503);
    suspend(&house);
    upkeep.check(&house.id, Trigger::Clock).await.expect("a check");
    for _ in 0..10 {
        upkeep.deliver_due().await;
        house.advance(QUARTER_HOUR);
    }
    house.sandbox.clear_faults();
    upkeep.check(&house.id, Trigger::Clock).await.expect("a check");
    hook.answers(200);
    for _ in 0..10 {
        upkeep.deliver_due().await;
        house.advance(QUARTER_HOUR);
    }
    let taken = hook.taken();
    let kinds: Vec<&str> = taken.iter().map(|(_, notice)| member(notice, "type")).collect();
    assert_eq!(kinds, ["ghl_auth.trouble", "ghl_auth.recovered"]);
}

#[tokio::test]
async fn what_was_kept_quiet_is_told_when_it_may_be_and_not_only_at_the_next_check() {
    let house = House::new(Rest::Sqlite).await;
    let (upkeep, records) = process(&house, Vec::new());
    let now = house.clock.now();
    let window = Maintenance {
        id: "m".into(),
        subject: None,
        from: now,
        until: Some(now + HOUR),
        reason: "moving".into(),
    };
    records.plan_maintenance(&window).await.expect("a maintenance");
    suspend(&house);
    upkeep.check(&house.id, Trigger::Clock).await.expect("a check");
    upkeep.tell_what_is_due().await;
    assert!(told(&records).await.is_empty());
    house.advance(HOUR);
    upkeep.tell_what_is_due().await;
    upkeep.tell_what_is_due().await;
    assert_eq!(told(&records).await, ["trouble:suspended"]);
    house.advance(HOUR * 24);
    upkeep.tell_what_is_due().await;
    assert_eq!(told(&records).await, ["trouble:suspended", "reminder:suspended"]);
}

#[tokio::test]
async fn of_what_was_removed_nobody_is_reminded() {
    let house = House::new(Rest::Sqlite).await;
    let (upkeep, records) = process(&house, Vec::new());
    suspend(&house);
    upkeep.check(&house.id, Trigger::Clock).await.expect("a check");
    assert_eq!(told(&records).await, ["trouble:suspended"]);
    assert!(house.keeper().disconnect(&house.id).await.expect("removed"));
    house.advance(HOUR * 25);
    upkeep.tell_what_is_due().await;
    assert_eq!(told(&records).await, ["trouble:suspended"]);
}
