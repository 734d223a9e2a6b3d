//! How long things took, as a distribution.

use hdrhistogram::Histogram;
use std::time::Duration;

use crate::json::Value;

/// Upper bounds of the buckets that statistics and metrics have, in microseconds: 1, 2 and 5 of every power of ten up to a hundred
/// seconds, which is what dashboards can still tell apart.
pub const BOUNDS: [u64; 25] = {
    let (mut bounds, mut power, mut place) = ([0; 25], 1, 0);
    while place < bounds.len() {
        bounds[place] = [1, 2, 5][place % 3] * power;
        place += 1;
        if place.is_multiple_of(3) {
            power *= 10;
        }
    }
    bounds
};

/// A growing distribution: two significant digits, from 1 µs to a day; what is longer counts as a day.
#[derive(Debug, Clone)]
pub(super) struct Latencies {
    histogram: Histogram<u64>,
    /// Exact, of what was filed.
    sum: u64,
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
    /// All together.
    pub sum: u64,
    /// How many took at most so many microseconds as [`BOUNDS`] has at the same place.
    pub buckets: [u64; BOUNDS.len()],
}

impl Latencies {
    pub fn new() -> Self {
        let mut histogram = Histogram::new_with_bounds(1, 86_400_000_000, 2).expect("constant bounds: 2 * 1 <= a day");
        histogram.auto(false);
        Latencies { histogram, sum: 0 }
    }

    /// Files a duration that stands for so many.
    pub fn record(&mut self, duration: Duration, stands_for: u64) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).max(1);
        self.histogram.saturating_record_n(micros, stands_for);
        self.sum = self.sum.saturating_add(micros.saturating_mul(stands_for));
    }

    /// What is filed so far. Takes tens of microseconds: not under a lock that runs take.
    pub fn summary(&self) -> Latency {
        let histogram = &self.histogram;
        if histogram.is_empty() {
            let buckets = [0; BOUNDS.len()];
            return Latency { count: 0, p50: 0, p95: 0, p99: 0, max: 0, sum: 0, buckets };
        }
        Latency {
            count: histogram.len(),
            p50: histogram.value_at_quantile(0.5),
            p95: histogram.value_at_quantile(0.95),
            p99: histogram.value_at_quantile(0.99),
            max: histogram.max(),
            sum: self.sum,
            buckets: self.buckets(),
        }
    }

    /// One walk over what is there, in rising order.
    fn buckets(&self) -> [u64; BOUNDS.len()] {
        let mut buckets = [0; BOUNDS.len()];
        for found in self.histogram.iter_recorded() {
            // The histogram names the largest value that it cannot tell from this one: the smallest is what was meant at most.
            let value = self.histogram.lowest_equivalent(found.value_iterated_to());
            let first = BOUNDS.partition_point(|bound| *bound < value);
            buckets[first..].iter_mut().for_each(|count| *count += found.count_at_value());
        }
        buckets
    }
}

impl Latency {
    /// `{"count", "p50", "p95", "p99", "max", "mean", "sum", "buckets": [{"le", "count"}]}`.
    pub fn to_value(self) -> Value {
        let Latency { count, p50, p95, p99, max, sum, buckets } = self;
        let mean = if count == 0 { 0.0 } else { sum as f64 / count as f64 };
        let buckets = BOUNDS.into_iter().zip(buckets);
        let buckets =
            buckets.map(|(le, count)| Value::object([("le", Value::from(le)), ("count", Value::from(count))]));
        let numbers = [("count", count), ("p50", p50), ("p95", p95), ("p99", p99), ("max", max)];
        let numbers = numbers.map(|(name, number)| (name, Value::from(number)));
        let more =
            [("mean", Value::from(mean)), ("sum", Value::from(sum)), ("buckets", Value::Array(buckets.collect()))];
        Value::object(numbers.into_iter().chain(more))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bounds_go_up_to_a_hundred_seconds() {
        assert_eq!(BOUNDS[..7], [1, 2, 5, 10, 20, 50, 100]);
        assert_eq!(BOUNDS.last(), Some(&100_000_000));
    }

    #[test]
    fn nothing_is_nothing() {
        let latency = Latencies::new().summary();
        assert_eq!((latency.count, latency.max, latency.sum), (0, 0, 0));
        assert_eq!(latency.to_value().get("mean").and_then(Value::as_f64), Some(0.0));
    }

    #[test]
    fn what_is_beyond_all_bounds_is_counted_still() {
        let mut latencies = Latencies::new();
        latencies.record(Duration::from_secs(1_000_000), 1);
        latencies.record(Duration::ZERO, 16);
        let latency = latencies.summary();
        assert_eq!((latency.count, latency.buckets[0], latency.buckets[BOUNDS.len() - 1]), (17, 16, 16));
    }

    proptest! {
        #[test]
        fn buckets_are_exact_at_the_bounds_and_near_them_to_two_digits(micros in prop::collection::vec(1u64..2_000_000_000, 0..200)) {
            let mut latencies = Latencies::new();
            micros.iter().for_each(|micros| latencies.record(Duration::from_micros(*micros), 1));
            let latency = latencies.summary();
            prop_assert_eq!(latency.count, micros.len() as u64);
            prop_assert_eq!(latency.sum, micros.iter().sum::<u64>());
            prop_assert!(latency.buckets.is_sorted());
            for (bound, count) in BOUNDS.into_iter().zip(latency.buckets) {
                let at_most = |bound: u64| micros.iter().filter(|micros| **micros <= bound).count() as u64;
                prop_assert!((at_most(bound)..=at_most(bound + bound / 64)).contains(&count), "{} {}", bound, count);
            }
        }
    }
}
