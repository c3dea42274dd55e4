//! Locks on the data file itself, which the kernel lets go when their holder dies.
//!
//! Linux's open file description locks: two opened files exclude each other within one process too,
//! and closing some third one releases nothing.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

#[cfg(not(target_os = "linux"))]
compile_error!(
    "the store keeps processes apart with Linux's open file description locks; it builds on Linux only"
);

/// What a lock is about: one byte of the file each, whatever lies there.
#[derive(Clone, Copy, Debug)]
pub(crate) enum About {
    /// A refresh is in the air: held until it has ended.
    Flight = 0,
    /// The file is being changed: held for one look, comparison and replacement.
    Change = 1,
    /// Room in the file is set aside for answers: shared by all who did so.
    Room = 2,
}

#[derive(Clone, Copy)]
enum Kind {
    Shared = libc::F_RDLCK as isize,
    Exclusive = libc::F_WRLCK as isize,
}

fn range(about: About, kind: Kind) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: about as libc::off_t,
        l_len: 1,
        l_pid: 0,
    }
}

fn try_set(file: &impl AsFd, about: About, kind: Kind) -> io::Result<bool> {
    loop {
        match fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&range(about, kind))) {
            Ok(_) => return Ok(true),
            Err(Errno::EAGAIN | Errno::EACCES) => return Ok(false),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Takes the lock for this opened file alone, if nobody else has it.
pub(crate) fn try_exclusive(file: &File, about: About) -> io::Result<bool> {
    try_set(file, about, Kind::Exclusive)
}

/// Takes the lock together with others, if nobody has it alone.
pub(crate) fn try_shared(file: &File, about: About) -> io::Result<bool> {
    try_set(file, about, Kind::Shared)
}

/// Whether someone else has the lock, in whatever way.
pub(crate) fn is_elsewhere(file: &File, about: About) -> io::Result<bool> {
    let mut asked = range(about, Kind::Exclusive);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut asked))?;
    Ok(asked.l_type != libc::F_UNLCK as libc::c_short)
}
