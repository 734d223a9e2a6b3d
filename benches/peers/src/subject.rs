//! The caches that are compared, each with the digest's first bytes as its hash.

use std::hash::{BuildHasherDefault, Hasher};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use foyer_memory::{EvictionConfig, LruConfig, S3FifoConfig};
use quick_cache::sync::DefaultLifecycle;
use quick_cache::{OptionsBuilder, UnitWeighter};
use skillcache::cache::clock::{Clock, Tick};

use crate::traces::Key;
use crate::two_queues::{Rules, TwoQueues};

pub type Value = Arc<[u8]>;

/// A bounded map with digests as keys.
pub trait Subject: Sync {
    fn name(&self) -> &str;
    fn get(&self, key: &Key) -> Option<Value>;
    fn put(&self, key: Key, value: Value);
    /// Carries out what the cache puts off.
    fn settle(&self) {}
}

/// Takes the first eight bytes of a digest: they are as good as any hash of it.
#[derive(Debug, Default, Clone, Copy)]
pub struct Prefix(u64);

impl Hasher for Prefix {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

pub type PrefixState = BuildHasherDefault<Prefix>;

/// How many locks a cache may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shards {
    /// One, so that its policy sees every request.
    One,
    /// As many as the cache takes by itself.
    Usual,
}

pub struct Lru(Mutex<lru::LruCache<Key, Value, PrefixState>>);

impl Lru {
    pub fn new(capacity: usize) -> Lru {
        let capacity = NonZeroUsize::new(capacity).expect("a capacity");
        Lru(Mutex::new(lru::LruCache::with_hasher(capacity, PrefixState::default())))
    }
}

impl Subject for Lru {
    fn name(&self) -> &str {
        "Mutex<lru>"
    }

    fn get(&self, key: &Key) -> Option<Value> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn put(&self, key: Key, value: Value) {
        let old = self.0.lock().unwrap_or_else(PoisonError::into_inner).push(key, value);
        drop(old);
    }
}

pub struct Queues {
    name: String,
    weigh: fn(&Key) -> usize,
    inner: Mutex<TwoQueues<Key, Value, PrefixState>>,
}

impl Queues {
    pub fn new(name: impl Into<String>, rules: Rules) -> Queues {
        Queues::weighed(name, rules, |_| 1)
    }

    pub fn weighed(name: impl Into<String>, rules: Rules, weigh: fn(&Key) -> usize) -> Queues {
        Queues { name: name.into(), weigh, inner: Mutex::new(TwoQueues::new(rules, PrefixState::default())) }
    }
}

impl Subject for Queues {
    fn name(&self) -> &str {
        &self.name
    }

    fn get(&self, key: &Key) -> Option<Value> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn put(&self, key: Key, value: Value) {
        let weight = (self.weigh)(&key);
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).put(key, value, weight);
    }
}

pub struct Quick(quick_cache::sync::Cache<Key, Value, UnitWeighter, PrefixState>);

impl Quick {
    pub fn new(capacity: usize, shards: Shards) -> Quick {
        let mut options = OptionsBuilder::new();
        options.estimated_items_capacity(capacity).weight_capacity(capacity as u64);
        if shards == Shards::One {
            options.shards(1);
        }
        let options = options.build().expect("good options");
        Quick(quick_cache::sync::Cache::with_options(
            options,
            UnitWeighter,
            PrefixState::default(),
            DefaultLifecycle::default(),
        ))
    }
}

impl Subject for Quick {
    fn name(&self) -> &str {
        "quick_cache"
    }

    fn get(&self, key: &Key) -> Option<Value> {
        self.0.get(key)
    }

    fn put(&self, key: Key, value: Value) {
        self.0.insert(key, value);
    }
}

/// With the hasher that it has by default, as most who use it have it.
pub struct QuickAsItComes(quick_cache::sync::Cache<Key, Value>);

impl QuickAsItComes {
    pub fn new(capacity: usize) -> QuickAsItComes {
        QuickAsItComes(quick_cache::sync::Cache::new(capacity))
    }
}

impl Subject for QuickAsItComes {
    fn name(&self) -> &str {
        "quick_cache, own hash"
    }

    fn get(&self, key: &Key) -> Option<Value> {
        self.0.get(key)
    }

    fn put(&self, key: Key, value: Value) {
        self.0.insert(key, value);
    }
}

/// With what a user of it adds to have times to live: the moment beside the value, by the same clock as ours.
pub struct QuickWithTimes {
    inner: quick_cache::sync::Cache<Key, (Tick, Value)>,
    clock: Clock,
}

impl QuickWithTimes {
    pub fn new(capacity: usize) -> QuickWithTimes {
        QuickWithTimes { inner: quick_cache::sync::Cache::new(capacity), clock: Clock::default() }
    }
}

impl Subject for QuickWithTimes {
    fn name(&self) -> &str {
        "quick_cache, times"
    }

    fn get(&self, key: &Key) -> Option<Value> {
        let (due, value) = self.inner.get(key)?;
        (self.clock.now() <= due).then_some(value)
    }

    fn put(&self, key: Key, value: Value) {
        self.inner.insert(key, (self.clock.now().after(Duration::from_secs(86_400)), value));
    }
}

pub struct Moka(moka::sync::Cache<Key, Value, PrefixState>);

impl Moka {
    pub fn new(capacity: usize) -> Moka {
        let builder = moka::sync::Cache::builder().max_capacity(capacity as u64);
        Moka(builder.build_with_hasher(PrefixState::default()))
    }
}

impl Subject for Moka {
    fn name(&self) -> &str {
        "moka"
    }

    fn get(&self, key: &Key) -> Option<Value> {
        self.0.get(key)
    }

    fn put(&self, key: Key, value: Value) {
        self.0.insert(key, value);
    }

    fn settle(&self) {
        self.0.run_pending_tasks();
    }
}

pub struct Foyer {
    name: &'static str,
    inner: foyer_memory::Cache<Key, Value, PrefixState>,
}

impl Foyer {
    pub fn s3_fifo(capacity: usize, shards: Shards) -> Foyer {
        Foyer::new("foyer S3-FIFO", S3FifoConfig::default().into(), capacity, shards)
    }

    pub fn lru(capacity: usize, shards: Shards) -> Foyer {
        Foyer::new("foyer LRU", LruConfig::default().into(), capacity, shards)
    }

    fn new(name: &'static str, eviction: EvictionConfig, capacity: usize, shards: Shards) -> Foyer {
        let builder = foyer_memory::CacheBuilder::new(capacity)
            .with_hash_builder(PrefixState::default())
            .with_eviction_config(eviction);
        let builder = if shards == Shards::One { builder.with_shards(1) } else { builder };
        Foyer { name, inner: builder.build() }
    }
}

impl Subject for Foyer {
    fn name(&self) -> &str {
        self.name
    }

    fn get(&self, key: &Key) -> Option<Value> {
        self.inner.get(key).map(|entry| entry.value().clone())
    }

    fn put(&self, key: Key, value: Value) {
        self.inner.insert(key, value);
    }
}
