//! The words of the console: what is in the sandbox, as a person would say it.

use std::time::Duration;

use super::Speech;
use crate::clock::{Millis, iso};
use crate::faults::{Fault, FaultKind, Matcher};

/// The sandbox's words at one time.
#[derive(Clone, Copy)]
pub(super) struct Words<'a> {
    pub(super) speech: &'a dyn Speech,
    pub(super) now: Millis,
}

/// An instant, for people and for programs.
pub(super) struct When {
    pub(super) told: String,
    pub(super) machine: String,
}

impl Words<'_> {
    pub(super) fn say(&self, key: &str) -> String {
        self.speech.say(key, &[])
    }

    /// With one thing put in.
    pub(super) fn say_of(&self, key: &str, name: &str, value: impl ToString) -> String {
        self.speech.say(key, &[(name, value.to_string())])
    }

    pub(super) fn signature(&self, name: &str) -> String {
        self.say(&format!("console-signature-{name}"))
    }

    /// The time of day by the sandbox's clock, in UTC; with the date where it is another day.
    pub(super) fn when(&self, at: Millis) -> When {
        let machine = iso(at);
        let today = iso(self.now);
        let (date, time) = (&machine[..10], &machine[11..19]);
        let told = if today.starts_with(date) { time.to_owned() } else { format!("{date} {time}") };
        When { told, machine }
    }

    pub(super) fn fault(&self, kind: &FaultKind) -> String {
        let seconds = |millis: u64| Duration::from_millis(millis).as_secs_f64().to_string();
        let said = |name: &str, value: String| self.speech.say(&key(kind), &[(name, value)]);
        let told = match kind {
            FaultKind::CutAfter { bytes } => said("count", bytes.to_string()),
            FaultKind::Delay { millis } | FaultKind::DelayBefore { millis } => {
                said("seconds", seconds(*millis))
            }
            FaultKind::Status { code, .. } => said("code", code.to_string()),
            FaultKind::FieldsMissing { fields } => said("fields", fields.join(", ")),
            FaultKind::FieldsSet { fields } => {
                let names: Vec<&str> = fields.keys().map(String::as_str).collect();
                said("fields", names.join(", "))
            }
            FaultKind::RateLimited { retry_after: Some(after) } => {
                format!("{} + Retry-After: {after}", self.say(&key(kind)))
            }
            _ => self.say(&key(kind)),
        };
        match kind {
            FaultKind::Reset { processed: true }
            | FaultKind::GatewayHtml { processed: true }
            | FaultKind::Status { processed: true, .. } => self.say_of("console-processed", "fault", told),
            _ => told,
        }
    }

    pub(super) fn requests(&self, on: &Matcher) -> String {
        match on {
            Matcher::Path(path) => self.say_of("console-on-path", "path", path),
            known => self.say(&format!("console-on-{}", name_of(known))),
        }
    }

    /// How long a fault still happens.
    pub(super) fn how_long(&self, fault: &Fault, ends_at: Option<Millis>) -> String {
        let told = match (ends_at, fault.times) {
            (Some(ends_at), _) => self.say_of("console-until", "at", self.when(ends_at).told),
            (None, Some(times)) => self.say_of("console-times", "count", times),
            (None, None) => self.say("console-always"),
        };
        match fault.percent {
            100.. => told,
            percent => format!("{told}, {percent} %"),
        }
    }
}

/// A span of time in its two largest units, whose signs are the same in all languages.
pub(super) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let units = [(86_400, "d"), (3600, "h"), (60, "min"), (1, "s")];
    let first = units.iter().position(|(length, _)| seconds >= *length).unwrap_or(units.len() - 1);
    let mut left = seconds;
    let counted = units[first..].iter().take(2).map(|(length, sign)| {
        let count = left / length;
        left %= length;
        (count, sign)
    });
    let told: Vec<String> = counted
        .enumerate()
        .filter(|(index, (count, _))| *index == 0 || *count > 0)
        .map(|(_, (count, sign))| format!("{count} {sign}"))
        .collect();
    told.join(" ")
}

fn key(kind: &FaultKind) -> String {
    format!("console-fault-{}", kind.name())
}

/// The name in JSON of requests that are not meant by their path.
pub(super) fn name_of(on: &Matcher) -> &'static str {
    match on {
        Matcher::Any => "any",
        Matcher::Token => "token",
        Matcher::Refresh => "refresh",
        Matcher::Exchange => "exchange",
        Matcher::Mint => "mint",
        Matcher::ContactRead => "contact_read",
        Matcher::TagAdd => "tag_add",
        Matcher::TagRemove => "tag_remove",
        Matcher::LocationRead => "location_read",
        Matcher::Path(_) => "path",
    }
}

/// Those that one can choose from.
pub(super) const MATCHERS: [Matcher; 9] = [
    Matcher::Any,
    Matcher::Token,
    Matcher::Refresh,
    Matcher::Exchange,
    Matcher::Mint,
    Matcher::ContactRead,
    Matcher::TagAdd,
    Matcher::TagRemove,
    Matcher::LocationRead,
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn spans_have_two_units_at_most() {
        let check = |seconds, expected: &str| assert_eq!(span(Duration::from_secs(seconds)), expected);
        check(0, "0 s");
        check(31, "31 s");
        check(300, "5 min");
        check(86_399, "23 h 59 min");
        check(86_400, "1 d");
        check(90_061, "1 d 1 h");
        check(31_536_000, "365 d");
    }

    #[test]
    fn requests_are_called_as_json_calls_them() {
        for matcher in MATCHERS {
            assert_eq!(json!(matcher), name_of(&matcher));
        }
    }
}
