//! What the library says while it works, line by line: to whoever listens.
//!
//! Rust hosts listen through `tracing` (target `skillcache`), all others through a callback that gets each line as JSON text. Unless
//! somebody listens nothing is made, and nothing is ever printed; no global subscriber is set or replaced. Lines for the callback go
//! through a bounded ring to a thread of the library, so that a slow host slows no run.

use crate::error::Result;
use crate::json::Value;

use super::event::now;
use super::ring::Ring;

/// How much a line matters; each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Something is broken.
    Error,
    /// Somebody should look at it.
    Warn,
    /// Events, opening and closing.
    Info,
    /// Every run that is executed.
    Debug,
    /// Every run, those that memory answers included.
    Trace,
}

impl LogLevel {
    const ALL: [LogLevel; 5] = [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace];

    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub fn name(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }

    /// The level of that name; nothing for `off`.
    pub fn named(name: &str) -> Option<Self> {
        LogLevel::ALL.into_iter().find(|level| level.name() == name)
    }
}

/// Where lines go.
#[derive(Debug)]
pub(super) struct Log {
    /// How much the callback is to hear, and its lines; nothing if there is none.
    heard: Option<(LogLevel, Ring)>,
}

impl Log {
    /// Fails when the process is out of descriptors.
    pub fn new(heard: Option<LogLevel>, capacity: u64) -> Result<Self> {
        let heard = heard.map(|level| Ok((level, Ring::new(capacity)?))).transpose()?;
        Ok(Log { heard })
    }

    /// Whether anybody listens at a level. Costs two loads.
    pub fn wants(&self, level: LogLevel) -> bool {
        self.heard_at(level).is_some() || is_traced(level)
    }

    fn heard_at(&self, level: LogLevel) -> Option<&Ring> {
        self.heard.as_ref().filter(|(heard, _)| level <= *heard).map(|(_, ring)| ring)
    }

    /// Says a line. Its fields are masked already.
    pub fn say(&self, level: LogLevel, message: &str, fields: &Value) {
        trace(level, message, fields);
        if let Some(ring) = self.heard_at(level) {
            let line = [
                ("time", Value::from(now())),
                ("level", Value::from(level.name())),
                ("target", Value::from(TARGET)),
                ("message", Value::from(message)),
                ("fields", fields.clone()),
            ];
            let line = Value::object(line).to_text();
            ring.push(|_| line);
        }
    }

    /// The lines for the callback, if there is one.
    pub fn ring(&self) -> Option<&Ring> {
        self.heard.as_ref().map(|(_, ring)| ring)
    }
}

const TARGET: &str = "skillcache";

fn is_traced(level: LogLevel) -> bool {
    match level {
        LogLevel::Error => tracing::enabled!(target: TARGET, tracing::Level::ERROR),
        LogLevel::Warn => tracing::enabled!(target: TARGET, tracing::Level::WARN),
        LogLevel::Info => tracing::enabled!(target: TARGET, tracing::Level::INFO),
        LogLevel::Debug => tracing::enabled!(target: TARGET, tracing::Level::DEBUG),
        LogLevel::Trace => tracing::enabled!(target: TARGET, tracing::Level::TRACE),
    }
}

/// A call site for each level, which is what `tracing` knows levels by.
fn trace(level: LogLevel, message: &str, fields: &Value) {
    if !is_traced(level) {
        return;
    }
    let fields = fields.to_text();
    match level {
        LogLevel::Error => tracing::error!(target: TARGET, fields, "{message}"),
        LogLevel::Warn => tracing::warn!(target: TARGET, fields, "{message}"),
        LogLevel::Info => tracing::info!(target: TARGET, fields, "{message}"),
        LogLevel::Debug => tracing::debug!(target: TARGET, fields, "{message}"),
        LogLevel::Trace => tracing::trace!(target: TARGET, fields, "{message}"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_callback_hears_its_level_and_what_matters_more() {
        for (heard, lines) in
            [(None, 0), (Some(LogLevel::Error), 1), (Some(LogLevel::Info), 3), (Some(LogLevel::Trace), 5)]
        {
            let log = Log::new(heard, 8).expect("a log");
            LogLevel::ALL.into_iter().for_each(|level| log.say(level, level.name(), &Value::Null));
            let recorded = log.ring().and_then(|ring| ring.stats().get("recorded")?.as_i64());
            assert_eq!(recorded.unwrap_or(0), lines as i64, "{heard:?}");
            assert_eq!(LogLevel::ALL.into_iter().filter(|level| log.wants(*level)).count(), lines, "{heard:?}");
        }
    }

    #[test]
    fn a_line_says_what_where_and_when() {
        let log = Log::new(Some(LogLevel::Info), 8).expect("a log");
        log.say(LogLevel::Warn, "mind the \"gap\"", &Value::object([("width", Value::from(7u64))]));
        let line = log.ring().map(|ring| ring.next(Some(Duration::ZERO)).expect("a line")).expect("a callback");
        let line = Value::parse(&line).expect("JSON");
        let text = |name: &str| line.get(name).and_then(Value::as_str);
        assert_eq!(
            (text("level"), text("target"), text("message")),
            (Some("warn"), Some("skillcache"), Some("mind the \"gap\""))
        );
        assert_eq!(line.get("fields").and_then(|fields| fields.get("width")), Some(&Value::from(7u64)));
        assert!(text("time").is_some_and(|time| humantime::parse_rfc3339(time).is_ok()));
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        assert!(LogLevel::ALL.into_iter().all(|level| LogLevel::named(level.name()) == Some(level)));
        assert_eq!(LogLevel::named("off"), None);
    }

    /// A subscriber for one thread, as a host might have it.
    struct Listening(Arc<Mutex<Vec<String>>>);

    impl tracing::Subscriber for Listening {
        fn enabled(&self, metadata: &tracing::Metadata) -> bool {
            metadata.target() == TARGET && *metadata.level() <= tracing::Level::INFO
        }
        fn new_span(&self, _: &tracing::span::Attributes) -> tracing::span::Id {
            tracing::span::Id::from_u64(1)
        }
        fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record) {}
        fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
        fn event(&self, event: &tracing::Event) {
            struct Text(String);
            impl tracing::field::Visit for Text {
                fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                    self.0.push_str(&format!(" {}={value:?}", field.name()));
                }
            }
            let mut text = Text(event.metadata().level().to_string());
            event.record(&mut text);
            self.0.lock().expect("nobody panics").push(text.0);
        }
        fn enter(&self, _: &tracing::span::Id) {}
        fn exit(&self, _: &tracing::span::Id) {}
    }

    #[test]
    fn a_rust_host_hears_through_tracing_without_a_callback() {
        let (log, heard) = (Log::new(None, 8).expect("a log"), Arc::default());
        tracing::subscriber::with_default(Listening(Arc::clone(&heard)), || {
            assert!(log.wants(LogLevel::Info) && !log.wants(LogLevel::Debug));
            log.say(LogLevel::Info, "told", &Value::object([("n", Value::from(1u64))]));
            log.say(LogLevel::Debug, "not told", &Value::Null);
        });
        log.say(LogLevel::Info, "nobody listens any more", &Value::Null);
        let heard = heard.lock().expect("nobody panics");
        assert_eq!(heard.len(), 1, "{heard:?}");
        assert!(
            heard[0].starts_with("INFO") && heard[0].contains("message=told") && heard[0].contains("n"),
            "{heard:?}"
        );
    }
}
