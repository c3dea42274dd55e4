//! One rate budget for everybody: many callers, and a HighLevel that takes only so many calls.
//!
//! `GHL_AUTH_GATEWAY_INTERVAL_MS=10000` is HighLevel's own interval; without it, a shorter one is enough.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use sandbox::RateLimit;
use tokens::NoticeKind;
use tokens::records::{Reach, Verb};

use crate::caller::{Caller, Way};
use crate::house::{House, block_on, empty_home, until};
use crate::support::Home;

const CALLERS: usize = 20;
const CALLS: u64 = 100;

fn interval() -> Duration {
    let millis = std::env::var("GHL_AUTH_GATEWAY_INTERVAL_MS").ok().and_then(|text| text.parse().ok());
    Duration::from_millis(millis.unwrap_or(2000))
}

/// A home whose HighLevel takes so many calls in an interval, and says so.
fn limited(daily: u64) -> Home {
    let home = empty_home().log_in().set("GHL_AUTH_GATEWAY_BUDGET", "enforce");
    let limit = RateLimit { burst: CALLS, interval: interval(), daily, enforced: true };
    home.sandbox.set_rate_limit(limit);
    home
}

#[test]
fn twenty_callers_share_the_budget_fairly_use_it_up_and_never_meet_a_429() {
    let house = House::of(limited(200_000));
    let key = house.key(&[Verb::Gateway], Reach::All);
    house.until_checked();
    let path = format!("/contacts/{}", house.home.sandbox.settings().contact_id);
    // The interval of the check's own calls is behind us.
    std::thread::sleep(interval());
    let each = 1000 / CALLERS;
    let began = Instant::now();
    let took = Mutex::new(Vec::new());
    std::thread::scope(|threads| {
        for number in 0..CALLERS {
            let (house, key, path, took) = (&house, &key, &path, &took);
            threads.spawn(move || {
                let mut caller = Caller::new(&house.private, key);
                for _ in 0..each {
                    let got = caller.send(Way::BOTH[number % 2], "GET", path, &[], "");
                    assert_eq!(got.status, 200, "{}", got.json());
                }
                took.lock().expect("nobody panics with it").push(began.elapsed());
            });
        }
    });
    let took = took.into_inner().expect("nobody panics with it");
    let (all, first) = (*took.iter().max().expect("some"), *took.iter().min().expect("some"));
    assert_eq!(house.home.sandbox.counts().rate_limited, 0);
    // A thousand calls fill ten intervals: the last of them begins after nine.
    let least = interval() * 9;
    let used = least.as_secs_f64() / all.as_secs_f64();
    eprintln!(
        "{all:?} for what takes {least:?} at least: {:.1} % used; the first was done after {first:?}",
        used * 100.0
    );
    assert!(used >= 0.95, "{used}");
    // Nobody waits for more than twice what is everybody's share.
    let share = took.iter().sum::<Duration>() / u32::try_from(CALLERS).expect("few");
    assert!(all <= share * 2, "{share:?} and {all:?}");
    house.end();
}

#[test]
fn a_caller_waits_for_as_long_as_it_says_and_a_flood_of_one_key_stops_no_other() {
    let house = House::of(limited(200_000));
    let (flood, other) = (house.key(&[Verb::Gateway], Reach::All), house.key(&[Verb::Gateway], Reach::All));
    house.until_known(&other);
    house.until_checked();
    let path = format!("/contacts/{}", house.home.sandbox.settings().contact_id);
    std::thread::sleep(interval());
    std::thread::scope(|threads| {
        for _ in 0..60 {
            let (house, flood, path) = (&house, &flood, &path);
            threads.spawn(move || {
                let mut caller = Caller::new(&house.private, flood);
                for _ in 0..4 {
                    assert_eq!(caller.get(path).status, 200);
                }
            });
        }
        // The budget is used up by now, and more than another one waits for its turn.
        std::thread::sleep(interval() / 4);
        let got =
            Caller::new(&house.private, &other).send(Way::Plain, "GET", &path, &[("Prefer", "wait=0")], "");
        assert_eq!((got.status, got.json()["code"].as_str()), (429, Some("rate_budget_spent")));
        assert!(got.header("retry-after").is_some());
        let began = Instant::now();
        assert_eq!(Caller::new(&house.private, &other).get(&path).status, 200);
        assert!(began.elapsed() < interval() * 5 / 4, "{:?}", began.elapsed());
    });
    assert_eq!(house.home.sandbox.counts().rate_limited, 0);
    house.end();
}

#[test]
fn a_429_of_highlevels_is_waited_out_and_tried_again() {
    let house = House::of(limited(200_000));
    let key = house.key(&[Verb::Gateway], Reach::All);
    house.until_checked();
    let path = format!("/contacts/{}", house.home.sandbox.settings().contact_id);
    for way in Way::BOTH {
        let fault = sandbox::Fault::new(sandbox::FaultKind::RateLimited { retry_after: Some(1) });
        house.home.sandbox.fault(fault.on(sandbox::Matcher::ContactRead));
        let began = Instant::now();
        let got = Caller::new(&house.private, &key).send(way, "GET", &path, &[], "");
        assert_eq!(got.status, 200, "{way:?}");
        assert!(began.elapsed() >= Duration::from_secs(1), "{way:?}: {:?}", began.elapsed());
    }
    house.end();
}

#[test]
fn when_the_day_is_spent_nobody_is_kept_waiting_and_people_are_told() {
    let house = House::of(limited(12));
    let key = house.key(&[Verb::Gateway], Reach::All);
    house.until_checked();
    let path = format!("/contacts/{}", house.home.sandbox.settings().contact_id);
    let mut caller = Caller::new(&house.private, &key);
    let last = loop {
        let got = caller.get(&path);
        if got.status != 200 {
            break got;
        }
        if let Some(quota) = got.header("ghl-auth-quota") {
            assert!(quota.starts_with("remaining=0; limit=12; spent-at="), "{quota}");
        }
    };
    assert_eq!((last.status, last.json()["code"].as_str()), (429, Some("daily_quota_spent")));
    let seconds: u64 = last.header("retry-after").expect("a time").parse().expect("seconds");
    assert!((1..=86_400).contains(&seconds), "until midnight: {seconds}");
    let told = || block_on(house.records.notices(10)).expect("records");
    until(|| told().iter().any(|(notice, _)| notice.kind == NoticeKind::Quota));
    let told = told();
    let (notice, _) = told.iter().find(|(notice, _)| notice.kind == NoticeKind::Quota).expect("it is told");
    assert!(
        notice.said.as_deref().is_some_and(|said| said.contains("Calls left of the day's 12: 0.")),
        "{notice:?}"
    );
    assert_eq!(house.home.sandbox.counts().rate_limited, 0);
    house.end();
}
