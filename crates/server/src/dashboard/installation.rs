//! One installation: how long its token lives, what its checks found, and what can be done.

use std::sync::Arc;

use askama::Template;
use axum::extract::{RawQuery, State};
use http::StatusCode;
use tokens::records::CheckQuery;
use tokens::store::Stand;
use tokens::{CompanyId, Drift, Episode, InstallationId, KeeperError, Overview, Subject, Turn};

use super::chart::{Chart, chart};
use super::frame::{Frame, Life, Place, Sign, When, Words, kind_word};
use super::notices::Told;
use super::overview::Checked;
use super::reader::Reader;
use super::{Shown, shown};
use crate::api::InPath;
use crate::browser::parameters;
use crate::front::Front;
use crate::gateway::Known;

/// So many checks are drawn, and so many of them written out.
const DRAWN: usize = 90;
const WRITTEN: usize = 10;

/// So many lines of its history are shown.
const EPISODES: usize = 12;

/// Notices of one installation are looked for among so many.
const NOTICES: usize = 200;

#[derive(Template)]
#[template(path = "installation.html")]
struct Page<'a> {
    frame: Frame<'a>,
    kind: &'static str,
    kind_word: String,
    id: String,
    name: Option<String>,
    company: Option<String>,
    sign: Sign,
    life: Life,
    expires: When,
    issued: When,
    connected: When,
    generation: u64,
    scopes: Vec<String>,
    missing: Vec<String>,
    can_connect: bool,
    chart: Option<Chart>,
    checks: Vec<Checked>,
    told: Vec<Told>,
    history: Vec<Line>,
    unlisted: Option<When>,
    /// Since when its checks rest.
    paused: Option<When>,
    budget: Option<Budget>,
}

/// A line of the history.
struct Line {
    sign: Sign,
    at: When,
    generation: u64,
    expires: String,
    said: Option<String>,
}

impl Line {
    fn new(words: &Words<'_>, episode: &Episode, before: Option<&Episode>) -> Self {
        let (class, key) = match Turn::of(episode, before) {
            Turn::Authorized => ("good", "dash-turn-authorized"),
            Turn::Refreshed => ("good", "dash-turn-refreshed"),
            Turn::Stands(Stand::Connected) => ("good", "dash-stand-connected"),
            Turn::Stands(Stand::Uncertain) => ("late", "dash-stand-uncertain"),
            Turn::Stands(Stand::Suspended) => ("late", "dash-stand-suspended"),
            Turn::Stands(Stand::Broken) => ("bad", "dash-stand-broken"),
        };
        Self {
            sign: Sign { class, word: words.say(key) },
            at: When::new(words, episode.at),
            generation: episode.version.generation,
            expires: words.moment(episode.expires_at),
            said: episode.said.clone(),
        }
    }
}

/// How much of HighLevel's limits is left, as far as the gateway knows.
struct Budget {
    now: u32,
    day: Option<u64>,
    /// When the day's calls will be used up.
    spent: Option<When>,
}

impl Budget {
    fn new(words: &Words<'_>, known: &Known) -> Self {
        let spent = known.forecast.map(|forecast| When::new(words, words.now + forecast.spent_in));
        Self { now: known.remaining, day: known.daily_remaining, spent }
    }
}

/// Shows it; where it was removed, how to undo that.
pub(crate) async fn page(
    State(front): State<Arc<Front>>,
    reader: Reader,
    InPath((kind, id)): InPath<(String, String)>,
    RawQuery(raw): RawQuery,
) -> Shown {
    let id = reader.id(&kind, &id)?;
    let done = parameters(raw.as_deref()).and_then(|mut found| found.remove("done"));
    match front.house.keeper.load(&id).await {
        Ok(it) => {
            let page = read(&front, &reader, &it.overview(), done.as_deref()).await;
            Ok(shown(StatusCode::OK, &page.map_err(|error| reader.of_store(&error))?, None))
        }
        Err(KeeperError::NotConnected(_)) => removed(&front, &reader, &id).await,
        Err(error) => Err(reader.of_keeper(&front, &error)),
    }
}

async fn read<'a>(
    front: &'a Front,
    reader: &'a Reader,
    it: &Overview,
    done: Option<&str>,
) -> Result<Page<'a>, tokens::StoreError> {
    let mut frame = Frame::new(front, reader, Place::Installations);
    let words = frame.words;
    frame.done = match done {
        Some("checked") => Some(words.say("dash-done-checked")),
        Some("refreshed") => Some(words.say("dash-done-refreshed")),
        Some("restored") => Some(words.say("dash-done-restored")),
        Some("paused") => Some(words.say("dash-done-paused")),
        Some("resumed") => Some(words.say("dash-done-resumed")),
        Some("approved") => Some(words.say("dash-done-approved")),
        _ => None,
    };
    let records = front.house.records.as_ref();
    let query = CheckQuery { id: Some(it.id.clone()), before: None, limit: DRAWN };
    let checks = records.checks(&query).await?;
    let notices = records.notices(NOTICES).await?;
    let is_about_it = |subject: &Subject| match subject {
        Subject::Installation(id) | Subject::Checks(Some(id)) => *id == it.id,
        _ => false,
    };
    let about = notices.iter().filter(|(notice, _)| is_about_it(&notice.subject));
    let episodes = records.history(&it.id, EPISODES + 1).await?;
    let history = episodes.iter().enumerate().take(EPISODES);
    let history =
        history.map(|(place, episode)| Line::new(&words, episode, episodes.get(place + 1))).collect();
    let windows = records.maintenances(words.now).await?;
    let pause = windows.iter().find(|window| window.pauses() == Some(&it.id));
    let paused = pause.map(|window| When::new(&words, window.from));
    let wanted = front.house.consent.as_ref().and_then(|consent| consent.scopes.as_deref());
    let Drift { missing, .. } = Drift::of(&it.id, &it.scopes, wanted.unwrap_or_default());
    Ok(Page {
        kind: it.id.kind(),
        kind_word: kind_word(&words, &it.id),
        id: it.id.as_str().to_owned(),
        name: it.name.clone(),
        company: it.company.as_ref().map(CompanyId::as_str).map(str::to_owned),
        sign: Sign::of_installation(&words, it, paused.is_some()),
        paused,
        budget: front.gateway.known(&it.id).map(|known| Budget::new(&words, &known)),
        life: Life::new(&words, it),
        expires: When::new(&words, it.expires_at),
        issued: When::new(&words, it.issued_at),
        connected: When::new(&words, it.connected_at),
        generation: it.version.generation,
        scopes: it.scopes.split_whitespace().map(str::to_owned).collect(),
        missing: missing.into_iter().map(|scope| scope.to_string()).collect(),
        can_connect: front.house.consent.is_some(),
        chart: chart(&words, &checks),
        checks: checks.iter().take(WRITTEN).map(|check| Checked::new(&words, check)).collect(),
        told: about.take(WRITTEN).map(|(notice, ways)| Told::new(&words, notice, ways)).collect(),
        history,
        unlisted: it.unlisted_at.map(|at| When::new(&words, at)),
        frame,
    })
}

#[derive(Template)]
#[template(path = "removed.html")]
struct Removed<'a> {
    frame: Frame<'a>,
    kind: &'static str,
    id: String,
    /// When it was; none where there never was such an installation, or it has been forgotten.
    at: Option<When>,
}

async fn removed(front: &Front, reader: &Reader, id: &InstallationId) -> Shown {
    let frame = Frame::new(front, reader, Place::Installations);
    let at = front.house.keeper.store().removed_at(id).await.map_err(|error| reader.of_store(&error))?;
    let at = at.map(|at| When::new(&frame.words, at));
    let status = if at.is_some() { StatusCode::OK } else { StatusCode::NOT_FOUND };
    Ok(shown(status, &Removed { kind: id.kind(), id: id.as_str().to_owned(), at, frame }, None))
}
