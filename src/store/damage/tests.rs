use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc as StdArc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tempfile::TempDir;

use super::*;
use crate::config::Config;
use crate::outcome::Outcome;
use crate::skill::{Outline, Skill};
use crate::store::tests::open_as;
use crate::store::watch::Health;
use crate::store::{Filter, Query, Store, Verdict};

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn config(options: &[(&str, &str)]) -> Config {
    let mut config = Config::default();
    // Nobody waits for so long but on a machine that stands still.
    config.set("pool.timeout_ms", "60000").expect("an option");
    for (name, value) in options {
        config.set(name, value).expect("an option");
    }
    config
}

fn open(path: &Path) -> Result<Store> {
    open_as(path.to_str().expect("UTF-8"), &config(&[]))
}

fn open_read_only(path: &Path) -> Result<Store> {
    open_as(path.to_str().expect("UTF-8"), &config(&[("store.access", "read_only")]))
}

fn put(store: &Store, id: &str, code: &str) {
    let outline =
        Outline { symbols: Value::object([("imports", Value::from(vec!["math"]))]), words: "words".to_owned() };
    let mut skill = Skill::new(id, code);
    skill.set("description", &format!("what {id} is good for")).expect("a field");
    skill.set("parameters", &format!(r#"{{"n": {}, "x": 1.50}}"#, code.len())).expect("a field");
    store.put(&skill, &outline).expect("it is stored");
}

/// A file with so many skills, some with two versions, some removed. No store has it open.
fn library(folder: &Path, skills: usize) -> PathBuf {
    let path = folder.join("skills.db");
    let store = open(&path).expect("it opens");
    // Nobody pulls the plug.
    let connection = store.pool.get().expect("the first connection, which is used again");
    connection.pragma_update(None, "synchronous", "OFF").expect("a pragma");
    drop(connection);
    for number in 0..skills {
        let code = format!("# {}\nresult = {number}\n", "a skill that computes something ".repeat(1 + number % 40));
        put(&store, &format!("skill-{number:05}"), &code);
        if number % 5 == 0 {
            put(&store, &format!("skill-{number:05}"), &format!("{code}# again\n"));
        }
        if number % 17 == 16 {
            store.remove(&format!("skill-{number:05}")).expect("it is there");
        }
    }
    path
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The first pages of tables and indexes, by name.
fn root_pages(path: &Path) -> BTreeMap<String, usize> {
    let connection = Connection::open(path).expect("it opens");
    let mut statement =
        connection.prepare("SELECT name, rootpage FROM sqlite_schema WHERE rootpage > 0").expect("a statement");
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("rows");
    rows.collect::<rusqlite::Result<_>>().expect("rows")
}

const PAGE: usize = 4096;

fn fill(path: &Path, page: usize, byte: u8) {
    let mut bytes = fs::read(path).expect("it is there");
    bytes[(page - 1) * PAGE..page * PAGE].fill(byte);
    fs::write(path, bytes).expect("written");
}

/// Refused, with this in the message, and nothing changed or left beside it.
fn is_refused(path: &Path, part: &str) {
    let before = (fs::read(path).expect("it is there"), names(path.parent().expect("a folder")));
    let error = open(path).map(|_| ()).expect_err(part);
    assert_eq!(error.code(), Code::Corrupt, "{error}");
    assert!(error.message().contains(part), "{part}: {error}");
    assert!(error.message().starts_with(path.to_str().expect("UTF-8")), "{error}");
    assert!(error.message().contains("read_only"), "it says what to do: {error}");
    assert!(!error.details().findings.is_empty());
    assert!(before == (fs::read(path).expect("it is there"), names(path.parent().expect("a folder"))));
}

#[test]
fn every_field_of_a_header_is_checked() {
    let folder = folder();
    let good = fs::read(library(folder.path(), 1)).expect("it is there");
    let length = good.len() as u64;
    assert_eq!(header_fault(&good[..HEADER], length, true), None);
    assert_eq!(header_fault(&[], 0, true), None);
    for (offset, bytes) in [
        (0, &b"X"[..]),
        (15, b"!"),
        (16, &[0x10, 1]),
        (16, &[0, 0]),
        (16, &[1, 0]),
        (18, &[0]),
        (18, &[3]),
        (19, &[9]),
        (21, &[63]),
        (22, &[0]),
        (23, &[33]),
        (44, &[0, 0, 0, 5]),
        (56, &[0, 0, 0, 2]),
    ] {
        let mut bad = good[..HEADER].to_vec();
        bad[offset..offset + bytes.len()].copy_from_slice(bytes);
        let finding = header_fault(&bad, length, true).unwrap_or_else(|| panic!("{offset} {bytes:?}"));
        assert_eq!((finding.kind, finding.place), ("header", format!("byte {offset} of the file")));
    }
    let mut reserved = good[..HEADER].to_vec();
    reserved[16..18].copy_from_slice(&[2, 0]);
    reserved[20] = 33;
    assert_eq!(
        header_fault(&reserved, length, true).map(|finding| finding.place),
        Some("byte 20 of the file".to_owned())
    );
    let short = header_fault(&good[..HEADER], length - 1, true).expect("too short");
    assert_eq!(short.place, format!("byte {} of the file", length - 1));
    assert_eq!(header_fault(&good[..HEADER], length - 1, false), None, "the log may have the rest");
    assert_eq!(
        header_fault(&good[..50], 50, true).map(|finding| finding.place),
        Some("byte 50 of the file".to_owned())
    );
    let largest = [&good[..16], &[0, 1], &good[18..HEADER]].concat();
    assert!(header_fault(&largest, 65_536 * length, true).is_none(), "1 stands for 65536");
}

#[test]
fn a_damaged_beginning_and_a_damaged_end_are_refused_untouched() {
    let folder = folder();
    let path = library(folder.path(), 50);
    let good = fs::read(&path).expect("it is there");
    fs::write(&path, &good[..good.len() - 1]).expect("written");
    is_refused(&path, "the file ends here");
    fs::write(&path, &good[..70]).expect("written");
    is_refused(&path, "ends within the header");
    fs::write(&path, [b"SQLite format 4", &good[15..]].concat()).expect("written");
    is_refused(&path, "byte 14");
    fs::write(&path, &good).expect("written");
    assert!(open(&path).is_ok());
}

#[test]
fn a_schema_that_is_not_the_right_one_is_refused_and_additions_are_not() {
    let folder = folder();
    let path = library(folder.path(), 3);
    let change = |sql: &str| Connection::open(&path).and_then(|other| other.execute_batch(sql)).expect(sql);
    change("CREATE TABLE mine (x); CREATE INDEX my_index ON skills (created_by); ANALYZE");
    assert!(open(&path).is_ok());
    change("DROP INDEX skills_by_usage");
    is_refused(&path, "index skills_by_usage: it is missing");
    change("CREATE INDEX skills_by_usage ON skills (success_count)");
    is_refused(&path, "index skills_by_usage: it is not what");
    change("DROP INDEX skills_by_usage; CREATE INDEX skills_by_usage ON skills (usage_count); DROP TABLE skills_text");
    is_refused(&path, "skills_text");
}

#[test]
fn every_first_page_is_read() {
    let folder = folder();
    let path = library(folder.path(), 30);
    let good = fs::read(&path).expect("it is there");
    for (name, page) in root_pages(&path) {
        fill(&path, page, 0xee);
        is_refused(&path, &name);
        fs::write(&path, &good).expect("written");
    }
    fill(&path, 1, 0);
    is_refused(&path, "byte 0");
}

#[test]
fn a_log_is_not_brought_into_a_file_that_is_refused() {
    let folder = folder();
    let path = library(folder.path(), 30);
    let page = root_pages(&path)["skills_by_category"];
    let store = open(&path).expect("it opens");
    put(&store, "new", "result = 1");
    // As a crash leaves it: the file and a log with what was written last.
    let (file, log) = (fs::read(&path).expect("there"), fs::read(path.with_extension("db-wal")).expect("there"));
    drop(store);
    fs::write(&path, &file).expect("written");
    fs::write(path.with_extension("db-wal"), &log).expect("written");
    assert!(open(&path).expect("it opens").get("new", 0).is_ok(), "the control: it is in the log");
    fs::write(&path, &file).expect("written");
    fs::write(path.with_extension("db-wal"), &log).expect("written");
    // In the log as well, or the log would mend it.
    let connection = Connection::open(&path).expect("it opens");
    connection
        .execute_batch("PRAGMA writable_schema = ON; DELETE FROM sqlite_schema WHERE name = 'skills_by_category'")
        .expect("done");
    let log = fs::read(path.with_extension("db-wal")).expect("there");
    drop(connection);
    fs::write(&path, &file).expect("written");
    fs::write(path.with_extension("db-wal"), &log).expect("written");
    let error = open(&path).map(|_| ()).expect_err("the schema is damaged");
    assert!(error.message().contains("skills_by_category"), "{error} {page}");
    assert!(fs::read(&path).expect("there") == file);
    assert!(fs::read(path.with_extension("db-wal")).expect("there") == log);
}

#[test]
fn opening_while_others_open_write_and_close_finds_no_damage() {
    let folder = folder();
    let path = folder.path().join("skills.db");
    let end = Instant::now() + Duration::from_secs(2);
    thread::scope(|scope| {
        for name in ["a", "b", "c"] {
            let path = &path;
            scope.spawn(move || {
                for number in 0.. {
                    if Instant::now() > end {
                        break;
                    }
                    let store = open(path).unwrap_or_else(|error| panic!("{error}"));
                    put(&store, &format!("{name}-{number}"), "result = 1");
                }
            });
        }
        while Instant::now() < end {
            match open_read_only(&path) {
                Ok(store) => assert!(store.health().damage().is_none(), "{:?}", store.health()),
                Err(error) => assert_ne!(error.code(), Code::Corrupt, "{error}"),
            }
        }
    });
    assert_eq!(open(&path).expect("it opens").check("full").expect("it is checked").findings, []);
}

/// Waits until a check is over.
fn outcome(store: &Store) -> Health {
    let begin = Instant::now();
    loop {
        match store.health() {
            // It is put behind all others, so that on a busy machine it is slow.
            Health::Running if begin.elapsed() < Duration::from_secs(300) => thread::sleep(Duration::from_millis(2)),
            health => return health,
        }
    }
}

#[test]
fn the_check_in_the_background_tells_of_damage_once_and_stops_writing() {
    let folder = folder();
    let path = library(folder.path(), 300);
    let alarms = StdArc::new(AtomicUsize::new(0));
    let watch = |store: &Store, is_checked| {
        let alarms = alarms.clone();
        let alarm = move |health: &Health| {
            assert!(health.damage().is_some_and(|text| text.contains("restore a backup")));
            alarms.fetch_add(1, Ordering::SeqCst);
        };
        store.watch(is_checked, Some(Duration::ZERO), Arc::new(alarm)).expect("a thread");
    };
    let store = open(&path).expect("it opens");
    watch(&store, true);
    assert!(matches!(outcome(&store), Health::Sound { .. }), "{:?}", store.health());
    put(&store, "written", "result = 1");
    drop(store);

    damage_a_leaf(&path, "versions");
    let store = open(&path).expect("what everything hangs on is whole");
    watch(&store, false);
    assert!(matches!(store.health(), Health::Unknown));
    put(&store, "unknown yet", "result = 1");
    drop(store);
    assert_eq!(alarms.load(Ordering::SeqCst), 0);

    let store = open(&path).expect("what everything hangs on is whole");
    watch(&store, true);
    let health = outcome(&store);
    let Health::Damaged { findings, .. } = &health else { panic!("{health:?}") };
    assert!(
        findings.iter().any(|finding| finding.kind == "page" && finding.place.contains("table versions")),
        "{findings:?}"
    );
    while alarms.load(Ordering::SeqCst) == 0 {
        thread::yield_now();
    }
    let outline = Outline { symbols: Value::Null, words: String::new() };
    let error = store.put(&Skill::new("b", "result = 1"), &outline).expect_err("it would do harm");
    assert_eq!(error.code(), Code::Corrupt);
    assert!(store.remove("written").is_err() && store.get("written", 0).is_ok(), "reading goes on");
    store.count_use(&Arc::from("written"), 1, Outcome::Success, Verdict::Nothing);
    assert_eq!(alarms.load(Ordering::SeqCst), 1);
    assert!(!store.check("quick").expect("it is checked").findings.is_empty());
    assert_eq!(alarms.load(Ordering::SeqCst), 2);
}

/// Overwrites a page of a table that is neither its first nor one that leads to others.
fn damage_a_leaf(path: &Path, table: &str) -> usize {
    let page = leaves(path, table).get(3).copied().expect("a table of several pages");
    fill(path, page, 0xee);
    page
}

/// The pages of a tree that have its entries, in order.
fn leaves(path: &Path, tree: &str) -> Vec<usize> {
    let connection = Connection::open(path).expect("it opens");
    let sql = "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY path";
    let mut statement = connection.prepare(sql).expect("a statement");
    let rows = statement.query_map([tree], |row| row.get(0)).expect("rows");
    rows.collect::<rusqlite::Result<_>>().expect("rows")
}

#[test]
fn a_check_stops_when_its_store_does() {
    let folder = folder();
    let path = library(folder.path(), 100);
    for delay in [Duration::ZERO, Duration::from_micros(300), Duration::from_secs(3600)] {
        for _ in 0..5 {
            let store = open(&path).expect("it opens");
            store.watch(true, Some(delay), Arc::new(|_| panic!("it is sound"))).expect("a thread");
            thread::sleep(Duration::from_millis(1));
            let started = Instant::now();
            drop(store);
            // Less than the delay, and than the check of a machine whose others leave it nothing.
            assert!(started.elapsed() < Duration::from_secs(300));
        }
    }
    assert_eq!(names(folder.path()), ["skills.db"], "the store was the last to close");
}

#[test]
fn the_full_check_holds_everything_against_everything() {
    for (sql, kind, place) in [
        (
            "UPDATE versions SET code = code || ' ' WHERE version = 2 AND skill = 6",
            "content",
            "skill `skill-00005`, version 2",
        ),
        ("UPDATE versions SET parameters = '{\"n\":0}' WHERE skill = 3", "content", "skill `skill-00002`, version 1"),
        ("UPDATE versions SET version = x'00' WHERE skill = 3", "content", "skill `skill-00002`"),
        ("DELETE FROM versions WHERE version = 1 AND skill = 6", "version", "skill `skill-00005`"),
        ("DELETE FROM versions WHERE skill = 2", "version", "skill `skill-00001`"),
        ("UPDATE skills SET newest = 3 WHERE key = 1", "version", "skill `skill-00000`"),
        ("UPDATE skills SET removed_through = 9 WHERE key = 1", "version", "skill `skill-00000`"),
        ("PRAGMA foreign_keys = OFF; DELETE FROM skills WHERE key = 2", "foreign_key", "table versions, row 3"),
        ("DELETE FROM skills_text WHERE rowid = 2", "search", "skill `skill-00001`"),
        ("UPDATE skills SET removed_through = newest WHERE key = 2", "search", "table skills_text, row 2"),
        ("DELETE FROM skills_text_docsize WHERE id = 2", "search", "skill `skill-00001`"),
        ("DELETE FROM skills_text_data WHERE id > 100", "page", "the database"),
        ("UPDATE results_total SET entries = 1", "results", "table results_total"),
        ("INSERT INTO vectors VALUES (1, 1, x'0000803f'), (2, 2, x'0000803f0000803f')", "embedding", "table vectors"),
        ("INSERT INTO vectors VALUES (1, 1, x'00')", "embedding", "table vectors"),
    ] {
        let folder = folder();
        let path = library(folder.path(), 8);
        let store = open(&path).expect("it opens");
        let report = store.check("full").expect("it is checked");
        assert_eq!(report.findings, []);
        assert_eq!(report.to_value().get("ok"), Some(&Value::Bool(true)));
        Connection::open(&path).and_then(|other| other.execute_batch(sql)).expect(sql);
        let findings = store.check("full").expect("it is checked").findings;
        assert!(findings.iter().any(|finding| finding.kind == kind && finding.place == place), "{sql}: {findings:?}");
        assert!(matches!(store.health(), Health::Damaged { .. }));
    }
    let memory = open_as(":memory:", &config(&[])).expect("it opens");
    put(&memory, "a", "result = 1");
    assert_eq!(memory.check("full").expect("it is checked").findings, []);
    assert!(matches!(memory.health(), Health::Unknown));
    assert_eq!(memory.check("slow").map(|_| ()).expect_err("no such check").code(), Code::Invalid);
}

#[test]
fn an_index_that_is_not_its_tables_is_found_by_the_full_check() {
    let folder = folder();
    let path = library(folder.path(), 40);
    let leaf = root_pages(&path)["skills_by_usage"];
    // The entries have a count and a key; the last byte of the page is that of the first entry's key.
    let mut bytes = fs::read(&path).expect("it is there");
    bytes[leaf * PAGE - 1] ^= 1;
    fs::write(&path, bytes).expect("written");
    let store = open(&path).expect("the page is in order");
    assert_eq!(store.check("quick").expect("it is checked").findings, []);
    let findings = store.check("full").expect("it is checked").findings;
    assert!(findings.iter().any(|finding| finding.message.contains("skills_by_usage")), "{findings:?}");
}

#[test]
fn a_library_that_is_only_read_changes_nothing() {
    let folder = folder();
    let path = library(folder.path(), 20);
    let before = fs::read(&path).expect("it is there");
    let store = open_read_only(&path).expect("it opens");
    let outline = Outline { symbols: Value::Null, words: String::new() };
    let error = store.put(&Skill::new("b", "result = 1"), &outline).expect_err("read only");
    assert!(error.code() == Code::Unsupported && error.message().contains("read_only"), "{error}");
    assert_eq!(store.remove("skill-00001").expect_err("read only").code(), Code::Unsupported);
    store.count_use(&Arc::from("skill-00001"), 1, Outcome::Success, Verdict::Nothing);
    assert_eq!(store.get("skill-00001", 0).expect("there").usage().usage_count, 0);
    assert_eq!(store.list(&Filter::default()).expect("a list").len(), 19);
    assert!(!store.search(&Query::words("words")).expect("a search").is_empty());
    assert_eq!(store.check("full").expect("it is checked").findings, []);
    // What others write is seen, and known to be new.
    let first = store.generation();
    let writer = open(&path).expect("it opens");
    put(&writer, "new", "result = 1");
    assert!(store.get("new", 0).is_ok());
    assert!(first.is_none() || first != store.generation());
    drop(writer);
    let with_new = fs::read(&path).expect("it is there");
    store.backup(&folder.path().join("copy.db")).expect("it is written");
    drop(store);
    assert!(before != with_new || path.with_extension("db-wal").exists(), "it is somewhere");
    assert!(fs::read(&path).expect("it is there") == with_new, "closing does not bring the log into the file");
    assert!(open(&path).expect("it opens").get("new", 0).is_ok());
}

#[test]
fn what_cannot_be_read_without_being_changed_is_refused() {
    let folder = folder();
    let refused = |name: &str| open_read_only(&folder.path().join(name)).map(|_| ()).expect_err(name);
    assert_eq!(refused("none.db").code(), Code::Database);
    assert_eq!(names(folder.path()), Vec::<String>::new(), "it makes no file");
    fs::write(folder.path().join("empty.db"), "").expect("written");
    assert_eq!(refused("empty.db").code(), Code::Database);
    let old = folder.path().join("old.db");
    schema::create_at(&Connection::open(&old).expect("a file"), 1).expect("the first schema");
    let before = fs::read(&old).expect("it is there");
    let error = refused("old.db");
    assert!(
        error.code() == Code::Unsupported && error.message().contains("open the copy with `read_write`"),
        "{error}"
    );
    assert!(fs::read(&old).expect("it is there") == before);
    fs::write(folder.path().join("text.db"), "this is no database ".repeat(100)).expect("written");
    let error = refused("text.db");
    assert!(error.code() == Code::Corrupt && error.message().contains("nothing can be read"), "{error}");
}

#[test]
fn a_damaged_file_that_is_only_read_is_opened_and_said_to_be_damaged() {
    let folder = folder();
    let path = library(folder.path(), 400);
    let good = fs::read(&path).expect("it is there");
    // Cut off, so that SQLite alone would refuse it.
    fs::write(&path, &good[..good.len() - 3 * PAGE]).expect("written");
    is_refused(&path, "the file ends here");
    let store = open_read_only(&path).expect("it can be read");
    let text = store.health().damage().expect("it is damaged");
    assert!(text.contains("the file ends here"), "{text}");
    assert!(store.get("skill-00001", 0).is_ok());
    let (skills, findings) = store.salvage().expect("what is left");
    assert!(skills.len() > 300 && skills.len() + findings.len() >= 376, "{} {}", skills.len(), findings.len());
    drop(store);
    // An index less is no reason not to read.
    fs::write(&path, &good).expect("written");
    fill(&path, root_pages(&path)["skills_by_category"], 0xee);
    let store = open_read_only(&path).expect("it can be read");
    assert!(store.health().damage().is_some_and(|text| text.contains("skills_by_category")));
    assert_eq!(store.salvage().expect("what is left").0.len(), 400 - 23);
}

/// A store that reads a damaged file: what it gives is right, and what it does not give is named.
fn salvaged(path: &Path, whole: &BTreeMap<String, Skill>) -> (usize, Vec<Finding>) {
    let before = fs::read(path).expect("it is there");
    let store = open_read_only(path).expect("it can be read");
    let (skills, findings) = store.salvage().expect("what is left");
    drop(store);
    assert!(fs::read(path).expect("it is there") == before);
    let mut seen = BTreeMap::new();
    for skill in &skills {
        let right = &whole[skill.id()];
        assert!(
            skill.code() == right.code() && skill.field("parameters") == right.field("parameters"),
            "{}",
            skill.id()
        );
        assert!(seen.insert(skill.id().to_owned(), ()).is_none(), "{} twice", skill.id());
    }
    for id in whole.keys().filter(|id| !seen.contains_key(*id)) {
        let named = findings.iter().any(|finding| finding.place.contains(&format!("`{id}`")));
        assert!(named, "{id} is neither there nor listed: {findings:?}");
    }
    (skills.len(), findings)
}

#[test]
fn most_of_a_large_library_survives_damage_in_its_middle() {
    let folder = folder();
    let path = library(folder.path(), 2000);
    let store = open(&path).expect("it opens");
    let list = store.list(&Filter::default()).expect("a list");
    let whole: BTreeMap<String, Skill> = list.into_iter().map(|skill| (skill.id().to_owned(), skill)).collect();
    drop(store);
    let good = fs::read(&path).expect("it is there");
    assert_eq!(salvaged(&path, &whole).0, whole.len());
    for trees in [
        &["skills"][..],
        &["versions"],
        &["sqlite_autoindex_versions_1"],
        &["sqlite_autoindex_skills_1"],
        &["skills", "versions"],
    ] {
        for tree in trees {
            let leaves = leaves(&path, tree);
            let middle = leaves.len() / 2;
            for page in [leaves[middle / 2], leaves[middle], leaves[middle + middle / 2]] {
                fill(&path, page, 0xee);
            }
        }
        let (left, findings) = salvaged(&path, &whole);
        assert!(left > whole.len() * 9 / 10, "{trees:?}: {left} of {}, {}", whole.len(), findings.len());
        assert!(left < whole.len() || trees[0].starts_with("sqlite"), "{trees:?}: an index is not needed");
        fs::write(&path, &good).expect("written");
    }
}

/// A generator of numbers that are the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).expect("below a usize")
    }
}

/// Flips bytes, cuts off, or overwrites a page.
fn spoil(good: &[u8], seed: u64) -> Vec<u8> {
    let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    // The first ones are much alike.
    for _ in 0..8 {
        numbers.below(2);
    }
    let mut bytes = good.to_vec();
    let page = numbers.below(bytes.len() / PAGE);
    match numbers.below(10) {
        0 => bytes.truncate(numbers.below(bytes.len())),
        1 => bytes[page * PAGE..(page + 1) * PAGE].fill(0),
        2 => bytes.copy_within(..PAGE, page * PAGE),
        // Where what is found decides most: headers of pages.
        3 | 4 => bytes[page * PAGE + numbers.below(100)] ^= 1 << numbers.below(8),
        _ => {
            for _ in 0..=numbers.below(4) {
                let at = numbers.below(bytes.len());
                bytes[at] ^= 1 << numbers.below(8);
            }
        }
    }
    bytes
}

/// Whether an error is one that a damaged file may give.
fn is_clear(error: &Error) {
    let codes = [Code::Corrupt, Code::Database, Code::NewerDatabase, Code::NotFound, Code::Unsupported];
    assert!(codes.contains(&error.code()), "{:?}: {error}", error.code());
    assert!(error.message().len() > 10);
}

/// Every version of every skill that can be read, by id and version.
fn contents(store: &Store, ids: &[String]) -> BTreeMap<(String, u32), (String, String)> {
    let mut contents = BTreeMap::new();
    for (id, version) in ids.iter().flat_map(|id| [0, 1, 2].map(|version| (id, version))) {
        match store.get(id, version) {
            Ok(skill) => {
                let fields = ["language", "input_schema", "parameters", "required_skills", "dependencies"];
                let fields = fields.map(|name| skill.field(name).to_text()).join("\n");
                contents.insert((skill.id().to_owned(), skill.version()), (skill.code().to_owned(), fields));
            }
            Err(error) => is_clear(&error),
        }
    }
    contents
}

#[test]
fn no_damage_is_overwritten_and_none_goes_unseen() {
    let folder = folder();
    let path = library(folder.path(), 60);
    let good = fs::read(&path).expect("it is there");
    let ids: Vec<String> = (0..60).map(|number| format!("skill-{number:05}")).collect();
    let right = contents(&open(&path).expect("it opens"), &ids);
    let (mut refused, mut found, mut unharmed) = (0, 0, 0);
    for seed in 0..300 {
        let bad = spoil(&good, seed);
        fs::write(&path, &bad).expect("written");
        // A file that is only read stays as it is, whatever is read.
        match open_read_only(&path) {
            Err(error) => is_clear(&error),
            Ok(store) => drop(store.salvage().map_err(|error| is_clear(&error))),
        }
        assert!(fs::read(&path).expect("it is there") == bad, "seed {seed}");
        for beside in names(folder.path()).iter().filter(|name| *name != "skills.db") {
            fs::remove_file(folder.path().join(beside)).expect("removed");
        }
        match open(&path) {
            Err(error) => {
                is_clear(&error);
                assert!(fs::read(&path).expect("it is there") == bad, "seed {seed}");
                assert_eq!(names(folder.path()), ["skills.db"], "seed {seed}");
                refused += 1;
            }
            Ok(store) => {
                let _ = store.list(&Filter::default()).map_err(|error| is_clear(&error));
                let _ = store.search(&Query::words("words")).map_err(|error| is_clear(&error));
                let seen = contents(&store, &ids);
                let is_wrong = seen.iter().any(|(key, content)| right.get(key) != Some(content));
                match store.check("full") {
                    Ok(report) if report.findings.is_empty() => {
                        assert!(!is_wrong, "seed {seed}: a wrong record, and nothing found");
                        unharmed += 1;
                    }
                    Ok(_) => found += 1,
                    Err(error) => is_clear(&error),
                }
            }
        }
    }
    // So that the test goes on testing.
    assert!(refused > 40 && found > 100 && unharmed > 10, "{refused} refused, {found} found, {unharmed} unharmed");
}
