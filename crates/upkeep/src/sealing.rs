//! What rests under an old key is sealed anew, a little at a time.
//!
//! Whoever asks for a token must not notice: after each batch there is a pause as long as the batch took.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::upkeep::{Upkeep, is_over_within};

/// So many at a time.
const BATCH: usize = 500;

/// From one look to the next, where nothing was to be done or nothing more can be.
const LOOK_EVERY: Duration = Duration::from_secs(10 * 60);

impl Upkeep {
    pub(crate) async fn keep_sealed(&self, mut stop: watch::Receiver<bool>) {
        let mut left_before = 0;
        loop {
            let began = Instant::now();
            let pause = match self.keeper.store().reseal(BATCH).await {
                Ok(0) => {
                    if left_before > 0 {
                        info!("everything is sealed under the current key");
                    }
                    left_before = 0;
                    LOOK_EVERY
                }
                Ok(left) => {
                    let goes_on = left_before == 0 || left < left_before;
                    if left_before == 0 {
                        info!(left, "sealing anew under the current key");
                    }
                    left_before = left;
                    if goes_on { began.elapsed() } else { LOOK_EVERY }
                }
                Err(error) => {
                    warn!(%error, "not everything can be sealed anew");
                    LOOK_EVERY
                }
            };
            if is_over_within(pause, &mut stop).await {
                return;
            }
        }
    }
}
