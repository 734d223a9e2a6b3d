//! Time for the caches: milliseconds of a monotonic clock that costs next to nothing and that tests can turn.
//!
//! The kernel's coarse clock is what it wrote down at its last tick (1 to 10 ms ago), read without a system call and
//! without reading the processor's counter: a fifth of what `Instant::now` takes, and exact enough for times to live. It
//! does not follow the wall clock, so setting that changes nothing; while the machine is suspended it stands still.

use std::time::Duration;

use coarsetime::Instant;

/// A moment, in milliseconds since some moment before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Tick(u64);

/// Where caches get the time from.
#[derive(Debug, Clone, Default)]
pub enum Clock {
    /// The kernel's.
    #[default]
    Coarse,
    /// One that is turned by hand.
    #[cfg(test)]
    Manual(std::sync::Arc<std::sync::atomic::AtomicU64>),
}

impl Clock {
    /// The time by this clock.
    pub fn now(&self) -> Tick {
        match self {
            Clock::Coarse => {
                let beginning = Instant::from_ticks(0);
                Tick(Instant::now_without_cache_update().duration_since(beginning).as_millis())
            }
            #[cfg(test)]
            Clock::Manual(millis) => Tick(millis.load(std::sync::atomic::Ordering::Relaxed)),
        }
    }
}

impl Tick {
    /// The last moment at which something that starts now and may last for `time` is not too old. Parts of a millisecond count
    /// as a whole one, and what is beyond the end of the clock as its end.
    pub fn after(self, time: Duration) -> Tick {
        let parts = u64::from(time.subsec_nanos().div_ceil(1_000_000));
        Tick(self.0.saturating_add(time.as_secs().saturating_mul(1000)).saturating_add(parts))
    }

    /// Milliseconds since the beginning of this clock.
    pub(super) fn millis(self) -> u64 {
        self.0
    }

    #[cfg(test)]
    pub(super) const fn at(millis: u64) -> Tick {
        Tick(millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn time_goes_on_and_only_when_it_is_turned() {
        let coarse = Clock::Coarse;
        let (before, begun) = (coarse.now(), std::time::Instant::now());
        // The kernel turns it at its ticks, which a virtual machine may have to wait for.
        while coarse.now() <= before {
            assert!(begun.elapsed() < Duration::from_secs(60), "it stands still");
            std::thread::sleep(Duration::from_millis(5));
        }
        let millis = Arc::new(AtomicU64::new(5));
        let manual = Clock::Manual(millis.clone());
        assert_eq!(manual.now(), Tick(5));
        millis.store(3, Ordering::Relaxed);
        assert_eq!(manual.now(), Tick(3));
    }

    #[test]
    fn the_end_of_time_is_no_overflow() {
        assert_eq!(Tick(1).after(Duration::from_micros(1)), Tick(2));
        assert_eq!(Tick(1).after(Duration::ZERO), Tick(1));
        assert_eq!(Tick(u64::MAX - 1).after(Duration::MAX), Tick(u64::MAX));
    }
}
