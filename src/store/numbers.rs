//! The store's part of the statistics.
//!
//! Statistics are asked for just when something is wrong, so they never fail because of it: with a pool that has no connection left, a
//! connection of their own is opened, and where the database does not answer at all, what only it knows is null.

use std::time::Duration;

use rusqlite::{Connection, Transaction};

use super::keeping::Reader;
use super::sqlite::translate;
use super::usage::Lag;
use super::writer::Writer;
use super::{COUNTS_PATIENCE, Store};
use crate::error::{Error, Result};
use crate::json::Value;
use crate::skill::STATES;

/// How long statistics wait for others.
const PATIENCE: Duration = Duration::from_secs(1);

/// Of each state that there is: how many skills, their calls, and how many of those succeeded.
type ByState = Vec<(String, [i64; 3])>;

/// What only the database knows.
struct Known {
    by_state: ByState,
    versions: i64,
    file_bytes: i64,
    embeddings: Value,
    results: Value,
    lag: Lag,
}

impl Store {
    /// `{"status", "message", "skills", "states", "versions", "usage_count", "success_count", "usage_unwritten", "usage_lag_ms", "embeddings",
    /// "results", "writer", "file_bytes", "log_bytes"}`.
    pub fn stats(&self) -> Value {
        self.catch_up();
        match self.ask() {
            Ok(known) => self.document(Some(known), None),
            Err(error) => self.document(None, Some(&error)),
        }
    }

    fn document(&self, known: Option<Known>, error: Option<&Error>) -> Value {
        let log = self.origin.as_ref().and_then(|origin| std::fs::metadata(origin.beside("-wal")).ok());
        let of = |get: fn(&Known) -> Value| known.as_ref().map_or(Value::Null, get);
        let of_state = |state: &'static str| {
            let skills =
                |known: &Known| known.by_state.iter().find(|(name, _)| name == state).map_or(0, |row| row.1[0]);
            (state, known.as_ref().map_or(Value::Null, |known| Value::from(skills(known))))
        };
        let lag = known.as_ref().map_or_else(|| self.behind.usage.lag(), |known| known.lag);
        // Where nothing is written, nothing is late.
        let age = if self.writer.is_some() { lag.age } else { Duration::ZERO };
        Value::object([
            ("status", Value::from(if error.is_none() { "ok" } else { "unavailable" })),
            ("message", Value::from(error.map(Error::message))),
            ("skills", of(|known| known.sum(0))),
            ("states", Value::object(STATES.map(of_state))),
            ("versions", of(|known| Value::from(known.versions))),
            ("usage_count", of(|known| known.sum(1))),
            ("success_count", of(|known| known.sum(2))),
            ("usage_unwritten", Value::from(lag.calls)),
            ("usage_lag_ms", Value::from(u64::try_from(age.as_millis()).unwrap_or(u64::MAX))),
            (
                "embeddings",
                known.as_ref().map_or_else(|| self.vectors.stats_of(None), |known| known.embeddings.clone()),
            ),
            (
                "results",
                known.as_ref().map_or_else(|| self.behind.results.stats_of(None), |known| known.results.clone()),
            ),
            ("writer", self.writer.as_ref().map_or(Value::Null, Writer::stats)),
            ("file_bytes", of(|known| Value::from(known.file_bytes))),
            ("log_bytes", Value::from(log.map_or(0, |log| log.len()))),
        ])
    }

    fn ask(&self) -> Result<Known> {
        let connection = self.reader_of_numbers()?;
        let (moment, lag) = self.moment(&connection)?;
        let number = |sql: &str| moment.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(translate);
        Ok(Known {
            by_state: by_state(&moment)?,
            versions: number("SELECT count(*) FROM versions")?,
            file_bytes: number("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")?,
            embeddings: self.vectors.stats(&moment)?,
            results: self.behind.results.stats(&moment)?,
            lag,
        })
    }

    /// From the pool, if it has one to give: who looks at an exhausted pool must not be counted as one more who found it so.
    fn reader_of_numbers(&self) -> Result<Reader<'_>> {
        let pool = self.pool.stats();
        let has_some =
            pool.waiting == 0 && (pool.idle > 0 || pool.open < pool.settings.size + pool.settings.max_overflow);
        match &self.origin {
            Some(origin) if !has_some => {
                origin.for_reading().waiting(PATIENCE).connect().map(Reader::Own).map_err(translate)
            }
            _ => self.pool.get_within(PATIENCE.min(self.pool.timeout())).map(Reader::Pooled),
        }
    }

    /// One moment of the database, and the calls that were not written at that moment: each call is in one of the two. If the disk keeps the
    /// writer for long, those that it is about to write may be in both.
    fn moment<'c>(&self, connection: &'c Connection) -> Result<(Transaction<'c>, Lag)> {
        /// Hardly ever is there a second one, for what it must not meet takes a millisecond.
        const TRIES: usize = 16;
        let mut tries = 0;
        loop {
            let before = self.behind.usage.lag();
            let moment = connection.unchecked_transaction().map_err(translate)?;
            // What is read first decides which moment it is.
            moment.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).map_err(translate)?;
            let lag = self.behind.usage.lag();
            tries += 1;
            let is_known = before.settled.is_some() && before.settled == lag.settled;
            // Comes back when what is being written is written.
            let settles = || self.writer.as_ref().is_some_and(|writer| writer.settle(COUNTS_PATIENCE));
            if is_known || tries == TRIES || !settles() {
                return Ok((moment, lag));
            }
        }
    }
}

impl Known {
    fn sum(&self, place: usize) -> Value {
        Value::from(self.by_state.iter().map(|(_, numbers)| numbers[place]).sum::<i64>())
    }
}

fn by_state(connection: &Connection) -> Result<ByState> {
    let sql = "SELECT state, count(*), sum(usage_count), sum(success_count) FROM skills WHERE newest > removed_through GROUP BY state";
    let mut statement = connection.prepare_cached(sql).map_err(translate)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, [row.get(1)?, row.get(2)?, row.get(3)?])));
    rows.and_then(Iterator::collect).map_err(translate)
}
