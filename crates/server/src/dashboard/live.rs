//! Tells an open page that something has changed, by server-sent events.
//!
//! Only that it has: the page then asks for itself anew.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use http_body::Frame;
use tokens::records::CheckQuery;
use tokens::store::Mark;
use tokens::{StoreError, Timestamp};
use tokio::sync::{mpsc, watch};
use upkeep::is_over_within;

use super::session::viewer;
use crate::front::Front;

/// How often it is looked, and after how many looks without news something is said to keep the connection.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const SPEAK_AFTER: u32 = 15;

/// A browser comes back by itself, and has to be signed in still.
const AT_MOST: u32 = 600;

/// Whether the service is about to end.
#[derive(Clone)]
pub(crate) struct Stopping(pub(crate) watch::Receiver<bool>);

/// What tells that something has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    mark: Mark,
    checked_at: Option<Timestamp>,
    told_at: Option<Timestamp>,
}

impl Seen {
    async fn look(front: &Front, before: Mark) -> Result<Self, StoreError> {
        let records = front.house.records.as_ref();
        let checks = records.checks(&CheckQuery { id: None, before: None, limit: 1 }).await?;
        let notices = records.notices(1).await?;
        Ok(Self {
            mark: front.house.keeper.store().changes(before).await?.mark,
            checked_at: checks.first().map(|check| check.at),
            told_at: notices.first().map(|(notice, _)| notice.at),
        })
    }
}

/// What is told, as a body.
struct Events(mpsc::Receiver<&'static str>);

impl http_body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let text = ready!(self.0.poll_recv(context));
        Poll::Ready(text.map(|text| Ok(Frame::data(Bytes::from_static(text.as_bytes())))))
    }
}

/// Tells, until the service ends or the browser leaves.
pub(crate) async fn live(
    State(front): State<Arc<Front>>,
    Extension(Stopping(stop)): Extension<Stopping>,
    headers: http::HeaderMap,
) -> Response {
    let (told, events) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut stop = stop;
        let (mut seen, mut quiet) = (None, 0);
        for _ in 0..AT_MOST {
            let Ok(now) = Seen::look(&front, seen.map(|seen: Seen| seen.mark).unwrap_or_default()).await
            else {
                return;
            };
            let text = match seen.replace(now) {
                None => Some(": hello\n\n"),
                Some(before) if before != now => Some("event: changed\ndata: \n\n"),
                Some(_) if quiet >= SPEAK_AFTER => Some(": nothing new\n\n"),
                Some(_) => None,
            };
            quiet = if text.is_some() { 0 } else { quiet + 1 };
            if let Some(text) = text {
                // Whoever signs out hears no more.
                let is_signed_in = matches!(viewer(&front, &headers).await, Ok(Some(_)));
                let sent = told.send(text).await;
                if sent.is_err() || !is_signed_in {
                    return;
                }
            }
            if is_over_within(LOOK_EVERY, &mut stop).await {
                return;
            }
        }
    });
    let mut response = Body::new(Events(events)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
