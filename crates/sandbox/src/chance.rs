//! Ids and signatures out of one seed.
//!
//! Nothing here protects anything: every id, secret and token of the sandbox is a fake. A known seed gives the
//! same app, location and contact again, which is what a README and a benchmark want.

use std::hash::{BuildHasher, Hasher, RandomState};

const DIGITS: &[u8] = b"0123456789abcdef";
const LOWER: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
const ALPHANUMERIC: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// A small generator (SplitMix64) that is the same for the same seed.
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// A seed nobody chose, from the keys that the standard library draws for its hash maps.
    pub(crate) fn any_seed() -> u64 {
        RandomState::new().build_hasher().finish()
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// True in `percent` of 100 cases.
    pub(crate) fn hits(&mut self, percent: u8) -> bool {
        self.number() % 100 < u64::from(percent)
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        for chunk in bytes.chunks_mut(8) {
            let number = self.number().to_le_bytes();
            chunk.copy_from_slice(&number[..chunk.len()]);
        }
        bytes
    }

    /// App ids (24), refresh token ids (24) and authorization codes (40) are lower-case hex.
    pub(crate) fn hex(&mut self, length: usize) -> String {
        self.text(DIGITS, length)
    }

    /// The 8 characters after the hyphen of a client id.
    pub(crate) fn suffix(&mut self) -> String {
        self.text(LOWER, 8)
    }

    /// Location, company, user and contact ids: 20 letters and digits.
    pub(crate) fn id(&mut self) -> String {
        self.text(ALPHANUMERIC, 20)
    }

    pub(crate) fn uuid(&mut self) -> String {
        let high = self.number();
        let low = self.number();
        format!(
            "{:08x}-{:04x}-4{:03x}-{:x}{:03x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xfff,
            8 + (low >> 62),
            (low >> 48) & 0xfff,
            low & 0xffff_ffff_ffff
        )
    }

    fn text(&mut self, alphabet: &[u8], length: usize) -> String {
        (0..length).map(|_| char::from(alphabet[(self.number() >> 8) as usize % alphabet.len()])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_ids_again() {
        let (mut one, mut two) = (Chance::seeded(7), Chance::seeded(7));
        assert_eq!(one.id(), two.id());
        assert_ne!(one.id(), one.id());
    }

    #[test]
    fn a_uuid_has_version_four_and_the_usual_variant() {
        let mut chance = Chance::seeded(1);
        for _ in 0..100 {
            let uuid = chance.uuid();
            assert_eq!(uuid.len(), 36);
            assert_eq!(&uuid[14..15], "4");
            assert!("89ab".contains(&uuid[19..20]), "{uuid}");
        }
    }
}
