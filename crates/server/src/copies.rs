//! Tokens ready to be sent, so that most requests touch neither the store nor the Keeper.
//!
//! A copy is good until its installation calls for something else than its use, or the store says
//! that it has changed.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::{BufMut, Bytes, BytesMut};
use papaya::HashMap;
use serde_json::{Value, json};
use tokens::{CompanyId, Connection, Installation, InstallationId, LocationId, Served, Timestamp};
use upkeep::Speech;

/// An installation's answer, by the second.
#[derive(Debug)]
pub(crate) struct Copy {
    installation: InstallationId,
    generation: u64,
    expires_at: Timestamp,
    used_until: Timestamp,
    /// What comes before and after the seconds that the token still lives.
    around: [Bytes; 2],
    rendered: ArcSwap<Rendered>,
}

#[derive(Debug)]
struct Rendered {
    seconds_left: u64,
    body: Bytes,
}

impl Copy {
    /// The answer for what the Keeper gave.
    pub(crate) fn of(served: &Served, speech: &dyn Speech) -> Self {
        let installation = &served.installation;
        let text = document(served, speech).to_string();
        let (before, after) = text.split_once(SECONDS_HERE).unwrap_or((&text, ""));
        Self {
            installation: installation.id.clone(),
            generation: installation.version.generation,
            expires_at: installation.tokens.expires_at,
            // A trouble that the store does not know of is asked about anew each time.
            used_until: match (&served.warning, &installation.connection) {
                (Some(_), Connection::Connected) => Timestamp::from_millis(i64::MIN),
                _ => installation.used_until(),
            },
            around: [Bytes::copy_from_slice(before.as_bytes()), Bytes::copy_from_slice(after.as_bytes())],
            rendered: ArcSwap::from_pointee(Rendered { seconds_left: u64::MAX, body: Bytes::new() }),
        }
    }

    /// Whose it is.
    pub(crate) fn id(&self) -> &InstallationId {
        &self.installation
    }

    /// Of which generation.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether it may be sent without a look at anything else.
    pub(crate) fn is_good(&self, now: Timestamp, minimum_life: Duration) -> bool {
        now < self.used_until && now + minimum_life < self.expires_at
    }

    /// The answer's body at `now`.
    pub(crate) fn body(&self, now: Timestamp) -> Bytes {
        let seconds_left = now.until(self.expires_at).as_secs();
        let rendered = self.rendered.load();
        if rendered.seconds_left == seconds_left {
            return rendered.body.clone();
        }
        let [before, after] = &self.around;
        let mut body = BytesMut::with_capacity(before.len() + after.len() + 20);
        body.put_slice(before);
        body.put_slice(seconds_left.to_string().as_bytes());
        body.put_slice(after);
        let body = body.freeze();
        self.rendered.store(Arc::new(Rendered { seconds_left, body: body.clone() }));
        body
    }
}

/// Stands in the text where the seconds come; as JSON it is part of no other value.
const SECONDS_HERE: &str = "\"\\u0000seconds\"";

fn document(served: &Served, speech: &dyn Speech) -> Value {
    let Installation { id, version, tokens, .. } = &served.installation;
    let (location, company) = match id {
        InstallationId::Location(id) => {
            (Some(LocationId::as_str(id)), tokens.company.as_ref().map(CompanyId::as_str))
        }
        InstallationId::Company(id) => (None, Some(id.as_str())),
    };
    let warnings: Vec<Value> = served
        .warning
        .iter()
        .map(|error| {
            let said = speech.keeper_error(error);
            json!({ "code": said.code, "detail": said.detail, "action": said.action })
        })
        .collect();
    json!({
        "access_token": tokens.access.expose(),
        "token_type": "Bearer",
        "expires_at": rfc3339(tokens.expires_at),
        "expires_in": "\0seconds",
        "scope": tokens.scopes,
        "user_type": id.user_type(),
        "location_id": location,
        "company_id": company,
        "generation": version.generation,
        "warnings": warnings,
    })
}

/// An instant as programs read it: RFC 3339 in UTC, whole seconds.
pub(crate) fn rfc3339(at: Timestamp) -> String {
    match jiff::Timestamp::from_second(at.as_millis().div_euclid(1000)) {
        Ok(at) => at.to_string(),
        Err(_) => at.as_millis().to_string(),
    }
}

/// The copies there are, by the path under which they are asked for.
#[derive(Default)]
pub(crate) struct Copies(HashMap<String, Arc<Copy>>);

/// The path of an installation's token.
pub(crate) fn path_of(id: &InstallationId) -> String {
    match id {
        InstallationId::Location(id) => format!("/v1/locations/{id}/token"),
        InstallationId::Company(id) => format!("/v1/companies/{id}/token"),
    }
}

impl Copies {
    /// The copy behind a path.
    pub(crate) fn at(&self, path: &str) -> Option<Arc<Copy>> {
        self.0.pin().get(path).cloned()
    }

    /// Puts a copy in the place of the one before.
    pub(crate) fn put(&self, copy: Arc<Copy>) {
        self.0.pin().insert(path_of(&copy.installation), copy);
    }

    /// Drops the copies of what has changed.
    pub(crate) fn drop_stale(&self, ids: &[InstallationId]) {
        let copies = self.0.pin();
        for id in ids {
            copies.remove(&path_of(id));
        }
    }

    /// Drops them all.
    pub(crate) fn drop_all(&self) {
        self.0.pin().clear();
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// For how long the tokens at hand still live.
    pub(crate) fn lives(&self, now: Timestamp) -> Vec<Duration> {
        self.0.pin().values().map(|copy| now.until(copy.expires_at)).collect()
    }
}
