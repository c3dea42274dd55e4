//! The way in: with an admin key, or by the link that `ghl-auth dashboard` printed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::Extension;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use tokens::records::{KeyId, Verb, Visit};
use tokens::{Records, StoreError, Timestamp};

use super::frame::{Frame, Place};
use super::reader::Reader;
use super::session::{Viewer, begin, forget_cookies, is_same_origin, safe_path};
use super::{Form, Shown, sent_to, shown};
use crate::auth::{Source, Unknown};
use crate::browser::{form, parameters, random, sealed};
use crate::front::Front;

#[derive(Template)]
#[template(path = "sign_in.html")]
struct Page<'a> {
    frame: Frame<'a>,
    /// Where to go on.
    to: String,
    /// The link's secret, where one led here.
    link: Option<String>,
    problem: Option<String>,
}

/// Shows the form. A look at a link does not use it up.
pub(crate) async fn page(
    State(front): State<Arc<Front>>,
    reader: Reader,
    RawQuery(query): RawQuery,
) -> Response {
    let mut found = parameters(query.as_deref()).unwrap_or_default();
    let to = found.remove("to").unwrap_or_default();
    let link = found.remove("link");
    show(&front, &reader, StatusCode::OK, &to, link, None)
}

fn show(
    front: &Front,
    reader: &Reader,
    status: StatusCode,
    to: &str,
    link: Option<String>,
    problem: Option<&'static str>,
) -> Response {
    let frame = Frame::new(front, reader, Place::Elsewhere);
    let problem = problem.map(|key| frame.words.say(key));
    shown(status, &Page { frame, to: safe_path(to).to_owned(), link, problem }, None)
}

/// The form was sent.
pub(crate) async fn sign_in(
    State(front): State<Arc<Front>>,
    Extension(source): Extension<Source>,
    reader: Reader,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let is_ours = is_same_origin(&headers);
    let found = form(body).await;
    let to = found.as_ref().ok().and_then(|found| found.get("to")).map_or("/", |to| safe_path(to)).to_owned();
    let who = match (is_ours, found) {
        (false, _) => Err(Unwelcome::Because(StatusCode::FORBIDDEN, "dash-sign-in-elsewhere")),
        (true, Err(_)) => Err(Unwelcome::Because(StatusCode::BAD_REQUEST, "dash-sign-in-wrong")),
        (true, Ok(found)) => who(&front, found, source).await,
    };
    let begun = match who {
        Ok(key) => begin(&front, &headers, key, &inside(&front, &to)).await.map_err(Unwelcome::Store),
        Err(unwelcome) => Err(unwelcome),
    };
    begun.unwrap_or_else(|unwelcome| match unwelcome {
        Unwelcome::Because(status, why) => show(&front, &reader, status, &to, None, Some(why)),
        Unwelcome::Store(error) => reader.of_store(&error).into_response(),
    })
}

/// Why nobody is let in.
enum Unwelcome {
    /// The status, and the sentence that says it.
    Because(StatusCode, &'static str),
    Store(StoreError),
}

/// Who it is by what the form holds: a key, or none where a link led here.
async fn who(
    front: &Front,
    mut found: HashMap<String, String>,
    source: Source,
) -> Result<Option<KeyId>, Unwelcome> {
    if let Some(link) = found.remove("link") {
        return match by_link(front, &link).await.map_err(Unwelcome::Store)? {
            true => Ok(None),
            false => Err(Unwelcome::Because(StatusCode::FORBIDDEN, "dash-sign-in-link-used")),
        };
    }
    let Some(key) = found.remove("key") else {
        return Err(Unwelcome::Because(StatusCode::BAD_REQUEST, "dash-sign-in-wrong"));
    };
    let authorization = format!("Bearer {}", key.trim());
    let now = front.house.clock.now();
    match front.caller_by(Some(authorization.as_bytes()), source, now).await {
        Ok(caller) if caller.may(Verb::Admin).is_ok() && caller.reaches_all().is_ok() => {
            Ok(Some(caller.key.record.id.clone()))
        }
        Ok(_) => Err(Unwelcome::Because(StatusCode::FORBIDDEN, "dash-sign-in-not-admin")),
        Err(Unknown::TooMany { .. }) => {
            Err(Unwelcome::Because(StatusCode::TOO_MANY_REQUESTS, "dash-sign-in-too-many"))
        }
        Err(_) => Err(Unwelcome::Because(StatusCode::FORBIDDEN, "dash-sign-in-wrong")),
    }
}

/// A path of this app's as browsers know it.
fn inside(front: &Front, to: &str) -> String {
    format!("{}{to}", front.prefix)
}

/// How long a link is good for.
const LINK_WITHIN: Duration = Duration::from_secs(15 * 60);

/// Makes a link that signs in whoever opens it, once: its path and query, and until when it is good.
pub async fn invite(
    records: &dyn Records,
    app: Option<&str>,
    now: Timestamp,
) -> Result<(String, Timestamp), StoreError> {
    let link = random();
    let expires_at = now + LINK_WITHIN;
    let visit = Visit { state: sealed(&["dashboard", &link]), browser: [0; 32], expires_at };
    records.open_visit(&visit).await?;
    let prefix = app.map(|app| format!("/apps/{app}")).unwrap_or_default();
    Ok((format!("{prefix}/sign-in?link={link}"), expires_at))
}

/// Whether a link is good. It is used up by that.
async fn by_link(front: &Front, link: &str) -> Result<bool, StoreError> {
    let visit =
        front.house.records.take_visit(&sealed(&["dashboard", link]), front.house.clock.now()).await?;
    Ok(visit.is_some())
}

/// Ends the session; all of them, if that is asked for.
pub(crate) async fn sign_out(
    State(front): State<Arc<Front>>,
    Extension(viewer): Extension<Viewer>,
    Extension(Form(found)): Extension<Form>,
    reader: Reader,
) -> Shown {
    let which = (!found.contains_key("everywhere")).then_some(&viewer.hash);
    front.house.records.end_sessions(which).await.map_err(|error| reader.of_store(&error))?;
    let mut response = sent_to(&format!("{}/sign-in", front.prefix));
    forget_cookies(&front, &mut response);
    Ok(response)
}
