//! What HighLevel can answer instead of what was asked for, as kinds that one acts on.
//!
//! HighLevel says 401 for six different things, and only one of them is a token that a refresh
//! replaces. The texts were measured by third parties in 2026-07 and 2026-08, or stand in HighLevel's
//! own specification; none is promised, so what is not recognised stays `Other`.

use std::time::Duration;

use http::StatusCode;

use crate::client::{Answer, Silence};
use crate::wire;

/// A call that did not bring what it was made for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{said}")]
pub struct Failure {
    /// What it means for us.
    pub kind: FailureKind,
    /// HTTP's status, where there was an answer.
    pub status: Option<u16>,
    /// HighLevel's words, or the system's: one line, without secrets.
    pub said: String,
    /// HighLevel's `traceId`, where it sent one.
    pub trace_id: Option<String>,
}

/// What a failure means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The access token is refused; a refresh may cure it.
    TokenRefused,
    /// The Private Integration Token is refused: only a new one helps.
    PrivateTokenRefused,
    /// The token lacks a scope; a refresh changes nothing.
    ScopeMissing,
    /// A company's token where a location's is needed, or the reverse.
    WrongClass,
    /// The right class of token, of another location.
    OtherLocation,
    /// The `Version` header is missing or unknown: our own fault.
    VersionRefused,
    /// The location is paused, unpaid, or its agency inactive.
    NotActive,
    /// There is no such contact in the token's location.
    ContactNotFound,
    /// Too many requests; `wait` is HighLevel's own advice where it gave any.
    RateLimited {
        /// How long to wait.
        wait: Option<Duration>,
    },
    /// HighLevel or a gateway before it is in trouble: 5xx.
    Unavailable,
    /// No connection.
    Unreachable,
    /// The connection broke, or the time was up.
    NoAnswer,
    /// An answer that is not what the API promises.
    Unreadable,
    /// Any other refusal.
    Other,
}

impl FailureKind {
    /// Whether the same call may well succeed a little later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::RateLimited { .. } | Self::Unavailable | Self::Unreachable | Self::NoAnswer)
    }
}

impl Failure {
    pub(crate) fn of_silence(silence: Silence, waited: Duration) -> Self {
        let (kind, said) = match silence {
            Silence::NotSent(why) => (FailureKind::Unreachable, why),
            Silence::Lost(why) => (FailureKind::NoAnswer, why),
            Silence::TimedOut => {
                (FailureKind::NoAnswer, format!("no answer within {} seconds", waited.as_secs()))
            }
        };
        Self { kind, status: None, said: wire::one_line(&said), trace_id: None }
    }

    pub(crate) fn of_answer(
        answer: &Answer,
        json: Option<&serde_json::Value>,
        trace_id: Option<String>,
    ) -> Self {
        let said = wire::said(answer.status, json);
        let kind = match answer.status {
            StatusCode::TOO_MANY_REQUESTS => FailureKind::RateLimited { wait: advised_wait(answer) },
            status if status.is_server_error() => FailureKind::Unavailable,
            StatusCode::REQUEST_TIMEOUT => FailureKind::NoAnswer,
            status => kind_of(status, &said),
        };
        Self { kind, status: Some(answer.status.as_u16()), said, trace_id }
    }
}

/// What HighLevel says of a request that it does not grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meaning {
    /// What it means for us.
    pub kind: FailureKind,
    /// HighLevel's words: one line, without secrets.
    pub said: String,
}

/// What an answer to someone else's request means, from its status and its body as far as it was read.
pub fn meaning(status: StatusCode, body: &[u8]) -> Meaning {
    let json = serde_json::from_slice::<serde_json::Value>(body).ok();
    let said = wire::said(status, json.as_ref());
    let kind = match status {
        StatusCode::TOO_MANY_REQUESTS => FailureKind::RateLimited { wait: None },
        status => kind_of(status, &said),
    };
    Meaning { kind, said }
}

pub(crate) fn kind_of(status: StatusCode, said: &str) -> FailureKind {
    let says = |words: &str| said.to_ascii_lowercase().contains(words);
    match status.as_u16() {
        401 if says("private integration token") => FailureKind::PrivateTokenRefused,
        401 if says("version header") => FailureKind::VersionRefused,
        401 if says("not authorized for this scope") => FailureKind::ScopeMissing,
        401 if says("authclass type") || says("user type") => FailureKind::WrongClass,
        401 if says("invalid jwt") || says("access token") => FailureKind::TokenRefused,
        403 if says("access to this location") => FailureKind::OtherLocation,
        400 if says("api version segment") => FailureKind::VersionRefused,
        400 if says("location is not active") => FailureKind::NotActive,
        400 if says("contact not found") => FailureKind::ContactNotFound,
        _ => FailureKind::Other,
    }
}

/// `Retry-After` is not documented by HighLevel; the interval of its rate limit is.
fn advised_wait(answer: &Answer) -> Option<Duration> {
    let number = |name: &str| answer.headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    number("retry-after")
        .map(Duration::from_secs)
        .or_else(|| number("x-ratelimit-interval-milliseconds").map(Duration::from_millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refused_token_is_a_matter_for_a_refresh() {
        let check = |status: u16, said: &str, expected: FailureKind| {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(kind_of(status, said), expected, "{status} {said}");
        };
        check(401, "Invalid JWT", FailureKind::TokenRefused);
        check(401, "Invalid token: access token is invalid", FailureKind::TokenRefused);
        check(401, "Invalid Private Integration token", FailureKind::PrivateTokenRefused);
        check(401, "The token is not authorized for this scope.", FailureKind::ScopeMissing);
        check(
            401,
            "This authClass type is not allowed to access this scope. Please verify your IAM configuration if this is not the case.",
            FailureKind::WrongClass,
        );
        check(401, "Token's user type mismatch!", FailureKind::WrongClass);
        check(401, "This token's user type is not yet supported!", FailureKind::WrongClass);
        check(403, "The token does not have access to this location.", FailureKind::OtherLocation);
        check(401, "version header was not found.", FailureKind::VersionRefused);
        check(401, "version header is invalid", FailureKind::VersionRefused);
        check(400, "Invalid API version segment 'x' at position 0", FailureKind::VersionRefused);
        check(400, "Contact not found for id:x", FailureKind::ContactNotFound);
        check(400, "Location is not active", FailureKind::NotActive);
        check(403, "Forbidden resource", FailureKind::Other);
        check(401, "Unauthorized", FailureKind::Other);
        check(404, "Cannot GET /x", FailureKind::Other);
    }
}
