//! Keys that are guessed, revoked, and sent where others see them.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use tokens::records::{Reach, Verb};

use crate::house::{House, block_on, now, these, until};
use crate::wire::{Wire, ask, ask_all, ask_all_from, bearer, request};

const PATIENCE: Duration = Duration::from_secs(30);

/// A connection from an address of this machine's own: all of 127.0.0.0/8 is.
fn from(source: Ipv4Addr, to: &str) -> TcpStream {
    let to: SocketAddr = to.parse().expect("an address");
    let stream = block_on(async {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((source, 0)))?;
        socket.connect(to).await?.into_std()
    });
    let stream = stream.expect("a connection");
    stream.set_nonblocking(false).expect("a socket");
    stream
}

/// Keys of the right form that nobody made, and things that are none.
fn wrong(number: usize, right: &str) -> String {
    match number % 5 {
        // The public part of a real key, and another secret behind it.
        0 => format!("{}{:0>43}{}", &right[..13], number, &right[56..]),
        1 => server::ApiKey::generate().expose().to_owned(),
        2 => format!("ghlk_{number}"),
        3 => format!("{}{}", &right[..right.len() - 1], if right.ends_with('A') { 'B' } else { 'A' }),
        _ => format!("{number}{right}"),
    }
}

#[test]
fn ten_thousand_wrong_keys_open_nothing_and_lock_nobody_out() {
    let house = House::new();
    let key = house.master_key();
    let path = house.token_path();
    let guess = |number| request("GET", &path, &[("Authorization", &bearer(&wrong(number, &key)))], "");
    assert_eq!(house.get(&path, &key).status, 200);
    let stranger = Ipv4Addr::new(127, 9, 9, 9);

    let began = Instant::now();
    let guesses: Vec<Vec<u8>> = (0..10_000).map(guess).collect();
    let answers = ask_all_from(|| from(stranger, &house.private), &guesses);
    let minutes = began.elapsed().as_secs() / 60 + 1;
    let heard = answers.iter().filter(|answer| answer.status == 401).count();
    assert!(answers.iter().all(|answer| [401, 429].contains(&answer.status)));
    assert!(heard >= 20 && heard as u64 <= 20 * (minutes + 1), "{heard} in {minutes} minutes");
    let told_to_wait = answers.iter().find(|answer| answer.status == 429).expect("one of ten thousand");
    assert_eq!(told_to_wait.code(), "too_many_wrong_keys");
    let seconds: u64 = told_to_wait.header("retry-after").and_then(|it| it.parse().ok()).expect("seconds");
    assert!((1..=60).contains(&seconds), "{seconds}");

    // The right key is let in from elsewhere, and from there as well.
    let right = [request("GET", &path, &[("Authorization", &bearer(&key))], "")];
    assert_eq!(house.get(&path, &key).status, 200);
    assert_eq!(ask_all_from(|| from(stranger, &house.private), &right)[0].status, 200);

    // A thousand sources have twenty tries each and no more, and nobody else suffers from it.
    for number in 0..1000_usize {
        let source = Ipv4Addr::new(127, 1, (number / 250) as u8, (number % 250) as u8 + 1);
        let tries = if number % 50 == 0 { 22 } else { 2 };
        let guesses: Vec<Vec<u8>> = (0..tries).map(|more| guess(number * 30 + more)).collect();
        let answers = ask_all_from(|| from(source, &house.private), &guesses);
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        assert!(statuses.iter().take(20).all(|status| *status == 401), "{source}: {statuses:?}");
        if tries > 20 && began.elapsed() < Duration::from_secs(60) {
            assert_eq!(statuses[20..], [429, 429], "{source}");
        }
    }
    assert_eq!(house.get(&path, &key).status, 200);
    // Beside the key of this test none is known, so none was found.
    house.plant(&key[13..56]);
    house.end();
}

/// As many times as `GHL_AUTH_TIMINGS` says. Without it not at all: on a busy machine it says nothing.
#[test]
fn over_http_too_it_does_not_show_what_is_wrong_with_a_key() {
    let Ok(times) = std::env::var("GHL_AUTH_TIMINGS") else { return };
    let times: usize = times.parse().expect("a number");
    let house = House::new();
    let key = house.master_key();
    let checked = |body: String| {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, body.as_bytes());
        let check = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(digest.as_ref());
        format!("{body}{}", &check[..6])
    };
    // With a public part that is known, and with one that is not, both of the right form.
    let wrong = |class: usize, number: usize| match class {
        0 => checked(format!("{}{number:0>43}", &key[..13])),
        _ => checked(format!("ghlk_{:0>8}{number:0>43}", "unknown")),
    };
    let mut took: [Vec<u64>; 2] = Default::default();
    let mut order = 1_u64;
    // Fifteen from each source: the limit is not what is measured.
    for tries in 0..times * 2 / 15 {
        let source = Ipv4Addr::new(
            127,
            2 + (tries / 62_500) as u8,
            (tries / 250 % 250) as u8,
            (tries % 250) as u8 + 1,
        );
        let mut wire = Wire::over(from(source, &house.private));
        for more in 0..15 {
            order = order.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let class = (order >> 33) as usize % 2;
            let asked = bearer(&wrong(class, tries * 15 + more));
            let asked = request("GET", &house.token_path(), &[("Authorization", &asked)], "");
            let began = Instant::now();
            wire.send(&asked).expect("it listens");
            let answer = wire.answer(false).expect("an answer");
            took[class].push(began.elapsed().as_nanos() as u64);
            assert_eq!(answer.status, 401);
        }
    }
    let z = rank_sum(&took[0], &took[1]);
    // One run in a hundred fails by chance.
    assert!(z.abs() < 2.576, "z = {z}");
    house.end();
}

/// The standardised rank sum of Mann and Whitney: how surely one is slower than the other.
fn rank_sum(one: &[u64], other: &[u64]) -> f64 {
    let mut all: Vec<(u64, bool)> =
        one.iter().map(|nanos| (*nanos, true)).chain(other.iter().map(|nanos| (*nanos, false))).collect();
    all.sort_unstable();
    let ranks: f64 =
        all.iter().zip(1..).filter(|((_, ours), _)| *ours).map(|(_, rank)| f64::from(rank)).sum();
    let (count, others) = (one.len() as f64, other.len() as f64);
    let mean = count * (count + others + 1.0) / 2.0;
    (ranks - mean) / (count * others * (count + others + 1.0) / 12.0).sqrt()
}

#[test]
fn a_revoked_key_is_refused_within_a_second_by_every_service_over_the_store() {
    let house = House::new();
    let second = house.second();
    let path = house.token_path();
    let mut waits: Vec<[Duration; 2]> = Vec::new();
    for round in 0..3 {
        let key = house.key(&[Verb::Token], these([house.location()]));
        let other = house.key(&[Verb::Token], these([house.location()]));
        let addresses = [&house.private, &second.address];
        let plain = request("GET", &path, &[("Authorization", &bearer(&key))], "");
        for address in addresses {
            until(|| ask(address, &plain).status == 200);
        }
        let (revoking, over) = (AtomicBool::new(false), AtomicBool::new(false));
        let (revoked_at, refused_at) = std::thread::scope(|scope| {
            let asking = addresses.map(|address| {
                let (plain, revoking, over) = (&plain, &revoking, &over);
                scope.spawn(move || {
                    let mut wire = Wire::to(address);
                    while !over.load(Ordering::Relaxed) {
                        wire.send(plain).expect("taken");
                        let answer = wire.answer(false).expect("an answer");
                        if answer.status != 200 {
                            assert!(revoking.load(Ordering::SeqCst), "not before it is revoked");
                            assert_eq!(answer.code(), "key_revoked");
                            return Instant::now();
                        }
                        // Requests go on, and leave the other tests some of the machine.
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    panic!("it was let in for ever");
                })
            });
            std::thread::sleep(Duration::from_millis(50 * round));
            let id = server::ApiKey::parse(&key).expect("a key").id();
            revoking.store(true, Ordering::SeqCst);
            assert!(block_on(house.records.revoke_key(&id, now())).expect("revoked"));
            let revoked_at = Instant::now();
            while !asking.iter().all(|thread| thread.is_finished()) && revoked_at.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(5));
            }
            over.store(true, Ordering::Relaxed);
            (revoked_at, asking.map(|thread| thread.join().expect("no panic")))
        });
        waits.push(refused_at.map(|at| at.saturating_duration_since(revoked_at)));
        // Its neighbour lives on, and the other doors know it, too.
        assert_eq!(house.get(&path, &other).status, 200);
        for path in ["/v1/installations", &format!("{path}?minimum_life=1")] {
            assert_eq!(house.get(path, &key).code(), "key_revoked", "{path}");
        }
    }
    // A machine that stumbles once is no failure of ours.
    waits.sort_by_key(|wait| wait.iter().max().copied());
    assert!(waits[1].iter().all(|wait| *wait < Duration::from_secs(1)), "{waits:?}");
    second.end();
    house.end();
}

#[test]
fn a_key_in_an_address_a_form_or_a_cookie_is_refused_with_a_hint_and_not_written_down() {
    let house = House::new();
    let key = house.master_key();
    let path = house.token_path();
    let authorization = bearer(&key);
    let mut requests = Vec::new();
    let mut ask = |method: &str, path: &str, headers: &[(&str, &str)], body: &str| {
        requests.push(request(method, path, headers, body));
        let mut with: Vec<_> = headers.to_vec();
        with.push(("Authorization", authorization.as_str()));
        requests.push(request(method, path, &with, body));
    };
    let percent: String = key.bytes().map(|byte| format!("%{byte:02X}")).collect();
    for route in [path.as_str(), "/v1/installations", "/v1/checks", "/metrics", "/v1/parked"] {
        for name in
            ["access_token", "api_key", "apikey", "key", "token", "Token", "KEY", "authorization", "x"]
        {
            ask("GET", &format!("{route}?{name}={key}"), &[], "");
            ask("GET", &format!("{route}?minimum_life=60&{name}={percent}"), &[], "");
        }
        ask("GET", &format!("{route}?access_token="), &[], "");
        for cookie in [format!("key={key}"), format!("a=b; session={key}; c=d"), key.clone()] {
            ask("GET", route, &[("Cookie", &cookie)], "");
        }
    }
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    for route in [format!("{path}/refused"), "/v1/checks".into(), "/v1/maintenances".into()] {
        for name in ["access_token", "key", "generation"] {
            ask("POST", &route, &form, &format!("{name}={key}"));
            ask("POST", &route, &form, &format!("a=b&{name}={percent}"));
        }
    }
    // Both where the answer is not at hand and where it is.
    let refused = |asked: Vec<Vec<u8>>| {
        for (request, answer) in asked.iter().zip(ask_all(&house.private, &asked)) {
            let what = String::from_utf8_lossy(request);
            assert_eq!(answer.status, 400, "{what}{}", answer.body);
            let bad_form = request.starts_with(b"POST") && what.contains("Authorization");
            assert_eq!(answer.code(), if bad_form { "bad_body" } else { "key_exposed" }, "{what}");
            assert!(!answer.body.contains(&key) && !answer.head.contains(&key), "{what}");
        }
    };
    refused(requests.clone());
    assert_eq!(house.get(&path, &key).status, 200);
    refused(requests);
    house.plant(&percent);
    house.end();
}

#[test]
fn what_is_known_of_a_key_is_its_hash_wherever_the_service_writes() {
    let house = House::new();
    let keys: Vec<String> = (0..20).map(|_| house.key(&Verb::ALL, Reach::All)).collect();
    house.until_known(&keys[19]);
    for key in &keys {
        assert_eq!(house.get(&house.token_path(), key).status, 200);
        assert_eq!(
            house.get(&format!("{}?minimum_life=1", house.token_path()), &format!("{key}x")).status / 100,
            4
        );
    }
    let dump = house.dump();
    assert!(dump.contains("records.db keys"), "{dump}");
    let mut written = dump.into_bytes();
    for file in std::fs::read_dir(house.home.path("")).expect("a folder") {
        let file = file.expect("a file").path();
        if file.is_file() {
            written.extend(std::fs::read(&file).expect("it is ours"));
        }
    }
    written.extend(house.running.said().into_bytes());
    let metrics = ask(&house.private, &request("GET", "/metrics", &[], ""));
    written.extend(metrics.body.into_bytes());
    for key in &keys {
        let secret = &key.as_bytes()[13..];
        for piece in secret.windows(16).step_by(8) {
            assert!(!written.windows(16).any(|part| part == piece), "a piece of a key was written down");
        }
    }
    house.end();
}
