//! What can be thrown with one click: single faults, and outages that are made of several.

use serde::{Deserialize, Serialize};
use serde_json::{Map, json};

use crate::faults::{Fault, FaultKind, Matcher};

/// How long an outage lasts, in seconds of the sandbox's clock.
const FIVE_MINUTES: u64 = 300;

/// Late enough that a client's patience ends.
const LATE_MILLIS: u64 = 8000;

/// An outage as one meets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outage {
    /// Everything is answered with 503.
    Down,
    /// Every connection closes before anything is done.
    Unreachable,
    /// Tokens are used up, and their answers never arrive.
    AnswersLost,
    /// Calls on contacts and locations are answered with 429.
    RateLimited,
    /// Every answer comes late.
    Slow,
    /// A part of the answers is a gateway's, and a part never arrives.
    Flaky,
}

impl Outage {
    pub(crate) const ALL: [Self; 6] =
        [Self::Down, Self::Unreachable, Self::AnswersLost, Self::RateLimited, Self::Slow, Self::Flaky];

    /// Its name in JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Unreachable => "unreachable",
            Self::AnswersLost => "answers_lost",
            Self::RateLimited => "rate_limited",
            Self::Slow => "slow",
            Self::Flaky => "flaky",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outage| outage.name() == name)
    }

    /// What it is made of.
    pub(crate) fn faults(self) -> Vec<Fault> {
        let lasting = |kind| Fault::new(kind).for_seconds(FIVE_MINUTES);
        match self {
            Self::Down => vec![lasting(status(503))],
            Self::Unreachable => vec![lasting(FaultKind::LoseRequest)],
            Self::AnswersLost => vec![Fault::new(FaultKind::LoseAnswer).on(Matcher::Token).times(3)],
            Self::RateLimited => ["/contacts", "/locations"]
                .map(|path| limited().for_seconds(60).on(Matcher::Path(path.to_owned())))
                .into(),
            Self::Slow => vec![lasting(FaultKind::Delay { millis: LATE_MILLIS })],
            Self::Flaky => vec![
                lasting(FaultKind::GatewayHtml { processed: false }).percent(30),
                lasting(FaultKind::LoseAnswer).percent(10),
            ],
        }
    }
}

fn limited() -> Fault {
    Fault::new(FaultKind::RateLimited { retry_after: None })
}

/// A status as HighLevel's services would word it.
fn status(code: u16) -> FaultKind {
    let message = match code {
        401 => "Invalid JWT",
        500 => "Internal server error",
        _ => "Service Unavailable",
    };
    FaultKind::status(code, &json!({ "statusCode": code, "message": message }).to_string())
}

/// The faults that have a button each, in the order of the buttons.
pub(crate) fn single_faults() -> Vec<FaultKind> {
    let late = LATE_MILLIS;
    let html = |body: &str| FaultKind::Body {
        body: format!("<!doctype html><title>{body}</title>"),
        content_type: "text/html; charset=utf-8".to_owned(),
    };
    vec![
        FaultKind::LoseRequest,
        FaultKind::LoseAnswer,
        FaultKind::Reset { processed: false },
        FaultKind::Reset { processed: true },
        FaultKind::CutAfter { bytes: 300 },
        FaultKind::Delay { millis: late },
        FaultKind::DelayBefore { millis: late },
        status(401),
        FaultKind::RateLimited { retry_after: None },
        FaultKind::RateLimited { retry_after: Some(30) },
        status(500),
        FaultKind::GatewayHtml { processed: false },
        FaultKind::GatewayHtml { processed: true },
        status(503),
        FaultKind::NotActive,
        FaultKind::RefusedClient,
        FaultKind::InvalidGrant,
        FaultKind::TruncatedJson,
        FaultKind::FieldsMissing {
            fields: ["expires_in", "expiresIn", "contact.tags"].map(Into::into).into(),
        },
        FaultKind::FieldsSet {
            fields: Map::from_iter([
                ("expires_in".to_owned(), json!("soon")),
                ("contact.tags".to_owned(), json!(null)),
            ]),
        },
        html("Maintenance"),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_fault_that_json_knows_has_a_button() {
        let unknown = serde_json::from_value::<FaultKind>(json!({ "fault": "?" })).expect_err("no fault");
        let said = unknown.to_string();
        let (_, listed) = said.split_once("expected one of").expect("a list of all");
        let known: BTreeSet<String> = listed.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        let buttons: BTreeSet<String> = single_faults().iter().map(FaultKind::name).collect();
        assert!(known.len() > 10, "{said}");
        assert_eq!(buttons, known);
    }

    #[test]
    fn outages_are_called_as_json_calls_them() {
        for outage in Outage::ALL {
            assert_eq!(json!(outage), outage.name());
            assert_eq!(Outage::named(outage.name()), Some(outage));
            assert!(!outage.faults().is_empty());
        }
    }
}
