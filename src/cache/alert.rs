//! When a cache is nearly full: once per crossing, and not too often.

use std::time::Duration;

use super::clock::Tick;
use crate::sync::{AtomicBool, AtomicU64, Ordering};

/// From when on a cache counts as nearly full, and how often that may be said.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AlertRule {
    /// The share of the bound that raises an alert when it is reached or exceeded.
    pub threshold: f64,
    /// The least time between two alerts of a cache about the same bound.
    pub interval: Duration,
}

/// Which bound is nearly reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// That of entries.
    Entries,
    /// That of bytes.
    Bytes,
}

/// A cache reached its alert threshold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UtilizationAlert {
    /// Of which bound.
    pub bound: Bound,
    /// Entries, or bytes, now.
    pub size: u64,
    /// Entries, or bytes, at most.
    pub max_size: u64,
    /// The threshold.
    pub threshold: f64,
}

/// An alert that was raised is armed again below this share of its threshold: 80 % for the default of 85 %.
const REARM: f64 = 80.0 / 85.0;

/// Watches one bound of a cache. Many threads may report to it at the same time; one of them raises the alert. Their reports may
/// overtake each other: where a size crosses the threshold up and down within that moment, there may be one alert more.
#[derive(Debug)]
pub(super) struct Alarm {
    bound: Bound,
    max_size: u64,
    rule: AlertRule,
    is_armed: AtomicBool,
    /// One alert may be raised from here on.
    not_before: AtomicU64,
}

impl Alarm {
    pub fn new(bound: Bound, max_size: u64, rule: AlertRule) -> Self {
        Alarm { bound, max_size, rule, is_armed: AtomicBool::new(true), not_before: AtomicU64::new(0) }
    }

    /// What is to be said of a size that has just been reached from below.
    ///
    /// A crossing within the interval stays armed: it is raised by the first size after it, unless the cache has become emptier.
    pub fn grown(&self, size: u64, now: Tick) -> Option<UtilizationAlert> {
        if !self.is_armed.load(Ordering::Relaxed) || !is_reached(size, self.max_size, self.rule.threshold) {
            return None;
        }
        let not_before = self.not_before.load(Ordering::Relaxed);
        if now.millis() < not_before || !self.is_armed.swap(false, Ordering::Relaxed) {
            return None;
        }
        self.not_before.store(now.after(self.rule.interval).millis(), Ordering::Relaxed);
        let AlertRule { threshold, .. } = self.rule;
        Some(UtilizationAlert { bound: self.bound, size, max_size: self.max_size, threshold })
    }

    /// What is to be said of a size by another threshold; changes nothing.
    pub fn would_say(&self, size: u64, threshold: f64) -> Option<UtilizationAlert> {
        let Alarm { bound, max_size, .. } = *self;
        is_reached(size, max_size, threshold).then_some(UtilizationAlert { bound, size, max_size, threshold })
    }

    /// Takes note of a size that has been reached from above.
    pub fn shrunk(&self, size: u64) {
        let is_below = (size as f64) < self.rule.threshold * REARM * self.max_size as f64;
        if is_below && !self.is_armed.load(Ordering::Relaxed) {
            self.is_armed.store(true, Ordering::Relaxed);
        }
    }
}

fn is_reached(size: u64, max_size: u64, threshold: f64) -> bool {
    // Sizes are far below 2^53, so that nothing is lost.
    max_size > 0 && size as f64 >= threshold * max_size as f64
}

impl UtilizationAlert {
    /// The reference's text; that of bytes says so.
    pub fn message(&self) -> String {
        let percent = |share: f64| share * 100.0;
        let unit = match self.bound {
            Bound::Entries => "",
            Bound::Bytes => " bytes",
        };
        format!(
            "Cache utilization alert: {:.1}% exceeds threshold of {:.1}% ({}/{}{unit})",
            percent(self.size as f64 / self.max_size as f64),
            percent(self.threshold),
            self.size,
            self.max_size
        )
    }
}

impl Bound {
    /// `entries` or `bytes`.
    pub fn name(self) -> &'static str {
        match self {
            Bound::Entries => "entries",
            Bound::Bytes => "bytes",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alarm(interval: Duration) -> Alarm {
        Alarm::new(Bound::Entries, 100, AlertRule { threshold: 0.85, interval })
    }

    #[test]
    fn an_alert_is_raised_once_per_crossing() {
        let (alarm, now) = (alarm(Duration::ZERO), Tick::at(0));
        let raised = |size| alarm.grown(size, now).is_some();
        assert!(!raised(84));
        let alert = alarm.grown(85, now).expect("it is reached");
        assert_eq!(alert.message(), "Cache utilization alert: 85.0% exceeds threshold of 85.0% (85/100)");
        assert!(!raised(86) && !raised(100));
        alarm.shrunk(80);
        assert!(!raised(85), "80 is not below 80");
        alarm.shrunk(79);
        assert!(raised(90) && !raised(91));
    }

    #[test]
    fn alerts_keep_their_distance_and_none_is_lost() {
        let alarm = alarm(Duration::from_secs(1));
        assert!(alarm.grown(85, Tick::at(10)).is_some());
        alarm.shrunk(0);
        assert!(alarm.grown(85, Tick::at(1009)).is_none());
        assert!(alarm.grown(86, Tick::at(1010)).is_some(), "still nearly full when the second is over");
        assert!(alarm.grown(87, Tick::at(5000)).is_none());
    }

    #[test]
    fn thresholds_at_the_ends() {
        let rule = |threshold| AlertRule { threshold, interval: Duration::ZERO };
        assert!(Alarm::new(Bound::Bytes, 100, rule(0.0)).grown(0, Tick::at(0)).is_some());
        let full = Alarm::new(Bound::Bytes, 100, rule(1.0));
        assert!(full.grown(99, Tick::at(0)).is_none());
        let message = full.grown(100, Tick::at(0)).expect("full").message();
        assert_eq!(message, "Cache utilization alert: 100.0% exceeds threshold of 100.0% (100/100 bytes)");
        assert!(Alarm::new(Bound::Entries, 0, rule(0.0)).grown(0, Tick::at(0)).is_none(), "a cache that keeps nothing");
    }
}
