//! `schedule`: the check as an entry of cron or a timer of systemd, from `RUN_INTERVAL_HOURS`.

pub(super) mod crontab;
pub(super) mod systemd;

use std::path::PathBuf;

use serde_json::json;

use crate::cli::ScheduleAction;
use crate::config::Config;
use crate::exit::Exit;
use crate::explain::Explained;
use crate::output;
use crate::text::Text;
use crate::wiring::Context;

/// What is to be run, and how often.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) program: PathBuf,
    pub(super) folder: PathBuf,
    pub(super) env_file: PathBuf,
    pub(super) log: PathBuf,
    pub(super) every_hours: u32,
}

pub(crate) fn run(action: ScheduleAction, context: &Context) -> Result<Exit, Explained> {
    let (ScheduleAction::Show(way) | ScheduleAction::Install(way) | ScheduleAction::Remove(way)) = action;
    let text = &context.text;
    // What stands can be looked at and taken out without any settings.
    let now = match (way.systemd, action) {
        (false, ScheduleAction::Show(_)) => crontab::show(text, &here(text)?)?,
        (false, ScheduleAction::Install(_)) => Some(crontab::install(text, &job(context)?)?),
        (false, ScheduleAction::Remove(_)) => crontab::remove(text, &here(text)?)?,
        (true, ScheduleAction::Show(_)) => systemd::show(text)?,
        (true, ScheduleAction::Install(_)) => Some(systemd::install(text, &job(context)?)?),
        (true, ScheduleAction::Remove(_)) => systemd::remove(text)?,
    };
    let every_hours = Config::new(&context.source).run_interval();
    if way.json {
        output::document(&json!({
            "scheduler": if way.systemd { "systemd" } else { "cron" },
            "installed": now.is_some(),
            "every_hours": every_hours,
            "entry": now,
        }));
    } else {
        say(context, action, now.as_deref(), every_hours);
    }
    Ok(Exit::Good)
}

fn say(context: &Context, action: ScheduleAction, now: Option<&str>, every_hours: Option<u32>) {
    let text = &context.text;
    match (action, now) {
        (ScheduleAction::Install(_), Some(entry)) => {
            let hours = every_hours.unwrap_or_default();
            output::good_news(&text.say("schedule-installed", &[("hours", hours.into())]));
            output::answer(entry);
        }
        (_, Some(entry)) => output::answer(entry),
        (ScheduleAction::Remove(_), None) => output::answer(&text.say("schedule-removed", &[])),
        (_, None) => output::answer(&text.say("schedule-none", &[])),
    }
}

/// The folder whose entry is meant.
fn here(text: &Text) -> Result<PathBuf, Explained> {
    std::env::current_dir().map_err(|error| failed(text, "ghl-auth", &error.to_string()))
}

fn job(context: &Context) -> Result<Job, Explained> {
    let text = &context.text;
    let apps = context.of_each_app()?;
    // An entry is for one check. What `--app` says stands in no file that it could read.
    if apps.len() > 1 || context.app.is_some() {
        return Err(Explained::new(text, "schedule_apps", Exit::Usage, &[]));
    }
    let every_hours = context.settings(|config| config.run_interval())?;
    let Some(env_file) = context.source.env_file() else {
        return Err(Explained::new(text, "schedule_no_env", Exit::Usage, &[]));
    };
    let folder = here(text)?;
    let program = std::env::current_exe().map_err(|error| failed(text, "ghl-auth", &error.to_string()))?;
    let shared = PathBuf::from("/var/log/ghl_auth_check.log");
    let log = match std::fs::OpenOptions::new().append(true).create(true).open(&shared) {
        Ok(_) => shared,
        Err(_) => folder.join("ghl_auth_check.log"),
    };
    Ok(Job { program, folder, env_file, log, every_hours })
}

/// A scheduler's program did not do what it was asked.
fn failed(text: &Text, program: &str, why: &str) -> Explained {
    let arguments = [("program", program.to_owned().into()), ("why", why.trim().to_owned().into())];
    Explained::new(text, "schedule", Exit::Failed, &arguments)
}
