//! Facts in, findings out: nothing in here looks at anything by itself.

use std::path::PathBuf;
use std::time::Duration;

use highlevel::Greeting;
use store::Tables;
use tokens::store::Counts;
use tokens::{Connection, Drift, Health, InstallationId, LastCheck, Overview, Timestamp};

use super::finding::{Area, Finding};
use crate::exit::Exit;
use crate::output::{moment, span};

const MIB: u64 = 1024 * 1024;

/// A refresh sets a quarter of a MiB aside, and a database grows in pieces: less than this is none.
const FULL: u64 = 16 * MIB;
const SOON_FULL: u64 = 200 * MIB;

/// A second on the way and the second that `Date` is cut to are nothing.
const CLOCK_GOOD: u64 = 30;
/// Beyond this, signatures, webhooks and certificates begin to be refused.
const CLOCK_WRONG: u64 = 300;

/// No flight lasts longer than this; whoever began it is gone.
const LONGEST_FLIGHT: Duration = Duration::from_secs(60);

/// An unused refresh token lives for a year. One that is refused earlier was used, or withdrawn.
const REFRESH_TOKEN_LIFE: Duration = Duration::from_secs(360 * 86_400);

/// A token that says that it ends so much sooner than is noted would be used when it is dead. What it says
/// and what the reply said differ by a second.
const SAME_END: Duration = Duration::from_secs(15 * 60);

/// A file that is to be ours alone.
#[derive(Clone, Debug)]
pub(super) struct FileFacts {
    pub(super) path: PathBuf,
    pub(super) what: FileKind,
    pub(super) mode: u32,
    pub(super) owner: u32,
    /// Its folder and the folder's mode, where others may put files of their own there.
    pub(super) open_folder: Option<(PathBuf, u32)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    Settings,
    Store,
}

/// Whether files are their owner's only, where `me` is who asks.
pub(super) fn files(files: &[FileFacts], me: u32) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut folders: Vec<&PathBuf> = Vec::new();
    for file in files {
        let path = || ("path", file.path.display().to_string());
        if file.mode & 0o077 != 0 {
            let code = match file.what {
                FileKind::Settings => "env_mode",
                FileKind::Store => "store_mode",
            };
            let mode = ("mode", format!("{:04o}", file.mode & 0o7777));
            found.push(Finding::warning(Area::Files, code, vec![path(), mode]));
        }
        if me != 0 && file.owner != me {
            let owners = vec![path(), ("owner", file.owner.to_string()), ("me", me.to_string())];
            found.push(match file.what {
                FileKind::Settings => Finding::warning(Area::Files, "env_owner", owners),
                FileKind::Store => Finding::failure(Area::Files, "store_owner", Exit::Usage, owners),
            });
        }
        if let Some((folder, mode)) = &file.open_folder
            && !folders.contains(&folder)
        {
            folders.push(folder);
            let folder = ("path", folder.display().to_string());
            let mode = ("mode", format!("{mode:04o}"));
            found.push(Finding::warning(Area::Files, "folder_open", vec![folder, mode]));
        }
    }
    if found.is_empty() {
        found.push(Finding::good(Area::Files, "files_good", vec![]));
    }
    found
}

/// The settings beyond what makes them faulty.
#[derive(Clone, Debug, Default)]
pub(super) struct SettingsFacts {
    pub(super) env_file: Option<String>,
    pub(super) bad_lines: Vec<usize>,
    pub(super) cleaned: Vec<String>,
    /// Names and values of what an example is easily left in; no secrets.
    pub(super) plain: Vec<(String, String)>,
    /// Names of secrets that hold an example's words.
    pub(super) example_secrets: Vec<String>,
    pub(super) client_id: Option<String>,
}

/// Whether a value is what the template, or a guide, has in its place.
pub(super) fn is_placeholder(value: &str) -> bool {
    let value = value.to_ascii_lowercase();
    ["seu_", "sua_", "your_", "your-", "change_me", "changeme", "xxxx", "<"]
        .iter()
        .any(|start| value.starts_with(start))
}

/// Settings that can be read and are likely not meant.
pub(super) fn settings(facts: &SettingsFacts) -> Vec<Finding> {
    let area = Area::Configuration;
    let mut found = Vec::new();
    let path = || ("path", facts.env_file.clone().unwrap_or_else(|| ".env".to_owned()));
    if !facts.bad_lines.is_empty() {
        let lines = facts.bad_lines.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
        found.push(Finding::warning(area, "env_lines", vec![path(), ("lines", lines)]));
    }
    if !facts.cleaned.is_empty() {
        found.push(Finding::warning(area, "cleaned", vec![("names", facts.cleaned.join(", "))]));
    }
    let plain = facts.plain.iter().filter(|(_, value)| is_placeholder(value)).map(|(name, _)| name);
    let examples: Vec<&str> = plain.chain(&facts.example_secrets).map(String::as_str).collect();
    if !examples.is_empty() {
        let names = ("names", examples.join(", "));
        found.push(Finding::failure(area, "placeholder", Exit::Usage, vec![names]));
    }
    if let Some(id) = &facts.client_id
        && !is_placeholder(id)
        && !is_client_id(id)
    {
        found.push(Finding::warning(area, "client_id_shape", vec![]));
    }
    found
}

/// `<24 hex>-<suffix>`, as the marketplace shows it.
fn is_client_id(id: &str) -> bool {
    let Some((app, suffix)) = id.split_once('-') else { return false };
    app.len() == 24 && app.bytes().all(|byte| byte.is_ascii_hexdigit()) && !suffix.is_empty()
}

/// With which keys the store is sealed.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeyFacts {
    pub(super) has_current: bool,
    pub(super) old: usize,
    /// So many records still need one of the old keys.
    pub(super) left: usize,
}

pub(super) fn key(facts: KeyFacts) -> Finding {
    match facts {
        KeyFacts { has_current: false, old: 1.., .. } => {
            Finding::warning(Area::Key, "old_keys_alone", vec![])
        }
        KeyFacts { has_current: false, .. } => Finding::good(Area::Key, "key_none", vec![]),
        KeyFacts { old: 0, .. } => Finding::good(Area::Key, "key_good", vec![]),
        KeyFacts { left: 0, .. } => Finding::warning(Area::Key, "old_keys_idle", vec![]),
        KeyFacts { left, .. } => {
            Finding::warning(Area::Key, "old_keys_needed", vec![("count", left.to_string())])
        }
    }
}

/// The store, once it is open.
#[derive(Clone, Debug)]
pub(super) struct StoreFacts {
    pub(super) place: String,
    pub(super) free_bytes: Option<u64>,
    /// Why another keeps these grants, if another does.
    pub(super) standby: Option<String>,
    pub(super) landings: usize,
    pub(super) in_place: bool,
}

/// Tables of a database on a network that are not as the store needs them.
pub(super) fn tables(tables: Tables, place: &str) -> Option<Finding> {
    let place = vec![("place", place.to_owned())];
    match tables {
        Tables::Whole => None,
        Tables::None => Some(Finding::failure(Area::Store, "store_missing", Exit::Person, place)),
        Tables::Earlier => Some(Finding::warning(Area::Store, "tables_earlier", place)),
        Tables::WithoutRecords => {
            Some(Finding::failure(Area::Store, "records_missing", Exit::Unreachable, place))
        }
    }
}

pub(super) fn store(facts: &StoreFacts) -> Vec<Finding> {
    let area = Area::Store;
    let place = || ("place", facts.place.clone());
    let mut found = Vec::new();
    if let Some(free) = facts.free_bytes.filter(|free| *free < SOON_FULL) {
        let said = vec![place(), ("free", (free / MIB).to_string())];
        found.push(match free < FULL {
            true => Finding::failure(area, "disk_full", Exit::Unreachable, said),
            false => Finding::warning(area, "disk_low", said),
        });
    }
    if let Some(why) = &facts.standby {
        found.push(Finding::warning(area, "standby", vec![place(), ("why", why.clone())]));
    }
    if facts.landings > 0 {
        found.push(Finding::warning(area, "landings", vec![("count", facts.landings.to_string())]));
    }
    if facts.in_place {
        found.push(Finding::warning(area, "in_place", vec![place()]));
    }
    if found.is_empty() {
        found.push(Finding::good(area, "store_good", vec![place()]));
    }
    found
}

/// How far one comes on the way to HighLevel.
#[derive(Clone, Debug)]
pub(super) enum Reached {
    NoName(String),
    NoConnection(String),
    /// A connection, and no answer by TLS.
    NoTls(String),
    NoAnswer(String),
    Answered(Greeting),
}

pub(super) fn network(host: &str, is_loopback: bool, reached: &Reached) -> Finding {
    let area = Area::Network;
    let host = ("host", host.to_owned());
    let why = |why: &str| ("why", why.to_owned());
    let fail = |code, said| Finding::failure(area, code, Exit::Unreachable, said);
    match reached {
        Reached::NoName(said) => fail("dns", vec![host, why(said)]),
        Reached::NoConnection(said) if is_loopback => fail("no_sandbox", vec![host, why(said)]),
        Reached::NoConnection(said) => fail("no_connection", vec![host, why(said)]),
        Reached::NoTls(said) if says_of_time(said) => fail("tls_time", vec![host, why(said)]),
        Reached::NoTls(said) => fail("tls", vec![host, why(said)]),
        Reached::NoAnswer(said) => fail("silent", vec![host, why(said)]),
        Reached::Answered(Greeting { status: status @ 500.., .. }) => {
            fail("highlevel_down", vec![host, ("status", status.to_string())])
                .with_link(Some("https://status.gohighlevel.com".to_owned()))
        }
        Reached::Answered(_) => Finding::good(area, "network_good", vec![host]),
    }
}

/// A certificate that is good at another time.
fn says_of_time(said: &str) -> bool {
    ["Expired", "expired", "NotValidYet", "not valid yet"].iter().any(|word| said.contains(word))
}

/// By how many seconds this clock is ahead of HighLevel's, if that is known.
pub(super) fn clock(ahead: Option<i64>) -> Finding {
    let Some(ahead) = ahead else { return Finding::good(Area::Clock, "clock_unknown", vec![]) };
    let off = span(Duration::from_secs(ahead.unsigned_abs()));
    let (behind_code, ahead_code) = ("clock_behind", "clock_ahead");
    let code = if ahead < 0 { behind_code } else { ahead_code };
    match ahead.unsigned_abs() {
        0..=CLOCK_GOOD => Finding::good(Area::Clock, "clock_good", vec![]),
        off_by if off_by <= CLOCK_WRONG => Finding::warning(Area::Clock, code, vec![("off", off)]),
        _ => Finding::failure(Area::Clock, code, Exit::Failed, vec![("off", off)]),
    }
}

/// What a token says of itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Claims {
    pub(super) class: Option<String>,
    pub(super) class_id: Option<String>,
    pub(super) app: Option<String>,
    pub(super) ends_at: Option<Timestamp>,
}

/// A grant as it rests, and what it is compared with.
#[derive(Clone, Debug)]
pub(super) struct GrantFacts {
    pub(super) overview: Overview,
    pub(super) claims: Claims,
    /// The app of `GHL_CLIENT_ID`.
    pub(super) app: Option<String>,
    pub(super) wanted_scopes: String,
    pub(super) needed_scopes: Vec<&'static str>,
    /// Whether the template, or something like it, wrote the file after us.
    pub(super) written_elsewhere: bool,
    pub(super) link: Option<String>,
}

/// What can be said of a grant beyond the state that it is in, which is explained elsewhere.
pub(super) fn grant(facts: &GrantFacts, now: Timestamp) -> Vec<Finding> {
    let area = Area::Grant;
    let GrantFacts { overview, claims, .. } = facts;
    let fail = |code, exit, said| Finding::failure(area, code, exit, said);
    let mut found = Vec::new();
    if let Connection::Broken(broken) = &overview.connection
        && is_used_by_another(&broken.said, overview.issued_at.until(broken.since))
    {
        let age = span(overview.issued_at.until(broken.since));
        let said = vec![("since", moment(broken.since)), ("age", age)];
        found.push(fail("another_program", Exit::Person, said).with_link(facts.link.clone()));
    }
    if facts.written_elsewhere {
        found.push(Finding::warning(area, "written_elsewhere", vec![]));
    }
    if let Some(intent) = overview.intent
        && now.since(intent.since) > LONGEST_FLIGHT
    {
        found.push(Finding::warning(area, "flight_left", vec![("since", moment(intent.since))]));
    }
    let (class, id) = (overview.id.user_type(), overview.id.as_str());
    let other = |claim: &Option<String>, ours: &str| {
        claim.as_deref().filter(|claim| !claim.is_empty() && *claim != ours).map(str::to_owned)
    };
    if let Some(says) = other(&claims.class, class) {
        found.push(fail("claims_class", Exit::Usage, vec![("says", says), ("class", class.to_owned())]));
    } else if let Some(says) = other(&claims.class_id, id) {
        found.push(fail("claims_id", Exit::Usage, vec![("says", says), ("id", id.to_owned())]));
    }
    if let Some((says, app)) =
        facts.app.as_ref().and_then(|app| Some((other(&claims.app, app)?, app.clone())))
    {
        found.push(fail("claims_app", Exit::Usage, vec![("says", says), ("app", app)]));
    }
    let ends_at = claims.ends_at.unwrap_or(overview.expires_at);
    if ends_at.until(overview.expires_at) > SAME_END {
        let said = vec![("says", moment(ends_at)), ("noted", moment(overview.expires_at))];
        found.push(Finding::warning(area, "claims_end", said));
    }
    let is_connected = matches!(overview.connection, Connection::Connected);
    if is_connected && overview.remaining(now).is_zero() {
        found.push(fail("token_ended", Exit::Failed, vec![("at", moment(overview.expires_at))]));
    }
    found.extend(scopes(facts));
    if found.is_empty() && is_connected {
        let left = ("left", span(overview.remaining(now)));
        let generation = ("generation", overview.version.generation.to_string());
        found.push(Finding::good(area, "grant_good", vec![left, generation]));
    }
    found
}

/// Many grants, none of which is meant more than the others.
pub(super) fn crowd(counts: &Counts) -> Finding {
    let all = counts.locations + counts.companies;
    let troubled = counts.broken + counts.suspended + counts.uncertain;
    let said = vec![("all", all.to_string()), ("troubled", troubled.to_string())];
    match (counts.broken, troubled) {
        (0, 0) => Finding::good(Area::Grant, "crowd_good", said),
        (0, _) => Finding::warning(Area::Grant, "crowd_troubled", said),
        (_, _) => Finding::failure(Area::Grant, "crowd_troubled", Exit::Person, said),
    }
}

/// Whether a refused refresh token was in its first year: nobody but someone who used it, or took the
/// app away, can have ended it.
fn is_used_by_another(said: &str, age: Duration) -> bool {
    said.to_ascii_lowercase().contains("refresh token") && age < REFRESH_TOKEN_LIFE
}

fn scopes(facts: &GrantFacts) -> Option<Finding> {
    let GrantFacts { overview: Overview { id, scopes, .. }, wanted_scopes, needed_scopes, link, .. } = facts;
    let needed = Drift::of(id, scopes, &needed_scopes.join(" ")).missing;
    let wanted = Drift::of(id, scopes, wanted_scopes).missing;
    let (code, missing) = match (needed.is_empty(), wanted.is_empty()) {
        (true, true) => return None,
        (false, _) => ("scopes_needed", needed),
        (true, false) => ("scopes_wanted", wanted),
    };
    let missing = vec![("scopes", missing.join(" "))];
    Some(Finding::warning(Area::Grant, code, missing).with_link(link.clone()))
}

/// What came of adding the tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tagging {
    /// No contact or no tag is configured.
    NotConfigured,
    /// It was added, and whether it was on the contact before and is now.
    Added { was_there: bool, is_there: bool },
}

/// The tag, and the workflow as far as the tag tells of it.
pub(super) fn tag(tagging: Tagging, tag: &str, contact: &str) -> Vec<Finding> {
    let said = || vec![("tag", tag.to_owned()), ("contact", contact.to_owned())];
    match tagging {
        Tagging::NotConfigured => vec![Finding::good(Area::Tag, "tag_none", vec![])],
        Tagging::Added { was_there, is_there } => vec![
            match is_there {
                true => Finding::good(Area::Tag, "tag_good", said()),
                false => Finding::warning(Area::Tag, "tag_not_seen", said()),
            },
            match was_there {
                true => Finding::warning(Area::Workflow, "tag_left", said()),
                false => Finding::good(Area::Workflow, "workflow_unseen", vec![]),
            },
        ],
    }
}

/// What runs the check, and when it did.
#[derive(Clone, Debug)]
pub(super) struct ScheduleFacts {
    /// Our entry in the crontab, and whether it keeps the interval.
    pub(super) cron: Option<bool>,
    /// Our timer of systemd, and whether it runs.
    pub(super) timer: Option<bool>,
    /// Our unit of the service, and whether systemd says that it runs.
    pub(super) service: Option<bool>,
    pub(super) service_lives: bool,
    pub(super) every_hours: u32,
    pub(super) last_check: Option<LastCheck>,
    pub(super) connected_at: Option<Timestamp>,
    /// Lines of the crontab that are not ours and look like a check of the same grant.
    pub(super) others: Vec<usize>,
}

pub(super) fn schedule(facts: &ScheduleFacts, now: Timestamp) -> Vec<Finding> {
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
pub(super) fn location_unnamed(facts: &ScheduleFacts) -> Option<Finding> {
    let checks_alone = facts.cron.is_some() || facts.timer.is_some();
    checks_alone.then(|| Finding::failure(Area::Configuration, "location_unnamed", Exit::Usage, vec![]))
}

/// Which lines of a crontab seem to check with the same grant: the template's script, or this program
/// with another folder's entry. Ours is told by its mark, and `folder` is whose.
pub(super) fn others_in(crontab: &str, ours: Option<&str>, folder: &str) -> Vec<usize> {
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
pub(super) struct EntryFacts {
    pub(super) program: Option<(String, bool)>,
    pub(super) env_file: Option<(String, bool)>,
    pub(super) log: Option<(String, bool)>,
}

pub(super) fn cron(facts: &EntryFacts) -> Vec<Finding> {
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
pub(super) fn words(entry: &str) -> Vec<String> {
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

/// Who has the address that the service would listen at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Port {
    Free,
    /// A living service of ours.
    Ours,
    /// Someone who was not asked, because the service there speaks TLS.
    Unasked,
    Others,
    NotAllowed,
    /// The address is none of this machine's.
    NotHere,
}

pub(super) fn ports(ports: &[(&'static str, String, Port)]) -> Vec<Finding> {
    let area = Area::Ports;
    let mut found = Vec::new();
    for (name, address, port) in ports {
        let said = || vec![("name", (*name).to_owned()), ("address", address.clone())];
        match port {
            Port::Others => found.push(Finding::warning(area, "port_taken", said())),
            Port::NotAllowed => found.push(Finding::warning(area, "port_not_allowed", said())),
            Port::NotHere => found.push(Finding::warning(area, "port_not_here", said())),
            Port::Free | Port::Ours | Port::Unasked => {}
        }
    }
    if found.is_empty() {
        let lives = ports.iter().any(|(_, _, port)| *port == Port::Ours);
        found.push(Finding::good(area, if lives { "service_lives" } else { "ports_free" }, vec![]));
    }
    found
}

/// How people are told, and whether the ways lead somewhere.
#[derive(Clone, Debug, Default)]
pub(super) struct NoticeFacts {
    pub(super) ways: Vec<(&'static str, Result<(), String>)>,
    /// Whether a contact gets a tag, whose workflow tells someone.
    pub(super) tags: bool,
    /// Whether something was sent, or only a connection was tried.
    pub(super) sent: bool,
}

pub(super) fn notices(facts: &NoticeFacts) -> Vec<Finding> {
    let area = Area::Notices;
    let mut found = Vec::new();
    for (way, outcome) in &facts.ways {
        if let Err(why) = outcome {
            let said = vec![("way", (*way).to_owned()), ("why", why.clone())];
            found.push(Finding::failure(area, "notice_lost", Exit::Failed, said));
        }
    }
    if found.is_empty() {
        let ways = facts.ways.iter().map(|(way, _)| *way).collect::<Vec<_>>().join(", ");
        found.push(match (facts.ways.is_empty(), facts.tags, facts.sent) {
            (true, true, _) => Finding::good(area, "notices_by_tag", vec![]),
            (true, false, _) => Finding::warning(area, "notices_none", vec![]),
            (false, _, true) => Finding::good(area, "notices_sent", vec![("ways", ways)]),
            (false, _, false) => Finding::good(area, "notices_reached", vec![("ways", ways)]),
        });
    }
    found
}

/// The scopes that the health check's calls need.
pub(super) fn scopes_of_the_check(id: &InstallationId, contact: bool, tag: bool) -> Vec<&'static str> {
    match (id, contact, tag) {
        (InstallationId::Location(_), true, true) => vec!["contacts.readonly", "contacts.write"],
        (InstallationId::Location(_), true, false) => vec!["contacts.readonly"],
        _ => vec!["locations.readonly"],
    }
}

#[cfg(test)]
mod tests {
    use tokens::store::{Listing, Order};
    use tokens::{Broken, Intent};

    use super::*;
    use crate::text::{Lang, Text};

    const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    fn codes(found: &[Finding]) -> Vec<&'static str> {
        found.iter().map(|it| it.code).collect()
    }

    fn file(mode: u32, owner: u32) -> FileFacts {
        FileFacts { path: "/x/.env".into(), what: FileKind::Settings, mode, owner, open_folder: None }
    }

    #[test]
    fn a_file_is_its_owners_only_and_ours() {
        let check = |it: FileFacts, me, expected: &[&str]| assert_eq!(codes(&files(&[it], me)), expected);
        check(file(0o600, 7), 7, &["files_good"]);
        check(file(0o400, 7), 7, &["files_good"]);
        check(file(0o640, 7), 7, &["env_mode"]);
        check(file(0o604, 8), 7, &["env_mode", "env_owner"]);
        check(file(0o600, 8), 0, &["files_good"]);
        let store = FileFacts { what: FileKind::Store, ..file(0o644, 8) };
        let found = files(&[store], 7);
        assert_eq!(codes(&found), ["store_mode", "store_owner"]);
        assert_eq!(found.last().map(|it| it.exit), Some(Exit::Usage));
        // A folder that two files share is told of once.
        let open = FileFacts { open_folder: Some(("/x".into(), 0o777)), ..file(0o600, 7) };
        assert_eq!(codes(&files(&[open.clone(), open], 7)), ["folder_open"]);
    }

    #[test]
    fn an_examples_words_are_known_and_others_are_not() {
        for example in ["SEU_CLIENT_ID", "your-client-id", "CHANGEME", "<client id>", "xxxxxxxx"] {
            assert!(is_placeholder(example), "{example}");
        }
        for real in ["seutotal", "0123456789abcdef01234567-abcd1234", "x", "JARDINS"] {
            assert!(!is_placeholder(real), "{real}");
        }
        for (id, good) in [
            ("0123456789abcdef01234567-abcd1234", true),
            ("0123456789abcdef01234567", false),
            ("0123456789abcdef01234567-", false),
            ("0123456789abcdef0123456-abcd1234", false),
            ("0123456789abcdef0123456z-abcd1234", false),
        ] {
            assert_eq!(is_client_id(id), good, "{id}");
        }
    }

    #[test]
    fn a_disk_is_told_of_before_and_when_it_is_full() {
        let check = |free: Option<u64>, expected: &str, exit: Exit| {
            let facts = StoreFacts {
                place: "ghl.db".into(),
                free_bytes: free,
                standby: None,
                landings: 0,
                in_place: false,
            };
            let found = store(&facts);
            assert_eq!((codes(&found), found.first().map(|it| it.exit)), (vec![expected], Some(exit)));
        };
        check(None, "store_good", Exit::Good);
        check(Some(SOON_FULL), "store_good", Exit::Good);
        check(Some(SOON_FULL - 1), "disk_low", Exit::Good);
        check(Some(FULL - 1), "disk_full", Exit::Unreachable);
    }

    #[test]
    fn a_store_tells_of_all_that_is_odd_about_it() {
        let facts = StoreFacts {
            place: "ghl.db".into(),
            free_bytes: None,
            standby: Some("moved".into()),
            landings: 1,
            in_place: true,
        };
        assert_eq!(codes(&store(&facts)), ["standby", "landings", "in_place"]);
    }

    #[test]
    fn an_old_key_is_needed_or_not() {
        let check = |has_current, old, left, expected: &str| {
            assert_eq!(key(KeyFacts { has_current, old, left }).code, expected);
        };
        check(false, 0, 0, "key_none");
        check(false, 1, 0, "old_keys_alone");
        check(true, 0, 0, "key_good");
        check(true, 1, 0, "old_keys_idle");
        check(true, 1, 3, "old_keys_needed");
    }

    #[test]
    fn a_databases_tables_are_whole_or_a_matter_to_tell() {
        let check = |there, expected: Option<&str>| {
            assert_eq!(tables(there, "x").map(|found| found.code), expected);
        };
        check(Tables::Whole, None);
        check(Tables::None, Some("store_missing"));
        check(Tables::Earlier, Some("tables_earlier"));
        check(Tables::WithoutRecords, Some("records_missing"));
    }

    #[test]
    fn a_clock_is_good_off_or_wrong() {
        use super::super::finding::Level::{self, Failure, Good, Warning};
        let check = |ahead: Option<i64>, expected: &str, level: Level| {
            let found = clock(ahead);
            assert_eq!((found.code, found.level), (expected, level), "{ahead:?}");
        };
        check(None, "clock_unknown", Good);
        check(Some(0), "clock_good", Good);
        check(Some(30), "clock_good", Good);
        check(Some(-30), "clock_good", Good);
        check(Some(31), "clock_ahead", Warning);
        check(Some(-300), "clock_behind", Warning);
        check(Some(301), "clock_ahead", Failure);
        check(Some(i64::MIN), "clock_behind", Failure);
    }

    #[test]
    fn the_way_to_highlevel_fails_in_ways_that_are_told_apart() {
        let check = |loopback, reached: Reached, expected: &str| {
            assert_eq!(network("host:443", loopback, &reached).code, expected);
        };
        let greeting = |status| Reached::Answered(Greeting { status, date: None });
        check(false, Reached::NoName("x".into()), "dns");
        check(false, Reached::NoConnection("x".into()), "no_connection");
        check(true, Reached::NoConnection("x".into()), "no_sandbox");
        check(false, Reached::NoTls("invalid peer certificate: UnknownIssuer".into()), "tls");
        check(false, Reached::NoTls("invalid peer certificate: NotValidYet".into()), "tls_time");
        check(false, Reached::NoTls("invalid peer certificate: certificate expired".into()), "tls_time");
        check(false, Reached::NoAnswer("x".into()), "silent");
        check(false, greeting(404), "network_good");
        check(false, greeting(499), "network_good");
        check(false, greeting(500), "highlevel_down");
    }

    fn grant_facts() -> GrantFacts {
        let id = InstallationId::from_parts("location", "L1").expect("an id");
        let overview = Overview {
            issued_at: NOW - HOUR,
            expires_at: NOW + HOUR,
            connected_at: NOW - HOUR,
            scopes: "contacts.readonly contacts.write".into(),
            ..Listing::place(Order::Id, None, id)
        };
        GrantFacts {
            overview,
            claims: Claims {
                class: Some("Location".into()),
                class_id: Some("L1".into()),
                app: Some("app1".into()),
                ends_at: Some(NOW + HOUR),
            },
            app: Some("app1".into()),
            wanted_scopes: String::new(),
            needed_scopes: vec!["contacts.readonly", "contacts.write"],
            written_elsewhere: false,
            link: None,
        }
    }

    #[track_caller]
    fn check_grant(change: impl FnOnce(&mut GrantFacts), expected: &[&str]) {
        let mut facts = grant_facts();
        change(&mut facts);
        assert_eq!(codes(&grant(&facts, NOW)), expected);
    }

    #[test]
    fn a_grant_is_held_against_what_its_token_says() {
        check_grant(|_| {}, &["grant_good"]);
        check_grant(|it| it.claims = Claims::default(), &["grant_good"]);
        check_grant(|it| it.claims.class = Some("Company".into()), &["claims_class"]);
        check_grant(|it| it.claims.class_id = Some("L2".into()), &["claims_id"]);
        check_grant(|it| it.claims.app = Some("app2".into()), &["claims_app"]);
        check_grant(|it| it.app = None, &["grant_good"]);
        check_grant(|it| it.claims.ends_at = Some(NOW + HOUR + SAME_END), &["grant_good"]);
        check_grant(|it| it.claims.ends_at = Some(NOW + HOUR - SAME_END), &["grant_good"]);
        // One that lives longer than is noted is refreshed a little early, and that is all.
        check_grant(|it| it.claims.ends_at = Some(NOW + HOUR * 9), &["grant_good"]);
        check_grant(|it| it.claims.ends_at = Some(NOW), &["claims_end"]);
    }

    #[test]
    fn a_grants_life_its_flight_and_its_scopes_are_looked_at() {
        check_grant(|it| it.overview.expires_at = NOW, &["token_ended"]);
        let intent = |before| {
            move |it: &mut GrantFacts| {
                it.overview.intent = Some(Intent { since: NOW - before });
            }
        };
        check_grant(intent(LONGEST_FLIGHT), &["grant_good"]);
        check_grant(intent(LONGEST_FLIGHT + Duration::from_secs(1)), &["flight_left"]);
        check_grant(|it| it.wanted_scopes = "calendars.readonly".into(), &["scopes_wanted"]);
        check_grant(|it| it.overview.scopes = "contacts.readonly".into(), &["scopes_needed"]);
        check_grant(|it| it.overview.scopes = String::new(), &["grant_good"]);
        check_grant(|it| it.written_elsewhere = true, &["written_elsewhere"]);
    }

    #[test]
    fn a_young_refresh_token_that_is_refused_was_used_by_another() {
        let broken = |said: &str, after: Duration| {
            let broken = Broken { since: NOW - HOUR + after, said: said.to_owned() };
            move |it: &mut GrantFacts| it.overview.connection = Connection::Broken(broken)
        };
        const REFUSED: &str = "Invalid grant: refresh token is invalid";
        check_grant(broken(REFUSED, HOUR), &["another_program"]);
        check_grant(broken(REFUSED, REFRESH_TOKEN_LIFE), &[]);
        check_grant(broken("uninstalled", HOUR), &[]);
    }

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

    #[test]
    fn a_tag_tells_of_itself_and_of_its_workflow() {
        let check = |tagging, expected: &[&str]| assert_eq!(codes(&tag(tagging, "t", "c")), expected);
        check(Tagging::NotConfigured, &["tag_none"]);
        check(Tagging::Added { was_there: false, is_there: true }, &["tag_good", "workflow_unseen"]);
        check(Tagging::Added { was_there: true, is_there: false }, &["tag_not_seen", "tag_left"]);
    }

    #[test]
    fn ports_are_free_ours_or_a_matter_to_tell() {
        let check = |port, expected: &str| {
            assert_eq!(codes(&ports(&[("GHL_AUTH_LISTEN", "x".into(), port)])), [expected]);
        };
        check(Port::Free, "ports_free");
        check(Port::Unasked, "ports_free");
        check(Port::Ours, "service_lives");
        check(Port::Others, "port_taken");
        check(Port::NotAllowed, "port_not_allowed");
        check(Port::NotHere, "port_not_here");
    }

    #[test]
    fn somebody_is_told_or_nobody() {
        let check = |ways: &[(&'static str, Result<(), &str>)], tags, sent, expected: &[&str]| {
            let ways = ways.iter().map(|(way, outcome)| (*way, outcome.map_err(str::to_owned))).collect();
            assert_eq!(codes(&notices(&NoticeFacts { ways, tags, sent })), expected);
        };
        check(&[], true, false, &["notices_by_tag"]);
        check(&[], false, false, &["notices_none"]);
        check(&[("slack", Ok(()))], false, false, &["notices_reached"]);
        check(&[("slack", Ok(()))], true, true, &["notices_sent"]);
        check(&[("slack", Err("x")), ("email", Ok(()))], true, false, &["notice_lost"]);
    }

    #[test]
    fn many_grants_are_told_of_by_their_number() {
        use super::super::finding::Level;
        let check = |broken, suspended, expected: (&str, Level)| {
            let counts = Counts { locations: 9, broken, suspended, ..Counts::default() };
            let found = crowd(&counts);
            assert_eq!((found.code, found.level), expected);
        };
        check(0, 0, ("crowd_good", Level::Good));
        check(0, 1, ("crowd_troubled", Level::Warning));
        check(1, 0, ("crowd_troubled", Level::Failure));
    }

    /// Each code that stands in this page or beside it, from the sources.
    #[test]
    fn each_finding_has_its_words_in_both_languages_and_each_trouble_its_cure() {
        let sources = [include_str!("judge.rs"), include_str!("../doctor.rs")];
        let code = concat!(env!("CARGO_MANIFEST_DIR"), "/locales/en/ghl-auth.ftl");
        let english = std::fs::read_to_string(code).expect("the sentences");
        let names = english.lines().filter_map(|line| line.strip_prefix("doctor-")?.split_once(" ="));
        let arguments = [
            "names",
            "lines",
            "path",
            "mode",
            "owner",
            "me",
            "count",
            "place",
            "free",
            "why",
            "host",
            "status",
            "off",
            "left",
            "generation",
            "since",
            "age",
            "says",
            "class",
            "id",
            "app",
            "noted",
            "at",
            "scopes",
            "all",
            "troubled",
            "tag",
            "contact",
            "hours",
            "code",
            "said",
            "name",
            "address",
            "way",
            "ways",
            "list",
            "failures",
            "warnings",
        ]
        .map(|name| (name, crate::text::Arg::from("x")));
        let mut count = 0;
        for (code, _) in names.filter(|(name, _)| name.contains('_')) {
            let quoted = format!("\"{code}\"");
            assert!(sources.iter().any(|source| source.contains(&quoted)), "nobody says {code}");
            let is_good = sources.iter().any(|source| {
                source.split("Finding::good(").skip(1).any(|call| {
                    call.split(';')
                        .next()
                        .is_some_and(|call| call.chars().take(120).collect::<String>().contains(&quoted))
                })
            });
            for lang in [Lang::En, Lang::PtBr] {
                let text = Text::new(lang);
                assert!(text.find(&format!("doctor-{code}"), &arguments).is_some(), "{lang:?}: {code}");
                let cure = text.find(&format!("doctor-{code}.action"), &arguments);
                assert!(is_good || cure.is_some(), "{lang:?}: {code} has no cure");
            }
            count += 1;
        }
        assert!(count > 60, "the sentences were read: {count}");
        let text = Text::new(Lang::En);
        for area in Area::ALL {
            assert!(!area.named(&text).is_empty());
        }
    }
}
