//! Sealing anew under the current key, a batch at a time and beside everything else.
//!
//! The index of the keys that each sealed value rests under is walked from one end to the other: what
//! is sealed anew leaves the walk, what does not open is passed over and named. Opening and sealing
//! hold up nobody; only the writing of a batch takes the writer's turn. A process that is killed leaves
//! whole batches behind, and the next one finds what is left.

use rusqlite::OptionalExtension as _;
use tokens::store::Fingerprint;
use tokens::{InstallationId, StoreError, Version};

use super::SqliteStore;
use super::database::{Failure, Rows, canary, newest_key, set_meta, set_newest_key};
use super::installations::number;
use super::parked::whose;
use crate::row::{self, TokensAtRest};
use crate::seal::Place;

/// So many are written in one turn: others wait for a few hundredths of a second.
const BATCH: usize = 500;

/// Where sealed values rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Table {
    Sets,
    Removed,
    Parked,
}

impl Table {
    const ALL: [Self; 3] = [Self::Sets, Self::Removed, Self::Parked];

    fn name(self) -> &'static str {
        match self {
            Self::Sets => "sets",
            Self::Removed => "removed",
            Self::Parked => "parked",
        }
    }

    fn column(self) -> &'static str {
        match self {
            Self::Sets => "sealed",
            Self::Removed | Self::Parked => "tokens",
        }
    }
}

/// A place in the walk: a row among those under a key.
#[derive(Clone, Debug)]
struct At {
    key: Vec<u8>,
    row: i64,
}

impl At {
    /// Before all rows under `key`.
    fn before(key: Vec<u8>) -> Self {
        Self { key, row: i64::MIN }
    }

    /// Before all that rest under a key; where nothing is sealed, there is none.
    fn beginning() -> Self {
        Self::before(vec![0])
    }
}

/// How far the walk has come.
#[derive(Debug)]
pub(super) struct Walk {
    table: usize,
    after: At,
    /// How many were left when it began, less those done since.
    left: usize,
    done: usize,
    unopened: Option<StoreError>,
}

/// A value under another key.
#[derive(Debug)]
struct Old {
    table: Table,
    at: At,
    id: InstallationId,
    version: Version,
    sealed: Vec<u8>,
}

/// What it is to be.
#[derive(Debug)]
struct Anew {
    table: Table,
    at: At,
    id: InstallationId,
    version: Version,
    before: Vec<u8>,
    sealed: Vec<u8>,
    fingerprint: Option<Fingerprint>,
}

/// A piece of the walk: what was sealed anew, what would not open, and where the walk goes on.
#[derive(Debug, Default)]
struct Piece {
    anew: Vec<Anew>,
    unopened: Vec<StoreError>,
    next: Option<(usize, At)>,
}

impl SqliteStore {
    /// Seals up to `limit` values anew. How many are left; an error that names one where only those
    /// are left that don't open.
    pub(super) async fn seal_anew(&self, limit: usize) -> Result<usize, StoreError> {
        if limit == 0 {
            return self.left_under_others().await;
        }
        // One at a time; the others need not wait.
        let Ok(mut kept) = self.walk.try_lock() else { return self.left_under_others().await };
        let mut walk = match kept.take() {
            Some(walk) => walk,
            None => match self.begin_walk().await? {
                Some(walk) => walk,
                None => return self.apart(|spool| spool.under_other_keys()).await,
            },
        };
        let mut piece = self.piece(walk.table, walk.after.clone(), BATCH.min(limit)).await?;
        let mut asked = 0;
        loop {
            asked += piece.anew.len() + piece.unopened.len();
            for error in piece.unopened {
                tracing::warn!(%error, "it can't be sealed anew");
                walk.unopened.get_or_insert(error);
            }
            let Some((table, after)) = piece.next.clone() else {
                let done = self.write(move |rows| rows.put_anew(&piece.anew)).await?;
                walk.done += done;
                return self.end_walk(walk).await;
            };
            // The next ones are opened while these are written.
            let room = limit.saturating_sub(asked).min(BATCH);
            let writing = self.write(move |rows| rows.put_anew(&piece.anew));
            let (done, next) = match room {
                0 => (writing.await, Ok(Piece::default())),
                room => tokio::join!(writing, self.piece(table, after.clone(), room)),
            };
            let done = done?;
            walk.done += done;
            walk.left = walk.left.saturating_sub(done);
            (walk.table, walk.after) = (table, after);
            if room == 0 {
                let left = walk.left.max(1);
                *kept = Some(walk);
                return Ok(left);
            }
            piece = next?;
        }
    }

    async fn left_under_others(&self) -> Result<usize, StoreError> {
        self.read(|rows| rows.count_under_others()).await
    }

    /// None when there is nothing to do.
    async fn begin_walk(&self) -> Result<Option<Walk>, StoreError> {
        let (left, is_settled) =
            self.read(|rows| Ok((rows.count_under_others()?, rows.is_settled()?))).await?;
        if left == 0 && is_settled {
            return Ok(None);
        }
        // Whoever seals anew says that its key is the newest.
        self.write(|rows| set_newest_key(rows.transaction, rows.sealer, rows.path)).await?;
        Ok(Some(Walk { table: 0, after: At::beginning(), left, done: 0, unopened: None }))
    }

    async fn end_walk(&self, walk: Walk) -> Result<usize, StoreError> {
        let left = self.write(|rows| rows.settle_if_nothing_is_left()).await?;
        match walk.unopened {
            Some(error) if walk.done == 0 && left > 0 => Err(error),
            _ => Ok(left + self.apart(|spool| spool.under_other_keys()).await?),
        }
    }

    async fn piece(&self, table: usize, after: At, limit: usize) -> Result<Piece, StoreError> {
        self.read(move |rows| rows.sealed_piece(table, after, limit)).await
    }
}

impl Rows<'_> {
    fn current_key(&self) -> Vec<u8> {
        self.sealer.current_bytes().map(|id| id.to_vec()).unwrap_or_default()
    }

    fn count_under_others(&self) -> Result<usize, Failure> {
        let current = self.current_key();
        let mut left = 0;
        for table in Table::ALL {
            let sql = format!(
                "SELECT (SELECT count(*) FROM {0} WHERE key_id > x'00' AND key_id < ?1)
                      + (SELECT count(*) FROM {0} WHERE key_id > ?1)",
                table.name()
            );
            let mut statement = self.transaction.prepare_cached(&sql)?;
            left += statement.query_row([&current], |row| row.get::<_, usize>(0))?;
        }
        Ok(left)
    }

    /// Whether the store as a whole is under the current key.
    fn is_settled(&self) -> Result<bool, Failure> {
        let canary: Option<Vec<u8>> = self
            .transaction
            .query_row("SELECT value FROM meta WHERE name = 'canary'", [], |row| row.get(0))
            .optional()?;
        let is_newest = Some(newest_key(self.transaction, self.path)?) == self.sealer.current_id();
        Ok(is_newest && canary.is_some_and(|canary| self.sealer.is_current(&canary)))
    }

    fn settle_if_nothing_is_left(&self) -> Result<usize, Failure> {
        let left = self.count_under_others()?;
        let is_newest = Some(newest_key(self.transaction, self.path)?) == self.sealer.current_id();
        if left == 0 && is_newest && !self.is_settled()? {
            set_meta(self.transaction, "canary", &canary(self.sealer, self.store_id))?;
            tracing::info!(store = %self.path.display(), "everything is sealed under the current key");
        }
        Ok(left)
    }

    /// The next values under another key, opened and sealed anew.
    fn sealed_piece(&self, mut table: usize, mut after: At, limit: usize) -> Result<Piece, Failure> {
        let current = self.current_key();
        let mut old = Vec::new();
        while let Some(from) = Table::ALL.get(table) {
            for found in self.under_others(*from, &after, &current, limit - old.len())? {
                after = found.at.clone();
                old.push(found);
            }
            if old.len() >= limit {
                break;
            }
            (table, after) = (table + 1, At::beginning());
        }
        let next = (table < Table::ALL.len()).then_some((table, after));
        let mut piece = Piece { next, ..Piece::default() };
        for old in old {
            match self.anew(old) {
                Ok(anew) => piece.anew.push(anew),
                Err(error) => piece.unopened.push(error),
            }
        }
        Ok(piece)
    }

    /// Those behind `after` that rest under another key, one key after another.
    fn under_others(
        &self,
        table: Table,
        after: &At,
        current: &[u8],
        limit: usize,
    ) -> Result<Vec<Old>, Failure> {
        let name = table.name();
        let version = if table == Table::Parked { "0, 0" } else { "epoch, generation" };
        let rows = format!(
            "SELECT rowid, kind, id, {version}, {} FROM {name} WHERE key_id = ?1 AND rowid > ?2
             ORDER BY rowid LIMIT ?3",
            table.column()
        );
        let next_key = format!("SELECT min(key_id) FROM {name} WHERE key_id > ?1");
        let (mut after, mut found) = (after.clone(), Vec::new());
        loop {
            if after.key != current {
                let limit = i64::try_from(limit - found.len()).unwrap_or(i64::MAX);
                let mut statement = self.transaction.prepare_cached(&rows)?;
                let rows = statement.query_map((&after.key, after.row, limit), |row| {
                    let (epoch, generation): (i64, i64) = (row.get(3)?, row.get(4)?);
                    let version =
                        Version { epoch: epoch.unsigned_abs(), generation: generation.unsigned_abs() };
                    let at = At { key: after.key.clone(), row: row.get(0)? };
                    Ok(Old { table, at, id: whose(row)?, version, sealed: row.get(5)? })
                })?;
                for old in rows {
                    found.push(old?);
                }
            }
            if found.len() >= limit {
                return Ok(found);
            }
            let mut statement = self.transaction.prepare_cached(&next_key)?;
            match statement.query_row([&after.key], |row| row.get::<_, Option<Vec<u8>>>(0))? {
                Some(key) => after = At::before(key),
                None => return Ok(found),
            }
        }
    }

    fn anew(&self, old: Old) -> Result<Anew, StoreError> {
        let place = match old.table {
            Table::Sets | Table::Removed => Place::field(self.store_id, &old.id, old.version, "tokens"),
            Table::Parked => self.parked_place(&old.id),
        };
        let name = || format!("{}: {}", self.path.display(), old.id);
        let plain = self.sealer.open(&place, &old.sealed).map_err(|why| why.at(name()))?;
        let missing = || StoreError::KeyMissing { place: self.path.display().to_string() };
        let sealed = self.sealer.seal(&place, &plain).ok_or_else(missing)?;
        let fingerprint = match old.table {
            Table::Sets => row::from_bytes(&plain)
                .and_then(TokensAtRest::into_tokens)
                .ok()
                .and_then(|tokens| tokens.refresh_token().map(|token| self.sealer.fingerprint(token))),
            Table::Removed | Table::Parked => None,
        };
        let Old { table, at, id, version, sealed: before } = old;
        Ok(Anew { table, at, id, version, before, sealed, fingerprint })
    }

    /// Puts them in the place of what they were made of, where that is still there. How many were put.
    fn put_anew(&self, all: &[Anew]) -> Result<usize, Failure> {
        let mut count = 0;
        for Anew { table, at, id, version, before, sealed, fingerprint } in all {
            let sql = format!(
                "UPDATE {0} SET {1} = ?1 WHERE rowid = ?2 AND {1} = ?3",
                table.name(),
                table.column()
            );
            let mut statement = self.transaction.prepare_cached(&sql)?;
            // The row of what was dropped meanwhile may have become another's: byte for byte, no two are
            // alike.
            let put = statement.execute((sealed, at.row, before))?;
            count += put;
            if let Some(fingerprint) = fingerprint.filter(|_| put == 1) {
                let sql = "UPDATE installations SET fingerprint = ?5
                    WHERE kind = ?1 AND id = ?2 AND epoch = ?3 AND generation = ?4";
                let mut statement = self.transaction.prepare_cached(sql)?;
                let (epoch, generation) = (number(version.epoch), number(version.generation));
                statement.execute((id.kind(), id.as_str(), epoch, generation, fingerprint.0))?;
            }
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;
    use crate::sqlite::migrate::MIGRATIONS;

    #[test]
    fn what_is_left_is_found_by_an_index() {
        let database = Connection::open_in_memory().expect("a database");
        database.execute_batch(&MIGRATIONS.join("\n")).expect("made");
        for table in Table::ALL {
            let name = table.name();
            for sql in [
                format!("SELECT count(*) FROM {name} WHERE key_id > x'01'"),
                format!("SELECT min(key_id) FROM {name} WHERE key_id > x'01'"),
                format!("SELECT id FROM {name} WHERE key_id = x'01' AND rowid > 1 ORDER BY rowid"),
            ] {
                let mut plan = database.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect("a plan");
                let steps = plan.query_map([], |row| row.get::<_, String>(3)).expect("a plan");
                for step in steps {
                    let step = step.expect("a step");
                    assert!(step.starts_with("SEARCH") && step.contains("_by_key"), "{sql}: {step}");
                }
            }
        }
    }
}
