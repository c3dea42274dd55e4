//! What HighLevel tells of is acted on: an install, an uninstall, an update.
//!
//! An event rests in the queue before HighLevel hears that it came, and is taken from there by one
//! process at a time, for as long as its lease lasts. It may come twice, late, and in any order, and
//! two processes may act on it: what is done depends on when things happened, never on when they were
//! told, so the newest wins. What can't be done yet, such as to serve a location before its company's
//! code was exchanged, waits in the queue.

use std::sync::Arc;
use std::time::Duration;

use highlevel::{Event, Happening, Install};
use tokens::records::{LONGEST_WAIT, QueuedEvent};
use tokens::{InstallationId, KeeperError, Notice, NoticeKind, StoreError, Subject, Timestamp};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tracing::{error, info, warn};

use crate::upkeep::Upkeep;

/// How often the queue is looked at; an event that comes to this process is acted on at once.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// So many are taken from the queue together, and so many acted on at once.
const AT_ONCE: usize = 64;
const ACTS_AT_ONCE: usize = 8;

/// An event is ours alone for this long, and acting on it ends before.
const LEASE: Duration = Duration::from_secs(2 * 60);
const ACT_WITHIN: Duration = Duration::from_secs(60);

/// From one install to the next: HighLevel allows 100 requests in 10 seconds for each company.
const INSTALL_EVERY: Duration = Duration::from_millis(110);

/// What could not be done for so long never will: HighLevel repeats an event for three days, too.
const GIVE_UP_AFTER: Duration = Duration::from_secs(3 * 24 * 60 * 60);

/// The shortest pause before an event is tried again.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);

/// What came of an event.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// This, in a word.
    Done(&'static str),
    /// Nothing yet, because of this.
    NotYet(String),
}

impl Upkeep {
    pub(crate) async fn keep_acting(self: &Arc<Self>, mut stop: watch::Receiver<bool>) {
        loop {
            self.act_on_events(&stop).await;
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = self.event_came.notified() => {}
                () = sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// An event was queued by this process. An uninstall is acted on before anything that waits; where
    /// that does not come about, the queue still has it.
    pub async fn heard(&self, event: &QueuedEvent) {
        match Event::read(&event.body).map(|event| event.what) {
            Ok(Happening::Uninstalled(_)) => self.act_and_note(event).await,
            _ => self.event_came.notify_one(),
        }
    }

    /// Acts on all events that are due.
    pub async fn act_on_events(self: &Arc<Self>, stop: &watch::Receiver<bool>) {
        let mut next_install = Instant::now();
        loop {
            let now = self.clock.now();
            let due = match self.records.claim_events(now, now + LEASE, AT_ONCE).await {
                Ok(due) => due,
                Err(error) => return warn!(%error, "the queue of events can't be read"),
            };
            let was_all = due.len() < AT_ONCE;
            let mut acting = JoinSet::new();
            for event in due {
                if acting.len() >= ACTS_AT_ONCE {
                    acting.join_next().await;
                }
                if *stop.borrow() {
                    break;
                }
                if event.kind == "INSTALL" {
                    tokio::time::sleep_until(next_install).await;
                    next_install = Instant::now() + INSTALL_EVERY;
                }
                let upkeep = self.clone();
                acting.spawn(async move { upkeep.act_and_note(&event).await });
            }
            acting.join_all().await;
            if was_all || *stop.borrow() {
                return;
            }
        }
    }

    async fn act_and_note(&self, queued: &QueuedEvent) {
        let (id, kind) = (queued.id.as_str(), queued.kind.as_str());
        let outcome = timeout(ACT_WITHIN, self.act(queued)).await;
        let outcome = outcome.unwrap_or_else(|_| Outcome::NotYet("it took too long".to_owned()));
        let now = self.clock.now();
        let waited = now.since(queued.received_at);
        let noted = match outcome {
            Outcome::Done(outcome) => {
                info!(event = id, kind, outcome, "acted on an event of HighLevel's");
                self.records.event_done(id, now, outcome).await
            }
            Outcome::NotYet(said) if waited > GIVE_UP_AFTER => {
                error!(
                    event = id,
                    kind, said, "an event of HighLevel's could not be acted on for three days"
                );
                self.records.event_done(id, now, "given_up").await
            }
            Outcome::NotYet(said) => {
                info!(event = id, kind, said, "an event of HighLevel's has to wait");
                self.records.put_off_event(id, now + pause_after(waited), &said).await
            }
        };
        if let Err(error) = noted {
            warn!(event = id, %error, "an event can't be noted; it is acted on again");
        }
    }

    async fn act(&self, queued: &QueuedEvent) -> Outcome {
        let Ok(event) = Event::read(&queued.body) else { return Outcome::Done("odd") };
        let at = event.at.unwrap_or(queued.received_at);
        match &event.what {
            Happening::Installed(install) => self.act_on_install(install, at).await,
            Happening::Uninstalled(id) => self.act_on_uninstall(id, at).await,
            Happening::Updated(Install { id, version, .. }) => {
                // What it may do now shows at its next refresh.
                info!(%id, version, "the app has another version there");
                Outcome::Done("noted")
            }
            Happening::LocationCreated { location, company } => {
                // A company that installs on future locations sends an INSTALL for it, or lists it.
                info!(%location, company = ?company, "a company has a new location");
                Outcome::Done("noted")
            }
            Happening::Other => Outcome::Done("ignored"),
        }
    }

    /// A location whose company's grant is kept was authorised with the company. Any other has a code
    /// of its own, which a person brings.
    async fn act_on_install(&self, install: &Install, at: Timestamp) -> Outcome {
        let InstallationId::Location(location) = &install.id else { return Outcome::Done("noted") };
        if !self.keeper.store().can_park() {
            return Outcome::Done("no_room");
        }
        match self.keeper.store().removed_at(&install.id).await {
            Ok(Some(removed_at)) if removed_at >= at => return Outcome::Done("left_later"),
            Ok(_) => {}
            Err(error) => return Outcome::NotYet(error.to_string()),
        }
        match self.keeper.installed(location, install.company.as_ref(), at).await {
            Ok(_) => Outcome::Done("served"),
            Err(error) => Outcome::NotYet(error.to_string()),
        }
    }

    async fn act_on_uninstall(&self, id: &InstallationId, at: Timestamp) -> Outcome {
        match self.keeper.uninstalled(id, at).await {
            Ok(gone) if gone.is_empty() => Outcome::Done("nothing_to_take_out"),
            Ok(gone) => {
                warn!(%id, count = gone.len(), "was uninstalled by its user, and is out of service");
                self.tell_uninstalled(id, gone.len(), at).await;
                Outcome::Done("taken_out")
            }
            Err(KeeperError::Store(StoreError::NoRoomFor { .. })) => {
                warn!(%id, "was uninstalled by its user; a file keeps it until a person takes it away");
                Outcome::Done("no_room")
            }
            Err(error) => Outcome::NotYet(error.to_string()),
        }
    }

    async fn tell_uninstalled(&self, id: &InstallationId, count: usize, at: Timestamp) {
        let now = self.clock.now();
        let arguments =
            [("kind", id.kind().to_owned()), ("id", id.as_str().to_owned()), ("count", count.to_string())];
        let key = if count == 1 { "uninstalled" } else { "uninstalled-with-locations" };
        let said = self.speech.say(key, &arguments);
        let subject = Subject::Installation(id.clone());
        self.tell_beside(&subject, now, |standing| Notice {
            since: at,
            code: Some("uninstalled".to_owned()),
            said: Some(said.clone()),
            ..self.notice(standing, NoticeKind::Uninstalled, now)
        })
        .await;
    }
}

/// A quarter of how long it has waited: soon at first, and seldom in the end.
fn pause_after(waited: Duration) -> Duration {
    (waited / 4).clamp(SHORTEST_WAIT, LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_waited_for_long_is_tried_seldom() {
        let check = |waited, pause| {
            assert_eq!(pause_after(Duration::from_secs(waited)), Duration::from_secs(pause), "{waited}");
        };
        check(0, 1);
        check(3, 1);
        check(40, 10);
        check(3600, 900);
        check(3 * 24 * 3600, 3600);
    }
}
