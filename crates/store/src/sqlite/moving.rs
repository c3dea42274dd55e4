//! Grants on their way from one store to another: many at once, as they are, and a store that stands
//! by because another one keeps its grants.
//!
//! What is put is sealed on one thread while what came before it is written on another.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rusqlite::OptionalExtension as _;
use tokens::store::{LEASE, Parked, Removed};
use tokens::{Installation, InstallationId, StoreError, Timestamp, TokenSet, Version};

use super::SqliteStore;
use super::database::{self, Failure, Rows, Shared};
use super::installations::{Before, counter, number};
use super::migrate::INDEXES;
use super::parked::NO_VERSION;
use super::writer::Worth;
use crate::disk::apart;
use crate::row::{self, TokensAtRest};
use crate::seal::Place;

/// So many share a transaction: a while in which no refresh can be saved, and a few megabytes.
const TOGETHER: usize = 2500;

/// So much of the database the writer keeps in memory while very many are put, in KiB: their ids come in
/// no order, and so do the pages of the index that they are found by.
const CACHE: i64 = 96 * 1024;

/// So many pages of log, 1 GB, are put back into the database at once meanwhile: the same pages of that
/// index are written again and again, and a log that is written over waits for the disk.
const LOG: i64 = 128_000;

/// An installation with its sets as they are to rest.
struct ToPut {
    installation: Installation,
    sealed: Vec<u8>,
    /// The set before, with the version that it is sealed as.
    before: Option<(Version, Vec<u8>)>,
}

/// Puts installations as they are. How many the store did not have so already.
pub(super) async fn put(store: &SqliteStore, installations: &[Installation]) -> Result<usize, StoreError> {
    // What is put between a beginning and an end is on the disk when all is.
    let worth = match store.takes_very_many.load(Ordering::Relaxed) {
        true => Worth::NoFlush,
        false => Worth::AFlush,
    };
    let mut batches = installations.chunks(TOGETHER);
    let Some(first) = batches.next() else { return Ok(0) };
    let mut sealed = seal(&store.shared, first.to_vec()).await?;
    let mut count = 0;
    for batch in batches {
        let written = store.writer.write(worth, move |rows| rows.put_all(sealed));
        let (written, next) = tokio::join!(written, seal(&store.shared, batch.to_vec()));
        count += written?;
        sealed = next?;
    }
    Ok(count + store.writer.write(worth, move |rows| rows.put_all(sealed)).await?)
}

async fn seal(shared: &Arc<Shared>, installations: Vec<Installation>) -> Result<Vec<ToPut>, StoreError> {
    let sealing = shared.clone();
    let seal = move || installations.into_iter().map(|it| ToPut::of(it, &sealing)).collect();
    apart(&shared.path, seal).await
}

impl ToPut {
    fn of(installation: Installation, shared: &Shared) -> Result<Self, StoreError> {
        let Installation { id, version, tokens, previous, .. } = &installation;
        let sealed = |version: Version, tokens: &TokenSet| {
            let place = Place::field(&shared.store_id, id, version, "tokens");
            let plain = row::to_bytes(&TokensAtRest::from(tokens));
            let missing = || StoreError::KeyMissing { place: shared.path.display().to_string() };
            shared.sealer.seal(&place, &plain).ok_or_else(missing)
        };
        let before = match previous {
            Some(previous) => {
                // Which version it was is not told; as the one before, it is no other set's.
                let before = Version { generation: version.generation.saturating_sub(1), ..*version };
                Some((before, sealed(before, &previous.tokens)?))
            }
            None => None,
        };
        let sealed = sealed(*version, tokens)?;
        Ok(Self { sealed, before, installation })
    }
}

impl Rows<'_> {
    fn put_all(&self, all: Vec<ToPut>) -> Result<usize, Failure> {
        let changed = self.next_change()?;
        let sql = "SELECT EXISTS (SELECT * FROM removed)";
        let some_left = self.transaction.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
        let mut count = 0;
        for it in all {
            count += usize::from(self.put(it, changed, some_left)?);
        }
        Ok(count)
    }

    /// Puts one, unless it is here at that version or a later one, or was removed since.
    fn put(&self, it: ToPut, changed: i64, some_left: bool) -> Result<bool, Failure> {
        let ToPut { mut installation, sealed, before } = it;
        let id = &installation.id;
        if some_left && let Some((removed, at)) = self.removal_of(id)? {
            if removed >= installation.version || at >= installation.connected_at && removed == NO_VERSION {
                return Ok(false);
            }
            self.no_longer_removed(id)?;
        }
        // A flight that was in the air elsewhere is no business of this store.
        installation.intent = None;
        let number = match self.insert(&installation, &sealed, changed)? {
            Some(number) => number,
            None if self.version_of(id)?.is_some_and(|present| present >= installation.version) => {
                return Ok(false);
            }
            None => {
                self.drop_installation(id)?;
                let Some(number) = self.insert(&installation, &sealed, changed)? else { return Ok(false) };
                number
            }
        };
        let until = installation.previous.as_ref().map(|previous| previous.keep_until);
        if let (Some((version, set)), Some(until)) = (before, until) {
            let place = self.put_set(number, version, &set, None)?;
            self.set_previous(number, Before { version, until, place })?;
        }
        Ok(true)
    }

    /// Leaves out of an empty store the indexes that are made at once when all are there.
    pub(super) fn begin_putting(&self) -> Result<(), Failure> {
        let sql = "SELECT EXISTS (SELECT * FROM installations)";
        if self.transaction.query_row(sql, [], |row| row.get(0))? {
            return Ok(());
        }
        self.transaction.pragma_update(None, "cache_size", -CACHE)?;
        self.transaction.pragma_update(None, "wal_autocheckpoint", LOG)?;
        let sql = "SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL
            AND tbl_name IN ('installations', 'sets')";
        let mut statement = self.transaction.prepare(sql)?;
        let names = statement.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
        for name in names {
            self.transaction.execute(&format!("DROP INDEX {name}"), [])?;
        }
        Ok(())
    }

    pub(super) fn end_putting(&self) -> Result<(), Failure> {
        self.transaction.execute_batch(INDEXES)?;
        self.transaction.pragma_update(None, "cache_size", -database::CACHE)?;
        Ok(self.transaction.pragma_update(None, "wal_autocheckpoint", database::LOG)?)
    }

    fn version_of(&self, id: &InstallationId) -> Result<Option<Version>, Failure> {
        let sql = "SELECT epoch, generation FROM installations WHERE kind = ?1 AND id = ?2";
        let found = self.transaction.prepare_cached(sql)?.query_row((id.kind(), id.as_str()), |row| {
            Ok(Version { epoch: counter(row.get(0)?), generation: counter(row.get(1)?) })
        });
        Ok(found.optional()?)
    }

    /// The version that an installation had when it was removed, and when that was.
    fn removal_of(&self, id: &InstallationId) -> Result<Option<(Version, Timestamp)>, Failure> {
        let sql = "SELECT epoch, generation, removed_at FROM removed WHERE kind = ?1 AND id = ?2";
        let found = self.transaction.prepare_cached(sql)?.query_row((id.kind(), id.as_str()), |row| {
            let version = Version { epoch: counter(row.get(0)?), generation: counter(row.get(1)?) };
            Ok((version, Timestamp::from_millis(row.get(2)?)))
        });
        Ok(found.optional()?)
    }

    /// Puts what was out of service; what is kept here, or was removed here, stays as it is.
    pub(super) fn put_removed(&self, removed: &[Removed]) -> Result<(), Failure> {
        for it in removed {
            let Removed { id, version, tokens, at } = it;
            if self.version_of(id)?.is_some() {
                continue;
            }
            let sealed = match tokens {
                Some(tokens) => self.sealed_set(id, *version, tokens)?,
                None => Vec::new(),
            };
            let changed = self.next_change()?;
            self.transaction
                .prepare_cached(
                    "INSERT INTO removed (kind, id, epoch, generation, seal, tokens, removed_at, changed)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (kind, id) DO NOTHING",
                )?
                .execute((
                    id.kind(),
                    id.as_str(),
                    number(version.epoch),
                    number(version.generation),
                    self.seal(&sealed)?,
                    sealed,
                    at.as_millis(),
                    changed,
                ))?;
        }
        Ok(())
    }

    pub(super) fn parked_grants(&self) -> Result<Vec<(Parked, TokenSet)>, Failure> {
        let sql = "SELECT tokens FROM parked WHERE kind = ?1 AND id = ?2";
        let mut statement = self.transaction.prepare_cached(sql)?;
        let with_tokens = self.parked()?.into_iter().map(|parked| {
            let key = (parked.id.kind(), parked.id.as_str());
            let sealed: Vec<u8> = statement.query_row(key, |row| row.get(0))?;
            let tokens = self.opened_parked(&parked.id, &sealed)?;
            Ok((parked, tokens))
        });
        with_tokens.collect()
    }

    /// Why this store is on standby, if it is.
    pub(super) fn standby(&self) -> Result<Option<String>, Failure> {
        let sql = "SELECT value FROM meta WHERE name = 'standby'";
        Ok(self.transaction.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()?)
    }

    /// An error that says so while another store keeps these grants.
    pub(super) fn refuse_on_standby(&self) -> Result<(), Failure> {
        match self.standby()? {
            Some(why) => Err(StoreError::Standby { place: self.path.display().to_string(), why }.into()),
            None => Ok(()),
        }
    }

    pub(super) fn set_standby(&self, why: Option<&str>) -> Result<(), Failure> {
        if why.is_some() && self.is_in_the_air()? {
            return Err(StoreError::InTheAir { place: self.path.display().to_string() }.into());
        }
        match why {
            Some(why) => self.transaction.execute(
                "INSERT INTO meta (name, value) VALUES ('standby', ?1)
                 ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                [why],
            )?,
            None => self.transaction.execute("DELETE FROM meta WHERE name = 'standby'", [])?,
        };
        Ok(())
    }

    /// Whether any lease is in force. What is in the air is due at once, so an index finds it.
    fn is_in_the_air(&self) -> Result<bool, Failure> {
        self.is_any_leased(&format!("refresh_due_at = {}", i64::MIN))
    }

    /// Whether any lease is in force among some rows, by the clock of this machine, in a database of whatever
    /// version.
    pub(super) fn is_any_leased(&self, among: &str) -> Result<bool, Failure> {
        let lease = i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX);
        let sql = format!(
            "WITH clock AS (SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER) AS now)
            SELECT EXISTS (SELECT * FROM installations, clock WHERE {among}
                AND lease_until > now AND lease_until <= now + 2 * ?1)"
        );
        Ok(self.transaction.prepare_cached(&sql)?.query_row([lease], |row| row.get(0))?)
    }
}
