//! What a run may use, and what this room can promise about it.

use std::time::Duration;

use crate::config::Config;
use crate::error::{Code, Error, Result};

/// The bounds of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Wall-clock time from the start of the interpreter.
    pub timeout: Duration,
    /// Processor time, in seconds.
    pub cpu_s: u64,
    /// Address space of each process of the run, in bytes.
    pub memory_bytes: u64,
    /// The largest file, in bytes.
    pub file_bytes: u64,
    /// Open descriptors.
    pub open_files: u64,
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
            output_bytes: bytes(config.sandbox_max_output_kb),
            answer_bytes: bytes(config.sandbox_max_answer_kb),
        }
    }
}

/// The level every run reaches today: its own session, environment, folder, limits and channels, and no help from the
/// kernel's security modules.
pub const LEVEL: &str = "process-only";

/// What `strict` demands and this version cannot give. The kernel layers that will are the sandbox's next work.
pub const MISSING_GUARANTEES: [&str; 6] = ["files", "network", "processes", "memory", "privilege", "kill"];

/// Refuses a mode that cannot be had.
pub fn check_mode(mode: &str) -> Result<()> {
    if mode != "strict" {
        return Ok(());
    }
    let missing = MISSING_GUARANTEES.join(", ");
    let message = format!(
        "sandbox.mode = strict cannot be had: these guarantees are missing: {missing}; \
         sandbox.mode = best_effort runs without them (level `{LEVEL}`)"
    );
    Err(Error::new(Code::Sandbox, message).missing(MISSING_GUARANTEES))
}
