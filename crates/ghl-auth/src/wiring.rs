//! Settings become a house: a store, HighLevel, and the Keeper between them.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use highlevel::{AppCredentials, Client, Consent, OAuth};
use tokens::store::{Listing, Order};
use tokens::{
    AccessToken, AuthorizationCode, Clock, CompanyId, InstallationId, Issuer, Keeper, LocationId, RawAnswer,
    Reading, Records, RefreshToken, Store, Timestamp, Timing, Unanswered,
};

use crate::config::{ApiSettings, App, Config, Fault, Meant, Source, StoreSettings};
use crate::exit::Exit;
use crate::explain::{self, Explained};
use crate::output;
use crate::owner::{self, WorksAs};
use crate::text::Text;

/// A command tries for this long to save new tokens before it says that they wait in the spool.
const COMMIT_PATIENCE: Duration = Duration::from_secs(20);

/// What every command gets.
pub(crate) struct Context {
    pub(crate) text: Text,
    pub(crate) source: Source,
    /// The app that `--app` names.
    pub(crate) app: Option<String>,
    /// Whether what comes of it is to be thrown away, as in the demo.
    pub(crate) throwaway: bool,
}

/// The system's clock.
#[derive(Debug)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the door")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

impl Context {
    /// Reads the settings that a command needs; whatever is wrong with any of them is one error.
    pub(crate) fn settings<T>(
        &self,
        read: impl FnOnce(&mut Config<'_>) -> Option<T>,
    ) -> Result<T, Explained> {
        let mut config = Config::new(&self.source);
        config.speech();
        let settings = read(&mut config);
        match (settings, config.faults()) {
            (Some(settings), faults) if faults.is_empty() => Ok(settings),
            (_, faults) => Err(self.misconfigured(&faults)),
        }
    }

    /// Like `settings`, of several apps: whatever is wrong with any of them is one error.
    pub(crate) fn settings_of_each<T>(
        apps: &[Self],
        mut read: impl FnMut(&mut Config<'_>) -> Option<T>,
    ) -> Result<Vec<T>, Explained> {
        let (mut all, mut faults) = (Vec::new(), Vec::<Fault>::new());
        for app in apps {
            let mut config = Config::new(&app.source);
            config.speech();
            all.push(read(&mut config));
            // What they share is told once.
            let known = |new: &Fault| faults.iter().any(|fault| fault.name == new.name);
            let new: Vec<Fault> = config.faults().into_iter().filter(|new| !known(new)).collect();
            faults.extend(new);
        }
        match (all.into_iter().collect::<Option<Vec<T>>>(), apps.first()) {
            (Some(settings), _) if faults.is_empty() => Ok(settings),
            (_, Some(app)) => Err(app.misconfigured(&faults)),
            (_, None) => Ok(Vec::new()),
        }
    }

    /// The same for another app.
    fn of_app(&self, app: App) -> Self {
        let text = Text::about(self.text.lang, app.name());
        let source = self.source.of_app(app);
        Self { text, source, app: self.app.clone(), throwaway: self.throwaway }
    }

    /// The same once more, for whoever outlives this one.
    pub(crate) fn again(&self) -> Self {
        let text = Text::about(self.text.lang, self.source.app().name());
        Self { text, source: self.source.clone(), app: self.app.clone(), throwaway: self.throwaway }
    }

    /// The app that is meant: the one wanted, the one without a name, or the only one.
    pub(crate) fn of_one_app(&self) -> Result<Self, Explained> {
        let apps = self.of_apps(self.source.app_wanted(self.app.as_deref()))?;
        match <[Self; 1]>::try_from(apps) {
            Ok([only]) => Ok(only),
            Err(apps) => {
                let list = apps.iter().map(|app| app.source.app().to_string()).collect::<Vec<_>>().join(", ");
                let unnamed = apps.into_iter().find(|app| *app.source.app() == App::Unnamed);
                let which = || Explained::new(&self.text, "which_app", Exit::Usage, &[("list", list.into())]);
                unnamed.ok_or_else(which)
            }
        }
    }

    /// All apps, or the one that `--app` names: a variable for convenience leaves none uncared for.
    pub(crate) fn of_each_app(&self) -> Result<Vec<Self>, Explained> {
        self.of_apps(self.app.clone())
    }

    fn of_apps(&self, wanted: Option<String>) -> Result<Vec<Self>, Explained> {
        let mut config = Config::new(&self.source);
        let Some(mut apps) = config.apps() else { return Err(self.misconfigured(&config.faults())) };
        if let Some(wanted) = wanted {
            let list = apps.iter().map(App::to_string).collect::<Vec<_>>().join(", ");
            apps.retain(|app| app.to_string() == wanted);
            if apps.is_empty() {
                let arguments =
                    [("app", wanted.replace(char::is_control, " ").into()), ("list", list.into())];
                return Err(Explained::new(&self.text, "no_such_app", Exit::Usage, &arguments));
            }
        }
        Ok(apps.into_iter().map(|app| self.of_app(app)).collect())
    }

    fn misconfigured(&self, faults: &[Fault]) -> Explained {
        let list: Vec<String> = faults.iter().map(|fault| fault.explained(&self.text)).collect();
        Explained::new(
            &self.text,
            "configuration",
            Exit::Usage,
            &[("count", faults.len().into()), ("list", list.join("\n").into())],
        )
    }

    /// Says what deserves attention about where the settings come from.
    pub(crate) fn warn_of_source(&self) {
        for warning in self.source.warnings(&self.text) {
            output::warning(&self.text, &warning);
        }
    }

    pub(crate) fn keeper_error(&self, error: &tokens::KeeperError) -> Explained {
        explain::keeper_error(&self.text, error).with_link(self.consent_link())
    }

    pub(crate) fn store_error(&self, error: &tokens::StoreError) -> Explained {
        explain::store_error(&self.text, error).with_link(self.consent_link())
    }

    /// Who speaks, in what leaves for other programs.
    pub(crate) fn microservice_name(&self) -> String {
        Config::new(&self.source).microservice_name()
    }

    /// The link under which a person authorises, as far as the settings suffice for one.
    pub(crate) fn consent_link(&self) -> Option<String> {
        let mut config = Config::new(&self.source);
        let (app, page, scopes) = (config.app()?, config.authorize_url()?, config.scopes());
        Some(Consent { page: &page, app: &app, scopes: scopes.as_deref(), state: None }.to_string())
    }

    /// Becomes the owner of the tokens and opens the store.
    pub(crate) async fn open_store(
        &self,
        settings: &StoreSettings,
        meant: Option<&Meant>,
    ) -> Result<(Arc<dyn Store>, WorksAs), Explained> {
        let works_as = self.become_owner(settings)?;
        let store = store::connect(&settings.url, &settings.keys, &settings.spool, expected(meant))
            .await
            .map_err(|error| self.store_error(&error))?;
        Ok((store, works_as))
    }

    /// Opens the store, with what the service remembers beside it.
    pub(crate) async fn open_store_and_records(
        &self,
        settings: &StoreSettings,
        meant: Option<&Meant>,
    ) -> Result<(Arc<dyn Store>, Arc<dyn Records>, WorksAs), Explained> {
        let works_as = self.become_owner(settings)?;
        let StoreSettings { url, keys, spool } = settings;
        let opened = store::connect_with_records(url, keys, spool, expected(meant)).await;
        let (store, records) = opened.map_err(|error| self.store_error(&error))?;
        Ok((store, records, works_as))
    }

    /// What a service over this store remembers, if there has ever been one.
    pub(crate) async fn records_if_any(
        &self,
        settings: &StoreSettings,
    ) -> Result<Option<Arc<dyn Records>>, Explained> {
        store::open_records_if_there(&settings.url).await.map_err(|error| self.store_error(&error))
    }

    /// Opens what the service remembers.
    pub(crate) async fn open_records(&self) -> Result<Arc<dyn Records>, Explained> {
        let settings = self.settings(|config| config.store())?;
        let (_, records, _) = self.open_store_and_records(&settings, None).await?;
        Ok(records)
    }

    fn become_owner(&self, settings: &StoreSettings) -> Result<WorksAs, Explained> {
        let works_as = owner::become_owner(settings.path()).map_err(|error| {
            let place = settings.path().display().to_string();
            Explained::new(
                &self.text,
                "owner",
                Exit::Usage,
                &[("place", place.into()), ("why", error.to_string().into())],
            )
        })?;
        if !self.throwaway && owner::dies_with_the_container(settings.path()) {
            let place = settings.path().display().to_string();
            return Err(Explained::new(
                &self.text,
                match settings.url.path() {
                    Some(_) => "container_layer",
                    None => "container_layer_spool",
                },
                Exit::Usage,
                &[("place", place.into())],
            ));
        }
        Ok(works_as)
    }

    /// A client of HighLevel's API.
    pub(crate) fn client(&self, api: ApiSettings) -> Result<Client, Explained> {
        Client::new(api.base, api.dialect, api.roots.as_deref()).map_err(|error| {
            Explained::new(&self.text, "certificates", Exit::Usage, &[("why", error.to_string().into())])
        })
    }

    /// The Keeper over a store and an app, after it has saved what earlier runs left in the air.
    pub(crate) async fn keeper(&self, store: Arc<dyn Store>, client: &Client, app: AppCredentials) -> Keeper {
        let timing = Timing { commit_patience: Some(COMMIT_PATIENCE), ..Timing::default() };
        self.keeper_with(store, client, Some(app), timing).await
    }

    /// Like `keeper`, for as long as `timing` says; without an app there is nothing to refresh.
    pub(crate) async fn keeper_with(
        &self,
        store: Arc<dyn Store>,
        client: &Client,
        app: Option<AppCredentials>,
        timing: Timing,
    ) -> Keeper {
        let issuer: Arc<dyn Issuer> = match app {
            Some(app) => Arc::new(OAuth::new(client.clone(), app)),
            None => Arc::new(NoApp),
        };
        let keeper = Keeper::new(store, issuer, Arc::new(SystemClock), timing, random_name());
        if let Err(error) = keeper.recover().await {
            output::warning(&self.text, &self.keeper_error(&error).detail);
        }
        keeper
    }

    /// A Keeper that only brings to rest what landed, and asks HighLevel for nothing.
    pub(crate) fn landing_keeper(&self, store: Arc<dyn Store>) -> Keeper {
        let timing = Timing { commit_patience: Some(COMMIT_PATIENCE), ..Timing::default() };
        Keeper::new(store, Arc::new(NoApp), Arc::new(SystemClock), timing, random_name())
    }

    /// Says so when another store keeps these grants.
    pub(crate) async fn warn_of_standby(&self, store: &dyn Store) {
        if let Some(said) = self.standby(store).await {
            output::warning(&self.text, &said);
        }
    }

    /// What there is to say when another store keeps these grants.
    pub(crate) async fn standby(&self, store: &dyn Store) -> Option<String> {
        let why = store.standby().await.ok().flatten()?;
        let arguments = [("place", store.place().into()), ("why", explain::standby(&self.text, &why).into())];
        Some(self.text.say("warning-standby", &arguments))
    }

    /// What a file's tokens are taken to belong to where they do not say so themselves.
    pub(crate) fn meant_if_any(&self) -> Option<Meant> {
        Config::new(&self.source).meant()
    }

    /// The installation that a command is about: the one named, the one configured, or the only one.
    pub(crate) async fn which(
        &self,
        store: &dyn Store,
        named: Option<InstallationId>,
        meant: &Meant,
    ) -> Result<InstallationId, Explained> {
        if let Some(id) = named {
            return Ok(id);
        }
        let kind = match meant {
            Meant::Installation(id) => return Ok(id.clone()),
            Meant::AnyCompany => "company",
            Meant::AnyLocation => "location",
        };
        // Companies come behind the last of all locations.
        let last: Option<LocationId> = "z".repeat(64).parse().ok();
        let last = last.filter(|_| kind == "company").map(InstallationId::Location);
        let after = last.map(|last| Listing::place(Order::Id, None, last));
        let first = store.overview(&Listing { after, ..Listing::first(2) }).await;
        let first = first.map_err(|error| self.store_error(&error))?;
        let mut ids = first.into_iter().map(|installation| installation.id).filter(|id| id.kind() == kind);
        match (ids.next(), ids.next()) {
            (Some(only), None) => Ok(only),
            (None, _) => {
                Err(Explained::new(&self.text, "no_grant", Exit::Person, &[]).with_link(self.consent_link()))
            }
            (Some(_), Some(_)) => Err(Explained::new(&self.text, "which_one", Exit::Usage, &[])),
        }
    }
}

/// The only installation that a store is expected to hold.
fn expected(meant: Option<&Meant>) -> Option<&InstallationId> {
    match meant {
        Some(Meant::Installation(id)) => Some(id),
        _ => None,
    }
}

/// The issuer of whoever has a Private Integration Token: no app, no grants.
#[derive(Debug)]
struct NoApp;

const NO_APP: &str = "no app is configured";

#[async_trait]
impl Issuer for NoApp {
    async fn refresh(&self, _: &InstallationId, _: &RefreshToken) -> Result<RawAnswer, Unanswered> {
        Err(Unanswered::NotSent(NO_APP.into()))
    }

    async fn exchange(&self, _: &AuthorizationCode) -> Result<RawAnswer, Unanswered> {
        Err(Unanswered::NotSent(NO_APP.into()))
    }

    async fn mint(&self, _: &CompanyId, _: &AccessToken, _: &LocationId) -> Result<RawAnswer, Unanswered> {
        Err(Unanswered::NotSent(NO_APP.into()))
    }

    fn read_minted(&self, _: &RawAnswer, _: &CompanyId, _: Timestamp) -> Reading {
        Reading::Unclear(NO_APP.into())
    }

    /// What landed was asked for by an app that was configured then, and is not lost with it.
    fn read(&self, answer: &RawAnswer, received_at: Timestamp) -> Reading {
        highlevel::read_answer(answer, received_at)
    }
}

/// A name that no other process has: 16 random characters.
pub(crate) fn random_name() -> String {
    random_text::<12>()
}

/// As many random bytes from the system's generator, as text for a URL.
pub(crate) fn random_text<const BYTES: usize>() -> String {
    let mut bytes = [0; BYTES];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system has random bytes");
    URL_SAFE_NO_PAD.encode(bytes)
}
