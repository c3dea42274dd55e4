//! A strict judge in HighLevel's place: the npm package `oidc-provider`, by which a refresh token works
//! once and whoever shows one a second time loses the grant. Three replicas share one store and refresh
//! as fast as they can, and the judge never has to refuse: T-114.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test says what it found, and why it was left out"
)]

#[path = "../../../../tests/postgres/mod.rs"]
#[allow(unreachable_pub, reason = "other crates' tests use it, too")]
mod postgres;
#[path = "../support/mod.rs"]
mod support;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use highlevel::{AppCredentials, Client, Dialect, OAuth};
use serde::Deserialize;
use store::{Key, Keys, StoreUrl};
use support::programs::report;
use support::{HOUR, folder, times};
use tempfile::TempDir;
use tokens::{
    AuthorizationCode, ClientSecret, InstallationId, Keeper, KeeperError, Store, TestClock, Timestamp, Timing,
};

const REPLICAS: usize = 3;

/// So many ask each replica for a new set at the same time.
const CALLERS: usize = 8;

const JUDGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/judge");

/// The oldest Node that the package runs on.
const NODE: u32 = 20;

/// The judge, for as long as it is held: it ends with its standard input.
struct Judge {
    process: Child,
    terms: Terms,
}

/// What it says at its start.
#[derive(Clone, Deserialize)]
struct Terms {
    address: String,
    code: String,
    id: String,
    secret: String,
    redirect: String,
}

/// What it has counted.
#[derive(Debug, Deserialize, PartialEq, Eq)]
struct Seen {
    rotations: u64,
    refused: u64,
    reuses: u64,
    revoked: u64,
    requests: u64,
}

impl Judge {
    /// None where there is no Node to run it, which is said.
    fn start() -> Option<Self> {
        let folder = folder_of_judge()?;
        let mut process = Command::new("node")
            .arg("judge.mjs")
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("node starts");
        let mut line = String::new();
        let out = process.stdout.take().expect("a pipe");
        BufReader::new(out).read_line(&mut line).expect("a line");
        let terms = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        Some(Self { process, terms })
    }

    async fn seen(&self) -> Seen {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let address = self.terms.address.trim_start_matches("http://");
        let mut stream = tokio::net::TcpStream::connect(address).await.expect("the judge");
        let question = format!("GET /seen HTTP/1.0\r\nHost: {address}\r\n\r\n");
        stream.write_all(question.as_bytes()).await.expect("it listens");
        let mut page = String::new();
        stream.read_to_string(&mut page).await.expect("it answers");
        let (_, body) = page.split_once("\r\n\r\n").expect("a body");
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {page}"))
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        // It has nothing to end, so that it may as well be ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The judge beside the packages of its lock file, which are fetched once for each lock file.
fn folder_of_judge() -> Option<&'static Path> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOLDER.get_or_init(installed).as_deref()
}

fn installed() -> Option<PathBuf> {
    let version = Command::new("node").arg("--version").output().ok().filter(|run| run.status.success());
    let version = version.map(|run| String::from_utf8_lossy(&run.stdout).into_owned()).unwrap_or_default();
    let major: Option<u32> = version.trim_start_matches('v').split('.').next().and_then(|it| it.parse().ok());
    let has_npm = Command::new("npm").arg("--version").output().is_ok_and(|run| run.status.success());
    if !has_npm || major.is_none_or(|major| major < NODE) {
        eprintln!("LEFT OUT: the strict judge needs npm and Node {NODE} or newer; there is {version:?}");
        return None;
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("judge");
    std::fs::create_dir_all(&folder).expect("a folder");
    let copy = |name: &str| {
        std::fs::copy(Path::new(JUDGE).join(name), folder.join(name)).expect("the judge's files");
    };
    ["judge.mjs", "package.json"].into_iter().for_each(copy);
    let wanted = std::fs::read(Path::new(JUDGE).join("package-lock.json")).expect("a lock file");
    if std::fs::read(folder.join("installed")).is_ok_and(|lock| lock == wanted) {
        return Some(folder);
    }
    copy("package-lock.json");
    let npm = Command::new("npm")
        .args(["ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"])
        .current_dir(&folder)
        .output()
        .expect("npm runs");
    assert!(npm.status.success(), "{}", String::from_utf8_lossy(&npm.stderr));
    std::fs::write(folder.join("installed"), wanted).expect("the folder is ours");
    Some(folder)
}

/// Where the replicas keep what they share.
#[derive(Clone, Copy, Debug)]
enum Shared {
    Sqlite,
    Postgres,
}

/// A store that each replica opens for itself.
struct Place {
    shared: Shared,
    folder: TempDir,
    url: StoreUrl,
    key: String,
}

impl Place {
    fn new(shared: Shared) -> Self {
        let folder = folder();
        let url = match shared {
            Shared::Sqlite => StoreUrl::Sqlite(folder.path().join("ghl.db")),
            Shared::Postgres => StoreUrl::parse(&postgres::server().fresh_schema()).expect("an address"),
        };
        Self { shared, folder, url, key: Key::generate().to_string() }
    }

    async fn open(&self, replica: usize) -> Arc<dyn Store> {
        let keys = Keys { current: Some(Key::parse(&self.key).expect("a key")), old: Vec::new() };
        let spool = self.folder.path().join(format!("spool-{replica}"));
        store::connect(&self.url, &keys, &spool, None).await.expect("a store")
    }

    /// A replica: its own store, its own connections, the timing of every day.
    async fn replica(&self, number: usize, terms: &Terms) -> Keeper {
        let client = Client::new(terms.address.parse().expect("an address"), Dialect::Dated, None);
        let app = AppCredentials {
            client_id: terms.id.clone(),
            client_secrets: vec![ClientSecret::new(terms.secret.clone())],
            redirect_uri: terms.redirect.clone(),
            user_type: "Location",
        };
        let issuer = Arc::new(OAuth::new(client.expect("a client"), app));
        let clock = Arc::new(TestClock::at(Timestamp::from_millis(1_790_000_000_000)));
        Keeper::new(self.open(number).await, issuer, clock, Timing::default(), format!("replica-{number}"))
    }
}

/// What became of it.
struct Verdict {
    seen: Seen,
    generation: u64,
    errors: Vec<KeeperError>,
    took: Duration,
}

/// Lets every caller of every replica ask for a new set again and again, until there were so many.
async fn rotate(judge: &Judge, place: &Place, rotations: u64) -> Verdict {
    let mut replicas = Vec::new();
    for number in 0..REPLICAS {
        replicas.push(place.replica(number, &judge.terms).await);
    }
    let code = AuthorizationCode::new(judge.terms.code.clone());
    let id = replicas[0].connect(&code).await.expect("a grant").id;
    let began = Instant::now();
    let callers: Vec<_> = replicas
        .iter()
        .flat_map(|replica| std::iter::repeat_n(replica, CALLERS))
        .map(|replica| tokio::spawn(ask_on(replica.clone(), id.clone(), rotations)))
        .collect();
    let mut errors = Vec::new();
    for caller in callers {
        errors.extend(caller.await.expect("no panic").err());
    }
    for replica in &replicas {
        replica.landed().await;
    }
    let took = began.elapsed();
    let stored = place.open(REPLICAS).await.load(&id).await.expect("a store that can be read");
    let generation = stored.expect("a grant").version.generation;
    Verdict { seen: judge.seen().await, generation, errors, took }
}

async fn ask_on(replica: Keeper, id: InstallationId, rotations: u64) -> Result<(), KeeperError> {
    while replica.refresh(&id).await?.version.generation <= rotations {
        let served = replica.token(&id, HOUR / 2).await?;
        // A token that still lives hides what the judge said.
        served.warning.map_or(Ok(()), Err)?;
    }
    Ok(())
}

async fn nobody_is_refused(shared: Shared) {
    let rotations = times("GHL_AUTH_JUDGED_ROTATIONS", 300);
    break_the_rules_that_are_named();
    let Some(judge) = Judge::start() else { return };
    let place = Place::new(shared);
    let Verdict { seen, generation, errors, took } = rotate(&judge, &place, rotations as u64).await;
    println!("{shared:?}: {seen:?} in {took:?}, generation {generation}");
    assert_eq!((seen.refused, seen.reuses, seen.revoked), (0, 0, 0), "{seen:?}, {errors:?}");
    assert!(errors.is_empty(), "{errors:?}");
    // A request for each rotation, and one for the code: none was in vain.
    assert_eq!((seen.rotations, seen.requests), (generation - 1, generation), "{seen:?}");
    assert!(seen.rotations >= rotations as u64, "{seen:?}");
    let what = format!("rotations before a strict judge, 3 replicas, {:?}", place.shared);
    report(&what, usize::try_from(seen.rotations).expect("a count"), &[], Instant::now() - took);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn three_replicas_never_show_a_token_twice_over_sqlite() {
    nobody_is_refused(Shared::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn three_replicas_never_show_a_token_twice_over_postgresql() {
    if !postgres::is_left_out() {
        nobody_is_refused(Shared::Postgres).await;
    }
}

/// Switches off the rules of the refresh that `GHL_AUTH_BREAK_RULES` names.
fn break_the_rules_that_are_named() {
    #[cfg(feature = "break-rules")]
    for name in std::env::var("GHL_AUTH_BREAK_RULES").unwrap_or_default().split_whitespace() {
        let rule = tokens::rules::Rule::ALL.into_iter().find(|rule| format!("{rule:?}") == name);
        tokens::rules::break_rule(rule.expect("the name of a rule"));
    }
}

/// The judge is strict enough to see it when replicas don't heed each other.
#[cfg(feature = "break-rules")]
#[test]
fn the_judge_sees_a_token_twice_where_nobody_holds_a_lease_or_looks_again() {
    if std::env::var_os("GHL_AUTH_BREAK_RULES").is_some() || folder_of_judge().is_none() {
        return;
    }
    let output = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "three_replicas_never_show_a_token_twice_over_sqlite", "--nocapture"])
        .env("GHL_AUTH_BREAK_RULES", "Lease LookAgain")
        .env("GHL_AUTH_JUDGED_ROTATIONS", "300")
        .env_remove("GHL_AUTH_RESULTS")
        .output()
        .expect("it runs");
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    let found = said.split("Seen { ").nth(1).unwrap_or_else(|| panic!("it counted nothing: {said}"));
    let reuses = found.split("reuses: ").nth(1).and_then(|rest| rest.split(',').next());
    assert!(reuses.is_some_and(|count| count != "0"), "{said}");
}
