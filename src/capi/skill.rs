//! Skills: drafts going in, records coming out.

use std::ffi::c_char;

use super::error::{skc_error, skc_status};
use super::guard;
use super::text::{Text, c_text, skc_str, text};
use crate::skill::Skill;

/// A skill: a draft to be put, or a stored version. One owner at a time; free it once with skc_skill_free. It outlives
/// the library it came from.
pub struct skc_skill {
    pub(super) skill: Skill,
    id: Text,
    code: Text,
    json: Text,
}

impl skc_skill {
    pub(super) fn boxed(skill: Skill) -> *mut skc_skill {
        let (id, code) = (Text::new(skill.id().as_bytes()), Text::new(skill.code().as_bytes()));
        let mut boxed = Box::new(skc_skill { skill, id, code, json: Text::new(b"") });
        boxed.describe();
        Box::into_raw(boxed)
    }

    fn describe(&mut self) {
        self.json = Text::new(self.skill.to_value(true).to_text().as_bytes());
    }
}

/// A draft. Nothing is checked before it is put, except that id and code are text: NULL if either is NULL (a NULL code
/// of length 0 is empty) or not UTF-8.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_skill_new(id: *const c_char, code: *const c_char, code_len: usize) -> *mut skc_skill {
    guard::get(std::ptr::null_mut(), || {
        // SAFETY: the door's contract.
        let texts = unsafe { c_text(id, "id").and_then(|id| Ok((id, text(code, code_len, "code")?))) };
        texts.map_or(std::ptr::null_mut(), |(id, code)| skc_skill::boxed(Skill::new(id, code)))
    })
}

/// Sets a field of a draft: plain text for texts and choices, JSON text for lists, schemas, parameters, numbers and
/// true/false. The fields are those of skc_skill_json, and expected_version: the put fails with SKC_E_CONFLICT unless
/// that is the newest version (0: not there yet). The limits of skc_library_run are fields too; each sets one member of
/// `limits`, and a limit counts before the library's own. SKC_E_INVALID for an unknown field or a value it does not take. Views
/// of this skill's JSON end here.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_skill_set(
    skill: *mut skc_skill,
    field: *const c_char,
    value: *const c_char,
    err: *mut *mut skc_error,
) -> skc_status {
    // SAFETY: the door's contract.
    unsafe {
        guard::call(err, || {
            let skill = guard::borrow_mut(skill, "skill")?;
            skill.skill.set(c_text(field, "field")?, c_text(value, "value")?)?;
            skill.describe();
            Ok(())
        })
    }
}

/// Its id. Empty for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_skill_id(skill: *const skc_skill) -> skc_str {
    // SAFETY: the door's contract.
    guard::get(skc_str::EMPTY, || unsafe { skill.as_ref() }.map_or(skc_str::EMPTY, |skill| skill.id.view()))
}

/// Its source, exactly as it was put. Empty for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_skill_code(skill: *const skc_skill) -> skc_str {
    // SAFETY: the door's contract.
    guard::get(skc_str::EMPTY, || unsafe { skill.as_ref() }.map_or(skc_str::EMPTY, |skill| skill.code.view()))
}

/// Its version, from 1; 0 for a draft and for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_skill_version(skill: *const skc_skill) -> u32 {
    // SAFETY: the door's contract.
    guard::get(0, || unsafe { skill.as_ref() }.map_or(0, |skill| skill.skill.version()))
}

/// The whole record as a JSON object. Empty for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_skill_json(skill: *const skc_skill) -> skc_str {
    // SAFETY: the door's contract.
    guard::get(skc_str::EMPTY, || unsafe { skill.as_ref() }.map_or(skc_str::EMPTY, |skill| skill.json.view()))
}

/// Frees a skill. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_skill_free(skill: *mut skc_skill) {
    if !skill.is_null() {
        // SAFETY: the door's contract: made by `boxed`, freed once.
        guard::free(|| drop(unsafe { Box::from_raw(skill) }));
    }
}
