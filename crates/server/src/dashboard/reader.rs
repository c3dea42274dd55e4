//! Who looks at a page, and in which language: the one they chose, else what their browser asks for, else the service's.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequestParts, State};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use tokens::{InstallationId, KeeperError, StoreError};
use upkeep::Speech;

use super::sent_to;
use super::session::{Viewer, is_same_origin, safe_path};
use crate::browser::{cookie, form};
use crate::error::Problem;
use crate::front::Front;

/// The cookie that holds the language that somebody chose.
const CHOSEN: &str = "ghl-auth-language";

/// Whoever is before a page.
#[derive(Clone)]
pub(crate) struct Reader {
    pub(crate) speech: Arc<dyn Speech>,
    /// None where nobody is signed in.
    pub(super) viewer: Option<Viewer>,
}

impl Reader {
    pub(crate) fn new(front: &Front, headers: &HeaderMap, viewer: Option<Viewer>) -> Self {
        let languages = &front.house.languages;
        let spoken: Vec<String> = languages.iter().map(|speech| language(speech.as_ref())).collect();
        let asked = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
        let wanted = [cookie(headers, CHOSEN), asked];
        let found = wanted.into_iter().flatten().find_map(|wanted| preferred(wanted, &spoken));
        let speech = found.map_or(&front.house.speech, |place| &languages[place]);
        Self { speech: speech.clone(), viewer }
    }

    /// An id in a path.
    pub(super) fn id(&self, kind: &str, id: &str) -> Result<InstallationId, Problem> {
        let bad = |_| self.problem(StatusCode::BAD_REQUEST, "bad_id");
        InstallationId::from_parts(kind, id).map_err(bad)
    }

    /// What can't be done, in the reader's language.
    pub(crate) fn problem(&self, status: StatusCode, code: &'static str) -> Problem {
        Problem::new(self.speech.as_ref(), status, code)
    }

    pub(super) fn of_store(&self, error: &StoreError) -> Problem {
        Problem::store(self.speech.as_ref(), error)
    }

    pub(super) fn of_keeper(&self, front: &Front, error: &KeeperError) -> Problem {
        Problem::keeper_in(self.speech.as_ref(), &front.house, error)
    }
}

impl FromRequestParts<Arc<Front>> for Reader {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, front: &Arc<Front>) -> Result<Self, Infallible> {
        Ok(Self::new(front, &parts.headers, parts.extensions.get::<Viewer>().cloned()))
    }
}

/// The tag of the language that is spoken.
pub(super) fn language(speech: &dyn Speech) -> String {
    speech.say("page-language", &[])
}

/// Which of the languages spoken is wanted most, as `Accept-Language` says it (RFC 9110, 12.5.4). The region is
/// nothing to insist on.
fn preferred(wanted: &str, spoken: &[String]) -> Option<usize> {
    let main = |tag: &str| tag.split(['-', '_']).next().unwrap_or_default().trim().to_ascii_lowercase();
    let mut ranges: Vec<(&str, f32)> = wanted
        .split(',')
        .map(|range| match range.split_once(';') {
            Some((tag, weight)) => {
                let weight = weight.trim().strip_prefix("q=").and_then(|weight| weight.parse().ok());
                (tag, weight.unwrap_or(0.0))
            }
            None => (range, 1.0),
        })
        .filter(|(_, weight)| *weight > 0.0)
        .collect();
    ranges.sort_by(|one, other| other.1.total_cmp(&one.1));
    ranges.into_iter().find_map(|(tag, _)| spoken.iter().position(|spoken| main(spoken) == main(tag)))
}

/// Somebody chose a language.
pub(crate) async fn choose(State(front): State<Arc<Front>>, headers: HeaderMap, body: Body) -> Response {
    let reader = Reader::new(&front, &headers, None);
    if !is_same_origin(&headers) {
        return reader.problem(StatusCode::FORBIDDEN, "not_from_here").into_response();
    }
    let wanted = form(body).await.ok().and_then(|mut found| found.remove("language"));
    let mut spoken = front.house.languages.iter().map(|speech| language(speech.as_ref()));
    let Some(chosen) = spoken.find(|tag| wanted.as_ref() == Some(tag)) else {
        return reader.problem(StatusCode::BAD_REQUEST, "bad_query").into_response();
    };
    // The page that it was chosen on.
    let before = headers.get(header::REFERER).and_then(|value| value.to_str().ok());
    let before = before.and_then(|before| before.parse::<Uri>().ok());
    let path = before.as_ref().and_then(Uri::path_and_query).map_or("/", |path| path.as_str());
    let mut response = sent_to(safe_path(path));
    let kept = format!("{CHOSEN}={chosen}; Path=/; HttpOnly; SameSite=Lax; Max-Age=31536000");
    if let Ok(kept) = HeaderValue::try_from(kept) {
        response.headers_mut().insert(header::SET_COOKIE, kept);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_that_is_wanted_most_is_spoken() {
        let spoken = ["en", "pt-BR"].map(str::to_owned);
        let check = |wanted, expected: Option<&str>| {
            assert_eq!(preferred(wanted, &spoken).map(|place| spoken[place].as_str()), expected, "{wanted}");
        };
        check("pt-BR", Some("pt-BR"));
        check("pt-PT,en;q=0.8", Some("pt-BR"));
        check("en-GB,pt;q=0.8", Some("en"));
        check("de,pt;q=0.3,en;q=0.7", Some("en"));
        check("de, PT_br ; q=0.3", Some("pt-BR"));
        check("de, pt;q=0.3", Some("pt-BR"));
        check("en;q=0, pt;q=0.1", Some("pt-BR"));
        check("en;q=x", None);
        check("*", None);
        check("", None);
    }
}
