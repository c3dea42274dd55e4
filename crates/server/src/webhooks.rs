//! HighLevel tells of installs and uninstalls, to whoever is at the address it was given.
//!
//! Anybody can send here, so nothing in a body is read before HighLevel's signature over it was found
//! good, and that is not even looked for from an address that sends too much. HighLevel hears that an
//! event came only once it rests in the queue: where it can't be put there it is told so, and repeats
//! itself for three days.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use highlevel::{Event, Happening, WebhookKeys};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::json;
use tokens::Timestamp;
use tokens::records::QueuedEvent;
use tracing::{info, warn};

use crate::api::{document, whole_body};
use crate::auth::{Source, held};
use crate::error::Problem;
use crate::front::Front;

/// HighLevel cuts what is longer.
const LONGEST_BODY: usize = 256 * 1024;

/// HighLevel repeats what was not taken for this long, and does not say whether with its first time.
const REPEATED_FOR: Duration = Duration::from_secs(3 * 24 * 60 * 60);

/// What happens later than this from now does so by a clock that is wrong, or was made up.
const AHEAD_AT_MOST: Duration = Duration::from_secs(5 * 60);

/// How much one address may send in a second: a body costs one, and one more for each 16 KiB of it.
const A_SECOND: u32 = 2000;
const COSTS_ONE_MORE: usize = 16 * 1024;
const SECOND: Duration = Duration::from_secs(1);

/// So many addresses are counted apart.
const COUNTED_AT_MOST: usize = 4096;

/// What is needed to believe a webhook.
#[derive(Debug)]
pub struct Webhooks {
    /// Who signs.
    pub keys: WebhookKeys,
    /// The app that is ours.
    pub app_id: String,
}

/// How much each address has sent within its last second. Signatures cost time, and whoever sends
/// them need not be HighLevel.
#[derive(Debug, Default)]
pub(crate) struct Crowd(Mutex<HashMap<IpAddr, (Timestamp, u32)>>);

impl Crowd {
    /// Whether an address may have a body of this length looked at.
    fn admit(&self, source: Source, length: usize, now: Timestamp) -> bool {
        let Source::Ip(ip) = source else { return true };
        let cost = 1 + u32::try_from(length / COSTS_ONE_MORE).unwrap_or(u32::MAX);
        let from = network(ip);
        let mut all = held(&self.0);
        if all.len() >= COUNTED_AT_MOST && !all.contains_key(&from) {
            all.retain(|_, (since, _)| now.apart(*since) < SECOND);
            // Those who come to a crowd of that size in one second are too many.
            if all.len() >= COUNTED_AT_MOST {
                return false;
            }
        }
        let counted = all.entry(from).or_insert((now, 0));
        if now.apart(counted.0) >= SECOND {
            *counted = (now, 0);
        }
        counted.1 = counted.1.saturating_add(cost);
        counted.1 <= A_SECOND
    }
}

/// Whoever has one address of IPv6 has 2^64 of them.
fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => (u128::from(ip) >> 64 << 64).to_be_bytes().into(),
    }
}

/// Takes what HighLevel tells.
pub(crate) async fn highlevel(
    State(front): State<Arc<Front>>,
    axum::Extension(source): axum::Extension<Source>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let problem = |status, code| Problem::new(front.house.speech.as_ref(), status, code);
    let Some(webhooks) = &front.house.webhooks else {
        return Err(problem(StatusCode::CONFLICT, "no_app"));
    };
    if !is_json(&headers) || headers.contains_key(header::CONTENT_ENCODING) {
        return Err(problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_plain_json"));
    }
    let body = whole_body(body, LONGEST_BODY).await.map_err(|status| match status {
        StatusCode::REQUEST_TIMEOUT => problem(status, "body_too_slow"),
        StatusCode::PAYLOAD_TOO_LARGE => problem(status, "webhook_too_long"),
        _ => problem(StatusCode::BAD_REQUEST, "bad_body"),
    })?;
    let now = front.house.clock.now();
    if !front.crowd.admit(source, body.len(), now) {
        return Err(problem(StatusCode::TOO_MANY_REQUESTS, "too_many_webhooks").later(1));
    }
    let verified = webhooks.keys.verify(&headers, &body).map_err(|why| {
        warn!(%why, %source, "a webhook is not HighLevel's");
        problem(StatusCode::UNAUTHORIZED, "not_signed")
    })?;
    let (Some(text), Ok(event)) = (verified.text(), verified.event()) else {
        warn!(%source, "a webhook of HighLevel's can't be read");
        return Err(problem(StatusCode::BAD_REQUEST, "odd_webhook"));
    };
    if !event.is_of(&webhooks.app_id) || event.what == Happening::Other {
        info!(kind = event.kind, app = event.app, "a webhook is of no concern here");
        return Ok(taken("ignored"));
    }
    if !is_timely(&event, now) {
        warn!(kind = event.kind, event = event.id, "a webhook is of another time");
        return Err(problem(StatusCode::BAD_REQUEST, "untimely_webhook"));
    }
    let Event { id, kind, .. } = event;
    let queued = QueuedEvent { id, kind, body: text.to_owned(), received_at: now, attempts: 0 };
    let is_new = front.house.records.queue_event(&queued).await;
    match is_new.map_err(|error| Problem::store(front.house.speech.as_ref(), &error).asking_again())? {
        false => Ok(taken("known")),
        true => {
            let upkeep = front.house.upkeep.clone();
            tokio::spawn(async move { upkeep.heard(&queued).await });
            Ok(taken("queued"))
        }
    }
}

fn taken(outcome: &str) -> Response {
    document(StatusCode::OK, &json!({ "status": outcome }))
}

/// Whether the body says that it is JSON, once.
fn is_json(headers: &HeaderMap) -> bool {
    let mut all = headers.get_all(header::CONTENT_TYPE).iter().map(HeaderValue::as_bytes);
    let (Some(kind), None) = (all.next(), all.next()) else { return false };
    let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default();
    kind.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

/// Whether an event is neither from the future nor older than any that HighLevel repeats. One that
/// does not say when it happened counts as of now.
fn is_timely(event: &Event, now: Timestamp) -> bool {
    event.at.is_none_or(|at| at <= now + AHEAD_AT_MOST && now.since(at) <= REPEATED_FOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

    #[test]
    fn an_event_is_taken_from_five_minutes_ahead_to_three_days_ago() {
        let check = |at: Option<Timestamp>, timely: bool| {
            let mut event = Event::read(r#"{"type":"INSTALL"}"#).expect("an event");
            event.at = at;
            assert_eq!(is_timely(&event, NOW), timely, "{at:?}");
        };
        let minutes = |count: u64| Duration::from_secs(60 * count);
        let moment = Duration::from_millis(1);
        check(None, true);
        check(Some(NOW), true);
        check(Some(NOW + minutes(5)), true);
        check(Some(NOW + minutes(5) + moment), false);
        check(Some(NOW - minutes(6)), true);
        check(Some(NOW - minutes(3 * 24 * 60)), true);
        check(Some(NOW - minutes(3 * 24 * 60) - moment), false);
        check(Some(NOW - minutes(3650 * 24 * 60)), false);
        check(Some(NOW + minutes(3650 * 24 * 60)), false);
    }

    #[test]
    fn a_body_says_once_that_it_is_json() {
        let check = |kinds: &[&str], expected: bool| {
            let mut headers = HeaderMap::new();
            for kind in kinds {
                headers.append(header::CONTENT_TYPE, HeaderValue::from_str(kind).expect("a header"));
            }
            assert_eq!(is_json(&headers), expected, "{kinds:?}");
        };
        check(&["application/json"], true);
        check(&["Application/JSON; charset=utf-8"], true);
        check(&["application/json ;charset=utf-8"], true);
        check(&[], false);
        check(&[""], false);
        check(&["text/plain"], false);
        check(&["application/jsonp"], false);
        check(&["application/x-www-form-urlencoded"], false);
        check(&["text/plain; application/json"], false);
        check(&["application/json", "application/json"], false);
    }

    #[test]
    fn an_address_is_looked_at_so_often_in_a_second_and_others_are_not_held_up() {
        let crowd = Crowd::default();
        let ip = |text: &str| Source::Ip(text.parse().expect("an address"));
        let let_in = |from, length, now| (0..5000).filter(|_| crowd.admit(from, length, now)).count();
        assert_eq!(let_in(ip("192.0.2.1"), 400, NOW), 2000);
        assert_eq!(let_in(ip("192.0.2.1"), 400, NOW + SECOND / 2), 0);
        assert_eq!(let_in(ip("192.0.2.2"), LONGEST_BODY, NOW), 2000 / 17);
        assert_eq!(let_in(ip("192.0.2.1"), 400, NOW + SECOND), 2000);
        assert_eq!(let_in(ip("192.0.2.1"), 400, NOW - SECOND * 3600), 2000, "a clock that is set back");
        assert_eq!(let_in(Source::Unix, LONGEST_BODY, NOW), 5000);
        let one = let_in(ip("2001:db8::1"), 400, NOW) + let_in(ip("2001:db8::2"), 400, NOW);
        assert_eq!(one, 2000, "of one network");
        // Millions of them are forgotten, and cost no more than a few.
        let crowd = Crowd::default();
        let from = |number: u32| Source::Ip(IpAddr::V4(number.into()));
        assert_eq!((0..10_000).filter(|number| crowd.admit(from(*number), 1, NOW)).count(), COUNTED_AT_MOST);
        assert!(crowd.admit(from(1), 1, NOW), "who was there before the crowd is not held up");
        assert!(crowd.admit(from(9999), 1, NOW + SECOND));
        assert!(held(&crowd.0).len() <= COUNTED_AT_MOST);
    }
}
