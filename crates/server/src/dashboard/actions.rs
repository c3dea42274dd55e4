//! What a person does from the dashboard: each is a form, and ends on a page that says what came of it.

use std::sync::Arc;

use askama::Template;
use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use tokens::{InstallationId, KeeperError, StoreError, Subject, Trigger};
use tracing::info;

use super::frame::{Frame, Place, path_of};
use super::reader::Reader;
use super::{Shown, sent_to, shown};
use crate::api::InPath;
use crate::api::maintenances::begin;
use crate::browser::{origin, send_off};
use crate::front::{Front, RequestId};

/// Does something about one installation.
pub(crate) async fn act(
    State(front): State<Arc<Front>>,
    Extension(request): Extension<RequestId>,
    reader: Reader,
    InPath((kind, id, action)): InPath<(String, String, String)>,
) -> Shown {
    let id = reader.id(&kind, &id)?;
    let keeper = &front.house.keeper;
    let to_its_page = |done: &str| format!("{}{}{done}", front.prefix, path_of(&id));
    let did = match action.as_str() {
        "check" => check(&front, &id).await.map(|()| to_its_page("?done=checked")),
        "refresh" => keeper.refresh(&id).await.map(|_| to_its_page("?done=refreshed")),
        "pause" => pause(&front, &request, &id).await.map(|()| to_its_page("?done=paused")),
        "resume" => resume(&front, &id).await.map(|()| to_its_page("?done=resumed")),
        "forget" => keeper.disconnect(&id).await.map(|_| to_its_page("")),
        "restore" => keeper.restore(&id).await.map(|_| to_its_page("?done=restored")),
        "approve" => keeper.approve(&id).await.map(|_| to_its_page("?done=approved")),
        "dismiss" => {
            let dismissed = keeper.store().dismiss(&id).await.map_err(KeeperError::Store);
            dismissed.map(|_| format!("{}/", front.prefix))
        }
        _ => return Err(reader.problem(StatusCode::NOT_FOUND, "not_found")),
    };
    front.copies.drop_stale(std::slice::from_ref(&id));
    let to = did.map_err(|error| reader.of_keeper(&front, &error))?;
    info!(%id, action, "done from the dashboard");
    Ok(sent_to(&to))
}

async fn check(front: &Front, id: &InstallationId) -> Result<(), KeeperError> {
    front.house.upkeep.check(id, Trigger::Api).await.map(drop)
}

async fn pause(front: &Front, request: &RequestId, id: &InstallationId) -> Result<(), KeeperError> {
    front.house.keeper.load(id).await?;
    if paused(front, id).await?.is_empty() {
        let subject = Some(Subject::Installation(id.clone()));
        begin(front, request, subject, None, String::new()).await?;
    }
    Ok(())
}

/// It is checked before anybody could be told that its checks are late.
async fn resume(front: &Front, id: &InstallationId) -> Result<(), KeeperError> {
    check(front, id).await?;
    for pause in paused(front, id).await? {
        front.house.records.end_maintenance(&pause, front.house.clock.now()).await?;
    }
    Ok(())
}

/// The pauses of an installation that go on, by what they are called.
async fn paused(front: &Front, id: &InstallationId) -> Result<Vec<String>, StoreError> {
    let windows = front.house.records.maintenances(front.house.clock.now()).await?;
    Ok(windows.into_iter().filter(|window| window.pauses() == Some(id)).map(|window| window.id).collect())
}

#[derive(Template)]
#[template(path = "forget.html")]
struct Forget<'a> {
    frame: Frame<'a>,
    kind: &'static str,
    id: String,
}

/// Asks whether an installation is really to be forgotten.
pub(crate) async fn confirm_forget(
    State(front): State<Arc<Front>>,
    reader: Reader,
    InPath((kind, id)): InPath<(String, String)>,
) -> Shown {
    let id = reader.id(&kind, &id)?;
    let frame = Frame::new(&front, &reader, Place::Installations);
    let page = Forget { frame, kind: id.kind(), id: id.as_str().to_owned() };
    Ok(shown(StatusCode::OK, &page, None))
}

#[derive(Template)]
#[template(path = "connect.html")]
struct Connect<'a> {
    frame: Frame<'a>,
    /// What HighLevel will ask for; none where there is no app to connect.
    scopes: Option<Vec<String>>,
    host: String,
}

/// Tells how a location is connected.
pub(crate) async fn connect_page(State(front): State<Arc<Front>>, reader: Reader) -> Response {
    let frame = Frame::new(&front, &reader, Place::Connect);
    let consent = front.house.consent.as_ref();
    let scopes = consent.map(|consent| {
        consent.scopes.as_deref().unwrap_or_default().split_whitespace().map(str::to_owned).collect()
    });
    let leads_to = consent.map(|consent| origin(&consent.page));
    let host = leads_to.clone().unwrap_or_default();
    shown(StatusCode::OK, &Connect { frame, scopes, host }, leads_to.as_deref())
}

/// Sends the browser to HighLevel's consent page.
pub(crate) async fn connect(State(front): State<Arc<Front>>, reader: Reader) -> Shown {
    match &front.house.consent {
        Some(consent) => Ok(send_off(&front, consent).await),
        None => Err(reader.problem(StatusCode::CONFLICT, "no_app")),
    }
}
