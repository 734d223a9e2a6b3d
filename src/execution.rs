//! One run, from key to kept result.
//!
//! The road: record -> prepared skill -> data -> key -> result cache -> inputs checked -> bound -> sandbox -> output
//! checked -> kept. Everything before the sandbox costs microseconds; a hit ends the road early.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use once_cell::sync::OnceCell;

use crate::cache::key::{self, Digest, RunFields};
use crate::cache::{Cache, UtilizationAlert};
use crate::config::Config;
use crate::error::{Code, Error, Result, nearest};
use crate::json::Value;
use crate::monitor::Monitor;
use crate::monitor::event::Severity;
use crate::outcome::Outcome;
use crate::python::{self, Analysis, Binding, Finding, Names, Policy, SyntaxFault, Template, analyse};
use crate::sandbox::policy::LEVEL;
use crate::sandbox::{CancelToken, Capture, Ending, Exception, Job, Limits, Sandbox};
use crate::skill::{Outline, Schema, Skill, Violation};
use crate::store::{Revision, Store};

/// Whether a run may be answered from memory, and whether its answer is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheMode {
    /// Both, if the skill can be seen to be deterministic.
    Auto,
    /// Both.
    Yes,
    /// Neither.
    No,
    /// Only kept.
    Refresh,
    /// Both, and a success that cannot be kept is an error ([`Code::CacheOverflow`]).
    Required,
}

/// What one call asks for beyond the skill's own settings.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunOptions {
    /// The version; 0 is the newest.
    pub version: u32,
    /// Instead of the skill's own choice.
    pub cache: Option<CacheMode>,
    /// How long the result may be handed out.
    pub ttl: Option<Duration>,
    /// Wall-clock time.
    pub timeout: Option<Duration>,
    /// Address space in MiB.
    pub max_memory_mb: Option<u64>,
    /// The caller's correlation id; comes back in the result and in events.
    pub trace: Option<String>,
    /// How many runs of `run_many` go on at the same time; nothing for the number of processors.
    pub concurrency: Option<usize>,
}

/// A run's data. A name that is not passed keeps the skill's own default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Data {
    /// An object.
    pub inputs: Option<Value>,
    /// An object.
    pub context: Option<Value>,
}

/// A script that stands alone: a source with data written into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// The source.
    pub code: String,
    /// How the places for the data were found.
    pub method: Method,
}

/// How the places for the data were found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// By parsing.
    Ast,
    /// By tokens alone: the source does not parse (`inject.fallback = lexical`).
    Lexical,
}

impl Method {
    /// `ast` or `lexical`.
    pub fn name(self) -> &'static str {
        match self {
            Method::Ast => "ast",
            Method::Lexical => "lexical",
        }
    }
}

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
    /// Processor time of the child; 0 on a hit.
    pub cpu: Duration,
    /// The child's largest resident size in bytes; 0 on a hit and where it could not be read.
    pub peak_memory: u64,
    /// The caller's correlation id.
    pub trace: Option<Arc<str>>,
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

/// A stored skill, ready to be used.
#[derive(Debug)]
pub(crate) struct Record {
    pub skill: Skill,
    pub revision: Revision,
    code: Digest,
    input_schema: Option<Schema>,
    output_schema: Option<Schema>,
    output_schema_text: String,
}

/// A source that was looked at once.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub analysis: std::result::Result<Analysis, SyntaxFault>,
    /// What the interpreter's `compile()` says; asked for when needed.
    verdict: OnceCell<std::result::Result<(), SyntaxFault>>,
}

/// An answer that is kept.
#[derive(Debug, Clone)]
struct Kept {
    value: Arc<str>,
    stdout: Arc<Capture>,
    stderr: Arc<Capture>,
}

/// The rooms, and the road through them. Shared freely between threads.
#[derive(Debug)]
pub(crate) struct Execution {
    pub config: Config,
    /// The host's changes to the rules; nothing if the policy is off.
    policy: Option<Policy>,
    /// What tells the rules from others.
    rules: String,
    pub store: Store,
    pub sandbox: Sandbox,
    pub monitor: Monitor,
    results: Cache<Digest, Kept>,
    prepared: Cache<Digest, Arc<Prepared>>,
    records: Cache<Revision, Arc<Record>>,
    runs: ActiveRuns,
}

impl Execution {
    pub fn new(path: &str, config: &Config) -> Result<Self> {
        let cache = |entries: u64, ttl_s: u64| (entries, Duration::from_secs(ttl_s), config.cache_alert_threshold);
        let if_on = |on: bool, entries: u64| if on { entries } else { 0 };
        let results = cache(
            if_on(config.cache_execution_enabled, config.cache_execution_max_entries),
            config.cache_execution_ttl_s,
        );
        let prepared =
            cache(if_on(config.cache_prepared_enabled, config.cache_prepared_max_entries), config.cache_prepared_ttl_s);
        let records = cache(config.cache_metadata_max_entries, config.cache_metadata_ttl_s);
        let policy = (config.policy_mode != "off")
            .then(|| Policy::new(&config.policy_allow_imports, &config.policy_deny_imports));
        Ok(Execution {
            rules: policy.as_ref().map(Policy::identity).unwrap_or_default(),
            policy,
            sandbox: Sandbox::new(config)?,
            store: Store::open(path, config)?,
            monitor: Monitor::new(config.monitor_enabled, config.monitor_event_capacity)?,
            results: Cache::new(results.0, results.1, results.2),
            prepared: Cache::new(prepared.0, prepared.1, prepared.2),
            records: Cache::new(records.0, records.1, records.2),
            runs: ActiveRuns::default(),
            config: config.clone(),
        })
    }

    /// Checks a draft as far as it takes an interpreter, and stores it.
    pub fn put(&self, draft: &Skill) -> Result<u32> {
        draft.check()?;
        let code = key::of_code(&draft.code);
        let prepared = self.prepared(&code, &draft.code);
        let analysis = prepared.analysis.as_ref().map_err(|fault| syntax_error(fault, &draft.code))?;
        if let Some(finding) = self.refusal(analysis) {
            return Err(security_error(finding, &analysis.findings));
        }
        self.verify(&prepared, &draft.code, &draft.string_list("dependencies"))?;
        let outline = Outline { symbols: analysis.symbols.to_value(), words: analysis.symbols.words() };
        let put = self.store.put(draft, &outline)?;
        if put.is_new {
            self.report_put(draft.id(), put.version, &analysis.findings);
        }
        Ok(put.version)
    }

    fn report_put(&self, id: &str, version: u32, findings: &[Finding]) {
        let skill = || vec![("skill", Value::from(id)), ("version", Value::from(version))];
        let message = format!("skill `{id}` has version {version}");
        self.monitor.event("skill_put", Severity::Info, &message, skill());
        if let Some(first) = findings.first() {
            let list = Value::Array(findings.iter().map(Finding::to_value).collect());
            let message = format!("skill `{id}` version {version}: line {}: {}", first.line, first.message);
            let fields = skill().into_iter().chain([("findings", list)]).collect();
            self.monitor.event("policy_findings", Severity::Warning, &message, fields);
        }
    }

    /// The finding that refuses a source, if the policy is enforced.
    pub fn refusal<'a>(&self, analysis: &'a Analysis) -> Option<&'a Finding> {
        analysis.refusal().filter(|_| self.config.policy_mode == "enforce")
    }

    /// The source with data written into its slots, and how the slots were found.
    pub fn inject(&self, code: &str, data: &Data) -> Result<Script> {
        let bindings = [data.inputs.as_ref(), data.context.as_ref(), None];
        let prepared = self.prepared(&key::of_code(code), code);
        match &prepared.analysis {
            Ok(analysis) => Ok(Script { code: analysis.template.inject(bindings), method: Method::Ast }),
            Err(fault) if self.config.inject_fallback == "lexical" => lexical(code, fault, bindings),
            Err(fault) => Err(syntax_error(fault, code)),
        }
    }

    /// Asks the interpreter whether it compiles the code and has the packages.
    fn verify(&self, prepared: &Prepared, code: &str, packages: &[String]) -> Result<()> {
        if let Some(name) = packages.iter().find(|name| !is_package_name(name)) {
            let message =
                format!("dependency `{name}` is not the bare name of a package (letters, digits, `_`, `-`, `.`)");
            return Err(Error::validation(message).path("dependencies"));
        }
        let known = prepared.verdict.get();
        let missing = match known {
            Some(_) if packages.is_empty() => Vec::new(),
            _ => self.ask_interpreter(prepared, code, packages)?,
        };
        match prepared.verdict.get() {
            Some(Err(fault)) => Err(syntax_error(fault, code)),
            _ if missing.is_empty() => Ok(()),
            _ => {
                let names = missing.join(", ");
                let hint =
                    if self.config.python_site_packages == "off" { " (python.site_packages is off)" } else { "" };
                let message = format!("packages are not there: {names}{hint}");
                Err(Error::validation(message).path("dependencies").missing(missing))
            }
        }
    }

    fn ask_interpreter(&self, prepared: &Prepared, code: &str, packages: &[String]) -> Result<Vec<String>> {
        let job = Job { code: without_bom(code), check: Some(packages), ..Job::default() };
        let report = self.sandbox.run(&job, &Limits::of(&self.config), None)?;
        let (verdict, missing) = match report.ending {
            Ending::Checked { missing } => (Ok(()), missing),
            Ending::Refused(exception) => (Err(fault_of(&exception)), Vec::new()),
            Ending::OutOfMemory => {
                let message = "the interpreter runs out of memory compiling this".to_owned();
                (Err(SyntaxFault { message, line: 1, column: 1 }), Vec::new())
            }
            other => {
                let message = format!("the interpreter could not check the code: {other:?}");
                return Err(Error::new(Code::Sandbox, message));
            }
        };
        let _ = prepared.verdict.set(verdict);
        Ok(missing)
    }

    /// What is known of a source; looked at once while it is kept.
    pub fn prepared(&self, hash: &Digest, code: &str) -> Arc<Prepared> {
        let now = Instant::now();
        let key = key::of_verdict(hash, &self.rules);
        if let Some(prepared) = self.prepared.get(&key, now) {
            return prepared;
        }
        let analysis = analyse(code, self.policy.as_ref());
        let prepared = Arc::new(Prepared { analysis, verdict: OnceCell::new() });
        // Tree and ranges are gone by now; the source is what weighs.
        self.alert("prepared", self.prepared.put(key, prepared.clone(), code.len(), None, now));
        prepared
    }

    fn record(&self, id: &str, version: u32) -> Result<Arc<Record>> {
        let revision = self.store.revision(id, version)?;
        let now = Instant::now();
        if let Some(record) = self.records.get(&revision, now) {
            return Ok(record);
        }
        let skill = self.store.read(revision)?;
        let schema = skill.field("output_schema");
        let record = Arc::new(Record {
            code: key::of_code(&skill.code),
            input_schema: Schema::compile("input_schema", &skill.field("input_schema"))?,
            output_schema: Schema::compile("output_schema", &schema)?,
            output_schema_text: schema.to_text(),
            revision,
            skill,
        });
        self.alert("metadata", self.records.put(revision, record.clone(), record.skill.code.len(), None, now));
        Ok(record)
    }

    /// Runs a skill. An error means that it could not be run at all.
    pub fn run(
        &self,
        id: &str,
        data: Data,
        options: &RunOptions,
        cancel: Option<&Arc<CancelToken>>,
    ) -> Result<RunResult> {
        let started = Instant::now();
        crate::skill::check_id(id)?;
        let record = self.record(id, options.version)?;
        let mut result = self.answer(&record, data, options, cancel)?;
        result.duration = started.elapsed();
        self.monitor.count_run(result.outcome, result.is_cached, result.duration);
        self.store.count_use(id, result.outcome == Outcome::Success)?;
        if let Some(failure) = &result.failure {
            self.report_failure(&result, failure);
        }
        Ok(result)
    }

    fn answer(
        &self,
        record: &Record,
        data: Data,
        options: &RunOptions,
        cancel: Option<&Arc<CancelToken>>,
    ) -> Result<RunResult> {
        let skill = &record.skill;
        let blank = RunResult::blank(record, options);
        if skill.field("is_active") == Value::Bool(false) {
            return Ok(blank.failed(Outcome::Rejected, Failure::plain("rejected", "the skill is not active")));
        }
        let prepared = self.prepared(&record.code, &skill.code);
        let analysis = match &prepared.analysis {
            Ok(analysis) => analysis,
            Err(fault) => return Ok(blank.failed(Outcome::Rejected, Failure::of_fault(fault))),
        };
        if let Some(finding) = self.refusal(analysis) {
            return Ok(blank.failed(Outcome::Rejected, Failure::of_finding(finding)));
        }
        let bound = Bound::new(skill, analysis, data);
        let mode = self.mode(skill, analysis, options);
        let key = mode.keeps().then(|| self.key(record, &bound)).transpose()?;
        if let Some(kept) = key.filter(|_| mode.reads()).and_then(|key| self.results.get(&key, Instant::now())) {
            return Ok(blank.answered_from(kept));
        }
        if let Some(violation) =
            record.input_schema.as_ref().and_then(|schema| schema.check(bound.effective_inputs()).err())
        {
            return Ok(blank.failed(Outcome::InvalidInput, Failure::of_violation("invalid_input", violation)));
        }
        let result = self.execute(record, analysis, &bound, options, cancel, blank)?;
        if let (Some(key), Some(value)) = (key, &result.value) {
            self.keep(key, value, &result, skill, options, mode)?;
        }
        Ok(result)
    }

    fn mode(&self, skill: &Skill, analysis: &Analysis, options: &RunOptions) -> Mode {
        let own = CacheMode::named(&skill.text_field("cache")).unwrap_or(CacheMode::Auto);
        match options.cache.unwrap_or(own) {
            CacheMode::Auto if analysis.determinism.is_deterministic() => Mode::Judged,
            CacheMode::Auto | CacheMode::No => Mode::Neither,
            CacheMode::Yes => Mode::Both,
            CacheMode::Refresh => Mode::KeepOnly,
            CacheMode::Required => Mode::Required,
        }
    }

    fn key(&self, record: &Record, bound: &Bound) -> Result<Digest> {
        let [inputs, context, parameters] = bound.canonical();
        Ok(key::of_run(&RunFields {
            id: record.skill.id(),
            code: &record.code,
            parameters: parameters.as_deref(),
            output_schema: &record.output_schema_text,
            inputs: inputs.as_deref(),
            context: context.as_deref(),
            interpreter: &self.sandbox.interpreter()?.identity,
        }))
    }

    fn execute(
        &self,
        record: &Record,
        analysis: &Analysis,
        bound: &Bound,
        options: &RunOptions,
        cancel: Option<&Arc<CancelToken>>,
        blank: RunResult,
    ) -> Result<RunResult> {
        let limits = self.limits(&record.skill, options)?;
        let run = self.runs.begin(cancel)?;
        let prepared = analysis.template.prepare(bound.fills_slot);
        let mut job = bound.job(analysis);
        job.code = without_bom(&prepared);
        job.source = (prepared != record.skill.code).then_some(&record.skill.code);
        let report = self.sandbox.run(&job, &limits, Some(&run.token))?;
        let result = RunResult {
            stdout: Arc::new(report.stdout),
            stderr: Arc::new(report.stderr),
            cpu: report.cpu,
            peak_memory: report.peak_memory,
            ..blank
        };
        Ok(result.ended(report.ending, &limits, record.output_schema.as_ref()))
    }

    fn limits(&self, skill: &Skill, options: &RunOptions) -> Result<Limits> {
        let mut limits = Limits::of(&self.config);
        if let Some(timeout_ms) = skill.limit("timeout_ms") {
            limits.timeout = Duration::from_millis(timeout_ms);
        }
        limits.timeout = options.timeout.unwrap_or(limits.timeout);
        if let Some(mib) = options.max_memory_mb.or(skill.limit("max_memory_mb")) {
            limits.memory_bytes = mib << 20;
        }
        Ok(limits)
    }

    fn keep(
        &self,
        key: Digest,
        value: &Arc<str>,
        result: &RunResult,
        skill: &Skill,
        options: &RunOptions,
        mode: Mode,
    ) -> Result<()> {
        let shown = || [value.as_bytes(), &result.stdout.bytes, &result.stderr.bytes];
        if mode == Mode::Judged && shown().into_iter().any(python::shows_address) {
            return Ok(());
        }
        // What the map itself takes for an entry, roughly.
        const OVERHEAD: usize = 96;
        let bytes = value.len() + result.stdout.bytes.len() + result.stderr.bytes.len() + OVERHEAD;
        let own = skill.field("ttl_s").as_i64().and_then(|s| u64::try_from(s).ok()).map(Duration::from_secs);
        let ttl = options.ttl.or(own);
        let stats = self.results.stats();
        if mode == Mode::Required && (stats.max_size == 0 || ttl.unwrap_or(stats.ttl).is_zero()) {
            let message = "the result cannot be kept (the cache has no room or no time to live), and cache = required";
            return Err(Error::new(Code::CacheOverflow, message));
        }
        let kept = Kept { value: value.clone(), stdout: result.stdout.clone(), stderr: result.stderr.clone() };
        self.alert("execution", self.results.put(key, kept, bytes, ttl, Instant::now()));
        Ok(())
    }

    fn alert(&self, cache: &str, alert: Option<UtilizationAlert>) {
        let Some(alert) = alert else { return };
        let fields = vec![
            ("cache", Value::from(cache)),
            ("size", Value::from(alert.size)),
            ("max_size", Value::from(alert.max_size)),
            ("threshold", Value::from(alert.threshold)),
        ];
        self.monitor.event("cache_utilization", Severity::Warning, &alert.message(), fields);
    }

    fn report_failure(&self, result: &RunResult, failure: &Failure) {
        let name = result.outcome.name();
        let message =
            format!("skill `{}` version {} ended as {name}: {}", result.skill, result.version, failure.message);
        let fields = vec![
            ("skill", Value::from(&*result.skill)),
            ("version", Value::from(result.version)),
            ("outcome", Value::from(name)),
            ("trace", Value::from(result.trace.as_deref())),
        ];
        self.monitor.event("run_failed", Severity::Warning, &message, fields);
    }

    /// Ends every run that is going on and refuses new ones; comes back when none is left.
    pub fn shut_down(&self) {
        self.runs.cancel_all_and_wait();
    }

    /// Starts a child that has nothing to do.
    pub fn probe_sandbox(&self) -> Result<()> {
        let job = Job { code: "", check: Some(&[]), ..Job::default() };
        let report = self.sandbox.run(&job, &Limits::of(&self.config), None)?;
        match report.ending {
            Ending::Checked { .. } => Ok(()),
            other => Err(Error::new(Code::Sandbox, format!("a child with nothing to do ended as {other:?}"))),
        }
    }

    /// The three caches by name.
    pub fn cache_stats(&self) -> [(&'static str, crate::cache::CacheStats); 3] {
        [("execution", self.results.stats()), ("prepared", self.prepared.stats()), ("metadata", self.records.stats())]
    }

    /// Empties a cache by name, or `all`.
    pub fn clear(&self, which: &str) -> Result<()> {
        let known = ["execution", "prepared", "metadata", "all"];
        if !known.contains(&which) {
            let meant = nearest(which, known);
            let message = format!("there is no cache `{which}`; there are {}", known.join(", "));
            return Err(Error::invalid(message).suggestion(meant));
        }
        let is_meant = |name: &str| which == name || which == "all";
        if is_meant("execution") {
            self.results.clear();
        }
        if is_meant("prepared") {
            self.prepared.clear();
        }
        if is_meant("metadata") {
            self.records.clear();
        }
        Ok(())
    }

    /// Drops what is expired in all caches.
    pub fn evict_expired(&self) -> u64 {
        let now = Instant::now();
        self.results.evict_expired(now) + self.prepared.evict_expired(now) + self.records.evict_expired(now)
    }

    /// What the interpreter says of a source, if the parser has no objection.
    pub fn interpreter_verdict(&self, prepared: &Prepared, code: &str) -> Result<std::result::Result<(), SyntaxFault>> {
        match self.verify(prepared, code, &[]) {
            Err(error) if error.code() != Code::Syntax => Err(error),
            _ => Ok(prepared.verdict.get().cloned().unwrap_or(Ok(()))),
        }
    }
}

/// How a run uses the result cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Both,
    /// Both, but an answer that gives its skill away as not deterministic is not kept.
    Judged,
    Neither,
    KeepOnly,
    Required,
}

impl Mode {
    fn reads(self) -> bool {
        matches!(self, Mode::Both | Mode::Judged | Mode::Required)
    }

    fn keeps(self) -> bool {
        self != Mode::Neither
    }
}

impl CacheMode {
    /// The mode of that name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "auto" => Some(CacheMode::Auto),
            "yes" => Some(CacheMode::Yes),
            "no" => Some(CacheMode::No),
            "refresh" => Some(CacheMode::Refresh),
            "required" => Some(CacheMode::Required),
            _ => None,
        }
    }
}

fn is_package_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c)) && !name.starts_with('.')
}

fn without_bom(code: &str) -> &str {
    code.strip_prefix('\u{feff}').unwrap_or(code)
}

fn fault_of(exception: &Exception) -> SyntaxFault {
    let Exception { message, line, column, .. } = exception;
    SyntaxFault { message: message.clone(), line: line.unwrap_or(1).max(1), column: column.unwrap_or(1).max(1) }
}

pub(crate) fn syntax_error(fault: &SyntaxFault, code: &str) -> Error {
    let SyntaxFault { message, line, column } = fault;
    let shown = python::shown(python::line(code, *line), *column);
    let shown = if shown.is_empty() { String::new() } else { format!(", in `{shown}`") };
    Error::new(Code::Syntax, format!("line {line}, column {column}: {message}{shown}"))
        .at(*line, *column)
        .rule("syntax")
}

fn security_error(finding: &Finding, all: &[Finding]) -> Error {
    let Finding { rule, line, column, message, .. } = finding;
    let more = match all.len() - 1 {
        0 => String::new(),
        1 => "; one more finding".to_owned(),
        more => format!("; {more} more findings"),
    };
    let advice = finding.advice();
    Error::new(Code::Security, format!("line {line}, column {column}: {message} (rule `{rule}`{more}). {advice}"))
        .at(*line, *column)
        .rule(*rule)
        .findings(all.iter().map(Finding::to_value).collect())
}

/// Fills a source that does not parse; refuses it with the parser's reason if a name with data has no slot.
fn lexical(code: &str, fault: &SyntaxFault, data: [Binding; 3]) -> Result<Script> {
    let template = Template::parse_lexically(code).map_err(|fault| syntax_error(&fault, code))?;
    let places = Names::ALL.iter().zip(template.slots()).zip(data);
    let missing: Vec<&str> =
        places.filter(|((_, slot), value)| slot.is_none() && value.is_some()).map(|((name, _), _)| *name).collect();
    if missing.is_empty() {
        return Ok(Script { code: template.inject(data), method: Method::Lexical });
    }
    let error = syntax_error(fault, code);
    let names = missing.join("`, `");
    let message = format!(
        "{}; and no complete top-level statement `NAME = {{...}}` was found for `{names}` that could be filled without parsing",
        error.message()
    );
    Err(Error::new(Code::Syntax, message).at(fault.line, fault.column).rule("syntax").missing(missing))
}

/// A run's data, bound to the skill's names.
struct Bound {
    /// In the order of [`Names::ALL`]; nothing where the source's own default holds.
    data: [Option<Value>; 3],
    fills_slot: [bool; 3],
}

impl Bound {
    fn new(skill: &Skill, analysis: &Analysis, data: Data) -> Self {
        let parameters = Some(skill.field("parameters")).filter(|value| *value != Value::Null);
        let sorts = skill.text_field("key_order") == "ignore";
        let slots = analysis.template.slots();
        let mut bound = [data.inputs, data.context, parameters];
        for (value, slot) in bound.iter_mut().zip(slots) {
            if slot.is_none() {
                value.get_or_insert_with(|| Value::Object(Vec::new()));
            }
            if let Some(value) = value.as_mut().filter(|_| sorts) {
                value.sort_members();
            }
        }
        let fills_slot = std::array::from_fn(|index| slots[index].is_some() && bound[index].is_some());
        Bound { data: bound, fills_slot }
    }

    fn canonical(&self) -> [Option<String>; 3] {
        self.data.each_ref().map(|value| value.as_ref().map(Value::to_text))
    }

    /// What the input schema sees: the inputs, or no members if the source's own default holds.
    fn effective_inputs(&self) -> &Value {
        const NONE: &Value = &Value::Object(Vec::new());
        self.data[0].as_ref().unwrap_or(NONE)
    }

    fn job<'b>(&'b self, analysis: &Analysis) -> Job<'b> {
        let mut job = Job::default();
        for (index, value) in self.data.iter().enumerate() {
            match value {
                Some(value) if self.fills_slot[index] => job.slots.push((analysis.template.marker(index), value)),
                Some(value) => job.globals.push((Names::ALL[index], value)),
                None => {}
            }
        }
        job
    }
}

impl RunResult {
    fn blank(record: &Record, options: &RunOptions) -> Self {
        RunResult {
            outcome: Outcome::NoResult,
            skill: Arc::from(record.skill.id()),
            version: record.revision.version,
            is_cached: false,
            value: None,
            stdout: Arc::default(),
            stderr: Arc::default(),
            failure: None,
            duration: Duration::ZERO,
            cpu: Duration::ZERO,
            peak_memory: 0,
            trace: options.trace.as_deref().map(Arc::from),
        }
    }

    /// A run that was cancelled before it began.
    pub(crate) fn cancelled(skill: &str, options: &RunOptions) -> Self {
        RunResult {
            outcome: Outcome::Cancelled,
            skill: Arc::from(skill),
            version: options.version,
            is_cached: false,
            value: None,
            stdout: Arc::default(),
            stderr: Arc::default(),
            failure: Some(Arc::new(Failure::plain("cancelled", "the run was cancelled before it began"))),
            duration: Duration::ZERO,
            cpu: Duration::ZERO,
            peak_memory: 0,
            trace: options.trace.as_deref().map(Arc::from),
        }
    }

    fn answered_from(self, kept: Kept) -> Self {
        let Kept { value, stdout, stderr } = kept;
        RunResult { outcome: Outcome::Success, is_cached: true, value: Some(value), stdout, stderr, ..self }
    }

    fn failed(self, outcome: Outcome, failure: Failure) -> Self {
        RunResult { outcome, failure: Some(Arc::new(failure)), ..self }
    }

    fn ended(self, ending: Ending, limits: &Limits, schema: Option<&Schema>) -> Self {
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
        let micros = |duration: Duration| Value::from(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
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
            (
                "usage",
                Value::object([("cpu_us", micros(self.cpu)), ("peak_memory_bytes", Value::from(self.peak_memory))]),
            ),
            ("level", Value::from(self.level())),
            ("trace", Value::from(self.trace.as_deref())),
            ("error", self.failure.as_ref().map_or(Value::Null, |failure| failure.to_value())),
        ])
    }

    /// What confined it.
    pub fn level(&self) -> &'static str {
        LEVEL
    }
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
    fn plain(kind: &str, message: impl Into<String>) -> Self {
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

    fn of_fault(fault: &SyntaxFault) -> Self {
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

    fn of_finding(finding: &Finding) -> Self {
        Failure {
            line: Some(finding.line),
            column: Some(finding.column),
            rule: Some(finding.rule.to_owned()),
            ..Failure::plain("SecurityValidationError", format!("{}. {}", finding.message, finding.advice()))
        }
    }

    fn of_violation(kind: &str, violation: Violation) -> Self {
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

impl Data {
    /// Reads `{"inputs": {...}, "context": {...}}`, both optional. An empty text is no data.
    pub fn parse(text: &str) -> Result<Self> {
        if text.trim().is_empty() {
            return Ok(Data::default());
        }
        let value = Value::parse(text).map_err(|error| not_json("the data", error))?;
        Data::read(value, "$")
    }

    pub(crate) fn read(value: Value, path: &str) -> Result<Self> {
        let shape = "the data of a run is {\"inputs\": {...}, \"context\": {...}}, both optional";
        let Value::Object(members) = value else {
            return Err(Error::invalid(format!("{path}: {shape}; this is {}", value.kind())).path(path));
        };
        let mut data = Data::default();
        for (name, value) in members {
            let place = format!("{path}.{name}");
            let slot = match name.as_str() {
                "inputs" => &mut data.inputs,
                "context" => &mut data.context,
                _ => return Err(Error::invalid(format!("{place}: {shape}; there is no member `{name}`")).path(place)),
            };
            if !matches!(value, Value::Object(_)) {
                let message = format!("{place}: `{name}` must be an object, not {}", value.kind());
                return Err(Error::invalid(message).path(place));
            }
            *slot = Some(value);
        }
        Ok(data)
    }
}

/// An error about a text that is not the JSON we take.
pub(crate) fn not_json(what: &str, error: crate::json::ParseError) -> Error {
    let crate::json::ParseError { message, path, line, column } = error;
    Error::invalid(format!("{what} cannot be read as JSON: {message}, at {path} (line {line}, column {column})"))
        .path(path)
        .at(line, column)
}

impl RunOptions {
    /// Reads the JSON of the door. An empty text is no options.
    pub fn parse(text: &str) -> Result<Self> {
        let mut options = RunOptions::default();
        if text.trim().is_empty() {
            return Ok(options);
        }
        let value = Value::parse(text).map_err(|error| not_json("the options", error))?;
        let members = value.as_object().ok_or_else(|| Error::invalid("the options of a run are a JSON object"))?;
        for (name, value) in members {
            options.set(name, value)?;
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &Value) -> Result<()> {
        let number = |min: i64, max: i64| {
            let number = value.as_i64().filter(|number| (min..=max).contains(number));
            let number = number.and_then(|number| u64::try_from(number).ok());
            number.ok_or_else(|| bad_option(name, &format!("a whole number from {min} to {max}"), value))
        };
        match name {
            _ if *value == Value::Null => {}
            "version" => self.version = u32::try_from(number(0, i64::from(u32::MAX))?).unwrap_or(u32::MAX),
            "cache" => {
                let mode = value.as_str().and_then(CacheMode::named);
                self.cache =
                    Some(mode.ok_or_else(|| bad_option(name, "one of: auto, yes, no, refresh, required", value))?);
            }
            "ttl_s" => {
                let seconds = value.as_f64().filter(|seconds| (0.0..=315_360_000.0).contains(seconds));
                let seconds =
                    seconds.ok_or_else(|| bad_option(name, "a number of seconds from 0 to 315360000", value))?;
                self.ttl = Some(Duration::from_secs_f64(seconds));
            }
            "timeout_ms" => self.timeout = Some(Duration::from_millis(number(1, 86_400_000)?)),
            "max_memory_mb" => self.max_memory_mb = Some(number(32, 1_048_576)?),
            "concurrency" => self.concurrency = usize::try_from(number(1, 1024)?).ok(),
            "trace" => {
                let trace = value.as_str().filter(|trace| trace.len() <= 256);
                self.trace =
                    Some(trace.ok_or_else(|| bad_option(name, "text of at most 256 bytes", value))?.to_owned());
            }
            _ => {
                let known = ["version", "cache", "ttl_s", "timeout_ms", "max_memory_mb", "concurrency", "trace"];
                let meant = nearest(name, known);
                let hint = meant.map_or_else(String::new, |meant| format!("; did you mean `{meant}`?"));
                return Err(Error::invalid(format!("a run has no option `{name}`{hint}")).path(name).suggestion(meant));
            }
        }
        Ok(())
    }
}

fn bad_option(name: &str, takes: &str, value: &Value) -> Error {
    let shown = value.to_text();
    let shown = if shown.len() <= 60 { shown } else { value.kind().to_owned() };
    Error::invalid(format!("the option `{name}` cannot be {shown}: it takes {takes}")).path(name).rule("range")
}

/// The runs that are going on, so that closing can end them.
#[derive(Debug, Default)]
struct ActiveRuns {
    tokens: Mutex<HashMap<u64, Arc<CancelToken>>>,
    ended: std::sync::Condvar,
    is_shut: std::sync::atomic::AtomicBool,
    next: AtomicU64,
}

struct ActiveRun<'r> {
    runs: &'r ActiveRuns,
    number: u64,
    token: Arc<CancelToken>,
}

impl ActiveRuns {
    fn begin(&self, token: Option<&Arc<CancelToken>>) -> Result<ActiveRun<'_>> {
        let token = match token {
            Some(token) => token.clone(),
            None => Arc::new(
                CancelToken::new()
                    .map_err(|error| Error::new(Code::Busy, format!("no descriptor for a run: {error}")))?,
            ),
        };
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut tokens = self.lock();
        // Under the lock: either `cancel_all_and_wait` sees this run or this run sees that it is too late.
        if self.is_shut.load(Ordering::Relaxed) {
            token.cancel();
        }
        tokens.insert(number, token.clone());
        Ok(ActiveRun { runs: self, number, token })
    }

    fn cancel_all_and_wait(&self) {
        let mut tokens = self.lock();
        self.is_shut.store(true, Ordering::Relaxed);
        tokens.values().for_each(|token| token.cancel());
        while !tokens.is_empty() {
            tokens = self.ended.wait(tokens).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<CancelToken>>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ActiveRun<'_> {
    fn drop(&mut self) {
        self.runs.lock().remove(&self.number);
        self.runs.ended.notify_all();
    }
}
