//! What a sandbox is like: the app, the people in it, the lifetimes, and the knobs for what nobody has published.

use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};

use crate::chance::Chance;
use crate::scopes;

/// Whom a token is for: HighLevel's `userType` and `authClass`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum UserType {
    /// A sub-account.
    #[default]
    Location,
    /// An agency.
    Company,
}

impl UserType {
    /// The word as HighLevel writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Location => "Location",
            Self::Company => "Company",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Location, Self::Company].into_iter().find(|user_type| user_type.as_str() == text)
    }
}

/// How many calls a resource (a location or a company) has, as told in the `x-ratelimit-*` headers.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct RateLimit {
    /// Calls in one interval (HighLevel: 100).
    pub burst: u64,
    /// Length of the interval (HighLevel: 10 s).
    #[serde(serialize_with = "seconds")]
    pub interval: Duration,
    /// Calls in a day (HighLevel: 200,000).
    pub daily: u64,
    /// Whether a call too many is answered with 429; the headers are sent in any case.
    pub enforced: bool,
}

/// How the calls of an interval are counted. HighLevel has not published which it does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RateWindow {
    /// An interval begins with the first call after the one before; at its end all are free again.
    #[default]
    Fixed,
    /// Each call is free again one interval after it was made.
    Sliding,
}

/// The app, the agency and the knobs of one sandbox. All ids and secrets are invented.
#[derive(Clone, Debug, Serialize)]
pub struct Settings {
    /// Where ids, tokens and percentages come from: the same seed gives the same ids.
    pub seed: u64,
    /// `<24 hex>-<8 letters and digits>`; the part before the hyphen is the app's id and its version's.
    pub client_id: String,
    /// A uuid, as HighLevel shows it once.
    pub client_secret: String,
    /// A private integration token of the first location: `pit-<uuid>`.
    pub private_token: String,
    /// The agency.
    pub company_id: String,
    /// The first location.
    pub location_id: String,
    /// How many more locations the agency has (see `Sandbox::location_ids`).
    pub extra_locations: usize,
    /// The contact in the first location that a health check tags.
    pub contact_id: String,
    /// The contact's name.
    pub contact_name: String,
    /// The contact's e-mail address.
    pub contact_email: String,
    /// The contact's telephone number.
    pub contact_phone: String,
    /// The tag that starts the workflow.
    pub health_tag: String,
    /// How long the workflow takes to send its message and remove the tag; `None`: it never removes it.
    #[serde(serialize_with = "optional_seconds")]
    pub workflow_removes_tag_after: Option<Duration>,
    /// The classes of token the app may get. With both, a location's code exchanged without `user_type=Location`
    /// gives a company token (measured by third parties, 2026-07).
    pub user_types: Vec<UserType>,
    /// The registered redirect addresses; when empty, any is allowed.
    pub redirect_uris: Vec<String>,
    /// What the app may do; about 120 of them make a token 5 KB long.
    pub scopes: Vec<String>,
    /// Life of an access token (`expires_in`: 86,399 s).
    #[serde(serialize_with = "seconds")]
    pub access_token_life: Duration,
    /// Life of an unused refresh token (one year).
    #[serde(serialize_with = "seconds")]
    pub refresh_token_life: Duration,
    /// Life of an authorization code. HighLevel has not published it.
    #[serde(serialize_with = "seconds")]
    pub code_life: Duration,
    /// How long after its first use a refresh token still gives the same new one (HighLevel: 30 s).
    #[serde(serialize_with = "seconds")]
    pub grace: Duration,
    /// Whether such a repeat gives the same access token too. Not published.
    pub same_access_token_in_grace: bool,
    /// Whether access tokens live on after a refresh. Not published.
    pub old_access_tokens_survive: bool,
    /// Whether presenting a refresh token after its window ends the whole grant. Not reported by anyone.
    pub reuse_ends_grant: bool,
    /// Whether a new installation ends the tokens of the one before. Not published.
    pub reinstall_ends_grant: bool,
    /// Whether Cancel on the consent page calls back with `error=access_denied`. Not published.
    pub cancel_calls_back: bool,
    /// Whether tags are kept in lower case, whatever was sent.
    pub lowercase_tags: bool,
    /// Whether two contacts may share an e-mail address or a telephone number.
    pub allow_duplicate_contacts: bool,
    /// The rate limit.
    pub rate_limit: RateLimit,
    /// How the calls of its interval are counted.
    pub rate_window: RateWindow,
    /// Whether resource calls are answered with `transfer-encoding: chunked` instead of a length.
    pub chunked_answers: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self::seeded(Chance::any_seed())
    }
}

impl Settings {
    /// Settings with the ids and secrets that `seed` gives.
    pub fn seeded(seed: u64) -> Self {
        let mut chance = Chance::seeded(seed);
        Self {
            seed,
            client_id: format!("{}-{}", chance.hex(24), chance.suffix()),
            client_secret: chance.uuid(),
            private_token: format!("pit-{}", chance.uuid()),
            company_id: chance.id(),
            location_id: chance.id(),
            extra_locations: 0,
            contact_id: chance.id(),
            contact_name: "Clara Sandbox".to_owned(),
            contact_email: "clara@sandbox.example".to_owned(),
            contact_phone: "+5511955501234".to_owned(),
            health_tag: "Status:Online-AuthService".to_owned(),
            workflow_removes_tag_after: Some(Duration::from_secs(1)),
            user_types: vec![UserType::Location, UserType::Company],
            redirect_uris: Vec::new(),
            scopes: scopes::everything(),
            access_token_life: Duration::from_secs(86_399),
            refresh_token_life: Duration::from_secs(31_536_000),
            code_life: Duration::from_secs(60),
            grace: Duration::from_secs(30),
            same_access_token_in_grace: true,
            old_access_tokens_survive: true,
            reuse_ends_grant: false,
            reinstall_ends_grant: false,
            cancel_calls_back: false,
            lowercase_tags: false,
            allow_duplicate_contacts: false,
            rate_limit: RateLimit {
                burst: 100,
                interval: Duration::from_secs(10),
                daily: 200_000,
                enforced: true,
            },
            rate_window: RateWindow::Fixed,
            chunked_answers: false,
        }
    }

    /// The app's id: the client id before its hyphen.
    pub fn app_id(&self) -> &str {
        self.client_id.split('-').next().unwrap_or_default()
    }

    /// The app version's id: equal to the app's for the first version.
    pub fn version_id(&self) -> &str {
        self.app_id()
    }

    /// Where a browser goes after consent: the first registered address, or the usual one.
    pub(crate) fn first_redirect_uri(&self) -> &str {
        self.redirect_uris.first().map_or("http://127.0.0.1:8788/oauth/callback", String::as_str)
    }

    /// An app that an agency with so many locations installs for itself.
    #[must_use]
    pub fn of_agency(self, locations: usize) -> Self {
        let user_types = vec![UserType::Company, UserType::Location];
        Self { extra_locations: locations.saturating_sub(1), user_types, ..self }
    }

    /// A complete `.env` for a program that should talk to a sandbox at `base_url`. Where an agency's token is
    /// to be asked for first, it names no location, and no contact: that one is of one location.
    pub fn env_file(&self, base_url: &str) -> String {
        let redirect_uri = self.first_redirect_uri();
        let user_type = self.user_types.first().copied().unwrap_or_default();
        let (location_id, contact_id, scopes) = match user_type {
            UserType::Location => (&*self.location_id, &*self.contact_id, scopes::NEEDED.to_owned()),
            UserType::Company => ("", "", format!("{} {}", scopes::NEEDED, scopes::NEEDED_BY_AGENCY)),
        };
        format!(
            r#"# A HighLevel sandbox on this machine; every value is invented.
# Um HighLevel de mentira nesta máquina; todos os valores são inventados.

# The marketplace app / O aplicativo do Marketplace
GHL_CLIENT_ID="{client_id}"
GHL_CLIENT_SECRET="{client_secret}"
GHL_REDIRECT_URI="{redirect_uri}"

# The sub-account; an agency has none / A subconta; uma agência não tem
GHL_LOCATION_ID="{location_id}"

# The contact and the tag of the health check / O contato e a tag da verificação de saúde
GHL_HEALTH_CHECK_CONTACT_ID="{contact_id}"
GHL_HEALTH_CHECK_TAG_NAME="{health_tag}"

# Who speaks in notices / Quem fala nos avisos
MICROSERVICE_NAME="AuthServicePadrao"

# Hours between two checks / Horas entre duas verificações
RUN_INTERVAL_HOURS="12"

# Where the sandbox listens; without these two lines it is HighLevel itself
# Onde o sandbox escuta; sem estas duas linhas, é o próprio HighLevel
GHL_API_BASE_URL="{base_url}"
GHL_AUTHORIZE_URL="{base_url}{consent}"

# What to ask for: a sub-account's token or an agency's, and what it may do
# O que pedir: um token de subconta ou de agência, e o que ele pode fazer
GHL_USER_TYPE="{user_type}"
GHL_SCOPES="{scopes}"

# The key by which the sandbox signs its webhooks / A chave com que o sandbox assina os webhooks
GHL_WEBHOOK_PUBLIC_KEYS="{webhook_key}"
"#,
            client_id = self.client_id,
            client_secret = self.client_secret,
            health_tag = self.health_tag,
            user_type = user_type.as_str(),
            consent = crate::consent::PATH,
            webhook_key = crate::webhooks::public_key(self.seed),
        )
    }
}

fn seconds<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(span.as_secs_f64())
}

fn optional_seconds<S: Serializer>(span: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match span {
        Some(span) => seconds(span, serializer),
        None => serializer.serialize_none(),
    }
}
