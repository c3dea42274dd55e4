//! What is true of the store as a whole: its id, the key it is under, whether it is on standby.

use std::sync::Arc;

use tokens::StoreError;
use tokio_postgres::types::Type;

use super::pool::{Failure, Pool, Transaction};
use super::rows::Vault;
use crate::data_file::random_name;
use crate::seal::{Place, Sealer, Unopened};

const CANARY: &[u8] = b"this key opens this store";

/// Opens the store's part of the database, or makes it; checks the key before anything is written.
pub(super) async fn open(pool: &Pool, sealer: Arc<Sealer>) -> Result<Vault, Failure> {
    let place = pool.place().to_owned();
    if sealer.current_id().is_none() {
        return Err(StoreError::KeyMissing { place }.into());
    }
    let version = pool.version(super::PART).await?;
    if version > 0 && usize::try_from(version).is_ok_and(|version| version <= super::MIGRATIONS.len()) {
        check_key(pool, &sealer).await?;
    }
    let store_id = random_name();
    let current = sealer.current_id().unwrap_or_default();
    let begin = [
        ("store_id", store_id.clone().into_bytes()),
        ("key_id", current.into_bytes()),
        ("canary", canary(&sealer, &store_id)),
    ];
    pool.migrate(super::PART, &super::MIGRATIONS, &begin).await?;
    // Someone else may have been faster to make it, under another key.
    let store_id = check_key(pool, &sealer).await?;
    note_key(pool, &sealer).await?;
    // Of a new database, an earlier program's, or one whose filling was broken off.
    super::indexes::make(pool).await?;
    Ok(Vault { sealer, store_id, place })
}

pub(super) fn canary(sealer: &Sealer, store_id: &str) -> Vec<u8> {
    sealer.seal(&Place::whole(store_id, "canary"), CANARY).unwrap_or_default()
}

/// Opens the canary with any of the keys. The answer is the store's id.
async fn check_key(pool: &Pool, sealer: &Sealer) -> Result<String, Failure> {
    let gone = |name: &str| StoreError::Unreadable {
        place: pool.place().to_owned(),
        why: format!("its `{name}` is gone"),
    };
    let store_id = meta(pool, "store_id").await?.ok_or_else(|| gone("store_id"))?;
    let store_id = String::from_utf8_lossy(&store_id).into_owned();
    let canary = meta(pool, "canary").await?.ok_or_else(|| gone("canary"))?;
    let refused = |why: Unopened| why.at(pool.place());
    let opened = sealer.open(&Place::whole(&store_id, "canary"), &canary).map_err(refused)?;
    match opened.as_slice() == CANARY {
        true => Ok(store_id),
        false => Err(refused(Unopened::Broken).into()),
    }
}

/// Writes down a key that was never seen before as the newest. One that was may be the newest of a
/// process that was not told of a newer one yet.
async fn note_key(pool: &Pool, sealer: &Sealer) -> Result<(), Failure> {
    let newest = newest_key(pool, sealer).await?;
    let current = sealer.current_id().unwrap_or_default();
    let before = meta(pool, "keys_before").await?.unwrap_or_default();
    match newest == current || String::from_utf8_lossy(&before).split(' ').any(|key| key == current) {
        true => Ok(()),
        false => set_newest_key(pool, sealer).await,
    }
}

/// The newest key that this store has seen; an error that names it where it is not among those given:
/// what was written now would be lost once the older ones are gone.
pub(super) async fn newest_key(pool: &Pool, sealer: &Sealer) -> Result<String, Failure> {
    let newest = String::from_utf8_lossy(&meta(pool, "key_id").await?.unwrap_or_default()).into_owned();
    known(newest, pool, sealer)
}

fn known(newest: String, pool: &Pool, sealer: &Sealer) -> Result<String, Failure> {
    match sealer.knows(&newest) {
        true => Ok(newest),
        false => Err(StoreError::WrongKey { place: pool.place().to_owned(), key_id: newest }.into()),
    }
}

/// Makes the current key the newest.
pub(super) async fn set_newest_key(pool: &Pool, sealer: &Sealer) -> Result<(), Failure> {
    let current = sealer.current_id().unwrap_or_default();
    if newest_key(pool, sealer).await? == current {
        return Ok(());
    }
    let transaction = pool.transaction().await?;
    let newest = "SELECT convert_from(value, 'UTF8') FROM @.meta WHERE name = 'key_id' FOR UPDATE";
    let newest = known(transaction.one(&pool.sql(newest), &[]).await?.try_get(0)?, pool, sealer)?;
    if newest == current {
        return Ok(());
    }
    let sql = pool.sql(
        "INSERT INTO @.meta VALUES ('keys_before', $1)
         ON CONFLICT (name) DO UPDATE SET value = meta.value || ' '::bytea || excluded.value",
    );
    transaction.ask(&sql, &[(&newest.as_bytes(), Type::BYTEA)]).await?;
    let sql = pool.sql("UPDATE @.meta SET value = $1 WHERE name = 'key_id'");
    transaction.ask(&sql, &[(&current.as_bytes(), Type::BYTEA)]).await?;
    transaction.commit().await
}

/// Lets in whoever begins to write what is sealed: not while another store keeps these grants, nor
/// under a key that a newer one has followed.
pub(super) async fn admit(transaction: &Transaction, pool: &Pool, sealer: &Sealer) -> Result<(), Failure> {
    // In a statement of its own: the next one sees what whoever held the table against us wrote.
    transaction.batch_execute(&pool.sql("LOCK TABLE @.installations IN ROW EXCLUSIVE MODE")).await?;
    let sql = "SELECT name, convert_from(value, 'UTF8') FROM @.meta WHERE name IN ('key_id', 'standby')";
    for row in transaction.ask(&pool.sql(sql), &[]).await? {
        let (name, value): (&str, String) = (row.try_get(0)?, row.try_get(1)?);
        match name {
            "key_id" => drop(known(value, pool, sealer)?),
            _ => return Err(StoreError::Standby { place: pool.place().to_owned(), why: value }.into()),
        }
    }
    Ok(())
}

async fn meta(pool: &Pool, name: &str) -> Result<Option<Vec<u8>>, Failure> {
    let sql = pool.sql("SELECT value FROM @.meta WHERE name = $1");
    let row = pool.query_opt(&sql, &[(&name, Type::TEXT)]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

pub(super) async fn standby(pool: &Pool) -> Result<Option<String>, Failure> {
    let why = meta(pool, "standby").await?;
    Ok(why.map(|why| String::from_utf8_lossy(&why).into_owned()))
}

/// Puts the store on standby, once no flight holds a lease: those that would begin one, and those that
/// were admitted to write, are waited for.
pub(super) async fn set_standby(pool: &Pool, why: Option<&str>) -> Result<(), Failure> {
    let transaction = pool.transaction().await?;
    let Some(why) = why else {
        transaction.batch_execute(&pool.sql("DELETE FROM @.meta WHERE name = 'standby'")).await?;
        return transaction.commit().await;
    };
    transaction.batch_execute(&pool.sql("LOCK TABLE @.installations IN SHARE ROW EXCLUSIVE MODE")).await?;
    // An open intent is due at the beginning of time, so an index finds those that fly.
    let sql = pool.sql(
        "SELECT count(*) FROM @.installations WHERE refresh_due_at = -9223372036854775808
            AND lease_until > (extract(epoch FROM clock_timestamp()) * 1000)::bigint",
    );
    let flying: i64 = transaction.one(&sql, &[]).await?.try_get(0)?;
    if flying > 0 {
        return Err(StoreError::InTheAir { place: pool.place().to_owned() }.into());
    }
    let sql = pool.sql(
        "INSERT INTO @.meta VALUES ('standby', $1) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
    );
    transaction.ask(&sql, &[(&why.as_bytes(), Type::BYTEA)]).await?;
    transaction.commit().await
}
