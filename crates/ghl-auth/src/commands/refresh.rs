//! `refresh`: new tokens now, however fresh the present ones are.

use serde_json::{Value, json};
use tokens::store::Listing;
use tokens::{Installation, InstallationId, KeeperError};

use crate::cli::RefreshArgs;
use crate::config::Credentials;
use crate::exit::Exit;
use crate::explain::{self, Explained};
use crate::output::{self, moment, rfc3339};
use crate::shutdown::landing_first;
use crate::wiring::Context;

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
    let ids: Vec<InstallationId> = match args.all {
        true => {
            let all = store.overview(&Listing::ALL).await.map_err(|error| context.store_error(&error))?;
            all.into_iter().map(|installation| installation.id).collect()
        }
        false => vec![context.which(store.as_ref(), args.which.named(), &meant).await?],
    };
    let keeper = context.keeper(store, &client, app).await;
    let mut worst = Exit::Good;
    let mut documents = Vec::new();
    for id in ids {
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
    if args.json {
        output::document(&json!({ "installations": documents }));
    }
    Ok(worst)
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
