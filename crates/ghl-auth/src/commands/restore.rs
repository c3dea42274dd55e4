//! `restore`: a backup into a store, which stands by until it is told to take over.
//!
//! A grant's refresh tokens work once. A copy of a store that is refreshed beside the original would
//! break every grant of both, so a copy refreshes nothing before someone says that the original is out
//! of use. Answers that landed are newer than any backup: they come last, and count as the next
//! generation.

use std::collections::BTreeMap;
use std::io::{BufRead, IsTerminal};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use store::{ArchiveReader, Entry};
use tokens::records::Line;
use tokens::store::{FlightId, Landing, Removed};
use tokens::{
    Clock, Connection, Installation, InstallationId, Previous, RawAnswer, Reading, Records, Store,
    StoreError, Version,
};

use crate::cli::RestoreArgs;
use crate::config::StoreSettings;
use crate::exit::Exit;
use crate::explain::Explained;
use crate::output;
use crate::progress::Progress;
use crate::wiring::{Context, SystemClock};

/// So many are put at once.
const PAGE: usize = 2000;

/// How long the set before an answer that landed is kept.
const KEEP_PREVIOUS: Duration = Duration::from_secs(24 * 60 * 60);

/// What was put.
#[derive(Debug, Default)]
struct Restored {
    installations: usize,
    put: usize,
    landed: usize,
}

pub(crate) async fn run(args: &RestoreArgs, context: &Context) -> Result<Exit, Explained> {
    context.warn_of_source();
    let settings = context.settings(|config| config.store())?;
    let (store, _) = context.open_store(&settings, context.meant_if_any().as_ref()).await?;
    if args.take_over {
        confirm(args, context, store.as_ref()).await?;
    }
    let restored = match &args.path {
        Some(path) => Some(restore(path, args, context, &settings, &store).await?),
        None => None,
    };
    if args.take_over {
        store.set_standby(None).await.map_err(|error| context.store_error(&error))?;
        // What a store on standby could not take in.
        context
            .landing_keeper(store.clone())
            .recover()
            .await
            .map_err(|error| context.keeper_error(&error))?;
    }
    let standby = store.standby().await.map_err(|error| context.store_error(&error))?;
    let text = &context.text;
    if args.json {
        output::document(&json!({
            "installations": restored.as_ref().map(|it| it.installations),
            "put": restored.as_ref().map(|it| it.put),
            "landed": restored.as_ref().map(|it| it.landed),
            "standby": standby,
        }));
        return Ok(Exit::Good);
    }
    if let Some(Restored { installations, put, landed }) = restored {
        let arguments = [
            ("count", installations.into()),
            ("put", put.into()),
            ("landed", landed.into()),
            ("place", store.place().into()),
        ];
        output::good_news(&text.say("restore-done", &arguments));
    }
    match standby {
        Some(_) => output::answer(&text.say("restore-standby", &[])),
        None => output::answer(&text.say("restore-in-service", &[("place", store.place().into())])),
    }
    Ok(Exit::Good)
}

/// Two stores that refresh one grant break it: someone has to say that the other is out of use.
async fn confirm(args: &RestoreArgs, context: &Context, store: &dyn Store) -> Result<(), Explained> {
    if args.yes {
        return Ok(());
    }
    let text = &context.text;
    if !std::io::stdin().is_terminal() {
        return Err(Explained::new(text, "confirm", Exit::Usage, &[]));
    }
    let word = text.say("take-over-word", &[]);
    let arguments = [("place", store.place().into()), ("word", word.clone().into())];
    output::talk(&text.say("take-over-question", &arguments));
    let line = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map(|_| line)
    });
    match line.await {
        Ok(Ok(line)) if line.trim() == word => Ok(()),
        _ => Err(Explained::new(text, "not_confirmed", Exit::Failed, &[])),
    }
}

async fn restore(
    path: &Path,
    args: &RestoreArgs,
    context: &Context,
    settings: &StoreSettings,
    store: &Arc<dyn Store>,
) -> Result<Restored, Explained> {
    let failed = |error: StoreError| context.store_error(&error);
    let counts = store.counts().await.map_err(failed)?;
    let standby = store.standby().await.map_err(failed)?;
    let reason = format!("restored from {}", path.display());
    // One that was begun and cut short goes on.
    let goes_on = standby.as_ref() == Some(&reason);
    if counts.locations + counts.companies > 0 && !args.merge && !goes_on {
        let arguments = [("place", store.place().into())];
        return Err(Explained::new(&context.text, "restore_not_empty", Exit::Usage, &arguments));
    }
    // Nothing of an archive that is not whole is used.
    let total = ArchiveReader::verify(path, &settings.keys).map_err(failed)?;
    let mut archive = ArchiveReader::open(path, &settings.keys).map_err(failed)?;
    let progress = Progress::begin(&context.text, "progress-restore", total as u64);
    let mut restored = Restored::default();
    let mut load = Load::default();
    let records = Lazy { context, settings, records: None };
    let mut desk = Desk { store: store.as_ref(), records, stands_by: standby.is_some(), reason };
    store.begin_putting().await.map_err(failed)?;
    while let Some(entry) = archive.next_entry().map_err(failed)? {
        load.take(entry);
        if load.is_full() {
            progress.add(load.installations.len());
            desk.put(&mut load, &mut restored).await?;
        }
    }
    desk.put(&mut load, &mut restored).await?;
    store.end_putting().await.map_err(failed)?;
    desk.stand_by().await?;
    // Last, and those beside the store after those in the archive: they are newer than any backup.
    let ours = store.landings().await.map_err(failed)?;
    let mut landings = std::mem::take(&mut load.landings);
    landings.extend(ours.iter().cloned());
    restored.landed = land(store.as_ref(), landings).await.map_err(failed)?;
    for (flight, landing) in ours.into_iter().filter(|(_, landing)| !landing.unasked) {
        if is_readable(&landing) {
            store.free(&flight).await.map_err(failed)?;
        }
    }
    Ok(restored)
}

/// What was read and is not put yet.
#[derive(Default)]
struct Load {
    parked: Vec<(tokens::store::Parked, tokens::TokenSet)>,
    installations: Vec<Installation>,
    removed: Vec<Removed>,
    lines: Vec<Line>,
    landings: Vec<(FlightId, Landing)>,
}

impl Load {
    fn take(&mut self, entry: Entry) {
        match entry {
            Entry::Parked(parked, tokens) => self.parked.push((parked, tokens)),
            Entry::Installation(installation) => self.installations.push(*installation),
            Entry::Removed(removed) => self.removed.push(removed),
            Entry::Landing(flight, landing) => self.landings.push((flight, *landing)),
            Entry::Line(line) => self.lines.push(line),
        }
    }

    fn is_full(&self) -> bool {
        [self.parked.len(), self.installations.len(), self.removed.len(), self.lines.len()]
            .into_iter()
            .any(|length| length >= PAGE)
    }
}

/// The records, opened when there is something for them.
struct Lazy<'a> {
    context: &'a Context,
    settings: &'a StoreSettings,
    records: Option<Arc<dyn Records>>,
}

impl Lazy<'_> {
    async fn get(&mut self) -> Result<&Arc<dyn Records>, Explained> {
        if self.records.is_none() {
            self.records = Some(self.context.open_store_and_records(self.settings, None).await?.1);
        }
        Ok(self.records.as_ref().expect("they were just opened"))
    }
}

/// Where it is put.
struct Desk<'a> {
    store: &'a dyn Store,
    records: Lazy<'a>,
    stands_by: bool,
    reason: String,
}

impl Desk<'_> {
    async fn put(&mut self, load: &mut Load, restored: &mut Restored) -> Result<(), Explained> {
        let context = self.records.context;
        let failed = |error: StoreError| context.store_error(&error);
        for (parked, tokens) in std::mem::take(&mut load.parked) {
            // One that was cut short has put them already.
            if self.store.can_park() && !self.stands_by {
                self.store.park(&parked.id, &tokens, parked.at).await.map_err(failed)?;
            }
        }
        if !load.installations.is_empty() {
            // Before the first grant that a refresh could break.
            self.stand_by().await?;
            restored.installations += load.installations.len();
            restored.put += self.store.put(&load.installations).await.map_err(failed)?;
            load.installations.clear();
        }
        if !load.removed.is_empty() {
            match self.store.put_removed(&load.removed).await {
                // A file forgets what was removed; that is no reason to restore nothing.
                Err(StoreError::NoRoomFor { .. }) => {}
                put => put.map_err(failed)?,
            }
            load.removed.clear();
        }
        if !load.lines.is_empty() {
            self.records.get().await?.take_lines(&load.lines).await.map_err(failed)?;
            load.lines.clear();
        }
        Ok(())
    }

    async fn stand_by(&mut self) -> Result<(), Explained> {
        if !self.stands_by {
            let context = self.records.context;
            let stands_by = self.store.set_standby(Some(&self.reason)).await;
            stands_by.map_err(|error| context.store_error(&error))?;
            self.stands_by = true;
        }
        Ok(())
    }
}

fn is_readable(landing: &Landing) -> bool {
    granted(landing).is_some()
}

fn granted(landing: &Landing) -> Option<tokens::Grant> {
    let answer = RawAnswer { status: landing.status, body: landing.body.clone() };
    match highlevel::read_answer(&answer, landing.received_at) {
        Reading::Granted(grant) => Some(*grant),
        _ => None,
    }
}

/// Puts answers that landed over what a backup knew, each as the generation after the one that it was
/// bought with. How many were newer than what was there.
async fn land(store: &dyn Store, landings: Vec<(FlightId, Landing)>) -> Result<usize, StoreError> {
    // The newest of each installation counts.
    let mut newest: BTreeMap<InstallationId, (Version, Landing, tokens::Grant)> = BTreeMap::new();
    for (_, landing) in landings {
        let Some(grant) = granted(&landing).filter(|_| !landing.unasked) else { continue };
        let Some(id) = landing.id.clone().or_else(|| grant.id.clone()) else { continue };
        let version = landing.version;
        let is_newer = newest
            .get(&id)
            .is_none_or(|(present, other, _)| (version, landing.received_at) > (*present, other.received_at));
        if is_newer {
            newest.insert(id, (version, landing, grant));
        }
    }
    let mut count = 0;
    for (id, (bought_with, landing, grant)) in newest {
        let present = store.load(&id).await?;
        // A code's answer begins an epoch, and is newer where it came later.
        let is_first = landing.id.is_none();
        let version = match &present {
            Some(present) if is_first && present.tokens.issued_at >= landing.received_at => continue,
            Some(present) if is_first => {
                Version { epoch: present.version.epoch + 1, generation: present.version.generation + 1 }
            }
            Some(present) if bought_with < present.version => continue,
            None if is_first => Version { epoch: 1, generation: 1 },
            _ => Version { generation: bought_with.generation + 1, ..bought_with },
        };
        let previous = present.as_ref().map(|present| Previous {
            tokens: present.tokens.clone(),
            keep_until: SystemClock.now() + KEEP_PREVIOUS,
        });
        let same_epoch = present.as_ref().filter(|present| present.version.epoch == version.epoch);
        let installation = Installation {
            version,
            previous,
            connection: Connection::Connected,
            intent: None,
            last_check: present.as_ref().and_then(|present| present.last_check.clone()),
            connected_at: same_epoch.map_or(landing.received_at, |present| present.connected_at),
            name: present.as_ref().and_then(|present| present.name.clone()),
            unlisted_at: same_epoch.and_then(|present| present.unlisted_at),
            tokens: grant.tokens,
            id,
        };
        count += store.put(&[installation]).await?;
    }
    Ok(count)
}
