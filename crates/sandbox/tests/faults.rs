//! Answers that are lost, cut, late or wrong.

mod common;

use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use common::{FORM, admin, connect, raw, refresh, refresh_body, sandbox, tag, until, whole, with};
use sandbox::{Fault, FaultKind, Matcher, Outcome, Sandbox};
use serde_json::json;

fn on_refresh(kind: FaultKind) -> Fault {
    Fault::new(kind).on(Matcher::Refresh)
}

fn raw_refresh(sandbox: &Sandbox, token: &str) -> Vec<u8> {
    raw(sandbox, "POST", "/oauth/token", &[FORM], &refresh_body(sandbox, token))
}

#[test]
fn a_lost_answer_has_used_up_the_token_and_is_given_again_when_asked_in_time() {
    let sandbox = sandbox();
    let (_, first) = connect(&sandbox);
    sandbox.lose_next_answer();
    assert_eq!(raw_refresh(&sandbox, &first), b"");
    assert!(!sandbox.is_current_refresh_token(&first));
    let second = refresh(&sandbox, &first).text("refresh_token");
    assert!(sandbox.is_current_refresh_token(&second));
    assert_eq!(sandbox.counts().rotations, 1);
}

#[test]
fn a_lost_request_has_changed_nothing() {
    let sandbox = sandbox();
    let (_, first) = connect(&sandbox);
    for kind in [FaultKind::LoseRequest, FaultKind::Reset { processed: false }] {
        sandbox.fault(on_refresh(kind));
        assert_eq!(raw_refresh(&sandbox, &first), b"");
        assert!(sandbox.is_current_refresh_token(&first));
    }
    assert_eq!((sandbox.counts().refreshes, sandbox.counts().rotations), (2, 0));
    assert_eq!(
        sandbox.ledger().token_requests.back().map(|last| last.outcome.clone()),
        Some(Outcome::NotProcessed)
    );
}

#[test]
fn an_answer_can_be_cut_at_every_byte() {
    // Few scopes make a short token, and a short test.
    let sandbox = with(|settings| settings.scopes.truncate(2));
    let (_, mut token) = connect(&sandbox);
    let complete = raw_refresh(&sandbox, &token);
    token = whole(&complete).expect("a whole answer").text("refresh_token");
    for bytes in 0..complete.len() {
        sandbox.fault(on_refresh(FaultKind::CutAfter { bytes: bytes as u64 }));
        let cut = raw_refresh(&sandbox, &token);
        assert_eq!(cut.len(), bytes);
        assert!(whole(&cut).is_none());
        assert!(!sandbox.is_current_refresh_token(&token), "it was not used up");
        token = refresh(&sandbox, &token).text("refresh_token");
        assert!(sandbox.is_current_refresh_token(&token));
    }
    assert_eq!(sandbox.counts().rotations, complete.len() as u64 + 1);
    sandbox.fault(on_refresh(FaultKind::CutAfter { bytes: complete.len() as u64 }));
    assert!(whole(&raw_refresh(&sandbox, &token)).is_some());
}

#[test]
fn a_connection_that_stays_open_is_whole_again_after_a_cut_that_cut_nothing() {
    let sandbox = sandbox();
    let mut stream =
        std::net::TcpStream::connect(sandbox.base_url().replace("http://", "")).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a time-out");
    let length = length_of_an_answer(&mut stream);
    sandbox.fault(Fault::new(FaultKind::CutAfter { bytes: length as u64 }));
    assert_eq!(length_of_an_answer(&mut stream), length);
    assert_eq!(length_of_an_answer(&mut stream), length);
}

fn length_of_an_answer(stream: &mut std::net::TcpStream) -> usize {
    stream.write_all(b"GET /contacts/x HTTP/1.1\r\nhost: sandbox\r\n\r\n").expect("it is taken");
    let mut bytes = Vec::new();
    while whole(&bytes).is_none() {
        let mut some = [0; 1024];
        let count = stream.read(&mut some).expect("an answer");
        assert_ne!(count, 0, "closed after {} bytes", bytes.len());
        bytes.extend_from_slice(&some[..count]);
    }
    bytes.len()
}

#[test]
fn a_late_answer_has_used_up_the_token_on_arrival() {
    let sandbox = sandbox();
    let (_, first) = connect(&sandbox);
    sandbox.fault(on_refresh(FaultKind::delay(Duration::from_millis(300))));
    let started = Instant::now();
    let late = thread::spawn({
        let (sandbox, first) = (sandbox.clone(), first.clone());
        move || refresh(&sandbox, &first).text("refresh_token")
    });
    until(|| sandbox.counts().rotations == 1);
    assert!(started.elapsed() < Duration::from_millis(300));
    let hedge = refresh(&sandbox, &first).text("refresh_token");
    assert_eq!(late.join().expect("an answer"), hedge);
    assert!(started.elapsed() >= Duration::from_millis(300));
}

#[test]
fn a_request_whose_client_hangs_up_is_processed_all_the_same() {
    let sandbox = sandbox();
    let (_, first) = connect(&sandbox);
    sandbox.fault(on_refresh(FaultKind::delay_before(Duration::from_millis(50))));
    let body = refresh_body(&sandbox, &first);
    let mut stream =
        std::net::TcpStream::connect(sandbox.base_url().replace("http://", "")).expect("it listens");
    let head = format!("POST /oauth/token HTTP/1.1\r\nhost: s\r\ncontent-type: {}\r\n", FORM.1);
    write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len()).expect("it is taken");
    until(|| sandbox.counts().refreshes == 1);
    drop(stream);
    until(|| sandbox.counts().rotations == 1);
}

#[test]
fn answers_can_be_wrong_in_every_way() {
    let check = |kind: FaultKind, status: u16, processed: bool, seen: &str| {
        let sandbox = sandbox();
        let (_, first) = connect(&sandbox);
        sandbox.fault(on_refresh(kind.clone()));
        let answer = refresh(&sandbox, &first);
        assert_eq!(answer.status, status, "{kind:?}");
        assert!(answer.body.contains(seen), "{kind:?}: {}", answer.body);
        assert_eq!(sandbox.is_current_refresh_token(&first), !processed, "{kind:?}");
        assert_eq!(refresh(&sandbox, &first).status, 200, "{kind:?} happened twice");
    };
    check(FaultKind::status(503, "busy"), 503, false, "busy");
    check(FaultKind::GatewayHtml { processed: false }, 502, false, "<h1>502 Bad Gateway</h1>");
    check(FaultKind::GatewayHtml { processed: true }, 502, true, "<h1>502 Bad Gateway</h1>");
    check(
        FaultKind::RateLimited { retry_after: None },
        429,
        false,
        r#"{"statusCode":429,"message":"Too Many Requests"}"#,
    );
    check(FaultKind::NotActive, 400, false, "Location is not active");
    check(FaultKind::RefusedClient, 401, false, "Invalid client credentials!");
    check(FaultKind::InvalidGrant, 400, false, r#""error":"invalid_grant""#);
    check(
        FaultKind::Body { body: "null".to_owned(), content_type: "text/plain".to_owned() },
        200,
        true,
        "null",
    );
    check(FaultKind::TruncatedJson, 200, true, r#"{"access_token":""#);
}

#[test]
fn members_of_an_answer_can_be_missing_or_something_else() {
    let sandbox = sandbox();
    let (access, first) = connect(&sandbox);
    let missing = vec!["refresh_token".to_owned(), "expires_in".to_owned()];
    sandbox.fault(on_refresh(FaultKind::FieldsMissing { fields: missing }));
    let body = refresh(&sandbox, &first).json();
    assert!(body.get("refresh_token").is_none() && body.get("expires_in").is_none());
    assert!(body["access_token"].is_string());

    let other =
        json!({ "fault": "fields_set", "fields": { "expires_in": "soon", "scope": null }, "on": "refresh" });
    assert_eq!(admin(&sandbox, "POST", "/_sandbox/faults", other).status, 200);
    let body = refresh(&sandbox, &first).json();
    assert_eq!((&body["expires_in"], &body["scope"]), (&json!("soon"), &json!(null)));

    let missing = vec!["contact.tags".to_owned()];
    sandbox.fault(Fault::new(FaultKind::FieldsMissing { fields: missing }).on(Matcher::ContactRead));
    let path = format!("/contacts/{}", sandbox.settings().contact_id);
    let body = common::api(&sandbox, "GET", &path, &access, None).json();
    assert!(body["contact"].get("tags").is_none() && body["contact"]["id"].is_string());
}

#[test]
fn a_truncated_answer_is_complete_http_and_no_json() {
    let sandbox = sandbox();
    let (_, first) = connect(&sandbox);
    sandbox.fault(on_refresh(FaultKind::TruncatedJson));
    let answer = refresh(&sandbox, &first);
    assert!(serde_json::from_str::<serde_json::Value>(&answer.body).is_err());
}

#[test]
fn a_fault_for_tags_leaves_reads_alone_and_stays_until_cleared() {
    let sandbox = sandbox();
    let (access, _) = connect(&sandbox);
    sandbox.fault(Fault::new(FaultKind::status(500, "{}")).on(Matcher::TagAdd).until_cleared());
    let path = format!("/contacts/{}", sandbox.settings().contact_id);
    for _ in 0..3 {
        assert_eq!(tag(&sandbox, "POST", &access, "x").status, 500);
        assert_eq!(common::api(&sandbox, "GET", &path, &access, None).status, 200);
    }
    assert_eq!(admin(&sandbox, "DELETE", "/_sandbox/faults", json!({})).status, 200);
    assert_eq!(tag(&sandbox, "POST", &access, "x").status, 201);
}

#[test]
fn a_held_answer_waits_after_its_work_is_done() {
    let sandbox = sandbox();
    let (_, first) = connect(&sandbox);
    sandbox.hold_answers(Matcher::Refresh);
    let waiting = thread::spawn({
        let sandbox = sandbox.clone();
        move || refresh(&sandbox, &first).status
    });
    until(|| sandbox.held() == 1);
    assert_eq!(sandbox.counts().rotations, 1);
    assert!(!waiting.is_finished());
    sandbox.release();
    assert_eq!(waiting.join().expect("an answer"), 200);
}
