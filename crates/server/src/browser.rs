//! A person authorises in a browser, and HighLevel sends the browser back with a code.
//!
//! Whoever starts gets a `state` and a cookie, and only both together are worth an exchange, once,
//! for ten minutes. An install that comes without them was started in HighLevel's marketplace; what
//! becomes of it is the operator's policy. Nothing is used up by a look: a HEAD, a prefetch and a
//! link scanner press no buttons and keep no cookies.

mod pages;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use serde_json::json;
use tokens::records::{Verb, Visit};
use tokens::{AuthorizationCode, InstallPolicy, KeeperError, Timestamp};
use tracing::Instrument as _;

use crate::api::{document, whole_body};
use crate::auth::{Source, held};
use crate::copies::rfc3339;
use crate::error::Problem;
use crate::front::Front;
use crate::house::{ConsentPage, Face};
use pages::Page;
pub(crate) use pages::escape;

/// How long a person has from the start to the end.
const WITHIN: Duration = Duration::from_secs(10 * 60);

const LONGEST_QUERY: usize = 4 * 1024;
const LONGEST_FORM: usize = 8 * 1024;

const PACE: Duration = Duration::from_secs(60);
const STRANGERS_AT_A_PACE: u32 = 30;

/// How many installs that nobody asked for HighLevel is asked about: anybody can press that button,
/// and HighLevel's patience is needed for the tokens that we have.
#[derive(Debug)]
pub(crate) struct Strangers(Mutex<(Timestamp, u32)>);

impl Strangers {
    pub(crate) fn new() -> Self {
        Self(Mutex::new((Timestamp::from_millis(0), 0)))
    }

    /// Whether there is room for one more.
    fn admit(&self, now: Timestamp) -> bool {
        let mut pace = held(&self.0);
        if now < pace.0 || now.since(pace.0) >= PACE {
            *pace = (now, 0);
        }
        pace.1 += 1;
        pace.1 <= STRANGERS_AT_A_PACE
    }
}

/// Makes a link that a person can open in a browser, once.
pub(crate) async fn links(State(front): State<Arc<Front>>) -> Result<Response, Problem> {
    let speech = front.house.speech.as_ref();
    let Some(consent) = &front.house.consent else {
        return Err(Problem::new(speech, StatusCode::CONFLICT, "no_app"));
    };
    let link = random();
    let expires_at = front.house.clock.now() + WITHIN;
    let visit = Visit { state: sealed(&["link", &link]), browser: [0; 32], expires_at };
    front.house.records.open_visit(&visit).await.map_err(|error| Problem::store(speech, &error))?;
    let url = format!("{}{}/oauth/start?link={link}", origin(&consent.app.redirect_uri), front.prefix);
    Ok(document(StatusCode::CREATED, &json!({ "url": url, "expires_at": rfc3339(expires_at) })))
}

/// Where the link leads: a button. A program with an admin key is sent on at once; at the public
/// listener no key is looked at.
pub(crate) async fn start_page(
    State(front): State<Arc<Front>>,
    axum::Extension(source): axum::Extension<Source>,
    axum::Extension(face): axum::Extension<Face>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let speech = front.house.speech.as_ref();
    let Some(consent) = &front.house.consent else {
        return Page::new(speech, StatusCode::CONFLICT, "no-app").into_response();
    };
    if face == Face::Private && headers.contains_key(header::AUTHORIZATION) {
        let caller = front.caller(&headers, source, front.house.clock.now()).await;
        return match caller.map(|caller| caller.may(Verb::Admin)) {
            Ok(Ok(())) => send_off(&front, consent).await,
            Ok(Err(forbidden)) => Problem::forbidden(speech, forbidden).into_response(),
            Err(unknown) => Problem::unknown(speech, unknown).into_response(),
        };
    }
    match parameters(query.as_deref()).and_then(|mut found| found.remove("link")) {
        Some(link) => Page::new(speech, StatusCode::OK, "start")
            .with_button(speech, &format!("{}/oauth/start", front.prefix), "link", &link)
            .leading_to(&origin(&consent.page))
            .into_response(),
        None => Page::new(speech, StatusCode::BAD_REQUEST, "no-link").into_response(),
    }
}

/// The button was pressed: the link is used up, and the browser goes to HighLevel.
pub(crate) async fn start(State(front): State<Arc<Front>>, body: Body) -> Response {
    let speech = front.house.speech.as_ref();
    let Some(consent) = &front.house.consent else {
        return Page::new(speech, StatusCode::CONFLICT, "no-app").into_response();
    };
    let mut found = match form(body).await {
        Ok(found) => found,
        Err(status) => return Page::new(speech, status, "odd").into_response(),
    };
    let Some(link) = found.remove("link") else {
        return Page::new(speech, StatusCode::BAD_REQUEST, "no-link").into_response();
    };
    match front.house.records.take_visit(&sealed(&["link", &link]), front.house.clock.now()).await {
        Ok(Some(_)) => send_off(&front, consent).await,
        Ok(None) => Page::new(speech, StatusCode::FORBIDDEN, "link-used").into_response(),
        Err(error) => unavailable(&front, &error),
    }
}

/// Sends the browser to HighLevel with a `state`, and gives it a cookie to come back with.
pub(crate) async fn send_off(front: &Front, consent: &ConsentPage) -> Response {
    let (state, cookie) = (random(), random());
    let expires_at = front.house.clock.now() + WITHIN;
    let visit = Visit {
        state: sealed(&["state", &state, &cookie]),
        browser: sealed(&["browser", &cookie]),
        expires_at,
    };
    if let Err(error) = front.house.records.open_visit(&visit).await {
        return unavailable(front, &error);
    }
    let mut response = StatusCode::SEE_OTHER.into_response();
    let headers = response.headers_mut();
    pages::protect(headers);
    let secure = is_secure(consent);
    let name = cookie_name(front, secure);
    let attributes = if secure { "; Secure" } else { "" };
    let seconds = WITHIN.as_secs();
    let cookie = format!("{name}={cookie}; Path=/; HttpOnly; SameSite=Lax; Max-Age={seconds}{attributes}");
    let (Ok(location), Ok(cookie)) =
        (HeaderValue::try_from(consent.link(Some(&state))), HeaderValue::try_from(cookie))
    else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    headers.insert(header::LOCATION, location);
    headers.insert(header::SET_COOKIE, cookie);
    response
}

/// The browser is back.
pub(crate) async fn callback(
    State(front): State<Arc<Front>>,
    method: Method,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    let speech = front.house.speech.as_ref();
    let page = |status, name| Page::new(speech, status, name).into_response();
    if method != Method::GET || is_prefetch(&headers) {
        return page(StatusCode::OK, "only-looking");
    }
    let query = uri.query().unwrap_or_default();
    if query.len() > LONGEST_QUERY {
        return page(StatusCode::URI_TOO_LONG, "odd");
    }
    let Some(mut found) = parameters(Some(query)) else { return page(StatusCode::BAD_REQUEST, "odd") };
    let Some(consent) = &front.house.consent else { return page(StatusCode::CONFLICT, "no-app") };
    if let Some(error) = found.remove("error") {
        let said = found.remove("error_description").map_or(error.clone(), |more| format!("{error}: {more}"));
        return Page::new(speech, StatusCode::BAD_REQUEST, "refused").with_words(&said).into_response();
    }
    let Some(code) = found.remove("code").filter(|code| !code.is_empty()) else {
        return page(StatusCode::BAD_REQUEST, "no-code");
    };
    let Some(state) = found.remove("state").filter(|state| !state.is_empty()) else {
        return offer_install(&front, uri.path(), &code);
    };
    let Some(cookie) = cookie(&headers, &cookie_name(&front, is_secure(consent))) else {
        return page(StatusCode::FORBIDDEN, "other-browser");
    };
    match front.house.records.take_visit(&sealed(&["state", &state, cookie]), front.house.clock.now()).await {
        Ok(Some(_)) => {}
        Ok(None) => return page(StatusCode::FORBIDDEN, "expired"),
        Err(error) => return unavailable(&front, &error),
    }
    connected(&front, front.house.keeper.connect(&AuthorizationCode::new(code)).await)
}

/// An install from the marketplace: a person has to press a button before its code is used.
fn offer_install(front: &Front, path: &str, code: &str) -> Response {
    let speech = front.house.speech.as_ref();
    if !has_room(front) {
        return Page::new(speech, StatusCode::FORBIDDEN, "no-installs").into_response();
    }
    let to = format!("{}{path}", front.prefix);
    Page::new(speech, StatusCode::OK, "install").with_button(speech, &to, "code", code).into_response()
}

/// Whether an install could be served or parked at all: nothing is exchanged to be thrown away.
fn has_room(front: &Front) -> bool {
    front.house.installs != InstallPolicy::Approve || front.house.keeper.store().can_park()
}

/// The button was pressed.
pub(crate) async fn confirm(State(front): State<Arc<Front>>, body: Body) -> Response {
    let speech = front.house.speech.as_ref();
    if front.house.consent.is_none() {
        return Page::new(speech, StatusCode::CONFLICT, "no-app").into_response();
    }
    if !has_room(&front) {
        return Page::new(speech, StatusCode::FORBIDDEN, "no-installs").into_response();
    }
    let mut found = match form(body).await {
        Ok(found) => found,
        Err(status) => return Page::new(speech, status, "odd").into_response(),
    };
    let Some(code) = found.remove("code").filter(|code| !code.is_empty()) else {
        return Page::new(speech, StatusCode::BAD_REQUEST, "no-code").into_response();
    };
    if !front.strangers.admit(front.house.clock.now()) {
        let mut page = Page::new(speech, StatusCode::TOO_MANY_REQUESTS, "crowded").into_response();
        page.headers_mut().insert(header::RETRY_AFTER, PACE.as_secs().into());
        return page;
    }
    let code = AuthorizationCode::new(code);
    connected(&front, front.house.keeper.connect_unasked(&code, &front.house.installs).await)
}

fn connected(front: &Front, connected: Result<tokens::Installation, KeeperError>) -> Response {
    let speech = front.house.speech.as_ref();
    match connected {
        Ok(installation) => {
            front.copies.drop_stale(std::slice::from_ref(&installation.id));
            Page::new(speech, StatusCode::OK, "thanks").into_response()
        }
        Err(KeeperError::Parked(id)) => {
            let upkeep = front.house.upkeep.clone();
            tokio::spawn(async move { upkeep.tell_parked(&id).await }.in_current_span());
            Page::new(speech, StatusCode::ACCEPTED, "parked").into_response()
        }
        Err(KeeperError::InvalidCode { .. }) => {
            Page::new(speech, StatusCode::FORBIDDEN, "code-used").into_response()
        }
        Err(error) => {
            tracing::error!(%error, "an authorisation code could not be exchanged");
            Page::new(speech, StatusCode::SERVICE_UNAVAILABLE, "unavailable").into_response()
        }
    }
}

fn unavailable(front: &Front, error: &tokens::StoreError) -> Response {
    tracing::error!(%error, "the records can't be used");
    Page::new(front.house.speech.as_ref(), StatusCode::SERVICE_UNAVAILABLE, "unavailable").into_response()
}

/// The parameters of a query or a form; none when one comes twice.
pub(crate) fn parameters(text: Option<&str>) -> Option<HashMap<String, String>> {
    let mut found = HashMap::new();
    for (name, value) in form_urlencoded::parse(text.unwrap_or_default().as_bytes()) {
        if found.insert(name.into_owned(), value.into_owned()).is_some() {
            return None;
        }
    }
    Some(found)
}

/// Whether what is sent is a form.
pub(crate) fn is_form(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| {
        kind.as_bytes().to_ascii_lowercase().starts_with(b"application/x-www-form-urlencoded")
    })
}

/// The parameters of a form, as far as it is one, in time, and not too long.
pub(crate) async fn form(body: Body) -> Result<HashMap<String, String>, StatusCode> {
    let bytes = whole_body(body, LONGEST_FORM).await?;
    let text = std::str::from_utf8(&bytes).map_err(|_| StatusCode::BAD_REQUEST)?;
    parameters(Some(text)).ok_or(StatusCode::BAD_REQUEST)
}

fn is_prefetch(headers: &HeaderMap) -> bool {
    ["purpose", "sec-purpose", "x-purpose", "x-moz"].iter().any(|name| {
        let values = headers.get_all(*name);
        values.iter().any(|value| {
            let value = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
            value.contains("prefetch") || value.contains("preview") || value.contains("prerender")
        })
    })
}

fn is_secure(consent: &ConsentPage) -> bool {
    consent.app.redirect_uri.starts_with("https://")
}

/// Each app has a cookie of its own: a person may be on the way to several.
fn cookie_name(front: &Front, secure: bool) -> String {
    let name = if secure { "__Host-ghl-auth" } else { "ghl-auth" };
    match &front.house.app {
        None => name.to_owned(),
        Some(app) => format!("{name}-{app}"),
    }
}

pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|value| value.split(';')).find_map(|pair| {
        let (found, value) = pair.trim().split_once('=')?;
        (found == name).then_some(value)
    })
}

/// `scheme://host:port` of an address.
pub(crate) fn origin(address: &str) -> String {
    let uri: Option<Uri> = address.parse().ok();
    let parts = uri.as_ref().and_then(|uri| Some((uri.scheme_str()?, uri.authority()?)));
    parts.map(|(scheme, authority)| format!("{scheme}://{authority}")).unwrap_or_default()
}

/// 256 random bits, as text for a URL.
pub(crate) fn random() -> String {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system has random bytes");
    URL_SAFE_NO_PAD.encode(bytes)
}

/// What is kept of secrets that a browser carries; the first part says what they are for, so that one
/// can't be used in another's place.
pub(crate) fn sealed(parts: &[&str]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, parts.join(".").as_bytes()).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_million_states_are_all_different() {
        let mut seen = HashSet::new();
        for _ in 0..1_000_000 {
            let state = random();
            assert_eq!(state.len(), 43);
            assert!(seen.insert(state));
        }
    }

    #[test]
    fn of_a_crowd_of_strangers_thirty_a_minute_are_let_in() {
        let strangers = Strangers::new();
        let at = |seconds: i64| Timestamp::from_millis(1_790_000_000_000 + seconds * 1000);
        let let_in = |seconds| (0..100).filter(|_| strangers.admit(at(seconds))).count();
        assert_eq!([let_in(0), let_in(59), let_in(60), let_in(61)], [30, 0, 30, 0]);
        assert_eq!(let_in(-3600), 30, "a clock that is set back shuts nobody out");
    }

    #[test]
    fn a_parameter_that_comes_twice_is_none() {
        assert!(parameters(Some("code=a&code=b")).is_none());
        assert_eq!(parameters(Some("code=a&state=b")).map(|found| found.len()), Some(2));
    }
}
