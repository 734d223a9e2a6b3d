//! What this process uses, as the operating system sees it, and when that is too much.
//!
//! What a process may really use is the least limit of the control groups it is in, if one is below the machine's memory: a container
//! is killed at its own limit, however much the machine has. `sysinfo` reads both, for version 1 and 2.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use crate::json::Value;

/// An alert that was raised is armed again below this share of its threshold: about 75 % for the default of 80 %.
const REARM: f64 = 80.0 / 85.0;

/// What bounds a process's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A control group.
    Container,
    /// The machine.
    Host,
}

/// This process, without its children, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Resident.
    pub rss: u64,
    /// Address space.
    pub vms: u64,
    /// What it may use.
    pub limit: u64,
    /// Whose limit that is.
    pub source: Source,
}

impl Source {
    /// `container` or `host`.
    pub fn name(self) -> &'static str {
        match self {
            Source::Container => "container",
            Source::Host => "host",
        }
    }
}

impl Memory {
    /// Reads the figures, which takes about a tenth of a millisecond; nothing where they cannot be read (no `/proc`).
    pub fn now() -> Option<Self> {
        let mut system = System::new().ok()?;
        system.refresh_memory();
        let pid = Pid::from_u32(std::process::id());
        let wanted = ProcessRefreshKind::nothing().with_memory();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, wanted);
        let process = system.process(pid).filter(|process| process.memory() > 0)?;
        let host = Some(system.total_memory()).filter(|total| *total > 0)?;
        let container = process.cgroup_limits().map(|limits| limits.total_memory);
        let (limit, source) = match container.filter(|limit| *limit < host && *limit > 0) {
            Some(limit) => (limit, Source::Container),
            None => (host, Source::Host),
        };
        Some(Memory { rss: process.memory(), vms: process.virtual_memory(), limit, source })
    }

    /// Resident, of what it may use; 100 is all of it.
    pub fn percent(&self) -> f64 {
        self.rss as f64 * 100.0 / self.limit as f64
    }

    /// `rss_mb`, `vms_mb`, `percent`, `limit_mb`, `limit_source`.
    pub fn fields(&self) -> Vec<(&'static str, Value)> {
        vec![
            ("rss_mb", mebibytes(self.rss)),
            ("vms_mb", mebibytes(self.vms)),
            ("percent", Value::from(self.percent())),
            ("limit_mb", mebibytes(self.limit)),
            ("limit_source", Value::from(self.source.name())),
        ]
    }

    /// The same names without figures.
    pub fn no_fields() -> Vec<(&'static str, Value)> {
        ["rss_mb", "vms_mb", "percent", "limit_mb", "limit_source"].map(|name| (name, Value::Null)).into()
    }

    /// What a report says.
    pub fn report_text(&self) -> String {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let (rss, limit, source) = (mib(self.rss), mib(self.limit), self.source.name());
        format!("Memory report: {rss:.1} MB resident, {:.1}% of the {limit:.1} MB of this {source}", self.percent())
    }

    /// The reference's text.
    pub fn alert_text(&self) -> String {
        format!("High memory usage detected: {:.1}% ({:.1} MB)", self.percent(), self.rss as f64 / f64::from(1 << 20))
    }
}

/// Bytes as MiB.
pub fn mebibytes(bytes: u64) -> Value {
    Value::from(bytes as f64 / f64::from(1 << 20))
}

/// Tells when memory reaches its threshold: once per crossing, and not too often. One looks at a time.
#[derive(Debug)]
pub struct MemoryAlarm {
    threshold: f64,
    interval: Duration,
    state: Mutex<State>,
    reports: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    is_high: bool,
    /// The crossing has been told of.
    is_told: bool,
    /// When something was last done about it.
    acted: Option<Instant>,
}

/// What is to be done about a figure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Due {
    /// It crossed the threshold, and that is to be told.
    pub alert: bool,
    /// It is above the threshold, and nothing was done about it for an interval.
    pub relief: bool,
}

impl MemoryAlarm {
    /// One for a share, 0 to 1, and the least time between two alerts.
    pub fn new(threshold: f64, interval: Duration) -> Self {
        MemoryAlarm { threshold, interval, state: Mutex::default(), reports: AtomicU64::new(0) }
    }

    /// What is to be done about a figure. A crossing within the interval after the last one is told when that is over, if memory is
    /// still as high.
    pub fn look(&self, percent: f64, now: Instant) -> Due {
        let share = percent / 100.0;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if share < self.threshold {
            if share < self.threshold * REARM {
                (state.is_high, state.is_told) = (false, false);
            }
            return Due::default();
        }
        state.is_high = true;
        if state.acted.is_some_and(|acted| now.saturating_duration_since(acted) < self.interval) {
            return Due::default();
        }
        let alert = !std::mem::replace(&mut state.is_told, true);
        state.acted = Some(now);
        Due { alert, relief: true }
    }

    /// Whether it was reached and not left since.
    pub fn is_high(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_high
    }

    /// The share.
    pub fn threshold(&self) -> f64 {
        self.threshold
    }

    /// How many reports there were.
    pub fn reports(&self) -> u64 {
        self.reports.load(Ordering::Relaxed)
    }

    /// Counts one.
    pub fn count_report(&self) {
        self.reports.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a crossing is told, for each figure, a second after the one before.
    fn told(alarm: &MemoryAlarm, percents: &[f64]) -> Vec<bool> {
        let start = Instant::now();
        let second = |second: usize| start + Duration::from_secs(second as u64);
        percents.iter().enumerate().map(|(index, percent)| alarm.look(*percent, second(index)).alert).collect()
    }

    #[test]
    fn a_threshold_is_crossed_once_until_it_was_left() {
        let alarm = MemoryAlarm::new(0.8, Duration::ZERO);
        let told = told(&alarm, &[79.9, 80.0, 95.0, 80.0, 76.0, 80.0, 75.0, 79.0, 80.1]);
        assert_eq!(told, [false, true, false, false, false, false, false, false, true]);
        assert!(alarm.is_high());
    }

    #[test]
    fn crossings_keep_their_distance_and_none_is_lost() {
        let alarm = MemoryAlarm::new(0.8, Duration::from_secs(3));
        assert_eq!(
            told(&alarm, &[90.0, 10.0, 90.0, 90.0, 10.0, 90.0, 10.0]),
            [true, false, false, true, false, false, false]
        );
        assert!(!alarm.is_high());
    }

    #[test]
    fn relief_is_due_again_while_memory_stays_high() {
        let (alarm, start) = (MemoryAlarm::new(0.8, Duration::from_secs(60)), Instant::now());
        let due = [0, 59, 60, 61, 120].map(|second| alarm.look(90.0, start + Duration::from_secs(second)));
        assert_eq!(due.map(|due| due.relief), [true, false, true, false, true]);
        assert_eq!(due.map(|due| due.alert), [true, false, false, false, false]);
    }

    #[test]
    fn this_process_uses_something_of_what_it_may() {
        let held = vec![1u8; 64 << 20];
        let memory = Memory::now().expect("there is a /proc");
        assert!(memory.rss >= 64 << 20, "{memory:?}");
        assert!(memory.vms > memory.rss && memory.limit > memory.rss, "{memory:?}");
        assert!(memory.percent() > 0.0 && memory.percent() < 100.0, "{memory:?}");
        assert_eq!(held.iter().map(|byte| u64::from(*byte)).sum::<u64>(), 64 << 20);
    }

    #[test]
    fn the_text_is_the_references() {
        let memory = Memory { rss: 1000 << 20, vms: 0, limit: 1_233_618_824, source: Source::Container };
        assert_eq!(memory.alert_text(), "High memory usage detected: 85.0% (1000.0 MB)");
    }
}
