//! The ways by which a notice leaves: JSON signed as Standard Webhooks, the forms of Slack, Discord
//! and Telegram, and e-mail.

use std::fmt;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, Method, Uri, header};
use serde_json::{Value, json};
use tokens::{InstallationId, Notice, Subject, Timestamp};

use super::email::{Email, MailAddress, MailServer};
use super::{NotDelivered, Post, Words};

/// A secret that is no `whsec_` and base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not whsec_ and base64 of 24 to 64 bytes")]
pub struct BadSecret;

/// A way to tell people.
#[derive(Clone)]
pub struct Way {
    name: &'static str,
    post: Post,
    door: Door,
}

#[derive(Clone)]
enum Door {
    Web { to: Uri, form: Form },
    Mail(Box<Email>),
}

#[derive(Clone)]
enum Form {
    Webhook { key: Option<Box<hmac::Key>> },
    Slack,
    Discord,
    Telegram,
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Way {
    /// JSON to an address of one's own, signed if there is a secret (Standard Webhooks: `webhook-id`,
    /// `webhook-timestamp`, `webhook-signature`).
    pub fn webhook(post: Post, to: Uri, secret: Option<&str>) -> Result<Self, BadSecret> {
        let key = match secret {
            None => None,
            Some(secret) => {
                let text = secret.trim().strip_prefix("whsec_").ok_or(BadSecret)?;
                let bytes = STANDARD.decode(text).map_err(|_| BadSecret)?;
                if !(24..=64).contains(&bytes.len()) {
                    return Err(BadSecret);
                }
                Some(Box::new(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
            }
        };
        Ok(Self { name: "webhook", post, door: Door::Web { to, form: Form::Webhook { key } } })
    }

    /// An incoming webhook of Slack's.
    pub fn slack(post: Post, to: Uri) -> Self {
        Self { name: "slack", post, door: Door::Web { to, form: Form::Slack } }
    }

    /// A webhook of Discord's.
    pub fn discord(post: Post, to: Uri) -> Self {
        Self { name: "discord", post, door: Door::Web { to, form: Form::Discord } }
    }

    /// Telegram's `sendMessage`, with `chat_id` in the address.
    pub fn telegram(post: Post, to: Uri) -> Self {
        Self { name: "telegram", post, door: Door::Web { to, form: Form::Telegram } }
    }

    /// E-mail by a server, where `post` may dial it.
    pub fn email(post: Post, server: MailServer, from: MailAddress, to: Vec<MailAddress>) -> Self {
        Self { name: "email", post, door: Door::Mail(Box::new(Email { server, from, to })) }
    }

    /// What it is called in the outbox.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whether someone listens at the other end. Nobody is told anything.
    pub async fn reach(&self) -> Result<(), NotDelivered> {
        match &self.door {
            Door::Web { to, .. } => self.post.reach(to).await,
            Door::Mail(email) => self.post.dial(&email.server.host, email.server.port).await,
        }
    }

    /// Tells it.
    pub(crate) async fn deliver(
        &self,
        notice: &Notice,
        words: &Words,
        from: &str,
        now: Timestamp,
    ) -> Result<(), NotDelivered> {
        let (to, form) = match &self.door {
            Door::Web { to, form } => (to, form),
            Door::Mail(email) => return email.send(&self.post, notice, words).await,
        };
        let body = form.body(notice, words, from).to_string();
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Form::Webhook { key } = form {
            sign(&mut headers, key.as_deref(), &notice.id, now, &body);
        }
        self.post.send(Method::POST, to, headers, body).await
    }
}

impl Form {
    fn body(&self, notice: &Notice, words: &Words, from: &str) -> Value {
        match self {
            Self::Webhook { .. } => {
                let (kind, id) = match &notice.subject {
                    Subject::Service | Subject::Checks(None) => ("service", None),
                    Subject::Installation(id) | Subject::Checks(Some(id)) => {
                        (id.kind(), Some(InstallationId::as_str(id)))
                    }
                };
                json!({
                    "type": format!("ghl_auth.{}", notice.kind.as_str()),
                    "timestamp": rfc3339(notice.at),
                    "data": {
                        "microservice": from,
                        "kind": kind,
                        "id": id,
                        "health": notice.health.as_str(),
                        "since": rfc3339(notice.since),
                        "code": notice.code,
                        "title": words.title,
                        "text": words.body,
                    },
                })
            }
            // Slack reads &, < and > as markup; a link or a mention needs < and >.
            Self::Slack => {
                json!({ "text": words.whole().replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;") })
            }
            Self::Discord => {
                let text: String = words.whole().chars().take(1900).collect();
                json!({ "content": text, "allowed_mentions": { "parse": [] } })
            }
            // Without parse_mode Telegram takes the text as it is.
            Self::Telegram => {
                let text: String = words.whole().chars().take(4000).collect();
                json!({ "text": text, "disable_web_page_preview": true })
            }
        }
    }
}

fn sign(headers: &mut HeaderMap, key: Option<&hmac::Key>, id: &str, now: Timestamp, body: &str) {
    let seconds = now.as_millis().div_euclid(1000);
    let mut set = |name: &'static str, value: String| {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    };
    set("webhook-id", id.to_owned());
    set("webhook-timestamp", seconds.to_string());
    if let Some(key) = key {
        let tag = hmac::sign(key, format!("{id}.{seconds}.{body}").as_bytes());
        set("webhook-signature", format!("v1,{}", STANDARD.encode(tag.as_ref())));
    }
}

fn rfc3339(at: Timestamp) -> String {
    match jiff::Timestamp::from_second(at.as_millis().div_euclid(1000)) {
        Ok(at) => at.to_string(),
        Err(_) => at.as_millis().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_standard() {
        // The example of the Standard Webhooks specification's reference implementations.
        let post = Post::new(true);
        let to = "https://example.com/".parse().expect("an address");
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let way = Way::webhook(post.clone(), to, Some(secret)).expect("a way");
        let Door::Web { form: Form::Webhook { key }, .. } = &way.door else { panic!("a webhook") };
        let mut headers = HeaderMap::new();
        let now = Timestamp::from_millis(1_614_265_330_000);
        sign(&mut headers, key.as_deref(), "msg_p5jXN8AQM9LWM0D4loKWxJek", now, "{\"test\": 2432232314}");
        assert_eq!(headers["webhook-signature"], "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        for bad in ["", "whsec_", "whsec_c2hvcnQ=", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_*"] {
            let to = "https://example.com/".parse().expect("an address");
            assert!(Way::webhook(post.clone(), to, Some(bad)).is_err(), "{bad}");
        }
    }
}
