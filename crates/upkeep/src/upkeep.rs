//! The rounds: refresh what is due, check what is due, tell what has changed.

use std::sync::Arc;
use std::time::Duration;

use highlevel::Client;
use tokens::{
    AccessToken, CheckRecord, Clock, ContactId, InstallationId, Keeper, KeeperError, Records, Trigger,
};
use tokio::sync::watch;

use crate::speech::Speech;

/// What the rounds go by.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who speaks, in notices.
    pub microservice_name: String,
    /// From one check to the next.
    pub interval: Duration,
    /// The installation that the contact and the tags belong to.
    pub meant: Option<InstallationId>,
    /// The contact that is read and tagged.
    pub contact: Option<ContactId>,
    /// The tag that says that the service is alive.
    pub tag: Option<String>,
    /// The tag for trouble while the API still answers.
    pub failure_tag: Option<String>,
    /// Instead of a kept grant, for `meant`.
    pub private_token: Option<AccessToken>,
    /// Failures in a row before a notice.
    pub alert_after: u32,
    /// From one reminder to the next.
    pub remind_every: Duration,
}

/// What happens by the clock.
pub struct Upkeep {
    _keeper: Keeper,
    _records: Arc<dyn Records>,
    _client: Client,
    _clock: Arc<dyn Clock>,
    _speech: Arc<dyn Speech>,
    _settings: Settings,
    tally: crate::Tally,
}

impl Upkeep {
    /// Everything that the rounds need.
    pub fn new(
        keeper: Keeper,
        records: Arc<dyn Records>,
        client: Client,
        clock: Arc<dyn Clock>,
        speech: Arc<dyn Speech>,
        settings: Settings,
    ) -> Arc<Self> {
        Arc::new(Self {
            _keeper: keeper,
            _records: records,
            _client: client,
            _clock: clock,
            _speech: speech,
            _settings: settings,
            tally: crate::Tally::default(),
        })
    }

    /// Checks one installation now, and remembers what it found.
    pub async fn check(&self, _id: &InstallationId, _trigger: Trigger) -> Result<CheckRecord, KeeperError> {
        unimplemented!("the rounds")
    }

    /// What was done so far, in numbers.
    pub fn tally(&self) -> &crate::Tally {
        &self.tally
    }

    /// Whether the rounds go on.
    pub fn is_alive(&self) -> bool {
        true
    }

    /// Tells the operator that a grant waits for approval.
    pub async fn tell_parked(&self, _id: &InstallationId) {}

    /// One round.
    pub async fn round(&self) {}

    /// Rounds until `stop` turns true. A round that has begun is ended, with its flights landed.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let _ = stop.wait_for(|stop| *stop).await;
    }
}
