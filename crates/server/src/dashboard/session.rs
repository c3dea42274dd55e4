//! Who is signed in: a cookie whose hash is kept among the records, so that all replicas know it and a sign-out
//! holds everywhere.
//!
//! A session begins with an admin key, or with a link that the terminal printed, and ends with the key, after half an
//! hour without use, after twelve hours, or by hand. A form has to bring back what is derived from the cookie, and to
//! come from a page of ours.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tokens::StoreError;
use tokens::records::{KeyId, Session, Verb};
use zeroize::Zeroizing;

use super::reader::Reader;
use super::{Form, sent_to};
use crate::browser::{cookie, form, is_form, random, sealed};
use crate::front::Front;

/// A session's use is noted so often at most.
const NOTED_EVERY: Duration = Duration::from_secs(60);

/// Whoever is signed in.
#[derive(Clone)]
pub(crate) struct Viewer {
    cookie: Arc<Zeroizing<String>>,
    pub(super) hash: [u8; 32],
}

impl Viewer {
    /// What a form has to bring back.
    pub(super) fn csrf(&self) -> String {
        URL_SAFE_NO_PAD.encode(sealed(&["form", &self.cookie]))
    }
}

/// Lets through who is signed in, and a form only if it is one of ours; everybody else goes to sign in.
pub(crate) async fn guard(front: &Front, parts: &mut Parts, body: Body) -> Result<(Viewer, Body), Response> {
    let reader = Reader::new(front, &parts.headers, None);
    let refused = || reader.problem(StatusCode::FORBIDDEN, "not_from_here").into_response();
    let viewer = viewer(front, &parts.headers).await;
    let viewer = viewer.map_err(|error| reader.of_store(&error).into_response())?;
    let is_look = matches!(parts.method, Method::GET | Method::HEAD);
    let Some(viewer) = viewer else {
        return Err(match is_look {
            true => to_sign_in(front, parts),
            false => refused(),
        });
    };
    if is_look {
        parts.extensions.insert(viewer.clone());
        return Ok((viewer, body));
    }
    if !is_form(&parts.headers) || !is_same_origin(&parts.headers) {
        return Err(refused());
    }
    let found = form(body).await.map_err(|_| refused())?;
    let brought = found.get("csrf").map(String::as_bytes).unwrap_or_default();
    let expected = viewer.csrf();
    if aws_lc_rs::constant_time::verify_slices_are_equal(brought, expected.as_bytes()).is_err() {
        return Err(refused());
    }
    parts.extensions.insert(viewer.clone());
    parts.extensions.insert(Form(found));
    Ok((viewer, Body::empty()))
}

/// Who is signed in by what a browser keeps.
pub(super) async fn viewer(front: &Front, headers: &HeaderMap) -> Result<Option<Viewer>, StoreError> {
    let Some(cookie) = [true, false].iter().find_map(|secure| cookie(headers, &cookie_name(front, *secure)))
    else {
        return Ok(None);
    };
    let (hash, now) = (sealed(&["session", cookie]), front.house.clock.now());
    let records = front.house.records.as_ref();
    let Some(session) = records.session(&hash).await?.filter(|session| session.is_good(now)) else {
        return Ok(None);
    };
    let is_let_in = session.key.as_ref().is_none_or(|key| front.keys.is_good(key, Verb::Admin, now));
    if !is_let_in {
        return Ok(None);
    }
    if now.since(session.used_at) >= NOTED_EVERY {
        records.use_session(&hash, now).await?;
    }
    Ok(Some(Viewer { cookie: Arc::new(Zeroizing::new(cookie.to_owned())), hash }))
}

/// Begins a session, and gives the browser what it is known by.
pub(super) async fn begin(
    front: &Front,
    headers: &HeaderMap,
    key: Option<KeyId>,
    to: &str,
) -> Result<Response, StoreError> {
    // Whoever had a session before has a new one, and that one alone.
    if let Some(before) = viewer(front, headers).await? {
        front.house.records.end_sessions(Some(&before.hash)).await?;
    }
    let (cookie, now) = (random(), front.house.clock.now());
    let session = Session { cookie: sealed(&["session", &cookie]), key, began_at: now, used_at: now };
    front.house.records.open_session(&session).await?;
    let secure = is_secure(headers);
    let (name, attributes) = (cookie_name(front, secure), if secure { "; Secure" } else { "" });
    let seconds = Session::WHOLE.as_secs();
    let kept = format!("{name}={cookie}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{attributes}");
    let mut response = sent_to(to);
    if let Ok(kept) = HeaderValue::try_from(kept) {
        response.headers_mut().insert(header::SET_COOKIE, kept);
    }
    Ok(response)
}

/// Takes away what a browser was known by.
pub(super) fn forget_cookies(front: &Front, response: &mut Response) {
    for (secure, attributes) in [(true, "; Secure"), (false, "")] {
        let gone = format!(
            "{}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0{attributes}",
            cookie_name(front, secure)
        );
        if let Ok(gone) = HeaderValue::try_from(gone) {
            response.headers_mut().append(header::SET_COOKIE, gone);
        }
    }
}

/// Whether a form was sent from a page of ours. Browsers say so in one of two ways, and no page can
/// say it in another's name.
pub(super) fn is_same_origin(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    if let Some(site) = text(header::HeaderName::from_static("sec-fetch-site")) {
        return site == "same-origin";
    }
    let origin = text(header::ORIGIN).and_then(|origin| origin.split_once("://"));
    origin.is_some_and(|(_, authority)| text(header::HOST) == Some(authority))
}

/// Whether the browser came by TLS. Where something in front of us says so, it can only make a cookie stricter.
fn is_secure(headers: &HeaderMap) -> bool {
    headers.get("x-forwarded-proto").is_some_and(|proto| proto == "https")
}

fn cookie_name(front: &Front, secure: bool) -> String {
    let name = if secure { "__Host-ghl-auth-session" } else { "ghl-auth-session" };
    match &front.house.app {
        None => name.to_owned(),
        Some(app) => format!("{name}-{app}"),
    }
}

fn to_sign_in(front: &Front, parts: &Parts) -> Response {
    let asked = parts.uri.path_and_query().map_or("/", |asked| asked.as_str());
    let to: String = form_urlencoded::byte_serialize(asked.as_bytes()).collect();
    sent_to(&format!("{}/sign-in?to={to}", front.prefix))
}

/// Where a person goes on after signing in: a path of ours and nothing else, whoever wrote the link.
pub(super) fn safe_path(wanted: &str) -> &str {
    let is_plain = wanted.bytes().all(|c| c.is_ascii_graphic() && c != b'\\');
    match wanted.starts_with('/') && !wanted.starts_with("//") && is_plain {
        true => wanted,
        false => "/",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_ours_when_the_browser_says_so() {
        let check = |headers: &[(&'static str, &'static str)], expected| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(*name, HeaderValue::from_static(value));
            }
            assert_eq!(is_same_origin(&map), expected, "{headers:?}");
        };
        let host = ("host", "127.0.0.1:8787");
        check(&[host, ("sec-fetch-site", "same-origin")], true);
        check(&[host, ("sec-fetch-site", "cross-site"), ("origin", "http://127.0.0.1:8787")], false);
        check(&[host, ("sec-fetch-site", "same-site")], false);
        check(&[host, ("sec-fetch-site", "none")], false);
        check(&[host, ("origin", "http://127.0.0.1:8787")], true);
        check(&[host, ("origin", "http://127.0.0.1:8788")], false);
        check(&[host, ("origin", "http://evil.example")], false);
        check(&[host, ("origin", "null")], false);
        check(&[host], false);
    }

    #[test]
    fn no_link_leads_away_from_us() {
        for ours in ["/", "/installations?q=a%20b", "/installations/location/x", "/a//b"] {
            assert_eq!(safe_path(ours), ours);
        }
        for other in [
            "",
            "installations",
            "//evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "https://evil.example",
            "javascript:alert(1)",
            "/\tevil",
            "/ x",
            "/\r\nset-cookie: a=b",
            "/é",
        ] {
            assert_eq!(safe_path(other), "/", "{other:?}");
        }
    }
}
