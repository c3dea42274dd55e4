//! Installations: what is kept, how it is, and never its secrets.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};
use tokens::records::Verb;
use tokens::store::Listing;
use tokens::{CompanyId, Connection, Drift, Health, KeeperError, Overview, Timestamp};

use super::{InPath, document, id_in_path};
use crate::auth::{Caller, Forbidden};
use crate::copies::rfc3339;
use crate::error::Problem;
use crate::front::Front;

pub(crate) async fn list(State(front): State<Arc<Front>>, caller: Caller) -> Result<Response, Problem> {
    let all = front.house.keeper.store().overview(&Listing::ALL).await;
    let all = all.map_err(|error| Problem::store(front.house.speech.as_ref(), &error))?;
    let now = front.house.clock.now();
    let within = all.iter().filter(|installation| caller.key.record.reach.covers(&installation.id));
    let list: Vec<Value> = within.map(|installation| described(&front, installation, now)).collect();
    Ok(document(StatusCode::OK, &json!({ "installations": list })))
}

pub(crate) async fn one(
    State(front): State<Arc<Front>>,
    caller: Caller,
    InPath((kind, id)): InPath<(String, String)>,
) -> Result<Response, Problem> {
    let id = id_in_path(&front, &kind, &id)?;
    let forbidden = |forbidden: Forbidden| Problem::forbidden(front.house.speech.as_ref(), forbidden);
    caller.may_for(Verb::Token, &id).map_err(forbidden)?;
    let installation = front.house.keeper.load(&id).await;
    let installation = installation.map_err(|error| Problem::keeper(&front.house, &error))?;
    Ok(document(StatusCode::OK, &described(&front, &installation.overview(), front.house.clock.now())))
}

pub(crate) async fn remove(
    State(front): State<Arc<Front>>,
    caller: Caller,
    InPath((kind, id)): InPath<(String, String)>,
) -> Result<Response, Problem> {
    let id = id_in_path(&front, &kind, &id)?;
    let forbidden = |forbidden: Forbidden| Problem::forbidden(front.house.speech.as_ref(), forbidden);
    caller.may_for(Verb::Admin, &id).map_err(forbidden)?;
    let removed = front.house.keeper.disconnect(&id).await;
    front.copies.drop_stale(std::slice::from_ref(&id));
    match removed.map_err(|error| Problem::keeper(&front.house, &error))? {
        true => Ok(StatusCode::NO_CONTENT.into_response()),
        false => Err(Problem::keeper(&front.house, &KeeperError::NotConnected(id))),
    }
}

/// How an installation is: its connection first, its last check second.
fn health(installation: &Overview, now: Timestamp) -> Option<Health> {
    match &installation.connection {
        Connection::Broken(_) => Some(Health::NeedsPerson),
        Connection::Suspended { .. } => Some(Health::Suspended),
        Connection::Uncertain { .. } if installation.remaining(now).is_zero() => Some(Health::Down),
        Connection::Uncertain { .. } => Some(Health::Degraded),
        Connection::Connected => installation.last_check.as_ref().map(|check| check.health),
    }
}

/// How its scopes differ from those that the app wants.
fn drift(front: &Front, installation: &Overview) -> Drift {
    let wanted = front.house.consent.as_ref().and_then(|consent| consent.scopes.as_deref());
    Drift::of(&installation.id, &installation.scopes, wanted.unwrap_or_default())
}

fn described(front: &Front, installation: &Overview, now: Timestamp) -> Value {
    let Overview { id, version, issued_at, expires_at, scopes, company, last_check, .. } = installation;
    let Drift { missing, extra } = drift(front, installation);
    json!({
        "kind": id.kind(),
        "id": id.as_str(),
        "company_id": company.as_ref().map(CompanyId::as_str),
        "health": health(installation, now).map(Health::as_str),
        "generation": version.generation,
        "scope": scopes,
        "missing_scopes": missing,
        "extra_scopes": extra,
        "issued_at": rfc3339(*issued_at),
        "expires_at": rfc3339(*expires_at),
        "expires_in": installation.remaining(now).as_secs(),
        "last_check": last_check.as_ref().map(|check| json!({
            "at": rfc3339(check.at),
            "health": check.health.as_str(),
            "code": check.code,
            "detail": check.said,
        })),
    })
}
