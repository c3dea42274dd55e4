//! HTTP as someone with bad intentions speaks it: byte for byte, many requests on one connection.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// How many requests are on their way at once.
const AT_ONCE: usize = 32;

/// Nobody waits longer for an answer, on a slow machine with much else to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was answered. None is made that [`Answer::is_decent`] does not approve of.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(crate) fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.head.lines().skip(1).filter_map(|line| line.split_once(": "))
    }

    /// A document.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }

    /// The code of a problem; empty where it is none.
    pub(crate) fn code(&self) -> String {
        let problem: Value = serde_json::from_str(&self.body).unwrap_or_default();
        problem["code"].as_str().unwrap_or_default().to_owned()
    }

    /// What holds for every answer there is: no header that we don't send, and so none that someone
    /// else put there; no word about the inside; and an error says what it is, in the form of its door.
    fn is_decent(&self, to_head: bool) {
        for line in self.head.lines().skip(1) {
            let name = line.split_once(": ").map(|(name, _)| name.to_ascii_lowercase());
            assert!(name.is_some_and(|name| OURS.contains(&name.as_str())), "a foreign header: {line:?}");
        }
        for inside in ["panicked", ".rs:", "SELECT ", "rusqlite", "tokens.db", "/tmp/", "RUST_BACKTRACE"] {
            // The page of settings shows an admin what is configured.
            let body = self.body.replace("<code>sqlite:tokens.db</code>", "");
            assert!(!body.contains(inside), "it shows its inside: {body}");
        }
        assert_ne!(self.status, 500, "{}", self.body);
        if self.header("content-type").is_some_and(|kind| kind.starts_with("text/html")) {
            self.is_a_protected_page();
        }
        if self.status < 400 || to_head {
            return;
        }
        match self.header("content-type") {
            Some("application/problem+json") => {
                let problem: Value = serde_json::from_str(&self.body).expect("a problem is JSON");
                assert_eq!(problem["status"], self.status, "{}", self.body);
                for member in ["type", "code", "detail", "action"] {
                    let text = problem[member].as_str().unwrap_or_default();
                    assert!(!text.is_empty(), "no `{member}`: {}", self.body);
                }
            }
            Some("text/html; charset=utf-8") => {}
            // What is no HTTP is answered by the engine, before anything of ours.
            None => assert!(
                matches!(self.status, 400 | 414 | 431) && self.body.is_empty(),
                "{}\n{}",
                self.head,
                self.body
            ),
            Some(_) => panic!("an error in no form of ours:\n{}\n{}", self.head, self.body),
        }
    }

    /// Asserts that it is a page that keeps what it knows to itself, loads nothing and stands in no frame.
    pub(crate) fn is_a_protected_page(&self) {
        let policy = self.header("content-security-policy").unwrap_or_default();
        if policy.contains("form-action 'none'") {
            return self.is_the_status_page(policy);
        }
        for part in ["default-src 'none'", "base-uri 'none'", "frame-ancestors 'none'", "form-action 'self'"]
        {
            assert!(policy.contains(part), "not `{part}`: {}", self.head);
        }
        // The dashboard's forms have to say where they come from.
        let is_of_dashboard = policy.contains("script-src 'self'");
        let referrer = if is_of_dashboard { "same-origin" } else { "no-referrer" };
        assert_eq!(self.header("referrer-policy"), Some(referrer), "{}", self.head);
        assert_eq!(self.header("cache-control"), Some("no-store"), "{}", self.head);
        assert_eq!(self.header("x-content-type-options"), Some("nosniff"), "{}", self.head);
        assert_eq!(self.header("x-frame-options"), Some("DENY"), "{}", self.head);
        if is_of_dashboard {
            return self.asks_nobody_else();
        }
        // What stands between quotes and between tags is text.
        let unquoted: String = self.body.split('"').step_by(2).collect();
        let tags = unquoted.split('<').skip(1).map(|rest| rest.split('>').next().unwrap_or_default());
        for tag in tags {
            let name = tag.split(' ').next().unwrap_or_default().trim_start_matches('/');
            assert!(TAGS.contains(&name), "`{name}` in {}", self.body);
            for elsewhere in ["src=", "href=", "style=", " on"] {
                assert!(!tag.contains(elsewhere), "`{elsewhere}` in {}", self.body);
            }
        }
    }
}

impl Answer {
    /// Asserts that the page for everybody loads nothing but its style and its icon, and is soon out of date.
    fn is_the_status_page(&self, policy: &str) {
        for part in [
            "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.contains(part), "not `{part}`: {}", self.head);
        }
        assert!(!policy.contains("script-src") && !self.body.contains("<script"), "{}", self.head);
        for (name, value) in [
            ("referrer-policy", "no-referrer"),
            ("cache-control", "public, max-age=60"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(self.header(name), Some(value), "{}", self.head);
        }
        self.asks_nobody_else();
    }

    /// Asserts that a page of the dashboard leads nowhere but to us, and has no script or style within it.
    fn asks_nobody_else(&self) {
        let mut parts = self.body.split('"');
        let mut before = parts.next().unwrap_or_default();
        while let (Some(value), after) = (parts.next(), parts.next()) {
            let name = before.rsplit([' ', '<', '\n']).next().unwrap_or_default();
            if matches!(name, "src=" | "href=" | "action=") {
                let is_ours = value.starts_with('#') || (value.starts_with('/') && !value.starts_with("//"));
                assert!(is_ours, "it leads to `{value}`");
            }
            assert!(!name.starts_with("on") && name != "style=", "`{name}` in {}", self.body);
            before = after.unwrap_or_default();
        }
        assert!(!self.body.contains("<style"), "{}", self.body);
        for script in self.body.split("<script").skip(1) {
            let (attributes, inside) = script.split_once('>').expect("a tag");
            assert!(attributes.contains(" src=\"/") && inside.starts_with("</script>"), "{script}");
        }
    }
}

/// All that our pages are made of.
const TAGS: [&str; 13] = [
    "!doctype",
    "html",
    "head",
    "meta",
    "title",
    "body",
    "main",
    "h1",
    "p",
    "blockquote",
    "form",
    "input",
    "button",
];

/// All headers that the service sends.
const OURS: [&str; 19] = [
    "allow",
    "cache-control",
    "connection",
    "content-length",
    "content-security-policy",
    "content-type",
    "cross-origin-resource-policy",
    "date",
    "etag",
    "vary",
    "location",
    "referrer-policy",
    "retry-after",
    "set-cookie",
    "transfer-encoding",
    "www-authenticate",
    "x-content-type-options",
    "x-frame-options",
    "x-request-id",
];

/// A request in its plain form.
pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() || matches!(method, "POST" | "PUT" | "PATCH") {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    text.push_str(body);
    text.into_bytes()
}

/// The value that stands for a key.
pub(crate) fn bearer(key: &str) -> String {
    format!("Bearer {key}")
}

/// Sends all requests, many on a connection, and gives their answers in order. A connection that the
/// service ends is begun anew.
pub(crate) fn ask_all(address: &str, requests: &[Vec<u8>]) -> Vec<Answer> {
    ask_all_from(|| TcpStream::connect(address).expect("it is taken"), requests)
}

pub(crate) fn ask_all_from(connect: impl Fn() -> TcpStream, requests: &[Vec<u8>]) -> Vec<Answer> {
    let mut answers = Vec::with_capacity(requests.len());
    while answers.len() < requests.len() {
        let before = answers.len();
        let mut wire = Wire::over(connect());
        while answers.len() < requests.len() {
            let batch: Vec<&Vec<u8>> = requests.iter().skip(answers.len()).take(AT_ONCE).collect();
            let bytes: Vec<u8> = batch.iter().flat_map(|request| request.iter().copied()).collect();
            if wire.send(&bytes).is_err() {
                break;
            }
            let got: Vec<Answer> =
                batch.iter().map_while(|request| wire.answer(request.starts_with(b"HEAD "))).collect();
            let all = got.len() == batch.len();
            answers.extend(got);
            if !all {
                break;
            }
        }
        if answers.len() == before {
            let request = String::from_utf8_lossy(&requests[before]).into_owned();
            panic!("no answer, twice over, to {request:?}");
        }
    }
    answers
}

/// One request, on a connection of its own.
pub(crate) fn ask(address: &str, request: &[u8]) -> Answer {
    let mut wire = Wire::to(address);
    wire.send(request).expect("it is taken");
    let answer = wire.answer(request.starts_with(b"HEAD "));
    answer.unwrap_or_else(|| panic!("no answer to {:?}", String::from_utf8_lossy(request)))
}

/// The same, where the answer may be that the connection ends without a word.
pub(crate) fn ask_or_be_left(address: &str, request: &[u8]) -> Option<Answer> {
    let mut wire = Wire::to(address);
    // It may be ended while we speak.
    wire.send(request).ok();
    wire.answer(request.starts_with(b"HEAD "))
}

/// A connection.
pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
    read: Vec<u8>,
}

impl Wire {
    pub(crate) fn to(address: &str) -> Self {
        Self::over(TcpStream::connect(address).expect("it is taken"))
    }

    pub(crate) fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        stream.set_write_timeout(Some(PATIENCE)).expect("a time-out");
        stream.set_nodelay(true).expect("a socket");
        Self { stream, read: Vec::new() }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next answer; none when the connection has ended.
    pub(crate) fn answer(&mut self, to_head: bool) -> Option<Answer> {
        let head_ends = loop {
            match self.read.windows(4).position(|part| part == b"\r\n\r\n") {
                Some(at) => break at,
                None => self.more()?,
            }
        };
        let head = String::from_utf8(self.read[..head_ends].to_vec()).expect("a head is text");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let mut answer = Answer { status, head, body: String::new() };
        if status == 100 {
            self.read.drain(..head_ends + 4);
            return self.answer(to_head);
        }
        assert_eq!(answer.header("transfer-encoding"), None, "its length is known");
        let length = answer.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let length: usize = if to_head { 0 } else { length };
        while self.read.len() < head_ends + 4 + length {
            self.more()?;
        }
        let body = self.read[head_ends + 4..head_ends + 4 + length].to_vec();
        answer.body = String::from_utf8(body).expect("a body is text");
        self.read.drain(..head_ends + 4 + length);
        answer.is_decent(to_head);
        Some(answer)
    }

    /// Whether the service has ended the connection; what it said before is dropped.
    pub(crate) fn is_over_within(&mut self, limit: Duration) -> bool {
        self.stream.set_read_timeout(Some(limit)).expect("a time-out");
        let mut bytes = [0; 4096];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
            }
        }
    }

    fn more(&mut self) -> Option<()> {
        let mut bytes = [0; 16 * 1024];
        match self.stream.read(&mut bytes) {
            Ok(count @ 1..) => {
                self.read.extend_from_slice(&bytes[..count]);
                Some(())
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("no answer within {PATIENCE:?}")
            }
            _ => None,
        }
    }
}
