//! One small row for each installation, and its sealed sets of tokens apart from it.

use std::sync::LazyLock;

use rusqlite::{OptionalExtension as _, Row, Statement, ToSql, named_params};
use tokens::store::{Claim, ClaimRequest, Commit, Committed, IntentThen, LEASE};
use tokens::{
    Connection, Installation, InstallationId, Intent, LastCheck, Overview, StoreError, Timestamp, TokenSet,
    Version,
};

use super::database::{Failure, Rows};
use super::parked::whose;
use crate::change::{self, Outcome};
use crate::row::{self, ConnectionAtRest, InstallationAtRest, Odd, TokensAtRest};
use crate::seal::{self, Place};

/// The columns that a reader wants.
pub(super) const COLUMNS: &str =
    "number, kind, id, epoch, generation, place, previous_epoch, previous_generation, previous_until,
    previous_place, state, since, attempts, retry_at, said, issued_at, expires_at, intent_since, lease_flight, lease_until,
    checked_at, check_health, check_code, check_said, connected_at, name, unlisted_at,
    (SELECT text FROM texts WHERE texts.number = scopes) AS scopes,
    (SELECT text FROM texts WHERE texts.number = company) AS company";

/// The columns that every change of an installation's tokens writes.
const WRITTEN: [&str; 21] = [
    "epoch",
    "generation",
    "place",
    "previous_epoch",
    "previous_generation",
    "previous_until",
    "previous_place",
    "state",
    "since",
    "attempts",
    "retry_at",
    "said",
    "issued_at",
    "expires_at",
    "scopes",
    "company",
    "refresh_due_at",
    "changed",
    "connected_at",
    "name",
    "unlisted_at",
];

static UPDATE: LazyLock<String> = LazyLock::new(|| {
    let written = WRITTEN.map(|column| format!("{column} = :{column}")).join(", ");
    format!(
        "UPDATE installations SET {written}, intent_since = NULL, lease_flight = NULL, lease_until = NULL
         WHERE number = :number"
    )
});

static INSERT: LazyLock<String> = LazyLock::new(|| {
    format!(
        "INSERT INTO installations (kind, id, checked_at, check_health, check_code, check_said, {})
         VALUES (:kind, :id, :checked_at, :check_health, :check_code, :check_said, {})
         ON CONFLICT DO NOTHING",
        WRITTEN.join(", "),
        WRITTEN.map(|column| format!(":{column}")).join(", ")
    )
});

/// By which its sets and the indexes know an installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RowNumber(i64);

/// Where a set lies. What lies there may have become another's, where a row was altered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SetPlace(i64);

/// The word for those of which no row says how they stand.
const CONNECTED: &str = "connected";

/// A row as it lies there.
#[derive(Clone)]
pub(super) struct Stored {
    number: RowNumber,
    at_rest: InstallationAtRest,
    place: SetPlace,
    previous: Option<Before>,
    lease: Option<(String, i64)>,
}

/// Which set was there before, and until when it is kept.
#[derive(Clone, Copy)]
pub(super) struct Before {
    pub(super) version: Version,
    pub(super) until: Timestamp,
    pub(super) place: SetPlace,
}

impl Stored {
    pub(super) fn read(row: &Row<'_>) -> Result<Self, rusqlite::Error> {
        let instant = |column: &str| Ok::<_, rusqlite::Error>(Timestamp::from_millis(row.get(column)?));
        let lease: (Option<String>, Option<i64>) = (row.get("lease_flight")?, row.get("lease_until")?);
        let health: Option<String> = row.get("check_health")?;
        let last_check = row::last_check(
            row.get("checked_at")?,
            health.as_deref(),
            row.get("check_code")?,
            row.get("check_said")?,
        );
        let before: (Option<i64>, Option<i64>) =
            (row.get("previous_epoch")?, row.get("previous_generation")?);
        let previous = match before {
            (Some(epoch), Some(generation)) => Some(Before {
                version: Version { epoch: counter(epoch), generation: counter(generation) },
                until: Timestamp::from_millis(
                    row.get::<_, Option<i64>>("previous_until")?.unwrap_or_default(),
                ),
                place: SetPlace(row.get::<_, Option<i64>>("previous_place")?.unwrap_or_default()),
            }),
            _ => None,
        };
        let company: Option<String> = row.get("company")?;
        let intent_since: Option<i64> = row.get("intent_since")?;
        Ok(Self {
            number: RowNumber(row.get("number")?),
            at_rest: InstallationAtRest {
                id: whose(row)?,
                version: Version {
                    epoch: counter(row.get("epoch")?),
                    generation: counter(row.get("generation")?),
                },
                connection: ConnectionAtRest {
                    state: row.get::<_, Option<String>>("state")?.unwrap_or_else(|| CONNECTED.to_owned()),
                    since: row.get("since")?,
                    attempts: row.get("attempts")?,
                    retry_at: row.get("retry_at")?,
                    said: row.get("said")?,
                },
                issued_at: instant("issued_at")?,
                expires_at: instant("expires_at")?,
                scopes: row.get("scopes")?,
                company: company.and_then(|id| id.parse().ok()),
                intent: intent_since.map(|since| Intent { since: Timestamp::from_millis(since) }),
                last_check,
                connected_at: instant("connected_at")?,
                name: row.get("name")?,
                unlisted_at: row.get::<_, Option<i64>>("unlisted_at")?.map(Timestamp::from_millis),
            },
            place: SetPlace(row.get("place")?),
            previous,
            lease: lease.0.zip(lease.1),
        })
    }

    /// Whose lease is in force at `now`. One that ends later than any lease can is from a clock that
    /// has been set back since, and holds nobody up.
    fn leased_to(&self, now: Timestamp) -> Option<&str> {
        let (flight, until) = self.lease.as_ref()?;
        let until = Timestamp::from_millis(*until);
        (now < until && until <= now + LEASE + LEASE).then_some(flight)
    }
}

/// A commit with all that is dear about it done: opened, compared and sealed before the lock is taken.
pub(super) struct Prepared {
    replaced: Version,
    installation: Box<Installation>,
    sealed: Vec<u8>,
}

// Looks.
impl Rows<'_> {
    fn place(&self, id: &InstallationId) -> String {
        format!("{}: {id}", self.path.display())
    }

    fn odd(&self, id: &InstallationId, odd: Odd) -> StoreError {
        StoreError::Unreadable { place: self.place(id), why: odd.0 }
    }

    pub(super) fn find(&self, id: &InstallationId) -> Result<Option<Stored>, Failure> {
        let sql = format!("SELECT {COLUMNS} FROM installations WHERE kind = ?1 AND id = ?2");
        let mut statement = self.transaction.prepare_cached(&sql)?;
        Ok(statement.query_row((id.kind(), id.as_str()), Stored::read).optional()?)
    }

    /// Opens a set of tokens. One that is not where its row says has been taken away, or the row has
    /// been altered.
    fn set(&self, id: &InstallationId, version: Version, place: SetPlace) -> Result<TokenSet, Failure> {
        let sql = "SELECT sealed FROM sets WHERE place = ?1";
        let mut statement = self.transaction.prepare_cached(sql)?;
        let Some(sealed) = statement.query_row([place.0], |row| row.get::<_, Vec<u8>>(0)).optional()? else {
            return Err(StoreError::SealBroken { place: self.place(id) }.into());
        };
        let place = Place::field(self.store_id, id, version, "tokens");
        let plain = self.sealer.open(&place, &sealed).map_err(|why| why.at(self.place(id)))?;
        let tokens = row::from_bytes(&plain).and_then(TokensAtRest::into_tokens);
        Ok(tokens.map_err(|odd| self.odd(id, odd))?)
    }

    /// The whole installation, opened.
    fn open(&self, stored: Stored) -> Result<Installation, Failure> {
        let tokens = self.present_set(&stored)?;
        self.around(tokens, stored)
    }

    fn present_set(&self, stored: &Stored) -> Result<TokenSet, Failure> {
        self.set(&stored.at_rest.id, stored.at_rest.version, stored.place)
    }

    /// The whole installation around its tokens.
    fn around(
        &self,
        tokens: TokenSet,
        Stored { at_rest, previous, .. }: Stored,
    ) -> Result<Installation, Failure> {
        let id = at_rest.id.clone();
        let previous = match previous {
            Some(Before { version, until, place }) => match self.set(&id, version, place) {
                Err(Failure::Store(error)) => row::set_before(&id, Err(error), until),
                opened => row::set_before(&id, Ok(opened?), until),
            },
            None => None,
        };
        Ok(at_rest.around(tokens, previous).map_err(|odd| self.odd(&id, odd))?)
    }

    pub(super) fn load(&self, id: &InstallationId) -> Result<Option<Installation>, Failure> {
        self.find(id)?.map(|stored| self.open(stored)).transpose()
    }

    pub(super) fn list(
        &self,
        after: Option<&InstallationId>,
        limit: usize,
    ) -> Result<Vec<Installation>, Failure> {
        self.stored(after, limit)?.into_iter().map(|stored| self.open(stored)).collect()
    }

    pub(super) fn overview_of(&self, stored: Stored) -> Result<Overview, StoreError> {
        let id = stored.at_rest.id.clone();
        stored.at_rest.overview().map_err(|odd| self.odd(&id, odd))
    }

    /// Rows in the order of their ids: locations come before companies.
    fn stored(&self, after: Option<&InstallationId>, limit: usize) -> Result<Vec<Stored>, Failure> {
        let mut found = Vec::new();
        for (kind, after) in row::kinds_behind(after) {
            let sql = format!(
                "SELECT {COLUMNS} FROM installations WHERE kind = ?1 AND id > ?2 ORDER BY id LIMIT ?3"
            );
            let mut statement = self.transaction.prepare_cached(&sql)?;
            let rows = statement.query_map((kind, after, limited(limit - found.len())), Stored::read)?;
            for stored in rows {
                found.push(stored?);
            }
        }
        Ok(found)
    }

    /// The row that a claim may have, or why it may not.
    fn claimable(&self, claim: &ClaimRequest) -> Result<Result<Stored, Claim>, Failure> {
        let Some(stored) = self.find(&claim.id)? else { return Ok(Err(Claim::Gone)) };
        if stored.at_rest.version != claim.seen {
            return Ok(Err(Claim::Moved(Box::new(self.open(stored)?))));
        }
        if stored.leased_to(claim.now).is_some_and(|flight| flight != claim.flight.0) {
            let since = stored.at_rest.intent.map_or(claim.now, |intent| intent.since);
            return Ok(Err(Claim::Taken { since }));
        }
        Ok(Ok(stored))
    }

    /// What there is to say of a claim without changing anything; none when it may be had.
    pub(super) fn refusal(&self, claim: &ClaimRequest) -> Result<Option<Claim>, Failure> {
        match self.claimable(claim)? {
            // Nothing is sent for a set that would not open: better to learn it now.
            Ok(stored) => self.present_set(&stored).map(|_| None),
            Err(refusal) => Ok(Some(refusal)),
        }
    }

    /// Prepares a commit that is likely to change something; `commit` looks again, and compares.
    pub(super) fn prepare(&self, commit: &Commit) -> Result<Option<Prepared>, Failure> {
        let Some(stored) = self.find(&commit.id)? else { return Ok(None) };
        let replaced = stored.at_rest.version;
        let tokens = self.present_set(&stored)?;
        if replaced != commit.version || change::is_same(&tokens, &commit.tokens) {
            return Ok(None);
        }
        // The set before it is not looked at: it is about to be forgotten.
        let found = self.around(tokens, Stored { previous: None, ..stored })?;
        match change::commit(found, commit, self.sealer) {
            Outcome::Changed(installation) => {
                let sealed = self.sealed(&installation)?;
                Ok(Some(Prepared { replaced, installation, sealed }))
            }
            Outcome::AlreadySo(_) | Outcome::Moved(_) => Ok(None),
        }
    }
}

// Changes.
impl Rows<'_> {
    pub(super) fn sealed_set(
        &self,
        id: &InstallationId,
        version: Version,
        tokens: &TokenSet,
    ) -> Result<Vec<u8>, StoreError> {
        let missing = || StoreError::KeyMissing { place: self.path.display().to_string() };
        let place = Place::field(self.store_id, id, version, "tokens");
        self.sealer.seal(&place, &row::to_bytes(&TokensAtRest::from(tokens))).ok_or_else(missing)
    }

    fn sealed(&self, installation: &Installation) -> Result<Vec<u8>, StoreError> {
        self.sealed_set(&installation.id, installation.version, &installation.tokens)
    }

    /// Writes a set over one that it makes superfluous, as a rule on the same page; otherwise at the end.
    pub(super) fn put_set(
        &self,
        whose: RowNumber,
        version: Version,
        sealed: &[u8],
        superfluous: Option<SetPlace>,
    ) -> Result<SetPlace, Failure> {
        let (epoch, generation) = (number(version.epoch), number(version.generation));
        let seal = self.seal(sealed)?;
        if let Some(place) = superfluous {
            // What keeps its seal leaves the index of the seals alone.
            for sql in [
                "UPDATE sets SET epoch = ?3, generation = ?4, sealed = ?5
                 WHERE place = ?1 AND whose = ?2 AND seal IS ?6",
                "UPDATE sets SET epoch = ?3, generation = ?4, sealed = ?5, seal = ?6
                 WHERE place = ?1 AND whose = ?2",
            ] {
                let row = (place.0, whose.0, epoch, generation, sealed, seal);
                if self.transaction.prepare_cached(sql)?.execute(row)? == 1 {
                    return Ok(place);
                }
            }
        }
        let place = self.end_of_sets()?;
        self.put_set_at(place, whose, version, sealed)?;
        Ok(place)
    }

    fn put_set_at(
        &self,
        place: SetPlace,
        whose: RowNumber,
        version: Version,
        sealed: &[u8],
    ) -> Result<(), Failure> {
        let sql = "INSERT INTO sets (place, whose, epoch, generation, seal, sealed)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let (epoch, generation) = (number(version.epoch), number(version.generation));
        let row = (place.0, whose.0, epoch, generation, self.seal(sealed)?, sealed);
        self.transaction.prepare_cached(sql)?.execute(row)?;
        Ok(())
    }

    fn end_of_sets(&self) -> Result<SetPlace, rusqlite::Error> {
        let sql = "SELECT coalesce(max(place), 0) + 1 FROM sets";
        self.transaction.prepare_cached(sql)?.query_row([], |row| row.get(0)).map(SetPlace)
    }

    /// The number of the key that a value is sealed under; none where nothing is sealed.
    pub(super) fn seal(&self, sealed: &[u8]) -> Result<Option<i64>, rusqlite::Error> {
        let Some(key_id) = seal::key_id(sealed) else { return Ok(None) };
        self.number_of("seals", "key_id", key_id).map(Some)
    }

    /// The number of a text that many rows repeat.
    fn text(&self, text: &str) -> Result<i64, rusqlite::Error> {
        self.number_of("texts", "text", text)
    }

    /// The number that a value has in a table of such; a new one where it has none.
    fn number_of(&self, table: &str, column: &str, value: impl ToSql) -> Result<i64, rusqlite::Error> {
        let known = format!("SELECT number FROM {table} WHERE {column} = ?1");
        let known =
            self.transaction.prepare_cached(&known)?.query_row([&value], |row| row.get(0)).optional()?;
        match known {
            Some(number) => Ok(number),
            None => {
                let sql = format!("INSERT INTO {table} ({column}) VALUES (?1) RETURNING number");
                self.transaction.prepare_cached(&sql)?.query_row([&value], |row| row.get(0))
            }
        }
    }

    /// Begins a new epoch with these tokens, above whatever was there before, removed or not.
    pub(super) fn connect(
        &self,
        id: &InstallationId,
        tokens: &TokenSet,
        now: Timestamp,
    ) -> Result<Installation, Failure> {
        self.refuse_on_standby()?;
        let stored = self.find(id)?;
        let found = stored.clone().map(|stored| self.open(stored)).transpose()?;
        let kept = found.as_ref().is_some_and(|found| change::is_same(&found.tokens, tokens));
        match change::connect(found, id, tokens, now) {
            Outcome::Changed(mut installation) => {
                if let Some(removed) = self.version_when_removed(id)? {
                    let Version { epoch, generation } = removed;
                    installation.version = Version { epoch: epoch + 1, generation: generation + 1 };
                    self.no_longer_removed(id)?;
                }
                let sealed = self.sealed(&installation)?;
                self.save(&installation, stored, kept, &sealed)?;
                Ok(*installation)
            }
            Outcome::AlreadySo(installation) | Outcome::Moved(installation) => Ok(*installation),
        }
    }

    /// Writes a row anew, with its set, over what was there; `kept` says that the set before stays.
    fn save(
        &self,
        installation: &Installation,
        over: Option<Stored>,
        kept: bool,
        sealed: &[u8],
    ) -> Result<(), Failure> {
        let changed = self.next_change()?;
        let Some(over) = over else {
            let written = self.insert(installation, sealed, changed)?;
            debug_assert!(written.is_some(), "what is not there can be put there");
            return Ok(());
        };
        let (previous, superfluous) = match &installation.previous {
            Some(previous) if !kept => {
                let until = previous.keep_until;
                let before = Before { version: over.at_rest.version, until, place: over.place };
                (Some(before), over.previous.map(|before| before.place))
            }
            _ => (over.previous, Some(over.place)),
        };
        let place = self.put_set(over.number, installation.version, sealed, superfluous)?;
        let mut statement = self.transaction.prepare_cached(&UPDATE)?;
        self.bind(&mut statement, installation, place, previous, changed)?;
        statement.raw_bind_parameter(":number", over.number.0)?;
        statement.raw_execute()?;
        Ok(())
    }

    /// Writes the row and the set of one that is not there. None when it is.
    pub(super) fn insert(
        &self,
        installation: &Installation,
        sealed: &[u8],
        changed: i64,
    ) -> Result<Option<RowNumber>, Failure> {
        let mut statement = self.transaction.prepare_cached(&INSERT)?;
        statement.raw_bind_parameter(":kind", installation.id.kind())?;
        statement.raw_bind_parameter(":id", installation.id.as_str())?;
        let check = installation.last_check.as_ref();
        statement.raw_bind_parameter(":checked_at", check.map(|check| check.at.as_millis()))?;
        statement.raw_bind_parameter(":check_health", check.map(|check| check.health.as_str()))?;
        statement.raw_bind_parameter(":check_code", check.and_then(|check| check.code.as_deref()))?;
        statement.raw_bind_parameter(":check_said", check.and_then(|check| check.said.as_deref()))?;
        let place = self.end_of_sets()?;
        self.bind(&mut statement, installation, place, None, changed)?;
        if statement.raw_execute()? == 0 {
            return Ok(None);
        }
        let written = RowNumber(self.transaction.last_insert_rowid());
        self.put_set_at(place, written, installation.version, sealed)?;
        Ok(Some(written))
    }

    fn bind(
        &self,
        statement: &mut Statement<'_>,
        installation: &Installation,
        place: SetPlace,
        previous: Option<Before>,
        changed: i64,
    ) -> Result<(), rusqlite::Error> {
        let tokens = &installation.tokens;
        let connection = ConnectionAtRest::from(&installation.connection);
        let millis = |at: Option<Timestamp>| at.map(Timestamp::as_millis);
        let company = tokens.company.as_ref().map(|company| self.text(company.as_str())).transpose()?;
        let values: [&dyn ToSql; 21] = [
            &number(installation.version.epoch),
            &number(installation.version.generation),
            &place.0,
            &previous.map(|before| number(before.version.epoch)),
            &previous.map(|before| number(before.version.generation)),
            &previous.map(|before| before.until.as_millis()),
            &previous.map(|before| before.place.0),
            &Some(&connection.state).filter(|state| *state != CONNECTED),
            &connection.since,
            &connection.attempts,
            &connection.retry_at,
            &connection.said,
            &tokens.issued_at.as_millis(),
            &tokens.expires_at.as_millis(),
            &self.text(&tokens.scopes)?,
            &company,
            &millis(installation.overview().refresh_due_at()),
            &changed,
            &installation.connected_at.as_millis(),
            &installation.name,
            &millis(installation.unlisted_at),
        ];
        for (column, value) in WRITTEN.iter().zip(values) {
            statement.raw_bind_parameter(format!(":{column}").as_str(), value)?;
        }
        Ok(())
    }

    pub(super) fn claim(&self, claim: &ClaimRequest) -> Result<Claim, Failure> {
        self.refuse_on_standby()?;
        let stored = match self.claimable(claim)? {
            Ok(stored) => stored,
            Err(refusal) => return Ok(refusal),
        };
        let since = stored.at_rest.intent.map_or(claim.now, |intent| intent.since);
        // Due at once from now on, for whoever finds that this flight has not ended.
        let due = Overview { intent: Some(Intent { since }), ..self.overview_of(stored)? }.refresh_due_at();
        let mut statement = self.transaction.prepare_cached(
            "UPDATE installations SET intent_since = ?3, lease_flight = ?4, lease_until = ?5, refresh_due_at = ?6
             WHERE kind = ?1 AND id = ?2",
        )?;
        statement.execute((
            claim.id.kind(),
            claim.id.as_str(),
            since.as_millis(),
            &claim.flight.0,
            (claim.now + LEASE).as_millis(),
            due.map(Timestamp::as_millis),
        ))?;
        Ok(Claim::Ours { since })
    }

    pub(super) fn renew(&self, claim: &ClaimRequest) -> Result<(), Failure> {
        let mut statement = self.transaction.prepare_cached(
            "UPDATE installations SET lease_until = ?4 WHERE kind = ?1 AND id = ?2 AND lease_flight = ?3",
        )?;
        let until = (claim.now + LEASE).as_millis();
        match statement.execute((claim.id.kind(), claim.id.as_str(), &claim.flight.0, until))? {
            0 => Err(StoreError::LeaseLost.into()),
            _ => Ok(()),
        }
    }

    pub(super) fn commit(&self, commit: &Commit, prepared: Option<Prepared>) -> Result<Committed, Failure> {
        let Some(stored) = self.find(&commit.id)? else { return Ok(Committed::Gone) };
        // A version's set never changes, so what was prepared from it still holds.
        if let Some(Prepared { mut installation, sealed, .. }) =
            prepared.filter(|prepared| prepared.replaced == stored.at_rest.version)
        {
            installation.last_check = stored.at_rest.last_check.clone();
            installation.name = stored.at_rest.name.clone();
            installation.unlisted_at = stored.at_rest.unlisted_at;
            self.save(&installation, Some(stored), false, &sealed)?;
            return Ok(Committed::Saved(installation));
        }
        let found = self.open(stored.clone())?;
        let kept = change::is_same(&found.tokens, &commit.tokens);
        let committed = match change::commit(found, commit, self.sealer) {
            Outcome::Changed(installation) => {
                let sealed = self.sealed(&installation)?;
                self.save(&installation, Some(stored), kept, &sealed)?;
                Committed::Saved(installation)
            }
            Outcome::AlreadySo(installation) => Committed::Saved(installation),
            Outcome::Moved(installation) => Committed::Superseded(installation),
        };
        let mut statement = self.transaction.prepare_cached(
            "UPDATE installations SET lease_flight = NULL, lease_until = NULL
             WHERE kind = ?1 AND id = ?2 AND lease_flight = ?3",
        )?;
        statement.execute((commit.id.kind(), commit.id.as_str(), &commit.flight.0))?;
        Ok(committed)
    }

    pub(super) fn settle(
        &self,
        claim: &ClaimRequest,
        connection: &Connection,
        intent: IntentThen,
    ) -> Result<(), Failure> {
        let Some(mut stored) = self.find(&claim.id)? else { return Ok(()) };
        // Even one whose time is up: what it left open is for whoever takes over from it.
        let taken_over = stored.lease.as_ref().is_some_and(|(flight, _)| *flight != claim.flight.0);
        if stored.at_rest.version != claim.seen || taken_over {
            return Ok(());
        }
        let connection = ConnectionAtRest::from(connection);
        stored.at_rest.connection = connection.clone();
        if intent == IntentThen::Ended {
            stored.at_rest.intent = None;
        }
        let settled = self.overview_of(stored)?;
        let mut statement = self.transaction.prepare_cached(
            "UPDATE installations SET state = :state, since = :since, attempts = :attempts,
                 retry_at = :retry_at, said = :said, intent_since = :intent_since, refresh_due_at = :due,
                 changed = :changed, lease_flight = NULL, lease_until = NULL
             WHERE kind = :kind AND id = :id",
        )?;
        statement.execute(named_params! {
            ":kind": claim.id.kind(),
            ":id": claim.id.as_str(),
            ":state": Some(&connection.state).filter(|state| *state != CONNECTED),
            ":since": connection.since,
            ":attempts": connection.attempts,
            ":retry_at": connection.retry_at,
            ":said": connection.said,
            ":intent_since": settled.intent.map(|intent| intent.since.as_millis()),
            ":due": settled.refresh_due_at().map(Timestamp::as_millis),
            ":changed": self.next_change()?,
        })?;
        Ok(())
    }

    pub(super) fn note_check(&self, id: &InstallationId, check: &LastCheck) -> Result<(), Failure> {
        let mut statement = self.transaction.prepare_cached(
            "UPDATE installations SET checked_at = ?3, check_health = ?4, check_code = ?5, check_said = ?6
             WHERE kind = ?1 AND id = ?2",
        )?;
        let (at, health) = (check.at.as_millis(), check.health.as_str());
        statement.execute((id.kind(), id.as_str(), at, health, &check.code, &check.said))?;
        Ok(())
    }

    /// Forgets a row, and its sets with it.
    pub(super) fn drop_installation(&self, id: &InstallationId) -> Result<(), Failure> {
        let sql =
            "DELETE FROM installations WHERE kind = ?1 AND id = ?2 RETURNING number, place, previous_place";
        let mut statement = self.transaction.prepare_cached(sql)?;
        let dropped = statement.query_row((id.kind(), id.as_str()), |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, Option<i64>>(2)?))
        });
        if let Some(dropped) = dropped.optional()? {
            let sql = "DELETE FROM sets WHERE place IN (?2, ?3) AND whose = ?1";
            self.transaction.prepare_cached(sql)?.execute(dropped)?;
        }
        Ok(())
    }
}

// What a migration and a move fill in.
impl Rows<'_> {
    pub(super) fn set_previous(
        &self,
        whose: RowNumber,
        Before { version, until, place }: Before,
    ) -> Result<(), Failure> {
        let sql = "UPDATE installations SET previous_epoch = ?2, previous_generation = ?3,
            previous_until = ?4, previous_place = ?5 WHERE number = ?1";
        let (epoch, generation) = (number(version.epoch), number(version.generation));
        let row = (whose.0, epoch, generation, until.as_millis(), place.0);
        self.transaction.prepare_cached(sql)?.execute(row)?;
        Ok(())
    }

    /// Writes down when each refresh is due. A row that says nothing sensible is due for nothing.
    pub(super) fn reckon_refresh_due(&self) -> Result<(), Failure> {
        for stored in self.stored(None, usize::MAX)? {
            let whose = stored.number.0;
            let due = stored.at_rest.overview().ok().and_then(|overview| overview.refresh_due_at());
            let sql = "UPDATE installations SET refresh_due_at = ?2 WHERE number = ?1";
            self.transaction.prepare_cached(sql)?.execute((whose, due.map(Timestamp::as_millis)))?;
        }
        Ok(())
    }
}

/// The inverse of `number`; what was altered to be negative opens no seal anyway.
pub(super) fn counter(number: i64) -> u64 {
    number.unsigned_abs()
}

/// A counter as SQLite's integer; none gets near the limit.
pub(super) fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn limited(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
