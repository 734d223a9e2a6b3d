//! What caches say they take is what they take: held to an allocator that counts.
//!
//! One thread, a program of its own, and the sources of `src/cache` as they are.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use skillcache::json;

#[path = "../src/cache/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the library uses more of it, and its unit tests are not for here")]
mod cache;
#[path = "../src/sync.rs"]
#[allow(unused_imports, reason = "the library uses more of it")]
mod sync;

use cache::key::of_code;
use cache::{AlertRule, Cache, Policy, Settings, Tick};

struct Counting;

/// Bytes that are out, as the C library counts them: with what it rounds up, and its own word for each piece.
static OUT: AtomicUsize = AtomicUsize::new(0);

fn bytes_of(pointer: *mut u8) -> usize {
    // SAFETY: callers give what the allocator gave and has not taken back; the system's is the C library's.
    (unsafe { libc::malloc_usable_size(pointer.cast()) }) + size_of::<usize>()
}

// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are handed on.
        let pointer = unsafe { System.alloc(layout) };
        if !pointer.is_null() {
            OUT.fetch_add(bytes_of(pointer), Ordering::Relaxed);
        }
        pointer
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        OUT.fetch_sub(bytes_of(pointer), Ordering::Relaxed);
        // SAFETY: the caller's promises are handed on.
        unsafe { System.dealloc(pointer, layout) };
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Entries and shards: tables that were just doubled, and some that will be soon.
const CASES: [(u64, u64); 7] = [(1200, 1), (7200, 1), (8300, 1), (10_000, 1), (4200, 16), (8300, 16), (10_000, 16)];
const TEXT: usize = 200;

/// What the library counts for a result beside its text.
const KEPT: usize = 200;

/// The most that a cache may say for each byte that it takes.
const EXAGGERATION: f64 = 1.5;

/// A value of the make of the library's own results.
#[derive(Clone)]
#[allow(dead_code, reason = "it takes room")]
struct Kept {
    value: Arc<str>,
    streams: [Arc<(Vec<u8>, bool)>; 2],
    confinement: Option<Arc<()>>,
}

/// Bytes said for each taken, and when.
type Ratios = RefCell<Vec<(f64, String)>>;

fn main() {
    let ratios = Ratios::default();
    for (max_entries, shards) in CASES {
        for policy in [Policy::Lru, Policy::TwoQueues] {
            let settings = Settings {
                max_entries,
                max_bytes: 1 << 30,
                ttl: Duration::from_secs(1),
                policy,
                shards,
                alert: AlertRule { threshold: 2.0, interval: Duration::ZERO },
                has_shadow: true,
            };
            let texts = |number: u32| Arc::<[u8]>::from([number as u8; TEXT]);
            follow(&ratios, &settings, "texts", TEXT, texts);
            let results = |number: u32| Kept {
                value: "7".repeat(TEXT / 2).into(),
                streams: [Arc::new((vec![number as u8; TEXT / 2], false)), Arc::default()],
                confinement: None,
            };
            follow(&ratios, &settings, "results", TEXT + KEPT, results);
        }
    }
    let mut ratios = ratios.into_inner();
    ratios.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    for (ratio, case) in [ratios.first(), ratios.last()].into_iter().flatten() {
        println!("{ratio:.2} bytes said for each taken: {case}");
    }
}

fn follow<V: Clone>(ratios: &Ratios, settings: &Settings, what: &str, weight: usize, value: impl Fn(u32) -> V) {
    let before = OUT.load(Ordering::Relaxed);
    let cache = Cache::new(settings);
    let taken = || OUT.load(Ordering::Relaxed) - before;
    let holds = |when: &str| {
        let (taken, said) = (taken(), cache.stats().bytes as usize);
        let ratio = said as f64 / taken as f64;
        let Settings { max_entries, policy, shards, .. } = settings;
        let case =
            format!("{max_entries} {what}, {} in {shards}, {when}: {taken} bytes, said to be {said}", policy.name());
        ratios.borrow_mut().push((ratio, case.clone()));
        assert!((1.0..=EXAGGERATION).contains(&ratio), "{case}");
    };
    let entries = settings.max_entries as u32;
    let key = |number: u32| of_code(&number.to_string());
    let put = |number: u32, now: Tick| drop(cache.put(key(number), value(number), weight, None, now));
    let at = |millis: u64| Tick::default().after(Duration::from_millis(millis));
    (0..entries / 2).for_each(|number| put(number, at(0)));
    holds("half full");
    (0..entries).for_each(|number| put(number, at(0)));
    holds("full");
    for round in 1..=5 {
        (0..entries / 2).for_each(|number| put(number, at(round)));
        (0..entries).for_each(|number| put(number, at(round)));
    }
    holds("after replacements, whose old times are noted still");
    (entries..4 * entries).for_each(|number| put(number, at(6)));
    holds("after evictions");
    (3 * entries..5 * entries).step_by(2).for_each(|number| drop(cache.get(&key(number), at(7))));
    (0..2 * entries).step_by(3).for_each(|number| put(number, at(7)));
    holds("after returns");
    cache.clear();
    // The tables of a cache that holds nothing.
    assert!(taken() < 4096 * settings.shards as usize, "{} bytes are left", taken());
}
