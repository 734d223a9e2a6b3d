//! Every rule at the edges of its threshold and of its least sample, by documents written by hand.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// A library that is well: much was done, and no rule has anything to say.
const WELL: &str = r#"{
    "caches": {
        "execution": {"size": 500, "max_size": 1000, "hits": 900, "misses": 100, "bytes": 1000, "max_bytes": 8000,
            "evictions": 0, "coalesced": 0, "policy": "lru", "ghost_hits": 0, "ghost_misses": 0},
        "prepared": {"hits": 10, "misses": 10},
        "metadata": {"size": 10, "max_size": 500, "hits": 990, "misses": 10}
    },
    "pool": {"pool_size": 10, "max_overflow": 20, "total_requests": 1000, "recent_exhaustion_rate": 0.0,
        "wait_us": {"count": 0, "p50": 0, "p95": 0, "p99": 0, "max": 0}},
    "store": {"skills": 10, "states": {"active": 10, "quarantined": 0, "retired": 0}, "results": {"hits": 0}},
    "runs": {"total": 1000, "cached": 900, "executed": 100, "by_outcome": {"success": 990, "error": 10, "timeout": 0, "cancelled": 0}},
    "latency_us": {"executed": {"count": 100, "p50": 20000, "p95": 40000, "max": 50000, "mean": 25000.0}},
    "memory": {"status": "ok", "rss_mb": 200.0, "vms_mb": 400.0, "percent": 20.0, "threshold": 0.8,
        "caches_mb": {"execution": 40.0, "prepared": 10.0, "metadata": 5.0}, "vectors_mb": 0.0, "pool_mb": 20.0}
}"#;

fn parsed(text: &str) -> Value {
    Value::parse(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn set(value: &mut Value, path: &str, new: Value) {
    let (name, rest) = path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
    let Value::Object(members) = value else { panic!("{path} is in no object") };
    if !members.iter().any(|(known, _)| known == name) {
        members.push((name.to_owned(), Value::Object(Vec::new())));
    }
    let member = members.iter_mut().find(|(known, _)| known == name).map(|(_, member)| member).expect("just made");
    match rest {
        Some(rest) => set(member, rest, new),
        None => *member = new,
    }
}

/// The document of a library that is well, but for some members: `path = JSON`, one a line.
fn changed(changes: &str) -> Value {
    let mut stats = parsed(WELL);
    for change in changes.split(';').map(str::trim).filter(|change| !change.is_empty()) {
        let (path, new) = change.split_once(" = ").unwrap_or_else(|| panic!("{change}"));
        set(&mut stats, path, parsed(new));
    }
    stats
}

fn spoken(stats: &Value) -> Vec<&'static str> {
    recommendations(stats).iter().map(|recommendation| recommendation.rule).collect()
}

/// What some rule says of such a document, if it is the only one that speaks.
fn only(changes: &str) -> Recommendation {
    let mut all = recommendations(&changed(changes));
    assert_eq!(all.len(), 1, "{changes}: {all:?}");
    all.remove(0)
}

#[test]
fn a_library_that_is_well_is_told_nothing_and_neither_is_an_empty_one() {
    assert_eq!(spoken(&parsed(WELL)), [""; 0]);
    for nothing in ["{}", "null", "[]", "3", r#""caches""#, r#"{"caches":null,"runs":[],"pool":1}"#] {
        assert_eq!(spoken(&parsed(nothing)), [""; 0], "{nothing}");
    }
    assert_eq!(spoken(&zeroed(&parsed(WELL))), [""; 0]);
}

/// The same document with zero for every number.
fn zeroed(value: &Value) -> Value {
    match value {
        Value::Number(_) => Value::from(0u64),
        Value::Object(members) => Value::object(members.iter().map(|(name, member)| (name.as_str(), zeroed(member)))),
        other => other.clone(),
    }
}

/// Each row: a rule; what it speaks of, just at the edge; and the same just beyond it, where it is silent.
const EDGES: &[(&str, &str, &str)] = &[
    // Thresholds.
    (
        "low-hit-rate",
        "caches.execution.hits = 299; caches.execution.misses = 701",
        "caches.execution.hits = 300; caches.execution.misses = 700",
    ),
    (
        "low-hit-rate",
        "caches.execution.hits = 200; caches.execution.misses = 800; caches.execution.coalesced = 49; store.results.hits = 50",
        "caches.execution.hits = 200; caches.execution.misses = 800; caches.execution.coalesced = 50; store.results.hits = 50",
    ),
    ("slow-executions", "latency_us.executed.mean = 5000000.5", "latency_us.executed.mean = 5000000.0"),
    (
        "low-success-rate",
        "runs.by_outcome.success = 799; runs.by_outcome.error = 201",
        "runs.by_outcome.success = 800; runs.by_outcome.error = 200",
    ),
    (
        "low-success-rate",
        "runs.by_outcome.success = 400; runs.by_outcome.cancelled = 499; runs.by_outcome.error = 101",
        "runs.by_outcome.success = 400; runs.by_outcome.cancelled = 500; runs.by_outcome.error = 100",
    ),
    (
        "cache-full",
        "caches.execution.size = 900; caches.execution.evictions = 500",
        "caches.execution.size = 899; caches.execution.evictions = 500",
    ),
    (
        "cache-full",
        "caches.execution.bytes = 6300; caches.execution.evictions = 500",
        "caches.execution.bytes = 6299; caches.execution.evictions = 500",
    ),
    ("many-skills", "store.skills = 1501", "store.skills = 1500"),
    (
        "many-skills",
        "store.skills = 1001; caches.metadata.max_size = 0",
        "store.skills = 1000; caches.metadata.max_size = 0",
    ),
    (
        "switch-policy",
        "caches.execution.ghost_hits = 60; caches.execution.ghost_misses = 10; caches.execution.size = 1000; caches.execution.evictions = 1",
        "caches.execution.ghost_hits = 60; caches.execution.ghost_misses = 11; caches.execution.size = 1000; caches.execution.evictions = 1",
    ),
    ("pool-size", "pool.recent_exhaustion_rate = 0.011", "pool.recent_exhaustion_rate = 0.01"),
    (
        "pool-size",
        "pool.wait_us.count = 20; pool.wait_us.p95 = 100000",
        "pool.wait_us.count = 20; pool.wait_us.p95 = 99999",
    ),
    (
        "pool-size",
        "pool.wait_us.count = 100; pool.wait_us.p95 = 100000; pool.total_requests = 10000",
        "pool.wait_us.count = 99; pool.wait_us.p95 = 100000; pool.total_requests = 10000",
    ),
    ("memory", "memory.percent = 80.0", "memory.percent = 79.9"),
    ("memory", "memory.percent = 50.0; memory.threshold = 0.5", "memory.percent = 50.0; memory.threshold = 0.51"),
    ("quarantine", "store.states.quarantined = 1", "store.states.quarantined = 0"),
    (
        "nothing-cached",
        "caches.execution.hits = 99; caches.execution.misses = 0",
        "caches.execution.hits = 100; caches.execution.misses = 0",
    ),
    // What is not meant.
    (
        "switch-policy",
        "caches.execution.ghost_hits = 500; caches.execution.size = 900; caches.execution.evictions = 9",
        "caches.execution.ghost_hits = 500; caches.execution.size = 899; caches.execution.evictions = 9",
    ),
    (
        "switch-policy",
        "caches.execution.ghost_hits = 500; caches.execution.size = 900; caches.execution.evictions = 9",
        r#"caches.execution.ghost_hits = 500; caches.execution.size = 900; caches.execution.evictions = 9; caches.execution.policy = "x""#,
    ),
    (
        "nothing-cached",
        "caches.execution.hits = 0; caches.execution.misses = 0",
        "caches.execution.hits = 0; caches.execution.misses = 0; caches.execution.max_size = 0",
    ),
    // Least samples.
    (
        "low-hit-rate",
        "caches.execution.hits = 0; caches.execution.misses = 100",
        "caches.execution.hits = 0; caches.execution.misses = 99; runs.total = 900; runs.by_outcome.success = 900",
    ),
    (
        "slow-executions",
        "latency_us.executed.mean = 6e6; latency_us.executed.count = 20",
        "latency_us.executed.mean = 6e6; latency_us.executed.count = 19",
    ),
    (
        "low-success-rate",
        "runs.total = 50; runs.by_outcome.success = 0",
        "runs.total = 49; runs.by_outcome.success = 0",
    ),
    (
        "low-success-rate",
        "runs.total = 60; runs.by_outcome.cancelled = 10; runs.by_outcome.success = 0",
        "runs.total = 60; runs.by_outcome.cancelled = 11; runs.by_outcome.success = 0",
    ),
    (
        "cache-full",
        "caches.execution.size = 1000; caches.execution.evictions = 20",
        "caches.execution.size = 1000; caches.execution.evictions = 19",
    ),
    (
        "many-skills",
        "store.skills = 9000; caches.metadata.hits = 60; caches.metadata.misses = 40",
        "store.skills = 9000; caches.metadata.hits = 60; caches.metadata.misses = 39",
    ),
    (
        "switch-policy",
        "caches.execution.ghost_hits = 500; caches.execution.size = 1000; caches.execution.evictions = 1; caches.execution.hits = 900; caches.execution.misses = 100",
        "caches.execution.ghost_hits = 500; caches.execution.size = 1000; caches.execution.evictions = 1; caches.execution.hits = 900; caches.execution.misses = 99",
    ),
    (
        "pool-size",
        "pool.recent_exhaustion_rate = 0.5; pool.total_requests = 100",
        "pool.recent_exhaustion_rate = 0.5; pool.total_requests = 99",
    ),
    (
        "pool-size",
        "pool.wait_us.count = 20; pool.wait_us.p95 = 100000; pool.total_requests = 100",
        "pool.wait_us.count = 19; pool.wait_us.p95 = 100000; pool.total_requests = 100",
    ),
    (
        "memory",
        "memory.percent = 90.0; memory.caches_mb = {}; memory.pool_mb = 16.0",
        "memory.percent = 90.0; memory.caches_mb = {}; memory.pool_mb = 15.9",
    ),
    (
        "nothing-cached",
        "runs.total = 100; runs.by_outcome.success = 100; caches.execution.hits = 9; caches.execution.misses = 0",
        "runs.total = 99; runs.by_outcome.success = 99; caches.execution.hits = 9; caches.execution.misses = 0",
    ),
];

#[test]
fn each_rule_speaks_at_its_edge_and_not_beyond_it() {
    for (rule, at, beyond) in EDGES {
        assert_eq!(spoken(&changed(at)), [*rule], "{at}");
        assert_eq!(spoken(&changed(beyond)), [""; 0], "{beyond}");
    }
}

#[test]
fn far_beyond_its_threshold_each_still_speaks() {
    for (rule, far) in [
        ("low-hit-rate", "caches.execution.hits = 0; caches.execution.misses = 1000000"),
        ("slow-executions", "latency_us.executed.mean = 1e12"),
        ("low-success-rate", "runs.by_outcome.success = 0"),
        (
            "cache-full",
            "caches.execution.size = 1000; caches.execution.bytes = 8000; caches.execution.evictions = 1000000",
        ),
        ("many-skills", "store.skills = 1000000000"),
        (
            "switch-policy",
            r#"caches.execution.policy = "2q"; caches.execution.ghost_hits = 5000; caches.execution.size = 1000; caches.execution.evictions = 1"#,
        ),
        ("pool-size", "pool.recent_exhaustion_rate = 1.0"),
        ("memory", "memory.percent = 250.0"),
        ("quarantine", "store.states.quarantined = 10"),
        (
            "nothing-cached",
            "runs.total = 1000000; runs.by_outcome.success = 1000000; caches.execution.hits = 0; caches.execution.misses = 0",
        ),
    ] {
        assert_eq!(spoken(&changed(far)), [rule], "{far}");
    }
}

#[test]
fn texts_and_evidence() {
    let hits = only("caches.execution.hits = 29; caches.execution.misses = 71");
    assert_eq!((hits.message.as_str(), hits.sample), ("Low cache hit rate: 29.0% (29/100 look-ups of results)", 100));
    let evidence = r#"{"hit_rate":0.29,"threshold":0.3,"answered":29,"lookups":100,"evictions":0}"#;
    assert_eq!(hits.to_value().get("evidence").map(Value::to_text).as_deref(), Some(evidence));
    let told: BTreeSet<String> =
        hits.to_value().as_object().unwrap_or_default().iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(told, ["rule", "severity", "message", "remedy", "evidence", "sample"].map(str::to_owned).into());
    for (changes, message) in [
        ("latency_us.executed.mean = 6200000.0", "High average execution time: 6.2 s (of 100 runs)"),
        (
            "runs.by_outcome.success = 700; runs.by_outcome.error = 100; runs.by_outcome.timeout = 200",
            "Low skill execution success rate: 70.0% (700/1000 runs), 200 of the others ended as `timeout`",
        ),
        (
            "caches.execution.size = 950; caches.execution.evictions = 40",
            "Execution cache nearly full: 950/1000 entries; 40 results had to leave",
        ),
        (
            "store.skills = 2600",
            "High number of skills in memory: 2600 are stored, and the cache `metadata` keeps the records of 500; the others are read \
             whenever they are used",
        ),
        (
            "memory.percent = 85.0; memory.rss_mb = 1000.0; memory.vectors_mb = 64.5",
            "High memory usage detected: 85.0% (1000.0 MB), of which the library holds 139.5 MB, the embeddings most: 64.5 MB",
        ),
        ("store.states.quarantined = 3", "Skills are quarantined, and neither run nor found: 3 of 10"),
    ] {
        assert_eq!(only(changes).message, message);
    }
    let bytes = only("caches.execution.bytes = 7999; caches.execution.evictions = 500");
    assert!(bytes.remedy.contains("max_mb") && bytes.message.contains("7999/8000 bytes"), "{bytes:?}");
    let back = only(
        r#"caches.execution.policy = "2q"; caches.execution.ghost_hits = 500; caches.execution.size = 1000; caches.execution.evictions = 1"#,
    );
    assert!(back.remedy.ends_with("`cache.execution.policy` = `lru`"), "{back:?}");
}

#[test]
fn what_is_no_number_makes_no_other_rule_speak_and_silences_none() {
    for (rule, at, _) in EDGES {
        let stats = changed(at);
        let both = |stats: &mut Value| set(stats, "store.states.quarantined", Value::from(1u64));
        for path in paths(&stats, "") {
            for nothing in ["null", "-1", "1e300", r#""12""#, "[]", "{}"] {
                let mut stats = stats.clone();
                set(&mut stats, &path, parsed(nothing));
                both(&mut stats);
                let rules = spoken(&stats);
                assert!(
                    rules.iter().all(|spoken| [rule, "quarantine"].contains(spoken)),
                    "{path} = {nothing}: {rules:?}"
                );
                assert!(rules.contains(&"quarantine"), "{path} = {nothing}: {rules:?}");
            }
        }
    }
}

/// Where the document has something that is no object.
fn paths(value: &Value, before: &str) -> Vec<String> {
    let Some(members) = value.as_object() else { return vec![before.to_owned()] };
    let below = |(name, member): &(String, Value)| {
        paths(member, &if before.is_empty() { name.clone() } else { format!("{before}.{name}") })
    };
    members.iter().flat_map(below).collect()
}

#[test]
fn what_the_rules_read_is_what_a_library_tells() {
    let library = crate::Library::open(":memory:", &crate::Config::default()).unwrap_or_else(|error| panic!("{error}"));
    let stats = library.stats().unwrap_or_else(|error| panic!("{error}"));
    let is_missing = |path: &String| Stats(&stats).member(path).is_none();
    let missing: Vec<String> = paths(&parsed(WELL), "").into_iter().filter(is_missing).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn ids_are_unique_and_described_with_severity_and_least_sample() {
    let ids: BTreeSet<&str> = RULES.iter().map(|rule| rule.id).collect();
    assert_eq!(ids.len(), RULES.len());
    let reached: BTreeSet<&str> = EDGES.iter().map(|(rule, ..)| *rule).collect();
    assert_eq!(reached, ids, "every rule has its edges above");
    let page = include_str!("../../../docs/STATISTICS.md");
    let section = page.split("\n# Recommendations\n").nth(1).expect("the page has them");
    let section = section.split("\n#").next().unwrap_or_default();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |"));
    let told: Vec<(&str, &str, u64)> = rows
        .map(|row| {
            let cells: Vec<&str> = row.split(" | ").collect();
            let least = cells.last().and_then(|cell| cell.split(' ').next()?.parse().ok());
            (cells[0].trim_end_matches('`'), cells[1], least.unwrap_or_else(|| panic!("{row}")))
        })
        .collect();
    let rules: Vec<_> = RULES.iter().map(|rule| (rule.id, rule.severity.name(), rule.least_sample)).collect();
    assert_eq!(told, rules);
}

fn any_number() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<u64>().prop_map(Value::from),
        (0u64..2000).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[1-9][0-9]{0,400}".prop_map(|digits| parsed(&digits)),
    ]
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf =
        prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), any_number(), ".*".prop_map(Value::from)];
    leaf.prop_recursive(4, 32, 6, |inner| {
        let name = prop::sample::select(vec!["caches", "execution", "hits", "runs", "pool", "store", "memory", "x"]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name, inner, 0..6).prop_map(Value::object),
        ]
    })
}

/// The document of a library with anything in the place of its numbers.
fn any_stats() -> impl Strategy<Value = Value> {
    let places = paths(&parsed(WELL), "");
    let replaced =
        prop::collection::vec((prop::sample::select(places), prop_oneof![9 => any_number(), 1 => any_value()]), 0..60);
    replaced.prop_map(|replaced| {
        let mut stats = parsed(WELL);
        for (path, new) in replaced {
            set(&mut stats, &path, new);
        }
        stats
    })
}

proptest! {
    #[test]
    fn no_document_is_too_strange(stats in prop_oneof![any_value(), any_stats()]) {
        for recommendation in recommendations(&stats) {
            let value = recommendation.to_value();
            prop_assert_eq!(&parsed(&value.to_text()), &value);
            for (name, number) in &recommendation.evidence {
                prop_assert!(number.as_f64().is_some(), "{}: {:?}", name, recommendation);
            }
            prop_assert!(!recommendation.message.is_empty() && !recommendation.remedy.is_empty());
        }
    }
}
