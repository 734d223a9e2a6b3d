//! The health report, with what it is to find: each part broken in turn.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use skillcache::json::Value;
use skillcache::{Code, Config, Data, Library, RunOptions, Skill};
use tempfile::TempDir;

const COMPONENTS: [&str; 6] = ["store", "pool", "cache", "sandbox", "interpreter", "policy"];

fn folder() -> TempDir {
    tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"))
}

/// With time enough for a machine that has other things to do, unless the options say otherwise.
fn open(path: &str, options: &[(&str, &str)]) -> Library {
    let mut config = Config::default();
    for (name, value) in [&[("monitor.health_timeout_ms", "120000")], options].concat() {
        config.set(name, value).unwrap_or_else(|error| panic!("{error}"));
    }
    Library::open(path, &config).unwrap_or_else(|error| panic!("{error}"))
}

fn database(folder: &TempDir) -> String {
    folder.path().join("skills.db").display().to_string()
}

/// A health report.
struct Health(Value);

impl Health {
    fn of(library: &Library) -> Self {
        let health = Health(library.health().unwrap_or_else(|error| panic!("{error}")));
        health.check_shape();
        health
    }

    fn overall(&self) -> &str {
        self.0.get("status").and_then(Value::as_str).unwrap_or_else(|| panic!("{}", self.0.to_text()))
    }

    fn component(&self, name: &str) -> &Value {
        let component = self.0.get("components").and_then(|components| components.get(name));
        component.unwrap_or_else(|| panic!("no {name}: {}", self.0.to_text()))
    }

    fn text(&self, name: &str, member: &str) -> &str {
        let text = self.component(name).get(member).and_then(Value::as_str);
        text.unwrap_or_else(|| panic!("no {name}.{member}: {}", self.0.to_text()))
    }

    fn status(&self, name: &str) -> &str {
        self.text(name, "status")
    }

    /// The components that are not healthy.
    fn sick(&self) -> Vec<(&str, &str)> {
        let all = COMPONENTS.map(|name| (name, self.status(name)));
        all.into_iter().filter(|(_, status)| *status != "healthy").collect()
    }

    fn check_shape(&self) {
        for name in COMPONENTS {
            let component = self.component(name);
            assert!(!self.text(name, "message").is_empty());
            let remedy = component.get("remedy").unwrap_or_else(|| panic!("{}", component.to_text()));
            assert_eq!(*remedy == Value::Null, self.status(name) == "healthy", "{}", component.to_text());
            let timestamp = self.text(name, "timestamp");
            assert!(timestamp.starts_with("20") && timestamp.ends_with('Z') && timestamp.contains('T'), "{timestamp}");
            assert!(component.get("response_time_us").and_then(Value::as_i64).is_some_and(|micros| micros >= 0));
        }
        assert!(self.component("store").get("check").is_some());
    }
}

#[test]
fn a_library_that_works_is_healthy_and_looking_changes_nothing() {
    let folder = folder();
    let library = open(&database(&folder), &[("cache.execution.max_entries", "1")]);
    library.put(&Skill::new("s", "result = inputs")).unwrap_or_else(|error| panic!("{error}"));
    for data in [r#"{"inputs":{"a":1}}"#, r#"{"inputs":{"a":2}}"#] {
        let data = Data::parse(data).unwrap_or_else(|error| panic!("{error}"));
        library.run("s", data, &RunOptions::default()).unwrap_or_else(|error| panic!("{error}"));
    }
    let caches = || library.stats().map(|stats| stats.get("caches").cloned()).unwrap_or_else(|error| panic!("{error}"));
    let before = caches();
    for _ in 0..3 {
        let health = Health::of(&library);
        assert_eq!(health.overall(), "healthy", "{}", health.0.to_text());
        assert!(health.text("cache", "message").contains("execution 1/1"), "full, and well: {}", health.0.to_text());
        assert_eq!(health.text("sandbox", "level"), "strict");
    }
    assert_eq!(caches(), before);
    library.close();
    assert_eq!(library.health().map_err(|error| error.code()), Err(Code::Closed));
}

#[test]
fn a_library_in_memory_is_healthy_however_often_it_is_asked_at_once() {
    let library = open(":memory:", &[]);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..5 {
                    let health = Health::of(&library);
                    assert_eq!(health.overall(), "healthy", "{}", health.0.to_text());
                }
            });
        }
    });
}

#[test]
fn damage_is_told_with_what_to_do() {
    let folder = folder();
    let path = database(&folder);
    let library = open(&path, &[("store.check_on_open", "off")]);
    library.put(&Skill::new("s", "result = 1")).unwrap_or_else(|error| panic!("{error}"));
    library.close();
    let other = rusqlite::Connection::open(&path).unwrap_or_else(|error| panic!("{error}"));
    other.execute_batch("UPDATE versions SET code = 'result = 0'").unwrap_or_else(|error| panic!("{error}"));
    drop(other);
    let library = open(&path, &[("store.check_on_open", "off")]);
    assert_eq!(Health::of(&library).overall(), "healthy", "nobody has looked");
    library.check("full").unwrap_or_else(|error| panic!("{error}"));
    let health = Health::of(&library);
    assert_eq!((health.overall(), health.sick()), ("degraded", vec![("store", "unhealthy")]));
    assert!(health.text("store", "message").contains("damaged"), "{}", health.0.to_text());
    assert!(health.text("store", "remedy").contains("restore a backup"), "{}", health.0.to_text());
    let state = health.component("store").get("check").and_then(|check| check.get("state")?.as_str());
    assert_eq!(state, Some("damaged"));
}

#[test]
fn a_file_that_is_gone_does_not_answer() {
    let folder = folder();
    let path = database(&folder);
    let library = open(&path, &[("store.check_on_open", "off")]);
    assert_eq!(Health::of(&library).overall(), "healthy");
    fs::remove_file(&path).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(Health::of(&library).sick(), [("store", "unhealthy")]);
}

#[test]
fn a_database_that_is_only_read_says_so() {
    let folder = folder();
    let path = database(&folder);
    drop(open(&path, &[]));
    let health = Health::of(&open(&path, &[("store.access", "read_only")]));
    assert_eq!(health.overall(), "healthy", "{}", health.0.to_text());
    assert!(health.text("store", "message").contains("read only"), "{}", health.0.to_text());
}

#[test]
fn a_write_that_was_refused_degrades_the_store() {
    let folder = folder();
    let path = database(&folder);
    let library = open(&path, &[("pool.timeout_ms", "100")]);
    let other = rusqlite::Connection::open(&path).unwrap_or_else(|error| panic!("{error}"));
    other.execute_batch("BEGIN IMMEDIATE").unwrap_or_else(|error| panic!("{error}"));
    let refused = library.put(&Skill::new("s", "result = 1"));
    assert_eq!(refused.map_err(|error| error.code()), Err(Code::Busy));
    let health = Health::of(&library);
    assert_eq!((health.overall(), health.sick()), ("degraded", vec![("store", "degraded")]), "{}", health.0.to_text());
    other.execute_batch("ROLLBACK").unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn without_an_interpreter_nothing_runs() {
    let library = open(":memory:", &[("python.executable", "/nowhere/python")]);
    let health = Health::of(&library);
    assert_eq!(
        (health.overall(), health.sick()),
        ("unhealthy", vec![("sandbox", "unhealthy"), ("interpreter", "unhealthy")])
    );
    assert!(health.text("interpreter", "message").contains("/nowhere/python"), "{}", health.0.to_text());
    for name in ["sandbox", "interpreter"] {
        assert!(health.text(name, "remedy").contains("python.executable"), "{}", health.0.to_text());
    }
}

#[test]
fn an_interpreter_that_is_gone_is_missed() {
    let folder = folder();
    let made = Command::new("python3").args(["-m", "venv", "--copies", "--without-pip"]).arg(folder.path()).status();
    assert!(made.is_ok_and(|status| status.success()), "a copy of the interpreter");
    let program = folder.path().join("bin/python3").display().to_string();
    let library = open(":memory:", &[("python.executable", &program)]);
    let health = Health::of(&library);
    assert_eq!(health.status("interpreter"), "healthy", "{}", health.0.to_text());
    fs::remove_dir_all(folder.path().join("bin")).unwrap_or_else(|error| panic!("{error}"));
    let health = Health::of(&library);
    assert_eq!(health.status("interpreter"), "unhealthy", "{}", health.0.to_text());
}

/// A program that never ends.
fn sleeper(folder: &Path) -> PathBuf {
    let path = folder.join("python");
    fs::write(&path, "#!/bin/sh\nexec sleep 1000\n").unwrap_or_else(|error| panic!("{error}"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap_or_else(|error| panic!("{error}"));
    path
}

#[test]
fn an_interpreter_that_hangs_is_asked_once_and_holds_nobody_up() {
    /// The library waits twenty seconds for an interpreter to say which it is; everything here must be over long before.
    const MARGIN: Duration = Duration::from_secs(18);
    let folder = folder();
    let program = sleeper(folder.path()).display().to_string();
    let options = [("python.executable", program.as_str()), ("monitor.health_timeout_ms", "3000")];
    let library = open(&database(&folder), &options);
    let begin = Instant::now();
    let first = Health::of(&library);
    assert!(begin.elapsed() < MARGIN);
    assert_eq!(
        (first.overall(), first.sick()),
        ("unhealthy", vec![("sandbox", "unhealthy"), ("interpreter", "unhealthy")]),
        "{}",
        first.0.to_text()
    );
    let since = |health: &Health| {
        let message = health.text("interpreter", "message");
        let time = message.split("has not answered since ").nth(1).and_then(|rest| rest.split(',').next());
        time.unwrap_or_else(|| panic!("{message}")).to_owned()
    };
    let second = Health::of(&library);
    assert_eq!(since(&second), since(&first), "it is the same probe that hangs");
    assert!(second.text("interpreter", "message").contains("not asked again"), "{}", second.0.to_text());
    assert_eq!((second.status("store"), second.status("pool")), ("healthy", "healthy"), "{}", second.0.to_text());
    library.close();
    assert_eq!(library.health().map_err(|error| error.code()), Err(Code::Closed));
    drop(library);
    assert!(begin.elapsed() < MARGIN, "closing waits for none of it");
}

#[test]
fn what_was_asked_for_is_healthy_and_said() {
    for (mode, said) in [("enforce", "found and refused"), ("warn", "`warn`"), ("off", "`off`")] {
        let health = Health::of(&open(":memory:", &[("policy.mode", mode), ("policy.allow_imports", "os, ctypes")]));
        assert_eq!(health.overall(), "healthy", "{}", health.0.to_text());
        assert!(health.text("policy", "message").contains(said), "{}", health.0.to_text());
    }
    let options = [("sandbox.mode", "best_effort"), ("sandbox.without", "namespaces, landlock, seccomp")];
    let health = Health::of(&open(":memory:", &options));
    assert_eq!((health.overall(), health.text("sandbox", "level")), ("healthy", "process-only"));
    let message = health.text("sandbox", "message");
    assert!(message.contains("network (needs network namespaces or seccomp)"), "with how to get it: {message}");
    let health = Health::of(&open(":memory:", &options[1..]));
    assert_eq!((health.overall(), health.sick()), ("degraded", vec![("sandbox", "unhealthy")]));
    assert!(health.text("sandbox", "remedy").contains("best_effort"), "{}", health.0.to_text());
}

#[test]
fn the_references_name_of_the_limit_counts_in_seconds() {
    let mut config = Config::default();
    config.set("health_check_timeout_seconds", "0.5").unwrap_or_else(|error| panic!("{error}"));
    let mut same = Config::default();
    same.set("monitor.health_timeout_ms", "500").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config, same);
    for bad in ["0", "600001", "soon"] {
        assert!(config.set("monitor.health_timeout_ms", bad).is_err(), "{bad}");
    }
}
