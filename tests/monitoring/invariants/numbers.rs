//! What holds of the statistics: of every picture by itself, of two in a row, and of the last one.

use skillcache::Outcome;
use skillcache::json::Value;

use super::load::Tally;
use crate::libraries::{at, count, number, text};
use crate::told::names;

const CACHES: [&str; 3] = ["execution", "prepared", "metadata"];

/// Upper bounds of buckets: 1, 2, 5, 10 and so on, to a hundred seconds.
fn bounds() -> Vec<i64> {
    (0..25).map(|index| [1, 2, 5][index % 3] * 10_i64.pow(index as u32 / 3)).collect()
}

/// A share that was computed from the counts beside it.
#[track_caller]
fn is_share(stats: &Value, path: &str, part: i64, whole: i64) {
    let expected = if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
    assert!((number(stats, path) - expected).abs() < 1e-9, "{path} is {}, not {part}/{whole}", number(stats, path));
}

/// Whatever holds at every moment.
pub fn check(stats: &Value) {
    check_runs(stats);
    CACHES.into_iter().for_each(|cache| check_cache(stats, cache));
    check_pool(stats);
    check_tasks(stats);
    check_store(stats);
    for ring in ["events", "logs"] {
        let [recorded, dropped, waiting] =
            ["recorded", "dropped", "waiting"].map(|name| count(stats, &format!("{ring}.{name}")));
        assert!(recorded >= dropped + waiting, "{ring}: {recorded} {dropped} {waiting}");
        assert!(waiting <= super::EVENTS.parse().expect("a number"), "{ring}: {waiting}");
    }
    check_memory(stats);
}

fn check_runs(stats: &Value) {
    let runs = |name: &str| count(stats, &format!("runs.{name}"));
    let [total, cached, executed] = ["total", "cached", "executed"].map(runs);
    let by_outcome = at(stats, "runs.by_outcome");
    assert_eq!(names(by_outcome), Outcome::ALL.map(Outcome::name));
    let sum: i64 = Outcome::ALL.iter().map(|outcome| count(by_outcome, outcome.name())).sum();
    assert_eq!((sum, cached + executed), (total, total), "{}", at(stats, "runs").to_text());
    assert!(cached <= count(by_outcome, "success"), "only what succeeded is kept");
    assert!(runs("slow") <= total);
    assert_eq!(runs("violations"), count(by_outcome, "denied"), "nothing here ends by SIGSYS");
    for name in ["cached", "executed", "queue"] {
        check_latency(at(stats, &format!("latency_us.{name}")));
    }
    assert_eq!(count(stats, "latency_us.executed.count"), executed);
    let measured = count(stats, "latency_us.cached.count");
    // From there on one in sixteen is measured, and stands for those that come after it.
    let most = if cached <= 1024 { cached } else { cached + 15 };
    assert!((cached..=most).contains(&measured), "{measured} of {cached}");
    // The runs were read before the caches: what had been answered by then had been found by then.
    let [hits, coalesced] = ["hits", "coalesced"].map(|name| count(stats, &format!("caches.execution.{name}")));
    assert!(cached <= hits + coalesced + count(stats, "store.results.hits"), "{cached} {hits} {coalesced}");
    let outcome = |outcome: Outcome| count(by_outcome, outcome.name());
    let childless = outcome(Outcome::InvalidInput) + outcome(Outcome::Rejected) + outcome(Outcome::Cancelled);
    assert!(count(stats, "sandbox.children") >= executed - childless);
}

fn check_latency(latency: &Value) {
    let [total, p50, p95, p99, max, sum] =
        ["count", "p50", "p95", "p99", "max", "sum"].map(|name| count(latency, name));
    assert!([p50, p95, p99, max].is_sorted(), "{}", latency.to_text());
    let buckets = at(latency, "buckets").as_array().expect("an array");
    assert_eq!(buckets.iter().map(|bucket| count(bucket, "le")).collect::<Vec<_>>(), bounds());
    let counts: Vec<_> = buckets.iter().map(|bucket| count(bucket, "count")).collect();
    assert!(counts.is_sorted() && counts.last().is_some_and(|last| *last <= total), "{}", latency.to_text());
    let mean = if total == 0 { 0.0 } else { sum as f64 / total as f64 };
    assert!((number(latency, "mean") - mean).abs() < 1e-6, "{}", latency.to_text());
    assert!(total > 0 || max + sum == 0, "{}", latency.to_text());
}

fn check_cache(stats: &Value, cache: &str) {
    let path = |name: &str| format!("caches.{cache}.{name}");
    let part = |name: &str| count(stats, &path(name));
    let [size, max_size, bytes, max_bytes] = ["size", "max_size", "bytes", "max_bytes"].map(part);
    assert!(size <= max_size && bytes <= max_bytes, "{cache}: {size} of {max_size}, {bytes} of {max_bytes}");
    let [hits, misses] = ["hits", "misses"].map(part);
    assert!(part("coalesced") <= misses, "{cache}: {} of {misses}", part("coalesced"));
    is_share(stats, &path("hit_rate"), hits, hits + misses);
    is_share(stats, &path("utilization"), size, max_size);
    is_share(stats, &path("bytes_utilization"), bytes, max_bytes);
}

fn check_pool(stats: &Value) {
    let part = |name: &str| count(stats, &format!("pool.{name}"));
    let [size, max_overflow, open, available, overflow] =
        ["pool_size", "max_overflow", "open_connections", "available_connections", "overflow_connections"].map(part);
    assert!(open <= size + max_overflow && available <= open.min(size), "{}", at(stats, "pool").to_text());
    assert_eq!(overflow, (open - size).max(0));
    is_share(stats, "pool.pool_utilization", (open - available).min(size), size);
    is_share(stats, "pool.overflow_utilization", overflow, max_overflow);
    let [requests, checkouts, exhaustions, failures, waiting] =
        ["total_requests", "checkouts", "exhaustion_events", "open_failures", "waiting"].map(part);
    assert!(requests >= checkouts + exhaustions + failures + waiting, "{}", at(stats, "pool").to_text());
    assert!(waiting == 0 || available == 0, "who waits while something is there?");
    let [opened, closed, discarded, recycled, leaks] = ["opened", "closed", "discarded", "recycled", "leaks"].map(part);
    assert!(opened - closed <= open && closed <= opened && discarded + recycled <= closed);
    assert!(leaks <= open - available);
    is_share(stats, "pool.exhaustion_rate", exhaustions, requests);
}

fn check_tasks(stats: &Value) {
    let part = |name: &str| count(stats, &format!("tasks.{name}"));
    let [submitted, finished, cancelled, waiting, running] =
        ["submitted", "finished", "cancelled", "waiting", "running"].map(part);
    assert_eq!(submitted, finished + cancelled + waiting + running, "{}", at(stats, "tasks").to_text());
    assert!(waiting <= part("max_waiting") && running <= part("workers") && part("workers") <= part("max_workers"));
    // Who had been waited for by the first look had been taken by the second.
    assert!(count(stats, "latency_us.queue.count") <= finished + running);
}

fn check_store(stats: &Value) {
    let part = |name: &str| count(stats, &format!("store.{name}"));
    assert!(part("success_count") <= part("usage_count"));
    let states = at(stats, "store.states");
    assert_eq!(names(states).iter().map(|state| count(states, state)).sum::<i64>(), part("skills"));
    assert!(part("versions") >= part("skills"));
}

fn check_memory(stats: &Value) {
    assert_eq!(text(stats, "memory.status"), "ok");
    let [rss, limit] = ["memory.rss_mb", "memory.limit_mb"].map(|path| number(stats, path));
    assert!((number(stats, "memory.percent") - rss * 100.0 / limit).abs() < 1e-6);
    assert!(rss > 0.0 && rss <= number(stats, "memory.vms_mb"));
}

/// What never falls.
const COUNTERS: [&str; 37] = [
    "runs.total",
    "runs.cached",
    "runs.executed",
    "runs.slow",
    "runs.violations",
    "latency_us.cached.count",
    "latency_us.cached.sum",
    "latency_us.executed.count",
    "latency_us.executed.sum",
    "latency_us.executed.max",
    "latency_us.queue.count",
    "pool.total_requests",
    "pool.checkouts",
    "pool.exhaustion_events",
    "pool.open_failures",
    "pool.opened",
    "pool.closed",
    "pool.discarded",
    "pool.recycled",
    "pool.rolled_back",
    "store.usage_count",
    "store.success_count",
    "store.versions",
    "store.results.hits",
    "store.results.misses",
    "store.writer.requests",
    "store.writer.commits",
    "tasks.submitted",
    "tasks.finished",
    "tasks.refused",
    "tasks.cancelled",
    "sandbox.children",
    "events.recorded",
    "events.dropped",
    "logs.recorded",
    "logs.dropped",
    "memory.reports",
];

const CACHE_COUNTERS: [&str; 8] =
    ["hits", "misses", "evictions", "expirations", "refusals", "coalesced", "ghost_hits", "ghost_misses"];

/// Whatever holds of two pictures of which one was made before the other.
pub fn check_since(before: &Value, now: &Value) {
    let of_caches =
        CACHES.iter().flat_map(|cache| CACHE_COUNTERS.iter().map(move |counter| format!("caches.{cache}.{counter}")));
    let of_runs = Outcome::ALL.map(|outcome| format!("runs.by_outcome.{}", outcome.name()));
    for path in COUNTERS.iter().map(|path| (*path).to_owned()).chain(of_caches).chain(of_runs) {
        let [before, now] = [before, now].map(|stats| count(stats, &path));
        assert!(before <= now, "{path} fell from {before} to {now}");
    }
    assert!(number(before, "uptime_s") <= number(now, "uptime_s"));
    assert!(number(before, "sandbox.peak_memory_mb") <= number(now, "sandbox.peak_memory_mb"));
    assert!(count(before, "store.usage_count") <= count(now, "runs.total"), "whatever is in the database has run");
    let used = |stats: &Value| count(stats, "store.usage_count") + count(stats, "store.usage_unwritten");
    assert!(used(before) <= used(now), "counts fell from {} to {}", used(before), used(now));
    assert!(used(before) <= count(now, "runs.total"), "{} calls of {} runs", used(before), count(now, "runs.total"));
}

/// Whether what was counted is what was done, when nothing goes on.
pub fn check_total(stats: &Value, tally: &Tally) {
    for outcome in Outcome::ALL {
        let counted = count(stats, &format!("runs.by_outcome.{}", outcome.name()));
        assert_eq!(counted, tally.outcomes[outcome as usize], "{outcome:?}");
    }
    let of = |path: &str| count(stats, path);
    assert_eq!((of("runs.total"), of("runs.cached")), (tally.runs(), tally.cached));
    assert_eq!((of("runs.slow"), of("runs.violations")), (tally.slow, tally.violations));
    assert_eq!(of("latency_us.executed.sum"), tally.micros);
    let successes = tally.outcomes[Outcome::Success as usize];
    assert_eq!((of("store.usage_count"), of("store.success_count")), (tally.runs(), successes));
    assert_eq!((of("tasks.submitted"), of("tasks.refused")), (tally.submitted, tally.refused));
    assert_eq!(of("tasks.finished") + of("tasks.cancelled"), tally.submitted);
    assert_eq!(of("latency_us.queue.count"), of("tasks.finished"));
    // Puts and checks have children too.
    assert!(of("sandbox.children") >= tally.children);
    let peak = number(stats, "sandbox.peak_memory_mb");
    assert!(peak >= tally.peak_memory as f64 / f64::from(1 << 20), "{peak}");
    assert_eq!(peak, number(stats, "memory.children_peak_mb"));
}

/// Whether nobody has a connection, or waits for one, but who looks.
pub fn check_rest(stats: &Value) {
    let of = |name: &str| count(stats, &format!("pool.{name}"));
    assert_eq!((of("exhaustion_events"), of("open_failures"), of("waiting")), (0, 0, 0));
    assert_eq!(of("total_requests"), of("checkouts"));
    assert_eq!(of("opened") - of("closed"), of("open_connections"));
    assert_eq!(of("open_connections"), of("available_connections"));
}

/// The same of what outlives the process.
pub fn check_outcomes(outcomes: &Value, tally: &Tally) {
    let rows = outcomes.as_array().expect("an array");
    for outcome in Outcome::ALL {
        let counted = rows.iter().filter(|row| text(row, "outcome") == outcome.name()).map(|row| count(row, "count"));
        assert_eq!(counted.sum::<i64>(), tally.outcomes[outcome as usize], "{outcome:?}");
    }
    assert!(rows.iter().all(|row| count(row, "count") > 0));
    let days: Vec<_> = rows.iter().map(|row| text(row, "day")).collect();
    assert!(days.is_sorted(), "{days:?}");
}
