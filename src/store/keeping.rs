//! What a store does for its file: checks, backups, and what can still be read of a damaged one.

use std::ops::Deref;
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use super::check::{Report, depth_named, full_check, quick_check};
use super::connection::SqliteManager;
use super::damage::Finding;
use super::origin::Origin;
use super::pool::PooledConnection;
use super::salvage;
use super::sqlite::translate;
use super::usage::Lag;
use super::watch::{Alarm, Health};
use super::{Store, backup};
use crate::error::{Code, Error, Result};
use crate::skill::Skill;

/// A connection for reading: one of its own to a file for something long, or one of the pool's, as the only one to a database in memory is.
pub(super) enum Reader<'s> {
    Own(Connection),
    Pooled(PooledConnection<'s, SqliteManager>),
}

impl Deref for Reader<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        match self {
            Reader::Own(connection) => connection,
            Reader::Pooled(connection) => connection,
        }
    }
}

impl Store {
    fn reader(&self) -> Result<Reader<'_>> {
        match &self.origin {
            Some(origin) => origin.for_reading().connect().map(Reader::Own).map_err(translate),
            None => self.pool.get().map(Reader::Pooled),
        }
    }

    /// Whether anything may be stored: not if the file was opened for reading, [`Code::Unsupported`], and not once pages of it are known
    /// to be broken, [`Code::Corrupt`]: what is written then may overwrite what can still be read.
    pub fn check_writable(&self) -> Result<()> {
        if self.is_read_only() {
            let message =
                "the library was opened with `store.access` = `read_only`: nothing is stored and nothing removed";
            return Err(Error::new(Code::Unsupported, message).rule("store.access"));
        }
        match self.watch.is_broken().then(|| self.watch.health().damage()).flatten() {
            None => Ok(()),
            Some(damage) => Err(Error::new(Code::Corrupt, format!("nothing more is written, for {damage}"))),
        }
    }

    /// What is known of the file's pages.
    pub(crate) fn health(&self) -> Health {
        self.watch.health()
    }

    /// Reads a page of the database: whether it answers, to who waits no longer than this for others. By a connection of its own, so that a pool
    /// that has none is not taken for a file that does not answer; a database in memory has the one.
    pub fn probe(&self, patience: Duration) -> Result<()> {
        let read = |connection: &Connection| {
            connection
                .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))
                .map_err(translate)
        };
        match &self.origin {
            Some(origin) => read(&origin.for_reading().waiting(patience).connect().map_err(translate)?),
            None => read(&*self.pool.get_within(patience.min(self.pool.timeout()))?),
        }
        .map(drop)
    }

    /// Borrows a connection and gives it back: whether one can be had in time. A request like any other, which is counted. Of a database in memory,
    /// [`probe`](Store::probe) is that.
    pub fn probe_pool(&self, patience: Duration) -> Result<()> {
        match self.origin {
            Some(_) => self.pool.get_within(patience.min(self.pool.timeout())).map(drop),
            None => Ok(()),
        }
    }

    /// Whether the store was opened for reading alone.
    pub fn is_read_only(&self) -> bool {
        self.origin.as_ref().is_some_and(Origin::is_read_only)
    }

    /// How many calls are counted and not yet written, and since when the oldest of them waits; nothing if it is well that they are not.
    pub fn unwritten(&self) -> Option<(u64, Duration)> {
        let Lag { calls, age, .. } = self.behind.usage.lag();
        (calls > 0 && self.writer.is_some()).then_some((calls, age))
    }

    /// How long ago a write last failed, because the disk is full or for what reason ever.
    pub fn last_failure(&self) -> Option<Duration> {
        self.writer.as_ref()?.last_failure()
    }

    /// How long ago a write was last refused because others were in its way.
    pub fn last_refusal(&self) -> Option<Duration> {
        self.writer.as_ref()?.last_refusal()
    }

    /// Says whom to tell of damage, and checks the file in the background if that is wanted. The caller sees to it that new threads get no signals.
    /// `delay` is a second unless given.
    pub(crate) fn watch(&self, is_checked: bool, delay: Option<Duration>, alarm: Alarm) -> Result<()> {
        self.watch.set_alarm(alarm);
        match &self.origin {
            Some(origin) if is_checked => self.watch.start(origin, delay),
            _ => Ok(()),
        }
    }

    /// Ends the check in the background.
    pub fn stop_watching(&self) {
        self.watch.stop();
    }

    /// Checks the database now: `quick` (every page) or `full` (also every index, every skill). What is found is kept as its health.
    pub(crate) fn check(&self, which: &str) -> Result<Report> {
        let is_full = depth_named(which)?;
        let reader = self.reader()?;
        let report = if is_full { full_check(&reader) } else { quick_check(&reader) }?;
        if self.origin.is_some() {
            self.watch.learn(&report);
        }
        Ok(report)
    }

    /// Writes a copy as of now to a path where nothing is yet.
    pub fn backup(&self, target: &Path) -> Result<()> {
        self.catch_up();
        let permissions = self
            .origin
            .as_ref()
            .map_or_else(|| Some(backup::private()), |origin| backup::permissions_of(origin.path()));
        backup::write_copy(&*self.reader()?, target, permissions)
    }

    /// The newest versions of all skills that can still be read, each whole, and what is known of the others.
    pub(crate) fn salvage(&self) -> Result<(Vec<Skill>, Vec<Finding>)> {
        Ok(salvage::records(&*self.reader()?))
    }
}
