//! Very many installations: lists by the page, and a new key while everything goes on.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use store::{Key, Keys, StoreUrl};
use tokens::store::ListedNote;
use tokens::{
    AccessToken, Broken, Connection, Health, Installation, InstallationId, LastCheck, RefreshBy,
    RefreshToken, ReplyMembers, Store, Timestamp, TokenSet, Version,
};

use crate::serving::{Service, document};
use crate::support::{Home, KEY};

const OTHER_KEY: &str = "c2l4dHkgZm91ciBiaXRzIHRpbWVzIGZvdXIgb2Ygb2w=";

fn home() -> Home {
    Home::new().sealed().set("GHL_AUTH_LISTEN", "127.0.0.1:0").set("GHL_AUTH_LANG", "en")
}

fn keys(current: &str, old: &[&str]) -> Keys {
    let key = |text: &str| Key::parse(text).expect("a key");
    Keys { current: Some(key(current)), old: old.iter().map(|text| key(text)).collect() }
}

fn open(home: &Home, keys: &Keys) -> Arc<dyn Store> {
    store::open(&StoreUrl::Sqlite(home.path("ghl-auth.db")), keys, None).expect("a store")
}

fn waiting<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(work)
}

/// An installation that was just granted and checked: nothing of it is due.
fn kept(home: &Home, id: InstallationId, company: Option<&str>) -> Installation {
    let now = Timestamp::from_millis(i64::try_from(home.sandbox.now_millis()).expect("a time"));
    let tokens = TokenSet {
        access: AccessToken::new(format!("access-{id}")),
        refresh_by: RefreshBy::Own(RefreshToken::new(format!("refresh-{id}"))),
        issued_at: now,
        expires_at: now + Duration::from_secs(86_399),
        scopes: "contacts.readonly".into(),
        company: company.map(|id| id.parse().expect("an id")),
        members: ReplyMembers::new("{}"),
    };
    Installation {
        id,
        version: Version { epoch: 1, generation: 1 },
        tokens,
        previous: None,
        connection: Connection::Connected,
        intent: None,
        last_check: Some(LastCheck { at: now, health: Health::Operational, code: None, said: None }),
        connected_at: now,
        name: None,
        unlisted_at: None,
    }
}

fn location(number: usize) -> InstallationId {
    InstallationId::from_parts("location", &format!("loc{number:04}")).expect("an id")
}

/// A company that is kept and has every second location, and one that is not and has the others.
fn agency(home: &Home, locations: usize) {
    let mut all: Vec<Installation> = (0..locations)
        .map(|number| kept(home, location(number), Some(["AGENCY", "STRANGER"][number % 2])))
        .collect();
    let company = InstallationId::from_parts("company", "AGENCY").expect("an id");
    all.push(kept(home, company, Some("AGENCY")));
    if let Some(third) = all.get_mut(2) {
        let since = third.tokens.issued_at;
        third.connection = Connection::Broken(Broken { since, said: "invalid_grant".into() });
    }
    waiting(async {
        let store = open(home, &keys(KEY, &[]));
        store.put(&all).await.expect("kept");
        let note = |number: usize, name: &str, unlisted_at| ListedNote {
            id: location(number),
            name: Some(name.to_owned()),
            unlisted_at,
        };
        let gone = Some(all[1].tokens.issued_at);
        store
            .note_listed(&[note(0, "Padaria São João\u{1b}[2J", None), note(1, "Academia", gone)])
            .await
            .expect("noted");
    });
}

fn ids(list: &Value) -> Vec<&str> {
    list["installations"].as_array().expect("a list").iter().filter_map(|one| one["id"].as_str()).collect()
}

#[test]
fn status_shows_a_company_and_its_locations_below_it() {
    let home = home();
    agency(&home, 5);
    let run = home.run(["status"]).good();
    let firsts: Vec<&str> = run
        .out
        .lines()
        .map(|line| line.split("  ").find(|it| !it.trim().is_empty()).unwrap_or_default().trim())
        .collect();
    let expected = [
        "Installation",
        "company AGENCY",
        "location loc0000 (Padaria São João [2J)",
        "location loc0002",
        "location loc0004",
        "no company",
        "location loc0001 (Academia)",
        "location loc0003",
        "1 company, 5 locations: 5 connected, 1 in need of a person, 1 no longer in HighLevel's list",
        "Uptime: not known. Checks are remembered once the service has run over this store: ghl-auth serve",
    ];
    assert_eq!(firsts, expected, "{}", run.out);
    assert!(run.out.contains("\n   location loc0000"), "indented: {}", run.out);
    run.complains("loc0001 is no longer in HighLevel's list of installed locations since")
        .complains("authorize");
    let home = home.set("GHL_AUTH_LANG", "pt-BR");
    home.run(["status"]).good().answers("1 company, 5 locations: 5 conectadas, 1 precisa de uma pessoa");
}

#[test]
fn status_shows_what_is_asked_for_and_a_page_of_it() {
    let home = home();
    home.run(["status", "--state", "broken"]).good().answers("No installation is as you ask.");
    agency(&home, 120);
    let list = |arguments: &[&str]| {
        let all = [&["status", "--json"], arguments].concat();
        home.run(all).good().json()
    };
    let json = list(&[]);
    assert_eq!(ids(&json).len(), 121, "a program gets all");
    assert_eq!((&json["counts"]["locations"], &json["counts"]["broken"]), (&json!(120), &json!(1)));
    assert_eq!(json["installations"][1]["name"], "Academia");
    assert!(json["installations"][1]["unlisted_at"].is_string(), "{json}");
    assert_eq!(ids(&list(&["--company", "AGENCY"])).len(), 61);
    assert_eq!(ids(&list(&["--state", "broken"])), ["loc0002"]);
    assert_eq!(ids(&list(&["--search", "são joão"])), ["loc0000"]);
    assert_eq!(ids(&list(&["--search", "LOC007"])).len(), 10);
    assert_eq!(ids(&list(&["--limit", "2", "--sort", "checked-at"])).len(), 2);
    let table = |arguments: &[&str]| home.run([&["status"], arguments].concat()).good().out;
    let rows = |table: &str| table.matches("loc0").count();
    assert!(table(&[]).contains("There are more: see --limit"), "a person gets a page");
    assert_eq!(rows(&table(&[])), 49, "beside the company");
    assert_eq!(rows(&table(&["--all"])), 120);
    assert_eq!(rows(&table(&["--limit", "7", "--sort", "expires_at"])), 7);
    home.run(["status", "--state", "odd"]).ended(2);
    home.run(["status", "--sort", "odd"]).ended(2);
    home.run(["status", "--limit", "0"]).ended(2);
}

#[test]
fn the_api_gives_installations_by_the_page_in_any_order() {
    let home = home();
    agency(&home, 25);
    let service = Service::start(home);
    let all = service.key(&["all", "--all", "--verb", "token", "--verb", "admin"]);
    let page = |query: &str| document(&service.get(&format!("/v1/installations{query}"), Some(&all)));
    let whole = page("");
    assert_eq!((ids(&whole).len(), &whole["next"]), (26, &Value::Null));
    for sort in ["id", "expires_at", "checked_at"] {
        let expected = page(&format!("?sort={sort}"));
        let (mut found, mut after) = (Vec::new(), String::new());
        for _ in 0..10 {
            let next = page(&format!("?sort={sort}&limit=4{after}"));
            found.extend(ids(&next).iter().map(|id| (*id).to_owned()));
            let Some(cursor) = next["next"].as_str() else { break };
            after = format!("&after={cursor}");
        }
        assert_eq!(found, ids(&expected), "{sort}");
    }
    assert_eq!(ids(&page("?company=AGENCY")).len(), 14);
    assert_eq!(ids(&page("?state=broken")), ["loc0002"]);
    assert_eq!(ids(&page("?q=academia")), ["loc0001"]);
    assert_eq!(page("?q=academia")["installations"][0]["name"], "Academia");
    let cursor = page("?limit=1")["next"].as_str().expect("more").to_owned();
    for odd in
        ["limit=0", "limit=1001", "limit=x", "after=x", "state=odd", "sort=odd", "company=a%20b", "odd=1"]
            .into_iter()
            .chain([format!("sort=expires_at&after={cursor}").as_str()])
    {
        let answer = service.get(&format!("/v1/installations?{odd}"), Some(&all));
        assert_eq!(answer.status, 400, "{odd}: {}", answer.body);
    }
    // Whose key is good for a few sees these, by the page as well.
    let few = service.key(&["few", "--location", "loc0003", "--location", "loc0001", "--location", "nobody"]);
    let few = |query: &str| document(&service.get(&format!("/v1/installations{query}"), Some(&few)));
    assert_eq!(ids(&few("")), ["loc0001", "loc0003"]);
    let first = few("?limit=1");
    let cursor = first["next"].as_str().expect("more");
    let second = few(&format!("?limit=1&after={cursor}"));
    assert_eq!(
        (ids(&first), ids(&second), &second["next"]),
        (vec!["loc0001"], vec!["loc0003"], &Value::Null)
    );
    assert_eq!(ids(&few("?company=AGENCY")).len(), 0);
    let parked = document(&service.get("/v1/parked?limit=5", Some(&all)));
    assert_eq!((&parked["parked"], &parked["next"]), (&json!([]), &Value::Null));
    service.stop();
}

/// How many of them can be read with these keys.
fn readable(home: &Home, keys: &Keys) -> usize {
    waiting(async { open(home, keys).list(None, 10_000).await.expect("all open").len() })
}

#[test]
fn a_new_key_takes_over_and_the_old_one_can_go() {
    let home = home();
    agency(&home, 3_000);
    home.run(["rotate-key"]).good().answers("Everything is under the key");
    let home = home.set("GHL_AUTH_KEY", OTHER_KEY).set("GHL_AUTH_OLD_KEYS", KEY);
    home.run(["status", "--limit", "1"]).good();
    assert!(readable(&home, &keys(OTHER_KEY, &[KEY])) == 3_001);
    let run = home.run(["rotate-key"]).good();
    run.answers("3001 records were sealed anew").answers("The old key can be removed now");
    assert_eq!(readable(&home, &keys(OTHER_KEY, &[])), 3_001);
    let home = home.set("GHL_AUTH_OLD_KEYS", "");
    home.run(["status", "--limit", "1"]).good();
    let json = home.run(["rotate-key", "--json"]).good().json();
    assert_eq!((&json["left"], &json["sealed_anew"]), (&json!(0), &json!(0)));
    let back = home.set("GHL_AUTH_KEY", KEY);
    back.run(["status"]).fails_with(2, "wrong_key");
    Home::new().run(["rotate-key"]).fails_with(2, "no_key_to_rotate");
}

#[test]
fn what_does_not_open_is_named_and_the_old_key_has_to_stay() {
    let home = home();
    agency(&home, 10);
    let database = rusqlite::Connection::open(home.path("ghl-auth.db")).expect("a database");
    let sql = "UPDATE sets SET sealed = substr(sealed, 1, 60)
        WHERE whose = (SELECT number FROM installations WHERE id = 'loc0004')";
    assert_eq!(database.execute(sql, []).expect("changed"), 1);
    drop(database);
    let home = home.set("GHL_AUTH_KEY", OTHER_KEY).set("GHL_AUTH_OLD_KEYS", KEY);
    for _ in 0..2 {
        home.run(["rotate-key"])
            .fails_with(1, "left_under_old_key")
            .complains("location loc0004")
            .complains("Keep GHL_AUTH_OLD_KEYS for now");
    }
    home.set("GHL_AUTH_OLD_KEYS", "").run(["status"]).fails_with(2, "wrong_key");
}

#[test]
fn killed_at_any_point_a_change_of_the_key_goes_on_where_it_was_with_the_service_up() {
    let home = home();
    agency(&home, 2_000);
    // The last of them is real: its token is asked for all the while.
    let home = home.log_in();
    let home = home.set("GHL_AUTH_KEY", OTHER_KEY).set("GHL_AUTH_OLD_KEYS", KEY);
    let service = Service::start(home);
    let key = service.key(&["all", "--all"]);
    let points = std::env::var("KEY_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(6_u64);
    for point in 0..points {
        let rotating = service.home.start(["rotate-key"]);
        std::thread::sleep(Duration::from_millis(point * 17 % 150));
        rotating.signal("KILL");
        rotating.end();
        assert_eq!(service.token(&key).status, 200, "killed at {point}");
        assert_eq!(readable(&service.home, &keys(OTHER_KEY, &[KEY])), 2_002, "killed at {point}");
    }
    service.home.run(["rotate-key"]).good().answers("The old key can be removed now");
    assert_eq!(readable(&service.home, &keys(OTHER_KEY, &[])), 2_002);
    assert_eq!(service.token(&key).status, 200);
    service.home.run(["refresh", "--location", service.home.location()]).good();
    service.stop();
}
