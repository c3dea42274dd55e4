//! `notify --test`: tries each way by which notices leave.

use serde_json::{Value, json};

use crate::cli::NotifyArgs;
use crate::exit::Exit;
use crate::explain::{self, Explained};
use crate::output;
use crate::service::{Settings, upkeep_alone};
use crate::wiring::Context;

pub(crate) async fn run(args: &NotifyArgs, context: &Context) -> Result<Exit, Explained> {
    context.warn_of_source();
    let text = &context.text;
    let settings = context.settings(Settings::read)?;
    let outcomes = upkeep_alone(context, settings).await?.test_ways().await;
    if outcomes.is_empty() {
        return Err(Explained::new(text, "no_ways", Exit::Usage, &[]));
    }
    if args.json {
        let list: Vec<Value> = outcomes
            .iter()
            .map(|(way, outcome)| {
                let why = outcome.as_ref().err().map(ToString::to_string);
                json!({ "way": way, "taken": outcome.is_ok(), "detail": why })
            })
            .collect();
        output::document(&json!({ "ways": list }));
    }
    let mut failed = 0;
    for (way, outcome) in &outcomes {
        failed += usize::from(outcome.is_err());
        if args.json {
            continue;
        }
        match outcome {
            Ok(()) => output::good_news(&text.say("notify-arrived", &[("way", (*way).into())])),
            Err(why) => {
                let arguments =
                    [("way", (*way).into()), ("why", explain::not_delivered(text, &why.to_string()).into())];
                output::answer(&text.say("notify-did-not-arrive", &arguments));
            }
        }
    }
    match failed {
        0 => Ok(Exit::Good),
        _ if args.json => Ok(Exit::Failed),
        failed => Err(Explained::new(text, "notify_failed", Exit::Failed, &[("count", failed.into())])),
    }
}
