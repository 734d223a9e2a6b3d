//! Attempts 48 to 54: what a run says, and over what.

use std::time::Duration;

use skillcache::Outcome;

use crate::host::Control::Succeeds;
use crate::host::{self, Attempt, answer, assert_all_is_well, confined, filtered, run};
use crate::situations::Situation;

pub const ATTEMPTS: &[Attempt] = &[
    filtered(
        54,
        "a datagram pair, to be pointed elsewhere",
        Succeeds,
        "import socket\nresult = tried(lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)) is not False",
    ),
    filtered(
        54,
        "a descriptor in a message",
        Succeeds,
        "import array, socket\na, b = socket.socketpair()\n\
         result = tried(lambda: a.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [1]))])) is not False",
    ),
    filtered(
        54,
        "a descriptor to the host, over the answer channel",
        Succeeds,
        "import array, socket\ns = socket.socket(fileno=os.dup(3))\n\
         result = tried(lambda: s.sendmsg([], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [1]))])) is not False",
    ),
];

#[test]
fn attempt_48_a_flood_of_output_is_cut_and_said() {
    let code =
        "import os\nfor _ in range(N):\n  os.write(1, b'o' * 65536)\n  os.write(2, b'e' * 65536)\nresult = 'done'";
    let library = confined(&[("sandbox.max_output_kb", "128")]);
    // A gigabyte where that is all there is to do.
    let count = if Situation::now() == Situation::Plain && host::is_root() { 8192 } else { 512 };
    for (count, is_cut) in [(count, true), (2, false)] {
        let result = run(&library, &format!("N = {count}\n{code}"));
        assert_eq!(result.value.as_deref(), Some("\"done\""), "the outcome is {:?}", result.outcome);
        for (capture, letter) in [(&result.stdout, b'o'), (&result.stderr, b'e')] {
            assert_eq!((capture.is_truncated, capture.bytes.len()), (is_cut, 128 << 10));
            assert!(capture.bytes.iter().all(|byte| *byte == letter));
        }
        assert_all_is_well(&library, "a flood");
    }
    // One that never ends is ended in time.
    let flood = "import os\nwhile True: os.write(1, b'x' * 65536)";
    let (library, _) = host::run_until_its_time_is_over(confined, flood, |result| result.stdout.is_truncated);
    assert_all_is_well(&library, "an endless flood");
}

#[test]
fn attempt_49_an_answer_on_stdout_is_output() {
    let frame = r"b'\0\0\0\7S\x22fake\x22'";
    let library = confined(&[]);
    for fd in [1, 2] {
        let result = run(
            &library,
            &format!("import os\nos.write({fd}, {frame})\nprint('{{\"outcome\": \"success\"}}')\nresult = 'own'"),
        );
        assert_eq!((result.outcome, result.value.as_deref()), (Outcome::Success, Some("\"own\"")));
        let result = run(&library, &format!("import os\nos.write({fd}, {frame})\n1 / 0"));
        assert_eq!((result.outcome, result.value.as_deref()), (Outcome::Error, None));
    }
    // On the answer channel the same bytes are the answer: a skill can forge its own.
    assert_eq!(answer(&library, &format!("import os, time\nos.write(3, {frame})\ntime.sleep(60)")), "\"fake\"");
    assert_all_is_well(&library, "a forged answer");
}

#[test]
fn attempt_50_writing_to_and_closing_every_descriptor_harms_its_own_run() {
    let each = "import os\nfor fd in range(1024):\n  try: ";
    for library in host::with_and_without_layers(&[]) {
        for (code, outcome) in [
            (format!("{each}os.close(fd)\n  except OSError: pass\nresult = 1"), Outcome::Crashed),
            (format!("{each}os.write(fd, b'rubbish rubbish')\n  except OSError: pass\nresult = 1"), Outcome::Crashed),
            (format!("{each}os.dup2(0, fd)\n  except OSError: pass\nresult = 1"), Outcome::Crashed),
            (format!("{each}os.set_blocking(fd, True)\n  except OSError: pass\nresult = 1"), Outcome::Success),
        ] {
            let result = run(&library, &code);
            assert_eq!(result.outcome, outcome, "{code}\n{result:?}");
            assert_all_is_well(&library, &code);
        }
        // What the host measures stays the host's, whatever is claimed.
        let claim = "import os, time\ntime.sleep(0.3)\nt = b'{\"duration_us\":0,\"level\":\"strict\",\"cached\":true}'\n\
            os.write(3, (len(t) + 1).to_bytes(4, 'big') + b'S' + t)\nos.abort()";
        let result = run(&library, claim);
        assert!(result.duration > Duration::from_millis(300) && !result.is_cached, "{result:?}");
    }
}

#[test]
fn attempt_51_an_answer_that_is_none_is_named() {
    let library = confined(&[("sandbox.max_answer_kb", "64")]);
    let nested = "result = x = []\nfor _ in range(N):\n  x.append([])\n  x = x[0]";
    for (code, outcome) in [
        ("result = 'x' * (1 << 17)", Outcome::OutputLimit),
        ("result = float('nan')", Outcome::InvalidOutput),
        ("result = [float('-inf')]", Outcome::InvalidOutput),
        ("result = []\nresult.append(result)", Outcome::InvalidOutput),
        ("result = {}\nresult['x'] = [result]", Outcome::InvalidOutput),
        (&format!("N = 100000\n{nested}"), Outcome::InvalidOutput),
        (&format!("N = 150\n{nested}"), Outcome::InvalidOutput),
        ("result = '\\udc80'", Outcome::InvalidOutput),
        ("result = {'\\ud800': 1}", Outcome::InvalidOutput),
        ("result = b'bytes'", Outcome::InvalidOutput),
        ("result = object()", Outcome::InvalidOutput),
        ("class D(dict):\n  def items(self): raise ValueError\nresult = D(a=1)", Outcome::InvalidOutput),
        // Past the encoder, on the channel itself.
        ("import os\nos.write(3, b'\\0\\0\\0\\4S\\xff\\xfe\\xfd')", Outcome::Crashed),
        ("import os\nos.write(3, b'\\0\\0\\0\\4SNaN')", Outcome::InvalidOutput),
        ("import os\nos.write(3, b'\\0\\0\\0\\3S[1')", Outcome::InvalidOutput),
        (
            "import os\nt = b'[' * 50000 + b']' * 50000\nos.write(3, (len(t) + 1).to_bytes(4, 'big') + b'S' + t)",
            Outcome::OutputLimit,
        ),
        (
            "import os\nt = b'[' * 30000 + b']' * 30000\nos.write(3, (len(t) + 1).to_bytes(4, 'big') + b'S' + t)",
            Outcome::InvalidOutput,
        ),
        ("import os\nos.write(3, b'\\0\\0\\0\\2E[')", Outcome::Crashed),
        ("import os\nos.write(3, b'\\0\\0\\0\\1Z')", Outcome::Crashed),
        ("import os\nos.write(3, b'\\xff\\xff\\xff\\xffE')", Outcome::Crashed),
        ("import os\nos.write(3, b'\\xff\\xff\\xff\\xffS')", Outcome::OutputLimit),
    ] {
        // Nothing follows a frame of the skill's own.
        let rest = if code.contains("os.write") { "\nimport time\ntime.sleep(60)" } else { "" };
        let result = run(&library, &format!("{code}{rest}"));
        assert_eq!(result.outcome, outcome, "{code}\n{result:?}");
        assert!(result.value.is_none() && result.failure.is_some(), "{code}");
    }
    assert_all_is_well(&library, "answers that are none");
    let large = confined(&[("sandbox.max_answer_kb", "1024")]);
    assert_eq!(answer(&large, "result = 'x' * (1 << 17)").len(), (1 << 17) + 2);
    assert_eq!(answer(&large, &format!("N = 20\n{nested}")).len(), 42);
}

#[test]
fn attempt_52_more_or_less_than_one_frame_breaks_the_protocol() {
    let (patient, hasty) = (confined(&[]), confined(&[("sandbox.timeout_ms", "1000")]));
    let send = |bytes: &str, then: &str| format!("import os, time\nos.write(3, b'{bytes}')\n{then}");
    for (bytes, then, outcome) in [
        (r"\0\0\0\2S1", "time.sleep(60)", Outcome::Success),
        (r"\0\0\0\2S1junk", "os._exit(0)", Outcome::Crashed),
        (r"\0\0\0\2S1\0\0\0\2S2", "os._exit(0)", Outcome::Crashed),
        (r"\0\0\0\5S1", "os._exit(0)", Outcome::Crashed),
        (r"\0\0", "os._exit(0)", Outcome::Crashed),
        (r"\0\0\0\0", "os._exit(0)", Outcome::Crashed),
        (r"\0\0\0\5S1", "os.kill(os.getpid(), 9)\nos._exit(1)", Outcome::Crashed),
        (r"\0\0\0\5S1", "os.close(3)\ntime.sleep(60)", Outcome::Timeout),
        (r"\0\0\0\5S1", "time.sleep(60)", Outcome::Timeout),
    ] {
        let code = send(bytes, then);
        let result = run(if outcome == Outcome::Timeout { &hasty } else { &patient }, &code);
        assert_eq!(result.outcome, outcome, "{code}\n{result:?}");
        assert_eq!(result.value.as_deref(), (outcome == Outcome::Success).then_some("1"));
    }
    assert_all_is_well(&patient, "broken frames");
}

#[test]
fn attempt_53_nothing_of_the_host_is_open_in_a_run() {
    // What another part of the host keeps open and inheritable.
    let folder = tempfile::tempdir().expect("a folder");
    let file = std::fs::File::create(folder.path().join("open")).expect("a file");
    let inheritable = rustix::io::fcntl_dupfd_cloexec(&file, 100).expect("a descriptor");
    rustix::io::fcntl_setfd(&inheritable, rustix::io::FdFlags::empty()).expect("it is made inheritable");
    let code = "import os\nfound = []\nfor fd in range(4096):\n  try:\n    os.fstat(fd)\n    found.append(fd)\n  except OSError: pass\nresult = found";
    for library in host::with_and_without_layers(&[]) {
        assert_eq!(answer(&library, code), "[0,1,2,3]");
        // The job has been read, and nothing else comes.
        let rest = "import os\nos.set_blocking(3, False)\ntry:\n  result = len(os.read(3, 1))\nexcept BlockingIOError:\n  result = 'nothing'\nos.set_blocking(3, True)";
        assert_eq!(answer(&library, rest), "\"nothing\"");
    }
    if Situation::now().has_controls() {
        let said = host::bare(&format!("{code}\nprint(max(found))")).output().expect("it starts");
        let highest: i32 = String::from_utf8_lossy(&said.stdout).trim().parse().expect("a number");
        assert!(highest >= 100, "{highest}");
    }
}
