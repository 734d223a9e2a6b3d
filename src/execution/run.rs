//! The road of one run.
//!
//! Record -> profile -> key -> result cache: a hit ends here, and its data was never read into values. Else -> flight (one of those
//! who want the same now does the work) -> data read, bound, checked -> sandbox -> output checked -> kept.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cache::flight::{Lead, Turn, Waited};
use crate::cache::key::{self, Digest};
use crate::cache::{Put, Refusal};
use crate::call::{CacheMode, RunOptions};
use crate::error::{Code, Error, Result};
use crate::json::Value;
use crate::monitor::event::Severity;
use crate::outcome::Outcome;
use crate::python;
use crate::result::{Failure, Kept, RunResult};
use crate::sandbox::{CancelToken, Job, Level, Limits, Report};

use crate::store::Verdict;

use super::active::ActiveRun;
use super::data::{BoundData, Given};
use super::record::{Profile, Record};
use super::{Execution, without_bom};

/// One call on its way.
struct Call<'c> {
    record: &'c Record,
    profile: &'c Profile,
    given: &'c Given<'c>,
    options: &'c RunOptions,
    mode: Mode,
    /// What its key begins with.
    prefix: Digest,
    /// The call's own time to live, or the skill's.
    ttl: Option<Duration>,
    started: Instant,
    blank: RunResult,
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
    fn of(profile: &Profile, options: &RunOptions) -> Self {
        match options.cache.unwrap_or(profile.cache) {
            CacheMode::Auto if profile.is_deterministic => Mode::Judged,
            CacheMode::Auto | CacheMode::No => Mode::Neither,
            CacheMode::Yes => Mode::Both,
            CacheMode::Refresh => Mode::KeepOnly,
            CacheMode::Required => Mode::Required,
        }
    }

    fn reads(self) -> bool {
        matches!(self, Mode::Both | Mode::Judged | Mode::Required)
    }
}

impl Execution {
    /// Runs a skill. An error means that it could not be run at all.
    pub fn run(
        &self,
        id: &str,
        given: &Given,
        options: &RunOptions,
        cancel: Option<&Arc<CancelToken>>,
    ) -> Result<RunResult> {
        let started = Instant::now();
        let result = self.carry_out(id, given, options, cancel, started);
        let mut result = result.inspect_err(|_| self.monitor.count_refusal())?;
        result.duration = started.elapsed();
        let is_slow = self.count(&mut result);
        if result.failure.is_some() || is_slow {
            self.report(&result, is_slow);
        }
        self.say(&result);
        // Last: that a skill is set aside is told after what it is set aside for.
        self.store.count_use(&result.skill, result.version, result.outcome, verdict(&result, options));
        Ok(result)
    }

    fn carry_out(
        &self,
        id: &str,
        given: &Given,
        options: &RunOptions,
        cancel: Option<&Arc<CancelToken>>,
        started: Instant,
    ) -> Result<RunResult> {
        crate::skill::check_id(id)?;
        loop {
            // A flight that was made void is begun again with the record as it is then.
            if let Some(result) = self.answer(id, given, options, cancel, started)? {
                return Ok(result);
            }
        }
    }

    /// The result; nothing if the skill was changed while it was waited for.
    fn answer(
        &self,
        id: &str,
        given: &Given,
        options: &RunOptions,
        cancel: Option<&Arc<CancelToken>>,
        started: Instant,
    ) -> Result<Option<RunResult>> {
        // What is wrong with the call is said before what is wrong with the skill.
        let record = self.record(id, options.version).or_else(|error| given.members().and(Err(error)))?;
        let blank = RunResult::blank(record.id.clone(), record.revision.version, options);
        if let Some(failure) = record.set_aside() {
            given.members()?;
            return Ok(Some(blank.failed(Outcome::Rejected, failure)));
        }
        let profile = match self.profile(&record)? {
            Ok(profile) => profile,
            Err(failure) => {
                given.members()?;
                return Ok(Some(blank.failed(Outcome::Rejected, failure)));
            }
        };
        let (mode, ttl) = (Mode::of(profile, options), options.ttl.or(profile.ttl));
        let limits = options.limits.visible();
        let prefix = if limits.is_empty() { profile.prefix } else { key::with_limits(&profile.prefix, &limits) };
        let call = Call { record: &record, profile, given, options, mode, prefix, ttl, started, blank };
        if mode == Mode::Neither || !self.can_keep(&call)? {
            let run = self.runs.begin(cancel);
            return self.execute(&call, &run).map(Some);
        }
        let now = self.clock.now();
        let spelled = match given {
            Given::Text(text) => self.spellings.find(&prefix, text, now),
            Given::Read(_) => None,
        };
        let key = spelled.map_or_else(|| given.key(profile, &prefix), Ok)?;
        let kept = if mode.reads() { self.results.get(&key, now) } else { None };
        if spelled.is_none() && kept.is_some() {
            self.learn_spelling(&call, key);
        }
        match kept {
            Some(kept) => Ok(Some(call.blank.answered_from(kept))),
            None => self.fly(&call, key, cancel),
        }
    }

    fn learn_spelling(&self, call: &Call, key: Digest) {
        if let Given::Text(text) = call.given {
            self.spellings.learn(&call.prefix, text, key, self.clock.now());
        }
    }

    /// Whether a result could be kept at all.
    fn can_keep(&self, call: &Call) -> Result<bool> {
        let can_keep = self.results.can_keep(call.ttl);
        if can_keep || call.mode != Mode::Required {
            return Ok(can_keep);
        }
        let message = "the result cannot be kept (the cache has no room or no time to live), and cache = required";
        Err(Error::new(Code::CacheOverflow, message))
    }

    /// Leads the flight of a key, or waits for what it brings.
    fn fly(&self, call: &Call, key: Digest, cancel: Option<&Arc<CancelToken>>) -> Result<Option<RunResult>> {
        let run = self.runs.begin(cancel);
        let skill = self.names.of(0, &call.record.id);
        if !call.mode.reads() {
            return self.lead(call, key, &run, self.flights.lead_alone(skill)).map(Some);
        }
        let wait = match self.flights.join(key, skill) {
            Turn::Lead(lead) => return self.lead(call, key, &run, lead).map(Some),
            Turn::Wait(wait) => wait,
        };
        let limits = self.limits(call);
        let blank = || call.blank.clone();
        let waited = {
            let _woken = run.token.call_when_cancelled(Box::new(wait.caller()));
            wait.wait(call.started.checked_add(limits.timeout), || run.token.is_cancelled())
        };
        Ok(Some(match waited {
            Waited::Landed(kept) => {
                let refusal = self.results.would_refuse(&key, kept.weight(), call.ttl);
                if let Some(refusal) = refusal.filter(|_| call.mode == Mode::Required) {
                    return Err(overflow(refusal));
                }
                blank().answered_from(kept)
            }
            Waited::Lead(lead) => self.lead(call, key, &run, lead)?,
            Waited::Alone => self.lead(call, key, &run, self.flights.lead_alone(skill))?,
            Waited::Void => return Ok(None),
            Waited::TimedOut => {
                let millis = limits.timeout.as_millis();
                let message =
                    format!("the run took longer than {millis} ms (it waited for an equal one that was going on)");
                blank().failed(Outcome::Timeout, Failure::plain("timeout", message))
            }
            Waited::Cancelled => {
                blank().failed(Outcome::Cancelled, Failure::plain("cancelled", "the run was cancelled"))
            }
        }))
    }

    /// Does the work for all who wait, and keeps its result.
    fn lead(&self, call: &Call, key: Digest, run: &ActiveRun, lead: Lead<Kept>) -> Result<RunResult> {
        // Somebody may have landed since the cache was asked.
        if call.mode.reads()
            && let Some(kept) = self.results.find(&key, self.clock.now())
        {
            lead.hand_on(kept.clone());
            return Ok(call.blank.clone().answered_from(kept));
        }
        let epoch = self.current_epoch();
        if call.mode.reads()
            && let Some((kept, left)) = self.outlived(&key, epoch)
        {
            let bytes = kept.weight();
            let put =
                lead.land(kept.clone(), || self.results.put(key, kept.clone(), bytes, Some(left), self.clock.now()));
            self.note_put(call, key, put)?;
            return Ok(call.blank.clone().answered_from(kept));
        }
        let result = self.execute(call, run)?;
        let Some(value) = &result.value else { return Ok(result) };
        let shown = [value.as_bytes(), &result.stdout.bytes, &result.stderr.bytes];
        if call.mode == Mode::Judged && shown.into_iter().any(python::shows_address) {
            lead.scatter();
            return Ok(result);
        }
        let (stdout, stderr) = (result.stdout.clone(), result.stderr.clone());
        let kept = Kept { value: value.clone(), stdout, stderr, confinement: result.confinement.clone() };
        let bytes = kept.weight();
        if !call.mode.reads() {
            // What was begun before this must not land after it.
            self.flights.make_void_of(&key);
        }
        // What memory does not keep is not kept at all.
        let is_refused = self.results.would_refuse(&key, bytes, call.ttl).is_some();
        let stored = if is_refused { None } else { self.for_the_store(&kept) };
        let put = lead.land(kept.clone(), || {
            self.let_outlive(&call.record.id, &key, stored, call.ttl, epoch);
            self.results.put(key, kept, bytes, call.ttl, self.clock.now())
        });
        self.note_put(call, key, put)?;
        Ok(result)
    }

    /// What follows from an answer's having been kept, or refused; nothing if it was void.
    fn note_put(&self, call: &Call, key: Digest, put: Option<Put<Kept>>) -> Result<()> {
        let Some(put) = put else { return Ok(()) };
        self.alert("execution", &put.alerts);
        match put.refusal {
            None => self.learn_spelling(call, key),
            Some(refusal) if call.mode == Mode::Required => return Err(overflow(refusal)),
            Some(_) => {}
        }
        Ok(())
    }

    fn limits(&self, call: &Call) -> Limits {
        let asked = call.options.limits.or(call.record.skill.limits());
        Limits::of(&asked.on_top_of(&self.config))
    }

    /// Checks the data and carries the run out.
    fn execute(&self, call: &Call, run: &ActiveRun) -> Result<RunResult> {
        let Call { record, profile, .. } = *call;
        let blank = call.blank.clone();
        let prepared = self.prepared(&record.code, &record.skill.code);
        let analysis = match &prepared.analysis {
            Ok(analysis) => analysis,
            Err(fault) => return Ok(blank.failed(Outcome::Rejected, Failure::of_fault(fault))),
        };
        let bound = BoundData::new(&record.skill, analysis, profile, call.given.members()?);
        let checked = record.input_schema.as_ref().map_or(Ok(()), |schema| schema.check(bound.effective_inputs()));
        if let Err(violation) = checked {
            return Ok(blank.failed(Outcome::InvalidInput, Failure::of_violation("invalid_input", violation)));
        }
        let limits = self.limits(call);
        run.token.arm().map_err(|error| Error::new(Code::Busy, format!("no descriptor for a run: {error}")))?;
        let code = analysis.template.prepare(bound.fills_slot);
        let mut job = bound.job(analysis);
        job.code = without_bom(&code);
        job.source = (code != record.skill.code).then_some(&record.skill.code);
        let report = self.run_confined(&job, &limits, Some(&run.token))?;
        let result = RunResult {
            stdout: Arc::new(report.stdout),
            stderr: Arc::new(report.stderr),
            usage: report.usage,
            confinement: self.sandbox.level().ok().cloned(),
            ..blank
        };
        Ok(result.ended(report.ending, &limits, record.output_schema.as_ref()))
    }

    /// Carries out a job; the first time, says what confines it.
    pub(super) fn run_confined(&self, job: &Job, limits: &Limits, cancel: Option<&CancelToken>) -> Result<Report> {
        let level = self.sandbox.level()?;
        // Whoever comes second waits: nothing is told of a run before this. A subscriber of the host's that panics is its own affair.
        self.level_report.call_once_force(|_| self.report_level(level));
        let report = self.sandbox.run(job, limits, cancel)?;
        self.monitor.count_child(report.usage.peak_memory);
        Ok(report)
    }

    fn report_level(&self, level: &Level) {
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
}

/// What a call says of its skill: nothing if it did not run, if it is not to blame, or if a limit of the caller's own may be.
fn verdict(result: &RunResult, options: &RunOptions) -> Verdict {
    let has_run = !result.is_cached && result.confinement.is_some();
    let limits = &options.limits;
    let is_excused = match result.outcome {
        Outcome::Timeout => limits.timeout_ms.is_some() || limits.max_cpu_s.is_some(),
        // What is short of memory, files or threads may end in any way.
        _ => !limits.visible().is_empty(),
    };
    match result.outcome {
        Outcome::Success if has_run => Verdict::Worked,
        outcome if has_run && outcome.blames_skill() && !is_excused => Verdict::Failed,
        _ => Verdict::Nothing,
    }
}

fn overflow(refusal: Refusal) -> Error {
    let why = match refusal {
        Refusal::KeepsNothing => "the cache keeps nothing".to_owned(),
        Refusal::TooLarge { bytes, most } => {
            format!(
                "it takes {bytes} bytes of the cache, and an entry may take {most} at most (cache.execution.max_mb)"
            )
        }
    };
    Error::new(Code::CacheOverflow, format!("the result cannot be kept, and cache = required: {why}"))
}
