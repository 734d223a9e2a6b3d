//! The same numbers as OpenMetrics text.

use std::collections::BTreeMap;

use skillcache::Library;
use skillcache::json::Value;

use crate::libraries::{at, count, number, stats, text};

/// Samples by name and labels, as they stand in the text.
pub type Samples = BTreeMap<String, f64>;

pub fn read(text: &str) -> Samples {
    assert!(text.ends_with("# EOF\n"), "{text}");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        (name.to_owned(), value.parse().unwrap_or_else(|error| panic!("{line}: {error}")))
    };
    let samples: Vec<_> = lines.map(sample).collect();
    let by_name: Samples = samples.iter().cloned().collect();
    assert_eq!(by_name.len(), samples.len(), "a sample is there twice");
    by_name
}

fn sample(samples: &Samples, name: &str) -> f64 {
    *samples.get(name).unwrap_or_else(|| panic!("there is no {name}"))
}

/// All calls to run.
pub fn runs(samples: &Samples) -> i64 {
    samples.iter().filter(|(name, _)| name.starts_with("skillcache_runs_total{")).map(|(_, value)| *value as i64).sum()
}

/// Whatever holds at every moment.
pub fn check(samples: &Samples) {
    for cache in ["execution", "prepared", "metadata"] {
        let of = |name: &str| sample(samples, &format!("skillcache_cache_{name}{{cache=\"{cache}\"}}"));
        assert!(of("entries") <= of("max_entries") && of("bytes") <= of("max_bytes"), "{cache}");
        assert!(of("coalesced_total") <= of("misses_total"), "{cache}");
    }
    let of = |name: &str| sample(samples, &format!("skillcache_pool_{name}"));
    let ended = of("checkouts_total") + of("exhaustions_total") + of("open_failures_total");
    assert!(of("requests_total") >= ended + of("waiting"));
    assert!(of("idle_connections") <= of("connections") && of("connections") <= of("size") + of("max_overflow"));
    check_histograms(samples);
}

/// Buckets rise, and the last one has all.
fn check_histograms(samples: &Samples) {
    let mut buckets: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for (name, value) in samples.iter().filter(|(name, _)| name.contains("_bucket{")) {
        let (before, rest) = name.split_once("le=\"").unwrap_or_else(|| panic!("{name}"));
        let (bound, after) = rest.split_once('"').unwrap_or_else(|| panic!("{name}"));
        let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().expect("a number") };
        buckets.entry(format!("{before}{after}")).or_default().push((bound, *value));
    }
    for (name, mut rows) in buckets {
        rows.sort_by(|one, other| one.0.total_cmp(&other.0));
        assert!(rows.is_sorted_by_key(|(_, count)| *count), "{name}: {rows:?}");
        let labels = name.replace("_bucket", "_count").replace("{,", "{").replace(",}", "}").replace("{}", "");
        let total = sample(samples, &labels);
        assert_eq!(rows.last(), Some(&(f64::INFINITY, total)), "{name}");
    }
}

/// Whatever holds of two texts of which one was made before the other.
pub fn check_since(before: &Samples, now: &Samples) {
    let is_counter = |name: &str| ["_total", "_bucket", "_count"].iter().any(|end| bare(name).ends_with(end));
    for (name, before) in before.iter().filter(|(name, _)| is_counter(name)) {
        assert!(*before <= sample(now, name), "{name} fell from {before} to {}", sample(now, name));
    }
}

fn bare(name: &str) -> &str {
    name.split('{').next().unwrap_or(name)
}

/// Metrics that must be there, and what they say: samples without prefix and places in the statistics.
const SINGLE: [(&str, &str); 15] = [
    ("pool_requests_total", "pool.total_requests"),
    ("pool_checkouts_total", "pool.checkouts"),
    ("pool_exhaustions_total", "pool.exhaustion_events"),
    ("pool_open_failures_total", "pool.open_failures"),
    ("pool_opened_total", "pool.opened"),
    ("pool_closed_total", "pool.closed"),
    ("pool_discarded_total", "pool.discarded"),
    ("pool_rolled_back_total", "pool.rolled_back"),
    ("pool_connections", "pool.open_connections"),
    ("pool_idle_connections", "pool.available_connections"),
    ("pool_size", "pool.pool_size"),
    ("pool_max_overflow", "pool.max_overflow"),
    ("pool_waiting", "pool.waiting"),
    ("pool_leaks", "pool.leaks"),
    ("skills", "store.skills"),
];

const OF_CACHES: [(&str, &str); 12] = [
    ("cache_hits_total", "hits"),
    ("cache_misses_total", "misses"),
    ("cache_evictions_total", "evictions"),
    ("cache_expirations_total", "expirations"),
    ("cache_refusals_total", "refusals"),
    ("cache_coalesced_total", "coalesced"),
    ("cache_ghost_hits_total", "ghost_hits"),
    ("cache_ghost_misses_total", "ghost_misses"),
    ("cache_entries", "size"),
    ("cache_max_entries", "max_size"),
    ("cache_bytes", "bytes"),
    ("cache_max_bytes", "max_bytes"),
];

/// The same of what is younger.
const MORE: [(&str, &str); 30] = [
    ("slow_runs_total", "runs.slow"),
    ("violations_total", "runs.violations"),
    ("children_started_total", "sandbox.children"),
    ("run_duration_seconds_count{cached=\"false\"}", "latency_us.executed.count"),
    ("run_duration_seconds_count{cached=\"true\"}", "latency_us.cached.count"),
    ("task_queue_duration_seconds_count", "latency_us.queue.count"),
    ("skills_by_state{state=\"active\"}", "store.states.active"),
    ("skills_by_state{state=\"quarantined\"}", "store.states.quarantined"),
    ("skills_by_state{state=\"retired\"}", "store.states.retired"),
    ("store_versions", "store.versions"),
    ("store_usage_unwritten", "store.usage_unwritten"),
    ("store_writer_waiting", "store.writer.waiting"),
    ("store_writer_requests_total", "store.writer.requests"),
    ("store_writer_refused_total", "store.writer.refused"),
    ("store_writer_failed_commits_total", "store.writer.failed_commits"),
    ("results_entries", "store.results.entries"),
    ("results_bytes", "store.results.bytes"),
    ("results_hits_total", "store.results.hits"),
    ("results_misses_total", "store.results.misses"),
    ("results_refused_total", "store.results.refused"),
    ("results_damaged_total", "store.results.damaged"),
    ("embeddings_stored", "store.embeddings.stored"),
    ("embeddings_loaded_bytes", "store.embeddings.loaded_bytes"),
    ("tasks_submitted_total", "tasks.submitted"),
    ("tasks_finished_total", "tasks.finished"),
    ("tasks_refused_total", "tasks.refused"),
    ("tasks_waiting", "tasks.waiting"),
    ("tasks_running", "tasks.running"),
    ("events_recorded_total", "events.recorded"),
    ("events_dropped_total", "events.dropped"),
];

/// Whether it says the same as the statistics of a library with which nothing is done.
pub fn check_against(library: &Library) {
    // Each look takes a connection, and may have counts written: two that differ in nothing else have the text in between.
    let mut tries = 0;
    let (stats, samples) = loop {
        let before = stats(library);
        let samples = read(&library.metrics().expect("it is open"));
        if is_quiet(&before, &stats(library)) {
            break (before, samples);
        }
        tries += 1;
        assert!(tries < 1000, "it never comes to rest");
    };
    for (name, path) in SINGLE {
        // Whoever looks asks for a connection.
        let looks = if path == "pool.total_requests" || path == "pool.checkouts" { 1.0 } else { 0.0 };
        let (said, is) = (sample(&samples, &format!("skillcache_{name}")), number(&stats, path));
        assert!((is..=is + 2.0 * looks).contains(&said), "{name} is {said}, {path} {is}");
    }
    for cache in ["execution", "prepared", "metadata"] {
        for (name, member) in OF_CACHES {
            let said = sample(&samples, &format!("skillcache_{name}{{cache=\"{cache}\"}}"));
            assert_eq!(said, number(&stats, &format!("caches.{cache}.{member}")), "{name} of {cache}");
        }
    }
    for (outcome, total) in at(&stats, "runs.by_outcome").as_object().expect("an object") {
        let of = |cached: &str| {
            sample(&samples, &format!("skillcache_runs_total{{outcome=\"{outcome}\",cached=\"{cached}\"}}"))
        };
        assert_eq!(Some(of("false") + of("true")), total.as_f64(), "{outcome}");
    }
    assert_eq!(runs(&samples), count(&stats, "runs.total"));
    for (name, path) in MORE {
        assert_eq!(sample(&samples, &format!("skillcache_{name}")), number(&stats, path), "{name} is not {path}");
    }
    let info = samples.keys().find(|name| name.contains("build_info")).expect("the build");
    assert!(info.contains(text(&stats, "version")), "{info}");
}

/// Whether nothing happened between two looks but the looks.
fn is_quiet(before: &Value, after: &Value) -> bool {
    ["runs", "caches", "tasks", "events", "sandbox", "store"].iter().all(|section| {
        let [before, after] = [before, after].map(|stats| at(stats, section).to_text());
        before == after
    })
}
