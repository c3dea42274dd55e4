//! What runs the check, and whether it can.

use std::time::Duration;

use tokens::{Health, LastCheck, Timestamp};

use super::super::finding::{Area, Finding};
use crate::exit::Exit;
use crate::output::moment;

/// What runs the check, and when it did.
#[derive(Clone, Debug)]
pub(crate) struct ScheduleFacts {
    /// Our entry in the crontab, and whether it keeps the interval.
    pub(crate) cron: Option<bool>,
    /// Our timer of systemd, and whether it runs.
    pub(crate) timer: Option<bool>,
    /// Our unit of the service, and whether systemd says that it runs.
    pub(crate) service: Option<bool>,
    pub(crate) service_lives: bool,
    pub(crate) every_hours: u32,
    pub(crate) last_check: Option<LastCheck>,
    pub(crate) connected_at: Option<Timestamp>,
    /// Lines of the crontab that are not ours and look like a check of the same grant.
    pub(crate) others: Vec<usize>,
}

pub(crate) fn schedule(facts: &ScheduleFacts, now: Timestamp) -> Vec<Finding> {
    let area = Area::Schedule;
    let hours = || ("hours", facts.every_hours.to_string());
    let mut found = Vec::new();
    if facts.service == Some(false) && !facts.service_lives {
        found.push(Finding::failure(area, "service_stopped", Exit::Failed, vec![]));
    }
    match (facts.cron, facts.timer, facts.service.is_some() || facts.service_lives) {
        (None, None, false) => found.push(Finding::warning(area, "schedule_none", vec![hours()])),
        (Some(_), Some(_), _) => found.push(Finding::warning(area, "schedule_twice", vec![])),
        (Some(false), _, _) => found.push(Finding::warning(area, "schedule_differs", vec![hours()])),
        (_, Some(false), _) => {
            found.push(Finding::failure(area, "timer_stopped", Exit::Failed, vec![]));
        }
        _ => {}
    }
    let is_scheduled = facts.cron.is_some() || facts.timer.is_some() || facts.service_lives;
    let patience = Duration::from_secs(u64::from(facts.every_hours) * 3600 + 3600);
    let since = facts.last_check.as_ref().map(|check| check.at).or(facts.connected_at);
    if let Some(since) = since.filter(|since| is_scheduled && now.since(*since) > patience) {
        let said = vec![("at", moment(since)), hours()];
        let code = if facts.last_check.is_some() { "schedule_late" } else { "schedule_never" };
        found.push(Finding::failure(area, code, Exit::Failed, said));
    }
    if let Some(LastCheck { at, health, code, said }) = &facts.last_check
        && *health != Health::Operational
    {
        let code = ("code", code.clone().unwrap_or_else(|| health.as_str().to_owned()));
        let said = ("said", said.clone().unwrap_or_else(|| health.as_str().to_owned()));
        found.push(Finding::warning(area, "check_failed", vec![("at", moment(*at)), code, said]));
    }
    if !facts.others.is_empty() {
        let lines = facts.others.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
        found.push(Finding::warning(area, "schedule_others", vec![("lines", lines)]));
    }
    if found.is_empty() {
        found.push(Finding::good(area, "schedule_good", vec![]));
    }
    found
}

/// What no location is named for: a check on its own refuses to guess one, and a service has no need to.
pub(crate) fn location_unnamed(facts: &ScheduleFacts) -> Option<Finding> {
    let checks_alone = facts.cron.is_some() || facts.timer.is_some();
    checks_alone.then(|| Finding::failure(Area::Configuration, "location_unnamed", Exit::Usage, vec![]))
}

/// Which lines of a crontab seem to check with the same grant: the template's script, or this program
/// with another folder's entry. Ours is told by its mark, and `folder` is whose.
pub(crate) fn others_in(crontab: &str, ours: Option<&str>, folder: &str) -> Vec<usize> {
    let suspicious = |line: &str| {
        let is_template =
            line.contains("run_ghl_check") || (line.contains("python") && line.contains("auth_handler"));
        let is_same = line.contains("ghl-auth") && line.contains(&format!("cd {folder} "));
        !line.trim_start().starts_with('#') && ours != Some(line.trim_end()) && (is_template || is_same)
    };
    let lines = crontab.lines().enumerate();
    lines.filter(|(_, line)| suspicious(line)).map(|(index, _)| index + 1).collect()
}

/// What our entry needs to run, with whether it is so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EntryFacts {
    pub(crate) program: Option<(String, bool)>,
    pub(crate) env_file: Option<(String, bool)>,
    pub(crate) log: Option<(String, bool)>,
}

pub(crate) fn cron(facts: &EntryFacts) -> Vec<Finding> {
    let area = Area::Cron;
    let parts = [("cron_program", &facts.program), ("cron_env", &facts.env_file), ("cron_log", &facts.log)];
    let broken = parts.into_iter().filter_map(|(code, part)| match part {
        Some((path, false)) => Some(Finding::failure(area, code, Exit::Failed, vec![("path", path.clone())])),
        _ => None,
    });
    let mut found: Vec<Finding> = broken.collect();
    if found.is_empty() {
        found.push(Finding::good(area, "cron_good", vec![]));
    }
    found
}

/// The words of an entry's command, as the shell takes them; of what `quote` writes, no more.
pub(crate) fn words(entry: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut any) = (Vec::new(), String::new(), false, false);
    let mut chars = entry.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\'' => (quoted, any) = (!quoted, true),
            // Behind cron, a percent sign has a backslash wherever it stands.
            '\\' if !quoted || chars.peek() == Some(&'%') => word.extend(chars.next()),
            c if c.is_whitespace() && !quoted => {
                if any || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                any = false;
            }
            c => word.push(c),
        }
    }
    if any || !word.is_empty() {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::super::tests::{HOUR, NOW, codes};
    use super::*;

    #[test]
    fn a_schedule_is_there_once_and_runs() {
        let facts = ScheduleFacts {
            cron: Some(true),
            timer: None,
            service: None,
            service_lives: false,
            every_hours: 12,
            last_check: None,
            connected_at: Some(NOW - HOUR * 13),
            others: vec![],
        };
        let check = |change: fn(&mut ScheduleFacts), expected: &[&str]| {
            let mut facts = facts.clone();
            change(&mut facts);
            assert_eq!(codes(&schedule(&facts, NOW)), expected);
        };
        let last = |at| Some(LastCheck { at, health: Health::Operational, code: None, said: None });
        check(|_| {}, &["schedule_good"]);
        check(|it| it.cron = None, &["schedule_none"]);
        check(|it| (it.cron, it.timer) = (None, Some(true)), &["schedule_good"]);
        check(|it| (it.cron, it.timer) = (None, Some(false)), &["timer_stopped"]);
        check(|it| (it.cron, it.service_lives) = (None, true), &["schedule_good"]);
        check(|it| (it.cron, it.service) = (None, Some(true)), &["schedule_good"]);
        check(|it| (it.cron, it.service) = (None, Some(false)), &["service_stopped"]);
        check(|it| (it.service, it.service_lives) = (Some(false), true), &["schedule_good"]);
        check(|it| it.timer = Some(true), &["schedule_twice"]);
        check(|it| it.cron = Some(false), &["schedule_differs"]);
        check(|it| it.connected_at = Some(NOW - HOUR * 14), &["schedule_never"]);
        check(|it| it.others = vec![3, 4], &["schedule_others"]);
        // Who has no schedule at all is told that, and not that it is late.
        check(|it| (it.cron, it.connected_at) = (None, Some(NOW - HOUR * 99)), &["schedule_none"]);
        let mut late = facts.clone();
        late.last_check = last(NOW - HOUR * 14);
        assert_eq!(codes(&schedule(&late, NOW)), ["schedule_late"]);
        late.last_check = last(NOW - HOUR * 13);
        assert_eq!(codes(&schedule(&late, NOW)), ["schedule_good"]);
        late.last_check = late.last_check.map(|check| LastCheck { health: Health::Down, ..check });
        assert_eq!(codes(&schedule(&late, NOW)), ["check_failed"]);
    }

    #[test]
    fn lines_that_check_the_same_grant_are_found_and_ours_is_not() {
        let ours = "0 */12 * * * cd /opt/ghl && /usr/bin/ghl-auth --env-file /opt/ghl/.env check # ghl-auth /opt/ghl";
        let check = |line: &str, expected: &[usize]| {
            let crontab = format!("MAILTO=\"\"\n{line}\n{ours}\n");
            assert_eq!(others_in(&crontab, Some(ours), "/opt/ghl"), expected, "{line}");
        };
        check("5 4 * * * /bin/true", &[]);
        check("0 */12 * * * /opt/run_ghl_check.sh >> /var/log/x 2>&1", &[2]);
        check("# 0 */12 * * * /opt/run_ghl_check.sh", &[]);
        check("0 1 * * * cd /x && python3 src/auth_handler.py", &[2]);
        check("0 1 * * * cd /opt/ghl && ghl-auth check", &[2]);
        check("0 1 * * * cd /opt/ghl2 && ghl-auth check", &[]);
    }

    #[test]
    fn an_entrys_words_are_what_the_shell_takes_them_for() {
        let entry = "0 */12 * * * cd '/opt/a b\\%c' && /bin/ghl-auth --env-file '/o'\\''x/.env' check >> /l\\%og 2>&1";
        let words = words(entry);
        assert_eq!(
            words.iter().skip(5).map(String::as_str).collect::<Vec<_>>(),
            [
                "cd",
                "/opt/a b%c",
                "&&",
                "/bin/ghl-auth",
                "--env-file",
                "/o'x/.env",
                "check",
                ">>",
                "/l%og",
                "2>&1"
            ]
        );
    }

    #[test]
    fn each_trouble_of_an_entry_is_told() {
        let part = |good| Some(("/x".to_owned(), good));
        let all = EntryFacts { program: part(false), env_file: part(false), log: part(false) };
        assert_eq!(codes(&cron(&all)), ["cron_program", "cron_env", "cron_log"]);
        let none = EntryFacts { program: part(true), env_file: part(true), log: part(true) };
        assert_eq!(codes(&cron(&none)), ["cron_good"]);
    }
}
