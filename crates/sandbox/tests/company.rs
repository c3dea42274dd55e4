//! What a company's token can do for its locations, and how an app leaves.

mod common;

use common::{FORM, api, connect, connect_company, form, refresh, send, with};
use sandbox::Sandbox;
use serde_json::{Value, json};

fn mint(sandbox: &Sandbox, path: &str, version: &str, token: &str) -> (u16, Value) {
    let settings = sandbox.settings();
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("version", version), FORM];
    let body =
        form(&[("companyId", settings.company_id.as_str()), ("locationId", settings.location_id.as_str())]);
    let answer = send(sandbox, "POST", path, &headers, &body);
    (answer.status, answer.json())
}

fn refusal(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["message"].as_str().unwrap_or_default())
}

#[test]
fn a_companys_token_mints_a_locations_with_a_refresh_token_of_its_own() {
    let sandbox = common::sandbox();
    let company = connect_company(&sandbox);
    let (status, body) = mint(&sandbox, "/oauth/locationToken", "2021-07-28", &company);
    assert_eq!((status, &body["userType"], &body["expires_in"]), (201, &json!("Location"), &json!(86_400)));
    assert!(
        body["scope"]
            .as_str()
            .is_some_and(|scope| scope.ends_with("oauth.write") || scope.contains("oauth.write "))
    );
    assert!(body["traceId"].is_string() && body["appId"].is_string());
    assert!(body.get("isBulkInstallation").is_none() && body.get("refreshTokenId").is_none());
    let token = body["refresh_token"].as_str().expect("a refresh token");
    assert!(sandbox.is_current_refresh_token(token));
    assert_eq!(refresh(&sandbox, token).status, 200);

    let (status, body) = mint(&sandbox, "/oauth/location-token", "v3", &company);
    assert_eq!(status, 201);
    assert!(body["accessToken"].is_string() && body["refreshToken"].is_string());
}

#[test]
fn minting_is_refused_in_these_words() {
    let sandbox = common::sandbox();
    let (location, _) = connect(&sandbox);
    let company = connect_company(&sandbox);
    let private = sandbox.settings().private_token.clone();
    let old = "/oauth/locationToken";
    let wrong_class = mint(&sandbox, old, "2021-07-28", &location);
    assert_eq!(refusal(&wrong_class), (401, "This token's user type is not yet supported!"));
    let private = mint(&sandbox, old, "2021-07-28", &private);
    assert_eq!(refusal(&private), (401, "The token is not authorized for this scope."));
    let new_under_old = mint(&sandbox, "/oauth/location-token", "2021-07-28", &company);
    assert_eq!(refusal(&new_under_old), (404, "Cannot POST /oauth/location-token"));
    let old_under_new = mint(&sandbox, old, "v3", &company);
    let removed = "Endpoint /oauth/locationToken not available in API version v3. This endpoint was removed in version v3. Please use a version before v3.";
    assert_eq!(refusal(&old_under_new), (400, removed));
    let without_token = mint(&sandbox, old, "v3", "abc");
    assert_eq!(refusal(&without_token), (401, "Invalid JWT"));
    sandbox.suspend(&sandbox.settings().location_id.clone());
    let paused = mint(&sandbox, old, "2021-07-28", &company);
    assert_eq!(refusal(&paused), (400, "Location is not active"));
}

#[test]
fn a_dead_location_heals_from_its_company() {
    let sandbox = common::sandbox();
    let company = connect_company(&sandbox);
    let (_, token) = connect(&sandbox);
    sandbox.revoke(&sandbox.settings().location_id.clone());
    assert_eq!(refresh(&sandbox, &token).status, 400);
    let (status, body) = mint(&sandbox, "/oauth/locationToken", "2021-07-28", &company);
    assert_eq!(status, 201);
    let path = format!("/contacts/{}", sandbox.settings().contact_id);
    assert_eq!(
        api(&sandbox, "GET", &path, body["access_token"].as_str().unwrap_or_default(), None).status,
        200
    );
}

#[test]
fn installed_locations_come_twenty_at_a_time() {
    let sandbox = with(|settings| settings.extra_locations = 44);
    let company = connect_company(&sandbox);
    let (company_id, app_id) =
        (sandbox.settings().company_id.clone(), sandbox.settings().app_id().to_owned());
    let query = format!("companyId={company_id}&appId={app_id}");
    let get = |path: &str, version: &str| {
        let bearer = format!("Bearer {company}");
        send(&sandbox, "GET", path, &[("authorization", bearer.as_str()), ("version", version)], "")
    };
    let mut seen = Vec::new();
    for skip in [0, 20, 40] {
        let page = get(&format!("/oauth/installedLocations?{query}&skip={skip}"), "2021-07-28").json();
        assert_eq!(page["count"], 45);
        let ids = page["locations"].as_array().expect("a list").iter().map(|item| item["_id"].clone());
        seen.extend(ids);
    }
    let all: Vec<Value> = sandbox.location_ids().into_iter().map(Value::from).collect();
    assert_eq!(seen, all);

    let mut seen = Vec::new();
    let mut token = String::new();
    loop {
        let page = get(&format!("/oauth/installed-locations?{query}{token}"), "v3").json();
        seen.extend(page["items"].as_array().expect("a list").iter().map(|item| item["_id"].clone()));
        match page["pagination"]["nextPageToken"].as_str() {
            Some(next) => token = format!("&pageToken={next}"),
            None => break,
        }
    }
    assert_eq!(seen, all);

    assert_eq!(get(&format!("/oauth/installedLocations?companyId={company_id}"), "2021-07-28").status, 422);
    let envelope = get(&format!("/oauth/installed-locations?companyId={company_id}"), "v3");
    assert_eq!((envelope.status, envelope.json()["error"]["code"].is_string()), (400, true));
    let removed = get("/oauth/installedLocations?companyId=x", "v3");
    assert!(
        removed.text("message").starts_with("Endpoint /oauth/installedLocations?companyId=x not available")
    );
}

#[test]
fn an_uninstalled_app_has_no_tokens_and_mints_none() {
    let sandbox = with(|settings| settings.extra_locations = 1);
    let company = connect_company(&sandbox);
    let (access, token) = connect(&sandbox);
    let path = format!("/marketplace/app/{}/installations", sandbox.settings().app_id());
    let details = api(&sandbox, "GET", &path, &access, None).json();
    assert_eq!(details["installationDetails"]["companyId"], json!(sandbox.settings().company_id));

    let location_id = sandbox.settings().location_id.clone();
    let gone = api(&sandbox, "DELETE", &path, &access, Some(json!({ "locationId": location_id })));
    assert_eq!((gone.status, gone.untraced()), (200, json!({ "success": true })));
    assert_eq!(refresh(&sandbox, &token).text("error"), "invalid_grant");
    assert!(!sandbox.is_valid_access_token(&access));
    assert_eq!(mint(&sandbox, "/oauth/locationToken", "2021-07-28", &company).0, 403);

    let other = sandbox.location_ids()[1].clone();
    let body = json!({ "companyId": sandbox.settings().company_id, "locationId": other });
    assert_eq!(api(&sandbox, "POST", "/oauth/locationToken", &company, Some(body)).status, 201);
}
