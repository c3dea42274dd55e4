//! Whom we keep tokens for, and how that connection stands.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::health::{Health, LastCheck};
use crate::token_set::TokenSet;

/// An id that can't be one of HighLevel's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no HighLevel id: 1 to 64 letters, digits, `-` or `_`")]
pub struct InvalidId(String);

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// The id as HighLevel writes it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let plain = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
                if (1..=64).contains(&text.len()) && text.bytes().all(plain) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(InvalidId(text.chars().take(80).collect()))
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// A sub-account of HighLevel's: 20 letters and digits.
    LocationId
);
id!(
    /// An agency of HighLevel's: 20 letters and digits.
    CompanyId
);
id!(
    /// A contact within a location.
    ContactId
);

/// The class of a grant and the resource it opens: HighLevel's `userType` with the id beside it.
///
/// Class and id together are the key: a location's reply carries a `companyId` too, so the mere
/// presence of one says nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum InstallationId {
    /// The app on one location.
    Location(LocationId),
    /// The app on an agency.
    Company(CompanyId),
}

impl InstallationId {
    /// `location` or `company`, as it stands in a store and in a path.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Location(_) => "location",
            Self::Company(_) => "company",
        }
    }

    /// HighLevel's `userType` for it.
    pub fn user_type(&self) -> &'static str {
        match self {
            Self::Location(_) => "Location",
            Self::Company(_) => "Company",
        }
    }

    /// The location's or company's own id.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Location(id) => id.as_str(),
            Self::Company(id) => id.as_str(),
        }
    }

    /// The inverse of `kind` and `as_str`.
    pub fn from_parts(kind: &str, id: &str) -> Result<Self, InvalidId> {
        match kind {
            "location" => Ok(Self::Location(id.parse()?)),
            "company" => Ok(Self::Company(id.parse()?)),
            other => Err(InvalidId(other.to_owned())),
        }
    }
}

impl fmt::Display for InstallationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.as_str())
    }
}

/// Which set of tokens of which authorisation.
///
/// The generation grows by one with every set that is saved and never shrinks; the epoch grows when
/// a person authorises anew, so that a late answer of the old grant can't replace the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Counts authorisations by a person.
    pub epoch: u64,
    /// Counts sets of tokens.
    pub generation: u64,
}

/// One grant: whose it is, the tokens it stands on now, and how the connection stands.
#[derive(Clone, Debug)]
pub struct Installation {
    /// Whose grant this is.
    pub id: InstallationId,
    /// Which set of tokens this is.
    pub version: Version,
    /// The newest tokens that we know of. No state is without: nothing deletes a grant.
    pub tokens: TokenSet,
    /// The set before, kept for a day in case HighLevel handed out a bad pair.
    pub previous: Option<Previous>,
    /// How the connection stands.
    pub connection: Connection,
    /// A refresh that was begun and not yet ended.
    pub intent: Option<Intent>,
    /// What the last check found.
    pub last_check: Option<LastCheck>,
    /// When this epoch began: what happened before it says nothing about it.
    pub connected_at: Timestamp,
    /// What people call it, where HighLevel's list said so.
    pub name: Option<String>,
    /// Since when HighLevel's list of installed locations has been without it.
    pub unlisted_at: Option<Timestamp>,
}

/// An installation as it stands, without its secrets: what a look at many of them needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overview {
    /// Whose grant this is.
    pub id: InstallationId,
    /// Which set of tokens it has.
    pub version: Version,
    /// When we received that set.
    pub issued_at: Timestamp,
    /// When HighLevel will no longer take its access token.
    pub expires_at: Timestamp,
    /// The scopes granted, as HighLevel wrote them.
    pub scopes: String,
    /// The agency that the reply named beside the token.
    pub company: Option<CompanyId>,
    /// How the connection stands.
    pub connection: Connection,
    /// A refresh that was begun and not yet ended.
    pub intent: Option<Intent>,
    /// What the last check found.
    pub last_check: Option<LastCheck>,
    /// When this epoch began.
    pub connected_at: Timestamp,
    /// What people call it, where HighLevel's list said so.
    pub name: Option<String>,
    /// Since when HighLevel's list of installed locations has been without it.
    pub unlisted_at: Option<Timestamp>,
}

impl Installation {
    /// Whether HighLevel has refused the grant itself.
    pub fn is_broken(&self) -> bool {
        matches!(self.connection, Connection::Broken(_))
    }

    /// How it stands.
    pub fn overview(&self) -> Overview {
        let Self { id, version, tokens, connection, intent, last_check, .. } = self;
        let Self { connected_at, name, unlisted_at, .. } = self;
        Overview {
            id: id.clone(),
            version: *version,
            issued_at: tokens.issued_at,
            expires_at: tokens.expires_at,
            scopes: tokens.scopes.clone(),
            company: tokens.company.clone(),
            connection: connection.clone(),
            intent: *intent,
            last_check: last_check.clone(),
            connected_at: *connected_at,
            name: name.clone(),
            unlisted_at: *unlisted_at,
        }
    }
}

impl Overview {
    /// How long the access token still lives; zero when it has died.
    pub fn remaining(&self, now: Timestamp) -> Duration {
        now.until(self.expires_at)
    }

    /// How it is: its connection first, its last check second; none where it was never checked.
    pub fn health(&self, now: Timestamp) -> Option<Health> {
        match &self.connection {
            Connection::Broken(_) => Some(Health::NeedsPerson),
            Connection::Suspended { .. } => Some(Health::Suspended),
            Connection::Uncertain { .. } if self.remaining(now).is_zero() => Some(Health::Down),
            Connection::Uncertain { .. } => Some(Health::Degraded),
            Connection::Connected => self.last_check.as_ref().map(|check| check.health),
        }
    }

    /// How long it was to live when it was issued.
    pub fn life(&self) -> Duration {
        self.issued_at.until(self.expires_at)
    }

    /// The instant from which whoever asks for the token gets a newer one: half of its life.
    pub fn half_life_at(&self) -> Timestamp {
        self.issued_at + self.life() / 2
    }
}

/// The set of tokens before the present one.
#[derive(Clone, Debug)]
pub struct Previous {
    /// The tokens.
    pub tokens: TokenSet,
    /// When they may be forgotten.
    pub keep_until: Timestamp,
}

/// "This generation is being exchanged since": written durably before the refresh token is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intent {
    /// When the refresh token was first about to be sent.
    pub since: Timestamp,
}

/// How a connection stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Connection {
    /// The last refresh, if there was one, went well.
    Connected,
    /// A refresh got no usable answer; the same token is sent again at `retry_at`.
    Uncertain {
        /// When the first of the failed refreshes began.
        since: Timestamp,
        /// How many refreshes in a row got nowhere.
        attempts: u32,
        /// When to try again unasked.
        retry_at: Timestamp,
        /// What went wrong, in words without secrets.
        said: String,
    },
    /// HighLevel says the location is not active; the grant waits for it, unharmed.
    Suspended {
        /// When HighLevel first said so.
        since: Timestamp,
        /// How often it has said so in a row.
        attempts: u32,
        /// When to ask again unasked.
        retry_at: Timestamp,
        /// HighLevel's words.
        said: String,
    },
    /// HighLevel refused the grant itself, and nothing we hold could heal it.
    Broken(Broken),
}

/// Why a person must authorise again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// When HighLevel refused the grant.
    pub since: Timestamp,
    /// HighLevel's words.
    pub said: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_whole_and_plain() {
        let check = |text: &str, good: bool| assert_eq!(text.parse::<LocationId>().is_ok(), good, "{text:?}");
        check("BBBBBBBBBBBBBBBBBBBB", true);
        check("a-b_c", true);
        check("", false);
        check("a/b", false);
        check("a b", false);
        check("á", false);
        check("a\0", false);
        check(&"a".repeat(65), false);
    }

    #[test]
    fn kind_and_id_find_each_other_again() {
        for id in [
            InstallationId::Location("L1".parse().expect("an id")),
            InstallationId::Company("C1".parse().expect("an id")),
        ] {
            assert_eq!(InstallationId::from_parts(id.kind(), id.as_str()), Ok(id));
        }
    }
}
