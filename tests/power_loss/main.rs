//! Disks that lose their power, fail or are full: what was acknowledged is there, errors are clear, and a library whose disk
//! works again works again.
//!
//! `disk` is such a disk, `vfs` SQLite's door to it: the default VFS of this process, hence a process of its own. `truth`
//! knows what must be there. `power`, `faults` and `full` are the tests.
//!
//! The disks that are full are real ones, in processes of their own.
//!
//! `SKC_POWER_LIVES` says how often the power is cut; `SKC_FAULT_STRIDE` how many moments lie between two at which something
//! fails, 1 for each of them. `make torture` sets both.

mod disk;
mod faults;
mod full;
mod power;
mod truth;
#[allow(unsafe_code, reason = "SQLite has no safe door for a VFS")]
mod vfs;
#[path = "../whole/mod.rs"]
mod whole;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use std::{env, process, thread};

use rusqlite::Connection;
use skillcache::{Config, Error, Library};
use tempfile::TempDir;

use disk::{Call, Image, write_image};
use faults::Met;

const DATABASE: &str = "skills.db";
/// How long a call waits for a connection that cannot be opened, and for a lock.
const PATIENCE: Duration = Duration::from_secs(60);
/// A step takes well under a second. A call that has not come back by then never will.
const LONGEST_STEP: Duration = Duration::from_secs(300);

static STEPS: AtomicU64 = AtomicU64::new(0);

fn open(path: &Path) -> Result<Library, Error> {
    open_with(path, PATIENCE)
}

fn open_with(path: &Path, patience: Duration) -> Result<Library, Error> {
    let mut config = Config::default();
    config.set("pool.timeout_ms", &patience.as_millis().to_string()).expect("a known option");
    // Its thread would take what fails from whom it is meant for.
    config.set("store.check_on_open", "off").expect("a known option");
    Library::open(path.to_str().expect("UTF-8"), &config)
}

/// A new folder with an image in it.
fn begin(image: &Image) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    write_image(image, folder.path());
    folder
}

fn check_integrity(path: &Path) {
    let connection = Connection::open(path).expect("SQLite opens the file");
    let verdict: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("it is read");
    assert_eq!(verdict, "ok");
}

fn number(variable: &str, otherwise: u64) -> u64 {
    env::var(variable).map_or(otherwise, |number| number.parse().expect("a number"))
}

/// Says that the test goes on.
fn step() {
    STEPS.fetch_add(1, Ordering::Relaxed);
}

/// Ends the test if a call hangs.
fn watch() {
    let mut seen = u64::MAX;
    while seen != STEPS.load(Ordering::Relaxed) {
        seen = STEPS.load(Ordering::Relaxed);
        thread::sleep(LONGEST_STEP);
    }
    eprintln!("a call has not come back within {LONGEST_STEP:?}, after {seen} steps");
    process::exit(1);
}

fn main() {
    if let [kind, folder] = env::args().skip(1).collect::<Vec<_>>().as_slice() {
        return full::child(kind, Path::new(folder));
    }
    vfs::install();
    thread::spawn(watch);
    power::controls();
    power::cut(number("SKC_POWER_LIVES", 24));
    let stride = number("SKC_FAULT_STRIDE", 7) as usize;
    power::cut_while_opening(stride);
    faults::reads_go_on();
    let mut met = Met::new();
    faults::in_use(stride, &mut met);
    faults::in_opening(stride, &mut met);
    faults::in_closing(stride, &mut met);
    Call::ALL.iter().for_each(|call| assert!(met[call] > 0, "nothing met a {call:?} that fails"));
    full::fill();
}
