//! Many grants at once: each is taken, is here already, or is refused for a reason.

use std::collections::HashMap;

use serde_json::{Value, json};
use store::template::ReadTokens;
use tokens::{Clock, Connection, Installation, InstallationId, Store, StoreError, Version};

use super::formats::{self, Entry};
use super::written_at;
use crate::cli::{ImportArgs, ImportFormat};
use crate::exit::Exit;
use crate::explain::{self, Explained};
use crate::output;
use crate::progress::Progress;
use crate::wiring::{Context, SystemClock};

/// So many are put at once.
const TOGETHER: usize = 5000;

/// So many refusals are told to people; programs get all of them.
const TOLD: usize = 20;

/// What became of the grants in a file.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// Taken in, or would be.
    pub(super) taken: usize,
    /// Here already, word for word.
    pub(super) present: usize,
    pub(super) refused: Vec<Refused>,
}

/// A grant that was not taken.
#[derive(Debug)]
pub(super) struct Refused {
    number: usize,
    /// Whose it is, or what its own program calls it.
    whose: Option<String>,
    why: String,
}

const OLDER: &str = "the store has a newer grant, or one of the same time";

pub(super) async fn run(
    args: &ImportArgs,
    context: &Context,
    store: &dyn Store,
    format: ImportFormat,
) -> Result<Exit, Explained> {
    let failed = |error: StoreError| context.store_error(&error);
    if let Some(why) = store.standby().await.map_err(failed)? {
        return Err(failed(StoreError::Standby { place: store.place(), why }));
    }
    let unreadable = |error: std::io::Error| {
        let why = explain::reason(&context.text, &error.to_string());
        let arguments = [("path", args.path.display().to_string().into()), ("why", why.into())];
        Explained::new(&context.text, "import_unreadable", Exit::Usage, &arguments)
    };
    let written_at = written_at(&args.path);
    let total = formats::entries(&args.path, format, written_at).map_err(unreadable)?.count();
    let progress = Progress::begin(&context.text, "progress-import", total as u64);
    let mut import = Import { args, store, report: Report::default(), batch: HashMap::new() };
    if !args.dry_run {
        store.begin_putting().await.map_err(failed)?;
    }
    for entry in formats::entries(&args.path, format, written_at).map_err(unreadable)? {
        import.take(entry.map_err(unreadable)?).await.map_err(failed)?;
        progress.add(1);
    }
    import.put().await.map_err(failed)?;
    if !args.dry_run {
        store.end_putting().await.map_err(failed)?;
    }
    drop(progress);
    Ok(tell(args, context, format, &import.report))
}

/// Grants on their way in.
struct Import<'a> {
    args: &'a ImportArgs,
    store: &'a dyn Store,
    report: Report,
    /// Those that are not here in any form, until they are put together.
    batch: HashMap<InstallationId, ReadTokens>,
}

impl Import<'_> {
    async fn take(&mut self, entry: Entry) -> Result<(), StoreError> {
        let Entry { number, name, read } = entry;
        let read = match read {
            Ok(read) => read,
            Err(why) => {
                self.report.refused.push(Refused { number, whose: name, why: why.to_string() });
                return Ok(());
            }
        };
        if self.batch.contains_key(&read.id) {
            // The same once more: then the first one counts as what is here.
            self.put().await?;
        }
        let present = self.store.load(&read.id).await?;
        match present {
            None => {
                self.batch.insert(read.id.clone(), read);
                if self.batch.len() >= TOGETHER {
                    self.put().await?;
                }
            }
            Some(present) if is_same(&present, &read) => self.report.present += 1,
            Some(present) if read.tokens.issued_at > present.tokens.issued_at || self.args.replace => {
                if !self.args.dry_run {
                    self.store.connect(&read.id, &read.tokens, SystemClock.now()).await?;
                }
                self.report.taken += 1;
            }
            Some(_) => {
                let whose = Some(read.id.to_string());
                self.report.refused.push(Refused { number, whose, why: OLDER.to_owned() });
            }
        }
        Ok(())
    }

    /// Puts what came together; what was out of service here begins anew, as a person's login would.
    async fn put(&mut self) -> Result<(), StoreError> {
        let batch = std::mem::take(&mut self.batch);
        self.report.taken += batch.len();
        if self.args.dry_run || batch.is_empty() {
            return Ok(());
        }
        let now = SystemClock.now();
        if batch.len() == 1 {
            for (id, read) in batch {
                self.store.connect(&id, &read.tokens, now).await?;
            }
            return Ok(());
        }
        let mut all: Vec<Installation> = batch
            .into_values()
            .map(|read| Installation {
                id: read.id,
                version: Version { epoch: 1, generation: 1 },
                tokens: read.tokens,
                previous: None,
                connection: Connection::Connected,
                intent: None,
                last_check: None,
                connected_at: now,
                name: None,
                unlisted_at: None,
            })
            .collect();
        // In the order in which they are to lie: pages are written once.
        all.sort_by(|one, other| one.id.cmp(&other.id));
        if self.store.put(&all).await? < all.len() {
            for it in &all {
                if self.store.load(&it.id).await?.is_none() {
                    self.store.connect(&it.id, &it.tokens, now).await?;
                }
            }
        }
        Ok(())
    }
}

fn is_same(present: &Installation, read: &ReadTokens) -> bool {
    present.tokens.access == read.tokens.access && present.tokens.refresh_by == read.tokens.refresh_by
}

pub(super) fn tell(args: &ImportArgs, context: &Context, format: ImportFormat, report: &Report) -> Exit {
    let text = &context.text;
    let refused = report.refused.len();
    if args.json {
        let list: Vec<Value> = report
            .refused
            .iter()
            .map(|it| json!({ "entry": it.number, "id": it.whose, "why": it.why }))
            .collect();
        output::document(&json!({
            "format": format.as_str(),
            "dry_run": args.dry_run,
            "taken": report.taken,
            "present": report.present,
            "refused": list,
        }));
    } else {
        let key = if args.dry_run { "import-would" } else { "import-did" };
        let arguments = [
            ("taken", report.taken.into()),
            ("present", report.present.into()),
            ("refused", refused.into()),
            ("format", format.as_str().into()),
        ];
        output::answer(&text.say(key, &arguments));
        for it in report.refused.iter().take(TOLD) {
            let why = explain::reason(text, &it.why);
            let arguments = [
                ("entry", it.number.into()),
                ("whose", it.whose.clone().unwrap_or_default().into()),
                ("why", why.into()),
            ];
            let key = if it.whose.is_some() { "import-refused-named" } else { "import-refused" };
            output::warning(text, &text.say(key, &arguments));
        }
        if refused > TOLD {
            output::talk(&text.say("import-refused-more", &[("count", (refused - TOLD).into())]));
        }
    }
    match refused {
        0 => Exit::Good,
        _ => Exit::Failed,
    }
}
