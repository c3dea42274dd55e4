//! Locations and what belongs to them: contacts (in `contacts.rs`), tags, custom fields, workflows.
//!
//! Shapes from HighLevel's locations.json, contacts.json and workflows.json; the people and places are invented.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::call::Answer;
use crate::chance::Chance;
use crate::clock::{Millis, iso};
use crate::contacts::Contact;
use crate::routes::Ask;
use crate::settings::{Settings, UserType};
use crate::world::World;

pub(crate) struct Location {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) address: String,
    workflow_id: String,
    /// Tags made by name: id, name.
    tags: Vec<(String, String)>,
    /// The contacts, in the order of their making.
    pub(crate) contact_ids: Vec<String>,
}

pub(crate) struct Crm {
    pub(crate) settings: Arc<Settings>,
    locations: Vec<Location>,
    places: HashMap<String, usize>,
    pub(crate) contacts: HashMap<String, Contact>,
    made_at: Millis,
}

impl Crm {
    pub(crate) fn new(settings: &Arc<Settings>, chance: &mut Chance, now: Millis) -> Self {
        let mut crm = Self {
            settings: Arc::clone(settings),
            locations: Vec::new(),
            places: HashMap::new(),
            contacts: HashMap::new(),
            made_at: now,
        };
        crm.found(settings.location_id.clone(), chance);
        for _ in 0..settings.extra_locations {
            crm.found(chance.id(), chance);
        }
        crm.introduce(&settings.contact_id, &settings.location_id, now);
        crm
    }

    fn found(&mut self, id: String, chance: &mut Chance) {
        let number = self.locations.len() + 1;
        self.places.insert(id.clone(), self.locations.len());
        self.locations.push(Location {
            id,
            name: format!("Sandbox Location {number}"),
            address: format!("Rua do Sandbox, {number}"),
            workflow_id: chance.uuid(),
            tags: Vec::new(),
            contact_ids: Vec::new(),
        });
    }

    pub(crate) fn locations(&self) -> &[Location] {
        &self.locations
    }

    pub(crate) fn location(&self, id: &str) -> Option<&Location> {
        self.places.get(id).map(|place| &self.locations[*place])
    }

    pub(crate) fn location_mut(&mut self, id: &str) -> Option<&mut Location> {
        self.places.get(id).map(|place| &mut self.locations[*place])
    }
}

/// Another location than the token's is a 403, even one that doesn't exist (measured 2026-07).
pub(crate) fn own_location<'w>(world: &'w World, ask: &Ask<'_>, id: &str) -> Result<&'w Location, Answer> {
    let own = match ask.caller.class {
        UserType::Location => ask.caller.class_id == id,
        UserType::Company => true,
    };
    let location = world.crm.location(id).filter(|_| own);
    location.ok_or_else(|| Answer::error(403, "The token does not have access to this location."))
}

/// `GET /locations/{locationId}`.
pub(crate) fn read_location(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    let location = own_location(world, ask, ask.part(1))?;
    Ok(Answer::json(200, json!({ "location": location_body(world, location) })))
}

/// `GET /locations/search`.
pub(crate) fn search_locations(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    let number = |name: &str| ask.call.query_value(name).and_then(|text| text.parse().ok());
    let (skip, limit) = (number("skip").unwrap_or(0), number("limit").unwrap_or(10));
    if ask.call.query_value("companyId").is_some_and(|id| id != world.settings.company_id) {
        return Err(Answer::error(403, "The token does not have access to this location."));
    }
    let visible = world.crm.locations().iter().filter(|location| match ask.caller.class {
        UserType::Location => location.id == ask.caller.class_id,
        UserType::Company => true,
    });
    let page: Vec<Value> =
        visible.skip(skip).take(limit).map(|location| location_body(world, location)).collect();
    Ok(Answer::json(200, json!({ "locations": page })))
}

fn location_body(world: &World, location: &Location) -> Value {
    json!({
        "id": location.id, "companyId": world.settings.company_id, "name": location.name, "domain": "",
        "address": location.address, "city": "São Paulo", "state": "SP", "logoUrl": "", "country": "BR",
        "postalCode": "01000-000", "website": "https://sandbox.example", "timezone": "America/Sao_Paulo",
        "firstName": "Olga", "lastName": "Owner", "email": "owner@sandbox.example", "phone": "+5511955500000",
        "business": {
            "name": location.name, "address": location.address, "city": "São Paulo", "state": "SP",
            "country": "BR", "postalCode": "01000-000", "website": "https://sandbox.example",
            "timezone": "America/Sao_Paulo", "logoUrl": "",
        },
        "social": {},
        "settings": {
            "allowDuplicateContact": world.settings.allow_duplicate_contacts,
            "allowDuplicateOpportunity": false, "allowFacebookNameMerge": false, "disableContactTimezone": false,
        },
        "reseller": {},
    })
}

/// `GET /locations/{locationId}/tags`.
pub(crate) fn list_tags(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    let location = own_location(world, ask, ask.part(1))?;
    let tags: Vec<Value> = location.tags.iter().map(|tag| tag_body(tag, &location.id)).collect();
    Ok(Answer::json(200, json!({ "tags": tags })))
}

/// `POST /locations/{locationId}/tags`.
pub(crate) fn create_tag(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    let id = own_location(world, ask, ask.part(1))?.id.clone();
    let body = ask.call.json_object()?;
    let Some(name) = body.get("name").and_then(Value::as_str).filter(|name| !name.is_empty()) else {
        return Err(Answer::unprocessable(&["name should not be empty".to_owned()]));
    };
    let fresh = (world.chance.id(), name.to_owned());
    let body = json!({ "tag": tag_body(&fresh, &id) });
    if let Some(location) = world.crm.location_mut(&id) {
        location.tags.push(fresh);
    }
    Ok(Answer::json(200, body))
}

/// `GET /locations/{locationId}/tags/{tagId}`.
pub(crate) fn read_tag(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    let location = own_location(world, ask, ask.part(1))?;
    let tag = location.tags.iter().find(|(id, _)| id == ask.part(3)).ok_or_else(no_such_tag)?;
    Ok(Answer::json(200, json!({ "tag": tag_body(tag, &location.id) })))
}

/// `PUT /locations/{locationId}/tags/{tagId}`: gives it another name.
pub(crate) fn update_tag(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    let id = own_location(world, ask, ask.part(1))?.id.clone();
    let body = ask.call.json_object()?;
    let Some(name) = body.get("name").and_then(Value::as_str).filter(|name| !name.is_empty()) else {
        return Err(Answer::unprocessable(&["name should not be empty".to_owned()]));
    };
    let tags = world.crm.location_mut(&id).map(|location| &mut location.tags);
    let tag = tags.and_then(|tags| tags.iter_mut().find(|(tag, _)| tag == ask.part(3)));
    let tag = tag.ok_or_else(no_such_tag)?;
    tag.1 = name.to_owned();
    Ok(Answer::json(200, json!({ "tag": tag_body(tag, &id) })))
}

/// `DELETE /locations/{locationId}/tags/{tagId}`.
pub(crate) fn delete_tag(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    let id = own_location(world, ask, ask.part(1))?.id.clone();
    let Some(location) = world.crm.location_mut(&id) else { return Err(no_such_tag()) };
    let before = location.tags.len();
    location.tags.retain(|(tag, _)| tag != ask.part(3));
    match location.tags.len() < before {
        true => Ok(Answer::json(200, json!({ "succeded": true }))),
        false => Err(no_such_tag()),
    }
}

/// What HighLevel says here has not been measured.
fn no_such_tag() -> Answer {
    Answer::bad_request("Tag not found")
}

fn tag_body((id, name): &(String, String), location_id: &str) -> Value {
    json!({ "name": name, "locationId": location_id, "id": id })
}

/// `GET /locations/{locationId}/customFields`.
pub(crate) fn list_custom_fields(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    let location = own_location(world, ask, ask.part(1))?;
    let field = |id: &str, name: &str, key: &str, position: u32| {
        json!({
            "id": format!("{id}{}", &location.id[5..]), "name": name, "fieldKey": format!("contact.{key}"),
            "placeholder": "", "dataType": "TEXT", "position": position, "picklistOptions": [],
            "model": "contact", "locationId": location.id,
        })
    };
    let status = field("field", "Service status", "service_status", 50);
    // The one of the workflow's message in the Python template.
    let name = field("named", "Microservice name", "microservice_name", 100);
    Ok(Answer::json(200, json!({ "customFields": [status, name] })))
}

/// `GET /workflows/?locationId=`.
pub(crate) fn list_workflows(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    let Some(id) = ask.call.query_value("locationId") else {
        return Err(Answer::unprocessable(&["locationId should not be empty".to_owned()]));
    };
    let location = own_location(world, ask, &id)?;
    let made_at = iso(world.crm.made_at);
    let workflow = json!({
        "id": location.workflow_id, "name": "Health check notice", "status": "published", "version": 1,
        "createdAt": made_at, "updatedAt": made_at, "locationId": location.id,
    });
    Ok(Answer::json(200, json!({ "workflows": [workflow] })))
}
