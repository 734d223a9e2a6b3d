//! What a hit costs, and how many operations a second some threads get through.
//!
//! The machine is shared and noisy, so the subjects take turns in short blocks: each of a peer's blocks stands between
//! blocks of ours, and what is printed is the median of the ratios of neighbours, with the quartiles.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use skillcache::cache::Policy;

use crate::ours::Ours;
use crate::subject::{Foyer, Lru, Moka, Quick, QuickAsItComes, QuickWithTimes, Shards, Subject, Value};
use crate::traces::{Key, Random, Zipf, key};

const CAPACITY: usize = 1000;
const ROUNDS: usize = 40;

fn peers(capacity: usize) -> Vec<Box<dyn Subject>> {
    vec![
        Box::new(Lru::new(capacity)),
        Box::new(Ours::new("ours, 1 shard", Policy::Lru, capacity, 1)),
        Box::new(Ours::new("ours, 2Q", Policy::TwoQueues, capacity, 16)),
        Box::new(Quick::new(capacity, Shards::Usual)),
        Box::new(QuickAsItComes::new(capacity)),
        Box::new(QuickWithTimes::new(capacity)),
        Box::new(Moka::new(capacity)),
        Box::new(Foyer::s3_fifo(capacity, Shards::Usual)),
        Box::new(Foyer::lru(capacity, Shards::Usual)),
    ]
}

fn value() -> Value {
    Arc::from([7; 200])
}

/// Times blocks in turns, ours before every peer's, and prints a line for each subject. `block` gives what one operation
/// took.
fn compare(
    title: &str,
    capacity: usize,
    shards: u64,
    is_wanted: &dyn Fn(&str) -> bool,
    rate: bool,
    block: &dyn Fn(&dyn Subject) -> f64,
) {
    let ours = Ours::new("ours", Policy::Lru, capacity, shards);
    let mut peers = peers(capacity);
    peers.retain(|peer| is_wanted(&format!("{title} {}", peer.name())));
    if peers.is_empty() {
        return;
    }
    let mut own = Vec::new();
    let mut blocks = vec![Vec::new(); peers.len()];
    for round in 0..=ROUNDS {
        for (peer, times) in peers.iter().zip(&mut blocks) {
            let (our, their) = (block(&ours), block(&**peer));
            // The first round warms up.
            if round > 0 {
                own.push(our);
                times.push((their, our / their));
            }
        }
    }
    let show = |nanos: f64| if rate { 1e3 / nanos } else { nanos };
    own.sort_by(f64::total_cmp);
    println!("{:<24} {:<22} {:>8.1}", title, ours.name(), show(quartile(&own, 2)));
    for (peer, times) in peers.iter().zip(blocks) {
        let (mut theirs, mut ratios): (Vec<f64>, Vec<f64>) = times.into_iter().unzip();
        theirs.sort_by(f64::total_cmp);
        ratios.sort_by(f64::total_cmp);
        let [low, middle, high] = [1, 2, 3].map(|at| quartile(&ratios, at));
        println!(
            "{title:<24} {:<22} {:>8.1}   {middle:>6.2} ({low:.2} to {high:.2})",
            peer.name(),
            show(quartile(&theirs, 2))
        );
    }
}

fn quartile(sorted: &[f64], at: usize) -> f64 {
    sorted[(sorted.len() - 1) * at / 4]
}

/// One thread, every key resident, uniform.
pub fn hit(is_wanted: &dyn Fn(&str) -> bool) {
    const CALLS: usize = 20_000;
    let keys: Vec<Key> = (0..CAPACITY).map(|number| key(1, number)).collect();
    let mut random = Random(1);
    let order: Vec<usize> = (0..CALLS).map(|_| random.below(CAPACITY)).collect();
    println!("{:<24} {:<22} {:>8}   ours / peer (quartiles)", "hit, 1,000 entries", "subject", "ns");
    // Shards take uneven parts, so a cache of exactly as many entries loses some of them.
    compare("hit", CAPACITY * 2, 1, is_wanted, false, &|subject| {
        for key in keys.iter().filter(|key| subject.get(key).is_none()) {
            subject.put(*key, value());
        }
        subject.settle();
        let start = Instant::now();
        let hits = order.iter().filter(|&&at| black_box(subject.get(&keys[at])).is_some()).count();
        let took = start.elapsed();
        assert_eq!(hits, CALLS, "{} lost entries", subject.name());
        took.as_nanos() as f64 / CALLS as f64
    });
}

/// Nine gets and a put in ten operations, Zipf over twice as many keys as there is room for.
pub fn mixed(is_wanted: &dyn Fn(&str) -> bool) {
    // Long enough for the threads to spread over the cores.
    const CALLS: usize = 200_000;
    let keys: Vec<Key> = (0..CAPACITY * 2).map(|number| key(1, number)).collect();
    let zipf = Zipf::new(keys.len());
    println!("{:<24} {:<22} {:>8}   ours / peer (quartiles), time", "mixed, 1,000 entries", "subject", "M/s");
    for threads in [1, 2, 4] {
        let scripts: Vec<Vec<(usize, bool)>> = (0..threads)
            .map(|thread| {
                let mut random = Random(thread);
                (0..CALLS).map(|_| (zipf.draw(&mut random), random.below(10) == 0)).collect()
            })
            .collect();
        let title = format!("mixed, threads: {threads}");
        compare(&title, CAPACITY, 16, is_wanted, true, &|subject| {
            let (waiting, keys) = (AtomicUsize::new(scripts.len()), &keys);
            let spans: Vec<_> = thread::scope(|scope| {
                let start = |(thread, script): (usize, _)| {
                    let waiting = &waiting;
                    scope.spawn(move || {
                        if threads > 1 {
                            stay_on_core(thread);
                        }
                        play(subject, keys, script, waiting)
                    })
                };
                let handles: Vec<_> = scripts.iter().map(Vec::as_slice).enumerate().map(start).collect();
                handles.into_iter().map(|handle| handle.join().expect("no panic")).collect()
            });
            let start = spans.iter().map(|(start, _)| *start).min();
            let end = spans.iter().map(|(_, end)| *end).max();
            let took = end.zip(start).map_or(Duration::ZERO, |(end, start)| end - start);
            took.as_nanos() as f64 / (CALLS * scripts.len()) as f64
        });
    }
}

/// Keeps the calling thread on one core: blocks end before a scheduler would have spread their threads.
fn stay_on_core(thread: usize) {
    let Ok(usable) = sched_getaffinity(None) else { return };
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&core| usable.is_set(core)).collect();
    let mut own = CpuSet::new();
    own.set(cores[thread % cores.len()]);
    // Left out where it is forbidden: the figures are then noisier.
    let _ = sched_setaffinity(None, &own);
}

/// When one thread began and ended its operations.
fn play(subject: &dyn Subject, keys: &[Key], script: &[(usize, bool)], waiting: &AtomicUsize) -> (Instant, Instant) {
    let value = value();
    waiting.fetch_sub(1, Ordering::SeqCst);
    // No sleep: waking up takes longer than a good part of the block.
    while waiting.load(Ordering::SeqCst) > 0 {
        thread::yield_now();
    }
    let start = Instant::now();
    for &(at, is_put) in script {
        if is_put {
            subject.put(keys[at], value.clone());
        } else {
            black_box(subject.get(&keys[at]));
        }
    }
    (start, Instant::now())
}
