//! A Python that answers one line of JSON with another.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use skillcache::json::Value;

/// A running program; it ends with its owner.
pub struct PythonChild {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl PythonChild {
    pub fn start(python: impl AsRef<OsStr>, program: &str) -> Self {
        let mut child = Command::new(python)
            .args(["-I", "-X", "utf8", program])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a Python is there: the library itself needs one");
        let questions = child.stdin.take().expect("it was asked for");
        let answers = BufReader::new(child.stdout.take().expect("it was asked for"));
        PythonChild { child, questions, answers }
    }

    /// Its answer; nothing if the question was its death.
    pub fn ask(&mut self, question: &Value) -> Option<Value> {
        let mut answer = String::new();
        let is_sent = writeln!(self.questions, "{}", question.to_text()).and_then(|()| self.questions.flush());
        let is_read = is_sent.and_then(|()| self.answers.read_line(&mut answer));
        if is_read.unwrap_or(0) == 0 {
            return None;
        }
        Some(Value::parse(answer.trim_end()).unwrap_or_else(|error| panic!("{error:?}: {answer}")))
    }
}

impl Drop for PythonChild {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
