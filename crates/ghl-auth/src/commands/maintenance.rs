//! `maintenance`: times in which nobody is told of trouble. Checks go on, and are remembered.

use comfy_table::{Attribute, Cell, ContentArrangement, Table, presets};
use serde_json::{Value, json};
use tokens::records::Maintenance;
use tokens::{Clock, Records, Subject};

use crate::cli::{MaintenanceAction, MaintenanceWanted};
use crate::exit::Exit;
use crate::explain::{self, Explained};
use crate::output::{self, moment, rfc3339};
use crate::text::Text;
use crate::wiring::{Context, SystemClock, random_text};

pub(crate) async fn run(action: MaintenanceAction, context: &Context) -> Result<Exit, Explained> {
    context.warn_of_source();
    let records = context.open_records().await?;
    match action {
        MaintenanceAction::Start(wanted) => start(wanted, records.as_ref(), context).await,
        MaintenanceAction::List(args) => list(args.json, records.as_ref(), context).await,
        MaintenanceAction::End(args) => end(&args.maintenance, args.json, records.as_ref(), context).await,
    }
}

async fn start(
    wanted: MaintenanceWanted,
    records: &dyn Records,
    context: &Context,
) -> Result<Exit, Explained> {
    let subject = wanted.which.named().map(Subject::Installation);
    if subject.is_none() && wanted.lasting.is_none() {
        return Err(Explained::new(&context.text, "maintenance_endless", Exit::Usage, &[]));
    }
    let now = SystemClock.now();
    let window = Maintenance {
        id: random_text::<6>(),
        subject,
        from: now,
        until: wanted.lasting.map(|lasting| now + lasting),
        reason: wanted.reason,
    };
    records.plan_maintenance(&window).await.map_err(|error| context.store_error(&error))?;
    if wanted.json {
        output::document(&document(&window));
    } else {
        let id = ("id", window.id.as_str().into());
        let said = match (window.until, window.pauses()) {
            (None, Some(whose)) => {
                let whose = ("whose", explain::whose(&context.text, whose).into());
                context.text.say("maintenance-paused", &[id, whose])
            }
            (until, _) => {
                let until = ("until", until.map(moment).unwrap_or_default().into());
                context.text.say("maintenance-started", &[id, until])
            }
        };
        output::answer(&said);
    }
    Ok(Exit::Good)
}

async fn list(as_json: bool, records: &dyn Records, context: &Context) -> Result<Exit, Explained> {
    let text = &context.text;
    let windows =
        records.maintenances(SystemClock.now()).await.map_err(|error| context.store_error(&error))?;
    if as_json {
        output::document(&json!({ "maintenances": windows.iter().map(document).collect::<Vec<Value>>() }));
        return Ok(Exit::Good);
    }
    if windows.is_empty() {
        output::answer(&text.say("maintenance-none", &[]));
        return Ok(Exit::Good);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    let heads = ["head-maintenance", "head-installation", "head-from", "head-until", "head-reason"];
    table.set_header(heads.map(|key| Cell::new(text.say(key, &[])).add_attribute(Attribute::Bold)));
    for window in &windows {
        let whose = whose(window.subject.as_ref(), text);
        table.add_row([
            window.id.clone(),
            whose,
            moment(window.from),
            window.until.map_or_else(|| text.say("maintenance-until-ended", &[]), moment),
            window.reason.clone(),
        ]);
    }
    output::answer(&table.to_string());
    Ok(Exit::Good)
}

fn whose(subject: Option<&Subject>, text: &Text) -> String {
    match subject {
        None => text.say("reach-all", &[]),
        Some(Subject::Service | Subject::Checks(_)) => text.say("subject-service", &[]),
        Some(Subject::Installation(id)) => explain::whose(text, id),
    }
}

async fn end(id: &str, as_json: bool, records: &dyn Records, context: &Context) -> Result<Exit, Explained> {
    let ended = records.end_maintenance(id, SystemClock.now()).await;
    if !ended.map_err(|error| context.store_error(&error))? {
        return Err(Explained::new(&context.text, "maintenance_unknown", Exit::Usage, &[("id", id.into())]));
    }
    match as_json {
        true => output::document(&json!({ "id": id, "ended": true })),
        false => output::answer(&context.text.say("maintenance-ended", &[("id", id.into())])),
    }
    Ok(Exit::Good)
}

fn document(window: &Maintenance) -> Value {
    let (kind, id) = match &window.subject {
        Some(Subject::Installation(id)) => (Some(id.kind()), Some(id.as_str())),
        Some(Subject::Service | Subject::Checks(_)) => (Some("service"), None),
        None => (None, None),
    };
    json!({
        "id": window.id,
        "kind": kind,
        "installation": id,
        "from": rfc3339(window.from),
        "until": window.until.map(rfc3339),
        "reason": window.reason,
    })
}
