//! Our cache as a subject, as the library has it: times to live, bytes, counters, alerts, and the shadow of the other policy.

use std::time::Duration;

use skillcache::cache::clock::Clock;
use skillcache::cache::key::Digest;
use skillcache::cache::{AlertRule, Cache, Policy, Settings};

use crate::subject::{Subject, Value};
use crate::traces::Key;

pub struct Ours {
    name: &'static str,
    cache: Cache<Value>,
    clock: Clock,
}

impl Ours {
    pub fn new(name: &'static str, policy: Policy, capacity: usize, shards: u64) -> Ours {
        let settings = Settings {
            max_entries: capacity as u64,
            max_bytes: 1 << 40,
            ttl: Duration::from_secs(86_400),
            policy,
            shards,
            alert: AlertRule { threshold: 0.85, interval: Duration::from_secs(60) },
            has_shadow: true,
        };
        Ours { name, cache: Cache::new(&settings), clock: Clock::default() }
    }
}

impl Subject for Ours {
    fn name(&self) -> &str {
        self.name
    }

    fn get(&self, key: &Key) -> Option<Value> {
        self.cache.get(&Digest::from_bytes(*key), self.clock.now())
    }

    fn put(&self, key: Key, value: Value) {
        let weight = value.len();
        drop(self.cache.put(Digest::from_bytes(key), value, weight, None, self.clock.now()));
    }
}
