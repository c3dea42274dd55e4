//! Settings: where they come from, and one error for all that is wrong with them.

use crate::support::{Home, KEY, mode, snapshot};

/// A user who got nearly everything wrong.
fn confused(lang: &str) -> Home {
    let home = Home::empty();
    let base = home.sandbox.base_url();
    let mut home = home.set("GHL_AUTH_LANG", lang).set("GHL_API_BASE_URL", &base);
    for (name, value) in [
        ("GHL_CLIENT_SECRET", " , "),
        ("GHL_REDIRECT_URI", "nowhere"),
        ("GHL_LOCATION_ID", "a b"),
        ("GHL_HEALTH_CHECK_CONTACT_ID", "../x"),
        ("RUN_INTERVAL_HOURS", "12.5"),
        ("GHL_STORE", "redis:somewhere"),
        ("GHL_AUTH_KEY", "c2hvcnQ="),
        ("GHL_AUTH_OLD_KEYS", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=,nonsense!"),
        ("GHL_AUTHORIZE_URL", "http://example.com/consent"),
        ("GHL_API_VERSION", "v4"),
        ("GHL_USER_TYPE", "Agency"),
    ] {
        home = home.set(name, value);
    }
    home
}

#[test]
fn every_faulty_variable_is_in_one_error_and_nothing_was_contacted() {
    for lang in ["en", "pt-BR"] {
        let home = confused(lang);
        let run = home.run(["check"]).ended(2);
        assert_eq!(run.out, "");
        snapshot(&format!("faulty-settings-{lang}"), &home.stable(&run.err));
        assert_eq!(home.sandbox.counts().requests, 0);
    }
}

#[test]
fn programs_get_the_same_error_as_one_document() {
    let home = confused("en");
    for command in [&["check", "--json"][..], &["login", "--json"], &["refresh", "--json"]] {
        let error = home.run(command).fails_with(2, "configuration").json();
        assert_eq!(error["outcome"], "error", "{error}");
        let detail = error["error"]["detail"].as_str().expect("a sentence");
        for name in ["GHL_CLIENT_ID", "GHL_CLIENT_SECRET", "GHL_REDIRECT_URI", "GHL_LOCATION_ID", "GHL_STORE"]
        {
            assert!(detail.contains(&format!("{name}: ")), "{command:?}: {name} in {detail}");
        }
    }
    assert_eq!(home.sandbox.counts().requests, 0);
}

#[test]
fn the_environment_goes_before_the_env_file() {
    let home = Home::connected();
    let speaker = |home: &Home, arguments: &[&str]| {
        home.run(arguments).good().json()["microservice"].as_str().expect("a name").to_owned()
    };
    assert_eq!(speaker(&home, &["check", "--json"]), "AuthServicePadrao");
    let other = home.read(".env").replace("AuthServicePadrao", "JARDINS-IMOB");
    home.write("other.env", &other);
    assert_eq!(speaker(&home, &["--env-file", "other.env", "check", "--json"]), "JARDINS-IMOB");
    assert_eq!(speaker(&home, &["check", "--json", "--env-file", "other.env"]), "JARDINS-IMOB");
    let home = home.set("MICROSERVICE_NAME", "From the process");
    assert_eq!(speaker(&home, &["--env-file", "other.env", "check", "--json"]), "From the process");
}

#[test]
fn a_secret_may_be_in_a_file_of_its_owner_and_of_nobody_else() {
    let home = Home::new();
    let secret = home.sandbox.settings().client_secret.clone();
    home.write(".env", &home.read(".env").replace("GHL_CLIENT_SECRET=", "# GHL_CLIENT_SECRET="));
    let file = home.write("secret", &format!("{secret}\n"));
    let home = home.set("GHL_CLIENT_SECRET_FILE", "secret").log_in();
    for shared in [0o644, 0o640, 0o604] {
        mode(&file, shared);
        let refused = home.run(["refresh"]).fails_with(2, "configuration");
        let shown =
            format!("GHL_CLIENT_SECRET: secret, which holds it, can be read by others (mode {shared:04o})");
        refused.complains(&shown).complains("chmod 600 secret");
    }
    mode(&file, 0o600);
    home.run(["refresh"]).good();
    let home = home.set("GHL_CLIENT_SECRET_FILE", "missing");
    home.run(["refresh"]).fails_with(2, "configuration").complains("missing, which holds it, can't be read");
}

#[test]
fn a_secret_file_that_cannot_be_used_is_the_only_thing_complained_about() {
    let home = Home::empty().set("GHL_PRIVATE_TOKEN_FILE", "missing").set("GHL_LOCATION_ID", "here");
    let run = home.run(["check"]).fails_with(2, "configuration");
    assert!(!run.err.contains("GHL_CLIENT_ID"), "{}", run.err);
    let home = Home::new().set("GHL_AUTHORIZATION_CODE_FILE", "missing").set("RUN_INTERVAL_HOURS", "never");
    let run = home.run(["check"]).fails_with(2, "configuration");
    run.complains("GHL_AUTHORIZATION_CODE: missing").complains("RUN_INTERVAL_HOURS: `never`");
}

#[test]
fn what_docker_passes_on_literally_is_cleaned_with_one_warning() {
    let home = Home::new();
    let secret = home.sandbox.settings().client_secret.clone();
    let location = home.location().to_owned();
    let home = home
        .set("GHL_CLIENT_SECRET", &format!("\"{secret}\""))
        .set("GHL_LOCATION_ID", &format!("'{location}' # a sub-account"))
        .set("RUN_INTERVAL_HOURS", "12 # hours")
        .set("GHL_AUTHORIZATION_CODE", "\"\"")
        .log_in();
    let run = home.run(["check"]).good();
    let warnings: Vec<&str> = run.err.lines().filter(|line| line.contains("docker")).collect();
    let names = "GHL_AUTHORIZATION_CODE, GHL_CLIENT_SECRET, GHL_LOCATION_ID, RUN_INTERVAL_HOURS";
    assert!(matches!(warnings.as_slice(), [one] if one.contains(names)), "{}", run.err);
    assert!(!run.err.contains(&secret), "{}", run.err);
}

#[test]
fn an_env_file_that_others_can_read_is_named_with_the_cure() {
    let home = Home::connected();
    assert_eq!(home.run(["status"]).good().err, "");
    for command in ["check", "token", "status", "refresh", "export"] {
        mode(&home.path(".env"), 0o644);
        let run = home.run([command]).good();
        run.complains("Others on this machine can read .env").complains("chmod 600 .env");
    }
    mode(&home.path(".env"), 0o600);
    assert_eq!(home.run(["status"]).good().err, "");
}

#[test]
fn a_line_that_is_no_assignment_is_named_and_skipped() {
    let home = Home::connected();
    home.write(".env", &format!("so much for today\n{}", home.read(".env")));
    home.run(["check"]).good().complains(".env, line 1 ");
}

#[test]
fn an_empty_value_counts_as_unset() {
    let home = Home::connected();
    let env = home.read(".env").replace("GHL_LOCATION_ID=", "GHL_LOCATION_ID=\"\" #");
    home.write(
        ".env",
        &format!("{env}\nGHL_AUTHORIZATION_CODE=\nGHL_PRIVATE_TOKEN=''\nGHL_AUTH_KEY= # none\n"),
    );
    let run = home.run(["check"]).fails_with(2, "configuration");
    run.complains("One setting is wrong").complains("GHL_LOCATION_ID: it is not set.");
    // Only the check refuses to guess; there is but one location to mean.
    home.run(["token"]).good();
}

#[test]
fn an_env_file_that_was_named_has_to_be_there() {
    for (lang, words) in [("en", "absent.env can't be read"), ("pt-BR", "absent.env não pode ser lido")] {
        let home = Home::empty().set("GHL_AUTH_LANG", lang);
        home.run(["--env-file", "absent.env", "check"]).fails_with(2, "env_file").complains(words);
        home.run(["--env-file", "absent.env", "check", "--json"]).fails_with(2, "env_file");
    }
}

#[test]
fn a_key_has_32_bytes_that_differ() {
    for (key, complaint) in [
        ("my password!", "it is not base64"),
        ("c2hvcnQ=", "the length of this one is 5"),
        ("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "all its bytes are equal"),
    ] {
        let home = Home::new().set("GHL_AUTH_KEY", key);
        let run = home.run(["check"]).fails_with(2, "configuration").complains(complaint);
        assert!(!run.err.contains(key), "a key that is nearly right is nearly a secret: {}", run.err);
    }
    let home = Home::new().set("GHL_STORE", "sqlite:x.db");
    home.run(["status"]).fails_with(2, "configuration").complains("GHL_AUTH_KEY: it is not set.");
    home.set("GHL_AUTH_KEY", KEY).run(["status"]).good();
}

#[test]
fn an_address_is_https_or_on_this_machine() {
    for (name, value, complaint) in [
        ("GHL_API_BASE_URL", "http://example.com", "http is for loopback only"),
        ("GHL_API_BASE_URL", "services.leadconnectorhq.com", "it is no URL with a host"),
        ("GHL_API_BASE_URL", "https://me:secret@example.com", "nothing but scheme, host, port and path"),
        ("GHL_AUTHORIZE_URL", "http://example.com/v2/oauth/chooselocation", "http is for loopback only"),
        ("GHL_REDIRECT_URI", "example.com/callback", "no address with a scheme and a host"),
        ("GHL_STORE", "file:", "no path after the colon"),
        ("GHL_STORE", "postgres://me:secret@db.example/tokens", "sslmode=verify-full"),
    ] {
        let home = Home::new().set(name, value);
        let run = home.run(["check"]).fails_with(2, "configuration").complains(complaint);
        assert!(run.err.contains("One setting is wrong"), "{name}={value}: {}", run.err);
        assert!(!run.err.contains("me:secret"), "{}", run.err);
    }
}

#[test]
fn the_language_comes_from_our_variable_or_from_the_systems() {
    let words = |home: Home| home.run(["status"]).good().out;
    let (english, portuguese) = ("There is no grant", "Ainda não há autorização");
    assert!(words(Home::new()).starts_with(english));
    assert!(words(Home::new().set("LANG", "pt_BR.UTF-8")).starts_with(portuguese));
    assert!(words(Home::new().set("LANG", "pt_BR.UTF-8").set("LC_ALL", "C")).starts_with(english));
    assert!(words(Home::new().set("LANG", "C").set("GHL_AUTH_LANG", "pt-BR")).starts_with(portuguese));
    let home = Home::new();
    home.write(".env", &format!("{}\nGHL_AUTH_LANG=pt-BR\n", home.read(".env")));
    assert!(words(home).starts_with(portuguese));
}

#[test]
fn a_language_a_log_and_a_form_that_do_not_exist_are_named() {
    let home = Home::new()
        .set("GHL_AUTH_LANG", "klingon")
        .set("GHL_AUTH_LOG", "a=b=c")
        .set("GHL_AUTH_LOG_FORMAT", "xml");
    let run = home.run(["status"]).fails_with(2, "configuration");
    for name in ["GHL_AUTH_LANG", "GHL_AUTH_LOG", "GHL_AUTH_LOG_FORMAT"] {
        assert!(run.err.contains(&format!("{name}: `")), "{name}: {}", run.err);
    }
}

#[test]
fn a_private_token_has_nothing_to_refresh() {
    let home = Home::new().set("GHL_PRIVATE_TOKEN", "pit-00000000-0000-4000-8000-000000000000");
    home.run(["refresh"]).fails_with(2, "nothing_to_refresh");
}
