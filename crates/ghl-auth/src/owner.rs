//! Started as root, the program becomes whoever owns the tokens.
//!
//! A container starts as root, and the token file that is mounted into it belongs to someone on the
//! host. Written by root, it would be lost to them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, statfs};
use nix::unistd::{Gid, Uid, getegid, geteuid, setegid, seteuid, setgid, setgroups, setuid};

use crate::harden;

/// Who the program works as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WorksAs {
    /// Whoever started it, who is not root.
    Starter,
    /// The owner of the tokens, from now on.
    Owner(u32),
    /// Root, because the tokens are root's.
    Root,
}

/// Whether a file that is to be made there would go with the container: nothing is mounted over the
/// container's own layer.
pub(crate) fn dies_with_the_container(tokens: &Path) -> bool {
    let in_a_container = std::process::id() == 1
        || ["/.dockerenv", "/run/.containerenv"].iter().any(|mark| Path::new(mark).exists());
    let is_layer =
        |folder: &Path| statfs(folder).is_ok_and(|it| it.filesystem_type() == OVERLAYFS_SUPER_MAGIC);
    in_a_container && !tokens.exists() && is_layer(folder_of(tokens))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Whom a program that root started is to become: the owner of the token file, or of the folder that
/// is to hold it, with the group.
pub(crate) fn to_become(tokens: &Path) -> Option<(u32, u32)> {
    if !geteuid().is_root() {
        return None;
    }
    let owned = fs::metadata(tokens).or_else(|_| fs::metadata(folder_of(tokens))).ok()?;
    (owned.uid() != 0).then(|| (owned.uid(), owned.gid()))
}

/// Does something as someone else, and is root again.
pub(crate) fn acting_as<T>(user: u32, group: u32, work: impl FnOnce() -> T) -> Result<T, nix::Error> {
    let root = (geteuid(), getegid());
    setegid(Gid::from_raw(group))?;
    let done = seteuid(Uid::from_raw(user)).map(|()| work());
    seteuid(root.0)?;
    setegid(root.1)?;
    harden::keep_from_being_dumped();
    done
}

/// Becomes the owner.
pub(crate) fn become_owner(tokens: &Path) -> Result<WorksAs, nix::Error> {
    match to_become(tokens) {
        Some((uid, gid)) => {
            setgroups(&[])?;
            setgid(Gid::from_raw(gid))?;
            setuid(Uid::from_raw(uid))?;
            harden::keep_from_being_dumped();
            Ok(WorksAs::Owner(uid))
        }
        None if geteuid().is_root() => Ok(WorksAs::Root),
        None => Ok(WorksAs::Starter),
    }
}
