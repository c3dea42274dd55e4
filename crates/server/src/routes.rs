//! The routes: one table, from which the router is built and the tests walk every door.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use tokens::records::{KeyId, Verb};

use crate::api::{checks, installations, maintenances, parked, service, tokens as token};
use crate::auth::{Source, Unknown};
use crate::browser;
use crate::dashboard::{self, Reader};
use crate::error::Problem;
use crate::front::Front;
use crate::status;
use crate::webhooks;

/// Where the browser comes back to, beside the path of the redirect address.
pub(crate) const CALLBACK: &str = "/oauth/callback";

/// Where HighLevel tells of events; their signature is their key.
pub(crate) const WEBHOOKS: &str = "/webhooks/highlevel";

/// Who may pass a door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// Anybody.
    Open,
    /// Whoever holds this verb.
    Key(Verb),
    /// Whoever holds this verb, or is on this machine.
    KeyOrLocal(Verb),
    /// Whoever is signed in to the dashboard; who is not goes there.
    Session,
}

/// A door of the house.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The method.
    pub method: &'static str,
    /// The path, as the router writes it.
    pub path: &'static str,
    /// Who may pass.
    pub door: Door,
}

/// The template of the path that answered, for logs and metrics.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route(pub(crate) &'static str);

/// Whose key it was, for the log.
#[derive(Clone, Debug)]
pub(crate) struct Asker(pub(crate) KeyId);

type Way = MethodRouter<Arc<Front>>;

const fn entry(method: &'static str, path: &'static str, door: Door) -> Entry {
    Entry { method, path, door }
}

const TOKEN: Door = Door::Key(Verb::Token);
const ADMIN: Door = Door::Key(Verb::Admin);

/// Every door and what is behind it.
fn table() -> Vec<(Entry, Way)> {
    vec![
        (entry("GET", "/livez", Door::Open), get(service::livez)),
        (entry("GET", "/readyz", Door::Open), get(service::readyz)),
        (entry("GET", "/metrics", Door::KeyOrLocal(Verb::Admin)), get(service::metrics)),
        (entry("GET", "/openapi.json", Door::Open), get(service::openapi)),
        (entry("GET", "/v1/apps", ADMIN), get(service::apps)),
        (entry("GET", "/v1/locations/{id}/token", TOKEN), get(token::of_location)),
        (entry("POST", "/v1/locations/{id}/token/refused", TOKEN), post(token::refused_of_location)),
        (entry("GET", "/v1/companies/{id}/token", TOKEN), get(token::of_company)),
        (entry("POST", "/v1/companies/{id}/token/refused", TOKEN), post(token::refused_of_company)),
        (entry("GET", "/v1/installations", TOKEN), get(installations::list)),
        (entry("GET", "/v1/installations/{kind}/{id}", TOKEN), get(installations::one)),
        (entry("DELETE", "/v1/installations/{kind}/{id}", ADMIN), delete(installations::remove)),
        (entry("POST", "/v1/installations/{kind}/{id}/restore", ADMIN), post(installations::restore)),
        (entry("GET", "/v1/checks", TOKEN), get(checks::list)),
        (entry("POST", "/v1/checks", ADMIN), post(checks::run)),
        (entry("GET", "/v1/parked", ADMIN), get(parked::list)),
        (entry("POST", "/v1/parked/{kind}/{id}/approve", ADMIN), post(parked::approve)),
        (entry("DELETE", "/v1/parked/{kind}/{id}", ADMIN), delete(parked::dismiss)),
        (entry("GET", "/v1/maintenances", ADMIN), get(maintenances::list)),
        (entry("POST", "/v1/maintenances", ADMIN), post(maintenances::plan)),
        (entry("DELETE", "/v1/maintenances/{id}", ADMIN), delete(maintenances::end)),
        (entry("POST", "/oauth/links", ADMIN), post(browser::links)),
        (entry("GET", "/oauth/start", Door::Open), get(browser::start_page)),
        (entry("POST", "/oauth/start", Door::Open), post(browser::start)),
        (entry("GET", CALLBACK, Door::Open), get(browser::callback)),
        (entry("POST", CALLBACK, Door::Open), post(browser::confirm)),
        (entry("POST", WEBHOOKS, Door::Open), post(webhooks::highlevel)),
        // Where the settings do not say that they are there, these are not there.
        (entry("GET", status::PAGE, Door::Open), get(status::page)),
        (entry("GET", "/badge/{name}", Door::Open), get(status::badge)),
        (entry("GET", "/assets/{name}", Door::Open), get(dashboard::asset)),
        (entry("GET", "/sign-in", Door::Open), get(dashboard::sign_in)),
        (entry("POST", "/sign-in", Door::Open), post(dashboard::begin_session)),
        (entry("POST", "/language", Door::Open), post(dashboard::choose_language)),
        (entry("POST", "/sign-out", Door::Session), post(dashboard::sign_out)),
        (entry("GET", "/", Door::Session), get(dashboard::overview)),
        (entry("GET", "/live", Door::Session), get(dashboard::live)),
        (entry("GET", "/installations", Door::Session), get(dashboard::installations)),
        (entry("GET", "/installations/{kind}/{id}", Door::Session), get(dashboard::installation)),
        (entry("GET", "/forget/{kind}/{id}", Door::Session), get(dashboard::confirm_forget)),
        (entry("POST", "/installations/{kind}/{id}/{action}", Door::Session), post(dashboard::act)),
        (entry("GET", "/notices", Door::Session), get(dashboard::notices)),
        (entry("GET", "/settings", Door::Session), get(dashboard::settings)),
        (entry("GET", "/keys", Door::Session), get(dashboard::keys)),
        (entry("POST", "/keys/{id}/revoke", Door::Session), post(dashboard::revoke_key)),
        (entry("GET", "/connect", Door::Session), get(dashboard::connect_page)),
        (entry("POST", "/connect", Door::Session), post(dashboard::connect)),
    ]
}

/// Every door there is.
pub fn entries() -> Vec<Entry> {
    table().into_iter().map(|(entry, _)| entry).collect()
}

/// Whether a path is there for strangers: where browsers come back to, where HighLevel
/// tells of events, and the sign of life.
pub(crate) fn is_public(path: &str, callback: &str) -> bool {
    matches!(path, "/livez" | "/oauth/start" | CALLBACK | WEBHOOKS) || path == callback
}

/// The router, which asks for a key wherever the table does not say that a door is open.
pub(crate) fn router(front: Arc<Front>) -> Router {
    let mut router = Router::new();
    for (entry, way) in table() {
        let guard = middleware::from_fn_with_state((front.clone(), entry), guarded);
        router = router.route(entry.path, way.layer(guard));
    }
    if front.callback != CALLBACK && !taken(&front.callback) {
        let entry = entry("GET", CALLBACK, Door::Open);
        let guard = middleware::from_fn_with_state((front.clone(), entry), guarded);
        let way = get(browser::callback).post(browser::confirm).layer(guard);
        router = router.route(&front.callback, way);
    }
    router.fallback(not_found).method_not_allowed_fallback(method_not_allowed).with_state(front)
}

/// Whether a path of the user's is one of ours, or one that a router would read as a pattern.
fn taken(path: &str) -> bool {
    path.contains(['{', '}', '*']) || table().iter().any(|(entry, _)| entry.path == path)
}

async fn guarded(
    State((front, entry)): State<(Arc<Front>, Entry)>,
    request: Request,
    next: Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    if entry.door == Door::Session {
        let asked = parts.headers.clone();
        let (response, viewer) = match dashboard::guard(&front, &mut parts, body).await {
            Ok((viewer, body)) => (next.run(Request::from_parts(parts, body)).await, Some(viewer)),
            Err(response) => (response, None),
        };
        let reader = Reader::new(&front, &asked, viewer);
        let mut response = dashboard::readable(&front, &reader, &asked, response);
        response.extensions_mut().insert(Route(entry.path));
        return response;
    }
    let mut response = match pass(&front, entry.door, &parts).await {
        Ok(None) => next.run(Request::from_parts(parts, body)).await,
        Ok(Some(caller)) => {
            let id = caller.key.record.id.clone();
            parts.extensions.insert(caller);
            let mut response = next.run(Request::from_parts(parts, body)).await;
            response.extensions_mut().insert(Asker(id));
            response
        }
        Err(problem) if problem.code == "no_key" && is_exposed_in_form(&parts, body).await => {
            Problem::unknown(front.house.speech.as_ref(), Unknown::Exposed).into_response()
        }
        Err(problem) => problem.into_response(),
    };
    response.extensions_mut().insert(Route(entry.path));
    response
}

async fn pass(front: &Front, door: Door, request: &Parts) -> Result<Option<crate::auth::Caller>, Problem> {
    let speech = front.house.speech.as_ref();
    let source = request.extensions.get::<Source>().copied().unwrap_or(Source::Unix);
    if door != Door::Open && is_exposed(request) {
        return Err(Problem::unknown(speech, Unknown::Exposed));
    }
    let verb = match door {
        Door::Open | Door::Session => return Ok(None),
        Door::Key(verb) => verb,
        Door::KeyOrLocal(_) if source.is_local() && !request.headers.contains_key("authorization") => {
            return Ok(None);
        }
        Door::KeyOrLocal(verb) => verb,
    };
    let now = front.house.clock.now();
    let caller = front.caller(&request.headers, source, now).await;
    let caller = caller.map_err(|unknown| Problem::unknown(speech, unknown))?;
    // An installation's own checks in the handlers come on top.
    caller.may(verb).map_err(|forbidden| Problem::forbidden(speech, forbidden))?;
    Ok(Some(caller))
}

/// Whether a key stands in the address or in a cookie, where proxies and browsers keep it.
fn is_exposed(request: &Parts) -> bool {
    let query = request.uri.query().unwrap_or_default();
    let in_query = form_urlencoded::parse(query.as_bytes()).any(|(name, value)| {
        let name = name.to_ascii_lowercase();
        matches!(name.as_str(), "access_token" | "api_key" | "apikey" | "key" | "token" | "authorization")
            || value.starts_with("ghlk_")
    });
    in_query || is_in_cookie(&request.headers)
}

/// Whether a key stands in a cookie.
pub(crate) fn is_in_cookie(headers: &HeaderMap) -> bool {
    let mut cookies = headers.get_all(http::header::COOKIE).iter();
    cookies.any(|cookie| cookie.as_bytes().windows(5).any(|part| part == b"ghlk_"))
}

/// Whether whoever brings no key where it belongs has put it into a form.
async fn is_exposed_in_form(request: &Parts, body: Body) -> bool {
    if !browser::is_form(&request.headers) {
        return false;
    }
    let form = browser::form(body).await;
    form.is_ok_and(|form| form.values().any(|value| value.starts_with("ghlk_")))
}

async fn not_found(State(front): State<Arc<Front>>, request: Request) -> Response {
    let reader = Reader::new(&front, request.headers(), None);
    let problem = reader.problem(StatusCode::NOT_FOUND, "not_found");
    dashboard::readable(&front, &reader, request.headers(), problem.into_response())
}

async fn method_not_allowed(State(front): State<Arc<Front>>) -> Response {
    let speech = front.house.speech.as_ref();
    let problem = Problem::new(speech, StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed");
    let mut response = problem.into_response();
    // The router puts in what this path takes, where nothing is said yet.
    response.headers_mut().remove(http::header::ALLOW);
    response
}
