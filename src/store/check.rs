//! The full check: all pages, all indexes, and whether the skills are what was stored.

use std::time::{Duration, Instant};

use rusqlite::{Connection, Row};

use super::damage::{Depth, Finding, check_pages, is_damage};
use super::sqlite::translate;
use super::{COLUMNS, read_skill};
use crate::error::{Code, Error, Result};
use crate::json::Value;

/// How many findings of one kind are told.
const LIMIT: usize = 100;

/// What a check found.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    /// Nothing if all is well.
    pub findings: Vec<Finding>,
    /// How long it took.
    pub took: Duration,
}

impl Report {
    /// `{"ok", "findings": [{"kind", "where", "message"}], "took_ms"}`.
    pub fn to_value(&self) -> Value {
        Value::object([
            ("ok", Value::from(self.findings.is_empty())),
            ("findings", Value::Array(self.findings.iter().map(Finding::to_value).collect())),
            ("took_ms", Value::from(u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX))),
        ])
    }
}

/// Every page is what its tree says.
pub(super) fn quick_check(connection: &Connection) -> Result<Report> {
    let started = Instant::now();
    let findings = check_pages(connection, Depth::Quick, 10)?;
    Ok(Report { findings, took: started.elapsed() })
}

/// Everything, in one transaction that reads: SQLite's own check, which includes that of the full-text index; references; and
/// of every skill that its versions go from 1 to the newest, that each has the contents that were stored, and that it is found by search
/// if it is there; that embeddings have one length, and that kept results are counted right.
pub(super) fn full_check(connection: &Connection) -> Result<Report> {
    let started = Instant::now();
    let transaction = connection.unchecked_transaction().map_err(translate)?;
    let mut findings = check_pages(&transaction, Depth::Whole, LIMIT as u32)?;
    for check in [references, numbering, contents, search, embeddings, results] {
        let mut found = Vec::new();
        match check(&transaction, &mut found) {
            // That is among the findings already, unless SQLite's own check does not look there.
            Err(error) if is_damage(&error) => found.push(Finding::unreadable("the database", &error)),
            Err(error) => return Err(translate(error)),
            Ok(()) => {}
        }
        findings.extend(found);
    }
    Ok(Report { findings, took: started.elapsed() })
}

type Found = Vec<Finding>;

/// Calls `read` with each row until there is enough.
fn each(
    connection: &Connection,
    sql: &str,
    found: &mut Found,
    read: fn(&Row) -> rusqlite::Result<Finding>,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if found.len() == LIMIT {
            return Ok(());
        }
        found.push(read(row)?);
    }
    Ok(())
}

fn references(connection: &Connection, found: &mut Found) -> rusqlite::Result<()> {
    each(connection, "PRAGMA foreign_key_check", found, |row| {
        let (table, parent) = (row.get::<_, String>(0)?, row.get::<_, String>(2)?);
        let place = format!("table {table}, row {}", row.get::<_, Option<i64>>(1)?.unwrap_or_default());
        Ok(Finding::new("foreign_key", place, format!("what it refers to in {parent} is not there")))
    })
}

fn numbering(connection: &Connection, found: &mut Found) -> rusqlite::Result<()> {
    const SQL: &str =
        "SELECT CAST(s.id AS TEXT), s.newest, s.removed_through, count(v.version), min(v.version), max(v.version)
        FROM skills s LEFT JOIN versions v ON v.skill = s.key GROUP BY s.key
        HAVING s.newest IS NOT count(v.version) OR min(v.version) IS NOT 1 OR max(v.version) IS NOT s.newest
            OR s.removed_through NOT BETWEEN 0 AND s.newest OR typeof(s.newest) <> 'integer'";
    each(connection, SQL, found, |row| {
        let show = |index: usize| row.get::<_, rusqlite::types::Value>(index).map(|value| shown(&value));
        let message = format!(
            "versions go from 1 to the newest without gaps, but the newest is {}, {} are there, from {} to {}, and up to {} they are removed",
            show(1)?,
            show(3)?,
            show(4)?,
            show(5)?,
            show(2)?
        );
        Ok(Finding::new("version", skill(&row.get::<_, String>(0)?), message))
    })
}

fn shown(value: &rusqlite::types::Value) -> String {
    match value {
        rusqlite::types::Value::Integer(number) => number.to_string(),
        rusqlite::types::Value::Null => "none".to_owned(),
        other => format!("a value of type {}", other.data_type()),
    }
}

fn skill(id: &str) -> String {
    format!("skill `{id}`")
}

/// Each version has the contents that its hash was made of.
fn contents(connection: &Connection, found: &mut Found) -> rusqlite::Result<()> {
    let sql =
        format!("SELECT {}, v.content_hash AS known_hash FROM versions v JOIN skills s ON s.key = v.skill", *COLUMNS);
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if found.len() == LIMIT {
            return Ok(());
        }
        match read_skill(row).and_then(|record| Ok((row.get::<_, Vec<u8>>("known_hash")?, record))) {
            Ok((known, record)) if record.content_hash()[..] != known[..] => {
                let message = "its code or another part of its contents is not what was stored";
                found.push(Finding::new(
                    "content",
                    format!("{}, version {}", skill(record.id()), record.version()),
                    message,
                ));
            }
            Ok(_) => {}
            Err(error) if is_damage(&error) => return Err(error),
            Err(error) => {
                let place = row.get::<_, String>("id").map_or_else(|_| "table versions".to_owned(), |id| skill(&id));
                found.push(Finding::new("content", place, format!("a value has the wrong type: {error}")));
            }
        }
    }
    Ok(())
}

/// The full-text index has the skills that are there, and no others.
fn search(connection: &Connection, found: &mut Found) -> rusqlite::Result<()> {
    const LOST: &str = "SELECT CAST(id AS TEXT) FROM skills s WHERE newest > removed_through
        AND NOT EXISTS (SELECT 1 FROM skills_text_docsize d WHERE d.id = s.key)";
    const LEFT: &str = "SELECT d.id FROM skills_text_docsize d
        WHERE NOT EXISTS (SELECT 1 FROM skills s WHERE s.key = d.id AND newest > removed_through)";
    each(connection, LOST, found, |row| {
        Ok(Finding::new(
            "search",
            skill(&row.get::<_, String>(0)?),
            "search does not find it, for it is not in the index",
        ))
    })?;
    each(connection, LEFT, found, |row| {
        let place = format!("table skills_text, row {}", row.get::<_, i64>(0)?);
        Ok(Finding::new("search", place, "the index has a skill that is not there"))
    })
}

/// All embeddings have the same length.
fn embeddings(connection: &Connection, found: &mut Found) -> rusqlite::Result<()> {
    const SQL: &str = "SELECT min(length(vector)), max(length(vector)) FROM vectors WHERE vector IS NOT NULL
        HAVING min(length(vector)) <> max(length(vector)) OR max(length(vector) % 4) > 0 OR min(length(vector)) = 0
            OR max(typeof(vector) <> 'blob')";
    each(connection, SQL, found, |row| {
        let message = format!(
            "embeddings have from {} to {} bytes, not one length of 4 bytes a number",
            row.get::<_, i64>(0)?,
            row.get::<_, i64>(1)?
        );
        Ok(Finding::new("embedding", "table vectors", message))
    })
}

/// The kept results are as many, and as large, as they are counted to be.
fn results(connection: &Connection, found: &mut Found) -> rusqlite::Result<()> {
    const SQL: &str = "SELECT entries, bytes, count(number), coalesce(sum(length(kept) + 256), 0) AS size
        FROM results_total LEFT JOIN results GROUP BY results_total.rowid HAVING entries <> count(number) OR bytes <> size
        UNION ALL SELECT 0, 0, 0, 0 FROM (SELECT count(*) AS rows FROM results_total) WHERE rows <> 1";
    each(connection, SQL, found, |row| {
        let number = |index: usize| row.get::<_, i64>(index);
        let message = format!(
            "{} results of {} bytes are counted, {} of {} are there",
            number(0)?,
            number(1)?,
            number(2)?,
            number(3)?
        );
        Ok(Finding::new("results", "table results_total", message))
    })
}

/// Which check is meant.
pub(crate) fn depth_named(which: &str) -> Result<bool> {
    match which {
        "quick" => Ok(false),
        "full" => Ok(true),
        other => {
            Err(Error::new(Code::Invalid, format!("there is a `quick` and a `full` check, none called `{other}`"))
                .path("which")
                .rule("choice"))
        }
    }
}
