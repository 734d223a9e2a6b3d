//! The C door: raw pointers end here, and panics are caught here.
//!
//! One file for each C object. Every function goes through [`guard`], which sets the outputs to NULL, refuses a forked
//! child, catches panics and turns an [`Error`](crate::Error) into a status and an `skc_error`.
//!
//! # The contract all SAFETY lines refer to
//!
//! The header promises nothing about a pointer that breaks these rules, so a caller must keep them:
//!
//! * A pointer is NULL, or points to a live object of its type that this library made and that was not freed.
//! * A `const char *` without length is NULL or NUL-terminated; one with a length points to that many bytes, or is
//!   NUL-terminated if the length is `SKC_NTS`.
//! * An output pointer is NULL or can be written.
//! * Library and task may be used by any thread at any time, results by any thread that only reads; a config, skill,
//!   error or blob has one owner at a time.

#![allow(non_camel_case_types, reason = "these are C names")]
#![allow(clippy::missing_safety_doc, reason = "one contract for all: see the module")]

// The order of the header; blank lines keep it.
pub mod config;

pub mod library;

pub mod skill;

pub mod result;

pub mod task;

pub mod event;

pub mod error;

pub mod text;

pub mod guard;

use std::ffi::c_char;

/// The version of this library as 0xMMmmpp00: major, minor, patch. Compare it with the header's
/// SKC_VERSION_NUMBER at start-up.
#[unsafe(no_mangle)]
pub extern "C" fn skc_version_number() -> u32 {
    SKC_VERSION_NUMBER
}

/// The version of the header as 0xMMmmpp00: 0x00010000 is 0.1.0.
pub const SKC_VERSION_NUMBER: u32 = 0x0001_0000;

/// The version of the binary interface: the major number of the soname. It changes only when a host compiled against an
/// older header would break.
pub const SKC_ABI: u32 = 0;

/// The version as text: "0.1.0". Static; never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn skc_version_string() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// SKC_ABI of this library. Compare it with the header's at start-up.
#[unsafe(no_mangle)]
pub extern "C" fn skc_abi() -> u32 {
    SKC_ABI
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_number_is_the_package_version() {
        let part = |text: &str| text.parse::<u32>().unwrap_or_else(|_| panic!("{text}"));
        let number = part(env!("CARGO_PKG_VERSION_MAJOR")) << 24
            | part(env!("CARGO_PKG_VERSION_MINOR")) << 16
            | part(env!("CARGO_PKG_VERSION_PATCH")) << 8;
        assert_eq!(skc_version_number(), number);
    }
}
