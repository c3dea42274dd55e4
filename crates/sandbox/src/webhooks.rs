//! What HighLevel tells an app of: installs, uninstalls, updates, new locations, signed.
//!
//! HighLevel's key pairs are its own, so the sandbox signs with pairs of its own, made from its seed, and a program
//! takes the public key from the sandbox's `.env`. It repeats what was not answered with 2xx, with the same body and
//! `webhookId` (12 times, as the guide of 2026 says), in pauses that are short instead of growing to hours. What goes
//! wrong is a knob: another signature, none, a body without the members that HighLevel at times leaves out.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::chance::Chance;
use crate::clock::{Millis, iso};
use crate::settings::Settings;

/// How often a webhook is sent at most: once, and twelve times again.
const TRIES: u32 = 13;

/// The first pause before it is sent again; each is twice as long as the one before, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// HighLevel wants a quick answer; how quick is not published.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);

/// So many are on their way at once.
const AT_ONCE: usize = 256;

/// What tells an Ed25519 key from others in DER.
const ED25519_DER: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Where HighLevel's signature stands, and whose it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signature {
    /// In `x-ghl-signature`, as today.
    #[default]
    Present,
    /// In `x-wh-signature` alone, as before.
    Legacy,
    /// In both.
    Both,
    /// `N/A` in `x-ghl-signature`, the legacy one beside it.
    NotApplicable,
    /// In `x-ghl-signature`, by a key that nobody knows.
    WrongKey,
    /// Nowhere.
    Missing,
}

/// How webhooks are sent from now on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Manner {
    /// Their signature.
    pub signature: Signature,
    /// Members that HighLevel leaves out, such as `companyId`, `userId`, `timestamp` or `webhookId`.
    pub without: Vec<String>,
    /// Whether each is sent twice.
    pub twice: bool,
    /// Whether they wait until they are let go.
    pub held: bool,
}

/// A webhook that was sent, and how it was answered.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sent {
    /// Its body, word for word.
    pub body: String,
    /// The status of each answer; 0 where there was none.
    pub answers: Vec<u16>,
}

/// In which order those that were held are let go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// As they came to be.
    #[default]
    First,
    /// The newest first.
    Last,
}

/// A webhook on its way.
#[derive(Clone)]
pub(crate) struct Letter {
    number: usize,
    to: String,
    body: String,
    headers: Vec<(&'static str, String)>,
}

#[derive(Default)]
struct Book {
    to: Option<String>,
    manner: Manner,
    held: Vec<(String, Vec<(&'static str, String)>)>,
    sent: Vec<Sent>,
}

/// Everything about webhooks but the sending.
pub(crate) struct Webhooks {
    key: Ed25519KeyPair,
    wrong_key: Ed25519KeyPair,
    /// Takes a while to make, and hardly anybody wants it.
    legacy_key: OnceLock<RsaKeyPair>,
    book: Mutex<Book>,
    letters: mpsc::UnboundedSender<Letter>,
    waiting: Mutex<Option<mpsc::UnboundedReceiver<Letter>>>,
}

fn pair(seed: u64, which: u64) -> Ed25519KeyPair {
    let seed: [u8; 32] = Chance::seeded(seed ^ which).bytes();
    Ed25519KeyPair::from_seed_unchecked(&seed).expect("32 bytes are a seed")
}

/// The public key of the sandbox with this seed, in the base64 of its DER.
pub(crate) fn public_key(seed: u64) -> String {
    public_key_of(&pair(seed, 0x00ed_2551))
}

fn public_key_of(pair: &Ed25519KeyPair) -> String {
    STANDARD.encode([ED25519_DER.as_slice(), pair.public_key().as_ref()].concat())
}

impl Webhooks {
    pub(crate) fn new(seed: u64) -> Self {
        let (letters, waiting) = mpsc::unbounded_channel();
        Self {
            key: pair(seed, 0x00ed_2551),
            wrong_key: pair(seed, 0xbad_2551),
            legacy_key: OnceLock::new(),
            book: Mutex::default(),
            letters,
            waiting: Mutex::new(Some(waiting)),
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn legacy_key(&self) -> &RsaKeyPair {
        self.legacy_key.get_or_init(|| RsaKeyPair::generate(KeySize::Rsa2048).expect("a key"))
    }

    pub(crate) fn legacy_public_key(&self) -> String {
        STANDARD.encode(self.legacy_key().public_key().as_der().expect("DER").as_ref())
    }

    /// From now on they go there; nowhere when none.
    pub(crate) fn send_to(&self, url: Option<String>) {
        self.book().to = url;
    }

    pub(crate) fn set_manner(&self, manner: Manner) {
        self.book().manner = manner;
    }

    pub(crate) fn sent(&self) -> Vec<Sent> {
        self.book().sent.clone()
    }

    /// Where they go, and how.
    pub(crate) fn way(&self) -> (Option<String>, Manner) {
        let book = self.book();
        (book.to.clone(), book.manner.clone())
    }

    /// The last `count` that were sent, newest first.
    pub(crate) fn last_sent(&self, count: usize) -> Vec<Sent> {
        self.book().sent.iter().rev().take(count).cloned().collect()
    }

    /// How many wait to be let go.
    pub(crate) fn held(&self) -> usize {
        self.book().held.len()
    }

    /// Begins again: nobody is told anything.
    pub(crate) fn reset(&self) {
        *self.book() = Book::default();
    }

    /// Tells of something, in the manner that is set. The body's members come in this order.
    pub(crate) fn tell(&self, mut body: Map<String, Value>) {
        let manner = {
            let book = self.book();
            if book.to.is_none() {
                return;
            }
            book.manner.clone()
        };
        for member in &manner.without {
            body.shift_remove(member);
        }
        let text = Value::Object(body).to_string();
        let headers = self.sign(&text, manner.signature);
        for _ in 0..=usize::from(manner.twice) {
            match manner.held {
                true => self.book().held.push((text.clone(), headers.clone())),
                false => self.post(text.clone(), headers.clone()),
            }
        }
    }

    /// Sends those that were held.
    pub(crate) fn let_go(&self, order: Order) {
        let mut held = {
            let mut book = self.book();
            book.manner.held = false;
            std::mem::take(&mut book.held)
        };
        if order == Order::Last {
            held.reverse();
        }
        held.into_iter().for_each(|(body, headers)| self.post(body, headers));
    }

    /// Sends everything that was sent once more, word for word.
    pub(crate) fn replay(&self) {
        let bodies: Vec<String> = self.book().sent.iter().map(|sent| sent.body.clone()).collect();
        let signature = self.book().manner.signature;
        for body in bodies {
            let headers = self.sign(&body, signature);
            self.post(body, headers);
        }
    }

    /// The headers of a body's signature.
    pub(crate) fn sign(&self, body: &str, signature: Signature) -> Vec<(&'static str, String)> {
        let by = |pair: &Ed25519KeyPair| ("x-ghl-signature", STANDARD.encode(pair.sign(body.as_bytes())));
        let legacy = || {
            let key = self.legacy_key();
            let mut signature = vec![0; key.public_modulus_len()];
            let signed = key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), body.as_bytes(), &mut signature);
            signed.expect("the key is ours");
            ("x-wh-signature", STANDARD.encode(signature))
        };
        match signature {
            Signature::Present => vec![by(&self.key)],
            Signature::Legacy => vec![legacy()],
            Signature::Both => vec![by(&self.key), legacy()],
            Signature::NotApplicable => vec![("x-ghl-signature", "N/A".to_owned()), legacy()],
            Signature::WrongKey => vec![by(&self.wrong_key)],
            Signature::Missing => Vec::new(),
        }
    }

    fn post(&self, body: String, headers: Vec<(&'static str, String)>) {
        let letter = {
            let mut book = self.book();
            let Some(to) = book.to.clone() else { return };
            book.sent.push(Sent { body: body.clone(), answers: Vec::new() });
            Letter { number: book.sent.len() - 1, to, body, headers }
        };
        // It fails only when the sandbox has stopped.
        let _ = self.letters.send(letter);
    }

    fn note_answer(&self, letter: &Letter, status: u16) {
        // A sandbox that began again has forgotten it.
        if let Some(sent) = self.book().sent.get_mut(letter.number).filter(|sent| sent.body == letter.body) {
            sent.answers.push(status);
        }
    }

    /// Carries letters until the sandbox stops.
    pub(crate) async fn carry(&self, mut stopping: watch::Receiver<bool>) {
        let taken = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut waiting) = taken else { return };
        let carry = async {
            let mut on_their_way = JoinSet::new();
            while let Some(letter) = waiting.recv().await {
                if on_their_way.len() >= AT_ONCE {
                    self.arrived(on_their_way.join_next().await, &mut on_their_way);
                }
                on_their_way.spawn(carried(letter, 0));
                while let Some(done) = on_their_way.try_join_next() {
                    self.arrived(Some(done), &mut on_their_way);
                }
                // Nothing else comes: see how those end that are on their way.
                while waiting.is_empty() && !on_their_way.is_empty() {
                    tokio::select! {
                        done = on_their_way.join_next() => self.arrived(done, &mut on_their_way),
                        () = sleep(Duration::from_millis(5)) => {}
                    }
                }
            }
        };
        tokio::select! {
            () = carry => {}
            _ = stopping.wait_for(|stop| *stop) => {}
        }
    }

    /// Notes how a letter was answered, and sends it again where that was no 2xx.
    fn arrived(&self, done: Option<Result<Carried, tokio::task::JoinError>>, on: &mut JoinSet<Carried>) {
        let Some(Ok(Carried { letter, tries, status })) = done else { return };
        self.note_answer(&letter, status);
        if !(200..300).contains(&status) && tries < TRIES {
            on.spawn(carried(letter, tries));
        }
    }
}

struct Carried {
    letter: Letter,
    tries: u32,
    status: u16,
}

/// Sends a letter that was sent `tries` times before, after a pause.
async fn carried(letter: Letter, tries: u32) -> Carried {
    if tries > 0 {
        sleep((FIRST_PAUSE * (1 << (tries - 1).min(10))).min(LONGEST_PAUSE)).await;
    }
    let status = timeout(ANSWERED_WITHIN, deliver(&letter)).await;
    let status = status.ok().and_then(Result::ok).unwrap_or_default();
    Carried { letter, tries: tries + 1, status }
}

/// One request over plain HTTP, and the status of its answer.
async fn deliver(letter: &Letter) -> std::io::Result<u16> {
    let rest = letter.to.strip_prefix("http://").unwrap_or(&letter.to);
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut head = format!(
        "POST /{path} HTTP/1.1\r\nHost: {authority}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n",
        letter.body.len()
    );
    for (name, value) in &letter.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let mut stream = TcpStream::connect(authority).await?;
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(letter.body.as_bytes()).await?;
    let mut line = [0; 12];
    stream.read_exact(&mut line).await?;
    let status = std::str::from_utf8(&line[9..]).ok().and_then(|code| code.parse().ok());
    status.ok_or_else(|| std::io::ErrorKind::InvalidData.into())
}

/// What the bodies are made of: the app, the agency, and the time.
pub(crate) struct Facts<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) user_id: &'a str,
    pub(crate) now: Millis,
}

impl Facts<'_> {
    /// An install, or with another `kind` an update, on a location or on the agency.
    pub(crate) fn install(&self, kind: &str, location_id: Option<&str>, id: String) -> Map<String, Value> {
        let Self { settings, user_id, now } = self;
        let class = if location_id.is_some() { "Location" } else { "Company" };
        let mut body = members(json!({
            "type": kind, "appId": settings.app_id(), "versionId": settings.version_id(), "installType": class,
        }));
        body.extend(location_id.map(|id| ("locationId".to_owned(), json!(id))));
        body.extend(members(json!({
            "companyId": settings.company_id, "userId": user_id, "companyName": "Sandbox Agency",
            "isWhitelabelCompany": false, "timestamp": iso(*now), "webhookId": id,
        })));
        body
    }

    /// An uninstall from a location, or from the agency.
    pub(crate) fn uninstall(&self, class_id: &str, id: String) -> Map<String, Value> {
        let Self { settings, now, .. } = self;
        let whose = if class_id == settings.company_id { "companyId" } else { "locationId" };
        members(json!({
            "type": "UNINSTALL", "appId": settings.app_id(), whose: class_id, "timestamp": iso(*now),
            "webhookId": id,
        }))
    }

    /// A new location of the agency.
    pub(crate) fn location_created(&self, location_id: &str, id: String) -> Map<String, Value> {
        let Self { settings, now, .. } = self;
        members(json!({
            "type": "LocationCreate", "id": location_id, "companyId": settings.company_id,
            "name": "A new location", "email": "new@sandbox.example", "stripeProductId": "",
            "timestamp": iso(*now), "webhookId": id,
        }))
    }
}

fn members(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}
