//! What tests of a gateway turn: whose access token ends, how calls are counted and paged, what is noted of a request,
//! how an answer is framed.

mod common;

use std::time::Duration;

use common::{api, connect, raw, refresh, sandbox, send, with};
use sandbox::{RateLimit, RateWindow, Sandbox};
use serde_json::{Value, json};

fn contact_path(sandbox: &Sandbox) -> String {
    format!("/contacts/{}", sandbox.settings().contact_id)
}

fn turn(sandbox: &Sandbox, knob: &str, body: Value) -> u16 {
    let json = [("content-type", "application/json")];
    send(sandbox, "POST", &format!("/_sandbox/{knob}"), &json, &body.to_string()).status
}

#[test]
fn an_access_token_ends_alone_and_a_refresh_cures_it() {
    let sandbox = sandbox();
    let (access, refresh_token) = connect(&sandbox);
    let ended = json!({ "location_id": sandbox.settings().location_id });
    assert_eq!(turn(&sandbox, "revoke_access", ended), 200);
    let refused = api(&sandbox, "GET", &contact_path(&sandbox), &access, None);
    assert_eq!((refused.status, refused.json()["message"].as_str()), (401, Some("Invalid JWT")));
    let fresh = refresh(&sandbox, &refresh_token).text("access_token");
    assert_eq!(api(&sandbox, "GET", &contact_path(&sandbox), &fresh, None).status, 200);
}

#[test]
fn a_sliding_limit_gives_each_call_back_an_interval_after_it_was_made() {
    let check = |window: RateWindow, expected: [u16; 5]| {
        let sandbox = sandbox();
        let limit =
            RateLimit { burst: 2, interval: Duration::from_secs(3600), ..sandbox.settings().rate_limit };
        sandbox.set_rate_limit(limit);
        sandbox.set_rate_window(window);
        let (access, _) = connect(&sandbox);
        let ask = || api(&sandbox, "GET", &contact_path(&sandbox), &access, None).status;
        let first = ask();
        sandbox.advance(Duration::from_secs(3000));
        let (second, third) = (ask(), ask());
        sandbox.advance(Duration::from_secs(1000));
        assert_eq!([first, second, third, ask(), ask()], expected, "{window:?}");
    };
    check(RateWindow::Fixed, [200, 200, 429, 200, 200]);
    check(RateWindow::Sliding, [200, 200, 429, 200, 429]);
}

#[test]
fn limits_are_changed_one_by_one() {
    let sandbox = sandbox();
    let (access, _) = connect(&sandbox);
    assert_eq!(turn(&sandbox, "limits", json!({ "burst": 25, "daily": 10_000, "window": "sliding" })), 200);
    assert_eq!(turn(&sandbox, "limits", json!({ "enforced": false })), 200);
    assert_eq!(turn(&sandbox, "limits", json!({ "interval_seconds": -1 })), 400);
    let told = api(&sandbox, "GET", &contact_path(&sandbox), &access, None);
    let limits = ["x-ratelimit-max", "x-ratelimit-interval-milliseconds", "x-ratelimit-limit-daily"];
    assert_eq!(limits.map(|name| told.header(name)), [Some("25"), Some("10000"), Some("10000")]);
}

#[test]
fn headers_are_noted_when_asked_for_and_a_token_is_named_instead_of_shown() {
    let sandbox = sandbox();
    let (access, _) = connect(&sandbox);
    let target = "/locations/search?b=%2f%2F+x&a=&a";
    let ask = |token: &str| {
        let bearer = format!("Bearer {token}");
        let headers =
            [("authorization", bearer.as_str()), ("version", "v3"), ("X-Twice", "1"), ("X-Twice", "2")];
        send(&sandbox, "GET", target, &headers, "");
        sandbox.ledger().requests.back().cloned().expect("a line")
    };
    let unasked = ask(&access);
    assert_eq!((unasked.target.as_str(), unasked.headers), (target, None));
    assert_eq!(turn(&sandbox, "headers", json!({ "on": true })), 200);
    let named = |token: &str| {
        let headers = ask(token).headers.expect("noted");
        let values = |name: &str| -> Vec<String> {
            headers.iter().filter(|(noted, _)| noted == name).map(|(_, value)| value.clone()).collect()
        };
        assert_eq!(values("x-twice"), ["1", "2"]);
        values("authorization").concat()
    };
    assert_eq!(named(&access), format!("{}, generation 1", sandbox.settings().location_id));
    assert_eq!(named("a-secret"), "nobody");
}

#[test]
fn answers_come_in_chunks_where_that_is_asked_for() {
    let sandbox = with(|settings| settings.chunked_answers = true);
    let (access, _) = connect(&sandbox);
    let bearer = format!("Bearer {access}");
    let headers = [("authorization", bearer.as_str()), ("version", "v3")];
    let framed = || {
        let text =
            String::from_utf8(raw(&sandbox, "GET", &contact_path(&sandbox), &headers, "")).expect("text");
        let has = |header: &str| text.to_lowercase().contains(header);
        (has("transfer-encoding: chunked"), has("content-length:"), text.ends_with("\r\n0\r\n\r\n"))
    };
    assert_eq!(framed(), (true, false, true));
    assert_eq!(turn(&sandbox, "chunked", json!({ "on": false })), 200);
    assert_eq!(framed(), (false, true, false));
}

#[test]
fn every_contact_is_on_one_page_however_they_are_paged() {
    let sandbox = with(|settings| settings.rate_limit.enforced = false);
    let (access, _) = connect(&sandbox);
    let location_id = sandbox.settings().location_id.clone();
    for number in 0..9 {
        // Two each are added in the same millisecond at the earliest; ids tell them apart.
        let sent = json!({ "locationId": location_id, "firstName": "Page", "email": format!("{number}@example.org") });
        assert_eq!(api(&sandbox, "POST", "/contacts/", &access, Some(sent)).status, 201);
        sandbox.advance(Duration::from_millis(number % 2));
    }
    let ids = |body: &Value| -> Vec<String> {
        let contacts = body["contacts"].as_array().expect("contacts");
        contacts.iter().filter_map(|contact| contact["id"].as_str().map(str::to_owned)).collect()
    };
    let search = |more: Value| {
        let mut sent = json!({ "locationId": location_id, "query": "example.org", "pageLimit": 4 });
        sent.as_object_mut().expect("an object").extend(more.as_object().cloned().expect("an object"));
        ids(&api(&sandbox, "POST", "/contacts/search", &access, Some(sent)).json())
    };
    let all = search(json!({ "pageLimit": 100 }));
    assert_eq!(all.len(), 9);
    let numbered: Vec<String> = (1..=3).flat_map(|page| search(json!({ "page": page }))).collect();
    assert_eq!(numbered, all);

    let mut followed = search(json!({}));
    for _ in 0..2 {
        followed.extend(search(json!({ "searchAfter": [0, followed.last()] })));
    }
    assert_eq!(followed, all);

    let list = |more: &str| {
        let path = format!("/contacts/?locationId={location_id}&limit=4{more}");
        ids(&api(&sandbox, "GET", &path, &access, None).json())
    };
    let mut listed = list("");
    for _ in 0..2 {
        let last = listed.last().cloned().expect("a contact");
        listed.extend(list(&format!("&startAfter=0&startAfterId={last}")));
    }
    assert_eq!(listed[1..], all, "the first is the contact of the health check");
    assert_eq!(list(&format!("&startAfter={}", sandbox.now_millis())), Vec::<String>::new());
    assert_eq!(list("&startAfter=1"), list(""));
}
