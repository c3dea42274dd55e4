//! Keeps every grant valid and hands out its access token.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, timeout};
use tracing::{Instrument as _, info, warn};

use crate::admission::{Admission, InstallPolicy};
use crate::clock::{Clock, Timestamp};
use crate::counters::Counters;
use crate::error::KeeperError;
use crate::flight::{Flight, Timing};
use crate::installation::{Connection, Installation, InstallationId};
use crate::issuer::{Issuer, RawAnswer, Reading, Refusal, Unanswered};
use crate::lifecycle::Step;
use crate::minting::Unminted;
use crate::recent::Recent;
use crate::rules::{Rule, holds};
use crate::secret::AuthorizationCode;
use crate::store::{Commit, Committed, FlightId, Landing, Store, StoreError};
use crate::token_set::{Grant, TokenSet};

/// How many refreshes may be in the air at once in one process: what a power cut can hurt.
const FLIGHTS_AT_ONCE: usize = 8;

/// A flight that has just begun is left to whoever flies it.
const ON_ITS_WAY: Duration = Duration::from_secs(1);

/// A grant is not refreshed twice within this time because a caller says that HighLevel refused it.
const REFUSED_AT_MOST_EVERY: Duration = Duration::from_secs(60);

/// After HighLevel refused our client id or secret, nothing is sent for this long.
const CLIENT_PAUSE: Duration = Duration::from_secs(60);

/// An installation with a token that may be used now.
#[derive(Clone, Debug)]
pub struct Served {
    /// The installation as it rests in the store.
    pub installation: Installation,
    /// Whether this call brought a newer token.
    pub refreshed: bool,
    /// What went wrong behind a token that is still good.
    pub warning: Option<KeeperError>,
}

/// Stands between whoever wants a token and HighLevel.
#[derive(Clone)]
pub struct Keeper {
    pub(crate) parts: Arc<Parts>,
}

/// What every flight needs.
pub(crate) struct Parts {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) issuer: Arc<dyn Issuer>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) timing: Timing,
    /// Tells this process's flights from those of others.
    process: String,
    flights_begun: AtomicU64,
    in_the_air: Mutex<HashMap<Air, Arrival>>,
    room_in_the_air: Arc<Semaphore>,
    /// Locations that no company's grant brought a token for, and when: not asked for again at once.
    pub(crate) unminted: Mutex<Unminted>,
    client_refused: Mutex<Option<(Timestamp, String)>>,
    /// When a caller's 401 last made us refresh.
    forced: Mutex<HashMap<InstallationId, Timestamp>>,
    counters: Counters,
    /// For a store that may lose what it has said is saved.
    recent: Recent,
}

pub(crate) type Arrival = watch::Receiver<Option<Result<Installation, KeeperError>>>;

/// What can be in the air.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) enum Air {
    /// The refresh of an installation: one at a time.
    Refresh(InstallationId),
    /// The exchange of an authorisation code.
    Exchange(FlightId),
}

/// Since when an installation is kept.
enum Kept {
    Before(Installation),
    SinceNow(Installation),
}

/// What becomes of a caller's 401.
enum Forced {
    Flies(Arrival),
    NotBefore(Timestamp),
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keeper")
    }
}

impl Keeper {
    /// A keeper over a store, an issuer and a clock. `process` must differ between any two keepers
    /// that ever use the same store: 16 random characters will do.
    pub fn new(
        store: Arc<dyn Store>,
        issuer: Arc<dyn Issuer>,
        clock: Arc<dyn Clock>,
        timing: Timing,
        process: String,
    ) -> Self {
        let parts = Parts {
            store,
            issuer,
            clock,
            timing,
            process,
            flights_begun: AtomicU64::new(0),
            in_the_air: Mutex::default(),
            room_in_the_air: Arc::new(Semaphore::new(FLIGHTS_AT_ONCE)),
            unminted: Mutex::default(),
            client_refused: Mutex::default(),
            forced: Mutex::default(),
            counters: Counters::default(),
            recent: Recent::default(),
        };
        Self { parts: Arc::new(parts) }
    }

    /// A token that lives for `minimum_life` more, refreshed if need be.
    ///
    /// A refresh that fails never hides a token that still lives: it is served with a warning, even
    /// when it lives for less than was asked.
    pub async fn token(&self, id: &InstallationId, minimum_life: Duration) -> Result<Served, KeeperError> {
        let present = match self.kept_or_begun(id).await? {
            Kept::Before(present) => present,
            Kept::SinceNow(installation) => {
                return Ok(Served { installation, refreshed: true, warning: None });
            }
        };
        match present.next_step(self.parts.clock.now(), minimum_life) {
            Step::Use => {
                Ok(Served { warning: trouble_behind(&present), installation: present, refreshed: false })
            }
            Step::UseAndRefresh => {
                let patience = self.parts.timing.serve_present_after;
                match timeout(patience, self.fly(present.clone())).await {
                    Ok(landed) => self.landed_or_present(present, landed),
                    Err(_still_flying) => {
                        Ok(Served { installation: present, refreshed: false, warning: None })
                    }
                }
            }
            Step::Refresh => {
                let landed = self.fly(present.clone()).await;
                self.landed_or_present(present, landed)
            }
            Step::Rest(until) => {
                let error = match trouble_behind(&present) {
                    Some(KeeperError::Unanswered { said }) => KeeperError::Resting { until, said },
                    Some(other) => other,
                    None => KeeperError::Resting { until, said: String::new() },
                };
                self.landed_or_present(present, Err(error))
            }
            Step::NeedsPerson(_) if self.parts.can_mint(&present).await => {
                let landed = self.fly(present.clone()).await;
                self.landed_or_present(present, landed)
            }
            Step::NeedsPerson(broken) => {
                self.landed_or_present(present, Err(KeeperError::NeedsPerson { id: id.clone(), broken }))
            }
        }
    }

    /// Like `token`, for a run that someone or the clock asked for: it waits for the refresh to end,
    /// and a rest after failures does not hold it back. `refreshing` is called before one begins.
    pub async fn fresh_token(
        &self,
        id: &InstallationId,
        minimum_life: Duration,
        refreshing: impl FnOnce(),
    ) -> Result<Served, KeeperError> {
        let present = match self.kept_or_begun(id).await? {
            Kept::Before(present) => present,
            Kept::SinceNow(installation) => {
                return Ok(Served { installation, refreshed: true, warning: None });
            }
        };
        let step = present.next_step(self.parts.clock.now(), minimum_life);
        if step == Step::Use && present.connection == Connection::Connected {
            return Ok(Served { installation: present, refreshed: false, warning: None });
        }
        refreshing();
        let landed = self.fly(present.clone()).await;
        self.landed_or_present(present, landed)
    }

    /// What is kept for `id`; where nothing is, a location is begun with its company's grant.
    async fn kept_or_begun(&self, id: &InstallationId) -> Result<Kept, KeeperError> {
        match self.load(id).await {
            Err(KeeperError::NotConnected(_)) => self.mint_unknown(id).await.map(Kept::SinceNow),
            present => present.map(Kept::Before),
        }
    }

    /// Gets a new set of tokens, however fresh the present one is.
    pub async fn refresh(&self, id: &InstallationId) -> Result<Installation, KeeperError> {
        let present = self.load(id).await?;
        self.fly(present).await
    }

    /// Gets a new set where that is due, as it may no longer be when it was found to be: someone else may
    /// have got it since.
    pub async fn refresh_if_due(&self, id: &InstallationId) -> Result<Installation, KeeperError> {
        let present = self.load(id).await?;
        let now = self.parts.clock.now();
        // Replicas come to the same installations at once: who is there first has them, and the others go
        // on to the next.
        let begun_just_now = |since: Timestamp| now.apart(since) < ON_ITS_WAY;
        let is_taken = present.intent.as_ref().is_some_and(|intent| begun_just_now(intent.since));
        match present.overview().is_refresh_due(now) && !is_taken {
            true => self.fly(present).await,
            false => Ok(present),
        }
    }

    /// A caller saw HighLevel refuse the access token of `generation`. One refresh serves all who
    /// say so; nobody is refreshed for a generation that has passed, or twice within a minute, however
    /// the first refresh ended.
    pub async fn refused(&self, id: &InstallationId, generation: u64) -> Result<Installation, KeeperError> {
        let present = self.load(id).await?;
        if present.version.generation != generation {
            return Ok(present);
        }
        if self.parts.clock.now().apart(present.tokens.issued_at) < REFUSED_AT_MOST_EVERY {
            return Err(KeeperError::FreshTokenRefused);
        }
        match self.force(present)? {
            Forced::Flies(arrival) => landed(arrival).await,
            Forced::NotBefore(until) => self.not_again(id, generation, until).await,
        }
    }

    /// Joins the flight in the air or starts one, unless one was started for this a minute ago or less.
    fn force(&self, seen: Installation) -> Result<Forced, KeeperError> {
        let (id, now) = (seen.id.clone(), self.parts.clock.now());
        // Held until the flight is in the list, so that nobody comes in between.
        let mut forced = self.parts.forced.lock().unwrap_or_else(PoisonError::into_inner);
        forced.retain(|_, at| now.apart(*at) < REFUSED_AT_MOST_EVERY);
        let flies = self.parts.in_the_air().contains_key(&Air::Refresh(id.clone()));
        match forced.get(&id) {
            Some(at) if !flies => Ok(Forced::NotBefore(*at + REFUSED_AT_MOST_EVERY)),
            _ => {
                let arrival = self.take_off(seen)?;
                forced.entry(id).or_insert(now);
                Ok(Forced::Flies(arrival))
            }
        }
    }

    /// What a caller gets whose 401 the last refresh did not cure.
    async fn not_again(
        &self,
        id: &InstallationId,
        generation: u64,
        until: Timestamp,
    ) -> Result<Installation, KeeperError> {
        // It may have landed after we looked.
        let present = self.load(id).await?;
        if present.version.generation != generation {
            return Ok(present);
        }
        self.parts.client_is_taken()?;
        match trouble_behind(&present) {
            Some(KeeperError::Unanswered { said }) => Err(KeeperError::Resting { until, said }),
            Some(other) => Err(other),
            None => Err(KeeperError::Resting { until, said: String::new() }),
        }
    }

    /// Exchanges an authorisation code, at once, and begins a new epoch with what it brings. What
    /// was there before is replaced only then. A code works once, so this too lands when whoever
    /// asked for it has gone.
    pub async fn connect(&self, code: &AuthorizationCode) -> Result<Installation, KeeperError> {
        self.launch_exchange(code, None).await
    }

    /// Exchanges a code that came by itself, as a marketplace install does. `policy` decides whether
    /// the grant is served or parked; parked is the error `Parked`.
    pub async fn connect_unasked(
        &self,
        code: &AuthorizationCode,
        policy: &InstallPolicy,
    ) -> Result<Installation, KeeperError> {
        self.launch_exchange(code, Some(policy.clone())).await
    }

    /// Takes an installation out of service. Whether there was one.
    pub async fn disconnect(&self, id: &InstallationId) -> Result<bool, KeeperError> {
        Ok(self.parts.store.remove(id, self.parts.clock.now()).await?)
    }

    /// HighLevel says that the app was uninstalled at `at`, from a company with all of its locations.
    /// Whom that took out of service: nobody who was connected later.
    pub async fn uninstalled(
        &self,
        id: &InstallationId,
        at: Timestamp,
    ) -> Result<Vec<InstallationId>, KeeperError> {
        Ok(self.parts.store.uninstalled(id, at, self.parts.clock.now()).await?)
    }

    /// Takes back into service what was taken out of it within 30 days; none where that is over, or there
    /// were no tokens.
    pub async fn restore(&self, id: &InstallationId) -> Result<Option<Installation>, KeeperError> {
        Ok(self.parts.store.restore(id, self.parts.clock.now()).await?)
    }

    /// Serves a grant that was parked, in the place of whatever was there before.
    pub async fn approve(&self, id: &InstallationId) -> Result<Installation, KeeperError> {
        let approved = self.parts.store.approve(id, self.parts.clock.now()).await?;
        approved.ok_or_else(|| KeeperError::NotConnected(id.clone()))
    }

    /// What was done so far, in numbers.
    pub fn counters(&self) -> &Counters {
        &self.parts.counters
    }

    /// How many refreshes and exchanges of this process are in the air.
    pub fn flights(&self) -> usize {
        self.parts.in_the_air().len()
    }

    /// The place of rest, for whoever reads. Only the Keeper writes tokens to it.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.parts.store
    }

    async fn launch_exchange(
        &self,
        code: &AuthorizationCode,
        unasked: Option<InstallPolicy>,
    ) -> Result<Installation, KeeperError> {
        let name = self.parts.name_flight();
        let (keeper, code) = (self.clone(), code.clone());
        let arrival = self.parts.launch(Air::Exchange(name.clone()), async move {
            let store = &keeper.parts.store;
            if let Some(why) = store.standby().await? {
                // A code works once: it is not used up for a grant that would be refused.
                return Err(StoreError::Standby { place: store.place(), why }.into());
            }
            store.reserve(&name).await?;
            let connected = keeper.exchange(&name, &code, unasked.as_ref()).await;
            if !matches!(connected, Err(KeeperError::Spooled(_)))
                && let Err(error) = keeper.parts.store.free(&name).await
            {
                warn!(%error, "could not give the spool's room back");
            }
            connected
        });
        landed(arrival).await
    }

    /// Brings to rest what earlier processes left in the air: answers that landed and were not saved.
    pub async fn recover(&self) -> Result<(), KeeperError> {
        self.parts.replay_landings(None).await.map(drop)
    }

    /// Writes back what was saved of late where the store has an older version of it, as a database has
    /// that took the place of another before it had followed it to the end. How much there was.
    pub async fn write_back(&self) -> Result<usize, StoreError> {
        let recent = self.parts.recent.all();
        if recent.is_empty() {
            return Ok(0);
        }
        let written = self.parts.store.put(&recent).await?;
        if written > 0 {
            warn!(written, "the database had lost what it had saved; it was written back");
        }
        Ok(written)
    }

    /// Waits until no refresh and no exchange of this process is in the air.
    pub async fn landed(&self) {
        loop {
            let next = self.parts.in_the_air().values().next().cloned();
            let Some(mut arrival) = next else { return };
            // An error means that the flight's task is gone, and with it its entry.
            let _ = arrival.wait_for(Option::is_some).await;
            tokio::task::yield_now().await;
        }
    }

    /// The installation as it rests.
    pub async fn load(&self, id: &InstallationId) -> Result<Installation, KeeperError> {
        self.parts.store.load(id).await?.ok_or_else(|| KeeperError::NotConnected(id.clone()))
    }

    /// Joins the flight in the air for this installation, or starts one. Whoever stops waiting, the
    /// flight goes on: HighLevel may have consumed the old refresh token already.
    pub(crate) async fn fly(&self, seen: Installation) -> Result<Installation, KeeperError> {
        landed(self.take_off(seen)?).await
    }

    fn take_off(&self, seen: Installation) -> Result<Arrival, KeeperError> {
        self.parts.client_is_taken()?;
        let parts = self.parts.clone();
        Ok(self.parts.launch(Air::Refresh(seen.id.clone()), async move {
            let flight = Flight {
                name: parts.name_flight(),
                id: seen.id.clone(),
                landed: AtomicBool::new(false),
                room: Mutex::new(parts.room().await),
                parts: parts.clone(),
            };
            let landed = flight.fly(seen).await;
            parts.counters.count(&landed);
            landed
        }))
    }

    fn landed_or_present(
        &self,
        present: Installation,
        landed: Result<Installation, KeeperError>,
    ) -> Result<Served, KeeperError> {
        match landed {
            Ok(installation) => {
                let refreshed = installation.version > present.version;
                Ok(Served { installation, refreshed, warning: None })
            }
            Err(error)
                if holds(Rule::ServeWhileItLives)
                    && present.lasts(self.parts.clock.now(), Duration::ZERO) =>
            {
                Ok(Served { installation: present, refreshed: false, warning: Some(error) })
            }
            Err(error) => Err(error),
        }
    }

    async fn exchange(
        &self,
        name: &FlightId,
        code: &AuthorizationCode,
        unasked: Option<&InstallPolicy>,
    ) -> Result<Installation, KeeperError> {
        let parts = &self.parts;
        let answer = self.ask_with_code(code).await?;
        let received_at = parts.clock.now();
        let landing = Landing {
            id: None,
            version: crate::installation::Version { epoch: 0, generation: 0 },
            replaces: None,
            unasked: unasked.is_some(),
            received_at,
            status: answer.status,
            body: answer.body.clone(),
        };
        let landed = answer.is_success() && parts.store.land(name, &landing).await.is_ok();
        let grant = match parts.issuer.read(&answer, received_at) {
            Reading::Granted(grant) => *grant,
            Reading::Refused(Refusal::InvalidClient(said)) => {
                return Err(KeeperError::InvalidClient { said });
            }
            Reading::Refused(refusal) => {
                return Err(KeeperError::InvalidCode { said: refusal.to_string() });
            }
            Reading::Unclear(said) => return Err(KeeperError::Unanswered { said }),
        };
        let id = grant.id.clone().ok_or(KeeperError::Anonymous)?;
        let saved = match unasked {
            Some(policy) => parts.patiently(|| parts.admit(&id, &grant.tokens, received_at, policy)).await,
            None => parts.patiently(|| parts.store.connect(&id, &grant.tokens, received_at)).await.map(Some),
        };
        match saved {
            Ok(Some(installation)) => {
                parts.note_saved(&installation);
                Ok(installation)
            }
            Ok(None) => Err(KeeperError::Parked(id)),
            Err(error) if landed => Err(KeeperError::Spooled(error)),
            Err(error) => Err(KeeperError::Unsaved(error)),
        }
    }

    /// A code works once, so it is sent again only while HighLevel has not answered.
    async fn ask_with_code(&self, code: &AuthorizationCode) -> Result<RawAnswer, KeeperError> {
        let mut pause = self.parts.timing.send_again_after / 16;
        let mut tries_left = 3;
        loop {
            tries_left -= 1;
            match self.parts.issuer.exchange(code).await {
                Ok(answer) => return Ok(answer),
                Err(Unanswered::NotSent(said) | Unanswered::Lost(said)) if tries_left == 0 => {
                    return Err(KeeperError::Unanswered { said });
                }
                Err(unanswered) => {
                    info!(%unanswered, "no answer to the authorisation code; sending it again")
                }
            }
            sleep(pause).await;
            pause *= 2;
        }
    }
}

/// How a flight ended, however long it takes.
pub(crate) async fn landed(mut arrival: Arrival) -> Result<Installation, KeeperError> {
    match arrival.wait_for(Option::is_some).await.as_deref() {
        Ok(Some(landed)) => landed.clone(),
        Ok(None) | Err(_) => {
            Err(KeeperError::Unanswered { said: "the request broke off inside this program".into() })
        }
    }
}

/// A flight's place in the list of those in the air, given back however the flight ends.
struct Entry {
    parts: Arc<Parts>,
    air: Air,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.parts.in_the_air().remove(&self.air);
    }
}

impl Parts {
    /// Waits for room in the air; it is given back with the permit.
    pub(crate) async fn room(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed.
        self.room_in_the_air.clone().acquire_owned().await.ok()
    }

    fn in_the_air(&self) -> std::sync::MutexGuard<'_, HashMap<Air, Arrival>> {
        self.in_the_air.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins the flight that is in the air already, or starts `flight` in a task of its own.
    pub(crate) fn launch(
        self: &Arc<Self>,
        air: Air,
        flight: impl Future<Output = Result<Installation, KeeperError>> + Send + 'static,
    ) -> Arrival {
        let mut in_the_air = self.in_the_air();
        if let Some(arrival) = in_the_air.get(&air) {
            return arrival.clone();
        }
        let (arrived, arrival) = watch::channel(None);
        in_the_air.insert(air.clone(), arrival.clone());
        let entry = Entry { parts: self.clone(), air };
        let flight = async move {
            let landed = flight.await;
            drop(entry);
            arrived.send_replace(Some(landed));
        };
        tokio::spawn(flight.in_current_span());
        arrival
    }

    /// Serves or parks a grant that nobody here asked for; none when it is parked.
    async fn admit(
        &self,
        id: &InstallationId,
        tokens: &TokenSet,
        now: Timestamp,
        policy: &InstallPolicy,
    ) -> Result<Option<Installation>, StoreError> {
        let present = self.store.load(id).await?;
        match policy.admit(id, present.as_ref()) {
            Admission::Serve => self.store.connect(id, tokens, now).await.map(Some),
            Admission::Park => self.store.park(id, tokens, now).await.map(|()| None),
        }
    }

    fn name_flight(&self) -> FlightId {
        let number = self.flights_begun.fetch_add(1, Ordering::Relaxed);
        FlightId(format!("{}-{number}", self.process))
    }

    /// Remembers that HighLevel refused our client, so that no other flight starts for a while.
    pub(crate) fn client_refused(&self, now: Timestamp, said: &str) {
        let mut refused = self.client_refused.lock().unwrap_or_else(PoisonError::into_inner);
        *refused = Some((now, said.to_owned()));
    }

    fn client_is_taken(&self) -> Result<(), KeeperError> {
        let refused = self.client_refused.lock().unwrap_or_else(PoisonError::into_inner);
        match &*refused {
            Some((at, said)) if self.clock.now().apart(*at) < CLIENT_PAUSE => {
                Err(KeeperError::InvalidClient { said: said.clone() })
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn note_saved(&self, installation: &Installation) {
        if self.store.is_remote() {
            self.recent.note(installation);
        }
    }

    /// Tries a write of new tokens again for as long as the timing says.
    pub(crate) async fn patiently<T, F>(&self, mut write: impl FnMut() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let began = Instant::now();
        let mut pause = Duration::from_millis(50);
        loop {
            let error = match write().await {
                Ok(written) => return Ok(written),
                Err(error) => error,
            };
            // A store that has stopped believing the disk is well again only in another process.
            // On standby, another store keeps these grants.
            let hopeless = matches!(
                error,
                StoreError::Poisoned { .. } | StoreError::NoRoomFor { .. } | StoreError::Standby { .. }
            );
            if hopeless || self.timing.commit_patience.is_some_and(|patience| began.elapsed() >= patience) {
                return Err(error);
            }
            warn!(%error, "new tokens can't be saved yet; trying on");
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }

    /// Saves answers that landed in flights that ended early, all or one installation's, and gives
    /// back the last one saved.
    pub(crate) async fn replay_landings(
        &self,
        of: Option<&InstallationId>,
    ) -> Result<Option<Installation>, KeeperError> {
        let (mut saved, mut problem) = (None, None);
        for (flight, landing) in self.store.landings().await? {
            if of.is_some() && landing.id.as_ref() != of {
                continue;
            }
            // One that can't be saved is in no other's way.
            match self.replay(&flight, &landing).await {
                Ok(Some(installation)) => {
                    info!(id = %installation.id, "saved an answer that an earlier run could not save");
                    saved = Some(installation);
                }
                Ok(None) => {}
                Err(error) => {
                    problem.get_or_insert(error);
                    continue;
                }
            }
            self.store.free(&flight).await?;
        }
        match problem {
            Some(error) => Err(error.into()),
            None => Ok(saved),
        }
    }

    async fn replay(&self, flight: &FlightId, landing: &Landing) -> Result<Option<Installation>, StoreError> {
        let answer = RawAnswer { status: landing.status, body: landing.body.clone() };
        let Reading::Granted(grant) = self.issuer.read(&answer, landing.received_at) else {
            return Ok(None);
        };
        match (landing.id.clone(), landing.replaces) {
            (Some(id), Some(replaces)) => {
                let now = self.clock.now();
                let version = landing.version;
                let commit =
                    Commit { flight: flight.clone(), id, version, replaces, tokens: grant.tokens, now };
                match self.store.commit(&commit).await? {
                    Committed::Saved(installation) => Ok(Some(*installation)),
                    Committed::Superseded(_) | Committed::Gone => Ok(None),
                }
            }
            _ => self.replay_exchange(landing, *grant).await,
        }
    }

    /// A first grant is saved unless the store has one that came later, or this very one.
    async fn replay_exchange(
        &self,
        landing: &Landing,
        grant: Grant,
    ) -> Result<Option<Installation>, StoreError> {
        let Some(id) = grant.id else { return Ok(None) };
        if landing.unasked {
            let now = landing.received_at;
            return self.admit(&id, &grant.tokens, now, &InstallPolicy::Approve).await;
        }
        let newer_is_there = self
            .store
            .load(&id)
            .await?
            .is_some_and(|present| present.tokens.issued_at >= landing.received_at);
        if newer_is_there {
            return Ok(None);
        }
        self.store.connect(&id, &grant.tokens, landing.received_at).await.map(Some)
    }
}

/// What a caller should know beside a token that still works.
fn trouble_behind(installation: &Installation) -> Option<KeeperError> {
    let id = installation.id.clone();
    match &installation.connection {
        Connection::Connected => None,
        Connection::Uncertain { said, .. } => Some(KeeperError::Unanswered { said: said.clone() }),
        Connection::Suspended { since, said, .. } => {
            Some(KeeperError::Suspended { id, since: *since, said: said.clone() })
        }
        Connection::Broken(broken) => Some(KeeperError::NeedsPerson { id, broken: broken.clone() }),
    }
}
