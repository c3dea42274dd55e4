//! `status`: every installation, how it is, and what to do.

mod tree;

use std::sync::Arc;

use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};
use serde_json::{Value, json};
use tokens::store::{Counts, Listing, Order, Stand};
use tokens::{Clock, Connection, Drift, Health, Overview, Store, Timestamp};

use crate::cli::StatusArgs;
use crate::config::{Config, StoreSettings};
use crate::exit::Exit;
use crate::explain::{self, Explained};
use crate::output::{self, moment, rfc3339, span};
use crate::text::Text;
use crate::wiring::{Context, SystemClock};
use tree::Line;

/// So many are shown in a table of which nobody said how long it is to be.
const USUAL: usize = 50;

/// So many are in memory at a time where all are asked for.
const PAGE: usize = 1000;

pub(crate) async fn run(args: &StatusArgs, context: &Context) -> Result<Exit, Explained> {
    context.warn_of_source();
    let apps = context.of_each_app()?;
    let stores = Context::settings_of_each(&apps, |config| config.store())?;
    let listing = asked_for(args);
    if args.json {
        return json_list(&apps, &stores, listing).await;
    }
    let mut exit = Exit::Good;
    for (app, settings) in apps.iter().zip(&stores) {
        if apps.len() > 1 {
            let name = app.source.app().to_string();
            output::headline(&context.text.say("status-app", &[("app", name.into())]));
        }
        match show(app, settings, listing.clone()).await {
            Ok(()) => {}
            Err(error) if apps.len() == 1 => return Err(error),
            // One app's trouble hides no other.
            Err(error) => {
                output::error(&app.text, &error);
                exit = error.exit;
            }
        }
    }
    Ok(exit)
}

/// Whom the command line asks for.
fn asked_for(args: &StatusArgs) -> Listing {
    let limit = args.limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
    Listing {
        company: args.company.clone(),
        standing: args.state,
        text: args.search.clone().filter(|text| !text.is_empty()),
        order: args.sort,
        limit: limit.unwrap_or(if args.all || args.json { usize::MAX } else { USUAL }),
        ..Listing::ALL
    }
}

/// One app's installations, for people.
async fn show(context: &Context, settings: &StoreSettings, listing: Listing) -> Result<(), Explained> {
    let (store, _) = context.open_store(settings, None).await?;
    context.warn_of_standby(store.as_ref()).await;
    let counts = store.counts().await.map_err(|error| context.store_error(&error))?;
    let is_all = Listing { limit: usize::MAX, order: Order::Id, ..listing.clone() } == Listing::ALL;
    let shown = tree::shown(store.as_ref(), listing).await.map_err(|error| context.store_error(&error))?;
    if shown.lines.is_empty() {
        let key = if is_all { "status-empty" } else { "status-none" };
        output::answer(&context.text.say(key, &[("store", settings.url.to_string().into())]));
        return Ok(());
    }
    let (now, wanted) = (SystemClock.now(), Wanted::read(context));
    output::answer(&table(context, &shown.lines, now).to_string());
    if shown.goes_on {
        output::answer(&context.text.say("status-more", &[]));
    }
    if counts.locations + counts.companies > 1 {
        output::answer(&summary(&context.text, &counts));
    }
    for installation in shown.lines.iter().filter_map(Line::installation) {
        if let Some(at) = installation.unlisted_at {
            let whose = explain::whose(&context.text, &installation.id);
            let said = [("id", whose.into()), ("at", moment(at).into())];
            output::warning(&context.text, &context.text.say("status-unlisted", &said));
        }
        if let Some(trouble) = trouble(context, installation, now) {
            output::error(&context.text, &trouble);
        }
        wanted.warn_of(context, installation);
    }
    Ok(())
}

/// All of it as one document, of which only a page is in memory at a time. That of a single app names
/// its store at the top, that of several each in a list.
async fn json_list(
    apps: &[Context],
    settings: &[StoreSettings],
    listing: Listing,
) -> Result<Exit, Explained> {
    let mut stores = Vec::new();
    let mut heads = Vec::new();
    let mut exit = Exit::Good;
    for (app, settings) in apps.iter().zip(settings) {
        match head_of(app, settings).await {
            Ok((head, store)) => {
                heads.push(head);
                stores.push((app, store));
            }
            Err(error) if apps.len() == 1 => return Err(error),
            // One app's trouble hides no other.
            Err(error) => {
                exit = error.exit;
                heads.push(json!({
                    "app": app.source.app().to_string(),
                    "store": settings.url.to_string(),
                    "error": error.to_json(),
                }));
            }
        }
    }
    let head = if heads.len() == 1 { heads.remove(0) } else { json!({ "apps": heads }) }.to_string();
    let mut text = format!("{},\"installations\":[", head.strip_suffix('}').unwrap_or(&head));
    let (now, mut first) = (SystemClock.now(), true);
    for (app, store) in &stores {
        let wanted = Wanted::read(app);
        let (mut after, mut left) = (None, listing.limit);
        while left > 0 {
            let page = Listing { after: after.take(), limit: left.min(PAGE), ..listing.clone() };
            let page = store.overview(&page).await.map_err(|error| app.store_error(&error))?;
            left -= page.len();
            for installation in &page {
                text.push_str(if first { "\n" } else { ",\n" });
                first = false;
                text.push_str(&document(app, installation, &wanted, now).to_string());
            }
            // A reader that has gone away wants no more.
            if output::raw(text.as_bytes()).is_err() {
                return Ok(exit);
            }
            text.clear();
            after = page.into_iter().next_back();
            if after.is_none() {
                break;
            }
        }
    }
    text.push_str("\n]}\n");
    // A reader that has gone away wants no more.
    let _ = output::raw(text.as_bytes());
    Ok(exit)
}

/// What is said of an app's store as a whole, and the store.
async fn head_of(app: &Context, settings: &StoreSettings) -> Result<(Value, Arc<dyn Store>), Explained> {
    let (store, _) = app.open_store(settings, None).await?;
    let counts = store.counts().await.map_err(|error| app.store_error(&error))?;
    let head = json!({
        "app": app.source.app().to_string(),
        "store": settings.url.to_string(),
        "standby": store.standby().await.map_err(|error| app.store_error(&error))?,
        "counts": counted(&counts),
    });
    Ok((head, store))
}

/// The scopes that the app wants, and where a person grants them.
struct Wanted {
    scopes: String,
    link: Option<String>,
}

impl Wanted {
    fn read(context: &Context) -> Self {
        let scopes = Config::new(&context.source).scopes().unwrap_or_default();
        Self { scopes, link: context.consent_link() }
    }

    fn drift(&self, installation: &Overview) -> Drift {
        Drift::of(&installation.id, &installation.scopes, &self.scopes)
    }

    /// One line, where a person has to reinstall to grant what is missing. Of what is broken anyway, the
    /// trouble says it.
    fn warn_of(&self, context: &Context, installation: &Overview) {
        let missing = self.drift(installation).missing;
        if missing.is_empty() || matches!(installation.connection, Connection::Broken(_)) {
            return;
        }
        let text = &context.text;
        let mut arguments =
            vec![("id", explain::whose(text, &installation.id).into()), ("scopes", missing.join(" ").into())];
        let key = match &self.link {
            Some(link) => {
                arguments.push(("link", link.as_str().into()));
                "warning-scopes-missing"
            }
            None => "warning-scopes-missing-no-link",
        };
        output::warning(text, &text.say(key, &arguments));
    }
}

fn counted(counts: &Counts) -> Value {
    json!({
        "locations": counts.locations,
        "companies": counts.companies,
        "connected": counts.connected,
        "uncertain": counts.uncertain,
        "suspended": counts.suspended,
        "broken": counts.broken,
        "unlisted": counts.unlisted,
    })
}

/// How many there are, and how many of them stand how.
fn summary(text: &Text, counts: &Counts) -> String {
    let count = |key: &str, count: u64| {
        (count > 0).then(|| text.say(key, &[("count", usize::try_from(count).unwrap_or(usize::MAX).into())]))
    };
    let kinds = [("count-companies", counts.companies), ("count-locations", counts.locations)];
    let states = [
        ("count-connected", counts.connected),
        ("count-uncertain", counts.uncertain),
        ("count-suspended", counts.suspended),
        ("count-broken", counts.broken),
        ("count-unlisted", counts.unlisted),
    ];
    let [kinds, states] = [&kinds[..], &states[..]]
        .map(|all| all.iter().filter_map(|(key, it)| count(key, *it)).collect::<Vec<_>>());
    format!("{}: {}", kinds.join(", "), states.join(", "))
}

fn table(context: &Context, lines: &[Line], now: Timestamp) -> Table {
    let text = &context.text;
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    let heads = ["head-installation", "head-health", "head-token", "head-generation", "head-check"];
    table.set_header(heads.map(|key| Cell::new(text.say(key, &[])).add_attribute(Attribute::Bold)));
    for line in lines {
        let (indent, installation) = match line {
            Line::Alone(it) => ("", it),
            Line::Below(it) => ("  ", it),
            Line::NoCompany => {
                table.add_row([Cell::new(text.say("status-no-company", &[]))]);
                continue;
            }
        };
        table.add_row([
            Cell::new(format!("{indent}{}", named(text, installation))),
            health_cell(text, installation.health(now)),
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

/// Whose it is, with what people call it.
fn named(text: &Text, installation: &Overview) -> String {
    let whose = explain::whose(text, &installation.id);
    match &installation.name {
        // What HighLevel's users write is not for the terminal to obey.
        Some(name) => format!("{whose} ({})", name.replace(char::is_control, " ")),
        None => whose,
    }
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
pub(super) fn trouble(context: &Context, installation: &Overview, now: Timestamp) -> Option<Explained> {
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

fn document(context: &Context, installation: &Overview, wanted: &Wanted, now: Timestamp) -> Value {
    let Drift { missing, extra } = wanted.drift(installation);
    json!({
        "app": context.source.app().to_string(),
        "kind": installation.id.kind(),
        "id": installation.id.as_str(),
        "company_id": installation.company.as_ref().map(tokens::CompanyId::as_str),
        "name": installation.name,
        "state": Stand::of(installation).as_str(),
        "health": installation.health(now).map(Health::as_str),
        "generation": installation.version.generation,
        "issued_at": rfc3339(installation.issued_at),
        "expires_at": rfc3339(installation.expires_at),
        "expires_in": installation.remaining(now).as_secs(),
        "refresh_due_at": rfc3339(installation.half_life_at()),
        "scope": installation.scopes,
        "authorize_url": wanted.link.as_ref().filter(|_| !missing.is_empty()),
        "missing_scopes": missing,
        "extra_scopes": extra,
        "last_check": installation.last_check.as_ref().map(|check| json!({
            "at": rfc3339(check.at),
            "health": check.health.as_str(),
            "code": check.code,
            "detail": check.said,
        })),
        "unlisted_at": installation.unlisted_at.map(rfc3339),
        "error": trouble(context, installation, now).map(|error| error.to_json()),
    })
}
