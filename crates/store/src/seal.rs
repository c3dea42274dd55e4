//! The one place where a secret becomes bytes that may lie on a disk.
//!
//! AES-256-GCM-SIV with random nonces: no counter to lose, and a repeated nonce would tell only
//! that two texts are equal. Each seal is bound to where it lies: what was sealed for one
//! installation, generation or field opens nowhere else.
//!
//! The envelope: one byte of version, eight of the key's id, twelve of nonce, the sealed bytes.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{digest, hmac};
use tokens::store::{Fingerprint, FlightId};
use tokens::{InstallationId, RefreshToken, StoreError, Version};
use zeroize::Zeroizing;

use crate::key::{Key, Keys, hex};

const VERSION: u8 = 1;
const HEADER: usize = 1 + 8 + NONCE_LEN;

/// Where a sealed value lies; it opens nowhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place(String);

impl Place {
    /// A field of an installation's row.
    pub(crate) fn field(store: &str, id: &InstallationId, version: Version, field: &str) -> Self {
        Self(format!(
            "store={store} installation={} {} epoch={} generation={} field={field}",
            id.kind(),
            id.as_str(),
            version.epoch,
            version.generation
        ))
    }

    /// A value that belongs to the store as a whole.
    pub(crate) fn whole(store: &str, field: &str) -> Self {
        Self(format!("store={store} field={field}"))
    }

    /// A frame of an archive.
    pub(crate) fn archive(name: &str, frame: u64, is_last: bool) -> Self {
        Self(format!("archive={name} frame={frame} last={is_last}"))
    }

    /// What landed in a flight.
    pub(crate) fn landing(flight: &FlightId) -> Self {
        Self(format!("flight={} field=landing", flight.0))
    }
}

/// The id of the key that an envelope is sealed under; none of what is no envelope.
pub(crate) fn key_id(envelope: &[u8]) -> Option<&[u8]> {
    envelope.get(1..9)
}

/// Why an envelope did not open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unopened {
    /// It is sealed under a key that we do not have.
    WrongKey(String),
    /// There is no key at all.
    KeyMissing,
    /// It was altered, cut, or belongs elsewhere.
    Broken,
    /// A later program made it.
    TooNew,
}

impl Unopened {
    /// The error that says so of `place`.
    pub(crate) fn at(self, place: impl Into<String>) -> StoreError {
        let place = place.into();
        match self {
            Self::WrongKey(key_id) => StoreError::WrongKey { place, key_id },
            Self::KeyMissing => StoreError::KeyMissing { place },
            Self::Broken => StoreError::SealBroken { place },
            Self::TooNew => StoreError::TooNew { place },
        }
    }
}

/// Seals under the current key, opens under any.
pub(crate) struct Sealer {
    current: Option<Subkeys>,
    old: Vec<Subkeys>,
}

struct Subkeys {
    id: [u8; 8],
    sealing: LessSafeKey,
    fingerprint: hmac::Key,
}

impl Subkeys {
    fn of(key: &Key) -> Self {
        let mut bytes = Zeroizing::new([0u8; 32]);
        key.derive("ghl-auth sealing 1", bytes.as_mut());
        let sealing =
            LessSafeKey::new(UnboundKey::new(&AES_256_GCM_SIV, bytes.as_ref()).expect("32 bytes are a key"));
        key.derive("ghl-auth fingerprint 1", bytes.as_mut());
        let fingerprint = hmac::Key::new(hmac::HMAC_SHA256, bytes.as_ref());
        Self { id: key.id_bytes(), sealing, fingerprint }
    }

    fn fingerprint(&self, token: &RefreshToken) -> Fingerprint {
        Fingerprint(first_16(hmac::sign(&self.fingerprint, token.expose().as_bytes()).as_ref()))
    }

    fn aad(&self, place: &Place) -> Aad<String> {
        Aad::from(format!("ghl-auth {VERSION} {} key={}", place.0, hex(&self.id)))
    }
}

impl Sealer {
    pub(crate) fn new(keys: &Keys) -> Self {
        Self {
            current: keys.current.as_ref().map(Subkeys::of),
            old: keys.old.iter().map(Subkeys::of).collect(),
        }
    }

    /// The id of the key that seals, if there is one.
    pub(crate) fn current_id(&self) -> Option<String> {
        self.current.as_ref().map(|key| hex(&key.id))
    }

    /// The same as it stands in an envelope.
    pub(crate) fn current_bytes(&self) -> Option<[u8; 8]> {
        self.current.as_ref().map(|key| key.id)
    }

    /// Whether the key of this id is among those given.
    pub(crate) fn knows(&self, id: &str) -> bool {
        self.all().any(|key| hex(&key.id) == id)
    }

    /// Seals for `place`; none without a key.
    pub(crate) fn seal(&self, place: &Place, plain: &[u8]) -> Option<Vec<u8>> {
        let key = self.current.as_ref()?;
        let mut nonce = [0u8; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut nonce).expect("the system has random bytes");
        let mut envelope = Vec::with_capacity(HEADER + plain.len() + 16);
        envelope.push(VERSION);
        envelope.extend_from_slice(&key.id);
        envelope.extend_from_slice(&nonce);
        envelope.extend_from_slice(plain);
        let tag = key
            .sealing
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                key.aad(place),
                &mut envelope[HEADER..],
            )
            .expect("a token is within the cipher's limit");
        envelope.extend_from_slice(tag.as_ref());
        Some(envelope)
    }

    /// Opens what was sealed for `place`.
    pub(crate) fn open(&self, place: &Place, envelope: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unopened> {
        match envelope.first() {
            Some(&VERSION) if envelope.len() >= HEADER + 16 => {}
            Some(version) if *version > VERSION && *version < 16 => return Err(Unopened::TooNew),
            _ => return Err(Unopened::Broken),
        }
        let (id, rest) = envelope[1..].split_at(8);
        let (nonce, sealed) = rest.split_at(NONCE_LEN);
        let key = self.key(id)?;
        let mut bytes = Zeroizing::new(sealed.to_vec());
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Unopened::Broken)?;
        let length = key
            .sealing
            .open_in_place(nonce, key.aad(place), bytes.as_mut_slice())
            .map_err(|_| Unopened::Broken)?
            .len();
        bytes.truncate(length);
        Ok(bytes)
    }

    fn key(&self, id: &[u8]) -> Result<&Subkeys, Unopened> {
        if self.current.is_none() {
            // An old key alone would open what could only be written back in clear text.
            return Err(Unopened::KeyMissing);
        }
        self.all().find(|key| key.id == id).ok_or_else(|| Unopened::WrongKey(hex(id)))
    }

    fn all(&self) -> impl Iterator<Item = &Subkeys> {
        self.current.iter().chain(&self.old)
    }

    /// Whether an envelope was sealed under the key that seals now.
    pub(crate) fn is_current(&self, envelope: &[u8]) -> bool {
        match (&self.current, key_id(envelope)) {
            (Some(key), Some(id)) => key.id == id,
            _ => false,
        }
    }

    /// Tells refresh tokens apart: a keyed digest, or a plain one where there is no key.
    pub(crate) fn fingerprint(&self, token: &RefreshToken) -> Fingerprint {
        self.current.as_ref().map_or_else(|| unkeyed(token), |key| key.fingerprint(token))
    }

    /// Whether `fingerprint` is of `token`, taken under any key that we know or before there was one.
    pub(crate) fn tells(&self, fingerprint: Fingerprint, token: &RefreshToken) -> bool {
        self.all().any(|key| key.fingerprint(token) == fingerprint) || unkeyed(token) == fingerprint
    }
}

fn unkeyed(token: &RefreshToken) -> Fingerprint {
    let text = Zeroizing::new(format!("ghl-auth fingerprint 1 {}", token.expose()));
    Fingerprint(first_16(digest::digest(&digest::SHA256, text.as_bytes()).as_ref()))
}

fn first_16(bytes: &[u8]) -> [u8; 16] {
    let mut first = [0u8; 16];
    first.copy_from_slice(&bytes[..16]);
    first
}

/// SHA-256, where only a torn write is to be noticed.
pub(crate) fn checksum(bytes: &[u8]) -> [u8; 32] {
    let mut sum = [0u8; 32];
    sum.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(current: &Key, old: &[&Key]) -> Sealer {
        let old = old.iter().map(|key| (*key).clone()).collect();
        Sealer::new(&Keys { current: Some(current.clone()), old })
    }

    fn key() -> Key {
        Key::parse(&Key::generate()).expect("a key")
    }

    fn place(id: &str, generation: u64, field: &str) -> Place {
        let id = InstallationId::from_parts("location", id).expect("an id");
        Place::field("s1", &id, Version { epoch: 1, generation }, field)
    }

    #[test]
    fn what_is_sealed_opens_where_it_was_sealed() {
        let sealer = keys(&key(), &[]);
        let here = place("L1", 1, "tokens");
        let envelope = sealer.seal(&here, b"the tokens").expect("sealed");
        assert_eq!(sealer.open(&here, &envelope).expect("opens").as_slice(), b"the tokens");
        assert!(envelope.len() - b"the tokens".len() <= 64, "the envelope stays small");
        assert!(!envelope.windows(6).any(|part| part == b"tokens"), "nothing shows");
    }

    #[test]
    fn every_flipped_bit_breaks_the_seal() {
        let sealer = keys(&key(), &[]);
        let here = place("L1", 1, "tokens");
        let envelope = sealer.seal(&here, b"the tokens").expect("sealed");
        for bit in 0..envelope.len() * 8 {
            let mut altered = envelope.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            assert!(sealer.open(&here, &altered).is_err(), "bit {bit}");
        }
        for length in 0..envelope.len() {
            assert!(sealer.open(&here, &envelope[..length]).is_err(), "cut to {length}");
        }
    }

    #[test]
    fn nothing_opens_in_another_place() {
        let sealer = keys(&key(), &[]);
        let envelope = sealer.seal(&place("L1", 1, "tokens"), b"the tokens").expect("sealed");
        let company = InstallationId::from_parts("company", "L1").expect("an id");
        let location = InstallationId::from_parts("location", "L1").expect("an id");
        for elsewhere in [
            place("L2", 1, "tokens"),
            place("L1", 2, "tokens"),
            place("L1", 1, "previous"),
            Place::field("s1", &company, Version { epoch: 1, generation: 1 }, "tokens"),
            Place::field("s1", &location, Version { epoch: 2, generation: 1 }, "tokens"),
            Place::field("s2", &location, Version { epoch: 1, generation: 1 }, "tokens"),
            Place::landing(&FlightId("L1".into())),
        ] {
            assert_eq!(sealer.open(&elsewhere, &envelope), Err(Unopened::Broken), "{elsewhere:?}");
        }
    }

    #[test]
    fn a_wrong_key_is_named_and_an_old_one_opens() {
        let (old, new) = (key(), key());
        let here = place("L1", 1, "tokens");
        let envelope = keys(&old, &[]).seal(&here, b"the tokens").expect("sealed");
        assert_eq!(keys(&new, &[]).open(&here, &envelope), Err(Unopened::WrongKey(old.id())));
        assert_eq!(Sealer::new(&Keys::default()).open(&here, &envelope), Err(Unopened::KeyMissing));
        let only_old = Sealer::new(&Keys { current: None, old: vec![old.clone()] });
        assert_eq!(only_old.open(&here, &envelope), Err(Unopened::KeyMissing));
        let both = keys(&new, &[&old]);
        assert_eq!(both.open(&here, &envelope).expect("opens").as_slice(), b"the tokens");
        assert!(!both.is_current(&envelope));
        assert!(both.is_current(&both.seal(&here, b"x").expect("sealed")));
    }

    #[test]
    fn a_fingerprint_taken_under_an_old_key_is_still_told() {
        let (old, new) = (key(), key());
        let token = RefreshToken::new("eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.e30.c2ln");
        let other = RefreshToken::new("eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.e30.c2lo");
        let taken = keys(&old, &[]).fingerprint(&token);
        assert_ne!(taken, keys(&new, &[]).fingerprint(&token));
        assert!(keys(&new, &[&old]).tells(taken, &token));
        assert!(!keys(&new, &[&old]).tells(taken, &other));
        assert!(keys(&new, &[]).tells(Sealer::new(&Keys::default()).fingerprint(&token), &token));
    }
}
