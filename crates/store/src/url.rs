//! Where a store is, as `GHL_STORE` says it.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

/// A place of rest: `file:PATH` or `sqlite:PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// One installation in the template's `ghl_tokens.json`.
    File(PathBuf),
    /// Any number of installations in a database, sealed.
    Sqlite(PathBuf),
}

/// A text that names no store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidStoreUrl {
    /// PostgreSQL is meant, and this version has none. The address is not repeated: it may hold a password.
    #[error("`postgres:` is not in this version; use `sqlite:PATH` or `file:PATH`")]
    PostgresNotYet,
    /// There is nothing behind the colon.
    #[error("`{0}:` names no path")]
    NoPath(&'static str),
    /// It begins with neither.
    #[error("a store is `file:PATH` or `sqlite:PATH`")]
    UnknownKind,
}

impl StoreUrl {
    /// Reads `file:PATH` or `sqlite:PATH`; `file:///PATH` and `sqlite://PATH` mean the same.
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
            "postgres" | "postgresql" => Err(InvalidStoreUrl::PostgresNotYet),
            _ => Err(InvalidStoreUrl::UnknownKind),
        }
    }

    /// Where the grants of a named app rest, beside those of the app without a name: for `ghl.db`
    /// that is `ghl.NAME.db`. A file has room for one app's only.
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
        }
    }

    /// The file or the database.
    pub fn path(&self) -> &Path {
        match self {
            Self::File(path) | Self::Sqlite(path) => path,
        }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
        }
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
        check("postgres://me:secret@db/ghl", Err(InvalidStoreUrl::PostgresNotYet));
        check("postgresql://db/ghl", Err(InvalidStoreUrl::PostgresNotYet));
        check("ghl_tokens.json", Err(InvalidStoreUrl::UnknownKind));
        check("mysql:x", Err(InvalidStoreUrl::UnknownKind));
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
    }
}
