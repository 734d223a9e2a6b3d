//! What a put does, in the transaction that it is given: one row read, one or two written, and the indexes with them.

use std::fmt::Write as _;
use std::sync::LazyLock;

use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};

use super::no_skill;
use super::search;
use super::sqlite::translate;
use crate::error::{Code, Error, Result};
use crate::json::Value;
use crate::skill::{FIELDS, Field, Outline, Place, STATES, Skill};

/// What a put did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Put {
    /// The version the content has.
    pub version: u32,
    /// Whether the content was new.
    pub is_new: bool,
}

const NOW: &str = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')";

/// The statements, made from the table of fields once.
struct Statements {
    find: String,
    insert_skill: String,
    update_skill: String,
    insert_version: String,
    update_version: String,
}

static STATEMENTS: LazyLock<Statements> = LazyLock::new(|| {
    let names = |place: Place| fields(place).map(|(_, field)| field.name).collect::<Vec<_>>();
    let (profile, content, provenance) = (names(Place::Profile), names(Place::Content), names(Place::Provenance));
    let marks = |count: usize| vec!["?"; count].join(", ");
    let set = |names: &[&str]| {
        names.iter().fold(String::new(), |mut sql, name| {
            // Writing to a string does not fail.
            let _ = write!(sql, ", {name} = ?");
            sql
        })
    };
    let listed: String = profile.iter().map(|name| format!(", s.{name}")).collect();
    let versioned = [content, provenance.clone()].concat();
    let kept: Vec<_> = provenance.iter().map(|name| format!("{name} = coalesce(?, {name})")).collect();
    Statements {
        find: format!(
            "SELECT s.key, s.newest, s.removed_through, s.failures, v.content_hash{listed}
             FROM skills s JOIN versions v ON v.skill = s.key AND v.version = s.newest WHERE s.id = ?"
        ),
        insert_skill: format!(
            "INSERT INTO skills (id, newest, revision, created_at, updated_at, {}) VALUES (?, 1, random(), {NOW}, {NOW}, {})",
            profile.join(", "),
            marks(profile.len())
        ),
        update_skill: format!(
            "UPDATE skills SET newest = ?, failures = ?, revision = random(), updated_at = {NOW}{} WHERE key = ?",
            set(&profile)
        ),
        insert_version: format!(
            "INSERT INTO versions (skill, version, code, content_hash, symbols, words, created_at, {}) VALUES (?, ?, ?, ?, ?, ?, {NOW}, {})",
            versioned.join(", "),
            marks(versioned.len())
        ),
        update_version: format!(
            "UPDATE versions SET symbols = ?, words = ?, {} WHERE skill = ? AND version = ?",
            kept.join(", ")
        ),
    }
});

/// The rows of the table that have a place, with their numbers.
fn fields(place: Place) -> impl Iterator<Item = (usize, &'static Field)> {
    FIELDS.iter().enumerate().filter(move |(_, field)| field.place == place)
}

/// What is stored of a skill.
struct Stored {
    key: i64,
    newest: u32,
    removed_through: u32,
    failures: u64,
    content_hash: Vec<u8>,
    /// Its profile, column by column.
    profile: Vec<SqlValue>,
}

impl Stored {
    fn read(row: &Row) -> rusqlite::Result<Self> {
        const OWN: usize = 5;
        let profile =
            (0..fields(Place::Profile).count()).map(|index| row.get(OWN + index)).collect::<Result<_, _>>()?;
        Ok(Stored {
            key: row.get(0)?,
            newest: row.get(1)?,
            removed_through: row.get(2)?,
            failures: row.get(3)?,
            content_hash: row.get(4)?,
            profile,
        })
    }

    fn is_visible(&self) -> bool {
        self.newest > self.removed_through
    }
}

/// Stores a checked draft.
pub(super) fn put(transaction: &Connection, draft: &Skill, outline: &Outline) -> Result<Put> {
    check_required(transaction, draft)?;
    let mut find = transaction.prepare_cached(&STATEMENTS.find).map_err(translate)?;
    let stored = find.query_row([&draft.id], Stored::read).optional().map_err(translate)?;
    let visible = stored.as_ref().filter(|stored| stored.is_visible());
    let newest = visible.map_or(0, |stored| stored.newest);
    if let Some(expected) = draft.expected_version.filter(|expected| *expected != newest) {
        let message = format!("skill `{}` is at version {newest}, not {expected}", draft.id);
        return Err(Error::new(Code::Conflict, message).path("expected_version"));
    }
    let hash = draft.content_hash();
    let is_new = visible.is_none_or(|stored| stored.content_hash != hash[..]);
    let version = stored.as_ref().map_or(0, |stored| stored.newest) + u32::from(is_new);
    let put = Put { version, is_new };
    let profile = profile(draft, visible, is_new);
    let key = match &stored {
        None => insert_skill(transaction, draft, &profile)?,
        Some(stored) => {
            if !stored.is_visible() {
                revive(transaction, stored.key)?;
            }
            update_skill(transaction, stored, draft, put, &profile)?;
            stored.key
        }
    };
    if is_new {
        insert_version(transaction, key, version, draft, outline, &hash)?;
    } else {
        update_version(transaction, key, version, draft, outline)?;
    }
    search::index_words(transaction, key, visible.is_some())?;
    if let Some(vector) = &draft.embedding {
        search::set_vector(transaction, key, vector)?;
    }
    Ok(put)
}

/// Hides a skill and all its versions.
pub(super) fn remove(transaction: &Connection, id: &str) -> Result<()> {
    let sql = "UPDATE skills SET removed_through = newest, revision = random() WHERE id = ? AND newest > removed_through RETURNING key";
    let mut statement = transaction.prepare_cached(sql).map_err(translate)?;
    let key = statement.query_row([id], |row| row.get::<_, i64>(0)).optional().map_err(translate)?;
    let key = key.ok_or_else(|| no_skill(id))?;
    search::forget(transaction, key)
}

/// Sets a skill's state.
pub(super) fn set_state(transaction: &Connection, id: &str, state: &str) -> Result<()> {
    let sql = format!(
        "UPDATE skills SET state = ?, failures = 0, revision = random(), updated_at = {NOW} WHERE id = ? AND newest > removed_through"
    );
    let mut statement = transaction.prepare_cached(&sql).map_err(translate)?;
    let changed = statement.execute([state, id]).map_err(translate)?;
    if changed == 0 { Err(no_skill(id)) } else { Ok(()) }
}

fn check_required(transaction: &Connection, draft: &Skill) -> Result<()> {
    let required = draft.string_list("required_skills");
    if required.is_empty() {
        return Ok(());
    }
    let sql = "SELECT 1 FROM skills WHERE id = ? AND newest > removed_through";
    let mut statement = transaction.prepare_cached(sql).map_err(translate)?;
    let mut missing = Vec::new();
    for id in required {
        if !statement.exists([&id]).map_err(translate)? {
            missing.push(id);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let message = format!("required skills are not there: {}", missing.join(", "));
    Err(Error::validation(message).path("required_skills").missing(missing))
}

/// The profile as it will be: what the draft sets, else what is stored, else the defaults.
fn profile(draft: &Skill, visible: Option<&Stored>, is_new: bool) -> Vec<SqlValue> {
    let column = |(place, (index, field)): (usize, (usize, &Field))| match (&draft.fields[index], visible) {
        (Some(value), _) => column_text(field, value),
        // New content has not failed yet.
        (None, Some(stored)) if is_new && field.name == "state" && is_quarantined(&stored.profile[place]) => {
            SqlValue::Text(STATES[0].to_owned())
        }
        (None, Some(stored)) => stored.profile[place].clone(),
        (None, None) => column_text(field, &field.default_value()),
    };
    fields(Place::Profile).enumerate().map(column).collect()
}

fn is_quarantined(state: &SqlValue) -> bool {
    matches!(state, SqlValue::Text(state) if state == STATES[1])
}

fn insert_skill(transaction: &Connection, draft: &Skill, profile: &[SqlValue]) -> Result<i64> {
    let mut insert = transaction.prepare_cached(&STATEMENTS.insert_skill).map_err(translate)?;
    let id = SqlValue::Text(draft.id.clone());
    insert.insert(params_from_iter(std::iter::once(&id).chain(profile))).map_err(translate)
}

/// A removed skill comes back as a new one that goes on counting: what was known of the old one stays hidden.
fn revive(transaction: &Connection, key: i64) -> Result<()> {
    let sql = format!(
        "UPDATE skills SET usage_count = 0, success_count = 0, last_used = NULL, created_at = {NOW} WHERE key = ?"
    );
    transaction.execute(&sql, [key]).map(drop).map_err(translate)
}

fn update_skill(
    transaction: &Connection,
    stored: &Stored,
    draft: &Skill,
    put: Put,
    profile: &[SqlValue],
) -> Result<()> {
    // Somebody who sets the state has looked at the failures.
    let sets_state =
        fields(Place::Profile).any(|(index, field)| field.name == "state" && draft.fields[index].is_some());
    let failures = if put.is_new || sets_state { 0 } else { i64::try_from(stored.failures).unwrap_or(i64::MAX) };
    let own = [SqlValue::Integer(put.version.into()), SqlValue::Integer(failures)];
    let key = SqlValue::Integer(stored.key);
    let mut update = transaction.prepare_cached(&STATEMENTS.update_skill).map_err(translate)?;
    let parameters = own.iter().chain(profile).chain(std::iter::once(&key));
    update.execute(params_from_iter(parameters)).map(drop).map_err(translate)
}

fn insert_version(
    transaction: &Connection,
    key: i64,
    version: u32,
    draft: &Skill,
    outline: &Outline,
    hash: &[u8],
) -> Result<()> {
    let own = [
        SqlValue::Integer(key),
        SqlValue::Integer(version.into()),
        SqlValue::Text(draft.code.clone()),
        SqlValue::Blob(hash.to_vec()),
        SqlValue::Text(outline.symbols.to_text()),
        SqlValue::Text(outline.words.clone()),
    ];
    let versioned = fields(Place::Content).chain(fields(Place::Provenance));
    let versioned = versioned.map(|(_, field)| column_text(field, &draft.field(field.name)));
    let mut insert = transaction.prepare_cached(&STATEMENTS.insert_version).map_err(translate)?;
    insert.execute(params_from_iter(own.into_iter().chain(versioned))).map(drop).map_err(translate)
}

/// The content is the same; what is said about it may be better known now.
fn update_version(transaction: &Connection, key: i64, version: u32, draft: &Skill, outline: &Outline) -> Result<()> {
    let found = [SqlValue::Text(outline.symbols.to_text()), SqlValue::Text(outline.words.clone())];
    let provenance = fields(Place::Provenance)
        .map(|(index, field)| draft.fields[index].as_ref().map_or(SqlValue::Null, |value| column_text(field, value)));
    let place = [SqlValue::Integer(key), SqlValue::Integer(version.into())];
    let mut update = transaction.prepare_cached(&STATEMENTS.update_version).map_err(translate)?;
    update.execute(params_from_iter(found.into_iter().chain(provenance).chain(place))).map(drop).map_err(translate)
}

/// How a field stands in its column: texts as they are, the rest as JSON, nothing as NULL.
fn column_text(field: &Field, value: &Value) -> SqlValue {
    match value {
        Value::Null => SqlValue::Null,
        Value::String(text) if field.is_text() => SqlValue::Text(text.clone()),
        other => SqlValue::Text(other.to_text()),
    }
}
