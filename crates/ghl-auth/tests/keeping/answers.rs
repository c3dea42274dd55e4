//! What can happen to a request and its answer on the way.

use std::time::{Duration, Instant};

use sandbox::{Fault, FaultKind, Matcher};

use crate::support::programs::report;
use crate::support::proxy::{At, How, Proxy};
use crate::support::{DAY, HOUR, House, Rest, brisk, roomy, short_tokens, times};

#[tokio::test]
async fn a_lost_answer_is_asked_for_again() {
    for rest in Rest::ALL {
        let house = House::new(rest).await;
        house.advance(DAY);
        house.sandbox.lose_next_answer();
        let served = house.keeper().token(&house.id, HOUR).await.expect("a token");
        assert_eq!(served.installation.version.generation, 2, "{rest:?}");
        let counts = house.sandbox.counts();
        assert_eq!((counts.refreshes, counts.rotations, counts.repeats), (2, 1, 1), "{rest:?}");
        house.has_lost_nothing("a lost answer").await;
    }
}

/// HighLevel used the token up, and then nothing gets through for most of the 30 seconds, each try
/// failing at once.
#[tokio::test]
async fn an_outage_right_after_a_lost_answer_is_outlasted() {
    for rest in Rest::ONE_OF_EACH {
        let house = House::new(rest).await;
        house.advance(DAY);
        house.sandbox.lose_next_answer();
        house.sandbox.fault(Fault::new(FaultKind::LoseRequest).on(Matcher::Refresh).times(7));
        house.keeper().refresh(&house.id).await.expect("the answer, late in the window");
        let counts = house.sandbox.counts();
        assert!(counts.refreshes >= 9 && counts.rotations == 1, "{rest:?}: {counts:?}");
        house.has_lost_nothing("an outage after a lost answer").await;
    }
}

#[tokio::test]
async fn an_answer_cut_at_any_byte_is_recovered() {
    // The normal suite cuts short answers at each byte; the long one those of HighLevel's length.
    let lanes = times("GHL_AUTH_CUT_LANES", 16);
    let settings = || match std::env::var_os("GHL_AUTH_CUT_LANES") {
        Some(_) => sandbox::Settings::default(),
        None => short_tokens(),
    };
    for rest in Rest::ONE_OF_EACH {
        let began = Instant::now();
        let mut all = Vec::new();
        for lane in 0..lanes {
            let house = House::with(rest, settings()).await;
            all.push(tokio::spawn(async move { cut_every(&house, lane, lanes).await }));
        }
        let mut length = 0;
        for lane in all {
            length = length.max(lane.await.expect("no loss"));
        }
        assert!(length > 900, "{rest:?}: the answer had {length} bytes");
        report(&format!("answers cut after each byte, {rest:?}"), length, &[], began);
    }
}

/// Cuts the answer after `from`, `from + step`, … bytes until it is whole, and says how long it was.
async fn cut_every(house: &House, from: usize, step: usize) -> usize {
    let keeper = house.keeper();
    for bytes in (from..).step_by(step) {
        let before = house.sandbox.counts();
        house.sandbox.fault(Fault::new(FaultKind::CutAfter { bytes: bytes as u64 }).on(Matcher::Refresh));
        let refreshed = keeper.refresh(&house.id).await;
        let refreshed = refreshed.unwrap_or_else(|error| panic!("cut after {bytes} bytes: {error}"));
        let token = refreshed.tokens.refresh_token().expect("a token").expose();
        assert!(house.sandbox.is_current_refresh_token(token), "{:?}: cut after {bytes}", house.rest);
        let after = house.sandbox.counts();
        assert_eq!(after.rotations, before.rotations + 1, "cut after {bytes} bytes");
        house.advance(Duration::from_secs(31));
        if after.refreshes == before.refreshes + 1 {
            house.has_lost_nothing("cutting at each byte").await;
            return bytes;
        }
    }
    unreachable!("an answer has an end")
}

#[tokio::test]
async fn a_request_or_answer_that_breaks_off_anywhere_is_recovered() {
    for rest in Rest::ONE_OF_EACH {
        let house = House::with(rest, short_tokens()).await;
        let proxy = Proxy::before(&house.sandbox.base_url()).await;
        let secret = house.sandbox.settings().client_secret.clone();
        let places = [0, 1, 20, 150, 300, 600, 900, 1000].map(At::Request);
        let places = places.into_iter().chain([0, 1, 15, 17, 120, 200, 500, 1200].map(At::Answer));
        let mut generation = 1;
        for at in places {
            for how in [How::Close, How::Reset, How::Vanish] {
                proxy.break_next(at, how);
                // A keeper of its own: none of these connections is a second-hand one.
                let keeper = house.keeper_of(house.store(), roomy(), &proxy.base_url(), &secret);
                let refreshed = keeper.refresh(&house.id).await;
                let refreshed =
                    refreshed.unwrap_or_else(|error| panic!("{rest:?}: {how:?} at {at:?}: {error}"));
                generation += 1;
                assert_eq!(refreshed.version.generation, generation, "{rest:?}: {how:?} at {at:?}");
                house.has_lost_nothing(&format!("{how:?} at {at:?}")).await;
                house.advance(Duration::from_secs(31));
            }
        }
    }
}

#[tokio::test]
async fn whatever_a_network_or_a_gateway_does_is_recovered() {
    let slow = Duration::from_millis(600);
    let faults = [
        FaultKind::LoseAnswer,
        FaultKind::LoseRequest,
        FaultKind::Reset { processed: true },
        FaultKind::Reset { processed: false },
        FaultKind::delay(slow),
        FaultKind::delay_before(slow),
        FaultKind::GatewayHtml { processed: true },
        FaultKind::GatewayHtml { processed: false },
        FaultKind::TruncatedJson,
        FaultKind::RateLimited { retry_after: None },
        FaultKind::RateLimited { retry_after: Some(1) },
        FaultKind::FieldsMissing { fields: vec!["refresh_token".into()] },
    ];
    for rest in Rest::ONE_OF_EACH {
        let house = House::with(rest, short_tokens()).await;
        for (number, fault) in faults.iter().enumerate() {
            for times in [1, 3] {
                house.sandbox.fault(Fault::new(fault.clone()).on(Matcher::Refresh).times(times));
                let refreshed = house.keeper().refresh(&house.id).await;
                let refreshed =
                    refreshed.unwrap_or_else(|error| panic!("{rest:?}: {times} × {fault:?}: {error}"));
                let round = number as u64 * 2 + if times == 1 { 0 } else { 1 };
                assert_eq!(refreshed.version.generation, 2 + round, "{rest:?}: {times} × {fault:?}");
                house.has_lost_nothing(&format!("{fault:?}")).await;
                house.sandbox.clear_faults();
                house.advance(Duration::from_secs(31));
            }
        }
    }
}

/// An answer that comes after all hope is an answer.
#[tokio::test]
async fn a_late_answer_still_counts() {
    for rest in Rest::ONE_OF_EACH {
        let house = House::with(rest, short_tokens()).await;
        house.advance(DAY);
        let late = brisk().window + Duration::from_millis(500);
        house.sandbox.fault(Fault::new(FaultKind::delay(late)).on(Matcher::Refresh).until_cleared());
        let served = house.hasty_keeper().token(&house.id, HOUR).await.expect("a token, late");
        assert!(served.refreshed);
        house.has_lost_nothing("late answers").await;
    }
}

/// Six requests, spread over the window, and none once it has closed.
#[tokio::test]
async fn a_silent_highlevel_is_asked_six_times_at_most_and_keeps_the_grant() {
    for rest in Rest::ONE_OF_EACH {
        let house = House::with(rest, short_tokens()).await;
        let before = house.stored().await;
        house.advance(DAY);
        house.sandbox.hold(Matcher::Refresh);
        let error = house.hasty_keeper().token(&house.id, HOUR).await.expect_err("nothing came");
        assert!(matches!(error, tokens::KeeperError::Unanswered { .. }), "{rest:?}: {error}");
        // On a busy machine the time may be up earlier.
        let sends = house.sandbox.counts().refreshes;
        assert!((2..=6).contains(&sends), "{rest:?}: sent {sends} times");
        let after = house.stored().await;
        assert!(after.tokens == before.tokens && after.version == before.version);
        assert!(matches!(after.connection, tokens::Connection::Uncertain { attempts: 1, .. }));
        house.sandbox.release();
        // HighLevel has processed all of them by now; the answer can be had again.
        house.clock.advance(Duration::from_secs(30));
        house.keeper().token(&house.id, HOUR).await.expect("a token");
        house.has_lost_nothing("a silence").await;
    }
}
