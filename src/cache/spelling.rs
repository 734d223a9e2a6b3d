//! Keys by the very text of the data they were made from.
//!
//! To find out what a run's data is, its text must be read: every member, every number. A caller that asks the same thing
//! again mostly sends the very bytes it sent before, and these are known by comparing them, at the speed of memory.

use std::sync::Arc;
use std::time::Duration;

use super::clock::Tick;
use super::key::{Digest, QuickHash};
use super::{AlertRule, Cache, CacheStats, Excess, Policy, Settings};

/// Texts and the keys they stand for. Shared freely between threads.
#[derive(Debug)]
pub struct Spellings {
    quick: QuickHash,
    known: Cache<Arc<Spelling>>,
}

#[derive(Debug)]
struct Spelling {
    skill: Digest,
    text: Box<str>,
    key: Digest,
}

/// What a text takes beyond itself: what it stands for, the counts in front of that, and the words by which the allocator knows both.
const WEIGHT: usize = size_of::<Spelling>() + 6 * size_of::<usize>();

impl Spellings {
    /// Room for so many texts, of so many bytes together.
    pub fn new(max_entries: u64, max_bytes: u64, shards: u64) -> Self {
        let known = Cache::new(&Settings {
            max_entries,
            max_bytes,
            // A text means the same for ever.
            ttl: Duration::MAX,
            policy: Policy::Lru,
            shards,
            alert: AlertRule { threshold: 1.0, interval: Duration::MAX },
            has_shadow: false,
        });
        Spellings { quick: QuickHash::default(), known }
    }

    /// The key that a text stood for when this skill was run with it.
    pub fn find(&self, skill: &Digest, text: &str, now: Tick) -> Option<Digest> {
        let spelling = self.known.find(&self.quick_key(skill, text), now)?;
        (spelling.skill == *skill && *spelling.text == *text).then_some(spelling.key)
    }

    /// Remembers what a text stands for.
    pub fn learn(&self, skill: &Digest, text: &str, key: Digest, now: Tick) {
        let spelling = Spelling { skill: *skill, text: text.into(), key };
        let put = self.known.put(self.quick_key(skill, text), Arc::new(spelling), WEIGHT + text.len(), None, now);
        drop(put);
    }

    /// Forgets all of them.
    pub fn clear(&self) {
        self.known.clear();
    }

    /// Forgets the older half; says how many those were, and what they weighed.
    pub fn shrink(&self) -> [u64; 2] {
        self.known.shrink()
    }

    /// What they take.
    pub fn stats(&self) -> CacheStats {
        self.known.stats()
    }

    /// The first bound that does not hold.
    pub fn excess(&self) -> Option<Excess> {
        self.known.excess()
    }

    fn quick_key(&self, skill: &Digest, text: &str) -> Digest {
        self.quick.of(skill.word(0), text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::key::of_code;

    #[test]
    fn a_text_is_known_for_its_skill_alone() {
        let (spellings, now) = (Spellings::new(10, 1 << 20, 1), Tick::at(0));
        let (skill, other, key) = (of_code("skill"), of_code("other"), of_code("key"));
        assert_eq!(spellings.find(&skill, "{}", now), None);
        spellings.learn(&skill, "{}", key, now);
        assert_eq!(spellings.find(&skill, "{}", now), Some(key));
        assert_eq!((spellings.find(&skill, "{ }", now), spellings.find(&other, "{}", now)), (None, None));
        spellings.clear();
        assert_eq!(spellings.find(&skill, "{}", now), None);
    }
}
