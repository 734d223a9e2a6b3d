//! Results.

use std::sync::OnceLock;

use super::guard;
use super::text::{Text, skc_str};
use crate::result::RunResult;

/// How a run ended. Immutable: any thread may read it; free it once with skc_result_free. It outlives the library.
pub struct skc_result {
    result: RunResult,
    value: Text,
    stdout: Text,
    stderr: Text,
    error: Text,
    error_json: Text,
    confinement: OnceLock<Text>,
    /// With its NUL.
    trace_id: [u8; 33],
    json: OnceLock<Text>,
}

/// The results of skc_library_run_many, in the order of its items. Immutable: any thread may read them; free them once
/// with skc_results_free.
pub struct skc_results(Vec<skc_result>);

/// Everything of a result in one call, for bindings that pay for each. Fields are only ever added at the end; give
/// skc_result_view the size you know.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct skc_view {
    /// The answer as JSON; empty unless the outcome is success.
    pub value: skc_str,
    /// What the skill printed, raw.
    pub captured_stdout: skc_str,
    /// What it wrote to stderr, raw.
    pub captured_stderr: skc_str,
    /// The traceback or the reason; empty on success.
    pub error: skc_str,
    /// type, message, line ... as a JSON object; empty on success.
    pub error_json: skc_str,
    /// What confined the run: "strict", "partial", "process-only"; "none" if nothing ran.
    pub level: skc_str,
    /// What the call took, in microseconds.
    pub duration_us: u64,
    /// Processor time of the child in microseconds; 0 on a hit.
    pub cpu_us: u64,
    /// The child's largest resident size in bytes, of one that crashed the largest of some samples; 0 on a hit and where it
    /// could not be read.
    pub peak_memory_bytes: u64,
    /// SKC_OUTCOME_*; -1 for no result.
    pub outcome: i32,
    /// The version that ran.
    pub skill_version: u32,
    /// Whether memory answered.
    pub cached: bool,
    /// Whether more was printed than is kept.
    pub stdout_truncated: bool,
    /// Likewise for stderr.
    pub stderr_truncated: bool,
    /// Bytes that it wrote to stdout, kept or not; 0 on a hit, as the next three.
    pub stdout_written_bytes: u64,
    /// Bytes that it wrote to stderr, kept or not.
    pub stderr_written_bytes: u64,
    /// Bytes of its answer as it was sent; 0 for one beyond its bound.
    pub answer_bytes: u64,
    /// Bytes that its private folder held at the end.
    pub folder_bytes: u64,
    /// What confined the run, on a hit when it ran: level, layers, guarantees, missing, threads as a JSON
    /// object; empty if nothing ran.
    pub sandbox_json: skc_str,
    /// The trace id by which events and log lines name the run, as skc_result_trace_id.
    pub trace_id: skc_str,
}

/// The skill set `result` to a JSON value that obeys its output schema.
pub const SKC_OUTCOME_SUCCESS: i32 = 0;
/// An exception was not caught.
pub const SKC_OUTCOME_ERROR: i32 = 1;
/// The skill ended without setting `result`.
pub const SKC_OUTCOME_NO_RESULT: i32 = 2;
/// The inputs break the input schema; nothing ran.
pub const SKC_OUTCOME_INVALID_INPUT: i32 = 3;
/// `result` is not a JSON value, or breaks the output schema.
pub const SKC_OUTCOME_INVALID_OUTPUT: i32 = 4;
/// The stored version is refused by today's rules; nothing ran.
pub const SKC_OUTCOME_REJECTED: i32 = 5;
/// The operating system refused the skill something (EPERM, EACCES).
pub const SKC_OUTCOME_DENIED: i32 = 6;
/// Wall-clock or processor time ran out.
pub const SKC_OUTCOME_TIMEOUT: i32 = 7;
/// Memory ran out.
pub const SKC_OUTCOME_MEMORY_LIMIT: i32 = 8;
/// The answer is larger than its bound.
pub const SKC_OUTCOME_OUTPUT_LIMIT: i32 = 9;
/// A file or the private folder grew beyond its bound, or the disk is full.
pub const SKC_OUTCOME_DISK_LIMIT: i32 = 10;
/// The process ended without an answer: a signal, an exit, a broken answer channel.
pub const SKC_OUTCOME_CRASHED: i32 = 11;
/// The run was cancelled.
pub const SKC_OUTCOME_CANCELLED: i32 = 12;

impl skc_result {
    pub(super) fn new(result: RunResult) -> Self {
        let failure = result.failure.as_deref();
        skc_result {
            value: Text::new(result.value.as_deref().unwrap_or_default().as_bytes()),
            stdout: Text::new(&result.stdout.bytes),
            stderr: Text::new(&result.stderr.bytes),
            error: Text::new(failure.map(|failure| failure.text()).unwrap_or_default().as_bytes()),
            error_json: Text::new(failure.map(|failure| failure.to_value().to_text()).unwrap_or_default().as_bytes()),
            confinement: OnceLock::new(),
            trace_id: with_nul(result.trace_digits()),
            json: OnceLock::new(),
            result,
        }
    }

    /// Names of levels are few, and stand still.
    fn level(&self) -> skc_str {
        let name = match self.result.level() {
            "strict" => c"strict",
            "partial" => c"partial",
            "process-only" => c"process-only",
            _ => c"none",
        };
        skc_str::of_static(name)
    }

    fn json(&self) -> &Text {
        self.json.get_or_init(|| Text::new(self.result.to_value().to_text().as_bytes()))
    }

    fn confinement(&self) -> &Text {
        let text = || self.result.confinement.as_ref().map(|level| level.to_value().to_text()).unwrap_or_default();
        self.confinement.get_or_init(|| Text::new(text().as_bytes()))
    }

    fn trace_id(&self) -> skc_str {
        skc_str { ptr: self.trace_id.as_ptr().cast(), len: self.trace_id.len() - 1 }
    }

    fn view(&self) -> skc_view {
        let usage = &self.result.usage;
        skc_view {
            value: self.value.view(),
            captured_stdout: self.stdout.view(),
            captured_stderr: self.stderr.view(),
            error: self.error.view(),
            error_json: self.error_json.view(),
            level: self.level(),
            duration_us: micros(self.result.duration),
            cpu_us: micros(usage.cpu),
            peak_memory_bytes: usage.peak_memory,
            outcome: self.result.outcome as i32,
            skill_version: self.result.version,
            cached: self.result.is_cached,
            stdout_truncated: self.result.stdout.is_truncated,
            stderr_truncated: self.result.stderr.is_truncated,
            stdout_written_bytes: usage.stdout_bytes,
            stderr_written_bytes: usage.stderr_bytes,
            answer_bytes: usage.answer_bytes,
            folder_bytes: usage.folder_bytes,
            sandbox_json: self.confinement().view(),
            trace_id: self.trace_id(),
        }
    }
}

fn with_nul(digits: [u8; 32]) -> [u8; 33] {
    let mut text = [0; 33];
    text[..32].copy_from_slice(&digits);
    text
}

fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl skc_results {
    pub(super) fn boxed(results: Vec<RunResult>) -> *mut skc_results {
        Box::into_raw(Box::new(skc_results(results.into_iter().map(skc_result::new).collect())))
    }
}

/// What a getter gives for a result, or `fallback` for NULL.
///
/// # Safety
///
/// The door's contract.
unsafe fn of_result<T: Copy>(result: *const skc_result, fallback: T, get: impl FnOnce(&skc_result) -> T) -> T {
    // SAFETY: the caller's promise.
    guard::get(fallback, || unsafe { result.as_ref() }.map_or(fallback, get))
}

/// SKC_OUTCOME_*; -1 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_result_outcome(result: *const skc_result) -> i32 {
    // SAFETY: the door's contract.
    unsafe { of_result(result, -1, |result| result.result.outcome as i32) }
}

/// The answer as JSON text; empty unless the outcome is success.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_result_value(result: *const skc_result) -> skc_str {
    // SAFETY: the door's contract.
    unsafe { of_result(result, skc_str::EMPTY, |result| result.value.view()) }
}

/// What the skill printed: raw bytes, cut at its bound. On a hit, what it printed when it ran.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_result_stdout(result: *const skc_result) -> skc_str {
    // SAFETY: the door's contract.
    unsafe { of_result(result, skc_str::EMPTY, |result| result.stdout.view()) }
}

/// What the skill wrote to stderr, likewise.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_result_stderr(result: *const skc_result) -> skc_str {
    // SAFETY: the door's contract.
    unsafe { of_result(result, skc_str::EMPTY, |result| result.stderr.view()) }
}

/// The traceback, with the skill's own lines, or the reason; empty on success.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_result_error(result: *const skc_result) -> skc_str {
    // SAFETY: the door's contract.
    unsafe { of_result(result, skc_str::EMPTY, |result| result.error.view()) }
}

/// What confined the run: "strict" (every guarantee of docs/SECURITY.md), "partial" (some; skc_result_json says which),
/// "process-only" (limits, a clean environment and a clean end; no kernel sandbox), "none" (nothing ran).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_result_level(result: *const skc_result) -> skc_str {
    // SAFETY: the door's contract.
    unsafe { of_result(result, skc_str::EMPTY, skc_result::level) }
}

/// The trace id by which events and log lines name the run: 32 hexadecimal digits, those of the call's `trace` if that is a W3C
/// traceparent, or else the run's own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_result_trace_id(result: *const skc_result) -> skc_str {
    // SAFETY: the door's contract.
    unsafe { of_result(result, skc_str::EMPTY, skc_result::trace_id) }
}

/// Whether memory answered. False for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_result_is_cached(result: *const skc_result) -> bool {
    // SAFETY: the door's contract.
    unsafe { of_result(result, false, |result| result.result.is_cached) }
}

/// What the call took, in microseconds. 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_result_duration_us(result: *const skc_result) -> u64 {
    // SAFETY: the door's contract.
    unsafe { of_result(result, 0, |result| micros(result.result.duration)) }
}

/// Fills a view with everything, in one call. `sizeof_view` is sizeof(skc_view) as the caller knows it: an older, smaller
/// view gets its own fields only, and what a newer one has beyond ours is zeroed. A NULL result gives empty texts and the
/// outcome -1; a NULL `out` nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_result_view(result: *const skc_result, out: *mut skc_view, sizeof_view: usize) {
    const NOTHING: skc_view = skc_view {
        value: skc_str::EMPTY,
        captured_stdout: skc_str::EMPTY,
        captured_stderr: skc_str::EMPTY,
        error: skc_str::EMPTY,
        error_json: skc_str::EMPTY,
        level: skc_str::EMPTY,
        duration_us: 0,
        cpu_us: 0,
        peak_memory_bytes: 0,
        outcome: -1,
        skill_version: 0,
        cached: false,
        stdout_truncated: false,
        stderr_truncated: false,
        stdout_written_bytes: 0,
        stderr_written_bytes: 0,
        answer_bytes: 0,
        folder_bytes: 0,
        sandbox_json: skc_str::EMPTY,
        trace_id: skc_str::EMPTY,
    };
    if out.is_null() {
        return;
    }
    // SAFETY: the door's contract for `result`; `out` is not NULL and the caller says that it has `sizeof_view` bytes,
    // of which no more than a view is copied and the rest zeroed.
    unsafe {
        let view = of_result(result, NOTHING, skc_result::view);
        let known = size_of::<skc_view>().min(sizeof_view);
        let bytes = out.cast::<u8>();
        std::ptr::copy_nonoverlapping(std::ptr::from_ref(&view).cast::<u8>(), bytes, known);
        std::ptr::write_bytes(bytes.add(known), 0, sizeof_view - known);
    }
}

/// Everything as one JSON object: outcome, skill, cached, value, stdout, stderr, stdout_truncated, stderr_truncated,
/// duration_us, usage (cpu_us, peak_memory_bytes, stdout_bytes, stderr_bytes, answer_bytes, folder_bytes), level, sandbox,
/// trace, trace_id, error. Empty for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_result_json(result: *const skc_result) -> skc_str {
    // SAFETY: the door's contract.
    unsafe { of_result(result, skc_str::EMPTY, |result| result.json().view()) }
}

/// Frees a result. NULL is allowed. Not for results borrowed from skc_results.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_result_free(result: *mut skc_result) {
    if !result.is_null() {
        // SAFETY: the door's contract: boxed by this library, freed once.
        guard::free(|| drop(unsafe { Box::from_raw(result) }));
    }
}

/// How many results there are. 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_results_len(results: *const skc_results) -> usize {
    // SAFETY: the door's contract.
    guard::get(0, || unsafe { results.as_ref() }.map_or(0, |results| results.0.len()))
}

/// A borrowed result, valid as long as the results; NULL for NULL and beyond the end. Do not free it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_results_at(results: *const skc_results, index: usize) -> *const skc_result {
    guard::get(std::ptr::null(), || {
        // SAFETY: the door's contract.
        let result = unsafe { results.as_ref() }.and_then(|results| results.0.get(index));
        result.map_or(std::ptr::null(), std::ptr::from_ref)
    })
}

/// Frees all the results. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_results_free(results: *mut skc_results) {
    if !results.is_null() {
        // SAFETY: the door's contract: made by `boxed`, freed once.
        guard::free(|| drop(unsafe { Box::from_raw(results) }));
    }
}
