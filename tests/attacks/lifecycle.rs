//! Attempts 62 and 64: the host's end, and many runs.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use skillcache::{Data, RunOptions, Skill};

use crate::host::{self, assert_all_is_well, confined, run};
use crate::situations::Situation;

/// Set where a test is alone in a process of its own.
const ALONE: &str = "SKC_ALONE";

pub fn is_alone() -> bool {
    std::env::var_os(ALONE).is_some()
}

/// This program with one test, in the same situation: filters and user are inherited.
pub fn alone(test: &str, folder: &tempfile::TempDir) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    command.args(["--exact", test, "--nocapture"]).env(ALONE, "1").env("TMPDIR", folder.path()).stdout(Stdio::piped());
    command
}

/// Runs sleepers, and a bystander that nothing ties to it, until it is killed; started by the test below.
#[test]
fn a_host_to_be_killed() {
    if !is_alone() {
        return;
    }
    let library = confined(&[("sandbox.timeout_ms", "300000")]);
    library.put(&Skill::new("sleeper", "import time\ntime.sleep(300)")).expect("it is Python");
    for _ in 0..2 {
        library.submit("sleeper", Data::default(), &RunOptions::default()).expect("queued");
    }
    let mut bystander = host::bare("import time\ntime.sleep(300)").stdout(Stdio::null()).spawn().expect("it starts");
    println!("bystander {}", bystander.id());
    // Not reached: this process is killed first.
    bystander.wait().expect("a child");
}

fn within_a_minute(holds: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while !holds() && start.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(10));
    }
    holds()
}

#[test]
fn attempt_62_runs_end_with_their_host() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut killed = alone("lifecycle::a_host_to_be_killed", &folder).spawn().expect("it starts");
    let mut lines = BufReader::new(killed.stdout.take().expect("piped")).lines().map_while(Result::ok);
    let bystander = lines.find_map(|line| line.rsplit_once("bystander ")?.1.trim().parse().ok()).expect("it says so");
    assert!(within_a_minute(|| host::interpreters_below(killed.id()).len() >= 2), "no run began");
    let runs = host::interpreters_below(killed.id());
    killed.kill().and_then(|()| killed.wait()).expect("it ends");
    let is_over = || runs.iter().all(|pid| !host::is_alive(*pid));
    assert!(within_a_minute(is_over), "a run outlived its host: {runs:?}");
    // What is no run lives on.
    assert!(host::is_alive(bystander));
    let pid = rustix::process::Pid::from_raw(i32::try_from(bystander).expect("small")).expect("not 0");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it ends");
}

/// What a host can count of what it holds: descriptors, children, mounts, and folders of runs.
fn holdings() -> [usize; 4] {
    let count = |path: &str| fs::read_dir(path).expect("a folder").count();
    let lines = |path: &str| fs::read_to_string(path).unwrap_or_default().lines().count();
    let tasks = fs::read_dir("/proc/self/task").expect("proc").flatten();
    let children = |task: fs::DirEntry| fs::read_to_string(task.path().join("children")).unwrap_or_default();
    let children = tasks.map(|task| children(task).split_whitespace().count()).sum();
    let folders = fs::read_dir(std::env::temp_dir()).expect("a folder").count();
    [count("/proc/self/fd"), children, lines("/proc/self/mounts"), folders]
}

/// The memory segments of the machine. Other tests, in other processes, make some and remove them again.
fn segments() -> BTreeSet<String> {
    let table = fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
    table.lines().skip(1).filter_map(|row| row.split_whitespace().nth(1)).map(str::to_owned).collect()
}

#[test]
fn attempt_64_many_runs_leave_nothing() {
    if !is_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let ended = alone("lifecycle::attempt_64_many_runs_leave_nothing", &folder).output().expect("it starts");
        crate::situations::assert_success(&ended);
        assert_eq!(fs::read_dir(folder.path()).expect("it is there").count(), 0);
        return;
    }
    // `make torture` runs ten thousand, in tests/confined.rs.
    let rounds = if Situation::now().has_controls() { 50 } else { 20 };
    let library = confined(&[("sandbox.max_memory_mb", "128")]);
    let hasty = confined(&[("sandbox.max_memory_mb", "128"), ("sandbox.timeout_ms", "400")]);
    let endings = [
        "open('x', 'w').write('x')\nresult = 1",
        "1 / 0",
        "import os\nos.kill(os.getpid(), 9)\nos._exit(1)",
        "import os\nos.close(3)\nos._exit(3)",
        "x = bytearray(1 << 30)",
    ];
    let waits = "import os\ntry: os.fork()\nexcept OSError: pass\nimport time\ntime.sleep(9)";
    endings.iter().for_each(|code| drop(run(&library, code)));
    run(&hasty, waits);
    let (before, segments_before) = (holdings(), segments());
    for round in 0..rounds {
        run(&library, endings[round % endings.len()]);
    }
    // What waits for its time to end is slow; once is enough.
    run(&hasty, waits);
    assert_eq!(holdings(), before);
    assert!(within_a_minute(|| segments().is_subset(&segments_before)), "{:?}", segments());
    // The control: what leaks is counted.
    let _leak = fs::File::open("/dev/null").expect("a file");
    assert_ne!(holdings(), before);
    assert_all_is_well(&library, "many runs");
}
