//! `exec`: another program, with a valid token in its environment and none of our secrets.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use tokens::{AccessToken, InstallationId, Served};

use crate::cli::ExecArgs;
use crate::config::{Credentials, variables};
use crate::exit::Exit;
use crate::explain::{self, Explained};
use crate::harden;
use crate::output;
use crate::shutdown::landing_first;
use crate::wiring::Context;

/// A token that may be used now.
pub(crate) enum Token {
    /// Of a grant.
    Kept(Box<Served>),
    /// A Private Integration Token.
    Private(AccessToken),
}

impl Token {
    pub(crate) fn access(&self) -> &AccessToken {
        match self {
            Self::Kept(served) => &served.installation.tokens.access,
            Self::Private(token) => token,
        }
    }
}

pub(crate) async fn run(args: &ExecArgs, context: &Context) -> Result<Exit, Explained> {
    let token = token_for(context, args.which.named(), args.minimum_life).await?;
    let Some((program, arguments)) = args.program.split_first() else {
        return Ok(Exit::Usage);
    };
    let mut command = Command::new(program);
    command.args(arguments).env("GHL_ACCESS_TOKEN", token.access().expose());
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(variables::is_secret) {
            command.env_remove(name);
        }
    }
    harden::give_mask_back();
    // On success the program takes this process's place, and its exit code is ours.
    let error = command.exec();
    let arguments =
        [("program", program.to_string_lossy().into_owned().into()), ("why", error.to_string().into())];
    Err(Explained::new(&context.text, "exec", Exit::Usage, &arguments))
}

/// A valid token of the installation that is meant; a trouble behind it goes to stderr.
pub(crate) async fn token_for(
    context: &Context,
    named: Option<InstallationId>,
    minimum_life: Duration,
) -> Result<Token, Explained> {
    context.warn_of_source();
    let (api, credentials) = context.settings(|config| {
        let (api, credentials) = (config.api(), config.credentials());
        if matches!(credentials, Some(Credentials::App(_)) | None) {
            (config.store(), config.meant()).0?;
        }
        Some((api?, credentials?))
    })?;
    let app = match credentials {
        Credentials::Private(token) => return Ok(Token::Private(token)),
        Credentials::App(app) => app,
    };
    let (settings, meant) = context.settings(|config| Some((config.store()?, config.meant()?)))?;
    let client = context.client(api)?;
    let (store, _) = context.open_store(&settings, Some(&meant)).await?;
    let id = context.which(store.as_ref(), named, &meant).await?;
    let keeper = context.keeper(store, &client, app).await;
    let Some(served) = landing_first(&keeper, keeper.token(&id, minimum_life)).await else {
        return Err(Explained::new(&context.text, "stopped", Exit::Failed, &[]));
    };
    let served = served.map_err(|error| context.keeper_error(&error))?;
    if let Some(error) = &served.warning {
        let why = explain::keeper_error(&context.text, error).detail;
        let until = explain::until(served.installation.tokens.expires_at);
        let arguments = [("why", why.into()), ("until", until)];
        output::warning(&context.text, &context.text.say("warning-refresh-failed", &arguments));
    }
    Ok(Token::Kept(Box::new(served)))
}
