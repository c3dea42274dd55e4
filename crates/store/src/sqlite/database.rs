//! The database as a whole: opened or made, and checked, with the keys that it may be under.
//!
//! While everything is sealed anew, some values are under a new key and the others under the one
//! before. The newest key is written down when it first comes: whoever lacks it writes nothing more. The
//! canary moves to it when nothing is left under another: until then, any of the keys opens the store.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, TransactionBehavior};
use tokens::StoreError;

use super::migrate::{INDEXES, MIGRATIONS, migrate};
use crate::disk;
use crate::seal::{Place, Sealer, Unopened};

/// `ghla`: tells our databases from those of other programs.
pub(super) const APPLICATION: i64 = 0x6768_6c61;

/// The first SQLite without a bug that could corrupt a database in WAL mode.
const OLDEST_SQLITE: i32 = 3_051_003;

pub(super) const WAIT_FOR_OTHERS: Duration = Duration::from_secs(5);

/// How much of the database the writer keeps in memory, in KiB: what changes together has room in it.
pub(super) const CACHE: i64 = 4096;

/// What a new database is made of: five sets of 1.5 KB leave little of one free.
const PAGE: i64 = 8192;

/// So many pages of log, 16 MB, are put back into the database at once: in a storm, the same pages
/// are written again and again.
pub(super) const LOG: i64 = 2000;

/// Beyond so many bytes, what an unusual amount of changes left of the log is given back.
const LONGEST_LOG: i64 = 64 << 20;

/// So many kinds of statement stay prepared: more than there are.
const STATEMENTS: usize = 64;

const CANARY: &[u8] = b"this key opens this store";

/// What all connections to a database share.
pub(super) struct Shared {
    pub(super) path: PathBuf,
    pub(super) sealer: Arc<Sealer>,
    pub(super) store_id: String,
    poisoned: AtomicBool,
}

impl Shared {
    /// An error once the disk has failed.
    pub(super) fn trusted(&self) -> Result<(), StoreError> {
        match self.poisoned.load(Ordering::Acquire) {
            true => Err(StoreError::Poisoned { place: self.path.display().to_string() }),
            false => Ok(()),
        }
    }

    /// The error, which is the last that is believed if a flush failed.
    pub(super) fn distrust_if_flush_failed(&self, failure: Failure, doing: &'static str) -> StoreError {
        if is_failed_flush(&failure) {
            self.poisoned.store(true, Ordering::Release);
        }
        failure.at(doing, &self.path)
    }

    /// What can be seen and done on a connection that has a transaction open.
    pub(super) fn rows<'a>(&'a self, transaction: &'a Connection) -> Rows<'a> {
        Rows { transaction, sealer: &self.sealer, store_id: &self.store_id, path: &self.path }
    }
}

/// Why SQLite or what it holds did not do: turned into a `StoreError` where the path is known.
#[derive(Debug)]
pub(crate) enum Failure {
    Sqlite(rusqlite::Error),
    Store(StoreError),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Failure {
    pub(crate) fn at(self, doing: &'static str, path: &Path) -> StoreError {
        let place = path.display().to_string();
        match self {
            Self::Store(error) => error,
            Self::Sqlite(error) => match error.sqlite_error_code() {
                Some(ErrorCode::NotADatabase) => {
                    StoreError::Unreadable { place, why: "it is no database".into() }
                }
                Some(ErrorCode::DatabaseCorrupt) => {
                    StoreError::Unreadable { place, why: "the database is damaged".into() }
                }
                _ => StoreError::Database { doing, place, source: Arc::new(error) },
            },
        }
    }
}

/// Opens the database for writing, or makes it; checks the key before anything is written.
pub(super) fn open(path: &Path, sealer: Arc<Sealer>) -> Result<(Connection, Shared), StoreError> {
    let place = path.display().to_string();
    if rusqlite::version_number() < OLDEST_SQLITE {
        let source = Arc::from(Box::from(format!("SQLite {} is too old", rusqlite::version())));
        return Err(StoreError::Database { doing: "open", place, source });
    }
    if sealer.current_id().is_none() {
        return Err(StoreError::KeyMissing { place });
    }
    prepare(path)?;
    let open = || -> Result<(Connection, String), Failure> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(WAIT_FOR_OTHERS)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        refuse_foreign(&connection, path)?;
        // Says nothing to a database that has its pages already.
        connection.pragma_update(None, "page_size", PAGE)?;
        use_wal(&connection)?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "cache_size", -CACHE)?;
        connection.pragma_update(None, "wal_autocheckpoint", LOG)?;
        connection.pragma_update(None, "journal_size_limit", LONGEST_LOG)?;
        connection.pragma_update(None, "trusted_schema", false)?;
        // What a change among others may have to undo is a few pages, and needs no file.
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        migrate(&mut connection, &sealer, path)?;
        let store_id = check_key(&mut connection, &sealer, path)?;
        connection.execute_batch(INDEXES)?;
        Ok((connection, store_id))
    };
    let (connection, store_id) = open().map_err(|failure| failure.at("open", path))?;
    let poisoned = AtomicBool::new(false);
    Ok((connection, Shared { path: path.to_owned(), sealer, store_id, poisoned }))
}

/// The rows, within the transaction that a connection has open, and what it takes to read and write
/// them.
pub(super) struct Rows<'a> {
    pub(super) transaction: &'a Connection,
    pub(super) sealer: &'a Sealer,
    pub(super) store_id: &'a str,
    pub(super) path: &'a Path,
}

/// Whether a flush failed: then the kernel may call lost pages clean, and nothing more is believed.
fn is_failed_flush(failure: &Failure) -> bool {
    const IOERR_FSYNC: i32 = 10 | (4 << 8);
    const IOERR_DIR_FSYNC: i32 = 10 | (5 << 8);
    match failure {
        Failure::Sqlite(rusqlite::Error::SqliteFailure(error, _)) => {
            matches!(error.extended_code, IOERR_FSYNC | IOERR_DIR_FSYNC)
        }
        _ => false,
    }
}

/// Makes the file if there is none. One that SQLite would take for an empty database is refused.
fn prepare(path: &Path) -> Result<(), StoreError> {
    disk::prepare_database(path)?;
    let length = |path: &Path| fs::metadata(path).map(|found| found.len()).unwrap_or_default();
    let log = disk::beside(path, "-wal");
    let why = match length(path) {
        // SQLite would throw the log away and begin anew, and the installations in it with it.
        0 if length(&log) > 0 => Some(format!("it is empty, and its log `{}` is not", log.display())),
        // This too it would take for an empty database.
        1..512 => Some("it was cut off".to_owned()),
        _ => None,
    };
    match why {
        Some(why) => Err(StoreError::Unreadable { place: path.display().to_string(), why }),
        None => Ok(()),
    }
}

pub(super) fn number(connection: &Connection, pragma: &str) -> Result<i64, rusqlite::Error> {
    connection.pragma_query_value(None, pragma, |row| row.get(0))
}

pub(super) fn refuse_foreign(connection: &Connection, path: &Path) -> Result<(), Failure> {
    refuse_other_than(APPLICATION, MIGRATIONS.len(), connection, path)
}

/// An error where this is another program's database, or of a later version than the latest we know.
pub(crate) fn refuse_other_than(
    application: i64,
    latest: usize,
    connection: &Connection,
    path: &Path,
) -> Result<(), Failure> {
    let place = path.display().to_string();
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match (number(connection, "application_id")?, number(connection, "user_version")?) {
        (its, version) if its == application => match version > latest as i64 {
            true => Err(StoreError::TooNew { place }.into()),
            false => Ok(()),
        },
        (0, 0) if tables == 0 => Ok(()),
        _ => Err(StoreError::Unreadable { place, why: "it is another program's database".into() }.into()),
    }
}

/// Turns the write-ahead log on; when several begin at once, SQLite does not wait by itself.
fn use_wal(connection: &Connection) -> Result<(), Failure> {
    let mut tries = 0;
    loop {
        match connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0)) {
            Ok(mode) if mode == "wal" => return Ok(()),
            Ok(mode) => {
                let why = format!("this file system allows only the journal mode `{mode}`");
                return Err(rusqlite::Error::ToSqlConversionFailure(why.into()).into());
            }
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && tries < 250 => {
                tries += 1;
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Writes down what tells a new store from others, and which key it is under.
pub(super) fn begin(connection: &Connection, sealer: &Sealer, store_id: &str) -> Result<(), Failure> {
    set_meta(connection, "store_id", store_id.as_bytes())?;
    set_meta(connection, "key_id", sealer.current_id().unwrap_or_default().as_bytes())?;
    Ok(set_meta(connection, "canary", &canary(sealer, store_id))?)
}

pub(super) fn canary(sealer: &Sealer, store_id: &str) -> Vec<u8> {
    sealer.seal(&Place::whole(store_id, "canary"), CANARY).unwrap_or_default()
}

pub(super) fn set_meta(connection: &Connection, name: &str, value: &[u8]) -> Result<(), rusqlite::Error> {
    let sql = "INSERT INTO meta (name, value) VALUES (?1, ?2)
               ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    connection.execute(sql, (name, value)).map(drop)
}

fn meta(connection: &Connection, name: &str, path: &Path) -> Result<Vec<u8>, Failure> {
    let mut statement = connection.prepare_cached("SELECT value FROM meta WHERE name = ?1")?;
    let value: Option<Vec<u8>> = statement.query_row([name], |row| row.get(0)).optional()?;
    Ok(value.ok_or_else(|| StoreError::Unreadable {
        place: path.display().to_string(),
        why: format!("its `{name}` is gone"),
    })?)
}

fn meta_text(connection: &Connection, name: &str, path: &Path) -> Result<String, Failure> {
    Ok(String::from_utf8_lossy(&meta(connection, name, path)?).into_owned())
}

/// Opens the canary, and writes down a key that was never seen before as the newest. The answer is the
/// store's id.
fn check_key(connection: &mut Connection, sealer: &Sealer, path: &Path) -> Result<String, Failure> {
    let (store_id, _) = open_canary(connection, sealer, path)?;
    if is_new_here(connection, sealer, path)? {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        open_canary(&transaction, sealer, path)?;
        if is_new_here(&transaction, sealer, path)? {
            set_newest_key(&transaction, sealer, path)?;
        }
        transaction.commit()?;
    }
    Ok(store_id)
}

/// Whether the current key has never sealed anything in this store. A key that has may be the newest
/// of a process that was not told of a newer one yet.
fn is_new_here(connection: &Connection, sealer: &Sealer, path: &Path) -> Result<bool, Failure> {
    let newest = newest_key(connection, path)?;
    if !sealer.knows(&newest) {
        return Err(StoreError::WrongKey { place: path.display().to_string(), key_id: newest }.into());
    }
    let current = sealer.current_id().unwrap_or_default();
    Ok(current != newest && !keys_before(connection)?.split(' ').any(|key| key == current))
}

/// The id of the newest key that this store has seen.
pub(super) fn newest_key(connection: &Connection, path: &Path) -> Result<String, Failure> {
    meta_text(connection, "key_id", path)
}

/// The ids of those that were the newest before.
fn keys_before(connection: &Connection) -> Result<String, rusqlite::Error> {
    let mut statement = connection.prepare_cached("SELECT value FROM meta WHERE name = 'keys_before'")?;
    let keys: Option<Vec<u8>> = statement.query_row([], |row| row.get(0)).optional()?;
    Ok(String::from_utf8_lossy(&keys.unwrap_or_default()).into_owned())
}

/// Makes the current key the newest.
pub(super) fn set_newest_key(connection: &Connection, sealer: &Sealer, path: &Path) -> Result<(), Failure> {
    let (newest, current) = (newest_key(connection, path)?, sealer.current_id().unwrap_or_default());
    if newest != current {
        let mut keys = keys_before(connection)?;
        if !keys.split(' ').any(|key| key == newest) {
            keys = format!("{keys} {newest}").trim_start().to_owned();
        }
        set_meta(connection, "keys_before", keys.as_bytes())?;
        set_meta(connection, "key_id", current.as_bytes())?;
    }
    Ok(())
}

pub(super) fn open_canary(
    connection: &Connection,
    sealer: &Sealer,
    path: &Path,
) -> Result<(String, bool), Failure> {
    let store_id = meta_text(connection, "store_id", path)?;
    let canary = meta(connection, "canary", path)?;
    let refused = |why: Unopened| why.at(path.display().to_string());
    let opened = sealer.open(&Place::whole(&store_id, "canary"), &canary).map_err(refused)?;
    if opened.as_slice() != CANARY {
        return Err(refused(Unopened::Broken).into());
    }
    Ok((store_id, sealer.is_current(&canary)))
}

/// Another process may have brought a newer key since we opened the store.
pub(super) fn refuse_other_key(connection: &Connection, shared: &Shared) -> Result<(), Failure> {
    let key_id = newest_key(connection, &shared.path)?;
    match shared.sealer.knows(&key_id) {
        true => Ok(()),
        false => Err(StoreError::WrongKey { place: shared.path.display().to_string(), key_id }.into()),
    }
}
