//! The runs that are going on, so that closing can end them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::sandbox::CancelToken;

#[derive(Debug, Default)]
pub(super) struct ActiveRuns {
    tokens: Mutex<HashMap<u64, Arc<CancelToken>>>,
    ended: Condvar,
    is_shut: AtomicBool,
    next: AtomicU64,
}

/// A run that waits or executes; over when this is dropped.
pub(super) struct ActiveRun<'r> {
    runs: &'r ActiveRuns,
    number: u64,
    pub token: Arc<CancelToken>,
}

impl ActiveRuns {
    pub fn begin(&self, token: Option<&Arc<CancelToken>>) -> ActiveRun<'_> {
        let token = token.cloned().unwrap_or_default();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut tokens = self.lock();
        // Under the lock: either `cancel_all_and_wait` sees this run or this run sees that it is too late.
        if self.is_shut.load(Ordering::Relaxed) {
            token.cancel();
        }
        tokens.insert(number, token.clone());
        ActiveRun { runs: self, number, token }
    }

    pub fn cancel_all_and_wait(&self) {
        let mut tokens = self.lock();
        self.is_shut.store(true, Ordering::Relaxed);
        // Outside the lock: cancelling wakes those who wait, and these end.
        let all: Vec<_> = tokens.values().cloned().collect();
        drop(tokens);
        all.iter().for_each(|token| token.cancel());
        tokens = self.lock();
        while !tokens.is_empty() {
            tokens = self.ended.wait(tokens).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<CancelToken>>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ActiveRun<'_> {
    fn drop(&mut self) {
        self.runs.lock().remove(&self.number);
        self.runs.ended.notify_all();
    }
}
