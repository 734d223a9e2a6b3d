//! SQLite's connections: how they are opened, checked and cleaned, and the pool of them.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, TransactionState};

use super::origin::Origin;
use super::pool::{MonitoredPool, PoolError, PoolStats, PooledConnection, Returned, Settings, Sink};
use super::sqlite;
use crate::config::Config;
use crate::error::{Code, Error, Result};

/// Opens connections to one database.
#[derive(Debug)]
pub struct SqliteManager {
    /// Nothing for a private database in memory: every connection is one of its own.
    origin: Option<Origin>,
    busy_timeout: Duration,
}

impl SqliteManager {
    /// For a file that is there, or for databases in memory. Its connections wait so long for another process's write.
    pub fn new(file: Option<&Path>, busy_timeout: Duration) -> Self {
        SqliteManager { origin: file.map(|file| Origin::plain(file, busy_timeout)), busy_timeout }
    }

    /// Ends what a borrower has left behind.
    pub fn reset(&self, connection: &mut Connection) -> Returned {
        // The next borrower waits as long as every other.
        if connection.busy_timeout(self.busy_timeout).is_err() {
            return Returned::Broken;
        }
        if is_clean(connection) {
            return Returned::Clean;
        }
        let rolled_back = connection.execute_batch("ROLLBACK");
        // A statement that was forgotten half read goes on holding its snapshot, and SQLite keeps the log from there on.
        if rolled_back.is_ok() && is_clean(connection) { Returned::RolledBack } else { Returned::Broken }
    }
}

/// Whether it is in no transaction, be it one of a forgotten statement.
fn is_clean(connection: &Connection) -> bool {
    connection.is_autocommit() && matches!(connection.transaction_state(None::<&str>), Ok(TransactionState::None))
}

impl r2d2::ManageConnection for SqliteManager {
    type Connection = Connection;
    type Error = rusqlite::Error;

    fn connect(&self) -> rusqlite::Result<Connection> {
        if let Some(origin) = &self.origin {
            return origin.connect();
        }
        let connection = Connection::open_in_memory()?;
        sqlite::set_up(&connection, self.busy_timeout)?;
        Ok(connection)
    }

    /// Reads the file, which `SELECT 1` would not.
    fn is_valid(&self, connection: &mut Connection) -> rusqlite::Result<()> {
        let mut statement = connection.prepare_cached("SELECT count(*) FROM sqlite_schema")?;
        statement.query_row([], |row| row.get::<_, i64>(0)).map(drop)
    }

    fn has_broken(&self, connection: &mut Connection) -> bool {
        self.reset(connection) == Returned::Broken
    }
}

/// The store's pool.
#[derive(Debug)]
pub(super) struct ConnectionPool(MonitoredPool<SqliteManager>);

impl ConnectionPool {
    /// Opens no connection yet. `None` is one private database in memory: one connection for ever.
    pub fn new(origin: Option<&Origin>, config: &Config, sink: Sink) -> Self {
        let timeout = Duration::from_millis(config.pool_timeout_ms);
        let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let (size, max_overflow) = match origin {
            Some(_) => (count(config.pool_size), count(config.pool_max_overflow)),
            None => (1, 0),
        };
        let settings = Settings {
            size,
            max_overflow,
            timeout,
            recycle: Some(Duration::from_secs(config.pool_recycle_s)),
            leak_after: Duration::from_secs(config.pool_leak_after_s),
            alert_interval: Duration::from_secs(config.pool_alert_interval_s),
            is_permanent: origin.is_none(),
            ..Settings::default()
        };
        let manager = SqliteManager { origin: origin.cloned(), busy_timeout: timeout };
        let pool = MonitoredPool::new(manager, settings);
        ConnectionPool(pool.resetting_by(SqliteManager::reset).alerting(sink))
    }

    /// Borrows a connection, waiting up to the pool's timeout.
    pub fn get(&self) -> Result<PooledConnection<'_, SqliteManager>> {
        self.get_within(self.timeout())
    }

    /// The same with a time of the caller's own.
    pub fn get_within(&self, timeout: Duration) -> Result<PooledConnection<'_, SqliteManager>> {
        self.0.get_within(timeout).map_err(|error| match error {
            PoolError::Exhausted(exhaustion) => Error::new(Code::PoolExhausted, exhaustion.to_string()),
            PoolError::Open(error) => {
                let error = sqlite::translate(error);
                Error::new(error.code(), format!("no connection to the database: {}", error.message()))
            }
        })
    }

    /// How long a call waits for a connection, and for another process's write.
    pub fn timeout(&self) -> Duration {
        self.0.settings().timeout
    }

    /// One consistent picture.
    pub fn stats(&self) -> PoolStats {
        self.0.stats()
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tempfile::TempDir;

    use super::*;
    use crate::json::Value;

    fn config(size: u64, max_overflow: u64, timeout_ms: u64) -> Config {
        let (pool_size, pool_max_overflow, pool_timeout_ms) = (size, max_overflow, timeout_ms);
        Config { pool_size, pool_max_overflow, pool_timeout_ms, ..Config::default() }
    }

    fn pool_in(folder: &TempDir, config: &Config) -> ConnectionPool {
        let file = folder.path().join("test.db");
        let connection = Connection::open(&file).expect("a file");
        connection.pragma_update(None, "journal_mode", "WAL").expect("a log");
        connection.execute_batch("CREATE TABLE t (x)").expect("a table");
        ConnectionPool::new(Some(&Origin::plain(&file, Duration::from_secs(30))), config, Box::new(drop))
    }

    fn in_memory() -> ConnectionPool {
        let pool = ConnectionPool::new(None, &Config::default(), Box::new(drop));
        pool.get().expect("one").execute_batch("CREATE TABLE t (x)").expect("a table");
        pool
    }

    fn rows(connection: &Connection) -> i64 {
        connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).expect("it reads")
    }

    fn number(pool: &ConnectionPool, name: &str) -> i64 {
        pool.stats().to_value().get(name).and_then(Value::as_i64).unwrap_or_else(|| panic!("{name}"))
    }

    /// What borrowers leave behind who do not come to their end.
    fn abuse(pool: &ConnectionPool, vice: usize) {
        let mut connection = pool.get().expect("one becomes free");
        assert!(is_clean(&connection));
        match vice % 5 {
            0 => panic!("the borrower"),
            1 => {
                connection.execute_batch("BEGIN IMMEDIATE; INSERT INTO t VALUES (1)").expect("inserted");
                panic!("the borrower");
            }
            2 => {
                connection.execute_batch("BEGIN IMMEDIATE; INSERT INTO t VALUES (2)").expect("inserted");
                connection.busy_timeout(Duration::ZERO).expect("set");
            }
            3 => {
                let transaction = connection.transaction().expect("begun");
                assert_eq!(rows(&transaction), 0, "what was rolled back is not there");
                std::mem::forget(transaction);
            }
            _ => assert_eq!(rows(&connection), 0, "what was rolled back is not there"),
        }
    }

    #[test]
    fn a_thousand_bad_borrowers_of_sqlite_leave_the_pool_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        for (pool, size) in [(pool_in(&folder, &config(3, 2, 60_000)), 3), (in_memory(), 1)] {
            let next = AtomicUsize::new(0);
            let work = || {
                while let Some(number) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|number| *number < 1000) {
                    let _ = catch_unwind(AssertUnwindSafe(|| abuse(&pool, number)));
                }
            };
            std::thread::scope(|scope| (0..8).for_each(|_| drop(scope.spawn(work))));
            assert_eq!(number(&pool, "total_requests"), number(&pool, "checkouts"));
            assert_eq!(number(&pool, "rolled_back"), 600);
            assert_eq!(number(&pool, "opened") - number(&pool, "closed"), number(&pool, "open_connections"));
            assert_eq!(number(&pool, "available_connections"), number(&pool, "open_connections"));
            assert!(number(&pool, "open_connections") <= size);
            let connection = pool.get().expect("one");
            assert_eq!(rows(&connection), 0);
            connection.execute_batch("INSERT INTO t VALUES (3)").expect("nobody holds the lock");
        }
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_told_at_once_and_does_not_come_back_empty() {
        let folder = tempfile::tempdir().expect("a folder");
        let pool = pool_in(&folder, &config(1, 0, 3_600_000));
        std::fs::remove_file(folder.path().join("test.db")).expect("removed");
        let error = pool.get().expect_err("there is no file");
        assert_eq!(error.code(), Code::Database);
        assert!(error.message().contains("no connection to the database: the database: unable to open"), "{error}");
        assert!(!folder.path().join("test.db").exists());
        assert_eq!((number(&pool, "open_failures"), number(&pool, "open_connections")), (1, 0));
    }

    #[test]
    fn exhaustion_is_an_error_that_may_be_tried_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let pool = pool_in(&folder, &config(1, 1, 1));
        let _borrowed = [pool.get().expect("one"), pool.get().expect("two")];
        let error = pool.get().expect_err("there are two");
        assert!(error.code() == Code::PoolExhausted && error.code().is_retriable());
        let text = "Connection pool exhausted! Total exhaustion events: 1. Pool size: 1, Max overflow: 1; waited ";
        assert!(error.message().starts_with(text), "{error}");
        assert_eq!(pool.stats().warnings().len(), 3, "{:?}", pool.stats());
    }

    #[test]
    fn a_statement_forgotten_half_read_takes_its_connection_along() {
        let folder = tempfile::tempdir().expect("a folder");
        let pool = pool_in(&folder, &config(1, 0, 1000));
        {
            let connection = pool.get().expect("one");
            connection.execute_batch("INSERT INTO t VALUES (1), (2)").expect("inserted");
            let mut statement = connection.prepare("SELECT x FROM t").expect("prepared");
            let mut rows = statement.query([]).expect("begun");
            rows.next().expect("read");
            std::mem::forget(rows);
            std::mem::forget(statement);
            assert!(connection.is_autocommit() && !is_clean(&connection));
        }
        assert_eq!((number(&pool, "discarded"), number(&pool, "open_connections")), (1, 0));
        assert_eq!(rows(&pool.get().expect("another")), 2);
    }

    #[test]
    fn checking_reads_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let pool = pool_in(&folder, &config(1, 0, 1000));
        let mut connection = pool.get().expect("one");
        let manager = SqliteManager::new(None, Duration::ZERO);
        r2d2::ManageConnection::is_valid(&manager, &mut connection).expect("it is valid");
        assert!(is_clean(&connection), "the statement is done");
    }

    #[test]
    fn memory_is_one_database_for_all_threads() {
        let pool = in_memory();
        let work = || (0..100).for_each(|_| drop(pool.get().expect("one").execute("INSERT INTO t VALUES (1)", [])));
        std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(work))));
        assert_eq!(rows(&pool.get().expect("one")), 400);
        assert_eq!((number(&pool, "opened"), number(&pool, "closed"), number(&pool, "pool_size")), (1, 0, 1));
    }

    #[test]
    fn r2d2_takes_the_manager_too() {
        let pool = r2d2::Pool::builder().max_size(1).build(SqliteManager::new(None, Duration::from_secs(1)));
        let pool = pool.expect("it opens");
        pool.get().expect("one").execute_batch("BEGIN").expect("begun");
        assert!(is_clean(&pool.get().expect("the same")), "reset through `has_broken`");
    }
}
