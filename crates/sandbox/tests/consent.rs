//! The consent page, clicked through, and the sandbox's own pages.

mod common;

use common::{CALLBACK, FORM, admin, exchange, form, sandbox, send, with};
use sandbox::{Sandbox, Settings};
use serde_json::json;

fn address(sandbox: &Sandbox, more: &[(&str, &str)]) -> String {
    let settings = sandbox.settings();
    let mut fields = vec![
        ("response_type", "code"),
        ("client_id", settings.client_id.as_str()),
        ("version_id", settings.version_id()),
    ];
    fields.extend(more);
    format!("/v2/oauth/chooselocation?{}", form(&fields))
}

/// What a browser sends when a button of the page is clicked.
fn click(sandbox: &Sandbox, page: &str, choice: &str, location: Option<&str>) -> common::Answer {
    let mut fields: Vec<(String, String)> = Vec::new();
    for input in page.split("<input ").skip(1).filter_map(|rest| rest.split('>').next()) {
        let attribute = |name: &str| {
            let value = input.split(&format!("{name}=\"")).nth(1)?.split('"').next()?;
            Some(
                value
                    .replace("&quot;", "\"")
                    .replace("&#39;", "'")
                    .replace("&lt;", "<")
                    .replace("&gt;", ">")
                    .replace("&amp;", "&"),
            )
        };
        let (Some(kind), Some(name), Some(value)) =
            (attribute("type"), attribute("name"), attribute("value"))
        else {
            panic!("a strange input: {input}")
        };
        let chosen = location.map_or(input.contains(" checked"), |location| location == value);
        if kind == "hidden" || (kind == "radio" && chosen) {
            fields.push((name, value));
        }
    }
    fields.push(("choice".to_owned(), choice.to_owned()));
    let action = page.split("action=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a form");
    let pairs: Vec<(&str, &str)> =
        fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    send(sandbox, "POST", action, &[FORM], &form(&pairs))
}

fn query_value(address: &str, name: &str) -> Option<String> {
    let query = address.split('?').nth(1)?.split('#').next()?;
    form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

#[test]
fn a_person_clicks_allow_and_the_callback_has_a_code_and_the_state() {
    let sandbox = sandbox();
    let page =
        send(&sandbox, "GET", &address(&sandbox, &[("redirect_uri", CALLBACK), ("state", "s1")]), &[], "");
    assert_eq!(page.status, 200);
    let answer = click(&sandbox, &page.body, "allow", None);
    assert_eq!(answer.status, 302);
    let to = answer.header("location").expect("an address");
    assert!(to.starts_with(&format!("{CALLBACK}?code=")), "{to}");
    assert_eq!(query_value(to, "state").as_deref(), Some("s1"));
    let code = query_value(to, "code").expect("a code");
    assert_eq!(exchange(&sandbox, &code).json()["locationId"], json!(sandbox.settings().location_id));
}

#[test]
fn a_hostile_state_is_text_on_the_page_and_comes_back_whole() {
    let sandbox = sandbox();
    let hostile = "\"><script>alert('x')</script>&code=stolen\r\nset-cookie: a=b #+% é";
    let redirect_uri = "http://127.0.0.1:8788/cb?tenant=1#top";
    let query = [("redirect_uri", redirect_uri), ("state", hostile), ("scope", "<b>bold</b>")];
    let page = send(&sandbox, "GET", &address(&sandbox, &query), &[], "");
    assert!(!page.body.contains("<script>") && !page.body.contains("<b>"), "{}", page.body);
    let answer = click(&sandbox, &page.body, "allow", None);
    let to = answer.header("location").expect("an address");
    assert!(to.starts_with("http://127.0.0.1:8788/cb?tenant=1&code=") && to.ends_with("#top"), "{to}");
    assert_eq!(query_value(to, "state").as_deref(), Some(hostile));
    assert_eq!(answer.header("set-cookie"), None);
    assert_eq!(query_value(to, "code").map(|code| code.len()), Some(40));
}

#[test]
fn another_location_or_the_whole_agency_can_be_chosen() {
    let sandbox = with(|settings| settings.extra_locations = 1);
    let page = send(&sandbox, "GET", &address(&sandbox, &[("redirect_uri", CALLBACK)]), &[], "");
    let other = sandbox.location_ids()[1].clone();
    let chosen = |location: &str| {
        let answer = click(&sandbox, &page.body, "allow", Some(location));
        let code = answer.header("location").and_then(|to| query_value(to, "code")).expect("a code");
        exchange(&sandbox, &code).json()
    };
    assert_eq!(chosen(&other)["locationId"], json!(other));
    let agency = chosen("-");
    assert_eq!((&agency["userType"], &agency["isBulkInstallation"]), (&json!("Company"), &json!(true)));
}

#[test]
fn cancel_installs_nothing() {
    let query = [("redirect_uri", CALLBACK), ("state", "s")];
    let sandbox = sandbox();
    let page = send(&sandbox, "GET", &address(&sandbox, &query), &[], "");
    let answer = click(&sandbox, &page.body, "cancel", None);
    assert_eq!((answer.status, answer.header("location")), (200, None));

    let sandbox = with(|settings| settings.cancel_calls_back = true);
    let page = send(&sandbox, "GET", &address(&sandbox, &query), &[], "");
    let answer = click(&sandbox, &page.body, "cancel", None);
    let expected = format!("{CALLBACK}?error=access_denied&state=s");
    assert_eq!(answer.header("location"), Some(expected.as_str()));
}

#[test]
fn what_is_wrong_with_the_address_is_shown() {
    let registered = |settings: &mut Settings| settings.redirect_uris = vec![CALLBACK.to_owned()];
    let sandbox = with(registered);
    let settings = sandbox.settings().clone();
    let check = |path: &str, fields: &[(&str, &str)], expected: &str| {
        let answer = send(&sandbox, "GET", &format!("{path}?{}", form(fields)), &[], "");
        assert!(answer.body.contains(expected), "{path} {fields:?}: {}", answer.body);
        assert!(!answer.body.contains("<form"), "{path} {fields:?}");
    };
    let v2 = "/v2/oauth/chooselocation";
    let id = ("client_id", settings.client_id.as_str());
    let version = ("version_id", settings.version_id());
    let to = ("redirect_uri", CALLBACK);
    let code = ("response_type", "code");
    check(v2, &[id, to, code], "error.noversionid");
    check(v2, &[version, to, code], "CastError: Cast to ObjectId failed for value \"\" at path \"appId\"");
    check(v2, &[id, ("version_id", "other"), to, code], "error.noAppVersionIdFound");
    check(v2, &[("client_id", "<x>-y"), version, to, code], "No integration found with the id: &lt;x&gt;");
    check(v2, &[id, version, to], "response_type must be code");
    check(v2, &[id, version, code], "redirect_uri is not one of");
    check(v2, &[id, version, code, ("redirect_uri", "http://127.0.0.1:1/")], "redirect_uri is not one of");
    let dead = format!("No integration found with the id: {}", settings.app_id());
    check("/oauth/chooselocation", &[id, version, to, code], &dead);
}

#[test]
fn a_redirect_address_is_a_web_address_even_when_any_is_allowed() {
    let sandbox = sandbox();
    for hostile in
        ["javascript:alert(1)", "data:text/html,x", "//evil.example/", "http:///x", "http://a\r\nx: y"]
    {
        let page = send(&sandbox, "GET", &address(&sandbox, &[("redirect_uri", hostile)]), &[], "");
        assert_eq!(page.status, 400, "{hostile}");
    }
}

#[test]
fn a_program_can_agree_without_a_browser() {
    let sandbox = sandbox();
    let body = json!({ "redirect_uri": CALLBACK, "state": "a&b", "user_type": "Location" });
    let answer = admin(&sandbox, "POST", "/_sandbox/approve", body);
    let to = answer.text("redirect_to");
    assert_eq!(query_value(&to, "code"), Some(answer.text("code")));
    assert_eq!(query_value(&to, "state").as_deref(), Some("a&b"));
    assert_eq!(exchange(&sandbox, &answer.text("code")).status, 200);
    let nowhere = json!({ "redirect_uri": CALLBACK, "location_id": "nowhere" });
    assert_eq!(admin(&sandbox, "POST", "/_sandbox/approve", nowhere).status, 400);
}

#[test]
fn the_sandboxs_own_pages_change_its_world() {
    let sandbox = sandbox();
    let (access, token) = common::connect(&sandbox);
    let location = json!({ "location_id": sandbox.settings().location_id });
    let post = |page: &str, body| admin(&sandbox, "POST", &format!("/_sandbox/{page}"), body);
    let judge = |refresh: bool, access_is_valid: bool| {
        let said = post("judge", json!({ "refresh_token": token, "access_token": access })).json();
        let expected =
            json!({ "refresh_token_is_current": refresh, "access_token_is_valid": access_is_valid });
        assert_eq!(said, expected);
    };
    judge(true, true);
    post("suspend", location.clone());
    assert_eq!(common::refresh(&sandbox, &token).text("message"), "Location is not active");
    post("resume", location.clone());
    post("clock", json!({ "advance_seconds": 90_000 }));
    judge(true, false);
    post("revoke", location);
    judge(false, false);
    let help = send(&sandbox, "GET", "/_sandbox", &[], "").body;
    assert!(help.contains(&sandbox.base_url()) && help.contains("lose_answer"));
    let counts = send(&sandbox, "GET", "/_sandbox/counts", &[], "").json();
    assert_eq!(counts["refreshes"], 1);
    post("reset", json!({}));
    assert_eq!(sandbox.counts(), sandbox::Counts::default());
    assert_eq!(post("faults", json!({ "fault": "no_such" })).status, 400);
}

#[test]
fn an_env_file_names_everything_a_program_needs() {
    let sandbox = sandbox();
    let env = send(&sandbox, "GET", "/_sandbox/env", &[], "").body;
    assert_eq!(env, sandbox.env_file());
    let value = |name: &str| {
        let line = env.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
        line.unwrap_or_else(|| panic!("no {name}")).trim_matches('"').to_owned()
    };
    assert_eq!(value("GHL_CLIENT_SECRET"), sandbox.settings().client_secret);
    assert_eq!(value("GHL_HEALTH_CHECK_CONTACT_ID"), sandbox.settings().contact_id);
    assert_eq!(value("GHL_API_BASE_URL"), sandbox.base_url());
    assert_eq!(value("GHL_AUTHORIZE_URL"), sandbox.authorize_url());
    for name in [
        "GHL_CLIENT_ID",
        "GHL_REDIRECT_URI",
        "GHL_LOCATION_ID",
        "GHL_HEALTH_CHECK_TAG_NAME",
        "MICROSERVICE_NAME",
        "RUN_INTERVAL_HOURS",
        "GHL_USER_TYPE",
        "GHL_SCOPES",
    ] {
        assert!(!value(name).is_empty());
    }
}

#[test]
fn only_loopback_is_listened_on_and_the_last_handle_stops_it() {
    let elsewhere = Sandbox::builder().listen(([0, 0, 0, 0], 0).into()).start_blocking();
    assert_eq!(elsewhere.map(|_| ()).map_err(|error| error.kind()), Err(std::io::ErrorKind::InvalidInput));

    let sandbox = sandbox();
    let address = sandbox.base_url().replace("http://", "");
    let second = sandbox.clone();
    drop(sandbox);
    assert_eq!(send(&second, "GET", "/_sandbox", &[], "").status, 200);
    drop(second);
    let refused = (0..200).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        std::net::TcpStream::connect(&address).is_err()
    });
    assert!(refused, "it still listens");
}

#[tokio::test]
async fn stopping_lets_go_of_what_was_held_and_answers_it() {
    let sandbox = Sandbox::start().await.expect("a free port");
    sandbox.hold(sandbox::Matcher::Any);
    let asking = std::thread::spawn({
        let sandbox = sandbox.clone();
        move || send(&sandbox, "GET", "/contacts/x", &[], "").status
    });
    sandbox.until_held(1).await;
    let watching = sandbox.clone();
    sandbox.stop().await;
    watching.stopped().await;
    assert_eq!(asking.join().expect("an answer"), 401);
    assert!(std::net::TcpStream::connect(watching.base_url().replace("http://", "")).is_err());
}
