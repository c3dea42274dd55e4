//! What the service remembers beside tokens, in the schema of the store: any number of replicas share it.
//!
//! Nothing in it is secret, so it needs no key. What only one of several may do is decided by one
//! statement each: whoever it changed a row for has it. Instants come from whoever asks, as everywhere
//! else in these records.

mod lines;
mod rows;
mod uptime;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use tokens::records::{
    AuditLine, Badge, CheckQuery, Delivery, DeliveryState, Habits, KeyId, KeyRecord, KeyUse, LONGEST_WAIT,
    Line, Maintenance, Permits, QueuedEvent, Reach, Session, Visit,
};
use tokens::{CheckRecord, Day, Episode, InstallationId, Notice, Records, Standing, StoreError, Timestamp};
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::pool::{Failure, Pool, Transaction, Values};
use crate::records::{EPISODES_KEPT, EVENTS_KNOWN_FOR, end_at_rest, json, lines_of, millis, parts};

/// Only ever added to: the place in the list is the schema's version.
const MIGRATIONS: [&str; 5] = [
    include_str!("../migrations/postgres/records/001_records.sql"),
    include_str!("../migrations/postgres/records/002_gateway.sql"),
    include_str!("../migrations/postgres/records/003_dashboard.sql"),
    include_str!("../migrations/postgres/records/004_history.sql"),
    include_str!("../migrations/postgres/records/005_uptime.sql"),
];

/// The tables that a migration makes, by its own words.
fn tables_in(migration: &str) -> Vec<&str> {
    let made = migration.split("CREATE TABLE @.").skip(1);
    made.map(|rest| rest.split([' ', '(']).next().unwrap_or_default()).collect()
}

/// What these tables are called among the parts of the schema.
const PART: &str = "records";

/// The records of a store.
pub(crate) struct PostgresRecords {
    pool: Pool,
}

type Done<T> = Result<T, Failure>;

impl PostgresRecords {
    /// Finds the records beside the store, or makes them.
    pub(crate) async fn open(pool: Pool) -> Result<Self, StoreError> {
        let made = pool.migrate(PART, &MIGRATIONS, &[]).await;
        made.map_err(|failure| failure.at("open", pool.place()))?;
        Ok(Self { pool })
    }

    /// Whether there are records in this database.
    pub(crate) async fn are_there(pool: &Pool) -> Result<bool, StoreError> {
        let version = pool.version(PART).await;
        Ok(version.map_err(|failure| failure.at("open", pool.place()))? > 0)
    }

    /// Whether a program before this one made them, and none since.
    pub(super) async fn are_earlier(pool: &Pool) -> Result<bool, Failure> {
        let latest = i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX);
        Ok((1..latest).contains(&pool.version(PART).await?))
    }

    /// Whether a table is missing that the version says is there: what a dump of a part leaves.
    pub(super) async fn lack_tables(pool: &Pool) -> Result<bool, Failure> {
        let version = usize::try_from(pool.version(PART).await?).unwrap_or_default();
        for table in MIGRATIONS.iter().take(version).flat_map(|migration| tables_in(migration)) {
            let there = "SELECT to_regclass($1) IS NOT NULL";
            let table = format!("{}.{table}", pool.schema());
            if !pool.query_one(there, &[(&table, Type::TEXT)]).await?.get::<_, bool>(0) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// One statement that changes something, in a transaction of its own: how many rows came back.
    async fn change(&self, sql: &str, values: Values<'_>) -> Result<usize, StoreError> {
        let changed = self.pool.query(&self.pool.sql(sql), values).await;
        Ok(changed.map_err(|failure| self.failed("write", failure))?.len())
    }

    /// One statement that changes something, and says what.
    async fn take<T>(
        &self,
        sql: &str,
        values: Values<'_>,
        read: fn(&Row) -> Done<T>,
    ) -> Result<Vec<T>, StoreError> {
        self.rows(sql, values, read).await.map_err(|failure| self.failed("write", failure))
    }

    /// One statement that only reads.
    async fn find<T>(
        &self,
        sql: &str,
        values: Values<'_>,
        read: fn(&Row) -> Done<T>,
    ) -> Result<Vec<T>, StoreError> {
        self.rows(sql, values, read).await.map_err(|failure| self.failed("read", failure))
    }

    async fn rows<T>(&self, sql: &str, values: Values<'_>, read: fn(&Row) -> Done<T>) -> Done<Vec<T>> {
        let found = self.pool.query(&self.pool.sql(sql), values).await?;
        found.iter().map(read).collect()
    }

    fn failed(&self, doing: &'static str, failure: Failure) -> StoreError {
        failure.at(doing, self.pool.place())
    }

    async fn ask(&self, transaction: &Transaction, sql: &str, values: Values<'_>) -> Done<Vec<Row>> {
        transaction.ask(&self.pool.sql(sql), values).await
    }

    async fn put_key(&self, key: &KeyRecord) -> Done<()> {
        let verbs: Vec<&str> = key.verbs.iter().map(|verb| verb.as_str()).collect();
        let reach = match &key.reach {
            Reach::All => None,
            Reach::These(ids) => {
                Some(json(&ids.iter().map(|id| (id.kind(), id.as_str())).collect::<Vec<_>>()))
            }
        };
        let transaction = self.pool.transaction().await?;
        self.ask(
            &transaction,
            "INSERT INTO @.keys (id, name, hash, verbs, reach, created_at, expires_at, revoked_at, lane, allowed)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            &[
                text(&key.id.0),
                text(&storable(&key.name)),
                bytes(&key.hash.as_slice()),
                text(&verbs.join(" ")),
                text(&reach),
                number(&key.created_at.as_millis()),
                number(&key.expires_at.map(Timestamp::as_millis)),
                number(&key.revoked_at.map(Timestamp::as_millis)),
                text(&key.lane.as_str()),
                text(&lines_of(&key.allowed)),
            ],
        )
        .await?;
        self.keys_changed(&transaction).await?;
        transaction.commit().await
    }

    async fn keys_changed(&self, transaction: &Transaction) -> Done<()> {
        let sql = "UPDATE @.counters SET value = value + 1 WHERE name = 'keys'";
        self.ask(transaction, sql, &[]).await.map(drop)
    }

    /// The mark is read first: a change between the two is learnt twice, and never missed.
    async fn keys_unless(&self, unless: Option<u64>) -> Done<Option<(Vec<KeyRecord>, u64)>> {
        let mark = self.pool.sql("SELECT value FROM @.counters WHERE name = 'keys'");
        let mark: i64 = self.pool.query_one(&mark, &[]).await?.try_get(0)?;
        let mark = mark.unsigned_abs();
        if unless == Some(mark) {
            return Ok(None);
        }
        let keys = self.pool.sql("SELECT * FROM @.keys ORDER BY created_at, id");
        let keys = self.pool.query(&keys, &[]).await?;
        Ok(Some((keys.iter().map(rows::key).collect::<Done<_>>()?, mark)))
    }

    async fn end_key(&self, id: &KeyId, now: Timestamp) -> Done<bool> {
        let transaction = self.pool.transaction().await?;
        let sql = "UPDATE @.keys SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL RETURNING id";
        let revoked = self.ask(&transaction, sql, &[text(&id.0), number(&now.as_millis())]).await?;
        self.keys_changed(&transaction).await?;
        transaction.commit().await?;
        Ok(revoked.len() == 1)
    }

    async fn put_uses(&self, uses: &[(KeyId, KeyUse)]) -> Done<()> {
        let ids: Vec<&str> = uses.iter().map(|(id, _)| id.0.as_str()).collect();
        let at: Vec<i64> = uses.iter().map(|(_, used)| used.at.as_millis()).collect();
        let from: Vec<&str> = uses.iter().map(|(_, used)| used.source.as_str()).collect();
        let values = [texts(&ids), numbers(&at), texts(&from)];
        let transaction = self.pool.transaction_without_a_flush().await?;
        // All replicas note the same keys, each in its own order; locked in one order, none waits in a ring.
        let lock = "SELECT id FROM @.keys WHERE id = ANY ($1) ORDER BY id FOR NO KEY UPDATE";
        self.ask(&transaction, lock, &values[..1]).await?;
        self.ask(
            &transaction,
            "UPDATE @.keys SET used_at = last.at, used_from = last.source FROM (
                 SELECT DISTINCT ON (id) * FROM unnest($1, $2, $3) AS uses (id, at, source)
                 ORDER BY id, at DESC) AS last
             WHERE keys.id = last.id AND coalesce(used_at, 0) <= last.at",
            &values,
        )
        .await?;
        self.ask(
            &transaction,
            "INSERT INTO @.sources SELECT id, source, min(at) FROM unnest($1, $2, $3) AS uses (id, at, source)
             GROUP BY id, source ORDER BY id, source ON CONFLICT DO NOTHING",
            &values,
        )
        .await?;
        transaction.commit().await
    }

    async fn stand(&self, standing: &Standing, notice: Option<&Notice>, ways: &[String]) -> Done<bool> {
        let (kind, id) = parts(&standing.subject);
        let changes: Vec<i64> = standing.changes.iter().map(|at| at.as_millis()).collect();
        // The first revision makes the row; every other finds the one before it, or nothing.
        let sql = match standing.revision {
            1 => {
                "INSERT INTO @.standings VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
                 ON CONFLICT (kind, id) DO NOTHING RETURNING id"
            }
            _ => {
                "UPDATE @.standings SET revision = $3, health = $4, since = $5, failures = $6, code = $7,
                     said = $8, told = $9, told_at = $10, changes = $11
                 WHERE kind = $1 AND id = $2 AND revision = $3 - 1 RETURNING id"
            }
        };
        let transaction = self.pool.transaction().await?;
        let stood = self
            .ask(
                &transaction,
                sql,
                &[
                    text(&kind),
                    text(&id),
                    number(&whole(standing.revision)),
                    text(&standing.health.as_str()),
                    number(&standing.since.as_millis()),
                    number(&whole(standing.failures)),
                    text(&maybe_storable(&standing.code)),
                    text(&maybe_storable(&standing.said)),
                    text(&standing.told.as_str()),
                    number(&standing.told_at.map(Timestamp::as_millis)),
                    numbers(&changes),
                ],
            )
            .await?;
        if stood.is_empty() {
            return Ok(false);
        }
        if let Some(notice) = notice {
            self.put_out(&transaction, notice, ways).await?;
        }
        transaction.commit().await?;
        Ok(true)
    }

    async fn put_out(&self, transaction: &Transaction, notice: &Notice, ways: &[String]) -> Done<()> {
        let (kind, id) = parts(&notice.subject);
        self.ask(
            transaction,
            "INSERT INTO @.notices (notice, at, kind, id, tells, health, since, code, said)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            &[
                text(&notice.id),
                number(&notice.at.as_millis()),
                text(&kind),
                text(&id),
                text(&notice.kind.as_str()),
                text(&notice.health.as_str()),
                number(&notice.since.as_millis()),
                text(&maybe_storable(&notice.code)),
                text(&maybe_storable(&notice.said)),
            ],
        )
        .await?;
        self.ask(
            transaction,
            "INSERT INTO @.deliveries (notice, way, attempts, due_at) SELECT $1, way, 0, $2 FROM unnest($3) AS way",
            &[text(&notice.id), number(&notice.at.as_millis()), texts(&ways)],
        )
        .await
        .map(drop)
    }

    async fn notices_with_ways(&self, limit: usize) -> Done<Vec<(Notice, Vec<DeliveryState>)>> {
        let transaction = self.pool.long_transaction().await?;
        let sql = "SELECT * FROM @.notices ORDER BY at DESC, number DESC LIMIT $1";
        let notices = self.ask(&transaction, sql, &[number(&whole(limit))]).await?;
        let notices = notices.iter().map(rows::notice).collect::<Done<Vec<_>>>()?;
        let ids: Vec<&str> = notices.iter().map(|notice| notice.id.as_str()).collect();
        let sql = "SELECT * FROM @.deliveries WHERE notice = ANY ($1) ORDER BY way";
        let deliveries = self.ask(&transaction, sql, &[texts(&ids)]).await?;
        let mut states: BTreeMap<String, Vec<DeliveryState>> = BTreeMap::new();
        for row in &deliveries {
            states.entry(row.try_get("notice")?).or_default().push(rows::delivery_state(row)?);
        }
        transaction.commit().await?;
        let with_ways = |notice: Notice| {
            let ways = states.remove(&notice.id).unwrap_or_default();
            (notice, ways)
        };
        Ok(notices.into_iter().map(with_ways).collect())
    }

    async fn forget_old(&self, before: Timestamp, audit_before: Timestamp) -> Done<()> {
        let transaction = self.pool.long_transaction().await?;
        // Where another replica is at it already, all is done.
        let sql = "SELECT pg_try_advisory_xact_lock(hashtextextended('ghl-auth forgets in ' || $1, 0))";
        let is_ours: bool = transaction.one(sql, &[text(&self.pool.schema())]).await?.try_get(0)?;
        if !is_ours {
            return Ok(());
        }
        let before = before.as_millis();
        for sql in [
            "DELETE FROM @.checks WHERE at < $1",
            "DELETE FROM @.history WHERE at < $1",
            // A notice that some way still has to tell stays.
            "DELETE FROM @.deliveries USING @.notices WHERE deliveries.notice = notices.notice AND notices.at < $1
                 AND delivered_at IS NOT NULL",
            "DELETE FROM @.notices WHERE at < $1
                 AND NOT EXISTS (SELECT FROM @.deliveries WHERE deliveries.notice = notices.notice)",
            "DELETE FROM @.visits WHERE expires_at < $1",
            "DELETE FROM @.sessions WHERE used_at < $1",
            "DELETE FROM @.turns WHERE until_at < $1",
            "DELETE FROM @.events WHERE done_at IS NOT NULL AND received_at < $1",
            "DELETE FROM @.maintenances WHERE until_at < $1",
        ] {
            self.ask(&transaction, sql, &[number(&before)]).await?;
        }
        let first = Day::number_of(Timestamp::from_millis(before));
        self.ask(&transaction, "DELETE FROM @.days WHERE day < $1", &[number(&first)]).await?;
        let sql = "DELETE FROM @.audit WHERE at < $1";
        self.ask(&transaction, sql, &[number(&audit_before.as_millis())]).await?;
        transaction.commit().await?;
        // By themselves, so that nobody who wants a permit waits for all of the above: budgets that were not
        // used for a day, once all that was given of them has come back.
        let sql = "WITH now AS (SELECT extract(epoch FROM clock_timestamp()) * 1000000 AS at)
             DELETE FROM @.budgets USING now WHERE used_at < now.at - 86400000000
                 AND coalesce(untils[cardinality(untils)], 0) <= now.at";
        self.pool.query(&self.pool.sql(sql), &[]).await.map(drop)
    }
}

#[async_trait]
impl Records for PostgresRecords {
    async fn lines(&self, after: Option<&Line>, limit: usize) -> Result<Vec<Line>, StoreError> {
        self.give_lines(after, limit).await
    }

    async fn take_lines(&self, lines: &[Line]) -> Result<(), StoreError> {
        self.put_lines(lines).await.map_err(|failure| self.failed("write", failure))
    }

    async fn add_key(&self, key: &KeyRecord) -> Result<(), StoreError> {
        self.put_key(key).await.map_err(|failure| self.failed("write", failure))
    }

    async fn keys(&self, unless: Option<u64>) -> Result<Option<(Vec<KeyRecord>, u64)>, StoreError> {
        self.keys_unless(unless).await.map_err(|failure| self.failed("read", failure))
    }

    async fn revoke_key(&self, id: &KeyId, now: Timestamp) -> Result<bool, StoreError> {
        self.end_key(id, now).await.map_err(|failure| self.failed("write", failure))
    }

    async fn note_uses(&self, uses: &[(KeyId, KeyUse)]) -> Result<(), StoreError> {
        self.put_uses(uses).await.map_err(|failure| self.failed("write", failure))
    }

    async fn audit(&self, lines: &[AuditLine]) -> Result<(), StoreError> {
        let lines = Lines::of(lines);
        self.change(
            "INSERT INTO @.audit AS line (at, key, kind, id, generation, count, request_id)
             SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7)
             ON CONFLICT (at, key, kind, id, generation) WHERE request_id IS NULL
                 DO UPDATE SET count = line.count + excluded.count",
            &lines.values(),
        )
        .await
        .map(drop)
    }

    async fn audited(&self, limit: usize) -> Result<Vec<AuditLine>, StoreError> {
        let sql = "SELECT * FROM @.audit ORDER BY at DESC, number DESC LIMIT $1";
        self.find(sql, &[number(&whole(limit))], rows::audit_line).await
    }

    async fn habits(&self, since: Timestamp) -> Result<Vec<Habits>, StoreError> {
        self.find(
            "SELECT id, name,
                 (SELECT count(*) FROM (
                     SELECT DISTINCT kind, id FROM @.audit WHERE at >= $1 AND key = keys.id) AS recent
                  WHERE NOT EXISTS (
                     SELECT FROM @.audit WHERE key = keys.id AND kind = recent.kind AND id = recent.id
                         AND at < $1)) AS newly_read,
                 EXISTS (SELECT FROM @.audit WHERE key = keys.id AND at < $1) AS has_read,
                 (SELECT source FROM @.sources WHERE key = keys.id AND first_at >= $1
                  ORDER BY first_at LIMIT 1) AS new_source,
                 EXISTS (SELECT FROM @.sources WHERE key = keys.id AND first_at < $1) AS has_come
             FROM @.keys WHERE revoked_at IS NULL ORDER BY id",
            &[number(&since.as_millis())],
            rows::habits,
        )
        .await
    }

    async fn add_check(&self, check: &CheckRecord) -> Result<(), StoreError> {
        let steps: Vec<_> = check
            .steps
            .iter()
            .map(|step| (&step.name, step.ok, millis(step.took), step.trace_id.as_deref()))
            .collect();
        self.change(
            "INSERT INTO @.checks (kind, id, at, took_ms, cause, health, code, said, steps)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            &[
                text(&check.id.kind()),
                text(&check.id.as_str()),
                number(&check.at.as_millis()),
                number(&whole(millis(check.took))),
                text(&check.trigger.as_str()),
                text(&check.health.as_str()),
                text(&maybe_storable(&check.code)),
                text(&maybe_storable(&check.said)),
                text(&json(&steps)),
            ],
        )
        .await
        .map(drop)
    }

    async fn checks(&self, query: &CheckQuery) -> Result<Vec<CheckRecord>, StoreError> {
        let (before, limit) = (query.before.map_or(i64::MAX, Timestamp::as_millis), whole(query.limit));
        // Each has an index of its own.
        match &query.id {
            Some(id) => {
                let sql = "SELECT * FROM @.checks WHERE kind = $1 AND id = $2 AND at < $3
                     ORDER BY at DESC, number DESC LIMIT $4";
                let (kind, id) = (id.kind(), id.as_str());
                self.find(sql, &[text(&kind), text(&id), number(&before), number(&limit)], rows::check).await
            }
            None => {
                let sql = "SELECT * FROM @.checks WHERE at < $1 ORDER BY at DESC, number DESC LIMIT $2";
                self.find(sql, &[number(&before), number(&limit)], rows::check).await
            }
        }
    }

    async fn days(&self, id: Option<&InstallationId>, since: i64) -> Result<Vec<Day>, StoreError> {
        self.find_days(id, since).await
    }

    async fn days_of(
        &self,
        ids: &[InstallationId],
        since: i64,
    ) -> Result<BTreeMap<InstallationId, Vec<Day>>, StoreError> {
        self.find_days_of(ids, since).await
    }

    async fn add_badge(&self, badge: &Badge) -> Result<(), StoreError> {
        self.put_badge(badge).await
    }

    async fn badges(&self) -> Result<Vec<Badge>, StoreError> {
        self.find_badges().await
    }

    async fn revoke_badge(&self, name: &str) -> Result<bool, StoreError> {
        let sql = "DELETE FROM @.badges WHERE badge = $1 RETURNING badge";
        Ok(self.change(sql, &[text(&storable(name))]).await? == 1)
    }

    async fn note_episode(&self, episode: &Episode) -> Result<(), StoreError> {
        let (kind, id) = (episode.id.kind(), episode.id.as_str());
        let added = self
            .change(
                "INSERT INTO @.history (kind, id, at, epoch, generation, expires_at, stand, said)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING RETURNING at",
                &[
                    text(&kind),
                    text(&id),
                    number(&episode.at.as_millis()),
                    number(&whole(episode.version.epoch)),
                    number(&whole(episode.version.generation)),
                    number(&episode.expires_at.as_millis()),
                    text(&episode.stand.as_str()),
                    text(&maybe_storable(&episode.said)),
                ],
            )
            .await?;
        if added == 1 {
            let sql = "DELETE FROM @.history WHERE kind = $1 AND id = $2 AND at <
                 (SELECT at FROM @.history WHERE kind = $1 AND id = $2 ORDER BY at DESC LIMIT 1 OFFSET $3)";
            self.change(sql, &[text(&kind), text(&id), number(&(EPISODES_KEPT - 1))]).await?;
        }
        Ok(())
    }

    async fn history(&self, id: &InstallationId, limit: usize) -> Result<Vec<Episode>, StoreError> {
        let sql = "SELECT * FROM @.history WHERE kind = $1 AND id = $2
             ORDER BY at DESC, generation DESC LIMIT $3";
        let (kind, id) = (id.kind(), id.as_str());
        self.find(sql, &[text(&kind), text(&id), number(&whole(limit))], rows::episode).await
    }

    async fn standings(&self) -> Result<Vec<Standing>, StoreError> {
        self.find("SELECT * FROM @.standings ORDER BY kind DESC, id", &[], rows::standing).await
    }

    async fn tell(
        &self,
        standing: &Standing,
        notice: Option<&Notice>,
        ways: &[String],
    ) -> Result<bool, StoreError> {
        let told = self.stand(standing, notice, ways).await;
        told.map_err(|failure| self.failed("write", failure))
    }

    async fn claim_deliveries(
        &self,
        now: Timestamp,
        lease_until: Timestamp,
        limit: usize,
    ) -> Result<Vec<Delivery>, StoreError> {
        // What another replica is claiming at this moment is passed over, and what it has just claimed is
        // looked at again: its lease is in the row by then.
        self.take(
            "WITH due AS (
                 SELECT notice, way, due_at AS since FROM @.deliveries
                 WHERE delivered_at IS NULL AND (due_at <= $1 OR due_at > $4)
                     AND NOT EXISTS (
                         SELECT FROM @.deliveries AS earlier
                             JOIN @.notices AS before ON before.notice = earlier.notice
                             JOIN @.notices AS this ON this.notice = deliveries.notice
                         WHERE earlier.delivered_at IS NULL AND earlier.way = deliveries.way
                             AND before.kind = this.kind AND before.id = this.id
                             AND before.number < this.number)
                 ORDER BY due_at, way LIMIT $3
                 FOR UPDATE OF deliveries SKIP LOCKED
             ), ours AS (
                 UPDATE @.deliveries SET due_at = $2 FROM due
                 WHERE deliveries.notice = due.notice AND deliveries.way = due.way
                 RETURNING deliveries.notice, deliveries.way, attempts, since
             )
             SELECT notices.*, way, attempts FROM ours JOIN @.notices USING (notice) ORDER BY ours.since, way",
            &[
                number(&now.as_millis()),
                number(&lease_until.as_millis()),
                number(&whole(limit)),
                number(&(now + LONGEST_WAIT * 2).as_millis()),
            ],
            rows::delivery,
        )
        .await
    }

    async fn delivered(&self, delivery: &Delivery, now: Timestamp) -> Result<(), StoreError> {
        self.change(
            "UPDATE @.deliveries SET delivered_at = $3, attempts = attempts + 1, said = NULL
             WHERE notice = $1 AND way = $2",
            &[text(&delivery.notice.id), text(&delivery.way), number(&now.as_millis())],
        )
        .await
        .map(drop)
    }

    async fn put_off(&self, delivery: &Delivery, until: Timestamp, said: &str) -> Result<(), StoreError> {
        self.change(
            "UPDATE @.deliveries SET due_at = $3, attempts = attempts + 1, said = $4
             WHERE notice = $1 AND way = $2 AND delivered_at IS NULL",
            &[
                text(&delivery.notice.id),
                text(&delivery.way),
                number(&until.as_millis()),
                text(&storable(said)),
            ],
        )
        .await
        .map(drop)
    }

    async fn notices(&self, limit: usize) -> Result<Vec<(Notice, Vec<DeliveryState>)>, StoreError> {
        self.notices_with_ways(limit).await.map_err(|failure| self.failed("read", failure))
    }

    async fn plan_maintenance(&self, window: &Maintenance) -> Result<(), StoreError> {
        let (kind, id) = window.subject.as_ref().map(parts).unzip();
        self.change(
            "INSERT INTO @.maintenances VALUES ($1, $2, $3, $4, $5, $6)",
            &[
                text(&window.id),
                text(&kind),
                text(&id),
                number(&window.from.as_millis()),
                number(&end_at_rest(window.until)),
                text(&storable(&window.reason)),
            ],
        )
        .await
        .map(drop)
    }

    async fn end_maintenance(&self, id: &str, now: Timestamp) -> Result<bool, StoreError> {
        let sql = "UPDATE @.maintenances SET until_at = $2 WHERE maintenance = $1 AND until_at > $2
            RETURNING maintenance";
        Ok(self.change(sql, &[text(&storable(id)), number(&now.as_millis())]).await? == 1)
    }

    async fn maintenances(&self, now: Timestamp) -> Result<Vec<Maintenance>, StoreError> {
        let sql = "SELECT * FROM @.maintenances WHERE until_at > $1 ORDER BY from_at, maintenance";
        self.find(sql, &[number(&now.as_millis())], rows::maintenance).await
    }

    async fn open_visit(&self, visit: &Visit) -> Result<(), StoreError> {
        self.change(
            "INSERT INTO @.visits VALUES ($1, $2, $3)",
            &[
                bytes(&visit.state.as_slice()),
                bytes(&visit.browser.as_slice()),
                number(&visit.expires_at.as_millis()),
            ],
        )
        .await
        .map(drop)
    }

    async fn take_visit(&self, state: &[u8; 32], now: Timestamp) -> Result<Option<Visit>, StoreError> {
        let sql = "DELETE FROM @.visits WHERE state = $1 AND expires_at > $2 RETURNING *";
        let taken =
            self.take(sql, &[bytes(&state.as_slice()), number(&now.as_millis())], rows::visit).await?;
        Ok(taken.into_iter().next())
    }

    async fn open_session(&self, session: &Session) -> Result<(), StoreError> {
        let key = session.key.as_ref().map(|key| key.0.as_str());
        self.change(
            "INSERT INTO @.sessions (cookie, key, began_at, used_at) VALUES ($1, $2, $3, $4)",
            &[
                bytes(&session.cookie.as_slice()),
                text(&key),
                number(&session.began_at.as_millis()),
                number(&session.used_at.as_millis()),
            ],
        )
        .await
        .map(drop)
    }

    async fn session(&self, cookie: &[u8; 32]) -> Result<Option<Session>, StoreError> {
        let sql = "SELECT * FROM @.sessions WHERE cookie = $1";
        let found = self.find(sql, &[bytes(&cookie.as_slice())], rows::session).await?;
        Ok(found.into_iter().next())
    }

    async fn use_session(&self, cookie: &[u8; 32], now: Timestamp) -> Result<(), StoreError> {
        let sql = "UPDATE @.sessions SET used_at = $2 WHERE cookie = $1";
        self.change(sql, &[bytes(&cookie.as_slice()), number(&now.as_millis())]).await.map(drop)
    }

    async fn end_sessions(&self, cookie: Option<&[u8; 32]>) -> Result<(), StoreError> {
        let ended = match cookie {
            Some(cookie) => {
                self.change("DELETE FROM @.sessions WHERE cookie = $1", &[bytes(&cookie.as_slice())]).await
            }
            None => self.change("DELETE FROM @.sessions", &[]).await,
        };
        ended.map(drop)
    }

    async fn troubled(&self, limit: usize) -> Result<Vec<Standing>, StoreError> {
        let sql = "SELECT * FROM @.standings WHERE health <> 'operational'
             ORDER BY since DESC, kind, id LIMIT $1";
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.find(sql, &[number(&limit)], rows::standing).await
    }

    async fn queue_event(&self, event: &QueuedEvent) -> Result<bool, StoreError> {
        let queued = self
            .change(
                "INSERT INTO @.events AS known (event, kind, body, received_at, attempts, due_at)
                 VALUES ($1, $2, $3, $4, $5, $4)
                 ON CONFLICT (event) DO UPDATE SET kind = excluded.kind, body = excluded.body,
                     received_at = excluded.received_at, attempts = excluded.attempts,
                     due_at = excluded.due_at, done_at = NULL, outcome = NULL
                 WHERE known.done_at IS NOT NULL AND known.received_at < $6 RETURNING event",
                &[
                    text(&storable(&event.id)),
                    text(&storable(&event.kind)),
                    bytes(&event.body.as_bytes()),
                    number(&event.received_at.as_millis()),
                    number(&whole(event.attempts)),
                    number(&(event.received_at - EVENTS_KNOWN_FOR).as_millis()),
                ],
            )
            .await?;
        Ok(queued == 1)
    }

    async fn claim_events(
        &self,
        now: Timestamp,
        lease_until: Timestamp,
        limit: usize,
    ) -> Result<Vec<QueuedEvent>, StoreError> {
        // What waits for longer than anything is put off was put off by a clock that was ahead.
        self.take(
            "WITH due AS (
                 SELECT event FROM @.events WHERE done_at IS NULL AND (due_at <= $1 OR due_at > $4)
                 ORDER BY received_at, number LIMIT $3
                 FOR UPDATE SKIP LOCKED
             ), ours AS (
                 UPDATE @.events SET due_at = $2 FROM due WHERE events.event = due.event RETURNING events.*
             )
             SELECT * FROM ours ORDER BY received_at, number",
            &[
                number(&now.as_millis()),
                number(&lease_until.as_millis()),
                number(&whole(limit)),
                number(&(now + LONGEST_WAIT * 2).as_millis()),
            ],
            rows::event,
        )
        .await
    }

    async fn event_done(&self, id: &str, now: Timestamp, outcome: &str) -> Result<(), StoreError> {
        self.change(
            "WITH old AS (
                 DELETE FROM @.events WHERE event <> $1 AND done_at IS NOT NULL AND received_at < $4
             )
             UPDATE @.events SET done_at = $2, outcome = $3, body = NULL, attempts = attempts + 1
             WHERE event = $1 AND done_at IS NULL",
            &[
                text(&storable(id)),
                number(&now.as_millis()),
                text(&storable(outcome)),
                number(&(now - EVENTS_KNOWN_FOR).as_millis()),
            ],
        )
        .await
        .map(drop)
    }

    async fn put_off_event(&self, id: &str, until: Timestamp, said: &str) -> Result<(), StoreError> {
        self.change(
            "UPDATE @.events SET due_at = $2, outcome = $3, attempts = attempts + 1
             WHERE event = $1 AND done_at IS NULL",
            &[text(&storable(id)), number(&until.as_millis()), text(&storable(said))],
        )
        .await
        .map(drop)
    }

    async fn take_turn(&self, name: &str, now: Timestamp, until: Timestamp) -> Result<bool, StoreError> {
        let taken = self
            .change(
                "INSERT INTO @.turns AS turn VALUES ($1, $3)
                 ON CONFLICT (name) DO UPDATE SET until_at = excluded.until_at
                     WHERE turn.until_at <= $2 OR turn.until_at > 2 * $3 - $2 RETURNING name",
                &[text(&storable(name)), number(&now.as_millis()), number(&until.as_millis())],
            )
            .await?;
        Ok(taken == 1)
    }

    async fn take_permits(
        &self,
        budget: &str,
        wanted: u32,
        most: u32,
        interval: Duration,
    ) -> Result<Option<Permits>, StoreError> {
        let permits = self
            .take(
                "SELECT * FROM @.take_permits($1, $2, $3, $4)",
                &[
                    text(&storable(budget)),
                    number(&i64::from(wanted)),
                    number(&i64::from(most)),
                    number(&i64::try_from(interval.as_micros()).unwrap_or(i64::MAX / 4)),
                ],
                rows::permits,
            )
            .await?;
        Ok(permits.into_iter().next())
    }

    async fn forget(&self, before: Timestamp, audit_before: Timestamp) -> Result<(), StoreError> {
        let forgotten = self.forget_old(before, audit_before).await;
        forgotten.map_err(|failure| self.failed("write", failure))
    }
}

/// Audit lines, column by column: those that are counted summed up and in one order, so that no two
/// replicas wait for each other in a ring, then the others as they came.
struct Lines<'a> {
    at: Vec<i64>,
    key: Vec<&'a str>,
    kind: Vec<&'a str>,
    id: Vec<&'a str>,
    generation: Vec<i64>,
    count: Vec<i64>,
    request_id: Vec<Option<&'a str>>,
}

impl<'a> Lines<'a> {
    fn of(lines: &'a [AuditLine]) -> Self {
        let mut counted: BTreeMap<_, u64> = BTreeMap::new();
        for line in lines.iter().filter(|line| line.request_id.is_none()) {
            let what = (line.at.as_millis(), &line.key, line.id.kind(), line.id.as_str(), line.generation);
            *counted.entry(what).or_default() += line.count;
        }
        let one_by_one = lines.iter().filter(|line| line.request_id.is_some()).map(|line| {
            let what = (line.at.as_millis(), &line.key, line.id.kind(), line.id.as_str(), line.generation);
            (what, line.count, line.request_id.as_deref())
        });
        let mut columns = Self {
            at: Vec::new(),
            key: Vec::new(),
            kind: Vec::new(),
            id: Vec::new(),
            generation: Vec::new(),
            count: Vec::new(),
            request_id: Vec::new(),
        };
        let counted = counted.into_iter().map(|(what, count)| (what, count, None));
        for ((at, key, kind, id, generation), count, request_id) in counted.chain(one_by_one) {
            columns.at.push(at);
            columns.key.push(&key.0);
            columns.kind.push(kind);
            columns.id.push(id);
            columns.generation.push(whole(generation));
            columns.count.push(whole(count));
            columns.request_id.push(request_id);
        }
        columns
    }

    fn values(&self) -> [Value<'_>; 7] {
        [
            numbers(&self.at),
            texts(&self.key),
            texts(&self.kind),
            texts(&self.id),
            numbers(&self.generation),
            numbers(&self.count),
            texts(&self.request_id),
        ]
    }
}

type Value<'a> = (&'a (dyn ToSql + Sync), Type);

fn text(value: &(dyn ToSql + Sync)) -> Value<'_> {
    (value, Type::TEXT)
}

fn number(value: &(dyn ToSql + Sync)) -> Value<'_> {
    (value, Type::INT8)
}

fn bytes(value: &(dyn ToSql + Sync)) -> Value<'_> {
    (value, Type::BYTEA)
}

fn texts(value: &(dyn ToSql + Sync)) -> Value<'_> {
    (value, Type::TEXT_ARRAY)
}

fn numbers(value: &(dyn ToSql + Sync)) -> Value<'_> {
    (value, Type::INT8_ARRAY)
}

/// A number as PostgreSQL has them: none of ours comes near its end.
fn whole(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

/// PostgreSQL has no room for one character, which others' words may hold.
fn storable(text: &str) -> Cow<'_, str> {
    match text.contains('\0') {
        true => Cow::Owned(text.replace('\0', "\u{fffd}")),
        false => Cow::Borrowed(text),
    }
}

fn maybe_storable(text: &Option<String>) -> Option<Cow<'_, str>> {
    text.as_deref().map(storable)
}
