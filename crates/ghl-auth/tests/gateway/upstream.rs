//! A server in HighLevel's place that takes nothing on trust: it reads each request byte for byte with a
//! parser of its own, which knows one way to write a request and no other, and answers what a story says.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// On which connection, counted from 0.
    pub(crate) connection: usize,
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let of_name = self.headers.iter().filter(move |(found, _)| found.eq_ignore_ascii_case(name));
        of_name.map(|(_, value)| value.as_slice())
    }

    pub(crate) fn header(&self, name: &str) -> Option<String> {
        self.all(name).next().map(|value| String::from_utf8_lossy(value).into_owned())
    }
}

/// How a request is answered: what is written, and whether the connection goes on.
type Answering = dyn Fn(&Seen, &mut TcpStream) -> bool + Send + Sync;

struct Shared {
    seen: Mutex<Vec<Seen>>,
    odd: Mutex<Vec<String>>,
    answering: Mutex<Arc<Answering>>,
    open: AtomicUsize,
    most_open: AtomicUsize,
}

pub(crate) struct Upstream {
    /// `http://127.0.0.1:port`.
    pub(crate) url: String,
    shared: Arc<Shared>,
}

pub(crate) const PLAIN_ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 11\r\n\r\n{\"ok\":true}";

impl Upstream {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let plain: Arc<Answering> = Arc::new(|_, stream| stream.write_all(PLAIN_ANSWER).is_ok());
        let shared = Arc::new(Shared {
            seen: Mutex::default(),
            odd: Mutex::default(),
            answering: Mutex::new(plain),
            open: AtomicUsize::new(0),
            most_open: AtomicUsize::new(0),
        });
        let ours = shared.clone();
        std::thread::spawn(move || {
            for (connection, stream) in listener.incoming().enumerate() {
                let (Ok(stream), shared) = (stream, ours.clone()) else { return };
                std::thread::spawn(move || shared.converse(connection, stream));
            }
        });
        Self { url, shared }
    }

    /// From now on, requests are answered so.
    pub(crate) fn answers(&self, how: impl Fn(&Seen, &mut TcpStream) -> bool + Send + Sync + 'static) {
        *self.shared.answering.lock().expect("nobody panics with it") = Arc::new(how);
    }

    /// What arrived since this was last asked.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.shared.seen.lock().expect("nobody panics with it"))
    }

    /// What arrived that was no request as it has to be written.
    pub(crate) fn odd(&self) -> Vec<String> {
        self.shared.odd.lock().expect("nobody panics with it").clone()
    }

    /// How many connections there are.
    pub(crate) fn open(&self) -> usize {
        self.shared.open.load(Ordering::Relaxed)
    }

    /// How many there were at most since this was last asked.
    pub(crate) fn most_open(&self) -> usize {
        self.shared.most_open.swap(self.open(), Ordering::Relaxed)
    }
}

impl Shared {
    fn converse(&self, connection: usize, mut stream: TcpStream) {
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_open.fetch_max(open, Ordering::Relaxed);
        stream.set_nodelay(true).ok();
        stream.set_write_timeout(Some(Duration::from_secs(60))).ok();
        let mut reader = Reader { bytes: Vec::new(), connection };
        loop {
            match reader.request(&mut stream) {
                Ok(Some(seen)) => {
                    let answering = self.answering.lock().expect("nobody panics with it").clone();
                    self.seen.lock().expect("nobody panics with it").push(seen.clone());
                    if !answering(&seen, &mut stream) {
                        break;
                    }
                }
                Ok(None) => break,
                Err(why) => {
                    let bytes = &reader.bytes[..reader.bytes.len().min(400)];
                    let text = format!("{why}: {:?}", String::from_utf8_lossy(bytes));
                    self.odd.lock().expect("nobody panics with it").push(text);
                    break;
                }
            }
        }
        stream.shutdown(std::net::Shutdown::Both).ok();
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The strict parser. It shares nothing with the service's.
struct Reader {
    bytes: Vec<u8>,
    connection: usize,
}

impl Reader {
    /// Reads on. None when the other end has closed.
    fn more(&mut self, stream: &mut TcpStream) -> Option<()> {
        let mut bytes = [0; 64 * 1024];
        match stream.read(&mut bytes) {
            Ok(length @ 1..) => {
                self.bytes.extend_from_slice(&bytes[..length]);
                Some(())
            }
            _ => None,
        }
    }

    fn request(&mut self, stream: &mut TcpStream) -> Result<Option<Seen>, &'static str> {
        let end = loop {
            if let Some(at) = self.bytes.windows(4).position(|part| part == b"\r\n\r\n") {
                break at;
            }
            if self.more(stream).is_none() {
                return if self.bytes.is_empty() { Ok(None) } else { Err("half a head") };
            }
        };
        let head: Vec<u8> = self.bytes.drain(..end + 4).take(end).collect();
        let mut lines = head.split(|c| *c == b'\n');
        let first = lines.next().unwrap_or_default();
        let first = first.strip_suffix(b"\r").unwrap_or(first);
        let words: Vec<&[u8]> = first.split(|c| *c == b' ').collect();
        let [method, target, b"HTTP/1.1"] = words.as_slice() else { return Err("an odd first line") };
        if method.is_empty() || !method.iter().all(u8::is_ascii_alphabetic) {
            self.bytes.splice(0..0, head.iter().copied());
            return Err("an odd method");
        }
        if !target.starts_with(b"/") || !target.iter().all(u8::is_ascii_graphic) {
            return Err("an odd target");
        }
        let mut headers = Vec::new();
        let count = head.iter().filter(|c| **c == b'\n').count();
        for (number, line) in lines.enumerate() {
            let line = match line.strip_suffix(b"\r") {
                Some(line) => line,
                None if number + 1 == count => line,
                None => return Err("a line feed alone"),
            };
            let colon = line.iter().position(|c| *c == b':').ok_or("a line without a colon")?;
            let (name, value) = (&line[..colon], &line[colon + 1..]);
            let is_token = |c: &u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(c);
            if name.is_empty() || !name.iter().all(is_token) {
                return Err("an odd name");
            }
            if value.iter().any(|c| (*c < 0x20 && *c != b'\t') || *c == 0x7f) {
                return Err("a control character");
            }
            headers.push((String::from_utf8_lossy(name).into_owned(), value.trim_ascii().to_vec()));
        }
        let mut seen = Seen {
            connection: self.connection,
            method: String::from_utf8_lossy(method).into_owned(),
            target: String::from_utf8_lossy(target).into_owned(),
            headers,
            body: Vec::new(),
        };
        let lengths: Vec<&[u8]> = seen.all("content-length").collect();
        let codings: Vec<&[u8]> = seen.all("transfer-encoding").collect();
        let body = match (lengths.as_slice(), codings.as_slice()) {
            ([], []) => Vec::new(),
            ([length], []) => {
                let is_number = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
                let length = std::str::from_utf8(length).ok().filter(|_| is_number);
                let length: usize = length.and_then(|text| text.parse().ok()).ok_or("an odd length")?;
                self.take(stream, length)?
            }
            ([], [b"chunked"]) => self.chunks(stream)?,
            _ => return Err("an odd framing"),
        };
        seen.body = body;
        Ok(Some(seen))
    }

    fn take(&mut self, stream: &mut TcpStream, length: usize) -> Result<Vec<u8>, &'static str> {
        while self.bytes.len() < length {
            self.more(stream).ok_or("half a body")?;
        }
        Ok(self.bytes.drain(..length).collect())
    }

    fn chunks(&mut self, stream: &mut TcpStream) -> Result<Vec<u8>, &'static str> {
        let mut body = Vec::new();
        loop {
            let line = self.line(stream)?;
            let is_size = !line.is_empty() && line.iter().all(u8::is_ascii_hexdigit);
            let size = std::str::from_utf8(&line).ok().filter(|_| is_size);
            let size = size.and_then(|text| usize::from_str_radix(text, 16).ok()).ok_or("an odd chunk")?;
            body.extend(self.take(stream, size)?);
            if self.take(stream, 2)? != b"\r\n" {
                return Err("a chunk without its end, or a trailer");
            }
            if size == 0 {
                return Ok(body);
            }
        }
    }

    fn line(&mut self, stream: &mut TcpStream) -> Result<Vec<u8>, &'static str> {
        loop {
            if let Some(at) = self.bytes.windows(2).position(|part| part == b"\r\n") {
                return Ok(self.bytes.drain(..at + 2).take(at).collect());
            }
            self.more(stream).ok_or("half a line")?;
        }
    }
}
