//! The sums of the days, which a trigger keeps as checks are added, and the badges.

use std::collections::BTreeMap;

use rusqlite::{Row, Transaction};
use tokens::records::Badge;
use tokens::{DAYS, Day, InstallationId};

use super::rows::{at, installation};

type Done<T> = Result<T, rusqlite::Error>;

pub(super) fn days(rows: &Transaction<'_>, id: Option<&InstallationId>, since: i64) -> Done<Vec<Day>> {
    let (kind, id) = id.map_or(("", ""), |id| (id.kind(), id.as_str()));
    // Day by day, as they lie: of each day one row is looked for.
    let mut statement = rows.prepare_cached(
        "WITH RECURSIVE wanted (number) AS (
             SELECT ?1 UNION ALL SELECT number + 1 FROM wanted WHERE number < ?2)
         SELECT day, checks, good FROM wanted CROSS JOIN days ON day = number AND kind = ?3 AND id = ?4",
    )?;
    let last = since.saturating_add(DAYS as i64 - 1);
    let mut found = statement.query_map((since, last, kind, id), day)?.collect::<Done<Vec<Day>>>()?;
    found.sort_unstable_by_key(|day| day.number);
    Ok(found)
}

fn day(row: &Row<'_>) -> Done<Day> {
    Ok(Day { number: row.get("day")?, checks: row.get("checks")?, good: row.get("good")? })
}

pub(super) fn days_of(
    rows: &Transaction<'_>,
    ids: &[InstallationId],
    since: i64,
) -> Done<BTreeMap<InstallationId, Vec<Day>>> {
    let mut found = BTreeMap::new();
    for id in ids {
        found.insert(id.clone(), days(rows, Some(id), since)?);
    }
    Ok(found)
}

pub(super) fn add_badge(rows: &Transaction<'_>, badge: &Badge) -> Done<()> {
    let (kind, id) = badge.about.as_ref().map(|id| (id.kind(), id.as_str())).unzip();
    rows.prepare_cached(
        "INSERT INTO badges (badge, kind, id, label, created_at) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute((&badge.name, kind, id, &badge.label, badge.created_at.as_millis()))
    .map(drop)
}

pub(super) fn badges(rows: &Transaction<'_>) -> Done<Vec<Badge>> {
    let mut statement = rows.prepare_cached("SELECT * FROM badges ORDER BY created_at, badge")?;
    let found = statement.query_map([], |row| {
        let (kind, id): (Option<String>, Option<String>) = (row.get("kind")?, row.get("id")?);
        let about = kind.zip(id).map(|(kind, id)| installation(&kind, &id)).transpose()?;
        Ok(Badge {
            name: row.get("badge")?,
            about,
            label: row.get("label")?,
            created_at: at(row, "created_at")?,
        })
    })?;
    found.collect()
}

pub(super) fn revoke_badge(rows: &Transaction<'_>, name: &str) -> Done<bool> {
    Ok(rows.prepare_cached("DELETE FROM badges WHERE badge = ?1")?.execute([name])? == 1)
}
