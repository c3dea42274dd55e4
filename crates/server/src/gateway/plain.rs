//! The carrier for plain requests: a whole head in which nothing is odd, a short body or none.
//!
//! The bytes of the head become those of the request to HighLevel, and those of its answer go back, without
//! a server or a client around them. A short answer is taken whole before the caller gets it, so that
//! nobody who reads slowly holds a connection to HighLevel; a longer one passes piece by piece.

use std::ops::Range;
use std::pin::{Pin, pin};
use std::time::Duration;

use axum::response::IntoResponse as _;
use highlevel::{Broken, Head, Length, Line, Lines, Told, is_field, version_of, whole_number, write_parts};
use http::{Response, StatusCode};
use tokens::Timestamp;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, Sleep, sleep};

use super::budget::Forecast;
use super::headers::{Copying, Fate, fate, goes_back, write_header};
use super::pace::Tally;
use super::refusals::{Hint, LONGEST_REFUSAL, is_looked_into};
use super::stream::is_repeatable;
use super::{ANSWERS_WITHIN, Admitted, Asked, KEPT_BODY, Verdict};
use crate::auth::Caller;
use crate::error::Problem;
use crate::front::{Answer, Front, REQUEST_ID, RequestId};

/// Answers up to this size are taken whole.
const KEPT_ANSWER: u64 = 64 * 1024;

/// HighLevel goes on with its answer within this time.
const GOES_ON_WITHIN: Duration = Duration::from_secs(60);

/// A plain request, as it stands in what was read.
pub(crate) struct Errand<'a> {
    method: &'a str,
    pub(crate) target: &'a str,
    pub(crate) host: &'a [u8],
    pub(crate) authorization: &'a [u8],
    pub(crate) request_id: Option<&'a [u8]>,
    head: &'a [u8],
    headers: &'a [httparse::Header<'a>],
    body: &'a [u8],
    /// Whether a length was told, be it none.
    has_length: bool,
}

/// What was read, as far as it is a plain request for the gateway.
pub(crate) enum Plain<'a> {
    Whole(Errand<'a>),
    /// It will be, when so many bytes are there.
    Part(usize),
    Odd,
}

impl<'a> Errand<'a> {
    /// Takes a head and what follows it for a plain request, if it is one: of HTTP/1.1, on a connection that
    /// is kept, with nothing behind it and no header that would make it more than it seems.
    pub(crate) fn of(
        (method, target, version): (Option<&'a str>, Option<&'a str>, Option<u8>),
        headers: &'a [httparse::Header<'a>],
        (head, behind): (&'a [u8], &'a [u8]),
    ) -> Plain<'a> {
        let (Some(method), Some(target), Some(1)) = (method, target, version) else {
            return Plain::Odd;
        };
        if !matches!(method, "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS") {
            return Plain::Odd;
        }
        let (mut host, mut authorization, mut request_id, mut length) = (None, None, None, None);
        for header in headers {
            let (name, value) = (header.name, header.value);
            let is = |known: &str| is_field(name, known);
            let once = match name.len() {
                4 if is("host") => host.replace(value),
                13 if is("authorization") => authorization.replace(value),
                12 if is("x-request-id") => request_id.replace(value),
                14 if is("content-length") => length.replace(value),
                10 if is("connection") => match value.eq_ignore_ascii_case(b"keep-alive") {
                    true => None,
                    false => return Plain::Odd,
                },
                2 if is("te") => return Plain::Odd,
                6 if is("expect") || is("cookie") => return Plain::Odd,
                7 if is("upgrade") || is("trailer") => return Plain::Odd,
                17 if is("transfer-encoding") => return Plain::Odd,
                _ => None,
            };
            if once.is_some() || !value.is_ascii() {
                return Plain::Odd;
            }
        }
        let (Some(host), Some(authorization)) = (host, authorization) else { return Plain::Odd };
        let told = match length {
            None => 0,
            Some(digits) => match whole_number(digits) {
                Some(length) if length <= KEPT_BODY as u64 => length as usize,
                _ => return Plain::Odd,
            },
        };
        match behind.len() {
            there if there == told => {}
            there if there < told => return Plain::Part(head.len() + told),
            _ => return Plain::Odd,
        }
        let has_length = length.is_some();
        Plain::Whole(Self {
            method,
            target,
            host,
            authorization,
            request_id,
            head,
            headers,
            body: behind,
            has_length,
        })
    }
}

/// What one connection of a caller's uses for each of its requests.
pub(crate) struct Carriage {
    /// The request to HighLevel: its head, without the token, and where that belongs.
    request: Vec<u8>,
    token_at: usize,
    /// The answer's head.
    head: Vec<u8>,
    /// The answer's body, or where it was read.
    body: Vec<u8>,
    bell: Bell,
}

impl Default for Carriage {
    fn default() -> Self {
        Self { request: Vec::new(), token_at: 0, head: Vec::new(), body: Vec::new(), bell: Bell::new() }
    }
}

/// A clock that is not wound up for each wait: it rings every few seconds.
struct Bell(Pin<Box<Sleep>>);

const RINGS_EVERY: Duration = Duration::from_secs(5);

impl Bell {
    fn new() -> Self {
        Self(Box::pin(sleep(RINGS_EVERY)))
    }

    /// Does some work, for `limit` or a few seconds longer.
    async fn within<T>(&mut self, limit: Duration, mut work: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        let mut began = None;
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Some(done),
                () = &mut self.0 => {
                    let now = Instant::now();
                    self.0.as_mut().reset(now + RINGS_EVERY);
                    // It may have been about to ring when the work began.
                    if now.saturating_duration_since(*began.get_or_insert(now)) >= limit {
                        return None;
                    }
                }
            }
        }
    }
}

/// An answer, as far as it was taken.
struct Taken {
    status: StatusCode,
    told: Told,
    has_request_id: bool,
    is_bodiless: bool,
    length: Length,
    /// When its head had come.
    at: Instant,
}

/// How a plain request ended.
pub(crate) enum Ended {
    /// The connection goes on.
    Well,
    /// It can't be gone on with.
    Badly,
}

/// Where an answer's body is when it is taken.
enum Body {
    /// Whole, in this part of the carriage's.
    Whole(Range<usize>),
    /// Its beginning, in the carriage's; the rest is still to come on the line.
    Begun(Line),
}

impl Front {
    /// Carries a plain request of a known caller to HighLevel and its answer back to `stream`.
    pub(crate) async fn carry_plain(
        &self,
        errand: &Errand<'_>,
        target: &str,
        (caller, now): (Caller, Timestamp),
        lines: &Lines,
        carriage: &mut Carriage,
        stream: &mut (impl AsyncWrite + Unpin),
    ) -> Result<Ended, Answer> {
        let id = self.request_id(errand.request_id);
        let mut asked = Asked::new(errand.method, target);
        for header in errand.headers {
            asked.note(header.name, header.value);
        }
        let turned_back = |problem| self.turned_back(problem, errand.method, target, &id);
        let mut admitted = self.admit_errand(caller, &asked, &id, now).await.map_err(turned_back)?;
        let ended = self.exchange(errand, target, &mut admitted, &id, lines, carriage, stream).await;
        let (status, ended) = ended.map_err(turned_back)?;
        self.note_carried(errand.method, target, status, &id);
        Ok(ended)
    }

    fn turned_back(&self, problem: Problem, method: &str, target: &str, id: &RequestId) -> Answer {
        let mut answer: Response<_> = problem.into_response();
        self.note_carried(method, target, answer.status(), id);
        crate::front::name_request(&mut answer, id);
        answer
    }

    #[expect(clippy::too_many_arguments, reason = "one exchange, with all that it takes")]
    async fn exchange(
        &self,
        errand: &Errand<'_>,
        target: &str,
        admitted: &mut Admitted,
        id: &RequestId,
        lines: &Lines,
        carriage: &mut Carriage,
        stream: &mut (impl AsyncWrite + Unpin),
    ) -> Result<(StatusCode, Ended), Problem> {
        loop {
            self.write_request(errand, target, carriage);
            let (line, taken) = self.asked_and_answered(errand, admitted, lines, carriage).await?;
            let forecast = admitted.answered(&taken.told, taken.at);
            let body = self.take_body(line, &taken, lines, carriage).await?;
            let mut hint = None;
            if let Body::Whole(range) = &body
                && is_looked_into(taken.status)
                && range.len() <= LONGEST_REFUSAL
            {
                let said = &carriage.body[range.clone()];
                match self.consider(admitted, taken.status, said, &taken.told, true).await {
                    Verdict::Again => continue,
                    Verdict::Pass(found) => hint = found,
                }
            }
            self.end_head(&taken, hint, forecast, id, &body, &mut carriage.head);
            let ended = self.hand_over(body, &taken, carriage, stream).await;
            return Ok((taken.status, ended));
        }
    }

    /// The head of the request as HighLevel gets it, but for the token.
    fn write_request(&self, errand: &Errand<'_>, target: &str, carriage: &mut Carriage) {
        let Carriage { request, token_at, .. } = carriage;
        let client = &self.house.gateway.client;
        let (host, path) = client.base().host_and_path();
        request.clear();
        for part in
            [errand.method, " ", path, target, " HTTP/1.1\r\nhost: ", host, "\r\nauthorization: Bearer "]
        {
            request.extend_from_slice(part.as_bytes());
        }
        *token_at = request.len();
        request.extend_from_slice(b"\r\n");
        let (mut has_version, mut copying) = (false, Copying::of(errand.head));
        for header in errand.headers {
            match fate(header.name) {
                Fate::Stays | Fate::Lists => continue,
                Fate::Version => has_version = true,
                Fate::Passes => {}
            }
            copying.copy(header, request);
        }
        copying.end(request);
        if !has_version {
            write_header(request, "version", version_of(target, client.dialect()).as_bytes());
        }
        if errand.has_length {
            let mut digits = itoa::Buffer::new();
            write_header(request, "content-length", digits.format(errand.body.len()).as_bytes());
        }
        request.extend_from_slice(b"\r\n");
    }

    /// Sends the request, and waits for the head of the answer. On a connection that HighLevel closed just
    /// then, what may be repeated by its nature is sent once more on another.
    async fn asked_and_answered(
        &self,
        errand: &Errand<'_>,
        admitted: &Admitted,
        lines: &Lines,
        carriage: &mut Carriage,
    ) -> Result<(Line, Taken), Problem> {
        let mut line = match lines.at_hand(admitted.turn_at) {
            Some(line) => line,
            None => lines.connect().await.map_err(|error| self.broken(&error))?,
        };
        let Carriage { request, token_at, head, bell, .. } = carriage;
        let (before_token, behind_token) = request.split_at(*token_at);
        loop {
            let is_to_head = errand.method == "HEAD";
            let asking = async {
                line.send([before_token, admitted.token(), behind_token, errand.body]).await?;
                line.head(is_to_head, |answer| begin_head(answer, head)).await
            };
            let answered = bell.within(ANSWERS_WITHIN, pin!(asking)).await;
            match answered {
                None => return Err(self.no_answer()),
                Some(Ok(taken)) => return Ok((line, taken)),
                Some(Err(Broken::Lost(_))) if line.was_used() && is_repeatable(errand.method) => {
                    line = lines.connect().await.map_err(|error| self.broken(&error))?;
                }
                Some(Err(error)) => return Err(self.broken(&error)),
            }
        }
    }

    /// Takes a short body whole, and gives the connection back.
    async fn take_body(
        &self,
        mut line: Line,
        taken: &Taken,
        lines: &Lines,
        carriage: &mut Carriage,
    ) -> Result<Body, Problem> {
        let Carriage { body, bell, .. } = carriage;
        if let Some(range) = line.rest_at_hand() {
            line.swap(body);
            lines.put_back(line, taken.at);
            return Ok(Body::Whole(range));
        }
        body.clear();
        if matches!(taken.length, Length::Known(length) if length > KEPT_ANSWER) {
            return Ok(Body::Begun(line));
        }
        while (body.len() as u64) < KEPT_ANSWER {
            let part = bell.within(GOES_ON_WITHIN, pin!(line.part())).await;
            let part = match part {
                None => return Err(self.no_answer()),
                Some(part) => part.map_err(|error| self.broken(&error))?,
            };
            match part {
                Some(part) => body.extend_from_slice(&line.bytes()[part]),
                // What stands behind the body has no place in front of it.
                None if !line.trailers().is_empty() => return Ok(Body::Begun(line)),
                None => {
                    lines.put_back(line, taken.at);
                    return Ok(Body::Whole(0..body.len()));
                }
            }
        }
        Ok(Body::Begun(line))
    }

    /// Adds what is ours to the head of the answer, and how long its body is.
    fn end_head(
        &self,
        taken: &Taken,
        hint: Option<Hint>,
        forecast: Option<Forecast>,
        id: &RequestId,
        body: &Body,
        head: &mut Vec<u8>,
    ) {
        if let Some(hint) = hint {
            write_header(head, "ghl-auth-hint", hint.value(self.house.speech.as_ref()).as_bytes());
        }
        if let Some(quota) = self.quota(forecast) {
            write_header(head, "ghl-auth-quota", quota.as_bytes());
        }
        if !taken.has_request_id {
            write_header(head, REQUEST_ID.as_str(), id.as_bytes());
        }
        let mut digits = itoa::Buffer::new();
        match (body, taken.length) {
            // The length that such an answer tells is that of another.
            _ if taken.is_bodiless => {}
            (Body::Whole(range), _) => {
                write_header(head, "content-length", digits.format(range.len()).as_bytes())
            }
            (Body::Begun(_), Length::Known(length)) => {
                write_header(head, "content-length", digits.format(length).as_bytes());
            }
            (Body::Begun(_), Length::Unknown) => write_header(head, "transfer-encoding", b"chunked"),
        }
        head.extend_from_slice(b"\r\n");
    }

    /// Writes the answer to the caller.
    async fn hand_over(
        &self,
        body: Body,
        taken: &Taken,
        carriage: &mut Carriage,
        stream: &mut (impl AsyncWrite + Unpin),
    ) -> Ended {
        let done = match body {
            Body::Whole(range) => write_parts(stream, [&carriage.head, &carriage.body[range]]).await.is_ok(),
            Body::Begun(line) => self.pass_on(line, taken, carriage, stream).await.is_some(),
        };
        // So much is not kept for the next.
        if carriage.body.capacity() > 4 * KEPT_BODY {
            carriage.body = Vec::new();
        }
        if done { Ended::Well } else { Ended::Badly }
    }

    /// Writes a long answer piece by piece, at the pace of whoever is slower. None when it did not come to
    /// its end: the caller sees that, as the connection ends without it.
    async fn pass_on(
        &self,
        mut line: Line,
        taken: &Taken,
        carriage: &mut Carriage,
        stream: &mut (impl AsyncWrite + Unpin),
    ) -> Option<()> {
        let Carriage { head, body, bell, .. } = carriage;
        let is_chunked = taken.length == Length::Unknown;
        stream.write_all(head).await.ok()?;
        if !body.is_empty() {
            write_piece(stream, body, is_chunked).await?;
        }
        let mut tally = Tally { bytes: body.len() as u64, waited: Duration::ZERO };
        loop {
            let part = bell.within(GOES_ON_WITHIN, pin!(line.part())).await?;
            let part = part
                .inspect_err(|error| tracing::warn!(%error, "an answer of HighLevel's broke off"))
                .ok()?;
            let Some(part) = part else { break };
            let began = Instant::now();
            tally.bytes += part.len() as u64;
            write_piece(stream, &line.bytes()[part], is_chunked).await?;
            tally.waited += began.elapsed();
            if tally.is_too_slow() {
                return None;
            }
        }
        if is_chunked {
            stream.write_all(b"0\r\n").await.ok()?;
            stream.write_all(&trailers_back(line.trailers())).await.ok()?;
            stream.write_all(b"\r\n").await.ok()?;
        }
        stream.flush().await.ok()
    }
}

/// What goes back of the headers behind a body, a line each.
fn trailers_back(lines: &[u8]) -> Vec<u8> {
    let name = |line: &[u8]| line.split(|c| *c == b':').next().map(<[u8]>::to_vec).unwrap_or_default();
    let goes = |line: &&[u8]| std::str::from_utf8(&name(line)).is_ok_and(goes_back);
    lines.split_inclusive(|c| *c == b'\n').filter(goes).flatten().copied().collect()
}

async fn write_piece(stream: &mut (impl AsyncWrite + Unpin), piece: &[u8], is_chunked: bool) -> Option<()> {
    let size = if is_chunked { format!("{:x}\r\n", piece.len()) } else { String::new() };
    let end: &[u8] = if is_chunked { b"\r\n" } else { b"" };
    write_parts(stream, [size.as_bytes(), piece, end]).await.ok()
}

/// Takes an answer's status and what goes back of its headers.
fn begin_head(answer: &Head<'_>, head: &mut Vec<u8>) -> Taken {
    let mut taken = Taken {
        status: StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY),
        told: Told::default(),
        has_request_id: false,
        is_bodiless: answer.is_bodiless,
        length: answer.length,
        at: Instant::now(),
    };
    head.clear();
    let mut digits = itoa::Buffer::new();
    for part in ["HTTP/1.1 ", digits.format(answer.status), " ", answer.reason, "\r\n"] {
        head.extend_from_slice(part.as_bytes());
    }
    let of_connection = || answer.headers.iter().filter(|it| is_field(it.name, "connection"));
    // That it is kept or closed says nothing of other headers, and hardly any says more.
    let lists_some = of_connection()
        .any(|it| !it.value.eq_ignore_ascii_case(b"keep-alive") && !it.value.eq_ignore_ascii_case(b"close"));
    let is_listed = |name: &str| {
        let mut all = of_connection().flat_map(|header| super::headers::listed(header.value));
        all.any(|listed| listed.eq_ignore_ascii_case(name))
    };
    let mut copying = Copying::of(answer.bytes);
    for header in answer.headers {
        taken.told.note(header.name, header.value);
        // The length that such an answer tells is that of another.
        let tells_of_another = answer.is_bodiless && is_field(header.name, "content-length");
        if tells_of_another || (goes_back(header.name) && !(lists_some && is_listed(header.name))) {
            taken.has_request_id |= is_field(header.name, REQUEST_ID.as_str());
            copying.copy(header, head);
        }
    }
    copying.end(head);
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_behind_a_body_says_nothing_of_its_length_and_nothing_in_our_name() {
        let lines =
            b"x-sum: 7\r\nContent-Length: 9\r\nghl-auth-hint: x\r\nTransfer-Encoding: chunked\r\netag: y\r\n";
        assert_eq!(trailers_back(lines), b"x-sum: 7\r\netag: y\r\n");
        assert_eq!(trailers_back(b""), b"");
    }
}
