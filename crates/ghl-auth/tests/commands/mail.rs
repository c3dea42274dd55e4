//! Notices by e-mail, to a mail server that runs here.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sandbox::{Fault, FaultKind, Matcher};
use serde_json::json;

use crate::service::{Service, home};
use crate::support::Home;

/// A mail server that takes what comes, or keeps its last word to itself.
struct MailServer {
    port: u16,
    letters: Receiver<Vec<String>>,
    silent: Arc<Mutex<bool>>,
}

impl MailServer {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (sender, letters) = channel();
        let silent = Arc::new(Mutex::new(false));
        let keeps_silent = silent.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut reader = BufReader::new(stream);
                let mut lines: Vec<String> = Vec::new();
                reader.get_mut().write_all(b"220 here\r\n").ok();
                loop {
                    let mut line = String::new();
                    if reader.read_line(&mut line).unwrap_or(0) == 0 {
                        break;
                    }
                    let line = line.trim_end().to_owned();
                    let in_letter = lines.iter().any(|line| line == "DATA");
                    lines.push(line.clone());
                    let answer = match line.split(' ').next().unwrap_or_default() {
                        "." => {
                            sender.send(std::mem::take(&mut lines)).ok();
                            if *keeps_silent.lock().expect("ours") {
                                // Until the other side is gone.
                                reader.read_line(&mut String::new()).ok();
                                break;
                            }
                            "250 well"
                        }
                        _ if in_letter => continue,
                        "EHLO" => "250-here\r\n250 AUTH PLAIN LOGIN",
                        "DATA" => "354 go on",
                        "QUIT" => "221 bye",
                        // AUTH PLAIN: \0 user \0 password.
                        "AUTH" if line.ends_with(" AGdobC1hdXRoQGV4YW1wbGUuY29tAHZlcnktaGlkZGVu") => {
                            "235 known"
                        }
                        "AUTH" => "535 5.7.8 very-hidden is wrong",
                        _ => "250 well",
                    };
                    reader.get_mut().write_all(format!("{answer}\r\n").as_bytes()).ok();
                }
            }
        });
        Self { port, letters, silent }
    }

    fn letter(&self) -> Vec<String> {
        self.letters.recv_timeout(Duration::from_secs(20)).expect("a letter")
    }
}

fn header(letter: &[String], name: &str) -> String {
    let line = letter.iter().find(|line| line.starts_with(&format!("{name}: "))).expect("a header");
    line.split_once(": ").expect("a value").1.to_owned()
}

fn watched(server: &MailServer) -> Home {
    // Without a tag, so that checks in a row don't meet the one before's.
    home()
        .set("GHL_HEALTH_CHECK_TAG_NAME", "")
        .set("MICROSERVICE_NAME", "JARDINS")
        .set("GHL_NOTIFY_ALLOW_PRIVATE", "true")
        .set(
            "GHL_NOTIFY_SMTP_URL",
            &format!("smtp://ghl-auth@example.com:very-hidden@127.0.0.1:{}", server.port),
        )
        .set("GHL_NOTIFY_EMAIL_TO", "me@example.com, us@example.com")
}

#[test]
fn a_letter_that_nobody_confirmed_comes_again_as_the_same_one() {
    let server = MailServer::start();
    *server.silent.lock().expect("ours") = true;
    let service = Service::start(watched(&server));
    let key = service.key(&["admin", "--all", "--verb", "admin"]);
    service.home.sandbox.fault(Fault::new(FaultKind::NotActive).on(Matcher::ContactRead).until_cleared());
    let asked = json!({ "kind": "location", "id": service.home.location() }).to_string();
    service.ask("POST", "/v1/checks", Some(&key), &asked);
    let first = server.letter();
    // It was sent, and is not noted yet.
    let Service { home, running, .. } = service;
    running.signal("KILL");
    running.end().ended(-1);
    let records = rusqlite::Connection::open(home.path("tokens.db.records.db")).expect("the records");
    records.execute("UPDATE deliveries SET due_at = due_at - 3600000", []).expect("earlier");
    drop(records);
    *server.silent.lock().expect("ours") = false;
    let service = Service::start(home);
    let second = server.letter();
    assert_eq!(header(&first, "Message-ID"), header(&second, "Message-ID"));
    assert_eq!(header(&second, "From"), "ghl-auth@example.com");
    assert_eq!(header(&second, "To"), "me@example.com, us@example.com");
    assert_eq!(header(&second, "Auto-Submitted"), "auto-generated");
    let subject = header(&second, "Subject");
    assert!(subject.starts_with("JARDINS: location "), "{subject}");
    assert!(second.iter().any(|line| line.starts_with("Since ")), "{second:?}");
    assert!(!service.running.said().contains("hidden"));
    service.stop();
    assert!(server.letters.try_recv().is_err(), "no third one");
}

#[test]
fn e_mail_is_tried_on_demand_in_the_operator_s_language() {
    let server = MailServer::start();
    let home = watched(&server).set("GHL_AUTH_LANG", "pt-BR");
    home.run(["notify", "--test"]).good().answers("email: aceito");
    let letter = server.letter();
    // "este é um teste", as a header has to say it.
    let subject = header(&letter, "Subject");
    assert!(subject.starts_with("JARDINS: este =?utf-8?b?w6k=?= um teste"), "{subject}");
    assert!(letter.iter().any(|line| line.starts_with("Desde ")), "{letter:?}");
    let home = home.set("GHL_AUTH_LANG", "en");
    home.run(["notify", "--test"]).good().answers("email: taken");
    let subject = header(&server.letter(), "Subject");
    assert!(subject.starts_with("JARDINS: this is a test"), "{subject}");
    let wrong = format!("smtp://ghl-auth@example.com:guessed@127.0.0.1:{}", server.port);
    let home = home.set("GHL_NOTIFY_SMTP_URL", &wrong);
    let said = home.run(["notify", "--test"]).fails_with(1, "notify_failed");
    let said = said.answers("email: it refused the user name and the password: 535 5.7.8");
    assert!(!said.out.contains("hidden") && !said.out.contains("guessed"), "{}", said.out);
    let home = home.set("GHL_NOTIFY_ALLOW_PRIVATE", "false");
    home.run(["notify", "--test"]).fails_with(1, "notify_failed").answers("email: its address is private");
}

#[test]
fn half_an_e_mail_is_no_way() {
    let check = |variables: &[(&str, &str)], complaint: &str| {
        let home = variables.iter().fold(home(), |home, (name, value)| home.set(name, value));
        let said = home.run(["notify", "--test"]).ended(2).complains(complaint);
        assert!(!said.err.contains("hidden"), "{}", said.err);
    };
    let server = ("GHL_NOTIFY_SMTP_URL", "smtps://me:hidden@mail.example.com");
    let to = ("GHL_NOTIFY_EMAIL_TO", "us@example.com");
    check(&[server], "GHL_NOTIFY_EMAIL_TO: GHL_NOTIFY_SMTP_URL and GHL_NOTIFY_EMAIL_TO belong together");
    check(&[to], "GHL_NOTIFY_SMTP_URL: GHL_NOTIFY_SMTP_URL and GHL_NOTIFY_EMAIL_TO belong together");
    check(&[server, to], "GHL_NOTIFY_EMAIL_FROM: the user in GHL_NOTIFY_SMTP_URL is no e-mail address");
    check(&[("GHL_NOTIFY_SMTP_URL", "https://me:hidden@example.com"), to], "this is no smtps://");
    check(&[server, ("GHL_NOTIFY_EMAIL_TO", "us@example.com, nobody")], "\"nobody\" is no e-mail address");
}
