//! One variant for each thing that a caller does differently.

use crate::clock::Timestamp;
use crate::installation::{Broken, CompanyId, InstallationId, LocationId};
use crate::store::StoreError;

/// Why there is no token.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KeeperError {
    /// Nobody has authorised this yet.
    #[error("no grant for {0}")]
    NotConnected(InstallationId),
    /// The grant is dead, and only a person can make a new one.
    #[error("{id} must be authorised again: {}", broken.said)]
    NeedsPerson {
        /// Whose grant.
        id: InstallationId,
        /// Since when and why.
        broken: Broken,
    },
    /// HighLevel says that the location is not active. The grant is kept.
    #[error("{id} is suspended: {said}")]
    Suspended {
        /// Whose grant.
        id: InstallationId,
        /// Since when.
        since: Timestamp,
        /// HighLevel's words.
        said: String,
    },
    /// HighLevel does not take our client id or secret. No installation is changed by that.
    #[error("HighLevel refuses the client credentials: {said}")]
    InvalidClient {
        /// HighLevel's words.
        said: String,
    },
    /// HighLevel does not take the authorisation code.
    #[error("HighLevel refuses the authorisation code: {said}")]
    InvalidCode {
        /// HighLevel's words.
        said: String,
    },
    /// No usable answer came. The grant is kept and the same token is sent again.
    #[error("no usable answer from HighLevel: {said}")]
    Unanswered {
        /// What came instead.
        said: String,
    },
    /// The last tries failed, and the next is not due yet.
    #[error("waiting until the next try: {said}")]
    Resting {
        /// When the next try is due.
        until: Timestamp,
        /// What went wrong.
        said: String,
    },
    /// HighLevel refused a token that is as new as it gets: another refresh would not cure it.
    #[error("the token was refreshed a moment ago, and HighLevel refuses it still")]
    FreshTokenRefused,
    /// Nobody here asked for this grant: it is kept, and waits for approval.
    #[error("the grant of {0} waits for approval")]
    Parked(InstallationId),
    /// The reply to a code names neither a location nor a company.
    #[error("the token reply names neither a location nor a company")]
    Anonymous,
    /// The location's token is bought with its company's grant, and there the trouble is.
    #[error("the token of location {location} comes from company {company}: {trouble}")]
    Company {
        /// Whose token.
        location: LocationId,
        /// Whose grant.
        company: CompanyId,
        /// What is wrong with that.
        #[source]
        trouble: Box<KeeperError>,
    },
    /// HighLevel gives no token for this location to any company that we keep, in these words.
    #[error("no company's grant brings a token of location {location}: {said}")]
    NotMinted {
        /// Whose token.
        location: LocationId,
        /// HighLevel's words.
        said: String,
    },
    /// The store did not do what it was asked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The new tokens are safe in the spool, and the store can't take them yet.
    #[error("the new tokens wait beside the store, which can't take them yet")]
    Spooled(#[source] StoreError),
    /// The new tokens could be put neither into the store nor beside it.
    #[error("the new tokens could be saved nowhere")]
    Unsaved(#[source] StoreError),
}
