//! A table of faults: how each is planted, what the doctor says of it, and a word of the cure.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use sandbox::{Fault as Trouble, FaultKind};

use crate::patient::{
    after_the_workflow, change_tokens, examined, healthy, healthy_in_sqlite, healthy_with, new_with,
    schedule, write_crontab, wrong,
};
use crate::support::{BINARY, HOUR, Home, KEY, free_port, mode};

/// Another key than the usual one.
const NEW_KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// A fault, as someone comes to have it.
struct Fault {
    code: &'static str,
    level: &'static str,
    /// How the command ends.
    exit: i32,
    /// A word of the cure.
    cure: &'static str,
    plant: fn() -> Home,
}

const fn warning(code: &'static str, cure: &'static str, plant: fn() -> Home) -> Fault {
    Fault { code, level: "warning", exit: 0, cure, plant }
}

const fn failure(code: &'static str, exit: i32, cure: &'static str, plant: fn() -> Home) -> Fault {
    Fault { code, level: "failure", exit, cure, plant }
}

const SETTINGS: &[Fault] = &[
    failure("configuration", 2, "Correct GHL_CLIENT_SECRET", || {
        let home = healthy();
        without(&home, "GHL_CLIENT_SECRET");
        home
    }),
    failure("configuration", 2, "Correct GHL_STORE", || healthy().set("GHL_STORE", "mysql:tokens")),
    failure("configuration", 2, "Correct GHL_LOCATION_ID", || {
        let home = healthy();
        without(&home, "GHL_LOCATION_ID");
        home
    }),
    failure("location_unnamed", 2, "Business Profile", || {
        let home = healthy();
        for name in ["GHL_LOCATION_ID", "GHL_HEALTH_CHECK_CONTACT_ID", "GHL_HEALTH_CHECK_TAG_NAME"] {
            without(&home, name);
        }
        home
    }),
    failure("placeholder", 2, "app's own values", || healthy().set("GHL_CLIENT_SECRET", "SEU_CLIENT_SECRET")),
    warning("client_id_shape", "whole client ID", || {
        let home = healthy();
        let id = home.sandbox.settings().client_id.clone();
        home.set("GHL_CLIENT_ID", id.split('-').next().expect("a part"))
    }),
    warning("env_lines", "NAME=value", || {
        let home = healthy();
        home.write(".env", &format!("{}\nthis is no setting\n", home.read(".env")));
        home
    }),
    warning("cleaned", "without quotes", || healthy().set("MICROSERVICE_NAME", "\"JARDINS\"")),
    warning("env_mode", "chmod 600", || {
        let home = healthy();
        mode(&home.path(".env"), 0o644);
        home
    }),
    warning("store_mode", "chmod 600", || {
        let home = healthy();
        mode(&home.path("ghl_tokens.json"), 0o644);
        home
    }),
    warning("folder_open", "chmod go-w", || {
        let home = healthy();
        mode(&home.path(""), 0o777);
        home
    }),
];

const STORES: &[Fault] = &[
    failure("wrong_key", 2, "Set the key", || healthy_in_sqlite().set("GHL_AUTH_KEY", NEW_KEY)),
    failure("key_missing", 2, "GHL_AUTH_KEY", || {
        let home = new_with(|_| {}).set("GHL_AUTH_KEY", KEY).log_in();
        home.set("GHL_AUTH_KEY", "")
    }),
    warning("old_keys_idle", "Take GHL_AUTH_OLD_KEYS out", || {
        healthy_in_sqlite().set("GHL_AUTH_OLD_KEYS", NEW_KEY)
    }),
    warning("old_keys_needed", "ghl-auth rotate-key", || {
        healthy_in_sqlite().set("GHL_AUTH_KEY", NEW_KEY).set("GHL_AUTH_OLD_KEYS", KEY)
    }),
    failure("store_missing", 3, "ghl-auth login", || new_with(|_| {})),
    failure("store_is_folder", 2, "", || {
        let home = new_with(|_| {});
        std::fs::create_dir(home.path("ghl_tokens.json")).expect("the folder is ours");
        home
    }),
    failure("store_unreadable", 3, "ghl-auth login", || {
        let home = healthy();
        home.write("ghl_tokens.json", "no tokens at all");
        home
    }),
    failure("store_too_new", 2, "", || {
        let home = healthy_in_sqlite();
        let database = rusqlite::Connection::open(home.path("ghl-auth.db")).expect("a database");
        database.pragma_update(None, "user_version", 999).expect("it is ours");
        home
    }),
    warning("standby", "--take-over", || {
        let home = healthy_in_sqlite();
        home.run(["migrate", "--from", "sqlite:ghl-auth.db", "--to", "sqlite:new.db"]).good();
        home
    }),
];

const WAYS: &[Fault] = &[
    failure("dns", 4, "/etc/resolv.conf", || healthy().set("GHL_API_BASE_URL", "https://nowhere.invalid")),
    failure("no_sandbox", 4, "ghl-auth sandbox", || {
        healthy().set("GHL_API_BASE_URL", &format!("http://127.0.0.1:{}", free_port()))
    }),
    failure("tls", 4, "SSL_CERT_FILE", || {
        let home = healthy();
        let address = home.sandbox.base_url().replace("http:", "https:");
        home.set("GHL_API_BASE_URL", &address)
    }),
    failure("tls", 4, "SSL_CERT_FILE", || {
        let home = healthy();
        let address = certified(&home, 2100);
        home.set("GHL_API_BASE_URL", &address)
    }),
    failure("tls_time", 4, "date -u", || {
        let home = healthy();
        let address = certified(&home, 2020);
        let trusted = home.path("tls.crt").display().to_string();
        home.set("GHL_API_BASE_URL", &address).set("SSL_CERT_FILE", &trusted)
    }),
    failure("silent", 4, "proxy", || healthy().set("GHL_API_BASE_URL", &answering(""))),
    failure("highlevel_down", 4, "Wait", || {
        let home = healthy();
        home.sandbox.fault(Trouble::new(FaultKind::status(503, "")).until_cleared());
        home
    }),
    failure("clock_ahead", 1, "timedatectl", || {
        healthy().set("GHL_API_BASE_URL", &dated("Tue, 24 Nov 2020 08:12:31 GMT"))
    }),
    failure("clock_behind", 1, "timedatectl", || {
        healthy().set("GHL_API_BASE_URL", &dated("Wed, 24 Nov 2100 08:12:31 GMT"))
    }),
];

const GRANTS: &[Fault] = &[
    failure("another_program", 3, "old Python script", || {
        let home = healthy();
        home.sandbox.revoke(home.location());
        home.run(["refresh"]).ended(3);
        home
    }),
    failure("suspended", 1, "Reactivate", || {
        let home = healthy();
        home.sandbox.suspend(home.location());
        home.run(["refresh"]).ended(1);
        home
    }),
    warning("check_failed", "ghl-auth check", || {
        let home = healthy();
        home.sandbox.set_client_secret("00000000-0000-4000-8000-000000000000");
        home.age(20 * HOUR, 20 * HOUR);
        home.run(["check"]).good();
        after_the_workflow(&home);
        home
    }),
    warning("written_elsewhere", "out of every crontab", || {
        let home = healthy();
        change_tokens(&home, |file| drop(file.as_object_mut().expect("an object").remove("ghl_auth")));
        home
    }),
    warning("flight_left", "ghl-auth check", || {
        let home = healthy();
        change_tokens(&home, |file| {
            let installation = &mut file["ghl_auth"]["installation"];
            let since = installation["issued_at"].as_i64().expect("an instant") - 3_600_000;
            installation["intent"] = serde_json::json!({ "since": since });
        });
        home
    }),
    failure("token_ended", 1, "ghl-auth check", || {
        let home = healthy();
        home.expire();
        home
    }),
    failure("another_location", 2, "GHL_LOCATION_ID", || {
        healthy().set("GHL_LOCATION_ID", "AbCdEfGhIjKlMnOpQrSt")
    }),
    failure("claims_app", 2, "GHL_CLIENT_ID", || {
        healthy().set("GHL_CLIENT_ID", "0123456789abcdef01234567-abcd1234")
    }),
    warning("scopes_wanted", "ghl-auth login", || {
        healthy().set("GHL_SCOPES", "contacts.readonly contacts.write locations.readonly calendars.readonly")
    }),
    Fault {
        exit: 1,
        ..warning("scopes_needed", "Tick them", || {
            let home = new_with(|_| {});
            home.sandbox.set_scopes(["contacts.readonly"]);
            home.log_in()
        })
    },
    failure("scope_missing", 1, "", || {
        let home = new_with(|_| {});
        home.sandbox.set_scopes(["contacts.readonly"]);
        home.log_in()
    }),
    failure("token_refused", 1, "", || {
        let home = healthy();
        home.sandbox.revoke_access_tokens(home.location());
        home
    }),
    failure("contact_not_found", 1, "GHL_HEALTH_CHECK_CONTACT_ID", || {
        healthy().set("GHL_HEALTH_CHECK_CONTACT_ID", "AbCdEfGhIjKlMnOpQrSt")
    }),
    warning("tag_left", "Remove Contact Tag", || {
        healthy_with(|settings| settings.workflow_removes_tag_after = None)
    }),
];

const SURROUNDINGS: &[Fault] = &[
    warning("schedule_none", "ghl-auth schedule install", || {
        let home = healthy();
        std::fs::remove_file(home.path("crontab")).expect("it is there");
        home
    }),
    warning("schedule_differs", "ghl-auth schedule install", || healthy().set("RUN_INTERVAL_HOURS", "6")),
    failure("schedule_late", 1, "systemctl status cron", || {
        let home = healthy_in_sqlite();
        let database = rusqlite::Connection::open(home.path("ghl-auth.db")).expect("a database");
        let by = i64::try_from((20 * HOUR).as_millis()).expect("short");
        let changed = database.execute("UPDATE installations SET checked_at = checked_at - ?", [by]);
        assert_eq!(changed.expect("it is ours"), 1);
        home
    }),
    warning("schedule_others", "crontab -e", || {
        let home = healthy();
        let entry = home.read("crontab");
        write_crontab(&home, &format!("0 * * * * /opt/run_ghl_check.sh\n{entry}"));
        home
    }),
    failure("cron_program", 1, "ghl-auth schedule install", || {
        let home = healthy();
        schedule(&home, 12, "/opt/no/such/ghl-auth", "ghl_auth_check.log");
        home
    }),
    failure("cron_log", 1, "touch", || {
        let home = healthy();
        schedule(&home, 12, BINARY, "no/such/folder/check.log");
        home
    }),
    warning("port_taken", "ss -ltnp", || {
        healthy().set("GHL_AUTH_LISTEN", answering("").trim_start_matches("http://"))
    }),
    warning("port_not_here", "127.0.0.1", || healthy().set("GHL_AUTH_PUBLIC_LISTEN", "192.0.2.1:8080")),
    warning("notices_none", "GHL_NOTIFY_EMAIL_TO", || {
        let home = healthy();
        without(&home, "GHL_HEALTH_CHECK_CONTACT_ID");
        without(&home, "GHL_HEALTH_CHECK_TAG_NAME");
        home
    }),
    failure("notice_lost", 1, "ghl-auth notify --test", || {
        healthy()
            .set("GHL_NOTIFY_ALLOW_PRIVATE", "true")
            .set("GHL_NOTIFY_SLACK_URL", &format!("http://127.0.0.1:{}/services/x", free_port()))
    }),
];

#[test]
fn each_fault_of_the_settings_is_found_with_its_cure() {
    find_each(SETTINGS);
}

#[test]
fn each_fault_of_the_store_is_found_with_its_cure() {
    find_each(STORES);
}

#[test]
fn each_fault_on_the_way_to_highlevel_is_found_with_its_cure() {
    find_each(WAYS);
}

#[test]
fn each_fault_of_the_grant_is_found_with_its_cure() {
    find_each(GRANTS);
}

#[test]
fn each_fault_around_it_is_found_with_its_cure() {
    find_each(SURROUNDINGS);
}

#[track_caller]
fn find_each(faults: &[Fault]) {
    let missed: Vec<String> = faults.iter().filter_map(missed).collect();
    assert!(missed.is_empty(), "{}", missed.join("\n\n"));
}

/// What the doctor did not see of a fault.
fn missed(fault: &Fault) -> Option<String> {
    let home = (fault.plant)();
    let (run, document) = examined(&home);
    let is_it = |finding: &&serde_json::Value| {
        let action = finding["action"].as_str().unwrap_or_default();
        finding["code"] == fault.code && finding["level"] == fault.level && action.contains(fault.cure)
    };
    let found = wrong(&document).into_iter().find(is_it);
    let good = found.is_some_and(|it| !it["action"].as_str().unwrap_or_default().is_empty());
    (!good || run.code != fault.exit)
        .then(|| format!("{} ended with {}:\n{document:#}\n{}", fault.code, run.code, run.err))
}

/// Takes a setting out of `.env`.
fn without(home: &Home, name: &str) {
    let settings = home.read(".env");
    let others: Vec<&str> = settings.lines().filter(|line| !line.starts_with(&format!("{name}="))).collect();
    assert!(others.len() < settings.lines().count(), "{name} was set");
    home.write(".env", &others.join("\n"));
}

/// Someone who gives everybody the same answer, or none.
fn answering(answer: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = format!("http://{}", listener.local_addr().expect("it has one"));
    let answer = answer.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut bytes = [0; 8192];
            if matches!(stream.read(&mut bytes), Ok(1..)) {
                stream.write_all(answer.as_bytes()).ok();
            }
        }
    });
    address
}

/// A HighLevel with a time of its own.
fn dated(date: &str) -> String {
    let body = "{}";
    answering(&format!(
        "HTTP/1.1 404 Not Found\r\ndate: {date}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    ))
}

/// Someone with a certificate of their own, which is good until a year begins.
fn certified(home: &Home, until: i32) -> String {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut wanted = rcgen::CertificateParams::new(["localhost".to_owned()]).expect("a name");
    wanted.not_before = rcgen::date_time_ymd(2015, 1, 1);
    wanted.not_after = rcgen::date_time_ymd(until, 1, 1);
    let made = wanted.self_signed(&key).expect("a certificate");
    home.write("tls.crt", &made.pem());
    let private = rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the usual versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.der().clone()], private)
        .expect("they belong together");
    let tls = std::sync::Arc::new(tls);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = format!("https://localhost:{}", listener.local_addr().expect("it has one").port());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut session = rustls::ServerConnection::new(tls.clone()).expect("a session");
            // Whoever does not trust it hangs up.
            session.complete_io(&mut stream).ok();
        }
    });
    address
}
