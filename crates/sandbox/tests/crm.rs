//! Contacts, tags and their workflow; who may do what; the rate limit.

mod common;

use std::time::Duration;

use common::{JSON, api, connect, connect_company, sandbox, send, tag, with};
use sandbox::Sandbox;
use serde_json::{Value, json};

fn contact_path(sandbox: &Sandbox) -> String {
    format!("/contacts/{}", sandbox.settings().contact_id)
}

#[test]
fn a_contact_is_read_with_its_tags_and_a_trace() {
    let sandbox = sandbox();
    let (access, _) = connect(&sandbox);
    let answer = api(&sandbox, "GET", &contact_path(&sandbox), &access, None);
    let body = answer.json();
    assert_eq!(answer.status, 200);
    assert_eq!(body["contact"]["email"], json!(sandbox.settings().contact_email));
    assert_eq!(body["contact"]["tags"], json!([]));
    assert_eq!(body["traceId"].as_str().map(str::len), Some(36));
    let seen = sandbox.ledger().requests.back().cloned().expect("a line");
    assert_eq!((seen.trace_id.as_deref(), seen.generation), (body["traceId"].as_str(), Some(1)));
    assert_eq!(seen.caller.as_ref(), Some(&sandbox.settings().location_id));
}

#[test]
fn a_new_tag_sends_one_message_and_the_workflow_takes_it_off_again() {
    let sandbox = sandbox();
    let (access, _) = connect(&sandbox);
    let health_tag = sandbox.settings().health_tag.clone();
    let added = tag(&sandbox, "POST", &access, &health_tag);
    assert_eq!((added.status, added.untraced()), (201, json!({ "tags": [health_tag] })));
    assert_eq!(tag(&sandbox, "POST", &access, &health_tag).status, 201);
    assert_eq!(sandbox.ledger().messages_sent(), 1, "the trigger fires for a tag that was not there");
    sandbox.advance(Duration::from_secs(1));
    assert_eq!(sandbox.contact_tags(), Vec::<String>::new());
    tag(&sandbox, "POST", &access, &health_tag);
    assert_eq!(sandbox.ledger().messages_sent(), 2);
}

#[test]
fn a_tag_that_stays_fires_again_only_after_it_was_removed() {
    let sandbox = with(|settings| settings.workflow_removes_tag_after = None);
    let (access, _) = connect(&sandbox);
    let health_tag = sandbox.settings().health_tag.clone();
    tag(&sandbox, "POST", &access, &health_tag);
    sandbox.advance(Duration::from_secs(86_000));
    assert_eq!(sandbox.contact_tags(), std::slice::from_ref(&health_tag));
    tag(&sandbox, "POST", &access, &health_tag);
    assert_eq!(sandbox.ledger().messages_sent(), 1);
    let removed = tag(&sandbox, "DELETE", &access, &health_tag);
    assert_eq!((removed.status, removed.untraced()), (200, json!({ "tags": [] })));
    tag(&sandbox, "POST", &access, &health_tag);
    assert_eq!(sandbox.ledger().messages_sent(), 2);
}

#[test]
fn contacts_are_made_found_changed_and_kept_single() {
    let sandbox = sandbox();
    let (access, _) = connect(&sandbox);
    let location_id = sandbox.settings().location_id.clone();
    let ana = json!({ "locationId": location_id, "firstName": "Ana", "email": "ana@example.org" });
    let made = api(&sandbox, "POST", "/contacts/", &access, Some(ana.clone()));
    assert_eq!(made.status, 201);
    let id = made.json()["contact"]["id"].as_str().expect("an id").to_owned();

    let again = api(&sandbox, "POST", "/contacts/", &access, Some(ana.clone()));
    let refused = json!({
        "statusCode": 400, "message": "This location does not allow duplicated contacts.",
        "meta": { "contactId": id, "matchingField": "email" },
    });
    assert_eq!((again.status, again.untraced()), (400, refused));
    assert_eq!(api(&sandbox, "POST", "/contacts/upsert", &access, Some(ana)).json()["new"], false);

    let path = format!("/contacts/search/duplicate?locationId={location_id}&email=ana%40example.org");
    assert_eq!(api(&sandbox, "GET", &path, &access, None).json()["contact"]["id"], json!(id));

    let changed =
        api(&sandbox, "PUT", &format!("/contacts/{id}"), &access, Some(json!({ "tags": ["a", "b"] })));
    assert_eq!(changed.json()["succeded"], true);
    let changed = api(&sandbox, "PUT", &format!("/contacts/{id}"), &access, Some(json!({ "tags": ["c"] })));
    assert_eq!(changed.json()["contact"]["tags"], json!(["c"]));

    let listed =
        api(&sandbox, "GET", &format!("/contacts/?locationId={location_id}&limit=1"), &access, None).json();
    assert_eq!((listed["contacts"].as_array().map(Vec::len), &listed["count"]), (Some(1), &json!(2)));
}

#[test]
fn refusals_say_what_is_wrong_and_only_one_of_them_is_cured_by_a_refresh() {
    let sandbox = with(|settings| {
        settings.extra_locations = 1;
        settings.scopes.retain(|scope| scope != "workflows.readonly");
    });
    let (access, _) = connect(&sandbox);
    let company = connect_company(&sandbox);
    let other = sandbox.location_ids()[1].clone();
    let contact = contact_path(&sandbox);
    let location = format!("/locations/{}", sandbox.settings().location_id);
    let workflows = format!("/workflows/?locationId={}", sandbox.settings().location_id);
    let private = sandbox.settings().private_token.clone();

    let check = |path: &str, token: &str, version: Option<&str>, status: u16, message: &str| {
        let bearer = format!("Bearer {token}");
        let mut headers = vec![("authorization", bearer.as_str())];
        headers.extend(version.map(|version| ("version", version)));
        let answer = send(&sandbox, "GET", path, &headers, "");
        let said = answer.json()["message"].as_str().unwrap_or_default().to_owned();
        assert_eq!((answer.status, said.as_str()), (status, message), "{path}");
    };
    const DATED: Option<&str> = Some("2021-07-28");
    const V3: Option<&str> = Some("v3");
    check(&contact, &access, DATED, 200, "");
    check(&contact, &access, V3, 200, "");
    check(&contact, &access, None, 401, "version header was not found.");
    check(&contact, &access, Some("2020-01-01"), 401, "version header is invalid");
    check(
        &contact,
        &access,
        Some("bogus-version"),
        400,
        "Invalid API version segment 'bogus-version' at position 0",
    );
    check(&contact, "abc", DATED, 401, "Invalid JWT");
    check(&contact, &access[..access.len() - 1], DATED, 401, "Invalid JWT");
    check(&contact, "pit-wrong", DATED, 401, "Invalid Private Integration token");
    check(&contact, &private, DATED, 200, "");
    let class = "This authClass type is not allowed to access this scope. Please verify your IAM configuration if this is not the case.";
    check(&contact, &company, DATED, 401, class);
    check(&location, &company, DATED, 200, "");
    check(&workflows, &access, DATED, 401, "The token is not authorized for this scope.");
    check(
        &format!("/locations/{other}"),
        &access,
        DATED,
        403,
        "The token does not have access to this location.",
    );
    check("/locations/bogus", &access, DATED, 403, "The token does not have access to this location.");
    check("/contacts/nobody", &access, DATED, 400, "Contact not found for id:nobody");
    check("/nowhere", &access, DATED, 404, "Cannot GET /nowhere");
    check("/oauth/installed-locations", &company, DATED, 404, "Cannot GET /oauth/installed-locations");

    sandbox.advance(Duration::from_secs(86_400));
    check(&contact, &access, DATED, 401, "Invalid JWT");
}

#[test]
fn a_refresh_token_is_no_access_token() {
    let sandbox = sandbox();
    let (_, refresh_token) = connect(&sandbox);
    let answer = api(&sandbox, "GET", &contact_path(&sandbox), &refresh_token, None);
    assert_eq!(
        (answer.status, answer.untraced()),
        (401, json!({ "statusCode": 401, "message": "Invalid JWT" }))
    );
}

#[test]
fn scopes_change_for_tokens_issued_from_now_on() {
    let sandbox = sandbox();
    let (access, refresh_token) = connect(&sandbox);
    sandbox.set_scopes(["contacts.readonly"]);
    assert_eq!(tag(&sandbox, "POST", &access, "x").status, 201);
    let fresh = common::refresh(&sandbox, &refresh_token);
    assert_eq!(fresh.text("scope"), "contacts.readonly");
    let refused = tag(&sandbox, "POST", &fresh.text("access_token"), "x");
    assert_eq!(
        (refused.status, refused.text("message").as_str()),
        (401, "The token is not authorized for this scope.")
    );
}

#[test]
fn every_reply_tells_the_limit_and_the_hundred_and_first_call_is_refused() {
    let sandbox = sandbox();
    let code = sandbox.approve(common::CALLBACK, None, sandbox::UserType::Location);
    let token_reply = common::exchange(&sandbox, &code);
    assert_eq!(token_reply.header("x-ratelimit-max"), Some("100"));
    let access = token_reply.text("access_token");
    let path = contact_path(&sandbox);
    for left in (0..100).rev() {
        let answer = api(&sandbox, "GET", &path, &access, None);
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("x-ratelimit-remaining"), Some(left.to_string().as_str()));
    }
    let refused = api(&sandbox, "GET", &path, &access, None);
    assert_eq!(refused.untraced(), json!({ "statusCode": 429, "message": "Too Many Requests" }));
    assert_eq!((refused.status, refused.header("retry-after")), (429, None));
    let expected = [
        ("x-ratelimit-remaining", "0"),
        ("x-ratelimit-interval-milliseconds", "10000"),
        ("x-ratelimit-limit-daily", "200000"),
        ("x-ratelimit-daily-remaining", "199900"),
    ];
    for (name, value) in expected {
        assert_eq!(refused.header(name), Some(value), "{name}");
    }
    let reset: u64 =
        refused.header("x-ratelimit-daily-reset").and_then(|text| text.parse().ok()).expect("a number");
    assert!(reset <= 86_400_000);
    sandbox.advance(Duration::from_secs(10));
    assert_eq!(api(&sandbox, "GET", &path, &access, None).status, 200);
}

#[test]
fn a_limit_that_is_not_enforced_is_still_told() {
    let sandbox = with(|settings| {
        settings.rate_limit.burst = 2;
        settings.rate_limit.enforced = false;
    });
    let (access, _) = connect(&sandbox);
    for left in ["1", "0", "0", "0"] {
        let answer = api(&sandbox, "GET", &contact_path(&sandbox), &access, None);
        assert_eq!((answer.status, answer.header("x-ratelimit-remaining")), (200, Some(left)));
    }
}

#[test]
fn a_location_says_who_it_is_and_what_tags_it_has() {
    let sandbox = sandbox();
    let (access, _) = connect(&sandbox);
    let location = format!("/locations/{}", sandbox.settings().location_id);
    let body = api(&sandbox, "GET", &location, &access, None).json();
    assert_eq!(body["location"]["companyId"], json!(sandbox.settings().company_id));
    let made = api(&sandbox, "POST", &format!("{location}/tags"), &access, Some(json!({ "name": "Tag" })));
    assert_eq!(made.status, 200);
    let tags = api(&sandbox, "GET", &format!("{location}/tags"), &access, None).json();
    assert_eq!(tags["tags"][0], made.json()["tag"]);
    assert_eq!(api(&sandbox, "GET", &format!("{location}/customFields"), &access, None).status, 200);
    let found = api(&sandbox, "GET", "/locations/search", &access, None).json();
    assert_eq!(found["locations"][0]["id"], json!(sandbox.settings().location_id));
}

#[test]
fn v3_spells_succeeded_right_and_keeps_the_old_word() {
    let sandbox = sandbox();
    let (access, _) = connect(&sandbox);
    let path = format!("{}/workflow/00000000-0000-4000-8000-000000000000", contact_path(&sandbox));
    let bearer = format!("Bearer {access}");
    let send_as = |version: &str| -> (u16, Value) {
        let headers = [("authorization", bearer.as_str()), ("version", version), JSON];
        let answer = send(&sandbox, "POST", &path, &headers, "{}");
        (answer.status, answer.untraced())
    };
    assert_eq!(send_as("v3"), (201, json!({ "succeeded": true, "succeded": true })));
    assert_eq!(send_as("2021-07-28"), (201, json!({ "succeded": true })));
}

#[test]
fn contacts_are_searched_in_pages_and_tags_have_a_life_of_their_own() {
    let sandbox = sandbox();
    let (access, _) = connect(&sandbox);
    let location = sandbox.settings().location_id.clone();
    for number in 0..4 {
        let body = json!({ "locationId": location, "firstName": format!("Ana {number}"), "email": format!("ana{number}@x.example") });
        assert_eq!(api(&sandbox, "POST", "/contacts/", &access, Some(body)).status, 201);
    }
    let search = |body: Value| api(&sandbox, "POST", "/contacts/search", &access, Some(body));
    let found = search(json!({ "locationId": location, "query": "ANA", "page": 2, "pageLimit": 3 })).json();
    assert_eq!((found["total"].as_u64(), found["contacts"].as_array().map(Vec::len)), (Some(4), Some(1)));
    assert_eq!(search(json!({ "locationId": location })).json()["total"], 5);
    assert_eq!(search(json!({ "locationId": "another" })).status, 403);
    assert_eq!(search(json!({})).status, 422);
    assert_eq!(search(json!({ "locationId": location, "pageLimit": 0 })).status, 422);

    let tags = format!("/locations/{location}/tags");
    let made = api(&sandbox, "POST", &tags, &access, Some(json!({ "name": "One" }))).json();
    let one = format!("{tags}/{}", made["tag"]["id"].as_str().expect("an id"));
    assert_eq!(api(&sandbox, "GET", &one, &access, None).json()["tag"]["name"], "One");
    let renamed = api(&sandbox, "PUT", &one, &access, Some(json!({ "name": "Two" })));
    assert_eq!((renamed.status, renamed.json()["tag"]["name"].clone()), (200, json!("Two")));
    assert_eq!(api(&sandbox, "PUT", &one, &access, Some(json!({}))).status, 422);
    assert_eq!(api(&sandbox, "DELETE", &one, &access, None).status, 200);
    assert_eq!(api(&sandbox, "GET", &one, &access, None).status, 400);
    assert_eq!(api(&sandbox, "DELETE", &one, &access, None).status, 400);
}
