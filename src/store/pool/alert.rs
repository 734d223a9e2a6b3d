//! What the pool says of itself without being asked, and how often.

use std::fmt;
use std::time::Duration;

use super::Exhaustion;
use super::state::Nanos;
use crate::json::Value;

/// What an alert is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// More than 80 % of the overflow is open.
    Overflow,
    /// Somebody waited in vain.
    Exhausted,
    /// A connection has been in use for longer than `pool.leak_after_s`.
    Leak,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 3] = [Kind::Overflow, Kind::Exhausted, Kind::Leak];

    /// The kind of the event.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Overflow => "pool_overflow",
            Kind::Exhausted => "pool_exhausted",
            Kind::Leak => "pool_leak",
        }
    }
}

/// Something that somebody should look at.
#[derive(Debug, Clone, PartialEq)]
pub struct Alert {
    /// What it is about.
    pub kind: Kind,
    /// For people.
    pub message: String,
    /// For programs: the numbers of the message, and `untold`, how many alerts of this kind there were since the one before.
    pub fields: Vec<(&'static str, Value)>,
}

/// Receives alerts, on the thread of a borrower and under no lock of the pool. What it panics with is dropped.
pub type Sink = Box<dyn Fn(Alert) + Send + Sync>;

impl Alert {
    pub(super) fn overflow(overflow: usize, max_overflow: usize) -> Self {
        let share = overflow as f64 / max_overflow as f64 * 100.0;
        let message = format!("High overflow connection usage: {share:.1}% ({overflow}/{max_overflow} connections)");
        let fields = vec![("overflow_connections", Value::from(overflow)), ("max_overflow", Value::from(max_overflow))];
        Alert { kind: Kind::Overflow, message, fields }
    }

    pub(super) fn exhausted(exhaustion: &Exhaustion) -> Self {
        let Exhaustion { size, max_overflow, total, waited } = *exhaustion;
        let fields = vec![
            ("exhaustion_events", Value::from(total)),
            ("pool_size", Value::from(size)),
            ("max_overflow", Value::from(max_overflow)),
            ("waited_ms", Value::from(millis(waited))),
        ];
        Alert { kind: Kind::Exhausted, message: exhaustion.headline(), fields }
    }

    pub(super) fn leak(leaks: usize, oldest: Duration, leak_after: Duration) -> Self {
        let message = leak_text(leaks, oldest, leak_after);
        let fields = vec![("leaks", Value::from(leaks)), ("oldest_checkout_ms", Value::from(millis(oldest)))];
        Alert { kind: Kind::Leak, message, fields }
    }
}

pub(super) fn leak_text(leaks: usize, oldest: Duration, leak_after: Duration) -> String {
    let (age, bound) = (oldest.as_secs(), leak_after.as_secs());
    format!("Connection leak suspected: {leaks} in use for more than {bound} s, the oldest for {age} s")
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Exhaustion {
    /// The reference's text.
    fn headline(&self) -> String {
        let Exhaustion { size, max_overflow, total, .. } = self;
        format!(
            "Connection pool exhausted! Total exhaustion events: {total}. Pool size: {size}, Max overflow: {max_overflow}"
        )
    }
}

impl fmt::Display for Exhaustion {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}; waited {} ms", self.headline(), millis(self.waited))
    }
}

/// Lets the first alert of a kind pass at once, and then at most one in each interval.
#[derive(Debug)]
pub(super) struct Desk {
    interval: Nanos,
    passed: [Option<Nanos>; Kind::ALL.len()],
    untold: [u64; Kind::ALL.len()],
    waiting: Vec<Alert>,
}

impl Desk {
    pub fn new(interval: Duration) -> Self {
        let interval = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
        Desk { interval, passed: Default::default(), untold: Default::default(), waiting: Vec::new() }
    }

    pub fn raise(&mut self, kind: Kind, now: Nanos, alert: impl FnOnce() -> Alert) {
        let (passed, untold) = (&mut self.passed[kind as usize], &mut self.untold[kind as usize]);
        if passed.is_some_and(|passed| now.saturating_sub(passed) < self.interval) {
            *untold += 1;
            return;
        }
        let mut alert = alert();
        alert.fields.push(("untold", Value::from(*untold)));
        (*passed, *untold) = (Some(now), 0);
        self.waiting.push(alert);
    }

    /// What is to be told once the lock is free.
    pub fn take(&mut self) -> Vec<Alert> {
        std::mem::take(&mut self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_passes_at_once_and_then_one_in_each_interval() {
        let mut desk = Desk::new(Duration::from_nanos(300));
        let mut told = |kind, now| {
            desk.raise(kind, now, || Alert::overflow(1, 1));
            desk.take().pop().map(|alert| alert.fields.last().and_then(|(_, untold)| untold.as_i64()))
        };
        assert_eq!(told(Kind::Overflow, 10), Some(Some(0)));
        assert_eq!(told(Kind::Overflow, 309), None);
        assert_eq!(told(Kind::Leak, 309), Some(Some(0)), "each kind by itself");
        assert_eq!(told(Kind::Overflow, 310), Some(Some(1)));
        assert_eq!(told(Kind::Overflow, 609), None);
        assert_eq!(told(Kind::Overflow, 10_000), Some(Some(1)));
    }

    #[test]
    fn texts() {
        let exhaustion = Exhaustion { size: 1, max_overflow: 1, total: 1, waited: Duration::from_millis(30_000) };
        let text = "Connection pool exhausted! Total exhaustion events: 1. Pool size: 1, Max overflow: 1";
        assert_eq!(Alert::exhausted(&exhaustion).message, text);
        assert_eq!(exhaustion.to_string(), format!("{text}; waited 30000 ms"));
        assert_eq!(Alert::overflow(17, 20).message, "High overflow connection usage: 85.0% (17/20 connections)");
        let leak = Alert::leak(2, Duration::from_secs(75), Duration::from_secs(60)).message;
        assert_eq!(leak, "Connection leak suspected: 2 in use for more than 60 s, the oldest for 75 s");
    }
}
