//! The one writer of a store: every change of the database goes through its thread.
//!
//! SQLite lets one connection write at a time and makes the others wait by trying again; each durable transaction waits for
//! the disk. So threads that write for themselves get the disk's rate in all, and some wait long. Here they queue up. The writer
//! begins a transaction, takes what waits, gives each request a savepoint, and commits once: while the disk is busy
//! with one group the next one gathers (*group commit*; there is no delay to make groups larger). Whoever asked hears of the
//! end when the whole group is on the disk, and not before.
//!
//! What holds:
//!
//! * A request that fails leaves nothing behind and harms no other of its group. If the transaction itself fails (the disk is full,
//!   say) every request of it fails with that error, and nothing of it is there. One thing cannot be known: a commit whose
//!   last write to the disk failed may still turn out to be there after the machine has crashed.
//! * A request begins within the patience of whoever asked, or never: it is taken back under a lock, so the answer
//!   `busy` means that nothing was or will be written. Once begun it is waited for.
//! * Another process that writes is waited for as long, in short turns, so that a request that comes later does not fail early.
//! * What may wait ([`Deferred`]: counters, results that are kept) rides with the next group, or goes alone once it is due, and
//!   then without waiting for the disk (`synchronous = NORMAL`): a power failure may take it, a killed process does not.
//! * The log stays bounded. SQLite starts it again when nobody reads in it, which under load may be never: a log that has
//!   grown large, or is left behind when work ends, is emptied here, waiting for its readers for a moment.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::connection::ConnectionPool;
use super::generation;
use super::sqlite::translate;
use crate::error::{Code, Error, Result};
use crate::json::Value;

/// The most requests of one transaction: it bounds how long the first one waits for the others.
const MOST_A_GROUP: usize = 256;
/// The most requests that wait; more of them wait outside, for room.
const CAPACITY: usize = 1024;
/// How long one try to get SQLite's write lock lasts.
const TURN: Duration = Duration::from_millis(250);
/// From this size on the log is emptied between groups.
const LARGE_LOG: u64 = 16 << 20;
/// How long emptying the log may wait for readers, and how long it is before that is tried again.
const LOG_PATIENCE: Duration = Duration::from_millis(200);
const LOG_INTERVAL: Duration = Duration::from_secs(1);
/// After so long without a commit the log is emptied, whatever its size.
const LOG_IDLE: Duration = Duration::from_secs(5);

/// Work that is written with the next group, or alone once it is due.
pub(super) trait Deferred: Send + Sync {
    /// When something is to be written at the latest; `None` if nothing waits.
    fn due(&self) -> Option<Instant>;
    /// Writes what waits, and remembers what that was.
    fn write(&self, connection: &Connection) -> Result<()>;
    /// Says what became of what was written: it is in the database, or it has to wait again.
    fn settle(&self, written: Result<()>);
}

/// Where the writer has its connection from.
pub(super) enum Home {
    /// A connection of its own, and where the log of its file is.
    File { connection: Box<Connection>, log: PathBuf },
    /// The pool's only one.
    Memory,
}

/// The writer; closing it, or dropping it, writes what waits and ends its thread.
pub(super) struct Writer {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    patience: Duration,
}

struct Shared {
    queue: Mutex<Queue>,
    /// Something to do, or closed.
    arrived: Condvar,
    /// Room in the queue, or closed.
    left: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Box<dyn Request>>,
    is_closed: bool,
    numbers: Numbers,
    /// When somebody who writes was last refused.
    refused_at: Option<Instant>,
    /// When a write, or a commit, last failed.
    failed_at: Option<Instant>,
}

impl Queue {
    /// Readers that do not wait for counts are counted, and no sign of trouble.
    fn refuse(&mut self, is_durable: bool) {
        if is_durable {
            self.numbers.refused += 1;
            self.refused_at = Some(Instant::now());
        } else {
            self.numbers.not_waited_for += 1;
        }
    }
}

impl Queue {
    /// Counts a transaction that failed.
    fn fail(&mut self) {
        self.numbers.failed_commits += 1;
        self.failed_at = Some(Instant::now());
    }
}

/// What the writer has done so far.
#[derive(Debug, Clone, Copy, Default)]
struct Numbers {
    requests: u64,
    refused: u64,
    not_waited_for: u64,
    commits: u64,
    failed_commits: u64,
    largest_group: u64,
    busy_turns: u64,
    emptied_logs: u64,
}

/// What is asked of the writer.
trait Request: Send {
    /// Whether whoever asked still wants it.
    fn begin(&self) -> bool;
    /// Whether the disk has to be waited for.
    fn is_durable(&self) -> bool;
    /// Does it, in a savepoint. Its result waits for the commit.
    fn run(&mut self, connection: &Connection) -> Result<()>;
    /// Says how it ended.
    fn end(self: Box<Self>, committed: Result<()>);
}

/// A request and whoever waits for it.
struct Pending<T, F> {
    job: Option<F>,
    value: Option<T>,
    is_durable: bool,
    ticket: Arc<Ticket<T>>,
}

struct Ticket<T> {
    progress: Mutex<Progress<T>>,
    ended: Condvar,
}

enum Progress<T> {
    Waiting,
    TakenBack,
    Begun,
    Ended(Result<T>),
}

impl<T> Ticket<T> {
    fn lock(&self) -> MutexGuard<'_, Progress<T>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, result: Result<T>) {
        *self.lock() = Progress::Ended(result);
        self.ended.notify_one();
    }

    /// Waits for the end; for the beginning no longer than until the deadline.
    fn wait(&self, deadline: Option<Instant>) -> Option<Result<T>> {
        let mut progress = self.lock();
        loop {
            match std::mem::replace(&mut *progress, Progress::Begun) {
                Progress::Ended(result) => return Some(result),
                Progress::TakenBack => return None,
                waiting_or_begun => *progress = waiting_or_begun,
            }
            let left = match *progress {
                Progress::Waiting => deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())),
                _ => None,
            };
            progress = match left {
                Some(Duration::ZERO) => {
                    *progress = Progress::TakenBack;
                    return None;
                }
                Some(left) => self.ended.wait_timeout(progress, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.ended.wait(progress).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

impl<T, F> Request for Pending<T, F>
where
    T: Send,
    F: FnOnce(&Connection) -> Result<T> + Send,
{
    fn begin(&self) -> bool {
        let mut progress = self.ticket.lock();
        let is_wanted = matches!(*progress, Progress::Waiting);
        if is_wanted {
            *progress = Progress::Begun;
        }
        is_wanted
    }

    fn is_durable(&self) -> bool {
        self.is_durable
    }

    fn run(&mut self, connection: &Connection) -> Result<()> {
        let Some(job) = self.job.take() else { return Ok(()) };
        let done = catch_unwind(AssertUnwindSafe(|| job(connection)));
        self.value = Some(done.unwrap_or_else(|_| Err(Error::new(Code::Panic, "a write met a bug in this library")))?);
        Ok(())
    }

    fn end(mut self: Box<Self>, committed: Result<()>) {
        let value = self.value.take().ok_or_else(gone);
        self.ticket.end(committed.and(value));
    }
}

impl<T, F> Drop for Pending<T, F> {
    /// Nobody waits for ever for a request that was lost with its thread.
    fn drop(&mut self) {
        let is_open = matches!(*self.ticket.lock(), Progress::Waiting | Progress::Begun);
        if is_open {
            self.ticket.end(Err(gone()));
        }
    }
}

fn gone() -> Error {
    Error::new(Code::Closed, "the library was closed before this was written")
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Writer").field("patience", &self.patience).finish_non_exhaustive()
    }
}

impl Writer {
    /// Starts the thread. `pool` is where a database in memory has its connection.
    pub fn start(
        home: Home,
        pool: &Arc<ConnectionPool>,
        generation: &Arc<generation::Source>,
        deferred: Arc<dyn Deferred>,
    ) -> Result<Self> {
        let shared = Arc::new(Shared { queue: Mutex::default(), arrived: Condvar::new(), left: Condvar::new() });
        let patience = pool.timeout();
        let worker = Worker {
            shared: shared.clone(),
            pool: pool.clone(),
            generation: generation.clone(),
            deferred,
            patience,
            log_looked_at: Instant::now(),
            log_is_dirty: false,
        };
        let thread = std::thread::Builder::new().name("skillcache-writer".to_owned()).spawn(move || worker.work(&home));
        let thread = thread.map_err(|error| Error::new(Code::Busy, format!("no thread for writing: {error}")))?;
        Ok(Writer { shared, thread: Mutex::new(Some(thread)), patience })
    }

    /// Carries a job out in a transaction and waits until it is on the disk.
    ///
    /// [`Code::Busy`] if it could not begin within the pool's timeout: nothing was written then.
    pub fn write<T: Send + 'static>(&self, job: impl FnOnce(&Connection) -> Result<T> + Send + 'static) -> Result<T> {
        let written = self.ask(true, self.patience, job).unwrap_or_else(|| Err(self.too_busy()));
        if written.as_ref().is_err_and(|error| error.code() == Code::Database) {
            self.shared.lock().failed_at = Some(Instant::now());
        }
        written
    }

    /// Has what may wait written now, and everything before it; says whether that was done within the time.
    pub fn settle(&self, patience: Duration) -> bool {
        matches!(self.ask(false, patience, |_| Ok(())), Some(Ok(())))
    }

    /// Makes the writer look when the deferred work is due.
    pub fn remind(&self) {
        drop(self.shared.lock());
        self.shared.arrived.notify_one();
    }

    /// Nothing if it did not begin in time.
    fn ask<T: Send + 'static>(
        &self,
        is_durable: bool,
        patience: Duration,
        job: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Option<Result<T>> {
        let deadline = Instant::now().checked_add(patience);
        let ticket = Arc::new(Ticket { progress: Mutex::new(Progress::Waiting), ended: Condvar::new() });
        let request = Pending { job: Some(job), value: None, is_durable, ticket: ticket.clone() };
        let mut queue = self.shared.lock();
        if !is_durable && queue.waiting.len() >= CAPACITY / 2 {
            // Readers that want counts must not take the room of those who write.
            return None;
        }
        while queue.waiting.len() >= CAPACITY && !queue.is_closed {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            queue = match left {
                Some(Duration::ZERO) => {
                    queue.refuse(is_durable);
                    return None;
                }
                Some(left) => self.shared.left.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.shared.left.wait(queue).unwrap_or_else(PoisonError::into_inner),
            };
        }
        if queue.is_closed {
            return Some(Err(gone()));
        }
        queue.waiting.push_back(Box::new(request));
        drop(queue);
        self.shared.arrived.notify_one();
        let result = ticket.wait(deadline);
        if result.is_none() {
            self.shared.lock().refuse(is_durable);
        }
        result
    }

    fn too_busy(&self) -> Error {
        let millis = self.patience.as_millis();
        let message = format!(
            "the write could not begin for {millis} ms (pool.timeout_ms), for others were in its way; nothing was written"
        );
        Error::new(Code::Busy, message)
    }

    /// How long ago a write was last refused; no time at all while there is no room for more.
    pub fn last_refusal(&self) -> Option<Duration> {
        let queue = self.shared.lock();
        if queue.waiting.len() >= CAPACITY { Some(Duration::ZERO) } else { queue.refused_at.map(|at| at.elapsed()) }
    }

    /// How long ago a write, or a commit, last failed.
    pub fn last_failure(&self) -> Option<Duration> {
        self.shared.lock().failed_at.map(|at| at.elapsed())
    }

    /// `{"waiting", "requests", "refused", "not_waited_for", "commits", "failed_commits", "largest_group", "busy_turns", "emptied_logs"}`.
    pub fn stats(&self) -> Value {
        let queue = self.shared.lock();
        let Numbers {
            requests,
            refused,
            not_waited_for,
            commits,
            failed_commits,
            largest_group,
            busy_turns,
            emptied_logs,
        } = queue.numbers;
        Value::object([
            ("waiting", Value::from(queue.waiting.len())),
            ("requests", Value::from(requests)),
            ("refused", Value::from(refused)),
            ("not_waited_for", Value::from(not_waited_for)),
            ("commits", Value::from(commits)),
            ("failed_commits", Value::from(failed_commits)),
            ("largest_group", Value::from(largest_group)),
            ("busy_turns", Value::from(busy_turns)),
            ("emptied_logs", Value::from(emptied_logs)),
        ])
    }

    /// Writes what waits and ends the thread. May be called again.
    pub fn close(&self) {
        self.shared.lock().is_closed = true;
        self.shared.arrived.notify_all();
        self.shared.left.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A thread that panicked has nothing left to say.
            let _ = thread.join();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the thread has.
struct Worker {
    shared: Arc<Shared>,
    pool: Arc<ConnectionPool>,
    generation: Arc<generation::Source>,
    deferred: Arc<dyn Deferred>,
    patience: Duration,
    log_looked_at: Instant,
    /// Whether something was committed since the log was empty.
    log_is_dirty: bool,
}

/// How a turn at the write lock went.
enum Turn {
    Done,
    Busy,
}

impl Worker {
    fn work(mut self, home: &Home) {
        let pool = self.pool.clone();
        let mut closed_at = None;
        while self.wait_for_work(home, &mut closed_at) {
            let turn = match home {
                Home::File { connection, log } => {
                    let turn = self.write_group(connection);
                    self.look_at_log(connection, log, LARGE_LOG);
                    turn
                }
                // With the pool's connection here nobody reads what the generation does not tell of yet.
                Home::Memory => match pool.get() {
                    Ok(connection) => self.write_group(&connection),
                    Err(error) => self.refuse_all(&error),
                },
            };
            let Some(closed_at) = closed_at else { continue };
            // What is due again was written in part; what is due later could not be, and is lost with the process.
            let is_more_due = self.deferred.due().is_some_and(|due| due <= Instant::now());
            match turn {
                Turn::Done if !is_more_due && self.shared.lock().waiting.is_empty() => return,
                Turn::Busy if closed_at.elapsed() >= self.patience => {
                    self.refuse_all(&gone());
                    return;
                }
                Turn::Done | Turn::Busy => {}
            }
        }
    }

    /// Waits until there is something to write; false if the writer is closed and there is nothing.
    fn wait_for_work(&mut self, home: &Home, closed_at: &mut Option<Instant>) -> bool {
        let shared = self.shared.clone();
        let mut queue = shared.lock();
        loop {
            // Asked under the lock: whoever reminds comes through it after there is something.
            let due = self.deferred.due();
            if queue.is_closed {
                closed_at.get_or_insert_with(Instant::now);
                return due.is_some() || !queue.waiting.is_empty();
            }
            let now = Instant::now();
            if !queue.waiting.is_empty() || due.is_some_and(|due| due <= now) {
                return true;
            }
            let idle = self.log_is_dirty.then_some(LOG_IDLE);
            let Some(left) = idle.into_iter().chain(due.map(|due| due - now)).min() else {
                queue = shared.arrived.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let (woken, waited) = shared.arrived.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner);
            queue = woken;
            let is_idle = waited.timed_out() && queue.waiting.is_empty() && Some(left) == idle;
            if is_idle && let Home::File { connection, log } = home {
                drop(queue);
                self.empty_log(connection, log, 0);
                queue = shared.lock();
            }
        }
    }

    /// Empties a large log, trying at most once in a while.
    fn look_at_log(&mut self, connection: &Connection, log: &Path, least: u64) {
        if self.log_looked_at.elapsed() >= LOG_INTERVAL {
            self.empty_log(connection, log, least);
        }
    }

    /// Empties a log of at least so many bytes, if its readers are gone within a moment.
    fn empty_log(&mut self, connection: &Connection, log: &Path, least: u64) {
        self.log_looked_at = Instant::now();
        let size = std::fs::metadata(log).map_or(0, |metadata| metadata.len());
        if size < least.max(1) {
            return;
        }
        // Readers that stay, or a disk that fails, are no reason to keep trying: the next commit is.
        self.log_is_dirty = false;
        let emptied = connection
            .busy_timeout(LOG_PATIENCE)
            .and_then(|()| set_durable(connection, true))
            .and_then(|()| connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0)));
        self.shared.lock().numbers.emptied_logs += u64::from(emptied == Ok(0));
    }

    /// One transaction with all that waits.
    fn write_group(&mut self, connection: &Connection) -> Turn {
        // Who only has to be told that all before it is written, and what may wait, need not wait for the disk.
        let is_durable = self.shared.lock().waiting.iter().any(|request| request.is_durable());
        let begun = set_durable(connection, is_durable)
            .and_then(|()| connection.busy_timeout(TURN))
            .and_then(|()| connection.execute_batch("BEGIN IMMEDIATE"));
        if let Err(error) = begun {
            let error = translate(error);
            if error.code() == Code::Busy {
                self.shared.lock().numbers.busy_turns += 1;
                self.deferred.settle(Err(error));
                return Turn::Busy;
            }
            self.shared.lock().fail();
            self.deferred.settle(Err(error.clone()));
            return self.refuse_all(&error);
        }
        let group = self.take_group(is_durable);
        self.run_group(connection, group);
        Turn::Done
    }

    /// What waits now. In a transaction that does not wait for the disk only what need not.
    fn take_group(&self, is_durable: bool) -> Vec<Box<dyn Request>> {
        let mut queue = self.shared.lock();
        let first = queue.waiting.iter().take(MOST_A_GROUP);
        let count = first.take_while(|request| is_durable || !request.is_durable()).count();
        let group: Vec<_> = queue.waiting.drain(..count).collect();
        queue.numbers.requests += group.len() as u64;
        queue.numbers.largest_group = queue.numbers.largest_group.max(group.len() as u64);
        drop(queue);
        self.shared.left.notify_all();
        group
    }

    fn run_group(&mut self, connection: &Connection, group: Vec<Box<dyn Request>>) {
        let mut done = Vec::with_capacity(group.len());
        let mut broken = None;
        let changes = connection.total_changes();
        let deferred = in_savepoint(connection, |connection| self.deferred.write(connection));
        if connection.is_autocommit() {
            // It took the transaction along. The requests get another, or none.
            broken = connection.execute_batch("BEGIN IMMEDIATE").map_err(translate).err();
        }
        for mut request in group {
            if broken.is_some() || !request.begin() {
                // One that was taken back is dropped; one whose transaction is gone waits no longer than the others of it.
                if let Some(error) = broken.clone() {
                    request.end(Err(error));
                }
                continue;
            }
            match in_savepoint(connection, |connection| request.run(connection)) {
                Ok(()) => done.push(request),
                Err(error) => {
                    broken = connection.is_autocommit().then(|| error.clone());
                    request.end(Err(error));
                }
            }
        }
        let committed = broken.map_or_else(|| connection.execute_batch("COMMIT").map_err(translate), Err);
        if !connection.is_autocommit() {
            // A commit that failed may leave its transaction open.
            let _ = connection.execute_batch("ROLLBACK");
        }
        if connection.total_changes() != changes {
            self.generation.note_commit();
            self.log_is_dirty = true;
        }
        let mut queue = self.shared.lock();
        match &committed {
            Ok(()) => queue.numbers.commits += 1,
            Err(_) => queue.fail(),
        }
        drop(queue);
        self.deferred.settle(deferred.and(committed.clone()));
        for request in done {
            request.end(committed.clone());
        }
    }

    fn refuse_all(&self, error: &Error) -> Turn {
        let waiting = std::mem::take(&mut self.shared.lock().waiting);
        self.shared.left.notify_all();
        for request in waiting {
            if request.begin() {
                request.end(Err(error.clone()));
            }
        }
        Turn::Done
    }
}

/// Does something that leaves nothing behind if it fails. If it went well, the transaction goes on: SQLite ends one by itself on some failures, which
/// whoever met them may have taken for their own alone.
pub(super) fn in_savepoint(connection: &Connection, job: impl FnOnce(&Connection) -> Result<()>) -> Result<()> {
    connection.prepare_cached("SAVEPOINT request").and_then(|mut begin| begin.execute([])).map_err(translate)?;
    let done = job(connection);
    if done.is_err() && !connection.is_autocommit() && connection.execute_batch("ROLLBACK TO request").is_err() {
        // What cannot be undone alone goes with the whole transaction.
        let _ = connection.execute_batch("ROLLBACK");
    }
    if connection.is_autocommit() {
        return done.and(Err(Error::new(Code::Database, "the transaction was rolled back on the way")));
    }
    connection.prepare_cached("RELEASE request").and_then(|mut end| end.execute([])).map_err(translate)?;
    done
}

fn set_durable(connection: &Connection, is_durable: bool) -> rusqlite::Result<()> {
    connection.execute_batch(if is_durable { "PRAGMA synchronous = FULL" } else { "PRAGMA synchronous = NORMAL" })
}

#[cfg(test)]
mod tests;
