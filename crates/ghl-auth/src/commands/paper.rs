//! `completions` and `man`: what a shell and a reader need, made from the command line itself.

use crate::cli::{self, CompletionsArgs};
use crate::exit::Exit;
use crate::output;
use crate::text::Text;
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
        Ok(()) => written(headed(&String::from_utf8_lossy(&page), &context.text).as_bytes()),
        Err(_) => Exit::Failed,
    }
}

/// The page with its headings in the reader's language. Commands have no pages of their own.
fn headed(page: &str, text: &Text) -> String {
    let headings = [
        ("NAME", "man-name"),
        ("SYNOPSIS", "man-synopsis"),
        ("DESCRIPTION", "man-description"),
        ("EXTRA", "man-more"),
        ("VERSION", "man-version"),
    ];
    let ours = [("help-options", "man-options"), ("help-commands", "man-commands")];
    let ours = ours.map(|(heading, key)| (text.say(heading, &[]), key));
    let mut headed = String::with_capacity(page.len());
    for line in page.lines() {
        let heading = line.strip_prefix(".SH ").and_then(|heading| {
            let fixed = headings.iter().find(|(name, _)| *name == heading).map(|(_, key)| *key);
            fixed.or_else(|| {
                let same = |name: &str| name.to_lowercase() == heading.to_lowercase();
                ours.iter().find(|(name, _)| same(name)).map(|(_, key)| *key)
            })
        });
        match (heading, line.strip_prefix("ghl\\-auth\\-").and_then(|rest| rest.strip_suffix("(1)"))) {
            (Some(key), _) => headed.push_str(&format!(".SH {}", text.say(key, &[]))),
            (None, Some(command)) => headed.push_str(&format!("\\fBghl\\-auth {command}\\fR")),
            (None, None) => headed.push_str(line),
        }
        headed.push('\n');
    }
    headed
}

fn written(bytes: &[u8]) -> Exit {
    match output::raw(bytes) {
        Ok(()) => Exit::Good,
        Err(_) => Exit::Failed,
    }
}
