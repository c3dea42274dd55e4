//! What there was to tell, and whether it arrived.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use http::StatusCode;
use tokens::Notice;
use tokens::records::DeliveryState;

use super::frame::{Frame, Place, Sign, When, Words, whose};
use super::reader::Reader;
use super::{Shown, shown};
use crate::front::Front;

const MOST: usize = 100;

#[derive(Template)]
#[template(path = "notices.html")]
struct Page<'a> {
    frame: Frame<'a>,
    told: Vec<Told>,
}

/// A notice, in a list.
pub(super) struct Told {
    pub(super) sign: Sign,
    pub(super) kind: String,
    pub(super) whose: String,
    pub(super) path: Option<String>,
    pub(super) what: Option<String>,
    pub(super) at: When,
    pub(super) ways: Vec<Way>,
}

/// How it is with one way to tell it.
pub(super) struct Way {
    pub(super) name: String,
    pub(super) class: &'static str,
    pub(super) told: String,
}

impl Told {
    pub(super) fn new(words: &Words<'_>, notice: &Notice, ways: &[DeliveryState]) -> Self {
        let (whose, path) = whose(words, &notice.subject);
        Self {
            sign: Sign::of(words, Some(notice.health)),
            kind: words.say(&format!("dash-notice-{}", notice.kind.as_str())),
            whose,
            path,
            what: notice.said.clone(),
            at: When::new(words, notice.at),
            ways: ways.iter().map(|way| Way::new(words, way)).collect(),
        }
    }
}

impl Way {
    fn new(words: &Words<'_>, state: &DeliveryState) -> Self {
        let (class, told) = match (state.delivered_at, &state.said) {
            (Some(at), _) => ("good", words.say_of("dash-way-arrived", "at", words.moment(at))),
            (None, Some(said)) => ("bad", said.clone()),
            (None, None) => ("late", words.say("dash-way-waits")),
        };
        Self { name: state.way.clone(), class, told }
    }
}

/// Shows them.
pub(crate) async fn page(State(front): State<Arc<Front>>, reader: Reader) -> Shown {
    let notices = front.house.records.notices(MOST).await.map_err(|error| reader.of_store(&error))?;
    let frame = Frame::new(&front, &reader, Place::Notices);
    let told = notices.iter().map(|(notice, ways)| Told::new(&frame.words, notice, ways)).collect();
    Ok(shown(StatusCode::OK, &Page { frame, told }, None))
}
