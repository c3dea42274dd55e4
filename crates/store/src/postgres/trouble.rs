//! What keeps a database from being used, as kinds that are cured in different ways.

use std::fmt;

use tokio_postgres::error::SqlState;

/// What somebody has to do something about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseCause {
    /// The name or the password is not the database's.
    Login,
    /// The server's own rules (`pg_hba.conf`) let nobody in this way.
    NotLetIn,
    /// The server has no database of that name.
    NoDatabase,
    /// The user may not do what was asked.
    NotAllowed,
    /// Nobody answers at the address.
    Unreached,
    /// The server's certificate is not one that is trusted for this name.
    Untrusted,
    /// The server speaks no TLS.
    NoTls,
    /// The server takes no more connections.
    Crowded,
    /// A table that ought to be there is not.
    TableMissing,
    /// Anything else, which the words alone explain.
    Other,
}

/// An engine's complaint, in its words, and what kind of cause it has.
#[derive(Debug)]
pub struct DatabaseTrouble {
    cause: DatabaseCause,
    said: String,
}

impl DatabaseTrouble {
    /// What there is to do something about.
    pub fn cause(&self) -> DatabaseCause {
        self.cause
    }

    pub(super) fn silent() -> Self {
        Self { cause: DatabaseCause::Unreached, said: "it does not answer".to_owned() }
    }

    /// In the server's words where it has any. Its details name values, and are left out.
    pub(super) fn of(error: &tokio_postgres::Error) -> Self {
        if let Some(said) = error.as_db_error() {
            let text = format!("{} ({})", said.message(), said.code().code());
            return Self { cause: of_code(said.code()), said: text };
        }
        let mut text = error.to_string();
        let mut inner = std::error::Error::source(error);
        let mut is_of_the_way = false;
        while let Some(source) = inner {
            text = format!("{text}: {source}");
            is_of_the_way |= source.is::<std::io::Error>();
            inner = source.source();
        }
        Self { cause: of_words(&text, is_of_the_way), said: text }
    }
}

fn of_code(code: &SqlState) -> DatabaseCause {
    let causes = [
        (SqlState::INVALID_PASSWORD, DatabaseCause::Login),
        (SqlState::INVALID_AUTHORIZATION_SPECIFICATION, DatabaseCause::NotLetIn),
        (SqlState::INVALID_CATALOG_NAME, DatabaseCause::NoDatabase),
        (SqlState::INSUFFICIENT_PRIVILEGE, DatabaseCause::NotAllowed),
        (SqlState::TOO_MANY_CONNECTIONS, DatabaseCause::Crowded),
        (SqlState::UNDEFINED_TABLE, DatabaseCause::TableMissing),
        (SqlState::ADMIN_SHUTDOWN, DatabaseCause::Unreached),
        (SqlState::CRASH_SHUTDOWN, DatabaseCause::Unreached),
        (SqlState::CANNOT_CONNECT_NOW, DatabaseCause::Unreached),
    ];
    causes.into_iter().find(|(known, _)| known == code).map_or(DatabaseCause::Other, |(_, cause)| cause)
}

/// What comes before the server says anything has no code, and words that differ by their library only.
fn of_words(text: &str, is_of_the_way: bool) -> DatabaseCause {
    match text {
        text if text.contains("does not support TLS") => DatabaseCause::NoTls,
        text if text.contains("TLS handshake") || text.contains("certificate") => DatabaseCause::Untrusted,
        text if text.contains("password") => DatabaseCause::Login,
        text if is_of_the_way || text.contains("connecting to server") => DatabaseCause::Unreached,
        _ => DatabaseCause::Other,
    }
}

impl fmt::Display for DatabaseTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.said)
    }
}

impl std::error::Error for DatabaseTrouble {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_before_the_servers_first_word_is_told_apart() {
        let check = |text: &str, is_of_the_way, expected| {
            assert_eq!(of_words(text, is_of_the_way), expected, "{text}");
        };
        let untrusted = "error performing TLS handshake: invalid peer certificate: UnknownIssuer";
        // The handshake's error travels as one of reading and writing.
        check(untrusted, true, DatabaseCause::Untrusted);
        check("error performing TLS handshake: server does not support TLS", false, DatabaseCause::NoTls);
        check(
            "error connecting to server: Connection refused (os error 111)",
            true,
            DatabaseCause::Unreached,
        );
        check("connection closed", false, DatabaseCause::Other);
        check("invalid configuration: password missing", false, DatabaseCause::Login);
    }
}
