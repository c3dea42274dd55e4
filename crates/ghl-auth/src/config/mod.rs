//! From text to settings: complete and checked before anything is contacted.
//!
//! Each command asks for the groups of settings that it needs. What is missing or malformed in any
//! of them is collected, so that one error lists it all.

mod apps;
mod env_file;
mod service;
mod source;
pub(crate) mod variables;

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use highlevel::{ApiBase, AppCredentials, Dialect, InvalidBase};
use store::{InvalidKey, InvalidStoreUrl, Key, Keys, StoreUrl};
use tokens::{AccessToken, AuthorizationCode, ClientSecret, ContactId, InstallationId, LocationId};
use tracing_subscriber::filter::Targets;

pub(crate) use apps::App;
pub(crate) use env_file::with_value;
pub(crate) use service::{Doors, Listen, Passage};
use source::BadFile;
pub(crate) use source::{Found, Source, UnreadableEnvFile};

use crate::text::{Arg, Text};

/// What is wrong with one variable.
#[derive(Debug)]
pub(crate) struct Fault {
    /// The variable as it is written for the app.
    pub(crate) name: String,
    pub(crate) variable: &'static variables::Variable,
    pub(crate) problem: Problem,
}

/// Ways for a variable to be wrong. Values are shown only where they are no secrets.
#[derive(Debug)]
pub(crate) enum Problem {
    Missing,
    /// The key of a message, with its arguments.
    Malformed(&'static str, Vec<(&'static str, String)>),
}

/// Reads settings and remembers what was wrong with them.
#[derive(Debug)]
pub(crate) struct Config<'a> {
    source: &'a Source,
    faults: Vec<Fault>,
}

/// Where the tokens rest.
#[derive(Clone, Debug)]
pub(crate) struct StoreSettings {
    pub(crate) url: StoreUrl,
    pub(crate) keys: Keys,
    /// The folder in which answers land where the store is on a network.
    pub(crate) spool: PathBuf,
}

impl StoreSettings {
    /// What there is of it on this machine: the store itself, or the folder in which answers land.
    pub(crate) fn path(&self) -> &Path {
        self.url.path().unwrap_or(&self.spool)
    }
}

/// How HighLevel is reached.
#[derive(Debug)]
pub(crate) struct ApiSettings {
    pub(crate) base: ApiBase,
    pub(crate) dialect: Dialect,
    /// The PEM file of `SSL_CERT_FILE`, the usual variable for one's own authorities.
    pub(crate) roots: Option<String>,
}

/// How the program is known to HighLevel.
#[derive(Debug)]
pub(crate) enum Credentials {
    /// A marketplace app with its grants.
    App(AppCredentials),
    /// A Private Integration Token.
    Private(AccessToken),
}

/// The health check's contact and tag.
#[derive(Debug)]
pub(crate) struct HealthCheck {
    pub(crate) contact: Option<ContactId>,
    pub(crate) tag: Option<String>,
}

/// Which class of grant is meant where a command names none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Meant {
    /// This one.
    Installation(InstallationId),
    /// The only company there is.
    AnyCompany,
    /// The only location there is.
    AnyLocation,
}

impl<'a> Config<'a> {
    pub(crate) fn new(source: &'a Source) -> Self {
        Self { source, faults: Vec::new() }
    }

    /// Looks at how the program is to speak, which every command does.
    pub(crate) fn speech(&mut self) {
        let known = |value: &str, good: &[&str]| good.iter().any(|good| good.eq_ignore_ascii_case(value));
        let lang =
            self.optional("GHL_AUTH_LANG").filter(|lang| !known(lang, &["en", "pt-BR", "pt_BR", "pt"]));
        if let Some(value) = lang {
            self.malformed::<()>("GHL_AUTH_LANG", "bad-lang", vec![("value", shown(&value))]);
        }
        let format = self.optional("GHL_AUTH_LOG_FORMAT").filter(|format| !known(format, &["human", "json"]));
        if let Some(value) = format {
            self.malformed::<()>("GHL_AUTH_LOG_FORMAT", "bad-log-format", vec![("value", shown(&value))]);
        }
        let filter = self.optional("GHL_AUTH_LOG").filter(|filter| filter.parse::<Targets>().is_err());
        if let Some(value) = filter {
            self.malformed::<()>("GHL_AUTH_LOG", "bad-log", vec![("value", shown(&value))]);
        }
    }

    /// What was wrong with everything that was asked for.
    pub(crate) fn faults(self) -> Vec<Fault> {
        self.faults
    }

    pub(crate) fn store(&mut self) -> Option<StoreSettings> {
        let url = match self.optional("GHL_STORE") {
            Some(text) => match StoreUrl::parse(&text) {
                Ok(url) => Some(url),
                Err(error) => {
                    let (problem, arguments) = bad_store(&error);
                    self.malformed("GHL_STORE", problem, arguments)
                }
            },
            None => Some(StoreUrl::File(PathBuf::from("ghl_tokens.json"))),
        };
        let current = self.optional("GHL_AUTH_KEY").and_then(|text| self.key("GHL_AUTH_KEY", &text));
        let old = self.optional("GHL_AUTH_OLD_KEYS").unwrap_or_default();
        let old = old.split(',').map(str::trim).filter(|text| !text.is_empty());
        let old: Vec<Key> = old.filter_map(|text| self.key("GHL_AUTH_OLD_KEYS", text)).collect();
        let url = match (url?, self.source.app().name()) {
            (url, None) => url,
            (url, Some(app)) => match url.for_app(app) {
                Some(url) => url,
                None => return self.malformed("GHL_STORE", "bad-store-apps", vec![("app", app.to_owned())]),
            },
        };
        if !matches!(url, StoreUrl::File(_)) && current.is_none() && !self.is_faulty("GHL_AUTH_KEY") {
            self.fault("GHL_AUTH_KEY", Problem::Missing);
        }
        let spool = self.optional("GHL_AUTH_SPOOL").unwrap_or_else(|| "ghl_auth.spool".to_owned());
        let spool = match self.source.app().name() {
            None => PathBuf::from(spool),
            // What landed for one app is nothing to the others.
            Some(app) => PathBuf::from(format!("{}.{app}", spool.trim_end_matches('/'))),
        };
        Some(StoreSettings { url, keys: Keys { current, old }, spool })
    }

    pub(crate) fn api(&mut self) -> Option<ApiSettings> {
        let base = self.optional("GHL_API_BASE_URL");
        let base = base.as_deref().unwrap_or("https://services.leadconnectorhq.com");
        let base = self.base("GHL_API_BASE_URL", base);
        let dialect = match self.optional("GHL_API_VERSION").as_deref() {
            None | Some("2021-07-28") => Some(Dialect::Dated),
            Some("v3") => Some(Dialect::V3),
            Some(other) => self.malformed("GHL_API_VERSION", "bad-version", vec![("value", shown(other))]),
        };
        let roots = std::env::var("SSL_CERT_FILE").ok().filter(|path| !path.is_empty());
        Some(ApiSettings { base: base?, dialect: dialect?, roots })
    }

    pub(crate) fn credentials(&mut self) -> Option<Credentials> {
        match self.optional("GHL_PRIVATE_TOKEN") {
            Some(token) => Some(Credentials::Private(AccessToken::new(token))),
            None if self.is_faulty("GHL_PRIVATE_TOKEN") => None,
            None => self.app().map(Credentials::App),
        }
    }

    pub(crate) fn app(&mut self) -> Option<AppCredentials> {
        let client_id = self.required("GHL_CLIENT_ID");
        let secrets = self.client_secrets();
        let redirect_uri = self.required("GHL_REDIRECT_URI");
        let redirect_uri = redirect_uri.and_then(|uri| match uri.parse::<axum::http::Uri>() {
            Ok(parsed) if parsed.scheme().is_some() && parsed.host().is_some() => Some(uri),
            _ => self.malformed("GHL_REDIRECT_URI", "bad-url", vec![("value", shown(&uri))]),
        });
        let user_type = self.user_type();
        Some(AppCredentials {
            client_id: client_id?,
            client_secrets: secrets?,
            redirect_uri: redirect_uri?,
            user_type: user_type?,
        })
    }

    fn client_secrets(&mut self) -> Option<Vec<ClientSecret>> {
        let all = self.required("GHL_CLIENT_SECRET")?;
        let each = all.split(',').map(str::trim).filter(|secret| !secret.is_empty());
        let secrets: Vec<ClientSecret> = each.map(ClientSecret::new).collect();
        if secrets.is_empty() {
            self.fault("GHL_CLIENT_SECRET", Problem::Missing);
        }
        (!secrets.is_empty()).then_some(secrets)
    }

    pub(crate) fn user_type(&mut self) -> Option<&'static str> {
        match self.optional("GHL_USER_TYPE").as_deref() {
            None | Some("Location") => Some("Location"),
            Some("Company") => Some("Company"),
            Some(other) => self.malformed("GHL_USER_TYPE", "bad-user-type", vec![("value", shown(other))]),
        }
    }

    /// The installation meant when a command names none.
    pub(crate) fn meant(&mut self) -> Option<Meant> {
        let user_type = self.user_type();
        if user_type == Some("Company") {
            return Some(Meant::AnyCompany);
        }
        // Where the class is faulty the id is looked at all the same: one error lists both.
        let location = match self.optional("GHL_LOCATION_ID") {
            Some(id) => Some(self.parsed::<LocationId>("GHL_LOCATION_ID", &id)?),
            None => None,
        };
        user_type?;
        Some(location.map_or(Meant::AnyLocation, |id| Meant::Installation(InstallationId::Location(id))))
    }

    /// Like `meant`, for `check`, which refuses to guess a location.
    pub(crate) fn meant_by_check(&mut self) -> Option<Meant> {
        match self.meant()? {
            Meant::AnyLocation => {
                self.fault("GHL_LOCATION_ID", Problem::Missing);
                None
            }
            meant => Some(meant),
        }
    }

    pub(crate) fn health_check(&mut self) -> Option<HealthCheck> {
        let contact = match self.optional("GHL_HEALTH_CHECK_CONTACT_ID") {
            Some(id) => Some(self.parsed::<ContactId>("GHL_HEALTH_CHECK_CONTACT_ID", &id)?),
            None => None,
        };
        let tag = self.optional("GHL_HEALTH_CHECK_TAG_NAME");
        Some(HealthCheck { contact, tag })
    }

    pub(crate) fn microservice_name(&mut self) -> String {
        let name = self.optional("MICROSERVICE_NAME").unwrap_or_else(|| "AuthServicePadrao".into());
        match self.source.app().name() {
            None => name,
            Some(app) => format!("{name} ({app})"),
        }
    }

    /// Hours between two checks.
    pub(crate) fn run_interval(&mut self) -> Option<u32> {
        match self.optional("RUN_INTERVAL_HOURS") {
            None => Some(12),
            Some(text) => match text.parse() {
                Ok(hours @ 1..=720) => Some(hours),
                _ => self.malformed("RUN_INTERVAL_HOURS", "bad-interval", vec![("value", shown(&text))]),
            },
        }
    }

    pub(crate) fn authorization_code(&mut self) -> Option<AuthorizationCode> {
        self.optional("GHL_AUTHORIZATION_CODE").map(AuthorizationCode::new)
    }

    pub(crate) fn authorize_url(&mut self) -> Option<String> {
        let text = self.optional("GHL_AUTHORIZE_URL");
        let url =
            text.unwrap_or_else(|| "https://marketplace.gohighlevel.com/v2/oauth/chooselocation".into());
        self.base("GHL_AUTHORIZE_URL", url.split('?').next().unwrap_or_default())?;
        Some(url)
    }

    pub(crate) fn scopes(&mut self) -> Option<String> {
        self.optional("GHL_SCOPES").map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    fn optional(&mut self, name: &'static str) -> Option<String> {
        match self.source.find(name) {
            Found::Value(value) => Some(value),
            Found::Nothing => None,
            Found::BadFile { path, why } => self.bad_file(name, &path, why),
        }
    }

    /// The file of a secret that the program reads by itself.
    fn private_file(&mut self, name: &'static str) -> Option<PathBuf> {
        let path = PathBuf::from(self.optional(name)?);
        match source::unfit(&path) {
            None => Some(path),
            Some(why) => self.bad_file(name, &path, why),
        }
    }

    fn bad_file<T>(&mut self, name: &'static str, path: &Path, why: BadFile) -> Option<T> {
        let path = ("path", path.display().to_string());
        match why {
            BadFile::Unreadable(error) => {
                self.malformed(name, "bad-secret-file", vec![path, ("why", error.to_string())])
            }
            BadFile::NoFile => self.malformed(name, "bad-secret-no-file", vec![path]),
            BadFile::OthersMayRead(mode) => {
                self.malformed(name, "bad-secret-mode", vec![path, ("mode", format!("{mode:04o}"))])
            }
            BadFile::OthersMayReplace { folder, mode } => {
                let folder = ("folder", folder.display().to_string());
                let mode = ("mode", format!("{mode:04o}"));
                self.malformed(name, "bad-secret-folder", vec![path, folder, mode])
            }
        }
    }

    fn required(&mut self, name: &'static str) -> Option<String> {
        let value = self.optional(name);
        if value.is_none() && !self.is_faulty(name) {
            self.fault(name, Problem::Missing);
        }
        value
    }

    fn base(&mut self, name: &'static str, text: &str) -> Option<ApiBase> {
        match text.parse() {
            Ok(base) => Some(base),
            Err(error) => self.malformed(name, bad_base(&error), vec![]),
        }
    }

    fn parsed<T: FromStr>(&mut self, name: &'static str, text: &str) -> Option<T> {
        match text.parse() {
            Ok(value) => Some(value),
            Err(_) => self.malformed(name, "bad-id", vec![("value", shown(text))]),
        }
    }

    fn key(&mut self, name: &'static str, text: &str) -> Option<Key> {
        match Key::parse(text) {
            Ok(key) => Some(key),
            Err(InvalidKey::NotBase64) => self.malformed(name, "bad-key-base64", vec![]),
            Err(InvalidKey::WrongLength(length)) => {
                self.malformed(name, "bad-key-length", vec![("length", length.to_string())])
            }
            Err(InvalidKey::AllEqual) => self.malformed(name, "bad-key-equal", vec![]),
        }
    }

    fn malformed<T>(
        &mut self,
        name: &'static str,
        message: &'static str,
        arguments: Vec<(&'static str, String)>,
    ) -> Option<T> {
        self.fault(name, Problem::Malformed(message, arguments));
        None
    }

    fn fault(&mut self, name: &'static str, problem: Problem) {
        if !self.is_faulty(name) {
            let variable = variables::named(name);
            self.faults.push(Fault { name: self.source.name_of(name), variable, problem });
        }
    }

    fn is_faulty(&self, name: &str) -> bool {
        self.faults.iter().any(|fault| fault.variable.name == name)
    }
}

/// A value that is short, or as much of a longer one as shows which it is: a secret may stand in the
/// wrong variable, and none is short.
fn shown(value: &str) -> String {
    const SHORT: usize = 20;
    const START: usize = 8;
    let plain = value.chars().map(|c| if c.is_control() { ' ' } else { c });
    match value.chars().count() > SHORT {
        true => plain.take(START).chain(['…']).collect(),
        false => plain.collect(),
    }
}

fn bad_store(error: &InvalidStoreUrl) -> (&'static str, Vec<(&'static str, String)>) {
    match error {
        InvalidStoreUrl::UnknownKind => ("bad-store-kind", vec![]),
        InvalidStoreUrl::NoPath(_) => ("bad-store-path", vec![]),
        InvalidStoreUrl::Malformed => ("bad-store-address", vec![]),
        InvalidStoreUrl::Lacks("user") => ("bad-store-user", vec![]),
        InvalidStoreUrl::Lacks(_) => ("bad-store-host", vec![]),
        InvalidStoreUrl::Parameter("pool") => ("bad-store-pool", vec![]),
        InvalidStoreUrl::Parameter("schema") => ("bad-store-schema", vec![]),
        InvalidStoreUrl::Parameter(_) => ("bad-store-sslmode", vec![]),
        InvalidStoreUrl::UnknownParameter(name) => ("bad-store-parameter", vec![("name", shown(name))]),
        InvalidStoreUrl::Unverified => ("bad-store-unverified", vec![]),
    }
}

fn bad_base(error: &InvalidBase) -> &'static str {
    match error {
        InvalidBase::NoUrl => "bad-base-no-url",
        InvalidBase::ClearText => "bad-base-clear-text",
        InvalidBase::TooMuch => "bad-base-too-much",
    }
}

impl Fault {
    /// What is wrong.
    pub(crate) fn problem(&self, text: &Text) -> String {
        match &self.problem {
            Problem::Missing => text.say("missing", &[]),
            Problem::Malformed(message, arguments) => {
                let arguments: Vec<_> =
                    arguments.iter().map(|(name, value)| (*name, Arg::from(value.as_str()))).collect();
                text.say(message, &arguments)
            }
        }
    }

    /// What is wrong, what the variable is for, and what a good value looks like.
    pub(crate) fn explained(&self, text: &Text) -> String {
        let problem = self.problem(text);
        let meaning = text.say(&format!("var-{}", self.variable.name), &[]);
        let example = format!("{}={}", self.name, self.variable.example);
        text.say(
            "config-fault",
            &[
                ("name", self.name.as_str().into()),
                ("problem", problem.into()),
                ("meaning", meaning.into()),
                ("example", example.into()),
            ],
        )
    }
}

/// How long a token must last from one check to the one after it.
pub(crate) fn until_next_run(interval_hours: u32) -> Duration {
    Duration::from_secs(u64::from(interval_hours + 1) * 3600)
}
