//! Attempts to get out, each with a positive control: confined it fails as the table says; with the layers that are in its
//! way left out, the same code succeeds, so that the attempt is known to be one.
//!
//! An attempt is Python that sets `result` to whether it got what it wanted. `HOST` is a file of the host's user, `PORT` answers on
//! loopback, `PID` is the host.

use std::fs;
use std::io::Write;
use std::net::TcpListener;

use skillcache::{Config, Library, Outcome, RunOptions, RunResult, Skill};

struct Attempt {
    /// Its number in the list of docs/SECURITY.md.
    number: u32,
    name: &'static str,
    code: &'static str,
    /// Whether it works with no layers.
    control: Control,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Control {
    /// Unconfined it succeeds.
    Succeeds,
    /// It takes a privilege, which no level leaves a run; or this machine has no such thing to reach.
    Never,
}

use Control::{Never, Succeeds};

const fn attempt(number: u32, name: &'static str, control: Control, code: &'static str) -> Attempt {
    Attempt { number, name, code, control }
}

/// `tried(f)`: whether `f` went through. `call`: a raw system call by its number.
const PREAMBLE: &str = r#"
import os, sys
def tried(f, *args):
    try:
        value = f(*args)
        return True if value is None else value
    except (OSError, MemoryError, ImportError, ValueError):
        return False
def call(number, *args):
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    args = [ctypes.c_void_p(a) if isinstance(a, int) else a for a in args]
    libc.syscall.restype = ctypes.c_long
    value = libc.syscall(ctypes.c_long(number), *args)
    return value >= 0
"#;

const ATTEMPTS: &[Attempt] = &[
    attempt(1, "fork", Succeeds, "def f():\n  if os.fork() == 0: os._exit(0)\nresult = tried(f)"),
    attempt(
        1,
        "clone3 and vfork",
        Succeeds,
        "result = call(58) if 'x' in inputs else tried(os.posix_spawn, sys.executable or '/bin/true', ['x', '-c', ''], {}) > 0",
    ),
    attempt(
        3,
        "setsid and a double fork",
        Succeeds,
        "def f():\n  if os.fork() == 0:\n    os.setsid()\n    os._exit(0)\nresult = tried(f)",
    ),
    attempt(9, "signal the host", Succeeds, "result = tried(os.kill, PID, 0)"),
    attempt(
        9,
        "signal by F_SETOWN",
        Succeeds,
        "import fcntl\nresult = tried(fcntl.fcntl, 1, fcntl.F_SETOWN, PID) is not False",
    ),
    attempt(
        11,
        "execve",
        Succeeds,
        "try:\n  os.execv('/nowhere', ['x'])\nexcept OSError as e:\n  result = e.errno == 2",
    ),
    attempt(11, "memfd_create", Succeeds, "result = tried(os.memfd_create, 'x') is not False"),
    attempt(13, "a higher priority", Never, "result = tried(os.nice, -5) is not False"),
    attempt(14, "read a file of the host", Succeeds, "result = tried(lambda: open(HOST).read()) == 'bait'"),
    attempt(14, "read /etc/passwd", Succeeds, "result = 'root' in (tried(lambda: open('/etc/passwd').read()) or '')"),
    attempt(
        15,
        "the host's environment",
        Never,
        "result = bool(tried(lambda: open('/proc/%d/environ' % PID, 'rb').read(9)))",
    ),
    attempt(16, "/proc/self/root", Succeeds, "result = bool(tried(os.listdir, '/proc/self/root/'))"),
    attempt(17, "write beside itself", Succeeds, "result = tried(lambda: open(HOST, 'r+').close())"),
    attempt(
        17,
        "write to /var/tmp",
        Succeeds,
        "p = '/var/tmp/skc-%d' % os.getpid()\nresult = tried(lambda: open(p, 'w').close())\ntried(os.unlink, p)",
    ),
    attempt(
        18,
        "a symlink out, read through",
        Succeeds,
        "os.symlink(HOST, 'l')\nresult = tried(lambda: open('l').read()) == 'bait'",
    ),
    attempt(19, "a hard link in", Succeeds, "result = tried(os.link, HOST, 'h')"),
    attempt(
        20,
        "rename out of the folder",
        Succeeds,
        "open('a', 'w').close()\np = os.path.dirname(HOST) + '/skc-%d' % os.getpid()\nresult = tried(os.rename, 'a', p) and os.path.realpath(os.path.dirname(HOST)) != os.getcwd()\ntried(os.unlink, p)",
    ),
    attempt(22, "mknod", Never, "import stat\nresult = tried(os.mknod, 'n', stat.S_IFCHR | 0o600, os.makedev(1, 3))"),
    attempt(22, "a FIFO", Succeeds, "result = tried(os.mkfifo, 'f')"),
    attempt(24, "System V shared memory", Succeeds, "result = call(29, 0, 4096, 0o1600)"),
    attempt(
        24,
        "/dev/shm",
        Succeeds,
        "p = '/dev/shm/skc-%d' % os.getpid()\nresult = tried(lambda: open(p, 'w').close())\ntried(os.unlink, p)",
    ),
    attempt(25, "chmod of a host file", Succeeds, "result = tried(os.chmod, HOST, 0o600)"),
    attempt(25, "utime of a host file", Succeeds, "result = tried(os.utime, HOST)"),
    attempt(
        29,
        "TCP",
        Succeeds,
        "import socket\nresult = tried(lambda: socket.create_connection(('127.0.0.1', PORT), 2)) is not False",
    ),
    attempt(
        30,
        "UDP",
        Succeeds,
        "import socket\nresult = tried(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', PORT))) is not False",
    ),
    attempt(
        31,
        "a Unix socket",
        Succeeds,
        "import socket\nresult = tried(lambda: socket.socket(socket.AF_UNIX)) is not False",
    ),
    attempt(
        32,
        "an abstract Unix socket",
        Succeeds,
        "import socket\nresult = tried(lambda: socket.socket(socket.AF_UNIX).bind('\\0skc%d' % os.getpid()))",
    ),
    attempt(
        33,
        "netlink",
        Succeeds,
        "import socket\nresult = tried(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)) is not False",
    ),
    attempt(
        34,
        "bind and listen",
        Succeeds,
        "import socket\ndef f():\n  s = socket.socket()\n  s.bind(('127.0.0.1', 0))\n  s.listen()\nresult = tried(f)",
    ),
    attempt(35, "ptrace", Never, "result = call(101, 16, PID, 0, 0)"),
    attempt(35, "process_vm_readv", Never, "result = call(310, PID, 0, 0, 0, 0, 0) and False"),
    attempt(36, "io_uring", Never, "result = call(425, 1, 0)"),
    attempt(36, "userfaultfd", Never, "result = call(323, 1)"),
    attempt(36, "keyctl", Never, "result = call(250, 0, -3, 1)"),
    attempt(37, "a user namespace", Succeeds, "result = call(272, 0x10000000)"),
    attempt(
        37,
        "mount",
        Never,
        "import ctypes\nresult = call(272, 0x20000) and call(165, b'none', b'/', 0, 1 << 18 | 1 << 14, 0)",
    ),
    attempt(37, "chroot", Never, "result = tried(os.chroot, '.')"),
    attempt(39, "personality", Succeeds, "result = call(135, 0x0040000)"),
    attempt(40, "a terminal's input", Never, "import fcntl\nresult = tried(fcntl.ioctl, 0, 0x5412, b'x') is not False"),
    attempt(41, "a raw socket call", Succeeds, "result = call(41, 2, 1, 0)"),
    attempt(
        54,
        "a datagram pair, to be pointed elsewhere",
        Succeeds,
        "import socket\nresult = tried(lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)) is not False",
    ),
];

fn open(options: &[(&str, &str)]) -> Library {
    let mut config = Config::default();
    for (name, value) in [("policy.mode", "off"), ("sandbox.max_memory_mb", "256")].iter().chain(options) {
        config.set(name, value).expect("a known option");
    }
    Library::open(":memory:", &config).expect("a library")
}

fn run(library: &Library, code: &str) -> RunResult {
    library.put(&Skill::new("attempt", code)).expect("it is Python");
    library.run("attempt", Default::default(), &RunOptions::default()).expect("it can be run")
}

/// The host of the attempts.
struct Host {
    file: tempfile::NamedTempFile,
    listener: TcpListener,
}

impl Host {
    fn new() -> Self {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(b"bait").expect("written");
        Host { file, listener: TcpListener::bind("127.0.0.1:0").expect("a port") }
    }

    fn source(&self, attempt: &Attempt) -> String {
        let port = self.listener.local_addr().expect("an address").port();
        let (path, pid) = (self.file.path().display(), std::process::id());
        format!("{PREAMBLE}HOST, PORT, PID = {:?}, {port}, {pid}\n{}", path.to_string(), attempt.code)
    }

    fn is_untouched(&self) -> bool {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        let meta = self.file.as_file().metadata().expect("it is there");
        meta.nlink() == 1 && meta.permissions().mode() & 0o777 == 0o600 && meta.len() == 4
    }
}

fn every_attempt_fails(options: &[(&str, &str)]) {
    let (library, host) = (open(options), Host::new());
    for attempt in ATTEMPTS {
        let result = run(&library, &host.source(attempt));
        let Attempt { number, name, .. } = attempt;
        assert!(host.is_untouched(), "{number}, {name}: the host's file has changed");
        match result.outcome {
            Outcome::Success => assert_eq!(result.value.as_deref(), Some("false"), "{number}, {name}"),
            Outcome::Denied | Outcome::Crashed => {}
            _ => panic!("{number}, {name}: {result:?}"),
        }
    }
    let after = run(&library, "result = 'clean'");
    assert_eq!(after.value.as_deref(), Some("\"clean\""));
}

#[test]
fn every_attempt_fails_under_all_layers() {
    every_attempt_fails(&[]);
}

#[test]
fn every_attempt_fails_without_namespaces() {
    every_attempt_fails(&[("sandbox.without", "namespaces")]);
}

#[test]
fn every_attempt_fails_without_landlock() {
    every_attempt_fails(&[("sandbox.without", "landlock")]);
}

#[test]
fn unconfined_the_attempts_succeed() {
    let unconfined = [("sandbox.mode", "best_effort"), ("sandbox.without", "namespaces, landlock, seccomp")];
    let library = open(&unconfined);
    for attempt in ATTEMPTS {
        // A host of its own: what succeeds may change it.
        let host = Host::new();
        if attempt.control == Never {
            continue;
        }
        let result = run(&library, &host.source(attempt));
        assert_eq!(result.level(), "process-only");
        assert_eq!(result.value.as_deref(), Some("true"), "{}, {}: {result:?}", attempt.number, attempt.name);
    }
}

#[test]
fn each_missing_layer_is_refused_or_said() {
    for (without, missing) in [("seccomp", "processes"), ("namespaces, landlock", "files")] {
        let library = open(&[("sandbox.without", without)]);
        let error = library.put(&Skill::new("s", "result = 1")).expect_err(without);
        assert!(error.details().missing.iter().any(|name| name == missing), "{without}: {error}");
        let library = open(&[("sandbox.without", without), ("sandbox.mode", "best_effort")]);
        let result = run(&library, "result = 1");
        assert_eq!((result.outcome, result.level()), (Outcome::Success, "partial"), "{without}");
    }
}

#[test]
fn an_unprivileged_user_is_confined_as_well() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    const NOBODY: u32 = 65534;
    if !rustix::process::geteuid().is_root() {
        // Then every test here is that already.
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("passable");
    let copy = folder.path().join("attacks");
    fs::copy(std::env::current_exe().expect("this test"), &copy).expect("copied");
    let test = std::process::Command::new(copy)
        .args(["--skip", "unprivileged"])
        .env_clear()
        .envs([("PATH", "/usr/bin:/bin"), ("TMPDIR", "/tmp")])
        .current_dir("/")
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .expect("it starts");
    assert!(test.status.success(), "{}", String::from_utf8_lossy(&test.stdout));
}

#[test]
fn threads_are_bounded_where_a_user_namespace_counts_them() {
    let library = open(&[]);
    let code = "import threading, time\nthreading.stack_size(32768)\nstarted = 0\ntry:\n  for i in range(200):\n    \
        threading.Thread(target=time.sleep, args=(1,), daemon=True).start()\n    started += 1\nexcept RuntimeError: pass\n\
        result = started";
    let result = run(&library, code);
    let started: usize =
        result.value.as_deref().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{result:?}"));
    let layers = result.confinement.expect("it ran").layers.clone();
    assert_eq!(started < 16, layers.iter().any(|layer| layer == "user"), "{started} threads under {layers:?}");
}
