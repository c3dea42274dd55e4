//! The Python template's `ghl_tokens.json`: the token reply's own members and `expiry_timestamp`.
//!
//! Python wrote it with `json.dump(indent=4)`, not atomically, and once with a `datetime` that
//! `json` can't write: such a file ends behind `"expiry_timestamp": `. Whatever is whole before the
//! cut is read, and both tokens have to be. `expiry_timestamp` is naive local time, five minutes
//! before the true end.

use std::time::Duration;

use jiff::civil;
use jiff::tz::TimeZone;
use serde::Serializer as _;
use serde::ser::SerializeMap as _;
use serde_json::{Map, Value};
use tokens::{
    AccessToken, CompanyId, Installation, InstallationId, RefreshBy, RefreshToken, ReplyMembers, Timestamp,
    TokenSet,
};
use zeroize::Zeroizing;

use crate::jwt::Claims;
use crate::local_time;

/// How much too early the template's `expiry_timestamp` is.
const EARLY: Duration = Duration::from_secs(5 * 60);

/// The names that are not the reply's own, or that are kept apart from the rest of it.
const APART: [&str; 4] = ["access_token", "refresh_token", "expiry_timestamp", "ghl_auth"];

/// What a file of the template's holds.
#[derive(Clone, Debug)]
pub struct ReadTokens {
    /// Whose tokens they are.
    pub id: InstallationId,
    /// The tokens.
    pub tokens: TokenSet,
    /// The file ended in the middle, and both tokens were whole before that.
    pub cut_short: bool,
}

/// Why there is no grant in a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoTokens {
    /// Nothing is in it yet.
    #[error("it is empty")]
    Empty,
    /// It is sealed, and has to be opened as a store.
    #[error("it is sealed")]
    Sealed,
    /// Something is in it that is no grant.
    #[error("{0}")]
    Unusable(&'static str),
}

/// Reads the template's file, whole or cut short; also one of our own that is not sealed.
///
/// `written_at` is the file's own time, used where neither the file nor the token says when it
/// ends; `otherwise` is whose tokens they are where they do not say so themselves.
pub fn read_template(
    bytes: &[u8],
    written_at: Timestamp,
    otherwise: Option<&InstallationId>,
) -> Result<ReadTokens, NoTokens> {
    let text = text(bytes)?;
    let Scan { mut members, end } = scan(text)?;
    if members.contains_key("ghl_auth_sealed") {
        return Err(NoTokens::Sealed);
    }
    if members.is_empty() && end.is_some() {
        return Err(NoTokens::Empty);
    }
    let tokens = tokens_in(&mut members, written_at, &local_time::zone(), end.is_none())?;
    let id = owner(&members, &tokens, otherwise)?;
    Ok(ReadTokens { id, tokens, cut_short: end.is_none() })
}

/// Reads a token reply that someone else has kept: what HighLevel answered, as a JSON object.
///
/// `received_at` is when they got it, used where the token does not say when it ends; `otherwise` is
/// whose tokens they are where they do not say so themselves.
pub fn read_reply(
    mut members: Map<String, Value>,
    received_at: Timestamp,
    otherwise: Option<&InstallationId>,
) -> Result<ReadTokens, NoTokens> {
    let tokens = tokens_in(&mut members, received_at, &local_time::zone(), false)?;
    let id = owner(&members, &tokens, otherwise)?;
    Ok(ReadTokens { id, tokens, cut_short: false })
}

/// Writes the template's file: what Python reads, and nothing of our own.
pub fn to_template_json(installation: &Installation) -> Zeroizing<Vec<u8>> {
    render(Some(&installation.tokens), None::<&()>, &local_time::zone())
}

/// The text in a file, without the mark that some editors put in front.
pub(crate) fn text(bytes: &[u8]) -> Result<&str, NoTokens> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    // A cut, or a crash of the machine, may leave anything behind the whole members.
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
    };
    match text.trim().is_empty() {
        true if text.len() < bytes.len() => Err(NoTokens::Unusable("it is no text")),
        true => Err(NoTokens::Empty),
        false => Ok(text),
    }
}

/// The members of the JSON object that a text begins with.
pub(crate) struct Scan {
    /// Those that are whole.
    pub(crate) members: Map<String, Value>,
    /// Where the object ends; none when it was cut short or garbled.
    pub(crate) end: Option<usize>,
}

/// Reads members one by one, so that those before a cut are not lost.
pub(crate) fn scan(text: &str) -> Result<Scan, NoTokens> {
    let mut at = skip_blanks(text, 0);
    if !text[at..].starts_with('{') {
        return Err(NoTokens::Unusable("it is no JSON object"));
    }
    at += 1;
    let mut members = Map::new();
    loop {
        at = skip_blanks(text, at);
        if text[at..].starts_with('}') && members.is_empty() {
            return Ok(Scan { members, end: Some(at + 1) });
        }
        let Some((Value::String(name), after)) = value(text, at) else { break };
        at = skip_blanks(text, after);
        if !text[at..].starts_with(':') {
            break;
        }
        let Some((member, after)) = value(text, skip_blanks(text, at + 1)) else { break };
        members.insert(name, member);
        at = skip_blanks(text, after);
        match text[at..].chars().next() {
            Some(',') => at += 1,
            Some('}') => return Ok(Scan { members, end: Some(at + 1) }),
            _ => break,
        }
    }
    Ok(Scan { members, end: None })
}

fn skip_blanks(text: &str, at: usize) -> usize {
    at + text[at..].len() - text[at..].trim_start_matches([' ', '\t', '\r', '\n']).len()
}

/// One whole JSON value and where it ends. A number or word at the text's end may be half of one.
fn value(text: &str, at: usize) -> Option<(Value, usize)> {
    let mut values = serde_json::Deserializer::from_str(&text[at..]).into_iter::<Value>();
    let value = values.next()?.ok()?;
    let end = at + values.byte_offset();
    let delimits_itself = matches!(value, Value::String(_) | Value::Array(_) | Value::Object(_));
    (delimits_itself || end < text.len()).then_some((value, end))
}

/// Takes the tokens out of a file's members, and everything said with them.
pub(crate) fn tokens_in(
    members: &mut Map<String, Value>,
    written_at: Timestamp,
    zone: &TimeZone,
    cut_short: bool,
) -> Result<TokenSet, NoTokens> {
    let (no_refresh_token, no_access_token) = match cut_short {
        false => ("it holds no refresh token", "it holds no access token"),
        true => (
            "it ends in the middle, and no refresh token is whole before that",
            "it ends in the middle, and no access token is whole before that",
        ),
    };
    let refresh = take_text(members, "refresh_token").ok_or(NoTokens::Unusable(no_refresh_token))?;
    let refresh_by = RefreshBy::Own(RefreshToken::new(refresh));
    let access = take_text(members, "access_token").ok_or(NoTokens::Unusable(no_access_token))?;
    let claims = Claims::of(&access);
    let said = members.get("expiry_timestamp").and_then(Value::as_str).and_then(|text| true_end(text, zone));
    let life = members.get("expires_in").and_then(seconds);
    let expires_at = match (said, claims.expires_at()) {
        (Some(said), Some(claimed)) => said.min(claimed),
        (Some(end), None) | (None, Some(end)) => end,
        (None, None) => written_at + life.unwrap_or_default(),
    };
    let issued_at =
        claims.issued_at().unwrap_or_else(|| expires_at - life.unwrap_or_default()).min(expires_at);
    Ok(token_set(members, AccessToken::new(access), refresh_by, issued_at, expires_at))
}

/// Puts a set together from its tokens and times and a file's other members.
pub(crate) fn token_set(
    members: &Map<String, Value>,
    access: AccessToken,
    refresh_by: RefreshBy,
    issued_at: Timestamp,
    expires_at: Timestamp,
) -> TokenSet {
    let rest: Map<String, Value> = members
        .iter()
        .filter(|(name, _)| !APART.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    TokenSet {
        access,
        refresh_by,
        issued_at,
        expires_at,
        scopes: rest.get("scope").and_then(Value::as_str).unwrap_or_default().to_owned(),
        company: company(&rest),
        members: ReplyMembers::new(Value::Object(rest).to_string()),
    }
}

/// Takes a text that is not empty.
pub(crate) fn take_text(members: &mut Map<String, Value>, name: &str) -> Option<String> {
    match members.shift_remove(name) {
        Some(Value::String(text)) if !text.is_empty() => Some(text),
        _ => None,
    }
}

fn company(members: &Map<String, Value>) -> Option<CompanyId> {
    members.get("companyId").and_then(Value::as_str).and_then(|id| id.parse().ok())
}

/// Whose tokens they are: as the reply says, as the token says, or else as the configuration does.
pub(crate) fn owner(
    members: &Map<String, Value>,
    tokens: &TokenSet,
    otherwise: Option<&InstallationId>,
) -> Result<InstallationId, NoTokens> {
    let id = |kind, name| {
        let text = members.get(name).and_then(Value::as_str)?;
        InstallationId::from_parts(kind, text).ok()
    };
    let said = match members.get("userType").and_then(Value::as_str) {
        Some("Location") => id("location", "locationId"),
        Some("Company") => id("company", "companyId"),
        _ => None,
    };
    said.or_else(|| Claims::of(tokens.access.expose()).installation())
        .or_else(|| id("location", "locationId"))
        .or_else(|| otherwise.cloned())
        .ok_or(NoTokens::Unusable("its tokens name neither a location nor a company"))
}

/// The instant that the template's naive local time stands for; also one with an offset.
fn true_end(text: &str, zone: &TimeZone) -> Option<Timestamp> {
    if let Ok(instant) = text.parse::<jiff::Timestamp>() {
        return Some(Timestamp::from_millis(instant.as_millisecond()) + EARLY);
    }
    let naive: civil::DateTime = text.parse().ok()?;
    let instant = zone.to_ambiguous_zoned(naive).compatible().ok()?.timestamp();
    Some(Timestamp::from_millis(instant.as_millisecond()) + EARLY)
}

/// The template's naive local time for the instant at which a token ends.
fn naive_expiry(end: Timestamp, zone: &TimeZone) -> String {
    let early = (end - EARLY).as_millis().clamp(0, 253_000_000_000_000);
    let local =
        jiff::Timestamp::from_millisecond(early).unwrap_or_default().to_zoned(zone.clone()).datetime();
    let whole = local.strftime("%Y-%m-%dT%H:%M:%S");
    // Python's own `isoformat` leaves a fraction of zero away, and its 3.9 reads three or six digits.
    match local.subsec_nanosecond() / 1000 {
        0 => whole.to_string(),
        micros => format!("{whole}.{micros:06}"),
    }
}

fn seconds(value: &Value) -> Option<Duration> {
    let seconds = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())?;
    (0.0..1e9).contains(&seconds).then(|| Duration::from_secs_f64(seconds))
}

/// Writes a file: the reply's members in the reply's order, the expiry, and what is our own.
pub(crate) fn render(
    tokens: Option<&TokenSet>,
    own: Option<&impl serde::Serialize>,
    zone: &TimeZone,
) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(64 * 1024));
    write(&mut bytes, tokens, own, zone).expect("strings and numbers are always JSON");
    let mut bytes = escaped(bytes);
    bytes.push(b'\n');
    bytes
}

fn write(
    bytes: &mut Vec<u8>,
    tokens: Option<&TokenSet>,
    own: Option<&impl serde::Serialize>,
    zone: &TimeZone,
) -> Result<(), serde_json::Error> {
    let indent = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut json = serde_json::Serializer::with_formatter(bytes, indent);
    let mut map = json.serialize_map(None)?;
    if let Some(tokens) = tokens {
        let members = members(tokens);
        let first = ["token_type", "expires_in"];
        map.serialize_entry("access_token", tokens.access.expose())?;
        for name in first {
            if let Some(value) = members.get(name) {
                map.serialize_entry(name, value)?;
            }
        }
        if let Some(token) = tokens.refresh_token() {
            map.serialize_entry("refresh_token", token.expose())?;
        }
        for (name, value) in members.iter().filter(|(name, _)| !first.contains(&name.as_str())) {
            map.serialize_entry(name, value)?;
        }
        map.serialize_entry("expiry_timestamp", &naive_expiry(tokens.expires_at, zone))?;
    }
    if let Some(own) = own {
        map.serialize_entry("ghl_auth", own)?;
    }
    map.end()
}

/// The reply's other members, with scopes and company where the reply itself lacked them.
fn members(tokens: &TokenSet) -> Map<String, Value> {
    let mut members: Map<String, Value> = serde_json::from_str(tokens.members.expose()).unwrap_or_default();
    members.retain(|name, _| !APART.contains(&name.as_str()));
    if !members.contains_key("scope") && !tokens.scopes.is_empty() {
        members.insert("scope".to_owned(), Value::String(tokens.scopes.clone()));
    }
    if let (false, Some(company)) = (members.contains_key("companyId"), &tokens.company) {
        members.insert("companyId".to_owned(), Value::String(company.as_str().to_owned()));
    }
    members
}

/// Writes what is not ASCII the way Python does, so that no reader's encoding matters.
fn escaped(bytes: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    if bytes.is_ascii() {
        return bytes;
    }
    let text = std::str::from_utf8(&bytes).expect("JSON is UTF-8");
    let mut ascii = Zeroizing::new(Vec::with_capacity(bytes.len() * 2));
    for c in text.chars() {
        if c.is_ascii() {
            ascii.push(c as u8);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                ascii.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
            }
        }
    }
    ascii
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sao_paulo() -> TimeZone {
        TimeZone::fixed(jiff::tz::offset(-3))
    }

    #[test]
    fn the_naive_time_is_local_and_five_minutes_early() {
        let check = |text: &str, expected: Option<i64>| {
            let end = true_end(text, &sao_paulo()).map(|end| end.as_millis() / 1000);
            assert_eq!(end, expected.map(|seconds| seconds + 300), "{text}");
        };
        check("2025-06-15T12:06:40.123456", Some(1_750_000_000));
        check("2025-06-15T12:06:40", Some(1_750_000_000));
        check("2025-06-15 12:06:40", Some(1_750_000_000));
        check("2025-06-15T12:06:40-03:00", Some(1_750_000_000));
        check("2025-06-15T15:06:40Z", Some(1_750_000_000));
        check("soon", None);
        check("", None);
    }

    #[test]
    fn the_expiry_we_write_is_the_one_we_read() {
        for (millis, text) in [
            (1_750_000_300_000, "2025-06-15T12:06:40"),
            (1_750_000_300_123, "2025-06-15T12:06:40.123000"),
            (1_750_000_300_007, "2025-06-15T12:06:40.007000"),
        ] {
            let end = Timestamp::from_millis(millis);
            assert_eq!(naive_expiry(end, &sao_paulo()), text);
            assert_eq!(true_end(text, &sao_paulo()), Some(end));
        }
    }

    #[test]
    fn a_scan_keeps_the_members_before_a_cut() {
        let check = |text: &str, names: &[&str], whole: bool| {
            let scan = scan(text).expect("an object");
            assert_eq!(scan.members.keys().collect::<Vec<_>>(), names, "{text}");
            assert_eq!(scan.end.is_some(), whole, "{text}");
        };
        check("{}", &[], true);
        check("{", &[], false);
        check(r#"{"a": "x", "n": 86399}"#, &["a", "n"], true);
        check(r#"{"a": "x", "n": 863"#, &["a"], false);
        check(r#"{"a": "x", "n": 86399,"#, &["a", "n"], false);
        check(r#"{"a": "x", "b": "half"#, &["a"], false);
        check(r#"{"a": "x", "b": "whole""#, &["a", "b"], false);
        check("{\n    \"a\": \"x\",\n    \"expiry_timestamp\": ", &["a"], false);
        check(r#"{"a": "x"} trailing"#, &["a"], true);
        assert!(scan("[]").is_err());
        assert!(scan("null").is_err());
    }
}
