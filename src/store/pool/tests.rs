use std::collections::VecDeque;
use std::panic::panic_any;
use std::sync::Arc as StdArc;
use std::sync::Mutex as StdMutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use proptest::prelude::*;

use super::*;

/// What connections can be told to do, and what became of them.
#[derive(Debug, Default)]
struct World {
    open: AtomicUsize,
    most_open: AtomicUsize,
    connects: AtomicUsize,
    connects_fail: AtomicBool,
    connects_panic: AtomicBool,
    checks: AtomicUsize,
    checks_fail: AtomicBool,
    checks_panic: AtomicBool,
    closing_panics: AtomicBool,
}

impl World {
    fn set(&self, switch: fn(&World) -> &AtomicBool, on: bool) {
        switch(self).store(on, Ordering::SeqCst);
    }

    fn is(&self, switch: fn(&World) -> &AtomicBool) -> bool {
        switch(self).load(Ordering::SeqCst)
    }

    fn number(&self, counter: fn(&World) -> &AtomicUsize) -> usize {
        counter(self).load(Ordering::SeqCst)
    }
}

#[derive(Debug)]
struct FakeManager(StdArc<World>);

#[derive(Debug)]
struct FakeConnection {
    world: StdArc<World>,
    number: usize,
    is_broken: bool,
    is_dirty: bool,
    reset_panics: bool,
}

impl Drop for FakeConnection {
    fn drop(&mut self) {
        self.world.open.fetch_sub(1, Ordering::SeqCst);
        if self.world.is(|world| &world.closing_panics) && !thread::panicking() {
            panic_any("closing");
        }
    }
}

impl ManageConnection for FakeManager {
    type Connection = FakeConnection;
    type Error = fmt::Error;

    fn connect(&self) -> Result<FakeConnection, fmt::Error> {
        let world = &self.0;
        if world.is(|world| &world.connects_panic) {
            panic_any("connecting");
        }
        if world.is(|world| &world.connects_fail) {
            return Err(fmt::Error);
        }
        let number = world.connects.fetch_add(1, Ordering::SeqCst) + 1;
        let open = world.open.fetch_add(1, Ordering::SeqCst) + 1;
        world.most_open.fetch_max(open, Ordering::SeqCst);
        Ok(FakeConnection { world: world.clone(), number, is_broken: false, is_dirty: false, reset_panics: false })
    }

    fn is_valid(&self, _: &mut FakeConnection) -> Result<(), fmt::Error> {
        self.0.checks.fetch_add(1, Ordering::SeqCst);
        if self.0.is(|world| &world.checks_panic) {
            panic_any("checking");
        }
        if self.0.is(|world| &world.checks_fail) { Err(fmt::Error) } else { Ok(()) }
    }

    fn has_broken(&self, connection: &mut FakeConnection) -> bool {
        connection.is_broken
    }
}

impl FakeManager {
    fn reset(&self, connection: &mut FakeConnection) -> Returned {
        if connection.reset_panics {
            panic_any("resetting");
        }
        match (connection.is_broken, std::mem::take(&mut connection.is_dirty)) {
            (true, _) => Returned::Broken,
            (false, true) => Returned::RolledBack,
            (false, false) => Returned::Clean,
        }
    }
}

type Pool = MonitoredPool<FakeManager>;

/// Long enough for whatever is bound to happen.
const PATIENCE: Duration = Duration::from_secs(60);

fn pool_of(size: usize, max_overflow: usize) -> (Pool, StdArc<World>) {
    pool_with(Settings { size, max_overflow, timeout: PATIENCE, ..Settings::default() })
}

fn pool_with(settings: Settings) -> (Pool, StdArc<World>) {
    let world = StdArc::new(World::default());
    (MonitoredPool::new(FakeManager(world.clone()), settings).resetting_by(FakeManager::reset), world)
}

/// Everybody has gone: the numbers add up, and agree with what managers saw.
fn check_whole(pool: &Pool, world: &World) -> PoolStats {
    let stats = pool.stats();
    let Counts { requests, checkouts, exhaustions, open_failures, opened, closed, discarded, recycled, .. } =
        stats.counts;
    assert_eq!(requests, checkouts + exhaustions + open_failures, "{stats:?}");
    assert_eq!(opened - closed, stats.open as u64, "{stats:?}");
    assert!(discarded + recycled <= closed, "{stats:?}");
    assert_eq!(stats.waiting, 0, "{stats:?}");
    assert_eq!(opened, world.number(|world| &world.connects) as u64);
    assert!(world.number(|world| &world.most_open) <= pool.settings().max(), "{world:?}");
    stats
}

/// How many connections a pool lends before somebody has to wait, and how many of those it keeps.
fn check_capacity(pool: &Pool) {
    let max = pool.settings().max();
    let all: Vec<_> = (0..max).map(|_| pool.get_within(Duration::ZERO).expect("there is one more")).collect();
    assert!(matches!(pool.get_within(Duration::ZERO), Err(PoolError::Exhausted(_))));
    drop(all);
    let stats = pool.stats();
    assert_eq!((stats.open, stats.idle, stats.waiting), (pool.settings().size, pool.settings().size, 0));
}

/// Until so many wait.
fn until_waiting(pool: &Pool, count: usize) {
    while pool.stats().waiting != count {
        thread::yield_now();
    }
}

#[test]
fn overflow_opens_at_once_and_closes_on_return() {
    let (pool, world) = pool_of(2, 3);
    let mut borrowed: Vec<_> = (0..5).map(|_| pool.get_within(Duration::ZERO).expect("at once")).collect();
    let stats = pool.stats();
    assert_eq!((stats.open, stats.idle, stats.waits.count), (5, 0, 0));
    assert_eq!((stats.utilization(), stats.overflow_utilization()), (1.0, 1.0));
    for open in [4, 3, 2, 2, 2] {
        borrowed.pop();
        assert_eq!((pool.stats().open, world.number(|world| &world.open)), (open, open));
    }
    let stats = check_whole(&pool, &world);
    assert_eq!((stats.idle, stats.counts.opened, stats.counts.closed), (2, 5, 3));
    check_capacity(&pool);
}

#[test]
fn the_connection_used_last_is_used_first() {
    let (pool, world) = pool_of(3, 0);
    let [a, b] = [pool.get().expect("a"), pool.get().expect("b")];
    let number = b.number;
    drop(a);
    drop(b);
    assert_eq!(pool.get().expect("one").number, number);
    check_whole(&pool, &world);
}

#[test]
fn exhaustion_names_size_overflow_and_how_long_it_waited() {
    let (pool, world) = pool_of(1, 1);
    let borrowed = [pool.get().expect("one"), pool.get().expect("two")];
    let Err(PoolError::Exhausted(exhaustion)) = pool.get_within(Duration::from_millis(20)) else {
        panic!("there are only two")
    };
    assert!(exhaustion.waited >= Duration::from_millis(20));
    let text = exhaustion.to_string();
    let expected = "Connection pool exhausted! Total exhaustion events: 1. Pool size: 1, Max overflow: 1; waited ";
    assert!(text.starts_with(expected) && text.ends_with(" ms"), "{text}");
    let stats = pool.stats();
    assert_eq!((stats.counts.exhaustions, stats.waits.count), (1, 1));
    assert!(stats.waits.max >= 20_000);
    drop(borrowed);
    check_whole(&pool, &world);
    check_capacity(&pool);
}

#[test]
fn who_asked_first_is_served_first() {
    const WAITERS: usize = 20;
    let (pool, world) = pool_of(1, 1);
    let held = [pool.get().expect("one"), pool.get().expect("two")];
    let served = StdMutex::new(Vec::new());
    thread::scope(|scope| {
        for number in 0..WAITERS {
            let (pool, served) = (&pool, &served);
            scope.spawn(move || {
                let connection = pool.get().expect("its turn comes");
                served.lock().expect("no panic").push(number);
                drop(connection);
            });
            // The next one asks when this one is in the queue.
            until_waiting(pool, number + 1);
        }
        let [one, two] = held;
        // Only one connection is left to go round, so that they note their numbers one after the other.
        drop(one);
        while pool.stats().waiting > 0 {
            thread::yield_now();
        }
        drop(two);
    });
    assert_eq!(*served.lock().expect("no panic"), (0..WAITERS).collect::<Vec<_>>());
    let stats = check_whole(&pool, &world);
    assert_eq!(stats.waits.count, WAITERS as u64);
    check_capacity(&pool);
}

#[test]
fn who_comes_later_does_not_overtake_who_waits() {
    let (pool, world) = pool_of(1, 0);
    let held = pool.get().expect("one");
    thread::scope(|scope| {
        let waiter = scope.spawn(|| pool.get().expect("its turn comes").number);
        until_waiting(&pool, 1);
        drop(held);
        // It was handed over, whether the waiter has woken up or not.
        let next = pool.get_within(PATIENCE).expect("after the waiter");
        assert_eq!(waiter.join().expect("no panic"), next.number);
    });
    check_whole(&pool, &world);
}

#[test]
fn a_failure_to_open_is_told_at_once_and_its_place_goes_to_the_next() {
    let (pool, world) = pool_of(1, 1);
    world.set(|world| &world.connects_fail, true);
    for _ in 0..5 {
        assert!(matches!(pool.get(), Err(PoolError::Open(fmt::Error))));
    }
    assert_eq!(pool.stats().open, 0);
    world.set(|world| &world.connects_fail, false);
    let held = [pool.get().expect("one"), pool.get().expect("two")];
    thread::scope(|scope| {
        let asks = |count| (0..count).map(|_| scope.spawn(|| pool.get().map(drop).is_ok())).collect::<Vec<_>>();
        let waiters = asks(4);
        until_waiting(&pool, 4);
        world.set(|world| &world.connects_fail, true);
        // Both are broken, so that the waiters must open, which fails: each is told, and none waits for the end of its time.
        for mut connection in held {
            connection.is_broken = true;
        }
        assert_eq!(waiters.into_iter().filter_map(|waiter| waiter.join().ok()).collect::<Vec<_>>(), [false; 4]);
    });
    let stats = check_whole(&pool, &world);
    assert_eq!((stats.open, stats.counts.open_failures, stats.counts.discarded), (0, 9, 2));
    world.set(|world| &world.connects_fail, false);
    check_capacity(&pool);
}

#[test]
fn panics_of_the_manager_cost_nothing() {
    let (pool, world) = pool_of(2, 1);
    let get = || catch_unwind(AssertUnwindSafe(|| pool.get().map(drop).is_ok()));
    world.set(|world| &world.connects_panic, true);
    assert!(get().is_err(), "there is nothing that could be lent");
    world.set(|world| &world.connects_panic, false);
    assert_eq!(pool.stats().counts.open_failures, 1);

    pool.get().expect("one").reset_panics = true;
    assert_eq!(pool.stats().counts.discarded, 1);

    drop(pool.get().expect("one"));
    pool.clock.advance(Duration::from_secs(31));
    world.set(|world| &world.checks_panic, true);
    assert!(get().is_ok_and(|is_ok| is_ok), "it is replaced");
    assert_eq!(pool.stats().counts.discarded, 2);

    world.set(|world| &world.closing_panics, true);
    pool.get().expect("one").is_broken = true;
    drop([pool.get().expect("a"), pool.get().expect("b"), pool.get().expect("overflow")]);
    world.set(|world| &world.closing_panics, false);
    check_whole(&pool, &world);
    check_capacity(&pool);
}

#[test]
fn dirty_connections_are_cleaned_and_broken_ones_replaced() {
    let (pool, world) = pool_of(1, 0);
    pool.get().expect("one").is_dirty = true;
    let mut connection = pool.get().expect("the same");
    assert_eq!((connection.number, connection.is_dirty), (1, false));
    connection.is_broken = true;
    drop(connection);
    assert_eq!(pool.get().expect("another").number, 2);
    let Counts { rolled_back, discarded, closed, .. } = check_whole(&pool, &world).counts;
    assert_eq!((rolled_back, discarded, closed), (1, 1, 1));
}

#[test]
fn any_manager_will_do() {
    let world = StdArc::new(World::default());
    let pool = MonitoredPool::new(FakeManager(world.clone()), Settings { size: 1, ..Settings::default() });
    pool.get().expect("one").is_dirty = true;
    assert!(pool.get().expect("it says nothing of that").is_dirty);
    pool.get().expect("one").is_broken = true;
    assert_eq!(pool.get().expect("another").number, 2);
    check_whole(&pool, &world);
}

#[test]
fn old_connections_are_replaced_idle_or_not() {
    let (pool, world) = pool_of(1, 0);
    let hour = Duration::from_secs(3600);
    drop(pool.get().expect("the first"));
    pool.clock.advance(hour + Duration::from_secs(1));
    let second = pool.get().expect("another");
    assert_eq!(second.number, 2);
    pool.clock.advance(hour + Duration::from_secs(1));
    drop(second);
    assert_eq!(pool.stats().open, 0, "one that is always in use would never be replaced otherwise");
    assert_eq!(pool.get().expect("the third").number, 3);
    assert_eq!(check_whole(&pool, &world).counts.recycled, 2);
    world.set(|world| &world.connects_fail, true);
    pool.clock.advance(hour + Duration::from_secs(1));
    assert!(matches!(pool.get(), Err(PoolError::Open(_))));
    world.set(|world| &world.connects_fail, false);
    check_whole(&pool, &world);
    check_capacity(&pool);
}

#[test]
fn one_that_was_idle_for_long_is_asked_and_replaced_if_it_does_not_answer() {
    let (pool, world) = pool_of(1, 0);
    drop(pool.get().expect("one"));
    pool.clock.advance(Duration::from_secs(29));
    drop(pool.get().expect("the same"));
    assert_eq!(world.number(|world| &world.checks), 0, "asking costs more than borrowing");
    pool.clock.advance(Duration::from_secs(30));
    assert_eq!(pool.get().expect("the same").number, 1);
    pool.clock.advance(Duration::from_secs(30));
    world.set(|world| &world.checks_fail, true);
    assert_eq!(pool.get().expect("another").number, 2);
    assert_eq!(world.number(|world| &world.checks), 2);
    assert_eq!(check_whole(&pool, &world).counts.discarded, 1);
}

#[test]
fn a_permanent_connection_stays_whatever_happens() {
    let settings = Settings { size: 1, max_overflow: 0, is_permanent: true, ..Settings::default() };
    let (pool, world) = pool_with(settings);
    let mut connection = pool.get().expect("one");
    (connection.is_broken, connection.is_dirty) = (true, true);
    drop(connection);
    pool.get().expect("one").reset_panics = true;
    world.set(|world| &world.checks_fail, true);
    pool.clock.advance(Duration::from_secs(10_000));
    assert_eq!(pool.get().expect("one").number, 1);
    let borrowed = pool.get().expect("one");
    assert_eq!(pool.health(), [], "in use is what it is for");
    drop(borrowed);
    let stats = check_whole(&pool, &world);
    assert_eq!((stats.open, stats.counts.closed, world.number(|world| &world.checks)), (1, 0, 0));
}

#[test]
fn a_forgotten_guard_is_a_leak_that_shows() {
    let (pool, _) = pool_of(1, 1);
    std::mem::forget(pool.get().expect("one"));
    let borrowed = pool.get().expect("two");
    pool.clock.advance(Duration::from_secs(61));
    let stats = pool.stats();
    assert_eq!((stats.leaks, stats.open, stats.idle), (2, 2, 0));
    assert!(stats.oldest_checkout >= Duration::from_secs(61));
    let warnings = pool.health();
    let leak = "Connection leak suspected: 2 in use for more than 60 s, the oldest for 6";
    assert!(warnings.iter().any(|warning| warning.message.starts_with(leak)), "{warnings:?}");
    drop(borrowed);
    let stats = pool.stats();
    assert_eq!((stats.leaks, stats.open, stats.idle), (1, 1, 0));
    assert_eq!(stats.counts.opened - stats.counts.closed, 1);
}

/// A pool and the alerts that it raises.
fn told(settings: Settings) -> (Pool, mpsc::Receiver<Alert>) {
    let (tell, alerts) = mpsc::channel();
    let (pool, _) = pool_with(settings);
    let tell = StdMutex::new(tell);
    let sink = move |alert| drop(tell.lock().expect("no panic").send(alert));
    (pool.alerting(Box::new(sink)), alerts)
}

#[test]
fn alerts_come_at_once_and_then_at_most_every_five_minutes() {
    let settings = Settings { size: 1, max_overflow: 5, timeout: Duration::ZERO, ..Settings::default() };
    let (pool, alerts) = told(settings);
    let told = || alerts.try_iter().map(|alert| (alert.kind.name(), alert.message)).collect::<Vec<_>>();
    let mut borrowed: Vec<_> = (0..5).map(|_| pool.get().expect("one")).collect();
    assert_eq!(told(), [], "80 % is not above 80 %");
    borrowed.push(pool.get().expect("one"));
    let overflow = "High overflow connection usage: 100.0% (5/5 connections)".to_owned();
    assert_eq!(told(), [("pool_overflow", overflow)]);
    assert!(pool.get().is_err());
    let text = "Connection pool exhausted! Total exhaustion events: 1. Pool size: 1, Max overflow: 5".to_owned();
    assert_eq!(told(), [("pool_exhausted", text)]);
    for _ in 0..3 {
        assert!(pool.get().is_err());
        pool.clock.advance(Duration::from_secs(19));
    }
    assert_eq!(told(), []);
    pool.clock.advance(Duration::from_secs(4));
    assert!(pool.get().is_err());
    let leaks = told();
    let leak = "Connection leak suspected: 6 in use for more than 60 s, the oldest for 6";
    assert!(leaks.len() == 1 && leaks[0].0 == "pool_leak" && leaks[0].1.starts_with(leak), "{leaks:?}");
    pool.clock.advance(Duration::from_secs(240));
    assert!(pool.get().is_err());
    let text = "Connection pool exhausted! Total exhaustion events: 6. Pool size: 1, Max overflow: 5".to_owned();
    assert_eq!(told(), [("pool_exhausted", text)]);
}

#[test]
fn a_sink_may_panic_and_may_borrow() {
    let (pool, _) = pool_of(1, 0);
    let pool = pool.alerting(Box::new(|_| panic_any("the sink")));
    let held = pool.get().expect("one");
    assert!(matches!(pool.get_within(Duration::ZERO), Err(PoolError::Exhausted(_))));
    drop(held);
    check_capacity(&pool);

    let late = StdArc::new(std::sync::OnceLock::<StdArc<Pool>>::new());
    let asked = late.clone();
    let (pool, _) = pool_of(1, 1);
    let sink = move |_| drop(asked.get().expect("it is set").get_within(Duration::ZERO));
    let pool = StdArc::new(pool.alerting(Box::new(sink)));
    late.set(pool.clone()).expect("once");
    let held = [pool.get().expect("one"), pool.get().expect("two")];
    drop(held);
    check_capacity(&pool);
}

#[test]
fn warnings_have_the_texts_of_the_reference_and_pass() {
    let (pool, _) = pool_of(10, 20);
    let messages = |pool: &Pool| pool.health().into_iter().map(|warning| warning.message).collect::<Vec<_>>();
    let mut borrowed: Vec<_> = (0..9).map(|_| pool.get().expect("one")).collect();
    assert_eq!(messages(&pool), Vec::<String>::new(), "90 % is not above 90 %");
    borrowed.push(pool.get().expect("one"));
    assert_eq!(messages(&pool), ["High pool utilization: 100.0% (10/10 connections)"]);
    borrowed.extend((0..16).map(|_| pool.get().expect("one")));
    assert_eq!(messages(&pool).len(), 1, "80 % is not above 80 %");
    borrowed.extend((0..4).map(|_| pool.get().expect("one")));
    (0..3).for_each(|_| assert!(pool.get_within(Duration::ZERO).is_err()));
    drop(borrowed.pop());
    (0..22).for_each(|_| drop(pool.get().expect("one")));
    assert_eq!(
        messages(&pool),
        [
            "High pool utilization: 100.0% (10/10 connections)",
            "High overflow utilization: 95.0% (19/20 connections)",
            "High exhaustion rate: 5.45% (3/55 requests)"
        ]
    );
    borrowed.clear();
    assert_eq!(messages(&pool), ["High exhaustion rate: 5.45% (3/55 requests)"]);
    pool.clock.advance(Duration::from_secs(301));
    assert_eq!(messages(&pool), Vec::<String>::new(), "what is over is over");
    assert!((pool.stats().counts.exhaustions, pool.stats().counts.requests) == (3, 55));
}

#[test]
fn every_event_is_described() {
    let page = include_str!("../../../docs/STATISTICS.md");
    for kind in Kind::ALL {
        assert!(page.contains(&format!("\n| `{}` | ", kind.name())), "{kind:?}");
    }
    let settings = Settings { size: 1, max_overflow: 1, timeout: Duration::ZERO, ..Settings::default() };
    let (pool, alerts) = told(settings);
    let _borrowed = [pool.get(), pool.get(), pool.get()];
    pool.clock.advance(Duration::from_secs(100));
    pool.stats();
    let raised: Vec<Alert> = alerts.try_iter().collect();
    assert_eq!(raised.iter().map(|alert| alert.kind).collect::<Vec<_>>(), Kind::ALL);
    for (name, _) in raised.iter().flat_map(|alert| &alert.fields) {
        assert!(page.contains(&format!("`{name}`")) || page.contains(&format!("`fields.{name}`")), "{name}");
    }
}

/// What a borrower can do wrong.
#[derive(Debug, Clone, Copy)]
enum Vice {
    Panics,
    PanicsInTransaction,
    StaysInTransaction,
    Breaks,
    PanicsInReset,
    Forgets,
    None,
}

impl Vice {
    const ALL: [Vice; 7] = [
        Vice::Panics,
        Vice::PanicsInTransaction,
        Vice::StaysInTransaction,
        Vice::Breaks,
        Vice::PanicsInReset,
        Vice::Forgets,
        Vice::None,
    ];

    fn borrow(self, pool: &Pool) {
        let mut connection = pool.get().expect("one becomes free");
        assert!(!connection.is_dirty && !connection.is_broken, "{connection:?}");
        match self {
            Vice::Panics => panic_any("the borrower"),
            Vice::PanicsInTransaction => {
                connection.is_dirty = true;
                panic_any("the borrower");
            }
            Vice::StaysInTransaction => connection.is_dirty = true,
            Vice::Breaks => connection.is_broken = true,
            Vice::PanicsInReset => connection.reset_panics = true,
            Vice::Forgets => std::mem::forget(connection),
            Vice::None => {}
        }
    }
}

#[test]
fn a_thousand_bad_borrowers_leave_the_pool_whole() {
    const THREADS: usize = 8;
    const BORROWERS: usize = 1000;
    const LEAKS: usize = 3;
    // What is forgotten never comes back: that many connections more.
    let (pool, world) = pool_of(4, 2 + LEAKS);
    let (next, leaked, rolled_back) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        while let Some(number) = Some(next.fetch_add(1, Ordering::SeqCst)).filter(|number| *number < BORROWERS) {
            let mut vice = Vice::ALL[number % Vice::ALL.len()];
            if matches!(vice, Vice::Forgets) && leaked.fetch_add(1, Ordering::SeqCst) >= LEAKS {
                vice = Vice::StaysInTransaction;
            }
            let is_dirty = matches!(vice, Vice::StaysInTransaction | Vice::PanicsInTransaction);
            rolled_back.fetch_add(usize::from(is_dirty), Ordering::SeqCst);
            let _ = catch_unwind(AssertUnwindSafe(|| vice.borrow(&pool)));
        }
    };
    thread::scope(|scope| (0..THREADS).for_each(|_| drop(scope.spawn(work))));
    let stats = check_whole(&pool, &world);
    assert_eq!(stats.counts.requests, BORROWERS as u64);
    assert_eq!((stats.counts.checkouts, stats.counts.exhaustions), (BORROWERS as u64, 0));
    assert_eq!(stats.counts.rolled_back, rolled_back.load(Ordering::SeqCst) as u64);
    assert_eq!(stats.open - stats.idle, LEAKS, "the others are back");
    assert_eq!(stats.open, world.number(|world| &world.open));
    // All that may be open can still be had at the same time.
    let rest: Vec<_> = (0..6).map(|_| pool.get_within(Duration::ZERO).expect("it is whole")).collect();
    assert!(pool.get_within(Duration::ZERO).is_err());
    drop(rest);
    check_whole(&pool, &world);
}

#[test]
fn many_impatient_threads_add_up() {
    const THREADS: usize = 6;
    const ROUNDS: usize = 500;
    let (pool, world) = pool_of(1, 1);
    let [lent, refused] = [AtomicUsize::new(0), AtomicUsize::new(0)];
    let work = |thread: usize| {
        for round in 0..ROUNDS {
            // Those who give up at once meet those who hand over.
            let patience = if (thread + round).is_multiple_of(3) { PATIENCE } else { Duration::ZERO };
            match pool.get_within(patience) {
                Ok(mut connection) => {
                    lent.fetch_add(1, Ordering::SeqCst);
                    connection.is_broken = round.is_multiple_of(7);
                    thread::yield_now();
                }
                Err(error) => {
                    assert!(matches!(error, PoolError::Exhausted(_)) && patience.is_zero(), "{error}");
                    refused.fetch_add(1, Ordering::SeqCst);
                }
            }
        }
    };
    thread::scope(|scope| (0..THREADS).for_each(|number| drop(scope.spawn(move || work(number)))));
    let stats = check_whole(&pool, &world);
    assert_eq!(stats.counts.requests, (THREADS * ROUNDS) as u64);
    assert_eq!(stats.counts.checkouts, lent.load(Ordering::SeqCst) as u64);
    assert_eq!(stats.counts.exhaustions, refused.load(Ordering::SeqCst) as u64);
    check_capacity(&pool);
}

/// A step in the life of a pool, as its lock sees it. Numbers choose among those there are.
#[derive(Debug, Clone, Copy)]
enum Step {
    Ask,
    OpeningEnds { which: usize, is_ok: bool },
    Return { which: usize, returned: Returned },
    ClosingEnds { which: usize },
    GiveUp { which: usize },
    TimePasses { seconds: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let returned = prop_oneof![Just(Returned::Clean), Just(Returned::RolledBack), Just(Returned::Broken)];
    let which = 0..8usize;
    prop_oneof![
        4 => Just(Step::Ask),
        4 => (which.clone(), prop::bool::weighted(0.8)).prop_map(|(which, is_ok)| Step::OpeningEnds { which, is_ok }),
        4 => (which.clone(), returned).prop_map(|(which, returned)| Step::Return { which, returned }),
        2 => which.clone().prop_map(|which| Step::ClosingEnds { which }),
        1 => which.prop_map(|which| Step::GiveUp { which }),
        1 => (0..60u64).prop_map(|seconds| Step::TimePasses { seconds }),
    ]
}

/// The lock's side of a pool, and beside it the plainest account of who has what.
struct Model {
    state: State<()>,
    settings: Settings,
    now: Nanos,
    borrowed: Vec<Conn<()>>,
    opening: Vec<usize>,
    closing: Vec<(Conn<()>, Reason)>,
    /// In the order in which they asked.
    waiting: VecDeque<Arc<Waiter<()>>>,
    counts: Counts,
    idle: usize,
}

impl Model {
    fn new(size: usize, max_overflow: usize) -> Self {
        let recycle = Some(Duration::from_secs(100));
        let settings = Settings { size, max_overflow, recycle, ..Settings::default() };
        Model {
            state: State::new(settings),
            settings,
            now: 0,
            borrowed: Vec::new(),
            opening: Vec::new(),
            closing: Vec::new(),
            waiting: VecDeque::new(),
            counts: Counts::default(),
            idle: 0,
        }
    }

    fn open(&self) -> usize {
        self.idle + self.borrowed.len() + self.opening.len() + self.closing.len()
    }

    fn is_old(&self, conn: &Conn<()>) -> bool {
        self.now - conn.born > 100_000_000_000
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Ask => self.ask(),
            Step::OpeningEnds { which, is_ok } => self.end_opening(which, is_ok),
            Step::Return { which, returned } => self.give_back(which, returned),
            Step::ClosingEnds { which } => self.end_closing(which),
            Step::GiveUp { which } => self.give_up(which),
            Step::TimePasses { seconds } => self.now += seconds * 1_000_000_000,
        }
        self.check();
    }

    fn ask(&mut self) {
        self.counts.requests += 1;
        let (has_idle, has_slot) = (self.idle > 0, self.open() < self.settings.max());
        let (turn, _) = self.state.ask(self.now);
        match turn {
            Turn::Take(conn) => {
                assert!(has_idle && !self.is_old(&conn));
                self.lend(conn);
            }
            Turn::Check(conn) => {
                assert!(has_idle && !self.is_old(&conn));
                self.state.checked();
                self.lend(conn);
            }
            Turn::Replace(conn) => {
                assert!(has_idle && self.is_old(&conn));
                self.idle -= 1;
                self.state.replaced(Reason::Recycled);
                (self.counts.closed, self.counts.recycled) = (self.counts.closed + 1, self.counts.recycled + 1);
                self.opening.push(conn.slot);
            }
            Turn::Open(slot) => {
                assert!(!has_idle && has_slot);
                self.opening.push(slot);
            }
            Turn::Wait(waiter) => {
                assert!(!has_idle && !has_slot);
                self.waiting.push_back(waiter);
            }
        }
    }

    fn lend(&mut self, conn: Conn<()>) {
        self.idle -= 1;
        self.counts.checkouts += 1;
        self.borrowed.push(conn);
    }

    fn end_opening(&mut self, which: usize, is_ok: bool) {
        if self.opening.is_empty() {
            return;
        }
        let slot = self.opening.swap_remove(which % self.opening.len());
        if is_ok {
            self.state.opened();
            (self.counts.opened, self.counts.checkouts) = (self.counts.opened + 1, self.counts.checkouts + 1);
            self.borrowed.push(Conn { inner: (), born: self.now, slot });
        } else {
            self.counts.open_failures += 1;
            let next = self.state.open_failed(slot, self.now);
            self.pass_slot(next, slot);
        }
    }

    fn pass_slot(&mut self, next: Option<(Arc<Waiter<()>>, Handed<()>)>, slot: usize) {
        match (next, self.waiting.pop_front()) {
            (Some((waiter, Handed::Slot(given))), Some(oldest)) => {
                assert!(Arc::ptr_eq(&waiter, &oldest) && given == slot);
                self.opening.push(slot);
            }
            (None, None) => {}
            (next, oldest) => panic!("given: {}, wanted: {}", next.is_some(), oldest.is_some()),
        }
    }

    fn give_back(&mut self, which: usize, returned: Returned) {
        if self.borrowed.is_empty() {
            return;
        }
        let conn = self.borrowed.swap_remove(which % self.borrowed.len());
        self.counts.rolled_back += u64::from(returned == Returned::RolledBack);
        let (is_old, is_broken) = (self.is_old(&conn), returned == Returned::Broken);
        // Without this one and without those that are on their way out.
        let others = self.open() - self.closing.len();
        match self.state.give_back(conn, returned, self.now) {
            Back::Close(conn, reason) => {
                let expected = match (is_broken, is_old) {
                    (true, _) => Reason::Discarded,
                    (false, true) => Reason::Recycled,
                    (false, false) => Reason::Overflow,
                };
                assert_eq!(reason, expected);
                assert!(reason != Reason::Overflow || (self.waiting.is_empty() && others >= self.settings.size));
                self.closing.push((conn, reason));
            }
            Back::Hand(waiter, Handed::Connection(conn)) => {
                let oldest = self.waiting.pop_front().expect("somebody waits");
                assert!(Arc::ptr_eq(&waiter, &oldest) && !is_old && !is_broken);
                self.counts.checkouts += 1;
                self.borrowed.push(conn);
            }
            Back::Hand(_, Handed::Slot(_)) => panic!("it came back open"),
            Back::Kept => {
                assert!(self.waiting.is_empty() && !is_old && !is_broken && others < self.settings.size);
                self.idle += 1;
            }
        }
    }

    fn end_closing(&mut self, which: usize) {
        if self.closing.is_empty() {
            return;
        }
        let (conn, reason) = self.closing.swap_remove(which % self.closing.len());
        self.counts.closed += 1;
        self.counts.discarded += u64::from(reason == Reason::Discarded);
        self.counts.recycled += u64::from(reason == Reason::Recycled);
        let next = self.state.closed(conn.slot, reason, self.now);
        self.pass_slot(next, conn.slot);
    }

    fn give_up(&mut self, which: usize) {
        if self.waiting.is_empty() {
            return;
        }
        let waiter = self.waiting.remove(which % self.waiting.len()).expect("it is there");
        self.counts.exhaustions += 1;
        let (exhaustion, _) = self.state.give_up(&waiter, self.now).expect("nothing was handed to it");
        assert_eq!(exhaustion.total, self.counts.exhaustions);
        assert!(self.state.give_up(&waiter, self.now).is_none(), "it is not in the queue any more");
    }

    fn check(&mut self) {
        let (stats, _) = self.state.stats(self.now);
        assert_eq!(stats.counts, self.counts);
        assert_eq!((stats.open, stats.idle, stats.waiting), (self.open(), self.idle, self.waiting.len()));
        assert!(stats.open <= self.settings.max() && stats.idle <= self.settings.size);
        assert!(stats.waiting == 0 || (stats.idle == 0 && stats.open == self.settings.max()));
        let Counts { requests, checkouts, exhaustions, open_failures, opened, closed, .. } = stats.counts;
        let under_way = self.waiting.len() + self.opening.len();
        assert_eq!(requests, checkouts + exhaustions + open_failures + under_way as u64);
        assert_eq!(opened - closed, (stats.open - self.opening.len()) as u64);
    }

    /// Lets everybody finish.
    fn finish(mut self) {
        while self.open() > self.idle {
            self.take(Step::OpeningEnds { which: 0, is_ok: true });
            self.take(Step::Return { which: 0, returned: Returned::Clean });
            self.take(Step::ClosingEnds { which: 0 });
        }
        assert!(self.waiting.is_empty() && self.idle <= self.settings.size);
    }
}

proptest! {
    #[test]
    fn every_step_is_that_of_the_model(size in 1..4usize, max_overflow in 0..3usize, steps in prop::collection::vec(step(), 0..100)) {
        let mut model = Model::new(size, max_overflow);
        steps.into_iter().for_each(|step| model.take(step));
        model.finish();
    }
}
