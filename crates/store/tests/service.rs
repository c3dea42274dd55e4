//! What the service needs of a store beside tokens: records, grants that wait, installations that
//! were removed, and what changed when.

#[path = "../../../tests/postgres/mod.rs"]
mod postgres;
mod sample;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use sample::{new_key, sealed_by};
use store::StoreUrl;
use tokens::records::{
    AuditLine, Badge, CheckQuery, KeyId, KeyRecord, KeyUse, Maintenance, QueuedEvent, Reach, Session, Verb,
    Visit,
};
use tokens::store::{Mark, Stand};
use tokens::{
    CheckRecord, Day, Episode, Health, InstallationId, Notice, NoticeKind, Records, Standing, StepRecord,
    StoreError, Subject, Timestamp, Trigger, Version,
};

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn location(id: &str) -> InstallationId {
    InstallationId::Location(id.parse().expect("an id"))
}

struct Place {
    folder: tempfile::TempDir,
    key: store::Key,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder"), key: new_key() }
    }

    fn open(&self) -> store::Opened {
        let url = StoreUrl::Sqlite(self.folder.path().join("tokens.db"));
        store::open_with_records(&url, &sealed_by(&self.key), None).expect("a store")
    }
}

/// Where records rest.
enum Shelf {
    BesideAFile(tempfile::TempDir),
    InPostgres(String),
}

impl Shelf {
    fn beside_a_file() -> Self {
        Self::BesideAFile(tempfile::tempdir().expect("a folder"))
    }

    fn in_postgres() -> Self {
        Self::InPostgres(postgres::server().fresh_schema())
    }

    /// The records as another process opens them.
    async fn records(&self) -> Arc<dyn Records> {
        match self {
            Self::BesideAFile(folder) => {
                let url = StoreUrl::File(folder.path().join("ghl_tokens.json"));
                store::open_with_records(&url, &store::Keys::default(), None).expect("a store").1
            }
            Self::InPostgres(url) => {
                let url = store::PostgresUrl::parse(url).expect("an address");
                store::connect_records(&url).await.expect("records")
            }
        }
    }
}

#[tokio::test]
async fn what_highlevel_told_of_is_kept_until_it_was_acted_on() {
    let place = Shelf::in_postgres();
    let handles = [place.records().await, place.records().await];
    let week = 7 * 24 * 60 * 60 * 1000;
    let event = |id: &str, at_millis| QueuedEvent {
        id: id.into(),
        kind: "UNINSTALL".into(),
        body: format!("{{\"id\": \"{id}\", \"odd\": \"\0\"}}"),
        received_at: at(at_millis),
        attempts: 0,
    };
    for (id, at_millis) in [("e2", 2), ("e1", 1), ("e3", 3)] {
        assert!(handles[0].queue_event(&event(id, at_millis)).await.expect("room"));
    }
    assert!(!handles[1].queue_event(&event("e1", 9)).await.expect("room"), "it is known");
    let due = handles[1].claim_events(at(5), at(50), 2).await.expect("events");
    assert_eq!(due, [event("e1", 1), event("e2", 2)]);
    let rest = handles[0].claim_events(at(6), at(60), 9).await.expect("events");
    assert_eq!(rest, [event("e3", 3)], "the others are leased");
    handles[1].event_done("e1", at(7), "removed").await.expect("noted");
    handles[1].put_off_event("e2", at(40), "no company yet").await.expect("noted");
    let again = handles[0].claim_events(at(45), at(70), 9).await.expect("events");
    assert_eq!(again.iter().map(|it| (it.id.as_str(), it.attempts)).collect::<Vec<_>>(), [("e2", 1)]);
    // Whoever dies with it leaves it to the next, when the lease is over.
    assert_eq!(handles[1].claim_events(at(70), at(99), 9).await.expect("events").len(), 2);
    assert!(!handles[0].queue_event(&event("e1", week)).await.expect("room"), "it was acted on this week");
    assert!(handles[0].queue_event(&event("e1", week + 2)).await.expect("room"), "that was long ago");
    handles[0].event_done("e1", at(week + 3), "removed").await.expect("noted");
    handles[0].forget(at(2 * week + 3), at(0)).await.expect("forgotten");
    assert!(handles[0].queue_event(&event("e1", week + 4)).await.expect("room"), "it was forgotten");
    assert!(!handles[0].queue_event(&event("e2", 3 * week)).await.expect("room"), "it was not acted on yet");
}

/// Neither a later program's records nor another program's database is written to.
#[test]
fn records_that_are_not_ours_to_change_are_refused_before_anything_is_written() {
    for (statement, is_too_new) in [("PRAGMA user_version = 99", true), ("PRAGMA application_id = 7", false)]
    {
        let place = Place::new();
        drop(place.open());
        let path = place.folder.path().join("tokens.db.records.db");
        rusqlite::Connection::open(&path).expect("records").execute_batch(statement).expect("changed");
        let before = std::fs::read(&path).expect("a file");
        let url = StoreUrl::Sqlite(place.folder.path().join("tokens.db"));
        let refused = store::open_with_records(&url, &sealed_by(&place.key), None).err();
        assert_eq!(matches!(refused, Some(StoreError::TooNew { .. })), is_too_new, "{refused:?}");
        assert!(refused.is_some(), "{statement}");
        assert!(std::fs::read(&path).expect("a file") == before, "{statement}: not a byte of it is changed");
    }
}

/// One story, told over every kind of records.
macro_rules! stories {
    ($($story:ident),* $(,)?) => {
        mod beside_a_file {
            $(#[tokio::test] async fn $story() { super::$story(super::Shelf::beside_a_file()).await; })*
        }
        mod in_postgres {
            $(#[tokio::test] async fn $story() { super::$story(super::Shelf::in_postgres()).await; })*
        }
    };
}

stories! {
    keys_come_back_as_they_were_and_a_change_is_seen_by_others,
    who_took_what_is_summed_up_where_it_is_counted,
    what_a_key_usually_does_is_told_from_what_is_new,
    the_history_of_checks_is_newest_first_and_forgotten_in_time,
    what_the_checks_of_a_day_found_is_summed_up_as_they_come_and_forgotten_with_them,
    many_who_add_checks_at_once_lose_none_of_them_in_the_sums,
    the_checks_that_were_there_before_are_summed_up_too,
    a_badge_is_there_for_all_until_it_is_revoked,
    who_is_signed_in_stays_so_until_they_are_signed_out,
    who_does_not_stand_well_comes_first_and_last_befallen_first,
    of_many_who_want_a_visit_or_a_turn_one_gets_it,
    what_there_is_to_tell_is_told_once_and_lasts_until_it_arrived,
    of_many_who_deliver_each_gets_its_own,
    a_maintenance_lasts_until_its_end_or_an_earlier_one,
    a_pause_lasts_until_someone_ends_it,
    history_is_noted_once_and_the_latest_fifty_lines_stay,
    an_event_is_acted_on_once_and_known_for_a_week,
    others_words_may_hold_any_character,
}

fn key(name: &str, reach: Reach) -> KeyRecord {
    KeyRecord {
        id: KeyId(name.into()),
        name: name.into(),
        hash: [7; 32],
        verbs: BTreeSet::from([Verb::Token, Verb::Admin]),
        reach,
        lane: tokens::Lane::Batch,
        allowed: ["GET,POST /contacts/*", "* /locations/**"]
            .map(|text| text.parse().expect("a pattern"))
            .into(),
        created_at: at(1),
        expires_at: Some(at(9)),
        revoked_at: None,
        last_use: None,
    }
}

#[tokio::test]
async fn beside_a_store_that_no_replicas_share_each_process_reckons_for_itself() {
    let records = Shelf::beside_a_file().records().await;
    let permits = records.take_permits("one", 1, 100, Duration::from_secs(10)).await;
    assert_eq!(permits.expect("records"), None);
}

async fn keys_come_back_as_they_were_and_a_change_is_seen_by_others(place: Shelf) {
    let (one, other) = (place.records().await, place.records().await);
    let company = InstallationId::Company("c1".parse().expect("an id"));
    let keys = [key("k1", Reach::All), key("k2", Reach::These([location("l1"), company].into()))];
    let (none, mark) = other.keys(None).await.expect("keys").expect("some");
    assert!(none.is_empty());
    for key in &keys {
        one.add_key(key).await.expect("room");
    }
    let (found, mark) = other.keys(Some(mark)).await.expect("keys").expect("a change");
    assert_eq!(found, keys);
    assert_eq!(other.keys(Some(mark)).await.expect("keys"), None);

    let used = KeyUse { at: at(5), source: "127.0.0.1".into() };
    one.note_uses(&[(keys[0].id.clone(), used.clone())]).await.expect("a note");
    let earlier = KeyUse { at: at(4), source: "unix".into() };
    one.note_uses(&[(keys[0].id.clone(), earlier)]).await.expect("a note");
    assert_eq!(other.keys(Some(mark)).await.expect("keys"), None, "a use is no change");
    assert!(one.revoke_key(&keys[0].id, at(6)).await.expect("a key"));
    assert!(!one.revoke_key(&keys[0].id, at(7)).await.expect("a key"));
    let (found, _) = other.keys(Some(mark)).await.expect("keys").expect("a change");
    assert_eq!((found[0].revoked_at, &found[0].last_use), (Some(at(6)), &Some(used)));
}

async fn who_took_what_is_summed_up_where_it_is_counted(place: Shelf) {
    let records = place.records().await;
    let line = |count, request_id: Option<&str>| AuditLine {
        at: at(60_000),
        key: KeyId("k1".into()),
        id: location("l1"),
        generation: 3,
        count,
        request_id: request_id.map(str::to_owned),
    };
    records.audit(&[line(2, None), line(1, Some("r1"))]).await.expect("room");
    records.audit(&[line(5, None), line(1, Some("r2"))]).await.expect("room");
    let lines = records.audited(10).await.expect("lines");
    let counts: Vec<_> = lines.iter().map(|line| (line.count, line.request_id.as_deref())).collect();
    assert_eq!(counts, [(1, Some("r2")), (1, Some("r1")), (7, None)]);
}

async fn what_a_key_usually_does_is_told_from_what_is_new(place: Shelf) {
    let records = place.records().await;
    for name in ["k1", "k2"] {
        records.add_key(&key(name, Reach::All)).await.expect("room");
    }
    let line = |at_millis, id: &str| AuditLine {
        at: at(at_millis),
        key: KeyId("k1".into()),
        id: location(id),
        generation: 1,
        count: 1,
        request_id: None,
    };
    records.audit(&[line(10, "l1"), line(60, "l1"), line(70, "l2"), line(80, "l2")]).await.expect("room");
    for (at_millis, source) in [(10, "unix"), (60, "10.0.0.1"), (70, "unix")] {
        let used = KeyUse { at: at(at_millis), source: source.into() };
        records.note_uses(&[(KeyId("k1".into()), used)]).await.expect("a note");
    }
    let habits = records.habits(at(50)).await.expect("habits");
    let told: Vec<_> = habits
        .iter()
        .map(|it| (it.name.as_str(), it.has_read, it.newly_read, it.has_come, it.new_source.as_deref()))
        .collect();
    assert_eq!(told, [("k1", true, 1, true, Some("10.0.0.1")), ("k2", false, 0, false, None)]);
}

async fn the_history_of_checks_is_newest_first_and_forgotten_in_time(place: Shelf) {
    let records = place.records().await;
    let check = |id: &str, at_millis| CheckRecord {
        id: location(id),
        at: at(at_millis),
        took: Duration::from_millis(12),
        trigger: Trigger::Clock,
        health: Health::Down,
        code: Some("unreachable".into()),
        said: Some("no answer".into()),
        steps: vec![StepRecord {
            name: "read".into(),
            ok: false,
            took: Duration::from_millis(11),
            trace_id: Some("t1".into()),
        }],
    };
    for (id, at) in [("l1", 1), ("l2", 2), ("l1", 3)] {
        records.add_check(&check(id, at)).await.expect("room");
    }
    let ask = |id: Option<&str>, before: Option<i64>, limit| CheckQuery {
        id: id.map(location),
        before: before.map(at),
        limit,
    };
    let found = records.checks(&ask(None, None, 2)).await.expect("checks");
    assert_eq!(found, [check("l1", 3), check("l2", 2)]);
    let found = records.checks(&ask(Some("l1"), Some(3), 9)).await.expect("checks");
    assert_eq!(found, [check("l1", 1)]);
    records.forget(at(3), at(3)).await.expect("forgotten");
    assert_eq!(records.checks(&ask(None, None, 9)).await.expect("checks"), [check("l1", 3)]);
}

const DAY: i64 = 24 * 60 * 60 * 1000;

fn check_of(id: &str, at_millis: i64, health: Health) -> CheckRecord {
    CheckRecord {
        id: location(id),
        at: at(at_millis),
        took: Duration::from_millis(12),
        trigger: Trigger::Clock,
        health,
        code: None,
        said: None,
        steps: Vec::new(),
    }
}

fn day(number: i64, checks: u64, good: u64) -> Day {
    Day { number, checks, good }
}

async fn what_the_checks_of_a_day_found_is_summed_up_as_they_come_and_forgotten_with_them(place: Shelf) {
    let (one, other) = (place.records().await, place.records().await);
    for (id, at, health) in [
        ("l1", 100 * DAY, Health::Operational),
        ("l1", 100 * DAY + 1, Health::Degraded),
        ("l1", 101 * DAY - 1, Health::Down),
        ("l2", 101 * DAY, Health::Suspended),
        ("l1", 102 * DAY, Health::NeedsPerson),
        ("l2", 189 * DAY, Health::Operational),
        ("l2", 190 * DAY, Health::Operational),
    ] {
        one.add_check(&check_of(id, at, health)).await.expect("room");
    }
    let of_one = async |id: &str, since| other.days(Some(&location(id)), since).await.expect("days");
    let of_all = async |since| other.days(None, since).await.expect("days");
    assert_eq!(of_one("l1", 100).await, [day(100, 3, 2), day(102, 1, 0)]);
    assert_eq!(of_one("l2", 100).await, [day(101, 1, 0), day(189, 1, 1)], "ninety days, and no more");
    assert_eq!(of_one("l2", 102).await, [day(189, 1, 1), day(190, 1, 1)]);
    assert_eq!(of_one("nobody", 100).await, []);
    let all = [day(100, 3, 2), day(101, 1, 0), day(102, 1, 0), day(189, 1, 1)];
    assert_eq!(of_all(100).await, all);
    let ids = ["l2", "nobody", "l1"].map(location);
    let found = other.days_of(&ids, 100).await.expect("days");
    let expected = [
        (location("l1"), vec![day(100, 3, 2), day(102, 1, 0)]),
        (location("l2"), vec![day(101, 1, 0), day(189, 1, 1)]),
        (location("nobody"), Vec::new()),
    ];
    assert_eq!(found, expected.into());
    one.forget(at(101 * DAY + 5), at(0)).await.expect("forgotten");
    assert_eq!(of_one("l1", 100).await, [day(102, 1, 0)]);
    assert_eq!(of_all(100).await, all[1..], "a day that has begun stays");
}

async fn many_who_add_checks_at_once_lose_none_of_them_in_the_sums(place: Shelf) {
    let mut adding = tokio::task::JoinSet::new();
    for number in 0..4_i64 {
        let records = place.records().await;
        adding.spawn(async move {
            for round in 0..20 {
                // Of the same few, each in an order of its own.
                let id = format!("l{}", (round * (number + 1)) % 5);
                let check = check_of(&id, 7 * DAY + number * 1000 + round, Health::Operational);
                records.add_check(&check).await.expect("room");
            }
        });
    }
    adding.join_all().await;
    let records = place.records().await;
    assert_eq!(records.days(None, 0).await.expect("days"), [day(7, 80, 80)]);
    let ids = ["l0", "l1", "l2", "l3", "l4"].map(location);
    let found = records.days_of(&ids, 0).await.expect("days");
    assert_eq!(found.values().flatten().map(|day| day.checks).sum::<u64>(), 80);
}

async fn the_checks_that_were_there_before_are_summed_up_too(place: Shelf) {
    place.records().await;
    // As it was.
    let before = format!(
        "DROP TABLE @days; DROP TABLE @badges;
         INSERT INTO @checks (kind, id, at, took_ms, cause, health, steps) VALUES
             ('location', 'l1', {0}, 1, 'clock', 'operational', '[]'),
             ('location', 'l1', {0} + 1, 1, 'clock', 'down', '[]'),
             ('location', 'l2', {0} + 2, 1, 'clock', 'degraded', '[]'),
             ('location', 'l2', {0} + {DAY}, 1, 'clock', 'suspended', '[]');",
        50 * DAY
    );
    match &place {
        Shelf::BesideAFile(folder) => {
            let records = folder.path().join("ghl_tokens.json.records.db");
            let database = rusqlite::Connection::open(records).expect("the records");
            let version: i64 =
                database.query_row("PRAGMA user_version", [], |row| row.get(0)).expect("a version");
            let set_back = format!(
                "DROP TRIGGER checks_counted; {} PRAGMA user_version = {}",
                before.replace('@', ""),
                version - 1
            );
            database.execute_batch(&set_back).expect("set back");
        }
        Shelf::InPostgres(url) => {
            let schema = url.split("schema=").nth(1).expect("a schema");
            postgres::server().sql(&format!(
                "DROP TRIGGER checks_counted ON {schema}.checks; DROP FUNCTION {schema}.count_check; {}
                 UPDATE {schema}.versions SET version = version - 1 WHERE part = 'records'",
                before.replace('@', &format!("{schema}."))
            ));
        }
    }
    let records = place.records().await;
    assert_eq!(records.days(None, 0).await.expect("days"), [day(50, 3, 2), day(51, 1, 0)]);
    assert_eq!(records.days(Some(&location("l1")), 0).await.expect("days"), [day(50, 2, 1)]);
    records.add_check(&check_of("l1", 50 * DAY + 9, Health::Operational)).await.expect("room");
    assert_eq!(records.days(Some(&location("l1")), 0).await.expect("days"), [day(50, 3, 2)]);
}

async fn a_badge_is_there_for_all_until_it_is_revoked(place: Shelf) {
    let (one, other) = (place.records().await, place.records().await);
    let badge = |name: &str, about: Option<InstallationId>, created_at| Badge {
        name: name.into(),
        about,
        label: "my <service>".into(),
        created_at: at(created_at),
    };
    let badges = [badge("b2", None, 1), badge("b1", Some(location("l1")), 2)];
    for badge in &badges {
        one.add_badge(badge).await.expect("room");
    }
    assert!(one.add_badge(&badges[0]).await.is_err(), "a name is one badge's");
    assert_eq!(other.badges().await.expect("badges"), badges);
    assert!(other.revoke_badge("b2").await.expect("revoked"));
    assert!(!one.revoke_badge("b2").await.expect("a look"));
    assert_eq!(one.badges().await.expect("badges"), badges[1..]);
}

async fn of_many_who_want_a_visit_or_a_turn_one_gets_it(place: Shelf) {
    let handles = [place.records().await, place.records().await];
    let visit = Visit { state: [1; 32], browser: [2; 32], expires_at: at(100) };
    handles[0].open_visit(&visit).await.expect("room");
    assert_eq!(handles[0].take_visit(&[9; 32], at(1)).await.expect("a look"), None);
    let mut asking = tokio::task::JoinSet::new();
    for number in 0..32 {
        let records = handles[number % 2].clone();
        asking.spawn(async move {
            let visit = records.take_visit(&[1; 32], at(1)).await.expect("a look").is_some();
            (visit, records.take_turn("check l1", at(1), at(50)).await.expect("a look"))
        });
    }
    let got = asking.join_all().await;
    assert_eq!(got.iter().filter(|(visit, _)| *visit).count(), 1);
    assert_eq!(got.iter().filter(|(_, turn)| *turn).count(), 1);
    assert!(!handles[1].take_turn("check l1", at(49), at(99)).await.expect("a look"));
    assert!(handles[1].take_turn("check l1", at(50), at(99)).await.expect("a look"), "its time is up");
    handles[0].open_visit(&visit).await.expect("room");
    assert_eq!(handles[0].take_visit(&[1; 32], at(100)).await.expect("a look"), None, "too late");
}

async fn who_is_signed_in_stays_so_until_they_are_signed_out(place: Shelf) {
    let (one, other) = (place.records().await, place.records().await);
    let session = |number, key: Option<&str>| Session {
        cookie: [number; 32],
        key: key.map(|key| KeyId(key.to_owned())),
        began_at: at(10),
        used_at: at(10),
    };
    for session in [session(1, Some("k1")), session(2, None), session(3, None)] {
        one.open_session(&session).await.expect("room");
    }
    assert_eq!(other.session(&[1; 32]).await.expect("a look"), Some(session(1, Some("k1"))));
    assert_eq!(other.session(&[9; 32]).await.expect("a look"), None);
    other.use_session(&[2; 32], at(20)).await.expect("noted");
    let used = Session { used_at: at(20), ..session(2, None) };
    assert_eq!(one.session(&[2; 32]).await.expect("a look"), Some(used));
    one.end_sessions(Some(&[1; 32])).await.expect("ended");
    assert_eq!(other.session(&[1; 32]).await.expect("a look"), None);
    one.forget(at(15), at(15)).await.expect("forgotten");
    assert_eq!(one.session(&[3; 32]).await.expect("a look"), None, "nobody used it since");
    assert!(one.session(&[2; 32]).await.expect("a look").is_some());
    one.end_sessions(None).await.expect("ended");
    assert_eq!(other.session(&[2; 32]).await.expect("a look"), None);
}

async fn who_does_not_stand_well_comes_first_and_last_befallen_first(place: Shelf) {
    let records = place.records().await;
    let standing = |id: &str, health, since| Standing {
        subject: Subject::Installation(location(id)),
        revision: 1,
        health,
        since: at(since),
        failures: 1,
        code: None,
        said: None,
        told: health,
        told_at: None,
        changes: Vec::new(),
    };
    for (id, health, since) in [
        ("l1", Health::Operational, 9),
        ("l2", Health::Down, 3),
        ("l3", Health::NeedsPerson, 7),
        ("l4", Health::Degraded, 5),
    ] {
        assert!(records.tell(&standing(id, health, since), None, &[]).await.expect("room"));
    }
    let troubled = |limit| {
        let records = records.clone();
        async move {
            let found = records.troubled(limit).await.expect("a look");
            found.into_iter().map(|standing| standing.since).collect::<Vec<_>>()
        }
    };
    assert_eq!(troubled(9).await, [at(7), at(5), at(3)]);
    assert_eq!(troubled(2).await, [at(7), at(5)]);
}

async fn what_there_is_to_tell_is_told_once_and_lasts_until_it_arrived(place: Shelf) {
    let (one, other) = (place.records().await, place.records().await);
    let standing = |revision, health| Standing {
        subject: Subject::Installation(location("l1")),
        revision,
        health,
        since: at(1),
        failures: 2,
        code: Some("down".into()),
        said: None,
        told: health,
        told_at: Some(at(1)),
        changes: vec![at(1)],
    };
    let notice = Notice {
        id: "n1".into(),
        at: at(1),
        subject: Subject::Installation(location("l1")),
        kind: NoticeKind::Trouble,
        health: Health::Down,
        since: at(1),
        code: Some("down".into()),
        said: Some("no answer".into()),
    };
    let ways = ["slack".to_owned(), "webhook".to_owned()];
    let down = standing(1, Health::Down);
    assert!(one.tell(&down, Some(&notice), &ways).await.expect("room"));
    assert!(!other.tell(&down, Some(&notice), &ways).await.expect("room"), "someone was faster");
    assert!(!other.tell(&standing(3, Health::Down), None, &[]).await.expect("room"));
    assert_eq!(other.standings().await.expect("standings"), std::slice::from_ref(&down));
    assert!(other.tell(&standing(2, Health::Operational), None, &[]).await.expect("room"));

    let due = one.claim_deliveries(at(2), at(50), 9).await.expect("deliveries");
    assert_eq!(due.iter().map(|due| due.way.as_str()).collect::<Vec<_>>(), ways);
    assert_eq!(due[0].notice, notice);
    assert!(other.claim_deliveries(at(3), at(60), 9).await.expect("deliveries").is_empty(), "leased");
    one.delivered(&due[0], at(4)).await.expect("noted");
    one.put_off(&due[1], at(70), "no route").await.expect("noted");
    let again = other.claim_deliveries(at(70), at(90), 9).await.expect("deliveries");
    assert_eq!(
        again.iter().map(|due| (due.way.as_str(), due.attempts)).collect::<Vec<_>>(),
        [("webhook", 1)]
    );
    // Whoever dies with it leaves it to the next, when the lease is over.
    assert_eq!(one.claim_deliveries(at(90), at(99), 9).await.expect("deliveries").len(), 1);
    one.forget(at(500), at(500)).await.expect("forgotten");
    let told = one.notices(9).await.expect("notices");
    assert_eq!(told[0].1.len(), 1, "what has not arrived is not forgotten");
    assert_eq!(told[0].1[0].said.as_deref(), Some("no route"));
}

async fn of_many_who_deliver_each_gets_its_own(place: Shelf) {
    let handles = [place.records().await, place.records().await];
    for number in 0..24 {
        let subject = Subject::Installation(location(&format!("l{number}")));
        let standing = Standing {
            subject: subject.clone(),
            revision: 1,
            health: Health::Down,
            since: at(1),
            failures: 1,
            code: None,
            said: None,
            told: Health::Down,
            told_at: None,
            changes: Vec::new(),
        };
        let notice = Notice {
            id: format!("n{number}"),
            at: at(1),
            subject,
            kind: NoticeKind::Trouble,
            health: Health::Down,
            since: at(1),
            code: None,
            said: None,
        };
        assert!(handles[0].tell(&standing, Some(&notice), &["slack".into()]).await.expect("room"));
    }
    let mut claiming = tokio::task::JoinSet::new();
    for number in 0..16 {
        let records = handles[number % 2].clone();
        claiming.spawn(async move { records.claim_deliveries(at(2), at(50), 5).await.expect("deliveries") });
    }
    let mut claimed: Vec<String> =
        claiming.join_all().await.into_iter().flatten().map(|delivery| delivery.notice.id).collect();
    // Whoever was passed over by all finds what is left.
    claimed.extend(
        handles[0]
            .claim_deliveries(at(2), at(50), 99)
            .await
            .expect("deliveries")
            .into_iter()
            .map(|it| it.notice.id),
    );
    let all: BTreeSet<&String> = claimed.iter().collect();
    assert_eq!((claimed.len(), all.len()), (24, 24), "each once");
}

async fn others_words_may_hold_any_character(place: Shelf) {
    let records = place.records().await;
    let window = Maintenance {
        id: "m1".into(),
        subject: None,
        from: at(1),
        until: Some(at(9)),
        reason: "a\0b 'c' \u{1f600}".into(),
    };
    records.plan_maintenance(&window).await.expect("room");
    let kept = records.maintenances(at(2)).await.expect("windows");
    assert_eq!(kept[0].reason.chars().count(), window.reason.chars().count());
    assert!(kept[0].reason.ends_with("'c' \u{1f600}"));
    assert!(records.take_turn("a\0turn", at(1), at(2)).await.expect("a look"));
}

async fn a_maintenance_lasts_until_its_end_or_an_earlier_one(place: Shelf) {
    let records = place.records().await;
    let window = |id: &str, subject| Maintenance {
        id: id.into(),
        subject,
        from: at(1),
        until: Some(at(100)),
        reason: "moving".into(),
    };
    let planned = [window("m1", None), window("m2", Some(Subject::Installation(location("l1"))))];
    for window in &planned {
        records.plan_maintenance(window).await.expect("room");
    }
    assert_eq!(records.maintenances(at(2)).await.expect("windows"), planned);
    assert!(records.end_maintenance("m1", at(3)).await.expect("ended"));
    assert!(!records.end_maintenance("m1", at(4)).await.expect("ended"));
    assert_eq!(records.maintenances(at(4)).await.expect("windows"), planned[1..]);
    assert!(records.maintenances(at(100)).await.expect("windows").is_empty());
}

async fn history_is_noted_once_and_the_latest_fifty_lines_stay(place: Shelf) {
    let (records, other) = (place.records().await, place.records().await);
    let episode = |whose: &str, number: i64| Episode {
        id: location(whose),
        at: at(number * 10),
        version: Version { epoch: 1, generation: number.unsigned_abs() },
        expires_at: at(number * 10 + 5),
        stand: if number % 7 == 0 { Stand::Suspended } else { Stand::Connected },
        said: (number % 7 == 0).then(|| "it's \"paused\"".to_owned()),
    };
    for number in 1..=60 {
        for records in [&records, &other, &records] {
            records.note_episode(&episode("l1", number)).await.expect("room");
        }
    }
    records.note_episode(&episode("l2", 3)).await.expect("room");
    let kept = other.history(&location("l1"), 100).await.expect("the history");
    let expected: Vec<Episode> = (11..=60).rev().map(|number| episode("l1", number)).collect();
    assert_eq!(kept, expected);
    assert_eq!(records.history(&location("l1"), 2).await.expect("the history"), expected[..2]);
    assert_eq!(records.history(&location("l2"), 9).await.expect("the history"), [episode("l2", 3)]);
    // What moves to other records comes once, too.
    let lines: Vec<_> = records.lines(None, 1000).await.expect("lines");
    let lines: Vec<_> = lines.into_iter().filter(|line| line.table == "history").collect();
    assert_eq!(lines.len(), 51);
    let shelf = Shelf::beside_a_file();
    let elsewhere = shelf.records().await;
    for _ in 0..2 {
        elsewhere.take_lines(&lines).await.expect("room");
    }
    assert_eq!(elsewhere.history(&location("l1"), 100).await.expect("the history"), expected);
    records.forget(at(500), at(0)).await.expect("forgotten");
    assert_eq!(records.history(&location("l1"), 100).await.expect("the history").len(), 11);
}

async fn a_pause_lasts_until_someone_ends_it(place: Shelf) {
    let records = place.records().await;
    let whose = location("l1");
    let subject = Some(Subject::Installation(whose.clone()));
    let pause = Maintenance { id: "m1".into(), subject, from: at(1), until: None, reason: String::new() };
    records.plan_maintenance(&pause).await.expect("room");
    let years_later = at(1) + Duration::from_secs(100 * 365 * 86_400);
    let kept = records.maintenances(years_later).await.expect("windows");
    assert_eq!(kept, [pause]);
    assert_eq!(kept[0].pauses(), Some(&whose));
    assert!(records.end_maintenance("m1", years_later).await.expect("ended"));
    assert!(records.maintenances(years_later).await.expect("windows").is_empty());
}

fn event(id: &str, received_at: Timestamp) -> QueuedEvent {
    let body = format!(r#"{{"type":"INSTALL","webhookId":"{id}"}}"#);
    QueuedEvent { id: id.into(), kind: "INSTALL".into(), body, received_at, attempts: 0 }
}

async fn an_event_is_acted_on_once_and_known_for_a_week(place: Shelf) {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let start = at(1_790_000_000_000);
    let (one, other) = (place.records().await, place.records().await);
    assert!(one.claim_events(start, start + DAY, 9).await.expect("a look").is_empty());
    assert!(one.queue_event(&event("e2", start + Duration::from_secs(1))).await.expect("queued"));
    assert!(one.queue_event(&event("e1", start)).await.expect("queued"));
    for records in [&one, &other] {
        assert!(!records.queue_event(&event("e1", start)).await.expect("known"));
    }
    // Of many who want them, each gets what no other has; what came first comes first.
    let now = start + Duration::from_secs(2);
    let lease = now + Duration::from_secs(60);
    let mut all = tokio::task::JoinSet::new();
    for number in 0..16 {
        let records = if number % 2 == 0 { one.clone() } else { other.clone() };
        all.spawn(async move { records.claim_events(now, lease, 1).await.expect("a look") });
    }
    let mut claimed = all.join_all().await.concat();
    claimed.sort_by_key(|event| event.received_at);
    assert_eq!(claimed, [event("e1", start), event("e2", start + Duration::from_secs(1))]);

    // What nobody ended comes again when its lease is over, and what was put off when it is time.
    one.put_off_event("e1", lease + DAY / 48, "no company yet").await.expect("put off");
    one.event_done("e2", lease, "served").await.expect("done");
    one.put_off_event("e2", lease, "too late").await.expect("nothing");
    assert!(other.claim_events(lease, lease + DAY / 24, 9).await.expect("a look").is_empty());
    let again = other.claim_events(lease + DAY / 48, lease + DAY / 24, 9).await.expect("a look");
    assert_eq!(again, [QueuedEvent { attempts: 1, ..event("e1", start) }]);
    let again = one.claim_events(lease + DAY / 24, lease + DAY / 12, 9).await.expect("a look");
    assert_eq!(again.len(), 1, "whoever had it has died");
    // A lease by a clock that was ahead holds nobody up.
    one.claim_events(lease + DAY, lease + DAY * 3, 9).await.expect("a look");
    assert_eq!(one.claim_events(lease + DAY, lease + DAY * 2, 9).await.expect("a look").len(), 1);
    one.event_done("e1", lease + DAY, "given up").await.expect("done");

    // Of what was acted on, the body is gone, and nothing is acted on again within a week.
    let bodies = match &place {
        Shelf::BesideAFile(folder) => {
            let database = rusqlite::Connection::open(folder.path().join("ghl_tokens.json.records.db"));
            let bodies = "SELECT count(*) FROM events WHERE body IS NOT NULL";
            database.expect("a database").query_row(bodies, [], |row| row.get(0)).expect("a number")
        }
        // No line has a body then.
        Shelf::InPostgres(_) => {
            let lines = one.lines(None, 99).await.expect("lines");
            assert_eq!(lines.iter().filter(|line| line.table == "events").count(), 2);
            lines.iter().filter(|line| line.row.contains("INSTALL\\\"")).count() as i64
        }
    };
    assert_eq!(bodies, 0);
    for days in [0, 6] {
        assert!(!other.queue_event(&event("e1", start + DAY * days)).await.expect("known"), "{days}");
    }
    let moment = Duration::from_millis(1);
    assert!(other.queue_event(&event("e1", start + DAY * 7 + moment)).await.expect("queued"));
    assert_eq!(one.claim_events(start + DAY * 8, start + DAY * 9, 9).await.expect("a look").len(), 1);
    one.event_done("e1", start + DAY * 8, "served").await.expect("done");
}

#[tokio::test]
async fn what_is_parked_is_not_served_until_it_is_approved() {
    let place = Place::new();
    let (store, _) = place.open();
    let id = location("l1");
    let tokens = sample::tokens(&id, "parked", at(1));
    store.park(&id, &tokens, at(2)).await.expect("room");
    assert!(store.load(&id).await.expect("a look").is_none());
    let parked = store.parked().await.expect("parked");
    assert_eq!(parked.iter().map(|parked| (&parked.id, parked.at)).collect::<Vec<_>>(), [(&id, at(2))]);
    drop(store);
    for file in std::fs::read_dir(place.folder.path()).expect("files") {
        let bytes = std::fs::read(file.expect("a file").path()).expect("bytes");
        let access = tokens.access.expose().as_bytes();
        assert!(!bytes.windows(24).any(|part| part == &access[200..224]), "it is sealed");
    }
    // Under a new key, too.
    let newer = new_key();
    let url = StoreUrl::Sqlite(place.folder.path().join("tokens.db"));
    let keys = store::Keys { current: Some(newer.clone()), old: vec![place.key.clone()] };
    let (store, _) = store::open_with_records(&url, &keys, None).expect("sealed anew");
    let approved = store.approve(&id, at(3)).await.expect("approved").expect("it was there");
    assert_eq!(approved.tokens, tokens);
    assert!(store.approve(&id, at(4)).await.expect("a look").is_none());
    assert_eq!(store.load(&id).await.expect("a look").map(|found| found.tokens), Some(tokens.clone()));
    store.park(&id, &tokens, at(5)).await.expect("room");
    assert!(store.dismiss(&id).await.expect("a look"));
    assert!(!store.dismiss(&id).await.expect("a look"));
}

#[tokio::test]
async fn what_was_removed_is_gone_for_a_flight_and_comes_back_above_itself() {
    let place = Place::new();
    let ((store, _), (other, _)) = (place.open(), place.open());
    let id = location("l1");
    let first = store.connect(&id, &sample::tokens(&id, "one", at(1)), at(1)).await.expect("connected");
    let mark = other.changes(Mark::default()).await.expect("a mark").mark;
    assert!(store.remove(&id, at(2)).await.expect("removed"));
    assert!(!store.remove(&id, at(3)).await.expect("a look"));
    assert_eq!(other.changes(mark).await.expect("changes").ids, std::slice::from_ref(&id));
    let late = sample::commit(store.as_ref(), &first, "f1", sample::tokens(&id, "late", at(2)), at(2));
    assert!(matches!(store.commit(&late).await.expect("an answer"), tokens::store::Committed::Gone));
    assert!(store.load(&id).await.expect("a look").is_none());
    let tokens = sample::tokens(&id, "two", at(4));
    let back = store.connect(&id, &tokens, at(4)).await.expect("connected");
    assert!(back.version > first.version && back.version.epoch > first.version.epoch);
    assert!(matches!(store.commit(&late).await.expect("an answer"), tokens::store::Committed::Superseded(_)));
}

#[tokio::test]
async fn a_change_is_told_once_to_each_who_asks() {
    let place = Place::new();
    let ((store, _), (other, _)) = (place.open(), place.open());
    let mark = other.changes(Mark::default()).await.expect("a mark").mark;
    assert_ne!(mark, Mark::default());
    assert!(other.changes(mark).await.expect("changes").ids.is_empty());
    for name in ["l1", "l2"] {
        let id = location(name);
        store.connect(&id, &sample::tokens(&id, name, at(1)), at(1)).await.expect("connected");
    }
    let changes = other.changes(mark).await.expect("changes");
    assert_eq!(changes.ids, [location("l1"), location("l2")]);
    assert!(other.changes(changes.mark).await.expect("changes").ids.is_empty());
    let check = tokens::LastCheck { at: at(2), health: Health::Operational, code: None, said: None };
    store.note_check(&location("l1"), &check).await.expect("noted");
    assert!(other.changes(changes.mark).await.expect("changes").ids.is_empty(), "a note is no change");
}

#[tokio::test]
async fn what_is_remembered_moves_to_other_records_as_it_is_and_only_once() {
    moves(&Shelf::beside_a_file(), &Shelf::beside_a_file()).await;
    moves(&Shelf::beside_a_file(), &Shelf::in_postgres()).await;
    moves(&Shelf::in_postgres(), &Shelf::beside_a_file()).await;
    moves(&Shelf::in_postgres(), &Shelf::in_postgres()).await;
}

async fn moves(place: &Shelf, elsewhere: &Shelf) {
    let (one, other) = (place.records().await, elsewhere.records().await);
    let keys = [key("k1", Reach::All), key("k2", Reach::These([location("l1")].into()))];
    for key in &keys {
        one.add_key(key).await.expect("room");
    }
    let line = |request_id: Option<&str>| AuditLine {
        at: at(60_000),
        key: KeyId("k1".into()),
        id: location("l1"),
        generation: 3,
        count: 2,
        request_id: request_id.map(str::to_owned),
    };
    let audit = [line(None), line(Some("r1")), line(Some("r2"))];
    one.audit(&audit).await.expect("room");
    let check = CheckRecord {
        id: location("l1"),
        at: at(5),
        took: Duration::from_millis(7),
        trigger: Trigger::Clock,
        health: Health::Down,
        code: Some("refused".into()),
        // Words that look like the form in which bytes travel.
        said: Some("\\x41 ação".into()),
        steps: vec![StepRecord { name: "read".into(), ok: false, took: Duration::ZERO, trace_id: None }],
    };
    one.add_check(&check).await.expect("room");
    let badge =
        Badge { name: "b1".into(), about: Some(location("l1")), label: "x".into(), created_at: at(1) };
    one.add_badge(&badge).await.expect("room");
    let window =
        Maintenance { id: "m1".into(), subject: None, from: at(1), until: Some(at(99)), reason: "x".into() };
    one.plan_maintenance(&window).await.expect("room");
    let (told, untold) = (notice_of("n1", "l1"), notice_of("n2", "l2"));
    for (notice, id) in [(&told, "l1"), (&untold, "l2")] {
        let standing = Standing {
            subject: Subject::Installation(location(id)),
            revision: 1,
            health: Health::Down,
            since: at(1),
            failures: 2,
            code: None,
            said: None,
            told: Health::Down,
            told_at: Some(at(2)),
            changes: vec![at(1)],
        };
        assert!(one.tell(&standing, Some(notice), &["webhook".to_owned()]).await.expect("told"));
    }
    let due = one.claim_deliveries(at(10), at(20), 1).await.expect("due");
    one.delivered(&due[0], at(11)).await.expect("noted");
    let left = if due[0].notice == told { untold } else { told };

    let (_, mark) = other.keys(None).await.expect("keys").expect("some");
    // A line at a time, and all of it twice: as after a kill in the middle.
    for _ in 0..2 {
        let mut after = None;
        loop {
            let page = one.lines(after.as_ref(), 1).await.expect("lines");
            let Some(last) = page.last() else { break };
            other.take_lines(&page).await.expect("room");
            after = Some(last.clone());
        }
    }
    let (found, _) = other.keys(Some(mark)).await.expect("keys").expect("a change");
    assert_eq!(found, keys);
    assert_eq!(other.audited(9).await.expect("lines"), one.audited(9).await.expect("lines"));
    assert_eq!(other.checks(&CheckQuery { limit: 9, ..CheckQuery::default() }).await.expect("read"), [check]);
    assert_eq!(other.days(None, 0).await.expect("read"), [day(0, 1, 0)], "a check counts once");
    assert_eq!(other.days(Some(&location("l1")), 0).await.expect("read"), [day(0, 1, 0)]);
    assert_eq!(other.badges().await.expect("read"), [badge]);
    assert_eq!(other.maintenances(at(2)).await.expect("read"), [window]);
    assert_eq!(other.standings().await.expect("read"), one.standings().await.expect("read"));
    let due = other.claim_deliveries(at(30), at(40), 9).await.expect("due");
    assert_eq!(due.into_iter().map(|due| due.notice).collect::<Vec<_>>(), [left], "what was told stays told");
}

fn notice_of(name: &str, id: &str) -> Notice {
    Notice {
        id: name.into(),
        at: at(2),
        subject: Subject::Installation(location(id)),
        kind: NoticeKind::Trouble,
        health: Health::Down,
        since: at(1),
        code: None,
        said: None,
    }
}
