//! The houses that share the listeners: one for each marketplace app.
//!
//! Each app is a house of its own, with its own store, keys and rounds, and knows of no other. What is
//! decided here is which of them a request is for: by its path, by whose key it brings, or else the
//! first. Where there is only the app without a name, there is nothing to decide.
//!
//! An app whose store can't be opened is a closed house: the others answer as ever, and what is for it is
//! told to come back later, rather than that there is no such app or no such key.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use highlevel::Lines;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Request, Uri, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tracing::{Instrument as _, warn};

use crate::auth::Source;
use crate::dashboard::Stopping;
use crate::front::{Answer, Front, HEADER_WITHIN, Stream};
use crate::gateway::Carrier;
use crate::house::{Audit, Face, Listener};
use crate::patience::Patient;
use crate::routes;
use crate::shortcut::{self, Begun};

const MOST_HEADERS: usize = 64;
const MOST_HEADER_BYTES: usize = 32 * 1024;

/// What stands before a path and an app's name.
const APPS: &str = "/apps/";

/// An app whose store can't be opened.
#[derive(Clone, Debug)]
pub struct Closed {
    /// What the app is called.
    pub name: String,
    /// The path where browsers come back to it, as they know it.
    pub callback: Option<String>,
    /// Whether it is the app that answers what is for none in particular.
    pub is_first: bool,
}

/// All houses; the first answers what is for none in particular, unless it is closed.
pub struct Street {
    first: Arc<Front>,
    others: Vec<Arc<Front>>,
    closed: Vec<Closed>,
    /// The paths of redirect addresses that do not say by themselves whose they are.
    callbacks: HashMap<String, usize>,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Way<'a> {
    house: usize,
    /// Its path and query in that house.
    pub(crate) path: &'a str,
    /// Whether neither its path nor a key says which house is meant.
    is_anybodys: bool,
}

impl Street {
    /// Puts them side by side. There has to be one that is open.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub fn of(houses: Vec<Arc<Front>>, closed: Vec<Closed>) -> Arc<Self> {
        let mut callbacks = HashMap::new();
        for (number, house) in houses.iter().enumerate() {
            if !house.callback_has_prefix {
                callbacks.entry(house.callback.clone()).or_insert(number);
            }
        }
        let mut houses = houses.into_iter();
        let first = houses.next().expect("the caller has a house");
        Arc::new(Self { first, others: houses.collect(), closed, callbacks })
    }

    /// Whether there is only the app without a name.
    fn is_plain(&self) -> bool {
        self.others.is_empty() && self.closed.is_empty() && self.first.house.app.is_none()
    }

    pub(crate) fn houses(&self) -> impl Iterator<Item = &Arc<Front>> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// The names of those that are closed.
    pub(crate) fn closed_names(&self) -> impl Iterator<Item = &str> {
        self.closed.iter().map(|house| house.name.as_str())
    }

    fn house(&self, number: usize) -> &Arc<Front> {
        number.checked_sub(1).and_then(|number| self.others.get(number)).unwrap_or(&self.first)
    }

    /// Which house a request is for, and by what path there; none where there is no such house, or
    /// where the key is another's: the two look the same from outside.
    fn way<'a>(&self, path: &'a str, authorization: Option<&[u8]>, face: Face) -> Option<Way<'a>> {
        match self.is_plain() {
            true => Some(Way { house: 0, path, is_anybodys: true }),
            false => self.way_among_several(path, authorization.filter(|_| face == Face::Private)),
        }
    }

    fn way_among_several<'a>(&self, path: &'a str, authorization: Option<&[u8]>) -> Option<Way<'a>> {
        let holder = || {
            let authorization = authorization?;
            self.houses().position(|house| house.keys.are_of(authorization))
        };
        let way = |house, path| Some(Way { house, path, is_anybodys: false });
        let plain = path.split('?').next().unwrap_or_default();
        if let Some(house) = self.callbacks.get(plain) {
            return way(*house, path);
        }
        if let Some(rest) = path.strip_prefix(APPS) {
            let (name, _) = rest.split_once('/')?;
            let house = self.houses().position(|house| house.name() == name)?;
            return match holder() {
                Some(other) if other != house => None,
                _ => way(house, &rest[name.len()..]),
            };
        }
        if plain == "/readyz" {
            let house = self.houses().position(|house| !house.is_ready()).unwrap_or_default();
            return way(house, path);
        }
        match holder() {
            Some(house) => way(house, path),
            None => Some(Way { house: 0, path, is_anybodys: true }),
        }
    }

    /// The closed house that a request is for, or may be for, and its path there. Its keys are not known:
    /// what brings a key of nobody's may be meant for it.
    fn closed<'a>(
        &self,
        path: &'a str,
        authorization: Option<&[u8]>,
        face: Face,
    ) -> Option<(&Closed, &'a str)> {
        let some = self.closed.first()?;
        let plain = path.split('?').next().unwrap_or_default();
        let comes_back = |house: &&Closed| house.callback.as_deref() == Some(plain);
        if let Some(house) = self.closed.iter().find(comes_back) {
            return Some((house, plain));
        }
        let authorization = authorization.filter(|_| face == Face::Private);
        let is_known = authorization.is_some_and(|key| self.houses().any(|house| house.keys.are_of(key)));
        if let Some(rest) = plain.strip_prefix(APPS) {
            let (name, _) = rest.split_once('/')?;
            let house = self.closed.iter().find(|house| house.name == name && !is_known)?;
            return Some((house, &rest[name.len()..]));
        }
        match plain {
            "/livez" | "/metrics" => None,
            "/readyz" => Some((some, plain)),
            _ if is_known || self.callbacks.contains_key(plain) => None,
            _ if authorization.is_some() => Some((some, plain)),
            _ => Some((self.closed.iter().find(|house| house.is_first)?, plain)),
        }
    }

    /// Answers on one listener until `stop` turns true, then ends the requests at hand.
    pub async fn serve(self: Arc<Self>, listener: Listener, face: Face, mut stop: watch::Receiver<bool>) {
        let most = self.first.house.room.of(face);
        let room = Arc::new(Semaphore::new(most));
        let behind = self.houses().map(Behind::of).collect();
        let entrance = Arc::new(Entrance { street: self, behind });
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
            let (entrance, stop) = (entrance.clone(), stop.clone());
            let acceptor = match &listener {
                Listener::Tls(_, certificate) => Some(certificate.acceptor()),
                Listener::Tcp(_) | Listener::Unix(_) => None,
            };
            tokio::spawn(async move {
                match (stream, acceptor) {
                    (Stream::Tcp(stream), Some(acceptor)) => {
                        let shaken = timeout(HEADER_WITHIN, acceptor.accept(stream)).await;
                        if let Ok(Ok(stream)) = shaken {
                            entrance.converse(stream, source, face, stop).await;
                        }
                    }
                    (Stream::Tcp(stream), None) => entrance.converse(stream, source, face, stop).await,
                    (Stream::Unix(stream), _) => entrance.converse(stream, source, face, stop).await,
                }
                drop(place);
            });
        }
        // Each connection gives its place back when it has ended.
        let _ = room.acquire_many(u32::try_from(most).unwrap_or(u32::MAX)).await;
    }
}

/// The street as one listener of one thread has it, with what is behind the front of each house.
pub(crate) struct Entrance {
    street: Arc<Street>,
    behind: Vec<Behind>,
}

/// What is behind a house's front: its routes, and its ways to HighLevel.
pub(crate) struct Behind {
    router: Router,
    carrier: Carrier,
    pub(crate) lines: Lines,
}

impl Behind {
    fn of(house: &Arc<Front>) -> Self {
        let gateway = &house.house.gateway;
        Self {
            router: routes::router(house.clone()),
            carrier: gateway.client.forwarder(gateway.protocol),
            lines: gateway.client.lines(),
        }
    }

    fn ways(&self) -> (Router, &Carrier) {
        (self.router.clone(), &self.carrier)
    }
}

impl Entrance {
    pub(crate) fn way<'a>(&self, path: &'a str, authorization: &[u8]) -> Option<(&Front, &Behind, Way<'a>)> {
        let way = self.street.way(path, Some(authorization), Face::Private)?;
        Some((self.street.house(way.house), &self.behind[way.house], way))
    }

    /// Whether one of the apps is closed: then what is for it is not to be taken for another's.
    pub(crate) fn has_closed(&self) -> bool {
        !self.street.closed.is_empty()
    }

    pub(crate) fn first(&self) -> &Front {
        &self.street.first
    }

    /// One connection.
    async fn converse(
        self: Arc<Self>,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        source: Source,
        face: Face,
        mut stop: watch::Receiver<bool>,
    ) {
        let mut stream = Patient::new(stream);
        let read = match (face, self.first().house.audit) {
            (Face::Private, Audit::Counted) => {
                match shortcut::converse(&self, &mut stream, source, &mut stop).await {
                    Some(read) => read,
                    None => return,
                }
            }
            _ => Vec::new(),
        };
        let stopping = Stopping(stop.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            let entrance = self.clone();
            request.extensions_mut().insert(stopping.clone());
            async move { Ok::<_, Infallible>(entrance.answer(request.map(Body::new), source, face).await) }
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
    pub(crate) async fn answer(&self, mut request: Request<Body>, source: Source, face: Face) -> Answer {
        let street = &self.street;
        if street.is_plain() {
            return street.first.answer(request, source, face, self.behind[0].ways()).await;
        }
        if self.may_bring_new_key(&request, source, face) {
            for house in street.houses() {
                house.learn_keys_or_warn().await;
            }
        }
        let uri = request.uri().clone();
        let target = uri.path_and_query().map_or("", PathAndQuery::as_str);
        if let Some((closed, inside)) = street.closed(target, authorization(request.headers()), face) {
            let callback = closed.callback.as_deref().unwrap_or_default();
            return street.first.answer_closed(&request, (inside, callback), source, face);
        }
        let Some(way) = street.way(target, authorization(request.headers()), face) else {
            return street.first.answer_nothing_here(&request, source, face);
        };
        // An address of another form is turned away as it is.
        if way.path.len() != target.len() && uri.scheme().is_none() && uri.authority().is_none() {
            let Ok(inside) = way.path.parse::<Uri>() else {
                return street.first.answer_nothing_here(&request, source, face);
            };
            *request.uri_mut() = inside;
        }
        if way.is_anybodys {
            request.extensions_mut().insert(Neighbours(street.clone()));
        }
        let house = street.house(way.house);
        let ways = self.behind[way.house].ways();
        house.answer(request, source, face, ways).instrument(house.span()).await
    }

    /// Whether it brings what may be a key that was made a moment ago, which says whose it is only when
    /// it is known.
    fn may_bring_new_key(&self, request: &Request<Body>, source: Source, face: Face) -> bool {
        let first = &self.street.first;
        let Some(key) = authorization(request.headers()).filter(|_| face == Face::Private) else {
            return false;
        };
        let is_known = self.street.houses().any(|house| house.keys.are_of(key));
        let now = first.house.clock.now();
        !is_known
            && first.keys.may_be_new(Some(key), source, now)
            && first.admit(request, source, face).is_ok()
    }
}

/// All houses, for an answer that is about each of them.
#[derive(Clone)]
pub(crate) struct Neighbours(pub(crate) Arc<Street>);

/// The key that a request brings, if it brings one.
fn authorization(headers: &HeaderMap) -> Option<&[u8]> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter().map(HeaderValue::as_bytes);
    all.next().filter(|_| all.next().is_none())
}
