//! Whoever asks, how many at once, and whether they wait for the answer.

use std::time::{Duration, Instant};

use sandbox::{Fault, FaultKind, Matcher};
use tokens::Timing;

use crate::support::programs::report;
use crate::support::{DAY, HOUR, House, PAST_THE_WINDOW, Rest, brisk, short_tokens, times};

#[tokio::test]
async fn sixty_four_callers_at_once_cost_one_refresh() {
    let rounds = times("GHL_AUTH_CALLER_ROUNDS", 25);
    for rest in Rest::ONE_OF_EACH {
        let began = Instant::now();
        let house = House::new(rest).await;
        let keeper = house.keeper();
        for round in 1..=rounds as u64 {
            house.advance(DAY);
            let callers: Vec<_> = (0..64)
                .map(|_| {
                    let (keeper, id) = (keeper.clone(), house.id.clone());
                    tokio::spawn(async move { keeper.token(&id, HOUR).await })
                })
                .collect();
            let expected = {
                let mut expected = None;
                for caller in callers {
                    let served = caller.await.expect("no panic").expect("a token");
                    let access = served.installation.tokens.access;
                    assert!(expected.get_or_insert_with(|| access.clone()) == &access, "all get the same");
                }
                expected.expect("a token")
            };
            assert_eq!(house.sandbox.counts().refreshes, round, "{rest:?}: one refresh in each round");
            assert_eq!(
                house.sandbox.current_access_token(house.id.as_str()).as_deref(),
                Some(expected.expose())
            );
        }
        house.has_lost_nothing("many rounds of many callers").await;
        report(&format!("64 callers for one expired token, {rest:?}"), rounds, &[], began);
    }
}

/// Whatever HighLevel says to the refresh, callers who go on seeing a 401 cost one a minute.
#[tokio::test]
async fn a_401_that_a_refresh_does_not_cure_costs_one_refresh_a_minute() {
    for kind in [FaultKind::NotActive, FaultKind::RefusedClient, FaultKind::InvalidGrant] {
        let house = House::with(Rest::Sqlite, short_tokens()).await;
        house.advance(HOUR);
        house.sandbox.fault(Fault::new(kind.clone()).on(Matcher::Refresh).until_cleared());
        let keeper = house.hasty_keeper();
        let mut sent = 0;
        for minute in 0..3 {
            keeper.refused(&house.id, 1).await.expect_err("it is refused");
            let first = house.sandbox.counts().refreshes;
            assert!(first >= sent, "{kind:?}");
            for _ in 0..20 {
                keeper.refused(&house.id, 1).await.expect_err("it is refused still");
                house.advance(Duration::from_secs(2));
            }
            assert_eq!(house.sandbox.counts().refreshes, first, "{kind:?} in minute {minute}");
            sent = first;
            house.advance(Duration::from_secs(21));
        }
        // Healed, it is refreshed at the next report, and who reports what has passed pays nothing.
        house.sandbox.clear_faults();
        house.advance(HOUR);
        assert_eq!(keeper.refused(&house.id, 1).await.expect("new tokens").version.generation, 2, "{kind:?}");
        let sent = house.sandbox.counts().refreshes;
        assert_eq!(keeper.refused(&house.id, 1).await.expect("new tokens").version.generation, 2, "{kind:?}");
        assert_eq!(house.sandbox.counts().refreshes, sent, "{kind:?}");
        house.has_lost_nothing("a storm of reports").await;
    }
}

/// Two services see at the same time that a refresh is due, and one of them is late.
#[tokio::test]
async fn what_someone_else_has_renewed_meanwhile_is_not_renewed_again() {
    for rest in Rest::ALL {
        let house = House::new(rest).await;
        house.advance(HOUR * 16);
        let (one, two) = (house.keeper(), house.keeper());
        one.refresh_if_due(&house.id).await.expect("new tokens");
        let renewed = two.refresh_if_due(&house.id).await.expect("the new tokens");
        assert_eq!((renewed.version.generation, house.sandbox.counts().refreshes), (2, 1), "{rest:?}");
        house.advance(HOUR * 16);
        let renewed = two.refresh_if_due(&house.id).await.expect("newer ones");
        assert_eq!((renewed.version.generation, house.sandbox.counts().refreshes), (3, 2), "{rest:?}");
        house.has_lost_nothing("being late").await;
    }
}

#[tokio::test]
async fn two_processes_cost_one_refresh() {
    for rest in Rest::ALL {
        let house = House::new(rest).await;
        let patient = Timing { help_after: Duration::from_secs(20), ..brisk() };
        let patient = Timing { answers_count_for: Duration::from_secs(20), ..patient };
        house.advance(DAY);
        house.sandbox.hold_answers(Matcher::Refresh);
        let ask = |keeper: tokens::Keeper| {
            let id = house.id.clone();
            tokio::spawn(async move { keeper.token(&id, HOUR).await })
        };
        let first = ask(house
            .keeper_with(house.store(), Timing { send_again_after: patient.help_after, ..patient.clone() }));
        house.sandbox.until_held(1).await;
        let second = ask(house.keeper_with(house.store(), patient));
        tokio::time::sleep(Duration::from_millis(60)).await;
        house.sandbox.release();
        let first = first.await.expect("no panic").expect("a token");
        let second = second.await.expect("no panic").expect("a token");
        assert!(first.installation.tokens.access == second.installation.tokens.access, "{rest:?}");
        assert_eq!(house.sandbox.counts().refreshes, 1, "{rest:?}");
        house.has_lost_nothing("two processes at once").await;
    }
}

#[tokio::test]
async fn another_process_helps_a_slow_one_along() {
    for rest in Rest::ALL {
        let house = House::new(rest).await;
        house.advance(DAY);
        // The first process never hears of its answer, and does not ask again.
        house.sandbox.fault(Fault::new(FaultKind::delay(Duration::from_secs(30))).on(Matcher::Refresh));
        let deaf = Timing { sends: 1, answers_count_for: Duration::from_secs(30), ..brisk() };
        let (slow, id) = (house.keeper_with(house.store(), deaf), house.id.clone());
        let slow = tokio::spawn(async move { slow.refresh(&id).await });
        while house.sandbox.counts().refreshes == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let served = house.keeper().token(&house.id, HOUR).await.expect("a token");
        assert!(served.refreshed, "{rest:?}");
        house.has_lost_nothing("helping").await;
        slow.abort();
    }
}

#[tokio::test]
async fn a_caller_who_hangs_up_does_not_lose_the_new_tokens() {
    for rest in Rest::ALL {
        let house = House::new(rest).await;
        let keeper = house.keeper();
        house.advance(DAY);
        house.sandbox.hold_answers(Matcher::Refresh);
        let caller = {
            let (keeper, id) = (keeper.clone(), house.id.clone());
            tokio::spawn(async move { keeper.token(&id, HOUR).await })
        };
        house.sandbox.until_held(1).await;
        caller.abort();
        assert!(caller.await.expect_err("it hung up").is_cancelled());
        house.sandbox.release();
        keeper.landed().await;
        assert_eq!(house.stored().await.version.generation, 2, "{rest:?}");
        house.has_lost_nothing("a caller hung up").await;
    }
}

#[tokio::test]
async fn whoever_hangs_up_during_the_login_does_not_lose_the_grant() {
    for rest in Rest::ONE_OF_EACH {
        let house = House::empty(rest, short_tokens());
        let (keeper, code) = (house.keeper(), house.code());
        house.sandbox.hold_answers(Matcher::Exchange);
        let caller = {
            let keeper = keeper.clone();
            tokio::spawn(async move { keeper.connect(&code).await })
        };
        house.sandbox.until_held(1).await;
        caller.abort();
        assert!(caller.await.expect_err("it hung up").is_cancelled());
        house.sandbox.release();
        keeper.landed().await;
        house.has_lost_nothing("a login that nobody waited for").await;
    }
}

#[tokio::test]
async fn tokens_are_handed_out_only_after_they_are_at_rest() {
    for rest in Rest::ALL {
        let house = House::new(rest).await;
        let (keeper, second_look) = (house.keeper(), house.store());
        for _ in 0..20 {
            house.advance(DAY);
            let served = keeper.token(&house.id, HOUR).await.expect("a token");
            let stored = second_look.load(&house.id).await.expect("readable").expect("a grant");
            assert!(stored.tokens.access == served.installation.tokens.access, "{rest:?}: access token");
            assert!(
                stored.tokens.refresh_by == served.installation.tokens.refresh_by,
                "{rest:?}: refresh token"
            );
            assert_eq!(stored.version, served.installation.version, "{rest:?}");
        }
    }
}

#[tokio::test]
async fn a_thousand_rotations_leave_no_gap() {
    for rest in Rest::ONE_OF_EACH {
        let began = Instant::now();
        let house = House::with(rest, short_tokens()).await;
        let keeper = house.keeper();
        for expected in 2..=1001 {
            let refreshed = keeper.refresh(&house.id).await.expect("new tokens");
            assert_eq!(refreshed.version.generation, expected, "{rest:?}");
        }
        assert_eq!(house.stored().await.version.generation, 1001, "{rest:?}");
        assert_eq!(house.sandbox.counts().rotations, 1000, "{rest:?}");
        house.has_lost_nothing("a thousand rotations").await;
        report(&format!("rotations one after another, {rest:?}"), 1000, &[], began);
    }
}

#[tokio::test]
async fn a_failing_refresh_never_hides_a_living_token() {
    for rest in Rest::ONE_OF_EACH {
        let house = House::with(rest, short_tokens()).await;
        let before = house.stored().await;
        house.advance(HOUR * 13);
        for (kind, expected) in [
            (FaultKind::status(503, ""), "unanswered"),
            (FaultKind::NotActive, "suspended"),
            (FaultKind::RefusedClient, "client"),
            (FaultKind::InvalidGrant, "person"),
        ] {
            house.sandbox.clear_faults();
            house.sandbox.fault(Fault::new(kind).on(Matcher::Refresh).until_cleared());
            let served = house.hasty_keeper().fresh_token(&house.id, HOUR, || {}).await;
            let served = served.unwrap_or_else(|error| panic!("{rest:?}, {expected}: {error}"));
            assert!(served.installation.tokens.access == before.tokens.access && served.warning.is_some());
        }
        house.sandbox.clear_faults();
        // Refusals that proved wrong are forgotten with the next good answer.
        let refreshed = house.keeper().refresh(&house.id).await.expect("new tokens");
        assert_eq!(refreshed.connection, tokens::Connection::Connected);
        house.has_lost_nothing("failures behind a living token").await;
    }
}

/// A program that is stopped and goes on, or a machine that sleeps.
#[tokio::test]
async fn a_frozen_process_finds_its_answer_when_it_wakes() {
    for rest in Rest::ONE_OF_EACH {
        let house = House::new(rest).await;
        house.advance(DAY);
        house.sandbox.hold_answers(Matcher::Refresh);
        let (keeper, id) = (house.hasty_keeper(), house.id.clone());
        let flight = tokio::spawn(async move { keeper.refresh(&id).await });
        house.sandbox.until_held(1).await;
        // The answer comes while nothing in here moves, and all of the flight's time passes.
        house.sandbox.release();
        house.sandbox.advance(PAST_THE_WINDOW);
        let frozen = Instant::now();
        while frozen.elapsed() < brisk().answers_count_for + Duration::from_millis(300) {
            std::thread::sleep(Duration::from_millis(50));
        }
        flight.await.expect("no panic").expect("the answer that was there");
        assert_eq!(house.sandbox.counts().refreshes, 1, "{rest:?}: the used token is not sent once more");
        house.has_lost_nothing("a freeze").await;
    }
}
