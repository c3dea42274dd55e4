//! `check`: the main job, told in the template's sentences.

use std::time::Duration;

use serde_json::{Value, json};
use store::StoreUrl;
use tokens::store::{Listing, Weakness};
use tokens::{CheckRecord, Installation, InstallationId, Keeper, KeeperError, LastCheck, Store, Trigger};
use tokio::time::Instant;
use upkeep::{Access, Check, CheckError, Event, Report, StepName, Target, Warning};

use crate::cli::CheckArgs;
use crate::config::{self, Credentials, HealthCheck, Meant};
use crate::exit::Exit;
use crate::explain::{self, Explained};
use crate::output::{self, moment, rfc3339};
use crate::owner::WorksAs;
use crate::shutdown::landing_first;
use crate::text::Text;
use crate::wiring::{Context, SystemClock};

pub(crate) async fn run(args: &CheckArgs, context: &Context) -> Result<Exit, Explained> {
    context.warn_of_source();
    let (api, credentials, health_check) = context.settings(|config| {
        let (api, credentials, health_check) = (config.api(), config.credentials(), config.health_check());
        // What is needed further on is read here too, so that one error lists every fault.
        let (meant, _) = (config.meant_by_check(), config.run_interval());
        if matches!(credentials, Some(Credentials::App(_)) | None) {
            (config.authorization_code(), config.authorize_url(), config.store()).2?;
        }
        meant.and(Some((api?, credentials?, health_check?)))
    })?;
    let client = context.client(api)?;
    match credentials {
        Credentials::App(app) => {
            let (settings, meant, interval, code) = context.settings(|config| {
                let code = config.authorization_code();
                Some((config.store()?, config.meant_by_check()?, config.run_interval()?, code))
            })?;
            let (store, works_as) = context.open_store(&settings, Some(&meant)).await?;
            say_how_safe(context, works_as, &store.weaknesses());
            context.warn_of_standby(store.as_ref()).await;
            let keeper = context.keeper(store.clone(), &client, app).await;
            let (id, just_saved) = match code {
                Some(code) => first_code(context, &keeper, store.as_ref(), &meant, &code, args.json).await?,
                None => (context.which(store.as_ref(), None, &meant).await?, false),
            };
            let to_last = config::until_next_run(interval);
            let access = Access::Kept { keeper: keeper.clone(), id: id.clone(), to_last };
            let check = Check {
                client,
                access,
                target: target(&id, health_check),
                wait_for_workflow: args.wait_for_workflow,
                clock: &SystemClock,
            };
            let began = Instant::now();
            let Some(report) = landing_first(&keeper, tell(context, args, check, just_saved)).await else {
                return Err(Explained::new(&context.text, "stopped", Exit::Failed, &[]));
            };
            if let Some(CheckError::Token(KeeperError::NotConnected(_))) = &report.error {
                name_another(context, store.as_ref(), &id).await?;
            }
            let took = began.elapsed();
            note(store.as_ref(), &settings.url, &id, &report, took, &context.text).await;
            Ok(ended(context, args, &report))
        }
        Credentials::Private(token) => {
            let meant = context.settings(|config| config.meant_by_check())?;
            let Meant::Installation(id) = meant else {
                return Err(Explained::new(&context.text, "which_one", Exit::Usage, &[]));
            };
            let check = Check {
                client,
                access: Access::Private(token),
                target: target(&id, health_check),
                wait_for_workflow: args.wait_for_workflow,
                clock: &SystemClock,
            };
            let report = tell(context, args, check, false).await;
            Ok(ended(context, args, &report))
        }
    }
}

/// Exchanges `GHL_AUTHORIZATION_CODE` where there is no grant that works: on the first run, or when
/// a person has authorised anew. Later it is never sent again. Says whether it was exchanged.
pub(crate) async fn first_code(
    context: &Context,
    keeper: &Keeper,
    store: &dyn Store,
    meant: &Meant,
    code: &tokens::AuthorizationCode,
    quiet: bool,
) -> Result<(InstallationId, bool), Explained> {
    let mut died = None;
    if let Ok(id) = context.which(store, None, meant).await {
        match keeper.load(&id).await {
            Ok(installation) if !matches!(installation.connection, tokens::Connection::Broken(_)) => {
                return Ok((id, false));
            }
            Ok(_) => died = Some(id),
            Err(KeeperError::NotConnected(_)) => {}
            Err(error) => return Err(context.keeper_error(&error)),
        }
    }
    let text = &context.text;
    if !quiet {
        output::answer(&text.say("exchanging", &[]));
    }
    let connected = landing_first(keeper, keeper.connect(code)).await;
    match connected {
        Some(Ok(installation)) => {
            if !quiet {
                output::answer(&text.say("tokens-saved", &[]));
            }
            super::login::warn_of_surprises(context, &installation, meant);
            let id = match meant {
                Meant::Installation(id) => id.clone(),
                Meant::AnyCompany | Meant::AnyLocation => installation.id,
            };
            Ok((id, true))
        }
        Some(Err(error)) => match (error, died) {
            // It is the code that the dead grant came from: what there is to say is that it died.
            (KeeperError::InvalidCode { .. }, Some(id)) => Ok((id, false)),
            (error, _) => Err(context.keeper_error(&error)),
        },
        None => Err(Explained::new(text, "stopped", Exit::Failed, &[])),
    }
}

/// Where there are only tokens of another location or class than the one meant, says whose.
pub(super) async fn name_another(
    context: &Context,
    store: &dyn Store,
    id: &InstallationId,
) -> Result<(), Explained> {
    let others = store.overview(&Listing::first(1)).await.map_err(|error| context.store_error(&error))?;
    let Some(other) = others.first() else { return Ok(()) };
    let text = &context.text;
    let code = if other.id.kind() == id.kind() { "another_location" } else { "another_class" };
    let (found, wanted) = (explain::whose(text, &other.id), explain::whose(text, id));
    let arguments = [("found", found.into()), ("wanted", wanted.into())];
    Err(Explained::new(text, code, Exit::Usage, &arguments))
}

fn target(id: &InstallationId, health_check: HealthCheck) -> Target {
    match (id, health_check.contact) {
        (InstallationId::Location(_), Some(contact)) => {
            Target::Contact { id: contact, tag: health_check.tag }
        }
        (InstallationId::Location(location), None) => Target::Location(location.clone()),
        (InstallationId::Company(company), _) => Target::Company(company.clone()),
    }
}

/// Runs the check and says what happens. Tokens that were just saved need not be called loaded.
async fn tell(context: &Context, args: &CheckArgs, check: Check<'_>, just_saved: bool) -> Report {
    let text = &context.text;
    check
        .run(&mut |event| {
            let goes_without_saying = just_saved && matches!(event, Event::TokenIsGood);
            if !args.json && !goes_without_saying {
                say(text, event);
            }
        })
        .await
}

/// The sentence for something that happens.
fn say(text: &Text, event: &Event<'_>) {
    match event {
        Event::TokenIsGood => output::answer(&text.say("tokens-loaded", &[])),
        Event::Refreshing => output::answer(&text.say("refreshing", &[])),
        Event::Refreshed => output::answer(&text.say("refreshed", &[])),
        Event::Using(installation) => describe(text, installation),
        Event::Warning(warning) => output::warning(text, &explain::warning(text, warning).0),
        Event::Reading => output::answer(&text.say("reading", &[])),
        Event::Attempt { number, of } => {
            output::answer(&text.say("attempt", &[("number", (*number).into()), ("of", (*of).into())]));
        }
        Event::TryingAgain(failure) => {
            output::talk(&text.say("trying-again", &[("said", explain::reason(text, &failure.said).into())]));
        }
        Event::Read => output::answer(&text.say("read", &[])),
        Event::TagRemoved => output::answer(&text.say("tag-removed", &[])),
        Event::TagAdded { tag, contact } => {
            let arguments = [("tag", (*tag).into()), ("contact", contact.as_str().into())];
            output::answer(&text.say("tag-added", &arguments));
        }
        Event::WaitingForWorkflow(patience) => {
            output::answer(&text.say("waiting-for-workflow", &[("seconds", patience.as_secs().into())]));
        }
        Event::WorkflowRan(after) => {
            output::answer(&text.say("workflow-ran", &[("after", output::span(*after).into())]));
        }
    }
}

/// The template's lines about the tokens in use. A JWT's first ten characters are its public header;
/// a token that is no JWT shows none.
pub(crate) fn describe(text: &Text, installation: &Installation) {
    let tokens = &installation.tokens;
    let public = |token: &str| match token.starts_with("eyJ") && token.matches('.').count() == 2 {
        true => token.chars().take(10).collect::<String>(),
        false => String::new(),
    };
    output::answer(&text.say("access-token", &[("start", public(tokens.access.expose()).into())]));
    if let Some(refresh) = tokens.refresh_token() {
        output::answer(&text.say("refresh-token", &[("start", public(refresh.expose()).into())]));
    }
    output::answer(&text.say("scopes", &[("scopes", tokens.scopes.as_str().into())]));
    output::answer(&text.say("expires", &[("at", moment(tokens.expires_at).into())]));
    output::answer("");
}

fn ended(context: &Context, args: &CheckArgs, report: &Report) -> Exit {
    let text = &context.text;
    let error = report.error.as_ref().map(|error| explain::check_error(text, error));
    // A grant that is dead behind a token that still lives is a person's matter today, not tomorrow.
    let dead_behind = report.warnings.iter().find_map(|warning| match warning {
        Warning::RefreshFailed { error: error @ KeeperError::NeedsPerson { .. }, .. } => {
            Some(explain::keeper_error(text, error))
        }
        _ => None,
    });
    let error = error.or(dead_behind).map(|error| error.with_link(context.consent_link()));
    if args.json {
        output::document(&document(context, report, error.as_ref()));
    } else {
        if report.error.is_none() {
            let tagged = report.steps.iter().any(|step| step.step == StepName::AddTag);
            let key = if tagged { "operational" } else { "operational-read-only" };
            output::good_news(&text.say(key, &[]));
        }
        if let Some(error) = &error {
            output::error(text, error);
        }
    }
    error.map_or(Exit::Good, |error| error.exit)
}

fn document(context: &Context, report: &Report, error: Option<&Explained>) -> Value {
    let text = &context.text;
    let steps: Vec<Value> = report
        .steps
        .iter()
        .map(|step| {
            json!({
                "step": step.step.as_str(),
                "ok": step.ok,
                "duration_ms": u64::try_from(step.took.as_millis()).unwrap_or(u64::MAX),
                "trace_id": step.trace_id,
            })
        })
        .collect();
    let warnings: Vec<Value> = report
        .warnings
        .iter()
        .map(|warning| {
            let (detail, code) = explain::warning(text, warning);
            json!({ "code": code, "detail": detail })
        })
        .collect();
    let installation = report.installation.as_ref().map(|installation| {
        json!({
            "kind": installation.id.kind(),
            "id": installation.id.as_str(),
            "generation": installation.version.generation,
            "expires_at": rfc3339(installation.tokens.expires_at),
            "scope": installation.tokens.scopes,
        })
    });
    json!({
        "microservice": context.microservice_name(),
        "outcome": report.health().as_str(),
        "at": rfc3339(report.at),
        "installation": installation,
        "refreshed": report.refreshed,
        "steps": steps,
        "warnings": warnings,
        "error": error.map(Explained::to_json),
    })
}

/// Notes what was found, in the store and, where a service remembers checks, in its history.
async fn note(
    store: &dyn Store,
    url: &StoreUrl,
    id: &InstallationId,
    report: &Report,
    took: Duration,
    text: &Text,
) {
    if matches!(report.error, Some(CheckError::Token(KeeperError::NotConnected(_)))) {
        return;
    }
    let record = upkeep::record(id, Trigger::Command, took, report, text);
    let CheckRecord { at, health, code, said, .. } = record.clone();
    if let Err(error) = store.note_check(id, &LastCheck { at, health, code, said }).await {
        tracing::debug!(%error, "the check could not be noted");
    }
    let remembered = match store::open_records_if_there(url).await {
        Ok(Some(records)) => records.add_check(&record).await,
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = remembered {
        tracing::debug!(%error, "the check could not be remembered");
    }
}

/// Says once at start how this run falls short of the full promise.
pub(crate) fn say_how_safe(context: &Context, works_as: WorksAs, weaknesses: &[Weakness]) {
    let text = &context.text;
    if works_as == WorksAs::Root && std::process::id() == 1 {
        output::warning(text, &text.say("warning-stays-root", &[]));
    }
    if weaknesses.contains(&Weakness::RewrittenInPlace) {
        output::warning(text, &text.say("warning-in-place", &[]));
    }
}
