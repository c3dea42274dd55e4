//! `export`: a grant in the template's format, for another program or another machine.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use crate::cli::ExportArgs;
use crate::exit::Exit;
use crate::explain::Explained;
use crate::output;
use crate::wiring::Context;

pub(crate) async fn run(args: &ExportArgs, context: &Context) -> Result<Exit, Explained> {
    context.warn_of_source();
    let (settings, meant) = context.settings(|config| {
        let (store, meant) = (config.store(), config.meant());
        Some((store?, meant?))
    })?;
    let (store, _) = context.open_store(&settings, Some(&meant)).await?;
    let id = context.which(store.as_ref(), args.which.named(), &meant).await?;
    let installation = store
        .load(&id)
        .await
        .map_err(|error| context.store_error(&error))?
        .ok_or_else(|| context.keeper_error(&tokens::KeeperError::NotConnected(id)))?;
    let json = store::template::to_template_json(&installation);
    let written = match &args.output {
        None => output::raw(&json),
        Some(path) => {
            let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
            file.and_then(|mut file| file.write_all(&json).and_then(|()| file.sync_all()))
        }
    };
    written.map_err(|error| {
        Explained::new(&context.text, "output", Exit::Failed, &[("why", error.to_string().into())])
    })?;
    output::warning(&context.text, &context.text.say("warning-exported", &[]));
    Ok(Exit::Good)
}
