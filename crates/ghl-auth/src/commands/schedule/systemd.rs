//! A service and a timer of systemd: the system's for root, the user's own for anyone else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::geteuid;

use super::{Job, failed};
use crate::exit::Exit;
use crate::explain::Explained;
use crate::text::Text;

const SERVICE: &str = "ghl-auth-check.service";
const TIMER: &str = "ghl-auth-check.timer";

/// Tells units that this command wrote from a person's own.
const MARK: &str = "# Written by `ghl-auth schedule install --systemd`, which may write it again.";

/// The timer as it stands, if it does.
pub(in crate::commands) fn show(text: &Text) -> Result<Option<String>, Explained> {
    let path = folder(text)?.join(TIMER);
    Ok(fs::read_to_string(path).ok().map(|timer| timer.trim_end().to_owned()))
}

/// Whether the timer runs, as far as systemd says.
pub(in crate::commands) fn is_active(text: &Text) -> bool {
    systemctl(text, &["is-active", "--quiet", TIMER]).is_ok()
}

/// Writes both units and starts the timer.
pub(super) fn install(text: &Text, job: &Job) -> Result<String, Explained> {
    let folder = folder(text)?;
    for path in [SERVICE, TIMER].map(|name| folder.join(name)) {
        let is_anothers = std::fs::read_to_string(&path).is_ok_and(|unit| !unit.starts_with(MARK));
        if is_anothers {
            let arguments = [("path", path.display().to_string().into())];
            return Err(Explained::new(text, "schedule_unit_there", Exit::Usage, &arguments));
        }
    }
    let write = |name: &str, unit: &str| {
        fs::create_dir_all(&folder)
            .and_then(|()| fs::write(folder.join(name), format!("{MARK}\n{unit}")))
            .map_err(|error| failed(text, &folder.join(name).display().to_string(), &error.to_string()))
    };
    let timer = timer(job.every_hours);
    write(SERVICE, &service(job))?;
    write(TIMER, &timer)?;
    systemctl(text, &["daemon-reload"])?;
    systemctl(text, &["enable", "--now", TIMER])?;
    Ok(timer.trim_end().to_owned())
}

/// Stops the timer and takes both units away.
pub(super) fn remove(text: &Text) -> Result<Option<String>, Explained> {
    let folder = folder(text)?;
    if folder.join(TIMER).exists() {
        systemctl(text, &["disable", "--now", TIMER])?;
    }
    for name in [TIMER, SERVICE] {
        match fs::remove_file(folder.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed(text, &folder.join(name).display().to_string(), &error.to_string()));
            }
            _ => {}
        }
    }
    systemctl(text, &["daemon-reload"])?;
    Ok(None)
}

/// Where units stand: the system's for root, their own for anyone else.
pub(super) fn folder(text: &Text) -> Result<PathBuf, Explained> {
    if geteuid().is_root() {
        return Ok(PathBuf::from("/etc/systemd/system"));
    }
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let config = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
    config.map(|config| config.join("systemd/user")).ok_or_else(|| failed(text, "systemctl --user", "HOME"))
}

/// Whether there is a systemd here that keeps services for whoever asks.
pub(super) fn is_running() -> bool {
    let asked = Command::new("systemctl").args(whose()).arg("is-system-running").output();
    asked.is_ok_and(|answer| {
        // What is not wholly well (`degraded`) has a status of its own, and still keeps services.
        let said = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
        answer.status.success() || !["", "offline", "unknown"].contains(&said.as_str())
    })
}

/// The last that a unit said, where the journal may be read: why it did not start.
pub(super) fn said_by(unit: &str) -> String {
    let output = Command::new("journalctl")
        .args(whose())
        .args(["--unit", unit, "--lines", "8", "--no-pager", "--quiet", "--output", "cat"])
        .output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

fn whose() -> &'static [&'static str] {
    if geteuid().is_root() { &[] } else { &["--user"] }
}

pub(super) fn systemctl(text: &Text, arguments: &[&str]) -> Result<(), Explained> {
    let whose = whose();
    let shown = format!("systemctl {}", [whose, arguments].concat().join(" "));
    let output = Command::new("systemctl")
        .args(whose)
        .args(arguments)
        .output()
        .map_err(|error| failed(text, &shown, &error.to_string()))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(failed(text, &shown, &String::from_utf8_lossy(&output.stderr))),
    }
}

fn service(job: &Job) -> String {
    format!(
        "[Unit]\n\
         Description=Check that the connection to HighLevel is alive\n\
         Wants=network-online.target\n\
         After=network-online.target\n\
         \n\
         [Service]\n\
         Type=oneshot\n\
         WorkingDirectory={}\n\
         ExecStart={} --env-file {} check\n\
         TimeoutStartSec=5min\n\
         TimeoutStopSec=75\n",
        plain(&job.folder),
        quoted(&job.program),
        quoted(&job.env_file),
    )
}

fn timer(every_hours: u32) -> String {
    format!(
        "[Unit]\n\
         Description=Check every {every_hours} h that the connection to HighLevel is alive\n\
         \n\
         [Timer]\n\
         OnBootSec=2min\n\
         OnUnitActiveSec={every_hours}h\n\
         RandomizedDelaySec=1min\n\
         \n\
         [Install]\n\
         WantedBy=timers.target\n"
    )
}

/// A path where systemd takes the rest of the line, save its own `%` specifiers.
pub(super) fn plain(path: &Path) -> String {
    path.display().to_string().replace('%', "%%")
}

/// A path as one word of a command line.
pub(super) fn quoted(path: &Path) -> String {
    path_of(path).replace('$', "$$")
}

/// A path as one word of a list, in which no variable is looked for.
pub(super) fn path_of(path: &Path) -> String {
    let path = plain(path).replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{path}\"")
}
