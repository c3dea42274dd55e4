//! What HighLevel's refusal of a request means, and whether a new token cures it.
//!
//! HighLevel says 401 for six different things (fact sheet, 5.4); only one of them is a matter for a
//! refresh. For all others the caller is told what it means in `Ghl-Auth-Hint`, beside HighLevel's own
//! answer.

use highlevel::{FailureKind, meaning};
use http::{HeaderName, HeaderValue, StatusCode};
use upkeep::Speech;

/// Where a hint stands.
pub(crate) const HINT: HeaderName = HeaderName::from_static("ghl-auth-hint");

/// A body that is longer says nothing that is looked at.
pub(crate) const LONGEST_REFUSAL: usize = 64 * 1024;

/// What an answer calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The token is refused; a refresh may cure it.
    Token,
    /// Too many calls, whoever made them.
    TooMany,
    /// Nothing that we can do: it is passed back with a word of what it means, if that is known.
    Final(Option<Hint>),
}

/// What a refusal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hint {
    TokenRefused,
    NotSentAgain,
    PrivateTokenRefused,
    ScopeMissing,
    WrongClass,
    OtherLocation,
    VersionRefused,
    NotActive,
    RateLimited,
}

impl Hint {
    #[cfg(test)]
    pub(crate) const ALL: [Hint; 9] = [
        Self::TokenRefused,
        Self::NotSentAgain,
        Self::PrivateTokenRefused,
        Self::ScopeMissing,
        Self::WrongClass,
        Self::OtherLocation,
        Self::VersionRefused,
        Self::NotActive,
        Self::RateLimited,
    ];

    /// Its name, a promise to programs.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::TokenRefused => "token_refused",
            Self::NotSentAgain => "not_sent_again",
            Self::PrivateTokenRefused => "private_token_refused",
            Self::ScopeMissing => "scope_missing",
            Self::WrongClass => "wrong_class",
            Self::OtherLocation => "other_location",
            Self::VersionRefused => "version_refused",
            Self::NotActive => "not_active",
            Self::RateLimited => "rate_limited",
        }
    }

    /// The header's value: the name, and a sentence in letters that a header can carry.
    pub(crate) fn value(self, speech: &dyn Speech) -> HeaderValue {
        let sentence = speech.say(&format!("hint-{}", self.code()), &[]);
        let text = format!("{}; {}", self.code(), plain(&sentence));
        HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(self.code()))
    }
}

/// Whether an answer with this status may be one of those that are looked into.
pub(crate) fn is_looked_into(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 401 | 403 | 429)
}

/// What an answer means, from its status and its body.
pub(crate) fn refusal(status: StatusCode, body: &[u8]) -> Refusal {
    let hint = match meaning(status, body).kind {
        FailureKind::TokenRefused => return Refusal::Token,
        FailureKind::RateLimited { .. } => return Refusal::TooMany,
        FailureKind::PrivateTokenRefused => Hint::PrivateTokenRefused,
        FailureKind::ScopeMissing => Hint::ScopeMissing,
        FailureKind::WrongClass => Hint::WrongClass,
        FailureKind::OtherLocation => Hint::OtherLocation,
        FailureKind::VersionRefused => Hint::VersionRefused,
        FailureKind::NotActive => Hint::NotActive,
        FailureKind::ContactNotFound
        | FailureKind::Unavailable
        | FailureKind::Unreachable
        | FailureKind::NoAnswer
        | FailureKind::Unreadable
        | FailureKind::Other => return Refusal::Final(None),
    };
    Refusal::Final(Some(hint))
}

/// A sentence without its accents: a header has no other letters that everybody reads alike.
fn plain(sentence: &str) -> String {
    let letter = |c: char| match c {
        'á' | 'à' | 'â' | 'ã' => 'a',
        'é' | 'ê' => 'e',
        'í' => 'i',
        'ó' | 'ô' | 'õ' => 'o',
        'ú' | 'ü' => 'u',
        'ç' => 'c',
        'Á' | 'À' | 'Â' | 'Ã' => 'A',
        'É' | 'Ê' => 'E',
        'Í' => 'I',
        'Ó' | 'Ô' | 'Õ' => 'O',
        'Ú' => 'U',
        'Ç' => 'C',
        '“' | '”' => '"',
        '‘' | '’' => '\'',
        c if c.is_ascii_graphic() => c,
        _ => ' ',
    };
    sentence.chars().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refused_token_is_worth_a_refresh() {
        let check = |status: u16, said: &str, expected: Refusal| {
            let body = serde_json::json!({ "statusCode": status, "message": said }).to_string();
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(refusal(status, body.as_bytes()), expected, "{status} {said}");
        };
        check(401, "Invalid JWT", Refusal::Token);
        check(401, "Invalid token: access token is invalid", Refusal::Token);
        let hint = |hint| Refusal::Final(Some(hint));
        check(401, "Invalid Private Integration token", hint(Hint::PrivateTokenRefused));
        check(401, "The token is not authorized for this scope.", hint(Hint::ScopeMissing));
        check(401, "This authClass type is not allowed to access this scope.", hint(Hint::WrongClass));
        check(401, "version header was not found.", hint(Hint::VersionRefused));
        check(400, "Invalid API version segment 'x' at position 0", hint(Hint::VersionRefused));
        check(403, "The token does not have access to this location.", hint(Hint::OtherLocation));
        check(400, "Location is not active", hint(Hint::NotActive));
        check(429, "Too Many Requests", Refusal::TooMany);
        check(401, "Unauthorized", Refusal::Final(None));
        check(403, "Forbidden resource", Refusal::Final(None));
        check(400, "Contact not found for id:x", Refusal::Final(None));
        assert_eq!(refusal(StatusCode::UNAUTHORIZED, b"<html>"), Refusal::Final(None));
    }

    #[test]
    fn a_sentence_in_portuguese_fits_into_a_header() {
        assert_eq!(
            plain("O token não tem o escopo “contatos”, ação às 5\u{a0}h\n"),
            "O token nao tem o escopo \"contatos\", acao as 5 h "
        );
        for hint in Hint::ALL {
            assert!(HeaderValue::try_from(hint.code()).is_ok());
        }
    }
}
