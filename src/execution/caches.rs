//! The three caches: how they are set up, watched, emptied.

use std::sync::PoisonError;
use std::time::Duration;

use crate::cache::spelling::Spellings;
use crate::cache::{AlertRule, CacheStats, Policy, Settings, UtilizationAlert};
use crate::config::Config;
use crate::error::{Error, Result, nearest};
use crate::json::Value;
use crate::monitor::event::Severity;

use super::Execution;

/// The part of the results' bytes that goes to the texts by which they are found: texts are about as long as answers, but one that
/// is forgotten costs microseconds and no run.
const SPELLINGS: u64 = 8;

/// What the cache of results is to be.
pub(super) fn results(config: &Config) -> Settings {
    let is_on = config.cache_execution_enabled;
    let bytes = mebibytes(config.cache_execution_max_mb);
    Settings {
        max_entries: if is_on { config.cache_execution_max_entries } else { 0 },
        max_bytes: bytes - bytes / SPELLINGS,
        ttl: Duration::from_secs(config.cache_execution_ttl_s),
        // The option takes no other names.
        policy: Policy::named(&config.cache_execution_policy).unwrap_or_default(),
        shards: config.cache_execution_shards,
        alert: alert(config),
        has_shadow: true,
    }
}

/// The texts by which results are found: as many as there may be results.
pub(super) fn spellings(config: &Config) -> Spellings {
    let Settings { max_entries, shards, .. } = results(config);
    Spellings::new(max_entries, mebibytes(config.cache_execution_max_mb) / SPELLINGS, shards)
}

/// What the cache of parsed skills is to be: unless said otherwise half as many as results, for twice the time.
pub(super) fn prepared(config: &Config) -> Settings {
    let entries = config.cache_prepared_max_entries.unwrap_or((config.cache_execution_max_entries / 2).max(1));
    let ttl_s = config.cache_prepared_ttl_s.unwrap_or(config.cache_execution_ttl_s * 2);
    Settings {
        max_entries: if config.cache_prepared_enabled { entries } else { 0 },
        max_bytes: mebibytes(config.cache_prepared_max_mb),
        ttl: Duration::from_secs(ttl_s),
        policy: Policy::Lru,
        shards: 0,
        alert: alert(config),
        has_shadow: false,
    }
}

/// What the cache of records is to be.
pub(super) fn records(config: &Config) -> Settings {
    Settings {
        max_entries: config.cache_metadata_max_entries,
        max_bytes: mebibytes(config.cache_metadata_max_mb),
        ttl: Duration::from_secs(config.cache_metadata_ttl_s),
        ..prepared(config)
    }
}

fn alert(config: &Config) -> AlertRule {
    let interval = Duration::from_secs(config.cache_alert_interval_s);
    AlertRule { threshold: config.cache_alert_threshold, interval }
}

fn mebibytes(count: u64) -> u64 {
    count << 20
}

impl Execution {
    /// Results, parsed skills, records; by name.
    pub fn cache_stats(&self) -> [(&'static str, CacheStats); 3] {
        // First: who was counted here has missed before, and must be among the misses.
        let coalesced = self.flights.coalesced();
        let mut results = self.results.stats();
        let spellings = self.spellings.stats();
        results.bytes += spellings.bytes;
        results.max_bytes += spellings.max_bytes;
        results.coalesced = coalesced;
        [("execution", results), ("prepared", self.prepared.stats()), ("metadata", self.records.stats())]
    }

    /// Lets go of the older half of every cache, and of the embeddings in memory: entries and bytes, by name.
    pub fn shrink(&self) -> [(&'static str, [u64; 2]); 4] {
        let mut results = self.results.shrink();
        // Texts by which results are found are no entries of their own.
        results[1] += self.spellings.shrink()[1];
        let vectors = [0, self.store.unload_vectors()];
        [
            ("execution", results),
            ("prepared", self.prepared.shrink()),
            ("metadata", self.records.shrink()),
            ("vectors", vectors),
        ]
    }

    /// Every bound of every cache of which at least `threshold` is used now.
    pub fn nearly_full(&self, threshold: f64) -> Vec<Value> {
        let caches = [
            ("execution", self.results.nearly_full(threshold)),
            ("prepared", self.prepared.nearly_full(threshold)),
            ("metadata", self.records.nearly_full(threshold)),
        ];
        let told = |(cache, alerts): (&'static str, Vec<UtilizationAlert>)| {
            alerts.into_iter().map(move |alert| {
                let message = [("message", Value::from(alert.message()))];
                Value::object(alert_fields(cache, &alert).into_iter().chain(message))
            })
        };
        caches.into_iter().flat_map(told).collect()
    }

    /// Makes events of what a put has brought to its threshold.
    pub(super) fn alert(&self, cache: &'static str, alerts: &[Option<UtilizationAlert>]) {
        for alert in alerts.iter().flatten() {
            self.monitor.event("cache_utilization", Severity::Warning, &alert.message(), alert_fields(cache, alert));
        }
    }

    /// Empties a cache by name, or `all`.
    pub fn clear(&self, which: &str) -> Result<()> {
        let known = ["execution", "prepared", "metadata", "all"];
        if !known.contains(&which) {
            let meant = nearest(which, known);
            let message = format!("there is no cache `{which}`; there are {}", known.join(", "));
            return Err(Error::invalid(message).suggestion(meant));
        }
        let is_meant = |name: &str| which == name || which == "all";
        let mut stored = Ok(());
        if is_meant("execution") {
            // First, so that nothing lands that was begun before.
            self.flights.make_void(None);
            // If the database cannot be written now, what is in memory goes all the same.
            stored = self.store.clear_results().map(|epoch| self.begin_epoch(epoch));
            // Again, for whoever found something there meanwhile; what has landed of that goes with the rest.
            self.flights.make_void(None);
            self.results.clear();
            // And again, so that what was found in memory meanwhile is not handed on to who asks from now on.
            self.flights.make_void(None);
            self.spellings.clear();
        }
        if is_meant("prepared") {
            self.prepared.clear();
        }
        if is_meant("metadata") {
            self.records.clear();
        }
        stored
    }

    /// Empties the results if another process has cleared them since the last look.
    pub(super) fn notice_epoch(&self, epoch: i64) {
        let mut known = self.epoch.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_some_and(|known| known != epoch) {
            self.flights.make_void(None);
            self.results.clear();
            self.flights.make_void(None);
        }
        // Not before: others who have seen it too wait for that.
        *known = Some(epoch);
    }

    /// The epoch in which a run begins now.
    pub(super) fn current_epoch(&self) -> i64 {
        self.epoch.lock().unwrap_or_else(PoisonError::into_inner).unwrap_or_default()
    }

    /// What this process has cleared itself need not be noticed.
    fn begin_epoch(&self, epoch: Option<i64>) {
        if epoch.is_some() {
            *self.epoch.lock().unwrap_or_else(PoisonError::into_inner) = epoch;
        }
    }

    /// Drops what is expired in all caches, and of the results in the database.
    pub fn evict_expired(&self) -> Result<u64> {
        let now = self.clock.now();
        let in_memory =
            self.results.evict_expired(now) + self.prepared.evict_expired(now) + self.records.evict_expired(now);
        let stored = if self.store.keeps_results() { self.store.sweep_results()? } else { 0 };
        Ok(in_memory + stored)
    }
}

/// What an alert says, by name.
fn alert_fields(cache: &'static str, alert: &UtilizationAlert) -> Vec<(&'static str, Value)> {
    vec![
        ("cache", Value::from(cache)),
        ("bound", Value::from(alert.bound.name())),
        ("size", Value::from(alert.size)),
        ("max_size", Value::from(alert.max_size)),
        ("threshold", Value::from(alert.threshold)),
    ]
}
