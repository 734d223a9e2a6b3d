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
    /// `hits`, `misses`, `evictions`, `expirations`.
    pub counters: [u64; 4],
    /// `entries`, `bytes`.
    pub gauges: [usize; 2],
}

/// The exposition: `skillcache_runs_total{outcome,cached}`, latencies, caches, skills.
pub fn exposition(runs: &RunStats, caches: &[CacheNumbers], skills: u64) -> String {
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
    let stored = Gauge::<i64>::default();
    stored.set(i64::try_from(skills).unwrap_or(i64::MAX));
    registry.register("skills", "Skills that are stored and not removed", stored);
    let mut text = String::new();
    encode(&mut text, &registry).expect("writing to a String does not fail");
    text
}

fn register_caches(registry: &mut Registry, caches: &[CacheNumbers]) {
    let counters = [
        ("cache_hits", "Look-ups answered"),
        ("cache_misses", "Look-ups not answered"),
        ("cache_evictions", "Entries that left a full cache"),
        ("cache_expirations", "Entries whose time was up"),
    ];
    for (index, (name, help)) in counters.into_iter().enumerate() {
        let family = Family::<Labels, Counter>::default();
        for cache in caches {
            family.get_or_create(&vec![("cache", cache.name.to_owned())]).inc_by(cache.counters[index]);
        }
        registry.register(name, help, family);
    }
    for (index, (name, help)) in
        [("cache_entries", "Entries now"), ("cache_bytes", "Weight of the values")].into_iter().enumerate()
    {
        let family = Family::<Labels, Gauge>::default();
        for cache in caches {
            family.get_or_create(&vec![("cache", cache.name.to_owned())]).set(cache.gauges[index] as i64);
        }
        registry.register(name, help, family);
    }
}
