//! Exchanges that end before their time: callers who leave, answers that come before the request is over, and
//! connections that HighLevel closes when it likes. Nothing is acted on twice, and nothing arrives unlogged.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use crate::attack::{Siege, ask, request};
use crate::caller::Way;
use crate::house::until;
use crate::upstream::PLAIN_ANSWER;

#[test]
fn what_arrives_for_a_caller_who_has_left_is_logged_all_the_same() {
    let siege = Siege::new();
    siege.upstream.answers(|_, stream| {
        std::thread::sleep(Duration::from_millis(300));
        stream.write_all(PLAIN_ANSWER).is_ok()
    });
    let key = siege.bearer();
    for (number, way) in Way::BOTH.into_iter().cycle().take(20).enumerate() {
        let path = format!("/contacts/left{number}");
        let mut line = siege.wire();
        line.send(&request(way, "POST", &path, &[&key], b"{}"));
        until(|| siege.arrived().iter().any(|one| one.target == path));
        drop(line);
        until(|| siege.logged().contains(&("POST".to_owned(), path.clone())));
    }
    siege.end();
}

#[test]
fn what_is_no_repeatable_is_sent_once_however_connections_end() {
    let siege = Siege::new();
    // It says nothing of the end of the connection, which comes a little later.
    siege.upstream.answers(|seen, stream| {
        let ends = seen.target.ends_with("ends");
        let before = seen.target.ends_with("before");
        if !before {
            stream.write_all(PLAIN_ANSWER).ok();
        }
        !ends && !before
    });
    let key = siege.bearer();
    let mut line = siege.wire();
    for (number, way) in Way::BOTH.into_iter().cycle().take(60).enumerate() {
        let end = ["goes-on", "ends", "before"][number % 3];
        let path = format!("/contacts/{number}-{end}");
        let got = line.ask(&request(way, "POST", &path, &[&key], b"{}")).expect("an answer");
        let arrived: Vec<String> = siege.arrived().into_iter().map(|one| one.target).collect();
        match end {
            "before" => assert_eq!((got.status, arrived), (502, vec![path.clone()]), "{way:?} {path}"),
            // It may go out on a connection that has just ended: then it arrived nowhere, or it is good.
            _ => match got.status {
                200 => assert_eq!(arrived, [path.as_str()], "{way:?}"),
                other => assert_eq!((other, arrived.len()), (502, 0), "{way:?} {path}"),
            },
        }
        // What may be repeated finds its way, on another connection.
        let got = line.ask(&request(way, "GET", "/contacts/read", &[&key], b"")).expect("an answer");
        assert_eq!(got.status, 200, "{way:?} after {path}");
        let count = siege.arrived().len();
        assert!((1..=2).contains(&count), "{way:?} after {path}: {count}");
    }
    siege.end();
}

/// Reads a head, answers, and goes on reading or not.
fn answering_early(mut stream: TcpStream, goes_on: bool) -> std::io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(Duration::from_secs(3)))?;
    let mut read = Vec::new();
    while !read.windows(4).any(|part| part == b"\r\n\r\n") {
        let mut bytes = [0; 4096];
        match stream.read(&mut bytes)? {
            0 => return Ok(read),
            length => read.extend_from_slice(&bytes[..length]),
        }
    }
    let body = br#"{"message":"too large"}"#;
    let head = format!("HTTP/1.1 422 Unprocessable\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat())?;
    if goes_on {
        stream.read_to_end(&mut read).ok();
    }
    Ok(read)
}

#[test]
fn an_answer_before_the_end_of_a_body_ends_no_request_of_another() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    // Whoever waits to be let in asks it too.
    let (say, hear) = std::sync::mpsc::channel::<Vec<u8>>();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let (Ok(stream), say) = (stream, say.clone()) else { return };
            std::thread::spawn(move || {
                if let Ok(read) = answering_early(stream, number % 2 == 0) {
                    // Nobody may hear it any more.
                    say.send(read).ok();
                }
            });
        }
    });
    let siege = Siege::of(|home| home.set("GHL_API_BASE_URL", &url));
    let key = siege.bearer();
    let part = vec![b'a'; 0x10000];
    for number in 0..6 {
        let path = format!("/contacts/early{number}");
        let mut line = siege.wire();
        let head = format!(
            "POST /gateway{path} HTTP/1.1\r\nHost: localhost\r\n{key}\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        line.send(head.as_bytes());
        let chunk = [b"10000\r\n".as_slice(), &part, b"\r\n"].concat();
        for _ in 0..4 {
            line.send(&chunk);
        }
        std::thread::sleep(Duration::from_millis(50));
        // The rest, and a request behind it that would be another's were the body's end unknown.
        let rest = [chunk.as_slice(), b"0\r\n\r\n"].concat();
        line.send(&rest);
        line.send(&request(Way::Plain, "GET", &format!("{path}-next"), &[&key], b""));
        let got = line.answer(false).expect("an answer");
        assert!(matches!(got.status, 422 | 502), "{path}: {}", got.head);
        if let Some(next) = line.answer(false) {
            assert!(matches!(next.status, 422 | 502), "{path}: {}", next.head);
        }
    }
    drop(siege.upstream.seen());
    let mut heads = 0;
    while let Ok(read) = hear.recv_timeout(Duration::from_secs(4)) {
        let text = String::from_utf8_lossy(&read).into_owned();
        let is_first = |line: &&str| line.ends_with(" HTTP/1.1");
        let lines: Vec<&str> = text.lines().filter(is_first).collect();
        // Behind one that was answered before its end, something follows only where it came to its end after all.
        if let Some((_, behind)) = text.split_once("POST /contacts/early")
            && let Some((body, _)) = behind.split_once("GET /contacts/early")
        {
            assert!(body.ends_with("a\r\n0\r\n\r\n"), "{lines:?}");
            assert!(body.matches('a').count() >= 5 * part.len(), "all five pieces are there");
        }
        heads += lines.len();
    }
    assert!(heads >= 6, "{heads}");
    siege.house.end();
}

#[test]
fn half_a_request_on_an_ended_connection_is_none() {
    let siege = Siege::new();
    let key = siege.bearer();
    let whole = request(Way::Plain, "POST", "/contacts/half", &[&key], &[b'x'; 500]);
    let streamed = request(Way::Streamed, "POST", "/contacts/half", &[&key], &[b'x'; 500]);
    for bytes in [whole, streamed] {
        for at in (1..bytes.len()).step_by(7) {
            let mut stream = TcpStream::connect(&siege.house.private).expect("it is taken");
            stream.write_all(&bytes[..at]).expect("sent");
            // Now the end, and now a reset.
            if at % 2 == 0 {
                stream.shutdown(std::net::Shutdown::Write).ok();
                stream.read_to_end(&mut Vec::new()).ok();
            }
        }
    }
    // Whoever asks now is answered.
    let got = ask(&siege.house.private, &request(Way::Plain, "GET", "/contacts/x", &[&key], b""));
    assert_eq!(got.expect("an answer").status, 200);
    let arrived: Vec<String> = siege.arrived().into_iter().map(|one| one.target).collect();
    assert_eq!(arrived, ["/contacts/x"]);
    siege.end();
}
