//! Files and folders, read and written with care: what is read may be anybody's, what is written appears at once.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{File, FileType, Metadata, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile, TempDir};

use super::MAX_FILE;
use crate::error::{Code, Error, Result};
use crate::held;

/// Whether a symbolic link may stand for what is opened. The caller's own path may be one; what a folder holds may not, or a
/// folder from elsewhere could make any file of this machine a skill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    Followed,
    Refused,
}

/// A member of a folder.
#[derive(Debug, Clone)]
pub struct Member {
    pub name: OsString,
    pub path: PathBuf,
    /// Of the member itself, not of what it links to.
    pub kind: FileType,
}

impl Member {
    /// Its name, whatever bytes it is made of.
    pub fn shown(&self) -> String {
        self.name.to_string_lossy().into_owned()
    }

    /// What it ends with after its last dot, in lower case.
    pub fn has_extension(&self, extension: &str) -> bool {
        self.path.extension().is_some_and(|own| own.eq_ignore_ascii_case(extension))
    }
}

/// What a folder holds, by name.
pub fn list(folder: &Path) -> Result<Vec<Member>> {
    let read = || -> io::Result<Vec<Member>> {
        let members = std::fs::read_dir(folder)?.map(|entry| {
            let entry = entry?;
            Ok(Member { name: entry.file_name(), path: entry.path(), kind: entry.file_type()? })
        });
        members.collect()
    };
    let mut members = read().map_err(|error| unreadable(folder, &error))?;
    members.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(members)
}

/// Opens a regular file for reading, and nothing else: a pipe would wait for ever.
pub fn open(path: &Path, links: Links) -> std::result::Result<File, String> {
    let status = if links == Links::Refused { std::fs::symlink_metadata(path) } else { std::fs::metadata(path) };
    if status.is_ok_and(|status| held::is_in_use(&status)) {
        return Err("it belongs to a library that this process has open".to_owned());
    }
    let no_links = if links == Links::Refused { libc::O_NOFOLLOW } else { 0 };
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | no_links).open(path);
    let file = opened.map_err(|error| match error.raw_os_error() {
        Some(libc::ELOOP) => "it is a symbolic link, which is not followed".to_owned(),
        _ => format!("it cannot be opened: {error}"),
    })?;
    let is_file = file.metadata().map(|metadata| metadata.is_file());
    match is_file {
        Ok(true) => Ok(file),
        Ok(false) => Err("it is not a regular file".to_owned()),
        Err(error) => Err(format!("it cannot be read: {error}")),
    }
}

/// The text of a file of a folder. The reason why not names no path: whoever lists it knows where it stands.
pub fn read_text(path: &Path) -> std::result::Result<String, String> {
    let file = open(path, Links::Refused)?;
    let too_large = |size: u64| format!("it has {size} bytes; at most {MAX_FILE} are read");
    let unread = |error: io::Error| format!("it cannot be read: {error}");
    let size = file.metadata().map_err(unread)?.len();
    if size > MAX_FILE {
        return Err(too_large(size));
    }
    let mut bytes = Vec::new();
    // It may grow while it is read.
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(unread)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(too_large(bytes.len() as u64));
    }
    String::from_utf8(bytes).map_err(|error| {
        let place = error.utf8_error().valid_up_to();
        format!("it is not UTF-8 (byte {place})")
    })
}

/// An error about a path that cannot be read.
pub fn unreadable(path: &Path, error: &io::Error) -> Error {
    Error::invalid(format!("{} cannot be read: {error}", path.display())).path(path.display().to_string())
}

fn unwritable(path: &Path, error: &io::Error) -> Error {
    let message = format!("{} cannot be written: {error}", path.display());
    // What is not there or not allowed was asked for wrongly; a full disk is nobody's argument.
    let is_asked = matches!(
        error.kind(),
        io::ErrorKind::NotFound
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::AlreadyExists
    );
    let code = if is_asked { Code::Invalid } else { Code::Database };
    Error::new(code, message).path(path.display().to_string())
}

/// What is at a path now; nothing if nothing is.
fn status(path: &Path) -> Result<Option<Metadata>> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(path, &error)),
    }
}

fn refuse(path: &Path, reason: &str) -> Error {
    Error::invalid(format!("{} {reason}", path.display())).path(path.display().to_string())
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Makes something that gets its name later. With the permissions of anything new, not only its owner's, as temporary files have.
fn partial<T>(permissions: Permissions, make: impl FnOnce(&Builder) -> io::Result<T>) -> io::Result<T> {
    make(Builder::new().prefix(".skillcache-").suffix(".partial").permissions(permissions))
}

/// A file that has its name only once it is whole and on the disk.
#[derive(Debug)]
pub struct NewFile {
    file: io::BufWriter<NamedTempFile>,
    target: PathBuf,
    overwrite: bool,
}

impl NewFile {
    pub fn new(target: &Path, overwrite: bool) -> Result<Self> {
        match status(target)? {
            Some(there) if !there.is_file() => return Err(refuse(target, "is there and is no file")),
            Some(there) if held::is_in_use(&there) => {
                return Err(refuse(target, "belongs to a library that this process has open"));
            }
            Some(_) if !overwrite => return Err(refuse(target, "is there already (option overwrite)")),
            _ => {}
        }
        if target.file_name().is_none() {
            return Err(refuse(target, "is no name for a file"));
        }
        let file = partial(Permissions::from_mode(0o666), |partial| partial.tempfile_in(parent(target)));
        let file = file.map_err(|error| unwritable(target, &error))?;
        Ok(NewFile { file: io::BufWriter::with_capacity(1 << 16, file), target: target.to_owned(), overwrite })
    }

    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|error| unwritable(&self.target, &error))
    }

    pub fn finish(self) -> Result<()> {
        let NewFile { file, target, overwrite } = self;
        let finish = || -> io::Result<()> {
            let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.as_file().sync_all()?;
            if overwrite {
                file.persist(&target)?;
            } else {
                file.persist_noclobber(&target)?;
            }
            sync_folder(parent(&target))
        };
        finish().map_err(|error| unwritable(&target, &error))
    }
}

/// A folder that has its name only once all files are in it and on the disk.
#[derive(Debug)]
pub struct NewFolder {
    folder: TempDir,
    target: PathBuf,
    /// Every file, below the folder, in the order of writing; asked for only if they go into a folder that is there.
    files: Vec<PathBuf>,
    is_merged: bool,
}

impl NewFolder {
    pub fn new(target: &Path, overwrite: bool) -> Result<Self> {
        let is_merged = match status(target)? {
            None => false,
            Some(there) if !there.is_dir() => return Err(refuse(target, "is there and is no folder")),
            Some(_) => !list(target)?.is_empty(),
        };
        if is_merged && !overwrite {
            return Err(refuse(target, "is there already and is not empty (option overwrite)"));
        }
        if target.file_name().is_none() {
            return Err(refuse(target, "is no name for a folder"));
        }
        let folder = partial(Permissions::from_mode(0o777), |partial| partial.tempdir_in(parent(target)));
        let folder = folder.map_err(|error| unwritable(target, &error))?;
        Ok(NewFolder { folder, target: target.to_owned(), files: Vec::new(), is_merged })
    }

    /// Writes a file; `parts` are the names on the way to it, each of them one from [`Names`] or a fixed one.
    pub fn write(&mut self, parts: &[&str], text: &str) -> Result<()> {
        let below: PathBuf = parts.iter().collect();
        let path = self.folder.path().join(&below);
        let write = || -> io::Result<()> {
            std::fs::create_dir_all(parent(&path))?;
            OpenOptions::new().write(true).create_new(true).open(&path)?.write_all(text.as_bytes())
        };
        write().map_err(|error| unwritable(&self.target.join(&below), &error))?;
        if self.is_merged {
            self.files.push(below);
        }
        Ok(())
    }

    pub fn finish(self) -> Result<()> {
        let target = self.target.clone();
        self.publish().map_err(|error| unwritable(&target, &error))
    }

    fn publish(self) -> io::Result<()> {
        // One call for all files: with a call for each, a large library takes minutes.
        rustix::fs::syncfs(File::open(self.folder.path())?)?;
        if self.is_merged {
            for below in &self.files {
                move_into(self.folder.path(), &self.target, below)?;
            }
            return rustix::fs::syncfs(File::open(&self.target)?).map_err(io::Error::from);
        }
        // Over an empty folder, and over nothing; what came into it meanwhile makes this fail.
        std::fs::rename(self.folder.path(), &self.target)?;
        // The name it was to remove is gone.
        let _ = self.folder.keep();
        sync_folder(parent(&self.target))
    }
}

/// Moves a file to its place, through folders that are folders: a link on the way would lead out of the target.
fn move_into(from: &Path, to: &Path, below: &Path) -> io::Result<()> {
    let mut folder = to.to_owned();
    for part in below.parent().into_iter().flat_map(Path::components) {
        folder.push(part);
        match std::fs::symlink_metadata(&folder) {
            Ok(there) if there.is_dir() => {}
            Ok(_) => {
                let message = format!("{} is there and is no folder", folder.display());
                return Err(io::Error::new(io::ErrorKind::NotADirectory, message));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => std::fs::create_dir(&folder)?,
            Err(error) => return Err(error),
        }
    }
    std::fs::rename(from.join(below), to.join(below))
}

/// Names of files for ids: never hidden, never `.` or `..`, without a colon, and no two the same on a disk that does not tell
/// upper from lower case.
#[derive(Debug, Default)]
pub struct Names(HashMap<String, u32>);

impl Names {
    /// A name for an id, which has ASCII letters, digits, `_`, `-`, `.` and `:` only.
    pub fn of(&mut self, id: &str) -> String {
        let name = id.replace(':', "_");
        let name = if name.starts_with('.') { format!("_{name}") } else { name };
        self.free(&name)
    }

    /// The name itself if it is free, else with a number.
    pub fn free(&mut self, name: &str) -> String {
        let wanted = name.to_ascii_lowercase();
        let Some(count) = self.0.get_mut(&wanted) else {
            self.0.insert(wanted, 1);
            return name.to_owned();
        };
        *count += 1;
        let numbered = format!("{name}-{count}");
        // It may be another id's own name.
        self.free(&numbered)
    }
}
