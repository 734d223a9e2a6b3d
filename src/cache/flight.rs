//! Single flight: of those who ask for the same thing at the same time, one does the work.
//!
//! Who finds nothing in the cache [joins](Flights::join) the flight of its key: the first leads, the others wait. A leader
//! [lands](Lead::land) what it made, which goes to all who wait, or drops its lead (it failed, or panicked), which wakes *one*
//! of them to lead in its place; or it made something that [cannot be shared](Lead::scatter), and all of them go on by
//! themselves. Who joins a flight that has lost its leader leads it.
//!
//! A flight can be [made void](Flights::make_void): a new version was put, or the cache was emptied. Then what its leader makes
//! is the leader's own and is not kept, and those who wait begin again. Without that, what was computed before a change would
//! reappear after it.
//!
//! All of it is one table behind one lock, taken only beside work of milliseconds. What is kept is kept under that lock, so
//! that it is decided before or after a flight is made void, never while.
//!
//! Model-checked in `tests/interleavings.rs`: a flight in the table has a leader, or somebody who waits and has been woken to
//! become it; nobody waits for a flight that has left the table without an end.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::time::Instant;

use super::key::Digest;
use crate::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// The flights of a cache. Shared freely between threads.
#[derive(Debug)]
pub struct Flights<V>(Arc<Mutex<Table<V>>>);

#[derive(Debug)]
struct Table<V> {
    flights: HashMap<Digest, Flight<V>>,
    /// The next flight's number.
    next: u64,
    coalesced: u64,
}

#[derive(Debug)]
struct Flight<V> {
    /// Tells it from a later one of the same key.
    number: u64,
    /// What makes it void.
    group: Digest,
    has_leader: bool,
    waiting: usize,
    end: Arc<End<V>>,
}

/// How a flight ended, for those who wait. Written and read under the table's lock.
#[derive(Debug)]
struct End<V> {
    outcome: OnceLock<Outcome<V>>,
    changed: Condvar,
}

#[derive(Debug)]
enum Outcome<V> {
    Landed(V),
    Scattered,
    Void,
}

/// Which flight somebody has to do with.
#[derive(Debug)]
struct Seat<V> {
    table: Arc<Mutex<Table<V>>>,
    key: Digest,
    number: u64,
}

/// What joining a flight comes to.
#[derive(Debug)]
pub enum Turn<V> {
    /// The work is the caller's.
    Lead(Lead<V>),
    /// Somebody is at it.
    Wait(Wait<V>),
}

/// The duty to do the work. Dropping it passes it on.
#[derive(Debug)]
pub struct Lead<V>(Seat<V>);

/// A place among those who wait.
#[derive(Debug)]
pub struct Wait<V> {
    seat: Seat<V>,
    end: Arc<End<V>>,
}

/// What waiting came to.
#[derive(Debug)]
pub enum Waited<V> {
    /// The leader's result.
    Landed(V),
    /// The leader failed; the work is the caller's now.
    Lead(Lead<V>),
    /// The leader's result cannot be shared: everybody does the work alone.
    Alone,
    /// The flight was made void: begin again.
    Void,
    /// The deadline has passed.
    TimedOut,
    /// The caller gave up.
    Cancelled,
}

impl<V> Default for Flights<V> {
    fn default() -> Self {
        Flights(Arc::new(Mutex::new(Table { flights: HashMap::new(), next: 0, coalesced: 0 })))
    }
}

impl<V: Clone> Flights<V> {
    /// Leads the flight of a key, or waits for it. `group` is what [`make_void`](Self::make_void) names it by.
    pub fn join(&self, key: Digest, group: Digest) -> Turn<V> {
        let mut table = lock(&self.0);
        let flight = table.flight_of(key, group);
        let seat = Seat { table: self.0.clone(), key, number: flight.number };
        if flight.has_leader {
            flight.waiting += 1;
            Turn::Wait(Wait { seat, end: flight.end.clone() })
        } else {
            flight.has_leader = true;
            Turn::Lead(Lead(seat))
        }
    }

    /// Leads a flight that nobody can join, for work that is not shared but must not be kept once it is void.
    pub fn lead_alone(&self, group: Digest) -> Lead<V> {
        let mut table = lock(&self.0);
        // No hash of anything: 24 of its bytes are 0, and numbers are given once.
        let mut key = [0; 32];
        key[..8].copy_from_slice(&table.next.to_le_bytes());
        let flight = table.flight_of(Digest(key), group);
        flight.has_leader = true;
        Lead(Seat { table: self.0.clone(), key: Digest(key), number: flight.number })
    }

    /// Makes the flights of a group void; nothing for all of them.
    pub fn make_void(&self, group: Option<&Digest>) {
        let is_meant = |flight: &Flight<V>| group.is_none_or(|group| flight.group == *group);
        lock(&self.0).flights.retain(|_, flight| {
            let is_meant = is_meant(flight);
            if is_meant {
                flight.end.come_to(Outcome::Void);
            }
            !is_meant
        });
    }

    /// Makes the flight of a key void, if there is one.
    pub fn make_void_of(&self, key: &Digest) {
        if let Some(flight) = lock(&self.0).flights.remove(key) {
            flight.end.come_to(Outcome::Void);
        }
    }

    /// How many were given what somebody else had made for them.
    pub fn coalesced(&self) -> u64 {
        lock(&self.0).coalesced
    }
}

impl<V> Table<V> {
    /// The flight of a key, made if there is none.
    fn flight_of(&mut self, key: Digest, group: Digest) -> &mut Flight<V> {
        let number = self.next;
        self.flights.entry(key).or_insert_with(|| {
            self.next += 1;
            let end = Arc::new(End { outcome: OnceLock::new(), changed: Condvar::new() });
            Flight { number, group, has_leader: false, waiting: 0, end }
        })
    }
}

impl<V> Lead<V> {
    /// Gives the result to all who wait. `keep` runs first, so that who comes later finds it kept; neither happens if the flight
    /// was made void, and then this is nothing.
    pub fn land<T>(self, value: V, keep: impl FnOnce() -> T) -> Option<T> {
        let mut table = lock(&self.0.table);
        self.0.flight(&mut table)?;
        // The flight leaves the table after that, so that those who wait lose nothing by a panic.
        let kept = keep();
        let flight = self.0.take_flight(&mut table)?;
        flight.end.come_to(Outcome::Landed(value));
        // The value may go with the flight: that is no business of others.
        drop(table);
        Some(kept)
    }

    /// Gives a result that was found made already to all who wait, and counts the caller as one of them.
    pub fn hand_on(self, value: V) {
        let mut table = lock(&self.0.table);
        table.coalesced += 1;
        if let Some(flight) = self.0.take_flight(&mut table) {
            flight.end.come_to(Outcome::Landed(value));
            drop(table);
        }
    }

    /// Lets all who wait do the work themselves.
    pub fn scatter(self) {
        if let Some(flight) = self.0.take_flight(&mut lock(&self.0.table)) {
            flight.end.come_to(Outcome::Scattered);
        }
    }
}

impl<V> Drop for Lead<V> {
    fn drop(&mut self) {
        let mut table = lock(&self.0.table);
        if let Some(flight) = self.0.flight(&mut table) {
            flight.has_leader = false;
            self.0.pass_on(&mut table);
        }
    }
}

impl<V: Clone> Wait<V> {
    /// Waits for the end of the flight, for the lead, or until the deadline, if there is one. `is_cancelled` is asked under a lock
    /// whenever [a call](Self::caller) wakes those who wait.
    pub fn wait(self, deadline: Option<Instant>, is_cancelled: impl Fn() -> bool) -> Waited<V> {
        let mut table = lock(&self.seat.table);
        loop {
            match self.end.outcome.get() {
                Some(Outcome::Landed(value)) => {
                    table.coalesced += 1;
                    return Waited::Landed(value.clone());
                }
                Some(Outcome::Scattered) => return Waited::Alone,
                Some(Outcome::Void) => return Waited::Void,
                None => {}
            }
            if is_cancelled() {
                return Waited::Cancelled;
            }
            if let Some(flight) = self.seat.flight(&mut table).filter(|flight| !flight.has_leader) {
                flight.has_leader = true;
                let Seat { table, key, number } = &self.seat;
                return Waited::Lead(Lead(Seat { table: table.clone(), key: *key, number: *number }));
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            table = match left {
                Some(left) if left.is_zero() => return Waited::TimedOut,
                Some(left) => self.end.changed.wait_timeout(table, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.end.changed.wait(table).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// What calls those who wait to look whether they were cancelled. May be called from any thread, at any time.
    pub fn caller(&self) -> impl Fn() + use<V> {
        let (table, end) = (self.seat.table.clone(), self.end.clone());
        move || {
            // Who has looked but does not sleep yet holds the lock: after it, nobody misses the call.
            drop(lock(&table));
            end.changed.notify_all();
        }
    }
}

impl<V> Drop for Wait<V> {
    fn drop(&mut self) {
        let mut table = lock(&self.seat.table);
        if let Some(flight) = self.seat.flight(&mut table) {
            flight.waiting -= 1;
            // If it was this one that had been woken to lead, another must be.
            self.seat.pass_on(&mut table);
        }
    }
}

impl<V> Seat<V> {
    /// The flight, if it has not ended.
    fn flight<'t>(&self, table: &'t mut Table<V>) -> Option<&'t mut Flight<V>> {
        table.flights.get_mut(&self.key).filter(|flight| flight.number == self.number)
    }

    fn take_flight(&self, table: &mut Table<V>) -> Option<Flight<V>> {
        self.flight(table)?;
        table.flights.remove(&self.key)
    }

    /// Wakes one who waits for a flight without a leader; a flight that nobody waits for goes.
    fn pass_on(&self, table: &mut Table<V>) {
        match self.flight(table) {
            Some(flight) if flight.has_leader => {}
            Some(flight) if flight.waiting > 0 => flight.end.changed.notify_one(),
            Some(_) => drop(table.flights.remove(&self.key)),
            None => {}
        }
    }
}

impl<V> End<V> {
    fn come_to(&self, outcome: Outcome<V>) {
        // A flight leaves the table when it ends, so it ends once.
        let _ = self.outcome.set(outcome);
        self.changed.notify_all();
    }
}

fn lock<V>(table: &Mutex<Table<V>>) -> MutexGuard<'_, Table<V>> {
    // The table is whole whenever something that can panic runs under its lock.
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const KEY: Digest = Digest([1; 32]);
    const GROUP: Digest = Digest([2; 32]);

    fn lead(flights: &Flights<u32>) -> Lead<u32> {
        match flights.join(KEY, GROUP) {
            Turn::Lead(lead) => lead,
            Turn::Wait(_) => panic!("nobody leads"),
        }
    }

    fn wait(flights: &Flights<u32>) -> Wait<u32> {
        match flights.join(KEY, GROUP) {
            Turn::Lead(_) => panic!("somebody leads"),
            Turn::Wait(wait) => wait,
        }
    }

    fn nobody_is_left(flights: &Flights<u32>) -> bool {
        lock(&flights.0).flights.is_empty()
    }

    #[test]
    fn a_result_goes_to_all_who_wait_and_is_kept_first() {
        let flights = Flights::default();
        let (lead, waits) = (lead(&flights), [wait(&flights), wait(&flights)]);
        assert_eq!(lead.land(7, || "kept"), Some("kept"));
        for wait in waits {
            assert!(matches!(wait.wait(None, || false), Waited::Landed(7)));
        }
        assert_eq!(flights.coalesced(), 2);
        assert!(nobody_is_left(&flights));
    }

    #[test]
    fn a_failed_leader_passes_the_lead_to_one() {
        let flights = Flights::default();
        let (first, waits) = (lead(&flights), [wait(&flights), wait(&flights)]);
        drop(first);
        let [one, other] = waits;
        let Waited::Lead(second) = one.wait(None, || false) else { panic!("it is passed on") };
        let now = Some(Instant::now());
        assert!(matches!(other.wait(now, || false), Waited::TimedOut), "there is one leader");
        drop(second);
        assert!(nobody_is_left(&flights));
    }

    #[test]
    fn a_leader_that_panics_while_its_result_is_kept_passes_the_lead_on() {
        let flights = Flights::default();
        let (first, waits) = (lead(&flights), wait(&flights));
        let keeps = std::panic::AssertUnwindSafe(|| first.land(1, || panic!("on purpose")));
        assert!(std::panic::catch_unwind(|| { keeps }.0()).is_err());
        let soon = Some(Instant::now() + Duration::from_secs(10));
        assert!(matches!(waits.wait(soon, || false), Waited::Lead(_)));
        assert!(nobody_is_left(&flights));
    }

    #[test]
    fn a_result_that_nobody_waits_for_is_dropped_where_no_lock_is_held() {
        #[derive(Clone)]
        struct Caller(Arc<Mutex<Table<Caller>>>);
        impl Drop for Caller {
            fn drop(&mut self) {
                assert!(self.0.try_lock().is_ok());
            }
        }
        let flights = Flights::default();
        let value = || Caller(flights.0.clone());
        let lead = || match flights.join(KEY, GROUP) {
            Turn::Lead(lead) => lead,
            Turn::Wait(_) => panic!("nobody leads"),
        };
        lead().land(value(), || ());
        lead().hand_on(value());
        let void = lead();
        flights.make_void(None);
        assert_eq!(void.land(value(), || ()), None);
    }

    #[test]
    fn who_gives_up_passes_the_lead_on() {
        let flights = Flights::default();
        let (first, gives_up, stays) = (lead(&flights), wait(&flights), wait(&flights));
        drop(first);
        assert!(matches!(gives_up.wait(None, || true), Waited::Cancelled));
        assert!(matches!(stays.wait(None, || false), Waited::Lead(_)));
        assert!(nobody_is_left(&flights));
    }

    #[test]
    fn what_is_void_is_neither_kept_nor_shared() {
        let flights = Flights::default();
        let (first, waits) = (lead(&flights), wait(&flights));
        flights.make_void(Some(&KEY));
        assert!(matches!(flights.join(KEY, GROUP), Turn::Wait(_)), "another group's");
        flights.make_void(Some(&GROUP));
        let second = lead(&flights);
        assert_eq!(first.land(1, || panic!("kept")), None::<()>);
        assert!(matches!(waits.wait(None, || false), Waited::Void));
        let late = wait(&flights);
        flights.make_void(None);
        drop(second);
        assert!(matches!(late.wait(None, || false), Waited::Void));
        assert!(nobody_is_left(&flights));
    }

    #[test]
    fn what_cannot_be_shared_sets_everybody_free() {
        let flights = Flights::default();
        let (first, waits) = (lead(&flights), [wait(&flights), wait(&flights)]);
        first.scatter();
        assert!(waits.into_iter().all(|wait| matches!(wait.wait(None, || false), Waited::Alone)));
        assert!(nobody_is_left(&flights));
    }

    #[test]
    fn a_call_ends_the_sleep_of_who_was_cancelled() {
        use std::sync::atomic::{AtomicBool, Ordering};
        let (flights, is_cancelled) = (Flights::default(), AtomicBool::new(false));
        let (_first, waits) = (lead(&flights), wait(&flights));
        let call = waits.caller();
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| waits.wait(None, || is_cancelled.load(Ordering::Relaxed)));
            std::thread::sleep(Duration::from_millis(20));
            is_cancelled.store(true, Ordering::Relaxed);
            call();
            assert!(matches!(sleeper.join().expect("no panic"), Waited::Cancelled));
        });
    }
}
