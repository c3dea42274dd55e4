//! The service as systemd keeps it, for settings that stand in a folder of their own. What it is kept away
//! from is said once, in `deploy/systemd/ghl-auth.service`.

use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Group, Uid, User, geteuid};

use super::failed;
use super::systemd::{folder, is_running, path_of, plain, quoted, said_by, systemctl};
use crate::exit::Exit;
use crate::explain::Explained;
use crate::text::Text;

pub(super) const UNIT: &str = "ghl-auth.service";

/// Tells our unit from a person's own.
const MARK: &str = "# Written by `ghl-auth schedule install --service`, which may write it again.";

/// The unit for a machine of its own.
const MODEL: &str = include_str!("../../../../../deploy/systemd/ghl-auth.service");

/// The folders in which Debian's packages put their units.
const PACKAGED: [&str; 2] = ["/usr/lib/systemd/system", "/lib/systemd/system"];

/// Where the packaged unit finds its settings.
const PACKAGED_SETTINGS: &str = "/etc/ghl-auth/env";

/// What of the model a user's own systemd can grant: the rest takes root, or namespaces that a user may not
/// have everywhere.
const FOR_A_USER: [&str; 22] = [
    "Description",
    "Type",
    "NotifyAccess",
    "ExecStart",
    "WatchdogSec",
    "Restart",
    "RestartSec",
    "TimeoutStopSec",
    "WorkingDirectory",
    "UMask",
    "NoNewPrivileges",
    "RestrictAddressFamilies",
    "RestrictNamespaces",
    "RestrictRealtime",
    "RestrictSUIDSGID",
    "LockPersonality",
    "MemoryDenyWriteExecute",
    "LimitCORE",
    "SystemCallArchitectures",
    "SystemCallFilter",
    "SystemCallErrorNumber",
    "WantedBy",
];

/// What is to be kept running, and what it needs for it.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) program: PathBuf,
    pub(super) folder: PathBuf,
    pub(super) env_file: PathBuf,
    /// Folders that it writes to, beside its own.
    pub(super) writes: Vec<PathBuf>,
    /// Whom the tokens belong to, where that is not root.
    pub(super) owner: Option<(u32, u32)>,
}

/// The unit as it stands, if it is ours.
pub(in crate::commands) fn show(text: &Text) -> Result<Option<String>, Explained> {
    let unit = fs::read_to_string(folder(text)?.join(UNIT)).ok();
    Ok(unit.filter(|unit| is_ours(unit)).map(|unit| unit.trim_end().to_owned()))
}

/// Whether the service runs, as far as systemd says.
pub(in crate::commands) fn is_active(text: &Text) -> bool {
    systemctl(text, &["is-active", "--quiet", UNIT]).is_ok()
}

/// Writes the unit, and has systemd keep the service from now on. One that runs already begins anew.
pub(super) fn install(text: &Text, service: &Service) -> Result<String, Explained> {
    if !is_running() {
        return Err(Explained::new(text, "schedule_no_systemd", Exit::Usage, &[]));
    }
    let path = folder(text)?.join(UNIT);
    let before = fs::read_to_string(&path).ok();
    let packaged = packaged();
    let anothers = match (&before, &packaged) {
        (Some(unit), _) if !is_ours(unit) => Some(path.clone()),
        (None, Some(packaged)) if service.env_file == Path::new(PACKAGED_SETTINGS) => {
            // The package's own unit is for these very settings.
            start(text)?;
            return Ok(fs::read_to_string(packaged).unwrap_or_default());
        }
        (None, Some(packaged)) => Some(packaged.clone()),
        _ => None,
    };
    if let Some(anothers) = anothers {
        let arguments = [("path", anothers.display().to_string().into())];
        return Err(Explained::new(text, "service_unit_there", Exit::Usage, &arguments));
    }
    let works_in =
        |unit: &str| unit.lines().find_map(|line| line.strip_prefix("WorkingDirectory=").map(str::to_owned));
    if let Some(other) = before.as_deref().and_then(works_in).filter(|it| *it != plain(&service.folder)) {
        let arguments = [("folder", other.replace("%%", "%").into())];
        return Err(Explained::new(text, "service_of_another", Exit::Usage, &arguments));
    }
    let unit = match geteuid().is_root() {
        true => for_the_system(service),
        false => for_a_user(service),
    };
    let trouble = |error: std::io::Error| failed(text, &path.display().to_string(), &error.to_string());
    let written = format!("{MARK}\n{unit}");
    let write =
        |unit: &str| path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, unit));
    write(&written).map_err(trouble)?;
    if let Err(error) = systemctl(text, &["daemon-reload"]).and_then(|()| start(text)) {
        let why = format!("{}\n{}", error.detail, said_by(UNIT)).trim_end().to_owned();
        // A service that can't start is not tried again at every start of the machine.
        match before {
            Some(before) => write(&before).map_err(trouble)?,
            None => drop(remove(text)),
        }
        return Err(Explained::new(text, "service_not_started", Exit::Failed, &[("why", why.into())]));
    }
    Ok(written.trim_end().to_owned())
}

/// Ends the service, and takes the unit away if it is ours.
pub(super) fn remove(text: &Text) -> Result<Option<String>, Explained> {
    let path = folder(text)?.join(UNIT);
    let Ok(unit) = fs::read_to_string(&path) else { return Ok(None) };
    if !is_ours(&unit) {
        let arguments = [("path", path.display().to_string().into())];
        return Err(Explained::new(text, "service_unit_there", Exit::Usage, &arguments));
    }
    systemctl(text, &["disable", "--now", UNIT])?;
    fs::remove_file(&path).map_err(|error| failed(text, &path.display().to_string(), &error.to_string()))?;
    systemctl(text, &["daemon-reload"])?;
    Ok(None)
}

fn start(text: &Text) -> Result<(), Explained> {
    systemctl(text, &["enable", UNIT])?;
    // One that runs has the settings and the unit of before.
    systemctl(text, &["restart", UNIT])
}

fn is_ours(unit: &str) -> bool {
    unit.starts_with(MARK)
}

/// A package's unit, which one of ours of the same name would hide.
fn packaged() -> Option<PathBuf> {
    let all = PACKAGED.map(|folder| Path::new(folder).join(UNIT));
    all.into_iter().find(|path| geteuid().is_root() && path.exists())
}

/// The model with its folder, its settings and its owner; every other line of it stays.
fn for_the_system(service: &Service) -> String {
    let Service { program, folder, env_file, writes, owner } = service;
    let is_temporary = |path: &Path| path.starts_with("/tmp") || path.starts_with("/var/tmp");
    let writes: Vec<&PathBuf> = std::iter::once(folder).chain(writes).collect();
    let lines = directives(|name, value| match name {
        "ExecStart" => vec![format!("{} --env-file ${{CREDENTIALS_DIRECTORY}}/env serve", quoted(program))],
        "LoadCredential" => vec![format!("env:{}", plain(env_file))],
        "StateDirectory" | "StateDirectoryMode" => vec![],
        "WorkingDirectory" => vec![plain(folder)],
        // Someone's own folder may be where it works; what else they have there it may look at.
        "ProtectHome" => vec!["read-only".to_owned()],
        "PrivateTmp" if writes.iter().any(|path| is_temporary(path)) => vec![],
        _ => vec![value.to_owned()],
    });
    lines
        .lines()
        .flat_map(|line| match line {
            "DynamicUser=yes" => match owner {
                Some((user, group)) => {
                    vec![format!("User={}", user_name(*user)), format!("Group={}", group_name(*group))]
                }
                None => vec![],
            },
            "ProtectSystem=strict" => {
                let writes = writes.iter().map(|path| format!("ReadWritePaths={}", path_of(path)));
                std::iter::once(line.to_owned()).chain(writes).collect()
            }
            line => vec![line.to_owned()],
        })
        .map(|line| line + "\n")
        .collect()
}

fn for_a_user(service: &Service) -> String {
    let Service { program, folder, env_file, .. } = service;
    directives(|name, value| match name {
        "ExecStart" => vec![format!("{} --env-file {} serve", quoted(program), quoted(env_file))],
        "WorkingDirectory" => vec![plain(folder)],
        "WantedBy" => vec!["default.target".to_owned()],
        name if FOR_A_USER.contains(&name) => vec![value.to_owned()],
        _ => vec![],
    })
}

/// The model's lines without its comments, each with what is said of its value.
fn directives(of: impl Fn(&str, &str) -> Vec<String>) -> String {
    let from_here = MODEL.lines().skip_while(|line| *line != "[Unit]");
    let lines = from_here.filter(|line| !line.starts_with('#')).flat_map(|line| match line.split_once('=') {
        None => vec![line.to_owned()],
        Some((name, value)) => of(name, value).into_iter().map(|value| format!("{name}={value}")).collect(),
    });
    let mut unit = String::new();
    for line in lines {
        // Where a group of lines went, no second empty line stays.
        if !(line.is_empty() && unit.ends_with("\n\n")) {
            unit.push_str(&line);
            unit.push('\n');
        }
    }
    unit
}

/// A name where there is one: it is what people read.
fn user_name(id: u32) -> String {
    User::from_uid(Uid::from_raw(id)).ok().flatten().map_or_else(|| id.to_string(), |user| user.name)
}

fn group_name(id: u32) -> String {
    Group::from_gid(Gid::from_raw(id)).ok().flatten().map_or_else(|| id.to_string(), |group| group.name)
}

/// Who runs this, by the name that `loginctl` takes.
pub(super) fn me() -> String {
    user_name(geteuid().as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(folder: &str) -> Service {
        Service {
            program: "/usr/local/bin/ghl-auth".into(),
            folder: folder.into(),
            env_file: Path::new(folder).join(".env"),
            writes: vec!["/srv/tokens".into()],
            owner: Some((65_534, 65_534)),
        }
    }

    /// The model's directives, without those that are said differently.
    fn kept_of_the_model(but: &[&str]) -> Vec<&'static str> {
        let lines = MODEL.lines().filter(|line| line.contains('=') && !line.starts_with('#'));
        lines.filter(|line| !but.contains(&line.split('=').next().unwrap_or_default())).collect()
    }

    #[test]
    fn the_systems_unit_is_the_model_in_a_folder_of_its_owners() {
        let unit = for_the_system(&service("/opt/50% off"));
        let differs = [
            "ExecStart",
            "LoadCredential",
            "StateDirectory",
            "StateDirectoryMode",
            "WorkingDirectory",
            "DynamicUser",
            "ProtectHome",
        ];
        let kept = kept_of_the_model(&differs);
        assert!(kept.len() > 30, "the model was read: {kept:?}");
        for line in kept {
            assert!(unit.lines().any(|is| is == line), "{line} is missing:\n{unit}");
        }
        for line in [
            "ExecStart=\"/usr/local/bin/ghl-auth\" --env-file ${CREDENTIALS_DIRECTORY}/env serve",
            "LoadCredential=env:/opt/50%% off/.env",
            "WorkingDirectory=/opt/50%% off",
            "ReadWritePaths=\"/opt/50%% off\"",
            "ReadWritePaths=\"/srv/tokens\"",
            "User=nobody",
            "ProtectHome=read-only",
        ] {
            assert!(unit.lines().any(|is| is == line), "{line} is missing:\n{unit}");
        }
        assert!(!unit.contains("DynamicUser") && !unit.contains("StateDirectory"), "{unit}");
        // Roots own tokens stay root's.
        let unit = for_the_system(&Service { owner: None, ..service("/tmp/try") });
        assert!(!unit.contains("User=nobody") && !unit.contains("PrivateTmp"), "{unit}");
    }

    #[test]
    fn a_users_unit_asks_for_nothing_that_takes_root() {
        let unit = for_a_user(&service("/home/ana/$HOME \"x\""));
        assert!(unit.contains(
            "ExecStart=\"/usr/local/bin/ghl-auth\" --env-file \"/home/ana/$$HOME \\\"x\\\"/.env\" serve\n"
        ));
        assert!(unit.contains("\nWantedBy=default.target\n"), "{unit}");
        for word in ["User=", "Protect", "Capabilit", "Private", "LoadCredential", "network-online"] {
            assert!(!unit.contains(word), "{word}:\n{unit}");
        }
        assert!(unit.contains("\nNoNewPrivileges=yes\n") && unit.contains("\nType=notify\n"), "{unit}");
    }
}
