//! Files and folders as this crate wants them: nobody else's to read, and on the disk when it says so.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use nix::libc;
use nix::unistd::{Gid, getegid, geteuid, getgroups};
use tokens::store::Exposure;
use tokens::{StoreError, Timestamp};

/// How long someone else may hold a lock for one change before we give up, in steps of `PAUSE`.
const PAUSES: u32 = 500;
const PAUSE: Duration = Duration::from_millis(10);

/// The error that names what was tried, and where.
pub(crate) fn failed(doing: &'static str, place: &Path) -> impl FnOnce(io::Error) -> StoreError + use<> {
    let place = place.display().to_string();
    move |source| StoreError::Io { doing, place, source: Arc::new(source) }
}

/// Whether the system says that there is no room, rather than that the disk is broken.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG))
}

/// Opens a file for reading and writing, never through a link.
pub(crate) fn open_existing(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOFOLLOW).open(path)
}

/// Makes a file that did not exist, for us alone.
pub(crate) fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// Takes a file away from everyone but its owner.
pub(crate) fn keep_private(file: &File) -> io::Result<()> {
    match file.metadata()?.permissions().mode() & 0o077 {
        0 => Ok(()),
        _ => file.set_permissions(Permissions::from_mode(0o600)),
    }
}

/// Refuses a place for a database that others can get at.
pub(crate) fn refuse_exposed(path: &Path) -> Result<(), StoreError> {
    refuse_open_folder(path)?;
    let place = || path.display().to_string();
    let why = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => return Err(StoreError::IsFolder { place: place() }),
        Ok(found) if found.is_symlink() => Exposure::Link,
        Ok(found) if !found.is_file() => Exposure::NoFile,
        Ok(found) if found.nlink() > 1 => Exposure::HardLinks,
        Ok(found) if found.uid() != geteuid().as_raw() => Exposure::OtherOwner { owner: found.uid() },
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("look at", path)(error)),
    };
    Err(StoreError::Exposed { place: place(), why })
}

/// Refuses a path in whose folder others may put one file in the place of another.
pub(crate) fn refuse_open_folder(path: &Path) -> Result<(), StoreError> {
    let folder = folder_of(path);
    fs::metadata(&folder).map_err(failed("find the folder", &folder))?;
    match open_folder(path) {
        Some((folder, mode)) => {
            let why = Exposure::OpenFolder { mode };
            Err(StoreError::Exposed { place: folder.display().to_string(), why })
        }
        None => Ok(()),
    }
}

/// The folder of a file, with its mode, if others may put files of their own in the place of those in
/// it. A group that is ours was given the folder on purpose; where the sticky bit is set everyone
/// moves only their own.
pub fn open_folder(path: &Path) -> Option<(PathBuf, u32)> {
    let folder = folder_of(path);
    let found = fs::metadata(&folder).ok()?;
    let mode = found.mode() & 0o7777;
    let group = Gid::from_raw(found.gid());
    let is_ours = || getegid() == group || getgroups().is_ok_and(|groups| groups.contains(&group));
    let is_open = mode & 0o1000 == 0 && (mode & 0o002 != 0 || (mode & 0o020 != 0 && !is_ours()));
    is_open.then_some((folder, mode))
}

/// Makes a database's file for us alone, before SQLite would make it for everyone; its companions
/// follow it.
pub(crate) fn prepare_database(path: &Path) -> Result<(), StoreError> {
    refuse_exposed(path)?;
    match create_new(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => drop(made.map_err(failed("make", path))?),
    }
    for path in [path, &beside(path, "-wal"), &beside(path, "-shm")] {
        if let Ok(file) = File::open(path) {
            keep_private(&file).map_err(failed("keep private", path))?;
        }
    }
    Ok(())
}

/// Makes a folder for us alone, if it is not there.
pub(crate) fn create_folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => sync_folder(&folder_of(path)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Puts a folder's list of names on the disk.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    match File::open(path)?.sync_all() {
        // Some network and user-space file systems know no flush of a folder.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOTSUP)) => Ok(()),
        other => other,
    }
}

/// The folder that a path lies in.
pub(crate) fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// The path behind any links, of which the last may point at a file yet to be made.
pub(crate) fn behind_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..40 {
        match fs::read_link(&path) {
            Ok(target) => path = folder_of(&path).join(target),
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::NotFound) => {
                return Ok(path);
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::from_raw_os_error(libc::ELOOP))
}

/// A path with more behind its name.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Whether a path still names this opened file.
pub(crate) fn names(path: &Path, file: &File) -> io::Result<bool> {
    let opened = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (opened.dev(), opened.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// When a file was last written.
pub(crate) fn written_at(file: &File) -> io::Result<Timestamp> {
    let modified = file.metadata()?.modified()?;
    let span = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Timestamp::from_millis(0) + span)
}

/// Asks again and again until `ready`, on a thread that may wait: five seconds at most.
pub(crate) fn wait_for<T>(mut ready: impl FnMut() -> io::Result<Option<T>>) -> io::Result<T> {
    for _ in 0..PAUSES {
        if let Some(value) = ready()? {
            return Ok(value);
        }
        std::thread::sleep(PAUSE);
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "another process holds it for longer than five seconds"))
}

/// Runs what may wait for a disk or a lock where it holds up nobody; once begun, it ends, even if
/// the caller has gone.
pub(crate) async fn apart<T: Send + 'static>(
    place: &Path,
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(failed("reach", place)(io::ErrorKind::Interrupted.into())),
        },
    }
}
