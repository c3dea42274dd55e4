//! Services, checks and programs over one store, killed again and again: one grant, never two flights
//! with different tokens, and nobody held up by the dead.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sandbox::{Fault, FaultKind, Matcher, Outcome, Settings, TokenRequest};

use crate::support::programs::{Dice, block_on, ends_within, report, told};
use crate::support::{HOUR, House, Rest, folder, times};

/// What a crowd of programs takes on a machine with very much else to do. That nobody waits so long for
/// the dead is seen by their leases.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long the dead may hold up the living.
const LONGEST_LEASE: i64 = 5000;

struct Service {
    child: Child,
    address: String,
}

impl Service {
    fn start(house: &House) -> Self {
        let mut command = house.command(&["serve"]);
        let mut child =
            command.env("GHL_AUTH_LISTEN", "127.0.0.1:0").stderr(Stdio::null()).spawn().expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let address = lines.find_map(|line| {
            let line = line.expect("it can be read");
            line.strip_prefix("Programs ask here: http://").map(str::to_owned)
        });
        Self { child, address: address.expect("it says where it listens") }
    }

    fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Asks a service for a token that lives for a while; none when it does not answer, as the dead don't.
fn ask(address: &str, key: &str, house: &House) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let path = format!("/v1/locations/{}/token?minimum_life=3600", house.id.as_str());
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.starts_with("HTTP/1.1 200").then_some(answer)
}

/// Someone authorises anew, by a clock that is 30 hours behind: for everyone else the token ended six
/// hours ago. It has no flight, whose lease would look as old to them.
fn spend(house: &House) -> u64 {
    block_on(house.log_in()).version.generation
}

/// For how many milliseconds from now someone still holds the lease.
fn lease(house: &House) -> i64 {
    let sql = "SELECT coalesce(max(lease_until), 0) FROM installations";
    let database = rusqlite::Connection::open(house.path()).expect("the database");
    database.busy_timeout(Duration::from_secs(20)).expect("a time-out");
    let until: i64 = database.query_row(sql, [], |row| row.get(0)).expect("a lease, or none");
    #[allow(clippy::disallowed_methods, reason = "leases are in the system's time")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    until - i64::try_from(now.as_millis()).expect("a time")
}

/// One round: everyone wants the token that has just ended, and half of them die while it is fetched.
/// How many died.
fn everyone_asks_and_half_are_killed(
    house: &House,
    services: &mut [Service; 2],
    key: &str,
    dice: &mut Dice,
    wrong: &mut Vec<String>,
) -> usize {
    let refreshes = house.sandbox.counts().refreshes;
    let delay = Duration::from_millis(100) + dice.within(Duration::from_millis(200));
    house.sandbox.fault(Fault::new(FaultKind::delay(delay)).on(Matcher::Refresh).until_cleared());
    let generation = spend(house);
    // The one that spends it is the last before.
    let sent_before = house
        .sandbox
        .ledger()
        .token_requests
        .iter()
        .rposition(|request| request.grant_type == "authorization_code");
    let sent_before = sent_before.expect("the exchange") + 1;
    let mut programs: Vec<Child> = (0..8).map(|_| house.start(&["token"])).collect();
    programs.push(house.start(&["check"]));
    let addresses = [services[0].address.clone(), services[1].address.clone()];
    let mut victims: Vec<usize> = (0..11).filter(|_| dice.one_in(2)).collect();
    victims.truncate(10);
    let at = dice.within(delay * 3);
    let story = format!("generation {generation}, {victims:?} killed after {} ms", at.as_millis());
    let answers: Vec<_> = std::thread::scope(|scope| {
        let asking: Vec<_> =
            addresses.iter().map(|address| scope.spawn(|| ask(address, key, house))).collect();
        // Whoever is first on its way is hit as often as those who wait for it.
        let began = Instant::now();
        while house.sandbox.counts().refreshes == refreshes && began.elapsed() < Duration::from_secs(2) {
            std::thread::sleep(Duration::from_millis(2));
        }
        std::thread::sleep(at);
        for victim in &victims {
            match *victim {
                number @ (0 | 1) => services[number].kill(),
                number => programs[number - 2].kill().expect("it can be killed"),
            }
        }
        let lease = lease(house);
        if lease > LONGEST_LEASE {
            wrong.push(format!("{story}: a lease of {lease} ms"));
        }
        asking.into_iter().map(|answer| answer.join().expect("no panic")).collect()
    });
    for (number, answer) in answers.iter().enumerate().filter(|(number, _)| !victims.contains(number)) {
        if answer.is_none() {
            wrong.push(format!("{story}: no token from the service {number}"));
        }
    }
    for (number, program) in programs.into_iter().enumerate() {
        let output = ends_within(program, PATIENCE);
        if !victims.contains(&(number + 2)) && !output.status.success() {
            wrong.push(format!("{story}: number {}: {}", number + 2, told(&output)));
        }
    }
    for dead in victims.iter().filter(|number| **number < 2) {
        services[*dead] = Service::start(house);
        // It asks at once what became of the dead one's flight.
        if ask(&services[*dead].address, key, house).is_none() {
            wrong.push(format!("{story}: no token from the service that was started again"));
        }
    }
    house.sandbox.clear_faults();
    let ledger = house.sandbox.ledger();
    let mut sent = ledger.token_requests.iter().skip(sent_before);
    let which = |request: &TokenRequest| (request.grant, request.presented);
    let first = sent.clone().next().map(which);
    let good = |outcome: &Outcome| matches!(outcome, Outcome::Issued { .. } | Outcome::Repeated { .. });
    if !sent.all(|request| Some(which(request)) == first && good(&request.outcome)) {
        wrong.push(format!("{story}: HighLevel saw {:?}", ledger.token_requests.iter().skip(sent_before)));
    }
    let after = block_on(house.stored()).version.generation;
    if first.is_none() || after != generation + 1 || !house.is_whole() {
        wrong.push(format!("{story}: the grant is lost, or was not refreshed: {after}"));
        block_on(house.log_in());
    }
    victims.len()
}

#[test]
fn services_checks_and_programs_share_a_store_and_lose_nothing_when_they_are_killed() {
    let wanted = times("GHL_AUTH_SERVICE_KILLS", 24);
    let seed = times("GHL_AUTH_SEED", std::process::id() as usize) as u64;
    println!("GHL_AUTH_SEED={seed}");
    let (began, mut dice, mut wrong) = (Instant::now(), Dice::new(seed), Vec::new());
    let scopes = vec!["locations.readonly".to_owned()];
    let house =
        House::in_folder(folder(), Rest::Sqlite, Settings { scopes, ..Settings::default() }, HOUR * 30);
    block_on(house.log_in());
    let made = house.run(&["keys", "create", "--name", "all", "--all"]);
    let key = String::from_utf8_lossy(&made.stdout).trim().to_owned();
    let mut services = [Service::start(&house), Service::start(&house)];
    for service in &services {
        ask(&service.address, &key, &house).expect("the first token, renewed");
    }
    let mut kills = 0;
    while kills < wanted {
        kills += everyone_asks_and_half_are_killed(&house, &mut services, &key, &mut dice, &mut wrong);
    }
    assert_eq!(house.sandbox.counts().reuse_after_window, 0);
    report("half of eleven killed over one database, two services", kills, &wrong, began);
}

#[test]
fn sixty_four_callers_of_a_service_cost_one_refresh() {
    let rounds = times("GHL_AUTH_CALLER_ROUNDS", 8);
    let began = Instant::now();
    let house = House::in_folder(folder(), Rest::Sqlite, Settings::default(), HOUR * 30);
    block_on(house.log_in());
    let made = house.run(&["keys", "create", "--name", "all", "--all"]);
    let key = String::from_utf8_lossy(&made.stdout).trim().to_owned();
    let service = Service::start(&house);
    ask(&service.address, &key, &house).expect("the first token, renewed");
    let mut wrong = Vec::new();
    for round in 0..rounds {
        let before = house.sandbox.counts();
        let spent = spend(&house);
        let answers: Vec<_> = std::thread::scope(|scope| {
            let callers: Vec<_> =
                (0..64).map(|_| scope.spawn(|| ask(&service.address, &key, &house))).collect();
            callers.into_iter().map(|caller| caller.join().expect("no panic")).collect()
        });
        let token = |answer: &Option<String>| {
            let body = answer.as_deref()?.split_once("\r\n\r\n")?.1;
            let answer: serde_json::Value = serde_json::from_str(body).ok()?;
            Some((answer["access_token"].as_str()?.to_owned(), answer["generation"].as_u64()?))
        };
        let current = house.sandbox.current_access_token(house.id.as_str()).expect("alive");
        let stored = block_on(house.stored()).version.generation;
        let right = answers.iter().filter(|answer| token(answer) == Some((current.clone(), stored))).count();
        let after = house.sandbox.counts();
        let sent = after.refreshes - before.refreshes;
        if right != 64 || sent != 1 || stored != spent + 1 {
            wrong.push(format!("round {round}: {right} of 64 got the new token, sent {sent} times"));
        }
    }
    assert!(house.is_whole());
    report("64 callers of a service for one expired token", rounds, &wrong, began);
}
