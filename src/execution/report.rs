//! What is counted and told of a run that has ended.

use super::Execution;
use crate::json::Value;
use crate::monitor::Counted;
use crate::monitor::event::Severity;
use crate::monitor::log::LogLevel;
use crate::outcome::Outcome;
use crate::result::{Failure, RunResult};

impl Execution {
    /// Counts a run and gives it its number; says whether it was slow.
    pub(super) fn count(&self, result: &mut RunResult) -> bool {
        let RunResult { outcome, is_cached, duration, .. } = *result;
        let noted =
            self.monitor.count_run(Counted { outcome, is_cached, is_violation: result.is_violation(), duration });
        result.id = noted.id;
        noted.is_slow
    }

    /// Makes events of what somebody should see, each at most once an interval for a skill and an outcome.
    pub(super) fn report(&self, result: &RunResult, is_slow: bool) {
        let about = format!("{} {}", result.outcome.name(), result.skill);
        let warn = |kind, make: &dyn Fn() -> String, more: Vec<(&'static str, Value)>| {
            self.monitor.event_of(kind, Severity::Warning, &about, || (make(), [fields(result), more].concat()));
        };
        // Who cancels a run knows it.
        if let Some(failure) = result.failure.as_ref().filter(|_| result.outcome != Outcome::Cancelled) {
            warn("run_failed", &|| failed(result, failure), vec![("type", Value::from(kind(failure)))]);
            if result.is_violation() {
                warn("sandbox_violation", &|| violated(result, failure), Vec::new());
            }
        }
        if is_slow {
            let threshold = self.config.monitor_slow_run_ms;
            let more = vec![("duration_ms", millis(result)), ("threshold_ms", Value::from(threshold))];
            warn("slow_run", &|| slow(result, threshold), more);
        }
    }

    /// Says it as a line: whoever follows what is executed hears `debug`, whoever follows every call `trace`.
    pub(super) fn say(&self, result: &RunResult) {
        let level = if result.is_cached { LogLevel::Trace } else { LogLevel::Debug };
        if self.monitor.wants_line(level) {
            let how = if result.is_cached { "answered from memory" } else { "ended" };
            let message = format!("{} {how} as {}", name(result), result.outcome.name());
            let micros = u64::try_from(result.duration.as_micros()).unwrap_or(u64::MAX);
            let more = vec![("cached", Value::from(result.is_cached)), ("duration_us", Value::from(micros))];
            self.monitor.line(level, &message, [fields(result), more].concat());
        }
    }
}

fn fields(result: &RunResult) -> Vec<(&'static str, Value)> {
    vec![
        ("skill", Value::from(&*result.skill)),
        ("version", Value::from(result.version)),
        ("outcome", Value::from(result.outcome.name())),
        ("trace", Value::from(result.trace.as_deref())),
        ("trace_id", Value::from(result.trace_id())),
    ]
}

/// A skill that writes its own answer frame may say what it likes.
fn kind(failure: &Failure) -> String {
    failure.kind.chars().take(256).collect()
}

fn name(result: &RunResult) -> String {
    format!("skill `{}` version {}", result.skill, result.version)
}

fn failed(result: &RunResult, failure: &Failure) -> String {
    format!("{} ended as {}: {}", name(result), result.outcome.name(), failure.message)
}

fn violated(result: &RunResult, failure: &Failure) -> String {
    format!("{} tried what the sandbox does not allow: {}", name(result), failure.message)
}

fn slow(result: &RunResult, threshold_ms: u64) -> String {
    let millis = result.duration.as_millis();
    format!("{} took {millis} ms (monitor.slow_run_ms is {threshold_ms})", name(result))
}

fn millis(result: &RunResult) -> Value {
    Value::from(u64::try_from(result.duration.as_millis()).unwrap_or(u64::MAX))
}
