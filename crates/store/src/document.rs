//! The one document that is a whole `file:` store: the template's members and one of our own.
//!
//! Tokens, the set before, the intent and, where there is no spool beside the file, the answers that
//! landed: all in one document, so that every change is one replacement and nothing can be half done.
//! `ghl_auth.digest` ties our member to the tokens beside it. Where it does not match, the template
//! has written since, and what it wrote is adopted as a new authorisation.

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokens::store::{FlightId, Landing};
use tokens::{
    AccessToken, Connection, Installation, InstallationId, Intent, RefreshBy, Timestamp, TokenSet, Version,
};
use zeroize::Zeroizing;

use crate::key::hex;
use crate::row::{ConnectionAtRest, LandingAtRest, Odd, PreviousAtRest};
use crate::seal::checksum;
use crate::template::{self, NoTokens, Scan};

const VERSION: u32 = 1;

/// What is in the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Document {
    /// The grant, if there is one yet; its last check lies elsewhere.
    pub(crate) installation: Option<Installation>,
    /// Answers that landed in here, where there is no place beside the file.
    pub(crate) landed: Vec<(FlightId, Landing)>,
    /// What was in the file when another grant took its place, word for word, where no copy could be
    /// kept beside it.
    pub(crate) displaced: Vec<String>,
    /// The tokens' digest, when it was the template that wrote them.
    pub(crate) adopted: Option<String>,
}

/// Why a document could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    /// Nothing of use is in it.
    Odd(Odd),
    /// A later program wrote it.
    TooNew,
}

impl From<Odd> for Unread {
    fn from(odd: Odd) -> Self {
        Self::Odd(odd)
    }
}

impl From<NoTokens> for Unread {
    fn from(error: NoTokens) -> Self {
        Self::Odd(Odd(error.to_string()))
    }
}

#[derive(Serialize, Deserialize)]
struct Own {
    version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    installation: Option<OwnInstallation>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    landed: Vec<Landed>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    displaced: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct OwnInstallation {
    kind: String,
    id: String,
    epoch: u64,
    generation: u64,
    digest: String,
    issued_at: i64,
    expires_at: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by_company: Option<String>,
    connection: ConnectionAtRest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    intent: Option<OwnIntent>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<PreviousAtRest>,
}

#[derive(Serialize, Deserialize)]
struct OwnIntent {
    since: i64,
}

#[derive(Serialize, Deserialize)]
struct Landed {
    flight: String,
    landing: LandingAtRest,
}

impl Document {
    /// Reads a document, ours or the template's. An empty one holds no grant yet.
    pub(crate) fn parse(
        bytes: &[u8],
        written_at: Timestamp,
        otherwise: Option<&InstallationId>,
        zone: &TimeZone,
    ) -> Result<Self, Unread> {
        let text = match template::text(bytes) {
            Ok(text) => text,
            Err(NoTokens::Empty) => return Ok(Self::default()),
            Err(error) => return Err(error.into()),
        };
        let Scan { mut members, end } = template::scan(text)?;
        if members.is_empty() && end.is_some() {
            return Ok(Self::default());
        }
        let own = own(&mut members)?;
        let mut document = Self::default();
        let mut known = None;
        if let Some(own) = own {
            known = own.installation;
            document.displaced = own.displaced;
            for Landed { flight, landing } in own.landed {
                document.landed.push((FlightId(flight), landing.into_landing()?));
            }
            if known.is_none() && !members.contains_key("refresh_token") {
                return Ok(document);
            }
        }
        match known {
            Some(known) if known.digest == digest_of(&members, known.by_company.as_deref()) => {
                document.installation = Some(known.with(members)?);
            }
            known => {
                let (installation, digest) =
                    adopt(members, known, written_at, otherwise, zone, end.is_none())?;
                document.installation = Some(installation);
                document.adopted = Some(digest);
            }
        }
        Ok(document)
    }

    /// Writes the document.
    pub(crate) fn render(&self, zone: &TimeZone) -> Zeroizing<Vec<u8>> {
        let own = Own {
            version: VERSION,
            installation: self.installation.as_ref().map(OwnInstallation::of),
            landed: self
                .landed
                .iter()
                .map(|(flight, landing)| Landed { flight: flight.0.clone(), landing: landing.into() })
                .collect(),
            displaced: self.displaced.clone(),
        };
        template::render(
            self.installation.as_ref().map(|installation| &installation.tokens),
            Some(&own),
            zone,
        )
    }
}

/// Takes our own member out. One that does not fit is an error only if the tokens are not beside it.
fn own(members: &mut Map<String, Value>) -> Result<Option<Own>, Unread> {
    let Some(value) = members.shift_remove("ghl_auth") else { return Ok(None) };
    if value.get("version").and_then(Value::as_u64).is_some_and(|version| version > u64::from(VERSION)) {
        return Err(Unread::TooNew);
    }
    match serde_json::from_value(value) {
        Ok(own) => Ok(Some(own)),
        Err(_) if members.contains_key("refresh_token") => Ok(None),
        Err(error) => Err(Odd::json(&error).into()),
    }
}

/// Takes in what the template wrote, as a new authorisation after the one that was known before.
fn adopt(
    mut members: Map<String, Value>,
    known: Option<OwnInstallation>,
    written_at: Timestamp,
    otherwise: Option<&InstallationId>,
    zone: &TimeZone,
    cut_short: bool,
) -> Result<(Installation, String), Unread> {
    let digest = digest_of(&members, None);
    let tokens = template::tokens_in(&mut members, written_at, zone, cut_short)?;
    let id = template::owner(&members, &tokens, otherwise)?;
    let version =
        known.filter(|known| (known.kind.as_str(), known.id.as_str()) == (id.kind(), id.as_str())).map_or(
            Version { epoch: 1, generation: 1 },
            |known| Version { epoch: known.epoch + 1, generation: known.generation + 1 },
        );
    let installation = Installation {
        id,
        version,
        connected_at: tokens.issued_at,
        tokens,
        previous: None,
        connection: Connection::Connected,
        intent: None,
        last_check: None,
        name: None,
        unlisted_at: None,
    };
    Ok((installation, digest))
}

impl OwnInstallation {
    fn of(installation: &Installation) -> Self {
        let tokens = &installation.tokens;
        let by_company = match &tokens.refresh_by {
            RefreshBy::Own(_) => None,
            RefreshBy::Company(id) => Some(id.as_str().to_owned()),
        };
        Self {
            kind: installation.id.kind().to_owned(),
            id: installation.id.as_str().to_owned(),
            epoch: installation.version.epoch,
            generation: installation.version.generation,
            digest: digest(tokens),
            issued_at: tokens.issued_at.as_millis(),
            expires_at: tokens.expires_at.as_millis(),
            by_company,
            connection: (&installation.connection).into(),
            intent: installation.intent.map(|intent| OwnIntent { since: intent.since.as_millis() }),
            previous: installation.previous.as_ref().map(PreviousAtRest::from),
        }
    }

    /// The installation, with the tokens that lie beside this member.
    fn with(self, mut members: Map<String, Value>) -> Result<Installation, Unread> {
        let access = template::take_text(&mut members, "access_token")
            .ok_or(NoTokens::Unusable("it holds no access token"))?;
        let refresh_by = match (self.by_company, template::take_text(&mut members, "refresh_token")) {
            (Some(id), None) => RefreshBy::Company(id.parse().map_err(|_| Odd::new("its company is no id"))?),
            (None, Some(token)) => RefreshBy::Own(tokens::RefreshToken::new(token)),
            _ => return Err(NoTokens::Unusable("it holds no refresh token").into()),
        };
        let issued_at = Timestamp::from_millis(self.issued_at);
        let expires_at = Timestamp::from_millis(self.expires_at);
        let tokens =
            template::token_set(&members, AccessToken::new(access), refresh_by, issued_at, expires_at);
        Ok(Installation {
            id: InstallationId::from_parts(&self.kind, &self.id).map_err(|error| Odd(error.to_string()))?,
            version: Version { epoch: self.epoch, generation: self.generation },
            tokens,
            previous: self.previous.map(PreviousAtRest::into_previous).transpose()?,
            connection: self.connection.into_connection()?,
            intent: self.intent.map(|intent| Intent { since: Timestamp::from_millis(intent.since) }),
            last_check: None,
            // A file remembers its present set only.
            connected_at: issued_at,
            name: None,
            unlisted_at: None,
        })
    }
}

fn digest(tokens: &TokenSet) -> String {
    match &tokens.refresh_by {
        RefreshBy::Own(token) => digest_parts(tokens.access.expose(), token.expose()),
        RefreshBy::Company(id) => digest_parts(tokens.access.expose(), id.as_str()),
    }
}

fn digest_of(members: &Map<String, Value>, by_company: Option<&str>) -> String {
    let text = |name| members.get(name).and_then(Value::as_str);
    let refresh = text("refresh_token").or(by_company);
    digest_parts(text("access_token").unwrap_or_default(), refresh.unwrap_or_default())
}

fn digest_parts(access: &str, refresh: &str) -> String {
    let text = Zeroizing::new(format!("ghl-auth digest 1\n{access}\n{refresh}"));
    hex(&checksum(text.as_bytes())[..16])
}
