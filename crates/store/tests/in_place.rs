//! A file that is its own journal, left by a crash at any point of its rewriting.
#![allow(clippy::unwrap_used, reason = "a failure here is the test's own answer")]

mod sample;

use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use sample::*;
use store::{Keys, StoreUrl};
use tokens::Store;
use tokens::store::Claim;

fn open(path: &Path, keys: &Keys) -> Arc<dyn Store> {
    store::open_file_in_place(path, keys, None).unwrap()
}

/// The file before and after a commit.
async fn before_and_after(path: &Path, keys: &Keys) -> (Vec<u8>, Vec<u8>) {
    std::fs::write(path, "").unwrap();
    let store = open(path, keys);
    let first = store.connect(&location(), &tokens(&location(), "1", START), START).await.unwrap();
    let before = std::fs::read(path).unwrap();
    let next = commit(&*store, &first, "f1", tokens(&location(), "2", START), START);
    store.commit(&next).await.unwrap();
    (before, std::fs::read(path).unwrap())
}

/// Every state that a rewrite passes through, a step of some hundred bytes at a time.
fn states(old: &[u8], new: &[u8]) -> Vec<(Vec<u8>, bool)> {
    let sum: String = digest(&SHA256, new).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let at = old.len().max(new.len());
    let mut journaled = old.to_vec();
    journaled.resize(at, b' ');
    journaled.extend_from_slice(format!("\n%ghl-auth-journal {} {sum}\n", new.len()).as_bytes());
    journaled.extend_from_slice(new);
    let mut states = Vec::new();
    for end in (old.len()..journaled.len()).step_by(701) {
        states.push((journaled[..end].to_vec(), false));
    }
    for end in (0..new.len()).step_by(701) {
        let mut file = journaled.clone();
        file[..end].copy_from_slice(&new[..end]);
        states.push((file, true));
    }
    states
}

#[tokio::test]
async fn whatever_a_crash_left_is_the_old_or_the_new_and_is_written_on() {
    for keys in [Keys::default(), sealed_by(&new_key())] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ghl_tokens.json");
        let (old, new) = before_and_after(&path, &keys).await;
        for (number, (file, is_new)) in states(&old, &new).into_iter().enumerate() {
            std::fs::write(&path, &file).unwrap();
            let store = open(&path, &keys);
            let found = store.load(&location()).await.unwrap().unwrap();
            assert_eq!(found.version.generation, if is_new { 2 } else { 1 }, "state {number}");
            let claimed = store.claim(&claim(&found, "f1", START)).await.unwrap();
            assert!(matches!(claimed, Claim::Ours { .. }), "state {number}");
            drop(store);
            // Written on, it is one whole document again, as an ordinary file too.
            let text = std::fs::read(&path).unwrap();
            assert!(serde_json::from_slice::<serde_json::Value>(&text).is_ok(), "state {number}");
            let store = store::open(&StoreUrl::File(path.clone()), &keys, None).unwrap();
            assert!(store.load(&location()).await.unwrap().unwrap().intent.is_some(), "state {number}");
        }
    }
}

#[tokio::test]
async fn a_touched_file_holds_no_grant_yet_and_takes_one() {
    for text in ["", "\n", "{}", "{}\n"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ghl_tokens.json");
        std::fs::write(&path, text).unwrap();
        let store = open(&path, &Keys::default());
        assert!(store.load(&location()).await.unwrap().is_none());
        store.connect(&location(), &tokens(&location(), "1", START), START).await.unwrap();
        assert!(store.load(&location()).await.unwrap().is_some());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}

#[tokio::test]
async fn an_unreadable_file_is_kept_within_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ghl_tokens.json");
    let text = r#"{"access_token": "half"#;
    std::fs::write(&path, text).unwrap();
    let store = open(&path, &Keys::default());
    store.reserve(&flight("code")).await.unwrap();
    let installation = tokens::Installation {
        id: location(),
        version: tokens::Version { epoch: 0, generation: 0 },
        tokens: tokens(&location(), "1", START),
        previous: None,
        connection: tokens::Connection::Connected,
        intent: None,
        last_check: None,
        connected_at: START,
        name: None,
        unlisted_at: None,
    };
    store.land(&flight("code"), &landing(&*store, &installation, START)).await.unwrap();
    store.connect(&location(), &installation.tokens, START).await.unwrap();
    store.free(&flight("code")).await.unwrap();
    let document: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(document["ghl_auth"]["displaced"][0], text);
    assert!(document["ghl_auth"].get("landed").is_none());
}
