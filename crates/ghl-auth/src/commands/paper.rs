//! `completions` and `man`: what a shell and a reader need, made from the command line itself.

use crate::cli::{self, CompletionsArgs};
use crate::exit::Exit;
use crate::output;
use crate::wiring::Context;

pub(crate) fn completions(args: &CompletionsArgs, context: &Context) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut cli::command(&context.text), "ghl-auth", &mut script);
    written(&script)
}

pub(crate) fn man(context: &Context) -> Exit {
    let mut page = Vec::new();
    let mut command = cli::command(&context.text);
    command.build();
    let rendered = clap_mangen::Man::new(command).render(&mut page);
    match rendered {
        Ok(()) => written(&page),
        Err(_) => Exit::Failed,
    }
}

fn written(bytes: &[u8]) -> Exit {
    match output::raw(bytes) {
        Ok(()) => Exit::Good,
        Err(_) => Exit::Failed,
    }
}
