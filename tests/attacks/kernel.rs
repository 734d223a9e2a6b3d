//! Attempts 35 to 41: what else the kernel offers. Numbers of calls are those of x86-64.

use skillcache::Outcome;

use crate::host::Control::{BareRoot, Never, Succeeds};
use crate::host::{Attempt, answer, assert_all_is_well, attempt, confined, filtered, run, unconfined};
use crate::situations::Situation;

/// A terminal of its own with something typed into it, or what stands at descriptor 0; `request` in 64 bits.
macro_rules! terminal {
    ($request:literal) => {
        concat!(
            "import ctypes\ntry:\n  os.setsid()\nexcept OSError: pass\ntry:\n  fd = os.openpty()[1]\n  raw(16, fd, 0x540e, 0)\n\
             except OSError:\n  fd = 0\nresult = call(16, fd, ",
            $request,
            ", ctypes.c_char_p(b'x'))"
        )
    };
}

pub const ATTEMPTS: &[Attempt] = &[
    filtered(
        35,
        "ptrace",
        Succeeds,
        "import time\ntry:\n  target = os.fork()\n  if target == 0:\n    time.sleep(9)\n    os._exit(0)\nexcept OSError:\n  target = PID\n\
         result = call(101, 0x4206, target, 0, 0)\nif target != PID: os.kill(target, 9)",
    ),
    filtered(
        35,
        "process_vm_readv",
        Succeeds,
        "import ctypes\na, b = ctypes.create_string_buffer(b'abcd'), ctypes.create_string_buffer(4)\n\
         def vector(x): return (ctypes.c_uint64 * 2)(ctypes.addressof(x), 4)\nresult = call(310, os.getpid(), vector(b), 1, vector(a), 1, 0)",
    ),
    attempt(35, "a descriptor of the host", BareRoot, "fd = raw(434, PID, 0)\nresult = call(438, fd, 0, 0)"),
    filtered(35, "kcmp", Succeeds, "result = call(312, os.getpid(), os.getpid(), 1, 0, 0)"),
    filtered(36, "io_uring", Succeeds, "import ctypes\nresult = call(425, 1, ctypes.create_string_buffer(120))"),
    filtered(36, "userfaultfd", Succeeds, "result = call(323, 1)"),
    attempt(36, "bpf", BareRoot, "import ctypes\nresult = call(321, 0, (ctypes.c_uint32 * 16)(2, 4, 4, 1), 64)"),
    filtered(
        36,
        "perf_event_open",
        Succeeds,
        "import ctypes\nattributes = (ctypes.c_uint32 * 32)(1, 128)\nattributes[10] = 0b1100001\nresult = call(298, attributes, 0, -1, -1, 0)",
    ),
    filtered(36, "keyctl", Succeeds, "result = call(250, 0, -3, 1)"),
    filtered(36, "add_key", Succeeds, "result = call(248, b'user', TOKEN.encode(), b'x', 1, -2)"),
    attempt(36, "fanotify", BareRoot, "result = call(300, 0, 0)"),
    filtered(37, "a user namespace", Succeeds, "result = call(272, 0x10000000)"),
    attempt(37, "a mount namespace", BareRoot, "result = call(272, 0x20000)"),
    attempt(
        37,
        "mount",
        BareRoot,
        "result = call(272, 0x20000) and call(165, b'none', b'/', 0, 1 << 18 | 1 << 14, 0) and call(165, b'none', os.getcwd().encode(), b'tmpfs', 0, 0)",
    ),
    attempt(
        37,
        "pivot_root",
        BareRoot,
        "here = os.getcwd().encode()\nresult = call(272, 0x20000) and call(165, b'none', b'/', 0, 1 << 18 | 1 << 14, 0) and \
         call(165, b'none', here, b'tmpfs', 0, 0) and call(80, here) and call(155, b'.', b'.')",
    ),
    attempt(37, "a file system without a place", BareRoot, "result = call(430, b'tmpfs', 0)"),
    attempt(
        37,
        "setns",
        BareRoot,
        "fd = tried(os.open, '/proc/self/ns/net', 0)\nresult = fd is not False and call(308, fd, 0)",
    ),
    attempt(37, "chroot", BareRoot, "result = tried(os.chroot, '.')"),
    filtered(
        38,
        "a call of i386",
        Succeeds,
        "import ctypes, mmap\ncode = mmap.mmap(-1, 4096, prot=7)\ncode.write(b'\\xb8\\x14\\0\\0\\0\\xcd\\x80\\xc3')\n\
         at = ctypes.addressof(ctypes.c_char.from_buffer(code))\nresult = ctypes.CFUNCTYPE(ctypes.c_int)(at)() == os.getpid()",
    ),
    attempt(38, "a call of x32", Never("few kernels have these calls"), "result = raw(0x40000000 | 39) == os.getpid()"),
    filtered(39, "personality", Succeeds, "result = call(135, 0x0040000)"),
    filtered(39, "outliving the host", Succeeds, "result = call(157, 1, 0)"),
    filtered(39, "being dumped", Succeeds, "result = call(157, 4, 1)"),
    attempt(40, "a terminal's input", BareRoot, terminal!("0x5412")),
    attempt(40, "a terminal's input, high bits set", BareRoot, terminal!("0x5412 | 1 << 40")),
    attempt(40, "the console", Never("a console may not be there"), terminal!("0x541c")),
    attempt(40, "the console, high bits set", Never("a console may not be there"), terminal!("0x541c | 1 << 40")),
    filtered(41, "a raw socket call", Succeeds, "result = call(41, 2, 1, 0)"),
    filtered(41, "a raw fork", Succeeds, "pid = raw(57)\nif pid == 0: os._exit(0)\nresult = pid > 0"),
    attempt(41, "a raw open", Succeeds, "result = call(2, HOST.encode(), 0)"),
    attempt(41, "a raw kill", Succeeds, "result = call(62, PID, 0)"),
    filtered(
        41,
        "a raw clone, high bits set",
        Succeeds,
        "pid = raw(56, 17 | 1 << 40, 0, 0, 0, 0)\nif pid == 0: os._exit(0)\nresult = pid > 0",
    ),
];

#[test]
fn attempt_38_a_call_of_a_foreign_architecture_ends_the_run_by_name() {
    let i386 = "import ctypes, mmap\ncode = mmap.mmap(-1, 4096, prot=7)\ncode.write(b'\\xb8\\x14\\0\\0\\0\\xcd\\x80\\xc3')\n\
        at = ctypes.addressof(ctypes.c_char.from_buffer(code))\nctypes.CFUNCTYPE(ctypes.c_int)(at)()\nresult = 'answered'";
    let x32 = "import ctypes\nctypes.CDLL(None).syscall(ctypes.c_long(0x40000000 | 39))\nresult = 'answered'";
    if !Situation::now().has_filter() {
        // The simulation is itself a filter, which kills what is foreign to it.
        return;
    }
    let library = confined(&[]);
    for code in [i386, x32] {
        let result = run(&library, code);
        assert_eq!(result.outcome, Outcome::Crashed, "{result:?}");
        assert_eq!(result.failure.as_ref().and_then(|failure| failure.signal), Some("SIGSYS"), "{result:?}");
        assert_all_is_well(&library, "a foreign call");
        if Situation::now().has_controls() {
            assert_eq!(answer(&unconfined(&[]), code), "\"answered\"");
        }
    }
}
