//! Three days down, and then everything is due at once before a HighLevel that takes so many requests a
//! second: T-128.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokens::{AuthorizationCode, Connection};
use tokio::task::JoinSet;

use crate::process;
use crate::support::programs::report;
use crate::support::{DAY, House, REDIRECT_URI, Rest, short_tokens, times};

/// At most so many refreshes are in the air at once.
const IN_THE_AIR: usize = 8;

/// HighLevel takes so many requests for tokens in a second.
const A_SECOND: u64 = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_due_at_once_is_refreshed_no_faster_than_highlevel_allows() {
    let count = times("GHL_AUTH_DUE_AT_ONCE", 1000);
    let mut settings = sandbox::Settings { extra_locations: count - 1, ..short_tokens() };
    settings.scopes.push("locations.readonly".into());
    let house = House::with(Rest::Sqlite, settings).await;
    let keeper = house.keeper();
    let others = house.sandbox.location_ids().into_iter().filter(|id| id != house.id.as_str());
    let connects = others.map(|location| {
        let code = AuthorizationCode::new(house.sandbox.approve_location(&location, REDIRECT_URI));
        let keeper = keeper.clone();
        async move { keeper.connect(&code).await.map(drop) }
    });
    for connected in connects.collect::<JoinSet<_>>().join_all().await {
        connected.expect("a grant");
    }
    house.advance(DAY * 3);
    let since = house.sandbox.now_millis();
    house.sandbox.limit_token_requests(A_SECOND, Duration::from_secs(1));

    let (upkeep, _) = process(&house, Vec::new());
    let (over, most) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let watching = tokio::spawn({
        let (over, most, keeper) = (over.clone(), most.clone(), upkeep.keeper().clone());
        async move {
            while !over.load(Ordering::SeqCst) {
                most.fetch_max(keeper.flights(), Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
    let began = Instant::now();
    upkeep.round().await;
    let took = began.elapsed();
    over.store(true, Ordering::SeqCst);
    watching.await.expect("no panic");
    assert_eq!(most.load(Ordering::SeqCst), IN_THE_AIR, "as many as may be, and no more");

    let kept = house.store().list(None, usize::MAX).await.expect("the store");
    assert_eq!(kept.len(), count);
    for one in &kept {
        assert_eq!((&one.connection, one.version.generation), (&Connection::Connected, 2), "{}", one.id);
        assert!(house.sandbox.is_current_refresh_token(one.tokens.refresh_token().expect("one").expose()));
    }
    let mut seconds: BTreeMap<u64, u64> = BTreeMap::new();
    let mut refused = 0;
    let requests = house.sandbox.ledger().requests;
    for request in requests.iter().filter(|request| request.path == "/oauth/token" && request.at >= since) {
        refused += usize::from(request.status == 429);
        *seconds.entry(request.at / 1000).or_default() += 1;
    }
    assert!(refused > 0, "it was asked for more than it allows");
    // Each of those in the air waits longer from one 429 to the next.
    assert!(refused < count, "{refused} were refused for {count}");
    let busiest = seconds.values().max().copied().unwrap_or_default();
    assert!(busiest < A_SECOND * 2, "{busiest} requests in a second");
    println!("{count} due at once: {took:?}, {refused} refused, at most {busiest} requests in a second");
    report("due at once after three days, 60 a second allowed", count, &[], began);
}
