//! How a database of an earlier version becomes one of this.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior};
use tokens::{CompanyId, InstallationId, StoreError, Version};

use super::database::{self, APPLICATION, Failure, Rows};
use super::installations::number;
use super::parked::whose;
use crate::data_file::random_name;
use crate::row::{self, PreviousAtRest, TokensAtRest};
use crate::seal::{Place, Sealer};

/// Only ever added to: the place in the list is the schema's version.
pub(super) const MIGRATIONS: [&str; 6] = [
    include_str!("../migrations/001_installations.sql"),
    include_str!("../migrations/002_removed_and_parked.sql"),
    include_str!("../migrations/003_sets_apart.sql"),
    include_str!("../migrations/004_agencies.sql"),
    include_str!("../migrations/005_scale.sql"),
    include_str!("../migrations/006_integer_keys.sql"),
];

/// The indexes that a store has unless very many are being put into it.
pub(super) const INDEXES: &str = include_str!("../migrations/indexes.sql");

/// The version from which on sealed sets have a table of their own.
const SETS_APART: i64 = 3;

/// How long an earlier program's flights are waited for: longer than one can take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Brings a database to the present version, all the way or not at all. Tables are rebuilt, so that an
/// earlier program that still runs reads and writes nothing more in them; what it has in the air is
/// waited for.
pub(super) fn migrate(connection: &mut Connection, sealer: &Sealer, path: &Path) -> Result<(), Failure> {
    let began = Instant::now();
    while migrate_to(MIGRATIONS.len(), connection, sealer, path)? == Migrated::NotWhileSomeoneFlies {
        if began.elapsed() > PATIENCE {
            return Err(StoreError::InTheAir { place: path.display().to_string() }.into());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
enum Migrated {
    Done,
    NotWhileSomeoneFlies,
}

fn migrate_to(
    latest: usize,
    connection: &mut Connection,
    sealer: &Sealer,
    path: &Path,
) -> Result<Migrated, Failure> {
    let migrations = &MIGRATIONS[..latest];
    let latest = latest as i64;
    if database::number(connection, "user_version")? == latest {
        return Ok(Migrated::Done);
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Someone else may have been faster while we waited.
    database::refuse_foreign(&transaction, path)?;
    let applied = database::number(&transaction, "user_version")?;
    let store_id = match applied {
        0 => random_name(),
        // A wrong key is refused before anything is written.
        _ => database::open_canary(&transaction, sealer, path)?.0,
    };
    let rows = Rows { transaction: &transaction, sealer, store_id: &store_id, path };
    if applied > 0 && rows.is_any_leased("true")? {
        return Ok(Migrated::NotWhileSomeoneFlies);
    }
    for (version, migration) in (1..).zip(migrations).filter(|(version, _)| *version > applied) {
        transaction.execute_batch(migration)?;
        if version == SETS_APART {
            carry_sets_over(&rows)?;
        }
    }
    // By the present columns.
    if applied < SETS_APART && migrations.len() == MIGRATIONS.len() {
        rows.reckon_refresh_due()?;
    }
    if applied == 0 {
        database::begin(&transaction, sealer, &store_id)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", latest)?;
    transaction.commit()?;
    Ok(Migrated::Done)
}

/// Fills in what the third migration's own text could not, because it is sealed or reckoned.
fn carry_sets_over(rows: &Rows<'_>) -> Result<(), Failure> {
    let mut before = rows
        .transaction
        .prepare("SELECT kind, id, epoch, generation, tokens, previous FROM installations_before")?;
    let mut found = before.query([])?;
    while let Some(row) = found.next()? {
        let id = whose(row)?;
        let version = Version { epoch: row.get("epoch")?, generation: row.get("generation")? };
        let company = company_of(rows, &id, version, &row.get::<_, Vec<u8>>("tokens")?);
        let sql = "UPDATE installations SET company = ?3 WHERE kind = ?1 AND id = ?2";
        let company = company.as_ref().map(CompanyId::as_str);
        rows.transaction.prepare_cached(sql)?.execute((id.kind(), id.as_str(), company))?;
        if let Some(sealed) = row.get::<_, Option<Vec<u8>>>("previous")? {
            carry_previous_over(rows, &id, version, sealed)?;
        }
    }
    drop(found);
    drop(before);
    Ok(rows.transaction.execute_batch("DROP TABLE installations_before")?)
}

/// The company that a set names. What does not open is carried over as it is, and names none.
fn company_of(rows: &Rows<'_>, id: &InstallationId, version: Version, sealed: &[u8]) -> Option<CompanyId> {
    let plain = rows.sealer.open(&Place::field(rows.store_id, id, version, "tokens"), sealed).ok()?;
    row::from_bytes(&plain).and_then(TokensAtRest::into_tokens).ok()?.company
}

/// A set before was sealed as a part of the set after it; now it is a set like any other.
fn carry_previous_over(
    rows: &Rows<'_>,
    id: &InstallationId,
    version: Version,
    sealed: Vec<u8>,
) -> Result<(), Failure> {
    let of_its_own = Version { generation: version.generation.saturating_sub(1), ..version };
    let opened = rows.sealer.open(&Place::field(rows.store_id, id, version, "previous"), &sealed).ok();
    let previous =
        opened.and_then(|plain| row::from_bytes(&plain).and_then(PreviousAtRest::into_previous).ok());
    let (sealed, until) = match previous {
        Some(previous) => {
            (rows.sealed_set(id, of_its_own, &previous.tokens)?, previous.keep_until.as_millis())
        }
        None => (sealed, 0),
    };
    let (epoch, generation) = (number(of_its_own.epoch), number(of_its_own.generation));
    rows.transaction.prepare_cached("INSERT INTO sets VALUES (?1, ?2, ?3, ?4, ?5)")?.execute((
        id.kind(),
        id.as_str(),
        epoch,
        generation,
        sealed,
    ))?;
    rows.transaction
        .prepare_cached(
            "UPDATE installations SET previous_epoch = ?3, previous_generation = ?4, previous_until = ?5
             WHERE kind = ?1 AND id = ?2",
        )?
        .execute((id.kind(), id.as_str(), epoch, generation, until))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokens::store::Listing;
    use tokens::{
        AccessToken, Previous, RefreshBy, RefreshToken, ReplyMembers, Store as _, Timestamp, TokenSet,
    };

    use super::*;
    use crate::key::{Key, Keys};
    use crate::sqlite::SqliteStore;
    use crate::sqlite::parked::NO_VERSION;

    const AT: Timestamp = Timestamp::from_millis(1_790_000_000_000);

    fn set(name: &str) -> TokenSet {
        TokenSet {
            access: AccessToken::new(format!("access-{}", name.repeat(1000))),
            refresh_by: RefreshBy::Own(RefreshToken::new(format!("refresh-{}", name.repeat(1000)))),
            issued_at: AT,
            expires_at: AT + Duration::from_secs(86_400),
            scopes: "contacts.readonly".into(),
            company: Some("AAAAAAAAAAAAAAAAAAAA".parse().expect("an id")),
            members: ReplyMembers::new("{}"),
        }
    }

    /// Writes a row as the first versions did.
    fn put(rows: &Rows<'_>, id: &InstallationId, previous: Option<Previous>, rest: &str) {
        let version = Version { epoch: 1, generation: 7 };
        let seal = |field, plain: &[u8]| {
            rows.sealer.seal(&Place::field(rows.store_id, id, version, field), plain).expect("sealed")
        };
        let tokens = seal("tokens", &row::to_bytes(&TokensAtRest::from(&set(id.as_str()))));
        let previous = previous.map(|set| seal("previous", &row::to_bytes(&PreviousAtRest::from(&set))));
        let sql = "INSERT INTO installations (kind, id, epoch, generation, state, issued_at, expires_at,
            scopes, tokens, previous) VALUES (?1, ?2, 1, 7, 'connected', ?3, ?4, 'contacts.readonly', ?5, ?6)";
        let until = AT + Duration::from_secs(86_400);
        let row = (id.kind(), id.as_str(), AT.as_millis(), until.as_millis(), tokens, previous);
        rows.transaction.execute(sql, row).expect("a row");
        let sql = format!("UPDATE installations SET {rest} WHERE id = ?1");
        rows.transaction.execute(&sql, [id.as_str()]).expect("a row");
    }

    /// What left and what waits, as the second version wrote them.
    fn put_aside(rows: &Rows<'_>, left: &InstallationId, waits: &InstallationId) {
        let seal = |id: &InstallationId, version, field| {
            let plain = row::to_bytes(&TokensAtRest::from(&set(id.as_str())));
            rows.sealer.seal(&Place::field(rows.store_id, id, version, field), &plain).expect("sealed")
        };
        let version = Version { epoch: 2, generation: 5 };
        let sql = "INSERT INTO removed VALUES (?1, ?2, 2, 5, ?3, ?4, 1)";
        let row = (left.kind(), left.as_str(), seal(left, version, "tokens"), AT.as_millis());
        rows.transaction.execute(sql, row).expect("a row");
        let sql = "INSERT INTO parked VALUES (?1, ?2, NULL, 'contacts.readonly', ?4, ?3)";
        let row = (waits.kind(), waits.as_str(), seal(waits, NO_VERSION, "parked"), AT.as_millis());
        rows.transaction.execute(sql, row).expect("a row");
    }

    /// Takes a database as far as a program went that knew so many migrations. When refreshes are due was
    /// reckoned by that program; here, by one that has gone all the way with a copy.
    fn as_a_program_left_it(latest: usize, path: &Path, sealer: &Arc<Sealer>) {
        let copy = path.with_extension("copy");
        std::fs::copy(path, &copy).expect("copied");
        let dues: Vec<(String, Option<i64>)> = {
            drop(SqliteStore::open(&copy, sealer.clone()).expect("opened"));
            let whole = Connection::open(&copy).expect("a database");
            let mut dues = whole.prepare("SELECT id, refresh_due_at FROM installations").expect("a query");
            let found = dues.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("rows");
            found.map(|row| row.expect("a row")).collect()
        };
        let mut connection = Connection::open(path).expect("a database");
        let done = migrate_to(latest, &mut connection, sealer, path).expect("moved on");
        assert_eq!(done, Migrated::Done);
        for (id, due) in dues {
            let sql = "UPDATE installations SET refresh_due_at = ?2 WHERE id = ?1";
            connection.execute(sql, (id, due)).expect("a row");
        }
    }

    #[tokio::test]
    async fn a_database_of_any_earlier_version_goes_on_and_nothing_in_it_is_lost() {
        for latest in 1..MIGRATIONS.len() {
            goes_on(latest).await;
        }
    }

    #[test]
    fn what_an_earlier_program_has_in_the_air_is_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ghl.db");
        let keys = Keys { current: Key::parse(&Key::generate()).ok(), old: Vec::new() };
        let sealer = Arc::new(Sealer::new(&keys));
        let mut connection = Connection::open(&path).expect("a database");
        migrate_to(MIGRATIONS.len() - 1, &mut connection, &sealer, &path).expect("made");
        connection
            .execute_batch(
                "INSERT INTO installations (kind, id, epoch, generation, state, issued_at, expires_at, scopes,
                    lease_flight, lease_until, changed)
                 VALUES ('location', 'L1', 1, 1, 'connected', 0, 0, '', 'f1',
                    CAST((unixepoch('subsec') + 0.8) * 1000 AS INTEGER), 1)",
            )
            .expect("a row");
        drop(connection);
        let began = Instant::now();
        drop(SqliteStore::open(&path, sealer).expect("opened"));
        assert!(began.elapsed() > Duration::from_millis(500), "{:?}", began.elapsed());
    }

    async fn goes_on(latest: usize) {
        // Rows as the first version wrote them, or the second, which had more kinds of them.
        let version = latest.min(2);
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ghl.db");
        let keys = Keys { current: Key::parse(&Key::generate()).ok(), old: Vec::new() };
        let sealer = Arc::new(Sealer::new(&keys));
        let id = |name: &str| InstallationId::from_parts("location", name).expect("an id");
        {
            let connection = Connection::open(&path).expect("a database");
            connection.execute_batch(&MIGRATIONS[..version].join("\n")).expect("made");
            database::begin(&connection, &sealer, "s1").expect("begun");
            let rows = Rows { transaction: &connection, sealer: &sealer, store_id: "s1", path: &path };
            let previous = Previous { tokens: set("before"), keep_until: AT };
            put(&rows, &id("one"), Some(previous), "checked_at = 5, check_health = 'down'");
            put(
                &rows,
                &id("suspended"),
                None,
                "state = 'suspended', since = 1, attempts = 2, retry_at = 9, said = ''",
            );
            put(&rows, &id("open"), None, "intent_since = 4, lease_flight = 'f1', lease_until = 5");
            put(&rows, &id("altered"), None, "tokens = x'01'");
            connection.pragma_update(None, "application_id", APPLICATION).expect("set");
            if version == 2 {
                put_aside(&rows, &id("left"), &id("waits"));
            }
            connection.pragma_update(None, "user_version", version as i64).expect("set");
        }
        if latest > version {
            as_a_program_left_it(latest, &path, &sealer);
        }
        let other = Keys { current: Key::parse(&Key::generate()).ok(), old: Vec::new() };
        let before = std::fs::read(&path).expect("a file");
        assert!(SqliteStore::open(&path, Arc::new(Sealer::new(&other))).is_err());
        assert!(std::fs::read(&path).expect("a file")[100..] == before[100..], "a wrong key changes nothing");

        let store = SqliteStore::open(&path, sealer).expect("opened");
        let one = store.load(&id("one")).await.expect("read").expect("there");
        assert!(one.tokens == set("one") && one.version == Version { epoch: 1, generation: 7 });
        let Previous { tokens, keep_until } = one.previous.clone().expect("the set before");
        assert!(tokens == set("before") && keep_until == AT);
        assert!(store.load(&id("altered")).await.is_err());

        if version == 2 {
            let left = store.removed(None, 9).await.expect("read");
            assert_eq!(left.len(), 1, "from {latest}");
            assert!(left[0].id == id("left") && left[0].tokens == Some(set("left")) && left[0].at == AT);
            let waits = store.parked_grants().await.expect("read");
            assert!(waits.len() == 1 && waits[0].0.id == id("waits") && waits[0].1 == set("waits"));
        }
        let all = store.overview(&Listing::first(10)).await.expect("read");
        let ids: Vec<_> = all.iter().map(|overview| overview.id.as_str()).collect();
        assert_eq!(ids, ["altered", "one", "open", "suspended"]);
        assert_eq!(all[1], one.overview());
        assert_eq!((all[0].company.as_ref(), all[1].company.as_ref()), (None, set("one").company.as_ref()));
        for overview in &all {
            let due = overview.refresh_due_at().expect("due");
            for now in [due, due - Duration::from_millis(1), overview.issued_at] {
                let listed = store
                    .refresh_due(now, None, 10)
                    .await
                    .expect("read")
                    .iter()
                    .any(|due| due.id == overview.id);
                assert_eq!(listed, overview.is_refresh_due(now), "{overview:?} at {now:?}");
            }
        }
    }
}
