//! The private folder of a run.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use tempfile::TempDir;

use crate::error::{Code, Error, Result};

/// A folder that only this user can enter and that goes with its owner, whatever the run left in it.
pub(super) struct PrivateFolder(TempDir);

impl PrivateFolder {
    pub fn new() -> Result<Self> {
        let made =
            tempfile::Builder::new().prefix("skillcache-").permissions(fs::Permissions::from_mode(0o700)).tempdir();
        made.map(PrivateFolder).map_err(|error| {
            let place = std::env::temp_dir();
            Error::new(Code::Sandbox, format!("no private folder can be made in {}: {error}", place.display()))
        })
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for PrivateFolder {
    fn drop(&mut self) {
        // The standard library removes trees descriptor by descriptor and follows no link.
        if fs::remove_dir_all(self.0.path()).is_err() {
            open_up(self.0.path());
            let _ = fs::remove_dir_all(self.0.path());
        }
    }
}

/// Makes every folder below `path` passable again: a run may have taken its own permissions away.
fn open_up(path: &Path) {
    let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o700));
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}

/// More files than this count as too much, whatever their size: measuring them has to end.
const MOST_FILES: usize = 65_536;

/// Whether what lies in a folder takes more than so many bytes of disk, or is more than can be counted.
pub(super) fn holds_more_than(folder: &Path, bytes: u64) -> bool {
    let (mut left, mut files, mut folders) = (bytes, MOST_FILES, vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        // What vanishes meanwhile counts no more; links are not followed.
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            const BLOCK: u64 = 512;
            match (left.checked_sub(meta.blocks() * BLOCK), files.checked_sub(1)) {
                (Some(bytes), Some(count)) => (left, files) = (bytes, count),
                _ => return true,
            }
            if meta.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_measured_with_what_lies_deep_in_it() {
        let folder = PrivateFolder::new().expect("folder");
        fs::create_dir_all(folder.path().join("a/b")).expect("nested");
        fs::write(folder.path().join("a/b/c"), vec![1; 100_000]).expect("write");
        std::os::unix::fs::symlink("/usr", folder.path().join("link")).expect("link");
        assert!(holds_more_than(folder.path(), 90_000) && !holds_more_than(folder.path(), 200_000));
    }

    #[test]
    fn nothing_is_left_and_no_link_is_followed() {
        let outside = tempfile::tempdir().expect("outside");
        fs::write(outside.path().join("kept"), "x").expect("write");
        let folder = PrivateFolder::new().expect("folder");
        let path = folder.path().to_owned();
        assert_eq!(fs::metadata(&path).expect("stat").permissions().mode() & 0o777, 0o700);
        fs::create_dir_all(path.join("a/b")).expect("nested");
        std::os::unix::fs::symlink(outside.path(), path.join("a/link")).expect("link");
        fs::set_permissions(path.join("a"), fs::Permissions::from_mode(0o000)).expect("closed");
        drop(folder);
        assert!(!path.exists());
        assert!(outside.path().join("kept").exists());
    }
}
