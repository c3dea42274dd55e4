//! `installs`: grants that came by themselves and wait for approval, and installations that are out of
//! service.

use comfy_table::{Attribute, Cell, ContentArrangement, Table, presets};
use serde_json::{Value, json};
use tokens::store::{Parked, Removed};
use tokens::{Clock, CompanyId, InstallationId, Store, StoreError, TokenSet};

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

/// Takes one back into service, and with a company its locations that left with it.
async fn restore(args: &ThisOne, store: &dyn Store, context: &Context) -> Result<Exit, Explained> {
    let text = &context.text;
    let Some(id) = args.id() else { return Err(Explained::new(text, "which_one", Exit::Usage, &[])) };
    let whose = explain::whose(text, &id);
    let failed = |error| context.store_error(&error);
    let along = left_with(&id, store).await.map_err(failed)?;
    // Each location as soon as what it gets its tokens from is there.
    let (by_themselves, by_company) = (along.by_themselves.iter(), along.by_company.iter());
    let (mut is_back, mut count) = (false, 0_u64);
    for one in by_themselves.chain([&id]).chain(by_company) {
        let restored = store.restore(one, SystemClock.now()).await.map_err(failed)?.is_some();
        match *one == id {
            true => is_back = restored,
            false => count += u64::from(restored),
        }
    }
    if !is_back && count == 0 {
        return Err(Explained::new(text, "not_removed", Exit::Usage, &[("id", whose.into())]));
    }
    if args.json {
        let (kind, word) = (id.kind(), id.as_str());
        output::document(&json!({ "kind": kind, "id": word, "restored": is_back, "locations": count }));
        return Ok(Exit::Good);
    }
    if is_back {
        output::answer(&text.say("install-restored", &[("id", whose.clone().into())]));
    }
    if count > 0 {
        let arguments = [("id", whose.into()), ("count", count.into())];
        output::answer(&text.say("installs-restored-with", &arguments));
    }
    Ok(Exit::Good)
}

/// The locations that left in the same instant as their company.
#[derive(Default)]
struct Along {
    /// Those with a refresh token of their own.
    by_themselves: Vec<InstallationId>,
    /// Those whose tokens come from the company's.
    by_company: Vec<InstallationId>,
}

async fn left_with(id: &InstallationId, store: &dyn Store) -> Result<Along, StoreError> {
    let mut along = Along::default();
    let InstallationId::Company(company) = id else { return Ok(along) };
    let Some(left_at) = store.removed_at(id).await? else { return Ok(along) };
    let mut after: Option<InstallationId> = None;
    loop {
        let page = store.removed(after.as_ref(), PAGE).await?;
        let Some(last) = page.last() else { return Ok(along) };
        after = Some(last.id.clone());
        let of_company = |tokens: &TokenSet| {
            tokens.parent().or(tokens.company.as_ref()).is_some_and(|named| named == company)
        };
        for one in page {
            let is_location = matches!(one.id, InstallationId::Location(_));
            let Some(tokens) = one.tokens.filter(|_| is_location && one.at == left_at) else { continue };
            match tokens.refresh_token() {
                _ if !of_company(&tokens) => {}
                Some(_) => along.by_themselves.push(one.id),
                None => along.by_company.push(one.id),
            }
        }
    }
}
