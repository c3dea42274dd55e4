//! The user's crontab: one line of it is ours, every other stays byte for byte.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{Job, failed};
use crate::exit::Exit;
use crate::explain::Explained;
use crate::text::Text;
use crate::wiring::random_name;

/// Our entry as it stands, if it does.
pub(in crate::commands) fn show(text: &Text, folder: &Path) -> Result<Option<String>, Explained> {
    let crontab = read(text)?;
    let ours = lines(&crontab).find(|line| is_ours(line, folder));
    Ok(ours.map(|line| String::from_utf8_lossy(line).trim_end().to_owned()))
}

/// How often the entry of a folder runs, as its five fields say it.
pub(in crate::commands) fn is_every(entry: &str, hours: u32) -> bool {
    times(hours).is_ok_and(|times| entry.starts_with(&format!("{times} ")))
}

/// The whole crontab as it is shown, for whoever only looks at it.
pub(in crate::commands) fn all(text: &Text) -> Result<String, Explained> {
    read(text).map(|crontab| String::from_utf8_lossy(&crontab).into_owned())
}

/// Writes our entry, in the place of an earlier one if there was one.
pub(super) fn install(text: &Text, job: &Job) -> Result<String, Explained> {
    let entry = entry(text, job)?;
    let before = read(text)?;
    let after = with_entry(&before, &entry, &job.folder);
    if after != before {
        write(text, &after)?;
    }
    Ok(entry)
}

/// Takes our entry out.
pub(super) fn remove(text: &Text, folder: &Path) -> Result<Option<String>, Explained> {
    let before = read(text)?;
    let after: Vec<u8> = lines(&before).filter(|line| !is_ours(line, folder)).flatten().copied().collect();
    if after != before {
        write(text, &after)?;
    }
    Ok(None)
}

/// The whole crontab; empty only where `crontab` says that there is none.
fn read(text: &Text) -> Result<Vec<u8>, Explained> {
    let output = Command::new("crontab")
        .arg("-l")
        .env("LC_ALL", "C")
        .output()
        .map_err(|error| failed(text, "crontab -l", &error.to_string()))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    match (output.status.success(), complaint.contains("no crontab for")) {
        (true, _) if output.stdout.windows(2).any(|pair| pair == b"\\r") => as_an_editor_sees_it(text),
        (true, _) => Ok(output.stdout),
        (false, true) => Ok(Vec::new()),
        (false, false) => Err(failed(text, "crontab -l", &complaint)),
    }
}

/// The crontab's own bytes. Debian's `crontab -l` shows a carriage return as the two characters
/// `\r`; an editor gets the file itself, and this one only copies it.
fn as_an_editor_sees_it(text: &Text) -> Result<Vec<u8>, Explained> {
    let trouble = |error: std::io::Error| failed(text, "crontab -e", &error.to_string());
    let folder = std::env::temp_dir().join(format!("ghl-auth-{}", random_name()));
    let (editor, copy) = (folder.join("editor"), folder.join("copy"));
    let seen = std::fs::create_dir(&folder)
        .and_then(|()| std::fs::write(&editor, "#!/bin/sh\ncp \"$1\" \"${0%/*}/copy\"\n"))
        .and_then(|()| std::fs::set_permissions(&editor, Permissions::from_mode(0o700)))
        .and_then(|()| Command::new("crontab").arg("-e").env("VISUAL", &editor).stdin(Stdio::null()).output())
        .and_then(|_| std::fs::read(&copy));
    let _ = std::fs::remove_dir_all(&folder);
    seen.map_err(trouble)
}

fn write(text: &Text, crontab: &[u8]) -> Result<(), Explained> {
    let trouble = |error: std::io::Error| failed(text, "crontab -", &error.to_string());
    let mut child = Command::new("crontab")
        .arg("-")
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(trouble)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(crontab).map_err(trouble)?;
    }
    let output = child.wait_with_output().map_err(trouble)?;
    match output.status.success() {
        true => Ok(()),
        false => Err(failed(text, "crontab -", &String::from_utf8_lossy(&output.stderr))),
    }
}

/// The line for a job, which a user can read and run by hand.
fn entry(text: &Text, job: &Job) -> Result<String, Explained> {
    let times = times(job.every_hours).map_err(|neighbours| {
        let arguments = [("hours", job.every_hours.into()), ("neighbours", neighbours.into())];
        Explained::new(text, "schedule_interval", Exit::Usage, &arguments)
    })?;
    let mut quoted = Vec::new();
    for path in [&job.folder, &job.program, &job.env_file, &job.log] {
        match quote(path) {
            Some(path) => quoted.push(path),
            None => return Err(failed(text, "crontab", &path.display().to_string())),
        }
    }
    let [folder, program, env_file, log] = quoted.as_slice() else { unreachable!("four paths, four quotes") };
    Ok(format!(
        "{times} cd {folder} && {program} --env-file {env_file} check >> {log} 2>&1 {}",
        mark(&job.folder)
    ))
}

/// What tells our line for this folder from every other. To the shell it is a comment.
fn mark(folder: &Path) -> String {
    format!("# ghl-auth {}", folder.display().to_string().replace('%', "\\%"))
}

/// The five fields for "every so many hours", or the nearest intervals that cron can keep: only a
/// divisor of 24 comes out the same from one day to the next.
fn times(every_hours: u32) -> Result<String, String> {
    match every_hours {
        1 => Ok("0 * * * *".into()),
        24 => Ok("0 0 * * *".into()),
        hours if hours < 24 && 24 % hours == 0 => Ok(format!("0 */{hours} * * *")),
        hours => {
            let good = [1, 2, 3, 4, 6, 8, 12, 24];
            let below = good.iter().rev().find(|good| **good < hours);
            let above = good.iter().find(|good| **good > hours);
            let neighbours: Vec<String> = below.into_iter().chain(above).map(u32::to_string).collect();
            Err(neighbours.join(", "))
        }
    }
}

/// A path for the shell, behind cron, which takes a `%` for the end of the line.
fn quote(path: &Path) -> Option<String> {
    let path = path.to_str().filter(|path| !path.contains(['\n', '\r', '\0']))?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@".contains(c);
    Some(match path.chars().all(plain) {
        true => path.to_owned(),
        false => format!("'{}'", path.replace('\'', "'\\''").replace('%', "\\%")),
    })
}

fn lines(crontab: &[u8]) -> impl Iterator<Item = &[u8]> {
    crontab.split_inclusive(|byte| *byte == b'\n')
}

fn is_ours(line: &[u8], folder: &Path) -> bool {
    let line = line.trim_ascii_end();
    !line.starts_with(b"#") && line.ends_with(format!(" {}", mark(folder)).as_bytes())
}

fn with_entry(crontab: &[u8], entry: &str, folder: &Path) -> Vec<u8> {
    let mut after = Vec::with_capacity(crontab.len() + entry.len() + 2);
    let mut placed = false;
    for line in lines(crontab) {
        match (is_ours(line, folder), placed) {
            (false, _) => after.extend_from_slice(line),
            (true, false) => {
                after.extend_from_slice(entry.as_bytes());
                after.push(b'\n');
                placed = true;
            }
            (true, true) => {}
        }
    }
    if !placed {
        if after.last().is_some_and(|byte| *byte != b'\n') {
            after.push(b'\n');
        }
        after.extend_from_slice(entry.as_bytes());
        after.push(b'\n');
    }
    after
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Lang;

    fn job(every_hours: u32) -> Job {
        Job {
            program: "/usr/local/bin/ghl-auth".into(),
            folder: "/opt/ghl auth".into(),
            env_file: "/opt/ghl auth/.env".into(),
            log: "/var/log/ghl_auth_check.log".into(),
            every_hours,
        }
    }

    #[test]
    fn cron_keeps_the_divisors_of_a_day() {
        let check = |hours, expected: Result<&str, &str>| {
            assert_eq!(times(hours), expected.map(str::to_owned).map_err(str::to_owned), "{hours}");
        };
        check(1, Ok("0 * * * *"));
        check(6, Ok("0 */6 * * *"));
        check(12, Ok("0 */12 * * *"));
        check(24, Ok("0 0 * * *"));
        check(5, Err("4, 6"));
        check(20, Err("12, 24"));
        check(36, Err("24"));
    }

    #[test]
    fn an_entry_survives_spaces_quotes_and_percent_signs() {
        let text = Text::new(Lang::En);
        let entry = entry(&text, &job(12)).expect("an entry");
        assert_eq!(
            entry,
            "0 */12 * * * cd '/opt/ghl auth' && /usr/local/bin/ghl-auth --env-file '/opt/ghl auth/.env' check \
             >> /var/log/ghl_auth_check.log 2>&1 # ghl-auth /opt/ghl auth"
        );
        assert_eq!(quote(Path::new("/a'b%c")).as_deref(), Some("'/a'\\''b\\%c'"));
        assert_eq!(quote(Path::new("/a\nb")), None);
    }

    #[test]
    fn every_other_line_stays_as_it_is() {
        let text = Text::new(Lang::En);
        let folder = job(12).folder;
        let (twelve, six) =
            (entry(&text, &job(12)).expect("an entry"), entry(&text, &job(6)).expect("an entry"));
        let others: &[u8] =
            b"# mine\r\nMAILTO=\"\"\n\n\t5 4 * * *  x \xff % y\n*/5 * * * * /opt/run_ghl_check.sh # ghl-auth";
        let once = with_entry(others, &twelve, &folder);
        assert!(once.starts_with(others) && once.ends_with(format!("\n{twelve}\n").as_bytes()));
        assert_eq!(with_entry(&once, &twelve, &folder), once, "twice is once");
        let changed = with_entry(&once, &six, &folder);
        assert!(changed.starts_with(others) && changed.ends_with(format!("\n{six}\n").as_bytes()));
        let without: Vec<u8> =
            lines(&changed).filter(|line| !is_ours(line, &folder)).flatten().copied().collect();
        assert_eq!(without, [others, b"\n"].concat());
    }
}
