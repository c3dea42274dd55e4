//! Which headers pass, and which stay: between the caller and us, and between us and HighLevel.

use std::ops::Range;

use highlevel::is_field;
use httparse::Header;

/// What becomes of a caller's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is sent on as it is.
    Passes,
    /// It is about this connection only, or ours to set, or nobody's to send.
    Stays,
    /// It stays, and changes how the request is read: `Connection`.
    Lists,
    /// The `Version`, which is the caller's to choose.
    Version,
}

/// What becomes of a header of a request.
pub(crate) fn fate(name: &str) -> Fate {
    let is = |known: &str| is_field(name, known);
    let begins = |prefix: &str| name.get(..prefix.len()).is_some_and(|it| it.eq_ignore_ascii_case(prefix));
    // What reads `x_forwarded_for` as `x-forwarded-for` is never far.
    if name.bytes().any(|c| c == b'_') {
        return Fate::Stays;
    }
    let stays = match name.as_bytes().first().map(u8::to_ascii_lowercase) {
        Some(b'a') => is("authorization"),
        Some(b'c') if is("connection") => return Fate::Lists,
        Some(b'c') => is("cookie") || is("content-length"),
        Some(b'e') => is("expect"),
        Some(b'f') => is("forwarded"),
        Some(b'h') => is("host") || is("http2-settings"),
        Some(b'k') => is("keep-alive"),
        Some(b'p') => {
            is("prefer") || is("proxy-connection") || is("proxy-authorization") || is("proxy-authenticate")
        }
        Some(b't') => is("te") || is("trailer") || is("transfer-encoding"),
        Some(b'u') => is("upgrade"),
        Some(b'v') if is("version") => return Fate::Version,
        Some(b'x') => {
            is("x-location-id")
                || is("x-company-id")
                || is("x-real-ip")
                // The method that a key may use is the one in the first line.
                || is("x-http-method-override")
                || is("x-http-method")
                || is("x-method-override")
                || begins("x-forwarded")
                || begins("x-original-")
                || begins("x-rewrite-")
        }
        _ => false,
    };
    if stays { Fate::Stays } else { Fate::Passes }
}

/// Whether a header of HighLevel's answer goes on to the caller: all but those about our connection, and
/// those by which we speak ourselves.
pub(crate) fn goes_back(name: &str) -> bool {
    let is = |known: &str| is_field(name, known);
    !match name.as_bytes().first().map(u8::to_ascii_lowercase) {
        Some(b'c') => is("connection") || is("content-length"),
        Some(b'g') => is("ghl-auth-hint") || is("ghl-auth-quota"),
        Some(b'k') => is("keep-alive"),
        Some(b'p') => is("proxy-connection") || is("proxy-authenticate"),
        Some(b't') => is("te") || is("trailer") || is("transfer-encoding"),
        Some(b'u') => is("upgrade"),
        _ => false,
    }
}

/// Copies lines of a head. Those that stand side by side are copied in one go, as they came.
pub(crate) struct Copying<'a> {
    head: &'a [u8],
    run: Range<usize>,
}

impl<'a> Copying<'a> {
    pub(crate) fn of(head: &'a [u8]) -> Self {
        Self { head, run: 0..0 }
    }

    /// One more header, which stands in the head.
    pub(crate) fn copy(&mut self, header: &Header<'_>, into: &mut Vec<u8>) {
        match self.line_of(header) {
            Some(line) if line.start == self.run.end => self.run.end = line.end,
            Some(line) => {
                self.flush(into);
                self.run = line;
            }
            None => {
                self.flush(into);
                write_header(into, header.name, header.value);
            }
        }
    }

    /// There is no other.
    pub(crate) fn end(mut self, into: &mut Vec<u8>) {
        self.flush(into);
    }

    fn flush(&mut self, into: &mut Vec<u8>) {
        into.extend_from_slice(&self.head[std::mem::take(&mut self.run)]);
    }

    /// Where a header's line lies, if it is written as we would write it: blanks and ends of lines are read in
    /// more than one way.
    fn line_of(&self, header: &Header<'_>) -> Option<Range<usize>> {
        let start = header.name.as_ptr().addr().checked_sub(self.head.as_ptr().addr())?;
        let colon = start + header.name.len();
        let end = colon + 2 + header.value.len() + 2;
        let rest = self.head.get(colon..end)?;
        (rest.starts_with(b": ") && rest.ends_with(b"\r\n")).then_some(start..end)
    }
}

pub(crate) fn write_header(into: &mut Vec<u8>, name: &str, value: &[u8]) {
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        into.extend_from_slice(part);
    }
}

/// What a `Connection` header lists, beside what is ours to set anyway.
pub(crate) fn listed(value: &[u8]) -> impl Iterator<Item = &str> {
    let text = std::str::from_utf8(value).unwrap_or_default();
    text.split(',').map(str::trim).filter(|name| !name.is_empty())
}

/// For how many seconds a caller waits for a turn: `Prefer: wait=5` (RFC 7240, 4.3).
pub(crate) fn wait_preferred(value: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(value).ok()?;
    let wait = text.split([',', ';']).find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("wait").then(|| value.trim().trim_matches('"'))
    })?;
    wait.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_about_one_connection_or_says_who_someone_is_stays() {
        for stays in [
            "Authorization",
            "COOKIE",
            "host",
            "x-location-id",
            "X-Company-Id",
            "x-forwarded-for",
            "X-Forwarded-Host",
            "X-ForwardedFor",
            "Forwarded",
            "x-original-url",
            "X-Rewrite-URL",
            "x-real-ip",
            "te",
            "Trailer",
            "upgrade",
            "Transfer-Encoding",
            "content-length",
            "keep-alive",
            "Proxy-Connection",
            "proxy-authorization",
            "x_forwarded_for",
            "content_length",
            "_",
            "prefer",
            "expect",
            "HTTP2-Settings",
        ] {
            assert_eq!(fate(stays), Fate::Stays, "{stays}");
        }
        for passes in
            ["accept", "Content-Type", "x-request-id", "user-agent", "if-match", "x-custom", "authorizations"]
        {
            assert_eq!(fate(passes), Fate::Passes, "{passes}");
        }
        assert_eq!((fate("Connection"), fate("VERSION")), (Fate::Lists, Fate::Version));
    }

    #[test]
    fn of_an_answer_all_goes_back_but_what_is_about_our_connection() {
        for back in
            ["set-cookie", "x-ratelimit-max", "etag", "content-encoding", "Location", "upgrade-insecure"]
        {
            assert!(goes_back(back), "{back}");
        }
        for stays in
            ["Connection", "keep-alive", "Transfer-Encoding", "content-length", "Ghl-Auth-Hint", "Upgrade"]
        {
            assert!(!goes_back(stays), "{stays}");
        }
    }

    /// The lines of a head but those called `x`, as they are copied.
    fn copied(head: &str) -> String {
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut request = httparse::Request::new(&mut headers);
        let length = request.parse(head.as_bytes()).expect("a head").unwrap();
        let mut copying = Copying::of(&head.as_bytes()[..length]);
        let mut into = Vec::new();
        for header in request.headers.iter().filter(|header| header.name != "x") {
            copying.copy(header, &mut into);
        }
        copying.end(&mut into);
        String::from_utf8(into).expect("text")
    }

    #[test]
    fn lines_are_copied_as_they_came_and_the_odd_ones_as_we_write_them() {
        let check = |lines: &str, expected: &str| {
            assert_eq!(copied(&format!("GET / HTTP/1.1\r\n{lines}\r\n")), expected, "{lines:?}");
        };
        check("a: 1\r\nB: 2\r\nc: 3\r\n", "a: 1\r\nB: 2\r\nc: 3\r\n");
        check("x: 0\r\na: 1\r\nx: 2\r\nb: 3\r\nx: 4\r\n", "a: 1\r\nb: 3\r\n");
        check("a:1\r\nb:  2\r\nc: 3 \r\nd:\t4\r\n", "a: 1\r\nb: 2\r\nc: 3\r\nd: 4\r\n");
        check("a: 1\nb: 2\r\nc:\r\nd: \r\ne:\n", "a: 1\r\nb: 2\r\nc: \r\nd: \r\ne: \r\n");
        check("", "");
        check("x: 1\r\n", "");
    }

    #[test]
    fn a_caller_says_for_how_long_to_wait() {
        let check = |value: &str, expected: Option<u32>| {
            assert_eq!(wait_preferred(value.as_bytes()), expected, "{value}")
        };
        check("wait=5", Some(5));
        check("respond-async, wait=10", Some(10));
        check("Wait = \"0\"", Some(0));
        check("handling=lenient; wait=7", Some(7));
        check("wait=soon", None);
        check("wait", None);
        check("await=3", None);
    }
}
