//! `check`: the main job, when it goes well or well enough.

use std::time::Duration;

use sandbox::{Fault, FaultKind, Matcher, Settings, UserType};
use serde_json::{Value, json};

use crate::support::{HOUR, Home, snapshot};

/// What the template's own users read at the end of each run, word for word and in its order.
const IN_PORTUGUESE: &str = "\
Access Token (parcial): eyJhbGciOi...
Refresh Token (parcial): eyJhbGciOi...
Escopos: contacts.readonly contacts.write locations.readonly
Expira em: YYYY-MM-DD HH:MM:SS

Testando chamada à API de Contatos...
Tentativa 1/2...
Chamada à API de Contatos bem-sucedida.
Tag 'Status:Online-AuthService' adicionada ao contato 'CONTATO' com sucesso!
Microserviço operacional. Notificação de saúde disparada via tag.
";

/// The same with the lines before it.
fn in_portuguese(home: &Home, begins: &str) -> String {
    format!("{begins}{IN_PORTUGUESE}").replace("CONTATO", &home.sandbox.settings().contact_id)
}

#[test]
fn the_templates_sentences_come_word_for_word_in_its_order() {
    let home = Home::in_portuguese();
    let code = home.code(UserType::Location);
    let home = home.set("GHL_AUTHORIZATION_CODE", &code);
    let first = home.run(["check"]).good();
    let begins = "Trocando o código de autorização...\nTokens salvos.\n";
    assert_eq!(home.stable(&first.out), in_portuguese(&home, begins));

    home.sandbox.advance(Duration::from_secs(2));
    let valid = home.run(["check"]).good();
    assert_eq!(home.stable(&valid.out), in_portuguese(&home, "Tokens carregados e válidos.\n"));

    home.sandbox.advance(Duration::from_secs(2));
    home.expire();
    let expired = home.run(["check"]).good();
    let begins = "Access Token expirado. Renovando...\nToken renovado e salvo.\n";
    assert_eq!(home.stable(&expired.out), in_portuguese(&home, begins));

    assert_eq!([first.err, valid.err, expired.err], ["", "", ""]);
    assert_eq!(home.sandbox.counts().messages, 3);
}

#[test]
fn in_english_it_reads_like_this() {
    let home = Home::connected();
    home.expire();
    snapshot("check-refreshed-en", &home.stable(&home.run(["check"]).good().out));
}

#[test]
fn no_subcommand_is_the_check() {
    let home = Home::connected();
    let run = home.run::<&str>([]).good();
    assert!(
        run.out.ends_with("Microservice operational. Health notification triggered by tag.\n"),
        "{}",
        run.out
    );
    home.run(["--env-file", ".env"]).good();
}

#[test]
fn a_token_that_is_no_jwt_shows_nothing_of_itself() {
    let home = Home::new();
    home.write("ghl_tokens.json", r#"{"access_token":"opaque-access-token","refresh_token":"opaque-refresh-token","expires_in":86399,"userType":"Location","locationId":"L"}"#);
    let home = home.set("GHL_LOCATION_ID", "L").set("GHL_API_BASE_URL", "http://127.0.0.1:9");
    let status = home.run(["status", "--json"]).good();
    assert!(!status.out.contains("opaque"), "{}", status.out);
    let home = Home::new();
    let kind = FaultKind::FieldsSet {
        fields: serde_json::Map::from_iter([("access_token".into(), json!("opaque-access-token"))]),
    };
    home.sandbox.fault(Fault::new(kind).on(Matcher::Exchange));
    let login = home.run(["login", "--code", &home.code(UserType::Location)]).good();
    assert!(!login.out.contains("opaque"), "{}", login.out);
    login.answers("Access Token (partial): ...\n").answers("Refresh Token (partial): eyJhbGciOi...\n");
}

#[test]
fn a_tag_that_is_still_there_is_taken_away_first_so_that_the_workflow_runs_again() {
    let home = Home::with(|settings| settings.workflow_removes_tag_after = None).log_in();
    home.run(["check"]).good();
    assert_eq!(home.sandbox.contact_tags(), ["Status:Online-AuthService"]);
    let second = home.run(["check"]).good();
    second
        .complains("warning: The tag was still on the contact")
        .answers("The tag left over from the last run was removed.");
    let third = home.run(["check", "--json"]).good().json();
    assert_eq!(third["outcome"], "degraded");
    assert_eq!(third["warnings"][0]["code"], "tag_was_still_there");
    assert_eq!(steps(&third), ["token", "read", "remove_tag", "add_tag"]);
    assert_eq!(home.sandbox.counts().messages, 3, "one message for each run");
    home.run(["status"]).good().answers("degraded");
}

#[test]
fn a_tag_is_known_whatever_becomes_of_its_case() {
    let home = Home::with(|settings| {
        settings.lowercase_tags = true;
        settings.workflow_removes_tag_after = None;
    });
    let home = home.log_in();
    home.run(["check"]).good();
    home.run(["check"]).good().complains("The tag was still on the contact");
    assert_eq!(home.sandbox.counts().messages, 2);
}

#[test]
fn a_workflow_that_runs_proves_the_whole_path() {
    let home = Home::with(|settings| settings.workflow_removes_tag_after = Some(Duration::ZERO)).log_in();
    let run = home.run(["check", "--wait-for-workflow", "30s"]).good();
    run.answers("Waiting up to 30 s for the workflow").answers("the whole path is proven.");
    let json = home.run(["check", "--wait-for-workflow", "30", "--json"]).good().json();
    assert_eq!(steps(&json), ["token", "read", "add_tag", "workflow"]);
    assert_eq!(json["outcome"], "operational");
}

#[test]
fn a_workflow_that_does_nothing_fails_the_check_when_it_is_waited_for() {
    let home = Home::with(|settings| settings.workflow_removes_tag_after = None).log_in();
    let run = home.run(["check", "--wait-for-workflow", "1s"]).fails_with(1, "workflow_silent");
    assert!(!run.out.contains("operational"), "{}", run.out);
    run.complains("its last action is \"Remove Tag\"");
    let json =
        home.run(["check", "--wait-for-workflow", "1s", "--json"]).fails_with(1, "workflow_silent").json();
    assert_eq!(json["outcome"], "down");
    assert_eq!(
        json["steps"].as_array().and_then(|steps| steps.last()).map(|step| &step["ok"]),
        Some(&json!(false))
    );
}

#[test]
fn without_a_contact_or_a_tag_it_only_reads_and_says_so() {
    for (name, path) in
        [("GHL_HEALTH_CHECK_CONTACT_ID", "/locations/"), ("GHL_HEALTH_CHECK_TAG_NAME", "/contacts/")]
    {
        let home = Home::connected();
        home.write(".env", &home.read(".env").replace(name, "# "));
        let run = home.run(["check"]).good().complains("warning: Read-only check:");
        run.answers("Microservice operational. Read-only check: no tag was added.");
        let json = home.run(["check", "--json"]).good().json();
        assert_eq!(
            (&json["outcome"], &json["warnings"][0]["code"]),
            (&json!("operational"), &json!("nobody_is_told"))
        );
        let ledger = home.sandbox.ledger();
        assert!(ledger.requests.iter().any(|request| request.path.starts_with(path)), "{name}");
        assert!(ledger.requests.iter().all(|request| !request.path.ends_with("/tags")), "{name}");
        assert_eq!(home.sandbox.counts().messages, 0);
    }
}

#[test]
fn trouble_that_passes_is_waited_out() {
    for kind in [
        FaultKind::RateLimited { retry_after: Some(0) },
        FaultKind::status(500, "{}"),
        FaultKind::GatewayHtml { processed: false },
        FaultKind::LoseAnswer,
        FaultKind::Reset { processed: true },
    ] {
        for on in [Matcher::ContactRead, Matcher::TagAdd] {
            let home = Home::connected();
            home.sandbox.fault(Fault::new(kind.clone()).on(on.clone()));
            let run = home.run(["check"]).good();
            assert!(run.err.contains("Trying again: "), "{kind:?} {on:?}: {}", run.err);
            assert_eq!(home.sandbox.counts().messages, 1, "{kind:?} {on:?}");
            assert_eq!(home.sandbox.counts().refreshes, 0, "{kind:?} {on:?}");
        }
    }
}

#[test]
fn a_token_is_refreshed_when_it_would_not_last_until_the_next_run_and_an_hour() {
    let home = Home::connected();
    // 24 hours, less 10: it lasts for 14. Half of its life is not over, because it was issued lately.
    home.age(Duration::ZERO, 10 * HOUR);
    let refreshes = |home: &Home| home.sandbox.counts().refreshes;
    home.run(["check"]).good();
    assert_eq!(refreshes(&home), 0, "12 hours and one are fewer than 14");
    let home = home.set("RUN_INTERVAL_HOURS", "13");
    home.run(["check"]).good();
    assert_eq!(refreshes(&home), 1);
    home.run(["check"]).good();
    assert_eq!(refreshes(&home), 1, "the new one lasts");
}

#[test]
fn a_token_past_half_its_life_is_refreshed_though_it_lasts() {
    let home = Home::connected().set("RUN_INTERVAL_HOURS", "1");
    home.age(13 * HOUR, 13 * HOUR);
    home.run(["check"]).good().answers("Token refreshed and saved.");
    assert_eq!(home.sandbox.counts().refreshes, 1);
}

#[test]
fn both_dialects_log_in_refresh_and_check() {
    for (dialect, on_tokens) in [("2021-07-28", None), ("v3", Some("v3"))] {
        let home = Home::new().set("GHL_API_VERSION", dialect).log_in();
        home.run(["check"]).good();
        home.run(["refresh"]).good();
        home.expire();
        home.run(["check"]).good().answers("Token refreshed and saved.");
        for request in home.sandbox.ledger().requests {
            let expected = if request.path == "/oauth/token" { on_tokens } else { Some(dialect) };
            assert_eq!(request.version.as_deref(), expected, "{request:?}");
            assert!(request.status < 300, "{request:?}");
        }
        assert_eq!((home.sandbox.counts().exchanges, home.sandbox.counts().refreshes), (1, 2));
    }
}

#[test]
fn a_company_is_checked_by_reading_its_locations() {
    for dialect in ["2021-07-28", "v3"] {
        let home = Home::new().set("GHL_USER_TYPE", "Company").set("GHL_API_VERSION", dialect).log_in();
        let json = home.run(["check", "--json"]).good().json();
        assert_eq!(json["installation"]["kind"], "company", "{json}");
        assert_eq!(json["installation"]["id"], home.sandbox.settings().company_id);
        home.expire();
        home.run(["check"]).good().answers("Token refreshed and saved.");
        let token = home.run(["token", "--json"]).good().json();
        assert_eq!(
            (&token["user_type"], &token["company_id"]),
            (&json!("Company"), &json["installation"]["id"])
        );
    }
}

/// A user of a Private Integration Token, who has no app.
fn private() -> Home {
    let home = Home::empty();
    let Settings { private_token, contact_id, location_id, .. } = home.sandbox.settings().clone();
    let base = home.sandbox.base_url();
    home.set("GHL_PRIVATE_TOKEN", &private_token)
        .set("GHL_LOCATION_ID", &location_id)
        .set("GHL_HEALTH_CHECK_CONTACT_ID", &contact_id)
        .set("GHL_HEALTH_CHECK_TAG_NAME", "Status:Online-AuthService")
        .set("GHL_API_BASE_URL", &base)
}

#[test]
fn a_private_integration_token_is_checked_and_never_refreshed() {
    let home = private();
    let run = home.run(["check"]).good();
    assert!(run.out.starts_with("Testing a call to the Contacts API...\n"), "{}", run.out);
    run.answers("Microservice operational. Health notification triggered by tag.");
    assert_eq!(home.sandbox.counts().messages, 1);
    let token = home.run(["token"]).good().out;
    assert_eq!(token.trim_end(), home.sandbox.settings().private_token);
    assert!(!home.path("ghl_tokens.json").exists());

    let home = home.set("GHL_PRIVATE_TOKEN", "pit-00000000-0000-4000-8000-000000000000");
    let run = home.run(["check"]).fails_with(3, "private_token_refused").complains("GHL_PRIVATE_TOKEN");
    assert!(!run.err.contains("chooselocation"), "there is no consent page for it: {}", run.err);
    assert_eq!((home.sandbox.counts().refreshes, home.sandbox.counts().exchanges), (0, 0));
}

#[test]
fn the_document_of_a_success_looks_like_this() {
    let home = Home::connected();
    home.expire();
    let mut json = home.run(["check", "--json"]).good().json();
    let traced = |step: &Value| step["trace_id"].is_string();
    let seen = home.sandbox.ledger().requests;
    for step in json["steps"].as_array().expect("steps").iter().filter(|step| traced(step)) {
        let is_known = seen.iter().any(|request| request.trace_id.as_deref() == step["trace_id"].as_str());
        assert!(is_known, "{step}");
    }
    redact(&mut json);
    snapshot("check-json", &serde_json::to_string_pretty(&json).expect("JSON"));
}

/// Replaces what differs from run to run by its kind.
fn redact(json: &mut Value) {
    match json {
        Value::Object(members) => {
            for (name, value) in members {
                match (name.as_str(), &*value) {
                    ("duration_ms", Value::Number(_)) => *value = json!("[milliseconds]"),
                    ("trace_id", Value::String(_)) => *value = json!("[trace id]"),
                    ("at" | "expires_at", Value::String(_)) => *value = json!("[instant]"),
                    _ => redact(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact),
        _ => {}
    }
}

fn steps(json: &Value) -> Vec<&str> {
    let steps = json["steps"].as_array().expect("steps");
    steps.iter().map(|step| step["step"].as_str().expect("a name")).collect()
}

#[test]
fn a_check_leaves_nothing_behind_it_but_its_store() {
    let home = Home::connected();
    home.run(["check"]).good();
    let mut names: Vec<String> = std::fs::read_dir(home.path("."))
        .expect("the folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert!(names.iter().all(|name| name == ".env" || name.contains("ghl_tokens.json")), "{names:?}");
}
