//! Keys that are used as they never were before: told once for each key, kind and day.

use std::time::Duration;

use tokens::records::Habits;
use tokens::{Anomaly, Notice, NoticeKind, OF_LATE, Standing, Subject, Timestamp};
use tracing::warn;

use crate::upkeep::Upkeep;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Upkeep {
    /// Looks at what keys did of late, and puts what is unusual into the outbox.
    pub async fn watch_keys(&self) {
        let now = self.clock.now();
        let habits = match self.records.habits(now - OF_LATE).await {
            Ok(habits) => habits,
            Err(error) => return warn!(%error, "nobody can look at what keys do"),
        };
        for of_key in habits {
            for anomaly in of_key.anomalies() {
                let turn = format!("{} {}", anomaly.as_str(), of_key.key);
                if matches!(self.records.take_turn(&turn, now, now + DAY).await, Ok(true)) {
                    self.tell_anomaly(&of_key, &anomaly, now).await;
                }
            }
        }
    }

    async fn tell_anomaly(&self, of_key: &Habits, anomaly: &Anomaly, now: Timestamp) {
        let kind = anomaly.as_str();
        self.tally.anomaly(kind);
        warn!(key = %of_key.key, name = of_key.name, kind, "a key is used as it never was before");
        let key = ("key", of_key.name.clone());
        let said = match anomaly {
            Anomaly::ManyReads(count) => {
                self.speech.say("key-many-reads", &[key, ("count", count.to_string())])
            }
            Anomaly::NewSource(source) => {
                self.speech.say("key-new-source", &[key, ("source", source.clone())])
            }
        };
        let action = self.speech.say("key-anomaly.action", &[]);
        let said = format!("{said} {action}");
        let notice = |standing: &Standing| Notice {
            since: now,
            code: Some(kind.to_owned()),
            said: Some(said.clone()),
            ..self.notice(standing, NoticeKind::Anomaly, now)
        };
        self.tell_beside(&Subject::Service, now, notice).await;
    }
}
