//! Talking to a child until it has answered, ended, or used up its time.
//!
//! One loop polls five things: the answer channel (a socket, written with MSG_NOSIGNAL so that no SIGPIPE reaches the
//! host), stdout, stderr, the child's end and the cancel token. It never waits for end-of-file on a descriptor that a
//! straggler may hold: a complete frame or the end of the child ends it, and what then lies in the pipes is taken
//! without waiting.

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use once_cell::sync::OnceCell;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};

use super::folder::PrivateFolder;
use super::launch::Child;
use super::memory::MemoryGauge;

/// Ends a run from any thread. Takes a descriptor only while a run waits with it: a thousand tasks that wait have none.
#[derive(Default)]
pub struct CancelToken {
    is_cancelled: AtomicBool,
    wake: OnceCell<OwnedFd>,
    /// Called when it is cancelled, each under the number by which it is taken back.
    calls: Mutex<Calls>,
}

#[derive(Default)]
struct Calls {
    next: u64,
    calls: BTreeMap<u64, Box<dyn Fn() + Send>>,
}

/// Takes a call back when it is dropped.
#[derive(Debug)]
pub struct PendingCall<'t> {
    token: &'t CancelToken,
    number: u64,
}

impl CancelToken {
    /// Makes its descriptor, which a cancelled token has readable. Fails when the process is out of them.
    pub fn arm(&self) -> std::io::Result<()> {
        self.wake.get_or_try_init(|| eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK))?;
        // Either `cancel` sees the descriptor, or who looks from here on sees that it was called.
        fence(Ordering::SeqCst);
        Ok(())
    }

    /// Ends the run, if it is still going on.
    pub fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if let Some(wake) = self.wake.get() {
            // Fails only when the counter is full, and then it is readable anyway.
            let _ = rustix::io::write(wake, &1u64.to_ne_bytes());
        }
        self.calls().calls.values().for_each(|call| call());
    }

    /// Has `call` called when it is cancelled from now on, for as long as the answer is kept. Whoever waits for the call asks
    /// [`is_cancelled`](Self::is_cancelled) after this. The call must not wait for this token.
    pub fn call_when_cancelled(&self, call: Box<dyn Fn() + Send>) -> PendingCall<'_> {
        let mut calls = self.calls();
        let number = calls.next;
        calls.next += 1;
        calls.calls.insert(number, call);
        PendingCall { token: self, number }
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Acquire)
    }
}

impl Drop for PendingCall<'_> {
    fn drop(&mut self) {
        // What it holds may be large: it goes when the lock is free.
        let call = self.token.calls().calls.remove(&self.number);
        drop(call);
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("CancelToken").field("is_cancelled", &self.is_cancelled).finish_non_exhaustive()
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
    pub watched: Option<(&'t PrivateFolder, u64)>,
}

/// How often a watched folder is measured: at least every 20 ms, with what rounding and measuring take.
const WATCH_INTERVAL: Duration = Duration::from_millis(17);

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
    pub fn run(&mut self, child: &mut Child, memory: &mut MemoryGauge, terms: &Terms) -> Stop {
        let mut measured = Instant::now();
        loop {
            if terms.cancel.is_some_and(CancelToken::is_cancelled) {
                return Stop::Cancelled;
            }
            let Some(left) = terms.deadline.checked_duration_since(Instant::now()) else { return Stop::Deadline };
            let watch = terms.watched.map_or(Duration::MAX, |_| WATCH_INTERVAL.saturating_sub(measured.elapsed()));
            self.wait(child, terms, left.min(watch).min(memory.patience()));
            memory.sample(child);
            let run = terms.watched.and_then(|_| child.pid());
            let outgrown = || terms.watched.is_some_and(|(folder, bytes)| folder.size_within(bytes, run).is_none());
            if measured.elapsed() >= WATCH_INTERVAL {
                if outgrown() {
                    return Stop::FolderTooLarge;
                }
                measured = Instant::now();
            }
            // Asked before the channel is read: what a child that ended has sent is there by now.
            let has_ended = child.has_ended();
            self.send_job(terms.job);
            self.stdout.read(&self.ends.stdout, terms.output_bytes, TURN);
            self.stderr.read(&self.ends.stderr, terms.output_bytes, TURN);
            let stop = self.read_frame(terms.answer_bytes).or(has_ended.then_some(Stop::Ended));
            if let Some(stop) = stop {
                return if outgrown() { Stop::FolderTooLarge } else { stop };
            }
        }
    }

    /// Sleeps until there is something to do.
    fn wait(&self, child: &Child, terms: &Terms, left: Duration) {
        let mut fds = Vec::with_capacity(5);
        fds.push(PollFd::from_borrowed_fd(child.readable(), PollFlags::IN));
        if let Some(wake) = terms.cancel.and_then(|cancel| cancel.wake.get()) {
            fds.push(PollFd::new(wake, PollFlags::IN));
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
        // EINTR: a signal of the host. Anything else cannot be: the array and its descriptors are ours.
        let _ = poll(&mut fds, Some(&timeout));
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

    /// Takes what is left in the pipes and hands out everything caught, with how many bytes there were.
    pub fn finish(mut self, output_bytes: usize) -> [(Capture, u64); 2] {
        self.stdout.read(&self.ends.stdout, output_bytes, LAST_DRAIN);
        self.stderr.read(&self.ends.stderr, output_bytes, LAST_DRAIN);
        [self.stdout, self.stderr].map(|stream| (stream.capture, stream.total))
    }
}

struct Stream {
    capture: Capture,
    /// Bytes read, kept or not.
    total: u64,
    is_open: bool,
}

impl Default for Stream {
    fn default() -> Self {
        Stream { capture: Capture::default(), total: 0, is_open: true }
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
                    self.total += count as u64;
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

    proptest::proptest! {
        /// Whatever arrives, in whatever pieces: what comes of it depends on the bytes alone, but that the one frame is taken
        /// as soon as it is whole.
        #[test]
        fn pieces_change_nothing(
            bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..40),
            head in 0u8..12,
            letter in proptest::sample::select(b"SNEMOXC?".to_vec()),
            cuts in proptest::collection::vec(0usize..45, 0..6),
        ) {
            let sent = [&[0, 0, 0, head, letter][..], &bytes].concat();
            let ends = [0, sent.len()];
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(sent.len())).chain(ends).collect();
            cuts.sort_unstable();
            let mut reader = FrameReader::default();
            let mut step = |piece: &[u8]| reader.take(piece, 8).or_else(|| reader.finished());
            let in_pieces = cuts.windows(2).find_map(|pair| step(&sent[pair[0]..pair[1]]));
            let whole = read(&[&sent]);
            let is_early = matches!(in_pieces, Some(Stop::Frame(..))) && whole == Some(Stop::Protocol("bytes after the frame"));
            proptest::prop_assert!(in_pieces == whole || is_early, "{:?}, {:?}", in_pieces, whole);
            if let Some(Stop::Frame(kind, payload)) = &whole {
                proptest::prop_assert_eq!((*kind, payload), (letter, &bytes));
            }
        }
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        assert_eq!(read(&[b"\0\0\0\0S"]), Some(Stop::Protocol("an empty frame")));
        assert_eq!(read(&[b"\0\0\0\x03S123"]), Some(Stop::Protocol("bytes after the frame")));
        assert_eq!(read(&[b"\0\0\0\x0aS"]), Some(Stop::TooLarge(9)));
        assert_eq!(read(&[b"\xff\xff\xff\xffE"]), Some(Stop::Protocol("an oversized report")));
    }
}
