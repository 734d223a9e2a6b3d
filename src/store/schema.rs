//! The database schema and how it moves forward.
//!
//! `user_version` counts the migrations that were applied. They run in one transaction, in order, and only forward; a
//! file from a newer version is refused untouched. `application_id` says the file is ours.

use std::path::PathBuf;

use rusqlite::{Connection, TransactionBehavior};

use super::sqlite::translate;
use crate::error::{Code, Error, Result};

/// "skc1" in ASCII.
const APPLICATION_ID: i64 = 0x736b_6331;

/// One entry a version; never edited once released.
const MIGRATIONS: [&str; 3] = [
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
    // States, provenance, outcomes by version, embeddings, results that outlive the process. The index of words keeps no copy of
    // what it indexes: `skills_words` says it, so that the index can be made anew.
    "ALTER TABLE versions ADD COLUMN words TEXT;
     ALTER TABLE versions ADD COLUMN origin TEXT;
     ALTER TABLE versions ADD COLUMN author TEXT;
     ALTER TABLE versions ADD COLUMN model TEXT;
     ALTER TABLE versions ADD COLUMN parent TEXT;
     UPDATE versions SET words = (SELECT code FROM skills_text WHERE rowid = versions.skill)
        WHERE version = (SELECT newest FROM skills WHERE key = versions.skill);
     ALTER TABLE skills ADD COLUMN instructions TEXT;
     ALTER TABLE skills ADD COLUMN state TEXT;
     ALTER TABLE skills ADD COLUMN failures INTEGER NOT NULL DEFAULT 0;
     UPDATE skills SET state = CASE is_active WHEN 'false' THEN 'retired' ELSE 'active' END;
     ALTER TABLE skills DROP COLUMN is_active;
     CREATE TABLE outcomes (
        skill INTEGER NOT NULL REFERENCES skills (key),
        version INTEGER NOT NULL,
        outcome INTEGER NOT NULL,
        day INTEGER NOT NULL,
        count INTEGER NOT NULL,
        PRIMARY KEY (skill, version, outcome, day)
     ) WITHOUT ROWID;
     CREATE TABLE vectors (
        skill INTEGER PRIMARY KEY REFERENCES skills (key),
        change INTEGER NOT NULL UNIQUE,
        vector BLOB
     );
     CREATE INDEX vectors_there ON vectors (skill) WHERE vector IS NOT NULL;
     CREATE TABLE results (
        number INTEGER PRIMARY KEY,
        key BLOB NOT NULL UNIQUE,
        skill TEXT NOT NULL,
        kept BLOB NOT NULL,
        checksum BLOB NOT NULL,
        stored_ms INTEGER NOT NULL,
        expires_ms INTEGER NOT NULL
     );
     CREATE INDEX results_by_skill ON results (skill);
     CREATE INDEX results_by_end ON results (expires_ms);
     CREATE TABLE results_total (entries INTEGER NOT NULL, bytes INTEGER NOT NULL, epoch INTEGER NOT NULL);
     INSERT INTO results_total VALUES (0, 0, 0);
     CREATE TRIGGER results_grow AFTER INSERT ON results BEGIN
        UPDATE results_total SET entries = entries + 1, bytes = bytes + length(new.kept) + 256;
     END;
     CREATE TRIGGER results_shrink AFTER DELETE ON results BEGIN
        UPDATE results_total SET entries = entries - 1, bytes = bytes - length(old.kept) - 256;
     END;
     DROP TABLE skills_text;
     CREATE VIEW skills_words AS
        SELECT s.key, s.id, coalesce(s.name, '') AS name, coalesce(s.description, '') AS description,
            (SELECT coalesce(group_concat(value, ' '), '') FROM json_each(coalesce(s.tags, '[]'))) AS tags,
            coalesce(v.words, '') AS code
        FROM skills s JOIN versions v ON v.skill = s.key AND v.version = s.newest
        WHERE s.newest > s.removed_through;
     CREATE VIRTUAL TABLE skills_text USING fts5
        (id, name, description, tags, code, content = '', contentless_delete = 1, tokenize = 'unicode61');
     INSERT INTO skills_text (rowid, id, name, description, tags, code) SELECT * FROM skills_words;",
];

/// The newest schema this library writes.
pub(super) const NEWEST: i64 = MIGRATIONS.len() as i64;

/// Brings a database to the newest schema, or refuses it. What `keep` does with the version that is to come, it does while nobody can write,
/// and only to a database that has something to lose; if it fails, nothing is changed.
pub(super) fn migrate(connection: &mut Connection, keep: impl FnOnce(i64) -> Result<Option<PathBuf>>) -> Result<()> {
    // Reading first tells a stranger's file from a fresh one without taking the write lock.
    let before = check(connection)?;
    if before == NEWEST {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(translate)?;
    // Another process may have migrated while this one waited for the lock.
    let version = check(&transaction)?;
    let copy = if version != 0 && version != NEWEST { keep(NEWEST)? } else { None };
    let applied = apply(&transaction, version, NEWEST).map_err(|error| {
        // Nothing was changed, so the copy is of no use; and each attempt would leave one more.
        if let Some(copy) = &copy {
            let _ = std::fs::remove_file(copy);
        }
        let message =
            format!("the schema was not brought to version {NEWEST}, and nothing was changed: {}", error.message());
        Error::new(error.code(), message)
    });
    applied?;
    // If the disk fails now, who knows what it has; the copy is whole.
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

/// A database as the library of that version makes it.
pub(super) fn create_at(connection: &Connection, version: i64) -> Result<()> {
    apply(connection, 0, version)
}

/// The schema version, if the file is ours or empty (0).
pub(super) fn check(connection: &Connection) -> Result<i64> {
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
