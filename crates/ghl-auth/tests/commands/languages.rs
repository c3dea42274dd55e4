//! In Portuguese nothing is said in English.

use std::collections::HashSet;
use std::time::Duration;

use sandbox::{Fault, FaultKind, Matcher, UserType};

use crate::support::{HOUR, Home, KEY, Run, free_port};

/// The sentences of a language as patterns: the fixed words between their arguments.
fn sentences(locale: &str) -> Vec<Vec<String>> {
    let text = match locale {
        "en" => include_str!("../../locales/en/ghl-auth.ftl"),
        _ => include_str!("../../locales/pt-BR/ghl-auth.ftl"),
    };
    let mut sentences = Vec::new();
    for line in text.lines() {
        let line = match line.split_once(" = ") {
            Some((name, value)) if !line.starts_with('#') && !name.trim().contains(' ') => value,
            _ if line.starts_with(' ') => line.trim(),
            _ => continue,
        };
        let mut fixed = Vec::new();
        for piece in line.split('{') {
            let piece = piece.split_once('}').map_or(piece, |(_, after)| after).trim();
            if piece.split_whitespace().count() > 2 {
                fixed.push(piece.to_owned());
            }
        }
        if !fixed.is_empty() {
            sentences.push(fixed);
        }
    }
    sentences
}

/// Whatever a user does, well or badly, told in Portuguese.
fn wide_set() -> Vec<Run> {
    let _log = crate::schedule::Log::watched();
    // These wait a while, so they wait beside the others.
    let troubles = std::thread::spawn(troubles);
    let mut runs = Vec::new();
    let home = Home::in_portuguese();
    for arguments in [
        &["check"][..],
        &["check", "--json"],
        &["token"],
        &["export"],
        &["status"],
        &["refresh"],
        &["import", "absent"],
        &["login"],
        &["login", "--code", "x"],
        &["login", "--code", "https://x.example/?error=access_denied"],
        &["login", "--code", "0123456789abcdef"],
        &["exec", "--", "true"],
        &["nonsense"],
        &["check", "--nonsense"],
        &["schedule"],
        &["import"],
        &["token", "--json", "--header"],
        &["--env-file", "absent", "check"],
        &["check", "--wait-for-workflow", "x"],
        &["--help"],
        &["man"],
        &["sandbox", "--help"],
        &["sandbox", "--write-env", ".env", "--listen", "127.0.0.1:0"],
        &["sandbox", "--listen", "0.0.0.0:1"],
    ] {
        runs.push(home.run(arguments));
    }
    let home = Home::in_portuguese().log_in();
    home.write("half.json", r#"{"access_token": "eyJ", "refresh_tok"#);
    home.write("list.json", "[]");
    for arguments in [
        &["check"][..],
        &["check", "--json"],
        &["status"],
        &["status", "--json"],
        &["refresh"],
        &["refresh", "--json"],
        &["export", "--output", "old.json"],
        &["import", "old.json"],
        &["import", "half.json"],
        &["import", "list.json"],
        &["check"],
        &["refresh"],
        &["import", "old.json"],
        &["exec", "--", "no-such-program"],
        &["token", "--company", "C"],
    ] {
        runs.push(home.run(arguments));
    }
    let home =
        Home::empty().set("GHL_AUTH_LANG", "pt-BR").set("GHL_AUTH_KEY", "x").set("GHL_STORE", "sqlite:");
    runs.push(home.run(["check"]));
    let home = Home::in_portuguese().set("RUN_INTERVAL_HOURS", "5").set("GHL_API_VERSION", "v4");
    runs.push(home.run(["schedule", "install"]));
    runs.push(home.run(["check"]));
    let home = Home::in_portuguese();
    runs.push(home.run(["login", "--code", &home.code(UserType::Company)]));
    runs.push(home.run(["check"]));
    let home = Home::in_portuguese().sealed().log_in();
    runs.push(home.set("GHL_AUTH_KEY", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=").run(["check"]));
    let home = Home::in_portuguese().set("GHL_AUTH_KEY", KEY).log_in();
    runs.push(home.set("GHL_AUTH_KEY", "").run(["check"]));
    let home = Home::in_portuguese();
    home.write("ghl_tokens.json", "nonsense");
    runs.push(home.run(["check"]));
    let home = Home::in_portuguese();
    std::fs::create_dir(home.path("ghl_tokens.json")).expect("the folder is ours");
    runs.push(home.run(["check"]));
    let home = Home::in_portuguese().sealed().log_in();
    let nobody = free_port();
    let home = home.set("GHL_NOTIFY_SLACK_URL", "https://127.0.0.1:1/x");
    runs.push(home.run(["notify", "--test"]));
    let home = home.set("GHL_NOTIFY_ALLOW_PRIVATE", "true");
    runs.push(
        home.set("GHL_NOTIFY_SLACK_URL", &format!("http://127.0.0.1:{nobody}/x")).run(["notify", "--test"]),
    );
    runs.extend(troubles.join().expect("no story panics"));
    runs
}

/// A check in every kind of trouble.
fn troubles() -> Vec<Run> {
    let mut runs = Vec::new();
    let body = |message: &str| format!(r#"{{"statusCode":400,"message":"{message}"}}"#);
    let on_read = [
        FaultKind::status(401, &body("The token is not authorized for this scope.")),
        FaultKind::status(401, &body("Invalid JWT")),
        FaultKind::status(403, &body("The token does not have access to this location.")),
        FaultKind::status(400, &body("Contact not found for id:x")),
        FaultKind::status(404, "{}"),
        FaultKind::TruncatedJson,
        FaultKind::FieldsMissing { fields: vec!["contact".into()] },
    ];
    for kind in on_read {
        let home = Home::in_portuguese().log_in();
        home.sandbox.fault(Fault::new(kind).on(Matcher::ContactRead).until_cleared());
        runs.push(home.run(["check"]));
    }
    let on_refresh = [
        FaultKind::InvalidGrant,
        FaultKind::NotActive,
        FaultKind::RefusedClient,
        FaultKind::status(400, "{}"),
        FaultKind::TruncatedJson,
        FaultKind::FieldsMissing { fields: vec!["refresh_token".into()] },
        FaultKind::Reset { processed: false },
    ];
    let running = on_refresh.map(|kind| {
        std::thread::spawn(move || {
            let home = Home::in_portuguese().log_in();
            home.age(13 * HOUR, 13 * HOUR);
            home.sandbox.fault(Fault::new(kind).on(Matcher::Refresh).until_cleared());
            let living = home.run(["check"]);
            home.age(Duration::ZERO, 12 * HOUR);
            [living, home.run(["check"]), home.run(["token"]), home.run(["status"])]
        })
    });
    let unreachable = std::thread::spawn(|| {
        let home = Home::in_portuguese().log_in();
        home.set("GHL_API_BASE_URL", &format!("http://127.0.0.1:{}", free_port())).run(["check"])
    });
    runs.extend(running.into_iter().flat_map(|thread| thread.join().expect("no story panics")));
    runs.push(unreachable.join().expect("no story panics"));
    let home = Home::with(|settings| settings.workflow_removes_tag_after = None)
        .set("GHL_AUTH_LANG", "pt-BR")
        .log_in();
    runs.push(home.run(["check", "--wait-for-workflow", "1s"]));
    runs.push(home.run(["check"]));
    runs
}

#[test]
fn in_portuguese_nothing_is_said_in_english() {
    let english = sentences("en");
    let portuguese: HashSet<Vec<String>> = sentences("pt-BR").into_iter().collect();
    assert!(english.len() > 150, "the sentences were read: {}", english.len());
    let only_english: Vec<_> = english.into_iter().filter(|one| !portuguese.contains(one)).collect();
    // Our own words about an answer are no locale's sentence, and no Portuguese either.
    let ours = [
        "no answer",
        "the answer",
        "the token reply",
        "broke off",
        "too long",
        "its own",
        "it holds",
        "it ends",
        "it is ",
        "it can't",
        "its address",
    ];
    let runs = wide_set();
    assert!(runs.len() > 70, "{}", runs.len());
    for run in runs {
        for line in run.out.lines().chain(run.err.lines()) {
            // The log is for developers, and what a system or HighLevel said is quoted as it is.
            let is_log = line.starts_with("20") && line.contains('Z');
            for sentence in only_english.iter().filter(|_| !is_log) {
                assert!(!sentence.iter().all(|piece| line.contains(piece)), "{sentence:?} in: {line}");
            }
            for words in ours.iter().filter(|_| !is_log) {
                assert!(!line.contains(words), "`{words}` in: {line}");
            }
        }
    }
}

#[test]
fn the_search_for_english_finds_it() {
    let sentences = sentences("en");
    let run = Home::new().run(["check"]);
    let found =
        run.err.lines().any(|line| sentences.iter().any(|one| one.iter().all(|piece| line.contains(piece))));
    assert!(found, "{}", run.err);
}
