use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::*;
use crate::json::Value;
use crate::outcome::Outcome;
use crate::skill::{Outline, Skill};
use crate::store::tests::open;
use crate::store::{Filter, Query, Store, Verdict};

/// Set for the processes that the tests start: this program again, with one test to run.
const OTHER: &str = "SKC_GENERATION_OTHER";

fn store_in(folder: &TempDir) -> (Store, PathBuf) {
    let path = folder.path().join("skills.db");
    (open(path.to_str().expect("UTF-8")).expect("it opens"), path)
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn put(store: &Store, id: &str, code: &str) {
    let outline = Outline { symbols: Value::Null, words: String::new() };
    store.put(&Skill::new(id, code), &outline).expect("it is stored");
}

/// For a moment it may not be known: while the first commit after the log was emptied is being written.
fn now(store: &Store) -> Generation {
    let begin = Instant::now();
    loop {
        if let Some(generation) = store.generation() {
            return generation;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "it is known after the next commit");
        thread::yield_now();
    }
}

fn number(connection: &Connection, sql: &str) -> i64 {
    connection.query_row(sql, [], |row| row.get(0)).expect("a number")
}

/// Whether a generation is one that has not been there before.
fn is_new(store: &Store, last: &mut Generation) -> bool {
    let before = std::mem::replace(last, now(store));
    before != *last
}

/// A connection of somebody else to a table of two columns that are always equal.
fn stranger(path: &Path) -> Connection {
    let connection = Connection::open(path).expect("it opens");
    connection.busy_timeout(Duration::from_secs(60)).expect("a time");
    // Nobody pulls the plug, and more commits are made.
    connection.pragma_update(None, "synchronous", "OFF").expect("a pragma");
    connection
        .execute_batch(
            "CREATE TABLE IF NOT EXISTS pair (key INTEGER PRIMARY KEY, a INTEGER, b INTEGER);
             INSERT OR IGNORE INTO pair VALUES (1, 0, 0);",
        )
        .expect("a table");
    connection
}

fn count_up(connection: &Connection) {
    connection
        .execute_batch("BEGIN IMMEDIATE; UPDATE pair SET a = a + 1; UPDATE pair SET b = b + 1; COMMIT")
        .expect("a commit");
}

const PAIR: &str = "SELECT CASE a WHEN b THEN a ELSE -1 END FROM pair";

/// This program again, to run one of these tests as the other process.
fn other(test: &str, path: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this test has a path"));
    command.args(["--exact", &format!("store::generation::tests::{test}"), "--nocapture"]).env(OTHER, path);
    command
}

fn told_path() -> Option<PathBuf> {
    std::env::var_os(OTHER).map(PathBuf::from)
}

#[test]
fn reads_leave_it_and_commits_change_it() {
    let folder = folder();
    for store in [store_in(&folder).0, open(":memory:").expect("it opens")] {
        let mut last = now(&store);
        put(&store, "a", "result = 1");
        assert!(is_new(&store, &mut last), "a new skill");
        put(&store, "a", "result = 2");
        assert!(is_new(&store, &mut last), "a new version");
        put(&store, "a", "result = 2");
        assert!(is_new(&store, &mut last), "the same again: the record says when");
        for _ in 0..3 {
            store.get("a", 0).expect("there");
            store.get("b", 0).expect_err("not there");
            store.list(&Filter::default()).expect("a list");
            store.search(&Query::words("a")).expect("a search");
            store.stats();
            store.probe(Duration::from_secs(10)).expect("it answers");
            store.remove("b").expect_err("not there");
        }
        assert!(!is_new(&store, &mut last), "reading");
        store.count_use(&Arc::from("a"), 2, Outcome::Success, Verdict::Nothing);
        // What is read has been counted, if that took no longer than a moment.
        let begin = Instant::now();
        while store.get("a", 0).expect("there").usage().usage_count == 0 {
            assert!(begin.elapsed() < Duration::from_secs(60), "it is counted");
        }
        assert!(is_new(&store, &mut last), "counters are part of the record");
        store.remove("a").expect("there");
        assert!(is_new(&store, &mut last), "removing");
    }
}

#[test]
fn commits_of_others_change_it() {
    const NAME: &str = "commits_of_others_change_it";
    if let Some(path) = told_path() {
        return count_up(&stranger(&path));
    }
    let folder = folder();
    let (store, path) = store_in(&folder);
    let mut last = now(&store);
    let same_process = stranger(&path);
    assert!(is_new(&store, &mut last));
    count_up(&same_process);
    assert!(is_new(&store, &mut last));
    assert_eq!(number(&same_process, PAIR), 1);
    assert!(!is_new(&store, &mut last));
    let second = open(path.to_str().expect("UTF-8")).expect("it opens");
    assert!(!is_new(&store, &mut last), "opening");
    put(&second, "a", "result = 1");
    assert!(is_new(&store, &mut last));
    assert_eq!(now(&second), last, "they look at the same page");
    drop((second, same_process));
    assert!(!is_new(&store, &mut last), "closing");
    let status = other(NAME, &path).stdout(Stdio::null()).status().expect("it starts");
    assert!(status.success());
    assert!(is_new(&store, &mut last));
    assert_eq!(number(&stranger(&path), PAIR), 2);
}

/// What is kept of a count in the database, and under which generation.
struct Kept {
    generation: Generation,
    count: i64,
}

impl Kept {
    /// As everybody should: the generation first.
    fn new(store: &Store, read: impl Fn() -> i64) -> Self {
        Kept { generation: now(store), count: read() }
    }

    /// Holds what was kept to what the database says: with the same generation before and after, it is the same.
    fn check(&mut self, store: &Store, acknowledged: i64, read: impl Fn() -> i64) -> bool {
        let is_current = store.generation() == Some(self.generation);
        if !is_current {
            *self = Kept::new(store, read);
            return false;
        }
        assert!(self.count >= acknowledged, "{acknowledged} was acknowledged, {} passes for current", self.count);
        let count = read();
        if store.generation() == Some(self.generation) {
            assert_eq!(count, self.count);
        }
        true
    }
}

/// Counts up and says so after each commit, until it is killed.
fn count_for_ever(path: &Path) -> ! {
    let connection = stranger(path);
    let mut output = std::io::stdout();
    output.write_all(b"\n").expect("somebody reads");
    loop {
        count_up(&connection);
        let count = number(&connection, PAIR);
        writeln!(output, "count {count}").and_then(|()| output.flush()).expect("somebody reads");
    }
}

/// A process that counts up; killed when dropped.
struct Writer {
    process: Child,
    listener: Option<JoinHandle<()>>,
    acknowledged: Arc<AtomicU64>,
}

impl Writer {
    fn start(path: &Path) -> Self {
        let mut process = other("a_killed_writer_leaves_no_generation_to_two_contents", path)
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let output = BufReader::new(process.stdout.take().expect("piped"));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let heard = Arc::clone(&acknowledged);
        let listener = thread::spawn(move || {
            let counts =
                output.lines().map_while(Result::ok).filter_map(|line| line.strip_prefix("count ")?.parse().ok());
            // A line that the kill cuts short has a smaller number, or none.
            counts.for_each(|count: u64| {
                heard.fetch_max(count, Ordering::Release);
            });
        });
        Writer { process, listener: Some(listener), acknowledged }
    }

    fn acknowledged(&self) -> i64 {
        i64::try_from(self.acknowledged.load(Ordering::Acquire)).expect("small")
    }

    /// Once this returns, all that was acknowledged has been heard.
    fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        self.listener.take().into_iter().for_each(|listener| drop(listener.join()));
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Lets a writer write for some time and kills it; checks what is kept all the while.
fn one_killed_writer(store: &Store, path: &Path, reader: &Connection, kept: &mut Kept, time: Duration) -> u64 {
    let mut writer = Writer::start(path);
    let start = Instant::now();
    let mut began = None;
    let mut hits = 0;
    while began.is_none_or(|began: Instant| began.elapsed() < time) {
        assert!(start.elapsed() < Duration::from_secs(120), "the writer writes nothing");
        let acknowledged = writer.acknowledged();
        began = began.or((acknowledged > 0).then(Instant::now));
        hits += u64::from(kept.check(store, acknowledged, || number(reader, PAIR)));
    }
    writer.kill();
    for _ in 0..3 {
        kept.check(store, writer.acknowledged(), || number(reader, PAIR));
    }
    assert!(kept.count >= writer.acknowledged(), "{} was acknowledged, {} is there", writer.acknowledged(), kept.count);
    hits
}

#[test]
fn a_killed_writer_leaves_no_generation_to_two_contents() {
    if let Some(path) = told_path() {
        count_for_ever(&path);
    }
    let rounds: u64 = std::env::var("SKC_KILL_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(20);
    let folder = folder();
    let (store, path) = store_in(&folder);
    let reader = stranger(&path);
    let mut kept = Kept::new(&store, || number(&reader, PAIR));
    let mut hits = 0;
    for round in 0..rounds {
        hits += one_killed_writer(&store, &path, &reader, &mut kept, Duration::from_micros(round * 1371 % 25_000));
    }
    println!("{rounds} writers were killed at up to {} commits; {hits} times what was kept was current", kept.count);
    assert!(kept.count > 0);
}

/// Leaves the page as a writer does that is killed between the two copies of the header: they differ.
fn break_off(store: &Store) {
    let Source::Shared(index) = &*store.generation else { panic!("the page is there") };
    let head = index.head();
    // The second copy begins with the seventh word.
    head[6].fetch_xor(1 << 63, Ordering::SeqCst);
}

#[test]
fn after_a_recovery_no_generation_comes_again_with_other_contents() {
    let folder = folder();
    let (store, path) = store_in(&folder);
    let writer = stranger(&path);
    let mut seen = HashMap::new();
    let mut note = |round: u64| {
        let contents = number(&writer, PAIR);
        let Some(generation) = store.generation() else { return u64::MAX };
        let before = *seen.entry(generation).or_insert(contents);
        assert_eq!(before, contents, "round {round}");
        generation.0 >> 32
    };
    let (mut lowest, mut unknown) = (u64::MAX, 0);
    for round in 0..300 {
        for _ in 0..round % 4 {
            count_up(&writer);
            note(round);
        }
        // Emptied now and then: where the next round commits nothing, it recovers from no bytes.
        if round % 50 == 49 {
            writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("a checkpoint");
            continue;
        }
        break_off(&store);
        let count = note(round);
        unknown += u64::from(count == u64::MAX);
        lowest = lowest.min(count);
    }
    assert_eq!(lowest, 0, "recovery counts from 0");
    assert!((1..10).contains(&unknown), "{unknown} times the log was empty");
    assert!(seen.len() > 400, "{} generations", seen.len());
}

#[test]
fn an_empty_log_is_known_only_before_the_first_commit() {
    let folder = folder();
    let (store, path) = store_in(&folder);
    let mut last = now(&store);
    break_off(&store);
    store.probe(Duration::from_secs(10)).expect("it recovers");
    assert!(!is_new(&store, &mut last), "nothing was committed");
    let writer = stranger(&path);
    writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("a checkpoint");
    break_off(&store);
    store.probe(Duration::from_secs(10)).expect("it recovers");
    assert_eq!(store.generation(), None);
    count_up(&writer);
    assert!(is_new(&store, &mut last));
}

#[test]
fn checkpoints_are_not_hindered() {
    let folder = folder();
    let (store, path) = store_in(&folder);
    let log = || std::fs::metadata(folder.path().join("skills.db-wal")).expect("a log").len();
    let writer = stranger(&path);
    let checkpoint = |mode: &str| {
        let sql = format!("PRAGMA wal_checkpoint({mode})");
        let [busy, frames, done] = writer
            .query_row(&sql, [], |row| Ok([0, 1, 2].map(|index| row.get::<_, i64>(index).unwrap_or(-1))))
            .expect("a checkpoint");
        assert_eq!((busy, frames), (0, done), "{mode}");
    };
    let mut last = now(&store);
    for _ in 0..30 {
        for _ in 0..100 {
            count_up(&writer);
            assert!(is_new(&store, &mut last));
        }
        checkpoint("PASSIVE");
        assert!(!is_new(&store, &mut last));
    }
    assert!(log() < 2_000_000, "the log starts again after a checkpoint; it has {} bytes", log());
    for _ in 0..3 {
        checkpoint("TRUNCATE");
        assert_eq!(log(), 0);
        last = now(&store);
        count_up(&writer);
        assert!(is_new(&store, &mut last));
    }
}

#[test]
fn a_closed_store_leaves_no_files_and_a_new_one_sees_what_is_there() {
    let folder = folder();
    for round in 0..5 {
        let (store, path) = store_in(&folder);
        put(&store, "a", &format!("result = {round}"));
        let mut kept = Kept::new(&store, || i64::from(store.revision("a", 0).expect("there").version));
        assert_eq!(kept.count, round + 1);
        assert!(kept.check(&store, round + 1, || round + 1));
        drop(store);
        assert!(path.exists());
        let names = || std::fs::read_dir(folder.path()).expect("a folder").count();
        let start = Instant::now();
        // The pool closes its connections in its own time.
        while names() > 1 && start.elapsed() < Duration::from_secs(60) {
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(names(), 1, "the last connection takes the log along");
    }
}

#[test]
fn writers_and_readers_at_once() {
    const WRITERS: usize = 4;
    let folder = folder();
    let (store, path) = store_in(&folder);
    let acknowledged = AtomicU64::new(0);
    let writing = AtomicU64::new(WRITERS as u64);
    let hits = AtomicU64::new(0);
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (store, acknowledged, writing) = (&store, &acknowledged, &writing);
            scope.spawn(move || {
                for round in 0..25 {
                    put(store, &format!("skill{writer}"), &format!("result = {round}"));
                    acknowledged.fetch_add(1, Ordering::Release);
                }
                writing.fetch_sub(1, Ordering::Release);
            });
        }
        for _ in 0..3 {
            scope.spawn(|| {
                let connection = Connection::open(&path).expect("it opens");
                let read = || number(&connection, "SELECT count(*) FROM versions");
                let mut kept = Kept::new(&store, read);
                while writing.load(Ordering::Acquire) > 0 {
                    let count = i64::try_from(acknowledged.load(Ordering::Acquire)).expect("small");
                    hits.fetch_add(u64::from(kept.check(&store, count, read)), Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(acknowledged.into_inner(), 100);
    assert!(hits.into_inner() > 0);
}

#[test]
fn any_word_of_a_header_counts() {
    let flags = u32::from_ne_bytes([1, 0, 0, 16]);
    let good = [LAYOUT, 0, 7, flags, 3, 4, 5, 6, 8, 9];
    let read = |fields: [u32; 10]| {
        let head: Head = std::array::from_fn(|word| {
            let field = |half| fields.get(2 * word + half).map_or([0xff; 4], |field: &u32| field.to_ne_bytes());
            let [[a, b, c, d], [e, f, g, h]] = [field(0), field(1)];
            AtomicU64::new(u64::from_ne_bytes([a, b, c, d, e, f, g, h]))
        });
        generation_of(&head)
    };
    let with = |field: usize, value: u32| {
        let mut changed = good;
        changed[field] = value;
        read(changed)
    };
    let generation = read(good).expect("it is whole");
    assert_eq!(generation.0 >> 32, 7);
    for field in [2, 4, 5, 6, 7, 8, 9] {
        for bit in 0..32 {
            assert_ne!(with(field, good[field] ^ 1 << bit), Some(generation), "field {field}, bit {bit}");
        }
    }
    assert_eq!(with(0, LAYOUT + 1), None, "another layout");
    assert_eq!(with(3, u32::from_ne_bytes([0, 0, 0, 16])), None, "not yet made");
    assert_eq!(read([LAYOUT, 0, 0, flags, 0, 0, 0, 0, 0, 0]), None, "an empty log that had frames");
}

#[test]
fn without_the_page_it_is_not_known() {
    let folder = folder();
    let path = folder.path().join("rollback.db");
    for connection in [Connection::open_in_memory(), Connection::open(&path)] {
        let connection = connection.expect("it opens");
        connection.execute_batch("CREATE TABLE t (x)").expect("a table");
        let source = Source::shared(connection);
        source.note_commit();
        assert_eq!(source.read(), None);
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1, "no page was made");
}
