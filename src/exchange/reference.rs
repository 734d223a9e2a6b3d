//! The reference system's folder: one JSON file for each skill, as its model dumps it.
//!
//! Its own loader refuses what its own writer writes (values it computes are no fields of its model); here they are known and
//! left out, in both directions.

use std::ffi::OsStr;
use std::path::Path;

use super::files::{self, Names, NewFolder};
use super::{Fault, Place, Scan, Writer, record};
use crate::error::Result;
use crate::json::Value;
use crate::skill::{Field, FieldKind, Skill};

/// What a file may say that no draft takes: what is counted and dated anew here, and what is computed.
const KNOWN: [&str; 14] = [
    "version",
    "usage_count",
    "success_count",
    "last_used",
    "created_at",
    "updated_at",
    "success_rate",
    "failure_count",
    "reliability_score",
    "is_reliable",
    "is_experimental",
    "has_dependencies",
    "symbols",
    "outcomes",
];

/// The fields of the reference system's model that a draft has too. It forbids all others.
const FIELDS: [&str; 15] = [
    "name",
    "description",
    "category",
    "complexity",
    "language",
    "dependencies",
    "required_skills",
    "input_schema",
    "output_schema",
    "parameters",
    "examples",
    "performance_metrics",
    "tags",
    "learned_from",
    "created_by",
];

/// Fields whose loss is none: `is_active` is written, `state` says nothing more unless it is `quarantined`, and where a skill
/// comes from is a question of the library that it is in.
const NO_LOSS: [&str; 3] = ["is_active", "state", "origin"];

/// Whether a file's name is that of a skill.
pub fn is_named_like_one(name: &OsStr) -> bool {
    let path = Path::new(name);
    path.extension().is_some_and(|end| end.eq_ignore_ascii_case("json")) && !name.as_encoded_bytes().starts_with(b".")
}

pub fn scan(folder: &Path) -> Result<Scan> {
    let mut scan = Scan::default();
    for member in files::list(folder)? {
        if !is_named_like_one(&member.name) {
            continue;
        }
        let source = member.shown();
        match read(&member.path) {
            Ok((skill, notes)) => {
                notes.into_iter().for_each(|note| scan.note(&source, note));
                scan.keep(&source, &skill, 0, Place::File(member.path));
            }
            Err(reason) => scan.reject(&source, None, reason),
        }
    }
    resolve_names(&mut scan);
    Ok(scan)
}

/// The reference system's skills require each other by name; here they do by id.
fn resolve_names(scan: &mut Scan) {
    use std::collections::{HashMap, HashSet};
    let ids: HashSet<&str> = scan.stubs.iter().map(|stub| stub.id.as_str()).collect();
    let mut by_name: HashMap<&str, Option<&str>> = HashMap::new();
    for stub in &scan.stubs {
        // A name that two skills have tells nothing.
        by_name.entry(&stub.name).and_modify(|id| *id = None).or_insert(Some(&stub.id));
    }
    let mut found = Vec::new();
    for (node, stub) in scan.stubs.iter().enumerate() {
        for (place, name) in stub.required.iter().enumerate().filter(|(_, name)| !ids.contains(name.as_str())) {
            if let Some(Some(id)) = by_name.get(name.as_str()) {
                found.push((node, place, (*id).to_owned()));
            }
        }
    }
    for (node, place, id) in found {
        let (name, source) = (scan.stubs[node].required[place].clone(), scan.stubs[node].source.clone());
        scan.note(&source, format!("it requires `{name}` by name, which is the skill `{id}`"));
        scan.stubs[node].required[place] = id;
    }
}

/// Loads a skill whose required skills are known by id.
pub fn load(file: &Path, required: &[String]) -> std::result::Result<Skill, String> {
    let (mut skill, _) = read(file)?;
    let ids = Value::from(required.to_vec());
    if skill.field("required_skills") != ids {
        record::set(&mut skill, "required_skills", &ids)?;
    }
    Ok(skill)
}

fn read(file: &Path) -> std::result::Result<(Skill, Vec<String>), String> {
    let text = files::read_text(file)?;
    parse(&text, file.file_stem().and_then(OsStr::to_str))
}

/// Reads a skill's JSON; `fallback_id` is its id if it says none. Gives the draft and what is worth knowing.
///
/// # Errors
///
/// One sentence that says why there is no skill in it.
pub fn parse(text: &str, fallback_id: Option<&str>) -> std::result::Result<(Skill, Vec<String>), String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let value = Value::parse(text).map_err(|error| format!("it is not JSON: {error}"))?;
    let Value::Object(members) = value else { return Err(format!("it is {}, not an object", value.kind())) };
    let mut skill = record::draft(&members, fallback_id)?;
    let mut notes = Vec::new();
    for (name, value) in record::given(&members) {
        if matches!(name.as_str(), "id" | "code") || KNOWN.contains(&name.as_str()) {
            continue;
        }
        if !record::is_field(name) {
            notes.push(format!("`{name}` is no field of a skill and is not kept"));
            continue;
        }
        record::set(&mut skill, name, &meant(name, value))?;
    }
    Ok((skill, notes))
}

/// Fields that its model always has: an empty object is what it says for nothing.
const NEVER_NULL: [&str; 3] = ["input_schema", "output_schema", "parameters"];

/// What a value means here. Words out of a list are in lower case; the reference system's enumerations have names in upper case.
fn meant(name: &str, value: &Value) -> Value {
    let is_word = name == "language" || matches!(Field::named(name).map(|row| row.kind), Some(FieldKind::Choice(_)));
    match value {
        Value::String(word) if is_word => Value::from(word.to_ascii_lowercase()),
        // Bound as it is, it would take the skill's own parameters away.
        Value::Object(members) if members.is_empty() && NEVER_NULL.contains(&name) => Value::Null,
        other => other.clone(),
    }
}

/// Writes a folder that the reference system's own loader can read.
#[derive(Debug)]
pub struct ReferenceWriter {
    folder: NewFolder,
    names: Names,
}

impl ReferenceWriter {
    pub fn new(path: &Path, overwrite: bool) -> Result<Self> {
        Ok(ReferenceWriter { folder: NewFolder::new(path, overwrite)?, names: Names::default() })
    }
}

impl Writer for ReferenceWriter {
    fn write(&mut self, skill: &Skill) -> std::result::Result<Vec<String>, Fault> {
        let name = self.names.of(&skill.id);
        let text = model(skill).to_text();
        // Its loader finds a skill by the name of its file.
        self.folder.write(&[&format!("{name}.json")], &text)?;
        Ok(losses(skill))
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.folder.finish()
    }
}

/// Exactly the fields of the reference system's model.
fn model(skill: &Skill) -> Value {
    let nothing = || Value::Object(Vec::new());
    let usage = skill.usage();
    let mut members = vec![
        ("id", Value::from(skill.id())),
        ("version", Value::from(skill.version().max(1).to_string())),
        ("code", Value::from(skill.code())),
    ];
    members.extend(FIELDS.map(|name| match (name, skill.field(name)) {
        (_, Value::Null) if NEVER_NULL.contains(&name) => (name, nothing()),
        ("input_schema" | "output_schema", Value::Bool(true)) => (name, nothing()),
        (_, value) => (name, value),
    }));
    members.extend([
        ("is_active", skill.field("is_active")),
        ("usage_count", Value::from(usage.usage_count)),
        ("success_count", Value::from(usage.success_count)),
        ("last_used", Value::from(usage.last_used.as_deref())),
    ]);
    let times = [("created_at", &skill.created_at), ("updated_at", &skill.updated_at)];
    members.extend(times.into_iter().filter_map(|(name, time)| Some((name, Value::from(time.as_deref()?)))));
    Value::object(members)
}

/// Fields that the reference system's model has no place for, or no place for what they say.
fn losses(skill: &Skill) -> Vec<String> {
    let is_lost = |field: &Field, value: &Value| {
        let is_kept =
            FIELDS.contains(&field.name) || (NO_LOSS.contains(&field.name) && value.as_str() != Some("quarantined"));
        let is_nothing = NEVER_NULL.contains(&field.name) && matches!(value.as_object(), Some([]));
        is_nothing || !is_kept && *value != field.default_value()
    };
    let lost = record::fields(skill).filter(|(field, value)| is_lost(field, value));
    let embedding = skill.embedding.as_ref().filter(|vector| !vector.is_empty()).map(|_| "embedding");
    let names: Vec<String> =
        lost.map(|(field, _)| field.name).chain(embedding).map(|name| format!("`{name}`")).collect();
    if names.is_empty() {
        return Vec::new();
    }
    vec![format!("the format has no place for {}", names.join(", "))]
}
