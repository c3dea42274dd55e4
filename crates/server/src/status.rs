//! How all of it is, in one word, for people who are no users: a page, and badges.
//!
//! It is there only where the settings say so. Anybody may look, so no look costs more than another: what
//! there is to see is found out once in a few seconds, however many ask. Without a word about names, nothing in
//! it tells of any installation, not even how many there are.

mod badge;
mod page;
mod whole;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use tokens::records::Badge;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::dashboard::{self, Reader};
use crate::error::Problem;
use crate::front::Front;
use crate::house::Face;

pub(crate) use badge::badge;
pub(crate) use page::page;

/// Where the page is.
pub(crate) const PAGE: &str = "/status";

/// What stands before a badge's name.
const BADGES: &str = "/badge/";

/// What is found out is good for so long.
const GOOD_FOR: Duration = Duration::from_secs(3);

/// A store that takes longer says nothing.
const FOUND_WITHIN: Duration = Duration::from_secs(5);

/// Who may see how it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StatusPage {
    /// Nobody without a key: there are neither a page nor badges.
    #[default]
    Off,
    /// Anybody, without the names of installations.
    On,
    /// Anybody, with them.
    Names,
}

impl StatusPage {
    /// Whether a path is there for strangers by this.
    pub(crate) fn shows(self, path: &str) -> bool {
        let is_ours = path == PAGE
            || path.starts_with(BADGES)
            || matches!(path, "/assets/dashboard.css" | "/assets/icon.svg");
        self != Self::Off && is_ours
    }
}

/// How something is, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It works.
    Up,
    /// Some of it does not, something needs attention, or its check is late.
    Late,
    /// Nothing of it works.
    Down,
    /// Nobody has looked yet, or it is gone.
    Unknown,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Late => "late",
            Self::Down => "down",
            Self::Unknown => "unknown",
        }
    }
}

/// What is shown to whoever asks again soon.
#[derive(Default)]
pub(crate) struct Board {
    /// For each language.
    pages: Mutex<HashMap<String, (Instant, Picture)>>,
    whole: Mutex<Option<(Instant, State)>>,
    badges: Mutex<Option<(Instant, Arc<[Badge]>)>>,
    of_badges: Mutex<HashMap<String, (Instant, Picture)>>,
}

/// What is kept, while it is good; the instant is when it was found out.
fn fresh<T: Clone>(kept: Option<&(Instant, T)>) -> Option<T> {
    kept.filter(|(at, _)| at.elapsed() < GOOD_FOR).map(|(_, found)| found.clone())
}

/// A page or a badge, and what tells it from others.
#[derive(Clone)]
struct Picture {
    kind: &'static str,
    policy: &'static str,
    /// By whose pages it may be shown.
    shown_by: &'static str,
    text: Bytes,
    tag: HeaderValue,
}

impl Picture {
    fn page(policy: &'static str, text: String) -> Self {
        Self::new("text/html; charset=utf-8", policy, "same-origin", text)
    }

    fn badge(policy: &'static str, text: String) -> Self {
        Self::new("image/svg+xml", policy, "cross-origin", text)
    }

    fn new(kind: &'static str, policy: &'static str, shown_by: &'static str, text: String) -> Self {
        let digest = digest(&SHA256, text.as_bytes());
        let tag: String = digest.as_ref().iter().take(12).map(|byte| format!("{byte:02x}")).collect();
        let tag = HeaderValue::try_from(format!("\"{tag}\"")).unwrap_or(HeaderValue::from_static("\"\""));
        Self { kind, policy, shown_by, text: text.into(), tag }
    }

    /// The answer to someone who may have it already.
    fn answer(&self, headers: &HeaderMap) -> Response {
        let is_known = headers.get_all(header::IF_NONE_MATCH).iter().any(|known| known == self.tag);
        let mut response = match is_known {
            true => StatusCode::NOT_MODIFIED.into_response(),
            false => self.text.clone().into_response(),
        };
        let all = response.headers_mut();
        all.insert(header::ETAG, self.tag.clone());
        for (name, value) in [
            (header::CONTENT_TYPE, self.kind),
            (header::CONTENT_SECURITY_POLICY, self.policy),
            (header::CACHE_CONTROL, "public, max-age=60"),
            (header::VARY, "accept-language, cookie"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::X_FRAME_OPTIONS, "DENY"),
            (header::REFERRER_POLICY, "no-referrer"),
            (HeaderName::from_static("cross-origin-resource-policy"), self.shown_by),
        ] {
            all.insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

/// What is said where there is nothing, and where nobody is to know that there could be: the same as of any other
/// path at that door.
fn nothing_here(front: &Front, face: Face, headers: &HeaderMap) -> Response {
    if face == Face::Public {
        return Problem::new(front.house.speech.as_ref(), StatusCode::NOT_FOUND, "not_found").into_response();
    }
    let reader = Reader::new(front, headers, None);
    let problem = reader.problem(StatusCode::NOT_FOUND, "not_found").into_response();
    dashboard::readable(front, &reader, headers, problem)
}
