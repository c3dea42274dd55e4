//! Whatever passes the gateway and is no plain exchange: long bodies, trailers, HTTP/2.
//!
//! It goes through a library's client, to HighLevel's origin and nowhere else, and is neither redirected
//! nor sent twice. The bearer is marked as sensitive, so that HTTP/2 never indexes it: one of 5 KB
//! would drive everything else out of a table of 4 KB, with each request anew.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::client::CONNECT_WITHIN;
use crate::line::Broken;

/// A connection that nobody used for so long is closed.
const IDLE_WITHIN: Duration = Duration::from_secs(30);

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
            // Of what was never begun only.
            .retry_canceled_requests(true)
            .build(connector);
        Self { client }
    }

    /// Passes a request on; its address is whole.
    pub async fn pass(&self, request: Request<B>) -> Result<Response<Incoming>, Broken> {
        let answer = self.client.request(request).await.map_err(|error| match error.is_connect() {
            true => Broken::Unreachable(std::io::Error::other(error)),
            false => Broken::Lost(std::io::Error::other(error)),
        })?;
        match answer.status().is_informational() {
            true => Err(Broken::Odd("it changes the protocol, which nobody asked for")),
            false => Ok(answer),
        }
    }
}
