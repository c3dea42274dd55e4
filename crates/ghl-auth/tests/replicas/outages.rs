//! A database that goes away, hangs, or ends connections as it likes.

use std::io::{Read as _, Write as _};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sandbox::Matcher;

use crate::house::House;
use crate::postgres::{self, Server};
use crate::support::programs::{Dice, report};
use crate::support::{roomy, times};

const OUT_OF_REACH: &str = "store_out_of_reach";

/// T-151.
#[test]
fn a_database_that_stops_at_once_costs_nothing_and_the_tokens_at_hand_are_served_meanwhile() {
    let stops = times("GHL_AUTH_REPLICA_STOPS", 2);
    let began = Instant::now();
    let server = Server::start(&[]);
    let house = House::fresh(server.fresh_schema(), 6);
    let key = house.api_key();
    let replicas = house.replicas(2);
    let mut wrong = Vec::new();
    for stop in 0..stops {
        for replica in &replicas {
            replica.learn(&key, &house.ids);
        }
        // One refresh is in the air while it stops.
        house.sandbox.advance(Duration::from_secs(120));
        house.sandbox.hold_answers(Matcher::Refresh);
        let flying = house.ids[stop % house.ids.len()].clone();
        let path = format!("/v1/locations/{}/token?minimum_life=86400", flying.as_str());
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| crate::house::get(&replicas[0].address, &key, &path));
            house.block_on(house.sandbox.until_held(1));
            server.stop("immediate");
            house.sandbox.release();
            let stopped = Instant::now();
            while replicas.iter().any(|replica| replica.is_ready()) {
                assert!(stopped.elapsed() < Duration::from_secs(10), "it is told of nowhere");
                std::thread::sleep(Duration::from_millis(20));
            }
            for replica in &replicas {
                for id in &house.ids {
                    let asked = Instant::now();
                    let answer = replica.token(&key, id);
                    if answer.status != 200 || !answer.warns_of(OUT_OF_REACH) {
                        wrong.push(format!("stop {stop}, meanwhile: {answer:?}"));
                    }
                    if asked.elapsed() > Duration::from_secs(1) {
                        wrong.push(format!("stop {stop}, meanwhile: after {:?}", asked.elapsed()));
                    }
                }
            }
            server.launch(&[]);
            let back = Instant::now();
            for replica in &replicas {
                replica.until_ready();
            }
            println!("ready {:?} after the database", back.elapsed());
            if back.elapsed() > Duration::from_secs(5) {
                wrong.push(format!("stop {stop}: ready after {:?}", back.elapsed()));
            }
            // It got what was at hand, or the new one.
            let answer = asking.join().expect("no panic");
            if answer.status != 200 {
                wrong.push(format!("stop {stop}, in the air: {answer:?}"));
            }
        });
        // What was in the air has landed, or is sent again by whoever finds it.
        let landed = Instant::now();
        while house.stored(&flying).is_none_or(|kept| kept.intent.is_some())
            && landed.elapsed() < Duration::from_secs(20)
        {
            std::thread::sleep(Duration::from_millis(100));
        }
        for replica in &replicas {
            let answer = replica.token(&key, &flying);
            if answer.status != 200 || answer.warns_of(OUT_OF_REACH) {
                wrong.push(format!("stop {stop}, afterwards: {answer:?}"));
            }
        }
    }
    wrong.extend(house.refusals());
    wrong.extend(house.lost());
    report("the database stopped at once under load", stops, &wrong, began);
}

/// T-152, as far as a replica lives: an asynchronous standby takes over that lacks what was committed last.
#[test]
fn what_a_standby_never_heard_of_is_written_back_by_whoever_saved_it() {
    let primary = Server::start(&[]);
    let way = Switch::to(primary.port());
    let schema = "ghl_auth";
    let address =
        format!("postgres://keeper:{}@127.0.0.1:{}/postgres?schema={schema}", postgres::PASSWORD, way.port);
    let house = House::fresh(address, 4);
    let key = house.api_key();
    let replicas = house.replicas(2);
    let folder = postgres::folder();
    let copied = postgres::program("pg_basebackup")
        .args(["--write-recovery-conf", "--no-sync", "--checkpoint=fast", "-U", "keeper", "-h"])
        .arg(primary.folder())
        .args(["-p", &primary.port().to_string(), "-D"])
        .arg(folder.join("data"))
        .output()
        .expect("pg_basebackup runs");
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    // From here on the standby hears nothing.
    for (id, replica) in house.ids.iter().zip(replicas.iter().cycle()) {
        house.sandbox.advance(Duration::from_secs(120));
        let path = format!("/v1/locations/{}/token?minimum_life=86400", id.as_str());
        assert_eq!(crate::house::get(&replica.address, &key, &path).generation(), 2, "{}", replica.log());
    }
    house.sandbox.advance(crate::support::PAST_THE_WINDOW);
    primary.stop("immediate");
    let standby = Server::over(folder, &["hot_standby=on"]);
    assert_eq!(standby.sql(&format!("SELECT max(generation) FROM {schema}.installations;")), "1");
    assert_eq!(standby.sql("SELECT pg_promote();"), "t");
    way.lead_to(standby.port());
    for replica in &replicas {
        replica.until_ready();
    }
    let began = Instant::now();
    while standby.sql(&format!("SELECT min(generation) FROM {schema}.installations;")) != "2" {
        assert!(began.elapsed() < Duration::from_secs(35), "nothing is written back: {}", replicas[0].log());
        std::thread::sleep(Duration::from_millis(100));
    }
    println!("written back {:?} after it was ready", began.elapsed());
    assert_eq!((house.refusals(), house.lost()), (Vec::new(), Vec::new()));
}

/// A port that leads to another, and later to yet another.
struct Switch {
    port: u16,
    target: std::sync::Arc<std::sync::atomic::AtomicU16>,
}

impl Switch {
    fn to(port: u16) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let target = std::sync::Arc::new(std::sync::atomic::AtomicU16::new(port));
        let switch = Self { port: listener.local_addr().expect("an address").port(), target: target.clone() };
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), port) = (client, target.load(Ordering::SeqCst)) else { return };
                let Ok(server) = std::net::TcpStream::connect(("127.0.0.1", port)) else { continue };
                for (mut from, mut to) in [(clone(&client), clone(&server)), (server, client)] {
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(std::net::Shutdown::Both);
                    });
                }
            }
        });
        switch
    }

    fn lead_to(&self, port: u16) {
        self.target.store(port, Ordering::SeqCst);
    }
}

fn clone(stream: &std::net::TcpStream) -> std::net::TcpStream {
    stream.try_clone().expect("a handle")
}

/// T-153.
#[test]
fn connections_that_the_database_ends_at_random_lose_nothing_and_save_nothing_twice() {
    let refreshes = times("GHL_AUTH_REPLICA_TERMINATIONS", 60);
    let seed = times("GHL_AUTH_SEED", std::process::id() as usize) as u64;
    println!("GHL_AUTH_SEED={seed}");
    let (began, mut dice) = (Instant::now(), Dice::new(seed));
    let server = Server::start(&[]);
    let house = House::at(server.fresh_schema(), 6, crate::support::HOUR * 30);
    let keepers = [(); 3].map(|()| house.keeper(patient()));
    let over = AtomicBool::new(false);
    let mut wrong = std::thread::scope(|scope| {
        let ending = scope.spawn(|| {
            let mut ended = 0;
            while !over.load(Ordering::Relaxed) {
                std::thread::sleep(dice.within(Duration::from_millis(80)));
                let sql = "SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity
                    WHERE application_name = 'ghl-auth' ORDER BY random() LIMIT 1) AS one;";
                ended += server.sql(sql).parse::<usize>().unwrap_or(0);
            }
            ended
        });
        let wrong = house.block_on(async {
            let mut lanes = tokio::task::JoinSet::new();
            for (lane, id) in house.ids.iter().enumerate() {
                let (keepers, id, rounds) =
                    (keepers.clone(), id.clone(), refreshes.div_ceil(house.ids.len()));
                lanes.spawn(async move {
                    let mut wrong = Vec::new();
                    for round in 0..rounds {
                        // Who could not even begin, or look, says so, and nothing has happened.
                        let refreshed = keepers[(lane + round) % 3].refresh(&id).await;
                        if let Err(error) = refreshed
                            && !matches!(
                                error,
                                tokens::KeeperError::Store(_) | tokens::KeeperError::Spooled(_)
                            )
                        {
                            wrong.push(format!("{id}, round {round}: {error:?}"));
                        }
                    }
                    wrong
                });
            }
            lanes.join_all().await.concat()
        });
        over.store(true, Ordering::Relaxed);
        println!("{} connections were ended", ending.join().expect("no panic"));
        wrong
    });
    // What landed and could not be saved is saved by whoever comes next.
    for keeper in &keepers {
        house.block_on(keeper.recover()).expect("the store");
    }
    for id in &house.ids {
        if let Err(error) = house.block_on(keepers[0].refresh(id)) {
            wrong.push(format!("{id} afterwards: {error}"));
        }
    }
    wrong.extend(house.refusals());
    let rotations = house.sandbox.counts().rotations;
    let store = house.store();
    let kept = house.block_on(store.list(None, usize::MAX)).expect("the store");
    let generations: u64 = kept.iter().map(|kept| kept.version.generation - 1).sum();
    if rotations != generations {
        wrong.push(format!("{rotations} rotations and {generations} generations"));
    }
    wrong.extend(house.lost());
    report("connections ended by the database at random", refreshes, &wrong, began);
}

/// T-154.
#[test]
fn nothing_is_sent_without_a_lease_while_someone_locks_the_table_and_serving_goes_on() {
    let server = Server::start(&[]);
    let house = House::fresh(server.fresh_schema(), 2);
    let key = house.api_key();
    let replica = house.replica();
    let schema = postgres::schema_of(&house.address);
    replica.learn(&key, &house.ids);
    let sent = house.sandbox.counts().refreshes;
    let mut foreign =
        session(&server, &format!("BEGIN; LOCK TABLE {schema}.installations IN ACCESS EXCLUSIVE MODE;"));
    let locked = Instant::now();
    let refresh = house.run(&["refresh", "--location", house.ids[0].as_str()]);
    assert!(!refresh.status.success(), "it refreshed without a lease");
    println!("refused after {:?}", locked.elapsed());
    // More callers than there are connections.
    let path = format!("/v1/locations/{}/token?minimum_life=3600", house.ids[1].as_str());
    std::thread::scope(|scope| {
        let waiting: Vec<_> =
            (0..40).map(|_| scope.spawn(|| crate::house::get(&replica.address, &key, &path))).collect();
        for id in house.ids.iter().cycle().take(20) {
            let asked = Instant::now();
            let answer = replica.token(&key, id);
            assert_eq!(answer.status, 200, "{answer:?}");
            assert!(asked.elapsed() < Duration::from_secs(1), "after {:?}", asked.elapsed());
        }
        for answer in waiting {
            let answer = answer.join().expect("no panic");
            assert!(answer.status == 200, "{answer:?}");
        }
    });
    assert_eq!(house.sandbox.counts().refreshes, sent);
    foreign.kill().expect("it can be killed");
    foreign.wait().expect("it ends");
    replica.until_ready();
    assert_eq!(replica.token_from_the_store(&key, &house.ids[0]).status, 200);
    assert_eq!((house.refusals(), house.lost()), (Vec::new(), Vec::new()));
}

/// A session of someone else's that has begun with these statements, until it is killed.
fn session(server: &Server, statements: &str) -> Child {
    let mut psql = postgres::program("psql");
    psql.args(["-XAtq", "-U", "keeper", "-d", "postgres", "-h"]).arg(server.folder());
    psql.args(["-p", &server.port().to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut session = psql.spawn().expect("psql runs");
    let input = session.stdin.as_mut().expect("a pipe");
    writeln!(input, "{statements}\n\\echo begun").expect("it listens");
    let mut begun = [0; 5];
    session.stdout.as_mut().expect("a pipe").read_exact(&mut begun).expect("it begins");
    session
}

/// Saves for longer than a connection takes to be made anew.
fn patient() -> tokens::Timing {
    tokens::Timing { commit_patience: Some(Duration::from_secs(10)), ..roomy() }
}
