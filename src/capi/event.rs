//! Events by polling.

use std::ffi::c_int;
use std::os::fd::AsRawFd;

use super::error::{skc_error, skc_status};
use super::guard;
use super::library::skc_library;
use super::task::patience;
use super::text::skc_blob;

/// The oldest event that was not read, as a JSON object: seq, kind, severity, time, message, fields. Waits `timeout_ms`
/// milliseconds for one, 0 only looks, negative waits for ever. SKC_E_TIMEOUT when none came; SKC_E_CLOSED when the
/// library is closed meanwhile. Each event goes to one caller.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_library_next_event(
    library: *mut skc_library,
    timeout_ms: i64,
    out_json: *mut *mut skc_blob,
    err: *mut *mut skc_error,
) -> skc_status {
    // SAFETY: the door's contract.
    unsafe {
        guard::clear(out_json);
        skc_library::call(library, err, |library| {
            guard::check_out(out_json, "out_json")?;
            let event = library.next_event(patience(timeout_ms))?;
            skc_blob::hand_out(&event, out_json);
            Ok(())
        })
    }
}

/// A descriptor that is readable while events wait, and once the library is shut down. The library owns it: poll it, do not read or close it. -1 for NULL,
/// in a forked child, and for a library whose events go to a callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_library_event_fd(library: *mut skc_library) -> c_int {
    let mut fd = -1;
    // SAFETY: the door's contract.
    unsafe {
        skc_library::call(library, std::ptr::null_mut(), |library| {
            fd = library.events_readable().map_or(-1, |readable| readable.as_raw_fd());
            Ok(())
        });
    }
    fd
}
