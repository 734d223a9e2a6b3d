//! A file that is damaged.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use skillcache::Library;
use skillcache::json::Value;

use crate::libraries::{at, open_at, put, until};
use crate::told::{Event, all, expect, kinds, next};

/// A file with a skill in it that takes many pages. Nobody has it open.
fn file(folder: &Path) -> PathBuf {
    let path = folder.join("skills.db");
    let library = open(&path, &[]);
    put(&library, "s", &format!("# {}\nresult = 1", "x".repeat(100_000)), &[]);
    library.close();
    path
}

fn open(path: &Path, options: &[(&str, &str)]) -> Library {
    open_at(path.to_str().expect("UTF-8"), options)
}

/// Overwrites a page with a part of the skill, which is not looked at when the file is opened.
fn spoil(path: &Path) {
    let connection = Connection::open(path).expect("it is SQLite's");
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, usize>(0)).expect("a number");
    let page = number("SELECT pageno FROM dbstat WHERE name = 'versions' AND pagetype = 'overflow' LIMIT 1");
    let size = number("SELECT page_size FROM pragma_page_size");
    drop(connection);
    let mut bytes = fs::read(path).expect("it is there");
    bytes[(page - 1) * size..page * size].fill(0xff);
    fs::write(path, bytes).expect("written");
}

/// Whether it says what the health report says.
#[track_caller]
fn is_damage(event: &Event, library: &Library) {
    assert_eq!((event.kind.as_str(), event.severity.as_str()), ("store_damaged", "error"));
    event.has_fields(&["state", "at", "took_ms", "findings", "message"]);
    event.says([("state", "damaged".into()), ("message", Value::Null)]);
    let findings = at(&event.fields, "findings").as_array().expect("an array");
    assert!(!findings.is_empty());
    assert!(event.message.starts_with("the database is damaged: "), "{event:?}");
    assert!(event.message.contains(&format!("{} findings", findings.len())), "{event:?}");
    let health = library.health().expect("it is open");
    assert_eq!(at(&health, "components.store.check.findings"), at(&event.fields, "findings"));
}

#[test]
fn damage_is_told_of_by_each_check_that_finds_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = file(folder.path());
    spoil(&path);
    let library = open(&path, &[]);
    is_damage(&next(&library), &library);
    // The one in health is no check; its child says at which level it runs.
    expect(&library, ["sandbox_level"]);
    for which in ["quick", "full"] {
        library.check(which).expect("it can be made");
        is_damage(&expect(&library, ["store_damaged"])[0], &library);
    }
    let library = open(&path, &[("store.check_on_open", "off")]);
    assert_eq!(kinds(&all(&library)), [""; 0], "nobody has looked");
    library.check("quick").expect("it can be made");
    is_damage(&expect(&library, ["store_damaged"])[0], &library);
}

#[test]
fn what_the_opening_finds_is_told_before_anything_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = file(folder.path());
    Connection::open(&path).and_then(|connection| connection.execute_batch("DROP TABLE outcomes")).expect("dropped");
    let library = open(&path, &[("store.access", "read_only")]);
    is_damage(&expect(&library, ["store_damaged"])[0], &library);
}

#[test]
fn a_sound_file_is_nothing_to_tell_of() {
    let folder = tempfile::tempdir().expect("a folder");
    let library = open(&file(folder.path()), &[]);
    let state = || {
        let health = library.health().expect("it is open");
        at(&health, "components.store.check.state").as_str().expect("a name").to_owned()
    };
    until("it is checked", || state() == "sound");
    library.check("full").expect("it can be made");
    expect(&library, ["sandbox_level"]);
}
