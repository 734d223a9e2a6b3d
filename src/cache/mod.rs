//! The cache room: bounded memory with a time to live, and numbers that add up.
//!
//! A [`Cache`] is some shards behind a lock each. A shard (`shard.rs`) is made of the lists of its policy (`lists.rs`) and a heap
//! of the moments at which entries expire. Keys are digests, whose first bytes serve as their hash. A hit is a lock, a look into
//! one map, a move to the front of a list, and a clone of a value that is cheap to clone.
//!
//! *Bounds.* Entries and bytes, both hard. An entry weighs its value, as told by whoever puts it, its key and what the lists take
//! for it. One that would take more than an eighth of its shard is refused and counted: a single one shall not
//! empty the cache.
//!
//! *Order.* A small cache is one shard, so that its order and its bounds are exact: at millions of operations a second its
//! lock is never in sight beside the runs that it saves. Large ones have 16; each is exact by itself.
//!
//! *Time.* An entry is expired when its age is above its time to live. Expired entries are never handed out, and leave before
//! any other when there is no room. Whatever is dropped is dropped when no lock is held.
//!
//! Beside caches, [`flight`] lets one of many do the work, [`key`] says what makes two runs the same, and [`spelling`] remembers
//! it by the very text.

mod alert;
pub mod clock;
pub mod flight;
pub mod key;
mod lists;
mod shadow;
mod shard;
pub mod spelling;

use std::time::Duration;

pub use alert::{AlertRule, Bound, UtilizationAlert};
pub use clock::Tick;
pub use lists::Policy;

use crate::json::Value;
use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering, PoisonError};
use alert::Alarm;
use key::Digest;
use shadow::Shadow;
use shard::{Found, Left, OVERHEAD, Room, Shard};

/// An entry takes at most this part of its shard's bytes.
const LARGEST_SHARE: usize = 8;

/// Caches of fewer entries are one shard, and others so many.
const SHARDED_FROM: usize = 4096;
const SHARDS: usize = 16;

/// What a cache is to be.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How many entries it keeps; 0 keeps nothing.
    pub max_entries: u64,
    /// How many bytes they may take.
    pub max_bytes: u64,
    /// How long an entry without a time of its own is handed out; 0 keeps nothing.
    pub ttl: Duration,
    /// Which entry leaves when there is no room.
    pub policy: Policy,
    /// How many shards; 0 for one up to 4095 entries, and 16 from there on. Never more than there may be entries.
    pub shards: u64,
    /// When it is nearly full.
    pub alert: AlertRule,
    /// Whether it counts what the other policy would have done.
    pub has_shadow: bool,
}

/// A map that forgets: what its policy says when it is full, every entry when its time is up.
///
/// Shared freely between threads. Values are cloned under a lock: they should be cheap to clone, and must not panic when they are.
#[derive(Debug)]
pub struct Cache<V> {
    shards: Box<[Padded<V>]>,
    max_entries: u64,
    max_bytes: u64,
    ttl: Duration,
    policy: Policy,
    size: AtomicU64,
    bytes: AtomicU64,
    alarms: [Alarm; 2],
}

/// A shard in cache lines of its own, so that threads at two of them are not in each other's way.
#[derive(Debug)]
#[repr(align(128))]
struct Padded<V>(Mutex<Shard<V>>);

/// Why an entry was not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The cache keeps nothing, or its time to live is 0.
    KeepsNothing,
    /// It weighs so much, and an entry may weigh so much at most.
    TooLarge {
        /// With key and overhead.
        bytes: usize,
        /// An eighth of a shard.
        most: usize,
    },
}

/// A shard that holds more than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Excess {
    /// Of which bound.
    pub bound: Bound,
    /// Entries, or bytes, now.
    pub size: usize,
    /// Entries, or bytes, at most.
    pub most: usize,
}

/// What a put did. Holds what left the cache for it, so that it is dropped where no lock is held.
#[derive(Debug)]
#[must_use = "it may hold alerts"]
pub struct Put<V> {
    /// Why the entry was not kept, if it was not.
    pub refusal: Option<Refusal>,
    /// Bounds that are now nearly reached.
    pub alerts: [Option<UtilizationAlert>; 2],
    _left: Left<V>,
}

/// What a cache did and holds. `hits + misses` is the number of look-ups; a look-up that found an expired entry is a miss.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CacheStats {
    /// Entries now.
    pub size: u64,
    /// Entries at most.
    pub max_size: u64,
    /// Look-ups answered.
    pub hits: u64,
    /// Look-ups not answered.
    pub misses: u64,
    /// The time to live of entries that have none of their own.
    pub ttl: Duration,
    /// What the entries weigh: values, keys and overhead.
    pub bytes: u64,
    /// What they may weigh.
    pub max_bytes: u64,
    /// Entries that left because the cache was full.
    pub evictions: u64,
    /// Entries that left because their time was up.
    pub expirations: u64,
    /// Entries that were too large to be kept.
    pub refusals: u64,
    /// Misses that were answered by what somebody else was at already.
    pub coalesced: u64,
    /// Misses that the other policy would have answered, estimated.
    pub ghost_hits: u64,
    /// Hits that the other policy would have missed, estimated.
    pub ghost_misses: u64,
    /// The policy.
    pub policy: Policy,
}

impl<V: Clone> Cache<V> {
    /// A cache that holds nothing yet.
    pub fn new(settings: &Settings) -> Self {
        let Settings { max_entries, max_bytes, ttl, policy, alert, .. } = *settings;
        let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let entries = count(max_entries);
        let shards = match count(settings.shards) {
            0 if entries < SHARDED_FROM => 1,
            0 => SHARDS,
            asked => asked.clamp(1, entries.max(1)),
        };
        let shard = |index: usize| {
            let room = Room {
                entries: entries / shards + usize::from(index < entries % shards),
                // No machine has more, and a sum of weights in excess of it still fits.
                bytes: (count(max_bytes) / shards).min(usize::MAX / 2),
            };
            let shadow = settings.has_shadow.then(|| Shadow::of(policy, room.entries, entries));
            Padded(Mutex::new(Shard::new(policy, room, shadow)))
        };
        Cache {
            shards: (0..shards).map(shard).collect(),
            max_entries,
            max_bytes,
            ttl,
            policy,
            size: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            alarms: [Alarm::new(Bound::Entries, max_entries, alert), Alarm::new(Bound::Bytes, max_bytes, alert)],
        }
    }

    /// Looks up a key and counts that: its value, if it is there and its age is not above its time to live.
    pub fn get(&self, key: &Digest, now: Tick) -> Option<V> {
        self.look_up(key, now, true)
    }

    /// Looks without counting; who finds out only later whether it was a hit [counts](Self::count) then.
    pub fn find(&self, key: &Digest, now: Tick) -> Option<V> {
        self.look_up(key, now, false)
    }

    #[inline]
    fn look_up(&self, key: &Digest, now: Tick, is_counted: bool) -> Option<V> {
        let mut shard = self.lock(key);
        let found = shard.find(key, now);
        if is_counted {
            shard.count(key, matches!(found, Found::Current(_)));
        }
        match found {
            Found::Current(value) => Some(value),
            Found::Nothing => None,
            Found::Expired { value, before } => {
                self.resized(before, shard.size());
                drop(shard);
                drop(value);
                None
            }
        }
    }

    /// Counts a look-up.
    pub fn count(&self, key: &Digest, is_hit: bool) {
        self.lock(key).count(key, is_hit);
    }

    /// Keeps a value that weighs `weight` bytes, for `ttl` or the cache's own time to live. What was kept under the key before
    /// goes in any case: it is older.
    pub fn put(&self, key: Digest, value: V, weight: usize, ttl: Option<Duration>, now: Tick) -> Put<V> {
        let ttl = ttl.unwrap_or(self.ttl);
        let bytes = weight.saturating_add(OVERHEAD);
        let mut left = Left::nothing();
        let mut shard = self.lock(&key);
        let before = shard.size();
        let refusal = self.refusal(&shard, bytes, ttl);
        match refusal {
            None => shard.put(key, value, bytes, now.after(ttl), now, &mut left),
            Some(_) => shard.remove(&key).into_iter().for_each(|value| left.push(value)),
        }
        if let Some(Refusal::TooLarge { .. }) = refusal {
            shard.count_refusal();
        }
        let [size, bytes] = self.resized(before, shard.size());
        drop(shard);
        let alerts = match refusal {
            None => [self.grown(0, size, now), self.grown(1, bytes, now)],
            Some(_) => [None; 2],
        };
        Put { refusal, alerts, _left: left }
    }

    /// Whether anything may be kept for `ttl`, or the cache's own time to live.
    pub fn can_keep(&self, ttl: Option<Duration>) -> bool {
        self.max_entries > 0 && !ttl.unwrap_or(self.ttl).is_zero()
    }

    /// Why a value that weighs `weight` bytes would not be kept, if it would not.
    pub fn would_refuse(&self, key: &Digest, weight: usize, ttl: Option<Duration>) -> Option<Refusal> {
        self.refusal(&self.lock(key), weight.saturating_add(OVERHEAD), ttl.unwrap_or(self.ttl))
    }

    fn refusal(&self, shard: &Shard<V>, bytes: usize, ttl: Duration) -> Option<Refusal> {
        let most = shard.room().bytes / LARGEST_SHARE;
        if !self.can_keep(Some(ttl)) {
            Some(Refusal::KeepsNothing)
        } else if bytes > most {
            Some(Refusal::TooLarge { bytes, most })
        } else {
            None
        }
    }

    /// Adds up what a shard has become, and says what the cache has. Under the shard's lock, so that nothing is taken off the sum
    /// before it was added.
    fn resized(&self, before: [usize; 2], after: [usize; 2]) -> [u64; 2] {
        let totals = [&self.size, &self.bytes];
        std::array::from_fn(|index| {
            // Modulo 2^64, so that a loss is added as well.
            let change = (after[index] as u64).wrapping_sub(before[index] as u64);
            if change == 0 {
                return totals[index].load(Ordering::Relaxed);
            }
            let total = totals[index].fetch_add(change, Ordering::Relaxed).wrapping_add(change);
            if after[index] < before[index] {
                self.alarms[index].shrunk(total);
            }
            total
        })
    }

    /// Reports a size to its alarm. Others may have emptied the cache since it was taken: then the alarm must be armed again.
    fn grown(&self, index: usize, size: u64, now: Tick) -> Option<UtilizationAlert> {
        let alert = self.alarms[index].grown(size, now)?;
        self.alarms[index].shrunk([&self.size, &self.bytes][index].load(Ordering::Relaxed));
        Some(alert)
    }

    /// Forgets everything; the counters go on.
    pub fn clear(&self) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            let before = shard.size();
            let emptied = shard.emptied();
            self.resized(before, [0, 0]);
            drop(shard);
            drop(emptied);
        }
    }

    /// Forgets every expired entry and says how many there were. Hits go on meanwhile: no lock is held for long.
    pub fn evict_expired(&self, now: Tick) -> u64 {
        let mut expired = 0;
        for shard in &self.shards {
            loop {
                let mut shard = lock(shard);
                let before = shard.size();
                let (taken, is_done) = shard.sweep(now);
                self.resized(before, shard.size());
                drop(shard);
                expired += taken.len() as u64;
                if is_done {
                    break;
                }
            }
        }
        expired
    }

    /// Lets go of half of the entries, those that are to leave first; they are counted as evictions. Says how many left, and what they
    /// weighed.
    pub fn shrink(&self) -> [u64; 2] {
        let mut freed = [0; 2];
        for shard in &self.shards {
            let mut shard = lock(shard);
            let before = shard.size();
            let taken = shard.shrink(before[0] / 2);
            let after = shard.size();
            self.resized(before, after);
            drop(shard);
            drop(taken);
            // With ghosts for what left, a shard of tiny entries may even weigh more.
            (0..2).for_each(|index| freed[index] += before[index].saturating_sub(after[index]) as u64);
        }
        freed
    }

    /// The bounds of which at least `threshold` is used now; asking changes nothing.
    pub fn nearly_full(&self, threshold: f64) -> Vec<UtilizationAlert> {
        let sizes = [&self.size, &self.bytes].map(|size| size.load(Ordering::Relaxed));
        self.alarms.iter().zip(sizes).filter_map(|(alarm, size)| alarm.would_say(size, threshold)).collect()
    }

    /// The first bound of a shard that does not hold, which would be a bug. Has every lock once; changes and counts nothing.
    pub fn excess(&self) -> Option<Excess> {
        self.shards.iter().find_map(|shard| {
            let shard = lock(shard);
            let (Room { entries, bytes }, size) = (shard.room(), shard.size());
            let bounds = [(Bound::Entries, entries), (Bound::Bytes, bytes)].into_iter().zip(size);
            let excesses = bounds.map(|((bound, most), size)| Excess { bound, size, most });
            excesses.into_iter().find(|excess| excess.size > excess.most)
        })
    }

    /// What it did and holds. Each shard's part is of one moment, so that every hit and every miss is a look-up.
    pub fn stats(&self) -> CacheStats {
        let Cache { max_entries, max_bytes, ttl, policy, .. } = *self;
        let mut stats = CacheStats { max_size: max_entries, max_bytes, ttl, policy, ..CacheStats::default() };
        for shard in &self.shards {
            let shard = lock(shard);
            let [size, bytes] = shard.size();
            let counters = shard.counters();
            stats.size += size as u64;
            stats.bytes += bytes as u64;
            stats.hits += counters.hits;
            stats.misses += counters.misses;
            stats.evictions += counters.evictions;
            stats.expirations += counters.expirations;
            stats.refusals += counters.refusals;
            stats.ghost_hits += shard.shadow().map_or(0, Shadow::won);
            stats.ghost_misses += shard.shadow().map_or(0, Shadow::lost);
        }
        stats
    }

    fn lock(&self, key: &Digest) -> MutexGuard<'_, Shard<V>> {
        match &*self.shards {
            [only] => lock(only),
            shards => lock(&shards[key.shard(shards.len())]),
        }
    }
}

fn lock<V>(shard: &Padded<V>) -> MutexGuard<'_, Shard<V>> {
    // Nothing that can panic runs under the lock: digests are hashed and compared, values cloned, and moved.
    shard.0.lock().unwrap_or_else(PoisonError::into_inner)
}

impl CacheStats {
    /// Hits per look-up; 0 before the first.
    pub fn hit_rate(&self) -> f64 {
        share(self.hits, self.hits + self.misses)
    }

    /// Entries per possible entry; 0 for a cache that keeps nothing.
    pub fn utilization(&self) -> f64 {
        share(self.size, self.max_size)
    }

    /// The members the reference has, and ours.
    pub fn to_value(&self) -> Value {
        Value::object([
            ("size", Value::from(self.size)),
            ("max_size", Value::from(self.max_size)),
            ("hits", Value::from(self.hits)),
            ("misses", Value::from(self.misses)),
            ("hit_rate", Value::from(self.hit_rate())),
            ("ttl_hours", Value::from(self.ttl.as_secs_f64() / 3600.0)),
            ("utilization", Value::from(self.utilization())),
            ("utilization_percentage", Value::from(self.utilization() * 100.0)),
            ("bytes", Value::from(self.bytes)),
            ("max_bytes", Value::from(self.max_bytes)),
            ("bytes_utilization", Value::from(share(self.bytes, self.max_bytes))),
            ("evictions", Value::from(self.evictions)),
            ("expirations", Value::from(self.expirations)),
            ("refusals", Value::from(self.refusals)),
            ("coalesced", Value::from(self.coalesced)),
            ("policy", Value::from(self.policy.name())),
            ("ghost_hits", Value::from(self.ghost_hits)),
            ("ghost_misses", Value::from(self.ghost_misses)),
        ])
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests;
