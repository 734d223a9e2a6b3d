//! The one error type, and the stable codes that cross the C door.

use std::fmt;

use crate::json::Value;

/// What went wrong, as a number that never changes meaning. The numbers are those of `skc_status` in C.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Code {
    /// An argument is wrong: NULL, not UTF-8, not JSON, out of range, unknown.
    Invalid = 10,
    /// No skill of that id, or no such version of it.
    NotFound = 11,
    /// `expected_version` is not the newest version.
    Conflict = 12,
    /// The time given to the call ran out. The call may be repeated.
    Timeout = 13,
    /// The library was closed while the call waited.
    Cancelled = 14,
    /// The confinement asked for cannot be had on this machine.
    Sandbox = 15,
    /// The database could not be opened, read or written.
    Database = 16,
    /// A queue is full or another process holds the write lock. The call may be repeated.
    Busy = 17,
    /// The call was made in a child of `fork()`; only the process that opened the library may use it.
    Forked = 18,
    /// A bug in this library: a panic was caught at the door.
    Panic = 19,
    /// What was asked for is not supported: a language, an interpreter, a platform.
    Unsupported = 20,
    /// The code is not Python the interpreter accepts.
    Syntax = 21,
    /// The policy refuses the code; the details have every finding.
    Security = 22,
    /// A value that had to be cached (`cache = required`) does not fit or must not be cached.
    CacheOverflow = 23,
    /// No database connection became free in time.
    PoolExhausted = 24,
    /// The file is not a database, or a damaged one.
    Corrupt = 25,
    /// The database was written by a newer version of this library.
    NewerDatabase = 26,
    /// The skill record is refused: a bad schema, a missing package or required skill.
    Validation = 27,
    /// The library is closed.
    Closed = 28,
}

impl Code {
    /// Every code, in the order of its number.
    pub const ALL: [Code; 19] = [
        Code::Invalid,
        Code::NotFound,
        Code::Conflict,
        Code::Timeout,
        Code::Cancelled,
        Code::Sandbox,
        Code::Database,
        Code::Busy,
        Code::Forked,
        Code::Panic,
        Code::Unsupported,
        Code::Syntax,
        Code::Security,
        Code::CacheOverflow,
        Code::PoolExhausted,
        Code::Corrupt,
        Code::NewerDatabase,
        Code::Validation,
        Code::Closed,
    ];

    /// The name of the constant in C, without its `SKC_` prefix, NUL-terminated for the door.
    pub const fn c_name(self) -> &'static std::ffi::CStr {
        match self {
            Code::Invalid => c"E_INVALID",
            Code::NotFound => c"E_NOT_FOUND",
            Code::Conflict => c"E_CONFLICT",
            Code::Timeout => c"E_TIMEOUT",
            Code::Cancelled => c"E_CANCELLED",
            Code::Sandbox => c"E_SANDBOX",
            Code::Database => c"E_DATABASE",
            Code::Busy => c"E_BUSY",
            Code::Forked => c"E_FORKED",
            Code::Panic => c"E_PANIC",
            Code::Unsupported => c"E_UNSUPPORTED",
            Code::Syntax => c"E_SYNTAX",
            Code::Security => c"E_SECURITY",
            Code::CacheOverflow => c"E_CACHE_OVERFLOW",
            Code::PoolExhausted => c"E_POOL_EXHAUSTED",
            Code::Corrupt => c"E_CORRUPT",
            Code::NewerDatabase => c"E_NEWER_DATABASE",
            Code::Validation => c"E_VALIDATION",
            Code::Closed => c"E_CLOSED",
        }
    }

    /// The same name as a string slice.
    pub fn name(self) -> &'static str {
        self.c_name().to_str().unwrap_or("E_UNKNOWN")
    }

    /// Whether the same call may succeed when it is simply repeated later.
    pub fn is_retriable(self) -> bool {
        matches!(self, Code::Timeout | Code::Busy | Code::PoolExhausted)
    }
}

/// Where and what exactly: every member is absent unless it applies.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Details {
    /// Line in the code or JSON text, from 1.
    pub line: Option<u32>,
    /// Column in that line, from 1, in characters.
    pub column: Option<u32>,
    /// Where in the data: `$.inputs.prices[3]`.
    pub path: Option<String>,
    /// Which rule refused it: a JSON Schema keyword, a policy rule.
    pub rule: Option<String>,
    /// What is not there: packages, required skills, sandbox guarantees.
    pub missing: Vec<String>,
    /// What was perhaps meant.
    pub suggestion: Option<String>,
    /// What the policy found, if that is the reason: the objects that `validate` lists.
    pub findings: Vec<Value>,
    /// What was done before it, for calls that do many things one after another: the report that they would have given.
    pub report: Option<Value>,
}

#[derive(Debug, Clone, PartialEq)]
struct Inner {
    code: Code,
    message: String,
    details: Details,
}

/// A call that could not be carried out: a stable code, a sentence for people, details for programs.
///
/// A *run that fails inside the skill* is not an error but an [`Outcome`](crate::Outcome).
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{}", .0.message)]
pub struct Error(Box<Inner>);

/// The result of every fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of this code that says `message`.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Error(Box::new(Inner { code, message: message.into(), details: Details::default() }))
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Error::new(Code::Invalid, message)
    }

    pub(crate) fn validation(message: impl Into<String>) -> Self {
        Error::new(Code::Validation, message)
    }

    /// The stable code.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// One sentence: what was wrong, where, and what would be right.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The details for programs.
    pub fn details(&self) -> &Details {
        &self.0.details
    }

    pub(crate) fn at(mut self, line: u32, column: u32) -> Self {
        self.0.details.line = Some(line);
        self.0.details.column = Some(column);
        self
    }

    pub(crate) fn path(mut self, path: impl Into<String>) -> Self {
        self.0.details.path = Some(path.into());
        self
    }

    pub(crate) fn rule(mut self, rule: impl Into<String>) -> Self {
        self.0.details.rule = Some(rule.into());
        self
    }

    pub(crate) fn missing<S: fmt::Display>(mut self, missing: impl IntoIterator<Item = S>) -> Self {
        self.0.details.missing = missing.into_iter().map(|name| name.to_string()).collect();
        self
    }

    pub(crate) fn findings(mut self, findings: Vec<Value>) -> Self {
        self.0.details.findings = findings;
        self
    }

    pub(crate) fn report(mut self, report: Value) -> Self {
        self.0.details.report = Some(report);
        self
    }

    pub(crate) fn suggestion(mut self, suggestion: Option<impl Into<String>>) -> Self {
        self.0.details.suggestion = suggestion.map(Into::into);
        self
    }

    /// The whole error as one JSON object; members that do not apply are absent.
    pub fn to_json(&self) -> String {
        let Inner { code, message, details } = &*self.0;
        let mut object = vec![
            ("code", Value::from(*code as i64)),
            ("name", Value::from(code.name())),
            ("message", Value::from(message.as_str())),
        ];
        object.extend(details.line.map(|line| ("line", Value::from(i64::from(line)))));
        object.extend(details.column.map(|column| ("column", Value::from(i64::from(column)))));
        object.extend(details.path.as_deref().map(|path| ("path", Value::from(path))));
        object.extend(details.rule.as_deref().map(|rule| ("rule", Value::from(rule))));
        if !details.missing.is_empty() {
            let missing = details.missing.iter().map(|name| Value::from(name.as_str())).collect();
            object.push(("missing", Value::Array(missing)));
        }
        object.extend(details.suggestion.as_deref().map(|other| ("suggestion", Value::from(other))));
        if !details.findings.is_empty() {
            object.push(("findings", Value::Array(details.findings.clone())));
        }
        object.extend(details.report.as_ref().map(|report| ("report", report.clone())));
        object.push(("retriable", Value::Bool(code.is_retriable())));
        Value::object(object).to_text()
    }
}

/// The known name nearest to an unknown one, if any is near enough to be what was meant.
pub(crate) fn nearest<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // 0.75 keeps transpositions and dropped syllables and drops names that share only a room's prefix.
    const NEAR_ENOUGH: f64 = 0.75;
    known
        .into_iter()
        .map(|name| (strsim::normalized_damerau_levenshtein(unknown, name), name))
        .chain(std::iter::once((NEAR_ENOUGH * 0.8, "")))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
        .filter(|name| !name.is_empty())
}

/// What to say after "there is no such name": which was meant, or something else.
pub(crate) fn hint(meant: Option<&str>, otherwise: impl FnOnce() -> String) -> String {
    meant.map_or_else(otherwise, |meant| format!("; did you mean `{meant}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_frozen() {
        let frozen = "10 E_INVALID,11 E_NOT_FOUND,12 E_CONFLICT,13 E_TIMEOUT,14 E_CANCELLED,15 E_SANDBOX,16 E_DATABASE,\
                      17 E_BUSY,18 E_FORKED,19 E_PANIC,20 E_UNSUPPORTED,21 E_SYNTAX,22 E_SECURITY,23 E_CACHE_OVERFLOW,\
                      24 E_POOL_EXHAUSTED,25 E_CORRUPT,26 E_NEWER_DATABASE,27 E_VALIDATION,28 E_CLOSED";
        let now: Vec<_> = Code::ALL.iter().map(|code| format!("{} {}", *code as i32, code.name())).collect();
        assert_eq!(now.join(","), frozen);
    }

    #[test]
    fn json_carries_only_what_applies() {
        let error = Error::invalid("no \"such\" thing").at(3, 5).path("$.a").missing(["numpy"]);
        assert_eq!(
            error.to_json(),
            r#"{"code":10,"name":"E_INVALID","message":"no \"such\" thing","line":3,"column":5,"path":"$.a","missing":["numpy"],"retriable":false}"#
        );
    }

    #[test]
    fn nearest_finds_slips_and_nothing_else() {
        let known = ["sandbox.timeout_ms", "sandbox.mode", "pool.size"];
        assert_eq!(nearest("sandbox.timeoutms", known), Some("sandbox.timeout_ms"));
        assert_eq!(nearest("pool.sise", known), Some("pool.size"));
        assert_eq!(nearest("colour", known), None);
    }
}
