//! A house to test in: a sandbox, a store, a clock that a test moves, and keepers over them.

#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]

pub mod fussy;
pub mod programs;
pub mod proxy;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use highlevel::{AppCredentials, Client, Dialect, OAuth};
use sandbox::{Sandbox, Settings, UserType};
use store::{Key, Keys, StoreUrl};
use tempfile::TempDir;
use tokens::{
    AuthorizationCode, ClientSecret, Installation, InstallationId, Keeper, KeeperError, Served, Store,
    TestClock, Timestamp, Timing,
};

pub const HOUR: Duration = Duration::from_secs(3600);
pub const DAY: Duration = Duration::from_secs(24 * 3600);

/// More than the 30 seconds in which HighLevel repeats an answer.
pub const PAST_THE_WINDOW: Duration = Duration::from_secs(60);

/// More than any lease lasts, and less than those 30 seconds.
pub const PAST_THE_LEASE: Duration = Duration::from_secs(10);

pub const REDIRECT_URI: &str = "http://127.0.0.1:8788/oauth/callback";

/// The places where tokens can rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    PlainFile,
    SealedFile,
    FileInPlace,
    Sqlite,
}

impl Rest {
    pub const ALL: [Rest; 4] = [Rest::PlainFile, Rest::SealedFile, Rest::FileInPlace, Rest::Sqlite];
    pub const ONE_OF_EACH: [Rest; 2] = [Rest::PlainFile, Rest::Sqlite];

    pub fn is_sealed(self) -> bool {
        matches!(self, Self::SealedFile | Self::Sqlite)
    }
}

/// A sandbox with one grant, and that grant in a store.
pub struct House {
    pub sandbox: Sandbox,
    pub rest: Rest,
    pub clock: Arc<TestClock>,
    pub id: InstallationId,
    pub key: String,
    folder: TempDir,
}

impl House {
    /// A house whose app has just been authorised.
    pub async fn new(rest: Rest) -> Self {
        Self::with(rest, Settings::default()).await
    }

    pub async fn with(rest: Rest, settings: Settings) -> Self {
        let house = Self::empty(rest, settings);
        house.log_in().await;
        house
    }

    /// A house whose app an agency has just put on itself and on all its locations.
    pub async fn of_company(settings: Settings) -> Self {
        let mut house = Self::empty(Rest::Sqlite, settings);
        let company = &house.sandbox.settings().company_id;
        house.id = InstallationId::from_parts("company", company).expect("an id");
        house.log_in().await;
        house
    }

    /// The locations of the sandbox, as we call them.
    pub fn locations(&self) -> Vec<InstallationId> {
        let ids = self.sandbox.location_ids();
        ids.iter().map(|id| InstallationId::from_parts("location", id).expect("an id")).collect()
    }

    /// A house that nobody has authorised.
    pub fn empty(rest: Rest, settings: Settings) -> Self {
        Self::in_folder(folder(), rest, settings, Duration::ZERO)
    }

    /// A house in a folder of one's own, whose keepers' clock is behind that of the world: what they
    /// are granted looks that much older to a program.
    pub fn in_folder(folder: TempDir, rest: Rest, settings: Settings, behind: Duration) -> Self {
        break_the_rule_that_is_named();
        let sandbox = Sandbox::builder().settings(settings).start_blocking().expect("a sandbox");
        let now = i64::try_from(sandbox.now_millis()).expect("a time");
        let id = InstallationId::from_parts("location", &sandbox.settings().location_id).expect("an id");
        let clock = Arc::new(TestClock::at(Timestamp::from_millis(now) - behind));
        Self { sandbox, rest, clock, id, key: Key::generate().to_string(), folder }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn path(&self) -> PathBuf {
        match self.rest {
            Rest::Sqlite => self.folder().join("ghl.db"),
            _ => self.folder().join("ghl_tokens.json"),
        }
    }

    pub fn url(&self) -> StoreUrl {
        match self.rest {
            Rest::Sqlite => StoreUrl::Sqlite(self.path()),
            _ => StoreUrl::File(self.path()),
        }
    }

    pub fn keys(&self) -> Keys {
        let current = self.rest.is_sealed().then(|| Key::parse(&self.key).expect("a key"));
        Keys { current, old: Vec::new() }
    }

    /// The store as another process opens it.
    pub fn store(&self) -> Arc<dyn Store> {
        let keys = self.keys();
        let opened = match self.rest {
            Rest::FileInPlace if self.path().exists() => {
                store::open_file_in_place(&self.path(), &keys, Some(&self.id))
            }
            _ => store::open(&self.url(), &keys, Some(&self.id)),
        };
        opened.expect("a store")
    }

    /// A keeper as another process has it: with its own handle of the store and its own connections.
    pub fn keeper(&self) -> Keeper {
        self.keeper_over(self.store())
    }

    pub fn keeper_over(&self, store: Arc<dyn Store>) -> Keeper {
        self.keeper_with(store, roomy())
    }

    /// A keeper that loses hope within seconds, for stories in which nothing comes.
    pub fn hasty_keeper(&self) -> Keeper {
        self.keeper_with(self.store(), brisk())
    }

    pub fn keeper_with(&self, store: Arc<dyn Store>, timing: Timing) -> Keeper {
        let secret = self.sandbox.settings().client_secret.clone();
        self.keeper_of(store, timing, &self.sandbox.base_url(), &secret)
    }

    pub fn keeper_of(&self, store: Arc<dyn Store>, timing: Timing, base: &str, secret: &str) -> Keeper {
        let client = Client::new(base.parse().expect("an address"), Dialect::Dated, None).expect("a client");
        self.keeper_by(store, timing, client, secret)
    }

    /// A keeper that speaks HighLevel's dialect as `client` does.
    pub fn keeper_speaking(&self, store: Arc<dyn Store>, client: Client) -> Keeper {
        let secret = self.sandbox.settings().client_secret.clone();
        self.keeper_by(store, roomy(), client, &secret)
    }

    fn keeper_by(&self, store: Arc<dyn Store>, timing: Timing, client: Client, secret: &str) -> Keeper {
        let app = AppCredentials {
            client_id: self.sandbox.settings().client_id.clone(),
            client_secrets: vec![ClientSecret::new(secret)],
            redirect_uri: REDIRECT_URI.to_owned(),
            user_type: self.id.user_type(),
        };
        let issuer = Arc::new(OAuth::new(client, app));
        Keeper::new(store, issuer, self.clock.clone(), timing, unique_name())
    }

    pub fn code(&self) -> AuthorizationCode {
        let class = match self.id {
            InstallationId::Location(_) => UserType::Location,
            InstallationId::Company(_) => UserType::Company,
        };
        AuthorizationCode::new(self.sandbox.approve(REDIRECT_URI, None, class))
    }

    pub async fn log_in(&self) -> Installation {
        self.keeper().connect(&self.code()).await.expect("a grant")
    }

    /// Moves everyone's clock.
    pub fn advance(&self, by: Duration) {
        self.sandbox.advance(by);
        self.clock.advance(by);
    }

    /// What rests in the store, as another process sees it.
    pub async fn stored(&self) -> Installation {
        self.store().load(&self.id).await.expect("a store that can be read").expect("a grant")
    }

    /// Whether the refresh token in the store is the one that HighLevel waits for.
    pub async fn holds_the_current_token(&self) -> bool {
        let stored = self.stored().await;
        let token = stored.tokens.refresh_token().expect("a refresh token");
        self.sandbox.is_current_refresh_token(token.expose())
    }

    /// Nothing was lost: what rests in the store is what HighLevel waits for.
    pub async fn has_lost_nothing(&self, after: &str) {
        assert!(self.holds_the_current_token().await, "{:?}: the grant is lost after {after}", self.rest);
    }

    /// What `token` does as a program: hands out what it gets, and lets its refresh land before it ends.
    pub async fn run_token(&self) -> Result<Served, KeeperError> {
        let keeper = self.keeper();
        let served = keeper.token(&self.id, HOUR).await;
        keeper.landed().await;
        served
    }

    /// Lets a process use the grant's refresh token up and die before it reads the answer.
    pub async fn die_between_send_and_answer(&self, keeper: Keeper) {
        self.sandbox.hold_answers(sandbox::Matcher::Refresh);
        let id = self.id.clone();
        let process = Process::running(async move { keeper.refresh(&id).await });
        self.sandbox.until_held(1).await;
        process.kill().await;
        self.sandbox.release();
    }
}

/// Something that runs apart from the test, and ends wherever it is when it is killed: its tasks go,
/// its files and sockets close, what it has given to the disk stays.
pub struct Process {
    kill: tokio::sync::oneshot::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl Process {
    pub fn running(work: impl Future + Send + 'static) -> Self {
        let (kill, killed) = tokio::sync::oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime");
            runtime.block_on(async {
                tokio::select! {
                    _ = work => {}
                    _ = killed => {}
                }
            });
            runtime.shutdown_timeout(Duration::from_secs(5));
        });
        Self { kill, thread }
    }

    pub async fn kill(self) {
        // It may have come to an end by itself.
        let _ = self.kill.send(());
        let ended = tokio::task::spawn_blocking(move || self.thread.join());
        ended.await.expect("no panic").expect("it ends");
    }
}

/// The keeper's timing, so much faster that a test need not wait; its proportions are kept.
pub fn brisk() -> Timing {
    Timing {
        send_again_after: Duration::from_millis(320),
        sends: 6,
        window: Duration::from_millis(2160),
        answers_count_for: Duration::from_millis(4800),
        help_after: Duration::from_millis(400),
        renew_every: Duration::from_millis(80),
        look_every: Duration::from_millis(5),
        serve_present_after: Duration::from_millis(240),
        commit_patience: Some(Duration::from_millis(300)),
    }
}

/// The same with more time to recover in, so that a busy machine does not look like an outage.
pub fn roomy() -> Timing {
    Timing {
        send_again_after: Duration::from_millis(400),
        window: Duration::from_secs(10),
        answers_count_for: Duration::from_secs(20),
        ..brisk()
    }
}

/// Settings whose tokens are short, where thousands of them travel.
pub fn short_tokens() -> Settings {
    Settings { scopes: vec!["contacts.readonly".into(), "contacts.write".into()], ..Settings::default() }
}

/// A folder in memory where there is one: what a flush costs is no matter here.
pub fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder")
}

/// How often something is done: as often as a variable says, or a number that takes seconds.
pub fn times(variable: &str, otherwise: usize) -> usize {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")),
        Err(_) => otherwise,
    }
}

fn unique_name() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NAMES: AtomicU64 = AtomicU64::new(0);
    format!("p{}-{}", std::process::id(), NAMES.fetch_add(1, Ordering::Relaxed))
}

/// Switches off the rule of the refresh that `GHL_AUTH_BREAK_RULE` names, if it names one.
fn break_the_rule_that_is_named() {
    #[cfg(feature = "break-rules")]
    if let Ok(name) = std::env::var("GHL_AUTH_BREAK_RULE") {
        let rule = tokens::rules::Rule::ALL.into_iter().find(|rule| format!("{rule:?}") == name);
        tokens::rules::break_rule(rule.expect("the name of a rule"));
    }
}
