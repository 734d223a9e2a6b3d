//! Which entry leaves: the lists of a shard.
//!
//! *LRU* is one list in the order of use.
//!
//! *2Q* (Johnson and Shasha, VLDB 1994) tries newcomers in a small list of their own, *probation*, so that keys that are asked for
//! once do not drive out those that are asked for again. What leaves probation is remembered by its key alone, as a *ghost*; a
//! ghost that comes back goes straight to the *main* list. What differs from the paper was measured on traces of 100,000 keys
//! (`benches/peers`). Probation has a tenth of the entries, not a quarter, and all the room that main does not use; ghosts are as
//! many as entries, not half: then fewer entries are lost to one-off keys. Probation is in the order of use, and the third use of an entry there promotes
//! it: without that a working set that changes is learnt too slowly, and promoting at the first use, as S3-FIFO does when an entry leaves
//! (Yang et al., SOSP 2023), lets bursts of three requests into main. Ghosts are counted against the entries that are there, not
//! those that may be: where the bytes are what is scarce, ten times as many ghosts as entries would let everything into main.

use lru::LruCache;

use super::key::{AsHash, Digest};

/// Which entry leaves a full cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// The least recently used one.
    #[default]
    Lru,
    /// One that was used once or twice, if those are more than a tenth; else the least recently used of the others.
    TwoQueues,
}

/// One in so many entries is in probation when the cache is full, and at least one.
const PROBATION_SHARE: usize = 10;

/// The use that promotes, the put counted as none.
const PROMOTED_AT: u8 = 3;

type List<T> = LruCache<Digest, T, AsHash>;

#[derive(Debug)]
pub(super) struct Lists<T> {
    policy: Policy,
    main: List<T>,
    probation: List<Newcomer<T>>,
    ghosts: List<()>,
}

#[derive(Debug)]
struct Newcomer<T> {
    entry: T,
    uses: u8,
}

impl Policy {
    /// The policy of that name.
    pub fn named(name: &str) -> Option<Self> {
        [Policy::Lru, Policy::TwoQueues].into_iter().find(|policy| policy.name() == name)
    }

    /// `lru` or `2q`.
    pub fn name(self) -> &'static str {
        match self {
            Policy::Lru => "lru",
            Policy::TwoQueues => "2q",
        }
    }

    /// The one that this one is compared with.
    pub(super) fn other(self) -> Self {
        match self {
            Policy::Lru => Policy::TwoQueues,
            Policy::TwoQueues => Policy::Lru,
        }
    }
}

impl<T> Lists<T> {
    /// Lists without a bound of their own: their owner decides when something leaves, and counts it.
    pub fn new(policy: Policy) -> Self {
        Lists { policy, main: list(), probation: list(), ghosts: list() }
    }

    /// An entry, which is used by this.
    #[inline]
    pub fn get(&mut self, key: &Digest) -> Option<&T> {
        match self.policy {
            Policy::Lru => self.main.get(key),
            Policy::TwoQueues => self.get_from_two(key),
        }
    }

    fn get_from_two(&mut self, key: &Digest) -> Option<&T> {
        if let Some(newcomer) = self.probation.get_mut(key) {
            newcomer.uses += 1;
            if newcomer.uses < PROMOTED_AT {
                return self.probation.peek(key).map(|newcomer| &newcomer.entry);
            }
            let promoted = self.probation.pop(key)?.entry;
            self.main.push(*key, promoted);
        }
        self.main.get(key)
    }

    /// An entry, to be changed. It is not used by this.
    pub fn peek_mut(&mut self, key: &Digest) -> Option<&mut T> {
        let Lists { main, probation, .. } = self;
        main.peek_mut(key).or_else(|| probation.peek_mut(key).map(|newcomer| &mut newcomer.entry))
    }

    /// Adds an entry as the one used last, or takes the place of the one under that key and hands that out.
    pub fn insert(&mut self, key: Digest, entry: T) -> Option<T> {
        if self.policy == Policy::Lru {
            return self.main.push(key, entry).map(|(_, old)| old);
        }
        if let Some(newcomer) = self.probation.get_mut(&key) {
            return Some(std::mem::replace(&mut newcomer.entry, entry));
        }
        if self.main.contains(&key) || self.ghosts.pop(&key).is_some() {
            return self.main.push(key, entry).map(|(_, old)| old);
        }
        self.probation.push(key, Newcomer { entry, uses: 0 });
        None
    }

    /// Takes an entry out, and does not remember it.
    pub fn remove(&mut self, key: &Digest) -> Option<T> {
        self.main.pop(key).or_else(|| self.probation.pop(key).map(|newcomer| newcomer.entry))
    }

    /// Takes out an entry whose time is up. If it comes back it was asked for again.
    pub fn retire(&mut self, key: &Digest) -> Option<T> {
        let entry = self.remove(key)?;
        if self.policy == Policy::TwoQueues {
            self.remember(*key);
        }
        Some(entry)
    }

    /// Takes out the entry that is to leave, which is not `except`; nothing if there is no other.
    pub fn evict(&mut self, except: Option<&Digest>) -> Option<T> {
        // `except` is what is one too many.
        let share = (self.len().saturating_sub(1) / PROBATION_SHARE).max(1);
        let is_free = |key: Option<&Digest>| key.is_some_and(|key| Some(key) != except);
        let from_main = is_free(self.main.peek_lru().map(|(key, _)| key));
        let from_probation = is_free(self.probation.peek_lru().map(|(key, _)| key));
        if from_probation && (self.probation.len() > share || !from_main) {
            let (key, newcomer) = self.probation.pop_lru()?;
            self.remember(key);
            return Some(newcomer.entry);
        }
        if from_main { self.main.pop_lru().map(|(_, entry)| entry) } else { None }
    }

    fn remember(&mut self, key: Digest) {
        self.ghosts.push(key, ());
        while self.ghosts.len() > self.len().max(1) {
            self.ghosts.pop_lru();
        }
    }

    /// All entries, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = (&Digest, &T)> {
        self.main.iter().chain(self.probation.iter().map(|(key, newcomer)| (key, &newcomer.entry)))
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.main.len() + self.probation.len()
    }

    /// How many keys are remembered of entries that left.
    pub fn ghosts(&self) -> usize {
        self.ghosts.len()
    }

    /// Forgets a ghost, the oldest; says whether there was one.
    pub fn forget_ghost(&mut self) -> bool {
        self.ghosts.pop_lru().is_some()
    }

    /// The same policy and nothing in it.
    pub fn emptied(&self) -> Self {
        Lists::new(self.policy)
    }
}

fn list<T>() -> List<T> {
    LruCache::unbounded_with_hasher(AsHash::default())
}
