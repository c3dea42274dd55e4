//! A process that is killed at any moment has lost nothing that it was told is at rest.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a failure here is the test's own answer")]

mod sample;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use sample::*;
use store::{Key, Keys, StoreUrl};
use tokens::store::{Claim, Committed};
use tokens::{AnswerBody, Store};

fn open(kind: &str, path: &Path, keys: &Keys) -> Arc<dyn Store> {
    match kind {
        "file" => store::open(&StoreUrl::File(path.to_owned()), keys, None).unwrap(),
        "in place" => store::open_file_in_place(path, keys, None).unwrap(),
        _ => store::open(&StoreUrl::Sqlite(path.to_owned()), keys, None).unwrap(),
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// The tokens of a generation, so that any mixture of two is noticed.
fn set(generation: u64) -> tokens::TokenSet {
    tokens(&location(), &format!("generation-{generation}"), START)
}

#[test]
#[ignore = "run, and killed, by the other tests"]
fn inner_rotate() {
    let (kind, path) = (std::env::var("KIND").unwrap(), std::env::var_os("STORE").unwrap());
    let keys = sealed_by(&Key::parse(&std::env::var("KEY").unwrap()).unwrap());
    runtime().block_on(async {
        let store = open(&kind, Path::new(&path), &keys);
        let process = std::process::id();
        for flights in 0.. {
            let now = START + Duration::from_secs(10) * flights;
            let seen = store.load(&location()).await.unwrap().unwrap();
            let name = format!("{process}-{flights}");
            let next = set(seen.version.generation + 1);
            store.reserve(&flight(&name)).await.unwrap();
            assert!(matches!(store.claim(&claim(&seen, &name, now)).await.unwrap(), Claim::Ours { .. }));
            let mut answer = landing(&*store, &seen, now);
            answer.body = AnswerBody::new(next.access.expose());
            store.land(&flight(&name), &answer).await.unwrap();
            println!("landed {}", seen.version.generation + 1);
            let commit = commit(&*store, &seen, &name, next, now);
            assert!(matches!(store.commit(&commit).await.unwrap(), Committed::Saved(_)));
            println!("saved {}", seen.version.generation + 1);
            store.free(&flight(&name)).await.unwrap();
        }
    });
}

/// Runs the process above for a while, kills it, and looks at what is left: again and again.
fn kill_again_and_again(kind: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let key = Key::generate();
    let keys = sealed_by(&Key::parse(&key).unwrap());
    if kind == "in place" {
        std::fs::write(&path, "").unwrap();
    }
    runtime()
        .block_on(async { open(kind, &path, &keys).connect(&location(), &set(1), START).await.unwrap() });
    for round in 0..20_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "inner_rotate", "--ignored", "--nocapture"])
            .env("KIND", kind)
            .env("STORE", &path)
            .env("KEY", key.as_str())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let begun = lines.by_ref().find(|line| line.as_ref().is_ok_and(|line| line.contains("landed")));
        assert!(begun.is_some(), "{kind}: it could not go on where the last one was killed");
        std::thread::sleep(Duration::from_micros(round * 7919 % 30_000));
        child.kill().unwrap();
        child.wait().unwrap();
        let told: Vec<String> = begun.into_iter().chain(lines).map(Result::unwrap).collect();
        let last = |word: &str| -> u64 {
            let told = told.iter().rev().find_map(|line| line.split_once(word)?.1.trim().parse().ok());
            told.unwrap_or_default()
        };
        runtime().block_on(async {
            let store = open(kind, &path, &keys);
            let found = store.load(&location()).await.unwrap().expect("nothing deletes a grant");
            let generation = found.version.generation;
            assert!(generation >= last("saved "), "{kind}: what was saved is there");
            assert!(found.tokens.access == set(generation).access, "{kind}: and whole");
            let landings = store.landings().await.unwrap();
            let landed = landings
                .iter()
                .any(|(_, landing)| landing.body.expose() == set(generation + 1).access.expose());
            assert!(landed || generation >= last("landed "), "{kind}: what landed is there");
            for (flight_id, landing) in landings {
                let mut late = commit(&*store, &found, &flight_id.0, set(generation + 1), START);
                (late.version, late.replaces) = (landing.version, landing.replaces.unwrap());
                store.commit(&late).await.unwrap();
                store.free(&flight_id).await.unwrap();
            }
        });
    }
    let left: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.len() <= 4, "{kind}: nothing piles up: {left:?}");
}

#[test]
fn a_killed_process_loses_nothing_from_a_file() {
    kill_again_and_again("file");
}

#[test]
fn a_killed_process_loses_nothing_from_a_file_rewritten_in_place() {
    kill_again_and_again("in place");
}

#[test]
fn a_killed_process_loses_nothing_from_a_database() {
    kill_again_and_again("sqlite");
}

const IN_THE_STORM: usize = 8;

fn in_the_storm(number: usize) -> tokens::InstallationId {
    tokens::InstallationId::from_parts("location", &format!("storm{number}")).unwrap()
}

/// The tokens of a generation and whoever saved it, so that any mixture is noticed.
fn set_in_the_storm(number: usize, generation: u64, process: u32) -> tokens::TokenSet {
    tokens(&in_the_storm(number), &format!("generation-{generation}-{process}"), START)
}

#[test]
#[ignore = "run, and killed, by the other tests"]
fn inner_storm() {
    let path = std::env::var_os("STORE").unwrap();
    let keys = sealed_by(&Key::parse(&std::env::var("KEY").unwrap()).unwrap());
    runtime().block_on(async {
        let store = open("sqlite", Path::new(&path), &keys);
        let mut air = tokio::task::JoinSet::new();
        for number in 0..IN_THE_STORM {
            let (store, id) = (store.clone(), in_the_storm(number));
            air.spawn(async move {
                loop {
                    // Two storms over one database may keep each other waiting for too long: then
                    // nothing was promised.
                    let Ok(seen) = store.load(&id).await else { continue };
                    let seen = seen.expect("nothing deletes a grant");
                    let generation = seen.version.generation + 1;
                    let next = set_in_the_storm(number, generation, std::process::id());
                    let commit = commit(&*store, &seen, "storm", next, START);
                    if let Ok(Committed::Saved(saved)) = store.commit(&commit).await {
                        println!("saved {number} {}", saved.version.generation);
                    }
                }
            });
        }
        air.join_next().await.unwrap().unwrap();
    });
}

/// Lets one process or two storm over one database, kills them, and looks at what is left.
fn kill_in_a_storm(processes: usize) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let key = Key::generate();
    let keys = sealed_by(&Key::parse(&key).unwrap());
    let mut processes_so_far = vec![0];
    runtime().block_on(async {
        let store = open("sqlite", &path, &keys);
        for number in 0..IN_THE_STORM {
            let first = set_in_the_storm(number, 1, 0);
            store.connect(&in_the_storm(number), &first, START).await.unwrap();
        }
    });
    let mut saved_by_anyone = std::collections::BTreeSet::new();
    for round in 0..5_u64 {
        let children: Vec<_> = (0..processes)
            .map(|_| {
                Command::new(std::env::current_exe().unwrap())
                    .args(["--exact", "inner_storm", "--ignored", "--nocapture"])
                    .env("STORE", &path)
                    .env("KEY", key.as_str())
                    .stdout(Stdio::piped())
                    .spawn()
                    .unwrap()
            })
            .collect();
        processes_so_far.extend(children.iter().map(std::process::Child::id));
        let told: Vec<String> = std::thread::scope(|scope| {
            let storms: Vec<_> = children
                .into_iter()
                .map(|mut child| {
                    scope.spawn(move || {
                        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
                        let enough = 20 + round as usize * 7;
                        let saved = lines.by_ref().map(Result::unwrap).filter(|line| line.contains("saved "));
                        let mut told: Vec<String> = saved.take(enough).collect();
                        child.kill().unwrap();
                        child.wait().unwrap();
                        told.extend(lines.map(Result::unwrap));
                        told
                    })
                })
                .collect();
            storms.into_iter().flat_map(|storm| storm.join().unwrap()).collect()
        });
        let saved: Vec<(usize, u64)> = told
            .iter()
            .filter_map(|line| {
                let mut words = line.split_once("saved ")?.1.split(' ');
                Some((words.next()?.parse().ok()?, words.next()?.trim().parse().ok()?))
            })
            .collect();
        assert!(saved.len() >= 20, "it stormed: {told:?}");
        for saved in &saved {
            assert!(saved_by_anyone.insert(*saved), "two were told that they had saved {saved:?}");
        }
        runtime().block_on(async {
            let store = open("sqlite", &path, &keys);
            for number in 0..IN_THE_STORM {
                let found =
                    store.load(&in_the_storm(number)).await.unwrap().expect("nothing deletes a grant");
                let generation = found.version.generation;
                let told = saved.iter().filter(|saved| saved.0 == number).map(|saved| saved.1).max();
                assert!(told.is_none_or(|told| generation >= told), "{generation} {told:?}");
                let mut sets = processes_so_far.iter().map(|of| set_in_the_storm(number, generation, *of));
                let whole = sets.any(|set| {
                    found.tokens.access == set.access && found.tokens.refresh_by == set.refresh_by
                });
                assert!(whole, "what is there is whole");
            }
        });
    }
}

#[test]
fn a_process_killed_in_a_storm_loses_nothing_that_it_was_told() {
    kill_in_a_storm(1);
}

#[test]
fn two_processes_storm_one_database_and_each_set_is_saved_by_one() {
    kill_in_a_storm(2);
}
