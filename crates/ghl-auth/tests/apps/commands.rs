//! Commands, each about one of several apps, and settings of each.

use sandbox::UserType;

use crate::support::{Home, KEY, mode};
use crate::town::{BACK_AT_CRM, Town};

#[test]
fn each_app_has_grants_of_its_own_and_the_commands_are_about_one() {
    let town = Town::new();
    let none = town.home.run(["--app", "crm", "token"]).ended(3);
    none.complains("ghl-auth --app crm login");
    town.home.run(["--app", "crm", "login", "--code", &town.crm_code()]).good();
    let none = town.home.run(["token"]).ended(3);
    none.complains("`ghl-auth login`");
    town.home.run(["login", "--code", &town.home.code(UserType::Location)]).good();
    let token = |arguments: &[&str]| town.home.run(arguments).good().out.trim().to_owned();
    let (first, crm) = (token(&["token"]), token(&["token", "--app", "crm"]));
    assert_ne!(first, crm);
    assert!(town.home.sandbox.is_valid_access_token(&first) && town.crm.is_valid_access_token(&crm));
    assert_eq!(token(&["--app", "default", "token"]), first);
    assert!(town.home.path("ghl-auth.db").exists() && town.home.path("ghl-auth.crm.db").exists());
    town.home.run(["--app", "crm", "refresh"]).good();
    assert_eq!((town.home.sandbox.counts().refreshes, town.crm.counts().refreshes), (0, 1));
    assert_eq!(token(&["token"]), first);
    let town = town.set("GHL_APP", "crm");
    let crm = town.home.run(["token"]).good().out.trim().to_owned();
    assert!(town.crm.is_valid_access_token(&crm), "GHL_APP says which");
    assert_eq!(
        town.home.run(["token", "--app", "default"]).good().out.trim(),
        first,
        "and --app goes before it"
    );
}

#[test]
fn a_programs_secrets_do_not_reach_what_it_starts_whichever_app_they_are_of() {
    let town = Town::connected();
    let run = town.home.run(["--app", "crm", "exec", "--", "env"]).good();
    assert!(
        run.out.contains("GHL_ACCESS_TOKEN=") && run.out.contains("GHL_APP_CRM_CLIENT_ID="),
        "{}",
        run.out
    );
    assert!(!run.out.contains("CLIENT_SECRET") && !run.out.contains(KEY), "{}", run.out);
}

#[test]
fn status_shows_all_apps_or_the_one_that_is_named() {
    let town = Town::connected();
    let town = town.set("GHL_APP", "crm");
    let all = town.home.run(["status"]).good();
    let places: Vec<Option<usize>> = ["App default", "App crm"].map(|words| all.out.find(words)).to_vec();
    assert!(places[0].is_some() && places[0] < places[1], "{}", all.out);
    let json = town.home.run(["status", "--json"]).good().json();
    let of = |list: &str, name: &str| -> Vec<String> {
        let list = json[list].as_array().expect("a list").iter();
        list.map(|one| one[name].as_str().expect("a text").to_owned()).collect()
    };
    assert_eq!(of("installations", "app"), ["default", "crm"]);
    assert_eq!(of("installations", "id"), [town.home.location(), town.home.location()]);
    assert_eq!(of("apps", "store"), ["sqlite:ghl-auth.db", "sqlite:ghl-auth.crm.db"]);
    let one = town.home.run(["--app", "crm", "status", "--json"]).good().json();
    assert_eq!((&one["app"], &one["store"]), (&"crm".into(), &"sqlite:ghl-auth.crm.db".into()));
    assert_eq!(one["installations"].as_array().map(Vec::len), Some(1));
    assert!(!town.home.run(["--app", "crm", "status"]).good().out.contains("App "), "one is not headed");
}

#[test]
fn where_no_app_is_without_a_name_the_only_one_is_meant_and_of_several_one_has_to_be_named() {
    let home = Home::new();
    let settings = home.sandbox.settings().clone();
    let env = home.read(".env").replace("GHL_CLIENT_", "GHL_APP_CRM_2_CLIENT_");
    home.write(
        ".env",
        &env.replace("GHL_REDIRECT_URI", "# GHL_REDIRECT_URI").replace("GHL_AUTHORIZE_URL", "# "),
    );
    let home = home.sealed().set("GHL_APPS", "crm-2").set("GHL_REDIRECT_URI", "");
    let home = home.set("GHL_APP_CRM_2_REDIRECT_URI", BACK_AT_CRM);
    let code = home.sandbox.approve(BACK_AT_CRM, None, UserType::Location);
    home.run(["login", "--code", &code]).good();
    assert_eq!(home.run(["status", "--json"]).good().json()["app"], "crm-2");
    assert!(home.run(["check", "--json"]).ended(2).out.contains("GHL_APP_CRM_2_LOCATION_ID: "));
    let home = home.set("GHL_APP_CRM_2_LOCATION_ID", &settings.location_id);
    let check = home.run(["check", "--json"]).good().json();
    assert_eq!(check["microservice"], "AuthServicePadrao (crm-2)");
    let home = home.set("GHL_APPS", "crm-2, billing");
    home.run(["token"]).fails_with(2, "which_app").complains("crm-2, billing");
    home.run(["--app", "default", "token"]).fails_with(2, "no_such_app").complains("crm-2, billing");
    home.run(["--app", "crm-2", "token"]).good();
    let home = home.set("GHL_AUTH_LANG", "pt-BR");
    home.run(["token"]).fails_with(2, "which_app").complains("crm-2, billing").complains("--app NOME");
}

#[test]
fn whatever_is_wrong_with_the_settings_of_any_app_is_one_error_with_the_real_names() {
    let home = Home::new().sealed().set("GHL_APPS", "billing,crm").set("RUN_INTERVAL_HOURS", "never");
    let home = home.set("GHL_APP_BILLING_CLIENT_ID", "id").set("GHL_APP_BILLING_REDIRECT_URI", "nowhere");
    let home = home.set("GHL_APP_BILLING_CLIENT_SECRET_FILE", "secret").set("GHL_APP_CRM_API_VERSION", "v9");
    mode(&home.write("secret", "secret"), 0o644);
    let run = home.run(["serve"]).fails_with(2, "configuration");
    for words in [
        "GHL_APP_BILLING_CLIENT_SECRET: secret, which holds it, can be read by others",
        "GHL_APP_BILLING_REDIRECT_URI: `nowhere`",
        "GHL_APP_CRM_CLIENT_ID: ",
        "Example: GHL_APP_CRM_CLIENT_ID=",
        "GHL_APP_CRM_CLIENT_SECRET: ",
        "GHL_APP_CRM_REDIRECT_URI: ",
        "GHL_APP_CRM_API_VERSION: `v9`",
    ] {
        assert_eq!(run.err.matches(words).count(), 1, "{words}: {}", run.err);
    }
    assert_eq!(run.err.matches("RUN_INTERVAL_HOURS: `never`").count(), 1, "what is shared is told once");
    assert!(!run.err.contains("GHL_CLIENT_ID: "), "{}", run.err);
    assert_eq!(home.sandbox.counts().requests, 0);
}

#[test]
fn a_name_that_is_none_and_a_store_with_room_for_one_are_refused() {
    for (name, words) in [
        ("Billing", "`Billing` is no name"),
        ("a/b", "`a/b` is no name"),
        ("default", "`default` stands for something else"),
        ("a,b,a", "`a` is there twice"),
    ] {
        let home = Home::new().sealed().set("GHL_APPS", name);
        home.run(["token"]).fails_with(2, "configuration").complains("GHL_APPS: ").complains(words);
    }
    let town = Town::new().set("GHL_STORE", "file:ghl_tokens.json");
    let refused = town.home.run(["--app", "crm", "login", "--code", "x"]).fails_with(2, "configuration");
    refused.complains("GHL_STORE: a file holds one app's grant, and the app crm needs a place of its own");
    town.home.run(["login", "--code", &town.home.code(UserType::Location)]).good();
}

#[test]
fn a_schedule_which_runs_one_check_is_not_put_in_the_place_of_several() {
    let town = Town::connected();
    town.home.run(["schedule", "install"]).fails_with(2, "schedule_apps").complains("ghl-auth serve");
    let one = Home::new();
    one.run(["--app", "default", "schedule", "install"]).fails_with(2, "schedule_apps");
}
