//! One story for every store: what the Keeper relies on, whatever lies underneath.
#![allow(clippy::unwrap_used, reason = "a failure here is the test's own answer")]

#[path = "../../../tests/postgres/mod.rs"]
mod postgres;
mod sample;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sample::*;
use store::{Keys, StoreUrl};
use tokens::store::{
    Claim, Committed, Counts, Due, FlightId, IntentThen, LEASE, ListedNote, Listing, Mark, Order, Removed,
    Stand,
};
use tokens::{
    Broken, CompanyId, Connection, Health, Installation, InstallationId, Intent, LastCheck, Store,
    StoreError, Timestamp, Version,
};

/// How a store is opened; again and again, as each process does.
struct House {
    folder: tempfile::TempDir,
    keys: Keys,
    kind: Kind,
    url: StoreUrl,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    File,
    InPlace,
    Sqlite,
    Postgres,
}

impl House {
    fn new(kind: Kind, keys: Keys) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ghl_tokens.json");
        let url = match kind {
            Kind::File | Kind::InPlace => StoreUrl::File(path),
            Kind::Sqlite => StoreUrl::Sqlite(path),
            Kind::Postgres => StoreUrl::parse(&postgres::server().fresh_schema()).unwrap(),
        };
        let house = Self { folder, keys, kind, url };
        if kind == Kind::InPlace {
            // People `touch` the file before they mount it.
            std::fs::write(house.path(), "").unwrap();
        }
        house
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("ghl_tokens.json")
    }

    fn open(&self) -> Arc<dyn Store> {
        let opened = match self.kind {
            Kind::InPlace => store::open_file_in_place(&self.path(), &self.keys, None),
            Kind::File | Kind::Sqlite => store::open(&self.url, &self.keys, None),
            Kind::Postgres => {
                let spool = self.folder.path().join("ghl_tokens.json.spool");
                let connect = async || store::connect(&self.url, &self.keys, &spool, None).await;
                tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(connect()))
            }
        };
        opened.unwrap()
    }

    /// Whether it is for many installations.
    fn has_room(&self) -> bool {
        matches!(self.kind, Kind::Sqlite | Kind::Postgres)
    }

    /// Lets time pass where leases go by a clock that the test does not set: what was written down by it
    /// becomes older.
    fn time_passes(&self, millis: i64) {
        if let StoreUrl::Postgres(_) = &self.url {
            let url = self.url.to_string();
            let schema = postgres::schema_of(&url);
            postgres::server().sql(&format!(
                "UPDATE {schema}.installations SET intent_at = intent_at - {millis}, lease_until = lease_until - {millis}"
            ));
        }
    }

    /// Whether an instant is the one that is expected, as far as the store's clock is the test's.
    fn is_then(&self, found: Timestamp, expected: Timestamp) -> bool {
        match self.kind {
            Kind::Postgres => found.apart(expected) < Duration::from_millis(900),
            _ => found == expected,
        }
    }
}

fn houses() -> Vec<(&'static str, House)> {
    let sealed = || sealed_by(&new_key());
    let mut houses = vec![
        ("a plain file", House::new(Kind::File, Keys::default())),
        ("a sealed file", House::new(Kind::File, sealed())),
        ("a plain file in place", House::new(Kind::InPlace, Keys::default())),
        ("a sealed file in place", House::new(Kind::InPlace, sealed())),
        ("a database", House::new(Kind::Sqlite, sealed())),
    ];
    if !postgres::is_left_out() {
        houses.push(("PostgreSQL", House::new(Kind::Postgres, sealed())));
    }
    houses
}

fn run(story: impl AsyncFn(&str, &House)) {
    run_in(houses(), story);
}

fn run_in(houses: Vec<(&'static str, House)>, story: impl AsyncFn(&str, &House)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for (name, house) in houses {
        runtime.block_on(story(name, &house));
        everything_is_private(house.folder.path());
    }
}

fn everything_is_private(folder: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o077;
        assert_eq!(mode, 0, "{} is for its owner only", entry.path().display());
    }
}

async fn connected(house: &House) -> (Arc<dyn Store>, Installation) {
    let store = house.open();
    let installation = store.connect(&location(), &tokens(&location(), "1", START), START).await.unwrap();
    (store, installation)
}

async fn loaded(store: &Arc<dyn Store>) -> Installation {
    store.load(&location()).await.unwrap().expect("an installation")
}

fn json(members: &tokens::ReplyMembers) -> serde_json::Value {
    serde_json::from_str(members.expose()).unwrap()
}

fn assert_same(one: &Installation, other: &Installation) {
    assert_eq!((&one.id, one.version, &one.connection), (&other.id, other.version, &other.connection));
    assert_eq!((one.intent, &one.last_check), (other.intent, &other.last_check));
    let same_tokens = |one: &tokens::TokenSet, other: &tokens::TokenSet| {
        assert!(one.access == other.access && one.refresh_by == other.refresh_by, "other tokens");
        assert_eq!((one.issued_at, one.expires_at), (other.issued_at, other.expires_at));
        assert_eq!((&one.scopes, &one.company), (&other.scopes, &other.company));
        assert_eq!(json(&one.members), json(&other.members));
    };
    same_tokens(&one.tokens, &other.tokens);
    assert_eq!(one.previous.is_some(), other.previous.is_some());
    if let (Some(one), Some(other)) = (&one.previous, &other.previous) {
        assert_eq!(one.keep_until, other.keep_until);
        same_tokens(&one.tokens, &other.tokens);
    }
}

const HALF_A_DAY: Duration = Duration::from_secs(12 * 3600);

fn later(seconds: u64) -> Timestamp {
    START + Duration::from_secs(seconds)
}

#[test]
fn what_is_connected_is_there_for_the_next_process() {
    run(async |name, house| {
        let store = house.open();
        assert!(store.load(&location()).await.unwrap().is_none(), "{name}");
        assert!(store.list(None, 9).await.unwrap().is_empty(), "{name}");
        let (store, installation) = connected(house).await;
        assert_eq!(installation.version, Version { epoch: 1, generation: 1 }, "{name}");
        assert_same(&loaded(&store).await, &installation);
        drop(store);
        let store = house.open();
        assert_same(&loaded(&store).await, &installation);
        assert_eq!(store.list(None, 9).await.unwrap().len(), 1, "{name}");
        assert!(store.load(&company()).await.unwrap().is_none(), "{name}");
        assert!(store.load(&other_location()).await.unwrap().is_none(), "{name}");
    });
}

#[test]
fn connecting_again_begins_an_epoch_and_keeps_the_set_before() {
    run(async |name, house| {
        let (store, first) = connected(house).await;
        store.claim(&claim(&first, "f1", later(1))).await.unwrap();
        let second = store.connect(&location(), &tokens(&location(), "2", later(2)), later(2)).await.unwrap();
        assert_eq!(second.version, Version { epoch: 2, generation: 2 }, "{name}");
        assert!(second.intent.is_none(), "{name}");
        let previous = second.previous.as_ref().expect("the set before");
        assert!(previous.tokens.access == first.tokens.access, "{name}");
        assert_same(&loaded(&store).await, &second);
        // The answer to the old grant's refresh comes late.
        let late = commit(&*store, &first, "f1", tokens(&location(), "late", later(3)), later(3));
        let Committed::Superseded(found) = store.commit(&late).await.unwrap() else { panic!("{name}") };
        assert_same(&found, &second);
        // The same connect once more is the same connect.
        let again = store.connect(&location(), &second.tokens, later(4)).await.unwrap();
        assert_same(&again, &second);
    });
}

#[test]
fn one_flight_at_a_time_from_intent_to_commit() {
    run(async |name, house| {
        let (store, first) = connected(house).await;
        let other = house.open();
        let ours = claim(&first, "f1", later(1));
        let theirs = claim(&first, "f2", later(2));
        assert!(
            matches!(store.claim(&ours).await.unwrap(), Claim::Ours { since } if since == later(1)),
            "{name}"
        );
        house.time_passes(1000);
        assert!(
            matches!(other.claim(&theirs).await.unwrap(), Claim::Taken { since } if house.is_then(since, later(1))),
            "{name}"
        );
        let at_once = claim(&first, "f3", later(2));
        assert!(
            matches!(store.claim(&at_once).await.unwrap(), Claim::Taken { .. }),
            "{name}: within a process"
        );
        assert_eq!(loaded(&other).await.intent, Some(Intent { since: later(1) }), "{name}");
        store.renew(&claim(&first, "f1", later(3))).await.unwrap();
        assert!(matches!(other.renew(&theirs).await, Err(StoreError::LeaseLost)), "{name}");

        let new = tokens(&location(), "2", later(4));
        let commit = commit(&*store, &first, "f1", new.clone(), later(4));
        let Committed::Saved(second) = store.commit(&commit).await.unwrap() else { panic!("{name}") };
        assert_eq!(second.version, Version { epoch: 1, generation: 2 }, "{name}");
        assert_eq!(second.connection, Connection::Connected, "{name}");
        let previous = second.previous.as_ref().expect("the set before");
        assert!(
            previous.tokens.access == first.tokens.access && previous.keep_until == later(4) + DAY,
            "{name}"
        );
        assert_same(&loaded(&other).await, &second);
        let Committed::Saved(again) = store.commit(&commit).await.unwrap() else { panic!("{name}") };
        assert_same(&again, &second);

        let Claim::Moved(found) = other.claim(&theirs).await.unwrap() else { panic!("{name}") };
        assert_same(&found, &second);
        // The lease went with the commit.
        let next = claim(&second, "f2", later(5));
        assert!(
            matches!(other.claim(&next).await.unwrap(), Claim::Ours { since } if since == later(5)),
            "{name}"
        );
    });
}

#[test]
fn a_claim_on_nothing_finds_nothing() {
    run(async |name, house| {
        let (store, mut installation) = connected(house).await;
        installation.id = company();
        assert!(
            matches!(store.claim(&claim(&installation, "f1", later(1))).await.unwrap(), Claim::Gone),
            "{name}"
        );
        let commit = commit(&*store, &installation, "f1", tokens(&company(), "2", later(1)), later(1));
        assert!(matches!(store.commit(&commit).await.unwrap(), Committed::Gone), "{name}");
    });
}

#[test]
fn a_flight_that_died_is_flown_on_with_the_same_token() {
    run(async |name, house| {
        let (store, first) = connected(house).await;
        store.claim(&claim(&first, "f1", later(1))).await.unwrap();
        drop(store);
        let store = house.open();
        let found = loaded(&store).await;
        assert_eq!(found.intent, Some(Intent { since: later(1) }), "{name}");
        let after_the_lease = later(1) + LEASE;
        house.time_passes(LEASE.as_millis() as _);
        let takeover = store.claim(&claim(&found, "f2", after_the_lease)).await.unwrap();
        assert!(matches!(takeover, Claim::Ours { since } if house.is_then(since, later(1))), "{name}");
    });
}

#[test]
fn a_database_lease_that_nobody_renews_ends() {
    in_databases(async |name, house| {
        let (store, first) = connected(house).await;
        let other = house.open();
        let claimed = |name, millis| claim(&first, name, START + Duration::from_millis(millis));
        store.claim(&claimed("f1", 0)).await.unwrap();
        house.time_passes(2000);
        store.renew(&claimed("f1", 2000)).await.unwrap();
        // A database's own clock goes on meanwhile.
        let (before, after) = if house.kind == Kind::Postgres { (4000, 5000) } else { (4999, 5000) };
        house.time_passes(before - 2000);
        assert!(
            matches!(other.claim(&claimed("f2", before as u64)).await.unwrap(), Claim::Taken { .. }),
            "{name}"
        );
        house.time_passes(after - before);
        assert!(
            matches!(other.claim(&claimed("f2", after as u64)).await.unwrap(), Claim::Ours { .. }),
            "{name}"
        );
        assert!(matches!(store.renew(&claimed("f1", 5001)).await, Err(StoreError::LeaseLost)), "{name}");
        // A clock that was set back by hours holds nobody up.
        house.time_passes(-7_200_000);
        let earlier = claim(&first, "f3", START - Duration::from_secs(7200));
        assert!(matches!(store.claim(&earlier).await.unwrap(), Claim::Ours { .. }), "{name}");
    });
}

#[test]
fn a_commit_for_another_refresh_token_changes_nothing() {
    run(async |name, house| {
        let (store, first) = connected(house).await;
        let mut wrong = commit(&*store, &first, "f1", tokens(&location(), "2", later(1)), later(1));
        wrong.replaces = store.fingerprint(&refresh_token(&tokens(&location(), "other", START)));
        let Committed::Superseded(found) = store.commit(&wrong).await.unwrap() else { panic!("{name}") };
        assert_same(&found, &first);
        let mut stale = commit(&*store, &first, "f1", tokens(&location(), "2", later(1)), later(1));
        stale.version.generation = 7;
        assert!(matches!(store.commit(&stale).await.unwrap(), Committed::Superseded(_)), "{name}");
        assert_same(&loaded(&store).await, &first);
        // And one that helps, from another process and without the lease, is taken.
        store.claim(&claim(&first, "f1", later(2))).await.unwrap();
        let other = house.open();
        let help = commit(&*other, &first, "helper", tokens(&location(), "2", later(3)), later(3));
        assert!(matches!(other.commit(&help).await.unwrap(), Committed::Saved(_)), "{name}");
        assert!(loaded(&store).await.intent.is_none(), "{name}");
    });
}

#[test]
fn a_flight_without_tokens_settles_how_the_connection_stands() {
    run(async |name, house| {
        let (store, first) = connected(house).await;
        let ours = claim(&first, "f1", later(1));
        store.claim(&ours).await.unwrap();
        let uncertain = Connection::Uncertain {
            since: later(1),
            attempts: 1,
            retry_at: later(31),
            said: "timed out".into(),
        };
        store.settle(&ours, &uncertain, IntentThen::StaysOpen).await.unwrap();
        let found = loaded(&store).await;
        assert_eq!(
            (&found.connection, found.intent),
            (&uncertain, Some(Intent { since: later(1) })),
            "{name}"
        );
        assert!(found.tokens.access == first.tokens.access, "{name}: nothing deletes a grant");

        let other = house.open();
        let next = claim(&first, "f2", later(31));
        house.time_passes(30_000);
        assert!(
            matches!(other.claim(&next).await.unwrap(), Claim::Ours { since } if house.is_then(since, later(1))),
            "{name}"
        );
        // The flight that was settled before has no say while another is in the air.
        store.settle(&ours, &Connection::Connected, IntentThen::Ended).await.unwrap();
        assert_eq!(loaded(&store).await.connection, uncertain, "{name}");
        let broken = Connection::Broken(Broken { since: later(32), said: "Invalid grant".into() });
        other.settle(&next, &broken, IntentThen::Ended).await.unwrap();
        let found = loaded(&store).await;
        assert_eq!((&found.connection, found.intent), (&broken, None), "{name}");

        // And none once the installation has moved on.
        let second =
            store.connect(&location(), &tokens(&location(), "2", later(40)), later(40)).await.unwrap();
        other.settle(&next, &broken, IntentThen::Ended).await.unwrap();
        assert_same(&loaded(&store).await, &second);
    });
}

#[test]
fn an_answer_that_landed_outlives_its_process() {
    run(async |name, house| {
        let (store, first) = connected(house).await;
        let answer = landing(&*store, &first, later(2));
        for flight_id in ["f1", "f2"] {
            store.reserve(&flight(flight_id)).await.unwrap();
        }
        store.claim(&claim(&first, "f1", later(1))).await.unwrap();
        store.land(&flight("f1"), &answer).await.unwrap();
        assert_same_but_intent(&loaded(&store).await, &first);
        let other = house.open();
        assert!(other.landings().await.unwrap().is_empty(), "{name}: its process lives");
        assert!(store.landings().await.unwrap().is_empty(), "{name}: it is flying itself");
        drop(store);

        let landings = other.landings().await.unwrap();
        let [(found, landed)] = landings.as_slice() else { panic!("{name}: {} landed", landings.len()) };
        assert_eq!(*found, flight("f1"), "{name}");
        assert_eq!((&landed.id, landed.version), (&answer.id, answer.version), "{name}");
        assert_eq!((landed.replaces, landed.received_at), (answer.replaces, answer.received_at), "{name}");
        assert!(landed.status == 200 && landed.body == answer.body, "{name}");
        let next = commit(&*other, &first, "f1", tokens(&location(), "2", later(2)), later(9));
        assert!(matches!(other.commit(&next).await.unwrap(), Committed::Saved(_)), "{name}");
        other.free(found).await.unwrap();
        assert!(other.landings().await.unwrap().is_empty(), "{name}");
        assert!(other.load(&location()).await.unwrap().is_some(), "{name}");
        let spool = house.folder.path().join("ghl_tokens.json.spool");
        assert!(!spool.exists(), "{name}: nothing is left lying about");
    });
}

fn assert_same_but_intent(one: &Installation, other: &Installation) {
    let mut one = one.clone();
    one.intent = other.intent;
    assert_same(&one, other);
}

#[test]
fn a_code_lands_before_there_is_an_installation() {
    run(async |name, house| {
        let store = house.open();
        let (code, other) = (flight("code"), house.open());
        let mut answer = landing(&*store, &connected_elsewhere(), later(1));
        (answer.id, answer.replaces) = (None, None);
        store.reserve(&code).await.unwrap();
        store.land(&code, &answer).await.unwrap();
        assert!(store.load(&location()).await.unwrap().is_none(), "{name}");
        assert!(other.landings().await.unwrap().is_empty(), "{name}");
        drop(store);
        let landings = other.landings().await.unwrap();
        assert_eq!(landings.len(), 1, "{name}");
        assert!(landings[0].1.id.is_none() && landings[0].1.body == answer.body, "{name}");
        other.connect(&location(), &tokens(&location(), "1", later(1)), later(1)).await.unwrap();
        other.free(&code).await.unwrap();
        assert!(other.landings().await.unwrap().is_empty(), "{name}");
        assert_eq!(loaded(&other).await.version, Version { epoch: 1, generation: 1 }, "{name}");
    });
}

fn connected_elsewhere() -> Installation {
    Installation {
        id: location(),
        version: Version { epoch: 1, generation: 1 },
        tokens: tokens(&location(), "1", START),
        previous: None,
        connection: Connection::Connected,
        intent: None,
        last_check: None,
        connected_at: START,
        name: None,
        unlisted_at: None,
    }
}

#[test]
fn a_flight_has_a_plain_name() {
    run(async |name, house| {
        let (store, _) = connected(house).await;
        for odd in ["", "../f", "a/b", "a.b", "ç", &"f".repeat(65)] {
            assert!(store.reserve(&FlightId(odd.to_owned())).await.is_err(), "{name}: {odd:?}");
        }
    });
}

#[test]
fn what_a_check_found_is_noted() {
    run(async |name, house| {
        let (store, installation) = connected(house).await;
        let check = LastCheck {
            at: later(9),
            health: Health::Degraded,
            code: Some("tag_still_there".into()),
            said: Some("the workflow did not remove the tag".into()),
        };
        store.note_check(&location(), &check).await.unwrap();
        let found = loaded(&house.open()).await;
        assert_eq!(found.last_check, Some(check.clone()), "{name}");
        let commit = commit(&*store, &installation, "f1", tokens(&location(), "2", later(10)), later(10));
        let Committed::Saved(saved) = store.commit(&commit).await.unwrap() else { panic!("{name}") };
        assert_eq!(saved.last_check, Some(check), "{name}");
        let fine = LastCheck { at: later(20), health: Health::Operational, code: None, said: None };
        store.note_check(&location(), &fine).await.unwrap();
        assert_eq!(loaded(&store).await.last_check, Some(fine), "{name}");
    });
}

/// What is told of them without their secrets is what is told with them.
async fn assert_told_alike(store: &Arc<dyn Store>, name: &str) {
    let all = store.list(None, 9).await.unwrap();
    let told = store.overview(&Listing::ALL).await.unwrap();
    assert_eq!(told, all.iter().map(Installation::overview).collect::<Vec<_>>(), "{name}");
    for overview in &told {
        let due = overview.refresh_due_at().unwrap_or(START);
        let moment = Duration::from_millis(1);
        // A clock that is set back a little, far enough to matter, and by ten years.
        let back = [HALF_A_DAY / 24, HALF_A_DAY / 2, HALF_A_DAY * 2, HALF_A_DAY * 2 * 3653];
        let set_back = back.map(|span| overview.issued_at - span - moment);
        for now in [due, due - moment, later(10_000_000)].into_iter().chain(set_back) {
            let listed =
                store.refresh_due(now, None, 10).await.unwrap().iter().any(|due| due.id == overview.id);
            assert_eq!(listed, overview.is_refresh_due(now), "{name}: {overview:?} at {now:?}");
        }
        let checked = overview.last_check.as_ref().map_or(START, |check| check.at);
        let interval = [Duration::from_secs(60), HALF_A_DAY];
        let around =
            [0, 59, 60, 299, 300, 12 * 3600 - 1, 12 * 3600].map(|s| checked + Duration::from_secs(s));
        let ahead = [1, 60, 61, 299, 301, 12 * 3600, 12 * 3600 + 1].map(|s| checked - Duration::from_secs(s));
        let moments = around.into_iter().chain(ahead);
        for (now, interval) in moments.flat_map(|now| interval.map(|interval| (now, interval))) {
            let listed = store.check_due(interval, now, None, 10).await.unwrap();
            let listed = listed.iter().any(|due| due.id == overview.id);
            let due = overview.check_due_at(interval, now) <= now;
            assert_eq!(listed, due, "{name}: {overview:?} at {now:?} every {interval:?}");
        }
    }
    assert!(store.overview(&Listing::first(0)).await.unwrap().is_empty(), "{name}");
    assert!(store.refresh_due(later(10_000_000), None, 0).await.unwrap().is_empty(), "{name}");
    assert!(store.check_due(HALF_A_DAY, later(10_000_000), None, 0).await.unwrap().is_empty(), "{name}");
}

#[test]
fn how_they_stand_and_what_is_due_is_told_without_their_secrets() {
    run(async |name, house| {
        assert_told_alike(&house.open(), name).await;
        let (store, first) = connected(house).await;
        assert_told_alike(&store, name).await;
        for (at, health) in [(3, Health::Operational), (4, Health::Down), (5, Health::Degraded)] {
            let check = LastCheck { at: later(at), health, code: Some("c".into()), said: None };
            store.note_check(&location(), &check).await.unwrap();
            assert_told_alike(&store, name).await;
        }
        let waiting = |said: &str| (later(6), 2, later(4000), said.to_owned());
        let (since, attempts, retry_at, said) = waiting("timed out");
        let uncertain = Connection::Uncertain { since, attempts, retry_at, said };
        let (since, attempts, retry_at, said) = waiting("not active");
        let suspended = Connection::Suspended { since, attempts, retry_at, said };
        let broken = Connection::Broken(Broken { since, said: "invalid grant".into() });
        for (number, connection) in [uncertain, suspended, broken, Connection::Connected].iter().enumerate() {
            for intent in [IntentThen::StaysOpen, IntentThen::Ended] {
                let flying = claim(&first, &format!("f{number}"), later(60 * number as u64));
                assert!(matches!(store.claim(&flying).await.unwrap(), Claim::Ours { .. }), "{name}");
                assert_told_alike(&store, name).await;
                store.settle(&flying, connection, intent).await.unwrap();
                assert_told_alike(&store, name).await;
            }
        }
        let commit = commit(&*store, &first, "f9", tokens(&location(), "2", later(900)), later(900));
        assert!(matches!(store.commit(&commit).await.unwrap(), Committed::Saved(_)), "{name}");
        assert_told_alike(&store, name).await;
        assert_told_alike(&house.open(), name).await;
    });
}

/// Forty installations of two companies that stand in every way, checked at every time, some never;
/// several of one instant.
async fn crowd(store: &Arc<dyn Store>) -> Vec<InstallationId> {
    let companies: [CompanyId; 2] =
        ["AAAAAAAAAAAAAAAAAAAA", "aaaaaaaaaaaaaaaaaaaa"].map(|id| id.parse().unwrap());
    let locations =
        (0..38).map(|number| InstallationId::Location(format!("loc{number:02}").parse().unwrap()));
    let ids: Vec<_> = locations.chain(companies.clone().map(InstallationId::Company)).collect();
    for (number, id) in ids.iter().enumerate() {
        let at = later(60 * (number as u64 % 7));
        let mut set = tokens(id, "1", at);
        set.company = match id {
            InstallationId::Company(company) => Some(company.clone()),
            InstallationId::Location(_) => companies.get(number % 3).cloned(),
        };
        let kept = store.connect(id, &set, at).await.unwrap();
        if number % 4 > 0 {
            let health = if number % 3 == 0 { Health::Down } else { Health::Operational };
            let check = LastCheck { at: later(3600 * (number as u64 % 5)), health, code: None, said: None };
            store.note_check(id, &check).await.unwrap();
        }
        let (since, said) = (later(7), "why".to_owned());
        let retry_at = later(3600 * (number as u64 % 3));
        let connection = match number % 6 {
            0 => Connection::Uncertain { since, attempts: 1, retry_at, said },
            1 => Connection::Suspended { since, attempts: 1, retry_at, said },
            2 => Connection::Broken(Broken { since, said }),
            _ => continue,
        };
        let flying = claim(&kept, &format!("c{number}"), later(8));
        store.claim(&flying).await.unwrap();
        let intent = if number % 5 == 0 { IntentThen::StaysOpen } else { IntentThen::Ended };
        store.settle(&flying, &connection, intent).await.unwrap();
    }
    let named = |number: usize, name: &str| ListedNote {
        id: ids[number].clone(),
        name: Some(name.to_owned()),
        unlisted_at: (number == 4).then(|| later(9)),
    };
    store
        .note_listed(&[named(3, "Padaria AÇÃO"), named(4, "Loc 05"), named(39, "The Agency")])
        .await
        .unwrap();
    ids
}

/// Everything in the order of the pages, and never the same twice.
async fn paged(store: &Arc<dyn Store>, listing: &Listing, size: usize) -> Vec<tokens::Overview> {
    let mut all: Vec<tokens::Overview> = Vec::new();
    loop {
        let after = all.last().cloned();
        let page = store.overview(&Listing { after, limit: size, ..listing.clone() }).await.unwrap();
        assert!(page.len() <= size);
        if page.is_empty() {
            return all;
        }
        all.extend(page);
        assert!(all.len() <= 40, "{listing:?} goes round in circles");
    }
}

#[test]
fn many_are_listed_page_by_page_in_every_order_and_by_every_filter() {
    many(async |name, store| {
        crowd(store).await;
        let all = store.overview(&Listing::ALL).await.unwrap();
        assert_eq!(all.len(), 40, "{name}");
        let companies = [None, Some("AAAAAAAAAAAAAAAAAAAA"), Some("aaaaaaaaaaaaaaaaaaaa"), Some("nobody")];
        let texts =
            [None, Some("LOC1"), Some("padaria ação"), Some("agency"), Some(""), Some("%"), Some("05")];
        let stands = [None].into_iter().chain(Stand::ALL.map(Some));
        for (company, standing) in
            companies.iter().flat_map(|company| stands.clone().map(move |it| (company, it)))
        {
            for (text, order) in texts
                .iter()
                .flat_map(|text| [Order::Id, Order::ExpiresAt, Order::CheckedAt].map(|order| (text, order)))
            {
                let company = company.map(|id| id.parse().unwrap());
                let text = text.map(str::to_owned);
                let listing = Listing { company, standing, text, order, ..Listing::ALL };
                let expected = listing.pick(all.clone());
                assert_eq!(store.overview(&listing).await.unwrap(), expected, "{name}: {listing:?}");
                for size in [1, 3] {
                    assert_eq!(paged(store, &listing, size).await, expected, "{name}: {listing:?} by {size}");
                }
            }
        }
        let mut counts = Counts::default();
        all.iter().for_each(|it| counts.count(it));
        assert_eq!(store.counts().await.unwrap(), counts, "{name}");
    });
}

#[test]
fn what_is_due_is_told_page_by_page_each_once_what_was_due_first_first() {
    many(async |name, store| {
        crowd(store).await;
        let all = store.overview(&Listing::ALL).await.unwrap();
        let hours = |hours: i64| Timestamp::from_millis(START.as_millis() + hours * 3_600_000);
        for now in [hours(-30), hours(-3), hours(0), hours(1), hours(2), hours(13), hours(40)] {
            for size in [1, 4, 100] {
                let told =
                    all_due(size, async |after| store.refresh_due(now, after, size).await.unwrap()).await;
                let due = all.iter().filter(|it| it.is_refresh_due(now));
                assert_eq!(sorted(&told), sorted_ids(due), "{name}: refreshes at {now:?} by {size}");
                for interval in [Duration::from_secs(3600), HALF_A_DAY] {
                    let told = all_due(size, async |after| {
                        store.check_due(interval, now, after, size).await.unwrap()
                    })
                    .await;
                    let due = all.iter().filter(|it| it.check_due_at(interval, now) <= now);
                    assert_eq!(sorted(&told), sorted_ids(due), "{name}: checks at {now:?} by {size}");
                }
            }
        }
    });
}

async fn all_due(size: usize, ask: impl AsyncFn(Option<&Due>) -> Vec<Due>) -> Vec<Due> {
    let mut all: Vec<Due> = Vec::new();
    loop {
        let page = ask(all.last()).await;
        assert!(page.len() <= size);
        if page.is_empty() {
            break;
        }
        all.extend(page);
        assert!(all.len() <= 40, "it goes round in circles");
    }
    assert!(all.is_sorted_by_key(|due| (due.at, due.id.clone())), "{all:?}");
    all
}

fn sorted(due: &[Due]) -> Vec<InstallationId> {
    let mut ids: Vec<_> = due.iter().map(|due| due.id.clone()).collect();
    ids.sort();
    ids
}

fn sorted_ids<'a>(all: impl Iterator<Item = &'a tokens::Overview>) -> Vec<InstallationId> {
    let mut ids: Vec<_> = all.map(|it| it.id.clone()).collect();
    ids.sort();
    ids
}

/// A story for stores that have room for many.
fn many(story: impl AsyncFn(&str, &Arc<dyn Store>)) {
    in_databases(async |name, house| story(name, &house.open()).await);
}

fn in_databases(story: impl AsyncFn(&str, &House)) {
    let with_room = houses().into_iter().filter(|(_, house)| house.has_room());
    run_in(with_room.collect(), story);
}

#[test]
fn no_token_rests_in_clear_text_where_there_is_a_key() {
    run(async |name, house| {
        let (store, first) = connected(house).await;
        store.claim(&claim(&first, "f1", later(1))).await.unwrap();
        store.reserve(&flight("f1")).await.unwrap();
        store.land(&flight("f1"), &landing(&*store, &first, later(2))).await.unwrap();
        let commit = commit(&*store, &first, "f2", tokens(&location(), "2", later(2)), later(2));
        store.commit(&commit).await.unwrap();
        let clear = files_below(house.folder.path()).iter().any(|file| {
            let bytes = std::fs::read(file).unwrap();
            bytes.windows(20).any(|part| part == b"eyJhbGciOiJSUzI1NiIs")
        });
        assert_eq!(clear, house.keys.current.is_none(), "{name}");
    });
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(files_below(&path)),
            false => files.push(path),
        }
    }
    files
}

#[test]
fn many_at_once_get_one_flight() {
    run(async |name, house| {
        let (_store, first) = connected(house).await;
        let stores: Vec<_> = (0..8).map(|_| house.open()).collect();
        let mut claims = tokio::task::JoinSet::new();
        for n in 0..32 {
            let (store, claim) = (stores[n % 8].clone(), claim(&first, &format!("f{n}"), later(1)));
            claims.spawn(async move { store.claim(&claim).await.unwrap() });
        }
        let claims = claims.join_all().await;
        let ours = claims.iter().filter(|claim| matches!(claim, Claim::Ours { .. })).count();
        let taken = claims.iter().filter(|claim| matches!(claim, Claim::Taken { .. })).count();
        assert_eq!((ours, taken), (1, 31), "{name}");
    });
}

#[test]
fn no_change_is_lost_among_many() {
    run(async |name, house| {
        let mut connects = tokio::task::JoinSet::new();
        for n in 0..4 {
            let store = house.open();
            connects.spawn_blocking(move || {
                for turn in 0..15 {
                    let set = tokens(&location(), &format!("{n}-{turn}"), START);
                    tokio::runtime::Handle::current()
                        .block_on(store.connect(&location(), &set, START))
                        .unwrap();
                }
            });
        }
        connects.join_all().await;
        let found = loaded(&house.open()).await;
        assert_eq!(found.version, Version { epoch: 60, generation: 60 }, "{name}");
    });
}

/// Tokens of a location that name another company, or none.
fn of_company(id: &tokens::InstallationId, name: &str, company: Option<&str>) -> tokens::TokenSet {
    let company = company.map(|id| id.parse().unwrap());
    tokens::TokenSet { company, ..tokens(id, name, START) }
}

#[test]
fn what_is_uninstalled_leaves_unless_it_was_connected_later_and_can_come_back() {
    run(async |name, house| {
        let (store, first) = connected(house).await;
        if !store.can_park() {
            let refused = store.uninstalled(&location(), later(1), later(1)).await;
            assert!(matches!(refused, Err(StoreError::NoRoomFor { .. })), "{name}");
            assert!(store.removed(None, 9).await.unwrap().is_empty(), "{name}");
            return;
        }
        let mark = store.changes(Mark::default()).await.unwrap().mark;
        let late = store.uninstalled(&location(), START - Duration::from_millis(1), later(1)).await.unwrap();
        assert!(late.is_empty(), "{name}: it was connected later");
        assert_eq!(loaded(&store).await.version, first.version, "{name}");
        assert_eq!(store.removed_at(&location()).await.unwrap(), None, "{name}");

        let gone = store.uninstalled(&location(), later(5), later(9)).await.unwrap();
        assert_eq!(gone, [location()], "{name}");
        let other = house.open();
        assert!(other.load(&location()).await.unwrap().is_none(), "{name}");
        assert_eq!(other.changes(mark).await.unwrap().ids, [location()], "{name}: others drop their copies");
        assert_eq!(other.removed_at(&location()).await.unwrap(), Some(later(5)), "{name}");
        let removed = other.removed(None, 9).await.unwrap();
        assert_eq!(removed.len(), 1, "{name}");
        assert_eq!((&removed[0].id, removed[0].version), (&first.id, first.version), "{name}");
        assert!(removed[0].tokens.as_ref() == Some(&first.tokens), "{name}");

        // Told again, earlier and later: what there was is kept.
        assert!(store.uninstalled(&location(), later(2), later(10)).await.unwrap().is_empty(), "{name}");
        assert_eq!(store.removed_at(&location()).await.unwrap(), Some(later(5)), "{name}");
        assert!(store.uninstalled(&location(), later(7), later(10)).await.unwrap().is_empty(), "{name}");
        assert_eq!(store.removed_at(&location()).await.unwrap(), Some(later(7)), "{name}");

        let back = store.restore(&location(), later(20)).await.unwrap().unwrap();
        assert!(back.tokens == first.tokens && back.connected_at == later(20), "{name}");
        assert!(back.version > first.version, "{name}: {:?}", back.version);
        assert_eq!(loaded(&house.open()).await.version, back.version, "{name}");
        assert!(store.restore(&location(), later(21)).await.unwrap().is_none(), "{name}: once");
        assert_eq!(store.removed_at(&location()).await.unwrap(), None, "{name}");
        assert!(store.uninstalled(&location(), later(19), later(22)).await.unwrap().is_empty(), "{name}");

        // A flight in the air finds it gone.
        let flying = claim(&back, "f1", later(23));
        assert!(matches!(store.claim(&flying).await.unwrap(), Claim::Ours { .. }), "{name}");
        assert_eq!(store.uninstalled(&location(), later(24), later(24)).await.unwrap().len(), 1, "{name}");
        let commit = commit(&*store, &back, "f1", tokens(&location(), "2", later(25)), later(25));
        assert!(matches!(store.commit(&commit).await.unwrap(), Committed::Gone), "{name}");

        // 30 days later there is nothing to restore, and it is forgotten with the next that leaves.
        assert!(store.restore(&location(), later(24) + DAY * 30 + LEASE).await.unwrap().is_none(), "{name}");
        let month = later(30) + DAY * 30;
        store.uninstalled(&other_location(), month, month).await.unwrap();
        assert_eq!(store.removed_at(&location()).await.unwrap(), None, "{name}");
    });
}

#[test]
fn a_company_that_is_uninstalled_takes_its_locations_along() {
    run(async |name, house| {
        let store = house.open();
        if !store.can_park() {
            connected(house).await;
            return;
        }
        let name_of = |n: usize| tokens::InstallationId::from_parts("location", &format!("l{n:03}")).unwrap();
        let ours = Some("AAAAAAAAAAAAAAAAAAAA");
        for n in 0..200 {
            let company = if n % 50 == 7 { Some("ZZZZZZZZZZZZZZZZZZZZ") } else { ours };
            // Some were installed again after the company went.
            let at = if n % 50 == 9 { later(60) } else { later(1) };
            store.connect(&name_of(n), &of_company(&name_of(n), "1", company), at).await.unwrap();
        }
        store.connect(&company(), &tokens(&company(), "1", START), later(2)).await.unwrap();
        for (id, at) in [(other_location(), later(3)), (location(), later(60))] {
            store.park(&id, &tokens(&id, "1", START), at).await.unwrap();
        }
        assert!(store.uninstalled(&company(), later(1), later(99)).await.unwrap().is_empty(), "{name}");

        let gone = store.uninstalled(&company(), later(50), later(99)).await.unwrap();
        assert_eq!(gone.len(), 193, "{name}");
        assert_eq!(gone.last(), Some(&company()), "{name}");
        let left = store.overview(&Listing::ALL).await.unwrap();
        assert_eq!(left.len(), 8, "{name}");
        for it in left {
            assert!(it.company.unwrap().as_str().starts_with('Z') || it.connected_at == later(60), "{name}");
        }
        let parked: Vec<_> = store.parked().await.unwrap().into_iter().map(|parked| parked.id).collect();
        assert_eq!(parked, [location()], "{name}: what was parked later waits on");
        // All in pages, locations first.
        let (mut after, mut all) = (None, Vec::new());
        loop {
            let page = store.removed(after.as_ref(), 64).await.unwrap();
            let Some(last) = page.last() else { break };
            after = Some(last.id.clone());
            all.extend(page);
        }
        assert_eq!(
            all.iter().map(|it| &it.id).collect::<Vec<_>>(),
            gone.iter().collect::<Vec<_>>(),
            "{name}"
        );
        assert!(all.iter().all(|it| it.at == later(50) && it.tokens.is_some()), "{name}");
    });
}

#[test]
fn that_something_was_uninstalled_is_noted_where_nothing_was_kept() {
    run(async |name, house| {
        let store = house.open();
        if !store.can_park() {
            connected(house).await;
            return;
        }
        store.park(&location(), &tokens(&location(), "1", START), later(1)).await.unwrap();
        assert!(store.uninstalled(&location(), later(5), later(9)).await.unwrap().is_empty(), "{name}");
        assert!(store.parked().await.unwrap().is_empty(), "{name}: what was parked before is dropped");
        assert_eq!(store.removed_at(&location()).await.unwrap(), Some(later(5)), "{name}");
        let removed = store.removed(None, 9).await.unwrap();
        assert!(removed.len() == 1 && removed[0].tokens.is_none(), "{name}");
        assert!(store.restore(&location(), later(10)).await.unwrap().is_none(), "{name}");
        // A clock that is ahead keeps nobody out for longer than now.
        store.uninstalled(&location(), later(500), later(11)).await.unwrap();
        assert_eq!(store.removed_at(&location()).await.unwrap(), Some(later(11)), "{name}");
        let connected =
            store.connect(&location(), &tokens(&location(), "1", START), later(12)).await.unwrap();
        assert_eq!(connected.version, Version { epoch: 1, generation: 1 }, "{name}");
        assert_eq!(store.removed_at(&location()).await.unwrap(), None, "{name}");
    });
}

/// An installation as another store may hold it: of some age, with a set before, checked and named.
fn from_elsewhere(id: &tokens::InstallationId, generation: u64) -> Installation {
    let set = |n: u64| tokens(id, &format!("g{n}"), later(n));
    Installation {
        id: id.clone(),
        version: Version { epoch: 3, generation },
        tokens: set(generation),
        previous: Some(tokens::Previous { tokens: set(generation - 1), keep_until: later(0) + DAY }),
        connection: Connection::Suspended {
            since: later(1),
            attempts: 2,
            retry_at: later(900),
            said: "not active".to_owned(),
        },
        intent: None,
        last_check: Some(LastCheck {
            at: later(5),
            health: Health::Suspended,
            code: Some("location_not_active".to_owned()),
            said: Some("not active".to_owned()),
        }),
        connected_at: later(0),
        name: Some("Clínica São João".to_owned()),
        unlisted_at: Some(later(7)),
    }
}

#[test]
fn what_is_put_is_there_as_it_was_and_what_is_newer_stays() {
    run(async |name, house| {
        let store = house.open();
        let one = from_elsewhere(&location(), 7);
        assert_eq!(store.put(&[]).await.unwrap(), 0, "{name}");
        assert_eq!(store.put(std::slice::from_ref(&one)).await.unwrap(), 1, "{name}");
        drop(store);
        let store = house.open();
        let found = loaded(&store).await;
        assert_same(&found, &one);
        if house.has_room() {
            assert_eq!(found.overview(), one.overview(), "{name}");
        }
        let all = store.overview(&Listing::ALL).await.unwrap();
        assert_eq!(all, [found.overview()], "{name}");

        // The same once more, an older one, and one whose flight was in the air.
        assert_eq!(store.put(std::slice::from_ref(&one)).await.unwrap(), 0, "{name}");
        let older = from_elsewhere(&location(), 6);
        assert_eq!(store.put(&[older]).await.unwrap(), 0, "{name}");
        assert_same(&loaded(&store).await, &one);
        let newer =
            Installation { intent: Some(Intent { since: later(9) }), ..from_elsewhere(&location(), 9) };
        assert_eq!(store.put(std::slice::from_ref(&newer)).await.unwrap(), 1, "{name}");
        assert_same(&loaded(&store).await, &Installation { intent: None, ..newer.clone() });

        // It lives on as any other.
        let Claim::Ours { .. } = store.claim(&claim(&newer, "f1", later(10))).await.unwrap() else {
            panic!("{name}")
        };
        let next = commit(&*store, &newer, "f1", tokens(&location(), "next", later(11)), later(11));
        let Committed::Saved(saved) = store.commit(&next).await.unwrap() else { panic!("{name}") };
        assert_eq!(saved.version, Version { epoch: 3, generation: 10 }, "{name}");
        assert!(saved.previous.unwrap().tokens.access == newer.tokens.access, "{name}");
    });
}

#[test]
fn many_are_put_at_once_where_there_is_room() {
    run(async |name, house| {
        let store = house.open();
        let id = |n: usize| tokens::InstallationId::from_parts("location", &format!("L{n:05}")).unwrap();
        let many: Vec<Installation> = (0..2500).map(|n| from_elsewhere(&id(n), 2)).collect();
        if !house.has_room() {
            let refused = store.put(&many).await;
            assert!(matches!(refused, Err(StoreError::NoRoomFor { .. })), "{name}");
            store.put(&many[..1]).await.unwrap();
            let second = store.put(&many[1..2]).await;
            assert!(matches!(second, Err(StoreError::NoRoomFor { .. })), "{name}");
            assert_eq!(store.list(None, 9).await.unwrap().len(), 1, "{name}");
            return;
        }
        assert_eq!(store.put(&many[..1200]).await.unwrap(), 1200, "{name}");
        assert_eq!(store.put(&many).await.unwrap(), 1300, "{name}: those that are there are not put again");
        let page = store.list(Some(&id(2398)), 1000).await.unwrap();
        assert_eq!(page.len(), 101, "{name}");
        for (found, put) in page.iter().zip(&many[2399..]) {
            assert_same(found, put);
        }
        assert_eq!(store.counts().await.unwrap().suspended, 2500, "{name}");
    });
}

#[test]
fn while_very_many_are_put_everything_works_and_whoever_ends_in_between_leaves_a_whole_store() {
    in_databases(async |name, house| {
        let store = house.open();
        store.begin_putting().await.unwrap();
        let ids: Vec<InstallationId> = (0..40)
            .map(|n| tokens::InstallationId::from_parts("location", &format!("L{n:05}")).unwrap())
            .collect();
        let all: Vec<Installation> = ids.iter().map(|id| from_elsewhere(id, 2)).collect();
        assert_eq!(store.put(&all[..30]).await.unwrap(), 30, "{name}");
        let looks = async |store: &Arc<dyn Store>, count: usize| {
            for order in Order::ALL {
                let listed = paged(store, &Listing { order, ..Listing::ALL }, 7).await;
                assert_eq!(listed.len(), count, "{name}: by {order:?}");
            }
            assert_eq!(
                store.check_due(HALF_A_DAY, START + DAY, None, 99).await.unwrap().len(),
                count,
                "{name}"
            );
            assert_eq!(store.counts().await.unwrap().locations, count as u64, "{name}");
        };
        looks(&store, 30).await;
        store.connect(&ids[30], &all[30].tokens, later(1)).await.unwrap();
        // As if it had been killed here.
        drop(store);
        let store = house.open();
        looks(&store, 31).await;
        store.begin_putting().await.unwrap();
        assert_eq!(store.put(&all[31..]).await.unwrap(), 9, "{name}");
        store.end_putting().await.unwrap();
        looks(&store, 40).await;
    });
}

#[test]
fn what_was_removed_elsewhere_counts_on_and_a_backup_does_not_bring_it_back() {
    run(async |name, house| {
        let store = house.open();
        let version = Version { epoch: 3, generation: 9 };
        let removed = |id, tokens| Removed { id, version, tokens, at: later(20) };
        let gone =
            [removed(location(), Some(tokens(&location(), "gone", later(1)))), removed(company(), None)];
        if !house.has_room() {
            connected(house).await;
            assert!(matches!(store.put_removed(&gone).await, Err(StoreError::NoRoomFor { .. })), "{name}");
            return;
        }
        store.put(&[from_elsewhere(&other_location(), 4)]).await.unwrap();
        store.put_removed(&gone).await.unwrap();
        store.put_removed(&[removed(other_location(), None)]).await.unwrap();
        assert!(store.load(&other_location()).await.unwrap().is_some(), "{name}: what is kept stays");
        assert_eq!(store.put(&[from_elsewhere(&location(), 9)]).await.unwrap(), 0, "{name}");
        assert!(store.load(&location()).await.unwrap().is_none(), "{name}");
        let back = store.connect(&location(), &tokens(&location(), "new", later(30)), later(30)).await;
        assert_eq!(back.unwrap().version, Version { epoch: 4, generation: 10 }, "{name}");
        let anew = Installation {
            version: Version { epoch: 4, generation: 1 },
            connected_at: later(25),
            ..from_elsewhere(&company(), 4)
        };
        assert_eq!(
            store.put(&[anew]).await.unwrap(),
            1,
            "{name}: a newer authorisation is no backup of an old one"
        );
    });
}

#[test]
fn on_standby_grants_are_read_and_neither_refreshed_nor_taken_in() {
    run(async |name, house| {
        let (store, installation) = connected(house).await;
        assert_eq!(store.standby().await.unwrap(), None, "{name}");
        if house.kind == Kind::InPlace {
            assert!(matches!(store.set_standby(Some("why")).await, Err(StoreError::NoRoomFor { .. })));
            return;
        }
        // By the clock of the machine, because a standby is no question that a test's clock asks.
        let now = jiff::Timestamp::now().as_millisecond();
        let flying = claim(&installation, "f1", Timestamp::from_millis(now));
        assert!(matches!(store.claim(&flying).await.unwrap(), Claim::Ours { .. }), "{name}");
        let refused = house.open().set_standby(Some("moved")).await;
        assert!(matches!(refused, Err(StoreError::InTheAir { .. })), "{name}: {refused:?}");
        assert_eq!(store.standby().await.unwrap(), None, "{name}");
        store.settle(&flying, &Connection::Connected, IntentThen::StaysOpen).await.unwrap();
        house.open().set_standby(Some("moved to sqlite:other.db")).await.unwrap();

        let why = store.standby().await.unwrap();
        assert_eq!(why.as_deref(), Some("moved to sqlite:other.db"), "{name}");
        let refused = [
            store.claim(&claim(&installation, "f2", later(9))).await.map(drop),
            store.connect(&location(), &tokens(&location(), "2", later(9)), later(9)).await.map(drop),
        ];
        for refused in refused {
            assert!(
                matches!(&refused, Err(StoreError::Standby { why, .. }) if why.contains("other.db")),
                "{name}: {refused:?}"
            );
        }
        if store.can_park() {
            let parked = store.park(&company(), &tokens(&company(), "p", later(9)), later(9)).await;
            assert!(matches!(parked, Err(StoreError::Standby { .. })), "{name}: {parked:?}");
        }
        assert!(loaded(&store).await.tokens.access == installation.tokens.access, "{name}");
        // An answer that came before is saved all the same.
        let late = commit(&*store, &installation, "f1", tokens(&location(), "late", later(9)), later(9));
        assert!(matches!(store.commit(&late).await.unwrap(), Committed::Saved(_)), "{name}");
        store.set_standby(None).await.unwrap();
        store.set_standby(None).await.unwrap();
        let next = loaded(&store).await;
        assert!(
            matches!(store.claim(&claim(&next, "f3", later(10))).await.unwrap(), Claim::Ours { .. }),
            "{name}"
        );
    });
}

#[test]
fn what_is_parked_is_given_with_its_tokens_to_whoever_moves_it() {
    run(async |name, house| {
        let store = house.open();
        if !store.can_park() {
            connected(house).await;
            assert!(store.parked_grants().await.unwrap().is_empty(), "{name}");
            return;
        }
        let sets =
            [(location(), "one"), (company(), "two")].map(|(id, set)| (id.clone(), tokens(&id, set, START)));
        for (id, set) in &sets {
            store.park(id, set, later(3)).await.unwrap();
        }
        let found = store.parked_grants().await.unwrap();
        let listed = store.parked().await.unwrap();
        assert_eq!(found.iter().map(|(parked, _)| parked.clone()).collect::<Vec<_>>(), listed, "{name}");
        assert!(found.iter().zip(&sets).all(|((_, found), (_, set))| found == set), "{name}");
    });
}
