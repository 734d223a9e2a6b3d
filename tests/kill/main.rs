//! Hosts that are killed, with a real SIGKILL, at any moment: what was acknowledged is there, the file is sound, what is kept
//! is right, and no child outlives its host.
//!
//! This program is its own host: started with a kind of host and a database path it does what that kind does until it is
//! killed. There are three kinds, each with its file: `sleepers` has runs under way, `putters` puts from eight threads,
//! `fillers` keeps results. The program that kills is a subreaper: whatever a host leaves behind becomes its own child, so
//! that nothing can outlive the host unseen.
//!
//! `SKC_KILL_ROUNDS`, `SKC_KILL_PUT_ROUNDS` and `SKC_KILL_FILL_ROUNDS` say how often; `make torture` sets more.

mod fillers;
mod putters;
mod sleepers;
#[path = "../whole/mod.rs"]
mod whole;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use rustix::io::Errno;
use rustix::process::{WaitOptions, set_child_subreaper, wait};
use skillcache::{Config, Library};

/// What a host must have come to before its time begins to run.
#[derive(Clone, Copy, PartialEq)]
enum Begun {
    /// Something was acknowledged.
    Line,
    /// And a skill runs.
    LineAndRun,
}

/// How long a host may take to begin, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long the kernel may take to end what a killed host leaves: less than what is left would live.
const SOON: Duration = Duration::from_secs(30);

/// Kills a host of this kind some time after it has begun; gives the lines that it acknowledged.
fn kill_one(kind: &str, path: &Path, round: u64, begun: Begun, after: Duration) -> Vec<String> {
    let mut host = Command::new(env::current_exe().expect("this program has a path"))
        .args([kind, path.to_str().expect("UTF-8"), &round.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the host starts");
    let output = BufReader::new(host.stdout.take().expect("piped"));
    let (first, has_line) = mpsc::channel();
    let killer = thread::spawn(move || {
        let mut has_begun = has_line.recv_timeout(PATIENCE).is_ok();
        if begun == Begun::LineAndRun {
            has_begun &= within(PATIENCE, || has_a_run(&host));
        }
        thread::sleep(after);
        // Before anything can fail: a living host would be waited for below.
        host.kill().expect("SIGKILL");
        host.wait().expect("it is dead");
        assert!(has_begun, "the host came to nothing");
    });
    // The whole lines are what was acknowledged; one that the kill cut short does not end in a newline.
    let whole = |line: &String| line.ends_with('\n');
    let lines = lines_with_ends(output).take_while(whole).inspect(|_| _ = first.send(()));
    let lines = lines.map(|line| line.trim().to_owned()).collect();
    killer.join().expect("the killer is done");
    assert!(within(SOON, is_alone), "{kind}, round {round}: a child outlived its host");
    lines
}

/// Says, from a host, that something is done. One write: the kill may cut it short, never mix it with another.
fn acknowledge(line: &str) {
    std::io::stdout().lock().write_all(format!("{line}\n").as_bytes()).expect("the test reads");
}

fn lines_with_ends(mut output: impl BufRead) -> impl Iterator<Item = String> {
    std::iter::from_fn(move || {
        let mut line = String::new();
        output.read_line(&mut line).ok().filter(|&length| length > 0).map(|_| line)
    })
}

/// Whether an interpreter that runs a skill is below a host: a child of one of its supervisors.
fn has_a_run(host: &Child) -> bool {
    children(host.id()).into_iter().any(|supervisor| !children(supervisor).is_empty())
}

fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let texts = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    texts.flat_map(|text| text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
}

/// Whether nothing is left of what the host had started; collects the dead.
fn is_alone() -> bool {
    loop {
        match wait(WaitOptions::NOHANG) {
            Err(Errno::CHILD) => return true,
            Ok(None) => return false,
            Ok(Some(_)) | Err(_) => {}
        }
    }
}

fn within(patience: Duration, holds: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while !holds() {
        if start.elapsed() > patience {
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
    true
}

fn rounds(variable: &str, otherwise: u64) -> u64 {
    env::var(variable).map_or(otherwise, |rounds| rounds.parse().expect("a number of rounds"))
}

fn open(path: &Path, config: &Config) -> Library {
    Library::open(path.to_str().expect("UTF-8"), config).expect("the file is sound")
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [kind, path, round] = arguments.as_slice() {
        let (path, round) = (Path::new(path), round.parse().expect("a round"));
        match kind.as_str() {
            "sleepers" => sleepers::host(path),
            "putters" => putters::host(path, round),
            "fillers" => fillers::host(path),
            _ => panic!("there is no such host"),
        }
    }
    set_child_subreaper(Some(rustix::process::getpid())).expect("Linux has subreapers");
    sleepers::kill(rounds("SKC_KILL_ROUNDS", 5));
    putters::kill(rounds("SKC_KILL_PUT_ROUNDS", 100));
    fillers::kill(rounds("SKC_KILL_FILL_ROUNDS", 6));
}
