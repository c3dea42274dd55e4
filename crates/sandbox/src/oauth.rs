//! `POST /oauth/token` and the calls of a company for its locations, in both dialects.
//!
//! Sources: HighLevel's oauth.json and oauth-v3.json; statuses and the order of checks as measured by third parties
//! in 2025 and 2026. Bodies that nobody has published are marked as guesses.

use serde_json::{Map, Value, json};

use crate::call::{Answer, Call, Dialect};
use crate::clock::iso;
use crate::grants::{Approval, Client, Issued, Refused};
use crate::ledger::{Outcome, TokenRequest};
use crate::routes::Ask;
use crate::settings::UserType;
use crate::world::World;

/// The members of a token request: as they are spelled before v3, and in v3.
const MEMBERS: [(&str, &str); 7] = [
    ("client_id", "clientId"),
    ("client_secret", "clientSecret"),
    ("grant_type", "grantType"),
    ("code", "code"),
    ("refresh_token", "refreshToken"),
    ("user_type", "userType"),
    ("redirect_uri", "redirectUri"),
];

/// The body of a token request, in one dialect.
struct Form {
    dialect: Dialect,
    fields: Vec<(String, String)>,
}

impl Form {
    fn read(call: &Call, dialect: Dialect) -> Result<Self, Answer> {
        let form = Self { dialect, fields: call.fields()? };
        let foreign: Vec<String> = form
            .fields
            .iter()
            .filter(|(name, _)| !MEMBERS.iter().any(|member| form.spell(*member) == name))
            .map(|(name, _)| format!("property {name} should not exist"))
            .collect();
        match foreign.is_empty() {
            true => Ok(form),
            false => Err(Answer::unprocessable(&foreign)),
        }
    }

    fn spell(&self, (dated, v3): (&'static str, &'static str)) -> &'static str {
        match self.dialect {
            Dialect::Dated => dated,
            Dialect::V3 => v3,
        }
    }

    fn name(&self, dated: &str) -> &'static str {
        let member = MEMBERS.iter().find(|(name, _)| *name == dated);
        self.spell(*member.expect("every member is in the table"))
    }

    fn optional(&self, dated: &str) -> Option<&str> {
        let wanted = self.name(dated);
        let (_, value) = self.fields.iter().find(|(name, value)| name == wanted && !value.is_empty())?;
        Some(value)
    }

    /// `Missing parameter: …` is documented for v3; before it the same is assumed.
    fn required(&self, dated: &str) -> Result<&str, Answer> {
        let missing = || Answer::error(400, &format!("Missing parameter: {}", self.name(dated)));
        self.optional(dated).ok_or_else(missing)
    }

    fn invalid(&self, dated: &str) -> Answer {
        Answer::error(400, &format!("Invalid parameter: {}", self.name(dated)))
    }
}

/// `POST /oauth/token`.
pub(crate) fn token(world: &mut World, call: &Call) -> Answer {
    let form = match call.dialect_or_dated().and_then(|dialect| Form::read(call, dialect)) {
        Ok(form) => form,
        Err(answer) => return refused_unread(world, answer),
    };
    match answer_form(world, &form) {
        Ok(answer) => answer,
        Err(answer) => refused_unread(world, answer),
    }
}

fn refused_unread(world: &mut World, answer: Answer) -> Answer {
    let outcome = Outcome::Refused { status: answer.status, message: answer.message() };
    world.note_token("unread", Presented::default(), None, outcome);
    answer
}

fn answer_form(world: &mut World, form: &Form) -> Result<Answer, Answer> {
    let client = Client {
        id: form.required("client_id")?.to_owned(),
        secret: form.required("client_secret")?.to_owned(),
    };
    let grant_type = form.required("grant_type")?;
    let user_type = match form.optional("user_type") {
        Some(text) => Some(UserType::parse(text).ok_or_else(|| form.invalid("user_type"))?),
        None => None,
    };
    match grant_type {
        "authorization_code" => {
            let code = form.required("code")?;
            let issued =
                world.grants.exchange(&client, code, form.optional("redirect_uri"), user_type, world.now);
            Ok(conclude(world, form.dialect, grant_type, None, issued))
        }
        "refresh_token" => {
            let presented = form.required("refresh_token")?;
            let (place, issued) = world.grants.refresh(&client, presented, world.now);
            Ok(conclude(world, form.dialect, grant_type, place, issued))
        }
        _ => Err(form.invalid("grant_type")),
    }
}

/// Writes the ledger's line and the answer.
fn conclude(
    world: &mut World,
    dialect: Dialect,
    grant_type: &str,
    place: Option<(usize, u64)>,
    issued: Result<Issued, Refused>,
) -> Answer {
    let answer = match &issued {
        Ok(issued) => Answer::json(200, reply(world, dialect, issued)),
        Err(refused) => refusal(dialect, *refused),
    };
    let outcome = match &issued {
        Ok(Issued { generation, repeated: true, .. }) => Outcome::Repeated { generation: *generation },
        Ok(Issued { generation, .. }) => Outcome::Issued { generation: *generation },
        Err(_) => Outcome::Refused { status: answer.status, message: answer.message() },
    };
    if matches!(issued, Err(Refused::Reused)) {
        world.ledger.counts.reuse_after_window += 1;
    }
    let endings = issued.as_ref().ok().map(|issued| [&issued.access, &issued.refresh].map(|it| ending(it)));
    let presented = Presented {
        grant: issued.ok().map(|issued| issued.grant).or(place.map(|(grant, _)| grant)),
        generation: place.map(|(_, generation)| generation),
    };
    world.note_token(grant_type, presented, endings, outcome);
    answer
}

/// Enough of a token to tell it from another, and too little to use it.
fn ending(token: &str) -> String {
    token.get(token.len().saturating_sub(4)..).unwrap_or_default().to_owned()
}

/// Which grant a request for tokens was about, and what it presented.
#[derive(Default)]
struct Presented {
    grant: Option<usize>,
    generation: Option<u64>,
}

/// How a refusal reads. "Invalid client credentials!" and "Authorization code not found" were measured (2025-07,
/// 2026-08), the 400s stand in oauth-v3.json; the older dialect's `invalid_grant` is put together from what
/// integrations branch on, and the redirect address's is a guess.
pub(crate) fn refusal(dialect: Dialect, refused: Refused) -> Answer {
    const INVALID_GRANT: &str = "Invalid grant: refresh token is invalid";
    match refused {
        Refused::UnknownCode => Answer::oauth_error(401, "UnAuthorized!", "Authorization code not found"),
        Refused::WrongClient => Answer::oauth_error(401, "UnAuthorized!", "Invalid client credentials!"),
        Refused::OtherRedirectUri => Answer::error(400, "Invalid grant: redirect uri is invalid"),
        Refused::InvalidGrant | Refused::Reused => match dialect {
            Dialect::V3 => Answer::error(400, INVALID_GRANT),
            Dialect::Dated => Answer::oauth_error(400, "invalid_grant", INVALID_GRANT),
        },
        Refused::NotActive => Answer::error(400, "Location is not active"),
        Refused::NotInstalled => Answer::error(403, "The token does not have access to this location."),
    }
}

/// The members of a token reply, in the order of HighLevel's samples. A company's has no `locationId`.
fn reply(world: &World, dialect: Dialect, issued: &Issued) -> Value {
    let grant = world.grants.grant(issued.grant);
    let mut reply = Map::new();
    let mut put = |dated: &str, v3: &str, value: Value| {
        let name = if dialect == Dialect::V3 { v3 } else { dated };
        reply.insert(name.to_owned(), value);
    };
    put("access_token", "accessToken", json!(issued.access));
    put("token_type", "tokenType", json!("Bearer"));
    put("expires_in", "expiresIn", json!(issued.expires_in));
    put("refresh_token", "refreshToken", json!(issued.refresh));
    put("scope", "scope", json!(grant.scopes()));
    if dialect == Dialect::Dated {
        put("refreshTokenId", "refreshTokenId", json!(grant.refresh_token_id));
    }
    put("userType", "userType", json!(grant.class));
    put("companyId", "companyId", json!(grant.company_id));
    if let Some(location_id) = &grant.location_id {
        put("locationId", "locationId", json!(location_id));
    }
    put("isBulkInstallation", "isBulkInstallation", json!(grant.bulk));
    put("userId", "userId", json!(grant.user_id));
    Value::Object(reply)
}

/// `POST /oauth/locationToken`, in v3 `/oauth/location-token`: 201 as measured, where the description says 200.
pub(crate) fn mint(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    let fields = ask.call.fields()?;
    let field = |name: &str| {
        fields.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.clone())
    };
    let missing: Vec<String> = ["companyId", "locationId"]
        .into_iter()
        .filter(|name| field(name).is_none())
        .map(|name| format!("{name} should not be empty"))
        .collect();
    let (Some(company_id), Some(location_id)) = (field("companyId"), field("locationId")) else {
        return Err(Answer::unprocessable(&missing));
    };
    let known = company_id == ask.caller.class_id && world.crm.location(&location_id).is_some();
    if !known {
        return Err(refusal(ask.dialect, Refused::NotInstalled));
    }
    let issued = world.grants.mint(&location_id, world.now);
    let mut answer = conclude(world, ask.dialect, "location_token", None, issued);
    if answer.status == 200
        && let crate::call::Body::Json(Value::Object(reply)) = &mut answer.body
    {
        answer.status = 201;
        reply.shift_remove("isBulkInstallation");
        reply.shift_remove("refreshTokenId");
        reply.insert("appId".to_owned(), json!(world.settings.app_id()));
        reply.insert("versionId".to_owned(), json!(world.settings.version_id()));
    }
    Ok(answer)
}

/// `GET /oauth/installedLocations`: 20 at a time, and silent about the rest.
pub(crate) fn installed_locations(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    let number = |name: &str| ask.call.query_value(name).and_then(|text| text.parse().ok());
    let (skip, limit) = (number("skip").unwrap_or(0), number("limit").unwrap_or(20));
    let missing: Vec<String> =
        missing_ids(ask.call).map(|name| format!("{name} should not be empty")).collect();
    if !missing.is_empty() {
        return Err(Answer::unprocessable(&missing));
    }
    let items = location_items(world, ask)?;
    let page: Vec<&Value> = items.iter().skip(skip).take(limit).collect();
    let body = json!({ "locations": page, "count": items.len(), "installToFutureLocations": false });
    Ok(Answer::json(200, body))
}

/// `GET /oauth/installed-locations` of v3: the same with pages, and errors in their own envelope.
pub(crate) fn installed_locations_v3(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    if let Some(name) = missing_ids(ask.call).next() {
        return Err(envelope(400, "INVALID_ARGUMENT", &format!("{name} is required")));
    }
    let size: usize = match ask.call.query_value("pageSize").map(|text| text.parse()) {
        None => 20,
        Some(Ok(size @ 1..=100)) => size,
        Some(_) => return Err(envelope(400, "INVALID_ARGUMENT", "pageSize must be between 1 and 100")),
    };
    let from = match ask.call.query_value("pageToken").map(|token| token.parse::<usize>()) {
        None => 0,
        Some(Ok(from)) => from,
        Some(Err(_)) => return Err(envelope(400, "INVALID_ARGUMENT", "pageToken is invalid")),
    };
    let items = location_items(world, ask)?;
    let page: Vec<&Value> = items.iter().skip(from).take(size).collect();
    let more = from + page.len() < items.len();
    let pagination = json!({
        "hasNextPage": more,
        "hasPrevPage": from > 0,
        "currentPageSize": page.len(),
        "nextPageToken": more.then(|| (from + size).to_string()),
        "prevPageToken": (from > 0).then(|| from.saturating_sub(size).to_string()),
        "totalRecords": items.len(),
        "estimatedTotalRecords": items.len(),
    });
    let body = json!({
        "items": page, "pagination": pagination, "metadata": {}, "installToFutureLocations": false
    });
    Ok(Answer::json(200, body))
}

fn missing_ids(call: &Call) -> impl Iterator<Item = &'static str> {
    ["companyId", "appId"].into_iter().filter(|name| call.query_value(name).is_none())
}

fn envelope(status: u16, code: &str, message: &str) -> Answer {
    let error =
        json!({ "code": code, "message": message, "details": {}, "resolution": "Check the request." });
    Answer::json(status, json!({ "error": error }))
}

fn location_items(world: &World, ask: &Ask<'_>) -> Result<Vec<Value>, Answer> {
    let query = |name: &str| ask.call.query_value(name);
    if query("companyId").as_deref() != Some(ask.caller.class_id.as_str()) {
        return Err(Answer::error(403, "The token does not have access to this location."));
    }
    let wanted_app = query("appId").as_deref() == Some(world.settings.app_id());
    let (only, installed, text) = (query("locationId"), query("isInstalled"), query("query"));
    let items = world.crm.locations().iter().filter(|_| wanted_app).map(|location| {
        let installed_at = world.grants.installed_at(&location.id);
        json!({
            "_id": location.id, "name": location.name, "address": location.address,
            "isInstalled": installed_at.is_some(), "versionId": world.settings.version_id(),
            "installedAt": installed_at.map(iso),
        })
    });
    let wanted = items.filter(|item| {
        only.as_deref().is_none_or(|id| item["_id"] == id)
            && installed.as_deref().is_none_or(|flag| item["isInstalled"] == (flag == "true"))
            && text
                .as_deref()
                .is_none_or(|part| item["name"].as_str().is_some_and(|name| name.contains(part)))
    });
    Ok(wanted.collect())
}

/// `POST /oauth/reconnect`: gone, with or without `Version` (measured 2026-09).
pub(crate) fn reconnect() -> Answer {
    Answer::bad_request("API endpoint has been removed")
}

/// `GET /marketplace/app/{appId}/installations`: who installed the app.
pub(crate) fn installer(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    own_app(world, ask)?;
    let details = json!({
        "companyId": world.settings.company_id,
        "locationId": (ask.caller.class == UserType::Location).then_some(&ask.caller.class_id),
        "companyName": "Sandbox Agency", "relationshipNumber": "0-000-000",
        "companyEmail": "agency@sandbox.example", "companyOwnerFullName": "Olga Owner",
        "userId": world.grants.user_id(), "isWhitelabelCompany": false, "companyPlan": "saas_unlimited",
    });
    Ok(Answer::json(200, json!({ "installationDetails": details })))
}

/// `DELETE /marketplace/app/{appId}/installations`: uninstalls, and every token of it dies.
pub(crate) fn uninstall(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    own_app(world, ask)?;
    let body = ask.call.json_object()?;
    let named = ["locationId", "companyId"].iter().find_map(|name| body.get(*name)?.as_str());
    let class_id = named.unwrap_or(&ask.caller.class_id);
    let own = class_id == ask.caller.class_id;
    if !own && ask.caller.class == UserType::Location {
        return Err(Answer::error(403, "The token does not have access to this location."));
    }
    let class_id = class_id.to_owned();
    world.uninstall(&class_id);
    Ok(Answer::json(200, json!({ "success": true })))
}

fn own_app(world: &World, ask: &Ask<'_>) -> Result<(), Answer> {
    match ask.part(2) == world.settings.app_id() {
        true => Ok(()),
        false => Err(Answer::bad_request("App not found")),
    }
}

impl World {
    fn note_token(
        &mut self,
        grant_type: &str,
        about: Presented,
        endings: Option<[String; 2]>,
        outcome: Outcome,
    ) {
        self.ledger.note_token(TokenRequest {
            at: self.now,
            grant_type: grant_type.to_owned(),
            grant: about.grant,
            presented: about.generation,
            endings,
            outcome,
        });
    }

    /// Notes a token request that a fault answered in our place.
    pub(crate) fn note_unprocessed(&mut self, grant_type: &str) {
        self.note_token(grant_type, Presented::default(), None, Outcome::NotProcessed);
    }

    /// Agrees as a person would on the consent page: the code, and where the browser goes.
    pub(crate) fn approve(&mut self, approval: Approval, state: Option<&str>) -> (String, String) {
        let redirect_uri = approval.redirect_uri.clone();
        self.redirect_uri = Some(redirect_uri.clone());
        let location_id = approval.location_id.clone();
        let code = self.grants.approve(approval, self.now);
        // Before the code is exchanged, as HighLevel does.
        self.tell_of_install(location_id.as_deref());
        let to = crate::consent::callback(&redirect_uri, &[("code", Some(&code)), ("state", state)]);
        (code, to)
    }
}
