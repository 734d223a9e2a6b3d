//! Finding and ending what a run started, where neither the filter nor a pid namespace sees to it.
//!
//! The supervisor is a subreaper, so whatever a run starts stays below it in the process tree, however often it forks and
//! detaches. The interpreter is stopped while its descendants are looked up and killed until none is left. What belongs to
//! a run whose supervisor is gone is found by the mark that every process of a run inherits in its environment.
//!
//! This is what an ordinary process can do. A process that kills the supervisor, detaches *and* drops its environment
//! escapes it; only a kernel sandbox closes that, which is why the level is called process-only.

use std::collections::HashMap;
use std::fs;

use rustix::process::{Pid, Signal, kill_process};

/// The environment variable that marks the processes of a run.
pub(super) const MARK: &str = "SKILLCACHE_RUN";
/// A tree that grows faster than this many sweeps can cut it is left to the next limit.
const MAX_SWEEPS: usize = 100;

/// Ends everything below a run's supervisor.
pub(super) fn sweep(root: Pid, mark: &[u8]) {
    for _ in 0..MAX_SWEEPS {
        let victims = members(root, mark);
        if victims.is_empty() {
            return;
        }
        for pid in victims {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// The living processes of a run, its root aside.
fn members(root: Pid, mark: &[u8]) -> Vec<Pid> {
    let root = root.as_raw_nonzero().get();
    let parents: HashMap<i32, i32> =
        younger_than(root).filter_map(|pid| Some((pid, parent_unless_dead(pid)?))).collect();
    let is_below = |mut pid: i32| {
        for _ in 0..=parents.len() {
            match parents.get(&pid) {
                Some(&parent) if parent == root => return true,
                Some(&parent) => pid = parent,
                None => return false,
            }
        }
        false
    };
    let found = parents.keys().copied().filter(|&pid| is_below(pid) || carries(pid, mark));
    found.filter_map(Pid::from_raw).collect()
}

/// Processes that may have been started after `root`: those with a larger number, or all once the numbers wrapped.
fn younger_than(root: i32) -> impl Iterator<Item = i32> {
    let last = fs::read_to_string("/proc/loadavg").ok();
    let last = last.and_then(|text| text.trim_end().rsplit(' ').next()?.parse::<i32>().ok());
    let wrapped = last.is_none_or(|last| last < root);
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(move |&pid| pid > root || (wrapped && pid != root))
}

fn parent_unless_dead(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold anything, so the fields are counted from its end.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") { None } else { fields.next()?.parse().ok() }
}

fn carries(pid: i32, mark: &[u8]) -> bool {
    let wanted = [MARK.as_bytes(), b"=", mark].concat();
    let environment = fs::read(format!("/proc/{pid}/environ"));
    environment.is_ok_and(|bytes| bytes.split(|byte| *byte == 0).any(|entry| entry == wanted))
}
