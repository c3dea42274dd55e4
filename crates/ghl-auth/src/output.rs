//! What goes where: the answer to stdout, talk to stderr, colour only to a terminal.

use std::io::{IsTerminal as _, Write};

use anstyle::{AnsiColor, Style};
use tokens::Timestamp;

use crate::explain::Explained;
use crate::text::Text;

const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const ERROR: Style = AnsiColor::Red.on_default().bold();
const GOOD: Style = AnsiColor::Green.on_default();
const HEADLINE: Style = Style::new().bold();
const FAINT: Style = Style::new().dimmed();

/// One line of the answer. A reader that has gone away is no reason to stop the work.
pub(crate) fn answer(line: &str) {
    let _ = writeln!(anstream::stdout(), "{line}");
}

/// One line of the answer that is good news.
pub(crate) fn good_news(line: &str) {
    let _ = writeln!(anstream::stdout(), "{GOOD}{line}{GOOD:#}");
}

/// A line over a part of the answer.
pub(crate) fn headline(line: &str) {
    let _ = writeln!(anstream::stdout(), "{HEADLINE}{line}{HEADLINE:#}");
}

/// How bad something is that stands in the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    Good,
    Warning,
    Error,
    Faint,
}

/// One line of the answer behind a label that is coloured by how bad it is.
pub(crate) fn marked(mark: Mark, label: &str, line: &str) {
    let style = match mark {
        Mark::Good => GOOD,
        Mark::Warning => WARNING,
        Mark::Error => ERROR,
        Mark::Faint => FAINT,
    };
    let _ = writeln!(anstream::stdout(), "{style}{label}{style:#}{line}");
}

/// One JSON document on stdout.
pub(crate) fn document(json: &serde_json::Value) {
    let mut out = std::io::stdout().lock();
    let _ = serde_json::to_writer_pretty(&mut out, json);
    let _ = writeln!(out);
}

/// Bytes of the answer as they are; whether they were taken.
pub(crate) fn raw(bytes: &[u8]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}

/// One line beside the answer.
pub(crate) fn talk(line: &str) {
    let _ = writeln!(anstream::stderr(), "{line}");
}

/// A warning beside the answer.
pub(crate) fn warning(text: &Text, line: &str) {
    talk(&warned(text, line));
}

/// A warning, as it is shown.
pub(crate) fn warned(text: &Text, line: &str) -> String {
    format!("{WARNING}{}{WARNING:#} {line}", text.say("label-warning", &[]))
}

/// What went wrong, and what to do.
pub(crate) fn error(text: &Text, error: &Explained) {
    talk(&told(text, error));
}

/// What went wrong and what to do, as it is shown.
pub(crate) fn told(text: &Text, error: &Explained) -> String {
    let [label, action] = ["label-error", "label-action"].map(|key| text.say(key, &[]));
    let mut told = format!("{ERROR}{label}{ERROR:#} {}\n{action} {}", error.detail, error.action);
    if let Some(url) = &error.authorize_url {
        told.push_str(&format!("\n  {url}"));
    }
    told.push_str(&format!("\n{FAINT}{}{FAINT:#}", text.say("label-code", &[("code", error.code.into())])));
    told
}

/// The columns of the terminal that the answer goes to, if it goes to one.
pub(crate) fn width() -> Option<usize> {
    let size = std::io::stdout().is_terminal().then(|| crossterm::terminal::size().ok()).flatten();
    size.map(|(columns, _)| usize::from(columns)).filter(|columns| *columns > 0)
}

/// Whether more than ASCII can be drawn: the locale's variables have to say so, in their order.
pub(crate) fn draws() -> bool {
    let set = |name: &&str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(set).unwrap_or_default().to_ascii_lowercase();
    let is_dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
    (locale.contains("utf-8") || locale.contains("utf8")) && !is_dumb
}

/// A line for the terminal itself: without colours, where nobody wants them.
pub(crate) fn as_shown(line: &str) -> String {
    match anstream::AutoStream::choice(&std::io::stdout()) {
        anstream::ColorChoice::Never => anstream::adapter::strip_str(line).to_string(),
        _ => line.to_owned(),
    }
}

/// An instant in the machine's time zone: `YYYY-MM-DD HH:MM:SS`.
pub(crate) fn moment(at: Timestamp) -> String {
    match jiff::Timestamp::from_millisecond(at.as_millis()) {
        Ok(at) => at.to_zoned(store::local_time::zone()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => at.as_millis().to_string(),
    }
}

/// An instant for programs: RFC 3339 in UTC, whole seconds.
pub(crate) fn rfc3339(at: Timestamp) -> String {
    match jiff::Timestamp::from_second(at.as_millis().div_euclid(1000)) {
        Ok(at) => at.to_string(),
        Err(_) => at.as_millis().to_string(),
    }
}

/// A span in its two largest units: `23 h 59 min`, `4 min 5 s`, `12 s`.
pub(crate) fn span(span: std::time::Duration) -> String {
    let seconds = span.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_span_is_told_in_its_two_largest_units() {
        let check = |seconds, expected| assert_eq!(span(Duration::from_secs(seconds)), expected);
        check(0, "0 s");
        check(59, "59 s");
        check(245, "4 min 5 s");
        check(86_399, "23 h 59 min");
        check(90_000, "1 d 1 h");
    }

    #[test]
    fn programs_get_utc() {
        assert_eq!(rfc3339(Timestamp::from_millis(1_790_000_000_123)), "2026-09-21T14:13:20Z");
    }
}
