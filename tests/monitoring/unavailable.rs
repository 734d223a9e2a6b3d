//! A process without `/proc`: its figures cannot be read, and all else works.

use std::io::{self, Write};
use std::process::Command;

use rustix::process::getuid;
use skillcache::json::Value;
use skillcache::{Code, Filter, Library, Query, Skill};

use crate::child;
use crate::libraries::{at, count, number, open_at, put, run, stats, text, until};
use crate::told::{expect, names};

/// Covers `/proc`, says so, and becomes this program again.
const COVER: &str = "mount -t tmpfs -o ro none /proc && echo covered && exec \"$@\"";
const DATABASE: &str = "SKC_MONITORING_DATABASE";
const TEST: &str = "without_proc_the_figures_are_unavailable_and_all_else_works";

fn open(path: &str) -> Library {
    let often = [("memory.check_interval_ms", "10"), ("memory.alert_threshold", "0")];
    open_at(path, &[&often[..], &[("monitor.history_interval_s", "1")]].concat())
}

/// The part of the process that has no `/proc`.
fn live_without(path: &str) {
    assert!(std::fs::read_dir("/proc").expect("a folder").next().is_none(), "it is not covered");
    let library = open(path);
    let memory = at(&stats(&library), "memory").clone();
    assert_eq!(text(&memory, "status"), "unavailable");
    for name in ["rss_mb", "vms_mb", "percent", "limit_mb", "limit_source"] {
        assert_eq!(at(&memory, name), &Value::Null, "{name}");
    }
    // What is the library's own is known all the same.
    assert_eq!(names(at(&memory, "caches_mb")), ["execution", "prepared", "metadata"]);
    assert!(number(&memory, "pool_mb") >= 0.0 && at(&memory, "is_high") == &Value::Bool(false));
    let said = library.report_memory().expect("it is open");
    assert_eq!((text(&said, "status"), count(&said, "reports")), ("unavailable", 1));
    let [report] = expect(&library, ["memory_report"]);
    assert_eq!(report.message, "Memory report: the figures of this process cannot be read here");
    assert_eq!(report.fields, said);
    assert_eq!(library.get("s", 0).expect("it is there").code(), "result = 1");
    assert_eq!(library.list(&Filter::default()).expect("it is open").len(), 1);
    assert_eq!(library.search(&Query::words("numbers")).expect("it is open").len(), 1);
    library.set_state("s", "retired").and_then(|()| library.set_state("s", "active")).expect("it is there");
    assert!(library.metrics().expect("it is open").ends_with("# EOF\n"));
    let health = library.health().expect("it is open");
    assert_eq!(text(&health, "components.store.status"), "healthy", "{}", health.to_text());
    until("there is a sample", || {
        let history = library.history().expect("it is open");
        let samples = at(&history, "samples").as_array().expect("an array");
        samples.first().is_some_and(|sample| {
            assert_eq!([at(sample, "rss_mb"), at(sample, "memory_percent")], [&Value::Null; 2]);
            true
        })
    });
    // A child may need what is not there: then that is said, and no more comes of it.
    match library.put(&Skill::new("new", "result = 2")) {
        Ok(_) => assert_eq!(run(&library, "new", "", "").value.as_deref(), Some("2")),
        // The interpreter cannot be asked what it is, or not be confined.
        Err(error) => assert!(matches!(error.code(), Code::Unsupported | Code::Sandbox), "{error}"),
    }
    stats(&library);
    library.close();
}

#[test]
fn without_proc_the_figures_are_unavailable_and_all_else_works() {
    if child::part().is_some() {
        return live_without(&std::env::var(DATABASE).expect("a path"));
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("skills.db");
    let path = path.to_str().expect("UTF-8");
    let library = open(path);
    put(&library, "s", "result = 1", &[("description", "numbers")]);
    library.close();
    let again = child::of(module_path!(), TEST, "without");
    let mut unshared = Command::new("unshare");
    unshared.args(["--mount", "--propagation", "private"]);
    if !getuid().is_root() {
        unshared.args(["--user", "--map-root-user"]);
    }
    unshared.args(["sh", "-c", COVER, "sh"]).arg(again.get_program()).args(again.get_args());
    let variables = again.get_envs().filter_map(|(name, value)| Some((name, value?)));
    let output = unshared.envs(variables).env(DATABASE, path).output();
    match output {
        Ok(output) if String::from_utf8_lossy(&output.stdout).contains("covered") => {
            child::succeeds(&output);
        }
        other => {
            // Not every machine lets one mount, or has these commands.
            let _ = writeln!(io::stderr(), "a process without /proc was not tried: {other:?}");
        }
    }
}
