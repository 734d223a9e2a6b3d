//! Which layers can be had here, found out by having them.
//!
//! Versions and settings say little: a container's filter, a security module or a missing privilege takes a layer away
//! without notice. So layers are tried together, the strongest set first, on a child that makes the attempts of `probe.py`:
//! the set in which it starts and answers is the one that runs use, and what it was kept from are the guarantees.

use std::io::Write;
use std::net::TcpListener;

use super::confine::{LANDLOCK_SCOPES, Layers, landlock_abi};
use super::policy::{GUARANTEES, Level};
use super::{Ending, Job, Limits, Sandbox};
use crate::error::{Code, Error, Result};
use crate::json::Value;

/// Finds the strongest set of layers that works.
pub(super) fn find(sandbox: &Sandbox, limits: &Limits) -> Result<(Layers, Level)> {
    let bait = Bait::lay()?;
    let mut last = None;
    for layers in candidates(&sandbox.without) {
        match attempt(sandbox, limits, layers, &bait) {
            Ok(level) => return Ok((layers, level)),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| Error::new(Code::Sandbox, "no child could be started")))
}

/// The strongest first.
fn candidates(without: &str) -> Vec<Layers> {
    let is_used = |layer: &str| !without.split([',', ' ']).any(|left_out| left_out == layer);
    let abi = if is_used("landlock") { landlock_abi() } else { 0 };
    let mut candidates = Vec::new();
    for (namespaces, user) in [(true, false), (true, true), (false, false)] {
        if namespaces && !is_used("namespaces") {
            continue;
        }
        for seccomp in [true, false] {
            for landlock in [abi, 0] {
                let pid = namespaces && !(seccomp && landlock >= LANDLOCK_SCOPES);
                candidates.push(Layers { user, namespaces, pid, landlock, seccomp });
            }
        }
    }
    candidates.retain(|layers| is_used("seccomp") || !layers.seccomp);
    candidates.dedup();
    candidates
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

fn attempt(sandbox: &Sandbox, limits: &Limits, layers: Layers, bait: &Bait) -> Result<Level> {
    let inputs = Value::object([
        ("file", Value::from(bait.file.path().to_string_lossy().into_owned())),
        ("port", Value::from(u32::from(bait.port()))),
        ("pid", Value::from(std::process::id())),
        ("memory", Value::from(limits.memory_bytes.saturating_mul(2))),
    ]);
    let job = Job { code: include_str!("probe.py"), globals: vec![("inputs", &inputs)], ..Job::default() };
    let report = sandbox.run_within(layers, &job, limits, None)?;
    let answer = match &report.ending {
        Ending::Answer(text) => Value::parse(text).ok(),
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
    Ok(Level { name, layers: names(layers), missing })
}

fn names(layers: Layers) -> Vec<String> {
    let mut names = Vec::new();
    if layers.namespaces {
        names.extend(layers.user.then_some("user"));
        names.extend(["net", "ipc", "uts", "mount"]);
        names.extend(layers.pid.then_some("pid"));
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
