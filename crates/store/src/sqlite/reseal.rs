//! Sealing anew under the current key, a batch at a time and beside everything else.
//!
//! The index of the keys that each sealed value rests under is walked from one end to the other: what
//! is sealed anew leaves the walk, what does not open is passed over and named. Opening and sealing
//! hold up nobody; only the writing of a batch takes the writer's turn. A process that is killed leaves
//! whole batches behind, and the next one finds what is left.

use rusqlite::OptionalExtension as _;
use tokens::{InstallationId, StoreError, Version};

use super::SqliteStore;
use super::database::{Failure, Rows, canary, newest_key, set_meta, set_newest_key};
use super::parked::whose;
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

    /// Finds the rows under a seal behind one of them: row, whose, at which version, what is sealed.
    fn rows(self) -> &'static str {
        match self {
            Self::Sets => {
                "SELECT sets.place, kind, id, sets.epoch, sets.generation, sealed
                 FROM sets CROSS JOIN installations ON number = whose
                 WHERE seal = ?1 AND sets.place > ?2 ORDER BY sets.place LIMIT ?3"
            }
            Self::Removed => {
                "SELECT rowid, kind, id, epoch, generation, tokens FROM removed
                 WHERE seal = ?1 AND rowid > ?2 ORDER BY rowid LIMIT ?3"
            }
            Self::Parked => {
                "SELECT rowid, kind, id, 0, 0, tokens FROM parked
                 WHERE seal = ?1 AND rowid > ?2 ORDER BY rowid LIMIT ?3"
            }
        }
    }
}

/// A place in the walk: a row among those under a key.
#[derive(Clone, Debug)]
struct At {
    seal: i64,
    row: i64,
}

impl At {
    /// Before all rows under a seal.
    fn before(seal: i64) -> Self {
        Self { seal, row: i64::MIN }
    }

    /// Before all that rest under a seal; where nothing is sealed, there is none.
    fn beginning() -> Self {
        Self::before(0)
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
    before: Vec<u8>,
    sealed: Vec<u8>,
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
    /// The number of the current key; none before it has sealed anything.
    fn current_seal(&self) -> Result<i64, rusqlite::Error> {
        let sql = "SELECT number FROM seals WHERE key_id = ?1";
        let current = self.sealer.current_bytes().unwrap_or_default();
        let mut statement = self.transaction.prepare_cached(sql)?;
        Ok(statement.query_row([current.as_slice()], |row| row.get(0)).optional()?.unwrap_or_default())
    }

    fn count_under_others(&self) -> Result<usize, Failure> {
        let current = self.current_seal()?;
        let mut left = 0;
        for table in Table::ALL {
            let sql = format!(
                "SELECT (SELECT count(*) FROM {0} WHERE seal < ?1) + (SELECT count(*) FROM {0} WHERE seal > ?1)",
                table.name()
            );
            let mut statement = self.transaction.prepare_cached(&sql)?;
            left += statement.query_row([current], |row| row.get::<_, usize>(0))?;
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
        let current = self.current_seal()?;
        let mut old = Vec::new();
        while let Some(from) = Table::ALL.get(table) {
            for found in self.under_others(*from, &after, current, limit - old.len())? {
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
        current: i64,
        limit: usize,
    ) -> Result<Vec<Old>, Failure> {
        let rows = table.rows();
        let next_seal = format!("SELECT min(seal) FROM {} WHERE seal > ?1", table.name());
        let (mut after, mut found) = (after.clone(), Vec::new());
        loop {
            if after.seal != current {
                let limit = i64::try_from(limit - found.len()).unwrap_or(i64::MAX);
                let mut statement = self.transaction.prepare_cached(rows)?;
                let rows = statement.query_map((after.seal, after.row, limit), |row| {
                    let (epoch, generation): (i64, i64) = (row.get(3)?, row.get(4)?);
                    let version =
                        Version { epoch: epoch.unsigned_abs(), generation: generation.unsigned_abs() };
                    let at = At { seal: after.seal, row: row.get(0)? };
                    Ok(Old { table, at, id: whose(row)?, version, sealed: row.get(5)? })
                })?;
                for old in rows {
                    found.push(old?);
                }
            }
            if found.len() >= limit {
                return Ok(found);
            }
            let mut statement = self.transaction.prepare_cached(&next_seal)?;
            match statement.query_row([after.seal], |row| row.get::<_, Option<i64>>(0))? {
                Some(seal) => after = At::before(seal),
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
        let Old { table, at, sealed: before, .. } = old;
        Ok(Anew { table, at, before, sealed })
    }

    /// Puts them in the place of what they were made of, where that is still there. How many were put.
    fn put_anew(&self, all: &[Anew]) -> Result<usize, Failure> {
        let mut count = 0;
        for Anew { table, at, before, sealed } in all {
            let seal = self.seal(sealed)?;
            let sql = format!(
                "UPDATE {0} SET {1} = ?1, seal = ?2 WHERE rowid = ?3 AND {1} = ?4",
                table.name(),
                table.column()
            );
            let mut statement = self.transaction.prepare_cached(&sql)?;
            // The row of what was dropped meanwhile may have become another's: byte for byte, no two are
            // alike.
            count += statement.execute((sealed, seal, at.row, before))?;
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;
    use crate::sqlite::migrate::{INDEXES, MIGRATIONS};

    #[test]
    fn what_is_left_is_found_by_an_index() {
        let database = Connection::open_in_memory().expect("a database");
        database.execute_batch(&MIGRATIONS.join("\n")).expect("made");
        database.execute_batch(INDEXES).expect("made");
        for table in Table::ALL {
            let name = table.name();
            for sql in [
                format!("SELECT count(*) FROM {name} WHERE seal > 1"),
                format!("SELECT min(seal) FROM {name} WHERE seal > 1"),
                table.rows().replace("?1", "1").replace("?2", "1").replace("?3", "1"),
            ] {
                let mut plan = database.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect("a plan");
                let steps = plan.query_map([], |row| row.get::<_, String>(3)).expect("a plan");
                for step in steps {
                    let step = step.expect("a step");
                    let by_number = step.contains("installations USING INTEGER PRIMARY KEY");
                    assert!(
                        step.starts_with("SEARCH") && (by_number || step.contains("_by_seal")),
                        "{sql}: {step}"
                    );
                }
            }
        }
    }
}
