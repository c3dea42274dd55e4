//! A store that can be told not to take tokens.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokens::store::{
    Changes, Claim, ClaimRequest, Commit, Committed, Counts, Due, Fingerprint, FlightId, IntentThen, Landing,
    Listing, Mark, Parked, Weakness,
};
use tokens::{
    Connection, Installation, InstallationId, LastCheck, Overview, RefreshToken, Store, StoreError,
    Timestamp, TokenSet,
};

/// Does what the store beneath it does, commits aside.
pub struct Fussy {
    store: Arc<dyn Store>,
    commits: AtomicU8,
}

const WORK: u8 = 0;
const FAIL: u8 = 1;
const HANG: u8 = 2;

impl Fussy {
    pub fn over(store: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self { store, commits: AtomicU8::new(WORK) })
    }

    /// From now on there is no room for tokens.
    pub fn fail_to_commit(&self) {
        self.commits.store(FAIL, Ordering::SeqCst);
    }

    /// From now on the disk does not answer.
    pub fn hang_in_commit(&self) {
        self.commits.store(HANG, Ordering::SeqCst);
    }

    pub fn commit_again(&self) {
        self.commits.store(WORK, Ordering::SeqCst);
    }
}

#[async_trait]
impl Store for Fussy {
    async fn load(&self, id: &InstallationId) -> Result<Option<Installation>, StoreError> {
        self.store.load(id).await
    }

    async fn list(
        &self,
        after: Option<&InstallationId>,
        limit: usize,
    ) -> Result<Vec<Installation>, StoreError> {
        self.store.list(after, limit).await
    }

    async fn overview(&self, listing: &Listing) -> Result<Vec<Overview>, StoreError> {
        self.store.overview(listing).await
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        self.store.counts().await
    }

    async fn refresh_due(
        &self,
        now: Timestamp,
        after: Option<&Due>,
        limit: usize,
    ) -> Result<Vec<Due>, StoreError> {
        self.store.refresh_due(now, after, limit).await
    }

    async fn check_due(
        &self,
        interval: Duration,
        now: Timestamp,
        after: Option<&Due>,
        limit: usize,
    ) -> Result<Vec<Due>, StoreError> {
        self.store.check_due(interval, now, after, limit).await
    }

    async fn adopt(
        &self,
        id: &InstallationId,
        tokens: &TokenSet,
        asked_at: Timestamp,
        now: Timestamp,
    ) -> Result<Option<Installation>, StoreError> {
        self.store.adopt(id, tokens, asked_at, now).await
    }

    fn place(&self) -> String {
        self.store.place()
    }

    fn fingerprint(&self, token: &RefreshToken) -> Fingerprint {
        self.store.fingerprint(token)
    }

    async fn reserve(&self, flight: &FlightId) -> Result<(), StoreError> {
        self.store.reserve(flight).await
    }

    async fn claim(&self, claim: &ClaimRequest) -> Result<Claim, StoreError> {
        self.store.claim(claim).await
    }

    async fn renew(&self, claim: &ClaimRequest) -> Result<(), StoreError> {
        self.store.renew(claim).await
    }

    async fn land(&self, flight: &FlightId, landing: &Landing) -> Result<(), StoreError> {
        self.store.land(flight, landing).await
    }

    async fn free(&self, flight: &FlightId) -> Result<(), StoreError> {
        self.store.free(flight).await
    }

    async fn landings(&self) -> Result<Vec<(FlightId, Landing)>, StoreError> {
        self.store.landings().await
    }

    async fn commit(&self, commit: &Commit) -> Result<Committed, StoreError> {
        match self.commits.load(Ordering::SeqCst) {
            FAIL => Err(StoreError::Io {
                doing: "write",
                place: "a full disk".into(),
                source: Arc::new(std::io::ErrorKind::StorageFull.into()),
            }),
            HANG => std::future::pending().await,
            _ => self.store.commit(commit).await,
        }
    }

    async fn settle(
        &self,
        claim: &ClaimRequest,
        connection: &Connection,
        intent: IntentThen,
    ) -> Result<(), StoreError> {
        self.store.settle(claim, connection, intent).await
    }

    async fn connect(
        &self,
        id: &InstallationId,
        tokens: &TokenSet,
        now: Timestamp,
    ) -> Result<Installation, StoreError> {
        self.store.connect(id, tokens, now).await
    }

    async fn remove(&self, id: &InstallationId, now: Timestamp) -> Result<bool, StoreError> {
        self.store.remove(id, now).await
    }

    fn can_park(&self) -> bool {
        self.store.can_park()
    }

    async fn park(&self, id: &InstallationId, tokens: &TokenSet, now: Timestamp) -> Result<(), StoreError> {
        self.store.park(id, tokens, now).await
    }

    async fn parked(&self) -> Result<Vec<Parked>, StoreError> {
        self.store.parked().await
    }

    async fn approve(&self, id: &InstallationId, now: Timestamp) -> Result<Option<Installation>, StoreError> {
        self.store.approve(id, now).await
    }

    async fn dismiss(&self, id: &InstallationId) -> Result<bool, StoreError> {
        self.store.dismiss(id).await
    }

    async fn changes(&self, since: Mark) -> Result<Changes, StoreError> {
        self.store.changes(since).await
    }

    async fn note_check(&self, id: &InstallationId, check: &LastCheck) -> Result<(), StoreError> {
        self.store.note_check(id, check).await
    }

    fn weaknesses(&self) -> Vec<Weakness> {
        self.store.weaknesses()
    }
}
