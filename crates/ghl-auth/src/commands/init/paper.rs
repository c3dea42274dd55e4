//! The `.env` that the answers are written to: each at once, so that whoever is interrupted goes on where
//! they were.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use crate::config::{Found, Source, UnreadableEnvFile, with_value};
use crate::wiring::random_name;

/// A file of settings, and what is set around it.
pub(super) struct Paper {
    path: PathBuf,
    source: Source,
}

impl Paper {
    /// The file that is there already, or will be; not a link to it, which would be replaced.
    pub(super) fn at(path: PathBuf, source: &Source) -> Self {
        Self { path, source: source.clone() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// All settings as every command finds them now.
    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    /// What a variable is now.
    pub(super) fn value(&self, name: &str) -> Option<String> {
        match self.source.find(name) {
            Found::Value(value) => Some(value),
            Found::Nothing | Found::BadFile { .. } => None,
        }
    }

    /// Writes an answer down, unless the file says so already.
    pub(super) fn note(&mut self, name: &str, value: &str) -> io::Result<()> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let pairs = Source::pairs(&text);
        let is_in_its_file = pairs.get(name).is_none_or(String::is_empty)
            && pairs.contains_key(&format!("{name}_FILE"))
            && self.value(name).as_deref() == Some(value);
        if is_in_its_file || pairs.get(name).is_some_and(|there| there == value) {
            return Ok(());
        }
        replace(&self.path, &with_value(&text, name, value))?;
        self.source = Source::read(Some(&self.path)).map_err(|UnreadableEnvFile { error, .. }| error)?;
        Ok(())
    }

    /// Whether the process's environment says otherwise, and so prevails over what was written.
    pub(super) fn is_overruled(&self, name: &str, value: &str) -> bool {
        self.value(name).as_deref() != Some(value)
    }
}

/// Puts a new file, its owner's only, in the place of the one that is there.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let fresh = folder.join(format!("{name}.{}", random_name()));
    let written = write_new(&fresh, text, path, folder).and_then(|()| fs::rename(&fresh, path));
    if written.is_err() {
        // What could not take its place holds secrets, and goes.
        let _ = fs::remove_file(&fresh);
    }
    written?;
    fs::File::open(folder)?.sync_all()
}

fn write_new(fresh: &Path, text: &str, path: &Path, folder: &Path) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(fresh)?;
    // Root writes for whoever the settings are, or the folder is.
    let owner = fs::metadata(path).or_else(|_| fs::metadata(folder))?;
    if geteuid().is_root() && owner.uid() != 0 {
        std::os::unix::fs::chown(fresh, Some(owner.uid()), Some(owner.gid()))?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
