//! One request as it came, and one answer as it will leave.

use axum::body::Bytes;
use axum::http::HeaderMap;
use serde_json::{Map, Value, json};

use crate::faults::Kind;

/// A request, read whole.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    /// The path and the query, as they came.
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) version: Option<String>,
    pub(crate) bearer: Option<String>,
    pub(crate) content_type: String,
    pub(crate) body: Bytes,
}

/// The two ways in which HighLevel spells its API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// No version, or one that is a date.
    Dated,
    V3,
}

/// What the `Version` header says. Measured 2026-08: a missing one and an unpublished date are 401, anything else 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Missing,
    Is(Dialect),
    Unpublished,
    Nonsense,
}

impl Version {
    fn of(header: Option<&str>) -> Self {
        match header {
            None | Some("") => Self::Missing,
            Some("v3") => Self::Is(Dialect::V3),
            Some("legacy" | "2021-04-15" | "2021-07-28" | "2023-02-21") => Self::Is(Dialect::Dated),
            Some(text) if is_date_like(text) => Self::Unpublished,
            Some(_) => Self::Nonsense,
        }
    }
}

fn is_date_like(text: &str) -> bool {
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    shape == "0000-00-00"
}

impl Call {
    pub(crate) fn parts(&self) -> Vec<&str> {
        self.path.trim_matches('/').split('/').collect()
    }

    pub(crate) fn version(&self) -> Version {
        Version::of(self.version.as_deref())
    }

    /// The dialect of a call that has to name one.
    pub(crate) fn dialect(&self) -> Result<Dialect, Answer> {
        match self.version() {
            Version::Is(dialect) => Ok(dialect),
            Version::Missing => Err(Answer::error(401, "version header was not found.")),
            Version::Unpublished => Err(Answer::error(401, "version header is invalid")),
            Version::Nonsense => Err(self.nonsense_version()),
        }
    }

    /// The dialect of `/oauth/token`, which needs no version before v3.
    pub(crate) fn dialect_or_dated(&self) -> Result<Dialect, Answer> {
        match self.version() {
            Version::Missing => Ok(Dialect::Dated),
            _ => self.dialect(),
        }
    }

    fn nonsense_version(&self) -> Answer {
        let sent = self.version.as_deref().unwrap_or_default();
        Answer::bad_request(&format!("Invalid API version segment '{sent}' at position 0"))
    }

    pub(crate) fn query_value(&self, name: &str) -> Option<String> {
        pairs(self.query.as_deref().unwrap_or_default().as_bytes())
            .into_iter()
            .find_map(|(key, value)| (key == name && !value.is_empty()).then_some(value))
    }

    /// The body as names and values, from a form or from JSON; both are taken where either is.
    pub(crate) fn fields(&self) -> Result<Vec<(String, String)>, Answer> {
        if !self.content_type.starts_with("application/json") {
            return Ok(pairs(&self.body));
        }
        let object = self.json_object()?;
        Ok(object.into_iter().map(|(name, value)| (name, plain(value))).collect())
    }

    pub(crate) fn json_object(&self) -> Result<Map<String, Value>, Answer> {
        if self.body.is_empty() {
            return Ok(Map::new());
        }
        match serde_json::from_slice(&self.body) {
            Ok(Value::Object(object)) => Ok(object),
            _ => Err(Answer::bad_request("Unexpected token in JSON at position 0")),
        }
    }

    /// What the call is, for faults and counters.
    pub(crate) fn kind(&self) -> Kind {
        match (self.method.as_str(), self.parts().as_slice()) {
            ("POST", ["oauth", "token"]) => self.grant_kind(),
            ("POST", ["oauth", "locationToken" | "location-token"]) => Kind::Mint,
            ("GET", ["contacts", _]) => Kind::ContactRead,
            ("POST", ["contacts", _, "tags"]) => Kind::TagAdd,
            ("DELETE", ["contacts", _, "tags"]) => Kind::TagRemove,
            ("GET", ["locations", _]) => Kind::LocationRead,
            _ => Kind::Other,
        }
    }

    fn grant_kind(&self) -> Kind {
        let fields = self.fields().unwrap_or_default();
        let grant_type = fields.iter().find(|(name, _)| name == "grant_type" || name == "grantType");
        match grant_type.map(|(_, value)| value.as_str()) {
            Some("refresh_token") => Kind::Refresh,
            Some("authorization_code") => Kind::Exchange,
            _ => Kind::Other,
        }
    }
}

fn pairs(text: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(text).into_owned().collect()
}

fn plain(value: Value) -> String {
    match value {
        Value::String(text) => text,
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// An answer before faults and headers.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Body,
    pub(crate) location: Option<String>,
}

#[derive(Debug)]
pub(crate) enum Body {
    Json(Value),
    Html(String),
    Text(String),
}

impl Answer {
    pub(crate) fn json(status: u16, value: Value) -> Self {
        Self { status, body: Body::Json(value), location: None }
    }

    pub(crate) fn html(status: u16, page: String) -> Self {
        Self { status, body: Body::Html(page), location: None }
    }

    pub(crate) fn text(status: u16, text: impl Into<String>) -> Self {
        Self { status, body: Body::Text(text.into()), location: None }
    }

    pub(crate) fn redirect(to: String) -> Self {
        Self { status: 302, body: Body::Text(String::new()), location: Some(to) }
    }

    /// `{"statusCode", "message"}`: what the gateway in front of HighLevel's services says.
    pub(crate) fn error(status: u16, message: &str) -> Self {
        Self::json(status, json!({ "statusCode": status, "message": message }))
    }

    /// `{"message", "error", "statusCode"}`: what its services say.
    pub(crate) fn bad_request(message: &str) -> Self {
        Self::json(400, json!({ "message": message, "error": "Bad Request", "statusCode": 400 }))
    }

    pub(crate) fn not_found(call: &Call) -> Self {
        let message = format!("Cannot {} {}", call.method, call.path);
        Self::json(404, json!({ "message": message, "error": "Not Found", "statusCode": 404 }))
    }

    pub(crate) fn unprocessable(messages: &[String]) -> Self {
        let body = json!({ "statusCode": 422, "message": messages, "error": "Unprocessable Entity" });
        Self::json(422, body)
    }

    /// `{"error", "error_description"}`: the other family, of `/oauth/token`.
    pub(crate) fn oauth_error(status: u16, error: &str, description: &str) -> Self {
        Self::json(status, json!({ "error": error, "error_description": description }))
    }

    /// Adds the member that every reply may carry.
    pub(crate) fn with_trace_id(mut self, trace_id: &str) -> Self {
        if let Body::Json(Value::Object(object)) = &mut self.body {
            object.insert("traceId".to_owned(), Value::from(trace_id));
        }
        self
    }

    /// What an error says, for the ledger.
    pub(crate) fn message(&self) -> String {
        let Body::Json(value) = &self.body else { return String::new() };
        let said = value.get("message").or_else(|| value.get("error_description")).cloned();
        said.map(plain).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(header: Option<&str>, expected: Version) {
        assert_eq!(Version::of(header), expected, "{header:?}");
    }

    #[test]
    fn versions_are_published_date_like_or_nonsense() {
        check(None, Version::Missing);
        check(Some("v3"), Version::Is(Dialect::V3));
        check(Some("2021-07-28"), Version::Is(Dialect::Dated));
        check(Some("legacy"), Version::Is(Dialect::Dated));
        check(Some("2020-01-01"), Version::Unpublished);
        check(Some("bogus-version"), Version::Nonsense);
        check(Some("V3"), Version::Nonsense);
    }
}
