//! `/oauth/token` in both dialects, and what it refuses.

mod common;

use common::{CALLBACK, FORM, JSON, connect, form, sandbox, send, with};
use sandbox::{Sandbox, UserType};
use serde_json::{Value, json};

/// Posts to `/oauth/token`; `ID`, `SECRET`, `CODE` and `REFRESH` stand for good ones.
fn post(sandbox: &Sandbox, version: Option<&str>, json: bool, fields: &[(&str, &str)]) -> (u16, Value) {
    let settings = sandbox.settings();
    let fields: Vec<(&str, String)> = fields
        .iter()
        .map(|(name, value)| {
            let value = match *value {
                "ID" => settings.client_id.clone(),
                "SECRET" => settings.client_secret.clone(),
                "CODE" => sandbox.approve(CALLBACK, None, UserType::Location),
                "REFRESH" => connect(sandbox).1,
                other => other.to_owned(),
            };
            (*name, value)
        })
        .collect();
    let body = match json {
        true => {
            Value::Object(fields.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect())
                .to_string()
        }
        false => form(&fields.iter().map(|(name, value)| (*name, value.as_str())).collect::<Vec<_>>()),
    };
    let mut headers = vec![if json { JSON } else { FORM }];
    headers.extend(version.map(|version| ("version", version)));
    let answer = send(sandbox, "POST", "/oauth/token", &headers, &body);
    (answer.status, answer.untraced())
}

fn check(version: Option<&str>, fields: &[(&str, &str)], expected: (u16, Value)) {
    let sandbox = sandbox();
    for json in [false, true] {
        assert_eq!(post(&sandbox, version, json, fields), expected, "{version:?} {fields:?}");
    }
}

const V3: Option<&str> = Some("v3");

fn says(message: &str) -> (u16, Value) {
    (400, json!({ "statusCode": 400, "message": message }))
}

fn unauthorized(description: &str) -> (u16, Value) {
    (401, json!({ "error": "UnAuthorized!", "error_description": description }))
}

fn should_not_exist(names: &[&str]) -> (u16, Value) {
    let messages: Vec<String> =
        names.iter().map(|name| format!("property {name} should not exist")).collect();
    (422, json!({ "statusCode": 422, "message": messages, "error": "Unprocessable Entity" }))
}

#[test]
fn codes_are_checked_before_clients_and_refresh_tokens_after_them() {
    let exchange = |id, secret, code| {
        [("client_id", id), ("client_secret", secret), ("grant_type", "authorization_code"), ("code", code)]
    };
    let unknown = || unauthorized("Authorization code not found");
    let wrong_client = || unauthorized("Invalid client credentials!");
    check(None, &exchange("ID", "SECRET", "bogus"), unknown());
    check(None, &exchange("ID", "wrong", "bogus"), unknown());
    check(None, &exchange("wrong", "SECRET", "bogus"), unknown());
    check(None, &exchange("ID", "wrong", "CODE"), wrong_client());

    let refresh = |secret, token| {
        [
            ("client_id", "ID"),
            ("client_secret", secret),
            ("grant_type", "refresh_token"),
            ("refresh_token", token),
        ]
    };
    let invalid = "Invalid grant: refresh token is invalid";
    check(None, &refresh("wrong", "REFRESH"), wrong_client());
    check(None, &refresh("wrong", "bogus"), wrong_client());
    check(
        None,
        &refresh("SECRET", "bogus"),
        (400, json!({ "error": "invalid_grant", "error_description": invalid })),
    );
    check(
        V3,
        &[
            ("clientId", "ID"),
            ("clientSecret", "SECRET"),
            ("grantType", "refresh_token"),
            ("refreshToken", "bogus"),
        ],
        says(invalid),
    );
}

#[test]
fn missing_and_invalid_parameters_are_named_in_their_dialect() {
    let dated = [("client_id", "ID"), ("client_secret", "SECRET"), ("grant_type", "authorization_code")];
    let v3 = [("clientId", "ID"), ("clientSecret", "SECRET"), ("grantType", "refresh_token")];
    check(V3, &v3[1..], says("Missing parameter: clientId"));
    check(V3, &v3[..2], says("Missing parameter: grantType"));
    check(V3, &v3, says("Missing parameter: refreshToken"));
    check(None, &dated[1..], says("Missing parameter: client_id"));
    check(None, &dated, says("Missing parameter: code"));
    check(V3, &[v3[0], v3[1], ("grantType", "password")], says("Invalid parameter: grantType"));
    check(V3, &[v3[0], v3[1], ("grantType", "client_credentials")], says("Invalid parameter: grantType"));
    check(
        None,
        &[dated[0], dated[1], dated[2], ("user_type", "Robot")],
        says("Invalid parameter: user_type"),
    );
}

#[test]
fn the_other_dialects_names_should_not_exist() {
    check(None, &[("client_id", "ID"), ("userType", "Location")], should_not_exist(&["userType"]));
    check(
        Some("2021-07-28"),
        &[("client_id", "ID"), ("userType", "Location")],
        should_not_exist(&["userType"]),
    );
    check(V3, &[("clientId", "ID"), ("user_type", "Location")], should_not_exist(&["user_type"]));
    check(
        V3,
        &[("client_id", "ID"), ("client_secret", "SECRET"), ("grant_type", "refresh_token")],
        should_not_exist(&["client_id", "client_secret", "grant_type"]),
    );
}

#[test]
fn a_version_may_be_missing_here_but_not_be_wrong() {
    let nonsense = "Invalid API version segment 'bogus-version' at position 0";
    let bad = json!({ "message": nonsense, "error": "Bad Request", "statusCode": 400 });
    check(Some("bogus-version"), &[], (400, bad));
    let invalid = json!({ "statusCode": 401, "message": "version header is invalid" });
    check(Some("2020-01-01"), &[], (401, invalid));
}

#[test]
fn a_location_gets_the_members_of_the_published_samples() {
    let sandbox = sandbox();
    let fields = [
        ("client_id", "ID"),
        ("client_secret", "SECRET"),
        ("grant_type", "authorization_code"),
        ("code", "CODE"),
        ("user_type", "Location"),
    ];
    let (status, body) = post(&sandbox, None, false, &fields);
    assert_eq!(status, 200);
    let names: Vec<&String> = body.as_object().expect("an object").keys().collect();
    assert_eq!(
        names,
        [
            "access_token",
            "token_type",
            "expires_in",
            "refresh_token",
            "scope",
            "refreshTokenId",
            "userType",
            "companyId",
            "locationId",
            "isBulkInstallation",
            "userId",
        ]
    );
    assert_eq!(body["expires_in"], 86_399);
    assert_eq!(body["token_type"], "Bearer");
    assert_eq!(body["userType"], "Location");
    assert_eq!(body["locationId"], json!(sandbox.settings().location_id));
    assert!(body["access_token"].as_str().is_some_and(|token| token.len() > 4800));
}

#[test]
fn v3_answers_in_camel_case() {
    let sandbox = sandbox();
    let fields = [
        ("clientId", "ID"),
        ("clientSecret", "SECRET"),
        ("grantType", "refresh_token"),
        ("refreshToken", "REFRESH"),
        ("userType", "Location"),
    ];
    let (status, body) = post(&sandbox, V3, true, &fields);
    assert_eq!(status, 200);
    for name in ["accessToken", "tokenType", "expiresIn", "refreshToken", "scope", "userType", "locationId"] {
        assert!(body.get(name).is_some(), "{name} in {body}");
    }
    assert!(body.as_object().is_some_and(|body| body.keys().all(|name| !name.contains('_'))));
    assert!(sandbox.is_current_refresh_token(body["refreshToken"].as_str().unwrap_or_default()));
}

#[test]
fn a_code_works_once_for_its_redirect_address_and_for_a_minute() {
    let sandbox = sandbox();
    let code = sandbox.approve(CALLBACK, None, UserType::Location);
    assert_eq!((code.len(), code.chars().all(|digit| digit.is_ascii_hexdigit())), (40, true));
    assert_eq!(common::exchange(&sandbox, &code).status, 200);
    assert_eq!(common::exchange(&sandbox, &code).status, 401);

    let code = sandbox.approve("http://127.0.0.1:1/other", None, UserType::Location);
    assert_eq!(common::exchange(&sandbox, &code).status, 400);

    let code = sandbox.approve(CALLBACK, None, UserType::Location);
    sandbox.advance(std::time::Duration::from_secs(61));
    assert_eq!(common::exchange(&sandbox, &code).status, 401);
}

#[test]
fn the_class_of_token_is_what_the_app_may_have_and_not_what_was_asked() {
    let check = |allowed: &[UserType], approved: UserType, asked: Option<&str>, expected: &str| {
        let sandbox = with(|settings| settings.user_types = allowed.to_vec());
        let code = sandbox.approve(CALLBACK, None, approved);
        let body = common::exchange_for(&sandbox, &code, asked).json();
        assert_eq!(body["userType"], expected, "{allowed:?} {approved:?} {asked:?}");
        assert_eq!(body.get("locationId").is_some(), expected == "Location");
        assert_eq!(body["companyId"], json!(sandbox.settings().company_id));
    };
    use UserType::{Company, Location};
    check(&[Location, Company], Location, Some("Location"), "Location");
    check(&[Location, Company], Location, None, "Company");
    check(&[Location, Company], Company, Some("Location"), "Company");
    check(&[Location], Location, None, "Location");
    check(&[Location], Location, Some("Company"), "Location");
}

#[test]
fn reconnect_is_gone() {
    let sandbox = sandbox();
    let gone =
        json!({ "message": "API endpoint has been removed", "error": "Bad Request", "statusCode": 400 });
    for headers in [vec![JSON], vec![JSON, ("version", "2021-07-28")]] {
        let answer = send(&sandbox, "POST", "/oauth/reconnect", &headers, "{}");
        assert_eq!((answer.status, answer.untraced()), (400, gone.clone()));
    }
}
