//! Leases, commits and settlements: one statement each, so that each is one round trip and one flush.
//!
//! Leases go by the database's clock, which all keepers share; what they are told of it is put into
//! the clock of whoever asks.

use std::collections::HashMap;
use std::sync::Mutex;

use tokens::store::{Claim, ClaimRequest, Commit, Committed, FlightId, IntentThen, LEASE};
use tokens::{CompanyId, Connection, Installation, InstallationId, StoreError, Timestamp};
use tokio_postgres::types::Type;

use super::pool::Failure;
use super::rows::{self, COLUMNS, Stored, WITH_SETS, due_without_intent, number};
use super::{PostgresStore, settings};
use crate::change::{self, Outcome};
use crate::data_file::held;
use crate::row::{self, ConnectionAtRest, InstallationAtRest};

/// The database's clock in milliseconds, at the moment at which it is asked.
const CLOCK: &str = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint";

/// The installations that flights of this process fly for, as they were when they took off: nobody
/// has to look again to compare.
#[derive(Default)]
pub(super) struct TakenOff(Mutex<HashMap<FlightId, Installation>>);

/// Beyond so many, a look is cheaper than the memory.
const REMEMBERED: usize = 512;

impl TakenOff {
    fn remember(&self, flight: &FlightId, installation: &Installation) {
        let mut all = held(&self.0);
        if all.len() < REMEMBERED || all.contains_key(flight) {
            all.insert(flight.clone(), installation.clone());
        }
    }

    fn take(&self, flight: &FlightId) -> Option<Installation> {
        held(&self.0).remove(flight)
    }

    fn of(&self, flight: &FlightId) -> Option<Installation> {
        held(&self.0).get(flight).cloned()
    }

    pub(super) fn forget(&self, flight: &FlightId) {
        held(&self.0).remove(flight);
    }
}

impl PostgresStore {
    pub(super) async fn claimed(&self, claim: &ClaimRequest) -> Result<Claim, Failure> {
        // Those who wait for another's flight ask again and again: no lock for that. And nothing is
        // sent for a set that would not open: better to learn it now.
        let seen = match self.look(claim).await? {
            Ok(seen) => seen,
            Err(refusal) => return Ok(refusal),
        };
        let sql = format!(
            "WITH clock AS MATERIALIZED (SELECT {CLOCK} AS now)
            UPDATE @.installations SET
                intent_since = coalesce(intent_since, $6), intent_at = coalesce(intent_at, now),
                lease_flight = $5, lease_until = now + $7, refresh_due_at = $8
            FROM clock
            WHERE kind = $1 AND id = $2 AND epoch = $3 AND generation = $4
                AND (lease_flight IS NULL OR lease_flight = $5 OR lease_until <= now
                    OR lease_until > now + 2 * $7)
                AND NOT EXISTS (SELECT FROM @.meta WHERE name = 'standby')
                AND (SELECT convert_from(value, 'UTF8') FROM @.meta WHERE name = 'key_id') = ANY($9)
            RETURNING intent_at, now"
        );
        let (epoch, generation) = (number(claim.seen.epoch), number(claim.seen.generation));
        let (now, lease) = (claim.now.as_millis(), lease());
        let taken = self
            .pool
            .query_opt(
                &self.pool.sql(&sql),
                &[
                    (&claim.id.kind(), Type::TEXT),
                    (&claim.id.as_str(), Type::TEXT),
                    (&epoch, Type::INT8),
                    (&generation, Type::INT8),
                    (&claim.flight.0, Type::TEXT),
                    (&now, Type::INT8),
                    (&lease, Type::INT8),
                    // Due at once from now on, for whoever finds that this flight has not ended.
                    (&i64::MIN, Type::INT8),
                    // What would be saved under an older key might be lost with that.
                    (&self.vault.sealer.ids(), Type::TEXT_ARRAY),
                ],
            )
            .await?;
        if let Some(row) = taken {
            self.taken_off.remember(&claim.flight, &seen);
            let (began, at): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
            let since = if began == at { claim.now } else { ago(claim.now, began, at) };
            return Ok(Claim::Ours { since });
        }
        settings::newest_key(&self.pool, &self.vault.sealer).await?;
        if let Some(why) = settings::standby(&self.pool).await? {
            return Err(StoreError::Standby { place: self.pool.place().to_owned(), why }.into());
        }
        // Someone else was faster.
        match self.look(claim).await? {
            Ok(_) => Ok(Claim::Taken { since: claim.now }),
            Err(refusal) => Ok(refusal),
        }
    }

    /// The installation that a claim may have, or why it may not.
    async fn look(&self, claim: &ClaimRequest) -> Result<Result<Installation, Claim>, Failure> {
        let sql =
            format!("SELECT (f.at_rest).*, f.sealed, f.sealed_before, {CLOCK} AS now FROM @.found($1, $2) f");
        let id = &claim.id;
        let values: super::pool::Values<'_> = &[(&id.kind(), Type::TEXT), (&id.as_str(), Type::TEXT)];
        let Some(row) = self.pool.query_opt(&self.pool.sql(&sql), values).await? else {
            return Ok(Err(Claim::Gone));
        };
        let stored = Stored::read(&row)?;
        if stored.at_rest.version == claim.seen {
            let now: i64 = row.try_get("now")?;
            // A lease that ends later than any can is from a clock that has been set back since.
            let in_force = |until: i64| now < until && until <= now + 2 * lease();
            let other =
                stored.lease.is_some_and(|(flight, until)| flight != claim.flight.0 && in_force(until));
            if other {
                let since = stored.intent_at.map_or(claim.now, |began| ago(claim.now, began, now));
                return Ok(Err(Claim::Taken { since }));
            }
        }
        let installation = self.vault.installation(&row)?;
        match installation.version == claim.seen {
            true => Ok(Ok(installation)),
            false => Ok(Err(Claim::Moved(Box::new(installation)))),
        }
    }

    pub(super) async fn renewed(&self, claim: &ClaimRequest) -> Result<(), Failure> {
        let sql = format!(
            "UPDATE @.installations SET lease_until = {CLOCK} + $4
            WHERE kind = $1 AND id = $2 AND lease_flight = $3 RETURNING true"
        );
        let id = &claim.id;
        let renewed = self
            .pool
            .query_opt(
                &self.pool.sql(&sql),
                &[
                    (&id.kind(), Type::TEXT),
                    (&id.as_str(), Type::TEXT),
                    (&claim.flight.0, Type::TEXT),
                    (&lease(), Type::INT8),
                ],
            )
            .await?;
        match renewed {
            Some(_) => Ok(()),
            None => Err(StoreError::LeaseLost.into()),
        }
    }

    pub(super) async fn committed(&self, commit: &Commit) -> Result<Committed, Failure> {
        // What was known at take-off does for the comparison, unless the row has moved on since.
        if let Some(seen) = self.taken_off.take(&commit.flight)
            && seen.id == commit.id
            && let Outcome::Changed(installation) = change::commit(seen.clone(), commit, &self.vault.sealer)
            && let Some(saved) = self.replace(commit, &seen, *installation).await?
        {
            return Ok(saved);
        }
        loop {
            let Some(found) = self.found(&commit.id).await? else { return Ok(Committed::Gone) };
            let committed = match change::commit(found.clone(), commit, &self.vault.sealer) {
                Outcome::Changed(installation) => match self.replace(commit, &found, *installation).await? {
                    Some(saved) => return Ok(saved),
                    None => {
                        settings::newest_key(&self.pool, &self.vault.sealer).await?;
                        continue;
                    }
                },
                Outcome::AlreadySo(installation) => Committed::Saved(installation),
                Outcome::Moved(installation) => Committed::Superseded(installation),
            };
            self.let_go(&commit.id, &commit.flight).await?;
            return Ok(committed);
        }
    }

    /// Puts the next generation in the place of `seen`, if that is still there: with its set, without
    /// the one before the last, and without the lease.
    async fn replace(
        &self,
        commit: &Commit,
        seen: &Installation,
        next: Installation,
    ) -> Result<Option<Committed>, Failure> {
        let id = &next.id;
        let sealed = self.vault.seal(id, next.version, "tokens", &next.tokens)?;
        let sql = "SELECT * FROM @.replace($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)";
        let number_of = |version: tokens::Version| (number(version.epoch), number(version.generation));
        let ((epoch, generation), (old_epoch, old_generation)) =
            (number_of(next.version), number_of(seen.version));
        let until = next.previous.as_ref().map(|previous| previous.keep_until.as_millis());
        let (issued_at, expires_at) = (next.tokens.issued_at.as_millis(), next.tokens.expires_at.as_millis());
        let company = next.tokens.company.as_ref().map(CompanyId::as_str);
        let due = next.overview().refresh_due_at().map(Timestamp::as_millis);
        let row = self
            .pool
            .query_opt(
                &self.pool.sql(sql),
                &[
                    (&id.kind(), Type::TEXT),
                    (&id.as_str(), Type::TEXT),
                    (&epoch, Type::INT8),
                    (&generation, Type::INT8),
                    (&old_epoch, Type::INT8),
                    (&old_generation, Type::INT8),
                    (&until, Type::INT8),
                    (&issued_at, Type::INT8),
                    (&expires_at, Type::INT8),
                    (&next.tokens.scopes, Type::TEXT),
                    (&company, Type::TEXT),
                    (&due, Type::INT8),
                    (&sealed.key_id, Type::TEXT),
                    (&sealed.bytes, Type::BYTEA),
                    (&self.vault.sealer.ids(), Type::TEXT_ARRAY),
                ],
            )
            .await;
        let row = match row {
            Ok(row) => row,
            // The same question again: what rests there says whether it was done.
            Err(failure) if failure.leaves_unknown() => match self.found(&commit.id).await {
                Ok(Some(found))
                    if found.version == next.version && change::is_same(&found.tokens, &next.tokens) =>
                {
                    self.hearing.tell();
                    return Ok(Some(Committed::Saved(Box::new(found))));
                }
                _ => return Err(failure),
            },
            Err(failure) => return Err(failure),
        };
        let Some(row) = row else { return Ok(None) };
        self.hearing.tell();
        // What others noted meanwhile.
        let InstallationAtRest { last_check, name, unlisted_at, connected_at, .. } =
            Stored::read(&row)?.at_rest;
        Ok(Some(Committed::Saved(Box::new(Installation {
            last_check,
            name,
            unlisted_at,
            connected_at,
            ..next
        }))))
    }

    async fn let_go(&self, id: &InstallationId, flight: &FlightId) -> Result<(), Failure> {
        let sql = "UPDATE @.installations SET lease_flight = NULL, lease_until = NULL
            WHERE kind = $1 AND id = $2 AND lease_flight = $3";
        let values: super::pool::Values<'_> =
            &[(&id.kind(), Type::TEXT), (&id.as_str(), Type::TEXT), (&flight.0, Type::TEXT)];
        self.pool.query(&self.pool.sql(sql), values).await?;
        Ok(())
    }

    pub(super) async fn settled(
        &self,
        claim: &ClaimRequest,
        connection: &Connection,
        intent: IntentThen,
    ) -> Result<(), Failure> {
        let seen = match self.taken_off.of(&claim.flight) {
            Some(seen) if seen.id == claim.id && seen.version == claim.seen => seen,
            _ => match self.found(&claim.id).await? {
                Some(found) if found.version == claim.seen => found,
                _ => return Ok(()),
            },
        };
        let due = due_without_intent(&seen, connection);
        let at_rest = ConnectionAtRest::from(connection);
        let attempts = at_rest.attempts.map(i64::from);
        let ended = intent == IntentThen::Ended;
        let (epoch, generation) = (number(claim.seen.epoch), number(claim.seen.generation));
        // Even one whose time is up: what it left open is for whoever takes over from it.
        let sql = "UPDATE @.installations SET
                state = $6, since = $7, attempts = $8, retry_at = $9, said = $10,
                refresh_due_at = CASE WHEN $11 OR intent_since IS NULL THEN $12 ELSE $13 END,
                intent_since = CASE WHEN $11 THEN NULL ELSE intent_since END,
                intent_at = CASE WHEN $11 THEN NULL ELSE intent_at END,
                lease_flight = NULL, lease_until = NULL, changed = pg_current_xact_id()::text::bigint
            WHERE kind = $1 AND id = $2 AND epoch = $3 AND generation = $4
                AND (lease_flight IS NULL OR lease_flight = $5) RETURNING true";
        let settled = self
            .pool
            .query_opt(
                &self.pool.sql(sql),
                &[
                    (&claim.id.kind(), Type::TEXT),
                    (&claim.id.as_str(), Type::TEXT),
                    (&epoch, Type::INT8),
                    (&generation, Type::INT8),
                    (&claim.flight.0, Type::TEXT),
                    (&at_rest.state, Type::TEXT),
                    (&at_rest.since, Type::INT8),
                    (&attempts, Type::INT8),
                    (&at_rest.retry_at, Type::INT8),
                    (&at_rest.said, Type::TEXT),
                    (&ended, Type::BOOL),
                    (&due, Type::INT8),
                    (&i64::MIN, Type::INT8),
                ],
            )
            .await?;
        self.taken_off.forget(&claim.flight);
        if settled.is_some() {
            self.hearing.tell();
        }
        Ok(())
    }

    pub(super) async fn found(&self, id: &InstallationId) -> Result<Option<Installation>, Failure> {
        let sql = "SELECT (f.at_rest).*, f.sealed, f.sealed_before FROM @.found($1, $2) f";
        let values: super::pool::Values<'_> = &[(&id.kind(), Type::TEXT), (&id.as_str(), Type::TEXT)];
        let row = self.pool.query_opt(&self.pool.sql(sql), values).await?;
        row.map(|row| self.vault.installation(&row)).transpose()
    }

    pub(super) async fn listed(
        &self,
        after: Option<&InstallationId>,
        limit: usize,
    ) -> Result<Vec<Installation>, Failure> {
        let mut found = Vec::new();
        for (kind, after) in row::kinds_behind(after) {
            let sql = format!(
                "SELECT {COLUMNS}, s.sealed, p.sealed AS sealed_before
                FROM @.installations i {WITH_SETS} WHERE i.kind = $1 AND i.id > $2 ORDER BY i.id LIMIT $3"
            );
            let left = rows::limited(limit - found.len());
            let values: super::pool::Values<'_> =
                &[(&kind, Type::TEXT), (&after, Type::TEXT), (&left, Type::INT8)];
            for row in self.pool.query(&self.pool.sql(&sql), values).await? {
                found.push(self.vault.installation(&row)?);
            }
        }
        Ok(found)
    }
}

fn lease() -> i64 {
    i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX)
}

/// What was at `began` by a clock that shows `at`, by the caller's clock, and in the past.
fn ago(now: Timestamp, began: i64, at: i64) -> Timestamp {
    Timestamp::from_millis(now.as_millis().saturating_sub(at.saturating_sub(began).max(1)))
}
