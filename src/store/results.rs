//! The second level of the result cache: answers that outlive the process.
//!
//! The keys are those of memory with what one process takes for granted, so what is found here is what a run would find out again. Answers
//! gather in memory and are written behind, with the counters; a killed process loses at most the last second of them, and a row is there whole or
//! not at all. Each row carries a checksum over key and contents, and one that does not hold is no answer: it is skipped and goes when it is replaced
//! or swept.
//!
//! What must never come back is an answer that a later one, or a clearing, has replaced:
//!
//! * An answer that is not kept (too large, or the disk fails) is noted all the same, so that an older one in the database goes; if even that cannot be
//!   noted, nothing is looked for in the database any more.
//! * Clearing begins another *epoch*, a number in the database. Each answer has that in which its run began; it is found by runs of the same epoch,
//!   and written only while the epoch lasts, whichever process has cleared.
//!
//! Times are those of the wall clock, for no other outlives a process. A row from the future (the clock was set back) is no
//! answer either: how old it is cannot be known.
//!
//! Bounded by entries and bytes; each write that adds rows takes away expired ones first and then the oldest, some at a time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, params};

use super::sqlite::translate;
use super::usage::{LAG, now_ms};
use crate::config::Config;
use crate::error::Result;
use crate::json::Value;

/// What a row takes besides its contents, as the triggers of the schema count it.
const ROW: u64 = 256;
/// More than this does not wait to be written: then it is not kept at all.
const MOST_WAITING: usize = 32 << 20;
/// Waiting answers of so many bytes are due at once.
const DUE_AT: usize = 4 << 20;
/// How many rows one statement sweeps, and how many expired ones a write does.
const SWEPT_AT_ONCE: u64 = 512;
const SWEEPS_A_WRITE: usize = 4;
const EXPIRED_A_WRITE: u64 = 512;
/// The first byte of a row's contents.
const FORMAT: u8 = 1;

/// An answer as it is stored. What its parts mean is whose who keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoredResult {
    /// The answer, the streams, and anything else there is to say.
    pub parts: [Vec<u8>; 4],
    /// Which of the streams were cut, as bits.
    pub flags: u8,
}

impl StoredResult {
    /// As a row has it; nothing for a part of more than 4 GiB.
    pub fn encode(&self) -> Option<Vec<u8>> {
        let size: usize = self.parts.iter().map(Vec::len).sum();
        let mut bytes = Vec::with_capacity(2 + 4 * self.parts.len() + size);
        bytes.extend([FORMAT, self.flags]);
        for part in &self.parts {
            bytes.extend(u32::try_from(part.len()).ok()?.to_le_bytes());
        }
        self.parts.iter().for_each(|part| bytes.extend(part));
        Some(bytes)
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (&[FORMAT, flags], rest) = bytes.split_first_chunk::<2>()? else { return None };
        let (lengths, mut rest) = rest.split_first_chunk::<16>()?;
        let mut parts: [Vec<u8>; 4] = Default::default();
        for (part, length) in parts.iter_mut().zip(lengths.chunks_exact(4)) {
            let length = u32::from_le_bytes(length.try_into().ok()?);
            let (taken, left) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            *part = taken.to_vec();
            rest = left;
        }
        rest.is_empty().then_some(StoredResult { parts, flags })
    }
}

/// A row on its way to the database.
#[derive(Debug)]
struct Row {
    skill: Arc<str>,
    /// Nothing if the answer is not to be kept: then an older one in the database must go.
    kept: Option<Vec<u8>>,
    stored_ms: i64,
    expires_ms: i64,
    /// Which clearing the database had seen when the run began.
    epoch: i64,
}

impl Row {
    /// What it takes, roughly.
    fn size(&self) -> usize {
        ROW as usize + self.kept.as_ref().map_or(0, Vec::len)
    }
}

/// Answers that wait to be written, and how to find those that are. Shared freely between threads.
#[derive(Debug)]
pub(super) struct ResultLog {
    waiting: Mutex<Waiting>,
    max_entries: u64,
    max_bytes: u64,
    hits: AtomicU64,
    misses: AtomicU64,
    refused: AtomicU64,
    damaged: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    rows: HashMap<Key, Arc<Row>>,
    /// What the writer has taken and not yet settled.
    in_flight: Arc<HashMap<Key, Arc<Row>>>,
    bytes: usize,
    due: Option<Instant>,
    /// Answers were found out that could not even be noted: what the database has may be older than them.
    is_lost: bool,
}

impl Waiting {
    /// Says whether the writer should look.
    fn add(&mut self, key: Key, row: Row) -> bool {
        self.bytes += row.size();
        if let Some(replaced) = self.rows.insert(key, Arc::new(row)) {
            self.bytes -= replaced.size();
        }
        let (was_due, now) = (self.due, Instant::now());
        let due = if self.bytes >= DUE_AT { now } else { now + LAG };
        let due = was_due.map_or(due, |was_due| was_due.min(due));
        self.due = Some(due);
        was_due.is_none_or(|was_due| due < was_due)
    }

    fn drop_row(&mut self, key: &Key) {
        self.bytes -= self.rows.remove(key).map_or(0, |row| row.size());
    }

    /// Remembers that an answer in the database may be older than one that was found out since.
    fn add_gone(&mut self, key: Key, row: &Row) {
        if self.rows.contains_key(&key) {
            return;
        }
        if self.bytes >= MOST_WAITING {
            self.is_lost = true;
            return;
        }
        let (skill, stored_ms, expires_ms, epoch) = (row.skill.clone(), row.stored_ms, row.expires_ms, row.epoch);
        self.add(key, Row { skill, kept: None, stored_ms, expires_ms, epoch });
    }

    /// Takes what one write may have: a put may be waiting for it.
    fn take(&mut self) -> HashMap<Key, Arc<Row>> {
        let taken = if self.bytes <= DUE_AT {
            std::mem::take(&mut self.rows)
        } else {
            let mut size = 0;
            let mut fits = |row: &Arc<Row>| {
                size += row.size();
                size <= DUE_AT || size == row.size()
            };
            let keys: Vec<Key> = self.rows.iter().map_while(|(key, row)| fits(row).then_some(*key)).collect();
            keys.into_iter().filter_map(|key| self.rows.remove_entry(&key)).collect()
        };
        self.bytes = self.rows.values().map(|row| row.size()).sum();
        self.due = (!self.rows.is_empty()).then(Instant::now);
        taken
    }
}

/// A key of the result cache.
pub type Key = [u8; 32];

impl ResultLog {
    /// Nothing is kept if the options say so, or if there is no file.
    pub fn new(config: &Config, has_file: bool) -> Self {
        let is_on = has_file && config.store_results_enabled;
        ResultLog {
            waiting: Mutex::default(),
            max_entries: if is_on { config.store_results_max_entries } else { 0 },
            max_bytes: if is_on { config.store_results_max_mb << 20 } else { 0 },
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            damaged: AtomicU64::new(0),
        }
    }

    pub fn is_on(&self) -> bool {
        self.max_entries > 0 && self.max_bytes > 0
    }

    /// Has an encoded answer written behind, of a run that began in an epoch; nothing if it is not to be kept, so that an older one must go. Says
    /// whether the writer should look.
    pub fn keep(&self, skill: &Arc<str>, key: Key, kept: Option<Vec<u8>>, ttl: Duration, epoch: i64) -> bool {
        if !self.is_on() {
            return false;
        }
        let (stored_ms, skill) = (now_ms(), skill.clone());
        let expires_ms = stored_ms.saturating_add(i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX));
        let row = Row { skill, kept, stored_ms, expires_ms, epoch };
        let mut waiting = self.lock();
        let is_refused = row.size() as u64 > self.max_bytes / 8 || waiting.bytes + row.size() > MOST_WAITING;
        if is_refused || row.kept.is_none() {
            self.refused.fetch_add(u64::from(is_refused), Ordering::Relaxed);
            waiting.drop_row(&key);
            waiting.add_gone(key, &row);
            return true;
        }
        waiting.add(key, row)
    }

    /// The answer of a key for a run that begins in an epoch, and for how long it is good.
    pub fn find(
        &self,
        connection: impl FnOnce() -> Result<Option<StoredRow>>,
        key: &Key,
        epoch: i64,
    ) -> Option<(StoredResult, Duration)> {
        let (waiting, is_lost) = {
            let waiting = self.lock();
            let row = waiting.rows.get(key).or_else(|| waiting.in_flight.get(key)).cloned();
            (row.filter(|row| row.epoch == epoch), waiting.is_lost)
        };
        let now = now_ms();
        let left = |stored_ms: i64, expires_ms: i64| {
            let left = (stored_ms <= now).then(|| expires_ms.saturating_sub(now)).filter(|left| *left > 0)?;
            u64::try_from(left).ok().map(Duration::from_millis)
        };
        let found = match waiting {
            Some(row) => row.kept.as_deref().and_then(StoredResult::decode).zip(left(row.stored_ms, row.expires_ms)),
            None if is_lost => None,
            // A database that does not answer now has no answer.
            None => connection().ok().flatten().and_then(|row| {
                let is_whole = row.checksum == checksum(key, &row.kept);
                self.damaged.fetch_add(u64::from(!is_whole), Ordering::Relaxed);
                let result = is_whole.then(|| StoredResult::decode(&row.kept)).flatten();
                result.zip(left(row.stored_ms, row.expires_ms))
            }),
        };
        let counter = if found.is_some() { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    pub fn due(&self) -> Option<Instant> {
        self.lock().due
    }

    /// Forgets what waits: of one skill, or all.
    pub fn forget(&self, skill: Option<&str>) {
        let mut waiting = self.lock();
        let stays = |row: &Row| skill.is_some_and(|skill| *row.skill != *skill);
        waiting.rows.retain(|_, row| stays(row));
        waiting.bytes = waiting.rows.values().map(|row| row.size()).sum();
        if waiting.rows.is_empty() {
            waiting.due = None;
        }
        waiting.is_lost &= skill.is_some();
    }

    /// Writes what waits, or the first part of much, and makes room. [`settle`](ResultLog::settle) has to follow.
    ///
    /// What was found out by a run that began before any process cleared the results is not written: the epoch in the database says so.
    pub fn write(&self, connection: &Connection) -> Result<()> {
        let epoch = total(connection)?.epoch;
        let rows = {
            let mut waiting = self.lock();
            waiting.rows.retain(|_, row| row.epoch == epoch);
            waiting.bytes = waiting.rows.values().map(|row| row.size()).sum();
            waiting.in_flight = Arc::new(waiting.take());
            waiting.in_flight.clone()
        };
        if rows.is_empty() {
            return Ok(());
        }
        // What another process has found out later stays.
        let sql = "DELETE FROM results WHERE key = ? AND stored_ms <= ?";
        let mut delete = connection.prepare_cached(sql).map_err(translate)?;
        let mut insert = connection
            .prepare_cached(
                "INSERT OR IGNORE INTO results (key, skill, kept, checksum, stored_ms, expires_ms) VALUES (?, ?, ?, ?, ?, ?)",
            )
            .map_err(translate)?;
        for (key, row) in &*rows {
            delete.execute(params![key, row.stored_ms]).map_err(translate)?;
            if let Some(kept) = &row.kept {
                let checksum = checksum(key, kept);
                insert
                    .execute(params![key, row.skill, kept, checksum, row.stored_ms, row.expires_ms])
                    .map_err(translate)?;
            }
        }
        sweep_expired(connection, EXPIRED_A_WRITE)?;
        self.sweep_oldest(connection)
    }

    /// Says whether what was taken is in the database. If not, answers are forgotten, for they can be found out again; but that the database has
    /// older ones is not, and what was not taken waits on.
    pub fn settle(&self, is_written: bool) {
        let mut waiting = self.lock();
        let taken = std::mem::take(&mut waiting.in_flight);
        if is_written {
            return;
        }
        for (key, row) in taken.iter() {
            waiting.add_gone(*key, row);
        }
        waiting.due = (!waiting.rows.is_empty()).then(|| Instant::now() + LAG);
    }

    /// Takes away the oldest while there are too many, or too large ones: some at a time, for others wait meanwhile. The next write goes on.
    fn sweep_oldest(&self, connection: &Connection) -> Result<()> {
        for _ in 0..SWEEPS_A_WRITE {
            let Total { entries, bytes, .. } = total(connection)?;
            if entries == 0 || (entries <= self.max_entries && bytes <= self.max_bytes) {
                return Ok(());
            }
            let too_many = entries.saturating_sub(self.max_entries);
            let too_large = bytes.saturating_sub(self.max_bytes).div_ceil((bytes / entries).max(1));
            let count = too_many.max(too_large).clamp(1, SWEPT_AT_ONCE);
            let sql = "DELETE FROM results WHERE number IN (SELECT number FROM results ORDER BY number LIMIT ?)";
            let sweep = connection.prepare_cached(sql).and_then(|mut sweep| sweep.execute([count]));
            if sweep.map_err(translate)? == 0 {
                return Ok(());
            }
        }
        Ok(())
    }

    /// `{"enabled", "entries", "max_entries", "bytes", "max_bytes", "hits", "misses", "refused", "damaged", "waiting"}`.
    pub fn stats(&self, connection: &Connection) -> Result<Value> {
        Ok(self.stats_of(Some(&total(connection)?)))
    }

    /// The same with what the database says, if it says anything.
    pub fn stats_of(&self, total: Option<&Total>) -> Value {
        let count = |counter: &AtomicU64| Value::from(counter.load(Ordering::Relaxed));
        Value::object([
            ("enabled", Value::from(self.is_on())),
            ("entries", total.map_or(Value::Null, |total| Value::from(total.entries))),
            ("max_entries", Value::from(self.max_entries)),
            ("bytes", total.map_or(Value::Null, |total| Value::from(total.bytes))),
            ("max_bytes", Value::from(self.max_bytes)),
            ("hits", count(&self.hits)),
            ("misses", count(&self.misses)),
            ("refused", count(&self.refused)),
            ("damaged", count(&self.damaged)),
            ("waiting", Value::from(self.lock().rows.len())),
        ])
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A row as it is in the database.
#[derive(Debug)]
pub(super) struct StoredRow {
    kept: Vec<u8>,
    checksum: Vec<u8>,
    stored_ms: i64,
    expires_ms: i64,
}

/// The row of a key.
pub(super) fn read(connection: &Connection, key: &Key) -> Result<Option<StoredRow>> {
    let sql = "SELECT kept, checksum, stored_ms, expires_ms FROM results WHERE key = ?";
    let mut statement = connection.prepare_cached(sql).map_err(translate)?;
    let row = statement.query_row([key], |row| {
        let (kept, checksum, stored_ms, expires_ms) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
        Ok(StoredRow { kept, checksum, stored_ms, expires_ms })
    });
    row.optional().map_err(translate)
}

/// Takes away results: those of one skill, or all. No process writes any more what it found out before all were taken away.
pub(super) fn clear(connection: &Connection, skill: Option<&str>) -> Result<()> {
    let cleared = match skill {
        Some(skill) => {
            connection.prepare_cached("DELETE FROM results WHERE skill = ?").and_then(|mut one| one.execute([skill]))
        }
        // The count is made anew as well: somebody may have spoiled it.
        None => connection
            .execute_batch(
                "DELETE FROM results; DELETE FROM results_total; INSERT INTO results_total VALUES (0, 0, random());",
            )
            .map(|()| 0),
    };
    cleared.map(drop).map_err(translate)
}

/// Takes away at most so many expired rows; says how many there were.
pub(super) fn sweep_expired(connection: &Connection, most: u64) -> Result<u64> {
    let sql = "DELETE FROM results WHERE number IN (SELECT number FROM results WHERE expires_ms <= ? ORDER BY expires_ms LIMIT ?)";
    let swept = connection.prepare_cached(sql).and_then(|mut sweep| sweep.execute(params![now_ms(), most]));
    swept.map(|count| count as u64).map_err(translate)
}

/// How much there is, as the triggers of the schema count it.
#[derive(Debug, Default)]
pub(super) struct Total {
    entries: u64,
    bytes: u64,
    /// Drawn anew whenever the results are cleared.
    pub epoch: i64,
}

pub(super) fn total(connection: &Connection) -> Result<Total> {
    let sql = "SELECT max(entries, 0), max(bytes, 0), epoch FROM results_total";
    let mut statement = connection.prepare_cached(sql).map_err(translate)?;
    let total =
        statement.query_row([], |row| Ok(Total { entries: row.get(0)?, bytes: row.get(1)?, epoch: row.get(2)? }));
    // Where somebody has taken it away nothing is counted until the results are cleared; the full check says so.
    Ok(total.optional().map_err(translate)?.unwrap_or_default())
}

fn checksum(key: &Key, kept: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(key).update(kept);
    let mut checksum = [0; 16];
    hasher.finalize_xof().fill(&mut checksum);
    checksum
}
