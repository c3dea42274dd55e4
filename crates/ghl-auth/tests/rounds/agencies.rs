//! An agency's list of locations beside what is kept.

use std::sync::Arc;

use highlevel::{Client, Dialect};
use sandbox::{Fault, FaultKind, Matcher};
use tokens::store::Listing;
use tokens::{CompanyId, Connection, InstallationId, LocationId, Overview, Records, Store};
use tokio::sync::watch;
use upkeep::{Reconciled, Unreconciled, Upkeep};

use super::{Plain, settings};
use crate::support::{self, DAY, HOUR, House};

struct Agency {
    house: House,
    upkeep: Arc<Upkeep>,
    company: CompanyId,
}

impl Agency {
    async fn of(locations: usize) -> Self {
        Self::speaking(locations, Dialect::Dated).await
    }

    async fn speaking(locations: usize, dialect: Dialect) -> Self {
        let scopes = ["contacts.readonly", "oauth.readonly", "oauth.write"].map(str::to_owned).to_vec();
        let settings = sandbox::Settings { extra_locations: locations - 1, scopes, ..Default::default() };
        let house = House::of_company(settings).await;
        let upkeep = process(&house, dialect);
        let company = house.id.as_str().parse().expect("an id");
        Self { house, upkeep, company }
    }

    async fn reconcile(&self) -> Result<Reconciled, Unreconciled> {
        let (_never, stop) = watch::channel(false);
        self.upkeep.reconcile(&self.company, &stop).await
    }

    async fn kept(&self) -> Vec<Overview> {
        self.house.store().overview(&Listing::ALL).await.expect("the store")
    }

    async fn one(&self, id: &InstallationId) -> Overview {
        self.house.store().load(id).await.expect("the store").expect("it is kept").overview()
    }
}

fn process(house: &House, dialect: Dialect) -> Arc<Upkeep> {
    let (store, records): (Arc<dyn Store>, Arc<dyn Records>) =
        store::open_with_records(&house.url(), &house.keys(), None).expect("a store");
    let base = house.sandbox.base_url();
    let client = Client::new(base.parse().expect("an address"), dialect, None).expect("a client");
    let keeper = house.keeper_speaking(store, client.clone());
    let app_id = Some(highlevel::app_id(&house.sandbox.settings().client_id).to_owned());
    let settings = upkeep::Settings { app_id, meant: None, ..settings(house, Vec::new()) };
    Upkeep::new(keeper, records, client, house.clock.clone(), Arc::new(Plain), settings)
}

fn location(id: &InstallationId) -> LocationId {
    id.as_str().parse().expect("an id")
}

/// HighLevel cuts the list off at a page without a word: 100 are asked for at a time.
#[tokio::test]
async fn a_list_is_read_to_its_end_in_either_dialect() {
    for dialect in [Dialect::Dated, Dialect::V3] {
        let agency = Agency::speaking(103, dialect).await;
        // Those of the first page are kept already, so that the story is short.
        for (number, id) in agency.house.locations()[..101].iter().enumerate() {
            if number == 90 {
                // A company may ask 100 times in ten seconds.
                agency.house.advance(std::time::Duration::from_secs(11));
            }
            agency.upkeep.keeper().token(id, HOUR).await.expect("a token");
        }
        let done = agency.reconcile().await.expect("a list");
        assert_eq!(done.listed, 103, "{dialect:?}");
        let begun: Vec<LocationId> = agency.house.locations()[101..].iter().map(location).collect();
        let mut found = done.begun.clone();
        found.sort();
        let mut expected = begun.clone();
        expected.sort();
        assert_eq!(found, expected, "{dialect:?}");
        let kept = agency.kept().await;
        assert_eq!(kept.len(), 104, "{dialect:?}: the company and all its locations");
        assert!(kept.iter().all(|it| it.company.as_ref() == Some(&agency.company)), "{dialect:?}");
        assert!(kept.iter().filter(|it| it.name.is_some()).count() == 103, "{dialect:?}: names are noted");
        let again = agency.reconcile().await.expect("a list");
        assert_eq!(again, Reconciled { listed: 103, ..Reconciled::default() }, "{dialect:?}");
    }
}

#[tokio::test]
async fn what_the_list_is_without_is_marked_and_served_on() {
    let agency = Agency::of(3).await;
    agency.reconcile().await.expect("a list");
    let gone = &agency.house.locations()[1];
    agency.house.sandbox.uninstall(gone.as_str());
    agency.house.advance(HOUR);
    let done = agency.reconcile().await.expect("a list");
    assert_eq!((done.listed, done.unlisted), (2, vec![location(gone)]));
    let marked = agency.one(gone).await;
    assert!(marked.unlisted_at.is_some() && marked.connection == Connection::Connected);
    assert_eq!(agency.house.store().counts().await.expect("the store").unlisted, 1);
    agency.upkeep.keeper().token(gone, HOUR).await.expect("a token that lives is handed out");
    // The mark stays as old as it is, and goes when HighLevel lists it again.
    agency.house.advance(HOUR);
    assert_eq!(agency.reconcile().await.expect("a list").unlisted, []);
    assert_eq!(agency.one(gone).await.unlisted_at, marked.unlisted_at);
    agency.house.sandbox.approve_location(gone.as_str(), support::REDIRECT_URI);
    agency.reconcile().await.expect("a list");
    assert_eq!(agency.one(gone).await.unlisted_at, None);
}

#[tokio::test]
async fn a_grant_that_died_is_healed_as_soon_as_the_company_is_well_again() {
    let agency = Agency::of(2).await;
    agency.reconcile().await.expect("a list");
    let keeper = agency.upkeep.keeper();
    let location_id = &agency.house.locations()[0];
    // All tokens die, the company's too, and only a person can help that.
    agency.house.sandbox.revoke(agency.company.as_str());
    agency.house.advance(DAY);
    keeper.token(&agency.house.id, HOUR).await.expect_err("it is dead");
    for id in agency.house.locations() {
        keeper.token(&id, HOUR).await.expect_err("it is dead, and so is its company");
    }
    assert!(matches!(agency.one(location_id).await.connection, Connection::Broken(_)));
    assert!(agency.reconcile().await.is_err());
    agency.house.log_in().await;
    let done = agency.reconcile().await.expect("a list");
    assert_eq!(done.healed.len(), 2);
    assert_eq!(agency.one(location_id).await.connection, Connection::Connected);
}

#[tokio::test]
async fn what_a_person_took_out_of_service_is_not_brought_back_by_the_list() {
    let agency = Agency::of(2).await;
    agency.reconcile().await.expect("a list");
    let removed = &agency.house.locations()[0];
    agency.house.advance(HOUR);
    agency.upkeep.keeper().disconnect(removed).await.expect("removed");
    let done = agency.reconcile().await.expect("a list");
    assert_eq!((done.listed, done.begun.len()), (2, 0));
    // Installed anew since, it is wanted again.
    agency.house.advance(HOUR);
    agency.house.sandbox.approve_location(removed.as_str(), support::REDIRECT_URI);
    assert_eq!(agency.reconcile().await.expect("a list").begun, [location(removed)]);
}

#[tokio::test]
async fn a_list_that_breaks_off_changes_nothing() {
    let agency = Agency::of(2).await;
    agency.reconcile().await.expect("a list");
    let path = Matcher::Path("/oauth/installedLocations".to_owned());
    for trouble in [FaultKind::status(502, "<html>"), FaultKind::LoseAnswer, FaultKind::TruncatedJson] {
        agency.house.sandbox.fault(Fault::new(trouble.clone()).on(path.clone()).until_cleared());
        let error = agency.reconcile().await.expect_err("no list");
        assert!(matches!(error, Unreconciled::Refused(_)), "{trouble:?}: {error}");
        agency.house.sandbox.clear_faults();
    }
    assert!(agency.kept().await.iter().all(|it| it.unlisted_at.is_none()));
}

/// Of two processes, one reads the list; and it is read within seconds of an authorisation.
#[tokio::test]
async fn the_rounds_read_the_list_by_themselves() {
    let agency = Agency::of(3).await;
    let other = process(&agency.house, Dialect::Dated);
    let (end, stop) = watch::channel(false);
    let rounds = [agency.upkeep.clone(), other].map(|upkeep| tokio::spawn(upkeep.run(stop.clone())));
    while agency.kept().await.len() < 4 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    end.send_replace(true);
    for rounds in rounds {
        rounds.await.expect("no panic");
    }
    let requests = agency.house.sandbox.ledger().requests;
    let lists = requests.iter().filter(|line| line.path == "/oauth/installedLocations").count();
    assert_eq!(lists, 2, "one process, one page and the empty one behind it");
}
