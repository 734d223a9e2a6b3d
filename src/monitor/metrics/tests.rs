use std::collections::BTreeSet;

use super::*;

/// A library's statistics with every number that there can be, nearly all of them different.
fn document() -> Value {
    Value::parse(include_str!("statistics.json")).expect("the file is JSON")
}

/// The runs of that document: some outcomes from memory too.
fn runs() -> Counts {
    let mut runs = Counts::default();
    for (name, count) in found(&document(), "runs.by_outcome.*") {
        let outcome = Outcome::ALL.into_iter().find(|outcome| outcome.name() == name).expect("an outcome");
        let count = super::count(count).expect("a count");
        let cached = if outcome == Outcome::Success { 5000 } else { 0 };
        runs[outcome as usize] = [count - cached, cached];
    }
    runs
}

fn text_of_json(text: &str) -> String {
    text_of(&Value::parse(text).expect("JSON"), &runs())
}

/// The document without one member.
fn without(document: &Value, path: &[&str]) -> Value {
    let Value::Object(members) = document else { panic!("no object above {path:?}") };
    let members = members.iter().filter(|(name, _)| path != [name.as_str()]).map(|(name, value)| match path {
        [first, rest @ ..] if first == name && !rest.is_empty() => (name.clone(), without(value, rest)),
        _ => (name.clone(), value.clone()),
    });
    Value::Object(members.collect())
}

#[test]
fn every_row_finds_its_numbers() {
    for row in TABLE {
        let family = row.family(&document(), &runs());
        let expected = match row.label {
            Nothing | Texts(_) => 1,
            Cached => 2,
            Each(_) => 3,
            OutcomeAndCached => 26,
        };
        assert_eq!(family.samples.len(), expected, "{row:?}");
    }
}

#[test]
fn names_are_those_of_the_format() {
    let names: BTreeSet<&str> = TABLE.iter().map(|row| row.name).collect();
    assert_eq!(names.len(), TABLE.len(), "no counter has a gauge's name, nor has anything else the name of another");
    for row in TABLE {
        let end = if row.kind == Info { "info" } else { row.measure.unit().unwrap_or("") };
        assert_eq!(row.name.strip_suffix(end).map(|stem| stem.trim_end_matches('_')), Some(row.stem()), "{row:?}");
        assert!(row.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{row:?}");
        let of_samples = ["_total", "_created", "_count", "_sum", "_bucket"];
        assert!(!of_samples.iter().any(|suffix| row.name.ends_with(suffix)), "{row:?}: the encoder adds it");
        assert!(row.kind != Counter || row.measure == Plain, "{row:?}: counts have no unit");
        assert!(row.kind != Histogram || row.measure != Plain, "{row:?}: a distribution has one");
        assert!(!row.help.is_empty() && !row.help.ends_with('.'), "{row:?}");
    }
}

#[test]
fn numbers_have_base_units_and_can_be_read() {
    let text = text_of(&document(), &runs());
    for line in [
        "skillcache_build_info{version=\"0.1.0\"} 1",
        "skillcache_uptime_seconds 3600.25",
        "skillcache_runs_total{outcome=\"success\",cached=\"false\"} 1000",
        "skillcache_runs_total{outcome=\"success\",cached=\"true\"} 5000",
        "skillcache_runs_total{outcome=\"cancelled\",cached=\"true\"} 0",
        "skillcache_slow_runs_total 21",
        "skillcache_violations_total 9",
        "skillcache_sandbox_info{mode=\"strict\",level=\"strict\"} 1",
        "skillcache_children_started_total 1230",
        "skillcache_run_peak_memory_bytes 64487424",
        "skillcache_cache_hits_total{cache=\"execution\"} 5000",
        "skillcache_cache_entries{cache=\"metadata\"} 14",
        "skillcache_cache_max_bytes{cache=\"prepared\"} 33554432",
        "skillcache_pool_requests_total 2100",
        "skillcache_pool_connections 7",
        "skillcache_skills 20",
        "skillcache_skills_by_state{state=\"quarantined\"} 2",
        "skillcache_store_usage_lag_seconds 1.5",
        "skillcache_store_writer_failed_commits_total 7",
        "skillcache_results_damaged_total 1",
        "skillcache_embeddings_loaded_bytes 24576",
        "skillcache_tasks_refused_total 18",
        "skillcache_memory_resident_bytes 105119744",
        "skillcache_memory_limit_bytes 536870912",
        "skillcache_memory_utilization_ratio 0.195",
        "skillcache_events_dropped_total 22",
    ] {
        assert!(text.contains(&format!("\n{line}\n")), "{line}\n{text}");
    }
    assert!(text.ends_with("\n# EOF\n"), "{text}");
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let number = line.rsplit_once(' ').expect("a name and a number").1;
        assert!(number.parse::<f64>().is_ok_and(f64::is_finite), "{line}");
    }
}

#[test]
fn a_family_says_what_it_is() {
    let text = text_of(&document(), &runs());
    for family in [
        "# HELP skillcache_build The version of the library\n# TYPE skillcache_build info\nskillcache_build_info{",
        "# HELP skillcache_slow_runs Runs that took monitor.slow_run_ms or longer\n# TYPE skillcache_slow_runs counter\nskillcache_slow_runs_total ",
        "# TYPE skillcache_cache_bytes gauge\n# UNIT skillcache_cache_bytes bytes\nskillcache_cache_bytes{cache=\"execution\"} ",
        "# TYPE skillcache_run_duration_seconds histogram\n# UNIT skillcache_run_duration_seconds seconds\nskillcache_run_duration_seconds_sum{",
        "# TYPE skillcache_memory_utilization_ratio gauge\n# UNIT skillcache_memory_utilization_ratio ratio\n",
    ] {
        assert!(text.contains(family), "{family}\n{text}");
    }
}

#[test]
fn distributions_are_cumulative_and_in_seconds() {
    let text = text_of(&document(), &runs());
    let executed = "skillcache_run_duration_seconds_bucket{le=\"";
    let of_executed: Vec<(&str, &str)> =
        text.lines().filter_map(|line| line.strip_prefix(executed)?.split_once("\",cached=\"false\"} ")).collect();
    let bounds = [
        "0.000001", "0.000002", "0.000005", "0.00001", "0.00002", "0.00005", "0.0001", "0.0002", "0.0005", "0.001",
        "0.002", "0.005", "0.01", "0.02", "0.05", "0.1", "0.2", "0.5", "1.0", "2.0", "5.0", "10.0", "20.0", "50.0",
        "100.0", "+Inf",
    ];
    assert_eq!(of_executed.iter().map(|(bound, _)| *bound).collect::<Vec<_>>(), bounds);
    assert_eq!(of_executed[5..9].iter().map(|(_, count)| *count).collect::<Vec<_>>(), ["0", "20", "30", "33"]);
    assert_eq!(of_executed[24..].iter().map(|(_, count)| *count).collect::<Vec<_>>(), ["1249", "1250"]);
    for line in [
        "skillcache_run_duration_seconds_sum{cached=\"false\"} 162.654",
        "skillcache_run_duration_seconds_count{cached=\"false\"} 1250",
        "skillcache_run_duration_seconds_sum{cached=\"true\"} 0.021",
        "skillcache_task_queue_duration_seconds_bucket{le=\"0.0002\"} 200",
        "skillcache_task_queue_duration_seconds_count 300",
    ] {
        assert!(text.contains(&format!("\n{line}\n")), "{line}\n{text}");
    }
    assert!(!text.contains("cached=\"queue\""), "{text}");
}

#[test]
fn what_has_no_number_is_left_out_and_is_not_zero() {
    let text = text_of_json(
        r#"{"memory": {"rss_mb": null}, "sandbox": {"mode": "strict", "level": null}, "pool": {"leaks": 0}}"#,
    );
    let names: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE skillcache_")?.split(' ').next()).collect();
    assert_eq!(names, ["build", "runs", "sandbox", "pool_leaks"]);
    assert!(text.contains("\nskillcache_sandbox_info{mode=\"strict\"} 1\n"), "{text}");
    let whole = text_of(&document(), &runs());
    for row in TABLE.iter().filter(|row| !matches!(row.label, OutcomeAndCached | Texts(_)) && !row.path.contains('*')) {
        let path: Vec<&str> = row.path.split('.').collect();
        let family = row.family(&without(&document(), &path), &runs());
        assert!(family.samples.is_empty(), "{row:?}");
        assert!(whole.contains(&format!("# TYPE skillcache_{} ", row.name)), "{row:?}");
    }
}

#[test]
fn texts_are_escaped() {
    let text = text_of_json(r#"{"version": "a\"b\\c\nd", "caches": {"x\"y": {"hits": 1}}}"#);
    assert!(text.contains("\nskillcache_build_info{version=\"a\\\"b\\\\c\\nd\"} 1\n"), "{text}");
    assert!(text.contains("\nskillcache_cache_hits_total{cache=\"x\\\"y\"} 1\n"), "{text}");
    assert_eq!(escaped("a \"b\" \\ c\nd"), "a \\\"b\\\" \\\\ c\\nd");
}

#[test]
fn the_table_is_the_documents_table() {
    let page = include_str!("../../../docs/STATISTICS.md");
    let section = page.split("\n# Metrics\n").nth(1).expect("a section on metrics");
    let described: Vec<&str> = section.lines().filter(|line| line.starts_with("| `")).collect();
    let rows: Vec<String> = TABLE.iter().map(described_as).collect();
    assert_eq!(described, rows, "\n{}", rows.join("\n"));
}

/// A row of the document's table.
fn described_as(row: &Row) -> String {
    let family = if row.kind == Info { row.stem() } else { row.name };
    let (kind, path) = (format!("{:?}", row.kind).to_lowercase(), row.path);
    let quoted = |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let (labels, from) = match row.label {
        Nothing => (String::new(), quoted(&[path])),
        Each(label) => (quoted(&[label]), quoted(&[path])),
        Cached => (quoted(&["cached"]), quoted(&[path])),
        OutcomeAndCached => (quoted(&["outcome", "cached"]), quoted(&[path])),
        Texts(names) => {
            let members = names.iter().map(|name| format!("{path}.{name}")).collect::<Vec<_>>();
            let members = members.iter().map(|path| path.trim_start_matches('.')).collect::<Vec<_>>();
            (quoted(names), quoted(&members))
        }
    };
    format!("| `{PREFIX}_{family}` | {kind} | {labels} | {from} |").replace("|  |", "| |")
}
