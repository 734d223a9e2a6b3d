//! This program once more, as a process of its own: for what would disturb the other tests, or be disturbed by them.

use std::env;
use std::process::{Command, Output};

use crate::libraries;

const PART: &str = "SKC_MONITORING_CHILD";
/// The interpreter, which a child need not ask for again.
pub const PYTHON: &str = "SKC_MONITORING_PYTHON";

/// Starts the test that calls this again, by its own name, with a part to play.
pub fn of(module: &str, test: &str, part: &str) -> Command {
    let mut child = Command::new(env::current_exe().expect("this program has a path"));
    // The names of tests do not begin with that of their program.
    let module = module.split_once("::").map_or("", |(_, module)| module);
    child.args(["--exact", &format!("{module}::{test}"), "--nocapture"]);
    child.env(PART, part).env(PYTHON, &*libraries::PYTHON);
    child
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
