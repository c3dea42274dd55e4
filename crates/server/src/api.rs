//! What programs may ask: a file for each noun. A handler translates, asks one question of the
//! house, and translates back.

pub(crate) mod checks;
pub(crate) mod installations;
pub(crate) mod maintenances;
pub(crate) mod pages;
pub(crate) mod parked;
pub(crate) mod service;
pub(crate) mod tokens;

use std::sync::Arc;
use std::time::Duration;

use ::tokens::InstallationId;
use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::{FromRequestParts, Path};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error as _};
use serde_json::Value;

use crate::auth::Caller;
use crate::error::Problem;
use crate::front::Front;

const LONGEST_BODY: usize = 64 * 1024;
const BODY_WITHIN: Duration = Duration::from_secs(10);

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = StatusCode;

    /// The guard has put it there.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        parts.extensions.get::<Caller>().cloned().ok_or(StatusCode::UNAUTHORIZED)
    }
}

/// What stands in a path where its route has a name.
pub(crate) struct InPath<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<Front>> for InPath<T> {
    type Rejection = Problem;

    /// What is no text when it is decoded is no id.
    async fn from_request_parts(parts: &mut Parts, front: &Arc<Front>) -> Result<Self, Problem> {
        let found = Path::from_request_parts(parts, front).await;
        found.map(|Path(found)| Self(found)).map_err(|_| bad(front, "bad_id"))
    }
}

/// A JSON document that no proxy keeps.
pub(crate) fn document(status: StatusCode, value: &Value) -> Response {
    json_answer(status, value.to_string())
}

/// JSON text that no proxy keeps.
pub(crate) fn json_answer(status: StatusCode, text: impl Into<Body>) -> Response {
    let mut response = (status, text.into()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// An id in a path.
pub(crate) fn id_in_path(front: &Front, kind: &str, id: &str) -> Result<InstallationId, Problem> {
    InstallationId::from_parts(kind, id).map_err(|_| bad(front, "bad_id"))
}

/// A question that makes no sense.
pub(crate) fn bad(front: &Front, code: &'static str) -> Problem {
    Problem::new(front.house.speech.as_ref(), StatusCode::BAD_REQUEST, code)
}

/// The body of a request, as far as it is JSON of the form wanted, in time, and not too long.
pub(crate) async fn json<T: DeserializeOwned>(front: &Front, body: Body) -> Result<T, Problem> {
    let speech = front.house.speech.as_ref();
    let bytes = whole_body(body, LONGEST_BODY).await.map_err(|status| match status {
        StatusCode::REQUEST_TIMEOUT => Problem::new(speech, status, "body_too_slow"),
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(speech, status, "body_too_long"),
        _ => bad(front, "bad_body"),
    })?;
    // A list of values in the order of our members would be taken for them, too.
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return Err(bad(front, "bad_body"));
    }
    serde_json::from_slice(&bytes).map_err(|_| bad(front, "bad_body"))
}

/// A whole body, in time and not longer than `longest`. One that says that it is longer is not
/// waited for.
pub(crate) async fn whole_body(body: Body, longest: usize) -> Result<Bytes, StatusCode> {
    if body.size_hint().lower() > longest as u64 {
        return Err(StatusCode::PAYLOAD_TOO_LARGE);
    }
    match tokio::time::timeout(BODY_WITHIN, Limited::new(body, longest).collect()).await {
        Err(_) => Err(StatusCode::REQUEST_TIMEOUT),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(StatusCode::PAYLOAD_TOO_LARGE),
        Ok(Err(_)) => Err(StatusCode::BAD_REQUEST),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
    }
}

/// The largest number that is taken: what a store can keep.
pub(crate) const LARGEST: u64 = i64::MAX.unsigned_abs();

/// A whole number, which some languages write as `2.0`: to JSON that is the same.
pub(crate) fn whole_number<'de, D: Deserializer<'de>>(number: D) -> Result<u64, D::Error> {
    let number = serde_json::Number::deserialize(number)?;
    let written_as_float = || number.as_f64().filter(|it| it.fract() == 0.0 && *it >= 0.0);
    let whole = number.as_u64().or_else(|| written_as_float().map(|it| it as u64));
    whole.filter(|whole| *whole <= LARGEST).ok_or_else(|| D::Error::custom("no whole number"))
}

/// The same where it may be left out.
pub(crate) fn maybe_whole_number<'de, D: Deserializer<'de>>(number: D) -> Result<Option<u64>, D::Error> {
    whole_number(number).map(Some)
}

/// The parameters of a query, each at most once, and none that is not known.
pub(crate) fn query<const N: usize>(
    front: &Front,
    query: Option<&str>,
    known: [&str; N],
) -> Result<[Option<String>; N], Problem> {
    let mut found = [const { None }; N];
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        let place = known.iter().position(|known| *known == name).ok_or_else(|| bad(front, "bad_query"))?;
        if found[place].replace(value.into_owned()).is_some() {
            return Err(bad(front, "bad_query"));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_number_is_one_however_it_is_written() {
        for (text, number) in [
            ("0", Some(0)),
            ("7", Some(7)),
            ("7.0", Some(7)),
            ("7e2", Some(700)),
            ("3893401004835726.0", Some(3_893_401_004_835_726)),
            ("9223372036854775807", Some(LARGEST)),
            ("9223372036854775808", None),
            ("18446744073709551615", None),
            ("7.5", None),
            ("-1", None),
            ("-1.0", None),
            ("1e300", None),
            ("\"7\"", None),
            ("null", None),
        ] {
            assert_eq!(whole_number(&mut serde_json::Deserializer::from_str(text)).ok(), number, "{text}");
        }
    }
}
