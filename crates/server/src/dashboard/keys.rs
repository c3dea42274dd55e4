//! The keys of the programs that ask: who has what, who used it when, and the end of one.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use http::StatusCode;
use tokens::records::{KeyId, KeyRecord, Reach};

use super::frame::{Frame, Place, When, Words};
use super::reader::Reader;
use super::{Shown, sent_to, shown};
use crate::front::Front;

#[derive(Template)]
#[template(path = "keys.html")]
struct Page<'a> {
    frame: Frame<'a>,
    keys: Vec<Key>,
}

/// A key, in a list.
struct Key {
    id: String,
    name: String,
    verbs: String,
    reach: String,
    used: Option<When>,
    used_from: Option<String>,
    ends: Option<When>,
    revoked: Option<When>,
}

impl Key {
    fn new(words: &Words<'_>, key: &KeyRecord) -> Self {
        let verbs: Vec<&str> = key.verbs.iter().map(|verb| verb.as_str()).collect();
        Self {
            id: key.id.0.clone(),
            name: key.name.clone(),
            verbs: verbs.join(", "),
            reach: match &key.reach {
                Reach::All => words.say("dash-reach-all"),
                Reach::These(ids) => ids.iter().map(|id| id.as_str()).collect::<Vec<_>>().join(", "),
            },
            used: key.last_use.as_ref().map(|used| When::new(words, used.at)),
            used_from: key.last_use.as_ref().map(|used| used.source.clone()),
            ends: key.expires_at.map(|at| When::new(words, at)),
            revoked: key.revoked_at.map(|at| When::new(words, at)),
        }
    }
}

/// Shows them.
pub(crate) async fn page(State(front): State<Arc<Front>>, reader: Reader) -> Shown {
    let found = front.house.records.keys(None).await.map_err(|error| reader.of_store(&error))?;
    let mut records = found.map(|(keys, _)| keys).unwrap_or_default();
    records.sort_by_key(|key| (key.revoked_at.is_some(), key.name.to_lowercase()));
    let frame = Frame::new(&front, &reader, Place::Keys);
    let keys = records.iter().map(|key| Key::new(&frame.words, key)).collect();
    Ok(shown(StatusCode::OK, &Page { frame, keys }, None))
}

/// Ends one.
pub(crate) async fn revoke(State(front): State<Arc<Front>>, reader: Reader, Path(id): Path<String>) -> Shown {
    let revoked = front.house.records.revoke_key(&KeyId(id), front.house.clock.now()).await;
    revoked.map_err(|error| reader.of_store(&error))?;
    front.learn_keys_or_warn().await;
    Ok(sent_to(&format!("{}/keys", front.prefix)))
}
