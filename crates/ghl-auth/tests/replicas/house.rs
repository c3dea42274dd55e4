//! Many installations in one database, and replicas that serve them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use highlevel::{AppCredentials, Client, Dialect, OAuth};
use sandbox::{Outcome, Sandbox, Settings, UserType};
use serde_json::Value;
use store::{Key, Keys, StoreUrl};
use tempfile::TempDir;
use tokens::{
    AuthorizationCode, ClientSecret, Installation, InstallationId, Keeper, Store, TestClock, Timestamp,
    Timing,
};

use crate::support::{HOUR, PAST_THE_WINDOW, REDIRECT_URI, short_tokens};

/// What anything may take on a machine with very much else to do.
pub const PATIENCE: Duration = Duration::from_secs(60);

static NUMBERS: AtomicUsize = AtomicUsize::new(0);

pub struct House {
    pub sandbox: Sandbox,
    pub ids: Vec<InstallationId>,
    /// Of whoever authorises: for everyone else, what is granted by it ended hours ago.
    pub clock: Arc<TestClock>,
    pub address: String,
    /// Whose grant is asked for.
    class: UserType,
    key: String,
    /// What is set for programs beside what each of them needs.
    variables: Vec<(&'static str, &'static str)>,
    folder: TempDir,
    runtime: tokio::runtime::Runtime,
}

impl House {
    /// A house with so many installations, each of whose tokens ended six hours ago.
    pub fn with(installations: usize) -> Self {
        Self::at(crate::postgres::server().fresh_schema(), installations, HOUR * 30)
    }

    /// A house with so many installations whose tokens are fresh.
    pub fn fresh(address: String, installations: usize) -> Self {
        Self::at(address, installations, Duration::ZERO)
    }

    /// A house whose company's grant is kept, and no location's yet. It lists none, so that nobody learns of one
    /// but by a webhook.
    pub fn of_company(locations: usize) -> Self {
        let mut settings = Settings { extra_locations: locations - 1, ..Settings::default() };
        settings.scopes = vec!["locations.readonly".into(), "oauth.write".into()];
        settings.rate_limit.enforced = false;
        let address = crate::postgres::server().fresh_schema();
        let house = Self::empty(address, settings, UserType::Company, Duration::ZERO);
        let code = house.sandbox.approve(REDIRECT_URI, None, UserType::Company);
        let login = house.run(&["login", "--code", &code]);
        assert!(login.status.success(), "{}", String::from_utf8_lossy(&login.stderr));
        house
    }

    pub fn at(address: String, installations: usize, behind: Duration) -> Self {
        let mut settings = Settings { extra_locations: installations - 1, ..short_tokens() };
        settings.scopes = vec!["locations.readonly".into()];
        let house = Self::empty(address, settings, UserType::Location, behind);
        house.log_everyone_in();
        house
    }

    fn empty(address: String, settings: Settings, class: UserType, behind: Duration) -> Self {
        let sandbox = Sandbox::builder().settings(settings).start_blocking().expect("a sandbox");
        let now = i64::try_from(sandbox.now_millis()).expect("a time");
        let ids = sandbox.location_ids();
        let ids = ids.iter().map(|id| InstallationId::from_parts("location", id).expect("an id")).collect();
        Self {
            sandbox,
            ids,
            clock: Arc::new(TestClock::at(Timestamp::from_millis(now) - behind)),
            address,
            class,
            key: Key::generate().to_string(),
            variables: Vec::new(),
            folder: tempfile::tempdir().expect("a folder"),
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .expect("a runtime"),
        }
    }

    /// Sets a variable for whatever program begins from now on.
    pub fn set(mut self, name: &'static str, value: &'static str) -> Self {
        self.variables.push((name, value));
        self
    }

    pub fn log_everyone_in(&self) {
        let keeper = self.keeper(Timing::default());
        self.block_on(async {
            let mut logins = tokio::task::JoinSet::new();
            for id in &self.ids {
                let (keeper, code) = (keeper.clone(), self.code(id));
                logins.spawn(async move { keeper.connect(&code).await.expect("a grant") });
                if logins.len() >= 8 {
                    logins.join_next().await;
                }
            }
            logins.join_all().await
        });
    }

    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    pub fn code(&self, id: &InstallationId) -> AuthorizationCode {
        AuthorizationCode::new(self.sandbox.approve_location(id.as_str(), REDIRECT_URI))
    }

    pub fn keys(&self) -> Keys {
        Keys { current: Some(Key::parse(&self.key).expect("a key")), old: Vec::new() }
    }

    fn new_folder(&self) -> PathBuf {
        let folder = self.folder.path().join(format!("p{}", NUMBERS.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir(&folder).expect("a folder");
        folder
    }

    /// The store as another process has it: with its own connections and its own spool.
    pub fn store(&self) -> Arc<dyn Store> {
        self.block_on(self.connect())
    }

    pub async fn connect(&self) -> Arc<dyn Store> {
        let url = StoreUrl::parse(&self.address).expect("an address");
        let spool = self.new_folder().join("spool");
        store::connect(&url, &self.keys(), &spool, None).await.expect("a store")
    }

    /// A keeper as another process has it.
    pub fn keeper(&self, timing: Timing) -> Keeper {
        let store = self.store();
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let name = format!("p{}-{number}", std::process::id());
        Keeper::new(store, Arc::new(self.oauth()), self.clock.clone(), timing, name)
    }

    pub fn oauth(&self) -> OAuth {
        let base = self.sandbox.base_url().parse().expect("an address");
        let client = Client::new(base, Dialect::Dated, None).expect("a client");
        let app = AppCredentials {
            client_id: self.sandbox.settings().client_id.clone(),
            client_secrets: vec![ClientSecret::new(self.sandbox.settings().client_secret.clone())],
            redirect_uri: REDIRECT_URI.to_owned(),
            user_type: self.class.as_str(),
        };
        OAuth::new(client, app)
    }

    /// What rests in the database.
    pub fn stored(&self, id: &InstallationId) -> Option<Installation> {
        let store = self.store();
        self.block_on(store.load(id)).expect("the store")
    }

    /// Whom something was lost of, asked after HighLevel's 30 seconds have closed behind us.
    pub fn lost(&self) -> Vec<String> {
        self.sandbox.advance(PAST_THE_WINDOW);
        let store = self.store();
        let kept = self.block_on(store.list(None, usize::MAX)).expect("the store");
        let is_current = |kept: &Installation| {
            kept.tokens
                .refresh_token()
                .is_some_and(|token| self.sandbox.is_current_refresh_token(token.expose()))
        };
        let mut lost: Vec<String> =
            kept.iter().filter(|kept| !is_current(kept)).map(|kept| format!("{} is lost", kept.id)).collect();
        if kept.len() != self.ids.len() {
            lost.push(format!("{} of {} are kept", kept.len(), self.ids.len()));
        }
        lost
    }

    /// What HighLevel refused since the first so many requests for tokens.
    pub fn refusals(&self) -> Vec<String> {
        let ledger = self.sandbox.ledger();
        let refused = |outcome: &Outcome| matches!(outcome, Outcome::Refused { .. });
        let refusals = ledger.token_requests.iter().filter(|request| refused(&request.outcome));
        refusals.map(|request| format!("{request:?}")).collect()
    }

    /// `ghl-auth` with this house's settings and no others, as if on a machine of its own.
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.command_in(&self.new_folder(), &self.address, arguments)
    }

    pub fn command_in(&self, folder: &Path, address: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ghl-auth"));
        let settings = self.sandbox.settings();
        command
            .args(arguments)
            .current_dir(folder)
            .env_clear()
            .env("GHL_CLIENT_ID", &settings.client_id)
            .env("GHL_CLIENT_SECRET", &settings.client_secret)
            .env("GHL_REDIRECT_URI", REDIRECT_URI)
            .env("GHL_API_BASE_URL", self.sandbox.base_url())
            .env("GHL_USER_TYPE", self.class.as_str())
            .env("GHL_WEBHOOK_PUBLIC_KEYS", self.sandbox.webhook_public_key())
            .env("GHL_STORE", address)
            .env("GHL_AUTH_KEY", &self.key)
            .env("GHL_AUTH_LANG", "en")
            .envs(self.variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("it starts")
    }

    /// An API key for everything.
    pub fn api_key(&self) -> String {
        self.new_key(&[])
    }

    /// An API key that sends requests through the gateway.
    pub fn gateway_key(&self) -> String {
        self.new_key(&["--verb", "gateway"])
    }

    fn new_key(&self, more: &[&str]) -> String {
        let made = self.run(&[&["keys", "create", "--name", "all", "--all"], more].concat());
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        String::from_utf8_lossy(&made.stdout).trim().to_owned()
    }

    pub fn replica(&self) -> Replica {
        Replica::start(self, &self.address)
    }

    pub fn replicas(&self, count: usize) -> Vec<Replica> {
        std::thread::scope(|scope| {
            let starting: Vec<_> = (0..count).map(|_| scope.spawn(|| self.replica())).collect();
            starting.into_iter().map(|one| one.join().expect("no panic")).collect()
        })
    }
}

/// A service over the database.
pub struct Replica {
    pub child: Child,
    pub address: String,
    /// Where its spool is: it comes back there.
    folder: PathBuf,
    store: String,
}

impl Replica {
    pub fn start(house: &House, store: &str) -> Self {
        Self::start_in(house, house.new_folder(), store)
    }

    fn start_in(house: &House, folder: PathBuf, store: &str) -> Self {
        let log = std::fs::File::options().create(true).append(true).open(folder.join("log")).expect("a log");
        let mut command = house.command_in(&folder, store, &["serve"]);
        let mut child = command.env("GHL_AUTH_LISTEN", "127.0.0.1:0").stderr(log).spawn().expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let address = lines.find_map(|line| {
            let line = line.expect("it can be read");
            line.strip_prefix("Programs ask here: http://").map(str::to_owned)
        });
        let Some(address) = address else {
            panic!("it does not serve: {}", std::fs::read_to_string(folder.join("log")).unwrap_or_default())
        };
        Self { child, address, folder, store: store.to_owned() }
    }

    /// Ends it where it is.
    pub fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }

    /// Another one in its place.
    pub fn start_again(&mut self, house: &House) {
        let (folder, store) = (self.folder.clone(), self.store.clone());
        *self = Self::start_in(house, folder, &store);
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        crate::support::programs::signal(&self.child, signal);
    }

    pub fn token(&self, key: &str, id: &InstallationId) -> Answer {
        get(&self.address, key, &format!("/v1/locations/{}/token", id.as_str()))
    }

    /// A token that is not answered from memory.
    pub fn token_from_the_store(&self, key: &str, id: &InstallationId) -> Answer {
        get(&self.address, key, &format!("/v1/locations/{}/token?minimum_life=3600", id.as_str()))
    }

    /// Asks for each token until it is at hand: what is read before the first look at what changed is not
    /// kept.
    pub fn learn(&self, key: &str, ids: &[InstallationId]) {
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(800) {
            for id in ids {
                let answer = self.token(key, id);
                assert_eq!(answer.status, 200, "{answer:?} {}", self.log());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    pub fn is_ready(&self) -> bool {
        get(&self.address, "", "/readyz").status == 200
    }

    /// How long it took until it was.
    pub fn until_ready(&self) -> Duration {
        let began = Instant::now();
        while !self.is_ready() {
            assert!(began.elapsed() < PATIENCE, "it does not become ready: {}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        began.elapsed()
    }

    pub fn log(&self) -> String {
        let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(30).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a replica said; the status is nought where it said nothing, as the dead don't.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

impl Answer {
    pub fn generation(&self) -> u64 {
        self.body["generation"].as_u64().unwrap_or_default()
    }

    pub fn warns_of(&self, code: &str) -> bool {
        self.body["warnings"].as_array().is_some_and(|all| all.iter().any(|it| it["code"] == code))
    }
}

pub fn get(address: &str, key: &str, path: &str) -> Answer {
    ask(address, "GET", path, &[("Authorization", &format!("Bearer {key}"))], "")
}

pub fn ask(address: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let nothing = Answer { status: 0, body: Value::Null };
    let Ok(mut stream) = TcpStream::connect(address) else { return nothing };
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        request.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    request.push_str(&format!("\r\n{body}"));
    let mut text = String::new();
    if stream.write_all(request.as_bytes()).is_err() || stream.read_to_string(&mut text).is_err() {
        return nothing;
    }
    let status = text.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Answer { status, body: serde_json::from_str(body).unwrap_or(Value::Null) }
}
