//! Attempts 1 to 13: processes, threads, signals, priorities.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
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
    let started = |library: &skillcache::Library, most: u32| {
        library.put(&Skill::new("bomb", thread_bomb(most))).expect("it is Python");
        library.put(&Skill::new("other", "result = 1")).expect("it is Python");
        let bomb = library.submit("bomb", Data::default(), &RunOptions::default()).expect("queued");
        std::thread::sleep(Duration::from_millis(300));
        let other = library.run("other", Data::default(), &RunOptions::default()).expect("it can be run");
        assert!(other.outcome == Outcome::Success && other.duration < Duration::from_secs(10), "{other:?}");
        assert!(!bomb.is_finished());
        let result = bomb.wait(None).expect("a result");
        assert!(matches!(result.outcome, Outcome::Timeout | Outcome::MemoryLimit), "{result:?}");
        assert_eq!(host::survivors(), Vec::<String>::new());
        String::from_utf8_lossy(&result.stdout.bytes).trim().parse::<u32>().unwrap_or(0)
    };
    let limits = [("sandbox.timeout_ms", "2000"), ("sandbox.max_memory_mb", "128")];
    assert!(started(&confined(&limits), 5000) < 5000);
    if Situation::now().has_controls() {
        let limits = [("sandbox.timeout_ms", "2000"), ("sandbox.max_memory_mb", "8192")];
        assert_eq!(started(&unconfined(&limits), 300), 300);
    }
}

#[test]
fn threads_are_bounded_where_a_user_namespace_counts_them() {
    let code = "import threading, time\nthreading.stack_size(32768)\nstarted = 0\ntry:\n  for i in range(200):\n    \
        threading.Thread(target=time.sleep, args=(1,), daemon=True).start()\n    started += 1\nexcept RuntimeError: pass\n\
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
        for library in host::with_and_without_layers(&[("sandbox.timeout_ms", "600")]) {
            let result = run(&library, &code);
            let is_confined = result.level() != "process-only";
            let made = if is_confined { straggler_made().trim_matches('"') } else { "made" };
            assert_eq!(String::from_utf8_lossy(&result.stdout.bytes).trim(), made, "{result:?}");
            assert_all_is_well(&library, "a daemon");
        }
    }
}

#[test]
fn attempt_04_a_child_that_holds_the_pipes_is_not_waited_for() {
    let code = "import os, time\ntry:\n  if os.fork() == 0:\n    time.sleep(60)\n  result = 'made'\nexcept OSError:\n  result = 'refused'";
    for library in host::with_and_without_layers(&[]) {
        let start = Instant::now();
        let result = run(&library, code);
        let made = if result.level() == "process-only" { "\"made\"" } else { straggler_made() };
        assert_eq!(result.value.as_deref(), Some(made), "{result:?}");
        assert!(start.elapsed() < Duration::from_secs(20));
        assert_all_is_well(&library, "a child that holds the pipes");
    }
}

#[test]
fn attempt_05_a_run_that_ignores_every_signal_is_ended_in_time() {
    let code = "import signal, time\nfor s in range(1, 65):\n  try: signal.signal(s, signal.SIG_IGN)\n  except (OSError, ValueError): pass\n\
        print('deaf', flush=True)\nwhile True: time.sleep(60)";
    let library = confined(&[("sandbox.timeout_ms", "500")]);
    let result = run(&library, code);
    assert_eq!((result.outcome, &result.stdout.bytes[..]), (Outcome::Timeout, &b"deaf\n"[..]), "{result:?}");
    assert!(result.duration < Duration::from_secs(10));
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
    assert!(result.usage.cpu < Duration::from_secs(4), "{result:?}");
    if Situation::now().has_controls() {
        // With more of it, wall-clock time is what ends it.
        let result = run(&unconfined(&[("sandbox.timeout_ms", "1200"), ("sandbox.max_cpu_s", "60")]), code);
        assert_eq!(result.outcome, Outcome::Timeout, "{result:?}");
        assert!(!result.failure.is_some_and(|failure| failure.message.contains("processor time")));
    }
}

#[test]
fn attempt_07_sleeping_is_ended_in_time() {
    let code = "import time\ntime.sleep(0.5)\nresult = 'rested'";
    assert_eq!(run(&confined(&[("sandbox.timeout_ms", "300")]), code).outcome, Outcome::Timeout);
    assert_eq!(answer(&confined(&[]), code), "\"rested\"");
}

/// Whether a process of the host's user hears a signal that a run of this library sends to everybody. Who does not listen for it is not
/// disturbed by it.
fn everybody_hears(library: &skillcache::Library) -> bool {
    let listen = "import signal, sys, time\nsignal.signal(signal.SIGURG, lambda *a: sys.exit(7))\nprint('ready', flush=True)\ntime.sleep(60)";
    let mut victim = host::bare(listen).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut line = String::new();
    BufReader::new(victim.stdout.take().expect("piped")).read_line(&mut line).expect("it speaks");
    let send = "import os, signal\ntry: os.kill(-1, signal.SIGURG)\nexcept OSError: pass\nresult = 1";
    assert_eq!(answer(library, send), "1");
    std::thread::sleep(Duration::from_millis(200));
    let _ = victim.kill();
    victim.wait().expect("it ends").code() == Some(7)
}

#[test]
fn attempt_08_a_signal_to_everybody_reaches_nobody() {
    assert!(!everybody_hears(&confined(&[])));
    if Situation::now().has_controls() {
        assert!(everybody_hears(&unconfined(&[])));
    }
}

#[test]
fn attempt_10_a_run_can_stop_and_kill_itself_alone() {
    for library in host::with_and_without_layers(&[("sandbox.timeout_ms", "400")]) {
        for (code, outcome) in [
            ("import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)", Outcome::Timeout),
            ("import os, signal\nos.kill(0, signal.SIGSTOP)", Outcome::Timeout),
            ("import os, signal\nos.kill(0, signal.SIGKILL)", Outcome::Crashed),
        ] {
            let result = run(&library, code);
            assert_eq!(result.outcome, outcome, "{code}\n{result:?}");
            assert_all_is_well(&library, code);
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
