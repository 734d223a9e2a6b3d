//! The numbers of the statistics as OpenMetrics text.

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{Latency, RunStats};
use crate::outcome::Outcome;

type Labels = Vec<(&'static str, String)>;

/// One cache's numbers.
pub struct CacheNumbers {
    /// Its name.
    pub name: &'static str,
    /// In the order of [`COUNTERS`].
    pub counters: [u64; COUNTERS.len()],
    /// In the order of [`GAUGES`].
    pub gauges: [u64; GAUGES.len()],
}

/// The pool's numbers.
pub struct PoolNumbers {
    /// In the order of [`POOL_COUNTERS`].
    pub counters: [u64; POOL_COUNTERS.len()],
    /// In the order of [`POOL_GAUGES`].
    pub gauges: [u64; POOL_GAUGES.len()],
}

/// The exposition: `skillcache_runs_total{outcome,cached}`, latencies, caches, the pool, skills.
pub fn exposition(runs: &RunStats, caches: &[CacheNumbers], pool: &PoolNumbers, skills: u64) -> String {
    let mut registry = Registry::with_prefix("skillcache");
    let calls = Family::<Labels, Counter>::default();
    for outcome in Outcome::ALL {
        for (cached, count) in [("false", runs.counts[outcome as usize][0]), ("true", runs.counts[outcome as usize][1])]
        {
            calls
                .get_or_create(&vec![("outcome", outcome.name().to_owned()), ("cached", cached.to_owned())])
                .inc_by(count);
        }
    }
    registry.register("runs", "Calls to run, by outcome and by whether memory answered", calls);
    let latency = Family::<Labels, Gauge<f64, std::sync::atomic::AtomicU64>>::default();
    for (cached, Latency { p50, p95, p99, .. }) in [("false", runs.executed), ("true", runs.cached)] {
        for (quantile, micros) in [("0.5", p50), ("0.95", p95), ("0.99", p99)] {
            let labels = vec![("cached", cached.to_owned()), ("quantile", quantile.to_owned())];
            latency.get_or_create(&labels).set(micros as f64 / 1e6);
        }
    }
    registry.register("run_latency_seconds", "Latency quantiles since the library was opened", latency);
    register_caches(&mut registry, caches);
    register_pool(&mut registry, pool);
    let stored = Gauge::<i64>::default();
    stored.set(i64::try_from(skills).unwrap_or(i64::MAX));
    registry.register("skills", "Skills that are stored and not removed", stored);
    let mut text = String::new();
    encode(&mut text, &registry).expect("writing to a String does not fail");
    text
}

/// Counters of each cache, and what they count.
const COUNTERS: [(&str, &str); 8] = [
    ("cache_hits", "Look-ups answered"),
    ("cache_misses", "Look-ups not answered"),
    ("cache_evictions", "Entries that left a full cache"),
    ("cache_expirations", "Entries whose time was up"),
    ("cache_refusals", "Entries that were too large to be kept"),
    ("cache_coalesced", "Misses that were answered by a run that was going on already"),
    ("cache_ghost_hits", "Misses that the other policy would have answered, estimated"),
    ("cache_ghost_misses", "Hits that the other policy would have missed, estimated"),
];

/// Gauges of each cache, and what they say.
const GAUGES: [(&str, &str); 4] = [
    ("cache_entries", "Entries now"),
    ("cache_max_entries", "Entries at most"),
    ("cache_bytes", "What the entries weigh: values, keys and overhead"),
    ("cache_max_bytes", "What the entries may weigh"),
];

/// Counters of the pool, and what they count.
const POOL_COUNTERS: [(&str, &str); 8] = [
    ("pool_requests", "How often a connection was asked for"),
    ("pool_checkouts", "How often one was lent"),
    ("pool_exhaustions", "How often none became free in time"),
    ("pool_open_failures", "How often none could be opened"),
    ("pool_opened", "Connections opened"),
    ("pool_closed", "Connections closed"),
    ("pool_discarded", "Connections closed because they were no good any more"),
    ("pool_rolled_back", "Connections that came back in a transaction"),
];

/// Gauges of the pool, and what they say.
const POOL_GAUGES: [(&str, &str); 6] = [
    ("pool_connections", "Connections now"),
    ("pool_idle_connections", "Connections that nobody uses"),
    ("pool_size", "Connections that are kept"),
    ("pool_max_overflow", "Connections that may be opened beyond"),
    ("pool_waiting", "Who waits for a connection"),
    ("pool_leaks", "Connections that have been in use for too long"),
];

fn register_pool(registry: &mut Registry, pool: &PoolNumbers) {
    for ((name, help), number) in POOL_COUNTERS.into_iter().zip(pool.counters) {
        let counter = Counter::<u64>::default();
        counter.inc_by(number);
        registry.register(name, help, counter);
    }
    for ((name, help), number) in POOL_GAUGES.into_iter().zip(pool.gauges) {
        let gauge = Gauge::<i64>::default();
        gauge.set(i64::try_from(number).unwrap_or(i64::MAX));
        registry.register(name, help, gauge);
    }
}

fn register_caches(registry: &mut Registry, caches: &[CacheNumbers]) {
    for (index, (name, help)) in COUNTERS.into_iter().enumerate() {
        let family = Family::<Labels, Counter>::default();
        for cache in caches {
            family.get_or_create(&vec![("cache", cache.name.to_owned())]).inc_by(cache.counters[index]);
        }
        registry.register(name, help, family);
    }
    for (index, (name, help)) in GAUGES.into_iter().enumerate() {
        let family = Family::<Labels, Gauge>::default();
        for cache in caches {
            let value = i64::try_from(cache.gauges[index]).unwrap_or(i64::MAX);
            family.get_or_create(&vec![("cache", cache.name.to_owned())]).set(value);
        }
        registry.register(name, help, family);
    }
}
