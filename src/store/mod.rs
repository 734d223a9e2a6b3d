//! The store room: skills on disk, in one SQLite file.
//!
//! A skill is one row of what changes in place and one row for each version of its content, which never changes again.
//! Every put is one transaction at `synchronous = FULL`: when it returns, the skill is on the disk. Removing hides all
//! versions up to the newest; a later put goes on counting.

mod pool;
mod schema;
mod search;
mod sqlite;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};

pub use search::Filter;

use crate::config::Config;
use crate::error::{Code, Error, Result};
use crate::json::Value;
use crate::skill::{FIELDS, Field, Outline, Skill, Usage};
use pool::ConnectionPool;
use sqlite::translate;

/// Every column of a record, in the order in which [`read_skill`] takes them by name.
const COLUMNS: &str = "s.id, v.version, v.code, s.usage_count, s.success_count, s.last_used, s.created_at, s.updated_at, \
    v.symbols, v.language, v.input_schema, v.output_schema, v.parameters, v.required_skills, v.dependencies, \
    s.name, s.description, s.category, s.complexity, s.performance_metrics, s.tags, s.examples, s.learned_from, \
    s.created_by, s.is_active, s.cache, s.key_order, s.ttl_s, s.limits";

/// How long counters may wait in memory before they are written.
const USAGE_LAG: Duration = Duration::from_secs(1);

/// The skills of one database. Shared freely between threads.
#[derive(Debug)]
pub struct Store {
    pool: ConnectionPool,
    usage: Mutex<PendingUsage>,
}

/// Counters not yet written: a call answered from memory must not wait for a disk.
#[derive(Debug)]
struct PendingUsage {
    by_id: HashMap<String, PendingCount>,
    written: Instant,
}

#[derive(Debug, Clone, Copy, Default)]
struct PendingCount {
    calls: u64,
    successes: u64,
    last_ms: i64,
}

/// Which stored version answers to an id, and whether its record is still the one that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Revision {
    /// The skill's row.
    pub key: i64,
    /// The version asked for, or the newest.
    pub version: u32,
    /// Counts every change of the record.
    pub revision: i64,
}

impl Store {
    /// Opens or creates a database. `:memory:` is private to this store and goes with it.
    pub fn open(path: &str, config: &Config) -> Result<Self> {
        let file = (path != ":memory:").then(|| Path::new(path));
        if let Some(file) = file {
            check_place(file)?;
            let mut connection = Connection::open(file).map_err(|error| named(translate(error), path))?;
            prepare(&mut connection, config).map_err(|error| named(error, path))?;
        }
        let pool = ConnectionPool::new(file, config)?;
        if file.is_none() {
            schema::migrate(&mut *pool.get()?)?;
        }
        let usage = Mutex::new(PendingUsage { by_id: HashMap::new(), written: Instant::now() });
        Ok(Store { pool, usage })
    }

    /// Stores a checked draft and says which version it is. `is_new` tells whether its content was new.
    pub fn put(&self, draft: &Skill, outline: &Outline) -> Result<Put> {
        self.flush_usage()?;
        let mut connection = self.pool.get()?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(translate)?;
        let put = put_in(&transaction, draft, outline)?;
        transaction.commit().map_err(translate)?;
        Ok(put)
    }

    /// Where a skill stands now; version 0 is the newest.
    pub fn revision(&self, id: &str, version: u32) -> Result<Revision> {
        let connection = self.pool.get()?;
        let mut statement = connection
            .prepare_cached("SELECT key, newest, removed_through, revision FROM skills WHERE id = ?")
            .map_err(translate)?;
        let row = statement
            .query_row([id], |row| Ok((row.get(0)?, row.get::<_, u32>(1)?, row.get::<_, u32>(2)?, row.get(3)?)))
            .optional()
            .map_err(translate)?;
        match row {
            Some((key, newest, hidden, revision)) if newest > hidden => {
                let wanted = if version == 0 { newest } else { version };
                if wanted > newest || wanted <= hidden {
                    let message = format!("skill `{id}` has no version {version}; the newest is {newest}");
                    return Err(Error::new(Code::NotFound, message).path(id));
                }
                Ok(Revision { key, version: wanted, revision })
            }
            _ => Err(Error::new(Code::NotFound, format!("there is no skill `{id}`")).path(id)),
        }
    }

    /// The record at a revision.
    pub fn read(&self, revision: Revision) -> Result<Skill> {
        let sql = format!(
            "SELECT {COLUMNS} FROM skills s JOIN versions v ON v.skill = s.key WHERE s.key = ? AND v.version = ?"
        );
        let connection = self.pool.get()?;
        let mut statement = connection.prepare_cached(&sql).map_err(translate)?;
        statement.query_row(params![revision.key, revision.version], read_skill).map_err(translate)
    }

    /// The record as it is now, counters included.
    pub fn get(&self, id: &str, version: u32) -> Result<Skill> {
        self.flush_usage()?;
        self.read(self.revision(id, version)?)
    }

    /// Hides a skill and all its versions.
    pub fn remove(&self, id: &str) -> Result<()> {
        self.flush_usage()?;
        let mut connection = self.pool.get()?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(translate)?;
        let hidden = transaction
            .execute("UPDATE skills SET removed_through = newest, revision = revision + 1 WHERE id = ? AND newest > removed_through", [id])
            .map_err(translate)?;
        if hidden == 0 {
            return Err(Error::new(Code::NotFound, format!("there is no skill `{id}`")).path(id));
        }
        transaction
            .execute("DELETE FROM skills_text WHERE rowid = (SELECT key FROM skills WHERE id = ?)", [id])
            .map_err(translate)?;
        transaction.commit().map_err(translate)
    }

    /// Counts a call. Written within about a second, with the next call, and before anything reads a record.
    pub fn count_use(&self, id: &str, is_success: bool) -> Result<()> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut usage = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        let count = usage.by_id.entry(id.to_owned()).or_default();
        count.calls += 1;
        count.successes += u64::from(is_success);
        count.last_ms = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        let is_due = usage.written.elapsed() >= USAGE_LAG;
        drop(usage);
        if is_due { self.flush_usage() } else { Ok(()) }
    }

    /// Writes the counters that wait in memory. What cannot be written waits on.
    pub fn flush_usage(&self) -> Result<()> {
        let mut usage = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        let pending = std::mem::take(&mut usage.by_id);
        usage.written = Instant::now();
        drop(usage);
        if pending.is_empty() {
            return Ok(());
        }
        let written = self.write_usage(&pending);
        if written.is_err() {
            let mut usage = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
            for (id, count) in pending {
                let waiting = usage.by_id.entry(id).or_default();
                waiting.calls += count.calls;
                waiting.successes += count.successes;
                waiting.last_ms = waiting.last_ms.max(count.last_ms);
            }
        }
        written
    }

    fn write_usage(&self, pending: &HashMap<String, PendingCount>) -> Result<()> {
        let mut connection = self.pool.get()?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(translate)?;
        for (id, count) in pending {
            let mut statement = transaction
                .prepare_cached(
                    "UPDATE skills SET usage_count = usage_count + ?, success_count = success_count + ?,
                     last_used = max(coalesce(last_used, ''), strftime('%Y-%m-%dT%H:%M:%fZ', ? / 1000.0, 'unixepoch')) WHERE id = ?",
                )
                .map_err(translate)?;
            statement.execute(params![count.calls, count.successes, count.last_ms, id]).map_err(translate)?;
        }
        transaction.commit().map_err(translate)
    }

    /// `{"skills", "versions", "usage_count", "success_count", "file_bytes"}`.
    pub fn stats(&self) -> Result<Value> {
        self.flush_usage()?;
        let connection = self.pool.get()?;
        let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(translate);
        let visible = "FROM skills WHERE newest > removed_through";
        Ok(Value::object([
            ("skills", Value::from(number(&format!("SELECT count(*) {visible}"))?)),
            ("versions", Value::from(number("SELECT count(*) FROM versions")?)),
            ("usage_count", Value::from(number(&format!("SELECT coalesce(sum(usage_count), 0) {visible}"))?)),
            ("success_count", Value::from(number(&format!("SELECT coalesce(sum(success_count), 0) {visible}"))?)),
            (
                "file_bytes",
                Value::from(number("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")?),
            ),
        ]))
    }

    /// The pool's numbers.
    pub fn pool_stats(&self) -> Value {
        self.pool.stats()
    }

    /// Reads one page through the pool: whether the database answers.
    pub fn probe(&self) -> Result<()> {
        let connection = self.pool.get()?;
        connection
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))
            .map_err(translate)?;
        Ok(())
    }
}

/// What a put did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Put {
    /// The version the content has.
    pub version: u32,
    /// Whether the content was new.
    pub is_new: bool,
}

fn check_place(file: &Path) -> Result<()> {
    if file.as_os_str().is_empty() {
        return Err(Error::invalid("the database path is empty; `:memory:` opens one in memory").path("path"));
    }
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        let message = format!("the database cannot be opened: there is no folder {}", folder.display());
        return Err(Error::new(Code::Database, message).path(file.display().to_string()));
    }
    if file.is_dir() {
        let message = format!("the database cannot be opened: {} is a folder", file.display());
        return Err(Error::new(Code::Database, message).path(file.display().to_string()));
    }
    Ok(())
}

fn named(error: Error, path: &str) -> Error {
    Error::new(error.code(), format!("{path}: {}", error.message())).path(path)
}

/// Makes the file ours: schema, then WAL, which stays with the file.
fn prepare(connection: &mut Connection, config: &Config) -> Result<()> {
    sqlite::set_up(connection, Duration::from_millis(config.pool_timeout_ms)).map_err(translate)?;
    schema::migrate(connection)?;
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0)).map_err(translate)?;
    if mode.eq_ignore_ascii_case("wal") {
        return Ok(());
    }
    Err(Error::new(Code::Database, format!("the file system does not allow a write-ahead log (it stays at `{mode}`)")))
}

fn put_in(transaction: &Connection, draft: &Skill, outline: &Outline) -> Result<Put> {
    let missing = missing_skills(transaction, draft)?;
    if !missing.is_empty() {
        let names = missing.join(", ");
        return Err(Error::validation(format!("required skills are not there: {names}"))
            .path("required_skills")
            .missing(missing));
    }
    let hash = content_hash(draft);
    let stored = transaction
        .query_row(
            "SELECT key, newest, removed_through, content_hash FROM skills JOIN versions ON skill = key AND version = newest WHERE id = ?",
            [&draft.id],
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, u32>(1)?, row.get::<_, u32>(2)?, row.get::<_, Vec<u8>>(3)?)),
        )
        .optional()
        .map_err(translate)?;
    let visible = stored.as_ref().filter(|(_, newest, hidden, _)| newest > hidden).map_or(0, |(_, newest, ..)| *newest);
    if let Some(expected) = draft.expected_version.filter(|expected| *expected != visible) {
        let message = format!("skill `{}` is at version {visible}, not {expected}", draft.id);
        return Err(Error::new(Code::Conflict, message).path("expected_version"));
    }
    match stored {
        None => {
            let key = insert_skill(transaction, draft)?;
            insert_version(transaction, key, 1, draft, &hash)?;
            finish(transaction, key, draft, outline, Put { version: 1, is_new: true })
        }
        Some((key, newest, ..)) if visible == 0 => {
            revive(transaction, key, newest + 1)?;
            insert_version(transaction, key, newest + 1, draft, &hash)?;
            finish(transaction, key, draft, outline, Put { version: newest + 1, is_new: true })
        }
        Some((key, newest, _, known)) if known == hash => {
            finish(transaction, key, draft, outline, Put { version: newest, is_new: false })
        }
        Some((key, newest, ..)) => {
            insert_version(transaction, key, newest + 1, draft, &hash)?;
            finish(transaction, key, draft, outline, Put { version: newest + 1, is_new: true })
        }
    }
}

fn missing_skills(transaction: &Connection, draft: &Skill) -> Result<Vec<String>> {
    let mut statement = transaction
        .prepare_cached("SELECT 1 FROM skills WHERE id = ? AND newest > removed_through")
        .map_err(translate)?;
    let mut missing = Vec::new();
    for id in draft.string_list("required_skills") {
        if !statement.exists([&id]).map_err(translate)? {
            missing.push(id);
        }
    }
    Ok(missing)
}

/// What makes a version: the code and every content field, length-prefixed.
fn content_hash(draft: &Skill) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new();
    let fields = FIELDS.iter().filter(|field| field.is_content).map(|field| draft.field(field.name).to_text());
    for part in std::iter::once(draft.code.clone()).chain(fields) {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().as_bytes().to_vec()
}

const NOW: &str = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')";

fn insert_skill(transaction: &Connection, draft: &Skill) -> Result<i64> {
    let sql = format!("INSERT INTO skills (id, newest, created_at, updated_at) VALUES (?, 1, {NOW}, {NOW})");
    transaction.execute(&sql, [&draft.id]).map_err(translate)?;
    let key = transaction.last_insert_rowid();
    set_profile(transaction, key, |field, _| Some(field.default_value()))?;
    Ok(key)
}

/// A removed skill comes back as a new one that goes on counting: what was known of the old one stays hidden.
fn revive(transaction: &Connection, key: i64, newest: u32) -> Result<()> {
    let sql = format!(
        "UPDATE skills SET newest = ?, usage_count = 0, success_count = 0, last_used = NULL, created_at = {NOW} WHERE key = ?"
    );
    transaction.execute(&sql, params![newest, key]).map_err(translate)?;
    set_profile(transaction, key, |field, _| Some(field.default_value()))
}

fn insert_version(transaction: &Connection, key: i64, version: u32, draft: &Skill, hash: &[u8]) -> Result<()> {
    let sql =
        format!("INSERT INTO versions (skill, version, code, content_hash, created_at) VALUES (?, ?, ?, ?, {NOW})");
    transaction.execute(&sql, params![key, version, draft.code, hash]).map_err(translate)?;
    for field in FIELDS.iter().filter(|field| field.is_content) {
        let sql = format!("UPDATE versions SET {} = ? WHERE skill = ? AND version = ?", field.name);
        let mut statement = transaction.prepare_cached(&sql).map_err(translate)?;
        statement.execute(params![column_text(field, &draft.field(field.name)), key, version]).map_err(translate)?;
    }
    Ok(())
}

/// Writes the fields that the draft sets, the newest version and the search index.
fn finish(transaction: &Connection, key: i64, draft: &Skill, outline: &Outline, put: Put) -> Result<Put> {
    set_profile(transaction, key, |_, index| draft.fields[index].clone())?;
    let sql = format!("UPDATE skills SET newest = ?, revision = revision + 1, updated_at = {NOW} WHERE key = ?");
    transaction.execute(&sql, params![put.version, key]).map_err(translate)?;
    transaction.execute("DELETE FROM skills_text WHERE rowid = ?", [key]).map_err(translate)?;
    transaction
        .execute(
            "INSERT INTO skills_text (rowid, id, name, description, tags, code)
             SELECT key, id, coalesce(name, ''), coalesce(description, ''),
                    (SELECT coalesce(group_concat(value, ' '), '') FROM json_each(coalesce(tags, '[]'))), ?
             FROM skills WHERE key = ?",
            params![outline.words, key],
        )
        .map_err(translate)?;
    transaction
        .execute(
            "UPDATE versions SET symbols = ? WHERE skill = ? AND version = ?",
            params![outline.symbols.to_text(), key, put.version],
        )
        .map_err(translate)?;
    Ok(put)
}

/// Writes the fields that change in place, where there is a value for them.
fn set_profile(transaction: &Connection, key: i64, value: impl Fn(&Field, usize) -> Option<Value>) -> Result<()> {
    for (index, field) in FIELDS.iter().enumerate().filter(|(_, field)| !field.is_content) {
        let Some(value) = value(field, index) else { continue };
        let sql = format!("UPDATE skills SET {} = ? WHERE key = ?", field.name);
        let mut statement = transaction.prepare_cached(&sql).map_err(translate)?;
        statement.execute(params![column_text(field, &value), key]).map_err(translate)?;
    }
    Ok(())
}

/// How a field stands in its column: texts as they are, the rest as JSON, nothing as NULL.
fn column_text(field: &Field, value: &Value) -> SqlValue {
    match value {
        Value::Null => SqlValue::Null,
        Value::String(text) if field.is_text() => SqlValue::Text(text.clone()),
        other => SqlValue::Text(other.to_text()),
    }
}

fn read_skill(row: &Row) -> rusqlite::Result<Skill> {
    let mut skill = Skill::new(row.get::<_, String>("id")?, row.get::<_, String>("code")?);
    skill.version = row.get("version")?;
    for (slot, field) in skill.fields.iter_mut().zip(&FIELDS) {
        let text: Option<String> = row.get(field.name)?;
        *slot = text.map(|text| if field.is_text() { Value::String(text) } else { stored_json(&text) });
    }
    skill.usage = Usage {
        usage_count: row.get("usage_count")?,
        success_count: row.get("success_count")?,
        last_used: row.get("last_used")?,
    };
    skill.symbols = row.get::<_, Option<String>>("symbols")?.map_or(Value::Null, |text| stored_json(&text));
    skill.created_at = row.get("created_at")?;
    skill.updated_at = row.get("updated_at")?;
    Ok(skill)
}

/// We wrote it, so it is JSON; if somebody edited the file by hand it is shown as the text it is.
fn stored_json(text: &str) -> Value {
    Value::parse(text).unwrap_or_else(|_| Value::from(text))
}

#[cfg(test)]
mod tests;
