//! The way to HighLevel, and the clock that is held against its own.

use std::time::Duration;

use highlevel::Greeting;

use super::super::finding::{Area, Finding};
use crate::exit::Exit;
use crate::output::span;

/// A second on the way and the second that `Date` is cut to are nothing.
const CLOCK_GOOD: u64 = 30;
/// Beyond this, signatures, webhooks and certificates begin to be refused.
const CLOCK_WRONG: u64 = 300;

/// How far one comes on the way to HighLevel.
#[derive(Clone, Debug)]
pub(crate) enum Reached {
    NoName(String),
    NoConnection(String),
    /// A connection, and no answer by TLS.
    NoTls(String),
    NoAnswer(String),
    Answered(Greeting),
}

pub(crate) fn network(host: &str, is_loopback: bool, reached: &Reached) -> Finding {
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
pub(crate) fn clock(ahead: Option<i64>) -> Finding {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_good_off_or_wrong() {
        use crate::commands::doctor::finding::Level::{self, Failure, Good, Warning};
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
}
