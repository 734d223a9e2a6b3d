//! A bounded queue of lines that never blocks who fills it.
//!
//! When it is full the oldest line is dropped and counted. Each line goes to one consumer.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};

use crate::error::{Code, Error, Result};
use crate::json::Value;

/// A bounded queue of lines. Shared freely between threads.
#[derive(Debug)]
pub struct Ring {
    inner: Mutex<Inner>,
    arrived: Condvar,
    /// Readable while lines wait.
    readable: OwnedFd,
    capacity: usize,
}

#[derive(Debug, Default)]
struct Inner {
    lines: VecDeque<String>,
    recorded: u64,
    dropped: u64,
    is_closed: bool,
}

impl Ring {
    /// A ring for `capacity` lines. Fails when the process is out of descriptors.
    pub fn new(capacity: u64) -> Result<Self> {
        let readable = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| Error::new(Code::Busy, format!("no descriptor for events: {error}")))?;
        let capacity = usize::try_from(capacity).unwrap_or(usize::MAX).max(1);
        Ok(Ring { inner: Mutex::default(), arrived: Condvar::new(), readable, capacity })
    }

    /// Records the line that is made of its number, counted from 1.
    pub fn push(&self, line: impl FnOnce(u64) -> String) {
        let mut inner = self.lock();
        inner.recorded += 1;
        let line = line(inner.recorded);
        if inner.lines.len() == self.capacity {
            inner.lines.pop_front();
            inner.dropped += 1;
        }
        inner.lines.push_back(line);
        self.show(&inner);
        drop(inner);
        self.arrived.notify_one();
    }

    /// The oldest line; waits for one up to `timeout`, or for ever. [`Code::Timeout`] when none came,
    /// [`Code::Closed`] once the ring is closed and empty.
    pub fn next(&self, timeout: Option<Duration>) -> Result<String> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut inner = self.lock();
        loop {
            if let Some(line) = inner.lines.pop_front() {
                self.show(&inner);
                return Ok(line);
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

    /// Wakes all who wait, those who poll too: the descriptor is readable from now on. What was recorded can still be read.
    pub fn close(&self) {
        let mut inner = self.lock();
        inner.is_closed = true;
        let _ = rustix::io::write(&self.readable, &1u64.to_ne_bytes());
        drop(inner);
        self.arrived.notify_all();
    }

    /// Readable while lines wait, and once the ring is closed. The ring owns it.
    pub fn readable(&self) -> BorrowedFd<'_> {
        self.readable.as_fd()
    }

    /// `{"recorded", "dropped", "waiting"}`.
    pub fn stats(&self) -> Value {
        let inner = self.lock();
        Value::object([
            ("recorded", Value::from(inner.recorded)),
            ("dropped", Value::from(inner.dropped)),
            ("waiting", Value::from(inner.lines.len())),
        ])
    }

    /// Those of no ring at all.
    pub fn no_stats() -> Value {
        Value::object(["recorded", "dropped", "waiting"].map(|name| (name, Value::from(0u64))))
    }

    /// Makes the descriptor say whether lines wait.
    fn show(&self, inner: &Inner) {
        // Both are one system call on a counter of our own: writing fails only if it is readable already, reading only
        // if it is not.
        if inner.lines.is_empty() && !inner.is_closed {
            let _ = rustix::io::read(&self.readable, &mut [0u8; 8]);
        } else if inner.lines.len() == 1 {
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

    #[test]
    fn a_full_ring_drops_the_oldest_and_counts() {
        let ring = Ring::new(2).expect("ring");
        for _ in 0..5 {
            ring.push(|number| number.to_string());
        }
        let zero = Some(Duration::ZERO);
        assert_eq!((ring.next(zero), ring.next(zero)), (Ok("4".to_owned()), Ok("5".to_owned())));
        assert_eq!(ring.next(zero).expect_err("empty").code(), Code::Timeout);
        assert_eq!(ring.stats().get("dropped"), Some(&Value::from(3u64)));
    }

    #[test]
    fn closing_wakes_those_who_wait() {
        let ring = std::sync::Arc::new(Ring::new(2).expect("ring"));
        let waiting = std::thread::spawn({
            let ring = ring.clone();
            move || ring.next(None)
        });
        ring.close();
        assert_eq!(waiting.join().expect("no panic").expect_err("closed").code(), Code::Closed);
    }

    #[test]
    fn the_descriptor_is_readable_while_lines_wait() {
        let ring = Ring::new(8).expect("ring");
        let readable = || {
            let mut fds = [rustix::event::PollFd::from_borrowed_fd(ring.readable(), rustix::event::PollFlags::IN)];
            rustix::event::poll(&mut fds, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 })).expect("poll") == 1
        };
        assert!(!readable());
        ring.push(|_| "first".to_owned());
        ring.push(|_| "second".to_owned());
        assert!(readable());
        ring.next(None).expect("first");
        assert!(readable());
        ring.next(None).expect("second");
        assert!(!readable());
        ring.close();
        assert!(readable() && ring.next(None).is_err() && readable(), "who polls learns that there is nothing to come");
    }
}
