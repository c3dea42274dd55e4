//! What changed, whoever changed it.
//!
//! Each row says in which transaction it was changed last, and a mark stands for a snapshot: what
//! changed between two marks is what the later one sees and the earlier one did not. Nobody waits for
//! a common counter that way, so those who write at the same time share a flush.
//!
//! For the same reason a `NOTIFY` does not go with each commit: those that do hold a lock of the whole
//! server through their flush, one after the other. One goes out for all changes of a moment, right
//! behind them; whoever misses it asks anyway.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokens::store::{Changes, Mark};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_postgres::AsyncMessage;
use tokio_postgres::types::Type;

use super::pool::{Failure, Pool};
use super::rows::whose;
use crate::data_file::held;

/// Without a word from the database, it is asked so often.
const POLL: Duration = Duration::from_millis(500);

/// Changes that come within this time are told together.
const TOGETHER: Duration = Duration::from_millis(5);

/// So long a listener waits before it tries again.
const TRY_AGAIN: Duration = Duration::from_secs(2);

/// So many marks are remembered; one that is not is answered with more than has changed since.
const MARKS: usize = 256;

/// How far back is looked after a database may have lost its last transactions and given their numbers
/// anew.
const RENUMBERED: i64 = 50_000;

/// Tells what changed, and hears of it.
pub(super) struct Hearing {
    pool: Pool,
    known: Mutex<Known>,
    pending: Arc<AtomicBool>,
    news: watch::Sender<u64>,
    listening: Arc<AtomicBool>,
    listener: OnceLock<JoinHandle<()>>,
}

#[derive(Default)]
struct Known {
    marks: VecDeque<(u64, Snapshot)>,
    count: u64,
}

/// What a mark stands for.
#[derive(Clone, PartialEq)]
struct Snapshot {
    /// In the database's own writing.
    text: String,
    /// The first transaction that was still open then.
    oldest: i64,
    /// The first number that was not given yet.
    next: i64,
    /// When that server began.
    began: String,
}

impl Hearing {
    pub(super) fn of(pool: Pool) -> Self {
        Self {
            pool,
            known: Mutex::default(),
            pending: Arc::default(),
            news: watch::Sender::new(0),
            listening: Arc::default(),
            listener: OnceLock::new(),
        }
    }

    /// Takes note of a change whose transaction has told the others.
    pub(super) fn hear(&self) {
        self.news.send_modify(|count| *count += 1);
    }

    /// Tells everyone that something has changed.
    pub(super) fn tell(&self) {
        self.hear();
        if self.pending.swap(true, Ordering::AcqRel) {
            return;
        }
        let (pool, pending) = (self.pool.clone(), self.pending.clone());
        tokio::spawn(async move {
            tokio::time::sleep(TOGETHER).await;
            pending.store(false, Ordering::Release);
            let sql = "SELECT set_config('synchronous_commit', 'off', true), pg_notify($1, '')";
            if let Err(failure) = pool.query(sql, &[(&pool.schema(), Type::TEXT)]).await {
                tracing::debug!(?failure, "nobody was told of a change; they ask");
            }
        });
    }

    pub(super) async fn changes(&self, since: Mark) -> Result<Changes, Failure> {
        let then =
            held(&self.known).marks.iter().find(|(mark, _)| *mark == since.0).map(|(_, it)| it.clone());
        let now = "SELECT pg_current_snapshot()::text AS now, pg_snapshot_xmin(pg_current_snapshot())::text::bigint,
            pg_snapshot_xmax(pg_current_snapshot())::text::bigint, pg_postmaster_start_time()::text";
        if since == Mark::default() {
            let row = self.pool.query_one(now, &[]).await?;
            return Ok(Changes { ids: Vec::new(), mark: self.remember(snapshot(&row)?) });
        }
        // One statement, so that the rows are of the very snapshot that becomes the mark.
        let sql = self.pool.sql(&format!(
            "WITH now AS MATERIALIZED ({now}),
            changed AS (
                SELECT kind, id, changed FROM @.installations WHERE changed >= $1
                UNION ALL SELECT kind, id, changed FROM @.removed WHERE changed >= $1)
            SELECT now.*, kind, id FROM now LEFT JOIN changed
                ON changed < pg_snapshot_xmax(pg_current_snapshot())::text::bigint
                AND ($2::text IS NULL
                    OR NOT pg_visible_in_snapshot(changed::text::xid8, $2::text::pg_snapshot))"
        ));
        let from = |then: &Snapshot| (then.oldest, Some(then.text.clone()));
        let (oldest, text) = then.as_ref().map_or_else(|| (number_of(since), None), from);
        let values: super::pool::Values<'_> = &[(&oldest, Type::INT8), (&text, Type::TEXT)];
        let mut rows = self.pool.query(&sql, values).await?;
        let mut found = snapshot(&rows[0])?;
        if then.is_none_or(|then| then.began != found.began || then.next > found.next) {
            let from = oldest.min(found.oldest).saturating_sub(RENUMBERED);
            let nothing: Option<String> = None;
            rows = self.pool.query(&sql, &[(&from, Type::INT8), (&nothing, Type::TEXT)]).await?;
            found = snapshot(&rows[0])?;
        }
        let mut ids = Vec::new();
        for row in &rows {
            if row.try_get::<_, Option<&str>>("kind")?.is_some() {
                ids.push(whose(row)?);
            }
        }
        let mark = match ids.is_empty() && then_is_known(&self.known, since) {
            true => since,
            false => self.remember(found),
        };
        Ok(Changes { ids, mark })
    }

    fn remember(&self, snapshot: Snapshot) -> Mark {
        let mut known = held(&self.known);
        if let Some((mark, _)) = known.marks.iter().find(|(_, it)| *it == snapshot) {
            return Mark(*mark);
        }
        known.count += 1;
        let mark = (snapshot.oldest.unsigned_abs() << COUNTED) | (known.count & ((1 << COUNTED) - 1));
        if known.marks.len() == MARKS {
            known.marks.pop_front();
        }
        known.marks.push_back((mark, snapshot));
        Mark(mark)
    }

    pub(super) async fn await_changes(&self, since: Mark, at_most: Duration) -> Result<Changes, Failure> {
        self.listen();
        let ends = tokio::time::Instant::now() + at_most;
        let mut news = self.news.subscribe();
        loop {
            news.mark_unchanged();
            let changes = self.changes(since).await?;
            let left = ends.saturating_duration_since(tokio::time::Instant::now());
            if !changes.ids.is_empty() || since == Mark::default() || left.is_zero() {
                return Ok(changes);
            }
            let patience = match self.listening.load(Ordering::Acquire) {
                true => left,
                false => left.min(POLL),
            };
            let _ = tokio::time::timeout(patience, news.changed()).await;
        }
    }

    /// Listens from now on, on a connection of its own.
    fn listen(&self) {
        self.listener.get_or_init(|| {
            let (pool, news, listening) = (self.pool.clone(), self.news.clone(), self.listening.clone());
            tokio::spawn(async move {
                loop {
                    let heard = listen(&pool, &news, &listening).await;
                    listening.store(false, Ordering::Release);
                    // What was missed meanwhile.
                    news.send_modify(|count| *count += 1);
                    tracing::debug!(?heard, "the database is asked for what changed, for now");
                    tokio::time::sleep(TRY_AGAIN).await;
                }
            })
        });
    }
}

impl Drop for Hearing {
    fn drop(&mut self) {
        if let Some(listener) = self.listener.get() {
            listener.abort();
        }
    }
}

/// So many bits of a mark only tell those of the same oldest transaction apart.
const COUNTED: u32 = 14;

fn number_of(mark: Mark) -> i64 {
    i64::try_from(mark.0 >> COUNTED).unwrap_or_default()
}

fn then_is_known(known: &Mutex<Known>, since: Mark) -> bool {
    held(known).marks.iter().any(|(mark, _)| *mark == since.0)
}

fn snapshot(row: &tokio_postgres::Row) -> Result<Snapshot, Failure> {
    Ok(Snapshot {
        text: row.try_get(0)?,
        oldest: row.try_get(1)?,
        next: row.try_get(2)?,
        began: row.try_get(3)?,
    })
}

/// Hears until the connection is lost. Behind a pooler nothing may be heard, so that is tried first.
async fn listen(pool: &Pool, news: &watch::Sender<u64>, listening: &AtomicBool) -> Result<(), Failure> {
    let heard = Arc::new(tokio::sync::Notify::new());
    let (told, came) = (news.clone(), heard.clone());
    let client = pool
        .apart(move |message| {
            if let AsyncMessage::Notification(_) = message {
                told.send_modify(|count| *count += 1);
                came.notify_one();
            }
        })
        .await?;
    client.batch_execute(&format!("LISTEN {}", pool.schema())).await?;
    // Asked of the pool, as a change of another process would come.
    pool.query("SELECT pg_notify($1, '')", &[(&pool.schema(), Type::TEXT)]).await?;
    if tokio::time::timeout(TRY_AGAIN, heard.notified()).await.is_err() {
        drop(client);
        tracing::info!("the database passes no notifications on, as behind a pooler; it is asked instead");
        tokio::time::sleep(LISTEN_AGAIN).await;
        return Ok(());
    }
    listening.store(true, Ordering::Release);
    let mut seconds = 0_u64;
    while !client.is_closed() {
        tokio::time::sleep(Duration::from_secs(1)).await;
        seconds += 1;
        // Silence is only believed of a connection that lives.
        if seconds.is_multiple_of(LIVES) {
            let answered = tokio::time::timeout(TRY_AGAIN, client.simple_query("")).await;
            answered.map_err(|_| Failure::Silent)??;
        }
    }
    Err(Failure::Silent)
}

/// After so many seconds a connection is asked whether it lives.
const LIVES: u64 = 15;

/// Where no notifications came through, they are tried again after this long.
const LISTEN_AGAIN: Duration = Duration::from_secs(300);
