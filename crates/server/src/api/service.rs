//! The service itself: whether it lives, whether it is ready, what it has counted, what it answers.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde_json::json;

use super::document;
use crate::error::Problem;
use crate::front::Front;
use crate::{metrics, openapi};

pub(crate) async fn livez() -> Response {
    document(StatusCode::OK, &json!({ "status": "alive" }))
}

pub(crate) async fn readyz(State(front): State<Arc<Front>>) -> Result<Response, Problem> {
    match front.metrics.is_ready() && front.house.upkeep.is_alive() {
        true => Ok(document(StatusCode::OK, &json!({ "status": "ready" }))),
        false => {
            let speech = front.house.speech.as_ref();
            Err(Problem::new(speech, StatusCode::SERVICE_UNAVAILABLE, "not_ready"))
        }
    }
}

pub(crate) async fn metrics(State(front): State<Arc<Front>>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-store")], metrics::text(&front))
        .into_response()
}

pub(crate) async fn openapi() -> Response {
    document(StatusCode::OK, &openapi::document())
}
