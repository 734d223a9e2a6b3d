//! A cache that fills up.

use skillcache::Library;
use skillcache::json::Value;

use crate::libraries::{count, open, put, run, stats, until};
use crate::told::{Event, all, expect, kinds};

const FIELDS: [&str; 5] = ["cache", "bound", "size", "max_size", "threshold"];

fn open_empty(options: &[(&str, &str)]) -> Library {
    let library = open(&[&[("cache.alert_interval_s", "0")], options].concat());
    put(&library, "repeats", "result = 'x' * inputs['n']", &[("cache", "yes")]);
    expect(&library, ["sandbox_level", "skill_put"]);
    library
}

fn keep(library: &Library, length: usize) {
    keep_with(library, length, "");
}

fn keep_with(library: &Library, length: usize, options: &str) {
    let result = run(library, "repeats", &format!(r#"{{"inputs":{{"n":{length}}}}}"#), options);
    assert!(!result.is_cached, "{result:?}");
}

fn size(library: &Library, of: &str) -> i64 {
    count(&stats(library), &format!("caches.execution.{of}"))
}

#[track_caller]
fn is_alert(event: &Event, bound: &str, size: i64, max_size: i64) {
    assert_eq!((event.kind.as_str(), event.severity.as_str()), ("cache_utilization", "warning"));
    event.has_fields(&FIELDS);
    event.says([
        ("cache", "execution".into()),
        ("bound", bound.into()),
        ("size", Value::from(size)),
        ("max_size", Value::from(max_size)),
        ("threshold", Value::from(0.85)),
    ]);
    let (percent, unit) = (size as f64 / max_size as f64 * 100.0, if bound == "bytes" { " bytes" } else { "" });
    let share = format!("{percent:.1}% exceeds threshold of 85.0%");
    assert_eq!(event.message, format!("Cache utilization alert: {share} ({size}/{max_size}{unit})"));
}

/// Makes one of those that are kept leave: kept anew for a moment, it is not one more.
fn expire(library: &Library, length: usize) {
    let before = size(library, "size");
    keep_with(library, length, r#"{"cache":"refresh","ttl_s":0.001}"#);
    until("it is expired", || {
        library.evict_expired().expect("it is open");
        size(library, "size") < before
    });
    assert_eq!(size(library, "size"), before - 1);
}

#[test]
fn a_cache_full_of_entries_says_so_once_per_crossing() {
    let library = open_empty(&[("cache.execution.max_entries", "20")]);
    (0..16).for_each(|length| keep(&library, length));
    assert_eq!(kinds(&all(&library)), [""; 0]);
    keep(&library, 16);
    is_alert(&expect(&library, ["cache_utilization"])[0], "entries", 17, 20);
    // Full, and over and over again something has to leave.
    (17..22).for_each(|length| keep(&library, length));
    assert_eq!((size(&library, "size"), size(&library, "evictions")), (20, 2));
    // 80/85 of the threshold is 16: that is not below it.
    (18..22).for_each(|length| expire(&library, length));
    assert_eq!(size(&library, "size"), 16);
    keep(&library, 100);
    assert_eq!(kinds(&all(&library)), [""; 0], "it was not left far enough");
    expire(&library, 100);
    expire(&library, 17);
    assert_eq!(size(&library, "size"), 15);
    (200..203).for_each(|length| keep(&library, length));
    is_alert(&expect(&library, ["cache_utilization"])[0], "entries", 17, 20);
    library.clear("execution").expect("it is open");
    (0..20).for_each(|length| keep(&library, length));
    is_alert(&expect(&library, ["cache_utilization"])[0], "entries", 17, 20);
}

#[test]
fn a_cache_full_of_bytes_says_so_once_per_crossing() {
    let library = open_empty(&[("cache.execution.max_mb", "1")]);
    // An eighth is for the texts by which results are found.
    let most = (1 << 20) * 7 / 8;
    for _ in 0..2 {
        let mut length = 100_000;
        while size(&library, "bytes") * 100 < most * 85 {
            assert_eq!(kinds(&all(&library)), [""; 0]);
            keep(&library, length);
            length += 1;
        }
        is_alert(&expect(&library, ["cache_utilization"])[0], "bytes", size(&library, "bytes"), most);
        (0..4).for_each(|more| keep(&library, length + more));
        assert_eq!(kinds(&all(&library)), [""; 0]);
        library.clear("execution").expect("it is open");
    }
    assert!(size(&library, "evictions") > 0 && size(&library, "size") == 0);
}

#[test]
fn a_crossing_within_the_interval_waits_for_its_end() {
    let library = open_empty(&[("cache.execution.max_entries", "4"), ("cache.alert_interval_s", "3600")]);
    (0..4).for_each(|length| keep(&library, length));
    is_alert(&expect(&library, ["cache_utilization"])[0], "entries", 4, 4);
    library.clear("execution").expect("it is open");
    (0..6).for_each(|length| keep(&library, length));
    assert_eq!(kinds(&all(&library)), [""; 0]);
    // Whoever asks is told all the same, and no event comes of it.
    let full = library.check_caches(0.85).expect("it is open");
    let full = full.as_array().expect("an array");
    assert_eq!(full.iter().map(|bound| count(bound, "size")).collect::<Vec<_>>(), [4]);
    assert_eq!(kinds(&all(&library)), [""; 0]);
}
