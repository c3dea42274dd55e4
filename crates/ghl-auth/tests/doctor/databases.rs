//! The doctor over a real PostgreSQL: what keeps it from being used is told apart, each with its own cure.

use serde_json::Value;

use crate::patient::{after_the_workflow, examined, new_with, wrong};
use crate::postgres::{PASSWORD, Server, folder, given, is_left_out, schema_of, server};
use crate::support::{Home, KEY};

/// A home over the database at an address, complete and checked.
fn healthy_at(address: &str) -> Home {
    let home = new_with(|_| {}).set("GHL_STORE", address).set("GHL_AUTH_KEY", KEY).log_in();
    home.run(["check"]).good();
    after_the_workflow(&home);
    home
}

/// That one trouble is found, with its level, the exit code and a word of its cure, in both languages.
#[track_caller]
fn finds(home: &Home, code: &str, level: &str, exit: i64, cures: [&str; 2]) {
    for (lang, cure) in ["en", "pt-BR"].into_iter().zip(cures) {
        let mut command = home.command(["doctor", "--json"]);
        command.env("GHL_AUTH_LANG", lang);
        let run = crate::support::Running::start(command).end();
        let document = run.json();
        let wrong = wrong(&document);
        let codes: Vec<&Value> = wrong.iter().map(|it| &it["code"]).collect();
        assert_eq!(codes, [code], "{lang}: {document:#}");
        assert_eq!(
            (wrong[0]["level"].as_str(), wrong[0]["examination"].as_str()),
            (Some(level), Some("store"))
        );
        assert!(wrong[0]["action"].as_str().is_some_and(|it| it.contains(cure)), "{cure}: {:#}", wrong[0]);
        assert_eq!(document["exit_code"], exit, "{document:#}");
        assert!(!run.out.contains(PASSWORD) && !run.err.contains(PASSWORD), "{}{}", run.out, run.err);
    }
}

#[track_caller]
fn finds_nothing(home: &Home) {
    after_the_workflow(home);
    assert_eq!(wrong(&examined(home).1), Vec::<&Value>::new());
}

const DATABASE: &str = "store_database";

#[test]
fn nothing_is_wrong_with_a_healthy_database() {
    if is_left_out() {
        return;
    }
    let home = healthy_at(&server().fresh_schema());
    let (run, document) = examined(&home);
    assert_eq!(wrong(&document), Vec::<&Value>::new());
    assert_eq!((run.code, &document["not_examined"]), (0, &Value::Array(vec![])), "{document:#}");
    // With what a service remembers beside it, too.
    home.run(["keys", "create", "--name", "all", "--all"]).good();
    finds_nothing(&home);
}

#[test]
fn who_is_not_let_in_and_what_is_not_there_is_told_apart() {
    if is_left_out() {
        return;
    }
    let server = server();
    let home = healthy_at(&server.fresh_schema());
    let by_tcp = server.url("sslmode=disable");
    let at = |home: Home, address: &str| home.set("GHL_STORE", address);

    let home = at(home, &by_tcp.replace(PASSWORD, "another"));
    finds(&home, DATABASE, "failure", 4, ["the right user and password", "o usuário e a senha certos"]);
    let home = at(home, &by_tcp.replace("/postgres?", "/nowhere?"));
    finds(&home, DATABASE, "failure", 4, ["createdb", "createdb"]);
    let free = crate::support::free_port();
    let home = at(home, &by_tcp.replace(&format!(":{}/", server.port()), &format!(":{free}/")));
    finds(&home, DATABASE, "failure", 4, ["See that the server runs", "Veja se o servidor está no ar"]);
    let home = at(home, &by_tcp.replace("sslmode=disable", "sslmode=verify-full"));
    finds(&home, DATABASE, "failure", 4, ["ssl = on", "ssl = on"]);

    // Nobody has logged in here, and that is told without anything being made.
    let fresh = server.fresh_schema();
    let home = at(home, &fresh);
    finds(&home, "store_missing", "failure", 3, ["ghl-auth login", "ghl-auth login"]);
    let made = format!("SELECT to_regnamespace('{}') IS NULL", schema_of(&fresh));
    assert_eq!(server.sql(&made), "t", "an examination makes no tables");

    server.sql("CREATE USER guest PASSWORD 'guest'");
    let home = at(
        home,
        &by_tcp.replace(&format!("keeper:{PASSWORD}"), "guest:guest").replace('?', "?schema=guests&"),
    );
    finds(&home, "store_missing", "failure", 3, ["ghl-auth login", "ghl-auth login"]);
    let refused = home.run(["status"]).fails_with(4, DATABASE);
    refused.complains("GRANT CREATE ON DATABASE");
}

#[test]
fn a_certificate_that_is_not_trusted_is_told_as_that() {
    if is_left_out() {
        return;
    }
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let theirs = folder();
    let settings = [
        "ssl=on".to_owned(),
        format!("ssl_cert_file={}", given(&theirs, "server.pem", &made.cert.pem())),
        format!("ssl_key_file={}", given(&theirs, "server.key", &made.signing_key.serialize_pem())),
    ];
    let server = Server::start(&settings.each_ref().map(String::as_str));
    let home = new_with(|_| {});
    let root = home.write("root.pem", &made.cert.pem());
    let address =
        |host: &str, more: &str| server.url(&format!("sslmode=verify-full{more}")).replace("127.0.0.1", host);
    let trusted = format!("&sslrootcert={}", root.display());
    let home = home.set("GHL_STORE", &address("localhost", &trusted)).set("GHL_AUTH_KEY", KEY).log_in();
    home.run(["check"]).good();
    after_the_workflow(&home);
    finds_nothing(&home);
    for address in [address("localhost", ""), address("127.0.0.1", &trusted)] {
        let home = new_with(|_| {}).set("GHL_AUTH_KEY", KEY).set("GHL_STORE", &address);
        finds(&home, DATABASE, "failure", 4, ["sslrootcert=", "sslrootcert="]);
    }
}

#[test]
fn a_standby_and_a_server_that_is_down_are_told_apart() {
    if is_left_out() {
        return;
    }
    let primary = Server::start(&[]);
    let home = healthy_at(&primary.socket_url(""));
    let standby = primary.standby();
    let home = home.set("GHL_STORE", &standby.socket_url(""));
    finds(&home, "store_read_only", "failure", 2, ["target_session_attrs=read-write"; 2]);
    let home = home.set("GHL_STORE", &primary.socket_url(""));
    primary.sql("ALTER DATABASE postgres SET default_transaction_read_only = on");
    finds(&home, "store_read_only", "failure", 2, ["target_session_attrs=read-write"; 2]);
    standby.stop("fast");
    primary.stop("fast");
    finds(&home, DATABASE, "failure", 4, ["See that the server runs", "Veja se o servidor está no ar"]);
}

#[test]
fn tables_of_another_version_and_tables_that_are_missing_are_told() {
    if is_left_out() {
        return;
    }
    let address = server().fresh_schema();
    let (home, schema) = (healthy_at(&address), schema_of(&address));
    home.run(["keys", "create", "--name", "all", "--all"]).good();
    let sql = |statement: String| server().sql(&statement);
    let version = |part: &str, by: &str| {
        sql(format!("UPDATE {schema}.versions SET version = version {by} WHERE part = '{part}'"));
    };
    for part in ["store", "records"] {
        let is = || sql(format!("SELECT version FROM {schema}.versions WHERE part = '{part}'"));
        version(part, "- 1");
        let before = is();
        finds(&home, "tables_earlier", "warning", 0, ["ghl-auth status", "ghl-auth status"]);
        assert_eq!(is(), before, "an examination changes no tables");
        version(part, "+ 1");
    }
    version("store", "+ 1");
    finds(&home, "store_too_new", "failure", 2, ["Use that version", "Use essa versão"]);
    version("store", "- 1");
    finds_nothing(&home);

    sql(format!("DROP TABLE {schema}.checks"));
    finds(&home, "records_missing", "failure", 4, ["DELETE FROM SCHEMA.versions"; 2]);
    // The cure, word for word, but that the service is to be stopped, which there is none of.
    let left = sql(format!(
        "SELECT concat('DROP TABLE ', string_agg(oid::regclass::text, ', '), ' CASCADE') FROM pg_class
         WHERE relnamespace = '{schema}'::regnamespace AND relkind = 'r'
         AND relname NOT IN ('meta', 'versions', 'installations', 'sets', 'removed', 'parked')"
    ));
    let drop = format!("{left}; DROP FUNCTION {schema}.take_permits;");
    sql(format!("DELETE FROM {schema}.versions WHERE part = 'records'; {drop}"));
    home.run(["keys", "create", "--name", "all", "--all"]).good();
    finds_nothing(&home);
}
