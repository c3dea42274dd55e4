//! Where installations rest, sealed.
//!
//! `connect` picks the backend: a file in the Python template's format for one installation, a SQLite
//! database for any number, or a PostgreSQL database that any number of keepers share. All promise the
//! same: a write that returned `Ok` survives a power cut, a refusal comes before any write, and nothing
//! that was there is lost to what replaces it. All see secrets only on their way through `seal`; the
//! template's plain file, when there is no key, is the one named exception.
//!
//! What is left to others: when to refresh, what an answer means, where keys and addresses are
//! configured.

mod archive;
mod change;
mod data_file;
mod disk;
mod document;
mod envelope;
mod file;
mod in_place;
mod jwt;
mod key;
pub mod local_time;
mod lock;
mod postgres;
mod records;
mod row;
mod seal;
mod spool;
mod sqlite;
pub mod template;
mod url;

use std::path::Path;
use std::sync::Arc;

use tokens::{InstallationId, Records, Store, StoreError};

pub use archive::{ArchiveReader, ArchiveWriter, Entry};
pub use disk::open_folder;
pub use key::{InvalidKey, Key, Keys};
pub use postgres::Tables;
pub use postgres::trouble::{DatabaseCause, DatabaseTrouble};
pub use url::{InvalidStoreUrl, PostgresUrl, StoreUrl};

use data_file::DataFile;
use seal::Sealer;

/// Opens a store, or makes it. Waits for the disk, and for at most five seconds for others.
///
/// `otherwise` is the installation that tokens in a file are taken to belong to when neither they
/// nor the file say whose they are. A wrong or missing key is refused here, before any write.
pub fn open(
    url: &StoreUrl,
    keys: &Keys,
    otherwise: Option<&InstallationId>,
) -> Result<Arc<dyn Store>, StoreError> {
    match url {
        StoreUrl::File(path) => open_file(path, keys, otherwise, false),
        StoreUrl::Sqlite(path) => Ok(Arc::new(sqlite::SqliteStore::open(path, Arc::new(Sealer::new(keys)))?)),
        StoreUrl::Postgres(_) => Err(is_reached_otherwise(url)),
    }
}

/// A database on a network is reached by `connect`; nobody who has one comes here.
fn is_reached_otherwise(url: &StoreUrl) -> StoreError {
    StoreError::NoRoomFor { place: url.to_string(), what: "a caller that can't wait for a network" }
}

/// Opens a store of any kind, or makes it: on this machine like `open`, or over a network.
///
/// `spool` is the folder in which answers land where the store is no path with room beside it.
pub async fn connect(
    url: &StoreUrl,
    keys: &Keys,
    spool: &Path,
    otherwise: Option<&InstallationId>,
) -> Result<Arc<dyn Store>, StoreError> {
    match url {
        StoreUrl::Postgres(url) => Ok(Arc::new(postgres::connect(url, keys, spool).await?)),
        StoreUrl::File(_) | StoreUrl::Sqlite(_) => open(url, keys, otherwise),
    }
}

/// Like `connect`, with what the service remembers.
pub async fn connect_with_records(
    url: &StoreUrl,
    keys: &Keys,
    spool: &Path,
    otherwise: Option<&InstallationId>,
) -> Result<Opened, StoreError> {
    match url {
        StoreUrl::Postgres(url) => {
            let (store, records) = postgres::connect_with_records(url, keys, spool).await?;
            Ok((Arc::new(store), Arc::new(records)))
        }
        StoreUrl::File(_) | StoreUrl::Sqlite(_) => open_with_records(url, keys, otherwise),
    }
}

/// A store, and what the service remembers beside it.
pub type Opened = (Arc<dyn Store>, Arc<dyn Records>);

/// Like `open`, with what the service remembers: a database beside the store, which holds no secret.
pub fn open_with_records(
    url: &StoreUrl,
    keys: &Keys,
    otherwise: Option<&InstallationId>,
) -> Result<Opened, StoreError> {
    if let StoreUrl::File(path) = url {
        // A single command takes the template's file as it finds it; whoever serves all programs of a
        // machine does not.
        disk::refuse_open_folder(&disk::behind_links(path).map_err(disk::failed("find", path))?)?;
    }
    let store = open(url, keys, otherwise)?;
    let path = url.path().ok_or_else(|| is_reached_otherwise(url))?;
    let records = records::SqliteRecords::open(&records::beside(path))?;
    Ok((store, Arc::new(records)))
}

/// What the service remembers in a database of a network, made where it is not there.
pub async fn connect_records(url: &PostgresUrl) -> Result<Arc<dyn Records>, StoreError> {
    let pool = postgres::pool::Pool::connect(url).await?;
    Ok(Arc::new(postgres::records::PostgresRecords::open(pool).await?))
}

/// What tables of ours a database on a network has. It is reached, and nothing is made or changed.
pub async fn tables(url: &PostgresUrl) -> Result<Tables, StoreError> {
    postgres::tables(url).await
}

/// What the service remembers, if there has ever been a service over this store.
pub async fn open_records_if_there(url: &StoreUrl) -> Result<Option<Arc<dyn Records>>, StoreError> {
    let path = match url {
        StoreUrl::File(path) | StoreUrl::Sqlite(path) => records::beside(path),
        StoreUrl::Postgres(url) => {
            let pool = postgres::pool::Pool::connect(url).await?;
            return match postgres::records::PostgresRecords::are_there(&pool).await? {
                true => Ok(Some(Arc::new(postgres::records::PostgresRecords::open(pool).await?))),
                false => Ok(None),
            };
        }
    };
    match path.exists() {
        true => Ok(Some(Arc::new(records::SqliteRecords::open(&path)?))),
        false => Ok(None),
    }
}

/// Opens a file as if it could not be replaced by renaming: for tests of what is done then.
#[doc(hidden)]
pub fn open_file_in_place(
    path: &Path,
    keys: &Keys,
    otherwise: Option<&InstallationId>,
) -> Result<Arc<dyn Store>, StoreError> {
    open_file(path, keys, otherwise, true)
}

fn open_file(
    path: &Path,
    keys: &Keys,
    otherwise: Option<&InstallationId>,
    in_place: bool,
) -> Result<Arc<dyn Store>, StoreError> {
    let data = DataFile::find(path, in_place)?;
    let sealer = Arc::new(Sealer::new(keys));
    Ok(Arc::new(file::FileStore::open(data, sealer, otherwise.cloned())?))
}
