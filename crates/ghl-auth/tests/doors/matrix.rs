//! Every route, every method, every kind of key, at both listeners: made from the table of routes, so
//! that a route without a row here fails.

use std::collections::BTreeSet;

use server::{Door, Entry, entries};
use tokens::records::{Reach, Verb};

use crate::house::{House, home, install, location, these, until};
use crate::wire::{ask_all, bearer, request};

const METHODS: [&str; 11] =
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW", "get"];

/// Taken out of service while the right keys are tried.
const SPARE: &str = "spareSPAREspareSPARE";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    Nothing,
    AWrongKey,
    ARevokedKey,
    AnExpiredKey,
    AnotherVerb,
    AnotherLocation,
    TheRightKey,
}

impl Holds {
    const ALL: [Self; 7] = [
        Self::Nothing,
        Self::AWrongKey,
        Self::ARevokedKey,
        Self::AnExpiredKey,
        Self::AnotherVerb,
        Self::AnotherLocation,
        Self::TheRightKey,
    ];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listener {
    Private,
    Public,
}

/// The door behind a method and a path; HEAD goes where GET goes.
fn entry_for(method: &str, path: &str) -> Option<Entry> {
    let method = if method == "HEAD" { "GET" } else { method };
    entries().into_iter().find(|entry| entry.path == path && entry.method == method)
}

/// What a route answers to whom it is for.
fn welcome(entry: &Entry) -> u16 {
    match (entry.method, entry.path) {
        ("GET", "/livez" | "/readyz" | "/metrics" | "/openapi.json") => 200,
        ("GET", "/v1/locations/{id}/token") => 200,
        ("GET", "/v1/installations" | "/v1/installations/{kind}/{id}" | "/v1/checks") => 200,
        ("GET", "/v1/apps" | "/v1/parked" | "/v1/maintenances") => 200,
        // The refresh is not due: the token of this generation is as fresh as they come.
        ("POST", "/v1/locations/{id}/token/refused") => 409,
        // No company is connected, nothing is parked, and no maintenance goes on.
        ("GET", "/v1/companies/{id}/token") => 404,
        ("POST", "/v1/companies/{id}/token/refused") => 404,
        ("POST", "/v1/parked/{kind}/{id}/approve") => 404,
        ("DELETE", "/v1/parked/{kind}/{id}" | "/v1/maintenances/{id}") => 404,
        ("DELETE", "/v1/installations/{kind}/{id}") => 204,
        // It is in service.
        ("POST", "/v1/installations/{kind}/{id}/restore") => 404,
        // It says neither that it is JSON nor by whom it is signed.
        ("POST", "/webhooks/highlevel") => 415,
        ("POST", "/v1/checks") => 200,
        ("POST", "/v1/maintenances" | "/oauth/links") => 201,
        // A page, but no link, no code in the address.
        ("GET" | "POST", "/oauth/start" | "/oauth/callback") => 400,
        // They are not there where the settings do not say so.
        ("GET", "/status" | "/badge/{name}") => 404,
        ("GET", "/sign-in" | "/assets/{name}") => 200,
        // No browser says that it comes from our own page.
        ("POST", "/sign-in" | "/language") => 403,
        other => panic!("a route that this test does not know: {other:?}"),
    }
}

/// A path with all that belongs into it.
fn filled(path: &str, id: &str) -> String {
    let path = path.replace("{kind}", "location").replace("{id}", id);
    path.replace("{action}", "check").replace("{name}", "dashboard.css")
}

/// The body that a route wants.
fn body(entry: &Entry, id: &str) -> String {
    match (entry.method, entry.path) {
        ("POST", "/v1/checks") => format!(r#"{{"kind":"location","id":"{id}"}}"#),
        ("POST", "/v1/maintenances") => r#"{"seconds":1}"#.into(),
        ("POST", path) if path.ends_with("/refused") => r#"{"generation":1}"#.into(),
        _ => String::new(),
    }
}

/// Which statuses a cell of the matrix may have.
fn expected(listener: Listener, method: &str, path: &str, holds: Holds) -> Vec<u16> {
    match method {
        "TRACE" => return vec![405],
        // A path is no target for it.
        "CONNECT" => return vec![400, 405],
        _ => {}
    }
    let for_strangers = matches!(path, "/livez" | "/oauth/start" | "/oauth/callback" | "/webhooks/highlevel");
    if listener == Listener::Public && !for_strangers {
        return vec![404];
    }
    let Some(entry) = entry_for(method, path) else { return vec![405] };
    // No key opens it: whoever only looks is shown where to sign in.
    if entry.door == Door::Session {
        return vec![if entry.method == "GET" { 303 } else { 403 }];
    }
    let known = match holds {
        Holds::Nothing => vec![401],
        // After twenty of them from here they are told to wait.
        Holds::AWrongKey => vec![401, 429],
        Holds::ARevokedKey | Holds::AnExpiredKey => vec![401],
        Holds::AnotherVerb => vec![403],
        Holds::AnotherLocation => match (entry.method, entry.path) {
            // Lists show what is within reach, a link is for anybody, and metrics name nobody.
            ("GET", "/v1/installations" | "/v1/checks" | "/v1/parked" | "/metrics" | "/oauth/start") => {
                vec![welcome(&entry)]
            }
            ("POST", "/oauth/links") => vec![201],
            _ => vec![403],
        },
        Holds::TheRightKey => vec![welcome(&entry)],
    };
    match entry.door {
        // A program with an admin key needs no link; strangers' keys are not even looked at.
        Door::Open
            if entry.path == "/oauth/start" && entry.method == "GET" && listener == Listener::Private =>
        {
            match holds {
                Holds::Nothing => vec![400],
                Holds::AnotherLocation | Holds::TheRightKey => vec![303],
                _ => known,
            }
        }
        // Whoever only looks uses nothing up.
        Door::Open if entry.path == "/oauth/callback" && method == "HEAD" => vec![200],
        Door::Open => vec![welcome(&entry)],
        Door::KeyOrLocal(_) if holds == Holds::Nothing => vec![200],
        Door::Key(_) | Door::KeyOrLocal(_) | Door::Session => known,
    }
}

#[test]
fn every_door_opens_for_whom_the_table_says_and_for_nobody_else() {
    let house = House::with(home(), |store| install(store, &location(SPARE), "spare-access-token"));
    house.until_checked();
    let elsewhere = || these([location("elsewhere")]);
    let right = house.key(&Verb::ALL, Reach::All);
    let key_for = |holds: Holds, verb: Verb| match holds {
        Holds::Nothing => None,
        Holds::AWrongKey => {
            Some(format!("{}{}", &right[..20], right[20..].chars().rev().collect::<String>()))
        }
        Holds::ARevokedKey => {
            Some(house.key_like(&Verb::ALL, Reach::All, |key| key.revoked_at = Some(key.created_at)))
        }
        Holds::AnExpiredKey => {
            Some(house.key_like(&Verb::ALL, Reach::All, |key| key.expires_at = Some(key.created_at)))
        }
        Holds::AnotherVerb => {
            let others: Vec<Verb> = Verb::ALL.into_iter().filter(|other| *other != verb).collect();
            Some(house.key(&others, Reach::All))
        }
        Holds::AnotherLocation => Some(house.key(&Verb::ALL, elsewhere())),
        Holds::TheRightKey => Some(right.clone()),
    };
    let verbs = [Verb::Token, Verb::Admin];
    let keys: Vec<(Holds, [Option<String>; 2])> =
        Holds::ALL.into_iter().map(|holds| (holds, verbs.map(|verb| key_for(holds, verb)))).collect();
    house.until_known(keys[5].1[1].as_deref().expect("a key"));
    // From here on, the token's door is guarded where answers come from memory, too.
    assert_eq!(house.get(&house.token_path(), &right).status, 200);

    let paths: BTreeSet<&str> = entries().iter().map(|entry| entry.path).collect();
    let mut cells = 0;
    // The right key comes last: it takes the spare installation out of service.
    for (holds, of_verb) in &keys {
        for listener in [Listener::Private, Listener::Public] {
            let address = if listener == Listener::Private { &house.private } else { &house.public };
            let mut asked = Vec::new();
            let mut requests = Vec::new();
            for path in &paths {
                for method in METHODS {
                    let entry = entry_for(method, path);
                    let wanted = entry.map_or(Verb::Admin, |entry| match entry.door {
                        Door::Key(verb) | Door::KeyOrLocal(verb) => verb,
                        Door::Open | Door::Session => Verb::Admin,
                    });
                    let key = of_verb[usize::from(wanted == Verb::Admin)].as_deref().map(bearer);
                    let headers: Vec<_> = key.iter().map(|key| ("Authorization", key.as_str())).collect();
                    let id = if method == "DELETE" { SPARE } else { house.home.location() };
                    let target = filled(path, id);
                    let body = entry.map(|entry| body(&entry, id)).unwrap_or_default();
                    requests.push(request(method, &target, &headers, &body));
                    asked.push((method, *path));
                }
            }
            for ((method, path), answer) in asked.iter().zip(ask_all(address, &requests)) {
                let expected = expected(listener, method, path, *holds);
                let what = format!("{listener:?}: {method} {path} with {holds:?}");
                assert!(expected.contains(&answer.status), "{what}: {} {}", answer.status, answer.body);
                // Whoever comes to a page without a session is not asked for a key.
                let is_page = entry_for(method, path).is_some_and(|entry| {
                    entry.door == Door::Session || matches!(entry.path, "/sign-in" | "/language")
                });
                let code = match (holds, answer.status) {
                    _ if is_page => "",
                    (Holds::ARevokedKey, 401) => "key_revoked",
                    (Holds::AnExpiredKey, 401) => "key_expired",
                    (Holds::AnotherVerb, 403) => "wrong_verb",
                    (Holds::AnotherLocation, 403) => "out_of_reach",
                    (Holds::Nothing, 401) => "no_key",
                    _ => "",
                };
                if !code.is_empty() && *method != "HEAD" {
                    assert_eq!(answer.code(), code, "{what}");
                }
                if answer.status == 401 {
                    assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{what}");
                }
                if *holds != Holds::TheRightKey {
                    let shows =
                        [house.home.location(), "eyJ", SPARE].iter().any(|it| answer.body.contains(it));
                    assert!(
                        !shows || answer.status < 300 && *holds == Holds::Nothing,
                        "{what}: {}",
                        answer.body
                    );
                }
                if answer.status == 405 && *method != "TRACE" && *method != "CONNECT" {
                    assert!(answer.header("allow").is_some(), "{what}: it says what it takes instead");
                }
                cells += 1;
            }
        }
    }
    assert_eq!(cells, 2 * Holds::ALL.len() * paths.len() * METHODS.len());
    assert!(cells > 2500, "{cells}");
    house.end();
}

#[test]
fn without_a_key_nothing_is_changed_whoever_one_says_one_is() {
    let house = House::new();
    house.until_checked();
    // A use of a key would be noted for some while after.
    let before = house.dump();
    assert!(before.contains("tokens.db.records.db checks"), "{before}");
    let mut requests = Vec::new();
    let mut doors = 0;
    for entry in entries() {
        let id = house.home.location();
        let path = filled(entry.path, id);
        let mut bodies = vec![body(&entry, id), String::new(), "{}".into()];
        bodies.extend(
            ["link=made-up", "code=made-up", "code=", "state=made-up&code=made-up"].map(String::from),
        );
        for sent in &bodies {
            for method in [entry.method, "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"] {
                requests.push(request(method, &path, &[], sent));
            }
        }
        if matches!(entry.door, Door::Key(_)) {
            doors += 1;
            for agent in AGENTS {
                requests.push(request(entry.method, &path, &[("User-Agent", agent)], &bodies[0]));
            }
        }
    }
    let answers = ask_all(&house.private, &requests);
    let passed = |path: &str| {
        let first = format!("{path} HTTP/1.1");
        let ours = requests.iter().zip(&answers).filter(|(request, _)| {
            let line = String::from_utf8_lossy(request);
            line.lines().next().is_some_and(|line| line.ends_with(&first))
        });
        ours.map(|(_, answer)| answer.status).collect::<BTreeSet<u16>>()
    };
    for entry in entries().iter().filter(|entry| matches!(entry.door, Door::Key(_))) {
        let path = filled(entry.path, house.home.location());
        let statuses = passed(&path);
        assert!(statuses.is_subset(&BTreeSet::from([401, 405])), "{path}: {statuses:?}");
    }
    assert!(doors * AGENTS.len() > 900, "{} times", doors * AGENTS.len());
    ask_all(&house.public, &requests);
    // What could be under way has been written by now: it is written every second.
    let metrics_are_there = |answer: &crate::wire::Answer| answer.body.contains("ghl_auth_http_requests");
    until(|| metrics_are_there(&crate::wire::ask(&house.private, &request("GET", "/metrics", &[], ""))));
    std::thread::sleep(std::time::Duration::from_millis(1300));
    assert_eq!(house.dump(), before);
    house.end();
}

/// Programs that other services let in by their names.
const AGENTS: [&str; 60] = [
    "kube-probe/1.31",
    "GoogleHC/1.0",
    "ELB-HealthChecker/2.0",
    "Amazon-Route53-Health-Check-Service (ref 1; report http://amzn.to/1vsZADi)",
    "Prometheus/3.5.0",
    "Consul Health Check",
    "HAProxy",
    "nginx",
    "Envoy/HC",
    "Traefik",
    "Mozilla/5.0",
    "curl/8.14.1",
    "Wget/1.25",
    "python-requests/2.32",
    "Go-http-client/1.1",
    "okhttp/5.0",
    "axios/1.12",
    "node",
    "Java/21",
    "PostmanRuntime/7.45",
    "insomnia/11",
    "Googlebot/2.1",
    "bingbot/2.0",
    "Slackbot-LinkExpanding 1.0",
    "facebookexternalhit/1.1",
    "Twitterbot/1.0",
    "WhatsApp/2.23",
    "Discordbot/2.0",
    "TelegramBot (like TwitterBot)",
    "LinkedInBot/1.0",
    "UptimeRobot/2.0",
    "Pingdom.com_bot",
    "StatusCake",
    "Better Uptime Bot",
    "Site24x7",
    "DatadogSynthetics",
    "NewRelicPinger/1.0",
    "Zabbix",
    "Nagios check_http",
    "Icinga",
    "monit/5.35",
    "systemd",
    "docker-healthcheck",
    "Docker-Client/27",
    "containerd",
    "cri-o",
    "Cloudflare-Healthchecks/1.0",
    "Cloudflare-Traffic-Manager/1.0",
    "Fastly/healthcheck",
    "AlwaysOn",
    "AzureHealthProbe",
    "Load Balancer Agent",
    "Edge Health Probe",
    "HighLevel",
    "LeadConnector",
    "ghl-auth",
    "ghl-auth/0.1.0",
    "localhost",
    "127.0.0.1",
    "internal",
];
