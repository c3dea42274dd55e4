//! What the service answers with, and where it listens.

use std::sync::Arc;

use tokens::{Clock, InstallPolicy, Keeper, Records};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use upkeep::{Speech, Upkeep};

/// Everything that requests are answered from.
pub struct House {
    /// Hands out tokens.
    pub keeper: Keeper,
    /// Keys, history, visits.
    pub records: Arc<dyn Records>,
    /// Runs checks.
    pub upkeep: Arc<Upkeep>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The words.
    pub speech: Arc<dyn Speech>,
    /// Where a person authorises; none with a Private Integration Token.
    pub consent: Option<ConsentPage>,
    /// What becomes of installs that come by themselves.
    pub installs: InstallPolicy,
    /// Names under which the service is called, beside those of loopback.
    pub hosts: Vec<String>,
    /// How it is written down who took which token.
    pub audit: Audit,
}

/// HighLevel's page on which a person authorises, and the app that asks.
#[derive(Clone, Debug)]
pub struct ConsentPage {
    /// The page.
    pub page: String,
    /// The app.
    pub app: highlevel::AppCredentials,
    /// What is asked for.
    pub scopes: Option<String>,
}

/// How it is written down who took which token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audit {
    /// Counted for each key, installation and minute, flushed each second.
    Counted,
    /// One line flushed before every token leaves; where that fails, the token stays.
    Each,
}

/// Which of the two faces a listener shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// Everything.
    Private,
    /// The callback, the webhook and `/livez`, and nothing else.
    Public,
}

/// A socket that connections come from.
#[derive(Debug)]
pub enum Listener {
    /// A port.
    Tcp(TcpListener),
    /// A file.
    Unix(UnixListener),
}

/// Answers until `stop` turns true, then ends the requests at hand.
pub async fn serve(_listener: Listener, _face: Face, _house: Arc<House>, mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
