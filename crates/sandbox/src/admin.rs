//! `/_sandbox`: the sandbox's own controls, for programs in another process and for curl.

use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::call::{Answer, Call};
use crate::clock::iso;
use crate::desk::Desk;
use crate::faults::{Fault, Hold};
use crate::grants::Approval;
use crate::outages::Outage;
use crate::settings::{RateLimit, RateWindow, UserType};
use crate::webhooks::{Manner, Order};

#[derive(Deserialize)]
struct Advance {
    advance_seconds: f64,
}

#[derive(Deserialize)]
struct Place {
    location_id: String,
}

#[derive(Deserialize)]
struct Agreement {
    redirect_uri: String,
    state: Option<String>,
    user_type: Option<UserType>,
    location_id: Option<String>,
}

#[derive(Deserialize)]
struct Address {
    url: Option<String>,
}

#[derive(Deserialize)]
struct LetGo {
    #[serde(default)]
    order: Order,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    More(Vec<Fault>),
    One(Fault),
}

#[derive(Deserialize)]
struct Thrown {
    outage: Outage,
}

#[derive(Deserialize)]
struct Granted {
    scopes: Vec<String>,
}

#[derive(Deserialize)]
struct Limits {
    enforced: Option<bool>,
    burst: Option<u64>,
    interval_seconds: Option<f64>,
    daily: Option<u64>,
    window: Option<RateWindow>,
}

#[derive(Deserialize)]
struct Switch {
    on: bool,
}

#[derive(Deserialize)]
struct Evidence {
    refresh_token: Option<String>,
    access_token: Option<String>,
}

/// Answers everything under `/_sandbox`.
pub(crate) fn answer(desk: &Desk, call: &Call) -> Answer {
    match (call.method.as_str(), call.parts().as_slice()) {
        ("GET", ["_sandbox"]) => Answer::text(200, help(desk)),
        ("GET", ["_sandbox", "settings"]) => Answer::json(200, json!(*desk.settings)),
        ("GET", ["_sandbox", "env"]) => Answer::text(200, desk.settings.env_file(&desk.base_url)),
        ("GET", ["_sandbox", "ledger"]) => Answer::json(200, json!(desk.world().ledger)),
        ("GET", ["_sandbox", "counts"]) => Answer::json(200, json!(desk.world().ledger.counts)),
        ("GET", ["_sandbox", "state"]) => Answer::json(200, state(desk)),
        ("GET", ["_sandbox", "faults"]) => Answer::json(200, json!(desk.waiting_faults())),
        ("POST", ["_sandbox", "faults"]) => with(call, |faults: OneOrMore| add_faults(desk, faults)),
        ("POST", ["_sandbox", "outages"]) => with(call, |Thrown { outage }: Thrown| {
            desk.faults().throw(outage.faults(), Some(outage), desk.clock.now());
            Answer::json(200, json!(desk.waiting_faults()))
        }),
        ("DELETE", ["_sandbox", "faults"]) => {
            desk.faults().clear();
            done()
        }
        ("POST", ["_sandbox", "hold"]) => with(call, |hold: Hold| {
            desk.holds.send_modify(|holds| holds.push(hold));
            done()
        }),
        ("POST", ["_sandbox", "release"]) => {
            desk.holds.send_replace(Vec::new());
            done()
        }
        ("POST", ["_sandbox", "clock"]) => with(call, |body: Advance| advance(desk, body)),
        ("POST", ["_sandbox", "revoke"]) => with(call, |place: Place| {
            desk.world().grants.revoke(&place.location_id);
            done()
        }),
        ("POST", ["_sandbox", "install"]) => with(call, |place: Place| {
            let mut world = desk.world();
            let now = world.now;
            world.grants.install(&place.location_id, now);
            world.tell_of("INSTALL", Some(&place.location_id));
            done()
        }),
        ("POST", ["_sandbox", "uninstall"]) => with(call, |place: Place| {
            desk.world().uninstall(&place.location_id);
            done()
        }),
        ("POST", ["_sandbox", "update"]) => with(call, |place: Place| {
            let of_company = place.location_id == desk.settings.company_id;
            desk.world().tell_of("UPDATE", (!of_company).then_some(place.location_id.as_str()));
            done()
        }),
        ("POST", ["_sandbox", "location"]) => with(call, |place: Place| {
            desk.world().tell_of_location(&place.location_id);
            done()
        }),
        ("GET", ["_sandbox", "webhooks"]) => Answer::json(200, json!(desk.webhooks.sent())),
        ("POST", ["_sandbox", "webhooks"]) => with(call, |address: Address| {
            desk.webhooks.send_to(address.url);
            done()
        }),
        ("POST", ["_sandbox", "webhooks", "manner"]) => with(call, |manner: Manner| {
            desk.webhooks.set_manner(manner);
            done()
        }),
        ("POST", ["_sandbox", "webhooks", "let_go"]) => with(call, |how: LetGo| {
            desk.webhooks.let_go(how.order);
            done()
        }),
        ("POST", ["_sandbox", "webhooks", "replay"]) => {
            desk.webhooks.replay();
            done()
        }
        ("GET", ["_sandbox", "webhooks", "rsa_key"]) => Answer::text(200, desk.webhooks.legacy_public_key()),
        ("POST", ["_sandbox", "suspend"]) => with(call, |place: Place| {
            desk.world().grants.suspend(&place.location_id);
            done()
        }),
        ("POST", ["_sandbox", "resume"]) => with(call, |place: Place| {
            desk.world().grants.resume(&place.location_id);
            done()
        }),
        ("POST", ["_sandbox", "scopes"]) => with(call, |granted: Granted| {
            desk.world().grants.set_scopes(granted.scopes);
            done()
        }),
        ("POST", ["_sandbox", "revoke_access"]) => with(call, |place: Place| {
            desk.world().grants.revoke_access_tokens(&place.location_id);
            done()
        }),
        ("POST", ["_sandbox", "headers"]) => with(call, |switch: Switch| {
            desk.world().headers_noted = switch.on;
            done()
        }),
        ("POST", ["_sandbox", "chunked"]) => with(call, |switch: Switch| {
            desk.world().chunked_answers = switch.on;
            done()
        }),
        ("POST", ["_sandbox", "limits"]) => with(call, |limits: Limits| set_limits(desk, &limits)),
        ("POST", ["_sandbox", "approve"]) => with(call, |agreement: Agreement| approve(desk, agreement)),
        ("POST", ["_sandbox", "judge"]) => with(call, |evidence: Evidence| judge(desk, &evidence)),
        ("POST", ["_sandbox", "reset"]) => {
            desk.reset();
            done()
        }
        _ => Answer::json(404, json!({ "error": "no such page; GET /_sandbox shows them all" })),
    }
}

fn done() -> Answer {
    Answer::json(200, json!({ "done": true }))
}

fn with<T: DeserializeOwned>(call: &Call, act: impl FnOnce(T) -> Answer) -> Answer {
    match serde_json::from_slice(&call.body) {
        Ok(body) => act(body),
        Err(error) => Answer::json(400, json!({ "error": error.to_string() })),
    }
}

fn add_faults(desk: &Desk, faults: OneOrMore) -> Answer {
    let faults = match faults {
        OneOrMore::More(faults) => faults,
        OneOrMore::One(fault) => vec![fault],
    };
    desk.faults().throw(faults, None, desk.clock.now());
    Answer::json(200, json!(desk.waiting_faults()))
}

fn advance(desk: &Desk, body: Advance) -> Answer {
    match Duration::try_from_secs_f64(body.advance_seconds) {
        Ok(by) => {
            desk.clock.advance(by);
            Answer::json(200, json!({ "now": iso(desk.clock.now()) }))
        }
        Err(error) => Answer::json(400, json!({ "error": error.to_string() })),
    }
}

/// Changes what is named of the limits, and leaves the rest as it is.
fn set_limits(desk: &Desk, limits: &Limits) -> Answer {
    let mut world = desk.world();
    let now = world.limits.limit();
    let interval = match limits.interval_seconds.map(Duration::try_from_secs_f64) {
        None => now.interval,
        Some(Ok(interval)) => interval,
        Some(Err(error)) => return Answer::json(400, json!({ "error": error.to_string() })),
    };
    world.limits.set(RateLimit {
        burst: limits.burst.unwrap_or(now.burst),
        interval,
        daily: limits.daily.unwrap_or(now.daily),
        enforced: limits.enforced.unwrap_or(now.enforced),
    });
    if let Some(window) = limits.window {
        world.limits.set_window(window);
    }
    done()
}

fn approve(desk: &Desk, agreement: Agreement) -> Answer {
    let mut world = desk.world();
    let location_id = match (agreement.user_type.unwrap_or_default(), agreement.location_id) {
        (UserType::Company, _) => None,
        (UserType::Location, None) => Some(world.settings.location_id.clone()),
        (UserType::Location, Some(id)) => Some(id),
    };
    if location_id.as_ref().is_some_and(|id| world.crm.location(id).is_none()) {
        return Answer::json(400, json!({ "error": "no such location" }));
    }
    let approval = Approval { redirect_uri: agreement.redirect_uri, location_id };
    let (code, redirect_to) = world.approve(approval, agreement.state.as_deref());
    Answer::json(200, json!({ "code": code, "redirect_to": redirect_to }))
}

/// Says whether tokens are good, for tests that hold some and cannot ask in process.
fn judge(desk: &Desk, evidence: &Evidence) -> Answer {
    let world = desk.world();
    let refresh = evidence.refresh_token.as_ref().map(|token| world.grants.is_current(token, world.now));
    let access = evidence.access_token.as_ref().map(|token| world.grants.holder(token, world.now).is_some());
    Answer::json(200, json!({ "refresh_token_is_current": refresh, "access_token_is_valid": access }))
}

fn state(desk: &Desk) -> Value {
    let mut world = desk.world();
    let world = &mut *world;
    let contact_tags = world.crm.tags_of(&world.settings.contact_id, world.now);
    let locations: Vec<Value> = world
        .crm
        .locations()
        .iter()
        .map(|location| {
            json!({
                "id": location.id, "name": location.name,
                "installed_at": world.grants.installed_at(&location.id).map(iso),
                "suspended": world.grants.is_suspended(&location.id),
            })
        })
        .collect();
    json!({
        "now": iso(world.now), "company_id": world.settings.company_id, "locations": locations,
        "contact_tags": contact_tags, "held": *desk.held.borrow(), "counts": world.ledger.counts,
    })
}

fn help(desk: &Desk) -> String {
    let base = &desk.base_url;
    let console = match desk.speech {
        Some(_) => format!("in a browser: {base}/"),
        None => "by curl alone".to_owned(),
    };
    format!(
        r#"A HighLevel of your own, on this machine. Everything in it is invented and lives in memory.

Look ({console})
  curl {base}/_sandbox/env                 a .env for programs that should use it
  curl {base}/_sandbox/settings            the app, its secret, the ids
  curl {base}/_sandbox/ledger              what was asked, issued and used up (no tokens)
  curl {base}/_sandbox/counts              the same as numbers
  curl {base}/_sandbox/state               the clock, the locations, the contact's tags

Agree without a browser
  curl {base}/_sandbox/approve -d '{{"redirect_uri":"http://127.0.0.1:8788/oauth/callback","state":"s","user_type":"Location"}}'

Break things ("on": any, token, refresh, exchange, mint, contact_read, tag_add, tag_remove, location_read, {{"path":"/x"}};
"times": 1 unless said, null for ever; "percent": 100 unless said; "seconds" of the clock, no end unless said)
  curl {base}/_sandbox/faults -d '{{"fault":"lose_answer","on":"refresh"}}'
  curl {base}/_sandbox/faults -d '{{"fault":"cut_after","bytes":300,"on":"refresh"}}'
  curl {base}/_sandbox/faults -d '{{"fault":"delay","millis":8000,"on":"refresh","times":3}}'
  curl {base}/_sandbox/faults -d '{{"fault":"status","code":503,"body":"","on":"contact_read"}}'
  curl {base}/_sandbox/faults -d '{{"fault":"gateway_html","processed":true,"times":null,"percent":10}}'
  curl {base}/_sandbox/faults -d '{{"fault":"fields_missing","fields":["expires_in"],"on":"refresh"}}'
  curl {base}/_sandbox/faults -d '{{"fault":"fields_set","fields":{{"expires_in":"soon"}},"on":"refresh"}}'
  curl {base}/_sandbox/outages -d '{{"outage":"down"}}'      or unreachable, answers_lost, rate_limited, slow, flaky
  also: lose_request, reset, delay_before, truncated_json, body, rate_limited, not_active, refused_client, invalid_grant
  curl {base}/_sandbox/faults              those still waiting
  curl -X DELETE {base}/_sandbox/faults    none any more
  curl {base}/_sandbox/hold -d '{{"on":"refresh"}}'; curl -X POST {base}/_sandbox/release

Change the world
  curl {base}/_sandbox/clock -d '{{"advance_seconds":86400}}'
  curl {base}/_sandbox/suspend -d '{{"location_id":"{location_id}"}}'     refreshing: Location is not active
  curl {base}/_sandbox/resume -d '{{"location_id":"{location_id}"}}'
  curl {base}/_sandbox/revoke -d '{{"location_id":"{location_id}"}}'      its tokens die
  curl {base}/_sandbox/revoke_access -d '{{"location_id":"{location_id}"}}'    its access tokens die, and a refresh cures it
  curl {base}/_sandbox/scopes -d '{{"scopes":["contacts.readonly"]}}'           for tokens issued from now on
  curl {base}/_sandbox/limits -d '{{"enforced":false}}'                        no 429 any more
  curl {base}/_sandbox/limits -d '{{"burst":25,"interval_seconds":10,"daily":10000,"window":"sliding"}}'    or "fixed"
  curl {base}/_sandbox/headers -d '{{"on":true}}'                               the ledger shows headers, tokens by name
  curl {base}/_sandbox/chunked -d '{{"on":true}}'                               answers without a length
  curl -X POST {base}/_sandbox/reset

Webhooks, signed by the key in the .env (id: a location's, or the company's {company_id})
  curl {base}/_sandbox/webhooks -d '{{"url":"http://127.0.0.1:8787/webhooks/highlevel"}}'    where to; null for nowhere
  curl {base}/_sandbox/webhooks                                                  what was sent, and the answers
  curl {base}/_sandbox/install -d '{{"location_id":"{location_id}"}}'     from the agency's pages: without a code
  curl {base}/_sandbox/uninstall -d '{{"location_id":"{location_id}"}}'
  curl {base}/_sandbox/update -d '{{"location_id":"{location_id}"}}'
  curl {base}/_sandbox/location -d '{{"location_id":"{location_id}"}}'    LocationCreate
  curl {base}/_sandbox/webhooks/manner -d '{{"signature":"wrong_key","without":["companyId"],"twice":true,"held":true}}'
  signatures: present, legacy, both, not_applicable, wrong_key, missing; GET {base}/_sandbox/webhooks/rsa_key for the legacy one
  curl {base}/_sandbox/webhooks/let_go -d '{{"order":"last"}}'; curl -X POST {base}/_sandbox/webhooks/replay
"#,
        location_id = desk.settings.location_id,
        company_id = desk.settings.company_id,
    )
}
