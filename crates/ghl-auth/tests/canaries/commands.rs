//! The commands, in good days and bad ones.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sandbox::{Fault, FaultKind, Matcher, UserType};
use serde_json::json;

use crate::search::{Canaries, JWT_HEADER, WINDOW};
use crate::support::{self, HOUR, Home, KEY, Run, free_port, http};

/// A user whose every secret is planted, and what was seen of them.
struct Watched {
    home: Home,
    canaries: Canaries,
    seen: Vec<(String, Vec<u8>)>,
}

impl Watched {
    fn new(home: Home, format: &str) -> Self {
        let settings = home.sandbox.settings().clone();
        let home = home.set("GHL_AUTH_LOG", "trace").set("GHL_AUTH_LOG_FORMAT", format);
        let mut canaries = Canaries::default();
        canaries.plant(&settings.client_secret);
        canaries.plant(&settings.private_token);
        canaries.plant(KEY.trim_end_matches('='));
        canaries.plant_bytes(&STANDARD.decode(KEY).expect("base64"));
        Self { home, canaries, seen: Vec::new() }
    }

    /// Notes the tokens that there are now.
    fn look_at_tokens(&mut self) {
        let settings = self.home.sandbox.settings().clone();
        for id in [&settings.location_id, &settings.company_id] {
            let sandbox = &self.home.sandbox;
            for token in
                [sandbox.current_access_token(id), sandbox.current_refresh_token(id)].into_iter().flatten()
            {
                self.canaries.plant(&token);
            }
        }
    }

    fn code(&mut self) -> String {
        let code = self.home.code(UserType::Location);
        self.canaries.plant(&code);
        code
    }

    /// Notes what a run said. Its answer counts unless a secret is what was asked for.
    fn note(&mut self, arguments: &[&str], run: Run, answer_counts: bool) -> Run {
        self.look_at_tokens();
        let name = arguments.join(" ");
        let (mut out, mut err) = (run.out.clone(), run.err.clone());
        for address in run.out.lines().chain(run.err.lines()).filter(|line| line.contains("&state=")) {
            let state = address.split("&state=").nth(1).expect("behind it");
            self.canaries.plant(state);
            (out, err) = (out.replace(address, ""), err.replace(address, ""));
        }
        if answer_counts {
            self.seen.push((format!("the answer of {name}"), out.into_bytes()));
        }
        self.seen.push((format!("the talk of {name}"), err.into_bytes()));
        self.seen.push((format!("the title of {name}"), run.titles.clone()));
        run
    }

    fn run(&mut self, arguments: &[&str]) -> Run {
        let run = self.home.run(arguments);
        self.note(arguments, run, true)
    }

    fn run_for_a_secret(&mut self, arguments: &[&str]) -> Run {
        let run = self.home.run(arguments);
        self.note(arguments, run, false)
    }

    fn type_in(&mut self, arguments: &[&str], input: &str) -> Run {
        let run = self.home.run_with_input(arguments, input);
        self.note(arguments, run, true)
    }

    /// Looks for every secret, known by now, in everything seen so far and left on disk.
    fn search(&self, spared: &[&str]) {
        assert!(self.canaries.planted.len() > 8, "{}", self.canaries.planted.len());
        for (what, text) in &self.seen {
            self.canaries.are_not_in(what, text);
        }
        let files = self.canaries.are_not_under(&self.home.path("."), spared);
        assert!(files > 0 || !spared.is_empty(), "the store's files were searched");
    }
}

/// Everything that works.
fn good_days(watched: &mut Watched) {
    let code = watched.code();
    let typed = format!("https://x.example/?code={code}&state=of-yesterday\nnonsense {code}\n{code}\n");
    watched.type_in(&["login"], &typed).good();
    watched.run(&["check"]).good();
    watched.run(&["check", "--json"]).good();
    watched.run(&["refresh"]).good();
    watched.run(&["refresh", "--json"]).good();
    watched.run(&["status"]).good();
    watched.run(&["status", "--json"]).good();
    watched.run_for_a_secret(&["token"]).good();
    watched.run_for_a_secret(&["token", "--json"]).good();
    watched.run_for_a_secret(&["export"]).good();
    watched.run_for_a_secret(&["exec", "--", "env"]).good();
    for command in [&["--help"][..], &["man"], &["completions", "bash"], &["schedule", "show"]] {
        watched.run(command);
    }
    let code = watched.code();
    watched.type_in(&["login", "--json"], &format!("code={code}")).good();
}

/// Everything that does not.
fn bad_days(watched: &mut Watched) {
    let location = watched.home.location().to_owned();
    let access = watched.home.sandbox.current_access_token(&location).expect("a living grant");
    let refresh = watched.home.sandbox.current_refresh_token(&location).expect("a living grant");
    let secret = watched.home.sandbox.settings().client_secret.clone();
    watched
        .type_in(
            &["login"],
            &format!("{}0\n", watched.canaries.planted.iter().find(|one| one.len() == 40).expect("a code")),
        )
        .ended(3);
    // A HighLevel, or something before it, that says back what it was sent.
    let echoes = format!("bad token {access} or {refresh} of {secret}");
    for status in [400, 401, 403, 422] {
        for body in
            [json!({ "message": echoes }), json!({ "error": echoes, "traceId": access }), json!([echoes])]
        {
            watched
                .home
                .sandbox
                .fault(Fault::new(FaultKind::status(status, &body.to_string())).on(Matcher::ContactRead));
            watched.run(&["check"]);
        }
        let body = json!({ "error": "invalid_request", "error_description": echoes }).to_string();
        // One of them lasts; of the others the log alone tells.
        let times = if status == 400 { 8 } else { 1 };
        let fault = Fault::new(FaultKind::status(status, &body)).on(Matcher::Refresh).times(times);
        watched.home.sandbox.fault(fault);
        watched.run(&["refresh"]);
        watched.home.sandbox.clear_faults();
    }
    for kind in [
        FaultKind::LoseAnswer,
        FaultKind::TruncatedJson,
        FaultKind::CutAfter { bytes: 900 },
        FaultKind::FieldsMissing { fields: vec!["refresh_token".into()] },
        FaultKind::RefusedClient,
        FaultKind::NotActive,
        FaultKind::InvalidGrant,
    ] {
        watched.home.sandbox.fault(Fault::new(kind).on(Matcher::Refresh));
        watched.run(&["refresh", "--json"]);
    }
    watched.home.sandbox.fault(Fault::new(FaultKind::TruncatedJson).on(Matcher::Exchange));
    let code = watched.code();
    watched.type_in(&["login"], &code).ended(4);
    // Files that hold a secret and are no good.
    watched.home.write(
        "half.json",
        &format!("{{\"access_token\": \"{access}\", \"refresh_token\": \"{}", &refresh[..900]),
    );
    watched.home.write(
        "odd.env",
        &format!("GHL_CLIENT_SECRET {secret}\nGHL_CLIENT_SECRET='{secret}\nGHL_AUTH_KEY={KEY}{KEY}\n"),
    );
    watched.run(&["import", "half.json"]).ended(2);
    let mut command = watched.home.command(["--env-file", "odd.env", "status"]);
    command.env_remove("GHL_AUTH_KEY");
    let run = support::Running::start(command).end();
    watched.note(&["status", "with an odd file"], run, true).ended(2);
    for name in ["half.json", "odd.env"] {
        std::fs::remove_file(watched.home.path(name)).expect("it is ours");
    }
    // A secret in a place that was meant for something else.
    for name in [
        "GHL_LOCATION_ID",
        "GHL_API_VERSION",
        "GHL_USER_TYPE",
        "RUN_INTERVAL_HOURS",
        "GHL_STORE",
        "GHL_API_BASE_URL",
    ] {
        let mut command = watched.home.command(["check"]);
        command.env(name, &access);
        let run = support::Running::start(command).end();
        watched.note(&["check with a secret as", name], run, true).ended(2);
    }
}

#[test]
fn no_secret_is_told_or_left_behind_in_a_sealed_database() {
    std::thread::scope(|threads| {
        for format in ["human", "json"] {
            threads.spawn(move || {
                let mut watched = Watched::new(Home::new().sealed(), format);
                good_days(&mut watched);
                bad_days(&mut watched);
                watched.search(&[]);
            });
        }
    });
}

#[test]
fn no_secret_is_told_or_left_behind_in_a_sealed_file() {
    let mut watched = Watched::new(Home::in_portuguese().set("GHL_AUTH_KEY", KEY), "json");
    good_days(&mut watched);
    bad_days(&mut watched);
    watched.search(&[]);
}

#[test]
fn no_secret_is_told_where_the_tokens_rest_in_the_templates_plain_file() {
    let mut watched = Watched::new(Home::new(), "human");
    good_days(&mut watched);
    watched.home.age(13 * HOUR, 13 * HOUR);
    watched.home.sandbox.fault(Fault::new(FaultKind::status(503, "")).on(Matcher::Refresh).until_cleared());
    watched.run(&["check"]).good();
    watched.home.sandbox.clear_faults();
    watched.home.sandbox.revoke(watched.home.location());
    watched.home.age(Duration::ZERO, 12 * HOUR);
    watched.run(&["check"]).ended(3);
    watched.run(&["status", "--json"]).good();
    watched.search(&["ghl_tokens.json"]);
}

#[test]
fn no_secret_is_told_by_a_login_that_a_browser_ends() {
    let callback = format!("http://127.0.0.1:{}/oauth/callback", free_port());
    let home = Home::new().sealed().set("GHL_REDIRECT_URI", &callback);
    let mut watched = Watched::new(home, "human");
    let mut login = watched.home.start(["login", "--no-browser"]);
    let state = login.consent_page().split("&state=").nth(1).expect("a state").to_owned();
    let code = watched.code();
    let wrong = http("GET", &format!("{callback}?code={code}&state=other"), &[], "");
    let right = http("GET", &format!("{callback}?code={code}&state={state}"), &[], "");
    watched.note(&["login"], login.end().good(), true);
    for page in [wrong, right] {
        watched.seen.push(("the callback's page".into(), format!("{}{}", page.head, page.body).into_bytes()));
    }
    watched.run(&["refresh"]).good();
    watched.run(&["refresh"]).good();
    watched.search(&[]);
}

#[test]
fn no_secret_is_told_of_a_private_integration_token() {
    let home = Home::new();
    let token = home.sandbox.settings().private_token.clone();
    let mut watched = Watched::new(home.set("GHL_PRIVATE_TOKEN", &token), "json");
    watched.look_at_tokens();
    watched.run(&["check"]).good();
    watched.run(&["check", "--json"]).good();
    watched.run_for_a_secret(&["token"]).good();
    let body = json!({ "statusCode": 401, "message": format!("Invalid Private Integration token {token}") })
        .to_string();
    watched.home.sandbox.fault(Fault::new(FaultKind::status(401, &body)).on(Matcher::ContactRead));
    watched.run(&["check"]).ended(3);
    for (what, text) in &watched.seen {
        watched.canaries.are_not_in(what, text);
    }
}

#[test]
fn an_answer_that_waits_to_be_saved_is_sealed() {
    let mut watched = Watched::new(Home::new().set("GHL_AUTH_KEY", KEY), "human");
    let code = watched.code();
    watched.type_in(&["login"], &code).good();
    watched.home.sandbox.hold(Matcher::Refresh);
    let mut refresh = watched.home.start(["refresh"]);
    while watched.home.sandbox.held() == 0 {
        std::thread::sleep(Duration::from_millis(2));
    }
    // A folder in the file's place takes no tokens, so that the answer stays where it landed.
    std::fs::rename(watched.home.path("ghl_tokens.json"), watched.home.path("away.json"))
        .expect("it is there");
    std::fs::create_dir(watched.home.path("ghl_tokens.json")).expect("its place is free");
    watched.home.sandbox.release();
    refresh.until_it_says("can't be saved yet");
    watched.look_at_tokens();
    let files = watched.canaries.are_not_under(&watched.home.path("."), &[]);
    assert!(files >= 2, "the file that was moved away, and the answer: {files}");
    std::fs::remove_dir(watched.home.path("ghl_tokens.json")).expect("it is empty");
    std::fs::rename(watched.home.path("away.json"), watched.home.path("ghl_tokens.json"))
        .expect("it is there");
    watched.note(&["refresh"], refresh.end().good(), true);
    watched.run(&["refresh"]).good();
    watched.run(&["refresh", "--json"]).good();
    watched.search(&[]);
}

#[test]
fn the_search_finds_what_the_binary_is_made_to_tell() {
    let home = Home::connected();
    let secret = home.sandbox.settings().client_secret.clone();
    let mut watched = Watched::new(home.set("MICROSERVICE_NAME", &secret), "human");
    watched.run(&["check", "--json"]).good();
    let leaks = watched.seen.iter().filter(|(_, text)| watched.canaries.find(text).is_some());
    assert_eq!(leaks.map(|(what, _)| what.as_str()).collect::<Vec<_>>(), ["the answer of check --json"]);
    let refresh = watched.home.sandbox.current_refresh_token(watched.home.location()).expect("alive");
    assert!(refresh.starts_with(JWT_HEADER));
    assert_eq!(watched.canaries.find(JWT_HEADER.as_bytes()), None, "what is public is no leak");
    assert!(watched.canaries.find(&refresh.as_bytes()[JWT_HEADER.len()..][..WINDOW]).is_some());
    assert!(
        watched.canaries.find(&std::fs::read(watched.home.path("ghl_tokens.json")).expect("it")).is_some()
    );
}
