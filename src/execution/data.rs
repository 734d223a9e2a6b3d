//! A run's data: as it came, and bound to the skill's names.

use std::borrow::Cow;

use crate::cache::key::{self, Digest};
use crate::call::Data;
use crate::error::Result;
use crate::json::{Value, canonical_data};
use crate::python::{Analysis, Names};
use crate::sandbox::Job;
use crate::skill::Skill;

use super::record::Profile;

/// A run's data as it came.
#[derive(Debug, Clone)]
pub(crate) enum Given<'d> {
    /// JSON text. Who is answered from memory never has it read into values.
    Text(&'d str),
    /// Values.
    Read(Data),
}

/// Inputs and context.
pub(super) type Members<'d> = [Option<Cow<'d, Value>>; 2];

impl Given<'_> {
    /// The values.
    pub fn members(&self) -> Result<Members<'_>> {
        Ok(match self {
            Given::Text(text) => {
                let Data { inputs, context } = Data::parse(text)?;
                [inputs, context].map(|value| value.map(Cow::Owned))
            }
            Given::Read(Data { inputs, context }) => [inputs, context].map(|value| value.as_ref().map(Cow::Borrowed)),
        })
    }

    /// The key of running a skill with it, which begins with `prefix`.
    pub(super) fn key(&self, profile: &Profile, prefix: &Digest) -> Result<Digest> {
        if let Given::Text(text) = self
            && !profile.sorts_members
            && let Some(data) = canonical_data(text)
        {
            return Ok(profile.key(prefix, data.inputs(), data.context()));
        }
        // To sort members, all of them must have been read.
        let [inputs, context] = self.members()?.map(|value| value.map(|value| profile.as_seen(value).to_text()));
        Ok(profile.key(prefix, inputs.as_deref(), context.as_deref()))
    }
}

impl Profile {
    /// A value as the skill sees it.
    fn as_seen<'d>(&self, mut value: Cow<'d, Value>) -> Cow<'d, Value> {
        if self.sorts_members {
            value.to_mut().sort_members();
        }
        value
    }

    fn key(&self, prefix: &Digest, inputs: Option<&str>, context: Option<&str>) -> Digest {
        // Who passes nothing where the source has no default of its own passes an empty object.
        let [of_inputs, of_context, _] = self.has_slot.map(|has_slot| (!has_slot).then_some("{}"));
        key::of_run(prefix, inputs.or(of_inputs), context.or(of_context))
    }
}

/// A run's data, bound to the skill's names.
pub(super) struct BoundData<'d> {
    /// In the order of [`Names::ALL`]; nothing where the source's own default holds.
    values: [Option<Cow<'d, Value>>; 3],
    pub fills_slot: [bool; 3],
}

impl<'d> BoundData<'d> {
    pub fn new(skill: &Skill, analysis: &Analysis, profile: &Profile, [inputs, context]: Members<'d>) -> Self {
        let slots = analysis.template.slots();
        let mut values = [inputs, context, parameters(skill).map(Cow::Owned)];
        for (value, slot) in values.iter_mut().zip(slots) {
            let none = || slot.is_none().then(|| Cow::Owned(Value::Object(Vec::new())));
            *value = value.take().or_else(none).map(|value| profile.as_seen(value));
        }
        let fills_slot = std::array::from_fn(|index| slots[index].is_some() && values[index].is_some());
        BoundData { values, fills_slot }
    }

    /// What the input schema sees: the inputs, or no members if the source's own default holds.
    pub fn effective_inputs(&self) -> &Value {
        const NONE: &Value = &Value::Object(Vec::new());
        self.values[0].as_deref().unwrap_or(NONE)
    }

    pub fn job<'b>(&'b self, analysis: &Analysis) -> Job<'b> {
        let mut job = Job::default();
        for (index, value) in self.values.iter().enumerate() {
            match value.as_deref() {
                Some(value) if self.fills_slot[index] => job.slots.push((analysis.template.marker(index), value)),
                Some(value) => job.globals.push((Names::ALL[index], value)),
                None => {}
            }
        }
        job
    }
}

/// A skill's parameters; nothing if the source's own default holds.
pub(super) fn parameters(skill: &Skill) -> Option<Value> {
    Some(skill.field("parameters")).filter(|value| *value != Value::Null)
}
