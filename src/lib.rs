//! The skill library that agents embed.
//!
//! An agent (an LLM, a game character, a trading bot) writes small Python programs, *skills*. This library stores them
//! durably, finds them again, binds run-time data into them, runs them in a child process with limits, never runs the
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
//! and `sandbox` are four rooms that do not know each other; `monitor`, `error`, `config`, `json`, `skill` and `outcome`
//! are the ground floor. Imports run downwards only.
//!
//! # Limits
//!
//! Linux with glibc, CPython 3.8 or newer. Runs are confined at the level `process-only`: limits, a clean environment and
//! a clean end, but no kernel sandbox yet. Run only code whose author you would let run as your user.

#![deny(missing_docs, unsafe_code, unsafe_op_in_unsafe_fn)]
#![warn(clippy::undocumented_unsafe_blocks, clippy::unwrap_used)]

mod cache;
mod call;
#[allow(unsafe_code, reason = "raw pointers end here")]
pub mod capi;
pub mod config;
pub mod error;
mod execution;
pub mod json;
mod library;
mod monitor;
mod outcome;
pub mod python;
mod result;
#[allow(unsafe_code, reason = "starting and reaping children takes system calls that have no safe form")]
mod sandbox;
pub mod skill;
mod store;
mod task;

pub use call::{CacheMode, Data, RunOptions};
pub use config::Config;
pub use error::{Code, Error, Result};
pub use execution::{Method, Script};
pub use library::{EventCallback, Library, parse_items};
pub use outcome::Outcome;
pub use result::{Failure, RunResult};
pub use sandbox::Capture;
pub use skill::Skill;
pub use store::Filter;
pub use task::Task;
