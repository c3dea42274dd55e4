//! The client secret changes while refreshes are under way: T-134. HighLevel gives an answer again only
//! to the secret that it gave it to first.

use std::time::Duration;

use sandbox::{Matcher, Settings};
use tokens::{AuthorizationCode, Clock as _, Connection, InstallationId, Keeper};
use tokio::task::JoinSet;

use crate::support::{
    HOUR, House, PAST_THE_LEASE, PAST_THE_WINDOW, Process, REDIRECT_URI, Rest, roomy, short_tokens,
};

const COUNT: usize = 24;
const NEW: &str = "the-secret-of-tomorrow";

/// A house with many installations, at a time at which nothing presses.
async fn house(settings: Settings) -> (House, Vec<InstallationId>) {
    let house = House::with(Rest::Sqlite, Settings { extra_locations: COUNT - 1, ..settings }).await;
    let keeper = house.keeper();
    let mut ids = vec![house.id.clone()];
    for location in house.sandbox.location_ids().into_iter().filter(|id| id != house.id.as_str()) {
        let code = AuthorizationCode::new(house.sandbox.approve_location(&location, REDIRECT_URI));
        ids.push(keeper.connect(&code).await.expect("a grant").id);
    }
    house.advance(HOUR);
    (house, ids)
}

impl House {
    fn keeper_with_secrets(&self, secrets: &str) -> Keeper {
        self.keeper_of(self.store(), roomy(), &self.sandbox.base_url(), secrets)
    }

    fn old_secret(&self) -> &str {
        &self.sandbox.settings().client_secret
    }
}

/// Begins a refresh for each, which HighLevel takes and whose answer is on its way.
async fn begin_all(house: &House, keeper: &Keeper, ids: &[InstallationId]) -> Process {
    house.sandbox.hold_answers(Matcher::Refresh);
    let (keeper, wanted) = (keeper.clone(), ids.to_vec());
    let process = Process::running(async move {
        let each = |id| {
            let keeper = keeper.clone();
            async move { keeper.refresh(&id).await.map(drop) }
        };
        let ended = wanted.into_iter().map(each).collect::<JoinSet<_>>().join_all().await;
        ended.into_iter().for_each(|one| one.expect("new tokens"));
    });
    house.sandbox.until_held(1).await;
    process
}

/// What a round does: whoever's refresh is due is refreshed, and an open intent always is.
async fn drain(house: &House, keeper: &Keeper) {
    let due = house.store().refresh_due(house.clock.now(), None, COUNT * 2).await.expect("the store");
    for one in due {
        keeper.refresh_if_due(&one.id).await.expect("new tokens");
    }
}

async fn nothing_is_lost(house: &House, ids: &[InstallationId], after: &str) {
    house.advance(PAST_THE_WINDOW);
    for id in ids {
        let kept = house.store().load(id).await.expect("the store").expect("a grant");
        assert_eq!((kept.connection, kept.intent), (Connection::Connected, None), "{id} after {after}");
        let token = kept.tokens.refresh_token().expect("a refresh token").expose().to_owned();
        assert!(house.sandbox.is_current_refresh_token(&token), "{id} is lost after {after}");
    }
}

/// Both secrets are good for a while. What was begun with the old one ends with it, before the new one
/// is used, and nobody is refused.
#[tokio::test]
async fn what_a_crash_left_open_is_ended_with_the_secret_that_began_it() {
    // A token that is shown to HighLevel in vain would be the end of its grant.
    let unforgiving = Settings { reuse_ends_grant: true, ..short_tokens() };
    let (house, ids) = house(unforgiving).await;
    let process = begin_all(&house, &house.keeper_with_secrets(house.old_secret()), &ids).await;
    process.kill().await;
    house.sandbox.release();
    house.sandbox.add_client_secret(NEW);
    house.advance(PAST_THE_LEASE);

    let both = format!("{},{NEW}", house.old_secret());
    let keeper = house.keeper_with_secrets(&both);
    drain(&house, &keeper).await;
    assert_eq!(house.sandbox.counts().reuse_after_window, 0);
    nothing_is_lost(&house, &ids, "a crash and a second secret").await;

    // HighLevel forgets the old one, and the same keeper goes on with the new one.
    house.sandbox.set_client_secret(NEW);
    for id in &ids {
        keeper.refresh(id).await.expect("new tokens");
    }
    nothing_is_lost(&house, &ids, "the end of the old secret").await;
    assert_eq!(house.sandbox.counts().reuse_after_window, 0);
}

/// Written in the wrong order, the old one is still asked before a refusal is believed.
#[tokio::test]
async fn a_refusal_under_one_secret_is_not_believed_before_the_other_was_shown() {
    let (house, ids) = house(short_tokens()).await;
    let process = begin_all(&house, &house.keeper_with_secrets(house.old_secret()), &ids).await;
    process.kill().await;
    house.sandbox.release();
    house.sandbox.add_client_secret(NEW);
    house.advance(PAST_THE_LEASE);
    let wrong_way_round = format!("{NEW},{}", house.old_secret());
    drain(&house, &house.keeper_with_secrets(&wrong_way_round)).await;
    assert!(house.sandbox.counts().reuse_after_window > 0, "the new one was tried first");
    nothing_is_lost(&house, &ids, "a crash and two secrets in the wrong order").await;
}

/// The secret is replaced in one go: whoever stops first lets everything land.
#[tokio::test]
async fn who_is_stopped_lets_everything_land_before_the_secret_is_replaced() {
    let unforgiving = Settings { reuse_ends_grant: true, ..short_tokens() };
    let (house, ids) = house(unforgiving).await;
    let keeper = house.keeper_with_secrets(house.old_secret());
    let process = begin_all(&house, &keeper, &ids).await;
    let landing = tokio::spawn({
        let keeper = keeper.clone();
        async move { keeper.landed().await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!landing.is_finished() && keeper.flights() > 0, "it waits for what is in the air");
    house.sandbox.release();
    landing.await.expect("no panic");
    process.ended().await;
    assert_eq!(house.store().refresh_due(house.clock.now(), None, 1).await.expect("the store"), []);
    house.sandbox.set_client_secret(NEW);
    let keeper = house.keeper_with_secrets(NEW);
    for id in &ids {
        keeper.refresh(id).await.expect("new tokens");
    }
    assert_eq!(house.sandbox.counts().reuse_after_window, 0);
    nothing_is_lost(&house, &ids, "a secret that was replaced").await;
}
