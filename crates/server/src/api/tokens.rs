//! Tokens: the one question that the service is there for.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use tokens::records::Verb;
use tokens::{InstallationId, KeeperError, Served, StoreError, Timestamp};
use upkeep::Said;

use super::{InPath, bad, id_in_path, json, json_answer, query};
use crate::auth::Caller;
use crate::copies::{AsOf, Copy, path_of};
use crate::error::Problem;
use crate::front::{Front, MINIMUM_LIFE, RequestId};

/// HighLevel's tokens live for a day: nobody can be promised more.
const LONGEST_LIFE: u64 = 86_400;

type Answered = Result<Response, Problem>;

pub(crate) async fn of_location(
    State(front): State<Arc<Front>>,
    caller: Caller,
    Extension(request): Extension<RequestId>,
    InPath(id): InPath<String>,
    RawQuery(query): RawQuery,
) -> Answered {
    token(&front, &caller, &request, &id_in_path(&front, "location", &id)?, query.as_deref()).await
}

pub(crate) async fn of_company(
    State(front): State<Arc<Front>>,
    caller: Caller,
    Extension(request): Extension<RequestId>,
    InPath(id): InPath<String>,
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
    let is_plain = raw_query.is_none();
    let (copy, was_at_hand) = found(front, id, minimum_life, is_plain, front.house.clock.now()).await?;
    let answer = hand_out(front, caller, request, &copy).await?;
    if was_at_hand {
        front.metrics.token_from_memory();
    }
    Ok(answer)
}

/// A token to be sent on in somebody's name.
pub(crate) async fn copy_for(
    front: &Front,
    id: &InstallationId,
    now: Timestamp,
) -> Result<Arc<Copy>, Problem> {
    found(front, id, MINIMUM_LIFE, true, now).await.map(|(copy, _)| copy)
}

/// A token, and whether it was at hand. Whoever says how long it has to live is answered from the store.
async fn found(
    front: &Front,
    id: &InstallationId,
    minimum_life: Duration,
    from_memory: bool,
    now: Timestamp,
) -> Result<(Arc<Copy>, bool), Problem> {
    if front.is_cut_off()
        && let Some(copy) = copy_in_an_outage(front, id)
    {
        return Ok((copy, false));
    }
    let at_hand = from_memory.then(|| front.copies.at(&path_of(id))).flatten();
    if let Some(copy) = at_hand.filter(|copy| copy.is_good(now, minimum_life)) {
        return Ok((copy, true));
    }
    let as_of = front.copies.as_of();
    let served = front.house.keeper.token(id, minimum_life).await;
    match &served {
        Ok(served) => Ok((keep_copy(front, served, as_of), false)),
        // An outage that has just begun is not known of yet.
        Err(error) if is_out_of_reach(front, error) => {
            let copy = copy_in_an_outage(front, id).ok_or_else(|| Problem::keeper(&front.house, error))?;
            Ok((copy, false))
        }
        Err(error) => Err(Problem::keeper(&front.house, error)),
    }
}

fn is_out_of_reach(front: &Front, error: &KeeperError) -> bool {
    front.house.keeper.store().is_remote() && matches!(error, KeeperError::Store(StoreError::Database { .. }))
}

/// What is at hand while the store is out of reach, with a word of that.
fn copy_in_an_outage(front: &Front, id: &InstallationId) -> Option<Arc<Copy>> {
    let copy = front.copies.at(&path_of(id)).filter(|copy| copy.lives(front.house.clock.now()))?;
    let speech = front.house.speech.as_ref();
    let said = Said {
        code: "store_out_of_reach",
        detail: speech.say("api-store_out_of_reach", &[]),
        action: speech.say("api-store_out_of_reach.action", &[]),
        needs_person: false,
    };
    Some(Arc::new(copy.with_warning(&said)))
}

/// The caller saw HighLevel refuse the token of a generation.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Refused {
    #[serde(deserialize_with = "super::whole_number")]
    generation: u64,
}

pub(crate) async fn refused_of_location(
    State(front): State<Arc<Front>>,
    caller: Caller,
    Extension(request): Extension<RequestId>,
    InPath(id): InPath<String>,
    body: Body,
) -> Answered {
    refused(&front, &caller, &request, &id_in_path(&front, "location", &id)?, body).await
}

pub(crate) async fn refused_of_company(
    State(front): State<Arc<Front>>,
    caller: Caller,
    Extension(request): Extension<RequestId>,
    InPath(id): InPath<String>,
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
    let as_of = front.copies.as_of();
    let installation = front.house.keeper.refused(id, generation).await;
    let installation = installation.map_err(|error| Problem::keeper(&front.house, &error))?;
    let served = Served { installation, refreshed: false, warning: None };
    hand_out(front, caller, request, &keep_copy(front, &served, as_of)).await
}

fn may(front: &Front, caller: &Caller, id: &InstallationId) -> Result<(), Problem> {
    caller
        .may_for(Verb::Token, id)
        .map_err(|forbidden| Problem::forbidden(front.house.speech.as_ref(), forbidden))
}

/// Makes the answer of what was read after `as_of`, and keeps it at hand while it is good.
pub(crate) fn keep_copy(front: &Front, served: &Served, as_of: AsOf) -> Arc<Copy> {
    let copy = Arc::new(Copy::of(served, front.house.speech.as_ref()));
    if copy.is_good(front.house.clock.now(), Duration::ZERO) {
        front.copies.put(copy.clone(), as_of);
    }
    copy
}

/// Writes down who takes it, and answers.
async fn hand_out(front: &Front, caller: &Caller, request: &RequestId, copy: &Arc<Copy>) -> Answered {
    let house = &front.house;
    let now = house.clock.now();
    let request_id = request.as_str();
    let noted = front.audit.note(house.audit, house.records.as_ref(), caller, copy, request_id, now).await;
    noted.map_err(|error| Problem::store(house.speech.as_ref(), &error))?;
    Ok(json_answer(StatusCode::OK, copy.body(now)))
}
