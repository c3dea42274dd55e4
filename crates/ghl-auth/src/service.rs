//! The running service: the rounds on the main thread, and a thread with a runtime of its own for
//! each core that answers requests.

use std::sync::Arc;
use std::thread;

use server::{Certificate, ConsentPage, Front, House, Room};
use tokens::{Keeper, Timing};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use upkeep::Upkeep;

use crate::config::{Config, Credentials, HealthCheck, Meant, StoreSettings};
use crate::doors::{Door, Sockets};
use crate::exit::Exit;
use crate::explain::Explained;
use crate::harden;
use crate::output;
use crate::owner;
use crate::text::Text;
use crate::wiring::{Context, SystemClock, random_name};

/// More threads than this only wait for each other.
const MOST_THREADS: usize = 8;

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
    audit: server::Audit,
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
        let (alerts, ways, failure_tag) = (config.alerts(), config.ways(), config.failure_tag());
        let code = config.authorization_code();
        let microservice_name = config.microservice_name();
        let (HealthCheck { contact, tag }, meant) = (health_check?, meant?);
        let credentials = credentials?;
        let (ways, heartbeat) = ways?;
        let upkeep = upkeep::Settings {
            microservice_name,
            link: None,
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
            audit: audit?,
            upkeep,
        })
    }
}

impl Settings {
    /// Whom the program becomes when it opens the store, if it is not that already.
    pub(crate) fn to_become(&self) -> Option<(u32, u32)> {
        owner::to_become(self.store.url.path())
    }
}

/// The rounds alone, for a command that tries how people are told.
pub(crate) async fn upkeep_alone(context: &Context, settings: Settings) -> Result<Arc<Upkeep>, Explained> {
    let (store, records, _) = context.open_store_and_records(&settings.store, Some(&settings.meant)).await?;
    let client = context.client(settings.api)?;
    let keeper = context.keeper_with(store, &client, None, Timing::default()).await;
    let speech = Arc::new(Text::new(context.text.lang));
    Ok(Upkeep::new(keeper, records, client, Arc::new(SystemClock), speech, settings.upkeep))
}

/// A service that runs.
pub(crate) struct Service {
    stop: watch::Sender<bool>,
    stop_keeping_up: watch::Sender<bool>,
    keeper: Keeper,
    rounds: JoinHandle<()>,
    keeping_up: JoinHandle<()>,
    /// Each completes when its thread has ended.
    threads: Vec<oneshot::Receiver<()>>,
}

impl Service {
    /// Opens the store and begins to answer and to make rounds.
    pub(crate) async fn start(
        context: &Context,
        mut settings: Settings,
        sockets: &Sockets,
        hosts: Vec<String>,
    ) -> Result<Self, Explained> {
        let (store, records, works_as) =
            context.open_store_and_records(&settings.store, Some(&settings.meant)).await?;
        // Only now: what root can read is of no use to whom the program has become.
        let certificate =
            sockets.certificate_files().map(Certificate::read).transpose().map_err(|error| {
                let why = error.to_string().into();
                Explained::new(&context.text, "certificate_files", Exit::Usage, &[("why", why)])
            })?;
        let certificate = certificate.map(Arc::new);
        super::commands::say_how_safe(context, works_as, &store.weaknesses());
        let client = context.client(settings.api)?;
        let app = match settings.credentials {
            Credentials::App(app) => Some(app),
            Credentials::Private(_) => None,
        };
        // What can't be saved yet is tried for as long as the service runs.
        let timing = Timing { commit_patience: None, ..Timing::default() };
        let keeper = context.keeper_with(store.clone(), &client, app.clone(), timing).await;
        if let (Some(code), Some(_)) = (&settings.code, &app) {
            use_first_code(context, &keeper, &settings.meant, code).await;
        }
        settings.upkeep.link = context.consent_link();
        let clock = Arc::new(SystemClock);
        let speech = Arc::new(Text::new(context.text.lang));
        let count = thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
        let upkeep = Upkeep::new(
            keeper.clone(),
            records.clone(),
            client,
            clock.clone(),
            speech.clone(),
            settings.upkeep,
        );
        let house = House {
            keeper: keeper.clone(),
            records,
            upkeep: upkeep.clone(),
            clock,
            speech,
            consent: app.map(|app| ConsentPage { page: settings.page, app, scopes: settings.scopes }),
            installs: settings.installs,
            hosts,
            audit: settings.audit,
            room: Room::within(harden::open_files(), count),
        };
        let front = Front::open(house, random_name()).await.map_err(|error| context.store_error(&error))?;
        let (stop, stopped) = watch::channel(false);
        let rounds = tokio::spawn(upkeep.run(stopped.clone()));
        let (stop_keeping_up, no_more) = watch::channel(false);
        let keeping_up = tokio::spawn(front.clone().keep_up(no_more));
        let mut threads = Vec::new();
        for _ in 0..count {
            let certificate = certificate.clone();
            let thread =
                answer(front.clone(), keeper.clone(), sockets.copies(), certificate, stopped.clone());
            threads.push(thread.map_err(|error| {
                let why = error.to_string().into();
                Explained::new(&context.text, "threads", Exit::Failed, &[("why", why)])
            })?);
        }
        Ok(Self { stop, stop_keeping_up, keeper, rounds, keeping_up, threads })
    }

    /// Ends what is at hand, lands every flight, and stops.
    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        for thread in self.threads {
            // An error means that the thread is gone already.
            let _ = thread.await;
        }
        let _ = self.rounds.await;
        // Only now is everything counted that was handed out, to be written down.
        self.stop_keeping_up.send_replace(true);
        let _ = self.keeping_up.await;
        self.keeper.landed().await;
    }

    /// Whether all of it still runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        let gone = |thread: &mut oneshot::Receiver<()>| {
            !matches!(thread.try_recv(), Err(oneshot::error::TryRecvError::Empty))
        };
        !self.rounds.is_finished() && !self.keeping_up.is_finished() && !self.threads.iter_mut().any(gone)
    }
}

/// Answers requests in a thread of its own, which ends when it is told to stop and no flight that
/// it began is in the air.
fn answer(
    front: Arc<Front>,
    keeper: Keeper,
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
                    serving.spawn(front.clone().serve(listener, face, stopped.clone()));
                }
                Err(error) => tracing::error!(%error, "a listener can't be used"),
            }
        }
        serving.join_all().await;
        keeper.landed().await;
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
