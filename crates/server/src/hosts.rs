//! By which names the service lets itself be called: a page in someone's browser that points a name
//! of its own at this machine is not let in (DNS rebinding).

use http::header::HOST;
use http::{HeaderMap, StatusCode};

const LOOPBACK: [&str; 3] = ["127.0.0.1", "[::1]", "localhost"];

/// Checks the `Host` header, before anything else is looked at.
pub(crate) fn check(headers: &HeaderMap, known: &[String]) -> Result<(), StatusCode> {
    let mut all = headers.get_all(HOST).iter();
    let (Some(host), None) = (all.next(), all.next()) else { return Err(StatusCode::BAD_REQUEST) };
    check_one(host.as_bytes(), known)
}

/// Checks the value of the only `Host` header.
pub(crate) fn check_one(host: &[u8], known: &[String]) -> Result<(), StatusCode> {
    let host = std::str::from_utf8(host).map_err(|_| StatusCode::BAD_REQUEST)?;
    let name = without_port(host).ok_or(StatusCode::BAD_REQUEST)?;
    let is = |known: &str| known.eq_ignore_ascii_case(name);
    match LOOPBACK.iter().any(|known| is(known)) || known.iter().any(|known| is(known)) {
        true => Ok(()),
        false => Err(StatusCode::MISDIRECTED_REQUEST),
    }
}

fn without_port(host: &str) -> Option<&str> {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.find(']')) {
        Some(end) => host.split_at(end + 2),
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let good_port = match port.strip_prefix(':') {
        Some(digits) => (1..=5).contains(&digits.len()) && digits.bytes().all(|c| c.is_ascii_digit()),
        None => port.is_empty(),
    };
    (good_port && !name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn answer(hosts: &[&str]) -> Option<u16> {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, HeaderValue::from_bytes(host.as_bytes()).expect("a header"));
        }
        check(&headers, &["auth.example.com".to_owned()]).err().map(|status| status.as_u16())
    }

    #[test]
    fn it_answers_to_its_own_names_only() {
        for good in ["127.0.0.1", "127.0.0.1:8787", "localhost:1", "[::1]", "[::1]:8787", "LocalHost"] {
            assert_eq!(answer(&[good]), None, "{good}");
        }
        assert_eq!(answer(&["auth.example.com"]), None);
        assert_eq!(answer(&["Auth.Example.com:443"]), None);
        for foreign in ["evil.example", "127.0.0.1.nip.io", "localhost.", "localhost.evil.example", "0.0.0.0"]
        {
            assert_eq!(answer(&[foreign]), Some(421), "{foreign}");
        }
        for odd in ["", ":80", "localhost:", "localhost:http", "localhost:123456", "[::1]x", "a:b:c"] {
            assert_eq!(answer(&[odd]), Some(400), "{odd}");
        }
        assert_eq!(answer(&[]), Some(400));
        assert_eq!(answer(&["localhost", "localhost"]), Some(400));
    }
}
