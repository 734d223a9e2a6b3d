//! Two ways of doing a thing, timed in turns.
//!
//! The machine is shared and noisy, so subject and peer take turns in short blocks, and what is printed is the median of
//! the ratios of neighbouring blocks, with the quartiles. Sampling harnesses time one after the other; their ratio moves
//! with the machine.

use std::time::{Duration, Instant};

/// One comparison.
pub struct Row<'n> {
    pub name: &'n str,
    pub peer: &'static str,
    /// How many pairs of blocks.
    pub blocks: usize,
    /// Calls of a block of ours, and of a block of the peer's.
    pub calls: u32,
    pub peer_calls: u32,
}

impl Row<'_> {
    /// Times both sides in turns and prints one line.
    pub fn run(&self, mut subject: impl FnMut(), mut against: impl FnMut()) {
        self.run_timed(|| timed(self.calls, &mut subject), || timed(self.peer_calls, &mut against));
    }

    /// The same for sides that time themselves: each call gives what one operation took.
    pub fn run_timed(&self, mut subject: impl FnMut() -> Duration, mut against: impl FnMut() -> Duration) {
        if !is_wanted(self.name) {
            return;
        }
        let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..=self.blocks {
            let (our, their) = (subject(), against());
            if round > 0 {
                ours.push(our);
                theirs.push(their);
                ratios.push(our.as_secs_f64() / their.as_secs_f64());
            }
        }
        ours.sort();
        theirs.sort();
        ratios.sort_by(f64::total_cmp);
        let at = |share: usize| ratios[ratios.len() * share / 4];
        let (our, their) = (ours[ours.len() / 2], theirs[theirs.len() / 2]);
        println!(
            "{:<44} {:>10}   {:<42} {:>10}   {:>10}   {:>7} ({} to {})",
            self.name,
            human(our),
            self.peer,
            human(their),
            difference(our, their),
            digits(at(2)),
            digits(at(1)),
            digits(at(3)),
        );
    }
}

/// Whether a row has all the words of the command line.
pub fn is_wanted(name: &str) -> bool {
    std::env::args().skip(1).filter(|word| !word.starts_with('-')).all(|word| name.contains(&word))
}

fn timed(calls: u32, work: &mut dyn FnMut()) -> Duration {
    let start = Instant::now();
    (0..calls).for_each(|_| work());
    start.elapsed() / calls
}

/// The line above the rows.
pub fn heading() {
    println!(
        "{:<44} {:>10}   {:<42} {:>10}   {:>10}   {:>7}",
        "what", "median", "peer", "median", "difference", "ratio (quartiles)"
    );
}

/// A time with its unit.
pub fn human(time: Duration) -> String {
    match time.as_nanos() {
        nanos @ 0..10_000 => format!("{nanos} ns"),
        nanos @ 10_000..1_000_000 => format!("{:.1} us", nanos as f64 / 1e3),
        nanos => format!("{:.2} ms", nanos as f64 / 1e6),
    }
}

fn difference(our: Duration, their: Duration) -> String {
    let sign = if our < their { "-" } else { "+" };
    format!("{sign}{}", human(our.abs_diff(their)))
}

/// A ratio with three digits that mean something.
fn digits(ratio: f64) -> String {
    match ratio {
        ratio if ratio < 0.1 => format!("1/{:.0}", 1.0 / ratio),
        ratio if (0.95..1.05).contains(&ratio) => format!("{ratio:.3}"),
        ratio => format!("{ratio:.2}"),
    }
}
