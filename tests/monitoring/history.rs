//! The curves.

use skillcache::json::Value;

use crate::libraries::{at, count, number, open, open_at, put, run, stats, until};
use crate::told::{is_time, names};

const SAMPLE: [&str; 19] = [
    "time",
    "uptime_s",
    "runs",
    "cached",
    "failed",
    "hits",
    "misses",
    "entries",
    "max_entries",
    "bytes",
    "max_bytes",
    "pool_in_use",
    "pool_size",
    "pool_open",
    "pool_waiting",
    "pool_exhaustions",
    "tasks_waiting",
    "rss_mb",
    "memory_percent",
];

fn samples(library: &skillcache::Library) -> Vec<Value> {
    let history = library.history().expect("it is open");
    assert_eq!(names(&history), ["interval_s", "samples"]);
    at(&history, "samples").as_array().expect("an array").to_vec()
}

#[test]
fn samples_come_and_counters_rise() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("skills.db");
    let library = open_at(path.to_str().expect("UTF-8"), &[("monitor.history_interval_s", "1"), ("pool.size", "3")]);
    put(&library, "s", "result = inputs['n']", &[("cache", "yes")]);
    put(&library, "fails", "raise ValueError(1)", &[("cache", "no")]);
    assert_eq!(count(&library.history().expect("it is open"), "interval_s"), 1);
    let mut rounds = 0;
    until("there are three samples", || {
        for _ in 0..2 {
            run(&library, "s", &format!(r#"{{"inputs":{{"n":{rounds}}}}}"#), "");
        }
        run(&library, "fails", "", "");
        rounds += 1;
        samples(&library).len() >= 3
    });
    let runs = 3 * rounds;
    until("one has all of them", || samples(&library).last().is_some_and(|last| count(last, "runs") == runs));
    let (stats, samples) = (stats(&library), samples(&library));
    for sample in &samples {
        assert_eq!(names(sample), SAMPLE);
        is_time(at(sample, "time").as_str().expect("text"));
        assert!(count(sample, "entries") <= count(sample, "max_entries"));
        assert!(count(sample, "bytes") <= count(sample, "max_bytes"));
        assert!(count(sample, "cached") + count(sample, "failed") <= count(sample, "runs"));
        assert!(count(sample, "pool_in_use") <= count(sample, "pool_open") && count(sample, "pool_size") == 3);
        assert!(number(sample, "rss_mb") > 0.0 && number(sample, "memory_percent") > 0.0);
        assert_eq!(["pool_waiting", "pool_exhaustions", "tasks_waiting"].map(|name| count(sample, name)), [0; 3]);
    }
    for pair in samples.windows(2) {
        let [before, after] = pair else { panic!("windows of two") };
        // RFC 3339 in UTC sorts as text.
        assert!(at(before, "time").as_str() < at(after, "time").as_str());
        assert!(number(before, "uptime_s") < number(after, "uptime_s"));
        for counter in ["runs", "cached", "failed", "hits", "misses"] {
            assert!(count(before, counter) <= count(after, counter), "{counter}: {pair:?}");
        }
    }
    let last = samples.last().expect("there are some");
    let expected = [("runs", runs), ("cached", rounds), ("failed", rounds), ("hits", rounds), ("misses", rounds)];
    for (name, expected) in expected {
        assert_eq!(count(last, name), expected, "{name}");
    }
    assert_eq!(count(last, "entries"), count(&stats, "caches.execution.size"));
    assert_eq!(count(last, "bytes"), count(&stats, "caches.execution.bytes"));
    assert_eq!(count(last, "pool_open"), count(&stats, "pool.open_connections"));
}

#[test]
fn no_interval_means_no_samples_and_no_memory_means_nulls() {
    let none = open(&[("monitor.history_interval_s", "0")]);
    let off = open(&[("monitor.history_interval_s", "1"), ("memory.enabled", "off")]);
    until("there is a sample", || !samples(&off).is_empty());
    let sample = samples(&off).remove(0);
    assert_eq!(names(&sample), SAMPLE);
    assert_eq!([at(&sample, "rss_mb"), at(&sample, "memory_percent")], [&Value::Null; 2]);
    assert_eq!(none.history().expect("it is open").to_text(), r#"{"interval_s":0,"samples":[]}"#);
}
