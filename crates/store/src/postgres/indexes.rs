//! The indexes that are only for looking: one list for a new database, for one of an earlier program and
//! for one that was filled without them.

use tokio_postgres::types::Type;

use super::listings::{CHECKED, PLACE};
use super::pool::{Failure, Pool};

/// Each by its name, with what it holds. Where an instant has ties, the beginning of the place sorts them.
fn all() -> [(&'static str, String); 10] {
    [
        ("installations_changed", "installations (changed)".to_owned()),
        (
            "installations_due",
            format!("installations (refresh_due_at, {PLACE}) WHERE refresh_due_at IS NOT NULL"),
        ),
        ("installations_resting", "installations (retry_at) WHERE retry_at IS NOT NULL".to_owned()),
        ("installations_checks", format!("installations (({CHECKED}), {PLACE})")),
        (
            "installations_checks_down",
            format!("installations (checked_at, {PLACE}) WHERE check_health = 'down'"),
        ),
        ("installations_ends", format!("installations (expires_at, {PLACE})")),
        ("installations_companies", format!("installations (hashtext(company), {PLACE})")),
        (
            "installations_not_connected",
            "installations (state, kind DESC, id) WHERE state <> 'connected'".to_owned(),
        ),
        ("installations_unlisted", "installations (unlisted_at) WHERE unlisted_at IS NOT NULL".to_owned()),
        ("sets_key", "sets (key_id)".to_owned()),
    ]
}

/// Which of them are not there.
async fn missing(pool: &Pool) -> Result<Vec<(&'static str, String)>, Failure> {
    let sql = "SELECT c.relname::text FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid
        WHERE c.relnamespace = to_regnamespace($1) AND i.indisvalid";
    let mut there = std::collections::HashSet::new();
    for row in pool.query(sql, &[(&pool.schema(), Type::TEXT)]).await? {
        there.insert(row.try_get::<_, String>(0)?);
    }
    Ok(all().into_iter().filter(|(name, _)| !there.contains(*name)).collect())
}

/// Makes those that are not there. Whether there were any.
pub(super) async fn make(pool: &Pool) -> Result<bool, Failure> {
    let missing = missing(pool).await?;
    for (name, on) in &missing {
        // Each by itself, so that whoever writes meanwhile waits for one of them at most.
        let transaction = pool.long_transaction().await?;
        transaction.wait_for_others_who_build().await?;
        let sql =
            format!("SET LOCAL maintenance_work_mem = '128MB'; CREATE INDEX IF NOT EXISTS {name} ON @.{on}");
        transaction.batch_execute(&pool.sql(&sql)).await?;
        transaction.commit().await?;
    }
    Ok(!missing.is_empty())
}

/// Leaves them out, if nothing is kept yet.
pub(super) async fn leave_out(pool: &Pool) -> Result<(), Failure> {
    let is_empty = "SELECT NOT EXISTS (SELECT FROM @.installations) AND NOT EXISTS (SELECT FROM @.sets)";
    if !pool.query_one(&pool.sql(is_empty), &[]).await?.try_get::<_, bool>(0)? {
        return Ok(());
    }
    let transaction = pool.long_transaction().await?;
    // Nobody puts the first one meanwhile.
    let lock = "LOCK TABLE @.installations, @.sets IN ACCESS EXCLUSIVE MODE";
    transaction.batch_execute(&pool.sql(lock)).await?;
    if transaction.one(&pool.sql(is_empty), &[]).await?.try_get(0)? {
        for (name, _) in all() {
            transaction.batch_execute(&pool.sql(&format!("DROP INDEX IF EXISTS @.{name}"))).await?;
        }
    }
    transaction.commit().await
}

/// Makes those that were left out, and has the planner know what is there now.
pub(super) async fn make_at_the_end(pool: &Pool) -> Result<(), Failure> {
    if make(pool).await? {
        // What came in no order has left its pages half empty.
        let transaction = pool.long_transaction().await?;
        transaction.batch_execute(&pool.sql("REINDEX INDEX @.installations_pkey")).await?;
        transaction.commit().await?;
        // In no transaction, as it asks to be. Without it all works as well, if slower for a while.
        let client = pool.client().await?;
        let sql = pool.sql("VACUUM (ANALYZE) @.installations");
        let looked = client.batch_execute(&sql).await;
        let sampled = client.batch_execute(&pool.sql("ANALYZE @.sets")).await;
        if let Err(error) = looked.and(sampled) {
            tracing::debug!(%error, "the tables were not looked over; autovacuum does it later");
        }
    }
    Ok(())
}
