//! `rotate-all`: every grant gets new tokens, once, and the old ones are served no more.

use std::time::Duration;

use crate::houses::{agency, holds_all};
use crate::serving::Service;
use crate::support::{ELSEWHERE, Home};

const STORE: &str = "sqlite:ghl-auth.db";

#[test]
fn every_grant_gets_new_tokens_and_the_service_serves_the_old_no_more() {
    let home = agency(5).set("GHL_AUTH_LISTEN", "127.0.0.1:0");
    let service = Service::start(home);
    let key = service.key(&["n8n", "--all"]);
    let old = service.token(&key).body;
    // What is issued within the second in which it begins is done once more, so that one passes.
    std::thread::sleep(Duration::from_millis(1100));
    let run = service.home.run(["rotate-all", "--json"]).good();
    let json = run.json();
    assert_eq!((&json["rotated"], &json["skipped"]), (&5.into(), &0.into()), "{json}");
    assert!(holds_all(&service.home, STORE));
    assert_eq!(service.home.sandbox.counts().rotations, 5);
    service.until(|| service.token(&key).body != old);

    // Told the start of the first, a second run finds nothing to do.
    let since = json["since"].as_str().expect("an instant").to_owned();
    let again = service.home.run(["rotate-all", "--json", "--since", &since]).good().json();
    assert_eq!((&again["rotated"], &again["skipped"]), (&0.into(), &5.into()));
    assert_eq!(service.home.sandbox.counts().rotations, 5);
}

/// Kills one with so many refreshes in the air, and gives back since when it had rotated.
fn cut_off(home: &Home, in_the_air: usize) -> String {
    home.sandbox.hold_answers(sandbox::Matcher::Refresh);
    let mut rotating = home.start(["rotate-all"]);
    let since = since_in(&rotating.until_it_says("rotate-all --since ")).to_owned();
    while home.sandbox.held() < in_the_air {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(home.sandbox.held(), in_the_air);
    rotating.signal("KILL");
    rotating.until_it_ends();
    home.sandbox.release();
    since
}

fn since_in(said: &str) -> &str {
    said.split("--since ").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("told")
}

#[test]
fn cut_short_it_goes_on_where_it_was() {
    let home = agency(12);
    std::thread::sleep(Duration::from_millis(1100));
    // At most eight are in the air.
    let since = cut_off(&home, 8);
    let json = home.run(["rotate-all", "--json", "--since", &since]).good().json();
    assert_eq!(json["rotated"], 12, "what was in the air is flown on with: {json}");
    assert!(holds_all(&home, STORE));
    let json = home.run(["rotate-all", "--json", "--since", &since]).good().json();
    assert_eq!((&json["rotated"], &json["skipped"]), (&0.into(), &12.into()));
}

#[test]
fn one_that_was_cut_off_is_gone_on_with_untold_and_one_that_ended_begins_anew() {
    let home = agency(3);
    std::thread::sleep(Duration::from_millis(1100));
    let since = cut_off(&home, 3);
    std::thread::sleep(Duration::from_millis(1100));
    let on = home.run(["rotate-all", "--json"]).good().complains("Going on").complains(&since);
    let json = on.json();
    assert_eq!((&json["since"], &json["rotated"]), (&since.into(), &3.into()), "{json}");
    // That one ended.
    std::thread::sleep(Duration::from_millis(1100));
    let anew = home.run(["rotate-all", "--json"]).good();
    assert!(!anew.err.contains("Going on"), "{}", anew.err);
    assert_eq!(anew.json()["rotated"], 3);
    assert!(holds_all(&home, STORE));
}

#[test]
fn who_fails_is_named_and_the_others_are_rotated() {
    let home = agency(3);
    std::thread::sleep(Duration::from_millis(1100));
    let ids = home.sandbox.location_ids();
    home.sandbox.revoke(&ids[1]);
    let run =
        home.run(["rotate-all"]).ended(1).answers("Rotated: 2. Had newer tokens already: 0. Failed: 1.");
    let run = run.complains(&ids[1]).complains("--since");
    assert!(!run.out.contains("eyJ") && !run.err.contains("eyJ"));
    let code = home.sandbox.approve_location(&ids[1], ELSEWHERE);
    home.run(["login", "--code", &code]).good();
    let since = since_in(&run.err);
    let home = home.set("GHL_AUTH_LANG", "pt-BR");
    home.run(["rotate-all", "--since", since]).good().answers("Trocadas: 0. Já tinham tokens mais novos: 3.");
}
