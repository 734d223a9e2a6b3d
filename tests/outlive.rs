//! Answers outlive the process that found them: which, for how long, and who else gets them.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use skillcache::json::Value;
use skillcache::{CacheMode, Config, Data, Library, Outcome, RunOptions, RunResult, Skill};

/// Another answer whenever it runs, and kept all the same.
const WHEN: &str = "import time\nprint('ran')\nresult = time.time_ns()";

fn open(folder: &tempfile::TempDir, options: &[(&str, &str)]) -> Library {
    let mut config = Config::default();
    for (name, value) in options {
        config.set(name, value).unwrap_or_else(|error| panic!("{error}"));
    }
    let path = folder.path().join("skills.db");
    Library::open(&path.to_string_lossy(), &config).unwrap_or_else(|error| panic!("{error}"))
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"))
}

fn put(library: &Library, code: &str, fields: &[(&str, &str)]) {
    let mut skill = Skill::new("s", code);
    for (name, value) in fields {
        skill.set(name, value).unwrap_or_else(|error| panic!("{error}"));
    }
    library.put(&skill).unwrap_or_else(|error| panic!("{error}"));
}

fn run(library: &Library, data: &str, options: &str) -> RunResult {
    let options = RunOptions::parse(options).unwrap_or_else(|error| panic!("{error}"));
    let result = library.run_text("s", data, &options).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(result.outcome, Outcome::Success, "{result:?}");
    result
}

fn number(library: &Library, path: &[&str]) -> i64 {
    let stats = library.stats().unwrap_or_else(|error| panic!("{error}"));
    let value = path.iter().try_fold(&stats, |value, name| value.get(name));
    value.and_then(Value::as_i64).unwrap_or_else(|| panic!("no number {path:?}"))
}

/// Waits until something holds: what is counted and kept is written behind, and whoever asks waits for that only a moment.
fn until(what: &str, holds: impl Fn() -> bool) {
    let given_up = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < given_up, "{what} never came");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn an_answer_is_there_after_a_restart_as_it_was() {
    let folder = folder();
    let first = {
        let library = open(&folder, &[]);
        put(&library, WHEN, &[("cache", "yes")]);
        run(&library, r#"{"inputs": {"a": 1}}"#, "")
    };
    let library = open(&folder, &[]);
    let again = run(&library, r#"{ "inputs": {"a":1} }"#, "");
    assert!(again.is_cached && !first.is_cached);
    assert_eq!((&again.value, &again.stdout, &again.confinement), (&first.value, &first.stdout, &first.confinement));
    assert!(!run(&library, r#"{"inputs": {"a": 1.0}}"#, "").is_cached, "other data");
    assert_eq!(run(&library, r#"{"inputs": {"a": 1}}"#, "").value, first.value);
    assert_eq!(number(&library, &["store", "results", "hits"]), 1, "the second time memory has it");
    assert_eq!(number(&library, &["runs", "cached"]), 2);
}

#[test]
fn what_was_not_to_be_kept_is_not_kept_there_either() {
    let folder = folder();
    let asked = [r#"{"cache":"no"}"#, r#"{"cache":"auto"}"#, r#"{"cache":"yes","ttl_s":0}"#];
    {
        let library = open(&folder, &[]);
        put(&library, WHEN, &[]);
        asked.iter().for_each(|asked| drop(run(&library, "", asked)));
        let failing = Skill::new("f", "result = 1 / 0");
        library.put(&failing).unwrap_or_else(|error| panic!("{error}"));
        let yes = RunOptions { cache: Some(CacheMode::Yes), ..RunOptions::default() };
        library.run("f", Data::default(), &yes).unwrap_or_else(|error| panic!("{error}"));
    }
    let library = open(&folder, &[]);
    assert_eq!(number(&library, &["store", "results", "entries"]), 0);
    assert!(!run(&library, "", r#"{"cache":"yes"}"#).is_cached);
}

#[test]
fn refreshing_replaces_it_and_off_means_off() {
    let folder = folder();
    {
        let library = open(&folder, &[]);
        put(&library, WHEN, &[("cache", "yes")]);
        run(&library, "", "");
    }
    let fresh = {
        let library = open(&folder, &[]);
        let fresh = run(&library, "", r#"{"cache":"refresh"}"#);
        assert!(!fresh.is_cached);
        fresh
    };
    assert_eq!(run(&open(&folder, &[]), "", "").value, fresh.value);
    let off = open(&folder, &[("store.results.enabled", "off")]);
    assert!(!run(&off, "", "").is_cached);
    let nothing_kept = open(&folder, &[("cache.execution.enabled", "off")]);
    assert!(!run(&nothing_kept, "", "").is_cached, "the second level is one of the cache's");
}

#[test]
fn clearing_and_removing_reach_it() {
    let folder = folder();
    for forget in [
        (|library: &Library| library.clear("execution")) as fn(&Library) -> skillcache::Result<()>,
        |library| library.clear("all"),
        |library| {
            library.remove("s")?;
            put(library, WHEN, &[("cache", "yes")]);
            Ok(())
        },
    ] {
        let library = open(&folder, &[]);
        put(&library, WHEN, &[("cache", "yes")]);
        let before = run(&library, "", "").value;
        forget(&library).unwrap_or_else(|error| panic!("{error}"));
        drop(library);
        let library = open(&folder, &[]);
        assert_ne!(run(&library, "", "").value, before);
        library.clear("all").unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn another_process_finds_what_one_has_found() {
    let folder = folder();
    let (one, other) = (open(&folder, &[]), open(&folder, &[]));
    put(&one, WHEN, &[("cache", "yes")]);
    let first = run(&one, "", "");
    // Has what waits written.
    one.get("s", 0).unwrap_or_else(|error| panic!("{error}"));
    until("the answer", || number(&one, &["store", "results", "entries"]) == 1);
    let second = run(&other, "", "");
    assert_eq!((second.is_cached, second.value), (true, first.value));
}

#[test]
fn a_skill_that_fails_again_and_again_is_not_run_any_more() {
    let folder = folder();
    let library = open(&folder, &[("store.quarantine_after", "3")]);
    put(&library, "result = 1 / inputs['x']", &[("cache", "no")]);
    let outcome = |x: u32| {
        let data = format!(r#"{{"inputs": {{"x": {x}}}}}"#);
        let result = library.run_text("s", &data, &RunOptions::default()).unwrap_or_else(|error| panic!("{error}"));
        (result.outcome, result.failure.map(|failure| failure.message.clone()).unwrap_or_default())
    };
    assert_eq!([0, 0, 1, 0, 0, 0].map(|x| outcome(x).0), [1, 1, 0, 1, 1, 1].map(|number: usize| Outcome::ALL[number]));
    until("its quarantine", || {
        library.get("s", 0).is_ok_and(|skill| skill.field("state") == Value::from("quarantined"))
    });
    let (refused, why) = outcome(1);
    assert_eq!(refused, Outcome::Rejected);
    assert!(why.contains("quarantined") && why.contains("new content"), "{why}");
    library.set_state("s", "active").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(outcome(1).0, Outcome::Success);
    library.set_state("s", "retired").unwrap_or_else(|error| panic!("{error}"));
    let (refused, why) = outcome(1);
    assert!(refused == Outcome::Rejected && why.contains("retired"), "{why}");
}

#[test]
fn another_configuration_finds_no_answer_that_it_would_not_have_given() {
    let folder = folder();
    let long = "print('x' * 5000)\nresult = 1";
    let begin = |options: &[(&str, &str)]| {
        let library = open(&folder, options);
        put(&library, long, &[("cache", "yes")]);
        let result = run(&library, "", "");
        (result.is_cached, result.stdout.bytes.len(), result.level().to_owned())
    };
    assert_eq!((begin(&[("sandbox.max_output_kb", "1")]).0, begin(&[]).1), (false, 5001));
    assert!(begin(&[("sandbox.max_output_kb", "1")]).0, "the same configuration again");
    let weak = [("sandbox.mode", "best_effort"), ("sandbox.without", "namespaces, landlock, seccomp")];
    assert_eq!(begin(&weak).2, "process-only");
    assert!(begin(&weak).0);
    assert_eq!(begin(&[]).2, "strict", "what ran with less is no answer where all is demanded");
    assert_eq!(begin(&[("sandbox.max_answer_kb", "9")]).2, "strict");
    assert!(!begin(&[("python.site_packages", "on")]).0);
    assert!(!begin(&[("python.site_packages", "on")]).0, "packages may be others by then");
}

#[test]
fn who_has_little_time_does_not_set_a_healthy_skill_aside() {
    let folder = folder();
    let library = open(&folder, &[("store.quarantine_after", "2")]);
    // Far longer than its time: a host that is not let look finds an answer that has come meanwhile.
    put(&library, "import time\ntime.sleep(inputs.get('s', 60))\nresult = 1", &[("cache", "yes")]);
    for _ in 0..3 {
        let options =
            RunOptions::parse(r#"{"timeout_ms": 20, "cache": "no"}"#).unwrap_or_else(|error| panic!("{error}"));
        let result = library.run("s", Data::default(), &options).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(result.outcome, Outcome::Timeout);
    }
    assert_eq!(run(&library, r#"{"inputs": {"s": 0}}"#, "").value.as_deref(), Some("1"));
}

#[test]
fn clearing_in_one_process_empties_the_memory_of_all() {
    let folder = folder();
    for options in [&[][..], &[("store.results.enabled", "off")]] {
        clear_in_one(&folder, options);
    }
}

fn clear_in_one(folder: &tempfile::TempDir, options: &[(&str, &str)]) {
    let (one, other) = (open(folder, &[]), open(folder, options));
    put(&one, WHEN, &[("cache", "yes")]);
    let first = [run(&one, "", ""), run(&other, "", "")];
    assert!(run(&one, "", "").is_cached && run(&other, "", "").is_cached);
    one.clear("execution").unwrap_or_else(|error| panic!("{error}"));
    let second = run(&other, "", "");
    assert!(!second.is_cached && first.iter().all(|first| first.value != second.value));
    assert!(run(&other, "", "").is_cached, "once");
    other.clear("all").unwrap_or_else(|error| panic!("{error}"));
    assert!(!run(&one, "", "").is_cached, "also by one that keeps none itself");
}

/// Runs that say to the host, in a folder, that they have begun, and wait there for its word: without layers they can.
const HELD: [(&str, &str); 4] = [
    ("policy.mode", "off"),
    ("sandbox.mode", "best_effort"),
    ("sandbox.without", "namespaces, landlock, seccomp"),
    ("sandbox.timeout_ms", "300000"),
];

fn held_code(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "import os, time\nopen('{folder}/begun', 'w').close()\nwhile not os.path.exists('{folder}/go on'): time.sleep(0.01)\n\
         result = time.time_ns()"
    )
}

#[test]
fn a_run_that_began_before_another_process_cleared_is_nobodys_answer_afterwards() {
    let (folder, signs) = (folder(), self::folder());
    let (one, other) = (open(&folder, &HELD), open(&folder, &HELD));
    put(&one, &held_code(signs.path()), &[("cache", "yes")]);
    other.put(&Skill::new("t", "result = 1")).unwrap_or_else(|error| panic!("{error}"));
    let first = thread::scope(|scope| {
        let slow = scope.spawn(|| run(&other, "", ""));
        until("the run", || signs.path().join("begun").exists());
        one.clear("execution").unwrap_or_else(|error| panic!("{error}"));
        // Has that process notice, and write, while the run goes on.
        other.run("t", Data::default(), &RunOptions::default()).unwrap_or_else(|error| panic!("{error}"));
        other.get("t", 0).unwrap_or_else(|error| panic!("{error}"));
        assert!(!slow.is_finished());
        std::fs::write(signs.path().join("go on"), "").unwrap_or_else(|error| panic!("{error}"));
        slow.join().unwrap_or_else(|_| panic!("it ends"))
    });
    other.get("s", 0).unwrap_or_else(|error| panic!("{error}"));
    for library in [&one, &other] {
        assert_ne!(run(library, "", "").value, first.value);
    }
}

#[test]
fn a_refresh_that_memory_has_no_room_for_takes_the_older_answer_away() {
    let folder = folder();
    let library = open(&folder, &[("cache.execution.max_mb", "1")]);
    // Small or large, by chance: the key is the same, and no clock decides.
    let code = "import random\nresult = 'small' if random.random() < 0.5 else 'x' * 600000";
    put(&library, code, &[("cache", "yes")]);
    let refresh_until = |is_meant: fn(&str) -> bool| {
        let is_one = |_: &i32| run(&library, "", r#"{"cache": "refresh"}"#).value.is_some_and(|value| is_meant(&value));
        (0..200).find(is_one).unwrap_or_else(|| panic!("it is always the same"));
    };
    refresh_until(|value| value == "\"small\"");
    assert_eq!(run(&library, "", "").value.as_deref(), Some("\"small\""), "it is kept");
    library.get("s", 0).unwrap_or_else(|error| panic!("{error}"));
    refresh_until(|value| value.len() > 600_000);
    assert!(!run(&library, "", "").is_cached, "neither the large one nor what was there before");
}
