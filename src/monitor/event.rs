//! What an event is, as JSON text.

use std::time::SystemTime;

use crate::json::Value;

/// How serious an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Good to know.
    Info,
    /// Somebody should look at it.
    Warning,
    /// Something is broken and stays so until somebody does something about it.
    Error,
}

impl Severity {
    /// `info`, `warning` or `error`.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

/// An event. Its time is when it is made.
#[derive(Debug)]
pub(super) struct Event<'e> {
    pub kind: &'e str,
    pub severity: Severity,
    pub message: &'e str,
    pub fields: &'e Value,
}

/// An event's text but for its number, which it gets when it takes its place in the ring.
#[derive(Debug)]
pub(super) struct EventText(String);

impl Event<'_> {
    /// `{"seq", "kind", "severity", "time", "message", "fields"}`.
    pub fn to_text(&self) -> EventText {
        let event = Value::object([
            ("kind", Value::from(self.kind)),
            ("severity", Value::from(self.severity.name())),
            ("time", Value::from(now())),
            ("message", Value::from(self.message)),
            ("fields", self.fields.clone()),
        ]);
        EventText(event.to_text())
    }
}

impl EventText {
    /// The whole of it.
    pub fn numbered(&self, number: u64) -> String {
        // An object with members: what follows its first brace follows the number.
        format!("{{\"seq\":{number},{}", self.0.strip_prefix('{').unwrap_or(&self.0))
    }
}

/// The time, as [`at`] says it.
pub fn now() -> String {
    at(SystemTime::now())
}

/// A time as RFC 3339 in UTC, to the millisecond.
pub fn at(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}
