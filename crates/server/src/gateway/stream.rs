//! The carrier for whatever is not plain: long bodies, chunks, trailers, old callers, HTTP/2 to HighLevel.
//!
//! A short body is at hand whole before a connection to HighLevel is taken; a longer one streams, as does
//! every answer, at the pace of whoever is slower.

use std::pin::pin;
use std::time::Duration;

use axum::body::Body;
use axum::response::IntoResponse as _;
use bytes::{Bytes, BytesMut};
use highlevel::{ApiBase, Broken, Forwarder, Told, version_of};
use http::header::{AUTHORIZATION, CONNECTION, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use tokio::time::{Instant, timeout};

use super::headers::{Fate, fate, goes_back, listed};
use super::pace::{Report, Sending, Stopped, Taking, Trouble};
use super::refusals::{HINT, LONGEST_REFUSAL, is_looked_into};
use super::{ANSWERS_WITHIN, Admitted, Asked, KEPT_BODY, PREFIX, QUOTA, Verdict};
use crate::auth::{Source, Unknown};
use crate::error::Problem;
use crate::front::{Answer, Front, RequestId};
use crate::routes::is_in_cookie;

/// A short body has to be whole within this time.
const BODY_WITHIN: Duration = Duration::from_secs(10);

/// A request's body as it goes to HighLevel.
pub(crate) type Outgoing = http_body_util::Either<Full<Bytes>, Sending<Body>>;

/// What carries it.
pub(crate) type Carrier = Forwarder<Outgoing>;

/// What a caller sends along.
enum Luggage {
    /// All of it.
    Kept(Bytes),
    /// The beginning, and what is still to come.
    Coming(Bytes, Body),
}

/// Notes a request when it is done with, be it because its caller has left: HighLevel may have got it.
struct Noting<'a> {
    front: &'a Front,
    parts: &'a Parts,
    id: &'a RequestId,
    status: StatusCode,
}

impl Drop for Noting<'_> {
    fn drop(&mut self) {
        let path = self.parts.uri.path();
        let path = path.strip_prefix(PREFIX).unwrap_or(path);
        self.front.note_carried(self.parts.method.as_str(), path, self.status, self.id);
    }
}

/// What is noted where nobody was there any more to be answered, as web servers do.
fn caller_left() -> StatusCode {
    StatusCode::from_u16(499).unwrap_or(StatusCode::REQUEST_TIMEOUT)
}

impl Front {
    /// Carries one request to HighLevel and its answer back.
    pub(crate) async fn carry(
        &self,
        request: Request<Body>,
        source: Source,
        id: &RequestId,
        carrier: &Carrier,
    ) -> Answer {
        let (parts, body) = request.into_parts();
        let mut noting = Noting { front: self, parts: &parts, id, status: caller_left() };
        let answer = match self.try_carrying(&parts, body, source, id, carrier).await {
            Ok(answer) => answer,
            Err(problem) => problem.into_response(),
        };
        noting.status = answer.status();
        answer
    }

    async fn try_carrying(
        &self,
        parts: &Parts,
        body: Body,
        source: Source,
        id: &RequestId,
        carrier: &Carrier,
    ) -> Result<Answer, Problem> {
        let speech = self.house.speech.as_ref();
        let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
        let mut asked = Asked::new(parts.method.as_str(), target.strip_prefix(PREFIX).unwrap_or_default());
        for (name, value) in &parts.headers {
            asked.note(name.as_str(), value.as_bytes());
        }
        if is_in_cookie(&parts.headers) {
            return Err(Problem::unknown(speech, Unknown::Exposed));
        }
        let mut codings = parts.headers.get_all(TRANSFER_ENCODING).iter();
        if codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
            return Err(Problem::new(speech, StatusCode::BAD_REQUEST, "bad_request"));
        }
        let now = self.house.clock.now();
        let caller = self.caller(&parts.headers, source, now).await;
        let caller = caller.map_err(|unknown| Problem::unknown(speech, unknown))?;
        let longest = self.house.gateway.longest_body;
        if longest.is_some_and(|longest| body.size_hint().lower() > longest) {
            return Err(self.troubled(Trouble::TooLong));
        }
        // What may not pass is told so before its body is waited for.
        let mut admitted = self.admit_errand(caller, &asked, id, now).await?;
        let luggage = self.pack(body, longest).await?;
        let report = Report::default();
        let (kept, mut coming) = match luggage {
            Luggage::Kept(bytes) => (Some(bytes), None),
            Luggage::Coming(first, rest) => (None, Some(Sending::new(first, rest, longest, report.clone()))),
        };
        loop {
            let body = match (&kept, coming.take()) {
                (Some(bytes), _) => Outgoing::Left(Full::new(bytes.clone())),
                (None, Some(body)) => Outgoing::Right(body),
                (None, None) => return Err(self.broken(&Broken::Odd("it was asked for twice"))),
            };
            let request = self.request(parts, &admitted, asked.target, body)?;
            let passed = self.pass(carrier, request, kept.as_ref(), parts).await;
            let answer = match passed {
                Ok(answer) => answer,
                Err(problem) => {
                    return Err(report.trouble().map_or(problem, |trouble| self.troubled(trouble)));
                }
            };
            let (mut head, body) = answer.into_parts();
            let told = told_by(&head.headers);
            let forecast = admitted.answered(&told, Instant::now());
            clean(&mut head.headers);
            if let Some(quota) = self.quota(forecast) {
                head.headers.insert(QUOTA, quota);
            }
            if !is_looked_into(head.status) {
                return Ok(Response::from_parts(head, Body::new(Taking::new(body, admitted))));
            }
            let (first, rest) = beginning(body, LONGEST_REFUSAL).await.map_err(|_| self.cut_off())?;
            let can_repeat = kept.is_some();
            match self.consider(&mut admitted, head.status, &first, &told, can_repeat).await {
                Verdict::Again => {}
                Verdict::Pass(hint) => {
                    if let Some(hint) = hint {
                        head.headers.insert(HINT, hint.value(speech));
                    }
                    let body = Sending::new(first, Body::new(rest), None, Report::default());
                    return Ok(Response::from_parts(head, Body::new(Taking::new(body, admitted))));
                }
            }
        }
    }

    /// Waits for a body that is short, and for the beginning of a longer one.
    async fn pack(&self, mut body: Body, longest: Option<u64>) -> Result<Luggage, Problem> {
        let mut first = BytesMut::new();
        let reading = async {
            while first.len() <= KEPT_BODY {
                match body.frame().await {
                    None => return Ok(true),
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) => first.extend_from_slice(&data),
                        // Trailers are of no meaning to an API of JSON; what they could smuggle is.
                        Err(_) => return Ok(true),
                    },
                    Some(Err(_)) => return Err(Trouble::Broken),
                }
            }
            Ok(false)
        };
        let read = timeout(BODY_WITHIN, reading).await;
        let first = first.freeze();
        let is_whole = read.unwrap_or(Err(Trouble::TooSlow)).map_err(|trouble| self.troubled(trouble))?;
        if longest.is_some_and(|longest| first.len() as u64 > longest) {
            return Err(self.troubled(Trouble::TooLong));
        }
        match is_whole {
            true => Ok(Luggage::Kept(first)),
            false => Ok(Luggage::Coming(first, body)),
        }
    }

    /// The request as HighLevel gets it.
    fn request(
        &self,
        parts: &Parts,
        admitted: &Admitted,
        target: &str,
        body: Outgoing,
    ) -> Result<Request<Outgoing>, Problem> {
        let client = &self.house.gateway.client;
        let odd = || Problem::new(self.house.speech.as_ref(), StatusCode::BAD_REQUEST, "bad_target");
        let mut request = Request::new(body);
        *request.method_mut() = parts.method.clone();
        *request.uri_mut() = address(client.base(), target).ok_or_else(odd)?;
        let headers = request.headers_mut();
        let of_connection: Vec<&str> =
            parts.headers.get_all(CONNECTION).iter().flat_map(|value| listed(value.as_bytes())).collect();
        let mut has_version = false;
        for (name, value) in &parts.headers {
            if of_connection.iter().any(|listed| listed.eq_ignore_ascii_case(name.as_str())) {
                continue;
            }
            match fate(name.as_str()) {
                Fate::Stays | Fate::Lists => continue,
                Fate::Version => has_version = true,
                Fate::Passes => {}
            }
            headers.append(name.clone(), value.clone());
        }
        if !has_version {
            let version = version_of(target, client.dialect());
            headers.insert(VERSION, HeaderValue::from_static(version));
        }
        let bearer = [b"Bearer ", admitted.token()].concat();
        let mut bearer = HeaderValue::from_maybe_shared(Bytes::from(bearer)).map_err(|_| odd())?;
        bearer.set_sensitive(true);
        headers.insert(AUTHORIZATION, bearer);
        Ok(request)
    }

    /// Sends it. What HighLevel did not begin with is sent once more; so is, where a connection broke without an
    /// answer, what may be repeated by its nature.
    async fn pass(
        &self,
        carrier: &Carrier,
        request: Request<Outgoing>,
        kept: Option<&Bytes>,
        parts: &Parts,
    ) -> Result<Response<Incoming>, Problem> {
        let again = kept.map(|body| {
            let mut again = Request::new(Outgoing::Left(Full::new(body.clone())));
            *again.method_mut() = request.method().clone();
            *again.uri_mut() = request.uri().clone();
            *again.headers_mut() = request.headers().clone();
            again
        });
        let exchange = async {
            let passed = carrier.pass(request).await;
            let may_repeat = match &passed {
                Err(Broken::Refused(_)) => true,
                Err(Broken::Lost(_)) => is_repeatable(parts.method.as_str()),
                _ => false,
            };
            match again.filter(|_| may_repeat) {
                Some(again) => carrier.pass(again).await,
                None => passed,
            }
        };
        // A long body takes its time, and its pace is watched; the answer's begins behind it.
        let limit = if kept.is_some() { ANSWERS_WITHIN } else { Duration::from_secs(3600) };
        match timeout(limit, pin!(exchange)).await {
            Ok(passed) => passed.map_err(|error| self.broken(&error)),
            Err(_) => Err(self.no_answer()),
        }
    }

    /// HighLevel did not begin to answer.
    pub(crate) fn no_answer(&self) -> Problem {
        Problem::new(self.house.speech.as_ref(), StatusCode::GATEWAY_TIMEOUT, "highlevel_no_answer")
    }

    /// The exchange with HighLevel did not come about.
    pub(crate) fn broken(&self, error: &Broken) -> Problem {
        let why = std::error::Error::source(error).map(ToString::to_string);
        tracing::warn!(%error, why, "a request did not pass the gateway");
        let code = match error {
            Broken::Unreachable(_) => "highlevel_unreachable",
            Broken::Lost(_) | Broken::Refused(_) | Broken::Odd(_) => "highlevel_odd_answer",
        };
        Problem::new(self.house.speech.as_ref(), StatusCode::BAD_GATEWAY, code)
    }

    fn cut_off(&self) -> Problem {
        self.broken(&Broken::Odd("it ended before its time"))
    }

    fn troubled(&self, trouble: Trouble) -> Problem {
        let (status, code) = match trouble {
            Trouble::TooLong => (StatusCode::PAYLOAD_TOO_LARGE, "gateway_body_too_long"),
            Trouble::TooSlow => (StatusCode::REQUEST_TIMEOUT, "body_too_slow"),
            Trouble::Broken => (StatusCode::BAD_REQUEST, "bad_request"),
        };
        Problem::new(self.house.speech.as_ref(), status, code)
    }

    /// Counts and logs a request that was carried, or turned away.
    pub(crate) fn note_carried(&self, method: &str, target: &str, status: StatusCode, id: &RequestId) {
        self.metrics.gateway.answered(status.as_u16());
        // The query may hold someone's e-mail address or name.
        let path = || target.split('?').next();
        tracing::debug!(request_id = id.as_str(), method, path = path(), status = status.as_u16(), "carried");
    }
}

/// The header in which a caller or we say which version of the API is meant.
const VERSION: HeaderName = HeaderName::from_static("version");

fn address(base: &ApiBase, target: &str) -> Option<Uri> {
    format!("{}{target}", base.as_str()).parse().ok()
}

/// Whether a request may be sent again when nobody knows whether it was acted on (RFC 9110, 9.2.2).
pub(crate) fn is_repeatable(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS" | "PUT" | "DELETE")
}

fn told_by(headers: &HeaderMap) -> Told {
    let mut told = Told::default();
    for (name, value) in headers {
        told.note(name.as_str(), value.as_bytes());
    }
    told
}

/// Takes out of an answer what is about our connection with HighLevel.
fn clean(headers: &mut HeaderMap) {
    let of_connection: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| listed(value.as_bytes()))
        .filter_map(|name| name.parse().ok())
        .collect();
    for name in of_connection {
        headers.remove(name);
    }
    let stays: Vec<HeaderName> = headers
        .keys()
        .filter(|name| !goes_back(name.as_str()) && *name != "content-length")
        .cloned()
        .collect();
    for name in stays {
        headers.remove(name);
    }
}

/// The beginning of an answer's body, all of it where it is short, and the rest.
async fn beginning(mut body: Incoming, longest: usize) -> Result<(Bytes, Incoming), Stopped> {
    let mut first = BytesMut::new();
    while first.len() < longest {
        match timeout(ANSWERS_WITHIN, body.frame()).await {
            Ok(None) => break,
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => first.extend_from_slice(&data),
                Err(_) => break,
            },
            Ok(Some(Err(_))) | Err(_) => return Err(Stopped),
        }
    }
    Ok((first.freeze(), body))
}
