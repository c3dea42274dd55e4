//! `refresh`: new tokens now, however fresh the present ones are.

use serde_json::{Value, json};
use tokens::store::{Listing, Order};
use tokens::{Installation, InstallationId, KeeperError, Store};

use crate::cli::RefreshArgs;
use crate::config::Credentials;
use crate::exit::Exit;
use crate::explain::{self, Explained};
use crate::output::{self, moment, rfc3339};
use crate::shutdown::landing_first;
use crate::wiring::Context;

/// So many are in memory at a time where all are meant.
const PAGE: usize = 1000;

pub(crate) async fn run(args: &RefreshArgs, context: &Context) -> Result<Exit, Explained> {
    context.warn_of_source();
    let (api, credentials, settings, meant) = context.settings(|config| {
        let (api, credentials) = (config.api(), config.credentials());
        let (store, meant) = (config.store(), config.meant());
        Some((api?, credentials?, store?, meant?))
    })?;
    let Credentials::App(app) = credentials else {
        return Err(Explained::new(&context.text, "nothing_to_refresh", Exit::Usage, &[]));
    };
    let client = context.client(api)?;
    let (store, _) = context.open_store(&settings, Some(&meant)).await?;
    let one = match args.all {
        true => None,
        false => Some(context.which(store.as_ref(), args.which.named(), &meant).await?),
    };
    let keeper = context.keeper(store.clone(), &client, app).await;
    let mut worst = Exit::Good;
    let mut documents = Vec::new();
    let mut page = match &one {
        Some(id) => vec![id.clone()],
        None => next_page(context, store.as_ref(), None).await?,
    };
    while let Some(last) = page.last().cloned() {
        for id in page {
            let Some(refreshed) = landing_first(&keeper, keeper.refresh(&id)).await else {
                return Err(Explained::new(&context.text, "stopped", Exit::Failed, &[]));
            };
            if let Err(error) = &refreshed {
                worst = graver(worst, explain::keeper_error(&context.text, error).exit);
            }
            match args.json {
                true => documents.push(document(context, &id, &refreshed)),
                false => say(context, &id, &refreshed),
            }
        }
        page = match one {
            Some(_) => Vec::new(),
            None => next_page(context, store.as_ref(), Some(last)).await?,
        };
    }
    if args.json {
        output::document(&json!({ "installations": documents }));
    }
    Ok(worst)
}

/// The installations behind `after`, in the order of their ids.
async fn next_page(
    context: &Context,
    store: &dyn Store,
    after: Option<InstallationId>,
) -> Result<Vec<InstallationId>, Explained> {
    let after = after.map(|id| Listing::place(Order::Id, None, id));
    let page = store.overview(&Listing { after, ..Listing::first(PAGE) }).await;
    let page = page.map_err(|error| context.store_error(&error))?;
    Ok(page.into_iter().map(|installation| installation.id).collect())
}

/// Of two ends, the one that needs someone sooner: a person to authorise, then whoever keeps the
/// settings, then whoever keeps the location; an outage passes by itself.
fn graver(one: Exit, other: Exit) -> Exit {
    let order = [Exit::Person, Exit::Usage, Exit::Failed, Exit::Unreachable];
    order.into_iter().find(|exit| [one, other].contains(exit)).unwrap_or(Exit::Good)
}

fn say(context: &Context, id: &InstallationId, refreshed: &Result<Installation, KeeperError>) {
    match refreshed {
        Ok(installation) => {
            let whose = explain::whose(&context.text, id);
            let until = moment(installation.tokens.expires_at);
            let arguments = [("id", whose.into()), ("until", until.into())];
            output::answer(&context.text.say("refreshed-one", &arguments));
        }
        Err(error) => output::error(&context.text, &context.keeper_error(error)),
    }
}

fn document(context: &Context, id: &InstallationId, refreshed: &Result<Installation, KeeperError>) -> Value {
    let mut document = json!({ "kind": id.kind(), "id": id.as_str(), "refreshed": refreshed.is_ok() });
    match refreshed {
        Ok(installation) => {
            document["generation"] = installation.version.generation.into();
            document["expires_at"] = rfc3339(installation.tokens.expires_at).into();
        }
        Err(error) => document["error"] = context.keeper_error(error).to_json(),
    }
    document
}
