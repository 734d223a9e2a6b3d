//! Runs that go on while their caller does something else.
//!
//! A bounded queue and a few library threads, started when first needed. Everything a task needs is copied when it is
//! submitted; a full queue refuses with [`Code::Busy`] instead of growing. The skills that wait take turns ([`Turns`]).

mod turns;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};

use crate::call::{Data, RunOptions};
use crate::error::{Code, Error, Result};
use crate::execution::{Execution, Given};
use crate::json::Value;
use crate::result::RunResult;
use crate::sandbox::{CancelToken, with_signals_blocked};

use turns::Turns;

/// A submitted run. Any thread may poll, wait and cancel; dropping it lets the run go on unobserved.
#[derive(Debug, Clone)]
pub struct Task(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Written once. Looking at it takes no lock: a game does so in every frame.
    result: OnceLock<Result<RunResult>>,
    /// Held by who is about to sleep until there is a result, and to wake those who do.
    sleepers: Mutex<()>,
    finished: Condvar,
    /// Readable once there is a result; made when it is first asked for, so that tasks that only wait take no descriptors.
    readable: OnceLock<OwnedFd>,
    cancel: Arc<CancelToken>,
    /// Where it waits, and where in there.
    queue: Weak<QueueShared>,
    skill: Arc<str>,
    ticket: u64,
}

impl Task {
    fn new(queue: &Arc<QueueShared>, skill: &str) -> Self {
        Task(Arc::new(Shared {
            result: OnceLock::new(),
            sleepers: Mutex::new(()),
            finished: Condvar::new(),
            readable: OnceLock::new(),
            cancel: Arc::default(),
            queue: Arc::downgrade(queue),
            skill: Arc::from(skill),
            ticket: queue.next_ticket.fetch_add(1, Ordering::Relaxed),
        }))
    }

    /// Whether there is a result. Costs one load.
    pub fn is_finished(&self) -> bool {
        self.0.result.get().is_some()
    }

    /// The result; waits for it up to `timeout`, or for ever. May be called again and gives the same result.
    /// [`Code::Timeout`] when it did not finish in time, [`Code::Cancelled`] when the library was closed first.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<RunResult> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut asleep = self.lock();
        loop {
            if let Some(result) = self.0.result.get() {
                return result.clone();
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            asleep = match left {
                Some(Duration::ZERO) => return Err(Error::new(Code::Timeout, "the task has not finished in time")),
                Some(left) => self.0.finished.wait_timeout(asleep, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.0.finished.wait(asleep).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Ends the run with the outcome `cancelled`: one that waits at once, giving its place in the queue free, one that goes
    /// on as soon as its child is gone. A finished one keeps its result.
    pub fn cancel(&self) {
        self.0.cancel.cancel();
        let Some(queue) = self.0.queue.upgrade() else { return };
        let waiting = {
            let mut queue = queue.lock();
            let waiting = queue.waiting.remove(&self.0.skill, self.0.ticket);
            queue.cancelled += u64::from(waiting.is_some());
            waiting
        };
        if let Some(work) = waiting {
            self.finish(Ok(RunResult::cancelled(&self.0.skill, &work.options)));
        }
    }

    /// Readable once the task has finished. The task owns it. [`Code::Busy`] when the process is out of descriptors.
    pub fn readable(&self) -> Result<BorrowedFd<'_>> {
        // Whoever finishes it holds the same lock from its result to its look for a descriptor.
        let _held = self.lock();
        if let Some(readable) = self.0.readable.get() {
            return Ok(readable.as_fd());
        }
        let made = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| Error::new(Code::Busy, format!("no descriptor for a task: {error}")))?;
        let readable = self.0.readable.get_or_init(|| made);
        if self.is_finished() {
            signal(readable);
        }
        Ok(readable.as_fd())
    }

    fn finish(&self, result: Result<RunResult>) {
        // Waiting and asking for the descriptor come through the same lock: nobody misses the call, and for whoever got the
        // result by waiting the descriptor is readable.
        let held = self.lock();
        if self.0.result.set(result).is_err() {
            return;
        }
        if let Some(readable) = self.0.readable.get() {
            signal(readable);
        }
        drop(held);
        self.0.finished.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.0.sleepers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes a descriptor readable: a counter of our own, which is never full.
fn signal(readable: &OwnedFd) {
    let _ = rustix::io::write(readable, &1u64.to_ne_bytes());
}

/// What a worker takes from the queue.
#[derive(Debug)]
struct Work {
    task: Task,
    data: Data,
    options: RunOptions,
    since: Instant,
}

/// What a queue did and holds, at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TaskStats {
    /// Taken on: those that wait, run, have finished and were cancelled while they waited.
    pub submitted: u64,
    /// Run to their end, whatever it was.
    pub finished: u64,
    /// Refused because the queue was full.
    pub refused: u64,
    /// Cancelled, or ended by closing, while they waited.
    pub cancelled: u64,
    /// Waiting now.
    pub waiting: usize,
    /// Running now.
    pub running: usize,
    /// Threads.
    pub workers: usize,
}

/// The queue and its workers.
#[derive(Debug)]
pub(crate) struct TaskQueue {
    shared: Arc<QueueShared>,
    capacity: usize,
    max_workers: usize,
}

#[derive(Debug, Default)]
struct QueueShared {
    queue: Mutex<Queue>,
    arrived: Condvar,
    next_ticket: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Turns<Work>,
    workers: Vec<JoinHandle<()>>,
    idle: usize,
    is_closed: bool,
    submitted: u64,
    finished: u64,
    refused: u64,
    cancelled: u64,
}

impl TaskQueue {
    pub fn new(capacity: u64, max_workers: u64) -> Self {
        let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        TaskQueue { shared: Arc::default(), capacity: count(capacity), max_workers: count(max_workers) }
    }

    /// Queues a run.
    pub fn submit(&self, execution: &Arc<Execution>, skill: &str, data: Data, options: RunOptions) -> Result<Task> {
        let task = Task::new(&self.shared, skill);
        let mut queue = self.shared.lock();
        if queue.is_closed {
            return Err(Error::new(Code::Closed, "the library is closed"));
        }
        if queue.waiting.len() >= self.capacity {
            queue.refused += 1;
            let message =
                format!("{} tasks are waiting already (task.queue); wait for one or submit later", self.capacity);
            return Err(Error::new(Code::Busy, message));
        }
        if queue.idle <= queue.waiting.len() && queue.workers.len() < self.max_workers {
            let (shared, execution) = (self.shared.clone(), execution.clone());
            let thread = std::thread::Builder::new().name("skillcache-task".to_owned());
            match with_signals_blocked(|| thread.spawn(move || shared.work(&execution))) {
                Ok(worker) => queue.workers.push(worker),
                Err(error) if queue.workers.is_empty() => {
                    return Err(Error::new(Code::Busy, format!("no thread for a task: {error}")));
                }
                // The workers that are there will come to it.
                Err(_) => {}
            }
        }
        let (skill, ticket) = (&task.0.skill, task.0.ticket);
        queue.waiting.push(skill, ticket, Work { task: task.clone(), data, options, since: Instant::now() });
        queue.submitted += 1;
        drop(queue);
        self.shared.arrived.notify_one();
        Ok(task)
    }

    /// Refuses new tasks and ends those that wait. What runs is for its owner to cancel.
    pub fn close(&self) {
        let mut queue = self.shared.lock();
        queue.is_closed = true;
        let mut waiting = std::mem::take(&mut queue.waiting);
        queue.cancelled += waiting.len() as u64;
        drop(queue);
        self.shared.arrived.notify_all();
        while let Some(work) = waiting.take_next() {
            work.task.finish(Err(closed()));
        }
    }

    /// What it did and holds.
    pub fn stats(&self) -> TaskStats {
        let queue = self.shared.lock();
        let Queue { submitted, finished, refused, cancelled, .. } = *queue;
        let waiting = queue.waiting.len();
        // Taken on and neither waiting nor over.
        let running = usize::try_from(submitted - finished - cancelled).unwrap_or(usize::MAX) - waiting;
        TaskStats { submitted, finished, refused, cancelled, waiting, running, workers: queue.workers.len() }
    }

    /// How many tasks may wait, and how many threads there may be.
    pub fn bounds(&self) -> [usize; 2] {
        [self.capacity, self.max_workers]
    }

    /// Waits until the workers of a closed queue are gone.
    pub fn join(&self) {
        let workers = std::mem::take(&mut self.shared.lock().workers);
        for worker in workers {
            // A worker that panicked has nothing left to say.
            let _ = worker.join();
        }
    }
}

fn closed() -> Error {
    Error::new(Code::Cancelled, "the library was closed before the task finished")
}

impl TaskStats {
    /// `{"submitted", "finished", "refused", "cancelled", "waiting", "running", "workers", "max_waiting", "max_workers"}`.
    pub fn to_value(self, [max_waiting, max_workers]: [usize; 2]) -> Value {
        let TaskStats { submitted, finished, refused, cancelled, waiting, running, workers } = self;
        let counters =
            [("submitted", submitted), ("finished", finished), ("refused", refused), ("cancelled", cancelled)];
        let gauges = [("waiting", waiting), ("running", running), ("workers", workers)];
        let bounds = [("max_waiting", max_waiting), ("max_workers", max_workers)];
        let counters = counters.map(|(name, number)| (name, Value::from(number)));
        Value::object(
            counters
                .into_iter()
                .chain(gauges.into_iter().chain(bounds).map(|(name, number)| (name, Value::from(number)))),
        )
    }
}

impl QueueShared {
    fn work(&self, execution: &Arc<Execution>) {
        while let Some(Work { task, data, options, since }) = self.next() {
            execution.monitor.count_wait(since.elapsed());
            let run = || {
                let skill = &task.0.skill;
                if task.0.cancel.is_cancelled() {
                    return Ok(RunResult::cancelled(skill, &options));
                }
                execution.run(skill, &Given::Read(data), &options, Some(&task.0.cancel))
            };
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
            let result = result.unwrap_or_else(|_| Err(Error::new(Code::Panic, "the run met a bug in this library")));
            let is_closed = {
                let mut queue = self.lock();
                queue.finished += 1;
                queue.is_closed
            };
            let ended = result.as_ref().is_ok_and(|result| result.outcome != crate::Outcome::Cancelled);
            task.finish(if is_closed && !ended { Err(closed()) } else { result });
        }
    }

    fn next(&self) -> Option<Work> {
        let mut queue = self.lock();
        loop {
            if queue.is_closed {
                return None;
            }
            if let Some(work) = queue.waiting.take_next() {
                return Some(work);
            }
            queue.idle += 1;
            queue = self.arrived.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.idle -= 1;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished() -> Result<RunResult> {
        Ok(RunResult::cancelled("s", &RunOptions::default()))
    }

    #[test]
    fn looking_takes_no_lock() {
        let task = Task::new(&Arc::default(), "s");
        // With a lock to take, this thread would wait for itself.
        let _locked = task.lock();
        assert!(!task.is_finished());
        task.0.result.set(finished()).expect("the first result");
        assert!(task.is_finished());
    }

    #[test]
    fn the_first_result_stays_and_wakes_everybody() {
        let task = Task::new(&Arc::default(), "s");
        std::thread::scope(|scope| {
            let waiters: Vec<_> =
                (0..4).map(|_| scope.spawn(|| task.wait(None).map(|result| result.outcome))).collect();
            task.finish(finished());
            task.finish(Err(closed()));
            for waiter in waiters {
                assert_eq!(waiter.join().expect("no panic"), Ok(crate::Outcome::Cancelled));
            }
        });
    }

    #[test]
    fn for_whoever_got_the_result_by_waiting_the_descriptor_is_readable() {
        for _ in 0..200 {
            let task = Task::new(&Arc::default(), "s");
            let readable = task.readable().expect("a descriptor").try_clone_to_owned().expect("another");
            std::thread::scope(|scope| {
                let waiter = scope.spawn(|| {
                    task.wait(None).expect("a result");
                    rustix::io::read(&readable, &mut [0; 8]).expect("it is readable")
                });
                // Nothing may show before whoever waits can be let through to both.
                let held = task.lock();
                let finisher = scope.spawn(|| task.finish(finished()));
                std::thread::sleep(Duration::from_micros(200));
                assert!(!task.is_finished());
                drop(held);
                finisher.join().expect("no panic");
                assert_eq!(waiter.join().expect("no panic"), 8);
            });
        }
    }

    #[test]
    fn cancelling_outlives_the_queue() {
        let queue = Arc::default();
        let task = Task::new(&queue, "s");
        drop(queue);
        task.cancel();
        assert!(!task.is_finished(), "nobody has it waiting, so nobody finishes it");
    }
}
