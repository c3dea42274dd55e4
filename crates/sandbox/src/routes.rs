//! The table of paths, and what stands before each: a version, a route, a token, its class, its scope.

use std::sync::Arc;

use crate::call::{Answer, Call, Dialect};
use crate::limits::Allowance;
use crate::scopes::Scopes;
use crate::settings::UserType;
use crate::world::World;
use crate::{consent, contacts, crm, oauth};

/// Whose token it is.
pub(crate) struct Caller {
    pub(crate) class: UserType,
    pub(crate) class_id: String,
    pub(crate) generation: Option<u64>,
    /// A private integration token is no OAuth token.
    pub(crate) private: bool,
    scopes: Arc<Scopes>,
}

/// A call that has passed the door.
pub(crate) struct Ask<'a> {
    pub(crate) call: &'a Call,
    pub(crate) dialect: Dialect,
    pub(crate) caller: &'a Caller,
    parts: &'a [&'a str],
}

impl Ask<'_> {
    /// One part of the path: the id in `/contacts/{id}` is part 1.
    pub(crate) fn part(&self, index: usize) -> &str {
        self.parts.get(index).copied().unwrap_or_default()
    }
}

/// An answer, and what goes with it.
pub(crate) struct Reply {
    pub(crate) answer: Answer,
    pub(crate) caller: Option<Caller>,
    pub(crate) allowance: Option<Allowance>,
}

impl Reply {
    fn to_anyone(answer: Answer) -> Self {
        Self { answer, caller: None, allowance: None }
    }
}

/// Which classes of token a route admits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Admits {
    Location,
    Company,
    Both,
}

/// In which dialects a route exists.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spoken {
    Everywhere,
    OnlyV3,
    /// Answered by its own words under v3: "This endpoint was removed".
    BeforeV3,
}

type Act = fn(&mut World, &Ask<'_>) -> Result<Answer, Answer>;

struct Route {
    admits: Admits,
    spoken: Spoken,
    scope: &'static str,
    act: Act,
}

fn location(scope: &'static str, act: Act) -> Route {
    Route { admits: Admits::Location, spoken: Spoken::Everywhere, scope, act }
}

fn company(spoken: Spoken, scope: &'static str, act: Act) -> Route {
    Route { admits: Admits::Company, spoken, scope, act }
}

fn both(scope: &'static str, act: Act) -> Route {
    Route { admits: Admits::Both, spoken: Spoken::Everywhere, scope, act }
}

/// Answers everything but `/_sandbox`.
pub(crate) fn answer(world: &mut World, call: &Call) -> Reply {
    let parts = call.parts();
    match (call.method.as_str(), parts.as_slice()) {
        ("GET", ["v2", "oauth", "chooselocation"]) => Reply::to_anyone(consent::page(world, call)),
        ("POST", ["v2", "oauth", "chooselocation"]) => Reply::to_anyone(consent::decide(world, call)),
        ("GET", ["oauth", "chooselocation"]) => Reply::to_anyone(consent::dead_page(call)),
        ("POST", ["oauth", "token"]) => {
            let now = world.now;
            let limited = world.token_limits.as_mut().map(|limits| limits.take("the app", now));
            let allowance = limited.unwrap_or_else(|| world.limits.unlimited(now));
            let answer = match allowance.granted {
                true => oauth::token(world, call),
                false => Answer::error(429, "Too Many Requests"),
            };
            Reply { answer, caller: None, allowance: Some(allowance) }
        }
        ("POST", ["oauth", "reconnect"]) => {
            let allowance = Some(world.limits.unlimited(world.now));
            Reply { answer: oauth::reconnect(), caller: None, allowance }
        }
        (method, parts) => guarded(world, call, find(method, parts), parts),
    }
}

fn find(method: &str, parts: &[&str]) -> Option<Route> {
    Some(match (method, parts) {
        ("POST", ["oauth", "locationToken"]) => company(Spoken::BeforeV3, "oauth.write", oauth::mint),
        ("POST", ["oauth", "location-token"]) => company(Spoken::OnlyV3, "oauth.write", oauth::mint),
        ("GET", ["oauth", "installedLocations"]) => {
            company(Spoken::BeforeV3, "oauth.readonly", oauth::installed_locations)
        }
        ("GET", ["oauth", "installed-locations"]) => {
            company(Spoken::OnlyV3, "oauth.readonly", oauth::installed_locations_v3)
        }
        ("GET", ["marketplace", "app", _, "installations"]) => {
            both("marketplace-installer-details.readonly", oauth::installer)
        }
        ("DELETE", ["marketplace", "app", _, "installations"]) => both("oauth.write", oauth::uninstall),

        ("GET", ["contacts"]) => location("contacts.readonly", contacts::list),
        ("POST", ["contacts"]) => location("contacts.write", contacts::create),
        ("POST", ["contacts", "upsert"]) => location("contacts.write", contacts::upsert),
        ("POST", ["contacts", "search"]) => location("contacts.readonly", contacts::search),
        ("GET", ["contacts", "search", "duplicate"]) => {
            location("contacts.readonly", contacts::find_duplicate)
        }
        ("GET", ["contacts", _]) => location("contacts.readonly", contacts::read),
        ("PUT", ["contacts", _]) => location("contacts.write", contacts::update),
        ("DELETE", ["contacts", _]) => location("contacts.write", contacts::delete),
        ("POST", ["contacts", _, "tags"]) => location("contacts.write", contacts::add_tags),
        ("DELETE", ["contacts", _, "tags"]) => location("contacts.write", contacts::remove_tags),
        ("POST", ["contacts", _, "workflow", _]) => location("contacts.write", contacts::add_to_workflow),
        ("DELETE", ["contacts", _, "workflow", _]) => {
            location("contacts.write", contacts::remove_from_workflow)
        }

        ("GET", ["locations", "search"]) => both("locations.readonly", crm::search_locations),
        ("GET", ["locations", _]) => both("locations.readonly", crm::read_location),
        ("GET", ["locations", _, "tags"]) => location("locations/tags.readonly", crm::list_tags),
        ("POST", ["locations", _, "tags"]) => location("locations/tags.write", crm::create_tag),
        ("GET", ["locations", _, "tags", _]) => location("locations/tags.readonly", crm::read_tag),
        ("PUT", ["locations", _, "tags", _]) => location("locations/tags.write", crm::update_tag),
        ("DELETE", ["locations", _, "tags", _]) => location("locations/tags.write", crm::delete_tag),
        ("GET", ["locations", _, "customFields"]) => {
            location("locations/customFields.readonly", crm::list_custom_fields)
        }
        ("GET", ["workflows"]) => location("workflows.readonly", crm::list_workflows),
        _ => return None,
    })
}

/// The doors before a route. A missing version is a 401 that has nothing to do with the token; a path of v3 under a
/// date doesn't exist (404); the token comes before "removed in version v3" (all measured 2026-06 to 2026-08).
fn guarded(world: &mut World, call: &Call, route: Option<Route>, parts: &[&str]) -> Reply {
    let (dialect, route) = match reachable(call, route) {
        Ok(reachable) => reachable,
        Err(answer) => {
            let allowance = Some(world.limits.unlimited(world.now));
            return Reply { answer, caller: None, allowance };
        }
    };
    let caller = match identify(world, call) {
        Ok(caller) => caller,
        Err(answer) => {
            let allowance = Some(world.limits.unlimited(world.now));
            return Reply { answer, caller: None, allowance };
        }
    };
    let allowance = world.limits.take(&caller.class_id, world.now);
    let answer = match allowance.granted {
        true => {
            let ask = Ask { call, dialect, caller: &caller, parts };
            admitted(&route, &ask).and_then(|()| (route.act)(world, &ask)).unwrap_or_else(|refusal| refusal)
        }
        false => {
            world.ledger.counts.rate_limited += 1;
            Answer::error(429, "Too Many Requests")
        }
    };
    Reply { answer, caller: Some(caller), allowance: Some(allowance) }
}

fn reachable(call: &Call, route: Option<Route>) -> Result<(Dialect, Route), Answer> {
    let dialect = call.dialect()?;
    match route {
        Some(route) if route.spoken != Spoken::OnlyV3 || dialect == Dialect::V3 => Ok((dialect, route)),
        _ => Err(Answer::not_found(call)),
    }
}

fn identify(world: &World, call: &Call) -> Result<Caller, Answer> {
    let token = call.bearer.as_deref().unwrap_or_default();
    if token.starts_with("pit-") {
        return match token == world.settings.private_token {
            true => Ok(Caller {
                class: UserType::Location,
                class_id: world.settings.location_id.clone(),
                generation: None,
                private: true,
                scopes: world.grants.scopes_now(),
            }),
            false => Err(Answer::error(401, "Invalid Private Integration token")),
        };
    }
    let (grant, token) =
        world.grants.holder(token, world.now).ok_or_else(|| Answer::error(401, "Invalid JWT"))?;
    Ok(Caller {
        class: grant.class,
        class_id: grant.class_id().to_owned(),
        generation: Some(token.generation),
        private: false,
        scopes: Arc::clone(&token.scopes),
    })
}

fn admitted(route: &Route, ask: &Ask<'_>) -> Result<(), Answer> {
    const SCOPE: &str = "The token is not authorized for this scope.";
    const CLASS: &str = "This authClass type is not allowed to access this scope. \
                         Please verify your IAM configuration if this is not the case.";
    let caller = ask.caller;
    if caller.private && route.scope.starts_with("oauth.") {
        return Err(Answer::error(401, SCOPE));
    }
    match (route.admits, caller.class) {
        (Admits::Location, UserType::Company) => return Err(Answer::error(401, CLASS)),
        (Admits::Company, UserType::Location) => {
            return Err(Answer::error(401, "This token's user type is not yet supported!"));
        }
        _ => {}
    }
    if !caller.scopes.allow(route.scope) {
        return Err(match route.admits {
            Admits::Company => Answer::unprocessable(&[SCOPE.to_owned()]),
            _ => Answer::error(401, SCOPE),
        });
    }
    if route.spoken == Spoken::BeforeV3 && ask.dialect == Dialect::V3 {
        return Err(removed_in_v3(ask.call));
    }
    Ok(())
}

fn removed_in_v3(call: &Call) -> Answer {
    let query = call.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
    Answer::bad_request(&format!(
        "Endpoint {}{query} not available in API version v3. \
         This endpoint was removed in version v3. Please use a version before v3.",
        call.path
    ))
}
