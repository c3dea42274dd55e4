//! What HighLevel grants: an access token, and the means to get the next one.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::installation::{CompanyId, InstallationId};
use crate::secret::{AccessToken, RefreshToken, ReplyMembers};

/// One pair of tokens and what was said with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenSet {
    /// What a request carries.
    pub access: AccessToken,
    /// What the next set is bought with.
    pub refresh_by: RefreshBy,
    /// When we received it.
    pub issued_at: Timestamp,
    /// When HighLevel will no longer take the access token.
    pub expires_at: Timestamp,
    /// The scopes granted, separated by spaces, as HighLevel wrote them.
    pub scopes: String,
    /// The agency that the reply names beside the token.
    pub company: Option<CompanyId>,
    /// Everything else in the reply.
    pub members: ReplyMembers,
}

/// What the next set of tokens is bought with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefreshBy {
    /// Its own refresh token.
    Own(RefreshToken),
    /// Its company's grant, from which a location's token can be minted.
    Company(CompanyId),
}

impl TokenSet {
    /// How long the access token still lives; zero when it has died.
    pub fn remaining(&self, now: Timestamp) -> Duration {
        now.until(self.expires_at)
    }

    /// How long it was to live when it was issued.
    pub fn life(&self) -> Duration {
        self.issued_at.until(self.expires_at)
    }

    /// The instant from which a refresh is due: half of its life.
    pub fn half_life_at(&self) -> Timestamp {
        self.issued_at + self.life() / 2
    }

    /// The company whose grant may bring a location's next set: the one it was bought with, or the one
    /// that the reply named.
    pub fn parent(&self) -> Option<&CompanyId> {
        match &self.refresh_by {
            RefreshBy::Company(company) => Some(company),
            RefreshBy::Own(_) => self.company.as_ref(),
        }
    }

    /// The refresh token, where the set has its own.
    pub fn refresh_token(&self) -> Option<&RefreshToken> {
        match &self.refresh_by {
            RefreshBy::Own(token) => Some(token),
            RefreshBy::Company(_) => None,
        }
    }
}

/// A readable token reply: the tokens, and whose they are as far as the reply says.
#[derive(Clone, Debug)]
pub struct Grant {
    /// From the reply's `userType` and the id beside it; absent when the reply names none.
    pub id: Option<InstallationId>,
    /// The tokens.
    pub tokens: TokenSet,
}
