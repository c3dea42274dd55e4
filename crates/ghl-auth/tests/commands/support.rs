//! A home for one story: a folder of its own, a sandbox of its own, and the real binary.

#![allow(dead_code, reason = "each story uses a part of it")]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sandbox::{Sandbox, Settings, UserType};
use serde_json::Value;

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_ghl-auth");

/// A redirect address at which nobody listens, as the template's users have it.
pub(crate) const ELSEWHERE: &str = "https://example.com/oauth/callback";

/// Nothing here takes longer than this, on a slow machine with much else to do.
const PATIENCE: Duration = Duration::from_secs(90);

/// A folder, a HighLevel, and the settings of a user.
pub(crate) struct Home {
    folder: tempfile::TempDir,
    pub(crate) sandbox: Sandbox,
    variables: BTreeMap<String, String>,
}

/// How a command ended and what it said.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
    /// What `ps` could show of it while it ran.
    pub(crate) titles: Vec<u8>,
}

impl Home {
    /// A user with a complete `.env` and no grant yet.
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// The same in Portuguese.
    pub(crate) fn in_portuguese() -> Self {
        Self::new().set("GHL_AUTH_LANG", "pt-BR")
    }

    /// A user of a HighLevel that is a little different. Ids are always the same.
    pub(crate) fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::seeded(42);
        change(&mut settings);
        let sandbox = Sandbox::builder().settings(settings).start_blocking().expect("a free port");
        sandbox.set_scopes(["contacts.readonly", "contacts.write", "locations.readonly"]);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let home = Self { folder, sandbox, variables: BTreeMap::new() };
        home.write(".env", &home.sandbox.env_file());
        home.set("GHL_REDIRECT_URI", ELSEWHERE)
    }

    /// A user with nothing configured at all.
    pub(crate) fn empty() -> Self {
        let mut home = Self::new();
        std::fs::remove_file(home.path(".env")).expect("the .env goes");
        home.variables.clear();
        home
    }

    /// A user who has logged in.
    pub(crate) fn connected() -> Self {
        Self::new().log_in()
    }

    /// Logs in with a code.
    pub(crate) fn log_in(self) -> Self {
        let company = self.variables.get("GHL_USER_TYPE").is_some_and(|class| class == "Company");
        let class = if company { UserType::Company } else { UserType::Location };
        let code = self.code(class);
        self.run(["login", "--code", &code]).good();
        self
    }

    /// A code of someone who has just agreed.
    pub(crate) fn code(&self, class: UserType) -> String {
        let redirect_uri = self.variables.get("GHL_REDIRECT_URI").map_or(ELSEWHERE, String::as_str);
        self.sandbox.approve(redirect_uri, None, class)
    }

    /// Sets a variable of the process's environment.
    pub(crate) fn set(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Keeps the tokens in a sealed database.
    pub(crate) fn sealed(self) -> Self {
        self.set("GHL_STORE", "sqlite:ghl-auth.db").set("GHL_AUTH_KEY", KEY)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file that is its owner's only.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).expect("the folder is ours");
        mode(&path, 0o600);
        path
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The location's id.
    pub(crate) fn location(&self) -> &str {
        &self.sandbox.settings().location_id
    }

    /// A command that has not started yet, with nothing in its environment but what was set here.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(BINARY);
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder.path())
            .env("TMPDIR", self.folder.path())
            .env("TZ", "UTC")
            .envs(&self.variables)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Run {
        Running::start(self.command(arguments)).end()
    }

    /// Runs a command that reads `input` to its end.
    pub(crate) fn run_with_input<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
        input: &str,
    ) -> Run {
        let mut running = self.start(arguments);
        running.type_in(input);
        running.end()
    }

    /// Starts a command that someone may type into.
    pub(crate) fn start<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Running {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped());
        Running::start(command)
    }

    /// Lets the tokens in the plain file be older than they are: issued and ending so much earlier.
    pub(crate) fn age(&self, issued: Duration, ends: Duration) {
        let mut file: Value = serde_json::from_str(&self.read("ghl_tokens.json")).expect("JSON");
        let installation = &mut file["ghl_auth"]["installation"];
        for (name, by) in [("issued_at", issued), ("expires_at", ends)] {
            let at = installation[name].as_i64().unwrap_or_else(|| panic!("{name}: {installation}"));
            let by = i64::try_from(by.as_millis()).expect("a short time");
            installation[name] = (at - by).into();
        }
        self.write("ghl_tokens.json", &file.to_string());
    }

    /// Lets the tokens have ended an hour ago.
    pub(crate) fn expire(&self) {
        self.age(25 * HOUR, 25 * HOUR);
    }

    /// Text with what differs from run to run replaced.
    pub(crate) fn stable(&self, text: &str) -> String {
        let folder = self.folder.path().display().to_string();
        let text = text.replace(&self.sandbox.base_url(), "http://sandbox").replace(&folder, "~");
        without_times(&text)
    }
}

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// 32 bytes in base64.
pub(crate) const KEY: &str = "q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k=";

impl Run {
    /// The command did what it was asked.
    #[track_caller]
    pub(crate) fn good(self) -> Self {
        self.ended(0)
    }

    /// The command ended with this exit code.
    #[track_caller]
    pub(crate) fn ended(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    /// What the user reads on stderr, after the log lines that a developer reads.
    #[track_caller]
    pub(crate) fn complains(self, words: &str) -> Self {
        assert!(self.err.contains(words), "not `{words}` in:\n{}", self.err);
        self
    }

    #[track_caller]
    pub(crate) fn answers(self, words: &str) -> Self {
        assert!(self.out.contains(words), "not `{words}` in:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    /// The one JSON document on stdout.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let mut documents = serde_json::Deserializer::from_str(&self.out).into_iter::<Value>();
        let first = documents.next().and_then(Result::ok);
        let document = first.unwrap_or_else(|| panic!("no JSON: {}\n{}", self.out, self.err));
        assert!(documents.next().is_none(), "one document only: {}", self.out);
        document
    }

    /// The code of the error, whether it was told to people or to programs.
    #[track_caller]
    pub(crate) fn fails_with(self, exit: i32, code: &str) -> Self {
        let run = self.ended(exit);
        match run.out.starts_with('{') {
            true => assert_eq!(run.json()["error"]["code"], code, "{}", run.out),
            false => assert!(run.err.contains(&format!(": {code})")), "not `{code}` in:\n{}", run.err),
        }
        run
    }
}

/// A process that doesn't outlive whoever started it, whatever becomes of the test.
pub(crate) struct Started(Child);

impl std::ops::Deref for Started {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl std::ops::DerefMut for Started {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // One that has been waited for already is not there to be killed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A command under way.
pub(crate) struct Running {
    pub(crate) child: Started,
    out: Listening,
    err: Listening,
}

type Heard = std::sync::Arc<std::sync::Mutex<Vec<u8>>>;

struct Listening {
    heard: Heard,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Listening {
    fn to(mut pipe: impl Read + Send + 'static) -> Self {
        let heard = Heard::default();
        let ours = heard.clone();
        let thread = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = pipe.read(&mut bytes) {
                ours.lock().expect("nobody panics with it").extend_from_slice(&bytes[..count]);
            }
        });
        Self { heard, thread: Some(thread) }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.heard.lock().expect("nobody panics with it")).into_owned()
    }

    fn all(mut self) -> String {
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it only reads");
        }
        self.text()
    }
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the binary starts");
        let out = Listening::to(child.stdout.take().expect("a pipe"));
        let err = Listening::to(child.stderr.take().expect("a pipe"));
        Self { child: Started(child), out, err }
    }

    pub(crate) fn type_in(&mut self, input: &str) {
        if let Some(stdin) = &mut self.child.stdin {
            // A command that has ended already reads nothing more.
            stdin.write_all(input.as_bytes()).ok();
        }
    }

    /// Waits for words on either stream and gives all that was said on both so far.
    #[track_caller]
    pub(crate) fn until_it_says(&mut self, words: &str) -> String {
        let began = Instant::now();
        loop {
            let said = format!("{}\n{}", self.out.text(), self.err.text());
            if said.contains(words) {
                return said;
            }
            let ended = self.child.try_wait().expect("it is ours");
            assert!(ended.is_none(), "it ended with {ended:?} instead of saying `{words}`:\n{said}");
            assert!(began.elapsed() < PATIENCE, "it never said `{words}`:\n{said}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The consent page's address that a login shows, once it waits for the redirect.
    #[track_caller]
    pub(crate) fn consent_page(&mut self) -> String {
        self.until_it_says("Waiting for the redirect");
        let said = self.until_it_says("&state=");
        let address = said.lines().find(|line| line.contains("&state="));
        address.expect("it says so").to_owned()
    }

    /// Waits until it has ended by itself or by a signal; what it said can still be read.
    #[track_caller]
    pub(crate) fn until_it_ends(&mut self) {
        let began = Instant::now();
        while self.child.try_wait().expect("it is ours").is_none() {
            assert!(began.elapsed() < PATIENCE, "it did not end:\n{}", self.said());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Closes its stdin and waits for its end.
    #[track_caller]
    pub(crate) fn end(mut self) -> Run {
        drop(self.child.stdin.take());
        let began = Instant::now();
        let mut titles = Vec::new();
        let status = loop {
            if let Ok(title) = std::fs::read(format!("/proc/{}/cmdline", self.child.id()))
                && !titles.ends_with(&title)
            {
                titles.extend_from_slice(&title);
            }
            if let Some(status) = self.child.try_wait().expect("it is ours") {
                break status;
            }
            if began.elapsed() > PATIENCE {
                self.child.kill().ok();
                panic!("it did not end:\n{}\n{}", self.out.text(), self.err.text());
            }
            std::thread::sleep(Duration::from_millis(3));
        };
        let (out, err) = (self.out.all(), self.err.all());
        Run { code: status.code().unwrap_or(-1), out, err, titles }
    }

    /// Asks it to stop, as Ctrl-C does.
    pub(crate) fn interrupt(&self) {
        self.signal("INT");
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        Command::new("kill").args([&format!("-{name}"), &pid]).status().expect("kill is there");
    }

    /// Everything it has said so far.
    pub(crate) fn said(&self) -> String {
        format!("{}\n{}", self.out.text(), self.err.text())
    }
}

/// An answer over HTTP.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Page {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// One request, as a browser or something like it makes it.
pub(crate) fn http(method: &str, url: &str, headers: &[(&str, &str)], body: &str) -> Page {
    let rest = url.strip_prefix("http://").expect("plain HTTP");
    let (address, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
    raw(url, &request)
}

/// A request byte for byte, to whoever listens at the address in `url`.
pub(crate) fn raw(url: &str, request: &str) -> Page {
    let rest = url.strip_prefix("http://").expect("plain HTTP");
    let address = rest.split('/').next().expect("an address");
    let mut stream = TcpStream::connect(address).unwrap_or_else(|error| panic!("{url}: {error}"));
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
    stream.write_all(request.as_bytes()).expect("the request is taken");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).ok();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Page { status, head: head.to_owned(), body: body.to_owned() }
}

/// A port of 127.0.0.1 that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it has one").port()
}

pub(crate) fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("the file is ours");
}

/// A command in the same folder and environment as one of ours.
pub(crate) fn like(ours: &Command, mut command: Command) -> Command {
    command.current_dir(ours.get_current_dir().expect("a folder")).env_clear();
    command.envs(ours.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Whether a program of the system is there.
pub(crate) fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Dates and times as `YYYY-MM-DD HH:MM:SS`.
fn without_times(text: &str) -> String {
    const SHAPE: &[u8] = b"dddd-dd-dd dd:dd:dd";
    let bytes = text.as_bytes();
    let is_time = |at: usize| {
        bytes.get(at..at + SHAPE.len()).is_some_and(|piece| {
            piece.iter().zip(SHAPE).all(|(byte, shape)| match shape {
                b'd' => byte.is_ascii_digit(),
                b' ' => matches!(byte, b' ' | b'T'),
                other => byte == other,
            })
        })
    };
    let mut shown = String::new();
    let mut at = 0;
    while at < text.len() {
        match is_time(at) {
            true => {
                shown.push_str("YYYY-MM-DD HH:MM:SS");
                at += SHAPE.len();
            }
            false => {
                let next = text[at..].chars().next().expect("there is more");
                shown.push(next);
                at += next.len_utf8();
            }
        }
    }
    shown
}

/// Compares with the snapshot of this name.
#[track_caller]
pub(crate) fn snapshot(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}
