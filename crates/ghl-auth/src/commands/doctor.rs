//! `doctor`: looks at everything that a check stands on, and says what is wrong and what cures it.
//!
//! What is looked at is gathered here and in `machine`; what it means is decided in `judge`, which looks
//! at nothing. Nothing is changed but the health check's tag, and a write to the store that is undone; no
//! token is refreshed.

mod finding;
mod judge;
mod machine;

use std::path::Path;

use highlevel::{Api, Client, Failure};
use nix::unistd::geteuid;
use serde_json::{Value, json};
use store::{Keys, StoreUrl};
use tokens::store::{FlightId, Weakness};
use tokens::{
    Clock as _, Connection, ContactId, Installation, InstallationId, KeeperError, LocationId, Store,
    StoreError,
};
use upkeep::{CheckError, Heartbeat, StepName, Way};

use self::finding::{Area, Finding, Level};
use self::judge::{
    FileKind, GrantFacts, KeyFacts, NoticeFacts, Reached, ScheduleFacts, SettingsFacts, StoreFacts, Tagging,
};
use super::schedule::{crontab, systemd, unit};
use crate::cli::DoctorArgs;
use crate::config::{
    ApiSettings, Config, Credentials, Doors, Found, HealthCheck, Meant, StoreSettings, variables,
};
use crate::exit::Exit;
use crate::explain::{self, Explained};
use crate::output::{self, Mark, rfc3339};
use crate::service::{self, upkeep_alone};
use crate::text::Text;
use crate::wiring::{Context, SystemClock, random_name};

pub(crate) async fn run(args: &DoctorArgs, context: &Context) -> Result<Exit, Explained> {
    let mut findings = Vec::new();
    match context.of_one_app() {
        Ok(app) => examine(&app, args, &mut findings).await,
        Err(error) => findings.push(Finding::of_error(Area::Configuration, Level::Failure, error)),
    }
    let place = |it: &Finding| Area::ALL.iter().position(|area| *area == it.area);
    findings.sort_by_key(place);
    let exit = finding::exit(&findings);
    let document = document(context, &findings, exit);
    if let Some(path) = &args.report {
        write_report(context, path, &document)?;
    }
    match args.json {
        true => output::document(&document),
        false => tell(&context.text, &findings, args.report.as_deref()),
    }
    Ok(exit)
}

/// The settings, as far as they are good.
struct Settings {
    store: Option<StoreSettings>,
    api: Option<ApiSettings>,
    credentials: Option<Credentials>,
    health_check: HealthCheck,
    meant: Option<Meant>,
    every_hours: u32,
    doors: Option<Doors>,
    ways: Vec<Way>,
    heartbeat: Option<Heartbeat>,
    scopes: String,
}

/// Everything, in the order in which one thing stands on another. What has nothing to stand on is left
/// out.
async fn examine(context: &Context, args: &DoctorArgs, findings: &mut Vec<Finding>) {
    let settings = configuration(context, findings);
    findings.extend(judge::files(&files(context, &settings), geteuid().as_raw()));
    // Before the program becomes another user, whose crontab is another.
    let entry = crontab_entry(context);
    let ports = settings.doors.as_ref().map(machine::ports);
    findings.extend(ports.iter().flat_map(|ports| judge::ports(ports)));
    let service_lives = ports.iter().flatten().any(|(_, _, port)| *port == judge::Port::Ours);
    let mut schedule = schedule(context, &settings, entry.as_ref(), service_lives);

    let client = match settings.api.as_ref() {
        Some(_) => network(context, &settings, findings).await,
        None => None,
    };
    let token = match settings.credentials {
        Some(Credentials::Private(ref token)) => location_of(&settings).map(|id| (id, token.clone())),
        _ => {
            let kept = grant(context, &settings, findings).await;
            if let Some(kept) = &kept {
                schedule.last_check = kept.last_check.clone();
                schedule.connected_at = Some(kept.connected_at);
            }
            kept.filter(|kept| !kept.tokens.remaining(SystemClock.now()).is_zero())
                .map(|kept| (kept.id, kept.tokens.access))
        }
    };
    findings.extend(judge::schedule(&schedule, SystemClock.now()));
    if settings.meant == Some(Meant::AnyLocation) {
        findings.extend(judge::location_unnamed(&schedule));
    }
    if let Some(entry) = entry.as_ref().and_then(|entry| entry.ours.as_ref()) {
        findings.extend(judge::cron(&machine::entry(&judge::words(entry))));
    }
    if let (Some(client), Some((id, token))) = (client, token) {
        let api = Api::new(client, token);
        reading(context, &api, &id, &settings.health_check, findings).await;
    }
    notices(context, args, &settings, findings).await;
}

/// Reads all settings of the program, and says what is wrong with any of them.
fn configuration(context: &Context, findings: &mut Vec<Finding>) -> Settings {
    let text = &context.text;
    let mut config = Config::new(&context.source);
    config.speech();
    let credentials = config.credentials();
    let is_private = matches!(credentials, Some(Credentials::Private(_)));
    let store = if is_private { None } else { config.store() };
    let (api, health_check) = (config.api(), config.health_check());
    let health_check = health_check.unwrap_or(HealthCheck { contact: None, tag: None });
    // A contact is of a location, which has to be named.
    let meant = match is_private || health_check.contact.is_some() {
        true => config.meant_by_check(),
        false => config.meant(),
    };
    let (every_hours, scopes) = (config.run_interval().unwrap_or(12), config.scopes().unwrap_or_default());
    let (ways, heartbeat) = config.ways().unwrap_or_default();
    // Whether it may be reached from elsewhere is said where it is started.
    let doors = config.doors(true);
    let _ = (config.authorization_code(), config.authorize_url(), config.installs(), config.webhook_keys());
    let _ = (config.audit(), config.gateway(), config.alerts(), config.failure_tag());
    let faults = config.faults();
    for fault in &faults {
        let said = fault.explained(text);
        let said = said.lines().map(str::trim).collect::<Vec<_>>().join(" ");
        let error = Explained {
            code: "configuration",
            detail: said,
            action: text.say("doctor-configuration.action", &[("name", fault.name.as_str().into())]),
            authorize_url: None,
            exit: Exit::Usage,
        };
        findings.push(Finding::of_error(Area::Configuration, Level::Failure, error));
    }
    findings.extend(judge::settings(&settings_facts(context)));
    if !findings.iter().any(|it| it.area == Area::Configuration) {
        findings.push(Finding::good(Area::Configuration, "configuration_good", vec![]));
    }
    Settings { store, api, credentials, health_check, meant, every_hours, doors, ways, heartbeat, scopes }
}

fn settings_facts(context: &Context) -> SettingsFacts {
    let source = &context.source;
    let value = |name: &str| match source.find(name) {
        Found::Value(value) => Some(value),
        Found::Nothing | Found::BadFile { .. } => None,
    };
    let mut facts = SettingsFacts {
        env_file: source.env_file().map(|path| path.display().to_string()),
        bad_lines: source.bad_lines().to_vec(),
        cleaned: source.cleaned().to_vec(),
        client_id: value("GHL_CLIENT_ID"),
        ..SettingsFacts::default()
    };
    for variable in &variables::ALL {
        let Some(value) = value(variable.name) else { continue };
        let name = source.name_of(variable.name);
        match variable.secret {
            true if judge::is_placeholder(&value) => facts.example_secrets.push(name),
            true => {}
            false => facts.plain.push((name, value)),
        }
    }
    facts
}

fn files(context: &Context, settings: &Settings) -> Vec<judge::FileFacts> {
    let env_file = context.source.env_file();
    let store = settings.store.as_ref().and_then(|store| store.url.path());
    let env_file = env_file.as_deref().and_then(|path| machine::file(path, FileKind::Settings));
    env_file.into_iter().chain(store.and_then(|path| machine::file(path, FileKind::Store))).collect()
}

/// Goes the way to HighLevel; gives a client where it leads there.
async fn network(context: &Context, settings: &Settings, findings: &mut Vec<Finding>) -> Option<Client> {
    let api = settings.api.as_ref()?;
    let again = ApiSettings { base: api.base.clone(), dialect: api.dialect, roots: api.roots.clone() };
    let client = match context.client(again) {
        Ok(client) => client,
        Err(error) => {
            findings.push(Finding::of_error(Area::Network, Level::Failure, error));
            return None;
        }
    };
    let (reached, ahead) = machine::reach(&api.base, &client).await;
    let (host, port) = api.base.host_and_port();
    findings.push(judge::network(&format!("{host}:{port}"), highlevel::is_loopback(&host), &reached));
    let Reached::Answered(_) = reached else { return None };
    findings.push(judge::clock(ahead));
    Some(client)
}

/// Opens the store and looks at it, its key and the grant in it.
async fn grant(context: &Context, settings: &Settings, findings: &mut Vec<Finding>) -> Option<Installation> {
    let store_settings = settings.store.as_ref()?;
    let path = store_settings.url.path();
    if let Some(path) = path
        && !path.exists()
    {
        let place = vec![("place", path.display().to_string())];
        let missing = Finding::failure(Area::Store, "store_missing", Exit::Person, place);
        findings.push(missing.with_link(context.consent_link()));
        return None;
    }
    if let StoreUrl::Postgres(url) = &store_settings.url {
        // Whoever opens the store makes what is missing, which is not for an examination to do.
        let found = match store::tables(url).await {
            Ok(tables) => judge::tables(tables, &url.to_string()),
            Err(error) => Some(of_store_error(context, &error)),
        };
        if let Some(found) = found {
            findings.push(match found.code {
                "store_missing" => found.with_link(context.consent_link()),
                _ => found,
            });
            return None;
        }
    }
    // The store may write the file in its own way as soon as it is open.
    let is_plain_file =
        matches!(store_settings.url, StoreUrl::File(_)) && store_settings.keys.current.is_none();
    let written_elsewhere = is_plain_file && path.is_some_and(machine::is_written_elsewhere);
    let store = match context.open_store(store_settings, settings.meant.as_ref()).await {
        Ok((store, _)) => store,
        Err(error) => {
            let is_of_key = matches!(error.code, "wrong_key" | "key_missing");
            let area = if is_of_key { Area::Key } else { Area::Store };
            findings.push(Finding::of_error(area, Level::Failure, error));
            return None;
        }
    };
    keys(context, store_settings, store.as_ref(), findings).await;
    look_at_store(context, store_settings, store.as_ref(), findings).await;
    let id = match context.which(store.as_ref(), None, settings.meant.as_ref()?).await {
        Ok(id) => id,
        Err(error) if error.code == "which_one" => {
            findings.extend(crowd(context, store.as_ref()).await);
            return None;
        }
        Err(error) => {
            findings.push(Finding::of_error(Area::Grant, Level::Failure, error));
            return None;
        }
    };
    let installation = match store.load(&id).await {
        Ok(Some(installation)) => installation,
        Ok(None) => {
            let error = match super::check::name_another(context, store.as_ref(), &id).await {
                Err(another) => another,
                Ok(()) => context.keeper_error(&KeeperError::NotConnected(id)),
            };
            findings.push(Finding::of_error(Area::Grant, Level::Failure, error));
            return None;
        }
        Err(error) => {
            findings.push(of_store_error(context, &error));
            return None;
        }
    };
    let health_check = &settings.health_check;
    let (contact, tag) = (health_check.contact.is_some(), health_check.tag.is_some());
    let facts = GrantFacts {
        overview: installation.overview(),
        claims: machine::claims(&installation.tokens.access),
        app: match &settings.credentials {
            Some(Credentials::App(app)) => Some(highlevel::app_id(&app.client_id).to_owned()),
            _ => None,
        },
        wanted_scopes: settings.scopes.clone(),
        needed_scopes: judge::scopes_of_the_check(&id, contact, tag),
        written_elsewhere,
        link: context.consent_link(),
    };
    let found = judge::grant(&facts, SystemClock.now());
    // What another command says of the state is said as well, save where more is known.
    let is_explained = found.iter().any(|it| it.code == "another_program");
    if !is_explained
        && let Some(trouble) = super::status::trouble(context, &facts.overview, SystemClock.now())
    {
        let lives = !facts.overview.remaining(SystemClock.now()).is_zero();
        let level = match facts.overview.connection {
            Connection::Uncertain { .. } if lives => Level::Warning,
            _ => Level::Failure,
        };
        findings.push(Finding::of_error(Area::Grant, level, trouble));
    }
    findings.extend(found);
    Some(installation)
}

fn of_store_error(context: &Context, error: &StoreError) -> Finding {
    let area = match error {
        StoreError::WrongKey { .. } | StoreError::KeyMissing { .. } => Area::Key,
        _ => Area::Store,
    };
    Finding::of_error(area, Level::Failure, context.store_error(error))
}

/// Whether any record still needs one of the old keys. Opening the store has seen to a token file.
async fn keys(context: &Context, settings: &StoreSettings, store: &dyn Store, findings: &mut Vec<Finding>) {
    let Keys { current, old } = &settings.keys;
    let left = match current.is_some() && !old.is_empty() {
        true => store.reseal(0).await,
        false => Ok(0),
    };
    findings.push(match left {
        Ok(left) => judge::key(KeyFacts { has_current: current.is_some(), old: old.len(), left }),
        Err(error) => of_store_error(context, &error),
    });
}

/// The store as a whole, with a write that is undone: the room that a refresh sets aside.
async fn look_at_store(
    context: &Context,
    settings: &StoreSettings,
    store: &dyn Store,
    findings: &mut Vec<Finding>,
) {
    let facts = async {
        let standby = store.standby().await?;
        let flight = FlightId(random_name());
        let reserved = store.reserve(&flight).await;
        store.free(&flight).await?;
        reserved?;
        if store.can_park() && standby.is_none() {
            // Nothing of this name is parked: the database is locked for writing, and stays as it is.
            if let Ok(nobody) = random_name().parse::<LocationId>() {
                store.dismiss(&InstallationId::Location(nobody)).await?;
            }
        }
        Ok::<_, StoreError>(StoreFacts {
            place: store.place(),
            free_bytes: machine::free_bytes(settings.path()),
            standby: standby.map(|why| explain::standby(&context.text, &why)),
            landings: store.landings().await?.len(),
            in_place: store.weaknesses().contains(&Weakness::RewrittenInPlace),
        })
    };
    match facts.await {
        Ok(facts) => findings.extend(judge::store(&facts)),
        Err(error) => findings.push(of_store_error(context, &error)),
    }
}

/// Where several installations are kept and none is meant: how many of them need a person.
async fn crowd(context: &Context, store: &dyn Store) -> Vec<Finding> {
    match store.counts().await {
        Ok(counts) => vec![judge::crowd(&counts)],
        Err(error) => vec![of_store_error(context, &error)],
    }
}

/// The location of a Private Integration Token, which belongs to one.
fn location_of(settings: &Settings) -> Option<InstallationId> {
    match &settings.meant {
        Some(Meant::Installation(id)) => Some(id.clone()),
        _ => None,
    }
}

/// Reads what the check reads, and adds the tag that it adds.
async fn reading(
    context: &Context,
    api: &Api,
    id: &InstallationId,
    health_check: &HealthCheck,
    findings: &mut Vec<Finding>,
) {
    let contact = match id {
        InstallationId::Location(_) => health_check.contact.as_ref(),
        InstallationId::Company(_) => None,
    };
    let read = match (id, contact) {
        (_, Some(contact)) => api.contact(contact).await.map(|reply| Some(reply.value)),
        (InstallationId::Location(location), None) => api.location(location).await.map(|_| None),
        (InstallationId::Company(company), None) => api.locations_of(company).await.map(|_| None),
    };
    let seen = match read {
        Ok(seen) => seen,
        Err(failure) => {
            findings.push(of_call(context, Area::Reading, StepName::Read, failure));
            return;
        }
    };
    findings.push(Finding::good(
        Area::Reading,
        "reading_good",
        vec![("id", explain::whose(&context.text, id))],
    ));
    let (Some(contact), Some(tag)) = (contact, &health_check.tag) else {
        findings.extend(judge::tag(Tagging::NotConfigured, "", ""));
        return;
    };
    let was_there = seen.is_some_and(|seen| seen.has_tag(tag));
    match round_trip(api, contact, tag, was_there).await {
        Ok(is_there) => {
            let added = Tagging::Added { was_there, is_there };
            findings.extend(judge::tag(added, tag, contact.as_str()));
        }
        Err((step, failure)) => findings.push(of_call(context, Area::Tag, step, failure)),
    }
}

/// Adds the tag, taking away one that was left there, and says whether it is seen then.
async fn round_trip(
    api: &Api,
    contact: &ContactId,
    tag: &str,
    was_there: bool,
) -> Result<bool, (StepName, Failure)> {
    let at = |step| move |failure| (step, failure);
    if was_there {
        api.remove_tag(contact, tag).await.map_err(at(StepName::RemoveTag))?;
    }
    api.add_tag(contact, tag).await.map_err(at(StepName::AddTag))?;
    let seen = api.contact(contact).await.map_err(at(StepName::Read))?;
    Ok(seen.value.has_tag(tag))
}

fn of_call(context: &Context, area: Area, step: StepName, failure: Failure) -> Finding {
    let error = explain::check_error(&context.text, &CheckError::Call { step, failure });
    Finding::of_error(area, Level::Failure, error.with_link(context.consent_link()))
}

/// The crontab of whoever asks, where there is one.
struct Crontab {
    ours: Option<String>,
    others: Vec<usize>,
}

fn crontab_entry(context: &Context) -> Option<Crontab> {
    let folder = std::env::current_dir().ok()?;
    let all = crontab::all(&context.text).ok()?;
    let ours = crontab::show(&context.text, &folder).ok()?;
    let others = judge::others_in(&all, ours.as_deref(), &folder.display().to_string());
    Some(Crontab { ours, others })
}

fn schedule(
    context: &Context,
    settings: &Settings,
    entry: Option<&Crontab>,
    service_lives: bool,
) -> ScheduleFacts {
    let ours = entry.and_then(|entry| entry.ours.as_ref());
    let timer = systemd::show(&context.text).ok().flatten();
    ScheduleFacts {
        cron: ours.map(|entry| crontab::is_every(entry, settings.every_hours)),
        timer: timer.map(|_| systemd::is_active(&context.text)),
        service: unit::show(&context.text).ok().flatten().map(|_| unit::is_active(&context.text)),
        service_lives,
        every_hours: settings.every_hours,
        last_check: None,
        connected_at: None,
        others: entry.map(|entry| entry.others.clone()).unwrap_or_default(),
    }
}

/// Tries the ways by which people are told: a connection, or with `--notify` a notice.
async fn notices(context: &Context, args: &DoctorArgs, settings: &Settings, findings: &mut Vec<Finding>) {
    // A contact is of a location: no check of a company tags one.
    let tags = settings.health_check.contact.is_some()
        && settings.health_check.tag.is_some()
        && settings.meant != Some(Meant::AnyCompany);
    let mut facts = NoticeFacts { ways: Vec::new(), tags, sent: false };
    let said = |outcome: Result<(), upkeep::NotDelivered>| {
        outcome.map_err(|why| explain::not_delivered(&context.text, &why.to_string()))
    };
    let is_kept = settings.store.as_ref().is_some_and(|store| store.url.path().is_none_or(Path::exists));
    if args.notify && is_kept && !settings.ways.is_empty() {
        let sent = match context.settings(service::Settings::read) {
            Ok(all) => upkeep_alone(context, all).await,
            Err(error) => Err(error),
        };
        match sent {
            Ok(upkeep) => {
                let outcomes = upkeep.test_ways().await;
                facts.ways.extend(outcomes.into_iter().map(|(way, outcome)| (way, said(outcome))));
                facts.sent = true;
            }
            Err(error) => {
                findings.push(Finding::of_error(Area::Notices, Level::Failure, error));
                return;
            }
        }
    } else {
        for way in &settings.ways {
            facts.ways.push((way.name(), said(way.reach().await)));
        }
    }
    if let Some(heartbeat) = &settings.heartbeat {
        facts.ways.push(("heartbeat", said(heartbeat.reach().await)));
    }
    findings.extend(judge::notices(&facts));
}

/// The areas of which nothing was found out: there is nothing to look at, or something before it is not
/// as it ought to be.
fn not_examined(findings: &[Finding]) -> impl Iterator<Item = Area> + '_ {
    Area::ALL.into_iter().filter(|area| findings.iter().all(|it| it.area != *area))
}

fn count(findings: &[Finding], level: Level) -> usize {
    findings.iter().filter(|it| it.level == level).count()
}

fn document(context: &Context, findings: &[Finding], exit: Exit) -> Value {
    let worst = findings.iter().map(|it| it.level).max().unwrap_or(Level::Good);
    let found: Vec<Value> = findings.iter().map(|it| it.to_json(&context.text)).collect();
    let not_examined: Vec<&str> = not_examined(findings).map(Area::as_str).collect();
    json!({
        "outcome": worst.as_str(),
        "exit_code": exit as u8,
        "at": rfc3339(SystemClock.now()),
        "version": env!("CARGO_PKG_VERSION"),
        "failures": count(findings, Level::Failure),
        "warnings": count(findings, Level::Warning),
        "findings": found,
        "not_examined": not_examined,
    })
}

/// For people: a line for each finding, readable without its colour.
fn tell(text: &Text, findings: &[Finding], report: Option<&Path>) {
    let labels = [Level::Good, Level::Warning, Level::Failure]
        .map(|level| text.say(&format!("doctor-level-{}", level.as_str()), &[]));
    let width = labels.iter().map(|label| label.chars().count()).max().unwrap_or_default();
    let indent = " ".repeat(width + 2);
    for it in findings {
        let label = text.say(&format!("doctor-level-{}", it.level.as_str()), &[]);
        let gap = " ".repeat(width + 2 - label.chars().count());
        let (detail, action, link) = it.in_words(text);
        let detail = detail.replace('\n', &format!("\n{indent}"));
        output::marked(it.level.mark(), &label, &format!("{gap}{}: {detail}", it.area.named(text)));
        if let Some(action) = action.filter(|_| it.level > Level::Good) {
            let action = action.replace('\n', &format!("\n{indent}"));
            output::answer(&format!("{indent}{} {action}", text.say("label-action", &[])));
            if let Some(link) = link {
                output::answer(&format!("{indent}{link}"));
            }
            output::marked(Mark::Faint, &indent, &text.say("label-code", &[("code", it.code.into())]));
        }
    }
    let left_out: Vec<String> = not_examined(findings).map(|area| area.named(text)).collect();
    if !left_out.is_empty() {
        let list = ("list", left_out.join(", ").into());
        output::marked(Mark::Faint, &text.say("doctor-not-examined", &[list]), "");
    }
    output::answer("");
    match (count(findings, Level::Failure), count(findings, Level::Warning)) {
        (0, 0) => output::good_news(&text.say("doctor-all-good", &[])),
        (failures, warnings) => {
            let counts = [("failures", failures.into()), ("warnings", warnings.into())];
            output::answer(&text.say("doctor-summary", &counts));
        }
    }
    if let Some(path) = report {
        output::answer(&text.say("doctor-reported", &[("path", path.display().to_string().into())]));
    }
}

/// The same with what else a helper asks first: which program it is, and which settings are made, by
/// their names.
fn write_report(context: &Context, path: &Path, document: &Value) -> Result<(), Explained> {
    let is_set = |name: &str| !matches!(context.source.find(name), Found::Nothing);
    let names = variables::ALL.iter().map(|variable| variable.name).filter(|name| is_set(name));
    let mut report = document.clone();
    report["system"] = format!("{} {}", std::env::consts::OS, std::env::consts::ARCH).into();
    report["settings"] = names.map(|name| context.source.name_of(name)).collect();
    let text = format!("{report:#}\n");
    machine::write_report(path, &text).map_err(|error| {
        let arguments = [("path", path.display().to_string().into()), ("why", error.to_string().into())];
        Explained::new(&context.text, "report_not_written", Exit::Usage, &arguments)
    })
}
