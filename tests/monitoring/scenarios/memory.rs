//! A process that hoards memory. In a process of its own, in which nobody else does.

use std::thread;
use std::time::Duration;

use skillcache::json::Value;
use skillcache::{Library, RunOptions};

use crate::child;
use crate::libraries::{at, count, number, open, put, run, stats, text, until};
use crate::told::{Event, all, expect, kinds, names, next};

/// The section `memory` of the statistics.
const SECTION: [&str; 13] = [
    "status",
    "rss_mb",
    "vms_mb",
    "percent",
    "limit_mb",
    "limit_source",
    "caches_mb",
    "vectors_mb",
    "pool_mb",
    "children_peak_mb",
    "threshold",
    "is_high",
    "reports",
];
const MIB: usize = 1 << 20;
/// How far above what is used now a threshold is: its 80/85 is well above that, too.
const ROOM: usize = 192 * MIB;
/// Memory that goes back to the system as soon as it is let go of.
const BLOCK: usize = 48 * MIB;
/// Time for many looks, of which none may tell anything.
const LOOKS: Duration = Duration::from_millis(200);
const OFTEN: [(&str, &str); 3] =
    [("memory.check_interval_ms", "10"), ("memory.report_interval_s", "0"), ("monitor.history_interval_s", "0")];

/// Memory that is really used.
fn hoard(bytes: usize) -> Vec<u8> {
    vec![1; bytes]
}

/// What this process uses, and may use, in bytes.
fn used_and_limit() -> [f64; 2] {
    let stats = stats(&open(&[("memory.check_interval_ms", "86400000")]));
    ["memory.rss_mb", "memory.limit_mb"].map(|path| number(&stats, path) * MIB as f64)
}

/// A threshold so much above what is used now; as an option, and in bytes.
fn threshold() -> (String, f64) {
    let [used, limit] = used_and_limit();
    let bytes = used + ROOM as f64;
    (format!("{}", bytes / limit), bytes)
}

fn open_with(threshold: &str, options: &[(&str, &str)]) -> Library {
    open(&[&OFTEN[..], &[("memory.alert_threshold", threshold)], options].concat())
}

#[track_caller]
fn is_report(event: &Event, reports: i64, is_high: bool) {
    assert_eq!((event.kind.as_str(), event.severity.as_str()), ("memory_report", "info"));
    event.has_fields(&SECTION);
    event.says([("status", "ok".into()), ("reports", Value::from(reports)), ("is_high", Value::Bool(is_high))]);
    let [rss, percent, limit] = ["rss_mb", "percent", "limit_mb"].map(|name| number(&event.fields, name));
    let source = text(&event.fields, "limit_source");
    let message = format!("Memory report: {rss:.1} MB resident, {percent:.1}% of the {limit:.1} MB of this {source}");
    assert_eq!(event.message, message);
    assert_eq!(names(at(&event.fields, "caches_mb")), ["execution", "prepared", "metadata"]);
}

#[track_caller]
fn is_alert(event: &Event, threshold: &str) {
    assert_eq!((event.kind.as_str(), event.severity.as_str()), ("memory_high", "warning"));
    event.has_fields(&["rss_mb", "vms_mb", "percent", "limit_mb", "limit_source", "threshold"]);
    event.says([("threshold", Value::from(threshold.parse::<f64>().expect("a number")))]);
    let [rss, percent, limit] = ["rss_mb", "percent", "limit_mb"].map(|name| number(&event.fields, name));
    assert!((percent - rss * 100.0 / limit).abs() < 1e-6, "{event:?}");
    assert!(percent >= number(&event.fields, "threshold") * 100.0, "{event:?}");
    assert_eq!(event.message, format!("High memory usage detected: {percent:.1}% ({rss:.1} MB)"));
}

fn is_high(library: &Library) -> bool {
    at(&stats(library), "memory.is_high") == &Value::Bool(true)
}

/// Told once while it stays high; again only after it was below 80/85 of the threshold.
fn crossings() {
    let (threshold, bytes) = threshold();
    let library = open_with(&threshold, &[("memory.alert_interval_s", "0")]);
    thread::sleep(LOOKS);
    assert_eq!(kinds(&all(&library)), [""; 0], "nothing is told of what is in order");
    let mut held = hoard(ROOM + BLOCK);
    is_report(&next(&library), 1, true);
    is_alert(&next(&library), &threshold);
    thread::sleep(LOOKS);
    drop(held);
    until("it is low", || !is_high(&library));
    held = hoard(ROOM + BLOCK);
    is_report(&next(&library), 2, true);
    is_alert(&next(&library), &threshold);
    drop(held);
    until("it is low", || !is_high(&library));
    // Up, a little below the threshold, up again: that is one crossing.
    let [used, _] = used_and_limit();
    let mut below = hoard((bytes * 0.97 - used) as usize);
    let mut above = hoard(BLOCK);
    is_report(&next(&library), 3, true);
    is_alert(&next(&library), &threshold);
    for _ in 0..3 {
        drop(above);
        thread::sleep(LOOKS / 3);
        assert!(is_high(&library), "it is not far enough below");
        above = hoard(BLOCK);
        thread::sleep(LOOKS / 3);
    }
    assert_eq!(kinds(&all(&library)), [""; 0]);
    assert_eq!(count(&stats(&library), "memory.reports"), 3);
    // What was used is used until here.
    below[0] = above[0];
}

/// Half of what is kept goes, and what is said of that is true.
fn shrinking() {
    let (threshold, _) = threshold();
    let library = open_with(&threshold, &[("memory.shrink_caches", "on")]);
    let code = "result = 'x' * inputs['n']";
    put(&library, "repeats", code, &[("cache", "yes"), ("embedding", "[1, 0, 1]")]);
    // By their texts, which weigh something too.
    for n in 0..6 {
        let data = format!(r#"{{"inputs":{{"n":{}}}}}"#, 5000 + n);
        library.run_text("repeats", &data, &RunOptions::default()).expect("it is there");
    }
    let nearest = skillcache::Query::read(
        Value::parse(r#"{"embedding": [1, 0, 0]}"#).expect("JSON").as_object().expect("an object"),
    );
    assert_eq!(library.search(&nearest.expect("a query")).expect("it is open").len(), 1);
    let before = stats(&library);
    assert_eq!(kinds(&all(&library)), ["sandbox_level", "skill_put"]);
    let held = hoard(ROOM + BLOCK);
    is_report(&next(&library), 1, true);
    is_alert(&next(&library), &threshold);
    let event = next(&library);
    drop(held);
    assert_eq!((event.kind.as_str(), event.severity.as_str()), ("memory_shrunk", "info"));
    event.has_fields(&["freed_bytes", "freed_entries", "caches"]);
    let after = stats(&library);
    let freed = |path: &str| count(&before, path) - count(&after, path);
    let caches = at(&event.fields, "caches");
    assert_eq!(names(caches), ["execution", "prepared", "metadata", "vectors"]);
    for cache in ["execution", "prepared", "metadata"] {
        let said = at(caches, cache);
        assert_eq!(count(said, "freed_bytes"), freed(&format!("caches.{cache}.bytes")), "{cache}");
        assert_eq!(count(said, "freed_entries"), freed(&format!("caches.{cache}.size")), "{cache}");
    }
    assert_eq!(freed("caches.execution.size"), 3, "the older half");
    assert_eq!(count(at(caches, "vectors"), "freed_bytes"), freed("store.embeddings.loaded_bytes"));
    assert!(freed("store.embeddings.loaded_bytes") > 0 && count(&after, "store.embeddings.loaded") == 0);
    let sum = |member: &str| names(caches).iter().map(|cache| count(at(caches, cache), member)).sum::<i64>();
    assert_eq!((event.count("freed_bytes"), event.count("freed_entries")), (sum("freed_bytes"), sum("freed_entries")));
    let mib = event.count("freed_bytes") as f64 / MIB as f64;
    let entries = event.count("freed_entries");
    assert_eq!(event.message, format!("Memory shrunk: {entries} entries and {mib:.1} MB were let go of"));
    assert!(run(&library, "repeats", r#"{"inputs":{"n":5005}}"#, "").is_cached, "the newer half stays");
    assert!(!run(&library, "repeats", r#"{"inputs":{"n":5000}}"#, "").is_cached);
    thread::sleep(LOOKS);
    assert_eq!(kinds(&all(&library)), [""; 0]);
}

/// Making room is no matter of telling.
fn shrinking_in_silence() {
    let (threshold, _) = threshold();
    let library = open_with(&threshold, &[("memory.shrink_caches", "on"), ("monitor.enabled", "off")]);
    put(&library, "repeats", "result = inputs['n']", &[("cache", "yes")]);
    (0..4).for_each(|n| drop(run(&library, "repeats", &format!(r#"{{"inputs":{{"n":{n}}}}}"#), "")));
    let held = hoard(ROOM + BLOCK);
    until("half of it is gone", || count(&stats(&library), "caches.execution.size") == 2);
    drop(held);
    assert_eq!(kinds(&all(&library)), [""; 0]);
}

/// What is asked for is told, and nothing else.
fn on_demand() {
    let library = open_with("1", &[]);
    let said = library.report_memory().expect("it is open");
    assert_eq!(names(&said), SECTION);
    let [event] = expect(&library, ["memory_report"]);
    is_report(&event, 1, false);
    assert_eq!(event.fields, said);
    library.report_memory().expect("it is open");
    is_report(&expect(&library, ["memory_report"])[0], 2, false);
    assert_eq!(count(&stats(&library), "memory.reports"), 2);
    // Who asks while it is high is told so, once.
    let library = open(&[("memory.check_interval_ms", "86400000"), ("memory.alert_threshold", "0.000001")]);
    library.report_memory().expect("it is open");
    let [report, alert] = expect(&library, ["memory_report", "memory_high"]);
    is_report(&report, 1, true);
    is_alert(&alert, "0.000001");
    library.report_memory().expect("it is open");
    is_report(&expect(&library, ["memory_report"])[0], 2, true);
}

/// Told when it is time, and nothing else.
fn by_interval() {
    let library = open(&[("memory.report_interval_s", "1"), ("memory.alert_threshold", "1")]);
    is_report(&next(&library), 1, false);
    is_report(&next(&library), 2, false);
}

/// Nothing is looked at.
fn switched_off() {
    let options = [("memory.enabled", "off"), ("memory.report_interval_s", "1"), ("memory.alert_threshold", "0")];
    let library = open(&[&OFTEN[..1], &options].concat());
    let off = Value::object([("status", Value::from("off"))]);
    assert_eq!(library.report_memory().expect("it is open"), off);
    thread::sleep(Duration::from_millis(1200));
    assert_eq!(at(&stats(&library), "memory"), &off);
    assert_eq!(kinds(&all(&library)), [""; 0]);
}

#[test]
fn a_hoarder_is_told_of_once_and_what_is_freed_is_said() {
    let test = "a_hoarder_is_told_of_once_and_what_is_freed_is_said";
    if child::part().is_none() {
        child::succeeds(&child::of(module_path!(), test, "hoarder").output().expect("it starts"));
        return;
    }
    thread::scope(|scope| {
        scope.spawn(by_interval);
        scope.spawn(switched_off);
    });
    on_demand();
    crossings();
    shrinking();
    shrinking_in_silence();
}
