//! What all attacks have in common: a service before an upstream of our own, and callers who send bytes.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;
use tokens::Allowed;
use tokens::records::{Reach, Verb};

use crate::caller::Way;
use crate::house::{House, empty_home, install, location};
use crate::support::Home;
use crate::upstream::{Seen, Upstream};

/// The only installation, and the token that is kept for it.
pub(crate) const LOCATION: &str = "ve9EPM428h8vShlRW1KT";
pub(crate) const TOKEN: &str = "the-token-that-is-kept-for-the-location";

/// Nobody waits longer for an answer, on a slow machine with much else to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// A service, what stands in HighLevel's place, and a key for everything that passes.
pub(crate) struct Siege {
    pub(crate) house: House,
    pub(crate) upstream: Upstream,
    pub(crate) key: String,
}

impl Siege {
    pub(crate) fn new() -> Self {
        Self::of(|home| home)
    }

    pub(crate) fn of(change: impl FnOnce(Home) -> Home) -> Self {
        let upstream = Upstream::start();
        let home = change(
            empty_home()
                .set("GHL_API_BASE_URL", &upstream.url)
                .set("GHL_AUTH_GATEWAY_AT_ONCE", "10000")
                .set("GHL_AUTH_LOG", "info,server=debug"),
        );
        let house = House::with(home, |store| install(store, &location(LOCATION), TOKEN));
        let key = house.key(&[Verb::Gateway], Reach::All);
        let siege = Self { house, upstream, key };
        siege.until_let_in(&siege.key);
        siege.upstream.seen();
        siege
    }

    /// A key that may send this and nothing else.
    pub(crate) fn key_for(&self, allowed: &[&str]) -> String {
        let allowed: Vec<Allowed> = allowed.iter().map(|text| text.parse().expect("a pattern")).collect();
        let key = self.house.key_like(&[Verb::Gateway], Reach::All, |record| record.allowed = allowed);
        self.until_let_in(&key);
        self.upstream.seen();
        key
    }

    fn until_let_in(&self, key: &str) {
        let asked = request(Way::Plain, "GET", "/contacts/first", &[&bearer(key)], b"");
        crate::house::until(|| ask(&self.house.private, &asked).is_some_and(|got| got.status != 401));
    }

    pub(crate) fn wire(&self) -> Line {
        Line::to(&self.house.private)
    }

    /// The header with the key.
    pub(crate) fn bearer(&self) -> String {
        bearer(&self.key)
    }

    /// What arrived upstream; of each, it is certain where it ends, and it has our token and no other.
    pub(crate) fn arrived(&self) -> Vec<Seen> {
        let seen = self.upstream.seen();
        for one in &seen {
            self.is_ours(one);
        }
        seen
    }

    fn is_ours(&self, seen: &Seen) {
        let tokens: Vec<&[u8]> = seen.all("authorization").collect();
        assert_eq!(tokens, [format!("Bearer {TOKEN}").as_bytes()], "{seen:?}");
        let host = self.upstream.url.strip_prefix("http://").expect("plain HTTP");
        assert_eq!(seen.all("host").collect::<Vec<_>>(), [host.as_bytes()], "{seen:?}");
        for (name, _) in &seen.headers {
            assert!(!name.contains('_'), "{name}: {seen:?}");
        }
    }

    /// The method and path of each request that the service has logged as carried.
    pub(crate) fn logged(&self) -> Vec<(String, String)> {
        let said = self.house.running.said();
        let lines = said.lines().filter(|line| line.contains("carried"));
        let word = |line: &str, name: &str| {
            let rest = line.split(&format!("{name}=")).nth(1)?;
            Some(rest.split(' ').next().unwrap_or_default().trim_matches('"').to_owned())
        };
        lines.filter_map(|line| Some((word(line, "method")?, word(line, "path")?))).collect()
    }

    /// What the service has of memory at most.
    pub(crate) fn most_memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.house.running.child.id()));
        let status = status.expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("it says so");
        line.trim().trim_end_matches(" kB").trim().parse().expect("a number")
    }

    /// Ends it all: nothing that was odd arrived, and nothing secret was written down.
    pub(crate) fn end(self) {
        self.arrived();
        assert_eq!(self.upstream.odd(), Vec::<String>::new());
        self.house.plant(TOKEN);
        self.house.end();
    }
}

pub(crate) fn bearer(key: &str) -> String {
    format!("Authorization: Bearer {key}")
}

/// A request of ours in one of the two ways; headers are whole lines.
pub(crate) fn request(way: Way, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    raw(way, method, &format!("/gateway{path}"), headers, body)
}

/// The same with a target of one's own.
pub(crate) fn raw(way: Way, method: &str, target: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let headers: Vec<&[u8]> = headers.iter().map(|line| line.as_bytes()).collect();
    raw_lines(way, method, target, &headers, body)
}

/// The same with lines that need not be text.
pub(crate) fn raw_lines(way: Way, method: &str, target: &str, headers: &[&[u8]], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n").into_bytes();
    for line in headers {
        bytes.extend_from_slice(line);
        bytes.extend_from_slice(b"\r\n");
    }
    match way {
        Way::Plain if body.is_empty() => bytes.extend_from_slice(b"\r\n"),
        Way::Plain => {
            bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
            bytes.extend_from_slice(body);
        }
        Way::Streamed => {
            bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
            if !body.is_empty() {
                bytes.extend_from_slice(format!("{:x}\r\n", body.len()).as_bytes());
                bytes.extend_from_slice(body);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
        }
    }
    bytes
}

/// What came back.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// Whether all of it came.
    pub(crate) is_whole: bool,
}

impl Got {
    pub(crate) fn code(&self) -> String {
        let problem: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        problem["code"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// One request on a connection of its own; none where the connection ends without a word.
pub(crate) fn ask(address: &str, bytes: &[u8]) -> Option<Got> {
    let mut line = Line::to(address);
    line.send(bytes);
    line.answer(bytes.starts_with(b"HEAD "))
}

/// A connection on which bytes are sent.
pub(crate) struct Line {
    address: String,
    pub(crate) stream: TcpStream,
    read: Vec<u8>,
}

impl Line {
    pub(crate) fn to(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("it is taken");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        stream.set_write_timeout(Some(PATIENCE)).expect("a time-out");
        stream.set_nodelay(true).expect("a socket");
        Self { address: address.to_owned(), stream, read: Vec::new() }
    }

    /// Sends; it may be that the other end has closed.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).ok();
    }

    /// A question and its answer, on this connection or, where it has ended, on another. None where both end
    /// without a word.
    pub(crate) fn ask(&mut self, bytes: &[u8]) -> Option<Got> {
        let to_head = bytes.starts_with(b"HEAD ");
        self.send(bytes);
        if let Some(got) = self.answer(to_head) {
            if !got.is_whole || got.header("connection") == Some("close") {
                *self = Self::to(&self.address.clone());
            }
            return Some(got);
        }
        *self = Self::to(&self.address.clone());
        self.send(bytes);
        let got = self.answer(to_head);
        if got.is_none() {
            *self = Self::to(&self.address.clone());
        }
        got
    }

    /// Reads on. None when the other end has closed, or says nothing for as long as is waited.
    fn more(&mut self) -> Option<()> {
        let mut bytes = [0; 64 * 1024];
        match self.stream.read(&mut bytes) {
            Ok(length @ 1..) => {
                self.read.extend_from_slice(&bytes[..length]);
                Some(())
            }
            _ => None,
        }
    }

    /// The next answer. None when the connection ends before its head does.
    pub(crate) fn answer(&mut self, to_head: bool) -> Option<Got> {
        let end = loop {
            match self.read.windows(4).position(|part| part == b"\r\n\r\n") {
                Some(at) => break at,
                None => self.more()?,
            }
        };
        let head = String::from_utf8_lossy(&self.read[..end]).into_owned();
        self.read.drain(..end + 4);
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let mut got = Got { status, head, body: Vec::new(), is_whole: true };
        if status == 100 {
            return self.answer(to_head);
        }
        if to_head || matches!(status, 204 | 304) {
            return Some(got);
        }
        let length = got.header("content-length").map(|length| length.parse().unwrap_or(usize::MAX));
        let body = match (got.header("transfer-encoding").is_some(), length) {
            (true, _) => self.chunks(&mut got.body),
            (false, Some(usize::MAX)) => None,
            (false, Some(length)) => self.take(length).map(|body| got.body = body),
            (false, None) => {
                while self.more().is_some() {}
                got.body = std::mem::take(&mut self.read);
                Some(())
            }
        };
        got.is_whole = body.is_some();
        Some(got)
    }

    fn take(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.read.len() < length {
            self.more()?;
        }
        Some(self.read.drain(..length).collect())
    }

    fn chunks(&mut self, body: &mut Vec<u8>) -> Option<()> {
        loop {
            let at = loop {
                match self.read.windows(2).position(|part| part == b"\r\n") {
                    Some(at) => break at,
                    None => self.more()?,
                }
            };
            let line: Vec<u8> = self.read.drain(..at + 2).take(at).collect();
            let size = usize::from_str_radix(&String::from_utf8_lossy(&line), 16).ok()?;
            if size == 0 {
                // What follows are headers, or none, and an empty line.
                loop {
                    let at = loop {
                        match self.read.windows(2).position(|part| part == b"\r\n") {
                            Some(at) => break at,
                            None => self.more()?,
                        }
                    };
                    self.read.drain(..at + 2);
                    if at == 0 {
                        return Some(());
                    }
                }
            }
            body.extend(self.take(size)?);
            self.take(2)?;
        }
    }

    /// Whatever is still said within a time, and whether the connection ended.
    pub(crate) fn rest_within(&mut self, limit: Duration) -> (Vec<u8>, bool) {
        self.stream.set_read_timeout(Some(limit)).expect("a time-out");
        let mut bytes = [0; 64 * 1024];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return (std::mem::take(&mut self.read), true),
                Ok(length) => self.read.extend_from_slice(&bytes[..length]),
                Err(error) => {
                    let is_open = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                    return (std::mem::take(&mut self.read), !is_open);
                }
            }
        }
    }
}

/// How much of something is done: as much as a variable says, or what takes seconds.
pub(crate) fn times(variable: &str, otherwise: usize) -> usize {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")),
        Err(_) => otherwise,
    }
}
