//! Starting a child without copying the host.
//!
//! A game engine of 4 GB pays milliseconds for the page tables that `fork` copies, and only async-signal-safe code may
//! run between `fork` and `exec` of a threaded process anyway. So the child is made as `posix_spawn` makes it, by
//! `clone(CLONE_VM | CLONE_VFORK)` on a stack of its own: it shares the host's memory, the calling thread sleeps until
//! `execve`, and all that runs in between is [`child_main`], which makes system calls and touches nothing but the
//! [`Plan`] that was laid out before. (`posix_spawn` itself cannot set resource limits or a death signal.)
//!
//! Invariants:
//! * Every signal is blocked in the calling thread around the clone, so that no handler of the host runs in the child on
//!   shared memory; the child resets all dispositions before it unblocks.
//! * The child keeps descriptors 0 to 3 and nothing else; the sources lie at 10 or above, so that no `dup2` overwrites
//!   one that is still needed.
//! * The child dies with the calling thread (`PR_SET_PDEATHSIG`), which waits for it in any case.
//! * It is reaped through its pidfd only. A host that reaps everything with `waitpid(-1)` may get there first; then the
//!   exit status is lost and nothing else.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::{Pid, Signal, kill_process, pidfd_send_signal};

use super::confine::{self, Confinement};

/// What to start.
pub(super) struct Command<'c> {
    pub executable: &'c CStr,
    pub arguments: &'c [CString],
    pub environment: &'c [CString],
    /// The working directory.
    pub folder: &'c CStr,
    /// Descriptors 0, 1, 2 and, if given, 3.
    pub descriptors: [Option<BorrowedFd<'c>>; 4],
    /// Resource limits: soft and hard.
    pub limits: &'c [(u32, u64, u64)],
    /// The layers; nothing for what is trusted.
    pub confinement: Option<&'c Confinement<'c>>,
}

/// A started child.
pub(super) struct Child {
    pub pid: Pid,
    pidfd: OwnedFd,
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    Status(i32),
    Signal(i32),
    /// The host reaped it before we could.
    Unknown,
}

/// What a child used, as far as the kernel told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub cpu: Duration,
}

/// Why no child was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LaunchError {
    pub stage: &'static str,
    pub errno: i32,
}

/// Everything the child needs, laid out before it exists. Pointers stay valid because the caller sleeps until `execve`.
struct Plan<'c> {
    executable: *const c_char,
    arguments: *const *const c_char,
    environment: *const *const c_char,
    folder: *const c_char,
    descriptors: [RawFd; 4],
    limits: *const (u32, u64, u64),
    limit_count: usize,
    confinement: Option<&'c Confinement<'c>>,
    parent: libc::pid_t,
    stage: &'static str,
    errno: c_int,
}

const STACK_SIZE: usize = 64 << 10;
/// Below this lie the descriptors the child itself uses.
pub(super) const FIRST_SOURCE: RawFd = 10;

pub(super) fn spawn(command: &Command) -> Result<Child, LaunchError> {
    let sources = command.descriptors.map(|fd| fd.map(|fd| fcntl_dupfd_cloexec(fd, FIRST_SOURCE)).transpose());
    let mut descriptors = [-1; 4];
    let mut kept = Vec::with_capacity(4);
    for (slot, source) in descriptors.iter_mut().zip(sources) {
        let source =
            source.map_err(|error| LaunchError { stage: "duplicate a descriptor", errno: error.raw_os_error() })?;
        if let Some(source) = source {
            *slot = source.as_raw_fd();
            kept.push(source);
        }
    }
    let arguments = pointers(command.arguments);
    let environment = pointers(command.environment);
    let mut plan = Plan {
        executable: command.executable.as_ptr(),
        arguments: arguments.as_ptr(),
        environment: environment.as_ptr(),
        folder: command.folder.as_ptr(),
        descriptors,
        limits: command.limits.as_ptr(),
        limit_count: command.limits.len(),
        confinement: command.confinement,
        // SAFETY: getpid has no preconditions.
        parent: unsafe { libc::getpid() },
        stage: "",
        errno: 0,
    };
    let child = with_signals_blocked(|| clone_child(&mut plan))?;
    if plan.errno != 0 {
        // The child has already left through `_exit`; only its status is to be collected.
        let (stage, errno) = (plan.stage, plan.errno);
        child.reap();
        return Err(LaunchError { stage, errno });
    }
    Ok(child)
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
}

/// Does some work with every signal blocked in the calling thread. Threads started meanwhile keep them blocked, so that no
/// handler of the host ever runs on one of ours.
pub fn with_signals_blocked<T>(work: impl FnOnce() -> T) -> T {
    /// Puts the mask back, whichever way the work ends.
    struct Before(libc::sigset_t);
    impl Drop for Before {
        fn drop(&mut self) {
            // SAFETY: the set is what the call below filled; the mask is the calling thread's own.
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut()) };
        }
    }
    // SAFETY: both sets are plain data that the calls initialise before anything reads them, and the mask is the calling
    // thread's own.
    let _before = unsafe {
        let (mut all, mut before) = (std::mem::zeroed::<libc::sigset_t>(), std::mem::zeroed::<libc::sigset_t>());
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        Before(before)
    };
    work()
}

fn clone_child(plan: &mut Plan) -> Result<Child, LaunchError> {
    // u128 gives the 16-byte alignment that the ABI wants of a stack.
    let mut stack = vec![0u128; STACK_SIZE / 16];
    let mut pidfd: c_int = -1;
    let further = plan.confinement.map_or(0, Confinement::clone_flags);
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD | further;
    // SAFETY: `child_main` gets a pointer to `plan`, which outlives it: with CLONE_VFORK this thread goes on only after
    // the child has called `execve` or `_exit`, and so do `stack` and everything `plan` points to. The stack grows down
    // from one past the end of the buffer. `pidfd` receives a descriptor because of CLONE_PIDFD.
    let pid = unsafe {
        let top = stack.as_mut_ptr().add(stack.len()).cast::<c_void>();
        libc::clone(child_main, top, flags, std::ptr::from_mut(plan).cast(), &mut pidfd)
    };
    let failed = |stage| LaunchError { stage, errno: std::io::Error::last_os_error().raw_os_error().unwrap_or(0) };
    let pid = Some(pid).filter(|pid| *pid > 0).and_then(Pid::from_raw).ok_or_else(|| failed("clone"))?;
    if pidfd < 0 {
        return Err(failed("clone (no pidfd)"));
    }
    // SAFETY: the kernel has just made this descriptor for us and nothing else knows it.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Child { pid, pidfd })
}

/// Runs in the child, on shared memory, between `clone` and `execve`: system calls only, no allocation, no panic.
extern "C" fn child_main(plan: *mut c_void) -> c_int {
    // SAFETY: `plan` is the `Plan` of `clone_child`, alive and untouched by the sleeping parent. Every call below is
    // async-signal-safe, takes pointers into the plan or to locals, and changes this process alone (its descriptor
    // table, signal dispositions, session, limits and directory are its own, not shared by CLONE_VM).
    unsafe {
        let plan = &mut *plan.cast::<Plan>();
        let stage = enter(plan);
        plan.stage = stage;
        plan.errno = *libc::__errno_location();
        libc::_exit(127)
    }
}

/// Goes through all the steps; returns only when one of them fails, with its name.
///
/// # Safety
///
/// As in [`child_main`].
unsafe fn enter(plan: &Plan) -> &'static str {
    // SAFETY: see `child_main`.
    unsafe {
        if libc::setsid() < 0 {
            return "setsid";
        }
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) < 0 || libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) < 0 {
            return "prctl";
        }
        // The parent may have died before the death signal was armed.
        let is_process_one = plan.confinement.is_some_and(Confinement::is_process_one);
        if !is_process_one && libc::getppid() != plan.parent {
            return "find its parent alive";
        }
        let mut default = std::mem::zeroed::<libc::sigaction>();
        default.sa_sigaction = libc::SIG_DFL;
        for signal in 1..=64 {
            libc::sigaction(signal, &default, std::ptr::null_mut());
        }
        // Before the descriptors: an emulator or the layers themselves may need some.
        if let Err(stage) = plan.confinement.map_or(Ok(()), |layers| confine::enter_namespaces(layers)) {
            return stage;
        }
        for (target, source) in plan.descriptors.iter().enumerate() {
            if *source >= 0 && libc::dup2(*source, target as c_int) < 0 {
                return "dup2";
            }
        }
        let close = || close_others(if plan.descriptors[3] < 0 { 3 } else { 4 });
        if plan.confinement.is_none() && libc::chdir(plan.folder) < 0 {
            return "chdir";
        }
        libc::umask(0o077);
        let mut none = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
        let Some(layers) = plan.confinement else {
            close();
            if !limit_resources(plan) {
                return "setrlimit";
            }
            libc::execve(plan.executable, plan.arguments, plan.environment);
            return "start the interpreter";
        };
        if let Err(stage) = confine::enter(layers, close) {
            return stage;
        }
        if !limit_resources(plan) {
            return "setrlimit";
        }
        // The host may have died before the death signal was armed; then its end of the channel is closed.
        let mut channel = libc::pollfd { fd: 3, events: 0, revents: 0 };
        if libc::poll(&mut channel, 1, 0) > 0 && channel.revents & libc::POLLHUP != 0 {
            return "find its host alive";
        }
        let [first, second, third] = layers.secret.0;
        let (executable, arguments, environment) = (plan.executable, plan.arguments, plan.environment);
        libc::syscall(libc::SYS_execve, executable, arguments, environment, first, second, third);
        "start the interpreter"
    }
}

/// Sets the limits: last, because an emulator that runs this code, and the layers, need memory and descriptors of their own.
///
/// # Safety
///
/// As in [`child_main`].
unsafe fn limit_resources(plan: &Plan) -> bool {
    // SAFETY: see `child_main`; the plan's limits are an array of that many.
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
/// As in [`child_main`].
unsafe fn limit_resource(resource: u32, soft: u64, hard: u64) -> bool {
    // SAFETY: see `child_main`.
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

/// # Safety
///
/// As in [`child_main`].
unsafe fn close_others(first: u32) {
    // SAFETY: see `child_main`; the descriptor table is the child's own copy.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) == 0 {
            return;
        }
        // Before Linux 5.9, or under a filter that does not know the call.
        let mut limit = std::mem::zeroed::<libc::rlimit>();
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        for fd in first..limit.rlim_cur.min(1 << 20) as u32 {
            libc::close(fd as c_int);
        }
    }
}

impl Child {
    /// Readable once the child has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Sends a signal; false when the child has been reaped already.
    pub fn signal(&self, signal: Signal) -> bool {
        match pidfd_send_signal(&self.pidfd, signal) {
            // Emulators such as valgrind do not know the call; while the child lives, its number is its own.
            Err(Errno::NOSYS) => !self.has_ended() && kill_process(self.pid, signal).is_ok(),
            sent => sent.is_ok(),
        }
    }

    fn has_ended(&self) -> bool {
        let mut ended = [PollFd::new(&self.pidfd, PollFlags::IN)];
        !matches!(poll(&mut ended, Some(&Timespec::default())), Ok(0))
    }

    /// Waits for the end and collects it.
    pub fn reap(&self) -> (Exit, Usage) {
        // SAFETY: siginfo_t and rusage are plain data that the kernel fills; the raw call is used because the libc
        // wrapper leaves out its fifth argument, the usage. The pidfd is ours.
        unsafe {
            let mut info = std::mem::zeroed::<libc::siginfo_t>();
            let mut usage = std::mem::zeroed::<libc::rusage>();
            loop {
                let fd = self.pidfd.as_raw_fd();
                let waited = libc::syscall(libc::SYS_waitid, libc::P_PIDFD, fd, &mut info, libc::WEXITED, &mut usage);
                if waited == 0 {
                    break;
                }
                if std::io::Error::last_os_error().kind() != std::io::ErrorKind::Interrupted {
                    return (Exit::Unknown, Usage::default());
                }
            }
            let time = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
            let exit = match info.si_code {
                libc::CLD_EXITED => Exit::Status(info.si_status()),
                _ => Exit::Signal(info.si_status()),
            };
            (exit, Usage { cpu: time(usage.ru_utime) + time(usage.ru_stime) })
        }
    }
}
