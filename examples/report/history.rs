//! The samples of the history, as curves.

use skillcache::json::Value;

use crate::chart::{self, Curve, Drawn, Scale};
use crate::clock;
use crate::document::{items, number, text};

/// The most points of a curve: more are not told apart on a chart of its width.
const MOST_POINTS: usize = 120;

/// Some samples that follow one another, drawn as one point.
pub struct Step<'a> {
    time: f64,
    /// The last sample of the step before: what counters had reached then.
    before: Option<&'a Value>,
    samples: &'a [Value],
}

/// The history, oldest first.
pub struct History<'a> {
    pub steps: Vec<Step<'a>>,
}

impl<'a> Step<'a> {
    fn last(&self) -> Option<&'a Value> {
        self.samples.last()
    }

    /// How much a counter grew; nothing if it is not known, or was begun anew.
    pub fn growth(&self, name: &str) -> Option<f64> {
        let growth = number(self.last()?, name)? - number(self.before?, name)?;
        (growth >= 0.0).then_some(growth)
    }

    /// How much a counter grew a second.
    pub fn rate(&self, name: &str) -> Option<f64> {
        let took = self.growth("uptime_s").filter(|took| *took > 0.0)?;
        Some(self.growth(name)? / took)
    }

    /// The largest value of the step.
    pub fn most(&self, name: &str) -> Option<f64> {
        self.samples.iter().filter_map(|sample| number(sample, name)).reduce(f64::max)
    }

    /// The last value of one number over that of another.
    pub fn ratio(&self, part: &str, whole: &str) -> Option<f64> {
        crate::document::ratio(number(self.last()?, part)?, number(self.last()?, whole)?)
    }
}

impl<'a> History<'a> {
    pub fn of(document: &'a Value) -> Self {
        let samples = items(document, "history.samples");
        let size = samples.len().div_ceil(MOST_POINTS).max(1);
        let steps = samples.chunks(size).enumerate().filter_map(|(index, samples)| {
            let time = clock::seconds(text(samples.last()?, "time")?)?;
            let before = (index * size).checked_sub(1).and_then(|at| items(document, "history.samples").get(at));
            Some(Step { time, before, samples })
        });
        History { steps: steps.collect() }
    }

    /// Whether there is anything to draw: a curve has two points.
    pub fn is_empty(&self) -> bool {
        self.steps.len() < 2
    }

    /// The values of a curve, oldest first.
    pub fn values(&self, value: impl Fn(&Step) -> Option<f64>) -> Vec<f64> {
        self.steps.iter().filter_map(value).collect()
    }

    pub fn curve(&self, ink: crate::ink::Ink, is_filled: bool, value: impl Fn(&Step) -> Option<f64>) -> Curve {
        let points = self.steps.iter().map(|step| (step.time, value(step).filter(|value| value.is_finite())));
        Curve { ink, points: points.collect(), is_filled }
    }

    pub fn draw(
        &self,
        curves: &[Curve],
        scale: (&Scale, &dyn Fn(&f64) -> String),
        bound: Option<f64>,
        words: (&str, &str),
    ) -> Drawn {
        let ends = |pick: fn(f64, f64) -> f64| self.steps.iter().map(|step| step.time).reduce(pick).unwrap_or(0.0);
        chart::curves(curves, (ends(f64::min), ends(f64::max)), scale, bound, words)
    }
}

/// The largest of some values; 0 if there are none.
pub fn largest(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

/// `now A, between B and C`.
pub fn summary(values: &[f64], unit: impl Fn(f64) -> String) -> String {
    let (Some(now), Some(low)) = (values.last(), values.iter().copied().reduce(f64::min)) else {
        return "Nothing yet.".to_owned();
    };
    let high = values.iter().copied().fold(low, f64::max);
    if low == high {
        return format!("{} all the time.", unit(low));
    }
    format!("Now {}, between {} and {}.", unit(*now), unit(low), unit(high))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(samples: &[(u32, u32)]) -> Value {
        let sample = |(second, runs): &(u32, u32)| {
            let time = format!("2026-11-26T10:{:02}:{:02}Z", second / 60, second % 60);
            Value::object([
                ("time", Value::from(time)),
                ("uptime_s", Value::from(*second)),
                ("runs", Value::from(*runs)),
            ])
        };
        let samples = Value::Array(samples.iter().map(sample).collect());
        Value::object([("history", Value::object([("samples", samples)]))])
    }

    #[test]
    fn rates_are_differences_and_a_counter_that_falls_has_none() {
        let document = history(&[(0, 5), (10, 25), (20, 25), (30, 3), (40, 8)]);
        let history = History::of(&document);
        let rates: Vec<_> = history.steps.iter().map(|step| step.rate("runs")).collect();
        assert_eq!(rates, [None, Some(2.0), Some(0.0), None, Some(0.5)]);
        assert_eq!(history.values(|step| step.most("runs")), [5.0, 25.0, 25.0, 3.0, 8.0]);
    }

    #[test]
    fn long_histories_are_drawn_in_steps_that_lose_no_run() {
        let document = history(&(0..360).map(|at| (at * 10, at * at)).collect::<Vec<_>>());
        let history = History::of(&document);
        assert_eq!(history.steps.len(), MOST_POINTS);
        let grown: f64 = history.values(|step| step.growth("runs")).iter().sum();
        assert_eq!(grown, f64::from(359 * 359 - 4));
    }

    #[test]
    fn a_history_of_one_sample_is_none() {
        assert!(History::of(&history(&[(0, 1)])).is_empty());
        assert!(History::of(&Value::Null).is_empty());
        assert_eq!(summary(&[], crate::units::count), "Nothing yet.");
        assert_eq!(summary(&[2.0, 2.0], crate::units::count), "2 all the time.");
        assert_eq!(summary(&[2.0, 9.0, 3.0], crate::units::count), "Now 3, between 2 and 9.");
    }
}
