//! Which layers can be had here, found out by having them.
//!
//! Versions and settings say little: a container's filter, a security module or a missing privilege takes a layer away
//! without notice. So layers are tried together, the strongest set first, on a child that makes the attempts of `probe.py`:
//! the set in which it starts and answers is the one that runs use, and what it was kept from are the guarantees.

use std::io::Write;
use std::net::TcpListener;
use std::sync::Arc;

use super::confine::{Layers, landlock_abi};
use super::launch::Launcher;
use super::policy::{GUARANTEES, Level};
use super::run::cannot_start;
use super::{Ending, Found, Job, Limits, Sandbox};
use crate::error::{Code, Error, Result};
use crate::json::Value;

/// Finds the strongest set of layers that works.
pub(super) fn find(sandbox: &Sandbox, limits: &Limits) -> Result<Found> {
    // Once, and not for each of what follows: one that hangs is waited for long enough.
    sandbox.interpreter()?;
    let bait = Bait::lay()?;
    let mut first = None;
    for layers in candidates(&sandbox.without) {
        match attempt(sandbox, limits, layers, &bait) {
            Ok(found) => return Ok(found),
            // A machine that is short of something now says nothing about what it has: the next call tries again.
            Err(error) if error.code() == Code::Busy => return Err(error),
            Err(error) => first = first.or(Some(error)),
        }
    }
    Err(first.unwrap_or_else(|| Error::new(Code::Sandbox, "no child could be started")))
}

/// The strongest first.
fn candidates(without: &str) -> Vec<Layers> {
    let is_used = |layer: &str| !without.split([',', ' ']).any(|left_out| left_out == layer);
    let abi = if is_used("landlock") { landlock_abi() } else { 0 };
    let is_root = is_root_outside();
    let mut candidates = Vec::new();
    for (namespaces, user) in [(true, false), (true, true), (false, false)] {
        if namespaces && !is_used("namespaces") {
            continue;
        }
        for seccomp in [true, false] {
            for landlock in [abi, 0] {
                candidates.push(Layers { user, threads: user && !is_root, namespaces, landlock, seccomp });
            }
        }
    }
    candidates.retain(|layers| is_used("seccomp") || !layers.seccomp);
    candidates.dedup();
    candidates
}

/// Whether this process's user is root outside of its user namespace as well, as far as can be seen from here.
fn is_root_outside() -> bool {
    let own = u64::from(rustix::process::geteuid().as_raw());
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.lines().any(|line| {
        let numbers: Vec<u64> = line.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        matches!(numbers[..], [inside, outside, count] if (inside..inside + count).contains(&own) && outside + (own - inside) == 0)
    })
}

/// What a run must not reach: a file that its user may read and write, and a port that answers.
struct Bait {
    file: tempfile::NamedTempFile,
    listener: TcpListener,
}

impl Bait {
    fn lay() -> Result<Self> {
        let lay = || -> std::io::Result<Self> {
            let mut file = tempfile::Builder::new().prefix("skillcache-probe-").tempfile()?;
            file.write_all(b"bait")?;
            Ok(Bait { file, listener: TcpListener::bind("127.0.0.1:0")? })
        };
        lay().map_err(|error| Error::new(Code::Sandbox, format!("the sandbox cannot be probed: {error}")))
    }

    fn port(&self) -> u16 {
        self.listener.local_addr().map_or(9, |address| address.port())
    }
}

fn attempt(sandbox: &Sandbox, limits: &Limits, layers: Layers, bait: &Bait) -> Result<Found> {
    let inputs = Value::object([
        ("file", Value::from(bait.file.path().to_string_lossy().into_owned())),
        ("port", Value::from(u32::from(bait.port()))),
        ("pid", Value::from(std::process::id())),
        ("memory", Value::from(limits.memory_bytes.saturating_mul(2))),
    ]);
    let job = Job { code: include_str!("probe.py"), globals: vec![("inputs", &inputs)], ..Job::default() };
    let shared = if layers.shares_tree() { Some(sandbox.tree()?) } else { None };
    let launcher = Launcher::start(shared).map_err(|error| cannot_start(&error))?;
    let report = sandbox.run_within(layers, &launcher, &job, limits, None)?;
    let answer = match &report.ending {
        Ending::Answer(text) => Value::parse(text).ok(),
        Ending::Timeout { .. } => {
            return Err(Error::new(Code::Busy, "the machine is too busy to find out what confines runs"));
        }
        _ => None,
    };
    let answer = answer.ok_or_else(|| {
        let stderr = String::from_utf8_lossy(&report.stderr.bytes);
        let said = stderr.lines().last().unwrap_or_default();
        Error::new(Code::Sandbox, format!("the sandbox cannot be probed: {:?} {said}", report.ending))
    })?;
    let holds = |name: &str| answer.get(name) == Some(&Value::Bool(true));
    let missing: Vec<&str> = GUARANTEES.iter().map(|(name, _)| *name).filter(|name| !holds(name)).collect();
    let name = match missing.len() {
        0 => "strict",
        _ if layers == Layers::NONE => "process-only",
        _ => "partial",
    };
    let level = Arc::new(Level { name, layers: names(layers), missing, counts_threads: layers.threads });
    Ok(Found { layers, level, launcher })
}

fn names(layers: Layers) -> Vec<String> {
    let mut names = Vec::new();
    if layers.namespaces {
        names.extend(layers.user.then_some("user"));
        names.extend(["net", "ipc", "uts", "mount", "pid"]);
    }
    let mut names: Vec<String> = names.into_iter().map(str::to_owned).collect();
    if layers.landlock > 0 {
        names.push(format!("landlock-{}", layers.landlock));
    }
    if layers.seccomp {
        names.push("seccomp".to_owned());
    }
    names
}
