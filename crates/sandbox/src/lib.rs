//! A HighLevel of our own on loopback, for tests and first tries.
//!
//! It answers HTTP as HighLevel's published descriptions and third parties' measurements say: consent page, rotating
//! refresh tokens with their 30 seconds of grace, both dialects, contacts, tags, a workflow, rate limits, and every
//! error body that is known. It shares no code with the crates that speak to HighLevel, so the two can disagree. All
//! of it is invented and lives in memory; what nobody has published is a knob in [`Settings`].
//!
//! ```
//! # async fn example() -> std::io::Result<()> {
//! use sandbox::{Fault, FaultKind, Matcher, Sandbox, UserType};
//!
//! let sandbox = Sandbox::start().await?;
//! let code = sandbox.approve("http://127.0.0.1:8788/oauth/callback", Some("state"), UserType::Location);
//! sandbox.fault(Fault::new(FaultKind::LoseAnswer).on(Matcher::Refresh));
//! // … a program exchanges the code at `sandbox.base_url()` and refreshes …
//! assert_eq!(sandbox.counts().refreshes, 0);
//! # let _ = code;
//! # sandbox.stop().await;
//! # Ok(())
//! # }
//! ```

mod admin;
mod call;
mod chance;
mod clock;
mod consent;
mod console;
mod contacts;
mod crm;
mod desk;
mod door;
mod faults;
mod grants;
mod jwt;
mod ledger;
mod limits;
mod oauth;
mod outages;
mod routes;
mod scopes;
mod server;
mod settings;
mod webhooks;
mod wire;
mod world;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use desk::Desk;
use grants::Approval;
use server::Server;

pub use console::Speech;
pub use faults::{Fault, FaultKind, Hold, Matcher};
pub use ledger::{Counts, Ledger, Message, Outcome, RequestLine, TokenRequest};
pub use settings::{RateLimit, RateWindow, Settings, UserType};
pub use webhooks::{Manner, Order, Sent, Signature};

/// A running sandbox. Clones are handles to the same one; it ends with the last of them.
#[derive(Clone)]
pub struct Sandbox {
    desk: Arc<Desk>,
    server: Arc<Server>,
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox").field("base_url", &self.desk.base_url).finish_non_exhaustive()
    }
}

/// How a sandbox is to start.
#[derive(Clone)]
pub struct Builder {
    listen: SocketAddr,
    settings: Settings,
    speech: Option<Arc<dyn Speech>>,
}

impl Builder {
    /// Where to listen; loopback only. Without it: a free port of 127.0.0.1.
    #[must_use]
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = address;
        self
    }

    /// What it is like.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// The words of its console, which is at `/` for browsers. Without them there is none.
    #[must_use]
    pub fn speech(mut self, speech: impl Speech + 'static) -> Self {
        self.speech = Some(Arc::new(speech));
        self
    }

    /// Starts it.
    ///
    /// # Errors
    ///
    /// When the address is not a loopback address or cannot be bound.
    pub async fn start(self) -> io::Result<Sandbox> {
        self.start_blocking()
    }

    /// Starts it from code that is not asynchronous. The sandbox runs on a thread of its own either way, so a test
    /// that blocks does not stop it.
    ///
    /// # Errors
    ///
    /// When the address is not a loopback address or cannot be bound.
    pub fn start_blocking(self) -> io::Result<Sandbox> {
        if !self.listen.ip().is_loopback() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the sandbox listens on loopback only"));
        }
        let listener = std::net::TcpListener::bind(self.listen)?;
        let desk =
            Arc::new(Desk::new(format!("http://{}", listener.local_addr()?), self.settings, self.speech));
        let server = Arc::new(Server::start(listener, Arc::clone(&desk))?);
        Ok(Sandbox { desk, server })
    }
}

/// Starting, stopping, and where it is.
impl Sandbox {
    /// Starts one with invented settings on a free port of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// When no port can be bound.
    pub async fn start() -> io::Result<Self> {
        Self::builder().start().await
    }

    /// Says how it is to start.
    pub fn builder() -> Builder {
        Builder {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            settings: Settings::default(),
            speech: None,
        }
    }

    /// Stops it after the answers that are under way (two seconds at most), whatever other handles there are.
    pub async fn stop(self) {
        self.release();
        self.server.stop().await;
    }

    /// Waits until it was stopped by another handle.
    pub async fn stopped(&self) {
        self.server.stopped().await;
    }

    /// The API's address: what stands for `https://services.leadconnectorhq.com`.
    pub fn base_url(&self) -> String {
        self.desk.base_url.clone()
    }

    /// The consent page's address, without a query.
    pub fn authorize_url(&self) -> String {
        format!("{}{}", self.desk.base_url, consent::PATH)
    }

    /// Its page for people, where the builder was given words.
    pub fn console_url(&self) -> Option<String> {
        self.desk.speech.as_ref().map(|_| format!("{}/", self.desk.base_url))
    }

    /// What it is like, as it was started.
    pub fn settings(&self) -> &Settings {
        &self.desk.settings
    }

    /// A complete `.env` for a program that should use it.
    pub fn env_file(&self) -> String {
        self.desk.settings.env_file(&self.desk.base_url)
    }
}

/// What a person at HighLevel can do.
impl Sandbox {
    /// Agrees as on the consent page, for the first location or the whole agency, and gives the code.
    pub fn approve(&self, redirect_uri: &str, state: Option<&str>, user_type: UserType) -> String {
        let location_id = match user_type {
            UserType::Location => Some(self.settings().location_id.clone()),
            UserType::Company => None,
        };
        let approval = Approval { redirect_uri: redirect_uri.to_owned(), location_id };
        self.desk.world().approve(approval, state).0
    }

    /// Agrees for one location, and gives the code.
    pub fn approve_location(&self, location_id: &str, redirect_uri: &str) -> String {
        let approval =
            Approval { redirect_uri: redirect_uri.to_owned(), location_id: Some(location_id.to_owned()) };
        self.desk.world().approve(approval, None).0
    }

    /// Ends the tokens of a location; or of the company and all its locations, given the company's id. The app
    /// stays installed: a company's token can mint a location's again.
    pub fn revoke(&self, id: &str) {
        self.desk.world().grants.revoke(id);
    }

    /// Ends the access tokens that a location (or the company) has now; its refresh token gets a new one.
    pub fn revoke_access_tokens(&self, id: &str) {
        self.desk.world().grants.revoke_access_tokens(id);
    }

    /// Uninstalls the app: tokens end, and nothing can be minted.
    pub fn uninstall(&self, id: &str) {
        self.desk.world().uninstall(id);
    }

    /// Installs the app on a location from the agency's own pages: there is no code, only a webhook.
    pub fn install(&self, location_id: &str) {
        let mut world = self.desk.world();
        let now = world.now;
        world.grants.install(location_id, now);
        world.tell_of("INSTALL", Some(location_id));
    }

    /// Tells the app that a location (or the company) has another version of it.
    pub fn update(&self, id: &str) {
        let location_id = (id != self.settings().company_id).then_some(id);
        self.desk.world().tell_of("UPDATE", location_id);
    }

    /// Tells the app that the agency has a new location.
    pub fn announce_location(&self, location_id: &str) {
        self.desk.world().tell_of_location(location_id);
    }

    /// Pauses a location (or the company): refreshing and minting answer `Location is not active`.
    pub fn suspend(&self, id: &str) {
        self.desk.world().grants.suspend(id);
    }

    /// Ends the pause.
    pub fn resume(&self, id: &str) {
        self.desk.world().grants.resume(id);
    }

    /// Changes what tokens issued from now on may do.
    pub fn set_scopes<S: Into<String>>(&self, scopes: impl IntoIterator<Item = S>) {
        self.desk.world().grants.set_scopes(scopes.into_iter().map(Into::into).collect());
    }

    /// Changes the client secret, as in the marketplace's portal.
    pub fn set_client_secret(&self, secret: &str) {
        self.desk.world().grants.set_client_secret(secret.to_owned());
    }

    /// Lets another client secret be good as well, until one takes the place of both.
    pub fn add_client_secret(&self, secret: &str) {
        self.desk.world().grants.add_client_secret(secret.to_owned());
    }

    /// Limits requests for tokens, of all grants together: beyond it there is a 429.
    pub fn limit_token_requests(&self, burst: u64, interval: Duration) {
        let limit = RateLimit { burst, interval, daily: u64::MAX, enforced: true };
        self.desk.world().token_limits = Some(limits::Limits::new(limit, self.desk.settings.rate_window));
    }

    /// Changes the rate limit.
    pub fn set_rate_limit(&self, limit: RateLimit) {
        self.desk.world().limits.set(limit);
    }

    /// Changes how the calls of an interval are counted.
    pub fn set_rate_window(&self, window: RateWindow) {
        self.desk.world().limits.set_window(window);
    }

    /// Whether resource calls are answered with `transfer-encoding: chunked`, where it is `Settings::chunked_answers`
    /// that says so at the start.
    pub fn answer_in_chunks(&self, chunked: bool) {
        self.desk.world().chunked_answers = chunked;
    }

    /// Every location of the agency.
    pub fn location_ids(&self) -> Vec<String> {
        self.desk.world().crm.locations().iter().map(|location| location.id.clone()).collect()
    }

    /// The tags of the health check's contact, as they are now.
    pub fn contact_tags(&self) -> Vec<String> {
        self.tags_of(&self.settings().contact_id.clone())
    }

    /// The tags of a contact, as they are now.
    pub fn tags_of(&self, contact_id: &str) -> Vec<String> {
        let mut world = self.desk.world();
        let now = world.now;
        world.crm.tags_of(contact_id, now)
    }
}

/// Webhooks.
impl Sandbox {
    /// From now on they are sent there: a plain `http://` address. Nobody is told anything before.
    pub fn send_webhooks_to(&self, url: &str) {
        self.desk.webhooks.send_to(Some(url.to_owned()));
    }

    /// How they are sent from now on.
    pub fn set_webhook_manner(&self, manner: Manner) {
        self.desk.webhooks.set_manner(manner);
    }

    /// Sends those that were held.
    pub fn let_webhooks_go(&self, order: Order) {
        self.desk.webhooks.let_go(order);
    }

    /// How many are held.
    pub fn held_webhooks(&self) -> usize {
        self.desk.webhooks.held()
    }

    /// Sends all that were sent once more, word for word.
    pub fn replay_webhooks(&self) {
        self.desk.webhooks.replay();
    }

    /// All that were sent, and how they were answered.
    pub fn sent_webhooks(&self) -> Vec<Sent> {
        self.desk.webhooks.sent()
    }

    /// The headers of a body's signature, for a test that sends one of its own.
    pub fn sign_webhook(&self, body: &str, signature: Signature) -> Vec<(&'static str, String)> {
        self.desk.webhooks.sign(body, signature)
    }

    /// The public key for their signatures, in the base64 of its DER.
    pub fn webhook_public_key(&self) -> String {
        webhooks::public_key(self.settings().seed)
    }

    /// The same for the legacy signature.
    pub fn webhook_rsa_public_key(&self) -> String {
        self.desk.webhooks.legacy_public_key()
    }
}

/// Time and faults.
impl Sandbox {
    /// Moves the sandbox's clock ahead: windows close, tokens expire, and nobody sleeps.
    pub fn advance(&self, by: Duration) {
        self.desk.clock.advance(by);
    }

    /// The sandbox's time, in milliseconds since 1970.
    pub fn now_millis(&self) -> u64 {
        self.desk.clock.now()
    }

    /// Lets something go wrong.
    pub fn fault(&self, fault: Fault) {
        self.desk.faults().throw(vec![fault], None, self.desk.clock.now());
    }

    /// Issues the next new pair of tokens to nobody: it is used up, and the answer is lost.
    pub fn lose_next_answer(&self) {
        self.fault(Fault::new(FaultKind::LoseAnswer).on(Matcher::Token));
    }

    /// Lets nothing go wrong any more.
    pub fn clear_faults(&self) {
        self.desk.faults().clear();
    }

    /// The faults that still wait for their request.
    pub fn waiting_faults(&self) -> Vec<Fault> {
        self.desk.waiting_faults()
    }

    /// Lets these requests wait, before anything is done, until [`Sandbox::release`].
    pub fn hold(&self, on: Matcher) {
        self.desk.holds.send_modify(|holds| holds.push(Hold { on, processed: false }));
    }

    /// Lets these answers wait, after everything was done, until [`Sandbox::release`].
    pub fn hold_answers(&self, on: Matcher) {
        self.desk.holds.send_modify(|holds| holds.push(Hold { on, processed: true }));
    }

    /// Lets everything go on.
    pub fn release(&self) {
        self.desk.holds.send_replace(Vec::new());
    }

    /// How many requests wait now.
    pub fn held(&self) -> usize {
        *self.desk.held.borrow()
    }

    /// Waits until at least so many requests wait.
    pub async fn until_held(&self, count: usize) {
        // It cannot fail: the sender lives in `self`.
        self.desk.held.subscribe().wait_for(|held| *held >= count).await.ok();
    }

    /// Begins again: no grants, no faults, no holds, an empty ledger; the same app and ids.
    pub fn reset(&self) {
        self.desk.reset();
    }
}

/// What it has seen, and what is true.
impl Sandbox {
    /// Everything it has noted, as a copy.
    pub fn ledger(&self) -> Ledger {
        self.desk.world().ledger.clone()
    }

    /// Whether the ledger is to note the headers of each request, which it doesn't unless told to.
    pub fn note_headers(&self, noted: bool) {
        self.desk.world().headers_noted = noted;
    }

    /// How often things happened.
    pub fn counts(&self) -> Counts {
        self.desk.world().ledger.counts
    }

    /// The newest refresh token of a location (or the company), if its grant is alive.
    pub fn current_refresh_token(&self, id: &str) -> Option<String> {
        self.desk.world().grants.current(id).map(|(_, refresh)| refresh)
    }

    /// The newest access token of a location (or the company), if its grant is alive.
    pub fn current_access_token(&self, id: &str) -> Option<String> {
        self.desk.world().grants.current(id).map(|(access, _)| access)
    }

    /// Whether this refresh token is the one that HighLevel waits for: whoever holds it has lost nothing.
    pub fn is_current_refresh_token(&self, token: &str) -> bool {
        let world = self.desk.world();
        world.grants.is_current(token, world.now)
    }

    /// Whether this access token would be taken now.
    pub fn is_valid_access_token(&self, token: &str) -> bool {
        let world = self.desk.world();
        world.grants.holder(token, world.now).is_some()
    }
}
