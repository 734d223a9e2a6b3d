//! The monitor: what happened, in numbers that add up.
//!
//! Ground floor: every room may count here, and the monitor knows no room.
//!
//! Whatever belongs to one picture is counted under one lock, so that no picture is ever torn: outcomes sum to runs at every moment. The
//! lock is held for a few nanoseconds by who counts, and for a copy by who looks; distributions are walked over afterwards.

pub mod event;
pub mod history;
pub mod latency;
pub mod log;
pub mod memory;
pub mod metrics;
pub mod recommendation;
pub mod ring;
pub(crate) mod secret;
mod throttle;
pub mod trace;

use std::borrow::Cow;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::json::Value;
use crate::outcome::Outcome;
use event::{Event, Severity};
use history::History;
use latency::{Latencies, Latency};
use log::{Log, LogLevel};
use memory::MemoryAlarm;
use ring::Ring;
use throttle::Throttle;
use trace::RunId;

/// Of the hits beyond the first so many, one in so many is measured, and stands for all of those: a hit takes less than half a
/// microsecond, and to file each would be felt.
const HITS_MEASURED: u64 = 1024;
const HITS_A_SAMPLE: u64 = 16;

/// What a monitor is to be.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Whether latencies are measured, and events and lines recorded. Counters always count.
    pub is_enabled: bool,
    /// How many events, and lines, may wait.
    pub capacity: u64,
    /// The least time between two events about the same failing.
    pub alert_interval: Duration,
    /// From when on a run is slow, if ever.
    pub slow_after: Option<Duration>,
    /// How much the callback for lines is to hear; nothing if there is none.
    pub log_level: Option<LogLevel>,
    /// How far apart the samples of the history are, if there are any.
    pub history_interval: Option<Duration>,
    /// The share of what this process may use, 0 to 1, that raises an alert.
    pub memory_threshold: f64,
    /// The least time between two such alerts.
    pub memory_interval: Duration,
}

/// Counts runs and measures them; holds events, lines and curves.
#[derive(Debug)]
pub struct Monitor {
    started: Instant,
    is_enabled: bool,
    slow_after: Option<Duration>,
    /// Tells this library's runs from another's.
    library: u64,
    runs: Mutex<Runs>,
    queue: Mutex<Latencies>,
    children: AtomicU64,
    peak_memory: AtomicU64,
    events: Ring,
    throttle: Throttle,
    log: Log,
    history: History,
    memory: MemoryAlarm,
}

/// A run that has ended.
#[derive(Debug, Clone, Copy)]
pub struct Counted {
    /// How.
    pub outcome: Outcome,
    /// Whether memory answered.
    pub is_cached: bool,
    /// Whether the sandbox denied it something.
    pub is_violation: bool,
    /// How long the call took.
    pub duration: Duration,
}

/// What is to be done about a run that was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Noted {
    /// What tells it from all others.
    pub id: RunId,
    /// Whether it took too long.
    pub is_slow: bool,
}

#[derive(Debug, Clone)]
struct Runs {
    /// By outcome: executed, answered from memory.
    counts: [[u64; 2]; Outcome::ALL.len()],
    /// The number of the last one.
    number: u64,
    refused: u64,
    slow: u64,
    violations: u64,
    cached: Latencies,
    executed: Latencies,
}

/// One consistent picture of the runs.
#[derive(Debug, Clone, PartialEq)]
pub struct RunStats {
    /// By outcome number: executed, answered from memory.
    pub counts: [[u64; 2]; Outcome::ALL.len()],
    /// Calls to run that could not be carried out.
    pub refused: u64,
    /// Runs that took `monitor.slow_run_ms` or longer.
    pub slow: u64,
    /// Runs that the sandbox denied something.
    pub violations: u64,
    /// Latencies of answers from memory: of the first thousand, and of one in sixteen from there on.
    pub cached: Latency,
    /// Latencies of executed runs.
    pub executed: Latency,
    /// How long tasks waited for a worker.
    pub queue: Latency,
}

impl Monitor {
    /// A monitor. Fails when the process is out of descriptors.
    pub fn new(settings: &Settings) -> Result<Self> {
        let Settings {
            is_enabled,
            capacity,
            alert_interval,
            slow_after,
            log_level,
            history_interval,
            memory_threshold,
            ..
        } = *settings;
        let (cached, executed) = (Latencies::new(), Latencies::new());
        let runs = Runs { counts: Default::default(), number: 0, refused: 0, slow: 0, violations: 0, cached, executed };
        Ok(Monitor {
            started: Instant::now(),
            is_enabled,
            slow_after,
            library: draw(),
            runs: Mutex::new(runs),
            queue: Mutex::new(Latencies::new()),
            children: AtomicU64::new(0),
            peak_memory: AtomicU64::new(0),
            events: Ring::new(capacity)?,
            throttle: Throttle::new(alert_interval),
            log: Log::new(log_level.filter(|_| is_enabled), capacity)?,
            history: History::new(history_interval.filter(|_| is_enabled)),
            memory: MemoryAlarm::new(memory_threshold, settings.memory_interval),
        })
    }

    /// Counts a run.
    pub fn count_run(&self, run: Counted) -> Noted {
        let Counted { outcome, is_cached, is_violation, duration } = run;
        let is_slow = self.slow_after.is_some_and(|slow_after| duration >= slow_after);
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let count = &mut runs.counts[outcome as usize][usize::from(is_cached)];
        let stands_for = match *count {
            number if !is_cached || number < HITS_MEASURED => 1,
            number if number.is_multiple_of(HITS_A_SAMPLE) => HITS_A_SAMPLE,
            _ => 0,
        };
        *count += 1;
        runs.number += 1;
        runs.slow += u64::from(is_slow);
        runs.violations += u64::from(is_violation);
        if self.is_enabled && stands_for > 0 {
            let latencies = if is_cached { &mut runs.cached } else { &mut runs.executed };
            latencies.record(duration, stands_for);
        }
        Noted { id: RunId { library: self.library, number: runs.number }, is_slow }
    }

    /// Counts a call to run that could not be carried out.
    pub fn count_refusal(&self) {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).refused += 1;
    }

    /// Measures how long a task waited for a worker.
    pub fn count_wait(&self, duration: Duration) {
        if self.is_enabled {
            self.queue.lock().unwrap_or_else(PoisonError::into_inner).record(duration, 1);
        }
    }

    /// Counts a child that was started, with the largest resident size it had, in bytes.
    pub fn count_child(&self, peak_memory: u64) {
        self.children.fetch_add(1, Ordering::Relaxed);
        self.peak_memory.fetch_max(peak_memory, Ordering::Relaxed);
    }

    /// How many children were started, and the largest resident size of any, in bytes.
    pub fn children(&self) -> (u64, u64) {
        (self.children.load(Ordering::Relaxed), self.peak_memory.load(Ordering::Relaxed))
    }

    /// Whether anything is recorded but counts.
    pub fn is_enabled(&self) -> bool {
        self.is_enabled
    }

    /// Records an event, and says it as a line; both without the secrets in its message and its fields.
    pub fn event(&self, kind: &str, severity: Severity, message: &str, fields: Vec<(&str, Value)>) {
        if !self.is_enabled {
            return;
        }
        let (message, fields) = masked(message, fields);
        let event = Event { kind, severity, message: &message, fields: &fields }.to_text();
        self.events.push(|number| event.numbered(number));
        let level = match severity {
            Severity::Info => LogLevel::Info,
            Severity::Warning => LogLevel::Warn,
            Severity::Error => LogLevel::Error,
        };
        if self.log.wants(level) {
            self.log.say(level, &message, &Value::object([("kind", Value::from(kind)), ("fields", fields)]));
        }
    }

    /// The same, unless one about the same thing was recorded within `monitor.alert_interval_s`; says how many of those there were. Nothing
    /// is made of an event that is not recorded.
    pub fn event_of<'f>(
        &self,
        kind: &str,
        severity: Severity,
        about: &str,
        make: impl FnOnce() -> (String, Vec<(&'f str, Value)>),
    ) {
        if !self.is_enabled {
            return;
        }
        if let Some(untold) = self.throttle.pass(&format!("{kind} {about}"), Instant::now()) {
            let (message, mut fields) = make();
            fields.push(("untold", Value::from(untold)));
            self.event(kind, severity, &message, fields);
        }
    }

    /// Whether anybody listens to lines of a level.
    pub fn wants_line(&self, level: LogLevel) -> bool {
        self.is_enabled && self.log.wants(level)
    }

    /// Says a line that is no event, without the secrets in it.
    pub fn line(&self, level: LogLevel, message: &str, fields: Vec<(&str, Value)>) {
        if self.wants_line(level) {
            let (message, fields) = masked(message, fields);
            self.log.say(level, &message, &fields);
        }
    }

    /// The events.
    pub fn events(&self) -> &Ring {
        &self.events
    }

    /// The lines for the callback, if there is one that is to hear any.
    pub fn lines(&self) -> Option<&Ring> {
        self.log.ring()
    }

    /// The curves.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// What is known of too much memory.
    pub fn memory(&self) -> &MemoryAlarm {
        &self.memory
    }

    /// How long this monitor exists.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// By outcome number: executed, answered from memory.
    pub fn run_counts(&self) -> [[u64; 2]; Outcome::ALL.len()] {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).counts
    }

    /// One consistent picture of the runs.
    pub fn runs(&self) -> RunStats {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        RunStats {
            counts: runs.counts,
            refused: runs.refused,
            slow: runs.slow,
            violations: runs.violations,
            cached: runs.cached.summary(),
            executed: runs.executed.summary(),
            queue: queue.summary(),
        }
    }
}

/// A message no longer than this: an exception may quote a whole document, and events wait in memory.
const LONGEST_MESSAGE: usize = 2000;

/// What may be told, and no more than can be told: of texts that are longer only the beginning is looked at. The message is cut once more
/// when it is masked, so that no half of a secret is left. The id of a skill is what the event is about: it stays, whatever it looks like.
fn masked(message: &str, mut fields: Vec<(&str, Value)>) -> (String, Value) {
    let skill =
        fields.iter().find(|(name, _)| *name == "skill").and_then(|(_, id)| Some(format!("`{}`", id.as_str()?)));
    for (name, value) in fields.iter_mut().filter(|(name, _)| *name != "skill") {
        if let Some(text) = value.as_str().filter(|text| text.len() > LONGEST_LOOKED_AT) {
            *value = Value::from(beginning(text));
        }
        secret::mask_member(name, value);
    }
    let message = beginning(message);
    let message = match skill {
        Some(id) => message.split(&id).map(secret::mask_text).collect::<Vec<_>>().join(&id),
        None => secret::mask_text(message).into_owned(),
    };
    (cut(&message).into_owned(), Value::object(fields))
}

/// So much of a text is looked through for secrets: several times what is told.
const LONGEST_LOOKED_AT: usize = 16 << 10;

/// Up to a space, if there is one: half a secret may not look like one.
fn beginning(text: &str) -> &str {
    if text.len() <= LONGEST_LOOKED_AT {
        return text;
    }
    let end = (0..=LONGEST_LOOKED_AT).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    let words = &text[..end];
    words.rfind(char::is_whitespace).map_or(words, |space| &words[..space])
}

fn cut(message: &str) -> Cow<'_, str> {
    if message.len() <= LONGEST_MESSAGE {
        return Cow::Borrowed(message);
    }
    let end = (0..=LONGEST_MESSAGE).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
    Cow::Owned(format!("{} ... ({} bytes)", &message[..end], message.len()))
}

/// A number that nobody else has drawn, not 0. From the kernel, because what a process remembers its children remember too.
fn draw() -> u64 {
    let mut bytes = [0; 8];
    let drawn = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    // A kernel without it (there is none that runs this) leaves the hash of where this is and when.
    let number = if drawn == Ok(bytes.len()) {
        u64::from_ne_bytes(bytes)
    } else {
        RandomState::new().hash_one(std::process::id())
    };
    number | 1
}

impl RunStats {
    /// Calls, and how many of them memory answered.
    pub fn sums(&self) -> (u64, u64) {
        let sum = |column: usize| self.counts.iter().map(|row| row[column]).sum::<u64>();
        (sum(0) + sum(1), sum(1))
    }

    /// `{"total", "cached", "executed", "refused", "slow", "violations", "by_outcome"}`: all calls, and how they were answered.
    pub fn to_value(&self) -> Value {
        let (total, cached) = self.sums();
        let by_outcome = Outcome::ALL.map(|outcome| {
            let [executed, cached] = self.counts[outcome as usize];
            (outcome.name(), Value::from(executed + cached))
        });
        Value::object([
            ("total", Value::from(total)),
            ("cached", Value::from(cached)),
            ("executed", Value::from(total - cached)),
            ("refused", Value::from(self.refused)),
            ("slow", Value::from(self.slow)),
            ("violations", Value::from(self.violations)),
            ("by_outcome", Value::object(by_outcome)),
        ])
    }

    /// `{"cached": {...}, "executed": {...}, "queue": {...}}`.
    pub fn latency_value(&self) -> Value {
        let all = [("cached", self.cached), ("executed", self.executed), ("queue", self.queue)];
        Value::object(all.map(|(name, latency)| (name, latency.to_value())))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Everything is recorded.
    pub fn settings() -> Settings {
        Settings {
            is_enabled: true,
            capacity: 64,
            alert_interval: Duration::from_secs(60),
            slow_after: Some(Duration::from_secs(5)),
            log_level: None,
            history_interval: None,
            memory_threshold: 0.8,
            memory_interval: Duration::from_secs(60),
        }
    }

    fn monitor() -> Monitor {
        Monitor::new(&settings()).expect("monitor")
    }

    fn run(outcome: Outcome, is_cached: bool, duration: Duration) -> Counted {
        Counted { outcome, is_cached, is_violation: outcome == Outcome::Denied, duration }
    }

    #[test]
    fn runs_sum_up() {
        let monitor = monitor();
        monitor.count_run(run(Outcome::Success, false, Duration::from_millis(20)));
        monitor.count_run(run(Outcome::Success, true, Duration::from_micros(5)));
        monitor.count_run(run(Outcome::Denied, false, Duration::from_millis(30)));
        let noted = monitor.count_run(run(Outcome::Error, false, Duration::from_secs(5)));
        assert!(noted.is_slow);
        let stats = monitor.runs();
        let value = stats.to_value();
        let number = |name: &str| value.get(name).and_then(Value::as_i64).unwrap_or(-1);
        assert_eq!(["total", "cached", "executed", "slow", "violations"].map(number), [4, 1, 3, 1, 1]);
        assert_eq!((stats.cached.count, stats.cached.max, stats.executed.count), (1, 5, 3));
    }

    #[test]
    fn every_run_has_an_id_of_its_own() {
        let (one, other) = (monitor(), monitor());
        let hit = run(Outcome::Success, true, Duration::ZERO);
        let ids = [&one, &one, &other].map(|monitor| monitor.count_run(hit).id.digits());
        assert!(ids.iter().flatten().all(u8::is_ascii_hexdigit));
        assert_eq!(ids[0][..16], ids[1][..16]);
        assert!(ids[0] != ids[1] && ids[0][..16] != ids[2][..16]);
    }

    #[test]
    fn many_hits_are_measured_by_a_sample_that_stands_for_all() {
        let monitor = monitor();
        let hit = run(Outcome::Success, true, Duration::from_micros(1));
        let hits = |count| (0..count).for_each(|_| _ = monitor.count_run(hit));
        hits(1000);
        assert_eq!(monitor.runs().cached.count, 1000);
        hits(1000 * HITS_A_SAMPLE);
        let stats = monitor.runs();
        assert_eq!(stats.counts[Outcome::Success as usize][1], 17_000);
        assert!(stats.cached.count.abs_diff(17_000) < HITS_A_SAMPLE, "{}", stats.cached.count);
    }

    #[test]
    fn secrets_are_in_neither_events_nor_lines() {
        let settings = Settings { log_level: Some(LogLevel::Trace), ..settings() };
        let monitor = Monitor::new(&settings).expect("monitor");
        let fields =
            || vec![("detail", Value::object([("api_key", Value::from("q8Zt"))])), ("skill", Value::from("fetch"))];
        monitor.event("kind", Severity::Error, "login failed: password=hunter2", fields());
        monitor.line(LogLevel::Trace, "login failed: password=hunter2", fields());
        let lines = monitor.lines().expect("a callback");
        for told in [monitor.events().next(None), lines.next(None), lines.next(None)] {
            let told = told.expect("a text");
            assert!(!told.contains("hunter2") && !told.contains("q8Zt"), "{told}");
            assert!(told.contains("password=[masked]") && told.contains("fetch"), "{told}");
        }
    }

    #[test]
    fn the_id_of_a_skill_stays_whatever_it_looks_like() {
        let monitor = monitor();
        let fields = vec![("skill", Value::from("password:check")), ("trace", Value::from("password:check"))];
        monitor.event("kind", Severity::Info, "skill `password:check` says token: q8Zt-71x", fields);
        let event = monitor.events().next(Some(Duration::ZERO)).expect("an event");
        assert!(event.contains("skill `password:check` says token: [masked]"), "{event}");
        assert!(event.contains("\"skill\":\"password:check\",\"trace\":\"password:[masked]\""), "{event}");
    }

    #[test]
    fn texts_of_any_length_are_told_at_once() {
        let monitor = monitor();
        for hostile in ["x%40a.bc", " ,4111111111111111", "token==\\\"token==\\\\\""] {
            let text = hostile.repeat(1 << 20);
            monitor.event("kind", Severity::Info, &text, vec![("type", Value::from(text.as_str()))]);
            assert!(monitor.events().next(Some(Duration::ZERO)).expect("an event").len() < 64 << 10);
        }
    }

    #[test]
    fn a_long_message_is_cut_between_characters_and_says_so() {
        let monitor = monitor();
        monitor.event("kind", Severity::Info, &format!("a{}", "\u{e9}".repeat(5000)), Vec::new());
        let event = Value::parse(&monitor.events().next(Some(Duration::ZERO)).expect("an event")).expect("JSON");
        let message = event.get("message").and_then(Value::as_str).expect("a text");
        assert!(message.len() < 2100 && message.ends_with("\u{e9} ... (10001 bytes)"), "{message}");
        assert_eq!(event.get("seq"), Some(&Value::from(1u64)));
    }

    #[test]
    fn what_happens_over_and_over_is_told_once_in_an_interval() {
        let monitor = monitor();
        for (skill, times) in [("a", 5), ("b", 1)] {
            for _ in 0..times {
                monitor.event_of("run_failed", Severity::Warning, skill, || (format!("{skill} failed"), Vec::new()));
            }
        }
        assert_eq!(monitor.events().stats().get("recorded"), Some(&Value::from(2u64)));
    }

    #[test]
    fn a_monitor_that_is_off_counts_and_records_nothing() {
        let off = Settings { is_enabled: false, log_level: Some(LogLevel::Trace), ..settings() };
        let monitor = Monitor::new(&off).expect("monitor");
        monitor.count_run(run(Outcome::Error, false, Duration::from_secs(60)));
        monitor.count_wait(Duration::from_secs(1));
        monitor.event("kind", Severity::Error, "message", Vec::new());
        monitor.line(LogLevel::Error, "message", Vec::new());
        let stats = monitor.runs();
        assert_eq!((stats.sums(), stats.slow, stats.executed.count, stats.queue.count), ((1, 0), 1, 0, 0));
        assert_eq!(monitor.events().stats().get("recorded"), Some(&Value::from(0u64)));
        assert!(monitor.lines().is_none());
    }
}
