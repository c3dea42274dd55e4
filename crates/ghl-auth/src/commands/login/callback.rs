//! The loopback address to which the consent page redirects, while `login` waits.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{Html, IntoResponse, Response};
use tokens::AuthorizationCode;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::code_in;
use crate::explain::Explained;
use crate::output;
use crate::text::Text;

/// A listener, and the path under which the code comes.
pub(super) struct Callback {
    listener: TcpListener,
    path: String,
}

/// Listens where `redirect_uri` points, if that is plain HTTP on loopback.
pub(super) async fn listen(redirect_uri: &str, text: &Text) -> Option<Callback> {
    let uri: Uri = redirect_uri.parse().ok()?;
    let host = uri.host()?.trim_start_matches('[').trim_end_matches(']');
    let ip: IpAddr = if host == "localhost" { IpAddr::from([127, 0, 0, 1]) } else { host.parse().ok()? };
    if uri.scheme_str() != Some("http") || !ip.is_loopback() {
        return None;
    }
    let address = SocketAddr::new(ip, uri.port_u16().unwrap_or(80));
    match TcpListener::bind(address).await {
        Ok(listener) => Some(Callback { listener, path: uri.path().to_owned() }),
        Err(error) => {
            let arguments = [("address", address.to_string().into()), ("why", error.to_string().into())];
            output::warning(text, &text.say("warning-no-listener", &arguments));
            None
        }
    }
}

struct Waiting {
    path: String,
    state: String,
    came: mpsc::Sender<String>,
    thanks: String,
    refused: String,
}

/// The code that comes with our `state`; without a listener, never.
pub(super) async fn code(
    callback: Option<Callback>,
    state: &str,
    text: &Text,
) -> Result<AuthorizationCode, Explained> {
    let Some(Callback { listener, path }) = callback else { return std::future::pending().await };
    let (came, mut coming) = mpsc::channel(1);
    let page = |title: &str| {
        let arguments = [("title", text.say(title, &[]).into())];
        text.say("callback-page", &arguments)
    };
    let waiting = Waiting {
        path,
        state: state.to_owned(),
        came,
        thanks: page("callback-thanks"),
        refused: page("callback-refused"),
    };
    // Not a route: to those, braces and asterisks in a path mean something.
    let routes = Router::new().fallback(answer).with_state(Arc::new(waiting));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(async move {
        let until = async { drop(stopped.await) };
        axum::serve(listener, routes).with_graceful_shutdown(until).await
    });
    let query = coming.recv().await.unwrap_or_default();
    // The browser gets its page before the listener closes.
    drop(stop);
    let _ = tokio::time::timeout(std::time::Duration::from_secs(2), serving).await;
    code_in(text, &format!("?{query}"), Some(state))
}

/// Only a person's GET that brings our `state` and an answer counts: a HEAD, a prefetch or a link
/// scanner does not.
async fn answer(
    State(waiting): State<Arc<Waiting>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let query = query.unwrap_or_default();
    let all = |wanted: &str| {
        let pairs = form_urlencoded::parse(query.as_bytes());
        pairs.filter(|(name, _)| name == wanted).map(|(_, value)| value.into_owned()).collect::<Vec<_>>()
    };
    let says = |name: &str| all(name).iter().any(|value| !value.is_empty());
    let ours = all("state") == [waiting.state.as_str()] && (says("code") || says("error"));
    let looking_ahead = ["purpose", "sec-purpose"].iter().any(|name| headers.contains_key(*name));
    let (status, page) = match method {
        _ if uri.path() != waiting.path => (StatusCode::NOT_FOUND, waiting.refused.clone()),
        Method::GET if ours && !looking_ahead => {
            let _ = waiting.came.try_send(query);
            (StatusCode::OK, waiting.thanks.clone())
        }
        Method::GET => (StatusCode::BAD_REQUEST, waiting.refused.clone()),
        _ => (StatusCode::METHOD_NOT_ALLOWED, String::new()),
    };
    let safe = [
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (status, safe, Html(page)).into_response()
}
