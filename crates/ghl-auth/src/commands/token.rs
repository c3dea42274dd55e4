//! `token`: one valid access token on stdout, and nothing else.

use serde_json::json;
use tokens::{AccessToken, Served};

use super::exec;
use crate::cli::TokenArgs;
use crate::exit::Exit;
use crate::explain::Explained;
use crate::output::{self, rfc3339};
use crate::wiring::Context;

pub(crate) async fn run(args: &TokenArgs, context: &Context) -> Result<Exit, Explained> {
    let token = exec::token_for(context, args.which.named(), args.minimum_life).await?;
    if args.json {
        output::document(&document(&token));
        return Ok(Exit::Good);
    }
    let line = match args.header {
        true => format!("Authorization: Bearer {}\n", token.access().expose()),
        false => format!("{}\n", token.access().expose()),
    };
    match output::raw(line.as_bytes()) {
        Ok(()) => Ok(Exit::Good),
        Err(error) => {
            Err(Explained::new(&context.text, "output", Exit::Failed, &[("why", error.to_string().into())]))
        }
    }
}

fn document(token: &exec::Token) -> serde_json::Value {
    match token {
        exec::Token::Private(access) => {
            json!({ "access_token": access.expose(), "token_type": "Bearer" })
        }
        exec::Token::Kept(served) => kept(served),
    }
}

fn kept(Served { installation, refreshed, .. }: &Served) -> serde_json::Value {
    let access: &AccessToken = &installation.tokens.access;
    json!({
        "access_token": access.expose(),
        "token_type": "Bearer",
        "expires_at": rfc3339(installation.tokens.expires_at),
        "scope": installation.tokens.scopes,
        "user_type": installation.id.user_type(),
        format!("{}_id", installation.id.kind()): installation.id.as_str(),
        "generation": installation.version.generation,
        "refreshed": refreshed,
    })
}
