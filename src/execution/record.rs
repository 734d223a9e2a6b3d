//! Stored skills, ready to be run, and what is known of their sources.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use once_cell::sync::OnceCell;

use crate::cache::key::{self, Digest, SkillFields};
use crate::call::CacheMode;
use crate::error::Result;
use crate::json::Value;
use crate::python::{Analysis, SyntaxFault, analyse};
use crate::result::Failure;
use crate::skill::{Schema, Skill};
use crate::store::{Generation, Revision};

use super::Execution;
use super::data::parameters;

/// A stored skill, ready to be used.
#[derive(Debug)]
pub(crate) struct Record {
    pub skill: Skill,
    /// Its id, to be shared with results.
    pub id: Arc<str>,
    pub revision: Revision,
    /// The version that was asked for; 0 is the newest.
    wanted: u32,
    pub code: Digest,
    pub input_schema: Option<Schema>,
    pub output_schema: Option<Schema>,
    schemas: [String; 2],
    pub state: String,
    /// The generation of the database at which this was last found to be what is stored.
    confirmed: AtomicU64,
    profile: OnceCell<Profile>,
}

/// Stands for no generation: the last of all commits, with a checksum of all ones.
const NEVER: u64 = u64::MAX;

/// What a run must know of its skill to be answered from memory.
#[derive(Debug)]
pub(crate) struct Profile {
    /// What the keys of all its runs begin with.
    pub prefix: Digest,
    /// For each name, whether the source has a place for it.
    pub has_slot: [bool; 3],
    pub sorts_members: bool,
    pub is_deterministic: bool,
    /// The skill's own choice.
    pub cache: CacheMode,
    pub ttl: Option<Duration>,
}

/// A source that was looked at once.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub analysis: std::result::Result<Analysis, SyntaxFault>,
    /// What the interpreter's `compile()` says; asked for when needed.
    pub(super) verdict: OnceCell<std::result::Result<(), SyntaxFault>>,
}

impl Execution {
    /// What is known of a source; looked at once while it is kept.
    pub fn prepared(&self, hash: &Digest, code: &str) -> Arc<Prepared> {
        // Tree and ranges are gone by the time it is kept; source and template are what weighs, and the names.
        const WEIGHT: usize = 4096;
        let now = self.clock.now();
        let key = key::of_verdict(hash, &self.rules);
        if let Some(prepared) = self.prepared.get(&key, now) {
            return prepared;
        }
        let analysis = analyse(code, self.policy.as_ref());
        let prepared = Arc::new(Prepared { analysis, verdict: OnceCell::new() });
        self.alert("prepared", &self.prepared.put(key, prepared.clone(), WEIGHT + 2 * code.len(), None, now).alerts);
        prepared
    }

    /// The record of a skill as it is stored now. Mostly that is the one in memory, and one load tells so.
    pub fn record(&self, id: &str, version: u32) -> Result<Arc<Record>> {
        let now = self.clock.now();
        let key = self.names.of(version.into(), id);
        let found = self.records.find(&key, now).filter(|record| record.wanted == version && *record.id == *id);
        // Before the database is asked: what is committed meanwhile makes the answer doubtful, not wrong.
        let generation = self.store.generation();
        let found = match found {
            Some(record) if record.is_confirmed_at(generation) => {
                self.records.count(&key, true);
                return Ok(record);
            }
            doubtful => doubtful,
        };
        let (revision, epoch) = self.store.look(id, version).inspect_err(|_| self.records.count(&key, false))?;
        self.notice_epoch(epoch);
        let found = found.filter(|record| record.revision == revision);
        self.records.count(&key, found.is_some());
        let record = match found {
            Some(record) => record,
            None => {
                let record = Arc::new(Record::new(self.store.read(revision)?, version, revision)?);
                record.confirm(generation);
                self.alert("metadata", &self.records.put(key, record.clone(), record.weight(), None, now).alerts);
                record
            }
        };
        record.confirm(generation);
        Ok(record)
    }

    /// What a run must know of a skill, or why today's rules refuse it.
    pub(super) fn profile<'r>(&self, record: &'r Record) -> Result<std::result::Result<&'r Profile, Failure>> {
        if let Some(profile) = record.profile.get() {
            return Ok(Ok(profile));
        }
        let prepared = self.prepared(&record.code, &record.skill.code);
        let analysis = match &prepared.analysis {
            Ok(analysis) => analysis,
            Err(fault) => return Ok(Err(Failure::of_fault(fault))),
        };
        if let Some(finding) = self.refusal(analysis) {
            return Ok(Err(Failure::of_finding(finding)));
        }
        let profile = record.profile_of(analysis, &self.sandbox.interpreter()?.identity);
        Ok(Ok(record.profile.get_or_init(|| profile)))
    }
}

impl Record {
    fn new(skill: Skill, wanted: u32, revision: Revision) -> Result<Self> {
        let [input, output] = ["input_schema", "output_schema"].map(|name| (name, skill.field(name)));
        Ok(Record {
            id: Arc::from(skill.id()),
            code: key::of_code(&skill.code),
            input_schema: Schema::compile(input.0, &input.1)?,
            output_schema: Schema::compile(output.0, &output.1)?,
            schemas: [input.1.to_text(), output.1.to_text()],
            state: skill.text_field("state"),
            confirmed: AtomicU64::new(NEVER),
            profile: OnceCell::new(),
            revision,
            wanted,
            skill,
        })
    }

    fn profile_of(&self, analysis: &Analysis, interpreter: &str) -> Profile {
        let skill = &self.skill;
        let has_slot = analysis.template.slots().each_ref().map(Option::is_some);
        let sorts_members = skill.text_field("key_order") == "ignore";
        let parameters = parameters(skill).or_else(|| (!has_slot[2]).then(|| Value::Object(Vec::new())));
        let parameters = parameters.map(|mut parameters| {
            if sorts_members {
                parameters.sort_members();
            }
            parameters.to_text()
        });
        let prefix = key::of_skill(&SkillFields {
            id: skill.id(),
            code: &self.code,
            parameters: parameters.as_deref(),
            input_schema: &self.schemas[0],
            output_schema: &self.schemas[1],
            sorts_members,
            limits: &skill.limits().visible(),
            interpreter,
        });
        let ttl = skill.field("ttl_s").as_i64().and_then(|seconds| u64::try_from(seconds).ok());
        Profile {
            prefix,
            has_slot,
            sorts_members,
            is_deterministic: analysis.determinism.is_deterministic(),
            cache: CacheMode::named(&skill.text_field("cache")).unwrap_or(CacheMode::Auto),
            ttl: ttl.map(Duration::from_secs),
        }
    }

    /// Why it is not run whatever it is given: its state.
    pub fn set_aside(&self) -> Option<Failure> {
        let why = match self.state.as_str() {
            "active" => return None,
            "quarantined" => {
                "it failed too often in a row or was set aside; new content or the state `active` brings it back"
            }
            _ => "it was put away; the state `active` brings it back",
        };
        Some(Failure::plain(&self.state, format!("the skill is {}: {why}", self.state)))
    }

    /// What it takes in memory, roughly: a compiled schema is several times its text.
    fn weight(&self) -> usize {
        const RECORD: usize = 2048;
        const COMPILED: usize = 16;
        let schemas: usize = self.schemas.iter().map(String::len).sum();
        RECORD + 2 * self.skill.to_value(true).to_text().len() + COMPILED * schemas
    }

    fn is_confirmed_at(&self, generation: Option<Generation>) -> bool {
        generation.is_some_and(|generation| generation.number() == self.confirmed.load(Ordering::Relaxed))
    }

    fn confirm(&self, generation: Option<Generation>) {
        self.confirmed.store(generation.map_or(NEVER, Generation::number), Ordering::Relaxed);
    }
}
