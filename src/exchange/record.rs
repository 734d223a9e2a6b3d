//! A skill's fields as members of a JSON object, and back.

use crate::json::{MAX_DEPTH, Value};
use crate::limits::RunLimits;
use crate::skill::{FIELDS, Field, FieldKind, Skill, check_id};

/// Members that a draft takes besides [`FIELDS`].
const OTHER_FIELDS: [&str; 2] = ["is_active", "embedding"];

/// Whether a draft has a field of this name.
pub fn is_field(name: &str) -> bool {
    Field::named(name).is_some() || OTHER_FIELDS.contains(&name) || RunLimits::NAMES.contains(&name)
}

/// The members that are to be set: not those that say what another one says more exactly.
pub fn given(members: &[(String, Value)]) -> impl Iterator<Item = &(String, Value)> {
    let is_there = |name: &str| members.iter().any(|(key, value)| key == name && *value != Value::Null);
    let (has_state, has_limits) = (is_there("state"), is_there("limits"));
    members.iter().filter(move |(name, _)| {
        !(has_state && name == "is_active" || has_limits && RunLimits::NAMES.contains(&name.as_str()))
    })
}

/// Sets a field from a member. `null` sets nothing where the field has no nothing. A field that is no text also takes its
/// JSON as a string: that is how values that are nested too deep for a record stand in it.
pub fn set(skill: &mut Skill, name: &str, value: &Value) -> Result<(), String> {
    let row = FIELDS.iter().position(|row| row.name == name);
    let kind = row.map(|row| FIELDS[row].kind);
    let is_text = row.is_some_and(|row| FIELDS[row].is_text());
    let text = match (kind, value) {
        (Some(FieldKind::OptionalText), Value::Null) => {
            if let Some(row) = row {
                skill.fields[row] = Some(Value::Null);
            }
            return Ok(());
        }
        (Some(FieldKind::Text | FieldKind::Choice(_) | FieldKind::Switch), Value::Null)
        | (Some(FieldKind::Strings | FieldKind::Array | FieldKind::Object) | None, Value::Null) => return Ok(()),
        (_, Value::String(text)) => text.clone(),
        (_, other) if is_text => return Err(format!("`{name}` takes text, not {}", other.kind())),
        (_, other) => other.to_text(),
    };
    skill.set(name, &text).map_err(|error| error.message().to_owned())
}

/// Id and code of a record.
pub fn draft(members: &[(String, Value)], fallback_id: Option<&str>) -> Result<Skill, String> {
    let member = |name: &str| members.iter().find(|(key, _)| key == name).map(|(_, value)| value);
    let text = |name: &str| match member(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(other) => Err(format!("`{name}` takes text, not {}", other.kind())),
    };
    let id = text("id")?.or(fallback_id).ok_or("it has no `id`")?;
    allowed(id)?;
    let code = text("code")?.ok_or("it has no `code`")?;
    if code.trim().is_empty() {
        return Err("its `code` is empty".to_owned());
    }
    Ok(Skill::new(id, code))
}

/// Refuses an id that is not allowed; says one that would be.
pub fn allowed(id: &str) -> Result<(), String> {
    check_id(id).map_err(|error| match repaired(id) {
        Some(other) => format!("{}; `{other}` would do", error.message()),
        None => error.message().to_owned(),
    })
}

/// The nearest id that is allowed, if anything is left of it.
pub fn repaired(text: &str) -> Option<String> {
    let mut id = String::new();
    for c in text.trim().chars().take(crate::skill::MAX_ID) {
        if c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':') {
            id.push(c);
        } else if !id.ends_with('-') {
            id.push('-');
        }
    }
    let id = id.trim_matches('-');
    (!id.is_empty()).then(|| id.to_owned())
}

/// Every field with its value as it is stored, defaults included.
pub fn fields(skill: &Skill) -> impl Iterator<Item = (&'static Field, Value)> {
    FIELDS.iter().zip(&skill.fields).map(|(field, value)| {
        let value = value.clone().unwrap_or_else(|| field.default_value());
        (field, value)
    })
}

/// A field's value as a member of a record that itself is nested at most twice.
pub fn member(field: &Field, value: Value) -> Value {
    let is_deep = !field.is_text() && depth(&value) + 2 > MAX_DEPTH;
    if is_deep { Value::from(value.to_text()) } else { value }
}

fn depth(value: &Value) -> usize {
    // Values never are nested deeper than the stack has room for: their reader bounds them.
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.iter().map(|(_, member)| depth(member)).max().unwrap_or(0),
        _ => 0,
    }
}

/// The fields that are wanted as members of a record, with the embedding if there is one.
pub fn members(skill: &Skill, is_wanted: impl Fn(&Field, &Value) -> bool) -> Vec<(String, Value)> {
    let embedding = skill.embedding.as_deref().filter(|vector| !vector.is_empty()).map(numbers);
    fields(skill)
        .filter(|(field, value)| is_wanted(field, value))
        .map(|(field, value)| (field.name.to_owned(), member(field, value)))
        .chain(embedding.map(|embedding| ("embedding".to_owned(), embedding)))
        .collect()
}

/// Numbers of 32 bits in as few digits as give them back.
fn numbers(vector: &[f32]) -> Value {
    let shortest = |&number: &f32| {
        let short: Option<f64> = format!("{number:?}").parse().ok();
        let is_same = |short: &f64| (*short as f32).to_bits() == number.to_bits();
        Value::from(short.filter(is_same).unwrap_or(f64::from(number)))
    };
    Value::Array(vector.iter().map(shortest).collect())
}
