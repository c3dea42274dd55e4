//! `schedule`: one entry of cron or one timer of systemd, and nothing else of anyone's touched.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::{BINARY, Home, Run, Running, is_there, mode};

/// The crontab of whoever runs the tests, put back as it was whatever happens.
struct Crontab {
    before: Option<Vec<u8>>,
    _log: Log,
    _alone: std::sync::MutexGuard<'static, ()>,
}

/// The log of all checks, which root's entries name: taken away again if these stories made it.
pub(crate) struct Log;

impl Log {
    const PATH: &str = "/var/log/ghl_auth_check.log";

    fn was_there() -> bool {
        static WAS_THERE: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
        *WAS_THERE.get_or_init(|| Path::new(Self::PATH).exists())
    }

    pub(crate) fn watched() -> Self {
        Self::was_there();
        Self
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let is_empty = std::fs::metadata(Self::PATH).is_ok_and(|meta| meta.len() == 0);
        if is_empty && !Self::was_there() {
            std::fs::remove_file(Self::PATH).ok();
        }
    }
}

impl Crontab {
    /// None where there is no cron: these stories are then not told.
    fn borrowed() -> Option<Self> {
        static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());
        if !is_there("crontab") {
            eprintln!("skipped: there is no `crontab` here (Debian's package cron has it)");
            return None;
        }
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let listed = Command::new("crontab").arg("-l").env("LC_ALL", "C").output().expect("it starts");
        let said = String::from_utf8_lossy(&listed.stderr).into_owned();
        let before = match listed.status.success() {
            true => Some(listed.stdout),
            false if said.contains("no crontab for") => None,
            false => {
                eprintln!("skipped: `crontab -l` says {said}");
                return None;
            }
        };
        Some(Self { before, _log: Log::watched(), _alone: alone })
    }

    fn is(&self) -> Vec<u8> {
        Command::new("crontab").arg("-l").output().expect("it starts").stdout
    }

    fn becomes(&self, text: &[u8]) {
        let mut child = Command::new("crontab").arg("-").stdin(Stdio::piped()).spawn().expect("it starts");
        child.stdin.take().expect("a pipe").write_all(text).expect("it reads");
        assert!(child.wait().expect("it ends").success());
    }

    fn goes(&self) {
        Command::new("crontab").arg("-r").stderr(Stdio::null()).status().expect("it starts");
    }
}

impl Drop for Crontab {
    fn drop(&mut self) {
        match &self.before {
            Some(text) => self.becomes(text),
            None => self.goes(),
        }
    }
}

const OTHERS: &[u8] = b"# what others have written\nMAILTO=\"\"\n\n\t5 4 * * *   /bin/true  % input\n@reboot echo \xc3\xa9\n0 */12 * * * /opt/run_ghl_check.sh >> /var/log/ghl_auth_check.log 2>&1\n";

#[test]
fn cron_gets_one_entry_and_every_other_line_stays_byte_for_byte() {
    let Some(crontab) = Crontab::borrowed() else { return };
    let home = Home::new();
    crontab.becomes(OTHERS);
    home.run(["schedule", "show"]).good().answers("The check is not scheduled.");
    let run = home.run(["schedule", "install"]).good().answers("The check will run every 12 h.");
    let entry = run.out.lines().last().expect("the entry").to_owned();
    let installed = crontab.is();
    assert_eq!(installed, [OTHERS, entry.as_bytes(), b"\n"].concat());
    assert!(entry.starts_with("0 */12 * * * cd "), "{entry}");
    assert_eq!(home.run(["schedule", "show"]).good().out.trim_end(), entry);

    home.run(["schedule", "install"]).good();
    assert_eq!(crontab.is(), installed, "twice is once");

    let six = home.set("RUN_INTERVAL_HOURS", "6");
    let json = six.run(["schedule", "install", "--json"]).good().json();
    assert_eq!((&json["scheduler"], &json["installed"]), (&"cron".into(), &true.into()));
    let changed = json["entry"].as_str().expect("the entry");
    assert_eq!(changed, entry.replace("*/12", "*/6"));
    assert_eq!(crontab.is(), [OTHERS, changed.as_bytes(), b"\n"].concat());

    six.run(["schedule", "remove"]).good().answers("The check is no longer scheduled.");
    assert_eq!(crontab.is(), OTHERS);
    six.run(["schedule", "remove"]).good();
    assert_eq!(crontab.is(), OTHERS);
}

#[test]
fn a_carriage_return_in_another_line_stays_one() {
    let Some(crontab) = Crontab::borrowed() else { return };
    let home = Home::new();
    crontab.becomes(b"# a note from elsewhere\r\n");
    home.run(["schedule", "install"]).good();
    home.run(["schedule", "remove"]).good();
    // `crontab -l` shows a carriage return as two characters; an editor sees the file itself.
    let editor = shim(&home, "editor", "#!/bin/sh\ncp \"$1\" \"${0%/*}/seen\"\n").join("editor");
    let edited = Command::new("crontab").arg("-e").env("VISUAL", &editor).stdin(Stdio::null()).output();
    assert!(edited.expect("it starts").status.success());
    let seen = std::fs::read(editor.with_file_name("seen")).expect("a copy");
    assert_eq!(seen, b"# a note from elsewhere\r\n");
}

#[test]
fn a_user_without_a_crontab_gets_one() {
    let Some(crontab) = Crontab::borrowed() else { return };
    crontab.goes();
    let home = Home::connected();
    home.run(["schedule", "show"]).good().answers("not scheduled");
    home.run(["schedule", "install"]).good();
    assert_eq!(String::from_utf8_lossy(&crontab.is()).lines().count(), 1);
    home.run(["schedule", "remove"]).good();
    assert_eq!(crontab.is(), b"");
}

#[test]
fn the_entry_does_the_check_when_cron_runs_it() {
    let Some(_crontab) = Crontab::borrowed() else { return };
    let home = Home::connected();
    // cron gives a program next to nothing of an environment.
    home.write(".env", &format!("{}\nGHL_REDIRECT_URI=https://example.com/x\n", home.read(".env")));
    let entry = home.run(["schedule", "install"]).good().out.lines().last().expect("the entry").to_owned();
    let command = entry.splitn(6, ' ').nth(5).expect("the command behind the five fields");
    let log = home.path("cron.log");
    let command = command.replace(">> /var/log/ghl_auth_check.log", &format!(">> {}", log.display()));
    let mut shell = Command::new("/bin/sh");
    let status = shell.args(["-c", &command]).env_clear().current_dir("/").status().expect("sh starts");
    assert!(status.success(), "{command}\n{}", home.read("cron.log"));
    assert!(home.read("cron.log").contains("Microservice operational."), "{}", home.read("cron.log"));
}

#[test]
fn a_crontab_that_cannot_be_read_is_never_written() {
    let home = Home::new();
    let written = home.path("written");
    let path = shim(
        &home,
        "crontab",
        &format!(
            "if [ \"$1\" = -l ]; then echo 'crontab: permission denied' >&2; exit 1; fi\ncat > {}",
            written.display()
        ),
    );
    for action in ["install", "remove", "show"] {
        let run = with_path(&home, &path, &["schedule", action]).fails_with(1, "schedule");
        run.complains("crontab: permission denied");
        with_path(&home, &path, &["schedule", action, "--json"]).fails_with(1, "schedule");
    }
    assert!(!written.exists());
    // What it printed before it failed is no crontab either.
    let half =
        format!("if [ \"$1\" = -l ]; then echo '1 2 3 4 5 half'; exit 74; fi\ncat > {}", written.display());
    let path = shim(&home, "crontab", &half);
    with_path(&home, &path, &["schedule", "install"]).fails_with(1, "schedule");
    assert!(!written.exists());
}

#[test]
fn a_crontab_that_refuses_the_entry_is_an_error() {
    let home = Home::new();
    let path = shim(
        &home,
        "crontab",
        "if [ \"$1\" = -l ]; then exit 0; fi\ncat > /dev/null\necho 'disk full' >&2; exit 1",
    );
    with_path(&home, &path, &["schedule", "install"]).fails_with(1, "schedule").complains("disk full");
    let nothing = home.path("nothing");
    std::fs::create_dir(&nothing).expect("the folder is ours");
    with_path(&home, &nothing, &["schedule", "install"]).fails_with(1, "schedule").complains("crontab -l");
}

#[test]
fn an_interval_that_cron_cannot_keep_is_refused_with_its_neighbours() {
    for (hours, neighbours) in [("5", "4, 6"), ("7", "6, 8"), ("9", "8, 12"), ("13", "12, 24"), ("36", "24")]
    {
        let home = Home::new().set("RUN_INTERVAL_HOURS", hours);
        let path = shim(&home, "crontab", "[ \"$1\" = -l ] && exit 0\nexit 99");
        let run = with_path(&home, &path, &["schedule", "install"]).fails_with(2, "schedule_interval");
        run.complains(&format!("one of {neighbours}")).complains("--systemd");
    }
    for hours in ["0", "-1", "721", "twelve"] {
        let home = Home::new().set("RUN_INTERVAL_HOURS", hours);
        home.run(["schedule", "install"]).fails_with(2, "configuration").complains("RUN_INTERVAL_HOURS");
    }
}

#[test]
fn a_schedule_needs_settings_that_outlast_this_shell_and_none_to_be_taken_out() {
    let home = Home::empty();
    let path = shim(&home, "crontab", "[ \"$1\" = -l ] && exit 0\nexit 99");
    with_path(&home, &path, &["schedule", "install"]).fails_with(2, "schedule_no_env");
    with_path(&home, &path, &["schedule", "show"]).good().answers("not scheduled");
    with_path(&home, &path, &["schedule", "remove"]).good();
    let home = home.set("RUN_INTERVAL_HOURS", "5");
    with_path(&home, &path, &["schedule", "remove"]).good();
}

#[test]
fn systemd_gets_a_service_and_a_timer_of_any_interval() {
    // The units of whoever is not root lie in their own folder, so that is who this story is about.
    let Some(home) = someone() else { return };
    let calls = home.path("calls");
    let shims = shim(&home, "systemctl", &format!("echo \"$@\" >> {}", calls.display()));
    let units = home.path(".config/systemd/user");
    for hours in ["5", "12", "36"] {
        let home_of = |arguments: &[&str]| as_someone(&home, &shims, hours, arguments);
        let run = home_of(&["schedule", "install", "--systemd"]).good();
        run.answers(&format!("OnUnitActiveSec={hours}h"));
        home_of(&["schedule", "show", "--systemd"]).good().answers(&format!("OnUnitActiveSec={hours}h"));
        if is_there("systemd-analyze") {
            let verified = Command::new("systemd-analyze")
                .args(["verify", "--user"])
                .args(["ghl-auth-check.service", "ghl-auth-check.timer"].map(|unit| units.join(unit)))
                .env("XDG_RUNTIME_DIR", home.path("."))
                .output()
                .expect("it starts");
            let said = String::from_utf8_lossy(&verified.stderr).into_owned();
            assert!(!said.contains("ghl-auth-check"), "{said}");
        }
    }
    let called = home.read("calls");
    let expected = "--user daemon-reload\n--user enable --now ghl-auth-check.timer\n".repeat(3);
    assert_eq!(called, expected);
    as_someone(&home, &shims, "12", &["schedule", "remove", "--systemd"]).good();
    assert!(!units.join("ghl-auth-check.timer").exists() && !units.join("ghl-auth-check.service").exists());
    assert!(
        home.read("calls").ends_with("--user disable --now ghl-auth-check.timer\n--user daemon-reload\n")
    );
    as_someone(&home, &shims, "12", &["schedule", "show", "--systemd"]).good().answers("not scheduled");

    let shims = shim(&home, "systemctl", "echo 'Failed to connect to bus' >&2; exit 1");
    as_someone(&home, &shims, "12", &["schedule", "install", "--systemd"])
        .fails_with(1, "schedule")
        .complains("Failed to connect to bus");
}

/// A home that belongs to someone who is not root, with a binary they can start.
pub(crate) fn someone() -> Option<Home> {
    let home = Home::new();
    // By another process: a program that this one held open to write to, a child of another story may hold
    // open, too, and then it can't be started.
    let copied = Command::new("cp").arg(BINARY).arg(home.path("ghl-auth")).status();
    assert!(copied.is_ok_and(|status| status.success()), "there is room for a copy");
    mode(&home.path("ghl-auth"), 0o755);
    for path in [home.path("."), home.path(".env")] {
        if std::os::unix::fs::chown(&path, Some(NOBODY), Some(NOBODY)).is_err() {
            // Whoever cannot give a file away is not root, and is someone already.
            break;
        }
    }
    Some(home)
}

pub(crate) const NOBODY: u32 = 65_534;

pub(crate) fn as_someone(home: &Home, shims: &Path, hours: &str, arguments: &[&str]) -> Run {
    let ours = home.command(arguments);
    let mut command = Command::new(home.path("ghl-auth"));
    command.args(arguments).current_dir(home.path(".")).env_clear();
    command.envs(ours.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("PATH", path_with(shims)).env("RUN_INTERVAL_HOURS", hours);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").expect("it is there")) == 0 {
        command.uid(NOBODY).gid(NOBODY);
    }
    Running::start(command).end()
}

/// A folder with a program that stands in for one of the system's.
pub(crate) fn shim(home: &Home, name: &str, script: &str) -> PathBuf {
    let folder = home.path("shims");
    std::fs::create_dir_all(&folder).expect("the folder is ours");
    mode(&folder, 0o755);
    let program = folder.join(name);
    std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("the folder is ours");
    mode(&program, 0o755);
    folder
}

pub(crate) fn path_with(shims: &Path) -> std::ffi::OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = std::iter::once(shims.to_owned()).chain(std::env::split_paths(&path));
    // An empty folder of shims means that there is nothing else either.
    match std::fs::read_dir(shims).is_ok_and(|mut entries| entries.next().is_some()) {
        true => std::env::join_paths(all).expect("no colons"),
        false => shims.as_os_str().to_owned(),
    }
}

pub(crate) fn with_path(home: &Home, shims: &Path, arguments: &[&str]) -> Run {
    let _log = Log::watched();
    let mut command = home.command(arguments);
    command.env("PATH", path_with(shims));
    Running::start(command).end()
}
