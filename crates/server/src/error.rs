//! What is answered when a question can't be: problem+json (RFC 9457), and the only place that
//! turns what went wrong into a status.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use tokens::{InstallationId, KeeperError, StoreError};
use upkeep::{Said, Speech};

use crate::auth::{Forbidden, Unknown};
use crate::house::House;

/// An error as programs get it.
#[derive(Debug, Serialize)]
pub(crate) struct Problem {
    #[serde(rename = "type")]
    kind: &'static str,
    status: u16,
    /// A promise to programs.
    pub(crate) code: &'static str,
    /// What happened.
    pub(crate) detail: Box<str>,
    /// What to do next.
    pub(crate) action: Box<str>,
    /// Where a person authorises, where that is the cure.
    #[serde(skip_serializing_if = "Option::is_none")]
    authorize_url: Option<Box<str>>,
    /// Whom one may have meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    choices: Option<Box<[Choice]>>,
    /// Seconds until it may be tried again.
    #[serde(skip)]
    retry_after: Option<u64>,
}

/// What a problem says, beside its answer, for whoever would rather show it on a page.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) code: &'static str,
    pub(crate) detail: Box<str>,
    pub(crate) action: Box<str>,
}

/// An installation that may be meant.
#[derive(Debug, Serialize)]
struct Choice {
    kind: &'static str,
    id: Box<str>,
}

impl Problem {
    /// A problem whose sentences are `api-CODE` and `api-CODE.action`.
    pub(crate) fn new(speech: &dyn Speech, status: StatusCode, code: &'static str) -> Self {
        Self {
            kind: "about:blank",
            status: status.as_u16(),
            code,
            detail: speech.say(&format!("api-{code}"), &[]).into(),
            action: speech.say(&format!("api-{code}.action"), &[]).into(),
            authorize_url: None,
            choices: None,
            retry_after: None,
        }
    }

    fn of(said: Said, status: StatusCode) -> Self {
        let Said { code, detail, action, .. } = said;
        Self {
            kind: "about:blank",
            status: status.as_u16(),
            code,
            detail: detail.into(),
            action: action.into(),
            authorize_url: None,
            choices: None,
            retry_after: None,
        }
    }

    pub(crate) fn with_choices<'a>(mut self, ids: impl Iterator<Item = &'a InstallationId>) -> Self {
        self.choices = Some(ids.map(|id| Choice { kind: id.kind(), id: id.as_str().into() }).collect());
        self
    }

    pub(crate) fn later(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// No caller.
    pub(crate) fn unknown(speech: &dyn Speech, unknown: Unknown) -> Self {
        let unauthorized = |code| Self::new(speech, StatusCode::UNAUTHORIZED, code);
        match unknown {
            Unknown::NoKey => unauthorized("no_key"),
            Unknown::WrongKey => unauthorized("wrong_key_sent"),
            Unknown::Expired => unauthorized("key_expired"),
            Unknown::Revoked => unauthorized("key_revoked"),
            Unknown::Exposed => Self::new(speech, StatusCode::BAD_REQUEST, "key_exposed"),
            Unknown::TooMany { retry_after } => {
                let problem = Self::new(speech, StatusCode::TOO_MANY_REQUESTS, "too_many_wrong_keys");
                problem.later(retry_after.as_secs().max(1))
            }
        }
    }

    /// A caller who may not.
    pub(crate) fn forbidden(speech: &dyn Speech, forbidden: Forbidden) -> Self {
        let code = match forbidden {
            Forbidden::Verb => "wrong_verb",
            Forbidden::Reach => "out_of_reach",
        };
        Self::new(speech, StatusCode::FORBIDDEN, code)
    }

    /// No token.
    pub(crate) fn keeper(house: &House, error: &KeeperError) -> Self {
        Self::keeper_in(house.speech.as_ref(), house, error)
    }

    /// The same, in somebody's own language.
    pub(crate) fn keeper_in(speech: &dyn Speech, house: &House, error: &KeeperError) -> Self {
        let (status, later) = match error {
            KeeperError::Company { trouble, .. } => {
                let of_company = Self::keeper_in(speech, house, trouble);
                let status = StatusCode::from_u16(of_company.status).unwrap_or(StatusCode::CONFLICT);
                // The location is known; what is missing is its company's grant.
                let status = if status == StatusCode::NOT_FOUND { StatusCode::CONFLICT } else { status };
                (status, of_company.retry_after)
            }
            KeeperError::NotMinted { .. } => (StatusCode::NOT_FOUND, None),
            KeeperError::NotConnected(_) => (StatusCode::NOT_FOUND, None),
            KeeperError::NeedsPerson { .. }
            | KeeperError::Suspended { .. }
            | KeeperError::FreshTokenRefused
            | KeeperError::Parked(_) => (StatusCode::CONFLICT, None),
            KeeperError::InvalidCode { .. } | KeeperError::Anonymous => (StatusCode::BAD_REQUEST, None),
            KeeperError::Resting { until, .. } => {
                let seconds = house.clock.now().until(*until).as_secs().max(1);
                (StatusCode::SERVICE_UNAVAILABLE, Some(seconds))
            }
            KeeperError::InvalidClient { .. } => (StatusCode::SERVICE_UNAVAILABLE, Some(60)),
            KeeperError::Unanswered { .. } => (StatusCode::SERVICE_UNAVAILABLE, Some(30)),
            KeeperError::Store(_) | KeeperError::Spooled(_) | KeeperError::Unsaved(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, Some(5))
            }
        };
        let said = match error {
            // What a store's own error says is for the log, not for whoever asks.
            KeeperError::Store(error) | KeeperError::Spooled(error) | KeeperError::Unsaved(error) => {
                return Self::store(speech, error);
            }
            error => speech.keeper_error(error),
        };
        let needs_person = said.needs_person;
        let mut problem = Self::of(said, status);
        problem.retry_after = later;
        if needs_person {
            problem.authorize_url = house.consent.as_ref().map(|consent| consent.link(None).into());
        }
        problem
    }

    /// The store does not do what it was asked. Paths and the engine's words stay in the log.
    pub(crate) fn store(speech: &dyn Speech, error: &StoreError) -> Self {
        if let StoreError::NoRoomFor { .. } = error {
            return Self::new(speech, StatusCode::CONFLICT, "no_room");
        }
        if let StoreError::Standby { .. } = error {
            return Self::new(speech, StatusCode::CONFLICT, "standby");
        }
        let why = std::error::Error::source(error).map(ToString::to_string);
        tracing::error!(%error, why, "the store can't be used");
        Self::new(speech, StatusCode::SERVICE_UNAVAILABLE, "store_unavailable").later(5)
    }
}

impl Problem {
    /// The same for a sender who repeats itself as long as it hears that it has to.
    pub(crate) fn asking_again(self) -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE.as_u16(), ..self }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = Response::new(body.into());
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.status == StatusCode::UNAUTHORIZED.as_u16() {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.status == StatusCode::METHOD_NOT_ALLOWED.as_u16() {
            // What is taken anywhere in the house; the router says it of a path.
            headers.insert(header::ALLOW, HeaderValue::from_static("GET,HEAD,POST,DELETE"));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response.extensions_mut().insert(Told { code: self.code, detail: self.detail, action: self.action });
        response
    }
}
