//! Many connections that say little or nothing, and take places and file handles for it.

use std::io::{ErrorKind, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::house::{House, block_on, home, until};
use crate::support::Home;
use crate::wire::{Wire, ask, bearer, request};

/// Slow ones are to be gone after about ten seconds; a busy machine may take a few more.
const GONE_WITHIN: Duration = Duration::from_secs(20);

/// Lets this test have as many connections as the system allows.
fn many_files() {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    if soft < 4096 {
        setrlimit(Resource::RLIMIT_NOFILE, hard.min(4096).max(soft), hard).expect("it may");
    }
}

/// A service that may have `files` files and sockets open.
fn with_files(home: Home, files: usize) -> House {
    many_files();
    let plain = home.command(["serve"]);
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -n {files} && exec \"$0\" serve"), crate::support::BINARY]);
    command.env_clear().current_dir(plain.get_current_dir().expect("a folder"));
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    House::started_by(home, |_| {}, command)
}

/// A connection whose client takes little at a time.
fn with_a_small_window(to: &str) -> TcpStream {
    let to: SocketAddr = to.parse().expect("an address");
    let stream = block_on(async {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(4096)?;
        socket.connect(to).await?.into_std()
    });
    let stream = stream.expect("a connection");
    stream.set_nonblocking(false).expect("a socket");
    stream
}

/// Asks and asks, and never reads an answer, until the service takes nothing more.
fn never_reading(to: &str, asked: &[u8]) -> Wire {
    let mut wire = Wire::over(with_a_small_window(to));
    wire.stream.set_write_timeout(Some(Duration::from_millis(500))).expect("a time-out");
    let bytes = asked.repeat(50);
    loop {
        match wire.stream.write(&bytes) {
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return wire,
            Err(error) => panic!("it was ended before it was full: {error}"),
        }
    }
}

#[test]
fn slow_ones_of_every_kind_are_ended_while_the_others_are_served() {
    many_files();
    let house = House::new();
    let key = house.master_key();
    let path = house.token_path();
    let mut slow: Vec<(&str, Wire)> = Vec::new();
    let head = |line: &str, more: &str| format!("{line} HTTP/1.1\r\nHost: localhost\r\n{more}");
    for address in [&house.private, &house.public] {
        for _ in 0..25 {
            let mut add = |what, bytes: String| {
                let mut wire = Wire::to(address);
                wire.send(bytes.as_bytes()).expect("taken");
                slow.push((what, wire));
            };
            add("not a byte", String::new());
            add("half a head", head("GET /livez", "X-Slow: "));
            add("half a form", head("POST /oauth/callback", "Content-Length: 100\r\n\r\ncode="));
            add("idle after an answer", head("GET /livez", "\r\n"));
        }
    }
    for _ in 0..25 {
        let mut wire = Wire::to(&house.private);
        let more = format!("Authorization: Bearer {key}\r\nContent-Length: 100\r\n\r\n{{\"");
        wire.send(head(&format!("POST {path}/refused"), &more).as_bytes()).expect("taken");
        slow.push(("half a body", wire));
    }
    // Long answers, so that all buffers on the way are full soon.
    let long = request("GET", &format!("/oauth/start?link={}", "a".repeat(8000)), &[], "");
    for address in [&house.private, &house.public, &house.public] {
        slow.push(("reading nothing", never_reading(address, &long)));
    }
    assert!(slow.len() >= 200, "{}", slow.len());

    let token = request("GET", &path, &[("Authorization", &bearer(&key))], "");
    let (began, mut waits) = (Instant::now(), Vec::new());
    while !slow.is_empty() {
        // Some say another letter now and then, so that they are never quite silent.
        for (what, wire) in &mut slow {
            if matches!(*what, "half a head" | "half a form" | "half a body") {
                // It may have been ended.
                wire.send(b"a").ok();
            }
        }
        slow.retain_mut(|(what, wire)| match *what {
            // It would read if we looked for the end.
            "reading nothing" => wire.stream.take_error().expect("a socket").is_none(),
            _ => !wire.is_over_within(Duration::from_millis(1)),
        });
        let asked = Instant::now();
        assert_eq!(ask(&house.private, &token).status, 200);
        waits.push(asked.elapsed());
        let left: std::collections::BTreeSet<&str> = slow.iter().map(|(what, _)| *what).collect();
        assert!(began.elapsed() < GONE_WITHIN, "after {:?} there are still {left:?}", began.elapsed());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(half_of(&mut waits) < Duration::from_secs(1), "{waits:?}");
    house.end();
}

/// What half of them stay below, so that a machine that stumbles once is no failure of ours.
fn half_of(waits: &mut [Duration]) -> Duration {
    waits.sort();
    waits[waits.len() / 2]
}

/// Takes as many connections as there are, up to `most` at once, and others when they are ended. How
/// many it got.
fn crowd(address: &str, most: usize, over: &AtomicBool) -> usize {
    let mut crowd: Vec<TcpStream> = Vec::new();
    let mut got = 0;
    while !over.load(Ordering::Relaxed) {
        crowd.retain(|stream| !matches!(stream.peek(&mut [0]), Ok(0)));
        match connected(address) {
            Some(stream) if crowd.len() < most => {
                stream.set_nonblocking(true).expect("a socket");
                crowd.push(stream);
                got += 1;
            }
            _ => std::thread::sleep(Duration::from_millis(20)),
        }
    }
    got
}

/// Ends the crowds, also when the test fails.
struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A connection; none when the line of those who wait is full.
fn connected(address: &str) -> Option<TcpStream> {
    TcpStream::connect_timeout(&address.parse().expect("an address"), Duration::from_millis(200)).ok()
}

#[test]
fn a_flood_at_the_public_door_starves_nobody_at_the_private_one() {
    let house = with_files(home(), 256);
    let key = house.master_key();
    let token = request("GET", &house.token_path(), &[("Authorization", &bearer(&key))], "");
    let fresh = request(
        "GET",
        &format!("{}?minimum_life=1", house.token_path()),
        &[("Authorization", &bearer(&key))],
        "",
    );
    let over = AtomicBool::new(false);
    let (mut waits, mut taken) = (Vec::new(), 0);
    std::thread::scope(|scope| {
        let crowds: Vec<_> = (0..4).map(|_| scope.spawn(|| crowd(&house.public, 150, &over))).collect();
        let end = OnDrop(&over);
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(7) {
            // The private door answers at once, from memory and from the store.
            for request in [&token, &fresh] {
                let before = Instant::now();
                assert_eq!(ask(&house.private, request).status, 200);
                waits.push(before.elapsed());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        drop(end);
        taken = crowds.into_iter().map(|crowd| crowd.join().expect("no panic")).sum();
    });
    assert!(taken > 150, "{taken} were taken");
    waits.sort();
    // Where the crowd gets all handles, the private door stands still until it is sent away: five seconds.
    assert!(waits[waits.len() - 1] < Duration::from_secs(4), "{waits:?}");
    let before = Instant::now();
    until(|| ask(&house.public, &request("GET", "/livez", &[], "")).status == 200);
    assert!(before.elapsed() < Duration::from_secs(4), "{:?}", before.elapsed());
    house.end();
}

#[test]
fn with_no_file_handle_left_it_lives_and_recovers_when_they_are_back() {
    let house = with_files(home(), 128);
    let key = house.master_key();
    let token = request("GET", &house.token_path(), &[("Authorization", &bearer(&key))], "");
    let mut waits = Vec::new();
    for _ in 0..3 {
        let mut flood: Vec<TcpStream> = Vec::new();
        for address in [&house.private, &house.public] {
            flood.extend((0..300).map_while(|_| connected(address)));
        }
        assert!(flood.len() > 128, "{}", flood.len());
        // They are all over the place by now.
        std::thread::sleep(Duration::from_millis(300));
        drop(flood);
        let gone = Instant::now();
        assert_eq!(ask(&house.private, &token).status, 200);
        waits.push(gone.elapsed());
        assert_eq!(ask(&house.public, &request("GET", "/livez", &[], "")).status, 200);
    }
    assert!(half_of(&mut waits) < Duration::from_secs(2), "{waits:?}");
    // Nor has it lost anything that it needs beside sockets.
    assert_eq!(house.get("/readyz", &key).status, 200);
    assert_eq!(house.ask("POST", "/v1/maintenances", &key, r#"{"seconds":1}"#).status, 201);
    house.end();
}
