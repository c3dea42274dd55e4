//! Started as root, the program becomes whoever owns the tokens.
//!
//! A container starts as root, and the token file that is mounted into it belongs to someone on the
//! host. Written by root, it would be lost to them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{Gid, Uid, geteuid, setgid, setgroups, setuid};

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

/// Becomes the owner of the token file or of the folder that is to hold it.
pub(crate) fn become_owner(tokens: &Path) -> Result<WorksAs, nix::Error> {
    if !geteuid().is_root() {
        return Ok(WorksAs::Starter);
    }
    let folder = match tokens.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let owned = fs::metadata(tokens).or_else(|_| fs::metadata(folder));
    match owned.map(|meta| (meta.uid(), meta.gid())) {
        Ok((0, _)) | Err(_) => Ok(WorksAs::Root),
        Ok((uid, gid)) => {
            setgroups(&[])?;
            setgid(Gid::from_raw(gid))?;
            setuid(Uid::from_raw(uid))?;
            Ok(WorksAs::Owner(uid))
        }
    }
}
