//! What a token says of itself, as a hint: its signature can't be checked, as no key is published.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use tokens::{InstallationId, Timestamp};
use zeroize::Zeroizing;

/// The claims that help; each may be missing.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Claims {
    #[serde(default)]
    iat: Option<f64>,
    #[serde(default)]
    exp: Option<f64>,
    #[serde(default, rename = "authClass")]
    auth_class: Option<String>,
    #[serde(default, rename = "authClassId")]
    auth_class_id: Option<String>,
}

impl Claims {
    /// The claims of a JWT; none of them when it is none.
    pub(crate) fn of(token: &str) -> Self {
        let payload = token.split('.').nth(1).unwrap_or_default().trim_end_matches('=');
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(payload).unwrap_or_default());
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// `iat`: a float, seconds with three decimals.
    pub(crate) fn issued_at(&self) -> Option<Timestamp> {
        self.iat.and_then(from_seconds)
    }

    /// `exp`: likewise.
    pub(crate) fn expires_at(&self) -> Option<Timestamp> {
        self.exp.and_then(from_seconds)
    }

    /// `authClass` and `authClassId`.
    pub(crate) fn installation(&self) -> Option<InstallationId> {
        let id = self.auth_class_id.as_deref()?;
        match self.auth_class.as_deref()? {
            "Location" => InstallationId::from_parts("location", id).ok(),
            "Company" => InstallationId::from_parts("company", id).ok(),
            _ => None,
        }
    }
}

/// Seconds since 1970 with a fraction, as far as they are a time that can be meant.
fn from_seconds(seconds: f64) -> Option<Timestamp> {
    // Up to the year 5138; what lies beyond is no date, and what is negative neither.
    (seconds > 0.0 && seconds < 1e11).then(|| Timestamp::from_millis((seconds * 1000.0).round() as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwt(claims: &str) -> String {
        format!("eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.{}.c2lnbmF0dXJl", URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn claims_are_hints() {
        let claims = Claims::of(&jwt(
            r#"{"authClass":"Location","authClassId":"L1","iat":1750000000.123,"exp":1750086400.123}"#,
        ));
        assert_eq!(claims.issued_at(), Some(Timestamp::from_millis(1_750_000_000_123)));
        assert_eq!(claims.expires_at(), Some(Timestamp::from_millis(1_750_086_400_123)));
        assert_eq!(claims.installation(), InstallationId::from_parts("location", "L1").ok());
    }

    #[test]
    fn what_is_no_jwt_hints_at_nothing() {
        for text in ["", "pit-1234", "a.b.c", &jwt("[]"), &jwt(r#"{"exp":"soon"}"#), &jwt(r#"{"exp":1e300}"#)]
        {
            let claims = Claims::of(text);
            assert_eq!((claims.expires_at(), claims.installation()), (None, None), "{text}");
        }
    }
}
