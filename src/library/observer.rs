//! The thread that looks at memory and keeps the curves: one for each library, asleep nearly always.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::memory::{self, Occasion};
use crate::error::{Code, Error, Result};
use crate::execution::Execution;
use crate::json::Value;
use crate::monitor::event::now;
use crate::monitor::memory::{Memory, mebibytes};
use crate::outcome::Outcome;
use crate::sandbox::with_signals_blocked;
use crate::task::TaskQueue;

#[derive(Debug, Default)]
pub(super) struct Observer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    is_stopped: Mutex<bool>,
    stopped: Condvar,
}

/// Something that is done now and then.
#[derive(Debug)]
struct Due {
    every: Option<Duration>,
    next: Option<Instant>,
}

impl Due {
    fn new(every: Option<Duration>, start: Instant) -> Self {
        Due { every, next: every.and_then(|every| start.checked_add(every)) }
    }

    /// Whether it is to be done now. What was missed (the machine slept) is not made up for.
    fn is_now(&mut self, now: Instant) -> bool {
        let is_now = self.next.is_some_and(|next| next <= now);
        if is_now {
            self.next = self.every.and_then(|every| now.checked_add(every));
        }
        is_now
    }
}

impl Observer {
    /// Starts the thread, unless there is nothing to look at.
    pub fn start(execution: &Arc<Execution>, tasks: &Arc<TaskQueue>) -> Result<Self> {
        let config = &execution.config;
        // Making room is no matter of telling.
        let is_checked = config.memory_enabled && (config.monitor_enabled || config.memory_shrink_caches);
        let is_reported = config.memory_enabled && config.monitor_enabled;
        let every = |is_wanted: bool, number: u64, duration: fn(u64) -> Duration| {
            (is_wanted && number > 0).then(|| duration(number))
        };
        let start = Instant::now();
        let check = Due::new(every(is_checked, config.memory_check_interval_ms, Duration::from_millis), start);
        let report = Due::new(every(is_reported, config.memory_report_interval_s, Duration::from_secs), start);
        let sample = Due::new(execution.monitor.history().interval(), start);
        if [&check, &report, &sample].iter().all(|due| due.next.is_none()) {
            return Ok(Observer::default());
        }
        let shared = Arc::new(Shared::default());
        let work = {
            let (shared, execution, tasks) = (shared.clone(), execution.clone(), tasks.clone());
            move || shared.work(&execution, &tasks, [check, report, sample])
        };
        let thread = std::thread::Builder::new().name("skillcache-observe".to_owned());
        let thread = with_signals_blocked(|| thread.spawn(work))
            .map_err(|error| Error::new(Code::Busy, format!("no thread to watch memory: {error}")))?;
        Ok(Observer { shared, thread: Some(thread) })
    }

    /// Ends the thread and waits for it.
    pub fn stop(&mut self) {
        *self.shared.lock() = true;
        self.shared.stopped.notify_all();
        // A subscriber that closes the library is on this thread: it ends by itself.
        if let Some(thread) = self.thread.take().filter(|thread| thread.thread().id() != std::thread::current().id()) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn work(&self, execution: &Execution, tasks: &TaskQueue, [mut check, mut report, mut sample]: [Due; 3]) {
        while self.sleep_until([&check, &report, &sample].into_iter().filter_map(|due| due.next).min()) {
            let now = Instant::now();
            // A report is a look, too.
            let (is_check, is_report) = (check.is_now(now), report.is_now(now));
            if is_check || is_report {
                memory::look(execution, if is_report { Occasion::Due } else { Occasion::Check });
            }
            if sample.is_now(now) {
                execution.monitor.history().keep(taken(execution, tasks));
            }
        }
    }

    /// Says whether to go on.
    fn sleep_until(&self, moment: Option<Instant>) -> bool {
        let mut is_stopped = self.lock();
        while !*is_stopped {
            let left = moment.map(|moment| moment.saturating_duration_since(Instant::now()));
            is_stopped = match left {
                Some(Duration::ZERO) => return true,
                Some(left) => self.stopped.wait_timeout(is_stopped, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.stopped.wait(is_stopped).unwrap_or_else(PoisonError::into_inner),
            };
        }
        false
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.is_stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One sample of the curves: nothing that would have to wait for the database.
fn taken(execution: &Execution, tasks: &TaskQueue) -> Value {
    let monitor = &execution.monitor;
    let counts = monitor.run_counts();
    let total: u64 = counts.iter().flatten().sum();
    let cached: u64 = counts.iter().map(|[_, cached]| cached).sum();
    let not_failed = [Outcome::Success, Outcome::Cancelled].map(|outcome| counts[outcome as usize].iter().sum::<u64>());
    let [(_, results), ..] = execution.cache_stats();
    let pool = execution.store.pool_stats();
    let memory = if execution.config.memory_enabled { Memory::now() } else { None };
    Value::object([
        ("time", Value::from(now())),
        ("uptime_s", Value::from(monitor.uptime().as_secs_f64())),
        ("runs", Value::from(total)),
        ("cached", Value::from(cached)),
        ("failed", Value::from(total - not_failed.iter().sum::<u64>())),
        ("hits", Value::from(results.hits)),
        ("misses", Value::from(results.misses)),
        ("entries", Value::from(results.size)),
        ("max_entries", Value::from(results.max_size)),
        ("bytes", Value::from(results.bytes)),
        ("max_bytes", Value::from(results.max_bytes)),
        ("pool_in_use", Value::from(pool.open - pool.idle)),
        ("pool_size", Value::from(pool.settings.size)),
        ("pool_open", Value::from(pool.open)),
        ("pool_waiting", Value::from(pool.waiting)),
        ("pool_exhaustions", Value::from(pool.counts.exhaustions)),
        ("tasks_waiting", Value::from(tasks.stats().waiting)),
        ("rss_mb", memory.map_or(Value::Null, |memory| mebibytes(memory.rss))),
        ("memory_percent", memory.map_or(Value::Null, |memory| Value::from(memory.percent()))),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_missed_is_not_made_up_for() {
        let start = Instant::now();
        let mut due = Due::new(Some(Duration::from_secs(10)), start);
        let mut is_now = |seconds| due.is_now(start + Duration::from_secs(seconds));
        assert_eq!([9, 10, 11, 95, 96, 104, 105].map(&mut is_now), [false, true, false, true, false, false, true]);
        assert!(!Due::new(None, start).is_now(start + Duration::from_secs(1000)));
    }
}
