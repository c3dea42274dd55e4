//! The service itself: whether it lives, whether it is ready, what it has counted, what it answers.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde_json::json;

use super::document;
use crate::auth::Caller;
use crate::error::Problem;
use crate::front::Front;
use crate::street::Neighbours;
use crate::{metrics, openapi};

pub(crate) async fn livez() -> Response {
    document(StatusCode::OK, &json!({ "status": "alive" }))
}

pub(crate) async fn readyz(State(front): State<Arc<Front>>) -> Result<Response, Problem> {
    match front.is_ready() {
        true => Ok(document(StatusCode::OK, &json!({ "status": "ready" }))),
        false => {
            let speech = front.house.speech.as_ref();
            Err(Problem::new(speech, StatusCode::SERVICE_UNAVAILABLE, "not_ready"))
        }
    }
}

/// What was counted for the app that is meant, or for all.
pub(crate) async fn metrics(
    State(front): State<Arc<Front>>,
    neighbours: Option<Extension<Neighbours>>,
) -> Response {
    let text = match neighbours {
        Some(Extension(Neighbours(street))) => {
            metrics::text_of_all(street.houses().map(AsRef::as_ref), street.closed_names())
        }
        None => metrics::text(&front),
    };
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-store")], text).into_response()
}

/// The apps that are configured, for whom nothing else is hidden from either.
pub(crate) async fn apps(State(front): State<Arc<Front>>, caller: Caller) -> Result<Response, Problem> {
    let speech = front.house.speech.as_ref();
    caller.reaches_all().map_err(|forbidden| Problem::forbidden(speech, forbidden))?;
    let apps = front.house.apps.iter().map(|app| {
        json!({
            "app": app.name,
            "client_id": app.client_id,
            "user_type": app.user_type,
            "redirect_uri": app.redirect_uri,
            "scope": app.scopes,
        })
    });
    Ok(document(StatusCode::OK, &json!({ "apps": apps.collect::<Vec<_>>() })))
}

pub(crate) async fn openapi() -> Response {
    document(StatusCode::OK, &openapi::document())
}
