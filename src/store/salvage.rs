//! What can still be read of a damaged file.

use std::collections::{BTreeMap, HashSet};

use rusqlite::{Connection, OptionalExtension, Params, Row};

use super::damage::Finding;
use super::{COLUMNS, read_skill};
use crate::skill::Skill;

/// A skill of which the row can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Readable {
    key: i64,
    id: String,
    /// Its newest version.
    version: u32,
}

/// How many keys between two readable rows are tried one by one.
const TRIES: i64 = 1_000_000;

const ROWS: &str = "SELECT key, id, newest, removed_through FROM skills NOT INDEXED";

/// The newest versions of all skills that can still be read, each whole, as it was stored; and what is known of the others. A skill whose
/// contents are not those that its hash was made of is one of the others: it can be asked for by its id, by who knows what it was.
pub(super) fn records(connection: &Connection) -> (Vec<Skill>, Vec<Finding>) {
    let (found, mut findings) = readable(connection);
    let (mut skills, mut failed) = (Vec::new(), BTreeMap::new());
    for skill in found {
        match record(connection, "v.version = ?", skill.key, i64::from(skill.version)) {
            Ok(Some(record)) => skills.push(record),
            other => {
                failed.insert(skill.key, (skill, other));
            }
        }
    }
    // The index by which versions are found is a tree of its own. Where it is damaged, they are found by reading the table.
    let rows = if failed.is_empty() { BTreeMap::new() } else { version_rows(connection, &failed) };
    for (key, (skill, why)) in failed {
        match rows.get(&key).map(|row| record(connection, "v.rowid = ?", key, *row)) {
            Some(Ok(Some(record))) => skills.push(record),
            _ => {
                let why = match why {
                    Err(error) => error.to_string(),
                    Ok(_) => "its contents are not what was stored, or are not there".to_owned(),
                };
                findings.push(Finding::new(
                    "unreadable",
                    format!("skill `{}`, version {}", skill.id, skill.version),
                    why,
                ));
            }
        }
    }
    (skills, findings)
}

/// A record, if it is whole.
fn record(connection: &Connection, which: &str, key: i64, value: i64) -> rusqlite::Result<Option<Skill>> {
    let sql = format!(
        "SELECT {}, v.content_hash AS known_hash FROM skills s JOIN versions v ON v.skill = s.key WHERE s.key = ? AND {which}",
        *COLUMNS
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let read = statement
        .query_row([key, value], |row| Ok((read_skill(row)?, row.get::<_, Vec<u8>>("known_hash")?)))
        .optional()?;
    Ok(read.filter(|(skill, known)| skill.content_hash()[..] == known[..]).map(|(skill, _)| skill))
}

/// Where the newest versions of some skills stand in their table, as far as it can be read from both ends.
fn version_rows<T>(connection: &Connection, wanted: &BTreeMap<i64, (Readable, T)>) -> BTreeMap<i64, i64> {
    let mut rows_of = BTreeMap::new();
    for order in ["ASC", "DESC"] {
        let sql = format!("SELECT skill, version, rowid FROM versions NOT INDEXED ORDER BY rowid {order}");
        let mut walk = || -> rusqlite::Result<()> {
            let mut statement = connection.prepare(&sql)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let (Ok(key), Ok(version)) = (row.get::<_, i64>(0), row.get::<_, u32>(1)) else { continue };
                if wanted.get(&key).is_some_and(|(skill, _)| skill.version == version) {
                    rows_of.insert(key, row.get(2)?);
                }
            }
            Ok(())
        };
        if walk().is_ok() {
            break;
        }
    }
    rows_of
}

/// The skills whose rows can be read, by key, each once, and what is known of the others.
///
/// The table is read from its beginning up to the first damaged page, then from its end down to the last. Between the two every key is asked for
/// by itself, for the pages in between are not all damaged. At last the index of ids tells the names of those that were not found.
/// What is found here has a row; whether its version can be read as well is seen when it is read.
fn readable(connection: &Connection) -> (Vec<Readable>, Vec<Finding>) {
    let mut salvage = Salvage::new(connection);
    let Some(error) = salvage.walk(&format!("{ROWS} ORDER BY key"), []) else {
        return salvage.finish();
    };
    salvage.findings.push(Finding::unreadable("table skills", &error));
    let low = salvage.rows.last_key_value().map_or(i64::MIN, |(key, _)| *key);
    let _ = salvage.walk(&format!("{ROWS} WHERE key > ? ORDER BY key DESC"), [low]);
    let named = salvage.named();
    salvage.try_between(low, &named);
    salvage.tell_lost(&named);
    salvage.finish()
}

struct Salvage<'a> {
    connection: &'a Connection,
    /// Every row that could be read, removed skills (`None`) included.
    rows: BTreeMap<i64, Option<Readable>>,
    ids: HashSet<String>,
    findings: Vec<Finding>,
}

impl<'a> Salvage<'a> {
    fn new(connection: &'a Connection) -> Self {
        Salvage { connection, rows: BTreeMap::new(), ids: HashSet::new(), findings: Vec::new() }
    }

    /// Takes rows until there are no more, or until one cannot be read.
    fn walk(&mut self, sql: &str, params: impl Params) -> Option<rusqlite::Error> {
        let walk = || -> rusqlite::Result<()> {
            let mut statement = self.connection.prepare(sql)?;
            let mut rows = statement.query(params)?;
            while let Some(row) = rows.next()? {
                take(row, &mut self.rows, &mut self.ids, &mut self.findings);
            }
            Ok(())
        };
        walk().err()
    }

    /// Ids and keys by the index of ids, which is another tree with other pages.
    fn named(&self) -> BTreeMap<i64, String> {
        let mut named = BTreeMap::new();
        for order in ["ASC", "DESC"] {
            let sql = format!("SELECT key, id FROM skills INDEXED BY sqlite_autoindex_skills_1 ORDER BY id {order}");
            let mut walk = || -> rusqlite::Result<()> {
                let mut statement = self.connection.prepare(&sql)?;
                let mut rows = statement.query([])?;
                while let Some(row) = rows.next()? {
                    if let (Ok(key), Ok(id)) = (row.get(0), row.get(1)) {
                        named.insert(key, id);
                    }
                }
                Ok(())
            };
            if walk().is_ok() {
                break;
            }
        }
        named
    }

    /// Asks for each key after `low` that was not found yet: those that the index knows, and those in between.
    fn try_between(&mut self, low: i64, named: &BTreeMap<i64, String>) {
        let first_above = self.rows.range(low.saturating_add(1)..).next().map(|(key, _)| *key);
        let between =
            first_above.map_or(0..0, |high| low.max(0).saturating_add(1)..high.min(low.max(0).saturating_add(TRIES)));
        let keys: Vec<i64> = between.chain(named.keys().copied()).filter(|key| !self.rows.contains_key(key)).collect();
        let sql = format!("{ROWS} WHERE key = ?");
        let Ok(mut statement) = self.connection.prepare(&sql) else { return };
        for key in keys {
            let Ok(mut rows) = statement.query([key]) else { continue };
            if let Ok(Some(row)) = rows.next() {
                take(row, &mut self.rows, &mut self.ids, &mut self.findings);
            }
        }
    }

    /// Names the skills that the index knows and the table does not give.
    fn tell_lost(&mut self, named: &BTreeMap<i64, String>) {
        let lost = named.iter().filter(|(key, id)| !self.rows.contains_key(key) && !self.ids.contains(*id));
        let told = lost.map(|(_, id)| Finding::new("unreadable", format!("skill `{id}`"), "its row cannot be read"));
        self.findings.extend(told);
    }

    fn finish(self) -> (Vec<Readable>, Vec<Finding>) {
        (self.rows.into_values().flatten().collect(), self.findings)
    }
}

/// Keeps a row, or says what is wrong with it.
fn take(row: &Row, rows: &mut BTreeMap<i64, Option<Readable>>, ids: &mut HashSet<String>, findings: &mut Vec<Finding>) {
    let Ok(key) = row.get::<_, i64>(0) else { return };
    match read(row, key) {
        Err(error) => {
            rows.insert(key, None);
            findings.push(Finding::unreadable(format!("table skills, row {key}"), &error));
        }
        Ok((readable, _)) if rows.contains_key(&key) || !ids.insert(readable.id.clone()) => {}
        Ok((readable, is_there)) => {
            rows.insert(key, is_there.then_some(readable));
        }
    }
}

fn read(row: &Row, key: i64) -> rusqlite::Result<(Readable, bool)> {
    let (version, hidden) = (row.get::<_, u32>(2)?, row.get::<_, u32>(3)?);
    Ok((Readable { key, id: row.get(1)?, version }, version > hidden))
}
