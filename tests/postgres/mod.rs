//! A real PostgreSQL for the tests: one server for each test process, a schema for each test.
//!
//! It listens on a socket in its own folder and on a free port of this machine, and flushes as a real
//! one does. It ends with the process, however that ends: a watcher waits on a pipe that only the
//! process holds open.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "a failure here is the test's own answer")]
#![allow(clippy::print_stderr, reason = "whoever leaves tests out is told so")]
#![allow(clippy::zombie_processes, reason = "the server ends after its watcher, and that with the process")]

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// What the server knows its only user by.
pub(crate) const PASSWORD: &str = "a-password-of-the-tests";

/// A running server.
pub(crate) struct Server {
    folder: PathBuf,
    port: u16,
    // The pipe in it: closed when this process ends.
    watcher: Child,
}

/// Whether the tests that need PostgreSQL are to be left out: only where someone said so, and never
/// where they are to show that all is well.
pub(crate) fn is_left_out() -> bool {
    let left_out =
        std::env::var_os("GHL_AUTH_WITHOUT_POSTGRES").is_some() && std::env::var_os("CI").is_none();
    if left_out {
        eprintln!("LEFT OUT: the tests on PostgreSQL, because of GHL_AUTH_WITHOUT_POSTGRES");
    }
    left_out
}

/// The server of this process.
pub(crate) fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| Server::start(&[]))
}

/// The folder with PostgreSQL's programs; the newest, where there are several.
fn programs() -> PathBuf {
    let folders = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> =
        folders.map(|folder| folder.path().join("bin")).filter(|bin| bin.join("initdb").exists()).collect();
    found.sort_by_key(|bin| {
        let version = bin.parent().and_then(Path::file_name).and_then(|name| name.to_str());
        version.and_then(|version| version.parse::<u32>().ok())
    });
    found.pop().expect(
        "PostgreSQL is missing: install it (Debian: `apt-get install postgresql`), or set \
         GHL_AUTH_WITHOUT_POSTGRES=1 to leave its tests out",
    )
}

/// A program of PostgreSQL's, as a user that it takes: not root.
pub(crate) fn program(name: &str) -> Command {
    let path = programs().join(name);
    let is_root = fs::metadata("/proc/self").map(|it| std::os::unix::fs::MetadataExt::uid(&it) == 0);
    let mut command = match is_root.unwrap() {
        true => {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--"]).arg(path);
            command
        }
        false => Command::new(path),
    };
    command.env("LC_ALL", "C").current_dir("/");
    command
}

/// A folder that belongs to whoever the server runs as.
pub(crate) fn folder() -> PathBuf {
    let folder = tempfile::Builder::new().prefix("ghl-auth-postgres-").tempdir().unwrap().keep();
    if fs::metadata(&folder).map(|it| std::os::unix::fs::MetadataExt::uid(&it)).unwrap() == 0 {
        done(Command::new("chown").arg("postgres:postgres").arg(&folder));
    }
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// A file for whoever the server runs as, and nobody else.
pub(crate) fn given(folder: &Path, name: &str, content: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    if fs::metadata(&path).map(|it| std::os::unix::fs::MetadataExt::uid(&it)).unwrap() == 0 {
        done(Command::new("chown").arg("postgres:postgres").arg(&path));
    }
    path.display().to_string()
}

fn done(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {said}{complained}");
    said.into_owned()
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Server {
    /// A new database cluster, with settings of its own.
    pub(crate) fn start(settings: &[&str]) -> Self {
        let folder = folder();
        let password = folder.join("password");
        fs::write(&password, PASSWORD).unwrap();
        done(
            program("initdb")
                .args(["--username=keeper", "--auth-local=trust", "--auth-host=scram-sha-256"])
                .args(["--encoding=UTF8", "--no-sync", "--pwfile"])
                .arg(&password)
                .arg("--pgdata")
                .arg(folder.join("data")),
        );
        Self::over(folder, settings)
    }

    /// A server over the cluster in `folder`, below `data`.
    pub(crate) fn over(folder: PathBuf, settings: &[&str]) -> Self {
        let port = free_port();
        // Ends the server when the pipe is closed, and takes its folder away. In a session of its own:
        // what is sent to the tests' group does not reach it.
        let watch = r#"cat >/dev/null; kill -INT "$(head -n 1 "$0/data/postmaster.pid")" 2>/dev/null
            for _ in $(seq 100); do [ -e "$0/data/postmaster.pid" ] || break; sleep 0.1; done; rm -rf "$0""#;
        let watcher = Command::new("setsid")
            .args(["sh", "-c", watch])
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { folder, port, watcher };
        server.launch(settings);
        server
    }

    /// Launches the server, and waits until it answers.
    pub(crate) fn launch(&self, settings: &[&str]) {
        let mut postgres = program("postgres");
        postgres.arg("-D").arg(self.folder.join("data")).arg("-k").arg(&self.folder);
        postgres.args(["-p", &self.port.to_string()]);
        for setting in ["listen_addresses=127.0.0.1", "max_connections=200", "shared_buffers=64MB"] {
            postgres.args(["-c", setting]);
        }
        for setting in settings {
            postgres.args(["-c", setting]);
        }
        let log = fs::File::options().create(true).append(true).open(self.folder.join("log")).unwrap();
        let mut launched = postgres
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{postgres:?}: {error}"));
        for _ in 0..600 {
            let mut ask = program("pg_isready");
            ask.arg("-q").arg("-h").arg(&self.folder).args(["-p", &self.port.to_string()]);
            if ask.status().unwrap().success() {
                return;
            }
            assert!(launched.try_wait().unwrap().is_none(), "{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("PostgreSQL does not begin: {}", self.log());
    }

    /// A server that follows this one, and takes no writes.
    pub(crate) fn standby(&self) -> Self {
        let folder = folder();
        let mut copy = program("pg_basebackup");
        copy.args(["-U", "keeper", "-R", "-X", "stream", "-c", "fast", "-h"]).arg(&self.folder);
        done(copy.args(["-p", &self.port.to_string(), "-D"]).arg(folder.join("data")));
        Self::over(folder, &[])
    }

    /// Makes a standby a database of its own.
    pub(crate) fn promote(&self) {
        done(program("pg_ctl").args(["promote", "-w", "-D"]).arg(self.folder.join("data")));
    }

    /// Ends the server: `fast` as an administrator does, `immediate` as a power cut does.
    pub(crate) fn stop(&self, mode: &str) {
        done(program("pg_ctl").arg("stop").args(["-w", "-m", mode, "-D"]).arg(self.folder.join("data")));
    }

    /// What the server has written down.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Where its socket is, and `data` with the cluster.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The port on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The address of a schema that no other test has, by the socket: without optimization, a password
    /// takes the better part of a second for each connection.
    pub(crate) fn fresh_schema(&self) -> String {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        self.socket_url(&format!("schema=test_{}_{number}", std::process::id()))
    }

    /// The server's address, over TCP and with the password.
    pub(crate) fn url(&self, parameters: &str) -> String {
        format!("postgres://keeper:{PASSWORD}@127.0.0.1:{}/postgres?{parameters}", self.port)
    }

    /// The server's address by its socket.
    pub(crate) fn socket_url(&self, parameters: &str) -> String {
        let folder = self.folder.display().to_string().replace('/', "%2F");
        format!("postgres://keeper@{folder}:{}/postgres?{parameters}", self.port)
    }

    /// Runs statements, and gives back what they say, without headings.
    pub(crate) fn sql(&self, statements: &str) -> String {
        let mut psql = program("psql");
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "keeper", "-d", "postgres", "-h"]);
        psql.arg(&self.folder).args(["-p", &self.port.to_string()]);
        let mut asked =
            psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        asked.stdin.take().unwrap().write_all(statements.as_bytes()).unwrap();
        let output = asked.wait_with_output().unwrap();
        assert!(output.status.success(), "{statements}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.watcher.stdin.take());
        let _ = self.watcher.wait();
    }
}

/// The schema that an address of `fresh_schema` names.
pub(crate) fn schema_of(url: &str) -> &str {
    url.split_once("schema=").expect("a schema").1.split('&').next().unwrap()
}
