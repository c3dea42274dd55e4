//! `serve`, `keys` and `installs`: one keeper for every program, and who may ask it.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use sandbox::{Fault, FaultKind, Matcher, UserType};
use serde_json::{Value, json};

pub(crate) use crate::serving::{Service, document, home};
use crate::support::{Home, Page, Running, http};

#[test]
fn a_program_gets_a_token_by_its_key_and_nobody_else_does() {
    let service = Service::start(home());
    let location = service.home.location().to_owned();
    let key = service.key(&["billing", "--location", &location]);
    let page = service.token(&key);
    assert_eq!(page.status, 200, "{}", page.body);
    let answer = document(&page);
    let token = service.home.run(["token"]).good().out;
    assert_eq!(answer["access_token"], token.trim());
    assert_eq!(answer["location_id"], location.as_str());
    assert_eq!((answer["token_type"].as_str(), answer["generation"].as_u64()), (Some("Bearer"), Some(1)));
    let seconds = answer["expires_in"].as_u64().expect("seconds");
    assert!((86_000..86_400).contains(&seconds), "{seconds}");
    assert!(answer.get("refresh_token").is_none());
    assert!(page.head.to_lowercase().contains("cache-control: no-store"), "{}", page.head);
    assert_eq!(service.token(&key).body.len(), page.body.len(), "and again, from memory");

    let refused = |page: Page, status: u16, code: &str| {
        assert_eq!((page.status, document(&page)["code"].as_str()), (status, Some(code)), "{}", page.body);
        assert!(page.head.contains("application/problem+json"), "{}", page.head);
        assert!(!page.body.contains(token.trim()));
    };
    let path = format!("/v1/locations/{location}/token");
    refused(service.get(&path, None), 401, "no_key");
    refused(service.get(&path, Some("ghlk_nonsense")), 401, "wrong_key_sent");
    refused(service.get(&format!("{path}?key={key}"), Some(&key)), 400, "key_exposed");
    refused(service.get("/v1/locations/other/token", Some(&key)), 403, "out_of_reach");
    refused(service.get(&format!("/v1/companies/{location}/token"), Some(&key)), 403, "out_of_reach");
    refused(service.get(&format!("{path}?minimum_life=never"), Some(&key)), 400, "bad_minimum_life");
    refused(service.get("/v1/locations/a%2Fb/token", Some(&key)), 400, "bad_id");
    refused(
        service.ask("DELETE", &format!("/v1/installations/location/{location}"), Some(&key), ""),
        403,
        "wrong_verb",
    );
    refused(service.get("/nowhere", Some(&key)), 404, "not_found");
    refused(service.ask("PUT", &path, Some(&key), ""), 405, "method_not_allowed");

    // What a key can't be told from outside stands in the list, its secret does not.
    let list = service.home.run(["keys", "list"]).good().out;
    assert!(list.contains("billing") && list.contains(&location) && !list.contains(&key), "{list}");
    service.home.run(["keys", "revoke", "billing"]).good();
    let began = Instant::now();
    service.until(|| service.token(&key).status == 401);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    refused(service.token(&key), 401, "key_revoked");
    for file in ["tokens.db", "tokens.db.records.db", "tokens.db.records.db-wal"] {
        let bytes = std::fs::read(service.home.path(file)).unwrap_or_default();
        assert!(!bytes.windows(20).any(|part| part == &key.as_bytes()[15..35]), "{file} holds the key");
    }
    service.stop();
}

#[test]
fn one_connection_may_ask_plainly_and_otherwise_in_any_order() {
    let service = Service::start(home());
    let location = service.home.location().to_owned();
    let key = service.key(&["billing", "--location", &location]);
    assert_eq!(service.token(&key).status, 200, "now it is at hand");
    let plain = format!(
        "GET /v1/locations/{location}/token HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\r\n"
    );
    let with = |header: &str| plain.replace("Host:", &format!("{header}\r\nHost:"));
    let refused = plain.replace("Bearer ghlk_", "Bearer ghlx_");
    let address = service.address.trim_start_matches("http://");
    let memory = || metric(&service, "ghl_auth_tokens_from_memory_total");
    let before = memory();
    // Each text is one write; what may be answered is answered in its order.
    for (texts, statuses) in [
        (vec![plain.clone(), plain.clone(), plain.clone()], vec![200, 200, 200]),
        (vec![plain.clone(), with("X-Unheard-Of: 1"), plain.clone()], vec![200, 200, 200]),
        (vec![format!("{plain}{plain}{plain}")], vec![200, 200, 200]),
        (vec![plain.clone(), refused.clone(), plain.clone()], vec![200, 401, 200]),
        (vec![plain[..30].to_owned(), plain[30..].to_owned()], vec![200]),
        (
            vec![plain.clone(), format!("{plain}{}", &plain[..50]), plain[50..].to_owned()],
            vec![200, 200, 200],
        ),
        (vec![plain.replace("localhost", "evil.example")], vec![421]),
        (vec![plain.clone(), with("Content-Length: 3") + "abc", plain.clone()], vec![200, 200, 200]),
    ] {
        let mut stream = std::net::TcpStream::connect(address).expect("it listens");
        let mut seen = Vec::new();
        for (place, text) in texts.iter().enumerate() {
            stream.write_all(text.as_bytes()).expect("it reads");
            let due = statuses.len() - (texts.len() - 1 - place).min(statuses.len());
            while seen.len() < due && texts.len() == statuses.len() {
                seen.push(answer(&mut stream));
            }
        }
        while seen.len() < statuses.len() {
            seen.push(answer(&mut stream));
        }
        assert_eq!(seen, statuses, "{texts:?}");
    }
    assert!(memory() - before >= 18, "all that was answered with a token was at hand");
    // What is not at hand, or not to be had, costs nobody the connection.
    let mut stream = std::net::TcpStream::connect(address).expect("it listens");
    let elsewhere = plain.replace(&location, "other");
    for (text, status) in [(&plain, 200), (&refused, 401), (&elsewhere, 403), (&plain, 200)] {
        stream.write_all(text.as_bytes()).expect("it reads");
        assert_eq!(answer(&mut stream), status, "{text}");
    }
    service.home.run(["refresh"]).good();
    service.until(|| document(&service.token(&key))["generation"] == 2);
    let before = memory();
    for _ in 0..10 {
        stream.write_all(plain.as_bytes()).expect("it reads");
        assert_eq!(answer(&mut stream), 200);
    }
    assert_eq!(memory() - before, 10, "and then it is at hand again");
    service.stop();
}

/// Reads one answer from a connection that goes on.
fn answer(stream: &mut std::net::TcpStream) -> u16 {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("more of the head");
        head.extend(byte);
    }
    let head = String::from_utf8(head).expect("a head is text").to_lowercase();
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
    let mut body = vec![0; length.and_then(|length| length.parse().ok()).expect("a length")];
    stream.read_exact(&mut body).expect("the body");
    serde_json::from_slice::<Value>(&body).expect("the body is whole");
    assert!(head.contains("\r\nx-request-id: ") && head.contains("\r\ndate: "), "{head}");
    head[9..12].parse().expect("a status")
}

fn metric(service: &Service, name: &str) -> u64 {
    let page = service.get("/metrics", None).body;
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or_default()
}

#[test]
fn an_expired_token_costs_all_who_ask_one_refresh() {
    // Over the template's file, as whoever comes from there has it.
    let home = Home::connected().set("GHL_AUTH_LISTEN", "127.0.0.1:0");
    home.expire();
    let before = home.sandbox.counts().refreshes;
    let service = Service::start(home);
    let key = service.key(&["all", "--all"]);
    let answers: Vec<Value> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..32).map(|_| scope.spawn(|| document(&service.token(&key)))).collect();
        asking.into_iter().map(|answer| answer.join().expect("an answer")).collect()
    });
    assert!(answers.iter().all(|answer| answer["generation"] == 2), "{answers:?}");
    assert_eq!(service.home.sandbox.counts().refreshes, before + 1);
    // Whoever saw a 401 for a generation that has passed gets the new one, and costs nothing.
    let path = format!("/v1/locations/{}/token/refused", service.home.location());
    let answer = document(&service.ask("POST", &path, Some(&key), &json!({ "generation": 1 }).to_string()));
    assert_eq!(answer["access_token"], answers[0]["access_token"]);
    assert_eq!(service.home.sandbox.counts().refreshes, before + 1);
    let now = service.ask("POST", &path, Some(&key), &json!({ "generation": 2 }).to_string());
    assert_eq!((now.status, document(&now)["code"].as_str()), (409, Some("fresh_token_refused")));
    service.stop();
}

#[test]
fn a_token_that_another_process_refreshed_is_the_one_that_is_answered() {
    let service = Service::start(home());
    let key = service.key(&["all", "--all"]);
    assert_eq!(document(&service.token(&key))["generation"], 1);
    service.home.run(["refresh"]).good();
    let began = Instant::now();
    service.until(|| document(&service.token(&key))["generation"] == 2);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    service.stop();
}

#[test]
fn the_round_checks_at_once_and_remembers_it() {
    let service = Service::start(home());
    let key = service.key(&["admin", "--all", "--verb", "admin", "--verb", "token"]);
    service
        .until(|| document(&service.get("/v1/checks", Some(&key)))["checks"][0]["health"] == "operational");
    let check = document(&service.get("/v1/checks", Some(&key)))["checks"][0].clone();
    assert_eq!(
        (check["trigger"].as_str(), check["id"].as_str()),
        (Some("clock"), Some(service.home.location()))
    );
    let steps: Vec<_> = check["steps"].as_array().expect("steps").iter().map(|step| &step["step"]).collect();
    assert_eq!(steps, ["token", "read", "add_tag"]);
    let asked = json!({ "kind": "location", "id": service.home.location() }).to_string();
    let page = service.ask("POST", "/v1/checks", Some(&key), &asked);
    assert_eq!((page.status, document(&page)["trigger"].as_str()), (200, Some("api")), "{}", page.body);
    assert_eq!(
        document(&service.get("/v1/checks?limit=1", Some(&key)))["checks"].as_array().map(Vec::len),
        Some(1)
    );
    // With HighLevel's trace id their support finds the call, with the request's the caller finds it.
    let ledger = service.home.sandbox.ledger();
    let trace_ids: Vec<_> = ledger.requests.iter().filter_map(|line| line.trace_id.clone()).collect();
    let traced = |words: &str| {
        let said = service.running.said();
        let line = said.lines().find(|line| line.contains(words)).map(str::to_owned);
        line.filter(|line| trace_ids.iter().any(|id| line.contains(id.as_str())))
    };
    service.until(|| traced("checked id=").is_some());
    let line = traced("checked, as a program asked").expect("the one that was asked for");
    assert!(line.contains("request_id="), "{line}");
    let metrics = service.get("/metrics", None);
    assert!(metrics.body.contains("ghl_auth_checks_total{health=\"operational\"} 1"), "{}", metrics.body);
    for line in [
        "ghl_auth_highlevel_rate_limit 100",
        "ghl_auth_highlevel_rate_remaining 9",
        "ghl_auth_highlevel_daily_limit 200000",
        "ghl_auth_highlevel_daily_remaining 1999",
        "ghl_auth_check_step_duration_seconds_count{step=\"read\",outcome=\"good\"} 2",
    ] {
        assert!(metrics.body.contains(line), "{line}: {}", metrics.body);
    }
    assert_eq!(service.get("/readyz", None).status, 200);
    service.stop();
}

#[test]
fn an_install_that_nobody_asked_for_waits_until_it_is_approved() {
    let home = Home::new().sealed().set("GHL_STORE", "sqlite:tokens.db");
    let service = Service::start(home.set("GHL_AUTH_LISTEN", "127.0.0.1:0"));
    let code = service.home.code(UserType::Location);
    let page = service.get(&format!("/oauth/callback?code={code}"), None);
    assert_eq!(page.status, 200, "{}", page.body);
    assert!(page.body.contains("<button>"), "a look uses nothing up: {}", page.body);
    let exchanges = service.home.sandbox.counts().requests;
    assert_eq!(service.ask("HEAD", &format!("/oauth/callback?code={code}"), None, "").status, 200);
    assert_eq!(service.home.sandbox.counts().requests, exchanges);
    let page = service.ask("POST", "/oauth/callback", None, &format!("code={code}"));
    assert_eq!(page.status, 202, "{}", page.body);
    let key = service.key(&["all", "--all"]);
    assert_eq!(service.token(&key).status, 404, "it is not served");
    let location = service.home.location().to_owned();
    service.home.run(["installs", "list"]).good().answers(&location);
    service.home.run(["installs", "approve", "--location", &location]).good();
    assert_eq!(service.token(&key).status, 200);
    service.home.run(["installs", "approve", "--location", &location]).fails_with(2, "not_parked");
    service.stop();
}

#[test]
fn a_person_authorises_in_a_browser_once() {
    let home = Home::new().sealed().set("GHL_STORE", "sqlite:tokens.db");
    let service = Service::start(home.set("GHL_AUTH_LISTEN", "127.0.0.1:0"));
    let key = service.key(&["admin", "--all", "--verb", "admin", "--verb", "token"]);
    let link = document(&service.ask("POST", "/oauth/links", Some(&key), ""));
    let url = link["url"].as_str().expect("a link");
    let link = url.split_once("link=").expect("a link").1;
    assert!(service.get(&format!("/oauth/start?link={link}"), None).body.contains("<button>"));
    let sent = service.ask("POST", "/oauth/start", None, &format!("link={link}"));
    assert_eq!(sent.status, 303, "{}", sent.body);
    let header = |name: &str| {
        let line = sent.head.lines().find(|line| line.to_lowercase().starts_with(name)).expect("a header");
        line.split_once(": ").expect("a value").1.to_owned()
    };
    let (location, cookie) = (header("location"), header("set-cookie"));
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"), "{cookie}");
    let state = location.split("state=").nth(1).expect("a state").split('&').next().expect("a state");
    let cookie = cookie.split(';').next().expect("a pair");
    assert_eq!(service.ask("POST", "/oauth/start", None, &format!("link={link}")).status, 403, "once");

    let code = service.home.code(UserType::Location);
    let callback = format!("{}/oauth/callback?code={code}&state={state}", service.address);
    let without = http("GET", &callback, &[], "");
    assert_eq!(without.status, 403, "another browser");
    let wrong = http("GET", &callback, &[("cookie", "ghl-auth=AAAA")], "");
    assert_eq!(wrong.status, 403, "another cookie");
    let before = service.home.sandbox.counts().exchanges;
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let back: Vec<_> = (0..50)
            .map(|_| scope.spawn(|| http("GET", &callback, &[("cookie", cookie)], "").status))
            .collect();
        back.into_iter().map(|page| page.join().expect("a page")).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert_eq!(service.home.sandbox.counts().exchanges, before + 1);
    assert_eq!(service.token(&key).status, 200);
    service.stop();
}

#[test]
fn a_request_by_another_name_or_at_the_public_door_is_turned_away() {
    let service = Service::start(home().set("GHL_AUTH_PUBLIC_LISTEN", "127.0.0.1:0"));
    let key = service.key(&["all", "--all"]);
    let path = format!("/v1/locations/{}/token", service.home.location());
    let bearer = format!("Bearer {key}");
    let url = format!("{}{path}", service.address);
    for (host, status) in
        [("evil.example", 421), ("127.0.0.1.nip.io", 421), ("localhost.", 421), ("a:b:c", 400)]
    {
        let two = http("GET", &url, &[("host", host), ("authorization", &bearer)], "");
        assert_eq!(two.status, 400, "two names are none: {host}");
        let raw = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {bearer}\r\nConnection: close\r\n\r\n"
        );
        assert_eq!(crate::support::raw(&service.address, &raw).status, status, "{host}");
    }
    let said = service.running.said();
    let public = said.lines().find(|line| line.contains("Browsers come back here")).expect("it says so");
    let public =
        public.rsplit(' ').next().and_then(|url| url.strip_suffix("/oauth/callback")).expect("an address");
    assert_eq!(http("GET", &format!("{public}/livez"), &[], "").status, 200);
    assert_eq!(http("GET", &format!("{public}/oauth/callback"), &[], "").status, 400);
    for hidden in [path.as_str(), "/metrics", "/readyz", "/openapi.json", "/v1/installations", "/"] {
        let page = http("GET", &format!("{public}{hidden}"), &[("authorization", &bearer)], "");
        assert_eq!(page.status, 404, "{hidden}");
    }
    service.stop();
}

#[test]
fn the_socket_file_is_for_the_owner_and_the_group_and_goes_with_the_service() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = home().set("GHL_AUTH_LISTEN", "unix:api.sock");
    home.run(["serve", "--probe"]).fails_with(1, "probe");
    let mut running = home.start(["serve"]);
    running.until_it_says("Programs ask here: unix:api.sock");
    let mode = std::fs::metadata(home.path("api.sock")).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    home.run(["serve", "--probe"]).good();
    home.run(["serve"]).fails_with(2, "listen");
    running.signal("TERM");
    running.end().good();
    assert!(!home.path("api.sock").exists());
}

#[test]
fn beyond_this_machine_it_listens_only_when_told_by_name_and_with_tls() {
    let home = home().set("GHL_AUTH_LISTEN", "0.0.0.0:0");
    home.run(["serve"]).ended(2).complains("--i-expose-the-private-api");
    home.run(["serve", "--i-expose-the-private-api"]).ended(2).complains("GHL_AUTH_TLS_CERT");
}

#[test]
fn a_hangup_reads_the_settings_anew_and_bad_ones_change_nothing() {
    let mut service = Service::start(home());
    let key = service.key(&["all", "--all"]);
    service.home.write(".env", "GHL_AUTH_AUDIT=sometimes\n");
    service.running.signal("HUP");
    service.running.until_it_says("goes on with the settings it had");
    assert_eq!(service.token(&key).status, 200);
    service.stop();
}

#[test]
fn the_example_clients_get_through_and_cure_a_401() {
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples");
    let clients = [
        ("bash", format!("{examples}/curl/location.sh")),
        ("python3", format!("{examples}/python/ghl_token.py")),
        ("node", format!("{examples}/node/ghl-token.mjs")),
    ];
    for (program, path) in clients {
        if !crate::support::is_there(program) {
            eprintln!("{program} is not there: its example is not run");
            continue;
        }
        let home = Home::connected().set("GHL_AUTH_LISTEN", "127.0.0.1:0");
        // Old enough for a refresh to cure what HighLevel refuses.
        home.age(Duration::from_secs(7200), Duration::from_secs(7200));
        let service = Service::start(home);
        let key = service.key(&["examples", "--location", service.home.location()]);
        let run = || {
            let client = std::process::Command::new(program)
                .arg(&path)
                .env("GHL_AUTH_URL", &service.address)
                .env("GHL_AUTH_API_KEY", &key)
                .env("GHL_LOCATION_ID", service.home.location())
                .env("GHL_API_BASE_URL", service.home.sandbox.base_url())
                .output()
                .expect("it runs");
            let said = String::from_utf8_lossy(&client.stdout).into_owned();
            let err = String::from_utf8_lossy(&client.stderr).into_owned();
            assert_eq!(said.trim(), "HighLevel answered 200", "{program}: {err}");
            assert!(!err.contains("ghlk_") && !err.contains("eyJ"), "{program}: {err}");
        };
        run();
        assert_eq!(service.home.sandbox.counts().refreshes, 0, "{program}");
        let refused = FaultKind::status(401, r#"{"message":"Invalid JWT","statusCode":401}"#);
        service.home.sandbox.fault(Fault::new(refused).on(Matcher::LocationRead));
        run();
        assert_eq!(service.home.sandbox.counts().refreshes, 1, "{program}");
        service.stop();
    }
}

#[test]
fn each_token_that_leaves_is_on_the_disk_before_where_that_is_asked_for() {
    let service = Service::start(home().set("GHL_AUTH_AUDIT", "each"));
    let key = service.key(&["all", "--all"]);
    for _ in 0..5 {
        assert_eq!(service.token(&key).status, 200);
    }
    let records = service.home.path("tokens.db.records.db");
    let database = rusqlite::Connection::open(&records).expect("the records");
    let lines = |sql: &str| -> i64 { database.query_row(sql, [], |row| row.get(0)).expect("a number") };
    assert_eq!(lines("SELECT count(*) FROM audit WHERE request_id IS NOT NULL"), 5);
    database.execute("DROP TABLE audit", []).expect("dropped");
    let refused = service.token(&key);
    assert_eq!((refused.status, document(&refused)["code"].as_str()), (503, Some("store_unavailable")));
    service.stop();
}

#[test]
fn who_took_how_many_tokens_is_counted() {
    let service = Service::start(home());
    let key = service.key(&["all", "--all"]);
    for _ in 0..40 {
        assert_eq!(service.token(&key).status, 200);
    }
    let Service { home, running, .. } = service;
    running.signal("TERM");
    running.end().good();
    let records = home.path("tokens.db.records.db");
    let database = rusqlite::Connection::open(&records).expect("the records");
    let sum: i64 =
        database.query_row("SELECT sum(count) FROM audit", [], |row| row.get(0)).expect("a number");
    assert_eq!(sum, 40);
    let used: Option<String> =
        database.query_row("SELECT used_from FROM keys", [], |row| row.get(0)).expect("a key");
    assert_eq!(used.as_deref(), Some("127.0.0.1"));
}

#[test]
fn two_services_over_one_store_check_once() {
    let one = Service::start(home());
    let mut two = one.home.start(["serve"]);
    two.until_it_says("Programs ask here");
    let key = one.key(&["all", "--all"]);
    one.until(|| document(&one.get("/v1/checks", Some(&key)))["checks"][0]["health"] == "operational");
    two.signal("TERM");
    two.end().good();
    assert_eq!(document(&one.get("/v1/checks", Some(&key)))["checks"].as_array().map(Vec::len), Some(1));
    // The check of cron's is in the same history.
    one.home.run(["check"]).good();
    assert_eq!(document(&one.get("/v1/checks", Some(&key)))["checks"][0]["trigger"], "command");
    one.stop();
}

#[test]
fn slow_and_oversized_requests_are_ended() {
    use std::io::{Read as _, Write as _};
    let service = Service::start(home());
    let key = service.key(&["all", "--all"]);
    let path = format!("/v1/locations/{}/token/refused", service.home.location());
    let long = format!("{{\"generation\": 1{}}}", " ".repeat(64 * 1024));
    assert_eq!(service.ask("POST", &path, Some(&key), &long).status, 413);
    for odd in [
        "",
        "[]",
        "{}",
        "{\"generation\": -1}",
        "{\"generation\": 1, \"generation\": 1}",
        "{\"generation\": 1e999}",
    ] {
        assert_eq!(service.ask("POST", &path, Some(&key), odd).status, 400, "{odd}");
    }
    let deep = "[".repeat(30_000);
    assert_eq!(service.ask("POST", &path, Some(&key), &deep).status, 400);
    let target = format!("/{}", "a".repeat(9000));
    assert_eq!(service.get(&target, Some(&key)).status, 414);
    let address = service.address.strip_prefix("http://").expect("plain");
    let mut slow: Vec<_> = (0..200).map(|_| std::net::TcpStream::connect(address).expect("taken")).collect();
    for stream in &mut slow {
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: loc").expect("taken");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a time-out");
    }
    assert_eq!(service.token(&key).status, 200, "others are answered meanwhile");
    let began = Instant::now();
    for mut stream in slow {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).ok();
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    service.stop();
}

#[test]
fn behind_tls_a_new_certificate_is_taken_up_and_a_bad_one_changes_nothing() {
    if !crate::support::is_there("curl") {
        eprintln!("curl is not there: TLS is not tried");
        return;
    }
    let home = home();
    let write = |name: &str| {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        home.write("tls.key", &made.signing_key.serialize_pem());
        home.write("tls.crt", &made.cert.pem());
        home.write(name, &made.cert.pem())
    };
    let first = write("first.pem");
    let second = home.path("second.pem");
    let (certificate, key) = (home.path("tls.crt"), home.path("tls.key"));
    let port = crate::support::free_port();
    let tls = [("GHL_AUTH_TLS_CERT", &certificate), ("GHL_AUTH_TLS_KEY", &key)];
    let mut command = home.command(["serve", "--i-expose-the-private-api"]);
    command.env("GHL_AUTH_LISTEN", format!("0.0.0.0:{port}")).envs(tls);
    command.stdin(std::process::Stdio::null());
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut running = Running::start(command);
    running.until_it_says("Programs ask here: https://");
    let alive = |trusted: &std::path::Path| {
        let url = format!("https://localhost:{port}/livez");
        let curl =
            std::process::Command::new("curl").args(["-sf", "--cacert"]).arg(trusted).arg(&url).output();
        curl.expect("curl runs").status.success()
    };
    assert!(alive(&first));
    write("second.pem");
    assert!(alive(&second) && !alive(&first), "the new certificate, and only that");
    home.write("tls.crt", "no certificate");
    assert!(alive(&second), "the old one stays");
    running.until_it_says("the old one stays");
    running.signal("TERM");
    running.end().good();
    // At the start there is no old one.
    let again = home
        .set("GHL_AUTH_TLS_CERT", &certificate.display().to_string())
        .set("GHL_AUTH_TLS_KEY", &key.display().to_string());
    again.run(["serve"]).fails_with(2, "certificate_files");
}

#[test]
fn asked_to_stop_it_lands_what_is_in_the_air_and_the_caller_gets_the_token() {
    let home = Home::connected().set("GHL_AUTH_LISTEN", "127.0.0.1:0");
    home.expire();
    home.sandbox.hold_answers(Matcher::Refresh);
    let service = Service::start(home);
    let key = service.key(&["all", "--all"]);
    let page = std::thread::scope(|scope| {
        let asking = scope.spawn(|| service.token(&key));
        service.until(|| service.home.sandbox.held() > 0);
        service.running.signal("TERM");
        std::thread::sleep(Duration::from_millis(300));
        service.home.sandbox.release();
        asking.join().expect("an answer")
    });
    assert_eq!((page.status, document(&page)["generation"].as_u64()), (200, Some(2)), "{}", page.body);
    let Service { home, running, .. } = service;
    running.end().good();
    home.run(["token"]).good();
    assert_eq!(home.sandbox.counts().refreshes, 1, "it was saved");
}

#[test]
fn a_key_says_what_it_may_send_through_the_gateway_and_a_list_that_says_nothing_is_explained() {
    let home = Home::new().sealed().set("GHL_STORE", "sqlite:tokens.db");
    let create = |more: &[&str]| home.run([&["keys", "create", "--name", "crm", "--all"], more].concat());
    create(&["--verb", "gateway", "--allow", "get /contacts"]).fails_with(2, "bad_allow");
    create(&["--lane", "batch"]).fails_with(2, "key_not_for_gateway");
    create(&["--allow", "GET /contacts/*"]).fails_with(2, "key_not_for_gateway");
    let lists =
        ["--verb", "gateway", "--lane", "batch", "--allow", "GET,POST /contacts/*", "--allow", "* /x/**"];
    create(&lists).good();
    let keys = home.run(["keys", "list", "--json"]).good().json();
    let key = &keys["keys"][0];
    assert_eq!((&key["lane"], &key["allowed"][1]), (&"batch".into(), &"* /x/**".into()), "{keys}");
    home.run(["keys", "list"]).good().answers("GET,POST /contacts/*");
    let home = home.set("GHL_AUTH_LANG", "pt-BR");
    let odd = ["keys", "create", "--name", "b", "--all", "--verb", "gateway", "--allow", "/contacts"];
    home.run(odd).complains("não diz o que a chave pode enviar");
}
