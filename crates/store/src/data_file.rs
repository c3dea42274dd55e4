//! The one file of a `file:` store: found, locked, read and replaced, whatever it holds.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::libc;
use nix::unistd::{AccessFlags, faccessat};
use tokens::store::{Exposure, FlightId};
use tokens::{StoreError, Timestamp};
use zeroize::Zeroizing;

use crate::disk::{self, failed};
use crate::in_place::{self, Step};
use crate::lock::{self, About};

/// Room for an answer and its journal in a file that is its own spool.
const ROOM: usize = 256 * 1024;

/// This process's flight, and the opened file that holds its lock.
type InTheAir = Option<(FlightId, File)>;

/// The file, and what this process holds of it.
pub(crate) struct DataFile {
    path: PathBuf,
    in_place: AtomicBool,
    poisoned: AtomicBool,
    flight: Mutex<InTheAir>,
    room: Mutex<Vec<(FlightId, File)>>,
    sync: fn(&File) -> io::Result<()>,
}

/// What was read.
pub(crate) struct Contents {
    pub(crate) bytes: Zeroizing<Vec<u8>>,
    pub(crate) written_at: Timestamp,
}

/// The file, with the lock to change it.
pub(crate) struct Locked(File);

/// What became of a try to make the file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Replaced {
    Done,
    /// It was to be made anew, and someone else was faster.
    Appeared,
}

impl DataFile {
    /// Finds the file, or the place where it will be, and how it can be replaced.
    pub(crate) fn find(path: &Path, always_in_place: bool) -> Result<Self, StoreError> {
        let path = disk::behind_links(path).map_err(failed("find", path))?;
        let folder = disk::folder_of(&path);
        if !fs::metadata(&folder).map_err(failed("find the folder", &folder))?.is_dir() {
            return Err(failed("find the folder", &folder)(io::ErrorKind::NotADirectory.into()));
        }
        let in_place = match fs::metadata(&path) {
            Ok(found) if found.is_dir() => {
                return Err(StoreError::IsFolder { place: path.display().to_string() });
            }
            // Whoever reads from a pipe or a device waits for ever.
            Ok(found) if !found.is_file() => {
                return Err(StoreError::Exposed { place: path.display().to_string(), why: Exposure::NoFile });
            }
            Ok(_) => always_in_place || !is_writable(&folder) || is_mounted(&path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(failed("look at", &path)(error)),
        };
        Ok(Self {
            path,
            in_place: in_place.into(),
            poisoned: false.into(),
            flight: Mutex::default(),
            room: Mutex::default(),
            sync: File::sync_all,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn is_rewritten_in_place(&self) -> bool {
        self.in_place.load(Ordering::Relaxed)
    }

    fn failed(&self, doing: &'static str) -> impl FnOnce(io::Error) -> StoreError + use<> {
        failed(doing, &self.path)
    }

    fn healthy(&self) -> Result<(), StoreError> {
        match self.poisoned.load(Ordering::Relaxed) {
            false => Ok(()),
            true => Err(StoreError::Poisoned { place: self.path.display().to_string() }),
        }
    }

    /// Flushes; when that fails, the kernel may call lost bytes clean, and nothing more is believed.
    fn sync(&self, file: &File) -> io::Result<()> {
        (self.sync)(file).inspect_err(|error| {
            if !disk::is_full(error) {
                self.poisoned.store(true, Ordering::Relaxed);
            }
        })
    }

    /// What is in the file; none when there is no file.
    pub(crate) fn read(&self) -> Result<Option<Contents>, StoreError> {
        self.healthy()?;
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(&self.path);
        let file = match file {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failed("open")(error)),
        };
        if file.metadata().map_err(self.failed("look at"))?.is_dir() {
            return Err(StoreError::IsFolder { place: self.path.display().to_string() });
        }
        if self.is_rewritten_in_place() {
            // Reading while someone writes would mix two documents. One who has stopped in the middle
            // of it holds us up for a while only: every state between two steps can be read.
            match disk::wait_for(|| Ok(lock::try_shared(&file, About::Change)?.then_some(()))) {
                Err(error) if error.kind() != io::ErrorKind::TimedOut => {
                    return Err(self.failed("lock")(error));
                }
                _ => {}
            }
        }
        contents(&file).map(Some).map_err(self.failed("read"))
    }

    /// Takes the lock to change the file; none when there is no file.
    pub(crate) fn lock(&self) -> Result<Option<Locked>, StoreError> {
        self.healthy()?;
        let locked = disk::wait_for(|| {
            let file = match disk::open_existing(&self.path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(None)),
                Err(error) => return Err(error),
            };
            // Whoever replaced the file while we waited left us with the lock of the old one.
            let ours = lock::try_exclusive(&file, About::Change)? && disk::names(&self.path, &file)?;
            Ok(ours.then_some(Some(Locked(file))))
        })
        .map_err(self.failed("lock"))?;
        Ok(locked)
    }

    /// What is in the locked file.
    pub(crate) fn read_locked(&self, locked: &Locked) -> Result<Contents, StoreError> {
        contents(&locked.0).map_err(self.failed("read"))
    }

    /// Puts new contents in the place of all that is there, whole or not at all.
    pub(crate) fn replace(&self, locked: Option<&Locked>, bytes: &[u8]) -> Result<Replaced, StoreError> {
        self.healthy()?;
        if !self.is_rewritten_in_place() {
            match (self.rename_over(locked, bytes), locked) {
                (Err(error), Some(_)) if can_only_be_rewritten(&error) => {
                    tracing::warn!(file = %self.path.display(), %error, "the file can't be replaced by renaming");
                    self.in_place.store(true, Ordering::Relaxed);
                }
                (done, _) => return done.map_err(self.failed("replace")),
            }
        }
        let Some(Locked(file)) = locked else {
            return Err(self.failed("replace")(io::ErrorKind::NotFound.into()));
        };
        self.rewrite(file, bytes).map(|()| Replaced::Done).map_err(self.failed("write"))
    }

    fn rename_over(&self, locked: Option<&Locked>, bytes: &[u8]) -> io::Result<Replaced> {
        let temporary = self.temporary(locked.is_some());
        if locked.is_some() {
            // Left behind by a crash; nobody else can be writing it while we hold the lock.
            remove(&temporary)?;
        }
        let file = disk::create_new(&temporary)?;
        let done = self.fill(&file, locked, bytes).and_then(|flight| {
            self.put_in_place(&temporary, locked.is_some()).map(|replaced| (replaced, flight))
        });
        match done {
            Ok((Replaced::Done, mut flight)) => {
                if let Some((_, held)) = flight.as_mut().and_then(|flight| flight.as_mut()) {
                    *held = file;
                }
                let folder = disk::folder_of(&self.path);
                disk::sync_folder(&folder).inspect_err(|error| {
                    if !disk::is_full(error) {
                        self.poisoned.store(true, Ordering::Relaxed);
                    }
                })?;
                Ok(Replaced::Done)
            }
            Ok((Replaced::Appeared, _)) => {
                remove(&temporary)?;
                Ok(Replaced::Appeared)
            }
            Err(error) => {
                let _ = fs::remove_file(&temporary);
                Err(error)
            }
        }
    }

    /// Writes and flushes the new file. While a flight of ours is in the air, its lock goes along,
    /// so that nobody finds the file free in between.
    fn fill(
        &self,
        file: &File,
        locked: Option<&Locked>,
        bytes: &[u8],
    ) -> io::Result<Option<MutexGuard<'_, InTheAir>>> {
        let flight = held(&self.flight);
        if flight.is_some() && !lock::try_exclusive(file, About::Flight)? {
            return Err(io::Error::other("a new file is locked already"));
        }
        (&*file).write_all(bytes)?;
        if let Some(Locked(old)) = locked {
            keep_owner(old, file)?;
        }
        self.sync(file)?;
        Ok(flight.is_some().then_some(flight))
    }

    fn put_in_place(&self, temporary: &Path, exists: bool) -> io::Result<Replaced> {
        if !exists {
            match fs::hard_link(temporary, &self.path) {
                Ok(()) => {
                    remove(temporary)?;
                    return Ok(Replaced::Done);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(Replaced::Appeared),
                // A file system without hard links.
                Err(_) => {}
            }
        }
        fs::rename(temporary, &self.path).map(|()| Replaced::Done)
    }

    fn temporary(&self, alone: bool) -> PathBuf {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let unique = match alone {
            true => String::new(),
            false => format!(".{}", random_name()),
        };
        disk::folder_of(&self.path).join(format!(".{name}{unique}.new"))
    }

    fn rewrite(&self, file: &File, bytes: &[u8]) -> io::Result<()> {
        let length = file.metadata()?.len();
        let old_end = contents(file)?.bytes.trim_ascii_end().len();
        let keep_room = self.has_room(file)?;
        if let Err(error) = disk::keep_private(file) {
            tracing::warn!(file = %self.path.display(), %error, "others may read the file");
        }
        let steps = in_place::rewrite(old_end, bytes, keep_room);
        let (append, rest) = steps.split_at(1);
        if let Err(error) = self.take(file, append) {
            if !self.poisoned.load(Ordering::Relaxed) {
                // Half a journal harms none of our readers, but Python would stumble over it.
                file.set_len(length)?;
                file.write_all_at(
                    &vec![b' '; usize::try_from(length).unwrap_or_default() - old_end],
                    old_end as u64,
                )?;
            }
            return Err(error);
        }
        self.take(file, rest)
    }

    fn take(&self, file: &File, steps: &[Step]) -> io::Result<()> {
        for step in steps {
            match step {
                Step::Write(at, bytes) => file.write_all_at(bytes, *at as u64)?,
                Step::Cut(length) => file.set_len(*length as u64)?,
            }
            self.sync(file)?;
        }
        Ok(())
    }

    /// Sets room aside at the end of a file that is rewritten in place, for an answer to land in.
    pub(crate) fn set_room_aside(&self, flight: &FlightId) -> Result<(), StoreError> {
        let locked = self.lock()?.ok_or_else(|| self.failed("open")(io::ErrorKind::NotFound.into()))?;
        let length = locked.0.metadata().map_err(self.failed("look at"))?.len() as usize;
        let end = self.read_locked(&locked)?.bytes.trim_ascii_end().len();
        let wanted = 2 * end + ROOM;
        if length < wanted {
            let blanks = vec![b' '; wanted - length];
            let write = || {
                locked.0.write_all_at(&blanks, length as u64)?;
                self.sync(&locked.0)
            };
            if let Err(error) = write() {
                let _ = locked.0.set_len(length as u64);
                return Err(self.failed("set room aside in")(error));
            }
        }
        let file = disk::open_existing(&self.path).map_err(self.failed("open"))?;
        if !lock::try_shared(&file, About::Room).map_err(self.failed("lock"))? {
            return Err(self.failed("lock")(io::ErrorKind::WouldBlock.into()));
        }
        held(&self.room).push((flight.clone(), file));
        Ok(())
    }

    /// Gives the room back, and cuts the file to its document once nobody has any.
    pub(crate) fn give_room_back(&self, flight: &FlightId, locked: &Locked) -> Result<(), StoreError> {
        held(&self.room).retain(|(holder, _)| holder != flight);
        if self.has_room(&locked.0).map_err(self.failed("lock"))? {
            return Ok(());
        }
        let bytes = self.read_locked(locked)?.bytes;
        let end = bytes.trim_ascii_end().len();
        if end < bytes.len() {
            locked.0.set_len(end as u64).map_err(self.failed("cut"))?;
        }
        Ok(())
    }

    fn has_room(&self, file: &File) -> io::Result<bool> {
        lock::is_elsewhere(file, About::Room)
    }

    /// Whether nobody but the one flight of ours, if there is one, has set room aside in the file.
    pub(crate) fn nobody_else_has_room(&self, locked: &Locked) -> Result<bool, StoreError> {
        let ours = held(&self.room);
        // Asked through the opened file that holds our own lock, the kernel does not count it.
        let asked = match ours.as_slice() {
            [(_, file)] => file,
            _ => &locked.0,
        };
        self.has_room(asked).map(|has| !has).map_err(self.failed("lock"))
    }

    /// Takes the flight's lock, which is held until `end_flight` or until the process dies.
    pub(crate) fn begin_flight(&self, flight: &FlightId) -> Result<bool, StoreError> {
        let mut ours = held(&self.flight);
        if let Some((holder, file)) = &*ours {
            // The lock of a file that someone has replaced since keeps nobody out.
            if disk::names(&self.path, file).map_err(self.failed("look at"))? {
                return Ok(holder == flight);
            }
            *ours = None;
        }
        let file = disk::open_existing(&self.path).map_err(self.failed("open"))?;
        let taken = lock::try_exclusive(&file, About::Flight).map_err(self.failed("lock"))?;
        if taken {
            *ours = Some((flight.clone(), file));
        }
        Ok(taken)
    }

    /// Whether another flight is in the air at a first look, which keeps nobody waiting.
    pub(crate) fn is_busy(&self, flight: &FlightId) -> Result<bool, StoreError> {
        if self.is_flying(flight) {
            return Ok(false);
        }
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            opened => opened.map_err(self.failed("open"))?,
        };
        lock::is_elsewhere(&file, About::Flight).map_err(self.failed("lock"))
    }

    /// Lets the flight's lock go, if it is this flight's.
    pub(crate) fn end_flight(&self, flight: &FlightId) {
        let mut ours = held(&self.flight);
        if ours.as_ref().is_some_and(|(holder, _)| holder == flight) {
            *ours = None;
        }
    }

    /// Whether this flight still holds the lock.
    pub(crate) fn is_flying(&self, flight: &FlightId) -> bool {
        held(&self.flight).as_ref().is_some_and(|(holder, _)| holder == flight)
    }

    /// Whether some other flight is in the air, of this process or another.
    pub(crate) fn someone_else_flies(&self, flight: &FlightId, locked: &Locked) -> Result<bool, StoreError> {
        if self.is_flying(flight) {
            return Ok(false);
        }
        lock::is_elsewhere(&locked.0, About::Flight).map_err(self.failed("lock"))
    }

    /// Keeps a copy of contents that are about to be replaced, in a file beside this one.
    pub(crate) fn keep_copy(&self, suffix: &str, bytes: &[u8]) -> io::Result<PathBuf> {
        let path = disk::beside(&self.path, suffix);
        let file = match disk::create_new(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && fs::read(&path)? == bytes => {
                return Ok(path);
            }
            made => made?,
        };
        let written = (&file).write_all(bytes).and_then(|()| file.sync_all());
        written.inspect_err(|_| drop(fs::remove_file(&path)))?;
        disk::sync_folder(&disk::folder_of(&path))?;
        Ok(path)
    }

    #[cfg(test)]
    pub(crate) fn with_sync(mut self, sync: fn(&File) -> io::Result<()>) -> Self {
        self.sync = sync;
        self
    }
}

/// A lock within the process; whoever panicked while holding it left nothing half done in there.
pub(crate) fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sixteen letters that nobody else picks.
pub(crate) fn random_name() -> String {
    let mut bytes = [0u8; 8];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system has random bytes");
    crate::key::hex(&bytes)
}

fn contents(file: &File) -> io::Result<Contents> {
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    if length > 16 << 20 {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is too large to be a token file"));
    }
    let mut bytes = Zeroizing::new(vec![0; length]);
    let mut filled = 0;
    while filled < length {
        match file.read_at(&mut bytes[filled..], filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(Contents { bytes, written_at: disk::written_at(file)? })
}

fn is_writable(folder: &Path) -> bool {
    faccessat(AT_FDCWD, folder, AccessFlags::W_OK, AtFlags::AT_EACCESS).is_ok()
}

/// Whether the file is a mount of its own, as `-v file:/app/file` makes it.
fn is_mounted(path: &Path) -> bool {
    let Ok(path) = fs::canonicalize(path) else { return false };
    let Ok(mounts) = fs::read_to_string("/proc/self/mountinfo") else { return false };
    let Some(path) = path.to_str() else { return false };
    let escaped = path.replace('\\', "\\134").replace(' ', "\\040").replace('\t', "\\011");
    mounts.lines().filter_map(|line| line.split(' ').nth(4)).any(|point| point == escaped)
}

/// Whether renaming fails because of where the file is, and writing into it may still work.
fn can_only_be_rewritten(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    matches!(code, Some(libc::EBUSY | libc::EXDEV | libc::EPERM | libc::EACCES | libc::EROFS))
}

/// Leaves a file with the owner it had, where we may give it away.
fn keep_owner(old: &File, new: &File) -> io::Result<()> {
    let (old, made) = (old.metadata()?, new.metadata()?);
    if (old.uid(), old.gid()) != (made.uid(), made.gid()) {
        let _ = std::os::unix::fs::fchown(new, Some(old.uid()), Some(old.gid()));
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
