//! Who lacks scopes is counted a page at a time.

use tokens::{Clock as _, InstallationId};

use crate::support::{House, Rest, short_tokens};
use crate::{process_by, settings};

#[tokio::test(flavor = "multi_thread")]
async fn all_who_lack_scopes_are_counted_on_every_page_once() {
    let house = House::with(Rest::Sqlite, short_tokens()).await;
    let (store, now) = (house.store(), house.clock.now());
    let tokens = house.stored().await.tokens;
    let good = tokens::TokenSet { scopes: format!("{} workflows.readonly", tokens.scopes), ..tokens.clone() };
    // With the first one they are 2,000, two whole pages; every tenth has reinstalled.
    for number in 1..2000 {
        let id = InstallationId::from_parts("location", &format!("L{number:05}")).expect("an id");
        let set = if number % 10 == 0 { &good } else { &tokens };
        store.connect(&id, set, now).await.expect("a grant");
    }
    let wanted = upkeep::Settings {
        scopes: Some("contacts.readonly contacts.write workflows.readonly".into()),
        ..settings(&house, Vec::new())
    };
    let (upkeep, _) = process_by(&house, wanted, house.clock.clone());
    assert_eq!(upkeep.lacking_scopes(), None, "nothing is said before it is known");
    for _ in 0..2 {
        upkeep.count_scopes().await.expect("the store");
        assert_eq!(upkeep.lacking_scopes(), Some(1801));
    }
    let anew = tokens::TokenSet { access: tokens::AccessToken::new("another"), ..good };
    for number in 1..1000 {
        let id = InstallationId::from_parts("location", &format!("L{number:05}")).expect("an id");
        store.connect(&id, &anew, now).await.expect("a grant");
    }
    upkeep.count_scopes().await.expect("the store");
    assert_eq!(upkeep.lacking_scopes(), Some(901));
}
