//! Rows on their way from one set of records to another, as they are.

use std::fmt::Write as _;

use rusqlite::types::{Value as Column, ValueRef};
use rusqlite::{OptionalExtension as _, Transaction, params_from_iter};
use serde_json::{Map, Value};
use tokens::records::Line;

type Done<T> = Result<T, rusqlite::Error>;

/// The tables that are worth moving, each with the columns that tell its rows apart, and which of its rows
/// go: what was told already is history of the place where it was told. Notices come before their
/// deliveries. The sums of the days are not among them: each check that is new here is counted as it comes.
const TABLES: [(&str, &[&str], &str); 11] = [
    ("keys", &["id"], "TRUE"),
    ("sources", &["key", "source"], "TRUE"),
    ("standings", &["kind", "id"], "TRUE"),
    ("maintenances", &["maintenance"], "TRUE"),
    ("badges", &["badge"], "TRUE"),
    ("notices", &["notice"], "notice IN (SELECT notice FROM deliveries WHERE delivered_at IS NULL)"),
    ("deliveries", &["notice", "way"], "delivered_at IS NULL"),
    ("events", &["event"], "TRUE"),
    ("checks", &["kind", "id", "at"], "TRUE"),
    ("history", &["kind", "id", "at", "generation", "stand"], "TRUE"),
    ("audit", &["at", "key", "kind", "id", "generation", "request_id"], "TRUE"),
];

pub(super) fn lines(rows: &Transaction<'_>, after: Option<&Line>, limit: usize) -> Done<Vec<Line>> {
    let mut found = Vec::new();
    let begun = after.and_then(|after| TABLES.iter().position(|(table, ..)| *table == after.table));
    for (number, (table, _, which)) in TABLES.iter().enumerate().skip(begun.unwrap_or_default()) {
        if found.len() >= limit || !is_there(rows, table)? {
            continue;
        }
        let place = after.filter(|_| begun == Some(number)).map_or(0, |after| after.place);
        let sql = format!(
            "SELECT rowid AS place, * FROM {table} WHERE rowid > ?1 AND ({which}) ORDER BY rowid LIMIT ?2"
        );
        let mut statement = rows.prepare_cached(&sql)?;
        let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let mut read = statement.query((place, limit - found.len()))?;
        while let Some(row) = read.next()? {
            let mut members = Map::new();
            for (column, name) in names.iter().enumerate().skip(1) {
                members.insert(name.clone(), to_json(row.get_ref(column)?)?);
            }
            let row = (row.get(0)?, Value::Object(members).to_string());
            found.push(Line { table: (*table).to_owned(), place: row.0, row: row.1 });
        }
    }
    Ok(found)
}

pub(super) fn take(rows: &Transaction<'_>, lines: &[Line]) -> Done<()> {
    for line in lines {
        let known = TABLES.iter().find(|(table, ..)| *table == line.table);
        // A table of a later version, or of another kind of records, has no room here.
        let Some((table, told_apart_by, _)) = known else { continue };
        if is_there(rows, table)? {
            put(rows, table, told_apart_by, line)?;
        }
    }
    // Keys may have come: whoever remembers them looks again.
    rows.execute("UPDATE counters SET value = value + 1 WHERE name = 'keys'", []).map(drop)
}

fn put(rows: &Transaction<'_>, table: &str, told_apart_by: &[&str], line: &Line) -> Done<()> {
    let members: Map<String, Value> = serde_json::from_str(&line.row).map_err(odd)?;
    let columns = columns(rows, table)?;
    // A column that a later version added has no room here.
    let given = columns.iter().filter_map(|(name, kind)| Some((name, kind, members.get(name)?)));
    let given: Vec<(&String, &String, &Value)> = given.collect();
    let names: Vec<&str> = given.iter().map(|(name, ..)| name.as_str()).collect();
    let places: Vec<String> = (1..=given.len()).map(|n| format!("?{n}")).collect();
    let mut same = String::from("TRUE");
    for column in told_apart_by {
        match names.iter().position(|name| name == column) {
            // `IS`: an absent request id is the same as another absent one.
            Some(n) => _ = write!(same, " AND {column} IS ?{}", n + 1),
            None => return Err(odd(format!("a row of {table} lacks its {column}"))),
        }
    }
    let sql = format!(
        "INSERT INTO {table} ({}) SELECT {} WHERE NOT EXISTS (SELECT 1 FROM {table} WHERE {same})",
        names.join(", "),
        places.join(", ")
    );
    let values = given.iter().map(|(_, kind, value)| from_json(kind, value)).collect::<Done<Vec<_>>>()?;
    rows.prepare_cached(&sql)?.execute(params_from_iter(values)).map(drop)
}

fn is_there(rows: &Transaction<'_>, table: &str) -> Done<bool> {
    let sql = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1";
    Ok(rows.prepare_cached(sql)?.query_row([table], |_| Ok(())).optional()?.is_some())
}

/// The columns of a table, and what they hold.
fn columns(rows: &Transaction<'_>, table: &str) -> Done<Vec<(String, String)>> {
    let mut statement = rows.prepare_cached("SELECT name, type FROM pragma_table_info(?1)")?;
    statement.query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

fn to_json(value: ValueRef<'_>) -> Done<Value> {
    Ok(match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => number.into(),
        ValueRef::Real(number) => number.into(),
        ValueRef::Text(text) => Value::String(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Value::String(format!("\\x{}", crate::key::hex(bytes))),
    })
}

fn from_json(kind: &str, value: &Value) -> Done<Column> {
    Ok(match value {
        Value::Null => Column::Null,
        Value::Bool(is) => Column::Integer(i64::from(*is)),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => Column::Integer(whole),
            None => Column::Real(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) if kind == "BLOB" => {
            let bytes = text.strip_prefix("\\x").and_then(bytes);
            Column::Blob(bytes.ok_or_else(|| odd("bytes that are no hexadecimal digits"))?)
        }
        Value::String(text) => Column::Text(text.clone()),
        // PostgreSQL may give a JSON column as what it holds.
        other => Column::Text(other.to_string()),
    })
}

/// The bytes of so many pairs of hexadecimal digits.
fn bytes(digits: &str) -> Option<Vec<u8>> {
    if !digits.len().is_multiple_of(2) || !digits.is_ascii() {
        return None;
    }
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).ok()).collect()
}

fn odd(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, error.into())
}
