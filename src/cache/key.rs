//! What makes two runs the same.
//!
//! Two runs share a result only if the skill would have seen exactly the same thing. A key is the BLAKE3 hash, all 256
//! bits of it, of length-prefixed fields; no two different lists of fields have the same bytes.

use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};

/// The digest that stands for a run, or for a source.
///
/// Its first bytes are its hash: they are as good as random, and to hash them again would gain nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest(pub(super) [u8; 32]);

/// The version of the list of fields below; part of every key.
const FORMAT: u32 = 2;

/// What a skill's results depend on besides a run's data.
#[derive(Debug, Clone, Copy)]
pub struct SkillFields<'f> {
    /// The skill.
    pub id: &'f str,
    /// The hash of its source.
    pub code: &'f Digest,
    /// Its parameters in canonical JSON; nothing if the source's own default holds.
    pub parameters: Option<&'f str>,
    /// Its input schema in canonical JSON, because a stored result must not answer what the schema refuses.
    pub input_schema: &'f str,
    /// Its output schema likewise, because it decides what is a success.
    pub output_schema: &'f str,
    /// Whether it receives the members of its data sorted.
    pub sorts_members: bool,
    /// Its own limits that it can see.
    pub limits: &'f str,
    /// The interpreter's build and its site-packages setting.
    pub interpreter: &'f str,
}

/// What all keys of a skill's runs begin with.
pub fn of_skill(fields: &SkillFields) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"skillcache run\0");
    hasher.update(&FORMAT.to_le_bytes());
    for field in [
        Some(fields.id.as_bytes()),
        Some(&fields.code.0[..]),
        fields.parameters.map(str::as_bytes),
        Some(fields.input_schema.as_bytes()),
        Some(fields.output_schema.as_bytes()),
        Some(&[u8::from(fields.sorts_members)][..]),
        Some(fields.limits.as_bytes()),
        Some(fields.interpreter.as_bytes()),
    ] {
        hasher.update(&length(field).to_le_bytes());
        hasher.update(field.unwrap_or_default());
    }
    Digest(*hasher.finalize().as_bytes())
}

/// The same for a call that sets limits of its own which a skill can see: memory it may have, output that is kept.
pub fn with_limits(skill: &Digest, limits: &str) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"skillcache limits\0");
    hasher.update(&skill.0);
    hasher.update(limits.as_bytes());
    Digest(*hasher.finalize().as_bytes())
}

/// The key of a run: the skill's, and inputs and context in canonical JSON; nothing where the source's own default holds.
///
/// The lengths stand in front of both, so that the fields are as good as length-prefixed.
pub fn of_run(skill: &Digest, inputs: Option<&str>, context: Option<&str>) -> Digest {
    let mut head = [0; 48];
    head[..32].copy_from_slice(&skill.0);
    head[32..40].copy_from_slice(&length(inputs.map(str::as_bytes)).to_le_bytes());
    head[40..].copy_from_slice(&length(context.map(str::as_bytes)).to_le_bytes());
    let mut hasher = blake3::Hasher::new();
    hasher.update(&head);
    hasher.update(inputs.unwrap_or_default().as_bytes());
    hasher.update(context.unwrap_or_default().as_bytes());
    Digest(*hasher.finalize().as_bytes())
}

/// An absent field and an empty one differ: no length is all ones.
fn length(field: Option<&[u8]>) -> u64 {
    field.map_or(u64::MAX, |field| field.len() as u64)
}

/// The key of what is known of a source: that depends on the rules it was judged by.
pub fn of_verdict(code: &Digest, rules: &str) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"skillcache verdict\0");
    hasher.update(&code.0);
    hasher.update(rules.as_bytes());
    Digest(*hasher.finalize().as_bytes())
}

/// A key that also covers what is the same for all runs of a process and may be different in the next one.
pub fn of_configuration(key: &Digest, parts: &[&str]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&key.0);
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    *hasher.finalize().as_bytes()
}

/// The hash of a source.
pub fn of_code(code: &str) -> Digest {
    Digest(*blake3::hash(code.as_bytes()).as_bytes())
}

/// Makes digests that are fast and not unique: whoever finds something by one compares what was found.
///
/// Seeded anew for every library, so that nobody can choose what collides.
#[derive(Debug, Default)]
pub struct QuickHash(foldhash::fast::RandomState);

impl QuickHash {
    /// The digest of a text and a number.
    pub fn of(&self, number: u64, text: &str) -> Digest {
        let mut hasher = self.0.build_hasher();
        hasher.write_u64(number);
        hasher.write(text.as_bytes());
        let mut digest = [0; 32];
        for part in digest.chunks_exact_mut(8) {
            hasher.write_u8(0);
            part.copy_from_slice(&hasher.finish().to_le_bytes());
        }
        Digest(digest)
    }
}

impl Digest {
    /// A digest that was made elsewhere. Its bytes must be as good as random.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Digest(bytes)
    }

    /// Eight of its bytes as a number.
    pub(super) fn word(&self, index: usize) -> u64 {
        let bytes = &self.0[8 * index..8 * (index + 1)];
        u64::from_le_bytes(bytes.try_into().expect("eight bytes: the index is below 4"))
    }

    /// Which of some shards it belongs to. Independent of its hash, so that every shard's map is evenly filled.
    pub(super) fn shard(&self, shards: usize) -> usize {
        // Below `shards`, so that it fits.
        ((u128::from(self.word(1)) * shards as u128) >> 64) as usize
    }

    /// A number by which a fair sample can be taken, independent of hash and shard.
    pub(super) fn sample(&self) -> usize {
        self.0[16].into()
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{:016x}..", self.word(0).swap_bytes())
    }
}

impl Hash for Digest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.word(0));
    }
}

/// Takes a digest's first bytes for its hash.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct FirstBytes(u64);

/// Makes [`FirstBytes`].
pub(super) type AsHash = BuildHasherDefault<FirstBytes>;

impl Hasher for FirstBytes {
    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("digests alone are hashed, and they write one word");
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_counts_and_none_runs_into_the_next() {
        let (code, other) = (of_code("a"), of_code("b"));
        let base = SkillFields {
            id: "a",
            code: &code,
            parameters: None,
            input_schema: "null",
            output_schema: "null",
            sorts_members: false,
            limits: "",
            interpreter: "cpython 3.11",
        };
        let skills = [
            base,
            SkillFields { id: "b", ..base },
            SkillFields { code: &other, ..base },
            SkillFields { parameters: Some("{}"), ..base },
            SkillFields { parameters: Some(""), ..base },
            SkillFields { input_schema: "true", ..base },
            SkillFields { output_schema: "true", ..base },
            SkillFields { sorts_members: true, ..base },
            SkillFields { limits: "64", ..base },
            SkillFields { interpreter: "cpython 3.12", ..base },
        ];
        let data = [
            (Some("{}"), Some("{}")),
            (None, Some("{}")),
            (Some("{}{}"), Some("")),
            (Some(""), Some("{}{}")),
            (Some("{}"), Some("")),
            (Some("{}"), None),
            (None, None),
        ];
        let key = |skill, (inputs, context)| of_run(&of_skill(skill), inputs, context);
        let mut keys: Vec<_> = skills.iter().flat_map(|skill| data.map(|data| key(skill, data))).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), skills.len() * data.len());
        assert_eq!(key(&base, data[0]), key(&base.clone(), data[0]));
    }

    #[test]
    fn a_quick_digest_stands_for_its_number_and_text() {
        let (quick, other) = (QuickHash::default(), QuickHash::default());
        assert_eq!(quick.of(1, "a"), quick.of(1, "a"));
        for (number, text) in [(2, "a"), (1, "b"), (1, ""), (1, "a\0")] {
            assert_ne!(quick.of(number, text), quick.of(1, "a"));
        }
        assert_ne!(quick.of(1, "a"), other.of(1, "a"), "each is seeded anew");
    }

    #[test]
    fn shards_are_evenly_filled() {
        let mut filled = [0; 5];
        (0..5000).for_each(|number: u32| filled[of_code(&number.to_string()).shard(5)] += 1);
        assert!(filled.iter().all(|count| (800..1200).contains(count)), "{filled:?}");
    }

    #[test]
    fn a_verdict_is_only_good_for_its_rules() {
        let (code, other) = (of_code("a"), of_code("b"));
        assert_eq!(of_verdict(&code, "1;os;"), of_verdict(&code, "1;os;"));
        for (code, rules) in [(&code, "2;os;"), (&code, "1;;os"), (&other, "1;os;")] {
            assert_ne!(of_verdict(code, rules), of_verdict(&of_code("a"), "1;os;"));
        }
    }
}
