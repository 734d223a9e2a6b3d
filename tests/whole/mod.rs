//! Skills that say what they are, with a checksum, so that whoever reads one can tell whether it is whole.
//!
//! The code is always the same: an interpreter is asked about it only once.

#[allow(dead_code, reason = "not every test leaves something to chance")]
pub mod dice;

use skillcache::{Library, Query, Skill};

pub const CODE: &str = "result = parameters['number']";

/// One word of 64 characters, which the search finds again.
fn sum_of(writer: &str, number: u64, filler: &str) -> String {
    blake3::hash(format!("{writer} {number} {filler}").as_bytes()).to_hex().to_string()
}

/// Most have a few bytes, every fourth up to several pages of the database.
fn filler(number: u64) -> String {
    let most = if number.is_multiple_of(4) { 3000 } else { 100 };
    format!("{number:x}.").repeat((number * 7919 % most) as usize)
}

/// A draft that says what it is, and its checksum.
pub fn draft(id: &str, writer: &str, number: u64) -> (Skill, String) {
    let filler = filler(number);
    let sum = sum_of(writer, number, &filler);
    let mut skill = Skill::new(id, CODE);
    let parameters = format!(r#"{{"writer": "{writer}", "number": {number}, "filler": "{filler}", "sum": "{sum}"}}"#);
    skill.set("parameters", &parameters).expect("parameters");
    skill.set("description", &sum).expect("a description");
    (skill, sum)
}

/// The number and the checksum of a stored skill, if it is whole.
pub fn contents(skill: &Skill) -> Result<(u64, String), String> {
    let parameters = skill.field("parameters");
    let text = |name: &str| parameters.get(name).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
    let number =
        parameters.get("number").and_then(|value| value.as_i64()).and_then(|number| u64::try_from(number).ok());
    let number = number.ok_or_else(|| format!("{} has no number: {parameters:?}", skill.id()))?;
    if skill.code() != CODE || text("sum") != sum_of(&text("writer"), number, &text("filler")) {
        return Err(format!("{} version {} is torn: {parameters:?}", skill.id(), skill.version()));
    }
    Ok((number, text("sum")))
}

/// Whether what changes in place, the version and the index of words are those of one put.
pub fn check_newest(library: &Library, newest: &Skill) -> Result<(), String> {
    let (_, sum) = contents(newest)?;
    let description = newest.field("description");
    if description.as_str() != Some(sum.as_str()) {
        return Err(format!("{} is described as {description:?} and has {sum}", newest.id()));
    }
    let found = library.search(&Query::words(&sum)).map_err(|error| error.to_string())?;
    match found.iter().any(|found| found.skill.id() == newest.id()) {
        true => Ok(()),
        false => Err(format!("the words of {} are not found", newest.id())),
    }
}
