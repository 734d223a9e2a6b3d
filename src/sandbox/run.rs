//! One run: a child from its start to the proof that nothing is left of it, and what was seen of it.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::channel::{self, CancelToken, Capture, Conversation, HostEnds, Stop, Terms};
use super::confine::{self, Confinement, Layers, Tree, Visible};
use super::folder::PrivateFolder;
use super::launch::{self, Child, Command, Exit, LaunchError, Launcher};
use super::memory::MemoryGauge;
use super::{Ending, Limits, Usage, c_string, read_frame, tree};
use crate::error::{Code, Error, Result};

/// What a child is started with, and how long it is let go on.
pub(super) struct Run<'l> {
    pub executable: &'l CStr,
    pub arguments: &'l [CString],
    /// Empty: the pinned environment of a run.
    pub environment: Vec<CString>,
    /// Whether packages can be imported, whose thread pools are then kept to one thread.
    pub has_packages: bool,
    pub limits: Vec<(u32, u64, u64)>,
    pub layers: Layers,
    /// What it sees; nothing for what is trusted, which the layers leave alone.
    pub sights: Option<(&'l Visible, &'l Tree)>,
    /// The bound of its private folder.
    pub folder_bytes: u64,
    pub job: &'l [u8],
    pub timeout: Duration,
    pub output_bytes: usize,
    pub answer_bytes: usize,
    pub cancel: Option<&'l CancelToken>,
}

/// What was observed of a child.
pub(super) struct Observed {
    pub stop: Stop,
    pub exit: Exit,
    pub stdout: Capture,
    pub stderr: Capture,
    pub duration: Duration,
    pub usage: Usage,
    /// The name of its private folder, if that is one of the host's.
    pub folder: Option<String>,
}

/// Where a run has its files.
struct Place {
    /// The private folder, if it is one of the host's.
    folder: Option<PrivateFolder>,
    /// Its path here; `/` if there is none, or one that only the run sees.
    path: CString,
}

impl Place {
    fn new(is_needed: bool) -> Result<Self> {
        let folder = is_needed.then(PrivateFolder::new).transpose()?;
        let path = c_string(folder.as_ref().map_or(b"/", |folder| folder.path().as_os_str().as_bytes()))?;
        Ok(Place { folder, path })
    }

    /// Its path as the run sees it.
    fn home(&self) -> &CStr {
        if self.folder.is_some() { &self.path } else { confine::FOLDER }
    }

    /// What no other run has.
    fn mark(&self) -> &[u8] {
        self.path.to_bytes().rsplit(|byte| *byte == b'/').next().unwrap_or_default()
    }

    /// How many bytes it holds; `bound`, if nobody can say.
    fn held(&self, child: &Child, bound: u64) -> u64 {
        let of_file_system = |folder: BorrowedFd| {
            let stat = rustix::fs::fstatfs(folder).ok()?;
            let blocks = stat.f_blocks.saturating_sub(stat.f_bfree);
            Some(blocks.saturating_mul(u64::try_from(stat.f_bsize).unwrap_or(0)))
        };
        let of_host = || Some(self.folder.as_ref()?.size_within(u64::MAX, None).unwrap_or(bound));
        child.folder().and_then(of_file_system).or_else(of_host).unwrap_or(0)
    }
}

impl Run<'_> {
    /// Carries it out. An error means that no child could be started.
    pub fn carry_out(self, launcher: &Launcher) -> Result<Observed> {
        // What is trusted has no need of one, and what has a mount namespace sees its own.
        let place = Place::new(self.sights.is_some() && !self.layers.namespaces)?;
        let started = Instant::now();
        let (mut child, host) = self.start(launcher, &place)?;
        let terms = Terms {
            job: self.job,
            deadline: started + self.timeout,
            output_bytes: self.output_bytes,
            answer_bytes: self.answer_bytes,
            cancel: self.cancel,
            watched: place.folder.as_ref().map(|folder| (folder, self.folder_bytes)),
        };
        let (mut conversation, mut memory) = (Conversation::new(host), MemoryGauge::default());
        let stop = conversation.run(&mut child, &mut memory, &terms);
        let duration = started.elapsed();
        memory.read(&mut child);
        let (exit, used) = self.end(&mut child, place.mark());
        let [(stdout, stdout_bytes), (stderr, stderr_bytes)] = conversation.finish(self.output_bytes);
        let usage = Usage {
            cpu: used.cpu,
            peak_memory: memory.peak().max(used.peak_memory.unwrap_or(0)),
            stdout_bytes,
            stderr_bytes,
            answer_bytes: if let Stop::Frame(b'S', answer) = &stop { answer.len() as u64 } else { 0 },
            folder_bytes: place.held(&child, self.folder_bytes),
        };
        let folder = place.folder.as_ref().map(|folder| folder.path().to_string_lossy().into_owned());
        Ok(Observed { stop, exit, stdout, stderr, duration, usage, folder })
    }

    fn start(&self, launcher: &Launcher, place: &Place) -> Result<(Child, HostEnds)> {
        let environment = self.environment_of_run(place)?;
        let confinement = self
            .sights
            .map(|(visible, tree)| Confinement::new(self.layers, visible, tree, &place.path, self.folder_bytes))
            .transpose()
            .map_err(|error| cannot("lay out its layers", &error))?;
        let (host, ends) = channel::open().map_err(|error| cannot("open its channels", &error))?;
        let null = std::fs::File::open("/dev/null").map_err(|error| cannot("open /dev/null", &error))?;
        let command = Command {
            executable: self.executable,
            arguments: self.arguments,
            environment: &environment,
            descriptors: [null.as_fd(), ends.stdout.as_fd(), ends.stderr.as_fd(), ends.channel.as_fd()],
            limits: &self.limits,
            confinement: confinement.as_ref(),
        };
        let child = launcher.launch(&command).map_err(|error| cannot_start(&error))?;
        Ok((child, host))
    }

    /// Ends all that belongs to a run. When this is back, nothing is left.
    fn end(&self, child: &mut Child, mark: &[u8]) -> (Exit, launch::Counted) {
        let supervisor = self.layers.may_leave_processes().then(|| child.supervisor()).flatten();
        let sweep = || supervisor.iter().for_each(|supervisor| tree::sweep(*supervisor, mark));
        if supervisor.is_some() {
            child.signal(Signal::STOP);
            sweep();
        }
        let ended = child.kill();
        // What forked while it was looked for: until the supervisor, which reaps it all, has nobody left.
        while supervisor.is_some() && !child.is_over_soon() {
            sweep();
        }
        if self.layers.namespaces {
            child.kill_supervisor();
        }
        child.reap();
        ended
    }

    /// The pinned environment: nothing of the host's.
    fn environment_of_run(&self, place: &Place) -> Result<Vec<CString>> {
        if !self.environment.is_empty() {
            return Ok(self.environment.clone());
        }
        let home = place.home().to_bytes();
        let pinned: [(&str, &[u8]); 7] = [
            ("PATH", b"/usr/bin:/bin"),
            ("LANG", b"C.UTF-8"),
            ("LC_ALL", b"C.UTF-8"),
            ("TZ", b"UTC"),
            ("HOME", home),
            ("TMPDIR", home),
            // Each further heap of the C library's would take 64 MiB of address space.
            ("MALLOC_ARENA_MAX", b"1"),
        ];
        let packages = if self.has_packages { ONE_THREAD } else { &[] };
        let marked = self.layers.may_leave_processes().then_some((tree::MARK, place.mark()));
        let all = pinned.iter().chain(packages).copied().chain(marked);
        all.map(|(name, value)| c_string(&[name.as_bytes(), b"=", value].concat())).collect()
    }
}

/// One thread each for what NumPy and its kin are built on: more would take their stacks out of the run's memory.
const ONE_THREAD: &[(&str, &[u8])] = &[
    ("OMP_NUM_THREADS", b"1"),
    ("OPENBLAS_NUM_THREADS", b"1"),
    ("MKL_NUM_THREADS", b"1"),
    ("NUMEXPR_NUM_THREADS", b"1"),
];

fn cannot(stage: &str, error: &std::io::Error) -> Error {
    cannot_start(&LaunchError { stage: stage.to_owned(), errno: error.raw_os_error().unwrap_or(0) })
}

pub(super) fn cannot_start(LaunchError { stage, errno }: &LaunchError) -> Error {
    let code = match *errno {
        libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE => Code::Busy,
        _ => Code::Sandbox,
    };
    let error = std::io::Error::from_raw_os_error(*errno);
    Error::new(code, format!("no child could be started: it could not {stage}: {error}"))
}

impl Observed {
    /// Precedence: cancelled, timeout, limits the host saw, crashed, protocol error, then the child's frame.
    pub fn ending(&self, limits: &Limits, hide: impl Fn(&str) -> String) -> Ending {
        let cpu_is_used_up = self.usage.cpu >= Duration::from_secs(limits.cpu_s);
        match (&self.stop, self.exit) {
            (Stop::Cancelled, _) => Ending::Cancelled,
            (Stop::Deadline, _) => Ending::Timeout { of_cpu: false },
            (Stop::FolderTooLarge, _) => Ending::FolderTooLarge,
            (Stop::TooLarge(bytes), _) => Ending::AnswerTooLarge(*bytes),
            (Stop::Protocol(what), _) => Ending::Broken(format!("it sent {what} on its answer channel")),
            (Stop::Frame(kind, payload), _) => read_frame(*kind, payload, hide),
            (Stop::Ended, Exit::Signal(libc::SIGXCPU)) => Ending::Timeout { of_cpu: true },
            (Stop::Ended, Exit::Signal(libc::SIGKILL)) if cpu_is_used_up => Ending::Timeout { of_cpu: true },
            (Stop::Ended, Exit::Signal(signal)) => Ending::Signal(signal),
            (Stop::Ended, Exit::Status(status)) => Ending::Exit(status),
            (Stop::Ended, Exit::Unknown) => Ending::Broken("its supervisor was killed from outside".to_owned()),
        }
    }
}
