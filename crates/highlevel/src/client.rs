//! One HTTP client: where HighLevel is, how it is spoken to, and how long it may take.

use std::fmt;
use std::ops::Range;
use std::pin::pin;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body::Body;
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokens::AccessToken;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use crate::error::{Failure, FailureKind};
use crate::forward::{Forwarder, Protocol};
use crate::line::Lines;
use crate::rate::{RateBook, RateLimits};

pub(crate) const CONNECT_WITHIN: Duration = Duration::from_secs(3);
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
const LAST_LOOK: Duration = Duration::from_millis(250);
const LARGEST_BODY: usize = 4 * 1024 * 1024;
const VERSION: HeaderName = HeaderName::from_static("version");

/// Which of HighLevel's API versions our own calls speak.
///
/// The value goes into the `Version` header; a missing one is answered with a 401 that has nothing
/// to do with the token (HighLevel's versioning page; measured by third parties, 2026-08).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `2021-07-28`: snake_case on `/oauth/token`, forms.
    Dated,
    /// `v3`: camelCase, and some paths renamed.
    V3,
}

impl Dialect {
    /// The value of the `Version` header.
    pub fn header(self) -> &'static str {
        match self {
            Self::Dated => "2021-07-28",
            Self::V3 => "v3",
        }
    }
}

/// Where HighLevel's API is: `https`, or `http` on loopback only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiBase {
    origin: String,
    /// Where its host and port stand.
    authority: Range<usize>,
}

/// Why a text is no base address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBase {
    /// Not a URL with a host.
    #[error("it is no URL with a host")]
    NoUrl,
    /// Clear text to another machine.
    #[error("it must be https, because tokens travel there; http is for loopback only")]
    ClearText,
    /// A user, a query or a fragment.
    #[error("it must hold nothing but scheme, host, port and path")]
    TooMuch,
}

impl FromStr for ApiBase {
    type Err = InvalidBase;

    fn from_str(text: &str) -> Result<Self, InvalidBase> {
        let uri: Uri = text.parse().map_err(|_| InvalidBase::NoUrl)?;
        let host = uri.host().ok_or(InvalidBase::NoUrl)?;
        if uri.query().is_some() || uri.authority().is_some_and(|a| a.as_str().contains('@')) {
            return Err(InvalidBase::TooMuch);
        }
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") if is_loopback(host) => {}
            Some("http") => return Err(InvalidBase::ClearText),
            _ => return Err(InvalidBase::NoUrl),
        }
        let origin = text.trim_end_matches('/').to_owned();
        let host_at = origin.find("://").ok_or(InvalidBase::NoUrl)? + "://".len();
        let path_at = origin[host_at..].find('/').map_or(origin.len(), |at| host_at + at);
        Ok(Self { origin, authority: host_at..path_at })
    }
}

impl ApiBase {
    /// Whether it is reached by TLS.
    pub fn is_https(&self) -> bool {
        self.origin.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:"))
    }

    /// The whole address, without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.origin
    }

    /// Host and port as they stand in the address, and the path that comes before every other, without
    /// a slash at its end.
    pub fn host_and_path(&self) -> (&str, &str) {
        (&self.origin[self.authority.clone()], &self.origin[self.authority.end..])
    }

    /// Host and port to connect to.
    pub fn host_and_port(&self) -> (String, u16) {
        let uri: Option<Uri> = self.origin.parse().ok();
        let host = uri.as_ref().and_then(Uri::host).unwrap_or_default();
        let otherwise = if self.is_https() { 443 } else { 80 };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        (bare.to_owned(), uri.as_ref().and_then(Uri::port_u16).unwrap_or(otherwise))
    }
}

/// Whether a host, as an address names it, is this machine.
pub fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Why the certificates to trust could not be loaded.
#[derive(Debug, thiserror::Error)]
#[error("could not read certificates from `{path}`: {why}")]
pub struct RootsError {
    path: String,
    why: String,
}

/// Speaks HTTP/1.1 to one origin, over connections that are kept.
#[derive(Clone)]
pub struct Client {
    http: hyper_util::client::legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    tls: Arc<rustls::ClientConfig>,
    base: ApiBase,
    dialect: Dialect,
    rates: Arc<RateBook>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.base.origin)
    }
}

/// What to send.
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    pub(crate) path: &'a str,
    pub(crate) bearer: Option<&'a AccessToken>,
    /// The `Version` header; `/oauth/token` had none before v3.
    pub(crate) version: Option<Dialect>,
    pub(crate) content_type: Option<&'static str>,
    pub(crate) body: String,
    pub(crate) answer_within: Duration,
}

/// What came back, whole.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Why nothing came back.
#[derive(Debug)]
pub(crate) enum Silence {
    /// Not even a connection.
    NotSent(String),
    /// The connection broke before the answer was whole.
    Lost(String),
    /// The time was up.
    TimedOut,
}

impl Client {
    /// A client for `base`. The certificate authorities of Mozilla's list, which is compiled in, are
    /// trusted, or those in the PEM file `roots` instead.
    pub fn new(base: ApiBase, dialect: Dialect, roots: Option<&str>) -> Result<Self, RootsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider knows the protocol versions it was built with")
            .with_root_certificates(match base.is_https() {
                true => trusted(roots)?,
                // Nobody will be asked, and reading a bundle costs more than a check.
                false => rustls::RootCertStore::empty(),
            })
            .with_no_client_auth();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_WITHIN));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls.clone())
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .retry_canceled_requests(false)
            .build(connector);
        Ok(Self { http, tls: Arc::new(tls), base, dialect, rates: Arc::default() })
    }

    /// The dialect of our own calls.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// What HighLevel's answers of late say of its rate limits.
    pub fn rate_limits(&self) -> RateLimits {
        self.rates.least(Instant::now())
    }

    /// Connections to HighLevel for plain exchanges, for one thread.
    pub fn lines(&self) -> Lines {
        let (host, port) = self.base.host_and_port();
        let tls = self.base.is_https().then(|| ServerName::try_from(host.clone()).ok()).flatten();
        let tls = tls.map(|name| (TlsConnector::from(self.tls.clone()), name));
        Lines::new(host, port, tls)
    }

    /// What passes on everything else, for one thread.
    pub fn forwarder<B>(&self, protocol: Protocol) -> Forwarder<B>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        Forwarder::new((*self.tls).clone(), protocol)
    }

    /// Where the calls go.
    pub fn base(&self) -> &ApiBase {
        &self.base
    }

    /// Sends a call once and waits for the whole answer.
    pub(crate) async fn send(&self, call: Call<'_>) -> Result<Answer, Silence> {
        let mut request = Request::builder()
            .method(call.method)
            .uri(format!("{}{}", self.base.origin, call.path))
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("ghl-auth/", env!("CARGO_PKG_VERSION")));
        if let Some(dialect) = call.version {
            request = request.header(VERSION, dialect.header());
        }
        if let Some(content_type) = call.content_type {
            request = request.header(CONTENT_TYPE, content_type);
        }
        if let Some(token) = call.bearer {
            let mut bearer = HeaderValue::try_from(format!("Bearer {}", token.expose())).map_err(|_| {
                Silence::NotSent("the token holds characters that no header can carry".into())
            })?;
            bearer.set_sensitive(true);
            request = request.header(AUTHORIZATION, bearer);
        }
        let request = request
            .body(Full::new(Bytes::from(call.body)))
            .map_err(|error| Silence::NotSent(error.to_string()))?;
        let mut answer = pin!(self.whole_answer(request));
        match timeout(call.answer_within, &mut answer).await {
            Ok(answered) => answered,
            // A process that was frozen finds its time up and the answer in the socket.
            Err(_) => timeout(LAST_LOOK, answer).await.unwrap_or(Err(Silence::TimedOut)),
        }
    }

    async fn whole_answer(&self, request: Request<Full<Bytes>>) -> Result<Answer, Silence> {
        let answer = self.http.request(request).await.map_err(|error| match error.is_connect() {
            true => Silence::NotSent(innermost(&error)),
            false => Silence::Lost(innermost(&error)),
        })?;
        let (head, body) = answer.into_parts();
        self.rates.note(&head.headers, Instant::now());
        let body = Limited::new(body, LARGEST_BODY)
            .collect()
            .await
            .map_err(|error| Silence::Lost(innermost(&*error)))?
            .to_bytes();
        Ok(Answer { status: head.status, headers: head.headers, body })
    }
}

/// The last cause in the chain: what the system or the peer said.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

fn trusted(roots: Option<&str>) -> Result<rustls::RootCertStore, RootsError> {
    let mut store = rustls::RootCertStore::empty();
    let Some(path) = roots else {
        store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        return Ok(store);
    };
    let fail = |why: String| RootsError { path: path.to_owned(), why };
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| fail(error.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| fail(error.to_string()))?;
        // A bundle may hold one that rustls does not take; the others still count.
        let _ = store.add(certificate);
    }
    match store.is_empty() {
        true => Err(fail("no certificate in it".into())),
        false => Ok(store),
    }
}

/// HighLevel's resources, seen with one access token.
#[derive(Clone, Debug)]
pub struct Api {
    pub(crate) client: Client,
    pub(crate) token: AccessToken,
}

/// What HighLevel answered, with the id under which it can find the request again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply<T> {
    /// What was asked for.
    pub value: T,
    /// HighLevel's `traceId`, where it sent one.
    pub trace_id: Option<String>,
}

impl<T> Reply<T> {
    /// The same reply with another value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Reply<U> {
        Reply { value: change(self.value), trace_id: self.trace_id }
    }
}

impl Api {
    /// The resources that `token` opens.
    pub fn new(client: Client, token: AccessToken) -> Self {
        Self { client, token }
    }

    /// Makes one call and understands its answer as JSON.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<serde_json::Value>,
    ) -> Result<Reply<serde_json::Value>, Failure> {
        let answer = self
            .client
            .send(Call {
                method,
                path,
                bearer: Some(&self.token),
                version: Some(self.client.dialect),
                content_type: body.is_some().then_some("application/json"),
                body: body.map(|json| json.to_string()).unwrap_or_default(),
                answer_within: ANSWER_WITHIN,
            })
            .await
            .map_err(|silence| Failure::of_silence(silence, ANSWER_WITHIN))?;
        let json = serde_json::from_slice::<serde_json::Value>(&answer.body).ok();
        let trace_id = json.as_ref().and_then(crate::wire::trace_id);
        if !answer.status.is_success() {
            return Err(Failure::of_answer(&answer, json.as_ref(), trace_id));
        }
        match json {
            Some(value) => Ok(Reply { value, trace_id }),
            None => Err(Failure {
                kind: FailureKind::Unreadable,
                status: Some(answer.status.as_u16()),
                said: "the answer is not JSON".into(),
                trace_id,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_travel_in_clear_text_on_loopback_only() {
        let check = |text: &str, expected: Result<&str, InvalidBase>| {
            let got = text.parse::<ApiBase>().map(|base| base.origin);
            assert_eq!(got, expected.map(str::to_owned), "{text}");
        };
        check("https://services.leadconnectorhq.com/", Ok("https://services.leadconnectorhq.com"));
        check("http://127.0.0.1:8080", Ok("http://127.0.0.1:8080"));
        check("http://[::1]:8080", Ok("http://[::1]:8080"));
        check("http://localhost", Ok("http://localhost"));
        check("http://services.leadconnectorhq.com", Err(InvalidBase::ClearText));
        check("http://127.0.0.1.example.com", Err(InvalidBase::ClearText));
        check("http://localhost@example.com", Err(InvalidBase::TooMuch));
        check("ftp://127.0.0.1", Err(InvalidBase::NoUrl));
        check("services.leadconnectorhq.com", Err(InvalidBase::NoUrl));
        check("", Err(InvalidBase::NoUrl));
    }

    #[test]
    fn a_base_says_where_to_connect_and_what_stands_before_each_path() {
        let check = |text: &str, host: &str, path: &str, connect: (&str, u16)| {
            let base: ApiBase = text.parse().expect("a base");
            assert_eq!(base.host_and_path(), (host, path), "{text}");
            assert_eq!(base.host_and_port(), (connect.0.to_owned(), connect.1), "{text}");
        };
        check("https://api.example.com/", "api.example.com", "", ("api.example.com", 443));
        check("https://api.example.com:8443/v1/", "api.example.com:8443", "/v1", ("api.example.com", 8443));
        check("http://[::1]:8080", "[::1]:8080", "", ("::1", 8080));
        check("http://localhost/a/b", "localhost", "/a/b", ("localhost", 80));
    }
}
