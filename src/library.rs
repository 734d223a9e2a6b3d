//! The facade: everything a caller can ask of a library.

mod export;
mod health;
mod import;
mod memory;
mod observer;
mod probes;

use std::fmt;
use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{JoinHandle, ThreadId};
use std::time::Duration;

use crate::cache::key;
use crate::call::{Data, RunOptions, not_json};
use crate::config::Config;
use crate::error::{Code, Error, Result};
use crate::execution::{Execution, Given, Script};
use crate::json::Value;
use crate::monitor::event::Severity;
use crate::monitor::log::LogLevel;
use crate::monitor::memory::mebibytes;
use crate::monitor::recommendation::{Recommendation, recommendations};
use crate::monitor::ring::Ring;
use crate::monitor::{Monitor, RunStats, metrics};
use crate::python::{self, Analysis, Finding, Names, SyntaxFault, rules::RULES_VERSION};
use crate::result::RunResult;
use crate::sandbox::{CancelToken, with_signals_blocked};
use crate::skill::{Skill, check_id};
use crate::store::{DayCount, Filter, Finding as Damage, Match, Query};
use crate::task::{Task, TaskQueue};

use probes::Probes;

pub use export::{ExportOptions, Versions};
pub use import::{ImportOptions, OnConflict};
use observer::Observer;

/// Receives events as JSON text, one at a time, on a thread of the library.
pub type EventCallback = Box<dyn Fn(&str) + Send + Sync>;

/// Receives what the library says while it works, as JSON text: one line at a time, on a thread of the library.
pub type LogCallback = Box<dyn Fn(&str) + Send + Sync>;

/// An open skill library. Shared freely between threads; dropping it closes it.
///
/// Every call that runs, stores or reads skills fails with [`Code::Closed`] once the library is closed.
pub struct Library {
    execution: Arc<Execution>,
    tasks: Arc<TaskQueue>,
    probes: Probes<health::Condition>,
    is_closed: AtomicBool,
    has_callback: bool,
    observer: Mutex<Observer>,
    listeners: Mutex<Listeners>,
}

/// The threads that call the host: of events, of log lines.
#[derive(Debug, Default)]
struct Listeners {
    handles: Vec<JoinHandle<()>>,
    /// Those of all that there ever were.
    ids: Vec<ThreadId>,
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
    /// [`Code::Database`], [`Code::Corrupt`] or [`Code::NewerDatabase`] when the file cannot be used, [`Code::Unsupported`] when it lies
    /// on a network file system. The file is not changed then. What `sandbox.mode` asks for is found out by the first call that starts a child ([`put`](Library::put),
    /// [`run`](Library::run), [`validate`](Library::validate), [`health`](Library::health)), which fails with [`Code::Sandbox`] if
    /// it cannot be had.
    pub fn open(path: &str, config: &Config) -> Result<Self> {
        Library::open_with(path, config, None, None)
    }

    /// Opens with a callback that gets every event ([`next_event`](Library::next_event) is refused then), and one that gets what the library
    /// says while it works, as far as `monitor.log_level` says.
    pub fn open_with(
        path: &str,
        config: &Config,
        on_event: Option<EventCallback>,
        on_log: Option<LogCallback>,
    ) -> Result<Self> {
        // Whatever starts a thread of its own.
        let execution = Arc::new(with_signals_blocked(|| Execution::new(path, config, on_log.is_some()))?);
        let tasks = Arc::new(TaskQueue::new(config.task_queue, config.task_workers));
        let has_callback = on_event.is_some();
        // What goes wrong from here on closes what was begun.
        let library = Library {
            tasks,
            probes: health::probes(config),
            execution: execution.clone(),
            is_closed: AtomicBool::new(false),
            has_callback,
            observer: Mutex::default(),
            listeners: Mutex::default(),
        };
        on_event
            .map(|callback| library.listen("skillcache-events", callback, |monitor| Some(monitor.events())))
            .transpose()?;
        on_log.map(|callback| library.listen("skillcache-log", callback, Monitor::lines)).transpose()?;
        with_signals_blocked(|| execution.watch_store())?;
        *library.lock_observer() = Observer::start(&execution, &library.tasks)?;
        execution.monitor.line(LogLevel::Info, "the library is open", vec![("path", Value::from(path))]);
        Ok(library)
    }

    /// Starts a thread that hands what comes through a ring to the host.
    fn listen(
        &self,
        name: &str,
        callback: Box<dyn Fn(&str) + Send + Sync>,
        ring: fn(&Monitor) -> Option<&Ring>,
    ) -> Result<()> {
        let execution = self.execution.clone();
        let deliver = move || {
            while let Some(Ok(line)) = ring(&execution.monitor).map(|ring| ring.next(None)) {
                // One that panics has said so already, and gets the next line all the same.
                let _ = catch_unwind(AssertUnwindSafe(|| callback(&line)));
            }
        };
        let thread = std::thread::Builder::new().name(name.to_owned());
        let started = with_signals_blocked(|| thread.spawn(deliver))
            .map_err(|error| Error::new(Code::Busy, format!("no thread for a callback: {error}")))?;
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.ids.push(started.thread().id());
        listeners.handles.push(started);
        Ok(())
    }

    fn lock_observer(&self) -> MutexGuard<'_, Observer> {
        self.observer.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.execution.remove(id)
    }

    /// The newest versions that pass a filter, by id.
    pub fn list(&self, filter: &Filter) -> Result<Vec<Skill>> {
        self.check_open()?;
        self.execution.store.list(filter)
    }

    /// The skills that fit words, an embedding, or both best, the best first, with their scores.
    pub fn search(&self, query: &Query) -> Result<Vec<Match>> {
        self.check_open()?;
        self.execution.store.search(query)
    }

    /// Sets a skill's state: `active`, `quarantined` (set aside) or `retired` (put away). What is not active is not run (`rejected`) and not
    /// found by a search that does not ask for it. Failures in a row are counted from the beginning.
    pub fn set_state(&self, id: &str, state: &str) -> Result<()> {
        self.check_open()?;
        check_id(id)?;
        self.execution.set_state(id, state)
    }

    /// Makes the index of words anew from the skills; says how many it has. Never needed unless somebody else wrote into the file.
    pub fn rebuild_index(&self) -> Result<u64> {
        self.check_open()?;
        self.execution.store.rebuild_index()
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
        self.execution.run(id, &Given::Read(data), options, None)
    }

    /// The same for data as JSON text, which is what [`Data::parse`] reads. A run that is answered from memory never has it read:
    /// its canonical text is enough, and for bytes that were there before not even that is needed.
    pub fn run_text(&self, id: &str, data: &str, options: &RunOptions) -> Result<RunResult> {
        self.check_open()?;
        self.execution.run(id, &Given::Text(data), options, None)
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
        let (cancel, next) = (Arc::<CancelToken>::default(), AtomicUsize::new(0));
        let items: Vec<Mutex<Option<Data>>> = items.into_iter().map(|item| Mutex::new(Some(item))).collect();
        let work = |done: mpsc::Sender<(usize, Result<RunResult>)>| {
            let take = || next.fetch_add(1, Ordering::Relaxed);
            while let Some((index, item)) = Some(take()).and_then(|index| Some((index, items.get(index)?))) {
                let data = item.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default();
                let result = if cancel.is_cancelled() {
                    Ok(RunResult::cancelled(id, options))
                } else {
                    self.execution.run(id, &Given::Read(data), options, Some(&cancel))
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
        Ok(self.statistics(&self.execution.monitor.runs()))
    }

    fn statistics(&self, runs: &RunStats) -> Value {
        let execution = &self.execution;
        let caches = execution.cache_stats().map(|(name, stats)| (name, stats.to_value()));
        let lines = execution.monitor.lines().map_or_else(Ring::no_stats, Ring::stats);
        Value::object([
            ("version", Value::from(env!("CARGO_PKG_VERSION"))),
            ("uptime_s", Value::from(execution.monitor.uptime().as_secs_f64())),
            ("caches", Value::object(caches)),
            ("pool", execution.store.pool_stats().to_value()),
            ("store", execution.store.stats()),
            ("runs", runs.to_value()),
            ("latency_us", runs.latency_value()),
            ("tasks", self.tasks.stats().to_value(self.tasks.bounds())),
            ("sandbox", self.sandbox_value()),
            ("memory", memory::section(execution)),
            ("events", execution.monitor.events().stats()),
            ("logs", lines),
        ])
    }

    /// How some of the numbers went, newest last: `{"interval_s", "samples"}`. `docs/STATISTICS.md` describes the samples.
    pub fn history(&self) -> Result<Value> {
        self.check_open()?;
        Ok(self.execution.monitor.history().to_value())
    }

    /// How the calls of every skill, or of one, ended, by day (UTC), as far as the database knows: an array of `{"day", "skill", "version",
    /// "outcome", "count"}`, the oldest day first. Calls of removed skills are not in it. [`Code::NotFound`] for a skill that is not there.
    pub fn outcomes(&self, id: Option<&str>) -> Result<Value> {
        self.check_open()?;
        id.map_or(Ok(()), check_id)?;
        let days = self.execution.store.outcomes_by_day(id)?;
        Ok(Value::Array(days.iter().map(DayCount::to_value).collect()))
    }

    /// What somebody could change, judged by the [statistics](Library::stats) alone: an array of `{"rule", "severity", "message", "remedy",
    /// "evidence", "sample"}`, empty while all is well or too little has happened to say. `docs/STATISTICS.md` has the rules.
    pub fn recommendations(&self) -> Result<Value> {
        let found = recommendations(&self.stats()?);
        Ok(Value::Array(found.iter().map(Recommendation::to_value).collect()))
    }

    fn sandbox_value(&self) -> Value {
        let level = self.execution.sandbox.known_level();
        let (children, peak_memory) = self.execution.monitor.children();
        Value::object([
            ("children", Value::from(children)),
            ("peak_memory_mb", mebibytes(peak_memory)),
            ("mode", Value::from(self.execution.config.sandbox_mode.as_str())),
            ("level", Value::from(level.map(|level| level.name))),
            ("layers", level.map_or(Value::Null, |level| Value::from(level.layers.clone()))),
            ("missing", level.map_or(Value::Null, |level| Value::from(level.missing.clone()))),
            ("threads", level.and_then(|level| level.to_value().get("threads").cloned()).unwrap_or(Value::Null)),
        ])
    }

    /// The same numbers as OpenMetrics text.
    pub fn metrics(&self) -> Result<String> {
        self.check_open()?;
        let runs = self.execution.monitor.runs();
        Ok(metrics::exposition(&self.statistics(&runs), &runs))
    }

    /// The number that changes with every commit of any process; for `benches/skills.rs` alone.
    #[doc(hidden)]
    pub fn generation(&self) -> Option<u64> {
        self.execution.store.generation().map(crate::store::Generation::number)
    }

    /// Checks the database file now: `quick` reads every page, `full` also holds every index against its table and every version against the
    /// hash of its contents. `{"ok", "findings": [{"kind", "where", "message"}], "took_ms"}`; what is found is kept for [`health`](Library::health)
    /// and raises `store_damaged`. Takes as long as reading the file; others may read and write meanwhile.
    ///
    /// # Errors
    ///
    /// [`Code::Invalid`] for another word; [`Code::Busy`] or [`Code::Database`] if the check could not be made. Damage is no error.
    pub fn check(&self, which: &str) -> Result<Value> {
        self.check_open()?;
        Ok(self.execution.store.check(which)?.to_value())
    }

    /// The newest versions of all skills that can still be read of a damaged file, each whole, as it was stored; and, as an array of
    /// `{"kind", "where", "message"}`, what is known of the others. For a library that was opened with `store.access = read_only`.
    pub fn salvage(&self) -> Result<(Vec<Skill>, Value)> {
        self.check_open()?;
        let (skills, findings) = self.execution.store.salvage()?;
        Ok((skills, Value::Array(findings.iter().map(Damage::to_value).collect())))
    }

    /// Writes a copy of the database to a path where nothing is yet, while others read and write: everything as it was at one moment. The copy
    /// is checked and on the disk before it has its name. It is a library like any other, and as private as the file. A database in memory
    /// can be written to a file so.
    ///
    /// # Errors
    ///
    /// [`Code::Invalid`] if there is something at the path, [`Code::Database`] if nothing can be written there, [`Code::Corrupt`] if the
    /// database is too damaged to be copied. Nothing is left at the path then.
    pub fn backup(&self, path: &str) -> Result<()> {
        self.check_open()?;
        self.execution.store.backup(Path::new(path))
    }

    /// The oldest event as JSON text; waits for one up to `timeout`, or for ever. [`Code::Timeout`] when none came.
    pub fn next_event(&self, timeout: Option<Duration>) -> Result<String> {
        self.check_open()?;
        if self.has_callback {
            return Err(Error::invalid("events go to the callback this library was opened with"));
        }
        self.execution.monitor.events().next(timeout)
    }

    /// Readable while events wait. The library owns it. Nothing where events go to a callback.
    pub fn events_readable(&self) -> Option<BorrowedFd<'_>> {
        (!self.has_callback).then(|| self.execution.monitor.events().readable())
    }

    /// Empties the cache `execution` (with the results that are kept in the database), `prepared` or `metadata`, or `all` of them. Counters go on.
    pub fn clear(&self, which: &str) -> Result<()> {
        self.check_open()?;
        self.execution.clear(which)
    }

    /// Every bound of every cache of which at least `threshold` (0 to 1) is used now: an array of `{"cache", "bound", "size",
    /// "max_size", "threshold", "message"}`. Asking raises no event.
    pub fn check_caches(&self, threshold: f64) -> Result<Value> {
        self.check_open()?;
        if !(0.0..=1.0).contains(&threshold) {
            let message = format!("a threshold is a number from 0 to 1 (0.85 is 85 %), not {threshold}");
            return Err(Error::invalid(message).path("threshold").rule("range"));
        }
        Ok(Value::Array(self.execution.nearly_full(threshold)))
    }

    /// Drops what is expired in all caches, and of the results in the database; says how many entries that were.
    pub fn evict_expired(&self) -> Result<u64> {
        self.check_open()?;
        self.execution.evict_expired()
    }

    /// Refuses new calls, cancels runs and tasks, waits for them, writes the counters. May be called again.
    pub fn close(&self) {
        if !self.is_closed.swap(true, Ordering::SeqCst) {
            self.shut_down();
        }
        // Whoever comes second, too: the first may have been a callback.
        self.join_listeners();
    }

    fn shut_down(&self) {
        let monitor = &self.execution.monitor;
        self.lock_observer().stop();
        self.tasks.close();
        self.probes.close();
        self.execution.store.stop_watching();
        self.execution.shut_down();
        self.tasks.join();
        self.probes.join();
        self.execution.store.close();
        if let Some((calls, _)) = self.execution.store.unwritten() {
            let message =
                format!("how often skills were used could not be written before closing: {calls} calls are lost");
            monitor.event("usage_unwritten", Severity::Warning, &message, vec![("calls", Value::from(calls))]);
        }
        monitor.line(LogLevel::Info, "the library is closed", Vec::new());
        monitor.events().close();
        monitor.lines().into_iter().for_each(Ring::close);
    }

    /// Not on the thread of one of them, which could not wait for itself, nor for another that waits for it: they end by themselves, and who
    /// closes from elsewhere waits for them.
    fn join_listeners(&self) {
        let listeners = {
            let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
            if listeners.ids.contains(&std::thread::current().id()) {
                return;
            }
            std::mem::take(&mut listeners.handles)
        };
        for listener in listeners {
            let _ = listener.join();
        }
    }

    fn check_open(&self) -> Result<()> {
        if self.is_closed.load(Ordering::SeqCst) {
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
