//! The caches, their flights and the pool of connections, model-checked: the very sources of `src/cache` and `src/store/pool`, under
//! schedules that shuttle chooses.
//!
//! Locks, condition variables and counters are shuttle's, so every use of one is a moment at which another thread may go on.
//! Half of the schedules are random, half follow Burckhardt et al. (PCT, ASPLOS 2010), which finds what takes a few particular
//! switches. Threads that wait for ever are found as such. `SKC_INTERLEAVINGS` is how many schedules of each kind there are
//! for each statement; `SHUTTLE_RANDOM_SEED` repeats a failure.

use std::time::Duration;

use shuttle::rand::Rng;
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::sync::atomic::AtomicUsize;
use shuttle::thread;
use skillcache::json;

#[path = "../src/cache/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the library uses more of it, and its unit tests are not for here")]
mod cache;
#[path = "../src/store/pool/mod.rs"]
#[allow(dead_code, unused_imports, reason = "as above")]
mod pool;

mod sync {
    pub use shuttle::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    pub use shuttle::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
}

use cache::flight::{Flights, Lead, Turn, Waited};
use cache::key::{Digest, of_code};
use cache::{AlertRule, Cache, Policy, Settings, Tick};
use pool::{Counts, MonitoredPool, PoolError};
use sync::{Arc, AtomicBool, AtomicU64, Mutex, Ordering};

/// Switches that a PCT schedule has in reserve.
const DEPTH: usize = 3;

fn main() {
    let statements: [(&str, fn()); 15] = [
        ("of many who ask one does the work", of_many_who_ask_one_does_the_work),
        ("failed leaders are followed one by one", failed_leaders_are_followed_one_by_one),
        (
            "nothing that was begun before an emptying is there after it",
            nothing_from_before_an_emptying_is_there_after_it,
        ),
        ("who asks after an emptying gets what is new", who_asks_after_an_emptying_gets_what_is_new),
        ("who gives up takes nobody's lead along", who_gives_up_takes_nobodys_lead_along),
        ("who is called wakes while the leader is at work", who_is_called_wakes_while_the_leader_is_at_work),
        ("what cannot be shared is done by everybody", what_cannot_be_shared_is_done_by_everybody),
        ("shards keep their bounds and add up", shards_keep_their_bounds_and_add_up),
        ("two queues keep their bounds and add up", two_queues_keep_their_bounds_and_add_up),
        ("of many who fill a cache one is told", of_many_who_fill_a_cache_one_is_told),
        ("no alert tells more than there may be", no_alert_tells_more_than_there_may_be),
        ("connections and those who want them add up", connections_and_those_who_want_them_add_up),
        ("who gives up loses no connection", who_gives_up_loses_no_connection),
        ("who waits for a connection is served in turn", who_waits_for_a_connection_is_served_in_turn),
        ("a place in the pool goes on when opening fails", a_place_in_the_pool_goes_on_when_opening_fails),
    ];
    let iterations = std::env::var("SKC_INTERLEAVINGS").map_or(2000, |count| count.parse().expect("a number"));
    let wanted = std::env::args().nth(1).filter(|argument| !argument.starts_with('-'));
    for (statement, check) in statements {
        if wanted.as_ref().is_none_or(|wanted| statement.contains(wanted)) {
            println!("{statement}");
            run(RandomScheduler::new(iterations), check);
            run(PctScheduler::new(DEPTH, iterations), check);
        }
    }
}

fn run(scheduler: impl Scheduler + 'static, check: fn()) {
    let mut config = shuttle::Config::new();
    config.stack_size = 1 << 18;
    // Counters are relaxed; shuttle orders them all.
    config.silence_warnings = true;
    shuttle::Runner::new(scheduler, config).run(check);
}

fn settings(policy: Policy, max_entries: u64) -> Settings {
    Settings {
        max_entries,
        max_bytes: 1 << 20,
        ttl: Duration::from_secs(1),
        policy,
        shards: 2,
        alert: AlertRule { threshold: 2.0, interval: Duration::ZERO },
        has_shadow: true,
    }
}

fn key(number: usize) -> Digest {
    of_code(&number.to_string())
}

/// Threads that each do their part, to the end of all of them.
fn all(parts: impl IntoIterator<Item = impl FnOnce() + Send + 'static>) {
    let threads: Vec<_> = parts.into_iter().map(thread::spawn).collect();
    threads.into_iter().for_each(|thread| thread.join().expect("it does not panic"));
}

/// What asking came to.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Answer {
    Value(usize),
    Failed,
    Cancelled,
}

/// What carrying it out came to.
enum Made {
    Value(usize),
    Unshared(usize),
    Failure,
}

/// Somebody who may give up.
#[derive(Default)]
struct Token {
    is_cancelled: AtomicBool,
    call: Mutex<Option<Box<dyn Fn() + Send>>>,
}

impl Token {
    fn is_cancelled(&self) -> bool {
        let is_cancelled = self.is_cancelled.load(Ordering::SeqCst);
        // A moment at which a call may come that must not be missed.
        thread::yield_now();
        is_cancelled
    }

    fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::SeqCst);
        let call = self.call.lock().expect("not poisoned").take();
        if let Some(call) = call {
            call();
        }
    }
}

/// The road of a run from key to kept result, as `src/execution/run.rs` goes it.
struct Road {
    results: Cache<usize>,
    flights: Flights<usize>,
    /// How many leaders there are now.
    leaders: AtomicUsize,
    executions: AtomicUsize,
    /// The contents of the world, which some results depend on.
    generation: AtomicUsize,
}

impl Road {
    fn new() -> Arc<Self> {
        Arc::new(Road {
            results: Cache::new(&settings(Policy::Lru, 10)),
            flights: Flights::default(),
            leaders: AtomicUsize::new(0),
            executions: AtomicUsize::new(0),
            generation: AtomicUsize::new(0),
        })
    }

    /// `make` is told how many executions there were before.
    fn ask(&self, token: &Token, make: impl Fn(usize) -> Made) -> Answer {
        loop {
            if let Some(answer) = self.try_to_answer(token, &make) {
                return answer;
            }
        }
    }

    fn try_to_answer(&self, token: &Token, make: &impl Fn(usize) -> Made) -> Option<Answer> {
        if let Some(value) = self.results.get(&key(0), Tick::default()) {
            return Some(Answer::Value(value));
        }
        self.answer_a_miss(token, make)
    }

    /// The rest of the road of who has looked in vain, maybe long ago.
    fn answer_a_miss(&self, token: &Token, make: &impl Fn(usize) -> Made) -> Option<Answer> {
        let wait = match self.flights.join(key(0), key(1)) {
            Turn::Lead(lead) => return Some(self.lead(lead, make)),
            Turn::Wait(wait) => wait,
        };
        *token.call.lock().expect("not poisoned") = Some(Box::new(wait.caller()));
        let waited = wait.wait(None, || token.is_cancelled());
        *token.call.lock().expect("not poisoned") = None;
        match waited {
            Waited::Landed(value) => Some(Answer::Value(value)),
            Waited::Lead(lead) => Some(self.lead(lead, make)),
            Waited::Alone => match make(self.executions.fetch_add(1, Ordering::SeqCst)) {
                Made::Value(value) | Made::Unshared(value) => Some(Answer::Value(value)),
                Made::Failure => Some(Answer::Failed),
            },
            Waited::Void => None,
            Waited::TimedOut => panic!("there is no deadline"),
            Waited::Cancelled => Some(Answer::Cancelled),
        }
    }

    fn lead(&self, lead: Lead<usize>, make: &impl Fn(usize) -> Made) -> Answer {
        if let Some(value) = self.results.find(&key(0), Tick::default()) {
            lead.hand_on(value);
            return Answer::Value(value);
        }
        self.leaders.fetch_add(1, Ordering::SeqCst);
        let made = make(self.executions.fetch_add(1, Ordering::SeqCst));
        self.leaders.fetch_sub(1, Ordering::SeqCst);
        match made {
            Made::Value(value) => {
                lead.land(value, || drop(self.results.put(key(0), value, 8, None, Tick::default())));
                Answer::Value(value)
            }
            Made::Unshared(value) => {
                lead.scatter();
                Answer::Value(value)
            }
            Made::Failure => Answer::Failed,
        }
    }

    /// What `Execution::clear` does.
    fn empty(&self) {
        self.flights.make_void(None);
        self.results.clear();
        self.flights.make_void(None);
    }

    fn executions(&self) -> usize {
        self.executions.load(Ordering::SeqCst)
    }

    fn nobody_is_left(&self) -> bool {
        matches!(self.flights.join(key(0), key(1)), Turn::Lead(_))
    }
}

fn of_many_who_ask_one_does_the_work() {
    const ASKERS: usize = 4;
    let road = Road::new();
    all((0..ASKERS).map(|_| {
        let road = road.clone();
        move || assert_eq!(road.ask(&Token::default(), |number| Made::Value(number + 7)), Answer::Value(7))
    }));
    assert_eq!(road.executions(), 1);
    let stats = road.results.stats();
    assert_eq!(stats.hits + stats.misses, ASKERS as u64);
    assert_eq!(stats.hits + road.flights.coalesced(), ASKERS as u64 - 1);
    assert!(road.nobody_is_left());
}

fn failed_leaders_are_followed_one_by_one() {
    const ASKERS: usize = 4;
    let failures = shuttle::rand::thread_rng().gen_range(1..=ASKERS);
    let (road, failed) = (Road::new(), Arc::new(AtomicUsize::new(0)));
    all((0..ASKERS).map(|_| {
        let (road, failed) = (road.clone(), failed.clone());
        move || {
            let make = |number| {
                assert_eq!(road.leaders.load(Ordering::SeqCst), 1);
                thread::yield_now();
                if number < failures { Made::Failure } else { Made::Value(number) }
            };
            match road.ask(&Token::default(), make) {
                Answer::Value(value) => assert_eq!(value, failures),
                Answer::Failed => drop(failed.fetch_add(1, Ordering::SeqCst)),
                Answer::Cancelled => panic!("nobody was cancelled"),
            }
        }
    }));
    assert_eq!(failed.load(Ordering::SeqCst), failures);
    assert_eq!(road.executions(), ASKERS.min(failures + 1));
    assert!(road.nobody_is_left());
}

fn nothing_from_before_an_emptying_is_there_after_it() {
    let road = Road::new();
    let asks = (0..3).map(|_| {
        let road = road.clone();
        let ask = move || {
            let make = |_| Made::Value(road.generation.load(Ordering::SeqCst));
            assert!(matches!(road.ask(&Token::default(), make), Answer::Value(_)));
        };
        Box::new(ask) as Box<dyn FnOnce() + Send>
    });
    let emptier = road.clone();
    let empties = Box::new(move || {
        emptier.generation.store(1, Ordering::SeqCst);
        emptier.empty();
        assert_ne!(emptier.results.find(&key(0), Tick::default()), Some(0));
    });
    all(asks.chain([empties as Box<dyn FnOnce() + Send>]));
    assert_ne!(road.results.find(&key(0), Tick::default()), Some(0));
    assert!(road.nobody_is_left());
}

fn who_asks_after_an_emptying_gets_what_is_new() {
    let road = Road::new();
    drop(road.results.put(key(0), 0, 8, None, Tick::default()));
    let asker = road.clone();
    // Looked before the value above was landed.
    let asks = thread::spawn(move || {
        let make = |_| Made::Value(asker.generation.load(Ordering::SeqCst));
        assert_ne!(asker.answer_a_miss(&Token::default(), &make), Some(Answer::Failed));
    });
    road.generation.store(1, Ordering::SeqCst);
    road.empty();
    assert_eq!(road.ask(&Token::default(), |_| Made::Value(1)), Answer::Value(1));
    asks.join().expect("it does not panic");
    assert!(road.nobody_is_left());
}

fn who_gives_up_takes_nobodys_lead_along() {
    let (road, tokens) = (Road::new(), [Arc::new(Token::default()), Arc::new(Token::default())]);
    // The first execution fails; of those who follow two may give up, one does not.
    let asker = |token: Arc<Token>| {
        let road = road.clone();
        move || {
            let make = |number| if number == 0 { Made::Failure } else { Made::Value(number) };
            let answer = road.ask(&token, make);
            let may_cancel = token.is_cancelled.load(Ordering::SeqCst);
            assert!(may_cancel || answer != Answer::Cancelled);
        }
    };
    let tokens_of_all = tokens.iter().cloned().chain([Arc::default(), Arc::default()]);
    let asks = tokens_of_all.map(|token| Box::new(asker(token)) as Box<dyn FnOnce() + Send>);
    let cancelled = tokens.clone();
    let cancels = Box::new(move || cancelled.iter().for_each(|token| token.cancel()));
    all(asks.chain([cancels as Box<dyn FnOnce() + Send>]));
    assert!(road.nobody_is_left());
}

fn who_is_called_wakes_while_the_leader_is_at_work() {
    let (road, token) = (Road::new(), Arc::new(Token::default()));
    let Turn::Lead(lead) = road.flights.join(key(0), key(1)) else { panic!("nobody leads") };
    let (asker, its_token) = (road.clone(), token.clone());
    let asks = thread::spawn(move || asker.ask(&its_token, |_| Made::Failure));
    token.cancel();
    assert_eq!(asks.join().expect("it does not panic"), Answer::Cancelled);
    drop(lead);
    assert!(road.nobody_is_left());
}

fn what_cannot_be_shared_is_done_by_everybody() {
    let road = Road::new();
    all((0..3).map(|_| {
        let road = road.clone();
        move || assert!(matches!(road.ask(&Token::default(), Made::Unshared), Answer::Value(_)))
    }));
    assert_eq!((road.executions(), road.flights.coalesced()), (3, 0));
    assert!(road.nobody_is_left());
}

fn shards_keep_their_bounds_and_add_up() {
    bounds_hold_and_sums_are_right(Policy::Lru);
}

fn two_queues_keep_their_bounds_and_add_up() {
    bounds_hold_and_sums_are_right(Policy::TwoQueues);
}

fn bounds_hold_and_sums_are_right(policy: Policy) {
    let cache = Arc::new(Cache::new(&Settings { max_bytes: 1 << 14, ..settings(policy, 4) }));
    let late = Tick::default().after(Duration::from_secs(2));
    let puts = |numbers: [usize; 3], now: Tick| {
        let cache = cache.clone();
        let act = move || {
            for number in numbers {
                match cache.get(&key(number), now) {
                    Some(value) => assert_eq!(value, number),
                    None => drop(cache.put(key(number), number, 100, None, now)),
                }
                let stats = cache.stats();
                assert!(stats.size <= 4 && stats.bytes <= 1 << 14);
            }
        };
        Box::new(act) as Box<dyn FnOnce() + Send>
    };
    let emptier = cache.clone();
    let forgets = Box::new(move || {
        drop(emptier.put(key(1), 1, 200, None, Tick::default()));
        emptier.evict_expired(late);
        drop(emptier.put(key(1), 1, usize::MAX, None, Tick::default()));
        emptier.clear();
    });
    all([puts([1, 2, 3], Tick::default()), puts([3, 4, 5], Tick::default()), puts([6, 1, 2], late), forgets]);
    let stats = cache.stats();
    assert_eq!(stats.hits + stats.misses, 9);
    let totals: Vec<u64> = cache.nearly_full(0.0).iter().map(|alert| alert.size).collect();
    assert_eq!(totals, [stats.size, stats.bytes]);
    let there = (0..7).filter(|number| cache.find(&key(*number), Tick::default()).is_some()).count();
    assert_eq!(there as u64, stats.size);
}

fn no_alert_tells_more_than_there_may_be() {
    let alert = AlertRule { threshold: 0.0, interval: Duration::ZERO };
    let cache = Arc::new(Cache::new(&Settings { alert, max_bytes: 1 << 14, ..settings(Policy::Lru, 4) }));
    let emptier = cache.clone();
    let puts = (0..3).map(|number| {
        let cache = cache.clone();
        let act = move || {
            let put = cache.put(key(number), number, 0, None, Tick::default());
            assert!(put.alerts.iter().flatten().all(|alert| alert.size <= alert.max_size), "{put:?}");
        };
        Box::new(act) as Box<dyn FnOnce() + Send>
    });
    all(puts.chain([Box::new(move || emptier.clear()) as Box<dyn FnOnce() + Send>]));
}

fn of_many_who_fill_a_cache_one_is_told() {
    let alert = AlertRule { threshold: 0.5, interval: Duration::from_secs(1) };
    let cache = Arc::new(Cache::new(&Settings { alert, shards: 1, ..settings(Policy::Lru, 4) }));
    let alerts = Arc::new(AtomicU64::new(0));
    all((0..3).map(|number| {
        let (cache, alerts) = (cache.clone(), alerts.clone());
        move || {
            let put = cache.put(key(number), number, 0, None, Tick::default());
            alerts.fetch_add(put.alerts.iter().flatten().count() as u64, Ordering::SeqCst);
        }
    }));
    assert_eq!(alerts.load(Ordering::SeqCst), 1);
}

/// Opens connections that count themselves; each opening and closing takes a while.
#[derive(Default)]
struct Manager {
    open: Arc<AtomicUsize>,
    most: usize,
    fails: bool,
}

struct Connection {
    open: Arc<AtomicUsize>,
    is_broken: bool,
}

impl Drop for Connection {
    fn drop(&mut self) {
        thread::yield_now();
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}

impl r2d2::ManageConnection for Manager {
    type Connection = Connection;
    type Error = std::fmt::Error;

    fn connect(&self) -> Result<Connection, std::fmt::Error> {
        thread::yield_now();
        if self.fails && shuttle::rand::thread_rng().gen_bool(0.3) {
            return Err(std::fmt::Error);
        }
        assert!(self.open.fetch_add(1, Ordering::SeqCst) < self.most, "there are more than there may be");
        Ok(Connection { open: self.open.clone(), is_broken: false })
    }

    fn is_valid(&self, _: &mut Connection) -> Result<(), std::fmt::Error> {
        Ok(())
    }

    fn has_broken(&self, connection: &mut Connection) -> bool {
        thread::yield_now();
        connection.is_broken
    }
}

type Pool = MonitoredPool<Manager>;

/// As long as it takes; time does not pass here.
const FOR_EVER: Duration = Duration::from_secs(1000);

fn pool_of(size: usize, max_overflow: usize, fails: bool) -> Arc<Pool> {
    let manager = Manager { most: size + max_overflow, fails, ..Manager::default() };
    Arc::new(MonitoredPool::new(manager, pool::Settings { size, max_overflow, ..pool::Settings::default() }))
}

/// Whether the pool is as if nobody had ever used it, but for the numbers.
fn check_whole(pool: &Pool) {
    let stats = pool.stats();
    let Counts { requests, checkouts, exhaustions, open_failures, opened, closed, .. } = stats.counts;
    assert_eq!(requests, checkouts + exhaustions + open_failures);
    assert_eq!((opened - closed, stats.waiting), (stats.open as u64, 0));
    assert!(stats.open == stats.idle && stats.open <= pool.settings().size, "{stats:?}");
}

fn connections_and_those_who_want_them_add_up() {
    let pool = pool_of(1, 1, true);
    all((0..4).map(|_| {
        let pool = pool.clone();
        move || {
            for _ in 0..2 {
                let [is_patient, is_broken] = [0.5, 0.2].map(|share| shuttle::rand::thread_rng().gen_bool(share));
                match pool.get_within(if is_patient { FOR_EVER } else { Duration::ZERO }) {
                    Ok(mut connection) => connection.is_broken = is_broken,
                    Err(PoolError::Exhausted(_)) => assert!(!is_patient),
                    Err(PoolError::Open(_)) => {}
                }
            }
        }
    }));
    check_whole(&pool);
}

fn who_gives_up_loses_no_connection() {
    let pool = pool_of(1, 0, false);
    let ask = |patience| {
        let pool = pool.clone();
        move || drop(pool.get_within(patience))
    };
    all([ask(FOR_EVER), ask(Duration::ZERO), ask(Duration::ZERO), ask(FOR_EVER)]);
    assert!(pool.get_within(Duration::ZERO).is_ok());
    check_whole(&pool);
}

fn who_waits_for_a_connection_is_served_in_turn() {
    let (pool, served) = (pool_of(1, 0, false), Arc::new(Mutex::new(Vec::new())));
    let held = pool.get().expect("nobody has it");
    let ask = |number: usize| {
        let (pool, served) = (pool.clone(), served.clone());
        thread::spawn(move || {
            let connection = pool.get_within(FOR_EVER).expect("its turn comes");
            served.lock().expect("not poisoned").push(number);
            drop(connection);
        })
    };
    let mut threads = Vec::new();
    for number in 0..2 {
        threads.push(ask(number));
        while pool.stats().waiting <= number {
            thread::yield_now();
        }
    }
    // Asks when the connection may be on its way already.
    threads.push(ask(2));
    drop(held);
    threads.into_iter().for_each(|thread| thread.join().expect("it does not panic"));
    assert_eq!(*served.lock().expect("not poisoned"), [0, 1, 2]);
    check_whole(&pool);
}

fn a_place_in_the_pool_goes_on_when_opening_fails() {
    let pool = pool_of(1, 0, true);
    all((0..4).map(|_| {
        let pool = pool.clone();
        move || match pool.get_within(FOR_EVER) {
            Ok(mut connection) => connection.is_broken = true,
            Err(error) => assert!(matches!(error, PoolError::Open(_))),
        }
    }));
    check_whole(&pool);
}
