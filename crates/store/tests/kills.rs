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
