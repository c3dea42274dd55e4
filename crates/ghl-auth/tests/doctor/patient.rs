//! A set-up to examine: complete, logged in, checked, with a crontab of its own that runs the check.

use std::path::Path;

use sandbox::Settings;
use serde_json::Value;

use crate::support::{BINARY, Home, Run, mode};

/// A crontab of this home alone, for `crontab` itself knows only the one of whoever runs the tests.
const CRONTAB: &str = "#!/bin/sh
case $1 in
    -l) test -e \"$HOME/crontab\" || { echo 'no crontab for patient' >&2; exit 1; }; cat \"$HOME/crontab\" ;;
    *) exit 2 ;;
esac
";

/// Where nobody listens but whom the system gives the port to.
const ANY_PORT: &str = "127.0.0.1:0";

/// A home whose login and first check are done, and whose workflow takes the tag away at once.
pub(crate) fn healthy() -> Home {
    healthy_with(|_| {})
}

pub(crate) fn healthy_with(change: impl FnOnce(&mut Settings)) -> Home {
    checked(new_with(change).log_in())
}

/// The same over a sealed database.
pub(crate) fn healthy_in_sqlite() -> Home {
    checked(new_with(|_| {}).sealed().log_in())
}

/// Everything but the grant.
pub(crate) fn new_with(change: impl FnOnce(&mut Settings)) -> Home {
    let home = Home::with(|settings| {
        // Sooner than a check and an examination follow each other, and later than the tag is looked for.
        settings.workflow_removes_tag_after = Some(std::time::Duration::from_secs(60));
        change(settings);
    });
    let shims = home.path("shims");
    std::fs::create_dir(&shims).expect("the folder is ours");
    std::fs::write(shims.join("crontab"), CRONTAB).expect("the folder is ours");
    mode(&shims.join("crontab"), 0o755);
    let path = std::env::var("PATH").expect("a path");
    let home = home.set("PATH", &format!("{}:{path}", shims.display())).set("GHL_AUTH_LISTEN", ANY_PORT);
    schedule(&home, 12, BINARY, "ghl_auth_check.log");
    home
}

fn checked(home: Home) -> Home {
    home.run(["check"]).good();
    after_the_workflow(&home);
    home
}

/// Lets the workflow have taken the tag away.
pub(crate) fn after_the_workflow(home: &Home) {
    home.sandbox.advance(std::time::Duration::from_secs(120));
}

/// The entry that `schedule install` writes.
pub(crate) fn schedule(home: &Home, hours: u32, program: &str, log: &str) {
    let folder = home.path("").canonicalize().expect("it is there").display().to_string();
    let entry = format!(
        "0 */{hours} * * * cd {folder} && {program} --env-file {folder}/.env check >> {folder}/{log} 2>&1 # ghl-auth {folder}\n"
    );
    write_crontab(home, &entry);
}

pub(crate) fn write_crontab(home: &Home, text: &str) {
    home.write("crontab", text);
}

/// Changes what rests in the plain token file.
pub(crate) fn change_tokens(home: &Home, change: impl FnOnce(&mut Value)) {
    let mut file: Value = serde_json::from_str(&home.read("ghl_tokens.json")).expect("JSON");
    change(&mut file);
    home.write("ghl_tokens.json", &file.to_string());
}

/// What a doctor says, as one document.
pub(crate) fn examined(home: &Home) -> (Run, Value) {
    let run = home.run(["doctor", "--json"]);
    let document = run.json();
    assert_eq!(i64::from(run.code), document["exit_code"].as_i64().expect("a code"), "{document:#}");
    (run, document)
}

/// The findings that are not good.
pub(crate) fn wrong(document: &Value) -> Vec<&Value> {
    let findings = document["findings"].as_array().unwrap_or_else(|| panic!("no findings: {document:#}"));
    findings.iter().filter(|finding| finding["level"] != "ok").collect()
}

/// The names of all that is in a folder, in order.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("the folder is ours");
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.expect("an entry").file_name().to_string_lossy().into_owned()
    };
    let mut names: Vec<String> = entries.map(name).collect();
    names.sort();
    names
}
