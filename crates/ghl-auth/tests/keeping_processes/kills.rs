//! Killed at every call, and at any moment: whoever comes next brings the grant through.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use sandbox::{Fault, FaultKind, Matcher};

use crate::support::programs::{
    Dice, Mounted, block_on, ends_within, in_a_world_of_its_own, report, signal, told,
};
use crate::support::{House, Rest, short_tokens, times};
use crate::tracer::{Blow, Traced, any_call, leaves_a_trace, strike};

/// Longer than any run of the program may take: a lease of three seconds and what comes after it.
const PATIENCE: Duration = Duration::from_secs(40);

/// How many houses are worked in at once; most of the time they wait for a dead process's lease.
const LANES: usize = 12;

/// Has the work done in several houses at once, and gathers what went wrong.
fn in_lanes(
    lanes: usize,
    rest: Rest,
    work: impl Fn(usize, &House, &mut Vec<String>) + Send + Sync + 'static,
) -> Vec<String> {
    let (work, wrong) = (Arc::new(work), Arc::new(Mutex::new(Vec::new())));
    let lanes: Vec<_> = (0..lanes)
        .map(|lane| {
            let (work, wrong) = (work.clone(), wrong.clone());
            std::thread::spawn(move || {
                let house = House::empty(rest, sandbox::Settings::default());
                let path = house.path();
                let _mounted = (rest == Rest::FileInPlace).then(|| Mounted::file(&path));
                block_on(house.log_in());
                let mut mine = Vec::new();
                work(lane, &house, &mut mine);
                wrong.lock().expect("a list").append(&mut mine);
            })
        })
        .collect();
    for lane in lanes {
        lane.join().expect("no panic");
    }
    Arc::try_unwrap(wrong).expect("nobody else").into_inner().expect("a list")
}

/// The next run gives a token, and afterwards nothing is lost.
fn is_brought_through(house: &House, after: &str, wrong: &mut Vec<String>) {
    let next = ends_within(house.start(&["token"]), PATIENCE);
    let rest = house.rest;
    if !next.status.success() || next.stdout.len() < 100 {
        wrong.push(format!("{rest:?}: no token after {after}: {}", told(&next)));
    }
    if !house.is_whole() {
        wrong.push(format!("{rest:?}: the grant is lost after {after}; the next run said {}", told(&next)));
        // A new one, so that what follows is no echo.
        block_on(house.log_in());
    }
}

/// One refresh is killed at its first call, the next at its second, and so on, until one survives.
fn killed_at_every_call(rest: Rest) {
    let began = Instant::now();
    let counts = match std::env::var_os("GHL_AUTH_EVERY_CALL") {
        Some(_) => any_call,
        None => leaves_a_trace,
    };
    let kills = Arc::new(AtomicUsize::new(0));
    let untraceable = Arc::new(AtomicUsize::new(0));
    let (counted, refused) = (kills.clone(), untraceable.clone());
    let wrong = in_lanes(LANES, rest, move |lane, house, wrong| {
        for at in (lane + 1..).step_by(LANES) {
            match strike(&house.command(&["refresh"]), counts, at, Blow::Kill) {
                None => {
                    refused.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                Some(Traced { struck: true, .. }) => {
                    counted.fetch_add(1, Ordering::Relaxed);
                    is_brought_through(house, &format!("a kill at call {at}"), wrong);
                }
                Some(Traced { succeeded, .. }) => {
                    if !succeeded || !house.is_whole() {
                        wrong.push(format!("{rest:?}: a run without a kill failed"));
                    }
                    return;
                }
            }
        }
    });
    if untraceable.load(Ordering::Relaxed) > 0 {
        println!("{rest:?}: skipped, because processes can't be traced here (ptrace, x86-64)");
        return;
    }
    let kills = kills.load(Ordering::Relaxed);
    assert!(kills > 20, "{rest:?}: only {kills} calls were counted");
    report(&format!("killed at each call of a refresh, {rest:?}"), kills, &wrong, began);
}

#[test]
fn a_kill_at_any_call_loses_nothing_in_a_plain_file() {
    killed_at_every_call(Rest::PlainFile);
}

#[test]
fn a_kill_at_any_call_loses_nothing_in_a_sealed_file() {
    killed_at_every_call(Rest::SealedFile);
}

#[test]
fn a_kill_at_any_call_loses_nothing_in_a_mounted_file() {
    if in_a_world_of_its_own("kills::a_kill_at_any_call_loses_nothing_in_a_mounted_file") {
        killed_at_every_call(Rest::FileInPlace);
    }
}

#[test]
fn a_kill_at_any_call_loses_nothing_in_sqlite() {
    killed_at_every_call(Rest::Sqlite);
}

/// Kills at any moment of a refresh, while HighLevel is slow now and then or loses answers, and
/// kills some of those too that come to help.
fn killed_at_random(rest: Rest) {
    let began = Instant::now();
    // A file that is rewritten in place is slow to run in a debug build.
    let kills = times("GHL_AUTH_KILLS", if rest == Rest::FileInPlace { 24 } else { 60 });
    let restart_within = Duration::from_millis(times("GHL_AUTH_RESTART_WITHIN_MS", 300) as u64);
    let seed = times("GHL_AUTH_SEED", std::process::id() as usize);
    println!("{rest:?}: GHL_AUTH_SEED={seed}");
    let done = Arc::new(AtomicUsize::new(0));
    let lanes = LANES.min(kills);
    let wrong = in_lanes(lanes, rest, move |lane, house, wrong| {
        let mut dice = Dice::new((seed + lane) as u64);
        let duration = unhurried(house);
        for _ in (lane..kills).step_by(lanes) {
            let trouble = trouble(&mut dice);
            if let Some(kind) = &trouble {
                house.sandbox.fault(Fault::new(kind.clone()).on(Matcher::Refresh));
            }
            let mut story = Vec::new();
            kill_after(house, &["refresh"], dice.within(duration * 6 / 5), &mut story);
            std::thread::sleep(dice.within(restart_within));
            while dice.one_in(4) {
                kill_after(house, &["token"], dice.within(duration), &mut story);
            }
            let after = format!("{story:?} with {trouble:?} (seed {seed}, lane {lane})");
            is_brought_through(house, &after, wrong);
            house.sandbox.clear_faults();
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            if done.is_multiple_of(100) {
                println!("{rest:?}: {done} of {kills} kills, {} s", began.elapsed().as_secs());
            }
        }
    });
    report(&format!("killed at random during a refresh, {rest:?}"), kills, &wrong, began);
}

/// How long a refresh takes that nobody disturbs.
fn unhurried(house: &House) -> Duration {
    let began = Instant::now();
    for _ in 0..3 {
        let output = house.run(&["refresh"]);
        assert!(output.status.success(), "{}", told(&output));
    }
    began.elapsed() / 3
}

fn trouble(dice: &mut Dice) -> Option<FaultKind> {
    match dice.below(10) {
        0 | 1 => Some(FaultKind::delay(dice.within(Duration::from_millis(200)))),
        2 => Some(FaultKind::LoseAnswer),
        3 => Some(FaultKind::GatewayHtml { processed: true }),
        4 => Some(FaultKind::LoseRequest),
        _ => None,
    }
}

fn kill_after(house: &House, arguments: &[&str], span: Duration, story: &mut Vec<String>) {
    let mut child = house.start(arguments);
    std::thread::sleep(span);
    let alive = child.try_wait().expect("it can be asked").is_none();
    // SIGKILL, unless it has ended.
    child.kill().expect("it can be killed");
    child.wait().expect("it ends");
    let how = if alive { "killed" } else { "done" };
    story.push(format!("{} {how} after {} µs", arguments.join(" "), span.as_micros()));
}

#[test]
fn a_kill_at_any_moment_loses_nothing_in_a_plain_file() {
    killed_at_random(Rest::PlainFile);
}

#[test]
fn a_kill_at_any_moment_loses_nothing_in_a_sealed_file() {
    killed_at_random(Rest::SealedFile);
}

#[test]
fn a_kill_at_any_moment_loses_nothing_in_a_mounted_file() {
    if in_a_world_of_its_own("kills::a_kill_at_any_moment_loses_nothing_in_a_mounted_file") {
        killed_at_random(Rest::FileInPlace);
    }
}

#[test]
fn a_kill_at_any_moment_loses_nothing_in_sqlite() {
    killed_at_random(Rest::Sqlite);
}

/// The harness finds what it looks for: a process killed while it holds the only copy, and nobody
/// who comes within HighLevel's 30 seconds.
#[test]
fn a_kill_that_nobody_comes_after_in_time_is_seen_as_a_loss() {
    let house = House::empty(Rest::PlainFile, short_tokens());
    block_on(house.log_in());
    house.sandbox.hold_answers(Matcher::Refresh);
    let child = house.start(&["refresh"]);
    block_on(house.sandbox.until_held(1));
    signal(&child, Signal::SIGKILL);
    ends_within(child, PATIENCE);
    house.sandbox.release();
    assert!(!house.is_whole());
}
