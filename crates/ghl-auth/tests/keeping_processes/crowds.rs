//! Many processes at once, processes that are asked to stop, and processes that freeze.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use sandbox::{Matcher, UserType};

use crate::support::programs::{
    Dice, Mounted, block_on, ends_within, in_a_world_of_its_own, report, signal, told,
};
use crate::support::{HOUR, House, REDIRECT_URI, Rest, folder, short_tokens, times};

const FEW_SECONDS: Duration = Duration::from_secs(15);

/// A grant whose access token expired six hours ago.
fn expired(rest: Rest) -> House {
    let house = House::in_folder(folder(), rest, sandbox::Settings::default(), HOUR * 30);
    block_on(house.log_in());
    house
}

#[test]
fn thirty_two_processes_over_an_expired_token_cost_one_refresh() {
    for rest in [Rest::PlainFile, Rest::SealedFile, Rest::Sqlite] {
        let house = expired(rest);
        house.sandbox.hold_answers(Matcher::Refresh);
        let crowd: Vec<_> = (0..32).map(|_| house.start(&["token"])).collect();
        block_on(house.sandbox.until_held(1));
        // Less than the four seconds after which the one in the air asks again.
        std::thread::sleep(Duration::from_millis(1500));
        house.sandbox.release();
        let answers: Vec<_> = crowd.into_iter().map(|one| ends_within(one, FEW_SECONDS * 2)).collect();
        for answer in &answers {
            assert!(answer.status.success(), "{rest:?}: {}", told(answer));
            assert_eq!(answer.stdout, answers[0].stdout, "{rest:?}");
        }
        assert!(answers[0].stdout.len() > 100);
        assert_eq!(house.sandbox.counts().refreshes, 1, "{rest:?}");
        assert!(house.is_whole(), "{rest:?}");
    }
}

#[test]
fn a_process_that_is_asked_to_stop_lands_its_refresh_first() {
    for rest in [Rest::PlainFile, Rest::SealedFile, Rest::Sqlite] {
        for (stop, command) in
            [(Signal::SIGTERM, "refresh"), (Signal::SIGTERM, "token"), (Signal::SIGINT, "token")]
        {
            let house = expired(rest);
            house.sandbox.hold_answers(Matcher::Refresh);
            let mut child = house.start(&[command]);
            block_on(house.sandbox.until_held(1));
            signal(&child, stop);
            std::thread::sleep(Duration::from_millis(400));
            assert!(child.try_wait().expect("asked").is_none(), "{rest:?}: it left its refresh in the air");
            house.sandbox.release();
            ends_within(child, FEW_SECONDS);
            assert_eq!(block_on(house.stored()).version.generation, 2, "{rest:?}: {command}, {stop}");
            assert!(house.is_whole(), "{rest:?}: {command}, {stop}");
        }
    }
}

/// A code works once: a login that is told to stop while it is exchanged ends it first.
#[test]
fn a_login_that_is_asked_to_stop_saves_its_grant_first() {
    for rest in [Rest::PlainFile, Rest::Sqlite] {
        let house = House::empty(rest, short_tokens());
        let code = house.sandbox.approve(REDIRECT_URI, None, UserType::Location);
        house.sandbox.hold_answers(Matcher::Exchange);
        let child = house.start(&["login", "--code", &code]);
        block_on(house.sandbox.until_held(1));
        signal(&child, Signal::SIGTERM);
        std::thread::sleep(Duration::from_millis(300));
        house.sandbox.release();
        let output = ends_within(child, FEW_SECONDS);
        assert!(house.path().exists(), "{rest:?}: {}", told(&output));
        assert!(house.is_whole(), "{rest:?}");
    }
}

/// The one that holds the lease is frozen with its answer in the socket.
fn frozen_while_it_flies(rest: Rest) {
    let house = House::in_folder(folder(), rest, sandbox::Settings::default(), HOUR * 30);
    let path = house.path();
    let _mounted = (rest == Rest::FileInPlace).then(|| Mounted::file(&path));
    block_on(house.log_in());
    house.sandbox.hold_answers(Matcher::Refresh);
    let frozen = house.start(&["refresh"]);
    block_on(house.sandbox.until_held(1));
    signal(&frozen, Signal::SIGSTOP);
    house.sandbox.release();
    let answer = ends_within(house.start(&["token"]), FEW_SECONDS);
    assert!(answer.status.success(), "{rest:?}: {}", told(&answer));
    assert_eq!(block_on(house.stored()).version.generation, 2, "{rest:?}");
    signal(&frozen, Signal::SIGCONT);
    let woken = ends_within(frozen, FEW_SECONDS);
    assert!(woken.status.success(), "{rest:?}: {}", told(&woken));
    let stored = block_on(house.stored());
    assert_eq!((stored.version.generation, house.sandbox.counts().rotations), (2, 1), "{rest:?}");
    assert!(house.is_whole(), "{rest:?}");
}

#[test]
fn a_frozen_process_holds_nobody_up_and_overwrites_nothing() {
    let all = [Rest::PlainFile, Rest::SealedFile, Rest::Sqlite];
    for one in all.map(|rest| std::thread::spawn(move || frozen_while_it_flies(rest))) {
        one.join().expect("no panic");
    }
}

#[test]
fn a_frozen_process_over_a_mounted_file_holds_nobody_up() {
    if in_a_world_of_its_own("crowds::a_frozen_process_over_a_mounted_file_holds_nobody_up") {
        frozen_while_it_flies(Rest::FileInPlace);
    }
}

/// Frozen at any moment for a while, and another one comes meanwhile.
#[test]
fn a_freeze_at_any_moment_loses_nothing() {
    let freezes = times("GHL_AUTH_FREEZES", 8);
    let freeze = Duration::from_millis(times("GHL_AUTH_FREEZE_MS", 300) as u64);
    let seed = times("GHL_AUTH_SEED", std::process::id() as usize) as u64;
    let began = Instant::now();
    let lanes: Vec<_> = (0..freezes.min(8))
        .map(|lane| {
            std::thread::spawn(move || {
                let rest = [Rest::PlainFile, Rest::Sqlite, Rest::SealedFile, Rest::Sqlite][lane % 4];
                let house = House::empty(rest, short_tokens());
                block_on(house.log_in());
                let (mut dice, mut wrong) = (Dice::new(seed + lane as u64), Vec::new());
                for _ in (lane..freezes).step_by(8) {
                    let begun = Instant::now();
                    assert!(house.run(&["refresh"]).status.success());
                    let at = dice.within(begun.elapsed());
                    let frozen = house.start(&["refresh"]);
                    std::thread::sleep(at);
                    signal(&frozen, Signal::SIGSTOP);
                    // Where a lock is frozen with it, this one tries for a while to save what it got,
                    // and leaves it beside the store in the end; it must not hang.
                    ends_within(house.start(&["token"]), FEW_SECONDS * 4);
                    std::thread::sleep(dice.within(freeze));
                    signal(&frozen, Signal::SIGCONT);
                    let woken = ends_within(frozen, FEW_SECONDS * 3);
                    let next = ends_within(house.start(&["token"]), FEW_SECONDS * 2);
                    if !next.status.success() || !house.is_whole() {
                        let after = format!("frozen after {} µs (seed {seed}, lane {lane})", at.as_micros());
                        wrong.push(format!("{rest:?}: {after}: {}; {}", told(&woken), told(&next)));
                    }
                }
                wrong
            })
        })
        .collect();
    let wrong: Vec<_> = lanes.into_iter().flat_map(|lane| lane.join().expect("no panic")).collect();
    report("frozen at random during a refresh", freezes, &wrong, began);
}

/// Frozen for longer than it ever waits for an answer, with the answer in its socket and nobody to
/// help: it reads first, and looks at its clock afterwards.
#[test]
#[ignore = "takes more than a minute"]
fn a_process_that_was_frozen_for_a_minute_finds_its_answer() {
    let began = Instant::now();
    for rest in [Rest::PlainFile, Rest::Sqlite] {
        let house = House::empty(rest, short_tokens());
        block_on(house.log_in());
        house.sandbox.hold_answers(Matcher::Refresh);
        let frozen = house.start(&["refresh"]);
        block_on(house.sandbox.until_held(1));
        signal(&frozen, Signal::SIGSTOP);
        house.sandbox.release();
        std::thread::sleep(Duration::from_secs(66));
        house.sandbox.advance(HOUR);
        signal(&frozen, Signal::SIGCONT);
        let woken = ends_within(frozen, FEW_SECONDS);
        assert!(woken.status.success(), "{rest:?}: {}", told(&woken));
        assert_eq!(house.sandbox.counts().refreshes, 1, "{rest:?}");
        assert!(house.is_whole(), "{rest:?}");
    }
    report("frozen for longer than any answer is waited for", 2, &[], began);
}
