//! How well a sampled shadow tells what 2Q would have won over LRU.
//!
//! The cache runs LRU. Of the keys, one in `rate` is also followed in a 2Q directory without values that holds
//! `capacity / rate` of them. A sampled look-up that LRU missed and the directory answers is won, the reverse is lost.

use crate::subject::PrefixState;
use crate::traces::{KEYS, Key, Mix, REQUESTS, Trace};
use crate::two_queues::{Rules, TwoQueues};

const SEEDS: u64 = 5;
const RATES: [usize; 3] = [4, 8, 16];

type Directory = TwoQueues<Key, (), PrefixState>;

/// A look-up, and the put that follows a miss.
fn ask(directory: &mut Directory, key: &Key) -> bool {
    let is_hit = directory.get(key).is_some();
    if !is_hit {
        directory.put(*key, (), 1);
    }
    is_hit
}

fn is_sampled(key: &Key, rate: usize) -> bool {
    let part = key[8..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    part % rate as u64 == 0
}

/// The true difference in hits, and the estimate at each rate, both in percent of the look-ups.
fn gains(trace: &Trace, capacity: usize) -> (f64, [f64; RATES.len()]) {
    let rules = |entries| Rules { entries, ..Rules::recommended() };
    let new = |rules| Directory::new(rules, PrefixState::default());
    let (mut lru, mut queues) = (new(Rules { entries: capacity, ..Rules::lru() }), new(rules(capacity)));
    let mut shadows = RATES.map(|rate| new(rules(capacity / rate)));
    let (mut difference, mut estimates) = (0, [0; RATES.len()]);
    for (at, request) in trace.requests.iter().enumerate() {
        let key = &trace.keys[request.key as usize];
        let (lru_hit, is_late) = (ask(&mut lru, key), at >= REQUESTS / 4);
        let won = |is_hit| if is_late { i64::from(is_hit) - i64::from(lru_hit) } else { 0 };
        difference += won(ask(&mut queues, key));
        for ((shadow, rate), estimate) in shadows.iter_mut().zip(RATES).zip(&mut estimates) {
            if is_sampled(key, rate) {
                *estimate += won(ask(shadow, key)) * rate as i64;
            }
        }
    }
    let percent = |hits: i64| hits as f64 * 100.0 / (REQUESTS * 3 / 4) as f64;
    (percent(difference), estimates.map(percent))
}

/// Prints the true gain and how far off the estimates are, over some seeds.
pub fn table(is_wanted: &dyn Fn(&str) -> bool) {
    print!("{:<28} {:>18}", "points won by 2Q over LRU", "true");
    RATES.iter().for_each(|rate| print!(" {:>26}", format!("1/{rate}: mean error (worst)")));
    println!();
    for mix in Mix::ALL {
        for capacity in [KEYS / 1000, KEYS / 100, KEYS / 10] {
            let name = format!("{}, {capacity}", mix.name());
            if !is_wanted(&name) {
                continue;
            }
            let all: Vec<_> = (1..=SEEDS).map(|seed| gains(&Trace::new(mix, capacity, seed), capacity)).collect();
            let lowest = all.iter().map(|(gain, _)| *gain).fold(f64::MAX, f64::min);
            let highest = all.iter().map(|(gain, _)| *gain).fold(f64::MIN, f64::max);
            print!("{name:<28} {:>18}", format!("{lowest:+.2} to {highest:+.2}"));
            for at in 0..RATES.len() {
                let errors = all.iter().map(|(gain, estimates)| estimates[at] - gain);
                let mean = errors.clone().map(f64::abs).sum::<f64>() / SEEDS as f64;
                let worst = errors.fold(0.0, |worst: f64, error| if error.abs() > worst.abs() { error } else { worst });
                print!(" {:>26}", format!("{mean:.2} ({worst:+.2})"));
            }
            println!();
        }
    }
}
