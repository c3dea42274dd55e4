//! What was asked, issued and used up, for tests to read.
//!
//! Tokens are named by grant and generation, never by their text; four characters tell them apart.

use std::collections::VecDeque;

use serde::Serialize;

use crate::clock::Millis;

/// The newest requests are kept; older ones stay counted only.
const KEPT: usize = 100_000;

/// One HTTP request, as it was answered.
#[derive(Clone, Debug, Serialize)]
pub struct RequestLine {
    /// When it arrived, in milliseconds since 1970 by the sandbox's clock.
    pub at: u64,
    /// The method.
    pub method: String,
    /// The path, without its query.
    pub path: String,
    /// The query, as it was sent.
    pub query: Option<String>,
    /// The path and the query, byte for byte as they came.
    pub target: String,
    /// All headers in the order of their names' first coming, where `Sandbox::note_headers` asked for them. A token is
    /// named by its holder and its generation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<Vec<(String, String)>>,
    /// The `Version` header.
    pub version: Option<String>,
    /// Whose access token was sent: the location's or company's id, if the token was good.
    pub caller: Option<String>,
    /// The generation of that access token.
    pub generation: Option<u64>,
    /// The status of the answer, even if a fault kept it from arriving.
    pub status: u16,
    /// The fault that was played, if any.
    pub fault: Option<String>,
    /// How long the answer took, in real time.
    pub millis: f64,
    /// The `traceId` of the answer.
    pub trace_id: Option<String>,
}

/// One request for tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TokenRequest {
    /// When it was processed, in milliseconds since 1970 by the sandbox's clock.
    pub at: u64,
    /// `authorization_code`, `refresh_token`, `location_token` for a minted one, or whatever else was sent.
    pub grant_type: String,
    /// Which grant it was about: 0 is the first one ever approved.
    pub grant: Option<usize>,
    /// The generation of the refresh token that was presented; a grant begins with 1.
    pub presented: Option<u64>,
    /// How the access token and the refresh token end that were given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endings: Option<[String; 2]>,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a request for tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A new pair.
    Issued {
        /// Its generation.
        generation: u64,
    },
    /// The pair that was issued before: a repeat inside the window.
    Repeated {
        /// Its generation.
        generation: u64,
    },
    /// A refusal.
    Refused {
        /// Its status.
        status: u16,
        /// Its message.
        message: String,
    },
    /// A fault stood in for the answer, and nothing was done.
    NotProcessed,
}

/// A message that the workflow sent because the health check's tag was newly added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// When, in milliseconds since 1970 by the sandbox's clock.
    pub at: u64,
    /// The contact that was tagged.
    pub contact_id: String,
    /// The tag.
    pub tag: String,
}

/// How often things happened, all time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Requests of any kind, `/_sandbox` aside.
    pub requests: u64,
    /// Refresh requests that arrived, whatever came of them; one is counted before it is held, delayed or lost.
    pub refreshes: u64,
    /// Code exchanges that arrived.
    pub exchanges: u64,
    /// New refresh tokens issued by refreshing.
    pub rotations: u64,
    /// Answers given again inside the window.
    pub repeats: u64,
    /// Refusals of a refresh token that had been used, after its window.
    pub reuse_after_window: u64,
    /// Location tokens minted.
    pub mints: u64,
    /// Messages sent by the workflow.
    pub messages: u64,
    /// Calls answered with 429 by the rate limit.
    pub rate_limited: u64,
}

/// A snapshot of what the sandbox has seen.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Ledger {
    /// How often things happened.
    pub counts: Counts,
    /// Requests in the order of their answers, the last 100,000.
    pub requests: VecDeque<RequestLine>,
    /// Requests for tokens in the order in which they were processed, the last 100,000.
    pub token_requests: VecDeque<TokenRequest>,
    /// The workflow's messages, the last 100,000.
    pub messages: VecDeque<Message>,
}

impl Ledger {
    /// Refresh requests that arrived.
    pub fn refreshes(&self) -> u64 {
        self.counts.refreshes
    }

    /// New refresh tokens issued by refreshing.
    pub fn rotations(&self) -> u64 {
        self.counts.rotations
    }

    /// Refusals of a refresh token that had been used, after its window.
    pub fn reuse_after_window(&self) -> u64 {
        self.counts.reuse_after_window
    }

    /// Messages that the workflow sent.
    pub fn messages_sent(&self) -> u64 {
        self.counts.messages
    }

    pub(crate) fn note_request(&mut self, line: RequestLine) {
        self.counts.requests += 1;
        push(&mut self.requests, line);
    }

    pub(crate) fn note_token(&mut self, request: TokenRequest) {
        match (&request.outcome, request.grant_type.as_str()) {
            (Outcome::Issued { .. }, "refresh_token") => self.counts.rotations += 1,
            (Outcome::Issued { .. }, "location_token") => self.counts.mints += 1,
            (Outcome::Repeated { .. }, _) => self.counts.repeats += 1,
            _ => {}
        }
        push(&mut self.token_requests, request);
    }

    pub(crate) fn note_message(&mut self, at: Millis, contact_id: &str, tag: &str) {
        self.counts.messages += 1;
        push(&mut self.messages, Message { at, contact_id: contact_id.to_owned(), tag: tag.to_owned() });
    }
}

fn push<T>(kept: &mut VecDeque<T>, item: T) {
    if kept.len() == KEPT {
        kept.pop_front();
    }
    kept.push_back(item);
}
