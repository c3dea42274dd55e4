//! Tokens: the one question that the service is there for.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokens::records::Verb;
use tokens::{InstallationId, Served};

use super::{bad, id_in_path, json, query};
use crate::auth::Caller;
use crate::copies::Copy;
use crate::error::Problem;
use crate::front::{Front, MINIMUM_LIFE, RequestId, token_answer};

/// HighLevel's tokens live for a day: nobody can be promised more.
const LONGEST_LIFE: u64 = 86_400;

type Answered = Result<Response, Problem>;

pub(crate) async fn of_location(
    State(front): State<Arc<Front>>,
    caller: Caller,
    Extension(request): Extension<RequestId>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Answered {
    token(&front, &caller, &request, &id_in_path(&front, "location", &id)?, query.as_deref()).await
}

pub(crate) async fn of_company(
    State(front): State<Arc<Front>>,
    caller: Caller,
    Extension(request): Extension<RequestId>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Answered {
    token(&front, &caller, &request, &id_in_path(&front, "company", &id)?, query.as_deref()).await
}

async fn token(
    front: &Front,
    caller: &Caller,
    request: &RequestId,
    id: &InstallationId,
    raw_query: Option<&str>,
) -> Answered {
    let [minimum_life] = query(front, raw_query, ["minimum_life"])?;
    let minimum_life = match minimum_life.as_deref().map(str::parse) {
        None => MINIMUM_LIFE,
        Some(Ok(seconds @ 0..=LONGEST_LIFE)) => Duration::from_secs(seconds),
        Some(_) => return Err(bad(front, "bad_minimum_life")),
    };
    may(front, caller, id)?;
    let served = front.house.keeper.token(id, minimum_life).await;
    hand_out(front, caller, request, served.map_err(|error| Problem::keeper(&front.house, &error))?).await
}

/// The caller saw HighLevel refuse the token of a generation.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Refused {
    #[serde(deserialize_with = "super::whole")]
    generation: u64,
}

pub(crate) async fn refused_of_location(
    State(front): State<Arc<Front>>,
    caller: Caller,
    Extension(request): Extension<RequestId>,
    Path(id): Path<String>,
    body: Body,
) -> Answered {
    refused(&front, &caller, &request, &id_in_path(&front, "location", &id)?, body).await
}

pub(crate) async fn refused_of_company(
    State(front): State<Arc<Front>>,
    caller: Caller,
    Extension(request): Extension<RequestId>,
    Path(id): Path<String>,
    body: Body,
) -> Answered {
    refused(&front, &caller, &request, &id_in_path(&front, "company", &id)?, body).await
}

async fn refused(
    front: &Front,
    caller: &Caller,
    request: &RequestId,
    id: &InstallationId,
    body: Body,
) -> Answered {
    may(front, caller, id)?;
    let Refused { generation } = json(front, body).await?;
    let installation = front.house.keeper.refused(id, generation).await;
    let installation = installation.map_err(|error| Problem::keeper(&front.house, &error))?;
    let served = Served { installation, refreshed: false, warning: None };
    hand_out(front, caller, request, served).await
}

fn may(front: &Front, caller: &Caller, id: &InstallationId) -> Result<(), Problem> {
    caller
        .may_for(Verb::Token, id)
        .map_err(|forbidden| Problem::forbidden(front.house.speech.as_ref(), forbidden))
}

/// Keeps a copy, writes down who took it, and answers.
async fn hand_out(front: &Front, caller: &Caller, request: &RequestId, served: Served) -> Answered {
    let house = &front.house;
    let copy = Arc::new(Copy::of(&served, house.speech.as_ref()));
    let now = house.clock.now();
    if copy.is_good(now, Duration::ZERO) {
        front.copies.put(copy.clone());
    }
    let noted = front.audit.note(house.audit, house.records.as_ref(), caller, &copy, &request.0, now).await;
    noted.map_err(|error| Problem::store(house.speech.as_ref(), &error))?;
    Ok(token_answer(copy.body(now)).into_response())
}
