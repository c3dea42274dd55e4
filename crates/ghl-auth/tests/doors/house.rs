//! A service with both of its listeners over a SQLite store, and its records at hand.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use server::ApiKey;
use store::{Keys, StoreUrl};
use tokens::records::{KeyRecord, Reach, Verb};
use tokens::store::ListedNote;
use tokens::{
    AccessToken, CompanyId, Health, InstallationId, LastCheck, Records, RefreshBy, RefreshToken,
    ReplyMembers, Store, Timestamp, TokenSet,
};

use crate::support::{Home, KEY, Running};
use crate::wire::{Answer, ask, bearer, request};

pub(crate) struct House {
    pub(crate) home: Home,
    pub(crate) running: Running,
    /// `127.0.0.1:port`.
    pub(crate) private: String,
    pub(crate) public: String,
    pub(crate) records: Arc<dyn Records>,
    pub(crate) store: Arc<dyn Store>,
    /// What must be in no log.
    secrets: std::sync::Mutex<Vec<String>>,
    /// Lets nothing run on after a test that failed.
    fuse: Fuse,
}

/// Ends a process when it is dropped before it is told that all went well.
struct Fuse(Option<u32>);

impl Drop for Fuse {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            Command::new("kill").args(["-KILL", &pid.to_string()]).status().ok();
        }
    }
}

/// A home with a grant in it and ports of its own.
pub(crate) fn home() -> Home {
    empty_home().log_in()
}

/// The same without a grant.
pub(crate) fn empty_home() -> Home {
    let home = Home::new().sealed().set("GHL_STORE", "sqlite:tokens.db");
    home.set("GHL_AUTH_LISTEN", "127.0.0.1:0").set("GHL_AUTH_PUBLIC_LISTEN", "127.0.0.1:0")
}

/// A second service over a store.
pub(crate) struct Second {
    pub(crate) address: String,
    running: Running,
    fuse: Fuse,
}

impl Second {
    pub(crate) fn end(self) {
        let Self { running, mut fuse, .. } = self;
        running.signal("TERM");
        let run = running.end();
        fuse.0 = None;
        run.good();
    }
}

impl House {
    pub(crate) fn new() -> Self {
        Self::of(home())
    }

    pub(crate) fn of(home: Home) -> Self {
        Self::with(home, |_| {})
    }

    /// A service whose store is filled before it starts.
    pub(crate) fn with(home: Home, fill: impl FnOnce(&Arc<dyn Store>)) -> Self {
        let command = home.command(["serve"]);
        Self::started_by(home, fill, command)
    }

    pub(crate) fn started_by(home: Home, fill: impl FnOnce(&Arc<dyn Store>), mut command: Command) -> Self {
        let url = StoreUrl::parse(&format!("sqlite:{}", home.path("tokens.db").display())).expect("a store");
        let keys = Keys { current: Some(store::Key::parse(KEY).expect("a key")), old: Vec::new() };
        let (store, records) = store::open_with_records(&url, &keys, None).expect("a store");
        fill(&store);
        command.stdin(std::process::Stdio::piped());
        let mut running = Running::start(command);
        running.until_it_says("Browsers come back here: http://127.0.0.1:");
        let said = running.until_it_says("Programs ask here: http://127.0.0.1:");
        let address = |words: &str| {
            let line = said.lines().find(|line| line.contains(words)).expect("it says so");
            let address = line.split_once("http://").expect("an address").1;
            address.split('/').next().expect("an address").to_owned()
        };
        let (private, public) = (address("Programs ask here"), address("Browsers come back here"));
        let fuse = Fuse(Some(running.child.id()));
        Self { home, running, private, public, records, store, secrets: std::sync::Mutex::default(), fuse }
    }

    pub(crate) fn location(&self) -> InstallationId {
        location(self.home.location())
    }

    /// The path of the location's token.
    pub(crate) fn token_path(&self) -> String {
        format!("/v1/locations/{}/token", self.home.location())
    }

    /// Adds a key to the records, as another process does.
    pub(crate) fn key(&self, verbs: &[Verb], reach: Reach) -> String {
        self.key_like(verbs, reach, |_| {})
    }

    pub(crate) fn key_like(
        &self,
        verbs: &[Verb],
        reach: Reach,
        change: impl FnOnce(&mut KeyRecord),
    ) -> String {
        let key = ApiKey::generate();
        let mut record = KeyRecord {
            id: key.id(),
            name: key.id().0,
            hash: key.hash(),
            verbs: verbs.iter().copied().collect::<BTreeSet<Verb>>(),
            reach,
            lane: tokens::Lane::default(),
            allowed: Vec::new(),
            created_at: now(),
            expires_at: None,
            revoked_at: None,
            last_use: None,
        };
        change(&mut record);
        block_on(self.records.add_key(&record)).expect("added");
        self.plant(key.expose());
        key.expose().to_owned()
    }

    /// A key for everything.
    pub(crate) fn master_key(&self) -> String {
        let key = self.key(&Verb::ALL, Reach::All);
        self.until_known(&key);
        key
    }

    /// Waits until the service knows a key, and so all that were added before it.
    pub(crate) fn until_known(&self, key: &str) {
        until(|| self.get("/v1/installations", key).status != 401);
    }

    pub(crate) fn get(&self, path: &str, key: &str) -> Answer {
        ask(&self.private, &request("GET", path, &[("Authorization", &bearer(key))], ""))
    }

    pub(crate) fn ask(&self, method: &str, path: &str, key: &str, body: &str) -> Answer {
        ask(&self.private, &request(method, path, &[("Authorization", &bearer(key))], body))
    }

    /// Remembers a secret, so that the log is searched for it at the end.
    pub(crate) fn plant(&self, secret: &str) {
        self.secrets.lock().expect("nobody panics with it").push(secret.to_owned());
    }

    /// The rows of all tables, once the first check is behind us: that one writes.
    pub(crate) fn dump(&self) -> String {
        let mut dump = String::new();
        for file in ["tokens.db", "tokens.db.records.db"] {
            let database = rusqlite::Connection::open(self.home.path(file)).expect("a database");
            let mut names = database
                .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
                .expect("SQL");
            let names: Vec<String> = names
                .query_map([], |row| row.get(0))
                .expect("names")
                .map(|name| name.expect("a name"))
                .collect();
            for name in names {
                let mut rows = database.prepare(&format!("SELECT * FROM \"{name}\"")).expect("SQL");
                let columns = rows.column_count();
                let mut rows = rows.query([]).expect("rows");
                while let Some(row) = rows.next().expect("a row") {
                    let values: Vec<String> = (0..columns)
                        .map(|place| {
                            format!("{:?}", row.get::<_, rusqlite::types::Value>(place).expect("a value"))
                        })
                        .collect();
                    dump.push_str(&format!("{file} {name}: {}\n", values.join(" | ")));
                }
            }
        }
        dump
    }

    /// Another service over the same store, with a port of its own.
    pub(crate) fn second(&self) -> Second {
        let mut running = self.home.start(["serve"]);
        let fuse = Fuse(Some(running.child.id()));
        let said = running.until_it_says("Programs ask here: http://127.0.0.1:");
        let line = said.lines().find(|line| line.contains("Programs ask here")).expect("it says so");
        let address = line.split_once("http://").expect("an address").1.to_owned();
        Second { address, running, fuse }
    }

    /// Waits until the check at the start was made and written down.
    pub(crate) fn until_checked(&self) {
        until(|| self.dump().contains("tokens.db.records.db checks"));
    }

    /// Ends the service, which has lived through it all, and has not written down what it must not.
    pub(crate) fn end(self) {
        let Self { home, running, secrets, mut fuse, .. } = self;
        running.signal("TERM");
        let run = running.end();
        fuse.0 = None;
        let run = run.good();
        drop(home);
        for secret in secrets.into_inner().expect("nobody panics with it") {
            assert!(!run.err.contains(&secret) && !run.out.contains(&secret), "`{secret}` in:\n{}", run.err);
        }
        for trouble in ["panicked", "broke off inside"] {
            assert!(!run.err.contains(trouble), "{}", run.err);
        }
    }
}

pub(crate) fn location(id: &str) -> InstallationId {
    InstallationId::from_parts("location", id).expect("an id")
}

pub(crate) fn company(id: &str) -> InstallationId {
    InstallationId::from_parts("company", id).expect("an id")
}

pub(crate) fn these(ids: impl IntoIterator<Item = InstallationId>) -> Reach {
    Reach::These(ids.into_iter().collect())
}

/// Puts an installation into the store that needs neither a refresh nor a check for a while.
pub(crate) fn install(store: &Arc<dyn Store>, id: &InstallationId, access: &str) {
    put(store, id, access, None);
}

/// The same for a location whose tokens are got by its company's grant.
pub(crate) fn install_of(store: &Arc<dyn Store>, id: &InstallationId, access: &str, company: &str) {
    put(store, id, access, Some(company.parse().expect("an id")));
}

fn put(store: &Arc<dyn Store>, id: &InstallationId, access: &str, company: Option<CompanyId>) {
    let at = now();
    let tokens = tokens(access, company, at);
    block_on(store.connect(id, &tokens, at)).expect("connected");
    let check = LastCheck { at, health: Health::Operational, code: None, said: None };
    block_on(store.note_check(id, &check)).expect("noted");
}

/// An installation for each name, called `hostile` and its number.
pub(crate) fn install_named(store: &Arc<dyn Store>, names: &[String]) {
    let id = |number: usize| location(&format!("hostile{number}"));
    for number in 0..names.len() {
        install(store, &id(number), &format!("hostile-access-{number}"));
    }
    let note = |(number, name): (usize, &String)| ListedNote {
        id: id(number),
        name: Some(name.clone()),
        unlisted_at: None,
    };
    let notes: Vec<ListedNote> = names.iter().enumerate().map(note).collect();
    block_on(store.note_listed(&notes)).expect("noted");
}

/// Tokens that are good for a day.
pub(crate) fn tokens(access: &str, company: Option<CompanyId>, at: Timestamp) -> TokenSet {
    let own = || RefreshBy::Own(RefreshToken::new(format!("refresh-{access}")));
    TokenSet {
        access: AccessToken::new(access),
        refresh_by: company.clone().map_or_else(own, RefreshBy::Company),
        issued_at: at,
        expires_at: at + Duration::from_secs(24 * 3600),
        scopes: "contacts.readonly".into(),
        company,
        members: ReplyMembers::new("{}"),
    }
}

#[allow(clippy::disallowed_methods, reason = "the program that is tested reads the real clock")]
pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    Timestamp::from_millis(i64::try_from(since.as_millis()).expect("a time"))
}

pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(work)
}

#[track_caller]
pub(crate) fn until(mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(60), "it never came to hold");
        std::thread::sleep(Duration::from_millis(20));
    }
}
