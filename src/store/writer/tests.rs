use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;
use crate::config::Config;
use crate::store::origin::Origin;
use crate::store::{schema, sqlite};

/// Writes a number when it is due, and remembers what became of it.
#[derive(Default)]
struct Later {
    waits: AtomicBool,
    number: AtomicU64,
    settled: Mutex<Vec<bool>>,
}

impl Deferred for Later {
    fn due(&self) -> Option<Instant> {
        self.waits.load(Ordering::SeqCst).then(Instant::now)
    }

    fn write(&self, connection: &Connection) -> Result<()> {
        if self.waits.swap(false, Ordering::SeqCst) {
            add(connection, i64::try_from(self.number.load(Ordering::SeqCst)).expect("small"))?;
        }
        Ok(())
    }

    fn settle(&self, written: Result<()>) {
        self.settled.lock().expect("no panic").push(written.is_ok());
    }
}

const HOUR: Duration = Duration::from_secs(3600);

struct Bench {
    writer: Arc<Writer>,
    later: Arc<Later>,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

fn add(connection: &Connection, number: i64) -> Result<()> {
    connection.execute("INSERT INTO numbers VALUES (?)", [number]).map(drop).map_err(translate)
}

fn bench(patience_ms: u64) -> Bench {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("numbers.db");
    let mut config = Config::default();
    config.set("pool.timeout_ms", &patience_ms.to_string()).expect("an option");
    let connection = Connection::open(&path).expect("a file");
    sqlite::set_up(&connection, Duration::from_millis(patience_ms)).expect("set up");
    connection.pragma_update(None, "journal_mode", "WAL").expect("a log");
    connection.execute_batch("CREATE TABLE numbers (number INTEGER UNIQUE)").expect("a table");
    let pool =
        Arc::new(ConnectionPool::new(Some(&Origin::plain(&path, Duration::from_secs(1))), &config, Box::new(drop)));
    let later = Arc::new(Later::default());
    let log = path.with_extension("db-wal");
    let generation = Arc::new(generation::Source::private());
    let writer = Writer::start(Home::File { connection: Box::new(connection), log }, &pool, &generation, later.clone())
        .expect("a thread");
    Bench { writer: Arc::new(writer), later, path, _folder: folder }
}

impl Bench {
    fn numbers(&self) -> Vec<i64> {
        let connection = Connection::open(&self.path).expect("the file");
        let mut statement = connection.prepare("SELECT number FROM numbers ORDER BY number").expect("a statement");
        let rows = statement.query_map([], |row| row.get(0)).expect("rows");
        rows.collect::<rusqlite::Result<_>>().expect("numbers")
    }

    fn stat(&self, name: &str) -> i64 {
        self.writer.stats().get(name).and_then(Value::as_i64).expect(name)
    }

    /// Keeps the writer busy until told to go on.
    fn hold(&self) -> std::sync::mpsc::Sender<()> {
        let ((go_on, wait), (say, begun)) = (std::sync::mpsc::channel(), std::sync::mpsc::channel());
        let writer = self.writer.clone();
        std::thread::spawn(move || {
            writer.write(move |_| {
                say.send(()).expect("somebody waits");
                wait.recv().map_err(|_| gone())
            })
        });
        begun.recv().expect("it begins");
        go_on
    }

    fn wait_for(&self, holds: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !holds(self) {
            assert!(begun.elapsed() < Duration::from_secs(120), "it never came");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
fn what_waits_goes_together_and_who_fails_leaves_nothing() {
    let bench = bench(60_000);
    let go_on = bench.hold();
    let threads: Vec<_> = (0..50)
        .map(|number| {
            let writer = bench.writer.clone();
            std::thread::spawn(move || {
                writer.write(move |connection| {
                    add(connection, number)?;
                    match number % 5 {
                        // Twice the same number is refused; the first of them must go too.
                        0 => add(connection, number),
                        1 => panic!("a bug"),
                        _ => Ok(()),
                    }
                })
            })
        })
        .collect();
    bench.wait_for(|bench| bench.stat("waiting") == 50);
    let before = bench.stat("commits");
    go_on.send(()).expect("it waits");
    for (number, thread) in threads.into_iter().enumerate() {
        let result = thread.join().expect("no panic comes out").map_err(|error| error.code());
        let expected = [Err(Code::Database), Err(Code::Panic), Ok(()), Ok(()), Ok(())][number % 5];
        assert_eq!(result, expected, "{number}");
    }
    assert_eq!(bench.numbers(), (0..50).filter(|number| number % 5 > 1).collect::<Vec<_>>());
    assert_eq!((bench.stat("largest_group"), bench.stat("commits") - before), (50, 2), "what held it, and the fifty");
}

#[test]
fn busy_means_that_nothing_was_or_will_be_written() {
    let bench = bench(60_000);
    let go_on = bench.hold();
    assert!(bench.writer.ask(true, Duration::from_millis(50), |connection| add(connection, 1)).is_none(), "held");
    go_on.send(()).expect("it waits");
    bench.writer.write(|connection| add(connection, 2)).expect("it is free");
    assert_eq!((bench.numbers(), bench.stat("refused")), (vec![2], 1));
    let error = bench.writer.too_busy();
    assert!(error.message().contains("60000 ms") && error.message().contains("nothing was written"), "{error}");
}

#[test]
fn the_queue_is_bounded_and_groups_are() {
    let bench = bench(60_000);
    let go_on = bench.hold();
    let start = |count: usize| -> Vec<_> {
        let writer = || bench.writer.clone();
        (0..count)
            .map(|_| writer())
            .map(|writer| {
                let thread = std::thread::Builder::new().stack_size(64 << 10);
                thread.spawn(move || writer.write(|_| Ok(()))).expect("a thread")
            })
            .collect()
    };
    let waiting = start(CAPACITY);
    bench.wait_for(|bench| bench.stat("waiting") == CAPACITY as i64);
    let refused = bench.writer.ask(true, Duration::from_millis(20), |_| Ok(()));
    assert!(refused.is_none(), "there was no room for it in time");
    assert!(!bench.writer.settle(HOUR), "whoever only reads does not even wait");
    let outside = start(3);
    go_on.send(()).expect("it waits");
    for thread in waiting.into_iter().chain(outside) {
        thread.join().expect("no panic").expect("its turn comes");
    }
    assert_eq!(bench.stat("largest_group"), MOST_A_GROUP as i64);
}

#[test]
fn another_process_is_waited_for_as_long_as_its_caller_would() {
    let bench = bench(60_000);
    let stranger = Connection::open(&bench.path).expect("the file");
    stranger.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    let writer = bench.writer.clone();
    let waiting = std::thread::spawn(move || writer.write(|connection| add(connection, 1)));
    bench.wait_for(|bench| bench.stat("busy_turns") > 1);
    stranger.execute_batch("COMMIT").expect("the lock is free");
    waiting.join().expect("no panic").expect("its turn");
    assert_eq!(bench.numbers(), [1]);
}

#[test]
fn what_may_wait_goes_alone_with_others_and_again_after_a_failure() {
    let bench = bench(60_000);
    let later = |number: u64| {
        bench.later.number.store(number, Ordering::SeqCst);
        bench.later.waits.store(true, Ordering::SeqCst);
        bench.writer.remind();
    };
    later(1);
    bench.wait_for(|bench| bench.numbers() == [1]);
    let go_on = bench.hold();
    later(2);
    go_on.send(()).expect("it waits");
    assert!(bench.writer.settle(Duration::from_secs(60)), "a barrier");
    assert_eq!(bench.numbers(), [1, 2]);
    // The same number again is refused, and those that go with it are not.
    later(2);
    bench.writer.write(|connection| add(connection, 3)).expect("its own savepoint");
    bench.wait_for(|bench| bench.later.settled.lock().expect("no panic").contains(&false));
    assert_eq!(bench.numbers(), [1, 2, 3]);
}

#[test]
fn a_transaction_that_dies_takes_its_group_along_and_no_more() {
    let bench = bench(60_000);
    let go_on = bench.hold();
    let writer = bench.writer.clone();
    let innocent = std::thread::spawn(move || writer.write(|connection| add(connection, 1)));
    bench.wait_for(|bench| bench.stat("waiting") == 1);
    let writer = bench.writer.clone();
    let fatal = std::thread::spawn(move || {
        writer.write(|connection| connection.execute_batch("ROLLBACK; SELECT no_such_column").map_err(translate))
    });
    bench.wait_for(|bench| bench.stat("waiting") == 2);
    go_on.send(()).expect("it waits");
    for thread in [innocent, fatal] {
        assert_eq!(thread.join().expect("no panic").expect_err("gone").code(), Code::Database);
    }
    bench.writer.write(|connection| add(connection, 2)).expect("a transaction of its own");
    assert_eq!(bench.numbers(), [2]);
}

#[test]
fn closing_writes_what_waits_and_refuses_what_comes() {
    let bench = bench(60_000);
    let go_on = bench.hold();
    let writer = bench.writer.clone();
    let waiting = std::thread::spawn(move || writer.write(|connection| add(connection, 1)));
    bench.wait_for(|bench| bench.stat("waiting") == 1);
    bench.later.number.store(2, Ordering::SeqCst);
    bench.later.waits.store(true, Ordering::SeqCst);
    go_on.send(()).expect("it waits");
    bench.writer.close();
    waiting.join().expect("no panic").expect("it was asked before");
    assert_eq!(bench.numbers(), [1, 2]);
    let error = bench.writer.write(|connection| add(connection, 3)).expect_err("closed");
    assert_eq!(error.code(), Code::Closed);
    bench.writer.close();
}

#[test]
fn a_large_log_is_emptied() {
    let bench = bench(60_000);
    let log = bench.path.with_extension("db-wal");
    bench
        .writer
        .write(|connection| {
            // So many pages at once that the log is large; nothing else would make it smaller.
            connection.execute_batch("CREATE TABLE blobs (blob)").map_err(translate)?;
            (0..20).try_for_each(|_| {
                connection.execute("INSERT INTO blobs VALUES (zeroblob(1 << 20))", []).map(drop).map_err(translate)
            })
        })
        .expect("written");
    let size = || std::fs::metadata(&log).map_or(0, |metadata| metadata.len());
    bench.wait_for(|bench| {
        bench.writer.write(|_| Ok(())).expect("an empty one");
        bench.stat("emptied_logs") > 0
    });
    assert_eq!(size(), 0);
}

#[test]
fn a_database_in_memory_is_written_through_the_pool() {
    let pool = Arc::new(ConnectionPool::new(None, &Config::default(), Box::new(drop)));
    schema::migrate(&mut pool.get().expect("its connection"), |_| Ok(None)).expect("a schema");
    let generation = Arc::new(generation::Source::private());
    let writer = Writer::start(Home::Memory, &pool, &generation, Arc::new(Later::default())).expect("a thread");
    let before = generation.read();
    writer
        .write(|connection| connection.execute("CREATE TABLE t (x)", []).map(drop).map_err(translate))
        .expect("written");
    writer
        .write(|connection| connection.execute("INSERT INTO t VALUES (1)", []).map(drop).map_err(translate))
        .expect("too");
    assert_ne!(generation.read(), before);
    let count: i64 =
        pool.get().expect("free again").query_row("SELECT count(*) FROM t", [], |row| row.get(0)).expect("t");
    assert_eq!(count, 1);
}
