//! The first page: what needs someone now, and how everything is.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use http::StatusCode;
use tokens::records::CheckQuery;
use tokens::store::{Counts, Listing, Parked};
use tokens::{Health, Overview, Standing, StoreError, Subject};

use super::frame::{Frame, Place, Row, Sign, When, Words, path_of, whose};
use super::notices::Told;
use super::reader::Reader;
use super::{Shown, shown};
use crate::front::Front;

/// So many installations are shown on the first page; of more there is a list of its own.
const FEW: usize = 12;

/// So many troubles are shown.
const MOST_TROUBLES: usize = 20;

const LAST: usize = 8;

#[derive(Template)]
#[template(path = "overview.html")]
struct Page<'a> {
    frame: Frame<'a>,
    verdict: String,
    verdict_class: &'static str,
    troubles: Vec<Trouble>,
    parked: Vec<Waiting>,
    counts: Vec<(String, u64)>,
    rows: Vec<Row>,
    goes_on: bool,
    told: Vec<Told>,
    checks: Vec<Checked>,
    budget: Option<Budget>,
}

/// Something that needs someone.
struct Trouble {
    sign: Sign,
    whose: String,
    path: Option<String>,
    what: String,
    since: When,
}

/// An install that waits for approval.
struct Waiting {
    kind: &'static str,
    id: String,
    since: When,
    scopes: String,
}

/// A check, in a list.
pub(super) struct Checked {
    pub(super) sign: Sign,
    pub(super) whose: String,
    pub(super) path: String,
    pub(super) at: When,
    pub(super) took_ms: u128,
    pub(super) said: Option<String>,
}

impl Checked {
    pub(super) fn new(words: &Words<'_>, check: &tokens::CheckRecord) -> Self {
        Self {
            sign: Sign::of(words, Some(check.health)),
            whose: check.id.as_str().to_owned(),
            path: path_of(&check.id),
            at: When::new(words, check.at),
            took_ms: check.took.as_millis(),
            said: check.said.clone(),
        }
    }
}

/// What is left of HighLevel's limits, as far as the gateway knows.
struct Budget {
    remaining: Option<u32>,
    daily: Option<u64>,
    spent: Option<String>,
}

/// Shows it.
pub(crate) async fn page(State(front): State<Arc<Front>>, reader: Reader) -> Shown {
    let page = read(&front, &reader).await.map_err(|error| reader.of_store(&error))?;
    Ok(shown(StatusCode::OK, &page, None))
}

async fn read<'a>(front: &'a Front, reader: &'a Reader) -> Result<Page<'a>, StoreError> {
    let frame = Frame::new(front, reader, Place::Overview);
    let words = frame.words;
    let (store, records) = (front.house.keeper.store(), front.house.records.as_ref());
    let counts = store.counts().await?;
    let standings = records.troubled(MOST_TROUBLES).await?;
    let parked: Vec<Waiting> = store.parked().await?.iter().map(|parked| waiting(&words, parked)).collect();
    let paused = records.paused(words.now).await?;
    let mut installations = store.overview(&Listing::first(FEW + 1)).await?;
    let goes_on = installations.len() > FEW;
    installations.truncate(FEW);
    let is_heard =
        |standing: &&Standing| !matches!(&standing.subject, Subject::Installation(id) if paused.contains(id));
    let mut troubles: Vec<Trouble> =
        standings.iter().filter(is_heard).map(|standing| trouble(&words, standing)).collect();
    // A check that this service has not taken note of may have found something, too.
    let is_noted =
        |it: &Overview| standings.iter().any(|one| one.subject == Subject::Installation(it.id.clone()));
    let others = installations.iter().filter(|it| !is_noted(it) && !paused.contains(&it.id));
    troubles.extend(others.filter_map(|it| found(&words, it)));
    let checks = records.checks(&CheckQuery { id: None, before: None, limit: LAST }).await?;
    let notices = records.notices(LAST).await?;
    let (verdict, verdict_class) = verdict(&words, &counts, troubles.len() + parked.len());
    let outlook = front.gateway.outlook();
    let spent = outlook.soonest_spent.map(|span| words.moment(words.now + span));
    let has_budget = outlook.least_remaining.is_some();
    Ok(Page {
        verdict,
        verdict_class,
        troubles,
        parked,
        counts: counted(&words, &counts),
        rows: installations.iter().map(|it| Row::new(&words, it, paused.contains(&it.id))).collect(),
        goes_on,
        told: notices.iter().map(|(notice, ways)| Told::new(&words, notice, ways)).collect(),
        checks: checks.iter().map(|check| Checked::new(&words, check)).collect(),
        budget: has_budget.then_some(Budget {
            remaining: outlook.least_remaining,
            daily: outlook.least_daily_remaining,
            spent,
        }),
        frame,
    })
}

fn waiting(words: &Words<'_>, parked: &Parked) -> Waiting {
    Waiting {
        kind: parked.id.kind(),
        id: parked.id.as_str().to_owned(),
        since: When::new(words, parked.at),
        scopes: parked.scopes.clone(),
    }
}

/// The whole in a sentence.
fn verdict(words: &Words<'_>, counts: &Counts, troubles: usize) -> (String, &'static str) {
    match (counts.locations + counts.companies, troubles) {
        (0, 0) => (words.say("dash-verdict-empty"), "unknown"),
        (_, 0) => (words.say("dash-verdict-good"), "good"),
        (_, troubles) => (words.say_of("dash-verdict-trouble", "count", troubles), "bad"),
    }
}

fn trouble(words: &Words<'_>, standing: &Standing) -> Trouble {
    let (whose, path) = whose(words, &standing.subject);
    let sign = Sign::of(words, Some(standing.health));
    let what = standing.said.clone().unwrap_or_else(|| sign.word.clone());
    Trouble { sign, whose, path, what, since: When::new(words, standing.since) }
}

/// What the last check of an installation found, where it was not good.
fn found(words: &Words<'_>, it: &Overview) -> Option<Trouble> {
    let health = it.health(words.now).filter(|health| *health != Health::Operational)?;
    let sign = Sign::of(words, Some(health));
    let check = it.last_check.as_ref();
    Some(Trouble {
        what: check.and_then(|check| check.said.clone()).unwrap_or_else(|| sign.word.clone()),
        since: When::new(words, check.map_or(it.connected_at, |check| check.at)),
        whose: it.id.as_str().to_owned(),
        path: Some(path_of(&it.id)),
        sign,
    })
}

fn counted(words: &Words<'_>, counts: &Counts) -> Vec<(String, u64)> {
    let all = [
        ("dash-count-locations", counts.locations),
        ("dash-count-companies", counts.companies),
        ("dash-stand-connected", counts.connected),
        ("dash-stand-uncertain", counts.uncertain),
        ("dash-stand-suspended", counts.suspended),
        ("dash-stand-broken", counts.broken),
    ];
    // What there is none of is only worth a word where one would look for it.
    let is_worth = |(key, count): &&(&str, u64)| *count > 0 || *key == "dash-stand-connected";
    all.iter().filter(is_worth).map(|(key, count)| (words.say(key), *count)).collect()
}
