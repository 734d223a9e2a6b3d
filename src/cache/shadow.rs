//! What the other policy would have done: a directory of keys without values, run beside the real lists.
//!
//! Following every key would cost as much as the cache itself, so of large caches one key in eight is followed, in a
//! directory of an eighth of the size: keys are digests, so the sample is fair, and by Waldspurger et al. (SHARDS, FAST 2015)
//! a cache scaled down with its key space has the hit ratio of the whole. The directory counts entries; bytes and times to live
//! it does not know.

use super::key::Digest;
use super::lists::{Lists, Policy};

/// One key in so many is followed, in caches of at least [`SAMPLED_FROM`] entries. A power of two.
const ONE_IN: usize = 8;

/// A sample of a smaller cache would be too small to say anything.
const SAMPLED_FROM: usize = 256;

/// How many keys more than its share a sample may have by chance.
const CHANCE: usize = 16;

#[derive(Debug)]
pub(super) struct Shadow {
    lists: Lists<()>,
    /// How many keys it may hold, and how many now.
    most: usize,
    room: usize,
    one_in: usize,
    won: u64,
    lost: u64,
}

impl Shadow {
    /// The shadow of a shard for `entries` that follows `policy`, in a cache for `all`.
    pub fn of(policy: Policy, entries: usize, all: usize) -> Self {
        let one_in = if all >= SAMPLED_FROM { ONE_IN } else { 1 };
        let most = entries / one_in;
        Shadow { lists: Lists::new(policy.other()), most, room: most, one_in, won: 0, lost: 0 }
    }

    /// Takes note of a look-up and of what the cache made of it.
    #[inline]
    pub fn looked_up(&mut self, key: &Digest, is_hit: bool) {
        if self.follows(key) {
            self.compare(key, is_hit);
        }
    }

    fn compare(&mut self, key: &Digest, is_hit: bool) {
        match (is_hit, self.lists.get(key).is_some()) {
            (false, true) => self.won += 1,
            (true, false) => {
                self.lost += 1;
                // The other policy would have put it now.
                self.take_in(key);
            }
            _ => {}
        }
    }

    /// Takes note of an entry that the cache takes in, which then has so many. Where bytes are what is scarce these are fewer than
    /// there may be, and the shadow follows no more than they are.
    pub fn put(&mut self, key: &Digest, entries: usize) {
        self.room = self.most.min(entries / self.one_in + CHANCE);
        if self.follows(key) {
            self.take_in(key);
        }
    }

    fn take_in(&mut self, key: &Digest) {
        // What it holds already was put while it was not asked: no use of it.
        if self.lists.peek_mut(key).is_none() {
            self.lists.insert(*key, ());
        }
        while self.lists.len() > self.room && self.lists.evict(Some(key)).is_some() {}
    }

    /// Look-ups that missed here and would not have under the other policy.
    pub fn won(&self) -> u64 {
        self.won * self.one_in as u64
    }

    /// Look-ups that were answered here and would not have been under the other policy.
    pub fn lost(&self) -> u64 {
        self.lost * self.one_in as u64
    }

    /// The same counts and no keys.
    pub fn emptied(&self) -> Self {
        Shadow {
            lists: self.lists.emptied(),
            most: self.most,
            room: self.room,
            one_in: self.one_in,
            won: self.won,
            lost: self.lost,
        }
    }

    #[inline]
    fn follows(&self, key: &Digest) -> bool {
        // As a remainder would say, without a division: this is asked at every look-up.
        key.sample() & (self.one_in - 1) == 0
    }
}
