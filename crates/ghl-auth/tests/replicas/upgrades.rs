//! T-618: replicas that are exchanged one after another, and a database that a later program has moved on.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::house::{House, PATIENCE};
use crate::load::under_load;
use crate::support::programs::report;
use crate::support::times;

#[test]
fn replicas_are_exchanged_one_after_another_and_nobody_notices() {
    let rounds = times("GHL_AUTH_REPLICA_RESTARTS", 2);
    let began = Instant::now();
    let house = House::with(12);
    let key = house.api_key();
    let mut replicas = house.replicas(3);
    let mut exchanged = 0;
    let mut wrong = under_load(&house, &key, &mut replicas, |replicas| {
        let victim = exchanged % 3;
        replicas.end(victim, |replica| {
            replica.signal(Signal::SIGTERM);
            let ended = replica.child.wait().expect("it ends");
            assert!(ended.success(), "{ended:?}: {}", replica.log());
        });
        exchanged += 1;
        exchanged < rounds * 3
    });
    assert!(house.sandbox.counts().rotations > 0, "they were at work meanwhile");
    wrong.extend(house.refusals());
    wrong.extend(house.lost());
    report("replicas exchanged one after another under load", rounds * 3, &wrong, began);
}

/// Migrations only add what an earlier program can do without, until no such program is about any more:
/// one that runs goes on; one that begins does not know what it may not do, and says so.
#[test]
fn beside_a_later_program_a_replica_goes_on_and_none_begins() {
    let began = Instant::now();
    let house = House::with(6);
    let key = house.api_key();
    let mut replicas = house.replicas(2);
    let schema = crate::postgres::schema_of(&house.address);
    let moved_on =
        |by: &str| format!("UPDATE {schema}.versions SET version = version {by} WHERE part = 'store'");
    let sql = |statement: &str| crate::postgres::server().sql(statement);
    let mut wrong = under_load(&house, &key, &mut replicas, |_| {
        sql(&format!("ALTER TABLE {schema}.installations ADD COLUMN of_later text; {}", moved_on("+ 1")));
        let rotations = || house.sandbox.counts().rotations;
        let (before, waiting) = (rotations(), Instant::now());
        let refused = house.run(&["refresh"]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.status.code() == Some(2) && said.contains("a newer version"), "{refused:?}");
        while rotations() < before + 6 {
            assert!(waiting.elapsed() < PATIENCE, "those that run go on");
            std::thread::sleep(Duration::from_millis(50));
        }
        false
    });
    let kept =
        "SELECT count(*) FROM {schema}.installations WHERE of_later IS NULL".replace("{schema}", schema);
    assert_eq!(sql(&kept), "6", "what a later program added is left alone");
    sql(&moved_on("- 1"));
    wrong.extend(house.refusals());
    wrong.extend(house.lost());
    report("refreshes beside a later program", 6, &wrong, began);
}
