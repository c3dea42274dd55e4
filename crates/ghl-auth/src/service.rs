//! The running service: the rounds on the main thread, and a thread with a runtime of its own for
//! each core that answers requests.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use server::{
    AppCard, Certificate, Closed, ConsentPage, Front, GatewaySettings, House, Room, Setting, Street,
};
use tokens::{Keeper, Records, Store, Timing};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tracing::{Instrument as _, Span};
use upkeep::{Speech, Upkeep};

use crate::config::{
    Config, Credentials, Found, HealthCheck, Meant, Passage, Source, StoreSettings,
    variables::{self, Variable},
};
use crate::doors::{Door, Sockets};
use crate::exit::Exit;
use crate::explain::Explained;
use crate::harden;
use crate::output;
use crate::owner::{self, WorksAs};
use crate::text::{Lang, Text};
use crate::wiring::{Context, SystemClock, random_name};

/// More threads than this only wait for each other.
const MOST_THREADS: usize = 8;

/// What the store and the connections of one app more take of the files that may be open.
const FILES_OF_AN_APP: usize = 64;

/// From one try to open a closed app's store to the next: twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What the service needs, beside the doors: complete and checked before anything is opened.
pub(crate) struct Settings {
    store: StoreSettings,
    api: crate::config::ApiSettings,
    credentials: Credentials,
    code: Option<tokens::AuthorizationCode>,
    meant: Meant,
    page: String,
    scopes: Option<String>,
    installs: tokens::InstallPolicy,
    webhook_keys: highlevel::WebhookKeys,
    audit: server::Audit,
    passage: Passage,
    status_page: server::StatusPage,
    upkeep: upkeep::Settings,
}

impl Settings {
    /// Reads them all, so that one error lists every fault.
    pub(crate) fn read(config: &mut Config<'_>) -> Option<Self> {
        let (store, api, credentials) = (config.store(), config.api(), config.credentials());
        let health_check = config.health_check();
        // A contact is of a location, which has to be named.
        let tags = health_check.as_ref().is_some_and(|check| check.contact.is_some());
        let meant = if tags { config.meant_by_check() } else { config.meant() };
        let (interval, page, scopes) = (config.run_interval(), config.authorize_url(), config.scopes());
        let (installs, audit) = (config.installs(), config.audit());
        let (passage, status_page) = (config.gateway(), config.status_page());
        let (alerts, ways, failure_tag) = (config.alerts(), config.ways(), config.failure_tag());
        let (code, webhook_keys) = (config.authorization_code(), config.webhook_keys());
        let microservice_name = config.microservice_name();
        let (HealthCheck { contact, tag }, meant) = (health_check?, meant?);
        let credentials = credentials?;
        let (ways, heartbeat) = ways?;
        let upkeep = upkeep::Settings {
            microservice_name,
            link: None,
            scopes: scopes.clone(),
            alerts: alerts?,
            ways,
            heartbeat,
            failure_tag: failure_tag?,
            interval: std::time::Duration::from_secs(u64::from(interval?) * 3600),
            meant: match &meant {
                Meant::Installation(id) => Some(id.clone()),
                Meant::AnyCompany | Meant::AnyLocation => None,
            },
            contact,
            tag,
            app_id: match &credentials {
                Credentials::App(app) => Some(highlevel::app_id(&app.client_id).to_owned()),
                Credentials::Private(_) => None,
            },
            private_token: match &credentials {
                Credentials::Private(token) => Some(token.clone()),
                Credentials::App(_) => None,
            },
        };
        Some(Self {
            store: store?,
            api: api?,
            credentials,
            code,
            meant,
            page: page?,
            scopes,
            installs: installs?,
            webhook_keys: webhook_keys?,
            audit: audit?,
            passage: passage?,
            status_page: status_page?,
            upkeep,
        })
    }
}

impl Settings {
    /// Whom the program becomes when it opens the store, if it is not that already.
    pub(crate) fn to_become(&self) -> Option<(u32, u32)> {
        owner::to_become(self.store.path())
    }

    /// What there is of the store on this machine.
    pub(crate) fn store_path(&self) -> &Path {
        self.store.path()
    }

    /// The path where browsers come back to this app.
    pub(crate) fn callback(&self) -> Option<String> {
        let Credentials::App(app) = &self.credentials else { return None };
        app.redirect_uri.parse().ok().map(|uri: axum::http::Uri| uri.path().to_owned())
    }

    /// What the app is, as far as it is no secret.
    fn card(&self, context: &Context) -> AppCard {
        let app = match &self.credentials {
            Credentials::App(app) => Some(app),
            Credentials::Private(_) => None,
        };
        AppCard {
            name: context.source.app().to_string(),
            client_id: app.map(|app| app.client_id.clone()),
            user_type: app.map(|app| app.user_type),
            redirect_uri: app.map(|app| app.redirect_uri.clone()),
            scopes: self.scopes.clone(),
        }
    }
}

/// The rounds alone, for a command that tries how people are told.
pub(crate) async fn upkeep_alone(context: &Context, settings: Settings) -> Result<Arc<Upkeep>, Explained> {
    let (store, records, _) = context.open_store_and_records(&settings.store, Some(&settings.meant)).await?;
    let client = context.client(settings.api)?;
    let keeper = context.keeper_with(store, &client, None, Timing::default()).await;
    let speech = Arc::new(Text::about(context.text.lang, context.source.app().name()));
    Ok(Upkeep::new(keeper, records, client, Arc::new(SystemClock), speech, settings.upkeep))
}

/// A service that runs.
pub(crate) struct Service {
    stop: watch::Sender<bool>,
    stop_keeping_up: watch::Sender<bool>,
    keepers: Vec<Keeper>,
    rounds: Vec<JoinHandle<()>>,
    keeping_up: Vec<JoinHandle<()>>,
    /// Each completes when its thread has ended.
    threads: Vec<oneshot::Receiver<()>>,
    closed: Vec<Closed>,
    /// Tries to open the stores of those that are closed.
    trying: JoinHandle<()>,
    may_open: Arc<Notify>,
}

/// Which of several apps may be left closed when their stores can't be opened.
#[derive(Clone, Copy)]
pub(crate) enum MayStayClosed<'a> {
    /// Any, as long as one is open: the others are served meanwhile.
    Any,
    /// These alone: the others are served by a service that runs, and goes on.
    These(&'a [String]),
}

impl MayStayClosed<'_> {
    fn has(self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::These(names) => names.iter().any(|it| it == name),
        }
    }
}

impl Service {
    /// Opens each app's store and begins to answer and to make rounds. The first app answers what is
    /// no app's in particular. One of several whose store can't be opened does not keep the others from
    /// being served.
    pub(crate) async fn start(
        context: &Context,
        apps: Vec<(&Context, Settings)>,
        sockets: &Sockets,
        hosts: Vec<String>,
        may_stay_closed: MayStayClosed<'_>,
    ) -> Result<Self, Explained> {
        let count = thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
        let more = apps.len().saturating_sub(1);
        let shared = Shared {
            hosts,
            room: Room::within(harden::open_files().saturating_sub(more * FILES_OF_AN_APP), count),
            apps: apps.iter().map(|(context, settings)| settings.card(context)).collect(),
        };
        let (mut houses, mut closed, mut shut, mut wrong) = (Vec::new(), Vec::new(), Vec::new(), None);
        for (number, (app, settings)) in apps.into_iter().enumerate() {
            let name = app.source.app().to_string();
            match app.open_store_and_records(&settings.store, Some(&settings.meant)).await {
                Ok(rest) => houses.push(Opened::open(app, settings, rest, &shared).await?),
                Err(error) if more > 0 && may_stay_closed.has(&name) => {
                    output::error(&app.text, &error);
                    tracing::error!(app = %name, code = error.code, why = %error.detail, "{CLOSED}");
                    closed.push(Closed { name, callback: settings.callback(), is_first: number == 0 });
                    shut.push(Shut { context: app.again(), store: settings.store, meant: settings.meant });
                    wrong.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(error) = wrong.filter(|_| houses.is_empty()) {
            return Err(error);
        }
        // Only now: what root can read is of no use to whom the program has become.
        let certificate =
            sockets.certificate_files().map(Certificate::read).transpose().map_err(|error| {
                let why = error.to_string().into();
                Explained::new(&context.text, "certificate_files", Exit::Usage, &[("why", why)])
            })?;
        let certificate = certificate.map(Arc::new);
        let (stop, stopped) = watch::channel(false);
        let (stop_keeping_up, no_more) = watch::channel(false);
        let street = Street::of(houses.iter().map(|house| house.front.clone()).collect(), closed.clone());
        let keepers: Vec<Keeper> = houses.iter().map(|house| house.keeper.clone()).collect();
        let (mut rounds, mut keeping_up) = (Vec::new(), Vec::new());
        for Opened { front, upkeep, span, .. } in houses {
            rounds.push(tokio::spawn(upkeep.run(stopped.clone()).instrument(span.clone())));
            keeping_up.push(tokio::spawn(front.keep_up(no_more.clone()).instrument(span)));
        }
        let mut threads = Vec::new();
        for _ in 0..count {
            let certificate = certificate.clone();
            let thread =
                answer(street.clone(), keepers.clone(), sockets.copies(), certificate, stopped.clone());
            threads.push(thread.map_err(|error| {
                let why = error.to_string().into();
                Explained::new(&context.text, "threads", Exit::Failed, &[("why", why)])
            })?);
        }
        let may_open = Arc::new(Notify::new());
        let trying = tokio::spawn(try_to_open(shut, may_open.clone()));
        Ok(Self { stop, stop_keeping_up, keepers, rounds, keeping_up, threads, closed, trying, may_open })
    }

    /// Which apps are closed: their stores could not be opened.
    pub(crate) fn closed(&self) -> Vec<String> {
        self.closed.iter().map(|house| house.name.clone()).collect()
    }

    /// Completes when the store of one that is closed can be opened.
    pub(crate) async fn one_may_open(&self) {
        self.may_open.notified().await;
    }

    /// Ends what is at hand, lands every flight, and stops.
    pub(crate) async fn stop(self) {
        self.trying.abort();
        self.stop.send_replace(true);
        for thread in self.threads {
            // An error means that the thread is gone already.
            let _ = thread.await;
        }
        for rounds in self.rounds {
            let _ = rounds.await;
        }
        // Only now is everything counted that was handed out, to be written down.
        self.stop_keeping_up.send_replace(true);
        for keeping_up in self.keeping_up {
            let _ = keeping_up.await;
        }
        landed(&self.keepers).await;
    }

    /// Whether all of it still runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        let gone = |thread: &mut oneshot::Receiver<()>| {
            !matches!(thread.try_recv(), Err(oneshot::error::TryRecvError::Empty))
        };
        let mut tasks = self.rounds.iter().chain(&self.keeping_up);
        !tasks.any(JoinHandle::is_finished) && !self.threads.iter_mut().any(gone)
    }
}

/// What is the same for all apps.
struct Shared {
    hosts: Vec<String>,
    room: Room,
    apps: Arc<[AppCard]>,
}

const CLOSED: &str = "an app's store can't be opened; it is tried again, and the other apps are served";

/// An app whose store can't be opened, and what it takes to try again.
struct Shut {
    context: Context,
    store: StoreSettings,
    meant: Meant,
}

/// Tries again and again, and says so each time that one could be opened.
async fn try_to_open(shut: Vec<Shut>, may_open: Arc<Notify>) {
    let mut pause = FIRST_PAUSE;
    while !shut.is_empty() {
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        for Shut { context, store, meant } in &shut {
            match context.open_store_and_records(store, Some(meant)).await {
                Ok(_) => may_open.notify_one(),
                Err(error) => {
                    let app = context.source.app();
                    tracing::error!(%app, code = error.code, why = %error.detail, "{CLOSED}");
                }
            }
        }
    }
}

/// What is configured, without secrets: of the store, which may hold a password, its address without it.
fn shown_settings(source: &Source, store: &StoreSettings) -> Vec<Setting> {
    let shown = |variable: &Variable| {
        let value = match source.find(variable.name) {
            Found::Value(_) if variable.name == "GHL_STORE" => Some(store.url.to_string()),
            Found::Value(_) if variable.secret => None,
            Found::Value(value) => Some(value),
            Found::Nothing | Found::BadFile { .. } => return None,
        };
        Some(Setting {
            name: source.name_of(variable.name),
            meaning: format!("var-{}", variable.name),
            value,
        })
    };
    variables::ALL.iter().filter_map(shown).collect()
}

/// The house of one app, before anybody is let in.
struct Opened {
    keeper: Keeper,
    front: Arc<Front>,
    upkeep: Arc<Upkeep>,
    /// Where a log's lines come from.
    span: Span,
}

impl Opened {
    async fn open(
        context: &Context,
        mut settings: Settings,
        (store, records, works_as): (Arc<dyn Store>, Arc<dyn Records>, WorksAs),
        shared: &Shared,
    ) -> Result<Self, Explained> {
        super::commands::say_how_safe(context, works_as, &store.weaknesses());
        context.warn_of_standby(store.as_ref()).await;
        let client = context.client(settings.api)?;
        let (app, private) = match settings.credentials {
            Credentials::App(app) => (Some(app), None),
            Credentials::Private(token) => (None, Some(token)),
        };
        let whose = match &settings.meant {
            Meant::Installation(id) => Some(id.clone()),
            Meant::AnyCompany | Meant::AnyLocation => None,
        };
        let Passage { budget, limits, protocol, longest_body, at_once } = settings.passage;
        let gateway = GatewaySettings {
            client: client.clone(),
            protocol,
            budget,
            limits,
            longest_body,
            at_once,
            private: private.map(|token| (token, whose)),
        };
        // What can't be saved yet is tried for as long as the service runs.
        let timing = Timing { commit_patience: None, ..Timing::default() };
        let keeper = context.keeper_with(store, &client, app.clone(), timing).await;
        if let (Some(code), Some(_)) = (&settings.code, &app) {
            use_first_code(context, &keeper, &settings.meant, code).await;
        }
        settings.upkeep.link = context.consent_link();
        let clock = Arc::new(SystemClock);
        let speaking = |lang| Arc::new(Text::about(lang, context.source.app().name()));
        let speech = speaking(context.text.lang);
        let languages = Lang::ALL.map(|lang| speaking(lang) as Arc<dyn Speech>).to_vec();
        let upkeep = Upkeep::new(
            keeper.clone(),
            records.clone(),
            client,
            clock.clone(),
            speech.clone(),
            settings.upkeep,
        );
        let name = context.source.app().name().map(str::to_owned);
        let webhooks = app.as_ref().map(|app| server::Webhooks {
            keys: settings.webhook_keys,
            app_id: highlevel::app_id(&app.client_id).to_owned(),
        });
        let house = House {
            app: name,
            apps: shared.apps.clone(),
            keeper: keeper.clone(),
            records,
            upkeep: upkeep.clone(),
            clock,
            speech,
            languages,
            consent: app.map(|app| ConsentPage { page: settings.page, app, scopes: settings.scopes }),
            installs: settings.installs,
            webhooks,
            hosts: shared.hosts.clone(),
            audit: settings.audit,
            room: shared.room,
            gateway,
            status_page: settings.status_page,
            settings: shown_settings(&context.source, &settings.store),
        };
        let front = Front::open(house, random_name()).await.map_err(|error| context.store_error(&error))?;
        Ok(Self { keeper, upkeep, span: front.span(), front })
    }
}

async fn landed(keepers: &[Keeper]) {
    for keeper in keepers {
        keeper.landed().await;
    }
}

/// Answers requests in a thread of its own, which ends when it is told to stop and no flight that
/// it began is in the air.
fn answer(
    street: Arc<Street>,
    keepers: Vec<Keeper>,
    doors: std::io::Result<Vec<Door>>,
    certificate: Option<Arc<Certificate>>,
    stopped: watch::Receiver<bool>,
) -> std::io::Result<oneshot::Receiver<()>> {
    let doors = doors?;
    let (ended, end) = oneshot::channel::<()>();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let work = async move {
        let mut serving = tokio::task::JoinSet::new();
        for door in doors {
            match door.listener(certificate.clone()) {
                Ok((listener, face)) => {
                    serving.spawn(street.clone().serve(listener, face, stopped.clone()));
                }
                Err(error) => tracing::error!(%error, "a listener can't be used"),
            }
        }
        serving.join_all().await;
        landed(&keepers).await;
    };
    thread::Builder::new().name("http".into()).spawn(move || {
        runtime.block_on(work);
        drop(ended);
    })?;
    Ok(end)
}

/// Exchanges `GHL_AUTHORIZATION_CODE` where there is no grant yet. The service goes on without:
/// a person may still authorise in a browser.
async fn use_first_code(context: &Context, keeper: &Keeper, meant: &Meant, code: &tokens::AuthorizationCode) {
    let store = keeper.store().clone();
    let exchanged = super::commands::first_code(context, keeper, store.as_ref(), meant, code, true).await;
    if let Err(error) = exchanged {
        output::error(&context.text, &error);
    }
}
