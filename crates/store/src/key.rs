//! The keys that seal: thirty-two bytes each, given from outside and never printed.

use std::fmt;

use aws_lc_rs::hkdf;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

/// Seals everything at rest.
#[derive(Clone)]
pub struct Key(Zeroizing<[u8; 32]>);

/// The key that seals, and those that may still open what was sealed before.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// Seals whatever is written from now on.
    pub current: Option<Key>,
    /// Only open.
    pub old: Vec<Key>,
}

/// A text that is no key. None of these repeats it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// Not base64.
    #[error("a key is 32 bytes in base64, and this is not base64")]
    NotBase64,
    /// Too short or too long.
    #[error("a key is 32 bytes in base64, and these are {0}")]
    WrongLength(usize),
    /// All bytes are equal: a placeholder, not a key.
    #[error("a key is 32 random bytes, and all of these are equal")]
    AllEqual,
}

impl Key {
    /// Reads 32 bytes in base64 (either alphabet, with or without padding).
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        let plain: Zeroizing<String> =
            Zeroizing::new(text.trim().trim_end_matches('=').replace('+', "-").replace('/', "_"));
        let bytes =
            Zeroizing::new(URL_SAFE_NO_PAD.decode(plain.as_bytes()).map_err(|_| InvalidKey::NotBase64)?);
        let key = <[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| InvalidKey::WrongLength(bytes.len()))?;
        if key.iter().all(|byte| *byte == key[0]) {
            return Err(InvalidKey::AllEqual);
        }
        Ok(Self(Zeroizing::new(key)))
    }

    /// A new key, in the text that `parse` reads.
    pub fn generate() -> Zeroizing<String> {
        let mut bytes = Zeroizing::new([0u8; 32]);
        aws_lc_rs::rand::fill(bytes.as_mut()).expect("the system has random bytes");
        Zeroizing::new(STANDARD.encode(bytes.as_ref()))
    }

    /// Names the key without telling it: 16 hexadecimal digits.
    pub fn id(&self) -> String {
        hex(&self.id_bytes())
    }

    pub(crate) fn id_bytes(&self) -> [u8; 8] {
        let mut id = [0u8; 8];
        self.derive("ghl-auth key id 1", &mut id);
        id
    }

    /// A key for one purpose, from which neither this key nor that of another purpose follows.
    pub(crate) fn derive(&self, purpose: &str, out: &mut [u8]) {
        struct Length(usize);
        impl hkdf::KeyType for Length {
            fn len(&self) -> usize {
                self.0
            }
        }
        let length = Length(out.len());
        hkdf::Salt::new(hkdf::HKDF_SHA256, b"ghl-auth")
            .extract(self.0.as_ref())
            .expand(&[purpose.as_bytes()], length)
            .and_then(|okm| okm.fill(out))
            .expect("a few bytes are within HKDF's limit");
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_32_bytes_in_base64() {
        let check = |text: &str, expected| assert_eq!(Key::parse(text).map(|_| ()), expected, "{text}");
        check(&Key::generate(), Ok(()));
        check(&format!(" {}\n", *Key::generate()), Ok(()));
        check(Key::generate().trim_end_matches('='), Ok(()));
        check("my password!", Err(InvalidKey::NotBase64));
        check("", Err(InvalidKey::WrongLength(0)));
        check(&STANDARD.encode([7u8, 8].repeat(15)), Err(InvalidKey::WrongLength(30)));
        check(&STANDARD.encode([7u8, 8].repeat(17)), Err(InvalidKey::WrongLength(34)));
        check(&STANDARD.encode([0u8; 32]), Err(InvalidKey::AllEqual));
    }

    #[test]
    fn a_key_is_named_and_never_shown() {
        let text = Key::generate();
        let key = Key::parse(&text).expect("a key");
        assert_eq!(key.id(), Key::parse(&text).expect("a key").id());
        assert_ne!(key.id(), Key::parse(&Key::generate()).expect("a key").id());
        assert_eq!(key.id().len(), 16);
        let keys = Keys { current: Some(key), old: vec![] };
        assert_eq!(format!("{keys:?}"), "Keys { current: Some(Key), old: [] }");
    }
}
