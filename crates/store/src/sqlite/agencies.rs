//! Companies and the locations that are begun with their grants.

use tokens::store::ListedNote;
use tokens::{CompanyId, Installation, InstallationId, Timestamp, TokenSet};

use super::database::{Failure, Rows};

impl Rows<'_> {
    pub(super) fn companies(&self) -> Result<Vec<CompanyId>, Failure> {
        let sql = "SELECT id FROM installations WHERE kind = 'company' ORDER BY id";
        let mut statement = self.transaction.prepare_cached(sql)?;
        let ids = statement.query_map([], |row| row.get::<_, String>(0))?;
        let ids = ids.collect::<Result<Vec<_>, _>>()?;
        Ok(ids.iter().filter_map(|id| id.parse().ok()).collect())
    }

    pub(super) fn adopt(
        &self,
        id: &InstallationId,
        tokens: &TokenSet,
        asked_at: Timestamp,
        now: Timestamp,
    ) -> Result<Option<Installation>, Failure> {
        if let Some(kept) = self.load(id)? {
            return Ok(Some(kept));
        }
        if self.removed_at(id)?.is_some_and(|removed_at| removed_at >= asked_at) {
            return Ok(None);
        }
        self.connect(id, tokens, now).map(Some)
    }

    pub(super) fn note_listed(&self, notes: &[ListedNote]) -> Result<(), Failure> {
        let mut statement = self.transaction.prepare_cached(
            "UPDATE installations SET name = coalesce(?3, name), unlisted_at = ?4 WHERE kind = ?1 AND id = ?2",
        )?;
        for ListedNote { id, name, unlisted_at } in notes {
            let unlisted_at = unlisted_at.map(Timestamp::as_millis);
            statement.execute((id.kind(), id.as_str(), name, unlisted_at))?;
        }
        Ok(())
    }
}
