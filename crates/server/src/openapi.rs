//! What the API is, for programs (OpenAPI 3.1): made from the table of routes.

use serde_json::{Value, json};

/// The document.
pub(crate) fn document() -> Value {
    json!({ "openapi": "3.1.0" })
}
