//! Tokens that look like HighLevel's: JWTs of about 5 KB with float times, signed by nobody.
//!
//! A token's text is a function of a few facts and a serial number, so the sandbox keeps the facts and writes the
//! text again when it needs it: a million rotations stay small. The shape was read from issued tokens: RS256 header
//! without `kid`, `iat` and `exp` as seconds with three decimals, no `iss`, `aud` or `sub`.

use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::chance::Chance;
use crate::clock::Millis;
use crate::scopes::Scopes;
use crate::settings::UserType;

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Access,
    Refresh,
}

/// The facts behind one issued token.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) purpose: Purpose,
    pub(crate) serial: u64,
    /// Index of the grant it belongs to.
    pub(crate) grant: usize,
    /// How many refreshes led to it, counting the first exchange as 1.
    pub(crate) generation: u64,
    pub(crate) issued_at: Millis,
    /// When the sandbox stops taking it.
    pub(crate) ends_at: Millis,
    pub(crate) scopes: Arc<Scopes>,
}

/// Whom a token is for, and which app got it.
pub(crate) struct Bearer<'a> {
    pub(crate) class: UserType,
    pub(crate) class_id: &'a str,
    pub(crate) client_id: &'a str,
    pub(crate) app_id: &'a str,
    pub(crate) version_id: &'a str,
    /// Location tokens minted from a company's begin with a `jti`.
    pub(crate) minted: bool,
}

impl Token {
    pub(crate) fn text(&self, bearer: &Bearer<'_>, seed: u64) -> String {
        let mut chance = Chance::seeded(seed ^ self.serial.wrapping_mul(0xa076_1d64_78bd_642f));
        let payload = self.payload(bearer, &mut chance);
        let signature: [u8; 256] = chance.bytes();
        let mut text = String::with_capacity(payload.len() * 4 / 3 + 400);
        URL_SAFE_NO_PAD.encode_string(r#"{"alg":"RS256","typ":"JWT"}"#, &mut text);
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(payload, &mut text);
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut text);
        text
    }

    fn payload(&self, bearer: &Bearer<'_>, chance: &mut Chance) -> String {
        let jti = match bearer.minted {
            true => format!(r#""jti":"{}","#, chance.hex(24)),
            false => String::new(),
        };
        let only_refresh = match self.purpose {
            Purpose::Refresh => format!(r#","uniqueId":"{}","v":"2""#, chance.uuid()),
            Purpose::Access => String::new(),
        };
        format!(
            concat!(
                r#"{{{jti}"authClass":"{class}","authClassId":"{id}","source":"INTEGRATION","#,
                r#""sourceId":"{client}","channel":"OAUTH","primaryAuthClassId":"{id}","#,
                r#""oauthMeta":{{"scopes":{scopes},"client":"{app}","versionId":"{version}","clientKey":"{client}"}},"#,
                r#""iat":{iat},"exp":{exp}{only_refresh}}}"#
            ),
            jti = jti,
            class = bearer.class.as_str(),
            id = bearer.class_id,
            client = bearer.client_id,
            app = bearer.app_id,
            version = bearer.version_id,
            scopes = self.scopes.array(),
            iat = float_seconds(self.issued_at),
            exp = float_seconds(self.exp(bearer.minted)),
            only_refresh = only_refresh,
        )
    }

    /// `exp - iat` is exactly a day where `expires_in` says 86,399, and exactly a year for refresh tokens.
    fn exp(&self, minted: bool) -> Millis {
        match (self.purpose, minted) {
            (Purpose::Access, false) => self.ends_at + 1000,
            _ => self.ends_at,
        }
    }
}

fn float_seconds(at: Millis) -> String {
    format!("{}.{:03}", at / 1000, at % 1000)
}

/// What the sandbox remembers of a token's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Fingerprint(u64);

impl Fingerprint {
    pub(crate) fn of(text: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        hasher.write(text.as_bytes());
        Self(hasher.finish())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn token(purpose: Purpose, life: Millis) -> Token {
        Token {
            purpose,
            serial: 3,
            grant: 0,
            generation: 1,
            issued_at: 1_750_000_000_120,
            ends_at: 1_750_000_000_120 + life,
            scopes: Arc::new(Scopes::new(crate::scopes::everything())),
        }
    }

    fn text(token: &Token, minted: bool) -> String {
        let bearer = Bearer {
            class: UserType::Location,
            class_id: "AAAAAAAAAAAAAAAAAAAA",
            client_id: "0123456789abcdef01234567-abcd1234",
            app_id: "0123456789abcdef01234567",
            version_id: "0123456789abcdef01234567",
            minted,
        };
        token.text(&bearer, 7)
    }

    fn claims(text: &str) -> (String, Value) {
        let payload = text.split('.').nth(1).expect("a JWT has three parts");
        let bytes = URL_SAFE_NO_PAD.decode(payload).expect("the payload is base64url");
        let written = String::from_utf8(bytes).expect("the payload is UTF-8");
        let claims = serde_json::from_str(&written).expect("the payload is JSON");
        (written, claims)
    }

    #[test]
    fn times_are_floats_with_three_decimals_a_day_or_a_year_apart() {
        let (written, access) = claims(&text(&token(Purpose::Access, 86_399_000), false));
        assert!(written.contains(r#""iat":1750000000.120"#), "{written}");
        assert!(access["iat"].is_f64());
        assert_eq!(access["exp"].as_f64(), access["iat"].as_f64().map(|iat| iat + 86_400.0));

        let (_, refresh) = claims(&text(&token(Purpose::Refresh, 31_536_000_000), false));
        assert_eq!(refresh["exp"].as_f64(), refresh["iat"].as_f64().map(|iat| iat + 31_536_000.0));
    }

    #[test]
    fn only_refresh_tokens_have_a_unique_id_and_only_minted_ones_begin_with_jti() {
        let (_, access) = claims(&text(&token(Purpose::Access, 86_399_000), false));
        let (_, refresh) = claims(&text(&token(Purpose::Refresh, 31_536_000_000), false));
        let (minted, _) = claims(&text(&token(Purpose::Access, 86_400_000), true));
        assert!(access.get("uniqueId").is_none());
        assert_eq!(
            (refresh["uniqueId"].as_str().map(str::len), refresh["v"].as_str()),
            (Some(36), Some("2"))
        );
        assert!(minted.starts_with(r#"{"jti":""#), "{minted}");
    }

    #[test]
    fn a_token_of_a_large_app_is_five_kilobytes_long() {
        let length = text(&token(Purpose::Access, 86_399_000), false).len();
        assert!((4800..5800).contains(&length), "{length}");
    }
}
