//! What the Python template left behind is read, and Python reads what we write.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a failure here is the test's own answer")]

mod sample;

use std::path::Path;
use std::process::Command;

use sample::*;
use store::template::{NoTokens, read_template, to_template_json};
use store::{Keys, StoreUrl};
use tokens::{InstallationId, Store, StoreError, Timestamp, Version};

/// What Python's `json.dump(indent=4)` makes of a location's reply; the expiry is put in as given.
fn written_by_python(name: &str, expiry: &str) -> String {
    let tokens = tokens(&location(), name, START);
    format!(
        r#"{{
    "access_token": "{}",
    "token_type": "Bearer",
    "expires_in": 86399,
    "refresh_token": "{}",
    "scope": "contacts.readonly contacts.write",
    "refreshTokenId": "0123456789abcdef01234567",
    "userType": "Location",
    "companyId": "AAAAAAAAAAAAAAAAAAAA",
    "locationId": "BBBBBBBBBBBBBBBBBBBB",
    "isBulkInstallation": false,
    "userId": "CCCCCCCCCCCCCCCCCCCC",
    "expiry_timestamp": {expiry}"#,
        tokens.access.expose(),
        refresh_token(&tokens).expose(),
    )
}

fn whole(name: &str) -> String {
    // Far in the future, so that the token's own `exp` decides.
    written_by_python(name, "\"2036-09-22T12:00:00.123456\"\n}")
}

fn url(path: &Path) -> StoreUrl {
    StoreUrl::File(path.to_owned())
}

fn in_folder() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ghl_tokens.json");
    (folder, path)
}

fn open(path: &Path) -> std::sync::Arc<dyn Store> {
    store::open(&url(path), &Keys::default(), None).unwrap()
}

#[test]
fn a_whole_file_is_read() {
    let read = read_template(whole("1").as_bytes(), START, None).unwrap();
    assert_eq!(read.id, location());
    assert!(!read.cut_short);
    assert_eq!((read.tokens.issued_at, read.tokens.expires_at), (START, START + DAY), "as the token says");
    assert_eq!(read.tokens.scopes, "contacts.readonly contacts.write");
    let members: serde_json::Value = serde_json::from_str(read.tokens.members.expose()).unwrap();
    assert_eq!(members["userId"], "CCCCCCCCCCCCCCCCCCCC");
    assert_eq!(members["expires_in"], 86399);
    for apart in ["access_token", "refresh_token", "expiry_timestamp"] {
        assert!(members.get(apart).is_none(), "{apart}");
    }
    let marked = format!("\u{feff}{}", whole("1"));
    assert!(
        read_template(marked.as_bytes(), START, None).unwrap().tokens == read.tokens,
        "with a mark in front"
    );
}

#[test]
fn a_file_cut_at_any_byte_gives_both_tokens_or_says_why_not() {
    let text = whole("1");
    let expected = read_template(text.as_bytes(), START, None).unwrap().tokens;
    let refresh_token_ends = text.find("\"scope\"").unwrap() - ",\n    ".len();
    for cut in 1..text.len() {
        let read = read_template(&text.as_bytes()[..cut], START, Some(&location()));
        match read {
            Ok(read) => {
                assert!(cut >= refresh_token_ends, "cut at {cut}");
                assert!(read.cut_short, "cut at {cut}");
                assert!(read.tokens.access == expected.access, "cut at {cut}");
                assert!(read.tokens.refresh_by == expected.refresh_by, "cut at {cut}");
                assert_eq!(
                    (read.id, read.tokens.expires_at),
                    (location(), expected.expires_at),
                    "cut at {cut}"
                );
            }
            Err(NoTokens::Unusable(why)) => {
                assert!(cut < refresh_token_ends, "cut at {cut}: {why}");
                assert!(why.contains("ends in the middle"), "cut at {cut}: {why}");
            }
            Err(other) => panic!("cut at {cut}: {other}"),
        }
    }
}

#[tokio::test]
async fn the_templates_own_bug_leaves_a_grant_that_is_kept() {
    let (_folder, path) = in_folder();
    std::fs::write(&path, written_by_python("1", "")).unwrap();
    let store = open(&path);
    let found = store.load(&location()).await.unwrap().expect("both tokens are whole");
    assert_eq!(found.version, Version { epoch: 1, generation: 1 });
    store.claim(&claim(&found, "f1", START)).await.unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "the next write makes it whole");
}

#[test]
fn what_says_less_is_still_read() {
    let check = |text: &str, expected: Timestamp| {
        let read = read_template(text.as_bytes(), START, Some(&location())).unwrap();
        assert_eq!(read.tokens.expires_at, expected, "{text}");
        assert_eq!(read.id, location(), "{text}");
    };
    let hour = std::time::Duration::from_secs(3600);
    check(r#"{"access_token":"opaque-1","refresh_token":"opaque-2","expires_in":3600}"#, START + hour);
    check(r#"{"access_token":"opaque-1","refresh_token":"opaque-2","expires_in":"3600"}"#, START + hour);
    check(r#"{"access_token":"opaque-1","refresh_token":"opaque-2"}"#, START);
    let company = jwt(&company(), "access", START, DAY);
    let text = format!(
        r#"{{"access_token":"{company}","refresh_token":"opaque-2","companyId":"AAAAAAAAAAAAAAAAAAAA"}}"#
    );
    let read = read_template(text.as_bytes(), START, Some(&location())).unwrap();
    assert_eq!(read.id, sample::company(), "the token says whose it is");
    assert_eq!(read.tokens.expires_at, START + DAY);
}

#[test]
fn what_is_no_grant_says_so() {
    let check = |bytes: &[u8], expected: NoTokens| {
        assert_eq!(
            read_template(bytes, START, None).unwrap_err(),
            expected,
            "{}",
            String::from_utf8_lossy(bytes)
        );
    };
    check(b"", NoTokens::Empty);
    check(b" \n", NoTokens::Empty);
    check(b"{}\n", NoTokens::Empty);
    check(b"\xef\xbb\xbf{}", NoTokens::Empty);
    check(b"null", NoTokens::Unusable("it is no JSON object"));
    check(b"\0\0\0\0", NoTokens::Unusable("it is no JSON object"));
    check(b"\xff\xfe{", NoTokens::Unusable("it is no text"));
    check(br#"{"access_token":"a"}"#, NoTokens::Unusable("it holds no refresh token"));
    check(br#"{"refresh_token":"a"}"#, NoTokens::Unusable("it holds no access token"));
    check(br#"{"access_token":null,"refresh_token":null}"#, NoTokens::Unusable("it holds no refresh token"));
    check(
        br#"{"access_token":"a","refresh_token":"b"}"#,
        NoTokens::Unusable("its tokens name neither a location nor a company"),
    );
    check(br#"{"ghl_auth_sealed":1,"data":""}"#, NoTokens::Sealed);
}

#[tokio::test]
async fn what_the_template_writes_over_ours_is_a_new_authorisation() {
    let (_folder, path) = in_folder();
    let store = open(&path);
    let first = store.connect(&location(), &tokens(&location(), "1", START), START).await.unwrap();
    store.claim(&claim(&first, "f1", START)).await.unwrap();
    std::fs::write(&path, whole("2")).unwrap();
    let found = store.load(&location()).await.unwrap().unwrap();
    assert_eq!(found.version, Version { epoch: 2, generation: 2 });
    assert!(found.intent.is_none());
    assert_eq!(store.load(&location()).await.unwrap().unwrap().version, found.version, "and stays the same");
    let late = commit(&*store, &first, "f1", tokens(&location(), "late", START), START);
    assert!(matches!(store.commit(&late).await.unwrap(), tokens::store::Committed::Superseded(_)));

    // The template that keeps members it does not know, ours among them.
    let ours = tokens(&location(), "3", START);
    let third = store.connect(&location(), &ours, START).await.unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let rewritten = text.replacen(
        refresh_token(&ours).expose(),
        refresh_token(&tokens(&location(), "4", START)).expose(),
        1,
    );
    std::fs::write(&path, rewritten).unwrap();
    let other = open(&path);
    let found = other.load(&location()).await.unwrap().unwrap();
    assert_eq!(
        found.version,
        Version { epoch: third.version.epoch + 1, generation: third.version.generation + 1 }
    );
}

#[tokio::test]
async fn an_unreadable_file_is_kept_when_a_new_grant_takes_its_place() {
    for sealed in [false, true] {
        let (folder, path) = in_folder();
        let text = &whole("1")[..4000];
        std::fs::write(&path, text).unwrap();
        let keys = if sealed { sealed_by(&new_key()) } else { Keys::default() };
        let store = store::open(&url(&path), &keys, None).unwrap();
        let refused = store.load(&location()).await;
        assert!(matches!(&refused, Err(StoreError::Unreadable { why, .. }) if why.contains("refresh token")));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "looking changes nothing");
        store.connect(&location(), &tokens(&location(), "2", START), START).await.unwrap();
        assert!(store.load(&location()).await.unwrap().is_some());
        let copy = folder.path().join("ghl_tokens.json.unreadable-1790000000");
        assert_eq!(std::fs::read_to_string(copy).unwrap(), text);
    }
}

#[tokio::test]
async fn another_locations_grant_is_kept_when_a_new_one_takes_its_place() {
    let (folder, path) = in_folder();
    let store = open(&path);
    store.connect(&other_location(), &tokens(&other_location(), "1", START), START).await.unwrap();
    let before = std::fs::read_to_string(&path).unwrap();
    store.connect(&location(), &tokens(&location(), "2", START), START).await.unwrap();
    assert!(store.load(&other_location()).await.unwrap().is_none());
    let copy = folder.path().join("ghl_tokens.json.replaced-1790000000");
    assert_eq!(std::fs::read_to_string(copy).unwrap().trim(), before.trim());
    let kept = read_template(before.as_bytes(), START, None).unwrap();
    assert_eq!(kept.id, other_location());

    // Where no copy can be kept beside the file, the file itself keeps it.
    std::fs::write(&path, &before).unwrap();
    let store = store::open_file_in_place(&path, &Keys::default(), None).unwrap();
    store.connect(&location(), &tokens(&location(), "3", START), START).await.unwrap();
    let text: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(text["ghl_auth"]["displaced"][0].as_str().unwrap().trim(), before.trim());
}

#[tokio::test]
async fn a_folder_in_its_place_and_a_missing_one_are_named() {
    let (folder, path) = in_folder();
    std::fs::create_dir(&path).unwrap();
    let refused = |path: &Path| store::open(&url(path), &Keys::default(), None).err().expect("a refusal");
    assert!(matches!(refused(&path), StoreError::IsFolder { .. }));
    let missing = folder.path().join("missing/ghl_tokens.json");
    assert!(matches!(refused(&missing), StoreError::Io { doing: "find the folder", .. }));
}

#[tokio::test]
async fn a_link_to_the_file_stays_a_link() {
    let (folder, path) = in_folder();
    let target = folder.path().join("real.json");
    std::os::unix::fs::symlink("real.json", &path).unwrap();
    let store = open(&path);
    store.connect(&location(), &tokens(&location(), "1", START), START).await.unwrap();
    assert!(std::fs::symlink_metadata(&path).unwrap().is_symlink());
    assert!(std::fs::symlink_metadata(&target).unwrap().is_file());
    assert!(open(&target).load(&location()).await.unwrap().is_some());
}

#[tokio::test]
async fn a_later_programs_file_is_left_alone() {
    for text in [r#"{"ghl_auth":{"version":2}}"#, r#"{"ghl_auth_sealed":2,"data":""}"#] {
        let (_folder, path) = in_folder();
        std::fs::write(&path, text).unwrap();
        let refused = store::open(&url(&path), &sealed_by(&new_key()), None).err().expect("a refusal");
        assert!(matches!(refused, StoreError::TooNew { .. }), "{refused:?}");
    }
}

#[tokio::test]
async fn a_wrong_key_is_refused_before_any_write_and_an_old_one_seals_anew() {
    let (_folder, path) = in_folder();
    let (old, new) = (new_key(), new_key());
    let open = |keys: &Keys| store::open(&url(&path), keys, None);
    let first = open(&Keys::default()).unwrap();
    first.connect(&location(), &tokens(&location(), "1", START), START).await.unwrap();
    drop(first);
    // A key where there was none seals what is there at once.
    drop(open(&sealed_by(&old)).unwrap());
    let sealed = std::fs::read_to_string(&path).unwrap();
    assert!(sealed.contains("ghl_auth_sealed") && !sealed.contains("eyJhbGciOiJSUzI1NiIs"));

    let refusal = |keys: &Keys| open(keys).err().expect("a refusal");
    assert!(matches!(refusal(&sealed_by(&new)), StoreError::WrongKey { key_id, .. } if key_id == old.id()));
    assert!(matches!(refusal(&Keys::default()), StoreError::KeyMissing { .. }));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), sealed, "nothing was written");

    for (from, to) in [("\"epoch\": 1", "\"epoch\": 2"), ("BBBBBBBBBBBBBBBBBBBB", "DDDDDDDDDDDDDDDDDDDD")] {
        std::fs::write(&path, sealed.replace(from, to)).unwrap();
        assert!(matches!(refusal(&sealed_by(&old)), StoreError::SealBroken { .. }), "{from}");
    }
    std::fs::write(&path, &sealed).unwrap();

    let both = Keys { current: Some(new.clone()), old: vec![old.clone()] };
    let store = open(&both).unwrap();
    assert!(store.load(&location()).await.unwrap().is_some());
    drop(store);
    assert!(matches!(refusal(&sealed_by(&old)), StoreError::WrongKey { .. }), "sealed anew at once");
    assert!(open(&sealed_by(&new)).unwrap().load(&location()).await.unwrap().is_some());
}

#[tokio::test]
async fn python_reads_what_we_write() {
    let (_folder, path) = in_folder();
    let store = open(&path);
    let installation = store.connect(&location(), &tokens(&location(), "1", START), START).await.unwrap();
    let exported = path.with_file_name("exported.json");
    std::fs::write(&exported, &*to_template_json(&installation)).unwrap();
    assert!(!std::fs::read_to_string(&exported).unwrap().contains("ghl_auth"));
    let program = r#"
import json, sys
from datetime import datetime, timedelta
for path in sys.argv[1:]:
    with open(path, encoding="ascii") as file:
        tokens = json.load(file)
    expiry = datetime.fromisoformat(tokens["expiry_timestamp"])
    assert expiry.tzinfo is None
    expiry < datetime.now()
    end = datetime.fromtimestamp(1790086400.123)
    assert abs(expiry - (end - timedelta(minutes=5))) < timedelta(milliseconds=1), expiry
    assert tokens["note"] == "a\u00e7\u00e3o" and tokens["expires_in"] == 86399
    assert tokens["access_token"].count(".") == 2 and tokens["refresh_token"].count(".") == 2
"#;
    let run = Command::new("python3").args(["-c", program]).arg(&path).arg(&exported).output();
    match run {
        Ok(run) => assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr)),
        Err(error) => println!("skipped: no python3 here ({error})"),
    }
    let again = read_template(&std::fs::read(&exported).unwrap(), START, None).unwrap();
    assert!(again.tokens.access == installation.tokens.access);
    assert_eq!(again.id, InstallationId::from_parts("location", "BBBBBBBBBBBBBBBBBBBB").unwrap());
}
