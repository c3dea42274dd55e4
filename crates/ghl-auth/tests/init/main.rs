//! Stories of `init`: a person at a terminal, or nobody, and a HighLevel on loopback.

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
    let script = format!(
        "#!/bin/sh\nf='{}'\nif [ \"$1\" = -l ]; then cat \"$f\" 2>/dev/null || \
         {{ echo 'no crontab for me' >&2; exit 1; }}\nelse cat > \"$f\"; fi\n",
        file.display()
    );
    std::fs::create_dir(home.path("bin")).expect("the folder is ours");
    let program = home.write("bin/crontab", &script);
    support::mode(&program, 0o700);
    let path = format!("{}:{}", home.path("bin").display(), std::env::var("PATH").unwrap_or_default());
    (home.set("PATH", &path), Log::watched())
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
