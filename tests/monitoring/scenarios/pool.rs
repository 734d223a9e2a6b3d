//! A pool without connections: another process has the locks that every reader needs.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;

use skillcache::json::Value;
use skillcache::{Code, Filter, Library};

use crate::libraries::{count, number, open_at, put, stats, until};
use crate::told::{all, expect, kinds};

/// Takes the five locks of readers in the file that SQLite shares (bytes 123 to 127: "WAL-Mode File Format", 2.3), says so, and keeps them
/// until there is nothing more to read. Who reads meanwhile tries again for ten seconds, with a connection of the pool.
const LOCKER: &str = "import fcntl, sys\n\
    file = open(sys.argv[1], 'r+b')\n\
    fcntl.lockf(file, fcntl.LOCK_EX, 5, 123)\n\
    print('locked', flush=True)\n\
    sys.stdin.read()";

/// The other process; gone with this.
struct Locker(Child);

impl Locker {
    fn start(database: &Path) -> Self {
        let mut shared = database.as_os_str().to_owned();
        shared.push("-shm");
        let mut locker = Command::new("python3");
        locker.args(["-c", LOCKER]).arg(shared).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut locker = Locker(locker.spawn().expect("there is Python"));
        let mut line = String::new();
        BufReader::new(locker.0.stdout.take().expect("piped")).read_line(&mut line).expect("it says something");
        assert_eq!(line, "locked\n");
        locker
    }
}

impl Drop for Locker {
    fn drop(&mut self) {
        let _ = self.0.stdin.take().map(|mut input| input.flush());
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Has both connections taken until calls have failed so often for want of one; says how many did.
fn exhaust(library: &Library, database: &Path, times: i64) -> i64 {
    let locker = Locker::start(database);
    let (is_over, exhausted) = (AtomicBool::new(false), AtomicI64::new(0));
    let ask = || {
        // Comes to an end when the locks are free, or SQLite has lost its patience.
        if let Err(error) = library.list(&Filter::default())
            && error.code() == Code::PoolExhausted
        {
            exhausted.fetch_add(1, Ordering::SeqCst);
        }
    };
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !is_over.load(Ordering::SeqCst) {
                    ask();
                }
            });
        }
        // Two hold one, the others wait in vain.
        until("there is no connection", || exhausted.load(Ordering::SeqCst) >= times);
        // Who looks now sees it, and is no exhaustion more, whether or not the database answers.
        let seen = stats(library);
        assert!(count(&seen, "pool.exhaustion_events") >= times, "{seen:?}");
        assert!(
            ["ok", "unavailable"]
                .contains(&seen.get("store").and_then(|store| store.get("status")?.as_str()).expect("a status"))
        );
        assert!(library.metrics().expect("open").contains("skillcache_pool_exhaustions_total "));
        is_over.store(true, Ordering::SeqCst);
        drop(locker);
    });
    exhausted.into_inner()
}

fn open(database: &Path, options: &[(&str, &str)]) -> Library {
    let pool = [("pool.size", "1"), ("pool.max_overflow", "1"), ("pool.timeout_ms", "100")];
    // Nothing else is to ask for a connection, or to read the file.
    let quiet = [("store.check_on_open", "off"), ("monitor.history_interval_s", "0")];
    let library = open_at(database.to_str().expect("UTF-8"), &[&pool[..], &quiet, options].concat());
    put(&library, "s", "result = 1", &[]);
    library.set_state("s", "active").expect("it is there");
    expect(&library, ["sandbox_level", "skill_put", "skill_state"]);
    library
}

#[test]
fn an_exhausted_pool_is_told_of_once_while_every_exhaustion_counts() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = folder.path().join("skills.db");
    let library = open(&database, &[]);
    assert_eq!(count(&stats(&library), "pool.exhaustion_events"), 0);
    let mut times = exhaust(&library, &database, 3);
    let [overflow, exhausted] = expect(&library, ["pool_overflow", "pool_exhausted"]);
    overflow.has_fields(&["overflow_connections", "max_overflow", "untold"]);
    overflow.says(["overflow_connections", "max_overflow"].map(|name| (name, Value::from(1u64))));
    overflow.says([("untold", Value::from(0u64))]);
    assert_eq!(overflow.message, "High overflow connection usage: 100.0% (1/1 connections)");
    exhausted.has_fields(&["exhaustion_events", "pool_size", "max_overflow", "waited_ms", "untold"]);
    exhausted.says(["exhaustion_events", "pool_size", "max_overflow"].map(|name| (name, Value::from(1u64))));
    exhausted.says([("untold", Value::from(0u64))]);
    assert!(exhausted.count("waited_ms") >= 100, "{exhausted:?}");
    let text = "Connection pool exhausted! Total exhaustion events: 1. Pool size: 1, Max overflow: 1";
    assert_eq!(exhausted.message, text);
    assert!([overflow, exhausted].iter().all(|event| event.severity == "warning"));
    // Again, within five minutes.
    times += exhaust(&library, &database, 3);
    assert_eq!(kinds(&all(&library)), [""; 0]);
    let after = stats(&library);
    assert_eq!(count(&after, "pool.exhaustion_events"), times);
    assert_eq!(number(&after, "pool.exhaustion_rate"), times as f64 / count(&after, "pool.total_requests") as f64);
    assert_eq!(count(&after, "pool.waiting"), 0);
}

#[test]
fn what_was_not_told_of_a_pool_is_told_with_the_next() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = folder.path().join("skills.db");
    let library = open(&database, &[("pool.alert_interval_s", "1")]);
    let mut told = Vec::new();
    until("there is a third", || {
        exhaust(&library, &database, 4);
        told.extend(all(&library).into_iter().filter(|event| event.kind == "pool_exhausted"));
        told.len() >= 3
    });
    // Each says which exhaustion it is, and how many were passed over since the one before.
    let numbers = told.iter().map(|event| event.count("exhaustion_events"));
    let untold = told.iter().map(|event| event.count("untold"));
    let expected = std::iter::once(0).chain(numbers.clone()).zip(numbers.clone()).map(|(last, this)| this - last - 1);
    assert_eq!(untold.collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "{told:#?}");
}
