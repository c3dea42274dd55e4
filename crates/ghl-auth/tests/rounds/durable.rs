//! A token is at rest before it is used, and none older than the one at rest is sent: T-120, T-113.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use tokens::{Installation, Trigger};

use crate::support::{DAY, HOUR, House, PAST_THE_WINDOW, Rest, times};
use crate::{process_before, settings};

/// Between us and HighLevel: looks at each request before it goes on, and into the store at that moment.
struct Sniffer {
    address: String,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    access_tokens: usize,
    refresh_tokens: usize,
    unsaved: Vec<String>,
}

impl Sniffer {
    fn before(house: &House) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let target = house.sandbox.base_url().trim_start_matches("http://").to_owned();
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let (log, store, id) = (seen.clone(), house.store(), house.id.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (log, store, id, target) = (log.clone(), store.clone(), id.clone(), target.clone());
                std::thread::spawn(move || {
                    let server = TcpStream::connect(target).expect("the sandbox");
                    let look = |request: &str| {
                        let runtime = tokio::runtime::Builder::new_current_thread().build();
                        let stored = runtime.expect("a runtime").block_on(store.load(&id));
                        log.lock().expect("ours").note(request, stored.expect("the store").as_ref());
                    };
                    // Either end may go when it likes.
                    let _ = carry(&client, &server, look);
                    let _ = server.shutdown(std::net::Shutdown::Both);
                });
            }
        });
        Self { address, seen }
    }
}

fn carry(client: &TcpStream, server: &TcpStream, look: impl Fn(&str)) -> std::io::Result<()> {
    let (mut requests, mut answers) = (BufReader::new(client), BufReader::new(server));
    let (mut to_server, mut to_client) = (server, client);
    while let Some(request) = message(&mut requests)? {
        look(&String::from_utf8_lossy(&request));
        to_server.write_all(&request)?;
        match message(&mut answers)? {
            Some(answer) => to_client.write_all(&answer)?,
            None => break,
        }
    }
    client.shutdown(std::net::Shutdown::Both)
}

/// One request or answer, whole.
fn message(from: &mut BufReader<&TcpStream>) -> std::io::Result<Option<Vec<u8>>> {
    let mut whole = Vec::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        whole.extend_from_slice(line.as_bytes());
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    whole.extend(body);
    Ok(Some(whole))
}

impl Seen {
    fn note(&mut self, request: &str, stored: Option<&Installation>) {
        let stored = stored.expect("a grant at rest");
        let first_line = request.lines().next().unwrap_or_default().to_owned();
        if let Some(bearer) = request.lines().find_map(|line| line.strip_prefix("authorization: Bearer ")) {
            self.access_tokens += 1;
            // One that was handed out may be used while the next one comes to rest.
            let previous = stored.previous.as_ref().map(|previous| &previous.tokens);
            let known = [Some(&stored.tokens), previous];
            if !known.iter().flatten().any(|set| set.access.expose() == bearer.trim()) {
                self.unsaved.push(first_line.clone());
            }
        }
        let body = request.split_once("\r\n\r\n").expect("a body").1;
        if let Some(token) = body.split('&').find_map(|pair| pair.strip_prefix("refresh_token=")) {
            self.refresh_tokens += 1;
            let saved = stored.tokens.refresh_token().expect("a refresh token").expose();
            if token != saved {
                self.unsaved.push(first_line);
            }
        }
    }
}

#[tokio::test]
async fn each_token_is_at_rest_before_it_is_used() {
    let house = House::new(Rest::Sqlite).await;
    let sniffer = Sniffer::before(&house);
    let (upkeep, _) = process_before(&house, settings(&house, Vec::new()), &sniffer.address);
    let keeper = upkeep.keeper().clone();
    let store = house.store();
    let rounds = times("GHL_AUTH_DURABLE_REFRESHES", 60);
    for round in 0..rounds {
        if round % 5 == 4 {
            house.sandbox.lose_next_answer();
        }
        house.advance(DAY);
        let callers = (0..4).map(|_| {
            let (keeper, store, id) = (keeper.clone(), store.clone(), house.id.clone());
            tokio::spawn(async move {
                let served = keeper.token(&id, HOUR).await.expect("a token").installation;
                let stored = store.load(&id).await.expect("the store").expect("a grant");
                assert_eq!(stored.version, served.version);
                assert_eq!(stored.tokens.access.expose(), served.tokens.access.expose());
            })
        });
        let callers: Vec<_> = callers.collect();
        upkeep.check(&house.id, Trigger::Clock).await.expect("a check");
        for caller in callers {
            caller.await.expect("it was at rest");
        }
    }
    let seen = sniffer.seen.lock().expect("ours");
    assert!(seen.unsaved.is_empty(), "{:?}", seen.unsaved);
    assert!(seen.refresh_tokens >= rounds && seen.access_tokens >= rounds);
    assert_eq!(house.sandbox.counts().rotations, rounds as u64);
    println!("{} access and {} refresh tokens", seen.access_tokens, seen.refresh_tokens);
}

#[tokio::test]
async fn a_restart_between_any_two_rotations_sends_no_token_older_than_the_one_at_rest() {
    let house = House::new(Rest::Sqlite).await;
    let mut looked_at = 0;
    for rotation in 0..50 {
        let before = house.stored().await.version.generation;
        // Every fifth process dies before it reads its answer.
        if rotation % 5 == 4 {
            house.die_between_send_and_answer(house.keeper()).await;
            assert_eq!(house.stored().await.version.generation, before);
            house.advance(crate::support::PAST_THE_LEASE);
        }
        let keeper = house.keeper();
        keeper.recover().await.expect("nothing is in the way");
        let refreshed = keeper.refresh(&house.id).await.expect("a refresh").version.generation;
        assert_eq!((refreshed, house.stored().await.version.generation), (before + 1, before + 1));
        let ledger = house.sandbox.ledger();
        let sent = ledger.token_requests.iter().skip(looked_at);
        for request in sent.filter(|request| request.grant_type == "refresh_token") {
            assert_eq!(request.presented, Some(before), "rotation {rotation}");
        }
        looked_at = ledger.token_requests.len();
        house.advance(PAST_THE_WINDOW);
    }
    let counts = house.sandbox.counts();
    assert_eq!((counts.rotations, counts.reuse_after_window), (50, 0));
    assert!(house.holds_the_current_token().await);
}
