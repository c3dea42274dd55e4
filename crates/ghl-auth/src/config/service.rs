//! The settings of the service: where it listens, whom it lets in, whom it tells.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use highlevel::{InvalidWebhookKey, Protocol, WebhookKeys};
use server::{Audit, BudgetMode, CertificateFiles, Limits, StatusPage};
use tokens::{AlertRules, CompanyId, InstallPolicy, InstallationId, LocationId};
use upkeep::{BadSecret, Heartbeat, MailAddress, MailServer, Post, Way};

use super::{Config, shown};

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Listen {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Listen {
    fn parse(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix("unix:") {
            return (!path.is_empty()).then(|| Self::Unix(PathBuf::from(path)));
        }
        let address = match text.strip_prefix("localhost:") {
            Some(port) => format!("127.0.0.1:{port}"),
            None => text.to_owned(),
        };
        address.parse().ok().map(Self::Tcp)
    }

    /// Whether only this machine can reach it.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

/// Where the service listens.
#[derive(Clone, Debug)]
pub(crate) struct Doors {
    pub(crate) private: Listen,
    pub(crate) public: Option<SocketAddr>,
    pub(crate) tls: Option<CertificateFiles>,
    /// Names under which it is called, beside those of loopback.
    pub(crate) hosts: Vec<String>,
}

impl Doors {
    /// Whether both are the same addresses, with the same certificate's files.
    pub(crate) fn are_at(&self, other: &Self) -> bool {
        (&self.private, &self.public, &self.tls) == (&other.private, &other.public, &other.tls)
    }
}

/// How requests pass through to HighLevel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passage {
    pub(crate) budget: BudgetMode,
    pub(crate) limits: Limits,
    pub(crate) protocol: Protocol,
    pub(crate) longest_body: Option<u64>,
    pub(crate) at_once: u32,
}

impl Config<'_> {
    /// Where the service listens; beyond this machine only when that is `exposed` by name, and with TLS.
    pub(crate) fn doors(&mut self, exposed: bool) -> Option<Doors> {
        let text = self.optional("GHL_AUTH_LISTEN").unwrap_or_else(|| "127.0.0.1:8787".into());
        let private = self.listen("GHL_AUTH_LISTEN", &text);
        let public = match self.optional("GHL_AUTH_PUBLIC_LISTEN") {
            None => Some(None),
            Some(text) => match self.listen("GHL_AUTH_PUBLIC_LISTEN", &text) {
                Some(Listen::Tcp(address)) => Some(Some(address)),
                Some(Listen::Unix(_)) => {
                    self.malformed("GHL_AUTH_PUBLIC_LISTEN", "bad-public-listen", vec![])
                }
                None => None,
            },
        };
        let certificate = self.optional("GHL_AUTH_TLS_CERT").map(PathBuf::from);
        let key = self.private_file("GHL_AUTH_TLS_KEY");
        let tls = match (certificate, key) {
            (Some(certificate), Some(key)) => Some(CertificateFiles { certificate, key }),
            (None, None) => None,
            (None, Some(_)) => self.malformed("GHL_AUTH_TLS_CERT", "bad-tls-half", vec![]),
            (Some(_), None) => self.malformed("GHL_AUTH_TLS_KEY", "bad-tls-half", vec![]),
        };
        let (private, public) = (private?, public?);
        self.refuse_open_folder(&private);
        if !private.is_local() && !exposed {
            return self.malformed("GHL_AUTH_LISTEN", "bad-listen-exposed", vec![("value", text)]);
        }
        if !private.is_local() && tls.is_none() {
            return self.malformed("GHL_AUTH_LISTEN", "bad-listen-clear-text", vec![("value", text)]);
        }
        let hosts = self.hosts(&private, public)?;
        Some(Doors { private, public, tls, hosts })
    }

    /// A socket file in a folder where others could put their own in its place.
    fn refuse_open_folder(&mut self, listen: &Listen) {
        let Listen::Unix(path) = listen else { return };
        if let Some((folder, mode)) = store::open_folder(path) {
            let arguments = vec![
                ("path", path.display().to_string()),
                ("folder", folder.display().to_string()),
                ("mode", format!("{mode:04o}")),
            ];
            self.malformed::<()>("GHL_AUTH_LISTEN", "bad-listen-folder", arguments);
        }
    }

    fn listen(&mut self, name: &'static str, text: &str) -> Option<Listen> {
        match Listen::parse(text) {
            Some(listen) => Some(listen),
            None => self.malformed(name, "bad-listen", vec![("value", shown(text))]),
        }
    }

    /// The names that requests may call the service by: those configured, the one in the redirect
    /// address, and the addresses it listens at.
    fn hosts(&mut self, private: &Listen, public: Option<SocketAddr>) -> Option<Vec<String>> {
        let named = self.optional("GHL_AUTH_HOSTS").unwrap_or_default();
        let mut hosts = Vec::new();
        for name in named.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
            if !name.chars().all(plain) {
                return self.malformed("GHL_AUTH_HOSTS", "bad-host", vec![("value", shown(name))]);
            }
            hosts.push(name.to_ascii_lowercase());
        }
        let redirect = self.optional("GHL_REDIRECT_URI").and_then(|uri| uri.parse::<axum::http::Uri>().ok());
        hosts.extend(redirect.and_then(|uri| uri.host().map(str::to_ascii_lowercase)));
        let private = match private {
            Listen::Tcp(address) => Some(*address),
            Listen::Unix(_) => None,
        };
        let listening = [private, public].into_iter().flatten().map(|address| address.ip());
        hosts.extend(listening.filter(|ip| !ip.is_unspecified()).map(|ip| match ip {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        }));
        hosts.sort();
        hosts.dedup();
        Some(hosts)
    }

    /// What becomes of installs that come by themselves.
    pub(crate) fn installs(&mut self) -> Option<InstallPolicy> {
        let listed = self.optional("GHL_AUTH_ALLOWED_INSTALLS").unwrap_or_default();
        let mut allowed = BTreeSet::new();
        for id in listed.split(',').map(str::trim).filter(|id| !id.is_empty()) {
            allowed.insert(InstallationId::Location(
                self.parsed::<LocationId>("GHL_AUTH_ALLOWED_INSTALLS", id)?,
            ));
            allowed
                .insert(InstallationId::Company(self.parsed::<CompanyId>("GHL_AUTH_ALLOWED_INSTALLS", id)?));
        }
        match self.optional("GHL_AUTH_INSTALLS").as_deref() {
            None | Some("approve") => Some(InstallPolicy::Approve),
            Some("open") => Some(InstallPolicy::Open),
            Some("allowlist") if allowed.is_empty() => {
                self.malformed("GHL_AUTH_ALLOWED_INSTALLS", "bad-allowlist-empty", vec![])
            }
            Some("allowlist") => Some(InstallPolicy::Allowlist(allowed)),
            Some(other) => self.malformed("GHL_AUTH_INSTALLS", "bad-installs", vec![("value", shown(other))]),
        }
    }

    /// With which keys HighLevel's webhooks are believed: its published ones, where none are named. The
    /// legacy signature is not, unless someone says so.
    pub(crate) fn webhook_keys(&mut self) -> Option<WebhookKeys> {
        let named = self.optional("GHL_WEBHOOK_PUBLIC_KEYS");
        let keys = match WebhookKeys::read(named.as_deref().unwrap_or(highlevel::PUBLISHED_KEY)) {
            Ok(keys) => Some(keys),
            Err(why) => self.no_webhook_key("GHL_WEBHOOK_PUBLIC_KEYS", why),
        };
        let legacy = match self.optional("GHL_WEBHOOK_LEGACY_RSA").as_deref() {
            None | Some("off") => Some(false),
            Some("on") => Some(true),
            Some(other) => {
                let value = vec![("value", shown(other))];
                self.malformed("GHL_WEBHOOK_LEGACY_RSA", "bad-switch", value)
            }
        };
        let named = self.optional("GHL_WEBHOOK_RSA_PUBLIC_KEY");
        let (keys, legacy) = (keys?, legacy?);
        if !legacy {
            return Some(keys);
        }
        match keys.with_legacy_rsa(named.as_deref().unwrap_or(highlevel::PUBLISHED_RSA_KEY)) {
            Ok(keys) => Some(keys),
            Err(why) => self.no_webhook_key("GHL_WEBHOOK_RSA_PUBLIC_KEY", why),
        }
    }

    fn no_webhook_key<T>(&mut self, name: &'static str, why: InvalidWebhookKey) -> Option<T> {
        let message = match why {
            InvalidWebhookKey::NoText => "bad-webhook-key-text",
            InvalidWebhookKey::OtherKind => "bad-webhook-key-kind",
            InvalidWebhookKey::Weak => "bad-webhook-key-weak",
        };
        self.malformed(name, message, vec![])
    }

    /// How it is written down who took which token.
    pub(crate) fn audit(&mut self) -> Option<Audit> {
        match self.optional("GHL_AUTH_AUDIT").as_deref() {
            None | Some("counted") => Some(Audit::Counted),
            Some("each") => Some(Audit::Each),
            Some(other) => self.malformed("GHL_AUTH_AUDIT", "bad-audit", vec![("value", shown(other))]),
        }
    }

    /// Who may see how all of it is.
    pub(crate) fn status_page(&mut self) -> Option<StatusPage> {
        match self.optional("GHL_AUTH_STATUS_PAGE").as_deref() {
            None | Some("off") => Some(StatusPage::Off),
            Some("on") => Some(StatusPage::On),
            Some("names") => Some(StatusPage::Names),
            Some(other) => {
                self.malformed("GHL_AUTH_STATUS_PAGE", "bad-status-page", vec![("value", shown(other))])
            }
        }
    }

    /// How requests pass through to HighLevel.
    pub(crate) fn gateway(&mut self) -> Option<Passage> {
        let budget = match self.optional("GHL_AUTH_GATEWAY_BUDGET").as_deref() {
            None | Some("observe") => Some(BudgetMode::Observe),
            Some("enforce") => Some(BudgetMode::Enforce),
            Some(other) => {
                self.malformed("GHL_AUTH_GATEWAY_BUDGET", "bad-gateway-budget", vec![("value", shown(other))])
            }
        };
        let limits = match self.optional("GHL_AUTH_GATEWAY_LIMITS").as_deref() {
            None | Some("app") => Some(Limits::APP),
            Some("sandbox-pit") => Some(Limits::SANDBOX_PIT),
            Some(other) => {
                self.malformed("GHL_AUTH_GATEWAY_LIMITS", "bad-gateway-limits", vec![("value", shown(other))])
            }
        };
        let protocol = match self.optional("GHL_AUTH_GATEWAY_HTTP").as_deref() {
            None | Some("1.1") => Some(Protocol::Http1),
            Some("2") => Some(Protocol::Http2),
            Some(other) => {
                self.malformed("GHL_AUTH_GATEWAY_HTTP", "bad-gateway-http", vec![("value", shown(other))])
            }
        };
        // 0 stands for none.
        let longest = self.number("GHL_AUTH_GATEWAY_MAX_BODY_MIB", 0, 0..=1_048_576);
        let at_once = self.number("GHL_AUTH_GATEWAY_AT_ONCE", 256, 1..=100_000);
        let longest_body = Some(u64::from(longest?) << 20).filter(|longest| *longest > 0);
        Some(Passage {
            budget: budget?,
            limits: limits?,
            protocol: protocol?,
            longest_body,
            at_once: at_once?,
        })
    }

    /// When people are told.
    pub(crate) fn alerts(&mut self) -> Option<AlertRules> {
        let after = self.number("GHL_ALERT_AFTER", 2, 1..=1000);
        let hours = self.number("GHL_ALERT_REMIND_HOURS", 24, 1..=8760);
        let remind_every = Duration::from_secs(u64::from(hours?) * 3600);
        Some(AlertRules { after: after?, remind_every })
    }

    /// The second tag, which is of no use without a contact that gets it.
    pub(crate) fn failure_tag(&mut self) -> Option<Option<String>> {
        let tag = self.optional("GHL_HEALTH_CHECK_FAILURE_TAG_NAME");
        if tag.is_some() && self.optional("GHL_HEALTH_CHECK_CONTACT_ID").is_none() {
            return self.malformed("GHL_HEALTH_CHECK_FAILURE_TAG_NAME", "bad-failure-tag", vec![]);
        }
        Some(tag)
    }

    /// How people are told.
    pub(crate) fn ways(&mut self) -> Option<(Vec<Way>, Option<Heartbeat>)> {
        let post = Post::new(self.truth("GHL_NOTIFY_ALLOW_PRIVATE")?);
        let secret = self.optional("GHL_NOTIFY_WEBHOOK_SECRET");
        let mut ways = Vec::new();
        if let Some(to) = self.notify_address("GHL_NOTIFY_WEBHOOK_URL", &post)? {
            match Way::webhook(post.clone(), to, secret.as_deref()) {
                Ok(way) => ways.push(way),
                Err(BadSecret) => {
                    return self.malformed("GHL_NOTIFY_WEBHOOK_SECRET", "bad-notify-secret", vec![]);
                }
            }
        }
        let slack = self.notify_address("GHL_NOTIFY_SLACK_URL", &post)?;
        ways.extend(slack.map(|to| Way::slack(post.clone(), to)));
        let discord = self.notify_address("GHL_NOTIFY_DISCORD_URL", &post)?;
        ways.extend(discord.map(|to| Way::discord(post.clone(), to)));
        let telegram = self.notify_address("GHL_NOTIFY_TELEGRAM_URL", &post)?;
        ways.extend(telegram.map(|to| Way::telegram(post.clone(), to)));
        ways.extend(self.email(&post)?);
        let heartbeat = match self.optional("GHL_HEARTBEAT_URL") {
            None => None,
            Some(url) => match Heartbeat::at(post, &url) {
                Ok(heartbeat) => Some(heartbeat),
                Err(why) => {
                    let why = ("why", why.to_string());
                    return self.malformed("GHL_HEARTBEAT_URL", "bad-notify-url", vec![why]);
                }
            },
        };
        Some((ways, heartbeat))
    }

    /// E-mail, for which a server and a recipient belong together.
    fn email(&mut self, post: &Post) -> Option<Option<Way>> {
        let url = self.optional("GHL_NOTIFY_SMTP_URL");
        let (url, recipients) = match (url, self.optional("GHL_NOTIFY_EMAIL_TO")) {
            (Some(url), Some(to)) => (url, to),
            (None, None) => return Some(None),
            (Some(_), None) => return self.malformed("GHL_NOTIFY_EMAIL_TO", "bad-email-half", vec![]),
            (None, Some(_)) => return self.malformed("GHL_NOTIFY_SMTP_URL", "bad-email-half", vec![]),
        };
        let server = match url.parse::<MailServer>() {
            Ok(server) => Some(server),
            Err(_) => self.malformed("GHL_NOTIFY_SMTP_URL", "bad-smtp-url", vec![]),
        };
        let to = recipients.split(',').filter(|one| !one.trim().is_empty());
        let to: Option<Vec<_>> = to.map(|one| self.mail_address("GHL_NOTIFY_EMAIL_TO", one)).collect();
        let from = match self.optional("GHL_NOTIFY_EMAIL_FROM") {
            Some(text) => self.mail_address("GHL_NOTIFY_EMAIL_FROM", &text),
            None => match server.as_ref()?.user_address() {
                Some(address) => Some(address),
                None => self.malformed("GHL_NOTIFY_EMAIL_FROM", "bad-email-no-sender", vec![]),
            },
        };
        let to = match to {
            Some(to) if to.is_empty() => self.malformed("GHL_NOTIFY_EMAIL_TO", "bad-email-half", vec![]),
            to => to,
        };
        Some(Some(Way::email(post.clone(), server?, from?, to?)))
    }

    fn mail_address(&mut self, name: &'static str, text: &str) -> Option<MailAddress> {
        match text.parse() {
            Ok(address) => Some(address),
            Err(_) => self.malformed(name, "bad-email", vec![("value", shown(text.trim()))]),
        }
    }

    fn notify_address(&mut self, name: &'static str, post: &Post) -> Option<Option<axum::http::Uri>> {
        let Some(text) = self.optional(name) else { return Some(None) };
        match post.address(&text) {
            Ok(to) => Some(Some(to)),
            Err(why) => self.malformed(name, "bad-notify-url", vec![("why", why.to_string())]),
        }
    }

    fn truth(&mut self, name: &'static str) -> Option<bool> {
        match self.optional(name).as_deref() {
            None | Some("false") => Some(false),
            Some("true") => Some(true),
            Some(other) => self.malformed(name, "bad-truth", vec![("value", shown(other))]),
        }
    }

    fn number(
        &mut self,
        name: &'static str,
        otherwise: u32,
        good: std::ops::RangeInclusive<u32>,
    ) -> Option<u32> {
        match self.optional(name) {
            None => Some(otherwise),
            Some(text) => match text.parse() {
                Ok(number) if good.contains(&number) => Some(number),
                _ => {
                    let (least, most) = (good.start().to_string(), good.end().to_string());
                    let value = shown(&text);
                    self.malformed(
                        name,
                        "bad-number",
                        vec![("value", value), ("least", least), ("most", most)],
                    )
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_an_address_with_a_port_or_a_socket_file() {
        let check = |text: &str, local: Option<bool>| {
            assert_eq!(Listen::parse(text).map(|listen| listen.is_local()), local, "{text}");
        };
        check("127.0.0.1:8787", Some(true));
        check("[::1]:8787", Some(true));
        check("localhost:8787", Some(true));
        check("unix:/run/ghl-auth/api.sock", Some(true));
        check("0.0.0.0:8787", Some(false));
        check("[::]:8787", Some(false));
        check("192.0.2.7:80", Some(false));
        check("unix:", None);
        check("8787", None);
        check("example.com:80", None);
        check("", None);
    }
}
