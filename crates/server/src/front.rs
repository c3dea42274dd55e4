//! The front of the house: every request passes here first.
//!
//! The name it calls us by is checked before anything else; what is not for a public listener is not
//! there; the rest goes to the routes. Which house it is for, where there are several, was decided in the
//! street.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use tokens::Timestamp;
use tokens::store::Mark;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, timeout};
use tower::ServiceExt as _;
use tracing::{Instrument as _, Span, error, info, info_span, warn};
use upkeep::is_over_within;

use crate::audit::AuditBook;
use crate::auth::{Caller, Keys, Source, Unknown};
use crate::browser::Strangers;
use crate::copies::Copies;
use crate::error::Problem;
use crate::gateway::{Carrier, Forecast, Gateway};
use crate::house::{Face, House, Listener};
use crate::metrics::Metrics;
use crate::status::Board;
use crate::webhooks::Crowd;
use crate::{hosts, routes};

/// A connection that sends no whole header within this time is closed.
pub(crate) const HEADER_WITHIN: Duration = Duration::from_secs(5);

/// The longest that an answer is worked on.
const ANSWER_WITHIN: Duration = Duration::from_secs(40);

/// How often other processes' changes are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A store that takes longer to say what changed says nothing.
const SAID_WITHIN: Duration = Duration::from_secs(1);

/// What was saved of late is written back within this time, or tried again.
const WRITTEN_WITHIN: Duration = Duration::from_secs(3);

const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// Seconds until someone whose app's store can't be opened may ask again.
const CLOSED_FOR: u64 = 5;

/// How often it is looked whose calls of the day will be used up.
const FORESEE_EVERY: Duration = Duration::from_secs(5);

const LONGEST_TARGET: usize = 8 * 1024;

/// How long a token lives at least, where the caller does not say.
pub(crate) const MINIMUM_LIFE: Duration = Duration::from_secs(60);

pub(crate) type Answer = Response<Body>;

/// What all connections share.
pub struct Front {
    pub(crate) house: House,
    pub(crate) keys: Keys,
    pub(crate) copies: Copies,
    pub(crate) audit: AuditBook,
    pub(crate) metrics: Metrics,
    pub(crate) strangers: Strangers,
    pub(crate) crowd: Crowd,
    pub(crate) gateway: Gateway,
    pub(crate) board: Board,
    /// Where the browser comes back to.
    pub(crate) callback: String,
    /// Whether its own address says of which app it is.
    pub(crate) callback_has_prefix: bool,
    /// What stands before this app's paths where there are several.
    pub(crate) prefix: String,
    /// Whether the store is on a network.
    is_remote: bool,
    /// Which keys are known: as the records last said.
    keys_as_of: Mutex<Option<u64>>,
    process: String,
    requests: AtomicU64,
}

/// The id of a request, in every answer and log line: up to 64 plain characters.
#[derive(Clone)]
pub(crate) struct RequestId {
    length: usize,
    text: [u8; Self::LONGEST],
}

impl RequestId {
    const LONGEST: usize = 64;

    /// Takes what a request brings, if it is sane.
    fn sane(brought: &[u8]) -> Option<Self> {
        let plain = |c: &u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
        ((1..=Self::LONGEST).contains(&brought.len()) && brought.iter().all(plain))
            .then(|| Self::of([brought, b""]))
    }

    /// Both parts in one, as far as there is room.
    fn of(parts: [&[u8]; 2]) -> Self {
        let mut id = Self { length: 0, text: [0; Self::LONGEST] };
        for part in parts {
            let room = &mut id.text[id.length..];
            let some = room.len().min(part.len());
            room[..some].copy_from_slice(&part[..some]);
            id.length += some;
        }
        id
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.text[..self.length]
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

impl Front {
    /// Gets ready: the keys are known when it returns.
    pub async fn open(house: House, process: String) -> Result<Arc<Self>, tokens::StoreError> {
        let redirect = house.consent.as_ref().and_then(|consent| consent.app.redirect_uri.parse().ok());
        let callback =
            redirect.map_or_else(|| routes::CALLBACK.into(), |uri: http::Uri| uri.path().to_owned());
        let prefix = house.app.as_ref().map_or_else(String::new, |app| format!("/apps/{app}"));
        let inside = callback.strip_prefix(&prefix).filter(|inside| inside.starts_with('/'));
        let (callback, callback_has_prefix) = match inside {
            Some(inside) if !prefix.is_empty() => (inside.to_owned(), true),
            _ => (callback, false),
        };
        let is_remote = house.keeper.store().is_remote();
        let front = Self {
            house,
            is_remote,
            keys: Keys::default(),
            copies: Copies::default(),
            audit: AuditBook::default(),
            metrics: Metrics::default(),
            strangers: Strangers::new(),
            crowd: Crowd::default(),
            gateway: Gateway::default(),
            board: Board::default(),
            callback,
            callback_has_prefix,
            prefix,
            keys_as_of: Mutex::default(),
            process: format!("{process}-"),
            requests: AtomicU64::new(0),
        };
        front.learn_keys().await?;
        Ok(Arc::new(front))
    }

    /// Takes the keys anew, if any process has changed them.
    async fn learn_keys(&self) -> Result<(), tokens::StoreError> {
        let mut as_of = self.keys_as_of.lock().await;
        if let Some((keys, mark)) = self.house.records.keys(*as_of).await? {
            self.keys.replace(keys);
            *as_of = Some(mark);
        }
        Ok(())
    }

    /// What the app is called.
    pub(crate) fn name(&self) -> &str {
        self.house.app.as_deref().unwrap_or("default")
    }

    /// Where a log's lines come from, with several apps.
    pub fn span(&self) -> Span {
        self.house.app.as_ref().map_or_else(Span::none, |name| info_span!("house", app = %name))
    }

    /// Whether the service can do its work for this app.
    pub(crate) fn is_ready(&self) -> bool {
        self.metrics.is_ready() && self.house.upkeep.is_alive()
    }

    pub(crate) async fn learn_keys_or_warn(&self) {
        if let Err(error) = self.learn_keys().await {
            warn!(%error, "the keys can't be read anew");
        }
    }

    /// What is done beside the answering, until `stop` turns true. None of it waits for another.
    pub async fn keep_up(self: Arc<Self>, stop: watch::Receiver<bool>) {
        tokio::join!(
            self.keep_keys(stop.clone()),
            self.keep_copies(stop.clone()),
            self.keep_an_eye_on_quotas(stop.clone()),
            self.keep_written(stop)
        );
    }

    /// Takes the keys anew when any process has changed them.
    async fn keep_keys(&self, mut stop: watch::Receiver<bool>) {
        while !is_over_within(LOOK_EVERY, &mut stop).await {
            self.learn_keys_or_warn().await;
        }
    }

    /// Tells whose calls of the day will be used up, and forgets the budgets that nobody uses.
    async fn keep_an_eye_on_quotas(&self, mut stop: watch::Receiver<bool>) {
        while !is_over_within(FORESEE_EVERY, &mut stop).await {
            for (id, forecast) in self.gateway.forecasts() {
                let Forecast { remaining, limit, spent_in } = forecast;
                self.house.upkeep.tell_quota(&id, remaining, limit, spent_in).await;
            }
            self.gateway.forget();
        }
    }

    /// Drops what any process has changed.
    async fn keep_copies(&self, mut stop: watch::Receiver<bool>) {
        let mut mark = Mark::default();
        while !is_over_within(LOOK_EVERY, &mut stop).await {
            let changes = timeout(SAID_WITHIN, self.house.keeper.store().changes(mark)).await;
            let problem = match changes {
                Ok(Ok(changes)) => {
                    match mark == Mark::default() {
                        // What changed before there was a mark, nobody knows.
                        true => self.copies.drop_all(),
                        false => self.copies.drop_stale(&changes.ids),
                    }
                    mark = changes.mark;
                    // What comes back may be another database that lags behind.
                    let written = match self.is_cut_off() {
                        true => timeout(WRITTEN_WITHIN, self.house.keeper.write_back()).await,
                        false => Ok(Ok(0)),
                    };
                    match written {
                        Ok(Ok(_)) => {
                            self.metrics.store_answers(true);
                            continue;
                        }
                        Ok(Err(error)) => error.to_string(),
                        Err(_) => "it takes too long".to_owned(),
                    }
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "it takes too long".to_owned(),
            };
            warn!(problem, "the store does not say what changed");
            self.metrics.store_answers(false);
            // What can't be compared any more is not handed out from memory, unless a whole network lies
            // in between: see `is_cut_off`. What changed meanwhile is told behind the same mark.
            if !self.is_remote {
                self.copies.drop_all();
                mark = Mark::default();
            }
        }
    }

    /// Whether a store on a network is out of reach.
    ///
    /// What is at hand is served then, with a warning, for as long as each token lives: a database that is
    /// down for a while stops nobody. What it costs: a key that is revoked meanwhile, or an installation
    /// that is taken out of service, is not known here until the database is back. Whoever can cut a
    /// service off from its database has this, and no more than what they could take just before. A key
    /// that ends by itself ends, and where each token that leaves is to be written down, none does.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.is_remote && !self.metrics.is_ready()
    }

    /// Writes down what was counted: every second, and at the end.
    async fn keep_written(&self, mut stop: watch::Receiver<bool>) {
        let mut noted = self.house.clock.now();
        loop {
            let is_over = is_over_within(FLUSH_EVERY, &mut stop).await;
            noted = self.write_down(noted).await;
            if is_over {
                return;
            }
        }
    }

    /// Since when uses of keys wait to be noted.
    async fn write_down(&self, since: Timestamp) -> Timestamp {
        let now = self.house.clock.now();
        if let Err(error) = self.audit.flush(self.house.records.as_ref()).await {
            error!(%error, "who took which token can't be written down; it is counted on");
        }
        let uses = self.keys.uses(since);
        if uses.is_empty() {
            return now;
        }
        match self.house.records.note_uses(&uses).await {
            Ok(()) => now,
            Err(error) => {
                warn!(%error, "the uses of keys can't be noted yet");
                since
            }
        }
    }

    /// One request.
    pub(crate) async fn answer(
        &self,
        request: Request<Body>,
        source: Source,
        face: Face,
        (router, carrier): (Router, &Carrier),
    ) -> Answer {
        let began = Instant::now();
        let id = self.request_id(request.headers().get(REQUEST_ID).map(HeaderValue::as_bytes));
        let mut response = match self.admit(&request, source, face) {
            Err(status) => self.turned_away(status),
            Ok(()) if Self::is_of_gateway(request.uri().path()) => {
                self.carry(request, source, &id, carrier).await
            }
            Ok(()) => self.answer_by_route(request, source, face, &id, router, began).await,
        };
        name_request(&mut response, &id);
        response
    }

    /// The answer to a request that is for no house.
    pub(crate) fn answer_nothing_here(&self, request: &Request<Body>, source: Source, face: Face) -> Answer {
        let id = self.request_id(request.headers().get(REQUEST_ID).map(HeaderValue::as_bytes));
        let status = self.admit(request, source, face).err().unwrap_or(StatusCode::NOT_FOUND);
        let mut response = self.turned_away(status);
        name_request(&mut response, &id);
        response
    }

    /// The id that a request brings, if it is sane, or a new one.
    pub(crate) fn request_id(&self, brought: Option<&[u8]>) -> RequestId {
        brought.and_then(RequestId::sane).unwrap_or_else(|| {
            let number = self.requests.fetch_add(1, Ordering::Relaxed);
            RequestId::of([self.process.as_bytes(), itoa::Buffer::new().format(number).as_bytes()])
        })
    }

    /// The answer to a request that is for a house that is closed, by its path and the callback there.
    pub(crate) fn answer_closed(
        &self,
        request: &Request<Body>,
        (inside, callback): (&str, &str),
        source: Source,
        face: Face,
    ) -> Answer {
        let id = self.request_id(request.headers().get(REQUEST_ID).map(HeaderValue::as_bytes));
        let is_here = face == Face::Private || self.is_public(inside, callback);
        let mut response = match self.admit_form(request, source) {
            Err(status) => self.turned_away(status),
            Ok(()) if !is_here => self.turned_away(StatusCode::NOT_FOUND),
            Ok(()) => {
                let speech = self.house.speech.as_ref();
                let problem = Problem::new(speech, StatusCode::SERVICE_UNAVAILABLE, "app_closed");
                problem.later(CLOSED_FOR).into_response()
            }
        };
        name_request(&mut response, &id);
        response
    }

    /// Looks at what a request must be before it is anybody's.
    pub(crate) fn admit(
        &self,
        request: &Request<Body>,
        source: Source,
        face: Face,
    ) -> Result<(), StatusCode> {
        self.admit_form(request, source)?;
        match face {
            Face::Private => Ok(()),
            Face::Public if self.is_public(request.uri().path(), &self.callback) => Ok(()),
            Face::Public => Err(StatusCode::NOT_FOUND),
        }
    }

    /// Whether a path is there for strangers, by the table and by the settings.
    fn is_public(&self, path: &str, callback: &str) -> bool {
        routes::is_public(path, callback) || self.house.status_page.shows(path)
    }

    /// The same, whatever it asks for.
    fn admit_form(&self, request: &Request<Body>, source: Source) -> Result<(), StatusCode> {
        if source != Source::Unix {
            hosts::check(request.headers(), &self.house.hosts)?;
        }
        let uri = request.uri();
        if uri.scheme().is_some() || uri.authority().is_some() || !uri.path().starts_with('/') {
            return Err(StatusCode::BAD_REQUEST);
        }
        if matches!(*request.method(), Method::TRACE | Method::CONNECT) {
            return Err(StatusCode::METHOD_NOT_ALLOWED);
        }
        let length = uri.path_and_query().map_or(0, |target| target.as_str().len());
        if length > LONGEST_TARGET {
            return Err(StatusCode::URI_TOO_LONG);
        }
        Ok(())
    }

    fn turned_away(&self, status: StatusCode) -> Answer {
        let code = match status {
            StatusCode::MISDIRECTED_REQUEST => "unknown_host",
            StatusCode::METHOD_NOT_ALLOWED => "method_not_allowed",
            StatusCode::URI_TOO_LONG => "target_too_long",
            StatusCode::NOT_FOUND => "not_found",
            _ => "bad_request",
        };
        Problem::new(self.house.speech.as_ref(), status, code).into_response()
    }

    /// Who asks.
    pub(crate) async fn caller(
        &self,
        headers: &HeaderMap,
        source: Source,
        now: Timestamp,
    ) -> Result<Caller, Unknown> {
        let mut all = headers.get_all(header::AUTHORIZATION).iter();
        let (first, more) = (all.next().map(HeaderValue::as_bytes), all.next());
        if more.is_some() {
            return Err(Unknown::NoKey);
        }
        self.caller_by(first, source, now).await
    }

    /// Who asks with this value of an `Authorization` header.
    pub(crate) async fn caller_by(
        &self,
        authorization: Option<&[u8]>,
        source: Source,
        now: Timestamp,
    ) -> Result<Caller, Unknown> {
        if self.keys.may_be_new(authorization, source, now) {
            self.learn_keys_or_warn().await;
        }
        self.keys.caller(authorization, source, now)
    }

    async fn answer_by_route(
        &self,
        mut request: Request<Body>,
        source: Source,
        face: Face,
        id: &RequestId,
        router: Router,
        began: Instant,
    ) -> Answer {
        let method = request.method().clone();
        request.extensions_mut().insert(source);
        request.extensions_mut().insert(face);
        request.extensions_mut().insert(id.clone());
        // A task of its own: it ends what it began when the caller hangs up, and a panic is caught.
        let answering = tokio::spawn(timeout(ANSWER_WITHIN, router.oneshot(request)).in_current_span());
        let speech = self.house.speech.as_ref();
        let response = match answering.await {
            Ok(Ok(Ok(response))) => response,
            Ok(Err(_)) => Problem::new(speech, StatusCode::GATEWAY_TIMEOUT, "took_too_long").into_response(),
            Ok(Ok(Err(_))) | Err(_) => {
                error!(request_id = id.as_str(), "a request broke off inside this program");
                Problem::new(speech, StatusCode::INTERNAL_SERVER_ERROR, "internal").into_response()
            }
        };
        let route = response.extensions().get::<routes::Route>().map_or("none", |route| route.0);
        let status = response.status().as_u16();
        let took = began.elapsed();
        self.metrics.answered(&method, route, status, took);
        info!(
            request_id = id.as_str(),
            %method,
            route,
            status,
            milliseconds = took.as_millis(),
            %source,
            key = response.extensions().get::<routes::Asker>().map(|asker| asker.0.0.as_str()),
            "answered"
        );
        response
    }
}

pub(crate) const REQUEST_ID: http::HeaderName = http::HeaderName::from_static("x-request-id");

pub(crate) fn name_request(response: &mut Answer, id: &RequestId) {
    // One that HighLevel gave is told as it came.
    if response.headers().contains_key(REQUEST_ID) {
        return;
    }
    if let Ok(id) = HeaderValue::from_bytes(id.as_bytes()) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
}

/// A connection, before anything was said on it.
pub(crate) enum Stream {
    Tcp(tokio::net::TcpStream),
    Unix(tokio::net::UnixStream),
}

impl Listener {
    pub(crate) async fn accept(&self) -> std::io::Result<(Stream, Source)> {
        match self {
            Self::Tcp(listener) | Self::Tls(listener, _) => {
                let (stream, address) = listener.accept().await?;
                stream.set_nodelay(true)?;
                let ip: IpAddr = address.ip().to_canonical();
                Ok((Stream::Tcp(stream), Source::Ip(ip)))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((Stream::Unix(stream), Source::Unix))
            }
        }
    }
}
