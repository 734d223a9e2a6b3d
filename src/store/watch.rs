//! The quick check in the background, and what is known of the file's health.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use super::check::{Report, quick_check};
use super::damage::{Finding, REMEDY};
use super::origin::Origin;
use super::sqlite::translate;
use crate::error::{Code, Error, Result};
use crate::json::Value;

/// How long after the opening the check begins: what the host does first is not to wait for the disk.
const DELAY: Duration = Duration::from_secs(1);

/// After how many steps SQLite asks whether it is to stop: about every millisecond.
const STEPS: i32 = 1000;

/// What is known of the pages of a file.
#[derive(Debug, Clone)]
pub(crate) enum Health {
    /// Nothing: no check was made.
    Unknown,
    /// A check will begin, or goes on.
    Running,
    /// The last check found nothing.
    Sound {
        /// When it ended.
        at: SystemTime,
        /// How long it took.
        took: Duration,
    },
    /// The last check, or the opening, found something.
    Damaged {
        /// When it ended.
        at: SystemTime,
        /// How long it took.
        took: Duration,
        /// What it found.
        findings: Vec<Finding>,
    },
    /// The check could not be made.
    Failed {
        /// Why.
        message: String,
    },
}

impl Health {
    fn name(&self) -> &'static str {
        match self {
            Health::Unknown => "unknown",
            Health::Running => "running",
            Health::Sound { .. } => "sound",
            Health::Damaged { .. } => "damaged",
            Health::Failed { .. } => "failed",
        }
    }

    /// `{"state", "at", "took_ms", "findings", "message"}`; those that do not apply are null or empty.
    pub fn to_value(&self) -> Value {
        let (at, took, findings) = match self {
            Health::Sound { at, took } => (Some(at), Some(took), &[][..]),
            Health::Damaged { at, took, findings } => (Some(at), Some(took), &findings[..]),
            _ => (None, None, &[][..]),
        };
        let at = at.map(|at| humantime::format_rfc3339_millis(*at).to_string());
        let took = took.map(|took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        Value::object([
            ("state", Value::from(self.name())),
            ("at", at.map_or(Value::Null, |at| Value::from(at.as_str()))),
            ("took_ms", took.map_or(Value::Null, Value::from)),
            ("findings", Value::Array(findings.iter().map(Finding::to_value).collect())),
            (
                "message",
                if let Health::Failed { message } = self { Value::from(message.as_str()) } else { Value::Null },
            ),
        ])
    }

    /// What to say of a damaged file.
    pub fn fault(&self) -> Option<String> {
        let Health::Damaged { findings, .. } = self else { return None };
        let first = findings.first().map_or_else(String::new, Finding::to_string);
        Some(format!("the database is damaged: {first}; {} findings", findings.len()))
    }

    /// The same, and what to do.
    pub fn damage(&self) -> Option<String> {
        self.fault().map(|fault| format!("{fault}. {REMEDY}"))
    }
}

/// Is told of damage, once each time that a check finds some.
pub(crate) type Alarm = Arc<dyn Fn(&Health) + Send + Sync>;

/// Keeps the health of one store, and the thread that finds it out.
#[derive(Default)]
pub(super) struct Watch {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    health: Mutex<Health>,
    alarm: Mutex<Option<Alarm>>,
    /// Pages are broken: nothing is to be written.
    is_broken: AtomicBool,
    is_stopped: AtomicBool,
}

impl Default for Shared {
    fn default() -> Self {
        Shared {
            health: Mutex::new(Health::Unknown),
            alarm: Mutex::new(None),
            is_broken: AtomicBool::new(false),
            is_stopped: AtomicBool::new(false),
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Watch").field("health", &self.health()).finish_non_exhaustive()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watch {
    /// What is known now.
    pub fn health(&self) -> Health {
        locked(&self.shared.health).clone()
    }

    /// Whether pages are known to be broken.
    pub fn is_broken(&self) -> bool {
        self.shared.is_broken.load(Ordering::Relaxed)
    }

    /// Keeps what a check found.
    pub fn learn(&self, report: &Report) {
        self.shared.learn(report);
    }

    /// Says whom to tell of damage, and tells what is known already.
    pub fn set_alarm(&self, alarm: Alarm) {
        let health = self.health();
        if matches!(health, Health::Damaged { .. }) {
            alarm(&health);
        }
        *locked(&self.shared.alarm) = Some(alarm);
    }

    /// Starts the check on a thread of its own. The caller sees to it that the thread gets no signals.
    pub fn start(&self, origin: &Origin, delay: Option<Duration>) -> Result<()> {
        let (shared, origin, delay) = (self.shared.clone(), origin.for_reading(), delay.unwrap_or(DELAY));
        shared.await_check();
        let started =
            thread::Builder::new().name("skillcache-check".to_owned()).spawn(move || shared.work(&origin, delay));
        let started =
            started.map_err(|error| Error::new(Code::Busy, format!("no thread to check the database: {error}")))?;
        *locked(&self.thread) = Some(started);
        Ok(())
    }

    /// Stops the check, however far it is, and waits for its end.
    pub fn stop(&self) {
        self.shared.is_stopped.store(true, Ordering::SeqCst);
        let thread = locked(&self.thread).take();
        // The alarm may hold the last of the library: then this is the thread itself, which ends by itself.
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != thread::current().id()) {
            thread.thread().unpark();
            let _ = thread.join();
        }
        *locked(&self.shared.alarm) = None;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    /// What the opening found is not forgotten for a check that goes less deep.
    fn await_check(&self) {
        let mut health = locked(&self.health);
        if matches!(*health, Health::Unknown) {
            *health = Health::Running;
        }
    }

    fn work(self: &Arc<Self>, origin: &Origin, delay: Duration) {
        let begin = Instant::now() + delay;
        while let Some(left) = begin.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            if self.is_stopped.load(Ordering::SeqCst) {
                return;
            }
            thread::park_timeout(left);
        }
        // Only this thread is put behind the others; it may always be.
        let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), 19);
        match self.check(origin) {
            Ok(report) => self.learn(&report),
            Err(_) if self.is_stopped.load(Ordering::SeqCst) => {}
            Err(error) => {
                let mut health = locked(&self.health);
                if matches!(*health, Health::Running) {
                    *health = Health::Failed { message: error.message().to_owned() };
                }
            }
        }
    }

    fn check(self: &Arc<Self>, origin: &Origin) -> Result<Report> {
        let connection = origin.connect().map_err(translate)?;
        let shared = self.clone();
        let is_stopped = move || shared.is_stopped.load(Ordering::Relaxed);
        connection.progress_handler(STEPS, Some(is_stopped)).map_err(translate)?;
        quick_check(&connection)
    }

    fn learn(&self, report: &Report) {
        let (at, took) = (SystemTime::now(), report.took);
        let is_sound = report.findings.is_empty();
        let found = if is_sound {
            Health::Sound { at, took }
        } else {
            Health::Damaged { at, took, findings: report.findings.clone() }
        };
        if report.findings.iter().any(Finding::is_structural) {
            self.is_broken.store(true, Ordering::Relaxed);
        }
        let mut health = locked(&self.health);
        // A check that reads every page once does not take back what another found.
        if !(is_sound && matches!(*health, Health::Damaged { .. })) {
            *health = found.clone();
        }
        drop(health);
        // Not under the lock: the alarm may hold the last of the library, and then ends it.
        let alarm = locked(&self.alarm).clone();
        if let Some(alarm) = alarm.filter(|_| !is_sound) {
            alarm(&found);
        }
    }
}
