//! The dashboard: what a person sees of the house in a browser, and may do about it.
//!
//! A page is a struct, and its template sees that struct and nothing more. All of it comes from this program:
//! no page asks anybody else for anything, and none holds a secret, a script or a style of its own. Who is signed
//! in is known by a cookie (`session`); whatever changes something is a form that brings back what only our own
//! pages hold.

mod actions;
mod assets;
mod chart;
mod frame;
mod installation;
mod installations;
mod keys;
mod live;
mod notices;
mod overview;
mod problem;
mod reader;
mod session;
mod settings;
mod sign_in;

use std::collections::HashMap;

use askama::Template;
use axum::response::{Html, IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use crate::error::Problem;

pub(crate) use actions::{act, confirm_forget, connect, connect_page};
pub(crate) use assets::asset;
pub(crate) use installation::page as installation;
pub(crate) use installations::page as installations;
pub(crate) use keys::{page as keys, revoke as revoke_key};
pub(crate) use live::{Stopping, live};
pub(crate) use notices::page as notices;
pub(crate) use overview::page as overview;
pub(crate) use problem::readable;
pub(crate) use reader::{Reader, choose as choose_language};
pub(crate) use session::guard;
pub(crate) use settings::page as settings;
pub use sign_in::invite;
pub(crate) use sign_in::{page as sign_in, sign_in as begin_session, sign_out};

/// What a form brought, when it has been found to be one of ours.
#[derive(Clone, Debug, Default)]
pub(crate) struct Form(pub(crate) HashMap<String, String>);

/// Shows a page. Browsers may send its forms to us, and to `also`, where the answer to one leads.
fn shown(status: StatusCode, page: &impl Template, also: Option<&str>) -> Response {
    let Ok(html) = page.render() else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    let mut response = (status, Html(html)).into_response();
    protect(&mut response, also);
    response
}

/// What every answer of the dashboard carries.
fn protect(response: &mut Response, also: Option<&str>) {
    let also = also.map(|origin| format!(" {origin}")).unwrap_or_default();
    let policy = format!(
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
         form-action 'self'{also}; base-uri 'none'; frame-ancestors 'none'"
    );
    let headers = response.headers_mut();
    if let Ok(policy) = HeaderValue::try_from(policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    for (name, value) in [
        // Without it a browser would not say where a form of ours comes from.
        (header::REFERRER_POLICY, "same-origin"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// A page, or why there is none.
type Shown = Result<Response, Problem>;

/// Sends the browser on to another page of ours.
fn sent_to(path: &str) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    if let Ok(path) = HeaderValue::try_from(path) {
        response.headers_mut().insert(header::LOCATION, path);
    }
    protect(&mut response, None);
    response
}
