//! `status`: every installation, how it is, and what to do.

use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};
use serde_json::{Value, json};
use tokens::store::Listing;
use tokens::{Clock, Connection, Health, Overview, Timestamp};

use crate::cli::StatusArgs;
use crate::exit::Exit;
use crate::explain::{self, Explained};
use crate::output::{self, moment, rfc3339, span};
use crate::text::Text;
use crate::wiring::{Context, SystemClock};

pub(crate) async fn run(args: &StatusArgs, context: &Context) -> Result<Exit, Explained> {
    context.warn_of_source();
    let settings = context.settings(|config| config.store())?;
    let (store, _) = context.open_store(&settings, None).await?;
    let all = store.overview(&Listing::ALL).await.map_err(|error| context.store_error(&error))?;
    let now = SystemClock.now();
    context.warn_of_standby(store.as_ref()).await;
    if args.json {
        let list: Vec<Value> = all.iter().map(|installation| document(context, installation, now)).collect();
        output::document(&json!({ "store": settings.url.to_string(), "installations": list }));
    } else if all.is_empty() {
        output::answer(&context.text.say("status-empty", &[("store", settings.url.to_string().into())]));
    } else {
        output::answer(&table(context, &all, now).to_string());
        for installation in &all {
            if let Some(trouble) = trouble(context, installation, now) {
                output::error(&context.text, &trouble);
            }
        }
    }
    Ok(Exit::Good)
}

/// How an installation is, by its connection first and its last check second.
fn health(installation: &Overview, now: Timestamp) -> Option<Health> {
    match &installation.connection {
        Connection::Broken(_) => Some(Health::NeedsPerson),
        Connection::Suspended { .. } => Some(Health::Suspended),
        Connection::Uncertain { .. } if installation.remaining(now).is_zero() => Some(Health::Down),
        Connection::Uncertain { .. } => Some(Health::Degraded),
        Connection::Connected => installation.last_check.as_ref().map(|check| check.health),
    }
}

fn table(context: &Context, all: &[Overview], now: Timestamp) -> Table {
    let text = &context.text;
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    let heads = ["head-installation", "head-health", "head-token", "head-generation", "head-check"];
    table.set_header(heads.map(|key| Cell::new(text.say(key, &[])).add_attribute(Attribute::Bold)));
    for installation in all {
        table.add_row([
            Cell::new(explain::whose(text, &installation.id)),
            health_cell(text, health(installation, now)),
            Cell::new(token_life(text, installation, now)),
            Cell::new(installation.version.generation),
            Cell::new(match &installation.last_check {
                Some(check) => text.say("ago", &[("span", span(now.since(check.at)).into())]),
                None => text.say("never", &[]),
            }),
        ]);
    }
    table
}

fn health_cell(text: &Text, health: Option<Health>) -> Cell {
    let (key, color) = match health {
        None => ("health-unknown", Color::Reset),
        Some(Health::Operational) => ("health-operational", Color::Green),
        Some(Health::Degraded) => ("health-degraded", Color::Yellow),
        Some(Health::Down) => ("health-down", Color::Red),
        Some(Health::Suspended) => ("health-suspended", Color::Yellow),
        Some(Health::NeedsPerson) => ("health-needs-person", Color::Red),
    };
    Cell::new(text.say(key, &[])).fg(color)
}

fn token_life(text: &Text, installation: &Overview, now: Timestamp) -> String {
    match installation.remaining(now) {
        left if left.is_zero() => {
            text.say("token-expired", &[("at", moment(installation.expires_at).into())])
        }
        left => text.say("token-lives", &[("span", span(left).into())]),
    }
}

/// What is wrong with the connection, with the cure.
fn trouble(context: &Context, installation: &Overview, now: Timestamp) -> Option<Explained> {
    let id = installation.id.clone();
    let error = match &installation.connection {
        Connection::Connected => return None,
        Connection::Uncertain { said, retry_at, .. } if installation.remaining(now).is_zero() => {
            tokens::KeeperError::Resting { until: *retry_at, said: said.clone() }
        }
        Connection::Uncertain { said, .. } => tokens::KeeperError::Unanswered { said: said.clone() },
        Connection::Suspended { since, said, .. } => {
            tokens::KeeperError::Suspended { id, since: *since, said: said.clone() }
        }
        Connection::Broken(broken) => tokens::KeeperError::NeedsPerson { id, broken: broken.clone() },
    };
    Some(context.keeper_error(&error))
}

fn document(context: &Context, installation: &Overview, now: Timestamp) -> Value {
    json!({
        "kind": installation.id.kind(),
        "id": installation.id.as_str(),
        "company_id": installation.company.as_ref().map(tokens::CompanyId::as_str),
        "health": health(installation, now).map(Health::as_str),
        "generation": installation.version.generation,
        "issued_at": rfc3339(installation.issued_at),
        "expires_at": rfc3339(installation.expires_at),
        "expires_in": installation.remaining(now).as_secs(),
        "refresh_due_at": rfc3339(installation.half_life_at()),
        "scope": installation.scopes,
        "last_check": installation.last_check.as_ref().map(|check| json!({
            "at": rfc3339(check.at),
            "health": check.health.as_str(),
            "code": check.code,
            "detail": check.said,
        })),
        "error": trouble(context, installation, now).map(|error| error.to_json()),
    })
}
