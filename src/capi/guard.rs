//! What stands around every exported function: panics, forks, null outputs.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

use super::error::{SKC_E_PANIC, SKC_OK, skc_error, skc_status};
use crate::error::{Code, Error, Result};

/// Runs the body of a fallible function: `*err` is NULL unless it fails, and no panic gets out.
///
/// # Safety
///
/// `err` is NULL or can be written.
pub(super) unsafe fn call(err: *mut *mut skc_error, body: impl FnOnce() -> Result<()>) -> skc_status {
    // SAFETY: the caller's promise.
    unsafe { clear(err) };
    // What a body touches is behind locks that recover from poison, or is dropped with it.
    let error = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return SKC_OK,
        Ok(Err(error)) => error,
        Err(panic) => Error::new(Code::Panic, format!("a bug in skillcache was caught: {}", panic_text(&*panic))),
    };
    let code = error.code() as skc_status;
    if !err.is_null() {
        let boxed = catch_unwind(AssertUnwindSafe(|| skc_error::boxed(&error)));
        let Ok(boxed) = boxed else { return SKC_E_PANIC };
        // SAFETY: not NULL, and the caller's promise.
        unsafe { *err = boxed };
    }
    code
}

/// Runs the body of a getter: a panic gives `fallback`.
pub(super) fn get<T>(fallback: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(fallback)
}

/// Runs the body of a function that frees; a panic in some destructor ends here.
pub(super) fn free(body: impl FnOnce()) {
    let _ = catch_unwind(AssertUnwindSafe(body));
}

/// Sets an output pointer to NULL.
///
/// # Safety
///
/// `out` is NULL or can be written.
pub(super) unsafe fn clear<T>(out: *mut *mut T) {
    if !out.is_null() {
        // SAFETY: not NULL, and the caller's promise.
        unsafe { *out = std::ptr::null_mut() };
    }
}

/// The object a pointer names.
///
/// # Safety
///
/// `pointer` is NULL or points to a live `T` that outlives the call.
pub(super) unsafe fn borrow<'a, T>(pointer: *const T, name: &str) -> Result<&'a T> {
    // SAFETY: the caller's promise.
    unsafe { pointer.as_ref() }.ok_or_else(|| null(name))
}

/// The object a pointer names, to be changed by its one owner.
///
/// # Safety
///
/// `pointer` is NULL or points to a live `T` that nobody else uses during the call.
pub(super) unsafe fn borrow_mut<'a, T>(pointer: *mut T, name: &str) -> Result<&'a mut T> {
    // SAFETY: the caller's promise.
    unsafe { pointer.as_mut() }.ok_or_else(|| null(name))
}

/// Refuses a NULL output pointer.
pub(super) fn check_out<T>(out: *const T, name: &str) -> Result<()> {
    if out.is_null() { Err(null(name)) } else { Ok(()) }
}

fn null(name: &str) -> Error {
    Error::new(Code::Invalid, format!("`{name}` is NULL")).path(name)
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// Tells the process that made it from the children it forks, by one relaxed load: a page that the kernel hands to
/// children full of zeros (`MADV_WIPEONFORK`, Linux 4.14). It also sees children that run no fork handlers.
#[derive(Debug)]
pub(super) struct ForkMark {
    page: NonNull<AtomicU32>,
}

const PAGE: usize = 4096;

// SAFETY: the page holds one atomic that is written once, before the mark is shared, and mapped as long as it lives.
unsafe impl Send for ForkMark {}
// SAFETY: as above.
unsafe impl Sync for ForkMark {}

impl ForkMark {
    pub fn new() -> Result<Self> {
        let refused =
            |error| Error::new(Code::Unsupported, format!("no page that is wiped on fork can be had: {error}"));
        // SAFETY: a fresh private mapping that nothing else knows; the advice changes nothing in this process; the
        // page is aligned for an AtomicU32 and zeroed, which is a valid one.
        let page = unsafe {
            let page =
                mmap_anonymous(std::ptr::null_mut(), PAGE, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)
                    .map_err(refused)?;
            if let Err(error) = madvise(page, PAGE, Advice::LinuxWipeOnFork) {
                let _ = munmap(page, PAGE);
                return Err(refused(error));
            }
            NonNull::new_unchecked(page.cast::<AtomicU32>())
        };
        let mark = ForkMark { page };
        mark.word().store(1, Ordering::Relaxed);
        Ok(mark)
    }

    /// Whether this is a child of the process that made the mark.
    pub fn is_forked(&self) -> bool {
        self.word().load(Ordering::Relaxed) == 0
    }

    pub fn check(&self) -> Result<()> {
        if self.is_forked() {
            let message = "this process was forked from the one that opened the library; open it again after fork()";
            return Err(Error::new(Code::Forked, message));
        }
        Ok(())
    }

    fn word(&self) -> &AtomicU32 {
        // SAFETY: mapped and initialised for as long as `self` lives.
        unsafe { self.page.as_ref() }
    }
}

impl Drop for ForkMark {
    fn drop(&mut self) {
        // SAFETY: the page is ours and `self` was the last to know it.
        let _ = unsafe { munmap(self.page.as_ptr().cast::<c_void>(), PAGE) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_a_status() {
        let mut error: *mut skc_error = std::ptr::null_mut();
        // SAFETY: `error` can be written.
        let status = unsafe { call(&mut error, || panic!("on purpose {}", 1)) };
        assert_eq!(status, SKC_E_PANIC);
        // SAFETY: `error` was just made by `call`.
        let message = unsafe { Box::from_raw(error) }.message_text().to_owned();
        assert!(message.contains("on purpose 1"), "{message}");
        assert_eq!(get(7, || panic!("getter")), 7);
        free(|| panic!("destructor"));
    }
}
