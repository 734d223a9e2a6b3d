//! One shard: entries in the order in which they are to leave, bounded by number and by bytes.
//!
//! A shard belongs to one lock, so nothing here is atomic. What leaves it is handed out, never dropped: values may be large,
//! and whoever holds the lock is in everybody's way.
//!
//! *Expired entries leave first.* Every entry is noted in a heap by a moment at which its time is up, or earlier. Notes are not
//! taken back when an entry is evicted or replaced by one that lives longer: when its moment comes, the entry is looked at, and noted
//! anew if it has longer to live. So a put pays for a push at most, which ends where it begins as long as later entries live longer,
//! and notes that nobody needs go when their time comes, or when they outnumber the entries. Each put also looks at a few notes whose
//! moment has come, so that a cache that is used does not fill with expired entries, and never at many, so that nobody waits; only a
//! put for which there is no room looks until it finds an entry that is expired, or none. Sorting out notes that nobody needs takes some
//! 20 ns for each entry, once in as many puts as there are entries.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::clock::Tick;
use super::key::Digest;
use super::lists::{Lists, Policy};
use super::shadow::Shadow;

/// What an entry takes beyond its value: its key; its node in a list; its places in the map of the list and in the heap of
/// times, both of which may be half empty; the headers of its allocations. For values of the size of a slice's reference; larger
/// ones count what is more. Held to what the allocator gives out by `tests/cache_memory.rs`.
pub(super) const OVERHEAD: usize = 336;

/// What the memory of a key that has left takes, under a policy that remembers some.
pub(super) const GHOST: usize = 128;

/// How many expired entries a put takes away at most beyond what its own entry needs.
const SWEPT_BY_A_PUT: usize = 2;

/// How many notes whose moment has come are looked at under one lock, beyond those that a new entry needs: a few microseconds.
const NOTES_AT_ONCE: usize = 128;

/// How many notes there may be for each entry, and how many in any case.
const NOTES: (usize, usize) = (2, 64);

/// The bounds of a shard.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub entries: usize,
    pub bytes: usize,
}

#[derive(Debug)]
pub(super) struct Shard<V> {
    lists: Lists<Entry<V>>,
    /// When entries expire, the first on top.
    due: BinaryHeap<Reverse<(Tick, Digest)>>,
    bytes: usize,
    room: Room,
    counters: Counters,
    shadow: Option<Shadow>,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    /// Value, key and overhead.
    bytes: usize,
    /// The last moment at which it may be handed out.
    due: Tick,
    /// The moment under which it is noted.
    noted: Tick,
}

/// What left a cache. Mostly that is one value, for which nothing need be allocated.
#[derive(Debug)]
pub(super) struct Left<V> {
    first: Option<V>,
    others: Vec<V>,
}

impl<V> Left<V> {
    pub const fn nothing() -> Self {
        Left { first: None, others: Vec::new() }
    }

    pub fn push(&mut self, value: V) {
        match self.first {
            None => self.first = Some(value),
            Some(_) => self.others.push(value),
        }
    }
}

/// What a look-up finds.
pub(super) enum Found<V> {
    Current(V),
    /// Taken out, and what the shard was before.
    Expired {
        value: V,
        before: [usize; 2],
    },
    Nothing,
}

#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counters {
    pub hits: u64,
    pub misses: u64,
    pub evictions: u64,
    pub expirations: u64,
    pub refusals: u64,
}

impl<V: Clone> Shard<V> {
    pub fn new(policy: Policy, room: Room, shadow: Option<Shadow>) -> Self {
        Shard {
            lists: Lists::new(policy),
            due: BinaryHeap::new(),
            bytes: 0,
            room,
            counters: Counters::default(),
            shadow,
        }
    }

    /// The value of a key that is there and not too old. An entry that is too old leaves, and is handed out to be dropped.
    #[inline]
    pub fn find(&mut self, key: &Digest, now: Tick) -> Found<V> {
        match self.lists.get(key) {
            Some(entry) if now <= entry.due => Found::Current(entry.value.clone()),
            Some(_) => {
                let before = self.size();
                self.expire(key).map_or(Found::Nothing, |value| Found::Expired { value, before })
            }
            None => Found::Nothing,
        }
    }

    /// Counts a look-up of a key, and follows it in the shadow if it is one of those.
    #[inline]
    pub fn count(&mut self, key: &Digest, is_hit: bool) {
        *(if is_hit { &mut self.counters.hits } else { &mut self.counters.misses }) += 1;
        if let Some(shadow) = &mut self.shadow {
            shadow.looked_up(key, is_hit);
        }
    }

    pub fn count_refusal(&mut self) {
        self.counters.refusals += 1;
    }

    /// Keeps a value that fits into the room by itself. What leaves for it goes to `left`.
    pub fn put(&mut self, key: Digest, value: V, bytes: usize, due: Tick, now: Tick, left: &mut Left<V>) {
        let mut looks = NOTES_AT_ONCE;
        (0..SWEPT_BY_A_PUT).map_while(|_| self.take_expired(now, &mut looks)).for_each(|value| left.push(value));
        self.bytes += bytes;
        let old = self.lists.insert(key, Entry { value, bytes, due, noted: due });
        let noted = old.as_ref().map(|old| old.noted).filter(|noted| *noted <= due);
        if let Some(old) = old {
            self.bytes -= old.bytes;
            left.push(old.value);
        }
        match noted.and_then(|noted| Some((noted, self.lists.peek_mut(&key)?))) {
            Some((noted, entry)) => entry.noted = noted,
            None => self.due.push(Reverse((due, key))),
        }
        while self.lists.len() > self.room.entries || self.total_bytes() > self.room.bytes {
            // All of them, if need be: nothing else may leave while something is expired.
            match self.take_expired(now, &mut { usize::MAX }).or_else(|| self.evict(Some(&key))) {
                Some(value) => left.push(value),
                None if self.lists.forget_ghost() => {}
                // The new entry is alone: it fits by itself.
                None => break,
            }
        }
        self.drop_stale_notes();
        if let Some(shadow) = &mut self.shadow {
            shadow.put(&key, self.lists.len());
        }
    }

    /// Takes an entry out, whatever its age.
    pub fn remove(&mut self, key: &Digest) -> Option<V> {
        let entry = self.lists.remove(key)?;
        self.bytes -= entry.bytes;
        Some(entry.value)
    }

    /// Takes out some expired entries; says whether there are no more.
    pub fn sweep(&mut self, now: Tick) -> (Vec<V>, bool) {
        let mut looks = NOTES_AT_ONCE;
        let taken = std::iter::from_fn(|| self.take_expired(now, &mut looks)).collect();
        (taken, looks > 0)
    }

    /// Takes out the entry that expired first, if one has, and if it is found within so many looks at notes.
    #[inline]
    fn take_expired(&mut self, now: Tick, looks: &mut usize) -> Option<V> {
        while let Some(Reverse((moment, key))) = self.due.peek().copied()
            && moment < now
            && *looks > 0
        {
            *looks -= 1;
            self.due.pop();
            match self.lists.peek_mut(&key).filter(|entry| entry.noted == moment) {
                Some(entry) if entry.due == moment => return self.expire(&key),
                Some(entry) => {
                    entry.noted = entry.due;
                    self.due.push(Reverse((entry.due, key)));
                }
                // Of an entry that is gone, or noted elsewhere.
                None => {}
            }
        }
        None
    }

    fn expire(&mut self, key: &Digest) -> Option<V> {
        let entry = self.lists.retire(key)?;
        self.bytes -= entry.bytes;
        self.counters.expirations += 1;
        Some(entry.value)
    }

    fn evict(&mut self, except: Option<&Digest>) -> Option<V> {
        let entry = self.lists.evict(except)?;
        self.bytes -= entry.bytes;
        self.counters.evictions += 1;
        Some(entry.value)
    }

    /// Takes out those that are to leave first, until there are no more than `entries`.
    pub fn shrink(&mut self, entries: usize) -> Vec<V> {
        let excess = self.lists.len().saturating_sub(entries);
        let taken = std::iter::from_fn(|| self.evict(None)).take(excess).collect();
        self.drop_stale_notes();
        taken
    }

    fn drop_stale_notes(&mut self) {
        if self.due.len() > NOTES.0 * self.lists.len() + NOTES.1 {
            self.due = self.lists.iter().map(|(key, entry)| Reverse((entry.noted, *key))).collect();
        }
    }

    /// A shard that has counted what this one has and holds nothing; this one's entries go with it.
    pub fn emptied(&mut self) -> Self {
        let shadow = self.shadow.as_ref().map(Shadow::emptied);
        let empty = Shard {
            lists: self.lists.emptied(),
            due: BinaryHeap::new(),
            bytes: 0,
            room: self.room,
            counters: self.counters,
            shadow,
        };
        std::mem::replace(self, empty)
    }

    /// Entries, and what they and the ghosts weigh.
    pub fn size(&self) -> [usize; 2] {
        [self.lists.len(), self.total_bytes()]
    }

    fn total_bytes(&self) -> usize {
        self.bytes + self.lists.ghosts() * GHOST
    }

    /// How many notes name a moment that has passed.
    #[cfg(test)]
    pub fn noted_before(&self, now: Tick) -> usize {
        self.due.iter().filter(|Reverse((moment, _))| *moment < now).count()
    }

    /// As if the bounds had not been kept.
    #[cfg(test)]
    pub fn set_room(&mut self, room: Room) {
        self.room = room;
    }

    pub fn room(&self) -> Room {
        self.room
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    pub fn shadow(&self) -> Option<&Shadow> {
        self.shadow.as_ref()
    }
}
