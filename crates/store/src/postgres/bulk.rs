//! Many at once: what a migration, a restore and an import bring, and sealing anew under another key.

use std::pin::pin;
use std::sync::atomic::Ordering;

use tokens::store::Removed;
use tokens::{Installation, InstallationId, StoreError, Timestamp, Version};
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{ToSql, Type};

use super::PostgresStore;
use super::grants::Written;
use super::pool::{Failure, Transaction, Values};
use super::rows::{NO_VERSION, number, version, whose};
use super::settings;
use crate::spool::Spool;

/// So many go into one transaction: enough that its flush costs little, few enough that nobody waits
/// long for a row.
const TOGETHER: usize = 2500;

/// So often a batch is tried again that met another one in the middle.
const TRIES: usize = 5;

const INSTALLATION_TYPES: [Type; 26] = [
    Type::TEXT,
    Type::TEXT,
    Type::INT8,
    Type::INT8,
    Type::INT8,
    Type::INT8,
    Type::INT8,
    Type::TEXT,
    Type::INT8,
    Type::INT8,
    Type::INT8,
    Type::TEXT,
    Type::INT8,
    Type::INT8,
    Type::TEXT,
    Type::TEXT,
    Type::INT8,
    Type::INT8,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::INT8,
    Type::TEXT,
    Type::TEXT,
    Type::INT8,
    Type::INT8,
];

/// One set as it goes into its table.
struct SetRow {
    kind: &'static str,
    id: String,
    version: (i64, i64),
    key_id: String,
    sealed: Vec<u8>,
}

impl PostgresStore {
    pub(super) async fn put_all(&self, installations: &[Installation]) -> Result<usize, Failure> {
        settings::newest_key(&self.pool, &self.vault.sealer).await?;
        let mut put = 0;
        // Two at a time: while one is sealed or sent, the database works on the other.
        for some in installations.chunks(2 * TOGETHER) {
            let (one, other) = some.split_at(some.len().div_ceil(2));
            let (one, other) = tokio::join!(self.put_again(one), self.put_again(other));
            put += one? + other?;
        }
        Ok(put)
    }

    async fn put_again(&self, installations: &[Installation]) -> Result<usize, Failure> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.put_some(installations).await {
                Err(failure) if tries < TRIES && failure.is_worth_another_try() => {}
                done => return done,
            }
        }
    }

    async fn put_some(&self, installations: &[Installation]) -> Result<usize, Failure> {
        if installations.is_empty() {
            return Ok(0);
        }
        let transaction = self.pool.long_transaction().await?;
        // While a table grows, the planner knows little of it, and would rather read all of it each time.
        transaction
            .batch_execute(
                "SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off",
            )
            .await?;
        let kinds: Vec<&str> = installations.iter().map(|it| it.id.kind()).collect();
        let ids: Vec<&str> = installations.iter().map(|it| it.id.as_str()).collect();
        let sql = "SELECT i.kind, i.id, i.epoch, i.generation FROM @.installations i
            JOIN unnest($1::text[], $2::text[]) AS n (kind, id) ON i.kind = n.kind AND i.id = n.id
            ORDER BY i.kind, i.id FOR UPDATE OF i";
        let asked: Values<'_> = &[(&kinds, Type::TEXT_ARRAY), (&ids, Type::TEXT_ARRAY)];
        let mut there = std::collections::HashMap::new();
        for row in transaction.ask(&self.pool.sql(sql), asked).await? {
            there.insert(whose(&row)?, version(row.try_get(2)?, row.try_get(3)?));
        }
        let sql = "SELECT r.kind, r.id, r.epoch, r.generation, r.removed_at FROM @.removed r
            JOIN unnest($1::text[], $2::text[]) AS n (kind, id) ON r.kind = n.kind AND r.id = n.id
            ORDER BY r.kind, r.id FOR UPDATE OF r";
        let mut gone = std::collections::HashMap::new();
        let any = transaction.one(&self.pool.sql("SELECT EXISTS (SELECT FROM @.removed)"), &[]).await?;
        let removed = match any.try_get(0)? {
            true => transaction.ask(&self.pool.sql(sql), asked).await?,
            false => Vec::new(),
        };
        for row in removed {
            let at = Timestamp::from_millis(row.try_get(4)?);
            gone.insert(whose(&row)?, (version(row.try_get(2)?, row.try_get(3)?), at));
        }
        // A backup does not bring back what was taken out of service since.
        let is_gone = |it: &Installation| {
            gone.get(&it.id).is_some_and(|(removed, at)| {
                *removed >= it.version || (*removed == NO_VERSION && *at >= it.connected_at)
            })
        };
        // What comes twice goes in once, at its latest version.
        let mut wanted: std::collections::HashMap<&InstallationId, &Installation> =
            std::collections::HashMap::new();
        for it in installations {
            let at_least = there.get(&it.id).copied().max(wanted.get(&it.id).map(|other| other.version));
            if !is_gone(it) && at_least.is_none_or(|version| it.version > version) {
                wanted.insert(&it.id, it);
            }
        }
        let wanted: Vec<&Installation> = wanted.into_values().collect();
        let replaced: Vec<&InstallationId> =
            wanted.iter().map(|it| &it.id).filter(|id| there.contains_key(*id)).collect();
        self.make_room(&transaction, &replaced).await?;
        let vault = self.vault.clone();
        let owned: Vec<Installation> = wanted.into_iter().cloned().collect();
        // Sealing takes its time, and others have something to do meanwhile.
        let sealed = tokio::task::spawn_blocking(move || {
            owned.iter().map(|it| sealed(&vault, it)).collect::<Result<Vec<_>, StoreError>>()
        });
        let rows = sealed.await.map_err(|error| Failure::NoConnection(error.into()))??;
        self.copy_in(&transaction, &rows).await?;
        if !gone.is_empty() {
            self.take_back(&transaction, &rows).await?;
        }
        transaction.commit().await?;
        self.hearing.tell();
        Ok(rows.len())
    }

    /// What is put is out of service no more.
    async fn take_back(
        &self,
        transaction: &Transaction,
        rows: &[(Written, Vec<SetRow>)],
    ) -> Result<(), Failure> {
        let back_ids = rows.iter().map(|(row, _)| (row.kind(), row.id()));
        let (kinds, ids): (Vec<&str>, Vec<&str>) = back_ids.unzip();
        let back = "DELETE FROM @.removed r USING unnest($1::text[], $2::text[]) AS n (kind, id)
            WHERE r.kind = n.kind AND r.id = n.id";
        let values: Values<'_> = &[(&kinds, Type::TEXT_ARRAY), (&ids, Type::TEXT_ARRAY)];
        transaction.ask(&self.pool.sql(back), values).await?;
        Ok(())
    }

    async fn make_room(&self, transaction: &Transaction, ids: &[&InstallationId]) -> Result<(), Failure> {
        if ids.is_empty() {
            return Ok(());
        }
        let kinds: Vec<&str> = ids.iter().map(|id| id.kind()).collect();
        let ids: Vec<&str> = ids.iter().map(|id| id.as_str()).collect();
        for table in ["installations", "sets"] {
            let sql = format!(
                "DELETE FROM @.{table} t USING unnest($1::text[], $2::text[]) AS n (kind, id)
                WHERE t.kind = n.kind AND t.id = n.id"
            );
            let values: Values<'_> = &[(&kinds, Type::TEXT_ARRAY), (&ids, Type::TEXT_ARRAY)];
            transaction.ask(&self.pool.sql(&sql), values).await?;
        }
        Ok(())
    }

    async fn copy_in(
        &self,
        transaction: &Transaction,
        rows: &[(Written, Vec<SetRow>)],
    ) -> Result<(), Failure> {
        let now = transaction.one("SELECT pg_current_xact_id()::text::bigint", &[]).await?;
        let changed: i64 = now.try_get(0)?;
        let sql = "COPY @.installations (kind, id, epoch, generation, previous_epoch, previous_generation,
                previous_until, state, since, attempts, retry_at, said, issued_at, expires_at, scopes, company,
                refresh_due_at, checked_at, check_health, check_code, check_said, connected_at, name, sought,
                unlisted_at, changed) FROM STDIN BINARY";
        let sink = transaction.copy_in(&self.pool.sql(sql)).await?;
        let mut writer = pin!(BinaryCopyInWriter::new(sink, &INSTALLATION_TYPES));
        for (row, _) in rows {
            let mut values: Vec<&(dyn ToSql + Sync)> =
                row.values().into_iter().map(|(value, _)| value).collect();
            values.push(&changed);
            writer.as_mut().write(&values).await?;
        }
        writer.finish().await?;
        let sql = "COPY @.sets (kind, id, epoch, generation, key_id, sealed) FROM STDIN BINARY";
        let types = [Type::TEXT, Type::TEXT, Type::INT8, Type::INT8, Type::TEXT, Type::BYTEA];
        let sink = transaction.copy_in(&self.pool.sql(sql)).await?;
        let mut writer = pin!(BinaryCopyInWriter::new(sink, &types));
        for set in rows.iter().flat_map(|(_, sets)| sets) {
            let SetRow { kind, id, version, key_id, sealed } = set;
            writer.as_mut().write(&[kind, id, &version.0, &version.1, key_id, sealed]).await?;
        }
        writer.finish().await?;
        Ok(())
    }

    pub(super) async fn put_all_removed(&self, removed: &[Removed]) -> Result<(), Failure> {
        settings::newest_key(&self.pool, &self.vault.sealer).await?;
        for some in removed.chunks(TOGETHER) {
            let transaction = self.pool.long_transaction().await?;
            for it in some {
                let sealed = match &it.tokens {
                    Some(tokens) => Some(self.vault.seal(&it.id, it.version, "tokens", tokens)?),
                    None => None,
                };
                let key_id = sealed.as_ref().map(|sealed| sealed.key_id.as_str());
                let bytes = sealed.as_ref().map(|sealed| sealed.bytes.as_slice());
                let sql =
                    "INSERT INTO @.removed (kind, id, epoch, generation, key_id, tokens, removed_at, changed)
                    SELECT $1, $2, $3, $4, $5, $6, $7, pg_current_xact_id()::text::bigint
                    WHERE NOT EXISTS (SELECT FROM @.installations WHERE kind = $1 AND id = $2)
                    ON CONFLICT (kind, id) DO NOTHING";
                let (epoch, generation) = (number(it.version.epoch), number(it.version.generation));
                let values: Values<'_> = &[
                    (&it.id.kind(), Type::TEXT),
                    (&it.id.as_str(), Type::TEXT),
                    (&epoch, Type::INT8),
                    (&generation, Type::INT8),
                    (&key_id, Type::TEXT),
                    (&bytes, Type::BYTEA),
                    (&it.at.as_millis(), Type::INT8),
                ];
                transaction.ask(&self.pool.sql(sql), values).await?;
            }
            transaction.commit().await?;
        }
        Ok(())
    }

    /// Seals up to `limit` records anew that rest under another key; each replica may do some at once.
    pub(super) async fn sealed_anew(&self, limit: usize) -> Result<usize, Failure> {
        let Some(current) = self.vault.sealer.current_id() else { return Ok(0) };
        if limit > 0 {
            // Whoever seals anew says that its key is the newest.
            settings::set_newest_key(&self.pool, &self.vault.sealer).await?;
        }
        let mut done = 0;
        let mut unopened = None;
        for table in TABLES {
            if done < limit {
                match self.seal_some_anew(table, &current, limit - done).await {
                    Ok(count) => done += count,
                    Err(Failure::Store(error)) => unopened = Some(error),
                    Err(failure) => return Err(failure),
                }
            }
        }
        if done == 0
            && let Some(unopened) = unopened
        {
            return Err(unopened.into());
        }
        // Counting all of them again and again would cost more than sealing them.
        let known = self.left_to_seal.load(Ordering::Acquire);
        let left = match usize::try_from(known) {
            Ok(known) if known > done && done == limit => known - done,
            _ => self.under_other_keys(&current).await?,
        };
        self.left_to_seal.store(i64::try_from(left).unwrap_or(i64::MAX), Ordering::Release);
        if left > 0 {
            return Ok(left);
        }
        // Answers that wait beside are opened by those that replay them, and then are gone.
        let waiting = self.beside(Spool::under_other_keys).await?;
        if waiting == 0 {
            self.put_the_canary_under_the_key().await?;
        }
        Ok(waiting)
    }

    async fn under_other_keys(&self, current: &str) -> Result<usize, Failure> {
        let mut left = 0;
        for Sealable { table, .. } in TABLES {
            let sql = format!(
                "SELECT (SELECT count(*) FROM @.{table} WHERE key_id < $1)
                    + (SELECT count(*) FROM @.{table} WHERE key_id > $1)"
            );
            let row = self.pool.query_one(&self.pool.sql(&sql), &[(&current, Type::TEXT)]).await?;
            left += usize::try_from(row.try_get::<_, i64>(0)?).unwrap_or_default();
        }
        Ok(left)
    }

    async fn seal_some_anew(&self, what: Sealable, current: &str, limit: usize) -> Result<usize, Failure> {
        let Sealable { table, column, field } = what;
        let versions = if field == "parked" {
            "0::bigint AS epoch, 0::bigint AS generation"
        } else {
            "epoch, generation"
        };
        let transaction = self.pool.long_transaction().await?;
        let mut rows = Vec::new();
        // Two ranges, each by the index.
        for comparison in ["<", ">"] {
            let left = super::rows::limited(limit - rows.len());
            let sql = format!(
                "SELECT kind, id, {versions}, {column} AS sealed FROM @.{table}
                WHERE key_id {comparison} $1 LIMIT $2 FOR UPDATE SKIP LOCKED"
            );
            let values: Values<'_> = &[(&current, Type::TEXT), (&left, Type::INT8)];
            rows.extend(transaction.ask(&self.pool.sql(&sql), values).await?);
        }
        if rows.is_empty() {
            return Ok(0);
        }
        let vault = self.vault.clone();
        let seal = tokio::task::spawn_blocking(move || {
            let (mut anew, mut unopened) = (Vec::with_capacity(rows.len()), None);
            for row in &rows {
                let id = whose(row)?;
                let at = match field {
                    "parked" => NO_VERSION,
                    _ => version(row.try_get("epoch")?, row.try_get("generation")?),
                };
                let place = vault.seal_place(&id, at, field);
                match vault.sealer.open(&place, row.try_get("sealed")?) {
                    Ok(plain) => anew.push((id.clone(), at, vault.seal_bytes(&id, at, field, &plain)?)),
                    Err(why) => unopened = unopened.or(Some(why.at(format!("{}: {id}", vault.place)))),
                }
            }
            match (anew.is_empty(), unopened) {
                // What does not open holds up nothing else.
                (true, Some(unopened)) => Err(unopened.into()),
                _ => Ok::<_, Failure>(anew),
            }
        });
        let anew = seal.await.map_err(|error| Failure::NoConnection(error.into()))??;
        let kinds: Vec<&str> = anew.iter().map(|(id, _, _)| id.kind()).collect();
        let ids: Vec<&str> = anew.iter().map(|(id, _, _)| id.as_str()).collect();
        let epochs: Vec<i64> = anew.iter().map(|(_, at, _)| number(at.epoch)).collect();
        let generations: Vec<i64> = anew.iter().map(|(_, at, _)| number(at.generation)).collect();
        let sealed: Vec<&[u8]> = anew.iter().map(|(_, _, sealed)| sealed.bytes.as_slice()).collect();
        let same_version = match field {
            "parked" => "true",
            _ => "t.epoch = n.epoch AND t.generation = n.generation",
        };
        let sql = format!(
            "UPDATE @.{table} t SET {column} = n.sealed, key_id = $6
            FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bytea[])
                AS n (kind, id, epoch, generation, sealed)
            WHERE t.kind = n.kind AND t.id = n.id AND {same_version}"
        );
        let values: Values<'_> = &[
            (&kinds, Type::TEXT_ARRAY),
            (&ids, Type::TEXT_ARRAY),
            (&epochs, Type::INT8_ARRAY),
            (&generations, Type::INT8_ARRAY),
            (&sealed, Type::BYTEA_ARRAY),
            (&current, Type::TEXT),
        ];
        transaction.ask(&self.pool.sql(&sql), values).await?;
        transaction.commit().await?;
        Ok(anew.len())
    }

    /// Puts the canary under the current key, so that from now on no other opens the store.
    async fn put_the_canary_under_the_key(&self) -> Result<(), Failure> {
        let sql = self.pool.sql("SELECT value FROM @.meta WHERE name = 'canary'");
        let canary = self.pool.query_one(&sql, &[]).await?;
        if self.vault.sealer.is_current(canary.try_get(0)?) {
            return Ok(());
        }
        let canary = settings::canary(&self.vault.sealer, &self.vault.store_id);
        let sql = self.pool.sql("UPDATE @.meta SET value = $1 WHERE name = 'canary'");
        self.pool.query(&sql, &[(&canary, Type::BYTEA)]).await?;
        Ok(())
    }
}

/// A table in which something is sealed.
#[derive(Clone, Copy)]
struct Sealable {
    table: &'static str,
    column: &'static str,
    field: &'static str,
}

const TABLES: [Sealable; 3] = [
    Sealable { table: "sets", column: "sealed", field: "tokens" },
    Sealable { table: "removed", column: "tokens", field: "tokens" },
    Sealable { table: "parked", column: "tokens", field: "parked" },
];

fn sealed(vault: &super::rows::Vault, it: &Installation) -> Result<(Written, Vec<SetRow>), StoreError> {
    let earlier = Version { generation: it.version.generation.saturating_sub(1), ..it.version };
    let set = |version: Version, tokens| {
        let sealed = vault.seal(&it.id, version, "tokens", tokens)?;
        Ok::<_, StoreError>(SetRow {
            kind: it.id.kind(),
            id: it.id.as_str().to_owned(),
            version: (number(version.epoch), number(version.generation)),
            key_id: sealed.key_id,
            sealed: sealed.bytes,
        })
    };
    let mut sets = vec![set(it.version, &it.tokens)?];
    if let Some(previous) = &it.previous {
        sets.push(set(earlier, &previous.tokens)?);
    }
    Ok((Written::of(it, earlier), sets))
}
