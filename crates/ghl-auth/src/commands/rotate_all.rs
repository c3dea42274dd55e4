//! `rotate-all`: after a leak, new tokens for every grant, and the leaked ones out of use.
//!
//! A grant whose tokens were issued after the start is skipped, so a run that was cut short goes on
//! where it was when it knows the start of the first: it is remembered for a day, or told. Companies
//! come first: their locations' tokens may be minted from theirs.

use std::time::Duration;

use serde_json::{Value, json};
use tokens::records::Visit;
use tokens::store::{Listing, Stand};
use tokens::{Clock, InstallationId, Keeper, KeeperError, Overview, Records, Store, StoreError, Timestamp};
use tokio::task::JoinSet;

use crate::cli::RotateAllArgs;
use crate::config::Credentials;
use crate::exit::Exit;
use crate::explain::{self, Explained};
use crate::output::{self, rfc3339};
use crate::progress::Progress;
use crate::shutdown::landing_first;
use crate::wiring::{Context, SystemClock};

/// So many are begun at once; the Keeper lets no more into the air.
const AT_ONCE: usize = 8;

const PAGE: usize = 500;

/// What was cut short longer ago is not gone on with: a run after that is about another leak.
const REMEMBERED_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// Under this the start is remembered among the visits, which keep an instant and give it back once, in
/// every kind of records. It is no hash of anything, so no browser can bring the `state` for it.
const START: [u8; 32] = *b"the start of a rotate-all, begun";

/// How it went.
#[derive(Default)]
struct Report {
    rotated: u64,
    skipped: u64,
    failed: Vec<(InstallationId, KeeperError)>,
}

pub(crate) async fn run(args: &RotateAllArgs, context: &Context) -> Result<Exit, Explained> {
    context.warn_of_source();
    let (api, credentials, settings) =
        context.settings(|config| Some((config.api()?, config.credentials()?, config.store()?)))?;
    let Credentials::App(app) = credentials else {
        return Err(Explained::new(&context.text, "nothing_to_refresh", Exit::Usage, &[]));
    };
    let client = context.client(api)?;
    let meant = context.meant_if_any();
    let (store, records, _) = context.open_store_and_records(&settings, meant.as_ref()).await?;
    if let Some(why) = store.standby().await.map_err(|error| context.store_error(&error))? {
        let standby = StoreError::Standby { place: store.place(), why };
        return Err(context.store_error(&standby));
    }
    let keeper = context.keeper(store.clone(), &client, app).await;
    // Whole seconds, as they are told: what was issued in this very second is done once more.
    let now = SystemClock.now().as_millis();
    let now = Timestamp::from_millis(now - now.rem_euclid(1000));
    let failed = |error| context.store_error(&error);
    let cut_short = take_start(records.as_ref(), now).await.map_err(failed)?;
    let since = args.since.or(cut_short).unwrap_or(now);
    remember_start(records.as_ref(), since).await.map_err(failed)?;
    let text = &context.text;
    let begun = [("since", rfc3339(since).into()), ("now", rfc3339(now).into())];
    if args.since.is_none() && cut_short.is_some() {
        output::talk(&text.say("rotate-all-goes-on", &begun));
    }
    output::talk(&text.say("rotate-all-begins", &begun[..1]));
    let Some(report) = landing_first(&keeper, rotate(context, &keeper, store.as_ref(), since)).await else {
        let arguments = [("since", rfc3339(since).into())];
        return Err(Explained::new(text, "rotate_all_stopped", Exit::Failed, &arguments));
    };
    let report = report.map_err(failed)?;
    // Those that failed are named; they may need a person, and must not keep the next run from all others.
    take_start(records.as_ref(), now).await.map_err(failed)?;
    Ok(tell(args, context, since, &report))
}

/// The start of a run that was cut short, remembered no more.
async fn take_start(records: &dyn Records, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
    let start = records.take_visit(&START, now).await?.map(|visit| visit.expires_at - REMEMBERED_FOR);
    // One from a clock that was ahead would have everything done over and over.
    Ok(start.filter(|start| *start <= now))
}

async fn remember_start(records: &dyn Records, since: Timestamp) -> Result<(), StoreError> {
    let visit = Visit { state: START, browser: [0; 32], expires_at: since + REMEMBERED_FOR };
    records.open_visit(&visit).await
}

async fn rotate(
    context: &Context,
    keeper: &Keeper,
    store: &dyn Store,
    since: Timestamp,
) -> Result<Report, StoreError> {
    let counts = store.counts().await?;
    let progress = Progress::begin(&context.text, "progress-rotate-all", counts.locations + counts.companies);
    let mut report = Report::default();
    let mut flights = JoinSet::new();
    for kind in ["company", "location"] {
        let mut after: Option<Overview> = None;
        loop {
            let page = store.overview(&Listing { after: after.take(), ..Listing::first(PAGE) }).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.clone());
            for it in page.into_iter().filter(|it| it.id.kind() == kind) {
                if it.issued_at >= since {
                    report.skipped += 1;
                    progress.add(1);
                    continue;
                }
                if Stand::of(&it) == Stand::Broken {
                    // Its tokens are out of use already, and only a person can bring new ones.
                    let broken = match it.connection {
                        tokens::Connection::Broken(broken) => broken,
                        _ => continue,
                    };
                    report.failed.push((it.id.clone(), KeeperError::NeedsPerson { id: it.id, broken }));
                    progress.add(1);
                    continue;
                }
                while flights.len() >= AT_ONCE {
                    report.note(flights.join_next().await, &progress);
                }
                let keeper = keeper.clone();
                flights.spawn(async move {
                    let done = keeper.refresh(&it.id).await;
                    (it.id, done.map(drop))
                });
            }
        }
        while !flights.is_empty() {
            report.note(flights.join_next().await, &progress);
        }
    }
    Ok(report)
}

type Ended = (InstallationId, Result<(), KeeperError>);

impl Report {
    fn note(&mut self, ended: Option<Result<Ended, tokio::task::JoinError>>, progress: &Progress) {
        progress.add(1);
        match ended {
            Some(Ok((_, Ok(())))) => self.rotated += 1,
            Some(Ok((id, Err(error)))) => self.failed.push((id, error)),
            // A task that broke off has landed its flight in a task of its own.
            Some(Err(_)) | None => {}
        }
    }
}

fn tell(args: &RotateAllArgs, context: &Context, since: Timestamp, report: &Report) -> Exit {
    let text = &context.text;
    let failed = report.failed.len();
    if args.json {
        let failures: Vec<Value> = report
            .failed
            .iter()
            .map(|(id, error)| {
                let error = context.keeper_error(error).to_json();
                json!({ "kind": id.kind(), "id": id.as_str(), "error": error })
            })
            .collect();
        output::document(&json!({
            "since": rfc3339(since),
            "rotated": report.rotated,
            "skipped": report.skipped,
            "failed": failures,
        }));
    } else {
        let arguments = [
            ("rotated", report.rotated.into()),
            ("skipped", report.skipped.into()),
            ("failed", failed.into()),
        ];
        output::answer(&text.say("rotate-all-done", &arguments));
        for (id, error) in &report.failed {
            let why = context.keeper_error(error);
            let arguments = [("id", explain::whose(text, id).into()), ("why", why.detail.clone().into())];
            output::warning(text, &text.say("rotate-all-failed", &arguments));
        }
        if failed > 0 {
            let arguments = [("since", rfc3339(since).into())];
            output::talk(&text.say("rotate-all-again", &arguments));
        }
    }
    match failed {
        0 => Exit::Good,
        _ => Exit::Failed,
    }
}
