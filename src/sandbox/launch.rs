//! Starting a run's processes without copying the host, and ending them.
//!
//! A game engine of 4 GB pays milliseconds for the page tables that `fork` copies, and only async-signal-safe code may run
//! between `fork` and `exec` of a threaded process anyway. So nothing is forked: see [`supervise`](super::supervise) for the
//! two processes that a run consists of, which share the host's memory until the interpreter is executed.
//!
//! One long-lived thread, the [`Launcher`], makes them all. A death signal is tied to the *thread* that made a process, so it
//! must not be one that comes and goes; and a thread of our own has neither the host's signal mask nor a real-time class. It can
//! also enter namespaces for itself: on a host with privilege it keeps one file tree and one empty network for all runs, of
//! which each run then takes a private copy, in place of building them anew every time.
//!
//! Invariants:
//! * From `clone` to the supervisor's first message the launching thread makes system calls alone, none of which writes `errno`:
//!   it closes its copy of the channel, and sleeps. (`recvmsg` is rustix's, which calls the kernel without the C library.) What
//!   the plan points to is alive until then.
//! * The stack of a supervisor lives until the supervisor has been reaped, which [`Child`] waits for when it is dropped; that of
//!   the interpreter's process until it has executed the interpreter, or is gone.
//! * Nothing is waited for but by pidfd, save the trial of `shares_memory`, which no other wait can find.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SocketFlags, SocketType, recv,
    recvmsg, socketpair,
};
use rustix::process::{Pid, Signal, kill_process, pidfd_send_signal};

use super::confine::{self, Confinement, Tree};
use super::supervise::{Plan, message, out_of_the_way, supervise};

/// What to start.
pub(super) struct Command<'c> {
    pub executable: &'c CStr,
    pub arguments: &'c [CString],
    pub environment: &'c [CString],
    /// Descriptors 0 to 3.
    pub descriptors: [BorrowedFd<'c>; 4],
    /// Resource limits: which, soft, hard.
    pub limits: &'c [(u32, u64, u64)],
    /// The layers; nothing for what is trusted.
    pub confinement: Option<&'c Confinement<'c>>,
}

/// How an interpreter ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    Status(i32),
    Signal(i32),
    /// Its supervisor was killed, so that nobody knows.
    Unknown,
}

/// What an interpreter used, as the kernel counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counted {
    pub cpu: Duration,
    /// The largest resident size in bytes, if it is known to be the interpreter's own: a process begins with the host's.
    pub peak_memory: Option<u64>,
}

/// Why nothing was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LaunchError {
    pub stage: String,
    pub errno: i32,
}

impl LaunchError {
    fn at(stage: &str, error: impl Into<std::io::Error>) -> Self {
        LaunchError { stage: stage.to_owned(), errno: error.into().raw_os_error().unwrap_or(0) }
    }

    fn here(stage: &str) -> Self {
        LaunchError::at(stage, std::io::Error::last_os_error())
    }
}

/// The thread that starts a library's runs. They die with it, so it lives as long as the library.
#[derive(Debug)]
pub(super) struct Launcher {
    requests: Option<mpsc::Sender<Request>>,
    thread: Option<JoinHandle<()>>,
}

/// A command whose owner waits for the reply.
struct Request {
    command: *const Command<'static>,
    reply: mpsc::SyncSender<Result<Child, LaunchError>>,
}

// SAFETY: the command is read by the launcher's thread alone while its owner waits, in `Launcher::launch`; all that it
// borrows may be read from any thread. (Nothing between `clone` and the first message can panic.)
unsafe impl Send for Request {}

impl Launcher {
    /// Starts the thread; with `shared`, inside namespaces and a tree of its own that all its runs begin with.
    pub fn start(shared: Option<&Tree>) -> Result<Self, LaunchError> {
        let (requests, received) = mpsc::channel::<Request>();
        let (is_ready, ready) = mpsc::sync_channel(1);
        let tree = shared.cloned();
        let thread = std::thread::Builder::new().name("skillcache-launch".to_owned());
        let work = move || {
            let entered = be_ordinary().and_then(|()| shares_memory()).and_then(|shares_memory| {
                tree.map_or(Ok(()), |tree| enter(&tree, shares_memory)).map(|()| shares_memory)
            });
            let shares_memory = entered.as_ref().ok().copied();
            let _ = is_ready.send(entered.map(drop));
            if let Some(shares_memory) = shares_memory {
                serve(&received, shares_memory);
            }
        };
        let thread =
            with_signals_blocked(|| thread.spawn(work)).map_err(|error| LaunchError::at("start a thread", error))?;
        let launcher = Launcher { requests: Some(requests), thread: Some(thread) };
        ready.recv().unwrap_or_else(|_| Err(gone()))?;
        Ok(launcher)
    }

    /// Starts a run's processes.
    pub fn launch(&self, command: &Command) -> Result<Child, LaunchError> {
        let (reply, replied) = mpsc::sync_channel(1);
        let command = std::ptr::from_ref(command).cast::<Command<'static>>();
        let sent = self.requests.as_ref().and_then(|requests| requests.send(Request { command, reply }).ok());
        sent.ok_or_else(gone)?;
        // The thread answers or, should it panic, drops the reply; either way it is done with the command.
        replied.recv().unwrap_or_else(|_| Err(gone()))
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        drop(self.requests.take());
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has nothing left to say.
            let _ = thread.join();
        }
    }
}

fn gone() -> LaunchError {
    LaunchError { stage: "reach the thread that starts runs".to_owned(), errno: libc::ESRCH }
}

/// Leaves a real-time class, which the host's thread may have had that was the first to need this one.
fn be_ordinary() -> Result<(), LaunchError> {
    // SAFETY: it concerns the calling thread, which is the launcher's own; the parameter is plain data.
    let set = unsafe {
        let no_priority = std::mem::zeroed::<libc::sched_param>();
        libc::sched_setscheduler(0, libc::SCHED_OTHER, &no_priority)
    };
    // Emulators do not know it.
    if set < 0 && std::io::Error::last_os_error().raw_os_error() != Some(libc::ENOSYS) {
        return Err(LaunchError::here("leave its scheduling class"));
    }
    Ok(())
}

fn enter(tree: &Tree, shares_memory: bool) -> Result<(), LaunchError> {
    if !shares_memory {
        return Err(emulated());
    }
    // SAFETY: the calling thread is the launcher's own and has nothing of the host's to lose.
    unsafe { confine::enter_shared(tree) }.map_err(LaunchError::here)
}

/// Emulators know processes, but not the layers.
fn emulated() -> LaunchError {
    LaunchError { stage: "have namespaces in an emulator".to_owned(), errno: libc::ENOSYS }
}

fn serve(requests: &mpsc::Receiver<Request>, shares_memory: bool) {
    while let Ok(Request { command, reply }) = requests.recv() {
        // SAFETY: its owner waits for the reply, which is given once the command is no longer needed.
        let started = start(unsafe { &*command }, shares_memory);
        // The owner waits, or is gone with its process.
        let _ = reply.send(started);
    }
}

/// Whether processes made by `clone(CLONE_VM)` really share this one's memory. Emulators such as valgrind copy it, and know
/// the call only as `vfork` uses it. There a supervisor is a copy, as made by `fork`.
fn shares_memory() -> Result<bool, LaunchError> {
    extern "C" fn note(word: *mut c_void) -> c_int {
        // SAFETY: the word is that of the caller, which sleeps meanwhile.
        unsafe { word.cast::<c_int>().write_volatile(1) };
        0
    }
    let mut stack = Stack::new();
    let mut word: c_int = 0;
    // SAFETY: the stack and the word outlive the process: with CLONE_VFORK this thread goes on only once it has ended. It is
    // reaped by its number, which is its own until then: it has no exit signal, so that nobody else's wait finds it.
    unsafe {
        let flags = libc::CLONE_VM | libc::CLONE_VFORK;
        let pid = libc::clone(note, stack.top(), flags, std::ptr::from_mut(&mut word).cast());
        if pid < 0 {
            return Err(LaunchError::here("clone"));
        }
        libc::waitpid(pid, std::ptr::null_mut(), libc::__WALL);
        Ok(std::ptr::from_ref(&word).read_volatile() == 1)
    }
}

fn start(command: &Command, shares_memory: bool) -> Result<Child, LaunchError> {
    let duplicated =
        |fd: BorrowedFd| out_of_the_way(fd).map_err(|error| LaunchError::at("duplicate a descriptor", error));
    let [null, stdout, stderr, channel] = command.descriptors.map(duplicated);
    let sources = [null?, stdout?, stderr?, channel?];
    let sockets = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
    let (control, low) = sockets.map_err(|error| LaunchError::at("open its control channel", error))?;
    let theirs = duplicated(low.as_fd())?;
    drop(low);
    let (arguments, environment) = (pointers(command.arguments), pointers(command.environment));
    let (mut stack, mut supervisors_stack) = (Stack::new(), Stack::new());
    let mut plan = Plan {
        executable: command.executable.as_ptr(),
        arguments: arguments.as_ptr(),
        environment: environment.as_ptr(),
        descriptors: sources.each_ref().map(AsRawFd::as_raw_fd),
        control: theirs.as_raw_fd(),
        limits: command.limits.as_ptr(),
        limit_count: command.limits.len(),
        confinement: command.confinement,
        stack: stack.top(),
        supervisor: 0,
    };
    let supervisor = clone_supervisor(&mut plan, &mut supervisors_stack, shares_memory)?;
    // Ours would keep the channel open beyond the supervisor's end. The C library's `close` may write `errno`, this one does
    // not.
    // SAFETY: the descriptor is this function's own and not used again.
    unsafe { rustix::io::close(theirs.into_raw_fd()) };
    let mut child = Child {
        supervisor,
        control,
        process: None,
        folder: None,
        pid: None,
        ended: None,
        is_reaped: false,
        hosts_peak: 0,
        stacks: Some([supervisors_stack, stack]),
    };
    if let Err(error) = child.await_start() {
        child.await_silence();
        return Err(error);
    }
    // By now the interpreter has begun, and with what our size was at most.
    child.hosts_peak = own_peak();
    if let Err(errno) = rustix::io::ioctl_fionbio(&child.control, true) {
        return Err(LaunchError::at("open its control channel", errno));
    }
    Ok(child)
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
}

fn clone_supervisor(plan: &mut Plan, stack: &mut Stack, shares_memory: bool) -> Result<OwnedFd, LaunchError> {
    let further = plan.confinement.map_or(0, Confinement::clone_flags);
    if !shares_memory && further != 0 {
        return Err(emulated());
    }
    let memory = if shares_memory { libc::CLONE_VM } else { 0 };
    let mut pidfd: c_int = -1;
    // SAFETY: `supervise` gets a pointer to the plan, which `start` keeps until the first message; the stack is kept until it
    // is reaped. `pidfd` receives a descriptor because of CLONE_PIDFD.
    let pid = unsafe {
        let flags = memory | libc::CLONE_PIDFD | further;
        libc::clone(supervise, stack.top(), flags, std::ptr::from_mut(plan).cast(), &mut pidfd)
    };
    if pid < 0 || pidfd < 0 {
        return Err(LaunchError::here("clone"));
    }
    // SAFETY: the kernel has just made this descriptor for us and nothing else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(pidfd) })
}

/// This process's own largest resident size in bytes: what a process that shares its memory begins with.
fn own_peak() -> u64 {
    // SAFETY: the kernel fills plain data.
    let kib = unsafe {
        let mut usage = std::mem::zeroed::<libc::rusage>();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage.ru_maxrss
    };
    u64::try_from(kib).unwrap_or(0) << 10
}

/// A stack for a process that shares our memory.
struct Stack(Vec<u128>);

impl Stack {
    const SIZE: usize = 64 << 10;

    fn new() -> Self {
        // u128 gives the 16-byte alignment that the ABI wants of a stack.
        Stack(vec![0; Self::SIZE / 16])
    }

    /// One past the end: stacks grow down.
    fn top(&mut self) -> *mut c_void {
        self.0.as_mut_ptr_range().end.cast()
    }
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

/// A run's processes. Dropping it ends them and waits until nothing is left.
pub(super) struct Child {
    /// The supervisor's pidfd.
    supervisor: OwnedFd,
    control: OwnedFd,
    /// The interpreter's pidfd.
    process: Option<OwnedFd>,
    /// The private folder, if it is a file system of its own.
    folder: Option<OwnedFd>,
    pid: Option<Pid>,
    ended: Option<(Exit, Counted)>,
    is_reaped: bool,
    hosts_peak: u64,
    /// Nothing, if it is not known whether somebody still stands on them.
    stacks: Option<[Stack; 2]>,
}

impl Child {
    /// Sleeps until the supervisor says whether there is an interpreter.
    fn await_start(&mut self) -> Result<(), LaunchError> {
        let mut text = [0u8; 128];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let (count, flags) = loop {
            self.await_word_or_end(None);
            let mut parts = [IoSliceMut::new(&mut text)];
            match recvmsg(&self.control, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT) {
                Ok(message) => break (message.bytes, message.flags),
                // Its end, without a word. Somebody else may have a copy of its end of the channel: a child that the host
                // forked at this moment.
                Err(Errno::AGAIN) if self.is_over() => break (0, ReturnFlags::empty()),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(error) => return Err(LaunchError::at("hear of its supervisor", error)),
            }
        };
        let carried = ancillary.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        let mut descriptors = carried.flatten();
        match text[..count] {
            [message::STARTED, ..] => {
                self.process = descriptors.next();
                self.folder = descriptors.next();
                if self.process.is_none() || flags.contains(ReturnFlags::CTRUNC) {
                    // The kernel drops descriptors for which there is no room here.
                    self.kill_supervisor();
                    return Err(LaunchError { stage: "take its descriptors".to_owned(), errno: libc::EMFILE });
                }
                Ok(())
            }
            [message::FAILED, a, b, c, d, ref stage @ ..] => {
                let errno = i32::from_ne_bytes([a, b, c, d]);
                Err(LaunchError { stage: String::from_utf8_lossy(stage).into_owned(), errno })
            }
            _ => Err(LaunchError { stage: "keep its supervisor alive".to_owned(), errno: libc::ECHILD }),
        }
    }

    /// After a failed start: waits until both processes have closed their ends of the control channel, as they do when they end
    /// or execute the interpreter, and ends what is left. Until then the interpreter's process may still be on our stack,
    /// whatever became of its supervisor. If that cannot be seen, the stacks are given up.
    fn await_silence(&mut self) {
        /// With the supervisor gone, only a copy of its end that somebody else has keeps the channel open.
        const PATIENCE: Duration = Duration::from_secs(1);
        let mut text = [0u8; 128];
        let mut over_since = None;
        loop {
            match recv(&self.control, &mut text, RecvFlags::DONTWAIT) {
                Ok((0, _)) => break,
                Ok(_) | Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => {}
                Err(_) => break,
            }
            if self.is_over() && over_since.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
                std::mem::forget(self.stacks.take());
                break;
            }
            self.await_word_or_end(Some(20));
        }
        self.kill_supervisor();
        self.reap();
    }

    /// Sleeps until the control channel has something to say or the supervisor has ended, or so many milliseconds.
    fn await_word_or_end(&self, millis: Option<i64>) {
        let mut fds = [PollFd::new(&self.control, PollFlags::IN), PollFd::new(&self.supervisor, PollFlags::IN)];
        let timeout = millis.map(|millis| Timespec { tv_sec: 0, tv_nsec: millis * 1_000_000 });
        // EINTR: it is looked at again.
        let _ = poll(&mut fds, timeout.as_ref());
    }

    /// Whether the supervisor has ended.
    fn is_over(&self) -> bool {
        let mut fds = [PollFd::new(&self.supervisor, PollFlags::IN)];
        matches!(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(1))
    }

    /// Whether the supervisor has ended, after waiting for that a little.
    pub fn is_over_soon(&self) -> bool {
        let mut fds = [PollFd::new(&self.supervisor, PollFlags::IN)];
        matches!(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 20_000_000 })), Ok(1))
    }

    /// Readable once the interpreter has ended.
    pub fn readable(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }

    /// Whether the interpreter has ended.
    pub fn has_ended(&mut self) -> bool {
        if self.ended.is_none() {
            let mut text = [0u8; 128];
            // Asked first: what a supervisor that has ended had to say is there by now.
            let is_over = self.is_over();
            self.ended = match recv(&self.control, &mut text, RecvFlags::DONTWAIT) {
                Ok((count, _)) => Some(self.read_end(&text[..count])),
                Err(Errno::AGAIN) if is_over => Some((Exit::Unknown, Counted::default())),
                Err(Errno::AGAIN | Errno::INTR) => None,
                Err(_) => Some((Exit::Unknown, Counted::default())),
            };
        }
        self.ended.is_some()
    }

    fn read_end(&self, text: &[u8]) -> (Exit, Counted) {
        if text.len() != message::ENDED_SIZE || text[0] != message::ENDED {
            return (Exit::Unknown, Counted::default());
        }
        let word = |at: usize| u64::from_ne_bytes(std::array::from_fn(|byte| text[at + byte]));
        let status = i32::from_ne_bytes(std::array::from_fn(|byte| text[1 + byte]));
        let exit = if libc::WIFSIGNALED(status) {
            Exit::Signal(libc::WTERMSIG(status))
        } else {
            Exit::Status(libc::WEXITSTATUS(status))
        };
        let peak = word(13) << 10;
        let peak_memory = Some(peak).filter(|peak| *peak > self.hosts_peak);
        (exit, Counted { cpu: Duration::from_micros(word(5)), peak_memory })
    }

    /// The interpreter's number here; nothing if it cannot be found out.
    pub fn pid(&mut self) -> Option<Pid> {
        if self.pid.is_none() {
            self.pid = self.process.as_ref().and_then(number_of);
        }
        self.pid
    }

    /// The supervisor's number here.
    pub fn supervisor(&self) -> Option<Pid> {
        number_of(&self.supervisor)
    }

    /// The private folder, if it is a file system of its own.
    pub fn folder(&self) -> Option<BorrowedFd<'_>> {
        self.folder.as_ref().map(AsFd::as_fd)
    }

    /// Whether a number is still the interpreter's.
    pub fn is_still(&self, pid: Pid) -> bool {
        self.process.as_ref().and_then(number_of) == Some(pid)
    }

    /// Sends the interpreter a signal.
    pub fn signal(&self, signal: Signal) {
        let Some(process) = &self.process else { return };
        send(process, signal);
    }

    /// Kills the interpreter, and waits until it is dead.
    pub fn kill(&mut self) -> (Exit, Counted) {
        while !self.has_ended() {
            self.signal(Signal::KILL);
            // It may have been stopped, where a run can send it a signal, and is to tell of the end.
            send(&self.supervisor, Signal::CONT);
            self.await_word_or_end(Some(50));
        }
        self.ended.unwrap_or((Exit::Unknown, Counted::default()))
    }

    /// Kills the supervisor, and with it whatever is left in its pid namespace.
    pub fn kill_supervisor(&self) {
        send(&self.supervisor, Signal::KILL);
    }

    /// Waits for the supervisor, whose end says that nothing is left.
    pub fn reap(&mut self) {
        while !self.is_reaped {
            // SAFETY: siginfo_t is plain data that the kernel fills; the pidfd is ours.
            let waited = unsafe {
                let mut info = std::mem::zeroed::<libc::siginfo_t>();
                let id = self.supervisor.as_raw_fd() as libc::id_t;
                libc::waitid(libc::P_PIDFD, id, &mut info, libc::WEXITED | libc::__WALL)
            };
            // ECHILD: somebody else, who waits for clones too, has reaped it. What else fails (before Linux 5.4, under a filter)
            // leaves a dead process to the host, but only a dead one.
            self.is_reaped = match waited {
                0 => true,
                _ => std::io::Error::last_os_error().raw_os_error() == Some(libc::ECHILD) || self.is_over_soon(),
            };
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.is_reaped {
            self.signal(Signal::KILL);
            self.kill_supervisor();
            self.reap();
        }
    }
}

fn send(pidfd: &OwnedFd, signal: Signal) {
    if pidfd_send_signal(pidfd, signal) == Err(Errno::NOSYS) {
        // Emulators such as valgrind do not know the call. What is not reaped keeps its number, and the reaping is ours.
        let _ = number_of(pidfd).map(|pid| kill_process(pid, signal));
    }
}

/// The number, in our pid namespace, of the process behind a pidfd; nothing once it was reaped.
fn number_of(pidfd: &OwnedFd) -> Option<Pid> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    let number = text.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    // -1 once it was reaped.
    number.trim().parse().ok().filter(|number| *number > 0).and_then(Pid::from_raw)
}
