//! Whatever passes the gateway and is no plain exchange: long bodies, trailers, HTTP/2.
//!
//! It goes through a library's client, to HighLevel's origin and nowhere else, and is neither redirected
//! nor sent twice. The bearer is marked as sensitive, so that HTTP/2 never indexes it: one of 5 KB
//! would drive everything else out of a table of 4 KB, with each request anew.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Body;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{HttpConnector, capture_connection};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::client::CONNECT_WITHIN;
use crate::field::whole_number;
use crate::line::Broken;

/// A connection that nobody used for so long is closed.
const IDLE_WITHIN: Duration = Duration::from_secs(30);

/// What HighLevel may send of one answer in HTTP/2 before its caller has taken it; and how many callers who take
/// nothing the one connection has room for, until each is given up.
const STREAM_WINDOW: u32 = 256 * 1024;
const SLOW_CALLERS: u32 = 128;

/// In which version of HTTP HighLevel is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1: a connection for each exchange at a time.
    #[default]
    Http1,
    /// HTTP/2 where HighLevel agrees to it: all exchanges in one connection.
    Http2,
}

/// Passes requests on to HighLevel, from one thread.
pub struct Forwarder<B> {
    client: legacy::Client<HttpsConnector<HttpConnector>, B>,
}

impl<B> Forwarder<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    pub(crate) fn new(tls: rustls::ClientConfig, protocol: Protocol) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_WITHIN));
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
        let connector = match protocol {
            Protocol::Http1 => connector.wrap_connector(tcp),
            Protocol::Http2 => connector.enable_http2().wrap_connector(tcp),
        };
        let client = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_WITHIN)
            .http1_max_headers(128)
            .http1_max_buf_size(64 * 1024)
            .http2_max_header_list_size(64 * 1024)
            .http2_initial_stream_window_size(STREAM_WINDOW)
            .http2_initial_connection_window_size(STREAM_WINDOW * SLOW_CALLERS)
            // Of what was never begun only.
            .retry_canceled_requests(true)
            .build(connector);
        Self { client }
    }

    /// Passes a request on; its address is whole.
    pub async fn pass(&self, mut request: Request<B>) -> Result<Response<Incoming>, Broken> {
        let connection = capture_connection(&mut request);
        let answer = self.client.request(request).await.map_err(|error| {
            let (is_connect, is_refused) = (error.is_connect(), is_refused(&error));
            let error = std::io::Error::other(error);
            match (is_connect, is_refused) {
                (true, _) => Broken::Unreachable(error),
                (false, true) => Broken::Refused(error),
                (false, false) => Broken::Lost(error),
            }
        })?;
        let doubt = doubt(&answer);
        if (doubt.is_some() || may_be_followed(&answer))
            && let Some(connection) = &*connection.connection_metadata()
        {
            connection.poison();
        }
        match doubt {
            Some(doubt) => Err(Broken::Odd(doubt)),
            None => Ok(answer),
        }
    }
}

/// Whether HighLevel refused to begin with a request.
fn is_refused(error: &legacy::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return error.reason() == Some(h2::Reason::REFUSED_STREAM);
        }
        cause = error.source();
    }
    false
}

/// Why it is not certain where an answer ends (RFC 9112, 6.3): the library is more lenient than we are.
fn doubt<T>(answer: &Response<T>) -> Option<&'static str> {
    if answer.status().is_informational() {
        return Some("it changes the protocol, which nobody asked for");
    }
    let mut lengths = answer.headers().get_all(CONTENT_LENGTH).iter().map(HeaderValue::as_bytes);
    let mut codings = answer.headers().get_all(TRANSFER_ENCODING).iter().map(HeaderValue::as_bytes);
    let (length, coding) = (lengths.next(), codings.next());
    if lengths.next().is_some() || length.is_some_and(|length| whole_number(length).is_none()) {
        return Some("its length is no number");
    }
    if codings.next().is_some() || coding.is_some_and(|coding| !coding.eq_ignore_ascii_case(b"chunked")) {
        return Some("it is encoded in a way that nobody asked for");
    }
    (length.is_some() && coding.is_some()).then_some("its length is told in two ways")
}

/// Whether an answer that has no body tells of one, which may come later than it is looked for.
fn may_be_followed<T>(answer: &Response<T>) -> bool {
    let length = answer.headers().get(CONTENT_LENGTH).is_some_and(|length| length != "0");
    let is_told = length || answer.headers().contains_key(TRANSFER_ENCODING);
    answer.status() == StatusCode::NO_CONTENT && is_told
}
