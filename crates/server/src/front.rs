//! The front of the house: every request passes here first.
//!
//! A connection is plain HTTP/1.1. The name it calls us by is checked before anything else; what is
//! not for a public listener is not there; a plain question for a token that is at hand takes the short
//! way; the rest goes to the routes.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokens::Timestamp;
use tokens::store::Mark;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Mutex, Semaphore, watch};
use tokio::time::{Instant, sleep, timeout};
use tower::ServiceExt as _;
use tracing::{error, info, warn};
use upkeep::is_over_within;

use crate::audit::AuditBook;
use crate::auth::{Caller, Keys, Source, Unknown};
use crate::browser::Strangers;
use crate::copies::Copies;
use crate::error::Problem;
use crate::house::{Audit, Face, House, Listener};
use crate::metrics::Metrics;
use crate::patience::Patient;
use crate::shortcut::{self, Begun};
use crate::{hosts, routes};

/// A connection that sends no whole header within this time is closed.
pub(crate) const HEADER_WITHIN: Duration = Duration::from_secs(5);

/// The longest that an answer is worked on.
const ANSWER_WITHIN: Duration = Duration::from_secs(40);

/// How often other processes' changes are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A store that takes longer to say what changed says nothing.
const SAID_WITHIN: Duration = Duration::from_secs(1);

const FLUSH_EVERY: Duration = Duration::from_secs(1);

const MOST_HEADERS: usize = 64;
const MOST_HEADER_BYTES: usize = 32 * 1024;
const LONGEST_TARGET: usize = 8 * 1024;

/// How long a token lives at least, where the caller does not say.
pub(crate) const MINIMUM_LIFE: Duration = Duration::from_secs(60);

type Answer = Response<Body>;

/// What all connections share.
pub struct Front {
    pub(crate) house: House,
    pub(crate) keys: Keys,
    pub(crate) copies: Copies,
    pub(crate) audit: AuditBook,
    pub(crate) metrics: Metrics,
    pub(crate) strangers: Strangers,
    /// Where the browser comes back to.
    pub(crate) callback: String,
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
        let callback = redirect.map_or_else(|| routes::CALLBACK.into(), |uri: http::Uri| uri.path().into());
        let is_remote = house.keeper.store().is_remote();
        let front = Self {
            house,
            is_remote,
            keys: Keys::default(),
            copies: Copies::default(),
            audit: AuditBook::default(),
            metrics: Metrics::default(),
            strangers: Strangers::new(),
            callback,
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

    /// What is done beside the answering, until `stop` turns true. None of it waits for another.
    pub async fn keep_up(self: Arc<Self>, stop: watch::Receiver<bool>) {
        tokio::join!(self.keep_keys(stop.clone()), self.keep_copies(stop.clone()), self.keep_written(stop));
    }

    /// Takes the keys anew when any process has changed them.
    async fn keep_keys(&self, mut stop: watch::Receiver<bool>) {
        while !is_over_within(LOOK_EVERY, &mut stop).await {
            if let Err(error) = self.learn_keys().await {
                warn!(%error, "the keys can't be read anew");
            }
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
                    self.metrics.store_answers(true);
                    continue;
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "it takes too long".to_owned(),
            };
            warn!(problem, "the store does not say what changed");
            mark = Mark::default();
            self.metrics.store_answers(false);
            // What can't be compared any more is not handed out from memory, unless a whole network lies
            // in between: see `is_cut_off`. All of it is dropped when the store answers again.
            if !self.is_remote {
                self.copies.drop_all();
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

    /// Answers on one listener until `stop` turns true, then ends the requests at hand.
    pub async fn serve(self: Arc<Self>, listener: Listener, face: Face, mut stop: watch::Receiver<bool>) {
        let most = self.house.room.of(face);
        let room = Arc::new(Semaphore::new(most));
        let router = routes::router(self.clone());
        loop {
            let Ok(place) = room.clone().acquire_owned().await else { return };
            let accepted = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                accepted = listener.accept() => accepted,
            };
            let (stream, source) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // No file handles, mostly: they come back as connections end.
                    warn!(%error, "a connection could not be taken");
                    sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (front, router, stop) = (self.clone(), router.clone(), stop.clone());
            let acceptor = match &listener {
                Listener::Tls(_, certificate) => Some(certificate.acceptor()),
                Listener::Tcp(_) | Listener::Unix(_) => None,
            };
            tokio::spawn(async move {
                match (stream, acceptor) {
                    (Stream::Tcp(stream), Some(acceptor)) => {
                        let shaken = timeout(HEADER_WITHIN, acceptor.accept(stream)).await;
                        if let Ok(Ok(stream)) = shaken {
                            front.converse(stream, source, face, router, stop).await;
                        }
                    }
                    (Stream::Tcp(stream), None) => front.converse(stream, source, face, router, stop).await,
                    (Stream::Unix(stream), _) => front.converse(stream, source, face, router, stop).await,
                }
                drop(place);
            });
        }
        // Each connection gives its place back when it has ended.
        let _ = room.acquire_many(u32::try_from(most).unwrap_or(u32::MAX)).await;
    }

    /// One connection.
    async fn converse(
        self: Arc<Self>,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        source: Source,
        face: Face,
        router: Router,
        mut stop: watch::Receiver<bool>,
    ) {
        let mut stream = Patient::new(stream);
        let read = match (face, self.house.audit) {
            (Face::Private, Audit::Counted) => {
                match shortcut::converse(&self, &mut stream, source, &router, &mut stop).await {
                    Some(read) => read,
                    None => return,
                }
            }
            _ => Vec::new(),
        };
        let service = service_fn(move |request: Request<Incoming>| {
            let (front, router) = (self.clone(), router.clone());
            async move { Ok::<_, Infallible>(front.answer(request.map(Body::new), source, face, router).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_WITHIN)
            .max_headers(MOST_HEADERS)
            .max_buf_size(MOST_HEADER_BYTES)
            .serve_connection(TokioIo::new(Begun::new(read, stream)), service);
        tokio::pin!(connection);
        tokio::select! {
            // What was read already is answered first.
            biased;
            // What goes wrong on a connection is its client's business.
            _ = connection.as_mut() => return,
            _ = stop.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    }

    /// One request.
    pub(crate) async fn answer(
        &self,
        request: Request<Body>,
        source: Source,
        face: Face,
        router: Router,
    ) -> Answer {
        let began = Instant::now();
        let id = self.request_id(request.headers().get(REQUEST_ID).map(HeaderValue::as_bytes));
        let mut response = match self.admit(&request, source, face) {
            Err(status) => self.turned_away(status),
            Ok(()) => self.answer_by_route(request, source, face, &id, router, began).await,
        };
        if let Ok(id) = HeaderValue::from_bytes(id.as_bytes()) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        response
    }

    /// The id that a request brings, if it is sane, or a new one.
    pub(crate) fn request_id(&self, brought: Option<&[u8]>) -> RequestId {
        brought.and_then(RequestId::sane).unwrap_or_else(|| {
            let number = self.requests.fetch_add(1, Ordering::Relaxed);
            RequestId::of([self.process.as_bytes(), itoa::Buffer::new().format(number).as_bytes()])
        })
    }

    /// Looks at what a request must be before it is anybody's.
    fn admit(&self, request: &Request<Body>, source: Source, face: Face) -> Result<(), StatusCode> {
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
        match face {
            Face::Private => Ok(()),
            Face::Public if routes::is_public(uri.path(), &self.callback) => Ok(()),
            Face::Public => Err(StatusCode::NOT_FOUND),
        }
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
        if self.keys.may_be_new(first, source, now)
            && let Err(error) = self.learn_keys().await
        {
            warn!(%error, "the keys can't be read anew");
        }
        self.keys.caller(first, source, now)
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
        let answering = tokio::spawn(timeout(ANSWER_WITHIN, router.oneshot(request)));
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

enum Stream {
    Tcp(tokio::net::TcpStream),
    Unix(tokio::net::UnixStream),
}

impl Listener {
    async fn accept(&self) -> std::io::Result<(Stream, Source)> {
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
