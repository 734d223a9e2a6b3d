//! What SQLite says, in our words; and how a connection is set up.

use std::time::Duration;

use rusqlite::{Connection, ErrorCode, ffi};

use crate::error::{Code, Error};

/// The pragmas of every connection. The journal mode is a property of the file and is set once, before the pool exists,
/// because switching to WAL needs the file alone.
pub(super) fn set_up(connection: &Connection, busy_timeout: Duration) -> rusqlite::Result<()> {
    connection.busy_timeout(busy_timeout)?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    // FULL: a skill that was acknowledged is on the disk.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "trusted_schema", "OFF")?;
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// An error of SQLite as ours.
pub(super) fn translate(error: rusqlite::Error) -> Error {
    let code = match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => Code::Corrupt,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Code::Busy,
        _ => Code::Database,
    };
    let doing = error.sqlite_error().and_then(|error| doing(error.extended_code));
    let message = match code {
        _ if doing.is_some() => format!("the database: {error}, {}", doing.unwrap_or_default()),
        Code::Corrupt => format!("the file is not a skillcache database, or it is damaged: {error}"),
        Code::Busy => format!("another process holds the database: {error}"),
        _ => format!("the database: {error}"),
    };
    Error::new(code, message)
}

/// What failed of input and output, by SQLite's extended code: its texts do not say.
fn doing(extended_code: i32) -> Option<&'static str> {
    Some(match extended_code {
        ffi::SQLITE_IOERR_READ | ffi::SQLITE_IOERR_SHORT_READ => "reading",
        ffi::SQLITE_IOERR_WRITE => "writing",
        ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC => "bringing what was written to the disk",
        ffi::SQLITE_IOERR_TRUNCATE => "shortening a file",
        ffi::SQLITE_IOERR_FSTAT | ffi::SQLITE_IOERR_SEEK => "asking for the size of a file",
        ffi::SQLITE_IOERR_LOCK | ffi::SQLITE_IOERR_RDLOCK | ffi::SQLITE_IOERR_UNLOCK => "locking a file",
        ffi::SQLITE_IOERR_DELETE => "deleting a file",
        ffi::SQLITE_IOERR_SHMOPEN
        | ffi::SQLITE_IOERR_SHMSIZE
        | ffi::SQLITE_IOERR_SHMMAP
        | ffi::SQLITE_IOERR_SHMLOCK => "sharing the index of the write-ahead log",
        _ => return None,
    })
}

/// Whether SQLite could not get at the file or at what it needs beside it. Says nothing about what is in it.
pub(super) fn is_unopenable(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied))
}
