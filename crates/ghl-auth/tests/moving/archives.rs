//! `backup` and `restore`: a copy refreshes nothing before someone says so, and what landed comes last.

use std::time::Duration;

use crate::houses::{agency, all, holds, holds_all, is_empty, land_and_die, lose, open, standby};
use crate::serving::Service;
use crate::support::{ELSEWHERE, Home, KEY};

const OLD: &str = "sqlite:ghl-auth.db";
const NEW: &str = "sqlite:restored.db";

/// More than HighLevel's 30 seconds in which an answer can be had again.
const PAST_THE_WINDOW: Duration = Duration::from_secs(60);

#[test]
fn a_copy_made_while_the_service_runs_stands_by_until_it_takes_over() {
    let home = agency(3).set("GHL_AUTH_LISTEN", "127.0.0.1:0");
    home.run(["refresh", "--all"]).good();
    let service = Service::start(home);
    let key = service.key(&["n8n", "--all"]);
    // Under load: someone asks all the time.
    let asked = std::thread::scope(|scope| {
        let load = scope.spawn(|| (0..40).filter(|_| service.token(&key).status == 200).count());
        service.home.run(["backup", "copy.ghl"]).good().answers("3 installations");
        load.join().expect("no panic")
    });
    assert_eq!(asked, 40);
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(service.home.path("copy.ghl")).expect("a file").permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    let Service { home, running, .. } = service;
    running.interrupt();
    running.end();

    let home = home.set("GHL_STORE", NEW);
    home.run(["restore", "copy.ghl"])
        .good()
        .answers("3 installations read, 3 of them put")
        .answers("on standby");
    for (one, other) in all(&home, OLD).iter().zip(&all(&home, NEW)) {
        assert!(one.id == other.id && one.version == other.version && one.tokens == other.tokens);
        assert!(one.previous.as_ref().map(|it| &it.tokens) == other.previous.as_ref().map(|it| &it.tokens));
    }
    // A drill steals nothing.
    let rotations = home.sandbox.counts().rotations;
    home.run(["refresh", "--all"]).fails_with(2, "store_standby");
    let token = home.run(["token", "--location", home.location()]).good().out;
    assert!(home.sandbox.is_valid_access_token(token.trim()));
    home.run(["check"]).good().complains("on standby");
    assert_eq!(home.sandbox.counts().rotations, rotations);
    home.run(["keys", "list"]).good().answers("n8n");
    // Nor does a service over it.
    let service = Service::start(home.set("GHL_AUTH_LISTEN", "127.0.0.1:0"));
    assert!(service.running.said().contains("on standby"));
    assert_eq!(service.token(&key).status, 200, "keys came along, and tokens that live are served");
    let Service { home, running, .. } = service;
    running.interrupt();
    running.end();
    assert_eq!(home.sandbox.counts().rotations, rotations);

    home.run(["restore", "--take-over"]).fails_with(2, "confirm");
    assert!(standby(&home, NEW).is_some());
    home.run(["restore", "--take-over", "--yes"]).good().answers("in service");
    home.run(["refresh", "--all"]).good();
    assert!(holds_all(&home, NEW));
}

#[test]
fn from_each_store_into_each() {
    for from in [OLD, "file:ghl_tokens.json"] {
        for to in [NEW, "file:restored.json"] {
            let home = Home::new().set("GHL_AUTH_KEY", KEY).set("GHL_STORE", from).log_in();
            home.run(["refresh"]).good();
            home.run(["backup", "copy.ghl"]).good();
            let before = all(&home, from).pop().expect("a grant");
            let home = home.set("GHL_STORE", to);
            home.run(["restore", "copy.ghl"]).good();
            let after = all(&home, to).pop().expect("a grant");
            assert!(before.version == after.version && before.tokens == after.tokens, "{from} to {to}");
            home.run(["refresh"]).fails_with(2, "store_standby");
            home.run(["restore", "--take-over", "--yes"]).good();
            home.run(["refresh"]).good();
            assert!(holds(&home, to), "{from} to {to}");
        }
    }
}

#[test]
fn many_have_no_room_in_a_file() {
    let home = agency(2);
    home.run(["backup", "copy.ghl"]).good();
    let home = home.set("GHL_STORE", "file:restored.json");
    home.run(["restore", "copy.ghl"]).fails_with(2, "no_room_for");
    assert!(is_empty(&home, "file:restored.json"));
}

#[test]
fn an_old_backup_lives_where_it_is_not_older_than_the_grant_or_where_the_spool_is_newer() {
    for with_spool in [true, false] {
        let home = agency(4);
        let ids = home.sandbox.location_ids();
        home.run(["backup", "copy.ghl"]).good();
        // The second was refreshed once after the backup, and saved; the first once, in a process that
        // died over it; the third and the fourth never.
        home.run(["refresh", "--location", &ids[1]]).good();
        land_and_die(&home, OLD);
        home.sandbox.advance(PAST_THE_WINDOW);
        lose(&home, "ghl-auth.db", !with_spool);
        let run = home.run(["restore", "copy.ghl", "--take-over", "--yes"]).good();
        let landed = if with_spool { "one answer was newer" } else { "0 answers were newer" };
        assert!(run.out.contains(landed), "{}", run.out);
        let json = home.run(["refresh", "--all", "--json"]).ended(3).json();
        let list = json["installations"].as_array().expect("a list");
        let refreshed: Vec<bool> = ids
            .iter()
            .map(|id| list.iter().find(|it| it["id"] == **id).expect("each")["refreshed"] == true)
            .collect();
        assert_eq!(refreshed, [with_spool, false, true, true], "with the spool: {with_spool}");
        for it in list.iter().filter(|it| it["refreshed"] == false) {
            assert_eq!(it["error"]["code"], "needs_person");
        }
        // What is spent is healed by a person, as ever.
        let code = home.sandbox.approve_location(&ids[1], ELSEWHERE);
        home.run(["login", "--code", &code]).good();
    }
}

#[test]
fn what_landed_several_refreshes_after_the_backup_counts_above_it() {
    let home = agency(1);
    home.run(["backup", "copy.ghl"]).good();
    for _ in 0..3 {
        home.run(["refresh"]).good();
    }
    land_and_die(&home, OLD);
    home.sandbox.advance(PAST_THE_WINDOW);
    lose(&home, "ghl-auth.db", false);
    home.run(["restore", "copy.ghl", "--take-over", "--yes"]).good().answers("one answer was newer");
    let it = all(&home, OLD).pop().expect("a grant");
    assert_eq!(it.version.generation, 5, "as if it had been saved where it was asked for");
    assert!(holds_all(&home, OLD));
    assert!(!home.path("ghl-auth.db.spool").exists(), "what was saved is not kept twice");
    home.run(["refresh"]).good();
}

#[test]
fn a_backup_never_goes_over_something_newer() {
    let home = agency(2);
    home.run(["backup", "copy.ghl"]).good();
    home.run(["refresh", "--all"]).good();
    home.run(["restore", "copy.ghl"]).fails_with(2, "restore_not_empty");
    assert_eq!(standby(&home, OLD), None, "nothing was changed");
    home.run(["restore", "copy.ghl", "--merge"]).good().answers("2 installations read, 0 of them put");
    assert!(holds_all(&home, OLD));
    home.run(["restore", "--take-over", "--yes"]).good();
    home.run(["refresh", "--all"]).good();
}

#[test]
fn nothing_is_used_of_an_archive_that_is_not_whole_or_not_ours() {
    let home = agency(1);
    home.run(["backup", "copy.ghl"]).good();
    let bytes = std::fs::read(home.path("copy.ghl")).expect("an archive");
    let home = home.set("GHL_STORE", NEW);
    let untouched = |home: &Home| {
        assert!(is_empty(home, NEW));
        assert_eq!(standby(home, NEW), None);
    };
    std::fs::write(home.path("cut.ghl"), &bytes[..bytes.len() - 1]).expect("written");
    home.run(["restore", "cut.ghl"]).fails_with(3, "store_unreadable").complains("ends in the middle");
    let mut altered = bytes.clone();
    altered[bytes.len() / 2] ^= 1;
    std::fs::write(home.path("altered.ghl"), &altered).expect("written");
    home.run(["restore", "altered.ghl"]).fails_with(4, "seal_broken");
    std::fs::write(home.path("other.ghl"), "hello, this is something else").expect("written");
    home.run(["restore", "other.ghl"]).fails_with(3, "store_unreadable");
    untouched(&home);
    lose(&home, "restored.db", true);
    let other = home.set("GHL_AUTH_KEY", &store::Key::generate());
    other.run(["restore", "copy.ghl"]).fails_with(2, "wrong_key");
    let home = other.set("GHL_AUTH_KEY", KEY);
    assert!(!bytes.windows(3).any(|part| part == b"eyJ"), "no token lies there in clear text");
    lose(&home, "restored.db", true);
    home.run(["restore", "copy.ghl"]).good();
    drop(open(&home, NEW));
}

#[test]
fn in_portuguese_too() {
    let home = agency(1).set("GHL_AUTH_LANG", "pt-BR");
    home.run(["backup", "copy.ghl"]).good().answers("Uma instalação está em");
    let home = home.set("GHL_STORE", NEW);
    home.run(["restore", "copy.ghl"]).good().answers("está em espera");
    home.run(["refresh"]).fails_with(2, "store_standby").complains("foi restaurado de copy.ghl");
    home.run(["restore", "--take-over", "--yes"]).good().answers("está em serviço");
}
