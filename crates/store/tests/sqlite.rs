//! What a database may have become since it was written, and what is then not done.
#![allow(clippy::unwrap_used, reason = "a failure here is the test's own answer")]

mod sample;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;
use sample::*;
use store::{Keys, StoreUrl};
use tokens::store::{Committed, Due, Listing};
use tokens::{InstallationId, Store, StoreError};

fn in_folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ghl.db");
    (folder, path)
}

fn open(path: &Path, keys: &Keys) -> Result<Arc<dyn Store>, StoreError> {
    store::open(&StoreUrl::Sqlite(path.to_owned()), keys, None)
}

fn refusal(path: &Path, keys: &Keys) -> StoreError {
    open(path, keys).err().expect("a refusal")
}

/// A database with three installations, the first in its second generation; its key.
async fn filled(path: &Path) -> Keys {
    let keys = sealed_by(&new_key());
    let store = open(path, &keys).unwrap();
    for id in [other_location(), company(), location()] {
        store.connect(&id, &tokens(&id, "1", START), START).await.unwrap();
    }
    let first = store.load(&location()).await.unwrap().unwrap();
    let commit = commit(&*store, &first, "f1", tokens(&location(), "2", START), START);
    assert!(matches!(store.commit(&commit).await.unwrap(), Committed::Saved(_)));
    keys
}

fn execute(path: &Path, sql: &str) {
    Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

fn count(path: &Path) -> i64 {
    Connection::open(path)
        .unwrap()
        .query_row("SELECT count(*) FROM installations", [], |row| row.get(0))
        .unwrap()
}

#[tokio::test]
async fn a_key_is_asked_for_before_anything_is_made() {
    let (folder, path) = in_folder();
    assert!(matches!(refusal(&path, &Keys::default()), StoreError::KeyMissing { .. }));
    let only_old = Keys { current: None, old: vec![new_key()] };
    assert!(matches!(refusal(&path, &only_old), StoreError::KeyMissing { .. }));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn installations_are_listed_in_the_order_of_their_ids() {
    let (_folder, path) = in_folder();
    let keys = filled(&path).await;
    let listed = open(&path, &keys).unwrap().list(None, 9).await.unwrap();
    let ids: Vec<InstallationId> = listed.into_iter().map(|installation| installation.id).collect();
    assert_eq!(ids, [location(), other_location(), company()]);
    assert!(ids.is_sorted());
}

#[tokio::test]
async fn how_many_stand_is_told_page_by_page_and_nothing_is_opened_for_it() {
    let (_folder, path) = in_folder();
    let keys = filled(&path).await;
    execute(&path, "UPDATE sets SET sealed = x'00'");
    let store = open(&path, &keys).unwrap();
    let all = store.overview(&Listing::ALL).await.unwrap();
    let ids: Vec<InstallationId> = all.iter().map(|overview| overview.id.clone()).collect();
    assert_eq!(ids, [location(), other_location(), company()]);
    assert_eq!(all[0].company, Some("AAAAAAAAAAAAAAAAAAAA".parse().unwrap()));
    let mut page = store.overview(&Listing::first(2)).await.unwrap();
    assert_eq!(page, all[..2]);
    for expected in [&all[2..], &[]] {
        let after = page.last().cloned();
        page = store.overview(&Listing { after, ..Listing::first(2) }).await.unwrap();
        assert_eq!(page, expected);
        page = all[2..].to_vec();
    }
    let dues: Vec<_> = all.iter().map(|overview| overview.refresh_due_at().unwrap()).collect();
    let mut by_due: Vec<_> = dues.iter().zip(&ids).collect();
    by_due.sort();
    let due = store.refresh_due(*by_due[1].0, None, 3).await.unwrap();
    let whose = |due: Vec<Due>| due.into_iter().map(|due| due.id).collect::<Vec<_>>();
    assert_eq!(whose(due), [by_due[0].1.clone(), by_due[1].1.clone()], "what was due first comes first");
    let first = store.refresh_due(*by_due[2].0, None, 1).await.unwrap();
    assert_eq!(whose(first), [by_due[0].1.clone()]);
}

#[tokio::test]
async fn another_key_is_refused_and_never_gets_a_set_of_its_own() {
    let (_folder, path) = in_folder();
    let keys = filled(&path).await;
    let before = std::fs::read(&path).unwrap();
    let its_id = keys.current.as_ref().unwrap().id();
    let refused = refusal(&path, &sealed_by(&new_key()));
    assert!(matches!(refused, StoreError::WrongKey { key_id, .. } if key_id == its_id));
    assert_eq!((count(&path), std::fs::read(&path).unwrap() == before), (3, true));
}

#[tokio::test]
async fn an_old_key_opens_and_everything_is_sealed_anew() {
    let (_folder, path) = in_folder();
    let old = filled(&path).await;
    let with_old_key = open(&path, &old).unwrap();
    let seen = with_old_key.load(&location()).await.unwrap().unwrap();

    let new = new_key();
    let both = Keys { current: Some(new.clone()), old: vec![old.current.clone().unwrap()] };
    let store = open(&path, &both).unwrap();
    assert_eq!(store.list(None, 9).await.unwrap().len(), 3);
    assert_eq!(store.reseal(3).await.unwrap(), 1, "four sets, three of them anew");
    assert_eq!(store.reseal(3).await.unwrap(), 0);
    let found = store.load(&location()).await.unwrap().unwrap();
    assert!(found.tokens == seen.tokens && found.previous.is_some());

    // The process that still has only the old key changes nothing any more.
    let stale = commit(&*with_old_key, &seen, "f1", tokens(&location(), "3", START), START);
    assert!(matches!(with_old_key.commit(&stale).await, Err(StoreError::WrongKey { .. })));
    let fresh = InstallationId::from_parts("location", "EEEEEEEEEEEEEEEEEEEE").unwrap();
    let refused = with_old_key.connect(&fresh, &tokens(&fresh, "1", START), START).await;
    assert!(matches!(refused, Err(StoreError::WrongKey { .. })));
    // What it had landed in the spool still names the token it replaces.
    let mut late = commit(&*with_old_key, &seen, "f1", tokens(&location(), "3", START), START);
    late.flight = flight("f2");
    assert!(matches!(store.commit(&late).await.unwrap(), Committed::Saved(_)));
    drop((store, with_old_key));

    assert!(matches!(refusal(&path, &old), StoreError::WrongKey { .. }));
    assert_eq!(open(&path, &sealed_by(&new)).unwrap().list(None, 9).await.unwrap().len(), 3);
}

/// The rows of an installation's sets.
fn sets_of(id: &InstallationId) -> String {
    let whose =
        format!("SELECT number FROM installations WHERE kind = '{}' AND id = '{}'", id.kind(), id.as_str());
    format!("whose = ({whose})")
}

#[tokio::test]
async fn a_sealed_value_opens_only_where_it_was_sealed() {
    let here = sets_of(&location());
    let set = |value: &str| format!("UPDATE sets SET sealed = {value} WHERE {here} AND generation = 2");
    let its =
        |generation: u8| format!("(SELECT sealed FROM sets WHERE {here} AND generation = {generation})");
    let another = format!("(SELECT sealed FROM sets WHERE {})", sets_of(&company()));
    let row =
        |change: &str| format!("UPDATE installations SET {change} WHERE id = '{}'", location().as_str());
    for (what, sql) in [
        ("another row's tokens", set(&another)),
        ("its own set before", set(&its(1))),
        ("another generation", row("generation = generation + 1")),
        ("another epoch", row("epoch = epoch + 1")),
        ("no set at all", format!("DELETE FROM sets WHERE {here} AND generation = 2")),
        ("a cut value", set("substr(sealed, 1, 1000)")),
        ("an empty value", set("x''")),
        (
            "a changed byte",
            set("CAST(substr(sealed, 1, 999) || x'00' || x'00' || substr(sealed, 1002) AS BLOB)"),
        ),
    ] {
        let (_folder, path) = in_folder();
        let keys = filled(&path).await;
        execute(&path, &sql);
        let store = open(&path, &keys).unwrap();
        let refused = store.load(&location()).await;
        assert!(matches!(refused, Err(StoreError::SealBroken { .. })), "{what}: {refused:?}");
        let connected = store.connect(&location(), &tokens(&location(), "3", START), START).await;
        assert!(connected.is_err(), "{what}: nothing is written over it");
        assert!(store.load(&company()).await.unwrap().is_some(), "{what}: the others are not harmed");
    }
}

#[tokio::test]
async fn a_set_before_that_does_not_open_keeps_nobody_from_the_present_one() {
    let here = sets_of(&location());
    for sql in [
        format!(
            "UPDATE sets SET sealed = (SELECT sealed FROM sets WHERE {here} AND generation = 2)
             WHERE {here} AND generation = 1"
        ),
        format!("UPDATE installations SET previous_epoch = 7 WHERE id = '{}'", location().as_str()),
        format!("UPDATE sets SET sealed = x'' WHERE {here} AND generation = 1"),
    ] {
        let (_folder, path) = in_folder();
        let keys = filled(&path).await;
        execute(&path, &sql);
        let store = open(&path, &keys).unwrap();
        let found = store.load(&location()).await.unwrap().unwrap();
        assert!(found.previous.is_none() && found.version.generation == 2, "{sql}");
        let connected = store.connect(&location(), &tokens(&location(), "3", START), START).await.unwrap();
        let before = connected.previous.expect("the present one became the one before");
        assert!(before.tokens == found.tokens, "{sql}");
    }
}

/// A key over those there were.
fn followed_by(keys: &Keys, new: &store::Key) -> Keys {
    let old = keys.current.iter().chain(&keys.old).cloned().collect();
    Keys { current: Some(new.clone()), old }
}

#[tokio::test]
async fn while_everything_is_sealed_anew_both_keys_are_needed_and_every_process_goes_on() {
    let (_folder, path) = in_folder();
    let old = filled(&path).await;
    let new = new_key();
    let both = followed_by(&old, &new);
    // A process that was told of the new key, and still writes under the old one.
    let told = Keys { current: old.current.clone(), old: vec![new.clone()] };
    let theirs = open(&path, &told).unwrap();
    let store = open(&path, &both).unwrap();
    assert_eq!(store.reseal(2).await.unwrap(), 2);
    assert!(matches!(refusal(&path, &old), StoreError::WrongKey { key_id, .. } if key_id == new.id()));
    let old_id = old.current.as_ref().unwrap().id();
    let refused = refusal(&path, &sealed_by(&new));
    assert!(matches!(refused, StoreError::WrongKey { key_id, .. } if key_id == old_id), "half of it");

    let fresh = InstallationId::from_parts("location", "EEEEEEEEEEEEEEEEEEEE").unwrap();
    theirs.connect(&fresh, &tokens(&fresh, "1", START), START).await.unwrap();
    theirs.park(&fresh, &tokens(&fresh, "2", START), START).await.unwrap();
    theirs.remove(&company(), START).await.unwrap();
    for reads in [&store, &theirs, &open(&path, &told).unwrap()] {
        assert_eq!(reads.list(None, 9).await.unwrap().len(), 3);
    }
    // The next process finds what the one that was killed left.
    drop(store);
    let store = open(&path, &both).unwrap();
    let mut rounds = 0;
    while store.reseal(1).await.unwrap() > 0 {
        rounds += 1;
        assert!(rounds < 20, "it comes to an end");
    }
    let alone = open(&path, &sealed_by(&new)).unwrap();
    assert_eq!(alone.list(None, 9).await.unwrap().len(), 3);
    assert!(alone.approve(&fresh, START).await.unwrap().is_some());
    assert!(matches!(refusal(&path, &old), StoreError::WrongKey { .. }));
}

#[tokio::test]
async fn an_answer_in_the_spool_needs_its_key_too() {
    let (_folder, path) = in_folder();
    let old = filled(&path).await;
    let with_old_key = open(&path, &old).unwrap();
    let first = with_old_key.load(&location()).await.unwrap().unwrap();
    with_old_key.reserve(&flight("f1")).await.unwrap();
    with_old_key.land(&flight("f1"), &landing(&*with_old_key, &first, START)).await.unwrap();
    let store = open(&path, &followed_by(&old, &new_key())).unwrap();
    assert_eq!(store.reseal(100).await.unwrap(), 1);
    with_old_key.free(&flight("f1")).await.unwrap();
    assert_eq!(store.reseal(100).await.unwrap(), 0);
}

#[tokio::test]
async fn what_does_not_open_is_passed_over_and_named_and_its_key_stays_needed() {
    let (_folder, path) = in_folder();
    let old = filled(&path).await;
    let cut = "UPDATE sets SET sealed = substr(sealed, 1, 100)";
    execute(&path, &format!("{cut} WHERE {} AND generation = 2", sets_of(&location())));
    let both = followed_by(&old, &new_key());
    let store = open(&path, &both).unwrap();
    assert_eq!(store.reseal(100).await.unwrap(), 1, "the others were sealed anew");
    for _ in 0..2 {
        let Err(StoreError::SealBroken { place }) = store.reseal(100).await else { panic!() };
        assert!(place.ends_with("location BBBBBBBBBBBBBBBBBBBB"), "{place}");
    }
    assert!(store.load(&company()).await.unwrap().is_some());
    assert!(matches!(
        refusal(&path, &sealed_by(both.current.as_ref().unwrap())),
        StoreError::WrongKey { .. }
    ));
    store.remove(&location(), START).await.unwrap();
    execute(&path, "DELETE FROM removed");
    assert_eq!(store.reseal(100).await.unwrap(), 0);
}

#[tokio::test]
async fn a_key_that_was_used_before_can_become_the_newest_again() {
    let (_folder, path) = in_folder();
    let old = filled(&path).await;
    let new = new_key();
    let both = followed_by(&old, &new);
    let there = open(&path, &both).unwrap();
    assert_eq!(there.reseal(100).await.unwrap(), 0);
    let back = Keys { current: old.current.clone(), old: vec![new] };
    assert_eq!(open(&path, &back).unwrap().reseal(100).await.unwrap(), 0);
    assert_eq!(open(&path, &old).unwrap().list(None, 9).await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_row_that_fits_no_variant_is_named() {
    let (_folder, path) = in_folder();
    let keys = filled(&path).await;
    execute(&path, "UPDATE installations SET state = 'odd' WHERE kind = 'company'");
    let store = open(&path, &keys).unwrap();
    let Err(StoreError::Unreadable { place, why }) = store.load(&company()).await else { panic!() };
    assert!(place.ends_with("company AAAAAAAAAAAAAAAAAAAA") && why.contains("odd"), "{place} {why}");
}

#[tokio::test]
async fn what_is_not_ours_is_left_alone() {
    let keys = sealed_by(&new_key());
    let (folder, path) = in_folder();
    std::fs::write(&path, "this is a text and no database, long enough to be looked at ".repeat(50)).unwrap();
    assert!(matches!(refusal(&path, &keys), StoreError::Unreadable { .. }));

    let foreign = folder.path().join("foreign.db");
    execute(&foreign, "CREATE TABLE shop (id); PRAGMA user_version = 1");
    let before = std::fs::read(&foreign).unwrap();
    let refused = refusal(&foreign, &keys);
    assert!(std::fs::read(&foreign).unwrap() == before, "not a byte of it is changed");
    assert!(
        matches!(&refused, StoreError::Unreadable { why, .. } if why.contains("another program")),
        "{refused:?}"
    );

    let newer = folder.path().join("newer.db");
    let newer_keys = filled(&newer).await;
    execute(&newer, "PRAGMA user_version = 99");
    assert!(matches!(refusal(&newer, &newer_keys), StoreError::TooNew { .. }));

    let emptied = folder.path().join("emptied.db");
    std::fs::write(&emptied, "").unwrap();
    std::fs::write(folder.path().join("emptied.db-wal"), "what is left of it").unwrap();
    assert!(matches!(refusal(&emptied, &keys), StoreError::Unreadable { .. }));

    let missing = folder.path().join("missing/ghl.db");
    assert!(matches!(refusal(&missing, &keys), StoreError::Io { doing: "find the folder", .. }));
    assert!(matches!(refusal(folder.path(), &keys), StoreError::IsFolder { .. }));
}

#[tokio::test]
async fn a_damaged_database_is_an_error_and_never_an_empty_store() {
    let (_folder, path) = in_folder();
    let keys = filled(&path).await;
    let whole = std::fs::read(&path).unwrap();
    let mut noticed = 0;
    for page in 0..whole.len() / PAGE {
        let mut damaged = whole.clone();
        damaged[page * PAGE + 100..(page + 1) * PAGE].fill(0xa5);
        std::fs::write(&path, damaged).unwrap();
        let listed = match open(&path, &keys) {
            Ok(store) => store.list(None, 9).await,
            Err(error) => Err(error),
        };
        match listed {
            Ok(listed) => assert_eq!(listed.len(), 3, "page {page}"),
            Err(_) => noticed += 1,
        }
        let _ = std::fs::remove_file(path.with_extension("db-wal"));
        let _ = std::fs::remove_file(path.with_extension("db-shm"));
    }
    // A list goes by no index, and does without a set before.
    assert!(noticed > whole.len() / PAGE / 5, "{noticed}");
    for length in [1, 100, PAGE, whole.len() / 2] {
        std::fs::write(&path, &whole[..length]).unwrap();
        let listed = match open(&path, &keys) {
            Ok(store) => store.list(None, 9).await,
            Err(error) => Err(error),
        };
        assert!(listed.is_err(), "cut to {length}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn others_are_waited_for_and_not_for_ever() {
    let (_folder, path) = in_folder();
    let keys = filled(&path).await;
    let store = open(&path, &keys).unwrap();
    let seen = store.load(&company()).await.unwrap().unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(store.load(&company()).await.unwrap().is_some(), "reading waits for nobody");
    let began = std::time::Instant::now();
    let refused = store.claim(&claim(&seen, "f1", START)).await;
    assert!(matches!(refused, Err(StoreError::Database { .. })), "{refused:?}");
    assert!((4..8).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());

    let waiting = tokio::spawn(async move { store.claim(&claim(&seen, "f1", START)).await.map(drop) });
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    other.execute_batch("ROLLBACK").unwrap();
    waiting.await.unwrap().unwrap();
}

/// Asks for something without waiting for it.
fn ask<'a, T>(question: impl Future<Output = T> + Send + 'a) -> Asked<'a, T> {
    let mut asked: Asked<'a, T> = Box::pin(question);
    assert!(asked.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_pending());
    asked
}

/// Of so many bytes are the pages of a new database.
const PAGE: usize = 8192;

type Asked<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// How often something was committed to the log that has not been put back yet.
fn commits(path: &Path) -> usize {
    let log = std::fs::read(path.with_extension("db-wal")).unwrap();
    // Each page has a header of 24 bytes, where the last page of a commit says how large all is then.
    log.get(32..).unwrap_or_default().chunks_exact(24 + PAGE).filter(|page| page[4..8] != [0; 4]).count()
}

#[tokio::test]
async fn what_waits_at_the_same_time_goes_to_the_disk_together() {
    let (_folder, path) = in_folder();
    let keys = filled(&path).await;
    let store = open(&path, &keys).unwrap();
    let ids: Vec<InstallationId> = (0..50)
        .map(|number| {
            InstallationId::from_parts("location", &format!("EEEEEEEEEEEEEEEEEE{number:02}")).unwrap()
        })
        .collect();
    let sets: Vec<_> = ids.iter().map(|id| tokens(id, "1", START)).collect();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let asked: Vec<_> = ids.iter().zip(&sets).map(|(id, set)| ask(store.connect(id, set, START))).collect();
    let before = commits(&path);
    other.execute_batch("ROLLBACK").unwrap();
    for asked in asked {
        asked.await.unwrap();
    }
    // Whoever came while the database was another's waited for that one, and the rest for them.
    let together = commits(&path) - before;
    assert!((1..=2).contains(&together), "{together} flushes");
    assert_eq!(count(&path), 53);
}

#[tokio::test]
async fn whoever_reads_waits_for_nobody_who_writes() {
    let (_folder, path) = in_folder();
    let keys = filled(&path).await;
    let store = open(&path, &keys).unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let id = InstallationId::from_parts("location", "EEEEEEEEEEEEEEEEEEEE").unwrap();
    let set = tokens(&id, "1", START);
    let mut writing = ask(store.connect(&id, &set, START));
    assert!(store.load(&company()).await.unwrap().is_some());
    assert_eq!(store.list(None, 9).await.unwrap().len(), 3);
    assert_eq!(store.overview(&Listing::first(9)).await.unwrap().len(), 3);
    assert!(store.refresh_due(START, None, 9).await.unwrap().is_empty());
    assert_eq!(store.check_due(DAY, START, None, 9).await.unwrap().len(), 3);
    assert!(store.parked().await.unwrap().is_empty());
    store.changes(Default::default()).await.unwrap();
    let context = &mut std::task::Context::from_waker(std::task::Waker::noop());
    assert!(writing.as_mut().poll(context).is_pending(), "it is still waiting");
    other.execute_batch("ROLLBACK").unwrap();
    writing.await.unwrap();
    assert!(store.load(&id).await.unwrap().is_some(), "what was acknowledged is read");
}

#[tokio::test]
async fn a_grant_that_can_not_be_opened_stays_parked() {
    let (_folder, path) = in_folder();
    let keys = filled(&path).await;
    let store = open(&path, &keys).unwrap();
    store.park(&company(), &tokens(&company(), "2", START), START).await.unwrap();
    execute(&path, "UPDATE parked SET tokens = x'00'");
    assert!(matches!(store.approve(&company(), START).await, Err(StoreError::SealBroken { .. })));
    assert_eq!(store.parked().await.unwrap().len(), 1);
}

#[test]
fn many_may_make_and_open_it_at_once() {
    let (_folder, path) = in_folder();
    let keys = sealed_by(&new_key());
    std::thread::scope(|scope| {
        let opened: Vec<_> = (0..16).map(|_| scope.spawn(|| open(&path, &keys).map(drop))).collect();
        for opened in opened {
            opened.join().unwrap().unwrap();
        }
    });
    assert_eq!(count(&path), 0);
}

#[tokio::test]
async fn work_that_was_begun_is_done_though_nobody_waits() {
    let (_folder, path) = in_folder();
    let keys = filled(&path).await;
    let store = open(&path, &keys).unwrap();
    let id = InstallationId::from_parts("location", "EEEEEEEEEEEEEEEEEEEE").unwrap();
    let set = tokens(&id, "1", START);
    let mut connecting = Box::pin(store.connect(&id, &set, START));
    let waker = std::task::Waker::noop();
    let _ = connecting.as_mut().poll(&mut std::task::Context::from_waker(waker));
    drop(connecting);
    // Whoever comes later is told later.
    store.connect(&other_location(), &tokens(&other_location(), "2", START), START).await.unwrap();
    assert!(store.load(&id).await.unwrap().is_some());
}
