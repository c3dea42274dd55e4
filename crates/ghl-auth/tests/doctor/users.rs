//! Who runs the check, and whether the files are theirs. Only root can take a part in each of these.

use std::os::unix::fs::lchown;
use std::os::unix::process::CommandExt as _;

use crate::patient::{examined, healthy, names, wrong};
use crate::support::{Running, mode};

/// Nobody on this machine, and the group of nobody.
const NOBODY: u32 = 65534;

fn is_root() -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        eprintln!("skipped: only root can give files away");
    }
    is_root
}

#[test]
fn root_who_becomes_the_owner_of_the_tokens_finds_nothing_wrong() {
    if !is_root() {
        return;
    }
    let home = healthy();
    for name in names(&home.path("")).iter().map(String::as_str).chain([""]) {
        lchown(home.path(name), Some(NOBODY), Some(NOBODY)).expect("root may");
    }
    let (run, document) = examined(&home);
    assert_eq!(wrong(&document), Vec::<&serde_json::Value>::new());
    assert_eq!(run.code, 0);
}

#[test]
fn a_user_is_told_whose_the_files_are_and_what_the_entry_of_cron_may_not_do() {
    if !is_root() {
        return;
    }
    let home = healthy();
    for (name, bits) in [("", 0o755), ("shims", 0o755), (".env", 0o644), ("crontab", 0o644)] {
        mode(&home.path(name), bits);
    }
    let mut command = home.command(["doctor", "--json"]);
    command.uid(NOBODY).gid(NOBODY);
    let document = Running::start(command).end().ended(2).json();
    let codes: Vec<&str> = wrong(&document).iter().filter_map(|it| it["code"].as_str()).collect();
    for code in ["env_mode", "env_owner", "store_owner", "store_io", "cron_log"] {
        assert!(codes.contains(&code), "no {code}: {document:#}");
    }
}
