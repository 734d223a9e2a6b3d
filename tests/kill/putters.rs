//! A host whose eight threads put: nothing acknowledged is lost, nothing is torn.
//!
//! Four threads have a skill each, whose version n has the number n; the
//! other four put versions of one skill. The code is always the same, so that an interpreter is asked only once.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rusqlite::Connection;
use skillcache::{Code, Config, Library};

use super::whole::{CODE, check_newest, contents, draft};
use super::{Begun, acknowledge, kill_one, open};

const THREADS: u64 = 8;
const SHARED: &str = "shared";
/// After so many rounds the hosts get a new file, so that the last check of every version stays short.
const ROUNDS_PER_FILE: u64 = 25;
const ROUNDS_PER_INTEGRITY_CHECK: u64 = 5;
const LONGEST: Duration = Duration::from_millis(150);

fn id_of(thread: u64) -> String {
    if thread < THREADS / 2 { format!("own-{thread}") } else { SHARED.to_owned() }
}

fn ids() -> impl Iterator<Item = String> {
    (0..=THREADS / 2).map(id_of)
}

pub fn host(path: &Path, round: u64) -> ! {
    let library = open(path, &Config::default());
    // Asks the interpreter once for all threads.
    library.validate(CODE).expect("an interpreter");
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let library = &library;
            scope.spawn(move || {
                let (id, writer) = (id_of(thread), format!("{round}-{thread}"));
                let mut number = library.get(&id, 0).map_or(0, |skill| u64::from(skill.version()));
                loop {
                    number += 1;
                    let (skill, sum) = draft(&id, &writer, number);
                    let version = library.put(&skill).expect("the host puts");
                    acknowledge(&format!("{id} {version} {sum}"));
                }
            });
        }
    });
    unreachable!("the threads put for ever")
}

/// What is known to be in a file.
#[derive(Default)]
struct Known {
    /// The newest version of each skill that was seen.
    newest: BTreeMap<String, u32>,
    /// Every version that was acknowledged, and its checksum.
    acknowledged: BTreeMap<(String, u32), String>,
}

impl Known {
    fn note(&mut self, lines: &[String]) {
        for line in lines {
            let [id, version, sum] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("a host said {line}") };
            let place = (id.to_owned(), version.parse().expect("a version"));
            let other = self.acknowledged.insert(place, sum.to_owned());
            assert!(other.is_none(), "two puts were given one version: {line}");
        }
    }

    /// Looks at every version of the file, or at those that were not there the last time.
    fn check(&mut self, path: &Path, is_thorough: bool) -> Result<(), String> {
        let library = open(path, &Config::default());
        for id in ids() {
            let newest = match library.get(&id, 0) {
                Ok(skill) => {
                    check_newest(&library, &skill)?;
                    skill.version()
                }
                Err(error) if error.code() == Code::NotFound => 0,
                Err(error) => return Err(error.to_string()),
            };
            let before = self.newest.insert(id.clone(), newest).unwrap_or(0);
            let oldest_to_check = if is_thorough { 0 } else { before };
            for version in oldest_to_check + 1..=newest {
                self.check_version(&library, &id, version)?;
            }
            let lost = self.acknowledged.range((id.clone(), newest + 1)..=(id, u32::MAX)).next();
            if let Some(((id, version), _)) = lost {
                return Err(format!("{id} version {version} is lost"));
            }
        }
        Ok(())
    }

    fn check_version(&self, library: &Library, id: &str, version: u32) -> Result<(), String> {
        let skill = library.get(id, version).map_err(|error| format!("{id} version {version}: {error}"))?;
        let (number, sum) = contents(&skill)?;
        if id != SHARED && number != u64::from(version) {
            return Err(format!("{id} version {version} has the number {number}"));
        }
        match self.acknowledged.get(&(id.to_owned(), version)) {
            Some(acknowledged) if *acknowledged != sum => Err(format!("{id} version {version} has other contents")),
            _ => Ok(()),
        }
    }
}

fn check_integrity(path: &Path) {
    let connection = Connection::open(path).expect("SQLite opens the file");
    let verdict: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("it is read");
    assert_eq!(verdict, "ok");
}

pub fn kill(rounds: u64) {
    controls();
    for first in (0..rounds).step_by(ROUNDS_PER_FILE as usize) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("skills.db");
        let mut known = Known::default();
        for round in first..rounds.min(first + ROUNDS_PER_FILE) {
            let after = LONGEST.mul_f64(((round * 37 % 100) as f64 / 100.0).powi(2));
            known.note(&kill_one("putters", &path, round, Begun::Line, after));
            // Every other time the next host finds the file as the kill left it.
            let copy = (round % 2 == 1).then(|| copy_of(&path));
            let checked = copy.as_ref().map_or_else(|| path.clone(), |copy| copy.path().join("skills.db"));
            known.check(&checked, false).unwrap_or_else(|fault| panic!("round {round}: {fault}"));
            if round % ROUNDS_PER_INTEGRITY_CHECK == 0 {
                check_integrity(&checked);
            }
        }
        known.check(&path, true).unwrap_or_else(|fault| panic!("after round {first} and those behind it: {fault}"));
        check_integrity(&path);
        assert!(!known.acknowledged.is_empty(), "the hosts came to nothing");
    }
}

/// The database and its log, in a folder of their own.
fn copy_of(path: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["skills.db", "skills.db-wal"] {
        let from = path.with_file_name(name);
        if from.exists() {
            fs::copy(from, folder.path().join(name)).expect("it is copied");
        }
    }
    folder
}

/// The checks find what they are there to find.
fn controls() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("skills.db");
    let (mut skill, sum) = draft("own-0", "control", 1);
    open(&path, &Config::default()).put(&skill).expect("it is put");
    let fault_after = |lines: &[&str]| {
        let mut known = Known::default();
        known.note(&lines.iter().map(|&line| line.to_owned()).collect::<Vec<_>>());
        known.check(&path, true).expect_err("this is to be found")
    };
    let (_, other) = draft("own-0", "control", 2);
    assert_eq!(fault_after(&[&format!("own-0 2 {other}")]), "own-0 version 2 is lost");
    assert_eq!(fault_after(&[&format!("own-1 1 {sum}")]), "own-1 version 1 is lost");
    assert_eq!(fault_after(&[&format!("own-0 1 {other}")]), "own-0 version 1 has other contents");
    skill.set("description", &other).expect("a description");
    open(&path, &Config::default()).put(&skill).expect("it is put");
    assert!(fault_after(&[]).contains("is described as"));
    let mixed = format!(r#"{{"writer": "control", "number": 2, "filler": "", "sum": "{sum}"}}"#);
    skill.set("parameters", &mixed).expect("parameters");
    open(&path, &Config::default()).put(&skill).expect("it is put");
    assert!(fault_after(&[]).contains("is torn"));
}
