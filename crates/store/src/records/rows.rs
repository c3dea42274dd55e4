//! The statements, one function for each method of `Records`.

use std::collections::BTreeSet;
use std::time::Duration;

use rusqlite::types::Type;
use rusqlite::{OptionalExtension as _, Row, Transaction, named_params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokens::records::{
    AuditLine, CheckQuery, Delivery, DeliveryState, Habits, KeyId, KeyRecord, KeyUse, LONGEST_WAIT,
    Maintenance, QueuedEvent, Reach, Session, Visit,
};
use tokens::store::Stand;
use tokens::{
    CheckRecord, Day, Episode, Health, InstallationId, Notice, NoticeKind, Standing, StepRecord, Subject,
    Timestamp, Trigger, Version,
};

/// How long an event is known when it comes again: longer than HighLevel sends one again.
pub(crate) const EVENTS_KNOWN_FOR: Duration = Duration::from_secs(7 * 24 * 60 * 60);

use super::{end_at_rest, end_from_rest, lines_of, rights};

type Done<T> = Result<T, rusqlite::Error>;

pub(super) fn add_key(rows: &Transaction<'_>, key: &KeyRecord) -> Done<()> {
    let verbs: Vec<&str> = key.verbs.iter().map(|verb| verb.as_str()).collect();
    let reach = match &key.reach {
        Reach::All => None,
        Reach::These(ids) => Some(json(&ids.iter().map(|id| (id.kind(), id.as_str())).collect::<Vec<_>>())),
    };
    rows.prepare_cached(
        "INSERT INTO keys (id, name, hash, verbs, reach, lane, allowed, created_at, expires_at, revoked_at)
         VALUES (:id, :name, :hash, :verbs, :reach, :lane, :allowed, :created_at, :expires_at, :revoked_at)",
    )?
    .execute(named_params! {
        ":id": key.id.0,
        ":name": key.name,
        ":hash": key.hash,
        ":verbs": verbs.join(" "),
        ":reach": reach,
        ":lane": key.lane.as_str(),
        ":allowed": lines_of(&key.allowed),
        ":created_at": key.created_at.as_millis(),
        ":expires_at": key.expires_at.map(Timestamp::as_millis),
        ":revoked_at": key.revoked_at.map(Timestamp::as_millis),
    })?;
    keys_changed(rows)
}

fn keys_changed(rows: &Transaction<'_>) -> Done<()> {
    rows.execute("UPDATE counters SET value = value + 1 WHERE name = 'keys'", []).map(drop)
}

pub(super) fn keys(rows: &Transaction<'_>, unless: Option<u64>) -> Done<Option<(Vec<KeyRecord>, u64)>> {
    let mut mark = rows.prepare_cached("SELECT value FROM counters WHERE name = 'keys'")?;
    let mark: u64 = mark.query_row([], |row| row.get(0))?;
    if unless == Some(mark) {
        return Ok(None);
    }
    let mut statement = rows.prepare_cached("SELECT * FROM keys ORDER BY created_at, id")?;
    let keys = statement.query_map([], key)?.collect::<Done<Vec<_>>>()?;
    Ok(Some((keys, mark)))
}

fn key(row: &Row<'_>) -> Done<KeyRecord> {
    let [verbs, lane, allowed] = ["verbs", "lane", "allowed"].map(|column| row.get::<_, String>(column));
    let (verbs, lane, allowed) = rights(&verbs?, &lane?, &allowed?);
    let reach: Option<String> = row.get("reach")?;
    let reach = match reach {
        None => Reach::All,
        Some(text) => {
            let ids: Vec<(String, String)> = from_json(&text)?;
            let ids = ids.iter().map(|(kind, id)| installation(kind, id)).collect::<Done<BTreeSet<_>>>()?;
            Reach::These(ids)
        }
    };
    let used: (Option<i64>, Option<String>) = (row.get("used_at")?, row.get("used_from")?);
    Ok(KeyRecord {
        id: KeyId(row.get("id")?),
        name: row.get("name")?,
        hash: row.get("hash")?,
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

pub(super) fn revoke_key(rows: &Transaction<'_>, id: &KeyId, now: Timestamp) -> Done<bool> {
    let revoked = rows
        .prepare_cached("UPDATE keys SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL")?
        .execute((&id.0, now.as_millis()))?;
    keys_changed(rows)?;
    Ok(revoked == 1)
}

pub(super) fn note_uses(rows: &Transaction<'_>, uses: &[(KeyId, KeyUse)]) -> Done<()> {
    let mut statement = rows.prepare_cached(
        "UPDATE keys SET used_at = ?2, used_from = ?3 WHERE id = ?1 AND coalesce(used_at, 0) <= ?2",
    )?;
    for (id, used) in uses {
        statement.execute((&id.0, used.at.as_millis(), &used.source))?;
        rows.prepare_cached("INSERT INTO sources VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")?.execute((
            &id.0,
            &used.source,
            used.at.as_millis(),
        ))?;
    }
    Ok(())
}

pub(super) fn habits(rows: &Transaction<'_>, since: Timestamp) -> Done<Vec<Habits>> {
    let mut statement = rows.prepare_cached(
        "SELECT id, name,
             (SELECT count(*) FROM (
                 SELECT DISTINCT kind, id FROM audit WHERE at >= ?1 AND +key = keys.id) AS recent
              WHERE NOT EXISTS (
                 SELECT * FROM audit WHERE key = keys.id AND kind = recent.kind AND id = recent.id
                     AND at < ?1)) AS newly_read,
             EXISTS (SELECT * FROM audit WHERE key = keys.id AND at < ?1) AS has_read,
             (SELECT source FROM sources WHERE key = keys.id AND first_at >= ?1
              ORDER BY first_at LIMIT 1) AS new_source,
             EXISTS (SELECT * FROM sources WHERE key = keys.id AND first_at < ?1) AS has_come
         FROM keys WHERE revoked_at IS NULL ORDER BY id",
    )?;
    let found = statement.query_map([since.as_millis()], |row| {
        Ok(Habits {
            key: KeyId(row.get("id")?),
            name: row.get("name")?,
            has_read: row.get("has_read")?,
            newly_read: row.get("newly_read")?,
            has_come: row.get("has_come")?,
            new_source: row.get("new_source")?,
        })
    })?;
    found.collect()
}

pub(super) fn audit(rows: &Transaction<'_>, lines: &[AuditLine]) -> Done<()> {
    let mut statement = rows.prepare_cached(
        "INSERT INTO audit VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (at, key, kind, id, generation) WHERE request_id IS NULL
             DO UPDATE SET count = count + excluded.count",
    )?;
    for line in lines {
        statement.execute((
            line.at.as_millis(),
            &line.key.0,
            line.id.kind(),
            line.id.as_str(),
            line.generation,
            line.count,
            &line.request_id,
        ))?;
    }
    Ok(())
}

pub(super) fn audited(rows: &Transaction<'_>, limit: usize) -> Done<Vec<AuditLine>> {
    let mut statement = rows.prepare_cached("SELECT * FROM audit ORDER BY at DESC, rowid DESC LIMIT ?1")?;
    let lines = statement.query_map([limit], |row| {
        Ok(AuditLine {
            at: at(row, "at")?,
            key: KeyId(row.get("key")?),
            id: whose(row)?,
            generation: row.get("generation")?,
            count: row.get("count")?,
            request_id: row.get("request_id")?,
        })
    })?;
    lines.collect()
}

pub(super) fn add_check(rows: &Transaction<'_>, check: &CheckRecord) -> Done<()> {
    let steps: Vec<_> = check
        .steps
        .iter()
        .map(|step| (&step.name, step.ok, millis(step.took), step.trace_id.as_deref()))
        .collect();
    rows.prepare_cached(
        "INSERT INTO checks VALUES (:kind, :id, :at, :took_ms, :cause, :health, :code, :said, :steps)",
    )?
    .execute(named_params! {
        ":kind": check.id.kind(),
        ":id": check.id.as_str(),
        ":at": check.at.as_millis(),
        ":took_ms": millis(check.took),
        ":cause": check.trigger.as_str(),
        ":health": check.health.as_str(),
        ":code": check.code,
        ":said": check.said,
        ":steps": json(&steps),
    })?;
    Ok(())
}

pub(super) fn checks(rows: &Transaction<'_>, query: &CheckQuery) -> Done<Vec<CheckRecord>> {
    let (before, limit) = (query.before.map_or(i64::MAX, Timestamp::as_millis), query.limit);
    // Each has an index of its own.
    match &query.id {
        Some(id) => rows
            .prepare_cached(
                "SELECT * FROM checks WHERE kind = ?1 AND id = ?2 AND at < ?3
                 ORDER BY at DESC, rowid DESC LIMIT ?4",
            )?
            .query_map((id.kind(), id.as_str(), before, limit), check)?
            .collect(),
        None => rows
            .prepare_cached("SELECT * FROM checks WHERE at < ?1 ORDER BY at DESC, rowid DESC LIMIT ?2")?
            .query_map((before, limit), check)?
            .collect(),
    }
}

fn check(row: &Row<'_>) -> Done<CheckRecord> {
    let steps: String = row.get("steps")?;
    let steps: Vec<(String, bool, u64, Option<String>)> = from_json(&steps)?;
    let steps = steps.into_iter().map(|(name, ok, took, trace_id)| StepRecord {
        name,
        ok,
        took: Duration::from_millis(took),
        trace_id,
    });
    Ok(CheckRecord {
        id: whose(row)?,
        at: at(row, "at")?,
        took: Duration::from_millis(row.get("took_ms")?),
        trigger: word(row, "cause", Trigger::from_word)?,
        health: word(row, "health", Health::from_word)?,
        code: row.get("code")?,
        said: row.get("said")?,
        steps: steps.collect(),
    })
}

/// So many lines of an installation's history are kept.
pub(crate) const EPISODES_KEPT: i64 = 50;

pub(super) fn note_episode(rows: &Transaction<'_>, episode: &Episode) -> Done<()> {
    let (kind, id) = (episode.id.kind(), episode.id.as_str());
    let added = rows
        .prepare_cached("INSERT OR IGNORE INTO history VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?
        .execute((
            kind,
            id,
            episode.at.as_millis(),
            episode.version.epoch,
            episode.version.generation,
            episode.expires_at.as_millis(),
            episode.stand.as_str(),
            &episode.said,
        ))?;
    if added == 1 {
        rows.prepare_cached(
            "DELETE FROM history WHERE kind = ?1 AND id = ?2 AND at <
                 (SELECT at FROM history WHERE kind = ?1 AND id = ?2 ORDER BY at DESC LIMIT 1 OFFSET ?3)",
        )?
        .execute((kind, id, EPISODES_KEPT - 1))?;
    }
    Ok(())
}

pub(super) fn history(rows: &Transaction<'_>, id: &InstallationId, limit: usize) -> Done<Vec<Episode>> {
    rows.prepare_cached(
        "SELECT * FROM history WHERE kind = ?1 AND id = ?2 ORDER BY at DESC, generation DESC LIMIT ?3",
    )?
    .query_map((id.kind(), id.as_str(), limit), |row| {
        Ok(Episode {
            id: whose(row)?,
            at: at(row, "at")?,
            version: Version { epoch: row.get("epoch")?, generation: row.get("generation")? },
            expires_at: at(row, "expires_at")?,
            stand: word(row, "stand", Stand::from_word)?,
            said: row.get("said")?,
        })
    })?
    .collect()
}

pub(super) fn standings(rows: &Transaction<'_>) -> Done<Vec<Standing>> {
    let mut statement = rows.prepare_cached("SELECT * FROM standings ORDER BY kind DESC, id")?;
    statement.query_map([], standing)?.collect()
}

pub(super) fn troubled(rows: &Transaction<'_>, limit: usize) -> Done<Vec<Standing>> {
    let mut statement = rows.prepare_cached(
        "SELECT * FROM standings WHERE health <> 'operational' ORDER BY since DESC, kind, id LIMIT ?1",
    )?;
    statement.query_map([limit], standing)?.collect()
}

fn standing(row: &Row<'_>) -> Done<Standing> {
    let changes: String = row.get("changes")?;
    let changes: Vec<i64> = from_json(&changes)?;
    Ok(Standing {
        subject: subject(row)?,
        revision: row.get("revision")?,
        health: word(row, "health", Health::from_word)?,
        since: at(row, "since")?,
        failures: row.get("failures")?,
        code: row.get("code")?,
        said: row.get("said")?,
        told: word(row, "told", Health::from_word)?,
        told_at: maybe_at(row, "told_at")?,
        changes: changes.into_iter().map(Timestamp::from_millis).collect(),
    })
}

pub(super) fn tell(
    rows: &Transaction<'_>,
    standing: &Standing,
    notice: Option<&Notice>,
    ways: &[String],
) -> Done<bool> {
    let (kind, id) = parts(&standing.subject);
    let changes: Vec<i64> = standing.changes.iter().map(|at| at.as_millis()).collect();
    // The first revision makes the row; every other finds the one before it, or nothing.
    let sql = match standing.revision {
        1 => {
            "INSERT INTO standings VALUES (:kind, :id, :revision, :health, :since, :failures, :code, :said,
                 :told, :told_at, :changes)
             ON CONFLICT (kind, id) DO NOTHING"
        }
        _ => {
            "UPDATE standings SET revision = :revision, health = :health, since = :since,
                 failures = :failures, code = :code, said = :said, told = :told, told_at = :told_at,
                 changes = :changes
             WHERE kind = :kind AND id = :id AND revision = :revision - 1"
        }
    };
    let changed = rows.prepare_cached(sql)?.execute(named_params! {
        ":kind": kind,
        ":id": id,
        ":revision": standing.revision,
        ":health": standing.health.as_str(),
        ":since": standing.since.as_millis(),
        ":failures": standing.failures,
        ":code": standing.code,
        ":said": standing.said,
        ":told": standing.told.as_str(),
        ":told_at": standing.told_at.map(Timestamp::as_millis),
        ":changes": json(&changes),
    })?;
    if changed == 1
        && let Some(notice) = notice
    {
        put_out(rows, notice, ways)?;
    }
    Ok(changed == 1)
}

fn put_out(rows: &Transaction<'_>, notice: &Notice, ways: &[String]) -> Done<()> {
    let (kind, id) = parts(&notice.subject);
    rows.prepare_cached("INSERT INTO notices VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?.execute((
        &notice.id,
        notice.at.as_millis(),
        kind,
        id,
        notice.kind.as_str(),
        notice.health.as_str(),
        notice.since.as_millis(),
        &notice.code,
        &notice.said,
    ))?;
    let mut statement =
        rows.prepare_cached("INSERT INTO deliveries (notice, way, attempts, due_at) VALUES (?1, ?2, 0, ?3)")?;
    for way in ways {
        statement.execute((&notice.id, way, notice.at.as_millis()))?;
    }
    Ok(())
}

pub(super) fn claim_deliveries(
    rows: &Transaction<'_>,
    now: Timestamp,
    lease_until: Timestamp,
    limit: usize,
) -> Done<Vec<Delivery>> {
    let mut statement = rows.prepare_cached(
        "SELECT notices.*, way, attempts FROM deliveries JOIN notices USING (notice)
         WHERE delivered_at IS NULL AND (due_at <= ?1 OR due_at > ?3)
             AND NOT EXISTS (
                 SELECT * FROM deliveries AS earlier JOIN notices AS before USING (notice)
                 WHERE earlier.delivered_at IS NULL AND earlier.way = deliveries.way
                     AND before.kind = notices.kind AND before.id = notices.id
                     AND before.rowid < notices.rowid)
         ORDER BY due_at, way LIMIT ?2",
    )?;
    let never = now + LONGEST_WAIT * 2;
    let due = statement.query_map((now.as_millis(), limit, never.as_millis()), |row| {
        Ok(Delivery { notice: notice(row)?, way: row.get("way")?, attempts: row.get("attempts")? })
    })?;
    let due = due.collect::<Done<Vec<_>>>()?;
    let mut lease =
        rows.prepare_cached("UPDATE deliveries SET due_at = ?3 WHERE notice = ?1 AND way = ?2")?;
    for delivery in &due {
        lease.execute((&delivery.notice.id, &delivery.way, lease_until.as_millis()))?;
    }
    Ok(due)
}

pub(super) fn delivered(rows: &Transaction<'_>, delivery: &Delivery, now: Timestamp) -> Done<()> {
    rows.prepare_cached(
        "UPDATE deliveries SET delivered_at = ?3, attempts = attempts + 1, said = NULL
         WHERE notice = ?1 AND way = ?2",
    )?
    .execute((&delivery.notice.id, &delivery.way, now.as_millis()))
    .map(drop)
}

pub(super) fn put_off(rows: &Transaction<'_>, delivery: &Delivery, until: Timestamp, said: &str) -> Done<()> {
    rows.prepare_cached(
        "UPDATE deliveries SET due_at = ?3, attempts = attempts + 1, said = ?4
         WHERE notice = ?1 AND way = ?2 AND delivered_at IS NULL",
    )?
    .execute((&delivery.notice.id, &delivery.way, until.as_millis(), said))
    .map(drop)
}

pub(super) fn notices(rows: &Transaction<'_>, limit: usize) -> Done<Vec<(Notice, Vec<DeliveryState>)>> {
    let mut statement = rows.prepare_cached("SELECT * FROM notices ORDER BY at DESC, rowid DESC LIMIT ?1")?;
    let found = statement.query_map([limit], notice)?.collect::<Done<Vec<_>>>()?;
    let mut ways = rows.prepare_cached("SELECT * FROM deliveries WHERE notice = ?1 ORDER BY way")?;
    let with_ways = found.into_iter().map(|notice| {
        let states = ways.query_map([&notice.id], |row| {
            Ok(DeliveryState {
                way: row.get("way")?,
                attempts: row.get("attempts")?,
                delivered_at: maybe_at(row, "delivered_at")?,
                said: row.get("said")?,
            })
        })?;
        let states = states.collect::<Done<Vec<_>>>()?;
        Ok((notice, states))
    });
    with_ways.collect()
}

fn notice(row: &Row<'_>) -> Done<Notice> {
    Ok(Notice {
        id: row.get("notice")?,
        at: at(row, "at")?,
        subject: subject(row)?,
        kind: word(row, "tells", NoticeKind::from_word)?,
        health: word(row, "health", Health::from_word)?,
        since: at(row, "since")?,
        code: row.get("code")?,
        said: row.get("said")?,
    })
}

pub(super) fn plan_maintenance(rows: &Transaction<'_>, window: &Maintenance) -> Done<()> {
    let (kind, id) = window.subject.as_ref().map(parts).unzip();
    rows.prepare_cached("INSERT INTO maintenances VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
        .execute((&window.id, kind, id, window.from.as_millis(), end_at_rest(window.until), &window.reason))
        .map(drop)
}

pub(super) fn end_maintenance(rows: &Transaction<'_>, id: &str, now: Timestamp) -> Done<bool> {
    let ended = rows
        .prepare_cached("UPDATE maintenances SET until_at = ?2 WHERE maintenance = ?1 AND until_at > ?2")?
        .execute((id, now.as_millis()))?;
    Ok(ended == 1)
}

pub(super) fn maintenances(rows: &Transaction<'_>, now: Timestamp) -> Done<Vec<Maintenance>> {
    let mut statement =
        rows.prepare_cached("SELECT * FROM maintenances WHERE until_at > ?1 ORDER BY from_at, maintenance")?;
    let found = statement.query_map([now.as_millis()], |row| {
        let kind: Option<String> = row.get("kind")?;
        Ok(Maintenance {
            id: row.get("maintenance")?,
            subject: kind.map(|_| subject(row)).transpose()?,
            from: at(row, "from_at")?,
            until: end_from_rest(at(row, "until_at")?),
            reason: row.get("reason")?,
        })
    })?;
    found.collect()
}

pub(super) fn open_visit(rows: &Transaction<'_>, visit: &Visit) -> Done<()> {
    rows.prepare_cached("INSERT INTO visits VALUES (?1, ?2, ?3)")?
        .execute((visit.state, visit.browser, visit.expires_at.as_millis()))
        .map(drop)
}

pub(super) fn take_visit(rows: &Transaction<'_>, state: [u8; 32], now: Timestamp) -> Done<Option<Visit>> {
    rows.prepare_cached("DELETE FROM visits WHERE state = ?1 AND expires_at > ?2 RETURNING *")?
        .query_row((state, now.as_millis()), |row| {
            Ok(Visit {
                state: row.get("state")?,
                browser: row.get("browser")?,
                expires_at: at(row, "expires_at")?,
            })
        })
        .optional()
}

pub(super) fn open_session(rows: &Transaction<'_>, session: &Session) -> Done<()> {
    let key = session.key.as_ref().map(|key| &key.0);
    rows.prepare_cached("INSERT INTO sessions (cookie, key, began_at, used_at) VALUES (?1, ?2, ?3, ?4)")?
        .execute((session.cookie, key, session.began_at.as_millis(), session.used_at.as_millis()))
        .map(drop)
}

pub(super) fn session(rows: &Transaction<'_>, cookie: [u8; 32]) -> Done<Option<Session>> {
    rows.prepare_cached("SELECT * FROM sessions WHERE cookie = ?1")?
        .query_row([cookie], |row| {
            let key: Option<String> = row.get("key")?;
            Ok(Session {
                cookie: row.get("cookie")?,
                key: key.map(KeyId),
                began_at: at(row, "began_at")?,
                used_at: at(row, "used_at")?,
            })
        })
        .optional()
}

pub(super) fn use_session(rows: &Transaction<'_>, cookie: [u8; 32], now: Timestamp) -> Done<()> {
    rows.prepare_cached("UPDATE sessions SET used_at = ?2 WHERE cookie = ?1")?
        .execute((cookie, now.as_millis()))
        .map(drop)
}

pub(super) fn end_sessions(rows: &Transaction<'_>, cookie: Option<[u8; 32]>) -> Done<()> {
    rows.prepare_cached("DELETE FROM sessions WHERE ?1 IS NULL OR cookie = ?1")?.execute([cookie]).map(drop)
}

pub(super) fn queue_event(rows: &Transaction<'_>, event: &QueuedEvent) -> Done<bool> {
    let queued = rows
        .prepare_cached(
            "INSERT INTO events (event, kind, body, received_at, attempts, due_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?4)
             ON CONFLICT (event) DO UPDATE SET kind = excluded.kind, body = excluded.body,
                 received_at = excluded.received_at, attempts = excluded.attempts, due_at = excluded.due_at,
                 done_at = NULL, outcome = NULL
             WHERE done_at IS NOT NULL AND received_at < ?6",
        )?
        .execute((
            &event.id,
            &event.kind,
            &event.body,
            event.received_at.as_millis(),
            event.attempts,
            (event.received_at - EVENTS_KNOWN_FOR).as_millis(),
        ))?;
    Ok(queued == 1)
}

/// What waits for longer than anything is put off was put off by a clock that was ahead.
const EVENT_DUE: &str = "done_at IS NULL AND (due_at <= ?1 OR due_at > ?2)";

pub(super) fn is_an_event_due(rows: &Transaction<'_>, now: Timestamp) -> Done<bool> {
    let sql = format!("SELECT EXISTS (SELECT * FROM events WHERE {EVENT_DUE})");
    let never = (now + LONGEST_WAIT * 2).as_millis();
    rows.prepare_cached(&sql)?.query_row((now.as_millis(), never), |row| row.get(0))
}

pub(super) fn claim_events(
    rows: &Transaction<'_>,
    now: Timestamp,
    lease_until: Timestamp,
    limit: usize,
) -> Done<Vec<QueuedEvent>> {
    let sql = format!("SELECT * FROM events WHERE {EVENT_DUE} ORDER BY received_at, rowid LIMIT ?3");
    let never = (now + LONGEST_WAIT * 2).as_millis();
    let due = rows
        .prepare_cached(&sql)?
        .query_map((now.as_millis(), never, limit), |row| {
            Ok(QueuedEvent {
                id: row.get("event")?,
                kind: row.get("kind")?,
                body: row.get::<_, Option<String>>("body")?.unwrap_or_default(),
                received_at: at(row, "received_at")?,
                attempts: row.get("attempts")?,
            })
        })?
        .collect::<Done<Vec<_>>>()?;
    let mut lease = rows.prepare_cached("UPDATE events SET due_at = ?2 WHERE event = ?1")?;
    for event in &due {
        lease.execute((&event.id, lease_until.as_millis()))?;
    }
    Ok(due)
}

pub(super) fn event_done(rows: &Transaction<'_>, id: &str, now: Timestamp, outcome: &str) -> Done<()> {
    rows.prepare_cached(
        "UPDATE events SET done_at = ?2, outcome = ?3, body = NULL, attempts = attempts + 1
         WHERE event = ?1 AND done_at IS NULL",
    )?
    .execute((id, now.as_millis(), outcome))?;
    rows.prepare_cached("DELETE FROM events WHERE done_at IS NOT NULL AND received_at < ?1")?
        .execute([(now - EVENTS_KNOWN_FOR).as_millis()])
        .map(drop)
}

pub(super) fn put_off_event(rows: &Transaction<'_>, id: &str, until: Timestamp, said: &str) -> Done<()> {
    rows.prepare_cached(
        "UPDATE events SET due_at = ?2, outcome = ?3, attempts = attempts + 1
         WHERE event = ?1 AND done_at IS NULL",
    )?
    .execute((id, until.as_millis(), said))
    .map(drop)
}

pub(super) fn take_turn(rows: &Transaction<'_>, name: &str, now: Timestamp, until: Timestamp) -> Done<bool> {
    let taken = rows
        .prepare_cached(
            "INSERT INTO turns VALUES (?1, ?3)
             ON CONFLICT (name) DO UPDATE SET until_at = excluded.until_at
                 WHERE until_at <= ?2 OR until_at > 2 * ?3 - ?2",
        )?
        .execute((name, now.as_millis(), until.as_millis()))?;
    Ok(taken == 1)
}

pub(super) fn forget(rows: &Transaction<'_>, before: Timestamp, audit_before: Timestamp) -> Done<()> {
    let before = before.as_millis();
    rows.execute("DELETE FROM checks WHERE at < ?1", [before])?;
    rows.execute("DELETE FROM days WHERE day < ?1", [Day::number_of(Timestamp::from_millis(before))])?;
    rows.execute("DELETE FROM history WHERE at < ?1", [before])?;
    // A notice that some way still has to tell stays.
    rows.execute(
        "DELETE FROM deliveries WHERE delivered_at IS NOT NULL
             AND notice IN (SELECT notice FROM notices WHERE at < ?1)",
        [before],
    )?;
    rows.execute(
        "DELETE FROM notices WHERE at < ?1 AND notice NOT IN (SELECT notice FROM deliveries)",
        [before],
    )?;
    rows.execute("DELETE FROM visits WHERE expires_at < ?1", [before])?;
    rows.execute("DELETE FROM sessions WHERE used_at < ?1", [before])?;
    rows.execute("DELETE FROM turns WHERE until_at < ?1", [before])?;
    rows.execute("DELETE FROM events WHERE done_at IS NOT NULL AND received_at < ?1", [before])?;
    rows.execute("DELETE FROM maintenances WHERE until_at < ?1", [before])?;
    rows.execute("DELETE FROM audit WHERE at < ?1", [audit_before.as_millis()]).map(drop)
}

pub(crate) fn parts(subject: &Subject) -> (&'static str, String) {
    match subject {
        Subject::Service => ("service", String::new()),
        Subject::Installation(id) => (id.kind(), id.as_str().to_owned()),
        Subject::Checks(None) => ("checks", String::new()),
        Subject::Checks(Some(id @ InstallationId::Location(_))) => {
            ("location checks", id.as_str().to_owned())
        }
        Subject::Checks(Some(id @ InstallationId::Company(_))) => ("company checks", id.as_str().to_owned()),
    }
}

fn subject(row: &Row<'_>) -> Done<Subject> {
    let kind: String = row.get("kind")?;
    match kind.as_str() {
        "service" => Ok(Subject::Service),
        "checks" => Ok(Subject::Checks(None)),
        "location checks" | "company checks" => {
            let id: String = row.get("id")?;
            installation(kind.trim_end_matches(" checks"), &id).map(|id| Subject::Checks(Some(id)))
        }
        _ => whose(row).map(Subject::Installation),
    }
}

fn whose(row: &Row<'_>) -> Done<InstallationId> {
    let (kind, id): (String, String) = (row.get("kind")?, row.get("id")?);
    installation(&kind, &id)
}

pub(super) fn installation(kind: &str, id: &str) -> Done<InstallationId> {
    InstallationId::from_parts(kind, id).map_err(odd)
}

pub(super) fn at(row: &Row<'_>, column: &str) -> Done<Timestamp> {
    row.get(column).map(Timestamp::from_millis)
}

fn maybe_at(row: &Row<'_>, column: &str) -> Done<Option<Timestamp>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_millis))
}

fn word<T>(row: &Row<'_>, column: &str, from_word: fn(&str) -> Option<T>) -> Done<T> {
    let word: String = row.get(column)?;
    from_word(&word).ok_or_else(|| odd(format!("`{word}` is no {column}")))
}

pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("strings and numbers are always JSON")
}

fn from_json<T: DeserializeOwned>(text: &str) -> Done<T> {
    serde_json::from_str(text).map_err(odd)
}

fn odd(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, Type::Text, error.into())
}
