//! What the process forbids itself before it reads anything.

use std::sync::OnceLock;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};

static MASK_BEFORE: OnceLock<Mode> = OnceLock::new();

/// No core dumps, which would hold secrets, and nothing created that others can read. A system that
/// refuses is no reason not to work.
///
/// The environment stays as it was handed over, since a hangup has it read anew. On Linux nobody but
/// root can look into a process that can't be dumped, `/proc/PID/environ` included; a secret in a file
/// that `NAME_FILE` names is in no environment at all.
pub(crate) fn process() {
    let before = umask(Mode::from_bits_truncate(0o077));
    MASK_BEFORE.get_or_init(|| before);
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    #[cfg(target_os = "linux")]
    keep_from_being_dumped();
}

/// Keeps others from looking into the process. Whoever becomes another user has to ask for it again.
pub(crate) fn keep_from_being_dumped() {
    let _ = nix::sys::prctl::set_dumpable(false);
}

/// Makes something whose group is let in. It has its mode from the beginning: a path could lead
/// elsewhere by the time that its mode is changed.
pub(crate) fn for_the_group_too<T>(make: impl FnOnce() -> T) -> T {
    let before = umask(Mode::from_bits_truncate(0o117));
    let made = make();
    umask(before);
    made
}

/// Takes as many open files as the system lets this process have, and says how many that are. The
/// usual limit is a low one for programs of long ago; connections are files, too.
pub(crate) fn open_files() -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 256 };
    let files = match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    };
    usize::try_from(files).unwrap_or(usize::MAX)
}

/// Gives the file mask back, for a program that takes this process's place and makes files of its
/// own.
pub(crate) fn give_mask_back() {
    if let Some(before) = MASK_BEFORE.get() {
        umask(*before);
    }
}
