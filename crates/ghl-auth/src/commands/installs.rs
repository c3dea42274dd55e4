//! `installs`: grants that came by themselves and wait for approval, and installations that are out of
//! service.

use comfy_table::{Attribute, Cell, ContentArrangement, Table, presets};
use serde_json::{Value, json};
use tokens::store::{Parked, Removed};
use tokens::{Clock, CompanyId, InstallationId, Store};

use crate::cli::{InstallsAction, ThisOne};
use crate::exit::Exit;
use crate::explain::{self, Explained};
use crate::output::{self, moment, rfc3339};
use crate::wiring::{Context, SystemClock};

pub(crate) async fn run(action: InstallsAction, context: &Context) -> Result<Exit, Explained> {
    context.warn_of_source();
    let settings = context.settings(|config| config.store())?;
    let (store, _) = context.open_store(&settings, None).await?;
    match action {
        InstallsAction::List(args) => list(args.json, store.as_ref(), context).await,
        InstallsAction::Approve(args) => decide(&args, true, store.as_ref(), context).await,
        InstallsAction::Refuse(args) => decide(&args, false, store.as_ref(), context).await,
        InstallsAction::Removed(args) => removed(args.json, store.as_ref(), context).await,
        InstallsAction::Restore(args) => restore(&args, store.as_ref(), context).await,
    }
}

async fn list(as_json: bool, store: &dyn Store, context: &Context) -> Result<Exit, Explained> {
    let text = &context.text;
    let parked = store.parked().await.map_err(|error| context.store_error(&error))?;
    if as_json {
        output::document(&json!({ "waiting": parked.iter().map(document).collect::<Vec<Value>>() }));
        return Ok(Exit::Good);
    }
    if parked.is_empty() {
        output::answer(&text.say("installs-none", &[]));
        return Ok(Exit::Good);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    let heads = ["head-installation", "head-came", "head-scopes"];
    table.set_header(heads.map(|key| Cell::new(text.say(key, &[])).add_attribute(Attribute::Bold)));
    for one in &parked {
        table.add_row([explain::whose(text, &one.id), moment(one.at), one.scopes.clone()]);
    }
    output::answer(&table.to_string());
    Ok(Exit::Good)
}

fn document(parked: &Parked) -> Value {
    json!({
        "kind": parked.id.kind(),
        "id": parked.id.as_str(),
        "company_id": parked.company.as_ref().map(CompanyId::as_str),
        "scope": parked.scopes,
        "at": rfc3339(parked.at),
    })
}

async fn decide(
    args: &ThisOne,
    approved: bool,
    store: &dyn Store,
    context: &Context,
) -> Result<Exit, Explained> {
    let text = &context.text;
    let Some(id) = args.id() else { return Err(Explained::new(text, "which_one", Exit::Usage, &[])) };
    let whose = explain::whose(text, &id);
    let found = match approved {
        true => store.approve(&id, SystemClock.now()).await.map(|served| served.is_some()),
        false => store.dismiss(&id).await,
    };
    if !found.map_err(|error| context.store_error(&error))? {
        return Err(Explained::new(text, "not_parked", Exit::Usage, &[("id", whose.into())]));
    }
    if args.json {
        output::document(&decision(&id, approved));
    } else {
        let key = if approved { "install-approved" } else { "install-refused" };
        output::answer(&text.say(key, &[("id", whose.into())]));
    }
    Ok(Exit::Good)
}

fn decision(id: &InstallationId, approved: bool) -> Value {
    json!({ "kind": id.kind(), "id": id.as_str(), "approved": approved })
}

/// So many are read together.
const PAGE: usize = 1000;

async fn removed(as_json: bool, store: &dyn Store, context: &Context) -> Result<Exit, Explained> {
    let text = &context.text;
    let mut all: Vec<Removed> = Vec::new();
    loop {
        let page = store.removed(all.last().map(|one| &one.id), PAGE).await;
        let page = page.map_err(|error| context.store_error(&error))?;
        if page.is_empty() {
            break;
        }
        all.extend(page);
    }
    if as_json {
        let list: Vec<Value> = all.iter().map(removed_document).collect();
        output::document(&json!({ "removed": list }));
        return Ok(Exit::Good);
    }
    if all.is_empty() {
        output::answer(&text.say("installs-none-removed", &[]));
        return Ok(Exit::Good);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    let heads = ["head-installation", "head-removed", "head-tokens"];
    table.set_header(heads.map(|key| Cell::new(text.say(key, &[])).add_attribute(Attribute::Bold)));
    for one in &all {
        let tokens = if one.tokens.is_some() { "tokens-kept" } else { "tokens-none" };
        table.add_row([explain::whose(text, &one.id), moment(one.at), text.say(tokens, &[])]);
    }
    output::answer(&table.to_string());
    Ok(Exit::Good)
}

fn removed_document(removed: &Removed) -> Value {
    json!({
        "kind": removed.id.kind(),
        "id": removed.id.as_str(),
        "at": rfc3339(removed.at),
        "tokens_kept": removed.tokens.is_some(),
    })
}

async fn restore(args: &ThisOne, store: &dyn Store, context: &Context) -> Result<Exit, Explained> {
    let text = &context.text;
    let Some(id) = args.id() else { return Err(Explained::new(text, "which_one", Exit::Usage, &[])) };
    let whose = explain::whose(text, &id);
    let restored =
        store.restore(&id, SystemClock.now()).await.map_err(|error| context.store_error(&error))?;
    if restored.is_none() {
        return Err(Explained::new(text, "not_removed", Exit::Usage, &[("id", whose.into())]));
    }
    match args.json {
        true => output::document(&json!({ "kind": id.kind(), "id": id.as_str(), "restored": true })),
        false => output::answer(&text.say("install-restored", &[("id", whose.into())])),
    }
    Ok(Exit::Good)
}
