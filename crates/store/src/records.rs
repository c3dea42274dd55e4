//! What the service remembers beside tokens, in a SQLite database of its own beside the store.
//!
//! Nothing in it is secret, so it needs no key. It lives on a thread of its own, so that neither a
//! long history nor a slow disk stands in the way of a token.

mod lines;
mod rows;
mod uptime;

pub(crate) use rows::{EPISODES_KEPT, EVENTS_KNOWN_FOR, json, millis, parts};

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use tokens::records::{
    AuditLine, Badge, CheckQuery, Delivery, DeliveryState, Habits, KeyId, KeyRecord, KeyUse, Line,
    Maintenance, QueuedEvent, Session, Verb, Visit,
};
use tokens::{
    Allowed, CheckRecord, Day, Episode, InstallationId, Lane, Notice, Records, Standing, StoreError,
    Timestamp,
};

use crate::disk::{self, failed};
use crate::sqlite::database::{Failure, refuse_other_than};

/// `ghlr`: tells our records from other databases.
const APPLICATION: i64 = 0x6768_6c72;

/// Only ever added to: the place in the list is the schema's version.
const MIGRATIONS: [&str; 7] = [
    include_str!("migrations/records/001_records.sql"),
    include_str!("migrations/records/002_habits.sql"),
    include_str!("migrations/records/003_events.sql"),
    include_str!("migrations/records/004_gateway.sql"),
    include_str!("migrations/records/005_dashboard.sql"),
    include_str!("migrations/records/006_history.sql"),
    include_str!("migrations/records/007_uptime.sql"),
];

const WAIT_FOR_OTHERS: Duration = Duration::from_secs(5);

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// The records of a store.
pub(crate) struct SqliteRecords {
    path: PathBuf,
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

/// What a key may do, and what of it at the gateway, as these are at rest: a list of words, a word, and a
/// line for each pattern. Of a row with a lane or a pattern that this version does not know nothing may
/// pass the gateway: what it forbids is not known.
pub(crate) fn rights(verbs: &str, lane: &str, allowed: &str) -> (BTreeSet<Verb>, Lane, Vec<Allowed>) {
    let mut verbs: BTreeSet<Verb> = verbs.split(' ').filter_map(Verb::from_word).collect();
    let patterns: Result<Vec<Allowed>, _> = allowed.lines().map(str::parse).collect();
    match (Lane::from_word(lane), patterns) {
        (Some(lane), Ok(allowed)) => (verbs, lane, allowed),
        _ => {
            verbs.remove(&Verb::Gateway);
            (verbs, Lane::default(), Vec::new())
        }
    }
}

/// The inverse, for the patterns.
pub(crate) fn lines_of(allowed: &[Allowed]) -> String {
    allowed.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// When a maintenance ends, as it is at rest: of those that don't end by themselves the last instant there is.
pub(crate) fn end_at_rest(until: Option<Timestamp>) -> i64 {
    until.map_or(i64::MAX, Timestamp::as_millis)
}

/// The inverse.
pub(crate) fn end_from_rest(until: Timestamp) -> Option<Timestamp> {
    (until.as_millis() != i64::MAX).then_some(until)
}

/// Where the records of the store at `path` rest.
pub(crate) fn beside(path: &Path) -> PathBuf {
    disk::beside(path, ".records.db")
}

impl SqliteRecords {
    /// Opens the records, or makes them.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        disk::prepare_database(path)?;
        let mut connection = opened(path).map_err(|failure| failure.at("open", path))?;
        let (jobs, queue) = mpsc::channel::<Job>();
        let thread = std::thread::Builder::new()
            .name("records".to_owned())
            .spawn(move || {
                while let Ok(job) = queue.recv() {
                    job(&mut connection);
                }
            })
            .map_err(failed("start a thread for", path))?;
        Ok(Self { path: path.to_owned(), jobs: Some(jobs), thread: Some(thread) })
    }

    /// Does some work in one transaction, on the disk when it is `Ok`.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, rusqlite::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.within(TransactionBehavior::Immediate, "write", work).await
    }

    /// Reads; what it reads is of one moment.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, rusqlite::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.within(TransactionBehavior::Deferred, "read", work).await
    }

    async fn within<T: Send + 'static>(
        &self,
        behavior: TransactionBehavior,
        doing: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, rusqlite::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let job: Job = Box::new(move |connection| {
            let done = (|| {
                let transaction = connection.transaction_with_behavior(behavior)?;
                let done = work(&transaction)?;
                transaction.commit().map(|()| done)
            })();
            // Whoever asked may have gone; the work is done all the same.
            let _ = answer.send(done);
        });
        let gone = || failed("reach the thread of", &self.path)(std::io::ErrorKind::BrokenPipe.into());
        self.jobs.as_ref().and_then(|jobs| jobs.send(job).ok()).ok_or_else(gone)?;
        answered.await.map_err(|_| gone())?.map_err(database(doing, &self.path))
    }
}

impl Drop for SqliteRecords {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn database(doing: &'static str, path: &Path) -> impl Fn(rusqlite::Error) -> StoreError {
    let place = path.display().to_string();
    move |error| StoreError::Database { doing, place: place.clone(), source: Arc::new(error) }
}

fn opened(path: &Path) -> Result<Connection, Failure> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(WAIT_FOR_OTHERS)?;
    let refuse_other =
        |connection: &Connection| refuse_other_than(APPLICATION, MIGRATIONS.len(), connection, path);
    refuse_other(&connection)?;
    let version = |connection: &Connection| -> Result<i64, rusqlite::Error> {
        connection.pragma_query_value(None, "user_version", |row| row.get(0))
    };
    let latest = MIGRATIONS.len() as i64;
    if version(&connection)? < latest {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Someone else may have been faster while we waited.
        refuse_other(&transaction)?;
        let applied = usize::try_from(version(&transaction)?).unwrap_or_default();
        for migration in MIGRATIONS.iter().skip(applied) {
            transaction.execute_batch(migration)?;
        }
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", latest)?;
        transaction.commit()?;
    }
    // Those who begin at once may be in each other's way for a moment; the next start turns it on.
    let _ = connection.pragma_update(None, "journal_mode", "WAL");
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "trusted_schema", false)?;
    Ok(connection)
}

#[async_trait]
impl Records for SqliteRecords {
    async fn add_key(&self, key: &KeyRecord) -> Result<(), StoreError> {
        let key = key.clone();
        self.write(move |rows| rows::add_key(rows, &key)).await
    }

    async fn keys(&self, unless: Option<u64>) -> Result<Option<(Vec<KeyRecord>, u64)>, StoreError> {
        self.read(move |rows| rows::keys(rows, unless)).await
    }

    async fn revoke_key(&self, id: &KeyId, now: Timestamp) -> Result<bool, StoreError> {
        let id = id.clone();
        self.write(move |rows| rows::revoke_key(rows, &id, now)).await
    }

    async fn note_uses(&self, uses: &[(KeyId, KeyUse)]) -> Result<(), StoreError> {
        let uses = uses.to_vec();
        self.write(move |rows| rows::note_uses(rows, &uses)).await
    }

    async fn audit(&self, lines: &[AuditLine]) -> Result<(), StoreError> {
        let lines = lines.to_vec();
        self.write(move |rows| rows::audit(rows, &lines)).await
    }

    async fn audited(&self, limit: usize) -> Result<Vec<AuditLine>, StoreError> {
        self.read(move |rows| rows::audited(rows, limit)).await
    }

    async fn habits(&self, since: Timestamp) -> Result<Vec<Habits>, StoreError> {
        self.read(move |rows| rows::habits(rows, since)).await
    }

    async fn add_check(&self, check: &CheckRecord) -> Result<(), StoreError> {
        let check = check.clone();
        self.write(move |rows| rows::add_check(rows, &check)).await
    }

    async fn checks(&self, query: &CheckQuery) -> Result<Vec<CheckRecord>, StoreError> {
        let query = query.clone();
        self.read(move |rows| rows::checks(rows, &query)).await
    }

    async fn days(&self, id: Option<&InstallationId>, since: i64) -> Result<Vec<Day>, StoreError> {
        let id = id.cloned();
        self.read(move |rows| uptime::days(rows, id.as_ref(), since)).await
    }

    async fn days_of(
        &self,
        ids: &[InstallationId],
        since: i64,
    ) -> Result<BTreeMap<InstallationId, Vec<Day>>, StoreError> {
        let ids = ids.to_vec();
        self.read(move |rows| uptime::days_of(rows, &ids, since)).await
    }

    async fn add_badge(&self, badge: &Badge) -> Result<(), StoreError> {
        let badge = badge.clone();
        self.write(move |rows| uptime::add_badge(rows, &badge)).await
    }

    async fn badges(&self) -> Result<Vec<Badge>, StoreError> {
        self.read(uptime::badges).await
    }

    async fn revoke_badge(&self, name: &str) -> Result<bool, StoreError> {
        let name = name.to_owned();
        self.write(move |rows| uptime::revoke_badge(rows, &name)).await
    }

    async fn note_episode(&self, episode: &Episode) -> Result<(), StoreError> {
        let episode = episode.clone();
        self.write(move |rows| rows::note_episode(rows, &episode)).await
    }

    async fn history(&self, id: &InstallationId, limit: usize) -> Result<Vec<Episode>, StoreError> {
        let id = id.clone();
        self.read(move |rows| rows::history(rows, &id, limit)).await
    }

    async fn standings(&self) -> Result<Vec<Standing>, StoreError> {
        self.read(rows::standings).await
    }

    async fn tell(
        &self,
        standing: &Standing,
        notice: Option<&Notice>,
        ways: &[String],
    ) -> Result<bool, StoreError> {
        let (standing, notice, ways) = (standing.clone(), notice.cloned(), ways.to_vec());
        self.write(move |rows| rows::tell(rows, &standing, notice.as_ref(), &ways)).await
    }

    async fn claim_deliveries(
        &self,
        now: Timestamp,
        lease_until: Timestamp,
        limit: usize,
    ) -> Result<Vec<Delivery>, StoreError> {
        self.write(move |rows| rows::claim_deliveries(rows, now, lease_until, limit)).await
    }

    async fn delivered(&self, delivery: &Delivery, now: Timestamp) -> Result<(), StoreError> {
        let delivery = delivery.clone();
        self.write(move |rows| rows::delivered(rows, &delivery, now)).await
    }

    async fn put_off(&self, delivery: &Delivery, until: Timestamp, said: &str) -> Result<(), StoreError> {
        let (delivery, said) = (delivery.clone(), said.to_owned());
        self.write(move |rows| rows::put_off(rows, &delivery, until, &said)).await
    }

    async fn notices(&self, limit: usize) -> Result<Vec<(Notice, Vec<DeliveryState>)>, StoreError> {
        self.read(move |rows| rows::notices(rows, limit)).await
    }

    async fn plan_maintenance(&self, window: &Maintenance) -> Result<(), StoreError> {
        let window = window.clone();
        self.write(move |rows| rows::plan_maintenance(rows, &window)).await
    }

    async fn end_maintenance(&self, id: &str, now: Timestamp) -> Result<bool, StoreError> {
        let id = id.to_owned();
        self.write(move |rows| rows::end_maintenance(rows, &id, now)).await
    }

    async fn maintenances(&self, now: Timestamp) -> Result<Vec<Maintenance>, StoreError> {
        self.read(move |rows| rows::maintenances(rows, now)).await
    }

    async fn open_visit(&self, visit: &Visit) -> Result<(), StoreError> {
        let visit = visit.clone();
        self.write(move |rows| rows::open_visit(rows, &visit)).await
    }

    async fn take_visit(&self, state: &[u8; 32], now: Timestamp) -> Result<Option<Visit>, StoreError> {
        let state = *state;
        self.write(move |rows| rows::take_visit(rows, state, now)).await
    }

    async fn open_session(&self, session: &Session) -> Result<(), StoreError> {
        let session = session.clone();
        self.write(move |rows| rows::open_session(rows, &session)).await
    }

    async fn session(&self, cookie: &[u8; 32]) -> Result<Option<Session>, StoreError> {
        let cookie = *cookie;
        self.read(move |rows| rows::session(rows, cookie)).await
    }

    async fn use_session(&self, cookie: &[u8; 32], now: Timestamp) -> Result<(), StoreError> {
        let cookie = *cookie;
        self.write(move |rows| rows::use_session(rows, cookie, now)).await
    }

    async fn end_sessions(&self, cookie: Option<&[u8; 32]>) -> Result<(), StoreError> {
        let cookie = cookie.copied();
        self.write(move |rows| rows::end_sessions(rows, cookie)).await
    }

    async fn troubled(&self, limit: usize) -> Result<Vec<Standing>, StoreError> {
        self.read(move |rows| rows::troubled(rows, limit)).await
    }

    async fn queue_event(&self, event: &QueuedEvent) -> Result<bool, StoreError> {
        let event = event.clone();
        self.write(move |rows| rows::queue_event(rows, &event)).await
    }

    async fn claim_events(
        &self,
        now: Timestamp,
        lease_until: Timestamp,
        limit: usize,
    ) -> Result<Vec<QueuedEvent>, StoreError> {
        // Every second there is nothing, and no lock is needed to see that.
        if !self.read(move |rows| rows::is_an_event_due(rows, now)).await? {
            return Ok(Vec::new());
        }
        self.write(move |rows| rows::claim_events(rows, now, lease_until, limit)).await
    }

    async fn event_done(&self, id: &str, now: Timestamp, outcome: &str) -> Result<(), StoreError> {
        let (id, outcome) = (id.to_owned(), outcome.to_owned());
        self.write(move |rows| rows::event_done(rows, &id, now, &outcome)).await
    }

    async fn put_off_event(&self, id: &str, until: Timestamp, said: &str) -> Result<(), StoreError> {
        let (id, said) = (id.to_owned(), said.to_owned());
        self.write(move |rows| rows::put_off_event(rows, &id, until, &said)).await
    }

    async fn take_turn(&self, name: &str, now: Timestamp, until: Timestamp) -> Result<bool, StoreError> {
        let name = name.to_owned();
        self.write(move |rows| rows::take_turn(rows, &name, now, until)).await
    }

    async fn lines(&self, after: Option<&Line>, limit: usize) -> Result<Vec<Line>, StoreError> {
        let after = after.cloned();
        self.read(move |rows| lines::lines(rows, after.as_ref(), limit)).await
    }

    async fn take_lines(&self, lines: &[Line]) -> Result<(), StoreError> {
        let lines = lines.to_vec();
        self.write(move |rows| lines::take(rows, &lines)).await
    }

    async fn forget(&self, before: Timestamp, audit_before: Timestamp) -> Result<(), StoreError> {
        self.write(move |rows| rows::forget(rows, before, audit_before)).await
    }
}
