//! Events: a bounded ring that never blocks a run.
//!
//! When the ring is full the oldest event is dropped and counted. Each event goes to one consumer: whoever polls, or the
//! callback a library was opened with.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustix::event::{EventfdFlags, eventfd};

use crate::error::{Code, Error, Result};
use crate::json::Value;

/// How serious an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Good to know.
    Info,
    /// Somebody should look at it.
    Warning,
    /// Something is broken and stays so until somebody does something about it.
    Error,
}

impl Severity {
    /// `info`, `warning` or `error`.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

/// A bounded queue of events as JSON text.
#[derive(Debug)]
pub struct EventRing {
    inner: Mutex<Inner>,
    arrived: Condvar,
    /// Readable while events wait.
    readable: OwnedFd,
    capacity: usize,
}

#[derive(Debug, Default)]
struct Inner {
    events: VecDeque<String>,
    recorded: u64,
    dropped: u64,
    is_closed: bool,
}

impl EventRing {
    /// A ring for `capacity` events. Fails when the process is out of descriptors.
    pub fn new(capacity: u64) -> Result<Self> {
        let readable = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| Error::new(Code::Busy, format!("no descriptor for events: {error}")))?;
        let capacity = usize::try_from(capacity).unwrap_or(usize::MAX).max(1);
        Ok(EventRing { inner: Mutex::default(), arrived: Condvar::new(), readable, capacity })
    }

    /// Records an event.
    pub fn push(&self, kind: &str, severity: Severity, message: &str, fields: Vec<(&str, Value)>) {
        let time = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let mut inner = self.lock();
        inner.recorded += 1;
        let event = Value::object([
            ("seq", Value::from(inner.recorded)),
            ("kind", Value::from(kind)),
            ("severity", Value::from(severity.name())),
            ("time", Value::from(time)),
            ("message", Value::from(message)),
            ("fields", Value::object(fields)),
        ]);
        if inner.events.len() == self.capacity {
            inner.events.pop_front();
            inner.dropped += 1;
        }
        inner.events.push_back(event.to_text());
        self.show(&inner);
        drop(inner);
        self.arrived.notify_one();
    }

    /// The oldest event; waits for one up to `timeout`, or for ever. [`Code::Timeout`] when none came,
    /// [`Code::Closed`] once the ring is closed and empty.
    pub fn next(&self, timeout: Option<Duration>) -> Result<String> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut inner = self.lock();
        loop {
            if let Some(event) = inner.events.pop_front() {
                self.show(&inner);
                return Ok(event);
            }
            if inner.is_closed {
                return Err(Error::new(Code::Closed, "the library is closed"));
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            inner = match left {
                Some(Duration::ZERO) => return Err(Error::new(Code::Timeout, "no event came in time")),
                Some(left) => self.arrived.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.arrived.wait(inner).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Wakes all who wait. What was recorded can still be read.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.arrived.notify_all();
    }

    /// Readable while events wait. The ring owns it.
    pub fn readable(&self) -> BorrowedFd<'_> {
        self.readable.as_fd()
    }

    /// `{"recorded", "dropped", "waiting"}`.
    pub fn stats(&self) -> Value {
        let inner = self.lock();
        Value::object([
            ("recorded", Value::from(inner.recorded)),
            ("dropped", Value::from(inner.dropped)),
            ("waiting", Value::from(inner.events.len())),
        ])
    }

    /// Makes the descriptor say whether events wait.
    fn show(&self, inner: &Inner) {
        // Both are one system call on a counter of our own: writing fails only if it is readable already, reading only
        // if it is not.
        if inner.events.is_empty() {
            let _ = rustix::io::read(&self.readable, &mut [0u8; 8]);
        } else if inner.events.len() == 1 {
            let _ = rustix::io::write(&self.readable, &1u64.to_ne_bytes());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seq(event: &str) -> Option<i64> {
        Value::parse(event).ok()?.get("seq")?.as_i64()
    }

    #[test]
    fn a_full_ring_drops_the_oldest_and_counts() {
        let ring = EventRing::new(2).expect("ring");
        for _ in 0..5 {
            ring.push("k", Severity::Info, "m", vec![]);
        }
        let zero = Some(Duration::ZERO);
        assert_eq!(seq(&ring.next(zero).expect("event")), Some(4));
        assert_eq!(seq(&ring.next(zero).expect("event")), Some(5));
        assert_eq!(ring.next(zero).expect_err("empty").code(), Code::Timeout);
        assert_eq!(ring.stats().get("dropped"), Some(&Value::from(3u64)));
    }

    #[test]
    fn closing_wakes_those_who_wait() {
        let ring = std::sync::Arc::new(EventRing::new(2).expect("ring"));
        let waiting = std::thread::spawn({
            let ring = ring.clone();
            move || ring.next(None)
        });
        ring.close();
        assert_eq!(waiting.join().expect("no panic").expect_err("closed").code(), Code::Closed);
    }

    #[test]
    fn the_descriptor_is_readable_while_events_wait() {
        let ring = EventRing::new(8).expect("ring");
        let readable = || {
            let mut fds = [rustix::event::PollFd::from_borrowed_fd(ring.readable(), rustix::event::PollFlags::IN)];
            rustix::event::poll(&mut fds, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 })).expect("poll") == 1
        };
        assert!(!readable());
        ring.push("k", Severity::Info, "m", vec![]);
        ring.push("k", Severity::Info, "m", vec![]);
        assert!(readable());
        ring.next(None).expect("first");
        assert!(readable());
        ring.next(None).expect("second");
        assert!(!readable());
    }
}
