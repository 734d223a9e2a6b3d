//! Numbers that add up, while sixteen threads do everything that can be done with a library, and to the last one when they are done.

mod exposition;
mod load;
mod numbers;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use skillcache::json::Value;
use skillcache::{Code, Library};

use crate::libraries::{config, count, stats, until};
use crate::told::Event;
use exposition::Samples;
use load::{Tally, Worker};

const THREADS: usize = 16;
const WATCHERS: usize = 3;
const EVENTS: &str = "64";

fn seconds() -> u64 {
    std::env::var("SKC_MONITOR_SECONDS").map_or(8, |seconds| seconds.parse().expect("a number of seconds"))
}

/// Small enough that everything that has a bound meets it.
fn options() -> Vec<(&'static str, &'static str)> {
    vec![
        ("cache.execution.max_entries", "24"),
        ("cache.execution.max_mb", "1"),
        ("cache.execution.shards", "4"),
        ("cache.prepared.max_entries", "9"),
        ("cache.metadata.max_entries", "9"),
        ("cache.alert_interval_s", "0"),
        ("pool.size", "2"),
        ("pool.max_overflow", "2"),
        ("pool.timeout_ms", "120000"),
        ("task.workers", "2"),
        ("task.queue", "2"),
        ("sandbox.max_answer_kb", "64"),
        ("monitor.event_capacity", EVENTS),
        ("monitor.alert_interval_s", "1"),
        ("monitor.slow_run_ms", load::SLOW_MS),
        ("monitor.log_level", "trace"),
    ]
}

/// Looks at all numbers, again and again, and each time holds them against each other and against those before.
fn watch(library: &Library, is_over: &AtomicBool) -> u64 {
    let mut before: Option<(Value, Samples)> = None;
    let mut looks = 0;
    while !is_over.load(Ordering::Relaxed) {
        let now = stats(library);
        numbers::check(&now);
        let exposed = exposition::read(&library.metrics().expect("it is open"));
        exposition::check(&exposed);
        assert!(exposition::runs(&exposed) >= count(&now, "runs.total"), "it was counted before");
        if let Some((stats, samples)) = &before {
            numbers::check_since(stats, &now);
            exposition::check_since(samples, &exposed);
            assert!(exposition::runs(samples) <= count(&now, "runs.total"), "it is counted still");
        }
        before = Some((now, exposed));
        looks += 2;
    }
    looks
}

/// Reads events as they come; says how many.
fn listen(library: &Library, is_over: &AtomicBool) -> i64 {
    let (mut heard, mut last) = (0, 0);
    loop {
        match library.next_event(Some(Duration::from_millis(20))) {
            Ok(line) => {
                let event = Event::read(&line);
                assert!(event.number > last, "{event:?} came after {last}");
                (heard, last) = (heard + 1, event.number);
            }
            Err(error) if error.code() == Code::Timeout && is_over.load(Ordering::Relaxed) => return heard,
            Err(error) => assert_eq!(error.code(), Code::Timeout, "{error}"),
        }
    }
}

/// Every thread does its part until the time is over; says what they did.
fn work<'l>(library: &'l Library, part: impl Fn(&mut Worker<'l>) + Sync, end: Instant) -> Tally {
    thread::scope(|scope| {
        let part = &part;
        let threads: Vec<_> = (0..THREADS)
            .map(|number| {
                scope.spawn(move || {
                    let mut worker = Worker::new(library, number);
                    while Instant::now() < end {
                        part(&mut worker);
                    }
                    worker.tally
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("every run ended as it should")).sum()
    })
}

/// What the numbers of the results are now, in one: how often one was looked up, and how often one was found, wherever.
fn lookups_and_answers(stats: &Value) -> [i64; 2] {
    let [hits, misses, coalesced] =
        ["hits", "misses", "coalesced"].map(|name| count(stats, &format!("caches.execution.{name}")));
    [hits + misses, hits + coalesced + count(stats, "store.results.hits")]
}

/// A library, and how many lines it has said.
fn open(path: &Path) -> (Library, Arc<AtomicI64>) {
    let lines = Arc::new(AtomicI64::new(0));
    let hear = {
        let lines = lines.clone();
        move |_: &str| _ = lines.fetch_add(1, Ordering::SeqCst)
    };
    let library = Library::open_with(path.to_str().expect("UTF-8"), &config(&options()), None, Some(Box::new(hear)));
    (library.expect("a library"), lines)
}

/// Has everything done that can be done, then only what leaves every look-up known; says what that was.
fn live(library: &Library) -> Tally {
    let mut first = Worker::new(library, THREADS);
    first.do_each_once();
    let rest = work(library, Worker::do_anything, Instant::now() + Duration::from_secs(seconds()));
    let tally: Tally = [first.tally, rest].into_iter().sum();
    let mixed = settled(library);
    numbers::check_total(&mixed, &tally);
    let [lookups, answers] = lookups_and_answers(&mixed);
    assert!(lookups >= tally.lookups, "who was sent back to the beginning has looked twice");
    assert_eq!(answers, tally.cached);
    // Nobody is sent back any more.
    let quiet = work(library, Worker::only_run, Instant::now() + Duration::from_secs(1));
    let metadata = |stats: &Value| count(stats, "caches.metadata.hits") + count(stats, "caches.metadata.misses");
    let after = settled(library);
    assert_eq!(lookups_and_answers(&after), [lookups + quiet.lookups, answers + quiet.cached]);
    assert_eq!(metadata(&after) - metadata(&mixed), quiet.runs());
    [tally, quiet].into_iter().sum()
}

/// Whether all that was counted is all that was done and heard, when nobody looks any more.
fn check_end(library: &Library, tally: &Tally, events: i64, lines: &AtomicI64) {
    let stats = settled(library);
    numbers::check(&stats);
    numbers::check_total(&stats, tally);
    numbers::check_rest(&stats);
    numbers::check_outcomes(&library.outcomes(None).expect("it is open"), tally);
    let [recorded, dropped, waiting] =
        ["recorded", "dropped", "waiting"].map(|name| count(&stats, &format!("events.{name}")));
    assert_eq!((recorded, waiting), (events + dropped, 0));
    until("every line is heard", || {
        let stats = self::stats(library);
        count(&stats, "logs.recorded") == lines.load(Ordering::SeqCst) + count(&stats, "logs.dropped")
    });
    exposition::check_against(library);
    // Nothing was checked that did not happen.
    assert!(tally.outcomes.iter().all(|count| *count > 0), "{tally:?}");
    let happened = ["expirations", "refusals"].map(|name| count(&stats, &format!("caches.execution.{name}")));
    assert!(happened.iter().all(|count| *count > 0), "{happened:?}");
}

#[test]
fn every_number_adds_up_at_every_moment_and_exactly_at_the_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let (library, lines) = open(&folder.path().join("skills.db"));
    load::prepare(&library);
    let is_over = AtomicBool::new(false);
    let (tally, looks, events) = thread::scope(|scope| {
        // Whatever fails, the others come to an end.
        let _over = Over(&is_over);
        let watchers: Vec<_> = (0..WATCHERS).map(|_| scope.spawn(|| watch(&library, &is_over))).collect();
        let listener = scope.spawn(|| listen(&library, &is_over));
        let tally = live(&library);
        is_over.store(true, Ordering::Relaxed);
        let looks = watchers.into_iter().map(|thread| thread.join().expect("every number added up")).min();
        (tally, looks.unwrap_or_default(), listener.join().expect("every event was in its place"))
    });
    check_end(&library, &tally, events, &lines);
    println!("each of {WATCHERS} looked {looks} times or more at the numbers of {tally:?}");
    assert!(looks > 0);
}

/// The numbers when nobody does anything and all is written.
fn settled(library: &Library) -> Value {
    let mut stats = stats(library);
    until("everything is written and nothing runs", || {
        stats = self::stats(library);
        ["store.usage_unwritten", "tasks.running", "tasks.waiting"].iter().all(|path| count(&stats, path) == 0)
    });
    stats
}

/// Tells the others that it is over, even if this one fails.
struct Over<'o>(&'o AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
