//! Whether files are their owner's only.

use std::path::PathBuf;

use super::super::finding::{Area, Finding};
use crate::exit::Exit;

/// A file that is to be ours alone.
#[derive(Clone, Debug)]
pub(crate) struct FileFacts {
    pub(crate) path: PathBuf,
    pub(crate) what: FileKind,
    pub(crate) mode: u32,
    pub(crate) owner: u32,
    /// Its folder and the folder's mode, where others may put files of their own there.
    pub(crate) open_folder: Option<(PathBuf, u32)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    Settings,
    Store,
}

/// Whether files are their owner's only, where `me` is who asks.
pub(crate) fn files(files: &[FileFacts], me: u32) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut folders: Vec<&PathBuf> = Vec::new();
    for file in files {
        let path = || ("path", file.path.display().to_string());
        if file.mode & 0o077 != 0 {
            let code = match file.what {
                FileKind::Settings => "env_mode",
                FileKind::Store => "store_mode",
            };
            let mode = ("mode", format!("{:04o}", file.mode & 0o7777));
            found.push(Finding::warning(Area::Files, code, vec![path(), mode]));
        }
        if me != 0 && file.owner != me {
            let owners = vec![path(), ("owner", file.owner.to_string()), ("me", me.to_string())];
            found.push(match file.what {
                FileKind::Settings => Finding::warning(Area::Files, "env_owner", owners),
                FileKind::Store => Finding::failure(Area::Files, "store_owner", Exit::Usage, owners),
            });
        }
        if let Some((folder, mode)) = &file.open_folder
            && !folders.contains(&folder)
        {
            folders.push(folder);
            let folder = ("path", folder.display().to_string());
            let mode = ("mode", format!("{mode:04o}"));
            found.push(Finding::warning(Area::Files, "folder_open", vec![folder, mode]));
        }
    }
    if found.is_empty() {
        found.push(Finding::good(Area::Files, "files_good", vec![]));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::tests::codes;
    use super::*;

    fn file(mode: u32, owner: u32) -> FileFacts {
        FileFacts { path: "/x/.env".into(), what: FileKind::Settings, mode, owner, open_folder: None }
    }

    #[test]
    fn a_file_is_its_owners_only_and_ours() {
        let check = |it: FileFacts, me, expected: &[&str]| assert_eq!(codes(&files(&[it], me)), expected);
        check(file(0o600, 7), 7, &["files_good"]);
        check(file(0o400, 7), 7, &["files_good"]);
        check(file(0o640, 7), 7, &["env_mode"]);
        check(file(0o604, 8), 7, &["env_mode", "env_owner"]);
        check(file(0o600, 8), 0, &["files_good"]);
        let store = FileFacts { what: FileKind::Store, ..file(0o644, 8) };
        let found = files(&[store], 7);
        assert_eq!(codes(&found), ["store_mode", "store_owner"]);
        assert_eq!(found.last().map(|it| it.exit), Some(Exit::Usage));
        // A folder that two files share is told of once.
        let open = FileFacts { open_folder: Some(("/x".into(), 0o777)), ..file(0o600, 7) };
        assert_eq!(codes(&files(&[open.clone(), open], 7)), ["folder_open"]);
    }
}
