//! The sandbox room: one run in one child.
//!
//! [`Sandbox::run`] takes a [`Job`], starts a fresh interpreter in a session, environment and folder of its own, gives it
//! the job over a channel, and reports what came back. The child can say only what it says in its one frame; time,
//! signals, limits and usage in the [`Report`] are the host's own observations.
//!
//! What confines a child is `confine`'s; which of its layers this machine has is found out by `probe`, once. `run` is one run,
//! whose processes `launch` and `supervise` start and end, and which `channel` talks to. `filter` is the system calls, `folder`
//! the private folder on the host's disk, `memory` the peak, `tree` what an unconfined run left; `opening.py` and `bootstrap.py`
//! are the child's side.

mod channel;
mod confine;
mod filter;
mod folder;
mod interpreter;
mod launch;
mod memory;
pub mod policy;
mod probe;
mod run;
mod supervise;
mod tree;

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::Duration;

use once_cell::sync::OnceCell;

pub use channel::{CancelToken, Capture};
pub use interpreter::Interpreter;
pub use launch::with_signals_blocked;
pub use policy::{Level, Limits};

use channel::Stop;
use confine::{Layers, Tree};
use interpreter::Stamp;
use launch::Launcher;
use run::Run;

use crate::config::Config;
use crate::error::{Code, Error, Result};
use crate::json::Value;

/// The first thing in a child.
const OPENING: &str = include_str!("opening.py");
/// What runs in the child before and after the skill.
const BOOTSTRAP: &str = include_str!("bootstrap.py");

/// What a child is to do.
#[derive(Debug, Clone, Default)]
pub struct Job<'j> {
    /// The code to compile and run.
    pub code: &'j str,
    /// The skill's own source, when it differs: tracebacks show its lines.
    pub source: Option<&'j str>,
    /// Names bound before the code runs.
    pub globals: Vec<(&'j str, &'j Value)>,
    /// String constants in the code that are replaced by data.
    pub slots: Vec<(String, &'j Value)>,
    /// Only compile, and look for these packages.
    pub check: Option<&'j [String]>,
}

/// What a child said, or how it ended without saying anything.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending {
    /// `result`, as JSON text.
    Answer(String),
    /// The code ended without a `result`.
    NoResult,
    /// `result` has no JSON form.
    NotJson(Exception),
    /// An exception was not caught.
    Exception(Exception),
    /// The interpreter's `compile()` refuses the code.
    Refused(Exception),
    /// Memory ran out.
    OutOfMemory,
    /// A check went well but for these packages, which are not there.
    Checked {
        /// Their names.
        missing: Vec<String>,
    },
    /// Wall-clock (or processor) time ran out.
    Timeout {
        /// Whether it was processor time.
        of_cpu: bool,
    },
    /// The private folder holds more than its bound.
    FolderTooLarge,
    /// The answer has this many bytes, more than its bound.
    AnswerTooLarge(usize),
    /// A signal ended it.
    Signal(i32),
    /// It ended with this status without an answer.
    Exit(i32),
    /// It broke the protocol of the answer channel, or nobody knows how it ended.
    Broken(String),
    /// It was cancelled.
    Cancelled,
}

/// An exception as the child describes it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Exception {
    /// The name of its class.
    pub kind: String,
    /// Its text.
    pub message: String,
    /// The line of the skill, from 1.
    pub line: Option<u32>,
    /// The column, for syntax errors, from 1.
    pub column: Option<u32>,
    /// The `errno` of an `OSError`.
    pub errno: Option<i32>,
    /// The whole traceback.
    pub traceback: String,
}

/// A run, as the host saw it.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// How it ended.
    pub ending: Ending,
    /// Caught output.
    pub stdout: Capture,
    /// Caught error output.
    pub stderr: Capture,
    /// From the start of the child to its answer or end.
    pub duration: Duration,
    /// What it used.
    pub usage: Usage,
}

/// What a run used, measured by the host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time, interpreter included.
    pub cpu: Duration,
    /// The largest resident size, in bytes, interpreter included; 0 if it could not be read. Exact for a run that answered or
    /// was ended; for one that crashed, the largest of some samples.
    pub peak_memory: u64,
    /// Bytes that it wrote to stdout, kept or not.
    pub stdout_bytes: u64,
    /// Bytes that it wrote to stderr, kept or not.
    pub stderr_bytes: u64,
    /// Bytes of its answer as it was sent.
    pub answer_bytes: u64,
    /// Bytes that its private folder held at the end.
    pub folder_bytes: u64,
}

/// Starts children.
#[derive(Debug)]
pub struct Sandbox {
    executable: String,
    site_packages: String,
    is_strict: bool,
    /// Layers that the host leaves out.
    without: String,
    /// The bounds that the probe runs in.
    limits: Limits,
    interpreter: OnceCell<Interpreter>,
    tree: OnceCell<Tree>,
    found: OnceCell<Found>,
}

/// What the probe found, and the thread that makes use of it.
#[derive(Debug)]
struct Found {
    layers: Layers,
    level: Arc<Level>,
    launcher: Launcher,
}

impl Sandbox {
    /// Starts nothing: the interpreter is looked for, and the layers are tried, when they are first needed.
    pub fn new(config: &Config) -> Self {
        Sandbox {
            executable: config.python_executable.clone(),
            site_packages: config.python_site_packages.clone(),
            is_strict: config.sandbox_mode == "strict",
            without: config.sandbox_without.clone(),
            limits: Limits::of_checks(config),
            interpreter: OnceCell::new(),
            tree: OnceCell::new(),
            found: OnceCell::new(),
        }
    }

    /// What confines runs on this machine; found out once. [`Code::Sandbox`] if that is less than `strict` demands.
    pub fn level(&self) -> Result<&Arc<Level>> {
        self.found().map(|found| &found.level)
    }

    /// The same, if it was found out already.
    pub fn known_level(&self) -> Option<&Arc<Level>> {
        self.found.get().map(|found| &found.level)
    }

    fn found(&self) -> Result<&Found> {
        let found = self.found.get_or_try_init(|| probe::find(self, &self.limits))?;
        if self.is_strict {
            found.level.demand_all()?;
        }
        Ok(found)
    }

    /// The interpreter, found and asked once.
    pub fn interpreter(&self) -> Result<&Interpreter> {
        self.interpreter.get_or_try_init(|| Interpreter::find(&self.executable, &self.site_packages))
    }

    /// The interpreter, if it still is the one that was asked.
    pub fn probe_interpreter(&self) -> Result<&Interpreter> {
        let interpreter = self.interpreter()?;
        self.check_identity(interpreter).map(|()| interpreter)
    }

    fn tree(&self) -> Result<&Tree> {
        let interpreter = self.interpreter()?;
        Ok(self.tree.get_or_init(|| Tree::of(&interpreter.visible)))
    }

    /// Carries out a job. An error means that no child could be started.
    pub fn run(&self, job: &Job, limits: &Limits, cancel: Option<&CancelToken>) -> Result<Report> {
        let found = self.found()?;
        self.run_within(found.layers, &found.launcher, job, limits, cancel)
    }

    fn run_within(
        &self,
        layers: Layers,
        launcher: &Launcher,
        job: &Job,
        limits: &Limits,
        cancel: Option<&CancelToken>,
    ) -> Result<Report> {
        let interpreter = self.interpreter()?;
        let program = c_string(interpreter.executable.as_os_str().as_bytes())?;
        let mut arguments = vec![program.clone()];
        for argument in ["-I", "-S", "-E", "-B", "-u", "-X", "utf8", "-c", OPENING, &interpreter.version_text] {
            arguments.push(c_string(argument.as_bytes())?);
        }
        let job = [framed(&interpreter.bootstrap)?, framed(job.to_text(&interpreter.site_paths).as_bytes())?].concat();
        let run = Run {
            executable: &program,
            arguments: &arguments,
            environment: Vec::new(),
            has_packages: !interpreter.site_paths.is_empty(),
            limits: limits.of_resources(layers.threads),
            layers,
            sights: Some((&interpreter.visible, self.tree()?)),
            folder_bytes: limits.file_bytes,
            job: &job,
            timeout: limits.timeout,
            output_bytes: limits.output_bytes,
            answer_bytes: limits.answer_bytes,
            cancel,
        };
        let observed = run.carry_out(launcher)?;
        if matches!(observed.stop, Stop::Frame(STALE, _)) {
            self.check_identity(interpreter)?;
        }
        let hide = |text: &str| hide(text, interpreter, observed.folder.as_deref());
        let ending = observed.ending(limits, hide);
        Ok(Report {
            ending,
            stdout: observed.stdout,
            stderr: observed.stderr,
            duration: observed.duration,
            usage: observed.usage,
        })
    }

    /// Whether the interpreter still is the one that was asked; a skill can claim that it is not.
    fn check_identity(&self, known: &Interpreter) -> Result<()> {
        if known.stamp.is_some() && known.stamp == Stamp::of(&known.executable) {
            return Ok(());
        }
        let now = Interpreter::find(&self.executable, &self.site_packages)?;
        if now.identity == known.identity {
            return Ok(());
        }
        let message = format!(
            "{} is another interpreter than when this library was opened ({}, then {}); open it again",
            known.executable.display(),
            now.version_text,
            known.version_text
        );
        Err(Error::new(Code::Unsupported, message).path("python.executable"))
    }
}

/// The letter of a frame that says that the interpreter is not the one that was asked.
const STALE: u8 = b'V';

/// Replaces the host's paths in a message.
fn hide(text: &str, interpreter: &Interpreter, folder: Option<&str>) -> String {
    let hidden = interpreter.hidden.iter().map(|(path, shown)| (path.as_str(), *shown));
    hidden
        .chain(folder.map(|folder| (folder, "<folder>")))
        .fold(text.to_owned(), |text, (path, shown)| text.replace(path, shown))
}

impl Job<'_> {
    fn to_text(&self, site_paths: &[String]) -> String {
        let mut out = String::from("{");
        for (name, value) in [
            ("check", Value::from(self.check.is_some())),
            ("dependencies", Value::from(self.check.unwrap_or_default().to_vec())),
            ("path", Value::from(site_paths.to_vec())),
            ("code", Value::from(self.code)),
            ("source", Value::from(self.source)),
        ] {
            Value::from(name).write(&mut out);
            out.push(':');
            value.write(&mut out);
            out.push(',');
        }
        out.push_str("\"globals\":");
        write_members(self.globals.iter().map(|(name, value)| (*name, *value)), &mut out);
        out.push_str(",\"slots\":");
        write_members(self.slots.iter().map(|(marker, value)| (marker.as_str(), *value)), &mut out);
        out.push('}');
        out
    }
}

fn write_members<'v>(members: impl Iterator<Item = (&'v str, &'v Value)>, out: &mut String) {
    out.push('{');
    for (index, (name, value)) in members.enumerate() {
        out.push_str(if index > 0 { "," } else { "" });
        Value::from(name).write(out);
        out.push(':');
        value.write(out);
    }
    out.push('}');
}

fn framed(bytes: &[u8]) -> Result<Vec<u8>> {
    let length = u32::try_from(bytes.len()).map_err(|_| Error::invalid("the data of a run is larger than 4 GiB"))?;
    Ok([&length.to_be_bytes(), bytes].concat())
}

fn c_string(bytes: &[u8]) -> Result<CString> {
    CString::new(bytes).map_err(|_| Error::invalid("a NUL in the path of the interpreter"))
}

/// Reads what a child says of itself. The skill can forge it, and then harms its own run alone.
fn read_frame(kind: u8, payload: &[u8], hide: impl Fn(&str) -> String) -> Ending {
    let Ok(text) = std::str::from_utf8(payload) else {
        return Ending::Broken("it sent an answer that is not UTF-8".to_owned());
    };
    let report = || Value::parse(text).ok();
    let ending = match kind {
        b'S' => Some(Ending::Answer(text.to_owned())),
        b'N' => Some(Ending::NoResult),
        b'M' => Some(Ending::OutOfMemory),
        b'O' => report().map(|report| Ending::NotJson(Exception::read(&report, hide))),
        b'E' => report().map(|report| Ending::Exception(Exception::read(&report, hide))),
        b'X' => report().map(|report| Ending::Refused(Exception::read(&report, hide))),
        b'C' => report().map(|report| {
            let names = report.get("missing").and_then(Value::as_array).unwrap_or_default();
            Ending::Checked { missing: names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect() }
        }),
        _ => None,
    };
    ending.unwrap_or_else(|| Ending::Broken("it sent an answer that cannot be read".to_owned()))
}

impl Exception {
    fn read(report: &Value, hide: impl Fn(&str) -> String) -> Self {
        let text = |name: &str| report.get(name).and_then(Value::as_str).unwrap_or_default();
        let number = |name: &str| report.get(name).and_then(Value::as_i64);
        Exception {
            kind: text("type").to_owned(),
            message: hide(text("message")),
            line: number("line").and_then(|line| u32::try_from(line).ok()),
            column: number("column").and_then(|column| u32::try_from(column).ok()),
            errno: number("errno").and_then(|errno| i32::try_from(errno).ok()),
            traceback: hide(text("traceback")),
        }
    }
}
