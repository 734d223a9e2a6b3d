//! What a library says of itself, held against what really happened: numbers that add up at every moment, and exactly the events, lines and
//! samples that the documentation promises.
//!
//! `SKC_MONITOR_SECONDS` says how long the numbers are watched under load.

mod child;
mod container;
mod history;
mod invariants;
mod libraries;
mod logs;
mod scenarios;
mod told;
mod unavailable;
