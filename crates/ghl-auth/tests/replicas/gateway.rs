//! One rate budget for all replicas: their callers together send what HighLevel takes, and no more.
//!
//! `GHL_AUTH_GATEWAY_INTERVAL_MS=10000` is HighLevel's own interval; without it, a shorter one is enough.

use std::time::{Duration, Instant};

use sandbox::{Fault, FaultKind, Matcher, RateLimit};

use crate::caller::{Caller, Way};
use crate::house::{House, Replica};
use crate::support::programs::report;
use crate::support::times;

const CALLERS: u32 = 20;
const CALLS: u32 = 100;

/// Three replicas, a key for their gateways, and a HighLevel that takes so many calls in an interval.
struct Limited {
    house: House,
    key: String,
    replicas: Vec<Replica>,
}

impl Limited {
    /// They have learnt what the interval is, and what they sent for it is behind us.
    fn to(interval: Duration) -> Self {
        let house = House::fresh(crate::postgres::server().fresh_schema(), 1);
        let house = house.set("GHL_AUTH_GATEWAY_BUDGET", "enforce");
        let limit = RateLimit { burst: CALLS.into(), interval, daily: 200_000, enforced: true };
        house.sandbox.set_rate_limit(limit);
        let (key, replicas) = (house.gateway_key(), house.replicas(3));
        let limited = Self { house, key, replicas };
        // Ten seconds are taken for it until HighLevel's first answer says better, and what is sent before counts
        // for as long, until someone asks who knows.
        for _ in 0..2 {
            for replica in &limited.replicas {
                replica.until_ready();
                assert_eq!(limited.ask(&mut Caller::new(&replica.address, &limited.key), Way::Plain), None);
            }
        }
        std::thread::sleep(interval * 5 / 4);
        limited
    }

    /// What went wrong.
    fn ask(&self, caller: &mut Caller, way: Way) -> Option<String> {
        let path = format!("/locations/{}", self.house.ids[0].as_str());
        let got = caller.send(way, "GET", &path, &[], "");
        (got.status != 200).then(|| format!("{}: {}", got.status, got.json()))
    }

    /// Callers before all replicas ask so often each: what went wrong, and after how long each was done.
    fn crowd(&self, each: u32) -> (Vec<String>, Vec<Duration>) {
        let began = Instant::now();
        let one = |replica: &Replica, way| {
            let mut caller = Caller::new(&replica.address, &self.key);
            let wrong: Vec<String> = (0..each).filter_map(|_| self.ask(&mut caller, way)).collect();
            (wrong, began.elapsed())
        };
        let (mut wrong, took): (Vec<_>, Vec<_>) = std::thread::scope(|threads| {
            let ways = Way::BOTH.iter().flat_map(|way| [*way; 3]).cycle();
            let crowd: Vec<_> = (0..CALLERS)
                .zip(self.replicas.iter().cycle().zip(ways))
                .map(|(_, (replica, way))| threads.spawn(move || one(replica, way)))
                .collect();
            crowd.into_iter().map(|one| one.join().expect("no panic")).unzip()
        });
        let refused = self.house.sandbox.counts().rate_limited;
        if refused > 0 {
            wrong.push(vec![format!("HighLevel refused {refused}")]);
        }
        (wrong.concat(), took)
    }
}

#[test]
fn callers_of_three_replicas_share_one_budget_fairly_use_it_up_and_never_meet_a_429() {
    let millis = times("GHL_AUTH_GATEWAY_INTERVAL_MS", 4000);
    let interval = Duration::from_millis(u64::try_from(millis).expect("a time"));
    let limited = Limited::to(interval);
    let (each, began) = (1000 / CALLERS, Instant::now());
    let (mut wrong, took) = limited.crowd(each);
    let (all, first) = (*took.iter().max().expect("some"), *took.iter().min().expect("some"));
    // A thousand calls fill ten intervals: the last of them begins after nine.
    let least = interval * 9;
    let used = least.as_secs_f64() / all.as_secs_f64();
    eprintln!(
        "{all:?} for what takes {least:?} at least: {:.1} % used; the first was done after {first:?}",
        used * 100.0
    );
    if used < 0.95 {
        wrong.push(format!("only {:.1} % of the budget were used", used * 100.0));
    }
    // Nobody's share is done much before or after anybody else's.
    let share = took.iter().sum::<Duration>() / u32::try_from(took.len()).expect("few");
    if share * 2 < all {
        wrong.push(format!("a share takes {share:?}, and one was done after {all:?}"));
    }
    report("3 replicas that share a rate budget, requests", 1000, &wrong, began);
}

/// As after a pause, when connections are made anew: HighLevel's interval begins later than ours, and what
/// is sent over warm ones must not come before its end.
#[test]
fn a_budgets_calls_may_all_come_late_to_highlevel_and_the_next_ones_at_once() {
    let limited = Limited::to(Duration::from_secs(5));
    let late = Fault::new(FaultKind::delay_before(Duration::from_millis(100)));
    limited.house.sandbox.fault(late.on(Matcher::LocationRead).times(CALLS));
    let (each, began) = (2 * CALLS / CALLERS, Instant::now());
    let (wrong, _) = limited.crowd(each);
    report("3 replicas, calls that come late to HighLevel", 200, &wrong, began);
}
