//! The sandbox room: one run in one child.
//!
//! [`Sandbox::run`] takes a [`Job`], starts a fresh interpreter in a session, environment and folder of its own, gives it
//! the job over a channel, and reports what came back. The child can say only what it says in its one frame; time,
//! signals, limits and usage in the [`Report`] are the host's own observations.
//!
//! What confines a child is `confine`'s; which of its layers this machine has is found out by `probe`, once.

mod channel;
mod confine;
mod filter;
mod folder;
mod interpreter;
mod launch;
pub mod policy;
mod probe;
mod tree;

use std::ffi::{CStr, CString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use once_cell::sync::OnceCell;

pub use channel::{CancelToken, Capture};
pub use interpreter::Interpreter;
pub use launch::with_signals_blocked;
pub use policy::{Level, Limits};

use channel::{Conversation, Stop, Terms};
use confine::{Confinement, Layers, Tree, Visible};
use folder::PrivateFolder;
use launch::{Child, Command, Exit, LaunchError};

use crate::config::Config;
use crate::error::{Code, Error, Result};
use crate::json::Value;

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
    /// Processor time, interpreter included.
    pub cpu: Duration,
    /// The largest resident size, in bytes; 0 when it could not be read.
    pub peak_memory: u64,
}

/// Starts children.
#[derive(Debug)]
pub struct Sandbox {
    executable: String,
    site_packages: String,
    is_strict: bool,
    /// Layers that the host leaves out.
    without: String,
    /// The bounds a library's configuration sets, which the probe runs in.
    limits: Limits,
    interpreter: OnceCell<Interpreter>,
    tree: OnceCell<Tree>,
    found: OnceCell<(Layers, Arc<Level>)>,
}

impl Sandbox {
    /// Starts nothing: the interpreter is looked for, and the layers are tried, when they are first needed.
    pub fn new(config: &Config) -> Self {
        Sandbox {
            executable: config.python_executable.clone(),
            site_packages: config.python_site_packages.clone(),
            is_strict: config.sandbox_mode == "strict",
            without: config.sandbox_without.clone(),
            limits: Limits::of(config),
            interpreter: OnceCell::new(),
            tree: OnceCell::new(),
            found: OnceCell::new(),
        }
    }

    /// What confines runs on this machine; found out once. [`Code::Sandbox`] if that is less than `strict` demands.
    pub fn level(&self) -> Result<&Arc<Level>> {
        self.found().map(|(_, level)| level)
    }

    /// The same, if it was found out already.
    pub fn known_level(&self) -> Option<&Arc<Level>> {
        self.found.get().map(|(_, level)| level)
    }

    fn found(&self) -> Result<&(Layers, Arc<Level>)> {
        let found = self
            .found
            .get_or_try_init(|| probe::find(self, &self.limits).map(|(layers, level)| (layers, Arc::new(level))))?;
        if self.is_strict {
            found.1.demand_all()?;
        }
        Ok(found)
    }

    /// The interpreter, found and asked once.
    pub fn interpreter(&self) -> Result<&Interpreter> {
        self.interpreter.get_or_try_init(|| Interpreter::find(&self.executable, &self.site_packages))
    }

    /// Carries out a job. An error means that no child could be started.
    pub fn run(&self, job: &Job, limits: &Limits, cancel: Option<&CancelToken>) -> Result<Report> {
        self.run_within(self.found()?.0, job, limits, cancel)
    }

    fn run_within(&self, layers: Layers, job: &Job, limits: &Limits, cancel: Option<&CancelToken>) -> Result<Report> {
        let interpreter = self.interpreter()?;
        let tree = self.tree.get_or_init(|| Tree::of(&interpreter.visible));
        let program = c_string(interpreter.executable.as_os_str().as_bytes())?;
        let mut arguments = vec![program.clone()];
        for argument in ["-I", "-S", "-E", "-B", "-u", "-X", "utf8", "-c", BOOTSTRAP] {
            arguments.push(c_string(argument.as_bytes())?);
        }
        let job = frame(&job.to_text(&interpreter.site_paths))?;
        let launch = Launch {
            executable: &program,
            arguments: &arguments,
            environment: Vec::new(),
            has_packages: !interpreter.site_paths.is_empty(),
            limits: resource_limits(limits, layers),
            layers,
            sights: Some((&interpreter.visible, tree)),
            folder_bytes: limits.file_bytes,
            job: &job,
            timeout: limits.timeout,
            output_bytes: limits.output_bytes,
            answer_bytes: limits.answer_bytes,
            cancel,
        };
        let observed = launch.run()?;
        let hide = |text: &str| hide(text, interpreter, &observed.folder);
        Ok(Report {
            ending: observed.ending(limits, hide),
            stdout: observed.stdout,
            stderr: observed.stderr,
            duration: observed.duration,
            cpu: observed.cpu,
            peak_memory: observed.peak_memory,
        })
    }
}

/// Replaces the host's paths in a message.
fn hide(text: &str, interpreter: &Interpreter, folder: &str) -> String {
    let hidden = interpreter.hidden.iter().map(|(path, shown)| (path.as_str(), *shown));
    hidden.chain([(folder, "<folder>")]).fold(text.to_owned(), |text, (path, shown)| text.replace(path, shown))
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

fn frame(text: &str) -> Result<Vec<u8>> {
    let length = u32::try_from(text.len()).map_err(|_| Error::invalid("the data of a run is larger than 4 GiB"))?;
    Ok([&length.to_be_bytes(), text.as_bytes()].concat())
}

fn c_string(bytes: &[u8]) -> Result<CString> {
    CString::new(bytes).map_err(|_| Error::invalid("a NUL in the path of the interpreter"))
}

fn resource_limits(limits: &Limits, layers: Layers) -> Vec<(u32, u64, u64)> {
    let mut all = vec![
        (libc::RLIMIT_AS, limits.memory_bytes, limits.memory_bytes),
        // SIGXCPU at the soft limit; a run that ignores it is killed a second later.
        (libc::RLIMIT_CPU, limits.cpu_s, limits.cpu_s + 1),
        (libc::RLIMIT_FSIZE, limits.file_bytes, limits.file_bytes),
        (libc::RLIMIT_NOFILE, limits.open_files, limits.open_files),
        (libc::RLIMIT_CORE, 0, 0),
    ];
    if layers.user {
        // Counted for a user in a namespace, of which this run is the only one; elsewhere it would count the host's, too.
        all.push((libc::RLIMIT_NPROC, limits.threads, limits.threads));
    }
    all
}

/// One child, from start to reaping.
struct Launch<'l> {
    executable: &'l CStr,
    arguments: &'l [CString],
    /// Empty: the pinned environment of a run.
    environment: Vec<CString>,
    /// Whether packages can be imported, whose thread pools are then kept to one thread.
    has_packages: bool,
    limits: Vec<(u32, u64, u64)>,
    layers: Layers,
    /// What it sees; nothing for what is trusted, which the layers leave alone.
    sights: Option<(&'l Visible, &'l Tree)>,
    /// The bound of its private folder.
    folder_bytes: u64,
    job: &'l [u8],
    timeout: Duration,
    output_bytes: usize,
    answer_bytes: usize,
    cancel: Option<&'l CancelToken>,
}

/// What was observed of a child.
struct Observed {
    stop: Stop,
    exit: Exit,
    stdout: Capture,
    stderr: Capture,
    duration: Duration,
    cpu: Duration,
    peak_memory: u64,
    folder: String,
}

impl Launch<'_> {
    fn run(self) -> Result<Observed> {
        let folder = PrivateFolder::new()?;
        let place = c_string(folder.path().as_os_str().as_bytes())?;
        let mark = folder.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let home = if self.layers.namespaces { confine::FOLDER.to_bytes() } else { place.as_bytes() };
        let environment = self.environment_of_run(home, &mark)?;
        let confinement = self
            .sights
            .map(|(visible, tree)| Confinement::new(self.layers, visible, tree, &place, self.folder_bytes))
            .transpose()
            .map_err(|error| cannot_start("lay out its layers", &error))?;
        let (host, child_ends) = channel::open().map_err(|error| cannot_start("open its channels", &error))?;
        let null = std::fs::File::open("/dev/null").map_err(|error| cannot_start("open /dev/null", &error))?;
        let (stdout, stderr) = (child_ends.stdout.as_fd(), child_ends.stderr.as_fd());
        let started = Instant::now();
        let child = launch::spawn(&Command {
            executable: self.executable,
            arguments: self.arguments,
            environment: &environment,
            folder: &place,
            descriptors: [Some(null.as_fd()), Some(stdout), Some(stderr), Some(child_ends.channel.as_fd())],
            limits: &self.limits,
            confinement: confinement.as_ref(),
        });
        let child = child
            .map_err(|LaunchError { stage, errno }| cannot_start(stage, &std::io::Error::from_raw_os_error(errno)))?;
        drop(child_ends);
        let mut conversation = Conversation::new(host);
        let stop = conversation.run(
            child.pidfd(),
            &Terms {
                job: self.job,
                deadline: started + self.timeout,
                output_bytes: self.output_bytes,
                answer_bytes: self.answer_bytes,
                cancel: self.cancel,
                watched: (self.sights.is_some() && !self.layers.namespaces)
                    .then_some((folder.path(), self.folder_bytes)),
            },
        );
        let duration = started.elapsed();
        let peak_memory = peak_memory(&child);
        tree::end(&child, &mark);
        let (exit, usage) = child.reap();
        tree::end_stragglers(&child, &mark);
        let (stdout, stderr) = conversation.finish(self.output_bytes);
        let folder = folder.path().to_string_lossy().into_owned();
        Ok(Observed { stop, exit, stdout, stderr, duration, cpu: usage.cpu, peak_memory, folder })
    }

    /// The pinned environment: nothing of the host's.
    fn environment_of_run(&self, home: &[u8], mark: &str) -> Result<Vec<CString>> {
        if !self.environment.is_empty() {
            return Ok(self.environment.clone());
        }
        let mark_name = format!("{}=", tree::MARK);
        let pinned: [(&[u8], &[u8]); 7] = [
            (b"PATH=", b"/usr/bin:/bin"),
            (b"LANG=", b"C.UTF-8"),
            (b"LC_ALL=", b"C.UTF-8"),
            (b"TZ=", b"UTC"),
            (b"HOME=", home),
            (b"TMPDIR=", home),
            (mark_name.as_bytes(), mark.as_bytes()),
        ];
        let packages = if self.has_packages { ONE_THREAD } else { &[] };
        pinned.iter().chain(packages).map(|(name, value)| c_string(&[*name, *value].concat())).collect()
    }
}

/// One thread each for what NumPy and its kin are built on: more would take their stacks out of the run's memory.
const ONE_THREAD: &[(&[u8], &[u8])] = &[
    (b"OMP_NUM_THREADS=", b"1"),
    (b"OPENBLAS_NUM_THREADS=", b"1"),
    (b"MKL_NUM_THREADS=", b"1"),
    (b"NUMEXPR_NUM_THREADS=", b"1"),
];

fn cannot_start(stage: &str, error: &std::io::Error) -> Error {
    let code = match error.raw_os_error() {
        Some(libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE) => Code::Busy,
        _ => Code::Sandbox,
    };
    Error::new(code, format!("no child could be started: it could not {stage}: {error}"))
}

/// The high-water mark of the resident set, while there is a process to read it of. (The kernel's `ru_maxrss` is of no
/// use: a child made by CLONE_VM begins with the host's.)
fn peak_memory(child: &Child) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.pid.as_raw_nonzero())).unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

impl Observed {
    /// Precedence: cancelled, timeout, limits the host saw, crashed, protocol error, then the child's frame.
    fn ending(&self, limits: &Limits, hide: impl Fn(&str) -> String) -> Ending {
        let cpu_is_used_up = self.cpu >= Duration::from_secs(limits.cpu_s);
        match (&self.stop, self.exit) {
            (Stop::Cancelled, _) => Ending::Cancelled,
            (Stop::Deadline, _) => Ending::Timeout { of_cpu: false },
            (Stop::FolderTooLarge, _) => Ending::FolderTooLarge,
            (Stop::TooLarge(bytes), _) => Ending::AnswerTooLarge(*bytes),
            (Stop::Protocol(what), _) => Ending::Broken(format!("it sent {what} on its answer channel")),
            (Stop::Frame(kind, payload), _) => read_frame(*kind, payload, hide),
            (Stop::Ended, Exit::Signal(libc::SIGXCPU)) => Ending::Timeout { of_cpu: true },
            (Stop::Ended, Exit::Signal(libc::SIGKILL)) if cpu_is_used_up => Ending::Timeout { of_cpu: true },
            (Stop::Ended, Exit::Signal(signal)) => Ending::Signal(signal),
            (Stop::Ended, Exit::Status(status)) => Ending::Exit(status),
            (Stop::Ended, Exit::Unknown) => Ending::Broken("its exit status was taken by the host process".to_owned()),
        }
    }
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
