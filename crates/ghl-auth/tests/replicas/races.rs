//! Two who do different things about one installation at once.

use std::time::{Duration, Instant};

use sandbox::{Fault, FaultKind, Matcher};
use tokens::store::{Commit, Committed, FlightId};
use tokens::{Clock as _, Issuer as _, KeeperError, Reading};

use crate::house::House;
use crate::support::PAST_THE_WINDOW;
use crate::support::programs::{Dice, report};
use crate::support::{roomy, times};

/// T-107.
#[test]
fn a_refusal_that_comes_behind_newer_tokens_breaks_nothing() {
    let house = House::with(1);
    let id = &house.ids[0];
    let (loser, other) = (house.keeper(roomy()), house.store());
    let seen = house.stored(id).expect("kept");
    let token = seen.tokens.refresh_token().expect("a refresh token");
    house.block_on(async {
        // Someone has newer tokens in hand already, and HighLevel has forgotten the 30 seconds.
        let oauth = house.oauth();
        let answer = oauth.refresh(id, token).await.expect("an answer");
        let Reading::Granted(grant) = oauth.read(&answer, house.clock.now()) else { panic!("no grant") };
        house.sandbox.advance(PAST_THE_WINDOW);
        house.sandbox.hold(Matcher::Refresh);
        let refreshing = tokio::spawn({
            let (loser, id) = (loser.clone(), id.clone());
            async move { loser.refresh(&id).await }
        });
        house.sandbox.until_held(1).await;
        let commit = Commit {
            flight: FlightId("other".into()),
            id: id.clone(),
            version: seen.version,
            replaces: other.fingerprint(token),
            tokens: grant.tokens,
            now: house.clock.now(),
        };
        assert!(matches!(other.commit(&commit).await, Ok(Committed::Saved(_))));
        house.sandbox.release();
        let landed = refreshing.await.expect("no panic").expect("the newer tokens");
        assert_eq!(landed.version.generation, 2);
    });
    let kept = house.stored(id).expect("kept");
    assert_eq!((kept.version.generation, &kept.connection), (2, &tokens::Connection::Connected));
    assert_eq!(house.lost(), Vec::<String>::new());
}

/// T-118.
#[test]
fn what_is_taken_out_of_service_during_its_refresh_stays_out() {
    let wanted = times("GHL_AUTH_REPLICA_INTERLEAVINGS", 30);
    let seed = times("GHL_AUTH_SEED", std::process::id() as usize) as u64;
    println!("GHL_AUTH_SEED={seed}");
    let (began, mut dice, mut wrong) = (Instant::now(), Dice::new(seed), Vec::new());
    let house = House::with(1);
    let id = house.ids[0].clone();
    let (one, other, store) = (house.keeper(roomy()), house.keeper(roomy()), house.store());
    house.sandbox.fault(slowly());
    for round in 0..wanted {
        let at = dice.within(Duration::from_millis(60));
        house.block_on(async {
            let refreshing = tokio::spawn({
                let (one, id) = (one.clone(), id.clone());
                async move { one.refresh(&id).await }
            });
            tokio::time::sleep(at).await;
            let there = other.disconnect(&id).await.expect("taken out");
            let refreshed = refreshing.await.expect("no panic");
            let kept = store.load(&id).await.expect("the store");
            let fits = matches!(refreshed, Ok(_) | Err(KeeperError::NotConnected(_)));
            if !there || kept.is_some() || !fits {
                wrong.push(format!("round {round}, after {at:?}: {there}, {refreshed:?}, {kept:?}"));
            }
            one.connect(&house.code(&id)).await.expect("a grant");
        });
    }
    wrong.extend(house.lost());
    report("taken out of service during its refresh", wanted, &wrong, began);
}

/// T-119.
#[test]
fn who_authorises_during_a_refresh_wins() {
    let wanted = times("GHL_AUTH_REPLICA_INTERLEAVINGS", 30);
    let seed = times("GHL_AUTH_SEED", std::process::id() as usize) as u64;
    println!("GHL_AUTH_SEED={seed}");
    let (began, mut dice, mut wrong) = (Instant::now(), Dice::new(seed), Vec::new());
    let house = House::with(1);
    let id = house.ids[0].clone();
    let (one, other, store) = (house.keeper(roomy()), house.keeper(roomy()), house.store());
    house.sandbox.fault(slowly());
    for round in 0..wanted {
        let at = dice.within(Duration::from_millis(60));
        house.block_on(async {
            let refreshing = tokio::spawn({
                let (one, id) = (one.clone(), id.clone());
                async move { one.refresh(&id).await }
            });
            tokio::time::sleep(at).await;
            let connected = other.connect(&house.code(&id)).await.expect("a grant");
            let refreshed = refreshing.await.expect("no panic");
            let kept = store.load(&id).await.expect("the store").expect("kept");
            if kept.version != connected.version || kept.tokens != connected.tokens {
                wrong.push(format!("round {round}, after {at:?}: {:?}, {refreshed:?}", kept.version));
            }
        });
    }
    wrong.extend(house.lost());
    report("authorised anew during a refresh", wanted, &wrong, began);
}

fn slowly() -> Fault {
    Fault::new(FaultKind::delay(Duration::from_millis(20))).on(Matcher::Refresh).until_cleared()
}
