//! Read a location: the harmless call of a check that has no contact to look at; and the tags and custom
//! fields that a health check is set up with.

use http::Method;
use serde_json::{Value, json};
use tokens::{CompanyId, LocationId};

use crate::client::{Api, Reply};
use crate::error::Failure;

/// What a check needs to know of a location.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// Its name, where HighLevel says it.
    pub name: Option<String>,
}

/// A field that a location has added to its contacts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomField {
    /// Its id, which is what a contact's values go by.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// What messages call it: `contact.service_name`.
    pub key: String,
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

    /// `GET /locations/{locationId}/tags` (scope `locations/tags.readonly`): the names of all tags.
    pub async fn tags_of(&self, id: &LocationId) -> Result<Reply<Vec<String>>, Failure> {
        let reply = self.call(Method::GET, &format!("/locations/{id}/tags"), None).await?;
        Ok(reply.map(|value| list(&value, "tags").filter_map(|tag| text(tag, "name")).collect()))
    }

    /// `POST /locations/{locationId}/tags` (scope `locations/tags.write`).
    pub async fn create_tag(&self, id: &LocationId, name: &str) -> Result<Reply<()>, Failure> {
        let body = json!({ "name": name });
        let reply = self.call(Method::POST, &format!("/locations/{id}/tags"), Some(body)).await?;
        Ok(reply.map(drop))
    }

    /// `GET /locations/{locationId}/customFields` (scope `locations/customFields.readonly`): those of contacts.
    pub async fn custom_fields(&self, id: &LocationId) -> Result<Reply<Vec<CustomField>>, Failure> {
        let path = format!("/locations/{id}/customFields?model=contact");
        let reply = self.call(Method::GET, &path, None).await?;
        let field = |field: &Value| {
            let (id, name) = (text(field, "id")?, text(field, "name")?);
            Some(CustomField { id, name, key: text(field, "fieldKey").unwrap_or_default() })
        };
        Ok(reply.map(|value| list(&value, "customFields").filter_map(field).collect()))
    }
}

fn list<'v>(value: &'v Value, name: &str) -> impl Iterator<Item = &'v Value> {
    value.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default().iter()
}

fn text(value: &Value, name: &str) -> Option<String> {
    value.get(name).and_then(Value::as_str).map(str::to_owned)
}
