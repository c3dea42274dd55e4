//! Plain exchanges with HighLevel over HTTP/1.1: the way of most requests that pass the gateway.
//!
//! One request, its answer, and the connection is free again for the next. What is understood here is what
//! HighLevel sends day by day; an answer of which it is not certain where it ends (RFC 9112, 6.3) is refused
//! and its connection closed. Nothing is buffered beyond what the system hands over in one go.
//!
//! It exists beside `forward`, which does the same by a library's client, because it costs a third of the
//! instructions: `bench/gateway.sh` shows both.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::client::CONNECT_WITHIN;
use crate::field::{is_field, whole_number};

/// What is read from the system in one go.
const READ: usize = 16 * 1024;

/// The longest head of an answer, and the longest line between two chunks.
const LONGEST_HEAD: usize = 64 * 1024;
const LONGEST_CHUNK_LINE: usize = 4 * 1024;
const MOST_HEADERS: usize = 128;

/// A connection that nobody used for so long is not used again: HighLevel may be about to close it.
const IDLE_WITHIN: Duration = Duration::from_secs(30);

/// So many connections are kept for later.
const MOST_IDLE: usize = 256;

/// Why an exchange did not come about.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// No connection, and so nothing was sent.
    #[error("HighLevel can't be reached")]
    Unreachable(#[source] io::Error),
    /// HighLevel refused to begin with it, and so did nothing (RFC 9113, 8.7).
    #[error("HighLevel did not begin with the request")]
    Refused(#[source] io::Error),
    /// The connection ended before its time.
    #[error("the connection to HighLevel broke")]
    Lost(#[source] io::Error),
    /// An answer that is not HTTP, or not certain to end where it seems to.
    #[error("HighLevel's answer is no sound HTTP: {0}")]
    Odd(&'static str),
}

/// The connections of one thread to HighLevel.
pub struct Lines {
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    idle: Mutex<Vec<Line>>,
}

impl Lines {
    pub(crate) fn new(host: String, port: u16, tls: Option<(TlsConnector, ServerName<'static>)>) -> Self {
        Self { host, port, tls, idle: Mutex::default() }
    }

    /// A connection that was used before and is still good, the last one first.
    pub fn at_hand(&self, now: Instant) -> Option<Line> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(mut line) = idle.pop() {
            if now.saturating_duration_since(line.used_at) < IDLE_WITHIN && line.is_silent() {
                return Some(line);
            }
        }
        None
    }

    /// A new connection.
    pub async fn connect(&self) -> Result<Line, Broken> {
        let stream = match timeout(CONNECT_WITHIN, self.dial()).await {
            Ok(dialed) => dialed.map_err(Broken::Unreachable)?,
            Err(_) => return Err(Broken::Unreachable(io::ErrorKind::TimedOut.into())),
        };
        Ok(Line {
            stream,
            read: Vec::new(),
            at: 0,
            rest: Rest::Nothing,
            trailers: Vec::new(),
            is_kept: false,
            was_used: false,
            used_at: Instant::now(),
        })
    }

    async fn dial(&self) -> io::Result<Stream> {
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await?;
        tcp.set_nodelay(true)?;
        match &self.tls {
            None => Ok(Stream::Plain(tcp)),
            Some((connector, name)) => {
                let tls = connector.connect(name.clone(), tcp).await?;
                Ok(Stream::Tls(Box::new(tls)))
            }
        }
    }

    /// Keeps a connection for later, if its exchange ended as it should and HighLevel keeps it, too.
    pub fn put_back(&self, mut line: Line, now: Instant) {
        if !line.is_kept || line.rest != Rest::Nothing || line.at != line.read.len() {
            return;
        }
        (line.was_used, line.used_at) = (true, now);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MOST_IDLE {
            idle.push(line);
        }
    }
}

/// A connection to HighLevel, in one exchange at a time.
pub struct Line {
    stream: Stream,
    /// What was read, and how much of it was taken.
    read: Vec<u8>,
    at: usize,
    rest: Rest,
    /// Headers that came behind the last chunk, a line each.
    trailers: Vec<u8>,
    is_kept: bool,
    was_used: bool,
    used_at: Instant,
}

/// What is still to come of an answer's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    Nothing,
    Bytes(u64),
    /// The size of a chunk comes next.
    ChunkSize,
    /// So much of a chunk, and then its end.
    Chunk(u64),
    /// Headers behind the last chunk, or none.
    Trailers,
    UntilClose,
}

/// How long an answer's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// So many bytes.
    Known(u64),
    /// Its end shows when it comes.
    Unknown,
}

/// The head of an answer.
pub struct Head<'a> {
    /// Its status.
    pub status: u16,
    /// The words behind it.
    pub reason: &'a str,
    /// Names and values, in their order.
    pub headers: &'a [httparse::Header<'a>],
    /// All of it, as it came.
    pub bytes: &'a [u8],
    /// How long its body is.
    pub length: Length,
    /// Whether it has no body by its nature: to `HEAD`, or 204, or 304.
    pub is_bodiless: bool,
}

impl Line {
    /// Whether it was used for another exchange before: then HighLevel may have closed it just as this
    /// one began.
    pub fn was_used(&self) -> bool {
        self.was_used
    }

    /// Whether nothing came since the last exchange: neither its end nor anything that nobody asked for.
    fn is_silent(&mut self) -> bool {
        let mut byte = [0; 1];
        let mut byte = ReadBuf::new(&mut byte);
        let mut nobody = Context::from_waker(Waker::noop());
        // Only a look at what the system has told already, mostly.
        Pin::new(&mut self.stream).poll_read(&mut nobody, &mut byte).is_pending()
    }

    /// Sends a request, in some parts.
    pub async fn send<const N: usize>(&mut self, parts: [&[u8]; N]) -> Result<(), Broken> {
        write_parts(&mut self.stream, parts).await.map_err(Broken::Lost)
    }

    /// Waits for the head of the answer and lets it be read. What informs of an answer to come (1xx) is
    /// passed over.
    pub async fn head<T>(&mut self, to_head: bool, read: impl FnOnce(&Head<'_>) -> T) -> Result<T, Broken> {
        (self.at, self.is_kept) = (0, false);
        self.read.clear();
        self.trailers.clear();
        let mut read = Some(read);
        loop {
            match look(&self.read[self.at..], to_head, &mut read)? {
                Seen::Part if self.read.len() - self.at > LONGEST_HEAD => {
                    return Err(Broken::Odd("its head is too long"));
                }
                Seen::Part => self.more().await?,
                Seen::Information(length) => self.at += length,
                Seen::Whole(length, framing, value) => {
                    (self.rest, self.is_kept) = (framing.rest, framing.is_kept);
                    self.at += length;
                    return Ok(value);
                }
            }
        }
    }

    /// The next part of the body: where it lies in [`Line::bytes`]; none when the body has ended.
    pub async fn part(&mut self) -> Result<Option<Range<usize>>, Broken> {
        loop {
            match self.rest {
                Rest::Nothing => return Ok(None),
                Rest::Bytes(left) | Rest::Chunk(left) => {
                    if self.at == self.read.len() {
                        self.more().await?;
                    }
                    let there = self.read.len() - self.at;
                    let some = usize::try_from(left).unwrap_or(usize::MAX).min(there);
                    let (part, left) = (self.at..self.at + some, left - some as u64);
                    self.at += some;
                    self.rest = match self.rest {
                        Rest::Bytes(_) if left == 0 => Rest::Nothing,
                        Rest::Bytes(_) => Rest::Bytes(left),
                        _ if left > 0 => Rest::Chunk(left),
                        _ => return self.end_of_chunk(part).await.map(Some),
                    };
                    return Ok(Some(part));
                }
                Rest::ChunkSize => match httparse::parse_chunk_size(&self.read[self.at..]) {
                    Ok(httparse::Status::Complete((length, size))) => {
                        self.at += length;
                        self.rest = if size == 0 { Rest::Trailers } else { Rest::Chunk(size) };
                    }
                    Ok(httparse::Status::Partial) if self.read.len() - self.at < LONGEST_CHUNK_LINE => {
                        self.more().await?;
                    }
                    _ => return Err(Broken::Odd("a chunk has no size")),
                },
                Rest::Trailers => match whole_trailers(&self.read[self.at..], &mut self.trailers)? {
                    Some(length) => {
                        self.at += length;
                        self.rest = Rest::Nothing;
                    }
                    None => self.more().await?,
                },
                Rest::UntilClose => {
                    if self.at == self.read.len() && !self.more_or_end().await? {
                        self.rest = Rest::Nothing;
                        return Ok(None);
                    }
                    let part = self.at..self.read.len();
                    self.at = self.read.len();
                    return Ok(Some(part));
                }
            }
        }
    }

    /// The headers that came behind the body, a line each.
    pub fn trailers(&self) -> &[u8] {
        &self.trailers
    }

    /// What parts of the body lie in.
    pub fn bytes(&self) -> &[u8] {
        &self.read
    }

    /// Where the rest of the body lies, if all of it is at hand and nothing behind it.
    pub fn rest_at_hand(&mut self) -> Option<Range<usize>> {
        let there = self.read.len() - self.at;
        match self.rest {
            Rest::Nothing if there == 0 => Some(self.at..self.at),
            Rest::Bytes(left) if left == there as u64 => {
                let all = self.at..self.read.len();
                (self.at, self.rest) = (self.read.len(), Rest::Nothing);
                Some(all)
            }
            _ => None,
        }
    }

    /// Gives away what was read, for something else to be read into.
    pub fn swap(&mut self, other: &mut Vec<u8>) {
        std::mem::swap(&mut self.read, other);
        self.read.clear();
        self.at = 0;
    }

    /// A chunk ends with a line of its own. It is waited for when it is needed: the part comes first.
    async fn end_of_chunk(&mut self, part: Range<usize>) -> Result<Range<usize>, Broken> {
        while self.read.len() - self.at < 2 {
            // What is read on comes behind the part, which stays where it is.
            self.read_behind().await?;
        }
        if &self.read[self.at..self.at + 2] != b"\r\n" {
            return Err(Broken::Odd("a chunk is longer than its size"));
        }
        self.at += 2;
        self.rest = Rest::ChunkSize;
        Ok(part)
    }

    /// Reads more, in the place of what was taken.
    async fn more(&mut self) -> Result<(), Broken> {
        match self.more_or_end().await? {
            true => Ok(()),
            false => Err(Broken::Lost(io::ErrorKind::UnexpectedEof.into())),
        }
    }

    async fn more_or_end(&mut self) -> Result<bool, Broken> {
        if self.at == self.read.len() {
            self.read.clear();
        } else {
            self.read.drain(..self.at);
        }
        self.at = 0;
        self.read_some().await
    }

    async fn read_behind(&mut self) -> Result<(), Broken> {
        match self.read_some().await? {
            true => Ok(()),
            false => Err(Broken::Lost(io::ErrorKind::UnexpectedEof.into())),
        }
    }

    async fn read_some(&mut self) -> Result<bool, Broken> {
        self.read.reserve(READ);
        let length = self.stream.read_buf(&mut self.read).await.map_err(Broken::Lost)?;
        Ok(length > 0)
    }
}

/// Writes all parts, as far as possible with one call to the system.
pub async fn write_parts<const N: usize>(
    stream: &mut (impl AsyncWrite + Unpin),
    parts: [&[u8]; N],
) -> io::Result<()> {
    let mut parts = &mut parts.map(IoSlice::new)[..];
    while !parts.is_empty() {
        let written = stream.write_vectored(parts).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        IoSlice::advance_slices(&mut parts, written);
    }
    stream.flush().await
}

/// What there is of an answer's head.
enum Seen<T> {
    Part,
    /// So many bytes that inform of an answer to come.
    Information(usize),
    Whole(usize, Framing, T),
}

fn look<T>(
    bytes: &[u8],
    to_head: bool,
    read: &mut Option<impl FnOnce(&Head<'_>) -> T>,
) -> Result<Seen<T>, Broken> {
    let mut headers = [const { MaybeUninit::uninit() }; MOST_HEADERS];
    let mut answer = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let parsed = config.parse_response_with_uninit_headers(&mut answer, bytes, &mut headers);
    let length = match parsed.map_err(|_| Broken::Odd("its head can't be read"))? {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial => return Ok(Seen::Part),
    };
    let status = answer.code.unwrap_or_default();
    match status {
        200..=999 => {}
        100 | 102..=199 => return Ok(Seen::Information(length)),
        101 => return Err(Broken::Odd("it changes the protocol, which nobody asked for")),
        _ => return Err(Broken::Odd("its status is none")),
    }
    let framing = framing(&answer, to_head)?;
    let head = Head {
        status,
        reason: answer.reason.unwrap_or_default(),
        headers: answer.headers,
        bytes: &bytes[..length],
        length: match framing.rest {
            Rest::Nothing => Length::Known(0),
            Rest::Bytes(length) => Length::Known(length),
            _ => Length::Unknown,
        },
        is_bodiless: framing.is_bodiless,
    };
    // There is one whole head for each call.
    let read = read.take().ok_or(Broken::Odd("it has two heads"))?;
    Ok(Seen::Whole(length, framing, read(&head)))
}

/// How long the headers behind the last chunk are, once they are whole. They are put into `into`, a line
/// each.
fn whole_trailers(bytes: &[u8], into: &mut Vec<u8>) -> Result<Option<usize>, Broken> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    match httparse::parse_headers(bytes, &mut headers) {
        Ok(httparse::Status::Complete((length, headers))) => {
            for header in headers {
                for part in [header.name.as_bytes(), b": ", header.value, b"\r\n"] {
                    into.extend_from_slice(part);
                }
            }
            Ok(Some(length))
        }
        Ok(httparse::Status::Partial) if bytes.len() < LONGEST_HEAD => Ok(None),
        _ => Err(Broken::Odd("what follows the last chunk is neither its end nor headers")),
    }
}

struct Framing {
    rest: Rest,
    is_kept: bool,
    is_bodiless: bool,
}

/// Where an answer ends (RFC 9112, 6.3), or why that is in doubt.
fn framing(answer: &httparse::Response<'_, '_>, to_head: bool) -> Result<Framing, Broken> {
    let (mut length, mut is_chunked) = (None, false);
    let mut is_kept = answer.version == Some(1);
    for header in answer.headers.iter() {
        let is = |known: &str| is_field(header.name, known);
        match header.name.len() {
            14 if is("content-length") => {
                let told = whole_number(header.value).ok_or(Broken::Odd("its length is no number"))?;
                if length.replace(told).is_some() {
                    return Err(Broken::Odd("its length is told twice"));
                }
            }
            17 if is("transfer-encoding") => {
                if is_chunked || !header.value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Broken::Odd("it is encoded in a way that nobody asked for"));
                }
                is_chunked = true;
            }
            10 if is("connection") => {
                is_kept &= header.value.eq_ignore_ascii_case(b"keep-alive");
            }
            _ => {}
        }
    }
    if is_chunked && (length.is_some() || answer.version == Some(0)) {
        return Err(Broken::Odd("its length is told in two ways"));
    }
    let is_bodiless = to_head || matches!(answer.code, Some(204 | 304));
    let rest = match (is_bodiless, is_chunked, length) {
        (true, ..) | (false, false, Some(0)) => Rest::Nothing,
        (false, true, _) => Rest::ChunkSize,
        (false, false, Some(length)) => Rest::Bytes(length),
        (false, false, None) => Rest::UntilClose,
    };
    // Whoever tells of a body where none can be may send one, later than it is looked for.
    let may_follow = answer.code == Some(204) && (is_chunked || length.is_some_and(|length| length > 0));
    is_kept &= rest != Rest::UntilClose && !may_follow;
    Ok(Framing { rest, is_kept, is_bodiless })
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, parts),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// What a request brings over a real socket from a HighLevel that answers these bytes, in pieces of this
    /// size, and then ends the connection or keeps it.
    async fn exchange(
        answer: &'static [u8],
        piece: usize,
        to_head: bool,
    ) -> Result<(u16, String, bool), Broken> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let serving = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a caller");
            stream.set_nodelay(true).expect("a socket");
            let mut asked = [0; 1024];
            let _ = stream.read(&mut asked).await.expect("a request");
            for part in answer.chunks(piece) {
                if stream.write_all(part).await.is_err() {
                    return;
                }
                tokio::task::yield_now().await;
            }
        });
        let lines = Lines::new("127.0.0.1".to_owned(), port, None);
        let mut line = lines.connect().await?;
        line.send([b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"]).await?;
        let status = line.head(to_head, |head| head.status).await?;
        let mut body = Vec::new();
        while let Some(part) = line.part().await? {
            body.extend_from_slice(&line.bytes()[part]);
        }
        let is_kept = line.is_kept && line.at == line.read.len();
        body.extend_from_slice(line.trailers());
        drop(line);
        serving.await.expect("no panic");
        Ok((status, String::from_utf8(body).expect("text"), is_kept))
    }

    #[tokio::test]
    async fn an_answer_ends_where_it_says_however_it_comes() {
        let check = |answer: &'static [u8], to_head, status, body: &'static str, is_kept| async move {
            for piece in [1, 7, 100_000] {
                let got = exchange(answer, piece, to_head).await.expect("an answer");
                let text = String::from_utf8_lossy(answer);
                assert_eq!(
                    (got.0, got.1.as_str(), got.2),
                    (status, body, is_kept),
                    "{text} in pieces of {piece}"
                );
            }
        };
        check(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", false, 200, "hello", true).await;
        check(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false, 200, "", true).await;
        check(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", true, 200, "", true).await;
        check(b"HTTP/1.1 204 No Content\r\n\r\n", false, 204, "", true).await;
        check(b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", false, 304, "", true).await;
        check(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n1;a=b\r\n!\r\n0\r\n\r\n",
            false,
            200,
            "hello!",
            true,
        )
        .await;
        check(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n1\r\na\r\n0\r\nx-sum: 7\r\n\r\n",
            false,
            200,
            "ax-sum: 7\r\n",
            true,
        )
        .await;
        check(b"HTTP/1.1 200 OK\r\n\r\nuntil the end", false, 200, "until the end", false).await;
        check(b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", false, 200, "ok", false).await;
        check(
            b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
            false,
            200,
            "ok",
            false,
        )
        .await;
        check(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 201 Created\r\ncontent-length: 1\r\n\r\n1",
            false,
            201,
            "1",
            true,
        )
        .await;
    }

    #[tokio::test]
    async fn what_comes_behind_an_answer_is_taken_for_no_other() {
        let got = exchange(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200", 100, false).await;
        assert_eq!(got.expect("an answer"), (200, "ok".to_owned(), false));
    }

    #[tokio::test]
    async fn an_answer_whose_end_is_in_doubt_is_none() {
        for (answer, is_lost) in [
            (&b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!"[..], false),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\nhello", false),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\n\r\nhello", false),
            (b"HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\nhello", false),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\nhello", false),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", false),
            (b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", false),
            (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", false),
            (b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", false),
            (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello!\r\n0\r\n\r\n", false),
            (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nx\r\n", false),
            (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\nno header\r\n\r\n", false),
            (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n", false),
            (b"HTTP/1.1 200 OK\r\na: b\r\n c: folded\r\n\r\n", false),
            (b"HTTP/1.1 200 OK\r\na : b\r\n\r\n", false),
            (b"HTTP/2 200 OK\r\n\r\n", false),
            (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", false),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhell", true),
            (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", true),
            (b"HTTP/1.1 200 OK\r\ncontent-len", true),
            (b"", true),
        ] {
            let text = String::from_utf8_lossy(answer);
            match exchange(if answer.is_empty() { b"" } else { answer }, 100_000, false).await {
                Err(Broken::Odd(_)) if !is_lost => {}
                Err(Broken::Lost(_)) if is_lost => {}
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_head_without_end_is_given_up() {
        let endless: &'static [u8] =
            Vec::leak([b"HTTP/1.1 200 OK\r\na: ".as_slice(), &vec![b'x'; 10 * 1024 * 1024]].concat());
        let got = exchange(endless, 64 * 1024, false).await;
        assert!(matches!(got, Err(Broken::Odd("its head is too long"))), "{got:?}");
    }

    #[tokio::test]
    async fn a_connection_that_was_closed_meanwhile_is_not_used_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let lines =
            Lines::new("127.0.0.1".to_owned(), listener.local_addr().expect("an address").port(), None);
        let mut line = lines.connect().await.expect("a connection");
        let (mut stream, _) = listener.accept().await.expect("a caller");
        line.send([b"GET / HTTP/1.1\r\n\r\n"]).await.expect("sent");
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.expect("sent");
        line.head(false, |_| ()).await.expect("an answer");
        lines.put_back(line, Instant::now());
        let line = lines.at_hand(Instant::now()).expect("it is still good");
        assert!(line.was_used());
        lines.put_back(line, Instant::now());
        drop(stream);
        // Until the system has told of it.
        while lines.idle.lock().expect("nobody panics with it")[0].is_silent() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(lines.at_hand(Instant::now()).is_none());
    }
}
