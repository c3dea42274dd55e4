//! Any number of installations in one PostgreSQL database, sealed, for any number of keepers at once.
//!
//! What decides is one statement or one transaction, never what a keeper remembers. Answers land in a
//! folder of the keeper's own, which no network and no outage is in the way of.

mod bulk;
mod changes;
mod flights;
mod grants;
mod indexes;
mod listings;
pub(crate) mod pool;
pub(crate) mod records;
mod rows;
mod settings;
pub(crate) mod trouble;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use async_trait::async_trait;
use tokens::store::{
    Changes, Claim, ClaimRequest, Commit, Committed, Counts, Due, Fingerprint, FlightId, IntentThen, Landing,
    ListedNote, Listing, Mark, Parked, Removed, Weakness,
};
use tokens::{
    CompanyId, Connection, Installation, InstallationId, LastCheck, Overview, RefreshToken, Store,
    StoreError, Timestamp, TokenSet,
};

use crate::disk::{self, apart, failed};
use crate::key::Keys;
use crate::seal::Sealer;
use crate::spool::Spool;
use crate::url::PostgresUrl;
use changes::Hearing;
use flights::TakenOff;
use pool::{Failure, Pool};
use rows::{NO_VERSION, Vault};

/// Only ever added to: the place in the list is the schema's version.
pub(crate) const MIGRATIONS: [&str; 2] =
    [include_str!("migrations/postgres/001_store.sql"), include_str!("migrations/postgres/002_slim.sql")];

/// What the migrations of the store are called, among those of others in the same schema.
const PART: &str = "store";

/// A `postgres:` store.
pub(crate) struct PostgresStore {
    pool: Pool,
    vault: Vault,
    spool: Arc<Spool>,
    folder: PathBuf,
    hearing: Hearing,
    taken_off: TakenOff,
    left_to_seal: AtomicI64,
}

/// Reaches the database and makes the tables if there are none; checks the key before anything is
/// written. `spool` is the folder in which answers land.
pub(crate) async fn connect(
    url: &PostgresUrl,
    keys: &Keys,
    spool: &Path,
) -> Result<PostgresStore, StoreError> {
    PostgresStore::over(Pool::connect(url).await?, keys, spool).await
}

/// Like `connect`, with the records beside the store, over the same connections.
pub(crate) async fn connect_with_records(
    url: &PostgresUrl,
    keys: &Keys,
    spool: &Path,
) -> Result<(PostgresStore, records::PostgresRecords), StoreError> {
    let pool = Pool::connect(url).await?;
    let store = PostgresStore::over(pool.clone(), keys, spool).await?;
    Ok((store, records::PostgresRecords::open(pool).await?))
}

/// What tables of ours there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tables {
    /// None at all: nobody has begun here.
    None,
    /// Of an earlier version of this program, which whoever opens the store next brings to this one.
    Earlier,
    /// All that ought to be there, or more than this program knows.
    Whole,
    /// The store's, while some of the records' are said to be there and are not: a dump left them out.
    WithoutRecords,
}

/// Looks what there is, and makes nothing.
pub(crate) async fn tables(url: &PostgresUrl) -> Result<Tables, StoreError> {
    let pool = Pool::connect(url).await?;
    let latest = i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX);
    let looked = async {
        Ok(match pool.version(PART).await? {
            0 => Tables::None,
            _ if records::PostgresRecords::lack_tables(&pool).await? => Tables::WithoutRecords,
            version if version < latest || records::PostgresRecords::are_earlier(&pool).await? => {
                Tables::Earlier
            }
            _ => Tables::Whole,
        })
    };
    looked.await.map_err(|failure: Failure| failure.at("open", pool.place()))
}

impl PostgresStore {
    /// The store in a database that has been reached.
    pub(crate) async fn over(pool: Pool, keys: &Keys, spool: &Path) -> Result<Self, StoreError> {
        let sealer = Arc::new(Sealer::new(keys));
        let vault = settings::open(&pool, sealer.clone())
            .await
            .map_err(|failure| failure.at("open", pool.place()))?;
        let store_id = vault.store_id.clone();
        let folder = disk::behind_links(spool).map_err(failed("find", spool))?;
        disk::refuse_open_folder(&folder)?;
        Ok(Self {
            hearing: Hearing::of(pool.clone()),
            pool,
            vault,
            spool: Arc::new(Spool::within(&folder, &store_id, sealer)),
            folder,
            taken_off: TakenOff::default(),
            left_to_seal: AtomicI64::new(-1),
        })
    }

    fn read<T>(&self, done: Result<T, Failure>) -> Result<T, StoreError> {
        done.map_err(|failure| failure.at("read", self.pool.place()))
    }

    fn written<T>(&self, done: Result<T, Failure>) -> Result<T, StoreError> {
        done.map_err(|failure| failure.at("write", self.pool.place()))
    }

    async fn beside<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Spool) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let spool = self.spool.clone();
        apart(&self.folder, move || work(&spool)).await
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn load(&self, id: &InstallationId) -> Result<Option<Installation>, StoreError> {
        self.read(self.found(id).await)
    }

    async fn list(
        &self,
        after: Option<&InstallationId>,
        limit: usize,
    ) -> Result<Vec<Installation>, StoreError> {
        self.read(self.listed(after, limit).await)
    }

    async fn overview(&self, listing: &Listing) -> Result<Vec<Overview>, StoreError> {
        self.read(listings::overview(&self.pool, &self.vault, listing).await)
    }

    async fn companies(&self) -> Result<Vec<CompanyId>, StoreError> {
        self.read(listings::companies(&self.pool).await)
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        self.read(listings::counts(&self.pool).await)
    }

    async fn refresh_due(
        &self,
        now: Timestamp,
        after: Option<&Due>,
        limit: usize,
    ) -> Result<Vec<Due>, StoreError> {
        self.read(listings::refresh_due(&self.pool, now, after, limit).await)
    }

    async fn check_due(
        &self,
        interval: Duration,
        now: Timestamp,
        after: Option<&Due>,
        limit: usize,
    ) -> Result<Vec<Due>, StoreError> {
        self.read(listings::check_due(&self.pool, interval, now, after, limit).await)
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn place(&self) -> String {
        self.pool.place().to_owned()
    }

    fn fingerprint(&self, token: &RefreshToken) -> Fingerprint {
        self.vault.sealer.fingerprint(token)
    }

    async fn reserve(&self, flight: &FlightId) -> Result<(), StoreError> {
        let flight = flight.clone();
        self.beside(move |spool| spool.reserve(&flight)).await
    }

    async fn claim(&self, claim: &ClaimRequest) -> Result<Claim, StoreError> {
        self.written(self.claimed(claim).await)
    }

    async fn renew(&self, claim: &ClaimRequest) -> Result<(), StoreError> {
        self.written(self.renewed(claim).await)
    }

    async fn land(&self, flight: &FlightId, landing: &Landing) -> Result<(), StoreError> {
        let (flight, landing) = (flight.clone(), landing.clone());
        self.beside(move |spool| spool.land(&flight, &landing)).await
    }

    async fn free(&self, flight: &FlightId) -> Result<(), StoreError> {
        self.taken_off.forget(flight);
        let flight = flight.clone();
        self.beside(move |spool| spool.free(&flight)).await
    }

    async fn landings(&self) -> Result<Vec<(FlightId, Landing)>, StoreError> {
        self.beside(Spool::landings).await
    }

    async fn commit(&self, commit: &Commit) -> Result<Committed, StoreError> {
        self.written(self.committed(commit).await)
    }

    async fn settle(
        &self,
        claim: &ClaimRequest,
        connection: &Connection,
        intent: IntentThen,
    ) -> Result<(), StoreError> {
        self.written(self.settled(claim, connection, intent).await)
    }

    async fn connect(
        &self,
        id: &InstallationId,
        tokens: &TokenSet,
        now: Timestamp,
    ) -> Result<Installation, StoreError> {
        self.written(self.connected(id, tokens, now).await)
    }

    async fn adopt(
        &self,
        id: &InstallationId,
        tokens: &TokenSet,
        asked_at: Timestamp,
        now: Timestamp,
    ) -> Result<Option<Installation>, StoreError> {
        self.written(self.adopted(id, tokens, asked_at, now).await)
    }

    async fn remove(&self, id: &InstallationId, now: Timestamp) -> Result<bool, StoreError> {
        self.written(self.taken_out(id, now).await)
    }

    async fn uninstalled(
        &self,
        id: &InstallationId,
        at: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<InstallationId>, StoreError> {
        self.written(self.said_uninstalled(id, at, now).await)
    }

    async fn removed(
        &self,
        after: Option<&InstallationId>,
        limit: usize,
    ) -> Result<Vec<Removed>, StoreError> {
        self.read(self.out_of_service(after, limit).await)
    }

    async fn removed_at(&self, id: &InstallationId) -> Result<Option<Timestamp>, StoreError> {
        self.read(self.out_since(id).await)
    }

    async fn restore(&self, id: &InstallationId, now: Timestamp) -> Result<Option<Installation>, StoreError> {
        self.written(self.taken_back(id, now).await)
    }

    async fn note_listed(&self, notes: &[ListedNote]) -> Result<(), StoreError> {
        self.written(self.noted_listed(notes).await)
    }

    async fn standby(&self) -> Result<Option<String>, StoreError> {
        self.read(settings::standby(&self.pool).await)
    }

    async fn set_standby(&self, why: Option<&str>) -> Result<(), StoreError> {
        self.written(settings::set_standby(&self.pool, why).await)
    }

    async fn put(&self, installations: &[Installation]) -> Result<usize, StoreError> {
        self.written(self.put_all(installations).await)
    }

    async fn begin_putting(&self) -> Result<(), StoreError> {
        self.written(indexes::leave_out(&self.pool).await)
    }

    async fn end_putting(&self) -> Result<(), StoreError> {
        self.written(indexes::make_at_the_end(&self.pool).await)
    }

    async fn put_removed(&self, removed: &[Removed]) -> Result<(), StoreError> {
        self.written(self.put_all_removed(removed).await)
    }

    async fn parked_grants(&self) -> Result<Vec<(Parked, TokenSet)>, StoreError> {
        let mut grants = Vec::new();
        for (parked, sealed) in self.read(self.put_asides().await)? {
            let tokens = self.vault.open(&parked.id, NO_VERSION, "parked", Some(&sealed))?;
            grants.push((parked, tokens));
        }
        Ok(grants)
    }

    async fn reseal(&self, limit: usize) -> Result<usize, StoreError> {
        self.written(self.sealed_anew(limit).await)
    }

    fn can_park(&self) -> bool {
        true
    }

    async fn park(&self, id: &InstallationId, tokens: &TokenSet, now: Timestamp) -> Result<(), StoreError> {
        self.written(self.put_aside(id, tokens, now).await)
    }

    async fn parked(&self) -> Result<Vec<Parked>, StoreError> {
        let found = self.read(self.put_asides().await)?;
        Ok(found.into_iter().map(|(parked, _)| parked).collect())
    }

    async fn approve(&self, id: &InstallationId, now: Timestamp) -> Result<Option<Installation>, StoreError> {
        self.written(self.approved(id, now).await)
    }

    async fn dismiss(&self, id: &InstallationId) -> Result<bool, StoreError> {
        self.written(self.dismissed(id).await)
    }

    async fn changes(&self, since: Mark) -> Result<Changes, StoreError> {
        self.read(self.hearing.changes(since).await)
    }

    async fn await_changes(&self, since: Mark, at_most: Duration) -> Result<Changes, StoreError> {
        self.read(self.hearing.await_changes(since, at_most).await)
    }

    async fn note_check(&self, id: &InstallationId, check: &LastCheck) -> Result<(), StoreError> {
        self.written(self.noted_check(id, check).await)
    }

    fn weaknesses(&self) -> Vec<Weakness> {
        Vec::new()
    }
}
