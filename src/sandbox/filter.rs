//! The system calls a run may make.
//!
//! The filter is in place before the interpreter's first instruction, and yet denies `execve`. It can, because a filter
//! sees all six argument registers while `execve` uses three: the one call that starts the interpreter carries 192 random
//! bits in the others ([`Secret`]), drawn anew for every run. `execve` clears the registers, and what the host had
//! in memory is gone with it, so that the run can neither find nor guess them. No stub, no `_ctypes` and no second program is needed.
//!
//! Three parts, in this order:
//! 1. Calls of a foreign architecture (i386, x32) kill the process.
//! 2. A binary search over the numbers: allowed whatever the arguments; unknown to this table and newer than it (`ENOSYS`,
//!    so that a C library falls back); or to be looked at. The kernel caches the first answer for each number, so that
//!    allowed calls cost nothing.
//! 3. What depends on arguments, by seccompiler. Registers that the kernel reads as 32 bits are compared as 32 bits: a
//!    filter that looked at all 64 could be passed by with rubbish in the upper half (CVE-2019-10063).
//!
//! Everything else is `EPERM`.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};

/// What the call that starts the interpreter carries in its unused registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Secret(pub [u64; 3]);

impl Secret {
    /// Fresh random bits of the kernel.
    pub fn draw() -> std::io::Result<Self> {
        let mut bytes = [0u8; 24];
        std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut bytes)?;
        let word = |at: usize| u64::from_ne_bytes(std::array::from_fn(|byte| bytes[at * 8 + byte]));
        Ok(Secret([word(0), word(1), word(2)]))
    }
}

/// What other layers leave to the filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Leave {
    /// Signals can reach nobody else: they may be sent.
    pub signals: bool,
    /// Nothing of the host's can be reached by name: modes, owners and times may be changed.
    pub metadata: bool,
}

/// The program for one run.
pub(super) fn program(secret: Secret, leave: Leave) -> Result<BpfProgram, BackendError> {
    let mut program = prologue(&allowed(leave));
    program.extend(conditional(secret)?);
    Ok(program)
}

macro_rules! calls {
    ($($name:ident)*) => { &[$(libc::$name),*] };
}

/// Allowed whatever the arguments.
const ALLOWED: &[libc::c_long] = calls! {
    SYS_read SYS_write SYS_close SYS_fstat SYS_lseek SYS_mmap SYS_mprotect SYS_munmap SYS_brk SYS_rt_sigaction
    SYS_rt_sigprocmask SYS_rt_sigreturn SYS_pread64 SYS_pwrite64 SYS_readv SYS_writev SYS_preadv SYS_pwritev SYS_preadv2
    SYS_pwritev2 SYS_sched_yield SYS_mremap SYS_msync SYS_mincore SYS_madvise SYS_dup SYS_dup3 SYS_nanosleep SYS_getitimer
    SYS_setitimer SYS_getpid SYS_exit SYS_exit_group SYS_uname SYS_fsync SYS_fdatasync SYS_flock SYS_truncate
    SYS_ftruncate SYS_getdents64 SYS_getcwd SYS_chdir SYS_fchdir SYS_umask SYS_gettimeofday SYS_getrlimit SYS_getrusage
    SYS_times SYS_getuid SYS_getgid SYS_geteuid SYS_getegid SYS_getppid SYS_getpgid SYS_getsid SYS_getgroups SYS_getresuid
    SYS_getresgid SYS_getpriority SYS_rt_sigpending SYS_rt_sigtimedwait SYS_rt_sigsuspend SYS_sigaltstack SYS_gettid
    SYS_futex SYS_sched_getaffinity SYS_sched_getparam SYS_sched_getscheduler SYS_sched_get_priority_max
    SYS_sched_get_priority_min SYS_set_tid_address SYS_set_robust_list SYS_get_robust_list SYS_restart_syscall
    SYS_clock_gettime SYS_clock_getres SYS_clock_nanosleep SYS_openat SYS_mkdirat SYS_unlinkat SYS_renameat SYS_renameat2
    SYS_linkat SYS_symlinkat SYS_readlinkat SYS_faccessat SYS_faccessat2 SYS_newfstatat SYS_statx SYS_statfs SYS_fstatfs
    SYS_pselect6 SYS_ppoll SYS_splice SYS_tee SYS_sync_file_range SYS_fallocate SYS_fadvise64 SYS_eventfd2
    SYS_epoll_create1 SYS_epoll_ctl SYS_epoll_pwait SYS_epoll_pwait2 SYS_signalfd4 SYS_timerfd_create SYS_timerfd_settime
    SYS_timerfd_gettime SYS_pipe2 SYS_getrandom SYS_getcpu
    SYS_membarrier SYS_rseq SYS_copy_file_range SYS_sendfile SYS_close_range SYS_recvfrom SYS_shutdown SYS_getsockopt
    SYS_getsockname SYS_getpeername SYS_wait4 SYS_waitid SYS_sysinfo SYS_capget SYS_getxattr SYS_lgetxattr SYS_fgetxattr
    SYS_listxattr SYS_llistxattr SYS_flistxattr
};

/// The older spellings, which newer architectures do not have.
#[cfg(target_arch = "x86_64")]
const OLDER: &[libc::c_long] = calls! {
    SYS_open SYS_stat SYS_lstat SYS_poll SYS_access SYS_pipe SYS_select SYS_dup2 SYS_pause SYS_alarm SYS_getdents SYS_rename
    SYS_mkdir SYS_rmdir SYS_creat SYS_link SYS_unlink SYS_symlink SYS_readlink SYS_time SYS_getpgrp SYS_epoll_create
    SYS_epoll_wait SYS_eventfd SYS_signalfd
};
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[libc::c_long] = &[];
/// `arch_prctl` sets the thread pointer when a program starts.
#[cfg(target_arch = "x86_64")]
const OF_THIS_ARCHITECTURE: &[libc::c_long] = &[libc::SYS_arch_prctl];
#[cfg(not(target_arch = "x86_64"))]
const OF_THIS_ARCHITECTURE: &[libc::c_long] = &[];

const SIGNALS: &[libc::c_long] = calls! { SYS_kill SYS_tkill SYS_tgkill SYS_rt_sigqueueinfo };
const METADATA: &[libc::c_long] =
    calls! { SYS_fchmod SYS_fchmodat SYS_fchown SYS_fchownat SYS_utimensat SYS_setxattr SYS_lsetxattr SYS_fsetxattr };
#[cfg(target_arch = "x86_64")]
const OLDER_METADATA: &[libc::c_long] = calls! { SYS_chmod SYS_chown SYS_lchown SYS_utime SYS_utimes SYS_futimesat };
#[cfg(not(target_arch = "x86_64"))]
const OLDER_METADATA: &[libc::c_long] = &[];
/// A newer `fchmodat`; libc does not name it everywhere.
const SYS_FCHMODAT2: libc::c_long = 452;
/// The newest call this table was made with (`mseal`, Linux 6.10). Newer ones answer as an older kernel would.
const NEWEST: libc::c_long = 462;

fn allowed(leave: Leave) -> Vec<libc::c_long> {
    let mut all = [ALLOWED, OLDER, OF_THIS_ARCHITECTURE].concat();
    if leave.signals {
        all.extend(SIGNALS);
    }
    if leave.metadata {
        all.extend([METADATA, OLDER_METADATA, &[SYS_FCHMODAT2]].concat());
    }
    all.sort_unstable();
    all.dedup();
    all
}

// linux/audit.h, linux/filter.h, linux/seccomp.h
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;
const X32_BIT: u32 = 0x4000_0000;
const LOAD_WORD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_AT_LEAST: u16 = 0x35;
const JUMP: u16 = 0x05;
const RETURN: u16 = 0x06;
const OFFSET_OF_NUMBER: u32 = 0;
const OFFSET_OF_ARCHITECTURE: u32 = 4;
const ALLOW: u32 = 0x7fff_0000;
const KILL_PROCESS: u32 = 0x8000_0000;
const FAIL_WITH: u32 = 0x0005_0000;

fn step(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// What becomes of a call by its number alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ByNumber {
    Allow,
    Look,
    Unknown,
}

/// Parts 1 and 2. Falls off its end for what is to be looked at.
fn prologue(allowed: &[libc::c_long]) -> BpfProgram {
    let mut program = vec![
        step(LOAD_WORD, 0, 0, OFFSET_OF_ARCHITECTURE),
        step(JUMP_IF_EQUAL, 1, 0, ARCHITECTURE),
        step(RETURN, 0, 0, KILL_PROCESS),
        step(LOAD_WORD, 0, 0, OFFSET_OF_NUMBER),
    ];
    if cfg!(target_arch = "x86_64") {
        program.push(step(JUMP_IF_AT_LEAST, 0, 1, X32_BIT));
        program.push(step(RETURN, 0, 0, KILL_PROCESS));
    }
    let search = search(&ranges(allowed));
    program.extend(search);
    program
}

/// Where each range starts, and what becomes of its calls.
fn ranges(allowed: &[libc::c_long]) -> Vec<(u32, ByNumber)> {
    let is_unknown = |number: libc::c_long| number > NEWEST || number == libc::SYS_clone3;
    let of = |number: libc::c_long| match number {
        number if is_unknown(number) => ByNumber::Unknown,
        number if allowed.binary_search(&number).is_ok() => ByNumber::Allow,
        _ => ByNumber::Look,
    };
    let mut ranges: Vec<(u32, ByNumber)> = Vec::new();
    for number in 0..=NEWEST + 1 {
        if ranges.last().is_none_or(|(_, last)| *last != of(number)) {
            ranges.push((u32::try_from(number).unwrap_or(u32::MAX), of(number)));
        }
    }
    ranges
}

/// A binary search whose leaves return, or jump to the end.
fn search(ranges: &[(u32, ByNumber)]) -> BpfProgram {
    fn grow(ranges: &[(u32, ByNumber)], out: &mut BpfProgram) {
        if let [(_, what)] = ranges {
            out.push(match what {
                ByNumber::Allow => step(RETURN, 0, 0, ALLOW),
                ByNumber::Unknown => step(RETURN, 0, 0, FAIL_WITH | libc::ENOSYS as u32),
                // Patched below.
                ByNumber::Look => step(JUMP, 0, 0, 0),
            });
            return;
        }
        let (low, high) = ranges.split_at(ranges.len() / 2);
        let (at, first) = (out.len(), high[0].0);
        out.push(step(JUMP_IF_AT_LEAST, 0, 0, first));
        grow(low, out);
        // A conditional jump has eight bits for its distance, an unconditional one 32.
        let distance = out.len() - (at + 1);
        if let Ok(near) = u8::try_from(distance) {
            out[at] = step(JUMP_IF_AT_LEAST, near, 0, first);
        } else {
            out[at] = step(JUMP_IF_AT_LEAST, 0, 1, first);
            out.insert(at + 1, step(JUMP, 0, 0, distance as u32));
        }
        grow(high, out);
    }
    let mut out = Vec::new();
    grow(ranges, &mut out);
    let end = out.len();
    for (at, one) in out.iter_mut().enumerate() {
        if one.code == JUMP && one.k == 0 {
            one.k = (end - (at + 1)) as u32;
        }
    }
    out
}

type Conditions = Vec<SeccompCondition>;

fn is(argument: u8, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}

fn is_whole(argument: u8, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, value)
}

fn one_of(argument: u8, values: &[u64]) -> Result<Vec<SeccompRule>, BackendError> {
    values.iter().map(|value| SeccompRule::new(vec![is(argument, *value)?])).collect()
}

fn all_of(conditions: Conditions) -> Result<Vec<SeccompRule>, BackendError> {
    Ok(vec![SeccompRule::new(conditions)?])
}

/// Part 3.
fn conditional(secret: Secret) -> Result<BpfProgram, BackendError> {
    let new_process = libc::CLONE_NEWNS
        | libc::CLONE_NEWCGROUP
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET
        | libc::CLONE_PTRACE;
    // All that a C library asks for: a thread with descriptors of its own could hide files from those who look for them.
    let thread =
        (libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_SIGHAND | libc::CLONE_THREAD) as u32;
    let of_interest = u64::from(thread | new_process as u32);
    let is_thread =
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(of_interest), u64::from(thread))?;
    let [first, second, third] = secret.0;
    let rules: BTreeMap<i64, Vec<SeccompRule>> = [
        (libc::SYS_execve, all_of(vec![is_whole(3, first)?, is_whole(4, second)?, is_whole(5, third)?])?),
        (libc::SYS_clone, all_of(vec![is_thread])?),
        // A pair of connected ends, as event loops use to wake themselves; they reach nobody else.
        (
            libc::SYS_socketpair,
            // SOCK_STREAM, whatever of SOCK_NONBLOCK and SOCK_CLOEXEC: such ends cannot be pointed elsewhere.
            all_of(vec![
                is(0, libc::AF_UNIX as u64)?,
                SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(0xf), 1)?,
            ])?,
        ),
        (libc::SYS_sendto, all_of(vec![is_whole(4, 0)?])?),
        (libc::SYS_prlimit64, all_of(vec![is(0, 0)?])?),
        (libc::SYS_fcntl, one_of(1, FCNTL)?),
        (libc::SYS_ioctl, one_of(1, IOCTL)?),
        (libc::SYS_prctl, one_of(0, PRCTL)?),
    ]
    .into_iter()
    .collect();
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    let denied = SeccompAction::Errno(libc::EPERM as u32);
    SeccompFilter::new(rules, denied, SeccompAction::Allow, architecture)?.try_into()
}

/// Without those that direct signals (`F_SETOWN`, `F_SETSIG`, `F_NOTIFY`) or take kernel memory (`F_SETPIPE_SZ`).
const FCNTL: &[u64] = &[
    libc::F_DUPFD as u64,
    libc::F_GETFD as u64,
    libc::F_SETFD as u64,
    libc::F_GETFL as u64,
    libc::F_SETFL as u64,
    libc::F_GETLK as u64,
    libc::F_SETLK as u64,
    libc::F_SETLKW as u64,
    libc::F_GETOWN as u64,
    libc::F_OFD_GETLK as u64,
    libc::F_OFD_SETLK as u64,
    libc::F_OFD_SETLKW as u64,
    libc::F_DUPFD_CLOEXEC as u64,
    libc::F_GETPIPE_SZ as u64,
    libc::F_GET_SEALS as u64,
];
/// What asks, and what concerns the descriptor alone. Terminals (`TIOCSTI`, `TIOCLINUX`) stay out.
const IOCTL: &[u64] = &[libc::TCGETS, libc::TIOCGWINSZ, libc::FIONREAD, libc::FIONBIO, libc::FIOCLEX, libc::FIONCLEX];
const PRCTL: &[u64] = &[
    libc::PR_SET_NAME as u64,
    libc::PR_GET_NAME as u64,
    libc::PR_GET_DUMPABLE as u64,
    libc::PR_GET_NO_NEW_PRIVS as u64,
    libc::PR_GET_SECCOMP as u64,
    libc::PR_CAPBSET_READ as u64,
    // The C library names its mappings.
    libc::PR_SET_VMA as u64,
];

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: Secret = Secret([0x1111_2222_3333_4444, 5, u64::MAX]);
    const ALL: Leave = Leave { signals: true, metadata: true };
    const NONE: Leave = Leave { signals: false, metadata: false };
    const DENIED: u32 = FAIL_WITH | libc::EPERM as u32;

    /// What the kernel would do: `struct seccomp_data` through the program.
    fn judge(program: &BpfProgram, architecture: u32, number: libc::c_long, arguments: [u64; 6]) -> u32 {
        let mut data = Vec::new();
        data.extend((number as u32).to_le_bytes());
        data.extend(architecture.to_le_bytes());
        data.extend(0u64.to_le_bytes());
        arguments.iter().for_each(|argument| data.extend(argument.to_le_bytes()));
        let (mut accumulator, mut at) = (0u32, 0usize);
        loop {
            let one = &program[at];
            at += 1;
            let word = |offset: u32| {
                let offset = offset as usize;
                u32::from_le_bytes(std::array::from_fn(|byte| data[offset + byte]))
            };
            let jump = |taken: bool| usize::from(if taken { one.jt } else { one.jf });
            match one.code {
                LOAD_WORD => accumulator = word(one.k),
                JUMP => at += one.k as usize,
                JUMP_IF_EQUAL => at += jump(accumulator == one.k),
                JUMP_IF_AT_LEAST => at += jump(accumulator >= one.k),
                0x25 => at += jump(accumulator > one.k),
                0x54 => accumulator &= one.k,
                RETURN => return one.k,
                code => panic!("an instruction this test does not know: {code:#x}"),
            }
        }
    }

    fn of(leave: Leave, number: libc::c_long, arguments: [u64; 6]) -> u32 {
        judge(&program(SECRET, leave).expect("a program"), ARCHITECTURE, number, arguments)
    }

    #[test]
    fn every_number_is_judged_as_the_table_says() {
        for leave in [ALL, NONE] {
            let (program, allowed) = (program(SECRET, leave).expect("a program"), allowed(leave));
            for number in 0..600 {
                let verdict = judge(&program, ARCHITECTURE, number, [0x7777; 6]);
                let expected = match number {
                    number if allowed.contains(&number) => ALLOW,
                    number if number > NEWEST || number == libc::SYS_clone3 => FAIL_WITH | libc::ENOSYS as u32,
                    _ => DENIED,
                };
                assert_eq!(verdict, expected, "{number}");
            }
        }
    }

    #[test]
    fn foreign_architectures_are_killed() {
        let program = program(SECRET, ALL).expect("a program");
        for (architecture, number) in [(0x4000_0003, 1), (ARCHITECTURE, 0x4000_0001), (0xc000_00b7 ^ 1, 0)] {
            assert_eq!(judge(&program, architecture, number, [0; 6]), KILL_PROCESS);
        }
    }

    #[test]
    fn only_the_secret_executes() {
        let [first, second, third] = SECRET.0;
        assert_eq!(of(ALL, libc::SYS_execve, [1, 2, 3, first, second, third]), ALLOW);
        for wrong in [[first ^ (1 << 63), second, third], [first, second ^ 1, third], [first, second, third << 32]] {
            assert_eq!(of(ALL, libc::SYS_execve, [1, 2, 3, wrong[0], wrong[1], wrong[2]]), DENIED);
        }
        assert_eq!(of(ALL, libc::SYS_execveat, [1, 2, 3, first, second, third]), DENIED);
    }

    #[test]
    fn threads_but_no_processes() {
        let thread = 0x3d_0f00u64;
        assert_eq!(of(ALL, libc::SYS_clone, [thread, 0, 0, 0, 0, 0]), ALLOW);
        for flags in
            [libc::SIGCHLD as u64, thread & !0x1_0000, thread & !0x400, thread | libc::CLONE_NEWUSER as u64, 0x4111]
        {
            assert_eq!(of(ALL, libc::SYS_clone, [flags, 0, 0, 0, 0, 0]), DENIED, "{flags:#x}");
        }
    }

    #[test]
    fn arguments_are_masked_as_the_kernel_sees_them() {
        let high = 0xdead_beef_0000_0000u64;
        assert_eq!(of(ALL, libc::SYS_ioctl, [0, high | libc::TIOCSTI, 0, 0, 0, 0]), DENIED);
        assert_eq!(of(ALL, libc::SYS_ioctl, [0, high | libc::TCGETS, 0, 0, 0, 0]), ALLOW);
        assert_eq!(of(ALL, libc::SYS_fcntl, [0, high | libc::F_SETOWN as u64, 0, 0, 0, 0]), DENIED);
        assert_eq!(of(ALL, libc::SYS_socketpair, [1, 1 | 0x8_0800, 0, 0, 0, 0]), ALLOW);
        assert_eq!(of(ALL, libc::SYS_socketpair, [1, 2, 0, 0, 0, 0]), DENIED);
        assert_eq!(of(ALL, libc::SYS_socketpair, [2, 1, 0, 0, 0, 0]), DENIED);
        assert_eq!(of(ALL, libc::SYS_sendto, [3, 0, 0, 0, 1 << 40, 0]), DENIED);
    }

    #[test]
    fn secrets_differ() {
        assert_ne!(Secret::draw().expect("random"), Secret::draw().expect("random"));
    }
}
