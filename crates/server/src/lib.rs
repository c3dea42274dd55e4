//! What happens on request: the only place that answers HTTP for the service.
//!
//! The path of a request: [`Street`] takes the connection and finds out which app it is for. That app's
//! [`Front`] checks by which name it is called and what the listener may show. A plain question for a token that is at hand is answered from memory
//! (`shortcut`, `copies`). What is for HighLevel itself passes through `gateway`. Everything else goes through the table in `routes`, whose guard turns the
//! API key into a caller (`auth`), to a handler in `api` or `browser` that asks the Keeper one question; pages for people are in `dashboard`, and what anybody may see of it in `status`.
//! What can't be answered leaves through `error`.

mod api;
mod audit;
mod auth;
mod browser;
mod copies;
mod dashboard;
mod error;
mod front;
mod gateway;
mod house;
mod key;
mod metrics;
mod openapi;
mod patience;
mod routes;
mod shortcut;
mod status;
mod street;
mod tls;
mod webhooks;

mod hosts;

pub use dashboard::invite;
pub use front::Front;
pub use gateway::{BudgetMode, GatewaySettings, Limits};
pub use house::{AppCard, Audit, CertificateFiles, ConsentPage, Face, House, Listener, Room, Setting};
pub use key::ApiKey;
pub use routes::{Door, Entry, entries};
pub use status::StatusPage;
pub use street::{Closed, Street};
pub use tls::Certificate;
pub use webhooks::Webhooks;
