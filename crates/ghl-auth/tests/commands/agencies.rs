//! An agency: one company's grant, and its locations' tokens by every way there is.

use std::time::{Duration, Instant};

use sandbox::{Fault, FaultKind, Matcher, UserType};

use crate::serving::{Service, document};
use crate::support::{Home, Running, free_port, http};

fn agency(locations: usize) -> Home {
    agency_with(locations, Duration::from_secs(86_399))
}

fn agency_with(locations: usize, life: Duration) -> Home {
    let home = Home::with(|settings| {
        settings.extra_locations = locations - 1;
        settings.access_token_life = life;
    });
    home.sandbox.set_scopes(["locations.readonly", "oauth.readonly", "oauth.write"]);
    home.set("GHL_USER_TYPE", "Company").set("GHL_LOCATION_ID", "")
}

fn log_in(home: &Home) -> crate::support::Run {
    home.run(["login", "--code", &home.code(UserType::Company)]).good()
}

fn kept(home: Home) -> Home {
    let home = home.sealed().set("GHL_STORE", "sqlite:tokens.db").set("GHL_AUTH_LISTEN", "127.0.0.1:0");
    log_in(&home);
    home
}

#[test]
fn after_a_company_s_login_each_location_s_token_is_there_for_the_asking() {
    let home = agency(3).sealed().set("GHL_STORE", "sqlite:tokens.db");
    log_in(&home).complains("lists 3 locations of this company");
    let locations = home.sandbox.location_ids();
    let token = home.run(["token", "--location", &locations[1]]).good().out;
    assert!(home.sandbox.is_valid_access_token(token.trim()));
    assert_eq!(home.run(["token", "--location", &locations[1]]).good().out, token, "and then it is kept");
    assert_eq!(home.sandbox.counts().mints, 1);
    let status = home.run(["status", "--json"]).good().json();
    let list = status["installations"].as_array().expect("a list");
    assert_eq!(list.len(), 2, "{status}");
    home.run(["check"]).good();
    home.run(["refresh", "--location", &locations[1]]).good();
    home.run(["token", "--location", "ZZZZZZZZZZZZZZZZZZZZ"]).fails_with(3, "not_minted");
}

#[test]
fn a_file_has_room_for_the_company_alone_and_says_so() {
    let home = agency(2);
    log_in(&home).complains("lists 2 locations").complains("GHL_STORE=sqlite:");
    let location = home.sandbox.location_ids()[0].clone();
    home.run(["token", "--location", &location]).fails_with(3, "not_connected");
    home.run(["token"]).good();
}

#[test]
fn a_list_that_can_t_be_had_is_a_warning_that_names_the_scopes() {
    let home = Home::new().set("GHL_USER_TYPE", "Company").set("GHL_LOCATION_ID", "");
    let run = home.run(["login", "--code", &home.code(UserType::Company)]).good();
    run.complains("oauth.readonly and oauth.write");
}

#[test]
fn the_service_finds_all_locations_by_itself_and_serves_each_by_its_key() {
    let service = Service::start(kept(agency(4)));
    let locations = service.home.sandbox.location_ids();
    let admin = service.key(&["all", "--all"]);
    let installations = || document(&service.get("/v1/installations", Some(&admin)));
    service.until(|| installations()["installations"].as_array().is_some_and(|list| list.len() == 5));
    let company = service.home.sandbox.settings().company_id.clone();
    for installation in installations()["installations"].as_array().expect("a list") {
        assert_eq!(installation["company_id"], company, "{installation}");
    }
    let key = service.key(&["billing", "--location", &locations[2]]);
    let token = |id: &str| service.get(&format!("/v1/locations/{id}/token"), Some(&key));
    assert_eq!(document(&token(&locations[2]))["location_id"], locations[2]);
    assert_eq!(token(&locations[3]).status, 403);
    assert_eq!(service.get(&format!("/v1/companies/{company}/token"), Some(&key)).status, 403);
    service.stop();
}

#[test]
fn what_ails_the_company_is_what_its_location_s_error_says() {
    let home = agency_with(1, Duration::from_secs(2)).set("GHL_AUTH_LANG", "en");
    home.sandbox.fault(Fault::new(FaultKind::NotActive).on(Matcher::Mint).until_cleared());
    let service = Service::start(kept(home));
    let key = service.key(&["all", "--all"]);
    service.home.sandbox.fault(Fault::new(FaultKind::InvalidGrant).on(Matcher::Refresh).until_cleared());
    let company = service.home.sandbox.settings().company_id.clone();
    let path = format!("/v1/locations/{}/token", service.home.sandbox.location_ids()[0]);
    service.until(|| service.get(&path, Some(&key)).body.contains("company_trouble"));
    let answer = service.get(&path, Some(&key));
    let problem = document(&answer);
    assert_eq!(answer.status, 409, "{problem}");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(&company)), "{problem}");
    assert!(problem["authorize_url"].is_string(), "{problem}");
    service.stop();
}

#[test]
fn an_agency_can_be_tried_offline_with_nothing_but_the_sandbox_s_own_env() {
    let home = Home::empty();
    let address = format!("127.0.0.1:{}", free_port());
    let arguments = ["sandbox", "--listen", &address, "--locations", "7", "--write-env", "agency.env"];
    let mut sandbox = home.start(arguments);
    sandbox.until_it_says("The sandbox listens on");
    // The sandbox gives more than it is asked for; HighLevel does not.
    assert!(home.read("agency.env").contains(" oauth.readonly oauth.write\""));
    let agree = r#"{"redirect_uri":"http://127.0.0.1:8788/oauth/callback","user_type":"Company"}"#;
    let json = [("content-type", "application/json")];
    let approved = http("POST", &format!("http://{address}/_sandbox/approve"), &json, agree);
    let approved: serde_json::Value = serde_json::from_str(&approved.body).expect("JSON");
    let code = approved["code"].as_str().expect("a code");

    let ours = |arguments: &[&str]| home.run([&["--env-file", "agency.env"], arguments].concat());
    ours(&["login", "--code", code]).good().complains("lists 7 locations of this company");
    // The address of this run; all else stands in the file.
    let mut command = home.command(["--env-file", "agency.env", "serve"]);
    command.env("GHL_AUTH_LISTEN", "127.0.0.1:0").env("GHL_AUTH_PUBLIC_LISTEN", "127.0.0.1:0");
    let service = Running::start(command);
    let installations = || ours(&["status", "--json"]).json()["installations"].as_array().map_or(0, Vec::len);
    let began = Instant::now();
    while installations() < 8 {
        assert!(began.elapsed() < Duration::from_secs(60), "{} of 8 are there", installations());
    }
    service.signal("TERM");
    service.end().good();
    ours(&["check"]).good();
    let status = ours(&["status", "--json"]).json();
    let list = status["installations"].as_array().expect("a list");
    assert!(list.iter().all(|one| one["state"] == "connected"), "{status}");
    for one in list.iter().filter(|one| one["kind"] == "location") {
        ours(&["token", "--location", one["id"].as_str().expect("an id")]).good();
    }
    sandbox.interrupt();
    sandbox.end();
    for none in ["0", "1000001", "many"] {
        home.run(["sandbox", "--listen", &address, "--locations", none]).ended(2);
    }
}
