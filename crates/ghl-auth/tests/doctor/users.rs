//! Who runs the check, whether the files are theirs, and whether there is room for them. Only root can take a part in each of these.

use std::os::unix::fs::lchown;
use std::os::unix::process::CommandExt as _;

use std::process::Command;

use crate::patient::{examined, healthy, names, new_with, wrong};
use crate::support::{BINARY, Running, like, mode};

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

#[test]
fn a_timer_that_is_written_and_does_not_run_is_found() {
    if !is_root() {
        return;
    }
    let home = healthy();
    std::fs::remove_file(home.path("crontab")).expect("it is there");
    let units = home.path("config/systemd/user");
    std::fs::create_dir_all(&units).expect("the folder is ours");
    std::fs::write(units.join("ghl-auth-check.timer"), "[Timer]\n").expect("the folder is ours");
    let systemctl = home.path("shims/systemctl");
    let examine = |ends: &str| {
        std::fs::write(&systemctl, format!("#!/bin/sh\nexit {ends}\n")).expect("the folder is ours");
        mode(&systemctl, 0o755);
        for name in ["", "shims", "config", "config/systemd", "config/systemd/user"] {
            mode(&home.path(name), 0o755);
        }
        for name in ["", ".env", "ghl_tokens.json", "ghl_tokens.json.check"] {
            lchown(home.path(name), Some(NOBODY), Some(NOBODY)).expect("root may");
        }
        let mut command = home.command(["doctor", "--json"]);
        command.uid(NOBODY).gid(NOBODY).env("XDG_CONFIG_HOME", home.path("config"));
        let document = Running::start(command).end().json();
        let codes = wrong(&document).into_iter().map(|it| it["code"].as_str().unwrap_or_default().to_owned());
        codes.collect::<Vec<_>>()
    };
    assert!(examine("3").contains(&"timer_stopped".to_owned()));
    let runs = examine("0");
    assert!(!runs.iter().any(|code| code == "timer_stopped" || code == "schedule_none"), "{runs:?}");
}

/// Codes of what is wrong with a store on a disk of 8 MiB, of which so much is taken by something else.
fn on_a_small_disk(taken: &str) -> Option<(i32, Vec<String>)> {
    let home = new_with(|_| {}).set("GHL_STORE", "file:disk/ghl_tokens.json");
    std::fs::create_dir(home.path("disk")).expect("the folder is ours");
    let home = home.log_in();
    let story = format!(
        "cp disk/ghl_tokens.json kept && mount -t tmpfs -o size=8m,mode=700 tmpfs disk || exit 99
        cp kept disk/ghl_tokens.json && chmod 600 disk/ghl_tokens.json
        dd if=/dev/zero of=disk/filler bs=4k {taken} 2>/dev/null
        exec {BINARY} doctor --json"
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &story]);
    let run = Running::start(like(&home.command(["doctor"]), command)).end();
    if !run.out.starts_with('{') {
        eprintln!("skipped: no disk can be mounted here: {}", run.err);
        return None;
    }
    let document = run.json();
    let codes = wrong(&document).into_iter().map(|it| it["code"].as_str().unwrap_or_default().to_owned());
    Some((run.code, codes.collect()))
}

#[test]
fn a_disk_that_is_nearly_full_and_one_that_is_full_are_found() {
    if !is_root() {
        return;
    }
    if let Some((code, found)) = on_a_small_disk("count=1") {
        assert!(code == 4 && found.contains(&"disk_full".to_owned()), "{code} {found:?}");
    }
    if let Some((code, found)) = on_a_small_disk("") {
        assert!(code == 4 && found.contains(&"store_io".to_owned()), "{code} {found:?}");
    }
}
