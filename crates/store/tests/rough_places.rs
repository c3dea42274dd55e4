//! Full disks, files that are mounts, folders that can't be written: each made for real, in a mount
//! namespace of its own, where the machine allows that.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a failure here is the test's own answer")]

mod sample;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use sample::*;
use store::{Keys, StoreUrl};
use tokens::store::{Claim, Committed, Weakness};
use tokens::{Installation, Store, StoreError};

/// Runs one of the ignored tests below, after `setup` has made a rough place in the folder `$D`.
fn in_a_namespace(setup: &str, test: &str) {
    let folder = tempfile::tempdir().unwrap();
    let script = format!("set -e\n{setup}\nexec \"$0\" --exact {test} --ignored --nocapture");
    let namespace = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", script]).arg(std::env::current_exe().unwrap());
        command.env("D", folder.path());
        command
    };
    let possible = namespace("mount -t tmpfs tmpfs \"$D\"").output().is_ok_and(|run| run.status.success());
    if !possible {
        println!("skipped: no mounting here");
        return;
    }
    let run = namespace(&script).output().unwrap();
    let said = String::from_utf8_lossy(&run.stdout) + String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success() && said.contains("1 passed"), "{said}");
}

fn rough_place() -> PathBuf {
    std::env::var_os("D").expect("run by the other tests").into()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Fills the disk to the last byte, and says how to empty it again.
fn fill(folder: &Path) -> PathBuf {
    let path = folder.join("filler");
    let mut size = 1 << 16;
    let mut file = std::fs::File::create(&path).unwrap();
    while size > 0 {
        if std::io::Write::write_all(&mut file, &vec![1; size]).is_err() {
            size /= 2;
        }
    }
    path
}

/// So many letters that can't be packed.
fn unlike_itself(letters: usize) -> String {
    let mut state = 1u64;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'A' + (state >> 33) as u8 % 26)
    };
    (0..letters).map(next).collect()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

async fn first(store: &Arc<dyn Store>) -> Installation {
    store.connect(&location(), &tokens(&location(), "1", START), START).await.unwrap()
}

async fn assert_still(store: &Arc<dyn Store>, installation: &Installation) {
    let found = store.load(&location()).await.unwrap().unwrap();
    assert_eq!(found.version, installation.version);
    assert!(found.tokens.access == installation.tokens.access);
}

#[test]
fn a_full_disk_harms_no_file() {
    in_a_namespace("mount -t tmpfs -o size=128k tmpfs \"$D\"", "inner_full_disk_file");
}

#[test]
#[ignore = "run by a_full_disk_harms_no_file"]
fn inner_full_disk_file() {
    let folder = rough_place();
    let path = folder.join("ghl_tokens.json");
    for in_place in [false, true] {
        for keys in [Keys::default(), sealed_by(&new_key())] {
            std::fs::write(&path, "").unwrap();
            let store = match in_place {
                true => store::open_file_in_place(&path, &keys, None).unwrap(),
                false => store::open(&StoreUrl::File(path.clone()), &keys, None).unwrap(),
            };
            runtime().block_on(nothing_but_errors_on_a_full_disk(&store, &folder));
        }
    }
}

async fn nothing_but_errors_on_a_full_disk(store: &Arc<dyn Store>, folder: &Path) {
    let installation = first(store).await;
    let filler = fill(folder);
    let next = commit(&**store, &installation, "f1", tokens(&location(), "2", START), START);
    let refused = store.commit(&next).await;
    assert!(matches!(refused, Err(StoreError::Io { .. })), "{refused:?}");
    assert!(store.reserve(&flight("f1")).await.is_err(), "no room, no flight");
    assert!(store.claim(&claim(&installation, "f1", START)).await.is_err(), "no intent, no flight");
    assert_still(store, &installation).await;
    assert_eq!(names(folder), ["filler", "ghl_tokens.json"], "nothing half written is left");
    let text = std::fs::read(folder.join("ghl_tokens.json")).unwrap();
    assert!(serde_json::from_slice::<serde_json::Value>(&text).is_ok(), "Python reads it too");
    std::fs::remove_file(filler).unwrap();
    assert!(matches!(store.commit(&next).await.unwrap(), Committed::Saved(_)));
}

#[test]
fn an_answer_lands_on_a_full_disk() {
    in_a_namespace("mount -t tmpfs -o size=1m tmpfs \"$D\"", "inner_landing_on_a_full_disk");
}

#[test]
#[ignore = "run by an_answer_lands_on_a_full_disk"]
fn inner_landing_on_a_full_disk() {
    let folder = rough_place();
    for in_place in [false, true] {
        for keys in [Keys::default(), sealed_by(&new_key())] {
            let path = folder.join("ghl_tokens.json");
            std::fs::write(&path, "").unwrap();
            runtime().block_on(async {
                let open = || match in_place {
                    true => store::open_file_in_place(&path, &keys, None).unwrap(),
                    false => store::open(&StoreUrl::File(path.clone()), &keys, None).unwrap(),
                };
                let store = open();
                let installation = first(&store).await;
                store.reserve(&flight("f1")).await.unwrap();
                assert!(matches!(
                    store.claim(&claim(&installation, "f1", START)).await.unwrap(),
                    Claim::Ours { .. }
                ));
                let filler = fill(&folder);
                if in_place {
                    let other = open();
                    let more = tokens(&location(), &unlike_itself(150_000), START);
                    let refused = other.connect(&location(), &more, START).await;
                    assert!(matches!(refused, Err(StoreError::Io { .. })), "{refused:?}");
                    assert_still(&store, &installation).await;
                    let text = std::fs::read(&path).unwrap();
                    assert!(
                        serde_json::from_slice::<serde_json::Value>(&text).is_ok(),
                        "Python reads it too"
                    );
                }
                let answer = landing(&*store, &installation, START);
                store.land(&flight("f1"), &answer).await.unwrap();
                let next = commit(&*store, &installation, "f1", tokens(&location(), "2", START), START);
                if in_place {
                    // What was set aside is enough for the whole flight.
                    assert!(matches!(store.commit(&next).await.unwrap(), Committed::Saved(_)));
                } else {
                    assert!(store.commit(&next).await.is_err());
                    drop(store);
                    let store = open();
                    let landings = store.landings().await.unwrap();
                    assert!(landings.len() == 1 && landings[0].1.body == answer.body);
                }
                let store = open();
                std::fs::remove_file(filler).unwrap();
                store.free(&flight("f1")).await.unwrap();
            });
            std::fs::remove_file(&path).unwrap();
        }
    }
}

#[test]
fn a_full_disk_harms_no_database() {
    in_a_namespace("mount -t tmpfs -o size=2m tmpfs \"$D\"", "inner_full_disk_database");
}

#[test]
#[ignore = "run by a_full_disk_harms_no_database"]
fn inner_full_disk_database() {
    let folder = rough_place();
    let url = StoreUrl::Sqlite(folder.join("ghl.db"));
    let keys = sealed_by(&new_key());
    runtime().block_on(async {
        let store = store::open(&url, &keys, None).unwrap();
        let mut installation = first(&store).await;
        let filler = fill(&folder);
        // The log has some room of its own left.
        for generation in 0..200 {
            let name = generation.to_string();
            let next = commit(&*store, &installation, "f1", tokens(&location(), &name, START), START);
            match store.commit(&next).await {
                Ok(Committed::Saved(saved)) => installation = *saved,
                Ok(other) => panic!("{other:?}"),
                Err(_) => {
                    assert_still(&store, &installation).await;
                    std::fs::remove_file(&filler).unwrap();
                    assert!(matches!(store.commit(&next).await.unwrap(), Committed::Saved(_)));
                    return;
                }
            }
        }
        panic!("the disk never was full");
    });
}

#[test]
fn a_file_that_is_a_mount_is_rewritten_in_place() {
    let setup = "mkdir \"$D/host\" \"$D/app\"; echo '{}' > \"$D/host/ghl\"; touch \"$D/app/ghl_tokens.json\"
        mount --bind \"$D/host/ghl\" \"$D/app/ghl_tokens.json\"";
    in_a_namespace(setup, "inner_mounted_file");
}

#[test]
fn a_file_in_a_read_only_folder_is_rewritten_in_place() {
    let setup = "mkdir \"$D/host\" \"$D/app\"; touch \"$D/host/ghl\"
        mount -t tmpfs tmpfs \"$D/app\"; touch \"$D/app/ghl_tokens.json\"
        mount --bind \"$D/host/ghl\" \"$D/app/ghl_tokens.json\"; mount -o remount,ro \"$D/app\"";
    in_a_namespace(setup, "inner_mounted_file");
}

#[test]
#[ignore = "run by a_file_that_is_a_mount_is_rewritten_in_place"]
fn inner_mounted_file() {
    let folder = rough_place();
    let url = StoreUrl::File(folder.join("app/ghl_tokens.json"));
    runtime().block_on(async {
        let open = || store::open(&url, &Keys::default(), None).unwrap();
        let store = open();
        assert_eq!(store.weaknesses(), [Weakness::RewrittenInPlace, Weakness::Unsealed]);
        store.reserve(&flight("code")).await.unwrap();
        let installation = first(&store).await;
        store.free(&flight("code")).await.unwrap();
        store.reserve(&flight("f1")).await.unwrap();
        store.claim(&claim(&installation, "f1", START)).await.unwrap();
        let answer = landing(&*store, &installation, START);
        store.land(&flight("f1"), &answer).await.unwrap();
        let other = open();
        assert!(matches!(
            other.claim(&claim(&installation, "f2", START)).await.unwrap(),
            Claim::Taken { since } if since == START
        ));
        drop(store);
        let landings = other.landings().await.unwrap();
        assert!(landings.len() == 1 && landings[0].1.body == answer.body, "it outlives the process");
        let next = commit(&*other, &installation, "f1", tokens(&location(), "2", START), START);
        assert!(matches!(other.commit(&next).await.unwrap(), Committed::Saved(_)));
        other.free(&flight("f1")).await.unwrap();
        assert_eq!(names(&folder.join("app")), ["ghl_tokens.json"]);
        let on_the_host = std::fs::read(folder.join("host/ghl")).unwrap();
        let read = store::template::read_template(&on_the_host, START, None).unwrap();
        assert!(read.tokens.access == next.tokens.access);
        assert!(on_the_host.ends_with(b"}"), "no room is left set aside");
    });
}
