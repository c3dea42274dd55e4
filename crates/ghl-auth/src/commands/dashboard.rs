//! `dashboard`: a link that signs whoever opens it in to the service's dashboard, once.

use serde_json::json;
use tokens::Clock as _;

use crate::cli::DashboardArgs;
use crate::config::{Doors, Listen};
use crate::exit::Exit;
use crate::explain::Explained;
use crate::output::{self, rfc3339};
use crate::wiring::{Context, SystemClock};

pub(crate) async fn run(args: &DashboardArgs, context: &Context) -> Result<Exit, Explained> {
    context.warn_of_source();
    let doors = context.settings(|config| config.doors(false))?;
    let Some(address) = address(&doors) else {
        return Err(Explained::new(&context.text, "dashboard_no_port", Exit::Usage, &[]));
    };
    let records = context.open_records().await?;
    let link = server::invite(records.as_ref(), context.source.app().name(), SystemClock.now()).await;
    let (path, expires_at) = link.map_err(|error| context.store_error(&error))?;
    let url = format!("{address}{path}");
    if args.json {
        output::document(&json!({ "url": url, "expires_at": rfc3339(expires_at) }));
    } else {
        output::talk(&context.text.say("dashboard-link", &[]));
        output::answer(&url);
    }
    Ok(Exit::Good)
}

/// Where a browser on this machine reaches the service; none where that listens on a file, or on whichever
/// port is free.
pub(super) fn address(doors: &Doors) -> Option<String> {
    let Listen::Tcp(address) = &doors.private else { return None };
    let scheme = if doors.tls.is_some() { "https" } else { "http" };
    (address.port() != 0).then(|| match address.ip().is_unspecified() {
        true => format!("{scheme}://localhost:{}", address.port()),
        false => format!("{scheme}://{address}"),
    })
}
