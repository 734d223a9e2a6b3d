//! Many threads on one library, each with every way in which a run can end: nobody gets another's answer, and nothing is
//! left behind. `SKC_STRESS_ROUNDS` is how many runs each thread makes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use skillcache::{Config, Data, Library, Outcome, RunOptions, RunResult, Skill};

const THREADS: usize = 32;
/// The one time that is meant to run out; all others are generous, for slow machines.
const SHORT_MS: u64 = 300;
const PATIENCE: Duration = Duration::from_secs(600);

/// A way to end: what its skill does after it has printed its token, and the outcome.
struct Way {
    id: &'static str,
    code: &'static str,
    outcome: Outcome,
}

const WAYS: [Way; 9] = [
    Way { id: "answers", code: "result = [inputs['token']]", outcome: Outcome::Success },
    Way { id: "raises", code: "raise ValueError(inputs['token'])", outcome: Outcome::Error },
    Way { id: "spins", code: "while True: pass", outcome: Outcome::Timeout },
    Way { id: "sleeps", code: "import time\ntime.sleep(3600)", outcome: Outcome::Timeout },
    Way { id: "faults", code: "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", outcome: Outcome::Crashed },
    Way { id: "aborts", code: "import os\nos.abort()", outcome: Outcome::Crashed },
    Way { id: "hoards", code: "hoard = bytearray(1 << 30)", outcome: Outcome::MemoryLimit },
    Way { id: "is_cancelled", code: "import time\ntime.sleep(3600)", outcome: Outcome::Cancelled },
    Way { id: "is_remembered", code: "result = inputs['n'] * 2", outcome: Outcome::Success },
];

fn open() -> Library {
    let mut config = Config::default();
    let patience = PATIENCE.as_millis().to_string();
    for (name, value) in [
        // The policy would refuse what crashes.
        ("policy.mode", "off"),
        ("sandbox.timeout_ms", patience.as_str()),
        ("task.workers", "8"),
        ("pool.timeout_ms", patience.as_str()),
    ] {
        config.set(name, value).expect("a known option");
    }
    let library = Library::open(":memory:", &config).expect("a library");
    for Way { id, code, .. } in &WAYS {
        let says =
            "import sys\nfor stream in sys.stdout, sys.stderr:\n  print(inputs['token'], file=stream, flush=True)";
        let is_remembered = *id == "is_remembered";
        let code = if is_remembered { (*code).to_owned() } else { format!("{says}\n{code}") };
        let mut skill = Skill::new(*id, code);
        skill.set("cache", if is_remembered { "yes" } else { "no" }).expect("a field");
        library.put(&skill).expect("it is Python");
    }
    library
}

/// One run of one thread.
struct Turn {
    thread: usize,
    round: usize,
}

impl Turn {
    fn way(&self) -> &'static Way {
        // Neighbouring threads do different things at the same time.
        &WAYS[(self.thread * 4 + self.round) % WAYS.len()]
    }

    fn token(&self) -> String {
        format!("token-{}-{}", self.thread, self.round)
    }

    /// Few different ones, so that most answers come from memory.
    fn number(&self) -> usize {
        self.round % 5
    }

    fn take(&self, library: &Library) -> RunResult {
        let (way, token) = (self.way(), self.token());
        let data = match way.id {
            "is_remembered" => format!(r#"{{"inputs":{{"n":{}}}}}"#, self.number()),
            _ => format!(r#"{{"inputs":{{"token":"{token}"}}}}"#),
        };
        let timeout_ms = if way.outcome == Outcome::Timeout { SHORT_MS.to_string() } else { "null".to_owned() };
        let options = format!(r#"{{"trace":"{token}","timeout_ms":{timeout_ms}}}"#);
        let (data, options) = (Data::parse(&data).expect("data"), RunOptions::parse(&options).expect("options"));
        let is_task = way.outcome == Outcome::Cancelled || self.round.is_multiple_of(3);
        if !is_task {
            return library.run(way.id, data, &options).expect("it can be run");
        }
        let task = library.submit(way.id, data, &options).expect("the queue has room");
        if way.outcome == Outcome::Cancelled {
            // Some while they wait, some while they start, some while they run.
            std::thread::sleep(Duration::from_millis((self.thread * 13 % 8 * 20) as u64));
            task.cancel();
        }
        task.wait(Some(PATIENCE)).expect("a result")
    }

    fn check(&self, result: &RunResult) {
        let (way, token) = (self.way(), self.token());
        assert_eq!((result.outcome, &*result.skill), (way.outcome, way.id), "{token}: {result:?}");
        assert_eq!(result.trace.as_deref(), Some(token.as_str()), "{result:?}");
        let failure = result.failure.as_deref();
        let expected = match way.id {
            "answers" => Some(format!("[\"{token}\"]")),
            "is_remembered" => Some((self.number() * 2).to_string()),
            _ => None,
        };
        assert_eq!(result.value.as_deref(), expected.as_deref(), "{token}: {result:?}");
        assert_eq!(failure.is_none(), way.outcome == Outcome::Success, "{token}: {result:?}");
        if way.id == "raises" {
            assert_eq!(failure.map(|failure| failure.message.as_str()), Some(token.as_str()), "{result:?}");
        }
        let signal = match way.id {
            "faults" => Some("SIGSEGV"),
            "aborts" => Some("SIGABRT"),
            _ => None,
        };
        assert_eq!(failure.and_then(|failure| failure.signal), signal, "{token}: {result:?}");
        self.check_output(result);
        self.check_usage(result);
    }

    fn check_output(&self, result: &RunResult) {
        let (way, line) = (self.way(), format!("{}\n", self.token()));
        // What was ended from outside may not have come to its first line.
        let is_ended = matches!(way.outcome, Outcome::Timeout | Outcome::Cancelled);
        for (stream, caught) in [("stdout", &result.stdout), ("stderr", &result.stderr)] {
            let is_mine = match way.id {
                "is_remembered" => caught.bytes.is_empty(),
                _ => caught.bytes == line.as_bytes() || is_ended && line.as_bytes().starts_with(&caught.bytes),
            };
            assert!(is_mine && !caught.is_truncated, "{line} {stream}: {result:?}");
        }
    }

    fn check_usage(&self, result: &RunResult) {
        let (way, token) = (self.way(), self.token());
        // Every skill has one thread; the rest is for clocks that tick, and for a host that is not let kill at once.
        assert!(result.usage.cpu <= result.duration + Duration::from_secs(5), "{token}: {result:?}");
        assert!(result.usage.peak_memory <= 192 << 20, "{token}: {result:?}");
        match way.id {
            "is_remembered" if result.is_cached => assert!(result.usage.cpu.is_zero() && result.usage.peak_memory == 0),
            "answers" | "raises" | "hoards" | "is_remembered" => {
                assert!(!result.usage.cpu.is_zero() && result.usage.peak_memory > 1 << 20, "{token}: {result:?}");
            }
            "spins" | "sleeps" => assert!(result.duration >= Duration::from_millis(SHORT_MS), "{token}: {result:?}"),
            _ => {}
        }
        assert!(!result.is_cached || way.id == "is_remembered", "{token}: {result:?}");
    }
}

/// Descriptors, threads, children and folders of this process.
fn traces() -> [usize; 4] {
    let count = |folder: &str| fs::read_dir(folder).expect("a folder").count();
    let children = fs::read_dir("/proc/self/task").expect("proc").flatten();
    let children = children.map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default());
    let children = children.map(|line| line.split_whitespace().count()).sum();
    let folders = fs::read_dir(std::env::temp_dir()).expect("a folder").count();
    [count("/proc/self/fd"), count("/proc/self/task"), children, folders]
}

/// Waits until something holds, or a minute. A thread that was joined stays in /proc until the kernel has buried it, which a
/// busy machine may put off: before the first count as well as before the last.
fn until(holds: impl Fn() -> bool) {
    let given_up = Instant::now() + Duration::from_secs(60);
    while !holds() && Instant::now() < given_up {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Says how often each outcome was seen.
fn stress(rounds: usize) -> BTreeMap<&'static str, i64> {
    let library = open();
    let results: Vec<RunResult> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let library = &library;
                scope.spawn(move || {
                    let turns = (0..rounds).map(|round| Turn { thread, round });
                    let take = |turn: Turn| {
                        let result = turn.take(library);
                        turn.check(&result);
                        result
                    };
                    turns.map(take).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("every check holds")).collect()
    });
    let mut seen = BTreeMap::new();
    results.iter().for_each(|result| *seen.entry(result.outcome.name()).or_default() += 1);
    let stats = library.stats().expect("open");
    let counted = stats.get("runs").and_then(|runs| runs.get("by_outcome")).expect("outcomes");
    for (outcome, count) in &seen {
        let counted = counted.get(outcome).and_then(|count| count.as_i64()).unwrap_or_default();
        // What was cancelled before it began is no run.
        assert!(counted == *count || *outcome == "cancelled" && counted < *count, "{outcome}: {counted}, not {count}");
    }
    let last = Turn { thread: 0, round: 0 };
    last.check(&last.take(&library));
    library.close();
    seen
}

#[test]
fn many_threads_get_their_own_outcomes_and_leave_nothing_behind() {
    const NAME: &str = "many_threads_get_their_own_outcomes_and_leave_nothing_behind";
    let rounds = std::env::var("SKC_STRESS_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(18);
    if std::env::var_os("SKC_STRESS_CHILD").is_none() {
        // In a process and a folder of its own, so that what is left behind can be told from others' business.
        let folder = tempfile::tempdir().expect("a folder");
        let mut child = Command::new(std::env::current_exe().expect("this test"));
        child.args(["--exact", NAME, "--nocapture"]).env("SKC_STRESS_CHILD", "1").env("TMPDIR", folder.path());
        assert!(child.status().expect("it starts").success());
        assert_eq!(fs::read_dir(folder.path()).expect("it is there").count(), 0);
        return;
    }
    let threads = traces()[1];
    // What is made once and kept is there after the first library.
    open().close();
    until(|| traces()[1] == threads);
    let before = traces();
    assert_eq!(before[1], threads, "no thread is kept");
    let seen = stress(rounds);
    println!("{THREADS} threads, {rounds} runs each: {seen:?}");
    until(|| traces() == before);
    assert_eq!(traces(), before, "descriptors, threads, children, folders");
    let ways: BTreeSet<_> = WAYS.iter().map(|way| way.outcome.name()).collect();
    assert_eq!(seen.into_keys().collect::<BTreeSet<_>>(), ways, "each way was taken");
}
