//! What was saved of late.
//!
//! A database that is followed by another one loses its last transactions when that one takes its place,
//! unless each commit waits for both. What was refreshed in them rests nowhere then but in whoever did it:
//! it is written back, and is taken where the database has an older version.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::installation::Installation;

/// A database that lags behind for longer loses more than this can make up for.
const REMEMBERED_FOR: Duration = Duration::from_secs(10 * 60);

/// At most so many: some 20 MB.
const MOST: usize = 2000;

/// Installations as they were saved here within ten minutes.
#[derive(Default)]
pub(crate) struct Recent(Mutex<VecDeque<(Instant, Installation)>>);

impl fmt::Debug for Recent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recent")
    }
}

impl Recent {
    pub(crate) fn note(&self, saved: &Installation) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(at, it)| at.elapsed() < REMEMBERED_FOR && it.id != saved.id);
        if all.len() == MOST {
            all.pop_front();
        }
        all.push_back((Instant::now(), saved.clone()));
    }

    pub(crate) fn all(&self) -> Vec<Installation> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(at, _)| at.elapsed() < REMEMBERED_FOR);
        all.iter().map(|(_, it)| it.clone()).collect()
    }
}
