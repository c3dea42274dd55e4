//! HighLevel's JSON in both dialects, turned into our nouns at once.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Map, Value};
use tokens::{
    AccessToken, CompanyId, Grant, InstallationId, RefreshBy, RefreshToken, ReplyMembers, Timestamp, TokenSet,
};

use crate::jwt::Claims;

/// How long a token is taken to live whose reply and claims both leave it out.
const LIFE_UNTOLD: Duration = Duration::from_secs(3600);

/// The longest life that is believed: above it, the reply means something else.
const LONGEST_LIFE: Duration = Duration::from_secs(400 * 24 * 3600);

/// The names that `v3` writes otherwise than the dialects before it, and ours: the older ones.
const RENAMED: [(&str, &str); 4] = [
    ("accessToken", "access_token"),
    ("refreshToken", "refresh_token"),
    ("tokenType", "token_type"),
    ("expiresIn", "expires_in"),
];

/// Understands a reply of `/oauth/token`, in either dialect. Only the two tokens are essential;
/// whatever else is missing or odd is made up for.
pub(crate) fn token_reply(body: &str, received_at: Timestamp) -> Result<Grant, String> {
    let (access, refresh, reply) = parts(body)?;
    Ok(grant(access, RefreshBy::Own(refresh?), reply, received_at))
}

/// Understands a reply of `/oauth/locationToken`, in either dialect. A refresh token may be missing
/// (HighLevel's `oauth.json` has none, its samples do): then the next one is minted, too.
pub(crate) fn minted_reply(body: &str, company: &CompanyId, received_at: Timestamp) -> Result<Grant, String> {
    let (access, refresh, mut reply) = parts(body)?;
    let refresh_by = refresh.map_or_else(|_| RefreshBy::Company(company.clone()), RefreshBy::Own);
    reply.entry("companyId").or_insert_with(|| company.as_str().into());
    Ok(grant(access, refresh_by, reply, received_at))
}

/// The access token, the refresh token or what is odd about it, and everything else.
type Parts = (String, Result<RefreshToken, String>, Map<String, Value>);

fn parts(body: &str) -> Result<Parts, String> {
    let mut reply: Map<String, Value> =
        serde_json::from_str(body).map_err(|_| "the token reply is not a whole JSON object".to_owned())?;
    for (theirs, ours) in RENAMED {
        if let Some(value) = reply.remove(theirs) {
            let present = reply.entry(ours).or_insert(Value::Null);
            if !is_token(present) {
                *present = value;
            }
        }
    }
    let mut token = |name: &str| match reply.shift_remove(name) {
        Some(Value::String(text)) if is_token(&Value::String(text.clone())) => Ok(text),
        _ => Err(format!("the token reply has no usable `{name}`")),
    };
    let (access, refresh) = (token("access_token")?, token("refresh_token").map(RefreshToken::new));
    Ok((access, refresh, reply))
}

fn grant(access: String, refresh_by: RefreshBy, reply: Map<String, Value>, received_at: Timestamp) -> Grant {
    let claims = Claims::of(&access);
    let expires_at = lifetime(reply.get("expires_in"))
        .map(|life| received_at + life)
        .or_else(|| claims.expires_at().filter(|end| *end > received_at))
        .unwrap_or(received_at + LIFE_UNTOLD);
    let tokens = TokenSet {
        access: AccessToken::new(access),
        refresh_by,
        issued_at: received_at,
        expires_at,
        scopes: scopes(reply.get("scope")),
        company: text(&reply, "companyId").and_then(|id| id.parse().ok()),
        members: ReplyMembers::new(Value::Object(reply.clone()).to_string()),
    };
    Grant { id: whose(&reply, &claims), tokens }
}

fn is_token(value: &Value) -> bool {
    value.as_str().is_some_and(|text| !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic()))
}

fn text<'a>(reply: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    reply.get(name)?.as_str().filter(|text| !text.is_empty())
}

fn lifetime(expires_in: Option<&Value>) -> Option<Duration> {
    let seconds = match expires_in? {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    let life = Duration::try_from_secs_f64(seconds).ok()?;
    (Duration::ZERO < life && life <= LONGEST_LIFE).then_some(life)
}

fn scopes(scope: Option<&Value>) -> String {
    match scope {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
        _ => String::new(),
    }
}

/// Whose grant it is: the reply's `userType` decides, because a `companyId` stands in a location's
/// reply too; without one, the access token's own claims.
fn whose(reply: &Map<String, Value>, claims: &Claims) -> Option<InstallationId> {
    let location = || text(reply, "locationId").and_then(|id| id.parse().ok()).map(InstallationId::Location);
    let company = || text(reply, "companyId").and_then(|id| id.parse().ok()).map(InstallationId::Company);
    let claimed = || {
        let id = claims.auth_class_id.as_deref()?;
        InstallationId::from_parts(&claims.auth_class.as_deref()?.to_ascii_lowercase(), id).ok()
    };
    match text(reply, "userType") {
        Some("Location") => location().or_else(claimed),
        Some("Company") => company().or_else(claimed),
        _ => claimed().or_else(location),
    }
}

/// HighLevel's id for a request, which "every reply may carry" (its OAuth overview).
pub(crate) fn trace_id(json: &Value) -> Option<String> {
    let id = json.get("traceId")?.as_str()?;
    let plain = id.len() <= 64 && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    plain.then(|| id.to_owned())
}

/// What a refusal says, from either family of bodies: `{error, error_description}` and
/// `{statusCode, message}`, where `message` may be a list.
pub(crate) fn said(status: StatusCode, json: Option<&Value>) -> String {
    let words = json.and_then(|json| {
        let of = |name: &str| match json.get(name)? {
            Value::String(text) => Some(text.clone()),
            Value::Array(list) => Some(list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")),
            Value::Object(inner) => Some(inner.get("message")?.as_str()?.to_owned()),
            _ => None,
        };
        of("message")
            .or_else(|| of("error_description"))
            .or_else(|| of("error"))
            .filter(|text| !text.is_empty())
    });
    match words {
        Some(words) => one_line(&words),
        None => format!("HTTP {}", status.as_u16()),
    }
}

/// One line for people: no control characters, nothing long enough to be a token, 200 characters.
pub(crate) fn one_line(text: &str) -> String {
    let words: Vec<&str> = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .map(|word| if longest_run(word) > 30 { "…" } else { word })
        .collect();
    words.join(" ").chars().take(200).collect()
}

/// The longest run of the characters that tokens, keys and codes are made of.
fn longest_run(word: &str) -> usize {
    word.split(|c: char| !(c.is_ascii_alphanumeric() || "-_=+".contains(c))).map(str::len).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

    fn check(body: &str, expected: Option<(&str, &str)>) {
        let got = token_reply(body, NOW).ok();
        let pair = got.as_ref().map(|grant| {
            let refresh = grant.tokens.refresh_token().expect("a token of its own");
            (grant.tokens.access.expose(), refresh.expose())
        });
        assert_eq!(pair, expected, "{body}");
    }

    #[test]
    fn both_tokens_in_either_dialect_make_a_grant() {
        check(r#"{"access_token":"a","refresh_token":"r"}"#, Some(("a", "r")));
        check(r#"{"accessToken":"a","refreshToken":"r"}"#, Some(("a", "r")));
        check(r#"{"access_token":null,"accessToken":"a","refresh_token":"r"}"#, Some(("a", "r")));
        check(
            r#"{"access_token":"a","refresh_token":"r","expires_in":"soon","scope":7,"userId":{}}"#,
            Some(("a", "r")),
        );
    }

    #[test]
    fn without_both_tokens_there_is_no_grant() {
        check("", None);
        check("[]", None);
        check("null", None);
        check(r#"{"access_token":"a"}"#, None);
        check(r#"{"access_token":"a","refresh_token":null}"#, None);
        check(r#"{"access_token":"a","refresh_token":""}"#, None);
        check(r#"{"access_token":"a","refresh_token":["r"]}"#, None);
        check(r#"{"access_token":"a","refresh_token":"r"#, None);
        check(r#"{"access_token":"a b","refresh_token":"r"}"#, None);
    }

    #[test]
    fn a_life_is_what_the_reply_says_else_what_the_token_says_else_an_hour() {
        let check = |expires_in: &str, expected: u64| {
            let body = format!(r#"{{"access_token":"a","refresh_token":"r","expires_in":{expires_in}}}"#);
            let tokens = token_reply(&body, NOW).expect("a grant").tokens;
            assert_eq!(tokens.life(), Duration::from_secs(expected), "{expires_in}");
        };
        check("86399", 86_399);
        check("\"86400\"", 86_400);
        check("null", 3600);
        check("-5", 3600);
        check("1e300", 3600);
    }

    #[test]
    fn the_user_type_decides_whose_grant_it_is() {
        let check = |members: &str, expected: Option<&str>| {
            let body = format!(r#"{{"access_token":"a","refresh_token":"r",{members}}}"#);
            let id = token_reply(&body, NOW).expect("a grant").id.map(|id| id.to_string());
            assert_eq!(id.as_deref(), expected, "{members}");
        };
        check(r#""userType":"Location","locationId":"L","companyId":"C""#, Some("location L"));
        check(r#""userType":"Company","companyId":"C""#, Some("company C"));
        check(r#""locationId":"L","companyId":"C""#, Some("location L"));
        check(r#""companyId":"C""#, None);
    }

    #[test]
    fn what_is_shown_of_a_refusal_holds_no_token() {
        let jwt = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJhdXRoQ2xhc3MiOiJMb2NhdGlvbiJ9.c2ln";
        assert_eq!(one_line(&format!("bad\r\n\u{1b}[31m token \"{jwt}\" here")), "bad [31m token … here");
        assert_eq!(
            one_line("Contact not found for id:CCCCCCCCCCCCCCCCCCCC"),
            "Contact not found for id:CCCCCCCCCCCCCCCCCCCC"
        );
    }
}
