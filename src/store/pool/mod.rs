//! A monitored pool of connections, for any manager that r2d2 knows.
//!
//! # Why not r2d2's own pool
//!
//! r2d2's trait is what managers of connections have in common ([`ManageConnection`]: SQLite's here, PostgreSQL's and others elsewhere),
//! so it is what this pool takes. r2d2's own pool does not keep what is promised here:
//!
//! * It is not fair: whoever gives a connection back and asks again at once gets it before those who wait. Eight threads that hold
//!   one of four connections for a millisecond each wait 0.3 us half of the time there, and 7 ms once in a hundred times; here it is
//!   1.1 ms and 3.7 ms.
//! * It opens on three threads of its own. A borrower cannot be told why nothing comes, and waits the whole timeout for a database
//!   that cannot be opened; here it is told after 50 us.
//! * It has no overflow: what was opened beyond the usual is kept. `min_idle` counts idle connections rather than all of them, and so
//!   opens more while others are in use.
//! * It hands on what the last borrower has left: an open transaction reaches the next one. It replaces old connections only while
//!   they are idle, by a thread that looks twice a minute.
//! * It asks every connection whether it is still good, which costs most of the 0.77 us that borrowing takes there. Here only what
//!   was idle for 30 s is asked: 0.12 us, and a bare `Mutex<Vec>` takes 0.03 us (`benches/store.rs`, two shared cores).
//!
//! The price of fairness is a switch of threads for each connection that is handed over: where eight threads do nothing but read for
//! two microseconds, r2d2's pool lends a quarter more connections a second on a busy machine, and twice as many on a quiet one.
//!
//! # How it works
//!
//! One lock protects the idle connections, the queue of those who wait and the numbers; `state.rs` has what happens under it.
//! Opening, asking, cleaning and closing connections, waking who waits and telling alerts happen outside it, on the threads of borrowers:
//! the pool has none of its own.
//!
//! Who returns a connection hands it to the one who has waited longest; who closes one, or fails to open one, hands on the right to open
//! one. Whoever's time is over leaves the queue, unless something has been handed over by then, which is taken: nothing is lost between two
//! who meet.
//!
//! Whatever ends a borrower, an error or a panic, drops its guard, and that gives the connection back. A guard that is forgotten
//! (`mem::forget`, a thread that hangs) keeps its connection for ever; nobody can take it away safely, so it counts as in use, and
//! after a while as a leak.

mod alert;
mod state;
mod stats;

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use r2d2::ManageConnection;

pub use alert::{Alert, Kind, Sink};
pub use state::Returned;
pub use stats::{Counts, PoolStats, Waits, Warning};

use crate::sync::{Arc, Mutex, MutexGuard, PoisonError};
use state::{Back, Conn, Handed, Nanos, Reason, State, Turn, Waiter};

/// What a pool is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Connections that are kept; at least 1.
    pub size: usize,
    /// Connections that may be opened beyond, and are closed when they come back and nobody waits.
    pub max_overflow: usize,
    /// How long a borrower waits.
    pub timeout: Duration,
    /// The age from which on a connection is replaced, if there is one.
    pub recycle: Option<Duration>,
    /// A connection that was idle for so long is asked whether it is still good before it is lent.
    pub check_after: Duration,
    /// A connection that has been in use for longer is taken for one that never comes back.
    pub leak_after: Duration,
    /// The least time between two alerts of the same kind.
    pub alert_interval: Duration,
    /// The connection is the database: it is never asked, replaced or closed, whatever its borrowers did. For a size of 1 without
    /// overflow.
    pub is_permanent: bool,
}

impl Default for Settings {
    /// 10 and 20 connections, 30 s, replaced after an hour, asked after 30 s, missed after a minute, alerts every five minutes.
    fn default() -> Self {
        Settings {
            size: 10,
            max_overflow: 20,
            timeout: Duration::from_secs(30),
            recycle: Some(Duration::from_secs(3600)),
            check_after: Duration::from_secs(30),
            leak_after: Duration::from_secs(60),
            alert_interval: Duration::from_secs(300),
            is_permanent: false,
        }
    }
}

impl Settings {
    /// The most connections that there may be.
    fn max(&self) -> usize {
        self.size.max(1) + self.max_overflow
    }
}

/// No connection became free in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exhaustion {
    /// How often that has happened, this time included.
    pub total: u64,
    /// The pool's size.
    pub size: usize,
    /// The pool's overflow.
    pub max_overflow: usize,
    /// How long this borrower waited.
    pub waited: Duration,
}

/// Why there is no connection.
#[derive(Debug)]
pub enum PoolError<E> {
    /// All that there may be are in use.
    Exhausted(Exhaustion),
    /// One could not be opened, for this reason.
    Open(E),
}

impl<E: fmt::Display> fmt::Display for PoolError<E> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            PoolError::Exhausted(exhaustion) => exhaustion.fmt(f),
            PoolError::Open(error) => error.fmt(f),
        }
    }
}

impl<E: std::error::Error> std::error::Error for PoolError<E> {}

/// Makes a returned connection as good as new, if that can be done.
type Reset<M> = fn(&M, &mut <M as ManageConnection>::Connection) -> Returned;

/// A bounded set of connections. Shared freely between threads.
pub struct MonitoredPool<M: ManageConnection> {
    manager: M,
    reset: Reset<M>,
    settings: Settings,
    state: Mutex<State<M::Connection>>,
    sink: Sink,
    clock: Clock,
}

impl<M: ManageConnection> fmt::Debug for MonitoredPool<M> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("MonitoredPool").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl<M: ManageConnection> MonitoredPool<M> {
    /// A pool without any connection yet: they are opened when they are first needed. Connections that come back are good unless
    /// the manager says that they have [broken](ManageConnection::has_broken); alerts go nowhere.
    pub fn new(manager: M, settings: Settings) -> Self {
        let reset: Reset<M> = |manager, connection| {
            if manager.has_broken(connection) { Returned::Broken } else { Returned::Clean }
        };
        let clock = Clock::default();
        MonitoredPool { manager, reset, settings, state: Mutex::new(State::new(settings)), sink: Box::new(drop), clock }
    }

    /// The same with another way to make a returned connection as good as new. It should not block for long; if it panics, the
    /// connection is discarded.
    #[must_use]
    pub fn resetting_by(self, reset: Reset<M>) -> Self {
        MonitoredPool { reset, ..self }
    }

    /// The same with somewhere for alerts to go.
    #[must_use]
    pub fn alerting(self, sink: Sink) -> Self {
        MonitoredPool { sink, ..self }
    }

    /// What the pool is to be.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Borrows a connection; waits for one no longer than the settings say. Who asked first gets one first.
    ///
    /// Fails with [`PoolError::Open`] as soon as one could not be opened, with [`PoolError::Exhausted`] when the time is over. A
    /// panic of the manager while it opens one goes on to the caller.
    pub fn get(&self) -> Result<PooledConnection<'_, M>, PoolError<M::Error>> {
        self.get_within(self.settings.timeout)
    }

    /// The same with a time of the caller's own.
    pub fn get_within(&self, timeout: Duration) -> Result<PooledConnection<'_, M>, PoolError<M::Error>> {
        let now = self.clock.now();
        let (turn, alerts) = self.lock().ask(now);
        self.tell(alerts);
        match turn {
            Turn::Take(conn) => Ok(self.lend(conn)),
            Turn::Check(conn) => self.check(conn),
            Turn::Replace(conn) => self.replace(conn, Reason::Recycled),
            Turn::Open(slot) => self.open(slot),
            Turn::Wait(waiter) => self.wait(&waiter, timeout),
        }
    }

    fn lend(&self, conn: Conn<M::Connection>) -> PooledConnection<'_, M> {
        PooledConnection { pool: self, conn: Some(conn) }
    }

    fn wait(
        &self,
        waiter: &Arc<Waiter<M::Connection>>,
        timeout: Duration,
    ) -> Result<PooledConnection<'_, M>, PoolError<M::Error>> {
        let handed = match waiter.wait(timeout) {
            Some(handed) => handed,
            None => match self.give_up(waiter) {
                Some(exhaustion) => return Err(PoolError::Exhausted(exhaustion)),
                None => waiter.receive(),
            },
        };
        let now = self.clock.now();
        self.lock().served(waiter, now);
        match handed {
            Handed::Connection(conn) => Ok(self.lend(conn)),
            Handed::Slot(slot) => self.open(slot),
        }
    }

    fn give_up(&self, waiter: &Arc<Waiter<M::Connection>>) -> Option<Exhaustion> {
        let now = self.clock.now();
        let given_up = self.lock().give_up(waiter, now);
        let (exhaustion, alerts) = given_up?;
        self.tell(alerts);
        Some(exhaustion)
    }

    fn open(&self, slot: usize) -> Result<PooledConnection<'_, M>, PoolError<M::Error>> {
        let claim = Claim { pool: self, slot };
        let inner = self.manager.connect().map_err(PoolError::Open)?;
        self.lock().opened();
        std::mem::forget(claim);
        Ok(self.lend(Conn { inner, born: self.clock.now(), slot }))
    }

    fn check(&self, mut conn: Conn<M::Connection>) -> Result<PooledConnection<'_, M>, PoolError<M::Error>> {
        let is_valid = catch_unwind(AssertUnwindSafe(|| self.manager.is_valid(&mut conn.inner).is_ok()));
        if is_valid.unwrap_or(false) {
            self.lock().checked();
            return Ok(self.lend(conn));
        }
        self.replace(conn, Reason::Discarded)
    }

    fn replace(
        &self,
        conn: Conn<M::Connection>,
        reason: Reason,
    ) -> Result<PooledConnection<'_, M>, PoolError<M::Error>> {
        let slot = conn.slot;
        drop_quietly(conn.inner);
        self.lock().replaced(reason);
        self.open(slot)
    }

    /// Takes a connection back. Runs while borrowers unwind, so nothing here may panic.
    fn take_back(&self, mut conn: Conn<M::Connection>) {
        let reset = catch_unwind(AssertUnwindSafe(|| (self.reset)(&self.manager, &mut conn.inner)));
        let now = self.clock.now();
        let back = self.lock().give_back(conn, reset.unwrap_or(Returned::Broken), now);
        match back {
            Back::Kept => {}
            Back::Hand(waiter, handed) => waiter.hand(handed),
            Back::Close(conn, reason) => {
                drop_quietly(conn.inner);
                let now = self.clock.now();
                hand_on(self.lock().closed(conn.slot, reason, now));
            }
        }
    }

    /// One consistent picture of the pool.
    pub fn stats(&self) -> PoolStats {
        let now = self.clock.now();
        let (stats, alerts) = self.lock().stats(now);
        self.tell(alerts);
        stats
    }

    /// What is wrong with the pool now, or was within the last five minutes.
    pub fn health(&self) -> Vec<Warning> {
        self.stats().warnings()
    }

    fn tell(&self, alerts: Vec<Alert>) {
        for alert in alerts {
            // The borrower has done nothing wrong.
            let _ = catch_unwind(AssertUnwindSafe(|| (self.sink)(alert)));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<M::Connection>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives what became free to who waits, after the lock is free again.
fn hand_on<C>(next: Option<(Arc<Waiter<C>>, Handed<C>)>) {
    if let Some((waiter, handed)) = next {
        waiter.hand(handed);
    }
}

/// Closes a connection, whatever it thinks of that.
fn drop_quietly<C>(connection: C) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(connection)));
}

/// A slot in which a connection is being opened; passed on if that comes to nothing.
struct Claim<'p, M: ManageConnection> {
    pool: &'p MonitoredPool<M>,
    slot: usize,
}

impl<M: ManageConnection> Drop for Claim<'_, M> {
    fn drop(&mut self) {
        let now = self.pool.clock.now();
        hand_on(self.pool.lock().open_failed(self.slot, now));
    }
}

/// A borrowed connection; dropping it gives it back. One that is forgotten stays in use for ever, which the statistics show.
pub struct PooledConnection<'p, M: ManageConnection> {
    pool: &'p MonitoredPool<M>,
    /// Nothing once it is given back.
    conn: Option<Conn<M::Connection>>,
}

impl<M: ManageConnection> fmt::Debug for PooledConnection<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("PooledConnection").finish_non_exhaustive()
    }
}

const PROOF: &str = "only dropping takes the connection out";

impl<M: ManageConnection> Deref for PooledConnection<'_, M> {
    type Target = M::Connection;

    fn deref(&self) -> &M::Connection {
        &self.conn.as_ref().expect(PROOF).inner
    }
}

impl<M: ManageConnection> DerefMut for PooledConnection<'_, M> {
    fn deref_mut(&mut self) -> &mut M::Connection {
        &mut self.conn.as_mut().expect(PROOF).inner
    }
}

impl<M: ManageConnection> Drop for PooledConnection<'_, M> {
    fn drop(&mut self) {
        if let Some(conn) = self.conn.take() {
            self.pool.take_back(conn);
        }
    }
}

/// A monotonic clock that tests can put forward. How long somebody waits goes by the real one.
#[derive(Debug)]
struct Clock {
    start: Instant,
    #[cfg(test)]
    ahead: std::sync::atomic::AtomicU64,
}

impl Default for Clock {
    fn default() -> Self {
        Clock {
            start: Instant::now(),
            #[cfg(test)]
            ahead: Default::default(),
        }
    }
}

impl Clock {
    fn now(&self) -> Nanos {
        let passed = self.start.elapsed();
        let now = passed.as_secs() * 1_000_000_000 + u64::from(passed.subsec_nanos());
        #[cfg(test)]
        let now = now + self.ahead.load(std::sync::atomic::Ordering::Relaxed);
        now
    }

    #[cfg(test)]
    fn advance(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).expect("less than 500 years");
        self.ahead.fetch_add(nanos, std::sync::atomic::Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
