//! Probes that may hang: side by side, each with a time limit, and of each component one at a time.
//!
//! Whoever asks waits for each probe until its time limit is over, counted from when *it* began. A probe that somebody else has begun is
//! waited for like an own one; one that is late already is not, and no second one is begun beside it. So one thing that hangs costs one
//! thread, however often it is asked for.
//!
//! A thread cannot be stopped from outside. What a probe uses is its own (it holds the `Arc`), so one that hangs is left behind when the
//! library is closed, and what it holds goes when it comes back.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use crate::sandbox::with_signals_blocked;

/// What finds something out.
pub(super) type Probe<T> = Arc<dyn Fn() -> T + Send + Sync>;

/// How a probe went.
#[derive(Debug, Clone)]
pub(super) struct Reply<T> {
    pub found: Found<T>,
    /// How long it took, or has taken.
    pub took: Duration,
    /// When it came back, or was given up.
    pub at: SystemTime,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found<T> {
    This(T),
    /// It panicked.
    Panic,
    /// Nothing yet; it goes on.
    Nothing {
        since: SystemTime,
    },
}

/// The probes of one library.
pub(super) struct Probes<T> {
    shared: Arc<Shared<T>>,
    limit: Duration,
    start: Start,
}

/// Starts a thread.
type Start = fn(Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>>;

struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    slots: Vec<Slot<T>>,
    threads: Vec<Thread>,
    is_closed: bool,
}

/// One component.
struct Slot<T> {
    /// When the probe that goes on began.
    begun: Option<(Instant, SystemTime)>,
    /// How many have come back.
    rounds: u64,
    last: Option<Reply<T>>,
}

/// What somebody waits for.
struct Begun<T> {
    /// Which round of each component.
    rounds: Vec<u64>,
    /// For what no thread could be had.
    left: Vec<(usize, Probe<T>)>,
}

/// A thread, and the probe it is for.
struct Thread {
    slot: usize,
    round: u64,
    handle: JoinHandle<()>,
}

impl<T> fmt::Debug for Probes<T> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Probes").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl<T: Clone + Send + 'static> Probes<T> {
    /// For so many components, each of which has so long.
    pub fn new(components: usize, limit: Duration) -> Self {
        let slots = (0..components).map(|_| Slot { begun: None, rounds: 0, last: None }).collect();
        let state = State { slots, threads: Vec::new(), is_closed: false };
        let start: Start =
            |work| with_signals_blocked(|| Builder::new().name("skillcache-health".to_owned()).spawn(work));
        Probes { shared: Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() }), limit, start }
    }

    /// What the probes find, one for each component, in their order; nothing once the library is closed. For which no thread can be had is
    /// carried out here, whatever time it takes.
    pub fn ask(&self, probes: &[Probe<T>]) -> Option<Vec<Reply<T>>> {
        let Begun { rounds, left } = self.begin(probes)?;
        for (slot, probe) in left {
            self.shared.carry_out(slot, probe);
        }
        self.shared.wait(&rounds, self.limit)
    }

    /// Begins what does not go on already.
    fn begin(&self, probes: &[Probe<T>]) -> Option<Begun<T>> {
        // All the way: whoever closes meanwhile finds every thread.
        let mut state = self.shared.lock();
        if state.is_closed {
            return None;
        }
        let State { slots, threads, .. } = &mut *state;
        threads.retain(|thread| !thread.handle.is_finished());
        let now = (Instant::now(), SystemTime::now());
        let (mut rounds, mut left) = (Vec::new(), Vec::new());
        for (index, (slot, probe)) in slots.iter_mut().zip(probes).enumerate() {
            let round = slot.rounds;
            rounds.push(round);
            if slot.begun.is_some() {
                continue;
            }
            slot.begun = Some(now);
            let (shared, work) = (self.shared.clone(), probe.clone());
            match (self.start)(Box::new(move || shared.carry_out(index, work))) {
                Ok(handle) => threads.push(Thread { slot: index, round, handle }),
                Err(_) => left.push((index, probe.clone())),
            }
        }
        Some(Begun { rounds, left })
    }

    /// Refuses to ask from now on, and ends the waiting of those who have asked.
    pub fn close(&self) {
        self.shared.lock().is_closed = true;
        self.shared.changed.notify_all();
    }

    /// Waits until the threads are gone, of each probe until its time is over. May be called again.
    pub fn join(&self) {
        let mut state = self.shared.lock();
        while let Some(left) = state.time_left(self.limit, |_| true) {
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let threads = std::mem::take(&mut state.threads);
        let done: Vec<u64> = state.slots.iter().map(|slot| slot.rounds).collect();
        drop(state);
        for Thread { slot, round, handle } in threads {
            if done[slot] > round {
                // What panics in a probe ends there.
                let _ = handle.join();
            }
        }
    }
}

impl<T> State<T> {
    /// How long the probes of some components may still take; nothing if none of them goes on, or all of those are late.
    fn time_left(&self, limit: Duration, is_meant: impl Fn(usize) -> bool) -> Option<Duration> {
        let now = Instant::now();
        let going_on = self.slots.iter().enumerate().filter(|(index, _)| is_meant(*index));
        let left = going_on.filter_map(|(_, slot)| Some((slot.begun?.0 + limit).saturating_duration_since(now)));
        left.max().filter(|left| !left.is_zero())
    }
}

impl<T: Clone> Shared<T> {
    fn carry_out(&self, slot: usize, probe: Probe<T>) {
        let begun = Instant::now();
        let found = catch_unwind(AssertUnwindSafe(|| probe())).map_or(Found::Panic, Found::This);
        // Before anybody hears of it: whoever closes the library then has the last of what the probe used.
        drop(probe);
        let reply = Reply { found, took: begun.elapsed(), at: SystemTime::now() };
        let mut state = self.lock();
        let slot = &mut state.slots[slot];
        (slot.begun, slot.last) = (None, Some(reply));
        slot.rounds += 1;
        drop(state);
        self.changed.notify_all();
    }

    /// Waits until these rounds are over, of each probe until its time is.
    fn wait(&self, rounds: &[u64], limit: Duration) -> Option<Vec<Reply<T>>> {
        let mut state = self.lock();
        while !state.is_closed
            && let Some(left) = state.time_left(limit, |index| state.slots[index].rounds == rounds[index])
        {
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        if state.is_closed {
            return None;
        }
        let (now, at) = (Instant::now(), SystemTime::now());
        let reply = |(slot, round): (&Slot<T>, &u64)| match (&slot.last, slot.begun) {
            (Some(last), _) if slot.rounds > *round => last.clone(),
            (_, Some((begun, since))) => {
                Reply { found: Found::Nothing { since }, took: now.saturating_duration_since(begun), at }
            }
            // Nobody has begun it: a round is over or goes on.
            (_, None) => Reply { found: Found::Nothing { since: at }, took: Duration::ZERO, at },
        };
        Some(state.slots.iter().zip(rounds).map(reply).collect())
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    /// Far longer than anything here takes.
    const LONG: Duration = Duration::from_secs(60);
    /// Over soon.
    const SHORT: Duration = Duration::from_millis(50);

    fn probe<T>(work: impl Fn() -> T + Send + Sync + 'static) -> Probe<T> {
        Arc::new(work)
    }

    /// A probe that hangs until something is sent or the sender is gone, and counts how often it is begun.
    fn hanging() -> (mpsc::Sender<()>, Arc<AtomicUsize>, Probe<u32>) {
        let (sender, receiver) = mpsc::channel();
        let (receiver, begun) = (Mutex::new(receiver), Arc::new(AtomicUsize::new(0)));
        let count = begun.clone();
        let hangs = probe(move || {
            count.fetch_add(1, Ordering::SeqCst);
            let _ = receiver.lock().expect("only this probe").recv();
            7
        });
        (sender, begun, hangs)
    }

    fn found(replies: &[Reply<u32>]) -> Vec<Option<u32>> {
        replies.iter().map(|reply| if let Found::This(value) = reply.found { Some(value) } else { None }).collect()
    }

    #[test]
    fn probes_go_on_side_by_side() {
        let probes = Probes::new(2, LONG);
        // Each waits for the other.
        let meeting = Arc::new(std::sync::Barrier::new(2));
        let both: Vec<Probe<u32>> = (0..2)
            .map(|number| {
                let meeting = meeting.clone();
                probe(move || {
                    meeting.wait();
                    number
                })
            })
            .collect();
        assert_eq!(found(&probes.ask(&both).expect("open")), [Some(0), Some(1)]);
    }

    #[test]
    fn one_that_hangs_is_told_and_not_begun_again() {
        let probes = Probes::new(2, SHORT);
        let (sender, begun, hangs) = hanging();
        let both = [hangs, probe(|| 1)];
        let first = probes.ask(&both).expect("open");
        let Found::Nothing { since } = first[0].found else { panic!("{first:?}") };
        assert!(first[0].took >= SHORT, "{first:?}");
        assert_eq!(found(&first)[1..], [Some(1)]);
        for _ in 0..20 {
            let again = probes.ask(&both).expect("open");
            assert_eq!(again[0].found, Found::Nothing { since }, "it still is the first");
            assert_eq!(found(&again)[1..], [Some(1)], "the other is asked anew");
        }
        assert_eq!(begun.load(Ordering::SeqCst), 1);
        sender.send(()).expect("it waits");
        // Now it comes back, and those after it do at once.
        drop(sender);
        let begin = Instant::now();
        while found(&probes.ask(&both).expect("open"))[0].is_none() {
            assert!(begin.elapsed() < LONG);
        }
        // What was answered last may still have been the first.
        assert_eq!(found(&probes.ask(&both).expect("open")), [Some(7), Some(1)]);
        assert!(begun.load(Ordering::SeqCst) >= 2);
    }

    #[test]
    fn two_who_ask_at_the_same_time_share_a_probe() {
        let probes = Arc::new(Probes::new(1, LONG));
        let (sender, begun, hangs) = hanging();
        let ask = || {
            let (probes, hangs) = (probes.clone(), hangs.clone());
            thread::spawn(move || found(&probes.ask(&[hangs]).expect("open")))
        };
        let first = ask();
        while begun.load(Ordering::SeqCst) == 0 {
            thread::yield_now();
        }
        let second = ask();
        // There is no telling when the second one waits; either way it has an answer, of this probe or of one that ends at once.
        thread::sleep(SHORT);
        drop(sender);
        assert_eq!(first.join().expect("no panic"), [Some(7)]);
        assert_eq!(second.join().expect("no panic"), [Some(7)]);
    }

    #[test]
    fn without_threads_they_are_carried_out_here() {
        let probes = Probes { start: |_| Err(io::Error::from(io::ErrorKind::WouldBlock)), ..Probes::new(2, LONG) };
        let here = thread::current().id();
        let both = [probe(move || u32::from(thread::current().id() == here)), probe(|| 2)];
        assert_eq!(found(&probes.ask(&both).expect("open")), [Some(1), Some(2)]);
    }

    #[test]
    fn a_panic_is_an_answer() {
        let probes = Probes::new(1, LONG);
        for _ in 0..2 {
            let replies = probes.ask(&[probe(|| -> u32 { panic!("on purpose") })]).expect("open");
            assert_eq!(replies[0].found, Found::Panic);
        }
    }

    #[test]
    fn closing_wakes_who_waits_and_leaves_behind_what_hangs() {
        let probes = Arc::new(Probes::new(1, LONG));
        let (sender, begun, hangs) = hanging();
        let asking = {
            let probes = probes.clone();
            thread::spawn(move || probes.ask(&[hangs]).is_none())
        };
        while begun.load(Ordering::SeqCst) == 0 {
            thread::yield_now();
        }
        probes.close();
        assert!(asking.join().expect("no panic"), "the library is closed");
        assert!(probes.ask(&[probe(|| 1)]).is_none());
        drop(sender);
        probes.join();

        let probes = Probes::new(1, SHORT);
        let (_sender, _, hangs) = hanging();
        assert_eq!(found(&probes.ask(&[hangs]).expect("open")), [None]);
        probes.close();
        let begin = Instant::now();
        probes.join();
        assert!(begin.elapsed() < LONG);
    }

    #[test]
    fn what_came_back_has_let_go_of_what_it_used() {
        let probes = Probes::new(1, LONG);
        let used = Arc::new(());
        for _ in 0..100 {
            let using = used.clone();
            let asked = [probe(move || {
                let _ = &using;
                1
            })];
            probes.ask(&asked).expect("open");
            drop(asked);
            assert_eq!(Arc::strong_count(&used), 1);
        }
        probes.join();
    }
}
