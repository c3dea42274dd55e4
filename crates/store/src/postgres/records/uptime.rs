//! The sums of the days, which a trigger keeps as checks are added, and the badges.

use std::collections::BTreeMap;

use tokens::records::Badge;
use tokens::{DAYS, Day, InstallationId, StoreError};
use tokio_postgres::Row;

use super::rows::{at, count, get, whose};
use super::{Done, PostgresRecords, number, storable, text, texts};

/// The last of the days from `since` on.
fn last(since: i64) -> i64 {
    since.saturating_add(DAYS as i64 - 1)
}

fn day(row: &Row) -> Done<Day> {
    Ok(Day { number: get(row, "day")?, checks: count(row, "checks")?, good: count(row, "good")? })
}

impl PostgresRecords {
    pub(super) async fn find_days(
        &self,
        id: Option<&InstallationId>,
        since: i64,
    ) -> Result<Vec<Day>, StoreError> {
        let (kind, id) = id.map_or(("", ""), |id| (id.kind(), id.as_str()));
        // Day by day, as they lie: of each day one row is looked for.
        let sql = "SELECT days.* FROM generate_series($1, $2) AS wanted (day) JOIN @.days USING (day)
             WHERE kind = $3 AND id = $4 ORDER BY day";
        self.find(sql, &[number(&since), number(&last(since)), text(&kind), text(&id)], day).await
    }

    pub(super) async fn find_days_of(
        &self,
        ids: &[InstallationId],
        since: i64,
    ) -> Result<BTreeMap<InstallationId, Vec<Day>>, StoreError> {
        let kinds: Vec<&str> = ids.iter().map(InstallationId::kind).collect();
        let names: Vec<&str> = ids.iter().map(InstallationId::as_str).collect();
        let sql = "SELECT days.* FROM generate_series($1, $2) AS wanted (day)
                 CROSS JOIN unnest($3, $4) AS whose (kind, id) JOIN @.days USING (day, kind, id)
             ORDER BY day";
        let read = |row: &Row| Ok((whose(row)?, day(row)?));
        let last = last(since);
        let values = [number(&since), number(&last), texts(&kinds), texts(&names)];
        let mut found: BTreeMap<InstallationId, Vec<Day>> =
            ids.iter().map(|id| (id.clone(), Vec::new())).collect();
        for (id, day) in self.find(sql, &values, read).await? {
            found.entry(id).or_default().push(day);
        }
        Ok(found)
    }

    pub(super) async fn put_badge(&self, badge: &Badge) -> Result<(), StoreError> {
        let (kind, id) = badge.about.as_ref().map(|id| (id.kind(), id.as_str())).unzip();
        self.change(
            "INSERT INTO @.badges (badge, kind, id, label, created_at) VALUES ($1, $2, $3, $4, $5)",
            &[
                text(&badge.name),
                text(&kind),
                text(&id),
                text(&storable(&badge.label)),
                number(&badge.created_at.as_millis()),
            ],
        )
        .await
        .map(drop)
    }

    pub(super) async fn find_badges(&self) -> Result<Vec<Badge>, StoreError> {
        let read = |row: &Row| {
            let kind: Option<String> = get(row, "kind")?;
            Ok(Badge {
                name: get(row, "badge")?,
                about: kind.map(|_| whose(row)).transpose()?,
                label: get(row, "label")?,
                created_at: at(row, "created_at")?,
            })
        };
        self.find("SELECT * FROM @.badges ORDER BY created_at, badge", &[], read).await
    }
}
