//! `status` as a person sees it: how the last 90 days went, in terminals of several widths, once and again.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use expectrl::process::unix::{Signal, WaitStatus};
use expectrl::session::OsSession;
use expectrl::{Eof, Expect, Session};
use store::StoreUrl;
use tokens::{CheckRecord, Day, Health, InstallationId, Records, Timestamp, Trigger};

use crate::support::{ELSEWHERE, Home, KEY, snapshot};

/// What the terminal is given back with.
const AS_IT_WAS: &str = "\u{1b}[?1049l";

fn records_of(home: &Home) -> Arc<dyn Records> {
    let url = StoreUrl::parse(&format!("sqlite:{}", home.path("ghl-auth.db").display())).expect("a store");
    let keys = store::Keys { current: Some(store::Key::parse(KEY).expect("a key")), old: Vec::new() };
    store::open_with_records(&url, &keys, None).expect("a store").1
}

#[allow(clippy::disallowed_methods, reason = "the program that is tested reads the real clock")]
fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    Timestamp::from_millis(i64::try_from(since.as_millis()).expect("a time"))
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(work)
}

fn add_check(records: &Arc<dyn Records>, id: &str, at: Timestamp, health: Health) {
    let check = CheckRecord {
        id: InstallationId::from_parts("location", id).expect("an id"),
        at,
        took: Duration::from_millis(5),
        trigger: Trigger::Clock,
        health,
        code: None,
        said: None,
        steps: Vec::new(),
    };
    block_on(records.add_check(&check)).expect("room");
}

/// A location that was checked twice a day for 100 days: bad 3 days ago, once good and once not 10 days ago,
/// not at all 20 days ago.
fn remembered(home: Home) -> Home {
    let home = home.sealed().log_in();
    let records = records_of(&home);
    for days_ago in 0..100_u64 {
        let at = now() - Duration::from_secs(days_ago * 86_400);
        let healths = match days_ago {
            3 => &[Health::Down, Health::NeedsPerson][..],
            10 => &[Health::Degraded, Health::Suspended],
            20 => &[],
            _ => &[Health::Operational, Health::Operational],
        };
        for health in healths {
            add_check(&records, home.location(), at, *health);
        }
    }
    home
}

/// A command in a terminal of so many columns, whose size is there before the command is.
fn terminal(home: &Home, columns: usize, arguments: &[&str], variables: &[(&str, &str)]) -> OsSession {
    let ours = home.command(arguments);
    let mut command = Command::new("sh");
    let wait = format!("until [ \"$(stty size)\" = '24 {columns}' ]; do sleep 0.01; done; exec \"$@\"");
    command.args(["-c", &wait, "sh"]);
    command.arg(ours.get_program()).args(ours.get_args());
    command.current_dir(ours.get_current_dir().expect("a folder")).env_clear();
    command.envs(ours.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("TERM", "xterm").env("LANG", "C.UTF-8").envs(variables.iter().copied());
    let mut session = Session::spawn(command).expect("a terminal");
    let columns = u16::try_from(columns).expect("a width");
    session.get_process_mut().set_window_size(columns, 24).expect("its size");
    session.set_expect_timeout(Some(Duration::from_secs(60)));
    session
}

/// All that a command shows, until its end.
fn shown(home: &Home, columns: usize, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let mut session = terminal(home, columns, arguments, variables);
    let found = session.expect(Eof).expect("its end");
    String::from_utf8_lossy(found.as_bytes()).replace('\r', "")
}

fn without_styles(text: &str) -> String {
    let mut plain = String::new();
    let mut pieces = text.split("\u{1b}[");
    plain.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        plain.push_str(piece.split_once(|c: char| c.is_ascii_alphabetic()).map_or("", |(_, rest)| rest));
    }
    plain
}

#[test]
fn a_status_fits_the_terminal_and_shows_as_many_days_as_there_is_room_for() {
    for (language, unchecked) in [("en", "no check"), ("pt-BR", "sem verificação")] {
        let home = remembered(Home::new().set("GHL_AUTH_LANG", language));
        for (columns, days) in [(60, 48), (80, 68), (120, 90), (200, 90)] {
            let seen = shown(&home, columns, &["status"], &[]);
            assert!(seen.contains("\u{1b}[32m█"), "in colour: {seen:?}");
            let plain = without_styles(&seen);
            let what = format!("{language} {columns}:\n{plain}");
            for line in plain.lines() {
                assert!(line.chars().count() <= columns, "{what}");
            }
            assert!(plain.contains(home.location()), "an id is never broken: {what}");
            assert!(plain.contains(&format!(" {days}")) && plain.contains(unchecked), "{what}");
            let row = plain.lines().find(|line| line.ends_with(" %")).expect("a row of blocks");
            assert_eq!(row.chars().filter(|c| "█▆▂·".contains(*c)).count(), days, "{what}");
            assert!(row.ends_with("·█████████▆██████▂███  98.31 %"), "{what}");
            if columns <= 120 {
                snapshot(&format!("status-{columns}-{language}"), &home.stable(&plain));
            }
        }
    }
}

#[test]
fn of_several_each_has_a_row_behind_its_name_or_below_it() {
    let home = Home::with(|settings| settings.extra_locations = 2).sealed();
    let ids = home.sandbox.location_ids();
    for id in &ids {
        home.run(["login", "--code", &home.sandbox.approve_location(id, ELSEWHERE)]).good();
    }
    let records = records_of(&home);
    for (number, id) in ids.iter().enumerate() {
        add_check(&records, id, now(), Health::Operational);
        for _ in 0..number {
            add_check(&records, id, now(), Health::Down);
        }
    }
    let expected = ["█  100 %", "▆  50 %", "▆  33.33 %"];
    for (columns, is_behind) in [(120, true), (80, true), (60, false)] {
        let plain = without_styles(&shown(&home, columns, &["status"], &[]));
        for line in plain.lines() {
            assert!(line.chars().count() <= columns, "{columns}:\n{plain}");
        }
        let rows: Vec<&str> = plain.lines().filter(|line| line.ends_with(" %")).collect();
        assert_eq!(rows.len(), 3, "{columns}:\n{plain}");
        for (id, ends) in ids.iter().zip(expected) {
            let row = rows.iter().find(|row| row.ends_with(ends));
            let row = row.unwrap_or_else(|| panic!("no `{ends}`:\n{plain}"));
            assert_eq!(row.contains(id.as_str()), is_behind, "{columns}:\n{plain}");
        }
        if columns == 80 {
            snapshot("status-of-several", &home.stable(&plain));
        }
    }
}

#[test]
fn days_are_told_apart_without_colour_and_without_unicode() {
    let home = remembered(Home::new());
    let seen = shown(&home, 80, &["status"], &[("NO_COLOR", "1")]);
    assert!(!seen.contains("\u{1b}["), "{seen:?}");
    assert!(seen.contains("·█████████▆██████▂███"), "{seen}");
    for variables in [[("LANG", "C"), ("TERM", "xterm")], [("LANG", "C.UTF-8"), ("TERM", "dumb")]] {
        let seen = without_styles(&shown(&home, 80, &["status"], &variables));
        assert!(seen.contains(".#########+######_###  98.31 %"), "{variables:?} {seen}");
    }
    // A file gets the whole of it.
    let run = home.run(["status"]).good();
    assert!(run.out.contains(".#########+######_###  98.31 %") && !run.out.contains('\u{1b}'), "{}", run.out);
    assert_eq!(run.out.lines().find(|line| line.ends_with(" %")).map(|row| row.trim().len()), Some(90 + 9));

    let uptime = home.run(["status", "--json"]).good().json()["installations"][0]["uptime"].clone();
    assert_eq!(uptime["share"], 98.31);
    let days = uptime["days"].as_array().expect("days");
    assert_eq!(days.len(), 89, "those with a check");
    let of = |days_ago: i64| {
        let date = Day { number: Day::number_of(now()) - days_ago, ..Day::default() }.date();
        let day = days.iter().find(|day| day["day"] == *date);
        day.map(|day| (day["checks"].as_u64().expect("a count"), day["good"].as_u64().expect("a count")))
    };
    assert_eq!((of(0), of(3), of(10), of(20)), (Some((2, 2)), Some((2, 0)), Some((2, 1)), None));
}

#[test]
fn where_nobody_remembers_checks_it_is_said_and_nothing_is_shown() {
    let home = Home::connected();
    home.run(["check"]).good();
    let run = home.run(["status"]).good().answers("Uptime: not known.");
    assert!(!run.out.contains('#') && !run.out.contains('%'), "{}", run.out);
    assert!(home.run(["status", "--json"]).good().json()["installations"][0]["uptime"].is_null());
    // From when there are records on, a check of cron's is remembered, too.
    let home = Home::new().sealed().log_in();
    drop(records_of(&home));
    home.run(["status"]).good().answers("  -");
    home.run(["check"]).good();
    home.run(["status"]).good().answers("#  100 %");
}

fn is_in_order(session: &OsSession) -> bool {
    let terminal = session.get_process().get_raw_handle().expect("a terminal");
    let modes = nix::sys::termios::tcgetattr(terminal).expect("its modes");
    modes.local_flags.contains(nix::sys::termios::LocalFlags::ICANON)
}

fn status(session: &OsSession) -> WaitStatus {
    let began = Instant::now();
    loop {
        match session.get_process().status() {
            Ok(WaitStatus::StillAlive) if began.elapsed() < Duration::from_secs(30) => {
                std::thread::sleep(Duration::from_millis(5));
            }
            status => return status.expect("it is ours"),
        }
    }
}

#[test]
fn watched_it_is_drawn_over_itself_and_leaves_the_terminal_as_it_was() {
    let home = remembered(Home::new());
    let records = records_of(&home);
    for (columns, key) in [(60, "q"), (80, "\u{3}"), (120, "")] {
        let mut session = terminal(&home, columns, &["status", "--watch", "1"], &[]);
        let first = session.expect("q leaves.").expect("a picture");
        let first = String::from_utf8_lossy(first.as_bytes()).into_owned();
        assert!(first.contains("\u{1b}[?1049h") && first.contains(home.location()), "{first:?}");
        assert!(first.contains(if columns == 60 { "98.31 %" } else { "46.29 %" }), "{first:?}");
        assert!(!is_in_order(&session), "keys come at once");
        // It is the same place, and nothing is wiped before it is drawn over.
        let again = session.expect("q leaves.").expect("another picture");
        let again = String::from_utf8_lossy(again.as_bytes()).into_owned();
        assert!(again.contains("\u{1b}[1;1H") && !again.contains("\u{1b}[2J"), "{again:?}");
        if columns == 60 {
            // What happens is seen.
            for _ in 0..200 {
                add_check(&records, home.location(), now(), Health::Down);
            }
            session.expect("46.").expect("what has changed");
        }
        match key {
            "" => session.get_process_mut().signal(Signal::SIGTERM).expect("it is ours"),
            key => session.send(key).expect("someone reads"),
        }
        let end = session.expect(Eof).expect("its end");
        let end = String::from_utf8_lossy(end.as_bytes()).into_owned();
        assert!(
            end.contains(AS_IT_WAS) && end.contains("\u{1b}[?25h") && end.contains("\u{1b}[?7h"),
            "{end:?}"
        );
        assert!(is_in_order(&session), "{columns}");
        assert!(matches!(status(&session), WaitStatus::Exited(_, 0)), "{columns}");
    }
}

#[test]
fn nothing_is_watched_where_nobody_looks() {
    let home = remembered(Home::new());
    home.run(["status", "--watch"]).fails_with(2, "watch_no_terminal");
    home.run(["status", "--watch", "--json"]).ended(2);
    home.run(["status", "--watch", "0"]).ended(2);
    // What is wrong from the beginning stays to be read.
    let home = home.set("GHL_AUTH_KEY", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=");
    let seen = shown(&home, 80, &["status", "--watch"], &[]);
    assert!(seen.contains("wrong_key") && !seen.contains("\u{1b}[?1049h"), "{seen:?}");
}
