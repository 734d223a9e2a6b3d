//! Damage: what is wrong with a file, found out without changing it.
//!
//! On opening, what everything else hangs on is looked at: the header, before SQLite sees the file; then the schema, and the first page of every
//! table and index. That costs about a millisecond whatever the size. All pages are read by the quick check, in the background (`watch.rs`),
//! and all contents are held against each other by the full check, on demand (`check.rs`). `salvage.rs` finds what can still be read.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, ffi};

use super::origin::Origin;
use super::schema;
use super::sqlite::translate;
use crate::error::{Code, Error, Result};
use crate::held::Held;
use crate::json::Value;

/// What to do about a damaged file; ends a message.
pub(crate) const REMEDY: &str = "restore a backup, or open the file with `store.access` = `read_only` and export what can be read; docs/STORE.md says how";

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// `header`, `schema`, `page`, `foreign_key`, `content`, `version`, `search`, `embedding`, `results` or `unreadable`.
    pub kind: &'static str,
    /// A table, an index, a byte, a skill.
    pub place: String,
    /// A sentence.
    pub message: String,
}

impl Finding {
    pub fn new(kind: &'static str, place: impl Into<String>, message: impl Into<String>) -> Self {
        Finding { kind, place: place.into(), message: message.into() }
    }

    /// Something that SQLite cannot read.
    pub fn unreadable(place: impl Into<String>, error: &rusqlite::Error) -> Self {
        Finding::new("unreadable", place, error.to_string())
    }

    /// Whether pages or what describes them are broken: writing would make that worse. What remains are contents that are not what they were.
    pub fn is_structural(&self) -> bool {
        matches!(self.kind, "header" | "schema" | "page" | "unreadable")
    }

    /// `{"kind", "where", "message"}`.
    pub fn to_value(&self) -> Value {
        Value::object([
            ("kind", Value::from(self.kind)),
            ("where", Value::from(self.place.as_str())),
            ("message", Value::from(self.message.as_str())),
        ])
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// Findings as one error that says what to do. It is to be called with at least one.
pub(super) fn refusal(findings: &[Finding]) -> Error {
    let first = findings.first().map_or_else(String::new, Finding::to_string);
    let more = match findings.len() {
        0 | 1 => String::new(),
        number => format!(" (and {} more)", number - 1),
    };
    let error =
        Error::new(Code::Corrupt, format!("the database is damaged: {first}{more}. Nothing was changed; {REMEDY}"));
    error.findings(findings.iter().map(Finding::to_value).collect())
}

/// Whether an error of SQLite says that the file is damaged, and not that something is in the way, or that the disk fails now.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    let is_short = |error: &ffi::Error| {
        let code = error.extended_code;
        [ffi::SQLITE_IOERR_SHORT_READ, ffi::SQLITE_IOERR_DATA, ffi::SQLITE_IOERR_CORRUPTFS].contains(&code)
    };
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
        || error.sqlite_error().is_some_and(is_short)
}

/// The length of SQLite's header.
const HEADER: usize = 100;
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Reads the header before SQLite sees the file: what is wrong with it, if anything. An empty file is a fresh one.
pub(super) fn check_header(origin: &Origin, held: &Held) -> Result<Option<Finding>> {
    let unreadable = |error: std::io::Error| {
        let path = origin.path().display().to_string();
        Error::new(Code::Database, format!("{path} cannot be read: {error}")).path(path)
    };
    // Another process may be writing. Only what is still wrong after a while is damage.
    const LOOKS: usize = 5;
    let mut finding = None;
    for look in 0..LOOKS {
        if look > 0 {
            thread::sleep(Duration::from_millis(10));
        }
        // After a crash the first page may be half written; SQLite puts it back from the journal.
        if origin.has_journal() {
            return Ok(None);
        }
        let mut header = [0; HEADER];
        let is_settled = !origin.has_log();
        let (length, read) = held.beginning(&mut header).map_err(unreadable)?;
        finding = header_fault(&header[..read], length, is_settled && !origin.has_log());
        if finding.is_none() {
            return Ok(None);
        }
    }
    Ok(finding)
}

/// What is wrong with a header. The length of the file is `is_settled` if no log has pages that are not in it yet.
fn header_fault(header: &[u8], length: u64, is_settled: bool) -> Option<Finding> {
    let fault =
        |offset: usize, message: String| Some(Finding::new("header", format!("byte {offset} of the file"), message));
    if length == 0 {
        return None;
    }
    if let Some(offset) = MAGIC.iter().zip(header).position(|(right, found)| right != found) {
        return fault(
            offset,
            "this is not the beginning of a SQLite database; it is another file or damaged".to_owned(),
        );
    }
    let Ok(header) = <&[u8; HEADER]>::try_from(header) else {
        return fault(header.len(), format!("the file ends within the header, which has {HEADER} bytes"));
    };
    let short = |at: usize| u64::from(u16::from_be_bytes([header[at], header[at + 1]]));
    let long = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let page = if short(16) == 1 { 65_536 } else { short(16) };
    if !page.is_power_of_two() || !(512..=65_536).contains(&page) {
        return fault(16, format!("the size of a page is a power of two from 512 to 65536, not {page}"));
    }
    for (at, name) in [(18, "writing"), (19, "reading")] {
        if !(1..=2).contains(&header[at]) {
            return fault(at, format!("the file format for {name} is 1 or 2, not {}", header[at]));
        }
    }
    if page - u64::from(header[20]) < 480 {
        return fault(20, format!("of a page of {page} bytes {} cannot be reserved", header[20]));
    }
    if let Some(at) = [(21, 64), (22, 32), (23, 32)].into_iter().find(|(at, right)| header[*at] != *right) {
        return fault(at.0, format!("a constant of the format is {}, not {}", at.1, header[at.0]));
    }
    if !matches!(long(44), 0..=4) {
        return fault(44, format!("the format of the schema is a number up to 4, not {}", long(44)));
    }
    if !matches!(long(56), 0 | 1) {
        return fault(56, format!("the encoding of texts is UTF-8 (1), not {}", long(56)));
    }
    // The count of pages is right only if whoever counted was the last to write.
    let expected = u64::from(long(28)) * page;
    if is_settled && long(24) == long(92) && expected > length {
        let message = format!("the file ends here; by its header it has {} pages, {expected} bytes", long(28));
        return fault(usize::try_from(length).unwrap_or(usize::MAX), message);
    }
    None
}

/// One row of SQLite's schema.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Object {
    kind: String,
    name: String,
    table: String,
    sql: Option<String>,
}

impl Object {
    /// What is there, if it is not the right thing. Of a shadow table the text does not count.
    fn difference(&self, right: &Object, is_shadow: bool) -> Option<&str> {
        let is_right = self.kind == right.kind && self.table == right.table && (is_shadow || self.sql == right.sql);
        (!is_right).then(|| self.sql.as_deref().unwrap_or(&self.kind))
    }
}

fn objects(connection: &Connection) -> rusqlite::Result<Vec<Object>> {
    let mut statement = connection.prepare("SELECT type, name, tbl_name, sql FROM sqlite_schema")?;
    let read =
        |row: &rusqlite::Row| Ok(Object { kind: row.get(0)?, name: row.get(1)?, table: row.get(2)?, sql: row.get(3)? });
    statement.query_map([], read)?.collect()
}

/// What a database of a version has, as the migrations make it in one that is new. Made once a process: it takes a few milliseconds.
fn expected(version: i64) -> Result<Arc<Vec<Object>>> {
    static KNOWN: Mutex<BTreeMap<i64, Arc<Vec<Object>>>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(objects) = known.get(&version) {
        return Ok(objects.clone());
    }
    let fresh = Connection::open_in_memory().map_err(translate)?;
    schema::create_at(&fresh, version)?;
    let made = Arc::new(objects(&fresh).map_err(translate)?);
    known.insert(version, made.clone());
    Ok(made)
}

/// Checks that the schema is that of its version, and that the first page of every table and index can be read.
///
/// What is missing or changed is found; what somebody added is not: it is in nobody's way. The tables that FTS5 makes for itself may be
/// spelled otherwise by another version of SQLite, so of these it is the names that count.
pub(super) fn check_structure(connection: &Connection, version: i64) -> Result<Vec<Finding>> {
    let there = match objects(connection) {
        Ok(there) => there,
        Err(error) if is_damage(&error) => return Ok(vec![Finding::unreadable("the schema", &error)]),
        Err(error) => return Err(translate(error)),
    };
    let by_name: HashMap<&str, &Object> = there.iter().map(|object| (object.name.as_str(), object)).collect();
    let expected = expected(version)?;
    let (views, tables): (Vec<&Object>, Vec<&Object>) = expected.iter().partition(|object| is_virtual(object));
    let mut findings = Vec::new();
    // What a virtual table says of its own tables says less than they do.
    for right in tables.into_iter().chain(views.iter().copied()) {
        let is_shadow =
            views.iter().any(|table| right.name.strip_prefix(&table.name).is_some_and(|rest| rest.starts_with('_')));
        let fault = match by_name.get(right.name.as_str()) {
            None => Some(format!("it is missing; schema version {version} has it")),
            Some(found) => found
                .difference(right, is_shadow)
                .map(|found| format!("it is not what schema version {version} has: {found}")),
        };
        let place = format!("{} {}", right.kind, right.name);
        match fault {
            Some(fault) => findings.push(Finding::new("schema", place, fault)),
            None if is_virtual(right) && !findings.is_empty() => {}
            None => match read_first_page(connection, right) {
                Err(error) if is_damage(&error) => findings.push(Finding::unreadable(place, &error)),
                Err(error) => return Err(translate(error)),
                Ok(()) => {}
            },
        }
    }
    Ok(findings)
}

fn is_virtual(object: &Object) -> bool {
    object.sql.as_deref().is_some_and(|sql| sql.starts_with("CREATE VIRTUAL TABLE"))
}

/// Reads from the root of a table or an index down to its first entry.
fn read_first_page(connection: &Connection, object: &Object) -> rusqlite::Result<()> {
    let Object { kind, name, table, .. } = object;
    let sql = match kind.as_str() {
        "table" if !is_virtual(object) => format!("SELECT 1 FROM \"{table}\" NOT INDEXED LIMIT 1"),
        "table" => format!("SELECT rowid FROM \"{table}\" LIMIT 1"),
        "index" => {
            // SQLite takes an index of some rows only for a question about those.
            let some = object.sql.as_deref().and_then(|sql| sql.find(" WHERE ").map(|place| &sql[place..]));
            format!("SELECT 1 FROM \"{table}\" INDEXED BY \"{name}\"{} LIMIT 1", some.unwrap_or_default())
        }
        _ => return Ok(()),
    };
    connection.prepare(&sql)?.exists([]).map(|_| ())
}

/// How thorough SQLite's own check is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// Every page of every tree.
    Quick,
    /// Also whether each index has what its table has.
    Whole,
}

/// SQLite's own check of all pages: at most `limit` findings. An error says that it could not be made: it was interrupted, for example.
pub(super) fn check_pages(connection: &Connection, depth: Depth, limit: u32) -> Result<Vec<Finding>> {
    let pragma = if depth == Depth::Quick { "quick_check" } else { "integrity_check" };
    let mut rows: Vec<String> = Vec::new();
    let mut read = || -> rusqlite::Result<()> {
        let mut statement = connection.prepare(&format!("PRAGMA {pragma}({limit})"))?;
        let mut told = statement.query([])?;
        while let Some(row) = told.next()? {
            rows.push(row.get(0)?);
        }
        Ok(())
    };
    match read() {
        Err(error) if !is_damage(&error) => return Err(translate(error)),
        // After what it found page by page SQLite may stumble over it: that says less.
        Err(error) if rows.is_empty() => return Ok(vec![Finding::unreadable("the file", &error)]),
        _ => {}
    }
    let roots = roots(connection);
    let lines = rows.iter().flat_map(|row| row.lines());
    let told = lines.filter(|line| *line != "ok" && !line.starts_with("*** in database") && !line.trim().is_empty());
    Ok(told.map(|line| Finding::new("page", place_of(line, &roots), line.trim())).collect())
}

/// Which table or index begins at a page.
fn roots(connection: &Connection) -> HashMap<u32, String> {
    let read = || -> rusqlite::Result<HashMap<u32, String>> {
        let mut statement =
            connection.prepare("SELECT rootpage, type || ' ' || name FROM sqlite_schema WHERE rootpage > 0")?;
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    };
    // It only makes messages clearer.
    read().unwrap_or_default()
}

/// SQLite says `Tree 4 page 17 cell 3: ...`, where 4 is the first page of the tree.
fn place_of(line: &str, roots: &HashMap<u32, String>) -> String {
    let after = |word: &str| {
        let rest = line.split_once(word)?.1.trim_start();
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest[..digits].parse::<u32>().ok()
    };
    let tree = after("Tree ").and_then(|root| roots.get(&root).cloned());
    match (tree, after("age ")) {
        (Some(tree), Some(page)) => format!("{tree}, page {page}"),
        (Some(tree), None) => tree,
        (None, Some(page)) => format!("page {page}"),
        (None, None) => "the database".to_owned(),
    }
}

#[cfg(test)]
mod tests;
