//! What a PostgreSQL database may be, may have become, and may not be.
#![allow(clippy::unwrap_used, reason = "a failure here is the test's own answer")]

#[path = "../../../tests/postgres/mod.rs"]
mod postgres;
mod sample;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use postgres::{PASSWORD, Server, given, is_left_out, schema_of, server};
use sample::*;
use store::{Keys, StoreUrl};
use tokens::records::Verb;
use tokens::store::{Claim, Committed, Listing, Mark, Order, Stand};
use tokens::{InstallationId, Lane, Records, Store, StoreError, Timestamp};
use tokio::time::Instant;

async fn connect(url: &str, keys: &Keys, folder: &Path) -> Result<Arc<dyn Store>, StoreError> {
    store::connect(&StoreUrl::parse(url).unwrap(), keys, &folder.join("spool"), None).await
}

/// A database with three installations, the first in its second generation; its address and its key.
async fn filled(folder: &Path) -> (String, Keys) {
    let (url, keys) = (server().fresh_schema(), sealed_by(&new_key()));
    let store = connect(&url, &keys, folder).await.unwrap();
    for id in [other_location(), company(), location()] {
        store.connect(&id, &tokens(&id, "1", START), START).await.unwrap();
    }
    let first = store.load(&location()).await.unwrap().unwrap();
    let commit = commit(&*store, &first, "f1", tokens(&location(), "2", START), START);
    assert!(matches!(store.commit(&commit).await.unwrap(), Committed::Saved(_)));
    (url, keys)
}

fn execute(url: &str, sql: &str) -> String {
    server().sql(&sql.replace("@.", &format!("{}.", schema_of(url))))
}

#[tokio::test]
async fn a_key_is_asked_for_before_anything_is_made_and_another_is_refused_before_any_write() {
    if is_left_out() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let url = server().fresh_schema();
    let refused = connect(&url, &Keys::default(), folder.path()).await.err();
    assert!(matches!(refused, Some(StoreError::KeyMissing { .. })), "{refused:?}");
    let made = format!("SELECT count(*) FROM pg_namespace WHERE nspname = '{}'", schema_of(&url));
    assert_eq!(server().sql(&made), "0");

    let (url, keys) = filled(folder.path()).await;
    let rows = "SELECT md5(string_agg(t::text, '' ORDER BY t::text)) FROM";
    let all = || ["installations", "sets", "meta"].map(|table| execute(&url, &format!("{rows} @.{table} t")));
    let before = all();
    let its_id = keys.current.as_ref().unwrap().id();
    let refused = connect(&url, &sealed_by(&new_key()), folder.path()).await.err();
    assert!(
        matches!(&refused, Some(StoreError::WrongKey { key_id, .. }) if *key_id == its_id),
        "{refused:?}"
    );
    assert!(!format!("{refused:?}").contains(PASSWORD));
    assert_eq!(all(), before);

    execute(&url, "UPDATE @.versions SET version = 99");
    let refused = connect(&url, &keys, folder.path()).await.err();
    assert!(matches!(refused, Some(StoreError::TooNew { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_set_that_was_altered_or_moved_opens_nowhere() {
    if is_left_out() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (location(), other_location());
    let put = |from: &InstallationId, generation: u64, to: &InstallationId| {
        format!(
            "UPDATE @.sets SET sealed = (SELECT sealed FROM @.sets WHERE kind = '{}' AND id = '{}'
                AND generation = {generation}) WHERE kind = '{}' AND id = '{}'",
            from.kind(),
            from.as_str(),
            to.kind(),
            to.as_str()
        )
    };
    let alterations = [
        (other.clone(), put(&company(), 1, &other)),
        (other.clone(), put(&one, 2, &other)),
        (one.clone(), format!("{} AND generation = 2", put(&one, 1, &one))),
        (one.clone(), "UPDATE @.sets SET sealed = set_byte(sealed, 40, get_byte(sealed, 40) # 1)".to_owned()),
        (one.clone(), "DELETE FROM @.sets WHERE generation = 2".to_owned()),
        (one.clone(), "UPDATE @.installations SET epoch = 2".to_owned()),
    ];
    for (victim, sql) in alterations {
        let (url, keys) = filled(folder.path()).await;
        let store = connect(&url, &keys, folder.path()).await.unwrap();
        assert!(store.load(&victim).await.unwrap().is_some());
        execute(&url, &sql);
        let refused = store.load(&victim).await;
        assert!(matches!(refused, Err(StoreError::SealBroken { .. })), "{sql}: {refused:?}");
        let seen = store.overview(&Listing::ALL).await.unwrap().into_iter().find(|it| it.id == victim);
        let version = seen.unwrap().version;
        let claim =
            tokens::store::ClaimRequest { flight: flight("f"), id: victim, seen: version, now: START };
        assert!(store.claim(&claim).await.is_err(), "{sql}: nothing is sent for it");
    }
}

#[tokio::test]
async fn a_set_before_that_does_not_open_keeps_nobody_from_the_present_one() {
    if is_left_out() {
        return;
    }
    let another = "UPDATE @.sets SET sealed = (SELECT sealed FROM @.sets WHERE kind = 'company')";
    for what in [another, "UPDATE @.sets SET sealed = 'nonsense'", "DELETE FROM @.sets"] {
        let folder = tempfile::tempdir().unwrap();
        let (url, keys) = filled(folder.path()).await;
        execute(&url, &format!("{what} WHERE id = '{}' AND generation = 1", location().as_str()));
        let store = connect(&url, &keys, folder.path()).await.unwrap();
        let found = store.load(&location()).await.unwrap().unwrap();
        assert!(found.previous.is_none() && found.version.generation == 2, "{what}");
    }
}

#[tokio::test]
async fn everything_is_sealed_anew_in_batches_while_the_store_serves() {
    if is_left_out() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (url, old) = filled(folder.path()).await;
    let new = new_key();
    let both = Keys { current: Some(new.clone()), old: old.current.iter().cloned().collect() };
    let before = connect(&url, &old, folder.path()).await.unwrap();
    before.remove(&other_location(), START).await.unwrap();
    before.park(&other_location(), &tokens(&other_location(), "p", START), START).await.unwrap();
    let seen = before.load(&location()).await.unwrap().unwrap();
    let flying = claim(&seen, "f1", START);
    assert!(matches!(before.claim(&flying).await.unwrap(), Claim::Ours { .. }));
    let after = connect(&url, &both, folder.path()).await.unwrap();
    // The process that still has only the old key saves and begins nothing more.
    let fresh = InstallationId::from_parts("location", "EEEEEEEEEEEEEEEEEEEE").unwrap();
    let set = tokens(&fresh, "1", START);
    let company = before.load(&company()).await.unwrap().unwrap();
    let refused = [
        before.commit(&commit(&*before, &seen, "f1", tokens(&location(), "3", START), START)).await.map(drop),
        before.claim(&claim(&company, "f2", START)).await.map(drop),
        before.connect(&fresh, &set, START).await.map(drop),
        before.park(&fresh, &set, START).await,
        before.put(std::slice::from_ref(&company)).await.map(drop),
    ];
    for refused in refused {
        assert!(
            matches!(&refused, Err(StoreError::WrongKey { key_id, .. }) if *key_id == new.id()),
            "{refused:?}"
        );
    }
    // Five of them: two sets of one, one of another, a removed and a parked one.
    let mut left = Vec::new();
    while left.last() != Some(&0) {
        left.push(after.reseal(2).await.unwrap());
        assert!(after.load(&location()).await.unwrap().is_some());
        assert!(left.len() < 9, "{left:?}");
    }
    assert_eq!(left, [3, 1, 0]);
    let only_new = connect(&url, &sealed_by(&new), folder.path()).await.unwrap();
    assert!(only_new.load(&location()).await.unwrap().unwrap().previous.is_some());
    assert_eq!(only_new.removed(None, 9).await.unwrap().len(), 1);
    assert_eq!(only_new.parked_grants().await.unwrap().len(), 1);
    let refused = connect(&url, &old, folder.path()).await.err();
    assert!(matches!(refused, Some(StoreError::WrongKey { .. })), "{refused:?}");
}

#[tokio::test]
async fn who_began_before_the_store_stood_by_and_comes_after_it_is_refused() {
    if is_left_out() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (url, keys) = filled(folder.path()).await;
    let store = connect(&url, &keys, folder.path()).await.unwrap();
    let standing_by = std::thread::spawn({
        let url = url.clone();
        move || {
            execute(
                &url,
                "BEGIN; LOCK TABLE @.installations IN SHARE ROW EXCLUSIVE MODE; SELECT pg_sleep(1);
                 INSERT INTO @.meta VALUES ('standby', 'moved'); COMMIT",
            );
        }
    });
    let locked = "SELECT count(*) FROM pg_locks WHERE mode = 'ShareRowExclusiveLock'
        AND relation = '@.installations'::regclass";
    while server().sql(&locked.replace('@', schema_of(&url))) == "0" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let fresh = InstallationId::from_parts("location", "EEEEEEEEEEEEEEEEEEEE").unwrap();
    let set = tokens(&fresh, "1", START);
    let (connected, parked) =
        tokio::join!(store.connect(&fresh, &set, START), store.park(&fresh, &set, START));
    for refused in [connected.map(drop), parked] {
        assert!(matches!(refused, Err(StoreError::Standby { .. })), "{refused:?}");
    }
    standing_by.join().unwrap();
}

#[tokio::test]
async fn one_that_does_not_open_holds_up_no_other_from_being_sealed_anew() {
    if is_left_out() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (url, old) = filled(folder.path()).await;
    execute(&url, "UPDATE @.sets SET sealed = 'nonsense' WHERE kind = 'company'");
    let both = Keys { current: Some(new_key()), old: old.current.iter().cloned().collect() };
    let store = connect(&url, &both, folder.path()).await.unwrap();
    assert_eq!(store.reseal(100).await.unwrap(), 1);
    let refused = store.reseal(100).await;
    assert!(matches!(refused, Err(StoreError::SealBroken { .. })), "{refused:?}");
    // The old key is needed for as long, beside the new one.
    let only_new = Keys { current: both.current.clone(), old: Vec::new() };
    let old_id = old.current.as_ref().unwrap().id();
    for (keys, missing) in [(&only_new, old_id), (&old, both.current.as_ref().unwrap().id())] {
        let refused = connect(&url, keys, folder.path()).await.err();
        assert!(
            matches!(&refused, Some(StoreError::WrongKey { key_id, .. }) if *key_id == missing),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn a_change_of_another_process_is_heard_at_once() {
    if is_left_out() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (url, keys) = filled(folder.path()).await;
    let (ours, theirs) = (
        connect(&url, &keys, folder.path()).await.unwrap(),
        connect(&url, &keys, folder.path()).await.unwrap(),
    );
    let mark = ours.changes(Mark::default()).await.unwrap().mark;
    let quiet = ours.await_changes(mark, Duration::from_millis(2500)).await.unwrap();
    assert_eq!((quiet.ids.len(), quiet.mark), (0, mark), "and now it listens");
    let mut mark = mark;
    for turn in 2..5 {
        let seen = theirs.load(&location()).await.unwrap().unwrap();
        let next = commit(
            &*theirs,
            &seen,
            &format!("t{turn}"),
            tokens(&location(), &format!("t{turn}"), START),
            START,
        );
        let waiting = ours.clone();
        let heard = tokio::spawn(async move {
            let changes = waiting.await_changes(mark, Duration::from_secs(20)).await.unwrap();
            (changes, Instant::now())
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(matches!(theirs.commit(&next).await.unwrap(), Committed::Saved(_)));
        let told = Instant::now();
        let (changes, at) = heard.await.unwrap();
        assert_eq!(changes.ids, [location()]);
        assert!(at.saturating_duration_since(told) < Duration::from_millis(400), "{:?}", at - told);
        mark = changes.mark;
    }
    // What several did at the same time is told once each, in whatever order they ended.
    let quiet = ours.changes(mark).await.unwrap();
    assert!(quiet.ids.is_empty(), "{quiet:?}");
    let ids: Vec<InstallationId> =
        (0..40).map(|n| InstallationId::from_parts("location", &format!("L{n:03}")).unwrap()).collect();
    let mut connects = tokio::task::JoinSet::new();
    for id in ids.clone() {
        let store = theirs.clone();
        connects.spawn(async move {
            store.connect(&id, &tokens(&id, "1", START), START).await.unwrap();
        });
    }
    let mut told = Vec::new();
    while told.len() < ids.len() {
        let changes = ours.await_changes(mark, Duration::from_secs(5)).await.unwrap();
        told.extend(changes.ids);
        mark = changes.mark;
    }
    connects.join_all().await;
    told.sort();
    assert_eq!(told, ids);
}

#[tokio::test]
async fn a_server_is_believed_by_its_name_and_its_authority_alone() {
    if is_left_out() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let theirs = postgres::folder();
    let settings = [
        "ssl=on".to_owned(),
        format!("ssl_cert_file={}", given(&theirs, "server.pem", &made.cert.pem())),
        format!("ssl_key_file={}", given(&theirs, "server.key", &made.signing_key.serialize_pem())),
    ];
    let server = Server::start(&settings.each_ref().map(String::as_str));
    let keys = sealed_by(&new_key());
    let roots = |name: &str, pem: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, pem).unwrap();
        format!("sslmode=verify-full&sslrootcert={}", path.display())
    };
    let (right, wrong) = (roots("right.pem", &made.cert.pem()), roots("wrong.pem", &other.cert.pem()));
    let url = |host: &str, parameters: &str| server.url(parameters).replace("127.0.0.1", host);
    let store = connect(&url("localhost", &right), &keys, folder.path()).await.unwrap();
    store.connect(&location(), &tokens(&location(), "1", START), START).await.unwrap();
    assert_eq!(server.sql("SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'ghl-auth'"), "t");
    for (host, parameters) in
        [("localhost", wrong.as_str()), ("127.0.0.1", right.as_str()), ("localhost", "sslmode=verify-full")]
    {
        let refused = connect(&url(host, parameters), &keys, folder.path()).await.err().expect("a refusal");
        let said = format!("{refused:?}");
        assert!(said.contains("certificate"), "{host} {parameters}: {said}");
        assert!(!said.contains(PASSWORD), "{said}");
    }
    let missing = format!("sslmode=verify-full&sslrootcert={}/none.pem", folder.path().display());
    let refused = connect(&url("localhost", &missing), &keys, folder.path()).await.err();
    assert!(matches!(refused, Some(StoreError::Io { .. })), "{refused:?}");
    let wrong_password = url("localhost", &right).replace(PASSWORD, "another-one");
    let refused = connect(&wrong_password, &keys, folder.path()).await.err().expect("a refusal");
    assert!(format!("{refused:?}").contains("password authentication failed"), "{refused:?}");
    assert!(!format!("{refused:?} {refused}").contains("another-one"));
}

#[tokio::test]
async fn a_standby_is_refused_until_it_is_promoted_and_what_turns_read_only_says_so() {
    if is_left_out() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (primary, keys) = (Server::start(&[]), sealed_by(&new_key()));
    let store = connect(&primary.socket_url(""), &keys, folder.path()).await.unwrap();
    store.connect(&location(), &tokens(&location(), "1", START), START).await.unwrap();
    let standby = primary.standby();
    let refused = connect(&standby.socket_url(""), &keys, folder.path()).await.err();
    assert!(matches!(refused, Some(StoreError::ReadOnly { .. })), "{refused:?}");
    standby.promote();
    let promoted = connect(&standby.socket_url(""), &keys, folder.path()).await.unwrap();
    assert!(promoted.load(&location()).await.unwrap().is_some());

    primary.sql("ALTER SYSTEM SET default_transaction_read_only = on");
    primary.sql("SELECT pg_reload_conf()");
    let mut refused = None;
    for _ in 0..100 {
        refused = store.connect(&location(), &tokens(&location(), "2", START), START).await.err();
        if refused.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(matches!(refused, Some(StoreError::ReadOnly { .. })), "{refused:?}");
    assert!(store.load(&location()).await.unwrap().is_some(), "it is still read");
    let refused = connect(&primary.socket_url(""), &keys, folder.path()).await.err();
    assert!(matches!(refused, Some(StoreError::ReadOnly { .. })), "{refused:?}");

    primary.sql("SET default_transaction_read_only = off; ALTER SYSTEM RESET default_transaction_read_only");
    primary.sql("SET default_transaction_read_only = off; ALTER SYSTEM SET synchronous_commit = off");
    primary.sql("SELECT pg_reload_conf()");
    tokio::time::sleep(Duration::from_millis(300)).await;
    let refused = connect(&primary.socket_url(""), &keys, folder.path()).await.err();
    assert!(format!("{refused:?}").contains("synchronous_commit"), "{refused:?}");
}

#[tokio::test]
async fn what_is_due_and_each_page_is_found_by_an_index() {
    if is_left_out() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&[
        "shared_preload_libraries=auto_explain",
        "auto_explain.log_min_duration=0",
        "autovacuum=off",
    ]);
    let keys = sealed_by(&new_key());
    let store = connect(&server.socket_url(""), &keys, folder.path()).await.unwrap();
    server.sql(
        "INSERT INTO ghl_auth.installations (kind, id, epoch, generation, state, issued_at, expires_at, scopes,
            company, refresh_due_at, checked_at, check_health, connected_at, sought, changed, retry_at,
            since, said)
        SELECT 'location', 'L' || n, 1, 1, CASE WHEN n % 1000 = 0 THEN 'broken' ELSE 'connected' END,
            1790000000000 + n, 1790086400000 + n, 's', 'C' || n % 100, 1790043200000 + n, 1790000000000 + n,
            CASE WHEN n % 1000 = 0 THEN 'down' ELSE 'operational' END, 0, 'l' || n, 1, NULL, 0, 'why'
        FROM generate_series(1, 50000) n;
        ANALYZE",
    );
    let begin = server.log().len();
    let now = Timestamp::from_millis(1_790_043_200_100);
    let due = store.refresh_due(now, None, 8).await.unwrap();
    assert_eq!(due.len(), 8);
    assert_eq!(store.refresh_due(now, due.last(), 8).await.unwrap().len(), 8);
    let interval = Duration::from_secs(12 * 3600);
    let due = store.check_due(interval, now, None, 8).await.unwrap();
    assert_eq!(store.check_due(interval, now, due.last(), 8).await.unwrap().len(), 8);
    let company = Some("C7".parse().unwrap());
    for listing in [
        Listing::first(20),
        Listing { order: Order::ExpiresAt, ..Listing::first(20) },
        Listing { order: Order::CheckedAt, ..Listing::first(20) },
        Listing { standing: Some(Stand::Broken), ..Listing::first(20) },
        Listing { company, ..Listing::first(20) },
    ] {
        let page = store.overview(&listing).await.unwrap();
        assert_eq!(page.len(), 20, "{listing:?}");
        let after = page.last().cloned();
        assert_eq!(
            store.overview(&Listing { after, ..listing.clone() }).await.unwrap().len(),
            20,
            "{listing:?}"
        );
    }
    let mark = store.changes(Mark::default()).await.unwrap().mark;
    store.changes(mark).await.unwrap();
    let log = server.log()[begin..].to_owned();
    assert!(log.contains("Index Scan using installations_due"), "{log}");
    assert!(!log.contains("Seq Scan on installations"), "{log}");
}

#[tokio::test]
async fn a_store_that_stops_and_comes_back_is_found_again() {
    if is_left_out() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (server, keys) = (Server::start(&[]), sealed_by(&new_key()));
    let store = connect(&server.socket_url(""), &keys, folder.path()).await.unwrap();
    let mut seen = store.connect(&location(), &tokens(&location(), "1", START), START).await.unwrap();
    let mark = store.changes(Mark::default()).await.unwrap().mark;
    for turn in 0..3 {
        server.stop("immediate");
        let began = Instant::now();
        let failed = store.load(&location()).await;
        assert!(failed.is_err() && began.elapsed() < Duration::from_secs(6), "{failed:?}");
        server.launch(&[]);
        let began = Instant::now();
        while store.load(&location()).await.is_err() {
            assert!(began.elapsed() < Duration::from_secs(5));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let found = store.load(&location()).await.unwrap().unwrap();
        assert_eq!(found.version, seen.version, "what was saved is there");
        let flying = claim(&found, &format!("f{turn}"), START);
        assert!(matches!(store.claim(&flying).await.unwrap(), Claim::Ours { .. }));
        let set = tokens(&location(), &format!("n{turn}"), START);
        let next = commit(&*store, &found, &format!("f{turn}"), set, START);
        let Committed::Saved(saved) = store.commit(&next).await.unwrap() else { panic!("not saved") };
        seen = *saved;
    }
    assert_eq!(store.changes(mark).await.unwrap().ids, [location()]);
}

/// The names of the indexes there are.
fn indexes(url: &str) -> Vec<String> {
    let sql = "SELECT indexname FROM pg_indexes WHERE schemaname = '{}' ORDER BY 1";
    let names = server().sql(&sql.replace("{}", schema_of(url)));
    names.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn very_many_are_put_without_the_indexes_for_looking_which_are_made_at_the_end_or_by_the_next() {
    if is_left_out() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (url, keys) = (server().fresh_schema(), sealed_by(&new_key()));
    let putting = connect(&url, &keys, folder.path()).await.unwrap();
    let serving = connect(&url, &keys, folder.path()).await.unwrap();
    let all = indexes(&url);
    assert!(all.contains(&"installations_due".to_owned()) && all.contains(&"sets_key".to_owned()), "{all:?}");
    putting.begin_putting().await.unwrap();
    let few = indexes(&url);
    assert_eq!(all.iter().filter(|it| !few.contains(it)).count(), 10, "{few:?}");

    // Another process serves meanwhile.
    let seen = serving.connect(&location(), &tokens(&location(), "1", START), START).await.unwrap();
    let claimed = serving.claim(&claim(&seen, "f1", START)).await.unwrap();
    assert!(matches!(claimed, Claim::Ours { .. }), "{claimed:?}");
    let commit = commit(&*serving, &seen, "f1", tokens(&location(), "2", START), START);
    let Committed::Saved(saved) = serving.commit(&commit).await.unwrap() else { panic!("not saved") };
    let mut other = seen.clone();
    other.id = other_location();
    assert_eq!(putting.put(&[seen.clone(), other]).await.unwrap(), 1, "what is newer stays");
    assert_eq!(serving.load(&location()).await.unwrap().unwrap().version, saved.version);
    assert_eq!(serving.refresh_due(START + DAY, None, 9).await.unwrap().len(), 2);

    // Broken off: whoever opens it next makes them.
    drop(connect(&url, &keys, folder.path()).await.unwrap());
    assert_eq!(indexes(&url), all);
    // It is not empty any more: nothing is left out.
    putting.begin_putting().await.unwrap();
    assert_eq!(indexes(&url), all);
    for id in [location(), other_location()] {
        assert!(serving.remove(&id, START).await.unwrap());
    }
    putting.begin_putting().await.unwrap();
    assert_eq!(indexes(&url), few);
    putting.end_putting().await.unwrap();
    assert_eq!(indexes(&url), all);
}

#[tokio::test]
async fn what_an_earlier_program_kept_is_found_and_looked_for_after_the_migration() {
    if is_left_out() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (url, keys) = filled(folder.path()).await;
    // As it was: whole ids in the indexes, ids in what is looked through, a key on the sets.
    execute(
        &url,
        "DROP FUNCTION @.found; DROP FUNCTION @.replace; DROP INDEX @.sets_of; DROP INDEX @.installations_due;
        ALTER TABLE @.sets ADD PRIMARY KEY (kind, id, epoch, generation);
        CREATE INDEX installations_refresh_due ON @.installations (refresh_due_at, kind DESC, id);
        UPDATE @.installations SET sought = lower(id) || chr(10) || lower(coalesce(name, ''));
        UPDATE @.versions SET version = 1 WHERE part = 'store'",
    );
    let store = connect(&url, &keys, folder.path()).await.unwrap();
    let names = indexes(&url);
    assert!(!names.iter().any(|it| it == "installations_refresh_due" || it == "sets_pkey"), "{names:?}");
    assert!(
        ["installations_due", "sets_of"].iter().all(|it| names.iter().any(|name| name == it)),
        "{names:?}"
    );
    let found = store.load(&location()).await.unwrap().unwrap();
    assert_eq!((found.version.generation, found.previous.is_some()), (2, true));
    for text in [location().as_str().to_uppercase(), location().as_str()[..3].to_owned()] {
        let listing = Listing { text: Some(text), ..Listing::first(9) };
        let ids: Vec<InstallationId> =
            store.overview(&listing).await.unwrap().into_iter().map(|it| it.id).collect();
        assert!(ids.contains(&location()), "{ids:?}");
    }
}

async fn records_of(url: &str) -> Arc<dyn Records> {
    store::connect_records(&store::PostgresUrl::parse(url).unwrap()).await.unwrap()
}

/// Told by the instants at which they were given, by the database's clock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_any_interval_no_more_permits_are_given_than_there_are_and_hardly_fewer() {
    const MOST: u32 = 50;
    const INTERVAL: Duration = Duration::from_millis(500);
    if is_left_out() {
        return;
    }
    let url = server().fresh_schema();
    let records = records_of(&url).await;
    execute(
        &url,
        "CREATE TABLE @.given (at bigint, count bigint);
        CREATE FUNCTION @.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO @.given SELECT NEW.used_at, NEW.counts[cardinality(NEW.counts)]
                - CASE WHEN NEW.untils[cardinality(NEW.untils)] = OLD.untils[cardinality(OLD.untils)]
                    THEN OLD.counts[cardinality(OLD.counts)] ELSE 0 END;
            RETURN NULL;
        END $$;
        CREATE TRIGGER note AFTER UPDATE ON @.budgets FOR EACH ROW EXECUTE FUNCTION @.note()",
    );
    let began = Instant::now();
    let mut asking = tokio::task::JoinSet::new();
    for number in 0..8_u32 {
        // A caller and its own connection, as a replica has it, and now and then one that only looks.
        let records = records_of(&url).await;
        asking.spawn(async move {
            let mut given = 0;
            while began.elapsed() < INTERVAL * 6 {
                let wanted = 1 + number % 3;
                let permits = records.take_permits("one", wanted, MOST, INTERVAL).await.unwrap().unwrap();
                given += permits.granted;
                assert!(permits.taken <= MOST && permits.granted <= wanted, "{permits:?}");
                if permits.granted < wanted {
                    assert!(permits.wait > Duration::ZERO && permits.wait < INTERVAL * 2, "{permits:?}");
                    tokio::time::sleep(permits.wait.min(INTERVAL / 10)).await;
                } else {
                    tokio::time::sleep(Duration::from_millis(u64::from(number) * 3)).await;
                }
            }
            given
        });
    }
    let given: u32 = asking.join_all().await.into_iter().sum();
    assert_eq!(execute(&url, "SELECT sum(count) FROM @.given"), given.to_string(), "all are noted");
    let most = execute(
        &url,
        "SELECT max(within) FROM (SELECT sum(count) OVER (ORDER BY at
            RANGE BETWEEN CURRENT ROW AND 500000 FOLLOWING) AS within FROM @.given) AS windows",
    );
    assert_eq!(most, MOST.to_string(), "in any half second");
    assert!(given * 100 >= 6 * MOST * 95, "{given} of {}", 6 * MOST);
    drop(records);
}

#[tokio::test]
async fn a_rate_budget_outlives_a_clock_that_is_set_back_and_is_forgotten_a_day_after_its_last_use() {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    const SHORT: Duration = Duration::from_millis(200);
    if is_left_out() {
        return;
    }
    let url = server().fresh_schema();
    let records = records_of(&url).await;
    let take = async |budget: &str, wanted, most, interval| {
        let permits = records.take_permits(budget, wanted, most, interval).await.unwrap().unwrap();
        (permits.granted, permits.taken, permits.wait)
    };
    assert_eq!(take("none", 0, 5, DAY).await, (0, 0, Duration::ZERO));
    assert_eq!(execute(&url, "SELECT count(*) FROM @.budgets"), "0", "who only looks writes nothing");
    assert_eq!(take("daily", 3, 5, DAY).await, (3, 3, Duration::ZERO));
    let row = "SELECT xmin::text || xmax::text FROM @.budgets WHERE budget = 'daily'";
    let before = execute(&url, row);
    assert_eq!(take("daily", 0, 5, DAY).await, (0, 3, Duration::ZERO));
    assert_eq!(execute(&url, row), before, "who only looks writes nothing");
    // It has become less: so many have to come back before there is one.
    let (granted, taken, wait) = take("daily", 1, 2, DAY).await;
    assert!((granted, taken) == (0, 3) && wait > DAY && wait < DAY * 102 / 100, "{wait:?}");

    assert_eq!(take("short", 2, 2, SHORT).await.0, 2);
    execute(
        &url,
        "UPDATE @.budgets SET used_at = used_at + 3600000000,
            untils = ARRAY[untils[1] + 3600000000] WHERE budget = 'short'",
    );
    let (granted, taken, wait) = take("short", 1, 2, SHORT).await;
    assert!((granted, taken) == (0, 2) && wait <= SHORT * 102 / 100, "not an hour: {wait:?}");
    tokio::time::sleep(wait).await;
    assert_eq!(take("short", 2, 2, SHORT).await.0, 2, "the time goes on");

    execute(&url, "UPDATE @.budgets SET used_at = used_at - 90000000000");
    take("fresh", 1, 1, SHORT).await;
    tokio::time::sleep(SHORT * 102 / 100).await;
    records.forget(Timestamp::from_millis(0), Timestamp::from_millis(0)).await.unwrap();
    let left = execute(&url, "SELECT string_agg(budget, ' ' ORDER BY budget) FROM @.budgets");
    assert_eq!(left, "daily fresh", "what still counts is kept, and what was used of late");
}

#[tokio::test]
async fn keys_that_an_earlier_program_made_may_what_they_might_and_nothing_is_guessed_of_a_later_ones() {
    if is_left_out() {
        return;
    }
    let url = server().fresh_schema();
    drop(records_of(&url).await);
    // As it was.
    execute(
        &url,
        "DROP TRIGGER checks_counted ON @.checks; DROP FUNCTION @.count_check;
        DROP TABLE @.days; DROP TABLE @.badges; DROP TABLE @.history;
        DROP TABLE @.sessions; DROP INDEX @.standings_in_trouble;
        DROP TABLE @.budgets CASCADE; DROP FUNCTION IF EXISTS @.take_permits;
        ALTER TABLE @.keys DROP COLUMN lane, DROP COLUMN allowed;
        INSERT INTO @.keys (id, name, hash, verbs, created_at)
            VALUES ('k', 'a key', sha256('k'), 'gateway token', 1);
        UPDATE @.versions SET version = 1 WHERE part = 'records'",
    );
    let records = records_of(&url).await;
    let key = async || {
        let (keys, _) = records.keys(None).await.unwrap().unwrap();
        (keys[0].verbs.clone(), keys[0].lane, keys[0].allowed.len())
    };
    assert_eq!(key().await, ([Verb::Token, Verb::Gateway].into(), Lane::Interactive, 0));
    for odd in ["lane = 'express'", "allowed = E'GET /contacts/*\nGET+ /a'", "allowed = E'\n'"] {
        execute(&url, &format!("UPDATE @.keys SET {odd}"));
        assert_eq!(key().await.0, [Verb::Token].into(), "{odd}");
    }
}

#[tokio::test]
async fn many_who_connect_the_same_at_once_leave_one_set_for_each_version() {
    if is_left_out() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (url, keys) = (server().fresh_schema(), sealed_by(&new_key()));
    let store = connect(&url, &keys, folder.path()).await.unwrap();
    let mut connects = tokio::task::JoinSet::new();
    for number in 0..6 {
        let store = store.clone();
        connects.spawn(async move {
            let tokens = tokens(&location(), &format!("c{number}"), START);
            store.connect(&location(), &tokens, START).await.unwrap();
        });
    }
    connects.join_all().await;
    assert_eq!(store.load(&location()).await.unwrap().unwrap().version.epoch, 6);
    let twice = "SELECT count(*) FROM (SELECT FROM @.sets GROUP BY kind, id, epoch, generation
        HAVING count(*) > 1) t";
    assert_eq!(execute(&url, twice), "0");
    assert_eq!(execute(&url, "SELECT count(*) FROM @.sets"), "2");
}

/// How long what is asked often takes; printed for whoever wants to know.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: GHL_AUTH_COUNT=1000000 for the whole of it"]
#[allow(clippy::print_stderr, reason = "it is there to be read")]
async fn how_long_it_takes() {
    let count: usize = std::env::var("GHL_AUTH_COUNT").ok().and_then(|it| it.parse().ok()).unwrap_or(100_000);
    let folder = tempfile::tempdir().unwrap();
    let (server, keys) =
        (Server::start(&["max_wal_size=4GB", "shared_buffers=512MB"]), sealed_by(&new_key()));
    let store = connect(&server.socket_url(""), &keys, folder.path()).await.unwrap();
    let id =
        |n: usize| InstallationId::from_parts("location", &format!("L{:020}", n * 7919 % count)).unwrap();
    let small = |n: usize| {
        let mut set = tokens(&id(n), "1", START);
        set.access = tokens::AccessToken::new(format!("{n:0>500}"));
        set.refresh_by = tokens::RefreshBy::Own(tokens::RefreshToken::new(format!("{n:0>500}")));
        tokens::Installation {
            id: id(n),
            version: tokens::Version { epoch: 1, generation: 1 },
            tokens: set,
            previous: None,
            connection: tokens::Connection::Connected,
            intent: None,
            last_check: None,
            connected_at: START,
            name: None,
            unlisted_at: None,
        }
    };
    let mut loading = Duration::ZERO;
    for first in (0..count).step_by(20_000) {
        let batch: Vec<_> = (first..count.min(first + 20_000)).map(small).collect();
        let began = Instant::now();
        store.put(&batch).await.unwrap();
        loading += began.elapsed();
    }
    eprintln!("{count} put in {loading:?}");
    server.sql("VACUUM ANALYZE; CHECKPOINT");
    eprintln!("size {}", server.sql("SELECT pg_size_pretty(pg_database_size('postgres'))"));
    let mut took: Vec<(&str, Vec<Duration>)> =
        ["load", "due", "claim", "commit"].into_iter().map(|what| (what, Vec::new())).collect();
    for n in 0..500 {
        let began = Instant::now();
        let seen = store.load(&id(n)).await.unwrap().unwrap();
        took[0].1.push(began.elapsed());
        let began = Instant::now();
        store.refresh_due(START, None, 100).await.unwrap();
        took[1].1.push(began.elapsed());
        let began = Instant::now();
        store.claim(&claim(&seen, &format!("f{n}"), START)).await.unwrap();
        took[2].1.push(began.elapsed());
        let mut next = small(n).tokens;
        next.access = tokens::AccessToken::new(format!("next{n:0>500}"));
        let next = commit(&*store, &seen, &format!("f{n}"), next, START);
        let began = Instant::now();
        store.commit(&next).await.unwrap();
        took[3].1.push(began.elapsed());
    }
    for (what, mut took) in took {
        took.sort();
        eprintln!("{what}: p50 {:?} p99 {:?}", took[took.len() / 2], took[took.len() * 99 / 100]);
    }
}
