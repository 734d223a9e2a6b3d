//! The memory reporter: what this process uses, what of that is ours, and what is done when it is too much.

use std::time::Instant;

use super::Library;
use crate::error::Result;
use crate::execution::Execution;
use crate::json::Value;
use crate::monitor::event::Severity;
use crate::monitor::memory::{Memory, mebibytes};

impl Library {
    /// Reads this process's memory figures now, records them as the event `memory_report` (and `memory_high`, if they have just reached the
    /// threshold), and says them: the section `memory` of the statistics. Nothing is read or recorded with `memory.enabled = false`.
    pub fn report_memory(&self) -> Result<Value> {
        self.check_open()?;
        let execution = &self.execution;
        let told = if execution.config.memory_enabled { look(execution, Occasion::Asked) } else { None };
        Ok(told.unwrap_or_else(|| section(execution)))
    }
}

/// Why memory is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occasion {
    /// To see whether it is too much; there is a report only if it has just become that.
    Check,
    /// Because a report is due.
    Due,
    /// Because somebody wants a report.
    Asked,
}

/// Looks, and tells what is to be told; gives the report, if there is one.
pub(super) fn look(execution: &Execution, occasion: Occasion) -> Option<Value> {
    let monitor = &execution.monitor;
    let memory = Memory::now();
    let due = memory.map(|memory| monitor.memory().look(memory.percent(), Instant::now())).unwrap_or_default();
    let is_told = (due.alert || occasion != Occasion::Check) && monitor.is_enabled();
    let report = is_told.then(|| {
        monitor.memory().count_report();
        let message = match memory {
            Some(memory) => memory.report_text(),
            None => "Memory report: the figures of this process cannot be read here".to_owned(),
        };
        let report = describe(execution, memory);
        monitor.event("memory_report", Severity::Info, &message, fields(&report));
        report
    });
    if let Some(memory) = memory.filter(|_| due.alert) {
        let threshold = [("threshold", Value::from(monitor.memory().threshold()))];
        let fields = memory.fields().into_iter().chain(threshold).collect();
        monitor.event("memory_high", Severity::Warning, &memory.alert_text(), fields);
    }
    if due.relief && execution.config.memory_shrink_caches {
        shrink(execution);
    }
    report
}

fn shrink(execution: &Execution) {
    let freed = execution.shrink();
    let (entries, bytes) = freed.iter().fold((0, 0), |sum, (_, [entries, bytes])| (sum.0 + entries, sum.1 + bytes));
    if bytes == 0 {
        return;
    }
    let message =
        format!("Memory shrunk: {entries} entries and {:.1} MB were let go of", bytes as f64 / f64::from(1 << 20));
    let caches = freed.map(|(name, [entries, bytes])| {
        (name, Value::object([("freed_entries", Value::from(entries)), ("freed_bytes", Value::from(bytes))]))
    });
    let fields = vec![
        ("freed_bytes", Value::from(bytes)),
        ("freed_entries", Value::from(entries)),
        ("caches", Value::object(caches)),
    ];
    execution.monitor.event("memory_shrunk", Severity::Info, &message, fields);
}

/// The section `memory` of the statistics. Tells nothing.
pub(super) fn section(execution: &Execution) -> Value {
    if execution.config.memory_enabled {
        describe(execution, Memory::now())
    } else {
        Value::object([("status", Value::from("off"))])
    }
}

fn describe(execution: &Execution, memory: Option<Memory>) -> Value {
    let alarm = execution.monitor.memory();
    let status = if memory.is_some() { "ok" } else { "unavailable" };
    let caches = execution.cache_stats().map(|(name, stats)| (name, mebibytes(stats.bytes)));
    let ours = [
        ("caches_mb", Value::object(caches)),
        ("vectors_mb", mebibytes(execution.store.vector_memory())),
        ("pool_mb", execution.store.pool_memory().map_or(Value::Null, mebibytes)),
        ("children_peak_mb", mebibytes(execution.monitor.children().1)),
        ("threshold", Value::from(alarm.threshold())),
        ("is_high", Value::from(alarm.is_high())),
        ("reports", Value::from(alarm.reports())),
    ];
    let process = memory.map_or_else(Memory::no_fields, |memory| memory.fields());
    Value::object([("status", Value::from(status))].into_iter().chain(process).chain(ours))
}

fn fields(section: &Value) -> Vec<(&str, Value)> {
    section.as_object().unwrap_or_default().iter().map(|(name, value)| (name.as_str(), value.clone())).collect()
}
