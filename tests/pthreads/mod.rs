//! What `std::sync` has for the caches, made of the pthreads library, which a detector of data races can follow.

use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::atomic;
use std::time::Duration;

pub use std::sync::PoisonError;
pub use std::sync::atomic::Ordering;

type Locked<T> = Result<T, PoisonError<T>>;

/// A lock that is never poisoned.
pub struct Mutex<T> {
    raw: Box<UnsafeCell<libc::pthread_mutex_t>>,
    value: UnsafeCell<T>,
}

// SAFETY: the value is only reached under the lock.
unsafe impl<T: Send> Send for Mutex<T> {}
// SAFETY: likewise.
unsafe impl<T: Send> Sync for Mutex<T> {}

/// A lock that is held. It stays with the thread that took it.
pub struct MutexGuard<'m, T>(&'m Mutex<T>, PhantomData<*mut T>);

impl<T> Mutex<T> {
    pub fn new(value: T) -> Self {
        let raw = Box::new(UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER));
        // By a call, so that a detector sees it. SAFETY: nobody has it yet, and from here on it stays where it is.
        assert_eq!(unsafe { libc::pthread_mutex_init(raw.get(), std::ptr::null()) }, 0);
        Mutex { raw, value: UnsafeCell::new(value) }
    }

    pub fn lock(&self) -> Locked<MutexGuard<'_, T>> {
        // SAFETY: the mutex was initialised, stays where it is, and lives as long as this.
        assert_eq!(unsafe { libc::pthread_mutex_lock(self.raw.get()) }, 0);
        Ok(MutexGuard(self, PhantomData))
    }
}

impl<T> Drop for Mutex<T> {
    fn drop(&mut self) {
        // SAFETY: nobody holds it: guards borrow it.
        assert_eq!(unsafe { libc::pthread_mutex_destroy(self.raw.get()) }, 0);
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the lock is held.
        unsafe { &*self.0.value.get() }
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the lock is held.
        unsafe { &mut *self.0.value.get() }
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: the lock is held by this thread: a guard is not `Send`.
        assert_eq!(unsafe { libc::pthread_mutex_unlock(self.0.raw.get()) }, 0);
    }
}

impl<T> std::fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("Mutex")
    }
}

#[derive(Debug)]
pub struct Condvar(Box<UnsafeCell<libc::pthread_cond_t>>);

// SAFETY: it is made to be shared.
unsafe impl Send for Condvar {}
// SAFETY: likewise.
unsafe impl Sync for Condvar {}

impl Condvar {
    pub fn new() -> Self {
        let raw = Box::new(UnsafeCell::new(libc::PTHREAD_COND_INITIALIZER));
        // SAFETY: as that of the mutex.
        assert_eq!(unsafe { libc::pthread_cond_init(raw.get(), std::ptr::null()) }, 0);
        Condvar(raw)
    }

    pub fn wait<'m, T>(&self, guard: MutexGuard<'m, T>) -> Locked<MutexGuard<'m, T>> {
        // SAFETY: both were initialised and stay where they are; the lock is held by this thread.
        assert_eq!(unsafe { libc::pthread_cond_wait(self.0.get(), guard.0.raw.get()) }, 0);
        Ok(guard)
    }

    /// Nobody here has a deadline.
    pub fn wait_timeout<'m, T>(&self, guard: MutexGuard<'m, T>, _: Duration) -> Locked<(MutexGuard<'m, T>, ())> {
        self.wait(guard).map(|guard| (guard, ())).map_err(|_| unreachable!("it is never poisoned"))
    }

    pub fn notify_one(&self) {
        // SAFETY: it was initialised and stays where it is.
        assert_eq!(unsafe { libc::pthread_cond_signal(self.0.get()) }, 0);
    }

    pub fn notify_all(&self) {
        // SAFETY: it was initialised and stays where it is.
        assert_eq!(unsafe { libc::pthread_cond_broadcast(self.0.get()) }, 0);
    }
}

impl Drop for Condvar {
    fn drop(&mut self) {
        // SAFETY: nobody waits for it: who waits borrows it.
        assert_eq!(unsafe { libc::pthread_cond_destroy(self.0.get()) }, 0);
    }
}

/// A shared value. Its count is under a lock, so that whoever takes it apart visibly comes after all who had it.
#[derive(Debug)]
pub struct Arc<T>(NonNull<Shared<T>>);

#[derive(Debug)]
struct Shared<T> {
    count: Mutex<usize>,
    value: T,
}

// SAFETY: as that of the standard library: the value is only shared, and dropped by the last who has it.
unsafe impl<T: Send + Sync> Send for Arc<T> {}
// SAFETY: likewise.
unsafe impl<T: Send + Sync> Sync for Arc<T> {}

impl<T> Arc<T> {
    pub fn new(value: T) -> Self {
        Arc(NonNull::from(Box::leak(Box::new(Shared { count: Mutex::new(1), value }))))
    }

    fn shared(&self) -> &Shared<T> {
        // SAFETY: it is there while it is counted, and this is.
        unsafe { self.0.as_ref() }
    }
}

impl<T> Deref for Arc<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.shared().value
    }
}

impl<T> Clone for Arc<T> {
    fn clone(&self) -> Self {
        *self.shared().count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Arc(self.0)
    }
}

impl<T> Drop for Arc<T> {
    fn drop(&mut self) {
        let mut count = self.shared().count.lock().unwrap_or_else(PoisonError::into_inner);
        *count -= 1;
        let is_last = *count == 0;
        drop(count);
        if is_last {
            // SAFETY: it came from a box, and nobody else has it any more.
            drop(unsafe { Box::from_raw(self.0.as_ptr()) });
        }
    }
}

/// A counter that is only touched by locked instructions: a detector takes plain loads and stores for what is not atomic.
#[derive(Debug)]
pub struct AtomicU64(atomic::AtomicU64);

impl AtomicU64 {
    pub fn new(value: u64) -> Self {
        AtomicU64(atomic::AtomicU64::new(value))
    }

    pub fn load(&self, _: Ordering) -> u64 {
        // Not by adding nothing, which the compiler makes a load.
        let (Ok(value) | Err(value)) = self.0.compare_exchange(0, 0, Ordering::Relaxed, Ordering::Relaxed);
        value
    }

    pub fn store(&self, value: u64, order: Ordering) {
        self.0.swap(value, order);
    }

    pub fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        self.0.fetch_add(value, order)
    }
}

/// Likewise.
#[derive(Debug)]
pub struct AtomicBool(AtomicU64);

impl AtomicBool {
    pub fn new(value: bool) -> Self {
        AtomicBool(AtomicU64::new(value.into()))
    }

    pub fn load(&self, order: Ordering) -> bool {
        self.0.load(order) != 0
    }

    pub fn store(&self, value: bool, order: Ordering) {
        self.0.store(value.into(), order);
    }

    pub fn swap(&self, value: bool, order: Ordering) -> bool {
        self.0.0.swap(value.into(), order) != 0
    }
}

/// Threads without what the standard library has around them.
pub mod thread {
    use std::ffi::c_void;

    pub struct Thread(libc::pthread_t);

    type Act = Box<dyn FnOnce() + Send>;

    pub fn spawn(act: impl FnOnce() + Send + 'static) -> Thread {
        let act: Box<Act> = Box::new(Box::new(act));
        let mut thread = 0;
        // SAFETY: `begin` takes the box that it is given, once.
        let status =
            unsafe { libc::pthread_create(&raw mut thread, std::ptr::null(), begin, Box::into_raw(act).cast()) };
        assert_eq!(status, 0);
        Thread(thread)
    }

    extern "C" fn begin(act: *mut c_void) -> *mut c_void {
        // SAFETY: it is the box that `spawn` made, for this thread alone.
        let act = unsafe { Box::from_raw(act.cast::<Act>()) };
        act();
        std::ptr::null_mut()
    }

    impl Thread {
        pub fn join(self) {
            // SAFETY: it was created and is joined once.
            assert_eq!(unsafe { libc::pthread_join(self.0, std::ptr::null_mut()) }, 0);
        }
    }
}
