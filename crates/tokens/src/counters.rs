//! What a Keeper has done so far, in numbers.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::KeeperError;

/// How a refresh can end, as a metric's label says it.
pub const OUTCOMES: [&str; 7] =
    ["renewed", "unanswered", "suspended", "needs_person", "invalid_client", "store", "other"];

/// Counts refreshes by how they ended; they only ever grow.
#[derive(Debug, Default)]
pub struct Counters {
    by_outcome: [AtomicU64; OUTCOMES.len()],
}

impl Counters {
    /// How often refreshes ended like this one of `OUTCOMES`.
    pub fn ended(&self, outcome: &str) -> u64 {
        let place = OUTCOMES.iter().position(|name| *name == outcome);
        place.map_or(0, |place| self.by_outcome[place].load(Ordering::Relaxed))
    }

    pub(crate) fn count<T>(&self, ended: &Result<T, KeeperError>) {
        let place = match ended {
            Ok(_) => 0,
            Err(KeeperError::Unanswered { .. } | KeeperError::Resting { .. }) => 1,
            Err(KeeperError::Suspended { .. }) => 2,
            Err(KeeperError::NeedsPerson { .. }) => 3,
            Err(KeeperError::InvalidClient { .. }) => 4,
            Err(KeeperError::Store(_) | KeeperError::Spooled(_) | KeeperError::Unsaved(_)) => 5,
            Err(_) => 6,
        };
        self.by_outcome[place].fetch_add(1, Ordering::Relaxed);
    }
}
