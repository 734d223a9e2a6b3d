//! The health report: whether each component works, really tried.

use std::sync::Arc;
use std::time::Duration;

use super::Library;
use super::probes::{Found, Probe, Probes, Reply};
use crate::config::Config;
use crate::error::{Code, Error, Result};
use crate::execution::Execution;
use crate::json::Value;
use crate::monitor::event;
use crate::store::DAMAGE_REMEDY;

/// Counts that have waited for longer than this are not on their way any more.
const LATE_COUNTS: Duration = Duration::from_secs(60);
/// For so long a write that was refused or failed is remembered.
const RECENT_REFUSAL: Duration = Duration::from_secs(60);

/// How a component is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Healthy,
    /// It works, and somebody should look at it.
    Degraded,
    Unhealthy,
}

/// What was found out about a component.
#[derive(Debug, Clone)]
pub(super) struct Condition {
    status: Status,
    message: String,
    /// What helps; nothing if it is healthy.
    remedy: Option<String>,
}

/// One part of a library.
struct Component {
    name: &'static str,
    /// Tries it, and waits for others no longer than this where it can choose.
    probe: fn(&Execution, Duration) -> Condition,
    /// What to do if there is no answer.
    remedy: &'static str,
}

const COMPONENTS: [Component; 6] = [
    Component { name: "store", probe: store, remedy: "see whether the disk of the database file still answers" },
    Component { name: "pool", probe: pool, remedy: "see whether the disk of the database file still answers" },
    Component {
        name: "cache",
        probe: cache,
        remedy: "open the library again, and report this: no lock of a cache is held for long",
    },
    Component {
        name: "sandbox",
        probe: sandbox,
        remedy: "see whether `python.executable` starts when it is called by hand, and what else keeps this machine busy",
    },
    Component {
        name: "interpreter",
        probe: interpreter,
        remedy: "see why `python.executable` does not end when it is called by hand, or open the library with another one",
    },
    Component { name: "policy", probe: policy, remedy: "see what else keeps this machine busy" },
];

impl Condition {
    fn healthy(message: impl Into<String>) -> Self {
        Condition { status: Status::Healthy, message: message.into(), remedy: None }
    }

    fn degraded(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Condition { status: Status::Degraded, message: message.into(), remedy: Some(remedy.into()) }
    }

    fn unhealthy(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Condition { status: Status::Unhealthy, message: message.into(), remedy: Some(remedy.into()) }
    }
}

/// The probes of a library.
pub(super) fn probes(config: &Config) -> Probes<Condition> {
    Probes::new(COMPONENTS.len(), Duration::from_millis(config.monitor_health_timeout_ms))
}

impl Library {
    /// Whether each part works, really tried: `{"status", "components"}`, as `docs/STATISTICS.md` describes it. Takes about
    /// `monitor.health_timeout_ms` at most, whatever hangs.
    pub fn health(&self) -> Result<Value> {
        self.check_open()?;
        let limit_ms = self.execution.config.monitor_health_timeout_ms;
        let limit = Duration::from_millis(limit_ms);
        // Who waits for others gives up in time to say for whom.
        let patience = limit - limit / 10;
        let asked: Vec<Probe<Condition>> = COMPONENTS
            .iter()
            .map(|component| -> Probe<Condition> {
                let execution = self.execution.clone();
                Arc::new(move || (component.probe)(&execution, patience))
            })
            .collect();
        let replies = self.probes.ask(&asked).ok_or_else(|| Error::new(Code::Closed, "the library is closed"))?;
        let answers: Vec<_> = COMPONENTS
            .iter()
            .zip(replies)
            .map(|(component, reply)| (component.name, component.condition(&reply, limit_ms), reply))
            .collect();
        let status = overall(answers.iter().map(|(_, condition, _)| condition.status));
        let components = answers.into_iter().map(|(name, condition, reply)| {
            (name, Value::Object([condition.to_members(&reply), self.more_of(name)].concat()))
        });
        Ok(Value::object([("status", Value::from(status.name())), ("components", Value::object(components))]))
    }

    /// What is known of a component beside its condition, without asking it.
    fn more_of(&self, component: &str) -> Vec<(String, Value)> {
        match component {
            "store" => vec![("check".to_owned(), self.execution.store.health().to_value())],
            "sandbox" => match self.execution.sandbox.known_level().map(|level| level.to_value()) {
                Some(Value::Object(members)) => members,
                _ => Vec::new(),
            },
            _ => Vec::new(),
        }
    }
}

/// One that is not healthy degrades the whole; two that do not work make it unhealthy.
fn overall(components: impl IntoIterator<Item = Status>) -> Status {
    let (mut sick, mut degraded) = (0, 0);
    for status in components {
        sick += usize::from(status == Status::Unhealthy);
        degraded += usize::from(status == Status::Degraded);
    }
    match (sick, degraded) {
        (0, 0) => Status::Healthy,
        (0 | 1, _) => Status::Degraded,
        _ => Status::Unhealthy,
    }
}

impl Status {
    fn name(self) -> &'static str {
        match self {
            Status::Healthy => "healthy",
            Status::Degraded => "degraded",
            Status::Unhealthy => "unhealthy",
        }
    }
}

impl Component {
    fn condition(&self, reply: &Reply<Condition>, limit_ms: u64) -> Condition {
        match &reply.found {
            Found::This(condition) => condition.clone(),
            Found::Panic => Condition::unhealthy(
                "looking at it met a bug in this library",
                "report it, with what the process has written to stderr",
            ),
            Found::Nothing { since } => Condition::unhealthy(
                format!(
                    "it has not answered since {}, for {} ms, and should within {limit_ms} (`monitor.health_timeout_ms`); it is not asked again \
                     before it has",
                    event::at(*since),
                    reply.took.as_millis()
                ),
                self.remedy,
            ),
        }
    }
}

impl Condition {
    fn to_members(&self, reply: &Reply<Condition>) -> Vec<(String, Value)> {
        let micros = u64::try_from(reply.took.as_micros()).unwrap_or(u64::MAX);
        let members = [
            ("status", Value::from(self.status.name())),
            ("message", Value::from(self.message.as_str())),
            ("remedy", Value::from(self.remedy.as_deref())),
            ("response_time_us", Value::from(micros)),
            ("timestamp", Value::from(event::at(reply.at))),
        ];
        members.map(|(name, value)| (name.to_owned(), value)).into()
    }
}

fn store(execution: &Execution, patience: Duration) -> Condition {
    let store = &execution.store;
    if let Some(fault) = store.health().fault() {
        return Condition::unhealthy(fault, DAMAGE_REMEDY);
    }
    if let Err(error) = store.probe(patience) {
        return Condition::unhealthy(error.message(), remedy_of_store(&error));
    }
    if store.is_read_only() {
        return Condition::healthy("the database answers; it is read only (`store.access`)");
    }
    if store.last_failure().is_some_and(|ago| ago < RECENT_REFUSAL) {
        let message = "the database answers, but a write failed within the last minute";
        return Condition::degraded(message, "see whether its disk is full or broken; the error of the call says why");
    }
    writing(store.unwritten(), store.last_refusal())
}

/// What to say of a database that answers: by the counts that wait to be written, how many and for how long, and by how long ago a write was
/// refused.
fn writing(unwritten: Option<(u64, Duration)>, last_refusal: Option<Duration>) -> Condition {
    if let Some((calls, age)) = unwritten.filter(|(_, age)| *age > LATE_COUNTS) {
        let message =
            format!("the database answers, but {calls} calls are counted and not written for {} s", age.as_secs());
        return Condition::degraded(
            message,
            "see why in the events `usage_unwritten`, or end what keeps the database locked",
        );
    }
    if last_refusal.is_some_and(|ago| ago < RECENT_REFUSAL) {
        let message =
            "the database answers, but writes were refused within the last minute because others were in their way";
        let remedy =
            "end what keeps the database locked, write from fewer threads at the same time, or raise `pool.timeout_ms`";
        return Condition::degraded(message, remedy);
    }
    Condition::healthy("the database answers")
}

fn remedy_of_store(error: &Error) -> &'static str {
    match error.code() {
        Code::Corrupt => DAMAGE_REMEDY,
        Code::Busy => "end what keeps the database locked",
        Code::PoolExhausted => "see what the calls that have not returned are waiting for",
        _ => "see whether the file is still there, its disk works, and this process may open more files",
    }
}

fn pool(execution: &Execution, patience: Duration) -> Condition {
    // First, because asking for a connection takes one.
    let warnings = execution.store.pool_stats().warnings();
    if let Err(error) = execution.store.probe_pool(patience) {
        let remedy = match error.code() {
            Code::PoolExhausted => {
                "see what the calls that have not returned are waiting for, or raise `pool.size` or `pool.max_overflow`"
            }
            _ => remedy_of_store(&error),
        };
        return Condition::unhealthy(error.message(), remedy);
    }
    if warnings.is_empty() {
        return Condition::healthy("connections are free when they are needed");
    }
    let (messages, mut remedies): (Vec<&str>, Vec<&str>) =
        warnings.iter().map(|warning| (warning.message.as_str(), warning.remedy)).unzip();
    remedies.dedup();
    Condition::degraded(messages.join("; "), remedies.join("; "))
}

/// A full cache is what one looks like that has been used for a while: it is healthy. `cache_utilization` and the recommendation
/// `cache-full` tell of it.
fn cache(execution: &Execution, _patience: Duration) -> Condition {
    match execution.probe_caches() {
        Ok(message) => Condition::healthy(message),
        Err(message) => {
            Condition::unhealthy(message, "empty it (`clear`), and report this: it is a bug in this library")
        }
    }
}

/// A level below `strict` is what `best_effort` asks for: healthy, and its message says what is missing.
fn sandbox(execution: &Execution, patience: Duration) -> Condition {
    let tried = execution.probe_sandbox(patience).and_then(|()| execution.sandbox.level());
    let level = match tried {
        Ok(level) => level,
        Err(error) => return Condition::unhealthy(error.message(), remedy_of_sandbox(&error)),
    };
    let layers = if level.layers.is_empty() { "no layers".to_owned() } else { level.layers.join(", ") };
    let mut message = format!("a child ran at the level `{}`: {layers}", level.name);
    if !level.missing.is_empty() {
        message += &format!("; not guaranteed, as `sandbox.mode` allows: {}", level.lacks());
    }
    Condition::healthy(message)
}

fn remedy_of_sandbox(error: &Error) -> &'static str {
    match error.code() {
        Code::Unsupported | Code::Invalid => remedy_of_interpreter(error),
        Code::Busy => "see what else takes this machine's processors, memory, processes and descriptors",
        _ if error.details().missing.is_empty() => {
            "see what a child needs in docs/SECURITY.md, and whether a layer is in its way (`sandbox.without`)"
        }
        _ => {
            "give this process what is missing, or open the library with `sandbox.mode` = `best_effort` to run without it"
        }
    }
}

fn interpreter(execution: &Execution, _patience: Duration) -> Condition {
    match execution.sandbox.probe_interpreter() {
        Ok(found) => Condition::healthy(format!("Python {}.{}", found.version.0, found.version.1)),
        Err(error) => Condition::unhealthy(error.message(), remedy_of_interpreter(&error)),
    }
}

fn remedy_of_interpreter(error: &Error) -> &'static str {
    match error.details().path.as_deref() {
        Some("python.site_packages") => {
            "open the library with `python.site_packages` = `off`, `on` or the absolute path of a folder that is there"
        }
        Some("python.executable") => {
            "put CPython 3.8 or newer where `python.executable` names it, or open the library with another one"
        }
        _ => "see what else takes this machine's processors, memory, processes and descriptors",
    }
}

fn policy(execution: &Execution, _patience: Duration) -> Condition {
    match execution.probe_policy() {
        Ok(()) => Condition::healthy(match execution.config.policy_mode.as_str() {
            "off" => "nobody looks at sources: `policy.mode` = `off`",
            "warn" => "what has no place in a skill is found, and only told: `policy.mode` = `warn`",
            _ => "what has no place in a skill is found and refused",
        }),
        Err(message) => Condition::unhealthy(
            message,
            "put no skills that you do not trust, and report this: it is a bug in this library",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::borrow;

    #[test]
    fn one_degrades_and_two_that_do_not_work_are_too_many() {
        use Status::{Degraded, Healthy, Unhealthy};
        for (components, expected) in [
            (vec![], Healthy),
            (vec![Healthy, Healthy], Healthy),
            (vec![Healthy, Degraded], Degraded),
            (vec![Degraded, Degraded, Degraded], Degraded),
            (vec![Healthy, Unhealthy], Degraded),
            (vec![Degraded, Unhealthy], Degraded),
            (vec![Unhealthy, Healthy, Unhealthy], Unhealthy),
        ] {
            assert_eq!(overall(components.clone()), expected, "{components:?}");
        }
    }

    #[test]
    fn what_cannot_be_written_degrades_the_store() {
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        for (unwritten, last_refusal, expected) in [
            (None, None, Status::Healthy),
            (Some((5, minute)), None, Status::Healthy),
            (Some((5, minute + second)), None, Status::Degraded),
            (None, Some(minute), Status::Healthy),
            (None, Some(minute - second), Status::Degraded),
            (None, Some(Duration::ZERO), Status::Degraded),
        ] {
            let condition = writing(unwritten, last_refusal);
            assert_eq!(condition.status, expected, "{unwritten:?} {last_refusal:?}");
            assert_eq!(condition.remedy.is_none(), expected == Status::Healthy);
        }
    }

    fn open(path: &str, options: &[(&str, &str)]) -> Library {
        let mut config = Config::default();
        config.set("monitor.health_timeout_ms", "120000").unwrap_or_else(|error| panic!("{error}"));
        for (name, value) in options {
            config.set(name, value).unwrap_or_else(|error| panic!("{error}"));
        }
        Library::open(path, &config).unwrap_or_else(|error| panic!("{error}"))
    }

    fn told<'h>(health: &'h Value, component: &str, member: &str) -> &'h str {
        let value = health.get("components").and_then(|components| components.get(component)?.get(member)?.as_str());
        value.unwrap_or_else(|| panic!("no {component}.{member}: {}", health.to_text()))
    }

    #[test]
    fn a_pool_without_connections_is_told_from_a_database_that_does_not_answer() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("skills.db").to_string_lossy().into_owned();
        let options = [("pool.size", "1"), ("pool.max_overflow", "0"), ("pool.timeout_ms", "50")];
        let library = open(&file, &options);
        let held = borrow(&library.execution.store);
        let health = library.health().expect("open");
        assert_eq!(told(&health, "pool", "status"), "unhealthy", "{}", health.to_text());
        assert!(told(&health, "pool", "message").starts_with("Connection pool exhausted!"), "{}", health.to_text());
        assert!(told(&health, "pool", "remedy").contains("pool.size"));
        assert_eq!(told(&health, "store", "status"), "healthy", "{}", health.to_text());
        assert_eq!(health.get("status").and_then(Value::as_str), Some("degraded"));
        drop(held);
        let health = library.health().expect("open");
        // The exhaustion was one, and is remembered for five minutes.
        assert_eq!(told(&health, "pool", "status"), "degraded", "{}", health.to_text());
    }

    #[test]
    fn the_one_connection_of_a_database_in_memory_is_the_stores() {
        let library = open(":memory:", &[("pool.timeout_ms", "50")]);
        let held = borrow(&library.execution.store);
        let health = library.health().expect("open");
        assert_eq!((told(&health, "store", "status"), told(&health, "pool", "status")), ("unhealthy", "healthy"));
        drop(held);
    }
}
