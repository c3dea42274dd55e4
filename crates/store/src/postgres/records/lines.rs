//! Rows on their way from one set of records to another, as they are: the same lines as SQLite's.

use serde_json::{Map, Value};
use tokens::StoreError;
use tokens::records::Line;

use super::{Done, PostgresRecords, number, text, whole};
use crate::postgres::pool::{Failure, Transaction};

/// A table that is worth moving.
struct Table {
    name: &'static str,
    /// What tells its rows apart.
    own: &'static [&'static str],
    /// In which order they go: by a number that grows, or by how many have gone before.
    is_numbered: bool,
    /// Which of its rows go.
    which: &'static str,
}

/// Notices come before their deliveries. What was told already is history of the place where it was told. The
/// sums of the days are not among them: each check that is new here is counted as it comes.
const TABLES: [Table; 11] = [
    Table { name: "keys", own: &["id"], is_numbered: false, which: "TRUE" },
    Table { name: "sources", own: &["key", "source"], is_numbered: false, which: "TRUE" },
    Table { name: "standings", own: &["kind", "id"], is_numbered: false, which: "TRUE" },
    Table { name: "maintenances", own: &["maintenance"], is_numbered: false, which: "TRUE" },
    Table { name: "badges", own: &["badge"], is_numbered: false, which: "TRUE" },
    Table {
        name: "notices",
        own: &["notice"],
        is_numbered: true,
        which: "notice IN (SELECT notice FROM @.deliveries WHERE delivered_at IS NULL)",
    },
    Table { name: "deliveries", own: &["notice", "way"], is_numbered: false, which: "delivered_at IS NULL" },
    Table { name: "events", own: &["event"], is_numbered: true, which: "TRUE" },
    Table { name: "checks", own: &["kind", "id", "at"], is_numbered: true, which: "TRUE" },
    Table {
        name: "history",
        own: &["kind", "id", "at", "generation", "stand"],
        is_numbered: true,
        which: "TRUE",
    },
    Table {
        name: "audit",
        own: &["at", "key", "kind", "id", "generation", "request_id"],
        is_numbered: true,
        which: "TRUE",
    },
];

impl PostgresRecords {
    pub(super) async fn give_lines(
        &self,
        after: Option<&Line>,
        limit: usize,
    ) -> Result<Vec<Line>, StoreError> {
        let mut found = Vec::new();
        let begun = after.and_then(|after| TABLES.iter().position(|table| table.name == after.table));
        for (place, table) in TABLES.iter().enumerate().skip(begun.unwrap_or_default()) {
            if found.len() >= limit {
                break;
            }
            let from = after.filter(|_| begun == Some(place)).map_or(0, |after| after.place);
            found.extend(self.lines_of(table, from, limit - found.len()).await?);
        }
        Ok(found)
    }

    async fn lines_of(&self, table: &Table, from: i64, limit: usize) -> Result<Vec<Line>, StoreError> {
        let Table { name, own, which, .. } = table;
        // An event's body is text, kept as bytes.
        let row = match *name {
            "events" => {
                "(to_jsonb(t) - 'number' || jsonb_build_object('body', convert_from(t.body, 'UTF8')))::text"
            }
            _ => "(to_jsonb(t) - 'number')::text",
        };
        let sql = match table.is_numbered {
            true => format!(
                "SELECT number, {row} FROM @.{name} t WHERE number > $1 AND ({which}) ORDER BY number LIMIT $2"
            ),
            false => format!(
                "SELECT $1 + row_number() OVER (ORDER BY {own}), {row} FROM
                     (SELECT * FROM @.{name} WHERE {which} ORDER BY {own} OFFSET $1 LIMIT $2) t
                 ORDER BY 1",
                own = own.join(", ")
            ),
        };
        let read =
            |row: &tokio_postgres::Row| -> Done<(i64, String)> { Ok((row.try_get(0)?, row.try_get(1)?)) };
        let rows = self.find(&sql, &[number(&from), number(&whole(limit))], read).await?;
        let line = |(place, row)| Line { table: (*name).to_owned(), place, row };
        Ok(rows.into_iter().map(line).collect())
    }

    pub(super) async fn put_lines(&self, lines: &[Line]) -> Done<()> {
        let transaction = self.pool.transaction().await?;
        for line in lines {
            // A table of a later version, or of another kind of records, has no room here.
            let Some(table) = TABLES.iter().find(|table| table.name == line.table) else { continue };
            self.put_line(&transaction, table, line).await?;
        }
        // Keys may have come: whoever remembers them looks again.
        self.keys_changed(&transaction).await?;
        transaction.commit().await
    }

    async fn put_line(&self, transaction: &Transaction, table: &Table, line: &Line) -> Done<()> {
        let row = fitting(table, &line.row).map_err(|why| self.odd(table, why))?;
        let name = table.name;
        let columns = format!(
            "SELECT attname::text FROM pg_attribute WHERE attrelid = '@.{name}'::regclass AND attnum > 0
                 AND NOT attisdropped AND attidentity = '' AND attname = ANY ($1)"
        );
        let given: Vec<String> = row.keys().cloned().collect();
        let columns = self.ask(transaction, &columns, &[super::texts(&given)]).await?;
        let columns: Vec<String> = columns.iter().map(|row| row.get(0)).collect();
        if let Some(missing) = table.own.iter().find(|own| !columns.iter().any(|column| column == *own)) {
            return Err(self.odd(table, format!("a row lacks its {missing}")));
        }
        // An absent request id is the same as another absent one.
        let same = table.own.iter().map(|own| format!("t.{own} IS NOT DISTINCT FROM r.{own}"));
        let same = same.collect::<Vec<_>>().join(" AND ");
        let columns = columns.join(", ");
        let sql = format!(
            "INSERT INTO @.{name} ({columns}) SELECT {columns}
             FROM jsonb_populate_record(NULL::@.{name}, $1::jsonb) r
             WHERE NOT EXISTS (SELECT 1 FROM @.{name} t WHERE {same})"
        );
        self.ask(transaction, &sql, &[text(&Value::Object(row).to_string())]).await.map(drop)
    }

    fn odd(&self, table: &Table, why: String) -> Failure {
        let place = format!("{}: {}", self.pool.place(), table.name);
        Failure::Store(StoreError::Unreadable { place, why })
    }
}

/// A line's members as PostgreSQL has them: lists as lists, an event's body as bytes.
fn fitting(table: &Table, row: &str) -> Result<Map<String, Value>, String> {
    let mut row: Map<String, Value> =
        serde_json::from_str(&row.replace("\\u0000", "\u{fffd}")).map_err(|error| error.to_string())?;
    if let ("standings", Some(Value::String(changes))) = (table.name, row.get("changes")) {
        let list: Value = serde_json::from_str(changes).map_err(|error| error.to_string())?;
        row.insert("changes".to_owned(), list);
    }
    if let ("events", Some(Value::String(body))) = (table.name, row.get("body")) {
        let bytes = format!("\\x{}", crate::key::hex(body.as_bytes()));
        row.insert("body".to_owned(), Value::String(bytes));
    }
    Ok(row)
}
