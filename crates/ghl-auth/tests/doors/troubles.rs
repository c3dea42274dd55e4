//! What is answered when something else is broken: the store, or HighLevel. It is said in our own
//! words, and nothing of the inside, of HighLevel's pages or of a secret comes along.

use std::time::Duration;

use sandbox::{Fault, FaultKind, Matcher};
use server::entries;
use tokens::{AccessToken, RefreshBy, RefreshToken, ReplyMembers, TokenSet};

use crate::house::{House, block_on, location, now, until};
use crate::wire::{ask_all, bearer, request};

/// What an answer of HighLevel's may hold when it is broken, or when it is not HighLevel's.
const PAGE: &str = "<html><h1>Oops</h1> at Object.exchange (/srv/oauth/token.js:42:7) SELECT * FROM grants \
                    client_secret=hunter2-hunter2 refresh_token=eyJhbGciOi.upstream.token</html>";

/// As long as a key or a token is.
const SECRET: &str = "0123456789abcdef0123456789abcdef01234567";

/// An installation whose access token has ended.
fn ended(house: &House, id: &str) {
    let at = now() - Duration::from_secs(25 * 3600);
    let tokens = TokenSet {
        access: AccessToken::new(format!("access-of-{id}")),
        refresh_by: RefreshBy::Own(RefreshToken::new(format!("refresh-of-{id}"))),
        issued_at: at,
        expires_at: at + Duration::from_secs(24 * 3600),
        scopes: "contacts.readonly".into(),
        company: None,
        members: ReplyMembers::new("{}"),
    };
    block_on(house.store.connect(&location(id), &tokens, at)).expect("connected");
}

#[test]
fn what_highlevel_says_in_its_trouble_is_not_passed_on() {
    let house = House::new();
    house.until_checked();
    let key = house.master_key();
    // Its words are passed on, without what could be a secret; all else that it sends is not.
    let json = |error: &str, message: &str| {
        format!(
            r#"{{"error":"{error}","error_description":"{message} {SECRET}","stack":"{PAGE}","path":"{PAGE}"}}"#
        )
    };
    let answers = [
        (400, json("invalid_grant", "This refresh token is invalid")),
        (400, json("bad_request", "Location is not active")),
        (400, PAGE.to_owned()),
        // Ours are refused: nobody is asked anything for a while, so it comes last.
        (401, json("invalid_client", "Invalid client")),
    ];
    for (number, (status, body)) in answers.iter().enumerate() {
        let id = format!("trouble-{number}");
        ended(&house, &id);
        house.sandbox_says(*status, body);
        let path = format!("/v1/locations/{id}/token");
        let answer = house.get(&path, &key);
        let what = format!("{status} {body}: {} {}", answer.status, answer.body);
        assert!([409, 503, 504].contains(&answer.status), "{what}");
        // And again, from what was kept of it, by each door that tells how an installation is.
        let paths =
            [path, format!("/v1/installations/location/{id}"), "/v1/installations".into(), "/metrics".into()];
        let asked: Vec<Vec<u8>> =
            paths.iter().map(|path| request("GET", path, &[("Authorization", &bearer(&key))], "")).collect();
        let mut all = ask_all(&house.private, &asked);
        all.push(answer);
        for answer in all {
            for inside in ["<html", "hunter2", "token.js", "eyJhbGciOi", SECRET, "refresh-of-", "access-of-"]
            {
                assert!(!answer.body.contains(inside), "`{inside}` in the answer to {what}: {}", answer.body);
            }
        }
    }
    house.plant("hunter2-hunter2");
    house.plant("eyJhbGciOi.upstream.token");
    house.plant(SECRET);
    house.end();
}

#[test]
fn with_a_broken_store_every_door_says_so_and_nothing_of_its_inside() {
    let house = House::new();
    house.until_checked();
    let key = house.master_key();
    assert_eq!(house.get(&house.token_path(), &key).status, 200);
    for file in ["tokens.db", "tokens.db.records.db"] {
        let database = rusqlite::Connection::open(house.home.path(file)).expect("a database");
        let tables = {
            let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'";
            let mut names = database.prepare(sql).expect("SQL");
            let names = names.query_map([], |row| row.get::<_, String>(0)).expect("names");
            names.map(|name| name.expect("a name")).collect::<Vec<_>>()
        };
        for table in tables {
            database
                .execute_batch(&format!("PRAGMA foreign_keys = OFF; DROP TABLE \"{table}\""))
                .expect("dropped");
        }
    }
    until(|| house.get("/readyz", &key).status == 503);
    let mut troubles = 0;
    for entry in entries() {
        let id = house.home.location();
        let path = entry.path.replace("{kind}", "location").replace("{id}", id);
        let bodies = [
            r#"{"generation":1}"#.to_owned(),
            format!(r#"{{"kind":"location","id":"{id}"}}"#),
            r#"{"seconds":1}"#.to_owned(),
            "link=a".to_owned(),
            "code=a".to_owned(),
            String::new(),
        ];
        let mut requests: Vec<Vec<u8>> = bodies
            .iter()
            .map(|body| request(entry.method, &path, &[("Authorization", &bearer(&key))], body))
            .collect();
        let cookie = [("Cookie", "__Host-ghl-auth=a")];
        requests.push(request(entry.method, &format!("{path}?code=a&state=a"), &cookie, ""));
        let answers = ask_all(&house.private, &requests);
        for answer in answers.iter().filter(|answer| answer.status >= 500) {
            let is_page = answer.body.starts_with("<!doctype");
            assert!(
                is_page || ["store_unavailable", "not_ready"].contains(&answer.code().as_str()),
                "{}",
                answer.body
            );
            if !is_page && answer.code() == "store_unavailable" {
                assert!(answer.header("retry-after").is_some(), "{}", answer.head);
            }
            troubles += 1;
        }
    }
    assert!(troubles > 20, "{troubles}");
    // What is in no store can be answered all the same.
    assert_eq!(house.get("/livez", &key).status, 200);
    house.end();
}

impl House {
    /// Lets HighLevel answer the next refreshes so, and nothing else.
    fn sandbox_says(&self, status: u16, body: &str) {
        self.home.sandbox.clear_faults();
        let fault = Fault::new(FaultKind::status(status, body)).on(Matcher::Refresh);
        self.home.sandbox.fault(fault.until_cleared());
    }
}
