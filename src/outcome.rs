//! How a run can end.

use std::ffi::CStr;

/// How a run ended. Every run that could be carried out ends in exactly one of these; the numbers cross the C door and
/// never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Outcome {
    /// The skill set `result` to a JSON value that obeys its output schema.
    Success = 0,
    /// An exception was not caught.
    Error = 1,
    /// The skill ended without setting `result`.
    NoResult = 2,
    /// The inputs break the skill's input schema; nothing ran.
    InvalidInput = 3,
    /// `result` is not a JSON value, or breaks the skill's output schema.
    InvalidOutput = 4,
    /// The stored version is refused by today's rules (another interpreter, a deactivated skill); nothing ran.
    Rejected = 5,
    /// The skill was refused something by the operating system (EPERM, EACCES) and did not catch it.
    Denied = 6,
    /// Wall-clock or processor time ran out.
    Timeout = 7,
    /// Memory ran out.
    MemoryLimit = 8,
    /// The answer is larger than its bound.
    OutputLimit = 9,
    /// A file grew beyond its bound, or the disk is full.
    DiskLimit = 10,
    /// The process ended without an answer: a signal, an exit, a broken answer channel.
    Crashed = 11,
    /// The run was cancelled.
    Cancelled = 12,
}

impl Outcome {
    /// Every outcome, in the order of its number.
    pub const ALL: [Outcome; 13] = [
        Outcome::Success,
        Outcome::Error,
        Outcome::NoResult,
        Outcome::InvalidInput,
        Outcome::InvalidOutput,
        Outcome::Rejected,
        Outcome::Denied,
        Outcome::Timeout,
        Outcome::MemoryLimit,
        Outcome::OutputLimit,
        Outcome::DiskLimit,
        Outcome::Crashed,
        Outcome::Cancelled,
    ];

    /// Its name: `success`, `error`, `no_result` ...
    pub fn name(self) -> &'static str {
        self.c_name().to_str().unwrap_or("unknown")
    }

    /// Whether the skill is to blame: not its caller, who gave bad input or cancelled, nor its host, which refused something.
    pub fn blames_skill(self) -> bool {
        use Outcome::{Crashed, DiskLimit, Error, InvalidOutput, MemoryLimit, NoResult, OutputLimit, Timeout};
        matches!(self, Error | NoResult | InvalidOutput | Timeout | MemoryLimit | OutputLimit | DiskLimit | Crashed)
    }

    /// The name, NUL-terminated for the door.
    pub const fn c_name(self) -> &'static CStr {
        match self {
            Outcome::Success => c"success",
            Outcome::Error => c"error",
            Outcome::NoResult => c"no_result",
            Outcome::InvalidInput => c"invalid_input",
            Outcome::InvalidOutput => c"invalid_output",
            Outcome::Rejected => c"rejected",
            Outcome::Denied => c"denied",
            Outcome::Timeout => c"timeout",
            Outcome::MemoryLimit => c"memory_limit",
            Outcome::OutputLimit => c"output_limit",
            Outcome::DiskLimit => c"disk_limit",
            Outcome::Crashed => c"crashed",
            Outcome::Cancelled => c"cancelled",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_frozen() {
        for (number, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, number);
        }
        let names: Vec<_> = Outcome::ALL.iter().map(|outcome| outcome.name()).collect();
        assert_eq!(
            names.join(" "),
            "success error no_result invalid_input invalid_output rejected denied timeout memory_limit output_limit \
             disk_limit crashed cancelled"
        );
    }
}
