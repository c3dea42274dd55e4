//! `migrate`: everything goes, the source stands by, and a stop at any point loses nothing.

use std::time::Duration;

use sandbox::Matcher;

use crate::houses::{agency, all, block_on, holds_all, is_empty, land_and_die, location, open, standby};
use crate::support::{Home, KEY, Run};

const OLD: &str = "sqlite:ghl-auth.db";
const NEW: &str = "sqlite:new.db";

fn migrate(home: &Home, more: &[&str]) -> Run {
    home.run(["migrate", "--from", OLD, "--to", NEW].iter().chain(more))
}

#[test]
fn everything_goes_and_the_old_store_refreshes_nothing_more() {
    let home = agency(3);
    home.run(["refresh", "--all"]).good();
    let key = home.run(["keys", "create", "--name", "n8n", "--all"]).good().out;
    home.run(["maintenance", "start", "--for", "2h", "--reason", "a move"]).good();
    let before = all(&home, OLD);
    migrate(&home, &[]).good().answers("3 installations moved").answers("GHL_STORE");

    let after = all(&home, NEW);
    assert_eq!(after.len(), 3);
    for (before, after) in before.iter().zip(&after) {
        assert_eq!((&before.id, before.version), (&after.id, after.version));
        assert_eq!(after.version.generation, 2, "generations are kept");
        assert!(before.tokens == after.tokens && before.connected_at == after.connected_at);
        let previous =
            |it: &tokens::Installation| it.previous.as_ref().expect("the set before").tokens.clone();
        assert!(previous(before) == previous(after));
    }
    assert_eq!(standby(&home, NEW), None);
    assert!(standby(&home, OLD).expect("on standby").ends_with("new.db"));

    // The old one says where they went, and hands out what still lives.
    home.run(["refresh", "--all"]).fails_with(2, "store_standby").complains("moved to new.db");
    home.run(["status"]).good().complains("moved to new.db");
    let token = home.run(["token"].iter().chain(&["--location", home.location()])).good().out;
    assert!(home.sandbox.is_valid_access_token(token.trim()));
    let rotations = home.sandbox.counts().rotations;
    let code = home.sandbox.approve_location(home.location(), crate::support::ELSEWHERE);
    home.run(["login", "--code", &code]).fails_with(2, "store_standby");
    let run = migrate(&home, &[]).good().answers("before");
    assert!(!run.out.contains("3 installations"), "{}", run.out);

    let home = home.set("GHL_STORE", NEW);
    assert_eq!(home.sandbox.counts().rotations, rotations, "a code was not used up for nothing");
    home.run(["refresh", "--all"]).good();
    assert!(holds_all(&home, NEW));
    let keys = home.run(["keys", "list"]).good();
    assert!(keys.out.contains("n8n") && !keys.out.contains(key.trim()), "{}", keys.out);
    home.run(["maintenance", "list"]).good().answers("a move");
    migrate(&home, &["--give-up"]).fails_with(1, "migrate_used");
    assert!(standby(&home, OLD).is_some() && standby(&home, NEW).is_none(), "that changed nothing");
}

/// Into PostgreSQL and back, with what the service remembers.
#[test]
fn a_database_goes_to_postgresql_and_back() {
    if crate::postgres::is_left_out() {
        return;
    }
    let home = agency(3);
    home.run(["refresh", "--all"]).good();
    home.run(["keys", "create", "--name", "n8n", "--all"]).good();
    home.run(["maintenance", "start", "--for", "2h", "--reason", "a move"]).good();
    home.run(["check"]).good();
    let before = all(&home, OLD);
    let postgres = crate::postgres::server().fresh_schema();
    let there = home.run(["migrate", "--from", OLD, "--to", postgres.as_str()]).good();
    let there = there.answers("3 installations moved");
    assert!(!format!("{}{}", there.out, there.err).contains(crate::postgres::PASSWORD));
    let home = home.set("GHL_STORE", &postgres);
    home.run(["refresh", "--all"]).good();
    home.run(["token"].iter().chain(&["--location", home.location()])).good();
    home.run(["maintenance", "list"]).good().answers("a move");
    let back = home.run(["migrate", "--from", postgres.as_str(), "--to", NEW]).good();
    back.answers("3 installations moved");
    home.run(["refresh", "--all"]).fails_with(2, "store_standby");
    let home = home.set("GHL_STORE", NEW);
    let after = all(&home, NEW);
    for (before, after) in before.iter().zip(&after) {
        assert_eq!((&before.id, before.version.epoch), (&after.id, after.version.epoch));
        assert_eq!(after.version.generation, 3, "generations are kept");
    }
    home.run(["refresh", "--all"]).good();
    assert!(holds_all(&home, NEW));
    home.run(["keys", "list"]).good().answers("n8n");
    home.run(["maintenance", "list"]).good().answers("a move");
}

#[test]
fn in_portuguese_too() {
    let home = agency(1).set("GHL_AUTH_LANG", "pt-BR");
    migrate(&home, &[]).good().answers("Uma instalação passou de");
    home.run(["refresh"]).fails_with(2, "store_standby").complains("suas autorizações passaram para new.db");
    migrate(&home, &["--give-up"]).good().answers("está em serviço de novo");
    home.run(["refresh"]).good();
}

#[test]
fn a_file_s_grant_goes_into_a_database() {
    let home = Home::connected();
    home.run(["refresh"]).good();
    let home = home.set("GHL_AUTH_KEY", KEY);
    home.run(["migrate", "--from", "file:ghl_tokens.json", "--to", NEW])
        .good()
        .answers("One installation moved");
    home.run(["refresh"]).fails_with(2, "store_standby").complains("new.db");
    let home = home.set("GHL_STORE", NEW);
    home.run(["refresh"]).good();
    let it = all(&home, NEW).pop().expect("a grant");
    assert_eq!((it.id, it.version.generation), (location(&home), 3));
    assert!(holds_all(&home, NEW));
}

#[test]
fn what_can_t_be_is_refused_before_anything_is_changed() {
    let home = agency(1);
    let refused = |from: &str, to: &str, code: &str| {
        home.run(["migrate", "--from", from, "--to", to]).fails_with(2, code);
        assert_eq!(standby(&home, OLD), None);
    };
    refused(OLD, OLD, "migrate_same");
    refused(OLD, "file:tokens.json", "migrate_to_file");
    refused("sqlite:nothing.db", NEW, "migrate_nothing");
    assert!(!home.path("nothing.db").exists());
    refused("mysql:x", NEW, "migrate_address");
    home.run(["migrate", "--from", OLD, "--to", NEW, "--give-up"]).fails_with(2, "migrate_not_begun");
    // Another house has moved in there.
    block_on(async {
        let grant = open(&home, OLD).load(&location(&home)).await.expect("read").expect("a grant");
        let id = tokens::InstallationId::from_parts("location", "another").expect("an id");
        let other = tokens::Installation { id, ..grant };
        open(&home, NEW).put(&[other]).await.expect("put");
    });
    refused(OLD, NEW, "migrate_target_in_use");
    home.run(["refresh"]).good();
}

#[test]
fn a_flight_in_the_air_lands_before_anything_is_copied() {
    let home = agency(1);
    home.sandbox.hold_answers(Matcher::Refresh);
    let refresh = home.start(["refresh"]);
    while home.sandbox.held() == 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut moving = home.start(["migrate", "--from", OLD, "--to", NEW]);
    std::thread::sleep(Duration::from_millis(700));
    assert!(moving.child.try_wait().expect("ours").is_none(), "it waits: {}", moving.said());
    assert!(is_empty(&home, NEW));
    home.sandbox.release();
    refresh.end().good();
    moving.end().good();
    assert_eq!(all(&home, NEW)[0].version.generation, 2);
    assert!(holds_all(&home, NEW));
}

#[test]
fn an_answer_that_nobody_saved_is_saved_before_anything_is_copied() {
    let home = agency(2);
    land_and_die(&home, OLD);
    assert!(!holds_all(&home, OLD));
    migrate(&home, &[]).good();
    assert!(holds_all(&home, NEW), "what landed went along");
}

#[test]
fn whoever_gives_up_goes_on_where_nothing_was_used() {
    let home = agency(2);
    migrate(&home, &[]).good();
    migrate(&home, &["--give-up"]).good().answers("in service again");
    assert!(standby(&home, NEW).expect("on standby").starts_with("given up for "));
    home.run(["refresh", "--all"]).good();
    assert!(holds_all(&home, OLD));
    // And the move can be made later, over what was left there.
    migrate(&home, &[]).good();
    assert!(holds_all(&home, NEW));
}

#[test]
fn killed_anywhere_it_goes_on_and_never_do_both_stores_refresh() {
    let home = agency(1);
    // Enough of them that there is something to be killed in.
    let grant = all(&home, OLD).pop().expect("a grant");
    let many: Vec<_> = (0..2000)
        .map(|n| {
            let id = tokens::InstallationId::from_parts("location", &format!("L{n:06}")).expect("an id");
            tokens::Installation { id, ..grant.clone() }
        })
        .collect();
    block_on(open(&home, OLD).put(&many)).expect("put");
    let mut kills = 0;
    for pause in (0..).map(|n| Duration::from_millis(30 + n * 60)) {
        let mut moving = home.start(["migrate", "--from", OLD, "--to", NEW]);
        std::thread::sleep(pause);
        let ended = moving.child.try_wait().expect("ours").is_some();
        if !ended {
            moving.signal("KILL");
            kills += 1;
        }
        moving.until_it_ends();
        let said = moving.end();
        let old_stands_by = standby(&home, OLD).is_some();
        let new_stands_by = !home.path("new.db").exists() || standby(&home, NEW).is_some();
        let new_is_empty = !home.path("new.db").exists() || is_empty(&home, NEW);
        assert!(old_stands_by || new_stands_by || new_is_empty, "after {pause:?} both refresh");
        if ended {
            said.good();
            break;
        }
    }
    assert!(kills >= 3, "{kills} kills");
    let (before, after) = (all(&home, OLD), all(&home, NEW));
    assert_eq!((before.len(), after.len()), (2001, 2001));
    let same = |(one, other): (&tokens::Installation, &tokens::Installation)| {
        one.id == other.id && one.version == other.version && one.tokens == other.tokens
    };
    assert!(before.iter().zip(&after).all(same));
    assert!(standby(&home, OLD).is_some() && standby(&home, NEW).is_none());
}
