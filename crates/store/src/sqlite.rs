//! Any number of installations in one SQLite database, sealed.
//!
//! One thread writes, a few connections read. What was handed to the writer is done, whether or not
//! whoever asked is still waiting; an answer of `Ok` means that it is on the disk, and that whoever
//! reads from then on finds it.

mod agencies;
pub(crate) mod database;
mod installations;
mod leaving;
mod listing;
mod migrate;
mod moving;
mod parked;
mod readers;
mod reseal;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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

use crate::disk::apart;
use crate::seal::Sealer;
use crate::spool::Spool;
use database::{Failure, Rows, Shared};
use readers::Readers;
use reseal::Walk;
use writer::{Worth, Writer};

/// A `sqlite:` store.
pub(crate) struct SqliteStore {
    path: PathBuf,
    sealer: Arc<Sealer>,
    spool: Arc<Spool>,
    /// How far sealing anew has come.
    walk: tokio::sync::Mutex<Option<Walk>>,
    /// Between `begin_putting` and `end_putting`.
    takes_very_many: AtomicBool,
    shared: Arc<Shared>,
    // Dropped in this order: whoever closes the database last puts its log back into it.
    readers: Readers,
    writer: Writer,
}

impl SqliteStore {
    /// Opens the database, or makes it; checks the key before anything is written.
    pub(crate) fn open(path: &Path, sealer: Arc<Sealer>) -> Result<Self, StoreError> {
        let (connection, shared) = database::open(path, sealer.clone())?;
        let shared = Arc::new(shared);
        Ok(Self {
            path: path.to_owned(),
            spool: Arc::new(Spool::beside(path, sealer.clone())),
            sealer,
            walk: tokio::sync::Mutex::default(),
            takes_very_many: AtomicBool::new(false),
            readers: Readers::of(shared.clone()),
            writer: Writer::start(connection, shared.clone())?,
            shared,
        })
    }

    async fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Rows<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.readers.read(look).await
    }

    async fn write<T: Send + 'static>(
        &self,
        make: impl FnOnce(&Rows<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.writer.write(Worth::AFlush, make).await
    }

    async fn apart<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Spool) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let spool = self.spool.clone();
        apart(&self.path, move || work(&spool)).await
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn load(&self, id: &InstallationId) -> Result<Option<Installation>, StoreError> {
        let id = id.clone();
        self.read(move |rows| rows.load(&id)).await
    }

    async fn list(
        &self,
        after: Option<&InstallationId>,
        limit: usize,
    ) -> Result<Vec<Installation>, StoreError> {
        let after = after.cloned();
        self.read(move |rows| rows.list(after.as_ref(), limit)).await
    }

    async fn overview(&self, listing: &Listing) -> Result<Vec<Overview>, StoreError> {
        let listing = listing.clone();
        self.read(move |rows| rows.overview(&listing)).await
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        self.read(|rows| rows.counts()).await
    }

    async fn refresh_due(
        &self,
        now: Timestamp,
        after: Option<&Due>,
        limit: usize,
    ) -> Result<Vec<Due>, StoreError> {
        let after = after.cloned();
        self.read(move |rows| rows.refresh_due(now, after.as_ref(), limit)).await
    }

    async fn check_due(
        &self,
        interval: Duration,
        now: Timestamp,
        after: Option<&Due>,
        limit: usize,
    ) -> Result<Vec<Due>, StoreError> {
        let after = after.cloned();
        self.read(move |rows| rows.check_due(interval, now, after.as_ref(), limit)).await
    }

    async fn companies(&self) -> Result<Vec<CompanyId>, StoreError> {
        self.read(|rows| rows.companies()).await
    }

    async fn adopt(
        &self,
        id: &InstallationId,
        tokens: &TokenSet,
        asked_at: Timestamp,
        now: Timestamp,
    ) -> Result<Option<Installation>, StoreError> {
        let (id, tokens) = (id.clone(), tokens.clone());
        self.write(move |rows| rows.adopt(&id, &tokens, asked_at, now)).await
    }

    async fn note_listed(&self, notes: &[ListedNote]) -> Result<(), StoreError> {
        let notes = notes.to_vec();
        self.writer.write(Worth::NoFlush, move |rows| rows.note_listed(&notes)).await
    }

    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn fingerprint(&self, token: &RefreshToken) -> Fingerprint {
        self.sealer.fingerprint(token)
    }

    async fn reserve(&self, flight: &FlightId) -> Result<(), StoreError> {
        let flight = flight.clone();
        self.apart(move |spool| spool.reserve(&flight)).await
    }

    async fn claim(&self, claim: &ClaimRequest) -> Result<Claim, StoreError> {
        // Those who wait for another's flight ask again and again: no lock for that.
        let (asked, claim) = (claim.clone(), claim.clone());
        match self.read(move |rows| rows.refusal(&asked)).await? {
            Some(refusal) => Ok(refusal),
            None => self.write(move |rows| rows.claim(&claim)).await,
        }
    }

    async fn renew(&self, claim: &ClaimRequest) -> Result<(), StoreError> {
        let claim = claim.clone();
        self.write(move |rows| rows.renew(&claim)).await
    }

    async fn land(&self, flight: &FlightId, landing: &Landing) -> Result<(), StoreError> {
        let (flight, landing) = (flight.clone(), landing.clone());
        self.apart(move |spool| spool.land(&flight, &landing)).await
    }

    async fn free(&self, flight: &FlightId) -> Result<(), StoreError> {
        let flight = flight.clone();
        self.apart(move |spool| spool.free(&flight)).await
    }

    async fn landings(&self) -> Result<Vec<(FlightId, Landing)>, StoreError> {
        self.apart(Spool::landings).await
    }

    async fn commit(&self, commit: &Commit) -> Result<Committed, StoreError> {
        let commit = Arc::new(commit.clone());
        // Opening and sealing hold up nobody while the database is not ours; alone, it is done sooner in
        // one go.
        let prepared = match self.writer.is_idle() {
            true => None,
            false => {
                let asked = commit.clone();
                self.read(move |rows| rows.prepare(&asked)).await?
            }
        };
        self.write(move |rows| rows.commit(&commit, prepared)).await
    }

    async fn settle(
        &self,
        claim: &ClaimRequest,
        connection: &Connection,
        intent: IntentThen,
    ) -> Result<(), StoreError> {
        let (claim, connection) = (claim.clone(), connection.clone());
        self.write(move |rows| rows.settle(&claim, &connection, intent)).await
    }

    async fn connect(
        &self,
        id: &InstallationId,
        tokens: &TokenSet,
        now: Timestamp,
    ) -> Result<Installation, StoreError> {
        let (id, tokens) = (id.clone(), tokens.clone());
        self.write(move |rows| rows.connect(&id, &tokens, now)).await
    }

    async fn note_check(&self, id: &InstallationId, check: &LastCheck) -> Result<(), StoreError> {
        let (id, check) = (id.clone(), check.clone());
        // The next change takes it to the disk.
        self.writer.write(Worth::NoFlush, move |rows| rows.note_check(&id, &check)).await
    }

    async fn remove(&self, id: &InstallationId, now: Timestamp) -> Result<bool, StoreError> {
        let id = id.clone();
        self.write(move |rows| rows.remove(&id, now)).await
    }

    async fn reseal(&self, limit: usize) -> Result<usize, StoreError> {
        self.seal_anew(limit).await
    }

    async fn uninstalled(
        &self,
        id: &InstallationId,
        at: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<InstallationId>, StoreError> {
        let id = id.clone();
        self.write(move |rows| rows.uninstalled(&id, at, now)).await
    }

    async fn removed(
        &self,
        after: Option<&InstallationId>,
        limit: usize,
    ) -> Result<Vec<Removed>, StoreError> {
        let after = after.cloned();
        self.read(move |rows| rows.removed(after.as_ref(), limit)).await
    }

    async fn removed_at(&self, id: &InstallationId) -> Result<Option<Timestamp>, StoreError> {
        let id = id.clone();
        self.read(move |rows| rows.removed_at(&id)).await
    }

    async fn restore(&self, id: &InstallationId, now: Timestamp) -> Result<Option<Installation>, StoreError> {
        let id = id.clone();
        self.write(move |rows| rows.restore(&id, now)).await
    }

    fn can_park(&self) -> bool {
        true
    }

    async fn park(&self, id: &InstallationId, tokens: &TokenSet, now: Timestamp) -> Result<(), StoreError> {
        let (id, tokens) = (id.clone(), tokens.clone());
        self.write(move |rows| rows.park(&id, &tokens, now)).await
    }

    async fn parked(&self) -> Result<Vec<Parked>, StoreError> {
        self.read(|rows| rows.parked()).await
    }

    async fn approve(&self, id: &InstallationId, now: Timestamp) -> Result<Option<Installation>, StoreError> {
        let id = id.clone();
        self.write(move |rows| rows.approve(&id, now)).await
    }

    async fn standby(&self) -> Result<Option<String>, StoreError> {
        self.read(|rows| rows.standby()).await
    }

    async fn set_standby(&self, why: Option<&str>) -> Result<(), StoreError> {
        let why = why.map(str::to_owned);
        self.write(move |rows| rows.set_standby(why.as_deref())).await
    }

    async fn put(&self, installations: &[Installation]) -> Result<usize, StoreError> {
        moving::put(self, installations).await
    }

    async fn begin_putting(&self) -> Result<(), StoreError> {
        self.takes_very_many.store(true, Ordering::Relaxed);
        self.write(|rows| rows.begin_putting()).await
    }

    async fn end_putting(&self) -> Result<(), StoreError> {
        self.takes_very_many.store(false, Ordering::Relaxed);
        self.write(|rows| rows.end_putting()).await
    }

    async fn put_removed(&self, removed: &[Removed]) -> Result<(), StoreError> {
        let removed = removed.to_vec();
        self.write(move |rows| rows.put_removed(&removed)).await
    }

    async fn parked_grants(&self) -> Result<Vec<(Parked, TokenSet)>, StoreError> {
        self.read(|rows| rows.parked_grants()).await
    }

    async fn dismiss(&self, id: &InstallationId) -> Result<bool, StoreError> {
        let id = id.clone();
        self.write(move |rows| rows.dismiss(&id)).await
    }

    async fn changes(&self, since: Mark) -> Result<Changes, StoreError> {
        self.read(move |rows| rows.changes(since)).await
    }

    fn weaknesses(&self) -> Vec<Weakness> {
        Vec::new()
    }
}
