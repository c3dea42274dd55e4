//! One row for each installation.

use rusqlite::types::Value;
use rusqlite::{OptionalExtension as _, Row, named_params};
use tokens::store::{Claim, ClaimRequest, Commit, Committed, IntentThen, LEASE};
use tokens::{
    Connection, Health, Installation, InstallationId, Intent, LastCheck, StoreError, Timestamp, TokenSet,
    Version,
};

use super::database::{Failure, Rows};
use crate::change::{self, Outcome};
use crate::row::{self, ConnectionAtRest, Odd, PreviousAtRest, TokensAtRest};
use crate::seal::Place;

/// The columns that a reader wants.
const COLUMNS: &str = "kind, id, epoch, generation, state, since, attempts, retry_at, said, tokens, previous,
    intent_since, lease_flight, lease_until, checked_at, check_health, check_code, check_said";

/// A row as it lies there, sealed.
struct Stored {
    id: InstallationId,
    version: Version,
    connection: ConnectionAtRest,
    tokens: Vec<u8>,
    previous: Option<Vec<u8>>,
    intent_since: Option<i64>,
    lease: Option<(String, i64)>,
    last_check: Option<LastCheck>,
}

impl Stored {
    fn read(row: &Row<'_>) -> Result<Self, rusqlite::Error> {
        let (kind, id): (String, String) = (row.get("kind")?, row.get("id")?);
        let id = InstallationId::from_parts(&kind, &id).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Text, error.into())
        })?;
        let lease: (Option<String>, Option<i64>) = (row.get("lease_flight")?, row.get("lease_until")?);
        let health: Option<String> = row.get("check_health")?;
        let last_check =
            match (row.get::<_, Option<i64>>("checked_at")?, health.as_deref().and_then(Health::from_word)) {
                (Some(at), Some(health)) => Some(LastCheck {
                    at: Timestamp::from_millis(at),
                    health,
                    code: row.get("check_code")?,
                    said: row.get("check_said")?,
                }),
                _ => None,
            };
        Ok(Self {
            id,
            version: Version {
                epoch: counter(row.get("epoch")?),
                generation: counter(row.get("generation")?),
            },
            connection: ConnectionAtRest {
                state: row.get("state")?,
                since: row.get("since")?,
                attempts: row.get("attempts")?,
                retry_at: row.get("retry_at")?,
                said: row.get("said")?,
            },
            tokens: row.get("tokens")?,
            previous: row.get("previous")?,
            intent_since: row.get("intent_since")?,
            lease: lease.0.zip(lease.1),
            last_check,
        })
    }

    /// Whose lease is in force at `now`. One that ends later than any lease can is from a clock that
    /// has been set back since, and holds nobody up.
    fn leased_to(&self, now: Timestamp) -> Option<&str> {
        let (flight, until) = self.lease.as_ref()?;
        let until = Timestamp::from_millis(*until);
        (now < until && until <= now + LEASE + LEASE).then_some(flight)
    }
}

impl Rows<'_> {
    fn place(&self, id: &InstallationId) -> String {
        format!("{}: {id}", self.path.display())
    }

    fn odd(&self, id: &InstallationId, odd: Odd) -> StoreError {
        StoreError::Unreadable { place: self.place(id), why: odd.0 }
    }

    fn find(&self, id: &InstallationId) -> Result<Option<Stored>, Failure> {
        let sql = format!("SELECT {COLUMNS} FROM installations WHERE kind = ?1 AND id = ?2");
        let mut statement = self.transaction.prepare_cached(&sql)?;
        Ok(statement.query_row((id.kind(), id.as_str()), Stored::read).optional()?)
    }

    fn all(&self) -> Result<Vec<Stored>, Failure> {
        // Locations come before companies, as their ids compare.
        let sql = format!("SELECT {COLUMNS} FROM installations ORDER BY kind DESC, id");
        let mut statement = self.transaction.prepare_cached(&sql)?;
        let rows = statement.query_map([], Stored::read)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Opens what is sealed in a row.
    fn open(&self, stored: Stored) -> Result<Installation, StoreError> {
        let Stored { id, version, .. } = &stored;
        let unsealed = |field, sealed: &[u8]| {
            let place = Place::field(self.store_id, id, *version, field);
            self.sealer.open(&place, sealed).map_err(|why| why.at(self.place(id)))
        };
        let odd = |odd| self.odd(id, odd);
        let tokens = unsealed("tokens", &stored.tokens)?;
        let tokens = row::from_bytes(&tokens).and_then(TokensAtRest::into_tokens).map_err(odd)?;
        let previous = match &stored.previous {
            Some(sealed) => {
                let plain = unsealed("previous", sealed)?;
                Some(row::from_bytes(&plain).and_then(PreviousAtRest::into_previous).map_err(odd)?)
            }
            None => None,
        };
        let connection = stored.connection.clone().into_connection().map_err(odd)?;
        let intent = stored.intent_since.map(|since| Intent { since: Timestamp::from_millis(since) });
        Ok(Installation {
            id: stored.id,
            version: stored.version,
            tokens,
            previous,
            connection,
            intent,
            last_check: stored.last_check,
        })
    }

    /// The row that a claim may have, or why it may not.
    fn claimable(&self, claim: &ClaimRequest) -> Result<Result<Stored, Claim>, Failure> {
        let Some(stored) = self.find(&claim.id)? else { return Ok(Err(Claim::Gone)) };
        if stored.version != claim.seen {
            return Ok(Err(Claim::Moved(Box::new(self.open(stored)?))));
        }
        if stored.leased_to(claim.now).is_some_and(|flight| flight != claim.flight.0) {
            let since = stored.intent_since.map_or(claim.now, Timestamp::from_millis);
            return Ok(Err(Claim::Taken { since }));
        }
        Ok(Ok(stored))
    }

    fn sealed(&self, installation: &Installation, field: &str, plain: &[u8]) -> Result<Vec<u8>, StoreError> {
        let place = Place::field(self.store_id, &installation.id, installation.version, field);
        let missing = || StoreError::KeyMissing { place: self.path.display().to_string() };
        self.sealer.seal(&place, plain).ok_or_else(missing)
    }

    /// Begins a new epoch with these tokens, above whatever was there before, removed or not.
    pub(super) fn connect(
        &self,
        id: &InstallationId,
        tokens: &TokenSet,
        now: Timestamp,
    ) -> Result<Installation, Failure> {
        let found = self.find(id)?.map(|stored| self.open(stored)).transpose()?;
        match change::connect(found, id, tokens, now) {
            Outcome::Changed(mut installation) => {
                if let Some(removed) = self.version_when_removed(id)? {
                    let Version { epoch, generation } = removed;
                    installation.version = Version { epoch: epoch + 1, generation: generation + 1 };
                    self.no_longer_removed(id)?;
                }
                self.save(&installation)?;
                Ok(*installation)
            }
            Outcome::AlreadySo(installation) | Outcome::Moved(installation) => Ok(*installation),
        }
    }

    /// Writes a row anew: with its tokens, and so without intent and lease.
    fn save(&self, installation: &Installation) -> Result<(), Failure> {
        let tokens = &installation.tokens;
        let sealed = self.sealed(installation, "tokens", &row::to_bytes(&TokensAtRest::from(tokens)))?;
        let previous = installation
            .previous
            .as_ref()
            .map(|previous| {
                self.sealed(installation, "previous", &row::to_bytes(&PreviousAtRest::from(previous)))
            })
            .transpose()?;
        let connection = ConnectionAtRest::from(&installation.connection);
        let fingerprint = tokens.refresh_token().map(|token| self.sealer.fingerprint(token).0.to_vec());
        let mut statement = self.transaction.prepare_cached(
            "INSERT INTO installations (kind, id, epoch, generation, state, since, attempts, retry_at, said,
                 issued_at, expires_at, scopes, fingerprint, tokens, previous, changed)
             VALUES (:kind, :id, :epoch, :generation, :state, :since, :attempts, :retry_at, :said,
                 :issued_at, :expires_at, :scopes, :fingerprint, :tokens, :previous, :changed)
             ON CONFLICT (kind, id) DO UPDATE SET
                 epoch = excluded.epoch, generation = excluded.generation, state = excluded.state,
                 since = excluded.since, attempts = excluded.attempts, retry_at = excluded.retry_at,
                 said = excluded.said, issued_at = excluded.issued_at, expires_at = excluded.expires_at,
                 scopes = excluded.scopes, fingerprint = excluded.fingerprint, tokens = excluded.tokens,
                 previous = excluded.previous, changed = excluded.changed, intent_since = NULL, intent_flight = NULL,
                 lease_flight = NULL, lease_until = NULL",
        )?;
        statement.execute(named_params! {
            ":kind": installation.id.kind(),
            ":id": installation.id.as_str(),
            ":epoch": number(installation.version.epoch),
            ":generation": number(installation.version.generation),
            ":state": connection.state,
            ":since": connection.since,
            ":attempts": connection.attempts,
            ":retry_at": connection.retry_at,
            ":said": connection.said,
            ":issued_at": tokens.issued_at.as_millis(),
            ":expires_at": tokens.expires_at.as_millis(),
            ":scopes": tokens.scopes,
            ":fingerprint": fingerprint,
            ":tokens": sealed,
            ":previous": previous,
            ":changed": self.next_change()?,
        })?;
        Ok(())
    }
}

/// The inverse of `number`; what was altered to be negative opens no seal anyway.
fn counter(number: i64) -> u64 {
    number.unsigned_abs()
}

/// A counter as SQLite's integer; none gets near the limit.
fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Seals every row under the current key, and takes its fingerprint anew; the rest stays as it is.
pub(super) fn seal_anew(rows: &Rows<'_>) -> Result<usize, Failure> {
    let all = rows.all()?;
    let count = all.len();
    for stored in all {
        let installation = rows.open(stored)?;
        let tokens = &installation.tokens;
        let sealed = rows.sealed(&installation, "tokens", &row::to_bytes(&TokensAtRest::from(tokens)))?;
        let previous = match &installation.previous {
            Some(previous) => Some(rows.sealed(
                &installation,
                "previous",
                &row::to_bytes(&PreviousAtRest::from(previous)),
            )?),
            None => None,
        };
        let fingerprint = tokens.refresh_token().map(|token| rows.sealer.fingerprint(token).0.to_vec());
        let mut statement = rows.transaction.prepare_cached(
            "UPDATE installations SET tokens = ?3, previous = ?4, fingerprint = ?5 WHERE kind = ?1 AND id = ?2",
        )?;
        let id = &installation.id;
        statement.execute((id.kind(), id.as_str(), sealed, previous, fingerprint))?;
    }
    rows.seal_rest_anew()?;
    Ok(count)
}

impl Rows<'_> {
    pub(super) fn load(&self, id: &InstallationId) -> Result<Option<Installation>, Failure> {
        Ok(self.find(id)?.map(|stored| self.open(stored)).transpose()?)
    }

    pub(super) fn list(&self) -> Result<Vec<Installation>, Failure> {
        self.all()?.into_iter().map(|stored| self.open(stored).map_err(Failure::from)).collect()
    }

    /// What there is to say of a claim without changing anything.
    pub(super) fn refusal(&self, claim: &ClaimRequest) -> Result<Option<Claim>, Failure> {
        Ok(self.claimable(claim)?.err())
    }

    pub(super) fn claim(&self, claim: &ClaimRequest) -> Result<Claim, Failure> {
        let stored = match self.claimable(claim)? {
            Ok(stored) => stored,
            Err(answer) => return Ok(answer),
        };
        let since = stored.intent_since.map_or(claim.now, Timestamp::from_millis);
        // Nothing is sent for a row that would not open: better to learn it now.
        self.open(stored)?;
        let mut statement = self.transaction.prepare_cached(
            "UPDATE installations SET intent_since = ?3, intent_flight = ?4, lease_flight = ?4, lease_until = ?5
             WHERE kind = ?1 AND id = ?2",
        )?;
        statement.execute((
            claim.id.kind(),
            claim.id.as_str(),
            since.as_millis(),
            &claim.flight.0,
            (claim.now + LEASE).as_millis(),
        ))?;
        Ok(Claim::Ours { since })
    }

    pub(super) fn renew(&self, claim: &ClaimRequest) -> Result<(), Failure> {
        let mut statement = self.transaction.prepare_cached(
            "UPDATE installations SET lease_until = ?4 WHERE kind = ?1 AND id = ?2 AND lease_flight = ?3",
        )?;
        let until = (claim.now + LEASE).as_millis();
        match statement.execute((claim.id.kind(), claim.id.as_str(), &claim.flight.0, until))? {
            0 => Err(StoreError::LeaseLost.into()),
            _ => Ok(()),
        }
    }

    pub(super) fn commit(&self, commit: &Commit) -> Result<Committed, Failure> {
        let Some(stored) = self.find(&commit.id)? else { return Ok(Committed::Gone) };
        let committed = match change::commit(self.open(stored)?, commit, self.sealer) {
            Outcome::Changed(installation) => {
                self.save(&installation)?;
                Committed::Saved(installation)
            }
            Outcome::AlreadySo(installation) => Committed::Saved(installation),
            Outcome::Moved(installation) => Committed::Superseded(installation),
        };
        let mut statement = self.transaction.prepare_cached(
            "UPDATE installations SET lease_flight = NULL, lease_until = NULL
             WHERE kind = ?1 AND id = ?2 AND lease_flight = ?3",
        )?;
        statement.execute((commit.id.kind(), commit.id.as_str(), &commit.flight.0))?;
        Ok(committed)
    }

    pub(super) fn settle(
        &self,
        claim: &ClaimRequest,
        connection: &Connection,
        intent: IntentThen,
    ) -> Result<(), Failure> {
        let Some(stored) = self.find(&claim.id)? else { return Ok(()) };
        // Even one whose time is up: what it left open is for whoever takes over from it.
        let taken_over = stored.lease.as_ref().is_some_and(|(flight, _)| *flight != claim.flight.0);
        if stored.version != claim.seen || taken_over {
            return Ok(());
        }
        let connection = ConnectionAtRest::from(connection);
        let intent_since = match intent {
            IntentThen::Ended => Value::Null,
            IntentThen::StaysOpen => stored.intent_since.map_or(Value::Null, Value::Integer),
        };
        let mut statement = self.transaction.prepare_cached(
            "UPDATE installations SET state = :state, since = :since, attempts = :attempts,
                 retry_at = :retry_at, said = :said, intent_since = :intent_since,
                 changed = :changed, lease_flight = NULL, lease_until = NULL
             WHERE kind = :kind AND id = :id",
        )?;
        statement.execute(named_params! {
            ":kind": claim.id.kind(),
            ":id": claim.id.as_str(),
            ":state": connection.state,
            ":since": connection.since,
            ":attempts": connection.attempts,
            ":retry_at": connection.retry_at,
            ":said": connection.said,
            ":intent_since": intent_since,
            ":changed": self.next_change()?,
        })?;
        Ok(())
    }

    pub(super) fn note_check(&self, id: &InstallationId, check: &LastCheck) -> Result<(), Failure> {
        let mut statement = self.transaction.prepare_cached(
            "UPDATE installations SET checked_at = ?3, check_health = ?4, check_code = ?5, check_said = ?6
             WHERE kind = ?1 AND id = ?2",
        )?;
        let (at, health) = (check.at.as_millis(), check.health.as_str());
        statement.execute((id.kind(), id.as_str(), at, health, &check.code, &check.said))?;
        Ok(())
    }
}
