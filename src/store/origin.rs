//! How the connections to one database file are opened: by which name, for what, and with which settings.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::place;
use super::sqlite;
use crate::config::Config;
use crate::error::{Code, Error, Result};

/// What may be done with the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    ReadWrite,
    ReadOnly,
    /// Read only, and nobody else changes it: SQLite takes no locks and looks for no log.
    Immutable,
}

/// One database file and how it is opened.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    path: PathBuf,
    access: Access,
    /// Reads on where the schema or the length of the file is damaged. Only with a file that is not written.
    is_tolerant: bool,
    busy_timeout: Duration,
}

impl Origin {
    /// Checks the place, and what the options say of it.
    pub fn find(path: &str, config: &Config) -> Result<Origin> {
        let path = place::check(Path::new(path), config.store_network_files == "allow")?;
        let access = if config.store_access == "read_only" { Access::ReadOnly } else { Access::ReadWrite };
        let busy_timeout = Duration::from_millis(config.pool_timeout_ms);
        Ok(Origin { path, access, is_tolerant: false, busy_timeout })
    }

    /// Where the file really is: absolute, without links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the store was opened for reading alone.
    pub fn is_read_only(&self) -> bool {
        self.access != Access::ReadWrite
    }

    /// A file that was checked already, to be written.
    pub fn plain(path: &Path, busy_timeout: Duration) -> Origin {
        Origin { path: path.to_owned(), access: Access::ReadWrite, is_tolerant: false, busy_timeout }
    }

    /// The same file, for reading alone.
    pub fn for_reading(&self) -> Origin {
        let access = if self.access == Access::ReadWrite { Access::ReadOnly } else { self.access };
        Origin { access, ..self.clone() }
    }

    /// The same file, with connections that wait no longer for others.
    pub fn waiting(&self, patience: Duration) -> Origin {
        Origin { busy_timeout: self.busy_timeout.min(patience), ..self.clone() }
    }

    /// The same file, read past what is damaged.
    pub fn tolerant(&self) -> Origin {
        Origin { is_tolerant: true, ..self.for_reading() }
    }

    /// The same file, which nobody changes.
    fn immutable(&self) -> Origin {
        Origin { access: Access::Immutable, ..self.clone() }
    }

    /// What SQLite is told. An absolute path is never taken for a URI.
    pub fn name(&self) -> PathBuf {
        match self.access {
            Access::Immutable => PathBuf::from(format!("file:{}?immutable=1", escaped(&self.path))),
            _ => self.path.clone(),
        }
    }

    /// Never to create the file: one that was deleted is not to come back empty.
    pub fn flags(&self) -> OpenFlags {
        let shared = OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
        shared | if self.is_read_only() { OpenFlags::SQLITE_OPEN_READ_ONLY } else { OpenFlags::SQLITE_OPEN_READ_WRITE }
    }

    /// The settings of every connection.
    pub fn set_up(&self, connection: &Connection) -> rusqlite::Result<()> {
        if !self.is_read_only() {
            return sqlite::set_up(connection, self.busy_timeout);
        }
        connection.busy_timeout(self.busy_timeout)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        // Said before SQLite reads the schema. It writes nothing: the file is open for reading.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_WRITABLE_SCHEMA, self.is_tolerant)?;
        connection.pragma_update(None, "trusted_schema", "OFF")?;
        connection.set_prepared_statement_cache_capacity(64);
        Ok(())
    }

    /// A connection of its own, outside the pool.
    pub fn connect(&self) -> rusqlite::Result<Connection> {
        let connection = Connection::open_with_flags(self.name(), self.flags())?;
        self.set_up(&connection)?;
        Ok(connection)
    }

    /// Whether the log beside the file has something that is not in the file yet.
    pub fn has_log(&self) -> bool {
        self.has_beside("-wal")
    }

    /// Whether a transaction of the old kind was cut off: SQLite takes it back when it next opens the file.
    pub fn has_journal(&self) -> bool {
        self.has_beside("-journal")
    }

    fn has_beside(&self, suffix: &str) -> bool {
        fs::metadata(self.beside(suffix)).is_ok_and(|metadata| metadata.len() > 0)
    }

    /// A file that SQLite keeps beside the database.
    pub fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(suffix);
        PathBuf::from(name)
    }

    /// How a file is read that is not to be written. SQLite needs shared memory beside it even for reading; where that can be neither found nor
    /// made (a read-only disk), and only there, the file is read as one that nobody changes.
    pub fn readable(&self) -> Result<Origin> {
        let opened = |origin: &Origin| {
            let connection = origin.connect()?;
            connection.pragma_query_value(None, "schema_version", |row| row.get::<_, i64>(0))
        };
        let cannot = match opened(self) {
            Err(error) if sqlite::is_unopenable(&error) => error,
            // What else is wrong is found by who reads on.
            _ => return Ok(self.clone()),
        };
        if self.has_log() || self.has_journal() {
            let message = format!(
                "the database was not closed and lies where nothing can be written, so that what it says last cannot be read: copy it with \
                 all files beside it whose names begin with `{}` to another place, and open it there ({cannot})",
                self.path.file_name().unwrap_or_default().to_string_lossy()
            );
            return Err(Error::new(Code::Database, message));
        }
        let immutable = self.immutable();
        opened(&immutable).map_err(sqlite::translate).map(|_| immutable)
    }
}

/// A path as the path of a URI.
fn escaped(path: &Path) -> String {
    let byte = |byte: &u8| match byte {
        b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => char::from(*byte).to_string(),
        other => format!("%{other:02X}"),
    };
    path.as_os_str().as_bytes().iter().map(byte).collect()
}
