//! Checks that don't come: told once, and once when they come again.
//!
//! Silence looks like health. So each look compares when the store says that an installation was last
//! checked with when it ought to have been, whether this process was down, its rounds hang, or
//! another process makes them.

use std::sync::Arc;
use std::time::Duration;

use tokens::records::Maintenance;
use tokens::store::Listing;
use tokens::{
    Finding, Health, InstallationId, KeeperError, LateCheck, Lateness, Standing, StoreError, Subject,
    Timestamp, lateness,
};
use tokio::time::timeout;
use tracing::warn;

use crate::outbox::is_silenced;
use crate::upkeep::Upkeep;

/// A store that hangs must not keep anybody from being told of something else.
const STORE_WITHIN: Duration = Duration::from_secs(10);

/// What late checks are called in a notice's `code`.
const LATE: &str = "late";

/// What a store that can't be read is called there.
const STORE: &str = "store_unavailable";

impl Upkeep {
    /// Looks whether checks came when they were due, and puts what there is to tell into the outbox.
    pub async fn watch_checks(&self) {
        let now = self.clock.now();
        let windows = self.maintenances(now).await;
        let last_checks = match self.last_checks(&windows).await {
            Ok(last_checks) => last_checks,
            Err(error) => return self.note_store(Some(error)).await,
        };
        self.note_store(None).await;
        let standings = match self.records.standings().await {
            Ok(standings) => standings,
            Err(error) => return warn!(%error, "nobody can look for late checks"),
        };
        let standing = |subject: Subject| {
            let known = standings.iter().find(|standing| standing.subject == subject);
            known.cloned().unwrap_or_else(|| Standing::new(subject, now))
        };
        if last_checks.is_empty() {
            return;
        }
        let silenced = is_silenced(&windows, &Subject::Checks(None));
        let all = standing(Subject::Checks(None));
        let all_were_late = all.health != Health::Operational;
        let late = match lateness(&last_checks, self.settings.interval, now, all_were_late) {
            Lateness::All(late) => return self.note_checks(&all, Some(late), silenced).await,
            Lateness::Some(late) => late,
            Lateness::InTime => Vec::new(),
        };
        self.note_checks(&all, None, silenced).await;
        for (id, _) in last_checks {
            let late = late.iter().find(|(whose, _)| *whose == id).map(|(_, late)| *late);
            self.note_checks(&standing(Subject::Checks(Some(id))), late, false).await;
        }
    }

    /// When each installation was last checked, of those that were and are in no maintenance.
    async fn last_checks(
        &self,
        windows: &[Maintenance],
    ) -> Result<Vec<(InstallationId, Timestamp)>, StoreError> {
        let store = self.keeper.store();
        let kept = timeout(STORE_WITHIN, store.overview(&Listing::ALL)).await;
        let kept = kept.unwrap_or_else(|_| {
            let source = Arc::from(Box::from("it takes too long"));
            Err(StoreError::Database { doing: "read", place: "the store".to_owned(), source })
        })?;
        let kept = kept.into_iter().map(|kept| (kept.id, kept.last_check.map(|check| check.at)));
        let checked = kept.chain(self.private_checked().await).filter_map(|(id, last)| Some((id, last?)));
        Ok(checked.filter(|(id, _)| !is_silenced(windows, &Subject::Checks(Some(id.clone())))).collect())
    }

    /// A store that can't be read is the service's trouble, and so is its end: what is remembered of
    /// notices rests elsewhere.
    async fn note_store(&self, error: Option<StoreError>) {
        let finding = match error {
            Some(error) => {
                let said = self.speech.keeper_error(&KeeperError::Store(error));
                let whole = format!("{} {}", said.detail, said.action);
                Finding { health: Health::Down, code: Some(STORE.to_owned()), said: Some(whole) }
            }
            None => {
                let Some(now) = self.standing(&Subject::Service, self.clock.now()).await else { return };
                if now.code.as_deref() != Some(STORE) {
                    return;
                }
                Finding { health: Health::Operational, code: None, said: None }
            }
        };
        self.note(Subject::Service, &finding).await;
    }

    async fn note_checks(&self, standing: &Standing, late: Option<LateCheck>, silenced: bool) {
        let now = self.clock.now();
        let finding = match late {
            Some(late) => self.found_late(late),
            None if standing.health == Health::Operational => return,
            None => Finding {
                health: Health::Operational,
                code: Some(LATE.to_owned()),
                said: Some(self.speech.say("checks-again", &[])),
            },
        };
        let (mut next, kind) = standing.after(&finding, now, self.settings.alerts, silenced);
        let changed = next.health != standing.health;
        if let Some(late) = late.filter(|_| changed) {
            next.since = late.due;
        }
        if changed || kind.is_some() {
            let notice = kind.map(|kind| self.notice(&next, kind, now));
            // Where another process was faster, the next look finds what it noted.
            self.put_out(&next, notice.as_ref()).await;
        }
    }

    fn found_late(&self, late: LateCheck) -> Finding {
        let moments = [("last", self.speech.moment(late.last)), ("due", self.speech.moment(late.due))];
        let detail = self.speech.say("late-checks", &moments);
        let action = self.speech.say("late-checks.action", &[]);
        Finding {
            health: Health::Degraded,
            code: Some(LATE.to_owned()),
            said: Some(format!("{detail} {action}")),
        }
    }
}
