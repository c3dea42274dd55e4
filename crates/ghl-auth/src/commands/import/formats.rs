//! What other programs export, one grant after the other.
//!
//! - JSON lines: HighLevel's token reply, one a line.
//! - The official SDK's MongoDB documents (`@gohighlevel/api-client` 3.0.0): the reply's members beside
//!   `applicationId`, `resourceId`, `expire_at` (milliseconds), `createdAt` and `updatedAt`; as
//!   `mongoexport` writes them, a document a line or all in one array, dates and numbers wrapped.
//! - Nango's connections: `credentials` with `access_token`, `refresh_token`, `expires_at` and the reply
//!   itself as `raw`; one, a list of them, or `{"connections": […]}`.
//! - n8n's `export:credentials --decrypted`: a list; each grant is `data.oauthTokenData`.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use serde_json::{Map, Value};
use store::template::{NoTokens, ReadTokens, read_reply};
use tokens::{InstallationId, Timestamp};
use zeroize::Zeroizing;

use crate::cli::ImportFormat;

/// No line of a file that holds many is longer.
const LONGEST_LINE: u64 = 1024 * 1024;

/// A grant on its way in, or why there is none.
pub(super) struct Entry {
    /// Its line in a file of lines, or else its place in the list; counted from one.
    pub(super) number: usize,
    /// What its own program calls it, if anything.
    pub(super) name: Option<String>,
    pub(super) read: Result<ReadTokens, NoTokens>,
}

/// Which program wrote the file; none for the template's, which holds one grant. A format that was named
/// is taken for true.
pub(super) fn recognise(path: &Path, named: Option<ImportFormat>) -> io::Result<Option<ImportFormat>> {
    if let Some(named) = named {
        return Ok(Some(named).filter(|named| *named != ImportFormat::Template));
    }
    let first = match first_object(path)? {
        Some((object, is_alone)) => (object, is_alone),
        // Cut short, or nothing at all: the template's reader says so best.
        None => return Ok(None),
    };
    Ok(match (format_of(&first.0), first.1) {
        (Some(ImportFormat::JsonLines), true) => None,
        (Some(format), _) => Some(format),
        (None, true) => None,
        (None, false) => Some(ImportFormat::JsonLines),
    })
}

/// The program that writes such objects.
fn format_of(object: &Map<String, Value>) -> Option<ImportFormat> {
    let has = |name: &str| object.contains_key(name);
    if has("data") && has("type") {
        Some(ImportFormat::N8n)
    } else if has("credentials") || has("connections") {
        Some(ImportFormat::Nango)
    } else if has("resourceId") && has("applicationId") {
        Some(ImportFormat::MongoDb)
    } else if has("access_token") {
        Some(ImportFormat::JsonLines)
    } else {
        None
    }
}

/// The first object in a file, and whether it is alone there, neither in a list nor with others behind it.
fn first_object(path: &Path) -> io::Result<Option<(Map<String, Value>, bool)>> {
    let mut lines = Lines::open(path)?;
    let Some(first) = lines.next() else { return Ok(None) };
    if let Ok(Value::Object(object)) = serde_json::from_slice(&first?.1) {
        return Ok(Some((object, lines.next().is_none())));
    }
    // It goes on over several lines: a list, or one object written for people.
    Ok(match serde_json::from_slice(&whole(path)?) {
        Ok(Value::Object(object)) => Some((object, true)),
        Ok(Value::Array(list)) => list.into_iter().find_map(|item| match item {
            Value::Object(object) => Some((object, false)),
            _ => None,
        }),
        _ => None,
    })
}

fn whole(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    File::open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The lines of a file that are not empty, with their numbers.
struct Lines {
    file: BufReader<File>,
    number: usize,
}

impl Lines {
    fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: BufReader::new(File::open(path)?), number: 0 })
    }
}

impl Iterator for Lines {
    type Item = io::Result<(usize, Zeroizing<Vec<u8>>)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let mut line = Zeroizing::new(Vec::new());
            self.number += 1;
            match (&mut self.file).take(LONGEST_LINE).read_until(b'\n', &mut line) {
                Err(error) => return Some(Err(error)),
                Ok(0) => return None,
                Ok(_) if line.trim_ascii().is_empty() => {}
                Ok(_) => return Some(Ok((self.number, line))),
            }
        }
    }
}

/// The grants in a file, one after the other: of a file of lines, no more than one is in memory.
pub(super) fn entries(
    path: &Path,
    format: ImportFormat,
    written_at: Timestamp,
) -> io::Result<Box<dyn Iterator<Item = io::Result<Entry>>>> {
    let mut lines = Lines::open(path)?;
    let first = lines.next().transpose()?;
    let is_of_lines = first.is_some_and(|(_, line)| {
        matches!(serde_json::from_slice(&line), Ok(Value::Object(object)) if !object.contains_key("connections"))
    });
    if is_of_lines {
        let lines = Lines::open(path)?;
        return Ok(Box::new(lines.map(move |line| {
            line.map(|(number, line)| match serde_json::from_slice::<Value>(&line) {
                Ok(value) => entry(number, value, format, written_at),
                Err(_) => Entry { number, name: None, read: Err(NoTokens::Unusable("it is no JSON")) },
            })
        })));
    }
    let list = match serde_json::from_slice(&whole(path)?) {
        Ok(Value::Array(list)) => list,
        Ok(Value::Object(mut object)) => match object.shift_remove("connections") {
            Some(Value::Array(list)) => list,
            _ => vec![Value::Object(object)],
        },
        Ok(_) | Err(_) => {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no JSON"));
        }
    };
    Ok(Box::new(
        list.into_iter().enumerate().map(move |(at, value)| Ok(entry(at + 1, value, format, written_at))),
    ))
}

fn entry(number: usize, value: Value, format: ImportFormat, written_at: Timestamp) -> Entry {
    let Value::Object(object) = value else {
        return Entry { number, name: None, read: Err(NoTokens::Unusable("it is no JSON object")) };
    };
    let text = |name: &str| object.get(name).and_then(Value::as_str).map(str::to_owned);
    let name = match format {
        ImportFormat::MongoDb => text("resourceId"),
        ImportFormat::Nango => text("connection_id"),
        ImportFormat::N8n => text("id").or_else(|| text("name")),
        ImportFormat::Template | ImportFormat::JsonLines => None,
    };
    let read = match format {
        ImportFormat::Template | ImportFormat::JsonLines => read_reply(object, written_at, None),
        ImportFormat::MongoDb => mongo_db(object, written_at),
        ImportFormat::Nango => nango(object, written_at),
        ImportFormat::N8n => n8n(object, written_at),
    };
    Entry { number, name: name.map(|name| shown(&name)), read }
}

/// A name as it may be shown: short, and nothing for a terminal to obey.
fn shown(name: &str) -> String {
    name.chars().take(80).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn mongo_db(mut object: Map<String, Value>, written_at: Timestamp) -> Result<ReadTokens, NoTokens> {
    let resource = object.get("resourceId").and_then(Value::as_str).map(str::to_owned);
    let ends = object.get("expire_at").and_then(moment);
    let received_at = ["updatedAt", "createdAt"].iter().find_map(|name| object.get(*name).and_then(moment));
    for name in ["_id", "applicationId", "resourceId", "expire_at", "createdAt", "updatedAt"] {
        object.shift_remove(name);
    }
    if let Some(life) = object.get("expires_in").map(plain) {
        object.insert("expires_in".to_owned(), life);
    }
    let is = |name: &str| object.get(name).and_then(Value::as_str) == resource.as_deref();
    let kind = if is("companyId") && !is("locationId") { "company" } else { "location" };
    let otherwise = resource.as_deref().and_then(|id| InstallationId::from_parts(kind, id).ok());
    let received_at = received_at.or_else(|| before(ends?, &object)).unwrap_or(written_at);
    let read = read_reply(object, received_at, otherwise.as_ref())?;
    match resource {
        Some(resource) if resource != read.id.as_str() => {
            Err(NoTokens::Unusable("its tokens are not of the resource that it names"))
        }
        _ => Ok(read),
    }
}

fn nango(mut object: Map<String, Value>, written_at: Timestamp) -> Result<ReadTokens, NoTokens> {
    let received_at = ["credentials_refreshed_at", "last_fetched_at", "updated_at", "created_at"]
        .iter()
        .find_map(|name| object.get(*name).and_then(moment));
    let Some(Value::Object(mut credentials)) = object.shift_remove("credentials") else {
        return Err(NoTokens::Unusable("it has no credentials: fetch each connection by itself"));
    };
    let ends = credentials.get("expires_at").and_then(moment);
    let mut reply = match credentials.shift_remove("raw") {
        Some(Value::Object(raw)) => raw,
        _ => Map::new(),
    };
    // The raw reply is the newest, but the credentials are what Nango itself uses.
    for name in ["access_token", "refresh_token"] {
        if let Some(token) = credentials.shift_remove(name) {
            reply.insert(name.to_owned(), token);
        }
    }
    // What the connection was set up with may say whose it is.
    if let Some(Value::Object(config)) = object.shift_remove("connection_config") {
        for name in ["locationId", "companyId", "userType"] {
            if let (false, Some(value)) = (reply.contains_key(name), config.get(name)) {
                reply.insert(name.to_owned(), value.clone());
            }
        }
    }
    let received_at = before_or(ends, &reply, received_at, written_at);
    read_reply(reply, received_at, None)
}

fn n8n(mut object: Map<String, Value>, written_at: Timestamp) -> Result<ReadTokens, NoTokens> {
    let is_ours = object.get("type").and_then(Value::as_str).is_some_and(|kind| {
        kind.to_ascii_lowercase().contains("highlevel") || kind.eq_ignore_ascii_case("oAuth2Api")
    });
    if !is_ours {
        return Err(NoTokens::Unusable("it is a credential for another service"));
    }
    let received_at = ["updatedAt", "createdAt"].iter().find_map(|name| object.get(*name).and_then(moment));
    match object.shift_remove("data") {
        Some(Value::Object(mut data)) => match data.shift_remove("oauthTokenData") {
            Some(Value::Object(reply)) => read_reply(reply, received_at.unwrap_or(written_at), None),
            _ => Err(NoTokens::Unusable("nobody has connected it yet")),
        },
        Some(Value::String(_)) => Err(NoTokens::Unusable("it is encrypted: export it with --decrypted")),
        _ => Err(NoTokens::Unusable("nobody has connected it yet")),
    }
}

/// When a token was issued that ends at `ends`, where its reply says for how long it was to live.
fn before(ends: Timestamp, reply: &Map<String, Value>) -> Option<Timestamp> {
    let life = reply.get("expires_in").map(plain)?.as_u64()?;
    Some(ends - std::time::Duration::from_secs(life))
}

fn before_or(
    ends: Option<Timestamp>,
    reply: &Map<String, Value>,
    received_at: Option<Timestamp>,
    written_at: Timestamp,
) -> Timestamp {
    ends.and_then(|ends| before(ends, reply)).or(received_at).unwrap_or(written_at)
}

/// A number as `mongoexport` writes it, bare or wrapped.
fn plain(value: &Value) -> Value {
    let wrapped = ["$numberInt", "$numberLong", "$numberDouble"].iter().find_map(|name| value.get(*name));
    match wrapped.and_then(Value::as_str).and_then(|text| text.parse::<f64>().ok()) {
        Some(number) if number >= 0.0 => Value::from(number as u64),
        _ => value.clone(),
    }
}

/// An instant: RFC 3339, milliseconds since 1970, or either of them wrapped as `mongoexport` does.
fn moment(value: &Value) -> Option<Timestamp> {
    match value.get("$date").map_or_else(|| plain(value), plain) {
        Value::String(text) => {
            let at: jiff::Timestamp = text.parse().ok()?;
            Some(Timestamp::from_millis(at.as_millisecond()))
        }
        Value::Number(millis) => {
            // In seconds it would be a day of January 1970.
            let millis = millis.as_i64().or_else(|| Some(millis.as_f64()? as i64))?;
            (millis > 100_000_000_000).then(|| Timestamp::from_millis(millis))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_instant_is_read_however_it_is_wrapped() {
        let expected = Some(Timestamp::from_millis(1_750_000_000_123));
        for value in [
            json!(1_750_000_000_123_i64),
            json!("2025-06-15T15:06:40.123Z"),
            json!({ "$date": "2025-06-15T15:06:40.123Z" }),
            json!({ "$date": { "$numberLong": "1750000000123" } }),
            json!({ "$numberLong": "1750000000123" }),
            json!({ "$numberDouble": "1750000000123.0" }),
        ] {
            assert_eq!(moment(&value), expected, "{value}");
        }
        for value in [json!(86_399), json!("soon"), json!(null), json!({})] {
            assert_eq!(moment(&value), None, "{value}");
        }
    }

    #[test]
    fn each_program_s_objects_are_known_by_their_members() {
        let check = |object: Value, expected| {
            let Value::Object(object) = object else { panic!("an object") };
            assert_eq!(format_of(&object), expected);
        };
        check(json!({ "access_token": "x" }), Some(ImportFormat::JsonLines));
        check(
            json!({ "applicationId": "a", "resourceId": "L1", "access_token": "x" }),
            Some(ImportFormat::MongoDb),
        );
        check(json!({ "connection_id": "c", "credentials": {} }), Some(ImportFormat::Nango));
        check(json!({ "connections": [] }), Some(ImportFormat::Nango));
        check(json!({ "id": "1", "type": "highLevelOAuth2Api", "data": {} }), Some(ImportFormat::N8n));
        check(json!({ "ghl_auth_sealed": 1 }), None);
    }
}
