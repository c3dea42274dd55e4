//! A PostgreSQL server of our own: real, in a folder of its own, gone when whoever started it is gone.
//!
//! It may be stopped as by a power cut and started again, and followed by a standby that takes over.

#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test says what it lacks")]

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A server, until it is dropped.
pub struct Server {
    folder: PathBuf,
    port: u16,
    server: Child,
    /// Ends the server and clears the folder away when its input ends, however this process does.
    watcher: Child,
}

static NAMES: AtomicU64 = AtomicU64::new(0);

impl Server {
    /// A server with nothing in it.
    pub fn start() -> Self {
        let folder = new_folder();
        let data = folder.join("data");
        let made = as_its_user(&program("initdb"))
            .args(["--no-sync", "--auth=trust", "--username=ghl", "--encoding=UTF8", "--locale=C", "-D"])
            .arg(&data)
            .output()
            .expect("initdb runs");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        Self::over(folder)
    }

    /// A server that follows this one, as far behind as the network is.
    pub fn standby(&self) -> Self {
        let folder = new_folder();
        let made = as_its_user(&program("pg_basebackup"))
            .args(["--write-recovery-conf", "--no-sync", "--checkpoint=fast", "-h", "127.0.0.1", "-U", "ghl"])
            .args(["-p", &self.port.to_string(), "-D"])
            .arg(folder.join("data"))
            .output()
            .expect("pg_basebackup runs");
        assert!(made.status.success(), "pg_basebackup: {}", String::from_utf8_lossy(&made.stderr));
        Self::over(folder)
    }

    fn over(folder: PathBuf) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = launch(&folder, port);
        let watcher = watch(&server, &folder);
        let server = Self { folder, port, server, watcher };
        server.wait_until_ready();
        server
    }

    /// The address of a schema of its own.
    pub fn url(&self) -> String {
        self.url_of(&format!("s{}", NAMES.fetch_add(1, Ordering::Relaxed)))
    }

    /// The address of a schema.
    pub fn url_of(&self, schema: &str) -> String {
        self.url_through(self.port, schema)
    }

    /// The same behind another port.
    pub fn url_through(&self, port: u16, schema: &str) -> String {
        format!("postgres://ghl@127.0.0.1:{port}/postgres?schema={schema}")
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What `psql` prints for a statement, without any frills.
    pub fn ask(&self, sql: &str) -> String {
        let asked = Command::new(program("psql"))
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", "ghl", "-d", "postgres"])
            .args(["-p", &self.port.to_string(), "-c", sql])
            .output()
            .expect("psql runs");
        assert!(asked.status.success(), "{sql}: {}", String::from_utf8_lossy(&asked.stderr));
        String::from_utf8_lossy(&asked.stdout).trim().to_owned()
    }

    /// A session of someone else's that has begun with these statements, until it is killed.
    pub fn session(&self, sql: &str) -> Child {
        let mut session = Command::new(program("psql"))
            .args(["-XAtq", "-h", "127.0.0.1", "-U", "ghl", "-d", "postgres", "-p", &self.port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("psql runs");
        let input = session.stdin.as_mut().unwrap();
        writeln!(input, "{sql}\n\\echo begun").unwrap();
        let mut begun = [0; 5];
        std::io::Read::read_exact(session.stdout.as_mut().unwrap(), &mut begun).expect("it begins");
        session
    }

    /// Ends it as a power cut would: nothing is tidied up.
    pub fn stop_at_once(&mut self) {
        signal(&self.server, "QUIT");
        self.server.wait().unwrap();
    }

    /// Starts it again where it was.
    pub fn start_again(&mut self) {
        self.launch_again();
        self.wait_until_ready();
    }

    /// The same, without waiting until it answers.
    pub fn launch_again(&mut self) {
        self.server = launch(&self.folder, self.port);
        // The old one has nobody left to end, and no folder to clear away.
        let _ = self.watcher.kill();
        let _ = self.watcher.wait();
        self.watcher = watch(&self.server, &self.folder);
    }

    /// Makes a standby the server that takes writes.
    pub fn promote(&self) {
        assert_eq!(self.ask("SELECT pg_promote()"), "t");
    }

    /// Waits until it answers.
    pub fn wait_until_ready(&self) {
        let began = Instant::now();
        loop {
            let ready = Command::new(program("pg_isready"))
                .args(["-q", "-h", "127.0.0.1", "-U", "ghl", "-p", &self.port.to_string()])
                .status();
            if ready.expect("pg_isready runs").success() {
                return;
            }
            if began.elapsed() > Duration::from_secs(60) {
                let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                panic!("PostgreSQL does not start: {log}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        signal(&self.server, "QUIT");
        let _ = self.server.wait();
        drop(self.watcher.stdin.take());
        let _ = self.watcher.wait();
    }
}

/// A port of this machine that leads to one server, and later to another.
pub fn answers(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

fn new_folder() -> PathBuf {
    let folder = tempfile::Builder::new().prefix("ghl-pg-").tempdir().unwrap().keep();
    if let Some((user, group)) = its_user() {
        chown(&folder, Some(user), Some(group)).unwrap();
    }
    folder
}

fn launch(folder: &Path, port: u16) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(folder.join("log")).unwrap();
    let mut command = as_its_user(&program("postgres"));
    command.arg("-D").arg(folder.join("data")).args(["-p", &port.to_string()]);
    command.arg("-c").arg(format!("unix_socket_directories={}", folder.display()));
    for setting in [
        "listen_addresses=127.0.0.1",
        "max_connections=200",
        "shared_buffers=32MB",
        "wal_level=replica",
        "max_wal_senders=4",
        "synchronous_standby_names=",
    ] {
        command.args(["-c", setting]);
    }
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().expect("postgres runs")
}

fn watch(server: &Child, folder: &Path) -> Child {
    let script = "read -r _; kill -QUIT \"$1\" 2>/dev/null; sleep 0.3; rm -rf -- \"$2\"";
    Command::new("sh")
        .args(["-c", script, "watcher", &server.id().to_string()])
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("sh runs")
}

fn signal(child: &Child, signal: &str) {
    let _ = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status();
}

/// PostgreSQL refuses to be root, so it is the user that its package makes.
fn its_user() -> Option<(u32, u32)> {
    let number = |what: &str, whose: &[&str]| -> u32 {
        let output = Command::new("id").arg(what).args(whose).output().expect("id runs");
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        text.parse().expect("the user `postgres`, which PostgreSQL's package makes")
    };
    (number("-u", &[]) == 0).then(|| (number("-u", &["postgres"]), number("-g", &["postgres"])))
}

fn as_its_user(program: &Path) -> Command {
    let Some((user, group)) = its_user() else { return Command::new(program) };
    let mut command = Command::new("setpriv");
    command
        .args(["--clear-groups", &format!("--reuid={user}"), &format!("--regid={group}"), "--"])
        .arg(program);
    command.current_dir("/");
    command
}

/// A program of PostgreSQL's: Debian keeps those of the server out of the path.
fn program(name: &str) -> PathBuf {
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|versions| versions.filter_map(|version| Some(version.ok()?.path())).collect())
        .unwrap_or_default();
    versions.sort();
    let debian = versions.into_iter().rev().map(|version| version.join("bin").join(name));
    let anywhere = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&anywhere).map(|folder| folder.join(name)).collect::<Vec<_>>();
    let found = debian.chain(in_path).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("`{name}` is missing: install PostgreSQL (on Debian: postgresql)"))
}
