//! The connection pool: r2d2, counted.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use r2d2::{Pool, PooledConnection};
use r2d2_sqlite::SqliteConnectionManager;
use scheduled_thread_pool::{OnPoolDropBehavior, ScheduledThreadPool};

use super::sqlite;
use crate::config::Config;
use crate::error::{Code, Error, Result};
use crate::json::Value;

/// A borrowed connection; dropping it gives it back.
pub(super) type Connection = PooledConnection<SqliteConnectionManager>;

/// A bounded set of connections to one database. Shared freely between threads.
#[derive(Debug)]
pub(super) struct ConnectionPool {
    pool: Pool<SqliteConnectionManager>,
    size: u64,
    max_overflow: u64,
    timeout: Duration,
    requests: AtomicU64,
    exhaustions: AtomicU64,
}

impl ConnectionPool {
    /// Opens no connection yet. `None` is one private database in memory: one connection for ever.
    pub fn new(path: Option<&Path>, config: &Config) -> Result<Self> {
        let busy_timeout = Duration::from_millis(config.pool_timeout_ms);
        let manager = path.map_or_else(SqliteConnectionManager::memory, SqliteConnectionManager::file);
        let manager = manager.with_init(move |connection| sqlite::set_up(connection, busy_timeout));
        let (size, max_overflow) = if path.is_some() { (config.pool_size, config.pool_max_overflow) } else { (1, 0) };
        let recycle = path.map(|_| Duration::from_secs(config.pool_recycle_s));
        // As r2d2 makes it, but for what happens at the end: its own would wait up to 30 s for the next sweep.
        let threads = ScheduledThreadPool::builder()
            .num_threads(3)
            .thread_name_pattern("skillcache-pool-{}")
            .on_drop_behavior(OnPoolDropBehavior::DiscardPendingScheduled)
            .build();
        let pool = Pool::builder()
            .thread_pool(Arc::new(threads))
            .max_size(u32::try_from(size + max_overflow).unwrap_or(u32::MAX))
            // Connections open when first needed: `min_idle` counts idle ones, so any other number opens too many.
            .min_idle(Some(0))
            .max_lifetime(recycle)
            .idle_timeout(recycle)
            // A connection to a local file does not go stale in the pool; errors show on the statement itself.
            .test_on_check_out(false)
            .error_handler(Box::new(r2d2::NopErrorHandler))
            .connection_timeout(busy_timeout)
            .build_unchecked(manager);
        Ok(ConnectionPool {
            pool,
            size,
            max_overflow,
            timeout: busy_timeout,
            requests: AtomicU64::new(0),
            exhaustions: AtomicU64::new(0),
        })
    }

    /// Borrows a connection, waiting up to the pool's timeout.
    pub fn get(&self) -> Result<Connection> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let asked = Instant::now();
        self.pool.get().map_err(|error| {
            self.exhaustions.fetch_add(1, Ordering::Relaxed);
            let waited = asked.elapsed().as_millis();
            let state = self.pool.state();
            if u64::from(state.connections) >= self.size + self.max_overflow {
                let message = format!(
                    "Connection pool exhausted! Total exhaustion events: {}. Pool size: {}, Max overflow: {}; waited {waited} ms",
                    self.exhaustions.load(Ordering::Relaxed),
                    self.size,
                    self.max_overflow
                );
                return Error::new(Code::PoolExhausted, message);
            }
            Error::new(Code::Database, format!("no connection to the database within {waited} ms: {error}"))
        })
    }

    /// The members the reference has.
    pub fn stats(&self) -> Value {
        let state = self.pool.state();
        let (open, idle) = (u64::from(state.connections), u64::from(state.idle_connections));
        let used = open.saturating_sub(idle);
        let requests = self.requests.load(Ordering::Relaxed);
        let exhaustions = self.exhaustions.load(Ordering::Relaxed);
        let share = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
        let overflow = open.saturating_sub(self.size);
        let (pool_utilization, overflow_utilization) =
            (share(used.min(self.size), self.size), share(overflow, self.max_overflow));
        Value::object([
            ("pool_size", Value::from(self.size)),
            ("max_overflow", Value::from(self.max_overflow)),
            ("open_connections", Value::from(open)),
            ("available_connections", Value::from(idle)),
            ("overflow_connections", Value::from(overflow)),
            ("pool_utilization", Value::from(pool_utilization)),
            ("pool_utilization_percentage", Value::from(pool_utilization * 100.0)),
            ("overflow_utilization", Value::from(overflow_utilization)),
            ("overflow_utilization_percentage", Value::from(overflow_utilization * 100.0)),
            ("total_requests", Value::from(requests)),
            ("exhaustion_events", Value::from(exhaustions)),
            ("exhaustion_rate", Value::from(share(exhaustions, requests))),
            ("timeout_ms", Value::from(u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX))),
        ])
    }
}
