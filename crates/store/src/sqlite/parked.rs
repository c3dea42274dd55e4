//! Grants that wait for approval, installations out of service, and what changed when.

use std::time::Duration;

use rusqlite::OptionalExtension as _;
use tokens::store::{Changes, Mark, Parked};
use tokens::{CompanyId, Installation, InstallationId, StoreError, Timestamp, TokenSet, Version};

use super::database::{Failure, Rows};
use crate::row::{self, Odd, TokensAtRest};
use crate::seal::Place;

/// How long the tokens of an installation that was removed are kept.
pub(super) const KEEP_REMOVED: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// A grant that is parked belongs to no version of an installation yet.
pub(super) const NO_VERSION: Version = Version { epoch: 0, generation: 0 };

impl Rows<'_> {
    /// The number of the next change.
    pub(super) fn next_change(&self) -> Result<i64, rusqlite::Error> {
        let sql = "UPDATE meta SET value = value + 1 WHERE name = 'changed' RETURNING value";
        self.transaction.prepare_cached(sql)?.query_row([], |row| row.get(0))
    }

    /// The version that an installation had when it was removed, if it was.
    pub(super) fn version_when_removed(&self, id: &InstallationId) -> Result<Option<Version>, Failure> {
        let sql = "SELECT epoch, generation FROM removed WHERE kind = ?1 AND id = ?2";
        let found = self.transaction.prepare_cached(sql)?.query_row((id.kind(), id.as_str()), |row| {
            Ok(Version { epoch: row.get(0)?, generation: row.get(1)? })
        });
        Ok(found.optional()?)
    }

    /// When an installation was removed, if it is.
    pub(super) fn removed_at(&self, id: &InstallationId) -> Result<Option<Timestamp>, Failure> {
        let sql = "SELECT removed_at FROM removed WHERE kind = ?1 AND id = ?2";
        let mut statement = self.transaction.prepare_cached(sql)?;
        let at: Option<i64> = statement.query_row((id.kind(), id.as_str()), |row| row.get(0)).optional()?;
        Ok(at.map(Timestamp::from_millis))
    }

    /// Forgets that an installation was removed: it is back.
    pub(super) fn no_longer_removed(&self, id: &InstallationId) -> Result<(), rusqlite::Error> {
        let sql = "DELETE FROM removed WHERE kind = ?1 AND id = ?2";
        self.transaction.prepare_cached(sql)?.execute((id.kind(), id.as_str())).map(drop)
    }

    pub(super) fn parked_place(&self, id: &InstallationId) -> Place {
        Place::field(self.store_id, id, NO_VERSION, "parked")
    }

    pub(super) fn opened_parked(&self, id: &InstallationId, sealed: &[u8]) -> Result<TokenSet, StoreError> {
        let place = || format!("{}: {id}", self.path.display());
        let odd = |odd: Odd| StoreError::Unreadable { place: place(), why: odd.0 };
        let plain = self.sealer.open(&self.parked_place(id), sealed).map_err(|why| why.at(place()))?;
        row::from_bytes(&plain).and_then(TokensAtRest::into_tokens).map_err(odd)
    }

    fn sealed_parked(&self, id: &InstallationId, tokens: &TokenSet) -> Result<Vec<u8>, StoreError> {
        let plain = row::to_bytes(&TokensAtRest::from(tokens));
        let missing = || StoreError::KeyMissing { place: self.path.display().to_string() };
        self.sealer.seal(&self.parked_place(id), &plain).ok_or_else(missing)
    }
}

pub(super) fn whose(row: &rusqlite::Row<'_>) -> Result<InstallationId, rusqlite::Error> {
    whose_in(row, "kind", "id")
}

/// The same where it is told which columns these are; by number costs less than by name.
pub(super) fn whose_in<I: rusqlite::RowIndex>(
    row: &rusqlite::Row<'_>,
    kind: I,
    id: I,
) -> Result<InstallationId, rusqlite::Error> {
    InstallationId::from_parts(row.get_ref(kind)?.as_str()?, row.get_ref(id)?.as_str()?).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Text, error.into())
    })
}

impl Rows<'_> {
    pub(super) fn remove(&self, id: &InstallationId, now: Timestamp) -> Result<bool, Failure> {
        let was_there = self.take_out(id, now)?;
        self.forget_removed(now)?;
        Ok(was_there)
    }

    pub(super) fn park(&self, id: &InstallationId, tokens: &TokenSet, now: Timestamp) -> Result<(), Failure> {
        self.refuse_on_standby()?;
        let sealed = self.sealed_parked(id, tokens)?;
        let company = tokens.company.as_ref().map(CompanyId::as_str);
        self.transaction
            .prepare_cached(
                "INSERT OR REPLACE INTO parked (kind, id, company, scopes, at, seal, tokens)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute((
                id.kind(),
                id.as_str(),
                company,
                &tokens.scopes,
                now.as_millis(),
                self.seal(&sealed)?,
                sealed,
            ))?;
        Ok(())
    }

    pub(super) fn parked(&self) -> Result<Vec<Parked>, Failure> {
        let sql = "SELECT kind, id, company, scopes, at FROM parked ORDER BY kind DESC, id";
        let mut statement = self.transaction.prepare_cached(sql)?;
        let found = statement.query_map([], |row| {
            let company: Option<String> = row.get("company")?;
            Ok(Parked {
                id: whose(row)?,
                company: company.and_then(|id| id.parse().ok()),
                scopes: row.get("scopes")?,
                at: Timestamp::from_millis(row.get("at")?),
            })
        })?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    pub(super) fn approve(
        &self,
        id: &InstallationId,
        now: Timestamp,
    ) -> Result<Option<Installation>, Failure> {
        let sql = "DELETE FROM parked WHERE kind = ?1 AND id = ?2 RETURNING tokens";
        let found: Option<Vec<u8>> = self
            .transaction
            .prepare_cached(sql)?
            .query_row((id.kind(), id.as_str()), |row| row.get(0))
            .optional()?;
        let Some(sealed) = found else { return Ok(None) };
        let tokens = self.opened_parked(id, &sealed)?;
        self.connect(id, &tokens, now).map(Some)
    }

    pub(super) fn dismiss(&self, id: &InstallationId) -> Result<bool, Failure> {
        let sql = "DELETE FROM parked WHERE kind = ?1 AND id = ?2";
        let dropped = self.transaction.prepare_cached(sql)?.execute((id.kind(), id.as_str()))?;
        Ok(dropped == 1)
    }

    pub(super) fn changes(&self, since: Mark) -> Result<Changes, Failure> {
        let sql = "SELECT value FROM meta WHERE name = 'changed'";
        let mark: u64 = self.transaction.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
        // One is added, so that no mark is the default one.
        let now = Mark(mark + 1);
        if since == Mark::default() || since == now {
            return Ok(Changes { ids: Vec::new(), mark: now });
        }
        let mut statement = self.transaction.prepare_cached(
            "SELECT kind, id FROM installations WHERE changed > ?1
             UNION SELECT kind, id FROM removed WHERE changed > ?1",
        )?;
        let ids = statement.query_map([since.0 - 1], whose)?.collect::<Result<_, _>>()?;
        Ok(Changes { ids, mark: now })
    }
}
