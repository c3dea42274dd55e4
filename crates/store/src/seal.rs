//! The one place where a secret becomes bytes that may lie on a disk.
//!
//! AES-256-GCM-SIV with random nonces: no counter to lose, and a repeated nonce would tell only
//! that two texts are equal. Each seal is bound to where it lies: what was sealed for one
//! installation, generation or field opens nowhere else.
//!
//! The envelope: one byte of version, eight of the key's id, twelve of nonce, the sealed bytes. In
//! version 2 these are packed, their length before them: tokens of one app repeat the same scopes.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{digest, hmac};
use tokens::store::{Fingerprint, FlightId};
use tokens::{InstallationId, RefreshToken, StoreError, Version};
use zeroize::Zeroizing;

use crate::key::{Key, Keys, hex};

const PLAIN: u8 = 1;
const PACKED: u8 = 2;
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

    fn aad(&self, version: u8, place: &Place) -> Aad<String> {
        Aad::from(format!("ghl-auth {version} {} key={}", place.0, hex(&self.id)))
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

    /// The ids of all keys given.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.all().map(|key| hex(&key.id)).collect()
    }

    /// Seals for `place`; none without a key.
    pub(crate) fn seal(&self, place: &Place, plain: &[u8]) -> Option<Vec<u8>> {
        let key = self.current.as_ref()?;
        let mut nonce = [0u8; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut nonce).expect("the system has random bytes");
        let packed = packed(plain);
        let (version, bytes) = match &packed {
            Some(packed) => (PACKED, packed.as_slice()),
            None => (PLAIN, plain),
        };
        let mut envelope = Vec::with_capacity(HEADER + bytes.len() + 16);
        envelope.push(version);
        envelope.extend_from_slice(&key.id);
        envelope.extend_from_slice(&nonce);
        envelope.extend_from_slice(bytes);
        let tag = key
            .sealing
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                key.aad(version, place),
                &mut envelope[HEADER..],
            )
            .expect("a token is within the cipher's limit");
        envelope.extend_from_slice(tag.as_ref());
        Some(envelope)
    }

    /// Opens what was sealed for `place`.
    pub(crate) fn open(&self, place: &Place, envelope: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unopened> {
        let version = match envelope.first() {
            Some(&version @ (PLAIN | PACKED)) if envelope.len() >= HEADER + 16 => version,
            Some(version) if *version > PACKED && *version < 16 => return Err(Unopened::TooNew),
            _ => return Err(Unopened::Broken),
        };
        let (id, rest) = envelope[1..].split_at(8);
        let (nonce, sealed) = rest.split_at(NONCE_LEN);
        let key = self.key(id)?;
        let mut bytes = Zeroizing::new(sealed.to_vec());
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Unopened::Broken)?;
        let length = key
            .sealing
            .open_in_place(nonce, key.aad(version, place), bytes.as_mut_slice())
            .map_err(|_| Unopened::Broken)?
            .len();
        bytes.truncate(length);
        if version == PLAIN {
            return Ok(bytes);
        }
        // Nobody but whoever has the key can have packed it.
        lz4_flex::decompress_size_prepended(&bytes).map(Zeroizing::new).map_err(|_| Unopened::Broken)
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

/// The same in less room, its length before it; none where that would save less than an eighth.
fn packed(plain: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    const LENGTH: usize = 4;
    let length = u32::try_from(plain.len()).ok()?;
    let mut bytes = Zeroizing::new(vec![0; LENGTH + lz4_flex::block::get_maximum_output_size(plain.len())]);
    let (before, after) = bytes.split_at_mut(LENGTH);
    before.copy_from_slice(&length.to_le_bytes());
    let packed = lz4_flex::compress_into(plain, after).ok()?;
    bytes.truncate(LENGTH + packed);
    (bytes.len() + plain.len() / 8 <= plain.len()).then_some(bytes)
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
    fn what_repeats_itself_takes_less_room_and_what_does_not_takes_no_more() {
        let sealer = keys(&key(), &[]);
        let here = place("L1", 1, "tokens");
        let scopes = "contacts.readonly contacts.write ".repeat(100);
        let mut random = vec![0; 4096];
        aws_lc_rs::rand::fill(&mut random).expect("random bytes");
        for (plain, most) in [(scopes.as_bytes(), 300), (&random, 4096 + HEADER + 16), (b"", HEADER + 16)] {
            let envelope = sealer.seal(&here, plain).expect("sealed");
            assert!(envelope.len() <= most, "{} of {}", envelope.len(), plain.len());
            assert_eq!(sealer.open(&here, &envelope).expect("opens").as_slice(), plain);
        }
    }

    #[test]
    fn an_envelope_of_the_first_version_opens_and_one_of_a_later_is_named_so() {
        let sealer = keys(&key(), &[]);
        let here = place("L1", 1, "tokens");
        let mut envelope = sealer.seal(&here, b"the tokens").expect("sealed");
        assert_eq!(envelope[0], PLAIN, "as every one of it was");
        envelope[0] = PACKED + 1;
        assert_eq!(sealer.open(&here, &envelope), Err(Unopened::TooNew));
        envelope[0] = PACKED;
        assert_eq!(sealer.open(&here, &envelope), Err(Unopened::Broken), "the version is bound");
    }

    #[test]
    fn every_flipped_bit_breaks_the_seal() {
        for plain in [b"the tokens".to_vec(), b"the tokens ".repeat(20)] {
            every_flipped_bit_breaks(&plain);
        }
    }

    fn every_flipped_bit_breaks(plain: &[u8]) {
        let sealer = keys(&key(), &[]);
        let here = place("L1", 1, "tokens");
        let envelope = sealer.seal(&here, plain).expect("sealed");
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
