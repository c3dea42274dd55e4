//! A dead-man's switch in the grammar of healthchecks.io: it alarms when nothing comes.
//!
//! `URL/start` when a check begins, `URL` when it went well, `URL/fail` with words when it did not,
//! with one run id for what belongs together. A switch that can't be reached holds nothing up.

use std::fmt;

use http::{HeaderMap, Method, Uri};

use super::{BadAddress, NotDelivered, Post};

/// A switch.
#[derive(Clone)]
pub struct Heartbeat {
    post: Post,
    url: Uri,
}

impl fmt::Debug for Heartbeat {
    /// Whoever knows the address can speak for us.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Heartbeat")
    }
}

/// What the switch is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beat {
    Start,
    Success,
    Fail,
}

impl Heartbeat {
    /// The switch at an address.
    pub fn at(post: Post, url: &str) -> Result<Self, BadAddress> {
        Ok(Self { url: post.address(url)?, post })
    }

    /// Whether someone listens there. The switch is told nothing.
    pub async fn reach(&self) -> Result<(), NotDelivered> {
        self.post.reach(&self.url).await
    }

    /// Tells it; `run` is a UUID.
    pub(crate) async fn beat(&self, beat: Beat, run: &str, words: &str) -> Result<(), NotDelivered> {
        let path = match beat {
            Beat::Start => "/start",
            Beat::Success => "",
            Beat::Fail => "/fail",
        };
        let base = self.url.path().trim_end_matches('/');
        let query = match self.url.query() {
            Some(query) => format!("{query}&rid={run}"),
            None => format!("rid={run}"),
        };
        let mut parts = self.url.clone().into_parts();
        parts.path_and_query = format!("{base}{path}?{query}").parse().ok();
        let odd = |_| NotDelivered { said: "its address makes no sense".into(), retry_after: None };
        let to = Uri::from_parts(parts).map_err(odd)?;
        self.post.send(Method::POST, &to, HeaderMap::new(), words.to_owned()).await
    }
}
