//! What a person does from the dashboard: each is a form, and ends on a page that says what came of it.

use std::sync::Arc;

use askama::Template;
use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use tokens::Trigger;
use tracing::info;

use super::frame::{Frame, Place, path_of};
use super::session::Viewer;
use super::{sent_to, shown};
use crate::api::{InPath, id_in_path};
use crate::browser::{origin, send_off};
use crate::error::Problem;
use crate::front::Front;

/// Does something about one installation.
pub(crate) async fn act(
    State(front): State<Arc<Front>>,
    InPath((kind, id, action)): InPath<(String, String, String)>,
) -> Response {
    let id = match id_in_path(&front, &kind, &id) {
        Ok(id) => id,
        Err(problem) => return problem.into_response(),
    };
    let keeper = &front.house.keeper;
    let did = match action.as_str() {
        "check" => front.house.upkeep.check(&id, Trigger::Api).await.map(|_| "?done=checked"),
        "refresh" => keeper.refresh(&id).await.map(|_| "?done=refreshed"),
        "forget" => keeper.disconnect(&id).await.map(|_| ""),
        "restore" => keeper.restore(&id).await.map(|_| "?done=restored"),
        _ => {
            return Problem::new(front.house.speech.as_ref(), StatusCode::NOT_FOUND, "not_found")
                .into_response();
        }
    };
    front.copies.drop_stale(std::slice::from_ref(&id));
    match did {
        Ok(done) => {
            info!(%id, action, "done from the dashboard");
            sent_to(&format!("{}{}{done}", front.prefix, path_of(&id)))
        }
        Err(error) => Problem::keeper(&front.house, &error).into_response(),
    }
}

#[derive(Template)]
#[template(path = "forget.html")]
struct Forget<'a> {
    frame: Frame<'a>,
    kind: &'static str,
    id: String,
}

/// Asks whether an installation is really to be forgotten.
pub(crate) async fn confirm_forget(
    State(front): State<Arc<Front>>,
    Extension(viewer): Extension<Viewer>,
    InPath((kind, id)): InPath<(String, String)>,
) -> Response {
    match id_in_path(&front, &kind, &id) {
        Ok(id) => {
            let frame = Frame::new(&front, Some(&viewer), Place::Installations);
            shown(StatusCode::OK, &Forget { frame, kind: id.kind(), id: id.as_str().to_owned() }, None)
        }
        Err(problem) => problem.into_response(),
    }
}

#[derive(Template)]
#[template(path = "connect.html")]
struct Connect<'a> {
    frame: Frame<'a>,
    /// What HighLevel will ask for; none where there is no app to connect.
    scopes: Option<Vec<String>>,
    host: String,
}

/// Tells how a location is connected.
pub(crate) async fn connect_page(
    State(front): State<Arc<Front>>,
    Extension(viewer): Extension<Viewer>,
) -> Response {
    let frame = Frame::new(&front, Some(&viewer), Place::Connect);
    let consent = front.house.consent.as_ref();
    let scopes = consent.map(|consent| {
        consent.scopes.as_deref().unwrap_or_default().split_whitespace().map(str::to_owned).collect()
    });
    let leads_to = consent.map(|consent| origin(&consent.page));
    let host = leads_to.clone().unwrap_or_default();
    shown(StatusCode::OK, &Connect { frame, scopes, host }, leads_to.as_deref())
}

/// Sends the browser to HighLevel's consent page.
pub(crate) async fn connect(State(front): State<Arc<Front>>) -> Response {
    match &front.house.consent {
        Some(consent) => send_off(&front, consent).await,
        None => Problem::new(front.house.speech.as_ref(), StatusCode::CONFLICT, "no_app").into_response(),
    }
}
