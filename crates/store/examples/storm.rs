//! A storm: how many token sets a second a SQLite store brings to rest, each on the disk before its
//! caller is told so. Run by `bench/storm.sh`.
//!
//! In one run, on one disk, interleaved: one `fdatasync` after another, the naive way (a transaction
//! for each change), and the store with 1 to 256 flights at once. There is no HighLevel here, and
//! no waiting for it: each flight ends when its new tokens are at rest, and the next one begins.
//! The processor's time for each is told too: it says more where other programs use the machine.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench, not the product")]

mod common;
#[path = "../tests/sample/mod.rs"]
mod sample;

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{NUMBER, set};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use rusqlite::Connection;
use sample::*;
use store::StoreUrl;
use tokens::store::{Claim, Committed, Landing};
use tokens::{AnswerBody, Installation, InstallationId, Store};

const AT_ONCE: [usize; 4] = [1, 8, 64, 256];

/// How much of a flight is done.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    /// The new tokens in the place of the old: what the goal counts.
    Commit,
    /// The lease and the intent before it too.
    ClaimAndCommit,
    /// And room for the answer, the answer in it, and the room given back.
    Whole,
}

fn main() {
    let number = |name: &str, otherwise: usize| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
    };
    let rounds = number("ROUNDS", 3);
    let size = number("TOKEN_BYTES", 5000);
    let span = Duration::from_millis(number("MILLISECONDS", 1500) as u64);
    let folder = tempfile::tempdir_in(std::env::var_os("FOLDER").unwrap_or_else(|| ".".into())).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();

    let mut table: Vec<(String, Vec<Found>)> = Vec::new();
    let mut note = |name: String, found: Found| match table.iter_mut().find(|(known, _)| *known == name) {
        Some((_, all)) => all.push(found),
        None => table.push((name, vec![found])),
    };
    for round in 0..rounds {
        note("fdatasync of 4 KB, one after another".into(), flushes(folder.path(), span));
        note("naive: a transaction for each set of tokens".into(), naive(folder.path(), size, round, span));
        for at_once in AT_ONCE {
            for (part, name) in [
                (Part::Commit, "commit"),
                (Part::ClaimAndCommit, "claim, commit"),
                (Part::Whole, "reserve, claim, land, commit, free"),
            ] {
                let path = folder.path().join(format!("{round}-{at_once}-{name}.db"));
                let storm = storm(&path, size, at_once, part, span);
                note(format!("{name}: {at_once} at once"), runtime.block_on(storm));
            }
        }
    }
    let median = |all: &[Found], what: fn(&Found) -> f64| {
        let mut all: Vec<f64> = all.iter().map(what).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    let rate = |all: &[Found]| median(all, |found| found.per_second);
    let (flush, naive) = (rate(&table[0].1), rate(&table[1].1));
    println!("tokens of {size} bytes each, {rounds} rounds of {span:?}, medians");
    println!("{:<48}{:>9}{:>14}{:>10}{:>9}", "", "a second", "of fdatasync", "of naive", "CPU us");
    for (name, all) in &table {
        let (found, cpu) = (rate(all), median(all, |found| found.cpu_micros));
        println!("{name:<48}{found:>9.0}{:>14.2}{:>10.2}{cpu:>9.0}", found / flush, found / naive);
    }
}

/// How many a second, and how much of the processor's time each takes.
struct Found {
    per_second: f64,
    cpu_micros: f64,
}

/// What is measured from here on.
struct Watch {
    began: Instant,
    cpu: Duration,
}

impl Watch {
    fn start() -> Self {
        Self { began: Instant::now(), cpu: cpu_used() }
    }

    fn found(&self, done: u64) -> Found {
        let cpu = cpu_used() - self.cpu;
        Found {
            per_second: done as f64 / self.began.elapsed().as_secs_f64(),
            cpu_micros: cpu.as_secs_f64() * 1e6 / done.max(1) as f64,
        }
    }
}

fn cpu_used() -> Duration {
    let used = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let both = [used.user_time(), used.system_time()].map(|time| time.num_microseconds() as u64);
    Duration::from_micros(both[0] + both[1])
}

fn flushes(folder: &Path, span: Duration) -> Found {
    let path = folder.join("flushed");
    let file = File::create(&path).unwrap();
    file.write_all_at(&[0; 64 * 4096], 0).unwrap();
    file.sync_all().unwrap();
    per_second(span, |number| {
        file.write_all_at(&[number as u8; 4096], number % 64 * 4096).unwrap();
        file.sync_data().unwrap();
    })
}

/// As `sqlite3` would do it: a table, an update for each new set, nothing sealed, nothing compared.
fn naive(folder: &Path, size: usize, round: usize, span: Duration) -> Found {
    let database = Connection::open(folder.join(format!("naive-{round}.db"))).unwrap();
    database
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
             CREATE TABLE sets (id TEXT PRIMARY KEY, generation INTEGER, now BLOB, before BLOB)",
        )
        .unwrap();
    database.execute("INSERT INTO sets VALUES ('a', 1, '', '')", []).unwrap();
    let both = common::token("both", 2 * size);
    per_second(span, |_| {
        let sql = "UPDATE sets SET generation = generation + 1, before = now, now = ?1 WHERE id = 'a'";
        database.prepare_cached(sql).unwrap().execute([&both]).unwrap();
    })
}

fn per_second(span: Duration, mut work: impl FnMut(u64)) -> Found {
    let watch = Watch::start();
    let mut done = 0;
    while watch.began.elapsed() < span {
        work(done);
        done += 1;
    }
    watch.found(done)
}

async fn storm(path: &Path, size: usize, at_once: usize, part: Part, span: Duration) -> Found {
    let store = store::open(&StoreUrl::Sqlite(path.to_owned()), &sealed_by(&new_key()), None).unwrap();
    let mut flights = Vec::new();
    for number in 0..at_once {
        let id = InstallationId::from_parts("location", &format!("BBBBBBBBBBBBBBB{number:05}")).unwrap();
        let seen = store.connect(&id, &set(&id, size), START).await.unwrap();
        flights.push((id, seen));
    }
    let (watch, done) = (Watch::start(), Arc::new(AtomicU64::new(0)));
    let began = watch.began;
    let mut air = tokio::task::JoinSet::new();
    for (id, mut seen) in flights {
        let (store, done) = (store.clone(), done.clone());
        air.spawn(async move {
            while began.elapsed() < span {
                seen = rotate(&*store, &id, seen, size, part).await;
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    while let Some(ended) = air.join_next().await {
        ended.unwrap();
    }
    watch.found(done.load(Ordering::Relaxed))
}

async fn rotate(
    store: &dyn Store,
    id: &InstallationId,
    seen: Installation,
    size: usize,
    part: Part,
) -> Installation {
    let name = format!("storm-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    if part == Part::Whole {
        store.reserve(&flight(&name)).await.unwrap();
    }
    if part != Part::Commit {
        let claimed = store.claim(&claim(&seen, &name, START)).await.unwrap();
        assert!(matches!(claimed, Claim::Ours { .. }));
    }
    let next = set(id, size);
    if part == Part::Whole {
        let answer = Landing {
            id: Some(id.clone()),
            version: seen.version,
            replaces: seen.tokens.refresh_token().map(|token| store.fingerprint(token)),
            unasked: false,
            received_at: START,
            status: 200,
            body: AnswerBody::new(format!("{}{}", next.access.expose(), refresh_token(&next).expose())),
        };
        store.land(&flight(&name), &answer).await.unwrap();
    }
    let commit = commit(store, &seen, &name, next, START);
    let Committed::Saved(saved) = store.commit(&commit).await.unwrap() else { panic!("not saved") };
    if part == Part::Whole {
        store.free(&flight(&name)).await.unwrap();
    }
    *saved
}
