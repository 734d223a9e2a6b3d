//! The database schema and how it moves forward.
//!
//! `user_version` counts the migrations that were applied. They run in one transaction, in order, and only forward; a
//! file from a newer version is refused untouched. `application_id` says the file is ours.

use rusqlite::{Connection, TransactionBehavior};

use super::sqlite::translate;
use crate::error::{Code, Error, Result};

/// "skc1" in ASCII.
const APPLICATION_ID: i64 = 0x736b_6331;

/// One entry a version; never edited once released.
const MIGRATIONS: [&str; 2] = [
    // `skills` has what changes in place, `versions` what makes a version. The columns are the rows of `FIELDS`.
    "CREATE TABLE skills (
        key INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        newest INTEGER NOT NULL,
        removed_through INTEGER NOT NULL DEFAULT 0,
        revision INTEGER NOT NULL DEFAULT 1,
        name TEXT, description TEXT, category TEXT, complexity TEXT, performance_metrics TEXT, tags TEXT, examples TEXT,
        learned_from TEXT, created_by TEXT, is_active TEXT, cache TEXT, key_order TEXT, ttl_s TEXT, limits TEXT,
        usage_count INTEGER NOT NULL DEFAULT 0,
        success_count INTEGER NOT NULL DEFAULT 0,
        last_used TEXT,
        created_at TEXT NOT NULL,
        updated_at TEXT NOT NULL
     );
     CREATE TABLE versions (
        skill INTEGER NOT NULL REFERENCES skills (key),
        version INTEGER NOT NULL,
        code TEXT NOT NULL,
        content_hash BLOB NOT NULL,
        language TEXT, input_schema TEXT, output_schema TEXT, parameters TEXT, required_skills TEXT, dependencies TEXT,
        created_at TEXT NOT NULL,
        PRIMARY KEY (skill, version)
     );
     CREATE INDEX skills_by_category ON skills (category);
     CREATE INDEX skills_by_complexity ON skills (complexity);
     CREATE INDEX skills_by_usage ON skills (usage_count);
     CREATE INDEX skills_by_success_rate ON skills (success_count * 1.0 / max(usage_count, 1));
     CREATE INDEX skills_by_last_use ON skills (last_used);
     CREATE VIRTUAL TABLE skills_text USING fts5 (id, name, description, tags, tokenize = 'unicode61');",
    // What code defines, imports and reads. Versions stored before have none until they are put again.
    "ALTER TABLE versions ADD COLUMN symbols TEXT;
     DROP TABLE skills_text;
     CREATE VIRTUAL TABLE skills_text USING fts5 (id, name, description, tags, code, tokenize = 'unicode61');
     INSERT INTO skills_text (rowid, id, name, description, tags, code)
        SELECT key, id, coalesce(name, ''), coalesce(description, ''),
            (SELECT coalesce(group_concat(value, ' '), '') FROM json_each(coalesce(tags, '[]'))), ''
        FROM skills WHERE newest > removed_through;",
];

/// The newest schema this library writes.
pub(super) const NEWEST: i64 = MIGRATIONS.len() as i64;

/// Brings a database to the newest schema, or refuses it.
pub(super) fn migrate(connection: &mut Connection) -> Result<()> {
    // Reading first tells a stranger's file from a fresh one without taking the write lock.
    let before = check(connection)?;
    if before == NEWEST {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(translate)?;
    // Another process may have migrated while this one waited for the lock.
    let version = check(&transaction)?;
    apply(&transaction, version, NEWEST)?;
    transaction.commit().map_err(translate)
}

/// Applies the migrations after `from`, up to `to`.
fn apply(connection: &Connection, from: i64, to: i64) -> Result<()> {
    let index = |version: i64| usize::try_from(version).unwrap_or(0);
    for migration in &MIGRATIONS[index(from)..index(to)] {
        connection.execute_batch(migration).map_err(translate)?;
    }
    connection.pragma_update(None, "user_version", to).map_err(translate)?;
    connection.pragma_update(None, "application_id", APPLICATION_ID).map_err(translate)
}

/// A database as an older library left it.
#[cfg(test)]
pub(super) fn create_at(connection: &Connection, version: i64) -> Result<()> {
    apply(connection, 0, version)
}

/// The schema version, if the file is ours or empty.
fn check(connection: &Connection) -> Result<i64> {
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map_err(translate);
    let (version, application) = (pragma("user_version")?, pragma("application_id")?);
    if version > NEWEST {
        let message = format!(
            "the database has schema version {version}, this library knows versions up to {NEWEST}: \
             a newer skillcache wrote it; use that one"
        );
        return Err(Error::new(Code::NewerDatabase, message));
    }
    let tables = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0));
    let is_fresh = version == 0 && application == 0 && tables.map_err(translate)? == 0;
    let is_ours = (1..=NEWEST).contains(&version) && application == APPLICATION_ID;
    if is_fresh || is_ours {
        return Ok(version);
    }
    let message = "the file is a SQLite database of another program; skillcache needs a file of its own";
    Err(Error::new(Code::Database, message))
}
