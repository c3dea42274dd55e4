//! `backup`: everything that the store keeps, sealed, in one file, while the service runs.

use serde_json::json;
use store::{ArchiveWriter, Entry};
use tokens::{Clock, InstallationId};

use crate::cli::BackupArgs;
use crate::exit::Exit;
use crate::explain::Explained;
use crate::output;
use crate::progress::Progress;
use crate::wiring::{Context, SystemClock};

/// So many are read at once.
const PAGE: usize = 500;

pub(crate) async fn run(args: &BackupArgs, context: &Context) -> Result<Exit, Explained> {
    context.warn_of_source();
    let settings = context.settings(|config| config.store())?;
    let (store, _) = context.open_store(&settings, context.meant_if_any().as_ref()).await?;
    let records = context.records_if_any(&settings).await?;
    let archive = ArchiveWriter::create(&args.path, &settings.keys, SystemClock.now());
    let mut archive = archive.map_err(|error| context.store_error(&error))?;
    let written = async {
        let all = store.counts().await?;
        let progress = Progress::begin(&context.text, "progress-backup", all.locations + all.companies);
        for (parked, tokens) in store.parked_grants().await? {
            archive.add(&Entry::Parked(parked, tokens))?;
        }
        let (mut after, mut count): (Option<InstallationId>, usize) = (None, 0);
        loop {
            let page = store.list(after.as_ref(), PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.id.clone());
            count += page.len();
            progress.add(page.len());
            for installation in page {
                archive.add(&Entry::Installation(Box::new(installation)))?;
            }
        }
        let mut after = None;
        loop {
            let page = store.removed(after.as_ref(), PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.id.clone());
            for removed in page {
                archive.add(&Entry::Removed(removed))?;
            }
        }
        // After the installations: an answer that is saved meanwhile is in one of the two.
        for (flight, landing) in store.landings().await? {
            archive.add(&Entry::Landing(flight, Box::new(landing)))?;
        }
        if let Some(records) = &records {
            let mut after = None;
            loop {
                let page = records.lines(after.as_ref(), PAGE).await?;
                let Some(last) = page.last() else { break };
                after = Some(last.clone());
                for line in page {
                    archive.add(&Entry::Line(line))?;
                }
            }
        }
        archive.finish()?;
        Ok::<usize, tokens::StoreError>(count)
    };
    let count = written.await.map_err(|error| context.store_error(&error))?;
    let path = args.path.display().to_string();
    match args.json {
        true => output::document(&json!({ "path": path, "installations": count })),
        false => {
            let arguments = [("path", path.into()), ("count", count.into())];
            output::good_news(&context.text.say("backup-done", &arguments));
        }
    }
    Ok(Exit::Good)
}
