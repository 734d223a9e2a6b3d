//! A document with something in every place, for the tests: three months of runs, an hour of samples, and text that means harm.

use skillcache::json::Value;

/// What an agent might write to break out of a page.
pub const HOSTILE: [&str; 7] = [
    "<script>document.title='owned'</script>",
    "\"><img src=x onerror=\"document.title='owned'\">",
    "' autofocus onfocus='document.title=1' x='",
    "]]></title></style></svg><svg onload=alert(1)>",
    "\u{202e}txt.exe\u{2066}",
    "--><!-- {{7*7}} &lt;b&gt; &#x3c;",
    "javascript:alert(1)",
];

/// The document.
pub fn document() -> Value {
    Value::object([
        ("source", source()),
        ("stats", stats()),
        ("history", history()),
        ("outcomes", Value::Array(outcomes())),
        ("skills", Value::Array((0..24).map(skill).collect())),
        ("skills_count", Value::from(1_234u32)),
        ("health", health()),
        ("recommendations", Value::Array(recommendations())),
        ("events", Value::Array((0..60).map(event).collect())),
    ])
}

fn json(text: &str) -> Value {
    Value::parse(text).expect("the tests' own JSON is JSON")
}

fn hostile(index: usize) -> &'static str {
    HOSTILE[index % HOSTILE.len()]
}

fn source() -> Value {
    json(r#"{"name": "<i>skills</i>.db", "made": "26 November 2026, 09:14 UTC", "counters": "saved"}"#)
}

fn skill(index: usize) -> Value {
    let long = "n".repeat(10_000);
    let name = if index == 3 { long.as_str() } else { hostile(index) };
    Value::object([
        ("id", Value::from(format!("skill_{index}"))),
        ("name", Value::from(name)),
        ("version", Value::from(index % 5 + 1)),
        ("description", Value::from(format!("Counts the days of a window. {}", hostile(index + 1)))),
        ("tags", Value::from(vec![hostile(index + 2), "weather"])),
        ("state", Value::from(if index == 4 { "quarantined" } else { "active" })),
        ("cache", Value::from("auto")),
        ("usage_count", Value::from(9_000 / (index + 1))),
        ("success_count", Value::from(8_700 / (index + 1) - index)),
        ("last_used", Value::from("2026-11-26T08:59:12.123Z")),
    ])
}

fn outcomes() -> Vec<Value> {
    let kinds =
        [("success", 120), ("error", 9), ("timeout", 4), ("invalid_input", 6), ("memory_limit", 3), ("denied", 1)];
    let rows = (0..88usize).filter(|day| day % 13 != 5).flat_map(|day| {
        kinds.iter().enumerate().map(move |(kind, (outcome, most))| {
            let wave = 40 + (day * 7 + kind * 13) % 60;
            Value::object([
                ("day", Value::from(crate::clock::iso_day(20_696 + day as i64))),
                ("skill", Value::from(format!("skill_{}", (day + kind) % 9))),
                ("version", Value::from(1u32)),
                ("outcome", Value::from(*outcome)),
                ("count", Value::from(most * wave / 40)),
            ])
        })
    });
    rows.collect()
}

fn history() -> Value {
    let (mut runs, mut hits, mut misses, mut failed) = (0, 0, 0, 0);
    let sample = |at: usize| {
        let wave = ((at as f64 / 30.0).sin() * 40.0 + 60.0) as usize;
        (runs, hits, misses) = (runs + wave, hits + wave * 7 / 10 + at / 30, misses + wave * 3 / 10);
        failed += usize::from(at.is_multiple_of(9)) * 3;
        Value::object([
            ("time", Value::from(format!("2026-11-26T0{}:{:02}:{:02}Z", 8 + at / 360, at / 6 % 60, at % 6 * 10))),
            ("uptime_s", Value::from(at * 10 + 100)),
            ("runs", Value::from(runs)),
            ("failed", Value::from(failed)),
            ("hits", Value::from(hits)),
            ("misses", Value::from(misses)),
            ("entries", Value::from((at * 3).min(900))),
            ("max_entries", Value::from(1_000u32)),
            ("bytes", Value::from(at * 100_000)),
            ("max_bytes", Value::from(128_000_000u32)),
            ("pool_in_use", Value::from(wave / 12)),
            ("pool_size", Value::from(10u32)),
            ("pool_open", Value::from((at / 20).min(10))),
            ("pool_waiting", Value::from(usize::from(wave > 90) * 3)),
            ("pool_exhaustions", Value::from(at / 150)),
            ("tasks_waiting", Value::from(wave / 8)),
            ("rss_mb", Value::from(180.0 + at as f64 / 6.0 + wave as f64 / 10.0)),
            ("memory_percent", Value::from(24.0)),
        ])
    };
    Value::object([("interval_s", Value::from(10u32)), ("samples", Value::Array((0..360).map(sample).collect()))])
}

/// Cumulative counts in the series 1, 2, 5, 10 ..., as a bell around one of its buckets.
fn times(middle: usize, count: usize) -> Value {
    let mut below = 0;
    let shares = [2, 8, 22, 34, 20, 9, 4, 1];
    let buckets = (0..25).map(|place| {
        let le = [1u64, 2, 5][place % 3] * 10u64.pow(place as u32 / 3);
        let share = (place + 3).checked_sub(middle).and_then(|at| shares.get(at)).copied().unwrap_or(0);
        below += count * share / 100;
        Value::object([("le", Value::from(le)), ("count", Value::from(below))])
    });
    let buckets = Value::Array(buckets.collect());
    let p50 = [1u64, 2, 5][middle % 3] * 10u64.pow(middle as u32 / 3);
    Value::object([
        ("count", Value::from(below)),
        ("p50", Value::from(p50)),
        ("p95", Value::from(p50 * 6)),
        ("p99", Value::from(p50 * 15)),
        ("max", Value::from(p50 * 40)),
        ("mean", Value::from(p50 as f64 * 1.375)),
        ("buckets", buckets),
    ])
}

fn stats() -> Value {
    let cache = |hits: u32, misses: u32| {
        Value::object([
            ("size", Value::from(812u32)),
            ("max_size", Value::from(1_000u32)),
            ("hits", Value::from(hits)),
            ("misses", Value::from(misses)),
            ("bytes", Value::from(35_900_000u32)),
            ("max_bytes", Value::from(134_217_728u32)),
            ("evictions", Value::from(3u32)),
            ("expirations", Value::from(41u32)),
            ("coalesced", Value::from(17u32)),
            ("policy", Value::from("lru")),
        ])
    };
    let latency = [("cached", times(2, 8_901)), ("executed", times(15, 3_444)), ("queue", times(9, 1_200))];
    Value::object([
        ("version", Value::from("0.1.0")),
        ("uptime_s", Value::from(11_520.25)),
        (
            "caches",
            Value::object([
                ("execution", cache(8_901, 3_444)),
                ("prepared", cache(90, 10)),
                ("metadata", cache(12_000, 345)),
            ]),
        ),
        (
            "runs",
            json(
                r#"{"total": 12345, "cached": 8901, "executed": 3444, "by_outcome": {"success": 11890, "error": 455}, "violations": 1}"#,
            ),
        ),
        ("latency_us", Value::object(latency)),
        (
            "pool",
            json(
                r#"{"open_connections": 6, "pool_size": 10, "total_requests": 4567, "exhaustion_events": 2, "wait_us": {"p99": 4200}, "leaks": 0}"#,
            ),
        ),
        ("tasks", json(r#"{"submitted": 1200, "refused": 0, "workers": 4, "max_workers": 4}"#)),
        (
            "store",
            json(
                r#"{"skills": 1234, "states": {"active": 1230, "quarantined": 1, "retired": 3}, "usage_count": 98765, "success_count": 91234,
            "results": {"entries": 812, "max_entries": 10000, "bytes": 3590000, "max_bytes": 67108864, "hits": 210, "misses": 3234, "refused": 0, "damaged": 0}}"#,
            ),
        ),
        (
            "sandbox",
            json(
                r#"{"mode": "strict", "level": "strict", "layers": ["mount", "net", "landlock-7", "<u>seccomp</u>"], "missing": [], "threads": "count",
            "children": 3444, "peak_memory_mb": 61.5}"#,
            ),
        ),
        (
            "memory",
            json(
                r#"{"status": "ok", "rss_mb": 243.7, "vms_mb": 1890.2, "percent": 23.8, "limit_mb": 1024, "limit_source": "container",
            "caches_mb": {"execution": 34.2, "prepared": 3.1, "metadata": 2.5}, "vectors_mb": 12.0, "pool_mb": 20.0, "children_peak_mb": 61.5, "threshold": 0.8}"#,
            ),
        ),
        ("events", json(r#"{"recorded": 60, "dropped": 0, "waiting": 60}"#)),
        ("logs", json(r#"{"recorded": 812, "dropped": 3, "waiting": 0}"#)),
    ])
}

fn health() -> Value {
    let part = |status: &str, message: &str, remedy: Option<&str>| {
        Value::object([
            ("status", Value::from(status)),
            ("message", Value::from(message)),
            ("remedy", Value::from(remedy)),
            ("response_time_us", Value::from(480u32)),
        ])
    };
    let components = [
        ("store", part("healthy", "the database answers", None)),
        ("pool", part("degraded", hostile(0), Some("raise pool.size, or ask for less at once"))),
        ("<b>sandbox</b>", part("unhealthy", hostile(1), Some(hostile(4)))),
    ];
    Value::object([("status", Value::from("unhealthy")), ("components", Value::object(components))])
}

fn recommendations() -> Vec<Value> {
    let advice = |severity: &str, message: &str, remedy: &str| {
        Value::object([
            ("rule", Value::from("cache-too-small")),
            ("severity", Value::from(severity)),
            ("message", Value::from(message)),
            ("remedy", Value::from(remedy)),
            ("evidence", json(r#"{"hit_rate": 0.7212, "evictions": 3210, "<b>": 1}"#)),
            ("sample", Value::from(12_345u32)),
        ])
    };
    vec![
        advice(
            "warning",
            "The cache of results is too small for what is asked again.",
            "Raise cache.execution.max_entries to 2,000.",
        ),
        advice("<x>", hostile(0), hostile(3)),
    ]
}

fn event(index: usize) -> Value {
    Value::object([
        ("seq", Value::from(index + 1)),
        ("kind", Value::from("run_failed")),
        ("severity", Value::from("warning")),
        ("time", Value::from("2026-11-26T08:59:12Z")),
        ("message", Value::from(hostile(index))),
        ("fields", Value::object([("skill", Value::from(hostile(index)))])),
    ])
}
