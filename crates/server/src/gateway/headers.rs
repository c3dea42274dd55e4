//! Which headers pass, and which stay: between the caller and us, and between us and HighLevel.

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
    let is = |known: &str| name.eq_ignore_ascii_case(known);
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
    let is = |known: &str| name.eq_ignore_ascii_case(known);
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
