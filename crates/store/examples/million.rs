//! How a store grows: what loading, looking and saving cost with a thousand installations and with a
//! million. Run by `bench/store.sh`.
//!
//! Everything is asked through `dyn Store`, as the product asks it, on one disk and in one run with one
//! `fdatasync` after another. Ids come in no order, as HighLevel's do.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench, not the product"
)]

mod common;
#[path = "../../../tests/postgres/mod.rs"]
mod postgres;
#[path = "../tests/sample/mod.rs"]
mod sample;

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::set;
use sample::*;
use store::{Keys, StoreUrl};
use tokens::store::{Committed, Listing, Order};
use tokens::{
    AccessToken, Connection, Health, Installation, InstallationId, LastCheck, RefreshBy, RefreshToken, Store,
    TokenSet, Version,
};

/// So many are put at once.
const BATCH: usize = 5_000;

/// How often what is quick is asked.
const TIMES: usize = 500;

const HOUR: Duration = Duration::from_secs(3600);

fn main() {
    let sizes = std::env::var("SIZES").unwrap_or_else(|_| "1000x600 1000000x600".to_owned());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut table: Vec<(String, Vec<String>)> = Vec::new();
    let mut heads = Vec::new();
    for size in sizes.split_whitespace() {
        let (count, bytes) = size.split_once('x').expect("installations x bytes of each token");
        heads.push(format!("{count} x 2 x {bytes} B"));
        let lines = runtime.block_on(measured(count.parse().unwrap(), bytes.parse().unwrap()));
        for (place, (name, value)) in lines.into_iter().enumerate() {
            match table.get_mut(place) {
                Some((_, values)) => values.push(value),
                None => table.push((name, vec![value])),
            }
        }
    }
    println!("{:<44}{}", "", heads.iter().map(|head| format!("{head:>24}")).collect::<String>());
    for (name, values) in &table {
        println!("{name:<44}{}", values.iter().map(|value| format!("{value:>24}")).collect::<String>());
    }
}

/// What a PostgreSQL server is given that is to hold a million: a machine's administrator does as much.
const SETTINGS: [&str; 4] =
    ["shared_buffers=512MB", "max_wal_size=4GB", "checkpoint_timeout=15min", "wal_compression=lz4"];

/// Where it is measured: `STORE`, a server of PostgreSQL's of its own, or a database in a folder of its own.
struct Place {
    url: StoreUrl,
    folder: tempfile::TempDir,
    server: Option<postgres::Server>,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir_in(std::env::var_os("FOLDER").unwrap_or_else(|| ".".into())).unwrap();
        let (url, server) = match std::env::var("STORE").as_deref() {
            Ok("postgres") => {
                let server = postgres::Server::start(&SETTINGS);
                (StoreUrl::parse(&server.socket_url("")).unwrap(), Some(server))
            }
            // Each size has a schema of its own there, which stays.
            Ok(url) if url.starts_with("postgres") => {
                let sign = if url.contains('?') { '&' } else { '?' };
                let name = folder.path().file_name().unwrap().to_string_lossy();
                let letters = name.to_lowercase().replace(|it: char| !it.is_ascii_alphanumeric(), "");
                (StoreUrl::parse(&format!("{url}{sign}schema=bench_{letters}")).unwrap(), None)
            }
            Ok(url) => (StoreUrl::parse(url).unwrap(), None),
            Err(_) => (StoreUrl::Sqlite(folder.path().join("ghl.db")), None),
        };
        Self { url, folder, server }
    }

    async fn open(&self, keys: &Keys) -> Arc<dyn Store> {
        store::connect(&self.url, keys, &self.folder.path().join("spool"), None).await.unwrap()
    }

    /// The database, and how much of it is sealed. Of PostgreSQL, where it began the server.
    fn sizes(&self) -> Option<(f64, f64)> {
        match (&self.url, &self.server) {
            (StoreUrl::Sqlite(path), _) => {
                let database = rusqlite::Connection::open(path).unwrap();
                let sealed: i64 =
                    database.query_row("SELECT sum(length(sealed)) FROM sets", [], |row| row.get(0)).unwrap();
                Some((fs::metadata(path).unwrap().len() as f64, sealed as f64))
            }
            (_, Some(server)) => {
                let size = "SELECT sum(pg_total_relation_size(oid)) FROM pg_class
                    WHERE relnamespace = 'ghl_auth'::regnamespace AND relkind = 'r'";
                let sealed = "SELECT sum(length(sealed)) FROM ghl_auth.sets";
                Some((server.sql(size).parse().unwrap(), server.sql(sealed).parse().unwrap()))
            }
            _ => None,
        }
    }
}

async fn measured(count: usize, bytes: usize) -> Vec<(String, String)> {
    let place = Place::new();
    let keys = sealed_by(&new_key());
    let flushing = Flushing::within(place.folder.path());
    let mut lines = Vec::new();
    let mut line = |name: &str, value: String| {
        eprintln!("{count}: {name}: {value}");
        lines.push((name.to_owned(), value));
    };
    // What was used before is no matter here.
    let _ = fs::write("/proc/self/clear_refs", "5");
    let mut load = Duration::ZERO;
    let began = Instant::now();
    let store = place.open(&keys).await;
    store.begin_putting().await.unwrap();
    load += began.elapsed();
    for from in (0..count).step_by(BATCH) {
        let batch: Vec<Installation> =
            (from..count.min(from + BATCH)).map(|number| installation(number, bytes)).collect();
        let began = Instant::now();
        assert_eq!(store.put(&batch).await.unwrap(), batch.len());
        load += began.elapsed();
    }
    let began = Instant::now();
    store.end_putting().await.unwrap();
    drop(store);
    let end = began.elapsed();
    load += end;
    // What the system has yet to write of it is no matter for what follows.
    let _ = std::process::Command::new("sync").status();
    let goals = match place.url {
        StoreUrl::Postgres(_) => ["25", "1.45", "300", "3"],
        _ => ["40", "1.2", "100", "2.5"],
    };
    let [goal_load, goal_size, goal_due, goal_commit] = goals;
    line(&format!("load, s (goal at a million: {goal_load})"), format!("{:.1}", load.as_secs_f64()));
    line("  of it when all are put, s", format!("{:.1}", end.as_secs_f64()));
    if let Some((size, sealed)) = place.sizes() {
        line("sealed bytes each", format!("{:.0}", sealed / count as f64));
        line(&format!("database / sealed (goal {goal_size})"), format!("{:.3}", size / sealed));
    }
    line("memory at the most while loading, MB", memory());
    let _ = fs::write("/proc/self/clear_refs", "5");

    if let Some(server) = &place.server {
        // So that what is saved from here on meets a database at rest, as a service finds it.
        server.sql("CHECKPOINT");
    }
    let mut ready = Vec::new();
    for number in 0..5 {
        let began = Instant::now();
        let store = place.open(&keys).await;
        store.load(&id(number % count)).await.unwrap().unwrap();
        ready.push(began.elapsed());
    }
    line("open, and one token, ms (goal 100)", format!("{:.1}", middle(&mut ready).as_secs_f64() * 1e3));

    let store = place.open(&keys).await;
    let now = START + HOUR * 30;
    let due = quick(TIMES, async |_| store.refresh_due(now, None, 100).await.unwrap().len()).await;
    line(&format!("next 100 due, us (goal {goal_due})"), micros(due));
    let due = quick(TIMES, async |_| store.refresh_due(now, None, 8).await.unwrap().len()).await;
    line("next 8 due, us", micros(due));
    let due = quick(TIMES, async |_| store.check_due(HOUR * 12, now, None, 100).await.unwrap().len()).await;
    line("next 100 checks due, us", micros(due));
    let read = quick(TIMES, async |number| {
        usize::from(store.load(&id(scattered(number, count))).await.unwrap().is_some())
    })
    .await;
    line("point read, us", micros(read));

    // From the second one on, a refresh writes over the set that it makes superfluous.
    for number in 0..TIMES {
        let id = id(scattered(number + 7, count));
        let seen = store.load(&id).await.unwrap().unwrap();
        let commit = commit(&*store, &seen, &format!("f{number}"), tokens_of(&id, bytes), START);
        assert!(matches!(store.commit(&commit).await.unwrap(), Committed::Saved(_)));
    }
    let (mut flushes, mut commits) = (Vec::new(), Vec::new());
    for number in 0..TIMES {
        flushes.push(flushing.once(number as u64));
        let id = id(scattered(number + 7, count));
        let seen = store.load(&id).await.unwrap().unwrap();
        // As every refresh does, outside what is measured.
        store.claim(&claim(&seen, &format!("m{number}"), START)).await.unwrap();
        let commit = commit(&*store, &seen, &format!("m{number}"), tokens_of(&id, bytes), START);
        let began = Instant::now();
        assert!(matches!(store.commit(&commit).await.unwrap(), Committed::Saved(_)));
        commits.push(began.elapsed());
    }
    let (flush, commit) = (middle(&mut flushes), middle(&mut commits));
    line("one fdatasync of 4 KB meanwhile, us", micros(flush));
    line("durable commit of a refresh, us", micros(commit));
    line(
        &format!("  of one fdatasync (goal {goal_commit})"),
        format!("{:.2}", commit.as_secs_f64() / flush.as_secs_f64()),
    );

    let counted = quick(20, async |_| store.counts().await.unwrap().connected as usize).await;
    line("counts, ms (goal 100)", format!("{:.2}", counted.as_secs_f64() * 1e3));
    for order in Order::ALL {
        let mut after = None;
        let mut pages = Vec::new();
        for _ in 0..20 {
            let listing = Listing { order, after: after.take(), ..Listing::first(100) };
            let began = Instant::now();
            let page = store.overview(&listing).await.unwrap();
            pages.push(began.elapsed());
            after = page.into_iter().next_back();
        }
        line(&format!("a page of 100 by {}, us", order.as_str()), micros(middle(&mut pages)));
    }
    let text = Some("no such name".to_owned());
    let listing = Listing { text, ..Listing::first(100) };
    let search = quick(3, async |_| store.overview(&listing).await.unwrap().len() + 1).await;
    line("a search that finds nothing, ms (goal 1000)", format!("{:.1}", search.as_secs_f64() * 1e3));
    drop(store);
    line("memory at the most since then, MB", memory());

    let new = new_key();
    let both = Keys { current: Some(new), old: keys.current.iter().cloned().collect() };
    let store = place.open(&both).await;
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let asking = tokio::spawn(asks(store.clone(), count, bytes, stop.clone()));
    let began = Instant::now();
    while store.reseal(2000).await.unwrap() > 0 {}
    let took = began.elapsed();
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let (mut reads, mut commits) = asking.await.unwrap();
    line("sealed anew, s (goal at a million: 60)", format!("{:.1}", took.as_secs_f64()));
    line("  reads meanwhile, p99, us", micros(nth(&mut reads, 0.99)));
    line("  commits meanwhile, p99, ms", format!("{:.1}", nth(&mut commits, 0.99).as_secs_f64() * 1e3));
    drop(store);
    let only_new = Keys { current: both.current.clone(), old: Vec::new() };
    assert!(place.open(&only_new).await.load(&id(0)).await.unwrap().is_some());
    lines
}

/// A service that goes on meanwhile: reads, and a refresh 50 times a second.
async fn asks(
    store: Arc<dyn Store>,
    count: usize,
    bytes: usize,
    stop: Arc<std::sync::atomic::AtomicBool>,
) -> (Vec<Duration>, Vec<Duration>) {
    let (mut reads, mut commits) = (Vec::new(), Vec::new());
    let mut number = 0;
    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
        number += 1;
        let id = id(scattered(number * 3, count));
        let began = Instant::now();
        let seen = store.load(&id).await.unwrap().unwrap();
        reads.push(began.elapsed());
        let commit = commit(&*store, &seen, &format!("r{number}"), tokens_of(&id, bytes), START);
        let began = Instant::now();
        assert!(matches!(store.commit(&commit).await.unwrap(), Committed::Saved(_)));
        commits.push(began.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    (reads, commits)
}

/// Twenty letters and digits that follow from a number, and in no order.
fn id(number: usize) -> InstallationId {
    const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut hash = (number as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    hash ^= hash >> 67;
    hash = hash.wrapping_mul(0xbf58_476d_1ce4_e5b9_94d0_49bb_1331_11eb);
    let mut text = String::with_capacity(20);
    for _ in 0..20 {
        text.push(char::from(LETTERS[(hash % 62) as usize]));
        hash /= 62;
    }
    InstallationId::Location(text.parse().unwrap())
}

fn scattered(number: usize, count: usize) -> usize {
    number.wrapping_mul(7919) % count
}

/// Real tokens of one app repeat its scopes; short ones are what the goals were set with.
fn tokens_of(id: &InstallationId, bytes: usize) -> TokenSet {
    let mut tokens = set(id, bytes);
    if bytes >= 4000 {
        let name = format!("{}", common::NUMBER.load(std::sync::atomic::Ordering::Relaxed));
        tokens.access = AccessToken::new(jwt(id, &format!("access-{name}"), START, DAY));
        tokens.refresh_by =
            RefreshBy::Own(RefreshToken::new(jwt(id, &format!("refresh-{name}"), START, DAY)));
    }
    tokens.company = Some("AAAAAAAAAAAAAAAAAAAA".parse().unwrap());
    tokens
}

fn installation(number: usize, bytes: usize) -> Installation {
    let id = id(number);
    let issued_at = START + Duration::from_secs(number as u64 % 86_400);
    let mut tokens = tokens_of(&id, bytes);
    (tokens.issued_at, tokens.expires_at) = (issued_at, issued_at + DAY);
    let check = LastCheck { at: issued_at, health: Health::Operational, code: None, said: None };
    Installation {
        id,
        version: Version { epoch: 1, generation: 1 },
        tokens,
        previous: None,
        connection: Connection::Connected,
        intent: None,
        last_check: Some(check),
        connected_at: issued_at,
        name: Some(format!("Padaria Jardins {number}")),
        unlisted_at: None,
    }
}

async fn quick(times: usize, ask: impl AsyncFn(usize) -> usize) -> Duration {
    let mut all = Vec::new();
    for number in 0..times {
        let began = Instant::now();
        assert!(ask(number).await > 0);
        all.push(began.elapsed());
    }
    middle(&mut all)
}

/// What the disk takes by itself.
struct Flushing(File);

impl Flushing {
    fn within(folder: &Path) -> Self {
        let path: PathBuf = folder.join("flushed");
        let file = File::create(&path).unwrap();
        file.write_all_at(&[0; 64 * 4096], 0).unwrap();
        file.sync_all().unwrap();
        Self(file)
    }

    fn once(&self, number: u64) -> Duration {
        let began = Instant::now();
        self.0.write_all_at(&[number as u8; 4096], number % 64 * 4096).unwrap();
        self.0.sync_data().unwrap();
        began.elapsed()
    }
}

fn middle(all: &mut [Duration]) -> Duration {
    nth(all, 0.5)
}

fn nth(all: &mut [Duration], part: f64) -> Duration {
    all.sort_unstable();
    let place = (all.len() as f64 * part) as usize;
    all.get(place.min(all.len().saturating_sub(1))).copied().unwrap_or_default()
}

fn micros(span: Duration) -> String {
    format!("{:.0}", span.as_secs_f64() * 1e6)
}

fn memory() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    let kib: f64 = peak.trim().trim_end_matches(" kB").trim().parse().unwrap_or_default();
    format!("{:.0}", kib / 1024.0)
}
