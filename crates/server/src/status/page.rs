//! The page: how the whole is, since when, and how the last 90 days went.

use std::sync::Arc;

use askama::Template;
use axum::Extension;
use axum::extract::State as Of;
use axum::response::Response;
use http::HeaderMap;
use tokens::store::Listing;
use tokens::{Block, Day, StoreError, Timestamp, Uptime, percent};
use tokio::time::{Instant, timeout};
use upkeep::Speech;

use super::whole::{Whole, state_of};
use super::{FOUND_WITHIN, Picture, State, StatusPage, fresh, nothing_here};
use crate::copies::rfc3339;
use crate::dashboard::Reader;
use crate::front::Front;
use crate::house::Face;

const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

/// So many installations are named at most.
const MOST_NAMES: usize = 200;

const STEP: usize = 8;
const HEIGHT: usize = 40;

#[derive(Template)]
#[template(path = "status.html")]
struct Page<'a> {
    words: Words<'a>,
    prefix: &'a str,
    app: Option<&'a str>,
    class: &'static str,
    verdict: String,
    more: String,
    since: Option<When>,
    checked: Option<When>,
    days: Option<Days>,
    names: Vec<Named>,
    goes_on: bool,
}

struct Words<'a>(&'a dyn Speech);

impl Words<'_> {
    fn say(&self, key: &str) -> String {
        self.0.say(key, &[])
    }
}

/// An instant or a day, for people and for programs.
struct When {
    machine: String,
    told: String,
}

impl When {
    /// In UTC, since whoever reads it may be anywhere.
    fn at(at: Timestamp) -> Self {
        let machine = rfc3339(at);
        let told = match (machine.get(..10), machine.get(11..16)) {
            (Some(date), Some(time)) => format!("{date} {time} UTC"),
            _ => machine.clone(),
        };
        Self { machine, told }
    }

    fn day(day: Day) -> Self {
        Self { machine: day.date(), told: day.date() }
    }
}

/// The last 90 days, drawn.
struct Days {
    width: usize,
    height: usize,
    blocks: Vec<Drawn>,
    /// All of it in a sentence, for who does not see it.
    told: String,
    share: Option<String>,
    first: String,
}

struct Drawn {
    x: usize,
    y: usize,
    height: usize,
    class: &'static str,
    told: String,
}

impl Days {
    fn new(speech: &dyn Speech, uptime: &Uptime) -> Self {
        let blocks = uptime.days().iter().enumerate().map(|(place, day)| {
            let (class, key, height) = match day.block() {
                Block::Good => ("good", "uptime-good", HEIGHT),
                Block::Mixed => ("late", "uptime-mixed", HEIGHT * 3 / 4),
                Block::Bad => ("bad", "uptime-bad", HEIGHT / 2),
                Block::Unchecked => ("unknown", "uptime-unchecked", 4),
            };
            let told = format!("{}: {}", day.date(), speech.say(key, &[]));
            Drawn { x: place * STEP, y: HEIGHT - height, height, class, told }
        });
        let count = |block| uptime.days().iter().filter(|day| day.block() == block).count().to_string();
        let told = [
            ("good", count(Block::Good)),
            ("mixed", count(Block::Mixed)),
            ("bad", count(Block::Bad)),
            ("unchecked", count(Block::Unchecked)),
        ];
        Self {
            width: uptime.days().len() * STEP,
            height: HEIGHT,
            blocks: blocks.collect(),
            told: speech.say("uptime-told", &told),
            share: uptime.share().map(percent),
            first: uptime.days().first().map(|day| day.date()).unwrap_or_default(),
        }
    }
}

/// An installation by its name.
struct Named {
    name: String,
    class: &'static str,
    word: String,
}

fn class(state: State) -> &'static str {
    match state {
        State::Up => "good",
        State::Late => "late",
        State::Down => "bad",
        State::Unknown => "unknown",
    }
}

/// Shows it.
pub(crate) async fn page(
    Of(front): Of<Arc<Front>>,
    Extension(face): Extension<Face>,
    headers: HeaderMap,
) -> Response {
    if front.house.status_page == StatusPage::Off {
        return nothing_here(&front, face, &headers);
    }
    let speech = Reader::new(&front, &headers, None).speech;
    let language = speech.say("page-language", &[]);
    let mut kept = front.board.pages.lock().await;
    let picture = match fresh(kept.get(&language)) {
        Some(picture) => picture,
        None => {
            let picture = drawn(&front, speech.as_ref()).await;
            kept.insert(language, (Instant::now(), picture.clone()));
            picture
        }
    };
    drop(kept);
    picture.answer(&headers)
}

async fn drawn(front: &Front, speech: &dyn Speech) -> Picture {
    let page = match timeout(FOUND_WITHIN, read(front, speech)).await {
        Ok(Ok(page)) => page,
        // Who can't look can't say that all is well.
        Ok(Err(_)) | Err(_) => empty(front, speech, State::Late),
    };
    Picture::page(POLICY, page.render().unwrap_or_default())
}

fn empty<'a>(front: &'a Front, speech: &'a dyn Speech, state: State) -> Page<'a> {
    Page {
        words: Words(speech),
        prefix: &front.prefix,
        app: front.house.app.as_deref(),
        class: class(state),
        verdict: speech.say(&format!("public-{}", state.as_str()), &[]),
        more: speech.say(&format!("public-{}.more", state.as_str()), &[]),
        since: None,
        checked: None,
        days: None,
        names: Vec::new(),
        goes_on: false,
    }
}

async fn read<'a>(front: &'a Front, speech: &'a dyn Speech) -> Result<Page<'a>, StoreError> {
    let (house, now) = (&front.house, front.house.clock.now());
    let whole = Whole::find(front).await?;
    let days = house.records.days(None, Uptime::first_day(now)).await?;
    let uptime = Uptime::of(&days, now);
    let since = match whole.state {
        State::Up => uptime.good_since().map(When::day),
        State::Late | State::Down => whole.troubled_since.map(When::at),
        State::Unknown => None,
    };
    let (mut names, mut goes_on) = (Vec::new(), false);
    if house.status_page == StatusPage::Names {
        let mut kept = house.keeper.store().overview(&Listing::first(MOST_NAMES + 1)).await?;
        goes_on = kept.len() > MOST_NAMES;
        kept.truncate(MOST_NAMES);
        let paused = house.records.paused(now).await?;
        for it in &kept {
            let state = match paused.contains(&it.id) {
                true => State::Unknown,
                false => state_of(it, |at| house.upkeep.is_check_late(at, now), now),
            };
            names.push(Named {
                name: it.name.clone().unwrap_or_else(|| it.id.as_str().to_owned()),
                class: class(state),
                word: speech.say(&format!("state-{}", state.as_str()), &[]),
            });
        }
        names.sort_by_cached_key(|named| named.name.to_lowercase());
    }
    Ok(Page {
        since,
        checked: whole.checked_at.map(When::at),
        days: Some(Days::new(speech, &uptime)),
        names,
        goes_on,
        ..empty(front, speech, whole.state)
    })
}
