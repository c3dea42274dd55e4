//! Read and tag a contact: HighLevel's `contacts.json`, the same paths in both dialects.

use http::Method;
use serde_json::{Value, json};
use tokens::{ContactId, LocationId};

use crate::client::{Api, Dialect, Reply};
use crate::error::{Failure, FailureKind};

/// What a check needs to know of a contact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    /// The tags it carries.
    pub tags: Vec<String>,
}

impl Contact {
    /// Whether it carries the tag, whatever the case.
    pub fn has_tag(&self, name: &str) -> bool {
        let name = name.trim().to_lowercase();
        self.tags.iter().any(|tag| tag.trim().to_lowercase() == name)
    }
}

impl Api {
    /// `GET /contacts/{contactId}` (scope `contacts.readonly`): proves token, scope, location and
    /// contact at once.
    pub async fn contact(&self, id: &ContactId) -> Result<Reply<Contact>, Failure> {
        let Reply { value, trace_id } = self.call(Method::GET, &format!("/contacts/{id}"), None).await?;
        match value.get("contact") {
            Some(contact) => Ok(Reply { value: Contact { tags: strings(contact.get("tags")) }, trace_id }),
            None => Err(Failure {
                kind: FailureKind::Unreadable,
                status: Some(200),
                said: "the answer has no `contact`".into(),
                trace_id,
            }),
        }
    }

    /// `POST /contacts/{contactId}/tags` (scope `contacts.write`).
    pub async fn add_tag(&self, id: &ContactId, name: &str) -> Result<Reply<()>, Failure> {
        self.tags(Method::POST, id, name).await
    }

    /// `DELETE /contacts/{contactId}/tags`, with a body (scope `contacts.write`).
    pub async fn remove_tag(&self, id: &ContactId, name: &str) -> Result<Reply<()>, Failure> {
        self.tags(Method::DELETE, id, name).await
    }

    /// `GET /contacts/search/duplicate` (scope `contacts.readonly`): the contact of the location that has
    /// this e-mail address, if there is one.
    pub async fn contact_by_email(
        &self,
        location: &LocationId,
        email: &str,
    ) -> Result<Reply<Option<ContactId>>, Failure> {
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("locationId", location.as_str())
            .append_pair("email", email)
            .finish();
        let reply = self.call(Method::GET, &format!("/contacts/search/duplicate?{query}"), None).await?;
        Ok(reply.map(|value| id_of_contact(&value)))
    }

    /// `POST /contacts/` (scope `contacts.write`).
    pub async fn create_contact(
        &self,
        location: &LocationId,
        name: &str,
        email: &str,
    ) -> Result<Reply<ContactId>, Failure> {
        let body = json!({ "locationId": location.as_str(), "firstName": name, "email": email });
        let Reply { value, trace_id } = self.call(Method::POST, "/contacts/", Some(body)).await?;
        match id_of_contact(&value) {
            Some(id) => Ok(Reply { value: id, trace_id }),
            None => Err(Failure {
                kind: FailureKind::Unreadable,
                status: Some(201),
                said: "the answer has no id of a contact".into(),
                trace_id,
            }),
        }
    }

    /// `PUT /contacts/{contactId}` with nothing but one custom field (scope `contacts.write`). Its value is
    /// called `field_value`, and `fieldValue` in v3.
    pub async fn set_custom_field(
        &self,
        id: &ContactId,
        field: &str,
        value: &str,
    ) -> Result<Reply<()>, Failure> {
        let named = match self.client.dialect() {
            Dialect::Dated => "field_value",
            Dialect::V3 => "fieldValue",
        };
        let body = json!({ "customFields": [{ "id": field, named: value }] });
        let reply = self.call(Method::PUT, &format!("/contacts/{id}"), Some(body)).await?;
        Ok(reply.map(drop))
    }

    async fn tags(&self, method: Method, id: &ContactId, name: &str) -> Result<Reply<()>, Failure> {
        let body = json!({ "tags": [name] });
        let Reply { trace_id, .. } = self.call(method, &format!("/contacts/{id}/tags"), Some(body)).await?;
        Ok(Reply { value: (), trace_id })
    }
}

fn id_of_contact(value: &Value) -> Option<ContactId> {
    value.pointer("/contact/id").and_then(Value::as_str).and_then(|id| id.parse().ok())
}

fn strings(list: Option<&Value>) -> Vec<String> {
    let list = list.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}
