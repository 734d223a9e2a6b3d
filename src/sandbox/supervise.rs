//! The supervisor: what stands between the host and an interpreter.
//!
//! The interpreter is not the host's child. `execve` gives every process SIGCHLD as its exit signal, so that a host would get
//! signals it knows nothing of, and its `waitpid(-1)` children that are not its own; and a host that reaps whatever it finds
//! would take the exit status away. So each run has a process in between that never executes anything. It is made with exit
//! signal 0, which neither signals the host nor shows up in its waits, and the interpreter is *its* child. Besides:
//!
//! * It is process 1 of the run's pid namespace. Its end is the end of everything in there, by the kernel's own doing; and
//!   the skill is an ordinary process, with the signals of one, rather than an init that the kernel spares most of them.
//! * It is the subreaper of all that a run may start, and ends only once nothing is left: **its end is the proof**.
//! * It dies with the host (`PR_SET_PDEATHSIG`), and the interpreter with it.
//!
//! It shares the host's memory (`CLONE_VM`), so that a host of 4 GB pays for no page tables, and the thread-local storage of
//! the library's launching thread. Hence the two halves of its life:
//!
//! 1. Until its first message the launching thread makes system calls alone, which leave `errno` as it is, and sleeps. Both processes made
//!    here may use the C library's wrappers, which write `errno`, but nothing that allocates, locks or panics.
//! 2. After it, the supervisor makes naked system calls and looks at nothing but its own stack.
//!
//! Every signal that the C library lets a thread block is blocked in it from before its start, and the other two from its first
//! step on, so that no handler of the host's runs in it. The interpreter's
//! process is made as `posix_spawn` makes one (`CLONE_VM | CLONE_VFORK`), with the supervisor asleep until `execve`.
//!
//! What was tried: a child of the host (see above); process 1 itself (a skill that aborts goes on, and the signal that ended
//! it cannot be named); a double fork, whose orphan nobody can wait for.

use std::ffi::{c_char, c_int, c_void};
use std::os::fd::{AsFd, OwnedFd, RawFd};

use rustix::io::{Errno, fcntl_dupfd_cloexec};

use super::confine::{self, Confinement};

/// Everything the two processes need, laid out before they exist. Pointers stay valid until the first message.
pub(super) struct Plan<'c> {
    pub executable: *const c_char,
    pub arguments: *const *const c_char,
    pub environment: *const *const c_char,
    /// Descriptors 0 to 3; all at [`FIRST_SOURCE`] or above.
    pub descriptors: [RawFd; 4],
    /// The supervisor's end of the control channel, likewise.
    pub control: RawFd,
    /// Resource limits: which, soft, hard.
    pub limits: *const (u32, u64, u64),
    pub limit_count: usize,
    /// The layers; nothing for what is trusted.
    pub confinement: Option<&'c Confinement<'c>>,
    /// One past the end of the stack of the interpreter's process.
    pub stack: *mut c_void,
    /// The supervisor's own number, as the interpreter's process will see it.
    pub supervisor: libc::pid_t,
}

/// Below this lie the descriptors that the processes themselves use.
const FIRST_SOURCE: RawFd = 10;

/// A copy of a descriptor, at [`FIRST_SOURCE`] or above.
pub(super) fn out_of_the_way(fd: impl AsFd) -> rustix::io::Result<OwnedFd> {
    fcntl_dupfd_cloexec(fd, FIRST_SOURCE).map_err(|error| match error {
        // So the call says that no descriptor may have such a number.
        Errno::INVAL => Errno::MFILE,
        error => error,
    })
}

/// The first byte of a message on the control channel.
pub(super) mod message {
    /// No interpreter: four bytes of `errno`, then what could not be done.
    pub const FAILED: u8 = b'F';
    /// There is one. Carries its pidfd, and the private folder if that is a file system of its own.
    pub const STARTED: u8 = b'S';
    /// It has ended: wait status, microseconds of processor time, largest resident size in KiB.
    pub const ENDED: u8 = b'E';
    /// The size of the latter.
    pub const ENDED_SIZE: usize = 1 + 4 + 8 + 8;
}

/// How many signals may be queued for each process of a run.
const QUEUED_SIGNALS: u64 = 64;
/// Where the control channel is in the interpreter's process until `execve` closes it.
const CONTROL: RawFd = 4;

/// The supervisor, from its first instruction to its last.
pub(super) extern "C" fn supervise(plan: *mut c_void) -> c_int {
    // SAFETY: `plan` is the `Plan` of the launching thread, which sleeps until the first message; what comes after it is
    // said to be the second half above, and keeps to it.
    unsafe {
        let plan = &mut *plan.cast::<Plan>();
        plan.supervisor = libc::getpid();
        let plan = &*plan;
        let folder = match prepare(plan) {
            Ok(folder) => folder,
            Err(stage) => fail(plan.control, stage),
        };
        let mut pidfd: c_int = -1;
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
        let argument = std::ptr::from_ref(plan).cast_mut().cast();
        let child = libc::clone(interpret, plan.stack, flags, argument, &mut pidfd);
        if child < 0 {
            fail(plan.control, "clone");
        }
        let control = plan.control;
        keep([control, pidfd, folder]);
        let is_known = tell_start([control, pidfd, folder]);
        keep([control; 3]);
        // If nobody hears of the interpreter, or the host died before the death signal was armed, it goes with this process.
        if is_known && !is_abandoned(control) {
            wait_for_all(child, control);
        }
        raw::exit()
    }
}

/// Session, death signal, namespaces. Says the private folder, if it is a file system of its own.
///
/// # Safety
///
/// As in the first half of [`supervise`].
unsafe fn prepare(plan: &Plan) -> Result<RawFd, &'static str> {
    // SAFETY: see `supervise`.
    unsafe {
        // All of them: the C library's own calls leave two out, which a host may have handlers for.
        let all = u64::MAX;
        let set = std::ptr::from_ref(&all) as usize;
        raw::call(libc::SYS_rt_sigprocmask, [libc::SIG_SETMASK as usize, set, 0, size_of::<u64>(), 0, 0]);
        // What is queued is charged to the host's user, also what a run queues here.
        let few = libc::rlimit { rlim_cur: QUEUED_SIGNALS, rlim_max: QUEUED_SIGNALS };
        libc::setrlimit(libc::RLIMIT_SIGPENDING, &few);
        if libc::setsid() < 0 {
            return Err("setsid");
        }
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) < 0 || libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) < 0 {
            return Err("prctl");
        }
        // A host that ignores it would have its copy ignore it, too, and never learn how a child ended.
        let mut default = std::mem::zeroed::<libc::sigaction>();
        default.sa_sigaction = libc::SIG_DFL;
        libc::sigaction(libc::SIGCHLD, &default, std::ptr::null_mut());
        // What `ps` shows, in place of the launching thread's name.
        libc::prctl(libc::PR_SET_NAME, c"skillcache-run".as_ptr());
        plan.confinement.map_or(Ok(-1), |layers| confine::enter_namespaces(layers))
    }
}

/// Closes every other descriptor: the host's are no business of a process that outlives the call. Takes no new ones, of which
/// a host may have none left.
///
/// # Safety
///
/// To be called in the supervisor alone.
unsafe fn keep(mut descriptors: [RawFd; 3]) {
    descriptors.sort_unstable();
    let mut first = 0;
    for kept in descriptors {
        // SAFETY: the descriptor table is the supervisor's own copy.
        unsafe { raw::close_between(first, kept) };
        first = first.max(kept + 1);
    }
    // SAFETY: as above.
    unsafe { raw::close_between(first, RawFd::MAX) };
}

/// Tells the launching thread that there is an interpreter, and hands over its pidfd and its folder; says whether that went
/// through.
///
/// # Safety
///
/// To be called in the supervisor alone.
unsafe fn tell_start([control, pidfd, folder]: [RawFd; 3]) -> bool {
    // SAFETY: everything pointed to is on this stack; the control buffer is aligned and large enough for two descriptors.
    unsafe {
        let mut letter = message::STARTED;
        let mut part = libc::iovec { iov_base: std::ptr::from_mut(&mut letter).cast(), iov_len: 1 };
        let mut ancillary = [0u64; 8];
        let mut header: libc::msghdr = std::mem::zeroed();
        header.msg_iov = &mut part;
        header.msg_iovlen = 1;
        let carried = [pidfd, folder];
        let count = carried.iter().filter(|fd| **fd >= 0).count();
        let size = (count * size_of::<RawFd>()) as u32;
        if count > 0 {
            header.msg_control = ancillary.as_mut_ptr().cast();
            header.msg_controllen = libc::CMSG_SPACE(size) as _;
            let rights = libc::CMSG_FIRSTHDR(&header);
            (*rights).cmsg_level = libc::SOL_SOCKET;
            (*rights).cmsg_type = libc::SCM_RIGHTS;
            (*rights).cmsg_len = libc::CMSG_LEN(size) as _;
            let data = libc::CMSG_DATA(rights).cast::<RawFd>();
            for (index, fd) in carried.into_iter().filter(|fd| *fd >= 0).enumerate() {
                data.add(index).write_unaligned(fd);
            }
        }
        let header = std::ptr::from_ref(&header) as usize;
        raw::call(libc::SYS_sendmsg, [control as usize, header, libc::MSG_NOSIGNAL as usize, 0, 0, 0]) > 0
    }
}

/// Whether the other end of the control channel is closed.
///
/// # Safety
///
/// To be called in the supervisor, with every other descriptor closed.
unsafe fn is_abandoned(control: RawFd) -> bool {
    let mut poll = libc::pollfd { fd: control, events: 0, revents: 0 };
    let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let arguments = [std::ptr::from_mut(&mut poll) as usize, 1, std::ptr::from_ref(&at_once) as usize, 0, 8, 0];
    // SAFETY: both are on this stack.
    let ready = unsafe { raw::call(libc::SYS_ppoll, arguments) };
    ready > 0 && poll.revents & libc::POLLHUP != 0
}

/// Reaps until nothing is left, and tells of the interpreter's end.
///
/// # Safety
///
/// To be called in the supervisor alone.
unsafe fn wait_for_all(child: libc::pid_t, control: RawFd) {
    // SAFETY: the kernel fills plain data on this stack.
    unsafe {
        loop {
            let mut status: c_int = 0;
            let mut usage: libc::rusage = std::mem::zeroed();
            let (status_at, usage_at) =
                (std::ptr::from_mut(&mut status) as usize, std::ptr::from_mut(&mut usage) as usize);
            let any = usize::MAX;
            let ended = raw::call(libc::SYS_wait4, [any, status_at, libc::__WALL as usize, usage_at, 0, 0]);
            if ended == child as isize {
                tell_end(control, status, &usage);
            } else if ended < 0 && ended != -(libc::EINTR as isize) {
                return;
            }
        }
    }
}

/// # Safety
///
/// To be called in the supervisor alone.
unsafe fn tell_end(control: RawFd, status: c_int, usage: &libc::rusage) {
    let micros = |time: libc::timeval| time.tv_sec as u64 * 1_000_000 + time.tv_usec as u64;
    let mut text = [0u8; message::ENDED_SIZE];
    text[0] = message::ENDED;
    text[1..5].copy_from_slice(&status.to_ne_bytes());
    text[5..13].copy_from_slice(&(micros(usage.ru_utime) + micros(usage.ru_stime)).to_ne_bytes());
    text[13..21].copy_from_slice(&(usage.ru_maxrss as u64).to_ne_bytes());
    let no_signal = libc::MSG_NOSIGNAL as usize;
    // SAFETY: the text is on this stack.
    unsafe { raw::call(libc::SYS_sendto, [control as usize, text.as_ptr() as usize, text.len(), no_signal, 0, 0]) };
}

/// Says what could not be done and why, and ends.
///
/// # Safety
///
/// To be called where `errno` is that of the failure.
unsafe fn fail(control: RawFd, stage: &'static str) -> ! {
    // SAFETY: `errno` may be read; the parts are alive.
    unsafe {
        let head = [message::FAILED];
        let errno = (*libc::__errno_location()).to_ne_bytes();
        let part = |bytes: &[u8]| libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let parts = [part(&head), part(&errno), part(stage.as_bytes())];
        libc::writev(control, parts.as_ptr(), parts.len() as c_int);
        libc::_exit(127)
    }
}

/// The interpreter's process, from `clone` to `execve`: system calls only, no allocation, no panic.
extern "C" fn interpret(plan: *mut c_void) -> c_int {
    // SAFETY: `plan` is the `Plan` that `supervise` was given, and the supervisor sleeps until `execve` or the end. Every call
    // takes pointers into the plan or to locals and changes this process alone (its descriptor table, signal dispositions,
    // limits, credentials and directory are its own, not shared by CLONE_VM).
    unsafe {
        let plan = &*plan.cast::<Plan>();
        let (stage, control) = enter(plan);
        fail(control, stage)
    }
}

/// Goes through all the steps; returns only when one of them fails, with its name and where to say so.
///
/// # Safety
///
/// As in [`interpret`].
unsafe fn enter(plan: &Plan) -> (&'static str, RawFd) {
    // SAFETY: see `interpret`.
    unsafe {
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) < 0 {
            return ("prctl", plan.control);
        }
        // It may have died before the death signal was armed.
        if libc::getppid() != plan.supervisor {
            return ("find its supervisor alive", plan.control);
        }
        // A session of its own as well: what it does to its process group is not to reach the supervisor.
        libc::setsid();
        reset_signals();
        for (target, source) in plan.descriptors.iter().chain([&plan.control]).enumerate() {
            if libc::dup2(*source, target as c_int) < 0 {
                return ("dup2", plan.control);
            }
        }
        libc::fcntl(CONTROL, libc::F_SETFD, libc::FD_CLOEXEC);
        if plan.confinement.is_none() && libc::chdir(c"/".as_ptr()) < 0 {
            return ("chdir", CONTROL);
        }
        libc::umask(0o077);
        let close = || raw::close_between(CONTROL + 1, RawFd::MAX);
        let secret = match plan.confinement {
            Some(layers) => match confine::enter(layers, close) {
                Ok(()) => layers.secret.0,
                Err(stage) => return (stage, CONTROL),
            },
            None => {
                close();
                [0; 3]
            }
        };
        if !limit_resources(plan) {
            return ("setrlimit", CONTROL);
        }
        let [first, second, third] = secret;
        let (executable, arguments, environment) = (plan.executable, plan.arguments, plan.environment);
        libc::syscall(libc::SYS_execve, executable, arguments, environment, first, second, third);
        ("start the interpreter", CONTROL)
    }
}

/// # Safety
///
/// As in [`interpret`].
unsafe fn reset_signals() {
    // SAFETY: see `interpret`.
    unsafe {
        let mut default = std::mem::zeroed::<libc::sigaction>();
        default.sa_sigaction = libc::SIG_DFL;
        for signal in 1..=64 {
            libc::sigaction(signal, &default, std::ptr::null_mut());
        }
        let mut none = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
}

/// Sets the limits: last, because an emulator that runs this code, and the layers, need memory and descriptors of their own.
///
/// # Safety
///
/// As in [`interpret`].
unsafe fn limit_resources(plan: &Plan) -> bool {
    // SAFETY: see `interpret`; the plan's limits are an array of that many.
    unsafe {
        (0..plan.limit_count).all(|index| {
            let (resource, soft, hard) = *plan.limits.add(index);
            limit_resource(resource, soft, hard)
        })
    }
}

/// Lowers a limit; a hard limit that is already lower stays.
///
/// # Safety
///
/// As in [`interpret`].
unsafe fn limit_resource(resource: u32, soft: u64, hard: u64) -> bool {
    // SAFETY: see `interpret`.
    unsafe {
        let mut limit = std::mem::zeroed::<libc::rlimit>();
        if libc::getrlimit(resource, &mut limit) < 0 {
            return false;
        }
        let hard = hard.min(limit.rlim_max);
        if libc::setrlimit(resource, &libc::rlimit { rlim_cur: soft.min(hard), rlim_max: hard }) == 0 {
            return true;
        }
        // The kernel lets everybody lower a limit. Valgrind keeps the hard one of descriptors for itself.
        resource == libc::RLIMIT_NOFILE && {
            limit.rlim_cur = soft.min(hard);
            libc::setrlimit(resource, &limit) == 0
        }
    }
}

/// System calls that leave `errno`, and with it the launching thread's storage, alone.
mod raw {
    use std::os::fd::RawFd;

    /// Any system call; a negative answer is an error's number.
    ///
    /// # Safety
    ///
    /// As for the call itself.
    #[cfg(target_arch = "x86_64")]
    pub unsafe fn call(number: libc::c_long, arguments: [usize; 6]) -> isize {
        let [first, second, third, fourth, fifth, sixth] = arguments;
        let answer: isize;
        // SAFETY: the kernel's calling convention; it changes the answer's register, rcx and r11 alone.
        unsafe {
            std::arch::asm!(
                "syscall",
                inlateout("rax") number as isize => answer,
                in("rdi") first, in("rsi") second, in("rdx") third, in("r10") fourth, in("r8") fifth, in("r9") sixth,
                lateout("rcx") _, lateout("r11") _,
                options(nostack),
            );
        }
        answer
    }

    /// Any system call; a negative answer is an error's number.
    ///
    /// # Safety
    ///
    /// As for the call itself.
    #[cfg(target_arch = "aarch64")]
    pub unsafe fn call(number: libc::c_long, arguments: [usize; 6]) -> isize {
        let [first, second, third, fourth, fifth, sixth] = arguments;
        let answer: isize;
        // SAFETY: the kernel's calling convention; it changes the answer's register alone.
        unsafe {
            std::arch::asm!(
                "svc 0",
                in("x8") number,
                inlateout("x0") first as isize => answer,
                in("x1") second, in("x2") third, in("x3") fourth, in("x4") fifth, in("x5") sixth,
                options(nostack),
            );
        }
        answer
    }

    /// # Safety
    ///
    /// The descriptor is this process's own and nobody else uses it.
    pub unsafe fn close(fd: RawFd) {
        // SAFETY: the caller's promise.
        unsafe { call(libc::SYS_close, [fd as usize, 0, 0, 0, 0, 0]) };
    }

    /// Closes every descriptor from `first` on that is below `end`.
    ///
    /// # Safety
    ///
    /// The descriptor table is this process's own.
    pub unsafe fn close_between(first: RawFd, end: RawFd) {
        if first >= end {
            return;
        }
        // SAFETY: the caller's promise; the limit is on this stack.
        unsafe {
            if call(libc::SYS_close_range, [first as usize, end as usize - 1, 0, 0, 0, 0]) == 0 {
                return;
            }
            // Before Linux 5.9, or under a filter that does not know the call.
            let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            let at = std::ptr::from_mut(&mut limit) as usize;
            call(libc::SYS_prlimit64, [0, libc::RLIMIT_NOFILE as usize, 0, at, 0, 0]);
            for fd in first..end.min(limit.rlim_cur.min(1 << 20) as RawFd) {
                close(fd);
            }
        }
    }

    /// Ends this process.
    pub fn exit() -> ! {
        loop {
            // SAFETY: the call does not come back.
            unsafe { call(libc::SYS_exit_group, [0; 6]) };
        }
    }
}
