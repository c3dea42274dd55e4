//! Faults on demand: what networks, gateways and HighLevel itself do to a request now and then.
//!
//! A fault waits in a queue for a request it is meant for. Some are played after the request was processed (its
//! refresh token is used up, the answer is lost), some instead of it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::chance::Chance;
use crate::clock::Millis;
use crate::outages::Outage;

/// What a request is, as far as faults and counters care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Refresh,
    Exchange,
    Mint,
    ContactRead,
    TagAdd,
    TagRemove,
    LocationRead,
    Other,
}

/// Which requests a fault or a hold is meant for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Matcher {
    /// Every request but the sandbox's own.
    #[default]
    Any,
    /// `POST /oauth/token` of either kind.
    Token,
    /// `POST /oauth/token` with a refresh token.
    Refresh,
    /// `POST /oauth/token` with a code.
    Exchange,
    /// Minting a location's token.
    Mint,
    /// `GET /contacts/{id}`.
    ContactRead,
    /// `POST /contacts/{id}/tags`.
    TagAdd,
    /// `DELETE /contacts/{id}/tags`.
    TagRemove,
    /// `GET /locations/{id}`.
    LocationRead,
    /// Every path that begins so.
    Path(String),
}

impl Matcher {
    pub(crate) fn matches(&self, kind: Kind, path: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Token => matches!(kind, Kind::Refresh | Kind::Exchange),
            Self::Refresh => kind == Kind::Refresh,
            Self::Exchange => kind == Kind::Exchange,
            Self::Mint => kind == Kind::Mint,
            Self::ContactRead => kind == Kind::ContactRead,
            Self::TagAdd => kind == Kind::TagAdd,
            Self::TagRemove => kind == Kind::TagRemove,
            Self::LocationRead => kind == Kind::LocationRead,
            Self::Path(prefix) => path.starts_with(prefix.as_str()),
        }
    }
}

/// A fault, whom it is meant for, and how often.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    /// What happens.
    #[serde(flatten)]
    pub kind: FaultKind,
    /// Which requests it happens to.
    #[serde(default)]
    pub on: Matcher,
    /// To how many of them; `None` (in JSON `null`): until cleared.
    #[serde(default = "once")]
    pub times: Option<u32>,
    /// To how many in a hundred of them; the others pass and don't count.
    #[serde(default = "always")]
    pub percent: u8,
    /// For how many seconds by the sandbox's clock; `None`: without an end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
}

fn once() -> Option<u32> {
    Some(1)
}

fn always() -> u8 {
    100
}

impl Fault {
    /// A fault that happens to the next request.
    pub fn new(kind: FaultKind) -> Self {
        Self { kind, on: Matcher::Any, times: once(), percent: always(), seconds: None }
    }

    /// Means it for some requests only.
    #[must_use]
    pub fn on(mut self, matcher: Matcher) -> Self {
        self.on = matcher;
        self
    }

    /// Lets it happen this often.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// Lets it happen until faults are cleared.
    #[must_use]
    pub fn until_cleared(mut self) -> Self {
        self.times = None;
        self
    }

    /// Lets it happen until so many seconds have gone by on the sandbox's clock.
    #[must_use]
    pub fn for_seconds(mut self, seconds: u64) -> Self {
        self.times = None;
        self.seconds = Some(seconds);
        self
    }

    /// Lets it happen by chance.
    #[must_use]
    pub fn percent(mut self, percent: u8) -> Self {
        self.percent = percent;
        self
    }
}

/// What happens. `processed` says whether the request has its effect first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum FaultKind {
    /// Processed, and the connection closes without a byte of the answer.
    LoseAnswer,
    /// The connection closes before anything is done.
    LoseRequest,
    /// The connection is reset (RST) without an answer.
    Reset {
        /// Whether the request has its effect first.
        #[serde(default)]
        processed: bool,
    },
    /// Processed, and the connection closes after this many bytes of the answer, status line and headers included.
    CutAfter {
        /// How many bytes arrive.
        bytes: u64,
    },
    /// Processed at once, answered late.
    Delay {
        /// How late.
        millis: u64,
    },
    /// Processed late, then answered at once, whether or not the client still waits.
    DelayBefore {
        /// How late.
        millis: u64,
    },
    /// Another answer.
    Status {
        /// Its status.
        code: u16,
        /// Its body.
        #[serde(default)]
        body: String,
        /// Its content type.
        #[serde(default = "json_type")]
        content_type: String,
        /// More headers, such as `retry-after` or `location`.
        #[serde(default)]
        headers: BTreeMap<String, String>,
        /// Whether the request has its effect first.
        #[serde(default)]
        processed: bool,
    },
    /// A gateway's 502, in HTML.
    GatewayHtml {
        /// Whether the request has its effect first.
        #[serde(default)]
        processed: bool,
    },
    /// Processed, and half the JSON arrives as if it were all.
    TruncatedJson,
    /// Processed, and these members of the answer are missing; a dot goes one level down.
    FieldsMissing {
        /// Such as `refresh_token` or `contact.tags`.
        fields: Vec<String>,
    },
    /// Processed, and these members of the answer are something else: null, a number for a text.
    FieldsSet {
        /// Members and what they become; a dot goes one level down.
        fields: Map<String, Value>,
    },
    /// Processed, and the answer has another body with the same status.
    Body {
        /// The body.
        body: String,
        /// Its content type.
        #[serde(default = "json_type")]
        content_type: String,
    },
    /// 429 `Too Many Requests`, not processed.
    RateLimited {
        /// A `Retry-After` header; HighLevel isn't known to send one.
        #[serde(default)]
        retry_after: Option<u64>,
    },
    /// 400 `Location is not active`, not processed.
    NotActive,
    /// 401 `Invalid client credentials!`, not processed.
    RefusedClient,
    /// 400 `Invalid grant: refresh token is invalid`, not processed.
    InvalidGrant,
}

fn json_type() -> String {
    "application/json; charset=utf-8".to_owned()
}

impl FaultKind {
    /// A late answer.
    pub fn delay(by: Duration) -> Self {
        Self::Delay { millis: crate::clock::millis(by) }
    }

    /// A request that is processed late.
    pub fn delay_before(by: Duration) -> Self {
        Self::DelayBefore { millis: crate::clock::millis(by) }
    }

    /// A status with a JSON body, instead of doing anything.
    pub fn status(code: u16, body: &str) -> Self {
        Self::Status {
            code,
            body: body.to_owned(),
            content_type: json_type(),
            headers: BTreeMap::new(),
            processed: false,
        }
    }

    pub(crate) fn processes(&self) -> bool {
        match self {
            Self::LoseRequest | Self::RateLimited { .. } => false,
            Self::NotActive | Self::RefusedClient | Self::InvalidGrant => false,
            Self::Reset { processed } | Self::GatewayHtml { processed } | Self::Status { processed, .. } => {
                *processed
            }
            _ => true,
        }
    }

    /// Its name in JSON.
    pub(crate) fn name(&self) -> String {
        let tagged = serde_json::to_value(self).unwrap_or_default();
        tagged.get("fault").and_then(Value::as_str).unwrap_or("fault").to_owned()
    }
}

/// A fault that was thrown and waits for its requests.
#[derive(Clone, Debug)]
pub(crate) struct Thrown {
    /// Those with the same number were thrown together, and are taken back together.
    pub(crate) together: u64,
    /// What they are together.
    pub(crate) outage: Option<Outage>,
    pub(crate) fault: Fault,
    pub(crate) ends_at: Option<Millis>,
    /// How often it has happened.
    pub(crate) happened: u64,
}

/// The faults that wait for a request.
pub(crate) struct Faults {
    queue: Vec<Thrown>,
    throws: u64,
    chance: Chance,
}

impl Faults {
    pub(crate) fn new(seed: u64) -> Self {
        Self { queue: Vec::new(), throws: 0, chance: Chance::seeded(seed) }
    }

    /// Throws faults together.
    pub(crate) fn throw(&mut self, faults: Vec<Fault>, outage: Option<Outage>, now: Millis) {
        self.throws += 1;
        let together = self.throws;
        self.queue.extend(faults.into_iter().map(|fault| {
            let ends_at = fault.seconds.map(|seconds| now.saturating_add(seconds.saturating_mul(1000)));
            Thrown { together, outage, fault, ends_at, happened: 0 }
        }));
    }

    /// Takes back what was thrown together.
    pub(crate) fn take_back(&mut self, together: u64) {
        self.queue.retain(|thrown| thrown.together != together);
    }

    pub(crate) fn clear(&mut self) {
        self.queue.clear();
    }

    /// Those that still wait at `now`.
    pub(crate) fn waiting(&mut self, now: Millis) -> &[Thrown] {
        self.queue.retain(|thrown| thrown.ends_at.is_none_or(|ends_at| now < ends_at));
        &self.queue
    }

    /// Takes the first fault that is meant for this request, if chance agrees.
    pub(crate) fn take(&mut self, kind: Kind, path: &str, now: Millis) -> Option<FaultKind> {
        self.waiting(now);
        let chance = &mut self.chance;
        let meant = |fault: &Fault| fault.on.matches(kind, path) && fault.times != Some(0);
        let index =
            self.queue.iter().position(|thrown| meant(&thrown.fault) && chance.hits(thrown.fault.percent))?;
        let thrown = &mut self.queue[index];
        thrown.happened += 1;
        let taken = thrown.fault.kind.clone();
        if let Some(times) = &mut thrown.fault.times {
            *times -= 1;
            if *times == 0 {
                self.queue.remove(index);
            }
        }
        Some(taken)
    }
}

/// A gate at which requests wait until it is opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Which requests wait.
    #[serde(default)]
    pub on: Matcher,
    /// Whether they have had their effect when they wait.
    #[serde(default)]
    pub processed: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, expected: Fault) {
        assert_eq!(serde_json::from_str::<Fault>(json).expect("a fault"), expected);
    }

    #[test]
    fn faults_are_written_in_json_with_little_effort() {
        check(r#"{"fault":"lose_answer"}"#, Fault::new(FaultKind::LoseAnswer));
        check(
            r#"{"fault":"cut_after","bytes":7,"on":"refresh","times":2}"#,
            Fault::new(FaultKind::CutAfter { bytes: 7 }).on(Matcher::Refresh).times(2),
        );
        check(
            r#"{"fault":"gateway_html","on":{"path":"/contacts"},"times":null}"#,
            Fault::new(FaultKind::GatewayHtml { processed: false })
                .on(Matcher::Path("/contacts".to_owned()))
                .until_cleared(),
        );
        check(r#"{"fault":"status","code":503,"body":"{}"}"#, Fault::new(FaultKind::status(503, "{}")));
    }

    #[test]
    fn a_fault_happens_as_often_as_it_says_and_only_to_whom_it_is_meant_for() {
        let mut faults = Faults::new(1);
        faults.throw(vec![Fault::new(FaultKind::LoseAnswer).on(Matcher::Refresh).times(2)], None, 0);
        assert_eq!(faults.take(Kind::ContactRead, "/contacts/x", 0), None);
        assert!(faults.take(Kind::Refresh, "/oauth/token", 0).is_some());
        assert!(faults.take(Kind::Refresh, "/oauth/token", 0).is_some());
        assert_eq!(faults.take(Kind::Refresh, "/oauth/token", 0), None);
    }

    #[test]
    fn a_fault_with_an_end_happens_until_then() {
        let mut faults = Faults::new(1);
        faults.throw(vec![Fault::new(FaultKind::LoseRequest).for_seconds(5)], None, 1000);
        assert!(faults.take(Kind::Other, "/", 1000).is_some());
        assert!(faults.take(Kind::Other, "/", 5999).is_some());
        assert_eq!(faults.take(Kind::Other, "/", 6000), None);
        assert!(faults.waiting(6000).is_empty());
    }

    #[test]
    fn what_was_thrown_together_is_taken_back_together_and_nothing_else() {
        let mut faults = Faults::new(1);
        let fault = || Fault::new(FaultKind::LoseRequest);
        faults.throw(vec![fault()], None, 0);
        faults.throw(vec![fault(), fault()], None, 0);
        let first = faults.waiting(0)[0].together;
        faults.take_back(faults.queue[1].together);
        let left: Vec<u64> = faults.waiting(0).iter().map(|thrown| thrown.together).collect();
        assert_eq!(left, [first]);
    }
}
