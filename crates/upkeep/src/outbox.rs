//! What a check found becomes a standing, and a change of it a notice on its way.

use std::sync::Arc;
use std::time::Duration;

use highlevel::Api;
use tokens::records::{Delivery, LONGEST_WAIT, Maintenance};
use tokens::{
    CheckRecord, Finding, Health, InstallationId, KeeperError, Notice, NoticeKind, Standing, Subject,
    Timestamp,
};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{Instrument as _, error, warn};

use crate::notify::{Beat, NotDelivered, Way, Words};
use crate::upkeep::Upkeep;

/// What refuses our client id or secret is the service's matter: one notice, not one for each.
const OF_THE_SERVICE: &str = "invalid_client";

/// A delivery is ours alone for this long.
const LEASE: Duration = Duration::from_secs(2 * 60);
/// It ends before the lease does.
const DELIVER_WITHIN: Duration = Duration::from_secs(90);
const AT_ONCE: usize = 20;

/// What did not arrive for so long, and was tried so often, never will: the clock alone may be wrong.
const GIVE_UP_AFTER: Duration = Duration::from_secs(3 * 24 * 3600);
const TRIES: u32 = 48;

/// The way by the second tag, which goes through HighLevel itself.
const TAG: &str = "tag";

impl Upkeep {
    /// Notes how the installation stands, and puts what there is to tell into the outbox.
    pub(crate) async fn tell(&self, check: &CheckRecord) {
        let found = |health, check: &CheckRecord| Finding {
            health,
            code: check.code.clone(),
            said: check.said.clone(),
        };
        let well = Finding { health: Health::Operational, code: None, said: None };
        if check.code.as_deref() == Some(OF_THE_SERVICE) {
            return self.note(Subject::Service, &found(Health::Down, check)).await;
        }
        if check.health == Health::Operational {
            self.note(Subject::Service, &well).await;
        }
        self.note(Subject::Installation(check.id.clone()), &found(check.health, check)).await;
    }

    /// Tells the operator that a grant waits for approval.
    pub async fn tell_parked(&self, id: &InstallationId) {
        let now = self.clock.now();
        let subject = Subject::Installation(id.clone());
        self.tell_beside(&subject, now, |standing| self.notice(standing, NoticeKind::Parked, now)).await;
    }

    /// Tells of something about a subject that does not change how it stands.
    pub(crate) async fn tell_beside(
        &self,
        subject: &Subject,
        now: Timestamp,
        notice: impl Fn(&Standing) -> Notice,
    ) {
        // Another process may be noting something about it, too.
        for _ in 0..5 {
            let Some(standing) = self.standing(subject, now).await else { return };
            let next = Standing { revision: standing.revision + 1, ..standing };
            if self.put_out(&next, Some(&notice(&next))).await {
                return;
            }
        }
        error!(?subject, "nobody could be told: another process was always faster");
    }

    pub(crate) async fn note(&self, subject: Subject, finding: &Finding) {
        let now = self.clock.now();
        // Another process may be noting the same; then what it noted is where we go on from.
        for _ in 0..5 {
            let Some(standing) = self.standing(&subject, now).await else { return };
            if standing.revision == 0 && finding.health == Health::Operational {
                return;
            }
            let silenced = is_silenced(&self.maintenances(now).await, &subject);
            let (next, kind) = standing.after(finding, now, self.settings.alerts, silenced);
            let notice = kind.map(|kind| self.notice(&next, kind, now));
            if self.put_out(&next, notice.as_ref()).await {
                return;
            }
        }
    }

    /// Tells what has become worth telling without a new check: what is still wrong after a maintenance
    /// or a quarter of an hour of silence, that something has settled, and reminders.
    pub async fn tell_what_is_due(&self) {
        let now = self.clock.now();
        let Ok(standings) = self.records.standings().await else { return };
        let windows = self.maintenances(now).await;
        for standing in standings {
            if matches!(standing.subject, Subject::Checks(_)) {
                continue;
            }
            let silenced = is_silenced(&windows, &standing.subject);
            if let Some((next, kind)) = standing.later(now, self.settings.alerts, silenced)
                && self.is_here(&standing.subject).await
            {
                let notice = self.notice(&next, kind, now);
                // Where another process was faster, it has told it.
                self.put_out(&next, Some(&notice)).await;
            }
        }
    }

    /// Whether it is still there. Of what was removed, nobody is reminded.
    async fn is_here(&self, subject: &Subject) -> bool {
        let Subject::Installation(id) = subject else { return true };
        // A Private Integration Token's rests in no store.
        let is_private = self.settings.private_token.is_some() && self.is_meant(id);
        is_private || !matches!(self.keeper.load(id).await, Err(KeeperError::NotConnected(_)))
    }

    pub(crate) async fn standing(&self, subject: &Subject, now: Timestamp) -> Option<Standing> {
        match self.records.standings().await {
            Ok(all) => {
                let known = all.into_iter().find(|standing| standing.subject == *subject);
                Some(known.unwrap_or_else(|| Standing::new(subject.clone(), now)))
            }
            Err(error) => {
                error!(%error, "nobody can be told: the records can't be read");
                None
            }
        }
    }

    /// The maintenances that go on.
    pub(crate) async fn maintenances(&self, now: Timestamp) -> Vec<Maintenance> {
        let mut windows = self.records.maintenances(now).await.unwrap_or_default();
        windows.retain(|window| window.from <= now);
        windows
    }

    pub(crate) fn notice(&self, standing: &Standing, kind: NoticeKind, now: Timestamp) -> Notice {
        let subject = match &standing.subject {
            Subject::Service => "service".to_owned(),
            Subject::Installation(id) => format!("{}-{}", id.kind(), id.as_str()),
            Subject::Checks(None) => "checks".to_owned(),
            Subject::Checks(Some(id)) => format!("checks-{}-{}", id.kind(), id.as_str()),
        };
        Notice {
            id: format!("{subject}-{}-{}", standing.revision, now.as_millis()),
            at: now,
            subject: standing.subject.clone(),
            kind,
            health: standing.health,
            since: standing.since,
            code: standing.code.clone(),
            said: standing.said.clone(),
        }
    }

    /// Whether nobody else was faster.
    pub(crate) async fn put_out(&self, standing: &Standing, notice: Option<&Notice>) -> bool {
        let mut ways: Vec<String> = self.settings.ways.iter().map(|way| way.name().to_owned()).collect();
        if self.can_tag(standing, notice) {
            ways.push(TAG.to_owned());
        }
        if let Some(notice) = notice {
            let (kind, health) = (notice.kind.as_str(), notice.health.as_str());
            warn!(subject = ?notice.subject, kind, health, said = notice.said, "there is something to tell");
        }
        match self.records.tell(standing, notice, &ways).await {
            Ok(first) => first,
            Err(error) => {
                error!(%error, "nobody can be told: the records can't be written");
                true
            }
        }
    }

    /// The second tag tells of trouble with the installation whose contact it is, while HighLevel
    /// still answers.
    fn can_tag(&self, standing: &Standing, notice: Option<&Notice>) -> bool {
        let ours = matches!(&standing.subject, Subject::Installation(id) if self.is_meant(id));
        let trouble = notice.is_some_and(|notice| {
            matches!(notice.kind, NoticeKind::Trouble | NoticeKind::Reminder | NoticeKind::Flapping)
        });
        let answers = matches!(standing.health, Health::Degraded | Health::Down);
        ours && trouble && answers && self.settings.failure_tag.is_some() && self.settings.contact.is_some()
    }

    /// Delivers what is due. What does not arrive is tried again, for three days.
    pub async fn deliver_due(self: &Arc<Self>) {
        let now = self.clock.now();
        let due = match self.records.claim_deliveries(now, now + LEASE, AT_ONCE).await {
            Ok(due) => due,
            Err(error) => return warn!(%error, "the outbox can't be read"),
        };
        // All at once, so that none outlives its lease behind others that nobody takes.
        let mut delivering = JoinSet::new();
        for delivery in due {
            let upkeep = self.clone();
            delivering.spawn(async move { upkeep.deliver_and_note(&delivery).await }.in_current_span());
        }
        delivering.join_all().await;
    }

    async fn deliver_and_note(&self, delivery: &Delivery) {
        let delivered = timeout(DELIVER_WITHIN, self.deliver(delivery))
            .await
            .unwrap_or_else(|_| Err(NotDelivered { said: "it took too long".to_owned(), retry_after: None }));
        let now = self.clock.now();
        self.tally.notice(&delivery.way, delivered.is_ok());
        let noted = match delivered {
            Ok(()) => self.records.delivered(delivery, now).await,
            Err(why) if delivery.attempts >= TRIES && now.since(delivery.notice.at) > GIVE_UP_AFTER => {
                error!(way = delivery.way, notice = delivery.notice.id, %why, "a notice never arrived");
                self.records.delivered(delivery, now).await
            }
            Err(why) => {
                warn!(way = delivery.way, notice = delivery.notice.id, %why, "a notice did not arrive yet");
                let wait = why.retry_after.unwrap_or_else(|| wait_after(delivery.attempts));
                self.records.put_off(delivery, now + wait.min(LONGEST_WAIT), &why.said).await
            }
        };
        if let Err(error) = noted {
            warn!(%error, "a delivery can't be noted; it may come twice, under the same id");
        }
    }

    async fn deliver(&self, delivery: &Delivery) -> Result<(), NotDelivered> {
        let name = &self.settings.microservice_name;
        if delivery.way == TAG {
            return self.tag_trouble().await;
        }
        let Some(way) = self.settings.ways.iter().find(|way| way.name() == delivery.way) else {
            warn!(way = delivery.way, "a notice is dropped: its way is not configured any more");
            return Ok(());
        };
        let words = Words::of(&delivery.notice, name, self.settings.link.as_deref(), self.speech.as_ref());
        way.deliver(&delivery.notice, &words, name, self.clock.now()).await
    }

    async fn tag_trouble(&self) -> Result<(), NotDelivered> {
        let failed = |said: String| NotDelivered { said, retry_after: None };
        let (Some(id), Some(contact), Some(tag)) =
            (&self.settings.meant, &self.settings.contact, &self.settings.failure_tag)
        else {
            return Ok(());
        };
        let token = match &self.settings.private_token {
            Some(token) => token.clone(),
            None => {
                let served = self.keeper.token(id, Duration::from_secs(60)).await;
                served.map_err(|error| failed(error.to_string()))?.installation.tokens.access
            }
        };
        let api = Api::new(self.client.clone(), token);
        // One that is still on the contact would start no workflow.
        let _ = api.remove_tag(contact, tag).await;
        api.add_tag(contact, tag).await.map(drop).map_err(|failure| failed(failure.to_string()))
    }

    /// Tries each way with a notice that says that it is a test.
    pub async fn test_ways(&self) -> Vec<(&'static str, Result<(), NotDelivered>)> {
        let now = self.clock.now();
        let standing = Standing { revision: 1, ..Standing::new(Subject::Service, now) };
        let notice = self.notice(&standing, NoticeKind::Test, now);
        let name = &self.settings.microservice_name;
        let words = Words::of(&notice, name, None, self.speech.as_ref());
        let mut outcomes = Vec::new();
        for way in &self.settings.ways {
            outcomes.push((Way::name(way), way.deliver(&notice, &words, name, now).await));
        }
        if self.settings.failure_tag.is_some() && self.settings.contact.is_some() {
            outcomes.push((TAG, self.tag_trouble().await));
        }
        if let Some(heartbeat) = &self.settings.heartbeat {
            outcomes.push(("heartbeat", heartbeat.beat(Beat::Success, &run_id(), "").await));
        }
        outcomes
    }

    /// Tells the dead-man's switch that the check of the installation that is meant begins.
    pub(crate) async fn begin_beat(&self, id: &InstallationId) -> Option<String> {
        let heartbeat = self.settings.heartbeat.as_ref()?;
        let mine = self.is_meant(id) || self.settings.meant.is_none();
        let run = mine.then(run_id)?;
        self.note_beat(heartbeat.beat(Beat::Start, &run, "").await);
        Some(run)
    }

    /// Tells it how the check ended.
    pub(crate) async fn end_beat(&self, run: Option<String>, check: &CheckRecord) {
        let (Some(heartbeat), Some(run)) = (&self.settings.heartbeat, run) else { return };
        let beat = match check.health {
            Health::Operational | Health::Degraded => Beat::Success,
            Health::Down | Health::Suspended | Health::NeedsPerson => Beat::Fail,
        };
        self.note_beat(heartbeat.beat(beat, &run, check.said.as_deref().unwrap_or_default()).await);
    }

    fn note_beat(&self, outcome: Result<(), NotDelivered>) {
        self.tally.notice("heartbeat", outcome.is_ok());
        if let Err(why) = outcome {
            warn!(%why, "the dead-man's switch can't be reached");
        }
    }
}

/// Whether nobody is to be told of a subject's trouble.
pub(crate) fn is_silenced(windows: &[Maintenance], subject: &Subject) -> bool {
    windows.iter().any(|window| window.subject.as_ref().is_none_or(|about| silences(about, subject)))
}

/// Whether a maintenance of one subject keeps quiet about the other.
fn silences(about: &Subject, subject: &Subject) -> bool {
    match (about, subject) {
        (Subject::Service, Subject::Checks(None)) => true,
        (Subject::Installation(about), Subject::Checks(Some(id))) => about == id,
        _ => about == subject,
    }
}

/// A minute, then twice as long each time.
fn wait_after(attempts: u32) -> Duration {
    Duration::from_secs(60 << attempts.min(6)).min(LONGEST_WAIT)
}

/// A random UUID.
fn run_id() -> String {
    let mut bytes = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system has random bytes");
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
