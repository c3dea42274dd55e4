//! `status`: every installation, how it is, and what to do.

mod blocks;
mod tree;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};
use serde_json::{Value, json};
use tokens::store::{Counts, Listing, Order, Stand};
use tokens::{
    Clock, Connection, DAYS, Drift, Health, InstallationId, Overview, Records, Store, StoreError, Timestamp,
    Uptime,
};

use crate::cli::StatusArgs;
use crate::config::{Config, StoreSettings};
use crate::exit::Exit;
use crate::explain::{self, Explained};
use crate::output::{self, moment, rfc3339, span};
use crate::shutdown::asked_to_stop;
use crate::text::Text;
use crate::wiring::{Context, SystemClock};
use blocks::Blocks;
use tree::Line;
use watch::{Screen, Told};

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
    let mut all: Vec<Shown<'_>> =
        apps.iter().zip(&stores).map(|(context, settings)| Shown::new(context, settings)).collect();
    match args.watch {
        Some(seconds) => {
            watch_all(&mut all, &listing, Duration::from_secs(u64::from(seconds)), context).await
        }
        None => show_all(&mut all, &listing).await,
    }
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

/// Shows each app's installations, once.
async fn show_all(all: &mut [Shown<'_>], listing: &Listing) -> Result<Exit, Explained> {
    let mut exit = Exit::Good;
    let several = all.len() > 1;
    for app in all {
        if several {
            output::headline(&app.headline());
        }
        match app.read(listing, output::width()).await {
            Ok(view) => {
                view.answer.iter().for_each(|line| output::answer(line));
                view.beside.iter().for_each(|line| output::talk(line));
            }
            Err(error) if !several => return Err(error),
            // One app's trouble hides no other.
            Err(error) => {
                output::error(&app.context.text, &error);
                exit = error.exit;
            }
        }
    }
    Ok(exit)
}

/// Shows them again and again, until the person at the terminal leaves.
async fn watch_all(
    all: &mut [Shown<'_>],
    listing: &Listing,
    every: Duration,
    context: &Context,
) -> Result<Exit, Explained> {
    let text = &context.text;
    if !Screen::is_there() {
        return Err(Explained::new(text, "watch_no_terminal", Exit::Usage, &[]));
    }
    // What is wrong from the beginning is said where it stays to be read.
    if let [only] = all {
        only.opened().await?;
    }
    let broken = |error: std::io::Error| {
        Explained::new(text, "watch_terminal", Exit::Failed, &[("why", error.to_string().into())])
    };
    let mut screen = Screen::open().map_err(broken)?;
    let mut stop = std::pin::pin!(asked_to_stop());
    loop {
        let lines = tokio::select! {
            lines = read_all(all, listing) => lines,
            () = screen.left() => break,
            () = &mut stop => break,
        };
        let said = [("at", moment(SystemClock.now()).into()), ("span", span(every).into())];
        screen.draw(&lines, &output::as_shown(&text.say("status-watching", &said))).map_err(broken)?;
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            told = screen.told() => if told == Told::Leave { break },
            () = &mut stop => break,
        }
    }
    Ok(Exit::Good)
}

/// What is to be seen of all apps now, line by line.
async fn read_all(all: &mut [Shown<'_>], listing: &Listing) -> Vec<String> {
    let mut whole = Vec::new();
    let several = all.len() > 1;
    for app in all {
        if several {
            whole.push(app.headline());
        }
        match app.read(listing, output::width()).await {
            Ok(view) => whole.extend(view.answer.into_iter().chain(view.beside)),
            Err(error) => whole.push(output::told(&app.context.text, &error)),
        }
    }
    let lines = whole.iter().flat_map(|part| part.split('\n'));
    lines.map(output::as_shown).collect()
}

/// One app's installations, for people.
struct Shown<'a> {
    context: &'a Context,
    settings: &'a StoreSettings,
    opened: Option<Opened>,
}

/// Where they are read.
#[derive(Clone)]
struct Opened {
    store: Arc<dyn Store>,
    /// None where no service has ever run over the store.
    records: Option<Arc<dyn Records>>,
}

impl Opened {
    async fn open(context: &Context, settings: &StoreSettings) -> Result<Self, Explained> {
        let (store, _) = context.open_store(settings, None).await?;
        Ok(Self { store, records: context.records_if_any(settings).await? })
    }

    /// How the last days of each went; none where nobody remembers.
    async fn uptimes(
        &self,
        ids: &[InstallationId],
        now: Timestamp,
    ) -> Result<Option<BTreeMap<InstallationId, Uptime>>, StoreError> {
        let Some(records) = &self.records else { return Ok(None) };
        let found = records.days_of(ids, Uptime::first_day(now)).await?;
        Ok(Some(found.into_iter().map(|(id, days)| (id, Uptime::of(&days, now))).collect()))
    }
}

/// What is to be seen: the answer, and what is said beside it.
#[derive(Default)]
struct View {
    answer: Vec<String>,
    beside: Vec<String>,
}

impl<'a> Shown<'a> {
    fn new(context: &'a Context, settings: &'a StoreSettings) -> Self {
        Self { context, settings, opened: None }
    }

    fn headline(&self) -> String {
        let name = self.context.source.app().to_string();
        self.context.text.say("status-app", &[("app", name.into())])
    }

    async fn opened(&mut self) -> Result<Opened, Explained> {
        if let Some(opened) = &self.opened {
            return Ok(opened.clone());
        }
        let opened = Opened::open(self.context, self.settings).await?;
        Ok(self.opened.insert(opened).clone())
    }

    /// Reads what there is to be seen now.
    async fn read(&mut self, listing: &Listing, width: Option<usize>) -> Result<View, Explained> {
        let (opened, context) = (self.opened().await?, self.context);
        let (store, text) = (opened.store.as_ref(), &context.text);
        let broken = |error: StoreError| context.store_error(&error);
        let mut view = View::default();
        view.beside.extend(context.standby(store).await.map(|said| output::warned(text, &said)));
        let counts = store.counts().await.map_err(broken)?;
        let is_all = Listing { limit: usize::MAX, order: Order::Id, ..listing.clone() } == Listing::ALL;
        let shown = tree::shown(store, listing.clone()).await.map_err(broken)?;
        if shown.lines.is_empty() {
            let key = if is_all { "status-empty" } else { "status-none" };
            view.answer.push(text.say(key, &[("store", self.settings.url.to_string().into())]));
            return Ok(view);
        }
        let (now, wanted) = (SystemClock.now(), Wanted::read(context));
        let ids: Vec<InstallationId> =
            shown.lines.iter().filter_map(Line::installation).map(|it| it.id.clone()).collect();
        let uptimes = opened.uptimes(&ids, now).await.map_err(broken)?;
        let page = Page { text, now, width, draws: output::draws() };
        view.answer.extend(page.lines(&shown.lines, uptimes.as_ref()));
        if shown.goes_on {
            view.answer.push(text.say("status-more", &[]));
        }
        if counts.locations + counts.companies > 1 {
            view.answer.push(summary(text, &counts));
        }
        if uptimes.is_none() {
            view.answer.extend(page.wrapped(&text.say("status-no-history", &[])));
        }
        for installation in shown.lines.iter().filter_map(Line::installation) {
            if let Some(at) = installation.unlisted_at {
                let whose = explain::whose(text, &installation.id);
                let said = [("id", whose.into()), ("at", moment(at).into())];
                view.beside.push(output::warned(text, &text.say("status-unlisted", &said)));
            }
            if let Some(trouble) = trouble(context, installation, now) {
                view.beside.push(output::told(text, &trouble));
            }
            let missing = wanted.warning(context, installation);
            view.beside.extend(missing.map(|said| output::warned(text, &said)));
        }
        Ok(view)
    }
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
            Ok((head, opened)) => {
                heads.push(head);
                stores.push((app, opened));
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
    for (app, opened) in &stores {
        let wanted = Wanted::read(app);
        let (mut after, mut left) = (None, listing.limit);
        while left > 0 {
            let page = Listing { after: after.take(), limit: left.min(PAGE), ..listing.clone() };
            let page = opened.store.overview(&page).await.map_err(|error| app.store_error(&error))?;
            let ids: Vec<InstallationId> = page.iter().map(|it| it.id.clone()).collect();
            let uptimes = opened.uptimes(&ids, now).await.map_err(|error| app.store_error(&error))?;
            left -= page.len();
            for installation in &page {
                text.push_str(if first { "\n" } else { ",\n" });
                first = false;
                let uptime = uptimes.as_ref().and_then(|uptimes| uptimes.get(&installation.id));
                text.push_str(&document(app, installation, &wanted, uptime, now).to_string());
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
async fn head_of(app: &Context, settings: &StoreSettings) -> Result<(Value, Opened), Explained> {
    let opened = Opened::open(app, settings).await?;
    let store = &opened.store;
    let counts = store.counts().await.map_err(|error| app.store_error(&error))?;
    let head = json!({
        "app": app.source.app().to_string(),
        "store": settings.url.to_string(),
        "standby": store.standby().await.map_err(|error| app.store_error(&error))?,
        "counts": counted(&counts),
    });
    Ok((head, opened))
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
    fn warning(&self, context: &Context, installation: &Overview) -> Option<String> {
        let missing = self.drift(installation).missing;
        if missing.is_empty() || matches!(installation.connection, Connection::Broken(_)) {
            return None;
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
        Some(text.say(key, &arguments))
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

/// How a list of installations is laid out.
struct Page<'a> {
    text: &'a Text,
    now: Timestamp,
    /// The columns of the terminal; none where what is shown goes elsewhere.
    width: Option<usize>,
    /// Whether it shows more than ASCII.
    draws: bool,
}

/// The columns of the table, in the order in which they are left out where there is no room: none of it says
/// what to do.
const COLUMNS: [&str; 5] =
    ["head-installation", "head-health", "head-token", "head-generation", "head-check"];
const WITHOUT_GENERATION: [&str; 4] = ["head-installation", "head-health", "head-token", "head-check"];

impl Page<'_> {
    /// A table with the days below it where it fits, else one below the other.
    fn lines(&self, lines: &[Line], uptimes: Option<&BTreeMap<InstallationId, Uptime>>) -> Vec<String> {
        let tables = [(&COLUMNS[..], (1, 1)), (&WITHOUT_GENERATION[..], (0, 1))];
        let mut tables = tables.iter().map(|(columns, padding)| self.table(columns, *padding, lines));
        let fitting = tables.find(|table| self.fits(table));
        let mut shown = Vec::new();
        match fitting {
            Some(table) => {
                shown.extend(table.lines());
                if let Some(uptimes) = uptimes {
                    shown.push(String::new());
                    shown.extend(self.days(lines, uptimes));
                }
            }
            None => {
                let blocks = self.blocks();
                for line in lines {
                    let Some(installation) = line.installation() else {
                        shown.push(self.text.say("status-no-company", &[]));
                        continue;
                    };
                    shown.extend(self.card(installation));
                    let uptime = uptimes.and_then(|uptimes| uptimes.get(&installation.id));
                    shown.extend(uptime.map(|it| blocks.row(it)));
                }
                if uptimes.is_some() {
                    shown.extend(self.legend(&blocks));
                }
            }
        }
        shown
    }

    /// The days of each, behind whose they are or below that.
    fn days(&self, lines: &[Line], uptimes: &BTreeMap<InstallationId, Uptime>) -> Vec<String> {
        let whose = lines.iter().filter_map(Line::installation);
        let whose: Vec<(String, &Uptime)> =
            whose.filter_map(|it| Some((named(self.text, it), uptimes.get(&it.id)?))).collect();
        let longest = whose.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
        let behind = Blocks::behind(longest, self.width, self.draws).filter(|_| whose.len() > 1);
        let is_behind = behind.is_some();
        let blocks = behind.unwrap_or_else(|| self.blocks());
        let mut shown = self.legend(&blocks).to_vec();
        for (name, uptime) in &whose {
            match whose.len() {
                1 => shown.push(blocks.row(uptime)),
                _ if is_behind => shown.push(format!("  {name:<longest$}{}", blocks.row(uptime))),
                _ => shown.extend([format!("  {name}"), blocks.row(uptime)]),
            }
        }
        shown
    }

    fn blocks(&self) -> Blocks {
        Blocks::within(self.width, self.draws)
    }

    fn legend(&self, blocks: &Blocks) -> [String; 2] {
        let count = blocks.count;
        let key = if count == DAYS { "status-uptime" } else { "status-uptime-latest" };
        let days = [("window", DAYS.to_string().into()), ("days", count.to_string().into())];
        [self.text.say(key, &days), blocks.legend(self.text)]
    }

    fn fits(&self, table: &Table) -> bool {
        let columns = table.column_iter().zip(table.column_max_content_widths());
        let widths =
            columns.map(|(column, natural)| usize::from(natural) + usize::from(column.padding_width()));
        let whole: usize = widths.sum();
        self.width.is_none_or(|width| whole <= width)
    }

    fn table(&self, columns: &[&str], padding: (u16, u16), lines: &[Line]) -> Table {
        let text = self.text;
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(
            columns.iter().map(|key| Cell::new(text.say(key, &[])).add_attribute(Attribute::Bold)),
        );
        for line in lines {
            let (indent, it) = match line {
                Line::Alone(it) => ("", it),
                Line::Below(it) => ("  ", it),
                Line::NoCompany => {
                    table.add_row([Cell::new(text.say("status-no-company", &[]))]);
                    continue;
                }
            };
            table.add_row(columns.iter().map(|column| match *column {
                "head-installation" => Cell::new(format!("{indent}{}", named(text, it))),
                "head-health" => health_cell(text, it.health(self.now)),
                "head-token" => Cell::new(token_life(text, it, self.now)),
                "head-generation" => Cell::new(it.version.generation),
                _ => Cell::new(self.checked(it)),
            }));
        }
        for column in table.column_iter_mut() {
            column.set_padding(padding);
        }
        table
    }

    fn checked(&self, it: &Overview) -> String {
        match &it.last_check {
            Some(check) => self.text.say("ago", &[("span", span(self.now.since(check.at)).into())]),
            None => self.text.say("never", &[]),
        }
    }

    /// An installation where a table has no room.
    fn card(&self, it: &Overview) -> Vec<String> {
        let health = self.text.say(health_word(it.health(self.now)).0, &[]);
        let token = format!("{}: {}", self.text.say("head-token", &[]), token_life(self.text, it, self.now));
        let check = format!("{}: {}", self.text.say("head-check", &[]), self.checked(it));
        let mut lines = self.wrapped(&named(self.text, it));
        lines.extend([health, token, check].iter().map(|fact| format!("  {fact}")));
        lines
    }

    /// A text in lines of the terminal's width.
    fn wrapped(&self, text: &str) -> Vec<String> {
        let width = self.width.unwrap_or(usize::MAX);
        let mut lines = vec![String::new()];
        for word in text.split(' ') {
            let last = lines.last_mut().expect("there is always one");
            match last.chars().count() + 1 + word.chars().count() <= width || last.is_empty() {
                true if last.is_empty() => last.push_str(word),
                true => *last = format!("{last} {word}"),
                false => lines.push(word.to_owned()),
            }
        }
        lines
    }
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
    let (key, color) = health_word(health);
    Cell::new(text.say(key, &[])).fg(color)
}

fn health_word(health: Option<Health>) -> (&'static str, Color) {
    match health {
        None => ("health-unknown", Color::Reset),
        Some(Health::Operational) => ("health-operational", Color::Green),
        Some(Health::Degraded) => ("health-degraded", Color::Yellow),
        Some(Health::Down) => ("health-down", Color::Red),
        Some(Health::Suspended) => ("health-suspended", Color::Yellow),
        Some(Health::NeedsPerson) => ("health-needs-person", Color::Red),
    }
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

fn document(
    context: &Context,
    installation: &Overview,
    wanted: &Wanted,
    uptime: Option<&Uptime>,
    now: Timestamp,
) -> Value {
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
        "uptime": uptime.map(|uptime| json!({
            "days": uptime.days().iter().filter(|day| day.checks > 0).map(|day| json!({
                "day": day.date(),
                "checks": day.checks,
                "good": day.good,
            })).collect::<Vec<Value>>(),
            "share": uptime.share().map(|share| f64::from(share) / 100.0),
        })),
        "error": trouble(context, installation, now).map(|error| error.to_json()),
    })
}
