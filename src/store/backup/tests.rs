use std::sync::atomic::AtomicBool;
use std::thread;

use tempfile::TempDir;

use super::*;
use crate::config::Config;
use crate::json::Value;
use crate::skill::{Outline, Skill};
use crate::store::tests::open_as;
use crate::store::{Filter, Query, Store, schema};

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn open(path: &Path) -> Store {
    open_as(path.to_str().expect("UTF-8"), &Config::default()).unwrap_or_else(|error| panic!("{error}"))
}

fn put(store: &Store, id: &str, code: &str) {
    let outline = Outline { symbols: Value::Null, words: "words".to_owned() };
    store.put(&Skill::new(id, code), &outline).expect("it is stored");
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_copy_is_a_library_of_its_own_and_as_private() {
    let (from, to) = (folder(), folder());
    let file = from.path().join("skills.db");
    let store = open(&file);
    fs::set_permissions(&file, Permissions::from_mode(0o640)).expect("they are its owner's to set");
    put(&store, "a", "result = 1");
    put(&store, "a", "result = 2");
    let copy = to.path().join("it's a copy.db");
    store.backup(&copy).expect("it is written");
    assert_eq!(names(to.path()), ["it's a copy.db"]);
    assert_eq!(permissions_of(&copy).map(|permissions| permissions.mode() & 0o777), Some(0o640));
    put(&store, "a", "result = 3");
    let again = open(&copy);
    assert_eq!(
        again.get("a", 0).map(|skill| (skill.version(), skill.code().to_owned())),
        Ok((2, "result = 2".to_owned()))
    );
    assert_eq!(again.get("a", 1).map(|skill| skill.code().to_owned()), Ok("result = 1".to_owned()));
    assert_eq!(again.search(&Query::words("words")).map(|found| found.len()), Ok(1));
    assert_eq!(again.check("full").expect("it is checked").findings, []);
}

#[test]
fn a_database_in_memory_can_be_kept() {
    let to = folder();
    let store = open_as(":memory:", &Config::default()).expect("it opens");
    put(&store, "a", "result = 1");
    let copy = to.path().join("kept.db");
    store.backup(&copy).expect("it is written");
    assert_eq!(permissions_of(&copy).map(|permissions| permissions.mode() & 0o777), Some(0o600));
    assert!(open(&copy).get("a", 0).is_ok());
}

#[test]
fn nothing_is_replaced_and_nothing_left_behind() {
    let folder = folder();
    let store = open(&folder.path().join("skills.db"));
    let before = names(folder.path());
    let refused = |path: &Path| store.backup(path).map_err(|error| error.code());
    let taken = folder.path().join("taken");
    fs::write(&taken, "mine").expect("written");
    assert_eq!(refused(&taken), Err(Code::Invalid));
    assert_eq!(fs::read_to_string(&taken).expect("it is there"), "mine");
    fs::remove_file(&taken).expect("removed");
    std::os::unix::fs::symlink("nowhere", &taken).expect("a link");
    assert_eq!(refused(&taken), Err(Code::Invalid));
    fs::remove_file(&taken).expect("removed");
    assert_eq!(refused(folder.path()), Err(Code::Invalid));
    assert_eq!(refused(Path::new("")), Err(Code::Invalid));
    assert_eq!(refused(&folder.path().join("none/copy.db")), Err(Code::Database));
    assert_eq!(names(folder.path()), before);
}

#[test]
fn the_name_is_not_taken_from_whoever_was_faster() {
    let folder = folder();
    let [part, target] = ["part", "target"].map(|name| folder.path().join(name));
    fs::write(&part, "new").expect("written");
    fs::write(&target, "old").expect("written");
    assert_eq!(give_name(&part, &target).map_err(|error| error.kind()), Err(io::ErrorKind::AlreadyExists));
    assert_eq!(fs::read_to_string(&target).expect("it is there"), "old");
}

#[test]
fn a_copy_made_while_others_write_is_of_one_moment() {
    let folder = folder();
    let file = folder.path().join("skills.db");
    let store = open(&file);
    put(&store, "0", "result = 1");
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let writer = open(&file);
            for number in 1.. {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                put(&writer, &number.to_string(), "result = 1");
            }
        });
        for copy in 0..5 {
            let copy = folder.path().join(format!("copy-{copy}.db"));
            store.backup(&copy).expect("it is written");
            let skills = open(&copy).list(&Filter::default()).expect("a list");
            let mut numbers: Vec<usize> = skills.iter().map(|skill| skill.id().parse().expect("a number")).collect();
            numbers.sort_unstable();
            assert!(numbers.iter().copied().eq(0..numbers.len()), "what was put before the last is there: {numbers:?}");
            assert_eq!(open(&copy).check("full").expect("it is checked").findings, []);
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

/// A file of the first schema with one skill, in a mode of the journal.
fn old_file(folder: &Path, mode: &str) -> PathBuf {
    let file = folder.join("skills.db");
    let old = Connection::open(&file).expect("a file");
    schema::create_at(&old, 1).expect("the first schema");
    old.execute_batch(&format!(
        "PRAGMA journal_mode = {mode};
         INSERT INTO skills (key, id, newest, created_at, updated_at) VALUES (1, 'a', 1, '', '');
         INSERT INTO versions (skill, version, code, content_hash, created_at) VALUES (1, 1, 'result = 1', x'00', '');",
    ))
    .expect("a skill");
    file
}

#[test]
fn a_schema_is_brought_forward_only_with_a_copy_of_what_was() {
    for mode in ["DELETE", "WAL"] {
        let folder = folder();
        let file = old_file(folder.path(), mode);
        let as_it_was = fs::read(&file).expect("it is there");
        let kept = format!("skills.db.before-v{}", schema::NEWEST);
        fs::write(folder.path().join(&kept), "somebody else's").expect("written");
        drop(open(&file));
        assert_eq!(names(folder.path()), ["skills.db", &kept, &format!("{kept}-2")]);
        let copy = Connection::open(folder.path().join(format!("{kept}-2"))).expect("it opens");
        let number = |sql: &str| copy.query_row(sql, [], |row| row.get::<_, i64>(0)).expect(sql);
        assert_eq!((number("PRAGMA user_version"), number("SELECT count(*) FROM versions")), (1, 1));
        drop(copy);
        drop(open(&file));
        assert_eq!(names(folder.path()).len(), 3, "nothing is brought forward twice");

        // Without the copy there is no migration.
        fs::write(&file, &as_it_was).expect("written");
        let origin = Origin::find(file.to_str().expect("UTF-8"), &Config::default()).expect("a place");
        let mut connection = origin.connect().expect("it opens");
        let failing = schema::migrate(&mut connection, |_| Err(Error::new(Code::Database, "no room")));
        assert_eq!(failing.expect_err("no copy").message(), "no room");
        drop(connection);
        assert!(fs::read(&file).expect("it is there") == as_it_was);
    }
}

#[test]
fn a_copy_that_cannot_be_made_says_that_nothing_was_changed() {
    let folder = folder();
    let file = old_file(folder.path(), "WAL");
    // Sound enough for SQLite to open, but a table of it cannot be read to its end.
    let connection = Connection::open(&file).expect("it opens");
    let page: usize = connection
        .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'skills_by_category'", [], |row| row.get(0))
        .expect("a number");
    drop(connection);
    let mut bytes = fs::read(&file).expect("it is there");
    bytes[(page - 1) * 4096..page * 4096].fill(0xee);
    fs::write(&file, &bytes).expect("written");
    let origin = Origin::find(file.to_str().expect("UTF-8"), &Config::default()).expect("a place");
    let error = before_migration(&origin, 9).expect_err("the copy would lack something");
    assert_eq!(error.code(), Code::Corrupt);
    assert!(
        error.message().contains("not brought to version 9") && error.message().contains("Nothing was changed"),
        "{error}"
    );
    assert!(!names(folder.path()).iter().any(|name| name.contains("before") || name.contains("part")));
}

#[test]
fn a_log_that_somebody_left_is_not_taken_for_the_copys() {
    let folder = folder();
    let store = open(&folder.path().join("skills.db"));
    for suffix in ["-wal", "-journal"] {
        let target = folder.path().join("copy.db");
        let left = folder.path().join(format!("copy.db{suffix}"));
        fs::write(&left, "of an older one").expect("written");
        let error = store.backup(&target).expect_err("the copy would be damaged at once");
        assert!(error.code() == Code::Invalid && error.message().contains(suffix), "{error}");
        fs::remove_file(left).expect("it is there");
        store.backup(&target).expect("now it can be made");
        fs::remove_file(target).expect("it is there");
    }
}

#[test]
fn a_schema_that_cannot_be_brought_forward_leaves_no_copies() {
    let folder = folder();
    let path = folder.path().join("old.db");
    let old = Connection::open(&path).expect("a file");
    schema::create_at(&old, 2).expect("the second schema");
    old.execute_batch("CREATE INDEX mine ON skills (is_active)").expect("somebody's own");
    drop(old);
    for _ in 0..3 {
        let error = open_as(path.to_str().expect("UTF-8"), &Config::default()).expect_err("the column has an index");
        assert!(error.message().contains("nothing was changed") && error.message().contains("mine"), "{error}");
    }
    let names = fs::read_dir(folder.path()).expect("a folder").flatten().map(|entry| entry.file_name());
    let copies = names.filter(|name| name.to_string_lossy().contains("before")).count();
    assert_eq!(copies, 0);
}
