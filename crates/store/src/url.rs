//! Where a store is, as `GHL_STORE` says it.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;
use tokio_postgres::Config;
use tokio_postgres::config::Host;

/// A place of rest: `file:PATH`, `sqlite:PATH` or `postgres://…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// One installation in the template's `ghl_tokens.json`.
    File(PathBuf),
    /// Any number of installations in a database, sealed.
    Sqlite(PathBuf),
    /// Any number of installations in a database that any number of keepers share, sealed.
    Postgres(PostgresUrl),
}

/// A text that names no store. No address is repeated: it may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidStoreUrl {
    /// There is nothing behind the colon.
    #[error("`{0}:` names no path")]
    NoPath(&'static str),
    /// It begins with none of the kinds.
    #[error("a store is `file:PATH`, `sqlite:PATH` or `postgres://USER@HOST/DATABASE`")]
    UnknownKind,
    /// It is no address of a database.
    #[error("the address of the database is not well formed")]
    Malformed,
    /// It says nothing of this, and has to.
    #[error("the address of the database names no {0}")]
    Lacks(&'static str),
    /// A parameter has a value that it can't have.
    #[error("the parameter `{0}` of the database's address has no good value")]
    Parameter(&'static str),
    /// Its parameters are not ours.
    #[error("the address of the database has the unknown parameter `{0}`")]
    UnknownParameter(String),
    /// What is sent over a network would be open to others, or to someone who pretends to be the server.
    #[error("a database on another machine is reached with `sslmode=verify-full` only")]
    Unverified,
}

impl StoreUrl {
    /// Reads `file:PATH`, `sqlite:PATH` or `postgres://…`; `file:///PATH` and `sqlite://PATH` mean the
    /// same as without the slashes.
    pub fn parse(text: &str) -> Result<Self, InvalidStoreUrl> {
        let text = text.trim();
        let (kind, rest) = text.split_once(':').ok_or(InvalidStoreUrl::UnknownKind)?;
        let path = |kind| match rest.strip_prefix("//").unwrap_or(rest) {
            "" => Err(InvalidStoreUrl::NoPath(kind)),
            path => Ok(PathBuf::from(path)),
        };
        match kind {
            "file" => path("file").map(Self::File),
            "sqlite" => path("sqlite").map(Self::Sqlite),
            "postgres" | "postgresql" => PostgresUrl::parse(text).map(Self::Postgres),
            _ => Err(InvalidStoreUrl::UnknownKind),
        }
    }

    /// Where the grants of a named app rest, beside those of the app without a name: for `ghl.db`
    /// that is `ghl.NAME.db`, for the schema `ghl_auth` it is `ghl_auth_NAME`. A file has room for one app's only.
    pub fn for_app(&self, name: &str) -> Option<Self> {
        match self {
            Self::File(_) => None,
            Self::Sqlite(path) => {
                let file = match (path.file_stem(), path.extension()) {
                    (Some(stem), Some(extension)) => {
                        [stem, ".".as_ref(), name.as_ref(), ".".as_ref(), extension].into_iter().collect()
                    }
                    _ => [path.file_name()?, ".".as_ref(), name.as_ref()].into_iter().collect::<OsString>(),
                };
                Some(Self::Sqlite(path.with_file_name(file)))
            }
            Self::Postgres(url) => url.for_app(name).map(Self::Postgres),
        }
    }

    /// The file or the database on this machine, if it is on one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) | Self::Sqlite(path) => Some(path),
            Self::Postgres(_) => None,
        }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(url) => write!(f, "{url}"),
        }
    }
}

/// The schema that holds everything, unless the address names another.
const SCHEMA: &str = "ghl_auth";

/// So many connections at most, unless the address says otherwise.
const CONNECTIONS: usize = 16;

/// Where a PostgreSQL database is. Shown without its password.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl {
    config: Box<Config>,
    encryption: Encryption,
    schema: String,
    connections: usize,
}

/// How what is said to the database is kept from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Encryption {
    /// Not at all: it does not leave the machine.
    None,
    /// By TLS, with the server's certificate checked against its name and these authorities: Mozilla's,
    /// or those of a PEM file.
    VerifyFull(Option<PathBuf>),
}

impl PostgresUrl {
    /// Reads `postgres://USER:PASSWORD@HOST:PORT/DATABASE?…`. Beyond what every client knows, `schema`
    /// names the schema that holds everything, `pool` the number of connections, and `sslrootcert` a
    /// PEM file of authorities.
    pub fn parse(text: &str) -> Result<Self, InvalidStoreUrl> {
        let text = text.trim();
        let (address, parameters) = text.split_once('?').unwrap_or((text, ""));
        if parameters.contains('@') {
            // A password with a question mark of its own: nothing of it is taken for a name, and told.
            return Err(InvalidStoreUrl::Malformed);
        }
        let mut url = Self {
            config: Box::new(Config::new()),
            encryption: Encryption::None,
            schema: SCHEMA.to_owned(),
            connections: CONNECTIONS,
        };
        let (mut mode, mut roots, mut others) = (None, None, Vec::new());
        for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let plain = percent_decode_str(value).decode_utf8_lossy().into_owned();
            match name {
                "sslmode" => mode = Some(plain),
                "sslrootcert" => roots = Some(PathBuf::from(plain)),
                "schema" => url.schema = plain,
                "pool" => {
                    let count = plain.parse().ok().filter(|count| (1..=1000).contains(count));
                    url.connections = count.ok_or(InvalidStoreUrl::Parameter("pool"))?;
                }
                "host"
                | "port"
                | "user"
                | "password"
                | "dbname"
                | "application_name"
                | "connect_timeout"
                | "target_session_attrs"
                | "channel_binding" => others.push(parameter),
                _ => return Err(InvalidStoreUrl::UnknownParameter(name.chars().take(40).collect())),
            }
        }
        if !is_schema(&url.schema) {
            return Err(InvalidStoreUrl::Parameter("schema"));
        }
        let rest = match others.is_empty() {
            true => address.to_owned(),
            false => format!("{address}?{}", others.join("&")),
        };
        // The error of the parser may repeat a part of the address.
        *url.config = rest.parse().map_err(|_| InvalidStoreUrl::Malformed)?;
        if url.config.get_hosts().is_empty() {
            return Err(InvalidStoreUrl::Lacks("host"));
        }
        if url.config.get_user().is_none() {
            return Err(InvalidStoreUrl::Lacks("user"));
        }
        let stays = url.config.get_hosts().iter().all(stays_on_the_machine);
        url.encryption = match mode.as_deref() {
            Some("verify-full") => Encryption::VerifyFull(roots),
            None | Some("disable" | "allow" | "prefer") if stays => Encryption::None,
            _ if !stays => return Err(InvalidStoreUrl::Unverified),
            _ => return Err(InvalidStoreUrl::Parameter("sslmode")),
        };
        Ok(url)
    }

    /// The same database, in the schema of a named app.
    fn for_app(&self, name: &str) -> Option<Self> {
        // What a name of an app may have and a name of a schema may not.
        let name = name.replace('-', "_");
        let schema = format!("{}_{name}", self.schema);
        is_schema(&schema).then(|| Self { schema, ..self.clone() })
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn encryption(&self) -> &Encryption {
        &self.encryption
    }

    pub(crate) fn schema(&self) -> &str {
        &self.schema
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections
    }
}

/// Whether a name of a schema needs no quotes anywhere.
fn is_schema(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let begins = |c: char| c.is_ascii_lowercase() || c == '_';
    name.starts_with(begins) && name.chars().all(plain) && name.len() <= 63 && !name.starts_with("pg_")
}

/// Whether nobody else can listen on the way there.
fn stays_on_the_machine(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            let bare = name.trim_start_matches('[').trim_end_matches(']');
            name == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
    }
}

impl fmt::Display for PostgresUrl {
    /// Without the password, and without the parameters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("postgres://")?;
        if let Some(user) = self.config.get_user() {
            write!(f, "{user}@")?;
        }
        for (place, host) in self.config.get_hosts().iter().enumerate() {
            f.write_str(if place > 0 { "," } else { "" })?;
            match host {
                Host::Tcp(name) => f.write_str(name)?,
                Host::Unix(path) => write!(f, "{}", path.display())?,
            }
            let ports = self.config.get_ports();
            if let Some(port) = ports.get(place).or(ports.first()) {
                write!(f, ":{port}")?;
            }
        }
        write!(f, "/{}", self.config.get_dbname().unwrap_or_default())?;
        match self.schema.as_str() {
            SCHEMA => Ok(()),
            other => write!(f, "?schema={other}"),
        }
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_a_kind_and_a_path() {
        let check = |text, expected| assert_eq!(StoreUrl::parse(text), expected, "{text}");
        check("file:ghl_tokens.json", Ok(StoreUrl::File("ghl_tokens.json".into())));
        check("file:///var/lib/ghl.json", Ok(StoreUrl::File("/var/lib/ghl.json".into())));
        check(" sqlite:/data/ghl.db ", Ok(StoreUrl::Sqlite("/data/ghl.db".into())));
        check("sqlite:", Err(InvalidStoreUrl::NoPath("sqlite")));
        check("file://", Err(InvalidStoreUrl::NoPath("file")));
        check("ghl_tokens.json", Err(InvalidStoreUrl::UnknownKind));
        check("mysql:x", Err(InvalidStoreUrl::UnknownKind));
    }

    #[test]
    fn a_database_on_another_machine_is_verified_in_full() {
        let check = |text: &str, good: bool| {
            let parsed = PostgresUrl::parse(text);
            assert_eq!(parsed.is_ok(), good, "{text}: {parsed:?}");
            if !good {
                assert!(!format!("{parsed:?}").contains("secret"), "{text}");
            }
        };
        check("postgres://me:secret@db.example/ghl?sslmode=verify-full", true);
        for mode in ["", "?sslmode=disable", "?sslmode=prefer", "?sslmode=require", "?sslmode=verify-ca"] {
            let parsed = PostgresUrl::parse(&format!("postgres://me:secret@db.example/ghl{mode}"));
            assert_eq!(parsed, Err(InvalidStoreUrl::Unverified), "{mode}");
        }
        check("postgres://me:secret@10.0.0.1/ghl", false);
        check("postgres://me:secret@127.0.0.1,db.example/ghl", false);
        check("postgres://me:secret@localhost/ghl?host=db.example", false);
        check("postgres://me:secret@127.0.0.1/ghl?hostaddr=10.0.0.1", false);
        check("postgres://me:secret@localhost/ghl?sslmode=require", false);
        check("postgres://me:secret@localhost.example/ghl", false);
        check("postgres://me:secret@localhost:5432/ghl", true);
        check("postgres://me:secret@127.0.0.1:5432/ghl?sslmode=disable", true);
        check("postgres://me:secret@[::1]:5432/ghl", true);
        check("postgresql://me@%2Fvar%2Frun%2Fpostgresql/ghl", true);
        check("postgres://me@/ghl?host=/var/run/postgresql", true);
        check("postgres://me:secret@localhost/ghl?schema=Other", false);
        check("postgres://me:secret@localhost/ghl?schema=a\"b", false);
        check("postgres://me:secret@localhost/ghl?pool=0", false);
        check("postgres://me:secret@localhost/ghl?unknown=1", false);
        check("postgres://me:what?secret=1@localhost/ghl", false);
        check("postgres://me:secret@/ghl", false);
        check("postgres:me:secret", false);
    }

    #[test]
    fn an_address_is_shown_without_its_password() {
        let url = "postgres://me:s3cret@localhost:5433/ghl?schema=one&pool=3&sslmode=disable";
        let url = StoreUrl::parse(url).expect("an address");
        assert_eq!(url.to_string(), "postgres://me@localhost:5433/ghl?schema=one");
        assert!(!format!("{url:?}").contains("s3cret"));
    }

    #[test]
    fn each_named_app_has_a_database_of_its_own() {
        let check = |text, expected: Option<&str>| {
            let url = StoreUrl::parse(text).expect("a store").for_app("crm");
            assert_eq!(url.map(|url| url.to_string()).as_deref(), expected, "{text}");
        };
        check("sqlite:/var/lib/ghl.db", Some("sqlite:/var/lib/ghl.crm.db"));
        check("sqlite:ghl.1.db", Some("sqlite:ghl.1.crm.db"));
        check("sqlite:/var/lib.d/ghl", Some("sqlite:/var/lib.d/ghl.crm"));
        check("sqlite:.ghl", Some("sqlite:.ghl.crm"));
        check("sqlite:..", None);
        check("file:ghl_tokens.json", None);
        check("postgres://me@localhost/ghl", Some("postgres://me@localhost:5432/ghl?schema=ghl_auth_crm"));
    }
}
