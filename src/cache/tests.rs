//! The caches from outside: against a model that is as simple as can be, at the edges, and under values that call back.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::{Arc, Weak, mpsc};

use proptest::prelude::*;

use super::shard::GHOST;
use super::*;

/// An alert rule that never speaks.
const QUIET: AlertRule = AlertRule { threshold: 2.0, interval: Duration::ZERO };

fn settings(policy: Policy, max_entries: u64) -> Settings {
    Settings {
        max_entries,
        max_bytes: 1 << 30,
        ttl: Duration::from_millis(100),
        policy,
        shards: 1,
        alert: QUIET,
        has_shadow: false,
    }
}

fn key(number: u8) -> Digest {
    Digest([number; 32])
}

/// Keys that are spread over shards and samples as real ones are.
fn spread(number: u32) -> Digest {
    key::of_code(&number.to_string())
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Puts a value of no weight for the cache's own time; it is kept.
fn keep<V: Clone>(cache: &Cache<V>, key: Digest, value: V, now: Tick) -> [Option<UtilizationAlert>; 2] {
    let put = cache.put(key, value, 0, None, now);
    assert_eq!(put.refusal, None);
    put.alerts
}

/// Asks for a key and puts it if it is not there, as callers do; says whether it was there.
fn use_key(cache: &Cache<u32>, number: u32, now: Tick) -> bool {
    let is_hit = cache.get(&spread(number), now).is_some();
    if !is_hit {
        keep(cache, spread(number), number, now);
    }
    is_hit
}

#[derive(Debug, Clone)]
enum Step {
    Get(u8),
    Find(u8),
    Put {
        key: u8,
        weight: usize,
        ttl: Option<u64>,
    },
    Clear,
    EvictExpired,
    /// The clock is turned, mostly forward.
    Turn(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = 0..16_u8;
    let weight =
        prop::sample::select(vec![0, 0, 1, 40, 41, 120, OVERHEAD, 2 * OVERHEAD, 4 * OVERHEAD, 1 << 20, usize::MAX]);
    let ttl = prop::option::weighted(0.3, prop::sample::select(vec![0, 1, 3, 8, u64::MAX]));
    let step = prop_oneof![
        40 => key.clone().prop_map(Step::Get),
        5 => key.clone().prop_map(Step::Find),
        40 => (key, weight, ttl).prop_map(|(key, weight, ttl)| Step::Put { key, weight, ttl }),
        1 => Just(Step::Clear),
        2 => Just(Step::EvictExpired),
        12 => (-6..=10_i64).prop_map(Step::Turn),
        2 => Just(Step::Turn(30)),
    ];
    prop::collection::vec(step, 0..160)
}

/// Bounds in bytes: none, some that bind before 12 entries do, one that nothing fits.
fn bounds_of_bytes() -> impl Strategy<Value = u64> {
    let overhead = OVERHEAD as u64;
    prop::sample::select(vec![
        u64::MAX,
        1 << 30,
        8 * overhead,
        8 * (overhead + 40),
        24 * overhead,
        40 * overhead,
        overhead,
        0,
    ])
}

/// What a cache of one shard should do, written with lists whose last member is the one used last.
struct Model {
    settings: Settings,
    main: Vec<Kept>,
    probation: Vec<Kept>,
    ghosts: Vec<u8>,
    stats: CacheStats,
}

#[derive(Clone)]
struct Kept {
    key: u8,
    value: u32,
    bytes: u64,
    due: u64,
    uses: u8,
}

fn take<T>(list: &mut Vec<T>, is_meant: impl Fn(&T) -> bool) -> Option<T> {
    let index = list.iter().position(is_meant)?;
    Some(list.remove(index))
}

impl Model {
    fn of(settings: &Settings) -> Self {
        let Settings { max_entries, max_bytes, ttl, policy, .. } = *settings;
        let stats = CacheStats { max_size: max_entries, max_bytes, ttl, policy, ..CacheStats::default() };
        Model { settings: settings.clone(), main: vec![], probation: vec![], ghosts: vec![], stats }
    }

    fn len(&self) -> usize {
        self.main.len() + self.probation.len()
    }

    fn bytes(&self) -> u64 {
        let entries: u64 = self.main.iter().chain(&self.probation).map(|kept| kept.bytes).sum();
        entries + (self.ghosts.len() * GHOST) as u64
    }

    fn take(&mut self, key: u8) -> Option<Kept> {
        let is_meant = |kept: &Kept| kept.key == key;
        take(&mut self.main, is_meant).or_else(|| take(&mut self.probation, is_meant))
    }

    fn remember(&mut self, key: u8) {
        if self.settings.policy == Policy::TwoQueues {
            take(&mut self.ghosts, |ghost| *ghost == key);
            self.ghosts.push(key);
            let too_many = self.ghosts.len().saturating_sub(self.len().max(1));
            self.ghosts.drain(..too_many);
        }
    }

    /// The value of a key that is there and in time; this uses it.
    fn find(&mut self, key: u8, now: u64) -> Option<u32> {
        let was_in_probation = self.probation.iter().any(|kept| kept.key == key);
        let mut kept = self.take(key)?;
        if now > kept.due {
            self.stats.expirations += 1;
            self.remember(key);
            return None;
        }
        kept.uses += 1;
        let value = kept.value;
        let stays = was_in_probation && kept.uses < 3;
        (if stays { &mut self.probation } else { &mut self.main }).push(kept);
        Some(value)
    }

    fn get(&mut self, key: u8, now: u64) -> Option<u32> {
        let found = self.find(key, now);
        *(if found.is_some() { &mut self.stats.hits } else { &mut self.stats.misses }) += 1;
        found
    }

    /// Takes out the entry that expired first, of several the one with the smallest key.
    fn expire_one(&mut self, now: u64) -> bool {
        let expired = self.main.iter().chain(&self.probation).filter(|kept| kept.due < now);
        let Some((_, key)) = expired.map(|kept| (kept.due, kept.key)).min() else { return false };
        self.take(key);
        self.stats.expirations += 1;
        self.remember(key);
        true
    }

    fn evict_one(&mut self, newest: u8) -> bool {
        let share = ((self.len() - 1) / 10).max(1);
        let leaves = |list: &Vec<Kept>| list.first().map(|kept| kept.key).filter(|key| *key != newest);
        let (of_main, of_probation) = (leaves(&self.main), leaves(&self.probation));
        let is_probations_turn = self.probation.len() > share || of_main.is_none();
        match (of_main, of_probation) {
            (_, Some(key)) if is_probations_turn => {
                self.take(key);
                self.remember(key);
            }
            (Some(key), _) => drop(self.take(key)),
            _ => return false,
        }
        self.stats.evictions += 1;
        true
    }

    /// Whether it was kept.
    fn put(&mut self, key: u8, value: u32, weight: usize, ttl: Option<Duration>, now: u64) -> Result<(), Refusal> {
        let ttl = ttl.unwrap_or(self.settings.ttl);
        let most = (self.settings.max_bytes as usize).min(usize::MAX / 2) / 8;
        let bytes = weight.saturating_add(OVERHEAD);
        if self.settings.max_entries == 0 || ttl.is_zero() {
            self.take(key);
            return Err(Refusal::KeepsNothing);
        }
        if bytes > most {
            self.take(key);
            self.stats.refusals += 1;
            return Err(Refusal::TooLarge { bytes, most });
        }
        let _ = self.expire_one(now) && self.expire_one(now);
        let due = now.saturating_add(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
        let mut new = Kept { key, value, bytes: bytes as u64, due, uses: 0 };
        let is_lru = self.settings.policy == Policy::Lru;
        if let Some(old) = take(&mut self.probation, |kept| kept.key == key) {
            new.uses = old.uses;
            self.probation.push(new);
        } else if take(&mut self.main, |kept| kept.key == key).is_some()
            || take(&mut self.ghosts, |ghost| *ghost == key).is_some()
            || is_lru
        {
            self.main.push(new);
        } else {
            self.probation.push(new);
        }
        while self.len() as u64 > self.settings.max_entries || self.bytes() > self.settings.max_bytes {
            if !self.expire_one(now) && !self.evict_one(key) {
                self.ghosts.remove(0);
            }
        }
        Ok(())
    }

    fn evict_expired(&mut self, now: u64) -> u64 {
        (0..).take_while(|_| self.expire_one(now)).count() as u64
    }

    fn clear(&mut self) {
        self.main.clear();
        self.probation.clear();
        self.ghosts.clear();
    }

    fn stats(&self) -> CacheStats {
        CacheStats { size: self.len() as u64, bytes: self.bytes(), ..self.stats.clone() }
    }
}

fn turned(now: u64, by: i64) -> u64 {
    now.saturating_add_signed(by)
}

proptest! {
    #[test]
    fn a_cache_does_what_the_model_does(
        policy in prop::sample::select(vec![Policy::Lru, Policy::TwoQueues]),
        max_entries in 0..=12_u64,
        max_bytes in bounds_of_bytes(),
        ttl in prop::sample::select(vec![0, 1, 6, 20, 20, u64::MAX]),
        steps in steps(),
    ) {
        let settings = Settings { max_bytes, ttl: millis(ttl), ..settings(policy, max_entries) };
        let (cache, mut model) = (Cache::new(&settings), Model::of(&settings));
        let mut now = 50;
        for (value, step) in steps.into_iter().enumerate() {
            let (value, tick) = (value as u32, Tick::at(now));
            match step.clone() {
                Step::Get(number) => prop_assert_eq!(cache.get(&key(number), tick), model.get(number, now)),
                Step::Find(number) => prop_assert_eq!(cache.find(&key(number), tick), model.find(number, now)),
                Step::Put { key: number, weight, ttl } => {
                    let ttl = ttl.map(millis);
                    let put = cache.put(key(number), value, weight, ttl, tick);
                    prop_assert_eq!(put.refusal, model.put(number, value, weight, ttl, now).err());
                }
                Step::Clear => (cache.clear(), model.clear()).0,
                Step::EvictExpired => prop_assert_eq!(cache.evict_expired(tick), model.evict_expired(now)),
                Step::Turn(by) => now = turned(now, by),
            }
            prop_assert_eq!(cache.stats(), model.stats(), "after {:?}", step);
        }
        for number in 0..16 {
            prop_assert_eq!(cache.get(&key(number), Tick::at(now)), model.get(number, now));
        }
    }

    #[test]
    fn shards_hold_the_bounds_and_hand_out_what_was_put_last(
        policy in prop::sample::select(vec![Policy::Lru, Policy::TwoQueues]),
        max_entries in 0..=40_u64,
        max_bytes in prop::sample::select(vec![u64::MAX, 1 << 20, 36 * OVERHEAD as u64, 100]),
        steps in steps(),
    ) {
        let cache = Cache::new(&Settings { max_bytes, shards: 4, ..settings(policy, max_entries) });
        let (mut last, mut look_ups, mut now) = (HashMap::new(), 0, 50);
        for (value, step) in steps.into_iter().enumerate() {
            let tick = Tick::at(now);
            match step {
                Step::Get(number) => {
                    look_ups += 1;
                    let found = cache.get(&spread(number.into()), tick);
                    prop_assert!(found.is_none() || found == last.get(&number).copied());
                }
                Step::Find(number) => {
                    let found = cache.find(&spread(number.into()), tick);
                    prop_assert!(found.is_none() || found == last.get(&number).copied());
                }
                Step::Put { key: number, weight, ttl } => {
                    let put = cache.put(spread(number.into()), value, weight, ttl.map(millis), tick);
                    match put.refusal {
                        None => last.insert(number, value),
                        Some(_) => last.remove(&number),
                    };
                }
                Step::Clear => (cache.clear(), last.clear()).0,
                Step::EvictExpired => _ = cache.evict_expired(tick),
                Step::Turn(by) => now = turned(now, by),
            }
            let stats = cache.stats();
            prop_assert!(stats.size <= max_entries && stats.bytes <= max_bytes);
            prop_assert_eq!(stats.hits + stats.misses, look_ups);
            let totals: Vec<u64> = cache.nearly_full(0.0).iter().map(|alert| alert.size).collect();
            let expected = [stats.size, stats.bytes];
            prop_assert_eq!(&totals[..], &expected[usize::from(max_entries == 0)..], "the totals of all shards");
        }
    }
}

#[test]
fn two_queues_keep_what_is_used_again_against_what_is_used_once() {
    let hits = [Policy::Lru, Policy::TwoQueues].map(|policy| {
        let (cache, now, mut one_offs) = (Cache::new(&settings(policy, 100)), Tick::at(0), 1000..);
        let mut hits = 0;
        for _ in 0..20 {
            hits += (0..50).filter(|number| use_key(&cache, *number, now)).count();
            one_offs.by_ref().take(60).for_each(|number| assert!(!use_key(&cache, number, now)));
        }
        hits
    });
    assert_eq!(hits[0], 0, "a round is longer than the list");
    assert!(hits[1] > 850, "{hits:?} of 950");
}

#[test]
fn two_queues_learn_a_new_working_set() {
    let (cache, now) = (Cache::new(&settings(Policy::TwoQueues, 100)), Tick::at(0));
    for set in [0..90, 1000..1090] {
        for number in set.clone().cycle().take(5 * 90) {
            use_key(&cache, number, now);
        }
        let hits = set.filter(|number| use_key(&cache, *number, now)).count();
        assert!(hits > 80, "{hits} of 90");
    }
}

#[test]
fn the_shadow_says_which_policy_is_better() {
    // Small caches are followed key by key, large ones by a sample.
    for size in [100_u32, 2000] {
        let gains = [Policy::Lru, Policy::TwoQueues].map(|policy| {
            let cache = Cache::new(&Settings { has_shadow: true, ..settings(policy, size.into()) });
            let (now, mut one_offs) = (Tick::at(0), 100_000..);
            for _ in 0..20 {
                let one_offs = one_offs.by_ref().take(size as usize * 6 / 10);
                for number in (0..size / 2).chain(one_offs) {
                    use_key(&cache, number, now);
                }
            }
            let stats = cache.stats();
            cache.clear();
            assert_eq!(cache.stats().ghost_hits, stats.ghost_hits, "counters go on");
            stats.ghost_hits as i64 - stats.ghost_misses as i64
        });
        assert!(gains[0] > 0 && gains[1] < 0, "{gains:?}");
    }
    let cache = Cache::new(&settings(Policy::Lru, 1));
    assert!(!use_key(&cache, 1, Tick::at(0)));
    assert_eq!((cache.stats().ghost_hits, cache.stats().ghost_misses), (0, 0), "without a shadow");
}

#[test]
fn a_shadow_that_follows_every_key_is_the_other_policy() {
    // A working set that moves on, which the two policies see very differently.
    let numbers = || (0..20_000_u32).map(|at| at / 40 + at.wrapping_mul(2_654_435_761) % 97 * (at % 7) / 6);
    for (policy, other) in [(Policy::Lru, Policy::TwoQueues), (Policy::TwoQueues, Policy::Lru)] {
        let cache = Cache::new(&Settings { has_shadow: true, ..settings(policy, 60) });
        let rival = Cache::new(&settings(other, 60));
        let (mut won, mut lost) = (0, 0);
        for number in numbers() {
            let is_hit = use_key(&cache, number, Tick::at(0));
            let is_rivals = use_key(&rival, number, Tick::at(0));
            won += u64::from(is_rivals && !is_hit);
            lost += u64::from(is_hit && !is_rivals);
        }
        let stats = cache.stats();
        assert_eq!((stats.ghost_hits, stats.ghost_misses), (won, lost), "{policy:?}");
        assert!(won > 0 && lost > 0, "they differ");
    }
}

#[test]
fn a_put_looks_at_few_notes_however_many_entries_live_longer_than_they_were_noted_for() {
    let room = Room { entries: 1000, bytes: usize::MAX / 4 };
    let mut shard = Shard::new(Policy::Lru, room, None);
    let mut put = |number, due, now| {
        let mut left = shard::Left::nothing();
        shard.put(spread(number), (), OVERHEAD, Tick::at(due), Tick::at(now), &mut left);
        shard.noted_before(Tick::at(now))
    };
    (0..500).for_each(|number| assert_eq!(put(number, 10, 0), 0));
    (0..500).for_each(|number| assert_eq!(put(number, 1000, 5), 0));
    // All are noted for 10, all live until 1000, and it is 20.
    assert_eq!(put(500, 1000, 20), 372, "128 were looked at");
    assert_eq!(put(501, 1000, 20), 244);
    assert_eq!(shard.sweep(Tick::at(20)).0.len(), 0);
    assert_eq!(shard.noted_before(Tick::at(20)), 116);
}

#[test]
fn a_cache_says_once_per_crossing_that_its_entries_are_nearly_as_many_as_may_be() {
    let alert = AlertRule { threshold: 0.8, interval: Duration::ZERO };
    let cache = Cache::new(&Settings { alert, ..settings(Policy::Lru, 10) });
    let now = Tick::at(0);
    let put = |number| keep(&cache, key(number), (), now);
    assert!((0..7).all(|number| put(number) == [None; 2]));
    let expected = UtilizationAlert { bound: Bound::Entries, size: 8, max_size: 10, threshold: 0.8 };
    assert_eq!(put(7), [Some(expected), None]);
    assert!((0..30).all(|number| put(number) == [None; 2]), "it stays full");
    cache.clear();
    assert!((0..7).all(|number| put(number) == [None; 2]));
    assert!(put(7)[0].is_some(), "armed again");
    assert_eq!(cache.evict_expired(Tick::at(101)), 8);
    assert!((0..7).all(|number| keep(&cache, key(number), (), Tick::at(200)) == [None; 2]));
    assert!(keep(&cache, key(7), (), Tick::at(200))[0].is_some(), "and again");
}

#[test]
fn a_cache_says_that_its_bytes_are_nearly_used_and_keeps_the_interval() {
    let alert = AlertRule { threshold: 0.5, interval: millis(1000) };
    let max_bytes = 16 * OVERHEAD as u64;
    let cache = Cache::new(&Settings { alert, max_bytes, ttl: Duration::MAX, ..settings(Policy::Lru, 100) });
    let put = |number, now| cache.put(key(number), (), OVERHEAD, None, Tick::at(now)).alerts;
    assert!((0..3).all(|number| put(number, 5) == [None; 2]));
    let alert = UtilizationAlert { bound: Bound::Bytes, size: max_bytes / 2, max_size: max_bytes, threshold: 0.5 };
    assert_eq!(put(3, 5), [None, Some(alert)]);
    cache.clear();
    assert!((0..8).all(|number| put(number, 1004) == [None; 2]), "too early");
    assert!(put(8, 1005)[1].is_some(), "still nearly full when it is time");
}

#[test]
fn an_entry_found_expired_arms_the_alert_again() {
    let alert = AlertRule { threshold: 1.0, interval: Duration::ZERO };
    let cache = Cache::new(&Settings { alert, ..settings(Policy::Lru, 1) });
    for round in 0..3 {
        assert!(keep(&cache, key(1), (), Tick::at(round * 1000))[0].is_some());
        assert!(cache.get(&key(1), Tick::at(round * 1000 + 101)).is_none());
    }
    assert_eq!(cache.stats().expirations, 3);
}

#[test]
fn a_refused_entry_raises_no_alert() {
    let alert = AlertRule { threshold: 0.0, interval: Duration::ZERO };
    let cache = Cache::new(&Settings { alert, ..settings(Policy::Lru, 10) });
    assert_eq!(cache.put(key(1), (), usize::MAX, None, Tick::at(0)).alerts, [None; 2]);
    assert!(keep(&cache, key(1), (), Tick::at(0)).iter().all(Option::is_some));
}

#[test]
fn who_asks_is_told_what_is_nearly_full() {
    let cache = Cache::new(&settings(Policy::Lru, 10));
    assert_eq!(cache.nearly_full(0.1), []);
    for number in 0..5 {
        keep(&cache, key(number), (), Tick::at(0));
    }
    let full = cache.nearly_full(0.5);
    assert_eq!(full, [UtilizationAlert { bound: Bound::Entries, size: 5, max_size: 10, threshold: 0.5 }]);
    assert_eq!(cache.nearly_full(0.5), full, "asking changes nothing");
    assert_eq!((cache.nearly_full(0.51).len(), cache.nearly_full(0.0).len()), (0, 2));
    assert_eq!(Cache::<()>::new(&settings(Policy::Lru, 0)).nearly_full(0.0).len(), 1, "no entries, but bytes");
}

#[test]
fn a_cache_without_entries_or_without_time_keeps_nothing() {
    let off = settings(Policy::Lru, 0);
    let timeless = Settings { ttl: Duration::ZERO, ..settings(Policy::TwoQueues, 10) };
    for settings in [off, timeless] {
        let cache = Cache::new(&settings);
        let put = cache.put(key(1), 1, 0, None, Tick::at(0));
        assert_eq!((put.refusal, cache.can_keep(None)), (Some(Refusal::KeepsNothing), false));
        assert_eq!(cache.get(&key(1), Tick::at(0)), None);
        let CacheStats { size, bytes, misses, refusals, .. } = cache.stats();
        assert_eq!((size, bytes, misses, refusals), (0, 0, 1, 0), "what is off refuses nothing");
    }
}

#[test]
fn a_put_for_no_time_forgets_what_was_there() {
    let cache = Cache::new(&settings(Policy::Lru, 10));
    keep(&cache, key(1), 1, Tick::at(0));
    let put = cache.put(key(1), 2, 0, Some(Duration::ZERO), Tick::at(0));
    assert_eq!((put.refusal, cache.can_keep(Some(Duration::ZERO))), (Some(Refusal::KeepsNothing), false));
    assert_eq!(cache.get(&key(1), Tick::at(0)), None);
}

#[test]
fn an_entry_of_its_own_time_outlives_a_cache_that_has_none() {
    let cache = Cache::new(&Settings { ttl: Duration::ZERO, ..settings(Policy::Lru, 10) });
    assert!(cache.can_keep(Some(millis(1))));
    assert_eq!(cache.put(key(1), 1, 0, Some(millis(1)), Tick::at(0)).refusal, None);
    assert_eq!((cache.get(&key(1), Tick::at(1)), cache.get(&key(1), Tick::at(2))), (Some(1), None));
}

#[test]
fn a_cache_for_one_keeps_the_last() {
    for policy in [Policy::Lru, Policy::TwoQueues] {
        let cache = Cache::new(&settings(policy, 1));
        for number in 0..5 {
            keep(&cache, key(number), number, Tick::at(0));
        }
        assert_eq!((cache.get(&key(3), Tick::at(0)), cache.get(&key(4), Tick::at(0))), (None, Some(4)));
        assert_eq!((cache.stats().size, cache.stats().evictions), (1, 4));
    }
}

#[test]
fn bounds_beyond_any_machine_take_no_memory_and_do_not_overflow() {
    // The largest that one shard takes.
    let most = usize::MAX / 16 - OVERHEAD;
    for policy in [Policy::Lru, Policy::TwoQueues] {
        for shards in [0, 1, 16] {
            let settings = Settings { max_bytes: u64::MAX, shards, has_shadow: true, ..settings(policy, u64::MAX) };
            let cache = Cache::new(&settings);
            for number in 0..100 {
                let put = cache.put(spread(number), number, most / 16, Some(Duration::MAX), Tick::at(u64::MAX));
                assert!(matches!(put.refusal, None | Some(Refusal::TooLarge { .. })));
                drop(cache.put(spread(number), number, most, None, Tick::at(u64::MAX)));
                drop(cache.put(spread(number), number, usize::MAX, None, Tick::at(0)));
                keep(&cache, spread(1000 + number), number, Tick::at(u64::MAX));
            }
            (0..40).for_each(|number| drop(cache.put(spread(number), number, most / 16, None, Tick::at(1))));
            (0..40).for_each(|number| drop(cache.put(spread(number), number, most / 2, None, Tick::at(1))));
            let stats = cache.stats();
            assert!(stats.size > 0 && stats.bytes < u64::MAX && stats.utilization() < 1.0);
        }
    }
}

#[test]
fn an_entry_for_ever_stays_for_ever() {
    let cache = Cache::new(&Settings { ttl: Duration::MAX, ..settings(Policy::Lru, 10) });
    keep(&cache, key(1), 1, Tick::at(5));
    let end = Tick::at(u64::MAX);
    assert_eq!((cache.evict_expired(end), cache.get(&key(1), end)), (0, Some(1)));
}

#[test]
fn a_clock_that_jumps_back_brings_nothing_back_and_loses_nothing() {
    let cache = Cache::new(&settings(Policy::Lru, 10));
    keep(&cache, key(1), 1, Tick::at(1000));
    assert_eq!(cache.get(&key(1), Tick::at(0)), Some(1), "before it was put");
    assert_eq!(cache.get(&key(1), Tick::at(1100)), Some(1), "to the last moment");
    assert_eq!(cache.get(&key(1), Tick::at(1101)), None);
    assert_eq!(cache.get(&key(1), Tick::at(1000)), None, "gone");
    keep(&cache, key(1), 2, Tick::at(0));
    assert_eq!((cache.get(&key(1), Tick::at(100)), cache.get(&key(1), Tick::at(101))), (Some(2), None));
    assert_eq!((cache.stats().size, cache.stats().expirations), (0, 2));
}

#[test]
fn what_is_larger_than_an_eighth_is_refused_and_what_it_replaces_is_gone() {
    let most = 1000;
    for policy in [Policy::Lru, Policy::TwoQueues] {
        let cache = Cache::new(&Settings { max_bytes: 8 * most as u64 + 7, ..settings(policy, 100) });
        let put = |number, weight| cache.put(key(number), weight, weight, None, Tick::at(0)).refusal;
        assert_eq!((put(1, most - OVERHEAD), put(2, 0)), (None, None), "exactly an eighth");
        assert_eq!(cache.stats().bytes, (most + OVERHEAD) as u64);
        let refusal = Refusal::TooLarge { bytes: most + 1, most };
        assert_eq!((put(1, most - OVERHEAD + 1), put(3, most - OVERHEAD + 1)), (Some(refusal), Some(refusal)));
        assert_eq!(cache.get(&key(1), Tick::at(0)), None, "what was there is older than what was refused");
        let CacheStats { size, bytes, refusals, evictions, .. } = cache.stats();
        assert_eq!((size, bytes, refusals, evictions), (1, OVERHEAD as u64, 2, 0));
    }
}

#[test]
fn look_ups_are_counted_once_by_whoever_knows_what_they_were() {
    let cache = Cache::new(&settings(Policy::Lru, 10));
    keep(&cache, key(1), 1, Tick::at(0));
    assert_eq!((cache.find(&key(1), Tick::at(0)), cache.find(&key(2), Tick::at(0))), (Some(1), None));
    assert_eq!((cache.stats().hits, cache.stats().misses, cache.stats().hit_rate()), (0, 0, 0.0));
    cache.count(&key(1), true);
    cache.count(&key(1), true);
    cache.count(&key(1), true);
    cache.count(&key(2), false);
    assert_eq!((cache.stats().hits, cache.stats().misses, cache.stats().hit_rate()), (3, 1, 0.75));
}

#[test]
fn what_is_expired_leaves_before_what_is_used_least() {
    for policy in [Policy::Lru, Policy::TwoQueues] {
        // The last put takes the place of three, which is more than it sweeps.
        let cache = Cache::new(&Settings { max_bytes: 24 * OVERHEAD as u64, ..settings(policy, 100) });
        let put = |number, weight, ttl, now| drop(cache.put(key(number), number, weight, ttl, Tick::at(now)));
        put(0, 0, Some(Duration::MAX), 0);
        (1..24).for_each(|number| put(number, 0, None, 0));
        put(100, 2 * OVERHEAD, None, 101);
        let CacheStats { evictions, expirations, .. } = cache.stats();
        assert_eq!((evictions, cache.get(&key(0), Tick::at(101))), (0, Some(0)));
        assert!(expirations >= 3);
    }
}

#[test]
fn one_look_out_for_expired_entries_finds_them_all() {
    let cache = Cache::new(&Settings { shards: 4, ..settings(Policy::Lru, 1000) });
    for number in 0..900 {
        keep(&cache, spread(number), number, Tick::at(0));
    }
    for number in 900..905 {
        keep(&cache, spread(number), number, Tick::at(50));
    }
    let expired = 900 - cache.stats().evictions;
    assert_eq!(cache.evict_expired(Tick::at(101)), expired, "more than are taken under one lock");
    assert_eq!((cache.stats().size, cache.evict_expired(Tick::at(101))), (5, 0));
}

/// A value that asks its cache when it is dropped, which ends if no lock is held then.
#[derive(Clone)]
struct Caller {
    cache: Weak<Cache<Caller>>,
}

thread_local! {
    static CALLS: Cell<u32> = const { Cell::new(0) };
}

impl Drop for Caller {
    fn drop(&mut self) {
        if let Some(cache) = self.cache.upgrade() {
            let _ = cache.stats();
            cache.count(&key(0), false);
            CALLS.set(CALLS.get() + 1);
        }
    }
}

#[test]
fn values_are_dropped_where_no_lock_is_held() {
    let (done, is_done) = mpsc::channel();
    std::thread::spawn(move || {
        for policy in [Policy::Lru, Policy::TwoQueues] {
            let cache = Arc::new(Cache::new(&settings(policy, 3)));
            let put = |number, weight, now| {
                let value = Caller { cache: Arc::downgrade(&cache) };
                drop(cache.put(key(number), value, weight, None, Tick::at(now)));
            };
            let dropped = |what: &str, at_least: u32, act: &dyn Fn()| {
                CALLS.set(0);
                act();
                assert!(CALLS.get() >= at_least, "{what}");
            };
            dropped("by evictions", 4, &|| (0..7).for_each(|number| put(number, 0, 0)));
            dropped("by a replacement", 1, &|| put(6, 0, 0));
            dropped("after a hit", 1, &|| drop(cache.get(&key(6), Tick::at(0))));
            dropped("by a refusal, both", 2, &|| put(6, usize::MAX, 0));
            dropped("by being found expired", 1, &|| drop(cache.get(&key(5), Tick::at(101))));
            dropped("by a sweep", 1, &|| put(1, 0, 101));
            put(2, 0, 101);
            dropped("by looking for expired ones", 2, &|| assert_eq!(cache.evict_expired(Tick::at(300)), 2));
            (0..3).for_each(|number| put(number, 0, 300));
            dropped("by emptying", 3, &|| cache.clear());
        }
        done.send(()).expect("somebody waits");
    });
    is_done.recv_timeout(Duration::from_secs(20)).expect("no deadlock, and every value dropped");
}

#[test]
fn a_bound_that_does_not_hold_is_found_and_looking_changes_nothing() {
    for (policy, shards) in [(Policy::Lru, 1), (Policy::TwoQueues, 3)] {
        let cache = Cache::new(&Settings { shards, has_shadow: true, ..settings(policy, 20) });
        for number in 0..100 {
            keep(&cache, spread(number), number, Tick::at(0));
        }
        let before = cache.stats();
        assert_eq!((before.size, cache.excess()), (20, None), "a full cache is within its bounds");
        assert_eq!(cache.stats(), before);
        let last = &cache.shards[cache.shards.len() - 1];
        let Room { entries, bytes } = lock(last).room();
        lock(last).set_room(Room { entries: entries - 1, bytes });
        let excess = Excess { bound: Bound::Entries, size: entries, most: entries - 1 };
        assert_eq!(cache.excess(), Some(excess));
        lock(last).set_room(Room { entries, bytes: 1 });
        assert_eq!(cache.excess().map(|excess| (excess.bound, excess.most)), Some((Bound::Bytes, 1)));
    }
}
