//! Configurations.

use std::ffi::{c_char, c_void};
use std::sync::Arc;

use super::error::{skc_error, skc_status};
use super::guard;
use super::text::c_text;
use crate::config::Config;
use crate::error::{Code, Error, Result};

/// The options of a library before it is opened. Starts with the defaults. One owner at a time; opening copies it, so it
/// may be reused, changed and freed at any time; free it once with skc_config_free.
pub struct skc_config {
    pub(super) config: Config,
    pub(super) on_event: Option<Arc<Hook>>,
    pub(super) on_log: Option<Arc<Hook>>,
}

/// Gets one event, or one log line, as JSON text of `len` bytes (a NUL follows), valid during the call. Runs on a thread of the
/// library, one call at a time for each library; that of events and that of log lines may run at the same time. It may call anything but
/// skc_library_close of the library it came from.
pub type skc_event_fn = Option<unsafe extern "C" fn(user_data: *mut c_void, json: *const c_char, len: usize)>;

/// Gets `user_data` once, when nothing will use it any more.
pub type skc_drop_fn = Option<unsafe extern "C" fn(user_data: *mut c_void)>;

/// A host's callback with what it is to be called with.
#[derive(Debug)]
pub(super) struct Hook {
    call: unsafe extern "C" fn(*mut c_void, *const c_char, usize),
    user_data: *mut c_void,
    drop: skc_drop_fn,
}

// SAFETY: the header tells the host that its function is called on a thread of the library, one call at a time.
unsafe impl Send for Hook {}
// SAFETY: as above.
unsafe impl Sync for Hook {}

impl Hook {
    pub fn deliver(&self, line: &str) {
        let text = super::text::Text::new(line.as_bytes());
        let view = text.view();
        // SAFETY: the host gave this function and `user_data` for exactly this call; the text lives through it.
        unsafe { (self.call)(self.user_data, view.ptr, view.len) };
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        if let Some(drop) = self.drop {
            // SAFETY: the last owner is gone, so this is the one call the header promises.
            unsafe { drop(self.user_data) };
        }
    }
}

impl skc_config {
    /// Sets one of the callbacks.
    ///
    /// # Safety
    ///
    /// The door's contract.
    unsafe fn hook(
        config: *mut skc_config,
        slot: fn(&mut skc_config) -> &mut Option<Arc<Hook>>,
        callback: skc_event_fn,
        user_data: *mut c_void,
        drop: skc_drop_fn,
    ) -> Result<()> {
        // SAFETY: the caller's promise.
        let config = unsafe { guard::borrow_mut(config, "config")? };
        let call = callback.ok_or_else(|| Error::new(Code::Invalid, "`callback` is NULL").path("callback"))?;
        *slot(config) = Some(Arc::new(Hook { call, user_data, drop }));
        Ok(())
    }
}

/// A new configuration with the defaults. Never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn skc_config_new() -> *mut skc_config {
    guard::get(std::ptr::null_mut(), || {
        Box::into_raw(Box::new(skc_config { config: Config::default(), on_event: None, on_log: None }))
    })
}

/// Frees a configuration. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_config_free(config: *mut skc_config) {
    if !config.is_null() {
        // SAFETY: the door's contract: made by `skc_config_new`, freed once.
        guard::free(|| drop(unsafe { Box::from_raw(config) }));
    }
}

/// Sets one option from text; docs/CONFIGURATION.md lists them. SKC_E_INVALID for an unknown option (the error's
/// `suggestion` is the nearest known one) and for a value out of range (the message states the range); nothing changes
/// then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_config_set(
    config: *mut skc_config,
    key: *const c_char,
    value: *const c_char,
    err: *mut *mut skc_error,
) -> skc_status {
    // SAFETY: the door's contract.
    unsafe {
        guard::call(err, || {
            let config = guard::borrow_mut(config, "config")?;
            config.config.set(c_text(key, "key")?, c_text(value, "value")?)
        })
    }
}

/// Has every event of the libraries opened with this configuration delivered to `callback`; skc_library_next_event is
/// refused then. `user_data` may be NULL. `drop` may be NULL; otherwise it gets `user_data` once, after the last library
/// and configuration that know it are gone. On failure `user_data` stays the caller's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_config_on_event(
    config: *mut skc_config,
    callback: skc_event_fn,
    user_data: *mut c_void,
    drop: skc_drop_fn,
    err: *mut *mut skc_error,
) -> skc_status {
    // SAFETY: the door's contract.
    unsafe { guard::call(err, || skc_config::hook(config, |config| &mut config.on_event, callback, user_data, drop)) }
}

/// Has what the libraries opened with this configuration say while they work delivered to `callback`, as far as the option
/// `monitor.log_level` says (info unless it is set): JSON objects with time, level, target, message, fields. docs/STATISTICS.md has
/// more of it. Nothing is ever printed, with or without a callback. The rest is as for skc_config_on_event; both may be set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_config_on_log(
    config: *mut skc_config,
    callback: skc_event_fn,
    user_data: *mut c_void,
    drop: skc_drop_fn,
    err: *mut *mut skc_error,
) -> skc_status {
    // SAFETY: the door's contract.
    unsafe { guard::call(err, || skc_config::hook(config, |config| &mut config.on_log, callback, user_data, drop)) }
}
