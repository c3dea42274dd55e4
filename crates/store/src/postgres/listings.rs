//! Looks at many installations: in an order, page by page, each by an index.

use std::fmt::Write as _;
use std::time::Duration;

use tokens::store::{Counts, Due, Listing, Order, Stand};
use tokens::{CompanyId, InstallationId, Overview, Timestamp};
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::pool::{Failure, Pool};
use super::rows::{COLUMNS, Vault, limited, whose};

/// The beginning of time, for what has no instant: what an index holds instead of none.
const NEVER: i64 = i64::MIN;

/// When it was checked, in the index's words.
pub(super) const CHECKED: &str = "coalesce(checked_at, -9223372036854775808)";

/// The beginning of an installation's place among all, as an index holds it: less than half of what the
/// whole would take. Those that share it are few, and sorted when they are met.
pub(super) const PLACE: &str =
    "((CASE kind WHEN 'location' THEN '0' ELSE '1' END || left(id, 6)) COLLATE \"C\")";

/// The same of an id at hand.
fn place_of(id: &InstallationId) -> String {
    let kind = match id {
        InstallationId::Location(_) => '0',
        InstallationId::Company(_) => '1',
    };
    std::iter::once(kind).chain(id.as_str().chars().take(6)).collect()
}

/// From where on a page begins: in front of everything, or behind one.
struct From {
    at: i64,
    place: String,
    kind: &'static str,
    id: String,
}

impl From {
    fn behind(after: Option<(i64, &InstallationId)>) -> Self {
        match after {
            Some((at, id)) => Self { at, place: place_of(id), kind: id.kind(), id: id.as_str().to_owned() },
            // Locations come before companies: the greatest kind first.
            None => Self { at: NEVER, place: String::new(), kind: "~", id: String::new() },
        }
    }
}

/// What is due by one column and one condition, as a part of a question: $1 to $4 are where the page
/// begins, $5 is how many.
fn part(at: &str, condition: &str) -> String {
    format!(
        "(SELECT kind, id, {at} AS at FROM @.installations WHERE {condition}
            AND ({at}, {PLACE}) >= ($1, $2) AND ({at} > $1 OR kind < $3 OR kind = $3 AND id > $4)
            ORDER BY {at}, {PLACE}, kind DESC, id LIMIT $5)"
    )
}

/// Several of them as one.
fn together<const COUNT: usize>(parts: [String; COUNT]) -> String {
    format!("{} ORDER BY at, kind DESC, id LIMIT $5", parts.join(" UNION ALL "))
}

/// Asks what is due `first`, and only if that is less than `limit` for `then`, which is due later: more
/// to plan than to do, most of the time.
async fn all_due(
    pool: &Pool,
    after: Option<&Due>,
    limit: usize,
    (first, first_at): (String, &[i64]),
    (then, then_at): (String, &[i64]),
) -> Result<Vec<Due>, Failure> {
    let from = From::behind(after.map(|due| (due.at.as_millis(), &due.id)));
    let mut found = Vec::new();
    for (sql, instants) in [(first, first_at), (then, then_at)] {
        let left = limited(limit - found.len());
        let mut values: Vec<(&(dyn ToSql + Sync), Type)> = vec![
            (&from.at, Type::INT8),
            (&from.place, Type::TEXT),
            (&from.kind, Type::TEXT),
            (&from.id, Type::TEXT),
            (&left, Type::INT8),
        ];
        values.extend(instants.iter().map(|at| (at as &(dyn ToSql + Sync), Type::INT8)));
        for row in pool.query(&pool.sql(&sql), &values).await? {
            found.push(due(&row)?);
        }
        if found.len() == limit {
            break;
        }
    }
    Ok(found)
}

/// Due by now; and what only a clock that has been set back since makes due later: tokens of a day
/// are due within fifteen hours, and nothing rests for longer than one.
pub(super) async fn refresh_due(
    pool: &Pool,
    now: Timestamp,
    after: Option<&Due>,
    limit: usize,
) -> Result<Vec<Due>, Failure> {
    const HOUR: i64 = 3_600_000;
    let now = now.as_millis();
    let (ahead, resting) = (now.saturating_add(18 * HOUR), now.saturating_add(2 * HOUR));
    let by_now = part("refresh_due_at", "refresh_due_at <= $6");
    let by_another_clock = together([
        part(
            "refresh_due_at",
            "refresh_due_at > $7 AND retry_at IS NULL AND issued_at > $6 + (expires_at - issued_at) / 4",
        ),
        part("refresh_due_at", "retry_at > $8 AND refresh_due_at > $6"),
    ]);
    all_due(pool, after, limit, (by_now, &[now]), (by_another_clock, &[now, ahead, resting])).await
}

/// An interval ago, or never; and what failed then, sooner; and what was checked by a clock that has been
/// set back since.
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
    let instants = [
        now.saturating_sub(whole),
        now.saturating_sub(after_a_failure),
        now.saturating_add(after_a_failure),
        now.saturating_add(whole),
    ];
    let an_interval_ago = part(CHECKED, &format!("{CHECKED} <= $6"));
    let later = together([
        part("checked_at", "check_health = 'down' AND checked_at > $6 AND checked_at <= $7"),
        part("checked_at", "check_health = 'down' AND checked_at > $8 AND checked_at <= $9"),
        part(CHECKED, &format!("{CHECKED} > $9")),
    ]);
    all_due(pool, after, limit, (an_interval_ago, &instants[..1]), (later, &instants)).await
}

fn due(row: &Row) -> Result<Due, Failure> {
    Ok(Due { at: Timestamp::from_millis(row.try_get("at")?), id: whose(row)? })
}

pub(super) async fn companies(pool: &Pool) -> Result<Vec<CompanyId>, Failure> {
    let sql = "SELECT id FROM @.installations WHERE kind = 'company' ORDER BY id";
    let rows = pool.query(&pool.sql(sql), &[]).await?;
    Ok(rows.iter().filter_map(|row| row.try_get::<_, &str>(0).ok()?.parse().ok()).collect())
}

/// All of them by the smallest index, and those that are out of the ordinary by indexes of their own.
pub(super) async fn counts(pool: &Pool) -> Result<Counts, Failure> {
    let sql = "SELECT 'all' AS what, count(*) AS many FROM @.installations
        UNION ALL SELECT 'companies', count(*) FROM @.installations WHERE kind = 'company'
        UNION ALL SELECT 'unlisted', count(*) FROM @.installations WHERE unlisted_at IS NOT NULL
        UNION ALL SELECT state, count(*) FROM @.installations WHERE state <> 'connected' GROUP BY state";
    let mut counts = Counts::default();
    let mut all = 0;
    for row in pool.query(&pool.sql(sql), &[]).await? {
        let (what, many): (&str, i64) = (row.try_get("what")?, row.try_get("many")?);
        let many = many.unsigned_abs();
        match (what, Stand::from_word(what)) {
            ("all", _) => all = many,
            ("companies", _) => counts.companies = many,
            ("unlisted", _) => counts.unlisted = many,
            (_, Some(Stand::Uncertain)) => counts.uncertain = many,
            (_, Some(Stand::Suspended)) => counts.suspended = many,
            (_, Some(Stand::Broken)) => counts.broken = many,
            (_, Some(Stand::Connected)) => {}
            // A later program's: not connected, and nothing we have a word for.
            (_, None) => counts.connected = counts.connected.wrapping_sub(many),
        }
    }
    counts.locations = all - counts.companies;
    let others = counts.uncertain + counts.suspended + counts.broken;
    counts.connected = counts.connected.wrapping_add(all - others);
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
                // The index knows companies by their hashes.
                "location" => {
                    question.also("hashtext(i.company) = hashtext(?) AND i.company = ?", [id(), id()]);
                }
                "company" => question.also("i.id = ?", [id()]),
                _ => question.also(
                    "(hashtext(i.company) = hashtext(?) AND i.company = ? AND i.kind = 'location'
                        OR i.kind = 'company' AND i.id = ?)",
                    [id(), id(), id()],
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
            let part = part.to_lowercase();
            match part.chars().all(|it| it.is_ascii_alphanumeric() || it == '-' || it == '_') {
                true => question.also(
                    "(strpos(i.sought, ?) > 0 OR strpos(lower(i.id COLLATE \"C\"), ?) > 0)",
                    [text(&part), text(&part)],
                ),
                // No id has that in it.
                false => question.also("strpos(i.sought, ?) > 0", [text(&part)]),
            }
        }
        let key = match listing.order {
            Order::Id => None,
            Order::ExpiresAt => Some("expires_at"),
            Order::CheckedAt => Some(CHECKED),
        };
        match (&listing.after, key) {
            (Some(after), None) if after.id.kind() == kind => {
                question.also("i.id > ?", [text(after.id.as_str())]);
                if listing.company.is_some() {
                    question.also(&format!("{PLACE} >= ?"), [text(&place_of(&after.id))]);
                }
            }
            (Some(after), None) if after.id.kind() < kind => return None,
            (Some(after), Some(key)) => {
                let at = match listing.order {
                    Order::ExpiresAt => after.expires_at.as_millis(),
                    _ => after.last_check.as_ref().map_or(NEVER, |check| check.at.as_millis()),
                };
                let (kind, id) = (after.id.kind(), after.id.as_str());
                question.also(
                    &format!(
                        "({key}, {PLACE}) >= (?, ?) AND ({key} > ? OR i.kind < ? OR i.kind = ? AND i.id > ?)"
                    ),
                    [instant(at), text(&place_of(&after.id)), instant(at), text(kind), text(kind), text(id)],
                );
            }
            _ => {}
        }
        let order = match key {
            Some(key) => format!("{key}, {PLACE}, i.kind DESC, i.id"),
            // In a company's index they lie by their places.
            None if listing.company.is_some() => format!("{PLACE}, i.id"),
            None => "i.id".to_owned(),
        };
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
