//! Runs that go on while their caller does something else.
//!
//! A bounded queue and a few library threads, started when first needed. Everything a task needs is copied when it is
//! submitted; a full queue refuses with [`Code::Busy`] instead of growing.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};

use crate::call::{Data, RunOptions};
use crate::error::{Code, Error, Result};
use crate::execution::Execution;
use crate::result::RunResult;
use crate::sandbox::{CancelToken, with_signals_blocked};

/// A submitted run. Any thread may poll, wait and cancel; dropping it lets the run go on unobserved.
#[derive(Debug, Clone)]
pub struct Task(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    result: Mutex<Option<Result<RunResult>>>,
    finished: Condvar,
    /// Readable once there is a result.
    readable: OwnedFd,
    cancel: Arc<CancelToken>,
}

impl Task {
    fn new() -> Result<Self> {
        let no_descriptor = |error| Error::new(Code::Busy, format!("no descriptor for a task: {error}"));
        let readable =
            eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|e| no_descriptor(e.into()))?;
        let cancel = Arc::new(CancelToken::new().map_err(no_descriptor)?);
        Ok(Task(Arc::new(Shared { result: Mutex::new(None), finished: Condvar::new(), readable, cancel })))
    }

    /// Whether there is a result.
    pub fn is_finished(&self) -> bool {
        self.lock().is_some()
    }

    /// The result; waits for it up to `timeout`, or for ever. May be called again and gives the same result.
    /// [`Code::Timeout`] when it did not finish in time, [`Code::Cancelled`] when the library was closed first.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<RunResult> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut result = self.lock();
        loop {
            if let Some(result) = &*result {
                return result.clone();
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            result = match left {
                Some(Duration::ZERO) => return Err(Error::new(Code::Timeout, "the task has not finished in time")),
                Some(left) => self.0.finished.wait_timeout(result, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.0.finished.wait(result).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Ends the run, waiting or going on, with the outcome `cancelled`. A finished one keeps its result.
    pub fn cancel(&self) {
        self.0.cancel.cancel();
    }

    /// Readable once the task has finished. The task owns it.
    pub fn readable(&self) -> BorrowedFd<'_> {
        self.0.readable.as_fd()
    }

    fn finish(&self, result: Result<RunResult>) {
        let mut slot = self.lock();
        if slot.is_none() {
            *slot = Some(result);
        }
        drop(slot);
        // A counter of our own that is written once.
        let _ = rustix::io::write(&self.0.readable, &1u64.to_ne_bytes());
        self.0.finished.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Option<Result<RunResult>>> {
        self.0.result.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a worker takes from the queue.
#[derive(Debug)]
struct Work {
    task: Task,
    skill: String,
    data: Data,
    options: RunOptions,
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
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Work>,
    workers: Vec<JoinHandle<()>>,
    idle: usize,
    is_closed: bool,
}

impl TaskQueue {
    pub fn new(capacity: u64, max_workers: u64) -> Self {
        let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        TaskQueue { shared: Arc::default(), capacity: count(capacity), max_workers: count(max_workers) }
    }

    /// Queues a run.
    pub fn submit(&self, execution: &Arc<Execution>, skill: &str, data: Data, options: RunOptions) -> Result<Task> {
        let task = Task::new()?;
        let mut queue = self.shared.lock();
        if queue.is_closed {
            return Err(Error::new(Code::Closed, "the library is closed"));
        }
        if queue.waiting.len() >= self.capacity {
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
        queue.waiting.push_back(Work { task: task.clone(), skill: skill.to_owned(), data, options });
        drop(queue);
        self.shared.arrived.notify_one();
        Ok(task)
    }

    /// Refuses new tasks and ends those that wait. What runs is for its owner to cancel.
    pub fn close(&self) {
        let mut queue = self.shared.lock();
        queue.is_closed = true;
        let waiting = std::mem::take(&mut queue.waiting);
        drop(queue);
        self.shared.arrived.notify_all();
        for work in waiting {
            work.task.finish(Err(closed()));
        }
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

impl QueueShared {
    fn work(&self, execution: &Arc<Execution>) {
        while let Some(Work { task, skill, data, options }) = self.next() {
            let run = || {
                if task.0.cancel.is_cancelled() {
                    return Ok(RunResult::cancelled(&skill, &options));
                }
                execution.run(&skill, data, &options, Some(&task.0.cancel))
            };
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
            let result = result.unwrap_or_else(|_| Err(Error::new(Code::Panic, "the run met a bug in this library")));
            let is_closed = self.lock().is_closed;
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
            if let Some(work) = queue.waiting.pop_front() {
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
