//! A healthy set-up, and what an examination leaves of it.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::patient::{after_the_workflow, examined, healthy, healthy_in_sqlite, names, new_with, wrong};
use crate::search::Canaries;
use crate::support::{ELSEWHERE, Home, KEY, Running};

#[test]
fn nothing_is_wrong_with_a_healthy_set_up() {
    for home in [healthy(), healthy_in_sqlite()] {
        let (run, document) = examined(&home);
        assert_eq!(wrong(&document), Vec::<&Value>::new());
        assert_eq!((run.code, document["outcome"].as_str()), (0, Some("ok")));
        assert_eq!(document["not_examined"], Value::Array(vec![]), "{document:#}");
    }
}

#[test]
fn nothing_is_wrong_with_a_private_integration_token() {
    let home = new_with(|_| {});
    let token = home.sandbox.settings().private_token.clone();
    let home = home.set("GHL_PRIVATE_TOKEN", &token);
    let (run, document) = examined(&home);
    assert_eq!(wrong(&document), Vec::<&Value>::new());
    assert_eq!(run.code, 0);
    assert!(!home.path("ghl_tokens.json").exists(), "there was no need of a store");
}

/// An agency's grant reads its locations and tags nobody.
#[test]
fn nothing_is_wrong_with_a_company_but_that_nobody_is_told() {
    let home = new_with(|_| {}).set("GHL_USER_TYPE", "Company").log_in();
    home.run(["check"]).good();
    let (run, document) = examined(&home);
    let codes: Vec<_> = wrong(&document).iter().map(|it| &it["code"]).collect();
    assert_eq!(codes, ["notices_none"], "{document:#}");
    assert_eq!(run.code, 0);
}

/// Whom a service keeps many for is told how many of them need care.
#[test]
fn many_locations_are_examined_as_a_crowd() {
    let home = new_with(|settings| settings.extra_locations = 1).sealed().log_in();
    let other = home.sandbox.location_ids().last().expect("another").clone();
    let code = home.sandbox.approve_location(&other, ELSEWHERE);
    let other = home.command(["login", "--code", &code]);
    Running::start(other).end().good();
    let settings = home.read(".env");
    let none = ["GHL_LOCATION_ID", "GHL_HEALTH_CHECK"];
    let kept = settings.lines().filter(|line| !none.iter().any(|name| line.starts_with(name)));
    home.write(".env", &kept.collect::<Vec<_>>().join("\n"));
    std::fs::remove_file(home.path("crontab")).expect("it is there");
    let found = |home: &Home, code: &str| {
        let (_, document) = examined(home);
        let all = document["findings"].as_array().expect("findings").clone();
        assert!(all.iter().any(|finding| finding["code"] == code), "no {code}: {document:#}");
    };
    found(&home, "crowd_good");
    home.sandbox.revoke(home.location());
    home.run(["refresh", "--location", home.location()]).ended(3);
    found(&home, "crowd_troubled");
}

#[test]
fn all_faults_of_the_settings_are_found_at_once() {
    let home = healthy().set("GHL_STORE", "mysql:x").set("RUN_INTERVAL_HOURS", "never");
    let home = home.set("GHL_API_VERSION", "v9").set("GHL_NOTIFY_SLACK_URL", "ftp://x");
    let (run, document) = examined(&home);
    let details: Vec<_> = wrong(&document).iter().filter_map(|it| it["detail"].as_str()).collect();
    for name in ["GHL_STORE", "RUN_INTERVAL_HOURS", "GHL_API_VERSION", "GHL_NOTIFY_SLACK_URL"] {
        assert!(details.iter().any(|said| said.starts_with(name)), "no {name}: {details:#?}");
    }
    assert_eq!(run.code, 2);
}

#[test]
fn an_examination_changes_nothing_but_the_tag() {
    for (home, store) in [(healthy(), "ghl_tokens.json"), (healthy_in_sqlite(), "ghl-auth.db")] {
        let before = (names(&home.path("")), std::fs::read(home.path(store)).expect("a store"));
        let refreshes = home.sandbox.counts().refreshes;
        assert_eq!(home.sandbox.contact_tags(), Vec::<String>::new());
        examined(&home);
        let after = (names(&home.path("")), std::fs::read(home.path(store)).expect("a store"));
        assert_eq!(before.0, after.0);
        assert!(before.1 == after.1, "{store} was written");
        assert_eq!(home.sandbox.counts().refreshes, refreshes, "no token is refreshed");
        assert_eq!(home.sandbox.contact_tags().len(), 1, "the tag went there and back");
    }
}

#[test]
fn a_store_that_is_not_there_is_not_made() {
    let home = new_with(|_| {}).sealed();
    let (run, document) = examined(&home);
    assert_eq!(run.code, 3, "{document:#}");
    assert!(!names(&home.path("")).iter().any(|name| name.starts_with("ghl-auth.db")));
}

#[test]
fn people_read_it_in_both_languages_and_without_colour() {
    let home = healthy();
    home.run(["doctor"]).good().answers("ok       clock: it agrees").answers("Nothing is wrong.");
    after_the_workflow(&home);
    let home = home.set("GHL_AUTH_LANG", "pt-BR");
    home.run(["doctor"]).good().answers("ok       relógio: concorda").answers("Não há nada errado.");
    after_the_workflow(&home);
    crate::support::mode(&home.path(".env"), 0o644);
    let run = home.run(["doctor"]).good();
    let run = run
        .answers("atenção  arquivos: Outros nesta máquina podem ler")
        .answers("O que fazer: Execute: chmod 600");
    let run = run.answers("env_mode").answers("Falhas: 0. Pontos de atenção: 1.");
    assert!(!run.out.contains('\u{1b}'), "no colour without a terminal");
}

#[test]
fn an_unknown_app_is_a_finding_too() {
    let home = healthy();
    let run = home.run(["--app", "nobody", "doctor", "--json"]).ended(2);
    assert_eq!(wrong(&run.json())[0]["code"], "no_such_app");
}

#[test]
fn a_report_is_for_its_owner_and_replaces_nothing() {
    let home = healthy();
    home.run(["doctor", "--report", "report.json"]).good().answers("report.json");
    let path = home.path("report.json");
    assert_eq!(std::fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
    let report: Value = serde_json::from_str(&home.read("report.json")).expect("JSON");
    assert_eq!(report["outcome"], "ok");
    let names = report["settings"].as_array().expect("names");
    assert!(names.contains(&"GHL_CLIENT_SECRET".into()), "{names:?}");
    home.write("report.json", "mine");
    home.run(["doctor", "--report", "report.json"]).fails_with(2, "report_not_written");
    assert_eq!(home.read("report.json"), "mine");
}

/// Whoever runs it is told who lives, and a notice is sent only where that is asked for.
#[test]
fn a_living_service_is_known_and_notices_are_sent_on_request_only() {
    let taker = Taker::start();
    let home = healthy_in_sqlite()
        .set("GHL_NOTIFY_ALLOW_PRIVATE", "true")
        .set("GHL_NOTIFY_SLACK_URL", &format!("{}/services/T0/B0/hiddenhiddenhidden", taker.address));
    let port = crate::support::free_port();
    let home = home.set("GHL_AUTH_LISTEN", &format!("127.0.0.1:{port}"));
    let mut service: Running = home.start(["serve"]);
    service.until_it_says("Programs ask here");
    let (_, document) = examined(&home);
    let code = |code: &str| {
        let all = document["findings"].as_array().expect("findings");
        all.iter().any(|finding| finding["code"] == code)
    };
    assert!(code("service_lives") && code("notices_reached"), "{document:#}");
    assert_eq!(wrong(&document), Vec::<&Value>::new());
    assert_eq!(taker.posts(), 0, "only a connection was tried");
    home.run(["doctor", "--notify"]).good().answers("a notice was taken by: slack");
    assert!(taker.posts() >= 1);
    service.interrupt();
    service.until_it_ends();
}

#[test]
fn no_secret_is_in_any_output_or_report() {
    let hidden = "https://127.0.0.1:9/services/T0/B0/hiddenhiddenhidden";
    for home in [healthy(), healthy_in_sqlite(), broken(), misconfigured()] {
        let home = home
            .set("GHL_NOTIFY_ALLOW_PRIVATE", "true")
            .set("GHL_NOTIFY_SLACK_URL", hidden)
            .set("GHL_NOTIFY_SMTP_URL", "smtps://robot:passwordpasswd@127.0.0.1:9")
            .set("GHL_NOTIFY_EMAIL_TO", "a@example.com")
            .set("GHL_NOTIFY_EMAIL_FROM", "b@example.com")
            .set("GHL_AUTH_LOG", "trace");
        let mut canaries = Canaries::default();
        canaries.plant(KEY);
        canaries.plant("hiddenhiddenhidden");
        canaries.plant("passwordpasswd");
        let settings = home.sandbox.settings();
        canaries.plant(&settings.client_secret);
        canaries.plant(&settings.private_token);
        let id = home.location();
        for token in [home.sandbox.current_access_token(id), home.sandbox.current_refresh_token(id)] {
            // The payload's ids are in the settings, and are no secrets; the signature is one.
            let token = token.unwrap_or_default();
            if let Some((_, signature)) = token.rsplit_once('.') {
                canaries.plant(signature);
            }
        }
        for lang in ["en", "pt-BR"] {
            let mut command = home.command(["doctor", "--report", &format!("report-{lang}")]);
            command.env("GHL_AUTH_LANG", lang);
            let run = Running::start(command).end();
            canaries.are_not_in("stdout", run.out.as_bytes());
            canaries.are_not_in("stderr", run.err.as_bytes());
            canaries.are_not_in("the process's title", &run.titles);
        }
        let json = home.run(["doctor", "--json"]);
        canaries.are_not_in("the document", json.out.as_bytes());
        // The reports are among them.
        assert!(canaries.are_not_under(&home.path(""), &["ghl_tokens.json"]) >= 4);
    }
}

fn broken() -> Home {
    let home = healthy();
    home.sandbox.revoke(home.location());
    home.run(["refresh"]).ended(3);
    home
}

fn misconfigured() -> Home {
    healthy()
        .set("GHL_AUTH_KEY", "not a key at all")
        .set("GHL_REDIRECT_URI", &ELSEWHERE.replace("https", "x y"))
}

/// Someone who takes posts, and counts them.
struct Taker {
    address: String,
    posts: std::sync::Arc<std::sync::atomic::AtomicUsize>,
}

impl Taker {
    fn start() -> Self {
        use std::io::{Read as _, Write as _};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = format!("http://{}", listener.local_addr().expect("it has one"));
        let posts = std::sync::Arc::<std::sync::atomic::AtomicUsize>::default();
        let ours = posts.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let mut bytes = [0; 8192];
                // A connection without a word in it is one that was only tried.
                if matches!(stream.read(&mut bytes), Ok(1..)) {
                    ours.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    stream
                        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
                        .ok();
                }
            }
        });
        Self { address, posts }
    }

    fn posts(&self) -> usize {
        self.posts.load(std::sync::atomic::Ordering::SeqCst)
    }
}
