//! Grants that come and go: connected, adopted, parked, approved, taken out of service and back.

use std::time::Duration;

use tokens::store::{ListedNote, Parked, Removed};
use tokens::{CompanyId, Installation, InstallationId, LastCheck, Timestamp, TokenSet, Version};
use tokio_postgres::types::Type;

use super::pool::{Failure, Transaction, Values};
use super::rows::{COLUMNS, NO_VERSION, WITH_SETS, number, sought, version, whose};
use super::{PostgresStore, settings};
use crate::change::{self, Outcome};
use crate::row::{self, ConnectionAtRest};

/// How long what was removed is kept.
const KEEP_REMOVED: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// So often a change is tried again that met another one in the middle.
const TRIES: usize = 8;

/// Does something again that another transaction was in the way of.
macro_rules! again {
    ($once:expr) => {{
        let mut tries = 0;
        loop {
            tries += 1;
            let done: Result<_, Failure> = $once.await;
            match done {
                Err(failure) if tries < TRIES && failure.is_worth_another_try() => {}
                done => break done,
            }
        }
    }};
}

impl PostgresStore {
    async fn admit(&self, transaction: &Transaction) -> Result<(), Failure> {
        settings::admit(transaction, &self.pool, &self.vault.sealer).await
    }

    /// The installation, which nobody else changes until the transaction ends.
    async fn held(
        &self,
        transaction: &Transaction,
        id: &InstallationId,
    ) -> Result<Option<Installation>, Failure> {
        let lock = "SELECT true FROM @.installations WHERE kind = $1 AND id = $2 FOR UPDATE";
        let whose: Values<'_> = &[(&id.kind(), Type::TEXT), (&id.as_str(), Type::TEXT)];
        if transaction.opt(&self.pool.sql(lock), whose).await?.is_none() {
            return Ok(None);
        }
        let sql = format!(
            "SELECT {COLUMNS}, s.sealed, p.sealed AS sealed_before
            FROM @.installations i {WITH_SETS} WHERE i.kind = $1 AND i.id = $2"
        );
        let row = transaction.opt(&self.pool.sql(&sql), whose).await?;
        row.map(|row| self.vault.installation(&row)).transpose()
    }

    pub(super) async fn connected(
        &self,
        id: &InstallationId,
        tokens: &TokenSet,
        now: Timestamp,
    ) -> Result<Installation, Failure> {
        again!(async {
            let transaction = self.pool.transaction().await?;
            self.admit(&transaction).await?;
            let installation = self.connect_in(&transaction, id, tokens, now).await?;
            self.end(transaction).await?;
            Ok(installation)
        })
    }

    async fn end(&self, transaction: Transaction) -> Result<(), Failure> {
        // Few of these come at once: the word goes with them.
        transaction.ask("SELECT pg_notify($1, '')", &[(&self.pool.schema(), Type::TEXT)]).await?;
        transaction.commit().await?;
        self.hearing.hear();
        Ok(())
    }

    /// Begins a new epoch with these tokens, above whatever was there before, removed or not.
    async fn connect_in(
        &self,
        transaction: &Transaction,
        id: &InstallationId,
        tokens: &TokenSet,
        now: Timestamp,
    ) -> Result<Installation, Failure> {
        let found = self.held(transaction, id).await?;
        let before = found.as_ref().map(|found| found.version);
        match change::connect(found, id, tokens, now) {
            Outcome::Changed(mut installation) => {
                let sql = "DELETE FROM @.removed WHERE kind = $1 AND id = $2 RETURNING epoch, generation";
                let whose: Values<'_> = &[(&id.kind(), Type::TEXT), (&id.as_str(), Type::TEXT)];
                if let Some(row) = transaction.opt(&self.pool.sql(sql), whose).await? {
                    let removed = version(row.try_get(0)?, row.try_get(1)?);
                    installation.version =
                        Version { epoch: removed.epoch + 1, generation: removed.generation + 1 };
                }
                self.save(transaction, &installation, before).await?;
                Ok(*installation)
            }
            Outcome::AlreadySo(installation) | Outcome::Moved(installation) => Ok(*installation),
        }
    }

    /// Writes a row anew, with its sets, over what was there.
    async fn save(
        &self,
        transaction: &Transaction,
        installation: &Installation,
        before: Option<Version>,
    ) -> Result<(), Failure> {
        let Installation { id, version, tokens, previous, .. } = installation;
        // Sealed anew: what was the present set may now be the one before, or the other way round.
        let earlier =
            before.unwrap_or(Version { generation: version.generation.saturating_sub(1), ..*version });
        let sets = "DELETE FROM @.sets WHERE kind = $1 AND id = $2";
        let whose: Values<'_> = &[(&id.kind(), Type::TEXT), (&id.as_str(), Type::TEXT)];
        transaction.ask(&self.pool.sql(sets), whose).await?;
        self.put_set(transaction, id, *version, tokens).await?;
        if let Some(previous) = previous {
            self.put_set(transaction, id, earlier, &previous.tokens).await?;
        }
        let sql = "INSERT INTO @.installations (kind, id, epoch, generation, previous_epoch, previous_generation,
                previous_until, state, since, attempts, retry_at, said, issued_at, expires_at, scopes, company,
                refresh_due_at, checked_at, check_health, check_code, check_said, connected_at, name, sought,
                unlisted_at, changed)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20,
                $21, $22, $23, $24, $25, pg_current_xact_id()::text::bigint)";
        let over = "ON CONFLICT (kind, id) DO UPDATE SET
                epoch = excluded.epoch, generation = excluded.generation,
                previous_epoch = excluded.previous_epoch, previous_generation = excluded.previous_generation,
                previous_until = excluded.previous_until, state = excluded.state, since = excluded.since,
                attempts = excluded.attempts, retry_at = excluded.retry_at, said = excluded.said,
                issued_at = excluded.issued_at, expires_at = excluded.expires_at, scopes = excluded.scopes,
                company = excluded.company, refresh_due_at = excluded.refresh_due_at,
                connected_at = excluded.connected_at, name = excluded.name, sought = excluded.sought,
                unlisted_at = excluded.unlisted_at, changed = excluded.changed,
                intent_since = NULL, intent_at = NULL, lease_flight = NULL, lease_until = NULL";
        // Nobody held what was not there: whoever made it meanwhile was faster, and is looked at again.
        let sql = match before {
            Some(_) => format!("{sql} {over}"),
            None => sql.to_owned(),
        };
        let row = Written::of(installation, earlier);
        transaction.ask(&self.pool.sql(&sql), &row.values()).await?;
        Ok(())
    }

    async fn put_set(
        &self,
        transaction: &Transaction,
        id: &InstallationId,
        version: Version,
        tokens: &TokenSet,
    ) -> Result<(), Failure> {
        let sealed = self.vault.seal(id, version, "tokens", tokens)?;
        let sql = "INSERT INTO @.sets (kind, id, epoch, generation, key_id, sealed)
            VALUES ($1, $2, $3, $4, $5, $6)";
        let (epoch, generation) = (number(version.epoch), number(version.generation));
        let values: Values<'_> = &[
            (&id.kind(), Type::TEXT),
            (&id.as_str(), Type::TEXT),
            (&epoch, Type::INT8),
            (&generation, Type::INT8),
            (&sealed.key_id, Type::TEXT),
            (&sealed.bytes, Type::BYTEA),
        ];
        transaction.ask(&self.pool.sql(sql), values).await?;
        Ok(())
    }

    pub(super) async fn adopted(
        &self,
        id: &InstallationId,
        tokens: &TokenSet,
        asked_at: Timestamp,
        now: Timestamp,
    ) -> Result<Option<Installation>, Failure> {
        again!(async {
            let transaction = self.pool.transaction().await?;
            self.admit(&transaction).await?;
            if let Some(found) = self.held(&transaction, id).await? {
                return Ok(Some(found));
            }
            // Held, so that nobody takes it out of service meanwhile.
            let sql = "SELECT removed_at FROM @.removed WHERE kind = $1 AND id = $2 FOR UPDATE";
            let whose: Values<'_> = &[(&id.kind(), Type::TEXT), (&id.as_str(), Type::TEXT)];
            if let Some(row) = transaction.opt(&self.pool.sql(sql), whose).await?
                && row.try_get::<_, i64>(0)? >= asked_at.as_millis()
            {
                return Ok(None);
            }
            let installation = self.connect_in(&transaction, id, tokens, now).await?;
            self.end(transaction).await?;
            Ok(Some(installation))
        })
    }

    pub(super) async fn taken_out(&self, id: &InstallationId, now: Timestamp) -> Result<bool, Failure> {
        let transaction = self.pool.transaction().await?;
        let moved = self.take_out(&transaction, id, now).await?;
        self.forget_removed(&transaction, now).await?;
        self.end(transaction).await?;
        Ok(moved)
    }

    /// Moves an installation to those out of service, with its present set as it is sealed.
    async fn take_out(
        &self,
        transaction: &Transaction,
        id: &InstallationId,
        at: Timestamp,
    ) -> Result<bool, Failure> {
        let whose: Values<'_> = &[(&id.kind(), Type::TEXT), (&id.as_str(), Type::TEXT)];
        let lock = "SELECT true FROM @.installations WHERE kind = $1 AND id = $2 FOR UPDATE";
        if transaction.opt(&self.pool.sql(lock), whose).await?.is_none() {
            return Ok(false);
        }
        let sql = "INSERT INTO @.removed (kind, id, epoch, generation, key_id, tokens, removed_at, changed)
            SELECT i.kind, i.id, i.epoch, i.generation, s.key_id, s.sealed, $3,
                pg_current_xact_id()::text::bigint
            FROM @.installations i LEFT JOIN @.sets s USING (kind, id, epoch, generation)
            WHERE i.kind = $1 AND i.id = $2
            ON CONFLICT (kind, id) DO UPDATE SET epoch = excluded.epoch, generation = excluded.generation,
                key_id = excluded.key_id, tokens = excluded.tokens, removed_at = excluded.removed_at,
                changed = excluded.changed";
        let values: Values<'_> =
            &[(&id.kind(), Type::TEXT), (&id.as_str(), Type::TEXT), (&at.as_millis(), Type::INT8)];
        transaction.ask(&self.pool.sql(sql), values).await?;
        for table in ["installations", "sets"] {
            let sql = format!("DELETE FROM @.{table} WHERE kind = $1 AND id = $2");
            transaction.ask(&self.pool.sql(&sql), whose).await?;
        }
        Ok(true)
    }

    async fn forget_removed(&self, transaction: &Transaction, now: Timestamp) -> Result<(), Failure> {
        let old = (now - KEEP_REMOVED).as_millis();
        let sql = "DELETE FROM @.removed WHERE removed_at < $1";
        transaction.ask(&self.pool.sql(sql), &[(&old, Type::INT8)]).await?;
        Ok(())
    }

    pub(super) async fn said_uninstalled(
        &self,
        id: &InstallationId,
        at: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<InstallationId>, Failure> {
        let at = at.min(now);
        again!(async {
            let transaction = self.pool.long_transaction().await?;
            let company = match id {
                InstallationId::Company(company) => Some(company.as_str()),
                InstallationId::Location(_) => None,
            };
            let values: Values<'_> = &[
                (&id.kind(), Type::TEXT),
                (&id.as_str(), Type::TEXT),
                (&company, Type::TEXT),
                (&at.as_millis(), Type::INT8),
            ];
            // Each is held in the same order, whoever else does the same.
            let sql = "SELECT kind, id, connected_at <= $4 AS gone FROM @.installations
                WHERE kind = $1 AND id = $2
                    OR kind = 'location' AND hashtext(company) = hashtext($3) AND company = $3
                ORDER BY kind DESC, id FOR UPDATE";
            let mut gone = Vec::new();
            for row in transaction.ask(&self.pool.sql(sql), values).await? {
                let whose = whose(&row)?;
                match row.try_get("gone")? {
                    true => gone.push(whose),
                    // It was connected later: what happened before says nothing about it.
                    false if whose == *id => return Ok(Vec::new()),
                    false => {}
                }
            }
            for id in &gone {
                self.take_out(&transaction, id, at).await?;
            }
            let note = "INSERT INTO @.removed (kind, id, epoch, generation, removed_at, changed)
                VALUES ($1, $2, 0, 0, $3, pg_current_xact_id()::text::bigint)
                ON CONFLICT (kind, id) DO UPDATE SET removed_at = excluded.removed_at
                WHERE removed.removed_at < excluded.removed_at";
            let noted: Values<'_> =
                &[(&id.kind(), Type::TEXT), (&id.as_str(), Type::TEXT), (&at.as_millis(), Type::INT8)];
            transaction.ask(&self.pool.sql(note), noted).await?;
            let dropped = "DELETE FROM @.parked WHERE at <= $4
                AND (kind = $1 AND id = $2 OR company = $3)";
            transaction.ask(&self.pool.sql(dropped), values).await?;
            self.forget_removed(&transaction, now).await?;
            self.end(transaction).await?;
            Ok(gone)
        })
    }

    pub(super) async fn out_of_service(
        &self,
        after: Option<&InstallationId>,
        limit: usize,
    ) -> Result<Vec<Removed>, Failure> {
        let mut found = Vec::new();
        for (kind, after) in row::kinds_behind(after) {
            let sql = "SELECT kind, id, epoch, generation, tokens, removed_at FROM @.removed
                WHERE kind = $1 AND id > $2 ORDER BY id LIMIT $3";
            let left = super::rows::limited(limit - found.len());
            let values: Values<'_> = &[(&kind, Type::TEXT), (&after, Type::TEXT), (&left, Type::INT8)];
            for row in self.pool.query(&self.pool.sql(sql), values).await? {
                found.push(self.removed_one(&row)?);
            }
        }
        Ok(found)
    }

    fn removed_one(&self, row: &tokio_postgres::Row) -> Result<Removed, Failure> {
        let id = whose(row)?;
        let version = version(row.try_get("epoch")?, row.try_get("generation")?);
        let sealed: Option<&[u8]> = row.try_get("tokens")?;
        let tokens = match sealed {
            Some(sealed) => Some(self.vault.open(&id, version, "tokens", Some(sealed))?),
            None => None,
        };
        Ok(Removed { id, version, tokens, at: Timestamp::from_millis(row.try_get("removed_at")?) })
    }

    pub(super) async fn out_since(&self, id: &InstallationId) -> Result<Option<Timestamp>, Failure> {
        let sql = "SELECT removed_at FROM @.removed WHERE kind = $1 AND id = $2";
        let whose: Values<'_> = &[(&id.kind(), Type::TEXT), (&id.as_str(), Type::TEXT)];
        let row = self.pool.query_opt(&self.pool.sql(sql), whose).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?.map(Timestamp::from_millis))
    }

    pub(super) async fn taken_back(
        &self,
        id: &InstallationId,
        now: Timestamp,
    ) -> Result<Option<Installation>, Failure> {
        again!(async {
            let transaction = self.pool.transaction().await?;
            self.admit(&transaction).await?;
            let sql = "SELECT kind, id, epoch, generation, tokens, removed_at FROM @.removed
                WHERE kind = $1 AND id = $2 AND removed_at >= $3 FOR UPDATE";
            let oldest = (now - KEEP_REMOVED).as_millis();
            let values: Values<'_> =
                &[(&id.kind(), Type::TEXT), (&id.as_str(), Type::TEXT), (&oldest, Type::INT8)];
            let Some(row) = transaction.opt(&self.pool.sql(sql), values).await? else { return Ok(None) };
            let Some(tokens) = self.removed_one(&row)?.tokens else { return Ok(None) };
            if self.held(&transaction, id).await?.is_some() {
                return Ok(None);
            }
            let installation = self.connect_in(&transaction, id, &tokens, now).await?;
            self.end(transaction).await?;
            Ok(Some(installation))
        })
    }

    pub(super) async fn noted_listed(&self, notes: &[ListedNote]) -> Result<(), Failure> {
        for notes in notes.chunks(1000) {
            let kinds: Vec<&str> = notes.iter().map(|note| note.id.kind()).collect();
            let ids: Vec<&str> = notes.iter().map(|note| note.id.as_str()).collect();
            let names: Vec<Option<&str>> = notes.iter().map(|note| note.name.as_deref()).collect();
            let sought: Vec<String> = notes.iter().map(|note| sought(note.name.as_deref())).collect();
            let unlisted: Vec<Option<i64>> =
                notes.iter().map(|note| note.unlisted_at.map(Timestamp::as_millis)).collect();
            // Only what differs is written; in one order, so that two who note never wait for each other
            // in a ring.
            let sql = "WITH note AS MATERIALIZED (
                    SELECT n.*, i.ctid AS place
                    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[])
                        AS n (kind, id, name, sought, unlisted_at)
                    JOIN @.installations i ON i.kind = n.kind AND i.id = n.id
                    WHERE i.unlisted_at IS DISTINCT FROM n.unlisted_at
                        OR n.name IS NOT NULL AND i.name IS DISTINCT FROM n.name
                    ORDER BY i.kind, i.id FOR UPDATE OF i)
                UPDATE @.installations i SET unlisted_at = note.unlisted_at,
                    name = coalesce(note.name, i.name),
                    sought = CASE WHEN note.name IS NULL THEN i.sought ELSE note.sought END
                FROM note WHERE i.kind = note.kind AND i.id = note.id";
            let transaction = self.pool.transaction_without_a_flush().await?;
            let values: Values<'_> = &[
                (&kinds, Type::TEXT_ARRAY),
                (&ids, Type::TEXT_ARRAY),
                (&names, Type::TEXT_ARRAY),
                (&sought, Type::TEXT_ARRAY),
                (&unlisted, Type::INT8_ARRAY),
            ];
            transaction.ask(&self.pool.sql(sql), values).await?;
            transaction.commit().await?;
        }
        Ok(())
    }

    pub(super) async fn noted_check(&self, id: &InstallationId, check: &LastCheck) -> Result<(), Failure> {
        // In the statement itself: a commit that waits for no flush.
        let sql = "WITH no_flush AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
            UPDATE @.installations SET checked_at = $3, check_health = $4, check_code = $5, check_said = $6
            FROM no_flush WHERE kind = $1 AND id = $2";
        let values: Values<'_> = &[
            (&id.kind(), Type::TEXT),
            (&id.as_str(), Type::TEXT),
            (&check.at.as_millis(), Type::INT8),
            (&check.health.as_str(), Type::TEXT),
            (&check.code, Type::TEXT),
            (&check.said, Type::TEXT),
        ];
        self.pool.query(&self.pool.sql(sql), values).await?;
        Ok(())
    }

    pub(super) async fn put_aside(
        &self,
        id: &InstallationId,
        tokens: &TokenSet,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let transaction = self.pool.transaction().await?;
        self.admit(&transaction).await?;
        let sealed = self.vault.seal(id, NO_VERSION, "parked", tokens)?;
        let company = tokens.company.as_ref().map(CompanyId::as_str);
        let sql = "INSERT INTO @.parked (kind, id, company, scopes, at, key_id, tokens)
            VALUES ($1, $2, $3, $4, $5, $6, $7)
            ON CONFLICT (kind, id) DO UPDATE SET company = excluded.company, scopes = excluded.scopes,
                at = excluded.at, key_id = excluded.key_id, tokens = excluded.tokens";
        let values: Values<'_> = &[
            (&id.kind(), Type::TEXT),
            (&id.as_str(), Type::TEXT),
            (&company, Type::TEXT),
            (&tokens.scopes, Type::TEXT),
            (&now.as_millis(), Type::INT8),
            (&sealed.key_id, Type::TEXT),
            (&sealed.bytes, Type::BYTEA),
        ];
        transaction.ask(&self.pool.sql(sql), values).await?;
        transaction.commit().await
    }

    /// What is parked, and its tokens as they are sealed.
    pub(super) async fn put_asides(&self) -> Result<Vec<(Parked, Vec<u8>)>, Failure> {
        let sql = "SELECT kind, id, company, scopes, at, tokens FROM @.parked ORDER BY kind DESC, id";
        let mut found = Vec::new();
        for row in self.pool.query(&self.pool.sql(sql), &[]).await? {
            let company: Option<String> = row.try_get("company")?;
            let parked = Parked {
                id: whose(&row)?,
                company: company.and_then(|id| id.parse().ok()),
                scopes: row.try_get("scopes")?,
                at: Timestamp::from_millis(row.try_get("at")?),
            };
            found.push((parked, row.try_get("tokens")?));
        }
        Ok(found)
    }

    pub(super) async fn approved(
        &self,
        id: &InstallationId,
        now: Timestamp,
    ) -> Result<Option<Installation>, Failure> {
        again!(async {
            let transaction = self.pool.transaction().await?;
            self.admit(&transaction).await?;
            let sql = "DELETE FROM @.parked WHERE kind = $1 AND id = $2 RETURNING tokens";
            let whose: Values<'_> = &[(&id.kind(), Type::TEXT), (&id.as_str(), Type::TEXT)];
            let Some(row) = transaction.opt(&self.pool.sql(sql), whose).await? else { return Ok(None) };
            let tokens = self.vault.open(id, NO_VERSION, "parked", Some(row.try_get(0)?))?;
            let installation = self.connect_in(&transaction, id, &tokens, now).await?;
            self.end(transaction).await?;
            Ok(Some(installation))
        })
    }

    pub(super) async fn dismissed(&self, id: &InstallationId) -> Result<bool, Failure> {
        let sql = "DELETE FROM @.parked WHERE kind = $1 AND id = $2 RETURNING true";
        let whose: Values<'_> = &[(&id.kind(), Type::TEXT), (&id.as_str(), Type::TEXT)];
        Ok(self.pool.query_opt(&self.pool.sql(sql), whose).await?.is_some())
    }
}

/// The columns of an installation that is written whole, in the order in which they are.
pub(super) struct Written {
    kind: &'static str,
    id: String,
    version: (i64, i64),
    previous: (Option<i64>, Option<i64>, Option<i64>),
    connection: ConnectionAtRest,
    attempts: Option<i64>,
    issued_at: i64,
    expires_at: i64,
    scopes: String,
    company: Option<String>,
    due: Option<i64>,
    checked_at: Option<i64>,
    check: (Option<&'static str>, Option<String>, Option<String>),
    connected_at: i64,
    name: Option<String>,
    sought: String,
    unlisted_at: Option<i64>,
}

impl Written {
    /// Of an installation without lease or intent; `earlier` is the version of the set before, if any.
    pub(super) fn of(it: &Installation, earlier: Version) -> Self {
        let connection = ConnectionAtRest::from(&it.connection);
        let overview = tokens::Overview { intent: None, ..it.overview() };
        Self {
            kind: it.id.kind(),
            id: it.id.as_str().to_owned(),
            version: (number(it.version.epoch), number(it.version.generation)),
            previous: match &it.previous {
                Some(previous) => (
                    Some(number(earlier.epoch)),
                    Some(number(earlier.generation)),
                    Some(previous.keep_until.as_millis()),
                ),
                None => (None, None, None),
            },
            attempts: connection.attempts.map(i64::from),
            connection,
            issued_at: it.tokens.issued_at.as_millis(),
            expires_at: it.tokens.expires_at.as_millis(),
            scopes: it.tokens.scopes.clone(),
            company: it.tokens.company.as_ref().map(|company| company.as_str().to_owned()),
            due: overview.refresh_due_at().map(Timestamp::as_millis),
            checked_at: it.last_check.as_ref().map(|check| check.at.as_millis()),
            check: match &it.last_check {
                Some(check) => (Some(check.health.as_str()), check.code.clone(), check.said.clone()),
                None => (None, None, None),
            },
            connected_at: it.connected_at.as_millis(),
            name: it.name.clone(),
            sought: sought(it.name.as_deref()),
            unlisted_at: it.unlisted_at.map(Timestamp::as_millis),
        }
    }

    pub(super) fn kind(&self) -> &'static str {
        self.kind
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn values(&self) -> [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 25] {
        [
            (&self.kind, Type::TEXT),
            (&self.id, Type::TEXT),
            (&self.version.0, Type::INT8),
            (&self.version.1, Type::INT8),
            (&self.previous.0, Type::INT8),
            (&self.previous.1, Type::INT8),
            (&self.previous.2, Type::INT8),
            (&self.connection.state, Type::TEXT),
            (&self.connection.since, Type::INT8),
            (&self.attempts, Type::INT8),
            (&self.connection.retry_at, Type::INT8),
            (&self.connection.said, Type::TEXT),
            (&self.issued_at, Type::INT8),
            (&self.expires_at, Type::INT8),
            (&self.scopes, Type::TEXT),
            (&self.company, Type::TEXT),
            (&self.due, Type::INT8),
            (&self.checked_at, Type::INT8),
            (&self.check.0, Type::TEXT),
            (&self.check.1, Type::TEXT),
            (&self.check.2, Type::TEXT),
            (&self.connected_at, Type::INT8),
            (&self.name, Type::TEXT),
            (&self.sought, Type::TEXT),
            (&self.unlisted_at, Type::INT8),
        ]
    }
}
