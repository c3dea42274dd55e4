//! The rounds, told as stories: real stores and records, a sandbox in HighLevel's place, and a clock
//! that a test moves. Each upkeep here is what a process of its own has.

#![allow(clippy::print_stdout, reason = "a test says what it found, and why it was left out")]

#[path = "../support/mod.rs"]
mod support;

mod agencies;
mod clock;
mod due_at_once;
mod durable;
mod events;
mod hook;
mod keys;
mod late;
mod many;
mod scopes;
mod status;
mod telling;

use std::sync::Arc;
use std::time::Duration;

use highlevel::{Client, Dialect};
use support::{HOUR, House};
use tokens::{AlertRules, Clock, KeeperError, Records, TestClock, Timestamp};
use upkeep::{CheckError, Said, Settings, Speech, Upkeep, Warning, Way};

/// From one check to the next.
const INTERVAL: Duration = Duration::from_secs(12 * 3600);

/// An upkeep as another process has it, with handles of the store and of the records of its own.
fn process(house: &House, ways: Vec<Way>) -> (Arc<Upkeep>, Arc<dyn Records>) {
    process_by(house, settings(house, ways), house.clock.clone())
}

/// One on a machine whose clock is not quite the same.
fn other_process(house: &House, ways: Vec<Way>) -> (Arc<Upkeep>, Arc<dyn Records>) {
    process_by(house, settings(house, ways), Arc::new(ABitAhead(house.clock.clone())))
}

fn process_by(house: &House, settings: Settings, clock: Arc<dyn Clock>) -> (Arc<Upkeep>, Arc<dyn Records>) {
    process_of(house, settings, clock, &house.sandbox.base_url())
}

/// One that finds HighLevel at an address.
fn process_before(house: &House, settings: Settings, base: &str) -> (Arc<Upkeep>, Arc<dyn Records>) {
    process_of(house, settings, house.clock.clone(), base)
}

fn process_of(
    house: &House,
    settings: Settings,
    clock: Arc<dyn Clock>,
    base: &str,
) -> (Arc<Upkeep>, Arc<dyn Records>) {
    let (store, records) =
        store::open_with_records(&house.url(), &house.keys(), Some(&house.id)).expect("a store");
    let client = Client::new(base.parse().expect("an address"), Dialect::Dated, None).expect("a client");
    let secret = house.sandbox.settings().client_secret.clone();
    let keeper = house.keeper_of(store, support::roomy(), base, &secret);
    let upkeep = Upkeep::new(keeper, records.clone(), client, clock, Arc::new(Plain), settings);
    (upkeep, records)
}

fn settings(house: &House, ways: Vec<Way>) -> Settings {
    Settings {
        interval: INTERVAL,
        meant: Some(house.id.clone()),
        contact: None,
        tag: None,
        failure_tag: None,
        app_id: None,
        private_token: None,
        microservice_name: "JARDINS".into(),
        link: None,
        scopes: None,
        alerts: AlertRules { after: 2, remind_every: HOUR * 24 },
        ways,
        heartbeat: None,
    }
}

/// The kinds of notices there were, the first one first.
async fn told(records: &Arc<dyn Records>) -> Vec<String> {
    let notices = records.notices(100_000).await.expect("the notices");
    let name = |notice: &tokens::Notice| format!("{}:{}", notice.kind.as_str(), notice.health.as_str());
    notices.iter().rev().map(|(notice, _)| name(notice)).collect()
}

#[derive(Debug)]
struct ABitAhead(Arc<TestClock>);

impl Clock for ABitAhead {
    fn now(&self) -> Timestamp {
        self.0.now() + Duration::from_millis(7)
    }
}

/// Names sentences instead of saying them.
struct Plain;

impl Speech for Plain {
    fn span(&self, span: Duration) -> String {
        format!("{span:?}")
    }

    fn say(&self, key: &str, arguments: &[(&str, String)]) -> String {
        arguments.iter().fold(key.to_owned(), |said, (name, value)| format!("{said} {name}={value}"))
    }

    fn keeper_error(&self, error: &KeeperError) -> Said {
        said("keeper", error.to_string())
    }

    fn check_error(&self, error: &CheckError) -> Said {
        said("check", error.to_string())
    }

    fn warning(&self, warning: &Warning) -> Said {
        said("warning", format!("{warning:?}"))
    }

    fn moment(&self, at: Timestamp) -> String {
        at.as_millis().to_string()
    }
}

fn said(code: &'static str, detail: String) -> Said {
    Said { code, detail, action: String::new(), needs_person: false }
}
