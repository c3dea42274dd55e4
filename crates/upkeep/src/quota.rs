//! A day's calls that will be used up before they are renewed: told once a day for each location or company.

use std::time::Duration;

use tokens::{InstallationId, Notice, NoticeKind, Standing, Subject};
use tracing::warn;

use crate::upkeep::Upkeep;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What it is called in a notice's `code`.
const QUOTA: &str = "daily_quota";

impl Upkeep {
    /// Tells that of an installation's `limit` calls a day only `remaining` are left, which last for
    /// `spent_in` as they go now.
    pub async fn tell_quota(&self, id: &InstallationId, remaining: u64, limit: u64, spent_in: Duration) {
        let now = self.clock.now();
        let turn = format!("{QUOTA} {id}");
        if !matches!(self.records.take_turn(&turn, now, now + DAY).await, Ok(true)) {
            return;
        }
        warn!(%id, remaining, limit, "the day's calls will be used up before they are renewed");
        let arguments = [
            ("remaining", remaining.to_string()),
            ("limit", limit.to_string()),
            ("at", self.speech.moment(now + spent_in)),
        ];
        let said = self.speech.say("daily-quota", &arguments);
        let action = self.speech.say("daily-quota.action", &[]);
        let said = format!("{said} {action}");
        let notice = |standing: &Standing| Notice {
            since: now,
            code: Some(QUOTA.to_owned()),
            said: Some(said.clone()),
            ..self.notice(standing, NoticeKind::Quota, now)
        };
        self.tell_beside(&Subject::Installation(id.clone()), now, notice).await;
    }
}
