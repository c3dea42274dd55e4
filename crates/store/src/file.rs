//! One installation in the template's `ghl_tokens.json`.
//!
//! Every change is a look, a comparison and a replacement of the whole document under a lock that
//! lasts only for that. The flight's own lock lasts as long as the flight, and the kernel frees it
//! when the process dies. With a key the file holds one sealed envelope instead.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::tz::TimeZone;
use tokens::store::{
    Changes, Claim, ClaimRequest, Commit, Committed, Counts, Due, Fingerprint, FlightId, IntentThen, Landing,
    Listing, Mark, Parked, Weakness,
};
use tokens::{
    Connection, Installation, InstallationId, Intent, LastCheck, Overview, RefreshToken, Store, StoreError,
    Timestamp, TokenSet, Version,
};

use crate::change::{self, Outcome};
use crate::data_file::{Contents, DataFile, Locked, Replaced, held};
use crate::disk::{self, apart};
use crate::document::{Document, Unread};
use crate::envelope;
use crate::in_place;
use crate::local_time;
use crate::seal::Sealer;
use crate::spool::Spool;

/// A `file:` store.
pub(crate) struct FileStore(Arc<Inner>);

struct Inner {
    data: DataFile,
    sealer: Arc<Sealer>,
    spool: Spool,
    otherwise: Option<InstallationId>,
    zone: TimeZone,
    seen: Mutex<Option<Seen>>,
}

/// What was last seen in the file, so that what the template writes counts as newer than it.
struct Seen {
    id: InstallationId,
    version: Version,
    adopted: Option<String>,
}

/// How a document rests in the file.
#[derive(PartialEq, Eq)]
enum Form {
    /// As it is to be.
    Settled,
    /// In clear text though there is a key, or under an old one.
    ToBeSealed,
}

impl FileStore {
    /// Opens the store; whoever's tokens the file does not say are taken to be `otherwise`'s.
    pub(crate) fn open(
        data: DataFile,
        sealer: Arc<Sealer>,
        otherwise: Option<InstallationId>,
    ) -> Result<Self, StoreError> {
        let spool = Spool::beside(data.path(), sealer.clone());
        let zone = local_time::zone();
        let inner = Inner { data, sealer, spool, otherwise, zone, seen: Mutex::default() };
        match inner.look() {
            Ok(Some((_, Form::ToBeSealed))) => inner.seal_now(),
            Ok(_) => {}
            // A new authorisation can still take its place, and whoever asks for tokens is told.
            Err(StoreError::Unreadable { place, why }) => {
                tracing::warn!(file = place, why, "no grant can be read")
            }
            Err(error) => return Err(error),
        }
        Ok(Self(Arc::new(inner)))
    }

    /// The installation that the file holds, if it holds one.
    async fn kept(&self) -> Result<Option<Installation>, StoreError> {
        let found = if self.0.data.is_rewritten_in_place() {
            self.apart(Inner::look).await?
        } else {
            self.0.look()?
        };
        let installation = found.and_then(|(document, _)| document.installation);
        Ok(installation.map(|installation| self.0.with_check(installation)))
    }

    async fn apart<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let inner = self.0.clone();
        apart(self.0.data.path(), move || work(&inner)).await
    }
}

#[async_trait]
impl Store for FileStore {
    async fn load(&self, id: &InstallationId) -> Result<Option<Installation>, StoreError> {
        Ok(self.kept().await?.filter(|installation| installation.id == *id))
    }

    async fn list(
        &self,
        after: Option<&InstallationId>,
        limit: usize,
    ) -> Result<Vec<Installation>, StoreError> {
        let kept = self.kept().await?;
        let behind = kept.filter(|installation| after.is_none_or(|after| installation.id > *after));
        Ok(behind.into_iter().take(limit).collect())
    }

    async fn overview(&self, listing: &Listing) -> Result<Vec<Overview>, StoreError> {
        Ok(listing.pick(self.kept().await?.as_ref().map(Installation::overview)))
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        let mut counts = Counts::default();
        if let Some(kept) = self.kept().await? {
            counts.count(&kept.overview());
        }
        Ok(counts)
    }

    async fn refresh_due(
        &self,
        now: Timestamp,
        after: Option<&Due>,
        limit: usize,
    ) -> Result<Vec<Due>, StoreError> {
        let kept = self.kept().await?.map(|kept| kept.overview());
        let due = kept.filter(|it| it.is_refresh_due(now)).map(|it| {
            let at = it.refresh_due_at().unwrap_or(Timestamp::from_millis(i64::MIN));
            Due { at, id: it.id }
        });
        Ok(due.filter(|_| after.is_none()).into_iter().take(limit).collect())
    }

    async fn check_due(
        &self,
        interval: Duration,
        now: Timestamp,
        after: Option<&Due>,
        limit: usize,
    ) -> Result<Vec<Due>, StoreError> {
        let kept = self.kept().await?.map(|kept| kept.overview());
        let due = kept.map(|it| Due { at: it.check_due_at(interval, now), id: it.id });
        Ok(due.filter(|due| due.at <= now && after.is_none()).into_iter().take(limit).collect())
    }

    fn place(&self) -> String {
        self.0.place()
    }

    fn fingerprint(&self, token: &RefreshToken) -> Fingerprint {
        self.0.sealer.fingerprint(token)
    }

    async fn reserve(&self, flight: &FlightId) -> Result<(), StoreError> {
        let flight = flight.clone();
        self.apart(move |inner| match inner.data.is_rewritten_in_place() {
            true => inner.spool.check_name(&flight).and_then(|()| inner.data.set_room_aside(&flight)),
            false => inner.spool.reserve(&flight),
        })
        .await
    }

    async fn claim(&self, claim: &ClaimRequest) -> Result<Claim, StoreError> {
        let claim = claim.clone();
        self.apart(move |inner| inner.claim(&claim)).await
    }

    async fn renew(&self, claim: &ClaimRequest) -> Result<(), StoreError> {
        // The kernel keeps the lock as long as we live.
        match self.0.data.is_flying(&claim.flight) {
            true => Ok(()),
            false => Err(StoreError::LeaseLost),
        }
    }

    async fn land(&self, flight: &FlightId, landing: &Landing) -> Result<(), StoreError> {
        let (flight, landing) = (flight.clone(), landing.clone());
        self.apart(move |inner| inner.land(&flight, landing)).await
    }

    async fn free(&self, flight: &FlightId) -> Result<(), StoreError> {
        let flight = flight.clone();
        self.apart(move |inner| inner.free(&flight)).await
    }

    async fn reseal(&self, _limit: usize) -> Result<usize, StoreError> {
        // The file itself is sealed anew as soon as it is opened.
        self.apart(|inner| inner.spool.under_other_keys()).await
    }

    async fn landings(&self) -> Result<Vec<(FlightId, Landing)>, StoreError> {
        // Almost always nothing was left behind, and that is told without a thread to wait on.
        match self.0.data.is_rewritten_in_place() || self.0.spool.exists() {
            true => self.apart(Inner::landings).await,
            false => Ok(Vec::new()),
        }
    }

    async fn commit(&self, commit: &Commit) -> Result<Committed, StoreError> {
        let commit = commit.clone();
        self.apart(move |inner| inner.commit(&commit)).await
    }

    async fn settle(
        &self,
        claim: &ClaimRequest,
        connection: &Connection,
        intent: IntentThen,
    ) -> Result<(), StoreError> {
        let (claim, connection) = (claim.clone(), connection.clone());
        self.apart(move |inner| {
            let settled = inner.settle(&claim, connection, intent);
            inner.data.end_flight(&claim.flight);
            settled
        })
        .await
    }

    async fn connect(
        &self,
        id: &InstallationId,
        tokens: &TokenSet,
        now: Timestamp,
    ) -> Result<Installation, StoreError> {
        let (id, tokens) = (id.clone(), tokens.clone());
        self.apart(move |inner| inner.connect(&id, &tokens, now)).await
    }

    async fn note_check(&self, id: &InstallationId, check: &LastCheck) -> Result<(), StoreError> {
        envelope::note_check(self.0.data.path(), id, check);
        Ok(())
    }

    async fn remove(&self, id: &InstallationId, now: Timestamp) -> Result<bool, StoreError> {
        let id = id.clone();
        self.apart(move |inner| inner.remove(&id, now)).await
    }

    fn can_park(&self) -> bool {
        false
    }

    async fn park(
        &self,
        _id: &InstallationId,
        _tokens: &TokenSet,
        _now: Timestamp,
    ) -> Result<(), StoreError> {
        Err(StoreError::NoRoomFor { place: self.0.place(), what: "parked" })
    }

    async fn parked(&self) -> Result<Vec<Parked>, StoreError> {
        Ok(Vec::new())
    }

    async fn approve(
        &self,
        _id: &InstallationId,
        _now: Timestamp,
    ) -> Result<Option<Installation>, StoreError> {
        Ok(None)
    }

    async fn standby(&self) -> Result<Option<String>, StoreError> {
        // Almost always there is no such note, and that is told without a thread to wait on.
        self.0.standby()
    }

    async fn set_standby(&self, why: Option<&str>) -> Result<(), StoreError> {
        let why = why.map(str::to_owned);
        self.apart(move |inner| inner.set_standby(why.as_deref())).await
    }

    async fn put(&self, installations: &[Installation]) -> Result<usize, StoreError> {
        match installations {
            [] => Ok(0),
            [one] => {
                let one = Installation { intent: None, ..one.clone() };
                self.apart(move |inner| inner.put(one)).await
            }
            _ => Err(self.no_room_for("many installations")),
        }
    }

    async fn dismiss(&self, _id: &InstallationId) -> Result<bool, StoreError> {
        Ok(false)
    }

    async fn changes(&self, since: Mark) -> Result<Changes, StoreError> {
        self.apart(move |inner| inner.changes(since)).await
    }

    fn weaknesses(&self) -> Vec<Weakness> {
        let mut weaknesses = Vec::new();
        if self.0.data.is_rewritten_in_place() {
            weaknesses.push(Weakness::RewrittenInPlace);
        }
        if self.0.sealer.current_id().is_none() {
            weaknesses.push(Weakness::Unsealed);
        }
        weaknesses
    }
}

impl Inner {
    fn place(&self) -> String {
        self.data.path().display().to_string()
    }

    /// What is in the file, without changing it.
    fn look(&self) -> Result<Option<(Document, Form)>, StoreError> {
        self.data.read()?.map(|contents| self.decode(&contents)).transpose()
    }

    /// Moves the file aside; one that is mounted by itself can't be.
    fn remove(&self, id: &InstallationId, now: Timestamp) -> Result<bool, StoreError> {
        let Some(locked) = self.data.lock()? else { return Ok(false) };
        let document = self.look_locked(&locked)?;
        if document.installation.as_ref().is_none_or(|installation| installation.id != *id) {
            return Ok(false);
        }
        if self.data.is_rewritten_in_place() {
            return Err(StoreError::NoRoomFor { place: self.place(), what: "removed" });
        }
        let aside = disk::beside(self.data.path(), &format!(".removed-{}", now.as_millis()));
        std::fs::rename(self.data.path(), &aside)
            .and_then(|()| disk::sync_folder(&disk::folder_of(&aside)))
            .map_err(disk::failed("move aside", &aside))?;
        tracing::info!(file = %aside.display(), "the tokens were moved aside");
        Ok(true)
    }

    /// A file has changed when it is another one, or has another length or time.
    fn changes(&self, since: Mark) -> Result<Changes, StoreError> {
        use std::os::unix::fs::MetadataExt as _;
        let mark = match std::fs::metadata(self.data.path()) {
            Ok(found) => {
                let parts = [found.ino(), found.len(), found.mtime().unsigned_abs()];
                let folded = parts.iter().fold(found.mtime_nsec().unsigned_abs(), |sum, part| {
                    sum.rotate_left(17).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ part
                });
                Mark(folded | 2)
            }
            Err(_) => Mark(1),
        };
        if since == Mark::default() || since == mark {
            return Ok(Changes { ids: Vec::new(), mark });
        }
        let mut ids: Vec<InstallationId> = self.otherwise.iter().cloned().collect();
        ids.extend(held(&self.seen).iter().map(|seen| seen.id.clone()));
        ids.extend(self.look()?.and_then(|(document, _)| document.installation).map(|it| it.id));
        ids.sort();
        ids.dedup();
        Ok(Changes { ids, mark })
    }

    fn look_locked(&self, locked: &Locked) -> Result<Document, StoreError> {
        Ok(self.decode(&self.data.read_locked(locked)?)?.0)
    }

    fn decode(&self, contents: &Contents) -> Result<(Document, Form), StoreError> {
        let bytes = in_place::find(&contents.bytes);
        let (opened, current) =
            match envelope::open(bytes, &self.sealer).map_err(|why| why.at(self.place()))? {
                Some(opened) => (Some(opened.plain), opened.under_the_current_key),
                None => (None, self.sealer.current_id().is_none()),
            };
        let plain = opened.as_ref().map_or(bytes, |opened| opened.as_slice());
        let mut document = Document::parse(plain, contents.written_at, self.otherwise.as_ref(), &self.zone)
            .map_err(|unread| match unread {
            Unread::TooNew => StoreError::TooNew { place: self.place() },
            Unread::Odd(odd) => StoreError::Unreadable { place: self.place(), why: odd.0 },
        })?;
        self.count(&mut document);
        let empty = document.installation.is_none() && document.landed.is_empty();
        Ok((document, if current || empty { Form::Settled } else { Form::ToBeSealed }))
    }

    /// Sees to it that tokens which the template wrote count as newer than what was there before.
    fn count(&self, document: &mut Document) {
        let Some(installation) = &mut document.installation else { return };
        let mut seen = held(&self.seen);
        if let (Some(digest), Some(seen)) = (&document.adopted, &*seen)
            && seen.id == installation.id
        {
            if seen.adopted.as_ref() == Some(digest) {
                installation.version = seen.version;
            } else if seen.version >= installation.version {
                let Version { epoch, generation } = seen.version;
                installation.version = Version { epoch: epoch + 1, generation: generation + 1 };
            }
        }
        // A reader who was slow does not count back.
        let highest = seen.as_ref().filter(|seen| seen.id == installation.id).map(|seen| seen.version);
        *seen = Some(Seen {
            id: installation.id.clone(),
            version: installation.version.max(highest.unwrap_or(installation.version)),
            adopted: document.adopted.clone(),
        });
    }

    fn write(&self, locked: Option<&Locked>, document: &Document) -> Result<Replaced, StoreError> {
        let plain = document.render(&self.zone);
        match envelope::seal(document.installation.as_ref(), &plain, &self.sealer) {
            Some(sealed) => self.data.replace(locked, &sealed),
            None => self.data.replace(locked, &plain),
        }
    }

    /// Seals what rests in clear text or under an old key, unless someone is at it just now.
    fn seal_now(&self) {
        let nobody = FlightId(String::new());
        let sealed = || -> Result<(), StoreError> {
            let Some(locked) = self.data.lock()? else { return Ok(()) };
            if self.data.someone_else_flies(&nobody, &locked)? {
                return Ok(());
            }
            let document = self.look_locked(&locked)?;
            self.write(Some(&locked), &document).map(drop)
        };
        if let Err(error) = sealed() {
            tracing::warn!(file = self.place(), %error, "could not be sealed yet; the next write does it");
        }
    }

    fn with_check(&self, mut installation: Installation) -> Installation {
        installation.last_check = envelope::last_check(self.data.path(), &installation.id);
        installation
    }

    /// Answers without taking the lock, as those who wait for another's flight ask again and again.
    fn claim(&self, claim: &ClaimRequest) -> Result<Claim, StoreError> {
        let document = self.look()?.map(|(document, _)| document).unwrap_or_default();
        match document.installation.filter(|found| found.id == claim.id) {
            None => Ok(Claim::Gone),
            Some(newer) if newer.version != claim.seen => Ok(Claim::Moved(Box::new(self.with_check(newer)))),
            Some(found) if self.data.is_busy(&claim.flight)? => {
                Ok(Claim::Taken { since: found.intent.map_or(claim.now, |intent| intent.since) })
            }
            Some(_) => self.claim_locked(claim),
        }
    }

    fn claim_locked(&self, claim: &ClaimRequest) -> Result<Claim, StoreError> {
        let Some(locked) = self.data.lock()? else { return Ok(Claim::Gone) };
        let mut document = self.look_locked(&locked)?;
        let Some(installation) = document.installation.as_mut().filter(|found| found.id == claim.id) else {
            return Ok(Claim::Gone);
        };
        if installation.version != claim.seen {
            return Ok(Claim::Moved(Box::new(self.with_check(installation.clone()))));
        }
        let open_since = installation.intent.map(|intent| intent.since);
        if !self.data.begin_flight(&claim.flight)? {
            return Ok(Claim::Taken { since: open_since.unwrap_or(claim.now) });
        }
        // Whoever puts the store on standby holds the flight's lock for it.
        if let Err(standby) = self.refuse_on_standby() {
            self.data.end_flight(&claim.flight);
            return Err(standby);
        }
        if let Some(since) = open_since {
            // The intent of a flight that died is as durable as ours would be.
            return Ok(Claim::Ours { since });
        }
        installation.intent = Some(Intent { since: claim.now });
        if let Err(error) = self.write(Some(&locked), &document) {
            self.data.end_flight(&claim.flight);
            return Err(error);
        }
        Ok(Claim::Ours { since: claim.now })
    }

    fn commit(&self, commit: &Commit) -> Result<Committed, StoreError> {
        let Some(locked) = self.data.lock()? else { return Ok(Committed::Gone) };
        let mut document = self.look_locked(&locked)?;
        let Some(found) = document.installation.take().filter(|found| found.id == commit.id) else {
            return Ok(Committed::Gone);
        };
        let committed = match change::commit(found, commit, &self.sealer) {
            Outcome::Changed(installation) => {
                document.installation = Some(*installation.clone());
                document.landed.retain(|(flight, _)| *flight != commit.flight);
                self.write(Some(&locked), &document)?;
                Committed::Saved(Box::new(self.with_check(*installation)))
            }
            Outcome::AlreadySo(installation) => Committed::Saved(Box::new(self.with_check(*installation))),
            Outcome::Moved(installation) => Committed::Superseded(Box::new(self.with_check(*installation))),
        };
        self.data.end_flight(&commit.flight);
        Ok(committed)
    }

    fn settle(
        &self,
        claim: &ClaimRequest,
        connection: Connection,
        intent: IntentThen,
    ) -> Result<(), StoreError> {
        let Some(locked) = self.data.lock()? else { return Ok(()) };
        let mut document = self.look_locked(&locked)?;
        let ours = |found: &&mut Installation| found.id == claim.id && found.version == claim.seen;
        let Some(installation) = document.installation.as_mut().filter(ours) else { return Ok(()) };
        if self.data.someone_else_flies(&claim.flight, &locked)? {
            return Ok(());
        }
        installation.connection = connection;
        if intent == IntentThen::Ended {
            installation.intent = None;
        }
        self.write(Some(&locked), &document).map(drop)
    }

    fn connect(
        &self,
        id: &InstallationId,
        tokens: &TokenSet,
        now: Timestamp,
    ) -> Result<Installation, StoreError> {
        self.refuse_on_standby()?;
        loop {
            let locked = self.data.lock()?;
            let mut document = match &locked {
                Some(locked) => self.make_way(locked, id, now)?,
                None => Document::default(),
            };
            let installation = match change::connect(document.installation.take(), id, tokens, now) {
                Outcome::AlreadySo(installation) => return Ok(self.with_check(*installation)),
                Outcome::Changed(installation) | Outcome::Moved(installation) => *installation,
            };
            document.installation = Some(installation.clone());
            if self.write(locked.as_ref(), &document)? == Replaced::Done {
                return Ok(self.with_check(installation));
            }
        }
    }

    /// Puts an installation as it is, unless the file holds it so already, or later. There is no room for
    /// a second one.
    fn put(&self, installation: Installation) -> Result<usize, StoreError> {
        loop {
            let locked = self.data.lock()?;
            let mut document = match &locked {
                Some(locked) => self.look_locked(locked)?,
                None => Document::default(),
            };
            match &document.installation {
                Some(found) if found.id != installation.id => {
                    return Err(StoreError::NoRoomFor { place: self.place(), what: "a second installation" });
                }
                Some(found) if found.version >= installation.version => return Ok(0),
                _ => {}
            }
            document.installation = Some(installation.clone());
            if self.write(locked.as_ref(), &document)? == Replaced::Done {
                if let Some(check) = &installation.last_check {
                    envelope::note_check(self.data.path(), &installation.id, check);
                }
                return Ok(1);
            }
        }
    }

    /// Where it is written that the store is on standby: beside the file, which stays the template's.
    fn standby_note(&self) -> PathBuf {
        disk::beside(self.data.path(), ".standby")
    }

    fn standby(&self) -> Result<Option<String>, StoreError> {
        let note = self.standby_note();
        match std::fs::read_to_string(&note) {
            Ok(why) => Ok(Some(why.trim().to_owned())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(disk::failed("read", &note)(error)),
        }
    }

    fn refuse_on_standby(&self) -> Result<(), StoreError> {
        match self.standby()? {
            Some(why) => Err(StoreError::Standby { place: self.place(), why }),
            None => Ok(()),
        }
    }

    fn set_standby(&self, why: Option<&str>) -> Result<(), StoreError> {
        let note = self.standby_note();
        let Some(why) = why else {
            return match std::fs::remove_file(&note).and_then(|()| disk::sync_folder(&disk::folder_of(&note)))
            {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(disk::failed("remove", &note)(error))
                }
                _ => Ok(()),
            };
        };
        if self.data.is_rewritten_in_place() {
            // Where only the file itself outlives the container, a note beside it would be lost.
            return Err(StoreError::NoRoomFor { place: self.place(), what: "a standby" });
        }
        let ours = FlightId("standby".to_owned());
        if self.data.lock()?.is_some() && !self.data.begin_flight(&ours)? {
            return Err(StoreError::InTheAir { place: self.place() });
        }
        let temporary = disk::beside(&note, ".new");
        let written = (|| {
            let _ = std::fs::remove_file(&temporary);
            let mut file = disk::create_new(&temporary)?;
            file.write_all(why.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&temporary, &note)?;
            disk::sync_folder(&disk::folder_of(&note))
        })();
        self.data.end_flight(&ours);
        written.map_err(disk::failed("write", &note))
    }

    /// The document that a new authorisation goes into. What is in the file and belongs to another
    /// grant, or can't be read, is kept first: beside the file, or else within the document.
    fn make_way(&self, locked: &Locked, id: &InstallationId, now: Timestamp) -> Result<Document, StoreError> {
        let contents = self.data.read_locked(locked)?;
        let (mut document, word) = match self.decode(&contents) {
            Ok((document, _)) => match &document.installation {
                Some(found) if found.id != *id => (document, "replaced"),
                _ => return Ok(document),
            },
            Err(StoreError::Unreadable { .. }) => (Document::default(), "unreadable"),
            Err(error) => return Err(error),
        };
        document.installation = None;
        let bytes = contents.bytes.trim_ascii_end();
        let suffix = format!(".{word}-{}", now.as_millis() / 1000);
        // Where only the file itself outlives the container, a copy beside it would be lost.
        let copy = match self.data.is_rewritten_in_place() {
            true => Err(std::io::ErrorKind::Unsupported.into()),
            false => self.data.keep_copy(&suffix, bytes),
        };
        match copy {
            Ok(copy) => tracing::warn!(file = self.place(), copy = %copy.display(), "what was there is kept"),
            Err(_) => {
                document.displaced.push(String::from_utf8_lossy(bytes).into_owned());
                let excess = document.displaced.len().saturating_sub(3);
                document.displaced.drain(..excess);
            }
        }
        Ok(document)
    }

    fn land(&self, flight: &FlightId, landing: Landing) -> Result<(), StoreError> {
        if !self.data.is_rewritten_in_place() {
            return self.spool.land(flight, &landing);
        }
        let locked = self
            .data
            .lock()?
            .ok_or_else(|| disk::failed("open", self.data.path())(std::io::ErrorKind::NotFound.into()))?;
        let mut document = match self.look_locked(&locked) {
            // A grant is on its way into a file that can't be read: the answer must not wait for that.
            Err(StoreError::Unreadable { .. }) => self.displace(&locked)?,
            looked => looked?,
        };
        document.landed.push((flight.clone(), landing));
        self.write(Some(&locked), &document).map(drop)
    }

    fn displace(&self, locked: &Locked) -> Result<Document, StoreError> {
        let bytes = self.data.read_locked(locked)?.bytes;
        let text = String::from_utf8_lossy(bytes.trim_ascii_end()).into_owned();
        Ok(Document { displaced: vec![text], ..Document::default() })
    }

    fn free(&self, flight: &FlightId) -> Result<(), StoreError> {
        if self.data.is_rewritten_in_place()
            && let Some(locked) = self.data.lock()?
        {
            let mut document = self.look_locked(&locked)?;
            let before = document.landed.len();
            document.landed.retain(|(landed, _)| landed != flight);
            if document.landed.len() < before {
                self.write(Some(&locked), &document)?;
            }
            self.data.give_room_back(flight, &locked)?;
        }
        // Also what landed beside the file before it had to be rewritten in place.
        self.spool.free(flight)
    }

    fn landings(&self) -> Result<Vec<(FlightId, Landing)>, StoreError> {
        let mut landings = self.spool.landings()?;
        if let Some((document, _)) = self.look()?
            && !document.landed.is_empty()
            && let Some(locked) = self.data.lock()?
            && self.data.nobody_else_has_room(&locked)?
        {
            landings.extend(self.look_locked(&locked)?.landed);
        }
        Ok(landings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Keys;

    fn grant(name: &str) -> TokenSet {
        let jwt = |kind: &str| format!("eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.{}.{kind}", name.repeat(2000));
        TokenSet {
            access: tokens::AccessToken::new(jwt("YWNjZXNz")),
            refresh_by: tokens::RefreshBy::Own(RefreshToken::new(jwt("cmVmcmVzaA"))),
            issued_at: Timestamp::from_millis(0),
            expires_at: Timestamp::from_millis(86_400_000),
            scopes: String::new(),
            company: None,
            members: tokens::ReplyMembers::new("{}"),
        }
    }

    /// What a disk that loses what it was given makes of a flush.
    fn broken_disk(_: &std::fs::File) -> std::io::Result<()> {
        Err(std::io::Error::from_raw_os_error(nix::libc::EIO))
    }

    #[tokio::test]
    async fn after_a_failed_flush_nothing_more_is_believed() {
        let id = InstallationId::from_parts("location", "L1").expect("an id");
        let now = Timestamp::from_millis(1);
        let sealer = || Arc::new(Sealer::new(&Keys::default()));
        for in_place in [false, true] {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("ghl_tokens.json");
            let open = |data| FileStore::open(data, sealer(), None).expect("a store");
            let find = || DataFile::find(&path, in_place).expect("a file");
            let first = open(find()).connect(&id, &grant("Zmly"), now).await.expect("saved");

            let store = open(find().with_sync(broken_disk));
            let failed = store.connect(&id, &grant("c2Vj"), now).await;
            assert!(matches!(failed, Err(StoreError::Io { .. })), "{failed:?}");
            for again in
                [store.connect(&id, &grant("c2Vj"), now).await, store.load(&id).await.map(|_| first.clone())]
            {
                assert!(matches!(again, Err(StoreError::Poisoned { .. })), "{again:?}");
            }
            drop(store);
            // A new process opens the file anew, and finds the old or the new grant whole.
            let found = open(find()).load(&id).await.expect("read").expect("a grant");
            let names = [&first.tokens, &grant("c2Vj")];
            assert!(names.iter().any(|tokens| tokens.refresh_by == found.tokens.refresh_by));
        }
    }
}
