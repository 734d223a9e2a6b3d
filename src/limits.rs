//! Limits of a run as a skill and a call set them: the names and ranges of the option table, without its room.
//!
//! A call's limit counts before the skill's, and the skill's before the library's. Each may be larger than the next
//! one's, because the host sets all three: data and code of a skill set none.

use crate::config::{Config, Kind, OptionRow};
use crate::error::{Error, Result, hint, nearest};
use crate::json::Value;

/// The room of the option table that the limits live in.
const ROOM: &str = "sandbox.";

macro_rules! limits {
    ($($name:ident: $field:ident, $prose:literal;)*) => {
        /// What a skill or a call asks for; nothing leaves a limit to the next one who may set it. Units and ranges are
        /// those of the options of the same names in the room `sandbox`.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct RunLimits {
            $(#[doc = $prose] pub $name: Option<u64>,)*
        }

        impl RunLimits {
            /// The names, in the order of the option table.
            pub const NAMES: &[&str] = &[$(stringify!($name)),*];

            /// The value of a limit by name.
            pub fn get(&self, name: &str) -> Option<u64> {
                match name {
                    $(stringify!($name) => self.$name,)*
                    _ => None,
                }
            }

            fn slot(&mut self, name: &str) -> Option<&mut Option<u64>> {
                match name {
                    $(stringify!($name) => Some(&mut self.$name),)*
                    _ => None,
                }
            }

            /// Those that a skill can see, as text that tells them apart; empty if there are none. Time is not among them: who runs out
            /// of it has no result.
            pub(crate) fn visible(&self) -> String {
                let named = [$((stringify!($name), self.$name)),*];
                let of_time = ["timeout_ms", "max_cpu_s"];
                let visible = named.into_iter().filter(|(name, _)| !of_time.contains(name));
                visible.filter_map(|(name, limit)| Some(format!("{name}={};", limit?))).collect()
            }

            /// These, and where they say nothing the others.
            #[must_use]
            pub fn or(self, others: RunLimits) -> Self {
                RunLimits { $($name: self.$name.or(others.$name),)* }
            }

            /// Those of a library.
            pub(crate) fn of_library(config: &Config) -> Self {
                RunLimits { $($name: Some(config.$field),)* }
            }

            /// A configuration with these instead of its own.
            pub(crate) fn on_top_of(&self, config: &Config) -> Config {
                let mut config = config.clone();
                $(config.$field = self.$name.unwrap_or(config.$field);)*
                config
            }
        }
    };
}

limits! {
    timeout_ms: sandbox_timeout_ms, "Wall-clock time in milliseconds.";
    max_cpu_s: sandbox_max_cpu_s, "Processor time in seconds.";
    max_memory_mb: sandbox_max_memory_mb, "Address space in MiB.";
    max_file_mb: sandbox_max_file_mb, "The private folder in MiB.";
    max_open_files: sandbox_max_open_files, "Open descriptors.";
    max_threads: sandbox_max_threads, "Threads, where they can be counted.";
    max_output_kb: sandbox_max_output_kb, "How much of stdout, and of stderr, is kept, in KiB.";
    max_answer_kb: sandbox_max_answer_kb, "The largest answer in KiB of JSON text.";
}

impl RunLimits {
    /// Sets a limit by name; `null` takes it away. `place` is where the value stands, for the error. False if there is no
    /// limit of that name.
    pub(crate) fn set(&mut self, name: &str, value: &Value, place: &str) -> Result<bool> {
        let Some(slot) = self.slot(name) else { return Ok(false) };
        *slot = match value {
            Value::Null => None,
            value => Some(read(name, value, place)?),
        };
        Ok(true)
    }

    /// Reads the members of an object that has nothing but limits.
    pub(crate) fn read(members: &[(String, Value)], path: &str) -> Result<Self> {
        let mut limits = RunLimits::default();
        for (name, value) in members {
            let place = format!("{path}.{name}");
            if !limits.set(name, value, &place)? {
                return Err(unknown(name, path, &place));
            }
        }
        Ok(limits)
    }

    /// Takes what there is of an object that was read before.
    pub(crate) fn of_stored(stored: &Value) -> Self {
        let mut limits = RunLimits::default();
        for (name, value) in stored.as_object().unwrap_or_default() {
            if let Some(slot) = limits.slot(name) {
                *slot = value.as_i64().and_then(|number| u64::try_from(number).ok());
            }
        }
        limits
    }

    /// An object of those that are set; `null` if none is.
    pub(crate) fn to_value(self) -> Value {
        let set = RunLimits::NAMES.iter().filter_map(|name| Some((*name, Value::from(self.get(name)?))));
        let set: Vec<_> = set.collect();
        if set.is_empty() { Value::Null } else { Value::object(set) }
    }
}

/// Whether a row of the option table is a limit, and the name it has for skills and calls then.
pub(crate) fn short_name(row: &OptionRow) -> Option<&'static str> {
    row.name.strip_prefix(ROOM).filter(|name| RunLimits::NAMES.contains(name))
}

fn row(name: &str) -> Option<&'static OptionRow> {
    crate::config::OPTIONS.iter().find(|row| short_name(row) == Some(name))
}

fn read(name: &str, value: &Value, place: &str) -> Result<u64> {
    let kind = row(name).map_or(Kind::Text, |row| row.kind);
    let number = value.as_i64().and_then(|number| u64::try_from(number).ok());
    match (kind, number) {
        (Kind::Integer { min, max, .. }, Some(number)) if (min..=max).contains(&number) => Ok(number),
        _ => {
            let shown = value.to_text();
            let shown = if shown.len() <= 60 { shown } else { value.kind().to_owned() };
            let message = format!("`{place}` cannot be {shown}: it takes {}", kind.range());
            Err(Error::invalid(message).path(place).rule("range"))
        }
    }
}

fn unknown(name: &str, path: &str, place: &str) -> Error {
    let meant = nearest(name.strip_prefix(ROOM).unwrap_or(name), RunLimits::NAMES.iter().copied());
    let hint = hint(meant, || format!("; it takes {}", RunLimits::NAMES.join(", ")));
    Error::invalid(format!("`{path}` has no member `{name}`{hint}")).path(place).suggestion(meant)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::OPTIONS;

    #[test]
    fn every_limit_is_an_option_and_every_maximum_of_the_sandbox_a_limit() {
        let rows: Vec<_> = OPTIONS.iter().filter_map(short_name).collect();
        assert_eq!(rows, RunLimits::NAMES, "in the order of the table");
        let counted = OPTIONS.iter().filter(|row| row.name.starts_with("sandbox.") && row.name.contains("max_"));
        assert!(counted.clone().count() > 5);
        counted.for_each(|row| assert!(short_name(row).is_some(), "{}", row.name));
    }

    #[test]
    fn ranges_are_those_of_the_table() {
        for name in RunLimits::NAMES {
            let Kind::Integer { min, max, .. } = row(name).expect("a row").kind else { panic!("{name}") };
            let mut limits = RunLimits::default();
            for number in [min, max] {
                assert_eq!(limits.set(name, &Value::from(number), name), Ok(true));
                assert_eq!(limits.get(name), Some(number));
            }
            for value in [Value::from(max + 1), Value::from(-1i64), Value::from("1"), Value::from(1.5)] {
                let error = limits.set(name, &value, "limits.x").expect_err(name);
                assert!(error.message().contains(&format!("from {min} to {max}")), "{error}");
                assert_eq!(error.details().path.as_deref(), Some("limits.x"));
            }
            assert_eq!(limits.get(name), Some(max), "a refused value changes nothing");
            assert_eq!(limits.set(name, &Value::Null, name), Ok(true));
            assert_eq!(limits, RunLimits::default());
        }
    }

    #[test]
    fn a_set_limit_counts_before_others_and_before_the_configuration() {
        let value = |text: &str| Value::parse(text).expect("json");
        let read = |text: &str| RunLimits::read(value(text).as_object().expect("an object"), "limits").expect("limits");
        let call = read(r#"{"timeout_ms":1,"max_file_mb":0}"#);
        let both = call.or(read(r#"{"timeout_ms":2,"max_cpu_s":3}"#));
        assert_eq!(both.to_value(), value(r#"{"timeout_ms":1,"max_cpu_s":3,"max_file_mb":0}"#));
        assert_eq!(RunLimits::of_stored(&both.to_value()), both);
        assert_eq!(RunLimits::default().to_value(), Value::Null);
        let config = both.on_top_of(&Config::default());
        assert_eq!((config.sandbox_timeout_ms, config.sandbox_max_cpu_s, config.sandbox_max_file_mb), (1, 3, 0));
        assert_eq!(config.sandbox_max_memory_mb, Config::default().sandbox_max_memory_mb);
    }

    #[test]
    fn an_unknown_limit_says_what_was_meant() {
        for (name, meant) in
            [("timeout", "timeout_ms"), ("sandbox.max_cpu_s", "max_cpu_s"), ("max_memory", "max_memory_mb")]
        {
            let error = RunLimits::read(&[(name.to_owned(), Value::from(1u64))], "limits").expect_err(name);
            assert_eq!(error.details().suggestion.as_deref(), Some(meant), "{error}");
            assert_eq!(error.details().path, Some(format!("limits.{name}")));
        }
        let error = RunLimits::read(&[("colour".to_owned(), Value::Null)], "limits").expect_err("unknown");
        assert!(error.message().contains("timeout_ms, max_cpu_s"), "{error}");
    }
}
