//! What the gateway does for a program, told both ways: as a plain request, and as one in chunks.

use std::time::Duration;

use sandbox::{Fault, FaultKind, Matcher};
use tokens::records::{Reach, Verb};

use crate::caller::{Caller, Way};
use crate::house::{House, block_on, home, install, location, now, these};
use crate::support::Home;
use crate::wire;

/// A minute and more: since then, a refused token is worth a refresh.
const A_WHILE: Duration = Duration::from_secs(120);

/// A service whose token was issued a while ago, and a key for everything that passes.
fn house() -> (House, String) {
    let home = home();
    let own = location(home.location());
    let house = House::with(home, |store| {
        let mut tokens = block_on(store.load(&own)).expect("a store").expect("a grant").tokens;
        tokens.issued_at = tokens.issued_at - A_WHILE;
        // The same set once more would be the one that is there.
        block_on(store.remove(&own, now())).expect("taken out");
        block_on(store.connect(&own, &tokens, now())).expect("saved");
    });
    let key = house.key(&[Verb::Gateway], Reach::All);
    house.until_checked();
    (house, key)
}

/// Those of the sandbox's requests that came by the gateway for a contact.
fn seen(house: &House, path: &str) -> Vec<(String, Option<String>, u16)> {
    let ledger = house.home.sandbox.ledger();
    let ours = ledger.requests.iter().filter(|line| line.path.starts_with(path));
    ours.map(|line| (line.method.clone(), line.version.clone(), line.status)).collect()
}

#[test]
fn a_program_sends_what_it_would_send_to_highlevel_and_never_sees_a_token() {
    let (house, key) = house();
    let mut caller = Caller::new(&house.private, &key);
    for (round, way) in Way::BOTH.into_iter().enumerate() {
        let body = format!(
            r#"{{"firstName":"Ana","email":"ana{round}@example.com","locationId":"{}"}}"#,
            house.home.location()
        );
        let json = [("Content-Type", "application/json")];
        let made = caller.send(way, "POST", "/contacts/", &json, &body);
        assert_eq!(made.status, 201, "{way:?}: {}", made.json());
        let id = made.json()["contact"]["id"].as_str().expect("an id").to_owned();
        let path = format!("/contacts/{id}");
        let read = caller.send(way, "GET", &path, &[], "");
        assert_eq!(read.json()["contact"]["email"], format!("ana{round}@example.com"), "{way:?}");
        assert_eq!(read.header("x-ratelimit-max"), Some("100"), "{way:?}: as HighLevel sent it");
        assert!(read.header("x-request-id").is_some(), "{way:?}");
        let put = caller.send(
            way,
            "PUT",
            &path,
            &[("Version", "2023-02-21"), ("content-type", "application/json")],
            r#"{"lastName":"Lima"}"#,
        );
        assert_eq!(put.status, 200, "{way:?}: {}", put.json());
        let tagged = caller.send(way, "POST", &format!("{path}/tags"), &json, r#"{"tags":["vip"]}"#);
        assert_eq!(tagged.status, 201, "{way:?}");
        let untagged = caller.send(way, "DELETE", &format!("{path}/tags"), &json, r#"{"tags":["vip"]}"#);
        assert_eq!(untagged.json()["tags"].as_array().map(Vec::len), Some(0), "{way:?}");
        assert_eq!(caller.send(way, "HEAD", &path, &[], "").status, 404, "{way:?}: HighLevel's own answer");
        assert_eq!(caller.send(way, "DELETE", &path, &[], "").status, 200, "{way:?}");
        let version = |of: &str| Some(of.to_owned());
        let expected = [
            ("GET".to_owned(), version("2021-07-28"), 200),
            ("PUT".to_owned(), version("2023-02-21"), 200),
            ("POST".to_owned(), version("2021-07-28"), 201),
            ("DELETE".to_owned(), version("2021-07-28"), 200),
            ("HEAD".to_owned(), version("2021-07-28"), 404),
            ("DELETE".to_owned(), version("2021-07-28"), 200),
        ];
        assert_eq!(seen(&house, &path), expected, "{way:?}");
    }
    let missing = caller.get("/calendars/events");
    assert_eq!(missing.status, 404);
    assert_eq!(seen(&house, "/calendars")[0].1.as_deref(), Some("2021-04-15"), "that service's own version");
    house.end();
}

#[test]
fn a_token_that_highlevel_refuses_is_renewed_once_for_all_who_are_told_so() {
    let (house, key) = house();
    let path = format!("/contacts/{}", house.home.sandbox.settings().contact_id);
    let refreshes = |house: &House| house.home.sandbox.ledger().refreshes();
    let before = refreshes(&house);
    // The token's day ends at HighLevel; here it is thought to live.
    house.home.sandbox.advance(Duration::from_secs(86_400));
    let answers: Vec<_> = std::thread::scope(|threads| {
        let asking = (0..20).map(|number| {
            let (house, key, path) = (&house, &key, &path);
            threads.spawn(move || {
                let json = [("Content-Type", "application/json")];
                let mut caller = Caller::new(&house.private, key);
                caller.send(
                    Way::BOTH[number % 2],
                    "POST",
                    &format!("{path}/tags"),
                    &json,
                    r#"{"tags":["seen"]}"#,
                )
            })
        });
        let asking: Vec<_> = asking.collect();
        asking.into_iter().map(|asked| asked.join().expect("an answer")).collect()
    });
    for got in answers {
        assert_eq!((got.status, got.hint()), (201, None), "{}\n{}", got.json(), house.running.said());
    }
    assert_eq!(refreshes(&house) - before, 1);
    house.end();
}

#[test]
fn what_no_refresh_cures_is_passed_back_with_a_word_of_what_it_means() {
    let (house, key) = house();
    let mut caller = Caller::new(&house.private, &key);
    let before = house.home.sandbox.ledger().refreshes();
    let answers = [
        (401, "The token is not authorized for this scope.", Some("scope_missing")),
        (
            401,
            "This authClass type is not allowed to access this scope. Please verify your IAM configuration if this is not the case.",
            Some("wrong_class"),
        ),
        (401, "version header was not found.", Some("version_refused")),
        (403, "The token does not have access to this location.", Some("other_location")),
        (400, "Location is not active", Some("not_active")),
        (429, "Too Many Requests", Some("rate_limited")),
        (401, "Unauthorized", None),
        (400, "Contact not found for id:x", None),
        (500, "Invalid JWT", None),
    ];
    for (status, said, hint) in answers {
        for way in Way::BOTH {
            let body = serde_json::json!({ "statusCode": status, "message": said }).to_string();
            let fault = Fault::new(FaultKind::status(status, &body)).on(Matcher::Path("/contacts".into()));
            house.home.sandbox.fault(fault);
            let got = caller.send(way, "GET", "/contacts/x", &[], "");
            assert_eq!((got.status, got.hint()), (status, hint), "{way:?}: {said}");
            assert_eq!(String::from_utf8_lossy(&got.body), body, "{way:?}: word for word");
        }
    }
    assert_eq!(house.home.sandbox.ledger().refreshes(), before);
    house.end();
}

#[test]
fn who_is_meant_is_found_or_asked_for() {
    let home = home();
    let own = home.location().to_owned();
    let house = House::with(home, |store| {
        install(store, &location("elsewhere"), "token-of-elsewhere");
    });
    let all = house.key(&[Verb::Gateway], Reach::All);
    let bound = house.key(&[Verb::Gateway], these([location(&own)]));
    let two = house.key(&[Verb::Gateway], these([location(&own), location("elsewhere")]));
    let tokens = house.key(&[Verb::Token], Reach::All);
    house.until_checked();
    let path = format!("/contacts/{}", house.home.sandbox.settings().contact_id);
    let by_query = format!("{path}?locationId={own}");
    let elsewhere = format!("{path}?location_id=elsewhere");
    for way in Way::BOTH {
        let ask = |key: &str, path: &str, headers: &[(&str, &str)]| {
            let got = Caller::new(&house.private, key).send(way, "GET", path, headers, "");
            (got.status, got.json()["code"].as_str().unwrap_or_default().to_owned())
        };
        let good = (200, String::new());
        let refused = |status: u16, code: &str| (status, code.to_owned());
        assert_eq!(ask(&all, &path, &[("X-Location-Id", &own)]), good, "{way:?}");
        assert_eq!(ask(&all, &by_query, &[]), good, "{way:?}");
        assert_eq!(ask(&all, &elsewhere, &[("x-location-id", &own)]), good, "{way:?}: a header comes first");
        assert_eq!(ask(&bound, &path, &[]), good, "{way:?}: the key is for one");
        assert_eq!(ask(&bound, &elsewhere, &[]), refused(403, "out_of_reach"), "{way:?}");
        assert_eq!(
            ask(&bound, &path, &[("x-company-id", "agency")]),
            refused(403, "out_of_reach"),
            "{way:?}"
        );
        assert_eq!(ask(&all, &path, &[("x-location-id", "../x")]), refused(400, "bad_id"), "{way:?}");
        assert_eq!(
            ask(&all, &path, &[("x-location-id", "nobody")]),
            refused(404, "not_connected"),
            "{way:?}"
        );
        assert_eq!(ask(&tokens, &by_query, &[]), refused(403, "wrong_verb"), "{way:?}");
        assert_eq!(ask(&all, &path, &[]), refused(400, "which_installation"), "{way:?}");
        let asked = Caller::new(&house.private, &two).send(way, "GET", &path, &[], "").json();
        let choices: Vec<_> =
            asked["choices"].as_array().expect("choices").iter().map(|it| it["id"].clone()).collect();
        assert_eq!((&asked["code"], choices.len()), (&"which_installation".into(), 2), "{way:?}: {asked}");
        assert_eq!(ask("ghlk_wrong", &path, &[]), refused(401, "wrong_key_sent"), "{way:?}");
    }
    let at_the_public_door = wire::ask(&house.public, &wire::request("GET", "/gateway/contacts/x", &[], ""));
    assert_eq!(at_the_public_door.status, 404);
    house.end();
}

#[test]
fn a_key_sends_what_its_list_allows_and_nothing_that_brings_tokens() {
    let (house, key) = house();
    let reader = house.key_like(&[Verb::Gateway], Reach::All, |key| {
        key.allowed = vec!["GET /contacts/*".parse().expect("a pattern")];
    });
    house.until_known(&reader);
    let contact = house.home.sandbox.settings().contact_id.clone();
    for way in Way::BOTH {
        let ask = |key: &str, method: &str, path: &str| {
            let got = Caller::new(&house.private, key).send(way, method, path, &[], "");
            (got.status, got.json()["code"].as_str().unwrap_or_default().to_owned())
        };
        assert_eq!(ask(&reader, "GET", &format!("/contacts/{contact}")).0, 200, "{way:?}");
        let refused = (403, "not_allowed".to_owned());
        for (method, path) in [
            ("DELETE", format!("/contacts/{contact}")),
            ("GET", format!("/contacts/{contact}/tags")),
            ("GET", format!("/locations/{}", house.home.location())),
            ("GET", "/contacts/".to_owned()),
            ("GET", "/locations/x?/contacts/x".to_owned()),
        ] {
            assert_eq!(ask(&reader, method, &path), refused, "{way:?}: {method} {path}");
        }
        assert_eq!(ask(&reader, "GET", "/contacts/x/../../locations/y").1, "bad_target", "{way:?}");
        assert_eq!(ask(&key, "POST", "/oauth/locationToken"), (403, "tokens_stay".to_owned()), "{way:?}");
        assert_eq!(ask(&key, "GET", "/contacts/x?access_token=abc").1, "key_exposed", "{way:?}");
    }
    house.end();
}

#[test]
fn a_private_integration_token_passes_the_gateway_like_a_grant() {
    let home = Home::new().sealed().set("GHL_STORE", "sqlite:tokens.db");
    let home = home.set("GHL_AUTH_LISTEN", "127.0.0.1:0").set("GHL_AUTH_PUBLIC_LISTEN", "127.0.0.1:0");
    let token = home.sandbox.settings().private_token.clone();
    let house = House::of(home.set("GHL_PRIVATE_TOKEN", &token));
    let key = house.key(&[Verb::Gateway], Reach::All);
    house.until_known(&key);
    let path = format!("/contacts/{}", house.home.sandbox.settings().contact_id);
    for way in Way::BOTH {
        let got = Caller::new(&house.private, &key).send(way, "GET", &path, &[], "");
        assert_eq!(got.status, 200, "{way:?}: {}", got.json());
        let said = r#"{"statusCode":401,"message":"Invalid Private Integration token"}"#;
        house
            .home
            .sandbox
            .fault(Fault::new(FaultKind::status(401, said)).on(Matcher::Path("/contacts".into())));
        let got = Caller::new(&house.private, &key).send(way, "GET", &path, &[], "");
        assert_eq!((got.status, got.hint()), (401, Some("private_token_refused")), "{way:?}");
    }
    house.end();
}

#[test]
fn a_company_asked_for_what_is_a_locations_gets_that_locations_token() {
    let home = Home::new();
    home.sandbox.set_scopes([
        "contacts.readonly",
        "locations.readonly",
        "locations/tags.readonly",
        "oauth.write",
    ]);
    let home = home.sealed().set("GHL_STORE", "sqlite:tokens.db").set("GHL_USER_TYPE", "Company");
    let home = home.set("GHL_AUTH_LISTEN", "127.0.0.1:0").set("GHL_AUTH_PUBLIC_LISTEN", "127.0.0.1:0");
    let company_id = home.sandbox.settings().company_id.clone();
    let own = home.location().to_owned();
    let code = home.code(sandbox::UserType::Company);
    home.run(["login", "--code", &code]).good();
    let house = House::of(home);
    let key = house.key(&[Verb::Gateway], Reach::All);
    house.until_known(&key);
    for way in Way::BOTH {
        let of_company = [("x-company-id", company_id.as_str())];
        let mut caller = Caller::new(&house.private, &key);
        let tags = caller.send(way, "GET", &format!("/locations/{own}/tags"), &of_company, "");
        assert_eq!(tags.status, 200, "{way:?}: {}", tags.json());
        let contacts = caller.send(way, "GET", &format!("/contacts/?locationId={own}"), &of_company, "");
        assert_eq!(contacts.status, 200, "{way:?}: {}", contacts.json());
        let search =
            caller.send(way, "GET", &format!("/locations/search?companyId={company_id}"), &of_company, "");
        assert_eq!(search.status, 200, "{way:?}: {}", search.json());
    }
    let callers: std::collections::BTreeSet<_> = house
        .home
        .sandbox
        .ledger()
        .requests
        .iter()
        .filter_map(|line| Some((line.path.clone(), line.caller.clone()?)))
        .collect();
    let by = |path: String, id: &str| callers.contains(&(path, id.to_owned()));
    assert!(by(format!("/locations/{own}/tags"), &own) && by("/contacts/".to_owned(), &own), "{callers:?}");
    assert!(by("/locations/search".to_owned(), &company_id), "{callers:?}");
    assert_eq!(house.home.sandbox.counts().mints, 1);
    house.end();
}
