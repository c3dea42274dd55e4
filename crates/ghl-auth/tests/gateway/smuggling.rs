//! Requests that hide another one: sent directly, through nginx and through HAProxy.
//!
//! Each case is written out in a table, or is an odd spelling of a line from one. Its path, and that of what it hides, say which case it is, so that
//! what arrived can be compared with what the service says it carried.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::attack::{Line, Siege};

/// How long it is waited for more on a connection that is still open.
const QUIET: Duration = Duration::from_millis(250);

/// How a header that tells the framing is written, in ways that one reader takes for it and another does not.
const CODINGS: [&str; 40] = [
    "Transfer-Encoding: chunked",
    "transfer-encoding: CHUNKED",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding\t: chunked",
    " Transfer-Encoding: chunked",
    "\tTransfer-Encoding: chunked",
    "Transfer-Encoding:chunked",
    "Transfer-Encoding:\tchunked",
    "Transfer-Encoding:  chunked ",
    "Transfer-Encoding: \x0bchunked",
    "Transfer-Encoding: \x0cchunked",
    "Transfer-Encoding: chunked\x0b",
    "Transfer-Encoding: chunked\0",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding: chunkedx",
    "Transfer-Encoding: chunk",
    "Transfer-Encoding: \"chunked\"",
    "Transfer-Encoding: 'chunked'",
    "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding: identity, chunked",
    "Transfer-Encoding: chunked, chunked",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: chunked, gzip",
    "Transfer-Encoding: identity",
    "Transfer-Encoding: cow",
    "Transfer-Encoding:",
    "Transfer-Encoding: ,chunked",
    "Transfer-Encoding: chunked,",
    "Transfer-Encoding: chunked;q=1",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: x\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding:\r\n chunked",
    "Transfer-Encoding\r\n: chunked",
    "X: x\nTransfer-Encoding: chunked",
    "X: x\rTransfer-Encoding: chunked",
    "Transfer_Encoding: chunked",
    "Transfer-Encoding\0: chunked",
    "Transfer-Enc\u{f6}ding: chunked",
];

const LENGTHS: [&str; 28] = [
    "+5",
    "-5",
    "0x5",
    "5,5",
    "5, 5",
    "5 5",
    "5.0",
    "05",
    "00005",
    " 5",
    "5 ",
    "5;",
    "5\x0b",
    "\"5\"",
    "",
    "5e0",
    "5_",
    "\u{665}",
    "99999999999999999999",
    "18446744073709551616",
    "18446744073709551615",
    "5\r\nContent-Length: 5",
    "5\r\nContent-Length: 6",
    "6\r\nContent-Length: 5",
    "5\r\ncontent-length: 0",
    "0\r\nContent-Length: 5",
    "5\n",
    "5\0",
];

const CHUNKS: [&str; 30] = [
    "5;x=y\r\nhello\r\n0\r\n\r\n",
    "5 ;x\r\nhello\r\n0\r\n\r\n",
    "5;\nhello\r\n0\r\n\r\n",
    "5;x\ny\r\nhello\r\n0\r\n\r\n",
    "5\nhello\n0\n\n",
    "5\r\nhello\n0\r\n\r\n",
    "5\rhello\r\n0\r\n\r\n",
    "05\r\nhello\r\n0\r\n\r\n",
    "0x5\r\nhello\r\n0\r\n\r\n",
    "+5\r\nhello\r\n0\r\n\r\n",
    "-5\r\nhello\r\n0\r\n\r\n",
    "5 \r\nhello\r\n0\r\n\r\n",
    " 5\r\nhello\r\n0\r\n\r\n",
    "\r\n5\r\nhello\r\n0\r\n\r\n",
    "5\r\nhelloXX0\r\n\r\n",
    "5\r\nhello0\r\n\r\n",
    "6\r\nhello\r\n0\r\n\r\n",
    "4\r\nhello\r\n0\r\n\r\n",
    "g\r\nhello\r\n0\r\n\r\n",
    "10000000000000005\r\nhello\r\n0\r\n\r\n",
    "ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "fffffffffffffffe\r\nhello\r\n0\r\n\r\n",
    "5\r\nhello\r\n0\r\nX: y\r\n\r\n",
    "5\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n",
    "5\r\nhello\r\n0\r\nTransfer-Encoding: x\r\n\r\n",
    "5\r\nhello\r\n0\r\nAuthorization: Bearer x\r\n\r\n",
    "5\r\nhello\r\n00\r\n\r\n",
    "5\r\nhello\r\n0\r\n\n",
    "5\r\nhello\r\n0\n\r\n",
    "5\r\nhello\r\n0 \r\n\r\n",
];

/// A line that tells of a body, of a connection or of a caller, and how it is oddly spelled: `NAME` and `VALUE`.
const LINES: [(&str, &str); 6] = [
    ("Content-Length", "5"),
    ("Transfer-Encoding", "chunked"),
    ("Connection", "close"),
    ("Host", "localhost"),
    ("Expect", "100-continue"),
    ("Authorization", "Bearer other"),
];
const SPELLINGS: [&str; 8] = [
    "NAME : VALUE",
    " NAME: VALUE",
    "NAME\0: VALUE",
    "NAME: VALUE\0",
    "NAME:\r\n VALUE",
    "NAME: VALUE\rX: x",
    "X: x\nNAME: VALUE",
    "NAME VALUE",
];

/// One case: its name, and what is sent.
struct Case {
    name: String,
    bytes: Vec<u8>,
}

/// All cases; the paths of each, of what it asks for and of what it hides, have its number.
struct Cases {
    authorization: String,
    all: Vec<Case>,
}

impl Cases {
    /// Of three digits, so that a body is as long in each case; the letter ends what is a number.
    fn number(number: usize) -> String {
        format!("{number:03}n")
    }

    /// The head of the next case's request, but for its last line, which is empty.
    fn head(&self, method: &str) -> String {
        let (number, authorization) = (Self::number(self.all.len()), &self.authorization);
        format!("{method} /gateway/contacts/case{number} HTTP/1.1\r\nHost: localhost\r\n{authorization}\r\n")
    }

    /// What the next case hides: a request that would be served.
    fn hidden(&self) -> String {
        let (number, authorization) = (Self::number(self.all.len()), &self.authorization);
        format!("GET /gateway/contacts/hidden{number} HTTP/1.1\r\nHost: localhost\r\n{authorization}\r\n\r\n")
    }

    fn add(&mut self, name: String, text: String) {
        self.all.push(Case { name, bytes: text.into_bytes() });
    }

    /// A request with these lines and this body, and the hidden one right behind it.
    fn add_headers(&mut self, name: &str, method: &str, lines: &str, body: &str) {
        let text = format!("{}{lines}\r\n{body}{}", self.head(method), self.hidden());
        self.add(format!("{name}, {method}"), text);
    }
}

fn cases(authorization: &str) -> Vec<Case> {
    let mut cases = Cases { authorization: authorization.to_owned(), all: Vec::new() };
    for coding in CODINGS {
        // To who counts, the body is all of it; to who reads chunks, it ends before what it hides.
        let body = format!("0\r\n\r\n{}", cases.hidden());
        let head = cases.head("POST");
        cases.add(
            format!("CL.TE {coding:?}"),
            format!("{head}Content-Length: {}\r\n{coding}\r\n\r\n{body}", body.len()),
        );
        // In the other order: to who counts, the body is the chunk's size and what it hides comes behind.
        let hidden = cases.hidden();
        let size = format!("{:x}\r\n", hidden.len());
        let head = cases.head("POST");
        cases.add(
            format!("TE.CL {coding:?}"),
            format!("{head}{coding}\r\nContent-Length: {}\r\n\r\n{size}{hidden}\r\n0\r\n\r\n", size.len()),
        );
        cases.add_headers(&format!("TE.TE {coding:?}"), "POST", &format!("{coding}\r\n"), "0\r\n\r\n");
        // HTTP/1.0 knows no chunks.
        let old = cases.head("POST").replace("HTTP/1.1", "HTTP/1.0");
        let hidden = cases.hidden();
        cases.add(format!("HTTP/1.0 with TE {coding:?}"), format!("{old}{coding}\r\n\r\n0\r\n\r\n{hidden}"));
    }
    for length in LENGTHS {
        // The second is for who takes a GET for one without a body.
        for method in ["POST", "GET"] {
            let line = format!("Content-Length: {length}\r\n");
            cases.add_headers(&format!("length {length:?}"), method, &line, "hello");
        }
    }
    for chunks in CHUNKS {
        cases.add_headers(&format!("chunks {chunks:?}"), "POST", "Transfer-Encoding: chunked\r\n", chunks);
    }
    for (line, value) in LINES {
        for spelling in SPELLINGS {
            let line = spelling.replace("NAME", line).replace("VALUE", value);
            for method in ["GET", "DELETE"] {
                cases.add_headers(
                    &format!("{line:?}"),
                    method,
                    &format!("{line}\r\n"),
                    "5\r\nhello\r\n0\r\n\r\n",
                );
            }
        }
    }
    for method in ["GET", "POST", "OPTIONS", "HEAD", "DELETE", "PATCH"] {
        for (name, lines, body) in [
            ("pipelined", "", ""),
            ("no body", "Content-Length: 0\r\n", ""),
            ("expected", "Expect: 100-continue\r\nContent-Length: 5\r\n", "hello"),
            ("nothing expected", "Expect: 100-continue\r\nContent-Length: 0\r\n", ""),
            ("expected otherwise", "Expect: other\r\nContent-Length: 5\r\n", "hello"),
            ("to WebSocket", "Connection: Upgrade\r\nUpgrade: websocket\r\n", ""),
            ("to HTTP/2", "Connection: Upgrade\r\nUpgrade: h2c\r\n", ""),
            ("closed", "Connection: close\r\n", ""),
            ("closed with a body", "Connection: close\r\nContent-Length: 5\r\n", "hello"),
        ] {
            cases.add_headers(name, method, lines, body);
        }
    }
    add_first_lines(&mut cases);
    cases.all
}

/// First lines and ends of lines.
fn add_first_lines(cases: &mut Cases) {
    for (from, to) in [
        ("\r\n", "\n"),
        ("\r\n", "\r"),
        (" HTTP/1.1", "  HTTP/1.1"),
        (" HTTP/1.1", "\tHTTP/1.1"),
        (" HTTP/1.1", " HTTP/1.1 "),
        (" HTTP/1.1", ""),
        (" HTTP/1.1", " HTTP/2.0"),
        (" HTTP/1.1", " HTTP/1.2"),
        (" HTTP/1.1", " HTTP/0.9"),
        (" HTTP/1.1", " http/1.1"),
        (" HTTP/1.1", " HTTP/1.1\r\nHIDDEN"),
        ("Host:", "\r\nHost:"),
        ("Host:", "Host: other\r\nHost:"),
        ("GET ", "\r\nGET "),
        ("GET ", "\r\n\r\n\r\nGET "),
        ("GET ", "\0GET "),
        ("GET ", "get "),
        ("GET ", "G\0ET "),
        ("GET ", "GET\0 "),
        ("localhost", "localhost\0"),
    ] {
        let hidden = cases.hidden();
        let hidden = hidden.split("\r\n").next().unwrap_or_default();
        let text = format!("{}\r\n", cases.head("GET")).replace(from, &to.replace("HIDDEN", hidden));
        cases.add(format!("{from:?} as {to:?}"), text);
    }
}

/// There are as many as we say: each has a name of its own, and no two send the same.
fn are_distinct(cases: &[Case]) {
    assert!(cases.len() >= 300, "{}", cases.len());
    let names: BTreeSet<_> = cases.iter().map(|case| &case.name).collect();
    assert_eq!(names.len(), cases.len(), "two have one name");
    let mut sent = BTreeMap::new();
    for (number, case) in cases.iter().enumerate() {
        let text = String::from_utf8_lossy(&case.bytes).replace(&Cases::number(number), "");
        if let Some(other) = sent.insert(text, &case.name) {
            panic!("{} sends what {other} does", case.name);
        }
    }
}

/// A program in front of the service that is ended with the story.
struct Front {
    child: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Drop for Front {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").to_string()
}

/// Starts a program of Debian's with a configuration; none where it is not there.
fn front(program: &str, arguments: &[&str], text: impl Fn(&str, &str) -> String) -> Option<Front> {
    let folder = tempfile::tempdir().expect("a folder");
    let address = free_address();
    let file = folder.path().join("configuration");
    std::fs::write(&file, text(&address, &folder.path().display().to_string())).expect("written");
    let mut command = Command::new(program);
    command.args(arguments).arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(child) = command.spawn() else {
        eprintln!("{program} is not here: nothing is smuggled through it");
        return None;
    };
    let front = Front { child, address, _folder: folder };
    crate::house::until(|| std::net::TcpStream::connect(&front.address).is_ok());
    Some(front)
}

#[test]
fn what_hides_in_a_request_arrives_nowhere_that_we_have_not_logged() {
    let siege = Siege::new();
    let service = siege.house.private.clone();
    let nginx = front("nginx", &["-e", "/dev/null", "-c"], |address, folder| {
        format!(
            "daemon off; master_process off; pid {folder}/pid;\nevents {{}}\nhttp {{\n\
             access_log off; client_body_temp_path {folder}/a; proxy_temp_path {folder}/b;\n\
             fastcgi_temp_path {folder}/c; uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;\n\
             upstream service {{ server {service}; keepalive 8; }}\n\
             server {{ listen {address}; ignore_invalid_headers off; underscores_in_headers on;\n\
             location / {{ proxy_pass http://service; proxy_http_version 1.1; proxy_set_header Host localhost;\n\
             proxy_set_header Connection \"\"; proxy_request_buffering off; }} }} }}\n"
        )
    });
    let haproxy = front("haproxy", &["-f"], |address, _| {
        format!(
            "defaults\n mode http\n timeout connect 5s\n timeout client 20s\n timeout server 20s\n\
             frontend f\n bind {address}\n default_backend b\n\
             backend b\n http-reuse always\n http-request set-header Host localhost\n server s {service}\n"
        )
    });
    let cases = cases(&siege.bearer());
    are_distinct(&cases);
    let fronts = [
        ("nobody", Some(siege.house.private.clone())),
        ("nginx", nginx.as_ref().map(|front| front.address.clone())),
        ("HAProxy", haproxy.as_ref().map(|front| front.address.clone())),
    ];
    let mut logged_before = siege.logged().len();
    for (name, address) in fronts {
        let Some(address) = address else { continue };
        let next = AtomicUsize::new(0);
        std::thread::scope(|threads| {
            for _ in 0..48 {
                threads.spawn(|| {
                    while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let mut line = Line::to(&address);
                        line.send(&case.bytes);
                        line.rest_within(QUIET);
                    }
                });
            }
        });
        // What is still on its way belongs to this front.
        std::thread::sleep(Duration::from_millis(300));
        let arrived = siege.arrived();
        assert_eq!(siege.upstream.odd(), Vec::<String>::new(), "behind {name}");
        let mut counts: BTreeMap<(String, String), isize> = BTreeMap::new();
        crate::house::until(|| siege.logged().len() >= logged_before + arrived.len());
        let logged = siege.logged();
        for line in &logged[logged_before..] {
            *counts.entry(line.clone()).or_default() += 1;
        }
        logged_before = logged.len();
        let mut once = BTreeSet::new();
        for one in &arrived {
            let count = counts.entry((one.method.clone(), one.target.clone())).or_default();
            *count -= 1;
            assert!(*count >= 0, "behind {name}, nobody logged {one:?}");
            let case =
                case_of(&cases, one).unwrap_or_else(|| panic!("behind {name}, nobody asked for {one:?}"));
            assert!(once.insert(&one.target), "behind {name}, twice: {one:?} of {}", case.name);
        }
        assert!(arrived.len() > 50, "behind {name}, some are sound: {}", arrived.len());
        if name == "nobody" {
            no_hidden_one_behind_two_framings(&cases, &arrived);
        }
    }
    drop((nginx, haproxy));
    siege.end();
}

/// Which case asked for it, openly or hidden.
fn case_of<'a>(cases: &'a [Case], one: &crate::upstream::Seen) -> Option<&'a Case> {
    let path = one.target.strip_prefix("/contacts/")?;
    let digits = path.strip_prefix("case").or_else(|| path.strip_prefix("hidden"))?.strip_suffix('n')?;
    cases.get(digits.parse::<usize>().ok()?)
}

/// Where two headers tell of the body, what follows the first request is not read.
fn no_hidden_one_behind_two_framings(cases: &[Case], arrived: &[crate::upstream::Seen]) {
    for (number, case) in cases.iter().enumerate() {
        let text = String::from_utf8_lossy(&case.bytes).to_ascii_lowercase();
        let head = text.split("\r\n\r\n").next().unwrap_or_default();
        if head.contains("content-length:") && head.contains("\r\ntransfer-encoding:") {
            let hidden = format!("/contacts/hidden{}", Cases::number(number));
            assert!(!arrived.iter().any(|one| one.target == hidden), "{}: {text:?}", case.name);
        }
    }
}
