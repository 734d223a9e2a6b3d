//! Opening a file: looked at first, then brought to the newest schema, or only read.

use std::io;
use std::path::Path;

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::backup;
use super::damage::{Finding, check_header, check_structure, refusal};
use super::origin::Origin;
use super::schema;
use super::sqlite::translate;
use crate::config::Config;
use crate::error::{Code, Error, Result};
use crate::held::Held;

/// A file that may be used.
pub(super) struct Opened {
    /// How more connections are opened.
    pub origin: Origin,
    /// The first one.
    pub connection: Connection,
    /// What is damaged; only if the file was opened for reading alone.
    pub findings: Vec<Finding>,
    /// To be dropped after every connection.
    pub held: Held,
}

/// Opens a file as the options say. What is refused is left as it is.
pub(super) fn open(path: &str, config: &Config) -> Result<Opened> {
    let origin = Origin::find(path, config)?;
    open_at(&origin).map_err(|error| named(error, path))
}

fn open_at(origin: &Origin) -> Result<Opened> {
    let held = Held::open(origin.path(), !origin.is_read_only()).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            Error::new(Code::Database, "there is no such file, and `store.access` = `read_only` makes none")
        }
        _ => Error::new(Code::Database, format!("the file cannot be opened: {error}")),
    })?;
    let header = check_header(origin, &held)?;
    if origin.is_read_only() {
        return open_for_reading(origin, held, header);
    }
    if let Some(finding) = header {
        return Err(refusal(&[finding]));
    }
    let mut connection = origin.connect().map_err(translate)?;
    // SQLite opens for reading what it may not write, and says so with the first write.
    if connection.is_readonly("main").map_err(translate)? {
        let message = "the file cannot be written: by its permissions, or its disk is read-only. `store.access` = `read_only` opens it for reading";
        return Err(Error::new(Code::Database, message).rule("store.access"));
    }
    look(&mut connection, origin)?;
    schema::migrate(&mut connection, |version| backup::before_migration(origin, version).map(Some))?;
    use_log(&connection)?;
    Ok(Opened { origin: origin.clone(), connection, findings: Vec::new(), held })
}

/// Looks at the schema of a file that is to be written, and changes nothing if it is refused.
fn look(connection: &mut Connection, origin: &Origin) -> Result<()> {
    // Whoever closes a file last brings its log into it. A damaged file is to stay as it was found.
    let keep_log = |connection: &Connection, yes: bool| {
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, yes).map(drop).map_err(translate)
    };
    keep_log(connection, origin.has_log())?;
    let (_, findings) = version_and_findings(connection)?;
    if !findings.is_empty() {
        return Err(refusal(&findings));
    }
    keep_log(connection, false)
}

/// The version of the schema (0 for a fresh file), and what is wrong with it: as of one moment, for another process may be migrating.
fn version_and_findings(connection: &mut Connection) -> Result<(i64, Vec<Finding>)> {
    let transaction = connection.transaction().map_err(translate)?;
    let version = schema::check(&transaction)?;
    let findings = if version == 0 { Vec::new() } else { check_structure(&transaction, version)? };
    Ok((version, findings))
}

/// Opens a file as far as it can be read.
fn open_for_reading(origin: &Origin, held: Held, header: Option<Finding>) -> Result<Opened> {
    let mut findings: Vec<Finding> = header.into_iter().collect();
    let strict = if findings.is_empty() { Some(origin.clone()) } else { None };
    for attempt in strict.into_iter().chain([origin.tolerant()]) {
        let origin = attempt.readable()?;
        let looked = origin.connect().map_err(translate).and_then(|mut connection| {
            let seen = version_and_findings(&mut connection)?;
            Ok((connection, seen))
        });
        match looked {
            Ok((connection, (version, found))) => {
                check_version(version)?;
                findings.extend(found);
                return Ok(Opened { origin, connection, findings, held });
            }
            Err(error) if error.code() == Code::Corrupt => {
                findings.push(Finding::new("schema", "the schema", error.message()))
            }
            Err(error) => return Err(error),
        }
    }
    let error = refusal(&findings);
    Err(Error::new(error.code(), format!("nothing can be read: {}", error.message()))
        .findings(error.details().findings.clone()))
}

/// What is only read is not brought forward, and today's statements need today's schema.
fn check_version(version: i64) -> Result<()> {
    let newest = schema::NEWEST;
    match version {
        0 => Err(Error::new(Code::Database, "the file is empty: there is no library to read")),
        _ if version == newest => Ok(()),
        _ => {
            let message = format!(
                "the file has schema version {version}, and reading takes version {newest}, to which `store.access` = `read_only` does not \
                 bring it: copy the file and open the copy with `read_write`"
            );
            Err(Error::new(Code::Unsupported, message).rule("store.access"))
        }
    }
}

/// The write-ahead log, which stays with the file.
fn use_log(connection: &Connection) -> Result<()> {
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0)).map_err(translate)?;
    if mode.eq_ignore_ascii_case("wal") {
        return Ok(());
    }
    Err(Error::new(Code::Database, format!("the file system does not allow a write-ahead log (it stays at `{mode}`)")))
}

/// The same error, beginning with the path as the caller gave it.
fn named(error: Error, path: &str) -> Error {
    let rule = error.details().rule.clone();
    let again = Error::new(error.code(), format!("{}: {}", Path::new(path).display(), error.message()));
    let again = again.path(path).findings(error.details().findings.clone());
    match rule {
        Some(rule) => again.rule(rule),
        None => again,
    }
}
