//! Attempts 1 to 13: processes, threads, signals, priorities.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use skillcache::{Data, Outcome, RunOptions, Skill};

use crate::host::Control::{Bare, BareRoot, Succeeds};
use crate::host::{self, Attempt, Host, answer, assert_all_is_well, attempt, confined, filtered, run, unconfined};
use crate::situations::Situation;

pub const ATTEMPTS: &[Attempt] = &[
    filtered(1, "fork", Succeeds, "def f():\n  if os.fork() == 0: os._exit(0)\nresult = tried(f)"),
    filtered(
        1,
        "posix_spawn, which is vfork",
        Succeeds,
        "result = tried(os.posix_spawn, sys.executable, [sys.executable, '-c', ''], {}) > 0",
    ),
    filtered(
        1,
        "clone3",
        Succeeds,
        "import ctypes\nargs = (ctypes.c_uint64 * 8)()\nargs[4] = 17\npid = raw(435, args, 64)\nif pid == 0: os._exit(0)\nresult = pid > 0",
    ),
    filtered(
        3,
        "setsid and a double fork",
        Succeeds,
        "def f():\n  if os.fork() == 0:\n    os.setsid()\n    os.fork()\n    os._exit(0)\nresult = tried(f)",
    ),
    // Signal 0 asks for the same permission and is harmless where it is given.
    attempt(9, "signal the host", Succeeds, "result = tried(os.kill, PID, 0)"),
    attempt(
        9,
        "signal by F_SETOWN",
        Succeeds,
        "import fcntl\nresult = tried(fcntl.fcntl, 1, fcntl.F_SETOWN, PID) is not False",
    ),
    attempt(
        9,
        "signal by a descriptor of the process",
        Succeeds,
        "fd = raw(434, PID, 0)\nresult = fd >= 0 and call(424, fd, 0, 0, 0)",
    ),
    attempt(
        10,
        "be in the host's group or session",
        Bare,
        "result = os.getpgid(0) == GROUP or os.getsid(0) == SESSION",
    ),
    filtered(
        11,
        "execve",
        Succeeds,
        "try:\n  os.execv('/nowhere', ['x'])\nexcept OSError as e:\n  result = e.errno == 2",
    ),
    filtered(11, "execveat", Succeeds, "result = raw(322, -100, b'/nowhere', 0, 0, 0) == -2"),
    filtered(11, "memfd_create", Succeeds, "result = tried(os.memfd_create, 'x') is not False"),
    filtered(
        11,
        "a program in memory",
        Succeeds,
        "def f():\n  fd = os.memfd_create('x', 0)\n  os.write(fd, open(sys.executable, 'rb').read())\n  pid = os.fork()\n  \
         if pid == 0: os.execve(fd, ['x', '-I', '-S', '-c', ''], {})\n  return os.waitpid(pid, 0)[1] == 0\nresult = tried(f)",
    ),
    attempt(13, "a higher priority", BareRoot, "result = tried(os.nice, -5) is not False"),
    attempt(
        13,
        "real time",
        BareRoot,
        "result = tried(lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)))",
    ),
    attempt(13, "priority at the disk", BareRoot, "result = call(251, 1, 0, 1 << 13)"),
];

#[test]
fn attempt_01_a_fork_bomb_makes_no_process() {
    let code = "import os, time\nmade = 0\nfor _ in range(32):\n  try:\n    if os.fork() == 0:\n      time.sleep(60)\n      \
        os._exit(0)\n    made += 1\n  except OSError:\n    break\nresult = made";
    let library = confined(&[]);
    let made = answer(&library, code);
    assert!(made == "0" || !Situation::now().has_filter(), "{made} processes");
    assert_all_is_well(&library, "a fork bomb");
    if Situation::now().has_controls() {
        let library = unconfined(&[]);
        assert_eq!(answer(&library, code), "32");
        assert_all_is_well(&library, "a fork bomb");
    }
}

/// Starts so many threads as it can, says how many, and goes on for ever.
fn thread_bomb(most: u32) -> String {
    format!(
        "import threading, time\nthreading.stack_size(32768)\nstarted = 0\ntry:\n  while started < {most}:\n    \
         threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n    started += 1\n\
         except (RuntimeError, MemoryError):\n  pass\nprint(started, flush=True)\ntime.sleep(60)"
    )
}

#[test]
fn attempt_02_a_thread_bomb_is_bounded_and_the_host_answers() {
    // How many it started, if it came to say so and the other one came to its answer before its time was over.
    let started_within = |library: &skillcache::Library, most: u32, millis: u64| {
        library.put(&Skill::new("bomb", thread_bomb(most))).expect("it is Python");
        library.put(&Skill::new("other", "result = 1")).expect("it is Python");
        let its_time = RunOptions::parse(&format!(r#"{{"timeout_ms":{millis}}}"#)).expect("options");
        let bomb = library.submit("bomb", Data::default(), &its_time).expect("queued");
        std::thread::sleep(Duration::from_millis(millis / 5));
        let uncached = RunOptions::parse(r#"{"cache":"no"}"#).expect("options");
        let other = library.run("other", Data::default(), &uncached).expect("it can be run");
        assert_eq!(other.outcome, Outcome::Success, "{other:?}");
        let is_answered = !bomb.is_finished();
        let result = bomb.wait(None).expect("a result");
        assert!(matches!(result.outcome, Outcome::Timeout | Outcome::MemoryLimit), "{result:?}");
        assert_eq!(host::survivors(), Vec::<String>::new());
        let started = String::from_utf8_lossy(&result.stdout.bytes).trim().parse::<u32>().ok();
        // What is out of memory may not come to say it.
        started.or((result.outcome == Outcome::MemoryLimit).then_some(0)).filter(|_| is_answered)
    };
    let started = |library: &skillcache::Library, most: u32| {
        let mut tried = [2000, 10_000, 60_000].into_iter().map(|millis| started_within(library, most, millis));
        tried.find_map(|started| started).expect("the host answers while it goes on")
    };
    assert!(started(&confined(&[("sandbox.max_memory_mb", "128")]), 5000) < 5000);
    if Situation::now().has_controls() {
        assert_eq!(started(&unconfined(&[("sandbox.max_memory_mb", "8192")]), 300), 300);
    }
}

#[test]
fn threads_are_bounded_where_a_user_namespace_counts_them() {
    let code = "import threading, time\nthreading.stack_size(32768)\nstarted = 0\ntry:\n  for i in range(200):\n    \
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n    started += 1\nexcept RuntimeError: pass\n\
        result = started";
    let result = run(&confined(&[]), code);
    let started: usize =
        result.value.as_deref().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{result:?}"));
    let layers = result.confinement.expect("it ran").layers.clone();
    assert_eq!(started < 16, layers.iter().any(|layer| layer == "user"), "{started} threads under {layers:?}");
}

/// Detaches itself and holds everything open.
const STRAGGLER: &str = "import os, time\ntry:\n  if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0: time.sleep(60)\n    \
    os._exit(0)\n  result = 'made'\nexcept OSError:\n  result = 'refused'\n";

fn straggler_made() -> &'static str {
    if Situation::now().has_filter() { "\"refused\"" } else { "\"made\"" }
}

#[test]
fn attempt_03_what_detaches_itself_is_ended_with_its_run() {
    for ending in ["", "time.sleep(60)", "os.kill(os.getpid(), 9)", "os._exit(0)"] {
        let code = format!("{STRAGGLER}print(result, flush=True)\ntime.sleep(0.1)\n{ending}");
        let mut ways: Vec<fn(host::Options) -> skillcache::Library> = vec![confined];
        ways.extend(Situation::now().has_controls().then_some(unconfined as fn(host::Options) -> skillcache::Library));
        for open in ways {
            let has_said = |result: &skillcache::RunResult| result.stdout.bytes.ends_with(b"\n");
            let (library, result) = if ending == "time.sleep(60)" {
                host::run_until_its_time_is_over(open, &code, has_said)
            } else {
                let library = open(&[]);
                let result = run(&library, &code);
                (library, result)
            };
            let is_confined = result.level() != "process-only";
            let made = if is_confined { straggler_made().trim_matches('"') } else { "made" };
            assert_eq!(String::from_utf8_lossy(&result.stdout.bytes).trim(), made, "{result:?}");
            assert_all_is_well(&library, "a daemon");
        }
    }
}

#[test]
fn attempt_04_a_child_that_holds_the_pipes_is_not_waited_for() {
    let code = "import os, time\ntry:\n  if os.fork() == 0:\n    time.sleep(100)\n  result = 'made'\nexcept OSError:\n  result = 'refused'";
    for library in host::with_and_without_layers(&[]) {
        // With an interpreter that has been found, so that this is the run's own time.
        answer(&library, "result = 1");
        let start = Instant::now();
        let result = run(&library, code);
        let made = if result.level() == "process-only" { "\"made\"" } else { straggler_made() };
        assert_eq!(result.value.as_deref(), Some(made), "{result:?}");
        assert!(start.elapsed() < Duration::from_secs(60));
        assert_all_is_well(&library, "a child that holds the pipes");
    }
}

#[test]
fn attempt_05_a_run_that_ignores_every_signal_is_ended_in_time() {
    let code = "import signal, time\nfor s in range(1, 65):\n  try: signal.signal(s, signal.SIG_IGN)\n  except (OSError, ValueError): pass\n\
        print('deaf', flush=True)\nwhile True: time.sleep(60)";
    let is_deaf = |result: &skillcache::RunResult| result.stdout.bytes == b"deaf\n";
    let (library, result) = host::run_until_its_time_is_over(confined, code, is_deaf);
    assert!(result.duration < Duration::from_secs(100));
    assert_all_is_well(&library, "a deaf run");
    if Situation::now().has_controls() {
        let mut deaf = host::bare(code).stdout(Stdio::piped()).spawn().expect("it starts");
        let mut line = String::new();
        BufReader::new(deaf.stdout.take().expect("piped")).read_line(&mut line).expect("it speaks");
        let pid = rustix::process::Pid::from_child(&deaf);
        for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT, rustix::process::Signal::HUP] {
            rustix::process::kill_process(pid, signal).expect("it lives");
        }
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(deaf.try_wait().expect("a child"), None, "it does ignore signals");
        deaf.kill().and_then(|()| deaf.wait()).expect("it ends");
    }
}

#[test]
fn attempt_06_processor_time_is_bounded_even_where_its_signal_is_ignored() {
    let code = "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass";
    let library = confined(&[("sandbox.max_cpu_s", "1")]);
    let result = run(&library, code);
    assert_eq!(result.outcome, Outcome::Timeout, "{result:?}");
    assert!(result.failure.as_ref().is_some_and(|failure| failure.message.contains("processor time")), "{result:?}");
    assert!(result.usage.cpu < Duration::from_secs(10), "{result:?}");
    if Situation::now().has_controls() {
        // With more of it, wall-clock time is what ends it.
        let result = run(&unconfined(&[("sandbox.timeout_ms", "1200"), ("sandbox.max_cpu_s", "60")]), code);
        assert_eq!(result.outcome, Outcome::Timeout, "{result:?}");
        assert!(!result.failure.is_some_and(|failure| failure.message.contains("processor time")));
    }
}

#[test]
fn attempt_07_sleeping_is_ended_in_time() {
    // Far longer than its time: a host that is not let look finds an answer that has come meanwhile.
    let code = |seconds: f32| format!("import time\ntime.sleep({seconds})\nresult = 'rested'");
    assert_eq!(run(&confined(&[("sandbox.timeout_ms", "300")]), &code(60.0)).outcome, Outcome::Timeout);
    assert_eq!(answer(&confined(&[]), &code(0.5)), "\"rested\"");
}

/// Waits until no other suite sends signals to everybody, or listens for them: their users may be the same, and root's reach all.
fn be_the_only_one() -> UnixListener {
    let name = SocketAddr::from_abstract_name("skillcache-attempt-08").expect("a name");
    let given_up = Instant::now() + Duration::from_secs(600);
    loop {
        match UnixListener::bind_addr(&name) {
            Ok(name_is_taken) => return name_is_taken,
            Err(error) => assert!(Instant::now() < given_up, "another suite does not come to its end: {error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a process of the host's user hears, within so much time, a signal that a run of this library sends to everybody. Who does
/// not listen for it is not disturbed by it.
fn everybody_hears(library: &skillcache::Library, patience: Duration) -> bool {
    answer(library, "result = 1");
    let listen = "import signal, sys, time\nsignal.signal(signal.SIGURG, lambda *a: sys.exit(7))\nprint('ready', flush=True)\ntime.sleep(600)";
    let mut victim = host::bare(listen).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut line = String::new();
    BufReader::new(victim.stdout.take().expect("piped")).read_line(&mut line).expect("it speaks");
    let send = "import os, signal\ntry: os.kill(-1, signal.SIGURG)\nexcept OSError: pass\nresult = 1";
    assert_eq!(answer(library, send), "1");
    let sent = Instant::now();
    while victim.try_wait().expect("a child").is_none() && sent.elapsed() < patience {
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = victim.kill();
    victim.wait().expect("it ends").code() == Some(7)
}

#[test]
fn attempt_08_a_signal_to_everybody_reaches_nobody() {
    let _only_one = be_the_only_one();
    assert!(!everybody_hears(&confined(&[]), Duration::from_millis(300)));
    if Situation::now().has_controls() {
        assert!(everybody_hears(&unconfined(&[]), Duration::from_secs(60)));
    }
}

#[test]
fn attempt_10_a_run_can_stop_and_kill_itself_alone() {
    let pairs = [&[("sandbox.timeout_ms", "400")][..], &[]].map(host::with_and_without_layers);
    let [hasty, patient] = pairs;
    for (hasty, patient) in hasty.into_iter().zip(patient) {
        for (code, outcome) in [
            ("import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)", Outcome::Timeout),
            ("import os, signal\nos.kill(0, signal.SIGSTOP)", Outcome::Timeout),
            ("import os, signal\nos.kill(0, signal.SIGKILL)", Outcome::Crashed),
        ] {
            let result = run(if outcome == Outcome::Timeout { &hasty } else { &patient }, code);
            assert_eq!(result.outcome, outcome, "{code}\n{result:?}");
            assert_all_is_well(&patient, code);
        }
    }
}

#[test]
fn attempt_12_a_setuid_program_gains_nothing() {
    const OWNER: u32 = 65534;
    if !host::is_root() {
        // Nobody else can make one.
        return;
    }
    let host = Host::new();
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("passable");
    let program = folder.path().join("id");
    fs::copy("/usr/bin/id", &program).expect("there is an id");
    std::os::unix::fs::chown(&program, Some(OWNER), Some(OWNER)).expect("given away");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o6755)).expect("its mode");
    let path = program.to_str().expect("UTF-8");
    let code = format!(
        "import subprocess\ntry:\n  result = subprocess.run(['{path}', '-u'], capture_output=True).stdout.decode().strip()\n\
         except OSError:\n  result = 'refused'"
    );
    assert_eq!(answer(&confined(&[]), &code), "\"refused\"");
    if Situation::now().has_controls() {
        // It can be started, and yet gains nothing.
        assert_eq!(answer(&unconfined(&[]), &code), "\"0\"");
        let said = Command::new(&program).arg("-u").output().expect("it starts");
        assert_eq!(String::from_utf8_lossy(&said.stdout).trim(), OWNER.to_string());
    }
    host.assert_untouched("a setuid program");
}
