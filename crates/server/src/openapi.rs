//! What the API is, for programs (OpenAPI 3.1): made from the table of routes, so that no route is
//! missing. The pages for browsers are no API and are left out.

use serde_json::{Map, Value, json};
use tokens::store::{Order, Stand};

use crate::api::LARGEST;
use crate::routes::{Door, Entry, entries};

/// The document.
pub(crate) fn document() -> Value {
    let mut paths = Map::new();
    for entry in entries().iter().filter(|entry| is_api(entry)) {
        let path = paths.entry(entry.path).or_insert_with(|| json!({}));
        path[entry.method.to_ascii_lowercase()] = operation(entry);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "ghl-auth",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Valid HighLevel access tokens for the programs that hold an API key.",
        },
        "paths": paths,
        "components": {
            "securitySchemes": { "key": { "type": "http", "scheme": "bearer", "bearerFormat": "ghlk_…" } },
            "schemas": schemas(),
        },
    })
}

fn is_api(entry: &Entry) -> bool {
    let is_page = entry.door == Door::Session
        || matches!(entry.path, "/sign-in" | "/language" | "/assets/{name}" | "/status" | "/badge/{name}");
    !is_page && (!entry.path.starts_with("/oauth/") || entry.path == "/oauth/links")
}

/// What an operation is about, what it takes, and what it answers when all is well.
struct Described {
    summary: &'static str,
    query: &'static [(&'static str, &'static str)],
    body: Option<&'static str>,
    good: u16,
    answer: Option<&'static str>,
    /// The statuses of the problems it can answer, beside those of the key.
    problems: &'static [u16],
}

const LIMIT: (&str, &str) = ("limit", "At most so many, 1 to 1000; 100 by default.");
const AFTER: (&str, &str) = ("after", "What the page before gave as `next`, with the same other parameters.");

const TOKEN_PROBLEMS: &[u16] = &[400, 404, 409, 503, 504];

fn described(entry: &Entry) -> Described {
    let plain = |summary, answer| Described {
        summary,
        query: &[],
        body: None,
        good: 200,
        answer: Some(answer),
        problems: &[400, 503],
    };
    match (entry.method, entry.path) {
        ("GET", "/livez") => Described { problems: &[], ..plain("Whether the service lives.", "Status") },
        ("GET", "/readyz") => plain("Whether the service can do its work.", "Status"),
        ("GET", "/metrics") => Described {
            answer: None,
            ..plain("Metrics in OpenMetrics' text; on the same machine without a key.", "")
        },
        ("GET", "/openapi.json") => Described { problems: &[], ..plain("This document.", "OpenApi") },
        ("GET", "/v1/apps") => Described { problems: &[], ..plain("The apps that are configured.", "Apps") },
        ("GET", "/v1/locations/{id}/token" | "/v1/companies/{id}/token") => Described {
            query: &[("minimum_life", "How many seconds the token has to live at least; 60 by default.")],
            problems: TOKEN_PROBLEMS,
            ..plain("A valid access token.", "Token")
        },
        ("POST", "/v1/locations/{id}/token/refused" | "/v1/companies/{id}/token/refused") => Described {
            body: Some("Refused"),
            problems: &[400, 404, 408, 409, 413, 503, 504],
            ..plain("HighLevel answered 401 to the token of a generation: the one that is good now.", "Token")
        },
        ("GET", "/v1/installations") => Described {
            query: &[
                LIMIT,
                AFTER,
                ("company", "Only this company and its locations."),
                ("state", "Only those that stand so."),
                ("q", "Only those whose id or name has this in it, whatever its case."),
                ("sort", "In which order: by id, whose token ends first, or who was checked longest ago."),
            ],
            ..plain("The installations within the key's reach, a page at a time.", "Installations")
        },
        ("GET", "/v1/installations/{kind}/{id}") => {
            Described { problems: &[400, 404, 503], ..plain("One installation.", "Installation") }
        }
        ("DELETE", "/v1/installations/{kind}/{id}") => Described {
            good: 204,
            answer: None,
            problems: &[400, 404, 409, 503],
            ..plain("Takes an installation out of service.", "")
        },
        ("POST", "/v1/installations/{kind}/{id}/restore") => Described {
            problems: &[400, 404, 503],
            ..plain("Takes back into service what was taken out of it within 30 days.", "Installation")
        },
        ("GET", "/v1/checks") => Described {
            query: &[
                ("kind", "location or company, together with id."),
                ("id", "Of this installation only."),
                ("before", "Ended before this instant (RFC 3339)."),
                LIMIT,
            ],
            ..plain("What the last checks found, newest first.", "Checks")
        },
        ("POST", "/v1/checks") => Described {
            body: Some("Installation id"),
            problems: &[400, 404, 408, 409, 413, 503, 504],
            ..plain("Checks an installation now.", "Check")
        },
        ("GET", "/v1/parked") => Described {
            query: &[LIMIT, AFTER],
            ..plain("Installs that came by themselves and wait for approval, a page at a time.", "Parked")
        },
        ("POST", "/v1/parked/{kind}/{id}/approve") => Described {
            problems: &[400, 404, 503],
            ..plain("Serves a parked install from now on.", "Approved")
        },
        ("DELETE", "/v1/parked/{kind}/{id}") => Described {
            good: 204,
            answer: None,
            problems: &[400, 404, 503],
            ..plain("Drops a parked install.", "")
        },
        ("GET", "/v1/maintenances") => plain("Times in which nobody is told of trouble.", "Maintenances"),
        ("POST", "/v1/maintenances") => Described {
            body: Some("Planned"),
            good: 201,
            problems: &[400, 408, 413, 503],
            ..plain("Begins one now.", "Maintenance")
        },
        ("DELETE", "/v1/maintenances/{id}") => {
            Described { good: 204, answer: None, problems: &[400, 404, 503], ..plain("Ends one early.", "") }
        }
        ("POST", "/webhooks/highlevel") => Described {
            body: Some("Event"),
            problems: &[400, 401, 408, 409, 413, 415, 429, 503],
            ..plain("HighLevel tells of an install or an uninstall, and signs what it tells.", "Status")
        },
        ("POST", "/oauth/links") => Described {
            good: 201,
            problems: &[400, 409, 503],
            ..plain("A link under which a person authorises in a browser, once, within ten minutes.", "Link")
        },
        _ => plain("", "Status"),
    }
}

fn operation(entry: &Entry) -> Value {
    let described = described(entry);
    let in_path = ["kind", "id"].iter().filter(|name| entry.path.contains(&format!("{{{name}}}")));
    let in_path = in_path.map(|name| {
        let schema = match *name {
            "kind" => kind(),
            _ => id(),
        };
        json!({ "name": name, "in": "path", "required": true, "schema": schema })
    });
    let in_query = described.query.iter().map(|(name, description)| {
        json!({ "name": name, "in": "query", "description": description, "schema": of_query(name) })
    });
    let mut operation = json!({
        "summary": described.summary,
        "parameters": in_path.chain(in_query).collect::<Vec<Value>>(),
        "responses": responses(entry, &described),
    });
    if let Some(body) = described.body {
        let schema = json!({ "$ref": format!("#/components/schemas/{}", body.replace(' ', "")) });
        operation["requestBody"] =
            json!({ "required": true, "content": { "application/json": { "schema": schema } } });
    }
    match entry.door {
        Door::Open | Door::Session => {}
        Door::Key(_) => operation["security"] = json!([{ "key": [] }]),
        // On the same machine it may be left out.
        Door::KeyOrLocal(_) => operation["security"] = json!([{}, { "key": [] }]),
    }
    operation
}

fn of_query(name: &str) -> Value {
    match name {
        "minimum_life" => json!({ "type": "integer", "minimum": 0, "maximum": 86400 }),
        "limit" => json!({ "type": "integer", "minimum": 1, "maximum": 1000 }),
        "kind" => kind(),
        "id" | "company" => id(),
        "state" => json!({ "enum": Stand::ALL.map(Stand::as_str) }),
        "sort" => json!({ "enum": Order::ALL.map(Order::as_str), "default": "id" }),
        "before" => json!({ "type": "string", "format": "date-time" }),
        _ => json!({ "type": "string" }),
    }
}

fn responses(entry: &Entry, described: &Described) -> Value {
    let mut responses = Map::new();
    let mut good = json!({ "description": described.summary });
    if let Some(answer) = described.answer {
        let schema = json!({ "$ref": format!("#/components/schemas/{answer}") });
        good["content"] = json!({ "application/json": { "schema": schema } });
    }
    responses.insert(described.good.to_string(), good);
    // What any request can meet, what a key can, and what this operation can.
    let of_key: &[u16] = if entry.door == Door::Open { &[] } else { &[400, 401, 403, 429] };
    for status in [400, 405, 414, 421].iter().chain(of_key).chain(described.problems) {
        let schema = json!({ "$ref": "#/components/schemas/Problem" });
        responses.insert(
            status.to_string(),
            json!({
                "description": "A problem; its code, detail and action say which and what to do.",
                "content": { "application/problem+json": { "schema": schema } },
            }),
        );
    }
    Value::Object(responses)
}

fn kind() -> Value {
    json!({ "enum": ["location", "company"] })
}

fn id() -> Value {
    json!({ "type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$", "examples": ["AbCdEfGhIjKlMnOpQrSt"] })
}

/// What a caller sends: nothing in it is ignored.
fn sent(required: &[&str], properties: Value) -> Value {
    let mut object = object(required, properties);
    object["additionalProperties"] = false.into();
    object
}

fn object(required: &[&str], properties: Value) -> Value {
    json!({ "type": "object", "required": required, "properties": properties })
}

fn schemas() -> Value {
    let text = || json!({ "type": "string" });
    let maybe_instant = || json!({ "type": ["string", "null"], "format": "date-time" });
    let maybe_text = || json!({ "type": ["string", "null"] });
    let count = || json!({ "type": "integer", "minimum": 0, "maximum": LARGEST });
    let instant = || json!({ "type": "string", "format": "date-time", "examples": ["2026-11-23T12:00:00Z"] });
    let next = || json!({ "type": ["string", "null"], "description": "The `after` of the next page; null on the last." });
    let list =
        |of: &str| json!({ "type": "array", "items": { "$ref": format!("#/components/schemas/{of}") } });
    let scopes = |what: &str| json!({ "type": "array", "items": { "type": "string" }, "description": what });
    let said =
        object(&["code", "detail", "action"], json!({ "code": text(), "detail": text(), "action": text() }));
    json!({
        "Problem": object(
            &["type", "status", "code", "detail", "action"],
            json!({
                "type": text(), "status": count(), "code": text(), "detail": text(), "action": text(),
                "authorize_url": { "type": "string", "description": "Where a person authorises." },
            }),
        ),
        "Status": object(&["status"], json!({ "status": text() })),
        "OpenApi": { "type": "object" },
        "Token": object(
            &["access_token", "token_type", "expires_at", "expires_in", "scope", "user_type", "location_id",
                "company_id", "generation", "warnings"],
            json!({
                "access_token": text(),
                "token_type": { "const": "Bearer" },
                "expires_at": instant(),
                "expires_in": { "type": "integer", "minimum": 0, "description": "Seconds." },
                "scope": text(),
                "user_type": { "enum": ["Location", "Company"] },
                "location_id": maybe_text(),
                "company_id": maybe_text(),
                "generation": count(),
                "warnings": { "type": "array", "items": said },
            }),
        ),
        "Refused": sent(&["generation"], json!({ "generation": count() })),
        "Installationid": sent(&["kind", "id"], json!({ "kind": kind(), "id": id() })),
        "Installation": object(
            &["kind", "id", "company_id", "name", "state", "health", "generation", "scope", "missing_scopes",
                "extra_scopes", "issued_at", "expires_at", "expires_in", "last_check", "unlisted_at"],
            json!({
                "kind": kind(), "id": id(), "company_id": maybe_text(), "name": maybe_text(),
                "state": { "enum": Stand::ALL.map(Stand::as_str) }, "health": maybe_text(),
                "unlisted_at": {
                    "type": ["string", "null"], "format": "date-time",
                    "description": "Since when HighLevel's list of installed locations has been without it.",
                },
                "generation": count(), "scope": text(),
                "missing_scopes": scopes("Wanted by GHL_SCOPES and not granted: a person has to reinstall."),
                "extra_scopes": scopes("Granted, and not among GHL_SCOPES."),
                "issued_at": instant(), "expires_at": instant(), "expires_in": count(),
                "last_check": { "type": ["object", "null"] },
            }),
        ),
        "Installations": object(
            &["installations", "next"],
            json!({ "installations": list("Installation"), "next": next() }),
        ),
        "Apps": object(&["apps"], json!({ "apps": { "type": "array", "items": object(
            &["app", "client_id", "user_type", "redirect_uri", "scope"],
            json!({
                "app": text(), "client_id": maybe_text(), "user_type": maybe_text(),
                "redirect_uri": maybe_text(), "scope": maybe_text(),
            }),
        ) } })),
        "Check": object(
            &["kind", "id", "at", "duration_ms", "trigger", "health", "steps"],
            json!({
                "kind": kind(), "id": id(), "at": instant(), "duration_ms": count(),
                "trigger": { "enum": ["clock", "command", "api"] },
                "health": { "enum": ["operational", "degraded", "down", "suspended", "needs_person"] },
                "code": maybe_text(), "detail": maybe_text(),
                "steps": { "type": "array", "items": object(
                    &["step", "ok", "duration_ms", "trace_id"],
                    json!({
                        "step": text(), "ok": { "type": "boolean" }, "duration_ms": count(),
                        "trace_id": maybe_text(),
                    }),
                ) },
            }),
        ),
        "Checks": object(&["checks"], json!({ "checks": list("Check") })),
        "Parked": object(&["parked", "next"], json!({ "next": next(), "parked": { "type": "array", "items": object(
            &["kind", "id", "company_id", "scope", "at"],
            json!({ "kind": kind(), "id": id(), "company_id": maybe_text(), "scope": text(), "at": instant() }),
        ) } })),
        "Approved": object(&["kind", "id", "generation"], json!({ "kind": kind(), "id": id(), "generation": count() })),
        "Event": object(
            &["type"],
            json!({ "type": text(), "appId": text(), "webhookId": text(), "timestamp": text() }),
        ),
        "Planned": planned(),
        "Maintenance": object(
            &["id", "from", "until", "reason"],
            json!({
                "id": text(), "kind": maybe_text(), "installation": maybe_text(), "from": instant(),
                "until": maybe_instant(), "reason": text(),
            }),
        ),
        "Maintenances": object(&["maintenances"], json!({ "maintenances": list("Maintenance") })),
        "Link": object(&["url", "expires_at"], json!({ "url": text(), "expires_at": instant() })),
    })
}

fn planned() -> Value {
    let mut planned = sent(
        &[],
        json!({
            "seconds": { "type": "integer", "minimum": 1, "maximum": 2_592_000 },
            "reason": { "type": "string", "maxLength": 500, "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]*$" },
            "kind": kind(), "id": id(),
        }),
    );
    // One installation, or none by name, but then for how long.
    planned["dependentRequired"] = json!({ "kind": ["id"], "id": ["kind"] });
    planned["anyOf"] = json!([{ "required": ["seconds"] }, { "required": ["kind", "id"] }]);
    planned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_route_of_the_api_is_described_and_each_reference_leads_somewhere() {
        let document = document();
        for entry in entries().iter().filter(|entry| is_api(entry)) {
            let operation = &document["paths"][entry.path][entry.method.to_ascii_lowercase()];
            assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{entry:?}");
            assert_eq!(operation["security"].is_null(), entry.door == Door::Open, "{entry:?}");
        }
        let text = document.to_string();
        for reference in text.split("#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap_or_default();
            assert!(document["components"]["schemas"][name].is_object(), "{name}");
        }
    }
}
