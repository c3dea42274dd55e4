//! Scope drift: what a grant may do beside what the app has come to want.

use serde_json::json;

use crate::service::{Service, document, home};
use crate::support::Home;

const WANTED: &str = "contacts.write contacts.readonly locations.readonly workflows.readonly";

#[test]
fn who_has_to_reinstall_is_told_in_one_line_with_the_link() {
    let home = Home::connected().set("GHL_SCOPES", WANTED);
    let line = |run: crate::support::Run| {
        assert_eq!(run.err.lines().count(), 1, "{}", run.err);
        run.err
    };
    let said = line(home.run(["status"]).good());
    let begins = format!("warning: The app on location {} lacks scopes", home.location());
    assert!(said.starts_with(&begins) && said.contains(": workflows.readonly. "), "{said}");
    assert!(said.contains("/oauth/chooselocation?") && said.contains("workflows.readonly"), "{said}");
    let home = home.set("GHL_AUTH_LANG", "pt-BR");
    let said = line(home.run(["status"]).good());
    assert!(said.contains("faltam escopos que GHL_SCOPES pede: workflows.readonly. Alguém"), "{said}");

    let installation = home.run(["status", "--json"]).good().json()["installations"][0].clone();
    assert_eq!(installation["missing_scopes"], json!(["workflows.readonly"]));
    assert_eq!(installation["extra_scopes"], json!([]));
    assert!(installation["authorize_url"].as_str().is_some_and(|link| link.contains("client_id=")));

    // What it has beyond that stops nothing and is told to programs only.
    let home = home.set("GHL_SCOPES", "contacts.readonly");
    let run = home.run(["status"]).good();
    assert_eq!(run.err, "");
    let installation = home.run(["status", "--json"]).good().json()["installations"][0].clone();
    assert_eq!(installation["missing_scopes"], json!([]));
    assert_eq!(installation["extra_scopes"], json!(["contacts.write", "locations.readonly"]));
    assert!(installation["authorize_url"].is_null());
}

#[test]
fn reinstalling_ends_it() {
    let home = Home::connected().set("GHL_SCOPES", WANTED);
    home.run(["status"]).good().complains("workflows.readonly");
    home.sandbox.set_scopes(WANTED.split(' '));
    assert_eq!(home.log_in().run(["status"]).good().err, "");
}

#[test]
fn a_check_says_which_scopes_it_needs_before_highlevel_refuses_it() {
    let home = Home::new();
    home.sandbox.set_scopes(["contacts.readonly", "locations.readonly"]);
    let home = home.log_in();
    let words = "lacks scopes that this check needs: contacts.write.";
    home.run(["check"]).fails_with(1, "scope_missing").complains(words);
    let found = home.run(["check", "--json"]).ended(1).json();
    assert_eq!(found["warnings"][0]["code"], "check_scopes_missing");

    // It reads a location without a contact to tag, and that it may.
    let settings = home.read(".env");
    let without: Vec<&str> = settings.lines().filter(|line| !line.contains("HEALTH_CHECK")).collect();
    home.write(".env", &without.join("\n"));
    let found = home.run(["check", "--json"]).good().json();
    assert_eq!(
        (found["outcome"].as_str(), &found["warnings"][0]["code"]),
        (Some("operational"), &json!("nobody_is_told"))
    );
}

#[test]
fn the_service_tells_programs_and_counts_whoever_lacks_scopes() {
    let service = Service::start(home().set("GHL_SCOPES", WANTED));
    let key = service.key(&["ours", "--all"]);
    let list = document(&service.get("/v1/installations", Some(&key)));
    let path = format!("/v1/installations/location/{}", service.home.location());
    let one = document(&service.get(&path, Some(&key)));
    for installation in [&list["installations"][0], &one] {
        assert_eq!(installation["missing_scopes"], json!(["workflows.readonly"]), "{installation}");
        assert_eq!(installation["extra_scopes"], json!([]));
    }
    service
        .until(|| service.get("/metrics", None).body.contains("\nghl_auth_installations_lacking_scopes 1\n"));
    service.stop();
}
