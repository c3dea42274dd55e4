//! Answers under attack: what stands in HighLevel's place may say anything, and a caller gets no more than
//! is certain.

use std::io::Write;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::attack::{Siege, request};
use crate::caller::Way;

/// What may come of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is refused: 502, or the connection ends.
    Refused,
    /// It passes whole, with this status.
    Passes(u16),
    /// The connection ends within it.
    Breaks,
}

use Fate::{Breaks, Passes, Refused};

const TABLE: [(&str, Fate); 57] = [
    ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", Passes(200)),
    (
        "HTTP/1.1 103 Early Hints\r\nX-Injected: 1\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        Passes(200),
    ),
    ("HTTP/1.1 199 X\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", Passes(200)),
    ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nX-Injected: 1", Refused),
    ("HTTP/1.1 101 Switching Protocols\r\n\r\n", Refused),
    ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}X", Refused),
    ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 2\r\n\r\n{}X", Refused),
    ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}", Refused),
    ("HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\n{}", Refused),
    ("HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\n{}", Refused),
    ("HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}", Refused),
    ("HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\n{}", Refused),
    ("HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\n{}", Refused),
    ("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n{}", Refused),
    ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}", Breaks),
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        Refused,
    ),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        Refused,
    ),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n{}", Refused),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n{}", Refused),
    ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", Refused),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\ng\r\n{}\r\n0\r\n\r\n", Breaks),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n", Breaks),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000002\r\n{}\r\n0\r\n\r\n", Breaks),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n", Breaks),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{}\r\n0\r\n\r\n", Breaks),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", Breaks),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n", Breaks),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Breaks),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\n{}\r\n0\r\n\r\n", Passes(200)),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nnot a header\r\n\r\n", Breaks),
    ("HTTP/1.1 200 OK\r\nX: a\r\n X-Injected: 1\r\nContent-Length: 2\r\n\r\n{}", Refused),
    ("HTTP/1.1 200 OK\r\nX: a\rX-Injected: 1\r\nContent-Length: 2\r\n\r\n{}", Refused),
    ("HTTP/1.1 200 OK\r\nX: a\0X-Injected: 1\r\nContent-Length: 2\r\n\r\n{}", Refused),
    ("HTTP/1.1 200 OK\r\nX : a\r\nContent-Length: 2\r\n\r\n{}", Refused),
    ("HTTP/1.1 200 OK\r\n: a\r\nContent-Length: 2\r\n\r\n{}", Refused),
    ("HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 2\r\n\r\n{}", Refused),
    ("HTTP/1.1 200 OK\rX-Injected: 1\r\nContent-Length: 2\r\n\r\n{}", Refused),
    ("HTTP/1.1 200 OK\0\r\nContent-Length: 2\r\n\r\n{}", Refused),
    ("HTTP/1.1 200\r\nContent-Length: 2\r\n\r\n{}", Passes(200)),
    ("HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\n{}", Refused),
    ("HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\n{}", Refused),
    ("HTTP/1.1 000 OK\r\nContent-Length: 2\r\n\r\n{}", Refused),
    ("HTTP/1.1 abc OK\r\nContent-Length: 2\r\n\r\n{}", Refused),
    ("HTTP/2 200 OK\r\nContent-Length: 2\r\n\r\n{}", Refused),
    ("HTTP/0.9 200 OK\r\nContent-Length: 2\r\n\r\n{}", Refused),
    ("ICY 200 OK\r\nContent-Length: 2\r\n\r\n{}", Refused),
    ("{}", Refused),
    ("\0\0\0", Refused),
    ("SSH-2.0-x\r\n", Refused),
    ("", Refused),
    ("HTTP/1.1 200 OK\r\nContent-Le", Refused),
    ("HTTP/1.1 200 OK\r\n\r\nuntil the end", Passes(200)),
    ("HTTP/1.0 200 OK\r\n\r\nuntil the end", Passes(200)),
    ("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}", Passes(200)),
    (
        "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nX-Injected: 1\r\nContent-Length: 0\r\n\r\n",
        Passes(204),
    ),
    ("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\nX-Injected: 1", Passes(304)),
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\nX-Injected: 1\r\nContent-Length: 0\r\n\r\n",
        Passes(200),
    ),
];

#[test]
fn an_answer_that_is_in_doubt_is_refused_and_puts_nothing_into_another() {
    let siege = Siege::new();
    let key = siege.bearer();
    for (text, fate) in TABLE {
        for way in Way::BOTH {
            siege.upstream.answers(move |_, stream| {
                stream.write_all(text.as_bytes()).ok();
                false
            });
            let mut line = siege.wire();
            line.send(&request(way, "POST", "/contacts/x", &[&key], b"{}"));
            let got = line.answer(false);
            let told = format!("{way:?} {text:?}: {got:?}");
            let (status, is_whole) = got.as_ref().map_or((0, false), |got| (got.status, got.is_whole));
            let is_refused = matches!(status, 0 | 502);
            match fate {
                Refused => assert!(is_refused, "{told}"),
                Passes(expected) => assert_eq!((status, is_whole), (expected, true), "{told}"),
                Breaks => assert!(is_refused || !is_whole, "{told}"),
            }
            if let Some(got) = &got {
                assert!(!got.head.contains("\nX-Injected") && !got.head.contains('\0'), "{told}");
                assert_eq!(got.header("x-injected"), None, "{told}");
            }
            // Whoever asks next gets the answer to what they asked.
            siege.upstream.answers(|seen, stream| {
                let body = format!("{{\"for\":\"{}\"}}", seen.target);
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                stream.write_all(head.as_bytes()).is_ok()
            });
            let mut line = siege.wire();
            let next = line.ask(&request(way, "GET", "/contacts/next", &[&key], b"")).expect("an answer");
            assert_eq!(next.body, b"{\"for\":\"/contacts/next\"}", "after {text:?}");
        }
    }
    siege.end();
}

#[test]
fn an_answer_without_a_body_that_brings_one_later_is_not_the_beginning_of_the_next() {
    let siege = Siege::new();
    let key = siege.bearer();
    for way in Way::BOTH {
        for late in ["Content-Length: 79\r\n", "Transfer-Encoding: chunked\r\n"] {
            siege.upstream.answers(move |seen, stream| {
                if !seen.target.ends_with("first") {
                    let body = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmine";
                    return stream.write_all(body).is_ok();
                }
                let head = format!("HTTP/1.1 204 No Content\r\n{late}\r\n");
                stream.write_all(head.as_bytes()).ok();
                std::thread::sleep(Duration::from_millis(50));
                stream.write_all(b"HTTP/1.1 200 OK\r\nX-Injected: 1\r\nContent-Length: 4\r\n\r\nevil").is_ok()
            });
            let mut line = siege.wire();
            let first = line.ask(&request(way, "GET", "/contacts/first", &[&key], b""));
            let second = line.ask(&request(way, "GET", "/contacts/second", &[&key], b""));
            let second = second.expect("an answer");
            assert!(matches!(first.map(|got| got.status), None | Some(204 | 502)), "{way:?} {late}");
            assert_eq!(second.body, b"mine", "{way:?} {late}: {}", second.head);
        }
    }
    siege.end();
}

#[test]
fn an_answer_without_end_takes_no_memory() {
    let siege = Siege::new();
    let key = siege.bearer();
    let fill = |count: usize, piece: &'static [u8], head: &'static [u8]| {
        move |_: &crate::upstream::Seen, stream: &mut std::net::TcpStream| {
            stream.write_all(head).ok();
            for _ in 0..count {
                if stream.write_all(piece).is_err() {
                    break;
                }
            }
            false
        }
    };
    for way in Way::BOTH {
        let bytes = request(way, "GET", "/contacts/x", &[&key], b"");
        // A header of ten mebibytes, and many that are short.
        let piece: &[u8] = &[b'a'; 1024];
        for (piece, head) in
            [(piece, &b"HTTP/1.1 200 OK\r\nX-A: "[..]), (b"X-A: b\r\n", b"HTTP/1.1 200 OK\r\n")]
        {
            siege.upstream.answers(fill(10 * 1024 * 1024 / piece.len(), piece, head));
            let got = crate::attack::ask(&siege.house.private, &bytes);
            assert!(matches!(got.as_ref().map(|got| got.status), None | Some(502)), "{way:?}: {got:?}");
        }
        // A size of a chunk that does not end, and chunks without end, of which a caller has enough.
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        siege.upstream.answers(fill(10 * 1024, b"00000000", chunked));
        let got = crate::attack::ask(&siege.house.private, &bytes);
        assert!(got.is_none_or(|got| got.status == 502 || !got.is_whole), "{way:?}");
        siege.upstream.answers(fill(4_000_000, b"10\r\n0123456789abcdef\r\n", chunked));
        let mut line = siege.wire();
        line.send(&bytes);
        let mut taken = 0;
        while taken < 4 * 1024 * 1024 {
            let mut some = [0; 64 * 1024];
            let length = std::io::Read::read(&mut line.stream, &mut some).expect("more of it");
            assert!(length > 0, "{way:?}: it ended after {taken}");
            taken += length;
        }
        drop(line);
    }
    let most = siege.most_memory_kib();
    assert!(most < 64 * 1024, "{most} KiB");
    siege.end();
}

#[test]
fn a_redirect_is_told_and_never_followed() {
    let siege = Siege::new();
    let key = siege.bearer();
    let elsewhere = TcpListener::bind("127.0.0.1:0").expect("a port");
    let place = elsewhere.local_addr().expect("an address").to_string();
    let visits = Arc::new(AtomicUsize::new(0));
    let counted = visits.clone();
    std::thread::spawn(move || {
        elsewhere.incoming().for_each(|_| {
            counted.fetch_add(1, Ordering::Relaxed);
        })
    });
    let upstream = siege.upstream.url.clone();
    for status in [300, 301, 302, 303, 305, 307, 308] {
        for to in [
            format!("http://{place}/contacts/y"),
            format!("https://{place}/contacts/y"),
            format!("//{place}/contacts/y"),
            format!("{upstream}/contacts/y"),
            "/contacts/y".to_owned(),
            "../users".to_owned(),
        ] {
            let head = format!("HTTP/1.1 {status} Elsewhere\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
            siege.upstream.answers(move |_, stream| stream.write_all(head.as_bytes()).is_ok());
            for way in Way::BOTH {
                let got = siege.wire().ask(&request(way, "GET", "/contacts/x", &[&key], b""));
                let got = got.expect("an answer");
                assert_eq!((got.status, got.header("location")), (status, Some(to.as_str())), "{way:?}");
                assert_eq!(siege.arrived().len(), 1, "{way:?} {status} {to}");
            }
        }
    }
    assert_eq!(visits.load(Ordering::Relaxed), 0);
    siege.end();
}
