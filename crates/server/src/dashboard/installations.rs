//! All installations, a page at a time.

use std::sync::Arc;

use askama::Template;
use axum::extract::{RawQuery, State};
use http::StatusCode;
use tokens::store::{Listing, Order, Stand};

use super::frame::{Frame, Place, Row, stand_word};
use super::reader::Reader;
use super::{Shown, shown};
use crate::api::installations::asked;
use crate::api::pages::cursor;
use crate::browser::parameters;
use crate::front::Front;

/// So many on a page where nobody says how many.
const USUAL: usize = 50;

#[derive(Template)]
#[template(path = "installations.html")]
struct Page<'a> {
    frame: Frame<'a>,
    text: String,
    states: Vec<Choice>,
    orders: Vec<Choice>,
    rows: Vec<Row>,
    /// The link to the next page.
    next: Option<String>,
    is_first: bool,
    total: u64,
}

/// One of several that may be chosen.
struct Choice {
    value: &'static str,
    word: String,
    is_chosen: bool,
}

/// Shows a page of them.
pub(crate) async fn page(State(front): State<Arc<Front>>, reader: Reader, RawQuery(raw): RawQuery) -> Shown {
    // A form sends what is left empty, too.
    let named = parameters(raw.as_deref()).unwrap_or_default();
    let filled: Vec<(&String, &String)> = named.iter().filter(|(_, value)| !value.is_empty()).collect();
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(&filled).finish();
    let mut listing = asked(&front, Some(&query))?;
    if !named.contains_key("limit") {
        listing.limit = USUAL;
    }
    let page = read(&front, &reader, listing).await.map_err(|error| reader.of_store(&error))?;
    Ok(shown(StatusCode::OK, &page, None))
}

async fn read<'a>(
    front: &'a Front,
    reader: &'a Reader,
    listing: Listing,
) -> Result<Page<'a>, tokens::StoreError> {
    let frame = Frame::new(front, reader, Place::Installations);
    let words = frame.words;
    let store = front.house.keeper.store();
    let limit = listing.limit;
    let mut found = store.overview(&Listing { limit: limit + 1, ..listing.clone() }).await?;
    let goes_on = found.len() > limit;
    found.truncate(limit);
    let counts = store.counts().await?;
    let paused = front.house.records.paused(words.now).await?;
    let next = found.last().filter(|_| goes_on).map(|last| link(&listing, &cursor(listing.order, last)));
    Ok(Page {
        text: listing.text.clone().unwrap_or_default(),
        states: Stand::ALL
            .into_iter()
            .map(|stand| Choice {
                value: stand.as_str(),
                word: stand_word(&words, stand),
                is_chosen: listing.standing == Some(stand),
            })
            .collect(),
        orders: Order::ALL
            .into_iter()
            .map(|order| Choice {
                value: order.as_str(),
                word: words.say(&format!("dash-order-{}", order.as_str().replace('_', "-"))),
                is_chosen: listing.order == order,
            })
            .collect(),
        rows: found.iter().map(|it| Row::new(&words, it, paused.contains(&it.id))).collect(),
        next,
        is_first: listing.after.is_none(),
        total: counts.locations + counts.companies,
        frame,
    })
}

/// The query of the page that begins behind `after`.
fn link(listing: &Listing, after: &str) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("after", after).append_pair("sort", listing.order.as_str());
    if let Some(text) = &listing.text {
        query.append_pair("q", text);
    }
    if let Some(stand) = listing.standing {
        query.append_pair("state", stand.as_str());
    }
    if let Some(company) = &listing.company {
        query.append_pair("company", company.as_str());
    }
    query.finish()
}
