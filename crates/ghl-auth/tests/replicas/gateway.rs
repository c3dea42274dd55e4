//! One rate budget for all replicas: their callers together send what HighLevel takes, and no more.
//!
//! `GHL_AUTH_GATEWAY_INTERVAL_MS=10000` is HighLevel's own interval; without it, a shorter one is enough.

use std::time::{Duration, Instant};

use sandbox::RateLimit;

use crate::caller::{Caller, Way};
use crate::house::House;
use crate::support::programs::report;
use crate::support::times;

const CALLERS: usize = 20;
const CALLS: usize = 100;

#[test]
fn callers_of_three_replicas_share_one_budget_fairly_use_it_up_and_never_meet_a_429() {
    let interval = Duration::from_millis(times("GHL_AUTH_GATEWAY_INTERVAL_MS", 2000) as u64);
    let intervals = times("GHL_AUTH_GATEWAY_INTERVALS", 10);
    let house = House::fresh(crate::postgres::server().fresh_schema(), 1);
    let house = house.set("GHL_AUTH_GATEWAY_BUDGET", "enforce");
    let daily = 200_000;
    house.sandbox.set_rate_limit(RateLimit { burst: CALLS as u64, interval, daily, enforced: true });
    let key = house.gateway_key();
    let replicas = house.replicas(3);
    let path = format!("/locations/{}", house.ids[0].as_str());
    let ask = |caller: &mut Caller, way| {
        let got = caller.send(way, "GET", &path, &[], "");
        match got.status {
            200 => None,
            status => Some(format!("{status}: {}", got.json())),
        }
    };
    // Until HighLevel's first answer says what the interval is, ten seconds are taken for it.
    let mut wrong = Vec::new();
    for replica in &replicas {
        replica.until_ready();
        wrong.extend(ask(&mut Caller::new(&replica.address, &key), Way::Plain));
    }
    // What was sent at the start is behind us.
    std::thread::sleep(interval * 2);

    let (each, began) = (intervals * CALLS / CALLERS, Instant::now());
    let took: Vec<Duration> = std::thread::scope(|threads| {
        let crowd: Vec<_> = (0..CALLERS)
            .map(|number| {
                let (address, key, ask) = (&replicas[number % replicas.len()].address, &key, &ask);
                threads.spawn(move || {
                    let mut caller = Caller::new(address, key);
                    let way = Way::BOTH[number / 3 % 2];
                    let wrong: Vec<String> = (0..each).filter_map(|_| ask(&mut caller, way)).collect();
                    (wrong, began.elapsed())
                })
            })
            .collect();
        let ended = crowd.into_iter().map(|one| one.join().expect("no panic"));
        ended
            .map(|(of_one, took)| {
                wrong.extend(of_one);
                took
            })
            .collect()
    });
    let (all, first) = (*took.iter().max().expect("some"), *took.iter().min().expect("some"));
    // Ten intervals' calls fill ten of them: the last of those begins after nine.
    let least = interval * u32::try_from(intervals - 1).expect("few");
    let used = least.as_secs_f64() / all.as_secs_f64();
    let refused = house.sandbox.counts().rate_limited;
    eprintln!(
        "{all:?} for what takes {least:?} at least: {:.1} % used; the first was done after {first:?}; \
         {refused} were refused",
        used * 100.0
    );
    if refused > 0 {
        wrong.push(format!("HighLevel refused {refused}"));
    }
    if used < 0.95 {
        wrong.push(format!("only {:.1} % of the budget were used", used * 100.0));
    }
    // Nobody's share is done much before or after anybody else's.
    if first * 2 < all {
        wrong.push(format!("one was done after {first:?}, and another after {all:?}"));
    }
    report("3 replicas that share a rate budget, requests", each * CALLERS, &wrong, began);
}
