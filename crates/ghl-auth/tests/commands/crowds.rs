//! Many at once: what is in the air when the service stops, and storms of callers who saw a 401.

use std::time::{Duration, Instant};

use sandbox::{Fault, FaultKind, Matcher};
use serde_json::{Value, json};

use crate::serving::{Service, document};
use crate::support::{ELSEWHERE, Home};

/// Eight locations, the most that are refreshed at once, and a HighLevel that takes its time.
#[test]
fn asked_to_stop_it_lands_eight_that_are_in_the_air_and_each_caller_gets_its_token() {
    let home = Home::with(|settings| settings.extra_locations = 7);
    let home = home.sealed().set("GHL_STORE", "sqlite:tokens.db").set("GHL_AUTH_LISTEN", "127.0.0.1:0");
    let locations = home.sandbox.location_ids();
    for location in &locations {
        let code = home.sandbox.approve_location(location, ELSEWHERE);
        home.run(["login", "--code", &code]).good();
    }
    let mut service = Service::start(home);
    let key = service.key(&["all", "--all"]);
    let slow = FaultKind::delay(Duration::from_secs(3));
    service.home.sandbox.fault(Fault::new(slow).on(Matcher::Refresh).until_cleared());
    let answers: Vec<Value> = std::thread::scope(|scope| {
        let asking: Vec<_> = locations
            .iter()
            .map(|location| {
                let path = format!("/v1/locations/{location}/token?minimum_life=86400");
                let (service, key) = (&service, &key);
                scope.spawn(move || {
                    let page = service.get(&path, Some(key));
                    assert_eq!(page.status, 200, "{}", page.body);
                    document(&page)
                })
            })
            .collect();
        service.until(|| service.home.sandbox.counts().refreshes == 8);
        service.running.signal("TERM");
        asking.into_iter().map(|answer| answer.join().expect("an answer")).collect()
    });
    let began = Instant::now();
    service.running.until_it_ends();
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    assert_eq!(service.home.sandbox.counts().rotations, 8);
    for (location, answer) in locations.iter().zip(&answers) {
        assert_eq!(
            (answer["location_id"].as_str(), answer["generation"].as_u64()),
            (Some(location.as_str()), Some(2))
        );
        // Nothing is asked of HighLevel for it: it was saved.
        let saved = service.home.run(["token", "--location", location]).good().out;
        assert_eq!(Some(saved.trim()), answer["access_token"].as_str());
        assert_eq!(service.home.sandbox.current_access_token(location).as_deref(), Some(saved.trim()));
    }
    assert_eq!(service.home.sandbox.counts().rotations, 8);
}

/// As many as can be sent from several threads, each generation that there is and was among them.
fn storm(service: &Service, key: &str, reports: usize) -> Vec<(u64, u16, Value)> {
    let path = format!("/v1/locations/{}/token/refused", service.home.location());
    std::thread::scope(|scope| {
        let senders: Vec<_> = (0..16)
            .map(|sender| {
                let path = &path;
                scope.spawn(move || {
                    let mut heard = Vec::new();
                    for report in 0..reports / 16 {
                        let generation = ((report + sender) % 5) as u64;
                        let body = json!({ "generation": generation }).to_string();
                        let page = service.ask("POST", path, Some(key), &body);
                        heard.push((generation, page.status, document(&page)));
                    }
                    heard
                })
            })
            .collect();
        senders.into_iter().flat_map(|heard| heard.join().expect("no panic")).collect()
    })
}

#[test]
fn a_storm_of_callers_who_saw_a_401_costs_one_refresh_a_minute() {
    let reports = std::env::var("GHL_AUTH_REPORTS").map_or(1000, |text| text.parse().expect("a number"));
    let home = Home::connected().set("GHL_AUTH_LISTEN", "127.0.0.1:0");
    // Two hours old: a refusal may be believed.
    home.age(Duration::from_secs(7200), Duration::from_secs(7200));
    let service = Service::start(home);
    let key = service.key(&["all", "--all"]);
    let began = Instant::now();
    let heard = storm(&service, &key, reports);
    // On a slow machine the storm may last for longer than the minute.
    let minutes = began.elapsed().as_secs() / 60;
    let rotations = service.home.sandbox.counts().rotations;
    assert!((1..=1 + minutes).contains(&rotations), "{rotations} in {:?}", began.elapsed());
    assert_eq!(service.home.sandbox.counts().refreshes, rotations, "each was sent once");
    let current = service.home.sandbox.current_access_token(service.home.location()).expect("alive");
    for (generation, status, answer) in &heard {
        match (status, minutes) {
            // Whoever reports what has passed gets what is there now; all get the same.
            (200, 0) if answer["generation"] == 2 => assert_eq!(answer["access_token"], current.as_str()),
            (200, 0) => assert!(answer["generation"] == 1 && *generation != 1, "{generation}: {answer}"),
            (409, 0) => assert_eq!((*generation, answer["code"].as_str()), (2, Some("fresh_token_refused"))),
            (200 | 409, _) => {}
            _ => panic!("{status}: {answer}"),
        }
    }
    assert!(heard.iter().filter(|(_, status, _)| *status == 200).count() > reports / 3);
    service.stop();
}

/// While HighLevel refuses to refresh, a storm of reports does not become a storm of ours.
#[test]
fn a_storm_while_highlevel_refuses_costs_one_refresh_a_minute() {
    for refusal in [FaultKind::NotActive, FaultKind::RefusedClient, FaultKind::InvalidGrant] {
        let home = Home::connected().set("GHL_AUTH_LISTEN", "127.0.0.1:0");
        home.age(Duration::from_secs(7200), Duration::from_secs(7200));
        home.sandbox.fault(Fault::new(refusal.clone()).on(Matcher::Refresh).until_cleared());
        let service = Service::start(home);
        let key = service.key(&["all", "--all"]);
        let began = Instant::now();
        storm(&service, &key, 320);
        let sent = service.home.sandbox.counts().refreshes;
        let minutes = began.elapsed().as_secs() / 60;
        assert!((1..=1 + minutes).contains(&sent), "{refusal:?}: {sent} in {:?}", began.elapsed());
        service.stop();
    }
}
