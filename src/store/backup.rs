//! Copies of a database that is in use.
//!
//! By `VACUUM INTO`: one transaction that reads, so the copy is the database as it was at one moment, however much is written meanwhile, by
//! whichever process. SQLite's page-wise backup begins again each time another process writes, and under steady writing never ends unless it
//! copies all pages in one step, which is the same transaction and gives a copy that has the free pages too. What it costs is that the
//! log cannot be emptied while the copy is made.
//!
//! A copy has another name until it is whole: it is written beside its target, checked page by page, brought to the disk, and only then gets
//! its name, which nobody may have.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::{Connection, OpenFlags};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::damage::{Depth, check_pages, refusal};
use super::origin::Origin;
use super::sqlite::translate;
use crate::error::{Code, Error, Result};

/// Writes a copy of what `connection` reads. It must not be in a transaction.
///
/// Fails with [`Code::Invalid`] for an empty path or one that is there already, [`Code::Database`] if it cannot be written there, and
/// [`Code::Corrupt`] if what is copied is damaged. Nothing is left then.
pub(super) fn write_copy(connection: &Connection, target: &Path, permissions: Option<Permissions>) -> Result<()> {
    let (folder, name) = split(target)?;
    let part = Part::create(&folder, &name)?;
    let failed = |error: io::Error| failure(target, &error.to_string());
    let text = part.0.to_str().ok_or_else(|| failure(target, "the path is not UTF-8"))?;
    connection.execute("VACUUM main INTO ?", [text]).map_err(|error| of_copy(target, translate(error)))?;
    check_copy(connection, &part.0).map_err(|error| of_copy(target, error))?;
    if let Some(permissions) = permissions {
        fs::set_permissions(&part.0, permissions).map_err(failed)?;
    }
    // No connection to the copy is open any more, so that closing this takes nobody's locks.
    File::open(&part.0).and_then(|file| file.sync_all()).map_err(failed)?;
    give_name(&part.0, &folder.join(&name)).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => taken(target),
        _ => failed(error),
    })?;
    File::open(&folder).and_then(|folder| folder.sync_all()).map_err(failed)
}

/// Keeps the file as it is before its schema is brought to `version`: `skills.db.before-v3`, or `skills.db.before-v3-2` and so on if that is
/// there. Whoever calls it holds the write lock with another connection, so nobody writes in between.
pub(super) fn before_migration(origin: &Origin, version: i64) -> Result<PathBuf> {
    let reader = origin.for_reading().connect().map_err(translate)?;
    let permissions = permissions_of(origin.path());
    let mut number = 1;
    loop {
        let mut name = OsString::from(origin.path());
        name.push(format!(".before-v{version}"));
        if number > 1 {
            name.push(format!("-{number}"));
        }
        let target = PathBuf::from(name);
        match write_copy(&reader, &target, permissions.clone()) {
            Ok(()) => return Ok(target),
            Err(error) if error.details().rule.as_deref() == Some(TAKEN) => number += 1,
            Err(error) => {
                let message = format!(
                    "the schema was not brought to version {version}, for the file could not be copied before: {}. Nothing was changed",
                    error.message()
                );
                return Err(Error::new(error.code(), message).path(origin.path().display().to_string()));
            }
        }
    }
}

/// The rule that an existing target breaks.
const TAKEN: &str = "exists";

/// Those of a database file, which its copies have as well.
pub(super) fn permissions_of(file: &Path) -> Option<Permissions> {
    fs::metadata(file).ok().map(|metadata| metadata.permissions())
}

fn failure(target: &Path, why: &str) -> Error {
    let message = format!("the backup {} cannot be written: {why}", target.display());
    Error::new(Code::Database, message).path(target.display().to_string())
}

fn of_copy(target: &Path, error: Error) -> Error {
    let message = format!("the backup {} cannot be written: {}", target.display(), error.message());
    Error::new(error.code(), message).path(target.display().to_string()).findings(error.details().findings.clone())
}

fn taken(target: &Path) -> Error {
    let message = format!("there is something at {} already; a backup replaces nothing", target.display());
    Error::new(Code::Invalid, message).path(target.display().to_string()).rule(TAKEN)
}

/// Folder and name of a target that is not there yet.
fn split(target: &Path) -> Result<(PathBuf, OsString)> {
    let absolute = std::path::absolute(target)
        .map_err(|error| Error::invalid(format!("the path of the backup: {error}")).path("path"))?;
    let (Some(folder), Some(name)) = (absolute.parent(), absolute.file_name()) else {
        return Err(Error::invalid(format!("{} names no file", target.display())).path("path"));
    };
    if fs::symlink_metadata(&absolute).is_ok() {
        return Err(taken(target));
    }
    if !folder.is_dir() {
        return Err(failure(target, &format!("there is no folder {}", folder.display())));
    }
    for suffix in ["-wal", "-shm", "-journal"] {
        let mut left = absolute.clone().into_os_string();
        left.push(suffix);
        if fs::symlink_metadata(&left).is_ok() {
            // SQLite would take it for the copy's own.
            return Err(taken(Path::new(&left)));
        }
    }
    Ok((folder.to_owned(), name.to_owned()))
}

/// A copy that is not whole yet. It goes when it is dropped, unless it has its name.
struct Part(PathBuf);

impl Part {
    /// Makes an empty file that nobody else can read: SQLite would make one that all can.
    fn create(folder: &Path, name: &std::ffi::OsStr) -> Result<Part> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        loop {
            let mut part = OsString::from(".");
            part.push(name);
            part.push(format!(".{}-{}.part", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
            let path = folder.join(part);
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
                Ok(_) => return Ok(Part(path)),
                // Left by a process with the same number that was killed.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failure(&folder.join(name), &error.to_string())),
            }
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // It is not there any more if all went well, and otherwise nothing else can be done.
        let _ = fs::remove_file(&self.0);
    }
}

/// The copy is a sound database with the numbers of the original.
fn check_copy(original: &Connection, part: &Path) -> Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let copy = Connection::open_with_flags(part, flags).map_err(translate)?;
    let findings = check_pages(&copy, Depth::Quick, 10)?;
    if !findings.is_empty() {
        return Err(refusal(&findings));
    }
    for name in ["user_version", "application_id"] {
        let number = |connection: &Connection| {
            connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map_err(translate)
        };
        if number(&copy)? != number(original)? {
            return Err(Error::new(Code::Database, format!("the copy has another `{name}` than the database")));
        }
    }
    Ok(())
}

/// Renames, unless the name is taken.
fn give_name(part: &Path, target: &Path) -> io::Result<()> {
    match renameat_with(CWD, part, CWD, target, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        // Not every file system can do that in one; a second name for the file fails as well if it is taken.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            fs::hard_link(part, target)?;
            fs::remove_file(part)
        }
        Err(error) => Err(error.into()),
    }
}

/// What a copy of a database without a file gets: it may hold what nobody else is to read.
pub(super) fn private() -> Permissions {
    Permissions::from_mode(0o600)
}

#[cfg(test)]
mod tests;
