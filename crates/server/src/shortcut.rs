//! The short way: a plain question for a token that is at hand, answered without a server around it, and a
//! plain request for the gateway, carried without one.
//!
//! These come more often than everything else together: again and again, on a connection that is kept,
//! one short head with nothing in it to interpret. Where the token is not at hand, or not to be had, the
//! answer to the same question is found the usual way. Whatever is more than that, or in any doubt, is
//! given on unanswered, with every byte of it, to the server proper, which stays with the connection from
//! then on.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use highlevel::{Protocol, is_field, write_parts};
use http::{Request, Response, header};
use http_body_util::BodyExt as _;
use tokens::Timestamp;
use tokens::records::Verb;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::Instrument as _;

use crate::auth::{Before, Source};
use crate::copies::OPENING;
use crate::front::{Front, HEADER_WITHIN, MINIMUM_LIFE, REQUEST_ID, RequestId};
use crate::gateway::{self, Carriage, Ended, Errand, PREFIX};
use crate::hosts;
use crate::house::Face;
use crate::street::Entrance;

/// Plain heads are much shorter.
const LONGEST_HEAD: usize = 2048;
const MOST_HEADERS: usize = 32;

/// Who was served before is waited for a while longer.
const NEXT_WITHIN: Duration = Duration::from_secs(60);

/// Answers plain questions on `stream`, for as long as nothing else is asked. What was read of anything
/// else is returned; `None` means that the conversation is over.
pub(crate) async fn converse(
    entrance: &Entrance,
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    source: Source,
    stop: &mut watch::Receiver<bool>,
) -> Option<Vec<u8>> {
    let mut stopped = pin!(stop.wait_for(|stop| *stop));
    // It is set anew when it has rung, not for each question.
    let (mut patience, mut was_served) = (pin!(sleep(HEADER_WITHIN)), false);
    let mut read = Vec::with_capacity(LONGEST_HEAD);
    let (mut head, mut carriage, mut before) = (Head::default(), Carriage::default(), Before::default());
    loop {
        let is_over = tokio::select! {
            biased;
            length = stream.read_buf(&mut read) => if length.ok()? == 0 { return None } else { false },
            _ = &mut stopped => true,
            () = &mut patience => {
                patience.as_mut().reset(Instant::now() + NEXT_WITHIN);
                if !read.is_empty() {
                    // Half a body: the server proper watches its pace.
                    return Some(read);
                }
                match std::mem::take(&mut was_served) {
                    true => continue,
                    false => true,
                }
            }
        };
        if is_over {
            // TLS wants a goodbye; whoever is gone already needs none.
            let _ = stream.shutdown().await;
            return None;
        }
        match asked(&read, &mut [const { MaybeUninit::uninit() }; MOST_HEADERS]) {
            Plain::Question(question) => {
                was_served |=
                    entrance.answer_question(&question, source, stream, &mut head, &mut before).await?;
            }
            Plain::Errand(errand) => {
                match entrance.carry(&errand, source, stream, (&mut head, &mut carriage, &mut before)).await {
                    Carried::Done => was_served = true,
                    Carried::Broken => return None,
                    Carried::NotPlain => return Some(read),
                }
            }
            Plain::Part(length) => {
                read.reserve(length.saturating_sub(read.len()));
                continue;
            }
            Plain::Odd => return Some(read),
        }
        read.clear();
    }
}

/// What became of a plain request for the gateway.
enum Carried {
    Done,
    /// The connection can't be gone on with.
    Broken,
    /// It is for the server proper.
    NotPlain,
}

impl Entrance {
    /// Answers a plain question. Whether well; none when the conversation is over.
    async fn answer_question(
        &self,
        question: &Question<'_>,
        source: Source,
        stream: &mut (impl AsyncWrite + Unpin),
        head: &mut Head,
        before: &mut Before,
    ) -> Option<bool> {
        let at_hand = match self.way(question.path, question.authorization) {
            Some((front, _, way)) => front.answer_plain(question, way.path, source, head, before),
            None => None,
        };
        let (rest, is_good) = match at_hand {
            Some(rest) => (rest, true),
            None => {
                let answer = self.answer(question.request()?, source, Face::Private).await;
                let is_good = answer.status().is_success();
                (head.write_of(self.first().house.clock.now(), answer).await?, is_good)
            }
        };
        write_parts(stream, [&head.text, &rest]).await.ok()?;
        Some(is_good)
    }

    /// Carries a plain request, if it is for a house that is open and from someone who is known.
    async fn carry(
        &self,
        errand: &Errand<'_>,
        source: Source,
        stream: &mut (impl AsyncWrite + Unpin),
        (head, carriage, before): (&mut Head, &mut Carriage, &mut Before),
    ) -> Carried {
        let Some((front, behind, way)) = self.way(errand.target, errand.authorization) else {
            return Carried::NotPlain;
        };
        let Some(target) = Front::is_of_gateway(way.path).then(|| &way.path[PREFIX.len()..]) else {
            return Carried::NotPlain;
        };
        let is_let_in = source == Source::Unix || hosts::check_one(errand.host, &front.house.hosts).is_ok();
        let is_plain = front.house.gateway.protocol == Protocol::Http1 && !self.has_closed();
        let now = front.house.clock.now();
        if !is_let_in || !is_plain {
            return Carried::NotPlain;
        }
        let Some(caller) = front.keys.good(errand.authorization, before, now) else {
            return Carried::NotPlain;
        };
        caller.note_use(source, now);
        let carried = front.carry_plain(errand, target, (caller, now), &behind.lines, carriage, stream);
        let carried = pin!(carried).instrument(front.span()).await;
        match carried {
            Ok(Ended::Well) => Carried::Done,
            Ok(Ended::Badly) => Carried::Broken,
            Err(answer) => {
                let Some(rest) = head.write_of(now, answer).await else { return Carried::Broken };
                match write_parts(stream, [&head.text, &rest]).await {
                    Ok(()) => Carried::Done,
                    Err(_) => Carried::Broken,
                }
            }
        }
    }
}

impl Front {
    /// Writes the beginning of the answer into `head` and returns the rest of it, if the question is for a
    /// token at hand, and from someone who may have it.
    fn answer_plain(
        &self,
        question: &Question<'_>,
        path: &str,
        source: Source,
        head: &mut Head,
        before: &mut Before,
    ) -> Option<Bytes> {
        if source != Source::Unix {
            hosts::check_one(question.host, &self.house.hosts).ok()?;
        }
        if self.is_cut_off() {
            return None;
        }
        let now = self.house.clock.now();
        let copy = self.copies.at(path).filter(|copy| copy.is_good(now, MINIMUM_LIFE))?;
        let caller = self.keys.good(question.authorization, before, now)?;
        caller.may_for(Verb::Token, copy.id()).ok()?;
        caller.note_use(source, now);
        self.audit.count(&caller, &copy, now);
        let request_id = self.request_id(question.request_id);
        head.write(now, &request_id, copy.seconds_left(now), copy.rest());
        self.metrics.token_from_memory();
        Some(copy.rest().clone())
    }
}

/// The plain question, as it stands in a head.
#[derive(Debug, PartialEq, Eq)]
struct Question<'a> {
    path: &'a str,
    host: &'a [u8],
    authorization: &'a [u8],
    request_id: Option<&'a [u8]>,
}

impl Question<'_> {
    /// The question as the routes take it.
    fn request(&self) -> Option<Request<Body>> {
        let mut request = Request::get(self.path)
            .header(header::HOST, self.host)
            .header(header::AUTHORIZATION, self.authorization);
        if let Some(id) = self.request_id {
            request = request.header(REQUEST_ID, id);
        }
        request.body(Body::empty()).ok()
    }
}

/// What was read, as far as it can be dealt with here.
enum Plain<'a> {
    Question(Question<'a>),
    Errand(Errand<'a>),
    /// It will be, when so many bytes are there.
    Part(usize),
    Odd,
}

/// Looks at what was read: something plain is one whole head of HTTP/1.1 with nothing behind it that does
/// not belong to it.
fn asked<'a>(read: &'a [u8], headers: &'a mut [MaybeUninit<httparse::Header<'a>>]) -> Plain<'a> {
    let mut request = httparse::Request::new(&mut []);
    let Ok(httparse::Status::Complete(length)) = request.parse_with_uninit_headers(read, headers) else {
        return Plain::Odd;
    };
    let (head, behind) = read.split_at(length);
    let (method, path, version) = (request.method, request.path, request.version);
    let headers: &'a [httparse::Header<'a>] = request.headers;
    if is_for_gateway(path.unwrap_or_default()) {
        return match Errand::of((method, path, version), headers, (head, behind)) {
            gateway::Plain::Whole(errand) => Plain::Errand(errand),
            gateway::Plain::Part(length) => Plain::Part(length),
            gateway::Plain::Odd => Plain::Odd,
        };
    }
    match behind.is_empty() {
        true => question((method, path, version), headers).map_or(Plain::Odd, Plain::Question),
        false => Plain::Odd,
    }
}

/// Whether a path may be the gateway's, of whichever app.
fn is_for_gateway(path: &str) -> bool {
    path.starts_with(PREFIX) || (path.starts_with("/apps/") && path.contains(PREFIX))
}

/// What stands in a request's first line.
type FirstLine<'a> = (Option<&'a str>, Option<&'a str>, Option<u8>);

/// Takes a head for a plain question if no header of it would make a difference.
fn question<'a>(first_line: FirstLine<'a>, headers: &[httparse::Header<'a>]) -> Option<Question<'a>> {
    let (Some("GET"), Some(path), Some(1)) = first_line else { return None };
    let (mut host, mut authorization, mut request_id) = (None, None, None);
    for header in headers {
        let once = match header.name {
            name if is_field(name, "host") => host.replace(header.value),
            name if is_field(name, "authorization") => authorization.replace(header.value),
            name if is_field(name, "x-request-id") => request_id.replace(header.value),
            name if makes_no_difference(name, header.value) => None,
            _ => return None,
        };
        if once.is_some() {
            return None;
        }
    }
    Some(Question { path, host: host?, authorization: authorization?, request_id })
}

/// Whether the answer is the same with a header and without. What programs send with most requests.
fn makes_no_difference(name: &str, value: &[u8]) -> bool {
    const IDLE: [&str; 7] = [
        "accept",
        "accept-encoding",
        "accept-language",
        "cache-control",
        "pragma",
        "sec-fetch-mode",
        "user-agent",
    ];
    let is = |known: &&str| is_field(name, known);
    IDLE.iter().any(is) || (is(&"connection") && value.eq_ignore_ascii_case(b"keep-alive"))
}

/// The beginning of an answer: its head, and what of its body differs from second to second.
#[derive(Default)]
struct Head {
    text: Vec<u8>,
    /// The last second that was written as a date.
    date: Option<(i64, String)>,
}

impl Head {
    /// The head of an answer from memory.
    fn write(&mut self, now: Timestamp, request_id: &RequestId, seconds_left: u64, rest: &[u8]) {
        let mut digits = itoa::Buffer::new();
        let seconds_left = digits.format(seconds_left);
        self.text.clear();
        self.text.extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n");
        self.text.extend_from_slice(b"cache-control: no-store\r\nx-request-id: ");
        self.text.extend_from_slice(request_id.as_bytes());
        self.end(now, OPENING.len() + seconds_left.len() + rest.len());
        self.text.extend_from_slice(OPENING.as_bytes());
        self.text.extend_from_slice(seconds_left.as_bytes());
    }

    /// The head of an answer that was found the usual way, whose body is returned.
    async fn write_of(&mut self, now: Timestamp, answer: Response<Body>) -> Option<Bytes> {
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        self.text.clear();
        self.text.extend_from_slice(format!("HTTP/1.1 {}", parts.status).as_bytes());
        for (name, value) in parts.headers.iter().filter(|(name, _)| *name != header::CONTENT_LENGTH) {
            for part in [b"\r\n", name.as_str().as_bytes(), b": ", value.as_bytes()] {
                self.text.extend_from_slice(part);
            }
        }
        self.end(now, body.len());
        Some(body)
    }

    fn end(&mut self, now: Timestamp, length: usize) {
        let second = now.as_millis().div_euclid(1000);
        let date = match &mut self.date {
            Some((of, date)) if *of == second => date,
            date => &date.insert((second, http_date(second))).1,
        };
        self.text.extend_from_slice(b"\r\ndate: ");
        self.text.extend_from_slice(date.as_bytes());
        self.text.extend_from_slice(b"\r\ncontent-length: ");
        self.text.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
        self.text.extend_from_slice(b"\r\n\r\n");
    }
}

/// A second as the `Date` header has it (RFC 9110, 5.6.7).
fn http_date(second: i64) -> String {
    let printer = jiff::fmt::rfc2822::DateTimePrinter::new();
    let at = jiff::Timestamp::from_second(second).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    // It fails before the year 0 only.
    printer.timestamp_to_rfc9110_string(&at).unwrap_or_default()
}

/// A stream of which some was read already.
pub(crate) struct Begun<S> {
    read: Vec<u8>,
    at: usize,
    stream: S,
}

impl<S> Begun<S> {
    pub(crate) fn new(read: Vec<u8>, stream: S) -> Self {
        Self { read, at: 0, stream }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Begun<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let begun = &mut *self;
        if begun.at == begun.read.len() {
            return Pin::new(&mut begun.stream).poll_read(cx, buffer);
        }
        let some = buffer.remaining().min(begun.read.len() - begun.at);
        buffer.put_slice(&begun.read[begun.at..begun.at + some]);
        begun.at += some;
        if begun.at == begun.read.len() {
            (begun.read, begun.at) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Begun<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The plain question, if it is one.
    fn question(read: &[u8]) -> Option<Question<'_>> {
        let headers = Vec::leak((0..MOST_HEADERS).map(|_| MaybeUninit::uninit()).collect());
        match asked(read, headers) {
            Plain::Question(question) => Some(question),
            Plain::Errand(_) | Plain::Part(_) | Plain::Odd => None,
        }
    }

    const PLAIN: &str =
        "GET /v1/locations/A/token HTTP/1.1\r\nHost: localhost\r\nauthorization: Bearer k\r\n";

    #[test]
    fn a_plain_question_is_seen_whatever_idle_headers_it_brings() {
        let plain = Question {
            path: "/v1/locations/A/token",
            host: b"localhost",
            authorization: b"Bearer k",
            request_id: None,
        };
        for idle in ["", "User-Agent: x\r\n", "Accept: */*\r\nConnection: Keep-Alive\r\n", "pragma: x\r\n"] {
            let head = format!("{PLAIN}{idle}\r\n");
            assert_eq!(question(head.as_bytes()).as_ref(), Some(&plain), "{idle}");
        }
        let head = format!("{PLAIN}X-Request-Id: a\r\n\r\n");
        assert_eq!(question(head.as_bytes()).and_then(|question| question.request_id), Some(&b"a"[..]));
    }

    #[test]
    fn whatever_is_more_than_a_plain_question_is_given_on() {
        for more in [
            "Content-Length: 0\r\n",
            "Transfer-Encoding: chunked\r\n",
            "Expect: 100-continue\r\n",
            "Upgrade: h2c\r\n",
            "Connection: close\r\n",
            "Connection: keep-alive, x\r\n",
            "Host: localhost\r\n",
            "authorization: Bearer k\r\n",
            "Cookie: a=b\r\n",
            "X-Anything: x\r\n",
            "X-Request-Id: a\r\nX-Request-Id: a\r\n",
            " folded\r\n",
            "no colon\r\n",
        ] {
            assert_eq!(question(format!("{PLAIN}{more}\r\n").as_bytes()), None, "{more}");
        }
        let whole = format!("{PLAIN}\r\n");
        for cut in 0..whole.len() {
            assert_eq!(question(&whole.as_bytes()[..cut]), None, "{cut}");
        }
        assert_eq!(question(format!("{whole}{whole}").as_bytes()), None);
        assert_eq!(question(whole.replace("GET", "HEAD").as_bytes()), None);
        assert_eq!(question(whole.replace("1.1", "1.0").as_bytes()), None);
        assert_eq!(question(whole.replace("Host", "Hoſt").as_bytes()), None);
        let many: String = (0..MOST_HEADERS).map(|_| "Accept: x\r\n").collect();
        assert_eq!(question(format!("{PLAIN}{many}\r\n").as_bytes()), None);
    }

    #[test]
    fn the_date_is_that_of_http() {
        assert_eq!(http_date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
    }

    #[tokio::test]
    async fn what_was_read_before_comes_first_and_once() {
        let mut begun = Begun::new(b"GET / ".to_vec(), &b"HTTP/1.1"[..]);
        let mut first = [0; 3];
        begun.read_exact(&mut first).await.expect("three bytes");
        let mut text = String::new();
        begun.read_to_string(&mut text).await.expect("the rest");
        assert_eq!((&first, text.as_str()), (b"GET", " / HTTP/1.1"));
    }
}
