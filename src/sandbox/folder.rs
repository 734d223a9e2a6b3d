//! A run's private folder where it is one of the host's: made, measured and removed by descriptor.
//!
//! What lies in it was made by code that may want the host to look, or to delete, elsewhere. So everything is reached from
//! the folder's own descriptor, one name at a time, and never through a link. A run may also nest folders deeper than a path can
//! say or a stack can hold: what is found inside a folder is moved to the top before it is removed, so that neither
//! recursion nor a second open level is needed.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, chmod, fstat, openat, renameat, statat, unlinkat};
use rustix::io::Errno;
use rustix::process::Pid;
use tempfile::TempDir;

use crate::error::{Code, Error, Result};

/// A folder that only this user can enter and that goes with its owner, whatever the run left in it.
pub(super) struct PrivateFolder {
    path: PathBuf,
    root: OwnedFd,
}

/// More files, folders and links than this count as too much, whatever their size: measuring them has to end, and soon. A
/// folder that is a file system of its own takes no more either.
const MOST_FILES: usize = 4096;
/// Folders nested deeper than this likewise: each level costs a descriptor while they are measured.
const DEEPEST: usize = 64;

impl PrivateFolder {
    pub fn new() -> Result<Self> {
        let make = || -> std::io::Result<Self> {
            let private = std::fs::Permissions::from_mode(0o700);
            let made = tempfile::Builder::new().prefix("skillcache-").permissions(private).tempdir()?;
            let root = openat(rustix::fs::CWD, made.path(), FOLDER, Mode::empty())?;
            Ok(PrivateFolder { path: TempDir::keep(made), root })
        };
        make().map_err(|error| {
            let place = std::env::temp_dir();
            let is_shortage = Errno::from_io_error(&error).is_some_and(is_shortage);
            let code = if is_shortage { Code::Busy } else { Code::Sandbox };
            Error::new(code, format!("no private folder can be made in {}: {error}", place.display()))
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many bytes of disk are taken by what lies in it, and by the files that the process `run` has open and that have no
    /// name any more; nothing if that is more than `bound`, or more than can be counted. A folder that cannot be looked into is
    /// too much, but for want of the host's own descriptors, when it is measured again later; a process that may not be
    /// asked counts as one without such files.
    pub fn size_within(&self, bound: u64, run: Option<Pid>) -> Option<u64> {
        let mut left = Allowance { bytes: bound, files: MOST_FILES };
        match self.take_entries(&mut left) {
            Err(error) if is_shortage(error) => return Some(bound - left.bytes),
            Err(_) => return None,
            Ok(fits) => fits.then_some(())?,
        }
        if let Some(run) = run {
            unnamed::take(run, fstat(&self.root).ok()?.st_dev, &mut left)?;
        }
        Some(bound - left.bytes)
    }

    /// Takes what lies in it; says whether there was room for all.
    fn take_entries(&self, left: &mut Allowance) -> rustix::io::Result<bool> {
        let mut open = vec![entries(self.root.as_fd())?];
        loop {
            let depth = open.len();
            let Some(folder) = open.last_mut() else { return Ok(true) };
            let Some(entry) = folder.read() else {
                open.pop();
                continue;
            };
            let entry = entry?;
            if is_dots(entry.file_name()) {
                continue;
            }
            let within = folder.fd()?;
            let stat = match statat(within, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                // What vanishes meanwhile counts no more.
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error),
            };
            if left.take(&stat).is_none() {
                return Ok(false);
            }
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                if depth == DEEPEST {
                    return Ok(false);
                }
                match openat(within, entry.file_name(), FOLDER, Mode::empty()).and_then(Dir::new) {
                    Ok(below) => open.push(below),
                    Err(Errno::NOENT) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }
}

/// Whether the host, rather than the folder, is why something fails.
fn is_shortage(error: Errno) -> bool {
    matches!(error, Errno::MFILE | Errno::NFILE | Errno::NOMEM)
}

struct Allowance {
    bytes: u64,
    files: usize,
}

impl Allowance {
    fn take(&mut self, stat: &Stat) -> Option<()> {
        const BLOCK: u64 = 512;
        let blocks = u64::try_from(stat.st_blocks).unwrap_or(0);
        self.bytes = self.bytes.checked_sub(blocks.saturating_mul(BLOCK))?;
        self.files = self.files.checked_sub(1)?;
        Some(())
    }
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Files that a run has removed and still holds: they take disk and are in no folder.
mod unnamed {
    use std::collections::HashSet;

    use rustix::fs::stat;

    use super::*;

    /// Takes those on the file system `device`. One that is only mapped, whose size nobody tells, is too much.
    pub(super) fn take(run: Pid, device: u64, left: &mut Allowance) -> Option<()> {
        let place = format!("/proc/{}", run.as_raw_nonzero());
        let mut seen = HashSet::new();
        for entry in std::fs::read_dir(format!("{place}/fd")).into_iter().flatten().flatten() {
            let Ok(stat) = stat(entry.path()) else { continue };
            let is_new = stat.st_dev == device && seen.insert(stat.st_ino);
            if is_new && stat.st_nlink == 0 {
                left.take(&stat)?;
            }
        }
        let maps = std::fs::read_to_string(format!("{place}/maps")).unwrap_or_default();
        maps.lines().all(|line| mapped(line, device).is_none_or(|inode| seen.contains(&inode))).then_some(())
    }

    /// The inode of a removed file on `device`, if a line of `maps` is about one.
    fn mapped(line: &str, device: u64) -> Option<u64> {
        let mut fields = line.strip_suffix(" (deleted)")?.split_ascii_whitespace().skip(3);
        let (numbers, inode) = (fields.next()?, fields.next()?);
        let (major, minor) = numbers.split_once(':')?;
        let number = |text| u32::from_str_radix(text, 16).ok();
        let is_ours = rustix::fs::makedev(number(major)?, number(minor)?) == device;
        is_ours.then(|| inode.parse().ok()).flatten()
    }
}

/// What lies in a folder, through the descriptor that is open: its permissions may have changed meanwhile.
fn entries(root: BorrowedFd) -> rustix::io::Result<Dir> {
    let mut folder = Dir::new(rustix::io::fcntl_dupfd_cloexec(root, 0)?)?;
    folder.rewind();
    Ok(folder)
}

fn is_dots(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

impl Drop for PrivateFolder {
    fn drop(&mut self) {
        // A failure leaves an unreadable rest in the folder for temporary files; there is nobody to tell.
        let _ = empty(self.root.as_fd());
        let _ = std::fs::remove_dir(&self.path);
    }
}

/// Removes all that lies in a folder.
fn empty(root: BorrowedFd) -> rustix::io::Result<()> {
    rustix::fs::fchmod(root, Mode::RWXU)?;
    let mut lifted = 0u64;
    loop {
        let mut is_empty = true;
        let mut folder = entries(root)?;
        while let Some(entry) = folder.read() {
            let entry = entry?;
            if !is_dots(entry.file_name()) {
                is_empty = false;
                remove(root, entry.file_name(), &mut lifted)?;
            }
        }
        if is_empty {
            return Ok(());
        }
    }
}

/// Removes one entry of `root`; what lies in it, if it is a folder, comes to lie in `root`.
fn remove(root: BorrowedFd, name: &CStr, lifted: &mut u64) -> rustix::io::Result<()> {
    match unlinkat(root, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        done => return done,
    }
    let inside = open_up(root, name)?;
    let mut folder = Dir::read_from(&inside)?;
    while let Some(entry) = folder.read() {
        let entry = entry?;
        if !is_dots(entry.file_name()) && unlinkat(&inside, entry.file_name(), AtFlags::empty()).is_err() {
            lift(inside.as_fd(), entry.file_name(), root, lifted)?;
        }
    }
    unlinkat(root, name, AtFlags::REMOVEDIR)
}

/// Moves a folder to the top, under a name that nothing has.
fn lift(inside: BorrowedFd, name: &CStr, root: BorrowedFd, lifted: &mut u64) -> rustix::io::Result<()> {
    // Its own mode counts: its `..` is to change.
    drop(open_up(inside, name)?);
    loop {
        *lifted += 1;
        match renameat(inside, name, root, format!("{lifted}.lifted")) {
            Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR | Errno::ISDIR) => {}
            done => return done,
        }
    }
}

/// Opens a folder whose permissions its owner may have taken away.
fn open_up(within: BorrowedFd, name: &CStr) -> rustix::io::Result<OwnedFd> {
    let nothing_needed = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = openat(within, name, nothing_needed, Mode::empty())?;
    // `fchmod` does not take such a descriptor; its name below /proc stands for the very folder.
    let _ = chmod(format!("/proc/self/fd/{}", place.as_raw_fd()), Mode::RWXU);
    openat(&place, c".", FOLDER, Mode::empty())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_folder_is_measured_with_what_lies_deep_in_it() {
        let folder = PrivateFolder::new().expect("folder");
        fs::create_dir_all(folder.path().join("a/b")).expect("nested");
        fs::write(folder.path().join("a/b/c"), vec![1; 100_000]).expect("write");
        std::os::unix::fs::symlink("/usr", folder.path().join("link")).expect("link");
        assert_eq!(folder.size_within(90_000, None), None);
        assert!(folder.size_within(200_000, None).is_some_and(|size| size >= 100_000));
    }

    #[test]
    fn a_file_without_a_name_is_measured_while_somebody_has_it() {
        use std::io::{BufRead, BufReader};
        use std::process::{Command, Stdio};
        let folder = PrivateFolder::new().expect("folder");
        let place = folder.path().join("file");
        fs::write(&place, vec![1; 100_000]).expect("write");
        // A process of its own: this one has files without names that belong to other tests.
        let mut holder = Command::new("sh")
            .args(["-c", "exec 3< \"$0\" && echo open && read end && exec 3<&- && echo closed && read end"])
            .arg(&place)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("there is a shell");
        let mut said = BufReader::new(holder.stdout.take().expect("piped")).lines().map_while(Result::ok);
        assert_eq!(said.next().as_deref(), Some("open"));
        fs::remove_file(place).expect("removed");
        let run = Some(Pid::from_child(&holder));
        assert!(folder.size_within(200_000, run).is_some_and(|size| size >= 100_000));
        assert_eq!(folder.size_within(90_000, run), None);
        let mut go_on = holder.stdin.take().expect("piped");
        std::io::Write::write_all(&mut go_on, b"\n").expect("it reads");
        assert_eq!(said.next().as_deref(), Some("closed"));
        assert_eq!(folder.size_within(90_000, run), Some(0));
        drop(go_on);
        holder.wait().expect("it ends");
    }

    #[test]
    fn nothing_is_left_and_no_link_is_followed() {
        let outside = tempfile::tempdir().expect("outside");
        fs::write(outside.path().join("kept"), "x").expect("write");
        let folder = PrivateFolder::new().expect("folder");
        let path = folder.path().to_owned();
        assert_eq!(fs::metadata(&path).expect("stat").permissions().mode() & 0o777, 0o700);
        fs::create_dir_all(path.join("a/b/c/d")).expect("nested");
        std::os::unix::fs::symlink(outside.path(), path.join("a/link")).expect("link");
        std::os::unix::fs::symlink(outside.path(), path.join("1.lifted")).expect("link");
        fs::create_dir(path.join("2.lifted")).expect("a folder with a name of ours");
        fs::write(path.join("2.lifted/file"), "x").expect("write");
        for closed in ["a/b/c", "a/b", "a"] {
            fs::set_permissions(path.join(closed), fs::Permissions::from_mode(0o000)).expect("closed");
        }
        drop(folder);
        assert!(!path.exists());
        assert!(outside.path().join("kept").exists());
    }

    #[test]
    fn depth_costs_neither_stack_nor_descriptors() {
        let folder = PrivateFolder::new().expect("folder");
        let path = folder.path().to_owned();
        let mut inside = folder.root.try_clone().expect("a descriptor");
        for _ in 0..20_000 {
            rustix::fs::mkdirat(&inside, c"d", Mode::RWXU).expect("nested");
            inside = openat(&inside, c"d", FOLDER, Mode::empty()).expect("opened");
        }
        assert_eq!(folder.size_within(u64::MAX, None), None);
        drop(folder);
        assert!(!path.exists());
    }
}
