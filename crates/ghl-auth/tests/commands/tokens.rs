//! `token`, `exec`, `status`, `refresh`, `import`, `export`: the grants themselves.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use sandbox::{Fault, FaultKind, Matcher, UserType};
use serde_json::{Value, json};

use crate::support::{ELSEWHERE, HOUR, Home, KEY, is_there, mode, snapshot};

fn current(home: &Home) -> String {
    home.sandbox.current_access_token(home.location()).expect("a living grant")
}

#[test]
fn token_prints_one_valid_token_and_nothing_else() {
    for home in [Home::new(), Home::new().sealed()] {
        let home = home.log_in();
        let run = home.run(["token"]).good();
        assert_eq!((run.out, run.err.as_str()), (format!("{}\n", current(&home)), ""));
        let header = home.run(["token", "--header"]).good().out;
        assert_eq!(header, format!("Authorization: Bearer {}\n", current(&home)));
        let named = home.run(["token", "--location", home.location()]).good().out;
        assert_eq!(named, format!("{}\n", current(&home)));
        let json = home.run(["token", "--json"]).good().json();
        assert_eq!(json["access_token"], current(&home));
        assert_eq!(json["location_id"], home.location());
        assert_eq!((&json["token_type"], &json["user_type"]), (&json!("Bearer"), &json!("Location")));
        assert_eq!((&json["generation"], &json["refreshed"]), (&json!(1), &json!(false)));
        assert!(
            !json.to_string().contains(&home.sandbox.current_refresh_token(home.location()).expect("alive"))
        );
        assert_eq!(home.sandbox.counts().refreshes, 0);
    }
}

#[test]
fn token_refreshes_one_that_would_not_live_for_as_long_as_asked() {
    let home = Home::connected();
    home.age(Duration::ZERO, 23 * HOUR);
    home.run(["token", "--minimum-life", "50m"]).good();
    assert_eq!(home.sandbox.counts().refreshes, 0);
    let json = home.run(["token", "--minimum-life", "2h", "--json"]).good().json();
    assert_eq!((&json["refreshed"], &json["generation"]), (&json!(true), &json!(2)));
    assert_eq!(json["access_token"], current(&home));
    assert_eq!(home.sandbox.counts().refreshes, 1);
}

#[test]
fn token_says_why_there_is_none() {
    let home = Home::new();
    let run = home.run(["token"]).fails_with(3, "not_connected");
    assert_eq!(run.out, "");
    home.run(["token", "--json"]).fails_with(3, "not_connected");
    home.run(["token", "--company", "C"]).fails_with(3, "not_connected").complains("company C");
    let home = home.log_in();
    home.expire();
    home.sandbox.revoke(home.location());
    let run = home.run(["token"]).fails_with(3, "needs_person").complains("chooselocation?");
    assert_eq!(run.out, "");
}

#[test]
fn token_asks_which_one_where_there_are_several() {
    let home = Home::with(|settings| settings.extra_locations = 1).sealed().log_in();
    let other = home.sandbox.location_ids()[1].clone();
    let code = home.sandbox.approve_location(&other, ELSEWHERE);
    home.run(["login", "--code", &code]).good();
    home.write(".env", &home.read(".env").replace("GHL_LOCATION_ID=", "# GHL_LOCATION_ID="));
    home.run(["token"]).fails_with(2, "which_one");
    let token = home.run(["token", "--location", &other]).good().out;
    assert_eq!(Some(token.trim_end()), home.sandbox.current_access_token(&other).as_deref());
}

#[test]
fn exec_gives_the_token_to_a_program_and_keeps_our_secrets() {
    let home = Home::connected();
    let settings = home.sandbox.settings().clone();
    let home = home
        .set("GHL_CLIENT_SECRET", &settings.client_secret)
        .set("GHL_AUTHORIZATION_CODE", "0123456789abcdef")
        .set("GHL_AUTH_OLD_KEYS", KEY)
        .set("GHL_CLIENT_ID", &settings.client_id);
    let env = home.run(["exec", "--", "env"]).good().out;
    assert!(env.contains(&format!("GHL_ACCESS_TOKEN={}\n", current(&home))), "{env}");
    assert!(env.contains("GHL_CLIENT_ID="), "what is no secret stays: {env}");
    for secret in [settings.client_secret.as_str(), "0123456789abcdef", KEY] {
        assert!(!env.contains(secret), "{env}");
    }
    assert!(!env.contains("refresh"), "{env}");
}

#[test]
fn exec_hands_the_programs_exit_code_on() {
    let home = Home::connected();
    for code in [0, 1, 7, 200] {
        home.run(["exec", "--", "sh", "-c", &format!("exit {code}")]).ended(code);
    }
    let run = home.run(["exec", "--", "echo", "--json", "a b", "$HOME"]).good();
    assert_eq!(run.out, "--json a b $HOME\n");
    let piped = home.run_with_input(["exec", "--", "cat"], "through and through\n").good();
    assert_eq!(piped.out, "through and through\n");
    home.run(["exec", "--", "no-such-program"]).fails_with(2, "exec").complains("no-such-program");
    let none = Home::new().run(["exec", "--", "echo", "started"]).fails_with(3, "not_connected");
    assert_eq!(none.out, "", "without a token nothing is started");
}

#[test]
fn exec_leaves_the_program_its_own_file_mask() {
    let home = Home::connected();
    let asked = "umask";
    let outside = Command::new("sh").args(["-c", asked]).output().expect("sh is there");
    let inside = home.run(["exec", "--", "sh", "-c", asked]).good().out;
    assert_eq!(inside, String::from_utf8_lossy(&outside.stdout));
}

#[test]
fn status_shows_every_installation() {
    let home = Home::new().sealed();
    home.run(["status"]).good().answers("There is no grant in sqlite:ghl-auth.db yet.");
    let home = home.log_in();
    home.run(["status"]).good().answers("not checked yet").answers("never");
    home.run(["check"]).good();
    let table = home.run(["status"]).good().out;
    assert!(table.contains("operational") && table.contains("valid for 23 h 59 min"), "{table}");
    assert_eq!(home.run(["login", "--code", &home.code(UserType::Company)]).code, 0);
    let json = home.run(["status", "--json"]).good().json();
    let list = json["installations"].as_array().expect("a list");
    assert_eq!(list.len(), 2);
    let location = list.iter().find(|one| one["kind"] == "location").expect("the location");
    assert_eq!(location["id"], home.location());
    assert_eq!((&location["health"], &location["generation"]), (&json!("operational"), &json!(1)));
    assert!(
        location["expires_in"].as_u64().is_some_and(|seconds| (86_000..86_400).contains(&seconds)),
        "{json}"
    );
    assert_eq!(location["last_check"]["health"], "operational");
    assert_eq!(location["error"], json!(null));
    for token in [current(&home), home.sandbox.current_refresh_token(home.location()).expect("alive")] {
        assert!(!json.to_string().contains(&token[40..60]), "{json}");
    }
}

#[test]
fn status_says_what_is_wrong_and_what_to_do() {
    let home = Home::connected();
    home.expire();
    home.sandbox.revoke(home.location());
    home.run(["check"]).ended(3);
    let run = home.run(["status"]).good();
    run.answers("needs a person").answers("expired at ").complains("run `ghl-auth login`");
    let json = home.run(["status", "--json"]).good().json();
    let one = &json["installations"][0];
    assert_eq!((&one["health"], &one["error"]["code"]), (&json!("needs_person"), &json!("needs_person")));
    assert_eq!(one["last_check"]["code"], "needs_person");
}

#[test]
fn refresh_gets_new_tokens_however_fresh_the_old_ones_are() {
    for home in [Home::new(), Home::new().sealed()] {
        let home = home.log_in();
        let before = current(&home);
        home.run(["refresh"]).good().answers(&format!("Refreshed location {}", home.location()));
        assert_ne!(current(&home), before);
        assert_eq!(home.run(["token"]).good().out.trim_end(), current(&home));
        let json = home.run(["refresh", "--json", "--location", home.location()]).good().json();
        let one = &json["installations"][0];
        assert_eq!((&one["refreshed"], &one["generation"]), (&json!(true), &json!(3)));
        assert_eq!(home.sandbox.counts().rotations, 2);
    }
}

#[test]
fn refresh_all_goes_through_every_installation_and_ends_with_the_gravest_trouble() {
    let home = Home::with(|settings| settings.extra_locations = 2).sealed().log_in();
    let ids = home.sandbox.location_ids();
    for id in &ids[1..] {
        let code = home.sandbox.approve_location(id, ELSEWHERE);
        home.run(["login", "--code", &code]).good();
    }
    home.run(["refresh", "--all"]).good();
    assert_eq!(home.sandbox.counts().rotations, 3);
    // Whatever their order in the store: one needs a person, one is suspended, one is well.
    for dead in 0..3 {
        let home = Home::with(|settings| settings.extra_locations = 2).sealed().log_in();
        for id in &ids[1..] {
            let code = home.sandbox.approve_location(id, ELSEWHERE);
            home.run(["login", "--code", &code]).good();
        }
        home.sandbox.revoke(&ids[dead]);
        home.sandbox.suspend(&ids[(dead + 1) % 3]);
        let json = home.run(["refresh", "--all", "--json"]).ended(3).json();
        let list = json["installations"].as_array().expect("a list");
        let of = |id: &String| list.iter().find(|one| one["id"] == **id).expect("each is there");
        assert_eq!(of(&ids[dead])["error"]["code"], "needs_person");
        assert!(of(&ids[dead])["error"]["authorize_url"].is_string());
        assert_eq!(of(&ids[(dead + 1) % 3])["error"]["code"], "suspended");
        assert_eq!(of(&ids[(dead + 2) % 3])["refreshed"], true);
    }
}

#[test]
fn refresh_tells_what_went_wrong() {
    let home = Home::new();
    home.run(["refresh"]).fails_with(3, "not_connected");
    let home = home.log_in();
    home.sandbox.fault(Fault::new(FaultKind::NotActive).on(Matcher::Refresh));
    home.run(["refresh"]).fails_with(1, "suspended");
    home.run(["refresh"]).good();
    home.sandbox.fault(Fault::new(FaultKind::RefusedClient).on(Matcher::Refresh));
    home.run(["refresh"]).fails_with(2, "invalid_client");
    home.sandbox.fault(Fault::new(FaultKind::LoseAnswer).on(Matcher::Refresh));
    home.run(["refresh"]).good();
    home.sandbox.revoke(home.location());
    home.run(["refresh"]).fails_with(3, "needs_person");
}

/// The template's file as Python wrote it, with tokens that the sandbox has just issued.
fn template_file(home: &Home) -> String {
    home.run(["login", "--code", &home.code(UserType::Location)]).good();
    let exported = home.run(["export"]).good().out;
    std::fs::remove_file(home.path("ghl_tokens.json")).expect("it is there");
    exported
}

#[test]
fn export_is_what_the_template_reads_back() {
    for home in [Home::new(), Home::new().sealed()] {
        let home = home.log_in();
        let run = home.run(["export"]).good().complains("Only one program may refresh them");
        let json: Value = serde_json::from_str(&run.out).expect("JSON");
        assert_eq!(json["access_token"], current(&home));
        assert_eq!(
            json["refresh_token"],
            home.sandbox.current_refresh_token(home.location()).expect("alive")
        );
        assert_eq!(json["locationId"], home.location());
        assert_eq!(json["userType"], "Location");
        let mut names: Vec<&str> = json.as_object().expect("members").keys().map(String::as_str).collect();
        names.sort_unstable();
        let expected = [
            "access_token",
            "companyId",
            "expires_in",
            "expiry_timestamp",
            "isBulkInstallation",
            "locationId",
            "refreshTokenId",
            "refresh_token",
            "scope",
            "token_type",
            "userId",
            "userType",
        ];
        assert_eq!(names, expected, "the reply's own members and the expiry");
        home.run(["export", "--output", "out.json"]).good();
        assert_eq!(home.read("out.json"), run.out);
        let meta = std::fs::metadata(home.path("out.json")).expect("it was written");
        assert_eq!(meta.permissions().mode() & 0o777, 0o600);
        home.run(["export", "--output", "out.json"]).fails_with(1, "output");
        assert_eq!(home.read("out.json"), run.out, "nothing is overwritten");
        if is_there("python3") {
            python_agrees(&home);
        }
    }
    Home::new().run(["export"]).fails_with(3, "not_connected");
}

/// The template's own way of asking whether the token has ended.
fn python_agrees(home: &Home) {
    let script = "import json, datetime\n\
        data = json.load(open('out.json'))\n\
        end = datetime.datetime.fromisoformat(data['expiry_timestamp'])\n\
        assert datetime.datetime.now() < end < datetime.datetime.now() + datetime.timedelta(days=1), end\n\
        assert json.loads(json.dumps(data)) == data\n\
        print('as Python has it')";
    let python = Command::new("python3")
        .args(["-c", script])
        .current_dir(home.path("."))
        .env("TZ", "UTC")
        .output()
        .expect("python3 starts");
    let said = String::from_utf8_lossy(&python.stdout) + String::from_utf8_lossy(&python.stderr);
    assert_eq!(said, "as Python has it\n");
}

#[test]
fn import_takes_the_templates_file_whole() {
    let home = Home::new();
    let file = template_file(&home);
    home.write("python.json", &file);
    for home in [home, Home::new().sealed()] {
        home.write("python.json", &file);
        let json = home.run(["import", "python.json", "--json"]).good().json();
        assert_eq!((&json["id"], &json["was_cut_short"]), (&json!(home.location()), &json!(false)));
        let exported: Value = serde_json::from_str(&home.run(["export"]).good().out).expect("JSON");
        let before: Value = serde_json::from_str(&file).expect("JSON");
        assert_eq!(exported["access_token"], before["access_token"]);
        assert_eq!(exported["refresh_token"], before["refresh_token"]);
        assert_eq!(exported["expiry_timestamp"], before["expiry_timestamp"]);
    }
}

#[test]
fn import_takes_a_file_that_the_template_cut_short() {
    let home = Home::new();
    let file = template_file(&home);
    let cut = file.split_once("\"expiry_timestamp\": ").map(|(before, _)| before).expect("it is the last");
    home.write("cut.json", &format!("{cut}\"expiry_timestamp\": "));
    home.run(["import", "cut.json"]).good().complains("was cut short").answers("Imported location ");
    home.run(["check"]).good();
    home.run(["refresh"]).good();
}

#[test]
fn import_does_not_replace_another_grant_unasked() {
    for home in [Home::new(), Home::new().sealed()] {
        let home = home.log_in();
        home.write("old.json", &home.run(["export"]).good().out);
        home.run(["import", "old.json"]).good();
        home.run(["refresh"]).good();
        let newer = home.run(["token"]).good().out;
        home.run(["import", "old.json"]).fails_with(2, "import_present").complains("--replace");
        home.run(["import", "old.json", "--json"]).fails_with(2, "import_present");
        assert_eq!(home.run(["token"]).good().out, newer);
        home.run(["import", "old.json", "--replace"]).good();
        assert_ne!(home.run(["token"]).good().out, newer);
    }
}

#[test]
fn import_says_what_is_wrong_with_a_file() {
    let home = Home::new();
    home.write("empty.json", "");
    home.write("list.json", "[]");
    home.write("half.json", r#"{"access_token": "eyJ", "refresh_tok"#);
    home.write("other.json", r#"{"access_token": "a", "refresh_token": "r"}"#);
    for (lang, complaints) in [
        ("en", ["it is empty", "it is no JSON object", "it ends in the middle", "No such file"]),
        ("pt-BR", ["está vazio", "não é um objeto JSON", "termina no meio", "No such file"]),
    ] {
        let home = Home::new().set("GHL_AUTH_LANG", lang);
        home.write("empty.json", "");
        home.write("list.json", "[]");
        home.write("half.json", r#"{"access_token": "eyJ", "refresh_tok"#);
        for (file, complaint) in
            ["empty.json", "list.json", "half.json", "absent.json"].iter().zip(complaints)
        {
            home.run(["import", file]).fails_with(2, "import_unreadable").complains(complaint);
        }
        home.run(["import", "empty.json", "--json"]).fails_with(2, "import_unreadable");
    }
    home.write(".env", &home.read(".env").replace("GHL_LOCATION_ID=", "# GHL_LOCATION_ID="));
    home.run(["import", "other.json"])
        .fails_with(2, "import_unreadable")
        .complains("neither a location nor a company");
}

#[test]
fn a_store_that_cannot_be_used_is_named() {
    let home = Home::new();
    std::fs::create_dir(home.path("ghl_tokens.json")).expect("the folder is ours");
    home.run(["check"]).fails_with(2, "store_is_folder").complains("touch ");
    home.run(["check", "--json"]).fails_with(2, "store_is_folder");

    let home = Home::new().sealed().log_in();
    let wrong = home.set("GHL_AUTH_KEY", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=");
    wrong.run(["check"]).fails_with(2, "wrong_key").complains("Nothing was changed.");
    wrong.run(["login", "--code", &wrong.code(UserType::Location)]).fails_with(2, "wrong_key");
    let both = wrong.set("GHL_AUTH_OLD_KEYS", KEY);
    both.run(["check"]).good();

    let home = Home::new().set("GHL_STORE", "file:no/such/folder/tokens.json");
    home.run(["token"]).ended(4);
    let home = Home::new();
    home.write("ghl_tokens.json", "this is no token file");
    home.run(["check"]).fails_with(3, "store_unreadable");
    mode(&home.path("ghl_tokens.json"), 0o600);

    let home = Home::connected().set("GHL_AUTH_KEY", KEY);
    home.run(["check"]).good();
    assert!(home.read("ghl_tokens.json").contains("ghl_auth_sealed"));
    home.set("GHL_AUTH_KEY", "").run(["check"]).fails_with(2, "key_missing");
}

#[test]
fn the_table_looks_like_this() {
    for lang in ["en", "pt-BR"] {
        let home = Home::connected().set("GHL_AUTH_LANG", lang);
        home.expire();
        snapshot(&format!("status-{lang}"), &home.stable(&home.run(["status"]).good().out));
    }
}
