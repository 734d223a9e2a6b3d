//! The store room: skills on disk, in one SQLite file.
//!
//! A skill is one row of what changes in place and one row for each version of its content, which never changes again.
//! Every change goes through the one `Writer`: when a put returns, the skill is on the disk. Removing hides all
//! versions up to the newest; a later put goes on counting. `put.rs` is what a put does; `usage.rs` and `results.rs` are what is
//! written behind: counts, and results that outlive the process. `search.rs` finds skills.

mod backup;
mod check;
pub mod connection;
mod damage;
#[allow(unsafe_code, reason = "SQLite has no safe door to the page that its processes share")]
mod generation;
mod keeping;
mod numbers;
mod opening;
mod origin;
mod place;
pub mod pool;
mod put;
mod results;
mod salvage;
mod schema;
mod search;
mod sqlite;
mod usage;
pub mod vectors;
mod watch;
mod writer;

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime};

use rusqlite::{Connection, OptionalExtension, Row, params};

pub(crate) use damage::{Finding, REMEDY as DAMAGE_REMEDY};
pub use generation::Generation;
pub use put::Put;
pub use results::{Key as ResultKey, StoredResult};
pub use search::{Filter, Match, Query};
pub use usage::Verdict;
pub(crate) use watch::Health;

use crate::config::Config;
use crate::error::{Code, Error, Result};
use crate::held::Held;
use crate::json::Value;
use crate::monitor::Monitor;
use crate::monitor::event::Severity;
use crate::outcome::Outcome;
use crate::skill::{FIELDS, Outline, Place, STATES, Skill, Usage};
use check::Report;
use connection::ConnectionPool;
use opening::Opened;
use origin::Origin;
use results::ResultLog;
use sqlite::translate;
use usage::{Counted, UsageLog};
use watch::Watch;
use writer::{Deferred, Home, Writer};

/// Every column of a record, in the order in which [`read_skill`] takes them by name.
static COLUMNS: LazyLock<String> = LazyLock::new(|| {
    let fields =
        FIELDS.iter().map(|field| format!("{}.{}", if field.place == Place::Profile { 's' } else { 'v' }, field.name));
    let own =
        "s.id, v.version, v.code, s.usage_count, s.success_count, s.last_used, s.created_at, s.updated_at, v.symbols";
    std::iter::once(own.to_owned()).chain(fields).collect::<Vec<_>>().join(", ")
});

/// How long a reader waits for counts to be written before it reads without them.
const COUNTS_PATIENCE: Duration = Duration::from_millis(100);

/// The skills of one database. Shared freely between threads; dropping it writes what waits.
#[derive(Debug)]
pub struct Store {
    /// Nothing for a file that is only read.
    writer: Option<Writer>,
    behind: Arc<Behind>,
    watch: Arc<Watch>,
    pool: Arc<ConnectionPool>,
    vectors: search::Vectors,
    /// After the pool: its connection is the last to be closed.
    generation: Arc<generation::Source>,
    /// Nothing for a database in memory.
    origin: Option<Origin>,
    /// After every connection: see `held.rs`.
    _held: Option<Held>,
}

/// What is written behind.
#[derive(Debug)]
struct Behind {
    usage: UsageLog,
    results: ResultLog,
    /// Nothing is written into a file with broken pages.
    watch: Arc<Watch>,
    monitor: Arc<Monitor>,
}

impl Deferred for Behind {
    fn due(&self) -> Option<Instant> {
        let due = [self.usage.due(), self.results.due()].into_iter().flatten().min();
        due.filter(|_| !self.watch.is_broken())
    }

    fn write(&self, connection: &Connection) -> Result<()> {
        if self.watch.is_broken() {
            return Ok(());
        }
        self.usage.write(connection)?;
        // What is wrong with kept results must not keep counts from being written.
        if writer::in_savepoint(connection, |connection| self.results.write(connection)).is_err() {
            self.results.settle(false);
        }
        Ok(())
    }

    fn settle(&self, written: Result<()>) {
        self.results.settle(written.is_ok());
        for set_aside in self.usage.settle(written.is_ok()) {
            let message = format!(
                "skill `{}` is quarantined: version {} failed {} times in a row",
                set_aside.id, set_aside.version, set_aside.failures
            );
            let fields = vec![
                ("skill", Value::from(&*set_aside.id)),
                ("version", Value::from(set_aside.version)),
                ("failures", Value::from(set_aside.failures)),
            ];
            self.monitor.event("skill_quarantined", Severity::Warning, &message, fields);
        }
        // That somebody else writes is nothing to be told of: it ends, and the counts wait on.
        if let Some(error) = written.err().filter(|error| error.code() != Code::Busy && self.usage.lag().calls > 0) {
            self.monitor.event_of("usage_unwritten", Severity::Warning, error.code().name(), || {
                let message = format!("how often skills were used cannot be written now: {}", error.message());
                (message, vec![("code", Value::from(error.code().name()))])
            });
        }
    }
}

/// How many calls of a version ended in one way on one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DayCount {
    /// Days since 1970-01-01, UTC.
    pub day: u32,
    /// The skill.
    pub skill: String,
    /// Its version.
    pub version: u32,
    /// How they ended.
    pub outcome: Outcome,
    /// How many.
    pub count: u64,
}

impl DayCount {
    /// `{"day", "skill", "version", "outcome", "count"}`, the day as `2026-01-31`.
    pub fn to_value(&self) -> Value {
        let day = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::from(self.day) * 86_400);
        let day = humantime::format_rfc3339_seconds(day).to_string();
        Value::object([
            ("day", Value::from(day.split('T').next().unwrap_or_default())),
            ("skill", Value::from(self.skill.as_str())),
            ("version", Value::from(self.version)),
            ("outcome", Value::from(self.outcome.name())),
            ("count", Value::from(self.count)),
        ])
    }
}

/// Which stored version answers to an id, and whether its record is still the one that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Revision {
    /// The skill's row.
    pub key: i64,
    /// The version asked for, or the newest.
    pub version: u32,
    /// Drawn anew by every change of the record: a count would be the same again after a backup was restored.
    pub revision: i64,
}

impl Store {
    /// Opens or creates a database. `:memory:` is private to this store and goes with it. Starts a thread.
    pub fn open(path: &str, config: &Config, monitor: &Arc<Monitor>) -> Result<Self> {
        let opened = if path == ":memory:" { None } else { Some(opening::open(path, config)?) };
        let origin = opened.as_ref().map(|opened| opened.origin.clone());
        let pool = Arc::new(ConnectionPool::new(origin.as_ref(), config, pool_alerts(monitor)));
        let watch = Arc::new(Watch::default());
        let (generation, held) = match opened {
            None => {
                schema::migrate(&mut *pool.get()?, |_| Ok(None))?;
                (generation::Source::private(), None)
            }
            Some(Opened { connection, findings, held, .. }) => {
                if !findings.is_empty() {
                    watch.learn(&Report { findings, took: Duration::ZERO });
                }
                (generation::Source::shared(connection), Some(held))
            }
        };
        let generation = Arc::new(generation);
        let is_written = origin.as_ref().is_none_or(|origin| !origin.is_read_only());
        let behind = Arc::new(Behind {
            usage: UsageLog::new(config.store_quarantine_after),
            results: ResultLog::new(config, origin.is_some() && is_written),
            watch: watch.clone(),
            monitor: monitor.clone(),
        });
        let home = match &origin {
            None => Home::Memory,
            Some(origin) => {
                Home::File { connection: Box::new(origin.connect().map_err(translate)?), log: origin.beside("-wal") }
            }
        };
        let start = || Writer::start(home, &pool, &generation, behind.clone());
        let writer = is_written.then(start).transpose()?;
        let vectors = search::Vectors::new(&config.store_vectors);
        Ok(Store { writer, behind, watch, pool, vectors, generation, origin, _held: held })
    }

    /// What the contents are known by now, in a few nanoseconds. `None` if that cannot be known: ask the database. Whoever
    /// keeps what the database said keeps it under a generation asked for before.
    pub fn generation(&self) -> Option<Generation> {
        self.generation.read()
    }

    /// What changes the database; an error where nothing may.
    fn writer(&self) -> Result<&Writer> {
        self.check_writable()?;
        self.writer.as_ref().ok_or_else(|| Error::new(Code::Unsupported, "the library was opened for reading"))
    }

    /// Stores a checked draft and says which version it is. `is_new` tells whether its content was new.
    pub fn put(&self, draft: &Skill, outline: &Outline) -> Result<Put> {
        let (draft, outline) = (draft.clone(), outline.clone());
        self.writer()?.write(move |transaction| put::put(transaction, &draft, &outline))
    }

    /// Where a skill stands now; version 0 is the newest.
    pub fn revision(&self, id: &str, version: u32) -> Result<Revision> {
        Ok(self.look(id, version)?.0)
    }

    /// The same, and the epoch of the kept answers: it is another one whenever any process has cleared them.
    pub fn look(&self, id: &str, version: u32) -> Result<(Revision, i64)> {
        let connection = self.pool.get()?;
        revision(&connection, id, version)
    }

    /// The record at a revision.
    pub fn read(&self, revision: Revision) -> Result<Skill> {
        let connection = self.pool.get()?;
        read(&connection, revision)
    }

    /// The record as it is now, counters and the outcomes of this version included.
    pub fn get(&self, id: &str, version: u32) -> Result<Skill> {
        static SQL: LazyLock<String> = LazyLock::new(|| {
            let columns = &*COLUMNS;
            format!(
                "SELECT {columns}, s.key FROM skills s JOIN versions v
                 ON v.skill = s.key AND v.version = CASE ?2 WHEN 0 THEN s.newest ELSE ?2 END
                 WHERE s.id = ?1 AND v.version > s.removed_through"
            )
        });
        self.catch_up();
        let connection = self.pool.get()?;
        let mut statement = connection.prepare_cached(&SQL).map_err(translate)?;
        let found = statement.query_row(params![id, version], |row| Ok((read_skill(row)?, row.get("key")?)));
        let Some((mut skill, key)) = found.optional().map_err(translate)? else {
            // What is not there is said in more words than this statement has.
            return Err(revision(&connection, id, version).err().unwrap_or_else(|| no_skill(id)));
        };
        if skill.usage.usage_count > 0 {
            // What is damaged there must not take the record with it.
            let outcomes = outcomes(&connection, key, skill.version);
            skill.usage.outcomes =
                outcomes.or_else(|error| if error.code() == Code::Corrupt { Ok(Vec::new()) } else { Err(error) })?;
        }
        Ok(skill)
    }

    /// How many numbers the embeddings of all other skills have, if there are any.
    pub fn dimension_but(&self, id: &str) -> Result<Option<usize>> {
        let connection = self.pool.get()?;
        let sql = "SELECT key FROM skills WHERE id = ?";
        let key = connection.query_row(sql, [id], |row| row.get(0)).optional().map_err(translate)?;
        search::stored_dimension(&connection, key)
    }

    /// What a skill is found by beside words, if there is something.
    pub fn embedding(&self, id: &str) -> Result<Option<Vec<f32>>> {
        let connection = self.pool.get()?;
        let key = revision(&connection, id, 0)?.0.key;
        search::stored_vector(&connection, key)
    }

    /// Hides a skill and all its versions, and forgets its results.
    pub fn remove(&self, id: &str) -> Result<()> {
        let owned = id.to_owned();
        self.writer()?.write(move |transaction| {
            put::remove(transaction, &owned)?;
            results::clear(transaction, Some(&owned))
        })?;
        self.behind.results.forget(Some(id));
        Ok(())
    }

    /// Sets what a skill may be, one of [`STATES`]. Failures in a row are counted from the beginning.
    pub fn set_state(&self, id: &str, state: &str) -> Result<()> {
        if !STATES.contains(&state) {
            let message = format!("a skill's state is one of: {}; not `{state}`", STATES.join(", "));
            return Err(Error::invalid(message).path("state"));
        }
        let (id, state) = (id.to_owned(), state.to_owned());
        // What was counted before does not count against the new state.
        self.writer()?.write(move |transaction| put::set_state(transaction, &id, &state))
    }

    /// Counts a call. Written behind, within about a second; but a failure that may set the skill aside is written before this returns,
    /// unless somebody else writes for long.
    pub fn count_use(&self, id: &Arc<str>, version: u32, outcome: Outcome, verdict: Verdict) {
        match self.behind.usage.count(id, version, outcome, verdict) {
            Counted::Another => {}
            Counted::First => self.remind(),
            Counted::Failure => self.catch_up(),
        }
    }

    /// Has counts written, so that what is read next has them, unless others write for long.
    fn catch_up(&self) {
        if !self.behind.usage.is_empty()
            && let Ok(writer) = self.writer()
        {
            writer.settle(COUNTS_PATIENCE);
        }
    }

    /// Makes the writer look when what waits is due.
    fn remind(&self) {
        if let Some(writer) = &self.writer {
            writer.remind();
        }
    }

    /// Whether results are kept here at all.
    pub fn keeps_results(&self) -> bool {
        self.behind.results.is_on()
    }

    /// An answer that was kept by this process or one before it, and for how long it is good.
    pub fn find_result(&self, key: &ResultKey, epoch: i64) -> Option<(StoredResult, Duration)> {
        self.behind.results.find(|| results::read(&*self.pool.get()?, key), key, epoch)
    }

    /// Has an answer, [encoded](StoredResult::encode), written behind, of a run that began in an epoch; nothing if it is not to be kept, so that an
    /// older one must go. Takes a lock for a few memory accesses.
    pub fn keep_result(&self, skill: &Arc<str>, key: ResultKey, kept: Option<Vec<u8>>, ttl: Duration, epoch: i64) {
        if !self.watch.is_broken() && self.behind.results.keep(skill, key, kept, ttl, epoch) {
            self.remind();
        }
    }

    /// Takes all kept answers away, those that other processes have not written yet too; says which epoch begins. Nothing of that for a
    /// database in memory or one that is only read.
    pub fn clear_results(&self) -> Result<Option<i64>> {
        if self.origin.as_ref().is_none_or(Origin::is_read_only) {
            return Ok(None);
        }
        let epoch = self.writer()?.write(|transaction| {
            results::clear(transaction, None)?;
            Ok(results::total(transaction)?.epoch)
        })?;
        self.behind.results.forget(None);
        Ok(Some(epoch))
    }

    /// Takes away kept answers that are no longer good; says how many.
    pub fn sweep_results(&self) -> Result<u64> {
        self.writer()?.write(|transaction| results::sweep_expired(transaction, u64::from(u32::MAX)))
    }

    /// Makes the index of words anew from the skills; says how many it has.
    pub fn rebuild_index(&self) -> Result<u64> {
        self.writer()?.write(search::rebuild)
    }

    /// How the calls of every skill that is there, or of one, ended, by day (UTC, counted from 1970), skill, version and outcome, the oldest
    /// day first. [`Code::NotFound`] for a skill that is not there.
    pub fn outcomes_by_day(&self, id: Option<&str>) -> Result<Vec<DayCount>> {
        self.catch_up();
        let connection = self.pool.get()?;
        if let Some(id) = id {
            revision(&connection, id, 0)?;
        }
        let sql = "SELECT o.day, s.id, o.version, o.outcome, o.count FROM outcomes o JOIN skills s ON s.key = o.skill
                   WHERE s.newest > s.removed_through AND o.version > s.removed_through AND (?1 IS NULL OR s.id = ?1)
                   -- What somebody else wrote has no date.
                   AND o.day BETWEEN 0 AND 2932896
                   ORDER BY o.day, s.id, o.version, o.outcome";
        let mut statement = connection.prepare_cached(sql).map_err(translate)?;
        let rows =
            statement.query_map([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)));
        let rows: Vec<(u32, String, u32, usize, u64)> = rows.and_then(Iterator::collect).map_err(translate)?;
        let known = |(day, skill, version, outcome, count)| {
            Some(DayCount { day, skill, version, outcome: *Outcome::ALL.get(outcome)?, count })
        };
        Ok(rows.into_iter().filter_map(known).collect())
    }

    /// What the page caches of the connections take at most, in bytes; nothing for a database in memory.
    pub fn pool_memory(&self) -> Option<u64> {
        /// SQLite's own bound for each connection, which the pool leaves as it is.
        const PAGE_CACHE: u64 = 2000 * 1024;
        let file = self.origin.as_ref()?.beside("");
        let size = std::fs::metadata(file).map_or(PAGE_CACHE, |file| file.len());
        Some(size.min(PAGE_CACHE).saturating_mul(self.pool.stats().open as u64))
    }

    /// What the embeddings take in memory, in bytes.
    pub fn vector_memory(&self) -> u64 {
        self.vectors.bytes()
    }

    /// Lets go of the embeddings in memory until the next search; says how many bytes they took.
    pub fn unload_vectors(&self) -> u64 {
        self.vectors.unload()
    }

    /// The pool's numbers.
    pub fn pool_stats(&self) -> pool::PoolStats {
        self.pool.stats()
    }

    /// Writes what waits, and refuses writing from now on. Ends the threads. May be called again.
    pub fn close(&self) {
        self.watch.stop();
        if let Some(writer) = &self.writer {
            writer.close();
        }
    }
}

impl Drop for Store {
    /// Before any connection goes: the threads have some.
    fn drop(&mut self) {
        self.close();
    }
}

/// Makes events of what the pool has to say.
fn pool_alerts(monitor: &Arc<Monitor>) -> pool::Sink {
    let monitor = monitor.clone();
    Box::new(move |alert: pool::Alert| {
        monitor.event(alert.kind.name(), Severity::Warning, &alert.message, alert.fields);
    })
}

fn no_skill(id: &str) -> Error {
    Error::new(Code::NotFound, format!("there is no skill `{id}`")).path(id)
}

/// Where a skill stands, and the epoch of the kept answers.
fn revision(connection: &Connection, id: &str, version: u32) -> Result<(Revision, i64)> {
    let mut statement = connection
        .prepare_cached(
            "SELECT key, newest, removed_through, revision, coalesce((SELECT CAST(epoch AS INTEGER) FROM results_total), 0)
             FROM skills WHERE id = ?",
        )
        .map_err(translate)?;
    let row = statement
        .query_row([id], |row| {
            Ok((row.get(0)?, row.get::<_, u32>(1)?, row.get::<_, u32>(2)?, row.get(3)?, row.get(4)?))
        })
        .optional()
        .map_err(translate)?;
    let Some((key, newest, hidden, revision, epoch)) = row.filter(|(_, newest, hidden, ..)| newest > hidden) else {
        return Err(no_skill(id));
    };
    let wanted = if version == 0 { newest } else { version };
    if wanted > newest || wanted <= hidden {
        let message = format!("skill `{id}` has no version {version}; the newest is {newest}");
        return Err(Error::new(Code::NotFound, message).path(id));
    }
    Ok((Revision { key, version: wanted, revision }, epoch))
}

fn read(connection: &Connection, revision: Revision) -> Result<Skill> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        let columns = &*COLUMNS;
        format!("SELECT {columns} FROM skills s JOIN versions v ON v.skill = s.key WHERE s.key = ? AND v.version = ?")
    });
    let mut statement = connection.prepare_cached(&SQL).map_err(translate)?;
    statement.query_row(params![revision.key, revision.version], read_skill).map_err(translate)
}

/// How the calls of a version ended.
fn outcomes(connection: &Connection, key: i64, version: u32) -> Result<Vec<(Outcome, u64)>> {
    let sql =
        "SELECT outcome, sum(count) FROM outcomes WHERE skill = ? AND version = ? GROUP BY outcome ORDER BY outcome";
    let mut statement = connection.prepare_cached(sql).map_err(translate)?;
    let rows = statement.query_map(params![key, version], |row| Ok((row.get(0)?, row.get(1)?)));
    let rows: Vec<(usize, u64)> = rows.and_then(Iterator::collect).map_err(translate)?;
    Ok(rows.into_iter().filter_map(|(number, count)| Some((*Outcome::ALL.get(number)?, count))).collect())
}

/// A record from [`COLUMNS`]. By place: looking up names costs more than reading.
fn read_skill(row: &Row) -> rusqlite::Result<Skill> {
    const OWN: usize = 9;
    let mut skill = Skill::new(row.get::<_, String>(0)?, row.get::<_, String>(2)?);
    skill.version = row.get(1)?;
    skill.usage =
        Usage { usage_count: row.get(3)?, success_count: row.get(4)?, last_used: row.get(5)?, outcomes: Vec::new() };
    (skill.created_at, skill.updated_at, skill.symbols) = (row.get(6)?, row.get(7)?, row.get(8)?);
    for (place, (slot, field)) in skill.fields.iter_mut().zip(&FIELDS).enumerate() {
        let text: Option<String> = row.get(OWN + place)?;
        *slot = text.map(|text| if field.is_text() { Value::String(text) } else { stored_json(&text) });
    }
    Ok(skill)
}

/// We wrote it, so it is JSON; if somebody edited the file by hand it is shown as the text it is.
fn stored_json(text: &str) -> Value {
    Value::parse(text).unwrap_or_else(|_| Value::from(text))
}

#[cfg(test)]
pub(crate) mod tests;
