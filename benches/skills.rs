//! A library of 100,000 skills: putting, reading, opening, finding. Beside the disk itself, SQLite as it is, and diskcache, in one run.
//!
//! `cargo bench --bench skills -- WORD` runs the rows whose name has the word. diskcache runs in a Python of its own,
//! `SKC_PEERS_PYTHON`, which `make bench` sets up; without it its row is left out.

#[path = "../tests/oracle/child.rs"]
mod child;
mod pairing;

use std::fs::{self, File};
use std::hint::black_box;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use child::PythonChild;
use pairing::{Row, heading, human, is_wanted};
use rusqlite::Connection;
use skillcache::json::Value;
use skillcache::{Config, Library, Query, Skill};

const SKILLS: u64 = 100_000;
const DIMENSION: usize = 384;
/// What a put writes besides its record, so that it is about 2 kB.
const CODE: usize = 1600;

/// How many words there are; the n-th is used about 1/n as often as the first, as in texts of people.
const WORDS: f64 = 4000.0;

/// A word that nobody writes, for a place among the words by how often they are used.
fn word(rank: u64) -> String {
    let syllable = |part: u64| ["ba", "ke", "lo", "mi", "nu", "ra", "so", "ti"][part as usize % 8];
    (0..5).map(|place| syllable(rank >> (3 * place))).collect()
}

/// The code of all skills: the interpreter is asked about it once.
fn code() -> String {
    let line = "result = sum(value * weight for value, weight in zip(inputs['values'], inputs['weights']))\n";
    line.repeat(CODE / line.len() + 1)
}

/// Numbers that look drawn and are the same every time.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn words(&mut self, count: usize) -> String {
        let draw = |_| word((WORDS.ln() * self.next() as f64 / (1u64 << 31) as f64).exp() as u64);
        (0..count).map(draw).collect::<Vec<_>>().join(" ")
    }

    fn vector(&mut self) -> Vec<f32> {
        (0..DIMENSION).map(|_| (self.next() % 2001) as f32 / 1000.0 - 1.0).collect()
    }
}

fn skill(number: u64, code: &str) -> Skill {
    let mut draw = Draw(number * 77 + 1);
    let mut skill = Skill::new(format!("skill{number}"), code);
    let set = |skill: &mut Skill, field: &str, text: &str| skill.set(field, text).expect("a field");
    set(&mut skill, "parameters", &format!(r#"{{"number": {number}}}"#));
    set(&mut skill, "name", &draw.words(2));
    let rare = if number.is_multiple_of(997) { " obsidian" } else { "" };
    set(&mut skill, "description", &format!("{}{rare}", draw.words(12)));
    set(&mut skill, "tags", r#"["bench"]"#);
    skill
}

fn open(path: &Path, precision: &str) -> Library {
    let mut config = Config::default();
    config.set("store.vectors", precision).expect("an option");
    Library::open(&path.to_string_lossy(), &config).expect("it opens")
}

fn with_vector(skill: &mut Skill, number: u64) {
    let vector =
        Value::Array(Draw(number * 131 + 7).vector().into_iter().map(|part| Value::from(f64::from(part))).collect());
    skill.set("embedding", &vector.to_text()).expect("an embedding");
}

/// Fills a library with many submitters; says how long it took.
fn fill(library: &Library, count: u64, threads: usize, code: &str) -> Duration {
    let next = AtomicU64::new(0);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        break;
                    }
                    let mut skill = skill(number, code);
                    with_vector(&mut skill, number);
                    library.put(&skill).expect("stored");
                }
            });
        }
    });
    start.elapsed()
}

/// What the disk does alone: so many bytes at the end of a file and on the disk, again and again.
fn disk_rate(folder: &Path, bytes: usize) -> f64 {
    let mut file = File::create(folder.join("appended")).expect("a file");
    let block = vec![b'x'; bytes];
    let (start, mut count) = (Instant::now(), 0.0);
    while start.elapsed() < Duration::from_millis(700) {
        file.write_all(&block).and_then(|()| file.sync_data()).expect("written");
        count += 1.0;
    }
    count / start.elapsed().as_secs_f64()
}

/// Puts of new skills by so many threads for a while: how many a second, and how long each took.
fn put_rate(library: &Library, threads: usize, code: &str, from: &AtomicU64) -> (f64, Vec<Duration>) {
    let start = Instant::now();
    let work = || {
        let mut times = Vec::new();
        while start.elapsed() < Duration::from_millis(1500) {
            let draft = skill(from.fetch_add(1, Ordering::Relaxed), code);
            let begun = Instant::now();
            library.put(&draft).expect("stored");
            times.push(begun.elapsed());
        }
        times
    };
    let mut times: Vec<Duration> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    let took = start.elapsed();
    times.sort();
    (times.len() as f64 / took.as_secs_f64(), times)
}

fn puts(folder: &Path, code: &str) {
    let from = AtomicU64::new(0);
    for threads in [1, 8, 64] {
        let name = format!("acknowledged puts at FULL, {threads} submitters");
        if !is_wanted(&name) {
            continue;
        }
        let path = folder.join("puts.db");
        let library = open(&path, "f32");
        library.put(&skill(u64::MAX / 1000, code)).expect("its code is known from here on");
        let mut rounds: Vec<_> = (0..5)
            .map(|_| {
                let disk = disk_rate(folder, 2000);
                let (rate, times) = put_rate(&library, threads, code, &from);
                (rate / disk, rate, disk, times)
            })
            .collect();
        rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (ratio, rate, disk, times) = &rounds[rounds.len() / 2];
        let at = |share: f64| human(times[(times.len() as f64 * share) as usize]);
        println!(
            "{name:<44} {rate:>7.0} per s   append and fdatasync {disk:>7.0} per s   {ratio:.2} times ({:.2} to {:.2})   p50 {}   p99 {}",
            rounds[0].0,
            rounds[rounds.len() - 1].0,
            at(0.5),
            at(0.99),
        );
    }
}

/// One skill by id, past every cache.
fn reads(library: &Library, path: &Path, folder: &Path) {
    let raw = Connection::open(path).expect("the file");
    let sql =
        "SELECT s.*, v.* FROM skills s JOIN versions v ON v.skill = s.key AND v.version = s.newest WHERE s.id = ?";
    let (ours, theirs) = (AtomicU64::new(0), AtomicU64::new(0));
    let id = |count: &AtomicU64| format!("skill{}", count.fetch_add(1, Ordering::Relaxed) * 7919 % SKILLS);
    let read_raw = || {
        let mut statement = raw.prepare_cached(sql).expect("prepared");
        let columns = statement.column_count();
        let row = statement.query_row([id(&theirs)], |row| {
            (0..columns)
                .map(|column| row.get::<_, rusqlite::types::Value>(column))
                .collect::<rusqlite::Result<Vec<_>>>()
        });
        drop(black_box(row.expect("there")));
    };
    let read = || drop(black_box(library.get(&id(&ours), 0).expect("there")));
    let row = Row {
        name: "a skill of 2 kB, not cached",
        peer: "rusqlite, the same columns",
        blocks: 60,
        calls: 500,
        peer_calls: 500,
    };
    row.run(read, read_raw);
    let Some(python) = std::env::var_os("SKC_PEERS_PYTHON") else {
        println!("SKC_PEERS_PYTHON is not set (make bench sets it): no row beside diskcache");
        return;
    };
    let mut peer = PythonChild::start(python, concat!(env!("CARGO_MANIFEST_DIR"), "/benches/store_peers.py"));
    let question = Value::object([
        ("folder", Value::from(folder.join("diskcache").to_string_lossy().as_ref())),
        ("calls", Value::from(500u64)),
    ]);
    let mut ask = || {
        let answer = peer.ask(&question).expect("it answers");
        Duration::from_secs_f64(answer.get("seconds").and_then(Value::as_f64).expect("diskcache is there"))
    };
    let timed = || {
        let start = Instant::now();
        (0..500).for_each(|_| read());
        start.elapsed() / 500
    };
    Row { peer: "diskcache, 2 kB, in Python", ..row }.run_timed(timed, &mut ask);
}

fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

/// The number that every hit asks for, beside SQLite's own.
fn generations(library: &Library, path: &Path) {
    let raw = Connection::open(path).expect("the file");
    let row = Row {
        name: "whether anybody has committed",
        peer: "PRAGMA data_version",
        blocks: 200,
        calls: 100_000,
        peer_calls: 1000,
    };
    row.run(
        || {
            black_box(library.generation().expect("known"));
        },
        || {
            let mut statement = raw.prepare_cached("PRAGMA data_version").expect("prepared");
            black_box(statement.query_row([], |row| row.get::<_, i64>(0)).expect("a number"));
        },
    );
}

/// How much memory a process needs for a library, a read and a search of words.
fn growth(path: &Path) -> u64 {
    let before = resident();
    let library = open(path, "f32");
    library.get("skill1", 0).expect("there");
    library.search(&Query::words("obsidian")).expect("a search");
    resident().saturating_sub(before)
}

fn opening(path: &Path) {
    if !is_wanted("open with 100,000 skills") {
        return;
    }
    // In a process of its own: this one has memory left over from filling the library.
    let program = std::env::current_exe().expect("this program has a path");
    let child = std::process::Command::new(program).env(GROWTH_OF, path).output().expect("it runs");
    let grown: u64 = String::from_utf8_lossy(&child.stdout).trim().parse().expect("a number");
    let mut times: Vec<Duration> = (0..12)
        .map(|_| {
            let start = Instant::now();
            let library = open(path, "f32");
            let took = start.elapsed();
            drop(library);
            took
        })
        .collect();
    times.sort();
    println!(
        "{:<44} {:>10}   (longest of 12: {})   resident memory grew by {:.1} MB, a read and a search of words included",
        "open with 100,000 skills",
        human(times[times.len() / 2]),
        human(times[times.len() - 1]),
        grown as f64 / 1e6
    );
}

/// What is done for the file, each a few times: it reads all of it.
fn keeping(path: &Path, folder: &Path) {
    let library = open(path, "f32");
    let copy = folder.join("copy.db");
    let backup = || {
        library.backup(&copy.to_string_lossy()).expect("it is written");
        fs::remove_file(&copy).expect("it is there");
    };
    let check =
        |which: &str| assert_eq!(library.check(which).expect("it is checked").get("ok"), Some(&Value::Bool(true)));
    let works: [(&str, &dyn Fn()); 3] = [
        ("quick check of the file", &|| check("quick")),
        ("full check of the file", &|| check("full")),
        ("backup", &backup),
    ];
    for (name, work) in works {
        if !is_wanted(name) {
            continue;
        }
        let mut times: Vec<Duration> = (0..3)
            .map(|_| {
                let start = Instant::now();
                work();
                start.elapsed()
            })
            .collect();
        times.sort();
        println!(
            "{name:<44} {:>10}   ({} to {})   {:.0} MB",
            human(times[1]),
            human(times[0]),
            human(times[2]),
            fs::metadata(path).map_or(0, |file| file.len()) as f64 / 1e6
        );
    }
}

fn searches(path: &Path) {
    let vector = Draw(4242).vector();
    let words = |ranks: &[u64]| ranks.iter().map(|rank| word(*rank)).collect::<Vec<_>>().join(" ");
    for (name, precision, text, by_vector) in [
        ("search, a rare word", "f32", "obsidian".to_owned(), false),
        ("search, two words", "f32", words(&[150, 300]), false),
        ("search, five words", "f32", words(&[40, 60, 100, 150, 300]), false),
        ("search, a word in every ninth skill", "f32", words(&[14]), false),
        ("search, cosine 384, f32", "f32", String::new(), true),
        ("search, cosine 384, int8", "int8", String::new(), true),
        ("search, two words and cosine 384, f32", "f32", words(&[150, 300]), true),
    ] {
        if !is_wanted(name) {
            continue;
        }
        let library = open(path, precision);
        let mut query = Query::words(&text);
        query.filter.limit = 10;
        if by_vector {
            query.embedding.clone_from(&vector);
        }
        let first = Instant::now();
        assert!(library.search(&query).expect("a search").len() == 10);
        let first = first.elapsed();
        let time = |_| {
            let start = Instant::now();
            black_box(library.search(&query).expect("a search"));
            start.elapsed()
        };
        let mut times: Vec<Duration> = (0..60).map(time).collect();
        times.sort();
        query.filter.limit = u32::MAX;
        let all = if by_vector { SKILLS as usize } else { library.search(&query).expect("a search").len() };
        println!(
            "{name:<44} {:>10}   p95 {:>10}   the first of a process {:>10}   of {all} skills",
            human(times[times.len() / 2]),
            human(times[times.len() * 95 / 100]),
            human(first)
        );
    }
}

/// Set for the process that only opens a library.
const GROWTH_OF: &str = "SKC_GROWTH_OF";

fn main() {
    if let Some(path) = std::env::var_os(GROWTH_OF) {
        println!("{}", growth(Path::new(&path)));
        return;
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let (path, code) = (folder.path().join("skills.db"), code());
    heading();
    puts(folder.path(), &code);
    let of_many = [
        "a skill of 2 kB, not cached",
        "whether anybody has committed",
        "open with 100,000 skills",
        "search",
        "quick check of the file",
        "full check of the file",
        "backup",
    ];
    if of_many.iter().any(|name| is_wanted(name)) {
        let library = open(&path, "f32");
        let took = fill(&library, SKILLS, 64, &code);
        println!("{SKILLS} skills with embeddings were put by 64 submitters in {:.1} s", took.as_secs_f64());
        reads(&library, &path, folder.path());
        generations(&library, &path);
        drop(library);
        opening(&path);
        searches(&path);
        keeping(&path, folder.path());
    }
}
