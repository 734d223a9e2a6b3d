//! One run, from key to kept result.
//!
//! The road: record -> prepared skill -> data -> key -> result cache -> inputs checked -> bound -> sandbox -> output
//! checked -> kept. Everything before the sandbox costs microseconds; a hit ends the road early.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use once_cell::sync::OnceCell;

use crate::cache::key::{self, Digest, RunFields};
use crate::cache::{Cache, UtilizationAlert};
use crate::call::{CacheMode, Data, RunOptions};
use crate::config::Config;
use crate::error::{Code, Error, Result, nearest};
use crate::json::Value;
use crate::monitor::Monitor;
use crate::monitor::event::Severity;
use crate::outcome::Outcome;
use crate::python::{self, Analysis, Binding, Finding, Names, Policy, SyntaxFault, Template, analyse};
use crate::result::{Failure, Kept, RunResult, fault_of};
use crate::sandbox::{CancelToken, Ending, Job, Limits, Report, Sandbox};
use crate::skill::{Outline, Schema, Skill};
use crate::store::{Revision, Store};

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
    level_is_reported: AtomicBool,
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
            sandbox: Sandbox::new(config),
            store: Store::open(path, config)?,
            monitor: Monitor::new(config.monitor_enabled, config.monitor_event_capacity)?,
            results: Cache::new(results.0, results.1, results.2),
            prepared: Cache::new(prepared.0, prepared.1, prepared.2),
            records: Cache::new(records.0, records.1, records.2),
            runs: ActiveRuns::default(),
            level_is_reported: AtomicBool::new(false),
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
        let report = self.run_confined(&job, &Limits::of(&self.config), None)?;
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
        let blank = RunResult::blank(record.skill.id(), record.revision.version, options);
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
        let report = self.run_confined(&job, &limits, Some(&run.token))?;
        let result = RunResult {
            stdout: Arc::new(report.stdout),
            stderr: Arc::new(report.stderr),
            cpu: report.cpu,
            peak_memory: report.peak_memory,
            confinement: self.sandbox.level().ok().cloned(),
            ..blank
        };
        Ok(result.ended(report.ending, &limits, record.output_schema.as_ref()))
    }

    /// Carries out a job; the first time, says what confines it.
    fn run_confined(&self, job: &Job, limits: &Limits, cancel: Option<&CancelToken>) -> Result<Report> {
        let level = self.sandbox.level()?;
        if !self.level_is_reported.swap(true, Ordering::Relaxed) {
            let (severity, lacks) = match level.missing.is_empty() {
                true => (Severity::Info, String::new()),
                false => (Severity::Warning, format!("; not guaranteed: {}", level.missing.join(", "))),
            };
            let message = format!("runs are confined at the level `{}`{lacks}", level.name);
            let fields = vec![
                ("mode", Value::from(self.config.sandbox_mode.as_str())),
                ("level", Value::from(level.name)),
                ("layers", Value::from(level.layers.clone())),
                ("missing", Value::from(level.missing.clone())),
            ];
            self.monitor.event("sandbox_level", severity, &message, fields);
        }
        self.sandbox.run(job, limits, cancel)
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
        let (stdout, stderr) = (result.stdout.clone(), result.stderr.clone());
        let kept = Kept { value: value.clone(), stdout, stderr, confinement: result.confinement.clone() };
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
        let report = self.run_confined(&job, &Limits::of(&self.config), None)?;
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

fn is_package_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c)) && !name.starts_with('.')
}

fn without_bom(code: &str) -> &str {
    code.strip_prefix('\u{feff}').unwrap_or(code)
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
