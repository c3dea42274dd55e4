//! The target of a request that passes through: what is checked is what is sent, byte for byte.
//!
//! Whoever reads a path after us may take `%2e` for a dot, `\` for a slash, or cut at a `;`. A path that
//! could mean something else to such a reader is refused here, so that no allow-list is walked around.

use percent_encoding::percent_decode;

/// A target of which nothing is in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target<'a> {
    whole: &'a str,
    path: &'a str,
}

/// Which bytes stand in a target: what can be seen, but for what some take for the end of it or for a slash.
const GOOD: [bool; 256] = {
    let mut good = [false; 256];
    let mut c = b'!';
    while c <= b'~' {
        good[c as usize] = !matches!(c, b'#' | b'\\' | b'"' | b'<' | b'>');
        c += 1;
    }
    good
};

/// Characters that look like a dot, a slash or a backslash, and become one when a text is normalised
/// (Unicode NFKC).
const LOOK_ALIKE: [char; 12] = [
    '\u{2024}', '\u{2025}', '\u{2026}', '\u{2044}', '\u{2215}', '\u{2216}', '\u{29f8}', '\u{29f9}',
    '\u{fe52}', '\u{ff0e}', '\u{ff0f}', '\u{ff3c}',
];

impl<'a> Target<'a> {
    /// Takes what stands behind `/gateway`, if it is in no doubt.
    pub(crate) fn parse(whole: &'a str) -> Option<Self> {
        if !whole.bytes().all(|c| GOOD[usize::from(c)]) {
            return None;
        }
        let length = whole.bytes().position(|c| c == b'?').unwrap_or(whole.len());
        let path = &whole[..length];
        if is_plain(path) {
            return Some(Self { whole, path });
        }
        let mut parts = path.strip_prefix('/')?.as_bytes().split(|c| *c == b'/').peekable();
        while let Some(part) = parts.next() {
            let is_good = match part {
                // Only behind the last slash.
                b"" => parts.peek().is_none(),
                b"." | b".." => false,
                part => is_one_thing(part),
            };
            if !is_good {
                return None;
            }
        }
        Some(Self { whole, path })
    }

    /// The part before the query.
    pub(crate) fn path(self) -> &'a str {
        self.path
    }

    /// What stands behind the question mark.
    pub(crate) fn query(self) -> Option<&'a str> {
        self.whole.get(self.path.len() + 1..)
    }
}

/// Whether there is nothing to be decoded in a path, and no part of it is nothing or a dot: so are most.
fn is_plain(path: &str) -> bool {
    let Some(rest) = path.strip_prefix('/') else { return false };
    let mut before = b'/';
    rest.bytes().all(|c| {
        let is_odd = matches!(c, b'%' | b';' | b'.') || (c == b'/' && before == b'/');
        before = c;
        !is_odd
    })
}

/// Whether it means the same to whoever decodes it, once or twice, and whatever else they make of it.
fn is_one_thing(part: &[u8]) -> bool {
    if part.contains(&b';') || !has_whole_escapes(part) {
        return false;
    }
    let Ok(decoded) = percent_decode(part).decode_utf8() else { return false };
    let odd = |c: char| {
        matches!(c, '/' | '\\' | '%' | ';' | '?' | '#') || c.is_control() || LOOK_ALIKE.contains(&c)
    };
    // A part that is dots behind an escape, or a blank that someone may trim.
    !decoded.contains(odd) && !matches!(decoded.trim(), "." | ".." | "")
}

/// Whether each `%` has its two digits.
fn has_whole_escapes(part: &[u8]) -> bool {
    let is_digit = |c: Option<&u8>| c.is_some_and(u8::is_ascii_hexdigit);
    let escapes = part.iter().enumerate().filter(|(_, c)| **c == b'%');
    escapes.map(|(at, _)| at).all(|at| is_digit(part.get(at + 1)) && is_digit(part.get(at + 2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_no_doubt_is_sent_as_it_came() {
        for good in [
            "/",
            "/contacts/",
            "/contacts/abc",
            "/contacts/abc?x=1&y=%2e%2e/..;#".trim_end_matches('#'),
            "/locations/abc/tags/Vip%20Client",
            "/contacts/a%40b.example",
            "/a.b/..c/...",
            "/%C3%A9",
            "/a?b?c",
            "/a:b@c!d$e&f'(g)*+,=~-_",
        ] {
            assert!(Target::parse(good).is_some(), "{good}");
        }
        let target = Target::parse("/a/b?c=d?e").expect("a target");
        assert_eq!((target.path(), target.query()), ("/a/b", Some("c=d?e")));
        assert_eq!(Target::parse("/a").expect("a target").query(), None);
        assert_eq!(Target::parse("/a?").expect("a target").query(), Some(""));
    }

    #[test]
    fn what_could_mean_something_else_to_someone_is_refused() {
        for odd in [
            "",
            "contacts",
            "?x",
            "*",
            "//",
            "//a",
            "/a//b",
            "/.",
            "/..",
            "/../a",
            "/a/./b",
            "/a/..",
            "/a/../",
            "/%2e",
            "/%2e%2E/a",
            "/.%2e/a",
            "/a/%2e./b",
            "/%252e%252e/a",
            "/a%2fb",
            "/a%2Fb",
            "/a%5cb",
            "/a\\b",
            "/a%00",
            "/a%0d%0ab",
            "/a%0",
            "/a%",
            "/a%zz",
            "/a%u002e",
            "/%c0%ae%c0%ae/a",
            "/%c0%afa",
            "/%e0%80%ae/a",
            "/..;/a",
            "/a;b",
            "/a%3bb",
            "/a#b",
            "/a%23b",
            "/a%3fb",
            "/%ff0e",
            "/%ff",
            "/é",
            "/a b",
            "/a\tb",
            "/a\r\nb",
            "/%ef%bc%8e%ef%bc%8e/a",
            "/%ef%bc%8fa",
            "/%e2%80%a5/a",
            "/%20/a",
            "/%20..%20/a",
            "/a\"b",
            "/<a>",
            "/%7f",
        ] {
            assert_eq!(Target::parse(odd), None, "{odd}");
        }
    }
}
