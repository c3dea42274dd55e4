//! Who may turn the sandbox's own controls.
//!
//! They have no key: curl, tests and a person at this machine use them as they are. A page that someone has open in a
//! browser is not to: neither by a form or a fetch of its own (its browser says where it comes from), nor by a name
//! of its own that it points at this machine (DNS rebinding).

use std::net::IpAddr;

use axum::http::HeaderMap;
use axum::http::header::{HOST, ORIGIN};
use serde_json::json;

use crate::call::Answer;

/// Why someone is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Not called by a name of this machine.
    OtherName,
    /// A browser says that another site's page wants it.
    OtherSite,
}

impl Kept {
    pub(crate) fn answer(self) -> Answer {
        let (status, error) = match self {
            Self::OtherName => (421, "the sandbox's controls answer to names of this machine only"),
            Self::OtherSite => (403, "another site's page may not turn the sandbox's controls"),
        };
        Answer::json(status, json!({ "error": error }))
    }
}

/// Decides whether a request for the controls is answered.
pub(crate) fn admit(method: &str, headers: &HeaderMap) -> Result<(), Kept> {
    let text = |name: &str| -> Result<Option<&str>, ()> {
        let mut all = headers.get_all(name).iter();
        match (all.next(), all.next()) {
            (None, _) => Ok(None),
            (Some(one), None) => one.to_str().map(Some).map_err(drop),
            _ => Err(()),
        }
    };
    let host = text(HOST.as_str()).map_err(|()| Kept::OtherName)?;
    if host.is_some_and(|host| !is_of_this_machine(host)) {
        return Err(Kept::OtherName);
    }
    if matches!(method, "GET" | "HEAD") {
        return Ok(());
    }
    let (origin, site) = (text(ORIGIN.as_str()), text("sec-fetch-site"));
    let (Ok(origin), Ok(site)) = (origin, site) else { return Err(Kept::OtherSite) };
    let own = |origin: &str| {
        let authority = origin.strip_prefix("http://");
        authority.zip(host).is_some_and(|(authority, host)| authority.eq_ignore_ascii_case(host))
    };
    let same = origin.is_none_or(own) && site.is_none_or(|site| matches!(site, "same-origin" | "none"));
    if same { Ok(()) } else { Err(Kept::OtherSite) }
}

fn is_of_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, _)) => name,
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn check(method: &str, headers: &[(&str, &str)], expected: Result<(), Kept>) {
        let mut all = HeaderMap::new();
        for (name, value) in headers {
            let name = HeaderName::try_from(*name).expect("a name");
            all.append(name, HeaderValue::try_from(*value).expect("a value"));
        }
        assert_eq!(admit(method, &all), expected, "{method} {headers:?}");
    }

    #[test]
    fn it_answers_to_names_of_this_machine_only() {
        for host in ["127.0.0.1:8790", "127.0.0.1", "localhost:1", "LocalHost", "[::1]:8790", "127.1.2.3"] {
            check("GET", &[("host", host)], Ok(()));
            check("POST", &[("host", host)], Ok(()));
        }
        for host in ["evil.example", "127.0.0.1.nip.io", "localhost.evil.example", "10.0.0.1", "[::2]", ""] {
            check("GET", &[("host", host)], Err(Kept::OtherName));
        }
        check("GET", &[("host", "localhost"), ("host", "evil.example")], Err(Kept::OtherName));
        check("GET", &[], Ok(()));
    }

    #[test]
    fn a_browser_acts_for_our_own_pages_only() {
        let host = ("host", "127.0.0.1:8790");
        let own = ("origin", "http://127.0.0.1:8790");
        check("POST", &[host, own], Ok(()));
        check("POST", &[host, own, ("sec-fetch-site", "same-origin")], Ok(()));
        check("POST", &[host, ("sec-fetch-site", "none")], Ok(()));
        for origin in [
            "null",
            "http://evil.example",
            "http://127.0.0.1:8791",
            "https://127.0.0.1:8790",
            "http://localhost:8790",
        ] {
            check("POST", &[host, ("origin", origin)], Err(Kept::OtherSite));
            check("DELETE", &[host, ("origin", origin)], Err(Kept::OtherSite));
        }
        for site in ["cross-site", "same-site", "same-origin, cross-site"] {
            check("POST", &[host, own, ("sec-fetch-site", site)], Err(Kept::OtherSite));
        }
        check("POST", &[host, own, ("origin", "http://evil.example")], Err(Kept::OtherSite));
        check("POST", &[own], Err(Kept::OtherSite));
        // Reading is kept from other sites by their browsers.
        check("GET", &[host, ("sec-fetch-site", "cross-site")], Ok(()));
    }
}
