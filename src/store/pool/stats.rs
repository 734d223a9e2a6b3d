//! The pool's numbers, and what they say about its health.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::Settings;
use super::alert::{leak_text, millis};
use super::state::Nanos;
use crate::json::Value;

/// How often what happened, since the pool was made.
///
/// Whenever nobody is asking, `requests = checkouts + exhaustions + open_failures`; whenever nothing is being opened or closed,
/// `opened - closed` connections are open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// A connection was asked for.
    pub requests: u64,
    /// One was lent.
    pub checkouts: u64,
    /// None became free in time.
    pub exhaustions: u64,
    /// None could be opened.
    pub open_failures: u64,
    /// One was opened.
    pub opened: u64,
    /// One was closed, for whatever reason.
    pub closed: u64,
    /// One of those was broken, stale, or could not be made clean.
    pub discarded: u64,
    /// One of those was too old.
    pub recycled: u64,
    /// One came back in a transaction.
    pub rolled_back: u64,
}

/// One consistent picture of a pool.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolStats {
    /// What the pool is to be.
    pub settings: Settings,
    /// Connections, those that are being opened or closed included.
    pub open: usize,
    /// Those that nobody uses.
    pub idle: usize,
    /// Who waits for one.
    pub waiting: usize,
    /// Connections that have been in use for longer than the settings' `leak_after`.
    pub leaks: usize,
    /// How long the one that was lent first has been in use; zero if none is.
    pub oldest_checkout: Duration,
    /// How often what happened.
    pub counts: Counts,
    /// Requests and exhaustions of the last five minutes.
    pub recent: (u64, u64),
    /// How long those had to wait who had to wait.
    pub waits: Waits,
}

/// A distribution of waiting times, in microseconds, to two significant digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waits {
    /// How many there were.
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

impl Waits {
    pub(super) fn of(histogram: &Histogram<u64>) -> Self {
        // Looking for nothing takes as long as looking for something.
        if histogram.is_empty() {
            return Waits::default();
        }
        Waits {
            count: histogram.len(),
            p50: histogram.value_at_quantile(0.5),
            p95: histogram.value_at_quantile(0.95),
            p99: histogram.value_at_quantile(0.99),
            max: histogram.max(),
        }
    }

    fn to_value(self) -> Value {
        let Waits { count, p50, p95, p99, max } = self;
        let members = [("count", count), ("p50", p50), ("p95", p95), ("p99", p99), ("max", max)];
        Value::object(members.map(|(name, number)| (name, Value::from(number))))
    }
}

/// Something about a pool that somebody should change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// What is wrong, in numbers.
    pub message: String,
    /// What helps.
    pub remedy: &'static str,
}

impl PoolStats {
    /// The share of the kept connections that is in use, 0 to 1.
    pub fn utilization(&self) -> f64 {
        share(self.used().min(self.settings.size), self.settings.size)
    }

    /// The share of the overflow that is open, 0 to 1; 0 if there is none.
    pub fn overflow_utilization(&self) -> f64 {
        share(self.overflow(), self.settings.max_overflow)
    }

    fn used(&self) -> usize {
        self.open - self.idle
    }

    fn overflow(&self) -> usize {
        self.open.saturating_sub(self.settings.size)
    }

    /// Exhaustions per request of the last five minutes, 0 to 1.
    pub fn recent_exhaustion_rate(&self) -> f64 {
        // Who gave up just now may have asked before the first of those minutes.
        let (requests, exhaustions) = self.recent;
        share(exhaustions, requests.max(exhaustions))
    }

    /// What is wrong now, or was within the last five minutes.
    pub fn warnings(&self) -> Vec<Warning> {
        let Settings { size, max_overflow, is_permanent, leak_after, .. } = self.settings;
        let (used, overflow, (requests, exhaustions)) = (self.used().min(size), self.overflow(), self.recent);
        let mut warnings = Vec::new();
        let mut warn = |message, remedy| warnings.push(Warning { message, remedy });
        // The one connection of a database in memory is in use whenever it is used at all.
        if self.utilization() > 0.9 && !is_permanent {
            let percent = self.utilization() * 100.0;
            let message = format!("High pool utilization: {percent:.1}% ({used}/{size} connections)");
            warn(message, "raise `pool.size`, or ask from fewer threads at the same time");
        }
        if self.overflow_utilization() > 0.8 {
            let percent = self.overflow_utilization() * 100.0;
            let message = format!("High overflow utilization: {percent:.1}% ({overflow}/{max_overflow} connections)");
            warn(message, "raise `pool.size`: connections beyond it are opened and closed for each use");
        }
        if self.recent_exhaustion_rate() > 0.01 {
            let percent = self.recent_exhaustion_rate() * 100.0;
            let requests = requests.max(exhaustions);
            let message = format!("High exhaustion rate: {percent:.2}% ({exhaustions}/{requests} requests)");
            warn(message, "raise `pool.size`, `pool.max_overflow` or `pool.timeout_ms`");
        }
        if self.leaks > 0 {
            let message = leak_text(self.leaks, self.oldest_checkout, leak_after);
            warn(message, "see what the calls that have not returned are waiting for");
        }
        warnings
    }

    /// As in `docs/STATISTICS.md`.
    pub fn to_value(&self) -> Value {
        let Settings { size, max_overflow, timeout, .. } = self.settings;
        let counts = &self.counts;
        let (utilization, overflow_utilization) = (self.utilization(), self.overflow_utilization());
        Value::object([
            ("pool_size", Value::from(size)),
            ("max_overflow", Value::from(max_overflow)),
            ("open_connections", Value::from(self.open)),
            ("available_connections", Value::from(self.idle)),
            ("overflow_connections", Value::from(self.overflow())),
            ("pool_utilization", Value::from(utilization)),
            ("pool_utilization_percentage", Value::from(utilization * 100.0)),
            ("overflow_utilization", Value::from(overflow_utilization)),
            ("overflow_utilization_percentage", Value::from(overflow_utilization * 100.0)),
            ("initialized", Value::from(counts.opened > 0)),
            ("total_requests", Value::from(counts.requests)),
            ("checkouts", Value::from(counts.checkouts)),
            ("exhaustion_events", Value::from(counts.exhaustions)),
            ("exhaustion_rate", Value::from(share(counts.exhaustions, counts.requests))),
            ("recent_exhaustion_rate", Value::from(self.recent_exhaustion_rate())),
            ("open_failures", Value::from(counts.open_failures)),
            ("waiting", Value::from(self.waiting)),
            ("wait_us", self.waits.to_value()),
            ("opened", Value::from(counts.opened)),
            ("closed", Value::from(counts.closed)),
            ("discarded", Value::from(counts.discarded)),
            ("recycled", Value::from(counts.recycled)),
            ("rolled_back", Value::from(counts.rolled_back)),
            ("leaks", Value::from(self.leaks)),
            ("oldest_checkout_ms", Value::from(millis(self.oldest_checkout))),
            ("timeout_ms", Value::from(millis(timeout))),
        ])
    }
}

/// Zero of nothing is nothing.
fn share<N: TryInto<u64>>(part: N, whole: N) -> f64 {
    // Counts are far below 2^53, so that nothing is lost.
    let number = |count: N| count.try_into().unwrap_or(u64::MAX) as f64;
    let (part, whole) = (number(part), number(whole));
    if whole == 0.0 { 0.0 } else { part / whole }
}

/// Requests and exhaustions of the last five minutes: what is over is forgotten, half a minute at a time.
#[derive(Debug, Default)]
pub(super) struct Recent([Bucket; BUCKETS]);

#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    /// The number of its half minute.
    number: u64,
    requests: u64,
    exhaustions: u64,
}

const BUCKETS: usize = 10;
const BUCKET: Nanos = 30_000_000_000;

impl Recent {
    fn bucket(&mut self, now: Nanos) -> &mut Bucket {
        let number = now / BUCKET;
        let bucket = &mut self.0[(number % BUCKETS as u64) as usize];
        if bucket.number != number {
            *bucket = Bucket { number, ..Bucket::default() };
        }
        bucket
    }

    pub fn count_request(&mut self, now: Nanos) {
        self.bucket(now).requests += 1;
    }

    pub fn count_exhaustion(&mut self, now: Nanos) {
        self.bucket(now).exhaustions += 1;
    }

    /// Requests and exhaustions.
    pub fn sum(&self, now: Nanos) -> (u64, u64) {
        let is_recent = |bucket: &&Bucket| bucket.number + BUCKETS as u64 > now / BUCKET;
        let recent = self.0.iter().filter(is_recent);
        recent.fold((0, 0), |sum, bucket| (sum.0 + bucket.requests, sum.1 + bucket.exhaustions))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_is_forgotten() {
        let mut recent = Recent::default();
        let minute = 2 * BUCKET;
        (0..55).for_each(|_| recent.count_request(0));
        (0..3).for_each(|_| recent.count_exhaustion(minute));
        assert_eq!(recent.sum(minute), (55, 3));
        assert_eq!(recent.sum(5 * minute - 1), (55, 3));
        assert_eq!(recent.sum(5 * minute), (0, 3));
        recent.count_request(5 * minute);
        assert_eq!(recent.sum(5 * minute), (1, 3));
        assert_eq!(recent.sum(6 * minute), (1, 0));
        assert_eq!(recent.sum(100 * minute), (0, 0));
    }
}
