//! Companies and their locations, as HighLevel lists them.
//!
//! A webhook that was lost must not matter: now and then the list of installed locations is read to
//! its end. What is new is begun with the company's grant, what a dead refresh token had broken is
//! healed by it, and what the list is without is marked, for a person to see. Nothing is taken out of
//! service for that: a token that still works is worth more than a list.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use highlevel::{Api, Client, InstalledLocation, PageStart, approved_locations};
use tokens::store::{ListedNote, Listing, Stand};
use tokens::{
    CompanyId, Installation, InstallationId, KeeperError, LocationId, Overview, Timestamp, TokenSet, Version,
};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::upkeep::{Upkeep, is_over_within};

/// How often it is seen whether a company's list is to be read.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// From one time that a company's list is read to the next.
const RECONCILE_EVERY: Duration = Duration::from_secs(60 * 60);

/// A list that could not be read, or not acted on, is tried again after this long.
const AGAIN_AFTER: Duration = Duration::from_secs(5 * 60);

/// The company's token has to last for all the pages.
const LONG_ENOUGH: Duration = Duration::from_secs(10 * 60);

/// From one mint to the next: HighLevel allows 100 requests in 10 seconds for each company.
const MINT_EVERY: Duration = Duration::from_millis(110);

/// So many tokens are asked for at once.
const MINTS_AT_ONCE: usize = 8;

/// So many of what is kept are looked at together.
const PAGE: usize = 1000;

/// A list longer than this has no end.
const PAGES_AT_MOST: usize = 10_000;

/// What came of reading a company's list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// How many locations HighLevel lists.
    pub listed: usize,
    /// Whom we keep since now.
    pub begun: Vec<LocationId>,
    /// Whose dead grant was healed.
    pub healed: Vec<LocationId>,
    /// Who is missing from the list since now.
    pub unlisted: Vec<LocationId>,
    /// For whom HighLevel gave no token, with its words.
    pub refused: Vec<(LocationId, String)>,
}

/// Why a list could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Unreconciled {
    /// The company's own grant is in trouble.
    #[error(transparent)]
    Keeper(#[from] KeeperError),
    /// HighLevel does not give the list.
    #[error("HighLevel does not give the list of installed locations: {0}")]
    Refused(#[from] highlevel::Failure),
    /// Every page has another after it.
    #[error("the list of installed locations has no end")]
    Endless,
}

impl From<tokens::StoreError> for Unreconciled {
    fn from(error: tokens::StoreError) -> Self {
        Self::Keeper(error.into())
    }
}

/// What is to be done about one location, from what is listed and what is kept.
#[derive(Debug, PartialEq, Eq)]
enum Todo {
    Begin,
    Heal,
    Note(ListedNote),
}

impl Upkeep {
    pub(crate) async fn keep_reconciled(self: &Arc<Self>, mut stop: watch::Receiver<bool>) {
        // A file has room for the company alone.
        if !self.keeper.store().can_park() {
            return;
        }
        let mut next: BTreeMap<CompanyId, (Version, Instant)> = BTreeMap::new();
        loop {
            match self.keeper.store().companies().await {
                Ok(companies) => self.reconcile_each(companies, &mut next, &stop).await,
                Err(error) => warn!(%error, "the store does not say which companies are kept"),
            }
            if is_over_within(LOOK_EVERY, &mut stop).await {
                return;
            }
        }
    }

    async fn reconcile_each(
        &self,
        companies: Vec<CompanyId>,
        next: &mut BTreeMap<CompanyId, (Version, Instant)>,
        stop: &watch::Receiver<bool>,
    ) {
        next.retain(|company, _| companies.contains(company));
        for company in companies {
            if *stop.borrow() {
                return;
            }
            let Ok(kept) = self.keeper.load(&InstallationId::Company(company.clone())).await else {
                continue;
            };
            // A new authorisation may bring other locations: it is looked at at once.
            let is_due = next
                .get(&company)
                .is_none_or(|(seen, at)| seen.epoch != kept.version.epoch || *at <= Instant::now());
            if kept.is_broken() || !is_due {
                continue;
            }
            let pause = match self.reconcile_in_turn(&company, &kept, stop).await {
                true => RECONCILE_EVERY,
                false => AGAIN_AFTER,
            };
            next.insert(company, (kept.version, Instant::now() + pause));
        }
    }

    /// Whether the company's list was read, by us or by another process just now.
    async fn reconcile_in_turn(
        &self,
        company: &CompanyId,
        kept: &Installation,
        stop: &watch::Receiver<bool>,
    ) -> bool {
        let now = self.clock.now();
        let turn = format!("reconcile {company} {}", kept.version.epoch);
        match self.records.take_turn(&turn, now, now + AGAIN_AFTER).await {
            Ok(true) => {}
            Ok(false) => return false,
            Err(error) => {
                warn!(%company, %error, "no look at the company's list: its turn can't be taken");
                return false;
            }
        }
        match self.reconcile(company, stop).await {
            Ok(done) => {
                let Reconciled { listed, begun, healed, unlisted, refused } = &done;
                let (begun, healed) = (begun.len(), healed.len());
                let (unlisted, refused) = (unlisted.len(), refused.len());
                info!(%company, listed, begun, healed, unlisted, refused, "read the list of installed locations");
                refused == 0
            }
            Err(error) => {
                warn!(%company, %error, "the list of installed locations can't be read");
                false
            }
        }
    }

    /// Reads a company's list to its end and does what follows from it. What has not begun at `stop`
    /// is left for the next time.
    pub async fn reconcile(
        &self,
        company: &CompanyId,
        stop: &watch::Receiver<bool>,
    ) -> Result<Reconciled, Unreconciled> {
        let id = InstallationId::Company(company.clone());
        let served = self.keeper.fresh_token(&id, LONG_ENOUGH, || {}).await?;
        let app_id = self.settings.app_id.as_deref().unwrap_or_default();
        let listed = listed(&self.client, app_id, company, &served.installation.tokens).await?;
        let mut done = Reconciled { listed: listed.len(), ..Reconciled::default() };
        let todo = self.compared(company, &listed).await?;
        let mut notes = Vec::new();
        let mut mints = JoinSet::new();
        for (location, todo) in todo {
            match todo {
                Todo::Note(note) => {
                    if note.unlisted_at.is_some() {
                        done.unlisted.push(location);
                    }
                    notes.push(note);
                    continue;
                }
                Todo::Begin | Todo::Heal if *stop.borrow() => break,
                Todo::Begin | Todo::Heal => {}
            }
            if mints.len() >= MINTS_AT_ONCE {
                done.count(mints.join_next().await);
            }
            let (keeper, company) = (self.keeper.clone(), company.clone());
            let heals = todo == Todo::Heal;
            // Without a date, whatever was taken out of service stays out.
            let since = listed.get(&location).and_then(|it| it.installed_at);
            let since = since.unwrap_or(Timestamp::from_millis(i64::MIN));
            mints.spawn(async move {
                let minted = keeper.installed(&location, Some(&company), since).await;
                (location, heals, minted)
            });
            sleep(MINT_EVERY).await;
        }
        while let Some(minted) = mints.join_next().await {
            done.count(Some(minted));
        }
        notes.extend(done.begun.iter().filter_map(|location| {
            let name = listed.get(location)?.name.clone()?;
            let id = InstallationId::Location(location.clone());
            Some(ListedNote { id, name: Some(name), unlisted_at: None })
        }));
        for notes in notes.chunks(PAGE) {
            self.keeper.store().note_listed(notes).await?;
        }
        Ok(done)
    }

    /// What is listed beside what is kept.
    async fn compared(
        &self,
        company: &CompanyId,
        listed: &BTreeMap<LocationId, InstalledLocation>,
    ) -> Result<Vec<(LocationId, Todo)>, Unreconciled> {
        let (store, now) = (self.keeper.store(), self.clock.now());
        let mut todo = Vec::new();
        let mut kept = BTreeSet::new();
        let mut listing = Listing { company: Some(company.clone()), ..Listing::first(PAGE) };
        loop {
            let page = store.overview(&listing).await?;
            let last = page.last().cloned();
            for it in page {
                let InstallationId::Location(location) = &it.id else { continue };
                kept.insert(location.clone());
                if let Some(what) = about(&it, listed.get(location), now) {
                    todo.push((location.clone(), what));
                }
            }
            match last {
                Some(last) => listing.after = Some(last),
                None => break,
            }
        }
        for location in listed.keys().filter(|location| !kept.contains(*location)) {
            let id = InstallationId::Location(location.clone());
            let removed_at = store.removed_at(&id).await?;
            let installed_at = listed.get(location).and_then(|it| it.installed_at);
            let stays_out = removed_at.is_some_and(|removed| installed_at.is_none_or(|at| at <= removed));
            if !stays_out {
                todo.push((location.clone(), Todo::Begin));
            }
        }
        Ok(todo)
    }
}

/// The locations of a company by their ids: all pages of HighLevel's list, and whom the company's own
/// token reply calls approved.
pub async fn listed(
    client: &Client,
    app_id: &str,
    company: &CompanyId,
    tokens: &TokenSet,
) -> Result<BTreeMap<LocationId, InstalledLocation>, Unreconciled> {
    let api = Api::new(client.clone(), tokens.access.clone());
    let mut listed = BTreeMap::new();
    let mut from: Option<PageStart> = None;
    for _ in 0..PAGES_AT_MOST {
        let page = api.installed_locations(company, app_id, from.as_ref()).await?.value;
        listed.extend(page.locations.into_iter().map(|location| (location.id.clone(), location)));
        from = page.next;
        if from.is_none() {
            for id in approved_locations(tokens) {
                let approved = InstalledLocation { id: id.clone(), name: None, installed_at: None };
                listed.entry(id).or_insert(approved);
            }
            return Ok(listed);
        }
    }
    Err(Unreconciled::Endless)
}

/// What is to be done about a location that is kept.
fn about(kept: &Overview, listed: Option<&InstalledLocation>, now: Timestamp) -> Option<Todo> {
    let id = kept.id.clone();
    match (listed, kept.unlisted_at) {
        (Some(_), _) if Stand::of(kept) == Stand::Broken => Some(Todo::Heal),
        (Some(listed), unlisted_at) => {
            let is_renamed = listed.name.is_some() && listed.name != kept.name;
            (is_renamed || unlisted_at.is_some())
                .then(|| Todo::Note(ListedNote { id, name: listed.name.clone(), unlisted_at: None }))
        }
        (None, None) => Some(Todo::Note(ListedNote { id, name: None, unlisted_at: Some(now) })),
        (None, Some(_)) => None,
    }
}

/// A location whose token was asked for, whether it was to be healed, and what came of it.
type Minted = (LocationId, bool, Result<Installation, KeeperError>);

impl Reconciled {
    fn count(&mut self, minted: Option<Result<Minted, tokio::task::JoinError>>) {
        match minted {
            Some(Ok((location, true, Ok(_)))) => self.healed.push(location),
            Some(Ok((location, false, Ok(_)))) => self.begun.push(location),
            // Taken out of service in between: it stays out.
            Some(Ok((_, _, Err(KeeperError::NotConnected(_))))) => {}
            Some(Ok((location, _, Err(error)))) => {
                warn!(%location, %error, "no token from the company's grant");
                self.refused.push((location, error.to_string()));
            }
            Some(Err(_)) | None => {}
        }
    }
}
