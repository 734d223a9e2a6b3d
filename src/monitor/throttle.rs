//! How often the same thing is told: at once, and then at most once in an interval, with the number of times it was not.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many different things are told apart. Beyond, the one that was told longest ago is forgotten, and is told at once again.
const MOST: usize = 1024;

/// Lets the first event about a thing pass at once, and then at most one in each interval.
#[derive(Debug)]
pub(super) struct Throttle {
    interval: Duration,
    told: Mutex<HashMap<String, Told>>,
}

#[derive(Debug, Clone, Copy)]
struct Told {
    at: Instant,
    untold: u64,
}

impl Throttle {
    pub fn new(interval: Duration) -> Self {
        Throttle { interval, told: Mutex::default() }
    }

    /// How many were not told since the last one, if this one is to be; nothing if it is not.
    pub fn pass(&self, what: &str, now: Instant) -> Option<u64> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = told.get_mut(what) {
            if now.saturating_duration_since(last.at) < self.interval {
                last.untold += 1;
                return None;
            }
            let untold = last.untold;
            *last = Told { at: now, untold: 0 };
            return Some(untold);
        }
        if told.len() >= MOST {
            let oldest = told.iter().min_by_key(|(_, told)| told.at).map(|(what, _)| what.clone());
            oldest.map(|oldest| told.remove(&oldest));
        }
        told.insert(what.to_owned(), Told { at: now, untold: 0 });
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_passes_at_once_and_then_one_in_each_interval() {
        let (throttle, start) = (Throttle::new(Duration::from_secs(60)), Instant::now());
        let pass = |what, seconds| throttle.pass(what, start + Duration::from_secs(seconds));
        assert_eq!(pass("a", 0), Some(0));
        assert_eq!((pass("a", 1), pass("a", 59)), (None, None));
        assert_eq!(pass("b", 59), Some(0), "each by itself");
        assert_eq!(pass("a", 60), Some(2));
        assert_eq!(pass("a", 119), None);
        assert_eq!(pass("a", 500), Some(1));
    }

    #[test]
    fn what_was_told_longest_ago_is_forgotten_first() {
        let (throttle, start) = (Throttle::new(Duration::from_secs(3600)), Instant::now());
        for number in 0..=MOST as u64 {
            assert_eq!(throttle.pass(&number.to_string(), start + Duration::from_secs(number)), Some(0));
        }
        let later = start + Duration::from_secs(MOST as u64 + 1);
        assert_eq!(throttle.pass("1", later), None, "known still");
        assert_eq!(throttle.pass("0", later), Some(0), "forgotten");
    }
}
