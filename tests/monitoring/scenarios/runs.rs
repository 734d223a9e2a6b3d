//! Skills that crash, fail, dawdle, and try what they may not.

use std::thread;

use skillcache::json::Value;
use skillcache::{Library, Outcome, RunResult};

use crate::libraries::{at, count, open, open_at, put, run, stats, until};
use crate::told::{Event, all, expect, kinds, names};

const CRASH: &str = "import os\nos.abort()";
const OF_A_RUN: [&str; 5] = ["skill", "version", "outcome", "trace", "trace_id"];

/// Whether an event is about this run of this skill, with what every such event has.
#[track_caller]
fn is_about(event: &Event, result: &RunResult, more: &[&str]) {
    assert_eq!(event.severity, "warning");
    event.has_fields(&[&OF_A_RUN[..], more, &["untold"]].concat());
    event.says([
        ("skill", Value::from(&*result.skill)),
        ("version", Value::from(result.version)),
        ("outcome", result.outcome.name().into()),
        ("trace", Value::from(result.trace.as_deref())),
        ("trace_id", result.trace_id().into()),
    ]);
}

#[track_caller]
fn is_failure(event: &Event, result: &RunResult, untold: u64) {
    let failure = result.failure.as_deref().unwrap_or_else(|| panic!("{result:?}"));
    assert_eq!(event.kind, "run_failed");
    is_about(event, result, &["type"]);
    event.says([("type", failure.kind.as_str().into()), ("untold", Value::from(untold))]);
    let (skill, version, outcome) = (&result.skill, result.version, result.outcome.name());
    assert_eq!(event.message, format!("skill `{skill}` version {version} ended as {outcome}: {}", failure.message));
}

fn traced(library: &Library, id: &str, number: usize) -> RunResult {
    run(library, id, "", &format!(r#"{{"trace":"{number}"}}"#))
}

#[test]
fn a_skill_that_crashes_in_a_loop_is_told_of_three_times() {
    let library = open(&[("store.quarantine_after", "5")]);
    put(&library, "crasher", CRASH, &[]);
    expect(&library, ["sandbox_level", "skill_put"]);
    let results: Vec<_> = (0..30).map(|number| traced(&library, "crasher", number)).collect();
    let (crashed, rejected): (Vec<_>, Vec<_>) = results.iter().partition(|result| result.outcome == Outcome::Crashed);
    // Where the disk is slow, a failure more may have come in between.
    assert!(crashed.len() >= 5 && !rejected.is_empty(), "{results:?}");
    assert!(rejected.iter().all(|result| result.outcome == Outcome::Rejected));
    let [crash, quarantine, rejection] = expect(&library, ["run_failed", "skill_quarantined", "run_failed"]);
    is_failure(&crash, &results[0], 0);
    assert!(crash.message.contains("SIGABRT"), "{crash:?}");
    assert_eq!(quarantine.severity, "warning");
    quarantine.has_fields(&["skill", "version", "failures"]);
    quarantine.says([("skill", "crasher".into()), ("version", Value::from(1u64))]);
    let failures = quarantine.count("failures");
    assert!((5..=crashed.len() as i64).contains(&failures), "{quarantine:?}");
    let text = format!("skill `crasher` is quarantined: version 1 failed {failures} times in a row");
    assert_eq!(quarantine.message, text);
    is_failure(&rejection, rejected[0], 0);
    assert!(rejection.message.contains("quarantined"), "{rejection:?}");
    let stats = stats(&library);
    assert_eq!(count(&stats, "runs.by_outcome.crashed"), crashed.len() as i64);
    assert_eq!(count(&stats, "runs.by_outcome.rejected"), rejected.len() as i64);
    assert_eq!(count(&stats, "store.states.quarantined"), 1);
}

#[test]
fn what_was_not_told_of_a_skill_is_told_with_the_next_after_the_interval() {
    let library = open(&[("monitor.alert_interval_s", "1")]);
    put(&library, "fails", "raise ValueError(inputs)", &[]);
    put(&library, "other", "raise ValueError(inputs)", &[]);
    expect(&library, ["sandbox_level", "skill_put", "skill_put"]);
    let (mut results, mut told) = (Vec::new(), Vec::new());
    until("there is a third", || {
        results.push(traced(&library, "fails", results.len()));
        told.extend(all(&library));
        told.len() >= 3
    });
    // By the trace it is known which run each is about.
    let mut last = None;
    for event in &told {
        let number: usize = at(&event.fields, "trace").as_str().and_then(|text| text.parse().ok()).expect("a number");
        let untold = last.map_or(0, |last| number - last - 1);
        is_failure(event, &results[number], untold as u64);
        last = Some(number);
    }
    // Another skill, and another way to fail, are other matters.
    let other = traced(&library, "other", 0);
    is_failure(&expect(&library, ["run_failed"])[0], &other, 0);
    put(&library, "fails", "x = 1", &[]);
    let another = traced(&library, "fails", 0);
    is_failure(&expect(&library, ["skill_put", "run_failed"])[1], &another, 0);
}

#[test]
fn a_slow_run_is_told_of_and_counted() {
    let library = open(&[("monitor.slow_run_ms", "250")]);
    put(&library, "dawdles", "import time\ntime.sleep(0.3)\nresult = 1", &[("cache", "no")]);
    expect(&library, ["sandbox_level", "skill_put"]);
    let results: Vec<_> = (0..2).map(|number| traced(&library, "dawdles", number)).collect();
    let [event] = expect(&library, ["slow_run"]);
    is_about(&event, &results[0], &["duration_ms", "threshold_ms"]);
    let millis = results[0].duration.as_millis();
    event.says([("threshold_ms", Value::from(250u64)), ("duration_ms", Value::from(millis as u64))]);
    event.says([("untold", Value::from(0u64))]);
    assert_eq!(event.message, format!("skill `dawdles` version 1 took {millis} ms (monitor.slow_run_ms is 250)"));
    assert_eq!(count(&stats(&library), "runs.slow"), 2);
    // One that is slow and fails is told of for both.
    put(&library, "dawdles", "import time\ntime.sleep(0.3)\nraise ValueError(1)", &[]);
    let result = traced(&library, "dawdles", 2);
    let [_, failure, slow] = expect(&library, ["skill_put", "run_failed", "slow_run"]);
    is_failure(&failure, &result, 0);
    is_about(&slow, &result, &["duration_ms", "threshold_ms"]);
    let never = open(&[("monitor.slow_run_ms", "0")]);
    put(&never, "dawdles", "import time\ntime.sleep(0.3)\nresult = 1", &[]);
    expect(&never, ["sandbox_level", "skill_put"]);
    traced(&never, "dawdles", 0);
    assert_eq!((kinds(&all(&never)), count(&stats(&never), "runs.slow")), (vec![], 0));
}

#[test]
fn what_the_sandbox_denies_is_told_beside_the_failure() {
    let library = open(&[]);
    put(&library, "calls", "import socket\nsocket.socket()", &[]);
    put(&library, "asks", "try:\n  import socket\n  socket.socket()\nexcept OSError:\n  result = 1", &[]);
    // What a call of another architecture ends with.
    put(&library, "breaks", "import os, signal\nos.kill(os.getpid(), signal.SIGSYS)", &[]);
    expect(&library, ["sandbox_level", "skill_put", "skill_put", "skill_put"]);
    for (id, outcome) in [("calls", Outcome::Denied), ("breaks", Outcome::Crashed)] {
        let results: Vec<_> = (0..3).map(|number| traced(&library, id, number)).collect();
        assert!(results.iter().all(|result| result.outcome == outcome), "{results:?}");
        let [failure, violation] = expect(&library, ["run_failed", "sandbox_violation"]);
        is_failure(&failure, &results[0], 0);
        is_about(&violation, &results[0], &[]);
        let why = &results[0].failure.as_ref().expect("it failed").message;
        let text = format!("skill `{id}` version 1 tried what the sandbox does not allow: {why}");
        assert_eq!(violation.message, text);
    }
    assert_eq!(traced(&library, "asks", 0).outcome, Outcome::Success, "it knows how to live with that");
    assert_eq!(kinds(&all(&library)), [""; 0]);
    assert_eq!(count(&stats(&library), "runs.violations"), 6);
}

#[test]
fn the_level_is_told_once_by_each_library() {
    for (mode, without) in [("strict", ""), ("best_effort", "landlock")] {
        let library = open(&[("sandbox.mode", mode), ("sandbox.without", without)]);
        assert_eq!(kinds(&all(&library)), [""; 0], "nothing is tried before the first child");
        thread::scope(|scope| {
            for number in 0..8 {
                let library = &library;
                scope.spawn(move || put(library, &format!("s{number}"), &format!("result = {number}"), &[]));
            }
        });
        run(&library, "s0", "", "");
        let mut events = all(&library);
        let level = events.remove(0);
        assert_eq!((level.kind.as_str(), kinds(&events)), ("sandbox_level", vec!["skill_put"; 8]));
        level.has_fields(&["mode", "level", "layers", "missing"]);
        let stats = stats(&library);
        for name in names(&level.fields) {
            assert_eq!(at(&level.fields, name), at(&stats, &format!("sandbox.{name}")), "{name}");
        }
        let missing = at(&level.fields, "missing").as_array().expect("an array");
        let missing: Vec<_> = missing.iter().filter_map(Value::as_str).collect();
        let name = at(&level.fields, "level").as_str().expect("a name");
        let (severity, lacks) = match &missing[..] {
            [] => ("info", String::new()),
            missing => ("warning", format!("; not guaranteed: {}", missing.join(", "))),
        };
        assert_eq!(level.severity, severity);
        assert_eq!(level.message, format!("runs are confined at the level `{name}`{lacks}"));
    }
}

#[test]
fn a_monitor_that_is_off_tells_nothing_and_counts_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("skills.db");
    let options = [
        ("monitor.enabled", "off"),
        ("monitor.history_interval_s", "1"),
        ("monitor.slow_run_ms", "1"),
        ("memory.alert_threshold", "0"),
        ("memory.check_interval_ms", "10"),
        ("cache.alert_threshold", "0"),
        ("store.quarantine_after", "2"),
    ];
    let library = open_at(path.to_str().expect("UTF-8"), &options);
    put(&library, "answers", "result = inputs['n']", &[("cache", "yes")]);
    put(&library, "crashes", CRASH, &[]);
    put(&library, "is_denied", "raise PermissionError(13, 'no')", &[("cache", "no")]);
    let input = |n: u64| format!(r#"{{"inputs":{{"n":{n}}}}}"#);
    (0..6).for_each(|n| drop(run(&library, "answers", &input(n % 2), "")));
    run(&library, "is_denied", "", "");
    until("it is put aside", || run(&library, "crashes", "", "").outcome == Outcome::Rejected);
    library.report_memory().expect("it is open");
    library.remove("is_denied").expect("it is there");
    // Time for a look at memory and for a sample.
    thread::sleep(std::time::Duration::from_millis(1200));
    assert_eq!(kinds(&all(&library)), [""; 0]);
    let stats = stats(&library);
    let [total, cached, executed] = ["total", "cached", "executed"].map(|name| count(&stats, &format!("runs.{name}")));
    assert_eq!((cached, executed), (4, total - 4));
    assert!(count(&stats, "runs.slow") > 0 && count(&stats, "runs.by_outcome.crashed") >= 2);
    assert_eq!(count(&stats, "runs.violations"), 1);
    assert_eq!((count(&stats, "caches.execution.hits"), count(&stats, "caches.execution.misses")), (4, 2));
    assert!(count(&stats, "sandbox.children") >= executed - 1);
    for path in ["latency_us.cached.count", "latency_us.executed.count", "latency_us.queue.count"] {
        assert_eq!(count(&stats, path), 0, "{path}");
    }
    for path in ["events.recorded", "events.dropped", "events.waiting", "logs.recorded"] {
        assert_eq!(count(&stats, path), 0, "{path}");
    }
    assert_eq!(at(&stats, "memory.status").as_str(), Some("ok"), "who asks is told");
    let history = library.history().expect("it is open");
    assert_eq!(at(&history, "samples").as_array().map(<[_]>::len), Some(0));
    assert!(library.metrics().expect("it is open").contains("skillcache_runs_total"));
}
