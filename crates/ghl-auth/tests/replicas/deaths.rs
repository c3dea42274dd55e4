//! Replicas that are killed or frozen, and those that go on.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use sandbox::{Fault, FaultKind, Matcher};
use tokens::Timing;

use crate::house::{House, Replica};
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
            scope.spawn(move || crate::house::get(&address, key, &path));
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
    let keeper = house.keeper(Timing::default());
    let (over, asked, mut kills) = (AtomicBool::new(false), AtomicUsize::new(0), 0);
    // Each address with the number of its life: who asks the dead, or someone about to die, gets nothing.
    let lives: Vec<std::sync::Mutex<(String, usize)>> =
        replicas.iter().map(|replica| std::sync::Mutex::new((replica.address.clone(), 0))).collect();
    let mut wrong: Vec<String> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..6)
            .map(|number| {
                let (house, key, lives, over, asked) = (&house, &key, &lives, &over, &asked);
                scope.spawn(move || {
                    let mut wrong = Vec::new();
                    for id in house.ids.iter().cycle().skip(number * 5) {
                        if over.load(Ordering::Relaxed) {
                            break;
                        }
                        let before = lives[number % 3].lock().expect("a life").clone();
                        let path = format!("/v1/locations/{}/token", id.as_str());
                        let answer = crate::house::get(&before.0, key, &path);
                        let after = lives[number % 3].lock().expect("a life").clone();
                        asked.fetch_add(1, Ordering::Relaxed);
                        if answer.status != 200 && before == after && before.1 % 2 == 0 {
                            wrong.push(format!("{id} of a living replica: {answer:?}"));
                        }
                        std::thread::sleep(Duration::from_millis(10));
                    }
                    wrong
                })
            })
            .collect();
        // Someone authorises anew all the time, by a clock that is behind: each is due at once.
        let renewing = scope.spawn(|| {
            let mut number = 0;
            while !over.load(Ordering::Relaxed) {
                let id = &house.ids[number % house.ids.len()];
                house.block_on(keeper.connect(&house.code(id))).expect("a grant");
                number += 1;
                std::thread::sleep(Duration::from_millis(200));
            }
            number
        });
        while began.elapsed() < Duration::from_secs(seconds as u64) {
            std::thread::sleep(Duration::from_secs(1) + dice.within(Duration::from_secs(2)));
            let victim = usize::try_from(dice.below(3)).expect("small");
            // Odd while it is dead.
            lives[victim].lock().expect("a life").1 += 1;
            replicas[victim].kill();
            kills += 1;
            std::thread::sleep(dice.within(Duration::from_secs(1)));
            replicas[victim].start_again(&house);
            let mut life = lives[victim].lock().expect("a life");
            *life = (replicas[victim].address.clone(), life.1 + 1);
        }
        over.store(true, Ordering::Relaxed);
        let renewed = renewing.join().expect("no panic");
        let wrong = callers.into_iter().flat_map(|one| one.join().expect("no panic")).collect();
        println!("{kills} kills, {} asked, {renewed} renewed", asked.load(Ordering::Relaxed));
        wrong
    });
    // What the last dead has left in the air is taken up.
    let settled = Instant::now();
    let store = house.store();
    while house
        .block_on(store.list(None, usize::MAX))
        .expect("the store")
        .iter()
        .any(|it| it.intent.is_some())
        && settled.elapsed() < Duration::from_secs(20)
    {
        std::thread::sleep(Duration::from_millis(100));
    }
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
