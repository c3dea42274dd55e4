//! What a row says, and how its sealed sets are opened and sealed.

use std::sync::Arc;

use tokens::{
    Connection, Installation, InstallationId, Intent, Overview, StoreError, Timestamp, TokenSet, Version,
};
use tokio_postgres::Row;

use super::pool::Failure;
use crate::row::{self, ConnectionAtRest, InstallationAtRest, Odd, TokensAtRest};
use crate::seal::{Place, Sealer};

/// The columns of an installation that a reader wants.
pub(super) const COLUMNS: &str =
    "i.kind, i.id, i.epoch, i.generation, i.previous_epoch, i.previous_generation, i.previous_until, i.state,
    i.since, i.attempts, i.retry_at, i.said, i.issued_at, i.expires_at, i.scopes, i.company, i.intent_since,
    i.intent_at, i.lease_flight, i.lease_until, i.checked_at, i.check_health, i.check_code, i.check_said,
    i.connected_at, i.name, i.unlisted_at";

/// With them, the sealed sets.
pub(super) const WITH_SETS: &str = "LEFT JOIN @.sets s
        ON s.kind = i.kind AND s.id = i.id AND s.epoch = i.epoch AND s.generation = i.generation
    LEFT JOIN @.sets p
        ON p.kind = i.kind AND p.id = i.id AND p.epoch = i.previous_epoch
            AND p.generation = i.previous_generation";

/// A grant that is parked belongs to no version of an installation yet.
pub(super) const NO_VERSION: Version = Version { epoch: 0, generation: 0 };

/// A row as it lies there.
pub(super) struct Stored {
    pub(super) at_rest: InstallationAtRest,
    previous: Option<Before>,
    pub(super) intent_at: Option<i64>,
    pub(super) lease: Option<(String, i64)>,
}

/// Which set was there before, and until when it is kept.
struct Before {
    version: Version,
    until: Timestamp,
}

/// What is sealed, with the key that it is sealed under.
pub(super) struct Sealed {
    pub(super) bytes: Vec<u8>,
    pub(super) key_id: String,
}

/// Opens and seals what belongs to one store.
#[derive(Clone)]
pub(super) struct Vault {
    pub(super) sealer: Arc<Sealer>,
    pub(super) store_id: String,
    pub(super) place: String,
}

impl Vault {
    fn place(&self, id: &InstallationId) -> String {
        format!("{}: {id}", self.place)
    }

    pub(super) fn odd(&self, id: &InstallationId, odd: Odd) -> StoreError {
        StoreError::Unreadable { place: self.place(id), why: odd.0 }
    }

    /// Where a set lies, as the seal knows it.
    pub(super) fn seal_place(&self, id: &InstallationId, version: Version, field: &str) -> Place {
        Place::field(&self.store_id, id, version, field)
    }

    /// Opens a set of tokens. One that is not where its row says has been taken away, or the row has
    /// been altered.
    pub(super) fn open(
        &self,
        id: &InstallationId,
        version: Version,
        field: &str,
        sealed: Option<&[u8]>,
    ) -> Result<TokenSet, StoreError> {
        let Some(sealed) = sealed else { return Err(StoreError::SealBroken { place: self.place(id) }) };
        let place = self.seal_place(id, version, field);
        let plain = self.sealer.open(&place, sealed).map_err(|why| why.at(self.place(id)))?;
        row::from_bytes(&plain).and_then(TokensAtRest::into_tokens).map_err(|odd| self.odd(id, odd))
    }

    pub(super) fn seal(
        &self,
        id: &InstallationId,
        version: Version,
        field: &str,
        tokens: &TokenSet,
    ) -> Result<Sealed, StoreError> {
        self.seal_bytes(id, version, field, &row::to_bytes(&TokensAtRest::from(tokens)))
    }

    pub(super) fn seal_bytes(
        &self,
        id: &InstallationId,
        version: Version,
        field: &str,
        plain: &[u8],
    ) -> Result<Sealed, StoreError> {
        let missing = || StoreError::KeyMissing { place: self.place.clone() };
        let place = self.seal_place(id, version, field);
        let bytes = self.sealer.seal(&place, plain).ok_or_else(missing)?;
        Ok(Sealed { bytes, key_id: self.sealer.current_id().ok_or_else(missing)? })
    }

    /// The installation that a row with its sets is.
    pub(super) fn installation(&self, row: &Row) -> Result<Installation, Failure> {
        let Stored { at_rest, previous, .. } = Stored::read(row)?;
        let id = at_rest.id.clone();
        let tokens = self.open(&id, at_rest.version, "tokens", row.try_get("sealed")?)?;
        let sealed_before = row.try_get("sealed_before")?;
        let previous = previous.and_then(|before| {
            let opened = self.open(&id, before.version, "tokens", sealed_before);
            row::set_before(&id, opened, before.until)
        });
        Ok(at_rest.around(tokens, previous).map_err(|odd| self.odd(&id, odd))?)
    }

    pub(super) fn overview(&self, row: &Row) -> Result<Overview, Failure> {
        let at_rest = Stored::read(row)?.at_rest;
        let id = at_rest.id.clone();
        Ok(at_rest.overview().map_err(|odd| self.odd(&id, odd))?)
    }
}

impl Stored {
    pub(super) fn read(row: &Row) -> Result<Self, Failure> {
        let instant = |column: &str| Ok::<_, Failure>(Timestamp::from_millis(row.try_get(column)?));
        let lease: (Option<String>, Option<i64>) =
            (row.try_get("lease_flight")?, row.try_get("lease_until")?);
        let health: Option<String> = row.try_get("check_health")?;
        let last_check = row::last_check(
            row.try_get("checked_at")?,
            health.as_deref(),
            row.try_get("check_code")?,
            row.try_get("check_said")?,
        );
        let before: (Option<i64>, Option<i64>) =
            (row.try_get("previous_epoch")?, row.try_get("previous_generation")?);
        let until: Option<i64> = row.try_get("previous_until")?;
        let previous = before.0.zip(before.1).map(|(epoch, generation)| Before {
            version: version(epoch, generation),
            until: Timestamp::from_millis(until.unwrap_or_default()),
        });
        let company: Option<String> = row.try_get("company")?;
        let intent_since: Option<i64> = row.try_get("intent_since")?;
        let attempts: Option<i64> = row.try_get("attempts")?;
        Ok(Self {
            at_rest: InstallationAtRest {
                id: whose(row)?,
                version: version(row.try_get("epoch")?, row.try_get("generation")?),
                connection: ConnectionAtRest {
                    state: row.try_get("state")?,
                    since: row.try_get("since")?,
                    attempts: attempts.map(|count| u32::try_from(count).unwrap_or(u32::MAX)),
                    retry_at: row.try_get("retry_at")?,
                    said: row.try_get("said")?,
                },
                issued_at: instant("issued_at")?,
                expires_at: instant("expires_at")?,
                scopes: row.try_get("scopes")?,
                company: company.and_then(|id| id.parse().ok()),
                intent: intent_since.map(|since| Intent { since: Timestamp::from_millis(since) }),
                last_check,
                connected_at: instant("connected_at")?,
                name: row.try_get("name")?,
                unlisted_at: row.try_get::<_, Option<i64>>("unlisted_at")?.map(Timestamp::from_millis),
            },
            previous,
            intent_at: row.try_get("intent_at")?,
            lease: lease.0.zip(lease.1),
        })
    }
}

/// When a refresh would be due if no intent were open.
pub(super) fn due_without_intent(seen: &Installation, connection: &Connection) -> Option<i64> {
    let overview = Overview { connection: connection.clone(), intent: None, ..seen.overview() };
    overview.refresh_due_at().map(Timestamp::as_millis)
}

/// What a text is looked for in, beside the id.
pub(super) fn sought(name: Option<&str>) -> String {
    name.unwrap_or_default().to_lowercase()
}

pub(super) fn whose(row: &Row) -> Result<InstallationId, Failure> {
    let (kind, id): (String, String) = (row.try_get("kind")?, row.try_get("id")?);
    InstallationId::from_parts(&kind, &id).map_err(|error| {
        StoreError::Unreadable { place: format!("{kind} {id}"), why: error.to_string() }.into()
    })
}

/// What was altered to be negative opens no seal anyway.
pub(super) fn version(epoch: i64, generation: i64) -> Version {
    Version { epoch: epoch.unsigned_abs(), generation: generation.unsigned_abs() }
}

/// A counter as a database's integer; none gets near the limit.
pub(super) fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

pub(super) fn limited(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
