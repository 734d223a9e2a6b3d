//! Text across the door: borrowed in, NUL-terminated out.

use std::ffi::{CStr, c_char};
use std::slice;

use super::guard;
use crate::error::{Code, Error, Result};

/// A borrowed view. `ptr` is never NULL and `ptr[len]` is 0; the bytes are UTF-8, but for captured output, which is what
/// the skill wrote. Valid as long as the object it was asked of; never freed by the caller.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct skc_str {
    /// The first byte.
    pub ptr: *const c_char,
    /// How many bytes, the final NUL not counted.
    pub len: usize,
}

/// An owned text, made by this library. One owner at a time; free it once with skc_blob_free. It outlives the library
/// it came from.
pub struct skc_blob {
    text: Text,
    method: &'static CStr,
}

/// The length that says "NUL-terminated".
pub(super) const NUL_TERMINATED: usize = usize::MAX;

impl skc_str {
    pub(super) const EMPTY: skc_str = skc_str { ptr: c"".as_ptr(), len: 0 };

    pub(super) fn of_static(text: &'static CStr) -> Self {
        skc_str { ptr: text.as_ptr(), len: text.to_bytes().len() }
    }
}

/// Bytes with a NUL behind them. An empty text takes no memory.
#[derive(Debug)]
pub(super) struct Text(Option<Box<[u8]>>);

impl Text {
    pub fn new(bytes: &[u8]) -> Self {
        if bytes.is_empty() {
            return Text(None);
        }
        let mut owned = Vec::with_capacity(bytes.len() + 1);
        owned.extend_from_slice(bytes);
        owned.push(0);
        Text(Some(owned.into_boxed_slice()))
    }

    pub fn view(&self) -> skc_str {
        let Some(bytes) = &self.0 else { return skc_str::EMPTY };
        skc_str { ptr: bytes.as_ptr().cast(), len: bytes.len() - 1 }
    }
}

impl skc_blob {
    /// Hands a text to the caller.
    ///
    /// # Safety
    ///
    /// `out` can be written.
    pub(super) unsafe fn hand_out(text: &str, out: *mut *mut skc_blob) {
        // SAFETY: the caller's promise.
        unsafe { skc_blob::hand_out_made_by(c"", text, out) };
    }

    /// Hands a text to the caller, and how it was made.
    ///
    /// # Safety
    ///
    /// `out` can be written.
    pub(super) unsafe fn hand_out_made_by(method: &'static CStr, text: &str, out: *mut *mut skc_blob) {
        let blob = skc_blob { text: Text::new(text.as_bytes()), method };
        // SAFETY: the caller's promise.
        unsafe { *out = Box::into_raw(Box::new(blob)) };
    }
}

/// The NUL-terminated text a pointer names.
///
/// # Safety
///
/// `pointer` is NULL or NUL-terminated and outlives the call.
pub(super) unsafe fn c_text<'a>(pointer: *const c_char, name: &str) -> Result<&'a str> {
    guard::check_out(pointer, name)?;
    // SAFETY: not NULL, and the caller's promise.
    let bytes = unsafe { CStr::from_ptr(pointer) }.to_bytes();
    utf8(bytes, name)
}

/// Like [`c_text`]; NULL is nothing.
///
/// # Safety
///
/// As [`c_text`].
pub(super) unsafe fn optional_text<'a>(pointer: *const c_char, name: &str) -> Result<&'a str> {
    if pointer.is_null() {
        return Ok("");
    }
    // SAFETY: the caller's promise.
    unsafe { c_text(pointer, name) }
}

/// The text of a pointer and a length; NULL with length 0 is empty.
///
/// # Safety
///
/// `pointer` is NULL, or points to `len` bytes (or a NUL-terminated string if `len` is [`NUL_TERMINATED`]) that outlive
/// the call.
pub(super) unsafe fn text<'a>(pointer: *const c_char, len: usize, name: &str) -> Result<&'a str> {
    if len == NUL_TERMINATED {
        // SAFETY: the caller's promise.
        return unsafe { c_text(pointer, name) };
    }
    if len == 0 {
        return Ok("");
    }
    guard::check_out(pointer, name)?;
    if isize::try_from(len).is_err() {
        return Err(Error::new(Code::Invalid, format!("the length of `{name}` is larger than memory")).path(name));
    }
    // SAFETY: not NULL, a length that fits, and the caller's promise.
    utf8(unsafe { slice::from_raw_parts(pointer.cast(), len) }, name)
}

fn utf8<'a>(bytes: &'a [u8], name: &str) -> Result<&'a str> {
    std::str::from_utf8(bytes).map_err(|error| {
        let message = format!("`{name}` is not UTF-8: byte {} is not part of a character", error.valid_up_to());
        Error::new(Code::Invalid, message).path(name)
    })
}

/// The text of a blob. Empty for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_blob_str(blob: *const skc_blob) -> skc_str {
    // SAFETY: the door's contract.
    guard::get(skc_str::EMPTY, || unsafe { blob.as_ref() }.map_or(skc_str::EMPTY, |blob| blob.text.view()))
}

/// How the code of skc_library_inject was made: `ast` (the source was parsed) or `lexical` (it does not parse, and
/// `inject.fallback` is `lexical`). Empty for any other blob and for NULL. Static: valid for ever.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_blob_method(blob: *const skc_blob) -> skc_str {
    guard::get(skc_str::EMPTY, || {
        // SAFETY: the door's contract.
        let method = unsafe { blob.as_ref() }.map_or(c"", |blob| blob.method);
        skc_str::of_static(method)
    })
}

/// Frees a blob. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_blob_free(blob: *mut skc_blob) {
    if !blob.is_null() {
        // SAFETY: the door's contract: made by `hand_out`, freed once.
        guard::free(|| drop(unsafe { Box::from_raw(blob) }));
    }
}
