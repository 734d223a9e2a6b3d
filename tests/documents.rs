//! What the documents say is what the code does.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

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
    }
    assert_eq!(sections, names(&stats));
}

#[test]
fn every_outcome_is_described() {
    let page = document("docs/STATISTICS.md");
    for outcome in Outcome::ALL {
        assert!(page.contains(&format!("`{}`", outcome.name())), "{outcome:?}");
    }
}

#[test]
fn every_event_of_a_busy_library_is_described() {
    let kinds = described(&document("docs/STATISTICS.md"), "# Events");
    let mut config = Config::default();
    config.set("cache.execution.max_entries", "1").unwrap_or_else(|error| panic!("{error}"));
    let library = Library::open(":memory:", &config).unwrap_or_else(|error| panic!("{error}"));
    for (id, code) in [("good", "result = 1"), ("noted", "import sys\nresult = 1"), ("bad", "result = 1 / 0")] {
        library.put(&Skill::new(id, code)).unwrap_or_else(|error| panic!("{error}"));
        library.run(id, Data::default(), &RunOptions::default()).unwrap_or_else(|error| panic!("{error}"));
    }
    library.remove("bad").unwrap_or_else(|error| panic!("{error}"));
    let mut seen = BTreeSet::new();
    while let Ok(event) = library.next_event(Some(Duration::ZERO)) {
        let event = Value::parse(&event).unwrap_or_else(|error| panic!("{error:?}"));
        seen.extend(event.get("kind").and_then(Value::as_str).map(str::to_owned));
    }
    assert_eq!(seen, kinds);
}
