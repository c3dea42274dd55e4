//! Checks that don't come: told once, and once when they come again.
//!
//! Silence looks like health. So each look compares when the store says that an installation was last
//! checked with when it ought to have been, whether this process was down, its rounds hang, or
//! another process makes them.

use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use tokens::records::{CheckQuery, Maintenance};
use tokens::store::{Listing, Order};
use tokens::{
    CompanyId, Finding, Health, InstallationId, KeeperError, LateCheck, Lateness, Overview, Standing,
    StoreError, Subject, Timestamp, lateness, tolerated_delay,
};
use tokio::time::timeout;
use tracing::warn;

use crate::outbox::is_silenced;
use crate::upkeep::Upkeep;

/// A store that hangs must not keep anybody from being told of something else.
const STORE_WITHIN: Duration = Duration::from_secs(10);

/// So many installations are named as late at a time.
const LATE_AT_MOST: usize = 1000;

/// What late checks are called in a notice's `code`.
const LATE: &str = "late";

/// What a store that can't be read is called there.
const STORE: &str = "store_unavailable";

impl Upkeep {
    /// Whether the check after one that was made at `last` is late.
    pub fn is_check_late(&self, last: Timestamp, now: Timestamp) -> bool {
        is_late(last, self.settings.interval, now)
    }

    /// Looks whether checks came when they were due, and puts what there is to tell into the outbox.
    pub async fn watch_checks(&self) {
        let now = self.clock.now();
        let windows = self.maintenances(now).await;
        let last_checks = match self.last_checks(&windows, now).await {
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
        for (id, late) in &late {
            self.note_checks(&standing(Subject::Checks(Some(id.clone()))), Some(*late), false).await;
        }
        for standing in &standings {
            let Subject::Checks(Some(id)) = &standing.subject else { continue };
            let is_in_trouble = standing.health != Health::Operational;
            if is_in_trouble
                && !late.iter().any(|(whose, _)| whose == id)
                && !is_silenced(&windows, &standing.subject)
                && self.is_in_time(id, now).await
            {
                self.note_checks(standing, None, false).await;
            }
        }
    }

    /// When installations were last checked that were and are in no maintenance: those longest ago, as
    /// far as they are late, and one that is not. Where more are late than are worth naming, the latest
    /// check that there was says whether all are.
    async fn last_checks(
        &self,
        windows: &[Maintenance],
        now: Timestamp,
    ) -> Result<Vec<(InstallationId, Timestamp)>, StoreError> {
        let store = self.keeper.store();
        let heard = |id: &InstallationId| !is_silenced(windows, &Subject::Checks(Some(id.clone())));
        let mut found: Vec<(InstallationId, Timestamp)> = Vec::new();
        let private = self.private_checked().await;
        found.extend(private.and_then(|(id, last)| Some((id, last?))).filter(|(id, _)| heard(id)));
        let mut after = behind_those_never_checked();
        loop {
            let listing =
                Listing { order: Order::CheckedAt, after: Some(after), ..Listing::first(LATE_AT_MOST) };
            let page = timeout(STORE_WITHIN, store.overview(&listing)).await.unwrap_or_else(|_| {
                let source = Arc::from(Box::from("it takes too long"));
                Err(StoreError::Database { doing: "read", place: "the store".to_owned(), source })
            })?;
            let last = page.last().cloned();
            // What a store says twice must not keep us here.
            let is_whole = page.len() == LATE_AT_MOST;
            for kept in page {
                let Some(at) = kept.last_check.map(|check| check.at).filter(|_| heard(&kept.id)) else {
                    continue;
                };
                found.push((kept.id, at));
                if !is_late(at, self.settings.interval, now) {
                    return Ok(found);
                }
                if found.len() > LATE_AT_MOST {
                    found.extend(self.latest_check().await);
                    return Ok(found);
                }
            }
            match last.filter(|_| is_whole) {
                Some(last) => after = last,
                None => break,
            }
        }
        Ok(found)
    }

    /// The latest check of all that is remembered.
    async fn latest_check(&self) -> Option<(InstallationId, Timestamp)> {
        let query = CheckQuery { id: None, before: None, limit: 1 };
        let last = self.records.checks(&query).await.ok()?;
        last.into_iter().next().map(|check| (check.id, check.at))
    }

    /// Whether the last check of what is still kept came in time.
    async fn is_in_time(&self, id: &InstallationId, now: Timestamp) -> bool {
        let last = match self.private_checked().await.filter(|(private, _)| private == id) {
            Some((_, last)) => last,
            None => self.keeper.load(id).await.ok().and_then(|kept| kept.last_check).map(|check| check.at),
        };
        last.is_some_and(|at| !is_late(at, self.settings.interval, now))
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

/// Whether a check after this one is late.
fn is_late(last: Timestamp, interval: Duration, now: Timestamp) -> bool {
    now.since(last + interval) > tolerated_delay(interval)
}

/// The place in the order of checks behind which the first of those that were checked comes: there may
/// be many that never were.
fn behind_those_never_checked() -> Overview {
    let last_of_all = CompanyId::from_str(&"z".repeat(64)).expect("64 letters are an id");
    Listing::place(Order::CheckedAt, None, InstallationId::Company(last_of_all))
}
