//! Installs and uninstalls, told in every order there is: the newest wins.

use std::sync::Arc;
use std::time::Duration;

use tokens::records::QueuedEvent;
use tokens::{Clock as _, CompanyId, InstallationId, Records, Timestamp};
use tokio::sync::watch;
use upkeep::Upkeep;

use super::{process, told};
use crate::support::{DAY, House, short_tokens, times};

const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

/// What happened to a location, and when.
#[derive(Clone, Copy, Debug)]
enum Fact {
    Installed(Timestamp),
    Uninstalled(Timestamp),
}

struct Agency {
    house: House,
    upkeep: Arc<Upkeep>,
    records: Arc<dyn Records>,
    location: InstallationId,
    told: std::cell::Cell<u32>,
}

impl Agency {
    async fn new(locations: usize) -> Self {
        let scopes = ["contacts.readonly", "oauth.write"].map(str::to_owned).to_vec();
        let mut settings = sandbox::Settings { scopes, extra_locations: locations - 1, ..short_tokens() };
        settings.rate_limit.enforced = false;
        let house = House::of_company(settings).await;
        let (upkeep, records) = process(&house, Vec::new());
        let location = house.locations()[0].clone();
        Self { house, upkeep, records, location, told: std::cell::Cell::default() }
    }

    /// HighLevel tells of a fact, now.
    async fn tell(&self, fact: Fact) {
        let (kind, at) = match fact {
            Fact::Installed(at) => ("INSTALL", at),
            Fact::Uninstalled(at) => ("UNINSTALL", at),
        };
        let more = format!(r#","companyId":"{}","timestamp":{}"#, self.house.id.as_str(), at.as_millis());
        self.tell_of(kind, &more).await;
    }

    async fn tell_of(&self, kind: &str, more: &str) {
        self.told.set(self.told.get() + 1);
        let body = format!(r#"{{"type":"{kind}","locationId":"{}"{more}}}"#, self.location.as_str());
        let (id, received_at) = (format!("e{}", self.told.get()), self.house.clock.now());
        let event = QueuedEvent { id, kind: kind.to_owned(), body, received_at, attempts: 0 };
        assert!(self.records.queue_event(&event).await.expect("room"));
        self.act().await;
    }

    async fn act(&self) {
        let (_never, stop) = watch::channel(false);
        self.upkeep.act_on_events(&stop).await;
    }

    async fn is_kept(&self) -> bool {
        self.house.store().load(&self.location).await.expect("the store").is_some()
    }

    /// Nobody holds the location, and nobody remembers that it left.
    async fn forget(&self) {
        let store = self.house.store();
        store.remove(&self.location, self.house.clock.now()).await.expect("removed");
        self.house.advance(DAY * 31);
        let month = self.house.clock.now();
        store
            .remove(&"forgotten".parse().map(InstallationId::Location).expect("an id"), month)
            .await
            .expect("looked");
        self.house.sandbox.install(self.location.as_str());
    }
}

#[tokio::test]
async fn in_whatever_order_it_is_told_the_newest_fact_stands() {
    let timings = times("GHL_AUTH_EVENT_TIMINGS", 3);
    let agency = Agency::new(1).await;
    let clock = &agency.house.clock;
    let mut cases = 0;
    for timing in 0..timings {
        for order in ORDERS {
            for ends_installed in [true, false] {
                for kept_before in [true, false] {
                    agency.forget().await;
                    agency.house.log_in().await;
                    if kept_before {
                        agency.tell(Fact::Installed(clock.now())).await;
                        assert!(agency.is_kept().await);
                    }
                    let pause =
                        |n: usize| Duration::from_millis(1 + (7919 * (timing + 1) * (n + 1)) as u64 % 60_000);
                    let mut facts = Vec::new();
                    for number in 0..3 {
                        agency.house.advance(pause(number));
                        let is_install = (number == 1) != ends_installed;
                        facts.push(match is_install {
                            true => Fact::Installed(clock.now()),
                            false => Fact::Uninstalled(clock.now()),
                        });
                    }
                    match ends_installed {
                        true => agency.house.sandbox.install(agency.location.as_str()),
                        false => agency.house.sandbox.uninstall(agency.location.as_str()),
                    }
                    for (number, place) in order.into_iter().enumerate() {
                        agency.house.advance(pause(number + 3));
                        agency.tell(facts[place]).await;
                    }
                    // What had to wait has waited.
                    for _ in 0..3 {
                        agency.house.advance(Duration::from_secs(3600));
                        agency.act().await;
                    }
                    let what = format!("{facts:?} in the order {order:?}, kept before: {kept_before}");
                    assert_eq!(agency.is_kept().await, ends_installed, "{what}");
                    if ends_installed {
                        let kept = agency.house.store().load(&agency.location).await.expect("the store");
                        let access = kept.expect("kept").tokens.access;
                        assert!(agency.house.sandbox.is_valid_access_token(access.expose()), "{what}");
                    }
                    cases += 1;
                }
            }
        }
    }
    println!("{cases} times the newest stood");
}

#[tokio::test]
async fn what_waits_in_vain_is_given_up_after_three_days_and_an_uninstall_ends_the_wait() {
    let agency = Agency::new(1).await;
    agency.house.sandbox.uninstall(agency.location.as_str());
    agency.tell(Fact::Installed(agency.house.clock.now())).await;
    let waits = || async {
        let now = agency.house.clock.now() + Duration::from_secs(3600);
        let due = agency.records.claim_events(now, now, 9).await.expect("a look");
        due.len()
    };
    for _ in 0..71 {
        agency.house.advance(Duration::from_secs(3600));
        agency.act().await;
    }
    assert_eq!(waits().await, 1);
    agency.house.advance(Duration::from_secs(3 * 3600));
    agency.act().await;
    assert_eq!(waits().await, 0);
    assert!(!agency.is_kept().await);

    agency.tell(Fact::Installed(agency.house.clock.now())).await;
    agency.house.advance(Duration::from_secs(60));
    agency.tell(Fact::Uninstalled(agency.house.clock.now())).await;
    agency.house.sandbox.install(agency.location.as_str());
    agency.house.advance(Duration::from_secs(3600));
    agency.act().await;
    assert!(!agency.is_kept().await, "that install was before it left");
    assert_eq!(waits().await, 0);
}

/// Two processes over one queue: each event is one's, and none is lost where one of them dies.
#[tokio::test]
async fn of_two_processes_each_acts_on_what_the_other_does_not() {
    let agency = Agency::new(12).await;
    let (other, _) = process(&agency.house, Vec::new());
    let now = agency.house.clock.now();
    for (number, id) in agency.house.locations().iter().enumerate() {
        let body = format!(
            r#"{{"type":"INSTALL","locationId":"{}","companyId":"{}"}}"#,
            id.as_str(),
            agency.house.id.as_str()
        );
        let event = QueuedEvent {
            id: format!("i{number}"),
            kind: "INSTALL".into(),
            body,
            received_at: now,
            attempts: 0,
        };
        assert!(agency.records.queue_event(&event).await.expect("room"));
    }
    // A process that has taken some of them dies.
    let taken = agency.records.claim_events(now, now + Duration::from_secs(120), 3).await.expect("a look");
    assert_eq!(taken.len(), 3);
    let (_never, stop) = watch::channel(false);
    tokio::join!(agency.upkeep.act_on_events(&stop), other.act_on_events(&stop));
    let kept = agency.house.store().list(None, 99).await.expect("the store").len();
    assert_eq!(kept, 1 + 12 - 3);
    agency.house.advance(Duration::from_secs(121));
    tokio::join!(agency.upkeep.act_on_events(&stop), other.act_on_events(&stop));
    let kept = agency.house.store().list(None, 99).await.expect("the store");
    assert_eq!(kept.len(), 13);
    assert!(kept.iter().all(|it| it.version.epoch == 1));
    assert_eq!(agency.house.sandbox.counts().mints, 12, "none was minted twice");
}

/// A company that is uninstalled while its locations' installs are told of.
#[tokio::test]
async fn a_company_s_uninstall_leaves_what_was_installed_later() {
    let agency = Agency::new(1).await;
    let company: CompanyId = agency.house.id.as_str().parse().expect("an id");
    let at = agency.house.clock.now();
    agency.house.advance(Duration::from_secs(60));
    agency.house.log_in().await;
    agency.tell(Fact::Installed(agency.house.clock.now())).await;
    assert!(agency.is_kept().await);
    let gone = agency.upkeep.keeper().uninstalled(&InstallationId::Company(company.clone()), at).await;
    assert!(gone.expect("the store").is_empty());
    assert!(agency.is_kept().await);
    agency.house.advance(Duration::from_secs(60));
    let now = agency.house.clock.now();
    let gone = agency.upkeep.keeper().uninstalled(&InstallationId::Company(company), now).await;
    assert_eq!(gone.expect("the store").len(), 2);
    assert!(told(&agency.records).await.is_empty(), "the Keeper itself tells nobody");
}
