//! What the service answers from, and where it listens.

use std::path::PathBuf;
use std::sync::Arc;

use highlevel::{AppCredentials, Consent};
use tokens::{Clock, InstallPolicy, Keeper, Records};
use tokio::net::{TcpListener, UnixListener};
use upkeep::{Speech, Upkeep};

use crate::gateway::GatewaySettings;
use crate::status::StatusPage;
use crate::tls::Certificate;
use crate::webhooks::Webhooks;

/// Everything that requests are answered from.
pub struct House {
    /// The app's name, where it has one.
    pub app: Option<String>,
    /// All apps of the program.
    pub apps: Arc<[AppCard]>,
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
    /// The same in every language that there is, for people at the dashboard.
    pub languages: Vec<Arc<dyn Speech>>,
    /// Where a person authorises; none with a Private Integration Token.
    pub consent: Option<ConsentPage>,
    /// How webhooks of HighLevel's are believed; none with a Private Integration Token.
    pub webhooks: Option<Webhooks>,
    /// What becomes of installs that come by themselves.
    pub installs: InstallPolicy,
    /// Names under which the service is called, beside those of loopback.
    pub hosts: Vec<String>,
    /// How it is written down who took which token.
    pub audit: Audit,
    /// How many connections are kept.
    pub room: Room,
    /// How requests pass through to HighLevel.
    pub gateway: GatewaySettings,
    /// Who may see how all of it is.
    pub status_page: StatusPage,
    /// What is configured, to be shown.
    pub settings: Vec<Setting>,
}

/// A variable that is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name.
    pub name: String,
    /// The sentence that says what it is for.
    pub meaning: String,
    /// What it is set to; none where that is a secret.
    pub value: Option<String>,
}

/// What an app is, as far as it is no secret.
#[derive(Clone, Debug)]
pub struct AppCard {
    /// What it is called.
    pub name: String,
    /// Its client id; none with a Private Integration Token.
    pub client_id: Option<String>,
    /// The class of its grants.
    pub user_type: Option<&'static str>,
    /// Where browsers come back to.
    pub redirect_uri: Option<String>,
    /// What is asked for, if it is said.
    pub scopes: Option<String>,
}

/// How many connections each thread keeps at once. A flood at the public door leaves the private one
/// alone, and both leave files enough for the store and for HighLevel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    private: usize,
    public: usize,
}

impl Room {
    /// The room of each of `threads` in a process that may have `files` files and sockets open.
    pub fn within(files: usize, threads: usize) -> Self {
        const KEPT_FREE: usize = 64;
        let share = files.saturating_sub(KEPT_FREE) / threads.max(1);
        Self { private: (share / 2).clamp(4, 8192), public: (share / 4).clamp(4, 1024) }
    }

    pub(crate) fn of(self, face: Face) -> usize {
        match face {
            Face::Private => self.private,
            Face::Public => self.public,
        }
    }
}

/// HighLevel's page on which a person authorises, and the app that asks.
#[derive(Clone, Debug)]
pub struct ConsentPage {
    /// The page.
    pub page: String,
    /// The app.
    pub app: AppCredentials,
    /// What is asked for.
    pub scopes: Option<String>,
}

impl ConsentPage {
    /// The link to it, with what the callback must bring back.
    pub(crate) fn link(&self, state: Option<&str>) -> String {
        let Self { page, app, scopes } = self;
        Consent { page, app, scopes: scopes.as_deref(), state }.to_string()
    }
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
    /// Where browsers come back to, where HighLevel tells of events, `/livez`, the status page and badges where
    /// the settings say so, and nothing else.
    Public,
}

/// A socket that connections come from.
#[derive(Debug)]
pub enum Listener {
    /// A port.
    Tcp(TcpListener),
    /// A port, behind TLS.
    Tls(TcpListener, Arc<Certificate>),
    /// A file.
    Unix(UnixListener),
}

/// A certificate with its chain, and its key, in PEM. They are read anew when they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate and its chain.
    pub certificate: PathBuf,
    /// The key.
    pub key: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_door_can_take_all_files_there_are() {
        let check = |files, threads, private, public| {
            assert_eq!(Room::within(files, threads), Room { private, public }, "{files}, {threads}");
        };
        check(1024, 2, 240, 120);
        check(1024, 8, 60, 30);
        check(20_000, 2, 4984, 1024);
        check(usize::MAX, 1, 8192, 1024);
        check(64, 2, 4, 4);
        check(0, 0, 4, 4);
        for threads in 1..=8 {
            let Room { private, public } = Room::within(512, threads);
            assert!((private + public) * threads <= 384, "{threads}");
        }
    }
}
