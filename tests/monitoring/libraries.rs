//! Libraries, and what is done with them.

use std::env;
use std::process::Command;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use skillcache::json::Value;
use skillcache::{Config, Data, Library, RunOptions, RunResult, Skill};

use crate::child;

/// How long anything may take that is waited for: so long that a machine on which it takes longer does not work.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The interpreter itself: what stands before it in PATH may be a script, which each library would ask anew.
pub static PYTHON: LazyLock<String> = LazyLock::new(|| {
    let ask = || {
        let said = Command::new("python3")
            .args(["-c", "import sys; print(sys.executable)"])
            .output()
            .expect("there is Python");
        String::from_utf8_lossy(&said.stdout).trim().to_owned()
    };
    env::var(child::PYTHON).unwrap_or_else(|_| ask())
});

pub fn config(options: &[(&str, &str)]) -> Config {
    let mut config = Config::default();
    // The policy would refuse much of what goes wrong here, and nothing but what is meant to is to run out of time.
    let patience = PATIENCE.as_millis().to_string();
    let ours = [("policy.mode", "off"), ("sandbox.timeout_ms", &patience), ("python.executable", &PYTHON)];
    for (name, value) in ours.iter().chain(options) {
        config.set(name, value).unwrap_or_else(|error| panic!("{error}"));
    }
    config
}

/// A library in memory.
pub fn open(options: &[(&str, &str)]) -> Library {
    open_at(":memory:", options)
}

pub fn open_at(path: &str, options: &[(&str, &str)]) -> Library {
    Library::open(path, &config(options)).unwrap_or_else(|error| panic!("{error}"))
}

pub fn put(library: &Library, id: &str, code: &str, fields: &[(&str, &str)]) -> u32 {
    let mut skill = Skill::new(id, code);
    for (name, value) in fields {
        skill.set(name, value).unwrap_or_else(|error| panic!("{error}"));
    }
    library.put(&skill).unwrap_or_else(|error| panic!("{code}: {error}"))
}

pub fn run(library: &Library, id: &str, data: &str, options: &str) -> RunResult {
    let data = Data::parse(data).unwrap_or_else(|error| panic!("{data}: {error}"));
    let options = RunOptions::parse(options).unwrap_or_else(|error| panic!("{options}: {error}"));
    library.run(id, data, &options).unwrap_or_else(|error| panic!("{id}: {error}"))
}

/// What stands at a place such as `caches.execution.hits`.
pub fn at<'v>(value: &'v Value, path: &str) -> &'v Value {
    let found = path.split('.').try_fold(value, |value, name| value.get(name));
    found.unwrap_or_else(|| panic!("there is no {path} in {}", value.to_text()))
}

/// A count; all that are kept are below 2^63.
pub fn count(value: &Value, path: &str) -> i64 {
    at(value, path).as_i64().unwrap_or_else(|| panic!("{path} is no count: {:?}", at(value, path)))
}

pub fn number(value: &Value, path: &str) -> f64 {
    at(value, path).as_f64().unwrap_or_else(|| panic!("{path} is no number: {:?}", at(value, path)))
}

pub fn text<'v>(value: &'v Value, path: &str) -> &'v str {
    at(value, path).as_str().unwrap_or_else(|| panic!("{path} is no text: {:?}", at(value, path)))
}

pub fn stats(library: &Library) -> Value {
    library.stats().unwrap_or_else(|error| panic!("{error}"))
}

/// Comes back when it holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let given_up = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < given_up, "it did not come to this: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
