//! Read and tag a contact: HighLevel's `contacts.json`, the same paths in both dialects.

use http::Method;
use serde_json::{Value, json};
use tokens::ContactId;

use crate::client::{Api, Reply};
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

    async fn tags(&self, method: Method, id: &ContactId, name: &str) -> Result<Reply<()>, Failure> {
        let body = json!({ "tags": [name] });
        let Reply { trace_id, .. } = self.call(method, &format!("/contacts/{id}/tags"), Some(body)).await?;
        Ok(Reply { value: (), trace_id })
    }
}

fn strings(list: Option<&Value>) -> Vec<String> {
    let list = list.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}
