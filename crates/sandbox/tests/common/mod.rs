//! A small HTTP client over bare sockets, and the few requests that every story begins with.

#![allow(dead_code, reason = "each story uses a part of it")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use sandbox::{Sandbox, Settings, UserType};
use serde_json::{Value, json};

pub(crate) const CALLBACK: &str = "http://127.0.0.1:8788/oauth/callback";
pub(crate) const DATED: &str = "2021-07-28";

pub(crate) fn sandbox() -> Sandbox {
    with(|_| {})
}

pub(crate) fn with(change: impl FnOnce(&mut Settings)) -> Sandbox {
    let mut settings = Settings::seeded(42);
    change(&mut settings);
    Sandbox::builder().settings(settings).start_blocking().expect("a free port")
}

/// An answer that arrived whole.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.body))
    }

    pub(crate) fn text(&self, name: &str) -> String {
        let body = self.json();
        body[name].as_str().unwrap_or_else(|| panic!("no {name} in {body}")).to_owned()
    }

    /// The body without its trace id.
    pub(crate) fn untraced(&self) -> Value {
        let mut body = self.json();
        body.as_object_mut().and_then(|body| body.shift_remove("traceId"));
        body
    }
}

/// Sends a request and gives every byte that came back.
pub(crate) fn raw(
    sandbox: &Sandbox,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Vec<u8> {
    let address = sandbox.base_url().replace("http://", "");
    let mut stream = TcpStream::connect(&address).expect("the sandbox listens");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
    stream.write_all(request.as_bytes()).expect("the request is taken");
    let mut bytes = Vec::new();
    // A reset connection ends the answer just as well.
    stream.read_to_end(&mut bytes).ok();
    bytes
}

/// The answer in these bytes, if it is whole.
pub(crate) fn whole(bytes: &[u8]) -> Option<Answer> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    let answer = Answer { status, headers, body: body.to_owned() };
    let length: usize = answer.header("content-length")?.parse().ok()?;
    (body.len() == length).then_some(answer)
}

pub(crate) fn send(
    sandbox: &Sandbox,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let bytes = raw(sandbox, method, path, headers, body);
    whole(&bytes).unwrap_or_else(|| panic!("{method} {path}: {} bytes", bytes.len()))
}

pub(crate) fn form(fields: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

pub(crate) const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
pub(crate) const JSON: (&str, &str) = ("content-type", "application/json");

pub(crate) fn exchange(sandbox: &Sandbox, code: &str) -> Answer {
    exchange_for(sandbox, code, Some("Location"))
}

pub(crate) fn exchange_for(sandbox: &Sandbox, code: &str, user_type: Option<&str>) -> Answer {
    let settings = sandbox.settings();
    let mut fields = vec![
        ("client_id", settings.client_id.as_str()),
        ("client_secret", settings.client_secret.as_str()),
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", CALLBACK),
    ];
    fields.extend(user_type.map(|user_type| ("user_type", user_type)));
    send(sandbox, "POST", "/oauth/token", &[FORM], &form(&fields))
}

/// What a good authorisation gives: access token, refresh token.
pub(crate) fn connect(sandbox: &Sandbox) -> (String, String) {
    let code = sandbox.approve(CALLBACK, None, UserType::Location);
    let answer = exchange(sandbox, &code);
    assert_eq!(answer.status, 200, "{}", answer.body);
    (answer.text("access_token"), answer.text("refresh_token"))
}

pub(crate) fn connect_company(sandbox: &Sandbox) -> String {
    let code = sandbox.approve(CALLBACK, None, UserType::Company);
    exchange_for(sandbox, &code, Some("Company")).text("access_token")
}

pub(crate) fn refresh_body(sandbox: &Sandbox, refresh_token: &str) -> String {
    let settings = sandbox.settings();
    form(&[
        ("client_id", settings.client_id.as_str()),
        ("client_secret", settings.client_secret.as_str()),
        ("grant_type", "refresh_token"),
        ("refresh_token", refresh_token),
        ("user_type", "Location"),
    ])
}

pub(crate) fn refresh(sandbox: &Sandbox, refresh_token: &str) -> Answer {
    send(sandbox, "POST", "/oauth/token", &[FORM], &refresh_body(sandbox, refresh_token))
}

/// A resource call of the older dialect.
pub(crate) fn api(sandbox: &Sandbox, method: &str, path: &str, token: &str, body: Option<Value>) -> Answer {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("version", DATED), JSON];
    send(sandbox, method, path, &headers, &body.map(|body| body.to_string()).unwrap_or_default())
}

pub(crate) fn admin(sandbox: &Sandbox, method: &str, path: &str, body: Value) -> Answer {
    send(sandbox, method, path, &[JSON], &body.to_string())
}

pub(crate) fn tag(sandbox: &Sandbox, method: &str, token: &str, name: &str) -> Answer {
    let path = format!("/contacts/{}/tags", sandbox.settings().contact_id);
    api(sandbox, method, &path, token, Some(json!({ "tags": [name] })))
}

/// Waits until something is so, for five seconds at most.
pub(crate) fn until(is_so: impl Fn() -> bool) {
    let since = std::time::Instant::now();
    while !is_so() {
        assert!(since.elapsed() < Duration::from_secs(5), "it never came to be");
        std::thread::sleep(Duration::from_millis(1));
    }
}
