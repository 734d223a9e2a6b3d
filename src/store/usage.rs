//! How often skills were used and how that ended: counted in memory, written behind.
//!
//! A call that is answered from memory must not wait for a disk, so counts gather here and are written with the next group of
//! the writer, about a second after the first of them at the latest. What is not written yet is said: `usage_unwritten` and
//! `usage_lag_ms` in the statistics. A killed process loses at most that.
//!
//! Counts go by version and outcome and by day (UTC), so that a skill's history can be drawn. A skill that fails so many times
//! in a row is set aside if the library is asked to: what says something of it ([`Verdict`]) is for the caller to judge.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rusqlite::{Connection, OptionalExtension, params};

use super::sqlite::translate;
use crate::error::Result;
use crate::outcome::Outcome;

/// How long counts may wait.
pub(super) const LAG: Duration = Duration::from_secs(1);

const DAY_MS: i64 = 86_400_000;

/// Counts that wait to be written. Shared freely between threads.
#[derive(Debug)]
pub(super) struct UsageLog {
    counts: Mutex<Counts>,
    /// So many failures in a row set a skill aside; 0 never does.
    quarantine_after: u64,
}

#[derive(Debug, Default)]
struct Counts {
    waiting: ById,
    /// What the writer has taken and not yet settled.
    in_flight: Arc<ById>,
    /// How often it has settled something.
    settled: u64,
    /// Since when there is something that is not written.
    since: Option<Instant>,
    /// When the next try is due.
    due: Option<Instant>,
    /// Skills that this write sets aside.
    set_aside: Vec<SetAside>,
}

type ById = HashMap<Arc<str>, Vec<VersionCounts>, foldhash::fast::RandomState>;

/// The calls of one version.
#[derive(Debug, Clone)]
struct VersionCounts {
    version: u32,
    outcomes: [u64; Outcome::ALL.len()],
    last_ms: i64,
    /// Failures since the last run that succeeded.
    failures: u64,
    has_succeeded: bool,
}

/// A skill that was set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// Its id.
    pub id: Arc<str>,
    /// Its newest version, which failed.
    pub version: u32,
    /// How often in a row.
    pub failures: u64,
}

/// How far what is stored lags behind what was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lag {
    /// Calls that are not written yet.
    pub calls: u64,
    /// Since when the oldest of them waits.
    pub age: Duration,
    /// How often calls were written so far; nothing while that goes on, when nobody can say whether the database has them.
    pub settled: Option<u64>,
}

impl UsageLog {
    pub fn new(quarantine_after: u64) -> Self {
        UsageLog { counts: Mutex::default(), quarantine_after }
    }

    /// Counts a call; says whether it is the first that waits, and whether it should be written at once.
    pub fn count(&self, id: &Arc<str>, version: u32, outcome: Outcome, verdict: Verdict) -> Counted {
        let now = now_ms();
        let mut counts = self.lock();
        let versions = match counts.waiting.get_mut(id) {
            Some(versions) => versions,
            None => counts.waiting.entry(id.clone()).or_default(),
        };
        let count = counts_of(versions, version);
        count.outcomes[outcome as usize] += 1;
        count.last_ms = now;
        match verdict {
            Verdict::Worked => (count.failures, count.has_succeeded) = (0, true),
            Verdict::Failed => count.failures += 1,
            Verdict::Nothing => {}
        }
        let is_first = counts.due.is_none();
        if is_first {
            let now = Instant::now();
            counts.due = Some(now + LAG);
            counts.since.get_or_insert(now);
        }
        if verdict == Verdict::Failed && self.quarantine_after > 0 {
            return Counted::Failure;
        }
        if is_first { Counted::First } else { Counted::Another }
    }

    /// When what waits is to be written.
    pub fn due(&self) -> Option<Instant> {
        self.lock().due
    }

    pub fn is_empty(&self) -> bool {
        let counts = self.lock();
        counts.waiting.is_empty() && counts.in_flight.is_empty()
    }

    pub fn lag(&self) -> Lag {
        let counts = self.lock();
        let calls = [&counts.waiting, &*counts.in_flight].into_iter().flat_map(HashMap::values).flatten();
        let calls = calls.map(|count| count.outcomes.iter().sum::<u64>()).sum();
        Lag {
            calls,
            age: counts.since.map_or(Duration::ZERO, |since| since.elapsed()),
            settled: counts.in_flight.is_empty().then_some(counts.settled),
        }
    }

    /// Writes what waits. [`settle`](UsageLog::settle) has to follow.
    pub fn write(&self, connection: &Connection) -> Result<()> {
        let taken = {
            let mut counts = self.lock();
            counts.in_flight = Arc::new(std::mem::take(&mut counts.waiting));
            counts.due = None;
            counts.set_aside.clear();
            counts.in_flight.clone()
        };
        for (id, versions) in &*taken {
            match write_skill(connection, id, versions, self.quarantine_after) {
                Ok(set_aside) => self.lock().set_aside.extend(set_aside),
                // A row that somebody spoiled must not keep the counts of all others from being written.
                Err(error) if is_of_a_value(&error) => {}
                Err(error) => return Err(translate(error)),
            }
        }
        Ok(())
    }

    /// Says whether what was taken is in the database; gives the skills that were set aside by it. Otherwise it waits again.
    pub fn settle(&self, is_written: bool) -> Vec<SetAside> {
        let mut counts = self.lock();
        // The writer's own handle is gone by now.
        let taken = Arc::unwrap_or_clone(std::mem::take(&mut counts.in_flight));
        let set_aside = std::mem::take(&mut counts.set_aside);
        counts.settled += 1;
        if is_written {
            counts.since = counts.due.map(|due| due - LAG);
            return set_aside;
        }
        for (id, versions) in taken {
            let waiting = counts.waiting.entry(id).or_default();
            for earlier in versions {
                counts_of(waiting, earlier.version).add_earlier(&earlier);
            }
        }
        if !counts.waiting.is_empty() {
            counts.due = Some(Instant::now() + LAG);
        }
        Vec::new()
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The wall clock, in milliseconds since 1970.
pub(super) fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

/// What a call says of its skill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It ran, and it worked.
    Worked,
    /// It ran, and it is to blame for its end.
    Failed,
    /// Nothing new.
    Nothing,
}

/// What a count asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counted {
    /// Nothing waited before it.
    First,
    Another,
    /// A failure that may set its skill aside.
    Failure,
}

fn counts_of(versions: &mut Vec<VersionCounts>, version: u32) -> &mut VersionCounts {
    let place = versions.iter().position(|count| count.version == version).unwrap_or_else(|| {
        let outcomes = [0; Outcome::ALL.len()];
        versions.push(VersionCounts { version, outcomes, last_ms: 0, failures: 0, has_succeeded: false });
        versions.len() - 1
    });
    &mut versions[place]
}

impl VersionCounts {
    fn add_earlier(&mut self, earlier: &VersionCounts) {
        for (count, more) in self.outcomes.iter_mut().zip(earlier.outcomes) {
            *count += more;
        }
        self.last_ms = self.last_ms.max(earlier.last_ms);
        if !self.has_succeeded {
            self.failures += earlier.failures;
            self.has_succeeded = earlier.has_succeeded;
        }
    }
}

/// Whether an error is about what a row has, and not about the database.
fn is_of_a_value(error: &rusqlite::Error) -> bool {
    matches!(
        error,
        rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::ToSqlConversionFailure(..)
    )
}

fn write_skill(
    connection: &Connection,
    id: &str,
    versions: &[VersionCounts],
    quarantine_after: u64,
) -> rusqlite::Result<Option<SetAside>> {
    let mut statement = connection
        .prepare_cached("SELECT key, newest, failures, state FROM skills WHERE id = ? AND newest > removed_through")?;
    let found = statement
        .query_row([id], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, u32>(1)?, row.get::<_, u64>(2)?, row.get::<_, String>(3)?))
        })
        .optional()?;
    // What was removed meanwhile is no longer counted.
    let Some((key, newest, failures_before, state)) = found else { return Ok(None) };
    let (mut calls, mut successes, mut last_ms) = (0, 0, 0);
    let (mut failures, mut has_failed) = (failures_before, false);
    for count in versions {
        calls += count.outcomes.iter().sum::<u64>();
        successes += count.outcomes[Outcome::Success as usize];
        last_ms = last_ms.max(count.last_ms);
        if count.version == newest {
            failures = if count.has_succeeded { count.failures } else { failures_before + count.failures };
            has_failed = count.failures > 0;
        }
        write_outcomes(connection, key, count)?;
    }
    let mut statement = connection
        .prepare_cached(
            "UPDATE skills SET usage_count = usage_count + ?, success_count = success_count + ?, failures = ?,
             last_used = max(coalesce(last_used, ''), strftime('%Y-%m-%dT%H:%M:%fZ', ? / 1000.0, 'unixepoch')) WHERE key = ?",
        )?;
    statement.execute(params![calls, successes, failures, last_ms, key])?;
    if quarantine_after == 0 || !has_failed || failures < quarantine_after || state != "active" {
        return Ok(None);
    }
    let sql = "UPDATE skills SET state = 'quarantined', revision = random() WHERE key = ?";
    connection.prepare_cached(sql).and_then(|mut set| set.execute([key]))?;
    Ok(Some(SetAside { id: Arc::from(id), version: newest, failures }))
}

fn write_outcomes(connection: &Connection, key: i64, count: &VersionCounts) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO outcomes (skill, version, outcome, day, count) VALUES (?, ?, ?, ?, ?)
             ON CONFLICT DO UPDATE SET count = count + excluded.count",
    )?;
    let day = count.last_ms.div_euclid(DAY_MS);
    for (outcome, times) in Outcome::ALL.into_iter().zip(count.outcomes).filter(|(_, times)| *times > 0) {
        statement.execute(params![key, count.version, outcome as i32, day, times])?;
    }
    Ok(())
}
