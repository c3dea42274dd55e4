//! Everybody is due at once: a service that was down for a day starts over a store full of grants that
//! are to be refreshed, and is asked for tokens meanwhile. Run by `bench/due.sh`.
//!
//! The program is the real one, the sandbox plays HighLevel in this process, and each refresh has its
//! lease, its intent, its spool and its commit on the disk. Told are the refreshes a second, and how
//! the token endpoint fared.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench, not the product")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use highlevel::{AppCredentials, Client, Dialect, OAuth};
use sandbox::{RateLimit, Sandbox, Settings};
use store::{Key, Keys, StoreUrl};
use tokens::{AuthorizationCode, ClientSecret, Issuer, Reading, Timestamp};
use tokio::task::JoinSet;

const REDIRECT_URI: &str = "http://127.0.0.1:8788/oauth/callback";
const HOUR: Duration = Duration::from_secs(3600);
const AT_ONCE: usize = 64;

fn main() {
    let number = |name: &str, otherwise: usize| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
    };
    let count = number("COUNT", 100_000);
    let folder = tempfile::tempdir_in(std::env::var_os("FOLDER").unwrap_or_else(|| ".".into())).unwrap();
    let program = PathBuf::from(std::env::var_os("PROGRAM").expect("PROGRAM names the program"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();

    let settings = Settings {
        extra_locations: count - 1,
        scopes: vec!["contacts.readonly".into(), "contacts.write".into(), "locations.readonly".into()],
        rate_limit: RateLimit { enforced: false, ..Settings::default().rate_limit },
        ..Settings::default()
    };
    let sandbox = Sandbox::builder().settings(settings).start_blocking().unwrap();
    let (key, path) = (Key::generate(), folder.path().join("ghl.db"));
    let began = Instant::now();
    runtime.block_on(fill(&sandbox, &path, &key));
    println!("{count} grants in {:.0} s; the service starts", began.elapsed().as_secs_f64());

    std::fs::write(folder.path().join(".env"), sandbox.env_file()).unwrap();
    let command = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.args(arguments).current_dir(folder.path());
        command.env("GHL_STORE", format!("sqlite:{}", path.display())).env("GHL_AUTH_KEY", key.as_str());
        command.env("GHL_AUTH_LISTEN", "127.0.0.1:0").env("GHL_AUTH_LANG", "en").env("GHL_AUTH_LOG", "warn");
        command.env("GHL_HEALTH_CHECK_CONTACT_ID", "").env("RUN_INTERVAL_HOURS", "12");
        command
    };
    let made = command(&["keys", "create", "--name", "all", "--all"]).output().unwrap();
    let api_key = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    let (mut service, address) = start(command(&["serve"]));
    let over = Arc::new(AtomicBool::new(false));
    let (ids, end) = (sandbox.location_ids(), over.clone());
    let asker = std::thread::spawn(move || ask(&address, &api_key, &ids, &end));
    watch(&sandbox, count as u64);
    over.store(true, Ordering::SeqCst);
    let asked = asker.join().unwrap();
    let resident = resident(service.id());
    Command::new("kill").args(["-TERM", &service.id().to_string()]).status().unwrap();
    service.wait().unwrap();
    let counts = sandbox.counts();
    println!();
    println!("tokens asked for meanwhile {:>8}", asked.answers.len());
    println!("  of them failed           {:>8}", asked.failed);
    println!("  p50, p99, longest        {}", asked.spread());
    println!("refresh requests           {:>8} for {count} grants", counts.refreshes);
    println!("tokens used up twice       {:>8}", counts.reuse_after_window);
    println!("resident at the end        {:>8} MiB", resident / 1024);
}

/// Grants that were issued 16 hours ago: every one of them is due.
async fn fill(sandbox: &Sandbox, path: &Path, key: &str) {
    let keys = Keys { current: Some(Key::parse(key).unwrap()), old: Vec::new() };
    let store = store::open(&StoreUrl::Sqlite(path.to_owned()), &keys, None).unwrap();
    let base = sandbox.base_url();
    let client = Client::new(base.parse().unwrap(), Dialect::Dated, None).unwrap();
    let app = AppCredentials {
        client_id: sandbox.settings().client_id.clone(),
        client_secrets: vec![ClientSecret::new(sandbox.settings().client_secret.as_str())],
        redirect_uri: REDIRECT_URI.to_owned(),
        user_type: "Location",
    };
    let issuer = Arc::new(OAuth::new(client, app));
    let now = Timestamp::from_millis(i64::try_from(sandbox.now_millis()).unwrap());
    let mut flights = JoinSet::new();
    for id in sandbox.location_ids() {
        if flights.len() >= AT_ONCE {
            flights.join_next().await.unwrap().unwrap();
        }
        let code = AuthorizationCode::new(sandbox.approve_location(&id, REDIRECT_URI));
        let (issuer, store) = (issuer.clone(), store.clone());
        flights.spawn(async move {
            let answer = issuer.exchange(&code).await.unwrap();
            let Reading::Granted(mut grant) = issuer.read(&answer, now) else { panic!("no grant") };
            grant.tokens.issued_at = now - HOUR * 16;
            grant.tokens.expires_at = now + HOUR * 8;
            store.connect(&grant.id.unwrap(), &grant.tokens, now).await.unwrap();
        });
    }
    flights.join_all().await;
}

/// Says how far it has come until all were refreshed.
fn watch(sandbox: &Sandbox, count: u64) {
    let (began, mut told) = (Instant::now(), Instant::now());
    loop {
        std::thread::sleep(Duration::from_millis(50));
        let done = sandbox.counts().rotations;
        if told.elapsed() > Duration::from_secs(5) || done >= count {
            let took = began.elapsed().as_secs_f64();
            println!("{done:>8} refreshed after {took:>5.1} s, {:>6.0}/s", done as f64 / took);
            told = Instant::now();
        }
        if done >= count {
            return;
        }
    }
}

fn start(mut command: Command) -> (Child, String) {
    let mut service = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(service.stdout.take().unwrap()).lines();
    let address = |line: std::io::Result<String>| {
        line.unwrap().split_once("Programs ask here: http://").map(|(_, address)| address.trim().to_owned())
    };
    let address = lines.find_map(address);
    (service, address.expect("the service says no address"))
}

#[derive(Default)]
struct Asked {
    answers: Vec<Duration>,
    failed: usize,
}

impl Asked {
    fn spread(mut self) -> String {
        self.answers.sort();
        let at = |part: f64| {
            let place = (self.answers.len() as f64 * part) as usize;
            self.answers.get(place.min(self.answers.len().saturating_sub(1))).copied().unwrap_or_default()
        };
        format!("{:.1?}, {:.1?}, {:.1?}", at(0.5), at(0.99), at(1.0))
    }
}

/// Asks for one token after another, 200 a second, until it is over.
fn ask(address: &str, key: &str, ids: &[String], over: &AtomicBool) -> Asked {
    let mut asked = Asked::default();
    let mut stream = TcpStream::connect(address).unwrap();
    let mut buffer = vec![0; 64 * 1024];
    let mut place = 0_usize;
    while !over.load(Ordering::SeqCst) {
        // A walk that visits all of them in no order.
        place = (place + 7919) % ids.len();
        let began = Instant::now();
        let request = format!(
            "GET /v1/locations/{}/token HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {key}\r\n\r\n",
            ids[place]
        );
        stream.write_all(request.as_bytes()).unwrap();
        let read = stream.read(&mut buffer).unwrap();
        if !buffer[..read].starts_with(b"HTTP/1.1 200") {
            asked.failed += 1;
        }
        asked.answers.push(began.elapsed());
        std::thread::sleep(Duration::from_millis(5));
    }
    asked
}

/// KiB in memory.
fn resident(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
