//! What the documents say is what the code does.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use skillcache::json::Value;
use skillcache::{Config, Data, Library, Outcome, RunOptions, Skill};

fn document(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The words between back quotes in the first column of the tables below a heading.
fn described(document: &str, heading: &str) -> BTreeSet<String> {
    let page = format!("\n{document}");
    let section = page.split(&format!("\n{heading}\n")).nth(1).unwrap_or_else(|| panic!("no heading {heading}"));
    let end = section.find("\n#").unwrap_or(section.len());
    section[..end].lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).map(str::to_owned).collect()
}

fn names(value: &Value) -> BTreeSet<String> {
    value.as_object().unwrap_or_default().iter().map(|(name, _)| name.clone()).collect()
}

#[test]
fn every_statistic_is_described_and_every_description_has_its_statistic() {
    let page = document("docs/STATISTICS.md");
    let library = Library::open(":memory:", &Config::default()).unwrap_or_else(|error| panic!("{error}"));
    let stats = library.stats().unwrap_or_else(|error| panic!("{error}"));
    let mut sections = described(&page, "# Statistics");
    for (name, value) in stats.as_object().unwrap_or_default() {
        let fields = match name.as_str() {
            "caches" => value.get("prepared").map(names),
            "latency_us" => value.get("cached").map(names),
            _ => value.as_object().map(|_| names(value)),
        };
        if let Some(fields) = fields {
            assert_eq!(described(&page, &format!("## `{name}`")), fields, "{name}");
            sections.insert(name.clone());
        }
        let parts = value.as_object().unwrap_or_default().iter().filter(|_| name == "store");
        for (part, fields) in parts.filter(|(_, fields)| fields.as_object().is_some()) {
            assert_eq!(described(&page, &format!("### `{part}`")), names(fields), "{name}.{part}");
        }
    }
    assert_eq!(sections, names(&stats));
}

/// The names of all members, whatever they hold, as paths.
fn paths(value: &Value, above: &str) -> BTreeSet<String> {
    let members = value.as_object().unwrap_or_default().iter();
    members
        .flat_map(|(name, value)| {
            let path = format!("{above}.{name}");
            [path.clone()].into_iter().chain(paths(value, &path))
        })
        .collect()
}

#[test]
fn what_the_metrics_are_tested_with_is_what_a_library_says() {
    let library = Library::open(":memory:", &Config::default()).unwrap_or_else(|error| panic!("{error}"));
    let stats = library.stats().unwrap_or_else(|error| panic!("{error}"));
    let made_up = Value::parse(&document("src/monitor/metrics/statistics.json"));
    assert_eq!(paths(&made_up.unwrap_or_else(|error| panic!("{error}")), ""), paths(&stats, ""));
}

#[test]
fn every_metric_is_described_and_every_description_has_its_metric() {
    let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
    let file = folder.path().join("skills.db");
    let library = Library::open(&file.to_string_lossy(), &Config::default()).unwrap_or_else(|error| panic!("{error}"));
    // What is known from the first child on.
    library.put(&Skill::new("one", "result = 1")).unwrap_or_else(|error| panic!("{error}"));
    library.run("one", Data::default(), &RunOptions::default()).unwrap_or_else(|error| panic!("{error}"));
    let text = library.metrics().unwrap_or_else(|error| panic!("{error}"));
    let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    assert_eq!(
        described(&document("docs/STATISTICS.md"), "# Metrics"),
        families.map(str::to_owned).collect::<BTreeSet<_>>()
    );
}

#[test]
fn the_fields_of_a_cache_utilization_event_are_described() {
    let page = document("docs/STATISTICS.md");
    let library = Library::open(":memory:", &Config::default()).unwrap_or_else(|error| panic!("{error}"));
    let alerts = library.check_caches(0.0).unwrap_or_else(|error| panic!("{error}"));
    let first = alerts.as_array().and_then(<[_]>::first).unwrap_or_else(|| panic!("{alerts:?}"));
    for name in names(first).iter().filter(|name| *name != "message") {
        assert!(page.contains(&format!("\n| {name} | ")), "{name}");
    }
}

#[test]
fn every_outcome_is_described() {
    let page = document("docs/STATISTICS.md");
    for outcome in Outcome::ALL {
        assert!(page.contains(&format!("`{}`", outcome.name())), "{outcome:?}");
    }
}

#[test]
fn the_health_report_is_described() {
    let page = document("docs/STATISTICS.md");
    let mut config = Config::default();
    config.set("monitor.health_timeout_ms", "120000").unwrap_or_else(|error| panic!("{error}"));
    let library = Library::open(":memory:", &config).unwrap_or_else(|error| panic!("{error}"));
    let health = library.health().unwrap_or_else(|error| panic!("{error}"));
    let components = health.get("components").unwrap_or_else(|| panic!("{health:?}"));
    assert_eq!(names(components), described(&page, "# Health"));
    let members = described(&page, "## Members of a component");
    for (name, component) in components.as_object().unwrap_or_default() {
        let more = match name.as_str() {
            "store" => vec!["check"],
            "sandbox" => vec!["level", "layers", "guarantees", "missing", "threads"],
            _ => vec![],
        };
        let expected = members.iter().cloned().chain(more.into_iter().map(str::to_owned)).collect::<BTreeSet<_>>();
        assert_eq!(names(component), expected, "{name}");
    }
    let check = components.get("store").and_then(|store| store.get("check")).unwrap_or_else(|| panic!("{health:?}"));
    assert_eq!(names(check), described(&page, "## `check` of the store"));
}

/// Waits for what a thread of the library does now and then.
fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let given_up = Instant::now() + Duration::from_secs(60);
    loop {
        match look() {
            Some(seen) => return seen,
            None if Instant::now() > given_up => panic!("it never came"),
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

#[test]
fn samples_days_and_lines_are_described() {
    let page = document("docs/STATISTICS.md");
    let mut config = Config::default();
    config.set("monitor.history_interval_s", "1").unwrap_or_else(|error| panic!("{error}"));
    let lines = Arc::new(Mutex::new(Vec::<String>::new()));
    let heard = lines.clone();
    let on_log = Box::new(move |line: &str| heard.lock().unwrap_or_else(|_| panic!("poisoned")).push(line.to_owned()));
    let library = Library::open_with(":memory:", &config, None, Some(on_log)).unwrap_or_else(|error| panic!("{error}"));
    library.put(&Skill::new("good", "result = 1")).unwrap_or_else(|error| panic!("{error}"));
    library.run("good", Data::default(), &RunOptions::default()).unwrap_or_else(|error| panic!("{error}"));
    let history = eventually(|| {
        let history = library.history().unwrap_or_else(|error| panic!("{error}"));
        let first = history.get("samples").and_then(Value::as_array).and_then(<[_]>::first).cloned();
        first.map(|first| (names(&history), names(&first)))
    });
    assert_eq!(history.0, ["interval_s", "samples"].map(str::to_owned).into());
    assert_eq!(described(&page, "# History"), history.1);
    let days = library.outcomes(None).unwrap_or_else(|error| panic!("{error}"));
    let day = days.as_array().and_then(<[_]>::first).unwrap_or_else(|| panic!("{days:?}"));
    assert_eq!(described(&page, "# Outcomes by day"), names(day));
    let line = eventually(|| lines.lock().unwrap_or_else(|_| panic!("poisoned")).first().cloned());
    let line = Value::parse(&line).unwrap_or_else(|error| panic!("{error:?}"));
    let levels = ["debug", "trace", "error"].map(str::to_owned).into();
    assert_eq!(described(&page, "# Log lines"), names(&line).union(&levels).cloned().collect());
}

#[test]
fn the_members_of_a_recommendation_are_described() {
    let library = Library::open(":memory:", &Config::default()).unwrap_or_else(|error| panic!("{error}"));
    let recommendations = || library.recommendations().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(recommendations(), Value::Array(Vec::new()), "a young library");
    library.put(&Skill::new("s", "result = 1")).unwrap_or_else(|error| panic!("{error}"));
    library.set_state("s", "quarantined").unwrap_or_else(|error| panic!("{error}"));
    let found = recommendations();
    let [only] = found.as_array().unwrap_or_default() else { panic!("{}", found.to_text()) };
    assert_eq!(only.get("rule").and_then(Value::as_str), Some("quarantine"));
    assert_eq!(names(only), described(&document("docs/STATISTICS.md"), "## Members of a recommendation"));
}

#[test]
fn every_event_of_a_busy_library_is_described() {
    let kinds = described(&document("docs/STATISTICS.md"), "# Events");
    let mut config = Config::default();
    for option in [
        ("cache.execution.max_entries", "1"),
        ("store.quarantine_after", "1"),
        ("policy.mode", "warn"),
        ("monitor.slow_run_ms", "1"),
        ("memory.alert_threshold", "0"),
        ("memory.shrink_caches", "on"),
    ] {
        config.set(option.0, option.1).unwrap_or_else(|error| panic!("{error}"));
    }
    let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
    let file = folder.path().join("skills.db");
    let library = Library::open(&file.to_string_lossy(), &config).unwrap_or_else(|error| panic!("{error}"));
    for (id, code) in [
        ("good", "result = 1"),
        ("noted", "import sys\nresult = 1"),
        ("denied", "import socket\nresult = str(socket.socket())"),
        ("bad", "result = 1 / 0"),
    ] {
        library.put(&Skill::new(id, code)).unwrap_or_else(|error| panic!("{error}"));
        library.run(id, Data::default(), &RunOptions::default()).unwrap_or_else(|error| panic!("{error}"));
    }
    library.report_memory().unwrap_or_else(|error| panic!("{error}"));
    library.set_state("noted", "retired").unwrap_or_else(|error| panic!("{error}"));
    library.remove("bad").unwrap_or_else(|error| panic!("{error}"));
    // Counts are written within a second, which fails now.
    let other = rusqlite::Connection::open(&file).unwrap_or_else(|error| panic!("{error}"));
    let trigger = "CREATE TRIGGER no BEFORE UPDATE OF usage_count ON skills BEGIN SELECT RAISE(ABORT, 'no'); END";
    other.execute_batch(trigger).unwrap_or_else(|error| panic!("{error}"));
    let hit = library.run("good", Data::default(), &RunOptions::default());
    assert_eq!(hit.map(|result| result.outcome), Ok(Outcome::Success), "the run is over all the same");
    other.execute_batch("UPDATE versions SET code = 'result = 0'").unwrap_or_else(|error| panic!("{error}"));
    library.check("full").unwrap_or_else(|error| panic!("{error}"));
    // What is written behind fails at a moment of its own: its event may come before the others or after them.
    let mut seen = BTreeSet::new();
    while seen != kinds {
        let event =
            library.next_event(Some(Duration::from_secs(60))).unwrap_or_else(|error| panic!("{error}: {seen:?}"));
        let event = Value::parse(&event).unwrap_or_else(|error| panic!("{error:?}"));
        let kind = event.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
        assert!(kinds.contains(&kind), "{kind} is not described");
        seen.insert(kind);
    }
}
