//! The road from put to kept result, each step beside the plain thing a host would otherwise do, in one run.
//!
//! `cargo bench --bench road -- WORD` runs the rows whose name has the word.

mod pairing;

use std::path::Path;
use std::process::{Command, Stdio};

use pairing::{Row, heading};
use skillcache::{CacheMode, Config, Data, Library, Outcome, RunOptions, Skill};

const CODE: &str = "inputs = {'prices': []}\nresult = sum(inputs['prices']) / len(inputs['prices'])\n";

/// About 200 bytes of JSON.
fn inputs() -> String {
    let prices: Vec<String> = (0..29).map(|day| format!("{}.25", 100 + day)).collect();
    format!(r#"{{"inputs": {{"prices": [{}]}}}}"#, prices.join(","))
}

fn library(path: &str) -> Library {
    let library = Library::open(path, &Config::default()).expect("a library opens");
    library.put(&Skill::new("mean", CODE)).expect("the skill is good");
    library
}

/// The executable behind `python3`, so that the peer does not pay for a shim either.
fn interpreter() -> String {
    let answer = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().expect("python3");
    String::from_utf8(answer.stdout).expect("a path").trim().to_owned()
}

/// A run that starts its interpreter, beside starting that interpreter for nothing.
fn cold_run() {
    let library = library(":memory:");
    let (python, data) = (interpreter(), Data::parse(&inputs()).expect("JSON"));
    let options = RunOptions { cache: Some(CacheMode::No), ..RunOptions::default() };
    let row = Row { name: "cold run", peer: "python -I -S -E -c pass", blocks: 20, calls: 5, peer_calls: 5 };
    row.run(
        || {
            let result = library.run("mean", data.clone(), &options).expect("a run");
            assert_eq!(result.outcome, Outcome::Success);
        },
        || {
            let mut bare = Command::new(&python);
            bare.args(["-I", "-S", "-E", "-c", "pass"]).stdin(Stdio::null());
            assert!(bare.status().expect("it starts").success());
        },
    );
}

/// A put of a new version, on the disk when it returns, beside an insert of the same bytes with the same durability.
fn durable_put(folder: &Path) {
    let library = library(folder.join("skills.db").to_str().expect("UTF-8"));
    let plain = rusqlite::Connection::open(folder.join("plain.db")).expect("a database");
    plain
        .execute_batch(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE skill(version INTEGER PRIMARY KEY, code)",
        )
        .expect("SQL");
    let mut version = 0;
    let row = Row {
        name: "put of a new version",
        peer: "INSERT, WAL, synchronous=FULL",
        blocks: 20,
        calls: 5,
        peer_calls: 5,
    };
    let mut insert = 0;
    row.run(
        || {
            version += 1;
            library.put(&Skill::new("mean", format!("{CODE}# {version}"))).expect("a put");
        },
        || {
            insert += 1;
            plain.execute("INSERT INTO skill VALUES (?1, ?2)", (insert, format!("{CODE}# {insert}"))).expect("SQL");
        },
    );
}

fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    heading();
    cold_run();
    durable_put(folder.path());
}
