//! Disks that are full, as the system has them: a small file system of its own, where one can be mounted, and a limit to the
//! size of files, everywhere. Each in a process of its own, without the VFS of the other tests.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rustix::process::{Resource, Rlimit, getrlimit, getuid, setrlimit};
use skillcache::json::Value;
use skillcache::{Code, Data, Filter, Library, RunOptions, Skill};

use super::faults::until_counted;
use super::truth::{Truth, settle};
use super::{DATABASE, check_integrity, open};

const MOUNTED_BYTES: usize = 3 << 20;
/// What is taken away when the disk is full, to make room.
const BALLAST_BYTES: usize = 1 << 20;
const LIMIT_BYTES: u64 = 1 << 20;
/// More than fit.
const MOST_PUTS: usize = 2000;
const DONE: &str = "done";

/// Says that a file system was mounted where it was asked for.
const MOUNT: &str = r#"mount -t tmpfs -o size="$1" tmpfs "$2" && echo mounted && exec "$3" mounted "$2""#;
/// The signal that comes with the limit is ignored, as by a host that wants an error.
const IGNORE: &str = r#"trap '' XFSZ && exec "$1" limited "$2""#;

pub fn fill() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = env::current_exe().expect("this program has a path");
    let mut limited = Command::new("sh");
    limited.args(["-c", IGNORE, "sh"]).arg(&program).arg(folder.path());
    check(&limited.output().expect("there is a shell"));

    let folder = tempfile::tempdir().expect("a folder");
    let mut mounted = Command::new("unshare");
    mounted.arg("--mount");
    if !getuid().is_root() {
        mounted.args(["--user", "--map-root-user"]);
    }
    mounted.args(["sh", "-c", MOUNT, "sh", &MOUNTED_BYTES.to_string()]).arg(folder.path()).arg(&program);
    // Not every machine lets one mount, or has these commands; the limit does the same.
    match mounted.stderr(Stdio::piped()).stdout(Stdio::piped()).output() {
        Ok(output) if String::from_utf8_lossy(&output.stdout).contains("mounted") => check(&output),
        _ => {}
    }
}

fn check(output: &Output) {
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim_end().ends_with(DONE), "{}: {said}{complaint}", output.status);
}

/// The part of a process whose disk gets full.
pub fn child(kind: &str, folder: &Path) {
    let ballast = folder.join("ballast");
    let (limit, make_room): (_, Box<dyn Fn()>) = if kind == "mounted" {
        fs::write(&ballast, vec![1; BALLAST_BYTES]).expect("there is room");
        ("full", Box::new(move || fs::remove_file(&ballast).expect("it is there")))
    } else {
        ("disk I/O error", Box::new(|| limit_files(None)))
    };
    let path = folder.join(DATABASE);
    let library = open(&path).expect("there is room");
    let mut truths = [Truth::new("first"), Truth::new("second")];
    // An interpreter is asked before there is a limit.
    truths[0].put(&library).expect("there is room");
    library.put(&Skill::new("seven", "result = 7")).expect("there is room");
    run(&library);
    if kind == "limited" {
        limit_files(Some(LIMIT_BYTES));
    }
    let error = (0..MOST_PUTS).find_map(|round| truths[round % 2].put(&library).err()).expect("the disk gets full");
    assert!(error.code() == Code::Database && error.message().contains(limit), "{error:?}");
    // What is there can be run and read (that it was run is written when there is room), and what is refused is refused again.
    run(&library);
    settle(&mut truths, &library).expect("nothing is lost");
    assert!(!library.list(&Filter::default()).expect("a list").is_empty());
    truths[0].put(&library).expect_err("still full");
    let health = library.health().expect("open");
    let store = health.get("components").and_then(|components| components.get("store")).expect("a component");
    assert_eq!(store.get("status").and_then(Value::as_str), Some("degraded"), "{store:?}");
    settle(&mut truths, &library).expect("nothing is lost");
    make_room();
    until_counted(&library, 2);
    truths.iter_mut().for_each(|truth| truth.put(&library).expect("there is room again"));
    settle(&mut truths, &library).expect("nothing is lost");
    drop(library);
    settle(&mut truths, &open(&path).expect("it is sound")).expect("nothing is lost");
    check_integrity(&path);
    println!("{DONE}");
}

fn run(library: &Library) {
    let result = library.run("seven", Data::default(), &RunOptions::default()).expect("it can be run");
    assert_eq!(result.value.as_deref(), Some("7"));
}

fn limit_files(bytes: Option<u64>) {
    let Rlimit { maximum, .. } = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, Rlimit { current: bytes.or(maximum), maximum }).expect("below the hard limit");
}
