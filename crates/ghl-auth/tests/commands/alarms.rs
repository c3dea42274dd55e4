//! Notices, the dead-man's switch and maintenances: people hear of trouble once, and of its end.

use sandbox::{Fault, FaultKind, Matcher};
use serde_json::{Value, json};

use crate::serving::{Listener, Service, Taken, document, home};
use crate::support::Home;

fn check(service: &Service, key: &str) -> Value {
    let asked = json!({ "kind": "location", "id": service.home.location() }).to_string();
    document(&service.ask("POST", "/v1/checks", Some(key), &asked))
}

const ADMIN: [&str; 6] = ["admin", "--all", "--verb", "admin", "--verb", "token"];

fn watched(listener: &Listener) -> Home {
    // Without a tag, so that checks in a row don't meet the one before's.
    home()
        .set("GHL_HEALTH_CHECK_TAG_NAME", "")
        .set("MICROSERVICE_NAME", "JARDINS")
        .set("GHL_NOTIFY_ALLOW_PRIVATE", "true")
        .set("GHL_NOTIFY_WEBHOOK_URL", &format!("{}/hook?token=hidden", listener.address))
        .set("GHL_NOTIFY_WEBHOOK_SECRET", "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")
}

/// From now on HighLevel says that the location is not active.
fn suspend(service: &Service) {
    let fault = Fault::new(FaultKind::NotActive).on(Matcher::ContactRead).until_cleared();
    service.home.sandbox.fault(fault);
}

#[test]
fn trouble_is_told_once_by_another_door_and_its_end_once() {
    let listener = Listener::start();
    let service = Service::start(watched(&listener));
    let key = service.key(&ADMIN);
    suspend(&service);
    assert_eq!(check(&service, &key)["health"], "suspended");
    let first = listener.until(1)[0].clone();
    let notice: Value = serde_json::from_str(&first.body).expect("JSON");
    assert_eq!(notice["type"], "ghl_auth.trouble");
    assert_eq!(notice["data"]["microservice"], "JARDINS");
    assert_eq!(
        (notice["data"]["id"].as_str(), notice["data"]["health"].as_str()),
        (Some(service.home.location()), Some("suspended"))
    );
    let text = notice["data"]["text"].as_str().expect("words");
    assert!(
        notice["data"]["title"].as_str().is_some_and(|title| title.starts_with("JARDINS: location ")),
        "{notice}"
    );
    assert!(text.starts_with("Since ") && text.contains("not active"), "{text}");
    let header = |taken: &Taken, name: &str| {
        let line = taken.head.lines().find(|line| line.to_lowercase().starts_with(name)).expect("a header");
        line.split_once(": ").expect("a value").1.trim().to_owned()
    };
    assert!(header(&first, "webhook-signature").starts_with("v1,"));
    // Checked anew, it is told no more.
    check(&service, &key);
    check(&service, &key);
    service.home.sandbox.clear_faults();
    assert_eq!(check(&service, &key)["health"], "operational");
    let all = listener.until(2);
    let second: Value = serde_json::from_str(&all[1].body).expect("JSON");
    assert_eq!(second["type"], "ghl_auth.recovered");
    assert_ne!(header(&all[0], "webhook-id"), header(&all[1], "webhook-id"));
    assert!(!service.running.said().contains("hidden"), "an address holds secrets");
    service.stop();
    assert_eq!(listener.taken().len(), 2);
}

#[test]
fn a_notice_that_nobody_took_waits_for_the_next_service() {
    let listener = Listener::start();
    listener.answer(503);
    let service = Service::start(watched(&listener));
    let key = service.key(&ADMIN);
    suspend(&service);
    check(&service, &key);
    listener.until(1);
    let Service { home, running, .. } = service;
    running.signal("KILL");
    running.end().ended(-1);
    // An hour later, as the outbox sees it.
    let records = rusqlite::Connection::open(home.path("tokens.db.records.db")).expect("the records");
    records.execute("UPDATE deliveries SET due_at = due_at - 3600000", []).expect("earlier");
    drop(records);
    listener.answer(200);
    let service = Service::start(home);
    let all = listener.until(2);
    let id =
        |taken: &Taken| taken.head.lines().find(|line| line.starts_with("webhook-id")).map(str::to_owned);
    assert_eq!(id(&all[0]), id(&all[1]), "the same notice");
    service.stop();
    assert_eq!(listener.taken().len(), 2, "told once");
}

#[test]
fn in_a_maintenance_nobody_is_told_and_after_it_they_are() {
    let listener = Listener::start();
    let service = Service::start(watched(&listener));
    let key = service.key(&ADMIN);
    let said =
        service.home.run(["maintenance", "start", "--for", "2h", "--reason", "moving", "--json"]).good();
    let id = said.json()["id"].as_str().expect("an id").to_owned();
    service.home.run(["maintenance", "list"]).good().answers("moving");
    suspend(&service);
    assert_eq!(check(&service, &key)["health"], "suspended");
    service.home.run(["maintenance", "end", &id]).good();
    assert!(listener.taken().is_empty());
    check(&service, &key);
    listener.until(1);
    service.stop();
}

#[test]
fn the_dead_mans_switch_hears_of_each_round_s_check() {
    let listener = Listener::start();
    let url = format!("{}/ping/uuid", listener.address);
    let home = home().set("GHL_NOTIFY_ALLOW_PRIVATE", "true").set("GHL_HEARTBEAT_URL", &url);
    let service = Service::start(home);
    let beats = listener.until(2);
    let (start, run) = beats[0].path.split_once("?rid=").expect("a run");
    assert_eq!((start, run.len()), ("/ping/uuid/start", 36));
    assert_eq!(beats[1].path, format!("/ping/uuid?rid={run}"));
    service.stop();
}

#[test]
fn the_second_tag_tells_of_trouble_while_highlevel_answers() {
    let home = home().set("GHL_HEALTH_CHECK_FAILURE_TAG_NAME", "trouble").set("GHL_ALERT_AFTER", "1");
    let service = Service::start(home);
    let key = service.key(&ADMIN);
    service.until(|| !document(&service.get("/v1/checks", Some(&key)))["checks"][0].is_null());
    let refused = FaultKind::status(422, r#"{"message":"odd","statusCode":422}"#);
    service.home.sandbox.fault(Fault::new(refused).on(Matcher::ContactRead));
    assert_eq!(check(&service, &key)["health"], "down");
    service.until(|| service.home.sandbox.contact_tags().iter().any(|tag| tag == "trouble"));
    service.stop();
}

#[test]
fn each_way_is_tried_on_demand() {
    let listener = Listener::start();
    home().run(["notify", "--test"]).fails_with(2, "no_ways");
    let home = watched(&listener)
        .set("GHL_NOTIFY_SLACK_URL", &format!("{}/slack", listener.address))
        .set("GHL_NOTIFY_DISCORD_URL", &format!("{}/discord", listener.address))
        .set("GHL_NOTIFY_TELEGRAM_URL", &format!("{}/bot/sendMessage?chat_id=1", listener.address))
        .set("GHL_HEALTH_CHECK_FAILURE_TAG_NAME", "Status:Trouble")
        .set("GHL_HEARTBEAT_URL", &format!("{}/beat", listener.address));
    home.run(["notify", "--test"]).good().answers("webhook: taken").answers("tag: taken");
    let paths: Vec<String> = listener.taken().iter().map(|taken| taken.path.clone()).collect();
    assert_eq!(paths[..4], ["/hook?token=hidden", "/slack", "/discord", "/bot/sendMessage?chat_id=1"]);
    let member = |at: usize, name: &str| {
        let body: Value = serde_json::from_str(&listener.taken()[at].body).expect("JSON");
        body[name].as_str().expect("words").to_owned()
    };
    for (at, name) in [(1, "text"), (2, "content"), (3, "text")] {
        assert!(member(at, name).starts_with("JARDINS: this is a test"), "{}", member(at, name));
    }
    listener.answer(500);
    home.run(["notify", "--test"]).fails_with(1, "notify_failed").answers("slack: it answered 500");
    let guarded = home.set("GHL_NOTIFY_ALLOW_PRIVATE", "false");
    guarded.run(["notify", "--test"]).ended(2).complains("it is not https");
}
