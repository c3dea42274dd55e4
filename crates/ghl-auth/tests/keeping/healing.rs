//! Crashes, full disks, refusals and second logins, and how a grant comes through them.

use std::time::Duration;

use sandbox::{Fault, FaultKind, Matcher, Settings};
use serde_json::{Map, Value};
use tokens::{Connection, KeeperError, Timing};

use crate::support::fussy::Fussy;
use crate::support::{DAY, HOUR, House, PAST_THE_LEASE, PAST_THE_WINDOW, Process, Rest, brisk, short_tokens};

/// HighLevel answers nobody again after its 30 seconds, and takes a second use of a token amiss.
fn unforgiving() -> Settings {
    Settings { reuse_ends_grant: true, ..short_tokens() }
}

#[tokio::test]
async fn a_refresh_that_was_cut_off_is_taken_up_by_whoever_comes_next() {
    for rest in Rest::ALL {
        let house = House::new(rest).await;
        house.advance(HOUR);
        house.die_between_send_and_answer(house.keeper()).await;
        house.advance(PAST_THE_LEASE);
        // The token at hand would do for 23 hours; only the open intent says that time presses.
        house.run_token().await.expect("a token");
        assert_eq!(house.stored().await.version.generation, 2, "{rest:?}");
        house.advance(PAST_THE_WINDOW);
        house.has_lost_nothing("a crash between send and answer").await;
    }
}

/// The same crash while the connection rests after a silence, a suspension or a refusal.
#[tokio::test]
async fn a_refresh_that_was_cut_off_is_taken_up_however_the_connection_stood() {
    for rest in Rest::ONE_OF_EACH {
        for trouble in [FaultKind::status(503, ""), FaultKind::NotActive, FaultKind::InvalidGrant] {
            let house = House::with(rest, short_tokens()).await;
            house.advance(HOUR);
            house.sandbox.fault(Fault::new(trouble.clone()).on(Matcher::Refresh).until_cleared());
            house.hasty_keeper().refresh(&house.id).await.expect_err("trouble");
            assert_ne!(house.stored().await.connection, Connection::Connected, "{rest:?}: {trouble:?}");
            house.sandbox.clear_faults();
            // A person tries again, and pulls the plug.
            house.advance(Duration::from_secs(5));
            house.die_between_send_and_answer(house.keeper()).await;
            house.advance(PAST_THE_LEASE);
            house.run_token().await.expect("a token");
            assert_eq!(house.stored().await.version.generation, 2, "{rest:?}: {trouble:?}");
            house.advance(PAST_THE_WINDOW);
            house.has_lost_nothing(&format!("{trouble:?} and a crash")).await;
        }
    }
}

/// A crash, then a run with a wrong client secret, then the right one, all within the 30 seconds.
#[tokio::test]
async fn a_wrong_client_does_not_end_what_a_crash_left_open() {
    for rest in Rest::ONE_OF_EACH {
        let house = House::with(rest, short_tokens()).await;
        house.advance(HOUR);
        house.die_between_send_and_answer(house.keeper()).await;
        house.advance(PAST_THE_LEASE);
        let timing = Timing { window: Timing::default().window, ..brisk() };
        let wrong = house.keeper_of(house.store(), timing, &house.sandbox.base_url(), "not-the-secret");
        let error = wrong.refresh(&house.id).await.expect_err("refused");
        assert!(matches!(error, KeeperError::InvalidClient { .. }), "{rest:?}: {error}");
        house.run_token().await.expect("a token");
        assert_eq!(house.stored().await.version.generation, 2, "{rest:?}");
        house.advance(PAST_THE_WINDOW);
        house.has_lost_nothing("a crash and a wrong secret").await;
    }
}

#[tokio::test]
async fn tokens_that_cannot_be_saved_wait_beside_the_store_for_the_next_process() {
    for rest in Rest::ALL {
        let house = House::with(rest, unforgiving()).await;
        house.advance(DAY);
        let store = Fussy::over(house.store());
        store.fail_to_commit();
        let keeper = house.keeper_over(store.clone());
        let error = keeper.token(&house.id, HOUR).await.expect_err("nothing that is not at rest is given");
        assert!(matches!(error, KeeperError::Spooled(_)), "{rest:?}: {error}");
        drop((keeper, store));
        house.advance(PAST_THE_WINDOW);
        let next = house.keeper();
        next.recover().await.expect("the answer is found");
        assert_eq!(house.stored().await.version.generation, 2, "{rest:?}");
        assert_eq!(house.sandbox.counts().refreshes, 1, "{rest:?}");
        house.has_lost_nothing("a store that took nothing").await;
        let served = next.token(&house.id, HOUR).await.expect("a token");
        assert!(!served.refreshed, "{rest:?}");
    }
}

/// The same for a process that runs already and has looked beside the store long ago.
#[tokio::test]
async fn an_answer_beside_the_store_is_found_before_its_token_is_sent_again() {
    for rest in Rest::ALL {
        let house = House::with(rest, unforgiving()).await;
        house.advance(DAY);
        let running = house.keeper_with(house.store(), helpless());
        running.recover().await.expect("nothing to recover");
        let store = Fussy::over(house.store());
        store.fail_to_commit();
        house.keeper_over(store).token(&house.id, HOUR).await.expect_err("not saved");
        house.advance(PAST_THE_WINDOW);
        let served = running.token(&house.id, HOUR).await.expect("a token");
        assert_eq!(served.installation.version.generation, 2, "{rest:?}");
        assert_eq!(house.sandbox.counts().refreshes, 1, "{rest:?}: a used token was sent again");
        house.has_lost_nothing("an answer beside the store").await;
        // And the lease has gone with it.
        running.refresh(&house.id).await.expect("new tokens");
        house.has_lost_nothing("the refresh after it").await;
    }
}

/// A process that goes on living after it could not save: nobody waits for it.
#[tokio::test]
async fn a_process_that_cannot_save_lets_others_fly() {
    for rest in Rest::ALL {
        let house = House::with(rest, short_tokens()).await;
        house.advance(DAY);
        let store = Fussy::over(house.store());
        store.fail_to_commit();
        let stuck = house.keeper_over(store.clone());
        let error = stuck.token(&house.id, HOUR).await.expect_err("not saved");
        assert!(matches!(error, KeeperError::Spooled(_)), "{rest:?}: {error}");
        let other = house.keeper_with(house.store(), helpless());
        other.token(&house.id, HOUR).await.expect("a token");
        assert_eq!(house.sandbox.counts().rotations, 1, "{rest:?}");
        house.has_lost_nothing("a process that cannot save").await;
        // What it left behind is out of date by the time somebody finds it.
        other.refresh(&house.id).await.expect("new tokens");
        drop((stuck, store));
        house.keeper().recover().await.expect("nothing to do");
        assert_eq!(house.stored().await.version.generation, 3, "{rest:?}");
        house.has_lost_nothing("an answer that was out of date").await;
    }
}

/// Waits for others for a while, and helps nobody along.
fn helpless() -> Timing {
    Timing { help_after: DAY, answers_count_for: Duration::from_secs(1), ..brisk() }
}

#[tokio::test]
async fn a_store_that_is_down_for_a_while_gets_the_tokens_in_the_end() {
    for rest in Rest::ONE_OF_EACH {
        let house = House::with(rest, short_tokens()).await;
        house.advance(DAY);
        let store = Fussy::over(house.store());
        store.fail_to_commit();
        let timing = Timing { commit_patience: None, ..brisk() };
        let (keeper, id) = (house.keeper_with(store.clone(), timing), house.id.clone());
        let flight = tokio::spawn(async move { keeper.refresh(&id).await });
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!flight.is_finished(), "{rest:?}");
        store.commit_again();
        flight.await.expect("no panic").expect("new tokens");
        house.has_lost_nothing("a store that was down").await;
    }
}

/// One process holds the new tokens and can't save them; another is told that the old ones are dead,
/// just as the first one dies.
#[tokio::test]
async fn a_refusal_is_doubted_while_an_answer_lies_beside_the_store() {
    for rest in Rest::ALL {
        let house = House::with(rest, short_tokens()).await;
        house.advance(DAY);
        let (first, second) = (Fussy::over(house.store()), house.keeper());
        first.hang_in_commit();
        let (keeper, id) = (house.keeper_over(first), house.id.clone());
        let first = Process::running(async move { keeper.refresh(&id).await });
        while house.sandbox.counts().rotations == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        // It lands; the second one takes it for slow, helps, and is answered too late.
        tokio::time::sleep(Duration::from_millis(50)).await;
        house.sandbox.hold(Matcher::Refresh);
        let id = house.id.clone();
        let helper = tokio::spawn(async move { second.token(&id, HOUR).await });
        house.sandbox.until_held(1).await;
        house.advance(PAST_THE_WINDOW);
        first.kill().await;
        house.sandbox.release();
        let served = helper.await.expect("no panic").expect("healed");
        assert_eq!(served.installation.version.generation, 2, "{rest:?}");
        house.has_lost_nothing("a refusal and a death").await;
    }
}

/// In October 2024 HighLevel handed out pairs of which it did not know the refresh token afterwards.
#[tokio::test]
async fn a_bad_pair_is_healed_with_the_token_before_it() {
    for rest in Rest::ONE_OF_EACH {
        let house = House::with(rest, short_tokens()).await;
        let bad = Map::from_iter([("refresh_token".to_owned(), Value::from("no-such-token"))]);
        house.sandbox.fault(Fault::new(FaultKind::FieldsSet { fields: bad }).on(Matcher::Refresh));
        let keeper = house.keeper();
        keeper.refresh(&house.id).await.expect("a pair, taken in good faith");
        assert!(!house.holds_the_current_token().await, "it is a bad one");
        keeper.refresh(&house.id).await.expect("healed");
        house.has_lost_nothing("a bad pair").await;
    }
}

#[tokio::test]
async fn a_new_login_wins_over_a_refresh_in_the_air() {
    for rest in Rest::ALL {
        let house = House::new(rest).await;
        house.advance(HOUR);
        house.sandbox.hold_answers(Matcher::Refresh);
        let (keeper, id) = (house.keeper(), house.id.clone());
        let flight = tokio::spawn(async move { keeper.refresh(&id).await });
        house.sandbox.until_held(1).await;
        let connected = house.log_in().await;
        house.sandbox.release();
        let landed = flight.await.expect("no panic").expect("what rests in the store");
        assert!(landed.tokens.refresh_by == connected.tokens.refresh_by, "{rest:?}: the login's tokens");
        let stored = house.stored().await;
        assert_eq!(stored.version, connected.version, "{rest:?}");
        assert!(stored.tokens.refresh_by == connected.tokens.refresh_by, "{rest:?}");
        house.has_lost_nothing("a login over a refresh").await;
    }
}

#[tokio::test]
async fn a_location_that_is_paused_for_three_days_comes_back_within_the_hour() {
    for rest in Rest::ONE_OF_EACH {
        let house = House::with(rest, short_tokens()).await;
        let before = house.stored().await;
        house.advance(DAY);
        house.sandbox.suspend(house.id.as_str());
        let mut refusals = 0;
        for _ in 0..3 * 24 * 4 {
            // Four times an hour, each time a process of its own, as from cron.
            let error = house.keeper().token(&house.id, HOUR).await.expect_err("paused");
            assert!(matches!(error, KeeperError::Suspended { .. }), "{rest:?}: {error}");
            let stored = house.stored().await;
            assert!(matches!(stored.connection, Connection::Suspended { .. }), "{rest:?}");
            assert!(stored.tokens == before.tokens && stored.version == before.version, "{rest:?}");
            refusals += 1;
            house.advance(HOUR / 4);
        }
        assert_eq!(refusals, 288);
        assert_eq!(house.sandbox.counts().refreshes, 72, "{rest:?}: asked once an hour");
        house.sandbox.resume(house.id.as_str());
        let back = async {
            for _ in 0..4 {
                if let Ok(served) = house.keeper().token(&house.id, HOUR).await {
                    return Some(served);
                }
                house.advance(HOUR / 4);
            }
            None
        };
        let served = back.await.expect("back within the hour");
        assert_eq!(served.installation.connection, Connection::Connected);
        house.has_lost_nothing("three days of suspension").await;
    }
}

#[tokio::test]
async fn a_refused_client_stops_all_refreshes_and_changes_no_installation() {
    let house = House::with(Rest::Sqlite, Settings { extra_locations: 24, ..short_tokens() }).await;
    let keeper = house.keeper();
    for location in house.sandbox.location_ids() {
        let code = house.sandbox.approve_location(&location, crate::support::REDIRECT_URI);
        keeper.connect(&tokens::AuthorizationCode::new(code)).await.expect("a grant");
    }
    let store = house.store();
    let before = store.list(None, 1000).await.expect("readable");
    assert_eq!(before.len(), 25);
    house.advance(DAY);
    house.sandbox.fault(Fault::new(FaultKind::RefusedClient).on(Matcher::Refresh));
    let first = keeper.token(&before[7].id, HOUR).await.expect_err("refused");
    assert!(matches!(first, KeeperError::InvalidClient { .. }), "{first}");
    for installation in &before {
        let error = keeper.token(&installation.id, HOUR).await.expect_err("paused");
        assert!(matches!(error, KeeperError::InvalidClient { .. }), "{error}");
    }
    assert_eq!(house.sandbox.counts().refreshes, 1, "nothing was sent after the refusal");
    for (before, after) in before.iter().zip(store.list(None, 1000).await.expect("readable")) {
        assert!(before.tokens == after.tokens && before.version == after.version);
        assert_eq!((&before.connection, before.intent), (&after.connection, after.intent), "{}", before.id);
    }
    house.advance(PAST_THE_WINDOW);
    for installation in &before {
        keeper.token(&installation.id, HOUR).await.expect("a token, once the client is right again");
    }
}
