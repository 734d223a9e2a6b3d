//! The pool of connections beside r2d2's and beside the least that there could be, in one run.
//!
//! `cargo bench --bench store -- WORD` runs the rows whose name has the word.

mod pairing;

use std::hint::black_box;
use std::path::Path;
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use pairing::{Row, heading, human, is_wanted};
use rusqlite::Connection;
use skillcache::store::connection::SqliteManager;
use skillcache::store::pool::{MonitoredPool, Settings};

const PATIENCE: Duration = Duration::from_secs(30);

/// A manager as r2d2's users write it.
struct PlainManager(SqliteManager);

impl r2d2::ManageConnection for PlainManager {
    type Connection = Connection;
    type Error = rusqlite::Error;

    fn connect(&self) -> rusqlite::Result<Connection> {
        self.0.connect()
    }

    fn is_valid(&self, connection: &mut Connection) -> rusqlite::Result<()> {
        connection.execute_batch("SELECT 1")
    }

    fn has_broken(&self, _: &mut Connection) -> bool {
        false
    }
}

fn ours(file: &Path, size: usize) -> MonitoredPool<SqliteManager> {
    let settings = Settings { size, max_overflow: 0, ..Settings::default() };
    MonitoredPool::new(SqliteManager::new(Some(file), PATIENCE), settings).resetting_by(SqliteManager::reset)
}

fn r2d2_pool(file: &Path, size: u32, is_tested: bool) -> r2d2::Pool<PlainManager> {
    let pool = r2d2::Pool::builder().max_size(size).test_on_check_out(is_tested);
    pool.build(PlainManager(SqliteManager::new(Some(file), PATIENCE))).expect("it opens")
}

/// Borrowing and giving back, which must be next to nothing beside a read.
fn checkout(file: &Path) {
    let pool = ours(file, 4);
    let row = |peer| Row { name: "checkout and return", peer, blocks: 300, calls: 2000, peer_calls: 2000 };
    let borrow = || drop(black_box(pool.get().expect("one")));
    let theirs = r2d2_pool(file, 4, true);
    row("r2d2::Pool").run(borrow, || drop(black_box(theirs.get().expect("one"))));
    let theirs = r2d2_pool(file, 4, false);
    row("r2d2::Pool without its test").run(borrow, || drop(black_box(theirs.get().expect("one"))));
    let bare = Mutex::new(vec![SqliteManager::new(Some(file), PATIENCE)]);
    row("Mutex<Vec>, nothing checked").run(borrow, || {
        let connection = bare.lock().expect("no panic").pop().expect("one");
        bare.lock().expect("no panic").push(black_box(connection));
    });
}

const THREADS: usize = 8;
const CONNECTIONS: usize = 4;
const TURNS: usize = 7;

/// How long eight threads wait for four connections, each time that they ask. `with_connection` borrows, says that it has, and works.
fn waits(rounds: usize, with_connection: impl Fn(&mut dyn FnMut()) + Sync) -> (Vec<Duration>, Duration) {
    let all_are_there = Barrier::new(THREADS);
    let start = Instant::now();
    let work = || {
        all_are_there.wait();
        let wait = |_| {
            let (asked, mut waited) = (Instant::now(), Duration::ZERO);
            with_connection(&mut || waited = asked.elapsed());
            waited
        };
        (0..rounds).map(wait).collect::<Vec<_>>()
    };
    let mut waits: Vec<Duration> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    let took = start.elapsed();
    waits.sort();
    (waits, took)
}

/// The middle one of several turns, by how far the longest waits are from the usual ones.
fn report(name: &str, pool: &str, mut turns: Vec<(Vec<Duration>, Duration)>) {
    let at = |(waits, _): &(Vec<Duration>, Duration), share: f64| waits[(waits.len() as f64 * share) as usize];
    let spread = |turn: &(Vec<Duration>, Duration)| at(turn, 0.99).as_secs_f64() / at(turn, 0.5).as_secs_f64();
    turns.sort_by(|one, other| spread(one).total_cmp(&spread(other)));
    let turn = &turns[turns.len() / 2];
    println!(
        "{name:<44} {pool:<10}   wait p50 {:>8}   p99 {:>8}   p99/p50 {:>6.1} ({:.1} to {:.1})   longest {:>8}   {:>6.0} per s",
        human(at(turn, 0.5)),
        human(at(turn, 0.99)),
        spread(turn),
        spread(&turns[0]),
        spread(&turns[turns.len() - 1]),
        human(turn.0[turn.0.len() - 1]),
        turn.0.len() as f64 / turn.1.as_secs_f64(),
    );
}

fn contention(file: &Path) {
    let read = |connection: &Connection| {
        let mut statement = connection.prepare_cached("SELECT v FROM t WHERE k = ?").expect("prepared");
        black_box(statement.query_row(["key 500"], |row| row.get::<_, String>(0)).expect("it is there"));
    };
    contend(file, "8 threads on 4 connections, reads", 20_000, read);
    contend(file, "8 threads on 4 connections, held for 1 ms", 300, |_| thread::sleep(Duration::from_millis(1)));
}

fn contend(file: &Path, name: &str, rounds: usize, work: impl Fn(&Connection) + Sync) {
    if !is_wanted(name) {
        return;
    }
    let (mut of_ours, mut of_theirs) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        let pool = ours(file, CONNECTIONS);
        of_ours.push(waits(rounds, |has_it| {
            let connection = pool.get().expect("one");
            has_it();
            work(&connection);
        }));
        let pool = r2d2_pool(file, CONNECTIONS as u32, false);
        of_theirs.push(waits(rounds, |has_it| {
            let connection = pool.get().expect("one");
            has_it();
            work(&connection);
        }));
    }
    report(name, "ours", of_ours);
    report(name, "r2d2::Pool", of_theirs);
}

/// How long it takes to be told that a database cannot be opened.
fn no_database(folder: &Path) {
    let name = "a database that cannot be opened";
    if !is_wanted(name) {
        return;
    }
    let file = folder.join("is not there.db");
    let asked = Instant::now();
    assert!(ours(&file, 4).get().is_err());
    println!("{name:<44} ours         told after {:>8}", human(asked.elapsed()));
    let timeout = Duration::from_secs(2);
    let pool = r2d2::Pool::builder().connection_timeout(timeout).error_handler(Box::new(r2d2::NopErrorHandler));
    let pool = pool.build_unchecked(PlainManager(SqliteManager::new(Some(&file), PATIENCE)));
    let asked = Instant::now();
    assert!(pool.get().is_err());
    println!("{name:<44} r2d2::Pool   told after {:>8} (of a timeout of 2 s)", human(asked.elapsed()));
}

fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("bench.db");
    let connection = Connection::open(&file).expect("a file");
    connection.pragma_update(None, "journal_mode", "WAL").expect("a log");
    connection
        .execute_batch(
            "CREATE TABLE t (k TEXT PRIMARY KEY, v TEXT);
             WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 999)
             INSERT INTO t SELECT 'key ' || i, hex(zeroblob(1000)) FROM n;",
        )
        .expect("filled");
    heading();
    checkout(&file);
    contention(&file);
    no_database(folder.path());
}
