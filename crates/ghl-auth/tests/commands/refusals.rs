//! `check` when it fails: the right sentence, the right exit code, and no refresh that cannot help.

use std::time::Duration;

use sandbox::{Fault, FaultKind, Matcher};
use serde_json::json;

use crate::support::{HOUR, Home, free_port, snapshot};

/// A user whose token was issued two hours ago, so that a refresh would be allowed.
fn settled() -> Home {
    let home = Home::connected();
    home.age(2 * HOUR, Duration::ZERO);
    home
}

fn answers(home: &Home, on: Matcher, status: u16, message: &str) {
    let body = json!({ "statusCode": status, "message": message, "traceId": "0123-trace" }).to_string();
    home.sandbox.fault(Fault::new(FaultKind::status(status, &body)).on(on).until_cleared());
}

#[test]
fn a_refusal_that_no_refresh_can_cure_is_told_and_not_refreshed() {
    let cases = [
        (401, "The token is not authorized for this scope.", 1, "scope_missing", "contacts.readonly"),
        (
            401,
            "This authClass type is not allowed to access this scope. Please verify your IAM configuration if this is not the case.",
            1,
            "wrong_class",
            "\"Sub-account\"",
        ),
        (401, "Token's user type mismatch!", 1, "wrong_class", "\"Sub-account\""),
        (403, "The token does not have access to this location.", 1, "other_location", "GHL_LOCATION_ID"),
        (401, "version header was not found.", 2, "version_refused", "GHL_API_VERSION"),
        (401, "version header is invalid", 2, "version_refused", "GHL_API_VERSION"),
        (401, "Invalid Private Integration token", 3, "private_token_refused", "GHL_PRIVATE_TOKEN"),
        (403, "Forbidden resource", 1, "refused", "trace id"),
        (400, "Location is not active", 1, "location_not_active", "settle its bill"),
        (400, "Contact not found for id:x", 1, "contact_not_found", "GHL_HEALTH_CHECK_CONTACT_ID"),
        (404, "Cannot GET /contacts/x", 1, "refused", "documentation"),
        (422, "Unprocessable Entity", 1, "refused", "documentation"),
    ];
    for (status, message, exit, code, cure) in cases {
        let home = settled();
        answers(&home, Matcher::ContactRead, status, message);
        let run = home.run(["check"]).fails_with(exit, code).complains(message).complains(cure);
        assert!(!run.out.contains("operational"), "{}", run.out);
        let json = home.run(["check", "--json"]).fails_with(exit, code).json();
        let last = json["steps"].as_array().and_then(|steps| steps.last()).expect("a step");
        assert_eq!(
            (&last["step"], &last["ok"], &last["trace_id"]),
            (&json!("read"), &json!(false), &json!("0123-trace"))
        );
        for member in ["detail", "action"] {
            assert!(json["error"][member].as_str().is_some_and(|words| !words.is_empty()), "{json}");
        }
        assert_eq!(home.sandbox.counts().refreshes, 0, "{message}");
        assert_eq!(home.sandbox.counts().messages, 0, "{message}");
    }
}

#[test]
fn a_refused_token_is_refreshed_exactly_once() {
    for message in ["Invalid JWT", "Invalid token: access token is invalid"] {
        let body = json!({ "statusCode": 401, "message": message }).to_string();
        let home = settled();
        home.sandbox.fault(Fault::new(FaultKind::status(401, &body)).on(Matcher::ContactRead));
        let run = home.run(["check"]).good().answers("Token refreshed and saved.\nAttempt 2/2...");
        assert!(run.err.contains(message), "{}", run.err);
        assert_eq!(home.sandbox.counts().refreshes, 1, "{message}");

        let home = settled();
        answers(&home, Matcher::ContactRead, 401, message);
        home.run(["check"]).fails_with(1, "token_refused").complains(message);
        assert_eq!(home.sandbox.counts().refreshes, 1, "{message}");
        // The next run finds a token of a few seconds ago refused: another refresh would not help.
        home.run(["check", "--json"]).fails_with(1, "token_refused");
        assert_eq!(home.sandbox.counts().refreshes, 1, "{message}");
    }
}

#[test]
fn a_refusal_of_the_tag_is_told_apart_from_a_refusal_of_the_read() {
    let home = Home::new();
    home.sandbox.set_scopes(["contacts.readonly"]);
    let home = home.log_in();
    let run = home.run(["check"]).fails_with(1, "scope_missing").complains("adding the tag");
    run.answers("Call to the Contacts API succeeded.");
    assert_eq!(home.sandbox.counts().refreshes, 0);
}

#[test]
fn a_contact_of_elsewhere_or_of_nowhere_is_named() {
    let home = Home::with(|settings| settings.extra_locations = 1);
    let other = home.sandbox.location_ids()[1].clone();
    let code = home.sandbox.approve_location(&other, crate::support::ELSEWHERE);
    let home = home.set("GHL_LOCATION_ID", &other);
    home.run(["login", "--code", &code]).good();
    home.run(["check"]).fails_with(1, "other_location");
    let home = home.set("GHL_HEALTH_CHECK_CONTACT_ID", "AbCdEfGhIjKlMnOpQrSt");
    home.run(["check"]).fails_with(1, "contact_not_found").complains("AbCdEfGhIjKlMnOpQrSt");
    assert_eq!(home.sandbox.counts().refreshes, 0);
}

#[test]
fn a_suspended_location_keeps_its_grant() {
    let home = Home::connected();
    home.expire();
    home.sandbox.suspend(home.location());
    home.run(["check"])
        .fails_with(1, "suspended")
        .complains("Location is not active")
        .complains("no new login is needed");
    let json = home.run(["check", "--json"]).fails_with(1, "suspended").json();
    assert_eq!(json["outcome"], "suspended");
    home.run(["status"]).good().answers("suspended").complains("is not active");
    home.sandbox.resume(home.location());
    home.run(["check"]).good();
}

#[test]
fn a_revoked_grant_is_a_persons_matter_and_the_link_is_there() {
    for home in [Home::new(), Home::in_portuguese()] {
        let home = home.log_in();
        home.expire();
        home.sandbox.revoke(home.location());
        let run = home.run(["check"]).fails_with(3, "needs_person");
        let link = run.err.lines().find(|line| line.contains("/v2/oauth/chooselocation?")).expect("a link");
        assert!(link.contains("version_id=") && link.contains("scope=contacts.readonly%20"), "{link}");
        let json = home.run(["check", "--json"]).fails_with(3, "needs_person").json();
        assert_eq!(json["outcome"], "needs_person");
        assert_eq!(json["error"]["authorize_url"], link.trim());
    }
}

#[test]
fn a_grant_that_was_never_given_is_a_persons_matter_too() {
    let home = Home::new();
    home.run(["check"]).fails_with(3, "not_connected").complains("/v2/oauth/chooselocation?");
    let json = home.run(["check", "--json"]).fails_with(3, "not_connected").json();
    assert_eq!(json["outcome"], "needs_person");
    assert_eq!(home.sandbox.counts().requests, 0);
}

#[test]
fn wrong_credentials_are_the_operators_matter_and_lose_nothing() {
    let home = Home::connected();
    home.expire();
    let secret = home.sandbox.settings().client_secret.clone();
    home.sandbox.set_client_secret("another");
    home.run(["check"])
        .fails_with(2, "invalid_client")
        .complains("GHL_CLIENT_SECRET")
        .complains("No grant was lost.");
    home.run(["check", "--json"]).fails_with(2, "invalid_client");
    // Two secrets, while the app's is being changed: the first one that is taken counts.
    let home = home.set("GHL_CLIENT_SECRET", &format!("{secret}, another"));
    home.run(["check"]).good();
}

#[test]
fn an_unreachable_highlevel_is_told_apart_from_everything_else() {
    // Each waits out its patience, so they wait together.
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let base = format!("http://127.0.0.1:{}", free_port());
            let home = Home::connected().set("GHL_API_BASE_URL", &base);
            let json = home.run(["check", "--json"]).fails_with(4, "unreachable").json();
            assert_eq!(json["outcome"], "down");
        });
        threads.spawn(|| {
            let base = format!("http://127.0.0.1:{}", free_port());
            let home = Home::connected().set("GHL_API_BASE_URL", &base);
            home.expire();
            home.run(["check"]).fails_with(4, "unanswered").complains("Nothing is lost");
        });
        threads.spawn(|| {
            let home = Home::connected();
            let fault = Fault::new(FaultKind::GatewayHtml { processed: false }).on(Matcher::ContactRead);
            home.sandbox.fault(fault.until_cleared());
            home.run(["check"]).fails_with(4, "unavailable").complains("Nothing is wrong here");
        });
        threads.spawn(|| {
            let home = Home::connected();
            let fault = Fault::new(FaultKind::LoseAnswer).on(Matcher::ContactRead);
            home.sandbox.fault(fault.until_cleared());
            home.run(["check", "--json"]).fails_with(4, "no_answer");
        });
        threads.spawn(|| {
            let home = Home::connected();
            let limited = FaultKind::RateLimited { retry_after: Some(60) };
            home.sandbox.fault(Fault::new(limited).on(Matcher::TagAdd).until_cleared());
            home.run(["check"]).fails_with(1, "rate_limited").complains("100 requests in 10 seconds");
        });
    });
}

#[test]
fn an_answer_that_is_none_is_said_to_be_none() {
    for (kind, message) in [
        (FaultKind::TruncatedJson, "the answer is not JSON"),
        (FaultKind::FieldsMissing { fields: vec!["contact".into()] }, "the answer has no `contact`"),
        (
            FaultKind::Body { body: "<html>welcome</html>".into(), content_type: "text/html".into() },
            "the answer is not JSON",
        ),
    ] {
        let home = Home::connected();
        home.sandbox.fault(Fault::new(kind).on(Matcher::ContactRead).until_cleared());
        home.run(["check"]).fails_with(1, "unreadable_answer").complains(message);
    }
}

#[test]
fn a_redirect_is_never_followed() {
    let home = Home::connected();
    let kind = FaultKind::Status {
        code: 302,
        body: String::new(),
        content_type: "text/html".into(),
        headers: [("location".to_owned(), format!("{}/contacts/x", home.sandbox.base_url()))].into(),
        processed: false,
    };
    home.sandbox.fault(Fault::new(kind).on(Matcher::ContactRead).until_cleared());
    home.run(["check"]).fails_with(1, "refused");
    assert_eq!(
        home.sandbox.ledger().requests.iter().filter(|request| request.path.starts_with("/contacts")).count(),
        1
    );
}

#[test]
fn a_refresh_that_fails_behind_a_living_token_is_a_warning() {
    let home = Home::connected();
    home.age(13 * HOUR, 13 * HOUR);
    let outage = Fault::new(FaultKind::status(503, "")).on(Matcher::Refresh).until_cleared();
    home.sandbox.fault(outage);
    let run = home.run(["check"]).good().complains("warning: The token is valid until ");
    run.answers("Microservice operational.");
    let json = home.run(["check", "--json"]).good().json();
    assert_eq!((&json["outcome"], &json["warnings"][0]["code"]), (&json!("degraded"), &json!("unanswered")));
    assert_eq!(json["error"], json!(null));
    home.sandbox.clear_faults();
    home.run(["check"]).good().answers("Token refreshed and saved.");
}

#[test]
fn a_dead_grant_behind_a_living_token_is_a_persons_matter_today() {
    let home = Home::connected();
    home.age(13 * HOUR, 13 * HOUR);
    home.sandbox.fault(Fault::new(FaultKind::InvalidGrant).on(Matcher::Refresh).until_cleared());
    let run = home.run(["check"]).fails_with(3, "needs_person");
    run.answers("Microservice operational.").complains("/v2/oauth/chooselocation?");
    let json = home.run(["check", "--json"]).fails_with(3, "needs_person").json();
    assert_eq!(json["outcome"], "degraded");
    assert_eq!(home.sandbox.counts().messages, 2, "those who look at the workflow see nothing amiss");
    // Programs that ask for a token get it for as long as it lives, with a warning.
    home.run(["token"]).good().complains("warning: The token is valid until ");
}

#[test]
fn a_failure_reads_like_this() {
    for lang in ["en", "pt-BR"] {
        let home = settled().set("GHL_AUTH_LANG", lang);
        answers(&home, Matcher::ContactRead, 401, "The token is not authorized for this scope.");
        let run = home.run(["check"]).ended(1);
        snapshot(&format!("check-failed-{lang}"), &home.stable(&format!("{}---\n{}", run.out, run.err)));
    }
}
