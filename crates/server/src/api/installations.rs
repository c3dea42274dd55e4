//! Installations: what is kept, how it is, and never its secrets.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};
use tokens::records::{Reach, Verb};
use tokens::store::{Listing, Order, Stand};
use tokens::{CompanyId, Drift, Health, KeeperError, Overview, Timestamp};

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
    let listing = asked(&front, raw.as_deref())?;
    let (order, limit) = (listing.order, listing.limit);
    // One more says whether there is another page.
    let mut page = within_reach(&front, &caller, Listing { limit: limit + 1, ..listing }).await?;
    let goes_on = page.len() > limit;
    page.truncate(limit);
    let next = page.last().filter(|_| goes_on).map(|last| cursor(order, last));
    let now = front.house.clock.now();
    let list: Vec<Value> = page.iter().map(|installation| described(&front, installation, now)).collect();
    Ok(document(StatusCode::OK, &json!({ "installations": list, "next": next })))
}

/// Which installations a query asks for.
pub(crate) fn asked(front: &Front, raw: Option<&str>) -> Result<Listing, Problem> {
    let bad = || bad(front, "bad_query");
    let names = ["limit", "after", "company", "state", "q", "sort"];
    let [limit, after, company, state, text, sort] = query(front, raw, names)?;
    let order = match sort {
        Some(word) => Order::from_word(&word).ok_or_else(bad)?,
        None => Order::Id,
    };
    Ok(Listing {
        company: company.map(|id| id.parse()).transpose().map_err(|_| bad())?,
        standing: state.map(|word| Stand::from_word(&word).ok_or_else(bad)).transpose()?,
        text: text.filter(|text| !text.is_empty()),
        order,
        after: after.map(|cursor| place(order, &cursor).ok_or_else(bad)).transpose()?,
        limit: pages::limit(front, limit.as_deref())?,
    })
}

/// What a listing asks for, as far as a key reaches. One that is good for a few looks at these only.
async fn within_reach(front: &Front, caller: &Caller, listing: Listing) -> Result<Vec<Overview>, Problem> {
    let store = front.house.keeper.store();
    let found = match &caller.key.record.reach {
        Reach::All => store.overview(&listing).await,
        Reach::These(ids) => {
            let mut kept = Vec::new();
            for id in ids {
                match store.load(id).await {
                    Ok(found) => kept.extend(found.map(|installation| installation.overview())),
                    Err(error) => return Err(Problem::store(front.house.speech.as_ref(), &error)),
                }
            }
            Ok(listing.pick(kept))
        }
    };
    found.map_err(|error| Problem::store(front.house.speech.as_ref(), &error))
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

/// Takes back into service what was taken out of it.
pub(crate) async fn restore(
    State(front): State<Arc<Front>>,
    caller: Caller,
    InPath((kind, id)): InPath<(String, String)>,
) -> Result<Response, Problem> {
    let id = id_in_path(&front, &kind, &id)?;
    let speech = front.house.speech.as_ref();
    caller.may_for(Verb::Admin, &id).map_err(|forbidden| Problem::forbidden(speech, forbidden))?;
    let restored = front.house.keeper.restore(&id).await;
    front.copies.drop_stale(std::slice::from_ref(&id));
    match restored.map_err(|error| Problem::keeper(&front.house, &error))? {
        Some(it) => Ok(document(StatusCode::OK, &described(&front, &it.overview(), front.house.clock.now()))),
        None => Err(Problem::new(speech, StatusCode::NOT_FOUND, "not_removed")),
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
    let Overview { name, unlisted_at, .. } = installation;
    json!({
        "kind": id.kind(),
        "id": id.as_str(),
        "company_id": company.as_ref().map(CompanyId::as_str),
        "name": name,
        "state": Stand::of(installation).as_str(),
        "health": installation.health(now).map(Health::as_str),
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
        "unlisted_at": unlisted_at.map(rfc3339),
    })
}
