//! Who took which token is written down, whatever else happens; and nobody writes it, or the log, for
//! the service.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use sandbox::{Fault, FaultKind, Matcher};
use serde_json::{Value, json};

use crate::serving::{Service, document, home};
use crate::support::{ELSEWHERE, Home, Page, http};

/// Key, location, generation.
type Taken = BTreeMap<(String, String, i64), i64>;

/// Numbers without a pattern, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % end
    }
}

fn times(variable: &str, otherwise: usize) -> usize {
    std::env::var(variable).map_or(otherwise, |text| text.parse().expect("a number"))
}

/// What the records say of who took what; with each line's request where each has one.
fn written(home: &Home) -> (Taken, Vec<String>) {
    let records = rusqlite::Connection::open(home.path("tokens.db.records.db")).expect("the records");
    let sql = "SELECT key, id, generation, sum(count) FROM audit GROUP BY key, id, generation";
    let mut sums = records.prepare(sql).expect("sums");
    let sums = sums.query_map([], |row| Ok(((row.get(0)?, row.get(1)?, row.get(2)?), row.get(3)?)));
    let sums = sums.expect("rows").map(|row| row.expect("a row")).collect();
    let mut requests =
        records.prepare("SELECT request_id FROM audit WHERE request_id IS NOT NULL").expect("it");
    let requests = requests.query_map([], |row| row.get(0)).expect("rows");
    (sums, requests.map(|row| row.expect("a row")).collect())
}

/// Two locations, and keys for one, for both, for none of them.
struct Callers {
    service: Service,
    locations: [String; 2],
    keys: Vec<String>,
    taken: Taken,
    requests: Vec<String>,
}

impl Callers {
    fn start(audit: &str) -> Self {
        let home = Home::with(|settings| settings.extra_locations = 1);
        let home = home.sealed().set("GHL_STORE", "sqlite:tokens.db").set("GHL_AUTH_LISTEN", "127.0.0.1:0");
        let home = home.set("GHL_AUTH_AUDIT", audit).log_in();
        let other = home.sandbox.location_ids().pop().expect("a second location");
        let code = home.sandbox.approve_location(&other, ELSEWHERE);
        home.run(["login", "--code", &code]).good();
        let locations = [home.location().to_owned(), other];
        let service = Service::start(home);
        let keys = vec![
            service.key(&["one", "--location", &locations[0]]),
            service.key(&["two", "--all", "--verb", "token", "--verb", "admin"]),
            service.key(&["elsewhere", "--location", "elsewhere"]),
            service.key(&["revoked", "--all"]),
        ];
        service.home.run(["keys", "revoke", "revoked"]).good();
        Self { service, locations, keys, taken: Taken::new(), requests: Vec::new() }
    }

    fn note(&mut self, key: &str, page: &Page) {
        if page.status != 200 {
            assert!(!page.body.contains("eyJ"), "no token leaves with {}", page.status);
            return;
        }
        let answer = document(page);
        let generation = answer["generation"].as_i64().expect("a generation");
        let location = answer["location_id"].as_str().expect("a location").to_owned();
        // The public part of a key.
        *self.taken.entry((key[5..13].to_owned(), location, generation)).or_default() += 1;
        self.requests.push(page.header("x-request-id").expect("an id").to_owned());
    }

    fn random_operation(&mut self, dice: &mut Dice) {
        let location = self.locations[dice.below(2)].clone();
        let key = self.keys[dice.below(self.keys.len())].clone();
        let path = format!("/v1/locations/{location}/token");
        let refused = |generation: usize| json!({ "generation": generation }).to_string();
        let page = match dice.below(20) {
            0..9 => self.service.get(&path, Some(&key)),
            9..12 => self.service.get(&format!("{path}?minimum_life={}", dice.below(80_000)), Some(&key)),
            12 => self.service.get(&format!("{path}?minimum_life=86400"), Some(&key)),
            13 | 14 => {
                self.service.ask("POST", &format!("{path}/refused"), Some(&key), &refused(dice.below(3)))
            }
            15 => self.service.ask("POST", &format!("{path}/refused"), Some(&key), "{}"),
            16 => self.service.get(&path, None),
            17 => self.service.get(&format!("{path}?key={key}"), Some(&key)),
            18 => self.service.get(&path.replace("locations", "companies"), Some(&key)),
            _ => self.service.get("/v1/installations", Some(&key)),
        };
        if page.body.contains("access_token") {
            self.note(&key, &page);
        }
    }

    /// Ends the service and compares.
    fn compare(mut self, each: bool) {
        self.service.running.signal("TERM");
        self.service.running.until_it_ends();
        let (sums, mut requests) = written(&self.service.home);
        assert_eq!(sums, self.taken);
        if each {
            requests.sort();
            self.requests.sort();
            assert_eq!(requests, self.requests, "a line for every token");
        }
    }
}

fn counts_agree(audit: &str) {
    let operations = times("GHL_AUTH_AUDIT_OPERATIONS", 300);
    let seed = times("GHL_AUTH_SEED", std::process::id() as usize);
    eprintln!("GHL_AUTH_SEED={seed}");
    let (mut callers, mut dice) = (Callers::start(audit), Dice(seed as u64));
    for number in 0..operations {
        if number % (operations / 3) == 7 {
            // Settings read anew are no reason to forget anything.
            callers.service.running.signal("HUP");
        }
        callers.random_operation(&mut dice);
    }
    assert!(callers.requests.len() > operations / 10, "{}", callers.requests.len());
    callers.compare(audit == "each");
}

#[test]
fn every_token_that_left_is_counted() {
    counts_agree("counted");
}

#[test]
fn every_token_that_left_has_a_line() {
    counts_agree("each");
}

/// The token of a request that was at hand when the service was asked to stop.
#[test]
fn what_leaves_at_the_very_end_is_counted_too() {
    let callers = Callers::start("counted");
    let key = callers.keys[1].clone();
    callers.service.home.sandbox.hold_answers(Matcher::Refresh);
    let path = format!("/v1/locations/{}/token?minimum_life=86400", callers.locations[0]);
    let page = std::thread::scope(|scope| {
        let asking = scope.spawn(|| callers.service.get(&path, Some(&key)));
        callers.service.until(|| callers.service.home.sandbox.held() > 0);
        callers.service.running.signal("TERM");
        // It takes no more connections: it has begun to stop.
        let address = callers.service.address.strip_prefix("http://").expect("plain");
        callers.service.until(|| answers_no_more(address));
        std::thread::sleep(Duration::from_millis(300));
        callers.service.home.sandbox.release();
        asking.join().expect("an answer")
    });
    let mut callers = callers;
    callers.note(&key, &page);
    assert_eq!(callers.taken.values().sum::<i64>(), 1, "{}", page.body);
    callers.compare(false);
}

fn answers_no_more(address: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else { return true };
    stream.set_read_timeout(Some(Duration::from_millis(100))).expect("a time-out");
    let asked = stream.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    asked.is_err() || stream.read(&mut [0; 16]).map_or(true, |read| read == 0)
}

/// Killed at any moment: whoever holds a token is in the records.
#[test]
fn a_line_is_written_before_its_token_leaves() {
    let mut home = home().set("GHL_AUTH_AUDIT", "each");
    let mut seen = Vec::new();
    let mut dice = Dice(std::process::id().into());
    let key = home.run(["keys", "create", "--name", "all", "--all"]).good().out.trim().to_owned();
    for _ in 0..times("GHL_AUTH_AUDIT_KILLS", 6) {
        let service = Service::start(home);
        let path = format!("/v1/locations/{}/token", service.home.location());
        service.until(|| {
            let page = service.get(&path, Some(&key));
            let got = page.status == 200;
            seen.extend(got.then(|| page.header("x-request-id").expect("an id").to_owned()));
            got
        });
        let authorization = format!("Bearer {key}");
        let (url, began) = (format!("{}{path}", service.address), Instant::now());
        let until = Duration::from_millis(30 + dice.below(250) as u64);
        let ids: Vec<String> = std::thread::scope(|scope| {
            let asking: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let mut ids = Vec::new();
                        // Until it is dead.
                        while let Some(page) = asked(&url, &authorization) {
                            if page.status == 200 && page.body.contains("access_token") {
                                ids.push(page.header("x-request-id").expect("an id").to_owned());
                            }
                        }
                        ids
                    })
                })
                .collect();
            std::thread::sleep(until.saturating_sub(began.elapsed()));
            service.running.signal("KILL");
            asking.into_iter().flat_map(|ids| ids.join().expect("no panic")).collect()
        });
        let Service { home: same, running, .. } = service;
        running.end().ended(-1);
        seen.extend(ids);
        home = same;
        let (_, written) = written(&home);
        let missing: Vec<_> = seen.iter().filter(|id| !written.contains(id)).collect();
        assert!(missing.is_empty(), "{missing:?} of {}", seen.len());
    }
    assert!(seen.len() > 12, "{}", seen.len());
}

/// An answer, if there is still anyone to give it.
fn asked(url: &str, authorization: &str) -> Option<Page> {
    let address = url.strip_prefix("http://").and_then(|rest| rest.split('/').next()).expect("an address");
    TcpStream::connect(address).ok()?;
    let headers = [("authorization", authorization)];
    std::panic::catch_unwind(|| http("GET", url, &headers, "")).ok().filter(|page| page.status != 0)
}

/// Someone else holds the records for longer than anyone waits.
#[test]
fn where_the_line_can_t_be_written_the_token_stays() {
    let service = Service::start(home().set("GHL_AUTH_AUDIT", "each"));
    let key = service.key(&["all", "--all"]);
    assert_eq!(service.token(&key).status, 200);
    let records = rusqlite::Connection::open(service.home.path("tokens.db.records.db")).expect("the records");
    service.until(|| records.execute_batch("BEGIN IMMEDIATE").is_ok());
    let refused = service.token(&key);
    assert_eq!((refused.status, document(&refused)["code"].as_str()), (503, Some("store_unavailable")));
    assert!(!refused.body.contains("eyJ"));
    records.execute_batch("ROLLBACK").expect("free");
    service.until(|| service.token(&key).status == 200);
    let (sums, requests) = written(&service.home);
    let lines: i64 = sums.values().sum();
    assert_eq!(usize::try_from(lines).expect("a count"), requests.len());
    assert_eq!(lines, 2, "one before, one after");
    service.stop();
}

/// What a stranger would like to see in the log, as a line of its own.
const FORGED: &str = r#"{"level":"ERROR","fields":{"message":"forged"}}"#;

#[test]
fn nobody_writes_a_line_of_the_log_for_the_service() {
    for format in ["json", "human"] {
        // Without a tag, so that checks in a row don't meet the one before's.
        let home = home().set("GHL_AUTH_LOG", "trace").set("GHL_AUTH_LOG_FORMAT", format);
        let mut service = Service::start(home.set("GHL_HEALTH_CHECK_TAG_NAME", ""));
        let name = format!("evil\r\n{FORGED}\u{1b}[2J");
        let refused = service.home.run(["keys", "create", "--all", "--name", &name]).ended(2);
        let admin = service.key(&["admin", "--all", "--verb", "token", "--verb", "admin"]);
        let evil =
            format!("%0d%0a{}%1b%5b2J", FORGED.replace('"', "%22").replace('{', "%7b").replace('}', "%7d"));
        let paths = [
            format!("/{evil}"),
            format!("/v1/locations/{evil}/token"),
            format!("/v1/locations/x/token?minimum_life={evil}&{evil}=1"),
            format!("/v1/installations/{evil}/{evil}"),
            format!("/v1/maintenances/{evil}"),
            format!("/oauth/callback?error={evil}&error_description={evil}"),
            format!("/oauth/callback?code={evil}&state={evil}"),
            format!("/oauth/start?link={evil}"),
        ];
        for path in &paths {
            for method in ["GET", "POST", "DELETE"] {
                service.ask(method, path, Some(&admin), "");
            }
        }
        // Raw bytes, where a client of ours would not let them pass.
        for raw in [
            "GET /livez\n{\"level\" HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "GET /\u{1b}[2J HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "GET /livez HTTP/1.1\r\nHost: localhost\r\nUser-Agent: a\u{1b}[2J\r\nX-Request-Id: \u{1b}[2J\r\n\r\n",
            "GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: a\rb\r\n\r\n",
            "GET /livez HTTP/1.1\r\nHost: \u{1b}[2J\r\n\r\n",
            "EVIL\u{1b}[2J /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ] {
            crate::support::raw(&service.address, &raw.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
        }
        for header in ["x-request-id", "user-agent", "referer", "x-forwarded-for", "authorization", "cookie"]
        {
            let url = format!("{}/livez", service.address);
            let page = http("GET", &url, &[(header, FORGED)], "");
            assert!(!page.head.contains("forged"), "{header}: {}", page.head);
        }
        let body = json!({ "seconds": 60, "reason": name }).to_string();
        assert_eq!(service.ask("POST", "/v1/maintenances", Some(&admin), &body).status, 400);
        let asked = json!({ "kind": "location", "id": service.home.location() }).to_string();
        let words = json!({ "message": name, "error": name, "traceId": name }).to_string();
        for status in [400, 401, 403, 422] {
            service
                .home
                .sandbox
                .fault(Fault::new(FaultKind::status(status, &words)).on(Matcher::ContactRead));
            service.ask("POST", "/v1/checks", Some(&admin), &asked);
            service.home.sandbox.fault(Fault::new(FaultKind::status(status, &words)).on(Matcher::Refresh));
            let path = format!("/v1/locations/{}/token?minimum_life=86400", service.home.location());
            service.get(&path, Some(&admin));
            service.home.sandbox.clear_faults();
        }
        let shown = service.home.run(["status"]).good();
        service.running.signal("TERM");
        service.running.until_it_ends();
        let said = service.running.said();
        for text in [&said, &refused.err, &shown.out, &shown.err] {
            assert!(!text.contains(['\u{1b}', '\r']), "{format}: control characters in {text:?}");
            assert!(!text.lines().any(|line| line.starts_with("{\"level\"")), "{format}: {text}");
        }
        let lines = said.lines().filter(|line| format == "json" && line.starts_with('{'));
        let events: Vec<Value> = lines
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect();
        assert!(events.iter().all(|event| event["fields"]["message"] != "forged"));
        // Whatever else is said is for people: a few sentences at the start and at the end.
        let others = said.lines().filter(|line| !line.is_empty() && !line.starts_with('{')).count();
        assert!(format != "json" || (events.len() > 40 && others < 12), "{others} lines are no JSON: {said}");
    }
}
