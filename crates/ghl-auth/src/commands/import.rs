//! `import`: grants that others have kept. The template's `ghl_tokens.json`, whole or cut short by the
//! template's own bug, holds one; what other programs export holds many.

mod formats;
mod many;

use std::path::Path;
use std::time::UNIX_EPOCH;

use serde_json::json;
use store::template::read_template;
use tokens::{Clock, Timestamp};

use crate::cli::{ImportArgs, ImportFormat};
use crate::config::Meant;
use crate::exit::Exit;
use crate::explain::{self, Explained};
use crate::output::{self, moment, rfc3339};
use crate::wiring::{Context, SystemClock};

pub(crate) async fn run(args: &ImportArgs, context: &Context) -> Result<Exit, Explained> {
    context.warn_of_source();
    let text = &context.text;
    let (settings, meant) = context.settings(|config| {
        let (store, meant) = (config.store(), config.meant());
        Some((store?, meant?))
    })?;
    let path = args.path.display().to_string();
    let unreadable = |why: String| {
        let arguments = [("path", path.clone().into()), ("why", why.into())];
        Explained::new(text, "import_unreadable", Exit::Usage, &arguments)
    };
    let format =
        formats::recognise(&args.path, args.format).map_err(|error| unreadable(error.to_string()))?;
    if let Some(format) = format {
        let (store, _) = context.open_store(&settings, Some(&meant)).await?;
        return many::run(args, context, store.as_ref(), format).await;
    }
    let bytes = std::fs::read(&args.path).map_err(|error| unreadable(error.to_string()))?;
    let (store, _) = context.open_store(&settings, Some(&meant)).await?;
    let otherwise = match &meant {
        Meant::Installation(id) => Some(id),
        Meant::AnyCompany | Meant::AnyLocation => None,
    };
    let read = read_template(&bytes, written_at(&args.path), otherwise)
        .map_err(|none| unreadable(explain::reason(text, &none.to_string())))?;
    let id = read.id.clone();
    let present = store.load(&id).await.map_err(|error| context.store_error(&error))?;
    let present = present.filter(|present| present.tokens.refresh_by != read.tokens.refresh_by);
    if present.is_some() && !args.replace {
        let arguments = [("id", explain::whose(text, &id).into())];
        return Err(Explained::new(text, "import_present", Exit::Usage, &arguments));
    }
    if args.dry_run {
        let plan = many::Report { taken: 1, ..many::Report::default() };
        return Ok(many::tell(args, context, ImportFormat::Template, &plan));
    }
    let now = SystemClock.now();
    let installation =
        store.connect(&id, &read.tokens, now).await.map_err(|error| context.store_error(&error))?;
    if read.cut_short {
        output::warning(text, &text.say("warning-cut-short", &[("path", path.into())]));
    }
    if args.json {
        output::document(&json!({
            "kind": id.kind(),
            "id": id.as_str(),
            "generation": installation.version.generation,
            "expires_at": rfc3339(installation.tokens.expires_at),
            "was_cut_short": read.cut_short,
        }));
    } else {
        let until = moment(installation.tokens.expires_at);
        let arguments = [("id", explain::whose(text, &id).into()), ("until", until.into())];
        output::answer(&text.say("imported", &arguments));
    }
    Ok(Exit::Good)
}

/// When the file was last written: what the template's `expires_in` counts from.
fn written_at(path: &Path) -> Timestamp {
    let modified = std::fs::metadata(path).and_then(|meta| meta.modified()).ok();
    let since = modified.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    match since.and_then(|since| i64::try_from(since.as_millis()).ok()) {
        Some(millis) => Timestamp::from_millis(millis),
        None => SystemClock.now(),
    }
}
