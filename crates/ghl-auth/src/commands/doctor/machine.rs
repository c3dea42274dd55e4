//! What the machine shows when one looks: files, sockets, the way to HighLevel.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use highlevel::{ApiBase, Client, FailureKind};
use nix::unistd::{AccessFlags, access};
use serde_json::Value;
use tokens::{AccessToken, Clock as _, Timestamp};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::judge::{Claims, EntryFacts, FileFacts, FileKind, Port, Reached};
use crate::config::{Doors, Listen};
use crate::wiring::SystemClock;

const LOOK_UP_WITHIN: Duration = Duration::from_secs(10);
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// A file as it is, if it is there.
pub(super) fn file(path: &Path, what: FileKind) -> Option<FileFacts> {
    let found = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
    let open_folder = store::open_folder(path);
    Some(FileFacts { path: path.to_owned(), what, mode: found.mode(), owner: found.uid(), open_folder })
}

/// What is free where a file lies, for whoever is not root.
pub(super) fn free_bytes(path: &Path) -> Option<u64> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let found = nix::sys::statvfs::statvfs(folder).ok()?;
    #[allow(clippy::useless_conversion, reason = "its width differs between systems")]
    Some(u64::from(found.blocks_available()) * u64::from(found.fragment_size()))
}

/// Whether a plain token file has what the template writes and nothing of ours: something else wrote it
/// last.
pub(super) fn is_written_elsewhere(path: &Path) -> bool {
    let Ok(bytes) = std::fs::read(path).map(Zeroizing::new) else { return false };
    let Ok(Value::Object(members)) = serde_json::from_slice(&bytes) else { return false };
    members.contains_key("access_token") && !members.contains_key("ghl_auth")
}

/// What a token says of itself. Its signature can't be checked, so this is a hint.
pub(super) fn claims(token: &AccessToken) -> Claims {
    let payload = token.expose().split('.').nth(1).unwrap_or_default();
    let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).unwrap_or_default());
    let json: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let text = |pointer: &str| json.pointer(pointer).and_then(Value::as_str).map(plain);
    let ends = json.get("exp").and_then(Value::as_f64).filter(|exp| (1.0..1e11).contains(exp));
    Claims {
        class: text("/authClass"),
        class_id: text("/authClassId"),
        app: text("/oauthMeta/client"),
        // In range by the filter above.
        ends_at: ends.map(|exp| Timestamp::from_millis((exp * 1000.0) as i64)),
    }
}

/// What a token says is not for the terminal to obey.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(64).collect()
}

/// How far one comes on the way to HighLevel, and by how much this clock is ahead of HighLevel's.
pub(super) async fn reach(base: &ApiBase, client: &Client) -> (Reached, Option<i64>) {
    let (host, port) = base.host_and_port();
    let found = match timeout(LOOK_UP_WITHIN, tokio::net::lookup_host((host.as_str(), port))).await {
        Ok(Ok(found)) => found.collect::<Vec<_>>(),
        Ok(Err(error)) => return (Reached::NoName(error.to_string()), None),
        Err(_) => return (Reached::NoName("no answer within 10 seconds".to_owned()), None),
    };
    match timeout(CONNECT_WITHIN, tokio::net::TcpStream::connect(found.as_slice())).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return (Reached::NoConnection(error.to_string()), None),
        Err(_) => return (Reached::NoConnection("no answer within 5 seconds".to_owned()), None),
    }
    match client.greet().await {
        Ok(greeting) => {
            let ahead = greeting.date.as_deref().and_then(ahead_of);
            (Reached::Answered(greeting), ahead)
        }
        Err(failure) if base.is_https() && failure.kind == FailureKind::Unreachable => {
            (Reached::NoTls(failure.said), None)
        }
        Err(failure) => (Reached::NoAnswer(failure.said), None),
    }
}

/// By how many seconds this clock is ahead of a `Date`.
fn ahead_of(date: &str) -> Option<i64> {
    let theirs = jiff::fmt::rfc2822::parse(date).ok()?.timestamp().as_millisecond();
    Some((SystemClock.now().as_millis() - theirs) / 1000)
}

/// Who has the addresses that the service would listen at.
pub(super) fn ports(doors: &Doors) -> Vec<(&'static str, String, Port)> {
    let private = match &doors.private {
        Listen::Tcp(address) => tcp(*address, doors.tls.is_some()),
        Listen::Unix(path) => unix(path),
    };
    let mut ports = vec![("GHL_AUTH_LISTEN", doors.private.to_string(), private)];
    if let Some(address) = doors.public {
        ports.push(("GHL_AUTH_PUBLIC_LISTEN", address.to_string(), tcp(address, false)));
    }
    ports
}

fn tcp(address: SocketAddr, speaks_tls: bool) -> Port {
    use std::io::ErrorKind::{AddrNotAvailable, PermissionDenied};
    match TcpListener::bind(address) {
        Ok(_) => Port::Free,
        Err(error) if error.kind() == PermissionDenied => Port::NotAllowed,
        Err(error) if error.kind() == AddrNotAvailable => Port::NotHere,
        Err(_) if speaks_tls => Port::Unasked,
        Err(_) => {
            let ip = match address.ip() {
                IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
                ip => ip,
            };
            let stream = TcpStream::connect_timeout(&SocketAddr::new(ip, address.port()), ANSWER_WITHIN);
            let lives = stream.and_then(|stream| {
                stream.set_read_timeout(Some(ANSWER_WITHIN))?;
                is_alive(stream)
            });
            if lives.unwrap_or(false) { Port::Ours } else { Port::Others }
        }
    }
}

fn unix(path: &Path) -> Port {
    let Ok(stream) = UnixStream::connect(path) else {
        // A dead socket file is taken away by whoever binds next; anything else stays.
        let is_other = std::fs::symlink_metadata(path).is_ok_and(|found| found.is_file() || found.is_dir());
        return if is_other { Port::Others } else { Port::Free };
    };
    let lives = stream.set_read_timeout(Some(ANSWER_WITHIN)).and_then(|()| is_alive(stream));
    if lives.unwrap_or(false) { Port::Ours } else { Port::Others }
}

/// Whether whoever answers says what our service says.
fn is_alive(mut stream: impl std::io::Read + std::io::Write) -> std::io::Result<bool> {
    stream.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(4096).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).contains("\"alive\""))
}

/// What an entry of cron needs, by its words, and whether whoever asks may have it.
pub(super) fn entry(words: &[String]) -> EntryFacts {
    let behind = |word: &str| {
        let at = words.iter().position(|it| it == word)?;
        words.get(at + 1).cloned()
    };
    let may = |path: String, how: AccessFlags| {
        let granted = access(Path::new(&path), how).is_ok();
        (path, granted)
    };
    let log = behind(">>").map(|path| {
        let file = PathBuf::from(&path);
        let is_good = match file.exists() {
            true => access(&file, AccessFlags::W_OK).is_ok() && file.is_file(),
            false => file.parent().is_some_and(|folder| access(folder, AccessFlags::W_OK).is_ok()),
        };
        (path, is_good)
    });
    EntryFacts {
        program: behind("&&").map(|path| may(path, AccessFlags::X_OK)),
        env_file: behind("--env-file").map(|path| may(path, AccessFlags::R_OK)),
        log,
    }
}

/// Writes a report that nobody else may read, where nothing is yet.
pub(super) fn write_report(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
