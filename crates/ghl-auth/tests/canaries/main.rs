//! Secrets that are planted, and looked for wherever they must not be.
//!
//! What the binary says at `trace` in both forms of log, what `ps` shows of it and what it leaves on
//! disk is searched for each secret as it is, in base64, base64url, hex and percent-encoding,
//! reversed, and for any twelve bytes of those. Three things are meant to show a secret and are left
//! out: the answers of `token`, `export` and `exec`, the `state` within the consent page's address, and
//! a `file:` store without a key. A JWT's header is public and the same in all of them.

#[path = "commands/support.rs"]
mod support;

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use sandbox::{Fault, FaultKind, Matcher, UserType};
use serde_json::json;
use support::{HOUR, Home, KEY, Run, free_port, http};

const WINDOW: usize = 12;

/// What every token of HighLevel's begins with.
const JWT_HEADER: &str = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.";

/// The secrets, ready to be looked for.
#[derive(Default)]
struct Canaries {
    planted: HashSet<String>,
    windows: HashSet<[u8; WINDOW]>,
}

impl Canaries {
    fn plant(&mut self, secret: &str) {
        assert!(secret.len() >= WINDOW, "too short to be told from chance: {secret}");
        if self.planted.insert(secret.to_owned()) {
            self.windows.extend(forms(secret.as_bytes()).iter().flat_map(|form| windows(form)));
            // A JWT's header, in any form, says nothing.
            for window in forms(JWT_HEADER.as_bytes()).iter().flat_map(|form| windows(form)) {
                self.windows.remove(&window);
            }
        }
    }

    /// The first piece of a secret in `text`, if there is one.
    fn find<'a>(&self, text: &'a [u8]) -> Option<&'a [u8]> {
        text.windows(WINDOW).find(|window| {
            let window: [u8; WINDOW] = (*window).try_into().expect("as long as it says");
            self.windows.contains(&window)
        })
    }

    #[track_caller]
    fn are_not_in(&self, what: &str, text: &[u8]) {
        if let Some(found) = self.find(text) {
            let at = text.windows(WINDOW).position(|window| window == found).unwrap_or_default();
            let around = &text[at.saturating_sub(200)..(at + 200).min(text.len())];
            panic!("{what} holds `{}`: {}", String::from_utf8_lossy(found), String::from_utf8_lossy(around));
        }
    }

    /// Everything under a folder, save the settings and what `spared` names.
    #[track_caller]
    fn are_not_under(&self, folder: &Path, spared: &[&str]) -> usize {
        let mut files = 0;
        for entry in std::fs::read_dir(folder).expect("the folder is ours") {
            let entry = entry.expect("an entry");
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if name == ".env" || spared.iter().any(|spared| name.starts_with(spared)) {
                continue;
            }
            self.are_not_in("a file's name", name.as_bytes());
            match path.is_dir() {
                true => files += self.are_not_under(&path, spared),
                false => {
                    self.are_not_in(&name, &std::fs::read(&path).expect("a file"));
                    files += 1;
                }
            }
        }
        files
    }
}

fn windows(form: &[u8]) -> impl Iterator<Item = [u8; WINDOW]> {
    form.windows(WINDOW).map(|window| window.try_into().expect("as long as it says"))
}

/// A secret in each guise that it might leave in.
fn forms(secret: &[u8]) -> Vec<Vec<u8>> {
    let hex = |secret: &[u8]| secret.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let percent: String = secret.iter().map(|byte| format!("%{byte:02X}")).collect();
    let encoded: String = form_urlencoded::byte_serialize(secret).collect();
    let mut forms = vec![
        secret.to_vec(),
        secret.iter().rev().copied().collect(),
        hex(secret).into_bytes(),
        hex(secret).to_uppercase().into_bytes(),
        percent.clone().into_bytes(),
        percent.to_lowercase().into_bytes(),
        encoded.into_bytes(),
    ];
    // In base64 a text looks three ways, depending on what stands before it.
    for before in 0..3 {
        let shifted = [&vec![0; before][..], secret].concat();
        // The characters that the bytes before and behind have a part in differ from case to case.
        let inner = |text: String| {
            let end = text.trim_end_matches('=').len().saturating_sub(1);
            text.as_bytes()[[0, 2, 3][before]..end].to_vec()
        };
        forms.push(inner(STANDARD.encode(&shifted)));
        forms.push(inner(URL_SAFE.encode(&shifted)));
    }
    forms
}

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
        canaries
            .windows
            .extend(forms(&STANDARD.decode(KEY).expect("base64")).iter().flat_map(|form| windows(form)));
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
fn the_search_finds_a_secret_in_any_guise() {
    let mut canaries = Canaries::default();
    let secret = "00c0ffee-1234-4abc-8def-0123456789ab";
    canaries.plant(secret);
    for form in forms(secret.as_bytes()) {
        let leak = [b"before: ", &form[..], b" behind"].concat();
        assert!(canaries.find(&leak).is_some(), "{}", String::from_utf8_lossy(&form));
    }
    for wrapped in [
        format!("client_secret={secret}"),
        format!("x{secret}"),
        format!("ab{secret}y"),
        format!("(((({secret}"),
    ] {
        assert!(canaries.find(STANDARD.encode(&wrapped).as_bytes()).is_some(), "{wrapped}");
    }
    for start in 0..=secret.len() - WINDOW {
        assert!(canaries.find(&secret.as_bytes()[start..start + WINDOW]).is_some(), "from {start}");
    }
    assert_eq!(canaries.find(&secret.as_bytes()[..WINDOW - 1]), None);
    assert_eq!(canaries.find(b"nothing of the kind is said here"), None);
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
