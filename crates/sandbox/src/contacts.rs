//! Contacts, their tags, and the workflow that a tag starts.
//!
//! Shapes from HighLevel's contacts.json and contacts-v3.json. A contact that doesn't exist is a 400 (measured
//! 2026-07). The workflow is computed when someone looks: a tag it should have removed by then is gone.

use serde_json::{Map, Value, json};

use crate::call::{Answer, Dialect};
use crate::clock::{Millis, iso, millis};
use crate::crm::{Crm, own_location};
use crate::routes::Ask;
use crate::world::World;

const UNIQUE: [&str; 2] = ["phone", "email"];

pub(crate) struct Contact {
    pub(crate) location_id: String,
    /// Every member but `tags`.
    fields: Map<String, Value>,
    pub(crate) tags: Vec<Tag>,
    pub(crate) added_at: Millis,
    /// When the workflow, if it is running, removes its tag.
    pub(crate) workflow_ends_at: Option<Millis>,
}

/// A tag of a contact.
#[derive(Clone)]
pub(crate) struct Tag {
    pub(crate) name: String,
    pub(crate) added_at: Millis,
}

impl Tag {
    fn is(&self, name: &str) -> bool {
        self.name.to_lowercase() == name.to_lowercase()
    }
}

impl Contact {
    fn body(&self) -> Value {
        let mut body = self.fields.clone();
        body.insert("tags".to_owned(), json!(self.tag_names()));
        Value::Object(body)
    }

    fn tag_names(&self) -> Vec<String> {
        self.tags.iter().map(|tag| tag.name.clone()).collect()
    }

    /// One of its members that is a text.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.fields.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    fn set(&mut self, sent: &Map<String, Value>, now: Millis) {
        for (name, value) in
            sent.iter().filter(|(name, _)| !matches!(name.as_str(), "tags" | "id" | "locationId"))
        {
            let value = if name == "customFields" { read_form(value) } else { value.clone() };
            self.fields.insert(name.clone(), value);
        }
        for (from, to) in [
            ("firstName", "firstNameLowerCase"),
            ("lastName", "lastNameLowerCase"),
            ("email", "emailLowerCase"),
        ] {
            if let Some(text) = self.fields.get(from).and_then(Value::as_str) {
                self.fields.insert(to.to_owned(), json!(text.to_lowercase()));
            }
        }
        self.touch(now);
    }

    fn touch(&mut self, now: Millis) {
        self.fields.insert("dateUpdated".to_owned(), json!(iso(now)));
    }
}

/// Custom fields are written as `field_value` (in v3 `fieldValue`) and read as `value`.
fn read_form(custom_fields: &Value) -> Value {
    let fields = custom_fields.as_array().map(Vec::as_slice).unwrap_or_default().iter().map(|field| {
        let value = ["fieldValue", "field_value", "value"].iter().find_map(|name| field.get(*name));
        json!({ "id": field.get("id").or_else(|| field.get("key")), "value": value })
    });
    Value::Array(fields.collect())
}

impl Crm {
    /// The contact that a health check tags.
    pub(crate) fn introduce(&mut self, id: &str, location_id: &str, now: Millis) {
        let settings = std::sync::Arc::clone(&self.settings);
        let (first, last) = settings.contact_name.split_once(' ').unwrap_or((&settings.contact_name, ""));
        let sent = json!({
            "name": settings.contact_name, "firstName": first, "lastName": last,
            "email": settings.contact_email, "phone": settings.contact_phone,
        });
        if let Value::Object(sent) = sent {
            self.add(id.to_owned(), location_id, &sent, now);
        }
    }

    fn add(&mut self, id: String, location_id: &str, sent: &Map<String, Value>, now: Millis) {
        let fields = json!({
            "id": id, "locationId": location_id, "type": "lead", "dnd": false, "country": "BR",
            "dateAdded": iso(now), "customFields": [], "attachments": [],
        });
        let fields = fields.as_object().cloned().unwrap_or_default();
        let mut contact = Contact {
            location_id: location_id.to_owned(),
            fields,
            tags: Vec::new(),
            added_at: now,
            workflow_ends_at: None,
        };
        contact.set(sent, now);
        self.contacts.insert(id.clone(), contact);
        if let Some(location) = self.location_mut(location_id) {
            location.contact_ids.push(id);
        }
    }

    /// The contact as it is at `now`: with the workflow's work done.
    pub(crate) fn contact(&mut self, id: &str, now: Millis) -> Option<&mut Contact> {
        let contact = self.contacts.get_mut(id)?;
        if contact.workflow_ends_at.is_some_and(|ends_at| now >= ends_at) {
            contact.workflow_ends_at = None;
            contact.tags.retain(|tag| !tag.is(&self.settings.health_tag));
            contact.touch(now);
        }
        Some(contact)
    }

    pub(crate) fn tags_of(&mut self, id: &str, now: Millis) -> Vec<String> {
        self.contact(id, now).map(|contact| contact.tag_names()).unwrap_or_default()
    }

    /// The contact of this location with the same telephone number or e-mail address: its id, what is the same.
    fn duplicate(
        &self,
        location_id: &str,
        sent: &Map<String, Value>,
        but: Option<&str>,
    ) -> Option<(String, &'static str)> {
        let others = self.location(location_id)?.contact_ids.iter().filter(|id| Some(id.as_str()) != but);
        others.into_iter().find_map(|id| {
            let fields = &self.contacts.get(id)?.fields;
            let same = |name: &&str| {
                sent.get(*name).is_some_and(|value| value.is_string() && fields.get(*name) == Some(value))
            };
            UNIQUE.into_iter().find(same).map(|name| (id.clone(), name))
        })
    }
}

/// `GET /contacts/{contactId}`.
pub(crate) fn read(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    let contact = own_contact(world, ask)?;
    Ok(Answer::json(200, json!({ "contact": contact.body() })))
}

/// The contact in the path, if it is in the token's location.
fn own_contact<'w>(world: &'w mut World, ask: &Ask<'_>) -> Result<&'w mut Contact, Answer> {
    let id = ask.part(1);
    let missing = || Answer::bad_request(&format!("Contact not found for id:{id}"));
    let contact = world.crm.contact(id, world.now).ok_or_else(missing)?;
    match contact.location_id == ask.caller.class_id {
        true => Ok(contact),
        false => Err(Answer::error(403, "The token does not have access to this location.")),
    }
}

/// `GET /contacts/?locationId=`: deprecated before v3 and absent from its description, but answered. The next page
/// comes after the contact `startAfterId`, or else after those added at `startAfter` milliseconds or before; in which
/// order contacts come is not published \[?\]: here, in the order in which they were added.
pub(crate) fn list(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    let Some(location_id) = ask.call.query_value("locationId") else {
        return Err(Answer::unprocessable(&["locationId should not be empty".to_owned()]));
    };
    let ids = own_location(world, ask, &location_id)?.contact_ids.clone();
    let limit = match ask.call.query_value("limit").map(|text| text.parse::<usize>()) {
        None => 20,
        Some(Ok(limit @ 1..=100)) => limit,
        Some(_) => return Err(Answer::unprocessable(&["limit must not be greater than 100".to_owned()])),
    };
    let after = Cursor {
        millis: ask.call.query_value("startAfter").and_then(|text| text.parse().ok()),
        id: ask.call.query_value("startAfterId"),
    };
    let page = ids[after.first(&world.crm, &ids)..].iter().take(limit);
    let now = world.now;
    let contacts: Vec<Value> =
        page.filter_map(|id| world.crm.contact(id, now).map(|contact| contact.body())).collect();
    Ok(Answer::json(200, json!({ "contacts": contacts, "count": ids.len() })))
}

/// The last contact of the page before.
struct Cursor {
    millis: Option<Millis>,
    id: Option<String>,
}

impl Cursor {
    /// `searchAfter`. What is in it isn't published \[?\]; here, when the contact was added in milliseconds, and its id.
    fn of_search(body: &Map<String, Value>) -> Self {
        let values = body.get("searchAfter").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        Self {
            millis: values.first().and_then(Value::as_u64),
            id: values.get(1).and_then(Value::as_str).map(str::to_owned),
        }
    }

    /// Where among `ids` the next page begins.
    fn first(&self, crm: &Crm, ids: &[String]) -> usize {
        let known = self.id.as_ref().and_then(|after| ids.iter().position(|id| id == after));
        let added_by_then = |id: &String| {
            self.millis.is_some_and(|millis| crm.contacts.get(id).is_some_and(|it| it.added_at <= millis))
        };
        known.map_or_else(|| ids.iter().take_while(|id| added_by_then(id)).count(), |at| at + 1)
    }
}

/// `POST /contacts/search`. Its bodies are published nowhere; the members are those that programs are seen to use:
/// pages by `page` and `pageLimit`, or by `searchAfter`.
pub(crate) fn search(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    let body = ask.call.json_object()?;
    let Some(location_id) = body.get("locationId").and_then(Value::as_str) else {
        return Err(Answer::unprocessable(&["locationId should not be empty".to_owned()]));
    };
    let ids = own_location(world, ask, location_id)?.contact_ids.clone();
    let number = |name: &str, otherwise: u64| match body.get(name) {
        None | Some(Value::Null) => Ok(otherwise),
        Some(value) => value
            .as_u64()
            .filter(|number| *number > 0)
            .ok_or_else(|| Answer::unprocessable(&[format!("{name} must be a positive number")])),
    };
    let (page, limit) = (number("page", 1)?, number("pageLimit", 20)?);
    if limit > 500 {
        return Err(Answer::unprocessable(&["pageLimit must not be greater than 500".to_owned()]));
    }
    let text = body.get("query").and_then(Value::as_str).unwrap_or_default().to_lowercase();
    let now = world.now;
    let all = ids.iter().filter_map(|id| world.crm.contact(id, now).map(|contact| contact.body()));
    let named = |contact: &Value| {
        let has = |name: &&str| contact[*name].as_str().is_some_and(|it| it.to_lowercase().contains(&text));
        text.is_empty() || ["firstName", "lastName", "email", "phone"].iter().any(has)
    };
    let found: Vec<Value> = all.filter(named).collect();
    let found_ids: Vec<String> =
        found.iter().filter_map(|contact| contact["id"].as_str().map(str::to_owned)).collect();
    let after = Cursor::of_search(&body).first(&world.crm, &found_ids);
    let skip = usize::try_from((page - 1).saturating_mul(limit)).unwrap_or(usize::MAX);
    let page = found.iter().skip(after.saturating_add(skip));
    let page: Vec<&Value> = page.take(usize::try_from(limit).unwrap_or(500)).collect();
    Ok(Answer::json(200, json!({ "contacts": page, "total": found.len() })))
}

/// `GET /contacts/search/duplicate?locationId=&email=|number=`.
pub(crate) fn find_duplicate(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    let Some(location_id) = ask.call.query_value("locationId") else {
        return Err(Answer::unprocessable(&["locationId should not be empty".to_owned()]));
    };
    own_location(world, ask, &location_id)?;
    let wanted = [("email", "email"), ("number", "phone")].into_iter();
    let wanted =
        wanted.filter_map(|(asked, name)| Some((name.to_owned(), json!(ask.call.query_value(asked)?))));
    let found = world.crm.duplicate(&location_id, &wanted.collect(), None);
    let now = world.now;
    let contact = found.and_then(|(id, _)| world.crm.contact(&id, now).map(|contact| contact.body()));
    Ok(Answer::json(200, json!({ "contact": contact })))
}

/// `POST /contacts/`.
pub(crate) fn create(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    let (sent, location_id) = sent_contact(world, ask)?;
    refuse_duplicate(world, &location_id, &sent, None)?;
    let contact = make(world, &location_id, &sent)?;
    Ok(Answer::json(201, json!({ "contact": contact })))
}

/// `POST /contacts/upsert`.
pub(crate) fn upsert(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    let (sent, location_id) = sent_contact(world, ask)?;
    match world.crm.duplicate(&location_id, &sent, None) {
        Some((id, _)) => {
            let contact = change(world, &id, &sent)?;
            Ok(Answer::json(200, json!({ "new": false, "contact": contact })))
        }
        None => {
            let contact = make(world, &location_id, &sent)?;
            Ok(Answer::json(200, json!({ "new": true, "contact": contact })))
        }
    }
}

fn sent_contact(world: &World, ask: &Ask<'_>) -> Result<(Map<String, Value>, String), Answer> {
    let sent = ask.call.json_object()?;
    let Some(location_id) = sent.get("locationId").and_then(Value::as_str).map(str::to_owned) else {
        return Err(Answer::unprocessable(&["locationId must be a string".to_owned()]));
    };
    own_location(world, ask, &location_id)?;
    Ok((sent, location_id))
}

fn make(world: &mut World, location_id: &str, sent: &Map<String, Value>) -> Result<Value, Answer> {
    let id = world.chance.id();
    world.crm.add(id.clone(), location_id, sent, world.now);
    change(world, &id, sent)
}

/// Writes what was sent, tags included: here they replace the contact's.
fn change(world: &mut World, id: &str, sent: &Map<String, Value>) -> Result<Value, Answer> {
    let tags = sent.get("tags").map(|_| sent_tags(sent)).transpose()?;
    let now = world.now;
    if let Some(contact) = world.crm.contact(id, now) {
        contact.set(sent, now);
    }
    if let Some(tags) = tags {
        set_tags(world, id, tags);
    }
    Ok(world.crm.contact(id, now).map(|contact| contact.body()).unwrap_or_default())
}

/// `PUT /contacts/{contactId}`.
pub(crate) fn update(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    own_contact(world, ask)?;
    let sent = ask.call.json_object()?;
    refuse_duplicate(world, &ask.caller.class_id, &sent, Some(ask.part(1)))?;
    let contact = change(world, ask.part(1), &sent)?;
    Ok(Answer::json(200, succeeded(ask.dialect, Some(contact))))
}

fn refuse_duplicate(
    world: &World,
    location_id: &str,
    sent: &Map<String, Value>,
    but: Option<&str>,
) -> Result<(), Answer> {
    if world.settings.allow_duplicate_contacts {
        return Ok(());
    }
    let Some((id, matching)) = world.crm.duplicate(location_id, sent, but) else { return Ok(()) };
    let message = "This location does not allow duplicated contacts.";
    let meta = json!({ "contactId": id, "matchingField": matching });
    Err(Answer::json(400, json!({ "statusCode": 400, "message": message, "meta": meta })))
}

/// `DELETE /contacts/{contactId}`.
pub(crate) fn delete(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    own_contact(world, ask)?;
    world.crm.contacts.remove(ask.part(1));
    if let Some(location) = world.crm.location_mut(&ask.caller.class_id) {
        location.contact_ids.retain(|id| id != ask.part(1));
    }
    Ok(Answer::json(200, succeeded(ask.dialect, None)))
}

/// `succeded`, as HighLevel spells it; v3 has `succeeded` too.
fn succeeded(dialect: Dialect, contact: Option<Value>) -> Value {
    let mut body = match dialect {
        Dialect::Dated => json!({ "succeded": true }),
        Dialect::V3 => json!({ "succeeded": true, "succeded": true }),
    };
    if let Some(contact) = contact {
        body["contact"] = contact;
    }
    body
}

/// `POST /contacts/{contactId}/tags`: 201 and all the contact's tags.
pub(crate) fn add_tags(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    let mut tags = own_contact(world, ask)?.tag_names();
    let sent = sent_tags(&ask.call.json_object()?)?;
    tags.extend(sent);
    set_tags(world, ask.part(1), tags);
    let tags = world.crm.tags_of(ask.part(1), world.now);
    Ok(Answer::json(201, json!({ "tags": tags })))
}

/// `DELETE /contacts/{contactId}/tags`: a DELETE with a JSON body.
pub(crate) fn remove_tags(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    let mut tags = own_contact(world, ask)?.tag_names();
    let sent = sent_tags(&ask.call.json_object()?)?;
    tags.retain(|tag| !sent.iter().any(|sent| sent.to_lowercase() == tag.to_lowercase()));
    set_tags(world, ask.part(1), tags);
    let tags = world.crm.tags_of(ask.part(1), world.now);
    Ok(Answer::json(200, json!({ "tags": tags })))
}

fn sent_tags(sent: &Map<String, Value>) -> Result<Vec<String>, Answer> {
    let tags = sent.get("tags").and_then(Value::as_array);
    let texts = tags.and_then(|tags| tags.iter().map(|tag| tag.as_str().map(str::to_owned)).collect());
    texts.ok_or_else(|| Answer::unprocessable(&["tags must be an array".to_owned()]))
}

/// Gives a contact these tags. The trigger fires for a tag that was not there before, and for no other.
fn set_tags(world: &mut World, id: &str, tags: Vec<String>) {
    let settings = std::sync::Arc::clone(&world.settings);
    let now = world.now;
    let is_health_tag = |tag: &Tag| tag.is(&settings.health_tag);
    let Some(contact) = world.crm.contact(id, now) else { return };
    let had = contact.tags.iter().any(is_health_tag);
    let before = std::mem::take(&mut contact.tags);
    for name in tags {
        let name = if settings.lowercase_tags { name.to_lowercase() } else { name };
        if !contact.tags.iter().any(|kept| kept.is(&name)) {
            let added_at = before.iter().find(|tag| tag.is(&name)).map_or(now, |tag| tag.added_at);
            contact.tags.push(Tag { name, added_at });
        }
    }
    contact.touch(now);
    let has = contact.tags.iter().any(is_health_tag);
    if !has {
        contact.workflow_ends_at = None;
    } else if !had {
        contact.workflow_ends_at = settings.workflow_removes_tag_after.map(|after| now + millis(after));
        world.ledger.note_message(now, id, &settings.health_tag);
    }
}

/// `POST /contacts/{contactId}/workflow/{workflowId}`: 201 as measured, where the description says 200.
pub(crate) fn add_to_workflow(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    own_contact(world, ask)?;
    Ok(Answer::json(201, succeeded(ask.dialect, None)))
}

/// `DELETE /contacts/{contactId}/workflow/{workflowId}`.
pub(crate) fn remove_from_workflow(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    own_contact(world, ask)?;
    Ok(Answer::json(200, succeeded(ask.dialect, None)))
}
