//! Requests that hide another one: sent directly, through nginx and through HAProxy.
//!
//! Each case is written out in a table. Its path, and that of what it hides, say which case it is, so that
//! what arrived can be compared with what the service says it carried.

use std::collections::BTreeMap;
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

/// One case: what is sent, with `@` for its number, and how many requests it may be at most.
struct Case {
    bytes: Vec<u8>,
    most: usize,
}

fn cases(key: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |text: String, most: usize| {
        let number = cases.len();
        let text = text.replace('@', &format!("{number}n")).replace("KEY", &format!("Authorization: {key}"));
        cases.push(Case { bytes: text.into_bytes(), most });
    };
    let hidden = "GET /gateway/contacts/hidden@ HTTP/1.1\r\nHost: localhost\r\nKEY\r\n\r\n";
    let head =
        |method: &str| format!("{method} /gateway/contacts/case@ HTTP/1.1\r\nHost: localhost\r\nKEY\r\n");
    for coding in CODINGS {
        // CL.TE: to who counts, the body is all of it; to who reads chunks, it ends before what it hides.
        let body = format!("0\r\n\r\n{hidden}");
        let length = body.len() + key.len() + "Authorization: ".len() - "KEY".len();
        add(format!("{}Content-Length: {length}\r\n{coding}\r\n\r\n{body}", head("POST")), 2);
        // TE.CL, in the other order: to who counts, four bytes.
        let chunk = format!("{:x}\r\n{hidden}\r\n0\r\n\r\n", hidden.len());
        add(format!("{}{coding}\r\nContent-Length: 4\r\n\r\n{chunk}", head("POST")), 2);
        // TE.TE: only chunks, however they are told.
        add(format!("{}{coding}\r\n\r\n0\r\n\r\n{hidden}", head("POST")), 2);
        // HTTP/1.0 knows none.
        let old = head("POST").replace("HTTP/1.1", "HTTP/1.0");
        add(format!("{old}{coding}\r\n\r\n0\r\n\r\n{hidden}"), 2);
    }
    for length in LENGTHS {
        add(format!("{}Content-Length: {length}\r\n\r\nhello{hidden}", head("POST")), 2);
        // CL.0: who takes a GET for one without a body.
        add(format!("{}Content-Length: {length}\r\n\r\nhello{hidden}", head("GET")), 2);
    }
    for chunks in CHUNKS {
        add(format!("{}Transfer-Encoding: chunked\r\n\r\n{chunks}{hidden}", head("POST")), 2);
    }
    let mut whole =
        |method: &str, lines: &str, body: &str| add(format!("{}{lines}\r\n{body}", head(method)), 2);
    for method in ["GET", "POST", "OPTIONS", "HEAD", "DELETE", "PATCH"] {
        whole(method, "", hidden);
        whole(method, "Content-Length: 0\r\n", hidden);
        whole(method, "Expect: 100-continue\r\nContent-Length: 5\r\n", &format!("hello{hidden}"));
        whole(method, "Expect: 100-continue\r\nContent-Length: 0\r\n", hidden);
        whole(method, "Expect: other\r\nContent-Length: 5\r\n", &format!("hello{hidden}"));
        whole(method, "Connection: Upgrade\r\nUpgrade: websocket\r\n", hidden);
        whole(method, "Connection: Upgrade\r\nUpgrade: h2c\r\n", hidden);
        whole(method, "Connection: close\r\n", hidden);
        whole(method, "Connection: close\r\nContent-Length: 5\r\n", &format!("hello{hidden}"));
    }
    // First lines and ends of lines.
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
        (" HTTP/1.1", " HTTP/1.1\r\nGET /gateway/contacts/hidden@ HTTP/1.1"),
        ("Host:", "\r\nHost:"),
        ("Host:", "Host: other\r\nHost:"),
        ("GET", "\r\nGET"),
        ("GET", "\r\n\r\n\r\nGET"),
        ("GET", "\0GET"),
        ("GET", "get"),
        ("GET", "G\0ET"),
        ("GET", "GET\0"),
        ("localhost", "localhost\0"),
    ] {
        add(format!("{}\r\n", head("GET")).replacen(from, to, 9), 2);
    }
    cases
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
    let cases = cases(&format!("Bearer {}", siege.key));
    assert!(cases.len() >= 300, "{}", cases.len());
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
            for _ in 0..24 {
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
        let mut of_case = vec![0; cases.len()];
        for one in &arrived {
            let count = counts.entry((one.method.clone(), one.target.clone())).or_default();
            *count -= 1;
            assert!(*count >= 0, "behind {name}, nobody logged {one:?}");
            let number = one.target.trim_end_matches('n').rsplit(|c: char| !c.is_ascii_digit()).next();
            let number: usize = number.and_then(|digits| digits.parse().ok()).expect("a case's number");
            of_case[number] += 1;
        }
        for (case, count) in cases.iter().zip(of_case) {
            let text = String::from_utf8_lossy(&case.bytes);
            assert!(count <= case.most, "behind {name}: {count} requests of {text:?}");
        }
        assert!(arrived.len() > 50, "behind {name}, some are sound: {}", arrived.len());
        if name == "nobody" {
            no_hidden_one_behind_two_framings(&cases, &arrived);
        }
    }
    drop((nginx, haproxy));
    siege.end();
}

/// Where two headers tell of the body, what follows the first request is not read.
fn no_hidden_one_behind_two_framings(cases: &[Case], arrived: &[crate::upstream::Seen]) {
    for (number, case) in cases.iter().enumerate() {
        let text = String::from_utf8_lossy(&case.bytes).to_ascii_lowercase();
        let head = text.split("\r\n\r\n").next().unwrap_or_default();
        if head.contains("content-length:") && head.contains("\r\ntransfer-encoding:") {
            let hidden = format!("/contacts/hidden{number}n");
            assert!(!arrived.iter().any(|one| one.target == hidden), "{text:?}");
        }
    }
}
