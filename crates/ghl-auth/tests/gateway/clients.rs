//! Callers who speak another protocol, or send too much, or take it slowly.

use std::io::Write;
use std::time::{Duration, Instant};

use crate::attack::{Line, Siege, request};
use crate::caller::Way;

#[test]
fn nobody_speaks_http2_with_us() {
    let siege = Siege::new();
    let key = siege.bearer();
    let mut line = siege.wire();
    line.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    let (said, is_over) = line.rest_within(Duration::from_secs(10));
    assert!(is_over && (said.is_empty() || said.starts_with(b"HTTP/1.1 400")), "{said:?}");
    for upgrade in ["h2c", "websocket", "TLS/1.2"] {
        let lines = format!(
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: {upgrade}\r\nHTTP2-Settings: AAMAAABkAAQAAP__"
        );
        let got = siege.wire().ask(&request(Way::Plain, "GET", "/contacts/x", &[&key, &lines], b""));
        assert_eq!(got.expect("an answer").status, 200, "{upgrade}");
    }
    siege.end();
}

#[test]
fn a_body_is_as_long_as_it_may_be_and_passes_untouched() {
    const MOST: usize = 1024 * 1024;
    let siege = Siege::of(|home| home.set("GHL_AUTH_GATEWAY_MAX_BODY_MIB", "1"));
    let key = siege.bearer();
    for way in Way::BOTH {
        for length in [1, 65_535, 65_536, 65_537, MOST - 1, MOST] {
            let body: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let got = siege.wire().ask(&request(way, "POST", "/contacts/", &[&key], &body));
            assert_eq!(got.expect("an answer").status, 200, "{way:?} {length}");
            let arrived = siege.arrived();
            assert_eq!(arrived.len(), 1);
            assert!(arrived[0].body == body, "{way:?} {length}: byte for byte");
        }
        let body = vec![b'x'; MOST + 1];
        let got = siege.wire().ask(&request(way, "POST", "/contacts/", &[&key], &body));
        let status = got.map(|got| got.status);
        assert!(matches!(status, None | Some(413)), "{way:?}: {status:?}");
        assert!(siege.upstream.seen().is_empty(), "{way:?}: no whole request arrived");
    }
    let began = Instant::now();
    let mut line = siege.wire();
    let length = "Content-Length: 10737418240\r\n\r\n";
    line.send(format!("POST /gateway/contacts/ HTTP/1.1\r\nHost: localhost\r\n{key}\r\n{length}").as_bytes());
    assert_eq!(line.answer(false).expect("an answer").status, 413);
    assert!(began.elapsed() < Duration::from_secs(5), "what is too long is not waited for");
    let mut line = siege.wire();
    let chunked = "Transfer-Encoding: chunked\r\n\r\n";
    line.send(
        format!("POST /gateway/contacts/ HTTP/1.1\r\nHost: localhost\r\n{key}\r\n{chunked}").as_bytes(),
    );
    let piece = [b"10000\r\n".as_slice(), &[b'x'; 0x10000], b"\r\n"].concat();
    let sent = (0..1000).take_while(|_| line.stream.write_all(&piece).is_ok()).count();
    assert!(sent < 1000, "it is stopped");
    assert!(siege.upstream.seen().is_empty(), "no whole request arrived");
    assert!(siege.most_memory_kib() < 64 * 1024, "{} KiB", siege.most_memory_kib());
    // Half a request is what is left of one that was too long.
    assert!(siege.upstream.odd().iter().all(|odd| odd.starts_with("half a")), "{:?}", siege.upstream.odd());
    siege.house.end();
}

#[test]
fn who_takes_a_short_answer_slowly_holds_no_connection_to_highlevel() {
    let siege = Siege::new();
    let key = siege.bearer();
    siege.upstream.answers(|_, stream| {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n";
        stream.write_all(&[head.as_slice(), &[b'x'; 60_000]].concat()).is_ok()
    });
    let before = siege.upstream.open();
    siege.upstream.most_open();
    let bytes = request(Way::Plain, "GET", "/contacts/x", &[&key], b"");
    let lines: Vec<Line> = (0..100)
        .map(|_| {
            let mut line = siege.wire();
            line.send(&bytes);
            std::thread::sleep(Duration::from_millis(3));
            line
        })
        .collect();
    crate::house::until(|| siege.logged().iter().filter(|(_, path)| path == "/contacts/x").count() >= 100);
    let most = siege.upstream.most_open();
    assert!(most < before + 50, "{most} connections");
    drop(lines);
    siege.end();
}
