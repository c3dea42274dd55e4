//! HTTP/2 to HighLevel: many callers in one connection, and whatever may go wrong there.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::{HeaderMap, Request, Response, StatusCode};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::attack::{Got, LOCATION, Line, Siege, TOKEN, ask, raw_lines, request};
use crate::caller::Way;

/// A server in HighLevel's place that speaks HTTP/2 and nothing else; the path says how it answers.
struct Upstream {
    url: String,
    roots: tempfile::NamedTempFile,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// What arrived: method, path, authority and headers.
    seen: Mutex<Vec<(String, String, String, HeaderMap)>>,
    /// How often a path was asked for.
    times: Mutex<HashMap<String, usize>>,
}

impl Upstream {
    fn start(most_streams: u32) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let roots = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(&roots, made.cert.pem()).expect("written");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config =
            rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.expect("versions").with_no_client_auth();
        let mut config = config.with_single_cert(vec![made.cert.der().clone()], key).expect("a certificate");
        config.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (told, port) = std::sync::mpsc::channel();
        let shared = Arc::<Shared>::default();
        let ours = shared.clone();
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
                told.send(listener.local_addr().expect("an address").port()).expect("it is waited for");
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(converse(acceptor.clone(), stream, most_streams, ours.clone()));
                }
            });
        });
        let url = format!("https://localhost:{}", port.recv().expect("a port"));
        Self { url, roots, shared }
    }

    /// A service before it.
    fn siege(&self) -> Siege {
        Siege::of(|home| {
            home.set("GHL_API_BASE_URL", &self.url)
                .set("SSL_CERT_FILE", &self.roots.path().display().to_string())
                .set("GHL_AUTH_GATEWAY_HTTP", "2")
        })
    }

    fn times(&self, path: &str) -> usize {
        self.shared.times.lock().expect("nobody panics with it").get(path).copied().unwrap_or_default()
    }
}

async fn converse(acceptor: TlsAcceptor, stream: TcpStream, most_streams: u32, shared: Arc<Shared>) {
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let mut settings = h2::server::Builder::new();
    settings.max_concurrent_streams(most_streams);
    let Ok(mut connection) = settings.handshake::<_, Bytes>(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        let path = request.uri().path().to_owned();
        let time = {
            let mut times = shared.times.lock().expect("nobody panics with it");
            let time = times.entry(path.clone()).or_default();
            *time += 1;
            *time
        };
        if path == "/contacts/goes-away" && time == 1 {
            connection.abrupt_shutdown(Reason::INTERNAL_ERROR);
            continue;
        }
        tokio::spawn(answer(request, respond, path, time, shared.clone()));
    }
}

async fn answer(
    request: Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
    path: String,
    time: usize,
    shared: Arc<Shared>,
) -> Option<()> {
    let (parts, mut body) = request.into_parts();
    let authority = parts.uri.authority().map(ToString::to_string).unwrap_or_default();
    let seen = (parts.method.to_string(), path.clone(), authority, parts.headers);
    shared.seen.lock().expect("nobody panics with it").push(seen);
    let whole = Bytes::from_static(b"{\"ok\":true}");
    let head = |status: u16| Response::builder().status(status);
    match path.trim_start_matches("/contacts/") {
        "refused" if time == 1 => respond.send_reset(Reason::REFUSED_STREAM),
        "reset-at-once" => respond.send_reset(Reason::INTERNAL_ERROR),
        "reset-within" => {
            let mut stream = respond.send_response(head(200).body(()).ok()?, false).ok()?;
            stream.send_data(Bytes::from_static(b"half"), false).ok()?;
            tokio::time::sleep(Duration::from_millis(50)).await;
            stream.send_reset(Reason::INTERNAL_ERROR);
        }
        "too-short" => {
            let head = head(200).header("content-length", "20").body(()).ok()?;
            respond.send_response(head, false).ok()?.send_data(whole, true).ok()?;
        }
        "too-long" => {
            let head = head(200).header("content-length", "5").body(()).ok()?;
            respond.send_response(head, false).ok()?.send_data(whole, true).ok()?;
        }
        "two-lengths" => {
            let head = head(200).header("content-length", "11").header("content-length", "5");
            respond.send_response(head.body(()).ok()?, false).ok()?.send_data(whole, true).ok()?;
        }
        "large-head" => {
            let mut head = head(200);
            for number in 0..100 {
                head = head.header(format!("x-large-{number}"), "x".repeat(1000));
            }
            respond.send_response(head.body(()).ok()?, true).ok()?;
        }
        "early" => {
            // It answers before it has read what is sent.
            let head = head(413).header("content-length", "0").body(()).ok()?;
            respond.send_response(head, true).ok()?;
        }
        "flood" => {
            let mut stream = respond.send_response(head(200).body(()).ok()?, false).ok()?;
            while send_some(&mut stream, 64 * 1024).await.is_some() {}
        }
        "trailers" => {
            let mut stream = respond.send_response(head(200).body(()).ok()?, false).ok()?;
            stream.send_data(whole, false).ok()?;
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", "7".parse().ok()?);
            trailers.insert("ghl-auth-hint", "x".parse().ok()?);
            stream.send_trailers(trailers).ok()?;
        }
        status @ ("204" | "304") => {
            let status: u16 = status.parse().ok()?;
            respond.send_response(head(status).body(()).ok()?, true).ok()?;
        }
        _ => {
            let mut length = 0;
            while let Some(part) = body.data().await {
                let part = part.ok()?;
                length += part.len();
                body.flow_control().release_capacity(part.len()).ok()?;
            }
            let head = head(200).header("x-length", length.to_string()).header("content-length", whole.len());
            let is_head = parts.method == "HEAD";
            let mut stream = respond.send_response(head.body(()).ok()?, is_head).ok()?;
            if !is_head {
                stream.send_data(whole, true).ok()?;
            }
        }
    }
    Some(())
}

/// Sends as much as may be sent; none when nobody takes it any more.
async fn send_some(stream: &mut SendStream<Bytes>, most: usize) -> Option<()> {
    stream.reserve_capacity(most);
    let some = std::future::poll_fn(|context| stream.poll_capacity(context)).await?.ok()?;
    stream.send_data(Bytes::from(vec![b'x'; some]), false).ok()
}

fn get(siege: &Siege, path: &str) -> Option<Got> {
    ask(&siege.house.private, &request(Way::Plain, "GET", path, &[&siege.bearer()], b""))
}

#[test]
fn a_request_arrives_with_our_token_and_without_what_is_about_one_connection() {
    let upstream = Upstream::start(100);
    let siege = upstream.siege();
    let odd = [
        "TE: trailers",
        "Connection: keep-alive, x-dropped",
        "X-Dropped: 1",
        "Keep-Alive: timeout=5",
        "Proxy-Connection: keep-alive",
        "Cookie: a=b",
        "X-Forwarded-For: 10.0.0.1",
        "X-UPPER: Case",
        "X-Bytes: \u{e9}",
    ];
    for way in Way::BOTH {
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD"] {
            let bearer = siege.bearer();
            let lines: Vec<&[u8]> =
                std::iter::once(bearer.as_bytes()).chain(odd.iter().map(|line| line.as_bytes())).collect();
            let asked = raw_lines(way, method, "/gateway/contacts/some?limit=2", &lines, b"hello");
            let got = ask(&siege.house.private, &asked).expect("an answer");
            assert_eq!(got.status, 200, "{method}: {}", got.head);
            assert_eq!(got.header("x-length"), Some("5"), "{method}");
            let (seen_method, path, authority, headers) =
                upstream.shared.seen.lock().expect("nobody panics with it").pop().expect("it arrived");
            assert_eq!((seen_method.as_str(), path.as_str()), (method, "/contacts/some"));
            assert_eq!(format!("https://{authority}"), upstream.url);
            let tokens: Vec<_> = headers.get_all("authorization").iter().collect();
            assert_eq!(tokens, [&format!("Bearer {TOKEN}")]);
            assert_eq!(headers.get("x-upper").map(|value| value.as_bytes()), Some(&b"Case"[..]));
            for stays in [
                "te",
                "connection",
                "x-dropped",
                "keep-alive",
                "proxy-connection",
                "cookie",
                "x-forwarded-for",
                "host",
            ] {
                assert!(!headers.contains_key(stays), "{stays} arrived");
            }
        }
    }
    siege.end();
}

#[test]
fn an_answer_that_does_not_end_as_it_should_is_never_taken_for_a_whole_one() {
    let upstream = Upstream::start(100);
    let siege = upstream.siege();
    for path in ["reset-at-once", "reset-within", "too-short", "too-long", "two-lengths", "large-head"] {
        let got = get(&siege, &format!("/contacts/{path}"));
        let is_whole = got.as_ref().is_some_and(|got| got.is_whole && got.status == 200);
        assert!(!is_whole, "{path}: {got:?}");
        let after = get(&siege, "/contacts/plain").expect("an answer");
        assert_eq!((after.status, after.body.as_slice()), (200, &b"{\"ok\":true}"[..]), "behind {path}");
    }
    siege.end();
}

#[test]
fn what_has_no_body_and_what_comes_behind_one_pass() {
    let upstream = Upstream::start(100);
    let siege = upstream.siege();
    for (path, status) in [("204", 204), ("304", 304)] {
        assert_eq!(get(&siege, &format!("/contacts/{path}")).expect("an answer").status, status);
    }
    let mut line = siege.wire();
    line.send(&request(Way::Plain, "GET", "/contacts/trailers", &[&siege.bearer()], b""));
    let (all, _) = line.rest_within(Duration::from_millis(500));
    let all = String::from_utf8_lossy(&all);
    assert!(all.contains("{\"ok\":true}"), "{all}");
    assert!(!all.contains("ghl-auth-hint"), "nobody speaks in our name: {all}");
    siege.end();
}

#[test]
fn what_highlevel_did_not_begin_is_sent_again_and_what_it_may_have_done_is_not() {
    let upstream = Upstream::start(100);
    let siege = upstream.siege();
    let ask = |method: &str, path: &str| {
        let asked = request(Way::Plain, method, path, &[&siege.bearer()], b"{}");
        ask(&siege.house.private, &asked).expect("an answer").status
    };
    // That stream was refused before anything was done (RFC 9113, 8.7), so whatever it was is repeated.
    assert_eq!(ask("POST", "/contacts/refused"), 200);
    assert_eq!(upstream.times("/contacts/refused"), 2);
    assert_eq!(ask("GET", "/contacts/goes-away"), 200);
    assert_eq!(ask("POST", "/contacts/reset-at-once"), 502);
    assert_eq!(upstream.times("/contacts/reset-at-once"), 1);
    siege.end();
}

#[test]
fn callers_who_do_not_read_keep_no_others_waiting() {
    let upstream = Upstream::start(1000);
    let siege = upstream.siege();
    let mut slow = Vec::new();
    for _ in 0..40 {
        let mut line = Line::to(&siege.house.private);
        line.send(&request(Way::Plain, "GET", "/contacts/flood", &[&siege.bearer()], b""));
        slow.push(line);
    }
    // Until all that fits between has been sent.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(upstream.times("/contacts/flood"), 40);
    let began = Instant::now();
    for _ in 0..20 {
        assert_eq!(get(&siege, "/contacts/plain").expect("an answer").status, 200);
    }
    assert!(began.elapsed() < Duration::from_secs(4), "they waited for {:?}", began.elapsed());
    drop(slow);
    siege.end();
}

#[test]
fn where_highlevel_takes_one_at_a_time_all_are_served() {
    let upstream = Upstream::start(1);
    let siege = upstream.siege();
    std::thread::scope(|threads| {
        let asking: Vec<_> = (0..30).map(|_| threads.spawn(|| get(&siege, "/contacts/plain"))).collect();
        for one in asking {
            assert_eq!(one.join().expect("no panic").expect("an answer").status, StatusCode::OK.as_u16());
        }
    });
    siege.end();
}

#[test]
fn an_answer_that_comes_before_the_body_is_read_is_passed_on() {
    let upstream = Upstream::start(100);
    let siege = upstream.siege();
    let body = vec![b'x'; 4 * 1024 * 1024];
    for way in Way::BOTH {
        let lines = [siege.bearer(), format!("x-location-id: {LOCATION}")];
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let asked = request(way, "POST", "/contacts/early", &lines, &body);
        assert_eq!(ask(&siege.house.private, &asked).expect("an answer").status, 413, "{way:?}");
        let asked = request(way, "POST", "/contacts/whole", &lines, &body);
        let got = ask(&siege.house.private, &asked).expect("an answer");
        assert_eq!((got.status, got.header("x-length")), (200, Some("4194304")), "{way:?}");
    }
    siege.end();
}
