//! How we speak to HighLevel: the only place that knows its paths, headers and field names.
//!
//! [`OAuth`] is the [`tokens::Issuer`]; [`Api`] makes the few calls that a check needs. Both go
//! through one [`Client`], which never follows a redirect and never sends anything twice by itself. What
//! passes the gateway goes by [`Lines`] where it is plain, and else by a [`Forwarder`].
//! Replies in either dialect become our nouns in `wire`, refusals become kinds to act on in `error`.

mod client;
mod contacts;
mod error;
mod field;
mod forward;
mod greeting;
mod installed;
mod jwt;
mod line;
mod locations;
mod oauth;
mod rate;
mod version;
mod webhook;
mod wire;

pub use client::{Api, ApiBase, Client, Dialect, InvalidBase, Reply, RootsError, is_loopback};
pub use contacts::Contact;
pub use error::{Failure, FailureKind, Meaning, meaning};
pub use field::{is_field, whole_number};
pub use forward::{Forwarder, Protocol};
pub use greeting::Greeting;
pub use installed::{InstalledLocation, InstalledPage, PageStart, approved_locations};
pub use line::{Broken, Head, Length, Line, Lines, write_parts};
pub use locations::{CustomField, Location};
pub use oauth::{AppCredentials, Consent, OAuth, app_id, read_answer};
pub use rate::{RateLimits, Told};
pub use version::version_of;
pub use webhook::{
    Event, Happening, Install, InvalidWebhookKey, OddEvent, PUBLISHED_KEY, PUBLISHED_RSA_KEY, Unverified,
    Verified, WebhookKeys,
};
