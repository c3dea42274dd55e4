//! HighLevel's own SDK for Node, unchanged, with the example's session storage.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use sandbox::{Fault, FaultKind, Matcher};

use crate::service::Service;
use crate::support::{HOUR, Home, Running, is_there};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/node-sdk");

/// The example beside the packages of its lock file, which are fetched once for each lock file.
fn example() -> Option<&'static Path> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOLDER.get_or_init(installed).as_deref()
}

fn installed() -> Option<PathBuf> {
    if !is_there("node") || !is_there("npm") {
        eprintln!("node or npm is not there: the example with the SDK is not run");
        return None;
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("node-sdk");
    std::fs::create_dir_all(&folder).expect("a folder");
    let copy = |name: &str| {
        std::fs::copy(Path::new(EXAMPLE).join(name), folder.join(name)).expect("the example's files");
    };
    ["keeper-session-storage.cjs", "location.mjs", "package.json"].into_iter().for_each(copy);
    let wanted = std::fs::read(Path::new(EXAMPLE).join("package-lock.json")).expect("a lock file");
    if std::fs::read(folder.join("installed")).is_ok_and(|lock| lock == wanted) {
        return Some(folder);
    }
    copy("package-lock.json");
    let npm = Command::new("npm")
        .args(["ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"])
        .current_dir(&folder)
        .output()
        .expect("npm runs");
    assert!(npm.status.success(), "{}", String::from_utf8_lossy(&npm.stderr));
    std::fs::write(folder.join("installed"), wanted).expect("the folder is ours");
    Some(folder)
}

/// A service that has nothing to refresh or check by itself, over a HighLevel that lets a thousand
/// calls through.
fn service(age: impl FnOnce(&Home)) -> Service {
    let home = Home::with(|settings| settings.rate_limit.enforced = false).log_in();
    home.run(["check"]).good();
    age(&home);
    Service::start(home.set("GHL_AUTH_LISTEN", "127.0.0.1:0"))
}

/// Starts the example, which makes so many calls at once.
fn reading(service: &Service, key: &str, folder: &Path, how_many: u32) -> Running {
    let mut command = Command::new("node");
    command
        .args(["location.mjs", &how_many.to_string()])
        .current_dir(folder)
        .env("GHL_AUTH_URL", &service.address)
        .env("GHL_AUTH_API_KEY", key)
        .env("GHL_LOCATION_ID", service.home.location())
        .env("GHL_API_BASE_URL", service.home.sandbox.base_url())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Running::start(command)
}

fn key(service: &Service) -> String {
    service.key(&["node-sdk", "--location", service.home.location()])
}

#[test]
fn a_thousand_calls_of_the_official_sdk_over_an_expiring_token_cost_one_refresh() {
    let Some(folder) = example() else { return };
    // So near to its end the SDK by itself would refresh it, once for each call.
    let service = service(|home| home.age(Duration::ZERO, 24 * HOUR - Duration::from_secs(25)));
    let sandbox = &service.home.sandbox;
    let key = key(&service);
    // Each has asked for its token before the first gets one: the SDK does it in one turn of its loop.
    reading(&service, &key, folder, 1000).end().good().answers("HighLevel answered 1000 of 1000");
    assert_eq!(sandbox.counts().refreshes, 1);
    service.stop();
}

#[test]
fn a_thousand_refusals_to_two_programs_with_the_official_sdk_are_cured_by_one_refresh() {
    let Some(folder) = example() else { return };
    let service = service(|home| home.age(2 * HOUR, 2 * HOUR));
    let sandbox = &service.home.sandbox;
    let key = key(&service);
    // To HighLevel the token has ended.
    sandbox.advance(25 * HOUR);
    let programs = [reading(&service, &key, folder, 500), reading(&service, &key, folder, 500)];
    for program in programs {
        program.end().good().answers("HighLevel answered 500 of 500");
    }
    assert_eq!(sandbox.counts().refreshes, 1);
    service.stop();
}

/// The SDK by itself would refresh and try again for ever.
#[test]
fn a_refusal_that_no_token_cures_ends_the_official_sdks_call() {
    let Some(folder) = example() else { return };
    let service = service(|home| home.age(2 * HOUR, 2 * HOUR));
    let sandbox = &service.home.sandbox;
    let key = key(&service);
    let body = r#"{"message":"The token is not authorized for this scope.","statusCode":401}"#;
    sandbox.fault(Fault::new(FaultKind::status(401, body)).on(Matcher::LocationRead).until_cleared());
    for requests in [2, 1] {
        let before = sandbox.counts();
        let run = reading(&service, &key, folder, 1).end().ended(1);
        let run = run.complains("not authorized for this scope").answers("HighLevel answered 0 of 1");
        assert!(!run.err.contains("ghlk_") && !run.err.contains("eyJ"), "{}", run.err);
        let after = sandbox.counts();
        // Once more with a new token; the next program is told at once that a newer one would not help.
        let refreshes = after.refreshes - before.refreshes;
        assert_eq!((after.requests - before.requests, refreshes), (requests + refreshes, requests - 1));
    }
    service.stop();
}

/// The SDK has one kind of id for both.
#[test]
fn the_storage_for_the_official_sdk_finds_a_companys_token_too() {
    let Some(folder) = example() else { return };
    let home = Home::new().set("GHL_USER_TYPE", "Company").log_in();
    let service = Service::start(home.set("GHL_AUTH_LISTEN", "127.0.0.1:0"));
    let company = &service.home.sandbox.settings().company_id;
    let key = service.key(&["node-sdk", "--company", company]);
    let program = r#"
        const { KeeperSessionStorage } = require("./keeper-session-storage.cjs");
        const [url, apiKey, ...ids] = process.argv.slice(1);
        const storage = new KeeperSessionStorage({ url, apiKey });
        (async () => {
            for (const id of ids) {
                const session = await storage.getSession(id).catch((error) => error);
                console.log(session.message ?? `${session.userType} ${session.companyId}`);
            }
        })();
    "#;
    let node = Command::new("node")
        .args(["-e", program, &service.address, &key, company, "elsewhere"])
        .current_dir(folder)
        .output()
        .expect("node runs");
    let said = String::from_utf8_lossy(&node.stdout).into_owned();
    let (first, second) = said.split_once('\n').expect("two lines");
    assert_eq!(first, format!("Company {company}"));
    assert!(second.starts_with("ghl-auth: out_of_reach: "), "{second}");
    service.stop();
}
