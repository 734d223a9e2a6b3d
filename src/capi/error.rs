//! Statuses and errors.

use std::ffi::{CStr, c_char};

use super::guard;
use super::text::{Text, skc_str};
use crate::error::{Code, Error};
use crate::outcome::Outcome;

/// What became of a call: SKC_OK, SKC_PENDING, or one of SKC_E_*. A run that fails inside the skill is SKC_OK with an
/// outcome; any other status means that the call itself could not be carried out. Numbers never change meaning.
pub type skc_status = i32;

/// The call was carried out.
pub const SKC_OK: skc_status = 0;
/// The task has not finished.
pub const SKC_PENDING: skc_status = 1;
/// An argument is wrong: NULL, not UTF-8, not JSON, out of range, unknown.
pub const SKC_E_INVALID: skc_status = 10;
/// No skill of that id, or no such version of it.
pub const SKC_E_NOT_FOUND: skc_status = 11;
/// expected_version is not the newest version.
pub const SKC_E_CONFLICT: skc_status = 12;
/// The time given to the call ran out. It may be repeated.
pub const SKC_E_TIMEOUT: skc_status = 13;
/// The library was closed while the call waited.
pub const SKC_E_CANCELLED: skc_status = 14;
/// The confinement asked for cannot be had on this machine.
pub const SKC_E_SANDBOX: skc_status = 15;
/// The database could not be opened, read or written.
pub const SKC_E_DATABASE: skc_status = 16;
/// A queue is full or another process holds the write lock. The call may be repeated.
pub const SKC_E_BUSY: skc_status = 17;
/// The call was made in a child of fork(); only the process that opened the library may use it.
pub const SKC_E_FORKED: skc_status = 18;
/// A bug in this library: a panic was caught at the door.
pub const SKC_E_PANIC: skc_status = 19;
/// What was asked for is not supported: a language, an interpreter, a platform.
pub const SKC_E_UNSUPPORTED: skc_status = 20;
/// The code is not Python the interpreter accepts.
pub const SKC_E_SYNTAX: skc_status = 21;
/// The policy refuses the code.
pub const SKC_E_SECURITY: skc_status = 22;
/// A value that had to be cached (cache = required) does not fit or must not be cached.
pub const SKC_E_CACHE_OVERFLOW: skc_status = 23;
/// No database connection became free in time.
pub const SKC_E_POOL_EXHAUSTED: skc_status = 24;
/// The file is not a database, or a damaged one.
pub const SKC_E_CORRUPT: skc_status = 25;
/// The database was written by a newer version of this library.
pub const SKC_E_NEWER_DATABASE: skc_status = 26;
/// The skill record is refused: a bad schema, a missing package or required skill.
pub const SKC_E_VALIDATION: skc_status = 27;
/// The library is closed.
pub const SKC_E_CLOSED: skc_status = 28;

/// Why a call failed. Owned by whoever gave the `err` pointer; one owner at a time; free it once with skc_error_free.
pub struct skc_error {
    code: skc_status,
    message: Text,
    json: Text,
}

impl skc_error {
    pub(super) fn boxed(error: &Error) -> *mut skc_error {
        let (message, json) = (Text::new(error.message().as_bytes()), Text::new(error.to_json().as_bytes()));
        Box::into_raw(Box::new(skc_error { code: error.code() as skc_status, message, json }))
    }

    #[cfg(test)]
    pub(super) fn message_text(&self) -> &str {
        let view = self.message.view();
        // SAFETY: a view of our own text, alive as long as `self`.
        std::str::from_utf8(unsafe { std::slice::from_raw_parts(view.ptr.cast(), view.len) }).unwrap_or_default()
    }
}

/// The status the call returned. SKC_OK for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_error_code(error: *const skc_error) -> skc_status {
    // SAFETY: the door's contract.
    guard::get(SKC_OK, || unsafe { error.as_ref() }.map_or(SKC_OK, |error| error.code))
}

/// One sentence: what was wrong, where, and what would be right. Empty for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_error_message(error: *const skc_error) -> skc_str {
    // SAFETY: the door's contract.
    guard::get(skc_str::EMPTY, || unsafe { error.as_ref() }.map_or(skc_str::EMPTY, |error| error.message.view()))
}

/// The whole error as a JSON object: code, name, message, retriable, and what applies of line, column (from 1), path,
/// rule, missing (array of names), suggestion, findings (as skc_library_validate lists them), report (what
/// skc_library_import had done before it stopped). Empty for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_error_json(error: *const skc_error) -> skc_str {
    // SAFETY: the door's contract.
    guard::get(skc_str::EMPTY, || unsafe { error.as_ref() }.map_or(skc_str::EMPTY, |error| error.json.view()))
}

/// Frees an error. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_error_free(error: *mut skc_error) {
    if !error.is_null() {
        // SAFETY: the door's contract: made by `boxed`, freed once.
        guard::free(|| drop(unsafe { Box::from_raw(error) }));
    }
}

/// The name of a status without its prefix: "OK", "PENDING", "E_INVALID" ... "E_UNKNOWN" for a number that is none.
/// Static; never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn skc_status_name(status: skc_status) -> *const c_char {
    let known = Code::ALL.into_iter().find(|code| *code as skc_status == status).map(Code::c_name);
    let name: &CStr = match status {
        SKC_OK => c"OK",
        SKC_PENDING => c"PENDING",
        _ => known.unwrap_or(c"E_UNKNOWN"),
    };
    name.as_ptr()
}

/// The name of an outcome: "success", "error" ... "unknown" for a number that is none. Static; never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn skc_outcome_name(outcome: i32) -> *const c_char {
    let known = Outcome::ALL.into_iter().find(|known| *known as i32 == outcome).map(Outcome::c_name);
    known.unwrap_or(c"unknown").as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_are_the_codes() {
        let constants = [
            SKC_E_INVALID,
            SKC_E_NOT_FOUND,
            SKC_E_CONFLICT,
            SKC_E_TIMEOUT,
            SKC_E_CANCELLED,
            SKC_E_SANDBOX,
            SKC_E_DATABASE,
            SKC_E_BUSY,
            SKC_E_FORKED,
            SKC_E_PANIC,
            SKC_E_UNSUPPORTED,
            SKC_E_SYNTAX,
            SKC_E_SECURITY,
            SKC_E_CACHE_OVERFLOW,
            SKC_E_POOL_EXHAUSTED,
            SKC_E_CORRUPT,
            SKC_E_NEWER_DATABASE,
            SKC_E_VALIDATION,
            SKC_E_CLOSED,
        ];
        assert_eq!(constants, Code::ALL.map(|code| code as skc_status));
    }
}
