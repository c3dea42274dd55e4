//! `rotate-key`: everything that rests is sealed anew under the present key, while the service runs.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tokens::{Store, StoreError};

use crate::cli::RotateKeyArgs;
use crate::exit::Exit;
use crate::explain::Explained;
use crate::output;
use crate::wiring::Context;

/// So many between two looks at the bar.
const STEP: usize = 2_000;

/// An answer that has just landed is saved within moments, by whoever flies.
const WAIT: Duration = Duration::from_millis(500);
const WAITS: u32 = 20;

/// How it ended.
enum End {
    /// No record names another key.
    Done,
    /// So many answers that have landed are still under one.
    Landed(usize),
    /// These don't open; the first of them.
    Unopened { left: usize, first: StoreError },
}

pub(crate) async fn run(args: &RotateKeyArgs, context: &Context) -> Result<Exit, Explained> {
    context.warn_of_source();
    let settings = context.settings(|config| config.store())?;
    let Some(current) = settings.keys.current.as_ref().map(store::Key::id) else {
        return Err(Explained::new(&context.text, "no_key_to_rotate", Exit::Usage, &[]));
    };
    let (store, _) = context.open_store(&settings, None).await?;
    let all = store.reseal(0).await.map_err(|error| context.store_error(&error))?;
    let bar = bar(all);
    let end = seal_anew(store.as_ref(), all, &bar).await;
    bar.finish_and_clear();
    let end = end.map_err(|error| context.store_error(&error))?;
    if args.json {
        let (left, first) = match &end {
            End::Done => (0, None),
            End::Landed(left) => (*left, None),
            End::Unopened { left, first } => (*left, Some(context.store_error(first).to_json())),
        };
        let sealed_anew = all.saturating_sub(left);
        output::document(
            &json!({ "key": current, "sealed_anew": sealed_anew, "left": left, "error": first }),
        );
    }
    let key = ("key", current.into());
    match end {
        End::Done if args.json => Ok(Exit::Good),
        End::Done => {
            let anew = ("count", all.into());
            output::good_news(&context.text.say("rotated", &[anew, key]));
            if !settings.keys.old.is_empty() {
                output::answer(&context.text.say("rotated-old-keys", &[]));
            }
            Ok(Exit::Good)
        }
        End::Landed(left) => Err(Explained::new(
            &context.text,
            "landed_under_old_key",
            Exit::Failed,
            &[("count", left.into())],
        )),
        End::Unopened { left, first } => {
            output::error(&context.text, &context.store_error(&first));
            let left = ("count", left.into());
            Err(Explained::new(&context.text, "left_under_old_key", Exit::Failed, &[left]))
        }
    }
}

async fn seal_anew(store: &dyn Store, all: usize, bar: &ProgressBar) -> Result<End, StoreError> {
    let (mut before, mut waits) = (usize::MAX, 0);
    loop {
        let left = match store.reseal(STEP).await {
            Ok(0) => return Ok(End::Done),
            Ok(left) => left,
            Err(
                first @ (StoreError::SealBroken { .. }
                | StoreError::WrongKey { .. }
                | StoreError::TooNew { .. }),
            ) => {
                return Ok(End::Unopened { left: store.reseal(0).await?, first });
            }
            Err(error) => return Err(error),
        };
        bar.set_position(u64::try_from(all.saturating_sub(left)).unwrap_or_default());
        if left < before {
            (before, waits) = (left, 0);
            continue;
        }
        waits += 1;
        if waits > WAITS {
            return Ok(End::Landed(left));
        }
        tokio::time::sleep(WAIT).await;
    }
}

/// Shown where a person looks on.
fn bar(all: usize) -> ProgressBar {
    if all == 0 || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(u64::try_from(all).unwrap_or(u64::MAX));
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} {eta}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}
