//! What these stories need beside a home: its stores as another process sees them.

use std::path::Path;
use std::sync::Arc;

use highlevel::{AppCredentials, Client, Dialect, OAuth};
use store::{Key, Keys, StoreUrl};
use tokens::store::{FlightId, Landing, Listing};
use tokens::{ClientSecret, Installation, InstallationId, Issuer, Store, Timestamp};

use crate::support::{ELSEWHERE, Home, KEY};

pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(work)
}

/// A home with so many locations authorised, in `sqlite:ghl-auth.db`.
pub(crate) fn agency(locations: usize) -> Home {
    let home = Home::with(|settings| settings.extra_locations = locations - 1).sealed().log_in();
    let ids = home.sandbox.location_ids();
    for id in &ids[1..] {
        let code = home.sandbox.approve_location(id, ELSEWHERE);
        home.run(["login", "--code", &code]).good();
    }
    home
}

pub(crate) fn keys() -> Keys {
    Keys { current: Some(Key::parse(KEY).expect("a key")), old: Vec::new() }
}

/// A store of the home's, by its address with a path within the home.
pub(crate) fn open(home: &Home, address: &str) -> Arc<dyn Store> {
    let (kind, path) = address.split_once(':').expect("an address");
    let path = home.path(path);
    let url = if kind == "file" { StoreUrl::File(path) } else { StoreUrl::Sqlite(path) };
    store::open(&url, &keys(), None).expect("a store")
}

pub(crate) fn all(home: &Home, address: &str) -> Vec<Installation> {
    block_on(open(home, address).list(None, usize::MAX)).expect("read")
}

pub(crate) fn standby(home: &Home, address: &str) -> Option<String> {
    block_on(open(home, address).standby()).expect("read")
}

pub(crate) fn is_empty(home: &Home, address: &str) -> bool {
    block_on(open(home, address).overview(&Listing::ALL)).expect("read").is_empty()
}

pub(crate) fn location(home: &Home) -> InstallationId {
    InstallationId::from_parts("location", home.location()).expect("an id")
}

/// Whether the store holds, of each location, what HighLevel waits for.
pub(crate) fn holds_all(home: &Home, address: &str) -> bool {
    let all = all(home, address);
    all.len() == home.sandbox.location_ids().len()
        && all.iter().all(|it| {
            let token = it.tokens.refresh_token().expect("one of its own");
            home.sandbox.is_current_refresh_token(token.expose())
        })
}

/// The same, with one installation in a file.
pub(crate) fn holds(home: &Home, address: &str) -> bool {
    let all = all(home, address);
    all.len() == 1
        && home.sandbox.is_current_refresh_token(all[0].tokens.refresh_token().expect("one").expose())
}

/// Lets a process refresh the location's grant and die before the answer is saved: it lies in the spool.
pub(crate) fn land_and_die(home: &Home, address: &str) {
    let store = open(home, address);
    let settings = home.sandbox.settings();
    let base = home.sandbox.base_url().parse().expect("an address");
    let app = AppCredentials {
        client_id: settings.client_id.clone(),
        client_secrets: vec![ClientSecret::new(settings.client_secret.clone())],
        redirect_uri: ELSEWHERE.to_owned(),
        user_type: "Location",
    };
    let issuer = OAuth::new(Client::new(base, Dialect::Dated, None).expect("a client"), app);
    block_on(async {
        let present = store.load(&location(home)).await.expect("read").expect("a grant");
        let token = present.tokens.refresh_token().expect("one of its own").clone();
        let answer = issuer.refresh(&present.id, &token).await.expect("an answer");
        let landing = Landing {
            id: Some(present.id.clone()),
            version: present.version,
            replaces: Some(store.fingerprint(&token)),
            unasked: false,
            received_at: Timestamp::from_millis(i64::try_from(home.sandbox.now_millis()).expect("a time")),
            status: answer.status,
            body: answer.body,
        };
        let flight = FlightId("died".to_owned());
        store.reserve(&flight).await.expect("room");
        store.land(&flight, &landing).await.expect("landed");
    });
}

/// Takes a store away, as a lost machine does; what lies in its spool stays when `with_spool` is false.
pub(crate) fn lose(home: &Home, path: &str, with_spool: bool) {
    for suffix in ["", "-wal", "-shm", ".records.db", ".records.db-wal", ".records.db-shm", ".standby"] {
        let _ = std::fs::remove_file(home.path(&format!("{path}{suffix}")));
    }
    let spool = home.path(&format!("{path}.spool"));
    if with_spool && Path::new(&spool).exists() {
        std::fs::remove_dir_all(spool).expect("gone");
    }
}
