//! `schedule`: the check as an entry of cron or a timer of systemd, from `RUN_INTERVAL_HOURS`, or the
//! service, which makes its checks by itself, as systemd keeps it.

pub(super) mod crontab;
pub(super) mod systemd;
pub(super) mod unit;

use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use serde_json::json;

use self::unit::Service;
use crate::cli::{ScheduleAction, ScheduleWay, ServeArgs};
use crate::config::{Config, Listen};
use crate::doors::Sockets;
use crate::exit::Exit;
use crate::explain::Explained;
use crate::output;
use crate::service::Settings;
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

/// Who sees to it that there are checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheduler {
    Cron,
    Timer,
    Service,
}

impl Scheduler {
    fn of(way: ScheduleWay) -> Self {
        match (way.systemd, way.service) {
            (_, true) => Self::Service,
            (true, false) => Self::Timer,
            (false, false) => Self::Cron,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Cron => "cron",
            Self::Timer => "systemd",
            Self::Service => "service",
        }
    }
}

pub(crate) fn run(action: ScheduleAction, context: &Context) -> Result<Exit, Explained> {
    let (ScheduleAction::Show(way) | ScheduleAction::Install(way) | ScheduleAction::Remove(way)) = action;
    let text = &context.text;
    let scheduler = Scheduler::of(way);
    // What stands can be looked at and taken out without any settings.
    let now = match (scheduler, action) {
        (Scheduler::Cron, ScheduleAction::Show(_)) => crontab::show(text, &here(text)?)?,
        (Scheduler::Cron, ScheduleAction::Install(_)) => Some(crontab::install(text, &job(context)?)?),
        (Scheduler::Cron, ScheduleAction::Remove(_)) => crontab::remove(text, &here(text)?)?,
        (Scheduler::Timer, ScheduleAction::Show(_)) => systemd::show(text)?,
        (Scheduler::Timer, ScheduleAction::Install(_)) => Some(systemd::install(text, &job(context)?)?),
        (Scheduler::Timer, ScheduleAction::Remove(_)) => systemd::remove(text)?,
        (Scheduler::Service, ScheduleAction::Show(_)) => unit::show(text)?,
        (Scheduler::Service, ScheduleAction::Install(_)) => Some(unit::install(text, &service_of(context)?)?),
        (Scheduler::Service, ScheduleAction::Remove(_)) => unit::remove(text)?,
    };
    let every_hours = Config::new(&context.source).run_interval();
    if way.json {
        output::document(&json!({
            "scheduler": scheduler.as_str(),
            "installed": now.is_some(),
            "every_hours": every_hours,
            "entry": now,
        }));
        return Ok(Exit::Good);
    }
    match scheduler {
        Scheduler::Service => say_of_the_service(context, action, now.as_deref()),
        Scheduler::Cron | Scheduler::Timer => say(context, action, now.as_deref(), every_hours),
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

fn say_of_the_service(context: &Context, action: ScheduleAction, now: Option<&str>) {
    let text = &context.text;
    match (action, now) {
        (ScheduleAction::Install(_), Some(_)) => {
            output::good_news(&text.say("service-installed", &[]));
            let is_root = geteuid().is_root();
            output::answer(&text.say(if is_root { "service-see" } else { "service-see-user" }, &[]));
            if !is_root {
                output::answer(&text.say("service-linger", &[("user", unit::me().into())]));
            }
            output::answer(&text.say("service-dashboard", &[]));
            if here(text).is_ok_and(|here| crontab::show(text, &here).is_ok_and(|entry| entry.is_some())) {
                output::answer(&text.say("service-besides-cron", &[]));
            }
            if systemd::show(text).is_ok_and(|timer| timer.is_some()) {
                output::answer(&text.say("service-besides-timer", &[]));
            }
        }
        (_, Some(unit)) => output::answer(unit),
        (ScheduleAction::Remove(_), None) => output::answer(&text.say("service-removed", &[])),
        (_, None) => output::answer(&text.say("service-none", &[])),
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

/// The service for these settings, which has to be able to start with them.
fn service_of(context: &Context) -> Result<Service, Explained> {
    let text = &context.text;
    if context.app.is_some() {
        return Err(Explained::new(text, "schedule_apps", Exit::Usage, &[]));
    }
    let Some(env_file) = context.source.env_file() else {
        return Err(Explained::new(text, "schedule_no_env", Exit::Usage, &[]));
    };
    let absolute =
        |path: &Path| std::path::absolute(path).map_err(|error| failed(text, "ghl-auth", &error.to_string()));
    let apps = context.of_each_app()?;
    let (doors, settings) = super::serve::settings_of(context, &apps, &ServeArgs::default())?;
    let owner = settings.first().and_then(Settings::to_become);
    if !unit::is_active(text) {
        // Its own log is the only place where it could say so once it is systemd that starts it.
        Sockets::bind(&doors, owner).map_err(|taken| super::serve::not_bound(context, &taken))?;
    }
    let folder = here(text)?;
    let mut writes = Vec::new();
    let sockets = match &doors.private {
        Listen::Unix(path) => Some(path.as_path()),
        Listen::Tcp(_) => None,
    };
    for path in settings.iter().map(Settings::store_path).chain(sockets) {
        let path = absolute(path)?;
        let beside = path.parent().unwrap_or(&path).to_owned();
        if !beside.starts_with(&folder) && !writes.contains(&beside) {
            writes.push(beside);
        }
    }
    let program = std::env::current_exe().map_err(|error| failed(text, "ghl-auth", &error.to_string()))?;
    Ok(Service { program, folder, env_file: absolute(&env_file)?, writes, owner })
}

/// A scheduler's program did not do what it was asked.
fn failed(text: &Text, program: &str, why: &str) -> Explained {
    let arguments = [("program", program.to_owned().into()), ("why", why.trim().to_owned().into())];
    Explained::new(text, "schedule", Exit::Failed, &arguments)
}
