//! Any number of installations in one SQLite database, sealed.
//!
//! The database lives on a thread of its own. What was handed to the thread is done, whether or not
//! whoever asked is still waiting; an answer of `Ok` means that it is on the disk.

mod database;
mod installations;
mod parked;

use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use async_trait::async_trait;
use tokens::store::{
    Changes, Claim, ClaimRequest, Commit, Committed, Fingerprint, FlightId, IntentThen, Landing, Mark,
    Parked, Weakness,
};
use tokens::{
    Connection, Installation, InstallationId, LastCheck, RefreshToken, Store, StoreError, Timestamp, TokenSet,
};

use crate::disk::{apart, failed};
use crate::seal::Sealer;
use crate::spool::Spool;
use database::Database;

type Job = Box<dyn FnOnce(&mut Database) + Send>;

/// A `sqlite:` store.
pub(crate) struct SqliteStore {
    path: PathBuf,
    sealer: Arc<Sealer>,
    spool: Arc<Spool>,
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl SqliteStore {
    /// Opens the database, or makes it; checks the key before anything is written.
    pub(crate) fn open(path: &Path, sealer: Arc<Sealer>) -> Result<Self, StoreError> {
        let mut database = Database::open(path, sealer.clone())?;
        let (jobs, queue) = mpsc::channel::<Job>();
        let thread = std::thread::Builder::new()
            .name("sqlite".to_owned())
            .spawn(move || {
                while let Ok(job) = queue.recv() {
                    job(&mut database);
                }
            })
            .map_err(failed("start a thread for", path))?;
        Ok(Self {
            path: path.to_owned(),
            spool: Arc::new(Spool::beside(path, sealer.clone())),
            sealer,
            jobs: Some(jobs),
            thread: Some(thread),
        })
    }

    async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Database) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let job: Job = Box::new(move |database| {
            // Whoever asked may have gone; the work is done all the same.
            let _ = answer.send(database.run(work));
        });
        let gone = || failed("reach the thread of", &self.path)(std::io::ErrorKind::BrokenPipe.into());
        self.jobs.as_ref().and_then(|jobs| jobs.send(job).ok()).ok_or_else(gone)?;
        answered.await.map_err(|_| gone())?
    }

    async fn apart<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Spool) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let spool = self.spool.clone();
        apart(&self.path, move || work(&spool)).await
    }
}

impl Drop for SqliteStore {
    /// Waits for the work at hand, and for SQLite to put its log back into the database.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn load(&self, id: &InstallationId) -> Result<Option<Installation>, StoreError> {
        let id = id.clone();
        self.ask(move |database| database.load(&id)).await
    }

    async fn list(&self) -> Result<Vec<Installation>, StoreError> {
        self.ask(|database| database.list()).await
    }

    fn fingerprint(&self, token: &RefreshToken) -> Fingerprint {
        self.sealer.fingerprint(token)
    }

    async fn reserve(&self, flight: &FlightId) -> Result<(), StoreError> {
        let flight = flight.clone();
        self.apart(move |spool| spool.reserve(&flight)).await
    }

    async fn claim(&self, claim: &ClaimRequest) -> Result<Claim, StoreError> {
        let claim = claim.clone();
        self.ask(move |database| database.claim(&claim)).await
    }

    async fn renew(&self, claim: &ClaimRequest) -> Result<(), StoreError> {
        let claim = claim.clone();
        self.ask(move |database| database.renew(&claim)).await
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
        let commit = commit.clone();
        self.ask(move |database| database.commit(&commit)).await
    }

    async fn settle(
        &self,
        claim: &ClaimRequest,
        connection: &Connection,
        intent: IntentThen,
    ) -> Result<(), StoreError> {
        let (claim, connection) = (claim.clone(), connection.clone());
        self.ask(move |database| database.settle(&claim, &connection, intent)).await
    }

    async fn connect(
        &self,
        id: &InstallationId,
        tokens: &TokenSet,
        now: Timestamp,
    ) -> Result<Installation, StoreError> {
        let (id, tokens) = (id.clone(), tokens.clone());
        self.ask(move |database| database.connect(&id, &tokens, now)).await
    }

    async fn note_check(&self, id: &InstallationId, check: &LastCheck) -> Result<(), StoreError> {
        let (id, check) = (id.clone(), check.clone());
        self.ask(move |database| database.note_check(&id, &check)).await
    }

    async fn remove(&self, id: &InstallationId, now: Timestamp) -> Result<bool, StoreError> {
        let id = id.clone();
        self.ask(move |database| database.remove(&id, now)).await
    }

    fn can_park(&self) -> bool {
        true
    }

    async fn park(&self, id: &InstallationId, tokens: &TokenSet, now: Timestamp) -> Result<(), StoreError> {
        let (id, tokens) = (id.clone(), tokens.clone());
        self.ask(move |database| database.park(&id, &tokens, now)).await
    }

    async fn parked(&self) -> Result<Vec<Parked>, StoreError> {
        self.ask(Database::parked).await
    }

    async fn approve(&self, id: &InstallationId, now: Timestamp) -> Result<Option<Installation>, StoreError> {
        let id = id.clone();
        self.ask(move |database| database.approve(&id, now)).await
    }

    async fn dismiss(&self, id: &InstallationId) -> Result<bool, StoreError> {
        let id = id.clone();
        self.ask(move |database| database.dismiss(&id)).await
    }

    async fn changes(&self, since: Mark) -> Result<Changes, StoreError> {
        self.ask(move |database| database.changes(since)).await
    }

    fn weaknesses(&self) -> Vec<Weakness> {
        Vec::new()
    }
}
