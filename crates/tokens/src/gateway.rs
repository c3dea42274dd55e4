//! What a key may do at the gateway, and in which lane: pure, so that it can be read as a table.

use std::fmt;
use std::str::FromStr;

/// In which lane a key's requests wait for their turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Someone waits for the answer: these go first.
    #[default]
    Interactive,
    /// Nobody does: these get what is left, and always a little.
    Batch,
}

impl Lane {
    /// Every lane there is.
    pub const ALL: [Lane; 2] = [Self::Interactive, Self::Batch];

    /// The word for it at rest and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Batch => "batch",
        }
    }

    /// The inverse of `as_str`.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|lane| lane.as_str() == word)
    }
}

/// Requests that a key may send: methods, and a pattern of paths. `GET,POST /contacts/*`.
///
/// `*` stands for one part of a path, `**` at the end for any number of them; for a method, `*` stands for
/// any. It is compared byte for byte with the path that is sent: what is written with an escape matches
/// no letter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Allowed {
    methods: Vec<String>,
    pattern: String,
}

/// Why a text does not say what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAllowed {
    /// Not methods, a space and a path.
    #[error("it must be methods and a path, as in `GET,POST /contacts/*`")]
    Form,
    /// A method that is none.
    #[error("`{0}` is no method: capital letters, or `*` for any")]
    Method(String),
    /// A pattern that could match nothing that is sent.
    #[error(
        "`{0}` is no pattern: a path from its `/` on, with `*` for one part and `**` at the end for the rest"
    )]
    Pattern(String),
}

impl FromStr for Allowed {
    type Err = InvalidAllowed;

    fn from_str(text: &str) -> Result<Self, InvalidAllowed> {
        let (methods, pattern) = text.trim().split_once(' ').ok_or(InvalidAllowed::Form)?;
        let methods: Vec<String> = methods.split(',').map(str::to_owned).collect();
        let is_method = |method: &String| {
            method == "*" || (!method.is_empty() && method.bytes().all(|c| c.is_ascii_uppercase()))
        };
        if let Some(odd) = methods.iter().find(|method| !is_method(method)) {
            return Err(InvalidAllowed::Method(odd.clone()));
        }
        let pattern = pattern.trim();
        let good = |c: u8| c.is_ascii_graphic() && !matches!(c, b'?' | b'#' | b'\\');
        let parts: Vec<&str> = pattern.split('/').collect();
        let (last, others) = parts.split_last().ok_or(InvalidAllowed::Form)?;
        let is_whole = |part: &&str| *part == "*" || !part.contains('*');
        if !pattern.starts_with('/')
            || !pattern.bytes().all(good)
            || !others.iter().all(is_whole)
            || !(*last == "**" || is_whole(last))
        {
            return Err(InvalidAllowed::Pattern(pattern.to_owned()));
        }
        Ok(Self { methods, pattern: pattern.to_owned() })
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.methods.join(","), self.pattern)
    }
}

impl Allowed {
    /// Whether a request with this method and this path, without its query, is one of these.
    pub fn has(&self, method: &str, path: &str) -> bool {
        self.methods.iter().any(|known| known == "*" || known == method) && fits(&self.pattern, path)
    }
}

fn fits(pattern: &str, path: &str) -> bool {
    let (mut pattern, mut path) = (pattern.split('/'), path.split('/'));
    loop {
        match (pattern.next(), path.next()) {
            (None, None) => return true,
            (Some("**"), Some(_)) => return true,
            (Some("*"), Some(part)) if !part.is_empty() => {}
            (Some(known), Some(part)) if known == part => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_has_the_paths_that_it_shows() {
        let check = |allowed: &str, method: &str, path: &str, expected: bool| {
            let allowed: Allowed = allowed.parse().expect("a pattern");
            assert_eq!(allowed.has(method, path), expected, "{allowed}: {method} {path}");
        };
        check("GET /contacts/*", "GET", "/contacts/abc", true);
        check("GET /contacts/*", "GET", "/contacts/", false);
        check("GET /contacts/*", "GET", "/contacts", false);
        check("GET /contacts/*", "GET", "/contacts/abc/tags", false);
        check("GET /contacts/*", "POST", "/contacts/abc", false);
        check("GET /contacts/*", "get", "/contacts/abc", false);
        check("GET,POST /contacts/*/tags", "POST", "/contacts/abc/tags", true);
        check("GET /contacts/", "GET", "/contacts/", true);
        check("GET /contacts/", "GET", "/contacts/a", false);
        check("* /contacts/**", "DELETE", "/contacts/abc/tags", true);
        check("* /contacts/**", "GET", "/contacts/", true);
        check("* /contacts/**", "GET", "/contacts", false);
        check("* /contacts/**", "GET", "/contactsx", false);
        check("* /**", "PATCH", "/anything/at/all", true);
        // The same bytes, not the same meaning.
        check("GET /contacts/abc", "GET", "/contacts/%61bc", false);
        check("GET /contacts/*", "GET", "//contacts/abc", false);
        check("GET /Contacts/*", "GET", "/contacts/abc", false);
    }

    #[test]
    fn what_could_match_nothing_is_refused() {
        for odd in ["", "GET", "/contacts", "get /contacts", "GET, /contacts", "G-T /x"] {
            assert!(odd.parse::<Allowed>().is_err(), "{odd}");
        }
        for odd in ["contacts", "/con*", "/**/tags", "/contacts?x=1", "/a b", "/a#b", "/a\\b", "/é"] {
            assert_eq!(format!("GET {odd}").parse::<Allowed>(), Err(InvalidAllowed::Pattern(odd.to_owned())));
        }
        let back = |text: &str| text.parse::<Allowed>().map(|allowed| allowed.to_string());
        assert_eq!(back("GET,POST  /contacts/*/tags"), Ok("GET,POST /contacts/*/tags".to_owned()));
    }
}
