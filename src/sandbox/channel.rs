//! Talking to a child until it has answered, ended, or used up its time.
//!
//! One loop polls five things: the answer channel (a socket, written with MSG_NOSIGNAL so that no SIGPIPE reaches the
//! host), stdout, stderr, the child's pidfd and the cancel token. It never waits for end-of-file on a descriptor that a
//! straggler may hold: a complete frame or the end of the child ends it, and what then lies in the pipes is taken
//! without waiting.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};

use super::folder;

/// Ends a run from any thread.
#[derive(Debug)]
pub struct CancelToken {
    is_cancelled: AtomicBool,
    wake: OwnedFd,
}

impl CancelToken {
    /// A token that is not cancelled. Fails when the process is out of descriptors.
    pub fn new() -> std::io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(CancelToken { is_cancelled: AtomicBool::new(false), wake })
    }

    /// Ends the run, if it is still going on.
    pub fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::Release);
        // Fails only when the counter is full, and then it is readable anyway.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Acquire)
    }
}

/// The host's ends of a run's channels.
pub(super) struct HostEnds {
    channel: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

/// The child's ends: stdout, stderr, answer channel.
pub(super) struct ChildEnds {
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
    pub channel: OwnedFd,
}

/// Opens a run's channels. All descriptors are close-on-exec; the host's never block.
pub(super) fn open() -> std::io::Result<(HostEnds, ChildEnds)> {
    let (channel, child_channel) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let (stdout, child_stdout) = pipe_with(PipeFlags::CLOEXEC)?;
    let (stderr, child_stderr) = pipe_with(PipeFlags::CLOEXEC)?;
    for fd in [&channel, &stdout, &stderr] {
        rustix::io::ioctl_fionbio(fd, true)?;
    }
    let child = ChildEnds { stdout: child_stdout, stderr: child_stderr, channel: child_channel };
    Ok((HostEnds { channel, stdout, stderr }, child))
}

/// What the loop waits for and how long.
pub(super) struct Terms<'t> {
    /// The job, length prefix included.
    pub job: &'t [u8],
    pub deadline: Instant,
    pub output_bytes: usize,
    pub answer_bytes: usize,
    pub cancel: Option<&'t CancelToken>,
    /// A folder that is no file system of its own, and its bound in bytes.
    pub watched: Option<(&'t std::path::Path, u64)>,
}

/// How often a watched folder is measured.
const WATCH_INTERVAL: Duration = Duration::from_millis(20);

/// Why the loop ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stop {
    /// One complete frame: its letter and payload.
    Frame(u8, Vec<u8>),
    /// An answer of this many bytes was announced, more than allowed.
    TooLarge(usize),
    /// What came is no frame.
    Protocol(&'static str),
    /// The child ended without a frame.
    Ended,
    Deadline,
    /// The watched folder has outgrown its bound.
    FolderTooLarge,
    Cancelled,
}

/// Output caught from one stream.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Capture {
    /// What was kept.
    pub bytes: Vec<u8>,
    /// Whether more came than was kept.
    pub is_truncated: bool,
}

/// A conversation with one child.
pub(super) struct Conversation {
    ends: HostEnds,
    stdout: Stream,
    stderr: Stream,
    frame: FrameReader,
    sent: usize,
    job_is_refused: bool,
    channel_is_open: bool,
}

/// Reads at most this much at once from one descriptor before the others get their turn.
const TURN: usize = 256 << 10;
/// A pipe holds at most 1 MiB unless its owner is privileged; what a straggler goes on writing is not waited for.
const LAST_DRAIN: usize = 2 << 20;
/// Error frames carry a message and a traceback, both bounded by the bootstrap.
const MAX_REPORT: usize = 4 << 20;

impl Conversation {
    pub fn new(ends: HostEnds) -> Self {
        Conversation {
            ends,
            stdout: Stream::default(),
            stderr: Stream::default(),
            frame: FrameReader::default(),
            sent: 0,
            job_is_refused: false,
            channel_is_open: true,
        }
    }

    /// Goes on until something ends it.
    pub fn run(&mut self, pidfd: BorrowedFd, terms: &Terms) -> Stop {
        let mut measured = Instant::now();
        loop {
            if terms.cancel.is_some_and(CancelToken::is_cancelled) {
                return Stop::Cancelled;
            }
            let Some(left) = terms.deadline.checked_duration_since(Instant::now()) else { return Stop::Deadline };
            let patience = if terms.watched.is_some() { left.min(WATCH_INTERVAL) } else { left };
            let has_ended = self.wait(pidfd, terms, patience);
            let outgrown = || terms.watched.is_some_and(|(folder, bytes)| folder::holds_more_than(folder, bytes));
            if measured.elapsed() >= WATCH_INTERVAL {
                if outgrown() {
                    return Stop::FolderTooLarge;
                }
                measured = Instant::now();
            }
            self.send_job(terms.job);
            self.stdout.read(&self.ends.stdout, terms.output_bytes, TURN);
            self.stderr.read(&self.ends.stderr, terms.output_bytes, TURN);
            let stop = self.read_frame(terms.answer_bytes).or(has_ended.then_some(Stop::Ended));
            if let Some(stop) = stop {
                return if outgrown() { Stop::FolderTooLarge } else { stop };
            }
        }
    }

    /// Sleeps until there is something to do; says whether the child has ended.
    fn wait(&self, pidfd: BorrowedFd, terms: &Terms, left: Duration) -> bool {
        let mut fds = Vec::with_capacity(5);
        fds.push(PollFd::from_borrowed_fd(pidfd, PollFlags::IN));
        if let Some(cancel) = terms.cancel {
            fds.push(PollFd::new(&cancel.wake, PollFlags::IN));
        }
        if self.channel_is_open {
            let wants_out = self.sent < terms.job.len() && !self.job_is_refused;
            let events = if wants_out { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
            fds.push(PollFd::new(&self.ends.channel, events));
        }
        if self.stdout.is_open {
            fds.push(PollFd::new(&self.ends.stdout, PollFlags::IN));
        }
        if self.stderr.is_open {
            fds.push(PollFd::new(&self.ends.stderr, PollFlags::IN));
        }
        // Rounded up, so that the deadline has passed when poll times out.
        let left = left + Duration::from_millis(1);
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) => !fds[0].revents().is_empty(),
            // EINTR: a signal of the host. Anything else cannot be: the array and its descriptors are ours.
            Err(_) => false,
        }
    }

    fn send_job(&mut self, job: &[u8]) {
        while self.sent < job.len() && !self.job_is_refused {
            match send(&self.ends.channel, &job[self.sent..], SendFlags::NOSIGNAL) {
                Ok(count) => self.sent += count,
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                // The child is gone or has closed its end; how it ends will be seen.
                Err(_) => self.job_is_refused = true,
            }
        }
    }

    fn read_frame(&mut self, answer_bytes: usize) -> Option<Stop> {
        let mut buffer = [0u8; 64 << 10];
        while self.channel_is_open {
            match recv(&self.ends.channel, &mut buffer, RecvFlags::empty()) {
                Ok((0, _)) => self.channel_is_open = false,
                Ok((count, _)) => {
                    if let Some(stop) = self.frame.take(&buffer[..count], answer_bytes) {
                        return Some(stop);
                    }
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(_) => self.channel_is_open = false,
            }
        }
        self.frame.finished()
    }

    /// Takes what is left in the pipes and hands out everything caught.
    pub fn finish(mut self, output_bytes: usize) -> (Capture, Capture) {
        self.stdout.read(&self.ends.stdout, output_bytes, LAST_DRAIN);
        self.stderr.read(&self.ends.stderr, output_bytes, LAST_DRAIN);
        (self.stdout.capture, self.stderr.capture)
    }
}

struct Stream {
    capture: Capture,
    is_open: bool,
}

impl Default for Stream {
    fn default() -> Self {
        Stream { capture: Capture::default(), is_open: true }
    }
}

impl Stream {
    fn read(&mut self, fd: &impl AsFd, keep: usize, turn: usize) {
        let mut buffer = [0u8; 64 << 10];
        let mut read = 0;
        while self.is_open && read < turn {
            match rustix::io::read(fd, &mut buffer) {
                Ok(0) => self.is_open = false,
                Ok(count) => {
                    read += count;
                    let room = keep - self.capture.bytes.len();
                    self.capture.bytes.extend_from_slice(&buffer[..count.min(room)]);
                    self.capture.is_truncated |= count > room;
                }
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                Err(_) => self.is_open = false,
            }
        }
    }
}

/// Puts one frame together: four bytes of length (big-endian), a letter, a payload.
#[derive(Default)]
struct FrameReader {
    bytes: Vec<u8>,
}

impl FrameReader {
    const HEAD: usize = 5;

    fn take(&mut self, received: &[u8], answer_bytes: usize) -> Option<Stop> {
        self.bytes.extend_from_slice(received);
        let (length, kind) = self.head()?;
        if length == 0 {
            return Some(Stop::Protocol("an empty frame"));
        }
        if kind == b'S' && length - 1 > answer_bytes {
            return Some(Stop::TooLarge(length - 1));
        }
        if kind != b'S' && length > MAX_REPORT {
            return Some(Stop::Protocol("an oversized report"));
        }
        (self.bytes.len() > 4 + length).then_some(Stop::Protocol("bytes after the frame"))
    }

    fn head(&self) -> Option<(usize, u8)> {
        let head = self.bytes.get(..Self::HEAD)?;
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        Some((length as usize, head[4]))
    }

    fn finished(&mut self) -> Option<Stop> {
        let (length, kind) = self.head()?;
        (self.bytes.len() == 4 + length).then(|| Stop::Frame(kind, self.bytes.split_off(Self::HEAD)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(parts: &[&[u8]]) -> Option<Stop> {
        let mut reader = FrameReader::default();
        parts.iter().find_map(|part| reader.take(part, 8)).or_else(|| reader.finished())
    }

    #[test]
    fn a_frame_is_whole_or_nothing() {
        assert_eq!(read(&[b"\0\0\0\x03S12"]), Some(Stop::Frame(b'S', b"12".to_vec())));
        assert_eq!(read(&[b"\0\0", b"\0\x03", b"S", b"1", b"2"]), Some(Stop::Frame(b'S', b"12".to_vec())));
        assert_eq!(read(&[b"\0\0\0\x01N"]), Some(Stop::Frame(b'N', vec![])));
        assert_eq!(read(&[b"\0\0\0\x03S1"]), None);
        assert_eq!(read(&[b""]), None);
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        assert_eq!(read(&[b"\0\0\0\0S"]), Some(Stop::Protocol("an empty frame")));
        assert_eq!(read(&[b"\0\0\0\x03S123"]), Some(Stop::Protocol("bytes after the frame")));
        assert_eq!(read(&[b"\0\0\0\x0aS"]), Some(Stop::TooLarge(9)));
        assert_eq!(read(&[b"\xff\xff\xff\xffE"]), Some(Stop::Protocol("an oversized report")));
    }
}
