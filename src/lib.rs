//! The skill library that agents embed.
//!
//! An agent (an LLM, a game character, a trading bot) writes small Python programs, *skills*. This library stores them
//! durably, finds them again, binds run-time data into them, runs them where they can do no harm, never runs the
//! same thing twice, and reports what it does. No daemon, no network, one SQLite file.
//!
//! ```
//! use skillcache::{Config, Data, Library, Outcome, RunOptions, Skill};
//!
//! # fn main() -> skillcache::Result<()> {
//! let library = Library::open(":memory:", &Config::default())?;
//! library.put(&Skill::new("mean", "result = sum(inputs['x']) / len(inputs['x'])"))?;
//! let data = Data::parse(r#"{"inputs": {"x": [1, 2, 6]}}"#)?;
//! let result = library.run("mean", data.clone(), &RunOptions::default())?;
//! assert_eq!((result.outcome, result.value.as_deref()), (Outcome::Success, Some("3.0")));
//! assert!(library.run("mean", data, &RunOptions::default())?.is_cached);
//! # Ok(())
//! # }
//! ```
//!
//! # The house
//!
//! `capi` is the C door, `library` the facade, `execution` one run from key to kept result; `cache`, `store`, `python`
//! and `sandbox` are four rooms that do not know each other; `task` queues what `library` submits, `call` and `result` are
//! what goes into a run and what comes out; `monitor`, `error`, `config`, `limits`, `json`, `skill`, `held`, `sync` and
//! `outcome` are the ground floor. Imports run downwards only.
//!
//! # Limits
//!
//! Linux with glibc, CPython 3.8 or newer. Runs are confined by the kernel (`docs/SECURITY.md`): by default nothing runs on a
//! machine where that cannot be had. `sandbox.mode = best_effort` runs with what there is, and every result says what that was.

#![deny(missing_docs, unsafe_code, unsafe_op_in_unsafe_fn)]
#![warn(clippy::undocumented_unsafe_blocks, clippy::unwrap_used)]

// Public for benchmarks alone, as is `store`: not part of what versions promise.
#[doc(hidden)]
pub mod cache;
mod call;
#[allow(unsafe_code, reason = "raw pointers end here")]
pub mod capi;
pub mod config;
pub mod error;
// Public for `fuzz` alone.
#[doc(hidden)]
pub mod exchange;
mod execution;
mod held;
pub mod json;
mod library;
pub mod limits;
mod monitor;
mod outcome;
pub mod python;
mod result;
#[allow(unsafe_code, reason = "starting and reaping children takes system calls that have no safe form")]
mod sandbox;
pub mod skill;
#[doc(hidden)]
pub mod store;
mod sync;
mod task;

pub use call::{CacheMode, Data, RunOptions};
pub use config::Config;
pub use error::{Code, Error, Result};
pub use exchange::Format;
pub use execution::{Method, Script};
pub use library::{
    EventCallback, ExportOptions, ImportOptions, Library, LogCallback, OnConflict, Versions, parse_items,
};
pub use limits::RunLimits;
pub use outcome::Outcome;
pub use result::{Failure, RunResult};
pub use sandbox::{Capture, Level, Usage};
pub use skill::Skill;
pub use store::{Filter, Match, Query};
pub use task::Task;
