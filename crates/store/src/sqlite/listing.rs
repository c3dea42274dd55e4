//! How many installations stand how, and what is due: page by page, and at the cost of the page.
//!
//! Each order has an index in which the rows lie in that order; those of the same instant lie there as
//! they came. A page goes on behind the last row of the one before in ranges that an index finds, one
//! after another. Only a search for text looks at every row.

use std::time::Duration;

use rusqlite::types::Value;
use rusqlite::{Row, params_from_iter};
use tokens::store::{Counts, Due, Listing, Order, Stand};
use tokens::{CompanyId, InstallationId, Overview, Timestamp};

use super::database::{Failure, Rows};
use super::installations::{COLUMNS, Stored};
use super::parked::{whose, whose_in};

/// A range of rows: what holds for them, with the values in the place of the question marks.
#[derive(Clone, Default)]
struct Range {
    /// Where SQLite, which knows of no page, would rather sort them all. It does where the index is left
    /// out while very many are put.
    index: Option<&'static str>,
    conditions: Vec<&'static str>,
    values: Vec<Value>,
}

impl Range {
    fn with(mut self, condition: &'static str, values: impl IntoIterator<Item = Value>) -> Self {
        self.conditions.push(condition);
        self.values.extend(values);
        self
    }

    fn sql(&self, columns: &str, order: &str) -> String {
        let conditions = match self.conditions.is_empty() {
            true => String::new(),
            false => format!(" WHERE {}", self.conditions.join(" AND ")),
        };
        let by = self.index.map(|index| format!(" INDEXED BY {index}")).unwrap_or_default();
        format!("SELECT {columns} FROM installations{by}{conditions} ORDER BY {order}")
    }
}

/// Those of the same instant that came after `id`: all of them, if it has left meanwhile.
fn behind(id: &InstallationId) -> (&'static str, [Value; 2]) {
    let sql = "number > coalesce((SELECT number FROM installations WHERE kind = ? AND id = ?), 0)";
    (sql, [Value::from(id.kind().to_owned()), Value::from(id.as_str().to_owned())])
}

/// The ranges in which a listing goes on, in their order.
fn ranges(listing: &Listing) -> Vec<Range> {
    let is_rare = listing.company.is_some() || listing.standing.is_some_and(|it| it != Stand::Connected);
    let index = match listing.order {
        Order::ExpiresAt if !is_rare => Some("installations_expiring"),
        Order::CheckedAt if !is_rare => Some("installations_checked"),
        _ => None,
    };
    let all = standing(listing.standing, Range { index, ..Range::default() });
    match (listing.order, &listing.after) {
        (Order::Id, after) => by_id(&all, listing.company.as_ref(), after.as_ref()),
        (_, None) => vec![of_company(listing.company.as_ref(), all)],
        (Order::ExpiresAt, Some(after)) => {
            let at = || [Value::from(after.expires_at.as_millis())];
            let all = of_company(listing.company.as_ref(), all);
            let same = all.clone().with("expires_at = ?", at());
            let (sql, values) = behind(&after.id);
            vec![same.with(sql, values), all.with("expires_at > ?", at())]
        }
        (Order::CheckedAt, Some(after)) => {
            let all = of_company(listing.company.as_ref(), all);
            let (same, later) = match &after.last_check {
                Some(check) => {
                    let at = || [Value::from(check.at.as_millis())];
                    (all.clone().with("checked_at = ?", at()), all.with("checked_at > ?", at()))
                }
                None => (all.clone().with("checked_at IS NULL", []), all.with("checked_at IS NOT NULL", [])),
            };
            let (sql, values) = behind(&after.id);
            vec![same.with(sql, values), later]
        }
    }
}

fn standing(stand: Option<Stand>, all: Range) -> Range {
    let word = |stand: Stand| [Value::from(stand.as_str().to_owned())];
    match stand {
        None => all,
        Some(Stand::Connected) => all.with("state IS NULL", []),
        Some(stand) => all.with("state = ?", word(stand)),
    }
}

fn of_company(company: Option<&CompanyId>, all: Range) -> Range {
    let Some(company) = company else { return all };
    let company = Value::from(company.as_str().to_owned());
    let sql = "((company = (SELECT number FROM texts WHERE text = ?) AND kind = 'location')
        OR (kind = 'company' AND id = ?))";
    all.with(sql, [company.clone(), company])
}

/// Locations first, then companies.
fn by_id(all: &Range, company: Option<&CompanyId>, after: Option<&Overview>) -> Vec<Range> {
    let mut found = Vec::new();
    for kind in ["location", "company"] {
        let behind = match after.map(|after| &after.id) {
            Some(after) if after.kind() == kind => Some(after.as_str()),
            Some(after) if after.kind() < kind => continue,
            _ => None,
        };
        let mut range = match kind {
            "location" => all.clone().with("kind = 'location'", []),
            _ => all.clone().with("kind = 'company'", []),
        };
        if let Some(company) = company {
            let own = [Value::from(company.as_str().to_owned())];
            let sql = match kind {
                "location" => "company = (SELECT number FROM texts WHERE text = ?)",
                _ => "id = ?",
            };
            range = range.with(sql, own);
        }
        if let Some(behind) = behind {
            range = range.with("id > ?", [Value::from(behind.to_owned())]);
        }
        found.push(range);
    }
    found
}

fn order_by(order: Order) -> &'static str {
    match order {
        // Each range is of one kind.
        Order::Id => "id",
        Order::ExpiresAt => "expires_at, number",
        Order::CheckedAt => "checked_at, number",
    }
}

/// What a search looks for, in small letters.
struct Text(String);

impl Text {
    /// Whether the id or the name of a row has it, whatever its case.
    fn is_in(&self, row: &Row<'_>) -> Result<bool, rusqlite::Error> {
        let has = |column: usize| -> Result<bool, rusqlite::Error> {
            let text = row.get_ref(column)?.as_str_or_null()?.unwrap_or_default();
            Ok(match text.is_ascii() {
                true if self.0.is_ascii() => has_ignoring_case(text.as_bytes(), self.0.as_bytes()),
                _ => text.to_lowercase().contains(&self.0),
            })
        };
        // Of the columns `kind, id, name`; to look for them by name in every row would cost as much as all else.
        Ok(has(1)? || has(2)?)
    }
}

fn has_ignoring_case(text: &[u8], part: &[u8]) -> bool {
    part.is_empty() || text.windows(part.len()).any(|window| window.eq_ignore_ascii_case(part))
}

/// The range in which those lie whose refresh is due by now.
fn refresh_due(now: Timestamp) -> Range {
    Range::default().with("refresh_due_at <= ?", [Value::from(now.as_millis())])
}

/// The ranges of what only a clock that has been set back since makes due: tokens of a day are due
/// within fifteen hours, and nothing rests for longer than one. What rests is due when it has rested.
fn due_by_a_clock_ahead(now: Timestamp) -> [(Range, &'static str); 2] {
    const HOUR: i64 = 3_600_000;
    let later = |hours: i64| Value::from(now.as_millis().saturating_add(hours * HOUR));
    [
        (
            Range::default()
                .with("refresh_due_at > ?", [later(18)])
                .with("retry_at IS NULL AND issued_at > ? + (expires_at - issued_at) / 4", [later(0)]),
            "refresh_due_at",
        ),
        // The plus keeps SQLite from the wrong index.
        (
            Range::default().with("retry_at > ?", [later(2)]).with("+refresh_due_at > ?", [later(0)]),
            "retry_at",
        ),
    ]
}

/// Of the ranges of what is due, the parts that lie behind a cursor, in their order.
fn parts(range: &Range, column: &'static str, after: Option<&Due>) -> Vec<Range> {
    let Some(Due { at, id }) = after else { return vec![range.clone()] };
    let at = || [Value::from(at.as_millis())];
    let (same, later) = match column {
        "refresh_due_at" => ("refresh_due_at = ?", "refresh_due_at > ?"),
        "retry_at" => ("retry_at = ?", "retry_at > ?"),
        _ => ("checked_at = ?", "checked_at > ?"),
    };
    let same = range.clone().with(same, at());
    let (sql, values) = behind(id);
    vec![same.with(sql, values), range.clone().with(later, at())]
}

/// The ranges in which those lie whose check is due, in the order of their last checks: an interval
/// ago; what failed, sooner; and what was checked by a clock that has been set back since. Those never
/// checked come before them all.
fn check_due(interval: Duration, now: Timestamp) -> [Range; 4] {
    let millis = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX / 4);
    let interval_millis = millis(interval);
    let after_a_failure = millis(interval.min(tokens::AFTER_A_FAILED_CHECK));
    let value = |offset: i64| [Value::from(now.as_millis().saturating_add(offset))];
    let down = || Range::default().with("check_health = 'down'", []);
    [
        Range::default().with("checked_at <= ?", value(-interval_millis)),
        down()
            .with("checked_at > ?", value(-interval_millis))
            .with("checked_at <= ?", value(-after_a_failure)),
        down().with("checked_at > ?", value(after_a_failure)).with("checked_at <= ?", value(interval_millis)),
        Range::default().with("checked_at > ?", value(interval_millis)),
    ]
}

impl Rows<'_> {
    pub(super) fn overview(&self, listing: &Listing) -> Result<Vec<Overview>, Failure> {
        let text = listing.text.as_ref().map(|text| Text(text.to_lowercase()));
        let mut found = Vec::new();
        // A search looks at every row: it takes no more of each than it looks at.
        let columns = if text.is_some() { "kind, id, name" } else { COLUMNS };
        for range in ranges(listing) {
            let order = order_by(listing.order);
            let mut statement = match self.transaction.prepare_cached(&range.sql(columns, order)) {
                Err(_) if range.index.is_some() => {
                    let range = Range { index: None, ..range.clone() };
                    self.transaction.prepare_cached(&range.sql(columns, order))?
                }
                prepared => prepared?,
            };
            let mut rows = statement.query(params_from_iter(range.values))?;
            while found.len() < listing.limit {
                let Some(row) = rows.next()? else { break };
                match &text {
                    None => found.push(self.overview_of(Stored::read(row)?)?),
                    Some(text) if text.is_in(row)? => {
                        let stored = self.find(&whose(row)?)?;
                        found.extend(stored.map(|stored| self.overview_of(stored)).transpose()?);
                    }
                    Some(_) => {}
                }
            }
        }
        Ok(found)
    }

    /// What is rare is counted; how many there are of the rest is what SQLite tells fastest.
    pub(super) fn counts(&self) -> Result<Counts, Failure> {
        let count = |sql: &str| -> Result<u64, rusqlite::Error> {
            self.transaction.prepare_cached(sql)?.query_row([], |row| row.get(0))
        };
        let all = count("SELECT count(*) FROM installations")?;
        let companies = count("SELECT count(*) FROM installations WHERE kind = 'company'")?;
        let mut counts = Counts {
            locations: all.saturating_sub(companies),
            companies,
            connected: all,
            unlisted: count("SELECT count(*) FROM installations WHERE unlisted_at IS NOT NULL")?,
            ..Counts::default()
        };
        let mut statement = self.transaction.prepare_cached(
            "SELECT state, count(*) FROM installations WHERE state IS NOT NULL GROUP BY state",
        )?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (state, count): (String, u64) = (row.get(0)?, row.get(1)?);
            counts.connected = counts.connected.saturating_sub(count);
            match Stand::from_word(&state) {
                Some(Stand::Uncertain) => counts.uncertain = count,
                Some(Stand::Suspended) => counts.suspended = count,
                Some(Stand::Broken) => counts.broken = count,
                Some(Stand::Connected) | None => {}
            }
        }
        Ok(counts)
    }

    pub(super) fn refresh_due(
        &self,
        now: Timestamp,
        after: Option<&Due>,
        limit: usize,
    ) -> Result<Vec<Due>, Failure> {
        let mut found =
            self.due(parts(&refresh_due(now), "refresh_due_at", after), "refresh_due_at", limit)?;
        if found.len() < limit {
            let mut ahead = Vec::new();
            for (range, column) in due_by_a_clock_ahead(now) {
                ahead.extend(self.due(parts(&range, column, after), column, limit)?);
            }
            ahead.sort_by_key(|(due, number)| (due.at, *number));
            ahead.truncate(limit - found.len());
            found.extend(ahead);
        }
        Ok(found.into_iter().map(|(due, _)| due).collect())
    }

    pub(super) fn check_due(
        &self,
        interval: Duration,
        now: Timestamp,
        after: Option<&Due>,
        limit: usize,
    ) -> Result<Vec<Due>, Failure> {
        let never = || Range::default().with("checked_at IS NULL", []);
        let mut ranges = match after {
            None => vec![never()],
            Some(Due { at, id }) if *at == BEGINNING => {
                let (sql, values) = behind(id);
                vec![never().with(sql, values)]
            }
            Some(_) => Vec::new(),
        };
        let after = after.filter(|after| after.at != BEGINNING);
        ranges.extend(check_due(interval, now).iter().flat_map(|range| parts(range, "checked_at", after)));
        Ok(self.due(ranges, "checked_at", limit)?.into_iter().map(|(due, _)| due).collect())
    }

    /// What lies in the ranges, with the numbers of the rows.
    fn due(
        &self,
        ranges: impl IntoIterator<Item = Range>,
        column: &str,
        limit: usize,
    ) -> Result<Vec<(Due, i64)>, Failure> {
        let (columns, order) = (format!("kind, id, {column}, number"), format!("{column}, number"));
        let mut found = Vec::new();
        for range in ranges {
            if found.len() >= limit {
                break;
            }
            let mut statement = self.transaction.prepare_cached(&range.sql(&columns, &order))?;
            let mut rows = statement.query(params_from_iter(range.values))?;
            while found.len() < limit {
                let Some(row) = rows.next()? else { break };
                let at: Option<i64> = row.get(2)?;
                let due = Due { at: at.map_or(BEGINNING, Timestamp::from_millis), id: whose_in(row, 0, 1)? };
                found.push((due, row.get(3)?));
            }
        }
        Ok(found)
    }
}

/// Where there is no instant, something is due at once.
const BEGINNING: Timestamp = Timestamp::from_millis(i64::MIN);

#[cfg(test)]
mod tests {
    use rusqlite::Connection;
    use tokens::store::Stand;

    use super::*;
    use crate::sqlite::migrate::{INDEXES, MIGRATIONS};

    const AT: Timestamp = Timestamp::from_millis(1_790_000_000_000);

    fn database() -> Connection {
        let database = Connection::open_in_memory().expect("a database");
        database.execute_batch(&MIGRATIONS.join("\n")).expect("made");
        database.execute_batch(INDEXES).expect("made");
        database
    }

    fn plan(database: &Connection, range: &Range, order: &str) -> Vec<String> {
        let columns = if order.starts_with("re") { "kind, id" } else { COLUMNS };
        let sql = format!("EXPLAIN QUERY PLAN {}", range.sql(columns, order));
        let mut plan = database.prepare(&sql).expect("a plan");
        let steps = plan.query_map(params_from_iter(range.values.clone()), |row| row.get(3));
        let steps = steps.expect("a plan").map(|step| step.expect("a step"));
        // A text and a number that is looked up are one row each.
        let looked_up = |step: &String| step.contains("SCALAR SUBQUERY") || step.contains("SEARCH texts");
        steps.filter(|step| !looked_up(step)).collect()
    }

    /// Neither a look at every row nor a sort of what was found.
    fn assert_by_index(database: &Connection, range: &Range, order: &str) {
        let steps = plan(database, range, order);
        let sql = range.sql("kind, id", order);
        assert!(!steps.iter().any(|step| step.contains("TEMP B-TREE")), "{sql}\n{steps:#?}");
        let whole = range.conditions.is_empty() && steps.iter().all(|step| step.contains("USING"));
        assert!(whole || steps.iter().all(|step| step.starts_with("SEARCH")), "{sql}\n{steps:#?}");
    }

    fn after(id: &str) -> Option<Due> {
        Some(Due { at: AT, id: InstallationId::from_parts("location", id).expect("an id") })
    }

    #[test]
    fn what_is_due_is_found_by_an_index_however_many_there_are() {
        let database = database();
        for after in [None, after("L1")] {
            let due = [(refresh_due(AT), "refresh_due_at")];
            for (range, column) in due.into_iter().chain(due_by_a_clock_ahead(AT)) {
                for part in parts(&range, column, after.as_ref()) {
                    assert_by_index(&database, &part, &format!("{column}, number"));
                }
            }
            for range in check_due(Duration::from_secs(3600), AT) {
                for part in parts(&range, "checked_at", after.as_ref()) {
                    assert_by_index(&database, &part, "checked_at, number");
                }
            }
        }
        assert_by_index(&database, &Range::default().with("checked_at IS NULL", []), "checked_at, number");
    }

    #[test]
    fn a_page_in_any_order_is_found_by_an_index() {
        let database = database();
        for order in [Order::Id, Order::ExpiresAt, Order::CheckedAt] {
            for range in ranges(&Listing { order, ..Listing::ALL }) {
                assert_by_index(&database, &range, order_by(order));
            }
        }
        let company = Some("C1".parse().expect("an id"));
        for listing in
            [Listing { company, ..Listing::ALL }, Listing { standing: Some(Stand::Broken), ..Listing::ALL }]
        {
            for range in ranges(&listing) {
                assert_by_index(&database, &range, order_by(Order::Id));
            }
        }
    }
}
