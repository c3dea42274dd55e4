//! A request that asks for nothing: whether HighLevel is there, how it is spoken to, and what time it
//! has.

use std::time::Duration;

use http::Method;
use http::header::DATE;

use crate::client::{Call, Client};
use crate::error::Failure;

const WITHIN: Duration = Duration::from_secs(10);

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// Of the answer, whatever it says: any shows that someone is there.
    pub status: u16,
    /// The answer's `Date`, as it was written.
    pub date: Option<String>,
}

impl Client {
    /// Greets HighLevel without a token. Whatever it answers is good; what fails is the way there.
    pub async fn greet(&self) -> Result<Greeting, Failure> {
        let call = Call {
            method: Method::GET,
            path: "/",
            bearer: None,
            version: Some(self.dialect()),
            content_type: None,
            body: String::new(),
            answer_within: WITHIN,
        };
        let answer = self.send(call).await.map_err(|silence| Failure::of_silence(silence, WITHIN))?;
        let date = answer.headers.get(DATE).and_then(|date| date.to_str().ok()).map(str::to_owned);
        Ok(Greeting { status: answer.status.as_u16(), date })
    }
}
