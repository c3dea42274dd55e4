//! Read a location: the harmless call of a check that has no contact to look at.

use http::Method;
use tokens::{CompanyId, LocationId};

use crate::client::{Api, Reply};
use crate::error::Failure;

/// What a check needs to know of a location.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// Its name, where HighLevel says it.
    pub name: Option<String>,
}

impl Api {
    /// `GET /locations/{locationId}` (scope `locations.readonly`).
    pub async fn location(&self, id: &LocationId) -> Result<Reply<Location>, Failure> {
        let Reply { value, trace_id } = self.call(Method::GET, &format!("/locations/{id}"), None).await?;
        let name = value.pointer("/location/name").and_then(|name| name.as_str()).map(str::to_owned);
        Ok(Reply { value: Location { name }, trace_id })
    }

    /// `GET /locations/search?companyId=` (scope `locations.readonly`): what a company's token may read.
    pub async fn locations_of(&self, company: &CompanyId) -> Result<Reply<()>, Failure> {
        let path = format!("/locations/search?companyId={company}&limit=1");
        self.call(Method::GET, &path, None).await.map(|reply| reply.map(drop))
    }
}
