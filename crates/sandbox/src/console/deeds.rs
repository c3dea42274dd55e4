//! What the console's buttons do.

use std::time::Duration;

use serde_json::json;

use crate::call::Call;
use crate::desk::Desk;
use crate::faults::{Fault, Hold, Matcher};
use crate::limits::Limits;
use crate::outages::{self, Outage};
use crate::scopes;
use crate::settings::RateLimit;
use crate::webhooks::{Manner, Order};
use crate::world::World;

/// No button moves the clock farther at once, in seconds: two years.
const FARTHEST: u64 = 63_072_000;

/// What came of a deed, as the page says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Done {
    Thrown,
    TakenBack,
    AllOff,
    Moved,
    Changed,
    Told,
    BegunAgain,
    /// The form was not understood, and nothing was done.
    Nothing,
}

impl Done {
    const ALL: [Self; 8] = [
        Self::Thrown,
        Self::TakenBack,
        Self::AllOff,
        Self::Moved,
        Self::Changed,
        Self::Told,
        Self::BegunAgain,
        Self::Nothing,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Thrown => "thrown",
            Self::TakenBack => "taken_back",
            Self::AllOff => "all_off",
            Self::Moved => "moved",
            Self::Changed => "changed",
            Self::Told => "told",
            Self::BegunAgain => "begun_again",
            Self::Nothing => "nothing",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|done| done.name() == name)
    }
}

/// The fields of a form.
struct Fields(Vec<(String, String)>);

impl Fields {
    fn value(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(key, value)| key == name && !value.trim().is_empty())?;
        Some(value.trim())
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.value(name)?.parse().ok()
    }

    fn matcher(&self) -> Option<Matcher> {
        match self.value("path") {
            Some(path) => Some(Matcher::Path(path.to_owned())),
            None => serde_json::from_value(json!(self.value("on")?)).ok(),
        }
    }
}

/// Does what a form asks for.
pub(super) fn act(desk: &Desk, call: &Call) -> Done {
    let fields = Fields(call.fields().unwrap_or_default());
    let deed = fields.value("deed").unwrap_or_default();
    deed_of_faults(desk, deed, &fields)
        .or_else(|| deed_of_the_world(desk, deed, &fields))
        .or_else(|| deed_of_webhooks(desk, deed, &fields))
        .unwrap_or(Done::Nothing)
}

fn deed_of_faults(desk: &Desk, deed: &str, fields: &Fields) -> Option<Done> {
    let now = desk.clock.now();
    match deed {
        "outage" => {
            let outage = Outage::named(fields.value("outage")?)?;
            desk.faults().throw(outage.faults(), Some(outage), now);
            Some(Done::Thrown)
        }
        "fault" => {
            let on = fields.matcher()?;
            match fields.value("fault")? {
                "hold" => hold(desk, Hold { on, processed: false }),
                "hold_answers" => hold(desk, Hold { on, processed: true }),
                number => {
                    let kind = outages::single_faults().into_iter().nth(number.parse().ok()?)?;
                    desk.faults().throw(vec![how_often(Fault::new(kind).on(on), fields)?], None, now);
                }
            }
            Some(Done::Thrown)
        }
        "take_back" => {
            desk.faults().take_back(fields.number("together")?);
            Some(Done::TakenBack)
        }
        "release" => {
            let hold = Hold { on: fields.matcher()?, processed: fields.value("processed").is_some() };
            desk.holds.send_modify(|holds| holds.retain(|one| *one != hold));
            Some(Done::TakenBack)
        }
        "all_off" => {
            all_off(desk);
            Some(Done::AllOff)
        }
        _ => None,
    }
}

fn hold(desk: &Desk, hold: Hold) {
    desk.holds.send_modify(|holds| holds.push(hold));
}

fn how_often(fault: Fault, fields: &Fields) -> Option<Fault> {
    let percent = fields.number("percent").and_then(|percent| u8::try_from(percent).ok())?;
    let fault = match fields.value("often")? {
        "five_minutes" => fault.for_seconds(300),
        "always" => fault.until_cleared(),
        times => fault.times(times.parse().ok().filter(|times| *times > 0)?),
    };
    (1..=100).contains(&percent).then(|| fault.percent(percent))
}

/// Everything answers again as at the start. What has ended stays ended, and the clock where it is.
fn all_off(desk: &Desk) {
    desk.faults().clear();
    desk.holds.send_replace(Vec::new());
    desk.webhooks.let_go(Order::First);
    desk.webhooks.set_manner(Manner::default());
    let mut world = desk.world();
    world.grants.resume_all();
    world.grants.set_scopes(desk.settings.scopes.clone());
    world.limits = Limits::new(desk.settings.rate_limit, desk.settings.rate_window);
}

fn deed_of_the_world(desk: &Desk, deed: &str, fields: &Fields) -> Option<Done> {
    match deed {
        "clock" => {
            let seconds = fields.number("seconds").filter(|seconds| *seconds <= FARTHEST)?;
            desk.clock.advance(Duration::from_secs(seconds));
            return Some(Done::Moved);
        }
        "begin_again" => {
            desk.reset();
            return Some(Done::BegunAgain);
        }
        "limits" => {
            let (burst, seconds) = (fields.number("burst")?, fields.number("seconds")?);
            let mut world = desk.world();
            let limit = RateLimit {
                burst,
                interval: Duration::from_secs(seconds),
                enforced: fields.value("enforced").is_some(),
                ..world.limits.limit()
            };
            world.limits.set(limit);
            return Some(Done::Changed);
        }
        "scopes" => {
            desk.world().grants.set_scopes(named_scopes(&desk.settings.scopes, fields.value("scopes")?)?);
            return Some(Done::Changed);
        }
        _ => {}
    }
    let id = fields.value("id")?;
    let mut world = desk.world();
    let of_company = id == desk.settings.company_id;
    if !of_company && world.crm.location(id).is_none() {
        return None;
    }
    let done = deed_at(&mut world, deed, id, of_company)?;
    Some(done)
}

/// What is done to a location, or to the company.
fn deed_at(world: &mut World, deed: &str, id: &str, of_company: bool) -> Option<Done> {
    match deed {
        "suspend" => world.grants.suspend(id),
        "resume" => world.grants.resume(id),
        "revoke" => world.grants.revoke(id),
        "revoke_access" => world.grants.revoke_access_tokens(id),
        "uninstall" => world.uninstall(id),
        "install" if !of_company => {
            let now = world.now;
            world.grants.install(id, now);
            world.tell_of("INSTALL", Some(id));
        }
        "update" => {
            world.tell_of("UPDATE", (!of_company).then_some(id));
            return Some(Done::Told);
        }
        "announce" if !of_company => {
            world.tell_of_location(id);
            return Some(Done::Told);
        }
        _ => return None,
    }
    Some(Done::Changed)
}

fn named_scopes(all: &[String], name: &str) -> Option<Vec<String>> {
    match name {
        "all" => Some(all.to_vec()),
        "needed" => Some(scopes::NEEDED.split(' ').map(str::to_owned).collect()),
        "reading" => Some(all.iter().filter(|scope| !scope.ends_with(".write")).cloned().collect()),
        _ => None,
    }
}

fn deed_of_webhooks(desk: &Desk, deed: &str, fields: &Fields) -> Option<Done> {
    match deed {
        "webhooks" => {
            let signature = serde_json::from_value(json!(fields.value("signature")?)).ok()?;
            let without = fields.value("without").unwrap_or_default();
            desk.webhooks.send_to(fields.value("url").map(str::to_owned));
            desk.webhooks.set_manner(Manner {
                signature,
                without: without
                    .split([' ', ','])
                    .filter(|name| !name.is_empty())
                    .map(str::to_owned)
                    .collect(),
                twice: fields.value("twice").is_some(),
                held: fields.value("held").is_some(),
            });
            Some(Done::Changed)
        }
        "let_go" => {
            let order = serde_json::from_value(json!(fields.value("order")?)).ok()?;
            desk.webhooks.let_go(order);
            Some(Done::Told)
        }
        "replay" => {
            desk.webhooks.replay();
            Some(Done::Told)
        }
        _ => None,
    }
}
