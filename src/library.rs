//! The facade: everything a caller can ask of a library.

use std::fmt;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::cache::key;
use crate::call::{Data, RunOptions, not_json};
use crate::config::Config;
use crate::error::{Code, Error, Result};
use crate::execution::{Execution, Script};
use crate::json::Value;
use crate::monitor::event::Severity;
use crate::monitor::{memory, metrics};
use crate::python::{self, Analysis, Finding, Names, SyntaxFault, rules::RULES_VERSION};
use crate::result::RunResult;
use crate::sandbox::{CancelToken, with_signals_blocked};
use crate::skill::{Skill, check_id};
use crate::store::Filter;
use crate::task::{Task, TaskQueue};

/// Receives events as JSON text, one at a time, on a thread of the library.
pub type EventCallback = Box<dyn Fn(&str) + Send + Sync>;

/// An open skill library. Shared freely between threads; dropping it closes it.
///
/// Every call that runs, stores or reads skills fails with [`Code::Closed`] once the library is closed.
pub struct Library {
    execution: Arc<Execution>,
    tasks: TaskQueue,
    is_closed: AtomicBool,
    has_callback: bool,
    callback: Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Library").field("is_closed", &self.is_closed).finish_non_exhaustive()
    }
}

impl Library {
    /// Opens a database file, or creates it; `:memory:` opens a private one in memory.
    ///
    /// # Errors
    ///
    /// [`Code::Sandbox`] when the configured mode cannot be had; [`Code::Database`], [`Code::Corrupt`] or
    /// [`Code::NewerDatabase`] when the file cannot be used. The file is not changed then.
    pub fn open(path: &str, config: &Config) -> Result<Self> {
        Library::open_with_events(path, config, None)
    }

    /// Opens with a callback that gets every event; [`next_event`](Library::next_event) is refused then.
    pub fn open_with_events(path: &str, config: &Config, callback: Option<EventCallback>) -> Result<Self> {
        // The pool starts threads of its own.
        let execution = Arc::new(with_signals_blocked(|| Execution::new(path, config))?);
        let has_callback = callback.is_some();
        let callback = callback.map(|callback| deliver_events(execution.clone(), callback)).transpose()?;
        Ok(Library {
            tasks: TaskQueue::new(config.task_queue, config.task_workers),
            execution,
            is_closed: AtomicBool::new(false),
            has_callback,
            callback: Mutex::new(callback),
        })
    }

    /// Stores a draft; says the version its content has.
    ///
    /// # Errors
    ///
    /// [`Code::Syntax`] with line and column; [`Code::Security`] with every finding of the policy;
    /// [`Code::Unsupported`] for another language or without an interpreter; [`Code::Validation`] for a bad schema, a
    /// missing package or required skill; [`Code::Conflict`] when `expected_version` is not the newest.
    pub fn put(&self, draft: &Skill) -> Result<u32> {
        self.check_open()?;
        self.execution.put(draft)
    }

    /// A version of a skill with its whole record; 0 is the newest. [`Code::NotFound`] when it is not there.
    pub fn get(&self, id: &str, version: u32) -> Result<Skill> {
        self.check_open()?;
        check_id(id)?;
        self.execution.store.get(id, version)
    }

    /// Hides a skill and all its versions. A later put goes on counting.
    pub fn remove(&self, id: &str) -> Result<()> {
        self.check_open()?;
        check_id(id)?;
        self.execution.store.remove(id)?;
        let fields = vec![("skill", Value::from(id))];
        self.execution.monitor.event("skill_removed", Severity::Info, &format!("skill `{id}` was removed"), fields);
        Ok(())
    }

    /// The newest versions that pass a filter, by id.
    pub fn list(&self, filter: &Filter) -> Result<Vec<Skill>> {
        self.check_open()?;
        self.execution.store.list(filter)
    }

    /// Skills that have any of the words, best first, with their scores.
    pub fn search(&self, text: &str, filter: &Filter) -> Result<Vec<(Skill, f64)>> {
        self.check_open()?;
        self.execution.store.search(text, filter)
    }

    /// What is to be said about a source without storing it: `{"valid", "findings", "deterministic", "reasons", "slots",
    /// "symbols", "policy", "rules_version"}`. `valid` says whether a put would take it.
    pub fn validate(&self, code: &str) -> Result<Value> {
        self.check_open()?;
        let prepared = self.execution.prepared(&key::of_code(code), code);
        let analysis = prepared.analysis.as_ref();
        let fault = match analysis {
            Err(fault) => Some(fault.clone()),
            Ok(_) => self.execution.interpreter_verdict(&prepared, code)?.err(),
        };
        let mut findings: Vec<Finding> = fault.iter().map(|fault| syntax_finding(fault, code)).collect();
        findings.extend(analysis.map(|analysis| analysis.findings.clone()).unwrap_or_default());
        let refused = analysis.ok().and_then(|analysis| self.execution.refusal(analysis)).is_some();
        let reasons = analysis.map(|analysis| analysis.determinism.reasons().to_vec()).unwrap_or_default();
        Ok(Value::object([
            ("valid", Value::from(fault.is_none() && !refused)),
            ("findings", Value::Array(findings.iter().map(Finding::to_value).collect())),
            ("deterministic", Value::from(fault.is_none() && reasons.is_empty())),
            ("reasons", Value::from(reasons)),
            ("slots", analysis.map_or(Value::Object(Vec::new()), slots_value)),
            ("symbols", analysis.map_or(Value::Null, |analysis| analysis.symbols.to_value())),
            ("policy", Value::from(self.execution.config.policy_mode.as_str())),
            ("rules_version", Value::from(RULES_VERSION)),
        ]))
    }

    /// The source with the data written into its slots: a script that stands alone.
    ///
    /// # Errors
    ///
    /// [`Code::Syntax`] for a source that does not parse, unless `inject.fallback = lexical` finds a way.
    pub fn inject(&self, code: &str, data: &Data) -> Result<Script> {
        self.check_open()?;
        self.execution.inject(code, data)
    }

    /// Runs a skill and waits for its end. An error means that it could not be run at all.
    pub fn run(&self, id: &str, data: Data, options: &RunOptions) -> Result<RunResult> {
        self.check_open()?;
        self.execution.run(id, data, options, None)
    }

    /// Runs a skill on many data, several at a time; results come in the order of the items.
    ///
    /// `progress` is called on this thread with how many are done and how many there are; when it says false, what runs
    /// and what waits is cancelled.
    pub fn run_many(
        &self,
        id: &str,
        items: Vec<Data>,
        options: &RunOptions,
        mut progress: impl FnMut(u64, u64) -> bool,
    ) -> Result<Vec<RunResult>> {
        self.check_open()?;
        self.execution.store.revision(id, options.version)?;
        let total = items.len();
        let workers =
            options.concurrency.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        let cancel = CancelToken::new().map_err(|error| Error::new(Code::Busy, format!("no descriptor: {error}")))?;
        let (cancel, next) = (Arc::new(cancel), AtomicUsize::new(0));
        let items: Vec<Mutex<Option<Data>>> = items.into_iter().map(|item| Mutex::new(Some(item))).collect();
        let work = |done: mpsc::Sender<(usize, Result<RunResult>)>| {
            let take = || next.fetch_add(1, Ordering::Relaxed);
            while let Some((index, item)) = Some(take()).and_then(|index| Some((index, items.get(index)?))) {
                let data = item.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default();
                let result = if cancel.is_cancelled() {
                    Ok(RunResult::cancelled(id, options))
                } else {
                    self.execution.run(id, data, options, Some(&cancel))
                };
                if done.send((index, result)).is_err() {
                    return;
                }
            }
        };
        let mut results: Vec<Option<RunResult>> = vec![None; total];
        std::thread::scope(|scope| -> Result<()> {
            let (done, finished) = mpsc::channel();
            for started in 0..workers.min(total) {
                let (thread, done) = (std::thread::Builder::new().name("skillcache-many".to_owned()), done.clone());
                match with_signals_blocked(|| thread.spawn_scoped(scope, || work(done))) {
                    Err(error) if started == 0 => {
                        return Err(Error::new(Code::Busy, format!("no thread for the runs: {error}")));
                    }
                    // Those that were started do it all.
                    Err(_) => break,
                    Ok(_) => {}
                }
            }
            drop(done);
            let mut failure = Ok(());
            for (count, (index, result)) in finished.into_iter().enumerate() {
                match result {
                    Ok(result) => results[index] = Some(result),
                    Err(error) => {
                        cancel.cancel();
                        failure = failure.and(Err(error));
                    }
                }
                if !progress(count as u64 + 1, total as u64) {
                    cancel.cancel();
                }
            }
            failure
        })?;
        Ok(results.into_iter().map(|result| result.unwrap_or_else(|| RunResult::cancelled(id, options))).collect())
    }

    /// Queues a run and comes back at once. [`Code::Busy`] when the queue is full.
    pub fn submit(&self, id: &str, data: Data, options: &RunOptions) -> Result<Task> {
        self.check_open()?;
        self.execution.store.revision(id, options.version)?;
        self.tasks.submit(&self.execution, id, data, options.clone())
    }

    /// Everything that was counted, as one JSON value. `docs/STATISTICS.md` describes it.
    pub fn stats(&self) -> Result<Value> {
        self.check_open()?;
        let execution = &self.execution;
        let runs = execution.monitor.runs();
        let caches = execution.cache_stats().map(|(name, stats)| (name, stats.to_value()));
        let memory = if execution.config.memory_enabled {
            memory::report()
        } else {
            Value::object([("status", Value::from("off"))])
        };
        Ok(Value::object([
            ("version", Value::from(env!("CARGO_PKG_VERSION"))),
            ("uptime_s", Value::from(execution.monitor.uptime().as_secs_f64())),
            ("caches", Value::object(caches)),
            ("pool", execution.store.pool_stats()),
            ("store", execution.store.stats()?),
            ("runs", runs.to_value()),
            ("latency_us", runs.latency_value()),
            ("sandbox", self.sandbox_value()),
            ("memory", memory),
            ("events", execution.monitor.events().stats()),
        ]))
    }

    fn sandbox_value(&self) -> Value {
        let level = self.execution.sandbox.known_level();
        Value::object([
            ("mode", Value::from(self.execution.config.sandbox_mode.as_str())),
            ("level", Value::from(level.map(|level| level.name))),
            ("layers", level.map_or(Value::Null, |level| Value::from(level.layers.clone()))),
            ("missing", level.map_or(Value::Null, |level| Value::from(level.missing.clone()))),
        ])
    }

    /// The same numbers as OpenMetrics text.
    pub fn metrics(&self) -> Result<String> {
        self.check_open()?;
        let caches = self.execution.cache_stats().map(|(name, stats)| metrics::CacheNumbers {
            name,
            counters: [stats.hits, stats.misses, stats.evictions, stats.expirations],
            gauges: [stats.size, stats.bytes],
        });
        let skills = self.execution.store.stats()?.get("skills").and_then(Value::as_i64).unwrap_or(0);
        Ok(metrics::exposition(&self.execution.monitor.runs(), &caches, u64::try_from(skills).unwrap_or(0)))
    }

    /// Whether each part works, really tried: `{"status", "components"}`.
    pub fn health(&self) -> Result<Value> {
        self.check_open()?;
        let probe = |probe: &dyn Fn() -> Result<String>| {
            let started = Instant::now();
            let (status, message) = match probe() {
                Ok(message) => ("healthy", message),
                Err(error) => ("unhealthy", error.message().to_owned()),
            };
            let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
            let members = [
                ("status", Value::from(status)),
                ("message", Value::from(message)),
                ("response_time_us", Value::from(micros)),
            ];
            (status == "healthy", Value::object(members))
        };
        let store = probe(&|| self.execution.store.probe().map(|()| "the database answers".to_owned()));
        let interpreter = probe(&|| {
            let found = self.execution.sandbox.interpreter()?;
            Ok(format!("Python {}.{}", found.version.0, found.version.1))
        });
        let sandbox = probe(&|| {
            self.execution.probe_sandbox()?;
            let level = self.execution.sandbox.level()?;
            Ok(format!("a child ran at the level `{}`: {}", level.name, level.layers.join(", ")))
        });
        let sick = [&store, &interpreter, &sandbox].into_iter().filter(|(is_healthy, _)| !is_healthy).count();
        let status = ["healthy", "degraded", "unhealthy"][sick.min(2)];
        let components = [("store", store.1), ("interpreter", interpreter.1), ("sandbox", sandbox.1)];
        Ok(Value::object([("status", Value::from(status)), ("components", Value::object(components))]))
    }

    /// The oldest event as JSON text; waits for one up to `timeout`, or for ever. [`Code::Timeout`] when none came.
    pub fn next_event(&self, timeout: Option<Duration>) -> Result<String> {
        self.check_open()?;
        if self.has_callback {
            return Err(Error::invalid("events go to the callback this library was opened with"));
        }
        self.execution.monitor.events().next(timeout)
    }

    /// Readable while events wait. The library owns it.
    pub fn events_readable(&self) -> BorrowedFd<'_> {
        self.execution.monitor.events().readable()
    }

    /// Empties the cache `execution`, `prepared` or `metadata`, or `all` of them. Counters go on.
    pub fn clear(&self, which: &str) -> Result<()> {
        self.check_open()?;
        self.execution.clear(which)
    }

    /// Drops what is expired in all caches; says how much that was.
    pub fn evict_expired(&self) -> Result<u64> {
        self.check_open()?;
        Ok(self.execution.evict_expired())
    }

    /// Refuses new calls, cancels runs and tasks, waits for them, writes the counters. May be called again.
    pub fn close(&self) {
        if self.is_closed.swap(true, Ordering::AcqRel) {
            return;
        }
        self.tasks.close();
        self.execution.shut_down();
        self.tasks.join();
        // Counters that cannot be written now are lost with the process; nothing else can be done with the error.
        let _ = self.execution.store.flush_usage();
        self.execution.monitor.events().close();
        let callback = self.callback.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Closing from inside the callback: its thread ends by itself.
        if let Some(callback) = callback.filter(|thread| thread.thread().id() != std::thread::current().id()) {
            let _ = callback.join();
        }
    }

    fn check_open(&self) -> Result<()> {
        if self.is_closed.load(Ordering::Acquire) {
            Err(Error::new(Code::Closed, "the library is closed"))
        } else {
            Ok(())
        }
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        self.close();
    }
}

fn deliver_events(execution: Arc<Execution>, callback: EventCallback) -> Result<JoinHandle<()>> {
    let thread = std::thread::Builder::new().name("skillcache-events".to_owned());
    let deliver = move || {
        while let Ok(event) = execution.monitor.events().next(None) {
            callback(&event);
        }
    };
    let started = with_signals_blocked(|| thread.spawn(deliver));
    started.map_err(|error| Error::new(Code::Busy, format!("no thread for events: {error}")))
}

fn syntax_finding(fault: &SyntaxFault, code: &str) -> Finding {
    let SyntaxFault { message, line, column } = fault.clone();
    let text = python::shown(python::line(code, line), column);
    Finding { rule: "syntax", severity: python::Severity::Error, line, column, message, text }
}

fn slots_value(analysis: &Analysis) -> Value {
    let slots = Names::ALL.into_iter().zip(analysis.template.slots());
    Value::object(slots.filter_map(|(name, slot)| Some((name, Value::from(slot.as_ref()?.line)))))
}

/// Reads the items of [`Library::run_many`]: a JSON array of data.
pub fn parse_items(text: &str) -> Result<Vec<Data>> {
    let value = Value::parse(text).map_err(|error| not_json("the items", error))?;
    let Value::Array(items) = value else {
        return Err(Error::invalid(format!("the items are a JSON array of data, not {}", value.kind())).path("$"));
    };
    items.into_iter().enumerate().map(|(index, item)| Data::read(item, &format!("$[{index}]"))).collect()
}
