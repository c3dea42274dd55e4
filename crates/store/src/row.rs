//! The versioned shape at rest, shared by all backends.
//!
//! What is secret goes through here on its way to the seal and back; a shape that fits no variant
//! is an error that says what is odd, never a guess.

use serde::{Deserialize, Serialize};
use tokens::store::{Fingerprint, Landing};
use tokens::{
    AccessToken, AnswerBody, Broken, CompanyId, Connection, Health, Installation, InstallationId, Intent,
    LastCheck, Overview, Previous, RefreshBy, RefreshToken, ReplyMembers, StoreError, Timestamp, TokenSet,
    Version,
};

/// What is odd about a value at rest, without any of it that could be secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Odd(pub(crate) String);

impl Odd {
    pub(crate) fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }

    /// From a JSON error: where and what, which names no value that could be secret.
    pub(crate) fn json(error: &serde_json::Error) -> Self {
        let what = match error.classify() {
            serde_json::error::Category::Eof => "it ends in the middle",
            serde_json::error::Category::Syntax => "it is no JSON",
            serde_json::error::Category::Data => "a member is missing or of another kind",
            serde_json::error::Category::Io => "it could not be read",
        };
        Self(format!("{what} (line {}, column {})", error.line(), error.column()))
    }
}

/// A set of tokens at rest.
#[derive(Serialize, Deserialize)]
pub(crate) struct TokensAtRest {
    v: u32,
    access: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refresh: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by_company: Option<String>,
    issued_at: i64,
    expires_at: i64,
    scopes: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    company: Option<String>,
    members: String,
}

impl Drop for TokensAtRest {
    fn drop(&mut self) {
        use zeroize::Zeroize as _;
        self.access.zeroize();
        self.refresh.zeroize();
        self.members.zeroize();
    }
}

impl From<&TokenSet> for TokensAtRest {
    fn from(tokens: &TokenSet) -> Self {
        let (refresh, by_company) = match &tokens.refresh_by {
            RefreshBy::Own(token) => (Some(token.expose().to_owned()), None),
            RefreshBy::Company(id) => (None, Some(id.as_str().to_owned())),
        };
        Self {
            v: 1,
            access: tokens.access.expose().to_owned(),
            refresh,
            by_company,
            issued_at: tokens.issued_at.as_millis(),
            expires_at: tokens.expires_at.as_millis(),
            scopes: tokens.scopes.clone(),
            company: tokens.company.as_ref().map(|id| id.as_str().to_owned()),
            members: tokens.members.expose().to_owned(),
        }
    }
}

impl TokensAtRest {
    pub(crate) fn into_tokens(mut self) -> Result<TokenSet, Odd> {
        if self.v != 1 {
            return Err(Odd::new(format!("its tokens have the unknown version {}", self.v)));
        }
        let refresh_by = match (self.refresh.take(), self.by_company.take()) {
            (Some(token), None) => RefreshBy::Own(RefreshToken::new(token)),
            (None, Some(id)) => RefreshBy::Company(id.parse().map_err(|_| Odd::new("its company is no id"))?),
            _ => return Err(Odd::new("it must have either a refresh token or a company")),
        };
        let company = match self.company.take() {
            Some(id) => Some(id.parse().map_err(|_| Odd::new("its company is no id"))?),
            None => None,
        };
        Ok(TokenSet {
            access: AccessToken::new(std::mem::take(&mut self.access)),
            refresh_by,
            issued_at: Timestamp::from_millis(self.issued_at),
            expires_at: Timestamp::from_millis(self.expires_at),
            scopes: std::mem::take(&mut self.scopes),
            company,
            members: ReplyMembers::new(std::mem::take(&mut self.members)),
        })
    }
}

/// The previous set at rest.
#[derive(Serialize, Deserialize)]
pub(crate) struct PreviousAtRest {
    keep_until: i64,
    tokens: TokensAtRest,
}

impl From<&Previous> for PreviousAtRest {
    fn from(previous: &Previous) -> Self {
        Self { keep_until: previous.keep_until.as_millis(), tokens: (&previous.tokens).into() }
    }
}

impl PreviousAtRest {
    pub(crate) fn into_previous(self) -> Result<Previous, Odd> {
        Ok(Previous {
            keep_until: Timestamp::from_millis(self.keep_until),
            tokens: self.tokens.into_tokens()?,
        })
    }
}

/// How a connection stands, in plain words and numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ConnectionAtRest {
    pub(crate) state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) attempts: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) retry_at: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) said: Option<String>,
}

impl From<&Connection> for ConnectionAtRest {
    fn from(connection: &Connection) -> Self {
        let waiting =
            |state: &str, since: &Timestamp, attempts: &u32, retry_at: &Timestamp, said: &String| Self {
                state: state.to_owned(),
                since: Some(since.as_millis()),
                attempts: Some(*attempts),
                retry_at: Some(retry_at.as_millis()),
                said: Some(said.clone()),
            };
        match connection {
            Connection::Connected => Self { state: "connected".to_owned(), ..Self::default() },
            Connection::Uncertain { since, attempts, retry_at, said } => {
                waiting("uncertain", since, attempts, retry_at, said)
            }
            Connection::Suspended { since, attempts, retry_at, said } => {
                waiting("suspended", since, attempts, retry_at, said)
            }
            Connection::Broken(Broken { since, said }) => Self {
                state: "broken".to_owned(),
                since: Some(since.as_millis()),
                said: Some(said.clone()),
                ..Self::default()
            },
        }
    }
}

impl ConnectionAtRest {
    pub(crate) fn into_connection(self) -> Result<Connection, Odd> {
        let missing = || Odd::new(format!("its state `{}` lacks a time, a count or a reason", self.state));
        let since = || self.since.map(Timestamp::from_millis).ok_or_else(missing);
        let retry_at = || self.retry_at.map(Timestamp::from_millis).ok_or_else(missing);
        let attempts = || self.attempts.ok_or_else(missing);
        let said = || self.said.clone().ok_or_else(missing);
        match self.state.as_str() {
            "connected" => Ok(Connection::Connected),
            "uncertain" => Ok(Connection::Uncertain {
                since: since()?,
                attempts: attempts()?,
                retry_at: retry_at()?,
                said: said()?,
            }),
            "suspended" => Ok(Connection::Suspended {
                since: since()?,
                attempts: attempts()?,
                retry_at: retry_at()?,
                said: said()?,
            }),
            "broken" => Ok(Connection::Broken(Broken { since: since()?, said: said()? })),
            other => Err(Odd::new(format!("it has the unknown state `{}`", brief(other)))),
        }
    }
}

/// What the row of an installation says in whatever database it lies, the sealed sets apart.
#[derive(Clone)]
pub(crate) struct InstallationAtRest {
    pub(crate) id: InstallationId,
    pub(crate) version: Version,
    pub(crate) connection: ConnectionAtRest,
    pub(crate) issued_at: Timestamp,
    pub(crate) expires_at: Timestamp,
    pub(crate) scopes: String,
    pub(crate) company: Option<CompanyId>,
    pub(crate) intent: Option<Intent>,
    pub(crate) last_check: Option<LastCheck>,
    pub(crate) connected_at: Timestamp,
    pub(crate) name: Option<String>,
    pub(crate) unlisted_at: Option<Timestamp>,
}

impl InstallationAtRest {
    pub(crate) fn overview(self) -> Result<Overview, Odd> {
        Ok(Overview {
            id: self.id,
            version: self.version,
            issued_at: self.issued_at,
            expires_at: self.expires_at,
            scopes: self.scopes,
            company: self.company,
            connection: self.connection.into_connection()?,
            intent: self.intent,
            last_check: self.last_check,
            connected_at: self.connected_at,
            name: self.name,
            unlisted_at: self.unlisted_at,
        })
    }

    /// The whole installation around its tokens.
    pub(crate) fn around(self, tokens: TokenSet, previous: Option<Previous>) -> Result<Installation, Odd> {
        Ok(Installation {
            id: self.id,
            version: self.version,
            tokens,
            previous,
            connection: self.connection.into_connection()?,
            intent: self.intent,
            last_check: self.last_check,
            connected_at: self.connected_at,
            name: self.name,
            unlisted_at: self.unlisted_at,
        })
    }
}

/// The set before the present one. What can't be opened is no better than what is not there; the tokens
/// at hand are not to blame.
pub(crate) fn set_before(
    id: &InstallationId,
    opened: Result<TokenSet, StoreError>,
    keep_until: Timestamp,
) -> Option<Previous> {
    match opened {
        Ok(tokens) => Some(Previous { tokens, keep_until }),
        Err(error) => {
            tracing::warn!(%id, %error, "the set of tokens before the present one is lost");
            None
        }
    }
}

/// What the last check found, where a row says so.
pub(crate) fn last_check(
    at: Option<i64>,
    health: Option<&str>,
    code: Option<String>,
    said: Option<String>,
) -> Option<LastCheck> {
    let (at, health) = (Timestamp::from_millis(at?), Health::from_word(health?)?);
    Some(LastCheck { at, health, code, said })
}

/// What a check found, at rest.
#[derive(Serialize, Deserialize)]
pub(crate) struct CheckAtRest {
    pub(crate) kind: String,
    pub(crate) id: String,
    pub(crate) at: i64,
    pub(crate) health: String,
    pub(crate) code: Option<String>,
    pub(crate) said: Option<String>,
}

impl CheckAtRest {
    pub(crate) fn new(id: &InstallationId, check: &LastCheck) -> Self {
        Self {
            kind: id.kind().to_owned(),
            id: id.as_str().to_owned(),
            at: check.at.as_millis(),
            health: check.health.as_str().to_owned(),
            code: check.code.clone(),
            said: check.said.clone(),
        }
    }

    /// None when it is another installation's, or a later program's.
    pub(crate) fn of(self, id: &InstallationId) -> Option<LastCheck> {
        if (self.kind.as_str(), self.id.as_str()) != (id.kind(), id.as_str()) {
            return None;
        }
        Some(LastCheck {
            at: Timestamp::from_millis(self.at),
            health: Health::from_word(&self.health)?,
            code: self.code,
            said: self.said,
        })
    }
}

/// An answer that landed.
#[derive(Serialize, Deserialize)]
pub(crate) struct LandingAtRest {
    v: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    epoch: u64,
    generation: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replaces: Option<[u8; 16]>,
    #[serde(default)]
    unasked: bool,
    received_at: i64,
    status: u16,
    body: String,
}

impl Drop for LandingAtRest {
    fn drop(&mut self) {
        use zeroize::Zeroize as _;
        self.body.zeroize();
    }
}

impl From<&Landing> for LandingAtRest {
    fn from(landing: &Landing) -> Self {
        Self {
            v: 1,
            kind: landing.id.as_ref().map(|id| id.kind().to_owned()),
            id: landing.id.as_ref().map(|id| id.as_str().to_owned()),
            epoch: landing.version.epoch,
            generation: landing.version.generation,
            replaces: landing.replaces.map(|fingerprint| fingerprint.0),
            unasked: landing.unasked,
            received_at: landing.received_at.as_millis(),
            status: landing.status,
            body: landing.body.expose().to_owned(),
        }
    }
}

impl LandingAtRest {
    pub(crate) fn into_landing(mut self) -> Result<Landing, Odd> {
        if self.v != 1 {
            return Err(Odd::new(format!("it has the unknown version {}", self.v)));
        }
        let id = match (self.kind.take(), self.id.take()) {
            (Some(kind), Some(id)) => {
                Some(InstallationId::from_parts(&kind, &id).map_err(|error| Odd(error.to_string()))?)
            }
            _ => None,
        };
        Ok(Landing {
            id,
            version: Version { epoch: self.epoch, generation: self.generation },
            replaces: self.replaces.map(Fingerprint),
            unasked: self.unasked,
            received_at: Timestamp::from_millis(self.received_at),
            status: self.status,
            body: AnswerBody::new(std::mem::take(&mut self.body)),
        })
    }
}

/// The kinds of installations in the order of their ids, locations first, each with the id behind which a
/// page goes on in it: those that come before `after`'s are left out.
pub(crate) fn kinds_behind(after: Option<&InstallationId>) -> impl Iterator<Item = (&'static str, &str)> {
    ["location", "company"].into_iter().filter_map(move |kind| match after {
        Some(after) if after.kind() == kind => Some((kind, after.as_str())),
        Some(after) if after.kind() < kind => None,
        _ => Some((kind, "")),
    })
}

/// Bytes that are wiped when they are dropped, as far as there ever were any.
pub(crate) struct Wiped(Vec<u8>);

impl std::ops::Deref for Wiped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Wiped {
    fn drop(&mut self) {
        use zeroize::Zeroize as _;
        // The room behind them was never written, and wiping it costs more than all the rest.
        self.0.as_mut_slice().zeroize();
    }
}

/// A value as JSON, in memory that is wiped.
pub(crate) fn to_bytes(value: &impl Serialize) -> Wiped {
    // Room for all there may be: what grows leaves a copy behind.
    let mut bytes = Wiped(Vec::with_capacity(32 * 1024));
    serde_json::to_writer(&mut bytes.0, value).expect("strings and numbers are always JSON");
    bytes
}

/// The inverse of `to_bytes`.
pub(crate) fn from_bytes<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Odd> {
    serde_json::from_slice(bytes).map_err(|error| Odd::json(&error))
}

/// The beginning of a text that is odd anyway.
pub(crate) fn brief(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_connection_comes_back_as_it_was() {
        let at = Timestamp::from_millis;
        for connection in [
            Connection::Connected,
            Connection::Uncertain { since: at(1), attempts: 2, retry_at: at(3), said: "timed out".into() },
            Connection::Suspended { since: at(1), attempts: 2, retry_at: at(3), said: "not active".into() },
            Connection::Broken(Broken { since: at(1), said: "invalid grant".into() }),
        ] {
            assert_eq!(ConnectionAtRest::from(&connection).into_connection(), Ok(connection));
        }
    }

    #[test]
    fn a_row_that_fits_no_variant_says_so() {
        let check = |state: &str| {
            let row = ConnectionAtRest { state: state.to_owned(), ..ConnectionAtRest::default() };
            assert!(row.into_connection().is_err(), "{state}");
        };
        check("");
        check("Connected");
        check("uncertain");
        check("broken");
    }
}
