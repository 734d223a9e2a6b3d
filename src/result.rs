//! How a run ended, and why it did not succeed.

use std::sync::Arc;
use std::time::Duration;

use crate::call::RunOptions;
use crate::json::Value;
use crate::monitor::trace::{RunId, trace_id_of};
use crate::outcome::Outcome;
use crate::python::{Finding, SyntaxFault};
use crate::sandbox::{Capture, Ending, Exception, Level, Limits, Usage};
use crate::skill::{Schema, Violation};

/// How a run ended, with everything that came of it. Cheap to clone; what it holds never changes.
#[derive(Debug, Clone, PartialEq)]
pub struct RunResult {
    /// How it ended.
    pub outcome: Outcome,
    /// The skill.
    pub skill: Arc<str>,
    /// The version that ran.
    pub version: u32,
    /// Whether memory answered.
    pub is_cached: bool,
    /// The answer as canonical JSON, on success.
    pub value: Option<Arc<str>>,
    /// What it printed; on a hit, what it printed when it ran.
    pub stdout: Arc<Capture>,
    /// What it wrote to stderr, likewise.
    pub stderr: Arc<Capture>,
    /// Why it did not succeed.
    pub failure: Option<Arc<Failure>>,
    /// What the call took, from its start to its answer.
    pub duration: Duration,
    /// What the child used, measured by the host; nothing on a hit.
    pub usage: Usage,
    /// What confined it, on a hit when it ran; nothing if it was not executed.
    pub confinement: Option<Arc<Level>>,
    /// The caller's correlation id.
    pub trace: Option<Arc<str>>,
    /// What tells this run from all others; [`trace_id`](RunResult::trace_id) is how it is said.
    pub(crate) id: RunId,
}

/// An answer that is kept.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub value: Arc<str>,
    pub stdout: Arc<Capture>,
    pub stderr: Arc<Capture>,
    pub confinement: Option<Arc<Level>>,
}

impl Kept {
    /// What it takes in memory, but for what every entry of a cache takes: its text, itself, what it shares, and the words by which
    /// the allocator knows those.
    pub fn weight(&self) -> usize {
        const COUNTS: usize = 2 * size_of::<usize>();
        const ALLOCATION: usize = 2 * size_of::<usize>();
        const STREAM: usize = COUNTS + size_of::<Capture>() + 2 * ALLOCATION;
        size_of::<Kept>() + 2 * STREAM + self.value.len() + self.stdout.bytes.len() + self.stderr.bytes.len()
    }
}

/// Why a run did not succeed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Failure {
    /// The exception's class, or the outcome's name.
    pub kind: String,
    /// One sentence.
    pub message: String,
    /// The skill's own line, from 1.
    pub line: Option<u32>,
    /// The column, for syntax errors, from 1.
    pub column: Option<u32>,
    /// The whole traceback.
    pub traceback: String,
    /// Where in the data, for schema violations.
    pub path: Option<String>,
    /// Which rule.
    pub rule: Option<String>,
    /// Which signal, for crashes.
    pub signal: Option<&'static str>,
}

impl RunResult {
    /// Nothing has happened yet.
    pub(crate) fn blank(skill: Arc<str>, version: u32, options: &RunOptions) -> Self {
        RunResult {
            outcome: Outcome::NoResult,
            skill,
            version,
            is_cached: false,
            value: None,
            stdout: Arc::default(),
            stderr: Arc::default(),
            failure: None,
            duration: Duration::ZERO,
            usage: Usage::default(),
            confinement: None,
            trace: options.trace.as_deref().map(Arc::from),
            id: RunId::default(),
        }
    }

    /// A run that was cancelled before it began.
    pub(crate) fn cancelled(skill: &str, options: &RunOptions) -> Self {
        let failure = Failure::plain("cancelled", "the run was cancelled before it began");
        let blank = RunResult::blank(Arc::from(skill), options.version, options);
        RunResult { id: RunId::of_none(), ..blank.failed(Outcome::Cancelled, failure) }
    }

    pub(crate) fn answered_from(self, kept: Kept) -> Self {
        let Kept { value, stdout, stderr, confinement } = kept;
        let value = Some(value);
        RunResult { outcome: Outcome::Success, is_cached: true, value, stdout, stderr, confinement, ..self }
    }

    pub(crate) fn failed(self, outcome: Outcome, failure: Failure) -> Self {
        RunResult { outcome, failure: Some(Arc::new(failure)), ..self }
    }

    pub(crate) fn ended(self, ending: Ending, limits: &Limits, schema: Option<&Schema>) -> Self {
        let millis = limits.timeout.as_millis();
        let (outcome, failure) = match ending {
            Ending::Answer(text) => return self.answered(&text, schema),
            Ending::NoResult => {
                (Outcome::NoResult, Failure::plain("no_result", "the skill ended without setting `result`"))
            }
            Ending::NotJson(exception) => (Outcome::InvalidOutput, Failure::not_json(exception)),
            Ending::Exception(exception) => (outcome_of(&exception), Failure::of_exception(exception)),
            Ending::Refused(exception) => (Outcome::Rejected, Failure::of_fault(&fault_of(&exception))),
            Ending::OutOfMemory => {
                let message = format!("the run needed more than {} MiB of memory", limits.memory_bytes >> 20);
                (Outcome::MemoryLimit, Failure::plain("MemoryError", message))
            }
            Ending::Timeout { of_cpu: false } => {
                (Outcome::Timeout, Failure::plain("timeout", format!("the run took longer than {millis} ms")))
            }
            Ending::Timeout { of_cpu: true } => {
                let message = format!("the run used more than {} s of processor time", limits.cpu_s);
                (Outcome::Timeout, Failure::plain("timeout", message))
            }
            Ending::FolderTooLarge => {
                let message = format!("the run's files take more than {} MiB", limits.file_bytes >> 20);
                (Outcome::DiskLimit, Failure::plain("disk_limit", message))
            }
            Ending::AnswerTooLarge(bytes) => {
                let message = format!("the answer has {bytes} bytes; at most {} are allowed", limits.answer_bytes);
                (Outcome::OutputLimit, Failure::plain("output_limit", message))
            }
            Ending::Signal(signal) => (Outcome::Crashed, Failure::of_signal(signal)),
            Ending::Exit(status) => {
                let message = format!("the process ended with status {status} before it answered");
                (Outcome::Crashed, Failure::plain("crashed", message))
            }
            Ending::Broken(what) => (Outcome::Crashed, Failure::plain("crashed", format!("the run broke off: {what}"))),
            Ending::Checked { .. } => {
                (Outcome::Crashed, Failure::plain("crashed", "it sent the answer to another question"))
            }
            Ending::Cancelled => (Outcome::Cancelled, Failure::plain("cancelled", "the run was cancelled")),
        };
        self.failed(outcome, failure)
    }

    fn answered(self, text: &str, schema: Option<&Schema>) -> Self {
        let value = match Value::parse(text) {
            Ok(value) => value,
            Err(error) => {
                let violation = Violation { path: error.path, rule: "json".to_owned(), message: error.message };
                return self.failed(Outcome::InvalidOutput, Failure::of_violation("invalid_output", violation));
            }
        };
        if let Some(violation) = schema.and_then(|schema| schema.check(&value).err()) {
            return self.failed(Outcome::InvalidOutput, Failure::of_violation("invalid_output", violation));
        }
        RunResult { outcome: Outcome::Success, value: Some(Arc::from(value.to_text())), ..self }
    }

    /// Everything as one JSON value.
    pub fn to_value(&self) -> Value {
        let value = self.value.as_deref().and_then(|text| Value::parse(text).ok());
        let text = |capture: &Capture| Value::from(String::from_utf8_lossy(&capture.bytes).into_owned());
        Value::object([
            ("outcome", Value::from(self.outcome.name())),
            ("skill", Value::object([("id", Value::from(&*self.skill)), ("version", Value::from(self.version))])),
            ("cached", Value::from(self.is_cached)),
            ("value", value.unwrap_or(Value::Null)),
            ("stdout", text(&self.stdout)),
            ("stderr", text(&self.stderr)),
            ("stdout_truncated", Value::from(self.stdout.is_truncated)),
            ("stderr_truncated", Value::from(self.stderr.is_truncated)),
            ("duration_us", micros(self.duration)),
            ("usage", usage_value(&self.usage)),
            ("level", Value::from(self.level())),
            ("sandbox", self.confinement.as_ref().map_or(Value::Null, |level| level.to_value())),
            ("trace", Value::from(self.trace.as_deref())),
            ("trace_id", Value::from(self.trace_id())),
            ("error", self.failure.as_ref().map_or(Value::Null, |failure| failure.to_value())),
        ])
    }

    /// The trace id by which events and log lines name this run, 32 hexadecimal digits: that of the caller's `trace`, if it is a W3C
    /// `traceparent`, or else the run's own.
    pub fn trace_id(&self) -> String {
        self.trace_digits().map(char::from).iter().collect()
    }

    pub(crate) fn trace_digits(&self) -> [u8; 32] {
        let given = self.trace.as_deref().and_then(trace_id_of).and_then(|id| id.as_bytes().try_into().ok());
        given.unwrap_or_else(|| self.id.digits())
    }

    /// Whether the sandbox denied it something: the skill saw that and did not catch it, or was killed for a call that is not allowed.
    pub(crate) fn is_violation(&self) -> bool {
        self.outcome == Outcome::Denied || self.failure.as_ref().is_some_and(|failure| failure.signal == Some("SIGSYS"))
    }

    /// What confined it: `strict`, `partial`, `process-only`; `none` if it was not executed.
    pub fn level(&self) -> &'static str {
        self.confinement.as_ref().map_or(Level::NOT_RUN, |level| level.name)
    }
}

fn micros(duration: Duration) -> Value {
    Value::from(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}

fn usage_value(usage: &Usage) -> Value {
    let Usage { cpu, peak_memory, stdout_bytes, stderr_bytes, answer_bytes, folder_bytes } = *usage;
    Value::object([
        ("cpu_us", micros(cpu)),
        ("peak_memory_bytes", Value::from(peak_memory)),
        ("stdout_bytes", Value::from(stdout_bytes)),
        ("stderr_bytes", Value::from(stderr_bytes)),
        ("answer_bytes", Value::from(answer_bytes)),
        ("folder_bytes", Value::from(folder_bytes)),
    ])
}

/// Which outcome an uncaught exception is.
fn outcome_of(exception: &Exception) -> Outcome {
    match exception.errno {
        Some(libc::EPERM | libc::EACCES) => Outcome::Denied,
        Some(libc::ENOSPC | libc::EFBIG | libc::EDQUOT) => Outcome::DiskLimit,
        _ => Outcome::Error,
    }
}

impl Failure {
    pub(crate) fn plain(kind: &str, message: impl Into<String>) -> Self {
        Failure { kind: kind.to_owned(), message: message.into(), ..Failure::default() }
    }

    fn of_exception(exception: Exception) -> Self {
        let Exception { kind, message, line, column, traceback, .. } = exception;
        Failure { kind, message, line, column, traceback, ..Failure::default() }
    }

    fn not_json(exception: Exception) -> Self {
        let message = format!("`result` has no JSON form: {}", exception.message);
        Failure {
            message,
            path: Some("$".to_owned()),
            rule: Some("json".to_owned()),
            ..Failure::of_exception(exception)
        }
    }

    pub(crate) fn of_fault(fault: &SyntaxFault) -> Self {
        let SyntaxFault { message, line, column } = fault.clone();
        let kind = "SyntaxError".to_owned();
        Failure {
            kind,
            message,
            line: Some(line),
            column: Some(column),
            rule: Some("syntax".to_owned()),
            ..Failure::default()
        }
    }

    pub(crate) fn of_finding(finding: &Finding) -> Self {
        Failure {
            line: Some(finding.line),
            column: Some(finding.column),
            rule: Some(finding.rule.to_owned()),
            ..Failure::plain("SecurityValidationError", format!("{}. {}", finding.message, finding.advice()))
        }
    }

    pub(crate) fn of_violation(kind: &str, violation: Violation) -> Self {
        let Violation { path, rule, message } = violation;
        let message = format!("{path}: {message} (rule `{rule}`)");
        Failure { path: Some(path), rule: Some(rule), ..Failure::plain(kind, message) }
    }

    fn of_signal(signal: i32) -> Self {
        let name = signal_name(signal);
        Failure {
            signal: Some(name),
            ..Failure::plain("crashed", format!("the process was ended by {name} before it answered"))
        }
    }

    /// The traceback if there is one, the reason otherwise.
    pub fn text(&self) -> String {
        if !self.traceback.is_empty() {
            return self.traceback.clone();
        }
        match self.line {
            Some(line) => format!("{}: line {line}: {}", self.kind, self.message),
            None => format!("{}: {}", self.kind, self.message),
        }
    }

    /// `{"type", "message", ...}`; members that do not apply are absent.
    pub fn to_value(&self) -> Value {
        let mut members =
            vec![("type", Value::from(self.kind.as_str())), ("message", Value::from(self.message.as_str()))];
        members.extend(self.line.map(|line| ("line", Value::from(line))));
        members.extend(self.column.map(|column| ("column", Value::from(column))));
        if !self.traceback.is_empty() {
            members.push(("traceback", Value::from(self.traceback.as_str())));
        }
        members.extend(self.path.as_deref().map(|path| ("path", Value::from(path))));
        members.extend(self.rule.as_deref().map(|rule| ("rule", Value::from(rule))));
        members.extend(self.signal.map(|signal| ("signal", Value::from(signal))));
        Value::object(members)
    }
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGUSR1 => "SIGUSR1",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGUSR2 => "SIGUSR2",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGALRM => "SIGALRM",
        libc::SIGTERM => "SIGTERM",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        libc::SIGSYS => "SIGSYS",
        _ => "a signal without a name",
    }
}

/// What the interpreter's `compile()` said.
pub(crate) fn fault_of(exception: &Exception) -> SyntaxFault {
    let Exception { message, line, column, .. } = exception;
    SyntaxFault { message: message.clone(), line: line.unwrap_or(1).max(1), column: column.unwrap_or(1).max(1) }
}
