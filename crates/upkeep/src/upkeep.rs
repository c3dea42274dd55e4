//! The rounds: save what was left in the air, refresh what is due, check what is due.
//!
//! What is due is read from the store each time, never remembered: the first round, the one after a
//! restart and another process's are the same. Where two processes make rounds over one store, each
//! check is made by one of them.

use std::collections::HashSet;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use highlevel::Client;
use prometheus_client::registry::Registry;
use tokens::store::{Due, Mark};
use tokens::{
    AccessToken, AlertRules, CheckRecord, Clock, ContactId, Episode, InstallationId, Keeper, KeeperError,
    LastCheck, Records, StepRecord, Timestamp, Trigger, next_check_at,
};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tracing::{Instrument as _, info, warn};

use crate::check::{Access, Check, Event, Report, Target};
use crate::drift::Lacking;
use crate::notify::{Heartbeat, Way};
use crate::speech::Speech;
use crate::tally::Tally;

/// From one round to the next: what another process changed is seen within this time.
const ROUND_EVERY: Duration = Duration::from_secs(5);

/// From one look for flights that broke off to the next: HighLevel repeats an answer for 30 seconds.
const ORPHANS_EVERY: Duration = Duration::from_secs(2);

/// The same while one is in the air: what broke off is taken up when its lease ends, not a look later.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// From one look for late checks and odd uses of keys to the next; what is there is told in a minute.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Rounds that stop coming for this long are dead.
const DEAD_AFTER: Duration = Duration::from_secs(15 * 60);

/// A turn at a check lasts this long, if whoever took it dies.
const TURN: Duration = Duration::from_secs(5 * 60);

/// How many checks are made at once.
const CHECKS_AT_ONCE: usize = 8;

/// How many refreshes are begun at once; the Keeper lets fewer than that into the air.
const REFRESHES_AT_ONCE: usize = 8;

/// How many flights of other processes are looked at.
const MOST_FLIGHTS: usize = 64;

/// So much of what is due is in memory at a time; a round goes on behind it.
const PAGE: usize = 1000;

/// A token has to last until the check after the next, and a while.
const MARGIN: Duration = Duration::from_secs(3600);

/// From one time that what is old is forgotten to the next.
const FORGET_EVERY: Duration = Duration::from_secs(60 * 60);

/// How long checks are remembered.
const KEEP_CHECKS: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// How long it is remembered who took which token.
const KEEP_AUDIT: Duration = Duration::from_secs(400 * 24 * 60 * 60);

/// What the rounds go by.
#[derive(Clone, Debug)]
pub struct Settings {
    /// From one check to the next.
    pub interval: Duration,
    /// The installation that the contact and the tag belong to.
    pub meant: Option<InstallationId>,
    /// The contact that is read and tagged.
    pub contact: Option<ContactId>,
    /// The tag that says that the service is alive.
    pub tag: Option<String>,
    /// The tag for trouble while HighLevel still answers.
    pub failure_tag: Option<String>,
    /// Instead of a kept grant, for `meant`.
    pub private_token: Option<AccessToken>,
    /// The app's id, by which HighLevel lists its locations; none with a Private Integration Token.
    pub app_id: Option<String>,
    /// Who speaks, in notices.
    pub microservice_name: String,
    /// Where a person authorises.
    pub link: Option<String>,
    /// What the app wants, as far as the settings say it.
    pub scopes: Option<String>,
    /// When people are told.
    pub alerts: AlertRules,
    /// How they are told.
    pub ways: Vec<Way>,
    /// What alarms when nothing comes.
    pub heartbeat: Option<Heartbeat>,
}

/// What happens by the clock.
pub struct Upkeep {
    pub(crate) keeper: Keeper,
    pub(crate) records: Arc<dyn Records>,
    pub(crate) client: Client,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) speech: Arc<dyn Speech>,
    pub(crate) settings: Settings,
    pub(crate) tally: Tally,
    /// An event was queued by this process.
    pub(crate) event_came: Notify,
    pub(crate) lacking: Lacking,
    /// When HighLevel may be asked for the next install's token.
    pub(crate) next_install_at: Mutex<Instant>,
    /// When the last round ended, by the monotonic clock, in milliseconds since the start.
    round_ended: AtomicI64,
    began: Instant,
}

impl Upkeep {
    /// Everything that the rounds need.
    pub fn new(
        keeper: Keeper,
        records: Arc<dyn Records>,
        client: Client,
        clock: Arc<dyn Clock>,
        speech: Arc<dyn Speech>,
        settings: Settings,
    ) -> Arc<Self> {
        let heartbeat = settings.heartbeat.as_ref().map(|_| "heartbeat");
        let tally = Tally::of_ways(settings.ways.iter().map(Way::name).chain(heartbeat));
        let (lacking, round_ended, began) = (Lacking::default(), AtomicI64::new(0), Instant::now());
        let (event_came, next_install_at) = (Notify::new(), Mutex::new(began));
        Arc::new(Self {
            keeper,
            records,
            client,
            clock,
            speech,
            settings,
            tally,
            event_came,
            lacking,
            next_install_at,
            round_ended,
            began,
        })
    }

    /// Rounds until `stop` turns true. Nothing is begun then, and what has begun is ended, with its
    /// flights landed. Refreshes don't wait for checks: another process may have left one in the air.
    pub async fn run(self: Arc<Self>, stop: watch::Receiver<bool>) {
        // What was missed while nobody ran shows only until it is made up for.
        self.watch_checks().await;
        tokio::join!(
            self.keep_fresh(stop.clone()),
            self.keep_flying(stop.clone()),
            self.keep_checking(stop.clone()),
            self.keep_forgetting(stop.clone()),
            self.keep_counting_scopes(stop.clone()),
            self.keep_reconciled(stop.clone()),
            self.keep_sealed(stop.clone()),
            self.keep_acting(stop.clone()),
            self.keep_history(stop.clone()),
            self.keep_telling(stop)
        );
    }

    async fn keep_fresh(&self, mut stop: watch::Receiver<bool>) {
        loop {
            self.refresh_what_is_due(&stop).await;
            if is_over_within(ROUND_EVERY, &mut stop).await {
                return;
            }
        }
    }

    /// Takes up what another process has left in the air, in the middle of whatever else there is to do.
    async fn keep_flying(&self, mut stop: watch::Receiver<bool>) {
        let (mut flights, mut seen) = (JoinSet::new(), HashSet::<InstallationId>::new());
        loop {
            let pause = if seen.is_empty() { ORPHANS_EVERY } else { LOOK_AGAIN_AFTER };
            if is_over_within(pause, &mut stop).await {
                break;
            }
            while flights.try_join_next().is_some() {}
            let open = self.open_flights().await;
            // What is in the air for the first time is on its way, most likely: whoever flies needs no
            // help for five seconds, and a lease that nobody renews lasts for three.
            for id in open.iter().filter(|id| seen.contains(*id)) {
                if flights.len() < REFRESHES_AT_ONCE {
                    flights.spawn(refresh_if_due(self.keeper.clone(), id.clone()).in_current_span());
                }
            }
            seen = open;
        }
        flights.join_all().await;
    }

    /// A database may be replaced by one that lags behind without anyone noticing.
    async fn write_back(&self) {
        if self.keeper.store().is_remote()
            && let Err(error) = self.keeper.write_back().await
        {
            warn!(%error, "what was saved of late can't be compared with the database");
        }
    }

    /// For whom a flight is in the air, of whatever process: they come first among those that are due.
    async fn open_flights(&self) -> HashSet<InstallationId> {
        let due = self.keeper.store().refresh_due(self.clock.now(), None, MOST_FLIGHTS).await;
        // The rounds tell of a store that can't be read.
        let due = due.unwrap_or_default().into_iter();
        due.take_while(|due| due.at == Timestamp::from_millis(i64::MIN)).map(|due| due.id).collect()
    }

    async fn keep_checking(self: &Arc<Self>, mut stop: watch::Receiver<bool>) {
        loop {
            self.check_what_is_due(&stop).await;
            if is_over_within(ROUND_EVERY, &mut stop).await {
                return;
            }
        }
    }

    /// Notes what happens to each grant, whoever does it.
    async fn keep_history(&self, mut stop: watch::Receiver<bool>) {
        let mut mark = Mark::default();
        loop {
            // The front of the house tells of a store that does not say what changed.
            if let Ok(changes) = self.keeper.store().changes(mark).await {
                // Before there was a mark, nobody knows what changed: each check makes up for it.
                let ids = if mark == Mark::default() { Vec::new() } else { changes.ids };
                for id in ids {
                    self.note_episode(&id).await;
                }
                mark = changes.mark;
            }
            if is_over_within(ROUND_EVERY, &mut stop).await {
                return;
            }
        }
    }

    /// Notes how it is with a grant now, if that is not noted yet.
    pub async fn note_episode(&self, id: &InstallationId) {
        let Ok(it) = self.keeper.load(id).await else { return };
        if let Err(error) = self.records.note_episode(&Episode::of(&it.overview())).await {
            warn!(%id, %error, "its history can't be noted");
        }
    }

    async fn keep_forgetting(&self, mut stop: watch::Receiver<bool>) {
        let mut before = (Instant::now(), self.clock.now());
        while !is_over_within(FORGET_EVERY, &mut stop).await {
            let (since, at) = (before.0.elapsed(), before.1);
            let now = self.clock.now();
            before = (Instant::now(), now);
            // By a clock that has just jumped years ahead, all there is would be old.
            let is_steady = now.apart(at + since) < FORGET_EVERY;
            if is_steady && let Err(error) = self.records.forget(now - KEEP_CHECKS, now - KEEP_AUDIT).await {
                warn!(%error, "what is old can't be forgotten");
            }
        }
    }

    /// Delivers what there is to tell, beside the rounds: one that hangs has to be told of.
    async fn keep_telling(self: &Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut looked_at = Instant::now();
        loop {
            self.deliver_due().await;
            if is_over_within(ROUND_EVERY, &mut stop).await {
                return;
            }
            if looked_at.elapsed() >= LOOK_EVERY {
                looked_at = Instant::now();
                self.write_back().await;
                self.watch_checks().await;
                self.tell_what_is_due().await;
                self.watch_keys().await;
            }
        }
    }

    /// One round.
    pub async fn round(self: &Arc<Self>) {
        let (_never, stop) = watch::channel(false);
        self.refresh_what_is_due(&stop).await;
        self.check_what_is_due(&stop).await;
    }

    /// Saves what was left in the air, and refreshes what is due.
    async fn refresh_what_is_due(&self, stop: &watch::Receiver<bool>) {
        if let Err(error) = self.keeper.recover().await {
            warn!(%error, "what was left in the air can't be saved yet");
        }
        // Where another store keeps these grants, each of them would only be refused.
        if !matches!(self.keeper.store().standby().await, Ok(Some(_))) {
            self.refresh_each_due(stop).await;
        }
        self.tally.round();
        self.note_alive();
    }

    async fn refresh_each_due(&self, stop: &watch::Receiver<bool>) {
        let mut flights = JoinSet::new();
        let mut after: Option<Due> = None;
        loop {
            let page = match self.keeper.store().refresh_due(self.clock.now(), after.as_ref(), PAGE).await {
                Ok(page) => page,
                Err(error) => {
                    warn!(%error, "the store can't be read; the next round tries again");
                    break;
                }
            };
            let Some(last) = page.last().cloned() else { break };
            let goes_on = goes_on_behind(&last, after.as_ref());
            self.refresh(page, &mut flights, stop).await;
            self.note_alive();
            if *stop.borrow() || !goes_on {
                break;
            }
            after = Some(last);
        }
        flights.join_all().await;
    }

    fn note_alive(&self) {
        let now = i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.round_ended.store(now, Ordering::Relaxed);
    }

    async fn check_what_is_due(self: &Arc<Self>, stop: &watch::Receiver<bool>) {
        let mut checks = JoinSet::new();
        let now = self.clock.now();
        let paused = self.records.paused(now).await.unwrap_or_default();
        // Of which nobody else's wait or trouble is an obstacle.
        let private = self.private_due(now).await.filter(|id| !paused.contains(id));
        self.check_each(private.into_iter().collect(), now, &mut checks, stop).await;
        let mut after: Option<Due> = None;
        while !*stop.borrow() {
            let now = self.clock.now();
            let store = self.keeper.store();
            let page = match store.check_due(self.settings.interval, now, after.as_ref(), PAGE).await {
                Ok(page) => page,
                Err(error) => {
                    warn!(%error, "the store does not say what is to be checked");
                    break;
                }
            };
            let Some(last) = page.last().cloned() else { break };
            let goes_on = goes_on_behind(&last, after.as_ref());
            let due = page.into_iter().map(|due| due.id).filter(|id| !paused.contains(id)).collect();
            self.check_each(due, now, &mut checks, stop).await;
            if !goes_on {
                break;
            }
            after = Some(last);
        }
        checks.join_all().await;
    }

    /// Who keeps the tokens.
    pub fn keeper(&self) -> &Keeper {
        &self.keeper
    }

    /// Puts what was done so far, and what HighLevel says of its limits, into a registry.
    pub fn register(&self, registry: &mut Registry) {
        self.tally.register(registry);
        self.lacking.register(registry);
        Tally::register_rates(registry, self.client.rate_limits());
    }

    /// Whether the rounds go on.
    pub fn is_alive(&self) -> bool {
        let now = i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX);
        let since = now.saturating_sub(self.round_ended.load(Ordering::Relaxed));
        Duration::from_millis(since.unsigned_abs()) < DEAD_AFTER
    }

    /// Refreshes what is due, as many at once as the Keeper lets into the air: what waits before it has
    /// its tokens in its hand, and would take off after `stop`.
    async fn refresh(&self, due: Vec<Due>, flights: &mut JoinSet<()>, stop: &watch::Receiver<bool>) {
        for Due { id, .. } in due {
            while flights.len() >= REFRESHES_AT_ONCE {
                flights.join_next().await;
            }
            if *stop.borrow() {
                break;
            }
            flights.spawn(refresh_if_due(self.keeper.clone(), id).in_current_span());
        }
    }

    /// Checks what is due, each by one process.
    async fn check_each(
        self: &Arc<Self>,
        due: Vec<InstallationId>,
        now: Timestamp,
        checks: &mut JoinSet<()>,
        stop: &watch::Receiver<bool>,
    ) {
        for id in due {
            while checks.len() >= CHECKS_AT_ONCE {
                checks.join_next().await;
            }
            if *stop.borrow() {
                break;
            }
            let upkeep = self.clone();
            checks.spawn(async move { upkeep.check_in_turn(&id, now).await }.in_current_span());
        }
    }

    /// The installation of a Private Integration Token rests in no store: its history tells when it
    /// is due.
    async fn private_due(&self, now: Timestamp) -> Option<InstallationId> {
        let (id, last) = self.private_checked().await?;
        let due = last.is_none_or(|at| next_check_at(at, self.settings.interval, now) <= now);
        due.then_some(id)
    }

    /// The installation of a Private Integration Token, and when it was last checked.
    pub(crate) async fn private_checked(&self) -> Option<(InstallationId, Option<Timestamp>)> {
        let (Some(id), Some(_)) = (&self.settings.meant, &self.settings.private_token) else { return None };
        let query = tokens::records::CheckQuery { id: Some(id.clone()), before: None, limit: 1 };
        let last = self.records.checks(&query).await.ok()?;
        Some((id.clone(), last.first().map(|check| check.at)))
    }

    async fn check_in_turn(&self, id: &InstallationId, now: Timestamp) {
        match self.records.take_turn(&format!("check {id}"), now, now + TURN).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => return warn!(%id, %error, "no check: its turn can't be taken"),
        }
        let run = self.begin_beat(id).await;
        match self.check(id, Trigger::Clock).await {
            Ok(check) => {
                let (health, trace_id) = (check.health.as_str(), check.trace_id());
                info!(%id, health, code = check.code, trace_id, "checked");
                self.end_beat(run, &check).await;
            }
            Err(error) => warn!(%id, %error, "the check could not be made"),
        }
    }

    /// Checks one installation now, and remembers what it found.
    pub async fn check(&self, id: &InstallationId, trigger: Trigger) -> Result<CheckRecord, KeeperError> {
        let private = self.settings.private_token.as_ref().filter(|_| self.is_meant(id));
        let access = match private {
            Some(token) => Access::Private(token.clone()),
            None => {
                // What is not kept can't be checked.
                self.keeper.load(id).await?;
                let to_last = self.settings.interval + MARGIN;
                Access::Kept { keeper: self.keeper.clone(), id: id.clone(), to_last }
            }
        };
        let kept = private.is_none();
        let began = Instant::now();
        let check = Check {
            client: self.client.clone(),
            access,
            target: self.target(id),
            wait_for_workflow: None,
            clock: self.clock.as_ref(),
        };
        let report = check.run(&mut |event| log(id, event)).await;
        let record = record(id, trigger, began.elapsed(), &report, self.speech.as_ref());
        self.tally.check(&record);
        if kept {
            let CheckRecord { at, health, code, said, .. } = record.clone();
            let noted = self.keeper.store().note_check(id, &LastCheck { at, health, code, said }).await;
            if let Err(error) = noted {
                warn!(%id, %error, "the check can't be noted in the store");
            }
            self.note_episode(id).await;
        }
        if let Err(error) = self.records.add_check(&record).await {
            warn!(%id, %error, "the check can't be remembered");
        }
        self.tell(&record).await;
        Ok(record)
    }

    pub(crate) fn is_meant(&self, id: &InstallationId) -> bool {
        self.settings.meant.as_ref() == Some(id)
    }

    fn target(&self, id: &InstallationId) -> Target {
        match (id, &self.settings.contact) {
            (InstallationId::Location(_), Some(contact)) if self.is_meant(id) => {
                Target::Contact { id: contact.clone(), tag: self.settings.tag.clone() }
            }
            (InstallationId::Location(location), _) => Target::Location(location.clone()),
            (InstallationId::Company(company), _) => Target::Company(company.clone()),
        }
    }
}

async fn refresh_if_due(keeper: Keeper, id: InstallationId) {
    match keeper.refresh_if_due(&id).await {
        Ok(installation) => {
            let generation = installation.version.generation;
            info!(%id, generation, "refreshed before it was needed");
        }
        Err(error) => warn!(%id, %error, "the refresh that was due failed"),
    }
}

/// Whether the next page lies behind this one, as every store promises: a round has to end.
fn goes_on_behind(last: &Due, before: Option<&Due>) -> bool {
    before.is_none_or(|before| (last.at, &last.id) > (before.at, &before.id))
}

/// Whether it is over, once `span` has passed or `stop` has turned true.
pub async fn is_over_within(span: Duration, stop: &mut watch::Receiver<bool>) -> bool {
    timeout(span, stop.wait_for(|stop| *stop)).await.is_ok()
}

/// What stays of a check.
pub fn record(
    id: &InstallationId,
    trigger: Trigger,
    took: Duration,
    report: &Report,
    speech: &dyn Speech,
) -> CheckRecord {
    let (code, said) = said_of(report, speech).unzip();
    let steps = report.steps.iter().map(|step| StepRecord {
        name: step.step.as_str().to_owned(),
        ok: step.ok,
        took: step.took,
        trace_id: step.trace_id.clone(),
    });
    CheckRecord {
        id: id.clone(),
        at: report.at,
        took,
        trigger,
        health: report.health(),
        code,
        said,
        steps: steps.collect(),
    }
}

/// What there is to say of a check that did not go as it should.
fn said_of(report: &Report, speech: &dyn Speech) -> Option<(String, String)> {
    let said = match (&report.error, report.warnings.first()) {
        (Some(error), _) => speech.check_error(error),
        (None, Some(warning)) => speech.warning(warning),
        (None, None) => return None,
    };
    // What to do belongs to it, for whoever reads it from afar.
    let whole = format!("{} {}", said.detail, said.action);
    Some((said.code.to_owned(), whole.trim_end().to_owned()))
}

/// What is worth a line in the log beside a check's outcome.
fn log(id: &InstallationId, event: &Event<'_>) {
    match event {
        Event::Refreshed => info!(%id, "refreshed for the check"),
        Event::TryingAgain(failure) => info!(%id, %failure, "a call of the check is tried again"),
        Event::TagAdded { tag, .. } => info!(%id, tag, "the tag is on the contact"),
        _ => {}
    }
}
