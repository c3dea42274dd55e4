//! Without a terminal: every answer by an option, and an `.env` that stays its owner's.

use std::os::unix::fs::PermissionsExt;

use sandbox::UserType;

use crate::support::{ELSEWHERE, Home};
use crate::{SCOPES, newcomer, value, with_a_crontab};

/// The options of everything that has to be known.
fn options(home: &Home) -> Vec<String> {
    let settings = home.sandbox.settings();
    let secret = home.write("secret.txt", &format!("{}\n", settings.client_secret));
    let secret = secret.display().to_string();
    [
        "init",
        "--client-id",
        &settings.client_id,
        "--client-secret-file",
        &secret,
        "--redirect-uri",
        ELSEWHERE,
        "--location",
        &settings.location_id,
    ]
    .map(str::to_owned)
    .to_vec()
}

fn with_code(home: &Home, more: &[&str]) -> Vec<String> {
    let code = home.sandbox.approve(ELSEWHERE, None, UserType::Location);
    let mut options = options(home);
    options.extend(["--code".to_owned(), code]);
    options.extend(more.iter().map(|&option| option.to_owned()));
    options
}

#[test]
fn with_an_option_for_every_answer_nobody_is_asked() {
    let (home, _log) = with_a_crontab(newcomer());
    home.sandbox.set_scopes(SCOPES);
    let more = [
        "--lang",
        "pt-BR",
        "--store",
        "sqlite:tokens.db",
        "--service-name",
        "NOITE",
        "--contact-email",
        "ana@exemplo.com.br",
        "--tag",
        "Status:Noite",
        "--schedule",
        "cron",
        "--every",
        "8",
    ];
    let run = home.run(with_code(&home, &more)).good();
    let run = run.answers("Microserviço operacional").complains("Criado: o contato ");
    let run = run.complains("A tag Status:Noite foi criada").complains("agora é NOITE");
    assert!(!run.out.contains(&home.sandbox.settings().client_secret));
    assert!(!run.err.contains(&home.sandbox.settings().client_secret));
    assert!(home.read("crontab.txt").contains("0 */8 * * *"));
    let env = home.read(".env");
    assert_eq!(value(&env, "GHL_CLIENT_SECRET").as_ref(), Some(&home.sandbox.settings().client_secret));
    assert_eq!(value(&env, "RUN_INTERVAL_HOURS").as_deref(), Some("8"));

    // Once more: what is there is found, and nothing changes.
    let again = home.run(["init", "--yes", "--contact-email", "ana@exemplo.com.br"]).good();
    again.complains("é o contato").complains("A tag Status:Noite já existe");
    assert_eq!(home.read(".env"), env);
    home.run(["status"]).good();
}

#[test]
fn an_env_that_is_there_keeps_its_comments_its_order_and_what_init_does_not_know() {
    let home = newcomer();
    let example = include_str!("../../../../.env.example");
    let before = format!("{example}\r\nMY_OWN=\"x\" # not ours\nGHL_NOTIFY_EMAIL_TO=me@example.com\n");
    let path = home.write(".env", &before);
    crate::support::mode(&path, 0o644);
    let contact = home.sandbox.settings().contact_id.clone();
    home.run(with_code(&home, &["--contact", &contact])).good().answers("operational");
    let after = home.read(".env");
    let set = ["GHL_CLIENT_ID", "GHL_CLIENT_SECRET", "GHL_LOCATION_ID", "GHL_HEALTH_CHECK_CONTACT_ID"];
    let new = ["GHL_AUTH_LANG", "GHL_STORE", "GHL_AUTH_KEY"];
    let mut lines = after.split_inclusive('\n');
    for line in before.split_inclusive('\n') {
        let mut now = lines.next().expect("no line is lost");
        while new.iter().any(|name| now.starts_with(&format!("{name}="))) {
            now = lines.next().expect("no line is lost");
        }
        let name = line.split('=').next().unwrap_or_default();
        if set.contains(&name) {
            assert!(now.starts_with(&format!("{name}=\"")), "{now}");
        } else if name == "GHL_REDIRECT_URI" {
            assert_eq!(now, format!("GHL_REDIRECT_URI=\"{ELSEWHERE}\" # Ex: https://google.com/\n"));
        } else {
            assert_eq!(now, line);
        }
    }
    let mode = std::fs::metadata(path).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it holds secrets");
}

#[test]
fn what_is_missing_is_told_at_once() {
    let home = newcomer();
    let run = home.run(["init", "--yes", "--redirect-uri", ELSEWHERE]).fails_with(2, "init_missing");
    run.complains("--client-id, --client-secret-file, --location");
}

#[test]
fn an_option_that_can_not_be_used_is_explained() {
    let home = newcomer();
    let run = |options: &[&str], words: &str| {
        home.run([&["init"], options].concat()).fails_with(2, "init_answer").complains(words);
    };
    let settings = home.sandbox.settings();
    let secret = home.write("secret.txt", &settings.client_secret).display().to_string();
    let rest = ["--client-secret-file", &secret, "--redirect-uri", ELSEWHERE, "--location"];
    run(&[&["--client-id", "x"], &rest[..], &[&settings.location_id]].concat(), "--client-id can't be used");
    let id = ["--client-id", settings.client_id.as_str()];
    run(&[&id[..], &rest[..], &["Jardins"]].concat(), "--location can't be used");
    let there = [&id[..], &rest[..], &[&settings.location_id]].concat();
    run(&[&there[..], &["--store", "mysql:x"]].concat(), "--store can't be used");
    assert!(!home.path("ghl-auth.db").exists());
}

#[test]
fn where_a_person_has_to_consent_the_link_is_shown_and_a_code_goes_on() {
    let home = newcomer();
    let run = home.run(options(&home)).fails_with(3, "init_login");
    run.complains("/v2/oauth/chooselocation?response_type=code&client_id=");
    let code = home.sandbox.approve(ELSEWHERE, None, UserType::Location);
    let run = home.run(["init", "--yes", "--code", &code]).good();
    run.answers("Read-only check").complains("Nothing repeats the check yet");
}

#[test]
fn tokens_that_are_here_already_are_used() {
    let home = Home::connected();
    let before = home.sandbox.counts().exchanges;
    home.run(["init", "--yes"]).good().answers("operational");
    assert_eq!(home.sandbox.counts().exchanges, before, "nobody had to consent again");
    assert!(home.read(".env").contains("GHL_STORE=\"file:ghl_tokens.json\""));
}

#[test]
fn what_the_environment_says_otherwise_is_told() {
    let home = newcomer().set("GHL_AUTH_LANG", "en");
    let run = home.run([options(&home), vec!["--lang".into(), "pt-BR".into()]].concat());
    run.complains("GHL_AUTH_LANG is also set in the environment");
}

#[test]
fn what_is_set_up_by_hand_is_left_alone() {
    let home = newcomer().set("GHL_PRIVATE_TOKEN", "pit-00000000-0000-4000-8000-000000000000");
    home.run(["init", "--yes"]).fails_with(2, "init_by_hand").complains("GHL_PRIVATE_TOKEN");
    assert!(!home.path(".env").exists());
}

#[test]
fn a_file_of_settings_somewhere_else_is_begun_there() {
    let home = newcomer();
    let path = home.path("settings");
    let arguments = [vec!["--env-file".to_owned(), path.display().to_string()], options(&home)].concat();
    home.run(arguments).fails_with(3, "init_login");
    assert!(home.read("settings").contains("GHL_LOCATION_ID="));
    assert!(!home.path(".env").exists());
}

#[test]
fn a_secret_that_stays_in_a_file_of_its_own_is_not_copied() {
    let home = newcomer();
    let secret = home.write("secret.txt", &home.sandbox.settings().client_secret).display().to_string();
    home.write(".env", &format!("GHL_CLIENT_SECRET_FILE={secret}\n"));
    let settings = home.sandbox.settings();
    let (id, location) = (&settings.client_id, &settings.location_id);
    let options = ["init", "--client-id", id, "--redirect-uri", ELSEWHERE, "--location", location];
    home.run(options).fails_with(3, "init_login");
    let env = home.read(".env");
    assert!(env.contains(&format!("GHL_CLIENT_SECRET_FILE={secret}\n")), "{env}");
    assert!(!env.contains(&settings.client_secret), "{env}");
}

#[test]
fn a_link_to_the_settings_stays_a_link() {
    let home = newcomer();
    let kept = home.write("kept.env", "# mine\n");
    std::os::unix::fs::symlink(&kept, home.path(".env")).expect("a link");
    home.run(options(&home)).fails_with(3, "init_login");
    assert!(std::fs::symlink_metadata(home.path(".env")).expect("it is there").is_symlink());
    let env = home.read("kept.env");
    assert!(env.starts_with("# mine\n") && env.contains("GHL_LOCATION_ID="), "{env}");
}

#[test]
fn a_folder_that_can_not_be_written_is_named() {
    let home = newcomer();
    std::fs::create_dir(home.path("settings.env")).expect("a folder");
    let path = home.path("settings.env").join("no").join(".env").display().to_string();
    let run = home.run([vec!["--env-file".to_owned(), path], options(&home)].concat());
    run.fails_with(2, "init_unwritten");
}
