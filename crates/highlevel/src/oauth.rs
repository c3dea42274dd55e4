//! HighLevel's OAuth 2.0: the consent page's address, and `POST /oauth/token`.
//!
//! Parsing is our own and lenient, because behind a strict parser stands a single-use token that
//! would be lost with the answer (HighLevel was seen to answer 201 where its documents say 200).

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use http::{Method, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tokens::{
    AccessToken, AnswerBody, AuthorizationCode, ClientSecret, CompanyId, Grant, InstallationId, Issuer,
    LocationId, RawAnswer, Reading, RefreshToken, Refusal, Timestamp, Unanswered,
};

use crate::client::{Call, Client, Dialect, Silence};
use crate::error::{FailureKind, kind_of};
use crate::wire;

/// A late answer to a refresh still counts, so it is waited for longer than any other.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// The media type of every request here.
const FORM: &str = "application/x-www-form-urlencoded";

/// What RFC 3986 leaves as it is in a query.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The marketplace app: who asks.
#[derive(Clone, Debug)]
pub struct AppCredentials {
    /// `<app id>-<suffix>`.
    pub client_id: String,
    /// One secret, or several to be tried in order while they are being changed.
    pub client_secrets: Vec<ClientSecret>,
    /// Where the consent page sends the code.
    pub redirect_uri: String,
    /// The class of grant wanted: `Location` or `Company`.
    pub user_type: &'static str,
}

/// The app's id: the part of the client id before the hyphen (HighLevel's SDK takes it so).
pub fn app_id(client_id: &str) -> &str {
    client_id.split('-').next().unwrap_or(client_id)
}

/// What the consent page is to be asked.
#[derive(Clone, Debug)]
pub struct Consent<'a> {
    /// The page: `https://marketplace.gohighlevel.com/v2/oauth/chooselocation`, or an install link.
    pub page: &'a str,
    /// The app.
    pub app: &'a AppCredentials,
    /// The scopes wanted, separated by spaces; none leaves them to the app.
    pub scopes: Option<&'a str>,
    /// What the callback must bring back.
    pub state: Option<&'a str>,
}

impl fmt::Display for Consent<'_> {
    /// The address to open. Parameters that the page's address has already are left as they are.
    ///
    /// The `/v2` page needs `version_id` beside `client_id`; the first version of an app has the
    /// app's own id (measured by third parties, 2026-08). A space is `%20`, never `+`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.page)?;
        let has = |name: &str| {
            let query = self.page.split_once('?').map_or("", |(_, query)| query);
            form_urlencoded::parse(query.as_bytes()).any(|(known, _)| known == name)
        };
        let mut separator = if self.page.contains('?') { '&' } else { '?' };
        let parameters = [
            ("response_type", Some("code")),
            ("client_id", Some(self.app.client_id.as_str())),
            ("version_id", Some(app_id(&self.app.client_id))),
            ("redirect_uri", Some(self.app.redirect_uri.as_str())),
            ("scope", self.scopes),
            ("state", self.state),
        ];
        for (name, value) in parameters {
            let Some(value) = value.filter(|_| !has(name)) else { continue };
            write!(f, "{separator}{name}={}", utf8_percent_encode(value, QUERY))?;
            separator = '&';
        }
        Ok(())
    }
}

/// HighLevel's token endpoint for one app.
#[derive(Debug)]
pub struct OAuth {
    client: Client,
    app: AppCredentials,
    /// The secret that HighLevel took last.
    secret_in_use: AtomicUsize,
}

impl OAuth {
    /// The token endpoint as `app` sees it.
    pub fn new(client: Client, app: AppCredentials) -> Self {
        Self { client, app, secret_in_use: AtomicUsize::new(0) }
    }

    /// Sends a token request, with each of the app's secrets until HighLevel takes one. A refused
    /// secret uses nothing up.
    async fn ask(&self, grant: &[(&str, &str)], user_type: &str) -> Result<RawAnswer, Unanswered> {
        let secrets = self.app.client_secrets.len();
        let first = self.secret_in_use.load(Ordering::Relaxed);
        let mut last = None;
        for try_number in 0..secrets.max(1) {
            let index = (first + try_number) % secrets.max(1);
            let secret = self.app.client_secrets.get(index).map_or("", ClientSecret::expose);
            let answer = self.send(grant, secret, user_type).await?;
            if !matches!(refusal(&answer), Some(Refusal::InvalidClient(_))) {
                self.secret_in_use.store(index, Ordering::Relaxed);
                return Ok(answer);
            }
            last = Some(answer);
        }
        last.ok_or_else(|| Unanswered::NotSent("no client secret to send".into()))
    }

    async fn send(
        &self,
        grant: &[(&str, &str)],
        secret: &str,
        user_type: &str,
    ) -> Result<RawAnswer, Unanswered> {
        let dialect = self.client.dialect();
        let call = Call {
            method: Method::POST,
            path: "/oauth/token",
            bearer: None,
            version: (dialect == Dialect::V3).then_some(dialect),
            content_type: Some(FORM),
            body: self.form(grant, secret, user_type),
            answer_within: ANSWER_WITHIN,
        };
        self.post(call).await
    }

    async fn post(&self, call: Call<'_>) -> Result<RawAnswer, Unanswered> {
        let answer = self.client.send(call).await.map_err(|silence| match silence {
            Silence::NotSent(why) => Unanswered::NotSent(wire::one_line(&why)),
            Silence::Lost(why) => Unanswered::Lost(wire::one_line(&why)),
            Silence::TimedOut => Unanswered::Lost("no answer in time".into()),
        })?;
        let body = AnswerBody::new(String::from_utf8_lossy(&answer.body));
        Ok(RawAnswer { status: answer.status.as_u16(), body })
    }

    fn form(&self, grant: &[(&str, &str)], secret: &str, user_type: &str) -> String {
        let mut form = form_urlencoded::Serializer::new(String::new());
        let client = [("client_id", self.app.client_id.as_str()), ("client_secret", secret)];
        let wish = [("user_type", user_type), ("redirect_uri", self.app.redirect_uri.as_str())];
        for (name, value) in client.iter().chain(grant).chain(&wish) {
            form.append_pair(&in_dialect(name, self.client.dialect()), value);
        }
        form.finish()
    }
}

/// `client_id` before v3, `clientId` in v3: each refuses the other's spelling with a 422.
fn in_dialect(name: &str, dialect: Dialect) -> String {
    match dialect {
        Dialect::Dated => name.to_owned(),
        Dialect::V3 => {
            let mut words = name.split('_');
            let first = words.next().unwrap_or_default().to_owned();
            words.fold(first, |camel, word| {
                let (head, tail) = word.split_at(word.len().min(1));
                camel + &head.to_ascii_uppercase() + tail
            })
        }
    }
}

#[async_trait]
impl Issuer for OAuth {
    async fn refresh(&self, id: &InstallationId, token: &RefreshToken) -> Result<RawAnswer, Unanswered> {
        self.ask(&[("grant_type", "refresh_token"), ("refresh_token", token.expose())], id.user_type()).await
    }

    async fn exchange(&self, code: &AuthorizationCode) -> Result<RawAnswer, Unanswered> {
        self.ask(&[("grant_type", "authorization_code"), ("code", code.expose())], self.app.user_type).await
    }

    /// `POST /oauth/locationToken`, in v3 `/oauth/location-token` (scope `oauth.write`); both spell
    /// the two ids alike.
    async fn mint(
        &self,
        company: &CompanyId,
        access: &AccessToken,
        location: &LocationId,
    ) -> Result<RawAnswer, Unanswered> {
        let dialect = self.client.dialect();
        let ids = [("companyId", company.as_str()), ("locationId", location.as_str())];
        let call = Call {
            method: Method::POST,
            path: match dialect {
                Dialect::Dated => "/oauth/locationToken",
                Dialect::V3 => "/oauth/location-token",
            },
            bearer: Some(access),
            version: Some(dialect),
            content_type: Some(FORM),
            body: form_urlencoded::Serializer::new(String::new()).extend_pairs(ids).finish(),
            answer_within: ANSWER_WITHIN,
        };
        self.post(call).await
    }

    fn read_minted(&self, answer: &RawAnswer, company: &CompanyId, received_at: Timestamp) -> Reading {
        match refuses_the_token(answer) {
            Some(said) => Reading::Refused(Refusal::InvalidToken(said)),
            None => reading(answer, |body| wire::minted_reply(body, company, received_at)),
        }
    }

    fn read(&self, answer: &RawAnswer, received_at: Timestamp) -> Reading {
        read_answer(answer, received_at)
    }
}

/// What HighLevel says where it refuses the access token that a request carried, and nothing else.
fn refuses_the_token(answer: &RawAnswer) -> Option<String> {
    let status = StatusCode::from_u16(answer.status).ok()?;
    let said = wire::said(status, serde_json::from_str(answer.body.expose()).ok().as_ref());
    (kind_of(status, &said) == FailureKind::TokenRefused).then_some(said)
}

/// What an answer of the token endpoint means: for whoever finds one that landed, and asks for none.
pub fn read_answer(answer: &RawAnswer, received_at: Timestamp) -> Reading {
    reading(answer, |body| wire::token_reply(body, received_at))
}

fn reading(answer: &RawAnswer, grant_in: impl FnOnce(&str) -> Result<Grant, String>) -> Reading {
    if answer.is_success() {
        return match grant_in(answer.body.expose()) {
            Ok(grant) => Reading::Granted(Box::new(grant)),
            Err(why) => Reading::Unclear(why),
        };
    }
    match refusal(answer) {
        Some(refusal) => Reading::Refused(refusal),
        None => Reading::Unclear(describe(answer)),
    }
}

/// The refusals that we know, as measured or as in HighLevel's `oauth-v3.json`. Nothing is read into
/// any other answer: a gateway's page or an outage must not look like a dead grant.
fn refusal(answer: &RawAnswer) -> Option<Refusal> {
    if answer.is_success() {
        return None;
    }
    let status = StatusCode::from_u16(answer.status).ok()?;
    let json: Value = serde_json::from_str(answer.body.expose()).ok()?;
    let said = wire::said(status, Some(&json));
    let says = |words: &str| said.to_ascii_lowercase().contains(words);
    let error_is = |word: &str| json.get("error").and_then(Value::as_str) == Some(word);
    match answer.status {
        400 | 401 if error_is("invalid_client") || says("invalid client") => {
            Some(Refusal::InvalidClient(said))
        }
        401 if says("authorization code") => Some(Refusal::InvalidCode(said)),
        400 if says("location is not active") => Some(Refusal::NotActive(said)),
        400 if error_is("invalid_grant") || says("invalid grant") || says("refresh token is invalid") => {
            Some(Refusal::InvalidGrant(said))
        }
        _ => None,
    }
}

fn describe(answer: &RawAnswer) -> String {
    let json = serde_json::from_str(answer.body.expose()).ok();
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    match wire::said(status, json.as_ref()) {
        words if words.starts_with("HTTP ") => words,
        words => format!("HTTP {}: {words}", answer.status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> RawAnswer {
        RawAnswer { status, body: AnswerBody::new(body) }
    }

    #[test]
    fn a_refusal_is_known_by_its_words() {
        let check = |status: u16, body: &str, expected: Option<fn(String) -> Refusal>| {
            let got = refusal(&answer(status, body));
            let expected = expected.map(|kind| std::mem::discriminant(&kind(String::new())));
            assert_eq!(got.as_ref().map(std::mem::discriminant), expected, "{status} {body}");
        };
        check(
            400,
            r#"{"statusCode":400,"message":"Invalid grant: refresh token is invalid"}"#,
            Some(Refusal::InvalidGrant),
        );
        check(
            400,
            r#"{"error":"invalid_grant","error_description":"Invalid grant: refresh token is invalid"}"#,
            Some(Refusal::InvalidGrant),
        );
        check(400, r#"{"error":"invalid_grant"}"#, Some(Refusal::InvalidGrant));
        check(400, r#"{"statusCode":400,"message":"Location is not active"}"#, Some(Refusal::NotActive));
        check(
            401,
            r#"{"error":"UnAuthorized!","error_description":"Invalid client credentials!"}"#,
            Some(Refusal::InvalidClient),
        );
        check(
            401,
            r#"{"error":"UnAuthorized!","error_description":"Authorization code not found"}"#,
            Some(Refusal::InvalidCode),
        );
        check(400, r#"{"statusCode":400,"message":"Missing parameter: clientId"}"#, None);
        check(
            400,
            r#"{"message":"API endpoint has been removed","error":"Bad Request","statusCode":400}"#,
            None,
        );
        check(422, r#"{"statusCode":422,"message":["property userType should not exist"]}"#, None);
        check(502, "<html>invalid_grant</html>", None);
        check(500, r#"{"error":"invalid_grant"}"#, None);
        check(200, r#"{"error":"invalid_grant"}"#, None);
    }

    #[test]
    fn a_minted_token_needs_no_refresh_token_and_a_refused_company_token_is_told() {
        let app = AppCredentials {
            client_id: String::new(),
            client_secrets: vec![],
            redirect_uri: String::new(),
            user_type: "Company",
        };
        let base = "http://127.0.0.1:1".parse().expect("a base");
        let oauth = OAuth::new(Client::new(base, Dialect::Dated, None).expect("a client"), app);
        let company: CompanyId = "C1".parse().expect("an id");
        let read = |status, body| {
            oauth.read_minted(&answer(status, body), &company, Timestamp::from_millis(1_790_000_000_000))
        };
        for (status, body, own) in [
            (201, r#"{"access_token":"a","locationId":"L1"}"#, false),
            (200, r#"{"accessToken":"a","refreshToken":"r","locationId":"L1","companyId":"C1"}"#, true),
        ] {
            let Reading::Granted(grant) = read(status, body) else { panic!("{body}") };
            assert_eq!(grant.id.map(|id| id.to_string()).as_deref(), Some("location L1"));
            assert_eq!(grant.tokens.refresh_token().is_some(), own);
            assert_eq!(grant.tokens.parent(), Some(&company));
        }
        let refused = read(401, r#"{"statusCode":401,"message":"Invalid JWT"}"#);
        assert!(matches!(refused, Reading::Refused(Refusal::InvalidToken(_))), "{refused:?}");
        let scope = read(401, r#"{"message":"The token is not authorized for this scope."}"#);
        assert!(matches!(scope, Reading::Unclear(_)), "{scope:?}");
        let inactive = read(400, r#"{"statusCode":400,"message":"Location is not active"}"#);
        assert!(matches!(inactive, Reading::Refused(Refusal::NotActive(_))), "{inactive:?}");
    }

    #[test]
    fn names_follow_the_dialect() {
        assert_eq!(in_dialect("client_id", Dialect::Dated), "client_id");
        assert_eq!(in_dialect("client_id", Dialect::V3), "clientId");
        assert_eq!(in_dialect("code", Dialect::V3), "code");
    }

    #[test]
    fn the_consent_address_has_both_ids_and_encodes_a_space_as_percent_20() {
        let app = AppCredentials {
            client_id: "0123456789abcdef01234567-abcdefgh".into(),
            client_secrets: vec![],
            redirect_uri: "https://example.com/back?x=1".into(),
            user_type: "Location",
        };
        let consent = |page| Consent {
            page,
            app: &app,
            scopes: Some("contacts.readonly contacts.write"),
            state: Some("s"),
        };
        assert_eq!(
            consent("https://m.example/v2/oauth/chooselocation").to_string(),
            "https://m.example/v2/oauth/chooselocation?response_type=code&client_id=0123456789abcdef01234567-abcdefgh\
             &version_id=0123456789abcdef01234567&redirect_uri=https%3A%2F%2Fexample.com%2Fback%3Fx%3D1\
             &scope=contacts.readonly%20contacts.write&state=s"
        );
        let link = consent("https://m.example/v2/oauth/chooselocation?version_id=other").to_string();
        assert!(link.contains("?version_id=other&response_type=code&client_id="), "{link}");
        assert_eq!(link.matches("version_id").count(), 1, "{link}");
    }
}
