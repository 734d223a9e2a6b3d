//! What a call asks for: its data and its options, read from the JSON of the door.

use std::time::Duration;

use crate::error::{Error, Result, hint, nearest};
use crate::json::Value;
use crate::limits::RunLimits;

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
    /// Both, and a success that cannot be kept is an error ([`Code::CacheOverflow`](crate::Code::CacheOverflow)).
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
    /// Instead of the skill's and the library's own.
    pub limits: RunLimits,
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

/// The members of what the door takes as a JSON object; an empty text has none.
pub(crate) fn members(text: &str, what: &str) -> Result<Vec<(String, Value)>> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    match Value::parse(text).map_err(|error| not_json(what, error))? {
        Value::Object(members) => Ok(members),
        other => Err(Error::invalid(format!("{what}: a JSON object is expected, not {}", other.kind()))),
    }
}

impl RunOptions {
    /// Reads the JSON of the door. An empty text is no options.
    pub fn parse(text: &str) -> Result<Self> {
        let mut options = RunOptions::default();
        for (name, value) in members(text, "the options")? {
            options.set(&name, &value)?;
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
            _ if self.limits.set(name, value, name)? || *value == Value::Null => {}
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
            "concurrency" => self.concurrency = usize::try_from(number(1, 1024)?).ok(),
            "trace" => {
                let trace = value.as_str().filter(|trace| trace.len() <= 256);
                self.trace =
                    Some(trace.ok_or_else(|| bad_option(name, "text of at most 256 bytes", value))?.to_owned());
            }
            _ => {
                let known = ["version", "cache", "ttl_s", "concurrency", "trace"].iter().chain(RunLimits::NAMES);
                // Options of the library are called by their room.
                let meant = nearest(name.strip_prefix("sandbox.").unwrap_or(name), known.copied());
                let message = format!("a run has no option `{name}`{}", hint(meant, String::new));
                return Err(Error::invalid(message).path(name).suggestion(meant));
            }
        }
        Ok(())
    }
}

/// That an option does not take a value.
pub(crate) fn bad_option(name: &str, takes: &str, value: &Value) -> Error {
    let shown = value.to_text();
    let shown = if shown.len() <= 60 { shown } else { value.kind().to_owned() };
    Error::invalid(format!("the option `{name}` cannot be {shown}: it takes {takes}")).path(name).rule("range")
}
