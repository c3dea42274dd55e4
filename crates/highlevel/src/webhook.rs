//! Webhooks: HighLevel tells of an install or an uninstall, and signs what it tells.
//!
//! Nothing is read from a body before its signature was found good, over the very bytes that came: a
//! body that was parsed and written again is another body. The keys are HighLevel's own, the same for
//! all apps, so a signature says that HighLevel spoke, and `appId` of whom. What can't be verified is
//! refused, and so is what could be read in two ways.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName};
use serde_json::{Map, Value};
use tokens::{CompanyId, InstallationId, LocationId, Timestamp};

/// Ed25519 over the body, in base64.
const SIGNATURE: HeaderName = HeaderName::from_static("x-ghl-signature");

/// RSA over the body, in base64: what HighLevel sent before, and has announced the end of.
const LEGACY_SIGNATURE: HeaderName = HeaderName::from_static("x-wh-signature");

/// What stands in a header that HighLevel has nothing to say in.
const NOTHING: &[u8] = b"N/A";

/// HighLevel's published keys (Webhook Integration Guide; `docs/oauth/WebhookAuthentication.md`).
pub const PUBLISHED_KEY: &str = "MCowBQYDK2VwAyEAi2HR1srL4o18O8BRa7gVJY7G7bupbN3H9AwJrHCDiOg=";
/// The same for the legacy signature.
pub const PUBLISHED_RSA_KEY: &str = "\
MIICIjANBgkqhkiG9w0BAQEFAAOCAg8AMIICCgKCAgEAokvo/r9tVgcfZ5DysOSCFrm602qYV0MaAiNnX9O8KxMbiyRKWeL9\
JpCpVpt4XHIcBOK4u3cLSqJGOLaPuXw6dO0t6Q/ZVdAV5Phz+ZtzPL16iCGeK9po6D6JHBpbi989mmzMryUnQJezlYJ3DVfB\
csedpinheNnyYeFXolrJvcsjDtfAeRx5ByHQmTnSdFUzuAnC9/GepgLT9SM4nCpvuxmZMxrJt5Rw+VUaQ9B8JSvbMPpez4pe\
KaJPZHBbU3OdeCVx5klVXXZQGNHOs8gF3kvoV5rTnXV0IknLBXlcKKAQLZcY/Q9rG6Ifi9c+5vqlvHPCUJFT5XUGG5RKgOKU\
J062fRtN+rLYZUV+BjafxQauvC8wSWeYja63VSUruvmNj8xkx2zE/Juc+yjLjTXpIocmaiFeAO6fUtNjDeFVkhf5LNb59vEC\
yrHD2SQIrhgXpO4Q3dVNA5rw576PwTzNh/AMfHKIjE4xQA1SZuYJmNnmVZLIZBlQAF9Ntd03rfadZ+yDiOXCCs9FkHibELhC\
HULgCsnuDJHcrGNd5/Ddm5hxGQ0ASitgHeMZ0kcIOwKDOzOU53lDza6/Y09T7sYJPQe7z0cvj7aE4B+Ax1ZoZGPzpJlZtGXC\
su9aTEGEnKzmsFqwcSsnw3JB31IGKAykT1hhTiaCeIY/OwwwNUY2yvcCAwEAAQ==";

/// How an Ed25519 key begins in DER: all that tells it from any other kind.
const ED25519_DER: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The field's prime, as the largest number that is no coordinate, little end first.
const PRIME: [u8; 32] = {
    let mut prime = [0xff; 32];
    prime[0] = 0xed;
    prime[31] = 0x7f;
    prime
};

/// The `y` of the points of small order, without the sign of `x`: 0, 1, -1, and the two of order eight.
/// With such a key, or such an `R`, a signature can be good for more than one text.
const SMALL_ORDER: [[u8; 32]; 5] = {
    let mut minus_one = PRIME;
    minus_one[0] = 0xec;
    let mut one = [0; 32];
    one[0] = 1;
    [
        [0; 32],
        one,
        minus_one,
        [
            0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0,
            0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
        ],
        [
            0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f,
            0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
        ],
    ]
};

/// A text that is no public key of the kind wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidWebhookKey {
    /// It is neither PEM nor base64.
    #[error("it is neither PEM nor base64")]
    NoText,
    /// It is another kind of key, or none.
    #[error("it is no key of this kind")]
    OtherKind,
    /// Anybody could sign for it.
    #[error("it is a weak key, for which anybody can sign")]
    Weak,
}

/// Why a webhook is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unverified {
    /// It has no signature that is looked at.
    #[error("it is not signed")]
    Unsigned,
    /// A signature's header comes twice: which one is meant, nobody knows.
    #[error("it is signed twice in the same way")]
    Twice,
    /// What stands in the header is no signature.
    #[error("its signature is {length} characters that are none")]
    Malformed {
        /// How long it is.
        length: usize,
    },
    /// It is no signature of this body by any of the keys.
    #[error("its signature does not hold")]
    Forged,
}

/// The public keys with which HighLevel's signatures are checked: several at once while HighLevel
/// changes its own.
pub struct WebhookKeys {
    ed25519: Vec<ParsedPublicKey>,
    legacy_rsa: Option<ParsedPublicKey>,
}

impl fmt::Debug for WebhookKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookKeys")
    }
}

impl WebhookKeys {
    /// Reads keys that are separated by commas, each in PEM or in base64 (DER, or the bare 32 bytes).
    pub fn read(keys: &str) -> Result<Self, InvalidWebhookKey> {
        let keys = texts(keys)?.iter().map(|der| ed25519(der)).collect::<Result<Vec<_>, _>>()?;
        match keys.is_empty() {
            true => Err(InvalidWebhookKey::NoText),
            false => Ok(Self { ed25519: keys, legacy_rsa: None }),
        }
    }

    /// Believes the legacy signature with this key, too, where there is no other.
    pub fn with_legacy_rsa(self, key: &str) -> Result<Self, InvalidWebhookKey> {
        let [der] = <[Vec<u8>; 1]>::try_from(texts(key)?).map_err(|_| InvalidWebhookKey::NoText)?;
        let key = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, der);
        let key = key.map_err(|_| InvalidWebhookKey::OtherKind)?;
        Ok(Self { legacy_rsa: Some(key), ..self })
    }

    /// Believes a body, as it came, or says why not. Where HighLevel's present signature is there, it
    /// alone counts.
    pub fn verify<'a>(&self, headers: &HeaderMap, body: &'a [u8]) -> Result<Verified<'a>, Unverified> {
        let (present, legacy) = (only(headers, &SIGNATURE)?, only(headers, &LEGACY_SIGNATURE)?);
        match (present, legacy, &self.legacy_rsa) {
            (Some(signature), _, _) => {
                let signature: [u8; 64] = decoded(signature)?;
                is_plain(&signature).ok_or(Unverified::Forged)?;
                let holds = |key: &ParsedPublicKey| key.verify_sig(body, &signature).is_ok();
                self.ed25519.iter().any(holds).then_some(Verified { body }).ok_or(Unverified::Forged)
            }
            (None, Some(signature), Some(key)) => {
                let length = signature.len();
                let signature = STANDARD.decode(signature).map_err(|_| Unverified::Malformed { length })?;
                key.verify_sig(body, &signature).map_err(|_| Unverified::Forged)?;
                Ok(Verified { body })
            }
            (None, _, _) => Err(Unverified::Unsigned),
        }
    }
}

/// The only value of a header; none where HighLevel says that there is none.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a [u8]>, Unverified> {
    let mut all = headers.get_all(name).iter();
    match (all.next(), all.next()) {
        (_, Some(_)) => Err(Unverified::Twice),
        (first, None) => Ok(first.map(http::HeaderValue::as_bytes).filter(|value| *value != NOTHING)),
    }
}

/// Base64 with all of its padding and nothing beside.
fn decoded<const LENGTH: usize>(text: &[u8]) -> Result<[u8; LENGTH], Unverified> {
    let malformed = Unverified::Malformed { length: text.len() };
    STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok()).ok_or(malformed)
}

/// Whether a signature's `R` is a point as only one text writes it, and of large order. That its `S`
/// is below the group's order, and that the very `R` comes out, the engine checks (and a test here).
fn is_plain(signature: &[u8; 64]) -> Option<()> {
    let (point, _) = signature.split_first_chunk::<32>()?;
    (is_canonical(point) && !is_of_small_order(point)).then_some(())
}

/// Whether a point's `y` is below the prime.
fn is_canonical(point: &[u8; 32]) -> bool {
    without_sign(point).iter().rev().lt(PRIME.iter().rev())
}

fn is_of_small_order(point: &[u8; 32]) -> bool {
    SMALL_ORDER.contains(&without_sign(point))
}

fn without_sign(point: &[u8; 32]) -> [u8; 32] {
    let mut y = *point;
    y[31] &= 0x7f;
    y
}

/// The bytes of each key in a list of PEM or base64.
fn texts(keys: &str) -> Result<Vec<Vec<u8>>, InvalidWebhookKey> {
    // An environment has no lines, so some write them as `\n`.
    let mut plain = keys.replace("\\n", "\n");
    for mark in ["-----BEGIN PUBLIC KEY-----", "-----END PUBLIC KEY-----"] {
        plain = plain.replace(mark, ",");
    }
    plain.retain(|c| !c.is_ascii_whitespace());
    let found = plain.split(',').filter(|one| !one.is_empty());
    found.map(|one| STANDARD.decode(one).map_err(|_| InvalidWebhookKey::NoText)).collect()
}

fn ed25519(der: &[u8]) -> Result<ParsedPublicKey, InvalidWebhookKey> {
    let bare = der.strip_prefix(&ED25519_DER).unwrap_or(der);
    let point: &[u8; 32] = bare.try_into().map_err(|_| InvalidWebhookKey::OtherKind)?;
    if !is_canonical(point) || is_of_small_order(point) {
        return Err(InvalidWebhookKey::Weak);
    }
    ParsedPublicKey::new(&ED25519, point).map_err(|_| InvalidWebhookKey::OtherKind)
}

/// A body that HighLevel has signed: only such a one is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified<'a> {
    body: &'a [u8],
}

/// A body that is signed and yet can't be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OddEvent {
    /// It is no JSON object, or it has no `type`.
    #[error("it is no JSON object with a `type`")]
    NoEvent,
    /// Its `timestamp` is none.
    #[error("its `timestamp` is no date")]
    NoDate,
}

impl<'a> Verified<'a> {
    /// What HighLevel tells.
    pub fn event(self) -> Result<Event, OddEvent> {
        Event::read(std::str::from_utf8(self.body).map_err(|_| OddEvent::NoEvent)?)
    }

    /// The text, word for word.
    pub fn text(self) -> Option<&'a str> {
        std::str::from_utf8(self.body).ok()
    }
}

/// Something that HighLevel tells of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// By what it is known when it comes again: its `webhookId`, else a digest of the body.
    pub id: String,
    /// HighLevel's `type`.
    pub kind: String,
    /// Of which app.
    pub app: Option<String>,
    /// When it happened, where it says so.
    pub at: Option<Timestamp>,
    /// What happened.
    pub what: Happening,
}

/// What happened, as far as it matters to whoever keeps grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// The app was installed.
    Installed(Install),
    /// The app was taken away: from one location, or from a company with all of its locations.
    Uninstalled(InstallationId),
    /// The app came to have another version there.
    Updated(Install),
    /// A company got another location.
    LocationCreated {
        /// The location.
        location: LocationId,
        /// Its company, where it is named.
        company: Option<CompanyId>,
    },
    /// Anything else.
    Other,
}

/// An install, or an update, in its facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Install {
    /// Of which version.
    pub version: Option<String>,
    /// Where: the location, or the company where no location is named.
    pub id: InstallationId,
    /// The company that it belongs to; an automatic install may not name it.
    pub company: Option<CompanyId>,
    /// What the company is called.
    pub company_name: Option<String>,
}

/// The longest `webhookId` that is taken for one; HighLevel's are UUIDs.
const LONGEST_ID: usize = 128;

impl Event {
    /// Reads the text of an event whose signature was verified, now or before it was queued.
    pub fn read(text: &str) -> Result<Self, OddEvent> {
        let body: Map<String, Value> = serde_json::from_str(text).map_err(|_| OddEvent::NoEvent)?;
        let word = |name: &str| body.get(name).and_then(Value::as_str).filter(|word| !word.is_empty());
        let kind = word("type").ok_or(OddEvent::NoEvent)?;
        let at = match body.get("timestamp") {
            None | Some(Value::Null) => None,
            Some(value) => Some(instant(value).ok_or(OddEvent::NoDate)?),
        };
        let id = word("webhookId").filter(|id| id.len() <= LONGEST_ID);
        Ok(Self {
            id: id.map_or_else(|| digest_of(text), str::to_owned),
            kind: kind.to_owned(),
            app: word("appId").map(str::to_owned),
            at,
            what: happening(kind, &body).unwrap_or(Happening::Other),
        })
    }

    /// Whether it is about this app. What only an app's own event may do has to name it: the keys are
    /// the same for all apps.
    pub fn is_of(&self, app: &str) -> bool {
        match (&self.app, &self.what) {
            (Some(named), _) => named == app,
            (None, Happening::LocationCreated { .. } | Happening::Other) => true,
            (None, _) => false,
        }
    }
}

fn happening(kind: &str, body: &Map<String, Value>) -> Option<Happening> {
    let word = |name: &str| body.get(name).and_then(Value::as_str).filter(|word| !word.is_empty());
    let company = || word("companyId").and_then(|id| id.parse::<CompanyId>().ok());
    // A location's event may name its company beside it, so a company is meant only where no location
    // is named, and none is said to be.
    let whose = || match (word("locationId"), word("installType")) {
        (Some(location), _) => location.parse().ok().map(InstallationId::Location),
        (None, Some("Location")) => None,
        (None, _) => company().map(InstallationId::Company),
    };
    let install = || {
        let version = word("versionId").map(str::to_owned);
        let company_name = word("companyName").map(str::to_owned);
        Some(Install { version, id: whose()?, company: company(), company_name })
    };
    match kind {
        "INSTALL" => install().map(Happening::Installed),
        "UPDATE" => install().map(Happening::Updated),
        "UNINSTALL" => whose().map(Happening::Uninstalled),
        "LocationCreate" => {
            let location = word("id").or(word("locationId"))?.parse().ok()?;
            Some(Happening::LocationCreated { location, company: company() })
        }
        _ => None,
    }
}

/// An instant as HighLevel writes it (`2025-06-25T06:57:06.225Z`), or in milliseconds.
fn instant(value: &Value) -> Option<Timestamp> {
    match value {
        Value::String(text) => {
            text.parse::<jiff::Timestamp>().ok().map(|at| Timestamp::from_millis(at.as_millisecond()))
        }
        Value::Number(number) => number.as_i64().map(Timestamp::from_millis),
        _ => None,
    }
}

fn digest_of(text: &str) -> String {
    let hash = digest(&SHA256, text.as_bytes());
    hash.as_ref().iter().fold(String::from("sha256:"), |text, byte| text + &format!("{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::AsDer as _;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
    use http::HeaderValue;

    use super::*;

    const BODY: &str = r#"{"type":"INSTALL","appId":"a","locationId":"l","n":1.0,"name":"é"}"#;

    /// The order of the group, little end first.
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];

    fn pair() -> Ed25519KeyPair {
        Ed25519KeyPair::generate().expect("a key")
    }

    fn public(pair: &Ed25519KeyPair) -> String {
        STANDARD.encode(pair.public_key())
    }

    fn keys_of(pair: &Ed25519KeyPair) -> WebhookKeys {
        WebhookKeys::read(&public(pair)).expect("a key")
    }

    fn headers(pairs: &[(&HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).expect("a header"));
        }
        headers
    }

    fn signed(signature: &[u8]) -> HeaderMap {
        headers(&[(&SIGNATURE, &STANDARD.encode(signature))])
    }

    #[test]
    fn what_any_of_the_keys_has_signed_is_believed_a_thousand_times() {
        let other = public(&pair());
        for number in 0..1000 {
            let (pair, body) = (pair(), format!("{BODY}{number}"));
            let keys = WebhookKeys::read(&format!("{other}, {}", public(&pair))).expect("keys");
            let signature = pair.sign(body.as_bytes());
            assert!(keys.verify(&signed(signature.as_ref()), body.as_bytes()).is_ok(), "{body}");
        }
    }

    #[test]
    fn a_bit_that_is_another_is_no_signature_of_it() {
        let pair = pair();
        let keys = keys_of(&pair);
        for body in [BODY, "{}", "x"] {
            let signature = pair.sign(body.as_bytes()).as_ref().to_vec();
            assert!(keys.verify(&signed(&signature), body.as_bytes()).is_ok());
            for bit in 0..signature.len() * 8 {
                let mut other = signature.clone();
                other[bit / 8] ^= 1 << (bit % 8);
                assert!(keys.verify(&signed(&other), body.as_bytes()).is_err(), "bit {bit} of the signature");
            }
            for bit in 0..body.len() * 8 {
                let mut other = body.as_bytes().to_vec();
                other[bit / 8] ^= 1 << (bit % 8);
                assert!(keys.verify(&signed(&signature), &other).is_err(), "bit {bit} of the body");
            }
        }
    }

    #[test]
    fn what_is_no_signature_or_another_keys_is_not_believed() {
        let (ours, other) = (pair(), pair());
        let keys = keys_of(&ours);
        let good = ours.sign(BODY.as_bytes()).as_ref().to_vec();
        let text = STANDARD.encode(&good);
        let check = |value: &str, why: Unverified| {
            let refused = keys.verify(&headers(&[(&SIGNATURE, value)]), BODY.as_bytes());
            assert_eq!(refused, Err(why), "{value}");
        };
        let malformed = |length| Unverified::Malformed { length };
        check("", malformed(0));
        check(&STANDARD.encode(&good[..63]), malformed(84));
        check(&STANDARD.encode([good.as_slice(), &[0]].concat()), malformed(88));
        check(text.trim_end_matches('='), malformed(86));
        check(&format!("{text}="), malformed(89));
        check(&format!(" {text}"), malformed(89));
        check(&format!("{}\t{}", &text[..40], &text[40..]), malformed(89));
        check(&format!("ed25519={text}"), malformed(96));
        // The bits that the last character has to spare.
        let spare = text[..85].to_owned() + &char::from(text.as_bytes()[85] + 1).to_string() + "==";
        check(&spare, malformed(88));
        check("n/a", malformed(3));
        check("N/A", Unverified::Unsigned);
        check(&STANDARD.encode(other.sign(BODY.as_bytes())), Unverified::Forged);
        let twice = headers(&[(&SIGNATURE, &text), (&SIGNATURE, &text)]);
        assert_eq!(keys.verify(&twice, BODY.as_bytes()), Err(Unverified::Twice));
        let twice = headers(&[(&SIGNATURE, "N/A"), (&SIGNATURE, &text)]);
        assert_eq!(keys.verify(&twice, BODY.as_bytes()), Err(Unverified::Twice));
        assert_eq!(keys.verify(&HeaderMap::new(), BODY.as_bytes()), Err(Unverified::Unsigned));

        // In the alphabet for URLs it reads otherwise, once it has one of the two characters.
        let (body, signature) = (0..)
            .map(|number| format!("{BODY}{number}"))
            .map(|body| (ours.sign(body.as_bytes()), body))
            .map(|(signature, body)| (body, STANDARD.encode(signature)))
            .find(|(_, text)| text.contains(['+', '/']))
            .expect("one of them has");
        let url_safe = signature.replace('+', "-").replace('/', "_");
        assert!(keys.verify(&headers(&[(&SIGNATURE, &signature)]), body.as_bytes()).is_ok());
        assert!(keys.verify(&headers(&[(&SIGNATURE, &url_safe)]), body.as_bytes()).is_err());
    }

    #[test]
    fn a_signature_can_be_written_in_one_way_only() {
        for _ in 0..64 {
            let pair = pair();
            let keys = keys_of(&pair);
            let good: [u8; 64] = pair.sign(BODY.as_bytes()).as_ref().try_into().expect("64 bytes");
            // S + L stands for the same number, and must not be taken for it.
            let mut more = good;
            let mut carry = 0_u16;
            for (byte, order) in more[32..].iter_mut().zip(ORDER) {
                carry += u16::from(*byte) + u16::from(order);
                *byte = carry.to_le_bytes()[0];
                carry >>= 8;
            }
            assert_eq!(keys.verify(&signed(&more), BODY.as_bytes()), Err(Unverified::Forged));
        }
    }

    #[test]
    fn with_a_weak_point_nothing_can_be_signed() {
        let keys = keys_of(&pair());
        let mut weak: Vec<[u8; 32]> = SMALL_ORDER.to_vec();
        // The same points in the texts that are one prime more.
        let mut prime_and_one = PRIME;
        prime_and_one[0] = 0xee;
        weak.extend([PRIME, prime_and_one]);
        let signs = weak.clone().into_iter().map(|mut point| {
            point[31] |= 0x80;
            point
        });
        weak.extend(signs.collect::<Vec<_>>());
        assert_eq!(weak.len(), 14);
        for point in weak {
            for key in [point.to_vec(), [ED25519_DER.as_slice(), &point].concat()] {
                let read = WebhookKeys::read(&STANDARD.encode(key)).expect_err("a weak key");
                assert_eq!(read, InvalidWebhookKey::Weak, "{point:02x?}");
            }
            let mut signature = [0; 64];
            signature[..32].copy_from_slice(&point);
            assert_eq!(keys.verify(&signed(&signature), BODY.as_bytes()), Err(Unverified::Forged));
        }
        // Were the identity taken for a key, this would be its signature of everything.
        let mut identity = [0; 32];
        identity[0] = 1;
        let everything = [identity, [0; 32]].concat();
        let engine = ParsedPublicKey::new(&ED25519, identity).expect("the engine takes it");
        assert!(engine.verify_sig(BODY.as_bytes(), &everything).is_ok(), "so it has to be refused here");
        assert!(is_plain(everything[..].try_into().expect("64 bytes")).is_none());
    }

    #[test]
    fn a_body_that_was_written_anew_is_another_body() {
        let pair = pair();
        let keys = keys_of(&pair);
        let signature = signed(pair.sign(BODY.as_bytes()).as_ref());
        let parsed: Value = serde_json::from_str(BODY).expect("JSON");
        for other in [
            serde_json::to_string_pretty(&parsed).expect("JSON"),
            r#"{"appId":"a","type":"INSTALL","locationId":"l","n":1.0,"name":"é"}"#.into(),
            BODY.replace("1.0", "1"),
            BODY.replace('é', r"\u00e9"),
            BODY.replace(':', ": "),
            format!("\u{feff}{BODY}"),
            format!("{BODY}\r\n"),
            format!("{BODY}\n"),
            format!(" {BODY}"),
        ] {
            assert!(keys.verify(&signature, other.as_bytes()).is_err(), "{other:?}");
        }
        assert!(keys.verify(&signature, BODY.as_bytes()).is_ok());
    }

    #[test]
    fn the_legacy_signature_counts_where_it_is_switched_on_and_alone() {
        let (present, rsa) = (pair(), RsaKeyPair::generate(KeySize::Rsa2048).expect("a key"));
        let der = rsa.public_key().as_der().expect("DER").as_ref().to_vec();
        let mut signature = vec![0; rsa.public_modulus_len()];
        let random = SystemRandom::new();
        rsa.sign(&RSA_PKCS1_SHA256, &random, BODY.as_bytes(), &mut signature).expect("signed");
        let (legacy, forged) = (STANDARD.encode(&signature), STANDARD.encode([7; 64]));
        let good = STANDARD.encode(present.sign(BODY.as_bytes()));
        let off = keys_of(&present);
        let on = keys_of(&present).with_legacy_rsa(&STANDARD.encode(der)).expect("a key");
        let check = |keys: &WebhookKeys, pairs: &[(&HeaderName, &str)], expected: Result<(), Unverified>| {
            let found = keys.verify(&headers(pairs), BODY.as_bytes()).map(drop);
            assert_eq!(found, expected, "{pairs:?}");
        };
        let (new, old) = (&SIGNATURE, &LEGACY_SIGNATURE);
        check(&off, &[(old, &legacy)], Err(Unverified::Unsigned));
        check(&on, &[(old, &legacy)], Ok(()));
        check(&on, &[(new, "N/A"), (old, &legacy)], Ok(()));
        check(&on, &[(new, &good), (old, &legacy)], Ok(()));
        check(&off, &[(new, &good), (old, &legacy)], Ok(()));
        check(&on, &[(new, &good), (old, "N/A")], Ok(()));
        // No falling back from the one that counts.
        check(&on, &[(new, &forged), (old, &legacy)], Err(Unverified::Forged));
        check(&on, &[(new, ""), (old, &legacy)], Err(Unverified::Malformed { length: 0 }));
        check(&on, &[(old, &legacy), (old, &legacy)], Err(Unverified::Twice));
        check(&on, &[(old, &good)], Err(Unverified::Forged));
        check(&on, &[(new, &legacy)], Err(Unverified::Malformed { length: legacy.len() }));
        check(&on, &[(new, "N/A"), (old, "N/A")], Err(Unverified::Unsigned));
        let other = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key");
        let mut theirs = vec![0; other.public_modulus_len()];
        other.sign(&RSA_PKCS1_SHA256, &random, BODY.as_bytes(), &mut theirs).expect("signed");
        check(&on, &[(old, &STANDARD.encode(theirs))], Err(Unverified::Forged));
    }

    #[test]
    fn keys_are_read_in_each_way_that_people_write_them() {
        let one = pair();
        let bare = public(&one);
        let der = STANDARD.encode([ED25519_DER.as_slice(), one.public_key().as_ref()].concat());
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n");
        let signature = signed(one.sign(BODY.as_bytes()).as_ref());
        for text in [
            bare.clone(),
            der.clone(),
            pem.clone(),
            pem.replace('\n', "\\n"),
            pem.replace('\n', " "),
            format!("{PUBLISHED_KEY},{bare}"),
            format!("-----BEGIN PUBLIC KEY-----\n{PUBLISHED_KEY}\n-----END PUBLIC KEY-----\n{pem}"),
        ] {
            let keys = WebhookKeys::read(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert!(keys.verify(&signature, BODY.as_bytes()).is_ok(), "{text}");
        }
        let refused = |text: &str| WebhookKeys::read(text).expect_err(text);
        assert_eq!(refused(""), InvalidWebhookKey::NoText);
        assert_eq!(refused(", ,"), InvalidWebhookKey::NoText);
        assert_eq!(refused("not base64!"), InvalidWebhookKey::NoText);
        assert_eq!(refused("AAAA"), InvalidWebhookKey::OtherKind);
        assert_eq!(refused(PUBLISHED_RSA_KEY), InvalidWebhookKey::OtherKind);
        assert_eq!(refused(&format!("{bare},AAAA")), InvalidWebhookKey::OtherKind);

        let published = WebhookKeys::read(PUBLISHED_KEY).expect("HighLevel's");
        assert!(published.with_legacy_rsa(PUBLISHED_RSA_KEY).is_ok());
        let fingerprint = |key: &str| digest_of_bytes(&STANDARD.decode(key).expect("base64"));
        assert!(fingerprint(PUBLISHED_KEY).starts_with("5a2c1b2749d3efcc233fb27d4ab43d56"));
        assert!(fingerprint(PUBLISHED_RSA_KEY).starts_with("2f62045d413b1b7747e26770ce7f5784"));
        assert!(keys_of(&one).with_legacy_rsa(&bare).is_err());
    }

    fn digest_of_bytes(bytes: &[u8]) -> String {
        digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn location(id: &str) -> InstallationId {
        InstallationId::from_parts("location", id).expect("an id")
    }

    fn company(id: &str) -> InstallationId {
        InstallationId::from_parts("company", id).expect("an id")
    }

    #[test]
    fn events_are_what_their_facts_say() {
        let check = |body: &str, what: Happening| {
            assert_eq!(Event::read(body).expect("an event").what, what, "{body}");
        };
        let uninstalled = Happening::Uninstalled;
        check(r#"{"type":"UNINSTALL","appId":"a","locationId":"l1"}"#, uninstalled(location("l1")));
        check(r#"{"type":"UNINSTALL","appId":"a","companyId":"c1"}"#, uninstalled(company("c1")));
        // A location's may name its company; that is not gone then.
        for more in ["", r#","installType":"Location""#, r#","installType":"Company""#] {
            let body = format!(r#"{{"type":"UNINSTALL","locationId":"l1","companyId":"c1"{more}}}"#);
            check(&body, uninstalled(location("l1")));
        }
        let body = r#"{"type":"UNINSTALL","companyId":"c1","installType":"Location"}"#;
        check(body, Happening::Other);
        check(r#"{"type":"UNINSTALL","locationId":"../x","companyId":"c1"}"#, Happening::Other);
        check(r#"{"type":"UNINSTALL"}"#, Happening::Other);
        check(r#"{"type":"INSTALL","locationId":7}"#, Happening::Other);
        check(r#"{"type":"ContactCreate","locationId":"l1"}"#, Happening::Other);
        let install = Install { version: None, id: location("l1"), company: None, company_name: None };
        check(r#"{"type":"INSTALL","locationId":"l1"}"#, Happening::Installed(install.clone()));
        let full = r#"{"type":"INSTALL","installType":"Location","locationId":"l1","companyId":"c1",
            "versionId":"v","companyName":"N"}"#;
        let id = "c1".parse().ok();
        let named =
            Install { version: Some("v".into()), company: id, company_name: Some("N".into()), ..install };
        check(full, Happening::Installed(named.clone()));
        check(&full.replace("INSTALL", "UPDATE"), Happening::Updated(named));
        let created =
            Happening::LocationCreated { location: "l2".parse().expect("an id"), company: "c1".parse().ok() };
        check(r#"{"type":"LocationCreate","id":"l2","companyId":"c1"}"#, created);
    }

    #[test]
    fn an_event_has_an_id_and_perhaps_a_time() {
        let read = |rest: &str| Event::read(&format!(r#"{{"type":"X"{rest}}}"#));
        let at = |rest: &str| read(rest).expect("an event").at.map(Timestamp::as_millis);
        assert_eq!(at(r#","timestamp":"2025-06-25T06:57:06.225Z""#), Some(1_750_834_626_225));
        assert_eq!(at(r#","timestamp":"2025-06-25T03:57:06.225-03:00""#), Some(1_750_834_626_225));
        assert_eq!(at(r#","timestamp":1750834626225"#), Some(1_750_834_626_225));
        assert_eq!(at(r#","timestamp":null"#), None);
        assert_eq!(at(""), None);
        for odd in [r#""yesterday""#, r#""""#, "true", "{}", "1.5", r#""2025-13-01T00:00:00Z""#] {
            assert_eq!(read(&format!(r#","timestamp":{odd}"#)), Err(OddEvent::NoDate), "{odd}");
        }
        for odd in ["", "[]", "null", r#"{"type":7}"#, "{}", r#"{"type":""}"#, r#"{"type":"X"}}"#] {
            assert_eq!(Event::read(odd), Err(OddEvent::NoEvent), "{odd}");
        }
        let id = |rest: &str| read(rest).expect("an event").id;
        assert_eq!(id(r#","webhookId":"w1""#), "w1");
        assert_eq!(id("").len(), 71);
        assert_ne!(id(""), id(" "), "of the very bytes");
        let long = format!(r#","webhookId":"{}""#, "w".repeat(129));
        assert!(id(&long).starts_with("sha256:"));
    }

    #[test]
    fn only_what_names_our_app_may_change_what_we_keep() {
        let is_ours = |body: &str| Event::read(body).expect("an event").is_of("a");
        assert!(is_ours(r#"{"type":"UNINSTALL","appId":"a","locationId":"l1"}"#));
        assert!(!is_ours(r#"{"type":"UNINSTALL","appId":"b","locationId":"l1"}"#));
        assert!(!is_ours(r#"{"type":"UNINSTALL","locationId":"l1"}"#));
        assert!(!is_ours(r#"{"type":"INSTALL","locationId":"l1"}"#));
        assert!(is_ours(r#"{"type":"LocationCreate","id":"l1"}"#));
        assert!(!is_ours(r#"{"type":"LocationCreate","id":"l1","appId":"b"}"#));
    }
}
