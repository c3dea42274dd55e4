//! `migrate`: all grants from one store to another, without a moment in which both refresh.
//!
//! The source stands by first: flights land, and none begins. What landed and was not saved is saved.
//! Then everything is copied, with its versions, to a target that stands by too, and both are compared.
//! In the end the source says where its grants went, and the target takes over. A kill at any point
//! leaves two stores that stand by, or one that does not, and never two that refresh; run again, it goes
//! on.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use store::StoreUrl;
use tokens::records::Line;
use tokens::store::{Counts, Listing};
use tokens::{InstallationId, Overview, Records, Store, StoreError};
use tokio::time::{Instant, sleep};

use crate::cli::MigrateArgs;
use crate::config::StoreSettings;
use crate::exit::Exit;
use crate::explain::Explained;
use crate::output;
use crate::progress::Progress;
use crate::wiring::Context;

/// So many are copied at once.
const PAGE: usize = 4000;

/// Flights land within this time: HighLevel has thirty seconds, and the store a while.
const FLIGHTS_LAND_WITHIN: Duration = Duration::from_secs(60);

const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Both ends of the way.
struct Way {
    from: Arc<dyn Store>,
    remembered: Option<Arc<dyn Records>>,
    to: Arc<dyn Store>,
    remembers: Arc<dyn Records>,
}

/// What stopped it on the way.
enum Stop {
    Store(StoreError),
    Told(Explained),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

pub(crate) async fn run(args: &MigrateArgs, context: &Context) -> Result<Exit, Explained> {
    context.warn_of_source();
    let way = Way::open(args, context).await?;
    if args.give_up {
        return way.give_up(args, context).await;
    }
    if way.is_done().await.map_err(|error| context.store_error(&error))? {
        return Ok(done(args, context, &way, "migrate-done-before", &Counts::default()));
    }
    way.refuse_a_target_in_use(context).await?;
    match way.go(context).await {
        Ok(counts) => Ok(done(args, context, &way, "migrate-done", &counts)),
        Err(stop) => {
            let why = match stop {
                Stop::Store(error) => context.store_error(&error),
                Stop::Told(told) => told,
            };
            // Only where something was begun is there something to go back from.
            match way.from.standby().await {
                Ok(Some(_)) => {
                    let arguments = [("why", why.detail.into()), ("cure", why.action.into())];
                    Err(Explained::new(&context.text, "migrate_stopped", Exit::Failed, &arguments))
                }
                _ => Err(why),
            }
        }
    }
}

fn done(args: &MigrateArgs, context: &Context, way: &Way, key: &str, counts: &Counts) -> Exit {
    let count = counts.locations + counts.companies;
    match args.json {
        true => output::document(&json!({
            "from": way.from.place(), "to": way.to.place(), "installations": count,
        })),
        false => {
            let arguments =
                [("count", count.into()), ("from", way.from.place().into()), ("to", way.to.place().into())];
            output::good_news(&context.text.say(key, &arguments));
        }
    }
    Exit::Good
}

impl Way {
    async fn open(args: &MigrateArgs, context: &Context) -> Result<Self, Explained> {
        let given = context.settings(|config| config.store())?;
        let url = |text: &str| {
            StoreUrl::parse(text).map_err(|error| {
                let arguments = [("why", error.to_string().into())];
                Explained::new(&context.text, "migrate_address", Exit::Usage, &arguments)
            })
        };
        let (from, to) = (url(&args.from)?, url(&args.to)?);
        let refused = |code| Err(Explained::new(&context.text, code, Exit::Usage, &[]));
        if from == to {
            return refused("migrate_same");
        }
        if matches!(to, StoreUrl::File(_)) {
            return refused("migrate_to_file");
        }
        if let Some(path) = from.path().filter(|path| !path.exists()) {
            let arguments = [("place", path.display().to_string().into())];
            return Err(Explained::new(&context.text, "migrate_nothing", Exit::Usage, &arguments));
        }
        let meant = context.meant_if_any();
        let settings = |url: &StoreUrl| StoreSettings { url: url.clone(), ..given.clone() };
        let (source, _) = context.open_store(&settings(&from), meant.as_ref()).await?;
        let remembered = context.records_if_any(&settings(&from)).await?;
        let (target, remembers, _) = context.open_store_and_records(&settings(&to), None).await?;
        Ok(Self { from: source, remembered, to: target, remembers })
    }

    fn moving(&self) -> String {
        format!("moving to {}", self.to.place())
    }

    fn moved(&self) -> String {
        format!("moved to {}", self.to.place())
    }

    fn being_filled(&self) -> String {
        format!("being filled from {}", self.from.place())
    }

    /// Whether an earlier run came to its end.
    async fn is_done(&self) -> Result<bool, StoreError> {
        let moved = self.from.standby().await? == Some(self.moved());
        Ok(moved && self.to.standby().await?.is_none())
    }

    /// What is in the target has to be of this very way; two houses don't become one.
    async fn refuse_a_target_in_use(&self, context: &Context) -> Result<(), Explained> {
        let failed = |error: StoreError| context.store_error(&error);
        let standby = self.to.standby().await.map_err(failed)?;
        if standby == Some(self.being_filled()) {
            return Ok(());
        }
        let counts = self.to.counts().await.map_err(failed)?;
        let given_up = standby.is_some_and(|why| why == format!("given up for {}", self.from.place()));
        if counts.locations + counts.companies > 0 && !given_up {
            let arguments = [("place", self.to.place().into())];
            return Err(Explained::new(&context.text, "migrate_target_in_use", Exit::Usage, &arguments));
        }
        Ok(())
    }

    async fn go(&self, context: &Context) -> Result<Counts, Stop> {
        let keeper = context.landing_keeper(self.from.clone());
        // While the source still takes in what a person has authorised; what is left is looked at below.
        let _ = keeper.recover().await;
        self.stand_by().await?;
        let _ = keeper.recover().await;
        let left = self.from.landings().await?.len();
        if left > 0 {
            let arguments = [("count", left.into()), ("place", self.from.place().into())];
            return Err(Stop::Told(Explained::new(
                &context.text,
                "migrate_landings",
                Exit::Failed,
                &arguments,
            )));
        }
        self.copy_parked().await?;
        self.to.set_standby(Some(&self.being_filled())).await?;
        let counts = self.from.counts().await?;
        let progress =
            Progress::begin(&context.text, "progress-migrate", counts.locations + counts.companies);
        self.copy_installations(&progress).await?;
        self.copy_removed().await?;
        self.copy_lines().await?;
        drop(progress);
        self.compare(context).await?;
        // From here on the target's grants are the ones: the source says so before the target begins.
        self.from.set_standby(Some(&self.moved())).await?;
        self.to.set_standby(None).await?;
        Ok(counts)
    }

    /// Puts the source on standby as soon as no flight is in the air.
    async fn stand_by(&self) -> Result<(), StoreError> {
        let began = Instant::now();
        loop {
            match self.from.set_standby(Some(&self.moving())).await {
                Err(StoreError::InTheAir { .. }) if began.elapsed() < FLIGHTS_LAND_WITHIN => {
                    sleep(LOOK_EVERY).await;
                }
                done => return done,
            }
        }
    }

    /// A store on standby takes nothing in, parked or not, so these go first.
    async fn copy_parked(&self) -> Result<(), StoreError> {
        let there: Vec<InstallationId> = self.to.parked().await?.into_iter().map(|it| it.id).collect();
        let all = self.from.parked_grants().await?.into_iter();
        let missing: Vec<_> = all.filter(|(parked, _)| !there.contains(&parked.id)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        // What was copied before is kept by nobody else: the source stands by.
        self.to.set_standby(None).await?;
        for (parked, tokens) in missing {
            self.to.park(&parked.id, &tokens, parked.at).await?;
        }
        Ok(())
    }

    /// The next page is read while the one before is written.
    async fn copy_installations(&self, progress: &Progress) -> Result<(), StoreError> {
        self.to.begin_putting().await?;
        let mut page = self.from.list(None, PAGE).await?;
        while let Some(last) = page.last() {
            let after = last.id.clone();
            let (put, next) = tokio::join!(self.to.put(&page), self.from.list(Some(&after), PAGE));
            put?;
            progress.add(page.len());
            page = next?;
        }
        self.to.end_putting().await
    }

    async fn copy_removed(&self) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let page = self.from.removed(after.as_ref(), PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.id.clone());
            self.to.put_removed(&page).await?;
        }
    }

    async fn copy_lines(&self) -> Result<(), StoreError> {
        let Some(records) = &self.remembered else { return Ok(()) };
        let mut after: Option<Line> = None;
        loop {
            let page = records.lines(after.as_ref(), PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            self.remembers.take_lines(&page).await?;
        }
    }

    /// Every installation of the source has to stand in the target at its version, and no other.
    async fn compare(&self, context: &Context) -> Result<(), Stop> {
        let differs = |id: String| {
            let arguments = [("id", id.into())];
            Stop::Told(Explained::new(&context.text, "migrate_differs", Exit::Failed, &arguments))
        };
        let (mut one, mut other) = (Pages::of(&self.from), Pages::of(&self.to));
        loop {
            match (one.next().await?, other.next().await?) {
                (None, None) => return Ok(()),
                (Some(here), Some(there)) if here.id == there.id && here.version == there.version => {}
                (Some(it), _) | (None, Some(it)) => return Err(differs(it.id.to_string())),
            }
        }
    }

    /// Takes the source off standby, unless the target has refreshed anything.
    async fn give_up(&self, args: &MigrateArgs, context: &Context) -> Result<Exit, Explained> {
        let failed = |error: StoreError| context.store_error(&error);
        let standby = self.from.standby().await.map_err(failed)?;
        if ![Some(self.moving()), Some(self.moved())].contains(&standby) {
            let arguments = [("from", self.from.place().into()), ("to", self.to.place().into())];
            return Err(Explained::new(&context.text, "migrate_not_begun", Exit::Usage, &arguments));
        }
        // First nobody begins a refresh at the target; then it is seen whether anybody ever did.
        let given_up = format!("given up for {}", self.from.place());
        let before = self.to.standby().await.map_err(failed)?;
        self.to.set_standby(Some(&given_up)).await.map_err(failed)?;
        if let Some(used) = self.used().await.map_err(failed)? {
            self.to.set_standby(before.as_deref()).await.map_err(failed)?;
            let arguments = [("id", used.to_string().into()), ("to", self.to.place().into())];
            return Err(Explained::new(&context.text, "migrate_used", Exit::Failed, &arguments));
        }
        self.from.set_standby(None).await.map_err(failed)?;
        Ok(done(args, context, self, "migrate-given-up", &Counts::default()))
    }

    /// A grant of the target that is not as it was copied: it was refreshed, begun to be, or taken in there.
    async fn used(&self) -> Result<Option<InstallationId>, StoreError> {
        let mut there = Pages::of(&self.to);
        while let Some(it) = there.next().await? {
            let here = self.from.load(&it.id).await?;
            if it.intent.is_some() || here.is_none_or(|here| here.version < it.version) {
                return Ok(Some(it.id));
            }
        }
        Ok(None)
    }
}

/// All of a store's installations, a page at a time.
struct Pages<'a> {
    store: &'a Arc<dyn Store>,
    page: std::vec::IntoIter<Overview>,
    last: Option<Overview>,
    ended: bool,
}

impl<'a> Pages<'a> {
    fn of(store: &'a Arc<dyn Store>) -> Self {
        Self { store, page: Vec::new().into_iter(), last: None, ended: false }
    }

    async fn next(&mut self) -> Result<Option<Overview>, StoreError> {
        if let Some(next) = self.page.next() {
            self.last = Some(next.clone());
            return Ok(Some(next));
        }
        if self.ended {
            return Ok(None);
        }
        let listing = Listing { after: self.last.take(), ..Listing::first(PAGE) };
        self.page = self.store.overview(&listing).await?.into_iter();
        let next = self.page.next();
        self.ended = next.is_none();
        self.last = next.clone();
        Ok(next)
    }
}
