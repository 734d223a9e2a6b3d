//! The database files that libraries of this process have open: read without SQLite, and without taking SQLite's locks from it.
//!
//! POSIX drops all locks that a process has on a file as soon as the process closes *any* descriptor of it. Another store of this
//! process may have the same file open, and SQLite would go on without its locks: others could take the log from under it. So what
//! is opened here is closed only when the last store of this process with that file is gone, which each says by dropping its
//! [`Held`] after its connections. Whoever opens files that a caller names asks [`is_in_use`] first.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

/// A file as the kernel knows it: device and inode.
type Identity = (u64, u64);

/// The descriptors of one file, and for how many stores they are kept.
#[derive(Debug, Default)]
struct Shared {
    users: usize,
    files: Vec<File>,
    /// What names it was opened by.
    paths: Vec<PathBuf>,
}

impl Shared {
    fn add(&mut self, path: &Path) {
        if !self.paths.iter().any(|known| known == path) {
            self.paths.push(path.to_owned());
        }
    }
}

fn identity(metadata: &fs::Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

/// Whether a file is the database of a library that this process has open, or one of those that SQLite keeps beside it. Such a file must not even
/// be opened and closed.
pub fn is_in_use(metadata: &fs::Metadata) -> bool {
    let (wanted, open) = (identity(metadata), open_files());
    let is_beside = |path: &PathBuf| {
        ["-wal", "-shm"].into_iter().any(|suffix| {
            let mut name = path.clone().into_os_string();
            name.push(suffix);
            fs::metadata(name).is_ok_and(|metadata| identity(&metadata) == wanted)
        })
    };
    open.contains_key(&wanted) || open.values().flat_map(|shared| &shared.paths).any(is_beside)
}

static OPEN: LazyLock<Mutex<HashMap<Identity, Shared>>> = LazyLock::new(Mutex::default);

fn open_files() -> MutexGuard<'static, HashMap<Identity, Shared>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A descriptor of a database file that stays open as long as any store of this process needs it to.
#[derive(Debug)]
pub struct Held(Identity);

impl Held {
    /// Opens a file for reading, or finds it open. Makes an empty one if there is none and `may_create`: every store with a file is to hold
    /// it before SQLite takes locks.
    pub fn open(path: &Path, may_create: bool) -> io::Result<Held> {
        // Under the lock all the way: nobody may close a descriptor of the file between the look and the opening.
        let mut open = open_files();
        let known = fs::metadata(path).ok().map(|metadata| identity(&metadata));
        if let Some((known, shared)) = known.and_then(|known| Some((known, open.get_mut(&known)?))) {
            shared.users += 1;
            shared.add(path);
            return Ok(Held(known));
        }
        let file = match File::open(path) {
            // With the permissions that SQLite gives.
            Err(error) if error.kind() == io::ErrorKind::NotFound && may_create => {
                OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o644).open(path)?
            }
            other => other?,
        };
        // The file may have been replaced since, by one that is open already: then its second descriptor is kept as well.
        let opened = identity(&file.metadata()?);
        let shared = open.entry(opened).or_default();
        shared.users += 1;
        shared.files.push(file);
        shared.add(path);
        Ok(Held(opened))
    }

    /// The length of the file, and its first bytes, as many as there are.
    pub fn beginning(&self, bytes: &mut [u8]) -> io::Result<(u64, usize)> {
        let open = open_files();
        let Some(file) = open.get(&self.0).and_then(|shared| shared.files.first()) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let mut read = 0;
        while read < bytes.len() {
            match file.read_at(&mut bytes[read..], read as u64)? {
                0 => break,
                more => read += more,
            }
        }
        Ok((file.metadata()?.len(), read))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut open = open_files();
        let is_last = open.get_mut(&self.0).is_some_and(|shared| {
            shared.users -= 1;
            shared.users == 0
        });
        if is_last {
            open.remove(&self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::open;

    #[test]
    fn a_second_store_that_is_refused_or_closed_leaves_the_first_its_locks() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("skills.db").to_string_lossy().into_owned();
        let first = open(&path).expect("it opens");
        let inode = fs::metadata(&path).expect("it is there").ino().to_string();
        let locks = || {
            let all = fs::read_to_string("/proc/locks").expect("they can be read");
            all.lines().filter(|line| line.contains(&format!(":{inode} "))).count()
        };
        let held = locks();
        assert!(held > 0, "SQLite says with a lock that the file is in use");
        drop(open(&path).expect("it opens twice"));
        drop(Held::open(Path::new(&path), false).expect("it opens"));
        assert_eq!(locks(), held);
        // The control: whoever opens the file beside that takes them.
        drop(File::open(&path).expect("it opens"));
        assert_eq!(locks(), 0, "as POSIX has it");
        drop(first);
        assert!(
            open_files().get(&(fs::metadata(&path).expect("there").dev(), inode.parse().expect("a number"))).is_none()
        );
    }

    #[test]
    fn the_beginning_and_the_length_are_read() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), "0123456789").expect("written");
        let held = Held::open(file.path(), false).expect("it opens");
        let mut four = [0; 4];
        assert_eq!(held.beginning(&mut four).expect("read"), (10, 4));
        assert_eq!(&four, b"0123");
        assert_eq!(held.beginning(&mut [0; 20]).expect("read"), (10, 10));
    }
}
