//! Very many at once.

use rusqlite::Connection;
use tokens::InstallationId;

use crate::support::{House, Rest};
use crate::{INTERVAL, process};

/// More than a round has in memory at a time.
const STUCK: usize = 1_100;

#[tokio::test]
async fn any_number_that_nothing_helps_holds_nobody_up() {
    let house = House::new(Rest::Sqlite).await;
    let (upkeep, _) = process(&house, Vec::new());
    upkeep.round().await;
    let before = house.stored().await;
    assert!(before.last_check.is_some());
    // What they are connected with is no matter: none of them will open.
    let store = house.store();
    let connects = (0..STUCK).map(|number| {
        let (store, mut tokens) = (store.clone(), before.tokens.clone());
        tokens.scopes = number.to_string();
        async move {
            let id = InstallationId::from_parts("location", &format!("STUCK{number}")).expect("an id");
            store.connect(&id, &tokens, tokens.issued_at).await.expect("kept");
        }
    });
    connects.collect::<tokio::task::JoinSet<_>>().join_all().await;
    let database = Connection::open(house.path()).expect("a database");
    database
        .execute_batch(
            "UPDATE installations SET state = 'odd', refresh_due_at = 1 WHERE id LIKE 'STUCK%';
             UPDATE sets SET sealed = x'00'
                 WHERE whose IN (SELECT number FROM installations WHERE id LIKE 'STUCK%')",
        )
        .expect("changed");
    house.advance(INTERVAL * 3 / 2);
    upkeep.round().await;
    let after = house.stored().await;
    assert_eq!(after.version.generation, before.version.generation + 1, "refreshed behind them");
    let checked = |kept: &tokens::Installation| kept.last_check.as_ref().map(|check| check.at);
    assert!(checked(&after) > checked(&before), "checked behind them");
}
