//! The log, on stderr: for people, or one JSON object a line.

use std::io::IsTerminal;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::config::{Found, Source};

/// Starts logging as `GHL_AUTH_LOG` and `GHL_AUTH_LOG_FORMAT` say. A filter that can't be read
/// counts as the default.
pub(crate) fn start(source: &Source) {
    let set = |name| match source.find(name) {
        Found::Value(value) => Some(value),
        _ => None,
    };
    let filter = set("GHL_AUTH_LOG").and_then(|text| text.parse::<Targets>().ok());
    let filter = filter.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|set| !set.is_empty());
    let color = std::io::stderr().is_terminal() && !no_color;
    let lines = match set("GHL_AUTH_LOG_FORMAT").as_deref() {
        Some("json") => fmt::layer().json().with_writer(std::io::stderr).boxed(),
        _ => fmt::layer().with_writer(std::io::stderr).with_ansi(color).with_target(false).boxed(),
    };
    tracing_subscriber::registry().with(lines.with_filter(filter)).init();
}
