//! Notices by e-mail, to a mail server that an operator configured.
//!
//! `smtps://` is TLS from the first byte and `smtp://` demands STARTTLS; in clear text only a server
//! on this machine is spoken to. Nothing that a server says but its codes gets into an error, so no
//! password does.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::str::FromStr;
use std::task::{Context, Poll};
use std::time::{Duration, UNIX_EPOCH};

use lettre::address::AddressError;
use lettre::message::SinglePart;
use lettre::message::header::{Header, HeaderName, HeaderValue};
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, AsyncTokioStream, TlsParameters};
use lettre::transport::smtp::commands;
use lettre::transport::smtp::extension::ClientId;
use lettre::{Address, Message};
use percent_encoding::percent_decode_str;
use tokens::Notice;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::warn;

use super::{NotDelivered, Post, Words};

/// From the connection to the server's word that it has the message.
const WITHIN: Duration = Duration::from_secs(30);
const GOODBYE_WITHIN: Duration = Duration::from_secs(2);

/// What a server refuses for good, only a person can mend: it is tried rarely.
const AFTER_A_REFUSAL: Duration = Duration::from_secs(3600);

/// A text that is no `smtps://USER:PASSWORD@HOST:PORT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no smtps://USER:PASSWORD@HOST:PORT")]
pub struct BadServer;

/// A mail server, and how one is known to it.
#[derive(Clone, PartialEq, Eq)]
pub struct MailServer {
    security: Security,
    pub(super) host: String,
    pub(super) port: u16,
    login: Option<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Security {
    /// TLS from the first byte.
    Tls,
    /// TLS before anything that matters; none on this machine.
    StartTls,
}

impl fmt::Debug for MailServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MailServer({}:{})", self.host, self.port)
    }
}

impl FromStr for MailServer {
    type Err = BadServer;

    /// The user may be an address as it is; what else is special may be percent-encoded.
    fn from_str(text: &str) -> Result<Self, BadServer> {
        let (scheme, rest) = text.trim().split_once("://").ok_or(BadServer)?;
        let (security, usual_port) = match scheme.to_ascii_lowercase().as_str() {
            "smtps" => (Security::Tls, 465),
            "smtp" => (Security::StartTls, 587),
            _ => return Err(BadServer),
        };
        let (login, place) = match rest.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, rest),
        };
        let place = place.strip_suffix('/').unwrap_or(place);
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| BadServer)?),
            _ => (place, usual_port),
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let is_ip = bare.parse::<std::net::IpAddr>().is_ok();
        let is_name = host.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '-');
        if host.is_empty() || port == 0 || !(is_ip || is_name) {
            return Err(BadServer);
        }
        let plain = |text: &str| percent_decode_str(text).decode_utf8().map(String::from);
        let login = match login.map(|login| login.split_once(':').ok_or(BadServer)).transpose()? {
            Some((user, password)) => {
                Some((plain(user).map_err(|_| BadServer)?, plain(password).map_err(|_| BadServer)?))
            }
            None => None,
        };
        Ok(Self { security, host: bare.to_owned(), port, login })
    }
}

impl MailServer {
    /// The user's name, where it is an address.
    pub fn user_address(&self) -> Option<MailAddress> {
        self.login.as_ref().and_then(|(user, _)| user.parse().ok())
    }
}

/// An e-mail address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailAddress(Address);

impl FromStr for MailAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        text.trim().parse().map(Self)
    }
}

/// Who writes to whom, by which server.
#[derive(Clone, Debug)]
pub(super) struct Email {
    pub(super) server: MailServer,
    pub(super) from: MailAddress,
    pub(super) to: Vec<MailAddress>,
}

impl Email {
    /// Hands the notice to the server. It counts as told when one of the recipients was taken.
    pub(super) async fn send(&self, post: &Post, notice: &Notice, words: &Words) -> Result<(), NotDelivered> {
        let tls = TlsParameters::new(self.server.host.clone());
        let tls = tls.map_err(|_| failed("TLS can't be prepared"))?;
        self.send_trusting(tls, post, notice, words).await
    }

    async fn send_trusting(
        &self,
        tls: TlsParameters,
        post: &Post,
        notice: &Notice,
        words: &Words,
    ) -> Result<(), NotDelivered> {
        let message = self.message(notice, words).formatted();
        let handing_over = async {
            let mut session = self.session(tls, post).await?;
            self.hand_over(&mut session, &message).await?;
            Ok(session)
        };
        let handed_over = timeout(WITHIN, handing_over).await;
        let mut session = handed_over.unwrap_or_else(|_| Err(failed("no answer within 30 seconds")))?;
        // It has the message, whatever becomes of the goodbye.
        let _ = timeout(GOODBYE_WITHIN, session.quit()).await;
        Ok(())
    }

    async fn session(&self, tls: TlsParameters, post: &Post) -> Result<AsyncSmtpConnection, NotDelivered> {
        let MailServer { security, host, port, login } = &self.server;
        let to = post.addresses(host, *port).await.map_err(failed)?;
        let hello = ClientId::Domain(self.from.0.domain().to_owned());
        let mut session = match security {
            Security::Tls => {
                let connecting =
                    AsyncSmtpConnection::connect_tokio1(to.as_slice(), Some(WITHIN), &hello, Some(tls), None);
                connecting.await.map_err(refused("the connection"))?
            }
            Security::StartTls => {
                let stream = TcpStream::connect(to.as_slice()).await;
                let stream = stream.map_err(|_| failed("it can't be reached"))?;
                let at_home =
                    stream.peer_addr().is_ok_and(|address| address.ip().to_canonical().is_loopback());
                let stream = Box::new(ByTheByte { stream, encrypted: false });
                let session = AsyncSmtpConnection::connect_with_transport(stream, &hello).await;
                let session = session.map_err(refused("the connection"))?;
                if at_home { session } else { Self::secured(session, tls, &hello).await? }
            }
        };
        if let Some((user, password)) = login {
            let credentials = Credentials::new(user.clone(), password.clone());
            let known = session.auth(DEFAULT_MECHANISMS, &credentials).await;
            known.map_err(refused("the user name and the password"))?;
        }
        Ok(session)
    }

    /// The session in TLS, or none.
    async fn secured(
        mut session: AsyncSmtpConnection,
        tls: TlsParameters,
        hello: &ClientId,
    ) -> Result<AsyncSmtpConnection, NotDelivered> {
        if !session.can_starttls() {
            return Err(failed("it offers no TLS"));
        }
        session.starttls(tls, hello).await.map_err(refused("TLS"))?;
        Ok(session)
    }

    async fn hand_over(&self, session: &mut AsyncSmtpConnection, message: &[u8]) -> Result<(), NotDelivered> {
        let from = commands::Mail::new(Some(self.from.0.clone()), Vec::new());
        session.command(from).await.map_err(refused("the sender"))?;
        let mut why_not = None;
        let mut taken = 0;
        for to in &self.to {
            match session.command(commands::Rcpt::new(to.0.clone(), Vec::new())).await {
                Ok(_) => taken += 1,
                Err(error) => why_not = Some(refused("the recipient")(error)),
            }
        }
        match why_not {
            Some(why) if taken == 0 => return Err(why),
            Some(why) => warn!(%why, taken, of = self.to.len(), "not every recipient gets the notice"),
            None => {}
        }
        session.command(commands::Data).await.map_err(refused("the message"))?;
        session.message(message).await.map(drop).map_err(refused("the message"))
    }

    /// The same each time for a notice, so that whoever gets it twice can tell.
    fn message(&self, notice: &Notice, words: &Words) -> Message {
        let since_1970 = Duration::from_millis(u64::try_from(notice.at.as_millis()).unwrap_or_default());
        let mut message = Message::builder()
            .message_id(Some(format!("<{}@{}>", notice.id, self.from.0.domain())))
            .date(UNIX_EPOCH + since_1970.min(LAST_DATE))
            .from(self.from.0.clone().into())
            .subject(one_line(&words.title))
            .header(AutoGenerated);
        for to in &self.to {
            message = message.to(to.0.clone().into());
        }
        message.singlepart(SinglePart::plain(words.body.clone())).expect("it has a sender and a recipient")
    }
}

/// The end of the year 9999, the last that a `Date` can hold.
const LAST_DATE: Duration = Duration::from_secs(253_402_300_799);

/// A header ends where its line does: whatever would end it is a space.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn failed(said: &str) -> NotDelivered {
    NotDelivered { said: said.to_owned(), retry_after: None }
}

/// What went wrong with `what`: of the server's words only its codes, for it may repeat ours.
fn refused(what: &'static str) -> impl Fn(lettre::transport::smtp::Error) -> NotDelivered {
    move |error| {
        let Some(code) = error.status() else {
            return match () {
                () if error.is_tls() => failed("TLS with it failed"),
                () if error.is_client() => failed(&format!("it has no use for {what}")),
                () if error.is_response() => failed("its answer makes no sense"),
                () => failed("it can't be reached, or the connection broke"),
            };
        };
        let words = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        let detail = words.split_whitespace().next().filter(|word| is_enhanced_code(word));
        let code = match detail {
            Some(detail) => format!("{code} {detail}"),
            None => code.to_string(),
        };
        match error.is_transient() {
            true => failed(&format!("it put off {what}: {code}")),
            false => NotDelivered {
                said: format!("it refused {what}: {code}"),
                retry_after: Some(AFTER_A_REFUSAL),
            },
        }
    }
}

/// Whether it is a code as RFC 3463 has them: `5.7.1`.
fn is_enhanced_code(word: &str) -> bool {
    let short = |part: &str| (1..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    word.split('.').count() == 3 && word.split('.').all(short)
}

/// `Auto-Submitted` (RFC 3834): no robot is to answer.
#[derive(Clone)]
struct AutoGenerated;

impl Header for AutoGenerated {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

/// Hands on one byte at a time until TLS has begun: nothing that someone slipped in behind the
/// server's "go ahead" may count as said within TLS.
#[derive(Debug)]
struct ByTheByte {
    stream: TcpStream,
    encrypted: bool,
}

/// The first byte of a TLS handshake, which begins no command.
const HANDSHAKE: u8 = 0x16;

impl AsyncTokioStream for ByTheByte {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }
}

impl AsyncRead for ByTheByte {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.encrypted {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let mut byte = [0];
        let mut one = ReadBuf::new(&mut byte);
        let read = Pin::new(&mut self.stream).poll_read(context, &mut one);
        buffer.put_slice(one.filled());
        read
    }
}

impl AsyncWrite for ByTheByte {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.encrypted |= bytes.first() == Some(&HANDSHAKE);
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use lettre::transport::smtp::client::{Certificate, CertificateStore};
    use tokens::{Health, NoticeKind, Subject, Timestamp};
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

    use super::*;

    #[test]
    fn a_mail_server_is_read_as_people_write_it() {
        type Expected<'a> = (Security, &'a str, u16, Option<(&'a str, &'a str)>);
        let check = |text: &str, expected: Result<Expected<'_>, BadServer>| {
            let expected = expected.map(|(security, host, port, login)| MailServer {
                security,
                host: host.into(),
                port,
                login: login.map(|(user, password)| (user.into(), password.into())),
            });
            assert!(text.parse::<MailServer>() == expected, "{text}");
        };
        use Security::{StartTls, Tls};
        let login = Some(("me@example.com", "p@ss:w/rd"));
        check(
            "smtps://me@example.com:p@ss:w/rd@mail.example.com:465",
            Ok((Tls, "mail.example.com", 465, login)),
        );
        check(
            "smtps://me%40example.com:p%40ss%3Aw%2Frd@mail.example.com",
            Ok((Tls, "mail.example.com", 465, login)),
        );
        check("smtp://me:100%@192.0.2.1/", Ok((StartTls, "192.0.2.1", 587, Some(("me", "100%")))));
        check("smtp://localhost:2525", Ok((StartTls, "localhost", 2525, None)));
        check("smtp://[::1]:2525", Ok((StartTls, "::1", 2525, None)));
        check("smtp://[::1]", Ok((StartTls, "::1", 587, None)));
        for bad in [
            "",
            "mail.example.com",
            "https://mail.example.com",
            "smtp://",
            "smtp://:25",
            "smtp://host:0",
            "smtp://host:99999",
            "smtp://me@host",
            "smtp://host/path",
            "smtp://ho st",
            "smtp://me:%ff@host",
        ] {
            check(bad, Err(BadServer));
        }
        let shown = format!("{:?}", "smtp://me:hidden@host".parse::<MailServer>().expect("a server"));
        assert_eq!(shown, "MailServer(host:587)");
    }

    fn notice() -> Notice {
        Notice {
            id: "location-loc_1-3-1790000000000".into(),
            at: Timestamp::from_millis(1_790_000_000_000),
            subject: Subject::Service,
            kind: NoticeKind::Trouble,
            health: Health::Down,
            since: Timestamp::from_millis(1_790_000_000_000),
            code: None,
            said: None,
        }
    }

    fn words(title: &str, body: &str) -> Words {
        Words { title: title.into(), body: body.into() }
    }

    fn email(server: &str, to: &[&str]) -> Email {
        let address = |text: &&str| text.parse().expect("an address");
        Email {
            server: server.parse().expect("a server"),
            from: address(&"ghl-auth@example.com"),
            to: to.iter().map(address).collect(),
        }
    }

    #[test]
    fn a_message_is_known_by_its_id_and_no_word_makes_a_header() {
        let email = email("smtp://localhost", &["me@example.com", "us@example.com"]);
        let odd = words("JARDINS: a\r\nBcc: everyone@example.com\r\n\r\nb", "Since then.\r\n.\r\nQUIT é");
        let text = String::from_utf8(email.message(&notice(), &odd).formatted()).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let mut names: Vec<&str> = head.lines().filter_map(|line| Some(line.split_once(": ")?.0)).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "Auto-Submitted",
                "Content-Transfer-Encoding",
                "Content-Type",
                "Date",
                "From",
                "MIME-Version",
                "Message-ID",
                "Subject",
                "To"
            ]
        );
        assert!(head.contains("Message-ID: <location-loc_1-3-1790000000000@example.com>\r\n"), "{head}");
        assert!(head.contains("Auto-Submitted: auto-generated\r\n"), "{head}");
        assert!(head.contains("Date: Mon, 21 Sep 2026 14:13:20 +0000\r\n"), "{head}");
        assert!(body.contains("=C3=A9"), "seven bits: {body}");
        let again = String::from_utf8(email.message(&notice(), &odd).formatted()).expect("text");
        assert_eq!(text, again, "the same each time");
    }

    /// A mail server on this machine, which answers as it is told to.
    struct Server {
        port: u16,
        heard: Arc<Mutex<Vec<String>>>,
        certificate: Vec<u8>,
    }

    /// How a server behaves.
    #[derive(Clone, Copy, PartialEq)]
    enum Manner {
        /// TLS from the first byte.
        Tls,
        /// TLS when asked.
        StartTls,
        /// TLS when asked, and an answer in clear text that comes with the go-ahead for it.
        SlipsIn,
        /// No TLS.
        ClearText,
    }

    impl Server {
        async fn start(manner: Manner, refusals: &'static [(&'static str, &'static str)]) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let port = listener.local_addr().expect("an address").port();
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let tls = rustls::ServerConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .expect("versions")
                .with_no_client_auth()
                .with_single_cert(vec![made.cert.der().clone()], key)
                .expect("a certificate");
            let acceptor = TlsAcceptor::from(Arc::new(tls));
            let heard = Arc::new(Mutex::new(Vec::new()));
            let log = heard.clone();
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let (acceptor, log) = (acceptor.clone(), log.clone());
                    tokio::spawn(async move {
                        if manner == Manner::Tls {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                talk(stream, manner, refusals, &log, true).await;
                            }
                            return;
                        }
                        let Some(stream) = talk(stream, manner, refusals, &log, true).await else { return };
                        if let Ok(stream) = acceptor.accept(stream).await {
                            log.lock().expect("ours").push("(TLS)".into());
                            talk(stream, Manner::Tls, refusals, &log, false).await;
                        }
                    });
                }
            });
            Self { port, heard, certificate: made.cert.der().to_vec() }
        }

        fn heard(&self) -> Vec<String> {
            self.heard.lock().expect("ours").clone()
        }

        /// Trusted here and nowhere else.
        fn trust(&self) -> TlsParameters {
            TlsParameters::builder("localhost".into())
                .certificate_store(CertificateStore::None)
                .add_root_certificate(Certificate::from_der(self.certificate.clone()).expect("a certificate"))
                .build()
                .expect("parameters")
        }

        async fn gets(&self, scheme: &str, to: &[&str]) -> Result<(), NotDelivered> {
            let server = format!("{scheme}://me:very-hidden@localhost:{}", self.port);
            let (email, post, words) = (email(&server, to), Post::new(true), words("Trouble", "."));
            let sent = email.send_trusting(self.trust(), &post, &notice(), &words).await;
            if let Err(why) = &sent {
                assert!(!why.said.contains("hidden"), "{why}");
            }
            sent
        }
    }

    /// Answers commands until the other side is gone, or asks for TLS.
    async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
        stream: S,
        manner: Manner,
        refusals: &[(&str, &str)],
        log: &Mutex<Vec<String>>,
        greet: bool,
    ) -> Option<S> {
        let mut stream = BufReader::new(stream);
        if greet {
            stream.write_all(b"220 here\r\n").await.ok()?;
        }
        let mut in_message = false;
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.ok()? == 0 {
                return None;
            }
            let line = line.trim_end().to_owned();
            log.lock().expect("ours").push(line.clone());
            if in_message && line != "." {
                continue;
            }
            let refusal = refusals.iter().find(|(to, _)| line.starts_with(to)).map(|(_, answer)| *answer);
            let answer = match line.split([' ', ':']).next().unwrap_or_default() {
                _ if refusal.is_some() => refusal.unwrap_or_default(),
                "EHLO" if matches!(manner, Manner::StartTls | Manner::SlipsIn) => {
                    "250-here\r\n250-AUTH PLAIN\r\n250 STARTTLS"
                }
                "EHLO" => "250-here\r\n250 AUTH PLAIN",
                "AUTH" => "235 2.7.0 known",
                "DATA" => "354 go on",
                "STARTTLS" if manner == Manner::SlipsIn => "220 go on\r\n250-here\r\n250 AUTH LOGIN",
                "STARTTLS" => "220 go on",
                "QUIT" => "221 bye",
                _ => "250 2.0.0 well",
            };
            stream.write_all(format!("{answer}\r\n").as_bytes()).await.ok()?;
            stream.flush().await.ok()?;
            in_message = line == "DATA" && answer.starts_with("354");
            if line == "STARTTLS" && answer.starts_with("220") {
                return Some(stream.into_inner());
            }
        }
    }

    const US: [&str; 2] = ["me@example.com", "us@example.com"];

    #[tokio::test]
    async fn a_message_arrives_over_tls() {
        let server = Server::start(Manner::Tls, &[]).await;
        server.gets("smtps", &US).await.expect("taken");
        let heard = server.heard();
        let at = |start: &str| heard.iter().position(|line| line.starts_with(start));
        let steps = ["EHLO example.com", "AUTH PLAIN ", "MAIL FROM:<ghl-auth@example.com>"];
        assert!(steps.iter().all(|step| at(step).is_some()), "{heard:?}");
        assert!(at("RCPT TO:<me@example.com>") < at("RCPT TO:<us@example.com>"), "{heard:?}");
        assert!(at("Subject: Trouble").is_some() && heard.iter().any(|line| line == ".."), "{heard:?}");
        // Who is not trusted gets nothing: these are the authorities of everywhere else.
        let everywhere = email(&format!("smtps://me:hidden@localhost:{}", server.port), &US);
        let said = everywhere.send(&Post::new(true), &notice(), &words("Trouble", ".")).await;
        assert!(said.is_err(), "{said:?}");
        assert_eq!(server.heard().len(), heard.len());
    }

    #[tokio::test]
    async fn nothing_that_was_slipped_in_before_tls_counts() {
        for (manner, goes_well) in [(Manner::StartTls, true), (Manner::SlipsIn, false)] {
            let server = Server::start(manner, &[]).await;
            let stream = TcpStream::connect(("127.0.0.1", server.port)).await.expect("a connection");
            let hello = ClientId::Domain("example.com".into());
            let stream = Box::new(ByTheByte { stream, encrypted: false });
            let session = AsyncSmtpConnection::connect_with_transport(stream, &hello).await;
            let mut session = session.expect("a session");
            assert!(session.can_starttls());
            assert_eq!(session.starttls(server.trust(), &hello).await.is_ok(), goes_well);
            assert_eq!(server.heard().contains(&"(TLS)".to_owned()), goes_well, "{:?}", server.heard());
        }
    }

    #[tokio::test]
    async fn a_refusal_is_told_by_its_code_and_tried_rarely() {
        let check = async |refusals: &'static [(&'static str, &'static str)], said: &str, rarely: bool| {
            let server = Server::start(Manner::Tls, refusals).await;
            let why = server.gets("smtps", &US).await.expect_err("refused");
            let retry_after = rarely.then_some(AFTER_A_REFUSAL);
            assert_eq!(why, NotDelivered { said: said.into(), retry_after });
        };
        // A server that repeats the password in its refusal.
        let echo: &[_] = &[("AUTH", "535 5.7.8 very-hidden AG1lAHZlcnktaGlkZGVu is wrong")];
        check(echo, "it refused the user name and the password: 535 5.7.8", true).await;
        check(&[("RCPT", "451 4.7.1 later")], "it put off the recipient: 451 4.7.1", false).await;
        check(&[("DATA", "554 no")], "it refused the message: 554", true).await;
        check(&[("MAIL", "550 5.1 odd")], "it refused the sender: 550", true).await;
        check(&[("EHLO", "421 4.3.2 closing")], "it put off the connection: 421 4.3.2", false).await;
        // One recipient of two is enough.
        let server = Server::start(Manner::Tls, &[("RCPT TO:<me@", "550 5.1.1 unknown")]).await;
        server.gets("smtps", &US).await.expect("the other takes it");
    }

    #[tokio::test]
    async fn clear_text_stays_on_this_machine_and_private_addresses_are_not_dialled() {
        let server = Server::start(Manner::ClearText, &[]).await;
        server.gets("smtp", &US).await.expect("taken");
        let count = server.heard().len();
        let guarded = email(&format!("smtp://me:hidden@localhost:{}", server.port), &US);
        let why = guarded.send(&Post::new(false), &notice(), &words("Trouble", ".")).await;
        assert_eq!(
            why.expect_err("private").said,
            "its address is private, and private addresses are not allowed"
        );
        assert_eq!(server.heard().len(), count);
        // Elsewhere TLS is demanded before anything is said.
        let stream = TcpStream::connect(("127.0.0.1", server.port)).await.expect("a connection");
        let hello = ClientId::Domain("example.com".into());
        let session = AsyncSmtpConnection::connect_with_transport(Box::new(stream), &hello).await;
        let elsewhere = Email::secured(session.expect("a session"), server.trust(), &hello).await;
        assert_eq!(elsewhere.err().map(|why| why.said).as_deref(), Some("it offers no TLS"));
        assert!(!server.heard()[count..].iter().any(|line| line.starts_with("AUTH")), "{:?}", server.heard());
    }
}
