//! What the service remembers beside tokens: who may ask, what checks found, what there is to tell.
//!
//! Nothing in here is secret: of an API key only a hash is kept. Several processes may use one set of
//! records at once; where it matters who comes first, a method says whether it was us.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use crate::clock::Timestamp;
use crate::gateway::{Allowed, Lane};
use crate::health::{CheckRecord, Notice, Standing, Subject};
use crate::history::Episode;
use crate::installation::InstallationId;
use crate::store::StoreError;
use crate::uptime::Day;

/// No delivery waits for longer: one that is due later was put off by a clock that was ahead.
pub const LONGEST_WAIT: Duration = Duration::from_secs(60 * 60);

/// Where the service's memory rests.
#[async_trait]
pub trait Records: Send + Sync {
    /// Adds a key. Durable when it returns.
    async fn add_key(&self, key: &KeyRecord) -> Result<(), StoreError>;

    /// All keys, revoked ones too, with the mark of this state; none when nothing has changed since
    /// `unless`. Cheap then: it is asked several times a second. A use is not a change.
    async fn keys(&self, unless: Option<u64>) -> Result<Option<(Vec<KeyRecord>, u64)>, StoreError>;

    /// Ends a key's life. Whether there was such a key that lived.
    async fn revoke_key(&self, id: &KeyId, now: Timestamp) -> Result<bool, StoreError>;

    /// Notes when keys were last used, and from where. Not worth a disk flush.
    async fn note_uses(&self, uses: &[(KeyId, KeyUse)]) -> Result<(), StoreError>;

    /// Writes down who took which token. Durable when it returns.
    async fn audit(&self, lines: &[AuditLine]) -> Result<(), StoreError>;

    /// The newest audit lines first, at most `limit`.
    async fn audited(&self, limit: usize) -> Result<Vec<AuditLine>, StoreError>;

    /// What each living key did since then, beside what it had done before.
    async fn habits(&self, since: Timestamp) -> Result<Vec<Habits>, StoreError>;

    /// Adds a row to the history of checks.
    async fn add_check(&self, check: &CheckRecord) -> Result<(), StoreError>;

    /// The history of checks, newest first.
    async fn checks(&self, query: &CheckQuery) -> Result<Vec<CheckRecord>, StoreError>;

    /// What the checks of each day found, for the 90 days from the day `since` on: an installation's, or all
    /// together when none is named. Days without a check are not among them; the oldest comes first.
    async fn days(&self, id: Option<&InstallationId>, since: i64) -> Result<Vec<Day>, StoreError>;

    /// The same for each of several installations.
    async fn days_of(
        &self,
        ids: &[InstallationId],
        since: i64,
    ) -> Result<BTreeMap<InstallationId, Vec<Day>>, StoreError>;

    /// Makes a badge. Durable when it returns.
    async fn add_badge(&self, badge: &Badge) -> Result<(), StoreError>;

    /// All badges, the first that was made first.
    async fn badges(&self) -> Result<Vec<Badge>, StoreError>;

    /// Takes a badge back. Whether there was one of this name.
    async fn revoke_badge(&self, name: &str) -> Result<bool, StoreError>;

    /// Adds a line to an installation's history, unless it is there. Of each the latest fifty are kept. Not
    /// worth a disk flush.
    async fn note_episode(&self, episode: &Episode) -> Result<(), StoreError>;

    /// An installation's history, the latest first, at most `limit`.
    async fn history(&self, id: &InstallationId, limit: usize) -> Result<Vec<Episode>, StoreError>;

    /// How each subject stands, as it was last noted.
    async fn standings(&self) -> Result<Vec<Standing>, StoreError>;

    /// Notes how a subject stands, and puts what there is to tell into the outbox, once for each
    /// way, all at once. `false`, and nothing is changed, when the standing at rest is not of
    /// revision `standing.revision - 1`: someone else was faster. A first standing has revision 1.
    async fn tell(
        &self,
        standing: &Standing,
        notice: Option<&Notice>,
        ways: &[String],
    ) -> Result<bool, StoreError>;

    /// Takes what is due to be delivered now, at most `limit`, for us alone until `lease_until`. What
    /// waits for more than twice `LONGEST_WAIT` is due, too. What comes after something else about the
    /// same subject by the same way waits for that: nobody hears of an end before its beginning.
    async fn claim_deliveries(
        &self,
        now: Timestamp,
        lease_until: Timestamp,
        limit: usize,
    ) -> Result<Vec<Delivery>, StoreError>;

    /// A delivery arrived.
    async fn delivered(&self, delivery: &Delivery, now: Timestamp) -> Result<(), StoreError>;

    /// A delivery did not arrive; it is tried again at `until`.
    async fn put_off(&self, delivery: &Delivery, until: Timestamp, said: &str) -> Result<(), StoreError>;

    /// The newest notices first, with how each way to tell them stands, at most `limit`.
    async fn notices(&self, limit: usize) -> Result<Vec<(Notice, Vec<DeliveryState>)>, StoreError>;

    /// Plans a time in which nobody is told of trouble.
    async fn plan_maintenance(&self, window: &Maintenance) -> Result<(), StoreError>;

    /// Ends a maintenance early. Whether there was one of this name that had not ended.
    async fn end_maintenance(&self, id: &str, now: Timestamp) -> Result<bool, StoreError>;

    /// The maintenances that have not ended by `now`.
    async fn maintenances(&self, now: Timestamp) -> Result<Vec<Maintenance>, StoreError>;

    /// Whose checks rest.
    async fn paused(&self, now: Timestamp) -> Result<BTreeSet<InstallationId>, StoreError> {
        let windows = self.maintenances(now).await?;
        let begun = windows.iter().filter(|window| window.from <= now);
        Ok(begun.filter_map(|window| window.pauses().cloned()).collect())
    }

    /// Remembers a browser that was sent to HighLevel's consent page.
    async fn open_visit(&self, visit: &Visit) -> Result<(), StoreError>;

    /// The visit that this `state` belongs to, once: of any number of callers at most one gets it.
    /// Visits that expired by `now` are not found.
    async fn take_visit(&self, state: &[u8; 32], now: Timestamp) -> Result<Option<Visit>, StoreError>;

    /// Remembers someone who signed in to the dashboard.
    async fn open_session(&self, session: &Session) -> Result<(), StoreError>;

    /// Who is signed in with a cookie of this hash, be it that the session is over.
    async fn session(&self, cookie: &[u8; 32]) -> Result<Option<Session>, StoreError>;

    /// Notes that a session was used. Not worth a disk flush.
    async fn use_session(&self, cookie: &[u8; 32], now: Timestamp) -> Result<(), StoreError>;

    /// Ends a session, or all of them when none is named.
    async fn end_sessions(&self, cookie: Option<&[u8; 32]>) -> Result<(), StoreError>;

    /// The subjects that do not stand well, what befell last first, at most `limit`.
    async fn troubled(&self, limit: usize) -> Result<Vec<Standing>, StoreError>;

    /// Puts an event of HighLevel's into the queue. Durable when it returns. `false` when one of the same
    /// id came within 7 days.
    async fn queue_event(&self, _event: &QueuedEvent) -> Result<bool, StoreError> {
        Err(no_queue())
    }

    /// Takes events that are due to be acted on, what came first first, at most `limit`, for us alone
    /// until `lease_until`.
    async fn claim_events(
        &self,
        _now: Timestamp,
        _lease_until: Timestamp,
        _limit: usize,
    ) -> Result<Vec<QueuedEvent>, StoreError> {
        Ok(Vec::new())
    }

    /// An event was acted on, with this outcome in a word: of it only its id, kind, times and outcome are
    /// kept.
    async fn event_done(&self, _id: &str, _now: Timestamp, _outcome: &str) -> Result<(), StoreError> {
        Err(no_queue())
    }

    /// An event could not be acted on yet; it is tried again at `until`.
    async fn put_off_event(&self, _id: &str, _until: Timestamp, _said: &str) -> Result<(), StoreError> {
        Err(no_queue())
    }

    /// Takes a turn at something of which there may be only one at a time, like one installation's
    /// check, until `until`. `false` when someone else has it; a turn that lasts for more than twice
    /// as long from `now` is from a clock that was ahead.
    async fn take_turn(&self, name: &str, now: Timestamp, until: Timestamp) -> Result<bool, StoreError>;

    /// Takes permits of a rate budget that all processes over this store share, `wanted` of them at most:
    /// of any `interval` no more than `most` are given. By the store's own clock. None where a store is
    /// not shared so, and each process reckons for itself.
    async fn take_permits(
        &self,
        _budget: &str,
        _wanted: u32,
        _most: u32,
        _interval: Duration,
    ) -> Result<Option<Permits>, StoreError> {
        Ok(None)
    }

    /// What is remembered and worth moving, a table after the other, from the first line behind `after`
    /// on, `limit` at most. Visits and turns are of the moment and stay.
    async fn lines(&self, _after: Option<&Line>, _limit: usize) -> Result<Vec<Line>, StoreError> {
        Err(no_lines())
    }

    /// Adds lines of other records, those that are not here yet, all at once. Durable when it returns.
    async fn take_lines(&self, _lines: &[Line]) -> Result<(), StoreError> {
        Err(no_lines())
    }

    /// Forgets checks, history, delivered notices, visits, sessions, turns and audit lines from before these instants.
    async fn forget(&self, before: Timestamp, audit_before: Timestamp) -> Result<(), StoreError>;
}

fn no_queue() -> StoreError {
    StoreError::NoRoomFor { place: "the records".to_owned(), what: "events" }
}

fn no_lines() -> StoreError {
    StoreError::NoRoomFor { place: "the records".to_owned(), what: "lines of other records" }
}

/// Permits of a rate budget that several processes share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permits {
    /// How many were given now: to be used at once, or not at all.
    pub granted: u32,
    /// How many were given within the interval, to whomever, with these.
    pub taken: u32,
    /// When fewer were given than wanted: how long until the next comes free.
    pub wait: Duration,
}

/// A row of the records on its way to other records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The table that it is of: they have the same names and columns in every kind of records.
    pub table: String,
    /// Where it lies in that table; says nothing elsewhere.
    pub place: i64,
    /// A JSON object: columns and their values; bytes are `\\x` and hexadecimal digits.
    pub row: String,
}

/// A webhook of HighLevel's on its way to whoever acts on it. Its signature was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedEvent {
    /// HighLevel's `webhookId`, or a digest of the body where it has none.
    pub id: String,
    /// HighLevel's `type`.
    pub kind: String,
    /// The body, word for word.
    pub body: String,
    /// When it came.
    pub received_at: Timestamp,
    /// How often it was tried before.
    pub attempts: u32,
}

/// The public part of an API key, by which it is found and called.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub String);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An API key, without the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// Its public part.
    pub id: KeyId,
    /// What people call it.
    pub name: String,
    /// SHA-256 of the whole key, which is 256 random bits: no slow hash is needed.
    pub hash: [u8; 32],
    /// What it may do.
    pub verbs: BTreeSet<Verb>,
    /// For whom.
    pub reach: Reach,
    /// In which lane its requests through the gateway wait.
    pub lane: Lane,
    /// What it may send through the gateway; anything when empty.
    pub allowed: Vec<Allowed>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its life ends by itself.
    pub expires_at: Option<Timestamp>,
    /// When someone ended it.
    pub revoked_at: Option<Timestamp>,
    /// When it was used last, as far as noted.
    pub last_use: Option<KeyUse>,
}

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// Take tokens, and read what is kept about the installations in reach.
    Token,
    /// Send requests through the gateway.
    Gateway,
    /// Everything a person at the machine may do.
    Admin,
}

impl Verb {
    /// Every verb there is.
    pub const ALL: [Verb; 3] = [Self::Token, Self::Gateway, Self::Admin];

    /// The word for it at rest and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Gateway => "gateway",
            Self::Admin => "admin",
        }
    }

    /// The inverse of `as_str`.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.as_str() == word)
    }
}

/// For which installations a key is good. A company does not stand for its locations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// For all there are and will be.
    All,
    /// For these, compared whole.
    These(BTreeSet<InstallationId>),
}

impl Reach {
    /// Whether `id` is within reach.
    pub fn covers(&self, id: &InstallationId) -> bool {
        match self {
            Self::All => true,
            Self::These(ids) => ids.contains(id),
        }
    }
}

/// A use of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyUse {
    /// When.
    pub at: Timestamp,
    /// From where: an address, or `unix` for the socket.
    pub source: String,
}

/// Tokens that were handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditLine {
    /// When; the start of the minute where they were counted.
    pub at: Timestamp,
    /// To whom.
    pub key: KeyId,
    /// Whose.
    pub id: InstallationId,
    /// Of which generation.
    pub generation: u64,
    /// How often.
    pub count: u64,
    /// The request, where each one has a line.
    pub request_id: Option<String>,
}

/// What a key did of late, beside what it had done before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Habits {
    /// Which key.
    pub key: KeyId,
    /// What people call it.
    pub name: String,
    /// Whether it had taken any token before.
    pub has_read: bool,
    /// How many installations' tokens it took for the first time.
    pub newly_read: usize,
    /// Whether it had come from anywhere before.
    pub has_come: bool,
    /// From where it came for the first time, if from anywhere.
    pub new_source: Option<String>,
}

/// Which checks are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckQuery {
    /// Of this installation; of all when none.
    pub id: Option<InstallationId>,
    /// Ended before this instant.
    pub before: Option<Timestamp>,
    /// At most so many.
    pub limit: usize,
}

/// A notice on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// What is told.
    pub notice: Notice,
    /// By which way, as configured: `webhook`, `slack`, `email` and so on.
    pub way: String,
    /// How often it was tried before.
    pub attempts: u32,
}

/// How a delivery stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryState {
    /// By which way.
    pub way: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it arrived, if it has.
    pub delivered_at: Option<Timestamp>,
    /// Why the last try did not.
    pub said: Option<String>,
}

/// A time in which nobody is told of trouble.
///
/// One installation's that ends only when someone ends it is a pause: it is not checked either, until then.
/// Its tokens are kept fresh all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maintenance {
    /// What it is called by.
    pub id: String,
    /// Whom it is about; all when none.
    pub subject: Option<Subject>,
    /// When it begins.
    pub from: Timestamp,
    /// When it ends by itself.
    pub until: Option<Timestamp>,
    /// Why, in a person's words.
    pub reason: String,
}

impl Maintenance {
    /// Whose checks rest in it.
    pub fn pauses(&self) -> Option<&InstallationId> {
        match (&self.subject, self.until) {
            (Some(Subject::Installation(id)), None) => Some(id),
            _ => None,
        }
    }
}

/// A badge: a small picture that says for anybody who has its address how something is, in one word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Badge {
    /// What its address ends with, which nobody can guess.
    pub name: String,
    /// Whom it is about; the whole service when none.
    pub about: Option<InstallationId>,
    /// What stands before the word, for anybody to read.
    pub label: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Someone who is signed in to the dashboard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// SHA-256 of the cookie that the browser keeps.
    pub cookie: [u8; 32],
    /// The key that it was begun with; none where that was a link from the terminal.
    pub key: Option<KeyId>,
    /// When it began.
    pub began_at: Timestamp,
    /// When it was used last.
    pub used_at: Timestamp,
}

impl Session {
    /// A session that nobody uses for so long is over.
    pub const IDLE: Duration = Duration::from_secs(30 * 60);

    /// And so is one that began so long ago, whoever uses it.
    pub const WHOLE: Duration = Duration::from_secs(12 * 60 * 60);

    /// Whether it goes on. A clock that was set back to before its beginning ends it.
    pub fn is_good(&self, now: Timestamp) -> bool {
        now >= self.began_at && now < self.began_at + Self::WHOLE && now < self.used_at + Self::IDLE
    }
}

/// A browser that was sent to HighLevel's consent page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visit {
    /// SHA-256 of the `state` it took along.
    pub state: [u8; 32],
    /// SHA-256 of the cookie that it keeps.
    pub browser: [u8; 32],
    /// When it is too late to come back.
    pub expires_at: Timestamp,
}
