//! A host that is killed, with a real SIGKILL, at any moment: what was acknowledged is there, the file is sound, and no child
//! outlives it.
//!
//! This program is its own host: started with a database path it puts and runs until it is killed. `SKC_KILL_ROUNDS`
//! says how often (5 unless given; `make torture` sets more). The program that kills is a subreaper: whatever the host
//! leaves behind becomes its own child, so that nothing can outlive the host unseen.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use rustix::io::Errno;
use rustix::process::{WaitOptions, set_child_subreaper, wait};
use skillcache::{CacheMode, Config, Data, Library, RunOptions, Skill};

/// Puts version after version and says so once each is acknowledged; sleeping runs are under way all the time.
fn host(path: &str) -> ! {
    let library = Library::open(path, &Config::default()).expect("the host opens");
    library.put(&Skill::new("sleeper", "import time\ntime.sleep(60)")).expect("the host puts");
    let options = RunOptions { cache: Some(CacheMode::No), ..RunOptions::default() };
    for _ in 0..2 {
        library.submit("sleeper", Data::default(), &options).expect("the host submits");
    }
    let mut version = library.get("counter", 0).map_or(0, |skill| skill.version());
    loop {
        let mut skill = Skill::new("counter", "result = parameters['n']");
        skill.set("parameters", &format!(r#"{{"n": {version}}}"#)).expect("parameters");
        version = library.put(&skill).expect("the host puts");
        println!("{version}");
        std::io::stdout().flush().expect("the test reads");
    }
}

/// Kills a host some time after its runs have begun; says the last version it acknowledged.
fn kill_one(path: &Path, after: Duration) -> u32 {
    let mut host = Command::new(env::current_exe().expect("this program has a path"))
        .arg(path)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the host starts");
    let output = BufReader::new(host.stdout.take().expect("piped"));
    let killer = thread::spawn(move || {
        let has_begun = within_ten_seconds(|| has_a_run(&host));
        thread::sleep(after);
        // Before anything can fail: a living host would be waited for below.
        host.kill().expect("SIGKILL");
        host.wait().expect("it is dead");
        assert!(has_begun, "no run began");
    });
    // The whole lines are what was acknowledged; one that the kill cut short does not end in a newline.
    let whole = |line: &String| line.ends_with('\n');
    let lines = lines_with_ends(output).take_while(whole);
    let acknowledged = lines.filter_map(|line| line.trim().parse().ok()).last();
    killer.join().expect("the killer is done");
    acknowledged.unwrap_or(0)
}

fn lines_with_ends(mut output: impl BufRead) -> impl Iterator<Item = String> {
    std::iter::from_fn(move || {
        let mut line = String::new();
        output.read_line(&mut line).ok().filter(|&length| length > 0).map(|_| line)
    })
}

/// Whether an interpreter that runs a skill is a child of a host.
fn has_a_run(host: &Child) -> bool {
    let is_run = |pid: &str| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|entry| entry.starts_with(b"SKILLCACHE_RUN="))
    };
    let threads = fs::read_dir(format!("/proc/{}/task", host.id())).into_iter().flatten().flatten();
    let children = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    children.flat_map(|pids| pids.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).any(|pid| is_run(&pid))
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

fn within_ten_seconds(holds: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while !holds() {
        if start.elapsed() > Duration::from_secs(10) {
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
    true
}

fn main() {
    if let Some(path) = env::args().nth(1).filter(|argument| argument.ends_with(".db")) {
        host(&path);
    }
    let rounds: u64 = env::var("SKC_KILL_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(5);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("skills.db");
    set_child_subreaper(Some(rustix::process::getpid())).expect("Linux has subreapers");
    let mut newest = 0;
    for round in 0..rounds {
        let after = Duration::from_millis(round * 137 % 400);
        let acknowledged = kill_one(&path, after);
        assert!(within_ten_seconds(is_alone), "round {round}: a child outlived its host");
        let library = Library::open(path.to_str().expect("UTF-8"), &Config::default()).expect("the file is sound");
        let found = library.get("counter", 0).map_or(0, |skill| skill.version());
        assert!(found >= acknowledged, "round {round}: version {acknowledged} was acknowledged, {found} is there");
        assert!(found >= newest, "round {round}: {newest} was there before");
        (1..=found).for_each(|version| drop(library.get("counter", version).expect("every version is there")));
        newest = found;
    }
    assert!(newest > 0, "the hosts came to nothing");
    println!("{rounds} hosts were killed, {newest} versions are there");
}
