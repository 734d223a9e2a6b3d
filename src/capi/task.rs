//! Tasks.

use std::ffi::c_int;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use super::error::{SKC_OK, SKC_PENDING, skc_error, skc_status};
use super::guard::{self, ForkMark};
use super::result::skc_result;
use crate::task::Task;

/// A submitted run. Any thread may use it at any time; free it once with skc_task_free. It outlives the library; a task
/// that had not finished when the library was closed reports SKC_E_CANCELLED.
pub struct skc_task {
    task: Task,
    mark: Arc<ForkMark>,
}

impl skc_task {
    pub(super) fn boxed(task: Task, mark: Arc<ForkMark>) -> *mut skc_task {
        Box::into_raw(Box::new(skc_task { task, mark }))
    }
}

/// Milliseconds of the door: negative is for ever.
pub(super) fn patience(timeout_ms: i64) -> Option<Duration> {
    u64::try_from(timeout_ms).ok().map(Duration::from_millis)
}

/// SKC_OK once the task has finished, SKC_PENDING before. Costs two loads and no lock: call it in every frame.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_task_poll(task: *const skc_task) -> skc_status {
    let mut status = SKC_OK;
    // SAFETY: the door's contract.
    let called = unsafe {
        guard::call(std::ptr::null_mut(), || {
            let task = guard::borrow(task, "task")?;
            task.mark.check()?;
            status = if task.task.is_finished() { SKC_OK } else { SKC_PENDING };
            Ok(())
        })
    };
    if called == SKC_OK { status } else { called }
}

/// A descriptor that is readable once the task has finished; made by the first of these calls. The task owns it: poll it, do
/// not read or close it. -1 when the process is out of descriptors, for
/// NULL and in a forked child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_task_fd(task: *mut skc_task) -> c_int {
    guard::get(-1, || {
        // SAFETY: the door's contract.
        let task = unsafe { task.as_ref() }.filter(|task| !task.mark.is_forked());
        task.and_then(|task| task.task.readable().ok()).map_or(-1, |fd| fd.as_raw_fd())
    })
}

/// Waits for the result: `timeout_ms` milliseconds, 0 only looks, negative waits for ever. Each SKC_OK gives a new result
/// that the caller owns. SKC_E_TIMEOUT when it did not finish in time, SKC_E_CANCELLED when the library was closed first,
/// and whatever skc_library_run would have returned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_task_wait(
    task: *mut skc_task,
    timeout_ms: i64,
    out: *mut *mut skc_result,
    err: *mut *mut skc_error,
) -> skc_status {
    // SAFETY: the door's contract.
    unsafe {
        guard::clear(out);
        guard::call(err, || {
            let task = guard::borrow(task, "task")?;
            guard::check_out(out, "out")?;
            task.mark.check()?;
            let result = task.task.wait(patience(timeout_ms))?;
            *out = Box::into_raw(Box::new(skc_result::new(result)));
            Ok(())
        })
    }
}

/// Ends the run: its result has the outcome cancelled. One that waits has it when this returns, and its place in the queue
/// is free; one that is running has it as soon as its child is gone. A finished task keeps its result.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_task_cancel(task: *mut skc_task) -> skc_status {
    // SAFETY: the door's contract.
    unsafe {
        guard::call(std::ptr::null_mut(), || {
            let task = guard::borrow(task, "task")?;
            task.mark.check()?;
            task.task.cancel();
            Ok(())
        })
    }
}

/// Frees a task. A running one goes on unobserved. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_task_free(task: *mut skc_task) {
    if !task.is_null() {
        // SAFETY: the door's contract: made by `boxed`, freed once.
        guard::free(|| drop(unsafe { Box::from_raw(task) }));
    }
}
