//! How events come to who wants them: by a callback or on demand, one to each, and never in the way of a run.

use std::os::fd::BorrowedFd;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use skillcache::{Code, EventCallback, Library, Outcome};

use crate::libraries::{PATIENCE, config, count, open, put, run, stats};
use crate::told::{Event, expect, next};

/// A callback that hands on what it gets, and the other end of that.
fn handing_on() -> (EventCallback, Receiver<Event>) {
    let (sender, receiver) = mpsc::channel();
    let sender = Mutex::new(sender);
    let hand_on = move |line: &str| drop(locked(&sender).send(Event::read(line)));
    (Box::new(hand_on), receiver)
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A callback that hands on what it gets and comes back when it may: when something came for it, or the other end is gone.
fn dawdling() -> (EventCallback, Receiver<Event>, Sender<()>) {
    let (sender, receiver) = mpsc::channel();
    let (go, may_go) = mpsc::channel();
    let ends = Mutex::new((sender, may_go));
    let dawdle = move |line: &str| {
        let ends = locked(&ends);
        let _ = ends.0.send(Event::read(line));
        let _ = ends.1.recv();
    };
    (Box::new(dawdle), receiver, go)
}

fn open_with(callback: EventCallback, options: &[(&str, &str)]) -> Library {
    Library::open_with(":memory:", &config(options), Some(callback), None).unwrap_or_else(|error| panic!("{error}"))
}

/// An event for little.
fn make_event(library: &Library) {
    library.set_state("s", "active").expect("it is there");
}

fn numbers(library: &Library) -> [i64; 3] {
    ["recorded", "dropped", "waiting"].map(|name| count(&stats(library), &format!("events.{name}")))
}

#[test]
fn a_callback_gets_every_event_in_order_and_nobody_else_does() {
    let (callback, events) = handing_on();
    let library = open_with(callback, &[]);
    put(&library, "s", "result = 1", &[]);
    (0..20).for_each(|_| make_event(&library));
    let heard: Vec<_> = (0..22).map(|_| events.recv_timeout(PATIENCE).expect("it comes")).collect();
    assert!(heard.iter().map(|event| event.number).eq(1..=22), "{heard:?}");
    assert_eq!(heard[0].kind, "sandbox_level");
    make_event(&library);
    let error = library.next_event(Some(Duration::ZERO)).expect_err("there is a callback");
    assert_eq!(error.code(), Code::Invalid, "{error}");
    assert_eq!(events.recv_timeout(PATIENCE).expect("it comes").number, 23);
    make_event(&library);
    library.close();
    assert_eq!(events.recv_timeout(PATIENCE).expect("closing waits for it").number, 24);
    assert!(events.recv_timeout(PATIENCE).is_err(), "the callback is gone");
}

#[test]
fn a_callback_that_does_not_come_back_is_in_nobodys_way() {
    let (callback, events, go) = dawdling();
    let library = open_with(callback, &[("monitor.event_capacity", "4"), ("monitor.alert_interval_s", "0")]);
    thread::scope(|scope| {
        let (done, is_done) = mpsc::channel();
        let library = &library;
        scope.spawn(move || {
            put(library, "s", "result = 1", &[]);
            put(library, "fails", "raise ValueError(1)", &[]);
            for _ in 0..10 {
                assert_eq!(run(library, "fails", "", "").outcome, Outcome::Error);
                assert_eq!(run(library, "s", "", "").outcome, Outcome::Success);
            }
            let _ = done.send(());
        });
        let begun = events.recv_timeout(PATIENCE).map(|event| event.number);
        let done = is_done.recv_timeout(PATIENCE);
        let counted = numbers(library);
        // Whatever was found, nobody is to wait for this.
        drop(go);
        assert_eq!(begun, Ok(1));
        done.expect("the callback has not come back, and all was done");
        // A level, two puts and ten failures: one is with the callback, and four have room.
        assert_eq!(counted, [13, 8, 4]);
    });
    let rest: Vec<_> = (0..4).map(|_| events.recv_timeout(PATIENCE).expect("it comes").number).collect();
    assert_eq!(rest, [10, 11, 12, 13], "the newest are kept");
    library.close();
    assert!(events.recv_timeout(PATIENCE).is_err(), "there is no other");
}

#[test]
fn a_full_ring_drops_the_oldest_and_counts_them() {
    let library = open(&[("monitor.event_capacity", "3")]);
    put(&library, "s", "result = 1", &[]);
    (0..8).for_each(|_| make_event(&library));
    assert_eq!(numbers(&library), [10, 7, 3]);
    let events = expect(&library, ["skill_state"; 3]);
    assert_eq!(events.map(|event| event.number), [8, 9, 10]);
    assert_eq!(numbers(&library), [10, 7, 0]);
}

fn descriptor(library: &Library) -> BorrowedFd<'_> {
    library.events_readable().expect("no callback")
}

fn is_readable(descriptor: BorrowedFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)], Some(&now)).expect("it can be polled") == 1
}

#[test]
fn the_descriptor_is_readable_while_events_wait() {
    let library = open(&[]);
    put(&library, "s", "result = 1", &[]);
    for _ in 0..2 {
        assert!(is_readable(descriptor(&library)));
        next(&library);
    }
    assert!(!is_readable(descriptor(&library)));
    thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let patience = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
            let mut polled = [PollFd::from_borrowed_fd(descriptor(&library), PollFlags::IN)];
            poll(&mut polled, Some(&patience)).expect("it can be polled")
        });
        make_event(&library);
        assert_eq!(waiting.join().expect("no panic"), 1);
    });
    next(&library);
    assert!(!is_readable(descriptor(&library)));
}

#[test]
fn each_event_goes_to_one_of_those_who_ask() {
    let library = open(&[]);
    put(&library, "s", "result = 1", &[]);
    expect(&library, ["sandbox_level", "skill_put"]);
    const EVENTS: i64 = 300;
    let mut heard: Vec<_> = thread::scope(|scope| {
        let library = &library;
        let asking: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(move || {
                    let mut heard = Vec::new();
                    // The last ones are for closing to end, which nobody waits for here.
                    while heard.last() != Some(&0) {
                        let number = match library.next_event(Some(PATIENCE)) {
                            Ok(line) => Event::read(&line).number,
                            Err(error) if error.code() == Code::Closed => 0,
                            Err(error) => panic!("{error}"),
                        };
                        heard.push(number);
                    }
                    heard
                })
            })
            .collect();
        (0..EVENTS).for_each(|_| make_event(library));
        crate::libraries::until("all are taken", || numbers(library)[2] == 0);
        library.close();
        asking.into_iter().flat_map(|thread| thread.join().expect("no panic")).filter(|number| *number > 0).collect()
    });
    heard.sort_unstable();
    assert!(heard.iter().copied().eq(3..3 + EVENTS), "{heard:?}");
}
