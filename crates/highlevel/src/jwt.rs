//! A look into HighLevel's tokens, as a hint only.
//!
//! They are RS256 JWTs whose verification key is not published, so nothing in them can be trusted;
//! and `iat` and `exp` are numbers with three decimals, which decoders that expect integers refuse.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use tokens::Timestamp;

/// The claims that help when a reply leaves something out.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Claims {
    exp: Option<f64>,
    pub(crate) auth_class: Option<String>,
    pub(crate) auth_class_id: Option<String>,
}

impl Claims {
    /// What the token says of itself; empty when it is no JWT.
    pub(crate) fn of(token: &str) -> Self {
        token
            .split('.')
            .nth(1)
            .and_then(|payload| URL_SAFE_NO_PAD.decode(payload).ok())
            .and_then(|json| serde_json::from_slice(&json).ok())
            .unwrap_or_default()
    }

    /// When the token says that it ends.
    pub(crate) fn expires_at(&self) -> Option<Timestamp> {
        let millis = self.exp.filter(|exp| exp.is_finite() && *exp > 0.0 && *exp < 1e11)? * 1000.0;
        // In range by the filter above.
        Some(Timestamp::from_millis(millis as i64))
    }
}
