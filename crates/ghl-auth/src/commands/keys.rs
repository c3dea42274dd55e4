//! `keys`: who may ask the service for what.

use std::collections::BTreeSet;

use comfy_table::{Attribute, Cell, ContentArrangement, Table, presets};
use serde_json::{Value, json};
use server::ApiKey;
use tokens::records::{KeyRecord, Reach, Verb};
use tokens::{Allowed, Clock, InstallationId, Lane, Records, Timestamp};

use crate::cli::{KeyWanted, KeysAction};
use crate::exit::Exit;
use crate::explain::{self, Explained};
use crate::output::{self, moment, rfc3339};
use crate::text::Text;
use crate::wiring::{Context, SystemClock};

pub(crate) async fn run(action: KeysAction, context: &Context) -> Result<Exit, Explained> {
    context.warn_of_source();
    let records = context.open_records().await?;
    match action {
        KeysAction::Create(wanted) => create(wanted, records.as_ref(), context).await,
        KeysAction::List(args) => list(args.json, records.as_ref(), context).await,
        KeysAction::Revoke(args) => revoke(&args.key, args.json, records.as_ref(), context).await,
    }
}

/// Makes a key and shows it, this once: only a hash is kept.
async fn create(wanted: KeyWanted, records: &dyn Records, context: &Context) -> Result<Exit, Explained> {
    let text = &context.text;
    if (wanted.lane.is_some() || !wanted.allow.is_empty()) && !wanted.verb.contains(&Verb::Gateway) {
        return Err(Explained::new(text, "key_not_for_gateway", Exit::Usage, &[]));
    }
    let key = ApiKey::generate();
    let allowed = wanted.allow.iter().map(|one| allowed(one, text)).collect::<Result<_, _>>()?;
    let record = KeyRecord { allowed, ..record(&key, &wanted, SystemClock.now()) };
    if living(records, context).await?.iter().any(|other| other.name == record.name) {
        let arguments = [("name", record.name.into())];
        return Err(Explained::new(text, "key_name_taken", Exit::Usage, &arguments));
    }
    records.add_key(&record).await.map_err(|error| context.store_error(&error))?;
    if wanted.json {
        let mut document = document(&record);
        document["key"] = key.expose().into();
        output::document(&document);
    } else {
        output::talk(&text.say("key-made", &[("name", record.name.as_str().into())]));
        output::answer(key.expose());
    }
    Ok(Exit::Good)
}

fn allowed(one: &str, text: &Text) -> Result<Allowed, Explained> {
    one.parse().map_err(|_| {
        let shown = one.replace(char::is_control, " ");
        Explained::new(text, "bad_allow", Exit::Usage, &[("value", shown.into())])
    })
}

/// A key for one location's tokens, for the demo to show.
pub(super) async fn for_the_demo(context: &Context, location: &str) -> Result<ApiKey, Explained> {
    let records = context.open_records().await?;
    let key = ApiKey::generate();
    let wanted = KeyWanted {
        name: "demo".into(),
        key_location: location.parse().into_iter().collect(),
        key_company: Vec::new(),
        key_all: false,
        verb: vec![Verb::Token, Verb::Gateway],
        lane: None,
        allow: Vec::new(),
        expires: None,
        json: false,
    };
    let record = record(&key, &wanted, SystemClock.now());
    records.add_key(&record).await.map_err(|error| context.store_error(&error))?;
    Ok(key)
}

fn record(key: &ApiKey, wanted: &KeyWanted, now: Timestamp) -> KeyRecord {
    let locations = wanted.key_location.iter().cloned().map(InstallationId::Location);
    let companies = wanted.key_company.iter().cloned().map(InstallationId::Company);
    let reach = match wanted.key_all {
        true => Reach::All,
        false => Reach::These(locations.chain(companies).collect()),
    };
    KeyRecord {
        id: key.id(),
        name: wanted.name.clone(),
        hash: key.hash(),
        verbs: wanted.verb.iter().copied().collect::<BTreeSet<Verb>>(),
        reach,
        lane: wanted.lane.unwrap_or_default(),
        allowed: Vec::new(),
        created_at: now,
        expires_at: wanted.expires.map(|life| now + life),
        revoked_at: None,
        last_use: None,
    }
}

async fn all(records: &dyn Records, context: &Context) -> Result<Vec<KeyRecord>, Explained> {
    let keys = records.keys(None).await.map_err(|error| context.store_error(&error))?;
    Ok(keys.map(|(keys, _)| keys).unwrap_or_default())
}

async fn living(records: &dyn Records, context: &Context) -> Result<Vec<KeyRecord>, Explained> {
    Ok(all(records, context).await?.into_iter().filter(|key| key.revoked_at.is_none()).collect())
}

async fn list(as_json: bool, records: &dyn Records, context: &Context) -> Result<Exit, Explained> {
    let keys = all(records, context).await?;
    if as_json {
        output::document(&json!({ "keys": keys.iter().map(document).collect::<Vec<Value>>() }));
    } else if keys.is_empty() {
        output::answer(&context.text.say("keys-none", &[]));
    } else {
        output::answer(&table(&keys, &context.text, SystemClock.now()).to_string());
    }
    Ok(Exit::Good)
}

fn table(keys: &[KeyRecord], text: &Text, now: Timestamp) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    let heads = ["head-key", "head-name", "head-verbs", "head-reach", "head-state", "head-last-use"];
    table.set_header(heads.map(|key| Cell::new(text.say(key, &[])).add_attribute(Attribute::Bold)));
    for key in keys {
        let reach = match &key.reach {
            Reach::All => text.say("reach-all", &[]),
            Reach::These(ids) => ids.iter().map(|id| explain::whose(text, id)).collect::<Vec<_>>().join("\n"),
        };
        let last_use = match &key.last_use {
            Some(used) => format!("{} ({})", moment(used.at), used.source),
            None => text.say("never", &[]),
        };
        let mut verbs = key.verbs.iter().map(|verb| verb.as_str()).collect::<Vec<_>>().join(", ");
        if key.lane != Lane::default() {
            verbs.push_str(&format!(" ({})", key.lane.as_str()));
        }
        for allowed in &key.allowed {
            verbs.push_str(&format!("\n{allowed}"));
        }
        let row = [key.id.to_string(), key.name.clone(), verbs, reach, state(key, text, now), last_use];
        table.add_row(row);
    }
    table
}

fn state(key: &KeyRecord, text: &Text, now: Timestamp) -> String {
    match (key.revoked_at, key.expires_at) {
        (Some(at), _) => text.say("key-revoked-at", &[("at", moment(at).into())]),
        (None, Some(at)) if at <= now => text.say("key-expired-at", &[("at", moment(at).into())]),
        (None, Some(at)) => text.say("key-good-until", &[("at", moment(at).into())]),
        (None, None) => text.say("key-good", &[]),
    }
}

/// Ends a key's life, by its name or by its public part.
async fn revoke(
    named: &str,
    as_json: bool,
    records: &dyn Records,
    context: &Context,
) -> Result<Exit, Explained> {
    let text = &context.text;
    // Whoever pastes a whole key is understood, too.
    let public = ApiKey::parse(named).map_or_else(|| named.to_owned(), |key| key.id().0);
    let keys = living(records, context).await?;
    let Some(key) = keys.iter().find(|key| key.name == named || key.id.0 == public) else {
        let arguments = [("name", public.into())];
        return Err(Explained::new(text, "key_unknown", Exit::Usage, &arguments));
    };
    let now = SystemClock.now();
    records.revoke_key(&key.id, now).await.map_err(|error| context.store_error(&error))?;
    if as_json {
        output::document(&document(&KeyRecord { revoked_at: Some(now), ..key.clone() }));
    } else {
        output::answer(&text.say("key-revoked", &[("name", key.name.as_str().into())]));
    }
    Ok(Exit::Good)
}

fn document(key: &KeyRecord) -> Value {
    let of = |kind: &str| match &key.reach {
        Reach::All => Value::Null,
        Reach::These(ids) => ids.iter().filter(|id| id.kind() == kind).map(InstallationId::as_str).collect(),
    };
    json!({
        "id": key.id.0,
        "name": key.name,
        "verbs": key.verbs.iter().map(|verb| verb.as_str()).collect::<Vec<_>>(),
        "lane": key.lane.as_str(),
        "allowed": key.allowed.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "all": key.reach == Reach::All,
        "locations": of("location"),
        "companies": of("company"),
        "created_at": rfc3339(key.created_at),
        "expires_at": key.expires_at.map(rfc3339),
        "revoked_at": key.revoked_at.map(rfc3339),
        "last_use": key.last_use.as_ref().map(|used| json!({ "at": rfc3339(used.at), "source": used.source })),
    })
}
