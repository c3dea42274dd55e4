//! Replicas that are killed or frozen, and those that go on.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use sandbox::{Fault, FaultKind, Matcher};

use crate::house::{House, Replica};
use crate::load::under_load;
use crate::support::PAST_THE_WINDOW;
use crate::support::programs::{Dice, report};
use crate::support::times;

/// What is allowed is five seconds: one of them is room for a machine that is slow.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(4);

/// Nobody asks: the others find what it has left in the air.
#[test]
fn what_a_killed_replica_left_in_the_air_is_taken_over_within_four_seconds() {
    let rounds = times("GHL_AUTH_REPLICA_TAKEOVERS", 2);
    let began = Instant::now();
    let house = House::fresh(crate::postgres::server().fresh_schema(), 1);
    let key = house.api_key();
    let mut replicas = house.replicas(3);
    let (mut wrong, id) = (Vec::new(), &house.ids[0]);
    for round in 0..rounds {
        let before = house.stored(id).expect("kept").version.generation;
        house.sandbox.hold_answers(Matcher::Refresh);
        // One that is told of a refused token begins a refresh, and dies with the answer on its way.
        house.sandbox.advance(Duration::from_secs(120));
        let mut refresh = house.command(&["refresh", "--location", id.as_str()]).spawn().expect("it starts");
        house.block_on(house.sandbox.until_held(1));
        refresh.kill().expect("it can be killed");
        refresh.wait().expect("it ends");
        house.sandbox.release();
        let died = Instant::now();
        while house.stored(id).expect("kept").version.generation == before
            && died.elapsed() < Duration::from_secs(20)
        {
            std::thread::sleep(Duration::from_millis(50));
        }
        println!("taken over after {:?}", died.elapsed());
        if died.elapsed() > TAKEN_OVER_WITHIN {
            wrong.push(format!("round {round}: taken over after {:?}", died.elapsed()));
        }
        // A replica itself, with a caller before it.
        let before = house.stored(id).expect("kept").version.generation;
        house.sandbox.hold_answers(Matcher::Refresh);
        let victim = round % 3;
        house.log_everyone_in();
        let spent = house.stored(id).expect("kept").version.generation;
        assert!(spent >= before);
        std::thread::scope(|scope| {
            let address = replicas[victim].address.clone();
            let path = format!("/v1/locations/{}/token?minimum_life=86400", id.as_str());
            let key = &key;
            // One that joins a flight that is just ending gets its answer, and asks again.
            scope.spawn(move || while crate::house::get(&address, key, &path).status == 200 {});
            house.block_on(house.sandbox.until_held(1));
            replicas[victim].kill();
        });
        house.sandbox.release();
        let died = Instant::now();
        while house.stored(id).expect("kept").version.generation == spent
            && died.elapsed() < Duration::from_secs(20)
        {
            std::thread::sleep(Duration::from_millis(50));
        }
        println!("taken over from a replica after {:?}", died.elapsed());
        if died.elapsed() > TAKEN_OVER_WITHIN {
            wrong.push(format!("round {round}: taken over from a replica after {:?}", died.elapsed()));
        }
        replicas[victim].start_again(&house);
    }
    wrong.extend(house.refusals());
    wrong.extend(house.lost());
    report("killed in the middle of a refresh, taken over by others", rounds * 2, &wrong, began);
}

/// One replica is killed every few seconds while callers ask all of them and grants are renewed.
#[test]
fn replicas_are_killed_again_and_again_and_the_others_serve_everyone() {
    let seconds = times("GHL_AUTH_REPLICA_KILL_SECONDS", 16);
    let seed = times("GHL_AUTH_SEED", std::process::id() as usize) as u64;
    println!("GHL_AUTH_SEED={seed}");
    let (began, mut dice) = (Instant::now(), Dice::new(seed));
    let house = House::with(12);
    let key = house.api_key();
    let mut replicas = house.replicas(3);
    house
        .sandbox
        .fault(Fault::new(FaultKind::delay(Duration::from_millis(150))).on(Matcher::Refresh).until_cleared());
    let (mut kills, mut all) = (0, [0, 1, 2].into_iter().cycle());
    let mut wrong = under_load(&house, &key, &mut replicas, |replicas| {
        if began.elapsed() >= Duration::from_secs(seconds as u64) {
            return false;
        }
        std::thread::sleep(Duration::from_secs(1) + dice.within(Duration::from_secs(2)));
        let skipped = usize::try_from(dice.below(3)).expect("small");
        let victim = all.nth(skipped).expect("it goes round");
        replicas.end(victim, |replica| {
            replica.kill();
            std::thread::sleep(dice.within(Duration::from_secs(1)));
        });
        kills += 1;
        true
    });
    wrong.extend(house.refusals());
    wrong.extend(house.lost());
    report("replicas killed again and again under load", kills, &wrong, began);
}

/// T-108.
#[test]
fn a_replica_that_slept_through_two_rotations_looks_again_before_it_serves() {
    let house = House::fresh(crate::postgres::server().fresh_schema(), 1);
    let key = house.api_key();
    let replicas: Vec<Replica> = house.replicas(2);
    let id = &house.ids[0];
    for replica in &replicas {
        assert_eq!(replica.token(&key, id).generation(), 1);
    }
    replicas[0].signal(Signal::SIGSTOP);
    for generation in [2, 3] {
        let refreshed = house.run(&["refresh", "--location", id.as_str()]);
        assert!(refreshed.status.success(), "{}", String::from_utf8_lossy(&refreshed.stderr));
        assert_eq!(house.stored(id).expect("kept").version.generation, generation);
        house.sandbox.advance(PAST_THE_WINDOW);
    }
    let sent = house.sandbox.counts().refreshes;
    replicas[0].signal(Signal::SIGCONT);
    let woken = Instant::now();
    assert_eq!(replicas[0].token_from_the_store(&key, id).generation(), 3);
    while replicas[0].token(&key, id).generation() != 3 {
        assert!(woken.elapsed() < Duration::from_secs(2), "it serves what it had in memory");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(house.sandbox.counts().refreshes, sent, "nothing old was sent");
    assert_eq!((house.refusals(), house.lost()), (Vec::new(), Vec::new()));
}
