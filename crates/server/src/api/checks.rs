//! Checks: run one, and what the last ones found.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tokens::records::{CheckQuery, Verb};
use tokens::{CheckRecord, Timestamp, Trigger};
use tracing::info;

use super::{bad, document, id_in_path, json as read, query};
use crate::auth::{Caller, Forbidden};
use crate::copies::rfc3339;
use crate::error::Problem;
use crate::front::{Front, RequestId};

const MOST: usize = 1000;

pub(crate) async fn list(
    State(front): State<Arc<Front>>,
    caller: Caller,
    RawQuery(raw): RawQuery,
) -> Result<Response, Problem> {
    let [kind, id, before, limit] = query(&front, raw.as_deref(), ["kind", "id", "before", "limit"])?;
    let id = match (kind, id) {
        (Some(kind), Some(id)) => Some(id_in_path(&front, &kind, &id)?),
        (None, None) => None,
        _ => return Err(bad(&front, "bad_query")),
    };
    if let Some(id) = &id {
        let forbidden = |forbidden: Forbidden| Problem::forbidden(front.house.speech.as_ref(), forbidden);
        caller.may_for(Verb::Token, id).map_err(forbidden)?;
    }
    let before = match before.as_deref().map(str::parse::<jiff::Timestamp>) {
        None => None,
        Some(Ok(at)) => Some(Timestamp::from_millis(at.as_millisecond())),
        Some(Err(_)) => return Err(bad(&front, "bad_query")),
    };
    let limit = match limit.as_deref().map(str::parse) {
        None => 100,
        Some(Ok(limit @ 1..=MOST)) => limit,
        Some(_) => return Err(bad(&front, "bad_query")),
    };
    let found = front.house.records.checks(&CheckQuery { id, before, limit }).await;
    let found = found.map_err(|error| Problem::store(front.house.speech.as_ref(), &error))?;
    let within = found.iter().filter(|check| caller.key.record.reach.covers(&check.id));
    Ok(document(StatusCode::OK, &json!({ "checks": within.map(described).collect::<Vec<Value>>() })))
}

/// Whose token is to be checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    kind: String,
    id: String,
}

pub(crate) async fn run(
    State(front): State<Arc<Front>>,
    caller: Caller,
    Extension(request): Extension<RequestId>,
    body: Body,
) -> Result<Response, Problem> {
    let Wanted { kind, id } = read(&front, body).await?;
    let id = id_in_path(&front, &kind, &id)?;
    let forbidden = |forbidden: Forbidden| Problem::forbidden(front.house.speech.as_ref(), forbidden);
    caller.may_for(Verb::Admin, &id).map_err(forbidden)?;
    let check = front.house.upkeep.check(&id, Trigger::Api).await;
    let check = check.map_err(|error| Problem::keeper(&front.house, &error))?;
    let (health, trace_id) = (check.health.as_str(), check.trace_id());
    info!(%id, health, code = check.code, trace_id, request_id = request.as_str(), "checked, as a program asked");
    Ok(document(StatusCode::OK, &described(&check)))
}

fn described(check: &CheckRecord) -> Value {
    let steps: Vec<Value> = check
        .steps
        .iter()
        .map(|step| {
            json!({
                "step": step.name,
                "ok": step.ok,
                "duration_ms": u64::try_from(step.took.as_millis()).unwrap_or(u64::MAX),
                "trace_id": step.trace_id,
            })
        })
        .collect();
    json!({
        "kind": check.id.kind(),
        "id": check.id.as_str(),
        "at": rfc3339(check.at),
        "duration_ms": u64::try_from(check.took.as_millis()).unwrap_or(u64::MAX),
        "trigger": check.trigger.as_str(),
        "health": check.health.as_str(),
        "code": check.code,
        "detail": check.said,
        "steps": steps,
    })
}
