//! Many callers, many installations, all due at once.

use std::time::{Duration, Instant};

use sandbox::{Fault, FaultKind, Matcher};

use crate::house::House;
use crate::support::programs::report;
use crate::support::{roomy, times};

/// T-106.
#[test]
fn whatever_is_due_at_once_is_refreshed_once_by_three_replicas_with_a_crowd_before_each() {
    let installations = times("GHL_AUTH_REPLICA_INSTALLATIONS", 40);
    let callers = times("GHL_AUTH_REPLICA_CALLERS", 8);
    let began = Instant::now();
    let house = House::with(installations);
    let key = house.api_key();
    let replicas = house.replicas(3);
    // Their rounds have begun already; what they have not come to yet is asked for by everyone.
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let crowd: Vec<_> = (0..3 * callers)
            .map(|number| {
                let (house, key, replica) = (&house, &key, &replicas[number % 3]);
                scope.spawn(move || {
                    let ids = house.ids.iter().cycle().skip(number * 7).take(house.ids.len());
                    ids.map(|id| (id, replica.token(key, id)))
                        .filter(|(_, answer)| answer.status != 200 || answer.generation() != 2)
                        .map(|(id, answer)| format!("{id}: {answer:?} {}", replica.log()))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        crowd.into_iter().flat_map(|one| one.join().expect("no panic")).collect()
    });
    let counts = house.sandbox.counts();
    let mut wrong = wrong;
    if counts.refreshes > installations as u64 {
        wrong.push(format!("{} sends for {installations} installations", counts.refreshes));
    }
    wrong.extend(house.refusals());
    wrong.extend(house.lost());
    report("due at once: 3 replicas, a crowd before each", installations, &wrong, began);
}

/// T-109, with all times a tenth of what they are: one in ten answers late by half a second to two and a
/// half, one request and one answer in twenty lost.
#[test]
fn slow_and_lost_answers_lose_nothing_among_three_replicas() {
    let refreshes = times("GHL_AUTH_REPLICA_REFRESHES", 60);
    let began = Instant::now();
    let house = House::with(10);
    let keepers = [(); 3].map(|()| house.keeper(roomy()));
    let fault = |kind, percent| {
        house.sandbox.fault(Fault::new(kind).on(Matcher::Refresh).percent(percent).until_cleared());
    };
    fault(FaultKind::LoseRequest, 5);
    fault(FaultKind::LoseAnswer, 5);
    for millis in [500, 1000, 1500, 2000, 2500] {
        fault(FaultKind::delay(Duration::from_millis(millis)), 2);
    }
    let mut wrong = house.block_on(async {
        let mut lanes = tokio::task::JoinSet::new();
        for (lane, id) in house.ids.iter().enumerate() {
            let (keepers, id) = (keepers.clone(), id.clone());
            let rounds = refreshes.div_ceil(house.ids.len());
            lanes.spawn(async move {
                let mut wrong = Vec::new();
                for round in 0..rounds {
                    // Two replicas want it at once.
                    let (one, other) = (&keepers[(lane + round) % 3], &keepers[(lane + round + 1) % 3]);
                    let (one, other) = tokio::join!(one.refresh(&id), other.refresh(&id));
                    for error in [one.err(), other.err()].into_iter().flatten() {
                        wrong.push(format!("{id}: {error:?}"));
                    }
                }
                wrong
            });
        }
        lanes.join_all().await.concat()
    });
    house.sandbox.clear_faults();
    wrong.extend(house.refusals());
    wrong.extend(house.lost());
    report("3 replicas, slow and lost answers", refreshes, &wrong, began);
}

/// T-307.
#[test]
fn a_revoked_key_is_refused_by_every_replica_within_a_second() {
    let house = House::fresh(crate::postgres::server().fresh_schema(), 1);
    let key = house.api_key();
    let replicas = house.replicas(3);
    for replica in &replicas {
        assert_eq!(replica.token(&key, &house.ids[0]).status, 200);
    }
    let id = key.split('_').nth(1).unwrap_or_default().to_owned();
    let listed = house.run(&["keys", "list", "--json"]);
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let list: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    let name = list.as_array().or_else(|| list["keys"].as_array()).and_then(|all| all[0]["id"].as_str());
    let revoked = house.run(&["keys", "revoke", name.unwrap_or(&id)]);
    assert!(revoked.status.success(), "{listed} {}", String::from_utf8_lossy(&revoked.stderr));
    let began = Instant::now();
    for replica in &replicas {
        while replica.token(&key, &house.ids[0]).status == 200 {
            assert!(began.elapsed() < Duration::from_secs(1), "still served");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(replica.token(&key, &house.ids[0]).status, 401);
    }
    println!("refused by all after {:?}", began.elapsed());
}
