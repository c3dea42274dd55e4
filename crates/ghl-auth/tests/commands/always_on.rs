//! `schedule install --service`: the service as systemd keeps it, told by what systemd is asked and given.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::schedule::{as_someone, shim, someone, with_path};
use crate::support::{BINARY, Home, Running, is_there};

/// A `systemctl` that does what it is asked, and keeps what that was.
fn obedient(home: &Home) -> std::path::PathBuf {
    shim(home, "systemctl", &format!("echo \"$@\" >> {}", home.path("calls").display()))
}

fn verified(scope: &str, unit: &Path, home: &Home) {
    if !is_there("systemd-analyze") {
        return;
    }
    let verified = Command::new("systemd-analyze")
        .args(["verify", scope])
        .arg(unit)
        .env("XDG_RUNTIME_DIR", home.path("."))
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    assert!(!said.contains("ghl-auth.service"), "{said}");
}

#[test]
fn a_users_own_systemd_keeps_the_service() {
    let Some(home) = someone() else { return };
    let home = home.set("GHL_AUTH_LISTEN", "127.0.0.1:0");
    let shims = obedient(&home);
    let unit = home.path(".config/systemd/user/ghl-auth.service");
    let run = |arguments: &[&str]| as_someone(&home, &shims, "12", arguments);

    run(&["schedule", "show", "--service"]).good().answers("schedule install --service");
    let installed = run(&["schedule", "install", "--service"]).good();
    installed
        .answers("starts with the machine")
        .answers("loginctl enable-linger ")
        .answers("ghl-auth dashboard");
    let text = std::fs::read_to_string(&unit).expect("the unit");
    let env_file = home.path(".env").canonicalize().expect("it is there");
    assert!(text.contains(&format!("--env-file \"{}\" serve\n", env_file.display())), "{text}");
    assert!(text.contains("\nWantedBy=default.target\n"), "{text}");
    verified("--user", &unit, &home);
    assert_eq!(run(&["schedule", "show", "--service"]).good().out.trim_end(), text.trim_end());
    run(&["schedule", "install", "--service", "--json"]).good();
    assert_eq!(std::fs::read_to_string(&unit).expect("the unit"), text, "twice is once");

    run(&["schedule", "remove", "--service"]).good().answers("no longer runs");
    assert!(!unit.exists());
    run(&["schedule", "remove", "--service"]).good();
    let asked = "--user is-system-running\n--user is-active --quiet ghl-auth.service\n";
    let calls = home.read("calls");
    let acts: Vec<&str> = calls.lines().filter(|call| !asked.contains(*call)).collect();
    let started =
        ["--user daemon-reload", "--user enable ghl-auth.service", "--user restart ghl-auth.service"];
    let ended = ["--user disable --now ghl-auth.service", "--user daemon-reload"];
    assert_eq!(acts, [&started[..], &started[..], &ended[..]].concat());
}

/// Root's unit goes to a folder of the system's, so that one is another here while the story lasts.
#[test]
fn the_systems_unit_is_one_that_systemd_understands() {
    let able =
        Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|status| status.success());
    if !nix::unistd::geteuid().is_root() || !able || !Path::new("/etc/systemd/system").is_dir() {
        eprintln!("skipped: nothing can be mounted here, or there is no systemd");
        return;
    }
    let home = Home::new().set("GHL_AUTH_LISTEN", "127.0.0.1:0").set("GHL_STORE", "sqlite:tokens.db");
    let home = home.set("GHL_AUTH_KEY", crate::support::KEY);
    let script = "mount -t tmpfs none /etc/systemd/system && \"$1\" schedule install --service >&2 && \
        cp /etc/systemd/system/ghl-auth.service \"$2\" && \"$1\" schedule remove --service >&2 && \
        ! test -e /etc/systemd/system/ghl-auth.service";
    let install = || {
        let ours = home.command::<&str>([]);
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh", BINARY]);
        command.arg(home.path("ghl-auth.service"));
        command.current_dir(home.path(".")).env_clear();
        command.envs(ours.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("PATH", crate::schedule::path_with(&obedient(&home)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Running::start(command).end().good();
        home.read("ghl-auth.service")
    };
    let unit = install();
    verified("--system", &home.path("ghl-auth.service"), &home);
    let folder = home.path("").canonicalize().expect("it is there").display().to_string();
    for line in [
        format!("WorkingDirectory={folder}"),
        format!("ReadWritePaths=\"{folder}\""),
        format!("LoadCredential=env:{folder}/.env"),
        "ProtectSystem=strict".to_owned(),
    ] {
        assert!(unit.lines().any(|is| is == line), "{line}:\n{unit}");
    }
    assert!(!unit.contains("User="), "root's tokens stay root's:\n{unit}");
    let calls = home.read("calls");
    assert!(calls.contains("\nenable ghl-auth.service\nrestart ghl-auth.service\n"), "{calls}");

    std::os::unix::fs::chown(home.path("."), Some(crate::schedule::NOBODY), Some(65_534)).expect("root may");
    assert!(install().contains("\nUser=nobody\nGroup=nogroup\n"), "whose the tokens are");
}

#[test]
fn what_the_unit_starts_is_the_service() {
    let Some(home) = someone() else { return };
    let home = home.set("GHL_AUTH_LISTEN", "127.0.0.1:0");
    as_someone(&home, &obedient(&home), "12", &["schedule", "install", "--service"]).good();
    let unit = std::fs::read_to_string(home.path(".config/systemd/user/ghl-auth.service")).expect("the unit");
    let command = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("what it starts");
    home.write(".env", &format!("{}\nGHL_AUTH_LISTEN=127.0.0.1:0\nGHL_AUTH_LANG=en\n", home.read(".env")));
    let mut shell = Command::new("/bin/sh");
    // Nothing of this environment, and another folder than its own: as systemd does it.
    shell
        .args(["-c", &format!("cd \"$0\" && exec {command}")])
        .arg(home.path("."))
        .env_clear()
        .current_dir("/");
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running::start(shell);
    running.until_it_says("Programs ask here: http://127.0.0.1:");
    running.signal("TERM");
    running.end().good();
}

#[test]
fn without_systemd_nothing_is_written_and_cron_is_offered() {
    let Some(home) = someone() else { return };
    let home = home.set("GHL_AUTH_LISTEN", "127.0.0.1:0");
    let install = ["schedule", "install", "--service"];
    let offline = shim(&home, "systemctl", "echo offline; exit 1");
    let run = as_someone(&home, &offline, "12", &install).fails_with(2, "schedule_no_systemd");
    run.complains("systemd does not run here").complains("`ghl-auth schedule install`");
    let unasked = shim(&home, "systemctl", "echo 'Failed to connect to bus' >&2; exit 1");
    as_someone(&home, &unasked, "12", &install).fails_with(2, "schedule_no_systemd");
    let nothing = home.path("nothing");
    std::fs::create_dir(&nothing).expect("the folder is ours");
    as_someone(&home, &nothing, "12", &install).fails_with(2, "schedule_no_systemd");
    assert!(!home.path(".config").exists());
    // One that is not wholly well is there all the same.
    let degraded =
        shim(&home, "systemctl", "[ \"$2\" = is-system-running ] && { echo degraded; exit 1; }; exit 0");
    as_someone(&home, &degraded, "12", &install).good();
}

#[test]
fn a_service_that_does_not_start_says_why_and_leaves_nothing_behind() {
    let Some(home) = someone() else { return };
    let home = home.set("GHL_AUTH_LISTEN", "127.0.0.1:0");
    let calls = home.path("calls");
    let script = format!(
        "echo \"$@\" >> {}; [ \"$2\" = restart ] && {{ echo 'Job for it failed' >&2; exit 1; }}; exit 0",
        calls.display()
    );
    shim(&home, "systemctl", &script);
    let shims = shim(&home, "journalctl", "echo 'error: the disk is full'");
    let run = as_someone(&home, &shims, "12", &["schedule", "install", "--service"])
        .fails_with(1, "service_not_started");
    run.complains("Job for it failed").complains("the disk is full");
    assert!(!home.path(".config/systemd/user/ghl-auth.service").exists());
    assert!(home.read("calls").contains("--user disable --now ghl-auth.service\n"));
}

#[test]
fn anothers_unit_and_another_folders_service_stay_as_they_are() {
    let Some(home) = someone() else { return };
    let home = home.set("GHL_AUTH_LISTEN", "127.0.0.1:0");
    let shims = obedient(&home);
    let run = |action| as_someone(&home, &shims, "12", &["schedule", action, "--service"]);
    run("install").good();
    let unit = home.path(".config/systemd/user/ghl-auth.service");
    let ours = std::fs::read_to_string(&unit).expect("the unit");
    let folder = home.path("").canonicalize().expect("it is there").display().to_string();
    for (theirs, code) in [
        ("[Service]\nExecStart=/bin/true\n".to_owned(), "service_unit_there"),
        (
            ours.replace(&format!("WorkingDirectory={folder}"), "WorkingDirectory=/elsewhere"),
            "service_of_another",
        ),
    ] {
        std::fs::write(&unit, &theirs).expect("it is ours");
        run("install").fails_with(2, code);
        assert_eq!(std::fs::read_to_string(&unit).expect("the unit"), theirs);
    }
    std::fs::write(&unit, "[Service]\nExecStart=/bin/true\n").expect("it is ours");
    run("remove").fails_with(2, "service_unit_there");
    run("show").good().answers("schedule install --service");
    assert!(unit.exists());
}

#[test]
fn settings_that_the_service_could_not_start_with_are_told_before() {
    let home = Home::new();
    let shims = obedient(&home);
    let install = ["schedule", "install", "--service"];
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("its address").to_string();
    std::fs::write(shims.join("systemctl"), "#!/bin/sh\n[ \"$*\" = \"${*#*is-active}\" ]\n")
        .expect("it is ours");
    let home = home.set("GHL_AUTH_LISTEN", &address);
    with_path(&home, &shims, &install).fails_with(2, "listen").complains(&address);
    let home = home.set("GHL_AUTH_LISTEN", "0.0.0.0:8787");
    with_path(&home, &shims, &install).fails_with(2, "configuration").complains("GHL_AUTH_LISTEN");
    let home = Home::empty();
    let shims = obedient(&home);
    with_path(&home, &shims, &install).fails_with(2, "schedule_no_env");
}
