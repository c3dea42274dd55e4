//! Posts to addresses that an operator configured, and to no other: no redirects, TLS, and only to
//! public addresses unless private ones are allowed by name. What counts is the address that is
//! dialled, whatever a name resolves to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::uri::Scheme;
use http::{HeaderMap, Method, Request, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use hyper_util::rt::TokioExecutor;
use tower_service::Service;

use super::NotDelivered;

const WITHIN: Duration = Duration::from_secs(10);
const LONGEST_ANSWER: usize = 64 * 1024;

const PRIVATE: &str = "its address is private, and private addresses are not allowed";

/// An address that can't be posted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAddress {
    /// It is no http address with a host.
    #[error("it is no https address")]
    NoUrl,
    /// It is in clear text, and private addresses are not allowed.
    #[error("it is not https")]
    ClearText,
}

/// A client for the ways.
#[derive(Clone, Debug)]
pub struct Post {
    client: Client<HttpsConnector<HttpConnector<Guarded>>, Full<Bytes>>,
    allow_private: bool,
}

impl Post {
    /// A client that dials private addresses only when that is allowed, and there also in clear text.
    pub fn new(allow_private: bool) -> Self {
        let mut http = HttpConnector::new_with_resolver(Guarded { gai: GaiResolver::new(), allow_private });
        http.enforce_http(false);
        http.set_connect_timeout(Some(WITHIN));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider knows the default versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let https = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        Self { client: Client::builder(TokioExecutor::new()).build(https), allow_private }
    }

    /// Understands an address, before anything is sent there.
    pub fn address(&self, text: &str) -> Result<Uri, BadAddress> {
        let uri: Uri = text.trim().parse().map_err(|_| BadAddress::NoUrl)?;
        match (uri.scheme_str(), uri.host()) {
            (Some("https"), Some(_)) => Ok(uri),
            (Some("http"), Some(_)) if self.allow_private => Ok(uri),
            (Some("http"), Some(_)) => Err(BadAddress::ClearText),
            _ => Err(BadAddress::NoUrl),
        }
    }

    /// Sends one request; any status of success will do.
    pub(super) async fn send(
        &self,
        method: Method,
        to: &Uri,
        headers: HeaderMap,
        body: String,
    ) -> Result<(), NotDelivered> {
        let failed = |said: &str| NotDelivered { said: said.to_owned(), retry_after: None };
        self.guard_literal(to).map_err(failed)?;
        if to.scheme() == Some(&Scheme::HTTP) {
            self.guard_clear_text(to).await.map_err(failed)?;
        }
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = method;
        *request.uri_mut() = to.clone();
        *request.headers_mut() = headers;
        let sending = tokio::time::timeout(WITHIN, self.client.request(request)).await;
        let response = match sending {
            Err(_) => return Err(failed("no answer within 10 seconds")),
            Ok(Err(error)) if error.is_connect() => return Err(failed("it can't be reached")),
            Ok(Err(_)) => return Err(failed("the connection broke")),
            Ok(Ok(response)) => response,
        };
        let status = response.status();
        if status.is_success() {
            // Read to the end, so that the connection can be used again.
            let _ = tokio::time::timeout(WITHIN, Limited::new(response, LONGEST_ANSWER).collect()).await;
            return Ok(());
        }
        let seconds = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = seconds.and_then(|text| text.parse().ok()).map(Duration::from_secs);
        Err(NotDelivered { said: format!("it answered {}", status.as_u16()), retry_after })
    }

    /// Whether someone listens where this would be sent; nothing is said there.
    pub(super) async fn reach(&self, to: &Uri) -> Result<(), NotDelivered> {
        let otherwise = if to.scheme() == Some(&Scheme::HTTP) { 80 } else { 443 };
        let host = to.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        self.dial(host, to.port_u16().unwrap_or(otherwise)).await
    }

    /// Opens a connection and closes it.
    pub(super) async fn dial(&self, host: &str, port: u16) -> Result<(), NotDelivered> {
        let failed = |said: &str| NotDelivered { said: said.to_owned(), retry_after: None };
        let to = self.addresses(host, port).await.map_err(failed)?;
        match tokio::time::timeout(WITHIN, tokio::net::TcpStream::connect(to.as_slice())).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(failed("it can't be reached")),
            Err(_) => Err(failed("no answer within 10 seconds")),
        }
    }

    /// The addresses at which `host` may be dialled.
    pub(super) async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, &'static str> {
        let found = tokio::net::lookup_host((host, port)).await.map_err(|_| "its name is not known")?;
        let good: Vec<_> = found.filter(|to| self.allow_private || is_public(to.ip())).collect();
        match good.is_empty() {
            true => Err(PRIVATE),
            false => Ok(good),
        }
    }

    /// Clear text goes to private addresses only, however it was typed.
    async fn guard_clear_text(&self, to: &Uri) -> Result<(), &'static str> {
        let host = to.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let addresses = self.addresses(host, to.port_u16().unwrap_or(80)).await?;
        match addresses.iter().any(|address| is_public(address.ip())) {
            true => Err("in clear text nothing goes beyond the private network: its address needs https"),
            false => Ok(()),
        }
    }

    /// An address that is written as a number is dialled without asking anyone.
    fn guard_literal(&self, to: &Uri) -> Result<(), &'static str> {
        let host = to.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let private = host.parse::<IpAddr>().is_ok_and(|ip| !is_public(ip));
        match private && !self.allow_private {
            true => Err(PRIVATE),
            false => Ok(()),
        }
    }
}

/// A resolver that leaves out addresses which are not to be dialled.
#[derive(Clone, Debug)]
struct Guarded {
    gai: GaiResolver,
    allow_private: bool,
}

impl Service<Name> for Guarded {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = std::io::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, std::io::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), std::io::Error>> {
        self.gai.poll_ready(context)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (resolving, allow_private) = (self.gai.call(name), self.allow_private);
        Box::pin(async move {
            let found = resolving.await?;
            let good: Vec<SocketAddr> =
                found.filter(|address| allow_private || is_public(address.ip())).collect();
            Ok(good.into_iter())
        })
    }
}

/// Whether an address is one of the open internet.
fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [first, second, third, _] = ip.octets();
    let shared = first == 100 && (64..128).contains(&second);
    let special = (first == 192 && second == 0 && third == 0) || (first == 198 && (18..20).contains(&second));
    let other =
        ip.is_unspecified() || ip.is_documentation() || ip.is_broadcast() || first >= 224 || first == 0;
    !(ip.is_private() || ip.is_loopback() || ip.is_link_local() || shared || special || other)
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let segments = ip.segments();
    // Addresses that carry an IPv4 address within (NAT64, 6to4, the old compatible form).
    let within = match segments {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0, 0, 0, 0, 0, 0, high, low] => Some([high, low]),
        [0x2002, high, low, ..] => Some([high, low]),
        _ => None,
    };
    if let Some([high, low]) = within {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        return is_public_v4(Ipv4Addr::new(a, b, c, d));
    }
    let unique_local = segments[0] & 0xfe00 == 0xfc00;
    let documentation = segments[0] == 0x2001 && segments[1] == 0xdb8;
    let here = ip.is_loopback() || ip.is_unspecified() || ip.is_unicast_link_local();
    !(here || ip.is_multicast() || unique_local || documentation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_open_internet_are_public() {
        for private in [
            "127.0.0.1",
            "127.255.0.1",
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "192.0.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "192.0.2.1",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "2001:db8::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a00:1",
            "2002:7f00:1::",
            "2002:a00:1::1",
        ] {
            assert!(!is_public(private.parse().expect("an address")), "{private}");
        }
        for public in ["8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::808:808"] {
            assert!(is_public(public.parse().expect("an address")), "{public}");
        }
    }

    #[tokio::test]
    async fn a_private_address_is_not_dialled_however_it_is_written() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let guarded = Post::new(false);
        for host in
            ["127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1", "0177.0.0.1", "[::ffff:127.0.0.1]"]
        {
            let to = guarded.address(&format!("https://{host}:{port}/")).expect("an address");
            let sent = guarded.send(Method::POST, &to, HeaderMap::new(), String::new()).await;
            assert!(sent.is_err(), "{host}");
        }
        let nobody = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
        assert!(nobody.is_err(), "nobody came");
        assert_eq!(guarded.address("http://example.com/"), Err(BadAddress::ClearText));
        assert_eq!(guarded.address("ftp://example.com/"), Err(BadAddress::NoUrl));
        assert_eq!(guarded.address("example"), Err(BadAddress::NoUrl));
    }

    #[tokio::test]
    async fn clear_text_goes_to_private_addresses_only() {
        let post = Post::new(true);
        let may = async |text: &str| post.guard_clear_text(&text.parse().expect("an address")).await.is_ok();
        assert!(
            may("http://127.0.0.1:9/").await && may("http://[::1]:9/").await && may("http://10.0.0.1/").await
        );
        assert!(!may("http://8.8.8.8/").await && !may("http://[2606:4700::1111]/").await);
    }
}
