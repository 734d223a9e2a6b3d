//! Many threads on the caches and their flights, for a detector of data races: `make test-races` runs this under valgrind's DRD.
//!
//! DRD follows the pthreads library, not the futexes of the standard library's locks, so that the very sources of `src/cache`
//! get locks of pthreads here. It knows nothing of the orders that atomics make either: counters are changed by locked
//! instructions alone, which it takes for what they are, and whoever lets go of a shared value does so under a lock of that
//! value. Nothing is suppressed. (That a condition variable is signalled where its lock is not held is no race, and no error.)
//!
//! `SKC_RACES` is how many rounds each thread makes. With `SKC_RACES_CONTROL` set there is a data race, which must be found.

use std::time::Duration;

use skillcache::json;

#[path = "../src/cache/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the library uses more of it, and its unit tests are not for here")]
mod cache;
#[path = "pthreads/mod.rs"]
mod sync;

use cache::flight::{Flights, Turn, Waited};
use cache::key::{Digest, of_code};
use cache::spelling::Spellings;
use cache::{AlertRule, Cache, Policy, Settings, Tick};
use sync::{Arc, AtomicU64, Ordering, thread};

const THREADS: u64 = 4;

/// Fewer than keys: entries are evicted all the time.
const ENTRIES: u64 = 16;
const KEYS: u64 = 40;

fn main() {
    let rounds = std::env::var("SKC_RACES").map_or(600, |count| count.parse().expect("a number"));
    if std::env::var_os("SKC_RACES_CONTROL").is_some() {
        return race();
    }
    // The hash asks once what the processor can do, and notes it with an atomic.
    let _ = key(0);
    for policy in [Policy::Lru, Policy::TwoQueues] {
        for shards in [1, 4] {
            let house = Arc::new(House::new(policy, shards));
            let threads: Vec<_> = (0..THREADS)
                .map(|seed| {
                    let house = house.clone();
                    thread::spawn(move || house.live(seed, rounds))
                })
                .collect();
            threads.into_iter().for_each(thread::Thread::join);
            house.is_in_order();
        }
    }
}

/// Two threads write to the same place and nothing orders them.
fn race() {
    struct Shared(std::cell::UnsafeCell<u64>);
    // SAFETY: it is not: this is the control.
    unsafe impl Sync for Shared {}
    static SHARED: Shared = Shared(std::cell::UnsafeCell::new(0));
    let writes = || {
        for number in 0..1000 {
            // SAFETY: the place is there; the race is meant.
            unsafe { std::ptr::write_volatile(SHARED.0.get(), number) };
        }
    };
    let threads = [thread::spawn(writes), thread::spawn(writes)];
    threads.into_iter().for_each(thread::Thread::join);
}

struct House {
    results: Cache<Arc<Vec<u64>>>,
    flights: Flights<Arc<Vec<u64>>>,
    spellings: Spellings,
    look_ups: AtomicU64,
    alerts: AtomicU64,
}

fn key(number: u64) -> Digest {
    of_code(&number.to_string())
}

/// What is kept under a key: all of it is that number.
fn value(number: u64) -> Arc<Vec<u64>> {
    Arc::new(vec![number; 8])
}

fn is_value(value: &Arc<Vec<u64>>, number: u64) -> bool {
    value.iter().all(|part| *part == number)
}

impl House {
    fn new(policy: Policy, shards: u64) -> Self {
        let settings = Settings {
            max_entries: ENTRIES,
            max_bytes: 1 << 16,
            ttl: Duration::from_millis(50),
            policy,
            shards,
            alert: AlertRule { threshold: 0.8, interval: Duration::ZERO },
            has_shadow: true,
        };
        House {
            results: Cache::new(&settings),
            flights: Flights::default(),
            spellings: Spellings::new(ENTRIES, 1 << 16, shards),
            look_ups: AtomicU64::new(0),
            alerts: AtomicU64::new(0),
        }
    }

    fn live(&self, seed: u64, rounds: u64) {
        let mut state = seed + 1;
        let mut random = |below: u64| {
            // Xorshift, by Marsaglia.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        for round in 0..rounds {
            let now = Tick::default().after(Duration::from_millis(round));
            let number = random(KEYS);
            match random(100) {
                0 => {
                    self.flights.make_void(None);
                    self.results.clear();
                    self.spellings.clear();
                }
                1 => self.flights.make_void(Some(&key(number % 2))),
                2 => drop(self.results.evict_expired(now)),
                3 => drop((self.results.stats(), self.results.nearly_full(0.5), self.flights.coalesced())),
                4 => drop(self.results.put(key(number), value(number), usize::MAX, None, now)),
                _ => self.ask(number, random(8) == 0, now),
            }
        }
    }

    fn ask(&self, number: u64, fails: bool, now: Tick) {
        let text = format!("the text of {number}");
        let key = self.spellings.find(&key(0), &text, now).unwrap_or_else(|| key(number));
        self.look_ups.fetch_add(1, Ordering::Relaxed);
        if let Some(found) = self.results.get(&key, now) {
            assert!(is_value(&found, number));
            return;
        }
        loop {
            let lead = match self.flights.join(key, self::key(number % 2)) {
                Turn::Lead(lead) => lead,
                Turn::Wait(wait) => {
                    let call = wait.caller();
                    call();
                    match wait.wait(None, || fails) {
                        Waited::Lead(lead) => lead,
                        Waited::Landed(found) => return assert!(is_value(&found, number)),
                        Waited::Void => continue,
                        Waited::Alone | Waited::TimedOut | Waited::Cancelled => return,
                    }
                }
            };
            if let Some(found) = self.results.find(&key, now) {
                assert!(is_value(&found, number));
                return lead.hand_on(found);
            }
            // The work; others come meanwhile.
            std::thread::yield_now();
            let made = value(number);
            match number % 4 {
                _ if !fails => {}
                0 => return lead.scatter(),
                _ => return drop(lead),
            }
            if let Some(put) = lead.land(made.clone(), || self.results.put(key, made, 64, None, now)) {
                self.alerts.fetch_add(put.alerts.iter().flatten().count() as u64, Ordering::Relaxed);
                self.spellings.learn(&self::key(0), &text, key, now);
            }
            return;
        }
    }

    fn is_in_order(&self) {
        let stats = self.results.stats();
        assert!(stats.size <= ENTRIES && stats.bytes <= 1 << 16);
        assert_eq!(stats.hits + stats.misses, self.look_ups.load(Ordering::Relaxed));
        let totals: Vec<u64> = self.results.nearly_full(0.0).iter().map(|alert| alert.size).collect();
        assert_eq!(totals, [stats.size, stats.bytes]);
        assert!(self.alerts.load(Ordering::Relaxed) > 0 && stats.evictions > 0);
        assert!((0..KEYS).all(|number| matches!(self.flights.join(key(number), key(0)), Turn::Lead(_))));
    }
}
