//! A program that uses the gateway as it would use HighLevel.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// In which of the two ways a request is carried: short and plain, or in chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Plain,
    Streamed,
}

impl Way {
    pub(crate) const BOTH: [Self; 2] = [Self::Plain, Self::Streamed];
}

/// What came back.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Got {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// What a hint is called.
    pub(crate) fn hint(&self) -> Option<&str> {
        self.header("ghl-auth-hint").and_then(|hint| hint.split(';').next())
    }
}

/// A connection with the gateway, and the key.
pub(crate) struct Caller {
    stream: TcpStream,
    key: String,
    read: Vec<u8>,
}

impl Caller {
    pub(crate) fn new(address: &str, key: &str) -> Self {
        let stream = TcpStream::connect(address).expect("it is taken");
        stream.set_read_timeout(Some(Duration::from_secs(120))).expect("a time-out");
        stream.set_nodelay(true).expect("a socket");
        Self { stream, key: key.to_owned(), read: Vec::new() }
    }

    pub(crate) fn get(&mut self, path: &str) -> Got {
        self.send(Way::Plain, "GET", path, &[], "")
    }

    pub(crate) fn send(
        &mut self,
        way: Way,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Got {
        let mut text = format!(
            "{method} /gateway{path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n",
            self.key
        );
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        match way {
            Way::Plain if body.is_empty() => text.push_str("\r\n"),
            Way::Plain => text.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len())),
            Way::Streamed => {
                text.push_str("Transfer-Encoding: chunked\r\n\r\n");
                if !body.is_empty() {
                    text.push_str(&format!("{:x}\r\n{body}\r\n", body.len()));
                }
                text.push_str("0\r\n\r\n");
            }
        }
        self.stream.write_all(text.as_bytes()).expect("sent");
        self.answer(method == "HEAD")
    }

    fn more(&mut self) {
        let mut bytes = [0; 16 * 1024];
        let length = self.stream.read(&mut bytes).expect("an answer");
        assert!(length > 0, "the connection ended: {}", String::from_utf8_lossy(&self.read));
        self.read.extend_from_slice(&bytes[..length]);
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        while self.read.len() < length {
            self.more();
        }
        self.read.drain(..length).collect()
    }

    fn take_line(&mut self, end: &[u8]) -> String {
        loop {
            if let Some(at) = self.read.windows(end.len()).position(|part| part == end) {
                let line = self.take(at + end.len());
                return String::from_utf8(line).expect("text");
            }
            self.more();
        }
    }

    fn answer(&mut self, to_head: bool) -> Got {
        let head = self.take_line(b"\r\n\r\n");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let mut got = Got { status, head, body: Vec::new() };
        if to_head || matches!(status, 204 | 304) {
            return got;
        }
        if got.header("transfer-encoding").is_some() {
            loop {
                let size = self.take_line(b"\r\n");
                let size = usize::from_str_radix(size.trim(), 16).expect("a size");
                let chunk = self.take(size);
                got.body.extend_from_slice(&chunk);
                self.take_line(b"\r\n");
                if size == 0 {
                    return got;
                }
            }
        }
        let length = got.header("content-length").expect("a length").parse().expect("a number");
        got.body = self.take(length);
        got
    }
}
