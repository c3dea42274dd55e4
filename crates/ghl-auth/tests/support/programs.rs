//! The program itself, run over a house's store.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::House;

impl House {
    /// `ghl-auth` with this house's settings and no others.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ghl-auth"));
        let settings = self.sandbox.settings();
        command
            .args(arguments)
            .current_dir(self.folder())
            .env_clear()
            .env("GHL_CLIENT_ID", &settings.client_id)
            .env("GHL_CLIENT_SECRET", &settings.client_secret)
            .env("GHL_REDIRECT_URI", super::REDIRECT_URI)
            .env("GHL_LOCATION_ID", self.id.as_str())
            .env("GHL_API_BASE_URL", self.sandbox.base_url())
            .env("GHL_STORE", self.url().to_string())
            .env("GHL_AUTH_LANG", "en")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if self.rest.is_sealed() {
            command.env("GHL_AUTH_KEY", &self.key);
        }
        command
    }

    pub fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().expect("it starts")
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("it starts")
    }

    /// Whether nothing is lost, asked after HighLevel's 30 seconds have closed behind us.
    pub fn is_whole(&self) -> bool {
        self.sandbox.advance(super::PAST_THE_WINDOW);
        block_on(self.holds_the_current_token())
    }
}

pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(work)
}

pub fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    kill(pid, signal).expect("it can be signalled");
}

/// What a process said and how it ended, for a message.
pub fn told(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    format!("{}: {}", output.status, said.trim())
}

/// Waits until it ends; nobody waits longer than this for a program of ours.
pub fn ends_within(child: Child, limit: Duration) -> Output {
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    let (done, watched) = std::sync::mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        if watched.recv_timeout(limit).is_err() {
            let _ = kill(pid, Signal::SIGKILL);
        }
    });
    let began = Instant::now();
    let output = child.wait_with_output().expect("it ends");
    let _ = done.send(());
    watch.join().expect("no panic");
    assert!(began.elapsed() < limit, "it took longer than {limit:?}: {}", told(&output));
    output
}

/// Runs a test of this program once more where it may mount file systems that vanish with it, unless
/// it is there already. Says whether to go on.
pub fn in_a_world_of_its_own(test: &str) -> bool {
    const THERE: &str = "GHL_AUTH_TEST_MAY_MOUNT";
    if std::env::var_os(THERE).is_some() {
        return true;
    }
    let user: &[&str] = if nix::unistd::geteuid().is_root() { &[] } else { &["--map-root-user"] };
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private"]).args(user);
        command
    };
    let able = unshare().arg("true").stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    if !able {
        println!(
            "{test}: skipped, because no file system can be mounted here (`unshare --mount` is refused)"
        );
        return false;
    }
    let again = unshare()
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", test, "--nocapture"])
        .env(THERE, "1")
        .status()
        .expect("it runs");
    assert!(again.success(), "{test} failed; what it said stands above");
    false
}

/// Something mounted, until it is dropped.
pub struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    /// A file that is a mount of its own, as Docker's `-v file:/app/file` makes one.
    pub fn file(path: &'a Path) -> Self {
        std::fs::write(path, "").expect("a file");
        Self::mount(path, &["--bind".as_ref(), path.as_os_str(), path.as_os_str()])
    }

    /// A disk of this many KiB.
    pub fn small_disk(path: &'a Path, kib: u32) -> Self {
        let size = format!("size={kib}k,mode=700");
        Self::mount(
            path,
            &[
                "-t".as_ref(),
                "tmpfs".as_ref(),
                "-o".as_ref(),
                size.as_ref(),
                "small".as_ref(),
                path.as_os_str(),
            ],
        )
    }

    fn mount(path: &'a Path, arguments: &[&std::ffi::OsStr]) -> Self {
        let mounted = Command::new("mount").args(arguments).status().expect("mount is installed");
        assert!(mounted.success(), "could not mount {}", path.display());
        Self(path)
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0).status();
    }
}

/// Notes a result where the long runs gather theirs, and shows it.
pub fn report(what: &str, runs: usize, lost: &[String], since: Instant) {
    let line = format!("{what:<58} {runs:>7} {:>5} {:>7.0} s", lost.len(), since.elapsed().as_secs_f64());
    println!("{line}");
    if let Some(path) = std::env::var_os("GHL_AUTH_RESULTS") {
        let file = OpenOptions::new().create(true).append(true).open(path);
        let _ = file.and_then(|mut file| writeln!(file, "{line}"));
    }
    assert!(lost.is_empty(), "{what}: {} of {runs} went wrong:\n{}", lost.len(), lost.join("\n"));
}

/// Numbers without a pattern, the same for the same seed.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// From 0 up to, and without, `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end.max(1)
    }

    pub fn within(&mut self, span: Duration) -> Duration {
        Duration::from_micros(self.below(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)))
    }

    pub fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}
