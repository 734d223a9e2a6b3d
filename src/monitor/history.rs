//! The curves: a sample of the most telling numbers now and then, of which the newest are kept.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::json::Value;

/// So many samples are kept: an hour at ten seconds each.
pub const SAMPLES: usize = 360;

/// The newest samples, the newest last.
#[derive(Debug)]
pub struct History {
    interval: Option<Duration>,
    samples: Mutex<VecDeque<Value>>,
}

impl History {
    /// One for samples so far apart; nothing for none at all.
    pub fn new(interval: Option<Duration>) -> Self {
        History { interval, samples: Mutex::default() }
    }

    /// How far apart samples are to be, if there are to be any.
    pub fn interval(&self) -> Option<Duration> {
        self.interval
    }

    /// Keeps a sample; the oldest goes if there are too many.
    pub fn keep(&self, sample: Value) {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.len() >= SAMPLES {
            samples.pop_front();
        }
        samples.push_back(sample);
    }

    /// `{"interval_s", "samples"}`.
    pub fn to_value(&self) -> Value {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
        let interval = self.interval.map_or(0, |interval| interval.as_secs());
        Value::object([("interval_s", Value::from(interval)), ("samples", Value::Array(samples))])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_in_order() {
        let history = History::new(Some(Duration::from_secs(10)));
        (0..SAMPLES as u64 + 5).for_each(|number| history.keep(Value::from(number)));
        let value = history.to_value();
        let samples = value.get("samples").and_then(Value::as_array).expect("there are some");
        assert_eq!(samples.len(), SAMPLES);
        assert_eq!(samples.first().zip(samples.last()), Some((&Value::from(5u64), &Value::from(SAMPLES as u64 + 4))));
    }
}
