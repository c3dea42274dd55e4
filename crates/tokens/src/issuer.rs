//! What the Keeper needs from HighLevel's OAuth.

use async_trait::async_trait;

use crate::clock::Timestamp;
use crate::installation::{CompanyId, InstallationId, LocationId};
use crate::secret::{AccessToken, AnswerBody, AuthorizationCode, RefreshToken};
use crate::token_set::Grant;

/// HighLevel's authorisation server, as far as the Keeper speaks to it.
///
/// Sending and reading are two steps, because an answer has to be safe on disk before anything
/// tries to understand it: it may hold the only refresh token there is.
#[async_trait]
pub trait Issuer: Send + Sync {
    /// Sends one `refresh_token` request, once.
    async fn refresh(&self, id: &InstallationId, token: &RefreshToken) -> Result<RawAnswer, Unanswered>;

    /// Sends one `authorization_code` request, once.
    async fn exchange(&self, code: &AuthorizationCode) -> Result<RawAnswer, Unanswered>;

    /// Asks once for a token of a location, with the access token of its company. Nothing is used up
    /// by it.
    async fn mint(
        &self,
        company: &CompanyId,
        access: &AccessToken,
        location: &LocationId,
    ) -> Result<RawAnswer, Unanswered>;

    /// Understands the answer to `mint`: a set without a refresh token of its own is bought with the
    /// company's grant the next time, too.
    fn read_minted(&self, answer: &RawAnswer, company: &CompanyId, received_at: Timestamp) -> Reading;

    /// Understands an answer that came at `received_at`.
    fn read(&self, answer: &RawAnswer, received_at: Timestamp) -> Reading;
}

/// An answer word for word.
#[derive(Clone, Debug)]
pub struct RawAnswer {
    /// HTTP's status.
    pub status: u16,
    /// The whole body.
    pub body: AnswerBody,
}

impl RawAnswer {
    /// Whether HTTP says that the request succeeded: only then can tokens be in it.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// The request never left: HighLevel has not seen the token.
    #[error("{0}")]
    NotSent(String),
    /// The request may have arrived, and the answer did not, or not whole.
    #[error("{0}")]
    Lost(String),
}

/// What an answer says.
#[derive(Clone, Debug)]
pub enum Reading {
    /// Both tokens are there.
    Granted(Box<Grant>),
    /// HighLevel refused, in a way that we know.
    Refused(Refusal),
    /// Anything else: an outage, a gateway's page, a cut or odd body. Nothing follows from it.
    Unclear(String),
}

/// HighLevel's plain refusals, each with its words (`highlevel` knows the texts).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The refresh token is invalid, expired or was used before.
    #[error("{0}")]
    InvalidGrant(String),
    /// The location is paused, unpaid or its agency inactive; the same token works again later.
    #[error("{0}")]
    NotActive(String),
    /// Our client id or secret is wrong: nothing follows for any installation.
    #[error("{0}")]
    InvalidClient(String),
    /// The company's access token, with which a location's was asked for, is no good (any more).
    #[error("{0}")]
    InvalidToken(String),
    /// The authorisation code is unknown, used or too old; or, HighLevel does not tell them apart,
    /// the client is wrong.
    #[error("{0}")]
    InvalidCode(String),
}
