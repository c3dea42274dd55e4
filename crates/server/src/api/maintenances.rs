//! Maintenances: times in which nobody is told of trouble.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tokens::records::Maintenance;
use tokens::{StoreError, Subject};

use super::{InPath, bad, document, id_in_path, json as read};
use crate::auth::Caller;
use crate::copies::rfc3339;
use crate::error::Problem;
use crate::front::{Front, RequestId};

const LONGEST: u64 = 30 * 86_400;

pub(crate) async fn list(State(front): State<Arc<Front>>, caller: Caller) -> Result<Response, Problem> {
    whole_house(&front, &caller)?;
    let windows = front.house.records.maintenances(front.house.clock.now()).await;
    let windows = windows.map_err(|error| Problem::store(front.house.speech.as_ref(), &error))?;
    let list: Vec<Value> = windows.iter().map(described).collect();
    Ok(document(StatusCode::OK, &json!({ "maintenances": list })))
}

/// What is planned.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Planned {
    /// None: until someone ends it.
    #[serde(default, deserialize_with = "super::maybe_whole_number")]
    seconds: Option<u64>,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    id: Option<String>,
}

pub(crate) async fn plan(
    State(front): State<Arc<Front>>,
    caller: Caller,
    axum::Extension(request): axum::Extension<RequestId>,
    body: Body,
) -> Result<Response, Problem> {
    whole_house(&front, &caller)?;
    let Planned { seconds, reason, kind, id } = read(&front, body).await?;
    let subject = match (kind, id) {
        (Some(kind), Some(id)) => Some(Subject::Installation(id_in_path(&front, &kind, &id)?)),
        (None, None) => None,
        _ => return Err(bad(&front, "bad_body")),
    };
    let is_fit = reason.chars().count() <= 500 && !reason.contains(char::is_control);
    // Not the whole house: nobody would notice that it is never told of anything any more.
    let is_long_enough = seconds.map_or(subject.is_some(), |seconds| (1..=LONGEST).contains(&seconds));
    if !is_long_enough || !is_fit {
        return Err(bad(&front, "bad_body"));
    }
    let lasting = seconds.map(Duration::from_secs);
    let window = begin(&front, &request, subject, lasting, reason).await;
    let window = window.map_err(|error| Problem::store(front.house.speech.as_ref(), &error))?;
    Ok(document(StatusCode::CREATED, &described(&window)))
}

/// Begins one now.
pub(crate) async fn begin(
    front: &Front,
    request: &RequestId,
    subject: Option<Subject>,
    lasting: Option<Duration>,
    reason: String,
) -> Result<Maintenance, StoreError> {
    let now = front.house.clock.now();
    let id = format!("{}-{}", request.as_str(), now.as_millis() % 100_000);
    let until = lasting.map(|lasting| now + lasting);
    let window = Maintenance { id, subject, from: now, until, reason };
    front.house.records.plan_maintenance(&window).await?;
    Ok(window)
}

pub(crate) async fn end(
    State(front): State<Arc<Front>>,
    caller: Caller,
    InPath(id): InPath<String>,
) -> Result<Response, Problem> {
    whole_house(&front, &caller)?;
    let speech = front.house.speech.as_ref();
    let ended = front.house.records.end_maintenance(&id, front.house.clock.now()).await;
    match ended.map_err(|error| Problem::store(speech, &error))? {
        true => Ok(StatusCode::NO_CONTENT.into_response()),
        false => Err(Problem::new(speech, StatusCode::NOT_FOUND, "no_maintenance")),
    }
}

/// A maintenance silences alarms: that takes a key that reaches everything.
fn whole_house(front: &Front, caller: &Caller) -> Result<(), Problem> {
    caller.reaches_all().map_err(|forbidden| Problem::forbidden(front.house.speech.as_ref(), forbidden))
}

fn described(window: &Maintenance) -> Value {
    let (kind, id) = match &window.subject {
        Some(Subject::Installation(id)) => (Some(id.kind()), Some(id.as_str())),
        Some(Subject::Service | Subject::Checks(_)) => (Some("service"), None),
        None => (None, None),
    };
    json!({
        "id": window.id,
        "kind": kind,
        "installation": id,
        "from": rfc3339(window.from),
        "until": window.until.map(rfc3339),
        "reason": window.reason,
    })
}
