//! How many installations lack scopes that the app wants, for whoever scrapes it.
//!
//! Each look costs the same, however many are kept: a page of them, then a pause. The number is that
//! of the last time the end was reached; until then there is none.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokens::store::Listing;
use tokens::{Drift, Overview, StoreError};
use tokio::sync::watch;
use tracing::warn;

use crate::upkeep::{Upkeep, is_over_within};

/// So many installations are looked at in one go: some milliseconds of work.
const PAGE: usize = 1000;

/// From one page to the next: a million installations take 17 minutes.
const PAGE_EVERY: Duration = Duration::from_secs(1);

/// From the end of the list to its beginning.
const REST: Duration = Duration::from_secs(60);

const UNKNOWN: i64 = -1;

/// The number that was found last.
#[derive(Debug)]
pub(crate) struct Lacking(AtomicI64);

impl Default for Lacking {
    fn default() -> Self {
        Self(AtomicI64::new(UNKNOWN))
    }
}

impl Lacking {
    fn found(&self) -> Option<i64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|found| *found != UNKNOWN)
    }

    /// Puts the number into a registry, once there is one.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let Some(found) = self.found() else { return };
        let gauge = Gauge::<i64>::default();
        gauge.set(found);
        let help = "Installations without all the scopes that GHL_SCOPES asks for: a person has to reinstall";
        registry.register("installations_lacking_scopes", help, gauge);
    }
}

/// A way through the list.
#[derive(Debug, Default)]
struct Walk {
    lacking: i64,
    /// The last one that was looked at.
    at: Option<Overview>,
}

impl Upkeep {
    pub(crate) async fn keep_counting_scopes(&self, mut stop: watch::Receiver<bool>) {
        if self.settings.scopes.is_none() {
            return;
        }
        let mut walk = Walk::default();
        loop {
            let pause = match self.walk_on(&mut walk).await {
                Ok(true) => PAGE_EVERY,
                Ok(false) => REST,
                Err(error) => {
                    warn!(%error, "the scopes of the installations can't be read; they are looked at later");
                    REST
                }
            };
            if is_over_within(pause, &mut stop).await {
                return;
            }
        }
    }

    /// Counts, from the beginning to the end, who lacks scopes.
    pub async fn count_scopes(&self) -> Result<(), StoreError> {
        let mut walk = Walk::default();
        while self.walk_on(&mut walk).await? {}
        Ok(())
    }

    /// How many there were the last time, once all were looked at.
    pub fn lacking_scopes(&self) -> Option<i64> {
        self.lacking.found()
    }

    /// Looks at the next page. Whether there is another one behind it.
    async fn walk_on(&self, walk: &mut Walk) -> Result<bool, StoreError> {
        let listing = Listing { after: walk.at.take(), ..Listing::first(PAGE) };
        let page = match self.keeper.store().overview(&listing).await {
            Ok(page) => page,
            Err(error) => {
                *walk = Walk { at: listing.after, ..*walk };
                return Err(error);
            }
        };
        let wanted = self.settings.scopes.as_deref().unwrap_or_default();
        let lacks = |it: &&Overview| !Drift::of(&it.id, &it.scopes, wanted).missing.is_empty();
        walk.lacking += i64::try_from(page.iter().filter(lacks).count()).unwrap_or(i64::MAX);
        if page.len() == PAGE {
            walk.at = page.into_iter().next_back();
            return Ok(true);
        }
        self.lacking.0.store(walk.lacking, Ordering::Relaxed);
        *walk = Walk::default();
        Ok(false)
    }
}
