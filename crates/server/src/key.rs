//! An API key: `ghlk_`, eight characters by which it is called, 256 random bits, and a checksum.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokens::records::KeyId;

const MARK: &str = "ghlk_";
/// How long the public part is.
pub(crate) const ID: usize = 8;
const SECRET: usize = 43;
const CHECK: usize = 6;

/// A whole key, as its owner sends it. It never prints itself.
pub struct ApiKey(String);

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ApiKey")
    }
}

impl ApiKey {
    /// A new key, from the system's generator.
    pub fn generate() -> Self {
        let mut bytes = [0_u8; 38];
        aws_lc_rs::rand::fill(&mut bytes).expect("the system has random bytes");
        let id = URL_SAFE_NO_PAD.encode(&bytes[..6]);
        let secret = URL_SAFE_NO_PAD.encode(&bytes[6..]);
        let body = format!("{MARK}{id}{secret}");
        let check = checksum(body.as_bytes());
        Self(format!("{body}{check}"))
    }

    /// Takes what was sent for a key if it has a key's form; a mistyped one is told from a wrong one.
    pub fn parse(text: &str) -> Option<Self> {
        is_whole(text.as_bytes()).then(|| Self(text.to_owned()))
    }

    /// The public part.
    pub fn id(&self) -> KeyId {
        KeyId(self.0[MARK.len()..MARK.len() + ID].to_owned())
    }

    /// What is kept of it.
    pub fn hash(&self) -> [u8; 32] {
        hash(self.0.as_bytes())
    }

    /// The key itself, to be shown once.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Whether it has a key's form, and nothing was mistyped.
pub(crate) fn is_whole(text: &[u8]) -> bool {
    let plain = |c: &u8| c.is_ascii_alphanumeric() || *c == b'-' || *c == b'_';
    public_part(text).is_some()
        && text.iter().all(plain)
        && text.split_at(MARK.len() + ID + SECRET).1 == checksum(&text[..MARK.len() + ID + SECRET]).as_bytes()
}

/// What is kept of a key: the digest of what follows its public part, which fits one block of SHA-256.
pub(crate) fn hash(text: &[u8]) -> [u8; 32] {
    let secret = text.get(MARK.len() + ID..).unwrap_or_default();
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, secret).as_ref());
    hash
}

/// The public part of what may be a key.
pub(crate) fn public_part(text: &[u8]) -> Option<&[u8; ID]> {
    let rest = text.strip_prefix(MARK.as_bytes())?;
    (rest.len() == ID + SECRET + CHECK).then(|| rest.first_chunk())?
}

fn checksum(body: &[u8]) -> String {
    let digest = digest(&SHA256, body);
    URL_SAFE_NO_PAD.encode(digest.as_ref()).chars().take(CHECK).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_key_is_found_by_its_public_part_and_a_mistyped_one_is_seen() {
        let key = ApiKey::generate();
        let same = ApiKey::parse(key.expose()).expect("a key");
        assert_eq!((key.id(), key.hash()), (same.id(), same.hash()));
        for place in 0..key.expose().len() {
            let mut text: Vec<char> = key.expose().chars().collect();
            text[place] = if text[place] == 'A' { 'B' } else { 'A' };
            assert!(ApiKey::parse(&text.iter().collect::<String>()).is_none(), "{place}");
        }
        assert!(ApiKey::parse(&key.expose()[1..]).is_none());
        assert!(ApiKey::parse("").is_none());
    }
    /// As many as `GHL_AUTH_KEYS` says; a million takes some ten seconds.
    #[test]
    fn of_many_keys_no_two_are_alike_and_each_bit_is_set_in_half_of_them() {
        let count = std::env::var("GHL_AUTH_KEYS").map_or(50_000, |text| text.parse().expect("a number"));
        let (mut secrets, mut ids) = (HashSet::new(), HashSet::new());
        let mut set = [0_usize; 256];
        for _ in 0..count {
            let key = ApiKey::generate();
            let text = key.expose();
            assert!(text.starts_with(MARK) && text.len() == MARK.len() + ID + SECRET + CHECK);
            assert!(ApiKey::parse(text).is_some(), "its checksum is right");
            let secret = URL_SAFE_NO_PAD.decode(&text[MARK.len() + ID..][..SECRET]).expect("base64");
            for (bit, count) in set.iter_mut().enumerate() {
                *count += usize::from(secret[bit / 8] >> (bit % 8) & 1);
            }
            assert!(secrets.insert(secret), "a key came twice");
            ids.insert(key.id().0);
        }
        // 48 bits are enough to be called by: of a million, two are alike in one run of five hundred.
        assert!(ids.len() + 1 >= count, "{} of {count}", ids.len());
        // Six standard deviations: one run in two million fails by chance.
        let far = (count as f64).sqrt() * 3.0;
        for (bit, set) in set.iter().enumerate() {
            let off = (*set as f64 - count as f64 / 2.0).abs();
            assert!(off < far, "bit {bit} is set in {set} of {count}");
        }
    }
}
