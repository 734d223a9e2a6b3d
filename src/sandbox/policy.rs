//! What a run may use, and what this room can promise about it.

use std::time::Duration;

use crate::config::Config;
use crate::error::{Code, Error, Result};
use crate::json::Value;

/// The bounds of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Wall-clock time, from when the start of the interpreter is asked for.
    pub timeout: Duration,
    /// Processor time, in seconds.
    pub cpu_s: u64,
    /// Address space of each process of the run, in bytes.
    pub memory_bytes: u64,
    /// The private folder, and the largest file in it, in bytes.
    pub file_bytes: u64,
    /// Open descriptors.
    pub open_files: u64,
    /// Threads, where they can be counted.
    pub threads: u64,
    /// How much of stdout, and of stderr, is kept, in bytes.
    pub output_bytes: usize,
    /// The largest answer, in bytes of JSON text.
    pub answer_bytes: usize,
}

impl Limits {
    /// The bounds a configuration sets.
    pub fn of(config: &Config) -> Self {
        let bytes = |kib: u64| usize::try_from(kib.saturating_mul(1 << 10)).unwrap_or(usize::MAX);
        Limits {
            timeout: Duration::from_millis(config.sandbox_timeout_ms),
            cpu_s: config.sandbox_max_cpu_s,
            memory_bytes: config.sandbox_max_memory_mb << 20,
            file_bytes: config.sandbox_max_file_mb << 20,
            open_files: config.sandbox_max_open_files,
            threads: config.sandbox_max_threads,
            output_bytes: bytes(config.sandbox_max_output_kb),
            answer_bytes: bytes(config.sandbox_max_answer_kb),
        }
    }

    /// The bounds of what runs no skill: the probe, and the interpreter that checks a source. What a skill may take of the clock
    /// is not meant for them.
    pub fn of_checks(config: &Config) -> Self {
        Limits { timeout: PATIENCE, cpu_s: PATIENCE.as_secs(), ..Limits::of(config) }
    }

    /// What of it the kernel sees to, as `setrlimit` takes it: which, soft, hard.
    pub(super) fn of_resources(&self, counts_threads: bool) -> Vec<(u32, u64, u64)> {
        let mut all = vec![
            (libc::RLIMIT_AS, self.memory_bytes, self.memory_bytes),
            // SIGXCPU at the soft limit; a run that ignores it is killed a second later.
            (libc::RLIMIT_CPU, self.cpu_s, self.cpu_s + 1),
            (libc::RLIMIT_FSIZE, self.file_bytes, self.file_bytes),
            (libc::RLIMIT_NOFILE, self.open_files, self.open_files),
            (libc::RLIMIT_CORE, 0, 0),
        ];
        if counts_threads {
            // The supervisor is counted as well.
            all.push((libc::RLIMIT_NPROC, self.threads + 1, self.threads + 1));
        }
        all
    }
}

const PATIENCE: Duration = Duration::from_secs(20);

/// What `strict` promises, and how to get what is missing.
pub const GUARANTEES: [(&str, &str); 6] = [
    (
        "files",
        "needs mount namespaces (user namespaces, for a host without privilege) or Landlock (Linux 5.13) with seccomp",
    ),
    ("network", "needs network namespaces or seccomp"),
    ("processes", "needs seccomp, and a pid namespace or Landlock's scopes (Linux 6.12)"),
    ("memory", "needs limits of address space that the system does not override"),
    ("privilege", "needs no_new_privs and the right to drop capabilities"),
    ("kill", "needs seccomp or pid namespaces"),
];

/// What confines a run, as it was found out by trying on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Level {
    /// `strict`: every guarantee holds. `partial`: some do. `process-only`: limits and clean ends alone.
    pub name: &'static str,
    /// The layers in use: `user`, `net`, `ipc`, `uts`, `mount`, `pid`, `landlock-7`, `seccomp` ...
    pub layers: Vec<String>,
    /// The guarantees that do not hold.
    pub missing: Vec<&'static str>,
    /// Whether `max_threads` is counted; otherwise memory bounds the number of threads.
    pub counts_threads: bool,
}

impl Level {
    /// What there is, from everything to the least.
    pub const NAMES: [&'static str; 3] = ["strict", "partial", "process-only"];
    /// What a run that was not executed had.
    pub const NOT_RUN: &'static str = "none";

    /// Each guarantee and whether it holds.
    pub fn guarantees(&self) -> impl Iterator<Item = (&'static str, bool)> + '_ {
        GUARANTEES.iter().map(|(name, _)| (*name, !self.missing.contains(name)))
    }

    /// `{"level", "layers", "guarantees", "missing", "threads"}`; the last one says what bounds them, `count` or `memory`.
    pub fn to_value(&self) -> Value {
        Value::object([
            ("level", Value::from(self.name)),
            ("layers", Value::from(self.layers.clone())),
            ("guarantees", Value::object(self.guarantees().map(|(name, holds)| (name, Value::from(holds))))),
            ("missing", Value::from(self.missing.clone())),
            ("threads", Value::from(if self.counts_threads { "count" } else { "memory" })),
        ])
    }

    /// Reads what [`to_value`](Level::to_value) wrote; nothing if it is none of these levels.
    pub fn read(value: &Value) -> Option<Self> {
        let texts = |name: &str| {
            let items = value.get(name)?.as_array()?.iter();
            items.map(Value::as_str).collect::<Option<Vec<_>>>()
        };
        let known = |name: &str| GUARANTEES.iter().map(|(known, _)| *known).find(|known| *known == name);
        let level = value.get("level")?.as_str()?;
        Some(Level {
            name: Level::NAMES.into_iter().find(|name| *name == level)?,
            layers: texts("layers")?.into_iter().map(str::to_owned).collect(),
            missing: texts("missing")?.into_iter().map(known).collect::<Option<_>>()?,
            counts_threads: value.get("threads")?.as_str()? == "count",
        })
    }

    /// What does not hold, and how to get it; empty if everything does.
    pub fn lacks(&self) -> String {
        let missing = GUARANTEES.iter().filter(|(name, _)| self.missing.contains(name));
        missing.map(|(name, remedy)| format!("{name} ({remedy})")).collect::<Vec<_>>().join("; ")
    }

    /// Refuses what `strict` cannot accept.
    pub(super) fn demand_all(&self) -> Result<()> {
        if self.missing.is_empty() {
            return Ok(());
        }
        let message = format!(
            "sandbox.mode = strict cannot be had on this machine: missing are {}; in use are: {}. \
             sandbox.mode = best_effort runs without them",
            self.lacks(),
            if self.layers.is_empty() { "no layers".to_owned() } else { self.layers.join(", ") },
        );
        Err(Error::new(Code::Sandbox, message).missing(self.missing.clone()))
    }
}
