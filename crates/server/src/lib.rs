//! What happens on request: the only place that answers HTTP for the service.

mod house;
mod key;

pub use house::{Audit, ConsentPage, Face, House, Listener, serve};
pub use key::ApiKey;
