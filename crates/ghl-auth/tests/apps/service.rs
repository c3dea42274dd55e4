//! One service for several apps: who gets which token, where browsers come back to, and what of one
//! app's trouble another feels.

use std::time::{Duration, Instant};

use sandbox::UserType;
use serde_json::{Value, json};

use crate::support::Home;
use crate::town::{BACK_AT_CRM, Served, Town, back_at_first, exchanges};
use crate::wire::{Answer, Wire, ask, bearer, request};

/// What someone without a key, or a browser, gets.
fn bare(address: &str, method: &str, path: &str) -> Answer {
    ask(address, &request(method, path, &[], ""))
}

fn json_of(answer: &Answer) -> Value {
    serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {}", answer.body))
}

#[test]
fn a_key_says_which_app_is_meant_and_so_does_the_path() {
    let town = Town::connected();
    let served = town.serve();
    // Made while it runs, and used at once.
    let (first, crm) = (town.key("default", "reader"), town.key("crm", "reader"));
    let path = town.token_path();
    let (of_first, of_crm) = (served.token(&path, &first), served.token(&path, &crm));
    assert!(town.home.sandbox.is_valid_access_token(&of_first) && town.crm.is_valid_access_token(&of_crm));
    // From memory, too, where one connection asks for both by turns.
    let mut wire = Wire::to(&served.private);
    for _ in 0..3 {
        for (key, prefix, token) in [
            (&first, "", &of_first),
            (&crm, "", &of_crm),
            (&first, "/apps/default", &of_first),
            (&crm, "/apps/crm", &of_crm),
        ] {
            let asked = request("GET", &format!("{prefix}{path}"), &[("Authorization", &bearer(key))], "");
            wire.send(&asked).expect("it is taken");
            let answer = wire.answer(false).expect("an answer");
            assert_eq!(json_of(&answer)["access_token"], token.as_str(), "{prefix}: {}", answer.body);
        }
    }
    let metrics = bare(&served.private, "GET", "/metrics").body;
    for app in ["default", "crm"] {
        let counted = metrics
            .lines()
            .find(|line| line.starts_with(&format!("ghl_auth_tokens_from_memory_total{{app=\"{app}\"}}")));
        let count: u32 = counted.and_then(|line| line.rsplit(' ').next()?.parse().ok()).expect("a count");
        assert!(count >= 5, "{app}: {count} of 6, the first of which may have been the check's");
    }
    // The location is the same: whose it is has to stand in the log.
    let log = served.end();
    for did in ["checked", "answered"] {
        let lines = || log.lines().filter(|line| line.contains(&format!(" {did}")));
        assert!(lines().any(|line| line.contains("house{app=crm}: ")), "{did}: {log}");
        assert!(lines().any(|line| !line.contains("house{")), "{did}: {log}");
    }
}

#[test]
fn a_key_of_one_app_opens_nothing_of_another_and_does_not_learn_that_it_is_there() {
    let town = Town::connected();
    let (first, crm) = (town.key("default", "one"), town.key("crm", "one"));
    let served = town.serve();
    let path = town.token_path();
    let stranger = served.get(&format!("/apps/nobody{path}"), &first);
    assert_eq!((stranger.status, stranger.code().as_str()), (404, "not_found"));
    for (key, app) in [(&first, "crm"), (&crm, "default")] {
        for (method, path) in [
            ("GET", path.as_str()),
            ("GET", "/v1/installations"),
            ("GET", "/v1/parked"),
            ("GET", "/v1/apps"),
            ("GET", "/metrics"),
            ("POST", "/v1/checks"),
            ("POST", "/oauth/links"),
            ("GET", "/oauth/start"),
            ("GET", "/v1/nowhere"),
        ] {
            let answer = served.ask(method, &format!("/apps/{app}{path}"), key, "");
            assert_eq!(answer.status, 404, "{method} {app} {path}: {}", answer.body);
            assert_eq!(answer.body, stranger.body, "{method} {app} {path}");
        }
        for odd in [
            format!("/apps/{app}"),
            format!("/apps/{app}/apps/{app}{path}"),
            format!("/apps//{app}{path}"),
            format!("/apps/{app}/..{path}"),
            format!("//apps/{app}{path}"),
            format!("/v1/../apps/{app}{path}"),
            format!("/Apps/{app}{path}"),
            format!("/apps/{}{path}", app.to_uppercase()),
            format!("/apps/%63rm{path}"),
        ] {
            assert_eq!(served.get(&odd, key).status, 404, "{odd}");
        }
    }
    // Whoever is taken out of one app stays in the other.
    let installation = format!("/v1/installations/location/{}", town.home.location());
    assert_eq!(served.ask("DELETE", &installation, &crm, "").status, 204);
    assert_eq!(served.get(&path, &crm).status, 404);
    let token = served.token(&path, &first);
    assert!(town.home.sandbox.is_valid_access_token(&token));
    // And a key that was revoked in one is no key in any.
    town.home.run(["--app", "crm", "keys", "revoke", "one"]).good();
    let began = Instant::now();
    while served.get("/v1/installations", &crm).status != 401 {
        assert!(began.elapsed() < Duration::from_secs(30), "it is still a key");
    }
    assert_eq!(bare(&served.private, "GET", &format!("/apps/crm{path}")).status, 401);
    // An address in the form for proxies is turned away with a prefix as it is without.
    for path in [path.clone(), format!("/apps/default{path}")] {
        assert_eq!(served.get(&format!("http://localhost{path}"), &first).status, 400, "{path}");
    }
    served.end();
}

#[test]
fn codes_only_go_to_the_app_that_they_were_made_for() {
    let town = Town::new();
    let served = town.serve();
    let (first, crm) = (town.key("default", "admin"), town.key("crm", "admin"));
    let links = |key: &str| json_of(&served.ask("POST", "/oauth/links", key, ""))["url"].clone();
    let (link, crm_link) = (links(&first), links(&crm));
    assert!(
        link.as_str().is_some_and(|url| url.starts_with("https://example.com/oauth/start?link=")),
        "{link}"
    );
    let crm_link =
        crm_link.as_str().expect("an address").strip_prefix("https://example.com").expect("its host");
    assert!(crm_link.starts_with("/apps/crm/oauth/start?link="), "{crm_link}");
    // The button behind the second app's link leads to the second app's HighLevel.
    let page = bare(&served.public, "GET", crm_link);
    assert!(page.body.contains("action=\"/apps/crm/oauth/start\""), "{}", page.body);
    let form = crm_link.split_once('?').expect("a query").1;
    assert_eq!(ask(&served.public, &request("POST", "/oauth/start", &[], form)).status, 403, "not here");
    let sent_crm = ask(&served.public, &request("POST", "/apps/crm/oauth/start", &[], form));
    let sent = served.get("/oauth/start", &first);
    let parts = |answer: &Answer| {
        let location = answer.header("location").unwrap_or_else(|| panic!("{}", answer.body)).to_owned();
        let state = location.split_once("&state=").expect("a state").1.to_owned();
        let cookie = answer.header("set-cookie").expect("a cookie").split(';').next().expect("it").to_owned();
        (location, state, cookie)
    };
    let (to, state, cookie) = parts(&sent);
    let (to_crm, state_crm, cookie_crm) = parts(&sent_crm);
    assert!(to.starts_with(&town.home.sandbox.base_url()) && to_crm.starts_with(&town.crm.base_url()));
    assert!(cookie.starts_with("__Host-ghl-auth=") && cookie_crm.starts_with("__Host-ghl-auth-crm="));
    // One browser is on its way to both, and everything is mixed up that can be.
    let cookies = format!("{cookie}; {cookie_crm}");
    let swapped = format!(
        "__Host-ghl-auth={}; __Host-ghl-auth-crm={}",
        cookie_crm.split_once('=').expect("a value").1,
        cookie.split_once('=').expect("a value").1
    );
    let (code, code_crm) = (town.home.code(UserType::Location), town.crm_code());
    let (at_first, at_crm) = (back_at_first(), "/apps/crm/oauth/callback");
    let back = |path: &str, code: &str, state: &str, cookies: &str| {
        let path = format!("{path}?code={code}&state={state}");
        ask(&served.public, &request("GET", &path, &[("Cookie", cookies)], "")).status
    };
    for code in [&code, &code_crm] {
        for cookies in [&cookies, &swapped] {
            assert_eq!(back(at_first, code, &state_crm, cookies), 403);
            assert_eq!(back(at_crm, code, &state, cookies), 403);
        }
    }
    assert_eq!((exchanges(&town.home.sandbox), exchanges(&town.crm)), (0, 0), "no code was sent anywhere");
    // What is not mixed up still holds.
    assert_eq!(back(at_crm, &code_crm, &state_crm, &cookies), 200);
    assert_eq!(back(at_first, &code, &state, &cookies), 200);
    assert_eq!((exchanges(&town.home.sandbox), exchanges(&town.crm)), (1, 1));
    let path = town.token_path();
    assert!(town.home.sandbox.is_valid_access_token(&served.token(&path, &first)));
    assert!(town.crm.is_valid_access_token(&served.token(&path, &crm)));
    served.end();
}

#[test]
fn an_install_from_the_marketplace_is_asked_about_and_parked_by_its_own_app() {
    let town = Town::new();
    let served = town.serve();
    let code = town.crm_code();
    let page = bare(&served.public, "GET", &format!("/apps/crm/oauth/callback?code={code}"));
    assert!(page.body.contains("action=\"/apps/crm/oauth/callback\""), "{}", page.body);
    let pressed = request("POST", "/apps/crm/oauth/callback", &[], &format!("code={code}"));
    assert_eq!(ask(&served.public, &pressed).status, 202);
    assert_eq!((exchanges(&town.home.sandbox), exchanges(&town.crm)), (0, 1));
    let (first, crm) = (town.key("default", "admin"), town.key("crm", "admin"));
    let parked = |key: &str| json_of(&served.get("/v1/parked", key))["parked"].as_array().map(Vec::len);
    assert_eq!((parked(&first), parked(&crm)), (Some(0), Some(1)));
    served.end();
}

#[test]
fn the_public_listener_shows_each_app_the_same_few_doors_and_nothing_else() {
    let town = Town::connected();
    let key = town.key("crm", "admin");
    let served = town.serve();
    for (method, path) in [
        ("GET", "/livez"),
        ("GET", "/oauth/start"),
        ("GET", "/oauth/callback"),
        ("POST", "/webhooks/highlevel"),
        ("GET", "/v1/installations"),
        ("GET", "/metrics"),
        ("GET", "/readyz"),
    ] {
        let plain = bare(&served.public, method, path).status;
        assert_eq!(bare(&served.public, method, &format!("/apps/crm{path}")).status, plain, "{path}");
        assert_eq!(bare(&served.public, method, &format!("/apps/default{path}")).status, plain, "{path}");
        assert_eq!(bare(&served.public, method, &format!("/apps/nobody{path}")).status, 404, "{path}");
    }
    let path = format!("/apps/crm{}", town.token_path());
    let with_key =
        |path: &str| ask(&served.public, &request("GET", path, &[("Authorization", &bearer(&key))], ""));
    assert_eq!(with_key(&path).status, 404);
    assert_eq!(with_key("/apps/default/livez").status, 200, "no key is looked at here");
    served.end();
}

#[test]
fn one_apps_wrong_credentials_stop_its_own_refreshes_and_no_others() {
    let town = Town::connected();
    town.crm.set_client_secret("another");
    let (first, crm) = (town.key("default", "admin"), town.key("crm", "admin"));
    let served = town.serve();
    let path = town.token_path();
    // Longer than any token lives: each asks for a refresh.
    let asked_to_refresh = |key: &str| json_of(&served.get(&format!("{path}?minimum_life=86400"), key));
    let of_crm = asked_to_refresh(&crm);
    assert_eq!(
        (&of_crm["generation"], &of_crm["warnings"][0]["code"]),
        (&1.into(), &"invalid_client".into())
    );
    let of_first = asked_to_refresh(&first);
    assert_eq!((&of_first["generation"], &of_first["warnings"]), (&2.into(), &json!([])), "{of_first}");
    // What the other has is still good, and is served.
    assert!(town.crm.is_valid_access_token(&served.token(&path, &crm)));
    assert!(town.home.sandbox.is_valid_access_token(&served.token(&path, &first)));
    assert_eq!(town.home.sandbox.counts().refreshes, 1);
    assert_eq!(bare(&served.private, "GET", "/readyz").status, 200);
    served.end();
}

#[test]
fn the_service_is_ready_when_all_its_apps_are_and_tells_admins_which_they_are() {
    let town = Town::connected();
    let (first, crm) = (town.key("default", "admin"), town.key("crm", "admin"));
    let served = town.serve();
    assert_eq!(bare(&served.private, "GET", "/readyz").status, 200);
    let apps = served.get("/v1/apps", &first);
    assert_eq!(apps.body, served.get("/v1/apps", &crm).body);
    assert_eq!(
        json_of(&apps)["apps"][1],
        json!({
            "app": "crm", "client_id": town.crm.settings().client_id, "user_type": "Location",
            "redirect_uri": BACK_AT_CRM, "scope": null,
        })
    );
    for secret in [&town.home.sandbox.settings().client_secret, &town.crm.settings().client_secret] {
        assert!(!apps.body.contains(secret.as_str()));
    }
    let reader = town.home.run(["--app", "crm", "keys", "create", "--name", "reader", "--all"]).good();
    assert_eq!(served.get("/v1/apps", reader.out.trim()).status, 403);
    // Each family once; with a key, its own app's.
    let all = bare(&served.private, "GET", "/metrics").body;
    assert_eq!(all.matches("# TYPE ghl_auth_store_up gauge").count(), 1, "{all}");
    assert!(
        all.contains("ghl_auth_store_up{app=\"default\"} 1\nghl_auth_store_up{app=\"crm\"} 1\n"),
        "{all}"
    );
    assert!(all.ends_with("# EOF\n") && all.matches("# EOF").count() == 1);
    let own = served.get("/metrics", &crm).body;
    assert!(own.contains("ghl_auth_store_up{app=\"crm\"} 1") && !own.contains("app=\"default\""), "{own}");
    // A database whose tables are gone is one app's trouble, and the whole service is not ready.
    let database = rusqlite::Connection::open(town.home.path("ghl-auth.crm.db")).expect("a database");
    let drop_all = "PRAGMA foreign_keys = OFF; PRAGMA writable_schema = ON; DELETE FROM sqlite_schema;
        PRAGMA writable_schema = RESET; CREATE TABLE another (one)";
    database.execute_batch(drop_all).expect("dropped");
    let began = Instant::now();
    while bare(&served.private, "GET", "/readyz").status != 503 {
        assert!(began.elapsed() < Duration::from_secs(60), "it says that it is ready");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(bare(&served.private, "GET", "/apps/default/readyz").status, 200);
    assert_eq!(bare(&served.private, "GET", "/apps/crm/readyz").status, 503);
    assert!(town.home.sandbox.is_valid_access_token(&served.token(&town.token_path(), &first)));
    served.end();
}

/// Puts something in the place of a database that is none; the way back.
fn spoil(town: &Town, database: &str) -> impl Fn() + use<> {
    let (path, aside) = (town.home.path(database), town.home.path("aside.db"));
    std::fs::rename(&path, &aside).expect("put aside");
    std::fs::write(&path, "this is no database, and says so in more than a hundred bytes: ".repeat(9))
        .expect("written");
    move || std::fs::rename(&aside, &path).expect("put back")
}

fn until_ready(served: &Served) {
    let began = Instant::now();
    while bare(&served.private, "GET", "/readyz").status != 200 {
        assert!(began.elapsed() < Duration::from_secs(60), "it does not become ready");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn an_app_whose_store_cant_be_opened_keeps_no_other_from_being_served_and_comes_when_it_can() {
    let town = Town::connected();
    let (first, crm) = (town.key("default", "admin"), town.key("crm", "admin"));
    let mend = spoil(&town, "ghl-auth.crm.db");
    let served = town.serve();
    let path = town.token_path();
    let in_crm = format!("/apps/crm{path}");
    let token = served.token(&path, &first);
    assert!(town.home.sandbox.is_valid_access_token(&token));
    for (path, key) in [(&in_crm, &crm), (&path, &crm), (&in_crm, &"nobodys".to_owned())] {
        let answer = served.get(path, key);
        assert_eq!((answer.status, answer.code().as_str()), (503, "app_closed"), "{path}: {}", answer.body);
        assert!(answer.header("retry-after").is_some());
        assert!(!answer.body.contains("crm.db"), "{}", answer.body);
    }
    assert_eq!(served.get(&in_crm, &first).status, 404, "a key of another app learns nothing");
    assert_eq!(bare(&served.private, "GET", &path).status, 401);
    assert_eq!(bare(&served.private, "GET", "/livez").status, 200);
    assert_eq!(bare(&served.private, "GET", "/apps/default/readyz").status, 200);
    let ready = bare(&served.private, "GET", "/readyz");
    assert_eq!((ready.status, ready.code().as_str()), (503, "app_closed"));
    assert_eq!(bare(&served.public, "GET", "/apps/crm/oauth/callback?code=1").status, 503);
    assert_eq!(ask(&served.public, &request("POST", "/apps/crm/webhooks/highlevel", &[], "{}")).status, 503);
    assert_eq!(bare(&served.public, "GET", "/apps/crm/v1/installations").status, 404);
    let metrics = bare(&served.private, "GET", "/metrics").body;
    let of_both = "ghl_auth_store_up{app=\"default\"} 1\nghl_auth_store_up{app=\"crm\"} 0\n";
    assert!(metrics.contains(of_both) && metrics.matches("# EOF").count() == 1, "{metrics}");
    // Who looks at all apps sees the one that is well, and what is wrong with the other.
    let status = town.home.run(["status"]);
    assert!(status.code != 0 && status.out.contains(town.home.location()), "{}", status.out);
    assert!(status.err.contains("ghl-auth.crm.db"), "{}", status.err);
    let json: Value = serde_json::from_str(&town.home.run(["status", "--json"]).out).expect("JSON");
    assert_eq!(json["apps"][0]["error"], Value::Null, "{json}");
    assert!(json["apps"][1]["error"]["code"].is_string(), "{json}");
    assert_eq!(json["installations"].as_array().map(Vec::len), Some(1), "{json}");

    mend();
    until_ready(&served);
    assert!(town.crm.is_valid_access_token(&served.token(&path, &crm)));
    assert_eq!(served.token(&path, &first), token);
    let log = served.end();
    assert!(log.contains("an app's store can't be opened") && log.contains("app=crm"), "{log}");
}

#[test]
fn what_is_for_no_app_in_particular_waits_for_the_first_and_goes_to_no_other() {
    let town = Town::connected();
    let (first, crm) = (town.key("default", "admin"), town.key("crm", "admin"));
    let mend = spoil(&town, "ghl-auth.db");
    let served = town.serve();
    let path = town.token_path();
    assert!(town.crm.is_valid_access_token(&served.token(&path, &crm)));
    for answer in [
        served.get(&path, &first),
        bare(&served.private, "GET", &path),
        bare(&served.public, "GET", &format!("{}?code=1", back_at_first())),
        ask(&served.public, &request("POST", "/webhooks/highlevel", &[], "{}")),
    ] {
        assert_eq!((answer.status, answer.code().as_str()), (503, "app_closed"), "{}", answer.body);
    }
    assert_eq!(bare(&served.public, "GET", "/livez").status, 200);
    assert_eq!(bare(&served.public, "GET", "/v1/installations").status, 404);
    // Settings may be read anew meanwhile.
    served.running.signal("HUP");
    mend();
    until_ready(&served);
    assert!(town.home.sandbox.is_valid_access_token(&served.token(&path, &first)));
    assert!(town.crm.is_valid_access_token(&served.token(&path, &crm)));
    served.end();
}

#[test]
fn a_service_of_which_no_app_can_be_opened_does_not_start_and_one_that_runs_goes_on() {
    let town = Town::connected();
    let crm = town.key("crm", "admin");
    let mut served = town.serve();
    let mend_crm = spoil(&town, "ghl-auth.crm.db");
    served.running.signal("HUP");
    served.running.until_it_says("goes on with the settings it had");
    assert_ne!(served.get(&town.token_path(), &crm).code(), "app_closed");
    served.end();
    std::fs::write(town.home.path("ghl-auth.db"), "neither is this one ".repeat(20)).expect("written");
    let refused = town.home.run(["serve"]);
    assert!(refused.code != 0 && refused.err.contains("ghl-auth.db"), "{}", refused.err);
    mend_crm();
}

#[test]
fn two_apps_with_one_callback_are_refused_before_anything_is_opened() {
    let town = Town::new().set("GHL_APP_CRM_REDIRECT_URI", "https://other.example.com/oauth/callback");
    let refused = town.home.run(["serve"]).fails_with(2, "one_callback");
    refused
        .complains("GHL_REDIRECT_URI and GHL_APP_CRM_REDIRECT_URI lead to the same path, /oauth/callback")
        .complains("/apps/crm/oauth/callback");
    assert!(!town.home.path("ghl-auth.db").exists());
}

#[test]
fn a_redirect_address_without_the_prefix_leads_to_its_own_app_all_the_same() {
    let town = Town::new().set("GHL_APP_CRM_REDIRECT_URI", "https://crm.example.com/back");
    let served = town.serve();
    let crm = town.key("crm", "admin");
    let sent = served.get("/oauth/start", &crm);
    let state = sent.header("location").expect("a location").split_once("&state=").expect("it").1.to_owned();
    let cookie = sent.header("set-cookie").expect("a cookie").split(';').next().expect("it").to_owned();
    let code = town.crm.approve("https://crm.example.com/back", None, UserType::Location);
    let path = format!("/back?code={code}&state={state}");
    // It is called by the name that is in this app's own address.
    let asked = request("GET", &path, &[("Cookie", &cookie)], "");
    let asked = String::from_utf8(asked).expect("text").replace("Host: localhost", "Host: crm.example.com");
    assert_eq!(ask(&served.public, asked.as_bytes()).status, 200);
    let page = bare(&served.public, "GET", &format!("/back?code={}", town.crm_code()));
    assert!(page.body.contains("action=\"/apps/crm/back\""), "{}", page.body);
    assert_eq!(bare(&served.public, "GET", "/apps/crm/back").status, 400, "without a code");
    served.end();
}

#[test]
fn an_app_that_is_added_while_the_service_runs_is_there_after_a_hangup() {
    let town = Town::connected();
    let home = &town.home;
    let only_first =
        |list: &str| home.write("apps.env", &format!("{}\nGHL_APPS={list}\n", home.read(".env")));
    only_first("");
    let mut command = home.command(["--env-file", "apps.env", "serve"]);
    command.env_remove("GHL_APPS");
    let mut served = Served::start(command);
    let (first, crm) = (town.key("default", "admin"), town.key("crm", "admin"));
    let path = town.token_path();
    served.token(&path, &first);
    assert_eq!(served.get(&path, &crm).status, 401);
    assert_eq!(served.get(&format!("/apps/default{path}"), &first).status, 404, "one app has no prefix");
    only_first("crm");
    served.running.signal("HUP");
    served.running.until_it_says("settings and secrets were read anew");
    let began = Instant::now();
    while served.get(&path, &crm).status != 200 {
        assert!(began.elapsed() < Duration::from_secs(30), "it never came");
    }
    assert!(town.crm.is_valid_access_token(&served.token(&path, &crm)));
    served.token(&path, &first);
    served.end();
}

#[test]
fn serve_is_about_one_app_where_one_is_named() {
    let town = Town::connected();
    let (first, crm) = (town.key("default", "admin"), town.key("crm", "admin"));
    let served = Served::start(town.home.command(["serve", "--app", "crm"]));
    let path = town.token_path();
    assert!(town.crm.is_valid_access_token(&served.token(&path, &crm)));
    served.token(&format!("/apps/crm{path}"), &crm);
    assert_eq!(served.get(&path, &first).status, 401);
    served.end();
}

#[test]
fn the_single_app_knows_nothing_of_names() {
    let home = Home::new().sealed().log_in().set("GHL_AUTH_LISTEN", "127.0.0.1:0");
    let home = home.set("GHL_AUTH_PUBLIC_LISTEN", "127.0.0.1:0");
    let served = Served::start(home.command(["serve"]));
    assert_eq!(bare(&served.public, "GET", "/apps/default/livez").status, 404);
    let metrics = bare(&served.private, "GET", "/metrics").body;
    assert!(metrics.contains("ghl_auth_store_up 1") && !metrics.contains("app="), "{metrics}");
    let log = served.end();
    assert!(!log.contains("house{"), "{log}");
}

#[test]
fn each_app_has_a_status_page_and_badges_of_its_own() {
    let town = Town::connected().set("GHL_AUTH_STATUS_PAGE", "on");
    let made = town.home.run(["--app", "crm", "badge", "create", "--json"]).good().json();
    let url = made["url"].as_str().expect("an address").to_owned();
    let path = url.strip_prefix("https://example.com").expect("where browsers come back to");
    assert!(path.starts_with("/apps/crm/badge/"), "{path}");
    let served = town.serve();
    let look = |path: &str| ask(&served.public, &request("GET", path, &[], ""));
    for (page, prefix) in [("/status", ""), ("/apps/crm/status", "/apps/crm")] {
        let shown = look(page);
        assert_eq!(shown.status, 200, "{page}: {}", shown.body);
        assert!(shown.body.contains(&format!("href=\"{prefix}/assets/dashboard.css\"")), "{}", shown.body);
        assert_eq!(look(&format!("{prefix}/assets/dashboard.css")).status, 200);
    }
    assert_eq!(look(path).status, 200);
    assert_eq!(
        look(path.strip_prefix("/apps/crm").expect("a prefix")).status,
        404,
        "it is not the first app's"
    );
    assert_eq!(look("/apps/nobody/status").status, 404);
    served.end();
}
