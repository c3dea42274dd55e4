//! Rows become nouns. A row that is none names itself.

use std::collections::BTreeSet;
use std::time::Duration;

use tokens::records::{
    AuditLine, Delivery, DeliveryState, Habits, KeyId, KeyRecord, KeyUse, Maintenance, Permits, QueuedEvent,
    Reach, Session, Visit,
};
use tokens::store::Stand;
use tokens::{
    CheckRecord, Episode, Health, InstallationId, Notice, NoticeKind, Standing, StepRecord, StoreError,
    Subject, Timestamp, Trigger, Version,
};
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use super::super::pool::Failure;
use crate::records::{end_from_rest, rights};

type Done<T> = Result<T, Failure>;

pub(super) fn key(row: &Row) -> Done<KeyRecord> {
    let (verbs, reach): (String, Option<String>) = (get(row, "verbs")?, get(row, "reach")?);
    let (lane, allowed): (String, String) = (get(row, "lane")?, get(row, "allowed")?);
    let (verbs, lane, allowed) = rights(&verbs, &lane, &allowed);
    let reach = match reach {
        None => Reach::All,
        Some(text) => {
            let ids: Vec<(String, String)> =
                serde_json::from_str(&text).map_err(|error| odd("keys", error))?;
            let ids = ids.iter().map(|(kind, id)| installation(kind, id)).collect::<Done<BTreeSet<_>>>()?;
            Reach::These(ids)
        }
    };
    let used: (Option<i64>, Option<String>) = (get(row, "used_at")?, get(row, "used_from")?);
    Ok(KeyRecord {
        id: KeyId(get(row, "id")?),
        name: get(row, "name")?,
        hash: digest(row, "hash")?,
        verbs,
        reach,
        lane,
        allowed,
        created_at: at(row, "created_at")?,
        expires_at: maybe_at(row, "expires_at")?,
        revoked_at: maybe_at(row, "revoked_at")?,
        last_use: used.0.zip(used.1).map(|(at, source)| KeyUse { at: Timestamp::from_millis(at), source }),
    })
}

pub(super) fn permits(row: &Row) -> Done<Permits> {
    let [granted, taken, wait] = ["granted", "taken", "wait"].map(|column| get::<i64>(row, column));
    let whole = |number: i64| u32::try_from(number).unwrap_or_default();
    let wait = Duration::from_micros(u64::try_from(wait?).unwrap_or_default());
    Ok(Permits { granted: whole(granted?), taken: whole(taken?), wait })
}

pub(super) fn habits(row: &Row) -> Done<Habits> {
    Ok(Habits {
        key: KeyId(get(row, "id")?),
        name: get(row, "name")?,
        has_read: get(row, "has_read")?,
        newly_read: count(row, "newly_read")?,
        has_come: get(row, "has_come")?,
        new_source: get(row, "new_source")?,
    })
}

pub(super) fn audit_line(row: &Row) -> Done<AuditLine> {
    Ok(AuditLine {
        at: at(row, "at")?,
        key: KeyId(get(row, "key")?),
        id: whose(row)?,
        generation: count(row, "generation")?,
        count: count(row, "count")?,
        request_id: get(row, "request_id")?,
    })
}

pub(super) fn check(row: &Row) -> Done<CheckRecord> {
    let steps: String = get(row, "steps")?;
    let steps: Vec<(String, bool, u64, Option<String>)> =
        serde_json::from_str(&steps).map_err(|error| odd("checks", error))?;
    let steps = steps.into_iter().map(|(name, ok, took, trace_id)| StepRecord {
        name,
        ok,
        took: Duration::from_millis(took),
        trace_id,
    });
    Ok(CheckRecord {
        id: whose(row)?,
        at: at(row, "at")?,
        took: Duration::from_millis(count(row, "took_ms")?),
        trigger: word(row, "cause", Trigger::from_word)?,
        health: word(row, "health", Health::from_word)?,
        code: get(row, "code")?,
        said: get(row, "said")?,
        steps: steps.collect(),
    })
}

pub(super) fn standing(row: &Row) -> Done<Standing> {
    let changes: Vec<i64> = get(row, "changes")?;
    Ok(Standing {
        subject: subject(row)?,
        revision: count(row, "revision")?,
        health: word(row, "health", Health::from_word)?,
        since: at(row, "since")?,
        failures: count(row, "failures")?,
        code: get(row, "code")?,
        said: get(row, "said")?,
        told: word(row, "told", Health::from_word)?,
        told_at: maybe_at(row, "told_at")?,
        changes: changes.into_iter().map(Timestamp::from_millis).collect(),
    })
}

pub(super) fn notice(row: &Row) -> Done<Notice> {
    Ok(Notice {
        id: get(row, "notice")?,
        at: at(row, "at")?,
        subject: subject(row)?,
        kind: word(row, "tells", NoticeKind::from_word)?,
        health: word(row, "health", Health::from_word)?,
        since: at(row, "since")?,
        code: get(row, "code")?,
        said: get(row, "said")?,
    })
}

pub(super) fn delivery(row: &Row) -> Done<Delivery> {
    Ok(Delivery { notice: notice(row)?, way: get(row, "way")?, attempts: count(row, "attempts")? })
}

pub(super) fn delivery_state(row: &Row) -> Done<DeliveryState> {
    Ok(DeliveryState {
        way: get(row, "way")?,
        attempts: count(row, "attempts")?,
        delivered_at: maybe_at(row, "delivered_at")?,
        said: get(row, "said")?,
    })
}

pub(super) fn episode(row: &Row) -> Done<Episode> {
    Ok(Episode {
        id: whose(row)?,
        at: at(row, "at")?,
        version: Version { epoch: count(row, "epoch")?, generation: count(row, "generation")? },
        expires_at: at(row, "expires_at")?,
        stand: word(row, "stand", Stand::from_word)?,
        said: get(row, "said")?,
    })
}

pub(super) fn maintenance(row: &Row) -> Done<Maintenance> {
    let kind: Option<String> = get(row, "kind")?;
    Ok(Maintenance {
        id: get(row, "maintenance")?,
        subject: kind.map(|_| subject(row)).transpose()?,
        from: at(row, "from_at")?,
        until: end_from_rest(at(row, "until_at")?),
        reason: get(row, "reason")?,
    })
}

pub(super) fn visit(row: &Row) -> Done<Visit> {
    Ok(Visit {
        state: digest(row, "state")?,
        browser: digest(row, "browser")?,
        expires_at: at(row, "expires_at")?,
    })
}

pub(super) fn session(row: &Row) -> Done<Session> {
    let key: Option<String> = get(row, "key")?;
    Ok(Session {
        cookie: digest(row, "cookie")?,
        key: key.map(KeyId),
        began_at: at(row, "began_at")?,
        used_at: at(row, "used_at")?,
    })
}

pub(super) fn event(row: &Row) -> Done<QueuedEvent> {
    let body: Option<Vec<u8>> = get(row, "body")?;
    Ok(QueuedEvent {
        id: get(row, "event")?,
        kind: get(row, "kind")?,
        body: String::from_utf8(body.unwrap_or_default()).map_err(|error| odd("events", error))?,
        received_at: at(row, "received_at")?,
        attempts: count(row, "attempts")?,
    })
}

fn subject(row: &Row) -> Done<Subject> {
    let kind: String = get(row, "kind")?;
    match kind.as_str() {
        "service" => Ok(Subject::Service),
        "checks" => Ok(Subject::Checks(None)),
        "location checks" | "company checks" => {
            let id: String = get(row, "id")?;
            installation(kind.trim_end_matches(" checks"), &id).map(|id| Subject::Checks(Some(id)))
        }
        _ => whose(row).map(Subject::Installation),
    }
}

pub(super) fn whose(row: &Row) -> Done<InstallationId> {
    let (kind, id): (String, String) = (get(row, "kind")?, get(row, "id")?);
    installation(&kind, &id)
}

fn installation(kind: &str, id: &str) -> Done<InstallationId> {
    InstallationId::from_parts(kind, id).map_err(|error| odd("ids", error))
}

fn digest(row: &Row, column: &'static str) -> Done<[u8; 32]> {
    let bytes: Vec<u8> = get(row, column)?;
    bytes.try_into().map_err(|_| odd(column, "it is not 32 bytes long"))
}

pub(super) fn at(row: &Row, column: &'static str) -> Done<Timestamp> {
    get(row, column).map(Timestamp::from_millis)
}

fn maybe_at(row: &Row, column: &'static str) -> Done<Option<Timestamp>> {
    Ok(get::<Option<i64>>(row, column)?.map(Timestamp::from_millis))
}

pub(super) fn count<T: TryFrom<i64>>(row: &Row, column: &'static str) -> Done<T> {
    let number: i64 = get(row, column)?;
    T::try_from(number).map_err(|_| odd(column, format!("{number} is no count")))
}

fn word<T>(row: &Row, column: &'static str, from_word: fn(&str) -> Option<T>) -> Done<T> {
    let word: String = get(row, column)?;
    from_word(&word).ok_or_else(|| odd(column, format!("`{word}` is no {column}")))
}

pub(super) fn get<'a, T: FromSql<'a>>(row: &'a Row, column: &'static str) -> Done<T> {
    Ok(row.try_get(column)?)
}

fn odd(what: &str, why: impl ToString) -> Failure {
    StoreError::Unreadable { place: format!("the records' {what}"), why: why.to_string() }.into()
}
