//! Parked grants: installs that came by themselves and wait for approval.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};
use tokens::records::Verb;
use tokens::store::{Listing, Order};
use tokens::{CompanyId, InstallationId};

use super::pages::{self, cursor, place};
use super::{InPath, bad, document, id_in_path, query};
use crate::auth::{Caller, Forbidden};
use crate::copies::rfc3339;
use crate::error::Problem;
use crate::front::Front;

pub(crate) async fn list(
    State(front): State<Arc<Front>>,
    caller: Caller,
    RawQuery(raw): RawQuery,
) -> Result<Response, Problem> {
    let [limit, after] = query(&front, raw.as_deref(), ["limit", "after"])?;
    let limit = pages::limit(&front, limit.as_deref())?;
    let after = after.map(|cursor| place(Order::Id, &cursor).ok_or_else(|| bad(&front, "bad_query")));
    let after = after.transpose()?;
    let parked = front.house.keeper.store().parked().await;
    let parked = parked.map_err(|error| Problem::store(front.house.speech.as_ref(), &error))?;
    let within = parked.iter().filter(|parked| caller.key.record.reach.covers(&parked.id));
    let mut rest = within.filter(|parked| after.as_ref().is_none_or(|after| parked.id > after.id));
    let page: Vec<_> = rest.by_ref().take(limit).collect();
    let goes_on = rest.next().is_some();
    let last = page.last().filter(|_| goes_on);
    let next = last.map(|last| cursor(Order::Id, &Listing::place(Order::Id, None, last.id.clone())));
    let list: Vec<Value> = page
        .into_iter()
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
    Ok(document(StatusCode::OK, &json!({ "parked": list, "next": next })))
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
