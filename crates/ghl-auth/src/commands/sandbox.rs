//! `sandbox`: a HighLevel of our own on loopback, for people and for other programs' tests.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use sandbox::{Sandbox, Settings};
use store::Key;

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
    let locations = args.locations.and_then(|number| usize::try_from(number).ok());
    let settings = match locations {
        Some(number) => Settings::seeded(SEED).of_agency(number),
        None => Settings::seeded(SEED),
    };
    let sandbox =
        Sandbox::builder().listen(args.listen).settings(settings).speech(Text::new(text.lang)).start().await;
    let sandbox = sandbox.map_err(|error| {
        let arguments = [("address", args.listen.to_string().into()), ("why", error.to_string().into())];
        Explained::new(text, "sandbox_listen", Exit::Usage, &arguments)
    })?;
    if let Some(path) = &args.write_env {
        let mut env = sandbox.env_file();
        if locations.is_some() {
            env.push_str(&a_place_for_many(&Key::generate()));
        }
        write_env(text, path, &env)?;
        output::answer(&text.say("sandbox-env", &[("path", path.display().to_string().into())]));
    }
    output::answer(&text.say("sandbox-ready", &[("url", sandbox.base_url().into())]));
    say_where_the_console_is(text, &sandbox);
    asked_to_stop().await;
    sandbox.stop().await;
    Ok(Exit::Good)
}

/// Says where a person can watch it, and break things.
pub(super) fn say_where_the_console_is(text: &Text, sandbox: &Sandbox) {
    if let Some(url) = sandbox.console_url() {
        output::answer(&text.say("sandbox-console", &[("url", url.into())]));
    }
}

/// An agency's locations have no room in a file, and a database takes nothing that is not sealed.
fn a_place_for_many(key: &str) -> String {
    format!(
        r#"
# Where all those tokens rest, and the key that seals them
# Onde todos esses tokens ficam guardados, e a chave que os sela
GHL_STORE="sqlite:sandbox.db"
GHL_AUTH_KEY="{key}"
"#
    )
}

/// Writes the file for its owner only, and never over one that is there: it may hold a real secret.
fn write_env(text: &Text, path: &Path, env: &str) -> Result<(), Explained> {
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(env.as_bytes())).map_err(|error| {
        let arguments = [("path", path.display().to_string().into()), ("why", error.to_string().into())];
        Explained::new(text, "write_env", Exit::Usage, &arguments)
    })
}
