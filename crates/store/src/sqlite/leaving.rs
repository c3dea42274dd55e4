//! Installations that leave, by HighLevel's word or ours, and what brings them back.
//!
//! What has left is kept, sealed, for 30 days. That something was uninstalled is noted also where
//! nothing was kept: a token that was asked for before it must not begin to be kept after it.

use rusqlite::OptionalExtension as _;
use tokens::store::Removed;
use tokens::{Installation, InstallationId, StoreError, Timestamp, TokenSet, Version};

use super::database::{Failure, Rows};
use super::parked::{KEEP_REMOVED, whose};
use crate::row::{self, Odd, TokensAtRest};
use crate::seal::Place;

/// A row of those that have left: whose, at which version, its sealed tokens, when.
type Left = (InstallationId, Version, Vec<u8>, Timestamp);

impl Rows<'_> {
    /// Takes one out of service as of `at`. Whether there was one.
    pub(super) fn take_out(&self, id: &InstallationId, at: Timestamp) -> Result<bool, Failure> {
        let changed = self.next_change()?;
        let moved = self
            .transaction
            .prepare_cached(
                "INSERT OR REPLACE INTO removed (kind, id, epoch, generation, seal, tokens, removed_at, changed)
                 SELECT kind, id, of.epoch, of.generation, seal, coalesce(sealed, x''), ?3, ?4
                 FROM installations AS of LEFT JOIN sets ON sets.place = of.place
                     AND sets.epoch = of.epoch AND sets.generation = of.generation
                 WHERE kind = ?1 AND id = ?2",
            )?
            .execute((id.kind(), id.as_str(), at.as_millis(), changed))?;
        self.drop_installation(id)?;
        Ok(moved == 1)
    }

    /// Forgets those that left 30 days ago.
    pub(super) fn forget_removed(&self, now: Timestamp) -> Result<(), Failure> {
        let old = (now - KEEP_REMOVED).as_millis();
        self.transaction.prepare_cached("DELETE FROM removed WHERE removed_at < ?1")?.execute([old])?;
        Ok(())
    }

    pub(super) fn uninstalled(
        &self,
        id: &InstallationId,
        at: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<InstallationId>, Failure> {
        // A clock of theirs that is ahead must not keep out whoever installs again.
        let at = at.min(now);
        if self.connected_after(id, at)? {
            return Ok(Vec::new());
        }
        let mut gone = Vec::new();
        for one in self.of_company(id, at)?.into_iter().chain([id.clone()]) {
            if self.take_out(&one, at)? {
                gone.push(one);
            }
        }
        self.note_left(id, at)?;
        self.drop_parked_before(id, at)?;
        self.forget_removed(now)?;
        Ok(gone)
    }

    /// Whether it was connected later than `at`: what happened before says nothing about it.
    fn connected_after(&self, id: &InstallationId, at: Timestamp) -> Result<bool, Failure> {
        let sql = "SELECT connected_at > ?3 FROM installations WHERE kind = ?1 AND id = ?2";
        let mut statement = self.transaction.prepare_cached(sql)?;
        let found = statement.query_row((id.kind(), id.as_str(), at.as_millis()), |row| row.get(0));
        Ok(found.optional()?.unwrap_or(false))
    }

    /// The locations of a company that were not connected later than `at`; none of a location.
    fn of_company(&self, id: &InstallationId, at: Timestamp) -> Result<Vec<InstallationId>, Failure> {
        let InstallationId::Company(company) = id else { return Ok(Vec::new()) };
        let mut statement = self.transaction.prepare_cached(
            "SELECT kind, id FROM installations
             WHERE company = (SELECT number FROM texts WHERE text = ?1) AND kind = 'location'
                 AND connected_at <= ?2
             ORDER BY id",
        )?;
        let found = statement.query_map((company.as_str(), at.as_millis()), whose)?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    /// Notes that it left, where nothing was kept, or where it had left before.
    fn note_left(&self, id: &InstallationId, at: Timestamp) -> Result<(), Failure> {
        self.transaction
            .prepare_cached(
                "INSERT INTO removed (kind, id, epoch, generation, tokens, removed_at, changed)
                 VALUES (?1, ?2, 0, 0, x'', ?3, ?4)
                 ON CONFLICT (kind, id) DO UPDATE SET removed_at = excluded.removed_at
                 WHERE removed_at < excluded.removed_at",
            )?
            .execute((id.kind(), id.as_str(), at.as_millis(), self.next_change()?))?;
        Ok(())
    }

    /// Drops the grants that were parked before it left, a company's locations' with it.
    fn drop_parked_before(&self, id: &InstallationId, at: Timestamp) -> Result<(), Failure> {
        let sql = "DELETE FROM parked WHERE at <= ?3
            AND ((kind = ?1 AND id = ?2) OR (?1 = 'company' AND company = ?2))";
        self.transaction.prepare_cached(sql)?.execute((id.kind(), id.as_str(), at.as_millis()))?;
        Ok(())
    }

    pub(super) fn removed(
        &self,
        after: Option<&InstallationId>,
        limit: usize,
    ) -> Result<Vec<Removed>, Failure> {
        let mut found: Vec<Left> = Vec::new();
        for (kind, after) in row::kinds_behind(after) {
            let sql = "SELECT * FROM removed WHERE kind = ?1 AND id > ?2 ORDER BY id LIMIT ?3";
            let room = i64::try_from(limit - found.len()).unwrap_or(i64::MAX);
            let mut statement = self.transaction.prepare_cached(sql)?;
            for one in statement.query_map((kind, after, room), left)? {
                found.push(one?);
            }
        }
        let opened = found.into_iter().map(|(id, version, sealed, at)| {
            let tokens = self.opened_removed(&id, version, &sealed)?;
            Ok(Removed { id, version, tokens, at })
        });
        opened.collect()
    }

    pub(super) fn restore(
        &self,
        id: &InstallationId,
        now: Timestamp,
    ) -> Result<Option<Installation>, Failure> {
        let sql = "SELECT * FROM removed WHERE kind = ?1 AND id = ?2 AND removed_at >= ?3";
        let since = (now - KEEP_REMOVED).as_millis();
        let mut statement = self.transaction.prepare_cached(sql)?;
        let found = statement.query_row((id.kind(), id.as_str(), since), left).optional()?;
        let Some((_, version, sealed, _)) = found else { return Ok(None) };
        let Some(tokens) = self.opened_removed(id, version, &sealed)? else { return Ok(None) };
        self.connect(id, &tokens, now).map(Some)
    }

    /// The tokens of one that has left; none where it was only noted.
    fn opened_removed(
        &self,
        id: &InstallationId,
        version: Version,
        sealed: &[u8],
    ) -> Result<Option<TokenSet>, StoreError> {
        if sealed.is_empty() {
            return Ok(None);
        }
        let at = || format!("{}: {id}", self.path.display());
        let place = Place::field(self.store_id, id, version, "tokens");
        let plain = self.sealer.open(&place, sealed).map_err(|why| why.at(at()))?;
        let odd = |odd: Odd| StoreError::Unreadable { place: at(), why: odd.0 };
        row::from_bytes(&plain).and_then(TokensAtRest::into_tokens).map(Some).map_err(odd)
    }
}

fn left(row: &rusqlite::Row<'_>) -> Result<Left, rusqlite::Error> {
    let version = Version { epoch: row.get("epoch")?, generation: row.get("generation")? };
    Ok((whose(row)?, version, row.get("tokens")?, Timestamp::from_millis(row.get("removed_at")?)))
}
