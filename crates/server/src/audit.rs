//! Who took which token.
//!
//! Counted for each key, installation and minute and written each second, or one line written
//! before each token leaves.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use tokens::records::{AuditLine, KeyId};
use tokens::{InstallationId, Records, StoreError, Timestamp};

use crate::auth::{Caller, KnownKey, held};
use crate::copies::Copy;
use crate::house::Audit;

const MINUTE: i64 = 60_000;

/// What was handed out since it was last written down.
#[derive(Default)]
pub(crate) struct AuditBook {
    counts: Mutex<HashMap<(usize, usize), Count, foldhash::fast::RandomState>>,
    /// What could not be written yet, by what makes one line.
    unwritten: Mutex<BTreeMap<Line, u64>>,
}

/// A minute, a key, and which set of whose tokens.
type Line = (Timestamp, KeyId, InstallationId, u64);

struct Count {
    key: Arc<KnownKey>,
    copy: Arc<Copy>,
    minute: Timestamp,
    count: u64,
}

impl AuditBook {
    /// Writes down that a token is about to leave; where each one has a line, only when it is on the
    /// disk. An error means that the token stays.
    pub(crate) async fn note(
        &self,
        how: Audit,
        records: &dyn Records,
        caller: &Caller,
        copy: &Arc<Copy>,
        request_id: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        match how {
            Audit::Counted => {
                self.count(caller, copy, now);
                Ok(())
            }
            Audit::Each => {
                let line = AuditLine {
                    at: now,
                    key: caller.key.record.id.clone(),
                    id: copy.id().clone(),
                    generation: copy.generation(),
                    count: 1,
                    request_id: Some(request_id.to_owned()),
                };
                records.audit(&[line]).await
            }
        }
    }

    /// Counts one more.
    pub(crate) fn count(&self, caller: &Caller, copy: &Arc<Copy>, now: Timestamp) {
        // While they are counted they are held, so that no other can take their addresses.
        let place = (Arc::as_ptr(&caller.key).addr(), Arc::as_ptr(copy).addr());
        let mut counts = held(&self.counts);
        let count = counts.entry(place).or_insert_with(|| Count {
            key: caller.key.clone(),
            copy: copy.clone(),
            minute: Timestamp::from_millis(now.as_millis() / MINUTE * MINUTE),
            count: 0,
        });
        count.count += 1;
    }

    /// Writes down what was counted. What can't be written is counted on.
    pub(crate) async fn flush(&self, records: &dyn Records) -> Result<(), StoreError> {
        let counted = std::mem::take(&mut *held(&self.counts));
        let mut lines = std::mem::take(&mut *held(&self.unwritten));
        for count in counted.values() {
            *lines.entry(count.line()).or_default() += count.count;
        }
        if lines.is_empty() {
            return Ok(());
        }
        let written = lines.iter().map(|((at, key, id, generation), count)| AuditLine {
            at: *at,
            key: key.clone(),
            id: id.clone(),
            generation: *generation,
            count: *count,
            request_id: None,
        });
        let written = records.audit(&written.collect::<Vec<_>>()).await;
        if written.is_err() {
            *held(&self.unwritten) = lines;
        }
        written
    }
}

impl Count {
    fn line(&self) -> Line {
        (self.minute, self.key.record.id.clone(), self.copy.id().clone(), self.copy.generation())
    }
}
