//! Where settings come from: the process's environment first, then the `.env` file, then a file
//! that `NAME_FILE` points to.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::apps::App;
use super::env_file;
use super::variables::{self, Whose};
use crate::text::Text;

/// More than anyone writes into an `.env`, and less than a device that never ends.
const LONGEST_ENV_FILE: u64 = 1024 * 1024;

const LONGEST_SECRET: u64 = 64 * 1024;

/// Everything that was said about how to run, unparsed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Source {
    /// Whose settings are found.
    app: App,
    process: HashMap<String, String>,
    file: HashMap<String, String>,
    /// Names whose values a container runtime passed with quotes or comments.
    cleaned: Vec<String>,
    env_file: Option<PathBuf>,
    bad_lines: Vec<usize>,
    others_may_read: Option<PathBuf>,
}

/// An `.env` file that was named and can't be read.
#[derive(Debug)]
pub(crate) struct UnreadableEnvFile {
    pub(crate) path: PathBuf,
    pub(crate) error: io::Error,
}

/// What a variable turned out to be.
pub(crate) enum Found {
    Value(String),
    Nothing,
    /// `NAME_FILE` names a file that can't be used.
    BadFile {
        path: PathBuf,
        why: BadFile,
    },
}

/// Why a secret's file can't be used.
pub(crate) enum BadFile {
    Unreadable(io::Error),
    NoFile,
    OthersMayRead(u32),
    OthersMayReplace { folder: PathBuf, mode: u32 },
}

impl Source {
    /// Reads the environment and `named`, or `.env` in the working folder if there is one.
    pub(crate) fn read(named: Option<&Path>) -> Result<Self, UnreadableEnvFile> {
        let mut source = Self::default();
        for (name, value) in std::env::vars_os() {
            let (Ok(name), Ok(value)) = (name.into_string(), value.into_string()) else { continue };
            if !variables::is_ours(&name) {
                continue;
            }
            match env_file::clean(&value) {
                Some(clean) => {
                    if clean != value.trim() {
                        source.cleaned.push(name.clone());
                    }
                    source.process.insert(name, clean);
                }
                None => drop(source.process.insert(name, value)),
            }
        }
        source.cleaned.sort();
        let path = named.unwrap_or(Path::new(".env"));
        match read_up_to(path, LONGEST_ENV_FILE) {
            Ok(text) => source.take_file(path, &text),
            Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(UnreadableEnvFile { path: path.to_owned(), error }),
        }
        Ok(source)
    }

    /// Like `read`, of a file that is still to be written.
    pub(crate) fn read_or_begin(path: &Path) -> Result<Self, UnreadableEnvFile> {
        match Self::read(Some(path)) {
            Err(unreadable) if unreadable.error.kind() == io::ErrorKind::NotFound => {
                let mut source = Self::read(Some(Path::new("/dev/null")))?;
                source.others_may_read = None;
                source.env_file = Some(path.to_owned());
                Ok(source)
            }
            read => read,
        }
    }

    /// Settings that come from nowhere but this list.
    pub(crate) fn of(process: HashMap<String, String>) -> Self {
        Self { process, ..Self::default() }
    }

    /// The same for another app.
    pub(crate) fn of_app(&self, app: App) -> Self {
        Self { app, ..self.clone() }
    }

    /// Whose settings are found.
    pub(crate) fn app(&self) -> &App {
        &self.app
    }

    /// The assignments in the text of an `.env` file.
    pub(crate) fn pairs(text: &str) -> HashMap<String, String> {
        env_file::parse(text).0
    }

    fn take_file(&mut self, path: &Path, text: &str) {
        let (values, bad) = env_file::parse(text);
        self.file = values;
        self.bad_lines = bad.into_iter().map(|line| line.0).collect();
        let others = fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0);
        self.others_may_read = others.then(|| path.to_owned());
        self.env_file = Some(path.to_owned());
    }

    /// The `.env` file in use, made absolute.
    pub(crate) fn env_file(&self) -> Option<PathBuf> {
        self.env_file.as_ref().map(|path| fs::canonicalize(path).unwrap_or_else(|_| path.clone()))
    }

    /// The value of `name`, one of our variables, for the app.
    pub(crate) fn find(&self, name: &str) -> Found {
        self.look_for(&self.name_of(name))
    }

    /// The variable that holds the app's value of `name`.
    pub(crate) fn name_of(&self, name: &str) -> String {
        let own = self.app.variable(name);
        match variables::named(name).whose {
            Whose::Everyones => name.to_owned(),
            Whose::EachApps => own,
            Whose::EachAppsOrEveryones => match self.look_for(&own) {
                Found::Nothing => name.to_owned(),
                Found::Value(_) | Found::BadFile { .. } => own,
            },
        }
    }

    /// The value of a variable, which counts as unset when it is empty. A secret may be in a file.
    fn look_for(&self, name: &str) -> Found {
        let set = |values: &HashMap<String, String>, name: &str| {
            values.get(name).filter(|value| !value.is_empty()).cloned()
        };
        let file_name = format!("{name}_FILE");
        let (process, file) = (&self.process, &self.file);
        let pointed = match (set(process, name), set(process, &file_name), set(file, name)) {
            (Some(value), _, _) => return Found::Value(value),
            (None, Some(path), _) => Some(path),
            (None, None, Some(value)) => return Found::Value(value),
            (None, None, None) => set(file, &file_name),
        };
        match pointed {
            Some(path) if variables::is_secret(name) => read_secret(Path::new(&path)),
            _ => Found::Nothing,
        }
    }

    /// Lines of the `.env` file that are no assignments, counted from 1.
    pub(crate) fn bad_lines(&self) -> &[usize] {
        &self.bad_lines
    }

    /// Names whose values came with quotes or comments, as a container runtime passes them.
    pub(crate) fn cleaned(&self) -> &[String] {
        &self.cleaned
    }

    /// What deserves attention about where the settings come from.
    pub(crate) fn warnings(&self, text: &Text) -> Vec<String> {
        let mut warnings = Vec::new();
        if !self.cleaned.is_empty() {
            warnings.push(text.say("warning-cleaned", &[("names", self.cleaned.join(", ").into())]));
        }
        if let Some(path) = &self.others_may_read {
            warnings.push(text.say("warning-env-mode", &[("path", path.display().to_string().into())]));
        }
        for line in &self.bad_lines {
            let path = self.env_file.as_deref().unwrap_or(Path::new(".env")).display().to_string();
            warnings.push(
                text.say("warning-env-line", &[("path", path.into()), ("line", line.to_string().into())]),
            );
        }
        warnings
    }
}

/// Whether systemd, or a pod's volume, keeps the file for this service alone; its mode then shows
/// another thing. Every path begins with an empty one.
fn is_credential(path: &Path) -> bool {
    let folder = std::env::var_os("CREDENTIALS_DIRECTORY").filter(|folder| !folder.is_empty());
    folder.is_some_and(|folder| path.starts_with(folder))
}

/// Why a file is not fit to hold a secret, if it is not.
pub(super) fn unfit(path: &Path) -> Option<BadFile> {
    let found = match fs::metadata(path) {
        Ok(found) => found,
        Err(error) => return Some(BadFile::Unreadable(error)),
    };
    if !found.is_file() {
        // Whoever reads from a pipe or a device waits for ever.
        return Some(BadFile::NoFile);
    }
    if is_credential(path) {
        return None;
    }
    let mode = found.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Some(BadFile::OthersMayRead(mode));
    }
    store::open_folder(path).map(|(folder, mode)| BadFile::OthersMayReplace { folder, mode })
}

fn read_secret(path: &Path) -> Found {
    let bad = |why| Found::BadFile { path: path.to_owned(), why };
    if let Some(why) = unfit(path) {
        return bad(why);
    }
    match read_up_to(path, LONGEST_SECRET) {
        Ok(text) if text.trim().is_empty() => Found::Nothing,
        Ok(text) => Found::Value(text.trim().to_owned()),
        Err(error) => bad(BadFile::Unreadable(error)),
    }
}

/// Reads a text file that ought to be small.
fn read_up_to(path: &Path, most: u64) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(most + 1).read_to_string(&mut text)?;
    match u64::try_from(text.len()) {
        Ok(length) if length <= most => Ok(text),
        _ => Err(io::ErrorKind::FileTooLarge.into()),
    }
}
