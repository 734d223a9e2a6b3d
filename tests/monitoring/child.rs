//! This program once more, as a process of its own: for what would disturb the other tests, or be disturbed by them.

use std::env;
use std::process::{Command, Output};

const PART: &str = "SKC_MONITORING_CHILD";

/// Starts the test that calls this again, by its own name, with a part to play.
pub fn of(module: &str, test: &str, part: &str) -> Command {
    let mut child = Command::new(env::current_exe().expect("this program has a path"));
    child.args(arguments(module, test)).env(PART, part);
    child
}

/// What makes this program run one test alone.
pub fn arguments(module: &str, test: &str) -> [String; 3] {
    let module = module.split_once("::").map_or("", |(_, module)| module);
    ["--exact".to_owned(), format!("{module}::{test}"), "--nocapture".to_owned()]
}

/// The part that this process has to play, if it is such a child.
pub fn part() -> Option<String> {
    env::var(PART).ok()
}

/// What a child said that has to come to a good end.
#[track_caller]
pub fn succeeds(output: &Output) -> String {
    let [said, complained] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    // It has run its test, and was not asked for one that is not there.
    let has_run = said.contains("1 passed");
    assert!(output.status.success() && has_run, "{}\n{said}\n{complained}", output.status);
    said
}
