//! Parked grants: installs that came by themselves and wait for approval.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};
use tokens::records::Verb;
use tokens::{CompanyId, InstallationId};

use super::{InPath, document, id_in_path};
use crate::auth::{Caller, Forbidden};
use crate::copies::rfc3339;
use crate::error::Problem;
use crate::front::Front;

pub(crate) async fn list(State(front): State<Arc<Front>>, caller: Caller) -> Result<Response, Problem> {
    let parked = front.house.keeper.store().parked().await;
    let parked = parked.map_err(|error| Problem::store(front.house.speech.as_ref(), &error))?;
    let within = parked.iter().filter(|parked| caller.key.record.reach.covers(&parked.id));
    let list: Vec<Value> = within
        .map(|parked| {
            json!({
                "kind": parked.id.kind(),
                "id": parked.id.as_str(),
                "company_id": parked.company.as_ref().map(CompanyId::as_str),
                "scope": parked.scopes,
                "at": rfc3339(parked.at),
            })
        })
        .collect();
    Ok(document(StatusCode::OK, &json!({ "parked": list })))
}

pub(crate) async fn approve(
    State(front): State<Arc<Front>>,
    caller: Caller,
    InPath((kind, id)): InPath<(String, String)>,
) -> Result<Response, Problem> {
    let id = meant(&front, &caller, &kind, &id)?;
    let approved = front.house.keeper.approve(&id).await;
    let approved = approved.map_err(|error| Problem::keeper(&front.house, &error))?;
    front.copies.drop_stale(std::slice::from_ref(&id));
    let generation = approved.version.generation;
    let body = json!({ "kind": id.kind(), "id": id.as_str(), "generation": generation });
    Ok(document(StatusCode::OK, &body))
}

pub(crate) async fn dismiss(
    State(front): State<Arc<Front>>,
    caller: Caller,
    InPath((kind, id)): InPath<(String, String)>,
) -> Result<Response, Problem> {
    let id = meant(&front, &caller, &kind, &id)?;
    let dismissed = front.house.keeper.store().dismiss(&id).await;
    match dismissed.map_err(|error| Problem::store(front.house.speech.as_ref(), &error))? {
        true => Ok(StatusCode::NO_CONTENT.into_response()),
        false => Err(Problem::new(front.house.speech.as_ref(), StatusCode::NOT_FOUND, "not_parked")),
    }
}

fn meant(front: &Front, caller: &Caller, kind: &str, id: &str) -> Result<InstallationId, Problem> {
    let id = id_in_path(front, kind, id)?;
    let forbidden = |forbidden: Forbidden| Problem::forbidden(front.house.speech.as_ref(), forbidden);
    caller.may_for(Verb::Admin, &id).map_err(forbidden)?;
    Ok(id)
}
