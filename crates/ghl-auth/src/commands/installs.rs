//! `installs`: grants that came by themselves and wait for approval.

use comfy_table::{Attribute, Cell, ContentArrangement, Table, presets};
use serde_json::{Value, json};
use tokens::store::Parked;
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
