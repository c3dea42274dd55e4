//! One file for each command: arguments in, one question to the house, the answer out.

mod backup;
mod badge;
mod check;
mod dashboard;
mod demo;
mod doctor;
mod exec;
mod export;
mod import;
mod init;
mod installs;
mod keys;
mod login;
mod maintenance;
mod migrate;
mod notify;
mod paper;
mod refresh;
mod restore;
mod rotate_all;
mod rotate_key;
mod sandbox;
mod schedule;
mod serve;
mod status;
mod token;

pub(crate) use check::{first_code, say_how_safe};

use crate::cli::Command;
use crate::exit::Exit;
use crate::explain::Explained;
use crate::wiring::Context;

/// Runs a command to its exit code.
pub(crate) async fn run(command: Command, context: &Context) -> Result<Exit, Explained> {
    let app;
    let context = match command.is_about_one_app() {
        true => {
            app = context.of_one_app()?;
            &app
        }
        false => context,
    };
    match command {
        Command::Check(args) => check::run(&args, context).await,
        Command::Login(args) => login::run(args, context).await,
        Command::Token(args) => token::run(&args, context).await,
        Command::Exec(args) => exec::run(&args, context).await,
        Command::Status(args) => status::run(&args, context).await,
        Command::Refresh(args) => refresh::run(&args, context).await,
        Command::Import(args) => import::run(&args, context).await,
        Command::Export(args) => export::run(&args, context).await,
        Command::Backup(args) => backup::run(&args, context).await,
        Command::Restore(args) => restore::run(&args, context).await,
        Command::Migrate(args) => migrate::run(&args, context).await,
        Command::RotateAll(args) => rotate_all::run(&args, context).await,
        Command::Init(args) => init::run(args, context).await,
        Command::Schedule(args) => schedule::run(args.action, context),
        Command::Serve(args) => serve::run(&args, context).await,
        Command::Dashboard(args) => dashboard::run(&args, context).await,
        Command::Keys(args) => keys::run(args.action, context).await,
        Command::Badge(args) => badge::run(args.action, context).await,
        Command::Installs(args) => installs::run(args.action, context).await,
        Command::Maintenance(args) => maintenance::run(args.action, context).await,
        Command::Notify(args) => notify::run(&args, context).await,
        Command::Doctor(args) => doctor::run(&args, context).await,
        Command::RotateKey(args) => rotate_key::run(&args, context).await,
        Command::Sandbox(args) => sandbox::run(&args, context).await,
        Command::Demo(args) => demo::run(&args, context).await,
        Command::Completions(args) => Ok(paper::completions(&args, context)),
        Command::Man => Ok(paper::man(context)),
    }
}
