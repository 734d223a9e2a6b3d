//! What confinement costs: a cold run under all layers, beside the same program in the bare interpreter, in bubblewrap, in our
//! own child without layers, and the reference's way (a file, a plain interpreter); and how soon a result is there.
//!
//! `cargo bench --bench confinement -- WORD` runs the rows whose name has the word. Without bubblewrap its row is left out.

mod pairing;

use std::hint::black_box;
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use pairing::{Row, heading};
use skillcache::{CacheMode, Config, Data, Library, Outcome, RunOptions, Skill};

const CODE: &str = "inputs = {'prices': []}\nresult = sum(inputs['prices']) / len(inputs['prices'])\n";
const ALONE: &str =
    "inputs = {'prices': [100.25, 101.25, 102.25]}\nprint(sum(inputs['prices']) / len(inputs['prices']))\n";
/// The last thing a skill does is to look at the clock that the host looks at as well.
const LAST_STATEMENT: &str = "import time\nresult = time.clock_gettime_ns(time.CLOCK_MONOTONIC)\n";
/// What goes on behind a skill's back: threads that write and sleep, as far as it may start them.
const STRAGGLERS: &str = "import threading, time\n\
    def go_on():\n  while True:\n    print('x' * 999)\n    time.sleep(0.001)\n\
    for _ in range(8): threading.Thread(target=go_on, daemon=True).start()\n\
    time.sleep(0.01)\nresult = time.clock_gettime_ns(time.CLOCK_MONOTONIC)\n";
/// A process in a session of its own that keeps the run's pipes open. It takes a sandbox without the filter.
const DETACHED: &str = "import os, time\n\
    if os.fork() == 0:\n  os.setsid()\n  time.sleep(60)\n\
    time.sleep(0.01)\nresult = time.clock_gettime_ns(time.CLOCK_MONOTONIC)\n";

struct Runs {
    library: Library,
    data: Data,
}

impl Runs {
    fn new(code: &str, options: &[(&str, &str)]) -> Self {
        let mut config = Config::default();
        let all = [("policy.mode", "off")].iter().chain(options);
        all.for_each(|(name, value)| config.set(name, value).expect("a known option"));
        let library = Library::open(":memory:", &config).expect("a library opens");
        library.put(&Skill::new("skill", code)).expect("the skill is good");
        Runs { library, data: Data::parse(r#"{"inputs": {"prices": [100.25, 101.25, 102.25]}}"#).expect("JSON") }
    }

    /// Runs it once and says the answer.
    fn once(&self) -> String {
        let options = RunOptions { cache: Some(CacheMode::No), ..RunOptions::default() };
        let result = self.library.run("skill", self.data.clone(), &options).expect("a run");
        assert_eq!(result.outcome, Outcome::Success);
        result.value.as_deref().unwrap_or_default().to_owned()
    }

    /// How long after its last statement the result is here.
    fn lag(&self) -> Duration {
        let last: u64 = self.once().parse().expect("nanoseconds");
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let now = Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).expect("below a second"));
        now.saturating_sub(Duration::from_nanos(last))
    }
}

fn start(command: &mut Command) {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
    assert!(status.expect("it starts").success());
}

/// The executable behind `python3`, so that no peer pays for a shim.
fn interpreter() -> String {
    let answer = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().expect("python3");
    String::from_utf8(answer.stdout).expect("a path").trim().to_owned()
}

fn row(name: &'static str, peer: &'static str) -> Row<'static> {
    Row { name, peer, blocks: 30, calls: 5, peer_calls: 5 }
}

/// A host of some size, in a process of its own, that makes a run whenever it is sent a byte.
struct Host {
    process: Child,
    ask: ChildStdin,
    answer: ChildStdout,
}

impl Host {
    fn of(resident_gib: usize) -> Self {
        let program = std::env::current_exe().expect("this program has a path");
        let mut process = Command::new(program)
            .env("SKC_BENCH_HOST_GIB", resident_gib.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let (ask, answer) = (process.stdin.take().expect("piped"), process.stdout.take().expect("piped"));
        Host { process, ask, answer }
    }

    fn run(&mut self) {
        self.ask.write_all(b"r").expect("it listens");
        self.answer.read_exact(&mut [0]).expect("it answers");
    }

    /// What such a process does.
    fn serve(resident_gib: usize) {
        let resident = black_box(vec![1u8; resident_gib << 30]);
        let runs = Runs::new(CODE, &[]);
        while std::io::stdin().read_exact(&mut [0]).is_ok() {
            runs.once();
            let mut output = std::io::stdout();
            output.write_all(b"d").and_then(|()| output.flush()).expect("somebody listens");
        }
        drop(black_box(resident));
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn main() {
    if let Some(gib) = std::env::var("SKC_BENCH_HOST_GIB").ok().and_then(|gib| gib.parse().ok()) {
        return Host::serve(gib);
    }
    heading();
    let python = interpreter();
    let confined = Runs::new(CODE, &[]);
    let once = || drop(confined.once());
    let inside = ["-I", "-S", "-E", "-c", ALONE];
    row("confined cold run", "python -I -S -E around the same program")
        .run(once, || start(Command::new(&python).args(inside)));
    let unconfined = [("sandbox.mode", "best_effort"), ("sandbox.without", "namespaces, landlock, seccomp")];
    let bare = Runs::new(CODE, &unconfined);
    row("confined cold run", "our own child without layers").run(once, || drop(bare.once()));
    if Command::new("bwrap").arg("--version").output().is_ok() {
        let wrapped = ["--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", "--tmpfs", "/tmp", &python];
        row("confined cold run", "bubblewrap around the same program")
            .run(once, || start(Command::new("bwrap").args(wrapped).args(inside)));
    }
    let file = tempfile::Builder::new().suffix(".py").tempfile().expect("a file");
    std::fs::write(file.path(), ALONE).expect("written");
    row("confined cold run", "the reference's way: `python FILE`")
        .run(once, || start(Command::new(&python).arg(file.path())));
    // The page tables of a large host must not be copied.
    let (mut large, mut small) = (Host::of(4), Host::of(0));
    row("confined cold run, host of 4 GB", "the same from a small host").run(|| large.run(), || small.run());
    drop((large, small));
    let (quiet, busy) = (Runs::new(LAST_STATEMENT, &[]), Runs::new(STRAGGLERS, &[]));
    row("result after the last statement, 8 threads busy", "the same without stragglers")
        .run_timed(|| busy.lag(), || quiet.lag());
    let unfiltered = Runs::new(DETACHED, &[("sandbox.mode", "best_effort"), ("sandbox.without", "seccomp")]);
    row("result after the last statement, one detached", "the same without stragglers")
        .run_timed(|| unfiltered.lag(), || quiet.lag());
}
