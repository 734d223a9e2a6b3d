//! The largest resident size of a run.
//!
//! The kernel keeps it for a living process (`VmHWM`) and forgets it with its memory. What `wait` says instead is of no use: a
//! process that began by sharing the host's memory begins with the host's size. So it is read when a run has answered
//! or is about to be ended, and, for those that crash, now and then before.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use rustix::process::Pid;

use super::launch::Child;

const FIRST: Duration = Duration::from_millis(10);
/// The intervals double up to this one.
const LONGEST: Duration = Duration::from_millis(500);

/// Reads one run's memory.
#[derive(Debug)]
pub(super) struct MemoryGauge {
    status: Option<File>,
    peak: u64,
    interval: Duration,
    due: Instant,
}

impl Default for MemoryGauge {
    fn default() -> Self {
        MemoryGauge { status: None, peak: 0, interval: FIRST, due: Instant::now() + FIRST }
    }
}

impl MemoryGauge {
    /// How long to wait for the next sample.
    pub fn patience(&self) -> Duration {
        self.due.saturating_duration_since(Instant::now())
    }

    /// Takes a sample, if it is time for one.
    pub fn sample(&mut self, child: &mut Child) {
        if self.patience().is_zero() {
            self.read(child);
            self.interval = (self.interval * 2).min(LONGEST);
            self.due = Instant::now() + self.interval;
        }
    }

    /// Reads it now.
    pub fn read(&mut self, child: &mut Child) {
        if self.status.is_none() {
            let pid = child.pid();
            let open = |pid: Pid| File::open(format!("/proc/{}/status", pid.as_raw_nonzero())).ok();
            // The number may have become another's before the file was open.
            self.status = pid.and_then(|pid| open(pid).filter(|_| child.is_still(pid)));
        }
        let mut text = [0u8; 4096];
        let read = self.status.as_ref().and_then(|status| status.read_at(&mut text, 0).ok());
        self.peak = self.peak.max(high_water_mark(&text[..read.unwrap_or(0)]).unwrap_or(0));
    }

    /// The largest size read, in bytes; 0 if there was none to read.
    pub fn peak(&self) -> u64 {
        self.peak
    }
}

fn high_water_mark(status: &[u8]) -> Option<u64> {
    let line = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"VmHWM:"))?;
    let kib = std::str::from_utf8(line).ok()?.trim().trim_end_matches(" kB");
    kib.parse::<u64>().ok().map(|kib| kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_is_found_among_other_lines() {
        assert_eq!(high_water_mark(b"Name:\tx\nVmHWM:\t   12 kB\nVmRSS:\t 3 kB\n"), Some(12 << 10));
        assert_eq!(high_water_mark(b"Name:\tx\nState:\tZ (zombie)\n"), None);
        let own = std::fs::read("/proc/self/status").expect("proc");
        assert!(high_water_mark(&own).is_some_and(|size| size > 1 << 20));
    }
}
