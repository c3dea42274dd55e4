//! An agency's grant, and the tokens of its locations that come from it.

use std::time::Duration;

use sandbox::{Fault, FaultKind, Matcher, Settings};
use serde_json::{Map, Value};
use tokens::{Clock as _, Connection, InstallationId, Keeper, KeeperError, RefreshBy};
use tokio::task::JoinSet;

use crate::support::{DAY, HOUR, House, PAST_THE_WINDOW, Rest, times};

fn agency(locations: usize) -> Settings {
    let scopes = ["contacts.readonly", "contacts.write", "oauth.readonly", "oauth.write"];
    let scopes = scopes.map(str::to_owned).to_vec();
    Settings { extra_locations: locations - 1, scopes, ..Settings::default() }
}

async fn connection(keeper: &Keeper, id: &InstallationId) -> Connection {
    keeper.load(id).await.expect("it is kept").connection
}

#[tokio::test]
async fn a_location_is_begun_with_its_company_s_grant_once_for_all_who_ask() {
    let house = House::of_company(agency(2)).await;
    let location = &house.locations()[1];
    let (one, other) = (house.keeper(), house.keeper());
    let mut callers = JoinSet::new();
    for keeper in [one.clone(), other].iter().flat_map(|keeper| vec![keeper.clone(); 16]) {
        let id = location.clone();
        callers.spawn(async move { keeper.token(&id, HOUR).await });
    }
    let mut tokens = Vec::new();
    while let Some(served) = callers.join_next().await {
        tokens.push(served.expect("no panic").expect("a token").installation);
    }
    let kept = one.load(location).await.expect("it is kept");
    assert!(tokens.iter().all(|served| served.tokens.access == kept.tokens.access), "one token for all");
    assert_eq!(kept.version.epoch, 1, "no double authorisation");
    assert!(kept.tokens.scopes.contains("oauth.write"), "HighLevel adds these to a minted token");
    assert!(house.sandbox.counts().mints <= 2, "one for each process at most");
    let again = one.token(location, HOUR).await.expect("a token");
    assert!(!again.refreshed && house.sandbox.counts().mints <= 2);
}

#[tokio::test]
async fn a_minted_token_is_kept_fresh_by_its_own_refresh_token_or_without_one_by_the_company() {
    let house = House::of_company(agency(2)).await;
    let keeper = house.keeper();
    let [own, without] = house.locations().try_into().expect("two");
    keeper.token(&own, HOUR).await.expect("a token");
    let none = FaultKind::FieldsMissing { fields: vec!["refresh_token".into()] };
    house.sandbox.fault(Fault::new(none).on(Matcher::Mint));
    keeper.token(&without, HOUR).await.expect("a token");
    let by = keeper.load(&without).await.expect("kept").tokens.refresh_by;
    assert!(matches!(by, RefreshBy::Company(_)), "{by:?}");

    house.advance(DAY - HOUR);
    let (mints, rotations) = (house.sandbox.counts().mints, house.sandbox.counts().rotations);
    assert!(keeper.token(&own, HOUR * 2).await.expect("a token").refreshed);
    assert_eq!((house.sandbox.counts().mints, house.sandbox.counts().rotations), (mints, rotations + 1));
    let renewed = keeper.token(&without, HOUR * 2).await.expect("a token");
    assert!(renewed.refreshed && renewed.installation.version.generation == 2);
    assert_eq!(house.sandbox.counts().mints, mints + 1);
}

#[tokio::test]
async fn a_location_whose_refresh_token_has_died_is_healed_by_its_company() {
    let house = House::of_company(agency(1)).await;
    let keeper = house.keeper();
    let location = &house.locations()[0];
    let first = keeper.token(location, HOUR).await.expect("a token").installation;
    house.sandbox.revoke(location.as_str());
    house.advance(DAY - HOUR);
    let healed = keeper.token(location, HOUR * 2).await.expect("a token");
    assert!(healed.refreshed && healed.warning.is_none());
    assert!(house.sandbox.is_valid_access_token(healed.installation.tokens.access.expose()));
    assert_eq!(healed.installation.version.epoch, first.version.epoch, "no person was needed");
    assert_eq!(connection(&keeper, location).await, Connection::Connected);
}

/// T-133, and more of them than may be in the air at once, so that the company's own refresh has to
/// find room.
#[tokio::test]
async fn many_locations_are_healed_while_the_company_itself_is_to_be_refreshed() {
    let house = House::of_company(agency(30)).await;
    let keeper = house.keeper();
    for location in house.locations() {
        keeper.token(&location, HOUR).await.expect("a token");
        house.sandbox.revoke(location.as_str());
    }
    house.advance(DAY * 2);
    let mut callers = JoinSet::new();
    for location in house.locations() {
        let keeper = keeper.clone();
        callers.spawn(async move { keeper.token(&location, HOUR).await });
    }
    while let Some(served) = callers.join_next().await {
        served.expect("no panic").expect("a token");
    }
    let company = keeper.load(&house.id).await.expect("kept");
    assert_eq!(company.version.generation, 2, "one refresh of the company served them all");
}

/// T-133, the other way round.
#[tokio::test]
async fn a_company_that_is_lost_leaves_its_locations_alone_and_names_itself() {
    let house = House::of_company(agency(5)).await;
    let keeper = house.keeper();
    let locations = house.locations();
    for location in &locations[..4] {
        keeper.token(location, HOUR).await.expect("a token");
    }
    house.sandbox.fault(Fault::new(FaultKind::InvalidGrant).on(Matcher::Refresh).times(1));
    keeper.refresh(&house.id).await.expect_err("the company's grant is refused");
    house.advance(DAY - HOUR);
    for location in &locations[..4] {
        assert!(keeper.token(location, HOUR * 2).await.expect("a token").refreshed);
        assert_eq!(connection(&keeper, location).await, Connection::Connected);
    }
    house.advance(DAY);
    let error = keeper.token(&locations[4], HOUR).await.expect_err("the company can't mint");
    let KeeperError::Company { company, trouble, .. } = &error else { panic!("{error}") };
    assert_eq!(company.as_str(), house.id.as_str());
    assert!(matches!(**trouble, KeeperError::NeedsPerson { .. }), "{trouble}");
    // A location that dies now needs a person, and the company's return heals it.
    house.sandbox.revoke(locations[0].as_str());
    house.advance(DAY);
    let error = keeper.token(&locations[0], HOUR).await.expect_err("nothing is left");
    assert!(matches!(error, KeeperError::NeedsPerson { .. }), "{error}");
    house.log_in().await;
    assert!(keeper.token(&locations[0], HOUR).await.expect("healed").refreshed);
}

#[tokio::test]
async fn a_location_is_not_called_broken_while_its_company_can_only_not_be_reached() {
    let house = House::of_company(agency(1)).await;
    let keeper = house.hasty_keeper();
    let location = &house.locations()[0];
    keeper.token(location, HOUR).await.expect("a token");
    house.sandbox.revoke(location.as_str());
    house.advance(DAY - HOUR);
    house.sandbox.fault(Fault::new(FaultKind::status(503, "")).on(Matcher::Mint).until_cleared());
    keeper.refresh(location).await.expect_err("no answer");
    let stands = connection(&keeper, location).await;
    assert!(matches!(stands, Connection::Uncertain { .. }), "{stands:?}");
    house.sandbox.clear_faults();
    house.advance(PAST_THE_WINDOW);
    assert!(keeper.token(location, HOUR * 2).await.expect("healed").refreshed);
}

#[tokio::test]
async fn a_company_token_that_highlevel_refuses_is_refreshed_once_and_asked_with_again() {
    let house = House::of_company(agency(2)).await;
    let keeper = house.keeper();
    house.advance(HOUR);
    let refused = FaultKind::status(401, r#"{"statusCode":401,"message":"Invalid JWT"}"#);
    house.sandbox.fault(Fault::new(refused).on(Matcher::Mint).times(1));
    keeper.token(&house.locations()[0], HOUR).await.expect("a token");
    assert_eq!(house.sandbox.counts().rotations, 1);
    // What is not about the token costs no refresh.
    let scope = FaultKind::status(401, r#"{"message":"The token is not authorized for this scope."}"#);
    house.sandbox.fault(Fault::new(scope).on(Matcher::Mint).times(1));
    house.advance(HOUR);
    let error = keeper.token(&house.locations()[1], HOUR).await.expect_err("no scope");
    assert!(matches!(error, KeeperError::NotMinted { .. }));
    assert!(error.to_string().contains("not authorized for this scope"), "{error}");
    assert_eq!(house.sandbox.counts().rotations, 1);
}

#[tokio::test]
async fn a_location_that_no_company_has_is_asked_for_once_a_minute() {
    let house = House::of_company(agency(1)).await;
    let keeper = house.keeper();
    let stranger = InstallationId::from_parts("location", "ZZZZZZZZZZZZZZZZZZZZ").expect("an id");
    let asked = |house: &House| house.sandbox.counts().requests;
    let before = asked(&house);
    for _ in 0..50 {
        let error = keeper.token(&stranger, HOUR).await.expect_err("nobody has it");
        assert!(matches!(error, KeeperError::NotMinted { .. }), "{error}");
    }
    assert_eq!(asked(&house), before + 1);
    house.advance(Duration::from_secs(61));
    keeper.token(&stranger, HOUR).await.expect_err("nobody has it");
    assert_eq!(asked(&house), before + 2);
}

#[tokio::test]
async fn a_location_that_was_taken_out_of_service_is_not_begun_again_by_asking() {
    let house = House::of_company(agency(1)).await;
    let keeper = house.keeper();
    let location = &house.locations()[0];
    keeper.token(location, HOUR).await.expect("a token");
    assert!(keeper.disconnect(location).await.expect("removed"));
    let mints = house.sandbox.counts().mints;
    let error = keeper.token(location, HOUR).await.expect_err("it is out of service");
    assert!(matches!(error, KeeperError::NotConnected(_)), "{error}");
    assert_eq!(house.sandbox.counts().mints, mints);
    // HighLevel says that it was installed anew since.
    house.advance(HOUR);
    let InstallationId::Location(id) = location else { panic!("a location") };
    let now = house.clock.now();
    assert!(keeper.installed(id, None, now - HOUR * 2).await.is_err(), "an old word changes nothing");
    keeper.installed(id, None, now).await.expect("it is back");
    keeper.token(location, HOUR).await.expect("a token");
}

#[tokio::test]
async fn a_location_that_is_not_active_waits_for_it() {
    let house = House::of_company(agency(2)).await;
    let keeper = house.keeper();
    let [known, unknown] = house.locations().try_into().expect("two");
    keeper.token(&known, HOUR).await.expect("a token");
    for location in [&known, &unknown] {
        house.sandbox.revoke(location.as_str());
        house.sandbox.suspend(location.as_str());
    }
    house.advance(DAY * 2);
    for location in [&known, &unknown] {
        let error = keeper.token(location, HOUR).await.expect_err("it is paused");
        assert!(matches!(error, KeeperError::Suspended { .. }), "{error}");
        house.sandbox.resume(location.as_str());
    }
    let stands = connection(&keeper, &known).await;
    assert!(matches!(stands, Connection::Suspended { .. }), "{stands:?}");
    house.advance(HOUR + HOUR);
    for location in [&known, &unknown] {
        keeper.token(location, HOUR).await.expect("it is active again");
    }
}

#[tokio::test]
async fn a_location_from_which_the_app_is_gone_needs_a_person() {
    let house = House::of_company(agency(1)).await;
    let keeper = house.keeper();
    let location = &house.locations()[0];
    keeper.token(location, HOUR).await.expect("a token");
    house.sandbox.uninstall(location.as_str());
    house.advance(DAY - HOUR);
    let error = keeper.refresh(location).await.expect_err("neither brings a token");
    assert!(matches!(error, KeeperError::NeedsPerson { .. }), "{error}");
    // Whoever asks on costs HighLevel one request a minute, and no refresh.
    house.advance(DAY);
    let (requests, refreshes) = (house.sandbox.counts().requests, house.sandbox.counts().refreshes);
    for _ in 0..20 {
        let error = keeper.token(location, HOUR).await.expect_err("it is gone");
        assert!(matches!(error, KeeperError::NeedsPerson { .. }), "{error}");
    }
    let stands = connection(&keeper, location).await;
    assert!(matches!(stands, Connection::Broken(_)), "{stands:?}");
    // The company's own refresh after a day, and one question for the location.
    assert_eq!(house.sandbox.counts().requests, requests + 2);
    assert_eq!(house.sandbox.counts().refreshes, refreshes + 1);
}

/// An outage is no refusal: nobody is told to authorise for it, and the next caller asks again.
#[tokio::test]
async fn a_location_that_can_t_be_had_during_an_outage_is_had_after_it() {
    let house = House::of_company(agency(1)).await;
    let keeper = house.keeper();
    let location = &house.locations()[0];
    for trouble in
        [FaultKind::status(503, ""), FaultKind::RateLimited { retry_after: None }, FaultKind::LoseAnswer]
    {
        house.sandbox.fault(Fault::new(trouble).on(Matcher::Mint).times(1));
        let error = keeper.token(location, HOUR).await.expect_err("an outage");
        assert!(matches!(error, KeeperError::Unanswered { .. }), "{error}");
    }
    keeper.token(location, HOUR).await.expect("a token");
}

#[tokio::test]
async fn an_answer_about_another_location_is_not_taken() {
    let house = House::of_company(agency(2)).await;
    let keeper = house.keeper();
    let [asked, other] = house.locations().try_into().expect("two");
    let fields: Map<String, Value> = [("locationId".to_owned(), other.as_str().into())].into_iter().collect();
    house.sandbox.fault(Fault::new(FaultKind::FieldsSet { fields }).on(Matcher::Mint).times(1));
    let error = keeper.token(&asked, HOUR).await.expect_err("not ours");
    assert!(matches!(error, KeeperError::NotMinted { .. }), "{error}");
    assert!(keeper.load(&other).await.is_err() && keeper.load(&asked).await.is_err());
}

/// T-131: as in October 2024, HighLevel hands out pairs that are no good, and the pair before is used up.
#[tokio::test]
async fn bad_pairs_are_healed_by_the_company_and_without_one_exactly_those_need_a_person() {
    let count = times("GHL_AUTH_BAD_PAIRS", 30);
    let house = House::of_company(agency(count)).await;
    let keeper = house.keeper();
    let hit = hand_out_bad_pairs(&house, &keeper).await;
    for (place, id) in house.locations().iter().enumerate() {
        let kept = keeper.load(id).await.expect("kept");
        assert_eq!(kept.previous.is_some(), hit.contains(&place), "the good pair before is kept for a day");
        if !hit.contains(&place) {
            continue;
        }
        if place % 90 == 0 {
            // A company may ask 100 times in ten seconds.
            house.advance(Duration::from_secs(11));
        }
        // Whoever uses it meets a 401 and says so.
        let healed = keeper.refused(id, kept.version.generation).await.expect("healed");
        assert!(house.sandbox.is_valid_access_token(healed.tokens.access.expose()));
    }
    for id in house.locations() {
        assert_eq!(connection(&keeper, &id).await, Connection::Connected);
    }

    // The same, with a grant for each location and none of the company's.
    let house = House::empty(Rest::Sqlite, agency(count));
    let keeper = house.keeper();
    for id in house.sandbox.location_ids() {
        let code = house.sandbox.approve_location(&id, crate::support::REDIRECT_URI);
        keeper.connect(&tokens::AuthorizationCode::new(code)).await.expect("a grant");
    }
    let hit = hand_out_bad_pairs(&house, &keeper).await;
    for (place, id) in house.locations().iter().enumerate() {
        let generation = keeper.load(id).await.expect("kept").version.generation;
        let outcome = keeper.refused(id, generation).await;
        match hit.contains(&place) {
            true => assert!(matches!(outcome, Err(KeeperError::NeedsPerson { .. })), "{outcome:?}"),
            false => assert!(outcome.is_ok(), "{outcome:?}"),
        }
    }
}

/// Every third location is refreshed into a pair that is no good. Which ones.
async fn hand_out_bad_pairs(house: &House, keeper: &Keeper) -> Vec<usize> {
    for (place, id) in house.locations().iter().enumerate() {
        if place % 90 == 89 {
            house.advance(Duration::from_secs(11));
        }
        keeper.token(id, HOUR).await.expect("a token");
    }
    house.advance(HOUR * 2);
    let fields = [("access_token", "not.a.token"), ("refresh_token", "nor.is.this")];
    let fields: Map<String, Value> =
        fields.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    let hit: Vec<usize> = (0..house.locations().len()).step_by(3).collect();
    house.sandbox.fault(Fault::new(FaultKind::FieldsSet { fields }).on(Matcher::Refresh).until_cleared());
    for place in &hit {
        keeper.refresh(&house.locations()[*place]).await.expect("a pair that looks well");
    }
    house.sandbox.clear_faults();
    house.advance(HOUR * 2);
    hit
}
