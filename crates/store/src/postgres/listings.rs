//! Looks at many installations: in an order, page by page, each by an index.

use std::fmt::Write as _;
use std::time::Duration;

use tokens::store::{Counts, Due, Listing, Order, Stand};
use tokens::{CompanyId, InstallationId, Overview, Timestamp};
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::pool::{Failure, Pool, Values};
use super::rows::{COLUMNS, Vault, limited, whose};

/// The beginning of time, for what has no instant: what an index holds instead of none.
const NEVER: i64 = i64::MIN;

/// From where on a page begins: in front of everything, or behind one.
pub(super) struct From {
    at: i64,
    kind: &'static str,
    id: String,
}

impl From {
    pub(super) fn behind(after: Option<(i64, &InstallationId)>) -> Self {
        match after {
            Some((at, id)) => Self { at, kind: id.kind(), id: id.as_str().to_owned() },
            // Locations come before companies: the greatest kind first.
            None => Self { at: NEVER, kind: "~", id: String::new() },
        }
    }
}

/// Due by now; and what only a clock that has been set back since makes due later: tokens of a day
/// are due within fifteen hours, and nothing rests for longer than one.
pub(super) const REFRESH_DUE: &str = "
    (SELECT kind, id, refresh_due_at AS at FROM @.installations WHERE refresh_due_at <= $1
        AND refresh_due_at >= $5 AND (refresh_due_at > $5 OR kind < $6 OR kind = $6 AND id > $7)
        ORDER BY refresh_due_at, kind DESC, id LIMIT $4)
    UNION ALL (SELECT kind, id, refresh_due_at AS at FROM @.installations
        WHERE refresh_due_at > $2 AND retry_at IS NULL AND issued_at > $1 + (expires_at - issued_at) / 4
        AND refresh_due_at >= $5 AND (refresh_due_at > $5 OR kind < $6 OR kind = $6 AND id > $7)
        ORDER BY refresh_due_at, kind DESC, id LIMIT $4)
    UNION ALL (SELECT kind, id, refresh_due_at AS at FROM @.installations
        WHERE retry_at > $3 AND refresh_due_at > $1
        AND (refresh_due_at > $5 OR refresh_due_at = $5 AND (kind < $6 OR kind = $6 AND id > $7))
        ORDER BY refresh_due_at, kind DESC, id LIMIT $4)
    ORDER BY at, kind DESC, id LIMIT $4";

/// An interval ago, or never; by a clock that has been set back since; and what failed then, sooner.
pub(super) const CHECK_DUE: &str = "
    (SELECT kind, id, coalesce(checked_at, -9223372036854775808) AS at FROM @.installations
        WHERE coalesce(checked_at, -9223372036854775808) <= $1
        AND coalesce(checked_at, -9223372036854775808) >= $6
        AND (coalesce(checked_at, -9223372036854775808) > $6 OR kind < $7 OR kind = $7 AND id > $8)
        ORDER BY coalesce(checked_at, -9223372036854775808), kind DESC, id LIMIT $5)
    UNION ALL (SELECT kind, id, checked_at AS at FROM @.installations WHERE check_health = 'down'
        AND checked_at > $1 AND checked_at <= $2
        AND checked_at >= $6 AND (checked_at > $6 OR kind < $7 OR kind = $7 AND id > $8)
        ORDER BY checked_at, kind DESC, id LIMIT $5)
    UNION ALL (SELECT kind, id, checked_at AS at FROM @.installations WHERE check_health = 'down'
        AND checked_at > $3 AND checked_at <= $4
        AND checked_at >= $6 AND (checked_at > $6 OR kind < $7 OR kind = $7 AND id > $8)
        ORDER BY checked_at, kind DESC, id LIMIT $5)
    UNION ALL (SELECT kind, id, coalesce(checked_at, -9223372036854775808) AS at FROM @.installations
        WHERE coalesce(checked_at, -9223372036854775808) > $4
        AND coalesce(checked_at, -9223372036854775808) >= $6
        AND (coalesce(checked_at, -9223372036854775808) > $6 OR kind < $7 OR kind = $7 AND id > $8)
        ORDER BY coalesce(checked_at, -9223372036854775808), kind DESC, id LIMIT $5)
    ORDER BY at, kind DESC, id LIMIT $5";

pub(super) async fn refresh_due(
    pool: &Pool,
    now: Timestamp,
    after: Option<&Due>,
    limit: usize,
) -> Result<Vec<Due>, Failure> {
    const HOUR: i64 = 3_600_000;
    let now = now.as_millis();
    let (ahead, resting) = (now.saturating_add(18 * HOUR), now.saturating_add(2 * HOUR));
    let from = From::behind(after.map(|due| (due.at.as_millis(), &due.id)));
    let values: Values<'_> = &[
        (&now, Type::INT8),
        (&ahead, Type::INT8),
        (&resting, Type::INT8),
        (&limited(limit), Type::INT8),
        (&from.at, Type::INT8),
        (&from.kind, Type::TEXT),
        (&from.id, Type::TEXT),
    ];
    pool.query(&pool.sql(REFRESH_DUE), values).await?.iter().map(due).collect()
}

pub(super) async fn check_due(
    pool: &Pool,
    interval: Duration,
    now: Timestamp,
    after: Option<&Due>,
    limit: usize,
) -> Result<Vec<Due>, Failure> {
    let millis = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX / 4);
    let (now, whole) = (now.as_millis(), millis(interval));
    let after_a_failure = millis(interval.min(tokens::AFTER_A_FAILED_CHECK));
    let from = From::behind(after.map(|due| (due.at.as_millis(), &due.id)));
    let values: Values<'_> = &[
        (&now.saturating_sub(whole), Type::INT8),
        (&now.saturating_sub(after_a_failure), Type::INT8),
        (&now.saturating_add(after_a_failure), Type::INT8),
        (&now.saturating_add(whole), Type::INT8),
        (&limited(limit), Type::INT8),
        (&from.at, Type::INT8),
        (&from.kind, Type::TEXT),
        (&from.id, Type::TEXT),
    ];
    pool.query(&pool.sql(CHECK_DUE), values).await?.iter().map(due).collect()
}

fn due(row: &Row) -> Result<Due, Failure> {
    Ok(Due { at: Timestamp::from_millis(row.try_get("at")?), id: whose(row)? })
}

pub(super) async fn companies(pool: &Pool) -> Result<Vec<CompanyId>, Failure> {
    let sql = "SELECT id FROM @.installations WHERE kind = 'company' ORDER BY id";
    let rows = pool.query(&pool.sql(sql), &[]).await?;
    Ok(rows.iter().filter_map(|row| row.try_get::<_, &str>(0).ok()?.parse().ok()).collect())
}

pub(super) async fn counts(pool: &Pool) -> Result<Counts, Failure> {
    let sql = "SELECT kind, state, count(*) AS all, count(unlisted_at) AS unlisted
        FROM @.installations GROUP BY kind, state";
    let mut counts = Counts::default();
    for row in pool.query(&pool.sql(sql), &[]).await? {
        let (kind, state): (&str, &str) = (row.try_get("kind")?, row.try_get("state")?);
        let (all, unlisted): (i64, i64) = (row.try_get("all")?, row.try_get("unlisted")?);
        let (all, unlisted) = (all.unsigned_abs(), unlisted.unsigned_abs());
        match kind {
            "company" => counts.companies += all,
            _ => counts.locations += all,
        }
        match Stand::from_word(state) {
            Some(Stand::Connected) => counts.connected += all,
            Some(Stand::Uncertain) => counts.uncertain += all,
            Some(Stand::Suspended) => counts.suspended += all,
            Some(Stand::Broken) => counts.broken += all,
            None => {}
        }
        counts.unlisted += unlisted;
    }
    Ok(counts)
}

pub(super) async fn overview(
    pool: &Pool,
    vault: &Vault,
    listing: &Listing,
) -> Result<Vec<Overview>, Failure> {
    let mut found = Vec::new();
    // In the order of the ids an index holds each kind by itself.
    let kinds: &[&str] = match listing.order {
        Order::Id => &["location", "company"],
        Order::ExpiresAt | Order::CheckedAt => &[""],
    };
    for kind in kinds {
        if found.len() == listing.limit {
            break;
        }
        let Some(question) = Question::of(listing, kind, listing.limit - found.len()) else { continue };
        for row in pool.query(&pool.sql(&question.sql), &question.values()).await? {
            found.push(vault.overview(&row)?);
        }
    }
    Ok(found)
}

/// A listing as a statement.
pub(super) struct Question {
    pub(super) sql: String,
    values: Vec<(Box<dyn ToSql + Sync + Send>, Type)>,
}

impl Question {
    /// None where nothing of that kind can be behind.
    pub(super) fn of(listing: &Listing, kind: &str, limit: usize) -> Option<Self> {
        let mut question =
            Self { sql: format!("SELECT {COLUMNS} FROM @.installations i WHERE true"), values: Vec::new() };
        if !kind.is_empty() {
            question.also("i.kind = ?", [text(kind)]);
        }
        if let Some(company) = &listing.company {
            let id = || text(company.as_str());
            match kind {
                "location" => question.also("i.company = ?", [id()]),
                "company" => question.also("i.id = ?", [id()]),
                _ => question.also(
                    "(i.kind = 'location' AND i.company = ? OR i.kind = 'company' AND i.id = ?)",
                    [id(), id()],
                ),
            }
        }
        match listing.standing {
            // Said so, the index of the few that are not finds them.
            Some(stand) if stand != Stand::Connected => {
                question.also("i.state <> 'connected' AND i.state = ?", [text(stand.as_str())]);
            }
            Some(stand) => question.also("i.state = ?", [text(stand.as_str())]),
            None => {}
        }
        if let Some(part) = &listing.text {
            question.also("strpos(i.sought, ?) > 0", [text(&part.to_lowercase())]);
        }
        let key = match listing.order {
            Order::Id => None,
            Order::ExpiresAt => Some("i.expires_at"),
            Order::CheckedAt => Some("coalesce(i.checked_at, -9223372036854775808)"),
        };
        match (&listing.after, key) {
            (Some(after), None) if after.id.kind() == kind => {
                question.also("i.id > ?", [text(after.id.as_str())]);
            }
            (Some(after), None) if after.id.kind() < kind => return None,
            (Some(after), Some(key)) => {
                let at = match listing.order {
                    Order::ExpiresAt => after.expires_at.as_millis(),
                    _ => after.last_check.as_ref().map_or(NEVER, |check| check.at.as_millis()),
                };
                let (kind, id) = (after.id.kind(), after.id.as_str());
                question.also(
                    &format!("{key} >= ? AND ({key} > ? OR i.kind < ? OR i.kind = ? AND i.id > ?)"),
                    [instant(at), instant(at), text(kind), text(kind), text(id)],
                );
            }
            _ => {}
        }
        let order = key.map_or_else(|| "i.id".to_owned(), |key| format!("{key}, i.kind DESC, i.id"));
        question.values.push(instant(limited(limit)));
        let _ = write!(question.sql, " ORDER BY {order} LIMIT ${}", question.values.len());
        Some(question)
    }

    fn also<const COUNT: usize>(
        &mut self,
        condition: &str,
        values: [(Box<dyn ToSql + Sync + Send>, Type); COUNT],
    ) {
        self.sql.push_str(" AND ");
        let mut parts = condition.split('?');
        self.sql.push_str(parts.next().unwrap_or_default());
        for (value, part) in values.into_iter().zip(parts) {
            self.values.push(value);
            let _ = write!(self.sql, "${}{part}", self.values.len());
        }
    }

    pub(super) fn values(&self) -> Vec<(&(dyn ToSql + Sync), Type)> {
        self.values.iter().map(|(value, kind)| (&**value as &(dyn ToSql + Sync), kind.clone())).collect()
    }
}

fn text(value: &str) -> (Box<dyn ToSql + Sync + Send>, Type) {
    (Box::new(value.to_owned()), Type::TEXT)
}

fn instant(value: i64) -> (Box<dyn ToSql + Sync + Send>, Type) {
    (Box::new(value), Type::INT8)
}
