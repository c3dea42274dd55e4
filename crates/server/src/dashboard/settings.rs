//! What the service goes by, to be read and not changed here: it is set where the service is started. Of a secret it is
//! told that there is one.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;

use super::frame::{Frame, Place};
use super::reader::Reader;
use super::shown;
use crate::front::Front;
use crate::house::Setting;

#[derive(Template)]
#[template(path = "settings.html")]
struct Page<'a> {
    frame: Frame<'a>,
    version: &'static str,
    settings: &'a [Setting],
}

/// Shows them.
pub(crate) async fn page(State(front): State<Arc<Front>>, reader: Reader) -> Response {
    let frame = Frame::new(&front, &reader, Place::Settings);
    let page = Page { frame, version: env!("CARGO_PKG_VERSION"), settings: &front.house.settings };
    shown(StatusCode::OK, &page, None)
}
