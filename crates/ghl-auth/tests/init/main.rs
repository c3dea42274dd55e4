//! Stories of `init`: a person at a terminal, or nobody, and a HighLevel on loopback.

#![allow(clippy::print_stderr, reason = "a story that can't be told here says why")]

mod questions;
mod settings;
#[path = "../commands/support.rs"]
mod support;
mod terminal;

use std::path::{Path, PathBuf};

use support::Home;

/// All that `init` tells people to tick.
const SCOPES: [&str; 6] = [
    "contacts.readonly",
    "contacts.write",
    "locations.readonly",
    "locations/tags.readonly",
    "locations/tags.write",
    "locations/customFields.readonly",
];

/// Someone with an empty folder, whose HighLevel is the sandbox.
fn newcomer() -> Home {
    let home = Home::empty();
    let (base, page) = (home.sandbox.base_url(), home.sandbox.authorize_url());
    home.set("GHL_API_BASE_URL", &base).set("GHL_AUTHORIZE_URL", &page).set("NO_COLOR", "1")
}

/// A `crontab` of one's own in front of the machine's, that keeps its entries in a file.
fn with_a_crontab(home: Home) -> (Home, Log) {
    let file = home.path("crontab.txt");
    // While there is a file `slow`, it does not come to writing.
    let script = format!(
        "#!/bin/sh\nf='{}'\nslow='{}'\nif [ \"$1\" = -l ]; then cat \"$f\" 2>/dev/null || \
         {{ echo 'no crontab for me' >&2; exit 1; }}; exit; fi\n\
         if [ -e \"$slow\" ]; then : > \"$slow.begun\"; while [ -e \"$slow\" ]; do sleep 0.1; done; exit 1; fi\n\
         cat > \"$f\"\n",
        file.display(),
        home.path("slow").display()
    );
    std::fs::create_dir(home.path("bin")).expect("the folder is ours");
    let program = home.write("bin/crontab", &script);
    support::mode(&program, 0o700);
    let path = format!("{}:{}", home.path("bin").display(), std::env::var("PATH").unwrap_or_default());
    (home.set("PATH", &path), Log::watched())
}

/// A `systemctl` of one's own that keeps what it was asked, and is offline while there is a file of that name.
fn with_systemd(home: Home) -> Home {
    let script = format!(
        "#!/bin/sh\n[ -e '{}' ] && {{ echo offline; exit 1; }}\necho \"$@\" >> '{}'\n",
        home.path("offline").display(),
        home.path("calls").display()
    );
    let program = home.write("bin/systemctl", &script);
    support::mode(&program, 0o700);
    home
}

/// Waits for what another process does.
fn until(what: &str, holds: impl Fn() -> bool) {
    let began = std::time::Instant::now();
    while !holds() {
        assert!(began.elapsed() < std::time::Duration::from_secs(60), "it never came to be so: {what}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// The log that root's entries name: taken away again if a story made it.
struct Log {
    path: PathBuf,
    was_there: bool,
}

impl Log {
    fn watched() -> Self {
        let path = Path::new("/var/log/ghl_auth_check.log").to_owned();
        Self { was_there: path.exists(), path }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let is_empty = std::fs::metadata(&self.path).is_ok_and(|meta| meta.len() == 0);
        if is_empty && !self.was_there {
            std::fs::remove_file(&self.path).ok();
        }
    }
}

/// What is written in an `.env`, by name.
fn value(env: &str, name: &str) -> Option<String> {
    let line = env.lines().rev().find_map(|line| line.strip_prefix(&format!("{name}=")))?;
    let value = line.split(" #").next().unwrap_or_default();
    Some(value.trim_matches('"').to_owned())
}
