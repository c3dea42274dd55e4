//! `login`: from the consent page to tokens at rest.

use sandbox::{Fault, FaultKind, Matcher, UserType};
use serde_json::Value;

use crate::support::{ELSEWHERE, Home, Running, free_port, http, snapshot};

/// A user whose app redirects to this machine, waiting for the redirect.
struct Waiting {
    home: Home,
    login: Running,
    callback: String,
    /// The address of the consent page.
    consent: String,
}

impl Waiting {
    fn new(home: Home, arguments: &[&str]) -> Self {
        let callback = format!("http://127.0.0.1:{}/oauth/callback", free_port());
        let home = home.set("GHL_REDIRECT_URI", &callback);
        let arguments = [&["login", "--no-browser"], arguments].concat();
        let mut login = home.start(arguments);
        let consent = login.consent_page();
        Self { home, login, callback, consent }
    }

    fn state(&self) -> String {
        parameter(&self.consent, "state").expect("a state")
    }

    fn get(&self, query: &str) -> crate::support::Page {
        http("GET", &format!("{}?{query}", self.callback), &[], "")
    }
}

fn parameter(url: &str, name: &str) -> Option<String> {
    let query = url.split_once('?')?.1;
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs.find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
}

#[test]
fn the_consent_page_is_asked_for_exactly_this() {
    let waiting = Waiting::new(Home::new(), &[]);
    let state = waiting.state();
    assert!(
        state.len() >= 43 && state.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)),
        "{state}"
    );
    let settings = waiting.home.sandbox.settings();
    let expected = format!(
        "{}/v2/oauth/chooselocation?response_type=code&client_id={}&version_id={}&redirect_uri={}\
         &scope=contacts.readonly%20contacts.write%20locations.readonly&state={state}",
        waiting.home.sandbox.base_url(),
        settings.client_id,
        settings.app_id(),
        waiting.callback.replace(':', "%3A").replace('/', "%2F"),
    );
    assert_eq!(waiting.consent, expected);
    let other = Waiting::new(Home::new(), &[]);
    assert_ne!(other.state(), state, "each login has a state of its own");
    for waiting in [waiting, other] {
        waiting.login.interrupt();
        waiting.login.end().fails_with(1, "stopped");
    }
}

#[test]
fn a_person_clicks_through_the_consent_page() {
    let waiting = Waiting::new(Home::new(), &[]);
    let base = waiting.home.sandbox.base_url();
    let page = http("GET", &waiting.consent, &[], "");
    assert_eq!(page.status, 200, "{page:?}");
    let mut form = form_urlencoded::Serializer::new(String::new());
    for field in page.body.split("<input type=\"hidden\" name=\"").skip(1) {
        let (name, rest) = field.split_once('"').expect("a name");
        let value = rest.split("value=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a value");
        form.append_pair(name, &value.replace("&amp;", "&"));
    }
    let form = form.append_pair("location", waiting.home.location()).append_pair("choice", "allow").finish();
    let kind = [("content-type", "application/x-www-form-urlencoded")];
    let agreed = http("POST", &format!("{base}/v2/oauth/chooselocation"), &kind, &form);
    let back = agreed.header("location").unwrap_or_else(|| panic!("{agreed:?}")).to_owned();
    assert!(back.starts_with(&waiting.callback), "{back}");
    let thanks = http("GET", &back, &[], "");
    assert_eq!(thanks.status, 200, "{thanks:?}");
    assert!(thanks.body.contains("Connected. You may close this window."), "{thanks:?}");
    assert_eq!(thanks.header("cache-control"), Some("no-store"));
    assert_eq!(thanks.header("referrer-policy"), Some("no-referrer"));
    let Waiting { home, login, .. } = waiting;
    login.end().good().answers("Tokens saved.").answers(&format!("Connected: location {}", home.location()));
    home.run(["check"]).good();
    assert_eq!(home.sandbox.counts().exchanges, 1);
}

#[test]
fn only_the_redirect_itself_uses_the_code_up() {
    let waiting = Waiting::new(Home::new(), &[]);
    let (state, code) =
        (waiting.state(), waiting.home.sandbox.approve(&waiting.callback, None, UserType::Location));
    let good = format!("code={code}&state={state}");
    let url = format!("{}?{good}", waiting.callback);
    assert_eq!(http("HEAD", &url, &[], "").status, 405);
    assert_eq!(http("POST", &url, &[], "").status, 405);
    assert_eq!(http("OPTIONS", &url, &[], "").status, 405);
    assert_eq!(http("GET", &url, &[("purpose", "prefetch")], "").status, 400);
    assert_eq!(http("GET", &url, &[("sec-purpose", "prefetch;prerender")], "").status, 400);
    for hostile in [
        String::new(),
        format!("code={code}"),
        format!("code={code}&state=other"),
        format!("code={code}&state=other&state={state}"),
        format!("code={code}&state={}", &state[..state.len() - 1]),
        format!("state={state}"),
        format!("code=&state={state}"),
        "error=access_denied".to_owned(),
        "error=access_denied&state=other".to_owned(),
        format!("%00%ff={}&state=%22%3E%3Cscript%3E", "x".repeat(4000)),
    ] {
        let page = waiting.get(&hostile);
        assert_eq!(page.status, 400, "{hostile}: {page:?}");
        assert!(!page.body.contains("<script"), "{page:?}");
    }
    assert_eq!(http("GET", &waiting.callback.replace("/oauth/callback", "/"), &[], "").status, 404);
    assert_eq!(waiting.home.sandbox.counts().exchanges, 0);
    assert_eq!(waiting.get(&good).status, 200);
    waiting.login.end().good();
    assert_eq!(waiting.home.sandbox.counts().exchanges, 1);
}

#[test]
fn a_denied_consent_ends_the_login() {
    let waiting = Waiting::new(Home::new(), &["--json"]);
    let state = waiting.state();
    assert_eq!(waiting.get(&format!("error=access_denied&state={state}")).status, 200);
    let run = waiting.login.end().fails_with(3, "consent_refused");
    assert!(run.json()["error"]["detail"].as_str().is_some_and(|detail| detail.contains("access_denied")));
    assert_eq!(waiting.home.sandbox.counts().exchanges, 0);
}

#[test]
fn a_redirect_address_with_odd_characters_is_waited_for_too() {
    for path in ["/", "/{state}", "/:code", "/a%20b", "/*rest"] {
        let callback = format!("http://127.0.0.1:{}{path}", free_port());
        let home = Home::new().set("GHL_REDIRECT_URI", &callback);
        let mut login = home.start(["login"]);
        let state = parameter(&login.consent_page(), "state").expect("a state");
        let code = home.sandbox.approve(&callback, None, UserType::Location);
        let page = http("GET", &format!("{callback}?code={code}&state={state}"), &[], "");
        assert_eq!(page.status, 200, "{path}: {page:?}");
        login.end().good();
    }
}

#[test]
fn an_address_in_use_is_said_and_the_code_can_be_pasted() {
    let port = free_port();
    let taken = std::net::TcpListener::bind(("127.0.0.1", port)).expect("a free port");
    let callback = format!("http://localhost:{port}/oauth/callback");
    let home = Home::new().set("GHL_REDIRECT_URI", &callback);
    let code = home.code(UserType::Location);
    let run = home.run_with_input(["login"], &format!("{code}\n")).good();
    run.complains("Could not listen on").complains("Paste the whole address");
    drop(taken);
}

#[test]
fn what_the_browser_shows_is_pasted() {
    let home = Home::new();
    let url = format!("{ELSEWHERE}?code={}", home.code(UserType::Location));
    home.run_with_input(["login"], &format!("\n  {url}\r\n")).good().answers("Tokens saved.");
    let code = home.code(UserType::Location);
    home.run_with_input(["login"], &format!("let me see\nhttps://x.example/\n{code}"))
        .good()
        .complains("no_code");
    home.run(["login", "--code", &home.code(UserType::Location)]).good();
    let url = format!("{ELSEWHERE}?state=whatever&code={}", home.code(UserType::Location));
    let json = home.run(["login", "--json", "--code", &url]).good().json();
    assert_eq!(json["id"], home.location());
    assert_eq!(json["kind"], "location");
    assert_eq!(json["company_id"], home.sandbox.settings().company_id);
    assert_eq!(json["scope"], "contacts.readonly contacts.write locations.readonly");
    assert!(json["expires_at"].as_str().is_some_and(|at| at.ends_with('Z')), "{json}");
    assert_eq!(home.sandbox.counts().exchanges, 4);
}

#[test]
fn a_pasted_address_of_another_login_or_of_a_denial_is_not_exchanged() {
    let home = Home::new();
    let code = home.code(UserType::Location);
    let other = format!("{ELSEWHERE}?code={code}&state=of-yesterday\n{code}\n");
    home.run_with_input(["login"], &other).good().complains("wrong_state");
    let denied = format!("{ELSEWHERE}?error=access_denied\n");
    home.run_with_input(["login"], &denied).fails_with(3, "consent_refused");
    home.run(["login", "--code", denied.trim()]).fails_with(3, "consent_refused");
    home.run(["login", "--code", "https://x.example/"]).fails_with(2, "no_code");
    assert_eq!(home.sandbox.counts().exchanges, 1);
}

#[test]
fn a_login_that_nobody_can_answer_ends() {
    let run = Home::new().run(["login"]).fails_with(3, "nobody_answered");
    assert!(run.out.starts_with("http://"), "the address to open is there: {}", run.out);
}

#[test]
fn an_old_grant_stays_until_the_new_code_was_exchanged() {
    for home in [Home::new(), Home::new().sealed()] {
        let home = home.log_in();
        let before = home.run(["token"]).good().out;
        home.run(["login", "--code", "0123456789abcdef"]).fails_with(3, "invalid_code");
        home.sandbox.fault(Fault::new(FaultKind::GatewayHtml { processed: false }).on(Matcher::Exchange));
        home.run(["login", "--code", &home.code(UserType::Location)]).fails_with(4, "unanswered");
        home.sandbox.set_client_secret("another");
        home.run(["login", "--json", "--code", &home.code(UserType::Location)])
            .fails_with(2, "invalid_client");
        assert_eq!(home.run(["token"]).good().out, before);
        home.sandbox.set_client_secret(&home.sandbox.settings().client_secret.clone());
        let home = home.log_in();
        assert_ne!(home.run(["token"]).good().out, before);
        home.run(["check"]).good();
    }
}

#[test]
fn a_company_where_a_location_was_wanted_is_kept_and_named() {
    let home = Home::new();
    let company = home.sandbox.settings().company_id.clone();
    let run = home.run(["login", "--code", &home.code(UserType::Company)]).good();
    snapshot("login-company", &home.stable(&run.err));
    let status = home.run(["status", "--json"]).good().json();
    assert_eq!(status["installations"][0]["id"], company, "{status}");
    home.run(["check"]).fails_with(2, "another_class").complains(&company);
    home.set("GHL_USER_TYPE", "Company").run(["check"]).good();
}

#[test]
fn a_location_where_a_company_was_wanted_is_kept_and_named() {
    let home = Home::with(|settings| settings.user_types = vec![UserType::Location]);
    let home = home.set("GHL_USER_TYPE", "Company");
    let run = home.run(["login", "--code", &home.code(UserType::Location)]).good();
    run.complains("GHL_USER_TYPE asks for a company").complains("\"Agency\"");
    home.run(["status"]).good().answers(home.location());
}

#[test]
fn another_location_is_kept_and_named() {
    for home in [Home::with(two_locations), Home::with(two_locations).sealed()] {
        let other = home.sandbox.location_ids()[1].clone();
        let code = home.sandbox.approve_location(&other, ELSEWHERE);
        let run = home
            .run(["login", "--code", &code])
            .good()
            .complains(&format!("HighLevel granted location {other}"));
        run.complains(&format!("GHL_LOCATION_ID means location {}", home.location()));
        home.run(["check"]).fails_with(2, "another_location").complains(&other);
        home.run(["check", "--json"]).fails_with(2, "another_location");
        let home = home.set("GHL_LOCATION_ID", &other).set("GHL_HEALTH_CHECK_CONTACT_ID", "");
        home.write(".env", &home.read(".env").replace("GHL_HEALTH_CHECK_CONTACT_ID", "# "));
        home.run(["check"]).good();
    }
}

fn two_locations(settings: &mut sandbox::Settings) {
    settings.extra_locations = 1;
}

#[test]
fn a_code_is_sent_again_only_while_nobody_has_answered() {
    let home = Home::new();
    home.sandbox.fault(Fault::new(FaultKind::LoseRequest).on(Matcher::Exchange));
    home.run(["login", "--code", &home.code(UserType::Location)]).good();
    home.sandbox.fault(Fault::new(FaultKind::status(400, "{}")).on(Matcher::Exchange));
    let before = home.sandbox.counts().exchanges;
    home.run(["login", "--code", &home.code(UserType::Location)]).ended(4);
    assert_eq!(home.sandbox.counts().exchanges, before + 1);
}

#[test]
fn the_first_check_exchanges_the_code_of_the_settings_once() {
    for home in [Home::new(), Home::new().sealed(), Home::new().set("GHL_API_VERSION", "v3")] {
        let code = home.code(UserType::Location);
        let home = home.set("GHL_AUTHORIZATION_CODE", &code);
        for _ in 0..3 {
            home.run(["check"]).good();
        }
        let other = home.code(UserType::Location);
        let home = home.set("GHL_AUTHORIZATION_CODE", &other);
        home.run(["check", "--json"]).good().json();
        assert_eq!(home.sandbox.counts().exchanges, 1);
    }
}

#[test]
fn a_code_that_was_left_in_the_settings_does_not_hide_that_the_grant_has_died() {
    let home = Home::new();
    let code = home.code(UserType::Location);
    let home = home.set("GHL_AUTHORIZATION_CODE", &code);
    home.run(["check"]).good();
    home.sandbox.revoke(home.location());
    home.expire();
    home.run(["check"]).fails_with(3, "needs_person");
    home.run(["check"]).fails_with(3, "needs_person").complains("/v2/oauth/chooselocation?");
    // A person has authorised anew.
    let fresh = home.code(UserType::Location);
    home.set("GHL_AUTHORIZATION_CODE", &fresh).run(["check"]).good();
}

#[test]
fn a_first_code_that_is_refused_is_said_with_the_link() {
    let home = Home::new().set("GHL_AUTHORIZATION_CODE", "0123456789abcdef0123");
    let run = home.run(["check"]).fails_with(3, "invalid_code");
    run.complains("Authorization code not found").complains("/v2/oauth/chooselocation?");
    let json: Value = home.run(["check", "--json"]).fails_with(3, "invalid_code").json();
    assert!(json["error"]["authorize_url"].as_str().is_some_and(|url| url.contains("version_id=")), "{json}");
}
