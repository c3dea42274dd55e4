//! Callers who take more than their share, and how they are ended: sockets by the hundred that say little or
//! nothing, and long answers that nobody reads. And what passes untouched, however odd it is.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::attack::{LOCATION, Line, Siege, ask, raw, request, times};
use crate::caller::Way;
use crate::house::{empty_home, until};

/// Slow ones are to be gone after about ten seconds; a busy machine may take a few more.
const GONE_WITHIN: Duration = Duration::from_secs(25);

/// What the service may have of memory beside what it had before, in KiB.
const MORE_MEMORY: u64 = 48 * 1024;

const MEBIBYTE: usize = 1024 * 1024;

/// Lets this test have as many connections as the system allows.
fn many_files() {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    if soft < 8192 {
        setrlimit(Resource::RLIMIT_NOFILE, hard.min(8192).max(soft), hard).expect("it may");
    }
}

#[test]
fn the_listener_with_tls_agrees_on_no_http2() {
    if Command::new("openssl").arg("version").stdout(Stdio::null()).status().is_err() {
        eprintln!("openssl is not there: what is agreed on with TLS is not tried");
        return;
    }
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let home = empty_home().log_in();
    let certificate = home.write("tls.crt", &made.cert.pem()).display().to_string();
    let private = home.write("tls.key", &made.signing_key.serialize_pem()).display().to_string();
    let home = home.set("GHL_AUTH_TLS_CERT", &certificate).set("GHL_AUTH_TLS_KEY", &private);
    let mut running = home.start(["serve"]);
    let said = running.until_it_says("Programs ask here: https://");
    let line = said.lines().find(|line| line.contains("Programs ask here")).expect("it says so");
    let address = line.split_once("https://").expect("an address").1.split('/').next().expect("an address");
    let agreed_on = |protocols: &str| {
        let out = Command::new("openssl")
            .args(["s_client", "-connect", address, "-alpn", protocols])
            .stdin(Stdio::null())
            .output()
            .expect("openssl runs");
        format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
    };
    let both = agreed_on("h2,http/1.1");
    assert!(both.contains("ALPN protocol: http/1.1"), "{both}");
    let only = agreed_on("h2");
    assert!(!only.contains("ALPN protocol: h2"), "{only}");
    running.signal("TERM");
    running.end().good();
}

#[test]
fn json_passes_both_ways_byte_for_byte_whatever_it_is() {
    let siege = Siege::new();
    // What came is sent back.
    siege.upstream.answers(|seen, stream| {
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            seen.body.len()
        );
        stream.write_all(head.as_bytes()).is_ok() && stream.write_all(&seen.body).is_ok()
    });
    let key = siege.bearer();
    let members = |count: usize| -> Vec<u8> {
        let members: Vec<String> = (0..count).map(|number| format!("\"k{number}\":{number}")).collect();
        format!("{{{}}}", members.join(",")).into_bytes()
    };
    let bodies: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", b"".to_vec()),
        ("a hundred thousand levels", [[b'['; 100_000], [b']'; 100_000]].concat()),
        ("levels that are never closed", vec![b'{'; 60_000]),
        ("a thousand members", members(1000)),
        ("many members", members(times("GHL_AUTH_JSON_MEMBERS", 200_000))),
        ("a name twice", br#"{"locationId":"a","locationId":"b"}"#.to_vec()),
        ("a name twice, escaped", br#"{"a":1,"\u0061":2}"#.to_vec()),
        ("a huge number", [b"[".as_slice(), &[b'9'; 5000], b"e99999]"].concat()),
        ("half a surrogate", br#"{"a":"\ud800"}"#.to_vec()),
        ("no UTF-8", b"{\"a\":\"\xff\xfe\"}".to_vec()),
        ("a byte order mark", b"\xef\xbb\xbf{}".to_vec()),
        ("zeros", vec![0; 1000]),
        ("blanks and line ends", b" \r\n\r\n {} \r\n\r\n0\r\n\r\n".to_vec()),
        ("half a document", b"{\"a\":".to_vec()),
        ("NaN", b"[NaN,Infinity,-0,1E400]".to_vec()),
        ("a request", b"GET /contacts/x HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
    ];
    for (what, body) in &bodies {
        for way in Way::BOTH {
            let headers = [key.as_str(), "Content-Type: application/json"];
            let got = ask(&siege.house.private, &request(way, "POST", "/contacts/", &headers, body));
            let got = got.expect("an answer");
            assert_eq!((got.status, got.is_whole), (200, true), "{way:?} {what}: {}", got.head);
            assert!(&got.body == body, "{way:?} {what}: other bytes came back");
            let arrived = siege.arrived();
            assert_eq!(arrived.len(), 1, "{way:?} {what}");
            assert!(&arrived[0].body == body, "{way:?} {what}: other bytes arrived");
        }
    }
    siege.end();
}

#[test]
fn slow_callers_hold_no_connection_to_highlevel_and_are_ended_while_others_are_served() {
    many_files();
    let count = times("GHL_AUTH_SLOW_SOCKETS", 500);
    let siege = Siege::new();
    let key = siege.bearer();
    let before = (siege.most_memory_kib(), siege.upstream.open());
    siege.upstream.most_open();
    let head = |method: &str, more: &str| {
        format!("{method} /gateway/contacts/slow HTTP/1.1\r\nHost: localhost\r\n{more}").into_bytes()
    };
    let kinds: [(&str, Vec<u8>); 5] = [
        ("half a head", head("GET", &format!("{key}\r\nX-Slow: "))),
        ("half a body", head("POST", &format!("{key}\r\nContent-Length: 1000\r\n\r\n{{"))),
        ("half a chunk", head("POST", &format!("{key}\r\nTransfer-Encoding: chunked\r\n\r\n100\r\n{{"))),
        ("no chunk", head("POST", &format!("{key}\r\nTransfer-Encoding: chunked\r\n\r\n"))),
        ("not a byte of a body", head("PUT", &format!("{key}\r\nContent-Length: 60000\r\n\r\n"))),
    ];
    let mut slow: Vec<(&str, Line)> = (0..count)
        .map(|number| {
            let (what, bytes) = &kinds[number % kinds.len()];
            let mut line = siege.wire();
            line.send(bytes);
            (*what, line)
        })
        .collect();
    let (began, mut waits) = (Instant::now(), Vec::new());
    let mut others = siege.wire();
    while !slow.is_empty() {
        for (what, line) in &mut slow {
            if *what != "not a byte of a body" && *what != "no chunk" {
                // Some say another letter now and then, so that they are never quite silent.
                line.send(b"a");
            }
        }
        slow.retain_mut(|(_, line)| !line.rest_within(Duration::from_millis(1)).1);
        let asked = Instant::now();
        let got = others.ask(&request(Way::Plain, "GET", "/contacts/quick", &[&key], b""));
        assert_eq!(got.expect("an answer").status, 200);
        waits.push(asked.elapsed());
        let left: std::collections::BTreeSet<&str> = slow.iter().map(|(what, _)| *what).collect();
        assert!(began.elapsed() < GONE_WITHIN, "after {:?} there are still {left:?}", began.elapsed());
        std::thread::sleep(Duration::from_millis(50));
    }
    waits.sort();
    let half = waits[waits.len() / 2];
    assert!(half < Duration::from_secs(1), "{waits:?}");
    let arrived = siege.arrived();
    assert!(arrived.iter().all(|one| one.target == "/contacts/quick"), "what was never whole was sent");
    let most = siege.upstream.most_open();
    assert!(most <= before.1 + 4, "{most} connections to HighLevel, of callers who sent nothing whole");
    let more = siege.most_memory_kib().saturating_sub(before.0);
    assert!(more < MORE_MEMORY, "{more} KiB more");
    eprintln!("{count} slow ones gone after {:?}; others waited {half:?}, {more} KiB more", began.elapsed());
    siege.end();
}

#[test]
fn who_reads_a_long_answer_slowly_costs_little_memory_and_is_ended() {
    let siege = Siege::new();
    let key = siege.bearer();
    siege.upstream.answers(|seen, stream| {
        if seen.target != "/contacts/long" {
            return stream.write_all(crate::upstream::PLAIN_ANSWER).is_ok();
        }
        let length = 64 * MEBIBYTE;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
        let part = vec![b'a'; MEBIBYTE];
        stream.write_all(head.as_bytes()).is_ok() && (0..64).all(|_| stream.write_all(&part).is_ok())
    });
    let before = siege.most_memory_kib();
    let mut slow: Vec<Line> = Vec::new();
    for number in 0..20 {
        let mut line = siege.wire();
        line.send(&request(Way::BOTH[number % 2], "GET", "/contacts/long", &[&key], b""));
        slow.push(line);
    }
    until(|| siege.upstream.open() >= 20);
    let mut others = siege.wire();
    let began = Instant::now();
    // They read nothing at all; each is ended, and so is its connection to HighLevel.
    while siege.upstream.open() > 4 {
        let got = others.ask(&request(Way::Plain, "GET", "/contacts/quick", &[&key], b""));
        assert_eq!(got.expect("an answer").status, 200);
        assert!(began.elapsed() < GONE_WITHIN, "{} are still held", siege.upstream.open());
        std::thread::sleep(Duration::from_millis(100));
    }
    let more = siege.most_memory_kib().saturating_sub(before);
    assert!(more < MORE_MEMORY, "{more} KiB more");
    drop(slow);
    siege.end();
}

#[test]
fn connections_without_a_byte_take_no_place_for_long() {
    many_files();
    let count = times("GHL_AUTH_SILENT_SOCKETS", 2000);
    let siege = Siege::new();
    let key = siege.bearer();
    let plain = request(Way::Plain, "GET", "/contacts/x", &[&key], b"");
    let before = siege.most_memory_kib();
    let mut silent: Vec<Line> = Vec::with_capacity(count);
    for _ in 0..count {
        silent.push(siege.wire());
    }
    let began = Instant::now();
    assert_eq!(ask(&siege.house.private, &plain).expect("an answer").status, 200);
    let waited = began.elapsed();
    while !silent.is_empty() {
        silent.retain_mut(|line| !line.rest_within(Duration::from_millis(1)).1);
        assert!(began.elapsed() < GONE_WITHIN * 2, "{} are still there", silent.len());
    }
    let after = Instant::now();
    assert_eq!(ask(&siege.house.private, &plain).expect("an answer").status, 200);
    assert!(after.elapsed() < Duration::from_secs(2), "{:?}", after.elapsed());
    let more = siege.most_memory_kib().saturating_sub(before);
    assert!(more < MORE_MEMORY, "{more} KiB more");
    eprintln!("{count} silent ones; another waited {waited:?}, {more} KiB more");
    assert_eq!(siege.arrived().len(), 2);
    siege.end();
}

#[test]
fn half_a_head_behind_a_whole_request_is_not_waited_for_longer_than_any_other() {
    let siege = Siege::new();
    let key = siege.bearer();
    let mut line = siege.wire();
    // Whole, then the next begins and never ends: the clock runs for that one, too.
    let first = raw(Way::Plain, "GET", &format!("/gateway/locations/{LOCATION}"), &[&key], b"");
    line.send(&first);
    assert_eq!(line.answer(false).expect("an answer").status, 200);
    line.send(&first[..first.len() / 2]);
    let (said, is_over) = line.rest_within(GONE_WITHIN * 3);
    assert!(is_over, "{:?}", String::from_utf8_lossy(&said));
    assert_eq!(siege.arrived().len(), 1);
    siege.end();
}
