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
use crate::health::{Health, LastCheck};
use crate::installation::{CompanyId, Connection, Installation, InstallationId, Overview, Version};
use crate::secret::{AnswerBody, RefreshToken};
use crate::token_set::TokenSet;

/// Where installations rest.
#[async_trait]
pub trait Store: Send + Sync {
    /// The installation as it is now, or none.
    async fn load(&self, id: &InstallationId) -> Result<Option<Installation>, StoreError>;

    /// Installations with their secrets, in the order of their ids, from the first one behind `after`
    /// on, `limit` at most.
    async fn list(
        &self,
        after: Option<&InstallationId>,
        limit: usize,
    ) -> Result<Vec<Installation>, StoreError>;

    /// How those installations stand that the listing asks for, in its order. Opens nothing that is
    /// sealed.
    async fn overview(&self, listing: &Listing) -> Result<Vec<Overview>, StoreError>;

    /// How many installations stand how. Opens nothing that is sealed.
    async fn counts(&self) -> Result<Counts, StoreError>;

    /// The companies that are kept: few beside their locations.
    async fn companies(&self) -> Result<Vec<CompanyId>, StoreError> {
        let all = self.overview(&Listing::ALL).await?;
        let companies = all.into_iter().filter_map(|it| match it.id {
            InstallationId::Company(id) => Some(id),
            InstallationId::Location(_) => None,
        });
        Ok(companies.collect())
    }

    /// Whose refresh is due, by `Overview::is_refresh_due`, what was due first first, from the first one
    /// behind `after` on, `limit` at most. Opens nothing that is sealed, and costs what there is to do,
    /// however many are kept.
    async fn refresh_due(
        &self,
        now: Timestamp,
        after: Option<&Due>,
        limit: usize,
    ) -> Result<Vec<Due>, StoreError>;

    /// Whose check is due, by `Overview::check_due_at`, in the same way and at the same cost.
    async fn check_due(
        &self,
        interval: Duration,
        now: Timestamp,
        after: Option<&Due>,
        limit: usize,
    ) -> Result<Vec<Due>, StoreError>;

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

    /// Begins to keep an installation that is not kept yet, as a location whose token was minted. One
    /// that is kept already stays as it is. What is kept then; none where it was taken out of service
    /// at `asked_at` or later, which wins.
    async fn adopt(
        &self,
        _id: &InstallationId,
        _tokens: &TokenSet,
        _asked_at: Timestamp,
        _now: Timestamp,
    ) -> Result<Option<Installation>, StoreError> {
        Err(self.no_room_for("a second installation"))
    }

    /// Takes an installation out of service. Its tokens are kept, sealed, for 30 days; a flight in
    /// the air finds it gone. Whether there was one.
    async fn remove(&self, id: &InstallationId, now: Timestamp) -> Result<bool, StoreError>;

    /// Takes out of service what HighLevel said, at `at`, was uninstalled: the installation, and with a
    /// company all its locations, in one transaction, each as `remove` does. What was connected later
    /// than `at` is left alone; a grant that was parked before it is dropped. That it was uninstalled is
    /// noted for 30 days also where nothing was kept. Whom it took out of service.
    async fn uninstalled(
        &self,
        _id: &InstallationId,
        _at: Timestamp,
        _now: Timestamp,
    ) -> Result<Vec<InstallationId>, StoreError> {
        Err(self.no_room_for("events"))
    }

    /// What is out of service and kept for its 30 days, in the order of the ids. One that was only
    /// noted, because nothing was kept, has no tokens.
    async fn removed(
        &self,
        _after: Option<&InstallationId>,
        _limit: usize,
    ) -> Result<Vec<Removed>, StoreError> {
        Ok(Vec::new())
    }

    /// When an installation was taken out of service, if it is.
    async fn removed_at(&self, _id: &InstallationId) -> Result<Option<Timestamp>, StoreError> {
        Ok(None)
    }

    /// Takes an installation back into service, with the tokens that it had, as a new epoch. None when
    /// none was taken out within 30 days, or it had no tokens.
    async fn restore(
        &self,
        _id: &InstallationId,
        _now: Timestamp,
    ) -> Result<Option<Installation>, StoreError> {
        Ok(None)
    }

    /// Notes what HighLevel's own list says of installations; those not kept are passed over. Changes
    /// nothing about tokens, and is not worth a flush.
    async fn note_listed(&self, _notes: &[ListedNote]) -> Result<(), StoreError> {
        Ok(())
    }

    /// Why this store is on standby, if it is: another one keeps these grants, so no refresh is begun
    /// and no grant is taken in.
    async fn standby(&self) -> Result<Option<String>, StoreError> {
        Ok(None)
    }

    /// Puts the store on standby, durably, or takes it back. Fails while a flight of any process holds
    /// a lease, so that none is in the air when it is on standby.
    async fn set_standby(&self, _why: Option<&str>) -> Result<(), StoreError> {
        Err(self.no_room_for("a standby"))
    }

    /// Puts installations as they are, versions, previous sets and all, each unless the store has it at
    /// that version or a later one: what a migration, a restore and an import are made of. Leases and
    /// intents are not carried over. How many were put.
    async fn put(&self, _installations: &[Installation]) -> Result<usize, StoreError> {
        Err(self.no_room_for("many installations"))
    }

    /// Says that very many are about to be put. An empty store may leave out the indexes meanwhile that
    /// are only for looking, and have them made at once when all are there; everything works without them,
    /// if slowly, and a store that is opened without them makes them first. What is put meanwhile need not
    /// be on the disk before `end_putting` says so.
    async fn begin_putting(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Says that all have been put.
    async fn end_putting(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Puts what was out of service, as it was, unless the store keeps or has removed the same already.
    async fn put_removed(&self, _removed: &[Removed]) -> Result<(), StoreError> {
        Err(self.no_room_for("what was removed"))
    }

    /// What is parked, with its tokens.
    async fn parked_grants(&self) -> Result<Vec<(Parked, TokenSet)>, StoreError> {
        Ok(Vec::new())
    }

    /// Seals up to `limit` records anew that rest under another than the current key. How many are left;
    /// an error that names one of them where only those are left that don't open.
    async fn reseal(&self, _limit: usize) -> Result<usize, StoreError> {
        Ok(0)
    }

    /// An error that says what this store has no room for.
    fn no_room_for(&self, what: &'static str) -> StoreError {
        StoreError::NoRoomFor { place: self.place(), what }
    }

    /// Whether it is on a network, where it may be out of reach while all else is well.
    fn is_remote(&self) -> bool {
        false
    }

    /// What to call this store to people: a path, or an address without its password.
    fn place(&self) -> String;

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

    /// Like `changes`, once something has changed or `at_most` is over.
    async fn await_changes(&self, since: Mark, at_most: Duration) -> Result<Changes, StoreError> {
        tokio::time::sleep(at_most).await;
        self.changes(since).await
    }

    /// Notes what a check found. Not worth failing for, and not worth a disk flush.
    async fn note_check(&self, id: &InstallationId, check: &LastCheck) -> Result<(), StoreError>;

    /// What someone should know about how safe this store is, one code each; empty when all is well.
    fn weaknesses(&self) -> Vec<Weakness>;
}

/// Which installations are asked for, and in which order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Only a company and its locations.
    pub company: Option<CompanyId>,
    /// Only those that stand so.
    pub standing: Option<Stand>,
    /// Only those whose id or name has this in it, whatever its case.
    pub text: Option<String>,
    /// In which order.
    pub order: Order,
    /// From the first one behind this on.
    pub after: Option<Overview>,
    /// So many at most.
    pub limit: usize,
}

impl Listing {
    /// All of them, in the order of their ids.
    pub const ALL: Self =
        Self { company: None, standing: None, text: None, order: Order::Id, after: None, limit: usize::MAX };

    /// The first `limit` of them, in the order of their ids.
    pub fn first(limit: usize) -> Self {
        Self { limit, ..Self::ALL }
    }

    /// A place in an order to go on behind, without all that does not tell places apart. `at` is the
    /// instant that the order goes by; none where it goes by none, or there was none.
    pub fn place(order: Order, at: Option<Timestamp>, id: InstallationId) -> Overview {
        let beginning = Timestamp::from_millis(i64::MIN);
        let check = |at| LastCheck { at, health: Health::Operational, code: None, said: None };
        Overview {
            id,
            version: Version { epoch: 0, generation: 0 },
            issued_at: beginning,
            expires_at: at.filter(|_| order == Order::ExpiresAt).unwrap_or(beginning),
            scopes: String::new(),
            company: None,
            connection: Connection::Connected,
            intent: None,
            last_check: at.filter(|_| order == Order::CheckedAt).map(check),
            connected_at: beginning,
            name: None,
            unlisted_at: None,
        }
    }

    /// Whether `it` is asked for, limit and order aside.
    pub fn covers(&self, it: &Overview) -> bool {
        let of_company = |company: &CompanyId| match &it.id {
            InstallationId::Company(id) => id == company,
            InstallationId::Location(_) => it.company.as_ref() == Some(company),
        };
        let has = |text: &String| {
            let text = text.to_lowercase();
            let name = it.name.as_deref().unwrap_or_default().to_lowercase();
            it.id.as_str().to_lowercase().contains(&text) || name.contains(&text)
        };
        self.company.as_ref().is_none_or(of_company)
            && self.standing.is_none_or(|stand| stand == Stand::of(it))
            && self.text.as_ref().is_none_or(has)
    }

    /// Picks and sorts from all there are: for stores that hold few.
    pub fn pick(&self, all: impl IntoIterator<Item = Overview>) -> Vec<Overview> {
        let mut found: Vec<Overview> = all
            .into_iter()
            .filter(|it| {
                self.covers(it) && self.after.as_ref().is_none_or(|after| self.order.is_before(after, it))
            })
            .collect();
        found.sort_by(|one, other| self.order.key(one).cmp(&self.order.key(other)));
        found.truncate(self.limit);
        found
    }
}

/// In which order installations are listed; those of the same instant in an order of the store's own, which stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Locations before companies, each by id.
    #[default]
    Id,
    /// Whose token ends first.
    ExpiresAt,
    /// Who was checked longest ago; those never checked first.
    CheckedAt,
}

impl Order {
    /// Every order.
    pub const ALL: [Self; 3] = [Self::Id, Self::ExpiresAt, Self::CheckedAt];

    /// The word for it in a query and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::ExpiresAt => "expires_at",
            Self::CheckedAt => "checked_at",
        }
    }

    /// The inverse of `as_str`.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|order| order.as_str() == word)
    }

    /// The instant of `it` that this order goes by, if it goes by one and there is one.
    pub fn instant(self, it: &Overview) -> Option<Timestamp> {
        match self {
            Self::Id => None,
            Self::ExpiresAt => Some(it.expires_at),
            Self::CheckedAt => it.last_check.as_ref().map(|check| check.at),
        }
    }

    fn key(self, it: &Overview) -> (i64, &InstallationId) {
        let at = match self {
            Self::Id => 0,
            Self::ExpiresAt => it.expires_at.as_millis(),
            Self::CheckedAt => it.last_check.as_ref().map_or(i64::MIN, |check| check.at.as_millis()),
        };
        (at, &it.id)
    }

    fn is_before(self, one: &Overview, other: &Overview) -> bool {
        self.key(one) < self.key(other)
    }
}

/// How an installation stands, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stand {
    /// `Connection::Connected`.
    Connected,
    /// `Connection::Uncertain`.
    Uncertain,
    /// `Connection::Suspended`.
    Suspended,
    /// `Connection::Broken`.
    Broken,
}

impl Stand {
    /// Every way to stand.
    pub const ALL: [Self; 4] = [Self::Connected, Self::Uncertain, Self::Suspended, Self::Broken];

    /// How `it` stands.
    pub fn of(it: &Overview) -> Self {
        match &it.connection {
            Connection::Connected => Self::Connected,
            Connection::Uncertain { .. } => Self::Uncertain,
            Connection::Suspended { .. } => Self::Suspended,
            Connection::Broken(_) => Self::Broken,
        }
    }

    /// The word for it at rest, in JSON and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Uncertain => "uncertain",
            Self::Suspended => "suspended",
            Self::Broken => "broken",
        }
    }

    /// The inverse of `as_str`.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stand| stand.as_str() == word)
    }
}

/// How many installations there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Locations, however they stand.
    pub locations: u64,
    /// Companies, however they stand.
    pub companies: u64,
    /// Of both: connected.
    pub connected: u64,
    /// Of both: uncertain.
    pub uncertain: u64,
    /// Of both: suspended.
    pub suspended: u64,
    /// Of both: broken.
    pub broken: u64,
    /// Of both: not in HighLevel's list any more.
    pub unlisted: u64,
}

impl Counts {
    /// Counts one more.
    pub fn count(&mut self, it: &Overview) {
        match it.id {
            InstallationId::Location(_) => self.locations += 1,
            InstallationId::Company(_) => self.companies += 1,
        }
        match Stand::of(it) {
            Stand::Connected => self.connected += 1,
            Stand::Uncertain => self.uncertain += 1,
            Stand::Suspended => self.suspended += 1,
            Stand::Broken => self.broken += 1,
        }
        self.unlisted += u64::from(it.unlisted_at.is_some());
    }
}

/// Something of an installation that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// Since when; the beginning of time where it is due at once.
    pub at: Timestamp,
    /// Whose it is.
    pub id: InstallationId,
}

/// An installation out of service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// Whose grant it was.
    pub id: InstallationId,
    /// Which set of tokens it had.
    pub version: Version,
    /// Its tokens; none where it was only noted that it was uninstalled.
    pub tokens: Option<TokenSet>,
    /// When it was taken out.
    pub at: Timestamp,
}

/// What HighLevel's list of installed locations says of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedNote {
    /// Of which.
    pub id: InstallationId,
    /// What people call it; none leaves the name as it is.
    pub name: Option<String>,
    /// Since when it is missing from the list; none when it is in it.
    pub unlisted_at: Option<Timestamp>,
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
pub const LEASE: Duration = Duration::from_secs(3);

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
    /// Another store keeps these grants.
    #[error("`{place}` is on standby: {why}")]
    Standby {
        /// The path or address.
        place: String,
        /// Why it is.
        why: String,
    },
    /// A refresh of some process is in the air, so the store can't be put on standby yet.
    #[error("a refresh is in the air at `{place}`")]
    InTheAir {
        /// The path or address.
        place: String,
    },
    /// It only follows another database.
    #[error("`{place}` is a standby of another database, and takes no writes")]
    ReadOnly {
        /// The address.
        place: String,
    },
}
