//! `schedule`: the check as an entry of cron or a timer of systemd, from `RUN_INTERVAL_HOURS`.

mod crontab;
mod systemd;

use std::path::PathBuf;

use serde_json::json;

use crate::cli::ScheduleAction;
use crate::exit::Exit;
use crate::explain::Explained;
use crate::output;
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
    let every_hours = context.settings(|config| config.run_interval())?;
    let job = job(context, every_hours)?;
    let now = match (way.systemd, action) {
        (false, ScheduleAction::Show(_)) => crontab::show(text, &job)?,
        (false, ScheduleAction::Install(_)) => Some(crontab::install(text, &job)?),
        (false, ScheduleAction::Remove(_)) => crontab::remove(text, &job)?,
        (true, ScheduleAction::Show(_)) => systemd::show(text)?,
        (true, ScheduleAction::Install(_)) => Some(systemd::install(text, &job)?),
        (true, ScheduleAction::Remove(_)) => systemd::remove(text)?,
    };
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

fn say(context: &Context, action: ScheduleAction, now: Option<&str>, every_hours: u32) {
    let text = &context.text;
    match (action, now) {
        (ScheduleAction::Install(_), Some(entry)) => {
            output::good_news(&text.say("schedule-installed", &[("hours", every_hours.into())]));
            output::answer(entry);
        }
        (_, Some(entry)) => output::answer(entry),
        (ScheduleAction::Remove(_), None) => output::answer(&text.say("schedule-removed", &[])),
        (_, None) => output::answer(&text.say("schedule-none", &[])),
    }
}

fn job(context: &Context, every_hours: u32) -> Result<Job, Explained> {
    let text = &context.text;
    let Some(env_file) = context.source.env_file() else {
        return Err(Explained::new(text, "schedule_no_env", Exit::Usage, &[]));
    };
    let trouble = |error: std::io::Error| failed(text, "ghl-auth", &error.to_string());
    let folder = std::env::current_dir().map_err(trouble)?;
    let program = std::env::current_exe().map_err(trouble)?;
    let shared = PathBuf::from("/var/log/ghl_auth_check.log");
    let log = match std::fs::OpenOptions::new().append(true).create(true).open(&shared) {
        Ok(_) => shared,
        Err(_) => folder.join("ghl_auth_check.log"),
    };
    Ok(Job { program, folder, env_file, log, every_hours })
}

/// A scheduler's program did not do what it was asked.
fn failed(text: &crate::text::Text, program: &str, why: &str) -> Explained {
    let arguments = [("program", program.to_owned().into()), ("why", why.trim().to_owned().into())];
    Explained::new(text, "schedule", Exit::Failed, &arguments)
}
