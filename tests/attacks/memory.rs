//! Attempts 42 to 47: memory, processor time spent in C, and crashes.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use skillcache::{Code, Outcome, Skill};

use crate::host::Control::Bare;
use crate::host::{self, Attempt, answer, assert_all_is_well, attempt, confined, run};
use crate::situations::Situation;

pub const ATTEMPTS: &[Attempt] = &[
    attempt(
        47,
        "room for core dumps",
        Bare,
        "import resource\nlimit = resource.getrlimit(resource.RLIMIT_CORE)\nresult = limit[1] != 0 and tried(resource.setrlimit, resource.RLIMIT_CORE, limit)",
    ),
    attempt(
        42,
        "room for more memory",
        Bare,
        "import resource\nmost = resource.getrlimit(resource.RLIMIT_AS)[1]\nresult = most == resource.RLIM_INFINITY",
    ),
];

#[test]
fn attempt_42_memory_is_bounded_by_name() {
    let library = confined(&[("sandbox.max_memory_mb", "128")]);
    let caught = "try:\n  x = bytearray(600 << 20)\nexcept MemoryError:\n  x = b''\nresult = len(x) >> 20";
    assert_eq!(answer(&library, caught), "0");
    let result = run(&library, "x = bytearray(600 << 20)\nresult = 1");
    assert_eq!(result.outcome, Outcome::MemoryLimit, "{result:?}");
    let result = run(&library, "x = []\nwhile True: x.append(bytes(1 << 16))");
    assert_eq!(result.outcome, Outcome::MemoryLimit, "{result:?}");
    assert_all_is_well(&library, "too much memory");
    assert_eq!(answer(&confined(&[("sandbox.max_memory_mb", "1024")]), caught), "600");
}

#[test]
fn attempt_43_small_mappings_add_up() {
    let code = "import mmap\nmaps = []\ntry:\n  while len(maps) < 400: maps.append(mmap.mmap(-1, 1 << 20))\nexcept (OSError, MemoryError): pass\nresult = len(maps)";
    let mappings = |megabytes| -> u32 {
        let library = confined(&[("sandbox.max_memory_mb", megabytes)]);
        let count = answer(&library, code).parse().expect("a number");
        assert_all_is_well(&library, "many mappings");
        count
    };
    assert!(mappings("128") < 128);
    assert_eq!(mappings("1024"), 400);
}

#[test]
fn attempt_44_a_bomb_in_c_is_ended_in_time() {
    // Each is done at once where it is small, and never where it is large.
    for code in [
        "import re\nresult = bool(re.match('(a+)+$', 'a' * N + 'b'))",
        "result = len(str(pow(3, 10 ** N))) > 0",
        "result = sum(range(10 ** N)) > 0",
    ] {
        let small = format!("N = 3\n{code}");
        assert!(["true", "false"].contains(&answer(&confined(&[]), &small).as_str()));
        let library = confined(&[("sandbox.timeout_ms", "400")]);
        let result = run(
            &library,
            &format!("import sys\ngetattr(sys, 'set_int_max_str_digits', lambda n: 0)(0)\nN = 40\n{code}"),
        );
        assert!(matches!(result.outcome, Outcome::Timeout | Outcome::MemoryLimit), "{result:?}");
        assert!(result.duration < Duration::from_secs(100), "{result:?}");
        assert_all_is_well(&library, code);
    }
}

#[test]
fn attempt_45_deep_nesting_is_refused_or_said() {
    let library = confined(&[]);
    let nested = |depth: usize| format!("result = {}1{}", "(".repeat(depth), ")".repeat(depth));
    assert_eq!(answer(&library, &nested(50)), "1");
    for source in
        [nested(100_000), format!("result = {}1", "-".repeat(100_000)), format!("result = 1{}", " + 1".repeat(100_000))]
    {
        match library.put(&Skill::new("attempt", &source)) {
            Err(error) => assert!(matches!(error.code(), Code::Syntax | Code::Security), "{error}"),
            Ok(_) => {
                let result = host::run_again(&library, Default::default());
                assert!(
                    matches!(result.outcome, Outcome::Success | Outcome::Error | Outcome::MemoryLimit),
                    "{result:?}"
                );
            }
        }
        assert_all_is_well(&library, "a deep source");
    }
    // The same inside the run, where the parser is the interpreter's own.
    for source in ["'(' * 10 ** 5", "'-' * 10 ** 5 + '1'", "'1' + '+1' * 10 ** 5", "'[' * 10 ** 5 + ']' * 10 ** 5"] {
        let code = format!(
            "try:\n  compile({source}, 'x', 'eval')\n  result = 'compiled'\nexcept (SyntaxError, RecursionError, MemoryError) as e:\n  result = 'refused'"
        );
        let result = run(&library, &code);
        assert!(matches!(result.outcome, Outcome::Success | Outcome::Crashed), "{source}: {result:?}");
        assert_all_is_well(&library, source);
    }
}

/// Ways to crash, and the signals that name them. A run is not process 1 of its namespace, which would go on after an abort.
const CRASHES: [(&str, &[&str]); 4] = [
    ("import os\nos.abort()", &["SIGABRT"]),
    ("import ctypes\nctypes.string_at(0)", &["SIGSEGV"]),
    ("import ctypes\nctypes.memset(ctypes.addressof(ctypes.c_int()), 65, 1 << 30)", &["SIGSEGV"]),
    // A stack overflow in C.
    (
        "import ctypes, sys\nsys.setrecursionlimit(1 << 30)\nt = ctypes.CFUNCTYPE(ctypes.c_int)\n\
         def f(): return g()\ng = t(f)\ng()",
        &["SIGSEGV", "SIGBUS"],
    ),
];

#[test]
fn attempt_46_a_crash_is_named_and_is_the_runs_own() {
    for library in host::with_and_without_layers(&[]) {
        for (code, signals) in CRASHES {
            let result = run(&library, &format!("print('before', flush=True)\n{code}"));
            assert_eq!(
                (result.outcome, &result.stdout.bytes[..]),
                (Outcome::Crashed, &b"before\n"[..]),
                "{code}\n{result:?}"
            );
            let signal = result.failure.as_ref().and_then(|failure| failure.signal);
            assert!(signal.is_some_and(|name| signals.contains(&name)), "{code}\n{result:?}");
            assert_all_is_well(&library, code);
        }
    }
    if Situation::now().has_controls() {
        // Where it leaves a core, that is no business of others.
        let folder = tempfile::tempdir().expect("a folder");
        for (code, _) in CRASHES {
            let ended = host::bare(code).current_dir(&folder).output().expect("it starts");
            assert!(ended.status.signal().is_some(), "{code}: {ended:?}");
        }
    }
}

#[test]
fn attempt_47_a_crash_leaves_no_core() {
    let folder = tempfile::tempdir().expect("a folder");
    let crash = "import os, resource\nprint('limit', resource.getrlimit(resource.RLIMIT_CORE), flush=True)\nos.abort()";
    let library = confined(&[]);
    let result = run(&library, crash);
    let said = String::from_utf8_lossy(&result.stdout.bytes);
    assert!(said.trim().ends_with("(0, 0)"), "{result:?}");
    assert_eq!(result.outcome, Outcome::Crashed);
    assert_all_is_well(&library, "a crash");
    let has_core = |folder: &std::path::Path| {
        let entries = std::fs::read_dir(folder).expect("a folder").flatten();
        entries.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with("core"))
    };
    assert!(!has_core(&std::env::current_dir().expect("a folder")));
    // Only where cores are files in the working folder can the control be seen.
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    if Situation::now().has_controls() && pattern.trim() == "core" {
        let code = "import os, resource\nm = resource.getrlimit(resource.RLIMIT_CORE)[1]\nresource.setrlimit(resource.RLIMIT_CORE, (m, m))\nos.abort()";
        let ended = host::bare(code).current_dir(&folder).output().expect("it starts");
        assert!(ended.status.core_dumped() == has_core(folder.path()), "{ended:?}");
    }
}
