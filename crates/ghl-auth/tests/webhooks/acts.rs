//! What follows from an event: who is served and who is not, in whatever order it is told.

use std::time::{Duration, Instant};

use sandbox::{Manner, Order, UserType};
use serde_json::Value;
use tokens::store::Listing;

use crate::house::{House, block_on, company, location, until};
use crate::support::{ELSEWHERE, Home};
use crate::wire::{ask, bearer, request};
use crate::{PATH, events, home, times, was_taken_out};

fn tell(house: &House) {
    house.home.sandbox.send_webhooks_to(&format!("http://{}{PATH}", house.public));
}

/// An agency that lists nothing, so that nobody learns of a location but by a webhook.
fn agency(locations: usize) -> Home {
    let home = Home::with(|settings| {
        settings.extra_locations = locations - 1;
        settings.rate_limit.enforced = false;
    });
    home.sandbox.set_scopes(["locations.readonly", "oauth.write"]);
    home.sealed()
        .set("GHL_STORE", "sqlite:tokens.db")
        .set("GHL_AUTH_LISTEN", "127.0.0.1:0")
        .set("GHL_AUTH_PUBLIC_LISTEN", "127.0.0.1:0")
        .set("GHL_USER_TYPE", "Company")
        .set("GHL_LOCATION_ID", "")
        .set("GHL_HEALTH_CHECK_CONTACT_ID", "")
}

/// HighLevel is asked for nine locations a second, so many of them take more than a minute.
fn until_all(count: usize, holds: impl Fn() -> bool) {
    let began = Instant::now();
    let limit = Duration::from_secs(60) + Duration::from_millis(120) * u32::try_from(count).expect("few");
    while !holds() {
        assert!(began.elapsed() < limit, "it never came to hold");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn kept(house: &House) -> usize {
    block_on(house.store.overview(&Listing::ALL)).expect("the store").len()
}

#[test]
fn what_is_uninstalled_is_served_nowhere_within_a_second_and_can_be_taken_back() {
    let house = House::of(home());
    let (key, id) = (house.master_key(), house.home.location().to_owned());
    let second = house.second();
    let at_second = |path: &str| {
        let headers = [("Authorization", bearer(&key))];
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        ask(&second.address, &request("GET", path, &headers, ""))
    };
    assert_eq!(house.get(&house.token_path(), &key).status, 200);
    let token = at_second(&house.token_path());
    assert_eq!(token.status, 200);
    tell(&house);
    house.home.sandbox.uninstall(&id);
    until(|| house.home.sandbox.sent_webhooks().iter().any(|sent| sent.answers.contains(&200)));
    let began = Instant::now();
    until(|| {
        house.get(&house.token_path(), &key).status == 404 && at_second(&house.token_path()).status == 404
    });
    println!("out of service on both after {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());

    // People are told, and what was theirs is kept.
    until(|| block_on(house.records.notices(9)).expect("notices").len() == 1);
    let (notice, _) = block_on(house.records.notices(9)).expect("notices").remove(0);
    assert_eq!((notice.kind.as_str(), notice.code.as_deref()), ("uninstalled", Some("uninstalled")));
    let said = notice.said.expect("words");
    assert!(said.contains("30 days") && said.contains(&format!("restore --location {id}")), "{said}");
    let removed = house.home.run(["installs", "removed", "--json"]).good().json();
    assert_eq!(removed["removed"][0]["id"], Value::from(id.as_str()), "{removed}");
    assert_eq!(removed["removed"][0]["tokens_kept"], true, "{removed}");
    house.home.run(["installs", "removed"]).good().answers(&id).answers("kept");
    assert!(!house.dump().contains("eyJ"), "sealed as before");

    house.home.run(["installs", "restore", "--location", &id]).good().answers("is served again");
    house.home.run(["installs", "restore", "--location", &id]).fails_with(2, "not_removed");
    house.home.run(["installs", "removed"]).good().answers("Nothing is out of service");
    until(|| at_second(&house.token_path()).status == 200);
    let json = |answer: &crate::wire::Answer| -> Value { serde_json::from_str(&answer.body).expect("JSON") };
    let (before, after) = (json(&token), json(&at_second(&house.token_path())));
    assert_eq!(before["access_token"], after["access_token"], "what it had");
    assert!(after["generation"].as_u64() > before["generation"].as_u64(), "as a new epoch");
    second.end();
    house.end();
}

#[test]
fn an_uninstall_that_is_late_or_told_again_after_a_reinstall_has_no_effect() {
    let house = House::of(home());
    let (key, id) = (house.master_key(), house.home.location().to_owned());
    tell(&house);
    house.home.sandbox.set_webhook_manner(Manner { held: true, twice: true, ..Manner::default() });
    house.home.sandbox.uninstall(&id);
    assert_eq!(house.home.sandbox.held_webhooks(), 2);
    // Before it is told, its user has installed the app again.
    let code = house.home.sandbox.approve_location(&id, ELSEWHERE);
    house.home.run(["login", "--code", &code]).good();
    house.home.sandbox.let_webhooks_go(Order::First);
    until(|| {
        events(&house) == (2, 0) && house.home.sandbox.sent_webhooks().iter().all(|it| it.answers.len() == 1)
    });
    house.home.sandbox.replay_webhooks();
    until(|| house.home.sandbox.sent_webhooks().iter().all(|it| it.answers == [200]));
    assert_eq!(house.home.sandbox.sent_webhooks().len(), 8);
    assert_eq!(events(&house), (2, 0));
    let answer = house.get(&house.token_path(), &key);
    assert_eq!(answer.status, 200);
    let token: Value = serde_json::from_str(&answer.body).expect("JSON");
    assert!(house.home.sandbox.is_valid_access_token(token["access_token"].as_str().expect("a token")));
    assert!(block_on(house.records.notices(9)).expect("notices").is_empty());
    house.end();
}

#[test]
fn installs_that_come_before_their_company_s_code_is_exchanged_wait_for_it() {
    for without in [vec![], vec!["companyId".to_owned(), "userId".to_owned()]] {
        let count = times("GHL_AUTH_BULK_INSTALLS", 20);
        let house = House::of(agency(count));
        tell(&house);
        house.home.sandbox.set_webhook_manner(Manner { without: without.clone(), ..Manner::default() });
        let code = house.home.sandbox.approve(ELSEWHERE, None, UserType::Company);
        // Where it does not say which, the company's own install says nothing.
        let of_company = i64::from(without.is_empty());
        let all = i64::try_from(count).expect("a number") + of_company;
        until(|| events(&house).0 == all);
        assert_eq!(kept(&house), 0);
        // A while passes, in which they were tried and put off.
        std::thread::sleep(Duration::from_millis(1500));
        assert!(events(&house).1 >= all - of_company, "{:?}", events(&house));
        house.home.run(["login", "--code", &code]).good();
        let began = Instant::now();
        until_all(count, || events(&house).1 == 0);
        println!("{count} locations after {:?}", began.elapsed());
        let overview = block_on(house.store.overview(&Listing::ALL)).expect("the store");
        assert_eq!(overview.len(), count + 1);
        assert!(overview.iter().all(|it| it.version.epoch == 1), "each is begun once");
        let key = house.master_key();
        for id in house.home.sandbox.location_ids() {
            assert_eq!(house.get(&format!("/v1/locations/{id}/token"), &key).status, 200, "{id}");
        }
        assert!(!house.dump().contains("eyJ"), "no token stands in the queue or anywhere in clear text");
        house.end();
    }
}

#[test]
fn a_company_that_is_uninstalled_takes_all_its_locations_along_and_is_told_of_once() {
    let count = times("GHL_AUTH_BULK_INSTALLS", 20);
    let house = House::of(agency(count));
    tell(&house);
    let code = house.home.sandbox.approve(ELSEWHERE, None, UserType::Company);
    house.home.run(["login", "--code", &code]).good();
    until_all(count, || kept(&house) == count + 1);
    let key = house.master_key();
    // Told of in another order than it happened: a new location, and an update of one.
    let ids = house.home.sandbox.location_ids();
    house.home.sandbox.update(&ids[0]);
    house.home.sandbox.announce_location("newNEWnewNEWnewNEW00");
    let the_company = house.home.sandbox.settings().company_id.clone();
    house.home.sandbox.uninstall(&the_company);
    until(|| kept(&house) == 0);
    until(|| events(&house).1 == 0);
    for id in &ids {
        until(|| house.get(&format!("/v1/locations/{id}/token"), &key).status == 404);
    }
    let notices = block_on(house.records.notices(9)).expect("notices");
    let told: Vec<_> = notices.iter().filter(|(it, _)| it.kind.as_str() == "uninstalled").collect();
    assert_eq!(told.len(), 1);
    assert!(
        told[0].0.said.as_ref().is_some_and(|said| said.contains(&format!("{} installations", count + 1)))
    );
    let removed = block_on(house.store.removed(None, 9999)).expect("the store");
    assert_eq!(removed.len(), count + 1);
    assert!(removed.iter().all(|it| it.tokens.is_some()));

    // A location is installed again from the agency's pages, once the company is back.
    let code = house.home.sandbox.approve(ELSEWHERE, None, UserType::Company);
    house.home.run(["login", "--code", &code]).good();
    until_all(count, || kept(&house) == count + 1);
    assert!(block_on(house.store.load(&company(&the_company))).expect("the store").is_some());
    assert_eq!(block_on(house.store.removed_at(&location(&ids[0]))).expect("the store"), None);
    house.end();
}

#[test]
fn a_company_that_is_restored_brings_back_the_locations_that_left_with_it_and_no_others() {
    let house = House::of(agency(5));
    tell(&house);
    let code = house.home.sandbox.approve(ELSEWHERE, None, UserType::Company);
    house.home.run(["login", "--code", &code]).good();
    until_all(5, || kept(&house) == 6);
    let ids = house.home.sandbox.location_ids();
    // One of them left by itself before.
    house.home.sandbox.uninstall(&ids[2]);
    until(|| kept(&house) == 5);
    std::thread::sleep(Duration::from_millis(1100));
    let the_company = house.home.sandbox.settings().company_id.clone();
    house.home.sandbox.uninstall(&the_company);
    until(|| kept(&house) == 0);
    let restore = ["installs", "restore", "--company", the_company.as_str()];
    house.home.run(restore).good().answers("is served again").answers("4 locations that left with");
    let removed = block_on(house.store.removed(None, 9)).expect("the store");
    assert_eq!(removed.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), [ids[2].as_str()]);
    assert_eq!(kept(&house), 5);
    house.home.run(restore).fails_with(2, "not_removed");
    house.end();
}

#[test]
fn highlevel_sends_again_what_was_not_taken_and_it_counts_once() {
    let house = House::of(home());
    let (key, id) = (house.master_key(), house.home.location().to_owned());
    house.until_checked();
    let records = rusqlite::Connection::open(house.home.path("tokens.db.records.db")).expect("a database");
    records.execute_batch("BEGIN IMMEDIATE").expect("nobody else writes now");
    tell(&house);
    house.home.sandbox.uninstall(&id);
    until(|| house.home.sandbox.sent_webhooks().iter().any(|sent| sent.answers.contains(&503)));
    assert_eq!(house.get(&house.token_path(), &key).status, 200, "nobody knows yet");
    records.execute_batch("ROLLBACK").expect("given back");
    until(|| house.get(&house.token_path(), &key).status == 404);
    until(|| house.home.sandbox.sent_webhooks()[0].answers.last() == Some(&200));
    assert_eq!(events(&house).0, 1);
    let sent: Value = serde_json::from_str(&house.home.sandbox.sent_webhooks()[0].body).expect("JSON");
    until(|| was_taken_out(&house, sent["webhookId"].as_str().expect("an id")));
    house.end();
}
