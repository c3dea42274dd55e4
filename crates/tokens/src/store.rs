//! What the Keeper needs from a place of rest.
//!
//! Anyone may read; the Keeper alone writes token sets. A write that returned `Ok` survives a power
//! cut. Several processes may use one store at once: `claim` lets one of them fly for an
//! installation, and `commit` compares before it writes, whoever comes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::clock::Timestamp;
use crate::health::LastCheck;
use crate::installation::{CompanyId, Connection, Installation, InstallationId, Overview, Version};
use crate::secret::{AnswerBody, RefreshToken};
use crate::token_set::TokenSet;

/// Where installations rest.
#[async_trait]
pub trait Store: Send + Sync {
    /// The installation as it is now, or none.
    async fn load(&self, id: &InstallationId) -> Result<Option<Installation>, StoreError>;

    /// All installations with their secrets, in the order of their ids: a lot, where there are many.
    async fn list(&self) -> Result<Vec<Installation>, StoreError>;

    /// How the installations stand, in the order of their ids, from the first one behind `after` on,
    /// `limit` at most. Opens nothing that is sealed.
    async fn overview(
        &self,
        after: Option<&InstallationId>,
        limit: usize,
    ) -> Result<Vec<Overview>, StoreError>;

    /// Whose refresh is due, by `Overview::is_refresh_due`, what was due first first, `limit` at most.
    /// Opens nothing that is sealed, and costs what there is to do, however many are kept.
    async fn refresh_due(&self, now: Timestamp, limit: usize) -> Result<Vec<InstallationId>, StoreError>;

    /// Whose check is due, by `Overview::check_due_at`, at the same cost.
    async fn check_due(
        &self,
        interval: Duration,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<InstallationId>, StoreError>;

    /// A keyed digest that tells refresh tokens apart without telling them.
    fn fingerprint(&self, token: &RefreshToken) -> Fingerprint;

    /// Sets aside, durably, the room that an answer will need; fails rather than promise too much.
    async fn reserve(&self, flight: &FlightId) -> Result<(), StoreError>;

    /// Takes the lease on an installation and writes down the intent to exchange its refresh token,
    /// both durably and at once.
    async fn claim(&self, claim: &ClaimRequest) -> Result<Claim, StoreError>;

    /// Keeps the lease for another while. Fails when another flight has taken it over.
    async fn renew(&self, claim: &ClaimRequest) -> Result<(), StoreError>;

    /// Puts an answer, unread, where a crash can't reach it: into the room that was reserved.
    async fn land(&self, flight: &FlightId, landing: &Landing) -> Result<(), StoreError>;

    /// Gives the reserved room back, with whatever landed in it: the answer is saved or is worthless.
    async fn free(&self, flight: &FlightId) -> Result<(), StoreError>;

    /// Answers that landed in flights that no process is flying any more.
    async fn landings(&self) -> Result<Vec<(FlightId, Landing)>, StoreError>;

    /// Replaces the tokens if the installation still stands where the answer was asked for, and
    /// ends the intent and the lease.
    async fn commit(&self, commit: &Commit) -> Result<Committed, StoreError>;

    /// Ends a flight that brought no tokens: notes how the connection stands and lets the lease go.
    /// Changes nothing if the installation has moved on.
    async fn settle(
        &self,
        claim: &ClaimRequest,
        connection: &Connection,
        intent: IntentThen,
    ) -> Result<(), StoreError>;

    /// Begins a new epoch with these tokens, whatever was there before.
    async fn connect(
        &self,
        id: &InstallationId,
        tokens: &TokenSet,
        now: Timestamp,
    ) -> Result<Installation, StoreError>;

    /// Takes an installation out of service. Its tokens are kept, sealed, for 30 days; a flight in
    /// the air finds it gone. Whether there was one.
    async fn remove(&self, id: &InstallationId, now: Timestamp) -> Result<bool, StoreError>;

    /// Whether a grant can be kept without being served. A file has room for one installation only.
    fn can_park(&self) -> bool;

    /// Keeps a grant that nobody here asked for, apart from those that are served, in the place of
    /// one that was parked for the same installation before.
    async fn park(&self, id: &InstallationId, tokens: &TokenSet, now: Timestamp) -> Result<(), StoreError>;

    /// The grants that wait for approval, in the order of their ids.
    async fn parked(&self) -> Result<Vec<Parked>, StoreError>;

    /// Begins a new epoch with a parked grant. None when none is parked.
    async fn approve(&self, id: &InstallationId, now: Timestamp) -> Result<Option<Installation>, StoreError>;

    /// Drops a parked grant. Whether there was one.
    async fn dismiss(&self, id: &InstallationId) -> Result<bool, StoreError>;

    /// Which installations were saved, settled or removed since `mark`, by any process, and the
    /// mark of now. Cheap: it is asked several times a second. Notes, leases and intents don't count.
    async fn changes(&self, since: Mark) -> Result<Changes, StoreError>;

    /// Notes what a check found. Not worth failing for, and not worth a disk flush.
    async fn note_check(&self, id: &InstallationId, check: &LastCheck) -> Result<(), StoreError>;

    /// What someone should know about how safe this store is, one code each; empty when all is well.
    fn weaknesses(&self) -> Vec<Weakness>;
}

/// A moment in the life of a store. Marks of different stores say nothing to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Mark(pub u64);

/// What changed between two marks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// Whose copies are stale.
    pub ids: Vec<InstallationId>,
    /// The mark of now.
    pub mark: Mark,
}

/// A grant that waits for approval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked {
    /// Whose grant it is.
    pub id: InstallationId,
    /// The company it belongs to, where HighLevel said so.
    pub company: Option<CompanyId>,
    /// What it may do.
    pub scopes: String,
    /// When it came.
    pub at: Timestamp,
}

/// How long a lease lasts that nobody renews.
pub const LEASE: Duration = Duration::from_secs(4);

/// Tells refresh tokens apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 16]);

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint")
    }
}

/// One flight of one process, unlike any other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FlightId(pub String);

/// Who wants to fly, for whom, from which set of tokens.
#[derive(Clone, Debug)]
pub struct ClaimRequest {
    /// The flight that asks.
    pub flight: FlightId,
    /// The installation to fly for.
    pub id: InstallationId,
    /// The version that the caller has seen and wants to replace.
    pub seen: Version,
    /// The time now.
    pub now: Timestamp,
}

/// What became of a claim.
#[derive(Debug)]
pub enum Claim {
    /// The flight is ours. `since` is when the token at hand was first sent, perhaps by a flight
    /// that crashed: its answer can be had again for 30 seconds from then.
    Ours {
        /// The start of the intent.
        since: Timestamp,
    },
    /// The store holds something newer than what the caller has seen.
    Moved(Box<Installation>),
    /// Another flight is in the air, since then.
    Taken {
        /// The start of its intent.
        since: Timestamp,
    },
    /// There is no such installation (any more).
    Gone,
}

/// An answer on its way to the store.
#[derive(Clone, Debug)]
pub struct Landing {
    /// Whose answer it is; none for a first code exchange, where only the answer itself knows.
    pub id: Option<InstallationId>,
    /// The version whose refresh token was sent.
    pub version: Version,
    /// Of the refresh token that the answer replaces at rest; none for a code exchange.
    pub replaces: Option<Fingerprint>,
    /// Whether nobody here asked for it: an answer to a code that came by itself is never served
    /// without approval.
    pub unasked: bool,
    /// When it came.
    pub received_at: Timestamp,
    /// HTTP's status.
    pub status: u16,
    /// The answer, word for word.
    pub body: AnswerBody,
}

/// A compare-and-swap on version and refresh token.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The flight whose lease ends with it.
    pub flight: FlightId,
    /// The installation.
    pub id: InstallationId,
    /// The version it must still have.
    pub version: Version,
    /// The refresh token it must still have.
    pub replaces: Fingerprint,
    /// What it gets, as the next generation.
    pub tokens: TokenSet,
    /// The time now.
    pub now: Timestamp,
}

/// What became of a commit.
#[derive(Debug)]
pub enum Committed {
    /// The tokens are at rest; also when they already were, because an earlier try got through.
    Saved(Box<Installation>),
    /// The installation has moved on, and was left alone.
    Superseded(Box<Installation>),
    /// There is no such installation (any more).
    Gone,
}

/// What happens to the intent when a flight ends without tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntentThen {
    /// Nothing more can be had for it: HighLevel has answered, or its 30 seconds are over.
    Ended,
    /// It may still have been exchanged: whoever comes next flies on with the same token.
    StaysOpen,
}

/// How a store falls short of the full promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Weakness {
    /// The file can't be replaced by renaming, so it is rewritten in place.
    RewrittenInPlace,
    /// Tokens rest in clear text, because no key was given.
    Unsealed,
}

/// What lets others at a file that is to be ours alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Exposure {
    /// It is a symbolic link.
    #[error("it is a link")]
    Link,
    /// The same file has other names.
    #[error("the file has other names too")]
    HardLinks,
    /// It is a pipe, a device or a socket.
    #[error("it is no regular file")]
    NoFile,
    /// It is someone else's.
    #[error("it belongs to user {owner}")]
    OtherOwner {
        /// Whose it is.
        owner: u32,
    },
    /// A folder in which others may put one file in the place of another.
    #[error("others may write there (mode {mode:04o})")]
    OpenFolder {
        /// The folder's mode.
        mode: u32,
    },
}

/// Why a store did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The system refused: a full disk, a missing folder, a lost database.
    #[error("could not {doing} `{place}`")]
    Io {
        /// What was tried, as a verb.
        doing: &'static str,
        /// The path or address.
        place: String,
        /// The system's own error.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// The database engine refused.
    #[error("could not {doing} the database `{place}`")]
    Database {
        /// What was tried, as a verb.
        doing: &'static str,
        /// The path or address.
        place: String,
        /// The engine's own error.
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The path is a folder: what `docker -v` makes of a missing file.
    #[error("`{place}` is a folder, and ought to be a file")]
    IsFolder {
        /// The path.
        place: String,
    },
    /// Others could get at it, or at what is to be written there.
    #[error("`{place}` is not ours alone: {why}")]
    Exposed {
        /// The path of the file or folder.
        place: String,
        /// In which way.
        why: Exposure,
    },
    /// What is there is not what we wrote, and no grant could be read from it.
    #[error("`{place}` can't be read as it stands: {why}")]
    Unreadable {
        /// The path, or the row.
        place: String,
        /// What is odd about it.
        why: String,
    },
    /// It is sealed, and none of the keys opens it.
    #[error("`{place}` is sealed with the key `{key_id}`, which is not among the keys given")]
    WrongKey {
        /// The path, or the row.
        place: String,
        /// The id in the envelope.
        key_id: String,
    },
    /// The seal is broken: altered, or moved from where it was written.
    #[error("the seal of `{place}` does not hold: it was altered, or moved there from elsewhere")]
    SealBroken {
        /// The path, or the row.
        place: String,
    },
    /// It is sealed, and no key was given.
    #[error("`{place}` is sealed, and no key was given")]
    KeyMissing {
        /// The path.
        place: String,
    },
    /// It was written by a newer program.
    #[error("`{place}` was written by a newer version of this program")]
    TooNew {
        /// The path.
        place: String,
    },
    /// An earlier flush failed: what the system says of this file can't be trusted any more.
    #[error("`{place}` failed to reach the disk before; start again")]
    Poisoned {
        /// The path.
        place: String,
    },
    /// This kind of store has no place for it.
    #[error("`{place}` has no room for {what}")]
    NoRoomFor {
        /// The path.
        place: String,
        /// For what.
        what: &'static str,
    },
    /// Another flight has taken the lease over.
    #[error("another process has taken over the refresh")]
    LeaseLost,
}
