//! The way in: with an admin key, or by the link that `ghl-auth dashboard` printed.

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::Extension;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use tokens::records::{Verb, Visit};
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
    if !is_same_origin(&headers) {
        return show(&front, &reader, StatusCode::FORBIDDEN, "", None, Some("dash-sign-in-elsewhere"));
    }
    let Ok(mut found) = form(body).await else {
        return show(&front, &reader, StatusCode::BAD_REQUEST, "", None, Some("dash-sign-in-wrong"));
    };
    let to = found.remove("to").unwrap_or_default();
    let to = safe_path(&to);
    let begun = match (found.remove("link"), found.remove("key")) {
        (Some(link), _) => match by_link(&front, &link).await {
            Ok(true) => begin(&front, &headers, None, &inside(&front, to)).await,
            Ok(false) => {
                return show(
                    &front,
                    &reader,
                    StatusCode::FORBIDDEN,
                    to,
                    None,
                    Some("dash-sign-in-link-used"),
                );
            }
            Err(error) => Err(error),
        },
        (None, Some(key)) => {
            let now = front.house.clock.now();
            let authorization = format!("Bearer {}", key.trim());
            let caller = front.caller_by(Some(authorization.as_bytes()), source, now).await;
            match caller {
                Ok(caller) if caller.may(Verb::Admin).is_ok() && caller.reaches_all().is_ok() => {
                    begin(&front, &headers, Some(caller.key.record.id.clone()), &inside(&front, to)).await
                }
                Ok(_) => {
                    return show(
                        &front,
                        &reader,
                        StatusCode::FORBIDDEN,
                        to,
                        None,
                        Some("dash-sign-in-not-admin"),
                    );
                }
                Err(Unknown::TooMany { .. }) => {
                    return show(
                        &front,
                        &reader,
                        StatusCode::TOO_MANY_REQUESTS,
                        to,
                        None,
                        Some("dash-sign-in-too-many"),
                    );
                }
                Err(_) => {
                    return show(
                        &front,
                        &reader,
                        StatusCode::FORBIDDEN,
                        to,
                        None,
                        Some("dash-sign-in-wrong"),
                    );
                }
            }
        }
        (None, None) => {
            return show(&front, &reader, StatusCode::BAD_REQUEST, to, None, Some("dash-sign-in-wrong"));
        }
    };
    begun.unwrap_or_else(|error| reader.of_store(&error).into_response())
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
