//! What SQLite says, in our words; and how a connection is set up.

use std::time::Duration;

use rusqlite::{Connection, ErrorCode};

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
    connection.set_prepared_statement_cache_capacity(32);
    Ok(())
}

/// An error of SQLite as ours.
pub(super) fn translate(error: rusqlite::Error) -> Error {
    let code = match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => Code::Corrupt,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Code::Busy,
        _ => Code::Database,
    };
    let message = match code {
        Code::Corrupt => format!("the file is not a skillcache database, or it is damaged: {error}"),
        Code::Busy => format!("another process holds the database: {error}"),
        _ => format!("the database: {error}"),
    };
    Error::new(code, message)
}
