//! What this process uses, as the operating system sees it.

use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use crate::json::Value;

/// `{"rss_mb", "vms_mb", "percent"}` of this process, or `{"status": "unavailable"}` where they cannot be read.
pub fn report() -> Value {
    let unavailable = || Value::object([("status", Value::from("unavailable"))]);
    let Ok(mut system) = System::new() else { return unavailable() };
    system.refresh_memory();
    let pid = Pid::from_u32(std::process::id());
    system.refresh_processes_specifics(
        ProcessesToUpdate::Some(&[pid]),
        false,
        ProcessRefreshKind::nothing().with_memory(),
    );
    let Some(process) = system.process(pid).filter(|process| process.memory() > 0) else {
        return unavailable();
    };
    let mib = |bytes: u64| Value::from(bytes as f64 / f64::from(1 << 20));
    Value::object([
        ("status", Value::from("ok")),
        ("rss_mb", mib(process.memory())),
        ("vms_mb", mib(process.virtual_memory())),
        ("percent", Value::from(process.memory() as f64 * 100.0 / system.total_memory().max(1) as f64)),
    ])
}
