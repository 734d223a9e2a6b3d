//! The monitor: what happened, in numbers that add up.
//!
//! Ground floor: every room may count here, and the monitor knows no room.

pub mod event;
pub mod memory;
pub mod metrics;
pub mod recommendation;

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::error::Result;
use crate::json::Value;
use crate::outcome::Outcome;
use event::{EventRing, Severity};

/// Of the hits beyond the first so many, one in so many is measured, and stands for all of those: a hit takes less than half a
/// microsecond, and to file each would be felt.
const HITS_MEASURED: u64 = 1024;
const HITS_A_SAMPLE: u64 = 16;

/// Counts runs and measures them; holds the event ring.
#[derive(Debug)]
pub struct Monitor {
    started: Instant,
    is_enabled: bool,
    runs: Mutex<Runs>,
    events: EventRing,
}

#[derive(Debug)]
struct Runs {
    /// By outcome: executed, answered from memory.
    counts: [[u64; 2]; Outcome::ALL.len()],
    cached: Histogram<u64>,
    executed: Histogram<u64>,
}

/// One consistent picture of the runs.
#[derive(Debug, Clone, PartialEq)]
pub struct RunStats {
    /// By outcome number: executed, answered from memory.
    pub counts: [[u64; 2]; Outcome::ALL.len()],
    /// Latencies of answers from memory: of the first thousand, and of one in sixteen from there on.
    pub cached: Latency,
    /// Latencies of executed runs.
    pub executed: Latency,
}

/// A latency distribution, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latency {
    /// How many the others stand for.
    pub count: u64,
    /// Median.
    pub p50: u64,
    /// 95th percentile.
    pub p95: u64,
    /// 99th percentile.
    pub p99: u64,
    /// Largest.
    pub max: u64,
}

impl Monitor {
    /// A monitor that records latencies and events only if `is_enabled`.
    pub fn new(is_enabled: bool, event_capacity: u64) -> Result<Self> {
        // Two significant digits from 1 µs to a day; larger values count as the largest.
        let histogram = || {
            let mut histogram =
                Histogram::new_with_bounds(1, 86_400_000_000, 2).expect("constant bounds: 2 * 1 <= a day");
            histogram.auto(false);
            histogram
        };
        let runs = Runs { counts: Default::default(), cached: histogram(), executed: histogram() };
        let events = EventRing::new(event_capacity)?;
        Ok(Monitor { started: Instant::now(), is_enabled, runs: Mutex::new(runs), events })
    }

    /// Counts a run.
    pub fn count_run(&self, outcome: Outcome, is_cached: bool, duration: Duration) {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let count = &mut runs.counts[outcome as usize][usize::from(is_cached)];
        let stands_for = match *count {
            number if !is_cached || number < HITS_MEASURED => 1,
            number if number.is_multiple_of(HITS_A_SAMPLE) => HITS_A_SAMPLE,
            _ => 0,
        };
        *count += 1;
        if self.is_enabled && stands_for > 0 {
            let histogram = if is_cached { &mut runs.cached } else { &mut runs.executed };
            let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).max(1);
            histogram.saturating_record_n(micros, stands_for);
        }
    }

    /// Records an event.
    pub fn event(&self, kind: &str, severity: Severity, message: &str, fields: Vec<(&str, Value)>) {
        if self.is_enabled {
            self.events.push(kind, severity, message, fields);
        }
    }

    /// The event ring.
    pub fn events(&self) -> &EventRing {
        &self.events
    }

    /// How long this monitor exists.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// One consistent picture of the runs.
    pub fn runs(&self) -> RunStats {
        let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let latency = |histogram: &Histogram<u64>| Latency {
            count: histogram.len(),
            p50: histogram.value_at_quantile(0.5),
            p95: histogram.value_at_quantile(0.95),
            p99: histogram.value_at_quantile(0.99),
            max: histogram.max(),
        };
        RunStats { counts: runs.counts, cached: latency(&runs.cached), executed: latency(&runs.executed) }
    }
}

impl RunStats {
    /// `{"total", "cached", "executed", "by_outcome"}`: all calls, and how they were answered.
    pub fn to_value(&self) -> Value {
        let sum = |column: usize| self.counts.iter().map(|row| row[column]).sum::<u64>();
        let by_outcome = Outcome::ALL.map(|outcome| {
            let [executed, cached] = self.counts[outcome as usize];
            (outcome.name(), Value::from(executed + cached))
        });
        Value::object([
            ("total", Value::from(sum(0) + sum(1))),
            ("cached", Value::from(sum(1))),
            ("executed", Value::from(sum(0))),
            ("by_outcome", Value::object(by_outcome)),
        ])
    }

    /// `{"cached": {...}, "executed": {...}}`.
    pub fn latency_value(&self) -> Value {
        Value::object([("cached", self.cached.to_value()), ("executed", self.executed.to_value())])
    }
}

impl Latency {
    fn to_value(self) -> Value {
        let Latency { count, p50, p95, p99, max } = self;
        let members = [("count", count), ("p50", p50), ("p95", p95), ("p99", p99), ("max", max)];
        Value::object(members.map(|(name, number)| (name, Value::from(number))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_sum_up() {
        let monitor = Monitor::new(true, 1).expect("monitor");
        monitor.count_run(Outcome::Success, false, Duration::from_millis(20));
        monitor.count_run(Outcome::Success, true, Duration::from_micros(5));
        monitor.count_run(Outcome::Error, false, Duration::from_millis(30));
        let stats = monitor.runs();
        let value = stats.to_value();
        let number = |name: &str| value.get(name).and_then(Value::as_i64);
        assert_eq!((number("total"), number("cached"), number("executed")), (Some(3), Some(1), Some(2)));
        assert_eq!((stats.cached.count, stats.cached.max, stats.executed.count), (1, 5, 2));
    }

    #[test]
    fn many_hits_are_measured_by_a_sample_that_stands_for_all() {
        let monitor = Monitor::new(true, 1).expect("monitor");
        let hits = |count| (0..count).for_each(|_| monitor.count_run(Outcome::Success, true, Duration::from_micros(1)));
        hits(1000);
        assert_eq!(monitor.runs().cached.count, 1000);
        hits(1000 * HITS_A_SAMPLE);
        let stats = monitor.runs();
        assert_eq!(stats.counts[Outcome::Success as usize][1], 17_000);
        assert!(stats.cached.count.abs_diff(17_000) < HITS_A_SAMPLE, "{}", stats.cached.count);
    }
}
