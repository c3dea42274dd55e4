//! `sandbox`: a HighLevel of our own on loopback, for people and for other programs' tests.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use sandbox::{Sandbox, Settings};

use crate::cli::SandboxArgs;
use crate::exit::Exit;
use crate::explain::Explained;
use crate::output;
use crate::shutdown::asked_to_stop;
use crate::text::Text;
use crate::wiring::Context;

/// The same ids and secrets in every run, so that an `.env` written once stays good.
const SEED: u64 = 1;

pub(crate) async fn run(args: &SandboxArgs, context: &Context) -> Result<Exit, Explained> {
    let text = &context.text;
    let sandbox =
        Sandbox::builder().listen(args.listen).settings(Settings::seeded(SEED)).start().await.map_err(
            |error| {
                let arguments =
                    [("address", args.listen.to_string().into()), ("why", error.to_string().into())];
                Explained::new(text, "sandbox_listen", Exit::Usage, &arguments)
            },
        )?;
    if let Some(path) = &args.write_env {
        write_env(text, path, &sandbox.env_file())?;
        output::answer(&text.say("sandbox-env", &[("path", path.display().to_string().into())]));
    }
    output::answer(&text.say("sandbox-ready", &[("url", sandbox.base_url().into())]));
    asked_to_stop().await;
    sandbox.stop().await;
    Ok(Exit::Good)
}

/// Writes the file for its owner only, and never over one that is there: it may hold a real secret.
fn write_env(text: &Text, path: &Path, env: &str) -> Result<(), Explained> {
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(env.as_bytes())).map_err(|error| {
        let arguments = [("path", path.display().to_string().into()), ("why", error.to_string().into())];
        Explained::new(text, "write_env", Exit::Usage, &arguments)
    })
}
