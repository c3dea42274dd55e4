//! What can't be done, as a page, for whoever asked with a browser.

use askama::Template;
use axum::response::Response;
use http::{HeaderMap, header};

use super::frame::{Frame, Place};
use super::reader::Reader;
use super::shown;
use crate::error::Told;
use crate::front::Front;

#[derive(Template)]
#[template(path = "problem.html")]
struct Page<'a> {
    frame: Frame<'a>,
    told: &'a Told,
}

/// The answer as it is, or as a page where it tells of a problem and the asker reads pages.
pub(crate) fn readable(front: &Front, reader: &Reader, asked: &HeaderMap, response: Response) -> Response {
    let accepts = asked.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let Some(told) = response.extensions().get::<Told>().filter(|_| accepts.contains("text/html")) else {
        return response;
    };
    let page = Page { frame: Frame::new(front, reader, Place::Elsewhere), told };
    let mut readable = shown(response.status(), &page, None);
    let kept = [header::RETRY_AFTER, header::ALLOW];
    for (name, value) in response.headers().iter().filter(|(name, _)| kept.contains(name)) {
        readable.headers_mut().insert(name, value.clone());
    }
    readable
}
