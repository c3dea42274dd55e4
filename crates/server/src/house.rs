//! What the service answers from, and where it listens.

use std::path::PathBuf;
use std::sync::Arc;

use highlevel::{AppCredentials, Consent};
use tokens::{Clock, InstallPolicy, Keeper, Records};
use tokio::net::{TcpListener, UnixListener};
use upkeep::{Speech, Upkeep};

use crate::tls::InUse;

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
    /// Where browsers come back to, `/livez`, and nothing else.
    Public,
}

/// A socket that connections come from.
#[derive(Debug)]
pub enum Listener {
    /// A port.
    Tcp(TcpListener),
    /// A port, behind TLS.
    Tls(TcpListener, CertificateFiles),
    /// A file.
    Unix(UnixListener),
}

/// A certificate with its chain, and its key, in PEM. They are read anew when they change; clones share
/// what was read.
#[derive(Clone, Debug)]
pub struct CertificateFiles {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) in_use: InUse,
}

impl CertificateFiles {
    /// The file of the certificate and its chain, and that of the key.
    pub fn new(certificate: PathBuf, key: PathBuf) -> Self {
        Self { certificate, key, in_use: InUse::default() }
    }
}
