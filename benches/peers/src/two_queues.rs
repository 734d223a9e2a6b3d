//! A scan-resistant cache directory made of three `lru` lists.
//!
//! New keys wait in a short *probation* queue, keys that proved themselves live in *main*, and *ghosts* remembers keys
//! that left probation without their values. This is 2Q (Johnson and Shasha, VLDB 1994: A1in, Am and A1out); promoting
//! what was hit while it waited, at the moment it leaves, is S3-FIFO's rule (Yang et al., SOSP 2023).

use std::hash::{BuildHasher, Hash};

use lru::LruCache;

/// What a hit in probation leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promotion {
    /// Nothing: only a ghost that comes back enters main (2Q).
    Never,
    /// A move to main at the hit of this number.
    AtHit(u32),
    /// A move to main when the entry would leave probation and was hit at least so many times (S3-FIFO).
    OnLeaving(u32),
}

/// The bounds, and the choices that are compared.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Entries at most.
    pub entries: usize,
    /// The sum of the weights at most.
    pub weight: usize,
    /// Probation's share of either bound, percent.
    pub probation: usize,
    /// Ghosts at most, as percent of `entries`.
    pub ghosts: usize,
    /// A hit in probation makes the entry its youngest.
    pub probation_is_lru: bool,
    pub promotion: Promotion,
    /// Entries that leave main become ghosts too.
    pub main_leaves_ghosts: bool,
    /// Entries that probation may have in any case, but for half of a small cache.
    pub least: usize,
    /// Ghosts are counted against the entries there are, and not against the entries there may be.
    pub ghosts_of_residents: bool,
}

impl Rules {
    /// Classic 2Q with its authors' shares: a quarter for A1in, keys of half the capacity in A1out.
    pub fn classic(entries: usize) -> Rules {
        Rules {
            entries,
            weight: usize::MAX,
            probation: 25,
            ghosts: 50,
            probation_is_lru: false,
            promotion: Promotion::Never,
            main_leaves_ghosts: false,
            least: 1,
            ghosts_of_residents: false,
        }
    }

    /// What came out best: a tenth in recency order, the third hit proves a key, as many ghosts as entries.
    pub fn recommended() -> Rules {
        Rules {
            probation: 10,
            ghosts: 100,
            ghosts_of_residents: true,
            probation_is_lru: true,
            promotion: Promotion::AtHit(3),
            ..Rules::classic(0)
        }
    }

    /// Plain LRU: all of it is probation, in recency order, and nothing leaves a ghost.
    pub fn lru() -> Rules {
        Rules { ghosts: 0, probation_is_lru: true, ..Rules::classic(0) }
    }

    /// What probation may have of a bound before it has to give: rounded down, at least `least`, and at most a half.
    fn share(&self, bound: usize, least: usize) -> usize {
        // Hundreds first: a bound may be `usize::MAX`.
        let share = bound / 100 * self.probation + bound % 100 * self.probation / 100;
        share.max(least).min(bound / 2)
    }
}

struct Entry<V> {
    value: V,
    weight: usize,
    hits: u32,
}

struct Queue<K: Hash + Eq, V, S: BuildHasher> {
    entries: LruCache<K, Entry<V>, S>,
    weight: usize,
}

impl<K: Hash + Eq, V, S: BuildHasher> Queue<K, V, S> {
    fn push(&mut self, key: K, entry: Entry<V>) {
        self.weight += entry.weight;
        if let Some((_, old)) = self.entries.push(key, entry) {
            self.weight -= old.weight;
        }
    }

    fn pop(&mut self, key: &K) -> Option<(K, Entry<V>)> {
        let (key, entry) = self.entries.pop_entry(key)?;
        self.weight -= entry.weight;
        Some((key, entry))
    }

    fn pop_oldest(&mut self) -> Option<(K, Entry<V>)> {
        let (key, entry) = self.entries.pop_lru()?;
        self.weight -= entry.weight;
        Some((key, entry))
    }
}

/// The directory.
pub struct TwoQueues<K: Hash + Eq, V, S: BuildHasher> {
    rules: Rules,
    main: Queue<K, V, S>,
    probation: Queue<K, V, S>,
    ghosts: LruCache<K, (), S>,
}

impl<K: Hash + Eq, V, S: BuildHasher + Clone> TwoQueues<K, V, S> {
    pub fn new(rules: Rules, hasher: S) -> Self {
        let queue = || Queue { entries: LruCache::unbounded_with_hasher(hasher.clone()), weight: 0 };
        TwoQueues { rules, main: queue(), probation: queue(), ghosts: LruCache::unbounded_with_hasher(hasher.clone()) }
    }

    /// The value of a key; the access is recorded.
    pub fn get(&mut self, key: &K) -> Option<&V> {
        if self.main.entries.promote(key) {
            return self.main.entries.peek(key).map(|entry| &entry.value);
        }
        let entry = match self.rules.probation_is_lru {
            true => self.probation.entries.get_mut(key),
            false => self.probation.entries.peek_mut(key),
        }?;
        entry.hits += 1;
        let moves = match self.rules.promotion {
            Promotion::AtHit(number) => entry.hits >= number,
            Promotion::Never | Promotion::OnLeaving(_) => false,
        };
        if !moves {
            return self.probation.entries.peek(key).map(|entry| &entry.value);
        }
        let (key, entry) = self.probation.pop(key)?;
        // The key is gone from the caller's reach once it is pushed: main's youngest is it.
        self.main.push(key, entry);
        self.main.entries.peek_mru().map(|(_, entry)| &entry.value)
    }

    /// Keeps a value. What main holds or a ghost remembers goes to main, any other key to probation; there is room before
    /// it enters, so that it never makes room for itself.
    pub fn put(&mut self, key: K, value: V, weight: usize) {
        let is_proven = self.main.pop(&key).is_some() | self.ghosts.pop(&key).is_some();
        let hits = self.probation.pop(&key).map_or(0, |(_, old)| old.hits);
        self.make_room(weight, !is_proven);
        let queue = if is_proven { &mut self.main } else { &mut self.probation };
        queue.push(key, Entry { value, weight, hits });
    }

    /// Entries now.
    pub fn len(&self) -> usize {
        self.main.entries.len() + self.probation.entries.len()
    }

    /// The sum of the weights now.
    pub fn weight(&self) -> usize {
        self.main.weight + self.probation.weight
    }

    fn make_room(&mut self, weight: usize, is_new: bool) {
        while self.len() > 0 {
            let (waiting, new) = (self.probation.entries.len() + usize::from(is_new), if is_new { weight } else { 0 });
            let probation_is_over = if self.len() + 1 > self.rules.entries {
                waiting > self.rules.share(self.rules.entries, self.rules.least)
            } else if self.weight() + weight > self.rules.weight {
                self.probation.weight + new > self.rules.share(self.rules.weight, 0)
            } else {
                return;
            };
            let from_probation = match probation_is_over {
                true => !self.probation.entries.is_empty(),
                false => self.main.entries.is_empty(),
            };
            if from_probation {
                self.evict_probation();
            } else if let Some((key, _)) = self.main.pop_oldest()
                && self.rules.main_leaves_ghosts
            {
                self.remember(key);
            }
        }
    }

    fn evict_probation(&mut self) {
        let Some((key, entry)) = self.probation.pop_oldest() else { return };
        match self.rules.promotion {
            Promotion::OnLeaving(hits) if entry.hits >= hits => self.main.push(key, Entry { hits: 0, ..entry }),
            _ => self.remember(key),
        }
    }

    fn remember(&mut self, key: K) {
        self.ghosts.push(key, ());
        let around = if self.rules.ghosts_of_residents { self.len() + 1 } else { self.rules.entries };
        while self.ghosts.len() > around.saturating_mul(self.rules.ghosts) / 100 {
            self.ghosts.pop_lru();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::traces::Random;

    type Directory = TwoQueues<usize, usize, std::hash::RandomState>;

    fn directory(rules: Rules) -> Directory {
        Directory::new(rules, std::hash::RandomState::new())
    }

    fn rules(entries: usize) -> Rules {
        Rules { entries, ..Rules::recommended() }
    }

    #[test]
    fn bounds_hold_and_the_newest_is_there() {
        let mut random = Random(1);
        for entries in [1, 2, 3, 10, 100] {
            for weight in [10, 100, usize::MAX] {
                let mut directory = directory(Rules { weight, ..rules(entries) });
                let mut known = HashSet::new();
                for _ in 0..20_000 {
                    let key = random.below(entries * 3);
                    if let Some(&value) = directory.get(&key) {
                        assert!(value == key && known.contains(&key));
                    } else {
                        directory.put(key, key, 1 + random.below(10));
                        known.insert(key);
                        assert_eq!(directory.get(&key), Some(&key));
                    }
                    assert!(directory.len() <= entries && directory.weight() <= weight);
                    assert!(directory.ghosts.len() <= entries);
                    let weights = |queue: &Queue<usize, usize, std::hash::RandomState>| {
                        queue.entries.iter().map(|(_, entry)| entry.weight).sum::<usize>()
                    };
                    assert_eq!(weights(&directory.main), directory.main.weight);
                    assert_eq!(weights(&directory.probation), directory.probation.weight);
                }
            }
        }
    }

    #[test]
    fn a_scan_leaves_main_alone() {
        let mut directory = directory(rules(10));
        for key in 0..9 {
            directory.put(key, key, 1);
            (0..3).for_each(|_| assert_eq!(directory.get(&key), Some(&key)));
        }
        (100..1000).for_each(|key| directory.put(key, key, 1));
        (0..9).for_each(|key| assert_eq!(directory.get(&key), Some(&key)));
        assert_eq!(directory.len(), 10);
    }

    #[test]
    fn a_ghost_enters_main() {
        let mut directory = directory(rules(10));
        (0..11).for_each(|key| directory.put(key, key, 1));
        assert_eq!(directory.get(&0), None);
        directory.put(0, 0, 1);
        assert!(directory.main.entries.contains(&0));
    }
}
