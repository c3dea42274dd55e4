//! `ghl-auth` keeps every connection to GoHighLevel (HighLevel) alive, proves that it is, and hands
//! a valid token to whatever needs one.

mod cli;
mod commands;
mod config;
mod doors;
mod exit;
mod explain;
mod harden;
mod logging;
mod output;
mod owner;
mod progress;
mod service;
mod shutdown;
mod speech;
mod systemd;
mod text;
mod wiring;

use std::path::Path;
use std::process::ExitCode;

use cli::Command;
use config::Source;
use exit::Exit;
use explain::Explained;
use text::{Lang, Text};
use wiring::Context;

fn main() -> ExitCode {
    harden::process();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => {
            let exit = runtime.block_on(run());
            // A thread that waits for stdin must not keep the process.
            runtime.shutdown_background();
            exit.into()
        }
        Err(error) => {
            output::talk(&format!("ghl-auth: {error}"));
            Exit::Usage.into()
        }
    }
}

async fn run() -> Exit {
    let first_look = Source::read(None).unwrap_or_default();
    let text = Text::new(first_look.lang());
    let cli = match cli::parse(&text) {
        Ok(cli) => cli,
        Err(error) => return misused(&error, &text),
    };
    let command = cli.command.unwrap_or(Command::Check(cli::CheckArgs::default()));
    let json = command.wants_json();
    let read = match (&command, cli.env_file.as_deref()) {
        (Command::Init(_), named) => Source::read_or_begin(named.unwrap_or(Path::new(".env"))),
        (_, named) => Source::read(named),
    };
    let source = match read {
        Ok(source) => source,
        Err(unreadable) => {
            let path = unreadable.path.display().to_string();
            let why = unreadable.error.to_string();
            let arguments = [("path", path.into()), ("why", why.into())];
            return failed(&Explained::new(&text, "env_file", Exit::Usage, &arguments), &text, json);
        }
    };
    let text = if source.lang() == text.lang { text } else { Text::new(source.lang()) };
    logging::start(&source);
    let context = Context { text, source, app: cli.app, throwaway: false };
    match commands::run(command, &context).await {
        Ok(exit) => exit,
        Err(error) => failed(&error, &context.text, json),
    }
}

fn failed(error: &Explained, text: &Text, json: bool) -> Exit {
    if json {
        output::document(&serde_json::json!({ "outcome": "error", "error": error.to_json() }));
    } else {
        output::error(text, error);
    }
    error.exit
}

fn misused(error: &clap::Error, text: &Text) -> Exit {
    match cli::mistake(error, text) {
        Some(mistake) => {
            output::talk(&mistake);
            Exit::Usage
        }
        None => {
            // Help and version are the answer; a reader that has gone away does not matter.
            let _ = error.print();
            Exit::Good
        }
    }
}

impl Source {
    fn lang(&self) -> Lang {
        match self.find("GHL_AUTH_LANG") {
            config::Found::Value(name) => Lang::choose(Some(&name)),
            _ => Lang::choose(None),
        }
    }
}
