//! What came is acted on once, and HighLevel hears that it came only when it rests.

use std::time::{Duration, Instant};

use sandbox::Signature;

use crate::house::{House, now, until};
use crate::wire::{Wire, ask, ask_all};
use crate::{event, events, home, iso, outcome, sent, signed, status, times, was_taken_out};

const DAY: Duration = Duration::from_secs(24 * 3600);

#[test]
fn an_event_that_comes_a_thousand_times_has_one_effect() {
    let house = House::of(home());
    let (key, id) = (house.master_key(), house.home.location().to_owned());
    let count = times("GHL_AUTH_REPLAYS", 200);
    let body = event(&house.home.sandbox, "UNINSTALL", &format!(r#","webhookId":"r1","locationId":"{id}""#));
    let requests = vec![signed(&house.home.sandbox, &body); count];
    let second = house.second();
    let addresses = [house.public.clone(), house.private.clone(), second.address.clone()];
    let outcomes: Vec<String> = std::thread::scope(|scope| {
        let asking: Vec<_> =
            addresses.iter().map(|address| scope.spawn(|| ask_all(address, &requests))).collect();
        let answers = asking.into_iter().flat_map(|asking| asking.join().expect("answers"));
        answers.map(|answer| status(&answer)).collect()
    });
    assert_eq!(outcomes.iter().filter(|outcome| *outcome == "queued").count(), 1);
    assert_eq!(outcomes.iter().filter(|outcome| *outcome == "known").count(), 3 * count - 1);
    until(|| house.get(&house.token_path(), &key).status == 404);
    until(|| was_taken_out(&house, "r1"));
    // It was a mistake; and who kept the webhook sends it again, also to whoever starts later.
    let path = format!("/v1/installations/location/{id}/restore");
    assert_eq!(house.ask("POST", &path, &key, "").status, 200);
    assert_eq!(house.ask("POST", &path, &key, "").code(), "not_removed");
    until(|| house.get(&house.token_path(), &key).status == 200);
    second.end();
    let third = house.second();
    for address in [&third.address, &house.public] {
        for answer in ask_all(address, &requests) {
            assert_eq!((answer.status, status(&answer).as_str()), (200, "known"));
        }
    }
    assert_eq!(events(&house), (1, 0));
    assert_eq!(house.get(&house.token_path(), &key).status, 200);
    third.end();
    house.end();
}

#[test]
fn an_event_of_another_time_is_refused_and_a_late_one_is_not() {
    let house = House::of(home());
    let sandbox = &house.home.sandbox;
    let at = |number: usize, timestamp: &str| {
        let more = format!(r#","webhookId":"t{number}","locationId":"elsewhereELSEWHERE00"{timestamp}"#);
        ask(&house.public, &signed(sandbox, &event(sandbox, "UNINSTALL", &more)))
    };
    let minutes = |count: u64| Duration::from_secs(60 * count);
    let stamped = |at: String| format!(r#","timestamp":"{at}""#);
    for (number, (timestamp, code)) in [
        (String::new(), ""),
        (stamped(iso(now())), ""),
        (stamped(iso(now() - minutes(6))), ""),
        (stamped(iso(now() - DAY * 2)), ""),
        (stamped(iso(now() + minutes(4))), ""),
        (stamped(iso(now() + minutes(6))), "untimely_webhook"),
        (stamped(iso(now() - DAY * 4)), "untimely_webhook"),
        (stamped(iso(now() - DAY * 3650)), "untimely_webhook"),
        (stamped(iso(now() + DAY * 3650)), "untimely_webhook"),
        (stamped("yesterday".into()), "odd_webhook"),
        (stamped(String::new()), "odd_webhook"),
        (r#","timestamp":{}"#.to_owned(), "odd_webhook"),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = at(number, &timestamp);
        assert_eq!(answer.status, if code.is_empty() { 200 } else { 400 }, "{timestamp}: {}", answer.body);
        assert_eq!(answer.code(), code, "{timestamp}");
    }
    assert_eq!(events(&house).0, 5);
    house.end();
}

#[test]
fn what_can_t_be_queued_is_answered_so_that_highlevel_sends_it_again() {
    let house = House::of(home());
    house.until_checked();
    let id = house.home.location().to_owned();
    let body = event(&house.home.sandbox, "UNINSTALL", &format!(r#","webhookId":"d1","locationId":"{id}""#));
    let records = rusqlite::Connection::open(house.home.path("tokens.db.records.db")).expect("a database");
    records.execute_batch("BEGIN IMMEDIATE").expect("nobody else writes now");
    let answer = ask(&house.public, &signed(&house.home.sandbox, &body));
    assert_eq!((answer.status, answer.code().as_str()), (503, "store_unavailable"), "{}", answer.body);
    records.execute_batch("ROLLBACK").expect("given back");
    assert_eq!(events(&house).0, 0);
    let answer = ask(&house.public, &signed(&house.home.sandbox, &body));
    assert_eq!((answer.status, status(&answer).as_str()), (200, "queued"));
    // At rest before the answer: whoever looks then finds it.
    assert_eq!(events(&house).0, 1);
    house.end();
}

#[test]
fn an_event_that_was_taken_outlives_the_process_that_took_it() {
    let house = House::of(home());
    let key = house.master_key();
    let store = rusqlite::Connection::open(house.home.path("tokens.db")).expect("a database");
    // Nothing can be done about it while the store can't be written.
    store.execute_batch("BEGIN IMMEDIATE").expect("nobody else writes now");
    let id = house.home.location().to_owned();
    let body = event(&house.home.sandbox, "UNINSTALL", &format!(r#","webhookId":"k1","locationId":"{id}""#));
    assert_eq!(ask(&house.public, &signed(&house.home.sandbox, &body)).status, 200);
    house.running.signal("KILL");
    std::thread::sleep(Duration::from_millis(100));
    store.execute_batch("ROLLBACK").expect("given back");
    assert_eq!(events(&house), (1, 1));
    let second = house.second();
    let gone = || {
        let headers = [("Authorization", crate::wire::bearer(&key))];
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        ask(&second.address, &crate::wire::request("GET", &house.token_path(), &headers, "")).status == 404
    };
    until(gone);
    until(|| outcome(&house, "k1").is_some());
    second.end();
}

#[test]
fn forged_ones_don_t_hold_up_those_that_are_signed() {
    let house = House::of(home());
    let sandbox = &house.home.sandbox;
    let count = times("GHL_AUTH_WEBHOOK_CROWD", 300);
    // As many forged ones as signed ones, two milliseconds apart each.
    let request = |number: usize, signature| {
        let more = format!(r#","webhookId":"c{number}","locationId":"elsewhereELSEWHERE00""#);
        let body = event(sandbox, "UNINSTALL", &more);
        sent(&sandbox.sign_webhook(&body, signature), &body)
    };
    let crowd = |signature: Signature| {
        let requests: Vec<_> = (0..count).map(|number| request(number, signature)).collect();
        let address = house.public.clone();
        move || {
            let mut wire = Wire::to(&address);
            let began = Instant::now();
            let answered = requests.iter().enumerate().map(|(number, request)| {
                let due = began + Duration::from_millis(2) * u32::try_from(number).expect("a number");
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                let asked = Instant::now();
                wire.send(request).expect("it is taken");
                (wire.answer(false).expect("an answer").status, asked.elapsed())
            });
            answered.collect::<Vec<_>>()
        }
    };
    let (good, forged) = (crowd(Signature::Present), crowd(Signature::WrongKey));
    let (good, forged) = std::thread::scope(|scope| {
        let (good, forged) = (scope.spawn(good), scope.spawn(forged));
        (good.join().expect("answers"), forged.join().expect("answers"))
    });
    assert!(forged.iter().all(|(status, _)| *status == 401));
    assert!(good.iter().all(|(status, _)| *status == 200));
    let mut took: Vec<_> = good.iter().map(|(_, took)| *took).collect();
    took.sort();
    let p99 = took[took.len() * 99 / 100];
    println!("{count} signed ones beside as many forged: p99 {p99:?}");
    assert!(p99 < Duration::from_millis(500), "{p99:?} on a machine with much else to do");
    assert_eq!(events(&house).0, i64::try_from(count).expect("a number"), "forged ones never reach it");
    house.end();
}
