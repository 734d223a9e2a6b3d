//! The rooms, and the road through them: from a draft to a stored skill, from a call to a kept result.
//!
//! `run.rs` is the road of one run, `report.rs` what is told of it. `record.rs` holds what is known of skills, `data.rs` what a call passes to one, `active.rs` the
//! runs that are going on, `outlive.rs` results that outlive the process, `script.rs` sources that stand alone, `probe.rs` whether
//! the rooms work.

mod active;
mod caches;
mod data;
mod outlive;
mod probe;
mod record;
mod report;
mod run;
mod script;

use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use crate::cache::Cache;
use crate::cache::clock::Clock;
use crate::cache::flight::Flights;
use crate::cache::key::{self, QuickHash};
use crate::cache::spelling::Spellings;
use crate::call::Data;
use crate::config::Config;
use crate::error::{Code, Error, Result};
use crate::json::Value;
use crate::monitor::event::Severity;
use crate::monitor::log::LogLevel;
use crate::monitor::{self, Monitor};
use crate::python::{self, Analysis, Finding, Policy, SyntaxFault};
use crate::result::{Kept, fault_of};
use crate::sandbox::{Ending, Job, Limits, Sandbox};
use crate::skill::{Outline, Skill};
use crate::store::{Health, Store};

use active::ActiveRuns;
use record::{Prepared, Record};

pub(crate) use data::Given;
pub use script::{Method, Script};

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
    pub monitor: Arc<Monitor>,
    clock: Clock,
    results: Cache<Kept>,
    /// Keys of results by the text of the data; their bytes are part of the results'.
    spellings: Spellings,
    flights: Flights<Kept>,
    prepared: Cache<Arc<Prepared>>,
    records: Cache<Arc<Record>>,
    /// What records are found by.
    names: QuickHash,
    runs: ActiveRuns,
    level_report: Once,
    /// Which clearing of the kept answers was seen last; nothing before the database was first asked.
    epoch: Mutex<Option<i64>>,
}

impl Execution {
    pub fn new(path: &str, config: &Config, has_log: bool) -> Result<Self> {
        let policy = (config.policy_mode != "off")
            .then(|| Policy::new(&config.policy_allow_imports, &config.policy_deny_imports));
        let monitor = Arc::new(Monitor::new(&monitoring(config, has_log))?);
        Ok(Execution {
            rules: policy.as_ref().map(Policy::identity).unwrap_or_default(),
            policy,
            sandbox: Sandbox::new(config),
            store: Store::open(path, config, &monitor)?,
            monitor,
            clock: Clock::default(),
            results: Cache::new(&caches::results(config)),
            spellings: caches::spellings(config),
            flights: Flights::default(),
            prepared: Cache::new(&caches::prepared(config)),
            records: Cache::new(&caches::records(config)),
            names: QuickHash::default(),
            runs: ActiveRuns::default(),
            level_report: Once::new(),
            epoch: Mutex::default(),
            config: config.clone(),
        })
    }

    /// Has the file checked in the background, and damage told as an event. The caller sees to it that new threads get no signals.
    pub fn watch_store(self: &Arc<Self>) -> Result<()> {
        let execution = Arc::downgrade(self);
        let alarm = move |health: &Health| {
            if let (Some(execution), Some(message)) = (execution.upgrade(), health.damage()) {
                let fields = match health.to_value() {
                    Value::Object(members) => members,
                    _ => Vec::new(),
                };
                let fields = fields.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
                execution.monitor.event("store_damaged", Severity::Error, &message, fields);
            }
        };
        self.store.watch(self.config.store_check_on_open, None, Arc::new(alarm))
    }

    /// Checks a draft as far as it takes an interpreter, and stores it.
    pub fn put(&self, draft: &Skill) -> Result<u32> {
        self.store.check_writable()?;
        let (outline, findings) = self.examine(draft)?;
        let put = self.store.put(draft, &outline)?;
        if put.is_new {
            self.flights.make_void(Some(&self.names.of(0, draft.id())));
            self.report_put(draft.id(), put.version, &findings);
        }
        Ok(put.version)
    }

    /// Checks a draft as far as that goes without storing it: all but its required skills and the version it is to follow.
    pub fn check(&self, draft: &Skill) -> Result<()> {
        self.examine(draft).map(|_| ())
    }

    fn examine(&self, draft: &Skill) -> Result<(Outline, Vec<Finding>)> {
        draft.check()?;
        let code = key::of_code(&draft.code);
        let prepared = self.prepared(&code, &draft.code);
        let analysis = prepared.analysis.as_ref().map_err(|fault| syntax_error(fault, &draft.code))?;
        if let Some(finding) = self.refusal(analysis) {
            return Err(security_error(finding, &analysis.findings));
        }
        self.verify(&prepared, &draft.code, &draft.string_list("dependencies"))?;
        let outline = Outline { symbols: analysis.symbols.to_value(), words: analysis.symbols.words() };
        Ok((outline, analysis.findings.clone()))
    }

    /// Hides a skill and all its versions.
    pub fn remove(&self, id: &str) -> Result<()> {
        self.store.remove(id)?;
        self.flights.make_void(Some(&self.names.of(0, id)));
        let fields = vec![("skill", Value::from(id))];
        self.monitor.event("skill_removed", Severity::Info, &format!("skill `{id}` was removed"), fields);
        Ok(())
    }

    /// Sets what a skill may be.
    pub fn set_state(&self, id: &str, state: &str) -> Result<()> {
        self.store.set_state(id, state)?;
        // Who waits for a run of it sees what it is now.
        self.flights.make_void(Some(&self.names.of(0, id)));
        let fields = vec![("skill", Value::from(id)), ("state", Value::from(state))];
        self.monitor.event("skill_state", Severity::Info, &format!("skill `{id}` is {state} now"), fields);
        Ok(())
    }

    fn report_put(&self, id: &str, version: u32, findings: &[Finding]) {
        let skill = || vec![("skill", Value::from(id)), ("version", Value::from(version))];
        let message = format!("skill `{id}` has version {version}");
        self.monitor.event("skill_put", Severity::Info, &message, skill());
        if let Some(first) = findings.first() {
            // Without the line itself: it is cut to a width, and half a secret does not look like one.
            let list = Value::Array(
                findings.iter().map(|finding| Finding { text: String::new(), ..finding.clone() }.to_value()).collect(),
            );
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
            Err(fault) if self.config.inject_fallback == "lexical" => script::lexical(code, fault, bindings),
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
        let report = self.run_confined(&job, &Limits::of_checks(&self.config), None)?;
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

    /// Ends every run that is going on and refuses new ones; comes back when none is left.
    pub fn shut_down(&self) {
        self.runs.cancel_all_and_wait();
    }

    /// What the interpreter says of a source, if the parser has no objection.
    pub fn interpreter_verdict(&self, prepared: &Prepared, code: &str) -> Result<std::result::Result<(), SyntaxFault>> {
        match self.verify(prepared, code, &[]) {
            Err(error) if error.code() != Code::Syntax => Err(error),
            _ => Ok(prepared.verdict.get().cloned().unwrap_or(Ok(()))),
        }
    }
}

/// What the monitor is to be.
fn monitoring(config: &Config, has_log: bool) -> monitor::Settings {
    let unless_0 = |number: u64, duration: fn(u64) -> Duration| (number > 0).then(|| duration(number));
    monitor::Settings {
        is_enabled: config.monitor_enabled,
        capacity: config.monitor_event_capacity,
        alert_interval: Duration::from_secs(config.monitor_alert_interval_s),
        slow_after: unless_0(config.monitor_slow_run_ms, Duration::from_millis),
        log_level: LogLevel::named(&config.monitor_log_level).filter(|_| has_log),
        history_interval: unless_0(config.monitor_history_interval_s, Duration::from_secs),
        memory_threshold: config.memory_alert_threshold,
        memory_interval: Duration::from_secs(config.memory_alert_interval_s),
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
