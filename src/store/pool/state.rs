//! What the pool's lock protects, and every decision that is made under it.
//!
//! Nothing here calls a manager, wakes anybody or waits: each step says what is to be done once the lock is free.
//!
//! A *slot* is the right to one connection. It is taken before the connection is opened and given back after it is closed, so
//! that there are never more connections than slots. Those who wait are served in the order in which they came: whoever has
//! something to give gives it to the oldest of them, be it a connection or a slot to open one in. Three statements hold
//! whenever the lock is free: while somebody waits, nothing is idle and no slot is free; a slot is idle or in use;
//! connections are idle only up to the pool's size.

use std::collections::VecDeque;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::alert::{Alert, Desk, Kind};
use super::stats::{Counts, PoolStats, Recent};
use super::{Exhaustion, Settings};
use crate::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// A moment: nanoseconds since the pool was made.
pub(super) type Nanos = u64;

/// An open connection.
#[derive(Debug)]
pub(super) struct Conn<C> {
    pub inner: C,
    pub born: Nanos,
    pub slot: usize,
}

struct Idle<C> {
    conn: Conn<C>,
    since: Nanos,
}

pub(super) struct State<C> {
    settings: Settings,
    /// The one used last is the last.
    idle: Vec<Idle<C>>,
    waiters: VecDeque<Arc<Waiter<C>>>,
    slots: Slots,
    /// Slots whose connections are being closed.
    closing: usize,
    counts: Counts,
    recent: Recent,
    /// In microseconds, of those who had to wait.
    waits: Histogram<u64>,
    desk: Desk,
    /// Connections in use for too long are looked for now and then.
    next_search: Nanos,
}

/// What a borrower is to do.
pub(super) enum Turn<C> {
    /// It is good.
    Take(Conn<C>),
    /// It has been idle for so long that it must be asked.
    Check(Conn<C>),
    /// It is too old.
    Replace(Conn<C>),
    /// Open one.
    Open(usize),
    Wait(Arc<Waiter<C>>),
}

/// What comes to who has waited.
#[derive(Debug)]
pub(super) enum Handed<C> {
    Connection(Conn<C>),
    /// Open one.
    Slot(usize),
}

/// What is to be done with a returned connection.
pub(super) enum Back<C> {
    Kept,
    Hand(Arc<Waiter<C>>, Handed<C>),
    Close(Conn<C>, Reason),
}

/// In what state a connection comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Returned {
    /// As good as new.
    Clean,
    /// It was in a transaction, which was rolled back; now it is as good as new.
    RolledBack,
    /// Not to be used again.
    Broken,
}

/// Why a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// There are more than are kept.
    Overflow,
    /// It is too old.
    Recycled,
    /// It is broken, stale, or could not be made clean.
    Discarded,
}

impl<C> State<C> {
    pub fn new(settings: Settings) -> Self {
        // Two significant digits from 1 µs to a day; larger values count as the largest.
        let mut waits = Histogram::new_with_bounds(1, 86_400_000_000, 2).expect("constant bounds: 2 * 1 <= a day");
        waits.auto(false);
        State {
            settings,
            idle: Vec::new(),
            waiters: VecDeque::new(),
            slots: Slots::default(),
            closing: 0,
            counts: Counts::default(),
            recent: Recent::default(),
            waits,
            desk: Desk::new(settings.alert_interval),
            next_search: 0,
        }
    }

    /// Somebody asks for a connection.
    pub fn ask(&mut self, now: Nanos) -> (Turn<C>, Vec<Alert>) {
        self.counts.requests += 1;
        self.recent.count_request(now);
        if now >= self.next_search {
            self.look_for_leaks(now);
        }
        let turn = match self.idle.pop() {
            Some(idle) => self.take(idle, now),
            None if self.slots.open < self.settings.max() => self.open(now),
            None => {
                let waiter = Arc::new(Waiter::new(now));
                self.waiters.push_back(waiter.clone());
                Turn::Wait(waiter)
            }
        };
        (turn, self.desk.take())
    }

    fn take(&mut self, Idle { conn, since }: Idle<C>, now: Nanos) -> Turn<C> {
        self.slots.begin(conn.slot, now);
        if self.is_old(&conn, now) {
            return Turn::Replace(conn);
        }
        if now.saturating_sub(since) >= nanos(self.settings.check_after) && !self.settings.is_permanent {
            return Turn::Check(conn);
        }
        self.counts.checkouts += 1;
        Turn::Take(conn)
    }

    fn open(&mut self, now: Nanos) -> Turn<C> {
        let slot = self.slots.take(now);
        let (overflow, max_overflow) = (self.overflow(), self.settings.max_overflow);
        if overflow * 5 > max_overflow * 4 {
            self.desk.raise(Kind::Overflow, now, || Alert::overflow(overflow, max_overflow));
        }
        Turn::Open(slot)
    }

    fn is_old(&self, conn: &Conn<C>, now: Nanos) -> bool {
        let is_over = |recycle| now.saturating_sub(conn.born) > nanos(recycle);
        !self.settings.is_permanent && self.settings.recycle.is_some_and(is_over)
    }

    fn overflow(&self) -> usize {
        self.slots.open.saturating_sub(self.settings.size)
    }

    /// A connection was opened in a slot that somebody had been given, and is borrowed.
    pub fn opened(&mut self) {
        self.counts.opened += 1;
        self.counts.checkouts += 1;
    }

    /// A connection that had been idle for long has answered, and is borrowed.
    pub fn checked(&mut self) {
        self.counts.checkouts += 1;
    }

    /// A connection was closed whose slot is used for the next one.
    pub fn replaced(&mut self, reason: Reason) {
        self.count_closed(reason);
    }

    /// No connection could be opened in a slot.
    #[must_use]
    pub fn open_failed(&mut self, slot: usize, now: Nanos) -> Option<(Arc<Waiter<C>>, Handed<C>)> {
        self.counts.open_failures += 1;
        self.release(slot, now)
    }

    /// A connection comes back.
    #[must_use]
    pub fn give_back(&mut self, conn: Conn<C>, returned: Returned, now: Nanos) -> Back<C> {
        self.counts.rolled_back += u64::from(returned == Returned::RolledBack);
        if returned == Returned::Broken && !self.settings.is_permanent {
            return self.close(conn, Reason::Discarded);
        }
        if self.is_old(&conn, now) {
            return self.close(conn, Reason::Recycled);
        }
        if let Some(waiter) = self.waiters.pop_front() {
            self.slots.begin(conn.slot, now);
            self.counts.checkouts += 1;
            return Back::Hand(waiter, Handed::Connection(conn));
        }
        if self.slots.open - self.closing > self.settings.size {
            return self.close(conn, Reason::Overflow);
        }
        self.slots.end(conn.slot);
        self.idle.push(Idle { conn, since: now });
        Back::Kept
    }

    fn close(&mut self, conn: Conn<C>, reason: Reason) -> Back<C> {
        self.closing += 1;
        Back::Close(conn, reason)
    }

    /// A returned connection was closed.
    #[must_use]
    pub fn closed(&mut self, slot: usize, reason: Reason, now: Nanos) -> Option<(Arc<Waiter<C>>, Handed<C>)> {
        self.closing -= 1;
        self.count_closed(reason);
        self.release(slot, now)
    }

    fn count_closed(&mut self, reason: Reason) {
        self.counts.closed += 1;
        match reason {
            Reason::Overflow => {}
            Reason::Recycled => self.counts.recycled += 1,
            Reason::Discarded => self.counts.discarded += 1,
        }
    }

    /// Gives a slot without a connection to the oldest who waits.
    fn release(&mut self, slot: usize, now: Nanos) -> Option<(Arc<Waiter<C>>, Handed<C>)> {
        match self.waiters.pop_front() {
            Some(waiter) => {
                self.slots.begin(slot, now);
                Some((waiter, Handed::Slot(slot)))
            }
            None => {
                self.slots.free(slot);
                None
            }
        }
    }

    /// Somebody has waited long enough. `None` if something was handed over at the same moment.
    pub fn give_up(&mut self, waiter: &Arc<Waiter<C>>, now: Nanos) -> Option<(Exhaustion, Vec<Alert>)> {
        let place = self.waiters.iter().position(|other| Arc::ptr_eq(other, waiter))?;
        self.waiters.remove(place);
        self.counts.exhaustions += 1;
        self.recent.count_exhaustion(now);
        let waited = Duration::from_nanos(now.saturating_sub(waiter.since));
        self.count_wait(waited);
        let Settings { size, max_overflow, .. } = self.settings;
        let exhaustion = Exhaustion { total: self.counts.exhaustions, size, max_overflow, waited };
        self.desk.raise(Kind::Exhausted, now, || Alert::exhausted(&exhaustion));
        self.look_for_leaks(now);
        Some((exhaustion, self.desk.take()))
    }

    /// Somebody has waited and got something.
    pub fn served(&mut self, waiter: &Waiter<C>, now: Nanos) {
        self.count_wait(Duration::from_nanos(now.saturating_sub(waiter.since)));
    }

    fn count_wait(&mut self, waited: Duration) {
        self.waits.saturating_record(u64::try_from(waited.as_micros()).unwrap_or(u64::MAX).max(1));
    }

    /// Raises an alert if a connection has been in use for too long.
    fn look_for_leaks(&mut self, now: Nanos) {
        let leak_after = nanos(self.settings.leak_after);
        // A search reads all slots, so it is a rare one.
        self.next_search = now.saturating_add(leak_after / 8).saturating_add(1);
        let (leaks, oldest) = self.slots.in_use_longer_than(leak_after, now);
        if leaks > 0 {
            let leak_after = self.settings.leak_after;
            self.desk.raise(Kind::Leak, now, || Alert::leak(leaks, oldest, leak_after));
        }
    }

    /// One consistent picture, and what it gives rise to say.
    pub fn stats(&mut self, now: Nanos) -> (PoolStats, Vec<Alert>) {
        self.look_for_leaks(now);
        let (leaks, oldest_checkout) = self.slots.in_use_longer_than(nanos(self.settings.leak_after), now);
        let stats = PoolStats {
            settings: self.settings,
            open: self.slots.open,
            idle: self.idle.len(),
            waiting: self.waiters.len(),
            leaks,
            oldest_checkout,
            counts: self.counts,
            recent: self.recent.sum(now),
            waits: super::stats::Waits::of(&self.waits),
        };
        (stats, self.desk.take())
    }
}

/// Somebody who waits; has a lock and a bell of its own, so that exactly the one is woken whose turn it is.
pub(super) struct Waiter<C> {
    pub since: Nanos,
    handed: Mutex<Option<Handed<C>>>,
    arrived: Condvar,
}

impl<C> Waiter<C> {
    fn new(since: Nanos) -> Self {
        Waiter { since, handed: Mutex::new(None), arrived: Condvar::new() }
    }

    /// Hands over, to one that was taken out of the queue.
    pub fn hand(&self, handed: Handed<C>) {
        *self.lock() = Some(handed);
        self.arrived.notify_one();
    }

    /// Waits until something is handed over, or for so long.
    pub fn wait(&self, timeout: Duration) -> Option<Handed<C>> {
        let asked = std::time::Instant::now();
        let mut handed = self.lock();
        loop {
            let left = timeout.saturating_sub(asked.elapsed());
            if handed.is_some() || left.is_zero() {
                return handed.take();
            }
            handed = self.arrived.wait_timeout(handed, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// For one that is not in the queue any more: what it was taken out for arrives within a moment.
    pub fn receive(&self) -> Handed<C> {
        let mut handed = self.lock();
        loop {
            match handed.take() {
                Some(handed) => return handed,
                None => handed = self.arrived.wait(handed).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Handed<C>>> {
        self.handed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Since when each slot is in use.
#[derive(Debug, Default)]
struct Slots {
    /// One of the two below, or a moment.
    since: Vec<Nanos>,
    free: Vec<usize>,
    /// How many are not free.
    open: usize,
}

const FREE: Nanos = Nanos::MAX;
const IDLE: Nanos = Nanos::MAX - 1;

impl Slots {
    fn take(&mut self, now: Nanos) -> usize {
        self.open += 1;
        match self.free.pop() {
            Some(slot) => {
                self.since[slot] = now;
                slot
            }
            None => {
                self.since.push(now);
                self.since.len() - 1
            }
        }
    }

    fn free(&mut self, slot: usize) {
        self.open -= 1;
        self.since[slot] = FREE;
        self.free.push(slot);
    }

    fn begin(&mut self, slot: usize, now: Nanos) {
        self.since[slot] = now;
    }

    fn end(&mut self, slot: usize) {
        self.since[slot] = IDLE;
    }

    /// How many have been in use for longer, and for how long the first of all.
    fn in_use_longer_than(&self, bound: Nanos, now: Nanos) -> (usize, Duration) {
        let in_use = self.since.iter().filter(|since| **since < IDLE).map(|since| now.saturating_sub(*since));
        let (leaks, oldest) =
            in_use.fold((0, 0), |(leaks, oldest), age| (leaks + usize::from(age > bound), age.max(oldest)));
        (leaks, Duration::from_nanos(oldest))
    }
}

/// As [`Nanos`]; what is longer than the clock goes counts as its end.
fn nanos(time: Duration) -> Nanos {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
